"""An optimizer's state as its user sees it: a mapping from parameters to mappings, with torch's names."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from . import devices
from .arrays import Array, is_real, unmasked
from .kernels.interrupts import Uninterrupted
from .parameter import Parameter
from .places import copied
from .slots import Host, Slots


class Entry(MutableMapping[Any, Any]):
    """One parameter's state: ``step`` and its like as numbers, arrays as views of the flat ones. Writing copies.

    Keys that the optimizer does not know are kept beside them, so that a user's own optimizer can store what it likes.
    """

    def __init__(self, slots: Slots, place: int) -> None:
        self._slots = slots
        self._place = place

    def _host(self) -> Host:
        if self._slots.tables:
            self._slots.catch_up()
        return self._slots.host_of(self._place)

    def _extra(self) -> dict[Any, Any]:
        return self._slots.extras.get(self._place, {})

    def __getitem__(self, name: Any) -> Any:
        host = self._host()
        if host is not None:
            if name in host:
                return host[name]
            state = self._slots.state
            if name in state.arrays and state.shape_of(name, self._place) is not None:
                # Whoever has the array may write into it anywhere.
                self._slots.touched.pop(self._place, None)
                return state.view(name, self._place)
        return self._extra()[name]

    def __setitem__(self, name: Any, value: Any) -> None:
        slots, place, state = self._slots, self._place, self._slots.state
        if name in slots.initial_host:
            number = checked_number(name, value, slots.initial_host[name])
            slots.set_host(place, place + 1, {**(self._host() or slots.initial_host), name: number})
        elif name in slots.array_names:
            self._host()
            slots.write(name, place, checked_array(name, value, state.shape_of(name, place), state.dtype))
        else:
            slots.extras.setdefault(place, {})[name] = value

    def __delitem__(self, name: Any) -> None:
        if name in self._slots.initial_host or name in self._slots.array_names:
            raise TypeError(f"{name!r} cannot be deleted alone: clear() forgets the whole state of the parameter")
        del self._extra()[name]

    def __iter__(self) -> Iterator[Any]:
        host, state = self._host(), self._slots.state
        if host is not None:
            yield from host
            yield from (name for name in state.arrays if state.shape_of(name, self._place) is not None)
        yield from self._extra()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def clear(self) -> None:
        """Forget the state: the parameter's next step is its first."""
        self._host()
        self._slots.clear(self._place)

    def __repr__(self) -> str:
        return repr(dict(self))


class State(MutableMapping[Parameter, Any]):
    """An optimizer's state, by parameter. Asking for one without state gives an empty mapping, as with torch."""

    def __init__(self, find: Callable[[Parameter], Any], params: Callable[[], Iterator[Parameter]]) -> None:
        self._find = find
        self._params = params

    def __getitem__(self, param: Parameter) -> Any:
        return self._find(param)

    def __setitem__(self, param: Parameter, values: Mapping[Any, Any]) -> None:
        entry = self._find(param)
        # Copies, because the values may be views of the state that is cleared.
        old, new = copied(entry), copied(values)
        with Uninterrupted():
            try:
                entry.clear()
                entry.update(new)
            except BaseException:
                entry.clear()
                entry.update(old)
                raise

    def __delitem__(self, param: Parameter) -> None:
        self._find(param).clear()

    def __iter__(self) -> Iterator[Parameter]:
        return (param for param in self._params() if len(self._find(param)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, param: object) -> bool:
        try:
            return isinstance(param, Parameter) and len(self._find(param)) > 0
        except KeyError:
            return False

    def __repr__(self) -> str:
        return repr({param: dict(self[param]) for param in self})


def checked_array(name: str, value: Any, shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> Array:
    """Return a state value as an array of this dtype, and raise if it cannot be this parameter's."""
    if shape is None:
        raise ValueError(f"state {name!r} is not kept for a parameter of this shape")
    array = unmasked(devices.to_host(value), f"state {name!r}")
    if not (is_real(array.dtype) or array.dtype.kind == dtype.kind == "c"):
        raise TypeError(f"state {name!r} has dtype {array.dtype}, but must be of {dtype}")
    if array.shape != shape:
        raise ValueError(f"state {name!r} has shape {array.shape}, but must have shape {shape}")
    return array.astype(dtype, copy=False)


def checked_number(name: str, value: Any, initial: Any) -> Any:
    """Return a host state value in the type of its initial value, and raise if it cannot be one."""
    if type(value) is int and type(initial) is int and value >= 0:
        return value
    array = unmasked(devices.to_host(value), f"state {name!r}")
    if array.size != 1:
        raise ValueError(f"state {name!r} must be one number, but has shape {array.shape}")
    if array.dtype.kind not in "iufb":
        raise TypeError(f"state {name!r} must be a number, but is {value!r}")
    plain = array.item()
    if isinstance(initial, float):
        return float(plain)
    if not plain >= 0 or plain != plain // 1:
        raise ValueError(f"state {name!r} must be a whole number of at least 0, but is {plain}")
    return int(plain)
