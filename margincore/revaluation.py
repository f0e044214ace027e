"""Revaluation: unit values and risk arrays of every column, and the market after a move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from margincore.columns import MarketColumns
from margincore.contracts import OPTION, Contracts
from margincore.kernels import reval, scenario
from margincore.scenarios import SMILES, ScenarioPlan
from margincore.units import DAYS_PER_YEAR, Floats, choice

CONVERSIONS = ("current", "shocked")


def _quoted_smile(contracts: Contracts, columns: MarketColumns, rows: npt.NDArray[np.intp], strikes: Floats) -> Floats:
    """Volatility of one underlying and expiry at other strikes, linear between its own options, flat beyond."""
    order = np.argsort(contracts.strike[rows], kind="stable")
    known = order[~np.isnan(columns.sigma[rows][order])]
    if not known.size:
        return np.full(strikes.shape, np.nan)
    at, first = np.unique(contracts.strike[rows][known], return_index=True)
    total = np.add.reduceat(columns.sigma[rows][known], first)
    return np.interp(strikes, at, total / np.diff(np.append(first, known.size)))


def read_smile(contracts: Contracts, columns: MarketColumns, rows: npt.NDArray[np.intp], strikes: Floats) -> Floats:
    """Smile of one underlying at strikes (rows, strikes), in one question: histories have thousands of moves."""
    surface, expiries = columns.surfaces[contracts.underlying[rows[0]]], contracts.expiry_ns[rows]
    if surface is not None:
        found = surface.vol(strikes.ravel(), np.repeat(expiries, strikes.shape[1]))
        return np.asarray(found, np.float64).reshape(strikes.shape)
    read = np.empty(strikes.shape)
    for expiry in np.unique(expiries):
        same = expiries == expiry
        read[same] = _quoted_smile(contracts, columns, rows[same], strikes[same])
    return read


def sticky_moneyness(contracts: Contracts, columns: MarketColumns, rows: npt.NDArray[np.intp],
                     moves: Sequence[float] | Floats) -> Floats:
    """Volatility of options of one underlying after moves, read at ``strike / (1 + move)``.

    Each option keeps its present ratio to the smile.  The smile is the surface of the underlying, or, where the market
    has none, the line through the volatilities of the same expiry, flat beyond its ends.

    Parameters
    ----------
    contracts : Contracts
    columns : MarketColumns
    rows : int array, shape (rows,)
        Columns of options on one underlying.
    moves : sequence of float, length moves
        Relative, above -1.

    Returns
    -------
    float64 array, shape (rows, moves)
        NaN where the smile is not known or not positive.
    """
    strike, steps = contracts.strike[rows, None], np.asarray(moves, np.float64)
    now = read_smile(contracts, columns, rows, strike)
    now = np.where(now > 0.0, now, np.nan)
    sigma = columns.sigma[rows, None]
    after = read_smile(contracts, columns, rows, strike / (1.0 + steps))
    return np.where(steps == 0.0, sigma, sigma * (after / now))


def _option_rows(contracts: Contracts, underlying: int,
                 only: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.intp]:
    found = (contracts.kind == OPTION) & (contracts.underlying == underlying)
    return np.flatnonzero(found if only is None else found & only)


def shocked_volatilities(contracts: Contracts, columns: MarketColumns, plan: ScenarioPlan,
                         only: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Volatility of every option at every node of the plan, shape (columns, nodes); NaN elsewhere.

    With a mask over the columns the smiles of the others are not asked, and their rows mean nothing.  Read-only where
    nothing moves them: then they are those of the market.
    """
    nodes = plan.kind.size
    sigma = columns.sigma.reshape(-1, 1)
    if plan.smile == SMILES[1]:
        sigma = np.full((len(contracts), nodes), np.nan)
        for underlying in np.flatnonzero(plan.moving):
            rows = _option_rows(contracts, int(underlying), only)
            if rows.size:
                sigma[rows] = sticky_moneyness(contracts, columns, rows, plan.move[underlying, :nodes])
    surfaces = any(plan.surface)
    if not (surfaces or plan.shocks):
        return sigma
    if surfaces:
        sigma = np.array(np.broadcast_to(sigma, (len(contracts), nodes)))
    for at, moves in enumerate(plan.surface):
        if moves is None or not plan.moving[at]:
            continue
        rows = _option_rows(contracts, at, only)
        if rows.size:
            shift = np.zeros(nodes) if plan.smile == SMILES[0] else plan.log_growth[at, :nodes].copy()
            factor = np.empty((rows.size, nodes))
            scenario.surface_factors(contracts.strike[rows], columns.forward[rows], columns.years[rows], shift,
                                     np.array(moves.moneyness), np.array(moves.tenors_days) / DAYS_PER_YEAR,
                                     moves.log_ratio, factor)
            sigma[rows] *= factor
    out = np.empty((len(contracts), nodes))
    scenario.volatility_shocks(sigma, columns.years, contracts.underlying, plan.kind, plan.size, plan.limits,
                               plan.days_floor, plan.volatility_min, out)
    return out


def asset_mask(contracts: Contracts, shocked_assets: Iterable[str] | npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mask over the assets, shape (assets,), from their names or from a mask."""
    mask = np.zeros(len(contracts.assets), np.bool_)
    if isinstance(shocked_assets, np.ndarray) and shocked_assets.dtype == np.bool_:
        mask[:] = shocked_assets
    else:
        for name in shocked_assets:
            mask[contracts.asset_column(name)] = True
    return mask


def revalue(contracts: Contracts, columns: MarketColumns, plan: ScenarioPlan, *, conversion: str = "current",
            shocked_assets: Iterable[str] | npt.NDArray[np.bool_] = (),
            out: tuple[Floats, Floats] | None = None) -> tuple[Floats, Floats]:
    """Value of one contract now, and its profit in every scenario.

    Parameters
    ----------
    contracts : Contracts
    columns : MarketColumns
        Of these contracts.
    plan : ScenarioPlan
        Of these contracts: ``scenarios.resolve(contracts)``.
    conversion : {"current", "shocked"}
        Whether profit in the settlement asset becomes base currency at the present spot of that asset, or at its
        spot in the scenario.
    shocked_assets : iterable of str, or bool array of shape (assets,)
        Assets whose balances move in the scenarios.
    out : (value, risk), optional
        C-contiguous float64 arrays to fill.

    Returns
    -------
    value : float64 array, shape (columns,)
        Settlement asset per contract: cash 1, linear ``multiplier * mark``, inverse futures ``-multiplier / mark``,
        options ``multiplier * mark``.
    risk : float64 array, shape (columns, scenarios)
        Base currency per contract: weight times conversion times (shocked value - value now).  Options: the
        difference of two Black-76 values, so that no shock is exactly zero.  NaN where the mark, the spot or the
        volatility is not known.

    Notes
    -----
    The price of a contract in its own unit moves with its underlying; a move of the settlement asset changes the
    conversion only.
    """
    choice("conversion", conversion, CONVERSIONS)
    if out is None:
        out = np.empty(len(contracts)), np.empty((len(contracts), len(plan.names)))
    mask = asset_mask(contracts, shocked_assets)
    reval.unit_values(contracts, columns, plan, shocked_volatilities(contracts, columns, plan),
                      settlement_prices(columns, plan, conversion, mask), mask.size, len(contracts), *out)
    fill_balances(columns, plan, mask, *out)
    return out


def settlement_prices(columns: MarketColumns, plan: ScenarioPlan, conversion: str,
                      shocked: npt.NDArray[np.bool_]) -> Floats:
    """Base currency per unit of each settlement asset, times the weight of the scenario, (underlyings, width)."""
    price = columns.spot[:, None] * plan.weight
    if conversion == CONVERSIONS[1]:
        moves = plan.moving.copy()
        moves[:shocked.size] |= shocked
        price[moves] *= plan.growth[moves]
    return price


def fill_balances(columns: MarketColumns, plan: ScenarioPlan, shocked: npt.NDArray[np.bool_], value: Floats,
                  risk: Floats) -> None:
    """Fill the rows of the assets: a unit is worth one, and earns the move of its spot where it is shocked."""
    count, cash = len(plan.names), shocked.size
    value[:cash] = 1.0
    risk[:cash] = 0.0
    rows = shocked.nonzero()[0]
    if rows.size:
        risk[rows] = columns.spot[rows, None] * (plan.move[rows, :count] * plan.weight[:count])


def moved(contracts: Contracts, columns: MarketColumns, underlying: int | None, move: float, *,
          smile: str = SMILES[0]) -> MarketColumns:
    """The market after one underlying, or every underlying of a derivative, moved by a fraction.

    Forwards and futures move alike.  An option's mark becomes its Black-76 value after the move plus what the mark was
    above its Black-76 value before, at least zero.  Volatility follows `smile`.

    Parameters
    ----------
    contracts : Contracts
    columns : MarketColumns
        Of these contracts.
    underlying : int or None
        Index into ``contracts.underlyings``; None moves the underlyings of all derivatives together.
    move : float
        Relative, above -1.
    smile : {"sticky_strike", "sticky_moneyness"}

    Returns
    -------
    MarketColumns
    """
    factors = np.ones(len(contracts.underlyings))
    factors[contracts.underlying[len(contracts.assets):] if underlying is None else underlying] = 1.0 + move
    return grown(contracts, columns, factors, smile=smile)


def grown(contracts: Contracts, columns: MarketColumns, factors: Floats, *, smile: str = SMILES[0]) -> MarketColumns:
    """The market after the price of every underlying is multiplied by its factor, by the rules of `moved`.

    Parameters
    ----------
    contracts : Contracts
    columns : MarketColumns
        Of these contracts.
    factors : float64 array, shape (underlyings,)
        Above 0.
    smile : {"sticky_strike", "sticky_moneyness"}

    Returns
    -------
    MarketColumns
    """
    growth = factors[contracts.underlying]
    forward = columns.forward * growth
    growth[:len(contracts.assets)] = 1.0
    options = contracts.kind == OPTION
    sigma = columns.sigma
    if smile == SMILES[1]:
        sigma = sigma.copy()
        for index in np.flatnonzero(factors != 1.0):
            rows = _option_rows(contracts, int(index))
            if rows.size:
                sigma[rows] = sticky_moneyness(contracts, columns, rows, [float(factors[index]) - 1.0])[:, 0]
    before, after = np.empty(len(contracts)), np.empty(len(contracts))
    reval.option_marks(contracts, columns.forward, columns.years, columns.sigma, columns.discount, before)
    reval.option_marks(contracts, forward, columns.years, sigma, columns.discount, after)
    mark = columns.mark * growth
    at = options & (growth != 1.0)
    shifted = after[at] + (columns.mark[at] - before[at])
    mark[at] = np.where(shifted < 0.0, 0.0, shifted)
    return columns.replaced(spot=columns.spot * factors, mark=mark, forward=forward, sigma=sigma)
