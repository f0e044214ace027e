"""Dynamic margin core for crypto derivatives."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from margincore.contracts import Contracts, Future, Option, Perpetual, Spot
from margincore.errors import MarginError
from margincore.units import Right, Side, Status, days, utc, years

if TYPE_CHECKING:
    from margincore.ladder import Ladder
    from margincore.liquidation import bankruptcy_price, liquidation_price, position_prices
    from margincore.market import MarketState
    from margincore.scenarios import Scenarios, VolatilityRange, VolatilityShock, from_moves, grid, sigma_grid
    from margincore.surface import VolSurface

__version__ = "0.1.0"

__all__ = [
    "Contracts",
    "Future",
    "Ladder",
    "MarginError",
    "MarketState",
    "Option",
    "Perpetual",
    "Right",
    "Scenarios",
    "Side",
    "Spot",
    "Status",
    "VolSurface",
    "VolatilityRange",
    "VolatilityShock",
    "bankruptcy_price",
    "days",
    "from_moves",
    "get_include",
    "grid",
    "liquidation_price",
    "position_prices",
    "sigma_grid",
    "utc",
    "years",
]

# Names fetched when first asked for, so that `import margincore` stays within its milliseconds.
_LATE = {
    "Ladder": "margincore.ladder",
    "MarketState": "margincore.market",
    "Scenarios": "margincore.scenarios",
    "VolSurface": "margincore.surface",
    "VolatilityRange": "margincore.scenarios",
    "VolatilityShock": "margincore.scenarios",
    "bankruptcy_price": "margincore.liquidation",
    "from_moves": "margincore.scenarios",
    "grid": "margincore.scenarios",
    "liquidation_price": "margincore.liquidation",
    "position_prices": "margincore.liquidation",
    "sigma_grid": "margincore.scenarios",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'margincore' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def get_include() -> str:
    """Folder of `margincore.h`, for the include path of a C compiler."""
    return str(Path(__file__).parent / "include")
