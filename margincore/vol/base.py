"""What every volatility model is: a map from parameters to one recursion of the kernel, and what follows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from margincore.errors import MarginError, RangeError, ShapeError
from margincore.kernels.variance import PanelState, VarianceState
from margincore.units import Floats, Ints, floats, integer, number
from margincore.vol.innovation import Innovation, Normal, SkewT, StudentT

BACKCAST_DECAY, BACKCAST_LENGTH = 0.94, 75  # RiskMetrics' decay; its weight left after 75 returns is 1 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Recursion:
    """Parameters of one kernel recursion; see `margincore.kernels.variance` for the three forms."""

    omega: float
    first: tuple[float, ...]
    second: tuple[float, ...]
    beta: tuple[float, ...]
    mean: float = 0.0
    first_share: float = 0.5
    form: str = "square"

    def begin(self, start_variance: float, first_share: float, *, moved: bool = True) -> VarianceState:
        """State before the first observation: every lag at `start_variance`, split between the two features."""
        return VarianceState.begin(mean=self.mean, omega=self.omega, first=self.first, second=self.second,
                                   beta=self.beta, start_variance=start_variance,
                                   first_share=first_share, form=self.form, moved=moved)

    def owns(self, saved: dict[str, Any]) -> bool:
        """Whether a saved state runs this recursion."""
        theirs = saved["form"], saved["mean"], saved["omega"], *(tuple(saved[x]) for x in ("first", "second", "beta"))
        return theirs == (self.form, self.mean, self.omega, self.first, self.second, self.beta)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected variance of the coming returns.

    Attributes
    ----------
    variance : float64 array, shape (horizon_steps,)
        Expected variance of each coming return, per step.
    total : float
        Variance of the sum of the returns up to the horizon (they are uncorrelated): the sum of the path.
    """

    variance: Floats
    total: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the sum of the returns up to the horizon."""
        return math.sqrt(self.total)


@dataclass(frozen=True, slots=True)
class Simulation:
    """Simulated paths; both float64 arrays, shape (paths, steps)."""

    returns: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class PanelFilter:
    """One-step variance forecasts of many series.

    Attributes
    ----------
    variance : float64 array, shape (times + 1, series)
        As `VolatilityModel.filter`, each column on its own: NaN after a return that was refused, and throughout where
        the series gives no start.
    refused : int64 array, shape (series,)
        Returns that were not finite (or gave no finite variance): the state skipped them.  All of them where the
        series gave no start.
    """

    variance: Floats
    refused: Ints


class VolatilityModel(ABC):
    """A conditional variance model: frozen parameters, and one recursion of the kernel that they resolve to.

    A new model states `recursion`, `unconditional_variance` and `fit`; filtering, streaming, forecasts,
    simulation, news impact and standardised residuals follow.  Batch, chunks and single updates give the same bits.
    """

    __slots__ = ()
    observes: ClassVar[str] = "returns"  # or "realised_variance": what `filter` and `update` take

    # Fields of every model; declared here for the type checker.
    innovation: Innovation
    start_variance: float | None

    @abstractmethod
    def recursion(self) -> Recursion:
        """The kernel recursion of these parameters."""

    @property
    @abstractmethod
    def unconditional_variance(self) -> float:
        """Long-run variance per step; infinite where the model has none."""

    def filter(self, returns: Any) -> Floats:
        """One-step variance forecasts along a series.

        Parameters
        ----------
        returns : float64 array, shape (times,)
            Returns per step (realised variances for a model that observes those), finite.

        Returns
        -------
        float64 array, shape (times + 1,)
            ``h[t]`` is the variance forecast for ``returns[t]`` from what came before; the last is the forecast
            for the next return, not seen yet.

        Raises
        ------
        NotFiniteError, ShapeError
            If a return is not finite, or the series is empty.
        """
        series = floats("returns", returns, finite=False)  # the kernel looks at every value anyway
        state = self._begin(series)
        path = np.empty(series.size + 1)
        path[0] = state.variance
        state.extend(series, path[1:])
        return path

    def start(self, history: Any = ()) -> VarianceState:
        """Streaming state after `history` (times,), possibly empty where the model knows its start variance.

        ``state.update(value)`` takes one return and answers the variance forecast for the next.
        """
        series = floats("history", np.asarray(history, np.float64), finite=False, empty=True)
        state = self._begin(series)
        if series.size:
            state.extend(series, np.empty(series.size))
        return state

    def start_panel(self, history: Any) -> PanelState:
        """Streaming state of many series of this model after `history` (times, series).

        ``state.update(values, out)`` takes one return of each and writes the variance forecasts for the next, the
        bits that one state per series gives.  A return that is not finite is refused for its series alone.

        Raises
        ------
        MarginError
            If a series gives no start, with its number in front.
        """
        table = floats("history", history, ndim=2, finite=False, empty=True)
        states = []
        for at, column in enumerate(table.T):
            try:
                states.append(self._begin(column[np.isfinite(column)]))
            except MarginError as error:
                raise type(error)(f"series {at}: {error}") from error
        panel = PanelState(states)
        panel.extend(table, np.empty_like(table))
        return panel

    def filter_panel(self, returns: Any) -> PanelFilter:
        """One-step variance forecasts along each column of `returns` (times, series), each on its own.

        The numbers of `filter`, bit for bit; what `filter` refuses is NaN for its series alone, and counted.
        """
        table = floats("returns", returns, ndim=2, finite=False)
        states, kept = [], []
        for at, column in enumerate(table.T):
            try:
                states.append(self._begin(column[np.isfinite(column)]))
                kept.append(at)
            except MarginError:  # said by the count of refused returns
                continue
        variance = np.full((table.shape[0] + 1, table.shape[1]), np.nan)
        refused = np.full(table.shape[1], table.shape[0], np.int64)
        if kept:
            panel = PanelState(states)
            out = np.empty((table.shape[0], len(kept)))
            variance[0, kept] = panel.variance
            panel.extend(np.ascontiguousarray(table[:, kept]), out)
            variance[1:, kept], refused[kept] = out, panel.refused
        return PanelFilter(variance, refused)

    def forecast(self, history: Any, horizon_steps: int) -> Forecast:
        """Expected variance path over the next `horizon_steps` returns.

        Parameters
        ----------
        history : float64 array, shape (times,), or VarianceState of this model
        horizon_steps : int
            At least 1.
        """
        steps = integer("horizon_steps", horizon_steps, least=1)
        path = self._path(self._lags(history), steps)
        return Forecast(path, math.fsum(path))

    def simulate(self, steps: int, generator: np.random.Generator, *, paths: int = 1,
                 state: VarianceState | None = None) -> Simulation:
        """Paths drawn from the model, from its start or onward from `state`, which stays as it is.

        Parameters
        ----------
        steps, paths : int
            At least 1 each.
        generator : numpy.random.Generator
            The only source of randomness.
        state : VarianceState, optional
            Of this model.
        """
        shape = (integer("paths", paths, least=1), integer("steps", steps, least=1))
        if not isinstance(generator, np.random.Generator):
            raise RangeError(f"generator must be a numpy.random.Generator, was {generator!r}")
        origin = self._begin(np.empty(0)) if state is None else self._own(state)
        shocks = np.ascontiguousarray(self.innovation.draw(generator, shape))
        result = Simulation(np.empty(shape), np.empty(shape))
        for path in range(shape[0]):
            origin.copy().simulate(shocks[path], result.returns[path], result.variance[path])
        return result

    def standardised_residuals(self, returns: Any) -> Floats:
        """Shocks in units of the forecast deviation, ``(r - mean) / sqrt(h)``, shape (times,)."""
        series = floats("returns", returns)
        return np.asarray((series - self.recursion().mean) / np.sqrt(self.filter(series)[:-1]))

    def news_impact(self, shocks: Any, *, variance: float | None = None) -> Floats:
        """Next variance by the last shock (return less mean), which came at `variance` as all before [1]_.

        Parameters
        ----------
        shocks : float64 array, shape (shocks,)
            Per step.
        variance : float, optional
            Positive; the long-run variance when omitted.

        References
        ----------
        .. [1] R. Engle, V. Ng, *Measuring and testing the impact of news on volatility*, Journal of Finance 48 (1993),
           equation 5.
        """
        values = floats("shocks", shocks)
        at = self._resting_variance() if variance is None else variance
        recursion = self.recursion()
        state = recursion.begin(number("variance", at, above=0.0), recursion.first_share, moved=False)
        return np.array([state.copy().update(recursion.mean + shock) for shock in values])

    def _begin(self, series: Floats) -> VarianceState:
        # A given start variance, as a fit leaves it, is split evenly; the long-run one as the law splits it.
        recursion = self.recursion()
        if self.start_variance is not None:
            return recursion.begin(self.start_variance, 0.5 if recursion.form == "square" else 1.0)
        return recursion.begin(self._first_variance(series), recursion.first_share)

    def _first_variance(self, series: Floats) -> float:
        return self._resting_variance()

    def _resting_variance(self) -> float:
        return self.unconditional_variance

    def _own(self, state: VarianceState) -> VarianceState:
        if not isinstance(state, VarianceState):
            raise ShapeError(f"state must be a VarianceState, was {type(state).__name__}")
        if not self.recursion().owns(state.save()):
            raise RangeError("state must come from this model, had other parameters")
        return state

    def _lags(self, history: Any) -> dict[str, Any]:
        state = self._own(history) if isinstance(history, VarianceState) else self.start(history)
        return state.save()

    def _path(self, lags: dict[str, Any], steps: int) -> Floats:
        # Expectations of the linear recursion: a coming squared shock is expected at its variance.
        a, b, level = list(lags["a"]), list(lags["b"]), list(lags["level"])
        recursion = self.recursion()
        path = np.empty(steps)
        path[0] = level[0]
        for step in range(1, steps):
            a = [recursion.first_share * level[0], *a[:-1]]
            b = [(1.0 - recursion.first_share) * level[0], *b[:-1]]
            terms = zip((recursion.first, recursion.second, recursion.beta), (a, b, level), strict=True)
            following = math.fsum([recursion.omega, *(
                weight * lag for row, values in terms for weight, lag in zip(row, values, strict=False))])
            level = [following, *level[:-1]]
            path[step] = following
        return path


def backcast(values: Any) -> float:
    """Exponentially weighted mean of the first 75 squares, decay 0.94: a variance before a series begins."""
    series = floats("values", values)[:BACKCAST_LENGTH]
    factors = BACKCAST_DECAY ** np.arange(series.size)
    return float(math.fsum(factors * series * series) / math.fsum(factors))


def weights(name: str, value: float | Sequence[float], *, least: float | None = 0.0) -> tuple[float, ...]:
    """Weights per lag as a tuple; a single number stands for one lag."""
    items = (value,) if isinstance(value, (int, float)) else tuple(value)
    return tuple(number(name, item, least=least) for item in items)


def check_common(model: Any) -> None:
    """Check the fields that every model of returns has: mean, innovation and start variance."""
    object.__setattr__(model, "mean", number("mean", model.mean))
    if not isinstance(model.innovation, (Normal, StudentT, SkewT)):
        raise RangeError(f"innovation must be Normal, StudentT or SkewT, was {model.innovation!r}")
    if model.start_variance is not None:
        object.__setattr__(model, "start_variance", number("start_variance", model.start_variance, above=0.0))


def check_persistence(value: float) -> None:
    """Refuse parameters whose variance does not return to a long-run level."""
    if not value < 1.0:
        raise RangeError(f"persistence must be below 1 for a stationary variance, was {value!r}")
