"""Streaming state of `MarginVolatility`: every stage is element-wise over underlyings, so any order has its bits."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from margincore.errors import MarginError, NotFiniteError, RangeError, ShapeError
from margincore.kernels import realised as kernel
from margincore.kernels.variance import VarianceState
from margincore.units import Floats, floats, number
from margincore.vol.article28 import Buffer, LookbackFloor, StressedWeight
from margincore.vol.blend import RegimeBlend
from margincore.vol.sliding import SlidingSum

if TYPE_CHECKING:
    from margincore.vol.margin_volatility import MarginVolatility

IMPLIED_MAX = 10.0  # 1000 % per annum; an index in points (55 for 55 %) is above it
RETURN_MAX = 20.0   # a price that multiplies by 5e8 in a bar is a wrong unit, for example returns in per cent
STAGES = ("realised", "blended", "stressed", "smoothed", "buffered", "limited", "floor", "charged")


class DataStatus(enum.IntEnum):
    """Age of the data behind one volatility; zero, the value of fresh memory, is UNKNOWN."""

    UNKNOWN = 0
    STALE = 1
    IMPLIED_STALE = 2
    FRESH = 3


def implied_row(values: Floats) -> Floats:
    """Implied volatilities, checked; NaN means none is known."""
    bad = ~np.isnan(values) & ~((values > 0.0) & (values <= IMPLIED_MAX))
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        kind = NotFiniteError if np.isinf(values[where]) else RangeError
        raise kind(f"implied must be a decimal per annum in (0, {IMPLIED_MAX:g}], was {float(values[where])!r} "
                   f"at position {where}")
    return values


def returns_row(values: Floats) -> Floats:
    """Log returns, checked; NaN means the bar is missing."""
    bad = np.abs(values) > RETURN_MAX
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        kind = NotFiniteError if np.isinf(values[where]) else RangeError
        raise kind(f"returns must be log returns within {RETURN_MAX:g}, was {float(values[where])!r} "
                   f"at position {where}")
    return values


class MarginVolatilityState:
    """What one `MarginVolatility` remembers of its underlyings; made by its `start`.

    Attributes
    ----------
    model : MarginVolatility
        The frozen parameters.
    stages : dict of str to float64 array, shape (underlyings,)
        Volatility per annum after each stage of the last bar, by name of stage: why the charge is what it is.
    """

    __slots__ = ("_age", "_floor_sum", "_implied", "_implied_age", "_implied_seen", "_long_run", "_regime",
                 "_stress_peak", "_stress_sum", "_variance", "_volatility", "model", "stages")

    def __init__(self, model: MarginVolatility, volatility: list[VarianceState]) -> None:
        size = len(volatility)
        self.model, self._volatility = model, volatility
        self._variance = np.array([state.variance for state in volatility], np.float64)
        self._age, self._implied_age, self._stress_peak = np.zeros((3, size))
        self._implied, self._long_run = np.full((2, size), np.nan)
        self._regime: npt.NDArray[np.bool_] = np.zeros(size, np.bool_)
        self._implied_seen: npt.NDArray[np.bool_] = np.zeros(size, np.bool_)
        self.stages: dict[str, Floats] = {name: np.full(size, np.nan) for name in STAGES}
        stress, floor = model.option(StressedWeight), model.option(LookbackFloor)
        # Squares, and beside them how many of the bars were there.
        bars = max(1, round(floor.years * model.periods_per_year)) if floor else 0
        self._floor_sum = SlidingSum(bars, 2 * size) if floor else None
        self._stress_sum = SlidingSum(stress.window, 2 * size) if stress and stress.sigma_annual is None else None

    def __len__(self) -> int:
        return len(self._volatility)

    def begin(self, returns: Floats, implied: Floats) -> None:
        """Take over the bars that the volatility models were started with; no smoothing, no limits."""
        for row, given in zip(returns, implied, strict=True):
            self._observe(row, given, self.model.bar_days)
        self._advance(self.model.bar_days)

    def step(self, returns: Any, implied: Any = None, *, elapsed_days: float | None = None) -> Floats:
        """Take one bar of every underlying and answer the volatility per annum in force for the next.

        Parameters
        ----------
        returns : float64 array, shape (underlyings,), or float for a single one
            Log returns of the bar; NaN where the bar is missing: the volatility model waits and the data ages.  A feed
            that merely repeats its last price is missing too: a return of zero is an observation of calm.
        implied : float64 array, shape (underlyings,), or float, optional
            Implied volatilities per annum at the end of the bar; NaN where none.
        elapsed_days : float, optional
            Days since the bar before, above 0; `bar_days` when omitted.

        Returns
        -------
        float64 array, shape (underlyings,)
            NaN for an underlying whose data is stale under the rule "unknown".

        Raises
        ------
        ShapeError, NotFiniteError, RangeError
            Before anything has changed.
        """
        size = len(self)
        row = floats("returns", np.atleast_1d(np.asarray(returns)), length=size, finite=False)
        returns_row(row)
        given = np.full(size, np.nan)
        if implied is not None:
            given = implied_row(floats("implied", np.atleast_1d(np.asarray(implied)), length=size, finite=False))
        bar = self.model.bar_days
        days = bar if elapsed_days is None else number("elapsed_days", elapsed_days, above=0.0)
        moved, variance = list(self._volatility), self._variance.copy()
        for i in np.flatnonzero(~np.isnan(row)):  # copies: a recursion may yet refuse a return that overflows it
            moved[i] = moved[i].copy()
            variance[i] = moved[i].update(float(row[i]))
        self._volatility, self._variance = moved, variance
        self._observe(row, given, days)
        self._advance(days)
        return self.sigma_annual()

    def sigma_annual(self, *, age_days: float = 0.0) -> Floats:
        """Volatility per annum in force `age_days` after the last bar, shape (underlyings,); changes nothing."""
        model = self.model
        age = self._age + number("age_days", age_days, least=0.0)
        charged = self.stages["charged"].copy()
        late = np.maximum(age - model.stale_after_days, 0.0)
        for i in np.flatnonzero(late > 0.0):
            if model.stale == "grow":
                charged[i] *= kernel.compounded(1.0 + model.stale_growth_daily, float(late[i]))
            elif model.stale == "unknown":
                charged[i] = np.nan
        return charged

    def status(self, *, age_days: float = 0.0) -> list[DataStatus]:
        """Age of the data of each underlying `age_days` after the last bar."""
        later = number("age_days", age_days, least=0.0)
        stale = self._age + later > self.model.stale_after_days
        old = self._implied_seen & (self._implied_age + later > self.model.implied_stale_after_days)
        worst = DataStatus.UNKNOWN if self.model.stale == "unknown" else DataStatus.STALE
        return [worst if s else DataStatus.IMPLIED_STALE if o else DataStatus.FRESH
                for s, o in zip(stale, old, strict=True)]

    def save(self) -> dict[str, Any]:
        """The state as plain numbers; `load` gives the same bits back."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        sums = {name: getattr(self, name).save() for name in _SUMS if getattr(self, name) is not None}
        return {"arrays": arrays, "sums": sums, "stages": {k: v.tolist() for k, v in self.stages.items()},
                "volatility": [state.save() for state in self._volatility]}

    @classmethod
    def load(cls, model: MarginVolatility, saved: dict[str, Any]) -> MarginVolatilityState:
        """The state that `save` wrote, under the same parameters; ShapeError or RangeError if it is none of these."""
        try:
            state = cls(model, [VarianceState.load(item) for item in saved["volatility"]])
            for name in _ARRAYS:
                setattr(state, name, state._checked(name, saved["arrays"][name]))
            for name in _SUMS:
                own = getattr(state, name)
                if own is not None:
                    setattr(state, name, SlidingSum.load(saved["sums"][name], like=own))
            stages = {name: floats(name, saved["stages"][name], length=len(state), finite=False) for name in STAGES}
        except (KeyError, TypeError, ValueError) as problem:
            if isinstance(problem, MarginError):
                raise
            raise ShapeError(f"saved must be the dictionary of MarginVolatilityState.save: {problem!r}") from None
        for name, array in stages.items():
            if (array < 0.0).any():
                raise RangeError(f"{name} must be at least 0 or NaN, was {float(array.min())!r}")
        state.stages = stages
        return state

    def _checked(self, name: str, saved: Any) -> npt.NDArray[Any]:
        if name in ("_implied_seen", "_regime"):
            array = np.array(saved)
            if array.dtype != np.bool_ or array.shape != (len(self),):
                raise ShapeError(f"{name} must be {len(self)} booleans, had dtype {array.dtype}, shape {array.shape}")
            return array
        unknown = name in ("_implied", "_long_run")  # NaN until the first of them
        numbers = floats(name, saved, length=len(self), finite=not unknown).copy()
        if not ((numbers >= 0.0) | np.isnan(numbers)).all():
            raise RangeError(f"{name} must be at least 0, was {float(np.nanmin(numbers))!r}")
        return numbers

    def _observe(self, row: Floats, given: Floats, days: float) -> None:
        there, known = ~np.isnan(row), ~np.isnan(given)
        self._age = np.where(there, 0.0, self._age + days)
        self._implied_age = np.where(known, 0.0, self._implied_age + days)
        self._implied = np.where(known, given, self._implied)
        self._implied_seen |= known
        squares = np.concatenate([np.where(there, row * row, 0.0), there])
        if self._floor_sum is not None:
            self._floor_sum.add(squares)
        if self._stress_sum is not None:
            self._stress_sum.add(squares)
            mean, seen = _mean_square(self._stress_sum)
            full = seen >= 0.5 * self._stress_sum.length
            self._stress_peak = np.where(full, np.maximum(self._stress_peak, mean), self._stress_peak)

    def _advance(self, days: float) -> None:
        model, stages, yearly = self.model, self.stages, self.model.periods_per_year
        charged = stages["charged"]
        realised = np.sqrt(self._variance * yearly)
        stages["realised"] = realised
        fresh = self._implied_age <= model.implied_stale_after_days
        if isinstance(model.blend, RegimeBlend):
            slow = kernel.remaining_weight(days, model.blend.long_run_half_life_days)
            self._long_run = _towards(realised, self._long_run, slow)
        implied = np.where(fresh, self._implied, np.nan)
        stages["blended"], self._regime = model.blend.mix(realised, implied, self._long_run, self._regime)
        stages["stressed"] = self._stressed(stages["blended"], yearly)
        before = stages["smoothed"]
        half_life = (model.half_life_rise_days, model.half_life_fall_days)
        rise, fall = (kernel.remaining_weight(days, h) for h in half_life)
        left = np.where(stages["stressed"] >= before, rise, fall)
        stages["smoothed"] = _towards(stages["stressed"], before, left)
        stages["buffered"] = self._buffered(stages["smoothed"], charged, days)
        stages["limited"] = self._limited(stages["buffered"], charged, days)
        stages["floor"] = self._floor(yearly)
        stages["charged"] = np.maximum(stages["limited"], stages["floor"])

    def _stressed(self, sigma: Floats, yearly: float) -> Floats:
        option = self.model.option(StressedWeight)
        if option is None:
            return sigma
        variance = sigma * sigma
        fixed = option.sigma_annual
        stress = self._stress_peak * yearly if fixed is None else np.full(len(self), fixed * fixed)
        mixed: Floats = (1.0 - option.weight) * variance + option.weight * np.maximum(stress, variance)
        return np.sqrt(mixed)

    def _buffered(self, sigma: Floats, before: Floats, days: float) -> Floats:
        option = self.model.option(Buffer)
        if option is None:
            return sigma
        full: Floats = (1.0 + option.size) * sigma
        drawn = np.fmin(np.fmax(sigma, before), full)  # before is NaN on the first bar: the full buffer
        left = kernel.remaining_weight(days, option.rebuild_half_life_days)
        drawing = full > before * (1.0 + option.trigger)
        return np.where(drawing, full + (drawn - full) * left, full)

    def _limited(self, sigma: Floats, before: Floats, days: float) -> Floats:
        model, result = self.model, sigma
        if model.rise_max_daily is not None:
            result = np.fmin(result, before * kernel.compounded(1.0 + model.rise_max_daily, days))
        if model.fall_max_daily is not None:
            result = np.fmax(result, before * kernel.compounded(1.0 - model.fall_max_daily, days))
        return result

    def _floor(self, yearly: float) -> Floats:
        floor = np.full(len(self), float(self.model.floor_annual))
        if self._floor_sum is None:
            return floor
        mean, _ = _mean_square(self._floor_sum)
        result: Floats = np.maximum(floor, np.sqrt(mean * yearly))
        return result


def _mean_square(sums: SlidingSum) -> tuple[Floats, Floats]:
    both = sums.sums
    square, seen = both[:len(both) // 2], both[len(both) // 2:]
    return np.asarray(square / np.maximum(seen, 1.0), np.float64), seen


def _towards(target: Floats, before: Floats, left: Floats | float) -> Floats:
    # NaN before the first bar: start at the target.  The form below returns the target exactly when nothing is left.
    return np.where(np.isnan(before), target, target + (before - target) * left)


_ARRAYS = ("_age", "_implied", "_implied_age", "_implied_seen", "_long_run", "_regime", "_stress_peak",
           "_variance")
_SUMS = ("_floor_sum", "_stress_sum")
