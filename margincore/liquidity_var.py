"""Liquidity-adjusted risk: what closing at the spread adds to VaR or expected shortfall."""

from __future__ import annotations

from typing import NamedTuple

from margincore.units import number


class LiquidityRisk(NamedTuple):
    """Risk of prices, cost of liquidity, and their sum, in the unit of the value."""

    risk: float
    liquidity_cost: float
    total: float


def spread_cost(value: float, spread: float, *, spread_deviation: float = 0.0, multiple: float = 0.0) -> float:
    """Cost of closing a position at a stressed spread: ``0.5 |value| (spread + multiple spread_deviation)`` [1]_.

    Parameters
    ----------
    value : float
        Value of the position, signed.
    spread : float
        Mean of ask minus bid as a share of the mid, at least 0.
    spread_deviation : float
        Standard deviation of that share, at least 0.
    multiple : float
        Deviations of the stressed spread, at least 0; 2 to 4.5 cover 99 % of markets, by the thickness of the tail.

    References
    ----------
    .. [1] Bangia, Diebold, Schuermann and Stroughair, "Modeling Liquidity Risk", 1999: exogenous cost of liquidity.

    Examples
    --------
    >>> spread_cost(1e6, 0.002, spread_deviation=0.001, multiple=3.0)
    2500.0
    """
    stressed = number("spread", spread, least=0.0) + number("multiple", multiple, least=0.0) * number(
        "spread_deviation", spread_deviation, least=0.0)
    return 0.5 * abs(number("value", value)) * stressed


def liquidity_adjusted(risk: float, value: float, spread: float, *, spread_deviation: float = 0.0,
                       multiple: float = 0.0) -> LiquidityRisk:
    """VaR or expected shortfall with the cost of closing at the spread added, which assumes that both come together.

    Parameters
    ----------
    risk : float
        Value at risk or expected shortfall of the position, of any measure; for a normal law ``value z sigma``.
    value, spread, spread_deviation, multiple
        As in `spread_cost`.

    Examples
    --------
    >>> liquidity_adjusted(3.3, 100.0, 0.01)
    LiquidityRisk(risk=3.3, liquidity_cost=0.5, total=3.8)
    """
    price = number("risk", risk)
    cost = spread_cost(value, spread, spread_deviation=spread_deviation, multiple=multiple)
    return LiquidityRisk(price, cost, price + cost)
