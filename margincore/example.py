"""A generated market for demonstrations and tests: the same numbers every time, nothing fetched, nothing random."""

from __future__ import annotations

import datetime
import math

from margincore.contracts import Contracts, Derivative, Future, Option, Perpetual, Spot
from margincore.ladder import Ladder
from margincore.market import MarketState
from margincore.units import NS_PER_DAY, utc, years

NOW_NS = utc("2026-03-02T08:00")
SPOT = {"BTC": 61_200.0, "ETH": 3_150.0, "USDC": 1.0}
RATE = {"USDC": 0.04}
# Weekly, monthly, two quarterlies and the year's end, days from now; the monthly has dated futures as well.
EXPIRY_DAYS = (4, 25, 53, 116, 298)
FUTURE_DAYS = 25
# At-the-money volatility of the longest expiry, step of the strikes, tick, by underlying.
SHAPES = {"BTC": (0.52, 2_000.0, 0.5), "ETH": (0.66, 100.0, 0.05)}
STRIKES_EACH_SIDE = 10
LEVELS = 10


def _label(expiry_ns: int) -> str:
    day = datetime.datetime.fromtimestamp(expiry_ns // 10**9, datetime.UTC)
    return f"{day.day}{day:%b%y}".upper()


def _smile(atm: float, strike: float, forward: float, left_years: float) -> float:
    """Skewed towards puts, steeper and higher near expiry; four decimals, so that no library's logarithm shows."""
    k = math.log(strike / forward)
    level = atm * (1.0 + 0.12 * math.exp(-4.0 * left_years))
    return round(level * (1.0 - 0.22 * k / math.sqrt(left_years + 0.1) + 0.55 * k * k / (left_years + 0.15)), 4)


def _options(name: str, inverse: bool) -> list[Option]:
    _, step, _ = SHAPES[name]
    middle = round(SPOT[name] / step)
    prefix, settle = (f"{name}-USD", name) if inverse else (name, "USDC")
    found = []
    for days in EXPIRY_DAYS:
        expiry = NOW_NS + days * NS_PER_DAY
        for at in range(-STRIKES_EACH_SIDE, STRIKES_EACH_SIDE + 1):
            strike = (middle + at) * step
            found += [Option(f"{prefix}-{_label(expiry)}-{strike:.0f}-{right[0].upper()}", underlying=name,
                             settle=settle, strike=strike, expiry_ns=expiry, right=right, inverse=inverse)
                      for right in ("call", "put")]
    return found


def _ladder(mark: float, tick: float, size: float) -> Ladder:
    """Ten levels a tick apart on either side, thicker further out."""
    sizes = [round(size * (1.0 + 0.4 * at), 3) for at in range(LEVELS)]
    middle = round(mark / tick)
    return Ladder([((middle - 1 - at) * tick, sizes[at]) for at in range(LEVELS)],
                  [((middle + 1 + at) * tick, sizes[at]) for at in range(LEVELS)])


def example_market() -> tuple[Contracts, MarketState]:
    """A generated market of BTC and ETH, in US dollars.

    Two spot pairs, linear and inverse perpetuals and dated futures, linear and inverse option chains with a smile (five
    expiries, 21 strikes, calls and puts), an order book of ten levels for each perpetual and future, and quotes for
    each option.

    Returns
    -------
    contracts : Contracts
        "BTC-PERP", "BTC-USD-PERP" (inverse, 10 dollars a contract), "BTC-27MAR26", "BTC-27MAR26-60000-C" and so on.
    market : MarketState
        With marks, volatilities, funding, quotes and books.
    """
    expiry = NOW_NS + FUTURE_DAYS * NS_PER_DAY
    contracts: list[Spot | Derivative] = []
    for name in SHAPES:
        contracts += [
            Spot(f"{name}/USDC", underlying=name, settle="USDC"),
            Perpetual(f"{name}-PERP", underlying=name, settle="USDC"),
            Perpetual(f"{name}-USD-PERP", underlying=name, settle=name, inverse=True, multiplier=10.0),
            Future(f"{name}-{_label(expiry)}", underlying=name, settle="USDC", expiry_ns=expiry),
            Future(f"{name}-USD-{_label(expiry)}", underlying=name, settle=name, inverse=True, multiplier=10.0,
                   expiry_ns=expiry),
            *_options(name, inverse=False),
            *_options(name, inverse=True),
        ]
    table = Contracts(contracts)
    options = [item for item in table.derivatives if isinstance(item, Option)]
    volatility = {}
    for item in options:
        left = years(NOW_NS, item.expiry_ns)
        forward = SPOT[item.underlying] * (1.0 + RATE["USDC"] * left)
        volatility[item.symbol] = _smile(SHAPES[item.underlying][0], item.strike, forward, left)
    modelled = MarketState(now_ns=NOW_NS, spot=SPOT, rate=RATE, volatility=volatility).resolve(table)
    mark = {item.symbol: float(modelled.mark[table.column[item.symbol]]) for item in table.derivatives}
    books = {item.symbol: _ladder(mark[item.symbol], SHAPES[item.underlying][2], 25_000.0 if item.inverse else 12.0)
             for item in table.derivatives if not isinstance(item, Option)}
    bid, ask, depth = {}, {}, {}
    for item in options:
        tick = 0.0001 if item.inverse else SHAPES[item.underlying][2]
        middle, half = mark[item.symbol] / tick, 1.0 + 0.02 * mark[item.symbol] / tick
        bid[item.symbol], ask[item.symbol] = max(math.floor(middle - half), 0) * tick, math.ceil(middle + half) * tick
        depth[item.symbol] = 20.0
    funding = {item.symbol: 0.0003 for item in table.derivatives if isinstance(item, Perpetual)}
    return table, MarketState(now_ns=NOW_NS, spot=SPOT, rate=RATE, volatility=volatility, mark=mark, bid=bid, ask=ask,
                              depth=depth, books=books, funding=funding)
