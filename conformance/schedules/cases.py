"""The schedulers' cases: option sets to judge."""

from collections.abc import Mapping
from typing import Any, NamedTuple

LONG = 10_000  # epochs over which a recursion may drift


class Case(NamedTuple):
    """One scheduler under one set of options, over so many epochs. What the options leave out has torch's default."""

    scheduler: str
    options: Mapping[str, Any]
    epochs: int = LONG

    @property
    def parts(self) -> list["Case"]:
        """The schedulers that this one is made of."""
        return list(self.options.get("schedulers", ()))

    def __str__(self) -> str:
        return f"{self.scheduler}({', '.join(f'{name}={_text(value)}' for name, value in self.options.items())})"


def _text(value: Any) -> str:
    """Return an option as a reader would write it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value) if isinstance(value, Case) else getattr(value, "__name__", repr(value))


def inverse_sqrt(epoch: int) -> float:
    """Return the factor of the schedule that transformers were first trained with, without its warm-up."""
    return 1.0 / (1 + epoch) ** 0.5


def sawtooth(epoch: int) -> float:
    """Return a factor whose product over an even number of epochs is about 1."""
    return 0.7 if epoch % 2 else 1.0 / 0.7


def shrinking(epoch: int) -> float:
    """Return a factor for every epoch, or a scale for every cycle."""
    return 1.0 - 1.0 / (epoch + 3)


def _case(scheduler: str, last: int = LONG, /, **options: Any) -> Case:
    return Case(scheduler, options, last)


_STEPS = [
    _case("LambdaLR", lr_lambda=inverse_sqrt),
    _case("LambdaLR", lr_lambda=[inverse_sqrt, shrinking]),
    _case("MultiplicativeLR", lr_lambda=shrinking),
    _case("MultiplicativeLR", lr_lambda=[sawtooth, shrinking]),
    _case("StepLR", step_size=7),
    _case("StepLR", step_size=3, gamma=0.99),
    _case("StepLR", 200, step_size=1, gamma=1.01),
    _case("MultiStepLR", milestones=[5, 11, 12, 40]),
    _case("MultiStepLR", milestones=[0, 9, 9, 30], gamma=0.3),
    _case("ExponentialLR", gamma=0.999),
    _case("ExponentialLR", 300, gamma=0.9),
    _case("ExponentialLR", 300, gamma=1.05),
]

_RAMPS = [
    _case("ConstantLR"),
    _case("ConstantLR", factor=0.1, total_iters=20),
    _case("ConstantLR", factor=0.0, total_iters=3),
    _case("LinearLR"),
    _case("LinearLR", start_factor=0.001, total_iters=100),
    _case("LinearLR", start_factor=1.0, end_factor=0.1, total_iters=LONG),
    _case("LinearLR", 30, start_factor=0.7, end_factor=0.0, total_iters=30),
    _case("PolynomialLR"),
    _case("PolynomialLR", total_iters=LONG),
    _case("PolynomialLR", total_iters=50, power=2.0),
    _case("PolynomialLR", total_iters=70, power=0.9),
    _case("PolynomialLR", total_iters=LONG, power=3.5),
]

_COSINES = [
    _case("CosineAnnealingLR", T_max=50),
    _case("CosineAnnealingLR", T_max=7, eta_min=0.001),
    _case("CosineAnnealingLR", T_max=LONG, eta_min=1e-05),
    _case("CosineAnnealingLR", T_max=1),
    _case("CosineAnnealingLR", T_max=7.5),
    _case("CosineAnnealingWarmRestarts", T_0=10),
    _case("CosineAnnealingWarmRestarts", T_0=5, T_mult=2, eta_min=0.0001),
    _case("CosineAnnealingWarmRestarts", T_0=1, T_mult=3),
    _case("CosineAnnealingWarmRestarts", T_0=3000, eta_min=0.05),
]

_CYCLES = [
    _case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=20),
    _case("CyclicLR", base_lr=[0.01, 0.002], max_lr=[0.1, 0.2], step_size_up=3, step_size_down=8),
    _case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=2.5, step_size_down=3.25),
    _case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=6, step_size_down=0),
    _case("CyclicLR", base_lr=0.001, max_lr=0.1, step_size_up=25, mode="triangular2"),
    _case("CyclicLR", base_lr=0.01, max_lr=0.1, step_size_up=4, step_size_down=3, mode="exp_range", gamma=0.999),
    _case("CyclicLR", base_lr=0.1, max_lr=0.9, step_size_up=6, scale_fn=shrinking, cycle_momentum=False),
    _case("CyclicLR", base_lr=0.1, max_lr=0.9, step_size_up=6, scale_fn=inverse_sqrt, scale_mode="iterations"),
    _case("CyclicLR", base_lr=0.1, max_lr=0.3, step_size_up=5, base_momentum=[0.5, 0.6], max_momentum=[0.95, 0.7]),
    _case("OneCycleLR", 299, max_lr=0.1, total_steps=300),
    _case("OneCycleLR", max_lr=[0.1, 3.0], epochs=73, steps_per_epoch=137),
    _case("OneCycleLR", 99, max_lr=0.1, total_steps=100, anneal_strategy="linear", pct_start=0.25),
    _case("OneCycleLR", 199, max_lr=0.1, total_steps=200, three_phase=True, div_factor=10.0, final_div_factor=50.0),
    _case("OneCycleLR", 96, max_lr=1.0, total_steps=97, three_phase=True, anneal_strategy="linear", pct_start=0.4),
    _case("OneCycleLR", 50, max_lr=1.0, total_steps=50, cycle_momentum=False, pct_start=0.1),
    _case("OneCycleLR", 59, max_lr=1.0, total_steps=60, base_momentum=[0.5, 0.6], max_momentum=[0.95, 0.7]),
    _case("SWALR", swa_lr=0.05),
    _case("SWALR", swa_lr=[0.01, 0.5], anneal_epochs=LONG),
    _case("SWALR", swa_lr=0.001, anneal_epochs=13, anneal_strategy="linear"),
    _case("SWALR", 20, swa_lr=0.02, anneal_epochs=0),
]

_WARM = _case("LinearLR", start_factor=0.01, total_iters=10)
_COSINE = _case("CosineAnnealingLR", T_max=90)
_DECAY = _case("ExponentialLR", gamma=0.999)

_COMPOSITES = [
    _case("SequentialLR", schedulers=[_WARM, _COSINE], milestones=[10]),
    _case("SequentialLR", schedulers=[_case("ConstantLR", total_iters=30), _WARM, _DECAY], milestones=[20, 33]),
    _case(
        "SequentialLR",
        schedulers=[_case("MultiplicativeLR", lr_lambda=shrinking), _case("StepLR", step_size=2, gamma=0.9995)],
        milestones=[17],
    ),
    _case("SequentialLR", 109, schedulers=[_WARM, _case("OneCycleLR", max_lr=0.5, total_steps=100)], milestones=[10]),
    _case("SequentialLR", schedulers=[_COSINE, _case("CyclicLR", base_lr=0.01, max_lr=0.1)], milestones=[45]),
    _case("SequentialLR", schedulers=[_WARM, _COSINE, _DECAY], milestones=[10, 10]),
    _case("SequentialLR", schedulers=[_COSINE, _WARM, _DECAY], milestones=[0, 1]),
    _case("ChainedScheduler", schedulers=[_case("ConstantLR", factor=0.1, total_iters=20), _DECAY]),
    _case("ChainedScheduler", schedulers=[_WARM, _case("MultiStepLR", milestones=[30, 60], gamma=0.3), _DECAY]),
    _case("ChainedScheduler", 3000, schedulers=[_case("CosineAnnealingLR", T_max=5000), _DECAY]),
    _case("ChainedScheduler", schedulers=[_case("ChainedScheduler", schedulers=[_WARM, _DECAY]), _DECAY]),
    _case(
        "SequentialLR",
        schedulers=[
            _case("SequentialLR", schedulers=[_WARM, _DECAY], milestones=[10]),
            _case("ChainedScheduler", schedulers=[_WARM, _DECAY]),
        ],
        milestones=[40],
    ),
]

CASES: list[Case] = [*_STEPS, *_RAMPS, *_COSINES, *_CYCLES, *_COMPOSITES]

# ReduceLROnPlateau has no formula over epochs; see plateau.
PLATEAU_CASES: list[Case] = [
    _case("ReduceLROnPlateau", 400, **options)
    for options in (
        {"patience": 4},
        {"factor": 0.5, "patience": 0},
        {"mode": "max", "factor": 0.5, "patience": 2, "cooldown": 3},
        {"mode": "max", "factor": 0.7, "patience": 1, "threshold": 0.25, "threshold_mode": "abs"},
        {"factor": 0.5, "patience": 2, "threshold": 0.15, "threshold_mode": "abs", "min_lr": 0.001},
        {"factor": 0.3, "patience": 3, "threshold": 0.03, "cooldown": 1, "min_lr": [0.01, 0.0001]},
        {"factor": 0.9, "patience": 0, "eps": 0.0001},
        {"factor": 0.8, "patience": 1, "threshold": 0.0},
        {"mode": "max", "factor": 0.8, "patience": 1, "threshold": 0.0},
    )
]
