"""PricePanel: prices of several underlyings at common dates, checked once, and their joint moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import formula, scenario
from margincore.units import NS_PER_DAY, NS_PER_SECOND, Floats, Ints, choice, floats, integer, stamps

GAPS = ("error", "skip", "keep")
HORIZONS = ("overlapping", "separate", "square_root")


def times(name: str, values: Any) -> Ints:
    """Rising int64 nanoseconds since 1970 UTC, shape (times,), of dates in any usual form."""
    if not isinstance(values, np.ndarray) and hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if not isinstance(values, np.ndarray):
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ShapeError(f"{name} must be a sequence of dates, was {values!r}")
        values = [value.isoformat() if hasattr(value, "isoformat") else value for value in values]
    found = stamps(name, values)
    if found.ndim != 1 or not found.size:
        raise ShapeError(f"{name} must be one non-empty sequence, had shape {found.shape}")
    step = np.diff(found)
    if (step <= 0).any():
        at = int(np.flatnonzero(step <= 0)[0]) + 1
        raise RangeError(f"{name} must rise without duplicates, {date(found[at])} follows {date(found[at - 1])}")
    if step.size and step.max() < NS_PER_SECOND:
        raise RangeError(f"{name} must be nanoseconds: steps of {int(step.max())} are below a second, were they "
                         "milliseconds?")
    return found


def dates_of(time_ns: Ints) -> list[str]:
    """ISO texts of times, all as short as they can be without loss."""
    units: tuple[tuple[Literal["D", "m", "s", "ms", "ns"], int], ...] = (
        ("D", NS_PER_DAY), ("m", 60 * NS_PER_SECOND), ("s", NS_PER_SECOND), ("ms", NS_PER_SECOND // 1000), ("ns", 1))
    unit = next(unit for unit, size in units if not (time_ns % size).any())
    found: list[str] = np.datetime_as_string(time_ns.astype("M8[ns]"), unit=unit).tolist()
    return found


def date(time_ns: int) -> str:
    """ISO text of a time, as short as it can be without loss."""
    return dates_of(np.array([time_ns], np.int64))[0]


@dataclass(frozen=True, slots=True, eq=False)
class PricePanel:
    """Prices at common dates.

    Attributes
    ----------
    underlyings : tuple of str
    price : float64 array, shape (times, underlyings)
        Base currency, above 0.
    time_ns : int64 array, shape (times,), or None
        Nanoseconds since 1970 UTC, rising; None where no dates are known.

    Examples
    --------
    >>> panel = PricePanel.of({"BTC": [100.0, 110.0], "ETH": [10.0, 9.0]}, ["2024-08-04", "2024-08-05"])
    >>> panel.names()
    ('2024-08-05',)
    """

    underlyings: tuple[str, ...]
    price: Floats
    time_ns: Ints | None = None

    @classmethod
    def of(cls, prices: Any, dates: Any = None) -> PricePanel:
        """The panel of a mapping of names to prices, or of a data frame indexed by date.

        Parameters
        ----------
        prices : mapping of str to float64 array of shape (times,), data frame, or PricePanel
        dates : sequence of dates, or mapping of str to sequence of dates, optional
            Nanoseconds since 1970 UTC, ISO text, dates or datetime64.  One sequence for all, or one for each name, and
            then all equal: see `common`.

        Raises
        ------
        ShapeError, RangeError
            If lengths or dates are not aligned, dates do not rise, or a price is not positive.
        NotFiniteError
            If a price is NaN; the name and date are told.
        """
        if isinstance(prices, PricePanel):
            return prices
        prices, dates = _columns(prices, dates)
        when: Ints | None = None
        if isinstance(dates, Mapping):
            first = next(iter(prices))
            for name in prices:
                own = _own_dates(dates, name)
                when = own if when is None else when
                if not np.array_equal(own, when):
                    raise RangeError(f"dates must be aligned, {_first_difference(first, when, name, own)}; "
                                     "PricePanel.common keeps the dates that all have")
        elif dates is not None:
            when = times("dates", dates)
        table = [floats(f"prices[{name!r}]", row, finite=False) for name, row in prices.items()]
        length = table[0].size if when is None else when.size
        for name, row in zip(prices, table, strict=True):
            if row.size != length:
                like = repr(next(iter(prices))) if when is None else "the dates"
                raise ShapeError(f"prices[{name!r}] must have length {length} like {like}, had {row.size}")
            bad = np.flatnonzero(~(row > 0.0) | np.isinf(row))
            if bad.size:
                at = int(bad[0])
                place = f"position {at}" if when is None else date(when[at])
                kind = NotFiniteError if not np.isfinite(row[at]) else RangeError
                raise kind(f"prices[{name!r}] must be finite and above 0, was {float(row[at])!r} at {place}")
        price = np.ascontiguousarray(np.column_stack(table))
        price.flags.writeable = False
        return cls(tuple(prices), price, when)

    @classmethod
    def common(cls, prices: Any, dates: Any = None) -> PricePanel:
        """The panel of the dates at which every name has a price; NaN is none.  Parameters as in `of`, with dates."""
        prices, dates = _columns(prices, dates)
        if dates is None:
            raise RangeError("dates must be given to find those in common, were None")
        if not isinstance(dates, Mapping):
            dates = dict.fromkeys(prices, dates)
        found: dict[str, dict[int, float]] = {}
        for name, values in prices.items():
            row, when = floats(f"prices[{name!r}]", values, finite=False), _own_dates(dates, name)
            if row.size != when.size:
                raise ShapeError(f"prices[{name!r}] must have length {when.size} like its dates, had {row.size}")
            found[name] = {at: value for at, value in zip(when.tolist(), row.tolist(), strict=True) if value == value}
        shared = sorted(set.intersection(*(set(row) for row in found.values())))
        if not shared:
            raise MissingDataError(f"prices must have a date in common, {', '.join(found)} have none")
        return cls.of({name: [row[at] for at in shared] for name, row in found.items()}, np.array(shared, np.int64))

    def __len__(self) -> int:
        return len(self.price)

    def windows(self, steps: int = 1, *, gaps: str = "error", separate: bool = False) -> Ints:
        """First and last place of every span of `steps` periods, int64, shape (spans, 2), oldest first.

        Parameters
        ----------
        steps : int
            At least 1.
        gaps : {"error", "skip", "keep"}
            What a missing date does, the median spacing of the dates being one period and half of one a tolerance: an
            error, no span across it, or a span like any other.
        separate : bool
            Spans that do not overlap, the last of which ends at the last date.
        """
        steps, choice_of = integer("steps", steps, least=1), choice("gaps", gaps, GAPS)
        if len(self) <= steps:
            raise ShapeError(f"prices must have more than {steps} dates, had {len(self)}")
        first = np.arange(len(self) - steps)
        if self.time_ns is not None and choice_of != "keep":
            spacing = np.diff(self.time_ns).astype(np.float64)
            broken = np.rint(spacing / np.median(spacing)) != 1.0
            count = np.concatenate([[0], np.cumsum(broken)])
            whole = count[steps:] == count[:-steps]
            if choice_of == "error" and not whole.all():
                at = int(np.flatnonzero(broken)[0])
                raise RangeError(f"dates must have no gap, {date(self.time_ns[at + 1])} follows "
                                 f"{date(self.time_ns[at])}; gaps='skip' leaves such moves out")
            first = first[whole]
        if separate:
            first, kept, after = first[::-1], [], len(self)
            for place in first.tolist():
                if place + steps <= after:
                    kept.append(place)
                    after = place
            first = np.array(kept[::-1], np.int64)
        if not first.size:
            raise MissingDataError(f"dates must have {steps} periods without a gap somewhere, have none")
        return np.column_stack([first, first + steps])

    def names(self, spans: npt.ArrayLike | None = None) -> tuple[str, ...]:
        """A name for every span: the date a move of one period ends, or the dates a longer one joins."""
        places = self.windows(gaps="keep") if spans is None else np.asarray(spans)
        if self.time_ns is None:
            return tuple(f"move {at}" if at - start == 1 else f"move {start + 1} to {at}"
                         for start, at in places.tolist())
        text = dates_of(self.time_ns)
        return tuple(text[at] if at - start == 1 else f"{text[start]} to {text[at]}" for start, at in places.tolist())

    def log_moves(self, spans: npt.ArrayLike) -> Floats:
        """``ln(price after / price before)`` of every span, float64, shape (spans, underlyings)."""
        places = np.asarray(spans)
        return ratios(self.price[places[:, 1]], self.price[places[:, 0]])


def ratios(after: Floats, before: Floats) -> Floats:
    """``ln(after / before)`` of arrays of one shape, the same bits on every processor."""
    out = np.empty(after.size)
    formula.log_ratios(np.ascontiguousarray(after).ravel(), np.ascontiguousarray(before).ravel(), out)
    return out.reshape(after.shape)


def relative(log_moves: Floats) -> Floats:
    """``exp(x) - 1`` of an array, the same bits on every processor."""
    out = np.empty(log_moves.size)
    scenario.growth_moves(np.ascontiguousarray(log_moves).ravel(), out)
    return out.reshape(log_moves.shape)


def _columns(prices: Any, dates: Any) -> tuple[Mapping[str, Any], Any]:
    if hasattr(prices, "columns") and hasattr(prices, "index"):
        dates = prices.index if dates is None else dates
        prices = {str(name): prices[name].to_numpy() for name in prices.columns}
    if not isinstance(prices, Mapping) or not prices:
        raise RangeError(f"prices must map underlyings to prices, was {prices!r}")
    return prices, dates


def _own_dates(dates: Mapping[str, Any], name: str) -> Ints:
    if name not in dates:
        raise MissingDataError(f"dates must have an entry for {name!r}, had {', '.join(dates)}")
    return times(f"dates[{name!r}]", dates[name])


def _first_difference(first: str, when: Ints, name: str, own: Ints) -> str:
    size = min(when.size, own.size)
    differs = np.flatnonzero(when[:size] != own[:size])
    if not differs.size:
        return f"{first!r} has {when.size} and {name!r} {own.size}"
    at = int(differs[0])
    return f"{first!r} has {date(when[at])} where {name!r} has {date(own[at])}"
