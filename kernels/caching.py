"""Compiled kernels on disk: found again by the next process, unless a file they are made of has changed.

Numba's own cache looks at a function's file alone, not at the files that it imports, numbers its entries in an index
that two processes can overwrite each other's part of, and raises where nothing can be read or written. Here every entry
is a file, whose name is a hash of all that it depends on. Where the files lie is Numba's choice: ``NUMBA_CACHE_DIR``,
else ``__pycache__`` beside the kernels, else the user's own cache folder.
"""

import os
import pickle
import re
import uuid
from functools import cache
from hashlib import sha256
from pathlib import Path
from pkgutil import get_data, iter_modules
from types import FunctionType
from typing import Any, NamedTuple
from warnings import warn

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
    ZipCacheLocator,
)
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from refoptim.kernels import forks
from refoptim.kernels.interrupts import whole

forks.guard()
_PACKAGE = __name__.rpartition(".")[0]


class Use(NamedTuple):
    """A kernel that this process has needed, for one type of its arguments."""

    kernel: str
    file: Path | None  # None if it was not kept
    was_there: bool


# In the order in which they were needed.
uses: list[Use] = []


def cached(dispatcher: Any) -> Any:
    """Keep what Numba compiles for this function on disk, and return it. Ctrl-C waits while it is compiled."""
    dispatcher._cache = KernelCache(dispatcher.py_func)
    dispatcher.compile = whole(dispatcher.compile)
    return dispatcher


@cache
def parts(stem: str) -> dict[str, bytes]:
    """Return the sources that a kernel's code is made of, by stem: its file and those of ours that it imports."""
    found: dict[str, bytes] = {}
    names = {stem}
    while names:
        name = min(names)
        found[name] = get_data(_PACKAGE, f"{name}.py") or b""
        # Imports that wait until they are needed name the module in quotes.
        lines = re.findall(rf'^from {_PACKAGE}\b(.*)|"{_PACKAGE}\.(\w+)"', found[name].decode(), re.MULTILINE)
        names |= _stems() & set(re.findall(r"\w+", " ".join(map(" ".join, lines))))
        names -= found.keys()
    return dict(sorted(found.items()))


@cache
def _stems() -> set[str]:
    return {info.name for info in iter_modules([str(Path(__file__).parent)])}


class _HomeLocator(UserWideCacheLocator):
    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        # For a user without a home Numba makes a folder that is called "~".
        home = AppDirs("numba", appauthor=False).user_cache_dir
        return super().from_function(py_func, py_file) if Path(home).is_absolute() else None


class _Place(CompileResultCacheImpl):
    _locator_classes = [UserProvidedCacheLocator, InTreeCacheLocator, _HomeLocator, ZipCacheLocator]  # noqa: RUF012


class KernelCache(FunctionCache):
    """The compiled code of one function, a file for each signature. What goes wrong with files is no error."""

    def __init__(self, function: FunctionType) -> None:
        self._name, self._py_func = f"{function.__module__.rpartition('.')[2]}.{function.__name__}", function
        self._impl: Any = None
        self._cache_path: str | None = None
        self.enable()
        stem = function.__module__.removeprefix(f"{_PACKAGE}.")
        try:
            self._impl = _Place(function)
            self._cache_path = self._impl.locator.get_cache_path()
            sources = parts(stem) if stem in _stems() else self._impl.locator.get_source_stamp()
            self._stamp = _digest(repr((numba.__version__, sources)).encode()).hex()
        except (RuntimeError, OSError) as error:  # there is no such folder, or no source
            self._why = error
            self._impl = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return compiled code that was saved for this signature, or None."""
        # To load compiled code Numba's runtime is enough. What refreshing the context brings, which is everything that
        # Numba can compile, and SciPy, takes longer than all else; whoever compiles does it himself.
        rtsys.initialize(target_context)
        if self._impl is None or not self._enabled:
            return None
        try:
            path = self._file(sig, target_context.codegen())
            content = path.read_bytes()
            if content[:32] != _digest(content[32:]):  # a disk was full, or the power went out
                return None
            found = self._impl.rebuild(target_context, pickle.loads(content[32:]))
        except Exception:  # noqa: BLE001
            # Whatever is wrong with a file, compiling is right.
            return None
        uses.append(Use(self._name, path, was_there=True))
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save compiled code for this signature, in place of what was made of older sources."""
        path = None
        try:
            path = self._save(sig, data)
        except (OSError, RuntimeError) as error:
            _say_once(f"{type(error).__name__}: {error}")
        uses.append(Use(self._name, path, was_there=False))

    def _save(self, sig: Any, data: Any) -> Path | None:
        if self._impl is None:
            raise self._why
        if not (self._enabled and self._impl.check_cachable(data)):
            return None
        self._impl.locator.ensure_cache_path()
        content, path = dumps(self._impl.reduce(data)), self._file(sig, data.codegen)
        _write(path, _digest(content) + content)
        for other in self._files():
            if self._stamp[:16] not in other.name:
                other.unlink(missing_ok=True)
        return path

    def flush(self) -> None:
        """Forget what was saved."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [] if self._impl is None else list(Path(self._impl.locator.get_cache_path()).glob(self._name_of("*")))

    def _file(self, sig: Any, codegen: Any) -> Path:
        key = _digest(repr(self._index_key(sig, codegen)).encode()).hex()
        return Path(self._impl.locator.get_cache_path(), self._name_of(f"{self._stamp[:16]}-{key[:16]}"))

    def _name_of(self, entry: str) -> str:
        return f"{self._impl.filename_base}.{entry}.nbc"


def _digest(content: bytes) -> bytes:
    return sha256(content).digest()


def _write(path: Path, content: bytes) -> None:
    # Nobody sees half a file: it gets its name when it is whole.
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
    try:
        draft.write_bytes(content)
        os.replace(draft, path)  # noqa: PTH105
    except OSError:
        draft.unlink(missing_ok=True)
        raise


@cache
def _say_once(why: str) -> None:
    warn(
        f"compiled kernels are not kept for the next process ({why}): "
        "set NUMBA_CACHE_DIR to a folder that can be written to",
        RuntimeWarning,
        stacklevel=2,
    )
