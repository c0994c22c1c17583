"""How an implementation is asked: in this process, or in one of its own by lines of JSON."""

import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import Empty
from threading import Thread
from types import TracebackType
from typing import IO, Any, Protocol, Self

from refoptim.conformance.runner.adapter import Adapter
from refoptim.conformance.runner.answer import Message, answer
from refoptim.conformance.runner.exchange import LONGEST_LINE, Exchange
from refoptim.conformance.runner.options import TIMEOUT

# A process that is told bye has this long to leave, and its threads to notice.
PATIENCE = 2.0
STDERR_LINES = 40
LONGEST_STDERR_LINE = 2**12


class ProtocolError(Exception):
    """An implementation did something else than answer: crash, hang, or say what is no answer."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


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

    def stop(self) -> None:
        """End it without a word."""
        ...


class InProcess:
    """An adapter in this process."""

    def __init__(self, adapter: Adapter, *, validate: bool = False) -> None:
        self._adapter = adapter
        self._validate = validate

    def ask(self, request: Mapping[str, Any]) -> Message:
        """Return the answer to a request.

        Raises:
            ProtocolError: it does not have what its schema asks for, and this is validated.

        """
        found = answer(self._adapter, request)
        if self._validate:
            _check_schemas(request, found)
        return found

    def close(self) -> None:
        """Do nothing: there is nobody to leave."""

    def stop(self) -> None:
        """Do nothing."""

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
        self._exchange: Exchange | None = None
        self._reader: Thread | None = None
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._over = False
        self.restarts = -1

    @property
    def stderr(self) -> str:
        """The last lines that the program, as it was last started, wrote to its standard error."""
        return "\n".join(self._stderr)

    def ask(self, request: Mapping[str, Any]) -> Message:
        """Return the answer to a request.

        Raises:
            ProtocolError: there is none, or it is not one. The program is started again for the next request.
            MissingProgramError: the program cannot be started.

        """
        if self._over:  # another thread has ended it, and would not end it again
            raise _ended()
        try:
            return self._answer(self._process or self._start(), request)
        except ProtocolError as error:
            self._kill()  # after which all of its last words are there
            last = f"; its last words: {self._stderr[-1]}" if self._stderr else ""
            raise ProtocolError(error.kind, f"{error.message}{last}") from error.__cause__
        except BaseException:
            self._kill()
            raise

    def _start(self) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(  # noqa: S603  the user's own
                self._command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as error:
            raise MissingProgramError(f"{self._command[0]}: {error.strerror}") from error
        self._process = process
        if self._over:  # meanwhile, and who ended it found nothing to end
            self._kill()
            raise _ended()
        assert process.stdin is not None
        assert process.stdout is not None
        self.restarts += 1
        self._stderr.clear()
        self._reader = Thread(target=self._drain, args=(process.stderr,), daemon=True)
        self._exchange = Exchange(process.stdin, process.stdout)
        for thread in (self._reader, self._exchange):
            thread.start()
        return process

    def _drain(self, stderr: IO[bytes]) -> None:
        with suppress(ValueError):  # closed before this thread began
            while line := stderr.readline(LONGEST_STDERR_LINE):
                if text := line.decode(errors="replace").strip():
                    self._stderr.append(text)

    def _answer(self, process: "subprocess.Popen[bytes]", request: Mapping[str, Any]) -> Message:
        found = _decoded(self._line(process, json.dumps(request, separators=(",", ":")).encode() + b"\n"))
        if self._validate:
            _check_schemas(request, found)
        if found.get("seq") != request.get("seq"):
            raise ProtocolError("wrong seq", f"it answered {found.get('seq')!r} to {request.get('seq')!r}")
        return found

    def _line(self, process: "subprocess.Popen[bytes]", request: bytes) -> bytes:
        """Return the line that answers a request; it may come in pieces."""
        exchange = self._exchange
        assert exchange is not None
        exchange.requests.put(request)
        try:
            end = exchange.ends.get(timeout=self._timeout)
        except Empty:
            end = "timeout"
        said = b"".join(exchange.pieces)
        if end == "timeout":
            what = f"the line was not complete: {_shown(said)}" if said else "it said nothing"
            raise ProtocolError("timeout", f"in {self._timeout:g} seconds {what}")
        if end == "too long":
            raise ProtocolError(end, f"a line of more than {LONGEST_LINE} bytes")
        if end == "not read":
            raise _gone(process, "input", "before it had read the request")
        if end == "closed":
            raise _gone(process, "output", f"in the middle of the line {_shown(said)}" if said else "without an answer")
        line, _, rest = said.partition(b"\n")
        if rest:
            raise ProtocolError("extra output", f"after its answer it wrote {_shown(rest)}")
        return line

    def _kill(self) -> None:
        """End the program and what it has started: a shell, a package manager, a build tool may stand before it."""
        process, self._process = self._process, None
        if process is None:
            return
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        if self._exchange is not None:
            self._exchange.requests.put(None)
        for thread, pipes in ((self._exchange, (process.stdin, process.stdout)), (self._reader, (process.stderr,))):
            if _has_ended(thread):  # or something that escaped holds the pipe open, and closing it would wait
                for pipe in pipes:
                    _closed(pipe)

    def close(self) -> None:
        """Say bye, and end what does not leave by itself."""
        self._over = True
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

    def stop(self) -> None:
        """End it without a word."""
        self._over = True
        self._kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.stop()


def _ended() -> ProtocolError:
    return ProtocolError("closed", "it was ended")


def _has_ended(thread: Thread | None) -> bool:
    """Wait a little for a thread. An interruption may have come before it was made, or started."""
    if thread is None:
        return True
    with suppress(RuntimeError):
        thread.join(PATIENCE)
    return not thread.is_alive()


def _gone(process: "subprocess.Popen[bytes]", pipe: str, when: str) -> ProtocolError:
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return ProtocolError("closed", f"it closed its {pipe} {when}")
    how = f"was ended by signal {-code}" if code < 0 else f"exited with {code}"
    return ProtocolError("crash", f"it {how} {when}")


def _decoded(line: bytes) -> Message:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON", f"it answered {_shown(line)}") from None
    if not isinstance(found, dict):
        raise ProtocolError("not an object", f"it answered {_shown(line)}")
    return found


def _check_schemas(request: Mapping[str, Any], found: Message) -> None:
    from refoptim.conformance.vectors.store import SchemaError, validate  # noqa: PLC0415  only who asks pays for it

    validate(request, "protocol_v1.json#/$defs/request", "the request")
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
