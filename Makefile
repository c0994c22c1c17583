PYTHON ?= python3
EXTRAS ?=
BIN := .venv/bin
comma := ,
# A file stays with one worker: its fixtures compile or run things that its tests share.
WORKERS := -n auto --maxprocesses 4 --dist loadfile
# Threads stay on their cores. Without a saved run bench-regression says that there is nothing to compare with.
REGRESSION = OMP_PROC_BIND=true $(BIN)/python -m pytest -q benchmarks/regression \
	-W default::pytest_benchmark.logger.PytestBenchmarkWarning \
	--benchmark-columns=median,iqr,rounds --benchmark-sort=name
BENCH ?=
# One stamp for each choice of extras, so that asking for torch later installs it.
STAMP := .venv/.installed$(subst $(comma),-,$(EXTRAS))

.PHONY: conformance test test-all test-gpu lint bench bench-save bench-regression gallery clean clean-cache

conformance: $(STAMP)  ## measure every optimizer against its formula and print the table
	$(BIN)/refoptim conformance

test: $(STAMP)-test lint  ## the tests; slow ones are left to test-all
	$(BIN)/python -m pytest -q $(WORKERS) -m "not slow"

test-all: $(STAMP)-test lint
	$(BIN)/python -m pytest -q $(WORKERS)

test-gpu: $(STAMP)-test  ## the tests that need a GPU, and the figures; both reports go to benchmarks/results
	$(BIN)/python -m pytest -q -rs tests/gpu --gpu-report benchmarks/results/gpu_tests.json
	$(BIN)/python benchmarks/gpu_step.py --json benchmarks/results/gpu_step.json

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# Pyright cannot follow the folder mapping of an editable install, so it reads an ordinary one.
	rm -rf build && $(BIN)/python -m pip install -q --no-deps --target build/typed .
	$(BIN)/pyright --pythonpath $(BIN)/python build/typed/refoptim

bench: $(STAMP)-bench  ## the comparison with other libraries, 25 minutes; BENCH=--quick takes 2; EXTRAS=,torch adds torch
	$(BIN)/python benchmarks/compare.py $(BENCH)
	$(if $(BENCH),,$(BIN)/python benchmarks/report.py)

bench-save: $(STAMP)-bench  ## time a few steps, and keep the figures for bench-regression
	$(REGRESSION) --benchmark-save=before

bench-regression: $(STAMP)-bench  ## time them again: whose median is 25 % above the saved one fails
	$(REGRESSION) --benchmark-compare --benchmark-compare-fail=median:25%

gallery: $(STAMP)-test  ## the pictures of docs/schedulers.md
	$(BIN)/python docs/gallery.py

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e ".[conformance$(EXTRAS)]"
	touch $@

$(STAMP)-test: $(STAMP)
	$(BIN)/python -m pip install -q -e ".[conformance,cuda,examples,plot,test$(EXTRAS)]"
	touch $@

$(STAMP)-bench: $(STAMP)
	$(BIN)/python -m pip install -q -e ".[conformance,bench$(EXTRAS)]"
	touch $@

clean-cache:  ## forget compiled kernels; changes of their files are noticed without it
	rm -rf kernels/__pycache__

clean: clean-cache
	rm -rf .venv build dist *.egg-info
