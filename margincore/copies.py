"""One row of a book under many moves of the market at once: each move has its own copy of the row's columns.

The copies are columns of one small table, so that the market plane values all of them in one call and the margin kernel
checks them as rows of one small book: the very functions, and the very bits, of an engine whose market has moved.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from margincore.columns import MarketColumns
from margincore.contracts import OPTION, Contracts
from margincore.kernels import reval
from margincore.kernels.margin import MarginBook
from margincore.margin import MarginPlan
from margincore.revaluation import grown
from margincore.scenarios import ScenarioPlan
from margincore.units import Floats

ASSETS_MAX = 64  # of one book: the row loop of the margin kernel keeps them on the stack


class Holding(NamedTuple):
    """A row of a book, assets first or not, as `MarginBook.read` gives it."""

    instrument: npt.NDArray[np.int32]
    quantity: Floats
    entry: Floats


class Moved(NamedTuple):
    """What a row is worth and asks after moves; base currency.

    Attributes
    ----------
    equity, maintenance : float64 array, shape (moves,)
    value : float64 array, shape (moves, legs)
        Of one contract.
    risk, base : float64 array, shape (moves, legs, scenarios)
        Profit of one contract in each scenario, and what of an option's profit is its value before the shock.
    """

    equity: Floats
    maintenance: Floats
    value: Floats
    risk: Floats
    base: Floats


class Copies:
    """A row under up to `width` moves.

    Parameters
    ----------
    plan : MarginPlan
    columns : MarketColumns
        The market that moves.
    holding : Holding
    moving : bool array, shape (underlyings,)
        Which underlyings move.
    smile : str
        As in `moved`.

    Attributes
    ----------
    column, quantity : int32 and float64 array, shape (legs,)
        The derivatives held.
    """

    def __init__(self, plan: MarginPlan, columns: MarketColumns, holding: Holding, moving: npt.NDArray[np.bool_],
                 smile: str) -> None:
        full, cash = plan.contracts, len(plan.contracts.assets)
        legs = (holding.instrument >= cash) & (holding.quantity != 0.0)
        held = (holding.instrument < cash) & (holding.quantity != 0.0)
        self.column, self.quantity = holding.instrument[legs], holding.quantity[legs]
        underlying = full.underlying[self.column]
        # Assets that are underlyings stay assets, so that the groups of a row keep their order, and sums their bits.
        self.assets = np.unique(np.concatenate([holding.instrument[held], full.settle[self.column],
                                                underlying[underlying < cash]])).astype(np.intp)
        self.others = np.setdiff1d(full.underlying[self.column], self.assets).astype(np.intp)
        self.width = max(1, min(48, ASSETS_MAX // max(1, self.assets.size)))
        self.smile = smile
        self.names = np.concatenate([np.tile(self.assets, self.width), np.tile(self.others, self.width)])
        self.moves = moving[self.names]
        self.copy = np.concatenate([np.repeat(np.arange(self.width), self.assets.size),
                                    np.repeat(np.arange(self.width), self.others.size)])
        self.source = np.concatenate([np.tile(self.assets, self.width), np.tile(self.column, self.width)])
        self.contracts = self._contracts(full)
        self.plan = self._plan(plan)
        self.columns = self._columns(columns)
        self.book = self._book(holding, held, legs)

    def _contracts(self, full: Contracts) -> Contracts:
        assets, legs, width = self.assets.size, self.column.size, self.width
        result = Contracts.__new__(Contracts)
        result.assets = ("",) * (assets * width)
        result.underlyings = ("",) * self.names.size
        result.symbols = ("",) * self.source.size
        for name in ("kind", "multiplier", "strike", "expiry_ns", "inverse", "is_call"):
            setattr(result, name, np.ascontiguousarray(getattr(full, name)[self.source]))
        asset_at = np.searchsorted(self.assets, full.settle[self.column])
        place = np.full(len(full.underlyings), -1)
        place[self.assets] = np.arange(assets)
        place[self.others] = np.arange(self.others.size)
        underlying = full.underlying[self.column]
        is_asset = np.isin(underlying, self.assets)
        step = np.where(is_asset, assets, self.others.size)
        first = np.where(is_asset, 0, assets * width)
        copies = np.arange(width)[:, None]
        own = np.arange(assets * width)
        result.settle = np.concatenate([own, (asset_at + copies * assets).ravel()]).astype(np.int32)
        result.underlying = np.concatenate([own, (place[underlying] + first + copies * step).reshape(width * legs)
                                            ]).astype(np.int32)
        return result

    def _plan(self, plan: MarginPlan) -> MarginPlan:
        copies = np.concatenate([np.repeat(np.arange(self.width), self.assets.size),
                                 np.repeat(np.arange(self.width), self.column.size)])
        sets = plan.offset_set[self.source] + copies * len(plan.contracts.underlyings)
        stages = tuple(stage if stage.table is None or stage.code != "tiers"
                       else stage._replace(table=stage.table[self.source]) for stage in plan.stages)
        assets = np.tile(self.assets, self.width)
        return dataclasses.replace(
            plan, contracts=self.contracts, stages=stages, offset_set=sets.astype(np.int32), kept=plan.kept[assets],
            shocked=plan.shocked[assets], scenarios=None if plan.scenarios is None else self._scenarios(plan.scenarios))

    def _scenarios(self, plan: ScenarioPlan) -> ScenarioPlan:
        result = ScenarioPlan.__new__(ScenarioPlan)
        for name in ScenarioPlan.__slots__:
            value = getattr(plan, name)
            by_name = name in ("coin_growth", "coin_move", "growth", "limits", "log_growth", "move", "moving")
            setattr(result, name, np.ascontiguousarray(value[self.names]) if by_name else value)
        result.surface = tuple(plan.surface[at] for at in self.names)
        return result

    def _columns(self, columns: MarketColumns) -> MarketColumns:
        changes = {}
        for item in dataclasses.fields(columns):
            value = getattr(columns, item.name)
            if isinstance(value, np.ndarray):
                changes[item.name] = value[self.names if item.name == "spot" else self.source]
        return columns.replaced(**changes, surfaces=tuple(columns.surfaces[at] for at in self.names))

    def _book(self, holding: Holding, held: npt.NDArray[np.bool_], legs: npt.NDArray[np.bool_]) -> MarginBook:
        table, assets, width = self.contracts, self.assets.size, self.width
        slots = assets + self.column.size
        book = MarginBook(width, width * max(slots, 1), max(slots, 1), assets * width, self.plan.rank, table.settle,
                          table.kind, table.multiplier, table.inverse)
        book.set_plan(self.plan.stages)
        copies = np.arange(width)[:, None]
        cash = np.searchsorted(self.assets, holding.instrument[held]) + copies * assets
        own = np.arange(self.column.size) + assets * width + copies * self.column.size
        column = np.concatenate([cash, own], axis=1).astype(np.int32)
        price = np.concatenate([np.ones(int(held.sum())), self._prices(holding.entry[legs])])
        quantity = np.concatenate([holding.quantity[held], self.quantity])
        book.load(np.arange(width + 1, dtype=np.int64) * column.shape[1], column.ravel(), np.tile(quantity, width),
                  np.tile(price, width))
        return book

    def _prices(self, entry: Floats) -> Floats:
        """Prices at which trades leave the same entry sums; an option is paid, at 0 it moves no cash."""
        first = self.assets.size * self.width
        own = slice(first, first + entry.size)
        multiplier, inverse = self.contracts.multiplier[own], self.contracts.inverse[own] == 1
        future = self.contracts.kind[own] != OPTION
        per_contract = np.where(future, entry / self.quantity, 1.0)
        price = np.where(inverse, -multiplier / per_contract, per_contract / multiplier)
        for step in (0, 1, -1, 2, -2):  # the rounding of the way back is undone where one of the next doubles does it
            near = price + step * np.spacing(price)
            again = self.quantity * np.where(inverse, -multiplier / near, multiplier * near)
            price = np.where(again == entry, near, price)
        return np.where(future, price, 0.0)

    def move(self, by: Floats) -> Moved:
        """The row after each of any number of moves, relative, above -1."""
        parts = [self._move(by[first:first + self.width]) for first in range(0, by.size, self.width)]
        return Moved(*(np.concatenate(group) for group in zip(*parts, strict=True)))

    def _move(self, by: Floats) -> Moved:
        width, count, legs = self.width, by.size, self.column.size
        each = np.concatenate([by, np.full(width - count, by[-1])])
        market = grown(self.contracts, self.columns, np.where(self.moves, 1.0 + each[self.copy], 1.0), smile=self.smile)
        tick = self.plan.tick(market)
        self.book.set_market(*tick)
        status, equity, initial, maintenance = np.zeros(width, np.uint8), *np.zeros((3, width))
        self.book.check_range(0, width, status, equity, initial, maintenance)
        first = self.assets.size * width
        settle = self.contracts.settle[first:]
        value = (tick.value[first:] * market.spot[settle]).reshape(width, legs)
        risk = tick.risk[first:].reshape(width, legs, tick.risk.shape[1])
        return Moved(equity[:count], maintenance[:count], value[:count], risk[:count],
                     self._base(market, risk.shape[2])[:count])

    def _base(self, market: MarketColumns, scenarios: int) -> Floats:
        """What each scenario's profit of an option is counted from: its Black-76 value after the move alone."""
        first, plan, table = self.assets.size * self.width, self.plan.scenarios, self.contracts
        base = np.zeros((self.width, self.column.size, scenarios))
        if plan is None or not base.size:
            return base
        mark = np.zeros(self.source.size)
        reval.option_marks(table, market.forward, market.years, market.sigma, market.discount, mark)
        settle = table.settle[first:]
        price = market.spot[settle, None] * plan.weight[:scenarios]
        if self.plan.conversion == "shocked":
            moving = plan.moving[settle] | (self.plan.shocked[settle] == 1)
            price = np.where(moving[:, None], price * plan.growth[settle, :scenarios], price)
        base[:] = ((mark * table.multiplier)[first:, None] * price).reshape(base.shape)
        return base
