"""Smoke: three problems that tell a wrong harness from a wrong optimizer, whose answers anybody can see."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refoptim.conformance.runner.hello import hello
from refoptim.conformance.runner.transport import ProtocolError, Transport
from refoptim.conformance.vectors.encoding import DTYPES, encoded_options, to_hex

Array = NDArray[Any]

# Every kind of number whose bits a harness may lose: both zeros, subnormal, the largest, and such as decimals round.
_BITS = [0.0, -0.0, 2.0**-149, -(2.0**-130), 0.1, -1 / 3, 2.0**127 * (2 - 2.0**-23), 16777217.0]


class Smoke(NamedTuple):
    """A problem whose answer anybody can see."""

    name: str
    theta: Array
    grad: Array | None
    lr: float
    after: Array
    hint: str


def problems(dtype: str = "f32") -> list[Smoke]:
    """Return the problems."""
    bits = np.array(_BITS).astype(DTYPES[dtype])
    ordinary = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -0.1]]).astype(DTYPES[dtype])
    zeros = np.zeros_like(ordinary)
    return [
        Smoke("echo", bits, None, 1.0, bits, "numbers do not survive: they are big-endian bits in hexadecimal digits"),
        Smoke("stands still", ordinary, ordinary, 0.0, ordinary, "a learning rate of 0 must not move anything"),
        Smoke(
            "reaches zero",
            ordinary,
            ordinary,
            1.0,
            zeros,
            "theta - 1 * theta is 0: is the step's lr used, and its grads?",
        ),
    ]


def smoke(transport: Transport, suite: str, dtype: str = "f32") -> list[tuple[str, str]]:
    """Return each problem's name and what is wrong with its answer, nothing where it is right.

    Raises:
        ProtocolError: the harness does not say who it is.

    """
    claims = hello(transport, suite)
    optimizers = claims.get("optimizers")
    if optimizers is not None and "SGD" not in optimizers:
        return [("SGD", "the harness does not have it, and these problems are about nothing else")]
    return [(p.name, _wrong(transport, seq, p, dtype)) for seq, p in enumerate(problems(dtype), 1)]


def _wrong(transport: Transport, seq: int, problem: Smoke, dtype: str) -> str:
    try:
        found = transport.ask({"cmd": "run", "seq": seq, "problem": _sent(problem, dtype)})
    except ProtocolError as error:
        return str(error)
    after = found.get("after")
    try:
        got = after[0]["w"]["theta"]  # pyright: ignore[reportOptionalSubscript]
    except (TypeError, LookupError):
        return f"no theta of 'w' after step 1 in {str(found)[:120]}"
    right = to_hex(problem.after)
    # Both zeros are right where a difference is 0.
    same = str(got).lower() == right or (not problem.after.any() and set(str(got)) <= {"0", "8"})
    return "" if same else f"got {got}, expected {right}: {problem.hint}"


def _sent(problem: Smoke, dtype: str) -> dict[str, Any]:
    options = {"lr": problem.lr, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0}
    options |= {"nesterov": False, "maximize": False}
    return {
        "algorithm": "SGD",
        "dtype": dtype,
        "params": [{"name": "w", "shape": list(problem.theta.shape), "init": to_hex(problem.theta)}],
        "groups": [{"params": ["w"], "options": encoded_options(options)}],
        "steps": [
            {
                "lr": [to_hex(np.array([problem.lr]))],
                "grads": {"w": None if problem.grad is None else to_hex(problem.grad)},
            }
        ],
        "record": [1],
    }
