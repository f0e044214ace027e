"""A second bookkeeper: cash, profit, collateral and requirement of whole histories, from the rules alone.

Lots are kept one by one and closed in proportion, prices are read from the events, the normal distribution is
`math.erfc`: nothing here is shared with the project or with the twins of its kernels.
"""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import margincore as mc
from margincore.errors import MarginError

NOW, EXPIRY = mc.utc("2026-03-01"), mc.utc("2026-03-27T08:00")
YEARS = (EXPIRY - NOW) / (365.0 * 86_400e9)
ITEMS = [
    mc.Perpetual("P", underlying="BTC", settle="USDC", multiplier=0.001),
    mc.Perpetual("I", underlying="BTC", settle="BTC", multiplier=10.0, inverse=True),
    mc.Future("F", underlying="BTC", settle="USDC", expiry_ns=EXPIRY),
    mc.Future("G", underlying="BTC", settle="BTC", multiplier=100.0, inverse=True, expiry_ns=EXPIRY),
    mc.Option("C", underlying="BTC", settle="USDC", strike=100_000.0, expiry_ns=EXPIRY, right="call", multiplier=0.1),
    mc.Option("Q", underlying="BTC", settle="BTC", strike=95_000.0, expiry_ns=EXPIRY, right="put", inverse=True),
    mc.Perpetual("E", underlying="ETH", settle="USDC"),
    mc.Perpetual("X", underlying="ETH", settle="BTC"),      # quoted and settled in coin of another underlying
    mc.Spot("BTC/USDC", underlying="BTC", settle="USDC"),
]
CONTRACTS = mc.Contracts(ITEMS)
BY_NAME = {item.symbol: item for item in ITEMS}
SPOT = {"BTC": 97_200.0, "ETH": 3_000.0, "USDC": 0.998}
MARK = {"P": 97_250.0, "I": 97_180.0, "F": 97_900.0, "G": 97_950.0, "C": 2_650.0, "Q": 0.021, "E": 3_001.0, "X": 0.0309}
SIGMA = {"C": 0.5, "Q": 0.55}
FORWARD = 97_930.0
LOT = {"P": 40.0, "I": 200.0, "F": 0.05, "G": 20.0, "C": 0.5, "Q": 0.1, "E": 1.5, "X": 1.0, "BTC/USDC": 0.05}
HAIRCUT = {"USDC": 0.02, "BTC": 0.15}
MOVES, STRETCH = (-0.3, -0.1, 0.0, 0.1, 0.3), {"down": -0.25, "same": 0.0, "up": 0.5}
TIERS = [(0.0, 0.01, 50.0), (20_000.0, 0.02, 20.0), (60_000.0, 0.05, 8.0)]
COIN_TIERS = [(floor / 100_000.0, rate, leverage) for floor, rate, leverage in TIERS]


def is_option(item):
    return isinstance(item, mc.Option)


def worth(item, price):
    """Settlement asset that one contract stands for at a price; an inverse future is a debt of its face."""
    return -item.multiplier / price if item.inverse and not is_option(item) else item.multiplier * price


class Ledger:
    """Balances and lots (quantity, price) by symbol."""

    def __init__(self):
        self.cash = {"USDC": 0.0, "BTC": 0.0, "ETH": 0.0}
        self.lots = {}

    def held(self, symbol):
        return math.fsum(quantity for quantity, _ in self.lots.get(symbol, []))

    def trade(self, symbol, quantity, price, fee):
        item = BY_NAME[symbol]
        self.cash[item.settle] -= fee
        if isinstance(item, mc.Spot):
            self.cash[item.underlying] += quantity
            self.cash[item.settle] -= quantity * price
            return
        held, lots = self.held(symbol), self.lots.setdefault(symbol, [])
        if is_option(item):
            self.cash[item.settle] -= quantity * item.multiplier * price
        if held * quantity < 0.0:
            share = min(abs(quantity / held), 1.0)          # of every lot, so that the average cost stays
            if not is_option(item):
                self.cash[item.settle] += math.fsum(share * q * (worth(item, price) - worth(item, p)) for q, p in lots)
            lots[:] = [(q * (1.0 - share), p) for q, p in lots] if share < 1.0 else []
            quantity = quantity + held if abs(quantity) > abs(held) else 0.0
        if quantity:
            lots.append((quantity, price))

    def fund(self, symbol, rate):
        item = BY_NAME[symbol]
        self.cash[item.settle] -= rate * self.held(symbol) * abs(worth(item, MARK[symbol]))

    def settle(self, symbol, price):
        item, lots = BY_NAME[symbol], self.lots.pop(symbol, [])
        if is_option(item):
            payoff = max(0.0, price - item.strike) if symbol == "C" else max(0.0, item.strike - price) / price
            self.cash[item.settle] += payoff * item.multiplier * math.fsum(q for q, _ in lots)
        else:
            self.cash[item.settle] += math.fsum(q * (worth(item, price) - worth(item, p)) for q, p in lots)

    def equity(self):
        """By asset, in its units, and in base currency after haircuts on what is positive."""
        total = dict(self.cash)
        for symbol, lots in self.lots.items():
            item = BY_NAME[symbol]
            paid = 0.0 if is_option(item) else math.fsum(q * worth(item, p) for q, p in lots)
            total[item.settle] += self.held(symbol) * worth(item, MARK[symbol]) - paid
        share = {asset: 1.0 - HAIRCUT.get(asset, 1.0) if x > 0.0 else 1.0 for asset, x in total.items()}
        return total, math.fsum(x * SPOT[asset] * share[asset] for asset, x in total.items())

    def scan(self, conversion):
        """Worst loss of BTC plus worst loss of ETH over the grid, and the scenario of each."""
        total = 0.0
        for underlying in ("BTC", "ETH"):
            profits = []
            for move in MOVES:
                for stretch in STRETCH.values():
                    profits.append(math.fsum(
                        self.held(symbol) * profit(symbol, move, stretch)
                        * SPOT[BY_NAME[symbol].settle] * conversion(underlying, BY_NAME[symbol].settle, move)
                        for symbol in self.lots if BY_NAME[symbol].underlying == underlying))
            total += max(0.0, -min(profits))
        return total

    def tiers(self):
        maintenance = initial = 0.0
        for symbol in self.lots:
            item, held = BY_NAME[symbol], self.held(symbol)
            size = max(0.0, -held) if is_option(item) else abs(held)
            unit = abs(worth(item, MARK[symbol]))
            if is_option(item):
                unit = item.multiplier * (1.0 if item.inverse else SPOT["BTC"] / SPOT["USDC"])
            notional, ladder = size * unit, COIN_TIERS if item.settle == "BTC" else TIERS
            due, leverage = 0.0, math.inf
            for (floor, rate, cap), (end, *_) in zip(ladder, [*ladder[1:], (math.inf,)], strict=True):
                if notional >= floor:       # marginal rates, slice by slice: another form of rate * notional - amount
                    due += (min(notional, end) - floor) * rate
                    leverage = cap
            maintenance += due * SPOT[item.settle]
            initial += notional / leverage * SPOT[item.settle]
        return maintenance, initial


def black(forward, strike, sigma, sign):
    deviation = sigma * math.sqrt(YEARS)
    d = math.log(forward / strike) / deviation
    return sign * (forward * 0.5 * math.erfc(-sign * (d + 0.5 * deviation) / math.sqrt(2.0))
                   - strike * 0.5 * math.erfc(-sign * (d - 0.5 * deviation) / math.sqrt(2.0)))


def profit(symbol, move, stretch):
    """Settlement asset that one contract gains when its underlying moves and its volatility is stretched."""
    item = BY_NAME[symbol]
    if not is_option(item):
        return worth(item, MARK[symbol] * (1.0 + move)) - worth(item, MARK[symbol])
    tenor = (30.0 / (YEARS * 365.0)) ** 0.3
    values = []
    for forward, sigma in ((FORWARD, SIGMA[symbol]), (FORWARD * (1.0 + move), SIGMA[symbol] * (1.0 + stretch * tenor))):
        value = black(forward, item.strike, sigma, 1.0 if symbol == "C" else -1.0)
        values.append(value / forward if item.inverse else value)
    return item.multiplier * (values[1] - values[0])


def at_current(underlying, asset, move):
    return 1.0


def at_shocked(underlying, asset, move):
    """Every underlying of a grid moves alike, so BTC collateral is worth more or less in either one's scenarios."""
    return 1.0 if asset == "USDC" else 1.0 + move


RANGES = mc.VolatilityRange(up=0.5, down=0.25, short_power=0.3)
GRID = mc.grid(spot=list(MOVES), volatility=list(STRETCH), ranges=RANGES)
LADDERS = {symbol: COIN_TIERS if BY_NAME[symbol].settle == "BTC" else TIERS for symbol in MARK}
TERMS = {"scenarios": GRID, "initial_ratio": 1.4, "collateral": HAIRCUT}
MODELS = {
    "current": (mc.ScenarioMargin(**TERMS), at_current),
    "shocked": (mc.ScenarioMargin(**TERMS, conversion="shocked"), at_shocked),
    "tiers": (mc.TieredMargin(LADDERS, collateral=HAIRCUT), None),
}
EVENTS = st.lists(st.one_of(
    st.tuples(st.just("trade"), st.sampled_from(sorted(LOT)), st.integers(-6, 6).filter(bool), st.integers(-30, 30),
              st.sampled_from([0.0, 0.0, 0.001, -0.0005])),
    st.tuples(st.just("trade"), st.sampled_from(sorted(LOT)), st.integers(-6, 6).filter(bool), st.integers(-30, 30),
              st.sampled_from([0.0, 0.0, 0.001, -0.0005])),
    st.tuples(st.just("fund"), st.sampled_from(["P", "I", "E", "X"]), st.integers(-20, 20)),
    st.tuples(st.just("settle"), st.sampled_from(["F", "G", "C", "Q"]), st.integers(-30, 30)),
    st.tuples(st.just("deposit"), st.sampled_from(["USDC", "BTC"]), st.integers(1, 9)),
), min_size=1, max_size=14)


def market():
    return mc.MarketState(now_ns=NOW, spot=SPOT, mark=MARK, volatility=SIGMA, forward={("BTC", EXPIRY): FORWARD})


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(MODELS)), EVENTS, st.integers(0, 9), st.booleans())
def test_histories_are_booked_and_margined_as_by_the_second_bookkeeper(name, events, coins, alone):
    model, conversion = MODELS[name]
    engine = mc.Engine(CONTRACTS, model, accounts=4)
    engine.update(market())
    account, ledger = engine.open("a"), Ledger()
    other = engine.open("b")
    other.deposit("USDC", 5.0)
    sub = account.isolated("P") if alone else None
    inside = Ledger()
    for asset, amount in (("USDC", 40_000.0), ("BTC", 0.1 * coins)):
        if amount:
            account.deposit(asset, amount)
            ledger.cash[asset] += amount
    if sub is not None:
        account.transfer(sub, "USDC", 7_000.0)
        ledger.cash["USDC"] -= 7_000.0
        inside.cash["USDC"] += 7_000.0
    settled = set()
    for verb, symbol, *numbers in events:
        if symbol in settled:
            continue
        if verb == "deposit":
            account.deposit(symbol, numbers[0] / 8.0)
            ledger.cash[symbol] += numbers[0] / 8.0
        elif verb == "fund":
            engine.apply_funding({symbol: numbers[0] * 1e-4})
            for book in (ledger, inside):
                book.fund(symbol, numbers[0] * 1e-4)
        elif verb == "settle":
            price = 97_000.0 * (1.0 + numbers[0] / 100.0)
            engine.settle({symbol: price})
            ledger.settle(symbol, price)
            settled.add(symbol)
        else:
            price = (SPOT["BTC"] if symbol == "BTC/USDC" else MARK[symbol]) * (1.0 + numbers[1] / 100.0)
            quantity = numbers[0] * LOT[symbol]
            target, book = (sub, inside) if sub is not None and symbol == "P" else (account, ledger)
            asked = target.what_if(symbol, quantity, price=price, fee=numbers[2])
            allowed = target.can_trade(symbol, quantity, price=price, fee=numbers[2])
            target.trade(symbol, quantity, price=price, fee=numbers[2])
            book.trade(symbol, quantity, price, numbers[2])
            report = target.margin()
            assert asked.status is report.status is target.status and allowed == (report.status is mc.Status.HEALTHY)
            for figure in ("equity", "initial", "maintenance"):
                assert getattr(asked, figure) == getattr(report, figure)
    for handle, book in ((account, ledger), (sub, inside)):
        if handle is not None:
            agree(handle, book, name, conversion)
    assert other.balance("USDC") == 5.0 and other.status is mc.Status.HEALTHY


def agree(handle, book, name, conversion):
    near = {"rel": 1e-9, "abs": 1e-6}
    for asset, amount in book.cash.items():
        if asset in CONTRACTS.assets:
            assert handle.balance(asset) == pytest.approx(amount, rel=1e-10, abs=1e-8)
    for symbol in MARK:
        if symbol in handle.engine.settled:
            with pytest.raises(MarginError):
                handle.trade(symbol, 1.0, price=1.0)
            continue
        assert handle.position(symbol) == pytest.approx(book.held(symbol), rel=1e-12, abs=1e-12)
    by_asset, equity = book.equity()
    report = handle.margin()
    assert report.equity == pytest.approx(equity, **near)
    for asset, amount in report.asset_equity.items():
        assert amount == pytest.approx(by_asset[asset], rel=1e-9, abs=1e-7)
    if conversion is None:
        maintenance, initial = book.tiers()
    else:
        maintenance = book.scan(conversion)
        initial = 1.4 * maintenance
    assert report.maintenance == pytest.approx(maintenance, **near)
    assert report.initial == pytest.approx(max(initial, maintenance), **near)
    gap = 1e-6 + 1e-8 * (abs(equity) + initial)
    if abs(equity - initial) > gap and abs(equity - maintenance) > gap:
        expected = mc.Status.HEALTHY if equity > max(initial, maintenance) else (
            mc.Status.MARGIN_CALL if equity > maintenance else mc.Status.LIQUIDATION)
        assert report.status is expected
    portfolio = handle.portfolio        # sold for what it is worth, an account opened with it has the same equity
    again = handle.engine.margin(portfolio)
    assert again.equity == pytest.approx(report.equity, **near) and again.maintenance == pytest.approx(
        report.maintenance, **near)


def test_prices_that_move_between_trades_change_equity_by_what_is_held():
    engine = mc.Engine(CONTRACTS, MODELS["current"][0])
    engine.update(market())
    account = engine.open("a")
    account.deposit("BTC", 2.0)
    account.trade("I", 5_000.0, price=90_000.0)
    account.trade("X", 3.0, price=0.03)
    before = account.margin().asset_equity["BTC"]
    engine.update(dataclasses.replace(market(), now_ns=NOW + 1, mark={**MARK, "I": 50_000.0, "X": 0.04}))
    assert account.margin().asset_equity["BTC"] - before == pytest.approx(
        50_000.0 * (1.0 / 97_180.0 - 1.0 / 50_000.0) + 3.0 * (0.04 - 0.0309), rel=1e-12)
    assert np.isclose(account.balance("BTC"), 2.0)


def shifted(move):
    """The market after BTC alone moved: linear contracts alike, options by their value plus what was above it."""
    growth = 1.0 + move
    marks = {symbol: MARK[symbol] * growth for symbol in ("P", "I", "F", "G")} | {s: MARK[s] for s in ("E", "X")}
    for symbol, sign in (("C", 1.0), ("Q", -1.0)):
        strike, scale = BY_NAME[symbol].strike, (lambda forward, at=symbol: forward if at == "Q" else 1.0)
        now = black(FORWARD, strike, SIGMA[symbol], sign) / scale(FORWARD)
        then = black(FORWARD * growth, strike, SIGMA[symbol], sign) / scale(FORWARD * growth)
        marks[symbol] = max(0.0, then + MARK[symbol] - now)
    return {"SPOT": {**SPOT, "BTC": SPOT["BTC"] * growth}, "MARK": marks, "FORWARD": FORWARD * growth}


def excess_after(book, name, conversion, move, monkeypatch):
    with monkeypatch.context() as patch:
        for variable, value in shifted(move).items():
            patch.setitem(globals(), variable, value)
        equity = book.equity()[1]
        due = book.tiers()[0] if conversion is None else book.scan(conversion)
        return equity - due, abs(equity) + due + 1.0


LOOKED_AT = np.concatenate([np.linspace(-0.99, 0.0, 120)[:-1], np.linspace(0.0, 5.0, 200)])
BOOKS = st.lists(st.tuples(st.sampled_from(sorted(MARK)), st.integers(-8, 8).filter(bool)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MODELS)), BOOKS, st.integers(1, 60), st.integers(0, 8))
def test_liquidation_prices_are_the_first_that_a_walk_along_the_market_meets(name, positions, dollars, coins):
    model, conversion = MODELS[name]
    engine, book = mc.Engine(CONTRACTS, model, accounts=2), Ledger()
    engine.update(market())
    account = engine.open("a")
    for asset, amount in (("USDC", 1_000.0 * dollars), ("BTC", 0.25 * coins)):
        if amount:
            account.deposit(asset, amount)
            book.cash[asset] += amount
    for symbol, lots in positions:
        account.trade(symbol, 2.0 * lots * LOT[symbol], price=MARK[symbol])
        book.trade(symbol, 2.0 * lots * LOT[symbol], MARK[symbol], 0.0)
    answer = account.liquidation_price("BTC")
    with pytest.MonkeyPatch.context() as monkeypatch:
        walk = [(float(move), *excess_after(book, name, conversion, float(move), monkeypatch)) for move in LOOKED_AT]
        assert answer.certified
        if excess_after(book, name, conversion, 0.0, monkeypatch)[0] <= 0.0:
            assert answer.down == answer.up == answer.price
            return
        for root, side in ((answer.move_down, -1.0), (answer.move_up, 1.0)):
            between = [(excess, scale) for move, excess, scale in walk
                       if move * side >= 0.0 and (root is None or abs(move) < abs(root) - 1e-9)]
            assert all(excess > -1e-9 * scale for excess, scale in between)
            if root is not None:
                near, scale = excess_after(book, name, conversion, root, monkeypatch)
                assert abs(near) <= 1e-8 * scale
                inside, _ = excess_after(book, name, conversion, root - side * 1e-7, monkeypatch)
                beyond, _ = excess_after(book, name, conversion, min(5.0, root + side * 1e-7), monkeypatch)
                assert inside > -1e-9 * scale and beyond < 1e-6 * scale
