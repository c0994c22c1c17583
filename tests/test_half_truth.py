"""Steps of float16 and bfloat16 parameters beside the exact ones: the documented formula in ball arithmetic."""

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")
pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance.cases import stems  # noqa: E402
from refoptim.conformance.subjects import IMPLEMENTATIONS, refoptim_subject  # noqa: E402
from refoptim.conformance.suite import Exam, failures  # noqa: E402
from refoptim.conformance.tolerances import HALF_LIMITS, MASTER_LIMITS  # noqa: E402

DTYPES = [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)]
STEMS = {stem: module for stem, module in stems().items() if stem not in ("cg", "lbfgs")}
FIRST = [(stem, module.CASES[0]) for stem, module in STEMS.items()]
OTHERS = [(stem, case) for stem, module in STEMS.items() for case in module.CASES[1:]]


def judged(stem, case, dtype):
    """Return what is beyond its limit, by implementation."""
    exam = Exam(case, STEMS[stem], dtype, steps=(1, 10), size=64)
    found = {name: exam.measure(refoptim_subject(name), long=False) for name in IMPLEMENTATIONS}
    return {name: wrong for name, measured in found.items() if (wrong := failures(measured, HALF_LIMITS, None))}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("stem", "case"), FIRST, ids=str)
def test_a_step_is_the_exact_one_rounded(stem, case, dtype):
    assert judged(stem, case, dtype) == {}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("stem", "case"), OTHERS, ids=str)
def test_a_step_under_other_options_is_too(stem, case, dtype):
    assert judged(stem, case, dtype) == {}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_after_1000_steps_with_master_weights_the_parameters_are_the_exact_ones_rounded(dtype):
    module = STEMS["adam"]
    measured = Exam(module.CASES[0], module, dtype, steps=(1,), size=16).measure(refoptim_subject("master"))
    assert failures(measured, MASTER_LIMITS, None) == []
