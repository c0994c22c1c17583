"""Clipping of gradients, under the names of ``torch.nn.utils``."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from . import kernels
from .arrays import is_half, library, unmasked
from .buffers import ACCEPTED, REAL_TYPE
from .cpu import CPU
from .devices import device_of, to_host
from .kernels.interrupts import Uninterrupted
from .neighbours import is_neighbour
from .parameter import Parameter
from .places import flat
from .scalars import number
from .sparse import SparseGrad

# Keeps the quotient finite where the norm is 0, as in torch.
_EPS = 1e-6


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,  # noqa: ARG001
) -> Any:
    r"""Scale gradients down, in place, so that together they have at most this norm. Return the norm they had.

    .. math:: g \gets g \cdot \min\left(1, \frac{\text{max\_norm}}{\|g\|_p + 10^{-6}}\right)

    The norm is taken over all gradients as one vector, in parameter order, and does not depend on how they are cut into
    parameters, on the number of threads or on the device. The quotient is float64 and of the norm before its rounding;
    each element is rounded once. So a norm of exactly ``max_norm`` is scaled too, by 1e-6 less than 1, as in torch. For
    gradients on a GPU the host waits for the norm, and does not wait for the scaling. Gradients on several devices are
    copied to the host to take their norm.

    Args:
        parameters: one :class:`Parameter` or any number. Those without a gradient are left out.
        max_norm: the largest norm that stays as it is, at least 0. With inf, finite gradients stay as they are.
        norm_type: the p of the p-norm, any number or ``"inf"`` (default: 2.0). 0 counts the gradients that have an
            element other than 0.
        error_if_nonfinite: raise where the norm is NaN or infinite (default: False, where NaN makes all elements NaN,
            and an infinite norm makes finite elements 0 and infinite ones NaN).
        foreach: accepted for torch's sake; there is one implementation, and it is the fast one.

    Returns:
        The norm as a NumPy scalar of the gradients' own precision, the widest if they differ, and float32 for those of
        16 bits, whose norm may be beyond float16; 0.0 without gradients.

    Raises:
        ValueError: max_norm is negative or NaN, or norm_type is NaN. torch scales by a negative factor there.
        TypeError: something is no Parameter or no number, or a gradient carries another library's derivatives.
        RuntimeError: the norm is NaN or infinite, and ``error_if_nonfinite`` is set. Nothing has been changed.

    >>> p = Parameter([1.0, 2.0])
    >>> p.grad = np.array([3.0, 4.0])
    >>> clip_grad_norm_(p, max_norm=1.0)
    np.float64(5.0)
    >>> p.grad
    array([0.59999988, 0.79999984])

    """
    params = _with_grad(parameters)
    limit, p = _checked_max_norm(max_norm), _checked_norm_type(norm_type)
    runs = _runs(params)
    # 0 asks how many gradients there are; otherwise neighbours are one.
    grads = [param.grad for param in params] if p == 0 else [_gradient(run) for run in runs]
    total = _total_norm(grads, p)
    rounded = _rounded(total, grads, p, error_if_nonfinite)
    _scale(runs, limit, total)
    return rounded


def get_total_norm(
    tensors: Any,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,  # noqa: ARG001
) -> Any:
    """Return the norm of some arrays, taken as one vector.

    Args:
        tensors: one array or any number, of the dtypes of parameters, or of :class:`SparseGrad`; also on a GPU.
        norm_type: as in :func:`clip_grad_norm_` (default: 2.0).
        error_if_nonfinite: as in :func:`clip_grad_norm_` (default: False).
        foreach: as in :func:`clip_grad_norm_`.

    Returns:
        The norm as a NumPy scalar, within 1 ulp of the exact one for a norm_type of 0, 1, 2, inf or -inf.

    Raises:
        ValueError: norm_type is NaN.
        TypeError: an array is of another dtype.
        RuntimeError: the norm is NaN or infinite, and ``error_if_nonfinite`` is set.

    >>> get_total_norm([np.array([1.0, 2.0], np.float32), np.array([[2.0]], np.float32)])
    np.float32(3.0)

    """
    p = _checked_norm_type(norm_type)
    # Arrays of all libraries have a dtype, lists and generators of them have none.
    grads = [tensors] if hasattr(tensors, "dtype") else list(tensors)
    grads = [grad if isinstance(grad, SparseGrad) else _checked_array(grad) for grad in grads]
    return _rounded(_total_norm(grads, p), grads, p, error_if_nonfinite)


def clip_grads_with_norm_(
    parameters: Parameter | Iterable[Parameter],
    max_norm: float,
    total_norm: Any,
    foreach: bool | None = None,  # noqa: ARG001
) -> None:
    """Scale gradients down, in place, by the factor of :func:`clip_grad_norm_` for a norm that is known.

    Args:
        parameters: one :class:`Parameter` or any number. Those without a gradient are left out.
        max_norm: the largest norm that stays as it is, at least 0.
        total_norm: the norm, as :func:`get_total_norm` returns it.
        foreach: as in :func:`clip_grad_norm_`.

    Raises:
        ValueError: max_norm is negative or NaN, or total_norm is negative.
        TypeError: something is no Parameter or no number, or a gradient carries another library's derivatives.

    >>> p = Parameter([1.0, 2.0])
    >>> p.grad = np.array([3.0, 4.0])
    >>> clip_grads_with_norm_(p, max_norm=10.0, total_norm=get_total_norm(p.grad))
    >>> p.grad
    array([3., 4.])

    """
    params, total = _with_grad(parameters), number("total_norm", total_norm)
    if total < 0:
        raise ValueError(f"Invalid total_norm: {total_norm}; it must be at least 0")
    _scale(_runs(params), _checked_max_norm(max_norm), total)


def clip_grad_value_(
    parameters: Parameter | Iterable[Parameter],
    clip_value: float,
    foreach: bool | None = None,  # noqa: ARG001
) -> None:
    """Bring every element of the gradients, in place, into [-clip_value, clip_value]. NaN stays.

    Args:
        parameters: one :class:`Parameter` or any number. Those without a gradient are left out.
        clip_value: the largest magnitude that stays as it is, at least 0.
        foreach: as in :func:`clip_grad_norm_`.

    Raises:
        ValueError: clip_value is negative or NaN. torch makes all elements the same there.
        TypeError: something is no Parameter or no number, or a gradient is complex or carries another library's
            derivatives.

    >>> p = Parameter([1.0, 2.0, 3.0])
    >>> p.grad = np.array([-3.0, 0.5, 4.0])
    >>> clip_grad_value_(p, 1.0)
    >>> p.grad
    array([-1. ,  0.5,  1. ])

    """
    params, bound = _with_grad(parameters), number("clip_value", clip_value)
    if not bound >= 0:
        raise ValueError(f"Invalid clip_value: {clip_value}; it must be at least 0")
    for param in params:
        if param.dtype.kind == "c":
            raise TypeError(f"complex numbers have no order to clip by, but {param!r} has a complex gradient")
    _change(_runs(params), lambda flat: kernels.scaling.clamp(flat, bound))


def _with_grad(parameters: Parameter | Iterable[Parameter]) -> list[Parameter]:
    """Return the parameters that have a gradient, each once. Raise if one has a gradient that cannot be clipped."""
    params = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    if not params and isinstance(parameters, Iterator):
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=3)
    found = {}
    for param in params:
        if not isinstance(param, Parameter):
            raise TypeError(f"parameters must be of type Parameter, but one is of type {type(param).__name__!r}")
        grad = param.grad
        if isinstance(grad, (np.ndarray, SparseGrad)) or _is_flat(param):
            found[param] = None
        elif grad is not None:
            raise TypeError(
                f"the gradient of {param!r} is of type {type(grad).__name__!r} and cannot be changed in place: "
                f"clip it with {library(grad)} and assign the result"
            )
    return list(found)


def _checked_max_norm(max_norm: Any) -> float:
    limit = number("max_norm", max_norm)
    if not limit >= 0:
        raise ValueError(f"Invalid max_norm: {max_norm}; it must be at least 0")
    return limit


def _checked_norm_type(norm_type: Any) -> float:
    if isinstance(norm_type, str):  # "inf", "-inf" and whatever else torch takes for a number
        with suppress(ValueError):
            norm_type = float(norm_type)
    p = number("norm_type", norm_type)
    if math.isnan(p):
        raise ValueError(f"Invalid norm_type: {norm_type}; it must be a number or 'inf'")
    return p


def _checked_array(values: Any) -> Any:
    place = device_of(values)
    array = unmasked(values, "an array") if place is CPU else place.kernels_array(values)
    if array.dtype not in REAL_TYPE:
        raise TypeError(f"norms are taken of {', '.join(ACCEPTED)}, but an array is of {array.dtype}")
    return array


def _runs(params: list[Parameter]) -> list[list[Parameter]]:
    """Return the parameters in runs, the gradients of each run one flat array."""
    runs: list[list[Parameter]] = []
    last = None
    for param in params:
        if last is not None and is_neighbour(last, param) and _is_flat(param):
            runs[-1].append(param)
        else:
            runs.append([param])
        last = param if _is_flat(param) else None
    return runs


def _is_flat(param: Parameter) -> bool:
    return param.buffer is not None and param.has_flat_grad


def _gradient(run: list[Parameter]) -> Any:
    """Return the gradients of a run: as one flat array that shares their memory, or the one that lies elsewhere."""
    first, last = run[0], run[-1]
    if first.buffer is None or not first.has_flat_grad:
        return first.grad
    return first.buffer.grad.view(first.dtype)[first.offset : last.offset + last.size]


def _elements(grad: Any, p: float) -> Any:
    """Return a gradient as a flat array of real numbers that has its p-norm."""
    if isinstance(grad, SparseGrad):
        # The elements that are left out are 0, which only a negative p notices.
        grad = grad.to_dense() if p < 0 else grad.coalesce().values
    if grad.dtype.kind == "c" and p != 2:
        grad = np.abs(to_host(grad).astype(np.complex128))
    values = flat(grad)
    return values if values.dtype.kind != "c" else values.view(REAL_TYPE[values.dtype])


def _total_norm(grads: list[Any], p: float) -> float:
    arrays = [array for array in (_elements(grad, p) for grad in grads) if array.size]
    places = {device_of(array) for array in arrays}
    if len(places) > 1:
        arrays, places = list(map(to_host, arrays)), {CPU}
    with next(iter(places), CPU).here():
        if p == 0:
            # The norm of the norms, as torch documents it.
            return float(sum(kernels.reductions.largest_magnitude(array) != 0 for array in arrays))
        return kernels.reductions.norm(arrays, p) if arrays else 0.0


def _rounded(total: float, grads: list[Any], p: float, error_if_nonfinite: bool) -> Any:
    """Return the norm in the gradients' own precision, in float32 where that has 16 bits."""
    kinds = {np.dtype(np.float32) if is_half(grad.dtype) else REAL_TYPE[np.dtype(grad.dtype)] for grad in grads}
    dtype = np.result_type(*kinds) if kinds else np.dtype(np.float64)
    with np.errstate(over="ignore"):
        rounded = dtype.type(total)
    if error_if_nonfinite and not np.isfinite(rounded):
        raise RuntimeError(
            f"The total norm of order {p} for gradients from `parameters` is non-finite ({rounded}), so it cannot be "
            "clipped. To scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return rounded


def _scale(runs: list[list[Parameter]], max_norm: float, total: float) -> None:
    factor = max_norm / (total + _EPS)
    if not factor >= 1:
        _change(runs, lambda flat: kernels.scaling.scale(flat.view(REAL_TYPE[flat.dtype]), factor))


def _change(runs: list[list[Parameter]], change: Callable[[Any], None]) -> None:
    """Change all gradients by a function of a flat array."""
    with Uninterrupted():
        for run in runs:
            with run[0].place.here():
                _change_run(run, change)


def _change_run(run: list[Parameter], change: Callable[[Any], None]) -> None:
    grad = _gradient(run)
    if _is_flat(run[0]):
        change(grad)
    elif isinstance(grad, SparseGrad):
        summed = grad.coalesce()
        run[0].grad = SparseGrad(summed.indices, _changed(summed.values, change), summed.shape)
    else:
        run[0].grad = _changed(grad, change)


def _changed(values: Any, change: Callable[[Any], None]) -> Any:
    """Return a changed copy."""
    copy = device_of(values).duplicate(values)
    change(copy.reshape(-1))
    return copy
