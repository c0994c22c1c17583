"""``dialect=``: other libraries' formulas, beside a few lines of NumPy, the libraries, and the search for dialects."""

import copy
import pickle
from importlib import import_module

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.subjects import IMPLEMENTATIONS, as_sparse
from refoptim.conformance.tolerances import CLOSE

STEPS = 7
# Up and down, so that the largest gradient is not the last, and no learning rate is that of the step before.
SWING = (1.0, 4.0, 0.25, 0.5, -2.0, 0.125, 1.0)
LRS = (0.5, 0.25, 1.0, 0.125, 0.5, 0.25, 0.5)
BETAS = (0.875, 0.984375)
THETA = np.array([0.75, -1.5, 2.0, -0.25, 0.5])
GRADS = [
    swing * np.array([1e-3, 0.3, -2.0, 1.0, -0.05]) * (1 + np.arange(5) % (t + 2)) for t, swing in enumerate(SWING)
]


def keras_decay(p, lr, wd):
    """Return a variable after what BaseOptimizer does to it before the update."""
    return p - p * wd * lr


def keras_adam(p, g, lr, t, s, *, b1, b2, eps, wd=0.0, amsgrad=False):
    p = keras_decay(p, lr, wd)
    s["exp_avg"] += (g - s["exp_avg"]) * (1 - b1)
    s["exp_avg_sq"] += (g * g - s["exp_avg_sq"]) * (1 - b2)
    v = s["exp_avg_sq"]
    if amsgrad:
        v = s["max_exp_avg_sq"] = np.maximum(s["max_exp_avg_sq"], v)
    alpha = lr * np.sqrt(1 - b2**t) / (1 - b1**t)
    return p - s["exp_avg"] * alpha / (np.sqrt(v) + eps)


def tensorflow_adam(p, g, lr, t, s, *, wd=0.0, **options):
    return keras_adam(p, g + wd * p, lr, t, s, **options)


def optax_amsgrad(p, g, lr, t, s, *, b1, b2, eps):
    s["exp_avg"] = (1 - b1) * g + b1 * s["exp_avg"]
    s["exp_avg_sq"] = (1 - b2) * g**2 + b2 * s["exp_avg_sq"]
    mu_hat, nu_hat = s["exp_avg"] / (1 - b1**t), s["exp_avg_sq"] / (1 - b2**t)
    s["max_exp_avg_sq"] = np.maximum(s["max_exp_avg_sq"], nu_hat)
    return p - lr * mu_hat / (np.sqrt(s["max_exp_avg_sq"]) + eps)


def keras_sgd(p, g, lr, t, s, *, momentum=0.0, nesterov=False, wd=0.0):
    p = keras_decay(p, lr, wd)
    if not momentum:
        return p - lr * g
    velocity = -momentum * s["momentum_buffer"] - lr * g
    s["momentum_buffer"] = -velocity
    return p + momentum * velocity - lr * g if nesterov else p + velocity


def rmsprop(p, g, lr, t, s, *, rho, eps, momentum=0.0, centered=False, start=0.0):
    """Return what Keras, TensorFlow and optax all have, without weight decay."""
    velocity = s["square_avg"] if t > 1 else np.full_like(p, start)
    denominator = s["square_avg"] = rho * velocity + (1 - rho) * g * g
    if centered:
        s["grad_avg"] = rho * s["grad_avg"] + (1 - rho) * g
        denominator = denominator - s["grad_avg"] ** 2
    increment = lr * g / np.sqrt(denominator + eps)
    if not momentum:
        return p - increment
    s["momentum_buffer"] = momentum * s["momentum_buffer"] + increment
    return p - s["momentum_buffer"]


def keras_rmsprop(p, g, lr, t, s, *, wd, **options):
    return rmsprop(keras_decay(p, lr, wd), g, lr, t, s, **options)


def tensorflow_rmsprop(p, g, lr, t, s, **options):
    return rmsprop(p, g, lr, t, s, start=1.0, **options)


def adagrad(p, g, lr, t, s, *, eps, wd=0.0, start):
    p = keras_decay(p, lr, wd)
    s["sum"] = (s["sum"] if t > 1 else np.full_like(p, start)) + g * g
    return p - lr * g / np.sqrt(s["sum"] + eps)


def keras_adamax(p, g, lr, t, s, *, b1, b2, eps, wd):
    p = keras_decay(p, lr, wd)
    s["exp_avg"] += (g - s["exp_avg"]) * (1 - b1)
    s["exp_inf"] = np.maximum(b2 * s["exp_inf"], np.abs(g))
    return p - lr * s["exp_avg"] / ((1 - b1**t) * (s["exp_inf"] + eps))


def keras_nadam(p, g, lr, t, s, *, b1, b2, eps, wd):
    p = keras_decay(p, lr, wd)
    u_t, u_next = (b1 * (1 - 0.5 * 0.96**step) for step in (t, t + 1))
    product = np.prod([b1 * (1 - 0.5 * 0.96**step) for step in range(1, t + 1)])
    s["exp_avg"] += (g - s["exp_avg"]) * (1 - b1)
    s["exp_avg_sq"] += (g * g - s["exp_avg_sq"]) * (1 - b2)
    m_hat = u_next * s["exp_avg"] / (1 - product * u_next) + (1 - u_t) * g / (1 - product)
    return p - m_hat * lr / (np.sqrt(s["exp_avg_sq"] / (1 - b2**t)) + eps)


ADAM = {"betas": BETAS, "eps": 0.01}
THEIRS = {"b1": BETAS[0], "b2": BETAS[1], "eps": 0.01}
RMS = {"alpha": 0.875, "eps": 0.01}
RMS_THEIRS = {"rho": 0.875, "eps": 0.01}
DECAY = {"weight_decay": 0.1}
NESTEROV = {"momentum": 0.9, "nesterov": True}
BOTH = {"momentum": 0.9, "centered": True}
# The class, the dialect, its options, and the other library's step with its own.
CASES = [
    ("Adam", "keras", ADAM | DECAY, keras_adam, THEIRS | {"wd": 0.1}),
    ("Adam", "keras", ADAM | {"amsgrad": True}, keras_adam, THEIRS | {"amsgrad": True}),
    ("AdamW", "keras", ADAM, keras_adam, THEIRS | {"wd": 0.01}),
    ("Adam", "tensorflow", ADAM | DECAY, tensorflow_adam, THEIRS | {"wd": 0.1}),
    ("Adam", "optax", ADAM | {"amsgrad": True}, optax_amsgrad, THEIRS),
    ("SGD", "keras", DECAY, keras_sgd, {"wd": 0.1}),
    ("SGD", "keras", DECAY | {"momentum": 0.9}, keras_sgd, {"momentum": 0.9, "wd": 0.1}),
    ("SGD", "keras", DECAY | NESTEROV, keras_sgd, NESTEROV | {"wd": 0.1}),
    ("RMSprop", "keras", RMS | DECAY, keras_rmsprop, RMS_THEIRS | {"wd": 0.1}),
    ("RMSprop", "keras", RMS | DECAY | BOTH, keras_rmsprop, RMS_THEIRS | BOTH | {"wd": 0.1}),
    ("RMSprop", "keras", RMS | {"centered": True}, keras_rmsprop, RMS_THEIRS | {"centered": True, "wd": 0.0}),
    ("RMSprop", "tensorflow", RMS | {"momentum": 0.9}, tensorflow_rmsprop, RMS_THEIRS | {"momentum": 0.9}),
    ("RMSprop", "optax", RMS | {"momentum": 0.9}, rmsprop, RMS_THEIRS | {"momentum": 0.9}),
    ("Adagrad", "keras", {"eps": 0.01} | DECAY, adagrad, {"eps": 0.01, "wd": 0.1, "start": 0.0}),
    ("Adagrad", "optax", {"eps": 0.01, "initial_accumulator_value": 0.1}, adagrad, {"eps": 0.01, "start": 0.1}),
    ("Adamax", "keras", ADAM | DECAY, keras_adamax, THEIRS | {"wd": 0.1}),
    ("NAdam", "keras", ADAM | DECAY, keras_nadam, THEIRS | {"wd": 0.1}),
    ("NAdam", "keras", ADAM | {"momentum_decay": 0.5}, keras_nadam, THEIRS | {"wd": 0.0}),
]
KINDS = {name: (dialect, options) for name, dialect, options, *_ in CASES}


def theirs(step, options):
    """Return the parameter and the state that the other library's formula has after all steps."""
    p, s = THETA.copy(), {name: np.zeros_like(THETA) for name in STATE}
    for t, (g, lr) in enumerate(zip(GRADS, LRS, strict=True), 1):
        p = step(p, g, lr, t, s, **options)
    return p, s


STATE = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "sum")


def ours(name, *, dtype=np.float64, steps=range(STEPS), optimizer=None, **options):
    """Return an optimizer, and its parameter, after these steps."""
    if optimizer is None:
        optimizer = getattr(optim, name)([Parameter(THETA.astype(dtype))], **options)
    [param] = optimizer.param_groups[0]["params"]
    for t in steps:
        optimizer.param_groups[0]["lr"] = LRS[t]
        optimizer.step(grads=[GRADS[t].astype(dtype)])
    return optimizer, param


def arrays(optimizer, param):
    return {name: array for name, array in optimizer.state[param].items() if isinstance(array, np.ndarray)}


def same_bits(one, other):
    """Require that two optimizers and their parameters are alike to the last bit."""
    (left, p), (right, q) = one, other
    assert p.data.tobytes() == q.data.tobytes()
    assert {k: np.asarray(v).tobytes() for k, v in left.state[p].items()} == {
        k: np.asarray(v).tobytes() for k, v in right.state[q].items()
    }


@pytest.mark.parametrize("how", [*IMPLEMENTATIONS.values(), {"differentiable": True}], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "dialect", "options", "step", "its_options"), CASES)
def test_a_dialect_is_the_other_librarys_formula(name, dialect, options, step, its_options, dtype, how):
    wanted, state = theirs(step, its_options)
    optimizer, param = ours(name, dtype=dtype, dialect=dialect, **options, **how)
    close = CLOSE[np.dtype(dtype).name]
    np.testing.assert_allclose(param.data, wanted, **close)
    for key, array in arrays(optimizer, param).items():
        np.testing.assert_allclose(array, state[key], **close, err_msg=key)


@pytest.mark.parametrize(("name", "dialect", "options", "step", "its_options"), CASES)
def test_a_dialect_is_not_torchs_formula(name, dialect, options, step, its_options):
    if name == "SGD" and "momentum" not in options:
        pytest.skip("without momentum it is the same")
    wanted, _ = theirs(step, its_options)
    _, param = ours(name, **options)
    assert np.abs(param.data - wanted).max() > 1e-4


@pytest.mark.parametrize("name", KINDS)
def test_torchs_dialect_is_none(name):
    _, options = KINDS[name]
    same_bits(ours(name, dialect="torch", **options), ours(name, **options))


@pytest.mark.parametrize(
    "dialect", ["Keras", "jax", "", "tf", True, 1, ("keras",), np.array(["keras", "optax"])], ids=str
)
@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_dialect_is_refused_before_anything_moves(name, dialect):
    params = [Parameter(THETA), Parameter(THETA)]  # two are moved into one buffer
    data = params[0].data
    with pytest.raises(ValueError, match=r"Invalid dialect: .*; use None \(torch's\), 'torch'.* or '\w+'$"):
        getattr(optim, name)(params, dialect=dialect)
    assert np.shares_memory(params[0].data, data)
    getattr(optim, name)(params, dialect="keras")
    assert not np.shares_memory(params[0].data, data)


def test_each_class_has_its_own_dialects():
    with pytest.raises(ValueError, match=r"use None \(torch's\), 'torch' or 'keras'$"):
        optim.SGD([Parameter([1.0])], dialect="optax")
    with pytest.raises(ValueError, match=r"use None \(torch's\), 'torch', 'keras' or 'optax'$"):
        optim.Adagrad([Parameter([1.0])], dialect="tensorflow")


@pytest.mark.parametrize("name", KINDS)
def test_a_dialect_is_the_optimizers_and_no_groups(name):
    optimizer, _ = ours(name, dialect="keras", steps=[0])
    assert optimizer.dialect == "keras"
    assert "dialect" not in optimizer.defaults | optimizer.param_groups[0]
    assert "dialect" not in optimizer.state_dict()["param_groups"][0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda opt: pickle.loads(pickle.dumps(opt))], ids=["copy", "pickle"])
@pytest.mark.parametrize(("name", "dialect", "options"), [case[:3] for case in CASES])
def test_copies_go_on_in_the_dialect(name, dialect, options, copied):
    half, _ = ours(name, dialect=dialect, steps=range(3), **options)
    same_bits(
        ours(name, optimizer=copied(half), steps=range(3, STEPS)),
        ours(name, dialect=dialect, **options),
    )


@pytest.mark.parametrize(("name", "dialect", "options"), [case[:3] for case in CASES])
def test_a_saved_state_goes_on_in_an_optimizer_of_the_dialect(name, dialect, options):
    half, param = ours(name, dialect=dialect, steps=range(3), **options)
    other = getattr(optim, name)([Parameter(param.data.copy())], dialect=dialect)
    other.load_state_dict(half.state_dict())
    same_bits(
        ours(name, optimizer=other, steps=range(3, STEPS)),
        ours(name, dialect=dialect, **options),
    )


@pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"momentum": 0.9}), ("SGD", NESTEROV), ("SGD", {}), ("Adagrad", {"eps": 0.01})]
)
def test_sparse_gradients_of_every_element_are_dense_ones(name, options):
    sparse = getattr(optim, name)([Parameter(THETA)], lr=0.5, dialect="keras", **options)
    dense = getattr(optim, name)([Parameter(THETA)], lr=0.5, dialect="keras", **options)
    for grad in GRADS:
        sparse.step(grads=[as_sparse(grad)])
        dense.step(grads=[grad])
    pair = [(opt, opt.param_groups[0]["params"][0]) for opt in (sparse, dense)]
    same_bits(*pair)


# Whoever answers in a dialect is found out: vectors, and what the search finds; nothing where both are torch's.
FOUND = [
    ("keras", "adam.f32.dialect.eps", "eps:hat within"),
    ("tensorflow", "adam.f64.dialect.eps", "eps:hat within"),
    ("optax", "adam.f32.dialect.eps", ""),
    ("keras", "adam.f32.dialect.decay", "eps:hat + decay:decoupled within"),
    ("keras", "adam.f64.dialect.amsgrad", "eps:hat within"),
    ("optax", "adam.f32.dialect.amsgrad", "amsgrad:corrected within"),
    ("keras", "adamw.f32.probe.plain", "eps:hat within"),
    ("keras", "sgd.f32.dialect.velocity", "velocity:inside within"),
    ("keras", "sgd.f64.dialect.ahead", "velocity:inside within"),
    ("keras", "sgd.f32.probe.plain", ""),
    ("keras", "rmsprop.f32.dialect.eps", "eps:inside within"),
    ("keras", "rmsprop.f32.probe.centered", "eps:inside within"),
    ("optax", "rmsprop.f64.dialect.velocity", "eps:inside + velocity:inside within"),
    ("tensorflow", "rmsprop.f32.dialect.velocity", "eps:inside + v0:1 + velocity:inside within"),
    ("keras", "adagrad.f32.dialect.eps", "eps:inside within"),
    ("optax", "adagrad.f64.dialect.eps", "eps:inside within"),
    ("keras", "adamax.f32.dialect.eps", "eps:outside within"),
    ("keras", "nadam.f32.dialect.mu", "mu:psi=1 within"),
]


@pytest.fixture(scope="module")
def vectors():
    pytest.importorskip("flint", reason="the search for dialects needs refoptim[conformance]")
    store = pytest.importorskip("refoptim.conformance.vectors.store")
    return {vector.id: vector for vector in store.load()}


@pytest.mark.parametrize(("dialect", "identifier", "words"), FOUND)
def test_the_search_finds_the_dialect(vectors, dialect, identifier, words):
    vector = vectors[identifier]
    answer = import_module("refoptim.conformance.runner.answer").answer
    reply = answer(adapter(dialect), {"cmd": "run", "seq": 1, "problem": vector.problem})
    found = import_module("refoptim.conformance.dialects.search").verdict(vector, reply)
    assert found.startswith(f"matches dialect {words}") if words else found == ""
    assert not words or dialect in found


def adapter(dialect):
    """Return the suite's adapter of refoptim in a dialect."""
    made = import_module("refoptim.conformance.adapters.refoptim").Refoptim()
    made._how = {"dialect": dialect}
    return made


# What is asked of the libraries themselves. Keras decays weights of every optimizer, optax those of AdamW.
BESIDE = [
    *((dialect, name, options) for name, dialect, options, *_ in CASES if dialect in ("keras", "optax")),
    ("keras", "RMSprop", RMS | DECAY | {"momentum": 0.9}),
    ("keras", "RMSprop", RMS),
    ("keras", "Adamax", ADAM | {"betas": (0.5, 0.75)}),
    ("optax", "AdamW", ADAM | DECAY),
    ("optax", "RMSprop", RMS),
    ("optax", "RMSprop", RMS | {"centered": True}),
    ("optax", "RMSprop", RMS | BOTH),
]


@pytest.mark.parametrize(("library", "name", "options"), BESIDE)
def test_a_dialect_is_what_the_library_itself_computes(library, name, options):
    pytest.importorskip("flint", reason="adapters need refoptim[conformance]")
    pytest.importorskip("jax", reason="Keras and optax run on jax")
    pytest.importorskip(library, reason=f"{library} is not installed")
    adapters = import_module("refoptim.conformance.adapters")
    vector = import_module("refoptim.conformance.vectors.vector")
    steps = tuple(vector.Step((lr,), {"w": grad}) for grad, lr in zip(GRADS, LRS, strict=True))
    defaults = import_module("refoptim.conformance.vectors.options").documented(name)
    group = vector.Group(("w",), defaults | options)
    problem = vector.Trajectory(name, "f64", {"w": THETA}, (group,), steps, frozenset({STEPS}))
    found = []
    for run in (adapters.make(library), adapter(library)):
        run.start(problem)
        for step in problem.steps:
            run.step(step.grads, step.lrs)
        found.append(run.params()["w"])
    np.testing.assert_allclose(*found, **CLOSE["torch float64"])
