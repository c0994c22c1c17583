"""``refoptim check``: anybody's optimizers, put to the vectors."""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from refoptim.cli.jobs import positive

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
        "of docs/vectors.md on its standard input and output. Exit codes: 0 it conforms, 1 it does not, 2 it could "
        "not be asked, 3 it crashed or broke the protocol, 4 stale skips under --strict, 5 the vectors or the judge "
        "are damaged.",
    )
    add_implementation(parser)
    parser.add_argument(
        "--filter", default="", metavar="TEXT", help="only ids that contain this, or match it: adam.*.probe.*"
    )
    parser.add_argument("--dtype", default="", choices=("f32", "f64", "c64", "c128"), help="only of this dtype")
    parser.add_argument(
        "--min-grade", default="B", choices=("A", "B", "C"), help="the grade that conforms (default: B)"
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="ask N copies of the program at once")
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
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds for an answer (default: 10)")
    parser.add_argument("--validate", action="store_true", help="check every message against its schema")
    parser.add_argument("program", nargs="*", metavar="PROGRAM", help="after --: a program and its flags")


def connection(options: argparse.Namespace) -> Callable[[], Any]:
    """Return what connects to the implementation that was asked for.

    Raises:
        ValueError, ImportError: there is none, or not this one.

    """
    from refoptim.conformance import adapters
    from refoptim.conformance.runner import transport

    if bool(options.adapter) == bool(options.program):
        raise ValueError("give either --adapter NAME or, after --, a program")
    if options.program:
        return lambda: transport.Process(options.program, options.timeout, validate=options.validate)
    adapter = adapters.make(options.adapter)
    return lambda: transport.InProcess(adapter, validate=options.validate)


def run(options: argparse.Namespace) -> int:
    """Ask, judge and report."""
    try:
        from refoptim.conformance.runner import outcome
        from refoptim.conformance.runner.transport import MissingProgramError, ProtocolError
        from refoptim.conformance.vectors.store import StoreError
    except ModuleNotFoundError as error:
        return missing(error, "check")
    code = outcome.ExitCode
    try:
        return _self_checked(options) if options.self_check else _checked(options)
    except StoreError as error:
        print(f"refoptim check: {error}", file=sys.stderr)
        return code.USAGE if options.vectors else code.SELF_CHECK
    except ProtocolError as error:
        print(f"refoptim check: {error}", file=sys.stderr)
        return code.PROTOCOL
    except (MissingProgramError, ImportError, ValueError, OSError) as error:
        print(f"refoptim check: {error}", file=sys.stderr)
        return code.USAGE
    except KeyboardInterrupt:
        print("refoptim check: interrupted", file=sys.stderr)
        return 130


def missing(error: ModuleNotFoundError, command: str) -> int:
    """Say which library a command needs, if it is one of the extra."""
    if error.name not in ("flint", "tqdm", "jsonschema", "jinja2"):
        raise error
    print(f"refoptim {command} needs {error.name}: pip install 'refoptim[conformance]'", file=sys.stderr)
    return 2


def _self_checked(options: argparse.Namespace) -> int:
    from refoptim.conformance.runner import outcome, self_check

    if options.adapter or options.program:
        raise ValueError("--self-check asks nobody: give no --adapter and no program")
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
        file = getattr(options, name)
        if file is not None and not file.parent.is_dir():
            raise ValueError(f"--{name.replace('_', '-')} {file}: there is no folder {file.parent}")
    connect = connection(options)
    everything = store.load(options.vectors)
    vectors = [v for v in everything if store.matches(v.id, options.filter) and options.dtype in ("", v.dtype)]
    if not vectors:
        raise ValueError(f"--filter {options.filter!r} --dtype {options.dtype!r}: no vector matches")
    skipped = skips.read(options.skips) if options.skips else []
    skips.check_ids(skipped, everything)
    with ExitStack() as stack:
        told = _Listener(options, stack)
        report = check.check(
            vectors,
            connect,
            jobs=options.jobs if options.program else 1,
            least=outcome.Grade(options.min_grade),
            skipped=skipped,
            strict=options.strict,
            quiet=options.quiet or not sys.stderr.isatty(),
            told=told,
            greeted=told.greeted,
        )
        if told.stream is not None:
            told.stream.close(complete=report.complete)
    _write(options, report, told.curves)
    if options.write_skips is not None:
        options.write_skips.write_text(skips.as_toml(report.results), encoding="utf-8")
    text = table.text(report)
    print(text.splitlines()[-1] if options.quiet else text)
    return outcome.exit_code(report)


class _Listener:
    """What is told of every result: the file of lines, and the curves of what went wrong, or nearly so."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self.curves: list[Any] = []
        self.stream: Any = None
        self._file: Path | None = options.json
        self._wanted = options.html is not None or options.json is not None
        self._stack = stack

    def greeted(self, suite: str, implementation: dict[str, Any]) -> None:
        """Begin the file, now that it is known who answers."""
        if self._file is not None:
            from refoptim.conformance.reports.json_lines import Stream

            self.stream = self._stack.enter_context(Stream(self._file, suite, implementation))

    def __call__(self, vector: Any, result: Any, answer: Any) -> None:
        from refoptim.conformance.reports import curves

        if self.stream is not None:
            self.stream.result(result)
        near = bool(result.budget) and result.sulp is not None and result.sulp > result.budget / 2
        if not self._wanted or answer is None or not (result.divergence is not None or near):
            return
        try:
            self.curves.append(curves.curve(vector, answer))
        except Exception:  # noqa: BLE001  a picture less must not end the run
            return
        if self.stream is not None:
            self.stream.curve(self.curves[-1])


def _write(options: argparse.Namespace, report: Any, curves: list[Any]) -> None:
    for name in _WRITERS:
        file = getattr(options, name)
        if file is not None and name != "json":
            writer = import_module(f"refoptim.conformance.reports.{name}")
            more = {"curves": curves} if name == "html" else {}
            writer.write(report, file, **more)
