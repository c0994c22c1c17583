"""Every row of docs/deviations_schedulers.md, with both numbers."""

import warnings

import numpy as np
import pytest

import refoptim as optim
from refoptim import lr_scheduler as ours
from refoptim.conformance.tolerances import FEW_DIGITS

torch = pytest.importorskip("torch", reason="torch, whose numbers these are, is not installed")
theirs = torch.optim.lr_scheduler

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def left(lr=0.05, cls="SGD", **options):
    return getattr(optim, cls)([optim.Parameter([1.0])], lr=lr, **options)


def right(lr=0.05, cls="SGD", **options):
    return getattr(torch.optim, cls)([torch.nn.Parameter(torch.ones(1))], lr=lr, **options)


def curve(scheduler, steps):
    found = list(scheduler.get_last_lr())
    for _ in range(steps):
        scheduler.step()
        found += scheduler.get_last_lr()
    return found


def both(name, steps, lr=0.05, **arguments):
    """Return the learning rates of both libraries."""
    return [
        curve(getattr(module, name)(optimizer, **arguments), steps)
        for module, optimizer in ((ours, left(lr, momentum=0.9)), (theirs, right(lr, momentum=0.9)))
    ]


def close(values):
    return pytest.approx(values, **FEW_DIGITS)


@pytest.mark.parametrize(
    ("build", "documented", "computed"),
    [
        (lambda m, o: m.LinearLR(o, start_factor=0.05, total_iters=4), 0.003687, 0.0025),
        (lambda m, o: m.PolynomialLR(o, total_iters=50, power=0.9), 0.0490, 0.05),
        (
            lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 20), m.ExponentialLR(o, 0.9)]),
            0.05,
            0.005,
        ),
    ],
    ids=["LinearLR", "PolynomialLR", "ChainedScheduler"],
)
def test_the_examples_of_the_documentation_are_not_what_is_computed(build, documented, computed):
    """Facts 42 to 44."""
    for scheduler in (build(ours, left()), build(theirs, right())):
        assert scheduler.get_last_lr() == close([computed])
        assert scheduler.get_last_lr() != close([documented])


def test_a_metric_that_stays_the_same_reduces():
    """Fact 45: as in torch, whose text says otherwise."""
    for scheduler in (ours.ReduceLROnPlateau(left(1.0), patience=0), theirs.ReduceLROnPlateau(right(1.0), patience=0)):
        for _ in range(3):
            scheduler.step(1.0)
        assert scheduler.get_last_lr() == close([0.01])


def test_a_relative_threshold_of_a_negative_metric_accepts_worse_ones():
    """Fact 46: as in torch, and as documented."""
    for scheduler in (ours.ReduceLROnPlateau(left()), theirs.ReduceLROnPlateau(right())):
        scheduler.step(-10.0)
        scheduler.step(-9.9995)
        assert scheduler.best == -9.9995


def test_after_eta_min_the_cosine_rises():
    """Fact 47: the documented recursion is 0/0 there. Both add what the closed form adds."""
    mine, other = both("CosineAnnealingLR", 12, T_max=5)
    assert mine == close(other)
    assert mine[5] == 0.0
    assert mine[10] == 0.05 != other[10]


def test_warm_restarts_do_not_reach_eta_min_by_whole_steps():
    """Fact 48: as in torch."""
    mine, other = both("CosineAnnealingWarmRestarts", 9, T_0=3)
    assert mine == close(other)
    assert min(mine) == close(0.0125)


def test_a_jump_to_an_epoch_is_where_steps_lead():
    """Fact 49: torch takes a logarithm, and rounds it."""
    mine, other = (m.CosineAnnealingWarmRestarts(o, 1, 3) for m, o in ((ours, left()), (theirs, right())))
    expected = mine.at(121)
    assert expected == [0.05]
    mine.step(121)
    other.step(121)
    assert (mine.get_last_lr(), other.get_last_lr()) == ([0.05], [0.0])


RESUMED = {
    "MultiplicativeLR": {"lr_lambda": lambda _: 0.9},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"total_iters": 20},
    "PolynomialLR": {"total_iters": 20, "power": 2.0},
    "CosineAnnealingLR": {"T_max": 20},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 2},
}


@pytest.mark.parametrize("name", RESUMED)
def test_last_epoch_goes_on_where_the_schedule_was(name):
    """Facts 50 and 51: torch keeps the learning rate of the epoch before, or takes another point of the curve."""
    curves = []
    for module, optimizer in ((ours, left()), (theirs, right())):
        kind = getattr(module, name)
        before = curve(kind(optimizer, **RESUMED[name]), 9)
        resumed = kind(optimizer, **RESUMED[name], last_epoch=9)
        curves.append(
            (before + curve(resumed, 5), curve(kind(right() if module is theirs else left(), **RESUMED[name]), 15))
        )
    (mine, whole), (other, torchs) = curves
    assert mine == whole
    assert whole == close(torchs)
    assert other != close(torchs)


def test_iterations_are_counted_from_the_start():
    """Fact 52: as in torch, whose text says from the start of the cycle."""
    for module, optimizer in ((ours, left()), (theirs, right())):
        seen = []
        scheduler = module.CyclicLR(
            optimizer,
            0.1,
            0.2,
            2,
            scale_fn=lambda x, seen=seen: seen.append(x) or 1.0,
            scale_mode="iterations",
            cycle_momentum=False,
        )
        curve(scheduler, 6)
        assert seen == list(range(7))


# A scheduler that is refused here; what torch says or computes.
REFUSED = {
    "53": ("CyclicLR", {"base_lr": 1, "max_lr": 2, "step_size_up": 0}, ZeroDivisionError),
    "53, scale_mode": (
        "CyclicLR",
        {"base_lr": 1, "max_lr": 2, "step_size_up": 2, "scale_fn": lambda _: 1.0, "scale_mode": "typo"},
        [1.0, 1.5, 2.0],
    ),
    "55": ("OneCycleLR", {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.1}, ZeroDivisionError),
    "56": (
        "OneCycleLR",
        {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.6, "three_phase": True},
        [0.04, *[None] * 9],
    ),
    "57": ("OneCycleLR", {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.0}, [0.9755, 0.9045]),
    "59": ("ConstantLR", {"total_iters": 0}, [0.05 / 3] * 4),
    "61": ("LinearLR", {"total_iters": 0}, [0.05 / 3] * 4),
    "62, a fraction": ("StepLR", {"step_size": 1.5}, [0.05, 0.05, 0.05, 0.005]),
    "62, zero": ("StepLR", {"step_size": 0}, ZeroDivisionError),
    "62, order": ("MultiStepLR", {"milestones": [3, 1]}, [0.05, 0.005, 0.005, 0.0005]),
    "a period of 0": ("CosineAnnealingLR", {"T_max": 0}, ZeroDivisionError),
    "a negative power": ("PolynomialLR", {"total_iters": 2, "power": -1.0}, ZeroDivisionError),
    "a negative factor": ("ReduceLROnPlateau", {"factor": -1.0}, [0.05]),
}


@pytest.mark.parametrize("fact", REFUSED)
def test_what_has_no_value_is_refused(fact):
    name, arguments, expected = REFUSED[fact]
    with pytest.raises(ValueError, match=r"Expected|phases|increasing|scale_mode|Factor"):
        getattr(ours, name)(left(momentum=0.9), **arguments)

    def other():
        scheduler = getattr(theirs, name)(right(momentum=0.9), **arguments)
        return curve(scheduler, len(expected) - 1 if isinstance(expected, list) else 3)

    if fact == "56":
        assert min(other()) > 100 * 1.0 / 25 / 1e4
    elif isinstance(expected, list):
        assert other() == close(expected)
    else:
        with pytest.raises(expected):
            other()


@pytest.mark.parametrize(("strategy", "torchs"), [("cos", 0.0495), ("linear", -0.1429)])
def test_one_cycle_does_not_go_on_behind_its_end(strategy, torchs):
    """Fact 54: the step that a loop of total_steps steps takes last."""
    mine, other = both("OneCycleLR", 10, max_lr=1.0, total_steps=10, anneal_strategy=strategy)
    assert mine[10] == mine[9] == 1.0 / 25 / 1e4
    assert other[10] == close(torchs)


def test_one_cycle_starts_where_it_should():
    """Fact 58."""
    mine, other = both("OneCycleLR", 0, max_lr=0.1, total_steps=10)
    assert mine == [0.004]
    assert other == [0.0040000000000000036]


def test_after_a_factor_of_0_comes_the_initial_learning_rate():
    """Fact 60."""
    mine = curve(ours.ConstantLR(left(), 0.0, 2), 3)
    assert mine == [0.0, 0.0, 0.05, 0.05]
    scheduler = theirs.ConstantLR(right(), 0.0, 2)
    scheduler.step()
    with pytest.raises(ZeroDivisionError):
        scheduler.step()


def test_step_epoch_of_multiplicative_is_the_product():
    mine, other = (m.MultiplicativeLR(o, lambda _: 0.5) for m, o in ((ours, left(1.0)), (theirs, right(1.0))))
    mine.step(4)
    other.step(4)
    assert (mine.get_last_lr(), other.get_last_lr()) == ([0.0625], [0.5])


def sequential(module, optimizer, kind, **options):
    parts = {
        "first": lambda: [
            module.ChainedScheduler([module.ExponentialLR(optimizer, 0.5), module.ConstantLR(optimizer, 1.0, 9)]),
            module.ExponentialLR(optimizer, 0.9),
        ],
        "later": lambda: [
            module.ExponentialLR(optimizer, 0.9),
            module.ChainedScheduler([module.ExponentialLR(optimizer, 0.5)]),
        ],
        "multiplicative": lambda: [
            module.ConstantLR(optimizer, 0.5, 9),
            module.MultiplicativeLR(optimizer, lambda _: 0.5),
        ],
        "one cycle": lambda: [
            module.LinearLR(optimizer, 0.5, 1.0, 2),
            module.OneCycleLR(optimizer, 0.1, 10, cycle_momentum=False),
        ],
    }[kind]()
    return module.SequentialLR(optimizer, parts, [3], **options)


def test_sequential_of_composites():
    """Fact 63: torch's nested composites are one epoch ahead, or fail."""
    mine, other = (curve(sequential(m, o, "first"), 3) for m, o in ((ours, left(1.0)), (theirs, right(1.0))))
    assert (mine, other) == ([1.0, 0.5, 0.25, 1.0], [0.5, 0.25, 0.125, 1.0])
    assert curve(sequential(ours, left(1.0), "later"), 5)[3:] == [1.0, 0.5, 0.25]
    with pytest.raises(NotImplementedError):
        curve(sequential(theirs, right(1.0), "later"), 5)


def test_sequential_starts_every_part_from_its_own_base():
    """Fact 63, and C.4: torch multiplies on in one case, and starts from the later scheduler's in the other."""
    mine, other = (curve(sequential(m, o, "multiplicative"), 4) for m, o in ((ours, left(1.0)), (theirs, right(1.0))))
    assert (mine[3:], other[3:]) == ([1.0, 0.5], [0.25, 0.125])
    mine, other = (curve(sequential(m, o, "one cycle"), 1) for m, o in ((ours, left(1.0)), (theirs, right(1.0))))
    assert mine == [0.5, 0.75]
    assert other == close([0.002, 0.003])


def test_sequential_goes_on_at_last_epoch():
    """Fact 63."""
    results = []
    for module, optimizer in ((ours, left(1.0)), (theirs, right(1.0))):
        results.append(curve(sequential(module, optimizer, "one cycle", last_epoch=0), 0))
    assert results[0] == [0.75]
    assert results[1] == close([0.002])


def test_a_shared_array_is_scheduled_once():
    """Fact 67."""
    arrays = np.array(1.0), torch.tensor(1.0, dtype=torch.float64)
    mine = optim.Adam([{"params": [optim.Parameter([1.0])]}, {"params": [optim.Parameter([1.0])]}], lr=arrays[0])
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))]} for _ in range(2)]
    other = torch.optim.Adam(groups, lr=arrays[1], foreach=False)
    for module, optimizer in ((ours, mine), (theirs, other)):
        scheduler = module.ReduceLROnPlateau(optimizer, patience=0)
        for _ in range(2):
            scheduler.step(1.0)
    assert [float(array) for array in arrays] == close([0.1, 0.01])
    for module, optimizer, expected in ((ours, mine, [0.1, 0.3]), (theirs, other, [0.3, 0.3])):
        module.CyclicLR(optimizer, [0.1, 0.3], 0.5, cycle_momentum=False)
        assert [float(group["lr"]) for group in optimizer.param_groups] == close(expected)


def test_an_integer_array_is_refused():
    """Fact C.7: torch truncates to 0."""
    with pytest.raises(TypeError, match="must be of a floating-point dtype, but is of int64"):
        ours.ExponentialLR(left(np.array(1)), 0.5)
    optimizer = right(torch.tensor(1))
    theirs.ExponentialLR(optimizer, 0.5).step()
    assert optimizer.param_groups[0]["lr"].item() == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ExponentialLR", {"gamma": 0.999}),
        ("LinearLR", {"start_factor": 0.001, "total_iters": 10_000}),
        ("PolynomialLR", {"total_iters": 10_001}),
        ("CosineAnnealingLR", {"T_max": 50}),
    ],
)
def test_recursions_do_not_drift(name, arguments):
    """torch's schedules move away from their closed forms step by step; these are their closed forms, rounded once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, other = both(name, 10_000, **arguments)
        (exact,) = getattr(ours, name)(left(), **arguments).at(range(10_001))
    assert mine == exact.tolist()
    nonzero = exact > 0
    assert np.max(np.abs(np.array(other) - exact)[nonzero] / np.spacing(exact[nonzero])) > 10
