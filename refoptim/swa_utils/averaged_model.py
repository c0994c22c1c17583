"""AveragedModel: a copy of a model whose parameters are averages of the model's along its training."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from operator import index
from typing import Any

import numpy as np

from ..arrays import Array, unmasked
from ..checks import check_arithmetic
from ..devices import device_of, on_gpu, to_host
from ..interrupts import Uninterrupted
from ..parameter import Parameter
from ..places import brought, duplicate, flat, put
from .averages import Average, AverageOfMany, AverageOfOne, AvgFn, MultiAvgFn, get_swa_avg_fn, move
from .plan import Pair, Plan, check_alike, plan_of, settle
from .protocol import (
    call,
    checked_device,
    layers_of,
    listed_parameters,
    named_buffers,
    named_parameters,
    set_training,
)


class AveragedModel:
    r"""A copy of a model whose parameters are averages of the model's: equal ones (SWA) or exponential ones (EMA).

    .. math::
        \bar\theta_{n+1} = \bar\theta_n + \frac{\theta - \bar\theta_n}{n + 1}
        \quad\text{or, exponential, }\quad
        \bar\theta_{n+1} = \beta \bar\theta_n + (1 - \beta) \theta

    where :math:`\theta` is the model when ``update_parameters(model)`` is called and :math:`n` is ``n_averaged``; the
    first time it is copied. The averages lie in one flat buffer per dtype; where the model's parameters do too, as they
    do once an optimizer holds them, an update is one kernel launch. A call of the averaged model is a call of the copy,
    ``module``.

    Args:
        model: a list or dict of parameters, or an object with ``parameters()`` or ``named_parameters()`` and, if it
            has any, ``buffers()`` or ``named_buffers()``: arrays that are not optimized, such as a running mean. It is
            deep-copied, without its gradients.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, where the averages are kept (default: None, where the model's
            parameters are). Buffers stay where the model's are.
        avg_fn: ``avg_fn(averaged, current, num_averaged)`` returns the new average of one parameter, given arrays
            (default: None).
        multi_avg_fn: ``multi_avg_fn(averaged, current, num_averaged)`` changes the arrays of a list in place, all of
            one dtype (default: None). Without both functions all models weigh the same, as with ``get_swa_avg_fn()``.
        use_buffers: average the buffers as well; otherwise they are copied at every update (default: False).
        arithmetic: ``"float64"`` computes averages of float32 parameters in float64 and rounds once. It concerns the
            functions of this module, not a user's own (default: None).

    Raises:
        AssertionError: both functions are given.
        TypeError: the model is none of these, or holds something other than Parameters, and arrays as buffers; or what
            should be a function is none.
        ValueError: an unknown device or arithmetic, or a parameter and a buffer of one name.
        RuntimeError: there is no such GPU.

    The functions are not in ``state_dict``, but are copied and pickled along. A user's own function is given copies of
    the averages: if it raises, nothing has changed.

    >>> import numpy as np, refoptim as optim
    >>> w = optim.Parameter([0.0, 4.0], name="w")
    >>> averaged = AveragedModel({"w": w})
    >>> for value in ([1.0, 4.0], [3.0, 8.0]):
    ...     w.data = np.array(value)
    ...     averaged.update_parameters({"w": w})
    >>> averaged.module["w"].data
    array([2., 6.])

    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson, "Averaging Weights Leads to Wider Optima and Better
    Generalization", 2018; Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.

    """

    def __init__(
        self,
        model: Any,
        device: str | None = None,
        avg_fn: AvgFn | None = None,
        multi_avg_fn: MultiAvgFn | None = None,
        use_buffers: bool = False,
        *,
        arithmetic: str | None = None,
    ) -> None:
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        for name, function in {"avg_fn": avg_fn, "multi_avg_fn": multi_avg_fn}.items():
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function or None, but is {function!r}")
        place = checked_device(device)
        check_arithmetic(arithmetic)
        params, buffers = named_parameters(model), named_buffers(model)
        for param in params.values():
            param.check_plain()
        if clash := sorted(params.keys() & buffers.keys()):
            raise ValueError(f"parameters and buffers must have different names, but both have {clash}")
        self.module = deepcopy(model)
        self.n_averaged = 0
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers
        self.arithmetic = arithmetic
        self._plan: Plan | None = None
        for param in self.parameters():
            param.grad = None
            if place is not None:
                param.to(place)
        settle(list(self.parameters()))

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the copy of the model, or its ``forward`` if it cannot be called itself."""
        return call(self.module, *arguments, **options)

    def parameters(self) -> Iterator[Parameter]:
        """Yield the averages."""
        return iter(named_parameters(self.module).values())

    def buffers(self) -> Iterator[Array]:
        """Yield the buffers of the copy."""
        return iter(named_buffers(self.module).values())

    def modules(self) -> Iterator[Any]:
        """Yield the copy and its layers."""
        return layers_of(self.module)

    @property
    def training(self) -> bool:
        """Whether the copy is in training mode."""
        return bool(getattr(self.module, "training", False))

    def train(self, mode: bool = True) -> "AveragedModel":
        """Put the copy into training mode, or out of it: every layer that has ``training``."""
        set_training(self.module, mode)
        return self

    def eval(self) -> "AveragedModel":
        """Put the copy out of training mode."""
        return self.train(False)

    def update_parameters(self, model: Any) -> None:
        """Take the model's parameters, as they are now, into the averages.

        Args:
            model: the model that was copied, or one with the same parameters and buffers.

        Raises:
            ValueError: it has other parameters or buffers, by number, shape or dtype, or a user's function returns
                another shape. Nothing is changed then.

        """
        plan = self._plan
        if plan is None or not plan.fits(listed_parameters(self.module), listed_parameters(model)):
            plan = plan_of(self.module, model)
        buffers = self._buffers_beside(model)
        averaged, copied = (buffers, []) if self.use_buffers else ([], buffers)
        given = (self.multi_avg_fn, self.avg_fn, get_swa_avg_fn())
        function = next(function for function in given if function is not None)
        average = function.average if isinstance(function, AverageOfOne | AverageOfMany) else None
        if self.n_averaged == 0:
            averaged, copied, average = [], plan.runs + buffers, None
        elif average is None:
            pairs = [(left.data, right.data) for left, right in zip(plan.own, plan.params, strict=True)]
            averaged, copied = [], self._by_user(pairs + averaged) + copied
        with Uninterrupted():
            if average is not None:
                self._move(plan.runs, averaged, average)
            for array, values in copied:
                put(array, values)
            self.n_averaged += 1
            self._plan = plan

    def _move(self, runs: list[Pair], buffers: list[Pair], average: Average) -> None:
        """Move the averages of parameters and of buffers to the model's."""
        weights = average.weights(self.n_averaged)
        for own, current in runs:
            place = device_of(own)
            if device_of(current) is not place:
                current = flat(brought(current, place))  # noqa: PLW2901
            with place.here():
                move(own, current, weights, self.arithmetic)
        for own, current in buffers:
            AverageOfOne(average).update(own, current, self.n_averaged, self.arithmetic)

    def state_dict(self) -> dict[str, Any]:
        """Return ``n_averaged``, and copies of averages and buffers as ``module.name``, NumPy's: torch's layout."""
        return {"n_averaged": self.n_averaged} | {
            name: device_of(array).host(array) for name, array in self._arrays().items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state: one of this class, or torch's with its tensors turned to arrays.

        Raises:
            TypeError: it is no dict.
            RuntimeError: names or shapes do not fit, or a value cannot be cast. Nothing is changed then.

        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"the state of AveragedModel must be a dict, but is {state_dict!r}")
        own = self._arrays()
        missing = [name for name in ("n_averaged", *own) if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own and name != "n_averaged"]
        if missing or unexpected:
            raise RuntimeError(f"Error(s) in loading state_dict: missing {missing}, unexpected {unexpected}")
        values = {name: unmasked(to_host(state_dict[name]), name) for name in own}
        for name, array in own.items():
            value, shape = values[name], tuple(array.shape)
            if value.shape != shape or not np.can_cast(value.dtype, array.dtype, "same_kind"):
                raise RuntimeError(
                    f"{name} has shape {value.shape} and dtype {value.dtype} in the state_dict, "
                    f"but shape {shape} and dtype {array.dtype} in the model"
                )
        n_averaged = _checked_count(state_dict["n_averaged"])
        with Uninterrupted():
            for name, array in own.items():
                put(array, values[name])
            self.n_averaged = n_averaged

    def __repr__(self) -> str:
        return f"AveragedModel({self.module!r}, n_averaged={self.n_averaged})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_plan": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Copied parameters come one by one.
        settle(list(self.parameters()))

    def _arrays(self) -> dict[str, Array]:
        params = {name: param.data for name, param in named_parameters(self.module).items()}
        return {f"module.{name}": array for name, array in (params | named_buffers(self.module)).items()}

    def _buffers_beside(self, model: Any) -> list[Pair]:
        own, others = list(self.buffers()), list(named_buffers(model).values())
        check_alike("buffers", own, others)
        return list(zip(own, others, strict=True))

    def _by_user(self, pairs: list[Pair]) -> list[Pair]:
        """Return the averages and what a user's function makes of them."""
        new = [duplicate(averaged) for averaged, _ in pairs]
        if self.avg_fn is not None:
            results = zip(new, pairs, strict=True)
            new = [self.avg_fn(copy, current, self.n_averaged) for copy, (_, current) in results]
            new = [values if on_gpu(values) else np.asarray(values) for values in new]
        elif self.multi_avg_fn is not None:
            for dtype in dict.fromkeys(array.dtype for array in new):
                alike = [place for place, array in enumerate(new) if array.dtype == dtype]
                currents = [pairs[place][1] for place in alike]
                self.multi_avg_fn([new[place] for place in alike], currents, self.n_averaged)
        for (averaged, _), values in zip(pairs, new, strict=True):
            shape, expected = tuple(values.shape), tuple(averaged.shape)
            if values.dtype.kind not in "biufc":
                raise TypeError(f"avg_fn must return an array, but returned {values.dtype} values")
            if shape != expected:
                raise ValueError(f"avg_fn returned shape {shape} for an average of shape {expected}")
        return [(averaged, _cast(values, averaged.dtype)) for (averaged, _), values in zip(pairs, new, strict=True)]


def _cast(values: Any, dtype: Any) -> Any:
    return values if on_gpu(values) and values.dtype == dtype else to_host(values).astype(dtype)


def _checked_count(value: Any) -> int:
    try:
        count = index(np.asarray(value).item())
    except (TypeError, ValueError):
        count = -1
    if count < 0:
        raise RuntimeError(f"n_averaged must be an integer of at least 0, but is {value!r}")
    return count
