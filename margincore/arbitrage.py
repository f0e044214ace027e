"""Static arbitrage in a volatility surface: where it is, how large, and the nearest surface without it.

Four checks: butterfly (Durrleman's g below 0: a negative density), calendar (total variance that falls with expiry at
equal log-moneyness), Lee (a wing steeper than 2) and bounds (no positive total variance, hence no price inside its
bounds).  SVI slices are judged by the certificates of `margincore.kernels.arbitrage`, at every strike; a grid on points
between its nodes and in its wings.  Between, before and after the expiries of a clean surface nothing can arise: see
`margincore.surface`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from margincore.errors import NotConvergedError, RangeError
from margincore.kernels.arbitrage import butterflies, calendars
from margincore.kernels.calibrate import fit
from margincore.surface import YEAR_NS, VolSurface
from margincore.units import Floats

# Crossings shallower than this share of total variance are rounding of the parameters.
TOUCH = 1e-10


@dataclass(frozen=True, slots=True)
class Arbitrage:
    """One violation at its worst point.

    `kind` is "butterfly" (`size`: -g), "calendar" (`size`: fall of total variance from the expiry before, as a share of
    it), "lee" (`size`: slope beyond 2) or "bounds" (`size`: total variance below 0); `log_moneyness` and `strike`
    (NaN without a forward) tell where.
    """

    kind: str
    expiry_ns: int
    log_moneyness: float
    strike: float
    size: float


@dataclass(frozen=True, slots=True)
class ArbitrageReport:
    """What `check_arbitrage` found, worst point per kind and expiry; least g and least calendar gap of each expiry.

    `least_g` has one entry per expiry, `least_gap` one per expiry after the first: the least of
    ``w(k, expiry) / w(k, expiry before) - 1``.
    """

    findings: tuple[Arbitrage, ...]
    least_g: tuple[float, ...]
    least_gap: tuple[float, ...]

    @property
    def clean(self) -> bool:
        """No arbitrage found."""
        return not self.findings

    def __str__(self) -> str:
        if self.clean:
            return f"no arbitrage: least g {min(self.least_g):.4g}"
        return "\n".join(f"{f.kind:<10}expiry_ns {f.expiry_ns}  k {f.log_moneyness:+.4f}  strike {f.strike:,.2f}  "
                         f"size {f.size:.3g}" for f in self.findings)


def check_arbitrage(surface: VolSurface) -> ArbitrageReport:
    """Butterfly, calendar, Lee and bounds of a surface.

    Parameters
    ----------
    surface : VolSurface
        A shocked one is first made a grid by its `sampled`.

    Returns
    -------
    ArbitrageReport
        `clean` is True when nothing was found.
    """
    count = _surface(surface).expiry_ns.size
    proved = _certificates(surface)
    points = [_points(surface, i) for i in range(count)]
    terms = [surface.terms(i, points[i]) for i in range(count)]
    findings: list[Arbitrage] = []

    def found(kind: str, i: int, k: float, size: float) -> None:
        with np.errstate(over="ignore"):
            strike = float(surface.forwards[i] * np.exp(k))
        # What a certificate refuses between or beyond the points has no size at them.
        findings.append(Arbitrage(kind, int(surface.expiry_ns[i]), float(k), strike, max(float(size), 0.0)))

    least_g: list[float] = []
    gaps: list[float] = []
    for i in range(count):
        k, (w, _, _, g) = points[i], terms[i]
        if not (w > 0.0).all():
            at = int(w.argmin())
            found("bounds", i, k[at], -w[at])
        at = int(np.nanargmin(np.where(w > 0.0, g, np.inf)))
        k_least, g_least = _zoom(surface, i, k, at)
        least_g.append(g_least)
        left, right = _wing_slopes(surface, i)
        steep = max(left, right) - 2.0
        if steep > 0.0:
            outer = k if surface.knots is None else surface.knots[i]
            found("lee", i, outer[-1] if right > left else outer[0], steep)
        if g_least < 0.0 or not proved[0][i] and steep <= 0.0 and (w > 0.0).all():
            found("butterfly", i, k_least, -g_least)
        if i:
            both = np.concatenate([points[i - 1], k])
            before, after = surface.terms(i - 1, both)[0], surface.terms(i, both)[0]
            with np.errstate(divide="ignore", invalid="ignore"):
                gap = np.where(before > 0.0, after / before - 1.0, np.inf)
            at = int(gap.argmin())
            gaps.append(float(gap[at]))
            if gap[at] < -TOUCH or not proved[1][i - 1]:
                found("calendar", i, both[at], -gap[at])
    return ArbitrageReport(tuple(findings), tuple(least_g), tuple(gaps))


def repair_arbitrage(surface: VolSurface) -> VolSurface:
    """The surface itself when it is clean, else a clean SVI surface fitted to it.

    Each slice is sampled within five standard deviations of the forward, where its total variance is positive, one
    percent of it, at least of that at the forward, counting as a half spread, and calibrated under the certificates.

    Raises
    ------
    NotConvergedError
        If the first expiry admits no clean slice.
    """
    if check_arbitrage(_surface(surface)).clean:
        return surface
    count = surface.expiry_ns.size
    years = (surface.expiry_ns - surface.time_ns) / YEAR_NS
    points: list[Floats] = []
    halves: list[Floats] = []
    for i in range(count):
        level = max(float(surface.terms(i, np.zeros(1))[0, 0]), 1e-8)
        k = np.sqrt(level) * np.linspace(-5.0, 5.0, 61)
        w = surface.terms(i, k)[0]
        k, w = (k[w > 0.0], w[w > 0.0]) if (w > 0.0).any() else (np.zeros(1), np.array([level]))
        points.append(np.array([k, w]))
        halves.append(0.01 * np.maximum(w, level))
    (k, w), half, sizes = np.hstack(points), np.concatenate(halves), np.array([h.size for h in halves])
    rows, status = np.zeros((count, 5)), np.zeros(count, np.int32)
    fit(np.ascontiguousarray(k), w - half, w + half, 1.0 / half, np.concatenate([[0], np.cumsum(sizes)]), sizes, years,
        rows, status, False, 4, 80)
    if (status < 0).any():
        raise NotConvergedError(f"expiry {int(surface.expiry_ns[status.argmin()])} admits no slice free of arbitrage")
    return VolSurface("svi", rows, None, surface.expiry_ns, time_ns=surface.time_ns, forward=surface.forwards,
                      discount=surface.discounts, spot=surface.spot, version=surface.version + 1)


def _surface(surface: VolSurface) -> VolSurface:
    if not isinstance(surface, VolSurface):
        raise RangeError(f"surface must be a VolSurface, was {surface!r:.60}")
    return surface


def _certificates(surface: VolSurface) -> tuple[list[bool], list[bool]]:
    """(no butterfly per expiry, no crossing per pair), True throughout for a grid, which is judged by its points."""
    count = surface.expiry_ns.size
    single, pair = np.ones(count, np.uint8), np.ones(max(count - 1, 0), np.uint8)
    if surface.knots is None:
        butterflies(surface.rows, single)
        if count > 1:
            theta = min(float(surface.terms(i, np.zeros(1))[0, 0]) for i in range(count))
            calendars(np.ascontiguousarray(surface.rows[:-1]), np.ascontiguousarray(surface.rows[1:]),
                      TOUCH * max(theta, 0.0), pair)
    return [bool(v) for v in single], [bool(v) for v in pair]


def _points(surface: VolSurface, i: int) -> Floats:
    """Points over the scale of an SVI slice, or between and beyond the nodes of a grid."""
    if surface.knots is None:
        m, sigma = surface.rows[i, 3:]
        result: Floats = np.asarray(m + sigma * np.sinh(np.linspace(-13.0, 13.0, 521)))
        return result
    knots = surface.knots[i]
    inner = (knots[:-1, None] + np.diff(knots)[:, None] * np.linspace(0.0, 1.0, 12, endpoint=False)).ravel()
    reach = np.geomspace(1e-3, 8.0, 40) * max(float(np.ptp(knots)), 0.1)
    return np.unique(np.concatenate([knots[0] - reach, inner, knots, knots[-1] + reach]))


def _zoom(surface: VolSurface, i: int, k: Floats, at: int) -> tuple[float, float]:
    """The least g around a point of the scan: three finer scans."""
    low, high = k[max(at - 1, 0)], k[min(at + 1, k.size - 1)]
    best_k, best = float(k[at]), float(surface.terms(i, k[at:at + 1])[3, 0])
    for _ in range(3):
        fine = np.linspace(low, high, 41)
        w, _, _, g = surface.terms(i, fine)
        g = np.where(w > 0.0, g, np.inf)
        j = int(np.argmin(g))
        if g[j] < best:
            best_k, best = float(fine[j]), float(g[j])
        low, high = fine[max(j - 1, 0)], fine[min(j + 1, 40)]
    return best_k, best


def _wing_slopes(surface: VolSurface, i: int) -> tuple[float, float]:
    """How steep total variance rises outwards; of a grid at its outer nodes, before the slope is bent back to 2."""
    if surface.knots is None:
        _, b, rho, _, _ = surface.rows[i].tolist()
        return b * (1.0 - rho), b * (1.0 + rho)
    left, right = surface.terms(i, surface.knots[i, [0, -1]])[1].tolist()
    return -left, right
