"""The engine: one market, one model, many accounts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.account import Account
from margincore.columns import MarketColumns
from margincore.contracts import Contract, Contracts, Future, Option, Spot
from margincore.errors import CapacityError, MissingDataError, RangeError, ShapeError, UnknownInstrument
from margincore.events import funding_amount, settlements
from margincore.kernels.margin import MarginBook
from margincore.kernels.stage import Plan
from margincore.margin import MarginModel, MarginPlan
from margincore.market import MarketState
from margincore.portfolio import Portfolio
from margincore.report import Leg, MarginReport, leg_arrays, margin_table, parts_of, set_losses
from margincore.snapshot import restored, saved
from margincore.units import Status, floats, indices, integer, mapping, number


class Engine:
    """Positions and balances of many accounts, margined by one model over one market.

    Parameters
    ----------
    contracts : Contracts
    model : MarginModel
        `ScenarioMargin`, `TieredMargin` or any object with ``resolve(contracts) -> MarginPlan``.
    base : str
        Currency of equity and requirements, the one that `MarketState.spot` is in.  Where it is an asset of the
        contracts its spot is 1.
    accounts : int
        Capacity: accounts open at once, isolated ones included.
    positions : int
        Capacity: positions and balances per account on average.
    age_max_ns : int, optional
        Oldest input of the market that counts; an older one makes the accounts that hold it UNKNOWN.
    """

    __slots__ = ("_expiring", "_named", "_names", "_scratch", "age_max_ns", "base", "book", "columns",
                 "contracts", "fast_column", "isolated_rows", "market", "model", "plan", "settled")

    def __init__(self, contracts: Contracts, model: MarginModel, *, base: str = "USD", accounts: int = 1_000,
                 positions: int = 16, age_max_ns: int | None = None) -> None:
        if not isinstance(contracts, Contracts):
            raise RangeError(f"contracts must be Contracts, was {contracts!r}")
        accounts = integer("accounts", accounts, least=1, most=10**9)
        positions = integer("positions", positions, least=2, most=1_000)
        self.age_max_ns = None if age_max_ns is None else integer("age_max_ns", age_max_ns, least=0)
        if not isinstance(base, str) or not base:
            raise RangeError(f"base must be the name of a currency, was {base!r}")
        self.base = base
        self.contracts = contracts
        self.model = model
        self.plan = _resolved(model, contracts)
        first = min(4, positions)
        try:
            self.book = MarginBook(accounts + 1, (accounts + 1) * positions, first, *self.plan.book_columns)
        except MemoryError:
            raise CapacityError(f"accounts times positions must fit into memory, were {accounts} x {positions}"
                                ) from None
        self.book.set_plan(self.plan.stages)
        self._scratch = self.book.open()           # an empty row: portfolios are asked about on top of it
        self.market: MarketState | None = None
        self.columns: MarketColumns | None = None
        self.settled: set[str] = set()
        self._list()
        self._names: dict[int, str] = {}
        self._named: dict[str, int] = {}
        self.isolated_rows: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"Engine({self.contracts!r}, {type(self.model).__name__}, {len(self._names)} accounts)"

    def __reduce__(self) -> tuple[Any, ...]:        # copies, and pickles for another process
        return restored, (Engine, *saved(self))

    # ---- market

    def update(self, market: MarketState) -> None:
        """Take one observation: reprice every instrument in every scenario.  Accounts are not touched.

        Raises
        ------
        RangeError
            If the observation is older than the last one.
        """
        if not isinstance(market, MarketState):
            raise RangeError(f"market must be a MarketState, was {market!r}")
        if self.market is not None and market.now_ns < self.market.now_ns:
            raise RangeError(f"now_ns must not go back behind {self.market.now_ns}, was {market.now_ns}")
        if self.base in self.contracts.underlyings:
            known = market.spot.get(self.base)
            if known is None:
                market = dataclasses.replace(market, spot={**market.spot, self.base: 1.0})
            elif known != 1.0:
                raise RangeError(f"spot[{self.base!r}] must be 1 in the base currency, was {known!r}")
        columns = market.resolve(self.contracts, age_max_ns=self.age_max_ns)
        self.book.set_market(*self.plan.tick(columns))
        self.market, self.columns = market, columns
        for symbol in [s for s, at in self._expiring.items() if at <= market.now_ns]:
            del self._expiring[symbol]
            self.fast_column.pop(symbol, None)

    def mark(self, symbol: str) -> float:
        """Mark of a derivative, or price of a pair, in its own units."""
        item, columns = self.tradable(symbol), self.columns
        price = math.nan
        if columns is not None and isinstance(item, Spot):
            names = self.contracts.underlyings
            price = float(columns.spot[names.index(item.underlying)] / columns.spot[names.index(item.settle)])
        elif columns is not None:
            price = float(columns.mark[self.contracts.column[symbol]])
        if not math.isfinite(price):
            raise MissingDataError(f"price must be given, the market has no mark for {symbol!r}")
        return price

    # ---- accounts

    def open(self, name: str, *, leverage: float | None = None) -> Account:
        """Open an account; `leverage` caps what tiers allow (initial margin is at least notional / leverage)."""
        if not isinstance(name, str) or not name:
            raise RangeError(f"name must be a non-empty text, was {name!r}")
        if name in self._named:
            raise RangeError(f"name must be new, {name!r} is open")
        rate = 0.0 if leverage is None else 1.0 / number("leverage", leverage, least=1.0)
        return self._open(name, rate, -1)

    def open_with(self, name: str, portfolio: Portfolio) -> Account:
        """Open an account that holds a portfolio: positions without an entry price at the mark, options paid."""
        legs = self._legs(portfolio)
        account = self.open(name)
        try:
            self.book.what_if_many(account.row, *leg_arrays(legs), bounded=True)
        except BaseException:
            account.close()
            raise
        for leg in legs:
            if leg[0] < len(self.contracts.assets):
                self.book.deposit(account.row, leg[0], leg[1])
            else:
                self.book.trade(account.row, *leg)
        return account

    def _open(self, name: str, rate: float, parent: int) -> Account:
        row = self.book.open(rate, parent)
        self._names[row] = name
        self._named[name] = row
        return Account(self, row, self.book.generation(row))

    def open_isolated(self, account: Account, symbol: str) -> Account:
        """The isolated sub-account of `account` for one derivative, opened on first use."""
        parent = account._live()
        for row, alone in self.isolated_rows.items():
            if alone == symbol and self.book.parent(row) == parent:
                return self.account(row)
        self.derivative(symbol)
        if parent in self.isolated_rows:
            raise RangeError(f"account must not be isolated itself, was {account!r}")
        name = f"{account.name}/{symbol}"
        if name in self._named:
            raise RangeError(f"name must be new, {name!r} is open and belongs to another account")
        isolated = self._open(name, self.book.initial_rate(parent), parent)
        self.isolated_rows[isolated.row] = symbol
        return isolated

    def account(self, name: str | int) -> Account:
        """The open account of a name, or of a row number."""
        row = self._named.get(name, -1) if isinstance(name, str) else name
        known = isinstance(row, (int, np.integer)) and not isinstance(row, bool) and 0 <= row < self.book.rows_used
        if not known or row == self._scratch or not self.book.generation(row) & 1:
            raise UnknownInstrument(f"name must be an open account, was {name!r}")
        return Account(self, int(row), self.book.generation(row))

    def accounts(self, mask: npt.NDArray[np.bool_] | None = None) -> list[Account]:
        """Every open account, or those that a mask over the rows of `margin()` selects."""
        rows = self.rows()
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape != rows.shape or mask.dtype != bool:
                raise ShapeError(f"mask must hold one bool per account, shape {rows.shape}, had {mask.dtype}, shape "
                                 f"{mask.shape}")
            rows = rows[mask]
        return [self.account(int(row)) for row in rows]

    def rows(self) -> npt.NDArray[np.int64]:
        """Row numbers of the open accounts, ascending."""
        rows = self.book.open_rows()
        listed: npt.NDArray[np.int64] = rows[rows != self._scratch]
        return listed

    def name_of(self, row: int) -> str:
        """Name of the account in a row; rows that were loaded in bulk are called by their number."""
        return self._names.get(row, str(row))

    def close(self, account: Account) -> None:
        """Close an account that holds nothing and has no isolated sub-account."""
        if not isinstance(account, Account) or account.engine is not self:
            raise RangeError(f"account must be an account of this engine, was {account!r}")
        row = account._live()
        for other in self.isolated_rows:
            if self.book.parent(other) == row:
                raise RangeError(f"account must have no isolated sub-account, {self.name_of(other)!r} is open")
        self.book.close(row)
        self.isolated_rows.pop(row, None)
        name = self._names.pop(row, None)
        if name is not None:
            del self._named[name]

    def load(self, start: npt.ArrayLike, column: npt.ArrayLike, quantity: npt.ArrayLike,
             price: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Open many accounts in one call; returns their row numbers.

        Parameters
        ----------
        start : int64 array, shape (accounts + 1,)
            Offsets of each account into the entries.
        column : int32 array, shape (entries,)
            `Contracts.column` of each entry.
        quantity : float64 array, shape (entries,)
            Contracts, signed; in an asset's column, a deposit.
        price : float64 array, shape (entries,)
            Entry price; anything finite in an asset's column.
        """
        before = self.book.rows_used
        first = self.book.load(indices("start", start, np.int64), indices("column", column, np.int32),
                               floats("quantity", quantity, finite=False, empty=True),
                               floats("price", price, finite=False, empty=True))
        return np.arange(first, first + self.book.rows_used - before, dtype=np.int64)

    # ---- answers

    def margin(self, portfolio: Portfolio | None = None, *, threads: int = 1) -> Any:
        """Without argument, the table of every account; of a portfolio, its report, without an account.

        Parameters
        ----------
        portfolio : Portfolio, optional
        threads : int
            Threads over disjoint rows; the result is the same to the bit.

        Returns
        -------
        MarginTable or MarginReport
        """
        if portfolio is not None:
            return self.report(self._scratch, self._legs(portfolio))
        return margin_table(self.book, self.rows(), integer("threads", threads, least=1, most=256))

    def breached(self, *, include_unknown: bool = False, threads: int = 1) -> list[Account]:
        """Accounts in LIQUIDATION, in row order; with `include_unknown` also those that nothing is known of."""
        table = self.margin(threads=threads)
        mask = table.status == Status.LIQUIDATION
        if include_unknown:
            mask |= table.status == Status.UNKNOWN
        return self.accounts(mask)

    def report(self, row: int, legs: list[Leg]) -> MarginReport:
        """Report of a row after trades and deposits ``(column, quantity, price, fee)``; nothing is written."""
        arrays, book = leg_arrays(legs), self.book
        equity, initial, maintenance, status, amounts = book.what_if_many(row, *arrays)
        instrument, exposure, asset_equity = book.explain(row, *arrays[:3])
        assets = {name: float(x) for name, x in zip(self.contracts.assets, asset_equity, strict=True) if x != 0.0}
        return MarginReport(equity, initial, maintenance, Status(status),
                            parts_of(book.stages, amounts, initial, maintenance),
                            set_losses(book, self.plan, instrument.tolist(), exposure.tolist()), assets, self.base)

    def _legs(self, portfolio: Portfolio) -> list[Leg]:
        if not isinstance(portfolio, Portfolio):
            raise RangeError(f"portfolio must be a Portfolio, was {portfolio!r}")
        legs = [(self.contracts.asset_column(asset), x, 1.0, 0.0) for asset, x in portfolio.balances.items()]
        for symbol, quantity in portfolio.positions.items():
            item = self.tradable(symbol)
            if quantity == 0.0:
                continue
            if isinstance(item, Spot):
                raise RangeError(f"positions must be derivatives, {symbol!r} is a pair: give its assets as balances")
            column = self.contracts.column[symbol]
            price = 0.0                            # an option is paid already: entering it at 0 moves no cash
            if not isinstance(item, Option):
                mark = math.nan if self.columns is None else float(self.columns.mark[column])
                price = portfolio.entry.get(symbol, mark)
                price = price if math.isfinite(price) else 1.0      # the account is UNKNOWN whatever the entry
            legs.append((column, quantity, price, 0.0))
        return legs

    # ---- events

    def apply_funding(self, rates: Mapping[str, float]) -> None:
        """Exchange funding at the current marks: longs pay ``rate * value`` of the settlement asset, shorts receive it.

        Parameters
        ----------
        rates : mapping of str to float
            Rate of the period by perpetual, a fraction of the position's value; negative when shorts pay.
        """
        self.book.fund_all({
            self.contracts.column_of(symbol): funding_amount(self.tradable(symbol), rate, self.mark(symbol))
            for symbol, rate in mapping("rates", rates).items()})

    def settle(self, prices: Mapping[str, float], *, expiry_ns: int | None = None) -> int:
        """Settle futures and options into cash and retire them; returns the number of positions settled.

        Parameters
        ----------
        prices : mapping of str to float
            Settlement price in quote currency, of the underlying, positive: by symbol, or with `expiry_ns` by
            underlying, which settles everything of it that expires then.
        expiry_ns : int, optional
        """
        items = settlements(self.contracts, self.settled, mapping("prices", prices), expiry_ns)
        settled = self.book.settle_all({self.contracts.column[symbol]: value for symbol, value in items.items()})
        self.settled.update(items)
        for symbol in items:
            self.fast_column.pop(symbol, None)
        return settled

    def relist(self, contracts: Contracts) -> None:
        """Replace the contracts: settled columns are freed, new ones added, positions keep their symbols.

        Every contract that is still held must be in the new table unchanged, and every asset too.  Prices are unknown
        until the next `update`.
        """
        if not isinstance(contracts, Contracts):
            raise RangeError(f"contracts must be Contracts, was {contracts!r}")
        plan = self.model.resolve(contracts)
        target = np.full(len(self.contracts), -1, np.int32)
        for symbol, column in self.contracts.column.items():
            if symbol in contracts.column and symbol not in self.settled:
                changed = contracts.by_symbol.get(symbol)
                if self.contracts.by_symbol.get(symbol) != changed:
                    raise RangeError(f"contracts must keep {symbol!r} as it is, was {changed!r}")
                target[column] = contracts.column[symbol]
            elif self.book.holders(column):
                raise RangeError(f"contracts must keep {symbol!r}, which is held")
        self.book.remap(target, *plan.book_columns)
        self.book.set_plan(plan.stages)
        self.book.forget_market()
        self.contracts, self.plan, self.columns = contracts, plan, None
        self.settled = set()
        self._list()

    def set_model(self, model: MarginModel) -> None:
        """Margin every account by another model, or the same one with volatilities of today; the last market holds."""
        plan = _resolved(model, self.contracts)
        Plan(len(self.contracts), len(self.contracts.assets), plan.stages)       # refuses before anything is written
        tick = None if self.columns is None else plan.tick(self.columns)
        self.book.remap(np.arange(len(self.contracts), dtype=np.int32), *plan.book_columns)
        self.book.set_plan(plan.stages)
        self.model, self.plan = model, plan
        if tick is not None:
            self.book.set_market(*tick)

    # ---- inside

    def _list(self) -> None:
        """Columns that can be traded, and when they expire."""
        self.fast_column = {item.symbol: self.contracts.column[item.symbol] for item in self.contracts.derivatives}
        self._expiring = {item.symbol: item.expiry_ns for item in self.contracts.derivatives
                          if isinstance(item, (Future, Option))}

    def derivative(self, symbol: str) -> int:
        """Column of a derivative that can be traded."""
        if isinstance(self.tradable(symbol), Spot):
            raise UnknownInstrument(f"symbol must be a derivative, {symbol!r} is a pair")
        return self.contracts.column[symbol]

    def tradable(self, symbol: str) -> Contract:
        """The contract of a symbol; `UnknownInstrument` when there is none, or it was settled or has expired."""
        item = self.contracts.by_symbol.get(symbol) if isinstance(symbol, str) else None
        if item is None:
            raise UnknownInstrument(f"symbol must be one of these contracts, was {symbol!r}")
        if symbol in self.settled:
            raise UnknownInstrument(f"symbol must not be settled, {symbol!r} was")
        expiry_ns = getattr(item, "expiry_ns", None)
        if expiry_ns is not None and self.market is not None and expiry_ns <= self.market.now_ns:
            raise RangeError(f"symbol must be live, {symbol!r} expired at {expiry_ns}, it is {self.market.now_ns}")
        return item

    def check_isolated(self, row: int, symbol: str) -> None:
        """Refuse what an isolated account must not trade."""
        if self.isolated_rows.get(row, symbol) != symbol:
            raise RangeError(f"symbol must be {self.isolated_rows[row]!r} in this isolated account, was {symbol!r}")


def _resolved(model: MarginModel, contracts: Contracts) -> MarginPlan:
    if not callable(getattr(model, "resolve", None)):
        raise RangeError(f"model must have resolve(contracts), was {model!r}")
    return model.resolve(contracts)
