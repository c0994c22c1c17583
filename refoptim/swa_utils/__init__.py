"""Averages of a model's weights along its training, and what goes with them. As ``torch.optim.swa_utils``."""

from .averaged_model import AveragedModel as AveragedModel
from .averages import get_ema_avg_fn as get_ema_avg_fn
from .averages import get_ema_multi_avg_fn as get_ema_multi_avg_fn
from .averages import get_swa_avg_fn as get_swa_avg_fn
from .averages import get_swa_multi_avg_fn as get_swa_multi_avg_fn
from .batch_norm import BatchNorm as BatchNorm
from .batch_norm import update_bn as update_bn
from .swalr import SWALR as SWALR
