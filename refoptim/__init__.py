"""torch.optim without torch: optimizers as Numba kernels on flat NumPy buffers. ``import refoptim as optim``."""

from .optimizer import Optimizer as Optimizer
from .optimizers.adam import Adam as Adam
from .optimizers.adam import AdamW as AdamW
from .optimizers.sgd import SGD as SGD
from .parameter import Parameter as Parameter

__version__ = "0.1.0"
