"""Edges of single algorithms: where they start, stop or have no size, and where torch does otherwise."""

import math

import numpy as np
import pytest

import refoptim as optim
from refoptim import Parameter
from refoptim.conformance.tolerances import CLOSE

IMPLEMENTATIONS = {"fused": {}, "foreach": {"foreach": True}, "for_loop": {"foreach": False}}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch, which is compared with, is not installed")


def both(torch, name, grads, implementation, dtype=np.float64, **options):
    """Return a parameter's values after each step from 1, and its last state, with refoptim and with torch."""
    found = []
    ours, theirs = Parameter(np.ones(1, dtype)), torch.nn.Parameter(torch.tensor(np.ones(1, dtype)))
    for opt, p, array in [
        (getattr(optim, name)([ours], **options, **IMPLEMENTATIONS[implementation]), ours, np.array),
        (getattr(torch.optim, name)([theirs], **options), theirs, lambda x, kind: torch.tensor(np.array(x, kind))),
    ]:
        values = []
        for grad in grads:
            p.grad = array([grad], dtype)
            opt.step()
            values.append(float(p.data[0]))
        found += [values, {key: float(value if key == "step" else value[0]) for key, value in opt.state[p].items()}]
    return found


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("grads", [[0.0, 0.0, 1.0, 1.0], [-0.0, 1.0, math.nan, 1.0], [math.inf, math.inf, -math.inf]])
def test_rprop_knows_gradients_without_a_size(torch, grads, implementation):
    values, state, torch_values, torch_state = both(torch, "Rprop", grads, implementation, lr=0.125)
    np.testing.assert_allclose(values, torch_values, **CLOSE["torch float64"])
    np.testing.assert_allclose(list(state.values()), list(torch_state.values()), **CLOSE["torch float64"])
    assert np.isfinite(values).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("dtype", "eps", "grad", "mean"), [
    (np.float32, 1e-6, 5e19, 0.0),  # a quotient of 4e-45, which has one digit in float32
    (np.float32, 1e-6, 1e-5, 1e25),
    (np.float32, 1e-15, 5e19, 0.0),
    (np.float32, 1e-15, 1e-10, 1e7),
    (np.float32, 1e-25, 1e-15, 1e7),
    (np.float32, 0.0, 1e19, 1e-6),
    (np.float32, 1e10, 1e19, 0.0),
    (np.float64, 1e-6, 1e149, 0.0),
])  # fmt: skip
def test_adadelta_divides_means_that_are_far_apart(dtype, eps, grad, mean, implementation):
    p = Parameter(np.zeros(1, dtype))
    opt = optim.Adadelta([p], eps=eps, **IMPLEMENTATIONS[implementation])
    opt.state[p] = {"square_avg": np.zeros(1, dtype), "acc_delta": np.full(1, mean, dtype), "step": 1}
    opt.step(grads=[np.array([grad], dtype)])
    delta = grad * np.sqrt(mean + eps) / np.sqrt(0.1 * grad**2 + eps)
    close = CLOSE[np.dtype(dtype).name] | {"atol": 0}  # steps of 1e-7 are among these
    np.testing.assert_allclose(p.data, [-delta], **close)
    np.testing.assert_allclose(opt.state[p]["acc_delta"], [0.9 * mean + 0.1 * delta**2], **close)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("dtype", "grad"), [(np.float32, 1e20), (np.float64, 1e160)])
def test_adadelta_stands_still_where_a_square_is_infinite(dtype, grad, implementation):
    p = Parameter(np.ones(1, dtype))
    opt = optim.Adadelta([p], **IMPLEMENTATIONS[implementation])
    opt.state[p] = {"square_avg": np.zeros(1, dtype), "acc_delta": np.ones(1, dtype), "step": 1}
    with np.errstate(over="ignore"):
        opt.step(grads=[np.array([grad], dtype)])
    assert (p.data[0], opt.state[p]["square_avg"][0]) == (1, np.inf)
    assert opt.state[p]["acc_delta"][0] == dtype(0.9)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("lr", "moved"), [(100.0, 50.0), (1e-9, 1e-6)])
def test_rprop_keeps_the_first_step_in_its_limits_as_torch_does(torch, lr, moved, implementation):
    values, _, torch_values, _ = both(torch, "Rprop", [1.0], implementation, lr=lr)
    np.testing.assert_allclose([values, torch_values], 1 - moved, **CLOSE["torch float64"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rprop_compares_signs_where_torchs_product_underflows(torch, implementation):
    values, state, _, torch_state = both(torch, "Rprop", [1e-25] * 3, implementation, np.float32, lr=0.1)
    np.testing.assert_allclose(values, 1 - np.cumsum([0.1, 0.12, 0.144]), **CLOSE["float32"])
    np.testing.assert_allclose([state["step_size"], torch_state["step_size"]], [0.144, 0.1], **CLOSE["float32"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rprop_shrinks_also_by_a_factor_that_underflows(torch, implementation):
    # torch makes the factor 1 then, and forgets to forget the gradient.
    options = {"lr": 0.25, "etas": (1e-50, 1.5)}
    values, state, torch_values, torch_state = both(torch, "Rprop", [1.0, -1.0], implementation, np.float32, **options)
    assert (values, torch_values) == ([0.75, 0.75], [0.75, 1.0])
    np.testing.assert_allclose([state["step_size"], torch_state["step_size"]], [1e-6, 0.25], **CLOSE["float32"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rprop_starts_with_the_learning_rate_of_a_parameters_first_step(implementation):
    a, b = Parameter([1.0]), Parameter([1.0])
    opt = optim.Rprop([a, b], lr=np.array([0.5]), **IMPLEMENTATIONS[implementation])
    opt.step(grads=[np.ones(1), None])
    opt.param_groups[0]["lr"] = 0.25
    opt.step(grads=[None, np.ones(1)])
    assert (a.data[0], b.data[0]) == (0.5, 0.75)
    assert (opt.state[a]["step_size"][0], opt.state[b]["step_size"][0]) == (0.5, 0.25)


def test_rprop_starts_with_a_learning_rate_that_has_become_0():
    a, b = Parameter([1.0]), Parameter([1.0])
    opt = optim.Rprop([a, b], lr=0.5, step_sizes=(0.0, 50.0))
    opt.step(grads=[np.ones(1), None])
    opt.param_groups[0]["lr"] = 0.0
    opt.step(grads=[None, np.ones(1)])
    assert (b.data[0], opt.state[b]["step_size"][0]) == (1.0, 0.0)


def test_each_group_of_adagrad_has_the_first_sum_it_asks_for(torch):
    """As documented; torch gives all the constructor's."""
    sums = []
    for library, parameter, array in ((optim, Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        a, b = parameter(array(1)), parameter(array(1))
        opt = library.Adagrad([{"params": [a]}, {"params": [b], "initial_accumulator_value": 8.0}])
        a.grad, b.grad = array(1), array(1)
        opt.step()
        sums.append([float(opt.state[p]["sum"][0]) for p in (a, b)])
    assert sums == [[1.0, 9.0], [1.0, 1.0]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("momentum", [0, 0.5])
def test_constant_gradients_of_rmsprop_have_a_variance(torch, implementation, momentum):
    """torch's is the negative of what rounding left, for many constants, and its root is NaN."""
    constants = np.random.default_rng(5).uniform(0.1, 10, 500).astype(np.float32)
    options = {"alpha": 0.9, "centered": True, "momentum": momentum}
    p, tensor = Parameter(np.zeros(500, np.float32)), torch.zeros(500, requires_grad=True)
    opt = optim.RMSprop([p], **options, **IMPLEMENTATIONS[implementation])
    torch_opt = torch.optim.RMSprop([tensor], **options)
    tensor.grad = torch.tensor(constants)
    for _ in range(300):
        opt.step(grads=[constants])
        torch_opt.step()
    assert np.isfinite(p.data).all()
    assert torch.isnan(tensor).any()


def test_a_new_learning_rate_of_asgd_takes_effect_a_step_late_but_at_once_for_a_new_parameter(torch):
    ours, theirs = [Parameter([0.0]), Parameter([0.0])], [torch.zeros(1, dtype=torch.float64) for _ in range(2)]
    opt, torch_opt = optim.ASGD(ours, lr=1.0, lambd=0), torch.optim.ASGD(theirs, lr=1.0, lambd=0)
    for lr in (1.0, 1.0, 0.125, 0.125):
        opt.param_groups[0]["lr"] = torch_opt.param_groups[0]["lr"] = lr
        second = None if lr == 1.0 else 1.0
        for p, tensor, value in zip(ours, theirs, (1.0, second), strict=True):
            p.grad = None if value is None else np.array([value])
            tensor.grad = None if value is None else torch.tensor([value], dtype=torch.float64)
        opt.step()
        torch_opt.step()
    assert [p.data.item() for p in ours] == [tensor.item() for tensor in theirs] == [-3.125, -0.25]


def test_infinities_beside_asgds_average_of_one_do_not_spread():
    p = Parameter([1.0, np.inf])
    opt = optim.ASGD([p], lr=0.5, lambd=0)
    for _ in range(2):
        opt.step(grads=[np.array([1.0, 1.0])])
    assert opt.state[p]["ax"].tolist() == p.data.tolist() == [0.0, np.inf]


@pytest.mark.parametrize(("beta2", "decided"), [("0.999", True), ("0.999 +/- 1e-9", True), ("0.999 +/- 1e-3", False)])
def test_a_length_of_radams_that_is_not_known_to_be_above_5_is_no_verdict(beta2, decided):
    flint = pytest.importorskip("flint", reason="python-flint, extra conformance, is not installed")
    from refoptim.conformance import truth
    from refoptim.conformance.cases import radam

    meaning = radam.meaning(radam.CASES[0])
    with truth.precision():
        zeros = [truth.balls(np.ones(2)) for _ in range(4)]
        symbols = truth.exact_symbols(meaning.symbols(6)) | {"beta2": flint.arb(beta2)}
        if decided:
            assert len(meaning.formula(*zeros, **symbols)) == 3
        else:
            with pytest.raises(truth.WideBallError, match="above 5"):
                meaning.formula(*zeros, **symbols)
