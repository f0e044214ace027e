"""Correlation matrices that are valid: from covariances, nearest-correlation repair, stress towards 1 or 0.

The repair uses LAPACK eigenvalues and matrix products, which are exempt from the same-bits rule: within about
1e-12 between processors.  Everything else is element-wise and exact to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from margincore.errors import NotConvergedError, RangeError, ShapeError
from margincore.units import Floats, floats, integer, number


def covariance_to_correlation(covariance: Any) -> Floats:
    """Correlation matrix of a covariance matrix, shape (assets, assets), unit diagonal exactly.

    Raises
    ------
    RangeError
        If a variance is not positive: an asset that never moved has no correlation.
    """
    matrix = _square("covariance", covariance)
    variance = np.diagonal(matrix)
    if not (variance > 0.0).all():
        column = int(np.flatnonzero(~(variance > 0.0))[0])
        raise RangeError(f"covariance must have positive variances, was {float(variance[column])!r} at {column}")
    sigma = np.sqrt(variance)
    result: Floats = np.clip(matrix / (sigma[:, None] * sigma[None, :]), -1.0, 1.0)
    np.fill_diagonal(result, 1.0)
    return result


def _square(name: str, matrix: Any) -> Floats:
    result = floats(name, matrix, ndim=2)
    if result.shape[0] != result.shape[1]:
        raise ShapeError(f"{name} must be square, had shape {result.shape}")
    gap = float(np.max(np.abs(result - result.T)))
    if gap > 1e-12 * float(np.max(np.abs(result))):
        raise RangeError(f"{name} must be symmetric within 1e-12, was off by {gap!r}")
    return 0.5 * (result + result.T)


def _correlation(name: str, matrix: Any) -> Floats:
    result = _square(name, matrix)
    if not np.allclose(np.diagonal(result), 1.0, rtol=0.0, atol=1e-12):
        raise RangeError(f"{name} must have ones on its diagonal, was {np.diagonal(result).tolist()!r}")
    if float(np.max(np.abs(result))) > 1.0 + 1e-12:
        raise RangeError(f"{name} must lie in [-1, 1], was {float(np.max(np.abs(result)))!r}")
    return result


def _psd(matrix: Floats, eigenvalue_min: float) -> Floats:
    value, vector = np.linalg.eigh(matrix)
    return np.asarray((vector * np.maximum(value, eigenvalue_min)) @ vector.T, np.float64)


def nearest_correlation(matrix: Any, *, eigenvalue_min: float = 0.0, tolerance: float = 1e-12,
                        steps_max: int = 10_000) -> Floats:
    """Correlation matrix nearest to `matrix` in the Frobenius norm.

    Alternating projections onto the positive semi-definite cone and the matrices of unit diagonal, with
    Dykstra's correction [1]_.  A last clip of the eigenvalues, rescaled to a unit diagonal, makes the answer
    semi-definite to rounding, not only in the limit.

    Parameters
    ----------
    matrix : float64 array, shape (assets, assets)
        Symmetric within 1e-12.
    eigenvalue_min : float
        In [0, 1): floor of the eigenvalues, positive for a matrix that can be inverted.
    tolerance : float
        Relative change of the iterate at which to stop, in (0, 1e-3].
    steps_max : int
        Iterations after which `NotConvergedError` is raised.

    Returns
    -------
    float64 array, shape (assets, assets)
        Symmetric, unit diagonal.  A positive definite correlation matrix comes
        back unchanged, a singular one to rounding.

    Raises
    ------
    ShapeError, NotFiniteError, RangeError
        If the matrix is not square, finite and symmetric.
    NotConvergedError
        If `steps_max` iterations do not suffice.

    References
    ----------
    .. [1] N. J. Higham, "Computing the nearest correlation matrix: a problem from finance", IMA Journal of
       Numerical Analysis 22 (2002), algorithm 3.3.
    """
    start = _square("matrix", matrix)
    number("eigenvalue_min", eigenvalue_min, least=0.0, below=1.0)
    number("tolerance", tolerance, above=0.0, most=1e-3)
    integer("steps_max", steps_max, least=1)
    if np.array_equal(np.diagonal(start), np.ones(len(start))) \
            and float(np.linalg.eigvalsh(start)[0]) >= eigenvalue_min:
        return start
    y, correction = start.copy(), np.zeros_like(start)
    for _ in range(steps_max):
        r = y - correction
        x = _psd(r, eigenvalue_min)
        correction = x - r
        previous, y = y, 0.5 * (x + x.T)
        np.fill_diagonal(y, 1.0)
        gap = max(float(np.linalg.norm(y - previous)), float(np.linalg.norm(y - x)))
        if gap <= tolerance * float(np.linalg.norm(y)):
            return covariance_to_correlation(_symmetric(_psd(y, eigenvalue_min)))
    raise NotConvergedError(f"nearest correlation must settle within {steps_max} steps, was {gap:g} from it")


def _symmetric(matrix: Floats) -> Floats:
    return 0.5 * (matrix + matrix.T)


def stressed_correlation(correlation: Any, weight: float, *, towards: float = 1.0) -> Floats:
    """Correlation moved by `weight` towards one common value: 1 for a crash, 0 for the loss of every hedge.

    `(1 - weight) * correlation + weight * common`, where `common` has `towards` off its diagonal.  Both are
    positive semi-definite, so the mixture is, and no repair is needed.

    Parameters
    ----------
    correlation : float64 array, shape (assets, assets)
        A correlation matrix.
    weight : float
        In [0, 1]; 0 changes nothing, 1 forgets the data.
    towards : float
        Common correlation, from -1/(assets - 1) (the smallest valid one) to 1.

    Returns
    -------
    float64 array, shape (assets, assets)

    Raises
    ------
    RangeError
        If `correlation` is not positive semi-definite within 1e-10: repair it with `nearest_correlation`
        first.

    Notes
    -----
    For a book of shorts and longs the damaging direction differs by pair, so a margin model takes the worse
    of towards 1 and towards 0.
    """
    matrix = _correlation("correlation", correlation)
    number("weight", weight, least=0.0, most=1.0)
    assets = len(matrix)
    number("towards", towards, least=-1.0 / (assets - 1) if assets > 1 else -1.0, most=1.0)
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest < -1e-10:
        raise RangeError(f"correlation must be positive semi-definite, had the eigenvalue {smallest!r}")
    result = (1.0 - weight) * matrix + weight * towards
    np.fill_diagonal(result, 1.0)
    return result
