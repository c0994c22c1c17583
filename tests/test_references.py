"""``state_dict(copy=False)``: the arrays themselves, whatever happens between two of them."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
from saving import CASES, assert_same, built, step

import refoptim as optim
from refoptim import Parameter, SparseGrad
from refoptim.swa_utils import AveragedModel


def arrays(saved):
    return [value for entry in saved["state"].values() for value in entry.values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.complex128])
def test_it_has_the_arrays_themselves_and_the_numbers_of_now(name, options, dtype):
    params, opt = built(name, {**options, "lr": np.array(0.1)}, dtype)
    step(opt, 1, dtype, absent=[2])
    live, kept = opt.state_dict(copy=False), opt.state_dict()
    assert_same(live, kept)
    assert live["param_groups"][1]["lr"] is opt.param_groups[1]["lr"]
    step(opt, 2, dtype, absent=[2])
    now = opt.state_dict()
    for number, entry in live["state"].items():
        for key, value in entry.items():
            assert_same(value, (now if isinstance(value, np.ndarray) else kept)["state"][number][key])
            if isinstance(value, np.ndarray):
                value[...] = 77
                assert (opt.state[params[number]][key] == 77).all()


@pytest.mark.parametrize(
    ("dtype", "options"),
    [("float16", {}), ("float16", {"master_weights": True}), ("bfloat16", {"master_weights": True})],
)
def test_parameters_of_16_bits(dtype, options):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 is ml_dtypes'")
    params = [Parameter(np.ones(shape, dtype)) for shape in ((3,), (), (2, 2))]
    opt = optim.Adam(params, **options)
    opt.step(grads=[param.data for param in params])
    live = opt.state_dict(copy=False)
    assert_same(live, opt.state_dict())
    opt.step()
    assert [array.tobytes() for array in arrays(live)] == [array.tobytes() for array in arrays(opt.state_dict())]


def test_state_that_derivatives_flow_through():
    params, opt = built("Adam", {"differentiable": True})
    step(opt, 1)
    live, kept = opt.state_dict(copy=False), opt.state_dict()
    assert_same(live, kept)
    for number, entry in live["state"].items():
        assert entry["exp_avg"] is opt.state[params[number]]["exp_avg"] is not kept["state"][number]["exp_avg"]
    step(opt, 2)
    assert_same(live, kept)


def test_parameters_of_several_dtypes_are_numbered_as_they_come():
    params = [Parameter(np.ones(2, dtype)) for dtype in ("float64", "float32", "float64", "float32")]
    opt = optim.Adam(params)
    opt.step(grads=[param.data * number for number, param in enumerate(params)])
    for saved in (opt.state_dict(), opt.state_dict(copy=False)):
        assert list(saved["state"]) == saved["param_groups"][0]["params"] == [0, 1, 2, 3]
        for param, entry in zip(params, saved["state"].values(), strict=True):
            assert_same(entry, dict(opt.state[param]))


def test_lbfgs_goes_on_from_its_own_history():
    p = Parameter(np.arange(4.0))
    opt = optim.LBFGS([p], max_iter=4)

    def closure():
        p.grad = p.data**3 - 1
        return float((p.data**4 / 4 - p.data).sum())

    opt.step(closure)
    live, kept = opt.state_dict(copy=False), opt.state_dict()
    assert live["state"][0]["old_dirs"] is opt.state[p]["old_dirs"]
    assert_same(live, kept)
    opt.step(closure)
    assert_same(live, kept)
    opt.load_state_dict(live)
    assert_same(opt.state_dict(), kept)


def test_rows_that_were_written_are_found():
    p = Parameter(np.ones((4, 2)))
    opt = optim.SGD([p], lr=1.0, momentum=0.5)
    opt.step(grads=[SparseGrad([[1]], np.ones((1, 2)), (4, 2))])
    opt.state_dict(copy=False)["state"][0]["momentum_buffer"][3] = 8
    opt.step(grads=[SparseGrad([[1]], np.zeros((1, 2)), (4, 2))])
    assert p.data[3].tolist() == [-3, -3]


@pytest.mark.parametrize("before", ["nothing", "less", "values", "pickle", "averages"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_optimizer_loads_its_own(name, options, before):
    params, opt = built(name, options)
    step(opt, 1, absent=[1])
    live, kept = opt.state_dict(copy=False), opt.state_dict()
    if before == "less":
        for saved in (live, kept):
            saved["state"].pop(0, None)
    elif before == "values":
        params[0].data = 2 * params[0].data
    elif before == "pickle":
        opt = pickle.loads(pickle.dumps(opt))
    elif before == "averages":
        AveragedModel(params).update_parameters(params)
    opt.load_state_dict(live)
    for array in arrays(live):
        array[...] = 77
    assert_same(opt.state_dict(), kept)
    assert_same(opt.state_dict(copy=False), kept)


def life(opt, params, other):
    """Change an optimizer in every way, and yield after each."""
    group = opt.param_groups[1]
    yield step(opt, 1, absent=[0])
    yield step(opt, 2, absent=[3])
    yield opt.state[params[2]].clear()
    yield opt.add_param_group({"params": [other], "amsgrad": True})
    yield opt.step(grads=[None] * 4 + [np.ones(2, np.float32)])
    yield group["params"].reverse()
    yield group["params"].remove(params[2])
    yield opt.state[other].update(mine=[np.ones(2)])
    yield opt.param_groups[0].update(differentiable=True)
    yield opt.to("cpu")
    yield opt.load_state_dict(opt.state_dict(copy=False))
    yield optim.SGD([params[3], params[1]])
    yield opt.param_groups[1]["params"].append(params[1])


def test_the_next_one_knows_what_has_changed():
    params, opt = built("Adam", {})
    other = Parameter(np.ones(2, np.float32))
    for _ in life(opt, params, other):
        saved = opt.state_dict()
        for one in (opt, copy.deepcopy(opt)):
            live, state = one.state_dict(copy=False), {}
            assert_same(live, saved)
            for group, packed in zip(one.param_groups, live["param_groups"], strict=True):
                for param, number in zip(group["params"], packed["params"], strict=True):
                    state |= {number: dict(one.state[param])} if one.state[param] else {}
            assert_same(state, saved["state"])
            for value, own in zip(arrays(live), arrays({"state": state}), strict=True):
                assert value.size == 0 or np.shares_memory(value, own)
    assert opt.state_dict(copy=False)["state"][4]["mine"] is opt.state[other]["mine"]


def test_hooks_see_what_is_not_copied():
    params, opt = built("Adam", {})
    opt.register_state_dict_pre_hook(partial(step, seed=1))
    opt.register_state_dict_post_hook(lambda _, saved: {**saved, "mine": saved["state"][0]["exp_avg"]})
    assert np.shares_memory(opt.state_dict(copy=False)["mine"], opt.state[params[0]]["exp_avg"])
    with pytest.raises(TypeError, match="positional"):
        opt.state_dict(False)
