PYTHON ?= python3
EXTRAS ?=
BIN := .venv/bin
comma := ,
# A file stays with one worker: its fixtures compile or run things that its tests share.
WORKERS := -n auto --maxprocesses 4 --dist loadfile
# One stamp for each choice of extras, so that asking for torch later installs it.
STAMP := .venv/.installed$(subst $(comma),-,$(EXTRAS))

.PHONY: conformance test test-all test-gpu lint bench gallery clean clean-cache

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

bench: $(STAMP)-test  ## the comparison with torch, where it is installed
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/first_step.py

gallery: $(STAMP)-test  ## the pictures of docs/schedulers.md
	$(BIN)/python docs/gallery.py

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -e ".[conformance$(EXTRAS)]"
	touch $@

$(STAMP)-test: $(STAMP)
	$(BIN)/python -m pip install -q -e ".[conformance,cuda,examples,plot,test$(EXTRAS)]"
	touch $@

clean-cache:  ## forget compiled kernels: Numba does not notice when kernels/arithmetic.py changes
	rm -rf kernels/__pycache__

clean: clean-cache
	rm -rf .venv build dist *.egg-info
