"""Compiled kernels; importing this package chooses the instruction set, once.

Each wider build lies in a folder of its own (`v3`, `v4`: the x86-64 micro-architecture levels) under the same module
name, so the folder that fits the processor is put in front of this package's search path.  Results are the same bits
at every level; `MARGINCORE_LEVEL=baseline|v3|v4` forces one.
"""

import os
from pathlib import Path

from margincore.kernels import processor

LEVELS = ("baseline", "v3", "v4")


def _choose() -> str:
    forced = os.environ.get("MARGINCORE_LEVEL", "")
    if forced and forced not in LEVELS:
        raise ImportError(f"MARGINCORE_LEVEL must be one of {', '.join(LEVELS)}, was {forced!r}")
    supported = LEVELS[processor.level()]
    chosen = forced or supported
    if LEVELS.index(chosen) > LEVELS.index(supported):
        raise ImportError(f"MARGINCORE_LEVEL must be supported by this processor (up to {supported}), was {forced!r}")
    while chosen != "baseline" and not any((Path(__path__[0]) / chosen).glob("formula.*")):
        if forced:
            raise ImportError(f"MARGINCORE_LEVEL must name a level that was built, was {forced!r}")
        chosen = LEVELS[LEVELS.index(chosen) - 1]
    if chosen != "baseline":
        __path__.insert(0, str(Path(__path__[0]) / chosen))
    return chosen


level = _choose()
