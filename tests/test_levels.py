"""Every instruction set that is built here imports, under the same names, and a wrong one is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import margincore.kernels
from margincore.kernels import LEVELS, processor

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path(margincore.kernels.__file__).parent
BUILT = [name for name in LEVELS if name == "baseline" or any((FOLDER / name).glob("formula.*"))]
WIDEST = LEVELS[processor.level()]

SHOW = """
import importlib, pkgutil
import margincore, margincore.kernels as kernels
print(kernels.level)
for module in sorted({m.name for m in pkgutil.iter_modules(kernels.__path__)}):
    loaded = importlib.import_module("margincore.kernels." + module)
    print(loaded.__name__, loaded.__file__)
"""


def start(level: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MARGINCORE_LEVEL": level}
    return subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("level", [name for name in BUILT if LEVELS.index(name) <= processor.level()])
def test_each_level_imports_its_own_files(level):
    done = start(level)
    assert done.returncode == 0, done.stderr
    chosen, *modules = done.stdout.split("\n")[:-1]
    assert chosen == level
    loaded = dict(line.split(" ", 1) for line in modules)
    for other in ("v3", "v4"):
        due = {f"margincore.kernels.{path.name.split('.')[0]}" for path in (FOLDER / other).glob("*.so")}
        wide = {name for name, file in loaded.items() if f"{os.sep}{other}{os.sep}" in file}
        assert wide == (due if other == level else set())


def test_widest_level_is_the_default():
    expected = [name for name in BUILT if LEVELS.index(name) <= LEVELS.index(WIDEST)][-1]
    assert start("").stdout.split("\n")[0] == expected


def test_unknown_level_is_refused():
    done = start("v9")
    assert done.returncode != 0
    assert "MARGINCORE_LEVEL must be one of baseline, v3, v4, was 'v9'" in done.stderr


@pytest.mark.parametrize("level", [name for name in LEVELS if LEVELS.index(name) > processor.level()])
def test_level_beyond_the_processor_is_refused(level):
    assert "must be supported by this processor" in start(level).stderr


@pytest.mark.parametrize("level", [name for name in LEVELS if name not in BUILT])
def test_level_that_was_not_built_is_refused(level):
    assert "MARGINCORE_LEVEL" in start(level).stderr
