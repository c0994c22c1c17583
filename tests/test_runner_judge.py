"""The judge of answers: every helper is shown a wrong answer."""

import numpy as np
import pytest

pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")

from refoptim.conformance import adapters
from refoptim.conformance.runner import judge, singled, transport
from refoptim.conformance.runner.outcome import Grade, Status
from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.encoding import from_hex, real_of, to_hex, wide_from_hex

ALL = {vector.id: vector for vector in store.load()}
PLAIN = ALL["adam.f32.dyadic.plain"]
COMMANDS = {"trajectory": "run", "schedule": "schedule", "trace": "trace"}


def answer_to(vector):
    return transport.InProcess(adapters.make("refoptim")).ask({"cmd": COMMANDS[vector.type], "problem": vector.problem})


def exact(vector):
    """Return the expected values, rounded, as an answer."""
    kind = {"f32": np.float32, "f64": np.float64}[real_of(vector.dtype)]
    encoding = vector.expect["encoding"]
    after = [
        {
            p: {q: to_hex(wide_from_hex(v, encoding)[0].astype(kind)) for q, v in entry.items()}
            for p, entry in now.items()
        }
        for now in vector.expect["after"]
    ]
    return {"after": after}


def moved(vector, budgets, quantity="theta", step=2, param="w", at=1):
    """Return the exact answer with one number off by so many budgets."""
    answer = exact(vector)
    entry = answer["after"][step][param]
    values = from_hex(entry[quantity], real_of(vector.dtype))
    high, _ = wide_from_hex(vector.expect["after"][step][param][quantity], vector.expect["encoding"])
    before = next(from_hex(p["init"], real_of(vector.dtype)) for p in vector.problem["params"] if p["name"] == param)
    sizes = [
        abs(wide_from_hex(now[param][quantity], vector.expect["encoding"])[0][at])
        for now in vector.expect["after"][: step + 1]
        if quantity in now[param]
    ]
    scale = max([*sizes, *([abs(before[at])] if quantity == "theta" else [])])
    values[at] = values.dtype.type(
        high[at] + budgets * vector.budget[quantity]["A"] * float(np.spacing(values.dtype.type(scale)))
    )
    entry[quantity] = to_hex(values)
    return answer


def test_the_exact_answer_is_exact():
    result = judge.judged(PLAIN, exact(PLAIN))
    assert (result.status, result.grade) == (Status.CONFORMS, Grade.EXACT)
    assert result.sulp <= 0.5


@pytest.mark.parametrize(
    ("budgets", "grade", "status"),
    [
        (0.9, Grade.A, Status.CONFORMS),
        (8, Grade.C, Status.MISMATCH),
        (-8, Grade.C, Status.MISMATCH),
        (60, Grade.C, Status.MISMATCH),
        (70, Grade.D, Status.MISMATCH),
    ],
)
@pytest.mark.parametrize("quantity", ["theta", "exp_avg", "exp_avg_sq"])
def test_an_error_has_the_grade_of_its_size(budgets, grade, status, quantity):
    result = judge.judged(PLAIN, moved(PLAIN, budgets, quantity, param="b"))
    assert (result.grade, result.status) == (grade, status)
    if status is Status.MISMATCH:
        assert (result.divergence.step, result.divergence.param) == (3, "b")
        assert (result.divergence.index, result.divergence.quantity) == ((1,), quantity)


def test_grade_b_is_between():
    vector = next(
        v
        for v in ALL.values()
        if v.type == "trajectory"
        and v.budget.get("theta", {}).get("B", 0) > 1.5 * v.budget.get("theta", {"A": 1e9})["A"]
    )
    param = vector.problem["params"][0]["name"]
    last = len(vector.expect["after"]) - 1
    result = judge.judged(vector, moved(vector, 1.2, step=last, param=param, at=0))
    assert (result.grade, result.status) == (Grade.B, Status.CONFORMS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_another_formula(value):
    answer = exact(PLAIN)
    values = from_hex(answer["after"][0]["w"]["theta"], "f32")
    values[3] = value
    answer["after"][0]["w"]["theta"] = to_hex(values)
    result = judge.judged(PLAIN, answer)
    assert result.grade is Grade.D
    assert result.divergence.index == (1, 0)


def test_state_is_looked_at_before_the_parameter():
    answer = moved(PLAIN, 1e6, "exp_avg", step=0)
    values = from_hex(answer["after"][0]["w"]["theta"], "f32")
    answer["after"][0]["w"]["theta"] = to_hex(-values)
    assert judge.judged(PLAIN, answer).divergence.quantity == "exp_avg"


def test_state_may_be_left_out_but_parameters_may_not():
    answer = exact(PLAIN)
    for now in answer["after"]:
        for entry in now.values():
            for name in set(entry) - {"theta"}:
                del entry[name]
    assert judge.judged(PLAIN, answer).status is Status.CONFORMS
    del answer["after"][2]["u"]["theta"]
    with pytest.raises(judge.MalformedAnswer, match="no theta of 'u'"):
        judge.judged(PLAIN, answer)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.pop("after"),
        lambda a: a["after"].pop(),
        lambda a: a["after"].append(a["after"][0]),
        lambda a: a.update(after=7),
        lambda a: a["after"].__setitem__(1, None),
        lambda a: a["after"][1].__setitem__("w", "3f800000"),
        lambda a: a["after"][1]["w"].update(theta="3f8"),
        lambda a: a["after"][1]["w"].update(theta="zz" * 24),
        lambda a: a["after"][1]["w"].update(theta=1.0),
        lambda a: a["after"][1]["w"].update(theta=a["after"][1]["w"]["theta"] + "3f800000"),
        lambda a: a["after"][1]["w"].update(exp_avg=None),
    ],
)
def test_what_is_no_answer_is_malformed(change):
    answer = exact(PLAIN)
    change(answer)
    with pytest.raises(judge.MalformedAnswer):
        judge.judged(PLAIN, answer)


def test_an_error_of_a_matrix_counts_beside_its_largest_number():
    vector = ALL["muon.f32.dyadic.8x6"]
    assert vector.expect["scale"] == "tensor"
    result = judge.judged(vector, answer_to(vector))
    assert result.status is Status.CONFORMS


SPECIAL = ALL["adam.f32.special.plain"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 0.0, 1.0])
def test_classes(wrong):
    answer = answer_to(SPECIAL)
    assert judge.judged(SPECIAL, answer).status is Status.CONFORMS
    letters = SPECIAL.expect["after"][0]["w"]["theta"]
    at = next(i for i, letter in enumerate(letters) if letter not in ("?", judge.class_of(wrong)))
    values = from_hex(answer["after"][0]["w"]["theta"], "f32")
    values[at] = wrong
    answer["after"][0]["w"]["theta"] = to_hex(values)
    result = judge.judged(SPECIAL, answer)
    assert (result.status, result.divergence.index) == (Status.MISMATCH, (at,))


@pytest.mark.parametrize(("value", "letter"), [(np.nan, "n"), (np.inf, "p"), (-np.inf, "m"), (-0.0, "z"), (1e-45, "f")])
def test_class_of(value, letter):
    assert judge.class_of(value) == letter
    assert judge.right_classes(letter) == letter
    assert judge.right_classes("?") == "npmzf"


INVALID = ALL["adam.f32.invalid.negative-lr"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"rejected": True, "error": {"kind": "ValueError", "message": ""}}, Status.CONFORMS),
        ({"after": []}, Status.MISMATCH),
        ({"errored": True, "error": {}}, Status.ERRORED),
        ({"unsupported": ["x"]}, Status.UNSUPPORTED),
    ],
)
def test_what_makes_no_sense_must_be_refused(answer, status):
    assert judge.judged(INVALID, answer).status is status


def test_schedules():
    vector = next(v for v in ALL.values() if v.id.startswith("cosineannealinglr.schedule.t-max=50"))
    answer = answer_to(vector)
    assert judge.judged(vector, answer).grade is Grade.EXACT
    values = from_hex(answer["lr"][1], "f64")
    values[7] *= 1.5
    wrong = judge.judged(vector, answer | {"lr": [answer["lr"][0], to_hex(values)]})
    assert (wrong.status, wrong.divergence.step, wrong.divergence.param) == (Status.MISMATCH, 7, "group 1")
    with pytest.raises(judge.MalformedAnswer):
        judge.judged(vector, {"lr": answer["lr"][:1]})


def test_traces():
    vector = ALL["lbfgs.f64.trace.valley-searched"]
    answer = answer_to(vector)
    assert judge.judged(vector, answer).status is Status.CONFORMS
    other = judge.judged(vector, answer | {"per_step": [1, 2]})
    assert (other.status, other.grade) == (Status.MISMATCH, Grade.D)
    values = from_hex(answer["calls"][3]["w"], "f64")
    wrong = judge.judged(
        vector, answer | {"calls": [*answer["calls"][:3], {"w": to_hex(values * 2)}, *answer["calls"][4:]]}
    )
    assert wrong.divergence.step == 4


@pytest.mark.parametrize(
    ("at", "shape", "size", "where"), [(5, (2, 3), 6, (1, 2)), (5, (3,), 6, (2, 1)), (0, (), 1, ()), (1, (), 2, (1,))]
)
def test_place(at, shape, size, where):
    assert judge.place(at, shape, size) == where


def test_scaled_errors():
    got = np.array([1.0, 2.0, np.nan], np.float32)
    high, low = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0**-25, 0.0])
    errors = judge.scaled_errors(got, high, low, np.array([1.0, 4.0, 4.0]))
    assert errors.tolist() == [0.0, 2.0**-25 / 2.0**-21, np.inf]


def test_a_single_step_tells_a_wrong_step_from_errors_that_add_up():
    request = singled.step(PLAIN, 3)
    found = transport.InProcess(adapters.make("refoptim")).ask({"cmd": "step", "seq": 1, **request.sent})
    assert judge.judged(request.vector, found).status is Status.CONFORMS
    assert singled.step(PLAIN, 1) is None
    first = exact(PLAIN)["after"][1]
    assert judge.judged(request.vector, {"after": [first]}).status is Status.MISMATCH
