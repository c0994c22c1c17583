"""Flat arrays are cut into pieces that share their memory, whatever the shapes."""

import numpy as np
import pytest

from refoptim import pieces
from refoptim.pieces import Pieces

SHAPES = [(3,), (2, 2), (), (1,), (0,), (0, 3), None, (1, 2, 3), ()]
DTYPES = ["float32", "float64", "complex64", "complex128", "float16", "bfloat16"]


def dtype_of(name):
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes", reason="bfloat16 is ml_dtypes'").bfloat16)
    return np.dtype(name)


@pytest.mark.parametrize("long", [pieces.LONG, 0], ids=["at once", "one by one"])
@pytest.mark.parametrize("shapes", [SHAPES, [()], [(5,)], [(0,), None], []], ids=str)
@pytest.mark.parametrize("name", DTYPES)
def test_pieces_share_the_memory_in_order(monkeypatch, name, shapes, long):
    monkeypatch.setattr(pieces, "LONG", long)
    dtype = dtype_of(name)
    sizes = [0 if shape is None else int(np.prod(shape)) for shape in shapes]
    flat = np.arange(sum(sizes)).astype(dtype)
    found = Pieces(shapes, dtype).of(flat)
    assert [piece.shape for piece in found] == [(0,) if shape is None else shape for shape in shapes]
    assert all(type(piece) is np.ndarray and piece.dtype == dtype for piece in found)
    assert all(piece.flags.c_contiguous and piece.flags.aligned and piece.flags.writeable for piece in found)
    np.testing.assert_array_equal(np.concatenate([flat[:0], *[piece.reshape(-1) for piece in found]]), flat)
    for number, piece in enumerate(found):
        piece[...] = number
    np.testing.assert_array_equal(flat, np.repeat(np.arange(len(sizes)), sizes).astype(dtype))
