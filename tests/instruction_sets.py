"""What a test module's `digest` is on another instruction set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


def digest_at(level: str, module: str) -> str:
    """The digest of `module` in an interpreter of that level; the test is skipped where the level is not available."""
    done = subprocess.run([sys.executable, "-c", f"import {module}; print({module}.digest())"], capture_output=True,
                          text=True, env={**os.environ, "MARGINCORE_LEVEL": level,
                                          "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)])})
    if "this processor" in done.stderr or "that was built" in done.stderr:
        pytest.skip(f"level {level} is not available here")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
