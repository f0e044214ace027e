"""Walk forward: each day's value at risk and shortfall from what was known before it, by model and method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import MarginError, NotConvergedError, RangeError, ShapeError
from margincore.laws import NormalLaw, StudentLaw
from margincore.measure import checked_level
from margincore.simulation import Philox, simulate
from margincore.tail import portfolio_pnl, tail_risks
from margincore.units import Floats, choice, floats, integer
from margincore.validation.law import Law, law_tail, moment_law
from margincore.validation.study import Study
from margincore.vol import Ewma, VolatilityModel

METHODS = ("historical", "filtered", "monte_carlo", "parametric")
MOVE_MOST = 100.0  # largest log move of a scenario: beyond, a model has exploded, and its numbers stay finite
STAND_IN = Ewma(decay=0.94)
FITTED_LEAST = 100  # returns a fit needs before its tail says anything


@dataclass(frozen=True, slots=True)
class Refit:
    """A volatility model to be estimated again as time goes on: ``Refit(Garch, {"innovation": "student_t"})``.

    Attributes
    ----------
    kind : type
        A volatility model with `fit`.
    settings : mapping of str to object
        Keyword arguments of that `fit`.
    """

    kind: type[VolatilityModel]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isinstance(self.kind, type) and issubclass(self.kind, VolatilityModel) and hasattr(self.kind, "fit")):
            raise RangeError(f"kind must be a volatility model with fit, was {self.kind!r}")


Candidate = VolatilityModel | Refit | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Setup:
    returns: Floats  # (times, assets)
    realised_variance: Floats | None
    positions: Floats  # (portfolios, assets)
    levels: tuple[float, float]
    window: int
    refit_every: int
    paths: int
    seed: int
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """What one fit knows: laws of the assets, and along its days the means, deviations and standardised returns."""

    first: int  # day of the first forecast
    mean: Floats  # (assets,)
    sigma: Floats  # (days, assets)
    shock: Floats  # (window + days, assets): of the window before the first day, and of the days themselves
    laws: tuple[Law, ...]


def walk_forward(returns: npt.ArrayLike, models: Mapping[str, Candidate], *, methods: Sequence[str] = METHODS,
                 positions: npt.ArrayLike | None = None, names: Sequence[str] | None = None,
                 value_at_risk_level: float = 0.99, expected_shortfall_level: float = 0.975, window: int = 500,
                 refit_every: int = 20, paths: int = 10_000, seed: int = 0,
                 realised_variance: npt.ArrayLike | None = None, time_ns: Any = None, threads: int = 1) -> Study:
    """Forecasts of every model and method along a history, each from the returns before its day alone.

    Every `refit_every` periods the models are estimated on the `window` returns before; between, their parameters
    stay and their variances are updated with every return.  Methods, all one step ahead:

    - historical: the returns of the window as they were, one scenario a date; needs no model;
    - filtered: standardised returns of the window times the forecast deviations of today, by date, so that
      correlations stay (Barone-Adesi, Giannopoulos and Vosper 1999);
    - monte_carlo: `paths` draws of each model's own shocks, tied together by a Student-t copula of the window's
      correlations (marginals reordered by rank, Iman and Conover 1982);
    - parametric: the quantile and the mean beyond it of the model's law; for portfolios of several assets, of the
      elliptical law with the window's correlations; linear in the log returns.

    Parameters
    ----------
    returns : float64 array, shape (times, assets)
        Log returns per period, at most 100 in size; (times,) counts as one asset.
    models : mapping of str to model
        By the name to show: a `VolatilityModel`, whose parameters stay; a `Refit`; or a float64 array of shape
        (times, assets), deviations per period stated before each return.
    methods : sequence of {"historical", "filtered", "monte_carlo", "parametric"}
    positions : float64 array, shape (portfolios, assets), optional
        Notional held of each asset, signed.  When omitted: each asset long, each short, and (of several) all of them
        equally, long and short.
    names : sequence of str, optional
        Names of the portfolios.
    value_at_risk_level, expected_shortfall_level : float
        In [0.5, 1).
    window : int
        Returns that a fit, the residuals and the historical scenarios use; at least 100.
    refit_every : int
        Periods between fits, at least 1.
    paths : int
        Draws of the Monte Carlo method; even, at least 100.
    seed : int
        Of those draws; the same seed gives the same study for any number of threads.
    realised_variance : float64 array, shape (times, assets), optional
        For the models that observe it.
    time_ns : int64 array, shape (times,), optional
        Times of the returns, for plots and lists of exceptions.
    threads : int
        Models worked on at once.

    Returns
    -------
    Study

    Raises
    ------
    MarginError
        If an argument breaks its rule, with the name of the model in front where one is at fault.

    Notes
    -----
    A fit that finds no optimum keeps the parameters before, or stands aside for EWMA 0.94 until the first that does;
    `Study.failed_fits` counts them.
    """
    table = floats("returns", returns, ndim=None)
    table = np.ascontiguousarray(table[:, None] if table.ndim == 1 else table)
    if table.ndim != 2:
        raise ShapeError(f"returns must have axes (times, assets), had shape {table.shape}")
    if np.abs(table).max() > MOVE_MOST:
        day, asset = np.unravel_index(int(np.abs(table).argmax()), table.shape)
        raise RangeError(f"returns must be log returns of at most {MOVE_MOST:g} in size, "
                         f"was {float(table[day, asset])!r} of asset {asset} on day {day}")
    levels = checked_level(value_at_risk_level), checked_level(expected_shortfall_level)
    window = integer("window", window, least=FITTED_LEAST)
    if len(table) < window + 2:
        raise ShapeError(f"returns must have at least {window + 2} times for a window of {window}, had {len(table)}")
    chosen = tuple(choice("methods", method, METHODS) for method in methods)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ShapeError(f"methods must name each method once, were {list(methods)}")
    if not models and set(chosen) != {"historical"}:
        raise ShapeError("models must hold at least one model, was empty")
    held, labels = _portfolios(positions, names, table.shape[1])
    realised = None if realised_variance is None else floats("realised_variance", realised_variance, ndim=None)
    if realised is not None:
        realised = np.ascontiguousarray(realised[:, None] if realised.ndim == 1 else realised)
        if realised.shape != table.shape:
            raise ShapeError(f"realised_variance must have shape {table.shape}, had {realised.shape}")
    clock = None if time_ns is None else np.asarray(time_ns, np.int64)
    if clock is not None and clock.shape != (len(table),):
        raise ShapeError(f"time_ns must have length {len(table)}, had shape {clock.shape}")
    paths = integer("paths", paths, least=100)
    if paths % 2:
        raise RangeError(f"paths must be even (they come in antithetic pairs), was {paths}")
    setup = _Setup(table, realised, held, levels, window, integer("refit_every", refit_every, least=1), paths,
                   integer("seed", seed, least=0), chosen)

    forecasts: dict[tuple[str, str], Floats] = {}
    failed: dict[str, int] = {}
    if "historical" in chosen:
        forecasts["none", "historical"] = _historical(setup)
    if modelled := tuple(method for method in METHODS if method in chosen and method != "historical"):
        def work(item: tuple[int, tuple[str, Candidate]]) -> tuple[dict[str, Floats], int]:
            return _modelled(setup, modelled, item[0], *item[1])

        items = list(enumerate(models.items()))
        if integer("threads", threads, least=1) == 1:
            answers = [work(item) for item in items]
        else:
            with ThreadPoolExecutor(threads) as pool:
                answers = list(pool.map(work, items))
        for name, (found, failures) in zip(models, answers, strict=True):
            failed[name] = failures
            forecasts |= {(name, method): values for method, values in found.items()}
    realised_pnl = portfolio_pnl(held, np.expm1(table[window:]).T)
    return Study(names=labels, positions=held, pnl=realised_pnl,
                 time_ns=None if clock is None else clock[window:], value_at_risk_level=levels[0],
                 expected_shortfall_level=levels[1], forecasts=forecasts, failed_fits=failed, window=window,
                 refit_every=refit_every, paths=paths)


def _portfolios(positions: npt.ArrayLike | None, names: Sequence[str] | None,
                assets: int) -> tuple[Floats, tuple[str, ...]]:
    if positions is None:
        each = np.eye(assets)
        together = np.full((1, assets), 1.0 / assets)
        held = np.concatenate([each, -each] + ([together, -together] if assets > 1 else []))
        own = [f"asset {at}" for at in range(assets)] if names is None else [str(name) for name in names]
        if len(own) != assets:
            raise ShapeError(f"names must have one name per asset ({assets}) without positions, had {len(own)}")
        labels = [f"{name} long" for name in own] + [f"{name} short" for name in own]
        return held, tuple(labels + (["equal long", "equal short"] if assets > 1 else []))
    held = np.atleast_2d(floats("positions", positions, ndim=None))
    if held.ndim != 2 or held.shape[1] != assets:
        raise ShapeError(f"positions must have axes (portfolios, {assets} assets), had shape {held.shape}")
    if not held.any(axis=1).all():
        raise RangeError(f"positions must hold something in every portfolio, held nothing in "
                         f"{int((~held.any(axis=1)).argmax())}")
    labels = [str(at) for at in range(len(held))] if names is None else [str(name) for name in names]
    if len(labels) != len(held):
        raise ShapeError(f"names must have one name per portfolio ({len(held)}), had {len(labels)}")
    return held, tuple(labels)


def _reduce(pnl: Floats, levels: tuple[float, float]) -> Floats:
    """Of P&L (rows, scenarios): value at risk at the first level, then value at risk and shortfall at the second."""
    quantile, _ = tail_risks(pnl, levels[0])
    edge, shortfall = tail_risks(pnl, levels[1])
    return np.stack([quantile.loss, edge.loss, shortfall.loss])


def _historical(setup: _Setup) -> Floats:
    pnl = portfolio_pnl(setup.positions, np.expm1(setup.returns).T)
    windows = np.lib.stride_tricks.sliding_window_view(pnl[:, :-1], setup.window, axis=1)
    out = np.empty((3, *windows.shape[:2]))
    for at in range(len(pnl)):
        out[:, at] = _reduce(np.ascontiguousarray(windows[at]), setup.levels)
    return out


def _modelled(setup: _Setup, methods: tuple[str, ...], number: int, name: str,
              candidate: Candidate) -> tuple[dict[str, Floats], int]:
    shape = 3, len(setup.positions), len(setup.returns) - setup.window
    found = {method: np.empty(shape) for method in methods}
    failures = [0]
    try:
        for block in _blocks(setup, candidate, failures):
            at = block.first - setup.window
            days = slice(at, at + len(block.sigma))
            for method in methods:
                if method == "filtered":
                    found[method][:, :, days] = _filtered(setup, block)
                elif method == "monte_carlo":
                    found[method][:, :, days] = _monte_carlo(setup, block, number)
                else:
                    found[method][:, :, days] = _parametric(setup, block)
    except MarginError as error:
        raise type(error)(f"{name}: {error}") from error
    return found, failures[0]


def _blocks(setup: _Setup, candidate: Candidate, failures: list[int]) -> Iterator[_Block]:
    times, assets = setup.returns.shape
    stated = None
    if isinstance(candidate, np.ndarray):
        stated = floats("deviations", candidate, ndim=None)
        stated = stated[:, None] if stated.ndim == 1 else stated
        if stated.shape != setup.returns.shape or not (stated > 0.0).all():
            raise RangeError(f"deviations must be positive, of shape {setup.returns.shape}, had shape {stated.shape}")
    elif not isinstance(candidate, (VolatilityModel, Refit)):
        raise RangeError(f"a model must be a VolatilityModel, a Refit or an array, was {candidate!r}")
    elif setup.realised_variance is None and _kind(candidate).observes != "returns":
        raise ShapeError("realised_variance must be given for a model that observes it, was None")
    models: list[VolatilityModel | None] = [None] * assets
    for first in range(setup.window, times, setup.refit_every):
        begin, end = first - setup.window, min(first + setup.refit_every, times)
        history = setup.returns[begin:end]
        mean, sigma, laws = np.zeros(assets), np.empty((end - begin, assets)), []
        for asset in range(assets):
            law: Law | None = None
            if stated is not None:
                sigma[:, asset] = stated[begin:end, asset]
            else:
                assert isinstance(candidate, (VolatilityModel, Refit))
                try:
                    model, observed = _model(setup, candidate, models[asset], asset, begin, first, end, failures)
                    # The last forecast is for a day beyond the block.
                    sigma[:, asset] = np.sqrt(model.filter(observed)[:-1])
                except MarginError as error:
                    place = "" if assets == 1 else f" of asset {asset}"
                    raise type(error)(f"days {begin} to {first - 1}{place}: {error}") from error
                models[asset] = model
                if model.observes == "returns":
                    mean[asset], law = model.recursion().mean, model.innovation
            if law is None:
                # Nothing stated the law of the returns: put to scale, with the tail of the window.
                scale, law = moment_law(history[:setup.window, asset] / sigma[:setup.window, asset])
                sigma[:, asset] *= scale
            laws.append(law)
        yield _Block(first, mean, sigma[setup.window:], (history - mean) / sigma, tuple(laws))


def _kind(candidate: VolatilityModel | Refit) -> Any:
    return candidate.kind if isinstance(candidate, Refit) else type(candidate)


def _model(setup: _Setup, candidate: VolatilityModel | Refit, before: VolatilityModel | None, asset: int, begin: int,
           first: int, end: int, failures: list[int]) -> tuple[VolatilityModel, Floats]:
    kind = _kind(candidate)
    source = setup.returns if kind.observes == "returns" else setup.realised_variance
    assert source is not None
    observed = np.ascontiguousarray(source[begin:end, asset])
    if isinstance(candidate, VolatilityModel):
        return candidate, observed
    try:
        fitted: VolatilityModel = kind.fit(observed[:first - begin], **candidate.settings).model
    except NotConvergedError:
        failures[0] += 1
        if before is not None and before.observes == kind.observes:
            return before, observed
        return STAND_IN, np.ascontiguousarray(setup.returns[begin:end, asset])
    return fitted, observed


def _filtered(setup: _Setup, block: _Block) -> Floats:
    out = np.empty((3, len(setup.positions), len(block.sigma)))
    for day, sigma in enumerate(block.sigma):
        move = block.mean + sigma * block.shock[day:day + setup.window]
        out[:, :, day] = _reduce(portfolio_pnl(setup.positions, np.expm1(np.minimum(move, MOVE_MOST)).T), setup.levels)
    return out


def _monte_carlo(setup: _Setup, block: _Block, number: int) -> Floats:
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
        shock.sort(axis=1)
        for asset in range(assets):
            shock[asset] = shock[asset, np.argsort(np.argsort(joint[:, asset]))]
    out = np.empty((3, len(setup.positions), len(block.sigma)))
    for day, sigma in enumerate(block.sigma):
        move = block.mean[:, None] + sigma[:, None] * shock
        np.expm1(np.minimum(move, MOVE_MOST, out=move), out=move)
        out[:, :, day] = _reduce(portfolio_pnl(setup.positions, move), setup.levels)
    return out


def _parametric(setup: _Setup, block: _Block) -> Floats:
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


def _correlation(setup: _Setup, block: _Block) -> Floats:
    shock = block.shock[:setup.window]
    return np.atleast_2d(np.corrcoef(shock, rowvar=False))
