"""The judge of answers: how far each number is from the exact one, in ulps of the largest that it has been."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.runner.outcome import Divergence, Grade, Result, Status
from refoptim.conformance.vectors.encoding import DTYPES, from_hex, real_of, to_hex, wide_from_hex
from refoptim.conformance.vectors.vector import Vector

Array = NDArray[Any]

WEAK = 64  # budgets up to which a formula is right, though its numbers are weak


class MalformedAnswer(Exception):  # noqa: N818  what an answer is, not what this program did
    """An answer is not what the protocol asks for: never a pass, never a skip."""


class WrongCalls(Exception):  # noqa: N818  what an answer shows, not what this program did
    """A minimizer called its closure another number of times."""


class Compared(NamedTuple):
    """One quantity of one parameter at one step, beside what is expected of it."""

    step: int
    param: str
    quantity: str
    shape: tuple[int, ...]
    got: Array
    high: Array  # what is expected, as float64
    low: Array  # and what is missing from it
    errors: Array  # in scaled ulps


def judged(vector: Vector, answer: Mapping[str, Any]) -> Result:
    """Return what an answer is worth.

    Raises:
        MalformedAnswer: it is not an answer to this vector's problem.

    """
    result = Result(vector.id, vector.algorithm, vector.tier, vector.dtype, Status.CONFORMS)
    if refusal := _refusal(vector, answer, result):
        return refusal
    if vector.result == "invalid":
        return result._replace(status=Status.MISMATCH, message="answered, though the problem must be rejected")
    if vector.expect["encoding"] == "class":
        return _of_classes(vector, answer, result)
    try:
        return _of_numbers(vector, answer, result)
    except WrongCalls as error:
        return result._replace(status=Status.MISMATCH, grade=Grade.D, message=str(error))


def _refusal(vector: Vector, answer: Mapping[str, Any], result: Result) -> Result | None:
    """Return the result of an answer without numbers, or None if it has some."""
    error = answer.get("error") or {}
    told = f"{error.get('kind')}: {error.get('message')}" if isinstance(error, dict) else str(error)
    if answer.get("errored") is True:
        return result._replace(status=Status.ERRORED, message=told)
    if answer.get("skipped") is True:
        return result._replace(status=Status.SKIPPED, message=str(answer.get("reason") or "no reason given"))
    if "unsupported" in answer:
        named = answer["unsupported"]
        names = map(str, named) if isinstance(named, list) else [str(named)]
        return result._replace(status=Status.UNSUPPORTED, message=", ".join(names))
    if answer.get("rejected") is True:
        return result if vector.result == "invalid" else result._replace(status=Status.REJECTED, message=told)
    return None


def _of_numbers(vector: Vector, answer: Mapping[str, Any], result: Result) -> Result:
    worst: Compared | None = None
    first: Divergence | None = None
    share, exact, grade = -1.0, True, Grade.A
    for found in compared(vector, answer):
        budget = vector.budget[found.quantity]
        error = float(found.errors.max(initial=0.0))
        grade = max(grade, _grade(error, budget), key=list(Grade).index)
        exact = exact and bool(np.array_equal(found.got, found.high.astype(found.got.dtype)))
        if error > budget["A"] and first is None:
            first = _divergence(found, budget["A"])
        if error / budget["A"] > share or math.isnan(error):
            share, worst = error / budget["A"], found
    if worst is None:
        raise MalformedAnswer("the answer has nothing that could be compared")
    status = Status.MISMATCH if grade in (Grade.C, Grade.D) else Status.CONFORMS
    return result._replace(
        status=status,
        grade=Grade.EXACT if exact else grade,
        sulp=float(worst.errors.max(initial=0.0)),
        budget=vector.budget[worst.quantity]["A"],
        quantity=worst.quantity,
        divergence=first,
    )


def _grade(error: float, budget: Mapping[str, float]) -> Grade:
    limits = ((Grade.A, budget["A"]), (Grade.B, budget["B"]), (Grade.C, WEAK * budget["A"]))
    return next((grade for grade, limit in limits if error <= limit), Grade.D)


def _divergence(found: Compared, budget: float) -> Divergence:
    at = int(np.argmax(~(found.errors <= budget)))
    return Divergence(
        found.step,
        found.param,
        place(at, found.shape, found.errors.size),
        found.quantity,
        f"{to_hex(found.got[at : at + 1])} ({float(found.got[at])!r})",
        f"{to_hex(found.high[at : at + 1])} ({float(found.high[at])!r})",
        float(found.errors[at]),
        budget,
    )


def place(at: int, shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return where an element is, given its place among all real numbers of an array."""
    count = math.prod(shape)
    whole = shape if size == count else (*shape, 2) if size == 2 * count else (size,)
    return tuple(int(i) for i in np.unravel_index(at, whole)) if whole else ()


def compared(vector: Vector, answer: Mapping[str, Any]) -> Iterator[Compared]:
    """Yield everything that an answer says beside what is expected, in order of time, state before parameters."""
    compare = {"trajectory": _trajectory, "schedule": _schedule, "trace": _trace}[vector.type]
    yield from compare(vector, answer)


def _trajectory(vector: Vector, answer: Mapping[str, Any]) -> Iterator[Compared]:
    shapes = {p["name"]: tuple(p["shape"]) for p in vector.problem["params"]}
    record = sorted(vector.problem["record"])
    after = _checked_list(answer, "after", len(record))
    largest: dict[tuple[str, str], Array] = {
        (p["name"], "theta"): np.abs(from_hex(p["init"], real_of(vector.dtype)).astype(np.float64))
        for p in vector.problem["params"]
    }
    for step, expected, got in zip(record, vector.expect["after"], after, strict=True):
        for param, quantities in expected.items():
            entry = _entry(got, param, step)
            for quantity in sorted(quantities, key=lambda name: name == "theta"):
                high, low = wide_from_hex(quantities[quantity], vector.expect["encoding"])
                largest[param, quantity] = np.maximum(largest.get((param, quantity), 0.0), np.abs(high))
                if quantity in entry:  # an implementation need not show its state
                    values = _numbers(entry[quantity], vector.dtype, high.size, f"{quantity} of {param!r}")
                    scale = largest[param, quantity]
                    scale = np.full_like(scale, scale.max(initial=0.0)) if vector.expect["scale"] == "tensor" else scale
                    errors = scaled_errors(values, high, low, scale)
                    yield Compared(step, param, quantity, shapes[param], values, high, low, errors)


def _schedule(vector: Vector, answer: Mapping[str, Any]) -> Iterator[Compared]:
    columns = _checked_list(answer, "lr", len(vector.expect["lr"]))
    epochs = vector.problem["record"]
    read = [wide_from_hex(column, vector.expect["encoding"]) for column in vector.expect["lr"]]
    values = [_numbers(text, "f64", len(epochs), f"column {i}") for i, text in enumerate(columns)]
    for k, epoch in enumerate(epochs):
        for i, ((high, low), got) in enumerate(zip(read, values, strict=True)):
            at = slice(k, k + 1)
            scale = np.abs(high[: k + 1]).max(keepdims=True)
            quantity = "lr" if i < len(vector.problem["lr"]) else "momentum"
            errors = scaled_errors(got[at], high[at], low[at], scale)
            name = f"group {i % len(vector.problem['lr'])}"
            yield Compared(epoch, name, quantity, (), got[at], high[at], low[at], errors)


def _trace(vector: Vector, answer: Mapping[str, Any]) -> Iterator[Compared]:
    expected = vector.expect["calls"]
    if answer.get("per_step") != vector.expect["per_step"]:
        got = answer.get("per_step")
        raise WrongCalls(f"calls of the closure by step: {got}, expected {vector.expect['per_step']}")
    points = [*_checked_list(answer, "calls", len(expected)), answer.get("after")]
    shapes = {p["name"]: tuple(p["shape"]) for p in vector.problem["params"]}
    for step, (wanted, got) in enumerate(zip([*expected, vector.expect["after"]], points, strict=True), 1):
        for param, text in wanted.items():
            if not isinstance(got, dict) or param not in got:
                raise MalformedAnswer(f"call {step} has no {param!r}")
            high, low = wide_from_hex(text, vector.expect["encoding"])
            values = _numbers(got[param], vector.dtype, high.size, f"call {step}, {param!r}")
            scale = np.full_like(high, np.abs(high).max(initial=0.0))
            errors = scaled_errors(values, high, low, scale)
            yield Compared(step, param, "theta", shapes[param], values, high, low, errors)


def _entry(now: Any, param: str, step: int) -> Mapping[str, Any]:
    entry = now.get(param) if isinstance(now, dict) else None
    if not isinstance(entry, dict) or "theta" not in entry:
        raise MalformedAnswer(f"after step {step} there is no theta of {param!r}")
    return entry


def _checked_list(answer: Mapping[str, Any], name: str, length: int) -> list[Any]:
    found = answer.get(name)
    if not isinstance(found, list) or len(found) != length:
        got = f"{len(found)} entries" if isinstance(found, list) else repr(found)
        raise MalformedAnswer(f"{name!r} has {got}, expected a list of {length}")
    return found


def _numbers(text: Any, dtype: str, size: int, what: str) -> Array:
    try:
        values = from_hex(text, real_of(dtype))
    except (ValueError, TypeError, AttributeError) as error:
        raise MalformedAnswer(f"{what}: {error}") from error
    if values.size != size:
        raise MalformedAnswer(f"{what} has {values.size} numbers, expected {size}")
    return values


def scaled_errors(got: Array, high: Array, low: Array, scale: Array, kind: type[np.floating] | None = None) -> Array:
    """Return errors in ulps of the larger of the exact value and what it has been; infinite where not a number.

    Args:
        got: the numbers.
        high: the exact values, as float64.
        low: what is missing from these.
        scale: the largest that the exact values have been.
        kind: whose ulps (default: those of the numbers' own dtype).

    """
    kind = kind or got.dtype.type
    ulps = np.spacing(np.minimum(scale, np.finfo(kind).max).astype(kind)).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs((got.astype(np.float64) - high) - low) / ulps
    return np.where(np.isfinite(got), errors, np.inf)


def _of_classes(vector: Vector, answer: Mapping[str, Any], result: Result) -> Result:
    record = sorted(vector.problem["record"])
    shapes = {p["name"]: tuple(p["shape"]) for p in vector.problem["params"]}
    kind = np.dtype(DTYPES[real_of(vector.dtype)]).name
    for step, expected, got in zip(
        record, vector.expect["after"], _checked_list(answer, "after", len(record)), strict=True
    ):
        for param, quantities in expected.items():
            entry = _entry(got, param, step)
            for quantity in sorted(quantities, key=lambda name: name == "theta"):
                if quantity not in entry:
                    continue
                wanted = quantities[quantity]
                values = _numbers(entry[quantity], vector.dtype, len(wanted), f"{quantity} of {param!r}")
                for at, (right, value) in enumerate(zip(wanted, values.tolist(), strict=True)):
                    if class_of(value) not in right_classes(right):
                        where = place(at, shapes[param], len(wanted))
                        shown = f"{to_hex(values[at : at + 1])} ({value!r} in {kind})"
                        wrong = Divergence(step, param, where, quantity, shown, CLASSES[right], math.inf, 0.0)
                        return result._replace(
                            status=Status.MISMATCH, grade=Grade.D, quantity=quantity, divergence=wrong
                        )
    return result._replace(grade=Grade.A)


CLASSES = {"n": "NaN", "p": "infinity", "m": "minus infinity", "z": "zero", "f": "finite, not zero", "?": "anything"}


def class_of(value: float) -> str:
    """Return the class of a number, as vectors of the tier ``special`` expect it."""
    if math.isnan(value):
        return "n"
    if math.isinf(value):
        return "p" if value > 0 else "m"
    return "z" if value == 0 else "f"


def right_classes(expected: str) -> str:
    """Return the classes that are right where this one is expected."""
    return "npmzf" if expected == "?" else expected
