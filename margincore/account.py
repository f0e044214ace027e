"""An account: a view of one row of the engine's book, which owns nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from margincore.attribution import ScenarioProfit, scenario_profit
from margincore.contracts import Future, Option, Perpetual, Spot
from margincore.copies import Holding
from margincore.distance import LiquidationPrice, liquidation_prices
from margincore.errors import MarginError, MissingDataError, RangeError, StaleAccount
from margincore.kernels.hot import HotRow
from margincore.portfolio import Portfolio
from margincore.report import Leg, MarginReport, WhatIf, leg_arrays
from margincore.units import Side, Status, number

if TYPE_CHECKING:
    from margincore.engine import Engine

HEALTHY = int(Status.HEALTHY)
QUANTITY_MAX = 1e12
PLAIN = {float, int, np.float64}


class Account:
    """A view of one account: (engine, row, generation).

    Made by `Engine.open` and `Engine.account`.  Once the account is closed every use raises `StaleAccount`.
    """

    __slots__ = ("engine", "generation", "row")

    def __init__(self, engine: Engine, row: int, generation: int) -> None:
        self.engine = engine
        self.row = row
        self.generation = generation

    def _live(self) -> int:
        if self.engine.book.generation(self.row) != self.generation:
            raise StaleAccount(f"account must be open, row {self.row} was closed")
        return self.row

    def __repr__(self) -> str:
        return f"Account({self.name!r}, row {self.row})"

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Account) and other.engine is self.engine and other.row == self.row
                and other.generation == self.generation)

    def __hash__(self) -> int:
        return hash((id(self.engine), self.row, self.generation))

    @property
    def name(self) -> str:
        """Name under which the account was opened."""
        return self.engine.name_of(self.row)

    # ---- what it holds

    def balance(self, asset: str) -> float:
        """Units of an asset; profit that is not realised is not in it."""
        return self.engine.book.quantity(self._live(), self.engine.contracts.asset_column(asset))

    def position(self, symbol: str) -> float:
        """Contracts held of a derivative, signed."""
        return self.engine.book.quantity(self._live(), self.engine.contracts.derivative_column(symbol))

    @property
    def portfolio(self) -> Portfolio:
        """Snapshot of positions, balances and entry prices."""
        contracts = self.engine.contracts
        instrument, quantity, entry, _, _ = self.engine.book.read(self._live())
        positions, balances, entries = {}, {}, {}
        for c, q, e in zip(instrument.tolist(), quantity.tolist(), entry.tolist(), strict=True):
            if c < len(contracts.assets):
                balances[contracts.symbols[c]] = q
            elif q != 0.0:
                positions[contracts.symbols[c]] = q
                item = contracts.by_symbol[contracts.symbols[c]]
                if not isinstance(item, (Option, Spot)):
                    per_contract = e / q / item.multiplier
                    entries[item.symbol] = -1.0 / per_contract if item.inverse else per_contract
        return Portfolio(positions, balances, entries)

    def orders(self) -> dict[str, tuple[float, float]]:
        """Resting contracts to buy and to sell by symbol."""
        instrument, _, _, buy, sell = self.engine.book.read(self._live())
        symbols = self.engine.contracts.symbols
        return {symbols[c]: (b, s) for c, b, s in zip(instrument.tolist(), buy.tolist(), sell.tolist(), strict=True)
                if b != 0.0 or s != 0.0}

    # ---- what changes it

    def deposit(self, asset: str, amount: float) -> None:
        """Add `amount` units, positive, to the balance of an asset."""
        row, column = self._live(), self.engine.contracts.asset_column(asset)
        self.engine.book.deposit(row, column, number("amount", amount, above=0.0))

    def withdraw(self, asset: str, amount: float) -> None:
        """Take `amount` units, positive, of an asset.

        Raises
        ------
        RangeError
            If the balance does not cover it, or the account would not be healthy afterwards.
        """
        self.engine.book.deposit(*self._withdrawal(asset, amount))

    def _withdrawal(self, asset: str, amount: float) -> tuple[int, int, float]:
        """Row, column and (negative) amount of a withdrawal that is allowed."""
        row, column = self._live(), self.engine.contracts.asset_column(asset)
        amount = number("amount", amount, above=0.0)
        held = self.engine.book.quantity(row, column)
        if not amount <= held:
            raise RangeError(f"amount must be at most the balance of {held!r} {asset}, was {amount!r}")
        status = self._after([(column, -amount, 1.0, 0.0)]).status
        if status is not Status.HEALTHY and not self._only_credit():
            raise RangeError(f"amount must leave the account HEALTHY, {amount!r} {asset} would leave it {status.name}")
        return row, column, -amount

    def _only_credit(self) -> bool:
        """No position, no order, no debt: nothing that margin could be for, whatever the prices."""
        instrument, quantity, _, _, _ = self.engine.book.read(self.row)
        return bool((instrument < len(self.engine.contracts.assets)).all() and (quantity >= 0.0).all())

    def transfer(self, to: Account, asset: str, amount: float) -> None:
        """Move `amount` units of an asset to another account of the same engine, under the rules of `withdraw`."""
        if not isinstance(to, Account) or to.engine is not self.engine:
            raise RangeError(f"to must be an account of the same engine, was {to!r}")
        to._live()
        withdrawal = self._withdrawal(asset, amount)
        if to != self:
            to.deposit(asset, amount)              # may have no room; what leaves is allowed already
            self.engine.book.deposit(*withdrawal)

    def trade(self, symbol: str, quantity: float, *, price: float, fee: float = 0.0) -> None:
        """Record a fill: `quantity` contracts, signed, at `price` in the contract's own units.

        Futures realise profit at average cost; the premium of an option moves at once; a `Spot` exchanges two balances.
        `fee` is paid in the settlement asset.  A fill is a fact: margin is not checked, ask `can_trade` before.
        """
        row, engine = self._live(), self.engine
        quantity, fee = number("quantity", quantity), number("fee", fee)
        item = engine.tradable(symbol)
        engine.check_isolated(row, symbol)
        price = number("price", price, least=0.0)
        if quantity == 0.0:
            raise RangeError("quantity must not be zero, was 0.0")
        if not isinstance(item, Spot):
            if price == 0.0 and not isinstance(item, Option):
                raise RangeError(f"price must be above 0 for {symbol!r}, was {price!r}")
            engine.book.trade(row, engine.contracts.column[symbol], quantity, price, fee)
            return
        if price == 0.0:
            raise RangeError(f"price must be above 0 for {symbol!r}, was {price!r}")
        bought, paid = engine.contracts.asset_column(item.underlying), engine.contracts.asset_column(item.settle)
        self._after([(bought, quantity, 1.0, 0.0), (paid, -quantity * price - fee, 1.0, 0.0)])
        engine.book.deposit(row, bought, quantity)
        engine.book.deposit(row, paid, -quantity * price - fee)

    def set_orders(self, symbol: str, *, buy: float = 0.0, sell: float = 0.0) -> None:
        """State all resting orders in a derivative: contracts to buy and to sell; replaces what was stated before."""
        row, column = self._live(), self.engine.contracts.derivative_column(symbol)
        buy, sell = number("buy", buy, least=0.0), number("sell", sell, least=0.0)
        if buy != 0.0 or sell != 0.0 or symbol in self.engine.settled:   # what has expired can be cancelled
            self.engine.tradable(symbol)
        self.engine.check_isolated(row, symbol)
        self.engine.book.set_orders(row, column, buy, sell)

    def isolated(self, symbol: str) -> Account:
        """The sub-account whose margin stands for one derivative alone, opened on first use.

        It has its own balances (`transfer`), its own status, and trades only this symbol.
        """
        return self.engine.open_isolated(self, symbol)

    def close(self) -> None:
        """Close the account, which must hold nothing; every handle to it becomes stale."""
        self.engine.close(self)

    # ---- what it answers

    @property
    def status(self) -> Status:
        """Status now."""
        return Status(self.engine.book.status(self._live()))

    def margin(self) -> MarginReport:
        """Equity, requirement and status now, explained."""
        return self.engine.report(self._live(), [])

    def scenario_profit(self) -> ScenarioProfit:
        """Profit of every holding in every scenario, base currency, to measure, explain or say how sure a measure is.

        Examples
        --------
        >>> import margincore as mc
        >>> contracts = mc.Contracts([mc.Perpetual("BTC-PERP", underlying="BTC", settle="USDC")])
        >>> model = mc.VarMargin(mc.historical({"BTC": [100.0, 90.0, 99.0, 98.0]}), mc.ExpectedShortfall(0.5))
        >>> engine = mc.Engine(contracts, model)
        >>> engine.update(mc.MarketState(now_ns=1, spot={"BTC": 100.0, "USDC": 1.0}, mark={"BTC-PERP": 100.0}))
        >>> alice = engine.open_with("alice", mc.Portfolio({"BTC-PERP": 2.0}, {"USDC": 50.0}))
        >>> found = alice.scenario_profit()
        >>> found.symbols, found.total.round(2).tolist()
        (('BTC-PERP',), [-20.0, 20.0, -2.02])
        >>> bool(mc.estimate(found.total, model.measure).value == alice.margin().maintenance)
        True
        >>> [item.name for item in mc.explain(found.pnl, model.measure, scenario_names=found.scenarios).tail]
        ['move 1', 'move 3']
        """
        engine = self.engine
        held, exposure, _ = engine.book.explain(self._live(), *leg_arrays([])[:3])
        return scenario_profit(engine.book, engine.plan, held.tolist(), exposure.tolist())

    def can_trade(self, symbol: str, quantity: float, *, price: float, fee: float = 0.0) -> bool:
        """Whether the account would be healthy after this fill; nothing is written.

        The same decision as `trade` followed by `status`, always.  Trades that reduce risk but leave it short of
        initial margin are refused too; `what_if` shows the figures.
        """
        book, engine = self.engine.book, self.engine
        if book.generation(self.row) != self.generation:
            raise StaleAccount(f"account must be open, row {self.row} was closed")
        try:
            column = engine.fast_column.get(symbol)
            if column is None or (engine.isolated_rows and self.row in engine.isolated_rows):
                return self._asked(symbol, quantity, price, fee)
            # the kernel would take True for 1.0
            if not (type(quantity) is type(price) is type(fee) is float
                    or {type(quantity), type(price), type(fee)} <= PLAIN):
                quantity, price, fee = number("quantity", quantity), number("price", price), number("fee", fee)
            return book.what_if(self.row, column, quantity, price, fee) == HEALTHY
        except (MarginError, TypeError, OverflowError):
            return self._asked(symbol, quantity, price, fee)      # names what was wrong

    def _asked(self, symbol: str, quantity: float, price: float, fee: float) -> bool:
        self.engine.tradable(symbol)
        return self.what_if(symbol, quantity, price=number("price", price, least=0.0), fee=fee).allowed

    def hot(self) -> HotRow:
        """The account for an order gateway: its profit over the scenarios is kept, for a model with a tail.

        ``hot.what_if(column, quantity, price)`` answers as ``engine.book.what_if``, with a status code, and always the
        same one; `Contracts.column` gives the column.  One thread at a time may use it.
        """
        return HotRow(self.engine.book, self._live())

    def what_if(self, symbol: str | Iterable[tuple[str, float, float | None]], quantity: float | None = None, *,
                price: float | None = None, fee: float = 0.0) -> WhatIf:
        """Equity, requirement and status before and after one fill or several; nothing is written.

        Parameters
        ----------
        symbol : str or iterable of (symbol, quantity, price)
        quantity : float
            Contracts, signed; only with a single symbol.
        price : float, optional
            The mark when omitted.
        fee : float
            Settlement asset, only with a single symbol.
        """
        row = self._live()
        if isinstance(symbol, str):
            if quantity is None:
                raise RangeError("quantity must be given with a symbol, was None")
            orders: list[tuple[str, float, float | None]] = [(symbol, quantity, price)]
        else:
            if quantity is not None or price is not None or fee != 0.0:
                raise RangeError("quantity, price and fee must be inside the orders when several are given")
            orders = _orders(symbol)
        legs = [leg for order in orders for leg in self._legs(*order, number("fee", fee))]
        equity, initial, maintenance, status = self.engine.book.check(row)
        after = self._after(legs)
        return WhatIf((equity, initial, maintenance), after.figures, Status(status), after.status)

    def max_quantity(self, symbol: str, side: Side | int, *, price: float | None = None, lot: float | None = None,
                     ) -> float:
        """Largest number of contracts, at least 0, that `can_trade` allows on one side.

        Sizes are tested upwards until one is refused, then the border is searched; an order that closes the position is
        tested first, since it may be allowed where a small one is not.  With `lot` the answer is a multiple of it.
        """
        if not isinstance(side, int) or isinstance(side, bool) or side not in (1, -1):
            raise RangeError(f"side must be Side.BUY or Side.SELL, was {side!r}")
        item = self.engine.tradable(symbol)
        price = self.engine.mark(symbol) if price is None else number("price", price, least=0.0)
        step = 1e-9 if lot is None else number("lot", lot, above=0.0)
        held = 0.0 if isinstance(item, Spot) else self.position(symbol)

        def allowed(lots: int) -> bool:
            return self.can_trade(symbol, int(side) * lots * step, price=price)

        closing = int(abs(held) / step) if held * int(side) < 0.0 else 0
        low = closing if closing > 0 and allowed(closing) else 0
        reach = max(1, low)
        while low + reach <= QUANTITY_MAX / step and allowed(low + reach):
            low, reach = low + reach, 2 * reach
        high = low + reach
        while high - low > max(1, int(low * 1e-15)):
            middle = (low + high) // 2
            if allowed(middle):
                low = middle
            else:
                high = middle
        return low * step

    def liquidation_price(self, name: str, *, together: bool = False, smile: str = "sticky_strike") -> LiquidationPrice:
        """Prices below and above at which the whole account meets its maintenance margin, None where there is none.

        Parameters
        ----------
        name : str
            Underlying that moves, or a derivative of it; a perpetual's or future's price is quoted by its mark, an
            option's by its underlying's spot.
        together : bool
            Move the underlyings of all derivatives by the same fraction; otherwise the others stand still.
        smile : {"sticky_strike", "sticky_moneyness"}
            Where volatilities are read after the move.

        Returns
        -------
        LiquidationPrice

        Raises
        ------
        MissingDataError
            If the market does not know an input of the account.
        """
        row, engine = self._live(), self.engine
        contracts = engine.contracts
        if engine.columns is None:
            raise MissingDataError("market must be known: call update first")
        item = None if isinstance(name, str) and name in contracts.underlyings else engine.tradable(name)
        underlying = contracts.underlyings.index(name if item is None else item.underlying)
        quoted = item.symbol if isinstance(item, (Perpetual, Future)) else contracts.underlyings[underlying]
        if contracts.underlyings[underlying] == engine.base:
            raise RangeError(f"name must not be the base currency, was {name!r}")
        price, unit = (float(engine.columns.spot[underlying]), engine.base) if quoted in contracts.underlyings else (
            engine.mark(quoted), "quote")
        return liquidation_prices(engine.plan, engine.columns, Holding(*engine.book.read(row)[:3]), underlying,
                                  together=together, smile=smile, name=quoted, price=price, unit=unit)

    # ---- inside

    def _legs(self, symbol: str, quantity: float, price: float | None, fee: float) -> list[Leg]:
        item = self.engine.tradable(symbol)
        self.engine.check_isolated(self.row, symbol)
        quantity = number("quantity", quantity)
        price = self.engine.mark(symbol) if price is None else number("price", price, least=0.0)
        if quantity == 0.0:
            raise RangeError("quantity must not be zero, was 0.0")
        if isinstance(item, Spot):
            contracts = self.engine.contracts
            return [(contracts.asset_column(item.underlying), quantity, 1.0, 0.0),
                    (contracts.asset_column(item.settle), -quantity * price - fee, 1.0, 0.0)]
        return [(self.engine.contracts.column[symbol], quantity, price, fee)]

    def _after(self, legs: list[Leg]) -> _Figures:
        book = self.engine.book
        equity, initial, maintenance, status, _ = book.what_if_many(self.row, *leg_arrays(legs), bounded=True)
        return _Figures((equity, initial, maintenance), Status(status))


def _orders(given: Any) -> list[tuple[str, float, float | None]]:
    if not isinstance(given, Iterable):
        raise RangeError(f"symbol must be a symbol or several (symbol, quantity, price), was {given!r}")
    orders = list(given)
    for order in orders:
        if not isinstance(order, (tuple, list)) or len(order) != 3:
            raise RangeError(f"symbol must hold (symbol, quantity, price), held {order!r}")
    return orders


class _Figures:
    __slots__ = ("figures", "status")

    def __init__(self, figures: tuple[float, float, float], status: Status) -> None:
        self.figures = figures
        self.status = status
