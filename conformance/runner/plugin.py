"""The pytest plugin: one test per vector, in anybody's test suite. Without its options it does nothing.

``pytest --refoptim-adapter=my.module:Adapter`` or ``pytest --refoptim-program="./my-program --its-flags"``.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("refoptim", "conformance vectors of optimizers")
    group.addoption("--refoptim-adapter", metavar="NAME", help="an adapter's name, or my.module:Class")
    group.addoption("--refoptim-program", metavar="COMMAND", help="a program that speaks the protocol, with its flags")
    group.addoption(
        "--refoptim-filter", default="", metavar="TEXT", help="only vectors whose id contains or matches this"
    )
    group.addoption("--refoptim-skips", type=Path, metavar="FILE", help="a skip file (TOML)")
    group.addoption(
        "--refoptim-min-grade", default="B", choices=("A", "B", "C"), help="the grade asked for (default: B)"
    )
    parser.addini("refoptim_adapter", "an adapter's name, or my.module:Class")
    parser.addini("refoptim_program", "a program that speaks the protocol, with its flags")


def _asked(config: pytest.Config) -> tuple[str, str]:
    adapter = config.getoption("--refoptim-adapter") or config.getini("refoptim_adapter")
    program = config.getoption("--refoptim-program") or config.getini("refoptim_program")
    if adapter and program:
        raise pytest.UsageError("--refoptim-adapter and --refoptim-program are two implementations: give one")
    return adapter, program


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test per vector."""
    adapter, program = _asked(config)
    if not adapter and not program:
        return
    try:
        suite = Suite.from_parent(session, name="refoptim", adapter=adapter, program=program)
        found = list(suite.collect())
    except ModuleNotFoundError as error:
        if error.name not in ("flint", "jsonschema", "tqdm"):
            raise
        raise pytest.UsageError(f"refoptim's vectors need {error.name}: pip install 'refoptim[conformance]'") from error
    if not found:
        raise pytest.UsageError(f"--refoptim-filter {config.getoption('--refoptim-filter')!r} matches no vector")
    selected = _selected(found, config)
    items.extend(selected)
    if len(selected) < len(found):
        config.hook.pytest_deselected(items=[item for item in found if item not in selected])


def _selected(found: "list[VectorItem]", config: pytest.Config) -> "list[VectorItem]":
    """Return the tests that ``-k`` wants: these are added after pytest has looked for itself."""
    wanted = config.getoption("keyword", "")
    if not wanted:
        return found
    from _pytest.mark import KeywordMatcher  # noqa: PLC0415
    from _pytest.mark.expression import Expression  # noqa: PLC0415

    expression = Expression.compile(wanted)
    return [item for item in found if expression.evaluate(KeywordMatcher.from_item(item))]


class Suite(pytest.Collector):
    """All vectors, put to one implementation."""

    def __init__(self, *, adapter: str, program: str, **more: Any) -> None:
        super().__init__(**more)
        self._adapter, self._program = adapter, program
        self._asker: Any = None
        self._skips: list[Any] = []

    def collect(self) -> "Iterator[VectorItem]":
        """Yield a test per vector."""
        from refoptim.conformance.runner import skips  # noqa: PLC0415  only who asks for it pays for it
        from refoptim.conformance.vectors import store  # noqa: PLC0415

        config = self.config
        try:
            vectors = store.load(pattern=str(config.getoption("--refoptim-filter")))
            file = config.getoption("--refoptim-skips")
            self._skips = skips.read(file) if file else []
        except (store.StoreError, skips.SkipFileError, OSError) as error:
            raise pytest.UsageError(str(error)) from error
        for vector in vectors:
            yield VectorItem.from_parent(self, name=vector.id, vector=vector)

    def asker(self) -> Any:
        """Return the connection, which is made for the first test that needs it."""
        if self._asker is None:
            from refoptim.conformance import adapters  # noqa: PLC0415
            from refoptim.conformance.runner import check, hello, transport  # noqa: PLC0415
            from refoptim.conformance.runner.outcome import Grade  # noqa: PLC0415

            way = transport.Process(shlex.split(self._program)) if self._program else None
            way = way or transport.InProcess(adapters.make(self._adapter))
            self.session.config.add_cleanup(way.close)
            least = Grade(self.config.getoption("--refoptim-min-grade"))
            self._asker = check.Asker(way, hello.hello(way, check.SUITE), least=least)
        return self._asker

    def skip_of(self, identifier: str) -> Any:
        """Return why a vector is skipped, if it is."""
        from refoptim.conformance.runner import skips  # noqa: PLC0415

        return skips.skip_of(identifier, self._skips)


class NonconformingError(Exception):
    """An implementation's answer to a vector is wrong."""


class VectorItem(pytest.Item):
    """One vector."""

    def __init__(self, *, vector: Any, **more: Any) -> None:
        super().__init__(**more)
        self.vector = vector

    def runtest(self) -> None:
        """Put it to the implementation."""
        from refoptim.conformance.runner.outcome import Status  # noqa: PLC0415

        assert isinstance(self.parent, Suite)
        if skip := self.parent.skip_of(self.vector.id):
            pytest.skip(str(skip))
        result, _ = self.parent.asker().result(self.vector)
        self.user_properties += [
            ("grade", str(result.grade)),
            ("sulp", str(result.sulp)),
            ("budget", str(result.budget)),
        ]
        if result.status in (Status.UNSUPPORTED, Status.SKIPPED):
            pytest.skip(f"{result.status}: {result.message}")
        if result.status is not Status.CONFORMS:
            parts = [
                f"{result.status}",
                result.message,
                str(result.divergence or ""),
                result.dialect,
                self.vector.comment,
            ]
            raise NonconformingError("\n".join(filter(None, parts)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the words without the way to them, which is in this file."""
        if isinstance(excinfo.value, NonconformingError):
            return f"{self.vector.id}\n{excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where it is."""
        return self.path, None, f"refoptim: {self.vector.id}"
