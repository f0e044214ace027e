"""Monte Carlo: joint log returns from a law and a source of random numbers, and scenarios of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError, ShapeError
from margincore.kernels import formula, scenario
from margincore.kernels import simulate as kernel
from margincore.laws import CopulaLaw, FactorLaw, Law, NormalLaw, Root, StudentLaw
from margincore.scenarios import Scenarios, Shock, from_moves
from margincore.units import Floats, floats, integer

SOBOL_BITS = 30  # of SciPy's points; half a step up they are never 0
THREAD_ROWS = 4_096  # least rows that are worth a thread


@dataclass(frozen=True, slots=True)
class Philox:
    """Counter-based generator: row i of a stream depends on (seed, stream, i) alone [1]_.

    The same numbers on every processor, for any number of threads and any split into calls.

    Parameters
    ----------
    seed : int
        In [0, 2^64).
    stream : int
        In [0, 2^32); streams of one seed are independent.

    References
    ----------
    .. [1] Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011: Philox 4x32 with
       seven rounds, the fewest that pass BigCrush.
    """

    seed: int = 0
    stream: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", integer("seed", self.seed, least=0, most=2**64 - 1))
        object.__setattr__(self, "stream", integer("stream", self.stream, least=0, most=2**32 - 1))


@dataclass(frozen=True, slots=True)
class Sobol:
    """Quasi-random points of `scipy.stats.qmc.Sobol`; the number of scenarios must be a power of two.

    Parameters
    ----------
    seed : int
        Of the scrambling (Owen), at least 0.
    scramble : bool
    """

    seed: int = 0
    scramble: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", integer("seed", self.seed, least=0))


Source: TypeAlias = Philox | Sobol | np.random.Generator


def simulate(law: Law, count: int, *, source: Source | None = None, antithetic: bool = False, first: int = 0,
             threads: int = 1) -> Floats:
    """Joint log returns drawn from a law.

    Parameters
    ----------
    law : NormalLaw, StudentLaw, FactorLaw or CopulaLaw
    count : int
        Number of scenarios, at least 1; a power of two for `Sobol`.
    source : Philox, Sobol or numpy.random.Generator, optional
        ``Philox()`` when omitted.  Of a NumPy generator are taken ``random((rows, drivers))``, drivers rounded up to
        even, for pairs of normals, and then, for Student-t, ``standard_gamma(degrees / 2, rows)``.
    antithetic : bool
        Scenarios in pairs, the second mirrored at the mean (for copulas: probabilities p and 1 - p).  Not for Sobol.
    first : int
        Number of the first scenario: ``simulate(law, 5, first=3)`` is rows 3 to 7 of ``simulate(law, 8)``.  Not with a
        NumPy generator, whose state says where it is.
    threads : int
        The numbers do not depend on it.

    Returns
    -------
    float64 array, shape (count, underlyings)
        The same bits on every processor from `Philox` for normal, Student-t and factor laws; SciPy's Student-t
        distribution and a marginal's own quantiles are as good as their library.

    Raises
    ------
    MarginError
        If the law or an argument breaks its rule; the message names it.

    Examples
    --------
    >>> law = StudentLaw([[0.0009, 0.0006], [0.0006, 0.0016]], degrees=4.0)
    >>> returns = simulate(law, 100_000, source=Philox(seed=7))
    >>> returns.shape, bool(abs(returns.std(axis=0)[1] / 0.04 - 1.0) < 0.02)
    ((100000, 2), True)
    """
    if not isinstance(law, (NormalLaw, StudentLaw, FactorLaw, CopulaLaw)):
        raise RangeError(f"law must be NormalLaw, StudentLaw, FactorLaw or CopulaLaw, was {law!r}")
    count, first = integer("count", count, least=1), integer("first", first, least=0)
    threads = integer("threads", threads, least=1)
    source = Philox() if source is None else source
    root = law.root()
    out = np.empty((count, len(root.mean)))
    if isinstance(source, Philox):
        _counted(root, source, antithetic, first, threads, out)
    elif isinstance(source, Sobol):
        if antithetic:
            raise RangeError("antithetic must be False for Sobol points, which are balanced already")
        _transform(root, *_sobol(root, source, first, count), False, False, threads, out)
    elif isinstance(source, np.random.Generator):
        if first:
            raise RangeError(f"first must be 0 with a NumPy generator, was {first}")
        rows = (count + 1) // 2 if antithetic else count
        uniform = source.random((rows, root.drivers + root.drivers % 2))
        gamma = source.standard_gamma(root.shape, rows) if root.shape else None
        _transform(root, uniform, gamma, True, antithetic, threads, out)
    else:
        raise RangeError(f"source must be Philox, Sobol or numpy.random.Generator, was {source!r}")
    return law.quantiles(out) if isinstance(law, CopulaLaw) else out


def from_returns(returns: npt.ArrayLike, underlyings: Sequence[str], *, names: Sequence[str] | None = None,
                 volatility: Sequence[Shock] = (), smile: str = "sticky_strike") -> Scenarios:
    """Scenarios of joint log returns: underlying u moves by ``exp(return) - 1``.

    Parameters
    ----------
    returns : float64 array, shape (scenarios, underlyings)
    underlyings : sequence of str
        Of the columns.
    names : sequence of str, optional
        Of the scenarios; "path 1", "path 2" ... when omitted.
    volatility : sequence of VolatilityShock, str or float, optional
        One per scenario; nothing when omitted.
    smile : {"sticky_strike", "sticky_moneyness"}
        As in `Scenarios`.

    Examples
    --------
    >>> found = from_returns([[0.1, 0.0], [-0.1, 0.2]], ["BTC", "ETH"])
    >>> found.names, round(found.spot_move["BTC"][0], 6)
    (('path 1', 'path 2'), 0.105171)
    """
    table = floats("returns", returns, ndim=2)
    columns = list(underlyings) if not isinstance(underlyings, str) else [underlyings]
    if len(columns) != table.shape[1] or len(set(columns)) != len(columns):
        raise ShapeError(f"underlyings must be {table.shape[1]} different names like the columns, were {underlyings!r}")
    if names is not None and len(names) != len(table):
        raise ShapeError(f"names must have one name per scenario ({len(table)}), had {len(names)}")
    move = np.empty(table.size)
    scenario.sigma_moves(table.reshape(-1), 1.0, 1.0, move)
    moves = move.reshape(table.shape)
    spot_move: Any = {name: np.ascontiguousarray(moves[:, at]) for at, name in enumerate(columns)}
    return from_moves([f"path {at}" for at in range(1, len(table) + 1)] if names is None else names,
                      spot_move, volatility=volatility, smile=smile)


def monte_carlo(law: Law, underlyings: Sequence[str], count: int, *, source: Source | None = None,
                antithetic: bool = False, threads: int = 1, smile: str = "sticky_strike") -> Scenarios:
    """Scenarios drawn from a law of joint log returns; arguments as `simulate` and `from_returns`.

    Examples
    --------
    >>> law = NormalLaw([[0.0009, 0.0006], [0.0006, 0.0016]])
    >>> len(monte_carlo(law, ["BTC", "ETH"], 1_000, antithetic=True))
    1000
    """
    return from_returns(simulate(law, count, source=source, antithetic=antithetic, threads=threads), underlyings,
                        smile=smile)


def _split(count: int, threads: int) -> list[tuple[int, int]]:
    """Even ranges of rows, so that antithetic pairs stay together."""
    parts = min(threads, max(count // THREAD_ROWS, 1))
    edges = [count * part // parts // 2 * 2 for part in range(parts)] + [count]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _over_threads(work: Callable[[int, int], None], count: int, threads: int) -> None:
    parts = _split(count, threads)
    if len(parts) == 1:
        work(0, count)
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(work, start, stop) for start, stop in parts]:
            done.result()


def _counted(root: Root, source: Philox, antithetic: bool, first: int, threads: int, out: Floats) -> None:
    if first + len(out) > 2**63:
        raise RangeError(f"first must leave room below 2^63, was {first}")

    def work(start: int, stop: int) -> None:
        kernel.simulate(source.seed, source.stream, first + start, root.drivers, root.start, root.column, root.value,
                        root.mean, root.shape, root.numerator, antithetic, out[start:stop])

    _over_threads(work, len(out), threads)


def _transform(root: Root, given: Floats, gamma: Floats | None, uniform: bool, antithetic: bool, threads: int,
               out: Floats) -> None:
    def work(start: int, stop: int) -> None:
        rows = slice(start // 2, (stop + 1) // 2) if antithetic else slice(start, stop)
        kernel.transform(given[rows], None if gamma is None else gamma[rows], root.drivers, root.start, root.column,
                         root.value, root.mean, root.numerator, uniform, antithetic, out[start:stop])

    _over_threads(work, len(out), threads)


def _sobol(root: Root, source: Sobol, first: int, count: int) -> tuple[Floats, Floats | None]:
    """Standard normals and gammas of quasi-random points; the gamma takes the first and best dimension."""
    from scipy.special import gammaincinv
    from scipy.stats import qmc

    if count & (count - 1) or first % count:
        raise RangeError(f"count must be a power of two, and first a multiple of it, for Sobol points, were {count} "
                         f"and {first}")
    widest = int(qmc.Sobol.MAXDIM)
    dimensions = root.drivers + (1 if root.shape else 0)
    if dimensions > widest:
        raise RangeError(f"source must have at most {widest} dimensions, needed {dimensions}")
    points = qmc.Sobol(dimensions, scramble=source.scramble, bits=SOBOL_BITS, seed=source.seed)
    if first:
        points.fast_forward(first)
    uniform = points.random(count) + 0.5**(SOBOL_BITS + 1)
    gamma = gammaincinv(root.shape, uniform[:, 0]) if root.shape else None
    flat = np.ascontiguousarray(uniform[:, -root.drivers:]).reshape(-1)
    normal = np.empty_like(flat)
    formula.normal_quantiles(flat, normal)
    return normal.reshape(count, root.drivers), gamma
