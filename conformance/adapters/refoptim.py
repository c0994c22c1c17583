"""refoptim, in each of its implementations."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import refoptim
from refoptim.conformance.adapters.replay import Library
from refoptim.conformance.adapters.torchlike import TorchLike
from refoptim.conformance.runner.adapter import Info
from refoptim.conformance.subjects import IMPLEMENTATIONS
from refoptim.conformance.vectors.vector import Rows

Array = NDArray[Any]


def _gradient(grad: Array | Rows, param: refoptim.Parameter) -> Any:
    return refoptim.SparseGrad(grad.indices, grad.values, param.shape) if isinstance(grad, Rows) else grad


def _values(held: Any) -> Array:
    return held.data if isinstance(held, refoptim.Parameter) else held


_LIBRARY = Library(
    optimizers=refoptim,
    schedulers={**vars(refoptim.lr_scheduler), "SWALR": refoptim.swa_utils.SWALR},
    parameter=refoptim.Parameter,
    gradient=_gradient,
    values=_values,
    array=np.asarray,
)


class Refoptim(TorchLike):
    """refoptim."""

    def __init__(self, implementation: str = "fused") -> None:
        super().__init__(_LIBRARY, IMPLEMENTATIONS[implementation])
        self.info = Info(
            f"refoptim {implementation}", refoptim.__version__, homepage="https://github.com/refoptim/refoptim"
        )


foreach = partial(Refoptim, "foreach")
for_loop = partial(Refoptim, "for-loop")
float64 = partial(Refoptim, "float64")
