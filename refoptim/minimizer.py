"""The base of optimizers that ask a closure for the loss several times in a step: iterations, limits and state."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from math import isfinite
from operator import length_hint
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import kernels
from .arrays import Array, is_half
from .buffers import REAL_TYPE
from .checks import check_lr
from .cpu import CPU, Device, Launch
from .devices import device_of, on_gpu, to_host
from .gpu import Gpu, on_stream
from .interrupts import carry_out
from .kernels.interrupts import Pause
from .line_search import Trial, strong_wolfe
from .objective import Measure, Objective, real_size
from .optimizer import Optimizer, Params
from .parameter import Parameter
from .recycler import Recycler
from .scalars import integer, number

if TYPE_CHECKING:  # it imports Numba
    from .kernels.measures import Measured

Memory = dict[str, Any]


class Minimizer(Optimizer):
    """What L-BFGS and conjugate gradients share: everything but the direction and the first point to try along it.

    The state is the first parameter's, under torch's names. It is read when a step begins and written when it ends: a
    step that raises changes neither state nor parameters.
    """

    curvature: ClassVar[float] = 0.9  # how much of the slope a search may leave
    vectors: ClassVar[tuple[str, ...]] = ("d", "prev_flat_grad")
    numbers: ClassVar[tuple[str, ...]] = ("t", "prev_loss")
    vector_lists: ClassVar[tuple[str, ...]] = ()
    number_lists: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Params, defaults: dict[str, Any], *, arithmetic: str | None) -> None:
        self._vectors = Recycler()
        super().__init__(params, defaults, arithmetic=arithmetic)

    def step(
        self, closure: Callable[[], Any] | None = None, *, grads: Iterable[Any] | None = None, stream: Any = None
    ) -> Any:
        """Minimize, for as many iterations and evaluations as the options allow.

        Args:
            closure: sets the gradients and returns the loss; called several times. A parameter that it leaves without
                a gradient has one of zeros.
            grads: not accepted, because gradients are needed at several points.
            stream: a CUDA stream on which everything runs, and what the closure computes with CuPy; the host waits for
                numbers of it (default: None, the default stream).

        Returns:
            What the closure returned first.

        Raises:
            TypeError: there is no closure, or it returns no number.
            ValueError: there is a second group, parameters are on different devices, or the state does not fit them.
            KeyError: a part of the state is missing.

        Whatever raises, also in the closure: parameters and state are then what they were before the step.

        """
        if closure is None or grads is not None:
            raise TypeError(f"{type(self).__name__} needs gradients at several points: write step(closure)")
        self._check_alone(self.param_groups)
        (group,) = self.param_groups
        self._check(group)
        params = self._members()
        self._check_together(params)
        place = params[0].place if params else CPU
        with (
            place.here() if isinstance(place, Gpu) else nullcontext(),
            nullcontext() if stream is None else on_stream(stream),
        ):
            return self._minimize(group, params, closure)

    def _minimize(self, group: dict[str, Any], params: list[Parameter], closure: Callable[[], Any]) -> Any:
        entry = self.state[params[0]] if params else {}
        memory = self._recalled(entry)
        # The first evaluation always takes place: its result is the step's.
        objective = Objective(params, closure, self._dtype(), max(1, group["max_eval"]), self._vectors)
        changes: list[Launch] = [(entry.update, (memory,))]
        pause, left = Pause(), iter(changes)
        try:
            loss, grad = objective.evaluate(partial(self._measured, group, memory, None))
            if not grad.largest <= group["tolerance_grad"]:
                self._iterate(group, objective, memory, loss, grad)
            memory["func_evals"] += objective.calls
            carry_out(changes, left)
        except BaseException:
            with pause.begun(pause.begin()):
                if length_hint(left):  # else the step is done, and Ctrl-C came after it
                    objective.restore()
            raise
        return objective.first

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state: one of this library's, or torch's with its tensors turned to arrays.

        Arrays are copied. Options that a saved group lacks stay as they are.

        Raises:
            ValueError: groups, shapes or values do not fit this optimizer's. Nothing is changed then.
            KeyError: a part of the state is missing.

        """
        # Behind all others, this hook sees what they have made of it.
        with self.register_load_state_dict_pre_hook(type(self)._check_loaded):
            super().load_state_dict(state_dict)

    def _iterate(
        self, group: dict[str, Any], objective: Objective, memory: Memory, loss: float, grad: "Measured"
    ) -> None:
        """Go on from the current point until a limit or a tolerance is met."""
        lr, tolerance_change, last = number("lr", group["lr"]), group["tolerance_change"], None
        for iterations_left in reversed(range(group["max_iter"])):
            memory["n_iter"] += 1
            # The state's vectors stay, and those that a search has come back to.
            free = last is not None and last is not grad.vector
            d, size, slope, _ = self._direction(group, memory, grad, free)
            t = lr * self._first_t(memory, loss, grad.vector, slope)
            before, last = loss, grad.vector
            memory |= {"d": d, "t": t, "prev_flat_grad": grad.vector, "prev_loss": loss}
            if slope > -tolerance_change:
                return
            if group["line_search_fn"] is None:
                objective.move(None, d, t)
                # After the last move nobody asks for the loss: the next step does, perhaps with other data.
                if iterations_left and objective.left > 0:
                    loss, grad = objective.evaluate(partial(self._measured, group, memory, None))
            elif objective.left > 0 and isfinite(loss) and isfinite(slope):
                # The last line's products are not this one's, should the search end where it begins.
                start = Trial(0.0, loss, slope, grad._replace(products=None))
                t, loss, _, grad = self._search(objective, start, d, size, t, partial(self._measured, group, memory, d))
                memory["t"] = t
            else:
                return
            if (
                objective.left <= 0
                or grad.largest <= group["tolerance_grad"]
                or size * abs(t) <= tolerance_change
                or abs(loss - before) < tolerance_change
            ):
                return

    def _search(self, objective: Objective, start: Trial, d: Array, size: float, t: float, measure: Measure) -> Trial:
        """Move to the best point that is found on a line."""
        x = here = None

        def trial(t: float) -> Trial:
            nonlocal x, here
            here = t
            if x is None:
                x = objective.leave(d, t)
            else:
                objective.move(x, d, t)
            loss, grad = objective.evaluate(measure)
            return Trial(t, loss, grad.product, grad)

        found = strong_wolfe(trial, start, t, size, max_eval=objective.left, c2=self.curvature)
        if found.t != here:
            objective.move(x, d, found.t)
        return found

    def _measured(self, group: dict[str, Any], memory: Memory, d: Array | None, z: Array, x: Array) -> "Measured":
        """Copy a gradient into a vector, unless it is there. Return that, measured along a direction, if given."""
        return kernels.measures.copy_measured(z, x, d)

    def _direction(self, group: dict[str, Any], memory: Memory, grad: "Measured", free: bool) -> "Measured":
        """Return the direction of this iteration, measured along the gradient; take note of what later ones need.

        If they are free, the last direction and gradient may be written over.
        """
        raise NotImplementedError

    def _steepest(self, grad: "Measured") -> "Measured":
        """Return minus the gradient as a direction."""
        d = kernels.vectors.negative(grad.vector, self._vectors.empty)
        return grad._replace(vector=d, product=-kernels.reductions.sum_of_squares(grad.vector))

    def _first_t(self, memory: Memory, loss: float, grad: Array, slope: float) -> float:
        """Return the first step size to try, as a multiple of the learning rate."""
        raise NotImplementedError

    def _recalled(self, entry: Mapping[Any, Any]) -> Memory:
        """Return the state as iterations use it: checked, in lists of its own. Its arrays are not written into."""
        memory: Memory = {name: int(number(name, entry.get(name, 0))) for name in ("func_evals", "n_iter")}
        if memory["n_iter"] == 0:
            return memory
        for name in (*self.vectors, *self.numbers, *self.vector_lists, *self.number_lists):
            if entry.get(name) is None:
                raise KeyError(f"{name}: missing from the state, which has {list(entry)}")
        params, dtype = self._members(), self._dtype()
        size, place = sum(map(real_size, params)), params[0].place
        for name in self.vectors:
            memory[name] = _vector(name, entry[name], size, dtype, place)
        for name in self.numbers:
            memory[name] = number(name, entry[name])
        for name in self.vector_lists:
            memory[name] = [_vector(name, value, size, dtype, place) for value in entry[name]]
        for name in self.number_lists:
            memory[name] = [number(name, value) for value in entry[name]]
        lengths = {name: len(memory[name]) for name in (*self.vector_lists, *self.number_lists)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"these lists of the state must be of one length, but are of {lengths}")
        return memory

    def _check_loaded(self, state_dict: Mapping[str, Any]) -> None:
        groups = state_dict["param_groups"]
        if len(groups) == 1 and groups[0]["params"]:
            entry = state_dict["state"].get(groups[0]["params"][0])
            if isinstance(entry, Mapping):
                self._recalled(entry)

    def _check(self, options: dict[str, Any]) -> None:
        check_lr(options["lr"])
        for name in ("max_iter", "max_eval"):
            integer(name, options[name])
        search = options["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError(f"only 'strong_wolfe' is supported, but line_search_fn is {search!r}")
        if options.get("differentiable"):
            raise ValueError(f"{type(self).__name__} does not support differentiable")
        super()._check(options)

    def _checked_group(self, group: Any, others: list[dict[str, Any]]) -> dict[str, Any]:
        full = super()._checked_group(group, others)
        self._check_wide(full["params"])
        self._check_alone([*others, full])
        return full

    def _check_alone(self, groups: list[dict[str, Any]]) -> None:
        if len(groups) != 1:
            raise ValueError(f"{type(self).__name__} doesn't support per-parameter options (parameter groups)")

    def _check_wide(self, params: list[Parameter]) -> None:
        for param in params:
            if is_half(param.dtype):
                raise TypeError(
                    f"{type(self).__name__} needs more digits than {param.dtype} has: write "
                    "Parameter(array.astype(np.float32))"
                )

    def _check_together(self, params: list[Parameter]) -> None:
        self._check_wide(params)
        devices = sorted({param.device for param in params})
        if len(devices) > 1:
            raise ValueError(
                f"{type(self).__name__} takes all parameters for one vector, but there are some on "
                f"{' and '.join(devices)}: write optimizer.to({devices[-1]!r})"
            )

    def _members(self) -> list[Parameter]:
        return list(dict.fromkeys(self._params()))

    def _dtype(self) -> np.dtype[Any]:
        """Return what the vectors are made of: the widest of the parameters' real types."""
        kinds = {REAL_TYPE[param.dtype] for param in self._members()}
        return np.dtype(self.arithmetic or (np.result_type(*kinds) if kinds else np.float64))


def steepest_t(grad: Array) -> float:
    """Return a step size along minus the gradient where nothing else is known: no element moves by more than 1."""
    size = kernels.reductions.sum_of_magnitudes(grad)
    return min(1.0, 1.0 / size) if size else 1.0


def _vector(name: str, value: Any, size: int, dtype: np.dtype[Any], place: Device) -> Array:
    """Return a vector of the state in this dtype on this device. Raise if it cannot be one."""
    if device_of(value) is not place:
        value = to_host(value)
    array = value if on_gpu(value) else np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"state {name!r} has dtype {array.dtype}, but must be of {dtype}")
    if tuple(array.shape) != (size,):
        raise ValueError(f"state {name!r} has shape {tuple(array.shape)}, but must have shape {(size,)}")
    if on_gpu(array):
        return array if array.dtype == dtype else place.uploaded(np.asarray(to_host(array), dtype))
    return place.uploaded(np.ascontiguousarray(array, dtype))
