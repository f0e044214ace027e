"""Deribit: instrument names, book summaries, tickers, order books and chain files made of them.

A quantity is the venue's `amount`: US dollars of an inverse future, coins of an option or linear contract, so that
every multiplier is one.  Option prices are in coin, times are milliseconds, volatilities percent (files may have
fractions).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Any

from margincore.contracts import Contract, Contracts, Future, Option, Perpetual, Spot
from margincore.io.rows import Feed, book_of, price, prices, real, rows_of, text, thinner, time_of

NAME = re.compile(
    r"(?P<base>[A-Z0-9]+)(?:_(?P<quote>[A-Z0-9]+))?-(?:(?P<perpetual>PERPETUAL)|(?P<date>\d{1,2}[A-Z]{3}\d{2})"
    r"(?:-(?P<strike>\d+(?:d\d+)?)-(?P<right>[CP]))?)")
PAIR = re.compile(r"(?P<base>[A-Z0-9]+)_(?P<quote>[A-Z0-9]+)")
EXPIRY_HOUR = 8  # UTC
FUNDING_PERIODS_PER_DAY = 3.0  # rates are per eight hours
FIELDS = {"mark": ("mark_price", "price"), "volatility": ("mark_iv",), "bid": ("best_bid_price", "bid_price"),
          "ask": ("best_ask_price", "ask_price")}


def expiry_of(date: str) -> int:
    """Nanoseconds of 08:00 UTC of a day such as "27MAR26"."""
    day = datetime.datetime.strptime(date.zfill(7), "%d%b%y").replace(hour=EXPIRY_HOUR, tzinfo=datetime.UTC)
    return round(day.timestamp()) * 10**9


def contract_of(name: str) -> Contract | None:
    """The contract of an instrument name; None for combos and what is no name."""
    match = NAME.fullmatch(name)
    if match is None:
        pair = PAIR.fullmatch(name)
        return None if pair is None else Spot(name, underlying=pair["base"], settle=pair["quote"])
    base, inverse = match["base"], match["quote"] is None
    settle = base if inverse else match["quote"]
    if match["perpetual"]:
        return Perpetual(name, underlying=base, settle=settle, inverse=inverse)
    try:
        expiry = expiry_of(match["date"])
    except ValueError:
        return None
    if match["right"] is None:
        return Future(name, underlying=base, settle=settle, inverse=inverse, expiry_ns=expiry)
    strike = float(match["strike"].replace("d", "."))
    return None if strike <= 0.0 else Option(name, underlying=base, settle=settle, inverse=inverse, expiry_ns=expiry,
                                             strike=strike, right=match["right"])


def contracts_from_deribit(rows: Any, *, assets: Any = ()) -> Contracts:
    """The contracts named in rows of instruments, book summaries, tickers or a chain file, each once.

    Parameters
    ----------
    rows : sequence of mapping, table, or response
        With an `instrument_name`; rows of combos are left out.
    assets : iterable of str, optional
        Further assets that accounts may hold.
    """
    found: dict[str, Contract] = {}
    for row in rows_of(rows):
        name = text(row, "instrument_name")
        item = contract_of(name) if name and name not in found else None
        if item is not None:
            found[name] = item
    return Contracts(found.values(), assets=assets)


def _quote(item: Contract) -> str:
    return "USD" if not isinstance(item, Spot) and item.inverse else item.settle


def _take(feed: Feed, row: Mapping[str, Any], item: Contract) -> None:
    at = time_of(row, "timestamp", "creation_timestamp", "ts_ms")
    index = price(row, "index_price", "estimated_delivery_price")
    values = prices(row, FIELDS)
    if isinstance(item, Spot):
        feed.index(item.underlying, item.settle, at, index if index > 0.0 else price(row, "mark_price", "last_price"))
        feed.put(item.symbol, at, bid=values.get("bid", math.nan), ask=values.get("ask", math.nan))
        return
    if text(row, "state") not in ("", "open"):
        values["mark"] = math.nan
    values |= thinner(row, ("best_bid_amount", "bid_amount"), ("best_ask_amount", "ask_amount"))
    if isinstance(item, Option):
        underlying = price(row, "underlying_price")
        feed.forward(item.underlying, item.expiry_ns, at, underlying)
        if text(row, "underlying_index") == "index_price" and math.isnan(index):
            index = underlying
        interest = real(row, "interest_rate")
        if math.isfinite(interest):
            feed.rate[item.settle] = interest
    elif isinstance(item, Perpetual):
        values["funding"] = real(row, "current_funding", "funding_8h") * FUNDING_PERIODS_PER_DAY
        if math.isnan(values["funding"]):
            del values["funding"]
    if not isinstance(item, Option):
        values.pop("volatility", None)
    feed.index(item.underlying, _quote(item), at, index)
    feed.put(item.symbol, at, book_of(row), **values)


def feed_from_deribit(rows: Any, *, now_ns: int | None = None, spot: Mapping[str, float] | None = None,
                      volatility_unit: str = "auto") -> dict[str, Any]:
    """Arguments of a MarketState from rows of book summaries, tickers, order books or a chain file."""
    feed = Feed(volatility_unit)
    futures: list[tuple[Mapping[str, Any], Future]] = []
    for row in rows_of(rows):
        item = contract_of(text(row, "instrument_name"))
        if item is not None:
            _take(feed, row, item)
            if isinstance(item, Future):
                futures.append((row, item))
    # A dated future tells the forward of expiries that no option row tells.
    told = set(feed.forwards)
    for row, item in futures:
        if (item.underlying, item.expiry_ns) not in told:
            feed.forward(item.underlying, item.expiry_ns, time_of(row, "timestamp", "creation_timestamp", "ts_ms"),
                         price(row, "mark_price", "price"))
    return feed.market(now_ns, spot)
