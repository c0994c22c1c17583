"""Steps with ``capturable=True`` on a GPU, under Numba's simulator: what a CUDA graph repeats are the next steps.

The simulator has no graphs: a captured step is the list of its launches here, made while the stream says that it is
being captured, and a repetition calls them again. This file runs itself in a second process, where the simulator is.
"""

import copy
import json
import pickle
import sys
import traceback
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

import refoptim as optim
from refoptim import kernels, tables
from refoptim.gpu import Gpu

# Every class that has the option, with options that change what the scalars are.
OPTIMIZERS = {
    "Adam": (optim.Adam, {"amsgrad": True, "weight_decay": 0.01}),
    "AdamW": (optim.AdamW, {"maximize": True}),
    "NAdam": (optim.NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.01}),
    "RAdam": (optim.RAdam, {"betas": (0.9, 0.99)}),
    "Adamax": (optim.Adamax, {}),
    "RMSprop": (optim.RMSprop, {"centered": True, "momentum": 0.5}),
    "Rprop": (optim.Rprop, {}),
    "Adadelta": (optim.Adadelta, {}),
    "ASGD": (optim.ASGD, {"t0": 3.0, "lambd": 0.1}),
    "wide": (optim.Adam, {"arithmetic": "float64"}),
}
SHAPES = [(2,), (), (3,), (0,)]


def numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def build(name, device, **options):
    """Return an optimizer with two groups, whose parameters have gradients."""
    params = [optim.Parameter(numbers(shape, seed), device=device) for seed, shape in enumerate(SHAPES)]
    for param in params:
        param.grad = param.data
    kind, own = OPTIMIZERS[name]
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}]
    return kind(groups, **({"lr": 0.1, "capturable": True} | own | options))


def params_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def give(optimizer, seed):
    """Write gradients into the arrays that the parameters have for them, as a captured computation does."""
    for number, param in enumerate(params_of(optimizer)):
        if param.grad is not None and param.size:
            values = numbers(param.shape, 1000 * seed + number)
            if param.device == "cpu":
                param.grad[...] = values
            else:
                param.grad.copy_to_device(values)


def steps(optimizer, seeds):
    for seed in seeds:
        give(optimizer, seed)
        optimizer.step()


@contextmanager
def capturing():
    """Let the stream say that it is being captured, and refuse what the host may not do then."""

    def refuse(*_):
        raise AssertionError("not while a stream is being captured")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.jit, "capturing", lambda: True)
        for name in ("_empty", "copy", "host"):
            patch.setattr(Gpu, name, refuse)
        yield


def captured(optimizer):
    """Return the launches of a step that is captured. None of them runs."""
    with capturing():
        return [launch for layout in optimizer._current() for launch in layout.plan(optimizer)]


def replay(optimizer, launches, seeds):
    for seed in seeds:
        give(optimizer, seed)
        for call, arguments in launches:
            call(*arguments)


def bits(optimizer):
    """Return parameters and state as bytes."""
    state = optimizer.state_dict()["state"]
    arrays = [np.asarray(param).tobytes() for param in params_of(optimizer)]
    return arrays, {n: {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in e.items()} for n, e in state.items()}


def repetitions_are_steps():
    for name in OPTIMIZERS:
        ours, cpu = build(name, "cuda"), build(name, "cpu")
        steps(ours, [0])
        replay(ours, graph := captured(ours), range(1, 6))
        steps(cpu, range(6))
        assert bits(ours) == bits(cpu), name
        # Ordinary steps between them, and the same graph again.
        steps(ours, [6])
        replay(ours, graph, [7, 8])
        steps(cpu, range(6, 9))
        assert bits(ours) == bits(cpu), name


def many_steps_settle():
    # Powers of 0.5 have vanished after 25 steps in float32: from there on the last row is right for ever.
    for name, options in [("AdamW", {"betas": (0.5, 0.25)}), ("RMSprop", {})]:
        ours, cpu = build(name, "cuda", **options), build(name, "cpu", **options)
        steps(ours, [0])
        found = [table for layout in ours._layouts for table in layout.slots[0].tables.values()]
        assert [table.settles and table.count < 30 for table in found] == [True, True]
        replay(ours, captured(ours), range(1, 35))
        steps(cpu, range(35))
        assert bits(ours) == bits(cpu), name


def the_end_of_a_table():
    for name in ("NAdam", "ASGD"):
        ours, cpu = build(name, "cuda"), build(name, "cpu")
        ours.table_rows = 5
        steps(ours, [0])
        graph = captured(ours)
        replay(ours, graph, range(1, 5))
        steps(cpu, range(5))
        assert bits(ours) == bits(cpu), name
        with pytest.raises(RuntimeError, match="run one step first"):
            captured(ours)
        # An ordinary step fills it again, where it was: the graph goes on.
        steps(ours, [5])
        replay(ours, graph, range(6, 10))
        steps(cpu, range(5, 10))
        assert bits(ours) == bits(cpu), name
        saved = ours.state_dict()
        replay(ours, graph, [10])
        entry = ours.state[params_of(ours)[0]]
        message = "has repeated 6 steps since the last ordinary one, but there were scalars for 5: the last 1 used"
        for look in (ours.state_dict, ours.step, lambda entry=entry: entry["step"], partial(copy.deepcopy, ours)):
            with pytest.raises(RuntimeError, match=message):
                look()
        ours.load_state_dict(saved)
        assert ours.state[params_of(ours)[0]]["step"] == 10
        # Ordinary steps alone never see the end.
        steps(ours, range(10, 17))
        assert ours.state[params_of(ours)[0]]["step"] == 17


def options_that_change():
    for name in ("Adam", "NAdam", "ASGD"):
        ours, cpu = build(name, "cuda"), build(name, "cpu")
        steps(ours, [0])
        graph = captured(ours)
        replay(ours, graph, [1])
        steps(cpu, [0, 1])
        for optimizer in (ours, cpu):
            optimizer.param_groups[0]["lr"] = 0.05
        with pytest.raises(RuntimeError, match="run one step first"):
            captured(ours)
        steps(ours, [2])
        replay(ours, captured(ours), [3])
        # The table is where it was: the first graph has the new learning rate too.
        replay(ours, graph, [4])
        steps(cpu, range(2, 5))
        assert bits(ours) == bits(cpu), name


def learning_rates_that_are_arrays():
    lr = np.array(0.1)
    ours, cpu = build("Adam", "cuda", lr=lr), build("Adam", "cpu", lr=lr)
    for seed, value in [(0, 0.1), (2, 0.2)]:
        lr[...] = value
        steps(ours, [seed])
        replay(ours, captured(ours), [seed + 1])
        steps(cpu, [seed, seed + 1])
    assert bits(ours) == bits(cpu)


def the_state_that_users_see():
    optimizer, cpu = build("NAdam", "cuda"), build("NAdam", "cpu")
    entry, expected = (some.state[params_of(some)[0]] for some in (optimizer, cpu))
    steps(optimizer, [0])
    graph = captured(optimizer)
    assert entry["step"] == 1, "a captured step does not run"
    replay(optimizer, graph, [1, 2])
    steps(cpu, range(3))
    assert entry["step"] == 3
    assert entry["mu_product"] == expected["mu_product"]


def the_counter_is_read_once(monkeypatch):
    optimizer, reads, real = build("Adam", "cuda"), [], tables.Table.read
    steps(optimizer, [0])
    monkeypatch.setattr(tables.Table, "read", lambda table: reads.append(table) or real(table))
    optimizer.state_dict()
    assert len(reads) == 2, "one for each group"


def checkpoints_after_repetitions():
    for name in ("Adam", "NAdam", "ASGD", "Rprop"):
        ours, cpu = build(name, "cuda"), build(name, "cpu")
        steps(ours, [0])
        replay(ours, captured(ours), range(1, 4))
        there = build(name, "cpu")
        for param, value in zip(params_of(there), params_of(ours), strict=True):
            param.data[...] = np.asarray(value)
        there.load_state_dict(pickle.loads(pickle.dumps(ours.state_dict())))
        moved = copy.deepcopy(ours)
        moved.to("cpu")
        for optimizer in (there, moved, ours):
            steps(optimizer, [4, 5])
        steps(cpu, range(6))
        assert bits(there) == bits(moved) == bits(ours) == bits(cpu), name
        ours.load_state_dict(cpu.state_dict())
        with pytest.raises(RuntimeError, match="run one step first"):
            captured(ours)
        steps(ours, [6])
        replay(ours, captured(ours), [7, 8])
        steps(cpu, range(6, 9))
        assert bits(ours) == bits(cpu), name


def written_state():
    ours, cpu = build("Adam", "cuda"), build("Adam", "cpu")
    steps(ours, [0])
    graph = captured(ours)
    replay(ours, graph, [1])
    steps(cpu, [0, 1])
    write(ours, 7)
    write(cpu, 7)
    with pytest.raises(RuntimeError, match="run one step first"):
        captured(ours)
    steps(ours, [2])
    replay(ours, graph, [3])
    steps(cpu, [2, 3])
    assert bits(ours) == bits(cpu)
    write(ours, 1)
    replay(ours, graph, [4])
    with pytest.raises(RuntimeError, match=r"go on from a state with {'step': 9}, but meanwhile the state has changed"):
        ours.state_dict()


def write(optimizer, step):
    for param in params_of(optimizer):
        optimizer.state[param]["step"] = step


def gradients_that_are_missing():
    ours, cpu = build("Adam", "cuda"), build("Adam", "cpu")
    steps(ours, [0])
    both = captured(ours)
    replay(ours, both, [1])
    steps(cpu, [0, 1])
    for optimizer in (ours, cpu):
        params_of(optimizer)[1].grad = None
    with pytest.raises(RuntimeError, match="run one step first"):
        captured(ours)
    steps(ours, [2])
    replay(ours, captured(ours), [3, 4])
    steps(cpu, range(2, 5))
    assert bits(ours) == bits(cpu)
    assert [ours.state[param]["step"] for param in params_of(ours)] == [5, 2, 5, 5]
    for optimizer in (ours, cpu):
        param = params_of(optimizer)[1]
        param.grad = param.data
        steps(optimizer, [5, 6])
    assert bits(ours) == bits(cpu)


def captures_that_cannot_be():
    formulas = "foreach=True and fused=False cannot be captured"
    for options, why in [({}, "run one step first"), ({"foreach": True}, formulas), ({"fused": False}, formulas)]:
        optimizer = build("Adam", "cuda", **options)
        before = bits(optimizer)
        with pytest.raises(RuntimeError, match=why), capturing():
            optimizer.step()
        assert bits(optimizer) == before


def a_launch_that_fails(monkeypatch):
    ours, cpu = build("Adam", "cuda"), build("Adam", "cpu")
    steps(ours, [0])
    with monkeypatch.context() as patch:
        patch.setattr(kernels.adam.amsgrad_cpu, "twin", None)
        with pytest.raises(AttributeError, match="launch"):
            ours.step()
    steps(ours, [1, 2])
    steps(cpu, range(3))
    assert bits(ours) == bits(cpu)


def without_the_option():
    ours, cpu = build("Adam", "cuda", capturable=False), build("Adam", "cpu")
    steps(ours, [0])
    assert not any(layout.slots[0].tables for layout in ours._layouts)
    for number, capturable in enumerate([True, False, True], 1):
        for group in ours.param_groups:
            group["capturable"] = capturable
        steps(ours, [number])
        if capturable:
            replay(ours, captured(ours), [10])
    steps(cpu, [0, 1, 10, 2, 3, 10])
    assert bits(ours) == bits(cpu)
    # Of a class that does not have it, it is a user's own.
    ours = optim.SGD([{"params": [optim.Parameter(numbers((3,), 0), device="cuda")], "capturable": True}], momentum=0.9)
    steps(ours, [0])
    assert not ours._layouts[0].slots[0].tables


def gradients_that_come_and_go():
    built = build("Adam", "cuda"), build("Adam", "cpu")
    for seed in range(6):
        for optimizer in built:
            for number, param in enumerate(params_of(optimizer)):
                param.grad = None if number == seed % 3 else param.data
            steps(optimizer, [seed])
    assert bits(built[0]) == bits(built[1])
    # Tables that no graph knows and that fit no state are dropped.
    assert all(len(layout.slots[0].tables) <= 3 for layout in built[0]._layouts)


def tables_of_one_state_are_computed_once(monkeypatch):
    computed, real = [], tables._rows
    monkeypatch.setattr(tables, "_rows", lambda *a: computed.append(a) or real(*a))
    optimizers = build("NAdam", "cuda"), build("NAdam", "cpu")
    for optimizer, device in zip(optimizers, ("cuda", "cpu"), strict=True):
        more = [optim.Parameter(numbers((2,), seed), device=device) for seed in range(3)]
        more[0].grad, more[2].grad = more[0].data, more[2].data
        optimizer.add_param_group({"params": more})
        steps(optimizer, [0, 1])
    assert len(computed) == 3, "one for each group, though the last has two runs"
    assert bits(optimizers[0]) == bits(optimizers[1])


SCENARIOS = [
    repetitions_are_steps,
    many_steps_settle,
    the_end_of_a_table,
    options_that_change,
    learning_rates_that_are_arrays,
    the_state_that_users_see,
    the_counter_is_read_once,
    checkpoints_after_repetitions,
    written_state,
    gradients_that_are_missing,
    gradients_that_come_and_go,
    tables_of_one_state_are_computed_once,
    captures_that_cannot_be,
    a_launch_that_fails,
    without_the_option,
]


def main():
    """Print what went wrong in each scenario, as JSON."""
    found = {}
    optim.Optimizer.table_rows = 30
    for scenario in SCENARIOS:
        with pytest.MonkeyPatch.context() as monkeypatch:
            try:
                scenario(*[monkeypatch] * scenario.__code__.co_argcount)
                found[scenario.__name__] = ""
            except BaseException:  # noqa: BLE001
                found[scenario.__name__] = traceback.format_exc()
    json.dump(found, sys.stdout)


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in SCENARIOS])
def test_in_the_simulator(simulation, name):
    assert not simulation[name], simulation[name]


if __name__ == "__main__":
    main()
