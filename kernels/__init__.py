"""The algorithms as one scalar rule each, with the loop that runs it on the CPU and the kernel that runs it on CUDA.

A module is imported when it is first named (``kernels.adam``), so that importing refoptim does not import Numba.
"""

from typing import Any

from refoptim.kernels.interrupts import imported


def __getattr__(stem: str) -> Any:
    if stem.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {stem!r}")
    try:
        return imported(f"{__name__}.{stem}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{stem}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {stem!r}") from error
