"""What a model is here: something with parameters, and perhaps buffers, layers and a training mode."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from .. import devices
from ..arrays import Array
from ..cpu import Device
from ..parameter import Parameter


def listed_parameters(model: Any) -> list[Any]:
    """Return a model's parameters as it gives them, which tells quickly whether they are the ones of last time."""
    return _entries(model, "parameters")[1]


def named_parameters(model: Any) -> dict[str, Parameter]:
    """Return a model's parameters, each once, by the names that it, they or their positions give."""
    found = _named(*_entries(model, "parameters"))
    for name, param in found.items():
        if not isinstance(param, Parameter):
            raise TypeError(
                f"the parameters of a model must be Parameters, but {name!r} is a {type(param).__name__}: "
                "write Parameter(array)"
            )
    return found


def named_buffers(model: Any) -> dict[str, Array]:
    """Return a model's buffers, each once, by name or position; none if it has no such method."""
    if not hasattr(model, "named_buffers") and not hasattr(model, "buffers"):
        return {}
    found = _named(*_entries(model, "buffers"), prefix="buffers.")
    for name, buffer in found.items():
        if not isinstance(buffer, np.ndarray) and not devices.on_gpu(buffer):
            raise TypeError(
                f"the buffers of a model must be NumPy arrays, or on a GPU, to be written in place, but {name!r} is a "
                f"{type(buffer).__name__}: write np.array(value)"
            )
    return found


def layers_of(model: Any) -> Iterator[Any]:
    """Yield a model's layers: what ``modules()`` yields, or itself, its attributes, and what is in lists and dicts."""
    if hasattr(model, "modules"):
        return iter(_each_once(model.modules()))
    attributes = getattr(model, "__dict__", {}).values()
    return iter(_each_once(chain([model], *map(_members, [model, *attributes]))))


def set_training(model: Any, mode: bool) -> None:
    """Put every layer that has a mode into training mode, or out of it."""
    for layer in layers_of(model):
        if hasattr(layer, "training"):
            layer.training = mode


def call(model: Any, *arguments: Any, **options: Any) -> Any:
    """Call a model, or its ``forward`` if it cannot be called itself."""
    return (model if callable(model) else model.forward)(*arguments, **options)


def checked_device(device: Any) -> Device | None:
    """Return a device by name, or None. Raise if there is no such device."""
    if callable(device):
        raise TypeError("device must be None or a name, but is a function: write avg_fn= or multi_avg_fn=")
    return None if device is None else devices.device(device)


def _entries(model: Any, kind: str) -> tuple[list[Any] | None, list[Any]]:
    """Return the names that a model gives, if it does, and the parameters or buffers themselves."""
    if isinstance(model, Mapping):
        return list(model), list(model.values())
    if isinstance(model, list | tuple):
        return None, list(model)
    if hasattr(model, f"named_{kind}"):
        pairs = list(getattr(model, f"named_{kind}")())
        return [name for name, _ in pairs], [item for _, item in pairs]
    if hasattr(model, kind):
        found = getattr(model, kind)
        found = found() if callable(found) else found
        return _entries(found if isinstance(found, Mapping) else list(found), kind)
    raise TypeError(
        f"a model must be a list or dict of Parameters, or have parameters() or named_parameters(), "
        f"but is a {type(model).__name__}"
    )


def _named(names: list[Any] | None, items: list[Any], prefix: str = "") -> dict[str, Any]:
    """Return what there is by name, each object once: by the names given, else by their own or by position."""
    if names is None:
        own = [getattr(item, "name", None) for item in items]
        distinct = None not in own and len(set(own)) == len(own)
        names = own if distinct else [f"{prefix}{place}" for place in range(len(items))]
    first: dict[int, tuple[str, Any]] = {}
    for name, item in zip(names, items, strict=True):
        first.setdefault(id(item), (str(name), item))
    found = dict(first.values())
    if len(found) != len(first):
        raise ValueError(f"parameters and buffers must have different names, but have {list(map(str, names))}")
    return found


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else [value]


def _each_once(items: Iterable[Any]) -> list[Any]:
    return list({id(item): item for item in items}.values())
