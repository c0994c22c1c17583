"""Parameters of 16 bits on a GPU, under Numba's simulator: the bits of the CPU, and clear errors for the rest.

The simulator is chosen when Numba is imported, so this file runs itself in a second process, once for all scenarios.
"""

import copy
import pickle
from itertools import cycle, product

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

import refoptim as optim  # noqa: E402
from refoptim import kernels, utils  # noqa: E402
from refoptim.gpu import Gpu  # noqa: E402

if __name__ == "__main__":
    # Only a program finds its neighbours.
    import simulated

BFLOAT16, FLOAT16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
TREES = "wider"  # a thread has 8 lanes of 16 bits
# A loop with state that begins with zeros, one that begins with other numbers, one that looks at every step anew.
OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "amsgrad": (optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "rprop": (optim.Rprop, {"lr": 2.0**-7}),
}
STOCHASTIC = {"rounding": "stochastic", "seed": 7 | 5 << 40}
WAYS = {
    "nearest": {},
    "wide": {"arithmetic": "float64"},
    "master": {"master_weights": True},
    "wide master": {"master_weights": True, "arithmetic": "float64"},
    "stochastic": STOCHASTIC,
}
# Strips have 8 elements, or 4 beside float32; the third parameter begins in the middle of one.
SHAPES = [(3,), (), (2, 11), (0,), (1, 3)]


def numbers(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * 10.0 ** rng.uniform(-6, 1, shape)).astype(dtype)


def build(name, device, dtype, shapes=SHAPES, **options):
    kind, own = OPTIMIZERS[name]
    params = [optim.Parameter(numbers(shape, dtype, seed), device=device) for seed, shape in enumerate(shapes)]
    return kind(params, **own, **options)


def params_of(optimizer):
    return [param for group in optimizer.param_groups for param in group["params"]]


def steps(optimizer, seeds, missing=()):
    for seed in seeds:
        for place, param in enumerate(params_of(optimizer)):
            gradient = numbers(param.shape, param.dtype, 100 * seed + place + 7)
            param.grad = None if (seed, place) in missing else param.place.uploaded(np.asarray(gradient, param.dtype))
        optimizer.step()
    return optimizer


def bits(optimizer):
    """Return parameters and state as bytes, and the state's dtypes."""
    state = optimizer.state_dict()["state"]
    kinds = {name: value.dtype for entry in state.values() for name, value in entry.items() if hasattr(value, "dtype")}
    return simulated.bits([params_of(optimizer), state]), kinds


def the_bits_of_the_cpu():
    for (name, way), dtype in zip(product(OPTIMIZERS, WAYS), cycle((BFLOAT16, FLOAT16))):
        built = [
            steps(build(name, device, dtype, **WAYS[way]), range(3), missing={(1, 1)}) for device in ("cuda", "cpu")
        ]
        assert bits(built[0]) == bits(built[1]), (name, way, dtype)


def numbers_that_are_none():
    found = []
    for device in ("cuda", "cpu"):
        params = [optim.Parameter(np.ones(9, dtype), device=device) for dtype in (BFLOAT16, FLOAT16)]
        optimizer = optim.SGD(params, lr=1.0)
        for param in params:
            largest = 6e4 if param.dtype == FLOAT16 else 3e38
            special = [0, np.inf, -np.inf, np.nan, -largest, 1, 2**-14, 2**-24, -1]
            param.grad = param.place.uploaded(np.array(special, param.dtype))
        optimizer.step()
        found.append([np.asarray(param).astype(np.float64) for param in params])
    for got, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(got, expected)


def written_parameters_replace_their_master_weights():
    built = [steps(build("amsgrad", device, BFLOAT16, master_weights=True), range(2)) for device in ("cuda", "cpu")]
    for optimizer in built:
        params_of(optimizer)[2].data = params_of(optimizer)[2].place.uploaded(numbers((2, 11), BFLOAT16, 3))
        steps(optimizer, [2])
    assert bits(built[0]) == bits(built[1])


def checkpoints_and_moves():
    for way, dtype in (("nearest", FLOAT16), ("master", BFLOAT16), ("stochastic", BFLOAT16)):
        options = WAYS[way]
        straight = bits(steps(build("rprop", "cpu", dtype, **options), range(4)))
        moved = steps(build("rprop", "cpu", dtype, **options), range(1)).to("cuda")
        moved = steps(moved, [1]).to("cpu")
        assert bits(steps(steps(moved, [2]).to("cuda"), [3])) == straight, way
        for here, there in (("cuda", "cpu"), ("cpu", "cuda")):
            first = steps(build("rprop", here, dtype, **options), range(2))
            second = OPTIMIZERS["rprop"][0](
                [optim.Parameter(np.array(param), device=there) for param in params_of(first)], lr=0.1, **options
            )
            second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
            assert bits(steps(second, [2, 3])) == straight, way
        for duplicate in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
            copied = duplicate(steps(build("rprop", "cuda", dtype, **options), range(2)))
            assert {param.device for param in params_of(copied)} == {"cuda:0"}
            assert bits(steps(copied, [2, 3])) == straight, way


def both_widths_and_devices_in_one_group():
    built = []
    for where in (["cuda", "cuda", "cpu", "cuda"], ["cpu"] * 4):
        dtypes = [BFLOAT16, np.float32, BFLOAT16, FLOAT16]
        params = [optim.Parameter(numbers(13, dtype, 3), device=name) for dtype, name in zip(dtypes, where)]
        built.append(steps(optim.AdamW(params, lr=0.1, master_weights=True), range(2)))
    assert bits(built[0]) == bits(built[1])


def some_rows():
    for name, dtype in (("SGD", BFLOAT16), ("SparseAdam", FLOAT16)):
        built = []
        for device in ("cuda", "cpu"):
            param = optim.Parameter(numbers((9, 3), dtype, 1), device=device)
            optimizer = getattr(optim, name)([param], lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
            for seed in range(3):
                values = param.place.uploaded(numbers((3, 3), dtype, 10 + seed))
                param.grad = optim.SparseGrad([seed, 4, 7], values, (9, 3))
                optimizer.step()
            built.append(bits(optimizer))
        assert built[0] == built[1], name


def clipping_and_norms():
    for dtype in (BFLOAT16, FLOAT16):
        found = []
        for device in ("cuda", "cpu"):
            params = [optim.Parameter(numbers(n, dtype, n), device=device) for n in (3, 70, 0, 41)]
            for param in params:
                param.grad = param.place.uploaded(np.asarray(numbers(param.shape, dtype, 5), dtype))
            # One of them lies elsewhere, so that chunks of sums lie in two arrays.
            optim.SGD(params[:2])
            norms = [utils.get_total_norm([p.grad for p in params], p) for p in (0, 1, 2, 3, "inf", "-inf")]
            norms += [utils.clip_grad_norm_(params, 0.75)]
            utils.clip_grad_value_(params, 0.05)
            found.append(simulated.bits([norms, [param.grad for param in params]]))
        assert found[0] == found[1], dtype


def averages():
    from refoptim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    for dtype in (BFLOAT16, FLOAT16):
        found = []
        for device in ("cuda", "cpu"):
            params = [optim.Parameter(numbers(n, dtype, n), device=device) for n in (3, 21)]
            model = AveragedModel(params, multi_avg_fn=get_ema_multi_avg_fn(0.75))
            for seed in range(3):
                for param in params:
                    param.data = param.place.uploaded(numbers(param.shape, dtype, seed))
                model.update_parameters(params)
            found.append(simulated.bits(list(model.module)))
        assert found[0] == found[1], dtype


def repetitions_of_a_graph_are_steps():
    for way in ("nearest", "master", "stochastic"):
        ours, cpu = (build("amsgrad", device, BFLOAT16, capturable=True, **WAYS[way]) for device in ("cuda", "cpu"))
        steps(ours, [0, 1])
        launches = captured(ours)
        for seed in (2, 3, 4):
            for place, param in enumerate(params_of(ours)):
                param.grad = param.place.uploaded(np.asarray(numbers(param.shape, BFLOAT16, 100 * seed + place + 7)))
            for call, arguments in launches:
                call(*arguments)
        steps(ours, [5])
        assert bits(ours) == bits(steps(cpu, range(6))), way


def captured(optimizer):
    """Return the launches of a step that is captured. None of them runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels.jit, "capturing", lambda: True)
        return [launch for layout in optimizer._current() for launch in layout.plan(optimizer)]


def random_numbers_are_not_repeated_by_a_graph():
    optimizer = steps(build("sgd", "cuda", BFLOAT16, **STOCHASTIC), range(1))
    before = bits(optimizer)
    with pytest.raises(RuntimeError, match="the same random numbers each time: rounding='stochastic' in a CUDA graph"):
        captured(optimizer)
    assert bits(optimizer) == before
    muon = optim.Muon([optim.Parameter(np.ones((2, 3), BFLOAT16), device="cuda")], **STOCHASTIC)
    with pytest.raises(RuntimeError, match="the same random numbers each time"):
        captured(steps(muon, range(1)))


def whole_matrices():
    dtypes = dict(zip(WAYS, cycle((BFLOAT16, FLOAT16))))
    for kind, shapes, ways in ((optim.Adafactor, [(5, 3), (), (4,)], WAYS), (optim.Muon, [(5, 3)], ["stochastic"])):
        for way in ways:
            built = []
            for device in ("cuda", "cpu"):
                params = [optim.Parameter(numbers(shape, dtypes[way], 5), device=device) for shape in shapes]
                optimizer = steps(kind(params, lr=0.1, weight_decay=0.1, **WAYS[way]), range(2))
                params[0].data = params[0].place.uploaded(numbers(shapes[0], dtypes[way], 6))
                built.append(bits(steps(optimizer, [2])))
            assert built[0] == built[1], (kind, way)


def formulas():
    with pytest.raises(RuntimeError, match="compute with CuPy on cuda:0, and it is not installed"):
        steps(build("amsgrad", "cuda", BFLOAT16, foreach=True), [0])
    with pytest.MonkeyPatch.context() as patch:
        # What CuPy would be handed: the simulator's memory is NumPy's.
        patch.setattr(Gpu, "check_formulas", lambda _: None)
        patch.setattr(Gpu, "formulas_array", lambda _, array: array._ary)
        for way, dtype, foreach in product(WAYS, (BFLOAT16, FLOAT16), (True, False)):
            options = {"foreach": foreach, **WAYS[way]}
            built = [steps(build("amsgrad", device, dtype, **options), range(2)) for device in ("cuda", "cpu")]
            assert bits(built[0]) == bits(built[1]), (way, dtype, foreach)


def what_is_refused():
    for kind in (optim.LBFGS, optim.CG):
        with pytest.raises(TypeError, match="needs more digits than float16 has"):
            kind([optim.Parameter(np.ones(2, FLOAT16), device="cuda")])
    param = optim.Parameter(np.ones(2, BFLOAT16), device="cuda")
    for wrong in (np.float32, FLOAT16):
        with pytest.raises(TypeError, match=r"write values\.astype\(ml_dtypes\.bfloat16\)"):
            param.grad = Gpu(0).uploaded(np.ones(2, wrong))


SCENARIOS = [
    the_bits_of_the_cpu,
    numbers_that_are_none,
    written_parameters_replace_their_master_weights,
    checkpoints_and_moves,
    both_widths_and_devices_in_one_group,
    some_rows,
    clipping_and_norms,
    averages,
    repetitions_of_a_graph_are_steps,
    random_numbers_are_not_repeated_by_a_graph,
    whole_matrices,
    formulas,
    what_is_refused,
]


@pytest.mark.parametrize("name", [scenario.__name__ for scenario in SCENARIOS])
def test_in_the_simulator(simulation, name):
    assert not simulation[name], simulation[name]


if __name__ == "__main__":
    kernels.jit.THREADS = 16
    simulated.LANES, simulated.CHUNK = 8, 32
    simulated.run_all(SCENARIOS)
