"""Tables of any library, and plain arrays, as contracts and market rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from margincore.contracts import Contract, Contracts, Future, Option, Perpetual, Spot
from margincore.errors import RangeError, ShapeError
from margincore.io.rows import Row, real, rows_of, text, time_of
from margincore.units import choice, several

KINDS = ("spot", "perpetual", "future", "option")
VALUES = ("mark", "volatility", "bid", "ask", "depth", "funding")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _contract(row: Row) -> Contract:
    kind = choice("kind", text(row, "kind").lower(), KINDS)
    common: dict[str, Any] = {"underlying": text(row, "underlying"), "settle": text(row, "settle")}
    symbol = text(row, "symbol")
    if kind == "spot":
        return Spot(symbol, **common)
    if not _missing(row.get("multiplier")):
        common["multiplier"] = real(row, "multiplier")
    if not _missing(row.get("inverse")):
        common["inverse"] = bool(row["inverse"])
    if kind == "perpetual":
        return Perpetual(symbol, **common)
    common["expiry_ns"] = time_of(row, "expiry_ns")
    if kind == "future":
        return Future(symbol, **common)
    return Option(symbol, strike=real(row, "strike"), right=text(row, "right").lower(), **common)


def contracts_from_frame(frame: Any, *, assets: Iterable[str] = ()) -> Contracts:
    """The contracts of a table (pandas, polars, pyarrow, mapping of columns) or of a list of rows.

    Parameters
    ----------
    frame : table
        Columns `symbol`, `kind` ("spot", "perpetual", "future", "option"), `underlying`, `settle`, and where they
        apply `multiplier`, `inverse`, `expiry_ns`, `strike`, `right` ("call", "put").
    assets : iterable of str, optional
        Further assets that accounts may hold.
    """
    return Contracts((_contract(row) for row in rows_of(frame)), assets=assets)


def feed_from_frame(frame: Any) -> dict[str, Any]:
    """Mappings by symbol of the columns of a table that name a part of a market."""
    columns: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for row in rows_of(frame):
        symbol = text(row, "symbol")
        if not symbol or symbol in seen:
            raise RangeError(f"symbol must name every row, once, was {row.get('symbol')!r}")
        seen.add(symbol)
        for name in (*VALUES, "observed_ns"):
            if name in row and not _missing(row[name]):
                columns.setdefault(name, {})[symbol] = row[name]
            elif name in row:
                columns.setdefault(name, {})
    return columns


def feed_from_arrays(symbols: Sequence[str], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings by symbol from one array per part of a market, each as long as `symbols`; NaN is missing."""
    columns = {}
    symbols = several("symbols", symbols)
    if len(set(map(repr, symbols))) != len(symbols):
        raise RangeError(f"symbols must be unique, were {symbols!r}")
    for name, values in arrays.items():
        if values is None:
            continue
        array = np.asarray(values)
        if array.dtype.kind not in "fiu" or array.shape != (len(symbols),):
            raise ShapeError(f"{name} must hold {len(symbols)} numbers, had {array.dtype} of shape {array.shape}")
        columns[name] = dict(zip(symbols, array.tolist(), strict=True))
    return columns
