"""Walk forward: each day's value at risk and shortfall from what was known before it, by model and method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from margincore.errors import MarginError, NotConvergedError, RangeError, ShapeError
from margincore.measure import checked_level
from margincore.tail import portfolio_pnl, portfolio_slots
from margincore.units import Floats, choice, floats, integer
from margincore.validation.block import MOVE_MOST, Block, Setup, forecasts, growth, historical
from margincore.validation.law import Law, moment_law
from margincore.validation.study import Study
from margincore.vol import Ewma, VolatilityModel

METHODS = ("historical", "filtered", "monte_carlo", "parametric")
STAND_IN = Ewma(decay=0.94)
FITTED_LEAST = 100  # returns a fit needs before its tail says anything

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
        Fits, and blocks of days between fits, worked on at once.

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
    setup = Setup(table, realised, held, portfolio_slots(held)[:3], levels, window,
                  integer("refit_every", refit_every, least=1), paths, integer("seed", seed, least=0))
    threads = integer("threads", threads, least=1)

    found: dict[tuple[str, str], Floats] = {}
    failed: dict[str, int] = {}
    if "historical" in chosen:
        found["none", "historical"] = historical(setup)
    if modelled := tuple(method for method in METHODS if method in chosen and method != "historical"):
        failed = _modelled(setup, modelled, models, threads, found)
    realised_pnl = portfolio_pnl(held, growth(table[window:].T))
    return Study(names=labels, positions=held, pnl=realised_pnl,
                 time_ns=None if clock is None else clock[window:], value_at_risk_level=levels[0],
                 expected_shortfall_level=levels[1], forecasts=found, failed_fits=failed, window=window,
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


class _Fit(NamedTuple):
    """What one fit knows of one asset."""

    mean: float
    sigma: Floats  # of the window, and of the days until the next fit
    law: Law


def _modelled(setup: Setup, methods: tuple[str, ...], models: Mapping[str, Candidate], threads: int,
              found: dict[tuple[str, str], Floats]) -> dict[str, int]:
    """Fill `found` by model and method, and count the fits that found no optimum by model."""
    candidates = [_checked(setup, name, candidate) for name, candidate in models.items()]
    times, assets = setup.returns.shape
    firsts = range(setup.window, times, setup.refit_every)
    names = list(models)

    def fit(item: tuple[int, int]) -> tuple[list[_Fit], int]:
        return _fits(setup, names[item[0]], candidates[item[0]], item[1])

    fitted = _each(fit, [(number, asset) for number in range(len(names)) for asset in range(assets)], threads)
    for name in names:
        found |= {(name, method): np.empty((3, len(setup.positions), times - setup.window)) for method in methods}

    def look(item: tuple[int, int]) -> None:
        number, at = item
        block = _block(setup, firsts[at], [fits[at] for fits, _ in fitted[number * assets:(number + 1) * assets]])
        begin = block.first - setup.window
        try:
            for method in methods:
                found[names[number], method][:, :, begin:begin + len(block.sigma)] = forecasts(
                    setup, block, method, number)
        except MarginError as error:
            raise type(error)(f"{names[number]}: {error}") from error

    _each(look, [(number, at) for number in range(len(names)) for at in range(len(firsts))], threads)
    return {name: sum(failures for _, failures in fitted[number * assets:(number + 1) * assets])
            for number, name in enumerate(names)}


def _each(work: Callable[[Item], Answer], items: list[Item], threads: int) -> list[Answer]:
    if threads == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


def _checked(setup: Setup, name: str, candidate: Candidate) -> Candidate:
    if isinstance(candidate, np.ndarray):
        try:
            stated = floats("deviations", candidate, ndim=None)
        except MarginError as error:
            raise type(error)(f"{name}: {error}") from error
        stated = stated[:, None] if stated.ndim == 1 else stated
        if stated.shape != setup.returns.shape or not (stated > 0.0).all():
            raise RangeError(f"{name}: deviations must be positive, of shape {setup.returns.shape}, had shape "
                             f"{stated.shape}")
        return stated
    if not isinstance(candidate, (VolatilityModel, Refit)):
        raise RangeError(f"{name}: a model must be a VolatilityModel, a Refit or an array, was {candidate!r}")
    if setup.realised_variance is None and _kind(candidate).observes != "returns":
        raise ShapeError(f"{name}: realised_variance must be given for a model that observes it, was None")
    return candidate


def _fits(setup: Setup, name: str, candidate: Candidate, asset: int) -> tuple[list[_Fit], int]:
    """The fits of one asset along its history, and how many found no optimum."""
    times, assets = setup.returns.shape
    found: list[_Fit] = []
    failures = [0]
    model: VolatilityModel | None = None
    for first in range(setup.window, times, setup.refit_every):
        begin, end = first - setup.window, min(first + setup.refit_every, times)
        mean, law = 0.0, None
        if isinstance(candidate, np.ndarray):
            sigma = candidate[begin:end, asset]
        else:
            try:
                model, observed = _model(setup, candidate, model, asset, begin, first, end, failures)
                # The last forecast is for a day beyond the block.
                sigma = np.sqrt(model.filter(observed)[:-1])
            except MarginError as error:
                place = "" if assets == 1 else f" of asset {asset}"
                raise type(error)(f"{name}: days {begin} to {first - 1}{place}: {error}") from error
            if model.observes == "returns":
                mean, law = model.recursion().mean, model.innovation
        if law is None:
            # Nothing stated the law of the returns: put to scale, with the tail of the window.
            scale, law = moment_law(setup.returns[begin:first, asset] / sigma[:setup.window])
            sigma = sigma * scale
        found.append(_Fit(mean, sigma, law))
    return found, failures[0]


def _block(setup: Setup, first: int, fits: list[_Fit]) -> Block:
    begin = first - setup.window
    mean, sigma = np.array([fit.mean for fit in fits]), np.stack([fit.sigma for fit in fits], axis=1)
    return Block(first, mean, sigma[setup.window:], (setup.returns[begin:begin + len(sigma)] - mean) / sigma,
                 tuple(fit.law for fit in fits))


def _kind(candidate: VolatilityModel | Refit) -> Any:
    return candidate.kind if isinstance(candidate, Refit) else type(candidate)


def _model(setup: Setup, candidate: VolatilityModel | Refit, before: VolatilityModel | None, asset: int, begin: int,
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
