"""The measures as functions, and the losses of whole sets of portfolios against one risk table."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import NotFiniteError, RangeError, ShapeError
from margincore.kernels import risk as kernel
from margincore.kernels.risk import tail_pair
from margincore.measure import (
    CONVENTIONS,
    SHORTFALL,
    ExpectedShortfall,
    Losses,
    Measure,
    Spectral,
    TailRisk,
    ValueAtRisk,
    Worst,
    checked_level,
    checked_measure,
)
from margincore.units import Floats, choice, floats, indices

# Portfolios of one dense product: their P&L stays in the second cache until it is reduced.
DENSE_BLOCK = 50
# Share of positions held up to which the sparse kernel is used; above, a matrix product is faster (measured).
SPARSE_MOST = 0.25
_new = tuple.__new__  # a third of the time of the constructor


def worst_loss(pnl: npt.ArrayLike, *, weights: npt.ArrayLike | None = None) -> float:
    """Worst loss over the scenarios, in the unit of `pnl`.

    Parameters
    ----------
    pnl : float64 array, shape (scenarios,)
        Profit (+) or loss (-) in each scenario.
    weights : float64 array, shape (scenarios,), optional
        Probabilities; a scenario of weight zero is left out.

    Returns
    -------
    float
        Negative when every scenario is a gain.
    """
    return Worst().loss(pnl, weights)


def value_at_risk(pnl: npt.ArrayLike, level: float, *, convention: str = "upper",
                  weights: npt.ArrayLike | None = None) -> float:
    """Value at risk: the loss that is exceeded with probability ``1 - level`` at most, in the unit of `pnl`.

    Parameters
    ----------
    pnl : float64 array, shape (scenarios,)
        Profit (+) or loss (-) of one portfolio in each scenario; at least two.
    level : float
        Confidence in [0.5, 1), for example 0.99.
    convention : {"upper", "lower", "interpolated"}
        Which order statistic; the rule is in `margincore.measure`.
    weights : float64 array, shape (scenarios,), optional
        Probabilities, summing to 1 within 1e-12.  Equal when omitted.  Not with "interpolated".

    Returns
    -------
    float
        Negative when even the tail is a gain.

    Raises
    ------
    ShapeError
        If there are fewer than two scenarios, or `weights` has another length.
    NotFiniteError
        If a P&L is NaN or infinite.
    RangeError
        If `level`, `convention` or `weights` break their rule.

    Notes
    -----
    Upper is the rank rule ``ceil((1 - level) n)``, freed of binary rounding.  Where the tail is a whole number of
    scenarios it is the loss that is reached, not exceeded, with probability ``1 - level``; the smallest loss that is
    not exceeded with probability `level` is then the lower one.  Of four scenarios at 75 % these are the worst loss
    and the second worst.

    Examples
    --------
    >>> value_at_risk([-3.0, -1.0, 2.0, 4.0], 0.75)
    3.0
    >>> value_at_risk([-3.0, -1.0, 2.0, 4.0], 0.75, convention="lower")
    1.0
    """
    return ValueAtRisk(level, convention).loss(pnl, weights)


def expected_shortfall(pnl: npt.ArrayLike, level: float, *, weights: npt.ArrayLike | None = None) -> float:
    """Expected shortfall: mean loss of the worst ``1 - level`` of the distribution, in the unit of `pnl`.

    Parameters, returns and errors as `value_at_risk`; there is no convention, because the scenario at the edge of the
    tail is counted with its fraction.

    Examples
    --------
    >>> expected_shortfall([-3.0, -1.0, 2.0, 4.0], 0.5)
    2.0
    """
    return ExpectedShortfall(level).loss(pnl, weights)


def spectral_loss(pnl: npt.ArrayLike, aversion: float, *, spectrum: str = "exponential",
                  weights: npt.ArrayLike | None = None) -> float:
    """Spectral loss of one P&L vector; see `Spectral` for the spectra and the meaning of `aversion`."""
    return Spectral(aversion, spectrum).loss(pnl, weights)


def tail_risk(pnl: npt.ArrayLike, level: float, *, convention: str = "upper") -> TailRisk:
    """Value at risk and expected shortfall of one P&L vector in one pass; arguments as `value_at_risk`."""
    column = 0 if convention == "upper" else CONVENTIONS.index(choice("convention", convention, CONVENTIONS))
    if not (type(level) is float and 0.5 <= level < 1.0):
        level = checked_level(level)
    found = tail_pair(pnl, level, column)
    if found is None:
        vector = floats("pnl", pnl, finite=False, empty=True)
        if vector.size < 2:
            raise ShapeError(f"pnl must have at least 2 scenarios, had {vector.size}")
        found = tail_pair(vector, level, column)
        assert found is not None
    if found[1] != found[1]:
        values = floats("pnl", pnl, finite=False)
        where = int(np.flatnonzero(~np.isfinite(values))[0])
        raise NotFiniteError(f"pnl must be finite, was {float(values[where])!r} in scenario {where}")
    return _new(TailRisk, found)


def tail_risks(pnl: npt.ArrayLike, level: float, *, convention: str = "upper") -> tuple[Losses, Losses]:
    """Values at risk and expected shortfalls of many P&L vectors, shape (portfolios, scenarios), in one pass."""
    column = CONVENTIONS.index(choice("convention", convention, CONVENTIONS))
    rows = floats("pnl", pnl, ndim=2, finite=False, empty=True)
    if rows.shape[1] < 2:
        raise ShapeError(f"pnl must have at least 2 scenarios, had shape {rows.shape}")
    out = np.empty((len(rows), 4))
    code = np.empty(len(rows), np.int32)
    kernel.tail_losses(rows, checked_level(level), out, code)
    return Losses(out[:, column].copy(), code), Losses(out[:, SHORTFALL].copy(), code)


def portfolio_pnl(quantity: Any, risk: npt.ArrayLike) -> Floats:
    """P&L of every portfolio in every scenario: the sum over its instruments, in their order, of quantity times risk.

    Parameters
    ----------
    quantity : float64 array, shape (portfolios, instruments), or a CSR matrix
        Signed quantities.  Any object with `indptr`, `indices`, `data` and `shape` counts as CSR.
    risk : float64 array, shape (instruments, scenarios)
        Profit of one unit of each instrument in each scenario.

    Returns
    -------
    float64 array, shape (portfolios, scenarios)
        The same bits on every processor, unlike a matrix product of a linear-algebra library.
    """
    table = floats("risk", risk, ndim=2, finite=False)
    start, instrument, amount, shape = portfolio_slots(quantity)
    if shape[1] != len(table):
        raise ShapeError(f"quantity must have one column per instrument ({len(table)}), had shape {shape}")
    out = np.empty((shape[0], table.shape[1]))
    kernel.sparse_pnl(start, instrument, amount, table, out)
    return out


def portfolio_losses(quantity: Any, risk: npt.ArrayLike, measure: Measure, *, weights: npt.ArrayLike | None = None,
                     method: str = "auto") -> Losses:
    """Losses of many portfolios against one risk table: historical or Monte Carlo simulation of all of them.

    Parameters
    ----------
    quantity, risk
        As `portfolio_pnl`.
    measure : Measure
        `Worst`, `ValueAtRisk`, `ExpectedShortfall`, `Spectral` or `Weighted`.
    weights : float64 array, shape (scenarios,), optional
        Probabilities of the scenarios.
    method : {"auto", "dense", "sparse"}
        "sparse" sums the positions held, in order: the same bits everywhere.  "dense" is a matrix product of NumPy's
        linear-algebra library, whose last bits depend on the library and the processor.  "auto" takes the first up to
        a quarter of positions held.

    Returns
    -------
    Losses
        One loss and one code per portfolio; a quantity or risk that is not finite gives the code, not an error.
    """
    checked_measure(measure)
    choice("method", method, ("auto", "dense", "sparse"))
    table = floats("risk", risk, ndim=2, finite=False)
    if hasattr(quantity, "indptr"):
        method = "sparse" if method == "auto" else method
        if method == "dense":
            raise RangeError("method must be sparse or auto for a CSR matrix, was 'dense'")
    else:
        quantity = floats("quantity", quantity, ndim=2, finite=False, empty=True)
        if quantity.shape[1] != len(table):
            raise ShapeError(f"quantity must have one column per instrument ({len(table)}), had {quantity.shape}")
        if method == "auto":
            method = "sparse" if np.count_nonzero(quantity) <= SPARSE_MOST * quantity.size else "dense"
    if method == "sparse":
        return measure.losses(portfolio_pnl(quantity, table), weights)
    loss = np.empty(len(quantity))
    code = np.empty(len(quantity), np.int32)
    pnl = np.empty((DENSE_BLOCK, table.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        for at in range(0, len(quantity), DENSE_BLOCK):
            rows = quantity[at:at + DENSE_BLOCK]
            np.matmul(rows, table, out=pnl[:len(rows)])
            loss[at:at + DENSE_BLOCK], code[at:at + DENSE_BLOCK] = measure.losses(pnl[:len(rows)], weights)
    return Losses(loss, code)


def portfolio_slots(quantity: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Floats, tuple[int, int]]:
    """Row starts, columns, values and shape of a CSR matrix or of the nonzero entries of a dense one."""
    if hasattr(quantity, "indptr"):
        kind = getattr(quantity, "format", "csr")
        if kind != "csr":  # columns compressed look the same, and would be read as the transposed portfolios
            raise RangeError(f"quantity must be dense or a CSR matrix, was of format {kind!r}; tocsr() makes one")
        shape = (int(quantity.shape[0]), int(quantity.shape[1]))
        begin = indices("quantity.indptr", quantity.indptr, np.int64)
        if len(begin) != shape[0] + 1:
            raise ShapeError(f"quantity.indptr must have one value per portfolio ({shape[0]}) and one more, had "
                             f"{len(begin)}")
        return (begin, indices("quantity.indices", quantity.indices, np.int32),
                floats("quantity.data", quantity.data, finite=False, empty=True), shape)
    dense = floats("quantity", quantity, ndim=2, finite=False, empty=True)
    start = np.empty(len(dense) + 1, np.int64)
    instrument, amount = np.empty(dense.size + 1, np.int32), np.empty(dense.size + 1)
    kernel.held_slots(dense, start, instrument, amount)
    return start, instrument[:start[-1]], amount[:start[-1]], (dense.shape[0], dense.shape[1])
