"""Calls of a rule, in code that is being generated.

A rule returns the new element of its first array, then those of its last ones.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils


def changed(arrays: int, results: int) -> list[int]:
    """Return which of so many arrays a rule with so many results changes."""
    return [0, *range(arrays + 1 - results, arrays)]


def results_of(typing_context: Any, rule: Any, count: int, h: Any, number: Any = None) -> list[Any]:
    """Return the types of a rule's results, given so many numbers, or packs of them."""
    kind = rule.get_call_type(typing_context, (*[number or h[0]] * count, h), {}).return_type
    return list(getattr(kind, "types", [kind]))


def call_of(
    typing_context: Any, rule: Any, count: int, h: Any, number: Any = None
) -> tuple[Callable[..., list[Any]], int]:
    """Return what generates a call of the rule with so many numbers, or packs of them, and how many results it has."""
    signature = rule.get_call_type(typing_context, (*[number or h[0]] * count, h), {})
    results = len(results_of(typing_context, rule, count, h, number))

    def call(context: Any, builder: Any, numbers: Sequence[Any], scalars: Any) -> list[Any]:
        function = context.get_function(rule, signature)
        context.add_linking_libs(function.libs)
        result = function(builder, (*numbers, scalars))
        return cgutils.unpack_tuple(builder, result) if results > 1 else [result]

    return call, results
