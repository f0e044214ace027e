"""Tardis: rows of options_chain and derivative_ticker files; times are microseconds, volatilities percent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from margincore.contracts import Contract, Contracts, Option
from margincore.io import deribit
from margincore.io.rows import Feed, Row, price, prices, real, rows_of, text, thinner, time_of

FIELDS = {"mark": ("mark_price",), "bid": ("bid_price",), "ask": ("ask_price",), "volatility": ("mark_iv",)}
# BTC-USD-260327-60000-C of OKX is settled in coin; BTC-260327-60000-C of Binance in USDT.
DASHED = re.compile(r"(?P<base>[A-Z0-9]+)(?:-(?P<quote>[A-Z]+))?-\d{6}-[\d.]+-[CP]")
FUNDING_PERIODS_PER_DAY = 3.0


def _contract(row: Row) -> Contract | None:
    symbol = text(row, "symbol")
    if text(row, "exchange") in ("", "deribit"):
        return deribit.contract_of(symbol)
    match = DASHED.fullmatch(symbol)
    strike, expiry = price(row, "strike_price"), time_of(row, "expiration")
    right = text(row, "type").lower()
    if match is None or not strike > 0.0 or not expiry or right not in ("call", "put"):
        return None
    inverse = match["quote"] == "USD"
    settle = match["base"] if inverse else match["quote"] or "USDT"
    return Option(symbol, underlying=match["base"], settle=settle, inverse=inverse, strike=strike, expiry_ns=expiry,
                  right=right)


def contracts_from_tardis(rows: Any, *, assets: Iterable[str] = ()) -> Contracts:
    """The contracts of rows of options_chain or derivative_ticker, each once; quantities are in coin or dollars.

    Parameters
    ----------
    rows : sequence of mapping, or table
        Numbers may be text, empty where missing.
    assets : iterable of str, optional
        Further assets that accounts may hold.
    """
    found: dict[str, Contract] = {}
    for row in rows_of(rows):
        if text(row, "symbol") not in found:
            item = _contract(row)
            if item is not None:
                found[item.symbol] = item
    return Contracts(found.values(), assets=assets)


def feed_from_tardis(rows: Any, *, now_ns: int | None = None, spot: Mapping[str, float] | None = None,
                     volatility_unit: str = "auto") -> dict[str, Any]:
    """Arguments of a MarketState from rows of options_chain and derivative_ticker.

    An options_chain has no index: unless `spot` or a derivative_ticker gives it, the price of the underlying at the
    nearest expiry stands in for it.
    """
    feed = Feed(volatility_unit)
    nearest: dict[str, tuple[int, int, float]] = {}
    for row in rows_of(rows):
        item = _contract(row)
        if item is None:
            continue
        at = time_of(row, "timestamp", "local_timestamp")
        values = prices(row, FIELDS)
        if isinstance(item, Option):
            underlying = price(row, "underlying_price")
            feed.forward(item.underlying, item.expiry_ns, at, underlying)
            if underlying > 0.0:
                found = (-at, item.expiry_ns, underlying)
                nearest[item.underlying] = min(nearest.get(item.underlying, found), found)
        elif real(row, "funding_rate") == real(row, "funding_rate"):
            values["funding"] = real(row, "funding_rate") * FUNDING_PERIODS_PER_DAY
        feed.index(item.underlying, "USD", at, price(row, "index_price"))
        feed.put(item.symbol, at, None, **values, **thinner(row, ("bid_amount",), ("ask_amount",)))
    for name, (negative, _, underlying) in nearest.items():
        if (name, "USD") not in feed.indices:
            feed.index(name, "USD", -negative, underlying)
    return feed.market(now_ns, spot)
