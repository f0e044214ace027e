"""ccxt: unified markets, tickers, greeks and order books as plain dictionaries; ccxt itself is never imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from margincore.contracts import Contract, Contracts, Future, Option, Perpetual, Spot
from margincore.errors import RangeError
from margincore.io.rows import Feed, Row, book_of, price, prices, real, rows_of, text, thinner, time_of
from margincore.units import utc

SYMBOL = re.compile(r"(?P<base>[^/:]+)/(?P<quote>[^/:]+)(?::(?P<settle>[^-:]+)"
                    r"(?:-(?P<date>\d{6})(?:-(?P<strike>[\d.]+)-(?P<right>[CP]))?)?)?")
TICKER_FIELDS = {"mark": ("markPrice", "mark_price"), "bid": ("bid", "bidPrice"), "ask": ("ask", "askPrice")}
GREEK_FIELDS = {"mark": ("markPrice",), "bid": ("bidPrice",), "ask": ("askPrice",),
                "volatility": ("markImpliedVolatility", "impliedVolatility", "mark_iv", "markVol", "markIv")}


def _listed(data: Any, name: str) -> list[Row]:
    """Rows of a mapping by symbol or of a list; a row without a symbol takes that of its key."""
    if data is None:
        return []
    if not isinstance(data, Mapping):
        return rows_of(data)
    rows = []
    for symbol, row in data.items():
        if not isinstance(row, Mapping):
            raise RangeError(f"{name} must be dictionaries by symbol, held {row!r}")
        rows.append(row if text(row, "symbol") else {**row, "symbol": symbol})
    return rows


def contract_of(symbol: str) -> Contract | None:
    """The contract that a unified symbol such as "BTC/USD:BTC-260327-60000-C" names, with multiplier one."""
    match = SYMBOL.fullmatch(symbol)
    if match is None:
        return None
    base, settle = match["base"], match["settle"]
    if settle is None:
        return None if base == match["quote"] else Spot(symbol, underlying=base, settle=match["quote"])
    inverse = settle == base
    if match["date"] is None:
        return Perpetual(symbol, underlying=base, settle=settle, inverse=inverse)
    date = match["date"]
    try:
        expiry = utc(f"20{date[:2]}-{date[2:4]}-{date[4:]}T08:00")
    except ValueError:
        return None
    if match["strike"] is None:
        return Future(symbol, underlying=base, settle=settle, inverse=inverse, expiry_ns=expiry)
    return Option(symbol, underlying=base, settle=settle, inverse=inverse, expiry_ns=expiry,
                  strike=float(match["strike"]), right=match["right"])


def _contract(market: Row) -> Contract | None:
    symbol, base = text(market, "symbol"), text(market, "base")
    settle, quote = text(market, "settle"), text(market, "quote")
    expiry = time_of(market, "expiry")
    multiplier = price(market, "contractSize")
    if not symbol or not base:
        return None
    if market.get("spot") or (not settle and not market.get("contract")):
        return Spot(symbol, underlying=base, settle=quote) if quote and quote != base else None
    if not settle:
        return None
    kwargs: dict[str, Any] = {"underlying": base, "settle": settle, "inverse": settle == base,
                              "multiplier": multiplier if multiplier > 0.0 else 1.0}
    if market.get("option"):
        strike, right = price(market, "strike"), text(market, "optionType").lower()
        if not (strike > 0.0 and expiry and right in ("call", "put")):
            return None
        return Option(symbol, strike=strike, right=right, expiry_ns=expiry, **kwargs)
    if market.get("swap") or not expiry:
        return Perpetual(symbol, **kwargs)
    return Future(symbol, expiry_ns=expiry, **kwargs)


def contracts_from_ccxt(markets: Any, *, assets: Iterable[str] = ()) -> Contracts:
    """The contracts of ccxt's unified markets: a mapping by symbol or a list.

    Parameters
    ----------
    markets : mapping or sequence of dict
        `contractSize` becomes the multiplier: quote currency of an inverse future, underlying of everything else.
        What lacks a field it cannot do without is left out.
    assets : iterable of str, optional
        Further assets that accounts may hold.
    """
    found = (_contract(market) for market in _listed(markets, "markets"))
    return Contracts((item for item in found if item is not None), assets=assets)


def _known(markets: Any) -> dict[str, Contract]:
    found = (_contract(market) for market in _listed(markets, "markets"))
    return {item.symbol: item for item in found if item is not None}


def _quote(row: Row, item: Contract) -> str:
    """Quote currency of an index: of the symbol where it tells one, else the settlement asset."""
    match = SYMBOL.fullmatch(item.symbol)
    if match is not None:
        return match["quote"]
    return text(row, "quote") or ("USD" if not isinstance(item, Spot) and item.inverse else item.settle)


def _venue_fields(row: Row) -> Row:
    """A row with the venue's own fields of `info` behind its own: some parsers leave volatility and marks there."""
    info = row.get("info")
    return {**info, **{name: value for name, value in row.items() if value is not None}} if isinstance(
        info, Mapping) else row


def _take(feed: Feed, source: Row, item: Contract, fields: Mapping[str, tuple[str, ...]]) -> None:
    row = _venue_fields(source)
    at = time_of(source, "timestamp") or time_of(row, "timestamp", "creation_timestamp", "ts", "time")
    index = price(row, "indexPrice", "index_price", "estimated_delivery_price")
    values = prices(row, fields)
    if isinstance(item, Spot):
        quotes = values.get("bid", 0.0), values.get("ask", 0.0)
        middle = 0.5 * (quotes[0] + quotes[1]) if quotes[0] > 0.0 and quotes[1] > 0.0 else price(row, "last", "close")
        feed.index(item.underlying, item.settle, at, middle)
        values.pop("mark", None)
    elif isinstance(item, Option):
        values |= prices(row, {"volatility": GREEK_FIELDS["volatility"]})
        feed.forward(item.underlying, item.expiry_ns, at,
                     price(row, "underlyingPrice", "underlying_price"))
    elif isinstance(item, Future) and "mark" in values:
        feed.forward(item.underlying, item.expiry_ns, at, values["mark"])
    feed.index(item.underlying, _quote(row, item), at, index)
    feed.put(item.symbol, at, book_of(source), **values,
             **thinner(row, ("bidVolume", "bidSize"), ("askVolume", "askSize")))


def feed_from_ccxt(tickers: Any, greeks: Any = None, *, order_books: Any = None, funding_rates: Any = None,
                   markets: Any = None, now_ns: int | None = None, spot: Mapping[str, float] | None = None,
                   volatility_unit: str = "auto") -> dict[str, Any]:
    """Arguments of a MarketState from ccxt's unified dictionaries."""
    feed = Feed(volatility_unit)
    known = _known(markets)
    for rows, fields in ((_listed(tickers, "tickers"), TICKER_FIELDS), (_listed(greeks, "greeks"), GREEK_FIELDS),
                         (_listed(order_books, "order_books"), {})):
        for row in rows:
            symbol = text(row, "symbol")
            item = known.get(symbol) or contract_of(symbol)
            if item is not None:
                _take(feed, row, item, fields)
    for row in _listed(funding_rates, "funding_rates"):
        interval = re.fullmatch(r"(\d+)h", text(row, "interval") or "8h")
        rate = real(row, "fundingRate")
        if interval is not None and rate == rate and int(interval[1]):
            feed.values["funding"][text(row, "symbol")] = rate * 24.0 / int(interval[1])
    return feed.market(now_ns, spot)
