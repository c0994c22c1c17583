"""Wrong optimizers: every one must be rejected by the suite, or the suite does not test what it seems to."""

import inspect
from collections.abc import Callable
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

import refoptim
from refoptim.conformance import cases
from refoptim.conformance.case import Case, RuleMutant, ScalarMutant, StaleMutantError
from refoptim.conformance.plumbing import PLUMBING
from refoptim.conformance.scenario import Scenario
from refoptim.conformance.specials import Specials
from refoptim.conformance.subjects import RefoptimRun, Run, Subject
from refoptim.conformance.suite import Exam, failures
from refoptim.kernels import arithmetic


class Mutant(NamedTuple):
    """A wrong optimizer, as a subject of the suite."""

    stem: str
    name: str
    optimizer: str | None  # the class it is a mutant of; None is all of the stem
    subject: Subject

    def __str__(self) -> str:
        return f"{self.optimizer or self.stem}: {self.name}"


def mutants() -> list[Mutant]:
    """Return the mutants of every algorithm."""
    return [mutant for stem in cases.stems() for mutant in mutants_of(stem)]


def mutants_of(stem: str) -> list[Mutant]:
    """Return the mutants of an algorithm: of its rules, its host scalars, and the bookkeeping around them."""
    module = cases.stems()[stem]
    written = (*module.RULE_MUTANTS, *getattr(module, "PROGRAM_MUTANTS", ()))
    found = [_rule_mutant(stem, mutant) for mutant in written]
    found += [_scalar_mutant(stem, mutant) for mutant in module.SCALAR_MUTANTS]
    for optimizer in dict.fromkeys(case.optimizer for case in module.CASES):
        found += [
            Mutant(stem, str(run.__doc__).rstrip("."), optimizer, _plumbing(run))
            for run in PLUMBING
            if not run.of_counts or _count_matters(module, optimizer)
        ]
    return found


def _count_matters(module: Any, optimizer: str) -> bool:
    """Return whether the number of a step changes what it computes."""
    symbols = module.meaning(next(case for case in module.CASES if case.optimizer == optimizer)).symbols
    return bool(getattr(refoptim, optimizer).initial_host) and symbols(2) != symbols(3)


class MutantExam(Exam):
    """An exam of fewer elements, since the rules of mutants run as plain Python, and of numbers that are special."""

    def __init__(self, case: Case, module: Any, dtype: Any) -> None:
        super().__init__(case, module, dtype, steps=(1, 2, 10), size=48)
        # The numbers of a matrix are not stepped one by one: what is special about one is soon so about all.
        elementwise = getattr(module, "ELEMENTWISE", True)
        self._specials = Specials(case, module.meaning(case), dtype) if elementwise else None

    def rejects(self, subject: Subject) -> str | None:
        """Return why a subject fails, or None if it passes."""
        with np.errstate(all="ignore"):
            if found := failures(self.measure(subject, long=False), self.limits["fused"], None):
                return found[0]
            if self._specials and (differences := self._specials.differences(subject)):
                return f"infinity, NaN and zero: {differences} where they should not be, or not where they should"
        return None


def examine(mutant: Mutant, exams: list[MutantExam]) -> str | None:
    """Return why a mutant is rejected, or None if it survives every exam of its stem. To raise is a reason."""
    for exam in exams:
        if mutant.optimizer not in (None, exam.case.optimizer):
            continue
        try:
            reason = exam.rejects(mutant.subject)
        except Exception as error:  # noqa: BLE001  a wrong optimizer may raise anything
            reason = f"{type(error).__name__}: {error}"
        if reason:
            return f"{exam.case} {exam.dtype}: {reason}"
    return None


def exams_of(stem: str) -> list[MutantExam]:
    """Return the exams that an algorithm's mutants are put to."""
    module = cases.stems()[stem]
    return [MutantExam(case, module, dtype) for dtype in (np.float32, np.float64) for case in module.CASES]


def verdicts(stem: str) -> dict[str, str | None]:
    """Return why each mutant of an algorithm is rejected, or None if it survives."""
    exams = exams_of(stem)
    return {str(mutant): examine(mutant, exams) for mutant in mutants_of(stem)}


def _rule_mutant(stem: str, mutant: RuleMutant) -> Mutant:
    module = import_module(f"refoptim.kernels.{stem}")
    source = inspect.getsource(getattr(module, mutant.rule))
    changed = source.replace(mutant.right, mutant.wrong)
    if changed == source:
        raise StaleMutantError(f"{stem}, {mutant.name!r}: {mutant.right!r} is not in the rule {mutant.rule}")
    return Mutant(stem, f"{mutant.rule}: {mutant.name}", None, rule_subject(module, mutant.rule, changed))


def rule_subject(module: ModuleType, rule: str, source: str) -> Subject:
    """Return the optimizers of a kernels' file with this source for one of its rules, which is not compiled."""
    names = vars(arithmetic) | vars(module)
    # A kernel may be a Python function that calls the loops of rules by their names.
    own = [f for f in vars(module).values() if isinstance(f, FunctionType) and f.__globals__ is vars(module)]
    names |= {f.__name__: FunctionType(f.__code__, names, f.__name__, f.__defaults__, f.__closure__) for f in own}
    exec(source, names)  # noqa: S102  the rule's own source, with one thing wrong
    changed = [f.__name__ for f in own]
    if f"{rule}_cpu" in names:  # a rule; a program runs as it is
        names[f"{rule}_cpu"] = _plain_loop(names[rule], module.Scalars)
        changed.append(f"{rule}_cpu")
    replaced = {id(vars(module)[name]): names[name] for name in changed}

    def subject(optimizer: str, scenario: Scenario) -> Run:
        class Wrong(getattr(refoptim, optimizer)):  # pyright: ignore[reportUntypedBaseClass]
            def _variant(self, group: dict[str, Any]) -> Any:
                variant = super()._variant(group)
                # What steps many parameters in one launch is the right program, compiled.
                kernel = replaced.get(id(variant.kernel), variant.kernel)
                return variant._replace(kernel=kernel, together=None)

        return RefoptimRun(Wrong, scenario, {})

    return subject


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
