"""Distance to liquidation: the smallest move of the market at which a whole account meets its maintenance margin.

The excess, equity above maintenance, is what the margin kernel says after the market has moved: tiers, scenarios and
add-ons are recomputed there.  A root is bracketed and narrowed down to adjacent doubles.  That none lies before it is
proved between the points that were looked at: every value, now or in a scenario, is convex in the move (options at
their strike's volatility, futures linear, inverse contracts once converted at the moved spot), so the line through two
points bounds it from below in the next interval, and the chord from above; haircuts, the worst scenario, tiers and
charges keep the bound of the excess concave, so it is least at the ends of the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.addon import ClosingCost, ShortOptionCharge, ShortOptionFloor
from margincore.columns import MarketColumns
from margincore.contracts import OPTION, Contracts
from margincore.copies import Copies, Holding, Moved
from margincore.errors import MissingDataError
from margincore.margin import MarginPlan
from margincore.scenarios import SMILES
from margincore.units import Floats, choice

LOWEST, HIGHEST = -0.99, 5.0
# Where the search looks first; finer where the excess may change sign.
FIRST = np.array([
    LOWEST, -0.95, -0.88, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3, -0.22, -0.15, -0.1, -0.06, -0.03, -0.01, 0.0, 0.01, 0.03,
    0.06, 0.1, 0.15, 0.22, 0.3, 0.4, 0.55, 0.75, 1.0, 1.35, 1.8, 2.4, 3.1, 4.0, HIGHEST,
])
ROUNDS_MAX, POINTS_MAX = 80, 4000
NEAR = 1e-9          # of the root: there the excess is too small to be told from rounding
NARROWEST = 1e-10    # interval that is split no further
ROUNDING = 4e-15     # relative error of a value, with a margin
CONVEX_ADDONS = (ClosingCost, ShortOptionCharge, ShortOptionFloor)
# A value at risk is no convex function of the profits: a root behind one that was found may be the first.
CONCAVE_STAGES = ("scan", "expected shortfall", "short charge", "closing charge", "tiers")
LOSS_STAGES = ("scan", "expected shortfall", "value at risk")  # at most the largest change of a profit, times the ratio


@dataclass(frozen=True, slots=True)
class LiquidationPrice:
    """Prices at which an account is liquidated when the market moves, or None where no move in range does it.

    Attributes
    ----------
    name : str
        Underlying or future whose price this is.
    price : float
        Its price now: spot of an underlying, mark of a future.
    unit : str
        Of the prices: the base currency for an underlying, "quote" for a future.
    down, up : float or None
        The first price below and above at which equity no longer exceeds maintenance, with the tier valid there.  Both
        are `price` for an account that is in liquidation now.
    move_down, move_up : float or None
        The same as relative moves.
    maintenance_down, maintenance_up : float or None
        Maintenance margin there, base currency.
    together : bool
        Whether every underlying moved by the same fraction; otherwise the others stood still.
    smile : {"sticky_strike", "sticky_moneyness"}
        Where volatilities were read after the move.
    certified : bool
        Whether it is proved that no nearer root exists, over the whole range for a None; a root within 1e-9 counts as
        the same.  Not for a sticky-moneyness smile, nor where a requirement is not known to be convex.
    lowest, highest : float
        Range of moves that was searched.
    """

    name: str
    price: float
    unit: str
    down: float | None
    up: float | None
    move_down: float | None
    move_up: float | None
    maintenance_down: float | None
    maintenance_up: float | None
    together: bool
    smile: str
    certified: bool
    lowest: float = LOWEST
    highest: float = HIGHEST

    @property
    def nearest(self) -> float | None:
        """The one of the two prices that is the smaller move away, None when there is none."""
        found = [(abs(move), price) for move, price in ((self.move_down, self.down), (self.move_up, self.up))
                 if move is not None and price is not None]
        return min(found)[1] if found else None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        def side(word: str, price: float | None, move: float | None) -> str:
            if price is None or move is None:
                return f"{word} none"
            return f"{word} {price:,.2f} {self.unit} ({100.0 * move:+.2f} %)"

        moved = "all underlyings moving together" if self.together else "the others unmoved"
        proof = "certified" if self.certified else "not certified"
        return (f"{self.name} {side('down', self.down, self.move_down)}, {side('up', self.up, self.move_up)}, now "
                f"{self.price:,.2f} {self.unit}; {moved}, {self.smile.replace('_', ' ')}, {proof} over "
                f"{100.0 * self.lowest:+.0f} % to {100.0 * self.highest:+.0f} %")


def liquidation_prices(plan: MarginPlan, columns: MarketColumns, holding: Holding, underlying: int, *,
                       together: bool = False, smile: str = SMILES[0], name: str, price: float,
                       unit: str) -> LiquidationPrice:
    """Search both directions for the move at which a row of a book meets its maintenance margin.

    Parameters
    ----------
    plan : MarginPlan
    columns : MarketColumns
        The market now, of the plan's contracts.
    holding : Holding
    underlying : int
        Index into ``contracts.underlyings`` of what moves.
    together : bool
        Move the underlyings of all derivatives, and this one, by the same fraction.
    smile : {"sticky_strike", "sticky_moneyness"}
    name, price : str, float
        What is quoted, and its price now.

    Raises
    ------
    MissingDataError
        If the market does not know an input of the account.
    """
    choice("smile", smile, SMILES)
    moving = np.zeros(len(plan.contracts.underlyings), np.bool_)
    moving[underlying] = True
    if together:
        moving[plan.contracts.underlying[len(plan.contracts.assets):]] = True
    search = _Search(plan, columns, holding, moving, smile)
    down, up = search.run()
    certified = search.proved and smile == SMILES[0] and _is_convex(plan, search.copies, moving)

    def at(move: float | None) -> tuple[float | None, float | None]:
        if move is None:
            return None, None
        return price * (1.0 + move), float(search.maintenance[np.searchsorted(search.x, move)])

    (down_price, down_maintenance), (up_price, up_maintenance) = at(down), at(up)
    return LiquidationPrice(name, price, unit, down_price, up_price, down, up, down_maintenance, up_maintenance,
                            together, smile, certified)


def _is_convex(plan: MarginPlan, copies: Copies | None, moving: npt.NDArray[np.bool_]) -> bool:
    """Whether the premises of the proof hold: requirements of known shape, no put whose payout currency moves too."""
    if any(stage.code not in CONCAVE_STAGES for stage in plan.stages):
        return False
    if any(type(addon) not in CONVEX_ADDONS for addon in plan.addons):
        return False
    if plan.scenarios is not None and any(plan.scenarios.surface):  # volatility then turns on moneyness
        return False
    if copies is None:
        return True
    contracts: Contracts = plan.contracts
    column = copies.column
    crossed = moving[contracts.settle[column]] & (contracts.inverse[column] == 0)
    return not bool((crossed & (contracts.kind[column] == OPTION) & (contracts.is_call[column] == 0)).any())


class _Search:
    """Excess of one row at a growing, sorted set of moves."""

    def __init__(self, plan: MarginPlan, columns: MarketColumns, holding: Holding, moving: npt.NDArray[np.bool_],
                 smile: str) -> None:
        held = holding.quantity != 0.0
        cash = len(plan.contracts.assets)
        self.proved = True
        self.x = np.zeros(1)
        self.maintenance = np.zeros(1)
        # Nothing but credit is never liquidated, though an empty account has no more equity than it needs.
        self.only_credit = bool((holding.instrument[held] < cash).all() and (holding.quantity[held] > 0.0).all())
        self.copies: Copies | None = None
        if self.only_credit:
            return
        self.copies = Copies(plan, columns, holding, moving, smile)
        self.ratio = math.fsum(stage.parameters[0] for stage in plan.stages if stage.code in LOSS_STAGES)
        self.shocked = self._shocked_moves(plan)
        self.balances = float(np.abs(holding.quantity[held & (holding.instrument < cash)] * columns.spot[
            holding.instrument[held & (holding.instrument < cash)]]).sum())
        self.x = FIRST
        self.seen = self.copies.move(FIRST)
        self._refresh()
        now = int(np.searchsorted(self.x, 0.0))
        if not np.isfinite(self.excess[now]):
            names = [plan.contracts.symbols[c] for c in holding.instrument[held]]
            faults = {name: why for name, why in columns.faults(plan.contracts.symbols).items() if name in names}
            raise MissingDataError("market must know every input of the account, unknown were "
                                   + (", ".join(f"{name} ({why})" for name, why in faults.items()) or "its spots"))

    def _shocked_moves(self, plan: MarginPlan) -> Floats:
        """Per leg the largest weighted move of its settlement asset, where scenarios move what is settled in it."""
        assert self.copies is not None
        settle = plan.contracts.settle[self.copies.column]
        if plan.scenarios is None:
            return np.zeros(settle.size)
        largest = np.abs(plan.scenarios.move * plan.scenarios.weight).max(axis=1)
        result: Floats = np.where(plan.shocked[settle] == 1, largest[settle], 0.0)
        return result

    def _refresh(self) -> None:
        self.maintenance = self.seen.maintenance
        self.excess = self.seen.equity - self.seen.maintenance

    def _add(self, points: Floats) -> None:
        assert self.copies is not None
        fresh = np.setdiff1d(points, self.x)
        new = self.copies.move(fresh)
        order = np.argsort(np.concatenate([self.x, fresh]), kind="stable")
        self.x = np.concatenate([self.x, fresh])[order]
        self.seen = Moved(*(np.concatenate(pair)[order] for pair in zip(self.seen, new, strict=True)))
        self._refresh()

    def run(self) -> tuple[float | None, float | None]:
        """First bad move below and above zero."""
        if self.only_credit:
            return None, None
        now = int(np.searchsorted(self.x, 0.0))
        if not self.excess[now] > 0.0:
            return 0.0, 0.0
        for _ in range(ROUNDS_MAX):
            low, high = self._bad()
            points = np.concatenate([self._inside(low, low + 1) if low >= 0 else np.empty(0),
                                     self._inside(high, high - 1) if high < self.x.size else np.empty(0),
                                     self._unproved(low, high)])
            if not points.size or self.x.size > POINTS_MAX:
                break
            self._add(points)
        low, high = self._bad()
        self.proved = self.proved and not self._open_intervals(low, high).size
        return (float(self.x[low]) if low >= 0 else None), (float(self.x[high]) if high < self.x.size else None)

    def _bad(self) -> tuple[int, int]:
        """Positions of the nearest points below and above zero that are not healthy: -1 and the length if none."""
        now = int(np.searchsorted(self.x, 0.0))
        bad = ~(self.excess > 0.0)
        below, above = np.flatnonzero(bad[:now]), np.flatnonzero(bad[now:])
        return (int(below[-1]) if below.size else -1), (int(above[0]) + now if above.size else self.x.size)

    def _inside(self, bad: int, good: int) -> Floats:
        """Moves between a bad and a good neighbour, dense around the root of their chord; none between neighbours."""
        a, b = self.x[bad], self.x[good]
        width, fall = b - a, self.excess[good] - self.excess[bad]
        root = a - width * self.excess[bad] / fall if np.isfinite(fall) and fall > 0.0 else 0.5 * (a + b)
        spread = width * np.array([0.1, 1e-2, 1e-4, 1e-7])
        points = np.concatenate([[0.5 * (a + b), root], root - spread, root + spread,
                                 np.linspace(a, b, 6) if abs(width) < 1e-11 else []])
        points = (1.0 + points) - 1.0  # only what 1 + move can tell apart
        factor = 1.0 + points
        between = (factor > min(1.0 + a, 1.0 + b)) & (factor < max(1.0 + a, 1.0 + b))
        return np.unique(points[between])

    def _unproved(self, low: int, high: int) -> Floats:
        """Points that split the intervals in which a root is not excluded yet."""
        left = self._open_intervals(low, high)
        if not left.size:
            return np.empty(0)
        a, b = self.x[left], self.x[left + 1]
        wide = b - a > NARROWEST
        if not wide.any():
            return np.empty(0)
        a, b = a[wide], b[wide]
        parts = 4 if a.size <= 8 else 2
        inner = np.arange(1, parts) / parts
        points: Floats = (a[:, None] + (b - a)[:, None] * inner).ravel()
        return points

    def _open_intervals(self, low: int, high: int) -> npt.NDArray[np.intp]:
        """Positions k of the intervals [k, k + 1] between the bad points in which a root is possible."""
        k = np.arange(max(low + 1, 0), min(high - 1, self.x.size - 1))
        if low >= 0:
            k = k[self.x[k + 1] - self.x[low] > NEAR]
        if high < self.x.size:
            k = k[self.x[high] - self.x[k] > NEAR]
        if not k.size:
            return k
        last = self.x.size - 1
        healthy = np.zeros(k.size, np.bool_)
        for before, near, far in ((k - 1, k, k + 1), (k + 2, k + 1, k)):
            known = np.flatnonzero((before >= 0) & (before <= last))
            near, far = near[known], far[known]
            gap, slack = self._gap(before[known], near, far)
            healthy[known] |= (self.excess[far] - gap > slack) & (self.excess[near] > slack)
        return k[~healthy]

    def _gap(self, before: npt.NDArray[np.intp], near: npt.NDArray[np.intp], far: npt.NDArray[np.intp]
             ) -> tuple[Floats, Floats]:
        """How far the excess at `far` may lie above its lower bound by lines through `before` and `near`, and slack."""
        assert self.copies is not None
        ratio = (self.x[far] - self.x[near]) / (self.x[near] - self.x[before])

        def above(table: Floats) -> Floats:
            times = ratio.reshape(-1, *[1] * (table.ndim - 1))
            return table[far] - table[near] - times * (table[near] - table[before])

        seen, quantity = self.seen, self.copies.quantity
        size = np.abs(quantity)
        value = np.abs(above(seen.value))
        rise = np.where(quantity[:, None] > 0.0, above(seen.risk + seen.base), above(seen.base))
        rise = np.where(self._futures()[:, None], above(seen.risk), rise)
        worst = np.abs(rise).max(axis=2) if rise.shape[2] else np.zeros(value.shape)
        gap = (size * (value * (1.0 + self.ratio * self.shocked) + self.ratio * worst)).sum(axis=1)
        gross = np.abs(seen.value) + self.ratio * (np.abs(seen.risk) + np.abs(seen.base)).max(axis=2, initial=0.0)
        total = self.balances * (1.0 + np.abs(self.x)) + (size * gross).sum(axis=1) + np.abs(seen.maintenance)
        slack = ROUNDING * (1.0 + np.abs(ratio)) * np.maximum(total[far], np.maximum(total[near], total[before]))
        return gap, slack

    def _futures(self) -> npt.NDArray[np.bool_]:
        assert self.copies is not None
        result: npt.NDArray[np.bool_] = self.copies.plan.contracts.kind[self.copies.contracts.kind.size
                                                                         - self.copies.column.size:] != OPTION
        return result
