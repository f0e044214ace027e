"""What a walk-forward study answers: forecasts, tests, scores and stability of every model and method, side by side."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from margincore.errors import RangeError
from margincore.units import Floats, Ints, optional
from margincore.validation.procyclicality import largest_increase, peak_to_trough
from margincore.validation.score import joint_score, quantile_score
from margincore.validation.shortfall import mcneil_frey, z2_null, z2_statistic
from margincore.validation.table import Backtest, backtest

QUANTILE, EDGE, SHORTFALL = range(3)  # rows of a forecast
SIMULATIONS = 2_000  # of the null distribution of Z2, and resamples of the exceedance test
SIGNIFICANCE = 0.05
TOLERATED = 0.10  # share of portfolios that a test at 5 % may reject before a combination is out of the running


@dataclass(frozen=True, slots=True)
class Combination:
    """One model with one method, over every portfolio and day of a study.

    Attributes
    ----------
    model, method : str
    coverage : float
        Share of portfolio-days whose loss stayed within the value at risk.
    frequency, conditional, dynamic_quantile : float
        Share of portfolios that Kupiec's, Christoffersen's and Engle and Manganelli's test reject at 5 %.
    red : float
        Share of portfolios in the red zone.
    shortfall_z2, shortfall_residuals : float
        Share of portfolios whose shortfall Acerbi and Szekely's Z2 and McNeil and Frey's test reject at 5 %.
    mean_value_at_risk, mean_expected_shortfall : float
        Average margin as a fraction of gross notional.
    peak_to_trough, increase_five : float
        Of the value at risk: medians over the portfolios of the largest over the smallest, and of the largest
        relative increase over five periods.
    quantile_score, joint_score : float
        Averages; smaller is closer to the truth.
    """

    model: str
    method: str
    coverage: float
    frequency: float
    conditional: float
    dynamic_quantile: float
    red: float
    shortfall_z2: float
    shortfall_residuals: float
    mean_value_at_risk: float
    mean_expected_shortfall: float
    peak_to_trough: float
    increase_five: float
    quantile_score: float
    joint_score: float

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """Forecasts along a history with what then happened.

    Attributes
    ----------
    names : tuple of str
        Portfolios.
    positions : float64 array, shape (portfolios, assets)
        Signed notional.
    pnl : float64 array, shape (portfolios, days)
        Realised.
    time_ns : int64 array, shape (days,), or None
    value_at_risk_level, expected_shortfall_level : float
    forecasts : dict of (model, method) to float64 array, shape (3, portfolios, days)
        Value at risk at its level, value at risk at the level of the shortfall, expected shortfall.
    failed_fits : dict of str to int
        Fits by model that found no optimum; the parameters before were kept.
    window, refit_every, paths : int
    """

    names: tuple[str, ...]
    positions: Floats
    pnl: Floats
    time_ns: Ints | None
    value_at_risk_level: float
    expected_shortfall_level: float
    forecasts: dict[tuple[str, str], Floats]
    failed_fits: dict[str, int]
    window: int
    refit_every: int
    paths: int

    def value_at_risk(self, model: str, method: str) -> Floats:
        """Value at risk, shape (portfolios, days)."""
        return np.asarray(self._forecast(model, method)[QUANTILE])

    def expected_shortfall(self, model: str, method: str) -> Floats:
        """Expected shortfall at its own level, shape (portfolios, days)."""
        return np.asarray(self._forecast(model, method)[SHORTFALL])

    def backtest(self, model: str, method: str) -> Backtest:
        """Coverage tests of the value at risk of every portfolio."""
        return backtest(self.pnl, self.value_at_risk(model, method), self.value_at_risk_level, names=self.names)

    def combinations(self) -> list[Combination]:
        """Every model and method, the favoured first; see `favoured` for the order."""
        null = z2_null(self.pnl.shape[1], self.expected_shortfall_level, generator=np.random.default_rng(0),
                       simulations=SIMULATIONS)
        found = [self._combination(model, method, null) for model, method in self.forecasts]
        return sorted(found, key=lambda item: (not _accepted(item), item.joint_score))

    def favoured(self) -> Combination:
        """What the evidence favours.

        Among the combinations that neither conditional coverage nor Z2 rejects for more than 10 % of the portfolios,
        the one of the smallest joint score of value at risk and shortfall; among all where none is left.
        """
        return self.combinations()[0]

    def __str__(self) -> str:
        head = (f"{'model':<18}{'method':<13}{'coverage':>9}{'POF':>6}{'cc':>6}{'DQ':>6}{'red':>6}{'Z2':>6}{'MF':>6}"
                f"{'VaR':>8}{'ES':>8}{'pk/tr':>7}{'+5':>7}{'score':>9}")
        lines = [head]
        lines += [f"{c.model:<18.17}{c.method:<13}{c.coverage:>9.3%}{c.frequency:>6.0%}{c.conditional:>6.0%}"
                  f"{c.dynamic_quantile:>6.0%}{c.red:>6.0%}{c.shortfall_z2:>6.0%}{c.shortfall_residuals:>6.0%}"
                  f"{_percent(c.mean_value_at_risk):>8}{_percent(c.mean_expected_shortfall):>8}"
                  f"{c.peak_to_trough:>7.1f}{c.increase_five:>7.0%}{c.joint_score:>9.4f}" for c in self.combinations()]
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """The combinations as a pandas DataFrame; pandas must be installed."""
        return optional("to_pandas", "pandas", "pandas").DataFrame([item.to_dict() for item in self.combinations()])

    def plot(self, model: str, method: str, portfolio: str | int = 0) -> Any:
        """A matplotlib Figure of one portfolio: P&L, bands of value at risk and shortfall, exceptions."""
        figures = optional("plot", "matplotlib.figure", "plot")
        at = self._portfolio(portfolio)
        forecast, pnl = self._forecast(model, method)[:, at], self.pnl[at]
        days = np.arange(len(pnl)) if self.time_ns is None else self.time_ns.astype("datetime64[ns]")
        figure = figures.Figure(figsize=(11.0, 5.0), layout="constrained")
        axes = figure.subplots()
        axes.plot(days, 100.0 * pnl, ".", markersize=2.0, color="0.55", label="P&L")
        axes.plot(days, -100.0 * forecast[QUANTILE], linewidth=1.0,
                  label=f"value at risk {self.value_at_risk_level:.4g}")
        axes.plot(days, -100.0 * forecast[SHORTFALL], linewidth=1.0,
                  label=f"expected shortfall {self.expected_shortfall_level:.4g}")
        hits = -pnl > forecast[QUANTILE]
        axes.plot(days[hits], 100.0 * pnl[hits], "x", color="crimson", label=f"{int(hits.sum())} exceptions")
        axes.set_ylabel("% of notional")
        axes.set_title(f"{self.names[at]}: {model}, {method}")
        axes.legend(loc="lower left", fontsize="small")
        return figure

    def _portfolio(self, portfolio: str | int) -> int:
        if isinstance(portfolio, str):
            if portfolio not in self.names:
                raise RangeError(f"portfolio must be one of {', '.join(self.names)}, was {portfolio!r}")
            return self.names.index(portfolio)
        if not 0 <= portfolio < len(self.names):
            raise RangeError(f"portfolio must be from 0 to {len(self.names) - 1}, was {portfolio!r}")
        return portfolio

    def _forecast(self, model: str, method: str) -> Floats:
        if (model, method) not in self.forecasts:
            known = ", ".join(f"({one!r}, {other!r})" for one, other in self.forecasts)
            raise RangeError(f"model and method must be one of {known}, were ({model!r}, {method!r})")
        return self.forecasts[model, method]

    def _combination(self, model: str, method: str, null: Floats) -> Combination:
        quantile, edge, shortfall = self._forecast(model, method)
        tests = self.backtest(model, method)
        gross = np.abs(self.positions).sum(axis=1)[:, None]
        z2, residuals, scores = [], [], []
        for pnl, stated, deep in zip(self.pnl, edge, shortfall, strict=True):
            if not (deep > 0.0).all():
                z2.append(1.0)  # a shortfall that promises a gain, or is not finite, is wrong without a test
                residuals.append(1.0)
                scores.append(np.inf)
                continue
            statistic = z2_statistic(pnl, stated, deep, self.expected_shortfall_level)
            z2.append((1.0 + float((null <= statistic).sum())) / (1.0 + len(null)) < SIGNIFICANCE)
            residuals.append(mcneil_frey(pnl, stated, deep, generator=np.random.default_rng(0),
                                         resamples=SIMULATIONS).rejects(SIGNIFICANCE))
            scores.append(float(joint_score(pnl, stated, deep, self.expected_shortfall_level).mean()))
        sound = (quantile > 0.0).all(axis=1) & np.full(len(quantile), quantile.shape[1] > 5)
        return Combination(
            model, method, coverage=float((-self.pnl <= quantile).mean()),
            frequency=float((~(tests.pof >= SIGNIFICANCE)).mean()),
            conditional=float((~(tests.conditional >= SIGNIFICANCE)).mean()),
            dynamic_quantile=float((~(tests.dynamic_quantile >= SIGNIFICANCE)).mean()),
            red=float((tests.zone == "red").mean()), shortfall_z2=float(np.mean(z2)),
            shortfall_residuals=float(np.mean(residuals)),
            mean_value_at_risk=float((quantile / gross).mean()),
            mean_expected_shortfall=float((shortfall / gross).mean()),
            peak_to_trough=float(np.median([peak_to_trough(path) for path in quantile[sound]])) if sound.any()
            else float("nan"),
            increase_five=float(np.median([largest_increase(path, 5) for path in quantile[sound]])) if sound.any()
            else float("nan"),
            quantile_score=float(np.mean([quantile_score(pnl, stated, self.value_at_risk_level).mean()
                                          if np.isfinite(stated).all() else np.inf
                                          for pnl, stated in zip(self.pnl, quantile, strict=True)])),
            joint_score=float(np.mean(scores)))


def _percent(value: float) -> str:
    """A share of notional; a model whose variance exploded is named so rather than printed to 20 digits."""
    return ">1000%" if value >= 10.0 else f"{value:.2%}"


def _accepted(item: Combination) -> bool:
    return item.conditional <= TOLERATED and item.shortfall_z2 <= TOLERATED
