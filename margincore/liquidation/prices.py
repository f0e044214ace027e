"""Liquidation and bankruptcy prices of single positions, in closed form."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.kernels import liquidation
from margincore.units import Floats, choice, floats, number, several

VALUES = ("mark", "entry")


class PriceStatus(enum.IntEnum):
    """Whether there is a price; zero, the value of fresh memory, is UNKNOWN."""

    UNKNOWN = 0
    FOUND = 1
    NONE = 2
    ALWAYS = 3


class PositionPrices(NamedTuple):
    """Liquidation and bankruptcy prices of positions, each with its status.

    Attributes
    ----------
    liquidation, bankruptcy : float64 array, shape (positions,)
        NaN unless the status is FOUND.
    liquidation_status, bankruptcy_status : uint8 array, shape (positions,)
        `PriceStatus`: UNKNOWN when an input of the element is NaN or out of range, NONE when no positive price is bad
        enough, ALWAYS when none is good enough.
    """

    liquidation: Floats
    bankruptcy: Floats
    liquidation_status: npt.NDArray[np.uint8]
    bankruptcy_status: npt.NDArray[np.uint8]


def position_prices(quantity: npt.ArrayLike, entry: npt.ArrayLike, *, fund: npt.ArrayLike,
                    tiers: Sequence[Any] | None = None, maintenance_rate: npt.ArrayLike = 0.0,
                    maintenance_amount: npt.ArrayLike = 0.0, other_maintenance: npt.ArrayLike = 0.0,
                    fee_rate: npt.ArrayLike = 0.0, inverse: npt.ArrayLike = False,
                    notional: str = "mark") -> PositionPrices:
    """Liquidation and bankruptcy prices of many positions; arguments broadcast to one axis of positions.

    Parameters
    ----------
    quantity : float64 array, shape (positions,)
        Signed.  Linear: units of the underlying.  Inverse: face value, in quote currency.
    entry : float64 array, shape (positions,)
        Entry price, above 0.
    fund : float64 array, shape (positions,)
        What meets the position's losses, settlement asset.  Isolated: its margin.  Cross: the balance plus the
        unrealised profit of the other positions.
    tiers : sequence, optional
        One ladder for all positions: tuples ``(floor, rate)`` or ``(floor, rate, amount)``, or objects with `floor`,
        `maintenance_rate` and `amount`.  Amounts left out are those that make maintenance continuous.
    maintenance_rate, maintenance_amount : float64 array, shape (positions,)
        Instead of tiers: maintenance is ``rate * notional - amount``.
    other_maintenance : float64 array, shape (positions,)
        What the other positions on a cross fund require, at least 0, settlement asset.
    fee_rate : float64 array, shape (positions,)
        Fee of closing, on the value at the price sought, in [0, 1).  0 leaves it out.
    inverse : bool array, shape (positions,)
        Coin-settled: profit is ``quantity * (1 / entry - 1 / price)``.
    notional : {"mark", "entry"}
        Value that maintenance is taken of: at the price sought, or at the entry price.

    Returns
    -------
    PositionPrices

    Raises
    ------
    ShapeError, RangeError, NotFiniteError
        If shapes do not fit or tiers are wrong.  A bad number in a position is a status instead.

    Notes
    -----
    Linear, maintenance on the mark, closing fee `f`, side `s`: ``P = (E q - fund + other - amount) / (q - |q| (rate +
    f))``; inverse: ``P = |q| (1 + s (rate + f)) / (s (fund - other + amount) + |q| / E)``.  With tiers, the first line
    met decides.  Bankruptcy is where equity after the closing fee is zero.
    """
    given = np.broadcast_arrays(*(
        np.atleast_1d(_column(name, values)) for name, values in (
            ("quantity", quantity), ("entry", entry), ("fund", fund), ("other_maintenance", other_maintenance),
            ("fee_rate", fee_rate), ("maintenance_rate", maintenance_rate),
            ("maintenance_amount", maintenance_amount))))
    length = given[0].shape[0]
    if given[0].ndim != 1:
        raise ShapeError(f"arguments must broadcast to one axis, had shape {given[0].shape}")
    flags = np.asarray(inverse)
    if flags.dtype != bool or flags.ndim > 1 or flags.size not in (1, length):
        raise ShapeError(f"inverse must be True or False, one or {length}, was {inverse!r}")
    inverses = np.broadcast_to(flags, (length,)).astype(np.uint8)
    on_entry = np.full(length, choice("notional", notional, VALUES) == "entry", np.uint8)
    if tiers is None:
        lines = np.zeros((max(length, 1), 1, 4))
        lines[:length, 0, 1], lines[:length, 0, 2] = given[5], given[6]
        wrong = ~((lines[:, 0, 1] >= 0.0) & (lines[:, 0, 1] < 1.0) & np.isfinite(lines[:, 0, 2]))
        lines[wrong] = 0.0
        table = np.arange(length, dtype=np.int32)
    else:
        if given[5].any() or given[6].any():
            raise RangeError("maintenance_rate and maintenance_amount must be left out when tiers are given")
        lines, table = _ladder(tiers)[np.newaxis], np.zeros(length, np.int32)
        wrong = np.zeros(max(length, 1), np.bool_)
    liquidated, bankrupt, status = np.empty(length), np.empty(length), np.empty((length, 2), np.uint8)
    liquidation.position_prices(given[0], given[1], given[2], given[3], given[4], inverses, on_entry, table, lines,
                                liquidated, bankrupt, status)
    liquidated[wrong[:length]], status[wrong[:length], 0] = math.nan, PriceStatus.UNKNOWN
    return PositionPrices(liquidated, bankrupt, status[:, 0].copy(), status[:, 1].copy())


def liquidation_price(quantity: float, entry: float, *, fund: float, tiers: Sequence[Any] | None = None,
                      maintenance_rate: float = 0.0, maintenance_amount: float = 0.0, other_maintenance: float = 0.0,
                      fee_rate: float = 0.0, inverse: bool = False, notional: str = "mark") -> float | None:
    """Price at which one position is liquidated, None when no price does it; arguments as in `position_prices`.

    A long is liquidated at and below it, a short at and above it.  Where every price liquidates, that is infinity for a
    long and 0.0 for a short.
    """
    _check_one(quantity, entry, fund, other_maintenance, fee_rate)
    rate = number("maintenance_rate", maintenance_rate, least=0.0)
    number("maintenance_rate + fee_rate", rate + fee_rate, below=1.0)
    number("maintenance_amount", maintenance_amount)
    found = position_prices(quantity, entry, fund=fund, tiers=tiers, maintenance_rate=rate,
                            maintenance_amount=maintenance_amount, other_maintenance=other_maintenance,
                            fee_rate=fee_rate, inverse=inverse, notional=notional)
    return _one(quantity, float(found.liquidation[0]), int(found.liquidation_status[0]))


def bankruptcy_price(quantity: float, entry: float, *, fund: float, fee_rate: float = 0.0,
                     inverse: bool = False) -> float | None:
    """Price at which nothing is left of one position's fund, None when no price does it; as `liquidation_price`."""
    _check_one(quantity, entry, fund, 0.0, fee_rate)
    found = position_prices(quantity, entry, fund=fund, fee_rate=fee_rate, inverse=inverse)
    return _one(quantity, float(found.bankruptcy[0]), int(found.bankruptcy_status[0]))


def _column(name: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values)
    if array.ndim > 1:
        raise ShapeError(f"{name} must have at most one axis, had shape {array.shape}")
    return floats(name, array, ndim=None, finite=False, empty=True)


def _check_one(quantity: float, entry: float, fund: float, other_maintenance: float, fee_rate: float) -> None:
    number("quantity", quantity)
    number("entry", entry, above=0.0)
    number("fund", fund)
    number("other_maintenance", other_maintenance, least=0.0)
    number("fee_rate", fee_rate, least=0.0, below=1.0)


def _one(quantity: float, price: float, status: int) -> float | None:
    if status == PriceStatus.FOUND:
        return price
    if status == PriceStatus.NONE:
        return None
    if status == PriceStatus.ALWAYS:
        return math.inf if quantity > 0.0 else 0.0
    raise NotFiniteError("price must be finite: the numbers are too large, or a rate plus the fee is 1 or more")


def _ladder(tiers: Sequence[Any]) -> Floats:
    """Lines (floor, rate, amount, 0) of a ladder that starts at zero and rises."""
    lines: list[tuple[float, float, float, float]] = []
    for tier in several("tiers", tiers):
        floor, rate, amount = _tier(tier)
        if not lines and floor != 0.0:
            raise RangeError(f"tiers must start with a floor of 0, was {floor!r}")
        if lines and not (floor > lines[-1][0] and rate >= lines[-1][1]):
            raise RangeError(f"tiers must have rising floors and no falling rate, had {lines[-1][:2]!r} then "
                             f"{(floor, rate)!r}")
        due = lines[-1][2] + floor * (rate - lines[-1][1]) if lines else 0.0
        if amount is not None and not abs(amount - due) <= 1e-6 * max(1.0, floor * rate):
            raise RangeError(f"tiers must be continuous: the amount of the tier from {floor!r} must be {due!r}, was "
                             f"{amount!r}")
        lines.append((floor, rate, due if amount is None else amount, 0.0))
    if not lines:
        raise ShapeError("tiers must not be empty")
    return np.array(lines)


def _tier(tier: Any) -> tuple[float, float, float | None]:
    if hasattr(tier, "maintenance_rate"):
        floor, rate, amount = tier.floor, tier.maintenance_rate, tier.amount
    else:
        try:
            floor, rate, *rest = tier
            (amount,) = rest or (None,)
        except (TypeError, ValueError):
            raise RangeError(f"tiers must hold (floor, rate) or (floor, rate, amount), held {tier!r}") from None
    return (number("floor", floor, least=0.0), number("rate", rate, least=0.0, below=1.0),
            None if amount is None else number("amount", amount, least=0.0))
