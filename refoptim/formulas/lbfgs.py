"""L-BFGS as published: the two-loop recursion, and what goes into it."""

from collections.abc import Sequence
from typing import Any

from .namespace import namespace

# A step, and the change of the gradient along it.
Pair = tuple[Any, Any]


def direction(g: Any, pairs: Sequence[Pair]) -> Any:
    r"""Return minus the approximate inverse Hessian times the gradient, given pairs from the oldest to the newest.

    .. math::
        q &= -g \\
        \alpha_i &= \frac{s_i^\top q}{y_i^\top s_i}, \quad q \leftarrow q - \alpha_i y_i
            && \text{from the newest to the oldest} \\
        r &= \frac{y_m^\top s_m}{y_m^\top y_m} q && \text{with the newest} \\
        \beta_i &= \frac{y_i^\top r}{y_i^\top s_i}, \quad r \leftarrow r + (\alpha_i - \beta_i) s_i
            && \text{from the oldest to the newest}

    where each pair is a step :math:`s` and the change :math:`y` of the gradient along it. Without pairs it is
    :math:`-g`.
    """
    r, alphas = -g, []
    for s, y in reversed(pairs):
        alphas.append(_dot(s, r) / _dot(y, s))
        r = r - alphas[-1] * y
    if pairs:
        s, y = pairs[-1]
        r = _dot(y, s) / _dot(y, y) * r
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - _dot(y, r) / _dot(y, s)) * s
    return r


def remembered(pairs: Sequence[Pair], s: Any, y: Any, *, m: int, least: Any) -> list[Pair]:
    r"""Return the last m pairs with the new one, or the old ones where :math:`y^\top s` is not above the least."""
    return [*pairs, (s, y)][-m:] if _dot(y, s) > least else list(pairs)


def first_step(g: Any, gamma: Any) -> Any:
    r"""Return :math:`\gamma \min(1, 1 / \|g\|_1)`, the step size of the first iteration."""
    size = namespace(g).abs(g).sum()
    return gamma / size if size > 1 else gamma


def _dot(x: Any, y: Any) -> Any:
    return (x * y).sum()
