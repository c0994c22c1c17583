"""Adapters of libraries that compute other dialects: each is found out, and what they have not they say."""

from functools import cache

import numpy as np
import pytest

pytest.importorskip("flint", reason="needs refoptim[conformance]")
pytest.importorskip("jsonschema", reason="needs refoptim[conformance]")

from refoptim.conformance.adapters import MissingLibraryError, make
from refoptim.conformance.adapters.grouped import renamed
from refoptim.conformance.dialects.search import verdict
from refoptim.conformance.runner.adapter import Unsupported
from refoptim.conformance.runner.answer import answer
from refoptim.conformance.runner.judge import judged
from refoptim.conformance.runner.outcome import Status
from refoptim.conformance.vectors.store import load
from refoptim.conformance.vectors.vector import Group, Step, Trajectory

VECTORS = {vector.id: vector for vector in load()}


@cache
def adapter_of(name):
    try:
        return make(name)
    except MissingLibraryError as error:
        pytest.skip(str(error))


def asked(name, identifier):
    vector = VECTORS[identifier]
    command = "schedule" if vector.type == "schedule" else "run"
    reply = answer(adapter_of(name), {"cmd": command, "seq": 1, "problem": vector.problem})
    return vector, reply, judged(vector, reply)


# By library: vectors, and which dialect the search finds; nothing where the library conforms.
DIALECTS = [
    ("keras", "adam.f32.probe.plain", "eps:hat"),
    ("keras", "adam.f64.probe.plain", "eps:hat"),
    ("keras", "adam.f32.probe.weight-decay", "decay:decoupled"),
    ("keras", "adam.f32.defaults.left-out", "defaults:keras"),
    ("keras", "adamw.f32.probe.plain", "eps:hat"),
    ("keras", "nadam.f32.probe.plain", "mu:psi=1"),
    ("keras", "adamax.f32.probe.plain", "eps:outside"),
    ("keras", "rmsprop.f32.probe.plain", "eps:inside"),
    ("keras", "adagrad.f32.probe.plain", "eps:inside"),
    ("keras", "adadelta.f32.probe.plain", ""),
    ("keras", "sgd.f32.dyadic.plain", ""),
    ("keras", "sgd.f32.probe.momentum", ""),
    ("keras", "sgd.f32.dialect.velocity", "velocity:inside"),
    ("keras", "exponentiallr.schedule.gamma=0.9", ""),
    ("keras", "multisteplr.schedule.milestones=5,11,12,40", ""),
    ("optax", "adam.f32.probe.plain", ""),
    ("optax", "adam.f64.long.plain", ""),
    ("optax", "adam.f32.probe.amsgrad", "amsgrad:corrected"),
    ("optax", "adam.f32.probe.weight-decay-decoupled-weight-decay", ""),
    ("optax", "adamw.f32.probe.plain", ""),
    ("optax", "adamax.f32.probe.plain", ""),
    ("optax", "nadam.f32.probe.plain", "mu:constant"),
    ("optax", "radam.f64.dialect.eps", "eps:outside"),
    ("optax", "rmsprop.f32.probe.plain", "eps:inside"),
    ("optax", "adagrad.f32.probe.plain", "eps:inside"),
    ("optax", "adadelta.f32.probe.plain", ""),
    ("optax", "rprop.f32.probe.plain", "previous step's update"),
    ("optax", "cosineannealinglr.dialect.end", "end:stays"),
    ("optax", "steplr.schedule.step-size=7", ""),
    ("tinygrad", "adam.f32.probe.plain", ""),
    ("tinygrad", "adamw.f32.probe.plain", ""),
    ("tinygrad", "sgd.f32.probe.momentum-nesterov", ""),
    ("sklearn", "adam.f32.probe.plain", "eps:hat"),
    ("sklearn", "sgd.f32.probe.plain", ""),
    ("sklearn", "sgd.f32.dialect.velocity", "velocity:inside"),
]


@pytest.mark.parametrize(("name", "identifier", "dialect"), DIALECTS)
def test_the_suite_finds_each_librarys_dialect(name, identifier, dialect):
    vector, reply, result = asked(name, identifier)
    assert result.status is (Status.MISMATCH if dialect else Status.CONFORMS), result.divergence or result.message
    assert dialect in verdict(vector, reply)


@pytest.mark.parametrize(
    ("name", "identifier", "why"),
    [
        ("keras", "adam.f32.probe.maximize", "option:maximize"),
        ("keras", "asgd.f32.probe.plain", "optimizer:ASGD"),
        ("keras", "adam.c64.dyadic.plain", "dtype:c64"),
        ("keras", "sgd.f32.sparse.plain", "feature:sparse"),
        ("keras", "adam.f32.invalid.parameter-in-two-groups", "feature:param_groups"),
        ("keras", "lambdalr.schedule.lr-lambda=inversesqrt", "scheduler:LambdaLR"),
        ("optax", "adam.f32.dyadic.plain", "feature:none_grad"),
        ("optax", "adam.f32.probe.weight-decay", "option:weight_decay"),
        ("optax", "adam.f32.defaults.left-out", "feature:torch_defaults"),
        ("optax", "adamw.f32.probe.amsgrad-betas-eps", "option:amsgrad"),
        ("tinygrad", "adam.f32.probe.amsgrad", "option:amsgrad"),
        ("tinygrad", "rmsprop.f32.probe.plain", "optimizer:RMSprop"),
        ("sklearn", "sgd.f32.probe.weight-decay", "option:weight_decay"),
        ("sklearn", "adamw.f32.probe.plain", "optimizer:AdamW"),
    ],
)
def test_what_a_library_has_not_it_says(name, identifier, why):
    _, _, result = asked(name, identifier)
    assert result.status is Status.UNSUPPORTED
    assert why in result.message


def test_keras_skips_parameters_without_gradients():
    adapter = adapter_of("keras")
    start = {"w": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    one = np.ones(2, np.float32)
    adapter.start(Trajectory("SGD", "f32", start, (Group(("w", "b"), {"lr": 0.5}),), (), frozenset()))
    adapter.step({"w": one, "b": None}, (0.25,))
    adapter.step({"w": None, "b": None}, (0.25,))
    assert {name: value.tolist() for name, value in adapter.params().items()} == {"w": [0.75, 0.75], "b": [1, 1]}


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [(name, one) for name in ("keras", "optax", "tinygrad", "sklearn") for one in ("Adam", "SGD")]
    + [(name, one) for name in ("keras", "optax") for one in ("RMSprop", "Adadelta", "Adamax", "Adagrad")],
)
def test_a_loaded_state_goes_on_as_if_nothing_had_happened(name, algorithm):
    adapter = adapter_of(name)
    rng = np.random.default_rng(3)
    start = {name: rng.normal(size=(2, 2)).astype(np.float32) for name in "wb"}
    grads = [{name: rng.normal(size=(2, 2)).astype(np.float32) for name in "wb"} for _ in range(4)]
    problem = Trajectory(
        algorithm, "f32", start, (Group(("w", "b"), {"lr": 0.5}),), (Step((0.5,), grads[0]),), frozenset()
    )
    adapter.start(problem)
    for grad in grads[:3]:
        adapter.step(grad, (0.5,))
    params = {name: value.copy() for name, value in adapter.params().items()}
    state = {name: {q: a.copy() for q, a in own.items()} for name, own in adapter.state().items()}
    adapter.step(grads[3], (0.25,))
    wanted = {name: value.copy() for name, value in adapter.params().items()}
    adapter.start(problem)
    adapter.load(params, state, {"w": 3, "b": 3})
    adapter.step(grads[3], (0.25,))
    if (name, algorithm) == ("sklearn", "SGD"):  # its velocities are no quantity of torch's: they are not in the state
        return
    for key, value in wanted.items():
        np.testing.assert_array_equal(adapter.params()[key], value)


def test_one_count_of_steps_cannot_be_loaded_with_two():
    adapter = adapter_of("sklearn")
    start = {"w": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    adapter.start(Trajectory("Adam", "f32", start, (Group(("w", "b"), {"lr": 0.5}),), (), frozenset()))
    with pytest.raises(Unsupported, match="none_grad"):
        adapter.load(start, {}, {"w": 1, "b": 2})


def test_options_get_a_librarys_names():
    names = {"lr": "rate", "betas": ("b1", "b2"), "decay": lambda value: {"decay": value or None}, "mu": ""}
    options = {"lr": 0.5, "betas": (0.9, 0.99), "decay": 0.0, "mu": 3.0, "amsgrad": False}
    assert renamed(options, names) == {"rate": 0.5, "b1": 0.9, "b2": 0.99, "decay": None}
    assert renamed({}, names) == {}
    with pytest.raises(Unsupported, match="option:amsgrad"):
        renamed(options | {"amsgrad": True}, names)
