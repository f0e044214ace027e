"""Risk measures: one loss from the P&L of a portfolio in every scenario.

A loss is positive, a gain negative, so a measure may be negative; margin models floor at zero, measures do not.

Rank rule.  With `n` equally likely scenarios and ``t = (1 - level) n``, counted from the worst and freed of binary
rounding (``(1 - 0.99) 1000`` is 10):

=============== ===================================================================================
upper           the ``ceil(t)``-th worst loss: the largest loss l with P(L >= l) >= 1 - level
lower           the ``(floor(t) + 1)``-th worst: the smallest loss l with P(L > l) <= 1 - level
interpolated    linear at position ``(n - 1)(1 - level)`` of the losses counted from the worst
                (type 7 of Hyndman and Fan 1996, NumPy's ``linear``)
=============== ===================================================================================

Upper and lower differ only where `t` is whole; upper is never the smaller and is the default.  Expected shortfall is
the mean of the worst `t` losses, the last one counted with its fraction (Acerbi and Tasche 2002, proposition 4.1), so
it does not depend on the convention.  With weights, cumulated probabilities take the place of ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.kernels import risk
from margincore.units import Floats, choice, floats, number

CONVENTIONS = ("upper", "lower", "interpolated")
SHORTFALL = 3  # column of the expected shortfall in the kernel's rows, behind the conventions
NOT_FINITE = -4  # MC_EFINITE of margincore.h
SPECTRA = ("exponential", "power")


class Losses(NamedTuple):
    """Losses of many portfolios: `loss` float64 (portfolios,), NaN where `code` int32 (portfolios,) is not 0.

    The code of a portfolio with a P&L that is NaN or infinite is -4 (MC_EFINITE).
    """

    loss: Floats
    code: npt.NDArray[np.int32]


class TailRisk(NamedTuple):
    """Value at risk and expected shortfall of one P&L vector, found in one pass."""

    value_at_risk: float
    expected_shortfall: float


@runtime_checkable
class Measure(Protocol):
    """What every measure offers."""

    def loss(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
        """Loss of one P&L vector, shape (scenarios,); `weights` are probabilities that sum to 1."""
        ...

    def losses(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Losses:
        """Losses of many P&L vectors, shape (portfolios, scenarios); a bad row gets a code, the others an answer."""
        ...


def checked_level(level: Any, name: str = "level") -> float:
    """`level` in [0.5, 1), or an error; 99 for 0.99 gets a hint."""
    value = number(name, level)
    if not 0.5 <= value < 1.0:
        hint = f"; write {value / 100:g} for {value:g} %" if 50.0 <= value < 100.0 else ""
        hint = f"; write {1 - value:g} for a tail of {value:g}" if 0.0 < value < 0.5 else hint
        raise RangeError(f"{name} must be in [0.5, 1), was {value!r}{hint}")
    return value


def checked_measure(measure: Any, name: str = "measure") -> Measure:
    """`measure`, which offers what a `Measure` does, or an error."""
    if isinstance(measure, type) or not isinstance(measure, Measure):
        raise RangeError(f"{name} must be a measure such as ExpectedShortfall(0.975), was {measure!r}")
    return measure


def checked_weights(weights: npt.ArrayLike, scenarios: int) -> Floats:
    """`weights` as probabilities, one per scenario, that sum to 1 within 1e-12."""
    result = floats("weights", weights)
    if len(result) != scenarios:
        raise ShapeError(f"weights must have one value per scenario ({scenarios}), had {len(result)}")
    if (result < 0.0).any():
        raise RangeError(f"weights must not be negative, was {result.min():g} at {int(result.argmin())}")
    total = math.fsum(result)
    if abs(total - 1.0) > 1e-12:
        raise RangeError(f"weights must sum to 1 within 1e-12, summed to {total!r}")
    return result


def checked_rows(pnl: npt.ArrayLike, least: int = 2, name: str = "pnl") -> Floats:
    """`pnl` as float64 (portfolios, scenarios); values that are not finite are left to the row's code."""
    rows = floats(name, pnl, ndim=2, finite=False, empty=True)
    if rows.shape[1] < least:
        raise ShapeError(f"{name} must have at least {least} scenarios, had shape {rows.shape}")
    return rows


def single(pnl: npt.ArrayLike, least: int = 2) -> Floats:
    """`pnl` of one portfolio as a row of shape (1, scenarios)."""
    vector = floats("pnl", pnl, finite=False, empty=True)
    if len(vector) < least:
        raise ShapeError(f"pnl must have at least {least} scenarios, had {len(vector)}")
    return vector.reshape(1, -1)


def only(found: Losses, pnl: Floats) -> float:
    """The one loss of a batch of one, or an error that names the bad scenario."""
    if found.code[0] != 0:
        where = int(np.flatnonzero(~np.isfinite(pnl[0]))[0])
        raise NotFiniteError(f"pnl must be finite, was {float(pnl[0, where])!r} in scenario {where}")
    return float(found.loss[0])


def tail_columns(pnl: Floats, level: float, weights: npt.ArrayLike | None) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Rows of upper, lower, interpolated value at risk and expected shortfall, and the codes."""
    out = np.empty((len(pnl), 4))
    code = np.empty(len(pnl), np.int32)
    if weights is None:
        risk.tail_losses(pnl, level, out, code)
    else:
        risk.weighted_losses(pnl, checked_weights(weights, pnl.shape[1]), level, out, code)
    return out, code


@dataclass(frozen=True, slots=True)
class Worst:
    """Worst loss over the scenarios; probabilities play no part, but a scenario of weight zero is left out."""

    def loss(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
        """Worst loss of one P&L vector, shape (scenarios,)."""
        row = single(pnl, 1)
        return only(self.losses(row, weights), row)

    def losses(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Losses:
        """Worst losses of many P&L vectors, shape (portfolios, scenarios)."""
        return self.with_scenarios(pnl, weights)[0]

    def with_scenarios(self, pnl: npt.ArrayLike,
                       weights: npt.ArrayLike | None = None) -> tuple[Losses, npt.NDArray[np.int32]]:
        """Worst losses, and for each the first scenario that makes it (or the first P&L that is not finite)."""
        rows = checked_rows(pnl, 1)
        scenario = np.empty(len(rows), np.int32)
        loss = np.empty(len(rows))
        if weights is None:
            risk.worst_losses(rows, loss, scenario)
        else:
            held = np.flatnonzero(checked_weights(weights, rows.shape[1]) > 0.0).astype(np.int32)
            risk.worst_losses(np.ascontiguousarray(rows[:, held]), loss, scenario)
            scenario = held[scenario]
        return Losses(loss, np.where(np.isnan(loss), NOT_FINITE, 0).astype(np.int32)), scenario


@dataclass(frozen=True, slots=True)
class ValueAtRisk:
    """Value at risk at `level` in [0.5, 1) under the named `convention`: upper, lower or interpolated.

    Homogeneous, monotone and translation-equivariant, but not sub-additive: two portfolios together may need more than
    both apart.
    """

    level: float
    convention: str = "upper"

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", checked_level(self.level))
        choice("convention", self.convention, CONVENTIONS)

    def loss(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
        """Value at risk of one P&L vector, shape (scenarios,)."""
        row = single(pnl)
        return only(self.losses(row, weights), row)

    def losses(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Losses:
        """Values at risk of many P&L vectors, shape (portfolios, scenarios)."""
        if weights is not None and self.convention == "interpolated":
            raise RangeError("convention must be upper or lower when weights are given, was 'interpolated'")
        out, code = tail_columns(checked_rows(pnl), self.level, weights)
        return Losses(np.ascontiguousarray(out[:, CONVENTIONS.index(self.convention)]), code)


@dataclass(frozen=True, slots=True)
class ExpectedShortfall:
    """Expected shortfall at `level` in [0.5, 1): the mean of the worst ``(1 - level)`` of the distribution.

    Coherent: homogeneous, monotone, translation-equivariant and sub-additive.
    """

    level: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", checked_level(self.level))

    def loss(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
        """Expected shortfall of one P&L vector, shape (scenarios,)."""
        row = single(pnl)
        return only(self.losses(row, weights), row)

    def losses(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Losses:
        """Expected shortfalls of many P&L vectors, shape (portfolios, scenarios)."""
        out, code = tail_columns(checked_rows(pnl), self.level, weights)
        return Losses(np.ascontiguousarray(out[:, SHORTFALL]), code)


@dataclass(frozen=True, slots=True)
class Spectral:
    """Spectral measure: losses weighted by a risk-aversion spectrum that falls from the worst on (Acerbi 2002).

    With p the probability counted from the worst loss, the weight of the worst p is

    - exponential: ``(1 - exp(-aversion p)) / (1 - exp(-aversion))``, aversion > 0 (Cotter and Dowd 2006);
    - power: ``1 - (1 - p) ** aversion``, aversion > 1 (a Wang transform of proportional hazard).

    Coherent for every aversion.
    """

    aversion: float
    spectrum: str = "exponential"

    def __post_init__(self) -> None:
        choice("spectrum", self.spectrum, SPECTRA)
        least = 0.0 if self.spectrum == "exponential" else 1.0
        object.__setattr__(self, "aversion", number("aversion", self.aversion, above=least))

    def cumulated(self, probability: Floats) -> Floats:
        """Weight of the worst `probability` of the distribution, from 0 at 0 to 1 at 1."""
        if self.spectrum == "exponential":
            return np.expm1(-self.aversion * probability) / math.expm1(-self.aversion)
        return 1.0 - (1.0 - probability) ** self.aversion

    def loss(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
        """Spectral loss of one P&L vector, shape (scenarios,)."""
        row = single(pnl)
        return only(self.losses(row, weights), row)

    def losses(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Losses:
        """Spectral losses of many P&L vectors, shape (portfolios, scenarios)."""
        rows = checked_rows(pnl)
        scenarios = rows.shape[1]
        if weights is None:
            loss = np.empty(len(rows))
            steps = self.cumulated(np.arange(scenarios + 1) / scenarios)
            risk.spectral_losses(rows, np.diff(steps), loss)
            return Losses(loss, np.where(np.isnan(loss), NOT_FINITE, 0).astype(np.int32))
        probability = checked_weights(weights, scenarios)
        order = np.empty(rows.shape, np.int32)
        code = np.empty(len(rows), np.int32)
        risk.scenario_orders(rows, order, code)
        order[code != 0] = np.arange(scenarios)
        reached = np.minimum(np.cumsum(probability[order], axis=1), 1.0)
        steps = np.diff(self.cumulated(np.pad(reached, ((0, 0), (1, 0)))), axis=1)
        sound = np.where(code[:, None] == 0, np.take_along_axis(rows, order, axis=1), 0.0)
        return Losses(np.where(code == 0, 0.0 - (steps * sound).sum(axis=1), np.nan), code)


@dataclass(frozen=True, slots=True)
class Weighted:
    """Weighted mean of measures, for example three quarters base and one quarter another level.

    `parts` are pairs (measure, share); shares are not negative and sum to 1 within 1e-12.  Coherent when every part is.
    """

    parts: tuple[tuple[Measure, float], ...]

    def __post_init__(self) -> None:
        try:
            pairs = [(part, share) for part, share in self.parts]
        except (TypeError, ValueError):
            raise ShapeError(f"parts must be pairs of a measure and its share, were {self.parts!r}") from None
        parts = tuple((part, number("share", share, least=0.0)) for part, share in pairs)
        if not parts:
            raise ShapeError("parts must not be empty")
        for part, _ in parts:
            if isinstance(part, type) or not isinstance(part, Measure):
                raise RangeError(f"parts must hold measures, held {part!r}")
        checked_weights([share for _, share in parts], len(parts))
        object.__setattr__(self, "parts", parts)

    def loss(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
        """Weighted loss of one P&L vector, shape (scenarios,)."""
        return math.fsum(share * part.loss(pnl, weights) for part, share in self.parts)

    def losses(self, pnl: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Losses:
        """Weighted losses of many P&L vectors, shape (portfolios, scenarios)."""
        found = [part.losses(pnl, weights) for part, _ in self.parts]
        total = np.zeros(len(found[0].loss))
        code = np.zeros(len(total), np.int32)
        for (_, share), part in zip(self.parts, found, strict=True):
            total += share * part.loss
            code = np.minimum(code, part.code)
        return Losses(total, code)
