"""Volatility models side by side: what margin they would have asked for, how it moved, and what it covered."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import MarginError, MissingDataError, RangeError, ShapeError
from margincore.units import DAYS_PER_YEAR, Floats, Ints, floats, integer, number, optional
from margincore.validation.procyclicality import Procyclicality, margin_path, procyclicality
from margincore.vol import MarginVolatility, VolatilityModel
from margincore.vol.bars import times
from margincore.vol.windows import log_returns, prices

WEEK_DAYS = 7.0


@dataclass(frozen=True, slots=True)
class CrashRow:
    """Margin of one model around one bar, as a fraction of notional.

    Attributes
    ----------
    model : str
        Name of the model.
    before : float
        In force for the move of the bar: set at the end of the bar before.
    during : float
        Set at the end of the bar.
    after : float
        Set a week later, or at the end of the history if that comes first.
    largest : float
        Largest from the bar before to a week later.
    move : float
        Relative change of the price over the bar.
    covered : bool
        Whether `before` was at least as large as the move, either way.
    """

    model: str
    before: float
    during: float
    after: float
    largest: float
    move: float
    covered: bool


@dataclass(frozen=True, slots=True, eq=False)
class VolatilityComparison:
    """Margin paths of several models over one history, and the metrics of each; print it, plot it, store it.

    Attributes
    ----------
    price : float64 array, shape (bars,)
        Closes from the end of the warm-up on.
    time_ns : int64 array, shape (bars,), or None
        Their times.
    rate : dict of str to float64 array, shape (bars,)
        Margin per unit of notional set at each close, by model.
    metrics : dict of str to Procyclicality
        By model.
    bar_days : float
        Days per bar.
    """

    price: Floats
    time_ns: Ints | None
    rate: dict[str, Floats]
    metrics: dict[str, Procyclicality]
    bar_days: float

    def to_dict(self) -> dict[str, dict[str, float]]:
        """One flat row of numbers per model."""
        rows = {}
        for name, item in self.metrics.items():
            rows[name] = {
                "mean_margin": item.mean,
                "peak_to_trough": item.peak_to_trough,
                **{f"largest_{n}_period_increase": value for n, value in item.increase.items()},
                "margin_calls": item.calls.calls,
                "calls_by_parameters": item.calls.by_parameters,
                "parameter_share": item.calls.parameter_share,
                "observations": item.coverage.observations,
                "exceptions": item.coverage.exceptions,
                "coverage": item.coverage.coverage,
                "average_uncovered": item.coverage.average_uncovered,
                "largest_uncovered": item.coverage.largest_uncovered,
            }
        return rows

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame, one model per row; pandas must be installed."""
        return optional("to_pandas", "pandas", "pandas").DataFrame.from_dict(self.to_dict(), orient="index")

    def __str__(self) -> str:
        periods = next(iter(self.metrics.values())).increase
        head = ["mean margin", "peak/trough", *(f"max +{n}" for n in periods), "calls", "by param.", "coverage",
                "worst gap"]
        rows = [[f"{m.mean:.2%}", f"{m.peak_to_trough:.2f}", *(f"{v:+.1%}" for v in m.increase.values()),
                 f"{m.calls.calls}", f"{m.calls.parameter_share:.1%}", f"{m.coverage.coverage:.3%}",
                 f"{m.coverage.largest_uncovered:.2%}"] for m in self.metrics.values()]
        return _table(["model", *head], [[name, *row] for name, row in zip(self.metrics, rows, strict=True)])

    def around(self, bar: int) -> list[CrashRow]:
        """Margin of every model before, on and a week after a bar, counted from the end of the warm-up; 1 or more."""
        at = integer("bar", bar, least=1, most=len(self.price) - 1)
        end = min(at + max(1, round(WEEK_DAYS / self.bar_days)), len(self.price) - 1)
        move = float(self.price[at] / self.price[at - 1] - 1.0)
        return [CrashRow(name, float(r[at - 1]), float(r[at]), float(r[end]), float(r[at - 1:end + 1].max()), move,
                         bool(abs(move) <= r[at - 1])) for name, r in self.rate.items()]

    def at_time(self, time_ns: int) -> int:
        """Number of the bar with that time, for `around`."""
        if self.time_ns is None:
            raise MissingDataError("time_ns must have been given to compare_volatility, was None")
        place = int(np.searchsorted(self.time_ns, time_ns))
        if place == len(self.time_ns) or self.time_ns[place] != time_ns:
            raise RangeError(f"time_ns must be the time of a bar, was {time_ns}")
        return place

    def plot(self) -> Any:
        """A matplotlib Figure: price above, margin of every model below; matplotlib must be installed."""
        figures = optional("plot", "matplotlib.figure", "plot")
        figure = figures.Figure(figsize=(10.0, 6.0), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
        bars = np.arange(len(self.price)) if self.time_ns is None else self.time_ns.astype("datetime64[ns]")
        above.semilogy(bars, self.price, color="black", linewidth=0.8)
        above.set_ylabel("price")
        for name, rate in self.rate.items():
            below.plot(bars, 100.0 * rate, linewidth=0.9, label=name)
        below.set_ylabel("margin, % of notional")
        below.legend(loc="upper left", fontsize="small")
        return figure


def format_crash(rows: Sequence[CrashRow]) -> str:
    """The rows of `VolatilityComparison.around` as text."""
    cells = [[r.model, f"{r.before:.2%}", f"{r.during:.2%}", f"{r.after:.2%}", f"{r.largest:.2%}", f"{r.move:+.2%}",
              "yes" if r.covered else "NO"] for r in rows]
    return _table(["model", "day before", "day of", "week after", "largest", "move", "covered"], cells)


def compare_volatility(models: Mapping[str, Any], price: Any, *, implied: Any = None, time_ns: Any = None,
                       confidence: float = 0.99, horizon_days: float = 1.0, warm_up: int = 250,
                       periods: Sequence[int] = (1, 5, 20), bar_days: float = 1.0,
                       days_per_year: float = DAYS_PER_YEAR) -> VolatilityComparison:
    """Procyclicality and coverage of volatility models over one history, side by side.

    Each model's volatility per annum becomes a margin rate, ``quantile * sigma * sqrt(horizon_days / days_per_year)``
    with the one-sided normal quantile at `confidence`.  The rate set at a close covers the move to the next.

    Parameters
    ----------
    models : mapping of str to model
        By the name to show: a `MarginVolatility`; any volatility model that observes returns; a number, volatility
        per annum held for ever; or a float64 array of shape (bars,) or (bars - warm_up,), volatility per annum known
        at each close, which serves any other model.
    price : float64 array, shape (bars,)
        Closes, positive and complete.
    implied : float or float64 array, shape (bars,), optional
        Implied volatility per annum known at each close, for the models that use it.
    time_ns : int64 array, shape (bars,), optional
        Times of the closes, strictly increasing; for plots and crash windows.
    confidence : float
        In (0.5, 1).
    horizon_days : float
        Above 0.
    warm_up : int
        Closes before the evaluation starts, the same for every model; at least 2.
    periods : sequence of int
        Lengths of the n-day measure, in bars.
    bar_days, days_per_year : float
        Length of a bar, and of a year, in days.

    Returns
    -------
    VolatilityComparison

    Raises
    ------
    MarginError
        With the name of the model in front, where a model is at fault.
    """
    if not models:
        raise ShapeError("models must hold at least one model, was empty")
    closes = prices("price", price)
    if np.isnan(closes).any():
        where = int(np.flatnonzero(np.isnan(closes))[0])
        raise MissingDataError(f"price must be complete, was nan at position {where}")
    begin = integer("warm_up", warm_up, least=2)
    longest = max((integer("periods", n, least=1) for n in periods), default=1)
    if len(closes) < begin + longest + 1:
        raise ShapeError(f"price must have at least {begin + longest + 1} bars, had {len(closes)}")
    clock = None if time_ns is None else times("time_ns", time_ns, strict=True)
    if clock is not None and len(clock) != len(closes):
        raise ShapeError(f"time_ns must have length {len(closes)}, had {len(clock)}")
    yearly = number("days_per_year", days_per_year, above=0.0) / number("bar_days", bar_days, above=0.0)
    quantile = statistics.NormalDist().inv_cdf(number("confidence", confidence, above=0.5, below=1.0))
    scale = quantile * float(np.sqrt(number("horizon_days", horizon_days, above=0.0) / days_per_year))
    known = _implied(implied, closes)
    returns = log_returns(closes)[1:]
    rate, metrics = {}, {}
    for name, model in models.items():
        try:
            sigma = _sigma_path(model, returns, known, begin, yearly)
            rate[name] = scale * margin_path("volatility", sigma, length=len(closes) - begin)
            metrics[name] = procyclicality(rate[name], closes[begin:], periods=periods)
        except MarginError as error:
            raise type(error)(f"{name}: {error}") from error
    return VolatilityComparison(closes[begin:], None if clock is None else clock[begin:], rate, metrics, bar_days)


def _implied(implied: Any, closes: Floats) -> Floats | None:
    if implied is None:
        return None
    array = floats("implied", implied, ndim=None, finite=False)
    if array.ndim == 0:
        array = np.full(len(closes), float(array))
    # The return that ends at a close goes with what was implied at that close.
    return floats("implied", array, length=len(closes), finite=False)[1:]


def _sigma_path(model: Any, returns: Floats, implied: Floats | None, begin: int, yearly: float) -> Floats:
    """Volatility per annum known at each close from number `begin` on."""
    bars = len(returns) + 1
    if isinstance(model, MarginVolatility):
        if not np.isclose(model.periods_per_year, yearly, rtol=1e-12):
            raise RangeError(f"model must have {yearly:g} bars per year, had {model.periods_per_year:g}")
        return model.filter(returns, implied=implied, warm_up=begin)
    if isinstance(model, VolatilityModel):
        if model.observes != "returns":
            raise RangeError(f"model must observe returns, observes {model.observes}: give its path as an array")
        # From a state that has seen the warm-up alone: a start taken from the data must not know what comes later.
        state, path = model.start(returns[:begin]), np.empty(bars - begin)
        path[0] = state.variance
        state.extend(returns[begin:], path[1:])
        return np.sqrt(path * yearly)
    if isinstance(model, (int, float)) and not isinstance(model, bool):
        return np.full(bars - begin, number("volatility", model, above=0.0))
    path = floats("volatility", model, finite=False)
    return path[begin:] if len(path) == bars else path


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        first, *rest = row
        lines.append("  ".join([first.ljust(widths[0]),
                                *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]).rstrip())
    return "\n".join(lines)
