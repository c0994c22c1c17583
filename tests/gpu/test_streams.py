"""Streams and graphs: a step runs on the stream it is given, the host goes on, and a graph repeats it."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

import refoptim as optim
from refoptim import devices
from refoptim.conformance import cases
from refoptim.kernels.jit import cuda
from refoptim.swa_utils import AveragedModel

FIRST = {case.optimizer: case for module in cases.stems().values() for case in reversed(module.CASES)}
DENSE = sorted(FIRST.keys() - {"SparseAdam"})
CAPTURABLE = ["Adadelta", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop"]
# About how many milliseconds the stream is kept busy: hundreds of times what the host takes for a step.
BUSY = 500

driver = pytest.mark.driver


def numbers(seed):
    return np.random.default_rng(seed).standard_normal((48, 40)).astype(np.float32)


def build(name, device="cuda", **options):
    """Return an optimizer that has taken two steps, so that all is compiled and allocated."""
    param = optim.Parameter(numbers(0), device=device)
    optimizer = getattr(optim, name)([param], **(FIRST[name].options | options))
    param.grad = optim.Parameter(numbers(1), device=device).data
    for _ in range(2):
        optimizer.step()
    return optimizer


def cores_stream():
    """Return a stream of cuda.core's."""
    device = import_module("cuda.core").Device()
    device.set_current()
    return device.create_stream()


def streams():
    """Return one stream of each library that is there, by name."""
    found = {"numba": cuda.stream(), "default": 0}
    if getattr(found["numba"], "handle", None) is not None:
        found["handle"] = int(found["numba"].handle)
        found["cuda.core"] = cores_stream()
        if find_spec("cupy"):
            found["cupy"] = import_module("cupy").cuda.Stream(non_blocking=True)
        if find_spec("torch") and import_module("torch").cuda.is_available():
            found["torch"] = import_module("torch").cuda.Stream()
    return found


def test_a_stream_changes_no_bit(differences):
    expected = build("AdamW", "cpu")
    expected.step()
    for stream in streams().values():
        optimizer = build("AdamW")
        cuda.synchronize()
        optimizer.step(stream=stream)
        cuda.synchronize()
        assert differences(expected, optimizer) == {}


def test_what_is_no_stream_is_refused(differences):
    optimizer, expected = build("AdamW"), build("AdamW", "cpu")
    with pytest.raises(TypeError, match="'fast'"):
        optimizer.step(stream="fast")
    assert differences(expected, optimizer) == {}


@pytest.fixture
def busy(monkeypatch):
    """Return what keeps a stream busy, and returns an event that comes when it is done."""
    # Numba advises against small grids.
    monkeypatch.setattr("numba.cuda.core.config.CUDA_LOW_OCCUPANCY_WARNINGS", 0)

    @cuda.jit
    def sleep(milliseconds):
        for _ in range(milliseconds):
            cuda.nanosleep(1_000_000)

    def busy(stream):
        sleep[1, 1, stream](np.int64(1))  # which compiles it
        cuda.synchronize()
        sleep[1, 1, stream](np.int64(BUSY))
        event = cuda.event()
        event.record(stream)
        return event

    yield busy
    cuda.synchronize()


@driver
@pytest.mark.parametrize("name", DENSE)
def test_a_step_does_not_wait(name, busy):
    optimizer, stream = build(name), cuda.stream()
    optimizer.step(stream=stream)
    done = busy(stream)
    # More than Numba frees at once: freeing memory would wait for the device.
    for _ in range(12):
        optimizer.step(stream=stream)
    assert not done.query()


@driver
def test_a_capturable_step_does_not_wait_before_it_is_captured(busy):
    optimizer, stream = build("AdamW", capturable=True), cuda.stream()
    optimizer.step(stream=stream)
    done = busy(stream)
    for _ in range(12):
        optimizer.step(stream=stream)
    optimizer.zero_grad(set_to_none=False, stream=stream)
    assert not done.query()


@driver
def test_gradients_and_averages_do_not_wait(busy):
    optimizer = build("SGD")
    (param,) = optimizer.param_groups[0]["params"]
    averaged, gradient = AveragedModel([param]), optim.Parameter(numbers(2), device="cuda").data
    averaged.update_parameters([param])
    averaged.update_parameters([param])
    done = busy(0)
    param.grad = gradient
    optimizer.step(grads=[gradient])
    averaged.update_parameters([param])
    optimizer.zero_grad(set_to_none=False)
    assert not done.query()


@driver
def test_a_step_waits_for_its_own_stream_alone(busy):
    optimizer, (one, other) = build("AdamW"), (cuda.stream(), cuda.stream())
    optimizer.step(stream=other)
    done = busy(one)
    optimizer.step(stream=other)
    other.synchronize()
    assert not done.query()


@driver
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {}),
        ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
        ("Adadelta", {}),
        ("Adagrad", {}),
        ("RMSprop", {"momentum": 0.9, "centered": True}),
        ("Rprop", {}),
        ("Muon", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "defaults",
)
def test_a_graph_repeats_a_step(name, options, differences):
    # These have the same scalars in every step. A graph of the others needs capturable=True.
    optimizer, expected = build(name, **options), build(name, "cpu", **options)
    stream = cores_stream()
    optimizer.step(stream=stream)
    expected.step()
    cuda.synchronize()
    builder = stream.create_graph_builder().begin_building()
    optimizer.step(stream=builder.stream)
    graph = builder.end_building().complete()
    for _ in range(5):
        graph.launch(stream)
        expected.step()
    stream.sync()
    found = differences(expected, optimizer)
    found.pop("0: step", None)  # the host's own, which counted the step that was captured
    assert found == {}


@driver
@pytest.mark.parametrize("name", CAPTURABLE)
def test_a_graph_goes_on_with_the_next_steps(name, differences):
    optimizer, expected = build(name, capturable=True), build(name, "cpu", capturable=True)
    stream = cores_stream()
    optimizer.step(stream=stream)
    expected.step()
    cuda.synchronize()
    builder = stream.create_graph_builder().begin_building()
    optimizer.step(stream=builder.stream)
    graph = builder.end_building().complete()
    for lr in (None, 0.05):
        if lr is not None:
            for some in (optimizer, expected):
                some.param_groups[0]["lr"] = lr
            # An ordinary step puts the new learning rate where the graph reads it.
            optimizer.step(stream=stream)
            expected.step()
        for _ in range(20):
            graph.launch(stream)
            expected.step()
        stream.sync()
        assert differences(expected, optimizer) == {}


@driver
def test_a_graph_steps_and_sets_gradients_to_zero(differences):
    optimizer, expected = build("Adam", capturable=True), build("Adam", "cpu", capturable=True)
    stream = cores_stream()
    for some, options in ((optimizer, {"stream": stream}), (expected, {})):
        some.step(**options)
    cuda.synchronize()
    builder = stream.create_graph_builder().begin_building()
    optimizer.step(stream=builder.stream)
    optimizer.zero_grad(set_to_none=False, stream=builder.stream)
    graph = builder.end_building().complete()
    for _ in range(3):
        graph.launch(stream)
        expected.step()
        expected.zero_grad(set_to_none=False)
    stream.sync()
    (param,) = optimizer.param_groups[0]["params"]
    assert not devices.to_host(param.grad).any()
    assert differences(expected, optimizer) == {}


@driver
def test_captures_that_cannot_be_are_refused():
    optimizer, stream = build("Adam", capturable=True), cores_stream()
    optimizer.param_groups[0]["lr"] = 0.05
    cuda.synchronize()
    builder = stream.create_graph_builder().begin_building()
    with pytest.raises(RuntimeError, match="run one step first"):
        optimizer.step(stream=builder.stream)
    builder.end_building()
    optimizer.step(stream=stream)
    stream.sync()
    assert optimizer.state_dict()["state"][0]["step"] == 3
