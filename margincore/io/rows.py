"""Rows of any feed, and what is collected from them: what a feed lacks or garbles becomes missing, never an error."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

import numpy as np

from margincore.errors import MarginError, RangeError
from margincore.ladder import Ladder
from margincore.units import NS_MAX, choice, mapping, stamps

Row: TypeAlias = Mapping[str, Any]
ENVELOPES = ("payload", "result", "params", "data", "list")
UNITS = ("auto", "percent", "fraction")
# A chain whose median volatility is at least this is in percent: 5 % a year is too calm, 500 % too wild.
PERCENT_FROM = 5.0
# Quote currencies that count as one unit of base unless the caller gives their price.
UNIT_QUOTES = ("USD", "USDC", "USDT")


def rows_of(data: Any) -> list[Row]:
    """Rows of a response, of a list, of a table (pandas, polars, pyarrow) or of a mapping of columns.

    Parameters
    ----------
    data : object
        Envelopes of venues (``{"result": [...]}``) are opened.
    """
    for method, arguments in (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",))):
        if callable(getattr(data, method, None)):
            data = getattr(data, method)(*arguments)
            break
    if isinstance(data, Mapping):
        for envelope in ENVELOPES:
            if isinstance(data.get(envelope), (Mapping, list, tuple)):
                return rows_of(data[envelope])
        columns = [value for value in data.values() if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1]
        if columns and len(columns) == len(data):
            lists = [value.tolist() for value in columns]
            return [dict(zip(data, values, strict=True)) for values in zip(*lists, strict=True)]
        return [data]
    if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
        raise RangeError(f"rows must be mappings or a table, were {data!r}")
    rows: list[Row] = []
    for row in data:
        if not isinstance(row, Mapping):
            raise RangeError(f"rows must be mappings, held {row!r}")
        rows += rows_of(row) if any(isinstance(row.get(name), (Mapping, list)) for name in ENVELOPES) else [row]
    return rows


def real(row: Row, *names: str) -> float:
    """First usable number of a row among these fields; NaN for what is absent, empty, not a number or infinite."""
    for name in names:
        value = row.get(name)
        if value is None or isinstance(value, bool):
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            return number
    return math.nan


def price(row: Row, *names: str) -> float:
    """As `real`, with negative numbers missing too."""
    value = real(row, *names)
    return value if value >= 0.0 else math.nan


def prices(row: Row, fields: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Prices by name, for the names of which the row has a field."""
    return {name: price(row, *names) for name, names in fields.items() if any(field in row for field in names)}


def thinner(row: Row, bid: tuple[str, ...], ask: tuple[str, ...]) -> dict[str, float]:
    """Depth of the thinner side, where the row tells both."""
    sizes = price(row, *bid), price(row, *ask)
    return {} if math.isnan(sizes[0] + sizes[1]) else {"depth": min(sizes)}


def text(row: Row, *names: str) -> str:
    """First non-empty text of a row among these fields, or ""."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def nanoseconds(value: float) -> int:
    """A time in s, ms, us or ns since 1970 as nanoseconds, told apart by magnitude (1973 to 2262); zero if unknown."""
    if not (math.isfinite(value) and value > 0.0):
        return 0
    for limit, scale in ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3)):
        if value < limit:
            stamp = round(value * scale) if value != int(value) else int(value) * scale
            break
    else:
        stamp = int(value)
    return stamp if stamp <= NS_MAX else 0


def time_of(row: Row, *names: str) -> int:
    """Time of a row in nanoseconds, zero if unknown; integers stay exact, dates without a zone are UTC."""
    for name in names:
        value = row.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 10**17 <= value <= NS_MAX:
            return value
        stamp = nanoseconds(real(row, name)) or _stamp_of_date(value)
        if stamp:
            return stamp
    return 0


def _stamp_of_date(value: Any) -> int:
    if isinstance(value, str):
        value = value.strip()
    if not (isinstance(value, (datetime.datetime, np.datetime64)) or isinstance(value, str) and "-" in value[1:]):
        return 0
    try:
        return max(int(stamps("time", value)), 0)
    except (MarginError, OverflowError):           # no date, NaT, or beyond 64 bits
        return 0


def levels(value: Any) -> list[tuple[float, float]]:
    """Levels ``(price, size)`` of one side; an action in front and fields behind are ignored."""
    found = []
    for level in value:
        numbers = [float(item) for item in level if not (isinstance(item, str) and item.isalpha())]
        if numbers[1] > 0.0:
            found.append((numbers[0], numbers[1]))
    return found


def book_of(row: Row) -> Ladder | None:
    """The ladder of a row with bids and asks, None where there is none or it is out of order."""
    if not isinstance(row.get("bids"), Sequence) or not isinstance(row.get("asks"), Sequence):
        return None
    try:
        return Ladder(levels(row["bids"]), levels(row["asks"]))
    except (MarginError, TypeError, ValueError, IndexError):
        return None


class Feed:
    """What the rows of a feed say about a market, collected row by row.

    The latest row of a symbol counts.  The index of an underlying, and the forward of an expiry, is the median of what
    the rows of the latest time say.
    """

    def __init__(self, unit: str = "auto") -> None:
        self.unit = choice("volatility_unit", unit, UNITS)
        self.values: dict[str, dict[str, float]] = {
            name: {} for name in ("mark", "volatility", "bid", "ask", "depth", "funding")}
        self.books: dict[str, Ladder] = {}
        self.observed: dict[str, int] = {}
        self.indices: dict[tuple[str, str], dict[int, list[float]]] = {}
        self.forwards: dict[tuple[str, int], dict[int, list[float]]] = {}
        self.rate: dict[str, float] = {}

    def put(self, symbol: str, at_ns: int, book: Ladder | None = None, /, **values: float) -> None:
        """Take the fields a row has: a later row wins, also where it says that nothing is known any more."""
        before = self.observed.get(symbol, 0)
        if at_ns < before:
            return
        self.observed[symbol] = at_ns
        for name, value in values.items():
            if at_ns > before or not (math.isnan(value) and symbol in self.values[name]):
                self.values[name][symbol] = value
        if book is not None:
            self.books[symbol] = book

    def index(self, underlying: str, quote: str, at_ns: int, value: float) -> None:
        """Take a price of an underlying in a quote currency."""
        if value > 0.0:
            self.indices.setdefault((underlying, quote), {}).setdefault(at_ns, []).append(value)

    def forward(self, underlying: str, expiry_ns: int, at_ns: int, value: float) -> None:
        """Take a forward of an underlying."""
        if value > 0.0:
            self.forwards.setdefault((underlying, expiry_ns), {}).setdefault(at_ns, []).append(value)

    def fractions(self) -> dict[str, float]:
        """Volatilities as fractions; a zero from a feed is no volatility."""
        known = {symbol: value for symbol, value in self.values["volatility"].items() if value > 0.0}
        percent = self.unit == "percent" or (
            self.unit == "auto" and bool(known) and median(known.values()) >= PERCENT_FROM)
        return {symbol: value / 100.0 for symbol, value in known.items()} if percent else known

    def market(self, now_ns: int | None, spot: Mapping[str, float] | None) -> dict[str, Any]:
        """Arguments of a MarketState; `now_ns` is the latest time of the rows unless given."""
        latest = {key: max(series) for key, series in self.indices.items()}
        now = now_ns if now_ns is not None else max([*self.observed.values(), *latest.values()], default=0)
        if now_ns is None and now == 0:
            raise RangeError("now_ns must be given, the rows carry no time")
        known: dict[str, float] = dict.fromkeys(UNIT_QUOTES, 1.0)
        given = {} if spot is None else mapping("spot", spot)
        known.update(given)
        observed: dict[Any, int] = {symbol: at for symbol, at in self.observed.items() if at}
        # The latest index decides; between quote currencies of one time, the first seen.
        for (name, quote), at in sorted(latest.items(), key=lambda item: item[1]):
            if name not in given and quote in known:
                known[name] = median(self.indices[name, quote][at]) * known[quote]
                if at:
                    observed[name] = at
        forwards = {}
        for key, series in self.forwards.items():
            at = max(series)
            forwards[key] = median(series[at])
            if at:
                observed[key] = at
        return {"now_ns": now, "spot": known, "forward": forwards, "observed_ns": observed, "books": self.books,
                "rate": self.rate, "volatility": self.fractions(),
                **{name: self.values[name] for name in ("mark", "bid", "ask", "depth", "funding")}}
