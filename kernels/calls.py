"""Calls of a rule, in code that is being generated.

A rule returns the new element of its first array, then those of its last ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils


def changed(arrays: int, results: int) -> list[int]:
    """Return which of so many arrays a rule with so many results changes."""
    return [0, *range(arrays + 1 - results, arrays)]


def call_of(typing_context: Any, rule: Any, count: int, h: Any) -> tuple[Callable[..., list[Any]], int]:
    """Return what generates a call of the rule with so many numbers, and how many results it has."""
    signature = rule.get_call_type(typing_context, (*[h[0]] * count, h), {})
    results = len(signature.return_type) if isinstance(signature.return_type, types.BaseTuple) else 1

    def call(context: Any, builder: Any, numbers: Sequence[Any], scalars: Any) -> list[Any]:
        function = context.get_function(rule, signature)
        context.add_linking_libs(function.libs)
        result = function(builder, (*numbers, scalars))
        return cgutils.unpack_tuple(builder, result) if results > 1 else [result]

    return call, results
