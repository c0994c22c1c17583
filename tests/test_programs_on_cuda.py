"""Minimizers and whole steps on a GPU: the CPU's bits under Numba's simulator, and no copies without need.

The simulator is chosen when Numba is imported, so this file runs itself in a second process. Each scenario raises if
something is wrong there.
"""

from copy import deepcopy
from functools import partial
from unittest import mock

import numpy as np
import pytest

import refoptim as optim
from refoptim.kernels import memory
from refoptim.kernels.jit import cuda, on_stream

if __name__ == "__main__":
    # Only a program finds its neighbours.
    from simulated import bits, params, run_all, set_grads


def rosenbrock(some):
    """Return a closure for two parameters, one of which may get no gradient."""

    def closure():
        w, v = (np.asarray(param) for param in some)
        g = np.zeros_like(w)
        g[:-1] = -400 * w[:-1] * (w[1:] - w[:-1] ** 2) - 2 * (1 - w[:-1])
        g[1:] += 200 * (w[1:] - w[:-1] ** 2)
        some[0].grad = some[0].place.uploaded(g)
        if v.dtype == np.float64:
            some[1].grad = some[1].place.uploaded(2 * v)
        return float(np.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2) + np.sum(v * v))

    return closure


def minimized(device, make, dtypes):
    w = optim.Parameter(np.array([-1.2, 1.0, 0.5, -0.7], dtypes[0]), device=device)
    v = optim.Parameter(np.array([[3.0, -1.0]], dtypes[1]), device=device)
    optimizer = make([w, v])
    losses = [optimizer.step(rosenbrock([w, v])) for _ in range(2)]
    return w, v, optimizer, losses


# With parameters of these types.
MINIMIZERS = [
    (lambda ps: optim.LBFGS(ps, max_iter=3, line_search_fn="strong_wolfe"), (np.float64, np.float64)),
    (lambda ps: optim.LBFGS(ps, lr=0.01, max_iter=3, history_size=2), (np.float32, np.float64)),
    (lambda ps: optim.LBFGS(ps, max_iter=2, arithmetic="float64"), (np.float32, np.float32)),
    (lambda ps: optim.CG(ps, max_iter=2), (np.float64, np.float64)),
    (lambda ps: optim.CG(ps, max_iter=2, method="hager_zhang"), (np.float64, np.float32)),
]


def minimizers():
    for place, case in enumerate(MINIMIZERS):
        there, here = (minimized(device, *case) for device in ("cuda", "cpu"))
        assert bits(there[:2]) == bits(here[:2]), place
        assert there[3] == here[3], place
        assert bits(dict(there[2].state[there[0]])) == bits(dict(here[2].state[here[0]])), place


def minimizers_are_saved_and_copied():
    w, v, optimizer, _ = minimized("cuda", *MINIMIZERS[0])
    state = optimizer.state_dict()
    vectors = [state["state"][0][name] for name in ("d", "prev_flat_grad")]
    assert all(isinstance(vector, np.ndarray) for vector in (*vectors, *state["state"][0]["old_dirs"]))
    assert len(state["state"][0]["old_dirs"]) > 1
    found = []
    for device in ("cuda", "cpu"):
        x, y, other, _ = minimized(device, *MINIMIZERS[0])
        other.load_state_dict(state)
        other.step(rosenbrock([x, y]))
        found.append(bits([x, y]))
    copies = deepcopy((w, v, optimizer))
    for x, y, other in (copies, (w, v, optimizer)):
        other.step(rosenbrock([x, y]))
        found.append(bits([x, y]))
    assert found == found[:1] * 4


def minimizers_change_the_device():
    w, v, optimizer, _ = minimized("cpu", *MINIMIZERS[0])
    moved = minimized("cpu", *MINIMIZERS[0])
    for device in ("cuda", "cpu"):
        moved[2].to(device).step(rosenbrock(moved[:2]))
        optimizer.step(rosenbrock([w, v]))
        assert bits(moved[:2]) == bits([w, v])
        assert memory.on_gpu(moved[2].state[moved[0]]["d"]) == (device == "cuda")


def minimizers_are_one_vector_of_one_device():
    w, v = params("cuda", shapes=[(2,)])[0], params("cpu", shapes=[(2,)])[0]
    with pytest.raises(ValueError, match=r"takes all parameters for one vector, .* cpu and cuda:0"):
        optim.LBFGS([w, v]).step(lambda: 1.0)


def a_step_that_raises_goes_back():
    w, v, optimizer, _ = minimized("cuda", *MINIMIZERS[3])
    before, calls, good = bits([w, v]), [], rosenbrock([w, v])

    def closure():
        calls.append(0)
        if len(calls) == 3:
            raise ArithmeticError
        return good()

    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    assert bits([w, v]) == before


def steps_allocate_nothing_and_wait_for_nothing():
    allocate = cuda.device_array

    def allocate_nothing(shape, dtype, stream):
        assert not np.prod(shape)
        return allocate(shape, dtype, stream=stream)

    for make in (optim.Adafactor, lambda ps: optim.Muon(ps, ns_steps=2, dialect="torch")):
        some = params("cuda", np.float32, [(3, 2), (2, 4)])
        optimizer = make(some)
        set_grads(some)
        optimizer.step()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda.value, "device_array", allocate_nothing)
            patch.setattr(cuda.value, "to_device", None)
            patch.setattr(type(some[0].buffer.theta), "copy_to_host", None)
            optimizer.step()
        assert not any(np.isnan(np.asarray(param)).any() for param in some)


def temporaries_belong_to_a_stream():
    like, streams = cuda.to_device(np.zeros(1)), [0, cuda.stream()]
    taken = {}
    for stream in streams:
        with on_stream(stream), memory.temporaries(like) as empty:
            first, second = empty(3), empty(3)
            assert first is not second
            taken[stream] = {id(first), id(second)}
    assert not set.intersection(*taken.values())
    with memory.temporaries(like) as empty:
        assert {id(empty(3)), id(empty(3))} == taken[0]
        assert id(empty(3, np.float32)) not in taken[0]
    memory.release_temporaries()
    assert not any(memory._unused.values())


def a_launch_that_fails_says_which():
    x, y = cuda.to_device(np.zeros(3)), cuda.to_device(np.zeros(4))
    with pytest.raises(RuntimeError, match=r"the CUDA kernel dot_gpu was not launched"):
        optim.kernels.folds_gpu.dot_gpu.run(1, 1, x)
    with pytest.raises(ValueError, match=r"two arrays of one size"):
        optim.kernels.reductions.dot(x, y)


def no_room_for_temporaries():
    muon = partial(optim.Muon, ns_steps=1, dialect="torch")
    # With the number of their large temporaries; those of some numbers fit.
    cases = [(optim.Adafactor, (7,), 1), (optim.Adafactor, (5, 3), 4), (muon, (3, 2), 7), (muon, (2, 3), 5)]
    for make, shape, large in cases:
        (cpu,), (gpu,) = (params(device, np.float32, [shape]) for device in ("cpu", "cuda"))
        optimizers = [make([param]) for param in (cpu, gpu)]
        for optimizer in optimizers:
            set_grads(optimizer.param_groups[0]["params"])
            optimizer.step()
        before = bits(gpu), bits(optimizers[1].state_dict()["state"])
        for room in range(large):
            memory.release_temporaries()
            with full_after(room), pytest.raises(MemoryError, match=r"cuda:0 has no room for \d+ bytes more: .*MEMORY"):
                optimizers[1].step()
            assert (bits(gpu), bits(optimizers[1].state_dict()["state"])) == before, (shape, room)
        for optimizer in optimizers:
            optimizer.step()
        assert bits(gpu) == bits(cpu)


def full_after(room):
    """Let so many arrays be allocated, and no more."""
    left, allocate = iter(range(room)), cuda.device_array

    def device_array(*arguments, **options):
        if next(left, None) is None:
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return allocate(*arguments, **options)

    return mock.patch("numba.cuda.device_array", device_array)


SCENARIOS = [
    minimizers,
    minimizers_change_the_device,
    minimizers_are_saved_and_copied,
    minimizers_are_one_vector_of_one_device,
    a_step_that_raises_goes_back,
    steps_allocate_nothing_and_wait_for_nothing,
    temporaries_belong_to_a_stream,
    a_launch_that_fails_says_which,
    no_room_for_temporaries,
]


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_in_the_simulator(simulation, scenario):
    assert not simulation[scenario], simulation[scenario]


if __name__ == "__main__":
    run_all(SCENARIOS)
