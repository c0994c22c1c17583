"""Automatic mutants: every rule and every host function with one thing wrong, put to the exams that reject mutants."""

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from tqdm import tqdm

import refoptim
from refoptim.conformance import cases
from refoptim.conformance.deadline import deadline
from refoptim.conformance.mutants import Mutant, MutantExam, exams_of, rule_subject
from refoptim.conformance.operators import parsed, slips
from refoptim.conformance.scenario import Scenario
from refoptim.conformance.subjects import RefoptimRun, Run, Subject
from refoptim.conformance.suite import Each
from refoptim.conformance.survivors import SURVIVORS
from refoptim.kernels.jit import CpuKernel

# For one exam, which takes some hundredths of a second.
SECONDS = 5
SHARE = 0.97

# What a class computes on the host, beside choosing a kernel.
HOST = ("_options", "_initial_values", "_scalars", "_advance")


class Score(NamedTuple):
    """What became of the automatic mutants."""

    rejected: dict[str, str]  # and what gave each away
    survivors: dict[str, str | None]  # and why each may survive, if there is a reason
    stale: list[str]  # mutants whose survival is explained, but which do not survive or do not exist
    complete: bool  # whether the mutants are those of every algorithm

    @property
    def share(self) -> float:
        """The share of the mutants that is rejected."""
        total = len(self.rejected) + len(self.survivors)
        return len(self.rejected) / total if total else 1.0

    @property
    def unexplained(self) -> list[str]:
        """The survivors without a reason."""
        return [name for name, reason in self.survivors.items() if reason is None]

    @property
    def passed(self) -> bool:
        """Whether every survivor has a reason, every reason its survivor, and few survive."""
        enough = self.share >= SHARE or not self.complete
        return enough and not self.stale and not self.unexplained


def score(stems: Iterable[str], *, each: Each = map, quiet: bool = True) -> Score:
    """Put the automatic mutants of some algorithms to their exams."""
    stems = list(stems)
    reasons = {name: reason for reason, names in SURVIVORS.items() for name in names}
    found = tqdm(each(verdicts, stems), "automatic mutants", len(stems), unit="algorithm", disable=quiet, leave=False)
    every = {name: verdict for own in found for name, verdict in own.items()}
    rejected = {name: verdict for name, verdict in every.items() if verdict}
    survivors = {name: reasons.get(name) for name, verdict in every.items() if not verdict}
    stale = [name for name in reasons if name.partition(":")[0] in stems and name not in survivors]
    return Score(rejected, survivors, stale, complete=set(stems) == set(cases.stems()))


def verdicts(stem: str) -> dict[str, str | None]:
    """Return why each automatic mutant of an algorithm is rejected, or None if it survives."""
    order = exams_of(stem)
    return {f"{stem}: {mutant.name}": examine(mutant, order) for mutant in automatic_mutants(stem)}


def examine(mutant: Mutant, exams: list[MutantExam]) -> str | None:
    """Return why a mutant is rejected, or None if it survives. To raise, or to work without end, is a reason.

    The exam that rejects it becomes the first of the list: the next mutant is likely to be wrong in the same options.
    """
    for index, exam in enumerate(exams):
        try:
            with deadline(SECONDS):
                reason = exam.rejects(mutant.subject)
        except Exception as error:  # noqa: BLE001  a wrong optimizer may raise anything
            reason = f"{type(error).__name__}: {error}"
        if reason:
            exams.insert(0, exams.pop(index))
            return f"{exam.case} {exam.dtype}: {reason}"
    return None


def automatic_mutants(stem: str) -> Iterator[Mutant]:
    """Yield the mutants of an algorithm: of the rules in its kernels' file, and of what its classes compute."""
    if not cases.stems()[stem].CASES:
        return  # an exam of its own judges it
    kernels = import_module(f"refoptim.kernels.{stem}")
    for rule in rules(kernels):
        for slip in slips(inspect.getsource(getattr(kernels, rule)), kernels.Scalars._fields):
            yield Mutant(stem, f"{rule}: {slip.name}", None, rule_subject(kernels, rule, slip.source))
    for owner in classes(stem):
        sources = host_functions(owner)
        for name, source in sources.items():
            for slip in slips(source):
                subject = host_subject(owner, sources | {name: slip.source})
                yield Mutant(stem, f"{owner.__name__}.{name}: {slip.name}", None, subject)


def rules(kernels: ModuleType) -> list[str]:
    """Return the names of a file's rules: functions of one element that have a loop."""
    return [
        name
        for name, value in vars(kernels).items()
        if isinstance(value, FunctionType)
        and isinstance(vars(kernels).get(f"{name}_cpu"), CpuKernel)
        and [*inspect.signature(value).parameters][-1] == "h"
    ]


def classes(stem: str) -> list[Any]:
    """Return the classes of an algorithm's file that the cases judge and that compute something of their own."""
    judged = dict.fromkeys(getattr(refoptim, case.optimizer) for case in cases.stems()[stem].CASES)
    owners = dict.fromkeys(base for judge in judged for base in judge.__mro__ if base.__module__ == judge.__module__)
    return [owner for owner in owners if any(name in vars(owner) for name in HOST)]


def host_functions(owner: Any) -> dict[str, str]:
    """Return the sources of a class's host functions, by name, and of those in the same file that they call."""
    module = sys.modules[owner.__module__]
    found: dict[str, str] = {}
    wanted = [vars(owner)[name] for name in HOST if name in vars(owner)]
    while wanted:
        function = wanted.pop(0)
        if function.__name__ in found:
            continue
        found[function.__name__] = inspect.getsource(function)
        for node in ast.walk(parsed(found[function.__name__])):
            called = isinstance(node, ast.Name) and vars(module).get(node.id)
            if isinstance(called, FunctionType) and called.__module__ == owner.__module__:
                wanted.append(called)
    return found


def host_subject(owner: Any, sources: dict[str, str]) -> Subject:
    """Return the optimizers of a class whose host functions are these."""

    @cache
    def functions() -> dict[str, Any]:
        names = dict(vars(sys.modules[owner.__module__]))
        for source in sources.values():
            exec(compile(ast.Module([parsed(source)], []), owner.__name__, "exec"), names)  # noqa: S102  our own source
        return {name: names[name] for name in sources if name in vars(owner)}

    def subject(optimizer: str, scenario: Scenario) -> Run:
        right = getattr(refoptim, optimizer)
        wrong = type(right.__name__, (right,), functions() if issubclass(right, owner) else {})
        return RefoptimRun(wrong, scenario, {})

    return subject
