"""The pool that threads share, and loops that are kept for it: who shares, who is woken, who runs alone."""

import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
from numba import njit, types

import refoptim as optim
from refoptim.kernels import chunks, jit, jobs, kept, pool
from refoptim.kernels.scaling import scaled_cpu


@pytest.fixture(autouse=True)
def three_threads():
    before = optim.get_num_threads()
    optim.set_num_threads(3)
    yield
    optim.set_num_threads(before)


@pytest.mark.parametrize(("role", "awake", "hired", "busy", "shared", "said"), [
    (chunks.OWNER, 0, 0, 0, True, 0),
    (chunks.OWNER, 0, 0, 1, False, 0),
    (2, 0, 0, 0, False, chunks.FEW_ARE_AWAKE),
    (2, 0, 1, 0, False, chunks.FEW_ARE_AWAKE),
    (2, 1, 1, 0, True, 0),
    (2, 1, 1, 1, False, 0),
    (2, 2, 2, 0, False, chunks.FEW_ARE_AWAKE),  # more than there may be
    (1, 1, 1, 0, False, chunks.FEW_ARE_AWAKE),
    (1, 0, 0, 0, False, 0),
    (4, 1, 3, 0, True, chunks.FEW_ARE_AWAKE),
    (99, 15, 98, 0, True, 0),  # as many as there are chunks
    (99, 14, 98, 0, True, chunks.FEW_ARE_AWAKE),
])  # fmt: skip
def test_who_shares_and_what_there_is_to_say_of_a_job(role, awake, hired, busy, shared, said):
    box, array, factor = np.zeros(jobs.SIZE, np.int64), np.ones(1000, np.float32), np.array([2.0])
    box[[jobs.AWAKE, jobs.HIRED, jobs.BUSY]] = awake, hired, busy
    job = jobs.described(scaled_cpu.serial, (array, factor), 1, 1000, 64)
    assert chunks.work(box, job.words, role) == said
    assert (array == 2).all()
    assert (box[jobs.NUMBER] == job.words[jobs.NUMBER], box[jobs.BUSY]) == (shared, busy)


@pytest.mark.skipif(os.name != "posix", reason="usleep is POSIX's")
def test_who_has_waited_for_a_thread_says_so():
    sleep = types.ExternalFunction("usleep", types.int32(types.uint32))

    @njit(nogil=True)
    def slow(microseconds, first, stop):
        for task in range(first, stop):
            sleep(microseconds[task])

    box, helped = np.zeros(jobs.SIZE, np.int64), threading.Event()
    pauses = np.array([100_000, 300_000], np.uint32)  # a job does not keep it alive
    job = jobs.described(slow, (pauses, 0, 0), 0, 2, 1)

    def help_on():
        while not helped.is_set():
            chunks.work(box, box, chunks.HELPER)

    helper = threading.Thread(target=help_on)
    helper.start()
    while not box[jobs.AWAKE]:
        pass
    said = chunks.work(box, job.words, chunks.OWNER)
    helped.set()
    helper.join()
    assert said == chunks.HAS_WAITED
    assert box[jobs.AWAKE] == 0


def test_a_loop_that_lacks_memory_raises_and_leaves_the_pool_free():
    @njit(nogil=True)
    def lacks(array, first, stop):
        if array[first] > 0:
            raise MemoryError

    for value in (1.0, 0.0):
        values = np.full(4, value)
        job = jobs.described(lacks, (values, 0, 0), 0, 4, 1)
        with pytest.raises(MemoryError, match="the memory that it needs") if value else nullcontext():
            assert pool.current().run(job, iter((None,)))
        assert not pool.current().box[jobs.BUSY]


class Clock(pool._Pool):
    """A pool with a clock that shows what it is told, which does no job and says of it what it is told."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.now, self.said, self.shared, self.woken = 10**12, 0, [], []
        for module in (pool, kept):
            monkeypatch.setattr(module, "monotonic_ns", lambda: self.now)
        monkeypatch.setattr(kept, "work", self.work)
        monkeypatch.setattr(pool._Current, "pool", self)

    def work(self, box, words, role):
        assert role == 3
        self.shared.append(self.now)
        return self.said

    def run(self, job, once):
        if not self.wake(job):
            return False
        next(once)
        self.shared.append(self.now)
        return True

    def wake(self, job):
        self.woken.append(self.now)
        self.said = 0
        return not self.closed


MS = 1_000_000


def kept_loop(is_long=False):
    """Return a kept loop, its arguments, and how often it has run alone."""
    alone, loop = [], scaled_cpu.serial
    arguments = (np.ones(1000, np.float32), np.array([1.0]))
    held = kept.Kept(loop, 1, 1000, 64, is_long=is_long)
    held._loop = lambda *given: alone.append(given)
    held._job = jobs.described(loop, arguments, 1, 1000, 64)
    return held, arguments, alone


@pytest.mark.parametrize(("is_long", "awake", "gap", "woken"), [
    (True, False, 5 * MS, range(10)),
    (False, False, 5 * MS, []),
    (False, True, 5 * MS, []),
    (False, True, 150_000, []),
    (False, False, 150_000, [7]),  # after a millisecond
    (False, False, 250_000, []),
])  # fmt: skip
def test_short_loops_wake_threads_where_they_follow_each_other(monkeypatch, is_long, awake, gap, woken):
    clock = Clock(monkeypatch)
    clock.said = 0 if awake else chunks.FEW_ARE_AWAKE
    held, arguments, alone = kept_loop(is_long)
    begin = clock.now
    for number in range(10):
        clock.now = begin + number * gap
        held(*arguments)
    assert clock.woken == [begin + number * gap for number in woken]
    assert (len(clock.shared), alone) == (10, [])


@pytest.mark.parametrize(("count", "awake", "gap", "described"), [
    (3, 1, 5 * MS, 0),
    (3, 0, 150_000, 7),
    (3, 0, 250_000, None),
    (1, 1, 150_000, None),
])  # fmt: skip
def test_short_loops_are_described_where_that_may_pay(monkeypatch, count, awake, gap, described):
    optim.set_num_threads(count)
    clock = Clock(monkeypatch)
    clock.box[jobs.AWAKE] = awake
    arguments = (np.ones(1000, np.float32), np.array([1.0]))
    held = kept.Kept(scaled_cpu.serial, 1, 1000, 64, is_long=False)
    begin, found = clock.now, []
    for number in range(10):
        clock.now = begin + number * gap
        held(*arguments)
        found.append(held._job is not None)
    assert found == [described is not None and number >= described for number in range(10)]


def test_short_loops_run_alone_for_a_while_after_one_that_has_waited_for_a_processor(monkeypatch):
    clock = Clock(monkeypatch)
    held, arguments, alone = kept_loop()
    begin = clock.now
    held(*arguments)
    clock.said = chunks.HAS_WAITED
    gaps = (1, 5, 10, 80, 82, 83)
    for gap in gaps:
        clock.now = begin + gap * MS
        held(*arguments)
        clock.said = 0
    # One more runs alone, as it takes as long to see that the time is over.
    assert [now - begin for now in clock.shared] == [0, MS, 83 * MS]
    assert len(alone) == 4


def test_who_finds_the_pool_closed_runs_a_kept_loop_alone(monkeypatch):
    clock = Clock(monkeypatch)
    clock.closed = True
    held, arguments, alone = kept_loop(is_long=True)
    held(*arguments)
    assert (len(alone), clock.shared) == (1, [])


@pytest.mark.parametrize("counts", [(3, 2), (3, 1), (2, 4)], ids=str)
def test_short_loops_heed_another_number_of_threads(monkeypatch, counts):
    monkeypatch.setattr(pool, "STEADY", -1)  # short loops wake threads
    loop, arguments = scaled_cpu.serial, (np.ones(1000), np.array([1.0]))
    held = kept.Kept(loop, 1, 1000, 64, is_long=False)
    for count in counts:
        optim.set_num_threads(count)
        for _ in range(5):
            held(*arguments)
        workers = pool.current()._workers
        # Who may use no other threads leaves those that there are asleep.
        assert len(workers) == (count - 1 or counts[0] - 1)
        assert pool.current().box[jobs.HIRED] == len(workers)


@pytest.fixture
def all_long(monkeypatch):
    monkeypatch.setattr(jit, "SERIAL_BELOW", 0)
    monkeypatch.setattr(jit, "GRAIN", 64)


@pytest.mark.usefixtures("all_long")
def test_a_kept_loop_is_described_anew_for_nothing_and_keeps_no_array_alive():
    param = optim.Parameter(np.ones(1000, np.float32))
    optimizer = optim.SGD([param], lr=0.5)
    for _ in range(3):
        optimizer.step(grads=[np.ones(1000, np.float32)])
    (launch,) = optimizer._layouts[0].slots[0].ready.launches
    assert isinstance(launch[0], kept.Kept)
    assert pool.current().has(launch[0]._job)
    watched = weakref.ref(launch[1][0].base)
    del optimizer, launch, param
    gc.collect()
    assert watched() is None


@pytest.mark.usefixtures("all_long")
@pytest.mark.parametrize("options", [{}, {"rounding": "stochastic"}, {"master_weights": True}], ids=str)
def test_a_kept_step_of_16_bits_is_shared_and_has_the_same_bits(options):
    grads = np.random.default_rng(7).standard_normal((5, 1003)).astype(np.float16)
    found, shared = [], []
    for count in (1, 3):
        optim.set_num_threads(count)
        param = optim.Parameter(np.ones(1003, np.float16))
        optimizer = optim.SGD([param], lr=0.1, momentum=0.9, **options)
        for grad in grads:
            optimizer.step(grads=[grad])
        (launch,) = optimizer._layouts[0].slots[0].ready.launches
        found.append(param.data.tobytes())
        shared.append(launch[0]._job is not None and pool.current().has(launch[0]._job))
    assert found[0] == found[1]
    assert shared == [False, True]


@pytest.mark.parametrize("callers", [1, 4])
def test_short_steps_that_threads_share_have_the_same_bits(monkeypatch, callers):
    def trajectory(_=None):
        grads = np.random.default_rng(9).standard_normal((40, 3001))
        param = optim.Parameter(np.ones(3001))
        optimizer = optim.Adam([param], lr=0.01)
        for grad in grads:
            optimizer.step(grads=[grad])
        return param.data.tobytes()

    wanted = trajectory()
    # Now steps are short, and shared all the same.
    monkeypatch.setattr(jit, "SERIAL_BELOW", 200_000)
    monkeypatch.setattr(jit, "GRAIN", 64)
    monkeypatch.setattr(pool, "STEADY", -1)
    before = pool.current().box[jobs.NUMBER]
    with ThreadPoolExecutor(callers) as executor:
        assert list(executor.map(trajectory, range(8))) == [wanted] * 8
    assert pool.current().box[jobs.NUMBER] > before
