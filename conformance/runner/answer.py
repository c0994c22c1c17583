"""The protocol's answers, given by an adapter: what a harness in another language has to write for itself."""

import json
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

import numpy as np

from refoptim.conformance.runner.adapter import Adapter, Rejected, Skip, Unsupported
from refoptim.conformance.vectors.encoding import from_hex, to_hex
from refoptim.conformance.vectors.vector import Trajectory, decoded

PROTOCOL = 1

Message = dict[str, Any]


def answer(adapter: Adapter, request: Mapping[str, Any]) -> Message:
    """Return what an implementation says to a request, whatever happens to it."""
    seq = {"seq": request["seq"]} if "seq" in request else {}
    command = _COMMANDS.get(request.get("cmd", ""))
    if command is None:
        return seq | {"errored": True, "error": {"kind": "UnknownCommand", "message": f"{request.get('cmd')!r}"}}
    try:
        return seq | command(adapter, request)
    except Unsupported as error:
        return seq | {"unsupported": [str(part) for part in error.args]}
    except Skip as error:
        return seq | {"skipped": True, "reason": str(error)}
    except Rejected as error:
        return seq | {"rejected": True, "error": _described(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever an implementation does is an answer
        return seq | {"errored": True, "error": _described(error) | {"traceback": traceback.format_exc()}}


def serve(adapter: Adapter, lines: Iterable[str], output: TextIO) -> None:
    """Answer requests, a line of JSON each, until there are no more or one says bye."""
    for line in lines:
        request = json.loads(line)
        if request.get("cmd") == "bye":
            return
        output.write(json.dumps(answer(adapter, request)) + "\n")
        output.flush()


def _described(error: BaseException) -> Message:
    return {"kind": type(error).__name__, "message": str(error)}


def _hello(adapter: Adapter, _: Mapping[str, Any]) -> Message:
    info = adapter.info
    who = {"name": info.name, "version": info.version, "language": info.language, "homepage": info.homepage}
    what = {"optimizers": info.optimizers, "schedulers": info.schedulers, "dialect": info.dialect}
    return {"ok": True, "protocol": PROTOCOL, "implementation": who, **what}


def _run(adapter: Adapter, request: Mapping[str, Any]) -> Message:
    problem = decoded("trajectory", request["problem"])
    assert isinstance(problem, Trajectory)
    _started(adapter, problem)
    after = []
    for t, step in enumerate(problem.steps, 1):
        adapter.step(step.grads, step.lrs)
        if t in problem.record:
            after.append(_now(adapter))
    return {"after": after}


def _step(adapter: Adapter, request: Mapping[str, Any]) -> Message:
    problem = decoded("trajectory", request["problem"])
    assert isinstance(problem, Trajectory)
    _started(adapter, problem)
    state = {
        name: {key: from_hex(text, problem.dtype) for key, text in entry.items() if key != "step"}
        for name, entry in request["start"].items()
    }
    params = {name: entry.pop("theta").reshape(problem.params[name].shape) for name, entry in state.items()}
    for name, entry in state.items():
        # State of the parameter's size has its shape; rows and columns of a factored one are smaller.
        same = {key for key, array in entry.items() if array.size == params[name].size}
        entry.update({key: entry[key].reshape(params[name].shape) for key in same})
    adapter.load(params, state, {name: entry["step"] for name, entry in request["start"].items()})
    adapter.step(problem.steps[0].grads, problem.steps[0].lrs)
    return {"after": [_now(adapter)]}


def _started(adapter: Adapter, problem: Trajectory) -> None:
    try:
        adapter.start(problem)
    except ValueError as error:
        raise Rejected(str(error)) from error


def _now(adapter: Adapter) -> Message:
    state = adapter.state()
    return {
        name: {"theta": to_hex(np.asarray(array))}
        | {key: to_hex(np.asarray(value)) for key, value in state.get(name, {}).items()}
        for name, array in adapter.params().items()
    }


def _schedule(adapter: Adapter, request: Mapping[str, Any]) -> Message:
    try:
        columns = adapter.schedule(decoded("schedule", request["problem"]))  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise Rejected(str(error)) from error
    return {"lr": [to_hex(np.array(column, np.float64)) for column in columns]}


def _trace(adapter: Adapter, request: Mapping[str, Any]) -> Message:
    calls = adapter.trace(decoded("trace", request["problem"]))  # pyright: ignore[reportArgumentType]
    points = [{name: to_hex(array) for name, array in point.items()} for point in calls.points]
    after = {name: to_hex(array) for name, array in calls.params.items()}
    return {"calls": points, "per_step": calls.per_step, "after": after}


_COMMANDS: dict[str, Callable[[Adapter, Mapping[str, Any]], Message]] = {
    "hello": _hello,
    "run": _run,
    "step": _step,
    "schedule": _schedule,
    "trace": _trace,
}
