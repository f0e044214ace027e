"""How a surface moves in a scenario: what the smile sticks to when spot moves, and shocks of level, term and skew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from margincore.errors import RangeError
from margincore.kernels.formula import powers
from margincore.surface import YEAR_NS, VolSurface, paired
from margincore.units import NS_PER_DAY, Floats, choice, integer, number, stamps

STICKY = ("strike", "moneyness", "delta")
TERM_DAYS = 30.0
NODES_MAX = 2_000  # a grid's spline solves a dense system


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceShock:
    """A move of spot and smile.

    The shocked volatility of strike K and expiry T is, with h = (30 / days to T)^power and
    x = ln(K / F') / sqrt(years),

        max(floor, min(ceiling, sigma (1 + relative h) + absolute h + skew h x)),

    where F' is the forward after the move of spot and sigma the volatility the smile had, before its shock, at what it
    sticks to.

    Parameters
    ----------
    spot : float
        Relative move of spot and of every forward, above -1.
    sticky : {"strike", "moneyness", "delta"}
        Sticky strike: sigma of the strike itself.  Sticky moneyness: of equal ln(K / F).  Sticky delta: of equal
        Black-76 delta (equal d1) before the shock and after it; the same as moneyness unless volatility moves as well.
    relative : float
        Parallel shock, a share of the volatility: 0.25 = a quarter more.
    absolute : float
        Parallel shock in volatility: 0.05 = five points.
    skew : float
        Volatility per unit of ln(K / F') / sqrt(years); negative lifts the puts.
    power, power_long : float
        Term structure: exponents of 30 / days below and beyond 30 days, 0 = the same for every expiry.  `power_long`
        is `power` when omitted.
    days_least : float
        Days to expiry count as at least this many, positive: a power of 0 days has no bound.
    floor, ceiling : float
        Bounds of the shocked volatility, positive.
    """

    spot: float = 0.0
    sticky: str = "moneyness"
    relative: float = 0.0
    absolute: float = 0.0
    skew: float = 0.0
    power: float = 0.0
    power_long: float | None = None
    days_least: float = 1.0
    floor: float = 1e-4
    ceiling: float = 50.0

    def __post_init__(self) -> None:
        number("spot", self.spot, above=-1.0)
        choice("sticky", self.sticky, STICKY)
        number("relative", self.relative, least=-1.0)
        number("absolute", self.absolute)
        number("skew", self.skew)
        number("power", self.power, least=0.0)
        if self.power_long is not None:
            number("power_long", self.power_long, least=0.0)
        number("days_least", self.days_least, above=0.0)
        number("floor", self.floor, above=0.0)
        number("ceiling", self.ceiling, least=self.floor)

    def term(self, days: Floats) -> Floats:
        """(30 / days)^power per number of days."""
        ratio = TERM_DAYS / np.maximum(np.ascontiguousarray(days), self.days_least)
        long = self.power if self.power_long is None else self.power_long
        out = np.empty(ratio.size)
        powers(ratio, np.where(ratio >= 1.0, self.power, long), out)
        return out

    def applied(self, sigma: Floats, term: Floats, x: Floats) -> Floats:
        """The shocked volatility; NaN stays NaN."""
        moved = sigma * (1.0 + self.relative * term) + self.absolute * term + self.skew * term * x
        result: Floats = np.where(np.isnan(moved), np.nan, np.fmax(self.floor, np.fmin(self.ceiling, moved)))
        return result


class ShockedSurface:
    """A surface seen through a shock; asked like a `VolSurface`, so that it can stand in a `MarketState`.

    A shock may create arbitrage (sticky strikes under a large move of spot, skews, floors): `sampled` makes a grid of
    it that `margincore.arbitrage` can check.

    Parameters
    ----------
    surface : VolSurface
    shock : SurfaceShock
    """

    __slots__ = ("shock", "surface", "time_ns")

    def __init__(self, surface: VolSurface, shock: SurfaceShock) -> None:
        if not isinstance(surface, VolSurface) or not isinstance(shock, SurfaceShock):
            raise RangeError(f"surface and shock must be a VolSurface and a SurfaceShock, were {surface!r}, {shock!r}")
        self.surface, self.shock, self.time_ns = surface, shock, surface.time_ns

    def __repr__(self) -> str:
        return f"ShockedSurface({self.surface!r}, {self.shock!r})"

    def forward(self, expiry_ns: Any) -> Any:
        """Forward per expiry after the move, quote currency."""
        return self.surface.forward(expiry_ns) * (1.0 + self.shock.spot)

    def vol(self, strike: Any, expiry_ns: Any) -> Any:
        """Annual volatility by strike and expiry after the shock; NaN as in `VolSurface.vol`."""
        k, when, shape = paired("strike", strike, expiry_ns)
        left = (when - self.time_ns).astype(np.float64)
        left[left <= 0.0] = np.nan
        term = self.shock.term(left / NS_PER_DAY)
        out = self._shocked(k, when, left / YEAR_NS, term)
        return float(out[0]) if shape == () else out.reshape(shape)

    def total_variance(self, strike: Any, expiry_ns: Any) -> Any:
        """Total variance by strike and expiry after the shock."""
        when = stamps("expiry_ns", expiry_ns)
        vol = self.vol(strike, when)
        return vol * vol * ((when - self.time_ns) / YEAR_NS)

    def _shocked(self, strike: Floats, when: Any, years: Floats, term: Floats) -> Floats:
        shock, root = self.shock, np.sqrt(years)
        seen = strike if shock.sticky == "strike" else strike / (1.0 + shock.spot)
        if self.surface.kind == "flat" and np.isnan(self.surface.forwards[0]):
            if shock.skew != 0.0:
                raise RangeError("skew must be 0 on a flat surface without a forward")
            return shock.applied(self.surface.vol(seen, when), term, np.zeros(strike.size))
        x = np.asarray(self.surface.log_moneyness(strike / (1.0 + shock.spot), when)) / root
        if shock.sticky != "delta":
            return shock.applied(self.surface.vol(seen, when), term, x)
        return self._same_delta(x * root, when, years, term, x)

    def _same_delta(self, k: Floats, when: Any, years: Floats, term: Floats, x: Floats) -> Floats:
        """Sigma where d1 before the shock equals d1 after it: bisection of the log-moneyness before."""
        root, shock = np.sqrt(years), self.shock

        def before(at: Floats) -> Floats:
            w = np.asarray(self.surface.variance(at, when))
            return np.sqrt(w / years)

        def excess(at: Floats) -> Floats:
            sigma = before(at)
            after = shock.applied(sigma, term, x)
            return (at / (sigma * root) - 0.5 * sigma * root) - (k / (after * root) - 0.5 * after * root)

        reach = 1.0 + 2.0 * np.abs(k)
        low, high = k - reach, k + reach
        for _ in range(40):
            low, high = np.where(excess(low) > 0.0, low - reach, low), np.where(excess(high) < 0.0, high + reach, high)
            if not ((excess(low) > 0.0) | (excess(high) < 0.0)).any():
                break
        for _ in range(70):
            middle = 0.5 * (low + high)
            above = excess(middle) > 0.0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        found = 0.5 * (low + high)
        met = np.abs(excess(found)) < 1e-6 * (1.0 + np.abs(x))
        return np.where(met, shock.applied(before(found), term, x), np.nan)

    def sampled(self, nodes: int = 41, width: float = 4.0) -> VolSurface:
        """A grid of this surface on its expiries, `nodes` strikes within `width` standard deviations of the forward."""
        base = self.surface
        nodes, width = integer("nodes", nodes, least=3, most=NODES_MAX), number("width", width, above=0.0)
        knots, variances = np.empty((base.expiry_ns.size, nodes)), np.empty((base.expiry_ns.size, nodes))
        for i, expiry in enumerate(base.expiry_ns.tolist()):
            forward = float(self.forward(expiry))
            if not forward > 0.0:
                raise RangeError("surface must know its forwards to be sampled")
            level = float(self.total_variance(forward, expiry))
            knots[i] = np.linspace(-width, width, nodes) * np.sqrt(level)
            variances[i] = self.total_variance(forward * np.exp(knots[i]), expiry)
        return VolSurface.from_nodes(knots, variances, base.expiry_ns, time_ns=base.time_ns,
                                     forward=base.forwards * (1.0 + self.shock.spot), discount=base.discounts,
                                     spot=base.spot * (1.0 + self.shock.spot), version=base.version)
