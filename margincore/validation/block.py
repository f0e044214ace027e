"""One block of days of a walk-forward study: what a fit knows, and what every method makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.kernels import formula, risk
from margincore.laws import NormalLaw, StudentLaw
from margincore.measure import SHORTFALL
from margincore.simulation import Philox, simulate
from margincore.tail import portfolio_pnl
from margincore.units import Floats
from margincore.validation.law import Law, law_tail, moment_law

MOVE_MOST = 100.0  # largest log move of a scenario: beyond, a model has exploded, and its numbers stay finite


@dataclass(frozen=True, slots=True)
class Setup:
    """What a study was asked, checked."""

    returns: Floats  # (times, assets)
    realised_variance: Floats | None
    positions: Floats  # (portfolios, assets)
    slots: tuple[Any, Any, Floats]  # of the positions held
    levels: tuple[float, float]
    window: int
    refit_every: int
    paths: int
    seed: int


@dataclass(frozen=True, slots=True)
class Block:
    """What one fit knows: laws of the assets, and along its days the means, deviations and standardised returns."""

    first: int  # day of the first forecast
    mean: Floats  # (assets,)
    sigma: Floats  # (days, assets)
    shock: Floats  # (window + days, assets): of the window before the first day, and of the days themselves
    laws: tuple[Law, ...]


def growth(move: Floats) -> Floats:
    """Returns of log moves (assets, scenarios)."""
    out = np.empty(move.shape)
    formula.expm1s(np.ascontiguousarray(move).reshape(-1), out.reshape(-1))
    return out


def _reduce(pnl: Floats, levels: tuple[float, float]) -> Floats:
    """Of P&L (rows, scenarios): value at risk at the first level, then value at risk and shortfall at the second."""
    out = np.empty((len(pnl), 2, 4))
    risk.tail_losses(pnl, levels, out, np.empty(len(pnl), np.int32))
    return np.stack([out[:, 0, 0], out[:, 1, 0], out[:, 1, SHORTFALL]])


class _Days:
    """The arrays that every day of a block fills anew: they are large, and fresh memory costs as much as the sums."""

    def __init__(self, setup: Setup, scenarios: int) -> None:
        assets = setup.returns.shape[1]
        self.setup = setup
        self.move, self.growth = np.empty((assets, scenarios)), np.empty((assets, scenarios))
        self.pnl = np.empty((len(setup.positions), scenarios))

    def tails(self, mean: Floats, sigma: Floats, shock: Floats) -> Floats:
        """The three numbers of every portfolio on a day of `sigma` (assets,), with shocks (assets, scenarios)."""
        np.multiply(sigma[:, None], shock, out=self.move)
        np.add(mean[:, None], self.move, out=self.move)
        np.minimum(self.move, MOVE_MOST, out=self.move)
        formula.expm1s(self.move.reshape(-1), self.growth.reshape(-1))
        risk.sparse_pnl(*self.setup.slots, self.growth, self.pnl)
        return _reduce(self.pnl, self.setup.levels)


def historical(setup: Setup) -> Floats:
    pnl = portfolio_pnl(setup.positions, growth(setup.returns.T))
    windows = np.lib.stride_tricks.sliding_window_view(pnl[:, :-1], setup.window, axis=1)
    out = np.empty((3, *windows.shape[:2]))
    for at in range(len(pnl)):
        out[:, at] = _reduce(np.ascontiguousarray(windows[at]), setup.levels)
    return out


def forecasts(setup: Setup, block: Block, method: str, number: int) -> Floats:
    """The three numbers of every portfolio on every day of the block, shape (3, portfolios, days)."""
    if method == "filtered":
        return _filtered(setup, block)
    return _monte_carlo(setup, block, number) if method == "monte_carlo" else _parametric(setup, block)


def _filtered(setup: Setup, block: Block) -> Floats:
    out = np.empty((3, len(setup.positions), len(block.sigma)))
    days = _Days(setup, setup.window)
    shock = np.ascontiguousarray(block.shock.T)
    for day, sigma in enumerate(block.sigma):
        out[:, :, day] = days.tails(block.mean, sigma, shock[:, day:day + setup.window])
    return out


def _monte_carlo(setup: Setup, block: Block, number: int) -> Floats:
    generator = np.random.default_rng([setup.seed, number, block.first])
    assets = len(block.mean)
    shock = np.empty((assets, setup.paths))
    for asset, law in enumerate(block.laws):
        shock[asset] = law.draw(generator, (setup.paths,))
    if assets > 1:
        degrees = _degrees(block.laws)
        correlation = _correlation(setup, block)
        joint = simulate(StudentLaw(correlation, degrees) if np.isfinite(degrees) else NormalLaw(correlation),
                         setup.paths, source=Philox(setup.seed, number << 20 | block.first), antithetic=True)
        ranked = np.sort(shock, axis=1)
        for asset in range(assets):
            shock[asset, np.argsort(joint[:, asset])] = ranked[asset]
    out = np.empty((3, len(setup.positions), len(block.sigma)))
    days = _Days(setup, setup.paths)
    for day, sigma in enumerate(block.sigma):
        out[:, :, day] = days.tails(block.mean, sigma, shock)
    return out


def _parametric(setup: Setup, block: Block) -> Floats:
    out = np.empty((3, len(setup.positions), len(block.sigma)))
    joint = moment_law(np.zeros(0), degrees=_degrees(block.laws))[1]
    correlation = _correlation(setup, block)
    for at, held in enumerate(setup.positions):
        assets = np.flatnonzero(held)
        exposure = block.sigma * held
        if len(assets) == 1:
            law, deviation = block.laws[assets[0]], np.abs(exposure[:, assets[0]])
            short = bool(held[assets[0]] < 0.0)
        else:
            law, short = joint, False
            deviation = np.sqrt(np.maximum(np.einsum("da,ab,db->d", exposure, correlation, exposure), 0.0))
        mean = float(held @ block.mean)
        first, second = (law_tail(law, level, short=short) for level in setup.levels)
        out[:, at] = np.stack([first[0] * deviation, second[0] * deviation, second[1] * deviation]) - mean
    return out


def _degrees(laws: tuple[Law, ...]) -> float:
    """Degrees of freedom of the joint law: the mean over the assets whose law has them, infinite without."""
    found = [law.degrees_of_freedom for law in laws if hasattr(law, "degrees_of_freedom")]
    return float(np.mean(found)) if found else float("inf")


def _correlation(setup: Setup, block: Block) -> Floats:
    shock = block.shock[:setup.window]
    return np.atleast_2d(np.corrcoef(shock, rowvar=False))
