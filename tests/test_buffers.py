"""Flat buffers: where parameters lie, what shares them, and in how many launches they are stepped."""

import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter, kernels
from refoptim.buffers import ALIGNMENT, aligned_zeros
from refoptim.conformance.tolerances import CLOSE
from refoptim.neighbours import is_neighbour

SHAPES = [(3,), (), (2, 2), (0,), (5,), (1, 7)]


def rng(seed=0):
    return np.random.default_rng(seed)


def parameters(shapes=SHAPES, dtype=np.float64, seed=0):
    draw = rng(seed)
    return [Parameter(np.asarray(draw.standard_normal(shape), dtype)) for shape in shapes]


def gradients(params, seed=1):
    draw = rng(seed)
    return [np.asarray(draw.standard_normal(p.shape), p.dtype) for p in params]


def sgd(values, grads, lr):
    return [value if grad is None else value - lr * grad for value, grad in zip(values, grads, strict=True)]


def assert_values(params, expected):
    for p, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(p.data, value, **CLOSE["float64"])


@pytest.fixture
def launches(monkeypatch):
    """The sizes of all launches of Adam's and SGD's kernels."""
    sizes = []
    for module, name in [(kernels.adam, "adam_cpu"), (kernels.sgd, "sgd_cpu"), (kernels.sgd, "momentum_cpu")]:
        kernel = getattr(module, name)

        def counted(theta, *arguments, kernel=kernel):
            sizes.append(theta.size)
            kernel(theta, *arguments)

        monkeypatch.setattr(module, name, counted)
    return sizes


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_aligned_zeros_start_on_a_cache_line(size, dtype):
    for _ in range(4):
        array = aligned_zeros(size, dtype)
        # NumPy reports a made-up address for an empty array.
        assert array.ctypes.data % ALIGNMENT == 0 or size == 0
        assert (array.shape, array.dtype) == ((size,), dtype)
        assert not array.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_parameters_of_a_group_are_neighbours_in_one_aligned_buffer(dtype):
    params = parameters(dtype=dtype)
    before = [p.data.copy() for p in params]
    optim.Adam(params)
    assert len({id(p.buffer) for p in params}) == 1
    buffer = params[0].buffer
    assert buffer.theta.ctypes.data % ALIGNMENT == buffer.grad.ctypes.data % ALIGNMENT == 0
    assert buffer.theta.view(dtype).size == sum(p.size for p in params)
    assert all(is_neighbour(left, right) for left, right in pairwise(params))
    for p, value in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, value)
        p.grad = value
        assert p.size == 0 or np.shares_memory(p.grad, buffer.grad)
    np.testing.assert_array_equal(buffer.theta.view(dtype), np.concatenate([value.ravel() for value in before]))


def test_groups_and_dtypes_have_buffers_of_their_own():
    a, b = parameters([(2,), (3,)])
    c = Parameter(np.ones(2, np.float32))
    optim.SGD([{"params": [a, c]}, {"params": [b]}])
    assert len({id(p.buffer) for p in (a, b, c)}) == 3


def test_a_second_optimizer_leaves_the_parameters_where_they_are():
    params = parameters()
    optim.Adam(params)
    arrays = [p.data for p in params]
    optim.SGD(params)
    optim.SGD([{"params": params[:2]}, {"params": params[2:]}])
    optim.SGD(params[1:3])
    assert all(p.data is array for p, array in zip(params, arrays, strict=True))


@pytest.mark.parametrize(
    "second",
    [
        [[0, 1, 2, 3, 4, 5]],
        [[0, 1], [2, 3, 4, 5]],
        [[5, 4, 3, 2, 1, 0]],
        [[0, 2, 4], [1, 3, 5]],
        [[1, 4]],
        [[0, 3], [5]],
    ],
)
def test_two_optimizers_with_different_groupings_both_keep_working(second):
    params = parameters()
    expected = [p.data.copy() for p in params]
    one = optim.SGD(params, lr=0.5, momentum=0.5)
    two = None
    momenta = [np.zeros(p.shape) for p in params]
    for step in range(6):
        if step == 2:
            two = optim.SGD([{"params": [params[i] for i in group]} for group in second], lr=0.25)
        grads = gradients(params, seed=step)
        if step % 2:
            grads[step] = None
        one.step(grads=grads)
        for i, grad in enumerate(grads):
            if grad is not None:
                momenta[i] = 0.5 * momenta[i] + grad
                expected[i] = expected[i] - 0.5 * momenta[i]
        if two is not None:
            two.step()
            mine = {i for group in second for i in group}
            expected = sgd(expected, [grad if i in mine else None for i, grad in enumerate(grads)], 0.25)
        assert_values(params, expected)


@pytest.mark.parametrize("first", ["plain", "differentiable"])
def test_a_plain_and_a_differentiable_optimizer_share_parameters(first):
    params = parameters()
    expected = [p.data.copy() for p in params]
    kinds = {"plain": {}, "differentiable": {"differentiable": True}}
    order = [first, *(kinds.keys() - {first})]
    optimizers = [optim.SGD(params, lr=0.5, **kinds[name]) for name in order]
    for step in range(3):
        grads = gradients(params, seed=step)
        for opt in optimizers:
            opt.step(grads=grads)
            expected = sgd(expected, grads, 0.5)
            assert_values(params, expected)


def test_parameters_scattered_over_buffers_and_outside_come_back():
    params = parameters()
    expected = [p.data.copy() for p in params]
    opt = optim.SGD(params, lr=0.5)
    optim.SGD([params[4], params[2]])
    for taken in ([2], [4, 2], [0], [5]):
        opt.step(grads=gradients(params))
        optim.SGD([params[i] for i in taken], differentiable=True)
        opt.step()
        expected = sgd(sgd(expected, gradients(params), 0.5), gradients(params), 0.5)
        assert_values(params, expected)


def test_a_differentiable_optimizer_can_be_followed_by_a_plain_one():
    (p,) = parameters([(3,)])
    value, (grad,) = p.data.copy(), gradients([p])
    optim.SGD([p], lr=1.0, differentiable=True).step(grads=[grad])
    assert p.buffer is None
    optim.SGD([p], lr=1.0).step()
    assert p.buffer is not None
    np.testing.assert_array_equal(p.data, value - grad - grad)


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD])
def test_one_launch_for_each_group_and_dtype(optimizer, launches):
    a, b = parameters(), parameters(seed=2)
    c = parameters(dtype=np.float32)
    opt = optimizer([{"params": [*a, *c]}, {"params": b}], lr=0.1)
    count = sum(p.size for p in a)
    for _ in range(3):
        launches.clear()
        opt.step(grads=[*gradients(a), *gradients(c), *gradients(b)])
        assert launches == [count] * 3


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_parameters_are_pairs_of_reals(dtype, launches):
    params = parameters(dtype=dtype)
    params[0].data += 1j
    before = [p.data.copy() for p in params]
    opt = optim.Adam(params, lr=0.5, eps=0.0)
    opt.step(grads=[(1 - 2j) * np.ones(p.shape, dtype) for p in params])
    assert launches == [2 * sum(p.size for p in params)]
    for p, value in zip(params, before, strict=True):
        np.testing.assert_allclose(p.data, value - (0.5 - 0.5j), **CLOSE["float32"])
        assert opt.state[p]["exp_avg"].dtype == dtype
        np.testing.assert_allclose(opt.state[p]["exp_avg_sq"], (0.001 + 0.004j) * np.ones(p.shape), **CLOSE["float32"])


def test_no_gradients_no_launch_and_no_state(launches):
    opt = optim.Adam(parameters())
    opt.step()
    assert launches == []
    assert len(opt.state) == 0


def test_empty_parameters_are_counted_but_not_launched(launches):
    (p,) = parameters([(0, 3)])
    opt = optim.Adam([p])
    opt.step(grads=[np.zeros((0, 3))])
    assert launches == []
    assert opt.state[p]["step"] == 1


@pytest.mark.parametrize(
    ("present", "sizes"),
    [
        ("110111", [3 + 1, 0 + 5 + 4]),
        ("101011", [3, 4, 5 + 4]),
        ("000111", [0 + 5 + 4]),
        ("111000", [3 + 1 + 4]),
        ("100001", [3, 4]),
        ("001110", [4 + 0 + 5]),
        ("000100", []),
    ],
)
def test_one_launch_for_each_run_of_neighbours_with_gradients(present, sizes, launches):
    # Six parameters of 3, 1, 4, 0, 5 and 4 numbers; those of no size launch nothing of their own.
    params = parameters([(3,), (), (2, 2), (0,), (5,), (4,)])
    expected = [p.data.copy() for p in params]
    grads = [grad if flag == "1" else None for grad, flag in zip(gradients(params), present, strict=True)]
    optim.SGD(params, lr=0.5).step(grads=grads)
    assert launches == sizes
    assert_values(params, sgd(expected, grads, 0.5))


def test_runs_are_cut_where_step_counts_differ_and_joined_when_they_agree_again(launches):
    params = parameters([(2,), (3,), (4,)])
    opt = optim.Adam(params)

    def step(present):
        launches.clear()
        opt.step(grads=[g if flag == "1" else None for g, flag in zip(gradients(params), present, strict=True)])
        return list(launches)

    assert step("111") == [9]
    assert step("110") == [5]
    assert step("111") == [5, 4]
    assert step("001") == [4]
    assert step("111") == [9]
    assert [opt.state[p]["step"] for p in params] == [4, 4, 4]
    assert step("101") == [2, 4]
    assert step("010") == [3]
    assert step("111") == [9]


def test_parameters_that_agree_again_are_one_in_python_too():
    params = parameters([(2,)] * 50)
    opt = optim.Adam(params)
    grads = gradients(params)
    opt.step(grads=[*grads[:20], *[None] * 30])
    opt.step(grads=[*[None] * 20, *grads[20:]])
    opt.step(grads=grads)
    assert python_calls(opt.step).total() < 50


def test_what_another_optimizer_took_does_not_cost_python_calls():
    params = parameters([(2,)] * 50)
    optim.SGD(params)
    opt = optim.SGD(params[:40])
    for p in params[:40]:
        p.grad = np.ones(2)
    optim.SGD([params[49], params[40]])
    optim.SGD(params[41:49], differentiable=True)
    opt.step()
    assert python_calls(opt.step).total() < 50


def test_plain_sgd_does_not_care_about_step_counts(launches):
    params = parameters([(2,), (3,)])
    opt = optim.SGD(params)
    opt.step(grads=[gradients(params)[0], None])
    opt.step(grads=gradients(params))
    assert launches == [2, 5]


def python_calls(function):
    """Return how often each Python function is called while this one runs."""
    calls = Counter()

    def trace(frame, event, _):
        if event == "call":
            calls[frame.f_code.co_qualname] += 1

    sys.setprofile(trace)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "build", [lambda p: optim.Adam(p, fused=True), lambda p: optim.Adam(p, foreach=True), optim.SGD]
)
def test_a_step_calls_no_python_for_each_parameter(build):
    def calls(count):
        params = parameters([(2,)] * count)
        opt = build(params)
        for p in params:
            p.grad = np.ones(2)
        opt.step()
        return python_calls(opt.step)

    few, many = calls(2), calls(1000)
    assert many == few
    assert many.total() < 100


def test_a_missing_gradient_is_noticed_wherever_it_is_removed():
    params = parameters([(1,)] * 4)
    optim.SGD(params[::2])
    opt = optim.SGD(params, lr=1.0)
    other = optim.SGD(params[1:3])
    opt.step(grads=[np.ones(1)] * 4)
    other.zero_grad()
    before = [p.data.copy() for p in params]
    opt.step()
    assert_values(params, [before[0] - 1, before[1], before[2], before[3] - 1])
    other.zero_grad()
    for p in params:
        p.grad = np.ones(1)
        p.grad = np.ones(1)
    opt.step()
    assert_values(params, [before[0] - 2, before[1] - 1, before[2] - 1, before[3] - 2])


def test_gradients_of_before_the_optimizer_are_kept():
    params = parameters([(2,), (3,)])
    before, (first, _) = [p.data.copy() for p in params], gradients(params)
    params[0].grad = first
    optim.SGD(params, lr=1.0).step()
    assert_values(params, [before[0] - first, before[1]])
