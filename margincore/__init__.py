"""Dynamic margin core for crypto derivatives."""

from margincore.contracts import Contracts, Future, Option, Perpetual, Spot
from margincore.errors import MarginError
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
    "days",
    "utc",
    "years",
]
