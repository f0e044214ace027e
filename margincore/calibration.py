"""Calibration of a VolSurface to quotes: SVI per expiry, free of static arbitrage by projection.

The kernel fits each expiry to bid and ask (a quote's residual is its distance from the middle in half spreads, with a
bounded loss, so that a wild quote cannot pull), with penalties against butterflies and against crossing the
neighbouring expiries.  From the first expiry to the last a slice is then admitted only with two certificates that hold
at every strike (`margincore.kernels.arbitrage`); what fails is refitted stiffer, drawn towards an SSVI slice, and at
last replaced by the slice before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import NotConvergedError, RangeError
from margincore.kernels.calibrate import fit
from margincore.option_chain import Chain
from margincore.quotes import Quotes, chain_quotes
from margincore.surface import YEAR_NS, VolSurface
from margincore.units import Floats, Ints, integer

METHODS = ("fitted", "refitted", "drawn to SSVI", "lifted from before")
THIN = 6
COOL = 0.02


@dataclass(frozen=True, slots=True)
class SliceFit:
    """Quality of one expiry's fit.

    `two_sided` quotes, of which `inside` are priced between bid and ask (`share`); root mean square distance from the
    middle in half spreads (`error_spreads`, capped at 10 per quote) and in volatility (`error_vol`, 0.01 = one point,
    weighted by 1 / spread); `thin` where the shape came from a neighbour; `method` tells what the projection did.
    """

    expiry_ns: int
    quotes: int
    two_sided: int
    inside: int
    share: float
    error_spreads: float
    error_vol: float
    thin: bool
    method: str
    forward_source: str


def calibrate(chain: Chain | Quotes, *, previous: VolSurface | None = None, sweeps: int | None = None,
              rounds: int | None = None, **filters: Any) -> VolSurface:
    """Arbitrage-free SVI surface of a chain.

    Parameters
    ----------
    chain : Chain or Quotes
    previous : VolSurface, optional
        Warm start: the last surface of the same underlying.  The result carries its version plus one.  Where the
        market has moved so far that fewer quotes than before (by `COOL` of them) are met, the fit starts cold again.
    sweeps, rounds : int, optional
        Passes over the expiries (3 cold, 2 warm) and iterations per pass and expiry (60 cold, 25 warm).
    **filters
        Passed to `margincore.quotes.chain_quotes` when a chain is given.

    Returns
    -------
    VolSurface
        With `fit`, one `SliceFit` per expiry.

    Raises
    ------
    MissingDataError
        If no quote can be used.
    NotConvergedError
        If the first expiry admits no clean slice.
    """
    if not isinstance(chain, (Chain, Quotes)) or (filters and isinstance(chain, Quotes)):
        raise RangeError(f"chain must be a Chain, or Quotes without filters, was {chain!r:.60}")
    if previous is not None and not isinstance(previous, VolSurface):
        raise RangeError(f"previous must be a VolSurface, was {previous!r:.60}")
    quotes = chain if isinstance(chain, Quotes) else chain_quotes(chain, **filters)
    start = None if previous is None else _start(previous, quotes)
    rows, status = _fit(quotes, start, sweeps, rounds)
    quality = fit_quality(rows, quotes, status)
    if start is not None and previous is not None and _share(quality) < _share(previous.fit) - COOL:
        rows, status = _fit(quotes, None, sweeps, rounds)
        quality = fit_quality(rows, quotes, status)
    market = quotes.chain
    return VolSurface("svi", rows, None, quotes.expiry_ns, time_ns=market.time_ns,
                      forward=np.array([c.forward for c in quotes.carry]),
                      discount=np.array([c.discount for c in quotes.carry]), spot=market.spot,
                      version=0 if previous is None else previous.version + 1, fit=quality)


def _fit(quotes: Quotes, start: Floats | None, sweeps: int | None, rounds: int | None) -> tuple[Floats, Any]:
    warm = start is not None
    rows = np.zeros((quotes.years.size, 5)) if start is None else start
    status = np.zeros(quotes.years.size, np.int32)
    fit(quotes.log_moneyness, quotes.low, quotes.high, quotes.weight, quotes.start, quotes.distinct, quotes.years, rows,
        status, warm, integer("sweeps", (2 if warm else 3) if sweeps is None else sweeps, least=1),
        integer("rounds", (25 if warm else 60) if rounds is None else rounds, least=2))
    if (status < 0).any() or not np.isfinite(rows).all():
        raise NotConvergedError(f"expiry {int(quotes.expiry_ns[status.argmin()])} admits no slice free of arbitrage")
    return rows, status


def _share(quality: tuple[Any, ...]) -> float:
    """Share of all two-sided quotes inside; 0 without a fit."""
    told = [f if isinstance(f, SliceFit) else SliceFit(**f) for f in quality]
    return sum(f.inside for f in told) / max(sum(f.two_sided for f in told), 1)


def _start(previous: VolSurface, quotes: Quotes) -> Floats | None:
    """Rows of the last surface at these expiries; a new expiry takes the smile of the nearest, in k / sqrt(years)."""
    if previous.kind != "svi" or previous.time_ns >= quotes.expiry_ns[0]:
        return None
    years = (previous.expiry_ns - previous.time_ns) / YEAR_NS
    nearest = np.minimum(np.searchsorted(previous.expiry_ns, quotes.expiry_ns), previous.expiry_ns.size - 1)
    new = previous.expiry_ns[nearest] != quotes.expiry_ns
    if new.any():
        nearest[new] = np.abs(np.log(quotes.years[new, None] / years[None, :])).argmin(axis=1)
    ratio = quotes.years / years[nearest]
    rows = previous.rows[nearest].copy()
    if not ((rows[:, 1] > 0.0) & (ratio > 0.0)).all():
        return None
    rows[:, 0] *= ratio
    rows[:, 1] *= np.sqrt(ratio)
    rows[:, 3:] *= np.sqrt(ratio)[:, None]
    return rows


def fit_quality(rows: Floats, quotes: Quotes, status: Ints | Any | None = None) -> tuple[SliceFit, ...]:
    """Quality per expiry of raw SVI rows, shape (expiries, 5), against quotes."""
    counts = np.diff(quotes.start)
    slices = np.repeat(np.arange(counts.size), counts)
    a, b, rho, m, sigma = rows.T[:, slices]
    x = quotes.log_moneyness - m
    w = a + b * (rho * x + np.sqrt(x * x + sigma * sigma))
    years = quotes.years[slices]
    slack = 1e-12 * quotes.high
    both = quotes.low > 0.0
    half = 0.5 * (quotes.high - quotes.low)
    off = np.minimum(np.abs(w - quotes.high + half) / np.maximum(half, slack), 10.0)
    miss = np.sqrt(w / years) - 0.5 * (np.sqrt(quotes.low / years) + np.sqrt(quotes.high / years))
    table = np.empty((6, w.size))
    table[0] = quotes.reason[quotes.row] < 2
    table[1] = (table[0] > 0.0) & (w >= quotes.low - slack) & (w <= quotes.high + slack)
    table[2] = both
    table[3] = np.where(both, off * off, 0.0)
    table[4] = np.where(both, miss * miss * quotes.weight, 0.0)
    table[5] = np.where(both, quotes.weight, 0.0)
    sums = np.add.reduceat(table, quotes.start[:-1], axis=1).T.tolist()
    result = []
    for i, expiry in enumerate(quotes.expiry_ns.tolist()):
        n, within, told, spreads, vols, weight = sums[i]
        result.append(SliceFit(expiry, int(counts[i]), int(n), int(within), within / n if n else float("nan"),
                               (spreads / told) ** 0.5 if told else float("nan"),
                               (vols / weight) ** 0.5 if told else float("nan"), bool(quotes.distinct[i] < THIN),
                               METHODS[0 if status is None else int(status[i])], quotes.carry[i].source))
    return tuple(result)
