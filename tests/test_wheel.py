"""The wheel: what ``pip install refoptim`` puts on a machine is the package, all of it, and nothing beside it."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Which folder each package's name stands for; everything else under refoptim/ lies where its name says.
MAPPED = {"refoptim.kernels": ROOT / "kernels", "refoptim.conformance": ROOT / "conformance"}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def folder_of(package):
    """Return the folder of a package."""
    for name, folder in MAPPED.items():
        if package == name or package.startswith(f"{name}."):
            return folder.joinpath(*package.removeprefix(name).split("."))
    return ROOT.joinpath(*package.split("."))


def packages_on_disk():
    """Return the packages that the folders with Python files make."""
    found = set()
    for package, folder in {"refoptim": ROOT / "refoptim", **MAPPED}.items():
        for path in folder.rglob("*.py"):
            found.add(".".join([package, *path.relative_to(folder).parent.parts]))
    return found


def test_the_list_of_packages_is_what_lies_on_disk():
    listed = project()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_on_disk())
    assert all((folder_of(package) / "__init__.py").is_file() for package in listed)


def test_the_mapping_is_what_this_test_takes_it_for():
    mapping = {name: ROOT / folder for name, folder in project()["tool"]["setuptools"]["package-dir"].items()}
    assert mapping == {"refoptim": ROOT / "refoptim", **MAPPED}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel of a copy of the tree, which has what piles up in a folder that is worked in."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("refoptim", "kernels", "conformance", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("refoptim/__pycache__/x.cpython-311.pyc", "kernels/__pycache__/adam.adam_cpu-1.py311.nbi", "out.png"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"")
    target = tmp_path_factory.mktemp("wheel")
    # The backend itself, in a process of its own: no network, no frontend.
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, target], cwd=copy, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    [path] = target.glob("*.whl")
    return path


def test_the_wheel_is_for_every_machine(wheel):
    assert wheel.name == f"refoptim-{project()['project']['version']}-py3-none-any.whl"


def test_the_wheel_has_one_top_level(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"refoptim"}


def test_the_wheel_has_every_file_and_no_other(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    want = {"refoptim/py.typed"}
    for package in packages_on_disk():
        folder = package.replace(".", "/")
        want |= {f"{folder}/{path.name}" for path in folder_of(package).glob("*.py")}
    assert {name for name in names if name.endswith(".py") or name == "refoptim/py.typed"} == want
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".nbi", ".nbc", ".png"))]
    # What is not code must be listed as the package's data, which belongs to it: frozen vectors, say.
    data = names - want
    listed = project()["tool"]["setuptools"]["package-data"]
    for name in data:
        package = name.rpartition("/")[0]
        patterns = [
            pattern for key, some in listed.items() if package.replace("/", ".").startswith(key) for pattern in some
        ]
        assert any(Path(name).match(pattern) for pattern in patterns), name


def test_the_wheel_works_without_the_tree(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import refoptim, refoptim.kernels.adam, refoptim.conformance as c; print(refoptim.__file__, c.__file__)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [Path(path).is_relative_to(tmp_path) for path in run.stdout.split()] == [True, True]
