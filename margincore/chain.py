"""Chain files: a real option chain from parquet, CSV or JSON, one snapshot of it, as contracts and a market."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from margincore.contracts import Contracts
from margincore.errors import MissingDataError, RangeError
from margincore.io import ccxt, deribit, tardis
from margincore.io.rows import Row, rows_of, text, time_of
from margincore.market import MarketState
from margincore.units import NS_PER_SECOND, filename, optional

# Rows of one snapshot are polled within minutes of each other; a longer pause begins the next.
SNAPSHOT_GAP_NS = 600 * NS_PER_SECOND
TIMES = ("ts_ms", "timestamp", "creation_timestamp", "local_timestamp")


def read_rows(path: str | Path) -> Any:
    """Content of a .parquet, .csv, .csv.gz, .json or .json.gz file: rows, or the mapping a JSON file holds."""
    file = filename("path", path)
    name = file.name.lower()
    if not file.exists():
        raise MissingDataError(f"path must name a file, was {str(file)!r}")
    packed = name.endswith(".gz")
    name = name if name.endswith(".parquet") else name.removesuffix(".gz")
    if not name.endswith((".csv", ".json", ".parquet")):
        raise RangeError(f"path must end in .parquet, .csv, .csv.gz, .json or .json.gz, was {str(file)!r}")
    try:
        if name.endswith(".parquet"):
            pandas = optional("a parquet file", "pandas", "pandas")
            optional("a parquet file", "pyarrow", "pandas")
            return pandas.read_parquet(file, engine="pyarrow").to_dict("records")
        # Spreadsheets put a byte order mark in front, which would stick to the name of the first column.
        with gzip.open(file, "rt", encoding="utf-8-sig") if packed else file.open(encoding="utf-8-sig") as stream:
            return csv_rows(stream, str(file)) if name.endswith(".csv") else json.load(stream)
    except RangeError:
        raise
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise RangeError(f"path must be readable as its ending says, {str(file)!r} is not: {error}") from None


def csv_rows(lines: Iterable[str], path: str) -> list[dict[str, str]]:
    """Rows of a CSV table, by the names of its first line; `path` names it in errors."""
    rows: list[dict[str, str]] = []
    try:
        table = csv.DictReader(lines)
        names = [name for name in table.fieldnames or () if name]
        for name in names:
            if names.count(name) > 1:
                raise RangeError(f"columns must have names of their own, {name!r} stands more than once")
        for row in table:
            if None in row:
                raise RangeError(f"rows must be no longer than the first line, row {len(rows) + 1} has more cells")
            rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise RangeError(f"path must be readable as CSV, {path!r} is not: {error}") from None
    return rows


def snapshots(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows in order of time, cut where nothing was observed for ten minutes."""
    stamped = sorted(((time_of(row, *TIMES), at, row) for at, row in enumerate(rows)), key=lambda item: item[:2])
    cut: list[list[Row]] = []
    last = -SNAPSHOT_GAP_NS
    for stamp, _, row in stamped:
        if not cut or stamp - last >= SNAPSHOT_GAP_NS:
            cut.append([])
        cut[-1].append(row)
        last = stamp
    return cut


def _snapshot(rows: list[Row], at_ns: int | None) -> list[Row]:
    found = snapshots(rows)
    if not found:
        raise MissingDataError("path must hold rows of the currency asked for, has none")
    if at_ns is not None:
        found = [group for group in found if time_of(group[0], *TIMES) <= at_ns]
    if not found:
        raise MissingDataError(f"path must hold a snapshot at or before at_ns, had none at {at_ns}")
    return found[-1]


def _latest(rows: Iterable[Row]) -> int:
    latest = max((time_of(row, *TIMES) for row in rows), default=0)
    if latest <= 0:
        raise MissingDataError(f"path must hold rows with a time ({', '.join(TIMES)}), has none")
    return latest


def _of_currency(row: Row, currency: str) -> bool:
    name = text(row, "instrument_name", "symbol")
    return currency in (text(row, "currency", "base_currency"), name.split("-")[0].split("_")[0])


def load_chain(path: str | Path, *, currency: str | None = None, at_ns: int | None = None,
               spot: Mapping[str, float] | None = None, assets: Iterable[str] = (),
               volatility_unit: str = "auto") -> tuple[Contracts, MarketState]:
    """One snapshot of a chain file as contracts and a market.

    Parameters
    ----------
    path : str or Path
        Parquet (with the pandas extra), CSV or JSON, the last two gzipped or not: Deribit rows by `instrument_name`,
        Tardis options_chain rows, or a JSON mapping with ccxt's "markets", "tickers", "greeks", "order_books".
    currency : str, optional
        Keep the rows of one underlying.
    at_ns : int, optional
        Take the last snapshot that began at or before this time; the last of the file when omitted.
    spot : mapping of str to float, optional
        Prices that the file does not carry, or that overrule it.
    assets : iterable of str, optional
        Further assets that accounts may hold.
    volatility_unit : {"auto", "percent", "fraction"}
        As in `MarketState.from_deribit`.

    Returns
    -------
    contracts : Contracts
    market : MarketState

    Raises
    ------
    MissingDataError
        If there is no file, no snapshot, or no contract in it.
    RangeError
        If the file is of another kind.
    """
    content = read_rows(path)
    if isinstance(content, Mapping) and ("tickers" in content or "greeks" in content):
        parts = {name: content.get(name) for name in ("greeks", "order_books", "funding_rates", "markets")}
        market = MarketState.from_ccxt(content.get("tickers"), spot=spot, volatility_unit=volatility_unit, **parts)
        named = content.get("markets") or [{"symbol": symbol} for symbol in market.mark or ()]
        contracts = ccxt.contracts_from_ccxt(named, assets=assets)
    else:
        rows = [row for row in rows_of(content) if currency is None or _of_currency(row, currency)]
        chosen = _snapshot(rows, at_ns)
        of_deribit = any(text(row, "instrument_name") for row in chosen)
        listed = deribit.contracts_from_deribit if of_deribit else tardis.contracts_from_tardis
        load = MarketState.from_deribit if of_deribit else MarketState.from_tardis
        contracts = listed(chosen, assets=assets)
        market = load(chosen, now_ns=_latest(chosen), spot=spot, volatility_unit=volatility_unit)
    if not contracts.derivatives:
        raise MissingDataError(f"path must hold rows of contracts, {str(path)!r} has none")
    return contracts, market
