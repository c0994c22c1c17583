"""torch.optim without torch: optimizers as Numba kernels on flat NumPy buffers. ``import refoptim as optim``."""

from .optimizer import Optimizer as Optimizer
from .optimizers.adam import Adam as Adam
from .optimizers.adam import AdamW as AdamW
from .optimizers.sgd import SGD as SGD
from .parameter import Parameter as Parameter
from .swap import swap_in_optimizer_params_and_state as swap_in_optimizer_params_and_state

__version__ = "0.1.0"
