"""The CUDA kernel that takes the scalars of a step from a table."""

from refoptim.kernels.jit import cuda, gpu_kernel


@gpu_kernel
def take_row_gpu(scalars, table, position):
    """Copy the row whose turn it is, behind the end the last one, and count. One block, a thread for each scalar."""
    i = cuda.grid(1)
    row = min(position[0], position[1] - 1)
    scalars[i] = table[row * scalars.size + i]
    cuda.syncthreads()
    if i == 0:
        position[0] += 1
