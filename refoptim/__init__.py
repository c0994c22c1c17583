"""torch.optim without torch: optimizers as Numba kernels on flat NumPy buffers. ``import refoptim as optim``."""

from . import lr_scheduler as lr_scheduler
from . import swa_utils as swa_utils
from .optimizer import Optimizer as Optimizer
from .optimizers.adadelta import Adadelta as Adadelta
from .optimizers.adafactor import Adafactor as Adafactor
from .optimizers.adagrad import Adagrad as Adagrad
from .optimizers.adam import Adam as Adam
from .optimizers.adam import AdamW as AdamW
from .optimizers.adamax import Adamax as Adamax
from .optimizers.asgd import ASGD as ASGD
from .optimizers.cg import CG as CG
from .optimizers.lbfgs import LBFGS as LBFGS
from .optimizers.muon import Muon as Muon
from .optimizers.nadam import NAdam as NAdam
from .optimizers.radam import RAdam as RAdam
from .optimizers.rmsprop import RMSprop as RMSprop
from .optimizers.rprop import Rprop as Rprop
from .optimizers.sgd import SGD as SGD
from .optimizers.sparse_adam import SparseAdam as SparseAdam
from .parameter import Parameter as Parameter
from .sparse import SparseGrad as SparseGrad
from .swap import swap_in_optimizer_params_and_state as swap_in_optimizer_params_and_state
from .threads import get_num_threads as get_num_threads
from .threads import set_num_threads as set_num_threads

__version__ = "0.1.0"
