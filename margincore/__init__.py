"""Dynamic margin core for crypto derivatives."""

from pathlib import Path

from margincore.contracts import Contracts, Future, Option, Perpetual, Spot
from margincore.errors import MarginError
from margincore.surface import VolSurface
from margincore.units import Right, Side, Status, days, utc, years

__version__ = "0.1.0"

__all__ = [
    "Contracts",
    "Future",
    "MarginError",
    "Option",
    "Perpetual",
    "Right",
    "Side",
    "Spot",
    "Status",
    "VolSurface",
    "days",
    "get_include",
    "utc",
    "years",
]


def get_include() -> str:
    """Folder of `margincore.h`, for the include path of a C compiler."""
    return str(Path(__file__).parent / "include")
