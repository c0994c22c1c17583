"""How many threads a step may use."""

from . import kernels


def get_num_threads() -> int:
    """Return how many threads one step may use, the caller's included."""
    return kernels.threads.get_count()


def set_num_threads(n: int) -> None:
    """Set how many threads one step may use, the caller's included, in the whole process from the next step on.

    Results do not depend on it. Short steps use one thread anyway. Norms, clipping and averages obey it too.

    Args:
        n: at least 1. More than there are cores is slower (default: ``NUMBA_NUM_THREADS``, else ``OMP_NUM_THREADS``,
            else the cores that this process may use).

    Raises:
        TypeError: n is not an integer.
        ValueError: n is less than 1.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)

    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"the number of threads must be an integer, but is {n!r}")
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, but is {n!r}")
    kernels.threads.set_count(int(n))
