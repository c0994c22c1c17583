"""The base of every optimizer: parameter groups, state, saving and loading, and the step."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from itertools import chain
from typing import Any, ClassVar
from warnings import warn

from . import checkpoint, devices
from .checkpoint import required
from .checks import check_arithmetic, check_implementation
from .cpu import Launch
from .gpu import on_stream
from .gradients import assign
from .half import check_use, checked_half
from .hooks import (
    HookRegistry,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
    with_step_hooks,
)
from .implementations import Variant
from .interrupts import carry_out
from .kernels.interrupts import Uninterrupted
from .layout import Layout
from .parameter import Parameter
from .places import copied
from .slots import Host
from .state import State

__all__ = ["Optimizer", "register_optimizer_step_post_hook", "register_optimizer_step_pre_hook", "required"]

Params = Iterable[Parameter] | Iterable[dict[str, Any]] | Iterable[tuple[str, Parameter]]


class Optimizer(HookRegistry):
    """Base class of all optimizers, and of your own: override ``step``, use ``param_groups`` and ``state`` as in torch.

    Args:
        params: parameters, ``(name, parameter)`` pairs, or dicts with ``"params"`` and the options of that group.
        defaults: the options of groups that do not give their own.
        arithmetic: ``"float64"`` computes every step in float64 and rounds once; None (default) computes in the
            parameters' own type, float32 if that has 16 bits.
        master_weights: whether parameters of 16 bits are kept in float32 too, as state ``master_weight``, and the rest
            of their state in float32: the parameters then are the master weights, rounded once (default: None, no).
        rounding: ``"stochastic"`` rounds parameters of 16 bits and their state up or down by chance, so that the mean
            is exact (default: None, to the nearest number, of two the even one).
        seed: chooses the chances, a whole number of at least 0 and less than 2**64 (default: None, which is 0).

    Raises:
        TypeError: params is one parameter or array, or holds something that is not a Parameter, or an option for
            parameters of 16 bits is given and there are none.
        ValueError: params is empty, a parameter is in two groups, or an option is out of range.

    """

    initial_host: ClassVar[dict[str, Any]] = {}
    state_arrays: ClassVar[tuple[str, ...]] = ()
    # With capturable=True, how many steps CUDA graphs can repeat after an ordinary one, where scalars never settle.
    table_rows: ClassVar[int] = 10_000
    _numbering: checkpoint.Numbering | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "step" in cls.__dict__:
            cls.step = with_step_hooks(cls.step)

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        *,
        arithmetic: str | None = None,
        master_weights: bool | None = None,
        rounding: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_arithmetic(arithmetic)
        self.defaults = defaults
        self.arithmetic = arithmetic
        self.half = checked_half(master_weights, rounding, seed)
        self.param_groups: list[dict[str, Any]] = []
        self._layouts: list[Layout] = []
        self._parked: dict[Parameter, dict[Any, Any]] = {}
        groups = checkpoint.listed_groups(params)
        checked: list[dict[str, Any]] = []
        for group in groups:
            checked.append(self._checked_group(group, checked))
        check_use(self.half, chain.from_iterable(group["params"] for group in checked))
        self._adopt(groups, checked)

    @property
    def state(self) -> State:
        """What is kept for each parameter: a mapping from parameters to mappings, which can be read and written."""
        return State(self._entry, lambda: iter(dict.fromkeys(self._params())))

    @state.setter
    def state(self, values: Mapping[Parameter, Mapping[Any, Any]]) -> None:
        state, values = self.state, dict(values)
        old = {param: copied(state[param]) for param in {**state, **values}}
        new = {param: copied(values.get(param, {})) for param in old}
        with Uninterrupted():
            try:
                for param, entry in new.items():
                    state[param] = entry
            except BaseException:
                for param, entry in old.items():
                    state[param] = entry
                raise
            self._parked = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, to be optimized from the next step on.

        Args:
            param_group: ``"params"`` and any options; options that it does not give are added to it.

        """
        self._adopt([param_group], [self._checked_group(param_group, self.param_groups)])

    def to(self, device: Any) -> "Optimizer":
        """Move all parameters, their gradients and their state to a device, and return the optimizer.

        Options stay as they are. Arrays that ``p.data``, ``p.grad`` and ``state`` returned before show the old place.
        What is there already stays where it is.

        Args:
            device: ``"cpu"``, ``"cuda"`` for the current GPU, or ``"cuda:1"``.

        Raises:
            ValueError: there is no device of that name.
            RuntimeError: there is no such GPU, no driver or no numba-cuda, or a group has ``differentiable=True``.
            MemoryError: the device is full. Nothing has moved then.

        """
        target = devices.device(device)
        moves = list(chain.from_iterable(layout.moved(target) for layout in self._current()))
        with Uninterrupted():
            for move in moves:
                move()
        return self

    def step(
        self, closure: Callable[[], Any] | None = None, *, grads: Iterable[Any] | None = None, stream: Any = None
    ) -> Any:
        """Change every parameter that has a gradient, once.

        Args:
            closure: computes the loss and sets the gradients; called first (default: None).
            grads: gradients in the order of the parameters, None for those that sit this step out, assigned first to
                ``p.grad`` (default: None, which leaves the gradients as they are).
            stream: a CUDA stream on which the kernels run: numba.cuda's, CuPy's, torch's, or its handle (default: None,
                the default stream). Parameters on the CPU do not use it.

        Returns:
            What the closure returned, or None. On a GPU the step may still be running then.

        Raises:
            ValueError: a gradient has the wrong shape, there are more or fewer gradients than parameters, or there is a
                stream and parameters are on several GPUs.
            TypeError: a gradient has another dtype than its parameter, or is on another device.

        """
        if stream is not None:
            self._check_stream()
        loss = None if closure is None else closure()
        if stream is None:
            self._step(grads)
        else:
            with on_stream(stream):
                self._step(grads)
        return loss

    def _check_stream(self) -> None:
        gpus = sorted({param.device for param in self._params()} - {"cpu"})
        if len(gpus) > 1:
            raise ValueError(f"a stream belongs to one GPU, but there are parameters on {' and '.join(gpus)}")

    def _step(self, grads: Iterable[Any] | None) -> None:
        if grads is not None:
            assign(list(self._params()), list(grads))
        # The whole step is planned before any of it is carried out: an error changes nothing.
        launches: list[Launch] = []
        for layout in self._current():
            launches += layout.plan(self)
        left = iter(launches)
        try:
            carry_out(launches, left)
        except Exception as error:
            done = len(launches) - 1 - sum(1 for _ in left)
            error.add_note(f"The step has done and counted {done} of its {len(launches)} parts; the others not.")
            raise

    def zero_grad(self, set_to_none: bool = True, *, stream: Any = None) -> None:
        """Remove all gradients, or set those that exist to zero, in place.

        Args:
            set_to_none: whether gradients become None, so that the parameter sits out the next step unless it gets a
                new one (default: True). With False ``p.grad`` stays the same array, which ``out=`` can write into.
            stream: a CUDA stream on which they are set to zero, as in :meth:`step` (default: None).

        """
        if stream is not None:
            self._check_stream()
        with nullcontext() if stream is None else on_stream(stream):
            try:
                self._zero_grads(set_to_none)
            except KeyboardInterrupt:
                with Uninterrupted():
                    self._zero_grads(set_to_none)
                raise

    def _zero_grads(self, set_to_none: bool) -> None:
        for param in self._params():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.zero_grad()

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Return the state and the groups' options in torch's layout, parameters as numbers.

        Args:
            copy: whether everything in it is a copy, which stays as it is (default: True). With False it has the
                optimizer's own arrays and options, as torch's has, for who writes it to a file at once: the next step
                changes these arrays, but not numbers such as ``step``, and writing into them changes the optimizer.
                Arrays of a GPU stay there; copies are NumPy's.

        """
        for hook in self._save_pre.values():
            hook(self)
        layouts = self._current()
        if self._numbering is None or not self._numbering.fits(layouts):
            self._numbering = checkpoint.Numbering(layouts)
        saved = self._numbering.pack(self.param_groups, layouts, copy)
        for hook in self._save_post.values():
            replaced = hook(self, saved)
            saved = saved if replaced is None else replaced
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state: one of this library's, or torch's with its tensors turned to arrays.

        Arrays are copied. Options that a saved group lacks stay as they are.

        Raises:
            ValueError: groups, shapes or values do not fit this optimizer's. Nothing is changed then.
            KeyError: state that the saved options need is missing.

        """
        state_dict = dict(state_dict)
        for hook in self._load_pre.values():
            replaced = hook(self, state_dict)
            state_dict = state_dict if replaced is None else replaced
        groups = checkpoint.merged_groups(self.param_groups, state_dict["param_groups"])
        for group in groups:
            self._check(group)
        entries = checkpoint.entries(self, groups, state_dict)
        layouts = [Layout(self, group) for group in groups]
        checkpoint.fill(layouts, entries)
        with Uninterrupted():
            for layout in layouts:
                layout.occupy()
            self.param_groups, self._layouts, self._parked = groups, layouts, {}
        for hook in self._load_post.values():
            hook(self)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines += [""] * (index > 0) + [f"Parameter Group {index}"]
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])

    def __getstate__(self) -> dict[str, Any]:
        # A scheduler's wrapper around step belongs to the scheduler, not to a copy of the optimizer.
        left = {*HookRegistry().__dict__, "step", "_numbering"}
        return {name: value for name, value in self.__dict__.items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset_hooks()

    def _check(self, options: dict[str, Any]) -> None:
        """Raise if an option of a group, or a default, is out of its range."""
        check_implementation(options)

    def _variant(self, group: dict[str, Any]) -> Variant:
        """Return kernel, formula and state for a group's options."""
        raise NotImplementedError(f"{type(self).__name__} must override step")

    def _options(self, group: dict[str, Any]) -> Any:
        """Return a group's options as ``_scalars`` wants them: plain numbers, read once for as long as none changes."""
        raise NotImplementedError(f"{type(self).__name__} must override step")

    def _scalars(self, options: Any, host: Host) -> tuple[float, ...]:
        """Return what the kernel needs beside arrays, given a parameter's host state before the step."""
        raise NotImplementedError(f"{type(self).__name__} must override step")

    def _powers(self, options: Any) -> tuple[str, ...] | None:
        """Return the options whose powers are all that changes scalars from step to step; None if there is more.

        Host state is the step count alone then, and scalars go up or down with each of the powers.
        """
        return tuple(name for name in ("beta1", "beta2") if name in options._fields)

    def _symbols(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        """Return what the formula needs beside arrays, given a parameter's host state before the step."""
        raise NotImplementedError(f"{type(self).__name__} must override step")

    def _initial_values(self, group: dict[str, Any]) -> dict[str, float]:
        """Return the state arrays that do not start with zeros."""
        return {}

    def _state_shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...] | None]:
        """Return the state arrays that have another shape than a parameter of this shape; None is that it has none."""
        return {}

    def _advance(self, group: dict[str, Any], host: Host) -> dict[str, Any]:
        """Return a parameter's host state after a step, given what it was before: one more step, as a rule."""
        host = self.half.counted(self.initial_host) if host is None else host
        return {**host, "step": host["step"] + 1} if "step" in host else host

    def _params(self) -> Iterator[Parameter]:
        return chain.from_iterable(group["params"] for group in self.param_groups)

    def _entry(self, param: Parameter) -> Any:
        # A layout that no longer fits still has the state, which the one that replaces it takes over.
        for layouts in (self._layouts, self._current()):
            for layout in layouts:
                entry = layout.entry(param)
                if entry is not None:
                    return entry
        raise KeyError(f"{param!r} is not optimized by this optimizer")

    def _checked_group(self, group: Any, others: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the group with all options, and raise if it cannot join the others. Nothing is changed."""
        full = checkpoint.normalized_group(group)
        for name, default in self.defaults.items():
            if default is required and name not in full:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            full.setdefault(name, default)
        self._check(full)
        checkpoint.check_plain(full)
        if len(set(full["params"])) != len(full["params"]):
            warn(
                "optimizer contains a parameter group with duplicate parameters; each is stepped once",
                stacklevel=4,
            )
        checkpoint.check_disjoint(full, others)
        return full

    def _adopt(self, groups: list[dict[str, Any]], checked: list[dict[str, Any]]) -> None:
        layouts = self._current()
        # Room for all of them is made before the first parameter moves.
        new = [Layout(self, full) for full in checked]
        with Uninterrupted():
            for group, full, layout in zip(groups, checked, new, strict=True):
                self._unpark(layout)
                layout.occupy()
                group.update(full)
                layout.group = group
                self.param_groups.append(group)
                layouts.append(layout)

    def _current(self) -> list[Layout]:
        """Return the layouts, made anew for groups that a user has replaced, removed or given other parameters."""
        groups, layouts = self.param_groups, self._layouts
        if len(groups) != len(layouts) or not all(map(Layout.fits, layouts, groups)):
            full: list[dict[str, Any]] = []
            for group in groups:
                full.append(checkpoint.normalized_group(group))
                checkpoint.check_disjoint(full[-1], full[:-1])
            # State outlasts the removal of its parameter, as in torch: the parameter may come back.
            entries = ((param, layout.entry(param)) for layout in layouts for param in layout.params)
            self._parked |= {param: dict(entry) for param, entry in entries if entry}
            layouts = [Layout(self, group) for group in full]
            with Uninterrupted():
                self._layouts = layouts
                for group, normal, layout in zip(groups, full, layouts, strict=True):
                    if group["params"] != normal["params"]:
                        group.update(normal)
                    layout.group = group
                    self._unpark(layout)
                    layout.occupy()
        return self._layouts

    def _unpark(self, layout: Layout) -> None:
        for param in layout.members() if self._parked else ():
            layout.entry(param).update(self._parked.pop(param, {}))


Optimizer.step = with_step_hooks(Optimizer.step)
