"""What a step keeps for the next one, the launch and scalars that stay the same, is never used where it is wrong.

Each test steps an optimizer that keeps things beside one that has forgotten everything before each of its steps.
"""

import copy
import pickle

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.cases import stems

CASES = [case for stem in stems().values() for case in getattr(stem, "CASES", ()) if case.shape is None]
DENSE = [case for case in CASES if case.optimizer not in ("SparseAdam", "LBFGS", "CG")]
SHAPES = [(3, 2), (4,), ()]


def built(kind, options, dtype=np.float32):
    rng = np.random.default_rng(1)
    return kind([optim.Parameter(rng.standard_normal(shape).astype(dtype)) for shape in SHAPES], **options)


HALVES = [
    pytest.param(dtype, options, id="-".join([dtype, *options]))
    for dtype in ("bfloat16", "float16")
    for options in ({}, {"rounding": "stochastic", "seed": 3}, {"master_weights": True})
]


def params_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def set_grads(optimizer, step):
    rng = np.random.default_rng(100 + step)
    for param in params_of(optimizer):
        param.grad = rng.standard_normal(param.shape).astype(param.dtype)


def forget(optimizer):
    for layout in optimizer._layouts:
        layout._settings = None
        for slots in layout.slots:
            slots.ready = None


def saw(optimizer):
    state = optimizer.state_dict()["state"]
    arrays = [np.asarray(value).tobytes() for entry in state.values() for value in entry.values()]
    return [param.data.tobytes() for param in params_of(optimizer)], arrays


def both(keeping, forgetting, steps):
    for step in steps:
        for optimizer in (keeping, forgetting):
            set_grads(optimizer, step)
        forget(forgetting)
        keeping.step()
        forgetting.step()
    assert saw(keeping) == saw(forgetting)


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_a_step_that_repeats_a_launch_is_a_step(case):
    pair = [built(getattr(optim, case.optimizer), case.options) for _ in range(2)]
    both(*pair, range(6))


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_scalars_are_called_constant_if_they_are(case):
    optimizer = built(getattr(optim, case.optimizer), case.options)
    set_grads(optimizer, 0)
    optimizer.step()
    (layout,) = optimizer._layouts
    (slots,) = layout.slots
    settings = layout._settings_of(optimizer)
    rows, host = [], slots.host
    for _ in range(40):
        rows.append(tuple(optimizer._scalars(settings.options, host)))
        if settings.variant.counts:
            host = optimizer._advance(layout.group, host)
    if settings.constant:
        assert len(set(rows)) == 1


def change_lr(optimizer):
    optimizer.param_groups[0]["lr"] = 0.25


def edit_lr_array(optimizer):
    optimizer.param_groups[0]["lr"] = np.array(0.5)


def lose_a_gradient(optimizer):
    params_of(optimizer)[1].grad = None
    optimizer.step()


def move_parameters(optimizer):
    optim.SGD(params_of(optimizer)[:0:-1], lr=0.1)


def load(optimizer):
    optimizer.load_state_dict(optimizer.state_dict())


def add_group(optimizer):
    optimizer.add_param_group({"params": [optim.Parameter(np.ones(3, np.float32))], "lr": 0.5})


def write_state(optimizer):
    for param in params_of(optimizer):
        for name, value in optimizer.state[param].items():
            optimizer.state[param][name] = value + 1


def clear_state(optimizer):
    optimizer.state[params_of(optimizer)[0]] = {}


def clear_all_state(optimizer):
    optimizer.state = {}


def maximize(optimizer):
    optimizer.param_groups[0]["maximize"] = True


def compute_the_formula(optimizer):
    optimizer.param_groups[0]["foreach"] = True


EVENTS = [
    change_lr, edit_lr_array, lose_a_gradient, move_parameters, load, add_group, write_state, clear_state,
    clear_all_state, maximize, compute_the_formula,
]  # fmt: skip
KINDS = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    "adam": (optim.Adam, {"lr": 0.1, "amsgrad": True}),
    "rmsprop": (optim.RMSprop, {"lr": 0.1, "centered": True, "momentum": 0.5}),
    "rprop": (optim.Rprop, {"lr": 0.1}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.5}),
}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
@pytest.mark.parametrize("name", KINDS)
def test_whatever_happens_between_steps_counts(name, event):
    kind, options = KINDS[name]
    pair = [built(kind, options) for _ in range(2)]
    both(*pair, range(3))
    forget(pair[1])
    for optimizer in pair:
        event(optimizer)
    both(*pair, range(3, 6))


@pytest.mark.parametrize("event", [change_lr, lose_a_gradient, move_parameters, load, write_state, clear_all_state])
@pytest.mark.parametrize(("dtype", "options"), HALVES)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_whatever_happens_between_steps_of_16_bits_counts(name, dtype, options, event):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 is of ml_dtypes")
    kind, others = KINDS[name]
    pair = [built(kind, others | options, getattr(ml_dtypes, dtype, dtype)) for _ in range(2)]
    both(*pair, range(3))
    forget(pair[1])
    for optimizer in pair:
        event(optimizer)
    both(*pair, range(3, 6))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["copy", "pickle"])
@pytest.mark.parametrize("name", KINDS)
def test_copies_share_nothing_that_is_kept(name, copied):
    kind, options = KINDS[name]
    pair = [built(kind, options) for _ in range(2)]
    both(*pair, range(3))
    twin = copied(pair[0])
    both(twin, pair[1], range(3, 6))
    before = saw(twin)
    set_grads(pair[0], 9)
    pair[0].step()
    assert saw(twin) == before


def test_rows_of_sparse_gradients_are_forgotten_by_a_dense_one():
    pair = [optim.SGD([optim.Parameter(np.ones((4, 2), np.float32))], lr=0.1, momentum=0.9) for _ in range(2)]
    rows = [optim.SparseGrad([row], np.ones((1, 2), np.float32), (4, 2)) for row in (1, 2)]
    dense = np.ones((4, 2), np.float32)
    for optimizer in pair:
        for grad in (dense, dense, None, rows[0], dense, rows[1], dense):
            if optimizer is pair[1]:
                forget(optimizer)
            if grad is None:
                optimizer.state = {}
            else:
                optimizer.step(grads=[grad])
    assert saw(pair[0]) == saw(pair[1])


def test_a_learning_rate_that_is_an_array_is_read_in_each_step():
    rate = np.array(0.1)
    pair = [built(optim.SGD, {"lr": rate}) for _ in range(2)]
    both(*pair, range(3))
    rate[...] = 0.5
    both(*pair, range(3, 6))
    optimizer = pair[0]
    optimizer.param_groups[0]["lr"] = np.array([0.1, 0.2])
    with pytest.raises(ValueError, match="lr must be one number"):
        optimizer.step()
