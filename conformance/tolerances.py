"""How far an implementation may be from the exact value: the one table, in ulps of the larger of before and after.

Each limit is earned: every mutant in ``cases`` breaks one of them, and a correct implementation none.
"""

from math import inf
from typing import NamedTuple


class Limits(NamedTuple):
    """The limits of one way to compute."""

    step: float  # parameters after one realistic step, the worst
    mean: float  # parameters after one realistic step, the mean, where torch is not there to compare with
    probe: float  # parameters and state after one step that shows the update in full, the worst
    short: float  # parameters and state after the bookkeeping scenario, the worst
    median: float  # parameters after 1,000 steps, half of them
    scaled: float  # parameters after 1,000 steps, the worst, in ulps of the largest parameter
    state: float  # each state array after 1,000 steps, half of it: float32's 0.999 is off by 64 ulp of exp_avg_sq there


LIMITS = {
    "fused": Limits(step=4.0, mean=0.3, probe=4.0, short=8.0, median=16.0, scaled=40.0, state=96.0),
    "foreach": Limits(step=4.0, mean=0.4, probe=5.5, short=8.0, median=24.0, scaled=96.0, state=96.0),
    "for-loop": Limits(step=4.0, mean=0.4, probe=5.5, short=8.0, median=24.0, scaled=96.0, state=96.0),
    "float64": Limits(step=0.501, mean=0.3, probe=0.501, short=4.0, median=16.0, scaled=40.0, state=16.0),
}

# Parameters of 16 bits, by the same columns. Arithmetic that is right to 8 ulps of float32 is right to 0.001 ulp of
# float16 and to 0.0002 of bfloat16; what remains is the one rounding. With master weights the parameters are the exact
# ones rounded after 1,000 steps too, but for float32's own error; without them the format loses what is small.
HALF_LIMITS = Limits(step=0.501, mean=0.501, probe=0.501, short=4.0, median=inf, scaled=inf, state=inf)
MASTER_LIMITS = HALF_LIMITS._replace(short=0.501, median=0.51, scaled=0.51)
HALVES = {"fused": HALF_LIMITS, "float64": HALF_LIMITS, "master": MASTER_LIMITS}


class RoundingLimits(NamedTuple):
    """The limits of roundings to 16 bits, where the right one is known to the bit."""

    nearest: int  # how many numbers are not the nearest, after a step in float32
    once: int  # after one in float64, next to the middle between two numbers
    master: int  # after some steps of a sixteenth of the distance, with master weights
    written: int  # after a step from what was written to parameters with master weights
    strays: int  # how many are none of the two neighbours, by stochastic rounding
    bias: float  # how far its means are from the exact ones, in standard errors


ROUNDING_LIMITS = RoundingLimits(nearest=0, once=0, master=0, written=0, strays=0, bias=5.0)

# Two means over 1,024 elements that differ by less are the same. Where few elements differ, by an ulp, this has a
# standard error of 0.003, and which ones do depends on the processor that torch and NumPy find.
MEAN_NOISE = 0.012

# How well the exact value must be known to judge by it, in ulps.
BALL = 0.001

# How far a learning rate may be from its schedule's exact value, in ulps: rounded once, but for the library's pow.
SCHEDULE_ULPS = {"all others": 0.5001, "fractional power": 2.0}

# Where a test compares with something that is not exact: relative to the value, and to 1 where values pass through 0.
CLOSE = {
    "float64": {"rtol": 1e-13, "atol": 1e-15},  # the same numbers by another order of operations
    "float32": {"rtol": 1e-5, "atol": 1e-6},
    "torch float64": {"rtol": 1e-11, "atol": 1e-13},  # some dozens of steps beside torch's
    "torch schedule": {"rtol": 1e-12, "atol": 1e-14},  # torch's recursion rounds at every step
    "torch float32 state": {
        "rtol": 1e-6,
        "atol": 1e-6,
    },  # NAdam and ASGD: its scalars are float32 beside float64 arrays
    "torch float32": {"rtol": 1e-4, "atol": 1e-5},
    "torch derivative": {"rtol": 1e-4, "atol": 0.0},  # its bias corrections are float32 there
    "model": {"rtol": 1e-10, "atol": 1e-10},  # a random life beside the slow model
    "model float32": {"rtol": 1e-3, "atol": 1e-3},
    "derivative": {"rtol": 1e-6, "atol": 1e-9},  # finite differences
    "derivative by two libraries": {"rtol": 1e-9, "atol": 1e-12},
}


class ScheduleLimits(NamedTuple):
    """The limits of learning rates over a whole schedule, by any way that leads to them."""

    worst: float
    mean: float


SCHEDULE_LIMITS = {
    "curve": ScheduleLimits(worst=2.0, mean=0.4),
    "plateau": ScheduleLimits(worst=0.0, mean=0.0),  # the same products of floats
}

# Where the other side has few digits: those of a documentation.
FEW_DIGITS = {"rel": 1e-3}

# Muon's update is made of 15 products of matrices, which enlarge the smallest singular values by up to 3.4445**5 = 485,
# and with them what was rounded before. In ulps of the largest parameter; float64 arithmetic has digits to spare.
MATRIX_LIMITS = {
    name: limits if name == "float64" else limits._replace(probe=24.0, short=24.0) for name, limits in LIMITS.items()
}

CLOSE |= {
    # Relative to the largest element: products in another order, through Muon's iteration.
    "matrix float64": {"rtol": 0.0, "atol": 1e-13},
    "matrix float32": {"rtol": 0.0, "atol": 1e-5},
    "matrix bfloat16": {"rtol": 0.0, "atol": 0.03},  # torch's own error
}


class MinimizerLimits(NamedTuple):
    """How far a minimizer may be from the exact value, in ulps of the largest element of each vector."""

    direction: float  # one iteration's direction, from a given history
    pair: float  # the step and the change of the gradient that it keeps: one rounding each
    t: float  # the step size
    theta: float  # the parameters after one iteration
    run: float  # the parameters after 10 iterations


MINIMIZER_LIMITS = MinimizerLimits(direction=8.0, pair=0.501, t=16.0, theta=8.0, run=64.0)

CLOSE |= {
    "torch minimizer": {"rtol": 1e-8, "atol": 1e-8},  # LBFGS beside torch, over 10 steps of several iterations
    "torch minimizer float32": {"rtol": 1e-3, "atol": 1e-3},  # whose dot products are float32
    "line search": {"rtol": 1e-12, "atol": 1e-14},
    "torch line search": {"rtol": 1e-4, "atol": 1e-6},  # whose square roots are off by an ulp, where cubics are flat
    "minimum": {"rtol": 0.0, "atol": 1e-5},  # where a minimizer ends, beside where the minimum is
}

# Of the largest movement in two steps: so far may an optimizer of another library be off that is timed beside ours.
PEERS = {"float32": 1e-3, "float64": 1e-5}
TORCH_MUON = 0.2  # bfloat16, in single elements
