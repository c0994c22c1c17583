"""``refoptim compile``: kernels compiled before they are needed, such as when an image is built."""

import argparse
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from typing import Any

from refoptim.cli import jobs
from refoptim.cli.first_steps import DTYPES, TOOLS, Work, compile_now, optimizers
from refoptim.cli.refusals import RefusedError


def add(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compile",
        help="compile kernels now, so that no later process has to",
        description="Compile all kernels of these optimizers and keep them where later processes look: in "
        "NUMBA_CACHE_DIR, else beside the package, else in the user's cache folder. What is there already is left as "
        "it is. The exit code is 1 if compiled code cannot be kept.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="Adam, SGD ...; utils (norms and clipping), swa_utils (averages); not needed with --all",
    )
    parser.add_argument("--all", action="store_true", help="all of them, in every dtype and arithmetic not given")
    parser.add_argument(
        "--dtype",
        action="append",
        choices=DTYPES,
        help="of the parameters; complex ones use the kernels of their parts; those of 16 bits have kernels for master "
        "weights and stochastic rounding, too (default: float32; may be repeated)",
    )
    parser.add_argument("--arithmetic", choices=("float64",), help="for optimizers that are built with this option")
    jobs.add(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar, and only the last line")


def run(options: argparse.Namespace) -> int:
    """Compile and say what was compiled, what was there and where it lies."""
    works = _works(options)
    there = made = lost = 0
    files = set()
    with jobs.each(options.jobs) as each:
        for work, uses in _with_progress(works, each(compile_now, works), quiet=options.quiet):
            found = [use.was_there for use in uses]
            there, made = there + sum(found), made + len(found) - sum(found)
            lost += sum(use.file is None for use in uses)
            files.update(use.file for use in uses if use.file)
            if not options.quiet:
                print(f"{work}: {_counted(len(found) - sum(found), sum(found)) if found else 'the same kernels'}")
    size = sum(file.stat().st_size for file in files if file.exists())
    folders = ", ".join(sorted({str(file.parent) for file in files}))
    print(_counted(made, there) + (f": {size / 1e6:.1f} MB in {folders}" if files else ""))
    if lost:
        print(f"refoptim compile: {lost} could not be kept: set NUMBA_CACHE_DIR to another folder", file=sys.stderr)
    return 1 if lost else 0


def _counted(made: int, there: int) -> str:
    # What kernels call is compiled and kept by itself, but is loaded with them, and not counted then.
    return f"{made} compiled, {there} there already" + (", with the parts they are made of" if there else "")


def _works(options: argparse.Namespace) -> list[Work]:
    """Return what to compile."""
    known = [*optimizers(), *TOOLS]
    unknown = [name for name in options.names if name not in known]
    if unknown or bool(options.names) == options.all:
        why = f"there is no {unknown[0]}" if unknown else "give either names or --all"
        raise RefusedError(f"{why}; names are {', '.join(known)}")
    dtypes = options.dtype or (DTYPES if options.all else DTYPES[:1])
    if "bfloat16" in dtypes and find_spec("ml_dtypes") is None:
        if options.dtype:
            raise RefusedError("bfloat16 is a dtype of ml_dtypes, which is not installed: pip install ml_dtypes")
        dtypes = [dtype for dtype in dtypes if dtype != "bfloat16"]
    arithmetics = [None, "float64"] if options.all and not options.arithmetic else [options.arithmetic]
    works = [
        Work(*parts)
        for parts in product(dict.fromkeys(options.names) or known, dict.fromkeys(dtypes), arithmetics)
        # In float64 it is the default, and has the same kernels.
        if parts[1:] != ("float64", "float64") or len(arithmetics) == 1
    ]
    impossible = [work for work in works if not work.is_possible]
    if impossible and options.names:
        raise RefusedError(f"{impossible[0].name} takes no parameters of {impossible[0].dtype}")
    return [work for work in works if work.is_possible]


def _with_progress(works: list[Work], results: Iterator[Any], *, quiet: bool) -> Iterator[tuple[Work, Any]]:
    """Yield each work with its result, and show how far it is where tqdm is installed."""
    pairs = zip(works, results, strict=True)
    if not quiet:
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            pass
        else:
            pairs = iter(tqdm(pairs, total=len(works), unit="optimizer", leave=False))
    yield from pairs
