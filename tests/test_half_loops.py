"""kernels/half_loops.py: packs of elements of 16 bits take the steps of single ones."""

import numpy as np
import pytest

ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes, extra half, is not installed")

from refoptim import kernels  # noqa: E402
from refoptim.kernels import half, half_loops, philox  # noqa: E402

DTYPES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]
# In two stages, with a root that the divider takes or Newton's steps; in one, with roots and without.
LOOPS = {
    "adam": kernels.adam.adam_cpu,
    "centered RMSprop": kernels.rmsprop.centered_cpu,
    "adagrad": kernels.adagrad.adagrad_cpu,
    "adadelta": kernels.adadelta.adadelta_cpu,
    "momentum": kernels.sgd.momentum_cpu,
    "rprop": kernels.rprop.rprop_cpu,
}
# The last elements of a tile of random bits, two whole tiles, packs and what is left of them.
PLACE, SIZE = philox.TILE - 55, 2 * philox.TILE + 150


@pytest.mark.parametrize("way", ["nearest", "stochastic"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LOOPS)
def test_packs_take_the_steps_of_single_elements(name, dtype, way):
    loop, rng = LOOPS[name], np.random.default_rng(2)
    scalars = rng.uniform(0.1, 0.9, len(loop._names["Scalars"]._fields)).astype(np.float32)
    scales = 10.0 ** rng.uniform(-4, 1, (loop.arrays, SIZE))
    start = [np.abs(x).astype(dtype) for x in rng.standard_normal(scales.shape) * scales]
    draws = [half_loops.draws(7, 3, 1, PLACE)] if way == "stochastic" else []
    serial = getattr(loop.half, way).serial

    def stepped(*places):
        arrays = [x.copy() for x in start]
        for first, stop in places:
            serial(tuple(map(half.as_bits, arrays)), scalars, *draws, first, stop)
        return arrays

    together, apart = stepped((0, SIZE)), stepped(*((i, i + 1) for i in range(SIZE)))
    for number, (x, y) in enumerate(zip(together, apart, strict=True)):
        np.testing.assert_array_equal(half.as_bits(x), half.as_bits(y), err_msg=f"array {number}")
    assert (half.as_bits(together[0]) != half.as_bits(start[0])).any()
