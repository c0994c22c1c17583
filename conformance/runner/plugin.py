"""The pytest plugin: one test per vector, in anybody's test suite. Without its options it does nothing.

``pytest --refoptim-adapter=my.module:Adapter`` or ``pytest --refoptim-program="./my-program --its-flags"``.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refoptim.conformance.runner.options import FILTER, TIMEOUT, seconds


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("refoptim", "conformance vectors of optimizers")
    group.addoption("--refoptim-adapter", metavar="NAME", help="an adapter's name, or my.module:Class")
    group.addoption("--refoptim-program", metavar="COMMAND", help="a program that speaks the protocol, with its flags")
    group.addoption("--refoptim-filter", default="", metavar="TEXT", help=FILTER)
    group.addoption("--refoptim-skips", type=Path, metavar="FILE", help="a skip file (TOML)")
    group.addoption(
        "--refoptim-min-grade", default="B", choices=("A", "B", "C"), help="the grade asked for (default: B)"
    )
    group.addoption(
        "--refoptim-timeout",
        type=seconds,
        metavar="S",
        help=f"seconds for an answer of the program (default: {TIMEOUT:g})",
    )
    parser.addini("refoptim_adapter", "an adapter's name, or my.module:Class")
    parser.addini("refoptim_program", "a program that speaks the protocol, with its flags")


def _asked(config: pytest.Config) -> tuple[str, str]:
    adapter = config.getoption("--refoptim-adapter") or config.getini("refoptim_adapter")
    program = config.getoption("--refoptim-program") or config.getini("refoptim_program")
    if adapter and program:
        raise pytest.UsageError("--refoptim-adapter and --refoptim-program are two implementations: give one")
    if adapter and config.getoption("--refoptim-timeout") is not None:
        raise pytest.UsageError("--refoptim-timeout is for programs: an adapter is asked in this process")
    return adapter, program


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test per vector, before pytest selects by ``-k``, ``-m`` or ``--lf``."""
    adapter, program = _asked(config)
    if not adapter and not program:
        return
    try:
        suite = Suite.from_parent(session, name="refoptim", nodeid="refoptim", adapter=adapter, program=program)
        found = list(suite.collect())
    except ModuleNotFoundError as error:
        if error.name not in ("flint", "jsonschema", "tqdm"):
            raise
        raise pytest.UsageError(f"refoptim's vectors need {error.name}: pip install 'refoptim[conformance]'") from error
    if not found:
        raise pytest.UsageError(f"--refoptim-filter {config.getoption('--refoptim-filter')!r} matches no vector")
    items.extend(found)


class Suite(pytest.Collector):
    """All vectors, put to one implementation."""

    def __init__(self, *, adapter: str, program: str, **more: Any) -> None:
        super().__init__(**more)
        self._adapter, self._program = adapter, program
        self._asker: Any = None  # or the exception that there was instead
        self._skips: list[Any] = []
        self._trust: Any = None

    def collect(self) -> "Iterator[VectorItem]":
        """Yield a test per vector."""
        from refoptim.conformance.runner import skips  # noqa: PLC0415  only who asks for it pays for it
        from refoptim.conformance.vectors import store  # noqa: PLC0415

        config = self.config
        try:
            everything = store.load()
            file = config.getoption("--refoptim-skips")
            self._skips = skips.read(file) if file else []
            skips.check_ids(self._skips, everything)
        except (store.StoreError, skips.SkipFileError, OSError) as error:
            raise pytest.UsageError(str(error)) from error
        pattern = str(config.getoption("--refoptim-filter"))
        for vector in everything:
            if store.matches(vector.id, pattern):
                yield VectorItem.from_parent(self, name=vector.id, vector=vector)

    def result(self, vector: Any) -> Any:
        """Return what becomes of a vector. The connection is made for the first one; if it cannot be, for none."""
        asker = self._asker = self._asker or self._connected()
        if isinstance(asker, Exception):
            pytest.fail(f"{type(asker).__name__}: {asker}", pytrace=False)
        result = asker.result(vector)[0]
        if self._trust.is_lost(result):
            from refoptim.conformance.runner.transport import ProtocolError  # noqa: PLC0415

            self._asker = ProtocolError("not asked", "it broke the protocol too often")
        return result

    def _connected(self) -> Any:
        from refoptim.conformance import adapters  # noqa: PLC0415
        from refoptim.conformance.runner import check, hello, transport  # noqa: PLC0415
        from refoptim.conformance.runner.outcome import Grade  # noqa: PLC0415
        from refoptim.conformance.vectors import vector  # noqa: PLC0415

        self._trust = check.Trust()
        timeout = self.config.getoption("--refoptim-timeout") or TIMEOUT
        try:
            way = transport.Process(shlex.split(self._program), timeout) if self._program else None
            way = way or transport.InProcess(adapters.make(self._adapter))
            self.config.add_cleanup(way.close)
            least = Grade(self.config.getoption("--refoptim-min-grade"))
            return check.Asker(way, hello.hello(way, vector.SUITE), least=least)
        except Exception as error:  # noqa: BLE001  an adapter may raise anything
            return error

    def skip_of(self, identifier: str) -> Any:
        """Return why a vector is skipped, if it is."""
        from refoptim.conformance.runner import skips  # noqa: PLC0415

        return skips.skip_of(identifier, self._skips)


class VectorItem(pytest.Item):
    """One vector."""

    def __init__(self, *, vector: Any, **more: Any) -> None:
        super().__init__(**more)
        self.vector = vector
        self._result: Any = None

    def setup(self) -> None:
        """Put it to the implementation; what goes wrong here is an error of the test and no failure."""
        from refoptim.conformance.runner.outcome import Status  # noqa: PLC0415

        assert isinstance(self.parent, Suite)
        if skip := self.parent.skip_of(self.vector.id):
            pytest.skip(str(skip))
        self._result = result = self.parent.result(self.vector)
        if result.status in (Status.UNSUPPORTED, Status.SKIPPED):
            pytest.skip(f"{result.status}: {result.message}")
        if result.status in (Status.PROTOCOL, Status.ERRORED):
            pytest.fail(f"{result.status}: {result.message}", pytrace=False)

    def runtest(self) -> None:
        """Judge the answer."""
        from refoptim.conformance.runner.outcome import Status  # noqa: PLC0415

        result = self._result
        figures = {"grade": result.grade, "sulp": result.sulp, "budget": result.budget}
        self.user_properties += [(name, str(figure)) for name, figure in figures.items() if figure is not None]
        if result.status is not Status.CONFORMS:
            divergence = str(result.divergence or "")
            parts = (result.status, result.message, divergence, result.dialect, self.vector.comment)
            pytest.fail("\n".join(filter(None, parts)), pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where it is."""
        return self.path, None, f"refoptim: {self.vector.id}"
