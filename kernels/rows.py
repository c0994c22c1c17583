"""Rows of a flat array on a GPU: taken out for a kernel, and put back. And a number written everywhere.

A thread moves one element: a grid has as many threads as there are elements.
"""

from refoptim.kernels.jit import cuda, gpu_kernel


@gpu_kernel
def gather_gpu(taken, array, rows, width):
    """Copy these rows, each of ``width`` elements, one behind the other."""
    i = cuda.grid(1)
    if i < taken.size:
        place = i // width
        taken[i] = array[rows[place] * width + (i - place * width)]


@gpu_kernel
def scatter_gpu(taken, array, rows, width):
    """Copy what :func:`gather_gpu` took back into its rows. No row may be named twice."""
    i = cuda.grid(1)
    if i < taken.size:
        place = i // width
        array[rows[place] * width + (i - place * width)] = taken[i]


@gpu_kernel
def fill_gpu(array, value):
    """Set all elements to a number."""
    i = cuda.grid(1)
    if i < array.size:
        array[i] = value
