"""RiskProfiles: the profit of every option interpolated over spot and volatility, with a bound of the error.

Full revaluation is the reference.  A profile answers thousands of scenarios faster, most of all where smiles or
histories of surfaces would have to be read in each; an option that cannot be interpolated within the tolerance is
revalued in full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.columns import MarketColumns
from margincore.contracts import OPTION, Contracts
from margincore.errors import RangeError, ShapeError
from margincore.kernels import formula, profile, reval, scenario
from margincore.revaluation import (
    CONVERSIONS,
    asset_mask,
    fill_balances,
    read_smile,
    settlement_prices,
    shocked_volatilities,
)
from margincore.scenarios import SMILES, ScenarioPlan
from margincore.shocks import KINDS
from margincore.surface import VolSurface
from margincore.units import DAYS_PER_YEAR, Floats, Ints, choice, number

POINTS = 4
# Cells of spot and nodes of volatility, tried in this order until the tolerance is met.
ROUNDS = ((16, 5), (24, 6), (48, 9), (48, 13))
# The checks lie where the leading term of the error peaks; what follows it may add as much again.
SAFETY = 2.0
ROUNDING = 64.0 * float(np.finfo(np.float64).eps)


def chebyshev(count: int) -> list[float]:
    """Rising Chebyshev nodes; the digits that libraries of cosines may differ in are rounded off."""
    return [round(-math.cos((2 * k + 1) * math.pi / (2 * count)), 12) for k in range(count)]


def extrema(count: int) -> list[float]:
    """Where the polynomial of those nodes is largest, the ends of [-1, 1] among them."""
    return [round(-math.cos(k * math.pi / count), 12) for k in range(count + 1)] if count > 1 else [0.0]


def coefficients_of(nodes: list[float]) -> Floats:
    """Inverse Vandermonde matrix: row i gives the coefficient of ``x^i`` from values at the nodes."""
    result = np.zeros((len(nodes), len(nodes)))
    for column, own in enumerate(nodes):
        row, scale = [1.0], 1.0
        for other in nodes[:column] + nodes[column + 1:]:
            row = [low - other * high for low, high in zip([0.0, *row], [*row, 0.0], strict=True)]
            scale *= own - other
        result[:, column] = [value / scale for value in row]
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Options of one underlying that share a number of nodes."""

    underlying: int
    rows: npt.NDArray[np.int64]
    spot: tuple[float, float]
    volatility: Floats  # (options, 2)
    edges: Floats
    coefficient: Floats


@dataclass(frozen=True, slots=True, eq=False)
class RiskProfiles:
    """Interpolated profits of all options of a market; made by `risk_profiles`.

    Attributes
    ----------
    contracts : Contracts
    columns : MarketColumns
    smile : {"sticky_strike", "sticky_moneyness"}
        Rule the profiles were made under.
    bound : float64 array, shape (columns,)
        Bound of the error of one contract's profit, settlement asset: twice the largest error at the checks, and
        rounding.  Zero where the column is revalued in full.
    error : float64 array, shape (columns,)
        Largest error at the checks, settlement asset per contract.
    nodes : int64 array, shape (columns,)
        Nodes of spot and volatility the option was valued at; zero where it is revalued in full.
    blocks : tuple of Block
    """

    contracts: Contracts
    columns: MarketColumns
    smile: str
    bound: Floats
    error: Floats
    nodes: Ints
    blocks: tuple[Block, ...]

    def report(self) -> dict[str, tuple[int, float, float]]:
        """Nodes, largest error found and bound of every option, the last two in its settlement asset, by symbol."""
        rows = np.flatnonzero(self.contracts.kind == OPTION).tolist()
        return {self.contracts.symbols[row]: (int(self.nodes[row]), float(self.error[row]), float(self.bound[row]))
                for row in rows}

    def revalue(self, plan: ScenarioPlan, *, conversion: str = "current", shocked_assets: Any = (),
                out: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
        """Value and risk of every column, as `margincore.revaluation.revalue`, options interpolated.

        Parameters and returns as there.  An interpolated option differs by at most its `bound` times the price of its
        settlement asset and the weight of the scenario.

        Raises
        ------
        RangeError
            If a scenario leaves the range of the profiles, or the plan has another smile rule.
        """
        contracts, columns = self.contracts, self.columns
        choice("conversion", conversion, CONVERSIONS)
        if plan.smile != self.smile:
            raise RangeError(f"plan must have the smile rule of the profiles, {self.smile!r}, had {plan.smile!r}")
        if plan.move.shape[0] != len(contracts.underlyings):
            raise ShapeError(f"plan must be of the same contracts, had {plan.move.shape[0]} underlyings")
        value, risk = out or (np.empty(len(contracts)), np.empty((len(contracts), len(plan))))
        mask = asset_mask(contracts, shocked_assets)
        price = settlement_prices(columns, plan, conversion, mask)
        full = self.nodes == 0
        options = full & (contracts.kind == OPTION)
        # Pages of zeros that nobody reads cost nothing: futures have no volatility.
        shocked = (shocked_volatilities(contracts, columns, plan, options) if options.any()
                   else np.zeros((len(contracts), plan.kind.size)))
        full[:mask.size] = False
        edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]])))
        for first, last in edges.reshape(-1, 2).tolist():
            reval.unit_values(contracts, columns, plan, shocked, price, first, last, value, risk)
        fill_balances(columns, plan, mask, value, risk)
        for block in self.blocks:
            self._evaluate(block, plan, price, risk)
            value[block.rows] = contracts.multiplier[block.rows] * columns.mark[block.rows]
        return value, risk

    def _evaluate(self, block: Block, plan: ScenarioPlan, price: Floats, risk: Floats) -> None:
        count = len(plan)
        order = np.argsort(plan.log_growth[block.underlying, :count], kind="stable")
        y = np.ascontiguousarray(plan.log_growth[block.underlying, order])
        z = places(self.contracts, self.columns, plan, block.underlying, block.rows, order)
        if z is None:
            raise RangeError("plan must have volatility shocks that profiles can follow, see risk_profiles")
        low, high = block.volatility.T
        _check("spot", y[:1], y[-1:], *(np.full(1, end) for end in block.spot))
        _check("volatility", z.min(axis=1), z.max(axis=1), low, high)
        rank = np.empty(count, np.int64)
        rank[order] = np.arange(count)
        profile.evaluate(block.rows, block.edges, block.coefficient, y, z, 0.5 * (low + high),
                         np.where(high > low, 2.0 / np.where(high > low, high - low, 1.0), 0.0), rank,
                         np.ascontiguousarray(self.contracts.settle[block.rows]), price, risk)


def places(contracts: Contracts, columns: MarketColumns, plan: ScenarioPlan, underlying: int,
           rows: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> Floats | None:
    """Logarithm of volatility over the unshocked one, shape (1 or options, scenarios); None where there is none."""
    moves, node = plan.surface[underlying], plan.node[order]
    plain = plan.volatility_min == 0.0 and not set(plan.kind.tolist()) - {KINDS.index("same"), KINDS.index("scale")}
    if plain:
        size = np.where(plan.kind == KINDS.index("scale"), plan.size, 0.0)[node].reshape(1, -1)
        z = np.empty(size.shape)
        scenario.log_growth(size, z)
    elif plan.smile == SMILES[0] and moves is None:
        sigma = columns.sigma[rows].reshape(-1, 1)
        shocked, ratio = np.empty((rows.size, plan.kind.size)), np.empty(rows.size * plan.kind.size)
        scenario.volatility_shocks(sigma, columns.years[rows], contracts.underlying[rows], plan.kind, plan.size,
                                   plan.limits, plan.days_floor, plan.volatility_min, shocked)
        formula.log_ratios(shocked.ravel(), np.repeat(sigma, plan.kind.size), ratio)
        z = np.ascontiguousarray(ratio.reshape(shocked.shape)[:, node])
        return z if np.isfinite(z).all() else None
    else:
        return None
    if moves is None:
        return z
    shift = np.zeros(order.size) if plan.smile == SMILES[0] else plan.log_growth[underlying, order]
    logs = np.empty((rows.size, order.size))
    scenario.surface_factors(contracts.strike[rows], columns.forward[rows], columns.years[rows], shift,
                             np.array(moves.moneyness), np.array(moves.tenors_days) / DAYS_PER_YEAR,
                             moves.log_ratio[order], logs, True)
    if z.any():
        logs += z
    return logs


def cell_edges(origin: Floats, width: Floats, low: float, high: float, cells: int) -> Floats:
    """Edges (options, cells + 1) of cells that are as narrow as `width` near the strike and grow away from it.

    The strike itself is an edge where it lies inside: there a value at expiry has its kink.
    """
    scale = width[:, None]
    u = _asinh((np.array([low, high]) - origin[:, None]) / scale)
    inside = (u[:, 0] < 0.0) & (u[:, 1] > 0.0)
    split = np.clip(np.rint(cells * u[:, 0] / (u[:, 0] - u[:, 1])), 1, cells - 1)
    step = np.arange(cells + 1.0)
    left = np.where(inside[:, None], u[:, :1] * (1.0 - step / split[:, None]), 0.0)
    right = u[:, 1:] * ((step - split[:, None]) / (cells - split[:, None]))
    even = u[:, :1] + (u[:, 1:] - u[:, :1]) * (step / cells)
    path = np.where(inside[:, None], np.where(step <= split[:, None], left, right), even)
    edges = np.ascontiguousarray(origin[:, None] + scale * _sinh(path))
    edges[:, 0], edges[:, -1] = low, high
    return edges


def _asinh(t: Floats) -> Floats:
    size = np.abs(t)
    out = np.empty(t.size)
    formula.log_ratios((size + np.sqrt(size * size + 1.0)).ravel(), np.ones(t.size), out)
    return np.copysign(out.reshape(t.shape), t)


def _sinh(u: Floats) -> Floats:
    up, down = np.empty(u.size), np.empty(u.size)
    scenario.growth_moves(u.ravel(), up)
    scenario.growth_moves(-u.ravel(), down)
    return 0.5 * (up - down).reshape(u.shape)


def risk_profiles(contracts: Contracts, columns: MarketColumns, plan: ScenarioPlan, *, tolerance: float = 1e-5,
                  spot: tuple[float, float] | None = None,
                  volatility: tuple[float, float] | None = None) -> RiskProfiles:
    """Profiles of all options, fine enough for given scenarios.

    Parameters
    ----------
    contracts : Contracts
    columns : MarketColumns
        Of these contracts.
    plan : ScenarioPlan
        Of these contracts; its smile rule and the range of its moves are those of the profiles.  Volatility shocks may
        be "same" and "scale", with moves of surfaces, under either smile rule, or of any kind under sticky strikes
        without moves of surfaces; options are revalued in full under others, under sticky moneyness without a
        `VolSurface`, and where an input is unknown.
    tolerance : float
        Largest bound of an error, as a share of the underlying's value per contract, above 0.
    spot, volatility : (float, float), optional
        Range of relative moves that the profiles reach at least, for scenarios to come: ``(-0.5, 0.5)``.

    Returns
    -------
    RiskProfiles

    Notes
    -----
    Each option is valued at 16 to 48 cells of four Chebyshev nodes in the logarithm of spot, closer together near its
    strike, times up to nine in the logarithm of volatility.  The interpolant is the cubic of each cell, and one
    polynomial in volatility.  Its error is measured between the nodes, where the node polynomials are largest, and the
    bound is twice that.

    Examples
    --------
    >>> from margincore.example import example_market
    >>> from margincore.revaluation import revalue
    >>> from margincore.scenarios import grid
    >>> contracts, market = example_market()
    >>> columns = market.resolve(contracts)
    >>> plan = grid(spot=np.linspace(-0.3, 0.3, 61), volatility=[-0.2, 0.0, 0.4]).resolve(contracts)
    >>> profiles = risk_profiles(contracts, columns, plan)
    >>> (_, full), (_, quick) = revalue(contracts, columns, plan), profiles.revalue(plan)
    >>> price = columns.spot[contracts.settle]
    >>> bool((np.abs(full - quick) <= (profiles.bound * price * (1.0 + 1e-12))[:, None]).all())
    True
    """
    tolerance = number("tolerance", tolerance, above=0.0)
    if columns.mark.size != len(contracts) or plan.move.shape[0] != len(contracts.underlyings):
        raise ShapeError(f"columns and plan must be of these {len(contracts)} contracts")
    bound, error = np.zeros(len(contracts)), np.zeros(len(contracts))
    nodes, blocks = np.zeros(len(contracts), np.int64), []
    for underlying in np.flatnonzero(plan.moving).tolist():
        rows = _known(contracts, columns, plan, underlying)
        order = np.argsort(plan.log_growth[underlying, :len(plan)], kind="stable")
        z = places(contracts, columns, plan, underlying, rows, order) if rows.size else None
        if z is None:
            continue
        span = _range("spot", plan.log_growth[underlying, :len(plan)], spot, 1e-3)
        reach = np.array([_range("volatility", row, volatility, 0.0) for row in z])
        reach = np.array(np.broadcast_to(reach, (rows.size, 2)))
        for cells, levels in ROUNDS:
            if not rows.size:
                break
            levels = levels if (reach[:, 1] > reach[:, 0]).any() else 1
            edges, coefficient, found = _fit(contracts, columns, plan.smile, rows, span, reach, cells, levels)
            size = np.abs(_scales(contracts, columns, rows))
            limit = SAFETY * found + ROUNDING * size * np.maximum(
                columns.forward[rows] * _exponentials(np.array([span[1]])), contracts.strike[rows])
            good = limit <= tolerance * size * columns.forward[rows]
            if good.any():
                own = rows[good]
                blocks.append(Block(underlying, own, span, reach[good], np.ascontiguousarray(edges[good]),
                                    np.ascontiguousarray(coefficient[good])))
                bound[own], error[own], nodes[own] = limit[good], found[good], cells * POINTS * levels
            rows, reach = rows[~good], reach[~good]
    return RiskProfiles(contracts, columns, plan.smile, bound, error, nodes, tuple(blocks))


def _check(name: str, least: Floats, most: Floats, low: Floats, high: Floats) -> None:
    if not ((least >= low).all() and (most <= high).all()):
        raise RangeError(f"scenarios must stay within the profiles: {name} moves by {math.expm1(least.min()):+.4g} to "
                         f"{math.expm1(most.max()):+.4g}, profiles reach from {math.expm1(low.max()):+.4g} to "
                         f"{math.expm1(high.min()):+.4g}")


def _known(contracts: Contracts, columns: MarketColumns, plan: ScenarioPlan,
           underlying: int) -> npt.NDArray[np.int64]:
    known = (contracts.kind == OPTION) & (contracts.underlying == underlying) & ~np.isnan(columns.mark)
    known &= (columns.sigma >= 0.0) & (columns.forward > 0.0) & ~np.isnan(columns.spot[contracts.settle])
    if plan.smile == SMILES[1] and not isinstance(columns.surfaces[underlying], VolSurface):
        return np.empty(0, np.int64)  # lines through quotes, floors and caps have kinks that no check need find
    return np.flatnonzero(known)


def _range(name: str, values: Floats, asked: tuple[float, float] | None, least: float) -> tuple[float, float]:
    """Logarithmic range of moves, as wide as the one asked for at least."""
    ends = [float(values.min()), float(values.max())]
    if asked is not None:
        if len(asked) != 2 or not asked[0] < asked[1]:
            raise RangeError(f"{name} must be a rising pair of moves, was {asked!r}")
        wanted = np.array([[number(f"{name}[{at}]", move, above=-1.0) for at, move in enumerate(asked)]])
        logs = np.empty((1, 2))
        scenario.log_growth(wanted, logs)
        ends += logs[0].tolist()
    return min(*ends, max(ends) - least), max(*ends, min(ends) + least)


def _scales(contracts: Contracts, columns: MarketColumns, rows: npt.NDArray[np.int64]) -> Floats:
    """Settlement asset per unit of quote currency, times contracts: what Black-76 is multiplied by."""
    scale = contracts.multiplier[rows] * columns.discount[rows]
    return np.where(contracts.inverse[rows] == 1, scale / columns.forward[rows], scale)


def _fit(contracts: Contracts, columns: MarketColumns, smile: str, rows: npt.NDArray[np.int64],
         span: tuple[float, float], reach: Floats, cells: int, levels: int) -> tuple[Floats, Floats, Floats]:
    forward, strike = columns.forward[rows], contracts.strike[rows]
    root = np.sqrt(columns.years[rows])
    origin = np.empty(rows.size)
    formula.log_ratios(strike, forward, origin)
    least = _factors(np.array([-1.0]), np.maximum(reach, -1.0))[:, 0]
    width = np.maximum(columns.sigma[rows] * root * least, 1e-4)
    edges = cell_edges(origin, width, span[0], span[1], cells)
    points, checks = np.array(chebyshev(POINTS)), np.array(extrema(POINTS))
    middle, half = 0.5 * (edges[:, 1:] + edges[:, :-1]), 0.5 * (edges[:, 1:] - edges[:, :-1])
    at, between = np.array(chebyshev(levels)), np.array(extrema(levels))
    stretch, check_stretch = (_factors(places, reach) for places in (at, between))
    sigma, check_sigma = (_smile(contracts, columns, smile, rows, middle[:, :, None] + half[:, :, None] * places)
                          for places in (points, checks))
    terms = np.column_stack([forward, strike, root, 1.0 - contracts.is_call[rows], _scales(contracts, columns, rows),
                             columns.sigma[rows], contracts.inverse[rows]])
    coefficient, error = np.empty((rows.size, cells, levels, POINTS)), np.empty(rows.size)
    profile.fit(np.ascontiguousarray(terms), edges, sigma, check_sigma, points, checks, stretch, check_stretch, between,
                coefficients_of(points.tolist()), coefficients_of(at.tolist()), coefficient, error)
    return edges, coefficient, error


def _factors(at: Floats, reach: Floats) -> Floats:
    """Factors of volatility (options, places) at places in [-1, 1] of each option's logarithmic range."""
    low, high = reach[:, :1], reach[:, 1:]
    return _exponentials(0.5 * (low + high) + 0.5 * (high - low) * at)


def _exponentials(x: Floats) -> Floats:
    """``exp(x)`` of an array, the same bits on every processor."""
    out = np.empty(x.size)
    scenario.exponentials(x.ravel(), out)
    return out.reshape(x.shape)


def _smile(contracts: Contracts, columns: MarketColumns, smile: str, rows: npt.NDArray[np.int64], y: Floats) -> Floats:
    """Volatility of every option at logarithmic moves of its own, shape (options, cells, points)."""
    now = columns.sigma[rows][:, None, None]
    if smile == SMILES[0]:
        return np.array(np.broadcast_to(now, y.shape))
    strike, growth = contracts.strike[rows, None], _exponentials(y).reshape(rows.size, -1)
    after = read_smile(contracts, columns, rows, strike / growth).reshape(y.shape)
    return np.ascontiguousarray(now * (after / read_smile(contracts, columns, rows, strike)[:, :, None]))
