"""Taking chunks of a job: the compiled code that all threads run, its owner and those who help.

It does not hold the GIL. What they tell each other by are words of the box, each with a cache line of its own: a chunk
is taken by one compare-and-swap.
"""

import os
import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from refoptim.kernels.caching import cached
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jobs import (
    ADDRESS,
    AWAKE,
    BASE,
    BUSY,
    CHUNKS,
    DONE,
    FACTOR,
    FAILED,
    GRAIN,
    HIRED,
    JOB,
    LEFT,
    NUMBER,
    SIZE,
    STEP,
    TASKS,
    WORDS,
)

# How often to look for the next job before going to sleep, and for the end of one: 0.1 to 0.4 milliseconds. To wake a
# thread takes as long.
ROUNDS = 10_000
# After so many looks, whoever else wants the processor has it.
TURN = 16
# How long to sleep, in microseconds, when another thread does not finish its chunk: it has lost its processor.
NAP = 20
# Who works: see ``work``. And what it has to say of a job: it lacked memory; it has waited for a thread that has lost
# its processor; fewer threads look for chunks than there could be, maybe none.
HELPER, OWNER = 0, -1
HAS_FAILED, HAS_WAITED, FEW_ARE_AWAKE = 1, 2, 4

_WORD, _HALF = ir.IntType(64), 0xFFFFFFFF
_njit: Any = njit
# Tells the processor that this is a loop that waits.
_PAUSES = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}
_PAUSE = _PAUSES.get(platform.machine())
_POSIX = os.name == "posix"
_usleep = types.ExternalFunction("usleep", types.int32(types.uint32))
_yield = types.ExternalFunction("sched_yield", types.int32())


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return cgutils.get_item_pointer(context, builder, kind, context.make_array(kind)(context, builder, array), [index])


@intrinsic
def _load(typing_context, box, index):
    """Return what another thread may be writing."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(context, builder, signature.args[0], *arguments), "acquire", 8)

    return types.int64(box, index), generate


@intrinsic
def _store(typing_context, box, index, value):
    """Write what another thread may be reading, after everything before."""

    def generate(context, builder, signature, arguments):
        *place, value = arguments
        builder.store_atomic(value, _pointer(context, builder, signature.args[0], *place), "release", 8)
        return context.get_dummy_value()

    return types.none(box, index, value), generate


@intrinsic
def _add(typing_context, box, index, value):
    """Add to what other threads add to as well."""

    def generate(context, builder, signature, arguments):
        *place, value = arguments
        return builder.atomic_rmw("add", _pointer(context, builder, signature.args[0], *place), value, "acq_rel")

    return types.int64(box, index, value), generate


@intrinsic
def _swap(typing_context, box, index, old, new):
    """Replace a value if it is still the old one, and return whether it was."""

    def generate(context, builder, signature, arguments):
        *place, old, new = arguments
        pointer = _pointer(context, builder, signature.args[0], *place)
        return builder.extract_value(builder.cmpxchg(pointer, old, new, "acq_rel", "monotonic"), 1)

    return types.boolean(box, index, old, new), generate


@intrinsic
def _pause(typing_context):
    def generate(context, builder, signature, arguments):
        if _PAUSE is not None:
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, _PAUSE), [])
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def _call(typing_context, box, first, count):
    """Call the loop for some of its tasks, and return what is 0 if it has not raised."""

    def generate(context, builder, signature, arguments):
        box, first, count = arguments

        def entry(index: Any) -> Any:
            return builder.load(_pointer(context, builder, signature.args[0], box, index))

        # In a loop: to compile this, written out for each word, takes half as long again.
        made = cgutils.alloca_once(builder, ir.ArrayType(_WORD, WORDS))
        with cgutils.for_range(builder, ir.Constant(_WORD, WORDS)) as loop:
            step, factor = (entry(builder.add(loop.index, ir.Constant(_WORD, at))) for at in (STEP, FACTOR))
            base = entry(builder.add(loop.index, ir.Constant(_WORD, BASE)))
            word = builder.add(builder.add(base, builder.mul(step, first)), builder.mul(factor, count))
            builder.store(word, cgutils.gep_inbounds(builder, made, 0, loop.index))
        # Numba's own convention: first where the result and an exception go.
        words = [builder.ptrtoint(cgutils.alloca_once(builder, _WORD), _WORD) for _ in range(2)]
        words += [builder.load(cgutils.gep_inbounds(builder, made, 0, number)) for number in range(WORDS)]
        # Words behind those that the loop takes are where no callee looks, in every 64-bit calling convention.
        kind = ir.FunctionType(ir.IntType(32), [_WORD] * len(words))
        address = entry(ir.Constant(_WORD, ADDRESS))
        return builder.sext(builder.call(builder.inttoptr(address, kind.as_pointer()), words), _WORD)

    return types.int64(box, first, count), generate


@_njit(inline="always")
def _are_few(box, job, role):
    """Return whether there are fewer threads awake than an owner of this role can use, or more than it may."""
    return role > 0 and (_load(box, AWAKE) < min(role, job[CHUNKS]) - 1 or box[HIRED] >= role)


@_njit(inline="always")
def _begun(box, job, role):
    """Return the box with a job in it; the job, which is a box where nobody looks, if it is not to be shared."""
    nobody = role > 0 and (_load(box, AWAKE) == 0 or box[HIRED] >= role)
    if nobody or not _swap(box, BUSY, 0, 1):
        box = job
    elif box[NUMBER] != job[NUMBER]:
        for word in range(JOB, SIZE):
            box[word] = job[word]
    _store(box, DONE, 0)
    _store(box, LEFT, box[CHUNKS] << 32)
    return box


@_njit(inline="always")
def _done(box, chunk):
    first = chunk * box[GRAIN]
    if _call(box, first, min(box[GRAIN], box[TASKS] - first)):
        _store(box, FAILED, 1)
    _add(box, DONE, 1)


@_njit(inline="always")
def _ended(box):
    """Return whether the job has failed, and make room for the next one."""
    failed = _load(box, FAILED) != 0
    _store(box, FAILED, 0)
    _store(box, BUSY, 0)
    return failed


@cached
@_njit(nogil=True, no_cfunc_wrapper=True)
def work(box, job, role):
    """Do a job with whoever takes chunks of it, or chunks of others' jobs until none has come for ``ROUNDS`` looks.

    Who finds the box busy does a job of its own alone. Return what there is to say of the job: ``HAS_FAILED``, ...

    Args:
        box: where threads look for jobs.
        job: the words of the job that is the caller's own.
        role: ``HELPER`` has no job; ``OWNER`` shares its own; a number of threads, the caller's included, is an owner
            who shares only with threads that are awake, and only if there are no more of them.

    """
    own, said, idle = role != HELPER, 0, 0
    if own:
        said = _are_few(box, job, role) * FEW_ARE_AWAKE
        box = _begun(box, job, role)
    else:
        _add(box, AWAKE, 1)
    while own or idle < ROUNDS:
        left = _load(box, LEFT)
        if left >> 32:
            taken = left + 1 if own else left
            if _swap(box, LEFT, left, taken - (1 << 32)):
                _done(box, left & _HALF if own else (left & _HALF) + (left >> 32) - 1)
                idle = 0
        elif own and _load(box, DONE) == box[CHUNKS]:
            break
        elif own and _POSIX and idle >= ROUNDS:
            _usleep(NAP)
        else:
            idle += 1
            _pause()
            if _POSIX and not own and idle % TURN == 0:
                _yield()
    if own:
        said |= (idle >= ROUNDS) * HAS_WAITED | _ended(box) * HAS_FAILED
    else:
        _add(box, AWAKE, -1)
    return said
