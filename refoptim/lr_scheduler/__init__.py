"""Learning-rate schedulers: each is a closed form, computed exactly, that steps like torch's."""

from .base import EPOCH_DEPRECATION_WARNING as EPOCH_DEPRECATION_WARNING
from .base import LRScheduler as LRScheduler
from .composites import ChainedScheduler as ChainedScheduler
from .composites import SequentialLR as SequentialLR
from .cosine import CosineAnnealingLR as CosineAnnealingLR
from .cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from .cyclic import CyclicLR as CyclicLR
from .lambdas import LambdaLR as LambdaLR
from .lambdas import MultiplicativeLR as MultiplicativeLR
from .one_cycle import OneCycleLR as OneCycleLR
from .plateau import ReduceLROnPlateau as ReduceLROnPlateau
from .ramps import ConstantLR as ConstantLR
from .ramps import LinearLR as LinearLR
from .ramps import PolynomialLR as PolynomialLR
from .steps import ExponentialLR as ExponentialLR
from .steps import MultiStepLR as MultiStepLR
from .steps import StepLR as StepLR
