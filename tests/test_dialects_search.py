"""The search for a dialect, put to implementations in float32 that are wrong in one known way."""

import numpy as np
import pytest

pytest.importorskip("flint", reason="vectors are made with python-flint")

from refoptim.conformance.dialects import axes, schedules, separators, suspects, trial
from refoptim.conformance.dialects.search import verdict
from refoptim.conformance.vectors import entry, store
from refoptim.conformance.vectors.encoding import DTYPES, encoded_options, real_of, scalar, to_hex, wide_from_hex
from refoptim.conformance.vectors.problems import Random
from refoptim.conformance.vectors.vector import Group, Rows, Schedule, Step, Trajectory, Vector
from refoptim.formulas.bfloat16 import bfloat16

BUDGET = {"A": 32.0, "B": 64.0}
FLOAT32 = trial.Numbers(lambda array: array.view(array.real.dtype), lambda symbols: symbols)
TRAJECTORIES = [one for one in separators.problems() if isinstance(one.problem, Trajectory)]
SCHEDULES = [one for one in separators.problems() if isinstance(one.problem, Schedule)]


def vector_of(problem, state=()):
    """Return the vector of a problem, with what torch's formula has in the parameters and in this state."""
    asked = entry.encoded(problem)
    torch = list(trial.run(trial.completed(problem), {}))
    after = [
        {name: {q: to_hex(now[q]) for q in ("theta", *state) if q in now} for name, now in moment.items()}
        for moment in torch
    ]
    scale = "tensor" if problem.algorithm == "Muon" else "element"
    expect = {"encoding": "f64", "scale": scale, "after": after}
    budget = dict.fromkeys(("theta", *state), BUDGET)
    return Vector("a", "trajectory", "dyadic", (), (), "valid", asked, expect, budget, "")


def answered(moments, dtype=np.float32, state=()):
    """Return the answer that has these numbers."""
    return {
        "after": [
            {
                name: {q: to_hex(now[q].astype(dtype)) for q in ("theta", *state) if q in now}
                for name, now in moment.items()
            }
            for moment in moments
        ]
    }


def answer(problem, choices, state=(), storing=trial.EXACTLY):
    """Return what an implementation in float32 says that makes these choices."""
    chosen = dict(choices)
    problem = trial.completed(problem, chosen.pop("defaults", "torch"))
    for suspect in [one for one in suspects.of(problem) if chosen.get(one.axis) == one.value and one.change]:
        problem = suspect.change(problem)
        del chosen[suspect.axis]
    with np.errstate(all="ignore"):
        return answered(list(trial.run(problem, chosen, FLOAT32, storing)), state=state)


def values(separator):
    return {value.name: value for value in separator.axis.values}


def same_defaults(separator, one, other):
    """Return whether two libraries have the same defaults for a separator's optimizer."""
    if separator.axis.name != "defaults":
        return False
    groups = [trial.completed(separator.problem, library).groups for library in (one, other)]
    return groups[0] == groups[1]


def names(separators_):
    """Return what tells an axis's values apart, and each value that is not torch's."""
    return [
        pytest.param(one, value, id=f"{one.axis.id}:{value.name}")
        for one in separators_
        for value in one.axis.values
        if value.name not in (axes.base(one.algorithm).get(one.axis.name), "l2")
        and not same_defaults(one, "torch", value.name)
    ]


def curves(separator):
    """Return the numbers of a separator's problem for each value of its axis."""
    found = {}
    for name in values(separator):
        choice = {separator.axis.name: name}
        if isinstance(separator.problem, Schedule):
            found[name] = np.array(schedules.curves(separator.problem, choice)).T
            continue
        library = choice.pop("defaults", "torch")
        moments = trial.run(trial.completed(separator.problem, library), choice)
        found[name] = np.array([now["w"]["theta"] for now in moments])
    return found


APART = 1e4


@pytest.mark.parametrize("separator", separators.problems(), ids=lambda one: one.id)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_separator_tells_all_values_apart(separator, dtype):
    separator = next(one for one in separators.problems(dtype) if one.axis == separator.axis)
    found = curves(separator)
    kind = np.float32 if isinstance(separator.problem, Trajectory) and dtype == "f32" else np.float64
    for one, left in found.items():
        assert np.isfinite(left).all()
        for other, right in found.items():
            if one == other or same_defaults(separator, one, other):
                continue
            scale = np.maximum.accumulate(np.maximum(np.abs(left), np.abs(right)), axis=0)
            ulps = np.abs(left - right) / np.spacing(scale.astype(kind))
            assert ulps.max() > APART, (one, other)


# These say the same of any problem, in other words.
SAME = {"amsgrad:uncorrected": {"bias:none"}}


@pytest.mark.parametrize(("separator", "value"), names(TRAJECTORIES))
def test_every_value_of_every_axis_is_named(separator, value):
    vector = vector_of(separator.problem)
    found = verdict(vector, answer(separator.problem, {separator.axis.name: value.name}))
    wanted = f"{separator.axis.name}:{value.name}" if value.libraries else value.words
    assert wanted in found
    assert_unique(found, wanted)


def assert_unique(found, wanted):
    """Require that a verdict gives no other explanation than what is the same in other words."""
    explanations = found.removeprefix("several explanations match: ").split("; or ")
    others = [text for text in explanations if wanted not in text]
    assert all(any(name in text for name in SAME.get(wanted, ())) for text in others), found


@pytest.mark.parametrize(("separator", "value"), names(SCHEDULES))
def test_every_value_of_every_schedule_is_named(separator, value):
    rates = schedules.curves(separator.problem, {separator.axis.name: value.name})
    found = verdict(schedule_vector(separator.problem), {"lr": [to_hex(np.array(column)) for column in rates]})
    assert f"matches dialect {separator.axis.name}:{value.name}" in found
    assert "several" not in found


def schedule_vector(problem):
    asked = {
        "algorithm": problem.algorithm,
        "options": encoded_options(problem.options),
        "lr": [scalar(lr) for lr in problem.lrs],
        "epochs": problem.epochs,
        "record": list(problem.record),
    }
    if problem.metrics is not None:
        asked["metrics"] = to_hex(np.array(problem.metrics))
    right = [to_hex(np.array(column)) for column in schedules.curves(problem, {})]
    expect = {"encoding": "f64", "scale": "element", "lr": right}
    return Vector("a", "schedule", "schedule", (), (), "valid", asked, expect, {"lr": {"A": 4.0, "B": 4.0}}, "")


def test_all_that_keras_does_on_a_plateau():
    metrics = (8.0, 7.875, 7.75, 7.5, 7.5, 7.5, 7.5, 7.5, 7.5, 7.5, 7.5, 7.5, 6.0, 6.0, 6.0, 6.0)
    options = {"mode": "min", "factor": 0.5, "patience": 2, "threshold": 2.0**-4, "cooldown": 2}
    problem = Schedule("ReduceLROnPlateau", options, (1.0,), len(metrics), tuple(range(len(metrics) + 1)), metrics)
    rates = schedules.curves(problem, axes.dialect("keras.ReduceLROnPlateau").axes)
    found = verdict(schedule_vector(problem), {"lr": [to_hex(np.array(column)) for column in rates]})
    assert "patience:at + threshold:absolute + cooldown:one less" in found
    assert "(keras)" in found
    assert "several" not in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x, ""),
        (lambda x: np.r_[x[:1], x[:-1]], "is an epoch late: matches"),
        (lambda x: np.r_[x[1:], x[-1:] / 2], "is an epoch early: matches"),
        (lambda x: np.full_like(x, x[0]), "does not change the learning rate"),
        (lambda x: x.astype(np.float32).astype(np.float64), "rounded to float32"),
        (lambda x: x * 1.01, "matches no known dialect"),
        (lambda x: x * np.nan, "matches no known dialect"),
    ],
)
def test_schedules_that_are_wrong_otherwise(change, words):
    problem = Schedule("CosineAnnealingLR", {"T_max": 9, "eta_min": 0.01}, (0.1, 0.3), 12, tuple(range(13)), None)
    wrong = [to_hex(change(np.array(column))) for column in schedules.curves(problem, {})]
    found = verdict(schedule_vector(problem), {"lr": wrong})
    assert found == "" if not words else words in found


def bookkeeping(algorithm="Adam", **options):
    """Return a problem of two groups, whose learning rates change and whose gradients are missing now and then."""
    random = Random(algorithm, sorted(options))
    first = {"lr": 0.125} | options
    second = first | {"lr": 0.5, "weight_decay": 0.25}
    if algorithm in ("Adam", "NAdam"):
        first |= {"betas": (0.875, 0.984375), "eps": 2.0**-9}
        second |= {"betas": (0.75, 0.9375), "eps": 2.0**-6}
    shapes = {"w": (6,), "u": (3,), "b": (4,)}
    absent = {("b", 1), ("w", 2), ("u", 0), ("b", 3)}
    lrs = [(0.125, 0.5), (0.125, 1.0), (0.0625, 0.5), (0.25, 0.125), (0.0625, 0.5)]
    zeros = {("u", 2): 2, ("w", 3): 1}  # every other element, and all
    steps = tuple(
        Step(lr, {n: None if (n, t) in absent else random.sizes(s, "f32", -6, 3) for n, s in shapes.items()})
        for t, lr in enumerate(lrs)
    )
    for (name, t), every in zeros.items():
        steps[t].grads[name][::every] = 0
    params = {name: random.normal(shape, "f32") for name, shape in shapes.items()}
    groups = (Group(("w", "u"), first), Group(("b",), second))
    return Trajectory(algorithm, "f32", params, groups, steps, frozenset(range(1, 6)))


ADAM = bookkeeping(weight_decay=0.125, amsgrad=True, maximize=True)
PLAIN = bookkeeping(weight_decay=0.125)
SGD = bookkeeping("SGD", weight_decay=0.125, momentum=0.75, dampening=0.5)
SUSPECTS = [
    pytest.param(problem, one, id=f"{problem.algorithm} {one.words}")
    for problem in (ADAM, SGD, bookkeeping("NAdam", momentum_decay=0.5), bookkeeping("Adagrad", lr_decay=0.5))
    for one in suspects.of(trial.completed(problem))
    if (one.axis, one.value) not in (("betas", "ignored"),)
]


@pytest.mark.parametrize(("problem", "suspect"), SUSPECTS)
def test_every_mistake_is_named(problem, suspect):
    given = answer(problem, {suspect.axis: suspect.value})
    found = verdict(vector_of(problem), given)
    if given == answer(problem, {}):
        assert found == ""
    else:
        assert suspect.words in found, found
        assert "several" not in found or suspect.axis in ("count", "eps", "epsilon"), found


@pytest.mark.parametrize(
    ("problem", "choices", "words"),
    [
        (ADAM, {"eps": "hat", "direction": "other"}, ["matches dialect eps:hat", "and ignores maximize", "keras"]),
        (ADAM, {"eps": "hat", "decay": "decoupled"}, ["eps:hat + decay:decoupled", "(keras)"]),
        (PLAIN, {"eps": "inside", "bias": "none", "decay": "after"}, ["eps:inside", "bias:none", "stepped parameter"]),
        (SGD, {"velocity": "inside", "decay": "decoupled"}, ["velocity:inside", "decay:decoupled", "(keras)"]),
        (SGD, {"update": "previous", "none": "zero"}, ["none:zero", "applies the previous step's update"]),
        (SGD, {"lr": "late", "weight decay": "negative"}, ["learning rate of the step before", "wrong sign"]),
    ],
)
def test_several_things_at_once(problem, choices, words):
    found = verdict(vector_of(problem), answer(problem, choices))
    assert "several" not in found, found
    for word in words:
        assert word in found, found


@pytest.mark.parametrize("value", ["dense", "last"])
def test_sparse_gradients(value):
    random = Random(value)
    rows = [[0, 2], [1, 2, 1], [2, 0]]
    steps = tuple(Step((0.5,), {"w": Rows(np.array(r), random.sizes((len(r), 2), "f32", -4, 2))}) for r in rows)
    group = Group(("w",), {"lr": 0.5, "betas": (0.5, 0.75), "eps": 2.0**-9})
    problem = Trajectory(
        "SparseAdam", "f32", {"w": random.normal((3, 2), "f32")}, (group,), steps, frozenset({1, 2, 3})
    )
    wanted = next(one.words for one in suspects.of(trial.completed(problem)) if one.value == value)
    found = verdict(vector_of(problem), answer(problem, {"rows": value}))
    assert found.startswith(wanted), found


def test_what_is_right_needs_no_explanation():
    assert verdict(vector_of(ADAM, ("exp_avg",)), answer(ADAM, {}, ("exp_avg",))) == ""


def test_a_state_tells_what_the_parameters_do_not():
    problem = bookkeeping("SGD", momentum=0.75)
    constant = problem._replace(steps=tuple(step._replace(lrs=(0.125, 0.5)) for step in problem.steps))
    vector = vector_of(constant, ("momentum_buffer",))
    given = answer(constant, {"velocity": "inside"}, ("momentum_buffer",))
    assert "matches dialect velocity:inside" in verdict(vector, given)
    for moment in given["after"]:
        for entry_ in moment.values():
            entry_.pop("momentum_buffer", None)
    assert verdict(vector, given) == ""


@pytest.mark.parametrize(
    ("choices", "words"),
    [({}, "parameters are torch's; the state is another"), ({"eps": "hat"}, "eps:hat within")],
)
def test_a_state_of_its_own(choices, words):
    given = answer(ADAM, choices, ("exp_avg",))
    for moment in given["after"]:
        for entry_ in moment.values():
            if "exp_avg" in entry_:
                entry_["exp_avg"] = "40490fdb" * (len(entry_["exp_avg"]) // 8)
    found = verdict(vector_of(ADAM, ("exp_avg",)), given)
    assert words in found
    assert "state is another quantity" in found


def disturbed(share):
    """Return an answer whose steps are off by about this share, each in its own way."""
    noise = Random("noise", share)
    theta, before = {name: array.astype(np.float64) for name, array in ADAM.params.items()}, dict(ADAM.params)
    moments = []
    for now in trial.run(trial.completed(ADAM), {}):
        for name, values_ in now.items():
            size = values_["theta"].shape
            theta[name] = theta[name] + (values_["theta"] - before[name]) * (1 + share * noise.normal(size, "f64"))
            before[name] = values_["theta"]
        moments.append({name: {"theta": array} for name, array in theta.items()})
    return answered(moments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (disturbed(3e-4), "steps are torch's to"),
        (disturbed(0.5), "matches no known dialect"),
        (answer(ADAM, {}, storing=trial.Storing(stored=bfloat16)), "keeps its state in bfloat16"),
        (answer(ADAM, {}, storing=trial.Storing(used=bfloat16)), "keeps its state in bfloat16"),
        (answered([{n: {"theta": a * np.nan} for n, a in ADAM.params.items()}] * 5), "no number is finite"),
    ],
    ids=["weak", "noise", "bfloat16 stored", "bfloat16 used", "NaN"],
)
def test_what_no_dialect_explains(given, words):
    found = verdict(vector_of(ADAM), given)
    assert found.startswith(words) or words in found, found
    assert "dialect " not in found.replace("known dialect", "")


@pytest.mark.parametrize(
    "given",
    [{}, {"after": []}, {"errored": True}, {"after": [{"w": {}}] * 5}, {"after": [{"w": {"theta": "zz"}}] * 5}],
)
def test_what_is_no_answer_has_no_explanation(given):
    assert verdict(vector_of(ADAM), given) == ""


def expected(vector):
    """Return the answer that a vector of the suite expects, rounded once."""
    kind, encoding = DTYPES[real_of(vector.dtype)], vector.expect["encoding"]
    if vector.type == "schedule":
        return {"lr": [to_hex(wide_from_hex(column, encoding)[0]) for column in vector.expect["lr"]]}
    after = [
        {n: {q: to_hex(wide_from_hex(x, encoding)[0].astype(kind)) for q, x in qs.items()} for n, qs in moment.items()}
        for moment in vector.expect["after"]
    ]
    return {"after": after}


def test_the_suites_own_answers_need_no_explanation():
    valid = [one for one in store.load() if one.result == "valid" and one.type != "trace"]
    judged = [one for one in valid if one.expect["encoding"] != "class"]
    assert judged
    for vector in judged:
        assert verdict(vector, expected(vector)) == "", vector.id


@pytest.mark.parametrize("kind", ["invalid", "class", "trace"])
def test_vectors_without_numbers_are_not_searched(kind):
    vector = vector_of(ADAM)
    if kind == "class":
        vector = vector._replace(expect=vector.expect | {"encoding": "class"})
    else:
        vector = vector._replace(**{"result": kind} if kind == "invalid" else {"type": kind})
    assert verdict(vector, answer(ADAM, {"eps": "hat"})) == ""
