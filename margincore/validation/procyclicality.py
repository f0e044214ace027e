"""How procyclical a margin path is, and what it covers: numbers from arrays of margin per day, for any model.

Every metric takes arrays with one entry per period (a day, say) and knows nothing of the model behind them.
`margincore.validation.compare` puts models side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import RangeError, ShapeError
from margincore.units import Floats, choice, floats, integer


def margin_path(name: str, values: Any, *, least: int = 1, length: int | None = None) -> Floats:
    """`values` as positive, finite margin per period, at least `least` of them."""
    path = floats(name, values, length=length)
    if len(path) < least:
        raise ShapeError(f"{name} must have at least {least} periods, had {len(path)}")
    if not (path > 0.0).all():
        where = int(np.flatnonzero(~(path > 0.0))[0])
        raise RangeError(f"{name} must be positive, was {float(path[where])!r} at position {where}")
    return path


def peak_to_trough(margin: Any) -> float:
    """Largest margin over smallest margin of the path, at least 1.

    Parameters
    ----------
    margin : float64 array, shape (periods,)
        Positive margin of one unchanged position per period, any currency.

    References
    ----------
    .. [1] D. Murphy, M. Vasios, N. Vause, "An investigation into the procyclicality of risk-based initial margin
       models", Bank of England Financial Stability Paper 29 (2014), section 3.
    """
    path = margin_path("margin", margin)
    return float(path.max() / path.min())


def increases(margin: Any, periods: int) -> Floats:
    """Relative change of margin over `periods`, ``margin[t + periods] / margin[t] - 1``, shape (n - periods,)."""
    integer("periods", periods, least=1)
    path = margin_path("margin", margin, least=periods + 1)
    return np.asarray(path[periods:] / path[:-periods] - 1.0, np.float64)


def largest_increase(margin: Any, periods: int) -> float:
    """Largest relative increase of margin over `periods`, the n-day measure; 0.25 for 25 %, negative if it only fell.

    Parameters
    ----------
    margin : float64 array, shape (n,)
        Positive margin of one unchanged position per period, longer than `periods`.
    periods : int
        Length of the liquidity horizon, at least 1.

    References
    ----------
    .. [1] D. Murphy, M. Vasios, N. Vause, Bank of England Financial Stability Paper 29 (2014), section 3: the n-day
       measure.
    """
    return float(increases(margin, periods).max())


@dataclass(frozen=True, slots=True)
class MarginCalls:
    """Calls on an account that holds exactly its requirement at the start of every period, and why they came.

    Attributes
    ----------
    calls : int
        Periods with a call.
    amount : float
        Sum of all calls.
    by_parameters : int
        Calls that the price alone would not have made.
    parameter_share : float
        Share of the amount called that a rise of the margin rate explains, in [0, 1]; 0 without calls.
    largest : float
        Largest single call.
    """

    calls: int
    amount: float
    by_parameters: int
    parameter_share: float
    largest: float


def margin_calls(rate: Any, price: Any, *, side: str = "both") -> MarginCalls:
    """Margin calls of one unit held throughout, split into what the price and what the parameters did.

    The requirement is ``rate * price``.  Over a period the account must find its loss and the change of the
    requirement; the sum splits exactly into

    - price: the loss, and the old rate times the change of the price,
    - parameters: the change of the rate times the new price.

    Parameters
    ----------
    rate : float64 array, shape (periods,)
        Margin per unit of notional at the end of each period, positive.
    price : float64 array, shape (periods,)
        Price at the end of each period, positive.
    side : {"both", "long", "short"}
        Position; `both` counts the calls on one long and one short account.

    Returns
    -------
    MarginCalls

    Raises
    ------
    ShapeError, NotFiniteError, RangeError
        If lengths differ, fewer than two periods are given, or a value is not positive and finite.
    """
    rates = margin_path("rate", rate, least=2)
    prices = margin_path("price", price, length=len(rates))
    choice("side", side, ("both", "long", "short"))
    moved, parameters = np.diff(prices), np.diff(rates) * prices[1:]
    held = rates[:-1] * moved
    by_side = {"long": held - moved, "short": held + moved}
    priced = np.concatenate([by_side[name] for name in by_side if side in ("both", name)])
    parameters = np.tile(parameters, 2 if side == "both" else 1)
    need = priced + parameters
    called = need > 0.0
    amount = float(need[called].sum())
    explained = float(np.clip(parameters, 0.0, np.maximum(need, 0.0))[called].sum())
    return MarginCalls(int(called.sum()), amount, int((called & (priced <= 0.0)).sum()),
                       explained / amount if amount > 0.0 else 0.0, float(need[called].max(initial=0.0)))


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often and by how much losses exceeded the margin in force: the public quantitative disclosure 6.5 table.

    Attributes
    ----------
    observations, exceptions : int
        Periods, and those with a loss above the margin.
    coverage : float
        ``1 - exceptions / observations``.
    average_uncovered, largest_uncovered : float
        Of the losses beyond margin, over the exceptions; 0 without any.
    """

    observations: int
    exceptions: int
    coverage: float
    average_uncovered: float
    largest_uncovered: float


def coverage(margin: Any, pnl: Any) -> Coverage:
    """Losses against the margin in force.

    Parameters
    ----------
    margin : float64 array, shape (periods,)
        Margin in force when the period began, positive.
    pnl : float64 array, shape (periods,)
        Profit (+) or loss (-) of the period in the same currency.

    Notes
    -----
    A loss equal to the margin is covered.
    """
    required = margin_path("margin", margin)
    beyond = -floats("pnl", pnl, length=len(required)) - required
    exceeded = beyond > 0.0
    count = int(exceeded.sum())
    return Coverage(len(required), count, 1.0 - count / len(required),
                    float(beyond[exceeded].mean()) if count else 0.0, float(beyond[exceeded].max(initial=0.0)))


@dataclass(frozen=True, slots=True)
class Procyclicality:
    """Every metric of one margin path.

    Attributes
    ----------
    mean : float
        Average margin rate.
    peak_to_trough : float
        Largest over smallest margin rate.
    increase : dict of int to float
        Largest relative increase of the margin rate by number of periods.
    calls : MarginCalls
        Of one long and one short unit.
    coverage : Coverage
        Of the same two, in units of notional.
    """

    mean: float
    peak_to_trough: float
    increase: dict[int, float]
    calls: MarginCalls
    coverage: Coverage


def procyclicality(rate: Any, price: Any, *, periods: Sequence[int] = (1, 5, 20)) -> Procyclicality:
    """Every metric of a path of margin rates: `rate[t]`, set at the end of period t, covers the move to t + 1.

    Parameters
    ----------
    rate : float64 array, shape (n,)
        Margin per unit of notional, positive.
    price : float64 array, shape (n,)
        Price at the same times, positive.
    periods : sequence of int
        Lengths of the n-day measure, each below n.
    """
    rates = margin_path("rate", rate, least=2)
    prices = margin_path("price", price, length=len(rates))
    move = np.diff(prices) / prices[:-1]
    both = coverage(np.tile(rates[:-1], 2), np.concatenate([move, -move]))
    return Procyclicality(float(rates.mean()), peak_to_trough(rates),
                          {n: largest_increase(rates, n) for n in periods}, margin_calls(rates, prices), both)
