"""The folder of market data and vectors beside the project, where there is one."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1].parent / "shared"


def shared(*parts: str) -> Path:
    """Path of a file of the shared folder; the test is skipped where it is absent."""
    path = FOLDER.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not beside the project")
    return path
