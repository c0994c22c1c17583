"""Curves and their pictures: what the judge saw, step by step, drawn inside a frame whatever the numbers are."""

import math

import pytest

pytest.importorskip("jsonschema", reason="jsonschema, extra conformance, is not installed")

from refoptim.conformance.reports import chart
from refoptim.conformance.reports.curves import Curve, State, curve
from refoptim.conformance.reports.verdicts import differences
from refoptim.conformance.runner.judge import MalformedAnswer, judged
from refoptim.conformance.runner.outcome import Status
from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.encoding import DTYPES, from_hex, real_of, to_hex, wide_from_hex

PROBE, SCHEDULE, TRACE, SPECIAL, INVALID = (
    store.load(pattern=pattern)[0]
    for pattern in ("adam.f32.probe.plain", "steplr.schedule.*", "lbfgs.f32.trace.*", "*.special.*", "*.invalid.*")
)


def right(vector):
    """Return the answer that has the exact values, rounded once."""
    kind = DTYPES[real_of(vector.dtype)]

    def rounded(wide):
        return to_hex(wide_from_hex(wide, vector.expect["encoding"])[0].astype(kind))

    if vector.type == "schedule":
        return {"lr": [rounded(column) for column in vector.expect["lr"]]}
    if vector.type == "trace":
        calls = [{name: rounded(wide) for name, wide in call.items()} for call in vector.expect["calls"]]
        after = {name: rounded(wide) for name, wide in vector.expect["after"].items()}
        return {"calls": calls, "per_step": vector.expect["per_step"], "after": after}
    after = [
        {name: {key: rounded(wide) for key, wide in entry.items()} for name, entry in moment.items()}
        for moment in vector.expect["after"]
    ]
    return {"after": after}


def with_value(text, dtype, at, value):
    """Return numbers with another one somewhere."""
    numbers = from_hex(text, dtype)
    numbers[at] = value
    return to_hex(numbers)


# Curves


def test_a_curve_is_of_the_worst_element_and_marks_where_it_leaves():
    answer = right(PROBE)
    for moment, value in ((1, 3.0), (2, math.nan)):
        entry = answer["after"][moment]["w"]
        entry["theta"] = with_value(entry["theta"], "f32", 5, value)
    found = curve(PROBE, answer)
    steps = tuple(sorted(PROBE.problem["record"]))
    assert found[:5] == (PROBE.id, "w", (5,), "theta", steps)
    assert found.budget == PROBE.budget["theta"]["A"]
    assert found.first == steps[1]
    assert (found.got[1], found.sulp[2]) == (3.0, math.inf)
    assert found.sulp[0] <= 0.5
    expected = [wide_from_hex(moment["w"]["theta"], "f64")[0][5] for moment in PROBE.expect["after"]]
    assert found.expected == tuple(expected)
    assert {state.quantity for state in found.states} == {"exp_avg", "exp_avg_sq"}
    assert all(state.steps == steps and max(state.sulp) <= 0.5 for state in found.states)


@pytest.mark.parametrize("vector", [PROBE, SCHEDULE, TRACE], ids=lambda vector: vector.type)
def test_a_curve_s_largest_error_is_the_judge_s(vector):
    answer = right(vector)
    assert curve(vector, answer).first is None
    where, name = {
        "trajectory": lambda: (answer["after"][-1]["w"], "theta"),
        "schedule": lambda: (answer["lr"], 0),
        "trace": lambda: (answer["after"], next(iter(answer["after"]))),
    }[vector.type]()
    where[name] = with_value(where[name], real_of(vector.dtype), 0, 12345.0)
    result, found = judged(vector, answer), curve(vector, answer)
    assert result.status is Status.MISMATCH
    assert max(found.sulp) == result.sulp == result.divergence.sulp
    assert (found.param, found.index, found.quantity) == tuple(result.divergence[1:4])
    assert found.first == result.divergence.step


def test_state_that_an_answer_does_not_always_show_has_its_own_steps():
    answer = right(PROBE)
    del answer["after"][0]["w"]["exp_avg"], answer["after"][1]["w"]["exp_avg_sq"]
    steps = sorted(PROBE.problem["record"])
    found = {state.quantity: state.steps for state in curve(PROBE, answer).states}
    assert found == {"exp_avg": tuple(steps[1:]), "exp_avg_sq": tuple(steps[:1] + steps[2:])}


@pytest.mark.parametrize(
    ("vector", "answer", "error"),
    [
        (SPECIAL, right(PROBE), ValueError),
        (INVALID, right(PROBE), ValueError),
        (PROBE, {"after": []}, MalformedAnswer),
        (PROBE, {"rejected": True}, MalformedAnswer),
    ],
)
def test_what_has_no_curve_is_refused(vector, answer, error):
    with pytest.raises(error):
        curve(vector, answer)


# Charts


def made(got=(1.0, 2.0, 3.0), expected=(1.0, 2.0, 3.0), sulp=(0.0, 1.0, 2.0), budget=8.0, steps=(1, 2, 3)):
    over = [step for step, error in zip(steps, sulp, strict=True) if not error <= budget]
    states = (State("exp_avg", steps, sulp, budget),)
    return Curve(
        "adam.f32.probe.plain", "w", (0,), "theta", steps, expected, got, sulp, budget, next(iter(over), None), states
    )


NASTY = {
    "plain": made(),
    "one step": made((1.0,), (1.0,), (0.5,), steps=(7,)),
    "all zero": made((0.0,) * 3, (0.0,) * 3, (0.0,) * 3),
    "constant": made((0.1,) * 3, (0.1,) * 3, (0.0,) * 3),
    "subnormal": made((5e-324,) * 3, (0.0, 5e-324, 1e-323)),
    "huge": made((1.7e308, -1.7e308, 0.0), (1.7e308,) * 3, (0.0, 1e300, 1e300)),
    "all huge": made((1.7e308,) * 3, (1.7e308,) * 3, (0.0,) * 3),
    "not a number": made((math.nan, math.inf, -math.inf), sulp=(math.inf, math.inf, math.nan)),
    "nothing finite": made((math.nan,) * 3, (math.nan,) * 3, (math.nan,) * 3),
    "tiny errors": made(sulp=(1e-300, 1e-9, 0.0), budget=0.5),
    "large budget": made(budget=1e12),
    "many": made(*(tuple(map(float, range(2000))),) * 3, steps=tuple(range(2000))),
}


@pytest.mark.parametrize("name", NASTY)
def test_pictures_stay_in_their_frames(name):
    own = NASTY[name]
    values, errors, state = chart.panes(own)
    assert (len(values.dots), len(errors.dots), len(state.dots)) == (len(own.steps),) * 3
    for pane in (values, errors, state):
        points = [tuple(map(float, point.split(","))) for point in pane.line.split()]
        points += [(dot.x, dot.y) for dot in pane.dots]
        points += [(chart.LEFT, tick.at) for tick in pane.ys] + [(tick.at, chart.TOP) for tick in pane.xs]
        assert all(chart.LEFT <= x <= chart.RIGHT and chart.TOP <= y <= chart.BOTTOM for x, y in points)
        assert len({tick.label for tick in pane.ys}) == len(pane.ys) <= 8
        assert len({tick.label for tick in pane.xs}) == len(pane.xs) <= 5
    assert values.budget is None
    assert chart.TOP <= errors.budget.at <= chart.BOTTOM


def test_what_is_over_budget_is_above_its_line_and_the_first_is_marked():
    _, errors, state = chart.panes(made(sulp=(0.5, 9.0, math.inf)))
    for pane in (errors, state):
        assert [dot.over for dot in pane.dots] == [False, True, True]
        assert [dot.outside for dot in pane.dots] == [False, False, True]
        assert [dot.y < pane.budget.at for dot in pane.dots] == [False, True, True]
        assert pane.first == chart.Tick(pane.dots[1].x, "step 2")


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-2.5, -0.7, ["-2.5", "-2", "-1.5", "-1"]),
        (1.0, 1.0004, ["1.0000", "1.0001", "1.0002", "1.0003", "1.0004"]),
        (0.0, 12e9, ["0", "5e+09", "1e+10"]),
    ],
)
def test_ticks_are_round_numbers_with_the_digits_they_need(low, high, labels):
    found = [tick.label for tick in chart.panes(made((low, high, low), (low, high, low)))[0].ys]
    assert list(map(float, found)) == list(map(float, labels))


# Verdicts


@pytest.mark.parametrize(
    ("algorithm", "verdict", "count"),
    [
        ("Adam", "matches dialect eps:hat within 0.6 ulp (keras); torch puts it outside", 1),
        ("RMSprop", "matches dialect eps:inside + velocity:inside within 2 ulp (keras)", 2),
        ("Adafactor", "matches dialect factored:from 128 within 11 ulp (optax)", 1),
        ("Adam", "applies the previous step's update: matches within 0 ulp", 0),
        ("Adam", "matches dialect eps:nonsense, https://x.example and 12:30", 0),
        ("Nonsense", "matches dialect eps:hat", 0),
        ("Adam", "", 0),
    ],
)
def test_a_verdict_shows_both_lines_of_the_formula(algorithm, verdict, count):
    found = list(differences(algorithm, verdict))
    assert len(found) == count
    assert all(one.torch and one.found and one.torch != one.found for one in found)
