"""The matrix products of :mod:`refoptim.kernels.matmul` on a GPU: each element is the same chain of fmas, in order.

A block computes a square of the product, ``SIDE`` elements wide, and loads ``DEPTH`` terms of each at a time. A thread
has ``OWN * OWN`` of the elements, so far from each other that neighbouring threads read neighbouring numbers.

As in ``arithmetic``, the plain functions are what the CUDA simulator runs, and compiled code has the overloads.
"""

import itertools
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import overload

from refoptim.kernels.arithmetic import fma
from refoptim.kernels.intrinsics import intrinsic
from refoptim.kernels.jit import GpuKernel, cuda, gpu_kernel, gpu_part

OWN = 8  # elements of a thread, down and across
DEPTH = 16  # terms that are loaded at a time, and threads of a block, down and across
SIDE = OWN * DEPTH
# Longer rows, so that threads that write below each other write to different banks.
_PADDED, _LONGER = SIDE + 1, DEPTH + 1


def add_term(sums: Any, rows: Any, columns: Any, down: Any, across: Any, k: Any) -> None:
    """Add a term to every sum of a thread."""
    for i in range(OWN):
        for j in range(OWN):
            sums[i, j] = fma(rows[k, down + i * DEPTH], columns[k, across + j * DEPTH], sums[i, j])


def add_terms(sums: Any, rows: Any, columns: Any, down: Any, across: Any) -> None:
    """Add all terms that are loaded to every sum of a thread."""
    for k in range(DEPTH):
        add_term(sums, rows, columns, down, across, k)


def _compile(kinds, count):
    """Return the signature of so many terms, and what generates straight code for them: indices are constants in it."""

    def generate(context, builder, signature, arguments):
        def pointer(place: int, *indices: Any) -> Any:
            kind = signature.args[place]
            array = context.make_array(kind)(context, builder, arguments[place])
            return cgutils.get_item_pointer(context, builder, kind, array, list(indices))

        def element(start: Any, offset: int) -> Any:
            return builder.gep(start, [context.get_constant(types.intp, offset)])

        down, across, k = [
            context.cast(builder, value, kind, types.intp) for value, kind in zip(arguments[3:], signature.args[3:])
        ] + [context.get_constant(types.intp, 0)] * (6 - len(arguments))
        own = pointer(0, *[context.get_constant(types.intp, 0)] * 2)
        row, column = pointer(1, k, down), pointer(2, k, across)
        totals = [builder.load(element(own, place)) for place in range(OWN * OWN)]
        for term in range(count):
            places = [term * _PADDED + n * DEPTH for n in range(OWN)]
            xs, ys = ([builder.load(element(start, place)) for place in places] for start in (row, column))
            totals = [builder.fma(x, y, total) for (x, y), total in zip(itertools.product(xs, ys), totals)]
        for place, total in enumerate(totals):
            builder.store(total, element(own, place))
        return context.get_dummy_value()

    return types.none(*kinds), generate


@intrinsic
def _add_term(typing_context, sums, rows, columns, down, across, k):
    return _compile((sums, rows, columns, down, across, k), 1)


@intrinsic
def _add_terms(typing_context, sums, rows, columns, down, across):
    return _compile((sums, rows, columns, down, across), DEPTH)


@overload(add_term, target="generic")
def _compile_add_term(sums, rows, columns, down, across, k):
    return lambda sums, rows, columns, down, across, k: _add_term(sums, rows, columns, down, across, k)


@overload(add_terms, target="generic")
def _compile_add_terms(sums, rows, columns, down, across):
    return lambda sums, rows, columns, down, across: _add_terms(sums, rows, columns, down, across)


@gpu_part
def _load_rows(shared, a, top, start):
    """Load terms of these rows: the term comes first."""
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    for n in range(OWN):
        i = down + n * DEPTH
        if top + i < a.shape[0] and start + across < a.shape[1]:
            shared[across, i] = a[top + i, start + across]


@gpu_part
def _load_columns(shared, b, left, start):
    """Load terms of these columns."""
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    for n in range(OWN):
        j = across + n * DEPTH
        if left + j < b.shape[1] and start + down < b.shape[0]:
            shared[down, j] = b[start + down, left + j]


@gpu_part
def _add(sums, rows, columns, count):
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    if count >= DEPTH:
        add_terms(sums, rows, columns, down, across)
    else:
        for k in range(count):
            add_term(sums, rows, columns, down, across, k)


@gpu_kernel
def matmul_gpu(out, a, b):
    top, left = cuda.blockIdx.y * SIDE, cuda.blockIdx.x * SIDE
    # The simulator takes two arrays made in one line for one.
    rows = cuda.shared.array((DEPTH, _PADDED), out.dtype)
    columns = cuda.shared.array((DEPTH, _PADDED), out.dtype)
    sums = cuda.local.array((OWN, OWN), out.dtype)
    for i in range(OWN):
        for j in range(OWN):
            sums[i, j] = 0
    for start in range(0, a.shape[1], DEPTH):
        _load_rows(rows, a, top, start)
        _load_columns(columns, b, left, start)
        cuda.syncthreads()
        _add(sums, rows, columns, a.shape[1] - start)
        cuda.syncthreads()
    for i in range(OWN):
        row = top + cuda.threadIdx.y + i * DEPTH
        for j in range(OWN):
            column = left + cuda.threadIdx.x + j * DEPTH
            if row < out.shape[0] and column < out.shape[1]:
                out[row, column] = sums[i, j]


@gpu_kernel
def gram_gpu(out, a):
    """Compute the squares that lie above the diagonal or on it, and write each where it is mirrored too."""
    top, left = cuda.blockIdx.y * SIDE, cuda.blockIdx.x * SIDE
    if left < top:
        return
    # The simulator takes two arrays made in one line for one.
    rows = cuda.shared.array((DEPTH, _PADDED), out.dtype)
    columns = cuda.shared.array((DEPTH, _PADDED), out.dtype)
    sums = cuda.local.array((OWN, OWN), out.dtype)
    for i in range(OWN):
        for j in range(OWN):
            sums[i, j] = 0
    for start in range(0, a.shape[1], DEPTH):
        _load_rows(rows, a, top, start)
        _load_rows(columns, a, left, start)
        cuda.syncthreads()
        _add(sums, rows, columns, a.shape[1] - start)
        cuda.syncthreads()
    for i in range(OWN):
        row = top + cuda.threadIdx.y + i * DEPTH
        for j in range(OWN):
            column = left + cuda.threadIdx.x + j * DEPTH
            if row < out.shape[0] and column < out.shape[1]:
                out[row, column] = sums[i, j]
                out[column, row] = sums[i, j]


@gpu_kernel
def transpose_gpu(out, a):
    wide = (a.shape[1] + DEPTH - 1) // DEPTH
    top, left = cuda.blockIdx.x // wide * DEPTH, cuda.blockIdx.x % wide * DEPTH
    across, down = cuda.threadIdx.x, cuda.threadIdx.y
    square = cuda.shared.array((DEPTH, _LONGER), out.dtype)
    if top + down < a.shape[0] and left + across < a.shape[1]:
        square[down, across] = a[top + down, left + across]
    cuda.syncthreads()
    if left + down < out.shape[0] and top + across < out.shape[1]:
        out[left + down, top + across] = square[across, down]


def matmul(out: Any, a: Any, b: Any) -> None:
    """Write a @ b into out."""
    _launch(matmul_gpu, out, a, b)


def gram(out: Any, a: Any) -> None:
    """Write a @ a.T into out."""
    _launch(gram_gpu, out, a)


def transpose(out: Any, a: Any) -> None:
    """Write a.T into out."""
    rows, columns = a.shape
    if a.size:
        transpose_gpu.run(-(-rows // DEPTH) * -(-columns // DEPTH), (DEPTH, DEPTH), out, a)


def _launch(kernel: GpuKernel, out: Any, *factors: Any) -> None:
    rows, columns = out.shape
    if out.size:
        kernel.run((-(-columns // SIDE), -(-rows // SIDE)), (DEPTH, DEPTH), out, *factors)
