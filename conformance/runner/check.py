"""The check: every vector put to an implementation, and what came of it."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from queue import SimpleQueue
from typing import Any

from tqdm import tqdm

from refoptim.conformance.runner import singled, skips
from refoptim.conformance.runner.answer import Message
from refoptim.conformance.runner.hello import hello
from refoptim.conformance.runner.judge import MalformedAnswer, judged
from refoptim.conformance.runner.outcome import Grade, Report, Result, Status
from refoptim.conformance.runner.transport import ProtocolError, Transport
from refoptim.conformance.vectors.vector import Vector

SUITE = "2026.11"
COMMANDS = {"trajectory": "run", "schedule": "schedule", "trace": "trace"}
# A program that breaks the protocol again and again is not asked for ever.
MOST_ERRORS = 20

Connect = Callable[[], Transport]
# What is told of each result as it comes: with the vector and the answer, where there was one.
Told = Callable[[Vector, Result, Message | None], None]


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

    def result(self, vector: Vector) -> tuple[Result, Message | None]:
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
        if result.status is Status.UNSUPPORTED and self._claims.get("optimizers") is not None:
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
        if request is None:
            return ""
        try:
            self._seq += 1
            found = self.transport.ask({"cmd": "step", "seq": self._seq, **request.sent})
            alone = judged(request.vector, found)
        except (ProtocolError, MalformedAnswer):
            return ""
        if alone.grade is None:
            return ""
        wrong = alone.status is Status.MISMATCH
        return (
            f"step {result.divergence.step} from the exact state is {'wrong too' if wrong else 'right: errors add up'}"
        )


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
    today = today or datetime.now(tz=UTC).date()
    first = connect()
    claims = _greeted(first)
    who = {**claims["implementation"], "dialect": claims.get("dialect") or "torch"}
    greeted(SUITE, who)
    connections = [first]
    results: dict[str, Result] = {}
    try:
        connections += [connect() for _ in range(jobs - 1)]
        askers = SimpleQueue[Asker]()
        for connection in connections:
            askers.put(Asker(connection, claims, least=least))

        def ask(vector: Vector) -> tuple[Vector, Result, Message | None]:
            asker = askers.get()
            try:
                return vector, *_with_skips(asker, vector, list(skipped), strict=strict, today=today)
            finally:
                askers.put(asker)

        broken = 0
        bar = tqdm(total=len(vectors), unit="vector", disable=quiet, leave=False)
        with bar:
            for vector, result, answer in _in_order(ask, vectors, jobs):
                results[vector.id] = result
                bar.update()
                if told is not None:
                    told(vector, result, answer)
                broken += result.status is Status.PROTOCOL
                if broken > MOST_ERRORS:
                    break
    finally:
        for connection in connections:
            connection.close()
    complete = len(results) == len(vectors)
    return Report(SUITE, who, list(results.values()), complete)


def _greeted(transport: Transport) -> Message:
    try:
        return hello(transport, SUITE)
    except BaseException:
        transport.close()
        raise


def _in_order(
    ask: Callable[[Vector], tuple[Vector, Result, Message | None]], vectors: Sequence[Vector], jobs: int
) -> Iterator[tuple[Vector, Result, Message | None]]:
    if jobs == 1:
        yield from map(ask, vectors)
        return
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(ask, vectors)
        finally:
            pool.shutdown(cancel_futures=True)


def _with_skips(
    asker: Asker, vector: Vector, skipped: list[skips.Skipped], *, strict: bool, today: date
) -> tuple[Result, Message | None]:
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
