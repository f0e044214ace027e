"""Covariance of a panel: EWMA with a streaming state, Ledoit-Wolf shrinkage.

The EWMA moments are element-wise sums in a fixed order: the same bits one by one, in chunks or at once, and
for any order of the assets.  The equally weighted moments and the shrinkage intensities are NumPy
reductions and matrix products, exempt from the same-bits rule: within about 1e-14 between processors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.units import Floats, choice, floats, integer, number
from margincore.vol.correlation import covariance_to_correlation

TARGETS = ("none", "identity", "constant_correlation")
ROWS = 128  # of a panel at a time: their powers stay in the cache, and their products on one thread


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """Covariance shrunk towards a structured target, and by how much.

    Attributes
    ----------
    covariance : float64 array, shape (assets, assets)
        `intensity * target + (1 - intensity) * sample`.
    intensity : float
        In [0, 1].
    target : str
        Name of the target.
    """

    covariance: Floats
    intensity: float
    target: str


class _Moments:
    """Weighted sums over observations of everything that sample, targets and intensities need.

    With weights w_t that sum to one: `first` sum w x x', `second` sum w^2 x x', `fourth` sum w^2 x^2 x^2',
    `third` sum w^2 x^3 x', `squares` sum w^2.
    """

    __slots__ = ("first", "fourth", "second", "squares", "third", "total")

    def __init__(self, assets: int) -> None:
        self.first, self.second, self.third, self.fourth = np.zeros((4, assets, assets))
        self.total = self.squares = 0.0

    def add(self, row: Floats, decay: float) -> None:
        """Age the past by `decay` and add one observation of weight `1 - decay`, or 1 without decay."""
        fresh = 1.0 - decay if decay < 1.0 else 1.0
        product = row[:, None] * row[None, :]
        square = row * row
        slow, weight = decay * decay, fresh * fresh
        self.first = decay * self.first + fresh * product
        self.second = slow * self.second + weight * product
        self.third = slow * self.third + weight * ((square * row)[:, None] * row[None, :])
        self.fourth = slow * self.fourth + weight * (square[:, None] * square[None, :])
        self.total = decay * self.total + fresh
        self.squares = slow * self.squares + weight

    def copy(self) -> _Moments:
        result = _Moments(0)
        for name in self.__slots__:
            setattr(result, name, getattr(self, name))
        return result

    def normalised(self) -> _Moments:
        """The same sums with the weights scaled to sum to one."""
        result = self.copy()
        result.first = self.first / self.total
        for name in ("second", "third", "fourth", "squares"):
            setattr(result, name, getattr(self, name) / (self.total * self.total))
        result.total = 1.0
        return result


def _identity_intensity(m: _Moments, target: Floats) -> float:
    distance = float(np.sum((m.first - target) ** 2))
    noise = float(np.sum(m.fourth - 2.0 * m.first * m.second + m.squares * m.first * m.first))
    return 1.0 if distance <= 0.0 else min(max(noise / distance, 0.0), 1.0)


def _constant_target(sample: Floats) -> tuple[Floats, float]:
    sigma = np.sqrt(np.diagonal(sample))
    outer = sigma[:, None] * sigma[None, :]
    assets = sample.shape[0]
    mean = float((np.sum(sample / outer) - assets) / (assets * (assets - 1)))
    target = mean * outer
    np.fill_diagonal(target, np.diagonal(sample))
    return target, mean


def _constant_intensity(m: _Moments, target: Floats, mean: float) -> float:
    sample, variance = m.first, np.diagonal(m.first)
    pi = m.fourth - 2.0 * sample * m.second + m.squares * sample * sample
    theta = (m.third - variance[:, None] * m.second - sample * np.diagonal(m.second)[:, None]
             + m.squares * variance[:, None] * sample)
    ratio = np.sqrt(variance[None, :] / variance[:, None])
    crossed = ratio * theta
    np.fill_diagonal(crossed, 0.0)
    rho = float(np.sum(np.diagonal(pi)) + mean * np.sum(crossed))
    distance = float(np.sum((target - sample) ** 2))
    return 1.0 if distance <= 0.0 else min(max((float(np.sum(pi)) - rho) / distance, 0.0), 1.0)


def _shrink(moments: _Moments, target: str, intensity: float | None) -> Shrinkage:
    m = moments.normalised()
    assets = m.first.shape[0]
    variance = np.diagonal(m.first)
    if not (variance > 0.0).all():
        column = int(np.flatnonzero(~(variance > 0.0))[0])
        raise RangeError(f"returns must vary, asset {column} was constant")
    if target == "none" or (target == "constant_correlation" and assets == 1):
        return Shrinkage(m.first, 0.0, target)
    if target == "identity":
        structured = np.eye(assets) * float(np.sum(variance) / assets)
        chosen = _identity_intensity(m, structured) if intensity is None else intensity
    else:
        structured, mean = _constant_target(m.first)
        chosen = _constant_intensity(m, structured, mean) if intensity is None else intensity
    return Shrinkage(chosen * structured + (1.0 - chosen) * m.first, chosen, target)


def ledoit_wolf(returns: Any, *, target: str = "identity", demean: bool = True) -> Shrinkage:
    """Covariance of equally weighted returns, shrunk by the Ledoit-Wolf intensity.

    Parameters
    ----------
    returns : float64 array, shape (observations, assets)
        Per-bar returns, at least two observations.
    target : {"identity", "constant_correlation", "none"}
        `identity` is the average variance times the identity [1]_, `constant_correlation` the sample
        variances with one average correlation [2]_, `none` the sample itself.
    demean : bool
        Subtract each asset's mean first; the divisor is the number of observations, as in the papers.

    Returns
    -------
    Shrinkage
        Covariance per bar, and the intensity in [0, 1].

    Raises
    ------
    ShapeError, NotFiniteError, RangeError
        If the panel is not two-dimensional, holds NaN, has fewer than two rows, or an asset is constant.

    Notes
    -----
    Matrix reductions are NumPy's: exempt from the same-bits rule.

    References
    ----------
    .. [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
       Journal of Multivariate Analysis 88 (2004), section 3.3.
    .. [2] O. Ledoit, M. Wolf, "Honey, I shrunk the sample covariance matrix", Journal of Portfolio Management
       30 (2004), appendix B.
    """
    panel = _panel(returns, least=2)
    choice("target", target, TARGETS)
    # A constant column leaves rounding residue after centring; compare with its own size.
    still = np.ptp(panel, axis=0) == 0.0
    if demean and still.any():
        raise RangeError(f"returns must vary, asset {int(np.flatnonzero(still)[0])} was constant")
    middle = panel.mean(axis=0) if demean else np.zeros(panel.shape[1])
    moments = _Moments(panel.shape[1])
    for begin in range(0, len(panel), ROWS):
        rows = panel[begin:begin + ROWS] - middle
        square = rows * rows
        moments.first += rows.T @ rows
        moments.fourth += square.T @ square
        if target == "constant_correlation":
            moments.third += (square * rows).T @ rows
    moments.second = moments.first
    moments.total = moments.squares = float(len(panel))
    return _shrink(moments, target, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EwmaCovariance:
    """Exponentially weighted covariance of a panel of returns, shrunk, with zero mean.

    Weights `(1 - decay) * decay**k` for the return k bars ago, scaled to sum to one, so no start value is
    needed. The Ledoit-Wolf intensity uses the squared weights in place of 1/observations.

    Parameters
    ----------
    decay : float
        In (0, 1); RiskMetrics uses 0.94 for daily and 0.97 for monthly data.
    target : {"identity", "constant_correlation", "none"}
        What to shrink to.
    intensity : float, optional
        Fixed shrinkage in [0, 1]; estimated when omitted.
    observations_min : int
        Fewer observations are an error, never a number.
    missing : {"error", "skip"}
        What a bar with a NaN is: an error that names it, or left out for every asset and counted in `skipped`.  A bar
        is never used for some pairs alone: such a matrix need not be a covariance.

    References
    ----------
    .. [1] J.P. Morgan, *RiskMetrics Technical Document*, 4th edition, 1996, section 5.2.
    """

    decay: float = 0.94
    target: str = "identity"
    intensity: float | None = None
    observations_min: int = 20
    missing: str = "error"

    def __post_init__(self) -> None:
        choice("missing", self.missing, ("error", "skip"))
        number("decay", self.decay, above=0.0, below=1.0)
        choice("target", self.target, TARGETS)
        if self.intensity is not None:
            number("intensity", self.intensity, least=0.0, most=1.0)
        integer("observations_min", self.observations_min, least=2)

    def start(self, history: Any = None, *, assets: int | None = None) -> EwmaCovarianceState:
        """State after `history`, shape (observations, assets); an empty one when only `assets` is given."""
        if history is None:
            if assets is None:
                raise MissingDataError("history or assets must be given, was neither")
            return EwmaCovarianceState(self, integer("assets", assets, least=1))
        panel = _panel(history, least=1, finite=False)
        return EwmaCovarianceState(self, panel.shape[1]).extend(panel)

    def fit(self, returns: Any) -> Shrinkage:
        """Shrunk covariance per bar after all of `returns`, shape (observations, assets)."""
        return self.start(returns).shrinkage()


class EwmaCovarianceState:
    """Running sums of one `EwmaCovariance`; `update` takes one bar of returns of all assets."""

    __slots__ = ("_moments", "assets", "model", "observations", "skipped")

    def __init__(self, model: EwmaCovariance, assets: int) -> None:
        self.model, self.assets, self.observations, self.skipped = model, assets, 0, 0
        self._moments = _Moments(assets)

    def update(self, returns: Any) -> None:
        """Add one bar of returns, shape (assets,)."""
        row = floats("returns", returns, length=self.assets, finite=False)
        if self.model.missing == "skip" and np.isnan(row).any() and not np.isinf(row).any():
            self.skipped += 1
            return
        self._moments.add(floats("returns", row), self.model.decay)
        self.observations += 1

    def extend(self, panel: Iterable[Any]) -> EwmaCovarianceState:
        """Add bars one after the other; the same bits as `update` on each."""
        checked = _panel(panel, least=1, finite=False)
        if checked.shape[1] != self.assets:
            raise ShapeError(f"returns must have {self.assets} assets, had {checked.shape[1]}")
        # Before the first bar is taken: all or nothing.
        _refuse(checked, ~np.isfinite(checked) if self.model.missing == "error" else np.isinf(checked))
        for row in checked:
            self.update(row)
        return self

    def shrinkage(self) -> Shrinkage:
        """Shrunk covariance per bar and the intensity."""
        if self.observations < self.model.observations_min:
            raise RangeError(f"observations must be at least {self.model.observations_min}, "
                             f"was {self.observations}")
        return _shrink(self._moments, self.model.target, self.model.intensity)

    def covariance(self) -> Floats:
        """Shrunk covariance per bar, shape (assets, assets)."""
        return self.shrinkage().covariance

    def correlation(self) -> Floats:
        """Correlation of the shrunk covariance, shape (assets, assets)."""
        return covariance_to_correlation(self.covariance())

    def save(self) -> dict[str, Any]:
        """The state as plain numbers; `load` gives the same bits back."""
        moments = {name: np.asarray(getattr(self._moments, name)).tolist() for name in _Moments.__slots__}
        return {"assets": self.assets, "observations": self.observations, "skipped": self.skipped,
                "moments": moments}

    @classmethod
    def load(cls, model: EwmaCovariance, saved: dict[str, Any]) -> EwmaCovarianceState:
        """The state that `save` wrote, under the same model; ShapeError or RangeError if it is none."""
        try:
            state = cls(model, integer("assets", saved["assets"], least=1))
            state.observations = integer("observations", saved["observations"], least=0)
            state.skipped = integer("skipped", saved["skipped"], least=0)
            sums = {name: floats(name, saved["moments"][name], ndim=None) for name in _Moments.__slots__}
        except (KeyError, TypeError) as problem:
            raise ShapeError(f"saved must be the dictionary of EwmaCovarianceState.save: {problem!r}") from None
        for name, value in sums.items():
            shape = () if name in ("squares", "total") else (state.assets, state.assets)
            if value.shape != shape:
                raise ShapeError(f"{name} must have shape {shape}, had {value.shape}")
            if not shape and not 0.0 <= float(value) <= 1.0:
                raise RangeError(f"{name} must be in [0, 1], was {float(value)!r}")
            setattr(state._moments, name, value if shape else float(value))
        return state


def _panel(returns: Any, *, least: int, finite: bool = True) -> Floats:
    panel = floats("returns", returns, ndim=2, finite=False)
    if finite:
        _refuse(panel, ~np.isfinite(panel))
    if panel.shape[0] < least:
        raise ShapeError(f"returns must have at least {least} observations, had {panel.shape[0]}")
    return panel


def _refuse(panel: Floats, wrong: npt.NDArray[np.bool_]) -> None:
    if wrong.any():
        bar, asset = np.argwhere(wrong)[0]
        raise NotFiniteError(f"returns must be finite, was {float(panel[bar, asset])!r} in bar {bar} of asset {asset}")
