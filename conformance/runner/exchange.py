"""Lines to and from a program, in a thread of their own."""

from queue import SimpleQueue
from threading import Thread
from typing import IO

LONGEST_LINE = 64 * 2**20


class Exchange(Thread):
    """Writes requests to a program and reads its answers: both may take for ever, and who waits must not."""

    def __init__(self, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stdin, self._stdout = stdin, stdout
        self.requests = SimpleQueue[bytes | None]()  # None: there will be no more
        self.ends = SimpleQueue[str]()  # of each request: "answered", or what came instead
        self.pieces: list[bytes] = []  # the answer, as far as it has come

    def run(self) -> None:
        """Serve until there are no more requests."""
        while (request := self.requests.get()) is not None:
            self.pieces = []
            self.ends.put(self._end(request))

    def _end(self, request: bytes) -> str:
        try:
            self._stdin.write(request)
            self._stdin.flush()
        except (OSError, ValueError):
            return "not read"
        length = 0
        while b"\n" not in (piece := self._piece()):
            if not piece:
                return "closed"
            length += len(piece)
            if length > LONGEST_LINE:
                return "too long"
        return "answered"

    def _piece(self) -> bytes:
        piece = self._stdout.read1(2**20)  # pyright: ignore[reportAttributeAccessIssue]  Popen's pipes are buffered
        self.pieces.append(piece)
        return piece
