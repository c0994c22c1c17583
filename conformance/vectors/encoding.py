"""Numbers as bits: big-endian IEEE in hexadecimal digits, which every language can read and no reader can round.

A tensor is one string, element after element in C order, a complex number as its real and its imaginary part. Expected
values are wider than what is judged by them: float64 for float32, and the sum of two float64 for float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = {"f32": np.float32, "f64": np.float64, "c64": np.complex64, "c128": np.complex128}
# How the numbers of a dtype are expected.
WIDER = {"f32": "f64", "f64": "f64x2", "c64": "f64", "c128": "f64x2"}


def name_of(dtype: Any) -> str:
    """Return what vectors call a dtype."""
    return next(name for name, kind in DTYPES.items() if np.dtype(kind) == np.dtype(dtype))


def real_of(name: str) -> str:
    """Return the dtype of the parts of a dtype's numbers, which errors are counted in ulps of."""
    return {"c64": "f32", "c128": "f64"}.get(name, name)


def digits(name: str) -> int:
    """Return how many hexadecimal digits a number has."""
    return 2 * np.dtype(DTYPES[name]).itemsize


def to_hex(array: Array) -> str:
    """Return an array's bits."""
    native = np.ascontiguousarray(array)
    real = native.view(np.finfo(native.dtype).dtype) if native.dtype.kind == "c" else native
    return real.astype(real.dtype.newbyteorder(">")).tobytes().hex()


def from_hex(text: str, dtype: str, shape: tuple[int, ...] | None = None) -> Array:
    """Return the array that has these bits, as a new one that can be written to.

    Args:
        text: the hexadecimal digits, in lower or upper case.
        dtype: ``"f32"``, ``"f64"``, ``"c64"`` or ``"c128"``.
        shape: the array's; default: a vector.

    Raises:
        ValueError: there are not as many digits as the shape needs, or something else than digits.

    """
    kind = np.dtype(DTYPES[dtype])
    count = None if shape is None else int(np.prod(shape, dtype=int))
    if len(text) % digits(dtype) or (count is not None and len(text) != count * digits(dtype)):
        wanted = "a multiple of " if count is None else f"{count} times "
        raise ValueError(
            f"{len(text)} hexadecimal digits for {dtype} {shape or ''}: {wanted}{digits(dtype)} are wanted"
        )
    if not text.isascii() or text != text.strip():
        raise ValueError(f"{text[:40]!r} is not made of hexadecimal digits")
    real = np.dtype(DTYPES[real_of(dtype)])
    flat = np.frombuffer(bytes.fromhex(text), real.newbyteorder(">")).astype(real).view(kind)
    return flat if shape is None else flat.reshape(shape)


def scalar(value: float) -> dict[str, str]:
    """Return a number as its bits, and as decimals for who reads it. The bits are what counts."""
    return {"dec": repr(float(value)), "f64": to_hex(np.float64(value).reshape(1))}


def number(encoded: dict[str, str]) -> float:
    """Return the number that ``scalar`` encoded."""
    return float(from_hex(encoded["f64"], "f64")[0])


def encoded_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options for JSON: floats as bits, tuples as lists; integers, booleans, words and None as they are."""
    return {name: _encoded(value) for name, value in options.items()}


def decoded_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that ``encoded_options`` encoded."""
    return {name: _decoded(value) for name, value in options.items()}


def _encoded(value: Any) -> Any:
    if isinstance(value, float):
        return scalar(value)
    if isinstance(value, (tuple, list)):
        return [_encoded(part) for part in value]
    if isinstance(value, dict):
        return encoded_options(value)
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        return number(value) if "f64" in value else decoded_options(value)
    return tuple(_decoded(part) for part in value) if isinstance(value, list) else value


def wide_from_hex(text: Any, encoding: str) -> tuple[Array, Array]:
    """Return expected values as float64 and what is missing from them to the exact ones, as float64 too."""
    if encoding == "f64":
        high = from_hex(text, "f64")
        return high, np.zeros_like(high)
    return from_hex(text["hi"], "f64"), from_hex(text["lo"], "f64")
