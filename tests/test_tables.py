"""Tables of the scalars of coming steps: where they may end, because the last row is right for ever."""

import numpy as np
import pytest

import refoptim as optim
from refoptim import tables

# In some the powers are of one size for long, so that what is too large for one and too small for the other cancels.
BETAS = [(0.9, 0.99), (0.5, 0.25), (0.0, 0.0), (0.0, 0.9), (0.9, 0.0), (0.95, 0.5), (0.9, 0.9), (0.9, 0.81)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("betas", BETAS, ids=str)
@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.RAdam, optim.Adamax])
def test_scalars_that_have_settled_never_change_again(kind, betas, dtype):
    optimizer = kind([optim.Parameter(np.zeros(1, dtype))], lr=0.3, betas=betas, weight_decay=0.01)
    settings = optimizer._layouts[0]._settings_of(optimizer)
    count = tables.rows_until_settled(settings, None, np.dtype(dtype))
    rows, _ = tables._rows(settings, None, count + 4000, np.dtype(dtype))
    assert (rows[count - 1 :] == rows[count - 1]).all()
    late = tables.rows_until_settled(settings, {"step": 3}, np.dtype(dtype))
    assert late == max(count - 3, 1)


def test_scalars_that_settle_too_late_or_never_have_no_end():
    for kind, options in [(optim.Adam, {"betas": (0.9, 1 - 1e-7)}), (optim.NAdam, {}), (optim.ASGD, {})]:
        optimizer = kind([optim.Parameter(np.zeros(1))], **options)
        settings = optimizer._layouts[0]._settings_of(optimizer)
        assert tables.rows_until_settled(settings, None, np.dtype(np.float64)) is None
