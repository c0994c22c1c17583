"""Matrix products that do not depend on who computes them: each element is one chain of fmas, its terms in order.

On the CPU a tile of ``HEIGHT`` rows and one vector of columns stays in registers from the first term to the last. The
right matrix is first copied into strips that are one vector wide, so that the terms of a tile lie behind each other.
The width of the vector is no part of the result: every column has its own chain.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from refoptim.kernels import matmul_gpu as gpu
from refoptim.kernels import operations
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import CpuTasks, cpu_loop, cpu_part, share
from refoptim.kernels.memory import on_gpu

HEIGHT = 6  # rows of a tile: with AVX2's 16 registers, 12 hold the sums of 64 bytes of columns
LINE = 64  # bytes of columns of a tile
BAND = 8 * HEIGHT  # rows that one thread computes at a time
STRIPS = 8  # strips that stay in the cache while a band passes them
# Waking the other threads takes as long as one thread needs for about this many terms.
SERIAL_BELOW = 1_000_000


@intrinsic
def _compute_tile(typing_context, target, top, left, a, row, strips, strip):
    """Write into the target, from a place on: the rows of a from this one on, times a strip."""

    def generate(context, builder, signature, arguments):
        target_type, _, _, a_type, index, strips_type, _ = signature.args
        target, top, left, a, row, strips, strip = arguments
        bits = a_type.dtype.bitwidth
        width = LINE * 8 // bits
        vector = ir.VectorType(context.get_data_type(a_type.dtype), width)
        constant = context.get_constant

        def pointer(kind: Any, array: Any, *place: Any) -> Any:
            return cgutils.get_item_pointer(
                context, builder, kind, context.make_array(kind)(context, builder, array), list(place)
            )

        rows, depth = cgutils.unpack_tuple(builder, context.make_array(a_type)(context, builder, a).shape, 2)
        last = builder.sub(rows, constant(index, 1))
        starts, sums = [], []
        for i in range(HEIGHT):
            below = builder.add(row, constant(index, i))
            # Behind the last row it is computed again, for nobody.
            below = builder.select(builder.icmp_signed("<", below, last), below, last)
            starts.append(pointer(a_type, a, below, constant(index, 0)))
            sums.append(cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * width)))
        first = pointer(strips_type, strips, strip, constant(index, 0), constant(index, 0))
        lines = builder.bitcast(first, vector.as_pointer())
        with cgutils.for_range(builder, depth) as loop:
            line = builder.load(builder.gep(lines, [loop.index]), align=bits // 8)
            for start, total in zip(starts, sums, strict=True):
                x = operations.everywhere(builder, vector, builder.load(builder.gep(start, [loop.index])))
                builder.store(operations.fma(builder, x, line, builder.load(total)), total)
        for i, total in enumerate(sums):
            place = pointer(target_type, target, builder.add(top, constant(index, i)), left)
            builder.store(builder.load(total), builder.bitcast(place, vector.as_pointer()), align=bits // 8)
        return context.get_dummy_value()

    return types.none(target, types.intp, types.intp, a, row, strips, strip), generate


@cpu_part
def _compute_band(out, a, strips, top, first):
    """Compute a band of rows, from this strip on."""
    width = strips.shape[2]
    rows, columns = out.shape
    tile = np.empty((HEIGHT, width), out.dtype)
    for left in range(first, strips.shape[0], STRIPS):
        for row in range(top, min(top + BAND, rows), HEIGHT):
            for strip in range(left, min(left + STRIPS, strips.shape[0])):
                start = strip * width
                if row + HEIGHT <= rows and start + width <= columns:
                    _compute_tile(out, row, start, a, row, strips, strip)
                else:
                    _compute_tile(tile, 0, 0, a, row, strips, strip)
                    for i in range(min(HEIGHT, rows - row)):
                        for j in range(min(width, columns - start)):
                            out[row + i, start + j] = tile[i, j]


def product_cpu(out, a, strips, symmetric, first, stop):
    for band in range(first, stop):
        _compute_band(out, a, strips, band * BAND, symmetric * (band * BAND // strips.shape[2]))


_product = CpuTasks(product_cpu)


@cpu_loop
def small_product_cpu(out, a, b, strips, symmetric):
    """Compute a @ b, or if that is symmetric a @ b.T, in one call: for small matrices calls are what takes time.

    ``b`` is flat, and ``strips`` has zeros where it has no columns.
    """
    rows, columns = out.shape
    depth, width = strips.shape[1:]
    # One loop for both products, because a first step waits until it is compiled.
    across, down = (depth, 1) if symmetric else (1, columns)
    for column in range(columns):
        for k in range(depth):
            strips[column // width, k, column % width] = b[column * across + k * down]
    for top in range(0, rows, BAND):
        _compute_band(out, a, strips, top, symmetric * (top // width))
    if symmetric:
        for i in range(rows):
            for j in range(i):
                out[i, j] = out[j, i]


def _multiply(out: Any, a: Any, b: Any, symmetric: int) -> None:
    # A band is as much as a thread takes at a time. Those of a symmetric product get shorter: none waits for long.
    bands, terms = -(-out.shape[0] // BAND), out.size * a.shape[1]
    if terms < SERIAL_BELOW:
        width = LINE // out.itemsize
        strips = np.zeros((-(-out.shape[1] // width), a.shape[1], width), out.dtype)
        small_product_cpu.serial(out, a, b.reshape(-1), strips, symmetric)
        return
    strips = _strips(b.T if symmetric else b)
    if not share(_product.serial, (out, a, strips, symmetric, 0, 0), 0, bands, 1):
        _product.serial(out, a, strips, symmetric, 0, bands)
    if symmetric:
        mirror(out)


def matmul(out: Any, a: Any, b: Any) -> None:
    """Write a @ b into out. All three are C-contiguous matrices of one type, and out is another than a and b."""
    _check(out, a, b)
    if a.shape[1] != b.shape[0] or out.shape != (a.shape[0], b.shape[1]):
        raise ValueError(f"matrices of shapes {a.shape} and {b.shape} have no product of shape {out.shape}")
    if on_gpu(out):
        gpu.matmul(out, a, b)
    else:
        _multiply(out, a, b, 0)


def gram(out: Any, a: Any) -> None:
    """Write a @ a.T into out, which is symmetric: one half is computed, and copied to the other."""
    _check(out, a)
    if out.shape != (a.shape[0], a.shape[0]):
        raise ValueError(f"a matrix of shape {a.shape} has no Gram matrix of shape {out.shape}")
    if on_gpu(out):
        gpu.gram(out, a)
    else:
        _multiply(out, a, a, 1)


def transposed(a: Any, empty: Any) -> Any:
    """Return a.T as a C-contiguous matrix, on a GPU one that this function like ``np.empty`` makes."""
    if not on_gpu(a):
        return np.ascontiguousarray(a.T)
    out = empty((a.shape[1], a.shape[0]), a.dtype)
    gpu.transpose(out, a)
    return out


def mirror(out: Any) -> None:
    """Copy what is above the diagonal below it."""
    for top in range(0, len(out), LINE):
        below = slice(top, top + LINE)
        out[below, :top] = out[:top, below].T
        corner = out[below, below]
        np.copyto(corner, corner.T, where=_BELOW[: len(corner), : len(corner)])


_BELOW = np.tri(LINE, k=-1, dtype=bool)


def _strips(b: Any) -> Any:
    """Return the columns of a matrix in strips that are one vector wide, with zeros behind the last."""
    depth, columns = b.shape
    width = LINE // b.itemsize
    strips = np.empty((-(-columns // width), depth, width), b.dtype)
    for i, strip in enumerate(strips):
        own = b[:, i * width : (i + 1) * width]
        strip[:, : own.shape[1]] = own
        strip[:, own.shape[1] :] = 0
    return strips


def _check(out: Any, *factors: Any) -> None:
    gpu = on_gpu(out)
    for array in (out, *factors):
        # The compiled code reads memory as these say that it is.
        same = array.dtype == out.dtype and array.ndim == 2 and on_gpu(array) == gpu
        if not (same and (array.is_c_contiguous() if gpu else array.flags.c_contiguous)):
            raise ValueError(f"a product takes C-contiguous matrices of one type, but got {array.dtype}, {array.shape}")
    for factor in factors:
        if not gpu and np.may_share_memory(out, factor):
            raise ValueError("out must not share memory with a factor")
