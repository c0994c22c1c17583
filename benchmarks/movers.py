"""The least that a step can take: loops that read and write as many arrays, and compute next to nothing.

They run as the kernels do, on the same threads, and keep all values: what is read of other arrays is added times 0.
"""

from typing import Any

import numpy as np

from refoptim.kernels.jit import cpu_loop


@cpu_loop
def move_2_1(a: Any, b: Any, scalars: Any) -> None:
    """Read two arrays and write one, as a step of SGD does."""
    zero = scalars[0]
    for i in range(a.size):
        a[i] = a[i] + b[i] * zero


@cpu_loop
def move_3_2(a: Any, b: Any, c: Any, scalars: Any) -> None:
    """Read three arrays and write two, as a step of SGD with momentum does."""
    zero = scalars[0]
    for i in range(a.size):
        nothing = (b[i] + c[i]) * zero
        a[i], c[i] = a[i] + nothing, c[i] + nothing


@cpu_loop
def move_4_3(a: Any, b: Any, c: Any, d: Any, scalars: Any) -> None:
    """Read four arrays and write three, as a step of Adam does."""
    zero = scalars[0]
    for i in range(a.size):
        nothing = (b[i] + c[i]) * zero
        a[i], c[i], d[i] = a[i] + nothing, c[i] + nothing, d[i] + nothing


@cpu_loop
def move_5_4(a: Any, b: Any, c: Any, d: Any, e: Any, scalars: Any) -> None:
    """Read five arrays and write four, as a step of Adam with amsgrad does."""
    zero = scalars[0]
    for i in range(a.size):
        nothing = (b[i] + c[i]) * zero
        a[i], c[i], d[i], e[i] = a[i] + nothing, c[i] + nothing, d[i] + nothing, e[i] + nothing


# By the number of arrays: parameters, gradients and state, all but the gradients written.
MOVERS = {2: move_2_1, 3: move_3_2, 4: move_4_3, 5: move_5_4}


def move(*arrays: Any) -> None:
    """Read all of these, and write all but the second."""
    MOVERS[len(arrays)](*arrays, np.zeros(1, arrays[0].dtype))
