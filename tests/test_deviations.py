"""Rows of docs/deviations.md: where state, options and loading differ from torch's. Each test is named for its row."""

import math
import warnings

import numpy as np
import pytest

import refoptim as optim

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")


def test_adagrads_groups_may_start_from_different_sums():
    """initial_accumulator_value of a group (Adagrad)."""
    sums = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        param = parameter(array(1))
        optimizer = module.Adagrad([{"params": [param], "initial_accumulator_value": 8.0}])
        param.grad = array(1)
        optimizer.step()
        sums.append(float(optimizer.state[param]["sum"][0]))
    assert sums == [9.0, 1.0]


def test_adagrads_state_appears_with_the_first_step():
    """Adagrad's state."""
    ours, theirs = optim.Parameter([1.0]), torch.nn.Parameter(torch.ones(1))
    assert len(optim.Adagrad([ours]).state[ours]) == 0
    assert len(torch.optim.Adagrad([theirs]).state[theirs]) == 2


def test_asgd_without_a_real_eta_is_refused():
    """ASGD, a step size that is not real."""
    ours = optim.Parameter([1.0])
    optimizer = optim.ASGD([ours], lr=1.0, lambd=-2.0)
    with pytest.raises(ValueError, match="lambd"):
        optimizer.step(grads=[np.array([1.0])])
    assert ours.data[0] == 1.0
    tensor = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    reference = torch.optim.ASGD([tensor], lr=1.0, lambd=-2.0)
    tensor.grad = torch.ones(1, dtype=torch.float64)
    torch.set_warn_always(True)  # it does so once in a process otherwise, and other tests may have seen it
    try:
        with pytest.warns(UserWarning, match="discards the imaginary part"):
            reference.step()
    finally:
        torch.set_warn_always(False)
    assert math.isfinite(reference.state[tensor]["eta"].item())


def test_step_counts_go_on_beyond_two_to_the_24():
    """Step counts."""
    ours, theirs = optim.Parameter([1.0]), torch.nn.Parameter(torch.tensor([1.0]))
    left, right = optim.Adam([ours]), torch.optim.Adam([theirs])
    ours.grad, theirs.grad = np.array([1.0]), torch.tensor([1.0])
    left.step()
    right.step()
    left.state[ours]["step"] = 2**24
    right.state[theirs]["step"].fill_(2**24)
    left.step()
    right.step()
    assert left.state[ours]["step"] == 2**24 + 1
    assert right.state[theirs]["step"] == 2**24


def test_loading_copies():
    """`load_state_dict`."""
    pairs = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        first, second = parameter(array(2)), parameter(array(2))
        source, target = module.Adam([first]), module.Adam([second])
        for param, optimizer in ((first, source), (second, target)):
            param.grad = array(2)
            optimizer.step()
        target.load_state_dict(source.state_dict())
        target.step()
        pairs.append((float(source.state[first]["step"]), float(target.state[second]["step"])))
    assert pairs == [(1.0, 2.0), (2.0, 2.0)]


def test_a_saved_state_does_not_change():
    """`state_dict`."""
    steps = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        param = parameter(array(2))
        optimizer = module.Adam([param])
        param.grad = array(2)
        optimizer.step()
        saved = optimizer.state_dict()
        optimizer.step()
        steps.append(float(saved["state"][0]["step"]))
    assert steps == [1.0, 2.0]


def test_a_parameter_twice_in_a_group_is_stepped_once():
    """A parameter twice in a group."""
    found = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        param = parameter(array(1))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer = module.SGD([param, param], lr=0.25)
        assert "duplicate parameters" in str(caught[0].message)
        param.grad = array(1)
        optimizer.step()
        found.append(float(param.data[0]))
    assert found == [0.75, 0.5]


def test_options_of_a_group_are_checked():
    """Options of a group."""
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        optim.SGD([{"params": [optim.Parameter([1.0])], "lr": -1}])
    torch.optim.SGD([{"params": [torch.nn.Parameter(torch.ones(1))], "lr": -1}])


def test_state_that_an_option_needs_is_there_for_all_or_none():
    """`amsgrad` switched on while a parameter with state sits out."""
    moved = []
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        params = [parameter(array(1)) for _ in range(2)]
        optimizer = module.Adam(params)
        params[0].grad = array(1)
        optimizer.step()
        optimizer.param_groups[0]["amsgrad"] = True
        params[0].grad, params[1].grad = None, array(1)
        try:
            optimizer.step()
        except KeyError as error:
            assert "max_exp_avg_sq" in str(error)  # noqa: PT017  torch raises nothing
        moved.append(float(params[1].data[0]) != 1.0)
    assert moved == [False, True]


def test_the_shape_of_loaded_state_is_checked_at_the_load():
    """Shape of loaded state."""
    for module, parameter, array in ((optim, optim.Parameter, np.ones), (torch.optim, torch.nn.Parameter, torch.ones)):
        small, large = parameter(array(2)), parameter(array(3))
        source, target = module.Adam([small]), module.Adam([large])
        small.grad, large.grad = array(2), array(3)
        source.step()
        if module is optim:
            with pytest.raises(ValueError, match="shape"):
                target.load_state_dict(source.state_dict())
            target.step()
        else:
            target.load_state_dict(source.state_dict())
            with pytest.raises(RuntimeError):
                target.step()


def test_fused_sgd_takes_parameters_that_get_a_gradient_later():
    """Fused SGD, parameters that get their first gradient late."""
    ours = [optim.Parameter(np.ones(2, np.float32)) for _ in range(2)]
    left = optim.SGD(ours, lr=0.5, momentum=0.5, fused=True)
    left.step(grads=[np.ones(2, np.float32), None])
    left.step(grads=[np.ones(2, np.float32), np.ones(2, np.float32)])
    assert ours[1].data.tolist() == [0.5, 0.5]
    theirs = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    right = torch.optim.SGD(theirs, lr=0.5, momentum=0.5, fused=True)
    theirs[0].grad = torch.ones(2)
    right.step()
    theirs[1].grad = torch.ones(2)
    with pytest.raises(TypeError):
        right.step()


def test_a_betas_tuple_has_two():
    """Three betas: torch notices in the step."""
    with pytest.raises(ValueError, match="betas"):
        optim.Adam([optim.Parameter([1.0])], betas=(0.9, 0.9, 0.9))
    tensor = torch.nn.Parameter(torch.ones(1))
    reference = torch.optim.Adam([tensor], betas=(0.9, 0.9, 0.9))
    tensor.grad = torch.ones(1)
    with pytest.raises(ValueError, match="unpack"):
        reference.step()


def stepped(library, grad=1.0, tensor_lr=False, dtype=np.float64, **options):
    """Return a parameter that starts at 1 after a step of Adam with lr 0.5."""
    start, grad = np.ones(1, dtype), np.full(1, grad, dtype)
    if library is optim:
        param = optim.Parameter(start)
        optimizer = optim.Adam([param], lr=np.array(0.5) if tensor_lr else 0.5, eps=0.0, **options)
        param.grad = grad
    else:
        # A parameter that takes part in derivatives is no leaf.
        leaf = torch.tensor(start, requires_grad=True)
        param = leaf.clone() if options.get("differentiable") else leaf
        optimizer = torch.optim.Adam([param], lr=torch.tensor(0.5) if tensor_lr else 0.5, eps=0.0, **options)
        param.grad = torch.tensor(grad)
    optimizer.step()
    return param.data[0]


def test_a_learning_rate_may_be_an_array():
    """An array as learning rate with foreach."""
    assert stepped(optim, tensor_lr=True, foreach=True) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="lr as a Tensor is not supported"):
        stepped(torch, tensor_lr=True, foreach=True)


def test_capturable_has_no_meaning_on_a_cpu():
    """`capturable` on a CPU."""
    assert stepped(optim, capturable=True) == pytest.approx(0.5)
    with pytest.raises(AssertionError, match="capturable"):
        stepped(torch, capturable=True)


def test_differentiable_steps_may_be_foreach_steps():
    """`differentiable` with foreach."""
    assert stepped(optim, differentiable=True, foreach=True) == pytest.approx(0.5)
    with pytest.raises(AssertionError, match="autograd"):
        stepped(torch, differentiable=True, foreach=True)


def test_fused_steps_take_complex_parameters():
    """Fused steps of complex parameters."""
    assert stepped(optim, grad=1 + 1j, dtype=np.complex128, fused=True) == pytest.approx(0.5 - 0.5j)
    with pytest.raises(RuntimeError, match="floating point"):
        stepped(torch, grad=1 + 1j, dtype=np.complex128, fused=True)


def test_options_that_a_saved_group_lacks_stay():
    """Options that a saved group lacks."""
    for module, param in ((optim, optim.Parameter([1.0])), (torch.optim, torch.nn.Parameter(torch.ones(1)))):
        optimizer = module.Adam([param], lr=0.5)
        saved = optimizer.state_dict()
        del saved["param_groups"][0]["lr"]
        optimizer.load_state_dict(saved)
        assert optimizer.param_groups[0].get("lr") == (0.5 if module is optim else None)


def test_loaded_state_belongs_to_a_parameter():
    """Loaded state of no parameter."""
    for module, param in ((optim, optim.Parameter([1.0])), (torch.optim, torch.nn.Parameter(torch.ones(1)))):
        optimizer = module.Adam([param])
        saved = optimizer.state_dict()
        saved["state"][7] = {"step": 1}
        if module is optim:
            with pytest.raises(ValueError, match="parameter 7"):
                optimizer.load_state_dict(saved)
            assert len(optimizer.state_dict()["state"]) == 0
        else:
            optimizer.load_state_dict(saved)
            assert 7 in optimizer.state


def test_a_parameter_of_another_optimizer_has_no_state_here():
    """State of a parameter of no group."""
    ours, theirs = optim.Adam([optim.Parameter([1.0])]), torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(KeyError, match="not optimized"):
        ours.state[optim.Parameter([1.0])]
    assert theirs.state[torch.ones(1)] == {}


def test_a_set_of_parameters_is_taken():
    """Parameters in a set: alone it is accepted, in a group it is not."""
    for module, make in ((optim, optim.Parameter), (torch.optim, torch.nn.Parameter)):
        array = np.ones(1) if module is optim else torch.ones(1)
        assert len(module.SGD({make(array), make(array)}).param_groups[0]["params"]) == 2
        with pytest.raises(TypeError, match="ordered collections"):
            module.SGD([{"params": {make(array)}}])


def test_sparse_gradients_do_not_decay():
    """SGD, sparse gradients and decay."""
    param, tensor = optim.Parameter([1.0]), torch.nn.Parameter(torch.ones(1))
    left, right = optim.SGD([param], weight_decay=0.1), torch.optim.SGD([tensor], weight_decay=0.1)
    param.grad, tensor.grad = optim.SparseGrad([[0]], [1.0], (1,)), torch.ones(1).to_sparse()
    for optimizer in (left, right):
        with pytest.raises(RuntimeError, match="sparse"):
            optimizer.step()


def test_a_decay_may_be_an_array():
    """SGD, an array as weight decay: its value in float64."""
    decay = np.array(0.1, np.float32)
    param, tensor = optim.Parameter([1.0]), torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    left = optim.SGD([param], lr=1.0, weight_decay=decay)
    right = torch.optim.SGD([tensor], lr=1.0, weight_decay=torch.tensor(decay))
    tensor.grad = torch.zeros(1, dtype=torch.float64)
    left.step(grads=[np.zeros(1)])
    right.step()
    assert param.data[0] == tensor.item() == 1 - float(decay)
