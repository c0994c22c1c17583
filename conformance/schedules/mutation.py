"""Wrong schedules: every one must be rejected by the exams, or they do not test what they seem to."""

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from refoptim.conformance.case import StaleMutantError
from refoptim.conformance.schedules import plateau, truth
from refoptim.conformance.schedules.bookkeeping import BOOKKEEPING
from refoptim.conformance.schedules.cases import CASES, PLATEAU_CASES
from refoptim.conformance.schedules.exam import LRS, MOMENTUM, Exam, Measured, failures, ours
from refoptim.conformance.schedules.wrong import FORMULAS, Wrong
from refoptim.conformance.truth import precision
from refoptim.formulas import schedules as formulas

EPOCHS = 320  # of the exams that mutants are put to
HAIR = 2.0**-40
_ALL = [*CASES, *PLATEAU_CASES]


class Mutant(NamedTuple):
    """A wrong scheduler, and how an exam measures it."""

    scheduler: str
    name: str
    measure: Callable[[Exam], Measured]

    def __str__(self) -> str:
        return f"{self.scheduler}: {self.name}"


def mutants() -> list[Mutant]:
    """Return the mutants: wrong formulas, options that are ignored or misread, and wrong bookkeeping."""
    found = [_formula_mutant(wrong) for wrong in FORMULAS]
    for (scheduler, name), values in _options().items():
        if name != "schedulers":
            found += _option_mutants(scheduler, name, values)
    found += [
        Mutant(scheduler, str(make.__doc__).rstrip("."), _as(scheduler, make))
        for scheduler in dict.fromkeys(case.scheduler for case in _ALL)
        for make, concerned in BOOKKEEPING
        if concerned(scheduler)
    ]
    return found


def exams() -> dict[str, list[Exam]]:
    """Return the exams that mutants are put to, which are short, by scheduler."""
    found: dict[str, list[Exam]] = {}
    for case in _ALL:
        found.setdefault(case.scheduler, []).append(Exam(case, EPOCHS))
    return found


def examine(mutant: Mutant, among: dict[str, list[Exam]]) -> str | None:
    """Return why a mutant is rejected, or None if it survives every exam of its scheduler. Who raises is rejected."""
    for exam in among[mutant.scheduler]:
        try:
            found = failures(mutant.measure(exam), exam.case)
        except Exception as error:  # noqa: BLE001  whatever a wrong scheduler raises
            found = [f"raises {type(error).__name__}: {error}"]
        if found:
            return f"{exam.case}: {found[0]}"
    return None


def _formula_mutant(wrong: Wrong) -> Mutant:
    """Return what computes the right way by a formula in which one expression is replaced by another."""
    module = _MODULES[wrong.module]
    function = inspect.getsource(getattr(module, wrong.function))
    changed = function.replace(wrong.right, wrong.wrong)
    if changed == function:
        raise StaleMutantError(f"{wrong.function}, {wrong.name!r}: {wrong.right!r} is not in it")
    mutated = _copy_of(module, inspect.getsource(module).replace(function, changed))
    if module is formulas:
        mutated = _copy_of(truth, inspect.getsource(truth), schedules=mutated)

    def measure(exam: Exam) -> Measured:
        with precision():
            if wrong.module == "model":
                exact = exam.modelled(mutated.learning_rates)
            else:
                exact = mutated.exact_curves(exam.case, LRS, MOMENTUM)
            curves = np.array([[float(arb(ball).mid()) for ball in curve] for curve in exact])
        errors = exam.errors(curves)
        return Measured(errors, errors, errors, None)

    return Mutant(wrong.scheduler, f"{wrong.function.strip('_')}: {wrong.name}", measure)


_MODULES: dict[str, ModuleType] = {"formula": formulas, "truth": truth, "model": plateau}


def _copy_of(module: ModuleType, source: str, **names: Any) -> Any:
    """Return a module like this one, of another source, in which names stand for something else."""
    copy = ModuleType(module.__name__)
    vars(copy)["__package__"] = module.__package__
    exec(source, vars(copy))  # noqa: S102  the module's own source, with one expression replaced
    vars(copy).update(names)
    return copy


def _options() -> dict[tuple[str, str], list[Any]]:
    """Return the values that the cases give to every option, by scheduler and name."""
    found: dict[tuple[str, str], list[Any]] = {}
    for case in _ALL:
        for name, value in case.options.items():
            found.setdefault((case.scheduler, name), []).append(value)
    return found


def _option_mutants(scheduler: str, name: str, values: list[Any]) -> Iterator[Mutant]:
    """Yield schedulers that misread an option, in each way that makes a difference."""
    right = ours().schedulers[scheduler]
    default = inspect.signature(right).parameters[name].default
    required = default is inspect.Parameter.empty or name in _NEEDED
    if not required and any(value != default for value in values):
        yield Mutant(scheduler, f"{name} is ignored", _as(scheduler, lambda cls: _with(cls, name, lambda _: default)))
    for how, change in (_PLATEAU_CHANGES if scheduler == "ReduceLROnPlateau" else _CHANGES).items():
        if any(change(value) != value for value in values):
            yield Mutant(scheduler, f"{name} is {how}", _as(scheduler, lambda cls, c=change: _with(cls, name, c)))


def _with(cls: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """Return what builds a scheduler with one option changed, where it is given."""

    def build(*given: Any, **options: Any) -> Any:
        return cls(*given, **options | ({name: change(options[name])} if name in options else {}))

    return build


def _as(scheduler: str, make: Callable[[Any], Any]) -> Callable[[Exam], Measured]:
    """Return how an exam measures refoptim with a wrong scheduler in place of the right one."""
    library = ours()
    wrong = library._replace(schedulers={**library.schedulers, scheduler: make(library.schedulers[scheduler])})
    return lambda exam: exam.measure(wrong)


def _larger(value: Any) -> Any:
    if isinstance(value, list) and all(type(item) is int for item in value):
        return [item + 1 for item in value]
    return value + 1 if type(value) is int else value


def _a_hair(value: Any) -> Any:
    return value * (1 + HAIR) if type(value) is float else value


def _halved(value: Any) -> Any:
    return value / 2 if type(value) is float else value


def _first(value: Any) -> Any:
    one_each = isinstance(value, list) and len(value) == len(LRS)
    return [value[0], value[0]] if one_each else value


# One of them must be there.
_NEEDED = ("total_steps", "epochs", "steps_per_epoch")

# How an option can be misread. What stays the same is no mutant.
_CHANGES: dict[str, Callable[[Any], Any]] = {
    "one too large": _larger,
    "a hair too large": _a_hair,
    "the first one's for all": _first,
    "negated": lambda value: not value if isinstance(value, bool) else value,
}

# A plateau is found by comparisons, which do not see a hair.
_PLATEAU_CHANGES = _CHANGES | {"a hair too large": lambda value: value, "halved": _halved}
