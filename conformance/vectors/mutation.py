"""The proof of the vectors: wrong optimizers by the thousand, each of which some vector must reject."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import refoptim
from refoptim.conformance import cases
from refoptim.conformance.automatic import automatic_mutants
from refoptim.conformance.deadline import deadline
from refoptim.conformance.mutants import Mutant, mutants_of
from refoptim.conformance.runner.adapter import Base, Info
from refoptim.conformance.runner.answer import answer
from refoptim.conformance.runner.judge import MalformedAnswer, judged
from refoptim.conformance.runner.outcome import Grade, Status
from refoptim.conformance.scenario import Scenario, Start
from refoptim.conformance.subjects import Run, Subject, refoptim_subject
from refoptim.conformance.suite import Each
from refoptim.conformance.survivors import SURVIVORS
from refoptim.conformance.vectors import store
from refoptim.conformance.vectors.foreign import FOREIGN
from refoptim.conformance.vectors.survivors import VERDICTS
from refoptim.conformance.vectors.vector import Rows, Trajectory, Vector
from refoptim.kernels.jit import CpuKernel

Array = NDArray[Any]

SECONDS = 5
SHARE = 0.97
KINDS = ("formula", "plumbing", "precision")


class SubjectAdapter(Base):
    """What the exams call a subject, as an adapter."""

    info = Info("subject", "")

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._run: Run | None = None
        self._names: list[str] = []

    def start(self, problem: Trajectory) -> None:
        """Build the optimizer."""
        self._names = list(problem.params)
        owner = {name: i for i, group in enumerate(problem.groups) for name in group.params}
        starts = [Start(theta, 0, {}, {}) for theta in problem.params.values()]
        groups = [dict(group.options) for group in problem.groups]
        grads: list[list[Any]] = [[step.grads[name] for name in self._names] for step in problem.steps]
        lrs = [list(step.lrs) for step in problem.steps]
        scenario = Scenario("vector", groups, [owner[name] for name in self._names], starts, grads, lrs)
        self._run = self._subject(problem.algorithm, scenario)

    def step(self, grads: dict[str, Array | Rows | None], lrs: tuple[float, ...]) -> None:
        """Take a step."""
        assert self._run is not None
        self._run.step([grads[name] for name in self._names], list(lrs))  # pyright: ignore[reportArgumentType]

    def params(self) -> dict[str, Array]:
        """Return the parameters."""
        assert self._run is not None
        return {name: self._run.theta(i) for i, name in enumerate(self._names)}

    def state(self) -> dict[str, dict[str, Array]]:
        """Return the state."""
        assert self._run is not None
        return {name: self._run.state(i) for i, name in enumerate(self._names)}


class Score(NamedTuple):
    """What became of the mutants, by kind."""

    rejected: dict[str, dict[str, str]]  # and the vector that gave each away
    survivors: dict[str, dict[str, str | None]]  # and the verdict on each
    stale: list[str]  # verdicts on what does not survive
    complete: bool  # whether the mutants are those of every algorithm

    def share(self, kind: str = "") -> float:
        """Return the share of the mutants of a kind, or of all, that is rejected."""
        kinds = (kind,) if kind else KINDS
        rejected = sum(len(self.rejected[name]) for name in kinds)
        total = rejected + sum(len(self.survivors[name]) for name in kinds)
        return rejected / total if total else 1.0

    @property
    def unexplained(self) -> list[str]:
        """The survivors without a verdict."""
        return [name for found in self.survivors.values() for name, verdict in found.items() if verdict is None]

    @property
    def passed(self) -> bool:
        """Whether every survivor has a verdict, every verdict its survivor, and few survive."""
        return not self.unexplained and not self.stale and (self.share() >= SHARE or not self.complete)


def stems() -> list[str]:
    """Return the algorithms that have mutants."""
    return [stem for stem, module in cases.stems().items() if module.CASES]


def kind_of(mutant: Mutant) -> str:
    """Return what kind of mistake a mutant is."""
    precise = ("Precision", "float32", "bfloat16", "with an error of", "in the fifth digit")
    if any(word in mutant.name for word in precise):
        return "precision"
    return "plumbing" if mutant.name.startswith("Bookkeeping") else "formula"


def all_mutants(stem: str, *, automatic: bool = True) -> Iterator[Mutant]:
    """Yield the mutants of an algorithm: those written by hand, and those made automatically.

    What only dialects compute has none here: the vectors are torch's, and the exams judge it.
    """
    foreign = other_rules(stem)
    made = automatic_mutants(stem) if automatic else ()
    for mutant in chain(mutants_of(stem), made):
        if mutant.name.partition(":")[0] not in foreign and name_of(mutant) not in FOREIGN:
            yield mutant


def other_rules(stem: str) -> set[str]:
    """Return the rules of an algorithm that run in dialects only."""

    def found(*, dialects: bool) -> set[str]:
        chosen = [case for case in cases.stems()[stem].CASES if dialects or case.options.get("dialect") is None]
        optimizers = (
            getattr(refoptim, case.optimizer)([refoptim.Parameter([[1.0]])], **case.options) for case in chosen
        )
        kernels = {optimizer._variant(optimizer.param_groups[0]).kernel for optimizer in optimizers}
        return {kernel.name.removesuffix("_cpu") for kernel in kernels if isinstance(kernel, CpuKernel)}

    return found(dialects=True) - found(dialects=False)


def verdicts(stem: str, *, automatic: bool = True) -> list[tuple[str, str, str | None]]:
    """Return the kind and the name of each mutant of an algorithm, and why it is rejected, or None if it survives."""
    order = in_order(store.load(), stem)
    _compile(order)
    every = all_mutants(stem, automatic=automatic)
    return [(kind_of(mutant), name_of(mutant), rejects(mutant, order)) for mutant in every]


def _compile(vectors: list[Vector]) -> None:
    """Answer as the right optimizer does: a mutant that has its kernels must not take the time to compile them."""
    adapter = SubjectAdapter(refoptim_subject("fused"))
    with np.errstate(all="ignore"):
        for vector in vectors:
            answer(adapter, {"cmd": "run", "problem": vector.problem})


def score(chosen: list[str], *, automatic: bool = True, quiet: bool = True, each: Each = map) -> Score:
    """Put the mutants of some algorithms to the vectors."""
    rejected: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    survivors: dict[str, dict[str, str | None]] = {kind: {} for kind in KINDS}
    reasons = {name: reason for reason, names in (*SURVIVORS.items(), *VERDICTS.items()) for name in names}
    found = each(partial(verdicts, automatic=automatic), chosen)
    bar = tqdm(found, "mutants", len(chosen), unit="algorithm", disable=quiet, leave=False)
    for kind, name, verdict in chain.from_iterable(bar):
        if verdict:
            rejected[kind][name] = verdict
        else:
            survivors[kind][name] = reasons.get(name)
    alive = {name for found in survivors.values() for name in found}
    own = {name for names in VERDICTS.values() for name in names}
    stale = [name for name in own if name.partition(":")[0] in chosen and name not in alive]
    whole = automatic and set(chosen) == set(stems())
    return Score(rejected, survivors, stale if automatic else [], whole)


def name_of(mutant: Mutant) -> str:
    """Return what a mutant is called where all are listed."""
    return f"{mutant.stem}: {mutant.name}" if mutant.optimizer is None else f"{mutant.stem}: {mutant}"


def in_order(vectors: list[Vector], stem: str) -> list[Vector]:
    """Return the vectors that judge an algorithm, short ones first."""
    names = {case.optimizer for case in cases.stems()[stem].CASES}
    own = [v for v in vectors if v.type == "trajectory" and v.algorithm in names and v.result == "valid"]
    return sorted(own, key=lambda vector: len(vector.problem["steps"]))


def rejects(mutant: Mutant, vectors: list[Vector]) -> str | None:
    """Return the vector that a mutant fails and how, or None if it passes all.

    The vector that gives it away becomes the first: the next mutant is likely to be wrong in the same options.
    """
    for index, vector in enumerate(vectors):
        if mutant.optimizer not in (None, vector.algorithm):
            continue
        if reason := _failure(mutant.subject, vector):
            vectors.insert(0, vectors.pop(index))
            return f"{vector.id}: {reason}"
    return None


def _failure(subject: Callable[..., Run], vector: Vector) -> str | None:
    try:
        with deadline(SECONDS), np.errstate(all="ignore"):
            result = judged(vector, answer(SubjectAdapter(subject), {"cmd": "run", "problem": vector.problem}))
    except (MalformedAnswer, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    if result.status is Status.CONFORMS and result.grade in (Grade.EXACT, Grade.A):
        return None
    return f"{result.status}, grade {result.grade}: {result.divergence or result.message}"
