"""The CPU loops that compute in float64 over float32: pack by pack, and asking for what they will need.

A processor looks ahead at some hundred operations. Where an element takes many, those belong to elements that are near,
and the memory is not asked for others: the loop waits and computes in turn. Asked some packs ahead, it does both at
once. The hint is never wrong: behind the end of an array it asks for nothing.

The loops are made from the rule. What is left at the end is a pack, too, of which some places are nobody's.
"""

from types import FunctionType
from typing import Any

from numba import njit

from refoptim.kernels.arithmetic import unpack
from refoptim.kernels.jit import CpuLoop, cpu_loop, loop_of, renamed
from refoptim.kernels.pack_steps import ask, begin, begin_first, end, end_first, ends_with_quotient, step, step_first
from refoptim.kernels.packs import WIDTH

# How many elements ahead the memory is asked.
AHEAD = 512

# What the loops below name, and the copy for each rule has of its own.
rule: Any = None
Scalars: Any = None


def _over(rule, arrays, h):
    size = arrays[0].size
    whole = size - size % WIDTH
    for i in range(0, whole, WIDTH):
        ask(arrays, i + AHEAD)
        step(rule, arrays, i, h, None)
    if whole < size:
        step_first(rule, arrays, whole, size - whole, h, None)


def _over_in_stages(rule, arrays, h):
    size = arrays[0].size
    whole = size - size % WIDTH
    if whole > 0:
        waiting = begin(rule, arrays, 0, h, None)
        for i in range(WIDTH, whole, WIDTH):
            ask(arrays, i + AHEAD)
            following = begin(rule, arrays, i, h, None)
            end(rule, arrays, i - WIDTH, h, waiting)
            waiting = following
        end(rule, arrays, whole - WIDTH, h, waiting)
    if whole < size:
        count = size - whole
        end_first(rule, arrays, whole, count, h, begin_first(rule, arrays, whole, count, h, None))


over, over_in_stages = (njit(inline="always", error_model="numpy")(loop) for loop in (_over, _over_in_stages))


def _one(a, scalars):
    over(rule, (a,), Scalars(*unpack(Scalars, scalars)))


def _two(a, b, scalars):
    over(rule, (a, b), Scalars(*unpack(Scalars, scalars)))


def _three(a, b, c, scalars):
    over(rule, (a, b, c), Scalars(*unpack(Scalars, scalars)))


def _four(a, b, c, d, scalars):
    over(rule, (a, b, c, d), Scalars(*unpack(Scalars, scalars)))


def _five(a, b, c, d, e, scalars):
    over(rule, (a, b, c, d, e), Scalars(*unpack(Scalars, scalars)))


# By how many arrays they take.
_LOOPS = {1: _one, 2: _two, 3: _three, 4: _four, 5: _five}


def tiled(rule: FunctionType) -> CpuLoop:
    """Return a rule's loop for arrays of float32 and scalars of float64. It takes what the rule's own loop takes."""
    compiled = njit(error_model="numpy")(renamed(rule, f"{rule.__name__}_of_packs", rule.__module__))
    loop = _LOOPS[rule.__code__.co_argcount - 1]
    stages = over_in_stages if ends_with_quotient(rule) else over
    return cpu_loop(loop_of(rule, loop, f"{rule.__name__}_tiled", compiled, over=stages))
