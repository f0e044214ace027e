"""The market as the kernels read it: one read-only array per property of a column, NaN where nothing is known."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from margincore.units import Floats

if TYPE_CHECKING:
    from collections.abc import Sequence

# Why a column or an underlying is not known; index into FAULTS.
KNOWN, MISSING, STALE, CROSSED, EXPIRED = range(5)
FAULTS = ("known", "missing", "stale", "crossed", "expired")


class Smile(Protocol):
    """What a volatility surface must offer: annual volatilities at strikes and expiries."""

    def vol(self, strikes: Floats, expiries_ns: npt.NDArray[np.int64]) -> Floats: ...


@dataclass(frozen=True, slots=True, eq=False)
class MarketColumns:
    """One observation of the market, resolved to the columns of a `Contracts`.

    Attributes
    ----------
    now_ns : int
        Time of the observation, nanoseconds since 1970 UTC.
    spot : float64 array, shape (underlyings,)
        Price of each underlying and asset in the account's base currency; NaN where missing, stale or crossed.
    mark : float64 array, shape (columns,)
        Cash 1; linear contracts in the settlement asset, inverse futures in quote currency, inverse options in coin.
        NaN where the column's own mark, its underlying's spot or its settlement asset's spot is not known, and
        after an expiry that was not settled.
    forward : float64 array, shape (columns,)
        Quote currency.  Options: forward of their expiry; perpetuals and futures: their mark; cash: spot.
    sigma : float64 array, shape (columns,)
        Annual volatility, a fraction; NaN unless an option whose volatility is known.
    years : float64 array, shape (columns,)
        Years of 365 days to expiry, zero at expiry and where nothing expires.
    discount : float64 array, shape (columns,)
        Present value of one unit of the settlement asset at expiry.
    half_spread : float64 array, shape (columns,)
        Half of ask minus bid, price units; zero where not known, see `spread_known`.
    spread_known : uint8 array, shape (columns,)
    depth : float64 array, shape (columns,)
        Contracts on the thinner side of the book, NaN where not known.
    funding : float64 array, shape (columns,)
        Rate per day that longs pay; zero where the market has none, NaN where it names one without a value.
    fault : uint8 array, shape (columns,)
        Why the mark is not known, index into `FAULTS`.
    surfaces : tuple of Smile or None, length underlyings
        Smile of each underlying, for shocks that read it at another moneyness.
    """

    now_ns: int
    spot: Floats
    mark: Floats
    forward: Floats
    sigma: Floats
    years: Floats
    discount: Floats
    half_spread: Floats
    spread_known: npt.NDArray[np.uint8]
    depth: Floats
    funding: Floats
    fault: npt.NDArray[np.uint8]
    surfaces: Sequence[Smile | None]

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def faults(self, symbols: Sequence[str]) -> dict[str, str]:
        """Why each unknown column is unknown, by symbol; `symbols` are those of the contracts."""
        return {symbols[at]: FAULTS[code] for at, code in enumerate(self.fault.tolist()) if code}

    def replaced(self, **changes: Any) -> MarketColumns:
        """A copy with some arrays exchanged; the others are shared."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return MarketColumns(**{**values, **changes})
