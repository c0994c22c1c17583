"""Compiled loops by their addresses, for compiled code that calls them and contains nothing of them.

A program of many loops is compiled in the time that its own lines take; its loops are those that are compiled for
others, too.
"""

from typing import Any

import numpy as np
from numba import from_dtype, types
from numba.core import cgutils

from refoptim.kernels.intrinsics import intrinsic


def array_of(dtype: Any, dimensions: int = 1) -> Any:
    """Return Numba's type of C-contiguous arrays."""
    return types.Array(from_dtype(np.dtype(dtype)), dimensions, "C")


def address_of(loop: Any, kinds: tuple[Any, ...]) -> int:
    """Return where a loop is that is compiled for arguments of these types, for as long as the process lives."""
    loop.compile(kinds)
    compiled = loop.overloads[kinds]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


@intrinsic
def call(typing_context, address, arguments):
    """Call a loop that was compiled for arguments of these types, and raise what it raises."""
    kinds = tuple(map(types.unliteral, arguments))

    def generate(context, builder, signature, values):
        convention = context.call_conv
        loop = builder.inttoptr(values[0], convention.get_function_type(types.none, kinds).as_pointer())
        items = cgutils.unpack_tuple(builder, values[1])
        status, _ = convention.call_function(builder, loop, types.none, kinds, items)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(address, arguments), generate
