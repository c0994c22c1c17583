"""update_bn: the statistics of batch normalization, for weights that no training pass has seen."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..devices import on_gpu
from ..places import brought, duplicate, put
from .protocol import call, checked_device, layers_of, set_training


@runtime_checkable
class BatchNorm(Protocol):
    """What ``update_bn`` asks of a layer; any object with these attributes is one.

    In training mode a call of the layer moves ``running_mean`` and ``running_var`` towards the batch's mean and
    variance: by ``momentum``, or, where that is None, so that they are the mean over all batches since the last
    ``reset_running_stats()``. Which mode it is in says ``training``, of the layer or of the model.
    """

    running_mean: Any
    running_var: Any
    momentum: float | None

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        ...


_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def update_bn(loader: Iterable[Any], model: Any, device: str | None = None) -> None:
    """Compute the statistics of a model's batch normalization anew, in one pass over data.

    Averaged weights have not been trained with: the running means and variances that were copied or averaged along with
    them belong to other activations.

    Args:
        loader: yields batches; of a list or tuple the first element is the input.
        model: is called with each input, or its ``forward`` is. Its layers are what ``model.modules()`` yields; without
            that method they are the model, its attributes, and what its lists, tuples and dicts hold. Those with the
            attributes of ``BatchNorm`` are updated; without any, nothing happens and the loader is not touched.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, where inputs are copied to (default: None, where they
            are).

    Every layer that has ``training`` is in training mode during the pass. Afterwards modes and momenta are what they
    were, and if the pass raises, so are the statistics. An empty loader leaves them as ``reset_running_stats()`` does.

    >>> import numpy as np
    >>> class Center:
    ...     training, momentum = False, 0.1
    ...     def __init__(self):
    ...         self.reset_running_stats()
    ...     def reset_running_stats(self):
    ...         self.running_mean, self.running_var, self.seen = 0.0, 1.0, 0
    ...     def __call__(self, x):
    ...         if self.training:
    ...             self.seen += 1
    ...             share = self.momentum or 1 / self.seen
    ...             self.running_mean += share * (x.mean() - self.running_mean)
    ...         return x - self.running_mean
    >>> layer = Center()
    >>> update_bn([np.array([1.0, 3.0]), np.array([5.0, 7.0])], layer)
    >>> layer.running_mean, layer.momentum, layer.training
    (np.float64(4.0), 0.1, False)

    """
    place = checked_device(device)
    layers = list(layers_of(model))
    norms = [layer for layer in layers if isinstance(layer, BatchNorm) and not isinstance(layer, type)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    modes = [(layer, layer.training) for layer in layers if hasattr(layer, "training")]
    statistics = [entry for norm in norms for entry in _statistics(norm)]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        set_training(model, True)
        for batch in loader:
            first = batch[0] if isinstance(batch, list | tuple) else batch
            call(model, first if place is None else brought(first, place))
    except BaseException:
        for norm, name, value, content in statistics:
            if value is not content:
                # Others may hold this very array: the model's buffers do.
                put(value, content)
            setattr(norm, name, value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for layer, mode in modes:
            layer.training = mode


def _statistics(norm: BatchNorm) -> Iterator[tuple[BatchNorm, str, Any, Any]]:
    """Yield a layer's statistics: the object that is there now, and what is in it."""
    for name in _STATISTICS:
        if hasattr(norm, name):
            value = getattr(norm, name)
            is_array = isinstance(value, np.ndarray) or on_gpu(value)
            yield norm, name, value, duplicate(value) if is_array else value
