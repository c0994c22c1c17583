"""Products of matrices: right, the same bits on any number of threads and on other processors, and safe to call."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import refoptim as optim
from refoptim.conformance.tolerances import CLOSE
from refoptim.kernels import bfloat16, matmul
from refoptim.kernels.arithmetic import fma

KINDS = [np.float32, np.float64]
WIDTHS = (1, 5, 6, 7, 16, 17, 50, 131)
SHAPES = [(a, b, c) for a, b, c in product(WIDTHS, repeat=3) if a * b * c < 200_000]


def numbers(*shape, kind=np.float64):
    rng = np.random.default_rng([3, *shape])
    return (rng.standard_normal(shape) * 10.0 ** rng.uniform(-2, 2, shape)).astype(kind)


def products(kind):
    """Return a digest of the products and Gram matrices of all shapes."""
    digest = hashlib.sha256()
    for rows, depth, columns in SHAPES:
        a, b = numbers(rows, depth, kind=kind), numbers(depth, columns, kind=kind)
        out, square = np.full((rows, columns), np.nan, kind), np.full((rows, rows), np.nan, kind)
        matmul.matmul(out, a, b)
        matmul.gram(square, a)
        digest.update(out.tobytes() + square.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 1), (7, 5, 3), (6, 9, 16), (5, 4, 33)])
def test_every_element_is_one_chain_of_fmas(rows, depth, columns, kind):
    a, b = numbers(rows, depth, kind=kind), numbers(depth, columns, kind=kind)
    out, square = np.empty((rows, columns), kind), np.empty((rows, rows), kind)
    matmul.matmul(out, a, b)
    matmul.gram(square, a)
    for got, right in [(out, b), (square, a.T)]:
        for i, j in np.ndindex(got.shape):
            total = kind(0)
            for k in range(depth):
                total = fma(a[i, k], right[k, j], total)
            assert got[i, j] == total


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_as_near_as_its_terms_allow(kind):
    a, b = numbers(50, 40, kind=kind), numbers(40, 60, kind=kind)
    out = np.empty((50, 60), kind)
    matmul.matmul(out, a, b)
    rounding = Fraction(float(np.finfo(kind).eps)) / 2
    for i, j in [(0, 0), (49, 59), (20, 31)]:
        terms = [Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[i], b[:, j], strict=True)]
        assert abs(Fraction(float(out[i, j])) - sum(terms)) <= 41 * rounding * sum(map(abs, terms))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gram_matrix_is_the_product_with_the_transpose(kind):
    for rows, depth in [(1, 1), (5, 3), (97, 20), (150, 31)]:
        a = numbers(rows, depth, kind=kind)
        square, full = np.empty((rows, rows), kind), np.empty((rows, rows), kind)
        matmul.gram(square, a)
        matmul.matmul(full, a, np.ascontiguousarray(a.T))
        assert square.tobytes() == full.tobytes() == np.ascontiguousarray(square.T).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_matter(monkeypatch, kind):
    before, found = optim.get_num_threads(), {products(kind)}
    monkeypatch.setattr(matmul, "SERIAL_BELOW", 0)
    try:
        for threads in range(1, 4):
            optim.set_num_threads(threads)
            found.add(products(kind))
    finally:
        optim.set_num_threads(before)
    assert len(found) == 1


PROCESSORS = {"x86-64": "sse2", "haswell": "avx2"}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="the processors are x86-64 ones")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_other_processors(tmp_path, processor):
    if PROCESSORS[processor] not in Path("/proc/cpuinfo").read_text(encoding="utf-8").split():
        pytest.skip(f"this machine has no {PROCESSORS[processor]}")
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    run = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [products(kind) for kind in KINDS]


def test_nothing_between_is_zero():
    out = np.full((2, 3), np.nan)
    matmul.matmul(out, np.empty((2, 0)), np.empty((0, 3)))
    assert out.tobytes() == np.zeros((2, 3)).tobytes()
    matmul.matmul(np.empty((0, 3)), np.empty((0, 4)), np.ones((4, 3)))


@pytest.mark.parametrize("special", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_row_and_column(special):
    a, b = numbers(13, 9), numbers(9, 21)
    a[4, 2] = special
    out = np.empty((13, 21))
    matmul.matmul(out, a, b)
    assert not np.isfinite(out[4]).any()
    assert np.isfinite(np.delete(out, 4, axis=0)).all()


SQUARE = np.ones((3, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((3, 2)), SQUARE, SQUARE), "no product of shape"),
        ((SQUARE.copy(), np.ones((3, 2)), SQUARE), "no product"),
        ((SQUARE.astype(np.float32), SQUARE, SQUARE), "of one type"),
        ((SQUARE.copy(), SQUARE, np.ones((3, 6))[:, ::2]), "C-contiguous"),
        ((SQUARE.copy(), SQUARE, np.ones(3)), "C-contiguous matrices"),
        ((SQUARE, SQUARE, np.ones((3, 3))), "share memory"),
    ],
)
def test_what_would_read_other_memory_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        matmul.matmul(*arguments)


@pytest.mark.parametrize("out", [np.ones((3, 2)), np.ones(3), np.ones((3, 3), np.float32)])
def test_a_gram_matrix_goes_only_where_it_fits(out):
    with pytest.raises(ValueError, match=r"Gram|product"):
        matmul.gram(out, SQUARE)


@pytest.mark.parametrize(
    ("number", "nearest"),
    [
        (1.0, 1.0),
        (1 + 2**-8, 1.0),  # in the middle, and 1 is even
        (1 + 3 * 2**-8, 1 + 2**-6),  # in the middle, and the upper one is even
        (1 + 2**-8 + 2**-20, 1 + 2**-7),
        (-(1 + 2**-9), -1.0),
        (-0.0, -0.0),
        (3.4e38, np.inf),
        (np.inf, np.inf),
        (-np.inf, -np.inf),
        (np.nan, np.nan),
    ],
)
def test_rounding_to_bfloat16(number, nearest):
    got = bfloat16.round_to_bfloat16(np.array([number], np.float32))
    np.testing.assert_array_equal(got, np.array([nearest], np.float32))
    assert np.signbit(got[0]) == np.signbit(nearest)


def test_every_nan_stays_one():
    bits = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    assert np.isnan(bfloat16.round_to_bfloat16(bits.view(np.float32).copy())).all()


def test_rounding_to_bfloat16_is_torchs():
    torch = pytest.importorskip("torch", reason="torch, which has bfloat16, is not installed")
    x = np.random.default_rng(4).integers(0, 2**32, 10_000, np.uint32).view(np.float32)
    ours = bfloat16.round_to_bfloat16(x.copy())
    np.testing.assert_array_equal(ours, torch.tensor(x).bfloat16().float().numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rows", "columns"), [(6, 15), (12, 31), (6, 7), (48, 23), (6, 16), (7, 17), (1, 1)])
def test_nothing_is_written_behind_a_product(rows, columns, dtype):
    rng = np.random.default_rng([rows, columns])
    a, b = rng.standard_normal((rows, 5)).astype(dtype), rng.standard_normal((5, columns)).astype(dtype)
    around = np.full(rows * columns + 64, np.nan, dtype)
    out = around[: rows * columns].reshape(rows, columns)
    matmul.matmul(out, a, b)
    np.testing.assert_allclose(out, a @ b, **CLOSE[np.dtype(dtype).name])
    assert np.isnan(around[rows * columns :]).all()


if __name__ == "__main__":
    json.dump([products(kind) for kind in KINDS], sys.stdout)
