"""Parameter groups as users write them, and state_dicts: packed, checked and unpacked."""

from collections.abc import Mapping
from itertools import chain, count
from typing import Any

import numpy as np

from .arrays import carries_derivatives, dtype_name, is_half
from .half import MASTER
from .implementations import Algorithm
from .layout import Layout
from .parameter import Parameter
from .places import copied, is_foreign
from .state import checked_array, checked_number

Group = dict[str, Any]


class _Required:
    def __repr__(self) -> str:
        return "<required parameter>"

    def __reduce__(self) -> str:
        return "required"


# A default that says: every group must give this option itself. Copies and pickles of it are itself.
required: Any = _Required()


def listed_groups(params: Any) -> list[Any]:
    """Return what an optimizer was given as a list of groups."""
    if isinstance(params, Parameter) or hasattr(params, "__array__"):
        raise TypeError(
            "params argument given to the optimizer should be an iterable of Parameters or dicts, "
            f"but got {type(params).__name__}"
        )
    groups = list(params)
    if not groups:
        raise ValueError("optimizer got an empty parameter list")
    return groups if isinstance(groups[0], dict) else [{"params": groups}]


def normalized_group(group: Any) -> Group:
    """Return a copy of the group with a list of parameters, and their names apart. Raise if it is malformed."""
    if not isinstance(group, dict):
        raise TypeError(f"param_group must be a dict, but got {type(group)}")
    params = group["params"]
    if isinstance(params, set):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but "
            "the ordering of parameters in sets will change between runs. Please use a list instead."
        )
    items = [params] if isinstance(params, Parameter) else list(params)
    if set(map(type, items)) == {Parameter}:
        return {**group, "params": items}
    names = [item[0] for item in items if isinstance(item, tuple)]
    if names and len(names) != len(items):
        raise ValueError("all optimizer params should be with/without names. Some param names are missing")
    params = [item[1] if isinstance(item, tuple) else item for item in items]
    for param in params:
        if not isinstance(param, Parameter):
            raise TypeError(
                "optimizer can only optimize Parameters, "
                f"but one of the params is {type(param).__module__}.{type(param).__qualname__}: write Parameter(array)"
            )
    return {**group, "params": params} | ({"param_names": names} if names else {})


def check_disjoint(group: Group, others: list[Group]) -> None:
    """Raise if a parameter of the group is in another one, or if only some groups have names."""
    taken: set[Parameter] = set()
    for other in others:
        taken.update(other["params"])
        if ("param_names" in group) != ("param_names" in other):
            kind = "with names" if "param_names" in group else "without names"
            raise ValueError(
                "all optimizer param groups should be with/without names. "
                f"cannot add param group {kind} to the optimizer"
            )
    if not taken.isdisjoint(group["params"]):
        raise ValueError("some parameters appear in more than one parameter group")


def check_plain(group: Group) -> None:
    """Raise if a parameter carries another library's derivatives and the group is not made for that."""
    if not group.get("differentiable"):
        for param in group["params"]:
            if param.is_loose:
                param.check_plain()


class Numbering:
    """The numbers that stand for parameters in a state_dict, for as long as nothing in these layouts changes."""

    def __init__(self, layouts: list[Layout]) -> None:
        self._parts = _parts(layouts)
        numbers: dict[Parameter, int] = dict(zip(chain.from_iterable(layout.params for layout in layouts), count()))
        self._groups = [[numbers[param] for param in layout.params] for layout in layouts]
        self._order = list(numbers.values())
        self._stored = [numbers[param] for layout in layouts for param in layout.stored()]

    def fits(self, layouts: list[Layout]) -> bool:
        """Return whether the parameters have these numbers."""
        return self._parts == _parts(layouts)

    def pack(self, groups: list[Group], layouts: list[Layout], copy: bool) -> dict[str, Any]:
        """Return state and options in torch's layout: parameters are numbers, in order."""
        kept = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        packed = [
            (copied(group) if copy else group) | {"params": numbers.copy()}
            for group, numbers in zip(kept, self._groups, strict=True)
        ]
        entries = list(chain.from_iterable(layout.saved(copy) for layout in layouts))
        state = dict(zip(self._stored, entries, strict=True))
        if self._stored != self._order or not all(entries):
            state = {number: state[number] for number in self._order if state[number]}
        return {"state": state, "param_groups": packed}


def _parts(layouts: list[Layout]) -> list[object]:
    return [part for layout in layouts for part in (layout, *layout.slots)]


def merged_groups(live: list[Group], saved: Any) -> list[Group]:
    """Return the saved options with the live parameters; what a saved group lacks is taken from the live one."""
    if len(live) != len(saved):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups: {len(saved)} instead of {len(live)}"
        )
    for number, (old, new) in enumerate(zip(live, saved, strict=True)):
        if len(old["params"]) != len(new["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                f"group {number} has {len(new['params'])} parameters instead of {len(old['params'])}"
            )
    return [{**old, **copied(new), "params": old["params"]} for old, new in zip(live, saved, strict=True)]


def entries(
    algorithm: Algorithm, groups: list[Group], state_dict: Mapping[str, Any]
) -> dict[Parameter, dict[Any, Any]]:
    """Return the saved state by parameter, checked."""
    owner: dict[Any, tuple[Parameter, Group]] = {}
    for group, saved in zip(groups, state_dict["param_groups"], strict=True):
        for number, param in zip(saved["params"], group["params"], strict=True):
            owner.setdefault(number, (param, group))
    found: dict[Parameter, dict[Any, Any]] = {}
    for number, entry in state_dict["state"].items():
        if number not in owner:
            raise ValueError(f"loaded state dict has state for parameter {number!r}, which is in none of its groups")
        param, group = owner[number]
        found[param] = _checked_entry(algorithm, param, group, entry, number)
    return found


def _checked_entry(
    algorithm: Algorithm, param: Parameter, group: Group, entry: Mapping[Any, Any], number: Any
) -> dict[Any, Any]:
    if not isinstance(entry, Mapping):
        raise TypeError(f"loaded state of parameter {number!r} must be a dict, but is of type {type(entry).__name__!r}")
    host = algorithm.half.counted(algorithm.initial_host)
    arrays = algorithm.half.kept(algorithm.state_arrays)
    known = {*host, *arrays}
    present = {name: value for name, value in entry.items() if value is not None}
    keeps_master = algorithm.half.master_weights and is_half(param.dtype)
    if not keeps_master:
        # Those of an optimizer with master weights: the parameter itself is what counts here.
        present.pop(MASTER, None)
    shapes = algorithm._state_shapes(param.shape)
    if known & present.keys():
        variant = algorithm._variant(group)
        needed = {*host, *variant.state} if variant.counts else set()
        needed -= {name for name, shape in shapes.items() if shape is None}
        for name in sorted(needed - present.keys()):
            raise KeyError(f"{name}: missing from the loaded state of parameter {number!r}, which has {list(present)}")
    checked: dict[Any, Any] = {}
    traced = bool(group.get("differentiable"))
    for name, value in present.items():
        if name in host and not (traced and carries_derivatives(value)):
            checked[name] = checked_number(name, value, host[name])
        elif name in arrays and not (traced and is_foreign(value)):
            dtype = np.dtype(np.float32 if keeps_master else dtype_name(param.dtype))
            shape = shapes.get(name, param.shape)
            checked[name] = checked_array(f"{name} of parameter {number!r}", value, shape, dtype)
        else:
            checked[name] = value
    return checked


def fill(layouts: list[Layout], found: dict[Parameter, dict[Any, Any]]) -> None:
    """Write the loaded state into layouts that have none."""
    for layout in layouts:
        for param in layout.members():
            if param in found:
                layout.restore(param, found[param])
