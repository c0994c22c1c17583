"""``refoptim check``: anybody's optimizers, put to the vectors."""

import argparse
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from refoptim.cli.jobs import positive
from refoptim.cli.refusals import RefusedError, check_file, writing
from refoptim.conformance.runner.options import FILTER, TIMEOUT, seconds

# What writes each report, and the option that asks for it.
_WRITERS = ("json", "junit", "markdown", "html", "badge")


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        usage="refoptim check --adapter NAME [options]\n       refoptim check [options] -- PROGRAM [its flags]\n"
        "       refoptim check --self-check",
        help="put an implementation of optimizers to the conformance vectors",
        description="Put an implementation to the vectors: an adapter in Python, or a program that speaks the protocol "
        "of docs/vectors.md on its standard input and output.",
        epilog="Exit codes: 0 it conforms, 1 it does not, 2 nothing was judged, or a report could not be written, "
        "3 it failed, crashed or broke the protocol, 4 stale skips under --strict, 5 the vectors or the judge are "
        "damaged, 130 Ctrl-C.",
    )
    add_implementation(parser)
    parser.add_argument("--filter", default="", metavar="TEXT", help=FILTER)
    parser.add_argument("--dtype", default="", choices=("f32", "f64", "c64", "c128"), help="only of this dtype")
    parser.add_argument(
        "--min-grade", default="B", choices=("A", "B", "C"), help="the grade that conforms (default: B)"
    )
    parser.add_argument("--jobs", type=positive, metavar="N", help="ask N copies of the program at once")
    parser.add_argument(
        "--skips", type=Path, metavar="FILE", help="what is known to fail: TOML with [[skip]] id, reason"
    )
    parser.add_argument("--write-skips", type=Path, metavar="FILE", help="write what fails today as a skip file")
    parser.add_argument(
        "--strict", action="store_true", help="a skip that is not needed, or whose time is over, is an error"
    )
    parser.add_argument(
        "--self-check", action="store_true", help="ask nobody: show the judge right and wrong answers to every vector"
    )
    parser.add_argument("--vectors", type=Path, metavar="DIR", help="instead of those that come with the package")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and only the last line")
    for name in _WRITERS:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write a report there ({_ABOUT[name]})")


_ABOUT = {
    "json": "lines of JSON, as they come",
    "junit": "XML for continuous integration",
    "markdown": "for a job's summary",
    "html": "one page with curves",
    "badge": "for shields.io",
}


def add_implementation(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say who is asked."""
    parser.add_argument("--adapter", metavar="NAME", help="refoptim, torch, optax, keras ... or my.module:Class")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", help=f"seconds for an answer of the program (default: {TIMEOUT:g})"
    )
    parser.add_argument("--validate", action="store_true", help="check every message against its schema")
    parser.add_argument("program", nargs="*", metavar="PROGRAM", help="after --: a program and its flags")


def connection(options: argparse.Namespace) -> Callable[[], Any]:
    """Return what connects to the implementation that was asked for.

    Raises:
        RefusedError: there is none, or not this one.

    """
    from refoptim.conformance import adapters
    from refoptim.conformance.runner import transport

    if bool(options.adapter) == bool(options.program):
        raise RefusedError("give either --adapter NAME or, after --, a program")
    if options.program:
        return lambda: transport.Process(options.program, options.timeout or TIMEOUT, validate=options.validate)
    for name in ("timeout", "jobs"):
        if getattr(options, name, None) is not None:
            raise RefusedError(f"--{name} is for programs: an adapter is asked in this process, which cannot end it")
    try:
        adapter = adapters.make(options.adapter)
    except (adapters.UnknownAdapterError, adapters.MissingLibraryError) as error:
        raise RefusedError(f"{error}") from error
    return lambda: transport.InProcess(adapter, validate=options.validate)


def run(options: argparse.Namespace) -> int:
    """Ask, judge and report."""
    from refoptim.conformance.runner import outcome
    from refoptim.conformance.runner.skips import SkipFileError
    from refoptim.conformance.runner.transport import MissingProgramError, ProtocolError
    from refoptim.conformance.vectors.store import StoreError

    try:
        return _self_checked(options) if options.self_check else _checked(options)
    except ProtocolError as error:
        why, code = error, outcome.ExitCode.PROTOCOL
    except StoreError as error:
        if options.vectors:
            raise RefusedError(f"--vectors {error}") from error
        why, code = error, outcome.ExitCode.SELF_CHECK
    except (MissingProgramError, SkipFileError) as error:
        raise RefusedError(f"{error}") from error
    print(f"refoptim check: {why}", file=sys.stderr)
    return code


def _self_checked(options: argparse.Namespace) -> int:
    from refoptim.conformance.runner import outcome, self_check

    if options.adapter or options.program:
        raise RefusedError("--self-check asks nobody: give no --adapter and no program")
    code = outcome.ExitCode.CONFORMS
    for name, tried, missed in self_check.self_check():
        print(f"{name:50} {tried:4}  {'ok' if not missed else f'MISSED {len(missed)}: ' + ', '.join(missed[:5])}")
        code = outcome.ExitCode.SELF_CHECK if missed else code
    return code


def _checked(options: argparse.Namespace) -> int:
    from refoptim.conformance.reports import table
    from refoptim.conformance.runner import check, outcome, skips
    from refoptim.conformance.vectors import store

    for name in (*_WRITERS, "write_skips"):
        check_file(_option(name), getattr(options, name))
    connect = connection(options)
    everything = store.load(options.vectors)
    vectors = [v for v in everything if store.matches(v.id, options.filter) and options.dtype in ("", v.dtype)]
    if not vectors:
        raise RefusedError(f"--filter {options.filter!r} --dtype {options.dtype!r}: no vector matches")
    skipped = skips.read(options.skips) if options.skips else []
    skips.check_ids(skipped, everything)
    with _Listener(options) as told:
        report = check.check(
            vectors,
            connect,
            jobs=options.jobs or 1,
            least=outcome.Grade(options.min_grade),
            skipped=skipped,
            strict=options.strict,
            quiet=options.quiet or not sys.stderr.isatty(),
            told=told,
            greeted=told.greeted,
        )
        told.close(complete=report.complete)
    lost = [*told.lost, *_unwritten(options, report, told.curves)]
    text = table.text(report)
    print(text.splitlines()[-1] if options.quiet else text)
    if lost:
        raise RefusedError("; ".join(lost))
    return outcome.exit_code(report)


class _Listener:
    """What is told of every result: the file of lines, and the curves of what went wrong, or nearly so."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.curves: list[Any] = []
        self.lost: list[str] = []  # why the file ends early, if it does
        self._stream: Any = None
        self._file: Path | None = options.json
        self._wanted = options.html is not None or options.json is not None

    def greeted(self, suite: str, implementation: dict[str, Any]) -> None:
        """Begin the file, now that it is known who answers."""
        if self._file is not None:
            from refoptim.conformance.reports.json_lines import Stream

            with writing("--json", self._file):
                self._stream = Stream(self._file, suite, implementation)

    def __call__(self, vector: Any, result: Any, answer: Any) -> None:
        from refoptim.conformance.reports import curves

        self._write(lambda stream: stream.result(result))
        near = bool(result.budget) and result.sulp is not None and result.sulp > result.budget / 2
        if not self._wanted or answer is None or not (result.divergence is not None or near):
            return
        try:
            curve = curves.curve(vector, answer)
        except Exception:  # noqa: BLE001  a picture less must not end the run
            return
        self.curves.append(curve)
        self._write(lambda stream: stream.curve(curve))

    def close(self, *, complete: bool) -> None:
        """End the file as one that is whole."""
        self._write(lambda stream: stream.close(complete=complete))

    def _write(self, write: Callable[[Any], None]) -> None:
        """Write to the file; where that fails, it gets no more, and the run goes on."""
        if self._stream is None or self._file is None or self.lost:
            return
        try:
            with writing("--json", self._file):
                write(self._stream)
        except RefusedError as error:
            self.lost.append(f"{error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.abandon()


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _unwritten(options: argparse.Namespace, report: Any, curves: list[Any]) -> Iterator[str]:
    """Write the reports that come after a run, and yield what is wrong with each that cannot be written."""
    from refoptim.conformance.runner import skips

    def write(name: str, file: Path) -> None:
        if name == "write_skips":
            file.write_text(skips.as_toml(report.results), encoding="utf-8")
            return
        more = {"curves": curves} if name == "html" else {}
        import_module(f"refoptim.conformance.reports.{name}").write(report, file, **more)

    for name in (*_WRITERS, "write_skips"):
        file = getattr(options, name)
        if file is None or name == "json":  # which was written as results came
            continue
        try:
            with writing(_option(name), file):
                write(name, file)
        except RefusedError as error:
            yield f"{error}"
