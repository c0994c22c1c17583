"""Wrong optimizers: every one must be rejected by the suite, or the suite does not test what it seems to."""

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

import refoptim
from refoptim.conformance import cases
from refoptim.conformance.adapters import RefoptimRun, Run, Subject
from refoptim.conformance.case import RuleMutant, ScalarMutant
from refoptim.conformance.scenario import Scenario
from refoptim.conformance.suite import Exam, failures
from refoptim.conformance.tolerances import LIMITS


class Mutant(NamedTuple):
    """A wrong optimizer, as a subject of the suite."""

    stem: str
    name: str
    optimizer: str | None  # the class it is a mutant of; None is all of the stem
    subject: Subject


class StaleMutantError(Exception):
    """A mutant no longer applies to the code that it was written for."""


def mutants() -> list[Mutant]:
    """Return the mutants of every algorithm: of its rules, its host scalars, and the bookkeeping around them."""
    found: list[Mutant] = []
    for stem, module in cases.stems().items():
        found += [_rule_mutant(stem, mutant) for mutant in module.RULE_MUTANTS]
        found += [_scalar_mutant(stem, mutant) for mutant in module.SCALAR_MUTANTS]
        for optimizer in dict.fromkeys(case.optimizer for case in module.CASES):
            found += [
                Mutant(stem, str(run.__doc__).rstrip("."), optimizer, _plumbing(run))
                for run in _PLUMBING
                if run is not _SharedCount or _count_matters(module, optimizer)
            ]
    return found


def _count_matters(module: Any, optimizer: str) -> bool:
    """Return whether the number of a step changes what it computes."""
    symbols = module.meaning(next(case for case in module.CASES if case.optimizer == optimizer)).symbols
    return bool(getattr(refoptim, optimizer).initial_host) and symbols(2) != symbols(3)


def examine(mutant: Mutant, exams: dict[str, list[Exam]]) -> str | None:
    """Return why a mutant is rejected, or None if it survives every exam of its stem."""
    for exam in exams[mutant.stem]:
        if mutant.optimizer in (None, exam.case.optimizer):
            with np.errstate(all="ignore"):
                found = failures(exam.measure(mutant.subject, long=False), LIMITS["fused"], None)
            if found:
                return f"{exam.case} {exam.dtype}: {found[0]}"
    return None


def exams() -> dict[str, list[Exam]]:
    """Return the exams that mutants are put to: of fewer elements, since their rules run as plain Python."""
    return {
        stem: [
            Exam(case, module, dtype, steps=(1, 2, 10), size=48)
            for dtype in (np.float32, np.float64)
            for case in module.CASES
        ]
        for stem, module in cases.stems().items()
    }


def _rule_mutant(stem: str, mutant: RuleMutant) -> Mutant:
    module = import_module(f"refoptim.kernels.{stem}")
    source = inspect.getsource(getattr(module, mutant.rule))
    changed = source.replace(mutant.right, mutant.wrong)
    if changed == source:
        raise StaleMutantError(f"{stem}, {mutant.name!r}: {mutant.right!r} is not in the rule {mutant.rule}")
    names = dict(vars(module))
    exec(changed, names)  # noqa: S102  the rule's own source, with one expression replaced
    right, wrong = getattr(module, f"{mutant.rule}_cpu"), _plain_loop(names[mutant.rule], module.Scalars)

    def subject(optimizer: str, scenario: Scenario) -> Run:
        class Wrong(getattr(refoptim, optimizer)):  # pyright: ignore[reportUntypedBaseClass]
            def _variant(self, group: dict[str, Any]) -> Any:
                variant = super()._variant(group)
                return variant._replace(kernel=wrong) if variant.kernel is right else variant

        return RefoptimRun(Wrong, scenario, {})

    return Mutant(stem, f"{mutant.rule}: {mutant.name}", None, subject)


def _plain_loop(rule: Callable[..., Any], kind: Callable[..., Any]) -> Callable[..., None]:
    def loop(theta: Any, *arguments: Any) -> None:
        g, *state, scalars = arguments
        h = kind(*scalars)
        for i in range(theta.size):
            result = rule(theta[i], g[i], *(array[i] for array in state), h)
            theta[i], *new = result if isinstance(result, tuple) else (result,)
            for array, value in zip(state, new, strict=True):
                array[i] = value

    return loop


def _scalar_mutant(stem: str, mutant: ScalarMutant) -> Mutant:
    def subject(optimizer: str, scenario: Scenario) -> Run:
        class Wrong(getattr(refoptim, optimizer)):  # pyright: ignore[reportUntypedBaseClass]
            def _scalars(self, options: Any, host: Any) -> Any:
                t = 1 if host is None else host.get("step", 1) + 1
                return mutant.change(super()._scalars(options, host), options, t)

        return RefoptimRun(Wrong, scenario, {})

    return Mutant(stem, f"scalars: {mutant.name}", mutant.optimizer, subject)


def _plumbing(run: type[RefoptimRun]) -> Subject:
    return lambda optimizer, scenario: run(getattr(refoptim, optimizer), scenario, {})


class _Plumbing(RefoptimRun):
    def __init__(self, optimizer_class: Any, scenario: Scenario, options: dict[str, Any]) -> None:
        super().__init__(optimizer_class, scenario, options)
        self._taken = 0
        self._last: list[Any] = [None] * len(self._params)
        self._last_lrs: list[float] | None = None

    def _arrays(self) -> Iterator[Any]:
        for index in range(len(self._params)):
            yield from self.state(index).values()


class _Skips(_Plumbing):
    """Bookkeeping: every fourth step is skipped."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        self._taken += 1
        if self._taken % 4:
            super().step(grads, lrs)


class _Doubles(_Plumbing):
    """Bookkeeping: the last parameter is stepped twice."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        super().step([*(None for _ in grads[:-1]), grads[-1]], lrs)


class _NoneIsZero(_Plumbing):
    """Bookkeeping: no gradient is a gradient of zero."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        zeros = [np.zeros_like(param.data) for param in self._params]
        super().step([zero if grad is None else grad for grad, zero in zip(grads, zeros, strict=True)], lrs)


class _NoneIsLast(_Plumbing):
    """Bookkeeping: no gradient is the gradient of the step before."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        self._last = [old if grad is None else grad for grad, old in zip(grads, self._last, strict=True)]
        super().step(self._last, lrs)


class _LateLr(_Plumbing):
    """Bookkeeping: a new learning rate takes effect a step late."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        late, self._last_lrs = self._last_lrs or lrs, lrs
        super().step(grads, late)


class _FirstGroup(_Plumbing):
    """Bookkeeping: all groups have the first one's options."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        first, *others = self._optimizer.param_groups
        for group in others:
            group.update({name: value for name, value in first.items() if name != "params"})
        super().step(grads, lrs)


class _SharedCount(_Plumbing):
    """Bookkeeping: all parameters share one step count."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        entries = [self._optimizer.state[param] for param in self._params]
        most = max(entry.get("step", 0) for entry in entries)
        for entry in entries:
            if len(entry):
                entry["step"] = most


class _Forgets(_Plumbing):
    """Bookkeeping: the state is lost between steps."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        for array in self._arrays():
            array[...] = 0
        super().step(grads, lrs)


class _HalfState(_Plumbing):
    """Precision: the state is stored in float16."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        for array in self._arrays():
            real = array.view(array.real.dtype)
            real[...] = real.astype(np.float16)


class _BfloatState(_Plumbing):
    """Precision: the state is stored in bfloat16."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        super().step(grads, lrs)
        for array in self._arrays():
            real = array.view(array.real.dtype)
            mantissa, exponent = np.frexp(real)
            real[...] = np.ldexp(np.round(mantissa * 256) / 256, exponent)


class _HalfGradient(_Plumbing):
    """Precision: the gradient passes through float16."""

    def step(self, grads: list[Any], lrs: list[float]) -> None:
        def half(grad: Any) -> Any:
            flat = np.ascontiguousarray(grad).reshape(-1).view(grad.real.dtype)
            return flat.astype(np.float16).astype(flat.dtype).view(grad.dtype).reshape(grad.shape)

        super().step([None if grad is None else half(grad) for grad in grads], lrs)


_PLUMBING = (
    _Skips,
    _Doubles,
    _NoneIsZero,
    _NoneIsLast,
    _LateLr,
    _FirstGroup,
    _SharedCount,
    _Forgets,
    _HalfState,
    _BfloatState,
    _HalfGradient,
)
