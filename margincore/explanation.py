"""Why a measure is what it is: its scenarios, and what every position, underlying or expiry adds to it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.kernels.risk import tail_ranks
from margincore.measure import (
    ExpectedShortfall,
    Measure,
    Spectral,
    ValueAtRisk,
    Weighted,
    Worst,
    checked_measure,
    checked_weights,
)
from margincore.units import Floats, floats


class TailScenario(NamedTuple):
    """One scenario of the tail: its name (or date, or number), its P&L, and its share of the measure's weight."""

    name: Any
    pnl: float
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A measure and its parts, in the unit of the P&L.

    Attributes
    ----------
    total : float
        The measure of the whole.
    component : float64 array, shape (positions,)
        What each position adds (Euler's allocation).
    residue : float
        Rounding: the components added in their order, and then the residue, are `total` bit for bit.
    marginal : float64 array, shape (positions,)
        Change of the measure per unit of quantity, component / quantity; NaN for a quantity of zero.
    incremental : float64 array, shape (positions,)
        The measure with the position less the measure without it.
    names : tuple
        Names of the positions.
    tail : tuple of TailScenario
        Scenarios that make the measure, worst first; their weights sum to 1.
    """

    total: float
    component: Floats
    residue: float
    marginal: Floats
    incremental: Floats
    names: tuple[Any, ...]
    tail: tuple[TailScenario, ...]

    def by(self, labels: Sequence[Hashable]) -> dict[Hashable, float]:
        """Components added up by label (underlying, expiry ...), labels in order of first appearance."""
        if len(labels) != len(self.component):
            raise ShapeError(f"labels must have one label per position ({len(self.component)}), had {len(labels)}")
        found: dict[Hashable, float] = {}
        for label, value in zip(labels, self.component.tolist(), strict=True):
            found[label] = found.get(label, 0.0) + value
        return found

    def __str__(self) -> str:
        lines = [f"{'total':<24}{self.total:>16.6g}"]
        lines += [f"  {name!s:<22}{value:>16.6g}{value / self.total if self.total else 0.0:>9.1%}"
                  for name, value in zip(self.names, self.component, strict=True)]
        lines += [f"scenario {row.name!s:<20}{row.pnl:>11.5g}{row.weight:>9.1%}" for row in self.tail[:10]]
        return "\n".join(lines)


def tail_weights(pnl: npt.ArrayLike, measure: Measure, weights: npt.ArrayLike | None = None) -> Floats:
    """Weight of every scenario in the measure: its value is minus the sum of weight times P&L.

    Parameters
    ----------
    pnl : float64 array, shape (scenarios,)
    measure : Measure
    weights : float64 array, shape (scenarios,), optional
        Probabilities of the scenarios.

    Returns
    -------
    float64 array, shape (scenarios,)
        Not negative, summing to 1.  Ties take the scenario that is given first.
    """
    values = floats("pnl", pnl)
    n = len(values)
    if n < 2 and not isinstance(measure, (Worst, Weighted)):
        raise ShapeError(f"pnl must have at least 2 scenarios, had {n}")
    probability = None if weights is None else checked_weights(weights, n)
    order = np.argsort(values, kind="stable")
    found = np.zeros(n)
    if isinstance(measure, Weighted):
        for part, share in measure.parts:
            found += share * tail_weights(values, part, weights)
    elif isinstance(measure, Worst):
        held = order if probability is None else order[probability[order] > 0.0]
        found[held[0]] = 1.0
    elif isinstance(measure, Spectral):
        steps = np.full(n, 1.0 / n) if probability is None else probability[order]
        reached = np.minimum(np.concatenate([[0.0], np.cumsum(steps)]), 1.0)
        found[order] = np.diff(measure.cumulated(reached))
    elif isinstance(measure, (ValueAtRisk, ExpectedShortfall)):
        count, upper, lower = tail_ranks(measure.level, n)
        if probability is not None:
            order = order[probability[order] > 0.0]
            upper, lower = _weighted_ranks(np.cumsum(probability[order]), 1.0 - measure.level)
        if isinstance(measure, ExpectedShortfall):
            part_of = np.full(len(order), 1.0 / count) if probability is None \
                else probability[order] / (1.0 - measure.level)
            found[order[:upper - 1]] = part_of[:upper - 1]
            found[order[upper - 1]] = 1.0 - part_of[:upper - 1].sum()
        elif measure.convention == "interpolated":
            position = (1.0 - measure.level) * (n - 1)
            position = float(np.rint(position)) if abs(position - np.rint(position)) < 1e-10 * n else position
            deeper = int(position)
            found[order[deeper]] = 1.0 - (position - deeper)
            if deeper + 1 < n:
                found[order[deeper + 1]] = position - deeper
        else:
            found[order[(upper if measure.convention == "upper" else lower) - 1]] = 1.0
    else:
        raise RangeError(f"measure must be one of margincore's, was {measure!r}")
    return found


def _weighted_ranks(reached: Floats, tail: float) -> tuple[int, int]:
    upper = int(np.argmax(reached >= tail * (1.0 - 1e-10))) + 1
    lower = int(np.argmax(reached > tail * (1.0 + 1e-10))) + 1
    return upper, lower


def explain(position_pnl: npt.ArrayLike, measure: Measure, *, quantity: npt.ArrayLike | None = None,
            names: Sequence[Any] | None = None, scenario_names: Sequence[Any] | None = None,
            weights: npt.ArrayLike | None = None) -> Explanation:
    """Break a measure down to its positions and scenarios.

    Parameters
    ----------
    position_pnl : float64 array, shape (positions, scenarios)
        P&L of each position in each scenario: quantity times unit risk.
    measure : Measure
    quantity : float64 array, shape (positions,), optional
        For the marginal contributions; 1 when omitted (per position, not per unit).
    names, scenario_names : sequence, optional
        Of the positions, and of the scenarios (dates, events); numbers when omitted.
    weights : float64 array, shape (scenarios,), optional
        Probabilities of the scenarios.

    Notes
    -----
    The measure is a weighted sum of the scenarios of its tail, and so is each component, over the same scenarios: that
    is the derivative of the measure along the position wherever there is one [1]_.  For value at risk it is the P&L
    of one scenario, exact but noisy; expected shortfall averages.

    References
    ----------
    .. [1] Tasche, "Capital allocation to business units and sub-portfolios: the Euler principle", 2008.
    """
    checked_measure(measure)
    table = floats("position_pnl", position_pnl, ndim=2, finite=False)
    positions, scenarios = table.shape
    if not np.isfinite(table).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(table))[0])
        raise NotFiniteError(f"position_pnl must be finite, was {float(table[row, column])!r} for position {row}, "
                             f"scenario {column}")
    held = np.ones(positions) if quantity is None else floats("quantity", quantity, length=positions)
    labels = _labels("names", names, positions)
    moments = _labels("scenario_names", scenario_names, scenarios)
    whole = np.zeros(scenarios)
    for row_pnl in table:  # in order, so that the total is the one of the portfolio's own sum
        whole += row_pnl
    total = measure.loss(whole, weights)
    share = tail_weights(whole, measure, weights)
    used = np.flatnonzero(share)
    component = 0.0 - (table[:, used] * share[used]).sum(axis=1)
    running = 0.0
    for value in component.tolist():
        running += value
    without = whole - table
    alone = measure.losses(without, weights).loss if positions > 1 else np.zeros(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        marginal = np.where(held != 0.0, component / held, np.nan)
    ordered = used[np.argsort(whole[used], kind="stable")]
    return Explanation(total, component, total - running, marginal, total - alone, labels,
                       tuple(TailScenario(moments[s], float(whole[s]), float(share[s])) for s in ordered))


def _labels(name: str, values: Sequence[Any] | None, count: int) -> tuple[Any, ...]:
    labels = tuple(range(count)) if values is None else tuple(values)
    if len(labels) != count:
        raise ShapeError(f"{name} must have {count} entries, had {len(labels)}")
    return labels
