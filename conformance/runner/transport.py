"""How an implementation is asked: in this process, or in one of its own by lines of JSON."""

import json
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, Self

from refoptim.conformance.runner.adapter import Adapter
from refoptim.conformance.runner.answer import PROTOCOL, Message, answer

TIMEOUT = 10.0
# A process that is told bye has this long to leave, and one that is stopped before it is killed.
PATIENCE = 2.0
LONGEST_LINE = 64 * 2**20
STDERR_LINES = 40


class ProtocolError(Exception):
    """An implementation did something else than answer: crash, hang, or say what is no answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class MissingProgramError(Exception):
    """There is no such program, or it cannot be run."""


class Transport(Protocol):
    """Something that can be asked."""

    def ask(self, request: Mapping[str, Any]) -> Message:
        """Return the answer to a request."""
        ...

    def close(self) -> None:
        """Say bye."""
        ...


class InProcess:
    """An adapter in this process."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def ask(self, request: Mapping[str, Any]) -> Message:
        """Return the answer to a request."""
        return answer(self._adapter, request)

    def close(self) -> None:
        """Do nothing: there is nobody to leave."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Process:
    """A program that reads requests and writes answers, a line of JSON each. It is started again after an error."""

    def __init__(self, command: Sequence[str], timeout: float = TIMEOUT, *, validate: bool = False) -> None:
        self._command = list(command)
        self._validate = validate
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        self._rest = b""
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self.restarts = -1

    @property
    def stderr(self) -> str:
        """The last lines that the program wrote to its standard error."""
        return "\n".join(self._stderr)

    def ask(self, request: Mapping[str, Any]) -> Message:
        """Return the answer to a request.

        Raises:
            ProtocolError: there is none, or it is not one. The program is started again for the next request.
            MissingProgramError: the program cannot be started.

        """
        process = self._process or self._start()
        try:
            return self._exchange(process, request)
        except BaseException:
            self._kill()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603  the user's own
        except OSError as error:
            raise MissingProgramError(f"{self._command[0]}: {error.strerror}") from error
        self._process, self._rest = process, b""
        self.restarts += 1
        self._reader = Thread(target=self._drain, args=(process,), daemon=True)
        self._reader.start()
        return process

    def _drain(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self._stderr.append(line.decode(errors="replace").rstrip())

    def _exchange(self, process: "subprocess.Popen[bytes]", request: Mapping[str, Any]) -> Message:
        assert process.stdin is not None
        end = time.monotonic() + self._timeout
        try:
            process.stdin.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise self._gone(process, "before it had read the request") from None
        line = self._line(process, end)
        if self._rest:
            raise ProtocolError("extra output", f"after its answer it wrote {_shown(self._rest)}")
        try:
            found = json.loads(line)
        except ValueError:
            raise ProtocolError("not JSON", f"it answered {_shown(line)}") from None
        if not isinstance(found, dict):
            raise ProtocolError("not an object", f"it answered {_shown(line)}")
        if self._validate:
            _check_schema(found)
        if found.get("seq") != request.get("seq"):
            raise ProtocolError("wrong seq", f"it answered {found.get('seq')!r} to {request.get('seq')!r}")
        return found

    def _line(self, process: "subprocess.Popen[bytes]", end: float) -> bytes:
        """Return the next line, which may come in pieces."""
        assert process.stdout is not None
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            left = end - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                said = b"".join(pieces)
                what = f"the line was not complete: {_shown(said)}" if said else "it said nothing"
                raise ProtocolError("timeout", f"in {self._timeout:g} seconds {what}")
            piece = os.read(process.stdout.fileno(), 2**20)
            if not piece:
                said = b"".join(pieces)
                raise self._gone(process, f"in the middle of the line {_shown(said)}" if said else "without an answer")
            pieces.append(piece)
            if sum(map(len, pieces)) > LONGEST_LINE:
                raise ProtocolError("too long", f"a line of more than {LONGEST_LINE} bytes")
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        return line

    def _gone(self, process: "subprocess.Popen[bytes]", when: str) -> ProtocolError:
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return ProtocolError("closed", f"it closed its output {when}")
        how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
        time.sleep(0.01)  # what it wrote to stderr may still be on its way
        last = f"; its last words: {self._stderr[-1]}" if self._stderr else ""
        return ProtocolError("crash", f"it {how} {when}{last}")

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._reader is not None:
            self._reader.join(PATIENCE)  # a grandchild may hold the pipe open
        for pipe in (process.stdin, process.stdout, process.stderr):
            _closed(pipe)

    def close(self) -> None:
        """Say bye, and end what does not leave by itself."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.write(b'{"cmd":"bye"}\n')
            process.stdin.close()
            process.wait(PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self._kill()


def _check_schema(found: Message) -> None:
    from refoptim.conformance.vectors.store import SchemaError, validate  # noqa: PLC0415  only who asks pays for it

    try:
        validate(found, "protocol_v1.json#/$defs/answer", "the answer")
    except SchemaError as error:
        raise ProtocolError("not of its schema", str(error)) from None


def _closed(pipe: Any) -> None:
    with suppress(OSError):  # what was not written is not wanted any more
        pipe.close()


def _shown(line: bytes) -> str:
    text = line[:80].decode(errors="replace")
    return repr(text) + ("..." if len(line) > 80 else "")


def hello(transport: Transport, suite: str) -> Message:
    """Return who answers.

    Raises:
        ProtocolError: it does not say so, or speaks another version of the protocol.

    """
    found = transport.ask({"cmd": "hello", "protocol": PROTOCOL, "suite": suite})
    if found.get("errored"):
        error = found.get("error", {})
        raise ProtocolError("hello", f"it failed: {error.get('kind')}: {error.get('message')}")
    if found.get("ok") is not True or not isinstance(found.get("implementation"), dict):
        raise ProtocolError("hello", f"it does not say who it is: {_shown(json.dumps(found).encode())}")
    if found.get("protocol") != PROTOCOL:
        raise ProtocolError("hello", f"it speaks protocol {found.get('protocol')!r}, this is {PROTOCOL}")
    return found
