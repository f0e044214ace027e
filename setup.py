"""Compile src/<name>.pyx into margincore.kernels.<name>; all metadata is in pyproject.toml.

The vector kernels are compiled once more per wider instruction set from the same generated C, into
margincore/kernels/v3 and v4.  margincore.kernels puts the folder that fits the processor in front of its own
search path, so that a wider kernel *is* margincore.kernels.<name>: same name, same types, same bits.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent


def switched_on(name):
    return os.environ.get(f"MARGINCORE_{name}", "0") == "1"


DEBUG = switched_on("DEBUG")        # bounds checks, -O0 -g3
TRACE = switched_on("TRACE")        # line tracing for coverage
SANITIZE = switched_on("SANITIZE")  # address + undefined behaviour
NATIVE = switched_on("NATIVE")      # -march=native, never for wheels
BASELINE_ONLY = switched_on("BASELINE_ONLY")  # quick builds: no wider instruction sets

# The only place where directives are set: a directive written in a .pyx header
# silently wins over this table and would disarm the debug build.
DIRECTIVES = {
    "language_level": "3",
    "binding": False,               # plain functions of C: a call takes 8 ns less
    "embedsignature": True,
    "embedsignature.format": "clinic",  # read by inspect.signature, not part of the docstring
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "nonecheck": False,             # arguments are declared "not None"; the check forbids self.x without the lock
    "cdivision": True,
    "cpow": True,
    "freethreading_compatible": True,
    "linetrace": TRACE,
}
MACROS = [("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")]
if TRACE:
    MACROS += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]

if sys.platform == "win32":
    CFLAGS, LFLAGS = (["/Od", "/Zi"] if DEBUG else ["/O2"]), []
else:
    CFLAGS = ["-O0", "-g3"] if DEBUG else ["-O3", "-g0"]
    CFLAGS += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"]
    CFLAGS += ["-fwrapv"]  # as Python itself is compiled; CFLAGS of the environment would replace it
    # Inlining drops `restrict`; with twenty arrays gcc would then give up vectorising instead of checking overlaps.
    CFLAGS += ["--param=vect-max-version-for-alias-checks=200"]
    LFLAGS = []
if SANITIZE:
    CFLAGS += ["-O1", "-g1", "-fno-omit-frame-pointer"]  # lines for the reports, not every variable
    CFLAGS += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    LFLAGS += ["-fsanitize=address,undefined"]

# Loops that gain from wider vectors.  The others are compiled once.
VECTOR_KERNELS = {
    "formula", "implied", "likelihood", "maximise", "variance", "surface", "scenario", "realised",
    "profile", "reval", "risk", "shortfall", "stage", "margin", "hot", "simulate",
}
LEVELS = {"": [], "v3": [], "v4": []}
if platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32":
    LEVELS = {
        "": ["-march=native"] if NATIVE else ["-march=x86-64-v2", "-mtune=generic"],
        "v3": ["-march=x86-64-v3", "-mtune=generic"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }
    WIDER = [] if DEBUG or TRACE or SANITIZE or NATIVE or BASELINE_ONLY else ["v3", "v4"]
else:
    WIDER = []


def is_gcc():
    """Whether the C compiler is GCC: others refuse some of its options."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    try:
        told = subprocess.run([*shlex.split(compiler), "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return "Free Software Foundation" in told


# Kernels whose options wait for one long chain of operations: scheduled before registers are given out, a twentieth
# less time (the other kernels gain nothing by it).
OWN_FLAGS = {"implied": ["-fschedule-insns"]} if sys.platform != "win32" and not DEBUG and is_gcc() else {}


def own_headers(kernel):
    """Headers of src/ that a kernel names itself: a change of one rebuilds no other kernel."""
    named = re.findall(r'extern from "(\w+\.h)"', kernel.read_text()) if kernel.exists() else []
    return sorted({f"src/{name}" for name in named if (ROOT / "src" / name).exists()})


def extension(name, source, level=""):
    package = "margincore.kernels" + (f".{level}" if level else "")
    return Extension(
        f"{package}.{name}",
        [str(source)],
        include_dirs=[np.get_include(), "margincore/include", "src"],
        depends=["margincore/include/margincore.h", "src/vmath.h", *own_headers(ROOT / "src" / f"{name}.pyx")],
        define_macros=MACROS,
        extra_compile_args=CFLAGS + LEVELS[level] + OWN_FLAGS.get(name, []),
        extra_link_args=LFLAGS,
    )


def forget_stale(source):
    """Drop generated C older than the kernel's own .pxd: cythonize only looks for it beside the .pyx."""
    contract = ROOT / "margincore/kernels" / f"{source.stem}.pxd"
    generated = ROOT / "build/cython/src" / f"{source.stem}.c"
    if generated.exists() and contract.exists() and generated.stat().st_mtime < contract.stat().st_mtime:
        generated.unlink()


def copy_for_level(source, level):
    """Copy generated C for one level: the object's path follows the source's, and levels compile side by side."""
    copy = ROOT / "build/cython" / level / Path(source).name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, copy)
    return copy.relative_to(ROOT)


sources = sorted((ROOT / "src").glob("*.pyx"))
for source in sources:
    forget_stale(source)
kernels = [extension(path.stem, path.relative_to(ROOT)) for path in sources]
shared = extension("_cyutility", "margincore/kernels/_cyutility.c")

modules = cythonize(
    [*kernels, shared],
    shared_utility_qualified_name="margincore.kernels._cyutility",
    include_path=["."],
    build_dir=None if TRACE else "build/cython",
    compiler_directives=DIRECTIVES,
    annotate=switched_on("ANNOTATE"),
    force=DEBUG or TRACE or SANITIZE,
)
generated = {module.name.rpartition(".")[2]: module.sources[0] for module in modules}
for level in ("v3", "v4"):
    folder = ROOT / "margincore/kernels" / level
    if level in WIDER:
        folder.mkdir(exist_ok=True)  # setuptools copies in-place builds into folders, but does not make them
    for stale in folder.glob("*.so") if level not in WIDER else ():
        stale.unlink()  # what an older build left would be preferred to the baseline of this one
modules += [
    extension(path.stem, copy_for_level(generated[path.stem], level), level)
    for level in WIDER
    for path in sources
    if path.stem in VECTOR_KERNELS
]
setup(ext_modules=modules, options={"build_ext": {"parallel": os.cpu_count()}})
