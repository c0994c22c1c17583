"""The check: every vector put to an implementation, and what came of it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from queue import SimpleQueue
from typing import Any

from tqdm import tqdm

from refoptim.conformance.runner import singled, skips
from refoptim.conformance.runner.answer import Message
from refoptim.conformance.runner.hello import hello
from refoptim.conformance.runner.judge import MalformedAnswer, judged
from refoptim.conformance.runner.outcome import Grade, Report, Result, Status
from refoptim.conformance.runner.transport import ProtocolError, Transport
from refoptim.conformance.vectors.vector import SUITE, Vector

COMMANDS = {"trajectory": "run", "schedule": "schedule", "trace": "trace"}
# Where hello lists what is there for each type of vector.
_LISTS = {"trajectory": "optimizers", "schedule": "schedulers", "trace": "optimizers"}
# A program that breaks the protocol again and again is not asked for ever.
MOST_ERRORS = 20

# What becomes of a vector, and the answer, if there was one.
Heard = tuple[Result, Message | None]
Connect = Callable[[], Transport]
# What is told of each result as it comes: with the vector and the answer, where there was one.
Told = Callable[[Vector, Result, Message | None], None]


class Trust:
    """Trust in an implementation, which it loses by breaking the protocol again and again."""

    def __init__(self) -> None:
        self._broken = 0

    def is_lost(self, result: Result) -> bool:
        """Return whether this result was one too many."""
        self._broken += result.status is Status.PROTOCOL
        return self._broken > MOST_ERRORS


class Asker:
    """One connection to an implementation, and the vectors put to it."""

    def __init__(
        self, transport: Transport, claims: Mapping[str, Any], *, least: Grade = Grade.B, explain: bool = True
    ) -> None:
        self.transport = transport
        self._claims = claims
        self._least = least
        self._explain = explain
        self._seq = 0

    def result(self, vector: Vector) -> Heard:
        """Return what becomes of a vector, and the answer, if there was one."""
        if missing := unclaimed(vector, self._claims):
            return _plain(vector, Status.UNSUPPORTED, ", ".join(missing)), None
        start, found = time.perf_counter(), None
        try:
            found = self.ask(COMMANDS[vector.type], vector)
            result = self._judged(vector, found)
        except (ProtocolError, MalformedAnswer) as error:
            kind = "" if isinstance(error, ProtocolError) else "malformed answer: "
            result = _plain(vector, Status.PROTOCOL, f"{kind}{error}")
        return result._replace(seconds=time.perf_counter() - start), found

    def ask(self, command: str, vector: Vector, **more: Any) -> Message:
        """Return the answer to a vector's problem."""
        self._seq += 1
        return self.transport.ask({"cmd": command, "seq": self._seq, "problem": vector.problem, **more})

    def _judged(self, vector: Vector, found: Message) -> Result:
        result = judged(vector, found)
        if result.status is Status.UNSUPPORTED and self._claims.get(_LISTS[vector.type]) is not None:
            result = result._replace(message=f"{result.message} (though hello claims it)")
        grades = list(Grade)
        if result.grade is not None and grades.index(result.grade) > grades.index(self._least):
            result = result._replace(status=Status.MISMATCH)
        elif result.status is Status.MISMATCH and result.grade is not None and result.grade is not Grade.D:
            result = result._replace(status=Status.CONFORMS)
        if result.status is Status.MISMATCH and self._explain:
            result = result._replace(
                dialect=explained(vector, found), message=result.message or self._alone(vector, result)
            )
        return result

    def _alone(self, vector: Vector, result: Result) -> str:
        """Say whether the step that went wrong is wrong by itself, or what came before it."""
        if vector.type != "trajectory" or result.divergence is None or vector.expect["encoding"] == "class":
            return ""
        request = singled.step(vector, result.divergence.step)
        optimizers = self._claims.get("optimizers")
        if request is None or (optimizers is not None and "feature:set_state" not in optimizers[vector.algorithm]):
            return ""
        where = f"step {result.divergence.step} from the exact state"
        try:
            self._seq += 1
            found = self.transport.ask({"cmd": "step", "seq": self._seq, **request.sent})
            alone = judged(request.vector, found)
        except (ProtocolError, MalformedAnswer) as error:
            return f"{where}: {error}"
        if alone.grade is None:
            return ""
        return f"{where} is {'wrong too' if alone.status is Status.MISMATCH else 'right: errors add up'}"


def explained(vector: Vector, answer: Message) -> str:
    """Return which dialect an answer follows, in words; nothing where there is nothing to say."""
    from refoptim.conformance.dialects import search  # noqa: PLC0415  only failures need it

    return search.verdict(vector, answer) if "after" in answer or "lr" in answer else ""


def unclaimed(vector: Vector, claims: Mapping[str, Any]) -> list[str]:
    """Return what a vector asks for that an implementation does not say that it has. Nothing said means: ask."""
    if vector.type == "schedule":
        known = claims.get("schedulers")
        wanted = [name for name in vector.requires if name.startswith("scheduler:")]
        return [] if known is None else [name for name in wanted if name.removeprefix("scheduler:") not in known]
    optimizers = claims.get("optimizers")
    if optimizers is None:
        return []
    if vector.algorithm not in optimizers:
        return [f"optimizer:{vector.algorithm}"]
    return [name for name in vector.requires if name not in optimizers[vector.algorithm]]


def _plain(vector: Vector, status: Status, message: str) -> Result:
    return Result(vector.id, vector.algorithm, vector.tier, vector.dtype, status, message=message)


def check(
    vectors: Sequence[Vector],
    connect: Connect,
    *,
    jobs: int = 1,
    least: Grade = Grade.B,
    skipped: Iterable[skips.Skipped] = (),
    strict: bool = False,
    today: date | None = None,
    quiet: bool = True,
    told: Told | None = None,
    greeted: Callable[[str, dict[str, Any]], None] = lambda *_: None,
) -> Report:
    """Put vectors to an implementation.

    Args:
        vectors: what is asked, in this order.
        connect: opens a connection; called once for each job.
        jobs: how many connections are asked at once (default: 1).
        least: the grade that is asked for (default: B).
        skipped: what is not asked, and why; under ``strict`` it is asked nevertheless, and a skip that is not needed,
            or whose time is over, is stale.
        strict: whether skips have to be true (default: False).
        today: the day that skips are compared with (default: today, in UTC).
        quiet: whether there is no progress bar (default: True).
        told: called with each result as it comes.
        greeted: called once it is known who answers.

    Raises:
        ProtocolError: the implementation does not say who it is.
        MissingProgramError: there is no such program.

    """
    ask = partial(_with_skips, skipped=list(skipped), strict=strict, today=today or datetime.now(tz=UTC).date())
    connections: list[Transport] = []
    results: list[Result] = []
    trust = Trust()
    try:
        connections.append(connect())
        claims = hello(connections[0], SUITE)
        who = _who(claims)
        greeted(SUITE, who)
        connections += [connect() for _ in range(jobs - 1)]
        askers = [Asker(connection, claims, least=least) for connection in connections]
        with tqdm(total=len(vectors), unit="vector", disable=quiet, leave=False) as bar:
            for vector, (result, answer) in zip(vectors, _in_order(ask, vectors, askers)):
                results.append(result)
                bar.update()
                if told is not None:
                    told(vector, result, answer)
                if trust.is_lost(result):
                    break
    except BaseException:
        for connection in connections:
            connection.stop()
        raise
    for connection in connections:
        connection.close()
    return Report(SUITE, who, results, complete=len(results) == len(vectors))


def _who(claims: Message) -> dict[str, Any]:
    """Return what a report says of an implementation; what else it says of itself is ignored."""
    names = ("name", "version", "language", "homepage", "issues")
    who = {name: said for name, said in claims["implementation"].items() if name in names}
    return who | {"dialect": str(claims.get("dialect") or "torch")}


def _in_order(
    ask: Callable[[Asker, Vector], Heard], vectors: Sequence[Vector], askers: Sequence[Asker]
) -> Iterator[Heard]:
    """Yield what becomes of each vector; several are asked for at once if there are several who ask."""
    if len(askers) == 1:
        yield from map(partial(ask, askers[0]), vectors)
        return
    free = SimpleQueue[Asker]()
    for asker in askers:
        free.put(asker)

    def asked(vector: Vector) -> Heard:
        asker = free.get()
        try:
            return ask(asker, vector)
        finally:
            free.put(asker)

    pool = ThreadPoolExecutor(len(askers))
    try:
        yield from pool.map(asked, vectors)
    except BaseException as error:
        # Enough was heard: those who are being asked may finish. An interruption waits for nobody.
        pool.shutdown(wait=isinstance(error, GeneratorExit), cancel_futures=True)
        raise
    pool.shutdown()


def _with_skips(asker: Asker, vector: Vector, skipped: list[skips.Skipped], *, strict: bool, today: date) -> Heard:
    skip = skips.skip_of(vector.id, skipped)
    if skip is None:
        return asker.result(vector)
    if not strict:
        return _plain(vector, Status.SKIPPED, str(skip)), None
    if skip.is_over(today):
        return _plain(vector, Status.STALE, f"its time is over: {skip}"), None
    result, answer = asker.result(vector)
    if result.status is Status.CONFORMS:
        return result._replace(status=Status.STALE, message=f"it conforms, and is skipped: {skip}"), answer
    return _plain(vector, Status.SKIPPED, str(skip)), answer
