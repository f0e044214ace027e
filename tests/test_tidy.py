"""The house stays tidy: floors, stubs, directives, lengths, and an import that stays light."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "margincore"
KERNELS = sorted((ROOT / "src").glob("*.pyx"))
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))
TWINS = sorted((ROOT / "tests/reference").glob("*.py"))
TEXTS = sorted(
    path for folder in ("src", "margincore", "tests", "benchmarks", ".ci") for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".h", ".c"} and not path.name.startswith("_cyutility")
) + sorted(ROOT.glob("*.md")) + [ROOT / "setup.py", ROOT / "pyproject.toml", ROOT / "Makefile"]

# A kernel may use the kernels of floors below its own, and its own declarations.  Lowest first.
KERNEL_FLOORS = [
    {"types", "processor"},
    {"black", "ledger"},
    {"mills"},
    {"formula"},
    {"variance", "likelihood", "realised", "surface", "arbitrage", "smile", "correlation", "copula", "implied"},
    {"scenario", "simulate", "optimise", "calibrate", "maximise"},
    {"reval", "profile"},
    {"risk"},
    {"lanes", "row"},
    {"shortfall"},
    {"book", "stage"},
    {"quick"},
    {"margin"},
    {"liquidation", "hot"},
    {"watch"},
    {"capi"},
]

# A Python file (a folder under margincore/ stands for the files in it) may use files of its own floor and below, as
# long as no circle arises.  Lowest first.
PYTHON_FLOORS = [
    {"errors", "kernels"},
    {"units", "config"},
    {"contracts", "svi", "columns", "ladder", "shocks"},
    {"io"},
    {"market", "surface", "arbitrage", "calibration", "quotes", "option_chain", "dynamics",
     "surface_report", "surface_plot",
     "scenarios", "measure", "tail", "estimation", "chain",
     "surface_history", "stress_events", "combine", "liquidity_var",
     "history", "panel", "simulation", "laws", "parametric", "tail_fit", "explanation",
     "formulas", "realised", "black", "rates", "example"},
    {"revaluation"},
    {"risk_profile"},
    {"vol", "addon", "collateral", "breaker", "validation"},
    {"margin"},
    {"portfolio", "attribution", "report", "copies", "distance", "events", "snapshot"},
    {"account"},
    {"engine"},
    {"liquidation"},
    {"venue"},
    {"cascade"},
    {"var_report"},
    {"plot", "cli", "demo"},
    {"__init__", "__main__"},
]

BANNED = {
    "unfinished work": r"\b(TODO|FIXME|XXX|HACK)\b",
    "path of one machine": r"(?<![\w.])/(work|root|home|Users)/",
    "conflict marker": r"^(<<<<<<<|>>>>>>>) ",
}


def floor_of(name: str, floors: list[set[str]], where: str) -> int:
    for at, floor in enumerate(floors):
        if name in floor:
            return at
    pytest.fail(f"{name!r} has no floor yet: add it to {where} in tests/test_tidy.py, as low as its imports allow")


def identify(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(path: Path, *, top_only: bool) -> set[str]:
    """Dotted names a file imports, late imports included unless `top_only`; never those for type checkers alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if is_for_types_only(node) or (top_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{identify(path)}: relative import, write the full name"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "margincore" else {module}
        waiting.extend(ast.iter_child_nodes(node))
    return found


def own_part(path: Path) -> str:
    """First name under margincore/ of a file: itself, or the folder it lies in."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_kernels_only_look_down(path):
    own = floor_of(path.stem, KERNEL_FLOORS, "KERNEL_FLOORS")
    sources = path.read_text()
    contract = PACKAGE / "kernels" / f"{path.stem}.pxd"
    if contract.exists():
        sources += contract.read_text()
    names = re.findall(r"^\s*(?:from|cimport|import) margincore\.kernels\.(\w+)", sources, re.M)
    for line in re.findall(r"^\s*from margincore\.kernels c?import (.+)$", sources, re.M):
        names += [part.split(" as ")[0].strip(" ()") for part in line.split(",")]
    for name in set(names) - {path.stem}:
        assert floor_of(name, KERNEL_FLOORS, "KERNEL_FLOORS") < own, f"{path.stem} may not use {name}"


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_kernels_use_no_python_module_but_errors(path):
    for name in re.findall(r"^\s*(?:from|import) margincore((?:\.\w+)*)", path.read_text(), re.M):
        assert name.startswith((".kernels", ".errors")), f"{path.stem} may not use margincore{name}"


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_directives_stay_in_setup(path):
    assert not re.search(r"^#\s*cython:", path.read_text(), re.M), "a header would disarm the debug build"


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_each_kernel_has_its_stub(path):
    assert (PACKAGE / "kernels" / f"{path.stem}.pyi").exists()


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.stem)
def test_kernel_functions_do_not_raise_unseen(path):
    """A nogil function without noexcept takes the lock after every call to look for an exception."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if re.search(r"^\s*(cdef|cpdef)\b.*\)\s*(except .*)?nogil\s*:", line):
            assert "noexcept" in line, f"{path.name}:{number}: noexcept is missing"


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_python_only_looks_down(path):
    own = floor_of(own_part(path), PYTHON_FLOORS, "PYTHON_FLOORS")
    for name in imports(path, top_only=False):
        if name.startswith("margincore."):
            part = name.split(".")[1]
            if part == "__version__" or own_part(path) == part:
                continue
            assert floor_of(part, PYTHON_FLOORS, "PYTHON_FLOORS") <= own, f"{identify(path)} may not use {name}"
        else:
            assert name != "margincore" or own_part(path) in ("plot", "cli", "demo", "__main__"), \
                f"{identify(path)} imports the whole package: import the file that is meant"


def test_python_files_import_in_no_circle():
    names = {dotted(path): imports(path, top_only=False) for path in MODULES}
    uses = {
        name: {target for target in names for found in imported
               if target not in ("margincore", name) and (found == target or found.startswith(target + "."))
               and not name.startswith(target + ".") and not target.startswith(name + ".")}
        for name, imported in names.items()
    }
    while uses:
        free = {name for name, below in uses.items() if not below & uses.keys()}
        assert free, f"a circle of imports among: {', '.join(sorted(uses))}"
        uses = {name: below for name, below in uses.items() if name not in free}


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_only_numpy_is_imported_from_outside_at_the_top(path):
    allowed = sys.stdlib_module_names | {"numpy", "margincore", "__future__"}
    for name in imports(path, top_only=True):
        assert name.split(".")[0] in allowed, f"{identify(path)}: import {name} inside the function that uses it"


@pytest.mark.parametrize("path", TWINS, ids=lambda p: p.stem)
def test_twins_never_use_the_library(path):
    allowed = sys.stdlib_module_names | {"numpy", "mpmath", "__future__", "reference"}
    for name in imports(path, top_only=False):
        assert name.split(".")[0] in allowed, f"{identify(path)} may not use {name}"


@pytest.mark.parametrize("path", TEXTS, ids=identify)
def test_lines_and_words(path):
    text = path.read_text()
    columns = 10_000 if path.suffix in (".md", ".toml") else 140  # the linter holds Python to 120
    for number, line in enumerate(text.splitlines(), 1):
        assert len(line) <= columns, f"{identify(path)}:{number}: {len(line)} columns"
        assert line == line.rstrip(), f"{identify(path)}:{number}: blanks at the end"
    assert not text or text.endswith("\n"), f"{identify(path)}: no newline at the end"
    if path.name != "test_tidy.py":
        for rule, pattern in BANNED.items():
            match = re.search(pattern, text, re.M)
            assert not match, f"{identify(path)}: {rule}: {match.group() if match else ''}"


@pytest.mark.parametrize("path", [*KERNELS, *MODULES], ids=identify)
def test_files_stay_readable(path):
    """About 400 lines for a kernel and 300 for Python read well; at the ceiling a file must be split by subject."""
    most = 700 if path.suffix == ".pyx" else 400
    lines = len(path.read_text().splitlines())
    assert lines <= most, f"{identify(path)} has {lines} lines"


def test_no_public_name_is_the_name_of_a_module():
    """Importing the module would put it in place of the function that is fetched when first asked for."""
    import margincore

    clash = {path.stem for path in PACKAGE.glob("*.py")} & set(margincore.__all__)
    assert not clash, f"rename the modules {', '.join(sorted(clash))}"


def test_package_sources_name_their_licence_once():
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause")


IMPORTS_NOTHING_HEAVY = """
import sys
import numpy
before = set(sys.modules)
import margincore
added = {name.partition(".")[0] for name in set(sys.modules) - before}
print(" ".join(sorted(added - sys.stdlib_module_names - {"margincore", "numpy"})))
"""

TIMES = """
import time
begun = time.process_time()
import numpy
start = time.process_time()
import margincore
print(time.process_time() - start, start - begun)
"""


def run(code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True,
                          text=True).stdout


def test_import_brings_no_third_party_module_but_numpy():
    # Cython's shared run-time tables register names of their own; they are no modules on disk.
    extra = {name for name in run(IMPORTS_NOTHING_HEAVY).split() if not name.startswith(("_cy", "cython_runtime"))}
    assert not extra, f"import margincore also imports {', '.join(sorted(extra))}"


@pytest.mark.skipif("MARGINCORE_EXAMPLES_MAX" in os.environ, reason="a build with checks is not made to be fast")
def test_import_stays_within_its_budget():
    """At most 15 ms of the processor on top of NumPy, or a tenth of NumPy's own where everything is slow; the least
    of several runs, since other work only adds."""
    run(TIMES)  # writes the bytecode caches
    over = float("inf")
    for _ in range(15):
        ours, numpys = map(float, run(TIMES).split())
        over = min(over, ours - max(0.015, 0.1 * numpys))
        if over <= -0.003:
            break
    assert over <= 0.0, f"import margincore took {1000 * over:.1f} ms too long on top of NumPy"
