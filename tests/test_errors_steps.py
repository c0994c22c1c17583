"""What a step or a loaded state cannot take: gradients, options that come too late, schedules. Nothing changes then."""

import copy
import re
from functools import partial

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter, SparseGrad

STEPPING = ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD")
STEPPING += ("SparseAdam", "Adafactor", "Muon")
ROW = SparseGrad([0], [[1.0, 1.0]], (2, 2))
HINT = ", please consider SparseAdam instead"
DECAY = "weight_decay option is not compatible with sparse gradients"
# Class, options, gradient, our message and torch's.
UNSUPPORTED = [
    *(
        (name, {}, ROW, f"{name} does not support sparse gradients")
        for name in ("Adamax", "NAdam", "RAdam", "Adadelta", "RMSprop", "Rprop", "ASGD", "Adafactor", "Muon")
    ),
    ("Adam", {}, ROW, f"Adam does not support sparse gradients{HINT}"),
    (
        "AdamW",
        {},
        ROW,
        f"AdamW does not support sparse gradients{HINT}",
        f"Adam does not support sparse gradients{HINT}",
    ),
    ("Adagrad", {"weight_decay": 0.1}, ROW, DECAY),
    ("SGD", {"weight_decay": 0.1}, ROW, DECAY, "add(sparse, dense) is not supported. Use add(dense, sparse) instead."),
    ("SparseAdam", {}, np.ones((2, 2)), "SparseAdam does not support dense gradients, please consider Adam instead"),
]
WRONG = [
    (np.ones((2, 3)), ValueError, r"has shape \(2, 3\), but the parameter has shape \(2, 2\)"),
    (np.ones((2, 2), np.float32), TypeError, "has dtype float32, but the parameter has dtype float64"),
    (np.ones((2, 2), complex), TypeError, "has dtype complex128"),
    ([[1.0, 1.0], [1.0, 1.0]], TypeError, "'list'"),
    (SparseGrad([0], [[1.0]], (2, 1)), ValueError, r"has shape \(2, 1\), but the parameter has shape \(2, 2\)"),
]


def libraries():
    """Yield this library with a parameter and, if it is installed, torch with a tensor."""
    yield optim, Parameter([1.0])
    try:
        import torch
    except ImportError:
        return
    yield torch.optim, torch.zeros(1)


def good(name):
    return SparseGrad([0], [[0.5, -0.5]], (2, 2)) if name == "SparseAdam" else np.full((2, 2), 0.5)


def assert_refused(name, options, grad, kind, message, steps):
    """Check that a second parameter's gradient stops the step of the first one, too."""
    params = [Parameter(np.ones((2, 2))) for _ in range(2)]
    opt = getattr(optim, name)(params, **options)
    for _ in range(steps):
        opt.step(grads=[good(name)] * 2)
    before = copy.deepcopy([[p.data for p in params], opt.state_dict()])
    with pytest.raises(kind, match=message):
        opt.step(grads=[good(name), grad])
    np.testing.assert_equal([[p.data for p in params], opt.state_dict()], before)
    assert len(opt.state) == (2 if before[1]["state"] else 0)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize(("grad", "kind", "message"), WRONG)
@pytest.mark.parametrize("name", STEPPING)
def test_a_gradient_that_does_not_fit_changes_nothing(name, grad, kind, message, steps):
    assert_refused(name, {}, grad, kind, message, steps)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize(("name", "options", "grad", "message"), [row[:4] for row in UNSUPPORTED])
def test_a_gradient_of_the_wrong_kind_changes_nothing(name, options, grad, message, steps):
    assert_refused(name, options, grad, RuntimeError, f"^{re.escape(message)}$", steps)


@pytest.mark.parametrize(("name", "options", "grad", "message"), [(*row[:3], row[-1]) for row in UNSUPPORTED])
def test_a_gradient_of_the_wrong_kind_is_refused_as_by_torch(name, options, grad, message):
    torch = pytest.importorskip("torch")
    p = torch.zeros(2, 2)
    if isinstance(grad, SparseGrad):
        indices, values = torch.tensor(np.array(grad.indices)), torch.tensor(np.array(grad.values))
        grad = torch.sparse_coo_tensor(indices, values, grad.shape, check_invariants=True)
        p.grad = grad.to(torch.float32)
    else:
        p.grad = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        getattr(torch.optim, name)([p], **options).step()


@pytest.mark.parametrize(
    ("option", "state"), [({"momentum": 0.5}, "momentum_buffer"), ({"centered": True}, "grad_avg")]
)
def test_state_that_an_option_needs_cannot_begin_later(option, state):
    for library, p in libraries():
        opt = library.RMSprop([p])
        p.grad = np.array([0.5]) if library is optim else p.new_full((1,), 0.5)
        opt.step()
        before = p.data[0]
        opt.param_groups[0].update(option)
        with pytest.raises(KeyError, match=state):
            opt.step()
        assert p.data[0] == before


@pytest.mark.parametrize("lambd", [-1.0, -2.0])
def test_a_schedule_that_leaves_the_reals_is_an_error_that_changes_nothing(lambd):
    p = Parameter([1.0])
    opt = optim.ASGD([p], lr=1.0, lambd=lambd)
    with pytest.raises(ValueError, match=r"1 \+ lambd \* lr \* step must be above 0, but is"):
        opt.step(grads=[np.array([1.0])])
    assert p.data == 1.0
    assert not opt.state[p]


NUMBERS = {"SGD": [], "Muon": [], "NAdam": ["step", "mu_product"], "ASGD": ["step", "eta", "mu"]}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in STEPPING for key in NUMBERS.get(name, ["step"])])
@pytest.mark.parametrize(("value", "kind"), [("a", TypeError), ([0.5, 0.5], ValueError)])
def test_numbers_of_a_loaded_state_are_checked(name, key, value, kind):
    p = Parameter(np.ones((2, 2)))
    opt = getattr(optim, name)([p])
    opt.step(grads=[good(name)])
    saved, before = opt.state_dict(), repr(opt.state_dict())
    saved["state"][0][key] = value
    with pytest.raises(kind):
        opt.load_state_dict(saved)
    assert repr(opt.state_dict()) == before


# Parameters that threads share, of each class whose steps need arrays on the way.
IN_NEED = [
    (optim.Muon, (300, 400)),
    (optim.Muon, (400, 300)),
    (partial(optim.Muon, dialect="torch"), (300, 400)),
    (optim.Adafactor, (200_000,)),
    (optim.Adafactor, (300, 500)),
    (optim.Adafactor, (3, 400, 200)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("make", "shape"), IN_NEED)
def test_without_memory_for_what_a_step_needs_nothing_changes(make, shape, dtype, monkeypatch):
    draw, allocate = np.random.default_rng(0), np.empty
    p = Parameter(draw.standard_normal(shape).astype(dtype))
    optimizer = make([p])
    p.grad = draw.standard_normal(shape).astype(dtype)
    optimizer.step()
    p.grad *= 2
    before = saved(p, optimizer)
    for room in range(100):
        left = iter(range(room))

        def empty(*arguments, left=left, **options):
            if next(left, None) is None:
                raise MemoryError
            return allocate(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(np, "empty", empty)
            try:
                optimizer.step()
            except MemoryError:
                assert saved(p, optimizer) == before, room
            else:
                break
    assert room > 0
    assert saved(p, optimizer) != before


def saved(p, optimizer):
    """Return the bytes of a parameter and of its state."""
    return [p.data.tobytes(), *(np.asarray(value).tobytes() for value in optimizer.state[p].values())]
