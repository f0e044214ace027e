"""Every verb of engine and account refuses what it cannot mean, and then nothing has changed."""

import math

import numpy as np
import pytest

import margincore as mc
from margincore.errors import CapacityError, MarginError, RangeError, ShapeError, UnknownInstrument

NOW, EXPIRY = mc.utc("2026-01-05T08:00"), mc.utc("2026-02-27T08:00")
PRICES = {"P": 100_000.0, "E": 3_000.0, "I": 100_000.0, "O": 5_000.0, "F": 100_500.0, "BTC/USDC": 100_000.0}
HUGE = 10**400


def engine(accounts=8, positions=16):
    contracts = mc.Contracts([
        mc.Perpetual("P", underlying="BTC", settle="USDC"), mc.Perpetual("E", underlying="ETH", settle="USDC"),
        mc.Perpetual("I", underlying="BTC", settle="BTC", inverse=True, multiplier=10.0),
        mc.Option("O", underlying="BTC", settle="USDC", strike=1e5, expiry_ns=EXPIRY, right="call"),
        mc.Future("F", underlying="BTC", settle="USDC", expiry_ns=EXPIRY),
        mc.Spot("BTC/USDC", underlying="BTC", settle="USDC"),
    ], assets=["ETH"])
    model = mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.16, 0.0, 0.16], volatility=["down", "same", "up"]))
    made = mc.Engine(contracts, model, accounts=accounts, positions=positions)
    made.update(market(NOW))
    return made


def market(now_ns):
    return mc.MarketState(now_ns=now_ns, spot={"BTC": 1e5, "ETH": 3e3, "USDC": 1.0}, volatility={"O": 0.5})


def opened(accounts=8, positions=16):
    account = engine(accounts, positions).open("alice")
    account.deposit("USDC", 1e6)
    return account


def state(made):
    return [(account, account.portfolio, account.orders(), account.margin()) for account in made.accounts()], set(
        made.settled)


VERBS = {
    "deposit": lambda a, x: a.deposit("USDC", x), "deposit asset": lambda a, x: a.deposit(x, 1.0),
    "withdraw": lambda a, x: a.withdraw("USDC", x), "withdraw asset": lambda a, x: a.withdraw(x, 1.0),
    "transfer": lambda a, x: a.transfer(x, "USDC", 1.0),
    "trade symbol": lambda a, x: a.trade(x, 1.0, price=1e5), "trade": lambda a, x: a.trade("P", x, price=1e5),
    "trade price": lambda a, x: a.trade("P", 1.0, price=x),
    "can_trade symbol": lambda a, x: a.can_trade(x, 1.0, price=1e5),
    "can_trade": lambda a, x: a.can_trade("P", x, price=1e5),
    "can_trade price": lambda a, x: a.can_trade("P", 1.0, price=x),
    "what_if symbol": lambda a, x: a.what_if(x, 1.0), "what_if": lambda a, x: a.what_if("P", x),
    "what_if order": lambda a, x: a.what_if([("P", x, None)]), "what_if orders": lambda a, x: a.what_if([x]),
    "max_quantity": lambda a, x: a.max_quantity(x, 1), "max_quantity side": lambda a, x: a.max_quantity("P", x),
    "max_quantity lot": lambda a, x: a.max_quantity("P", 1, lot=x) if x is not None else a.deposit("USDC", x),
    "set_orders": lambda a, x: a.set_orders("P", buy=x), "set_orders symbol": lambda a, x: a.set_orders(x, buy=1.0),
    "isolated": lambda a, x: a.isolated(x), "liquidation_price": lambda a, x: a.liquidation_price(x),
    "position": lambda a, x: a.position(x), "balance": lambda a, x: a.balance(x),
    "open": lambda a, x: a.engine.open(x),
    "leverage": lambda a, x: a.engine.open("new", leverage=math.nan if x is None else x),
    "account": lambda a, x: a.engine.account(x), "close": lambda a, x: a.engine.close(x),
    "mark": lambda a, x: a.engine.mark(x), "update": lambda a, x: a.engine.update(x),
    "margin": lambda a, x: a.engine.margin(x if x is not None else ()),
    "threads": lambda a, x: a.engine.margin(threads=x),
    "open_with": lambda a, x: a.engine.open_with("new", x), "load": lambda a, x: a.engine.load(x, x, x, x),
    "funding": lambda a, x: a.engine.apply_funding(x), "funding rate": lambda a, x: a.engine.apply_funding({"P": x}),
    "settle": lambda a, x: a.engine.settle(x), "settle price": lambda a, x: a.engine.settle({"F": x}),
    "relist": lambda a, x: a.engine.relist(x), "mask": lambda a, x: a.engine.accounts(x if x is not None else ()),
}


@pytest.fixture(scope="module")
def patient():
    account = opened()
    account.trade("P", 2.0, price=1e5)
    return account, account.portfolio


FINE = {"trade": (-1,), "can_trade": (-1,), "what_if": (-1,), "what_if order": (-1,), "max_quantity side": (-1,),
        "set_orders": (0,), "open": ("XYZ",), "funding rate": (0,)}


def meant(verb, value):
    return isinstance(value, (int, float, str)) and value in FINE.get(verb, ())


VALUES = (None, math.nan, math.inf, -math.inf, HUGE, -HUGE, -1.0, -1, 0, "", "XYZ", [], ["P"], {"X": 1},
          np.array([1.0, 2.0]), b"P", object())


@pytest.mark.parametrize("verb, value", [(verb, value) for verb in VERBS for value in VALUES
                                         if not meant(verb, value)], ids=lambda x: repr(x)[:12])
def test_what_cannot_be_meant_raises_a_margin_error_and_changes_nothing(verb, value, patient):
    account, before = patient
    with pytest.raises(MarginError) as found:
        VERBS[verb](account, value)
    assert str(found.value)
    assert account.portfolio == before and len(account.engine.accounts()) == 1 and not account.engine.settled


@pytest.mark.parametrize("arguments", [
    ([0, 1], [1.7], [1.0], [1.0]), ([0, 1.5], [3], [1.0], [1.0]), ([0, 1], ["a"], [1.0], [1.0]),
    ([0, 1], [2**40], [1.0], [1.0]), ([0, 1], [3], [True], [1.0]), ([0, 1], [[3]], [1.0], [1.0]),
], ids=str)
def test_loading_refuses_what_it_would_have_to_change(arguments):
    made = engine()
    with pytest.raises((ShapeError, RangeError)):
        made.load(*arguments)
    assert not made.accounts()
    with pytest.raises(ShapeError, match="mask must hold one bool"):
        opened().engine.accounts(np.array([0]))


def test_read_only_and_strided_arrays_load():
    made = engine()
    start, column, quantity = np.array([0, 1, 1, 2])[::2][:2], np.array([4, 9])[::2], np.array([2.0, 9.0])[::2]
    for array in (start, column, quantity):
        array.flags.writeable = False
    (row,) = made.load([0, 1], column, quantity, quantity)
    assert made.account(int(row)).position("E") == 2.0
    assert start.size == 2


@pytest.mark.parametrize("symbol", ["E", "BTC/USDC"])
def test_what_an_isolated_account_may_not_trade_no_question_allows(symbol):
    account = opened()
    alone = account.isolated("P")
    account.transfer(alone, "USDC", 5e5)
    for ask in (lambda: alone.trade(symbol, 1.0, price=PRICES[symbol]),
                lambda: alone.can_trade(symbol, 1.0, price=PRICES[symbol]),
                lambda: alone.what_if(symbol, 1.0), lambda: alone.what_if([("P", 1.0, None), (symbol, 1.0, None)]),
                lambda: alone.max_quantity(symbol, mc.Side.BUY)):
        with pytest.raises(RangeError, match="must be 'P' in this isolated account"):
            ask()
    assert alone.can_trade("P", 1.0, price=1e5)


def test_an_isolated_account_belongs_to_its_parent_alone():
    account = opened()
    other = account.engine.open("alice/P")
    other.deposit("USDC", 777.0)
    with pytest.raises(RangeError, match="belongs to another account"):
        account.isolated("P")
    alone = account.isolated("F")
    assert account.isolated("F") == alone and account.engine.book.parent(alone.row) == account.row


def test_an_isolated_account_is_found_after_settlement():
    account = opened()
    alone = account.isolated("F")
    account.transfer(alone, "USDC", 5e4)
    alone.trade("F", 1.0, price=1e5)
    account.engine.settle({"F": 1.1e5})
    assert account.isolated("F") == alone
    alone.transfer(account, "USDC", 6e4)
    assert account.balance("USDC") == 1e6 + 1e4


def test_what_expired_can_be_read_and_cancelled_until_it_settles():
    account = opened()
    account.trade("O", 1.0, price=5e3)
    account.set_orders("O", sell=1.0)
    account.engine.update(market(EXPIRY + 1))
    assert account.status is mc.Status.UNKNOWN and account.position("O") == 1.0
    with pytest.raises(RangeError, match="must be live"):
        account.set_orders("O", sell=2.0)
    account.set_orders("O")
    assert account.orders() == {}
    account.engine.settle({"O": 1.2e5})
    assert account.position("O") == 0.0 and account.balance("USDC") == 1e6 - 5e3 + 2e4


@pytest.mark.parametrize("symbol", ["I", "O", "F", "BTC/USDC"])
def test_without_room_no_question_allows_what_a_trade_is_refused(symbol):
    account = opened(accounts=1, positions=3)     # six slots of which one is the portfolio's
    account.trade("P", 0.1, price=1e5)
    account.trade("E", 0.1, price=3e3)
    if symbol in ("O", "F"):
        account.deposit("ETH", 1.0) if account.engine.book.slots_used < 6 else None
    before = state(account.engine)
    for ask in (lambda: account.trade(symbol, 0.1, price=PRICES[symbol]),
                lambda: account.can_trade(symbol, 0.1, price=PRICES[symbol]), lambda: account.what_if(symbol, 0.1),
                lambda: account.max_quantity(symbol, mc.Side.BUY)):
        with pytest.raises(CapacityError):
            ask()
    assert state(account.engine) == before


@pytest.mark.parametrize("symbol", ["P", "O", "I", "BTC/USDC"])
def test_a_fee_costs_the_same_to_the_bit_in_question_and_trade(symbol):
    generator = np.random.default_rng(7)
    account = opened()
    account.deposit("BTC", 1.0 / 3.0)
    for quantity, off, fee in generator.normal(0.0, 0.3, (200, 3)):
        price = PRICES[symbol] * (1.0 + 0.01 * off)
        asked = account.what_if(symbol, quantity, price=price, fee=fee)
        allowed = account.can_trade(symbol, quantity, price=price, fee=fee)
        account.trade(symbol, quantity, price=price, fee=fee)
        then = account.margin()
        assert (asked.equity, asked.initial, asked.maintenance, asked.status) == (
            then.equity, then.initial, then.maintenance, then.status)
        assert allowed == asked.allowed == (then.status is mc.Status.HEALTHY)


def test_an_account_without_room_for_its_portfolio_is_not_opened():
    made = engine(accounts=2, positions=2)
    held = mc.Portfolio(dict.fromkeys(("P", "E", "I", "O", "F"), 1.0), {"USDC": 1e6, "ETH": 1.0})
    with pytest.raises(CapacityError, match="slots"):
        made.open_with("alice", held)
    assert made.accounts() == []
    assert made.margin(held).status is mc.Status.HEALTHY     # a question needs no room


def test_a_transfer_that_cannot_arrive_does_not_leave():
    account = opened()
    rich = account.engine.open("rich")
    rich.deposit("USDC", 1e15)
    with pytest.raises(RangeError):
        account.transfer(rich, "USDC", 1e5)
    assert account.balance("USDC") == 1e6 and rich.balance("USDC") == 1e15
    account.transfer(account, "USDC", 1e5)
    assert account.balance("USDC") == 1e6


def test_settlement_and_funding_of_several_happen_all_or_none():
    account = opened()
    account.trade("O", 1.0, price=5e3)
    account.trade("F", 1.0, price=1e5)
    before = state(account.engine)
    for prices in ({"O": 1.2e5, "F": 1e16}, {"O": 1.2e5, "F": math.nan}, {"O": 1.2e5, "X": 1.0}):
        with pytest.raises((RangeError, UnknownInstrument, MarginError)):
            account.engine.settle(prices)
        assert state(account.engine) == before
    assert account.engine.settle({"O": 1.2e5, "F": 1.1e5}) == 2
    book = account.engine.book
    account.trade("P", 1e14, price=1.0)
    account.trade("E", 1e14, price=1.0)
    held = account.portfolio
    with pytest.raises(RangeError):
        book.fund_all({3: 1.0, 4: 1e10})
    assert account.portfolio == held
    book.fund_all({3: 1.0, 4: 2.0})
    assert account.balance("USDC") == held.balances["USDC"] - 3e14


def test_times_and_sizes_beyond_the_machine_are_refused():
    with pytest.raises(RangeError, match="now_ns"):
        mc.MarketState(now_ns=10**30, spot={})
    with pytest.raises(RangeError, match="expiry_ns"):
        mc.Future("F", underlying="BTC", settle="USDC", expiry_ns=10**30)
    with pytest.raises(RangeError, match="base"):
        mc.Engine(engine().contracts, engine().model, base="")


PERPETUAL = mc.Perpetual("P", underlying="BTC", settle="USDC")
PERP_ROW = {"instrument_name": "BTC-PERPETUAL", "symbol": "BTC-PERPETUAL", "mark_price": 1.0, "timestamp": 1.7e12}
UNIFIED = {"symbol": "BTC/USD:BTC", "base": "BTC", "markPrice": 1.0, "timestamp": 1.7e12}
POSITION = {"quantity": 1.0, "entry": 1.0, "fund": 1.0, "fee_rate": 0.0, "inverse": False}
RATES = {"tiers": None, "maintenance_rate": 0.0, "maintenance_amount": 0.0, "other_maintenance": 0.0,
         "notional": "mark"}
FEED = {"now_ns": NOW, "spot": {"BTC": 1e5}, "volatility_unit": "auto"}
VALUES_BY_NAME = {
    **{name: {"P": 1.0} for name in ("mark", "volatility", "funding", "bid", "ask", "depth")},
    "now_ns": NOW, "spot": {"BTC": 1e5}, "forward": {("BTC", EXPIRY): 1.0}, "surface": {}, "rate": {"USDC": 0.0},
    "books": {}, "observed_ns": {}}
GRID = mc.grid(spot=[-0.1, 0.1])
ENTRIES = {
    "Spot": (mc.Spot, {"symbol": "S", "underlying": "BTC", "settle": "USDC"}),
    "Perpetual": (mc.Perpetual, {"symbol": "P", "underlying": "BTC", "settle": "USDC", "multiplier": 1.0,
                                 "inverse": False}),
    "Option": (mc.Option, {"symbol": "O", "underlying": "BTC", "settle": "USDC", "multiplier": 1.0, "inverse": False,
                           "strike": 1e5, "expiry_ns": EXPIRY, "right": "call"}),
    "Contracts": (mc.Contracts, {"contracts": [PERPETUAL], "assets": ["X"]}),
    "MarketState": (mc.MarketState, VALUES_BY_NAME),
    "from_arrays": (mc.MarketState.from_arrays, {"symbols": ["P", "O"], "now_ns": NOW, "spot": {}, "mark": [1.0, 2.0]}),
    "from_frame": (mc.MarketState.from_frame, {"frame": [{"symbol": "P", "mark": 1.0}], "now_ns": NOW, "spot": {}}),
    "from_deribit": (mc.MarketState.from_deribit, {"rows": [PERP_ROW], **FEED}),
    "from_tardis": (mc.MarketState.from_tardis, {"rows": [PERP_ROW], **FEED}),
    "from_ccxt": (mc.MarketState.from_ccxt, {"tickers": [UNIFIED], "greeks": None, "order_books": None,
                                             "funding_rates": None, "markets": None, **FEED}),
    "contracts_from_deribit": (mc.contracts_from_deribit, {"rows": [PERP_ROW], "assets": ()}),
    "contracts_from_tardis": (mc.contracts_from_tardis, {"rows": [PERP_ROW], "assets": ()}),
    "contracts_from_ccxt": (mc.contracts_from_ccxt, {"markets": [UNIFIED], "assets": ()}),
    "contracts_from_frame": (mc.contracts_from_frame, {"frame": [], "assets": ()}),
    "load_chain": (mc.load_chain, {"path": "none.csv"}),
    "grid": (mc.grid, {"spot": [-0.1, 0.1], "volatility": ["up"], "tails": [(0.5, 0.3)], "ranges": None,
                       "smile": "sticky_strike", "volatility_min": 0.0, "days_floor": 1.0}),
    "sigma_grid": (mc.sigma_grid, {"spot": [-1, 1], "volatility": ["up"], "horizon_days": 1.0,
                                   "sigma_annual": {"BTC": 0.5}, "ranges": None}),
    "VolatilityShock": (mc.VolatilityShock, {"kind": "up", "size": 1.0}),
    "VolatilityRange": (mc.VolatilityRange, {"up": 0.5, "down": 0.2, "short_power": 0.3, "long_power": 0.3,
                                             "floor": 0.1}),
    "ScenarioMargin": (mc.ScenarioMargin, {
        "scenarios": GRID, "measure": mc.Worst(), "maintenance_ratio": 1.0, "initial_ratio": 1.3, "addons": [],
        "offset_sets": [], "gain_kept": 1.0, "collateral": {"USDC": 0.0}, "shocked_assets": (),
        "conversion": "current"}),
    "Tier": (mc.Tier, {"floor": 0.0, "maintenance_rate": 0.01, "max_leverage": 10.0, "amount": 0.0}),
    "TieredMargin": (mc.TieredMargin, {"tiers": {"P": [(0.0, 0.01, 10.0)]}, "notional": "mark",
                                       "closing_fee_rate": 0.0, "collateral": None, "addons": ()}),
    "ladder": (lambda tiers: mc.TieredMargin({"P": tiers}), {"tiers": [(0.0, 0.01, 10.0)]}),
    "ladder of": (lambda tier: mc.TieredMargin({"P": [tier]}), {"tier": (0.0, 0.01, 10.0)}),
    "Flat": (mc.Flat, {"haircut": 0.0}), "ClosingCost": (mc.ClosingCost, {"share": 1.0, "missing_rate": 0.0}),
    "ShortOptionFloor": (mc.ShortOptionFloor, {"rate": 0.1}),
    "Portfolio": (mc.Portfolio, {"positions": {"P": 1.0}, "balances": {"USDC": 1.0}, "entry": {"P": 1.0}}),
    "scaled": (mc.Portfolio({"P": 1.0}).scaled, {"factor": 1.0}),
    "Ladder": (mc.Ladder, {"bids": [(1.0, 1.0)], "asks": [(2.0, 1.0)]}),
    "position_prices": (mc.position_prices, {**POSITION, **RATES}),
    "liquidation_price": (mc.liquidation_price, {**POSITION, **RATES}),
    "bankruptcy_price": (mc.bankruptcy_price, POSITION), "utc": (mc.utc, {"text": "2026-01-01"}),
    "MarketState.resolve": (mc.MarketState(now_ns=NOW, spot={}).resolve, {"contracts": mc.Contracts([PERPETUAL])}),
    "ScenarioMargin.resolve": (mc.ScenarioMargin(scenarios=GRID).resolve, {"contracts": mc.Contracts([PERPETUAL])}),
    "TieredMargin.resolve": (mc.TieredMargin({}).resolve, {"contracts": mc.Contracts([])}),
}
ODD = (*VALUES, True, np.nan, 2**63, 1 + 2j, (1, 2), range(3), {"a": None}, {"a": HUGE}, {"BTC": math.inf},
       {"BTC": -1.0}, {("a", "b"): 1.0}, {1: 1.0}, {"BTC": np.zeros(2)}, {"BTC": True}, np.zeros((2, 2)),
       np.array(["a"]))


@pytest.mark.parametrize("entry", ENTRIES)
def test_whatever_an_entry_is_given_only_margin_errors_come_back(entry):
    make, arguments = ENTRIES[entry]
    refused = 0
    for name in arguments:
        for value in ODD:
            try:
                make(**{**arguments, name: value})
            except MarginError as error:
                assert str(error)
                refused += 1
    assert refused > len(arguments)


def test_duplicate_symbols_are_refused():
    with pytest.raises(RangeError, match="symbol must be unique"):
        mc.Contracts([PERPETUAL, PERPETUAL])
    with pytest.raises(RangeError, match="symbols must be unique"):
        mc.MarketState.from_arrays(["P", "P"], now_ns=NOW, spot={}, mark=[1.0, 2.0])
    with pytest.raises(RangeError, match="once"):
        mc.MarketState.from_frame([{"symbol": "P", "mark": 1.0}, {"symbol": "P", "mark": 2.0}], now_ns=NOW, spot={})


def test_a_date_that_is_none_is_named_as_the_argument_it_was():
    surface = mc.VolSurface.flat(0.6)
    with pytest.raises(RangeError, match="^expiry_ns must be an ISO date or time, was 'soon'$"):
        surface.vol(100.0, "soon")
    with pytest.raises(RangeError, match="^expiry_ns must be an ISO date or time, was 'soon'$"):
        surface.vol(100.0, ["2026-01-01", "soon"])
