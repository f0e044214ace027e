"""Chain: the raw quotes of the options on one underlying at one time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.contracts import Option
from margincore.errors import MarginError, MissingDataError, RangeError, ShapeError
from margincore.io.deribit import contract_of
from margincore.io.rows import Row, real, rows_of, text, time_of
from margincore.units import Floats, Ints, Right, floats, integer, number, stamps, told


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chain:
    """Raw quotes of the options on one underlying at one time; NaN is a missing number.

    Parameters
    ----------
    underlying : str
    time_ns : int
        Time of the snapshot, nanoseconds since 1970 UTC.
    expiry_ns : int64 array, shape (rows,)
        Nanoseconds since 1970 UTC; dates are understood too.
    strike : float64 array, shape (rows,)
        Quote currency.
    is_call : bool array, shape (rows,)
    bid, ask : float64 array, shape (rows,)
        Premium: quote currency, or coin per coin of underlying when `inverse`.
    mark : float64 array, shape (rows,), optional
        The venue's own price, same unit.
    future : float64 array, shape (rows,), optional
        The venue's forward or future of the row's expiry, quote currency.
    quote_ns : int64 array, shape (rows,), optional
        When each row was quoted; 0 where unknown.
    inverse : bool
        Coin-settled premiums.
    spot : float
        NaN when unknown.
    row : int64 array, shape (rows,), optional
        Number of each row in the source; 0, 1, 2, ... when omitted.
    skipped : tuple of (int, str)
        Number and reason of the source's rows that are no part of the chain: "NO_OPTION" where a row names no option
        that can be read, "OTHER_SETTLEMENT" for the smaller part of a source that mixes coin-settled and linear ones.
    """

    underlying: str
    time_ns: int
    expiry_ns: Ints
    strike: Floats
    is_call: npt.NDArray[np.bool_]
    bid: Floats
    ask: Floats
    mark: Floats | None = None
    future: Floats | None = None
    quote_ns: Ints | None = None
    inverse: bool = False
    spot: float = float("nan")
    row: Ints | None = None
    skipped: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        rows = np.size(self.strike)
        object.__setattr__(self, "time_ns", integer("time_ns", self.time_ns, least=1))
        if not isinstance(self.underlying, str) or not isinstance(self.inverse, (bool, np.bool_)):
            raise RangeError("underlying must be a name and inverse True or False, "
                             f"were {self.underlying!r} and {self.inverse!r}")
        object.__setattr__(self, "spot", number("spot", self.spot, above=0.0) if told(self.spot) else float("nan"))
        for name, read, blank in (("expiry_ns", stamps, 0), ("strike", _numbers, np.nan), ("is_call", _flags, False),
                                  ("bid", _numbers, np.nan), ("ask", _numbers, np.nan), ("mark", _numbers, np.nan),
                                  ("future", _numbers, np.nan), ("quote_ns", stamps, 0), ("row", _integers, -1)):
            value = getattr(self, name)
            if value is None and name not in REQUIRED:
                value = np.arange(rows) if name == "row" else np.full(rows, blank)
            array = np.array(read(name, value))
            if array.shape != (rows,):
                raise ShapeError(f"{name} must have one entry per strike ({rows}), had shape {array.shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return int(self.strike.size)

    @classmethod
    def from_rows(cls, rows: Any, *, currency: str | None = None, inverse: bool | None = None,
                  time_ns: int | None = None) -> Chain:
        """Chain of one snapshot's rows: Deribit's by `instrument_name`, or rows with strike, expiry and right.

        Parameters
        ----------
        rows : list of mapping, or table
            Fields understood: instrument_name or symbol; strike or strike_price; expiry_ns, expiry_ms, expiration or
            expiry; option_type, type or right; bid_price, bid or best_bid_price; ask likewise; mark_price or mark;
            underlying_price or forward; index_price or spot; ts_ms or timestamp.  Times are numbers since 1970 in s,
            ms, us or ns, ISO text or datetimes, UTC where they have no zone.
        currency : str, optional
            Keep one underlying of several.
        inverse : bool, optional
            Coin-settled premiums; told from Deribit's names when omitted, else linear.
        time_ns : int, optional
            Time of the snapshot; the latest of the rows when omitted.
        """
        found: list[_Line] = []
        numbers: list[int] = []
        skipped: list[tuple[int, str]] = []
        for at, row in enumerate(rows_of(rows)):
            line = _line_of(row)
            if isinstance(line, str):
                skipped += [(at, line)] if line else []
            elif currency is None or line[0] == currency:
                found.append(line)
                numbers.append(at)
        if not found:
            raise MissingDataError("rows must hold options by instrument_name, or by strike, expiry (a time) and "
                                   f"option_type{'' if currency is None else f', of currency {currency!r}'}, have none")
        names = sorted({line[0] for line in found})
        if len(names) > 1:
            raise RangeError(f"rows must be of one underlying: choose a currency among {', '.join(names)}")
        kinds = {line[1] for line in found}
        if inverse is None and len(kinds) > 1:
            # Coin-settled and linear chains of one underlying may share a file: the larger one is meant.
            inverse = sum(line[1] for line in found) * 2 >= len(found)
            skipped += [(at, OTHER_SETTLEMENT) for at, line in zip(numbers, found, strict=True) if line[1] != inverse]
            numbers = [at for at, line in zip(numbers, found, strict=True) if line[1] == inverse]
            found = [line for line in found if line[1] == inverse]
        inverse = found[0][1] if inverse is None else bool(inverse)
        expiry, strike, call, bid, ask, mark, future, times = zip(*(line[2:10] for line in found), strict=True)
        if time_ns is None and max(times) <= 0:
            raise MissingDataError("time_ns must be given, the rows carry no time")
        spots = [line[10] for line in found if line[10] > 0.0]
        return cls(underlying=names[0], time_ns=max(times) if time_ns is None else time_ns,
                   expiry_ns=np.array(expiry, np.int64), strike=np.array(strike), is_call=np.array(call, np.bool_),
                   bid=np.array(bid), ask=np.array(ask), mark=np.array(mark), future=np.array(future),
                   quote_ns=np.array(times, np.int64), inverse=inverse,
                   spot=float(np.median(spots)) if spots else float("nan"), row=np.array(numbers, np.int64),
                   skipped=tuple(sorted(skipped)))


NO_OPTION, OTHER_SETTLEMENT = "NO_OPTION", "OTHER_SETTLEMENT"
REQUIRED = ("expiry_ns", "strike", "is_call", "bid", "ask")
TIMES = ("ts_ms", "timestamp", "creation_timestamp", "local_timestamp")
_Line = tuple[str, bool, int, float, bool, float, float, float, float, int, float]


def _numbers(name: str, values: Any) -> Floats:
    return floats(name, values, finite=False, empty=True)


def _integers(name: str, values: Any) -> Ints:
    array: npt.NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise RangeError(f"{name} must hold integers, was {values!r:.60}")
    return array.astype(np.int64)


def _flags(name: str, values: Any) -> npt.NDArray[np.bool_]:
    """`values` as flags; text and NaN, which Python takes for True, are refused."""
    array: npt.NDArray[Any] = np.asarray(values)
    if not (array.dtype.kind in "bi" and np.isin(array, (0, 1)).all() or array.size == 0):
        raise RangeError(f"{name} must hold True or False, was {values!r:.60}")
    return array.astype(np.bool_)


def _line_of(row: Row) -> _Line | str:
    """(underlying, inverse, expiry, strike, call, bid, ask, mark, future, time, spot), or why the row is left out.

    Other instruments, as feeds list them among options, are "": nobody misses them.
    """
    name = text(row, "instrument_name", "symbol")
    try:
        contract = contract_of(name) if name else None
    except MarginError:  # a name with a strike beyond all numbers
        return NO_OPTION
    if isinstance(contract, Option):
        underlying, inverse = contract.underlying, contract.inverse
        expiry, strike, call = contract.expiry_ns, contract.strike, contract.right == Right.CALL
    else:
        right = text(row, "option_type", "type", "right").lower()
        strike = real(row, "strike", "strike_price")
        expiry = time_of(row, "expiry_ns", "expiry_ms", "expiration", "expiry", "expiration_timestamp")
        if right not in ("c", "p", "call", "put") or expiry <= 0:
            return NO_OPTION if contract is None else ""
        underlying, inverse, call = text(row, "currency", "underlying") or name.split("-")[0], False, right[0] == "c"
    return (underlying, inverse, expiry, strike, call, real(row, "bid_price", "bid", "best_bid_price"),
            real(row, "ask_price", "ask", "best_ask_price"), real(row, "mark_price", "mark"),
            real(row, "underlying_price", "forward", "future"),
            time_of(row, *TIMES),
            real(row, "index_price", "estimated_delivery_price", "spot"))
