"""The threads that share long loops: one pool in a process, without a threading layer of Numba's.

A job is the address of a compiled loop, its arguments as machine words, and how many chunks it is cut into. The caller
takes chunks from the front, the other threads take them from the back, each with one compare-and-swap. Nobody waits for
a thread that has not come yet: on a busy machine the caller does everything itself. All of this is compiled code that
does not hold the GIL; a thread that has found nothing to do for a while sleeps on one of Python's locks.

One job runs at a time. Who finds the pool busy runs the loop alone, which gives the same bits, so nothing can wait for
itself. Compiled code takes the pool and gives it back, so that Ctrl-C leaves it free. A forked child makes its own pool
when it needs one.
"""

import atexit
import os
import platform
from _thread import allocate_lock
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from time import monotonic_ns
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from refoptim.kernels import threads
from refoptim.kernels.caching import cached
from refoptim.kernels.jobs import (
    ADDRESS,
    BASE,
    BUSY,
    CHUNKS,
    DONE,
    FACTOR,
    FAILED,
    GRAIN,
    JOB,
    LEFT,
    NUMBER,
    SIZE,
    STEP,
    TASKS,
    WORDS,
    Job,
    described,
)

# How often to look for the next job before going to sleep, and for the end of one: 0.1 to 0.4 milliseconds. To wake a
# thread takes as long.
ROUNDS = 10_000
# After so many looks, whoever else wants the processor has it.
TURN = 16
# How long to sleep, in microseconds, when another thread does not finish its chunk: it has lost its processor.
NAP = 20

_WORD, _HALF = ir.IntType(64), 0xFFFFFFFF
_intrinsic: Any = intrinsic
_njit: Any = njit
# Tells the processor that this is a loop that waits.
_PAUSES = {"x86_64": "llvm.x86.sse2.pause", "AMD64": "llvm.x86.sse2.pause"}
_PAUSE = _PAUSES.get(platform.machine())
_POSIX = os.name == "posix"
_usleep = types.ExternalFunction("usleep", types.int32(types.uint32))
_yield = types.ExternalFunction("sched_yield", types.int32())


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return cgutils.get_item_pointer(context, builder, kind, context.make_array(kind)(context, builder, array), [index])


@_intrinsic
def _load(typing_context, box, index):
    """Return what another thread may be writing."""

    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(context, builder, signature.args[0], *arguments), "acquire", 8)

    return types.int64(box, index), generate


@_intrinsic
def _store(typing_context, box, index, value):
    """Write what another thread may be reading, after everything before."""

    def generate(context, builder, signature, arguments):
        *place, value = arguments
        builder.store_atomic(value, _pointer(context, builder, signature.args[0], *place), "release", 8)
        return context.get_dummy_value()

    return types.none(box, index, value), generate


@_intrinsic
def _add(typing_context, box, index, value):
    """Add to what other threads add to as well."""

    def generate(context, builder, signature, arguments):
        *place, value = arguments
        return builder.atomic_rmw("add", _pointer(context, builder, signature.args[0], *place), value, "acq_rel")

    return types.int64(box, index, value), generate


@_intrinsic
def _swap(typing_context, box, index, old, new):
    """Replace a value if it is still the old one, and return whether it was."""

    def generate(context, builder, signature, arguments):
        *place, old, new = arguments
        pointer = _pointer(context, builder, signature.args[0], *place)
        return builder.extract_value(builder.cmpxchg(pointer, old, new, "acq_rel", "monotonic"), 1)

    return types.boolean(box, index, old, new), generate


@_intrinsic
def _pause(typing_context):
    def generate(context, builder, signature, arguments):
        if _PAUSE is not None:
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, _PAUSE), [])
        return context.get_dummy_value()

    return types.none(), generate


@_intrinsic
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
def _begun(box, job):
    """Return the box with a job in it; if somebody else's is, the job, which is a box where nobody looks."""
    if not _swap(box, BUSY, 0, 1):
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
def work(box, job, own, rounds):
    """Do a job with whoever takes chunks of it, or chunks of others' jobs until none has come for so many rounds.

    Who finds the box busy does a job of its own alone. Return whether that has failed.
    """
    if own:
        box = _begun(box, job)
    idle = 0
    while own or idle < rounds:
        left = _load(box, LEFT)
        if left >> 32:
            taken = left + 1 if own else left
            if _swap(box, LEFT, left, taken - (1 << 32)):
                _done(box, left & _HALF if own else (left & _HALF) + (left >> 32) - 1)
                idle = 0
        elif own and _load(box, DONE) == box[CHUNKS]:
            break
        elif own and _POSIX and idle >= rounds:
            _usleep(NAP)
        else:
            idle += 1
            _pause()
            if _POSIX and not own and idle % TURN == 0:
                _yield()
    return own and _ended(box)


class _Worker:
    """One of the other threads."""

    def __init__(self, box: Any) -> None:
        self._box = box
        self._lock = allocate_lock()
        self._lock.acquire()
        self.sleeps = self._ends = False
        self._thread = Thread(target=self._run, name="refoptim", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _run(self) -> None:
        while not self._ends:
            work(self._box, self._box, False, ROUNDS)
            self.sleeps = True
            work(self._box, self._box, False, 1)  # what has come while this thread waited for the GIL to say so
            self._lock.acquire()

    def wake(self) -> None:
        """Make it look for chunks, unless it does."""
        if self.sleeps:
            self.sleeps = False
            with suppress(RuntimeError):  # another thread has done so at the same time
                self._lock.release()

    def end(self) -> None:
        """End the thread. A chunk that it has is finished first."""
        self._ends = True
        while self._thread.is_alive():
            self.wake()
            self._thread.join(0.001)


class _Pool:
    """The threads of this process, as many as a job has asked for, and where they find the job that they share."""

    def __init__(self) -> None:
        self.closed = False
        self._hires = allocate_lock()
        self._workers: list[_Worker] = []
        # By the clock: when a kept loop has run last, since when these follow each other, until when short ones run
        # alone. See the module ``kept``.
        self.asked = self.since = self.alone_until = 0
        self._box = np.zeros(SIZE, np.int64)

    def is_awake(self) -> bool:
        """Return whether another thread is looking for chunks."""
        return any(not worker.sleeps for worker in self._workers)

    def has(self, job: Job) -> bool:
        """Return whether this is the job that has been shared last."""
        return bool(self._box[NUMBER] == job.words[NUMBER])

    def run(self, job: Job, once: Iterator[Any]) -> int:
        """Run a job on several threads. Return its nanoseconds, 0 if it has not run.

        Python looks for Ctrl-C before it takes something from the iterator, and after the job that follows. Whoever has
        the iterator can tell whether the job has run.
        """
        most, useful = threads.get_count() - 1, job.chunks - 1
        if self.closed or not most:
            return 0
        if len(self._workers) != most:
            self._hire(most, useful)
        for worker in self._workers[:useful]:
            if worker.sleeps:
                worker.wake()
        box, words, rounds, failed, start = self._box, job.words, ROUNDS, False, monotonic_ns()
        for _ in once:
            failed = work(box, words, True, rounds)
        if failed:
            raise MemoryError("a loop has not got the memory that it needs")
        return max(1, monotonic_ns() - start)

    def _hire(self, most: int, useful: int) -> None:
        with self._hires:
            while len(self._workers) > most:
                self._workers.pop().end()
            while len(self._workers) < min(most, useful) and not self.closed:
                work(self._box, self._box, False, 0)  # compiled here, where an error can be seen
                self._workers.append(_Worker(self._box))
                try:
                    self._workers[-1].start()
                except RuntimeError:  # the system gives no more threads
                    self._workers.pop()
                    return

    def close(self) -> None:
        """End all threads: Python must not end before them."""
        with self._hires:
            self.closed = True
            for worker in self._workers:
                worker.end()


class _Current:
    pool = _Pool()


def current() -> _Pool:
    """Return the pool of this process."""
    return _Current.pool


def _forked() -> None:
    # The other threads stayed behind, maybe with the lock.
    _Current.pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _close() -> None:
    _Current.pool.close()


def share(loop: Any, arguments: tuple[Any, ...], sliced: int, tasks: int, grain: int) -> bool:
    """Run a compiled loop on several threads, and return whether it has run: else the caller does it alone.

    Args:
        loop: Numba's dispatcher.
        arguments: C-contiguous arrays, tuples of them, and integers.
        sliced: how many arrays in front have an element for each task, of which a thread gets its part. If 0, all get
            everything, and the last two arguments are the first task and the one behind the last.
        tasks: how many tasks there are.
        grain: how many of them a thread takes at a time.

    """
    if threads.get_count() == 1 or tasks <= grain or _Current.pool.closed:
        return False
    job = described(loop, arguments, sliced, tasks, grain)
    return job is not None and _Current.pool.run(job, iter((None,))) > 0
