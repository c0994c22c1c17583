"""Compiled kernels on disk, also where that is hard: a step works, and the next process finds what can be found."""

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core import config
from numba.core.registry import CPUDispatcher

from refoptim import kernels
from refoptim.kernels import caching

ROOT = Path(__file__).parents[1]
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534

STEP = """
import json, sys, warnings
import numpy as np
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    {before}
    import refoptim as optim
    from refoptim import kernels
    param = optim.Parameter(np.ones(3, sys.argv[1]))
    optim.SGD([param], lr=0.5).step(grads=[np.ones(3, sys.argv[1])])
    {after}
stats = kernels.sgd.sgd_cpu.serial.stats
print(json.dumps({{
    "value": float(param.data[0]),
    "hits": sum(stats.cache_hits.values()),
    "misses": sum(stats.cache_misses.values()),
    "place": stats.cache_path,
    "heard": [str(item.message) for item in heard if item.category is RuntimeWarning],
}}))
"""


@pytest.fixture
def reader(room):
    """Return a user who may read what everybody may and write nothing, or None if that is who runs the tests."""
    if not IS_ROOT:
        return None
    command = [sys.executable, "-c", "import numba, numpy"]
    try:
        able = subprocess.run(command, check=False, user=NOBODY, cwd=room, capture_output=True).returncode == 0
    except PermissionError:
        able = False
    if not able:
        pytest.skip("permissions do not bind root, and this Python cannot be run by another user")
    return NOBODY


@pytest.fixture
def room():
    """Return a folder that every user can enter, which pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def package(room):
    """Return a folder with a copy of the package, as pip would lay it out."""
    site = room / "site"
    for source, target in {"refoptim": "refoptim", "kernels": "refoptim/kernels"}.items():
        shutil.copytree(ROOT / source, site / target, ignore=shutil.ignore_patterns("__pycache__"))
    return site


def start(site, *, before="", after="", dtype="float32", user=None, **environment):
    """Start a process that imports refoptim from there and takes a step."""
    # In front of an editable install, whose finder comes last.
    before = f"sys.path.insert(0, {str(site)!r}); {before}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_", "HOME"))}
    return subprocess.Popen(
        [sys.executable, "-c", STEP.format(before=before, after=after), dtype],
        env=kept | environment,
        cwd=site.parent,
        user=user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    printed, error = process.communicate()
    assert process.returncode == 0, error
    found = json.loads(printed)
    assert found["value"] == 0.5
    return found


def step(site, **options):
    """Return what a process says that takes one step, which must be right."""
    return ended(start(site, **options))


def entries(folder):
    return sorted(folder.rglob("*.nbc"))


def test_the_next_process_finds_it_beside_the_kernels(package):
    assert step(package)["misses"] == 1
    again = step(package)
    assert (again["hits"], again["misses"], again["heard"]) == (1, 0, [])
    assert Path(again["place"]) == package / "refoptim/kernels/__pycache__"
    # Another type is another file.
    assert step(package, dtype="float64")["misses"] == 1
    assert len(entries(package)) == 2


def lock(site):
    """Make a tree read-only."""
    for path in [site, *site.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.parametrize("has_home", [True, False], ids=["home", "no-home"])
def test_a_package_that_only_others_may_write_to(package, room, reader, has_home):
    lock(package)
    home = room / "home"
    home.mkdir()
    if IS_ROOT:
        os.chown(home, NOBODY, NOBODY)
    place = {"HOME": str(home)} if has_home else {"HOME": "/dev/null"}
    first, second = (step(package, user=reader, **place) for _ in range(2))
    assert (first["misses"], second["hits"]) == (1, int(has_home))
    assert bool(entries(home)) == has_home
    assert [len(found["heard"]) for found in (first, second)] == ([0, 0] if has_home else [1, 1])
    if not has_home:
        assert "set NUMBA_CACHE_DIR to a folder that can be written to" in first["heard"][0]


def test_a_user_who_is_not_in_the_list_of_users(package, room, reader):
    # Python cannot say where such a user's home is, and Numba would make a folder "~" in the current one.
    lock(package)
    before = "import os; os.path.expanduser = lambda path: path"
    found = step(package, user=reader, before=before)
    assert (found["misses"], len(found["heard"])) == (1, 1)
    assert not (room / "~").exists()


def test_a_package_in_a_zip_file(package, room):
    archive = room / "refoptim.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            file.write(path, path.relative_to(package))
    first, second = (step(archive, HOME=str(room / "home")) for _ in range(2))
    assert (first["misses"], second["hits"], second["heard"]) == (1, 1, [])


def test_a_disk_that_is_full(package):
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX's")
    # Python itself would leave half of a module's bytecode.
    before = (
        "import resource; sys.dont_write_bytecode = True; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))"
    )
    assert resource.RLIMIT_FSIZE >= 0
    found = step(package, before=before)
    assert (found["misses"], len(found["heard"])) == (1, 1)
    assert entries(package) == []
    assert not list((package / "refoptim/kernels/__pycache__").glob("*.nbc*")), "half a file was left"
    assert step(package)["heard"] == []


def doubled(x):
    for i in range(x.size):
        x[i] *= 2


def run(kind=np.float32):
    """Double a number with a function as a new process has it; return how often it was found, and compiled."""
    function = caching.cached(njit(doubled))
    x = np.ones(1, kind)
    function(x)
    assert x[0] == 2
    return sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder that is the cache, with one file in it."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert run() == (0, 1)
    assert run() == (1, 0)
    return tmp_path


DAMAGES = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: content[:-100] + bytes(100),
    "one bit": lambda content: content[:-99] + bytes([content[-99] ^ 1]) + content[-98:],
    "other": lambda _: b"not this" * 100,
    "none": lambda _: sha256(pickle.dumps(None)).digest() + pickle.dumps(None),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_anew(folder, damage):
    [path] = entries(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert run() == (0, 1)
    assert run() == (1, 0)


def test_a_cache_that_is_removed_meanwhile(folder):
    function = caching.cached(njit(doubled))
    shutil.rmtree(folder)
    for kind in (np.float32, np.float64):
        function(np.ones(1, kind))
    assert len(entries(folder)) == 2


def test_a_cache_that_becomes_a_file_meanwhile(folder):
    function = caching.cached(njit(doubled))
    shutil.rmtree(folder)
    folder.write_text("")
    caching._say_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="compiled kernels are not kept for the next process"):
        function(np.ones(1))


def test_flush_forgets(folder):
    caching.cached(njit(doubled)).recompile()
    assert entries(folder) == []


def test_processes_that_compile_at_once(package, room):
    cache = {"NUMBA_CACHE_DIR": str(room / "cache")}
    kinds = ["float32", "float64"]
    for process in [start(package, dtype=dtype, **cache) for dtype in kinds]:
        assert ended(process)["heard"] == []
    assert len(entries(room)) == 2
    assert [step(package, dtype=dtype, **cache)["hits"] for dtype in kinds] == [1, 1]


def test_a_changed_file_is_noticed_and_the_old_code_removed(package):
    step(package)
    [old] = entries(package)
    arithmetic = package / "refoptim/kernels/arithmetic.py"
    arithmetic.write_text(arithmetic.read_text() + "\n")
    assert step(package)["misses"] == 1
    [new] = entries(package)
    assert new != old
    adam = package / "refoptim/kernels/adam.py"
    adam.write_text(adam.read_text() + "\n")
    assert step(package)["hits"] == 1, "SGD is not made of that file"


def test_what_is_compiled_has_a_name_of_its_own():
    """Loaded code finds what it calls by module, name and types: of two with one name it may call the wrong one."""
    for path in sorted(Path(kernels.__file__).parent.glob("*.py")):
        importlib.import_module(f"refoptim.kernels.{path.stem}")
    modules = [module for name, module in sys.modules.items() if name.startswith("refoptim.kernels.")]
    values = [getattr(value, "serial", value) for module in modules for value in vars(module).values()]
    functions = {value.py_func for value in values if isinstance(value, CPUDispatcher)}
    names = [(function.__module__, function.__qualname__) for function in functions]
    assert len(names) > 50
    assert [name for name, count in Counter(names).items() if count > 1] == []
