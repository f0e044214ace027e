"""The main job: market in, requirement, status and liquidation prices out, for one account and for a million."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import numpy as np

import margincore as mc
from margincore.contracts import OPTION, PERPETUAL
from margincore.distance import LiquidationPrice
from margincore.units import Status, stamps

POSITIONS = 10  # of each account of the large book
CHECKS = 200_000  # repetitions behind the time of one check


def load_market(path: str, currency: str | None, time: str | None) -> tuple[mc.Contracts, mc.MarketState]:
    """Contracts and market of a chain file."""
    return mc.load_chain(path, currency=currency, at_ns=None if time is None else int(stamps("time", time)))


def standard_model() -> mc.ScenarioMargin:
    """The model of the command line: nine prices within 16 %, three volatilities, contingency on short options."""
    return mc.ScenarioMargin(
        scenarios=mc.grid(spot=[-0.16, -0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12, 0.16]),
        addons=[mc.ShortOptionCharge(0.005), mc.ClosingCost()],
        initial_ratio=1.25,
        conversion="shocked",
    )


def run_demo(path: str | None, currency: str | None, at: str | None, accounts: int, as_json: bool) -> Status:
    """Run the demo on a chain file, or on a market built here; prints, and returns the status of the account."""
    if path is None:
        contracts, market = mc.example_market()
        origin = ("market       built here, nothing downloaded: spot, perpetuals, a dated future, an option chain with "
                  "a smile, an order book")
    else:
        contracts, market = load_market(path, currency, at)
        origin = f"market       {path}"
    model = standard_model()
    engine = mc.Engine(contracts, model, accounts=2, positions=100)
    started = time.perf_counter()
    engine.update(market)
    update_seconds = time.perf_counter() - started
    account, hedge = _typical_account(engine)
    report = account.margin()
    halved = -0.5 * account.position(hedge)
    what_if = account.what_if(hedge, halved)
    underlying = contracts.by_symbol[hedge].underlying
    noun = "long call" if isinstance(contracts.by_symbol[hedge], mc.Option) else "future"
    liquidation = account.liquidation_price(underlying)
    after = engine.open_with("after", account.portfolio)
    after.trade(hedge, halved, price=engine.mark(hedge))
    timing = _timings(engine, account, hedge, model, market, accounts)
    timing["update"] = update_seconds
    if as_json:
        print(json.dumps({"report": report.to_dict(), "liquidation": dataclasses.asdict(liquidation),
                          "what_if": {"symbol": hedge, "quantity": halved, "initial": what_if.initial,
                                      "maintenance": what_if.maintenance, "allowed": what_if.allowed},
                          "seconds": timing}, indent=2))
        return report.status
    print(origin)
    print(f"             {len(contracts.derivatives)} derivatives x {len(engine.plan.scenarios or ())} scenarios, "
          f"repriced in {1e6 * update_seconds:,.0f} us")
    _print_positions(engine, account, report)
    print(report)
    print(f"liquidation  {liquidation_text(liquidation)}")
    print(f"\nWhat if: {'sell' if halved < 0 else 'buy'} {abs(halved):g} {hedge}, half of the {noun}?")
    print(f"             maintenance {report.maintenance:,.0f} -> {what_if.maintenance:,.0f}, initial "
          f"{report.initial:,.0f} -> {what_if.initial:,.0f} {engine.base}: "
          f"{'allowed' if what_if.allowed else 'refused'}, {what_if.status} afterwards")
    print(f"             liquidation {liquidation_text(after.liquidation_price(underlying))}")
    if what_if.maintenance > report.maintenance:
        print(f"             It looks like less risk, and is more: the {noun} hedges the short calls.")
    _print_timings(timing, accounts)
    return report.status


def liquidation_text(answer: LiquidationPrice) -> str:
    """One line: the prices at which an account is liquidated, and how sure that is."""
    def side(price: float | None, move: float | None, none: str) -> str:
        return none if price is None or move is None else f"{price:,.2f} {answer.unit} ({100.0 * move:+.2f} %)"

    down = side(answer.down, answer.move_down, f"none down to {100.0 * answer.lowest:+.0f} %")
    up = side(answer.up, answer.move_up, f"none up to {100.0 * answer.highest:+.0f} %")
    sure = "certified" if answer.certified else "not certified"
    smile = answer.smile.replace("_", " ")
    return f"{answer.name} {answer.price:,.2f} {answer.unit}: down {down}, up {up} [{smile}, {sure}]"


def _typical_account(engine: mc.Engine) -> tuple[mc.Account, str]:
    """Short out-of-the-money calls against a long future, with some puts, on the first underlying that has options.

    A chain without a perpetual or future has no hedge to halve: then a second option takes its place.
    """
    contracts, columns = engine.contracts, engine.columns
    assert columns is not None
    usable = np.isfinite(columns.mark) & np.isfinite(columns.forward)
    lasting = np.isfinite(columns.sigma) & (columns.years > 7 / 365)
    options = np.flatnonzero(usable & lasting & (contracts.kind == OPTION))
    if options.size == 0:
        raise mc.MarginError("market must hold live options with a volatility, held none")
    underlying = contracts.underlying[options[0]]
    options = options[(contracts.underlying[options] == underlying)
                      & (contracts.settle[options] == contracts.settle[options[0]])]
    expiry = contracts.expiry_ns[options][np.argmin(np.abs(columns.years[options] - 30 / 365))]
    chain = options[contracts.expiry_ns[options] == expiry]
    spot = float(columns.spot[underlying])

    def nearest(is_call: int, moneyness: float) -> int:
        side = chain[contracts.is_call[chain] == is_call]
        side = side if side.size else chain
        return int(side[np.argmin(np.abs(contracts.strike[side] / columns.forward[side] - moneyness))])

    call, put = nearest(1, 1.08), nearest(0, 0.92)
    futures = np.flatnonzero(usable & (contracts.underlying == underlying) & (contracts.kind != OPTION)
                             & (contracts.kind != 0))
    other_settle = contracts.settle[futures] != contracts.settle[call]
    futures = futures[np.lexsort((contracts.kind[futures] != PERPETUAL, other_settle))]
    hedge = int(futures[0]) if futures.size else nearest(1, 0.5)
    account = engine.open("demo-01")
    symbols = contracts.symbols
    # sizes in units of the underlying, whatever the contract's own size
    value = {c: _underlying_units(engine, c) for c in (call, put, hedge)}
    for column, units in ((hedge, 8.0), (call, -15.0), (put, 10.0)):
        item = symbols[column]
        entry = engine.mark(item) * (0.988 if column == hedge and futures.size else 1.0)
        account.trade(item, round(units / value[column], 6), price=entry)
    settle = contracts.by_symbol[symbols[call]].settle
    for asset in {settle, contracts.by_symbol[symbols[hedge]].settle}:
        price = float(columns.spot[contracts.asset_column(asset)])
        account.deposit(asset, round(5.2 * spot / price, 6))
    return account, symbols[hedge]


def _underlying_units(engine: mc.Engine, column: int) -> float:
    """Units of the underlying that one contract stands for."""
    contracts, columns = engine.contracts, engine.columns
    assert columns is not None
    if contracts.inverse[column] and contracts.kind[column] != OPTION:
        return float(contracts.multiplier[column] / columns.mark[column])
    return float(contracts.multiplier[column])


def _print_positions(engine: mc.Engine, account: mc.Account, report: mc.MarginReport) -> None:
    columns, losses = engine.columns, report.contributions
    assert columns is not None
    print(f"\n{'instrument':<28}{'contracts':>14}{'mark':>14}  {'in its own unit':<18}"
          f"{'loss in the worst scenario':>28}")
    for symbol, quantity in account.portfolio.positions.items():
        item = engine.contracts.by_symbol[symbol]
        unit = item.settle if engine.contracts.kind[engine.contracts.column[symbol]] == OPTION else "quote"
        print(f"{symbol:<28}{quantity:>+14,.4f}{engine.mark(symbol):>14,.4f}  {unit:<18}"
              f"{losses.get(symbol, 0.0):>24,.0f} {engine.base}")
    for asset, units in account.portfolio.balances.items():
        print(f"{asset:<28}{units:>+14,.4f}{'':>14}  {'balance':<18}")
    print()


def _timings(engine: mc.Engine, account: mc.Account, symbol: str, model: Any, market: mc.MarketState,
             accounts: int) -> dict[str, float]:
    """Seconds per check in C and from Python, per report, and of one sweep over many accounts."""
    price = engine.mark(symbol)
    times = {}
    started = time.perf_counter()
    engine.book.repeat(account.row, CHECKS)
    times["check_c"] = (time.perf_counter() - started) / CHECKS
    can_trade, repeats = account.can_trade, CHECKS // 20
    started = time.perf_counter()
    for _ in range(repeats):
        can_trade(symbol, 1.0, price=price)
    times["can_trade"] = (time.perf_counter() - started) / repeats
    large = mc.Engine(engine.contracts, model, accounts=accounts, positions=POSITIONS + 3)
    large.update(market)
    _fill(large, accounts)
    times["sweep"] = min(_sweep(large) for _ in range(3))
    times["bytes_per_account"] = large.book.nbytes / accounts
    return times


def _fill(engine: mc.Engine, accounts: int) -> None:
    """Accounts of `POSITIONS` random positions each and a balance, from a fixed seed."""
    contracts, columns = engine.contracts, engine.columns
    assert columns is not None
    live = np.flatnonzero(np.isfinite(columns.mark) & (contracts.kind != 0)
                          & (np.isfinite(columns.sigma) | (contracts.kind != OPTION)))
    random = np.random.default_rng(20260301)
    first = random.integers(0, live.size, (accounts, 1))
    stride = random.integers(1, max(2, live.size // POSITIONS), (accounts, 1))
    picked = live[(first + stride * np.arange(POSITIONS)) % live.size]
    column = np.concatenate([np.zeros((accounts, 1), np.int64), picked], axis=1).astype(np.int32)
    units = np.array([_underlying_units(engine, c) if contracts.kind[c] else 1.0 for c in range(len(contracts))])
    quantity = random.normal(0.0, 1.0, column.shape) / units[column]
    balance = 10.0 * columns.spot[contracts.underlying[live[0]]] / columns.spot[0]
    quantity[:, 0] = balance * random.uniform(0.1, 1.0, accounts)
    price = np.where(contracts.kind == 0, 1.0, columns.mark)[column]
    engine.load(np.arange(accounts + 1) * (POSITIONS + 1), column.ravel(), quantity.ravel(), price.ravel())


def _sweep(engine: mc.Engine) -> float:
    status = np.empty(engine.book.rows_used, np.uint8)
    started = time.perf_counter()
    engine.book.check_range(0, engine.book.rows_used, status)
    return time.perf_counter() - started


def _print_timings(times: dict[str, float], accounts: int) -> None:
    print(f"\none check of this account       {1e9 * times['check_c']:>10,.0f} ns in C, "
          f"{1e9 * times['can_trade']:,.0f} ns for can_trade from Python")
    print(f"{accounts:>9,} accounts x {POSITIONS}       {1e3 * times['sweep']:>10,.0f} ms in one call, one thread, "
          f"{times['bytes_per_account']:,.0f} bytes each")
