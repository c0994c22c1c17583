"""torch, in each of its implementations on the CPU."""

from functools import partial
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from refoptim.conformance.adapters.replay import Library
from refoptim.conformance.adapters.torchlike import TorchLike
from refoptim.conformance.runner.adapter import Info, Unsupported
from refoptim.conformance.vectors.vector import Rows, Trajectory

torch: Any = import_module("torch")  # there is no need to have it where types are checked
swa_utils: Any = import_module("torch.optim.swa_utils")

Array = NDArray[Any]

_HOW: dict[str, dict[str, Any]] = {
    "for-loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def _gradient(grad: Array | Rows, param: Any) -> Any:
    if isinstance(grad, Rows):
        return torch.sparse_coo_tensor(torch.tensor(grad.indices)[None], torch.tensor(grad.values), param.shape)
    return torch.tensor(grad)


_LIBRARY = Library(
    optimizers=torch.optim,
    schedulers={**vars(torch.optim.lr_scheduler), "SWALR": swa_utils.SWALR},
    parameter=lambda array: torch.nn.Parameter(torch.tensor(array)),
    gradient=_gradient,
    values=lambda tensor: tensor.detach().numpy(),
    array=torch.tensor,
)


class Torch(TorchLike):
    """torch."""

    def __init__(self, implementation: str = "for-loop") -> None:
        super().__init__(_LIBRARY, _HOW[implementation])
        self.info = Info(f"torch {implementation}", torch.__version__, homepage="https://pytorch.org")

    def start(self, problem: Trajectory) -> None:
        """Build the parameters, the groups and the optimizer."""
        if self._how.get("fused"):  # documented to take floats alone, and as arrays
            _refuse(problem)
        super().start(problem)


def _refuse(problem: Trajectory) -> None:
    if problem.dtype.startswith("c"):
        raise Unsupported(f"dtype:{problem.dtype}")
    if any(isinstance(grad, Rows) for step in problem.steps for grad in step.grads.values()):
        raise Unsupported("feature:sparse")


foreach = partial(Torch, "foreach")
fused = partial(Torch, "fused")
