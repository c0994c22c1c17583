"""Host scalars: exact, then rounded once to float64."""

import math
from fractions import Fraction

import numpy as np
import pytest

from refoptim import Adam, Parameter
from refoptim.conformance.tolerances import CLOSE
from refoptim.formulas import power
from refoptim.scalars import number, packed

BETAS = (0.0, 0.1, 0.5, 0.9, 0.95, 0.999, 0.9999, 1 - 2.0**-20, 1 - 2.0**-53)
STEPS = (1, 2, 3, 10, 100, 1000)


def ulps(got: float, exact: Fraction) -> float:
    return float(abs(Fraction(got) - exact) / Fraction(math.ulp(float(exact))))


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("t", STEPS)
def test_one_minus_power_is_correctly_rounded(beta, t):
    assert power.one_minus_power(beta, t) == float(1 - Fraction(beta) ** t)


@pytest.mark.parametrize("beta", BETAS)
def test_it_does_not_matter_how_a_power_was_reached(beta):
    power._last.clear()
    stepwise = [power.one_minus_power(beta, t) for t in range(1, 300)]
    at_once = []
    for t in range(1, 300):
        power._last.clear()
        at_once.append(power.one_minus_power(beta, t))
    assert stepwise == at_once


def test_a_huge_step_count_takes_no_time_and_gives_1():
    assert power.one_minus_power(0.999, 10**9) == 1.0
    expected = -math.expm1(-(10**9) * 2.0**-53)
    np.testing.assert_allclose(power.one_minus_power(1 - 2.0**-53, 10**9), expected, **CLOSE["float64"])


def test_the_cache_of_powers_does_not_grow_without_end():
    for i in range(1000):
        power.one_minus_power(i / 1000, 5)
    assert len(power._last) <= 256


@pytest.mark.parametrize("t", STEPS)
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.75), (0.95, 0.9999), (0.0, 0.0)])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adams_scalars_are_within_an_ulp(t, betas, decoupled):
    options = {"lr": 3e-4, "betas": betas, "eps": 1e-7, "weight_decay": 0.03, "decoupled_weight_decay": decoupled}
    optimizer = Adam([Parameter([0.0])], **options)
    h = optimizer._scalars(optimizer._options(optimizer.param_groups[0]), {"step": t - 1})
    bias1, bias2 = (1 - Fraction(beta) ** t for beta in betas)
    root = Fraction(math.isqrt(int(bias2 * 4**200)), 2**200)
    step_size = Fraction(3e-4) * root / bias1
    decay = Fraction(0.03) * Fraction(3e-4) / step_size
    exact = {
        "one_minus_beta1": 1 - Fraction(betas[0]),
        "one_minus_beta2": 1 - Fraction(betas[1]),
        "eps": Fraction(1e-7) * root,
        "step_size": step_size,
        "decay": decay if decoupled else Fraction(0),
        "weight_decay": Fraction(0) if decoupled else Fraction(0.03),
    }
    for name, value in exact.items():
        assert ulps(getattr(h, name), value) <= 1.0, name


@pytest.mark.parametrize(
    ("value", "plain"), [(0, 0.0), (0.5, 0.5), (np.float32(0.5), 0.5), (np.array(0.5), 0.5), (np.array([[0.5]]), 0.5)]
)
def test_an_option_becomes_a_float(value, plain):
    assert number("lr", value) == plain
    assert type(number("lr", value)) is float


@pytest.mark.parametrize("value", ["0.1", None, [0.1], (0.1, 0.2)])
def test_what_is_no_number_is_named(value):
    with pytest.raises(TypeError, match="lr must be a number, but is"):
        number("lr", value)


def test_an_array_of_numbers_is_no_number():
    with pytest.raises(ValueError, match=r"lr must be one number, but is an array of shape \(2,\)"):
        number("lr", np.ones(2))


def test_packing_rounds_once_and_overflows_in_silence():
    found = packed((0.1, 1e300, -1e300, math.nan, 1e-50), np.dtype(np.float32))
    assert found.dtype == np.float32
    assert found[0] == np.float32(0.1)
    assert found[1:3].tolist() == [math.inf, -math.inf]
    assert math.isnan(found[3])
    assert found[4] == 0
    assert packed((0.1,), np.dtype(np.float64))[0] == 0.1
