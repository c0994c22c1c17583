"""Ctrl-C around steps: what changes gradients, averages, state or learning rates is done whole or not begun."""

import copy
import signal
import sys

import numpy as np
import pytest
from interrupting import interrupting

import refoptim as optim
from refoptim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from refoptim.swa_utils import AveragedModel, get_ema_avg_fn
from refoptim.utils import clip_grad_norm_, clip_grad_value_

pytestmark = pytest.mark.usefixtures("python_hears_it")

SHAPES = (3,), (2, 2), ()


class Halving(LRScheduler):
    """A user's own."""

    def get_lr(self):
        return [lr / 2**self.last_epoch for lr in self.base_lrs]


def built(groups=2):
    """Return an Adam with state and gradients in separate buffers, and its parameters."""
    params = [optim.Parameter(np.full(shape, 1.5)) for shape in SHAPES]
    cut = [params] if groups == 1 else [params[:1], params[1:]]
    optimizer = optim.Adam([{"params": some, "lr": 0.1 * (i + 1)} for i, some in enumerate(cut)])
    optimizer.step(grads=[np.full(param.shape, 3.0) for param in params])
    return optimizer, params


def with_optimizer(act, groups=2):
    def case():
        optimizer, params = built(groups)
        return lambda: act(optimizer, params), lambda: seen(optimizer, params)

    return case


def loading(optimizer, params):
    other, _ = built()
    other.step()
    other.param_groups[0]["lr"] = 0.7
    saved = other.state_dict()
    return lambda: optimizer.load_state_dict(saved)


def seen(optimizer, params):
    """Return all that can be changed, as text."""
    grads = [None if param.grad is None else param.grad.tolist() for param in params]
    state = [{name: np.asarray(value).tolist() for name, value in optimizer.state[param].items()} for param in params]
    groups = [{**group, "params": len(group["params"])} for group in optimizer.param_groups]
    return repr((grads, state, groups, [param.data.tolist() for param in params]))


def with_load():
    optimizer, params = built()
    return loading(optimizer, params), lambda: seen(optimizer, params)


def with_edit(edit):
    """A group that was edited is laid out anew by whoever looks first, and keeps its state."""

    def case():
        optimizer, _ = built()
        edit(optimizer)
        return optimizer.state_dict, lambda: seen(
            optimizer, [param for group in optimizer.param_groups for param in group["params"]]
        )

    return case


def with_swap():
    """Lending the optimizer, and leaving: what is lent has the new state or the old one, and the optimizer its own."""
    optimizer, params = built()
    lent = [optim.Parameter(np.full(shape, 2.5)) for shape in SHAPES]
    saved = optimizer.state_dict()

    def act():
        with optim.swap_in_optimizer_params_and_state(optimizer, dict(zip("abc", lent)), saved):
            for param in lent:
                param.grad = np.ones(param.shape)
            optimizer.step()

    return act, lambda: repr((seen(optimizer, params), saved["state"][0]["step"]))


def with_averages(load=False, **options):
    def case():
        optimizer, params = built()
        averaged = AveragedModel(params, **options)
        averaged.update_parameters(params)
        optimizer.step()

        def view():
            return repr({name: np.asarray(value).tolist() for name, value in averaged.state_dict().items()})

        if load:
            saved = {name: value + 1 for name, value in averaged.state_dict().items()}
            return lambda: averaged.load_state_dict(saved), view
        return lambda: averaged.update_parameters(params), view

    return case


def with_scheduler(make, groups=2, before=2, how="step"):
    def case():
        optimizer, params = built(groups)
        scheduler = make(optimizer)
        arguments = (1.0,) if isinstance(scheduler, ReduceLROnPlateau) else ()
        for _ in range(before):
            scheduler.step(*arguments)

        def view():
            return repr((seen(optimizer, params), scheduler.state_dict()))

        if how == "load":
            saved = copy.deepcopy(scheduler.state_dict())
            scheduler.step(*arguments)
            return lambda: scheduler.load_state_dict(saved), view
        return lambda: scheduler.step(*arguments), view

    return case


SCHEDULERS = {
    "ExponentialLR": lambda optimizer: ExponentialLR(optimizer, 0.5),
    "StepLR": lambda optimizer: StepLR(optimizer, 3, 0.5),
    "MultiplicativeLR": lambda optimizer: MultiplicativeLR(optimizer, lambda _: 0.5),
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)),
    "CosineAnnealingWarmRestarts": lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 2, 2),
    "CyclicLR": lambda optimizer: CyclicLR(optimizer, 0.1, 0.5, 4),
    "ReduceLROnPlateau": lambda optimizer: ReduceLROnPlateau(optimizer, patience=1),
    "SequentialLR": lambda optimizer: SequentialLR(
        optimizer, [ExponentialLR(optimizer, 0.5), StepLR(optimizer, 2)], [3]
    ),
    "ChainedScheduler": lambda optimizer: ChainedScheduler([ExponentialLR(optimizer, 0.5), StepLR(optimizer, 3)]),
    "a user's": Halving,
}

CASES = {
    "clip_grad_norm_": with_optimizer(lambda _, params: clip_grad_norm_(params, 1.0)),
    "clip_grad_value_": with_optimizer(lambda _, params: clip_grad_value_(params, 1.0)),
    "zero_grad": with_optimizer(lambda optimizer, _: optimizer.zero_grad()),
    "zero_grad(False)": with_optimizer(lambda optimizer, _: optimizer.zero_grad(set_to_none=False)),
    "load_state_dict": with_load,
    "state =": with_optimizer(lambda optimizer, params: setattr(optimizer, "state", {params[1]: {"step": 7}})),
    "add_param_group": with_optimizer(
        lambda optimizer, _: optimizer.add_param_group({"params": [optim.Parameter([2.0])], "lr": 0.5})
    ),
    "an edit": with_edit(lambda optimizer: optimizer.param_groups[1]["params"].reverse()),
    "swap": with_swap,
    "SWA": with_averages(),
    "EMA": with_averages(avg_fn=get_ema_avg_fn(0.5)),
    "averages loaded": with_averages(load=True),
    **{f"{name}, 1 group": with_scheduler(make, 1) for name, make in SCHEDULERS.items()},
    **{f"{name}, 2 groups": with_scheduler(make) for name, make in SCHEDULERS.items()},
    "a milestone": with_scheduler(SCHEDULERS["SequentialLR"], before=3),
    "nested": with_scheduler(
        lambda optimizer: SequentialLR(optimizer, [SCHEDULERS["ChainedScheduler"](optimizer)], [])
    ),
    "a scheduler loaded": with_scheduler(SCHEDULERS["ChainedScheduler"], how="load"),
}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_an_interrupt_wherever_python_looks_for_one(case):
    act, view = case()
    before = view()
    act()
    after = view()
    moment, happened = 0, {False: 0, True: 0}
    while True:
        moment += 1 if moment < 150 else 7
        act, view = case()
        trace, been = interrupting(moment)
        sys.settrace(trace)
        try:
            act()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        found = view()
        assert found in (before, after), f"moment {moment}"
        happened[found == after] += 1
        if len(been) < moment:
            break
    assert min(happened.values()) > 0 or before == after
