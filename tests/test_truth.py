"""The exact arithmetic that everything is measured against, and the judge that measures."""

import math
from fractions import Fraction

import numpy as np
import pytest

flint = pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance import judge, scenario, truth  # noqa: E402
from refoptim.conformance.cases import stems  # noqa: E402
from refoptim.conformance.subjects import IMPLEMENTATIONS, refoptim_subject  # noqa: E402
from refoptim.conformance.tolerances import CLOSE  # noqa: E402
from refoptim.formulas.adam import adam  # noqa: E402

ALL = [(module, case) for module in stems().values() for case in module.CASES]


def test_balls_hold_floats_exactly_and_know_their_error():
    with truth.precision():
        third = truth.balls(np.array([1.0])) / 3
        assert third[0].contains(flint.fmpq(1, 3))
        assert 0 < float(third[0].rad()) < 2.0**-195


def test_precision_is_restored_after_an_error():
    before = flint.ctx.prec
    with pytest.raises(KeyError), truth.precision(400):
        raise KeyError
    assert flint.ctx.prec == before


def test_a_formula_on_balls_gives_the_exact_rational_value():
    """Adam's first step from zero is lr * g / (|g| + eps), whatever the betas: a rational number."""
    with truth.precision():
        g, eps, lr = 0.3, 1e-3, 0.1
        zero = truth.balls(np.zeros(1))
        symbols = {"gamma": lr, "beta1": 0.9, "beta2": 0.999, "epsilon": eps, "lambda_": 0.0}
        theta, *_ = adam(zero, truth.balls(np.array([g])), zero, zero, t=1, **truth.exact_symbols(symbols))
        exact = -Fraction(lr) * Fraction(g) / (Fraction(g) + Fraction(eps))
        assert theta[0].contains(flint.fmpq(exact.numerator, exact.denominator))
        assert float(theta[0].rad()) < 2.0**-180


@pytest.mark.parametrize("compare", [np.less, np.greater_equal, np.equal, np.sign])
def test_comparing_balls_that_overlap_is_an_error(compare):
    with truth.precision():
        x = truth.balls(np.array([1.0])) / 3
        arguments = (x - x,) if compare is np.sign else (x, x + 0)
        with pytest.raises(truth.WideBallError, match="not decided"):
            compare(*arguments)


def test_comparing_balls_apart_is_not():
    with truth.precision():
        x = truth.balls(np.array([1.0, 5.0])) / 3
        assert (x < truth.balls(np.array([2.0, 1.0]))).tolist() == [True, False]


def test_balls_are_chosen_by_their_signs():
    x, y = truth.balls(np.array([-2.0, 0.0, 3.0])), truth.balls(np.array([5.0, 6.0, 7.0]))
    xp = x.__array_namespace__()
    assert [float(value) for value in xp.sign(x)] == [-1, 0, 1]
    assert [float(value) for value in xp.where(x < 0, y, 0)] == [5, 0, 0]
    assert [float(value) for value in xp.clip(x, -1, 2.5)] == [-1, 0, 2.5]
    assert [float(value) for value in xp.minimum(x, 1)] == [-2, 0, 1]
    with pytest.raises(truth.WideBallError, match="not decided"):
        xp.sign(x / 3 * 3 + 2)


def test_the_maximum_of_overlapping_balls_contains_both():
    with truth.precision():
        x = truth.balls(np.array([1.0])) / 3
        largest = x.__array_namespace__().maximum(x, x + 0)
        assert largest[0].contains(flint.fmpq(1, 3))


@pytest.mark.parametrize(
    ("got", "exact", "before", "ulps"),
    [
        (np.float32(1.0), 1.0, 1.0, 0.0),
        (np.float32(1.0) + np.spacing(np.float32(1.0)), 1.0, 1.0, 1.0),
        (np.float32(1.0), 1.0 + 2.0**-24, 1.0, 0.5),
        (np.float32(0.0), 2.0**-24, 1.0, 0.5),
        (np.float32(0.0), 2.0**-149, 0.0, 1.0),
        (np.float64(1.0), 1.0 + 2.0**-52, 0.0, 1.0),
        (np.float32(np.nan), 1.0, 1.0, math.inf),
        (np.float32(np.inf), 1.0, 1.0, math.inf),
    ],
)
def test_errors_are_counted_in_ulps_of_the_larger_of_before_and_after(got, exact, before, ulps):
    with truth.precision():
        found = truth.errors_in_ulps(np.array([got]), truth.balls(np.array([exact])), np.array([before]))
    np.testing.assert_allclose(found[0], ulps, **CLOSE["float64"])


def test_a_value_that_is_not_known_well_enough_is_an_error_and_never_a_pass():
    with truth.precision():
        wide = truth.balls(np.array([1.0])) + flint.arb(0, 1e-9)
        with pytest.raises(truth.WideBallError, match="only known to be"):
            truth.errors_in_ulps(np.array([np.float32(1.0)]), wide, np.array([1.0]))


@pytest.mark.parametrize(("module", "case"), ALL, ids=lambda value: str(value) if hasattr(value, "options") else "")
def test_the_judge_tells_one_ulp_from_none(module, case):
    """Every judged number counts: one element of the parameter, or of a state array, moved by 8 ulps shows."""
    meaning = module.meaning(case)
    data = scenario.one_step(case, meaning, np.float32, 2, "realistic", 8)
    exact = judge.Truth(case, [meaning], data)
    right = exact.judge(refoptim_subject("float64"))[0]
    assert right.worst <= 0.501
    for name in (None, *data.starts[0].state):

        def moved(optimizer, given, name=name):
            run = refoptim_subject("float64")(optimizer, given)
            step = run.step

            def wrong(grads, lrs):
                step(grads, lrs)
                target = run.theta(0) if name is None else run.state(0)[name]
                before = given.starts[0].theta if name is None else given.starts[0].state[name]
                values, sizes = target.reshape(-1), np.abs([target.reshape(-1), before.reshape(-1)])
                place = min(3, values.size - 1)
                whole = meaning.whole and name is None
                values[place] += 8 * np.spacing(sizes.max() if whole else sizes[:, place].max())

            run.step = wrong
            return run

        distance = exact.judge(moved)[0]
        found = distance.worst_theta if name is None else float(distance.state[name].max())
        assert 7.4 < found < 8.6, name


def test_a_subject_whose_state_has_other_names_is_infinitely_far():
    module, case = ALL[0]
    meaning = module.meaning(case)
    exact = judge.Truth(case, [meaning], scenario.one_step(case, meaning, np.float32, 1, "realistic", 8))

    def renamed(optimizer, given):
        run = refoptim_subject("fused")(optimizer, given)
        state = run.state
        run.state = lambda index: {f"my_{name}": array for name, array in state(index).items()}
        return run

    assert exact.judge(renamed)[0].worst == math.inf


def test_scenarios_are_the_same_every_time():
    module, case = ALL[0]
    first, second = (scenario.one_step(case, module.meaning(case), np.float32, 10, "probe", 16) for _ in range(2))
    assert first.starts[0].theta.tobytes() == second.starts[0].theta.tobytes()
    assert first.grads[0][0].tobytes() == second.grads[0][0].tobytes()


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_the_bookkeeping_scenario_leaves_some_parameters_without_gradients(name):
    module, case = next((module, case) for module, case in ALL if case.optimizer == "AdamW")
    data = scenario.bookkeeping(case, module.meaning(case), np.float32)
    counts = [sum(grads[index] is not None for grads in data.grads) for index in range(len(data.starts))]
    assert len(set(counts)) > 1
    run = refoptim_subject(name)(case.optimizer, data)
    for grads, lrs in zip(data.grads, data.lrs, strict=True):
        run.step(grads, lrs)
    steps = [run._optimizer.state[param]["step"] for param in run._params]
    assert steps == counts
