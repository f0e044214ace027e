"""Bars on a regular clock: from columns or from trades, gaps made visible as missing bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError, ShapeError
from margincore.units import DAYS_PER_YEAR, NS_PER_DAY, Floats, Ints, choice, integer, number
from margincore.vol import realised, windows
from margincore.vol.windows import Result

ESTIMATORS = ("close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang",
              "garman_klass_yang_zhang")
BARS_MAX = 100_000_000  # a gap of years at one-second bars is a wrong unit, not data


def times(name: str, values: Any, *, strict: bool) -> Ints:
    """`values` as int64 nanoseconds in order; equal neighbours are refused when `strict`."""
    array: npt.NDArray[Any] = np.asarray(values)
    if array.dtype.kind == "M":
        array = array.astype("datetime64[ns]").astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ShapeError(f"{name} must be a list of integers or datetime64, "
                         f"had dtype {array.dtype} and shape {array.shape}")
    if array.size == 0:
        raise ShapeError(f"{name} must not be empty, had shape {array.shape}")
    result = np.ascontiguousarray(array, np.int64)
    step = np.diff(result)
    bad = step <= 0 if strict else step < 0
    if bad.any():
        i = int(np.flatnonzero(bad)[0]) + 1
        word = "duplicate" if step[i - 1] == 0 else "earlier"
        raise RangeError(f"{name} must be increasing, was {word} at position {i}: "
                         f"{result[i]} after {result[i - 1]}")
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bars:
    """Open, high, low and close on a regular clock, one entry per step; a step without a bar is NaN.

    Parameters
    ----------
    time_ns : int64 array, shape (given bars,)
        Start of each bar, nanoseconds since 1970 UTC (or datetime64), strictly increasing: duplicate and
        unsorted times raise, because which of them is right is the caller's to say.
    open, high, low, close : float64 array, shape (given bars,)
        Positive prices; NaN marks a missing bar.
    bar_ns : int, optional
        Step of the clock; the smallest step between two bars when omitted.  Every step must be a multiple
        of it.

    Attributes
    ----------
    time_ns, open, high, low, close
        The same on the full clock: each gap is filled with bars that are NaN.

    Raises
    ------
    ShapeError, NotFiniteError, RangeError
        If lengths differ, prices or times break the rules above, or the gaps would need over 1e8 bars.
    """

    time_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    bar_ns: int | None = None

    def __post_init__(self) -> None:
        start = times("time_ns", self.time_ns, strict=True)
        columns = windows.bars(self.open, self.high, self.low, self.close)
        if len(start) != len(columns[0]):
            raise ShapeError(f"time_ns must have length {len(columns[0])}, had {len(start)}")
        if self.bar_ns is None and len(start) < 2:
            raise ShapeError("bar_ns must be given with a single bar, was None")
        step = int(np.diff(start).min()) if self.bar_ns is None else integer("bar_ns", self.bar_ns, least=1)
        place, rest = np.divmod(start - start[0], step)
        if rest.any():
            i = int(np.flatnonzero(rest)[0])
            raise RangeError(f"time_ns must step by multiples of {step} ns, "
                             f"was {rest[i]} ns off at position {i}")
        total = int(place[-1]) + 1
        integer("bars on the full clock", total, most=BARS_MAX)
        for name, column in zip(("open", "high", "low", "close"), columns, strict=True):
            full = np.full(total, np.nan)
            full[place] = column
            full.flags.writeable = False
            object.__setattr__(self, name, full)
        clock = start[0] + step * np.arange(total, dtype=np.int64)
        clock.flags.writeable = False
        object.__setattr__(self, "time_ns", clock)
        object.__setattr__(self, "bar_ns", step)

    def __len__(self) -> int:
        return len(self.close)

    @property
    def missing(self) -> int:
        """Number of steps of the clock without a bar."""
        return int(np.isnan(self.close).sum())

    def periods_per_year(self, days_per_year: float = DAYS_PER_YEAR) -> float:
        """Bars per year of `days_per_year` trading days of 24 hours."""
        number("days_per_year", days_per_year, above=0.0)
        assert self.bar_ns is not None
        return days_per_year * (NS_PER_DAY / self.bar_ns)

    def volatility(self, estimator: str = "yang_zhang", *, days_per_year: float = DAYS_PER_YEAR,
                   **options: Any) -> Result:
        """Volatility per annum by one of `ESTIMATORS`; options are those of the function of that name."""
        choice("estimator", estimator, ESTIMATORS)
        columns = {"close_to_close": (self.close,), "parkinson": (self.high, self.low)}
        arguments = columns.get(estimator, (self.open, self.high, self.low, self.close))
        result: Result = getattr(realised, estimator)(
            *arguments, periods_per_year=self.periods_per_year(days_per_year), **options)
        return result

    def paths(self, period_ns: int, *, missing: str = "error") -> tuple[Ints, Floats]:
        """Closes of each whole period of the clock with the close before it in front: what `realised_measures` takes.

        Parameters
        ----------
        period_ns : int
            A multiple of `bar_ns`, `NS_PER_DAY` for days of UTC; periods begin at multiples of it.
        missing : {"error", "skip", "carry"}
            Rule for missing bars; "skip" leaves them NaN.

        Returns
        -------
        start_ns : int64 array, shape (periods,)
        close : float64 array, shape (periods, bars per period + 1)

        Raises
        ------
        RangeError
            If `period_ns` is not a multiple of `bar_ns`, or no bar starts at a multiple of it.
        ShapeError
            If there is no whole period with a close before it.
        """
        assert self.bar_ns is not None
        size, rest = divmod(integer("period_ns", period_ns, least=1), self.bar_ns)
        if rest or int(self.time_ns[0]) % self.bar_ns:
            raise RangeError(f"period_ns must be a multiple of bars of {self.bar_ns} ns that start at such "
                             f"multiples, was {period_ns}")
        (close,) = windows.fill((self.close,), missing)
        lead = int(-self.time_ns[0] // self.bar_ns % size) or size
        periods = (len(close) - lead) // size
        if periods < 1:
            raise ShapeError(f"bars must hold a whole period of {size} and a close before it, held {len(close)}")
        rows = np.lib.stride_tricks.sliding_window_view(close[lead - 1:], size + 1)[::size][:periods]
        return self.time_ns[lead:lead + size * periods:size].copy(), np.ascontiguousarray(rows)

    @classmethod
    def from_trades(cls, time_ns: Any, price: Any, *, bar_ns: int) -> Bars:
        """Bars of the trades in ``[k * bar_ns, (k + 1) * bar_ns)``; a bar without a trade is missing.

        Parameters
        ----------
        time_ns : int64 array, shape (trades,)
            In order; several trades at one time are kept in the order given, an earlier time raises.
        price : float64 array, shape (trades,)
            Positive and finite.
        bar_ns : int
            Length of a bar.
        """
        when = times("time_ns", time_ns, strict=False)
        paid = windows.prices("price", price, length=len(when))
        if np.isnan(paid).any():
            i = int(np.flatnonzero(np.isnan(paid))[0])
            raise RangeError(f"price must be a number for every trade, was nan at position {i}")
        bucket = when // integer("bar_ns", bar_ns, least=1)
        first = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
        last = np.append(first[1:], len(when)) - 1
        return cls(time_ns=bucket[first] * bar_ns, open=paid[first], high=np.maximum.reduceat(paid, first),
                   low=np.minimum.reduceat(paid, first), close=paid[last], bar_ns=bar_ns)


def previous_tick(time_ns: Any, price: Any, *, start_ns: int, step_ns: int, count: int) -> Floats:
    """Prices at ``start_ns + k * step_ns``, ``k = 0 .. count - 1``: the last trade at or before each time.

    Raises
    ------
    RangeError
        If no trade is at or before `start_ns`, or times are not in order.
    """
    when = times("time_ns", time_ns, strict=False)
    paid = windows.prices("price", price, length=len(when))
    steps = np.arange(integer("count", count, least=1), dtype=np.int64)
    grid = integer("start_ns", start_ns) + integer("step_ns", step_ns, least=1) * steps
    place = np.searchsorted(when, grid, side="right") - 1
    if place[0] < 0:
        raise RangeError(f"start_ns must not be before the first trade at {when[0]}, was {start_ns}")
    return np.asarray(paid[place], np.float64)
