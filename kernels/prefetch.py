"""Ask the memory for what a loop needs next, in code that is being generated."""

from typing import Any

from llvmlite import ir

LINE = 64  # bytes that the memory sends at once

_BYTE, _FLAG = ir.IntType(8).as_pointer(), ir.IntType(32)
_KIND = ir.FunctionType(ir.VoidType(), [_BYTE, _FLAG, _FLAG, _FLAG])


def ask_for(builder: Any, start: Any, size: int, cache: int = 1) -> None:
    """Ask for the lines that so many bytes lie in, to be read, into the first or the second cache.

    A pointer that nothing is at does no harm.
    """
    fetch = builder.module.declare_intrinsic("llvm.prefetch", [_BYTE], _KIND)
    start = builder.bitcast(start, _BYTE)
    for place in range(0, size, LINE):
        line = builder.gep(start, [ir.IntType(64)(place)])
        builder.call(fetch, [line, _FLAG(0), _FLAG(4 - cache), _FLAG(1)])
