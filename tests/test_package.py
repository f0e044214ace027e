"""The package as its users get it: version, headers, typing marker, and the wheel's list of files."""

import ast
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import margincore

ROOT = Path(__file__).resolve().parents[1]


def test_version_is_the_same_everywhere():
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert stated is not None
    assert margincore.__version__ == stated.group(1)
    try:
        assert importlib.metadata.version("margincore") == stated.group(1)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("margincore runs from its folder, it is not installed")


def test_public_names_exist_once_and_in_order():
    names = margincore.__all__
    assert len(set(names)) == len(names)
    assert all(hasattr(margincore, name) for name in names)
    assert names == sorted(names)


def test_names_fetched_late_are_public_and_seen_by_type_checkers():
    tree = ast.parse(Path(margincore.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    checked = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(margincore._LATE) == checked
    assert set(margincore._LATE) <= set(margincore.__all__)
    assert not hasattr(margincore, "no_such_name")


def test_no_module_takes_the_place_of_a_public_name():
    # importing margincore.x binds the name x in the package, whatever was to be found there
    modules = {module.name for module in pkgutil.iter_modules(margincore.__path__)}
    assert modules & set(margincore.__all__) <= set(margincore._FOLDERS)


def test_every_public_name_explains_itself():
    silent = [name for name in margincore.__all__ if callable(value := getattr(margincore, name)) and not value.__doc__]
    assert not silent


def test_include_folder_holds_the_header():
    header = Path(margincore.get_include()) / "margincore.h"
    assert "MC_ABI_VERSION" in header.read_text()


def test_typing_marker_is_there():
    assert (Path(margincore.__file__).parent / "py.typed").exists()


@pytest.mark.slow
def test_source_distribution_holds_all_that_builds_and_tests_need(tmp_path):
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools >= 77 to build")
    pytest.importorskip("Cython", reason="needs Cython to build")
    build = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", str(tmp_path), "sdist",
             "--formats", "tar", "--dist-dir", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = tmp_path.glob("*.tar")
    with tarfile.open(path) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    due = {name.relative_to(ROOT).as_posix() for folder in ("src", "tests", "benchmarks", "examples", ".ci")
           for name in (ROOT / folder).rglob("*") if name.is_file() and "cache" not in name.as_posix()}
    due |= {name.relative_to(ROOT).as_posix() for name in (ROOT / "margincore").rglob("*")
            if name.suffix in (".py", ".pyi", ".pxd", ".h", ".typed")}
    missing = {name for name in due if not name.endswith((".so", ".pyc")) and not (
        name.startswith("src/") and name.endswith((".c", ".html")))} - found
    assert not missing
