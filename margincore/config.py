"""What was built, and what runs: for bug reports and for whoever wonders which instruction set serves."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from margincore import kernels
from margincore.kernels import processor

Config = dict[str, dict[str, str]]


def _release(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def show_config(mode: str = "stdout") -> Config | None:
    """Print, or with ``mode="dicts"`` return, version, build and machine.

    Parameters
    ----------
    mode : {"stdout", "dicts"}

    Returns
    -------
    dict of dict of str, or None when printed
        Sections `margincore`, `kernels` (level in use, levels built, widest the processor supports, compiler) and
        `python`.
    """
    folder = Path(kernels.__file__).parent
    built = [level for level in kernels.LEVELS if level == "baseline" or any((folder / level).glob("formula.*"))]
    config: Config = {
        "margincore": {"version": _release("margincore")},
        "kernels": {"level": kernels.level, "built": ", ".join(built),
                    "supported": kernels.LEVELS[processor.level()], "compiler": processor.compiler()},
        "python": {"python": sys.version.split()[0], "machine": platform.machine(), "system": platform.system(),
                   "numpy": _release("numpy"), "scipy": _release("scipy")},
    }
    if mode == "dicts":
        return config
    if mode != "stdout":
        raise ValueError(f"mode must be 'stdout' or 'dicts', was {mode!r}")
    for section, values in config.items():
        print(section)
        for name, value in values.items():
            print(f"  {name:<12} {value}")
    return None
