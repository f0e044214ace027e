"""The volatility that a margin model uses: realised and implied blended, under anti-procyclical control."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from margincore.errors import MarginError, MissingDataError, RangeError, ShapeError
from margincore.units import DAYS_PER_YEAR, Floats, choice, floats, integer, number
from margincore.vol.article28 import Buffer, LookbackFloor, Option, StressedWeight
from margincore.vol.blend import Blend, MaxBlend, RegimeBlend, WeightedBlend
from margincore.vol.ewma import Ewma
from margincore.vol.margin_volatility_state import MarginVolatilityState, implied_row, returns_row

STALE = ("unknown", "hold", "grow")


class RealisedModel(Protocol):
    """What `MarginVolatility` asks of a volatility model: a streaming state after a history of returns."""

    def start(self, history: Any = ()) -> Any:
        """State whose `update(return)` answers the variance forecast for the next return."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginVolatility:
    """Volatility per annum for margin, in force until the next bar; frozen data, one for any number of underlyings.

    Every bar runs the same stages, in this order:

    1. *realised*: the forecast of `model`, per annum,
    2. *blended* with the implied volatility by `blend`; a stale implied one is left out,
    3. *stressed*: Article 28 option (b), if among `article28`,
    4. *smoothed*: moves towards the stage before by half-lives, one for rises, one for falls,
    5. *buffered*: option (a),
    6. *limited*: at most `rise_max_daily` above and `fall_max_daily` below the charge of the bar before,
    7. *floored*: not below `floor_annual`, nor below option (c).  Floors win over speed limits.

    Parameters
    ----------
    model : volatility model that observes returns
        For example `Ewma()` or a fitted `Garch`; one streaming state of it runs per underlying.
    blend : MaxBlend, WeightedBlend or RegimeBlend
        Rule for realised and implied.
    article28 : tuple of Buffer, StressedWeight, LookbackFloor
        At most one of each.
    floor_annual : float
        Long-run floor, decimal per annum, at least 0.
    half_life_rise_days, half_life_fall_days : float
        At least 0; 0 follows at once.
    rise_max_daily, fall_max_daily : float, optional
        Speed limits per day: 0.5 lets the charge rise by half in a day, 0.1 lets it fall by a tenth.  A limit on
        rises trades coverage for stability: look at `compare_volatility` before setting one.
    stale_after_days : float
        Age of the newest return beyond which it is stale, above 0.
    stale : {"unknown", "hold", "grow"}
        What a stale underlying gets: NaN, so that its accounts become UNKNOWN; the last charge; or the last charge
        growing by `stale_growth_daily` per day beyond the limit.
    stale_growth_daily : float
        Above 0.
    implied_stale_after_days : float
        Age beyond which an implied volatility is left out.
    bar_days : float
        Length of a bar in days, above 0; 1 for daily returns.
    days_per_year : float
        365 for a market that never closes.
    observations_min : int
        Returns the state needs before it has a value, at least 2.
    """

    model: RealisedModel = Ewma()
    blend: Blend = MaxBlend()
    article28: tuple[Option, ...] = ()
    floor_annual: float = 0.0
    half_life_rise_days: float = 0.0
    half_life_fall_days: float = 0.0
    rise_max_daily: float | None = None
    fall_max_daily: float | None = None
    stale_after_days: float = 3.0
    stale: str = "unknown"
    stale_growth_daily: float = 0.10
    implied_stale_after_days: float = 1.5
    bar_days: float = 1.0
    days_per_year: float = DAYS_PER_YEAR
    observations_min: int = 30

    def __post_init__(self) -> None:
        if not callable(getattr(self.model, "start", None)) or getattr(self.model, "observes", "") != "returns":
            raise RangeError(f"model must be a volatility model that observes returns, was {self.model!r}")
        if not isinstance(self.blend, (MaxBlend, WeightedBlend, RegimeBlend)):
            raise RangeError(f"blend must be MaxBlend, WeightedBlend or RegimeBlend, was {self.blend!r}")
        if not isinstance(self.article28, tuple):
            raise RangeError(f"article28 must be a tuple of options, was {self.article28!r}")
        for item in self.article28:
            if not isinstance(item, (Buffer, StressedWeight, LookbackFloor)):
                raise RangeError(f"article28 must hold Buffer, StressedWeight or LookbackFloor, was {item!r}")
        if len({type(item) for item in self.article28}) < len(self.article28):
            raise RangeError(f"article28 must hold each option once, was {self.article28!r}")
        for name in ("floor_annual", "half_life_rise_days", "half_life_fall_days"):
            number(name, getattr(self, name), least=0.0)
        for name in ("stale_after_days", "stale_growth_daily", "implied_stale_after_days", "bar_days", "days_per_year"):
            number(name, getattr(self, name), above=0.0)
        if self.rise_max_daily is not None:
            number("rise_max_daily", self.rise_max_daily, above=0.0)
        if self.fall_max_daily is not None:
            number("fall_max_daily", self.fall_max_daily, above=0.0, below=1.0)
        choice("stale", self.stale, STALE)
        integer("observations_min", self.observations_min, least=2)

    @property
    def periods_per_year(self) -> float:
        """Bars per year."""
        return self.days_per_year / self.bar_days

    @property
    def compliant(self) -> bool:
        """Whether at least one option meets Article 28(1) of Regulation (EU) No 153/2013."""
        return any(item.compliant for item in self.article28)

    @property
    def history_min(self) -> int:
        """Returns of each underlying that `start` needs."""
        floor = self.option(LookbackFloor)
        return max(self.observations_min, floor.observations_min if floor else 0)

    def option(self, kind: type[Any]) -> Any:
        """The option of that kind, or None."""
        return next((item for item in self.article28 if isinstance(item, kind)), None)

    def start(self, history: Any, *, implied: Any = None) -> MarginVolatilityState:
        """State after `history`, the same bits as stepping through its later part.

        Parameters
        ----------
        history : float64 array, shape (bars,) or (bars, underlyings)
            Log returns per bar, oldest first.  The first `observations_min` must be complete; later ones may be NaN,
            a bar that is missing for that underlying.
        implied : float or float64 array, shape of `history` or (bars,), optional
            Implied volatility per annum known at the end of each bar, NaN where none; a number holds throughout.

        Raises
        ------
        ShapeError, NotFiniteError, RangeError
            If the history is too short, infinite, constant at first, or implied is not a volatility per annum.
        """
        panel = _panel(history)
        self._check(panel)
        given = _implied_panel(implied, panel)
        first = panel[:self.observations_min]
        state = MarginVolatilityState(self, [self.model.start(first[:, i].copy()) for i in range(panel.shape[1])])
        state.begin(first, given[:self.observations_min])
        for returns, row in zip(panel[self.observations_min:], given[self.observations_min:], strict=True):
            state.step(returns, row)
        return state

    def filter(self, returns: Any, *, implied: Any = None, warm_up: int | None = None) -> Floats:
        """Volatility per annum in force for each return after the first `warm_up`, and for the next one.

        Parameters
        ----------
        returns, implied
            As `history` and `implied` of `start`.
        warm_up : int, optional
            Returns that only start the state; `history_min` when omitted.

        Returns
        -------
        float64 array, shape (bars - warm_up + 1,) or (bars - warm_up + 1, underlyings)
            Entry t was known before return ``warm_up + t``; the last one is for the return not seen yet.
        """
        panel = _panel(returns)
        begin = integer("warm_up", self.history_min if warm_up is None else warm_up, least=self.history_min)
        if len(panel) < begin:
            raise ShapeError(f"returns must have at least warm_up = {begin} bars, had {len(panel)}")
        given = _implied_panel(implied, panel)
        state = self.start(panel[:begin], implied=given[:begin])
        path = np.empty((len(panel) - begin + 1, panel.shape[1]))
        path[0] = state.sigma_annual()
        for t in range(begin, len(panel)):
            path[t - begin + 1] = state.step(panel[t], given[t])
        return path if np.ndim(returns) == 2 else np.ascontiguousarray(path[:, 0])

    def resolve(self, history: Mapping[str, Any], *, implied: Mapping[str, Any] | None = None,
                age_days: Mapping[str, float] | float = 0.0, bad: str = "raise") -> dict[str, float]:
        """Volatility per annum of each underlying: the scale that sigma-scaled scenarios take.

        Parameters
        ----------
        history : mapping of underlying to float64 array, shape (bars,)
            Log returns per bar; lengths may differ.
        implied : mapping of underlying to float or float64 array, shape (bars,), optional
            As in `start`; underlyings may be absent.
        age_days : float, or mapping of underlying to float
            Age of the newest return.
        bad : {"raise", "unknown"}
            An underlying whose data is refused: raise, or make it NaN, so that its accounts become UNKNOWN, and go on
            with the others.

        Returns
        -------
        dict of str to float
            Decimal per annum in the order of `history`; NaN where the data is stale and `stale` is "unknown".

        Raises
        ------
        MarginError
            Of the kind that the first bad underlying raised, naming every one of them and why.
        """
        if not history:
            raise ShapeError("history must hold at least one underlying, was empty")
        for name, mapping in (("implied", implied or {}), ("age_days", age_days)):
            unknown = set(mapping) - set(history) if isinstance(mapping, Mapping) else set()
            if unknown:
                raise RangeError(f"{name} must name underlyings of history, was {', '.join(sorted(unknown))}")
        choice("bad", bad, ("raise", "unknown"))
        result = dict.fromkeys(history, math.nan)
        series, given = {}, {}
        refused: dict[str, MarginError] = {}
        for name, values in history.items():
            try:
                series[name] = _panel(floats("history", values, finite=False))
                given[name] = _implied_panel((implied or {}).get(name), series[name])
                self._check(series[name])
                number("age_days", self._age(age_days, name), least=0.0)
            except MarginError as error:
                refused[name] = error
        if refused and bad == "raise":
            first = next(iter(refused.values()))
            raise type(first)("; ".join(f"{name}: {error}" for name, error in refused.items())) from first
        good = [name for name in history if name not in refused]
        for length in {len(series[name]) for name in good}:
            names = [name for name in good if len(series[name]) == length]
            state = self.start(np.hstack([series[name] for name in names]),
                               implied=np.hstack([given[name] for name in names]))
            for column, name in enumerate(names):
                result[name] = float(state.sigma_annual(age_days=self._age(age_days, name))[column])
        return result

    @staticmethod
    def _age(age_days: Mapping[str, float] | float, name: str) -> float:
        return age_days.get(name, 0.0) if isinstance(age_days, Mapping) else age_days

    def _check(self, panel: Floats) -> None:
        least = self.history_min
        count = np.isfinite(panel).sum(axis=0)
        if (count < least).any():
            raise ShapeError(f"history must have at least {least} returns, had {count.min()}")
        first = panel[:self.observations_min]
        if np.isnan(first).any():
            bar = int(np.flatnonzero(np.isnan(first).any(axis=1))[0])
            raise MissingDataError(f"history must start with {self.observations_min} complete bars, "
                                   f"was nan in bar {bar}")
        still = first.max(axis=0) == first.min(axis=0)
        if still.any():
            raise RangeError(f"history must move in its first {self.observations_min} bars, "
                             f"was constant at {float(first[0, still.argmax()])!r}")


def _panel(values: Any) -> Floats:
    panel = floats("returns", values, ndim=None, finite=False)
    if panel.ndim not in (1, 2):
        raise ShapeError(f"returns must have 1 or 2 axes, had shape {panel.shape}")
    returns_row(panel.ravel())
    return panel[:, None] if panel.ndim == 1 else panel


def _implied_panel(implied: Any, panel: Floats) -> Floats:
    if implied is None:
        return np.full(panel.shape, np.nan)
    given = floats("implied", implied, ndim=None, finite=False)
    if given.ndim == 1:
        given = given[:, None]
    if given.ndim and given.shape[0] != len(panel):
        raise ShapeError(f"implied must have length {len(panel)}, had {given.shape[0]}")
    try:
        full = np.ascontiguousarray(np.broadcast_to(given, panel.shape))
    except ValueError:
        raise ShapeError(f"implied must have shape {panel.shape}, had {given.shape}") from None
    implied_row(full.ravel())
    return full
