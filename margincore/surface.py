"""VolSurface: an immutable volatility surface of one underlying at one time, asked by strike and expiry.

Slices are raw SVI (flat, SSVI and eSSVI are special cases) or a grid of volatilities.  Evaluation is in the kernel:

- *On an expiry*: the slice.
- *Between expiries*: option prices at equal log-moneyness are averaged with the weight
  (sqrt(theta_2) - sqrt(theta)) / (sqrt(theta_2) - sqrt(theta_1)), theta = at-the-money total variance, linear in time
  (Gatheral-Jacquier 2014, lemma 5.1): an average of convex functions is convex, so butterfly stays clean, and the
  weight falls with time, so calendar stays clean.  Total variance linear in time keeps calendar alone: the tests hold
  clean slices between which its density is negative.  It stands in, being faster, for a pair of slices where
  Bernstein coefficients show g of at least 0.002 all along the line.
- *Before the first expiry*: constant volatility at equal log-moneyness (clean whenever the first slice is).
- *After the last*: total variance grows at every strike by the at-the-money variance rate of the last slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from margincore.errors import MissingDataError, RangeError, ShapeError
from margincore.kernels.surface import Slices
from margincore.surface_plot import plot_surface
from margincore.svi import RawSvi, rows_of, ssvi_rows
from margincore.units import NS_PER_DAY, Floats, Ints, filename, floats, instant, integer, number, several, stamps, told

YEAR_NS: Final = 365 * NS_PER_DAY
FORMAT: Final = "margincore.surface/1"
FIELDS: Final = ("kind", "time_ns", "spot", "version", "expiry_ns", "forward", "discount", "rows", "knots", "fit")


class VolSurface:
    """Volatilities of one underlying at one time; build it with `flat`, `svi`, `ssvi`, `grid` or a calibration.

    Attributes
    ----------
    time_ns : int
        When it was observed, nanoseconds since 1970 UTC.
    kind : str
        ``"flat"``, ``"svi"`` or ``"grid"``.
    spot : float
        NaN when unknown.
    expiry_ns : int64 array, shape (expiries,)
        Rising.
    forwards, discounts : float64 array, shape (expiries,)
        NaN when unknown.
    rows : float64 array, shape (expiries, 5) or (expiries, 2 nodes)
        Raw SVI parameters (a, b, rho, m, sigma), or total variances and their second derivatives at `knots`.
    knots : float64 array, shape (expiries, nodes), or None
        Log-moneyness of a grid's nodes.
    version : int
        Counts re-fits of one underlying: a calibration that starts from a surface adds one.
    fit : tuple
        Quality per expiry where the surface came from quotes (see `margincore.calibration`), else empty.
    """

    __slots__ = ("_slices", "discounts", "expiry_ns", "fit", "forwards", "kind", "knots", "rows", "spot", "time_ns",
                 "version")

    time_ns: int
    kind: str
    spot: float
    expiry_ns: Ints
    forwards: Floats
    discounts: Floats
    rows: Floats
    knots: Floats | None
    version: int
    fit: tuple[Any, ...]
    _slices: Slices

    def __init__(self, kind: str, rows: Floats, knots: Floats | None, expiry_ns: Any, *, time_ns: int,
                 forward: Any = None, discount: Any = None, spot: float | None = None, version: int = 0,
                 fit: tuple[Any, ...] = ()) -> None:
        expiries = np.atleast_1d(stamps("expiry_ns", expiry_ns))
        start = instant("time_ns", time_ns)
        count = rows.shape[0]
        if expiries.shape != (count,):
            raise ShapeError(f"expiry_ns must have one entry per slice ({count}), had shape {expiries.shape}")
        if not (np.diff(expiries) > 0).all():
            raise RangeError("expiry_ns must rise without duplicates")
        if expiries[0] <= start:
            raise RangeError(f"expiry_ns must be after time_ns = {start}, was {int(expiries[0])}")
        arrays = {"rows": np.ascontiguousarray(rows), "expiry_ns": np.ascontiguousarray(expiries),
                  "forwards": _per_slice("forward", forward, count),
                  "discounts": _per_slice("discount", discount, count)}
        if knots is not None:
            _check_nodes(knots, rows[:, :knots.shape[1]])
            arrays["knots"] = np.ascontiguousarray(knots)
        else:
            object.__setattr__(self, "knots", None)
        for name, array in arrays.items():
            array = array.copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        known = number("spot", spot, above=0.0) if told(spot) else float("nan")
        for name, value in (("kind", kind), ("time_ns", start), ("spot", known), ("fit", tuple(fit)),
                            ("version", integer("version", version, least=0))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_slices", Slices(self.rows, self.knots, self.expiry_ns, self.forwards, start, known))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a VolSurface is immutable: {name} cannot be set")

    def __reduce__(self) -> tuple[Any, ...]:
        return VolSurface.from_dict, (self.to_dict(),)

    # ---- builders ---------------------------------------------------------------------------------------------

    @classmethod
    def flat(cls, volatility: float, *, time_ns: int = 0, forward: float | None = None,
             spot: float | None = None) -> VolSurface:
        """One annual volatility (0.6 = 60 percent) for every strike and expiry after `time_ns`."""
        volatility = number("volatility", volatility, above=0.0)
        row = np.array([[volatility * volatility, 0.0, 0.0, 0.0, 1.0]])
        start = instant("time_ns", time_ns)
        return cls("flat", row, None, start + YEAR_NS, time_ns=start, forward=forward, spot=spot)

    @classmethod
    def svi(cls, slices: Any, expiry_ns: Any, *, time_ns: int, forward: Any, discount: Any = None,
            spot: float | None = None) -> VolSurface:
        """Slices of `margincore.svi` (raw, natural or jump-wings), one per expiry, or raw rows, shape (expiries, 5).

        Parameters that admit arbitrage are accepted, so that they can be checked: see `arbitrage`.
        """
        return cls("svi", rows_of(slices), None, expiry_ns, time_ns=time_ns, forward=forward, discount=discount,
                   spot=spot)

    @classmethod
    def ssvi(cls, theta: Any, expiry_ns: Any, *, rho: Any, eta: Any, gamma: float = 0.5, time_ns: int,
             forward: Any, discount: Any = None, spot: float | None = None) -> VolSurface:
        """SSVI with the power law of `margincore.svi.ssvi_rows`; `theta` at-the-money total variances per expiry.

        With `rho` or `eta` per expiry it is eSSVI.
        """
        return cls.svi(ssvi_rows(theta, rho, eta, gamma), expiry_ns, time_ns=time_ns, forward=forward,
                       discount=discount, spot=spot)

    @classmethod
    def grid(cls, strikes: Any, expiry_ns: Any, volatilities: Any, *, time_ns: int, forward: Any, discount: Any = None,
             spot: float | None = None) -> VolSurface:
        """A non-parametric grid: annual volatilities of shape (expiries, strikes) at rising strikes.

        Total variance is a natural cubic spline in log-moneyness, straight beyond the outer strikes with a slope
        between 0 and Lee's bound 2.
        """
        strikes = floats("strikes", strikes)
        if strikes[0] <= 0.0 or not (np.diff(strikes) > 0.0).all():
            raise RangeError("strikes must be positive and rise without duplicates")
        expiries = np.atleast_1d(stamps("expiry_ns", expiry_ns))
        vols = floats("volatilities", volatilities, ndim=2, length=expiries.size)
        if vols.shape[1] != strikes.size:
            raise ShapeError(f"volatilities must have one column per strike ({strikes.size}), had {vols.shape[1]}")
        if not (vols > 0.0).all():
            raise RangeError(f"volatilities must be above 0, was {float(vols.min())!r}")
        forwards = _per_slice("forward", forward, expiries.size)
        if not (forwards > 0.0).all():
            raise RangeError("forward must be given for a grid of strikes")
        knots = np.empty(vols.shape)
        for i in range(expiries.size):
            _LOGS.moneyness(strikes, np.full(strikes.size, forwards[i]), knots[i])
        years = (expiries - instant("time_ns", time_ns)) / YEAR_NS
        return cls.from_nodes(knots, vols * vols * years[:, None], expiries, time_ns=time_ns, forward=forwards,
                              discount=discount, spot=spot)

    @classmethod
    def from_nodes(cls, knots: Floats, variances: Floats, expiry_ns: Any, **market: Any) -> VolSurface:
        """A grid from total variances (above 0) at nodes of log-moneyness (rising), both of shape (expiries, nodes)."""
        knots, variances = floats("knots", knots, ndim=2), floats("variances", variances, ndim=2)
        _check_nodes(knots, variances)
        curved = np.array([_natural_spline(k, w) for k, w in zip(knots, variances, strict=True)])
        return cls("grid", np.hstack([variances, curved]), knots, expiry_ns, **market)

    # ---- questions ----------------------------------------------------------------------------------------------

    def forward(self, expiry_ns: Any) -> Any:
        """Forward price per expiry, quote currency; NaN where unknown or not after `time_ns`.

        Log-linear in time between expiries and from the spot, when known, to the first.
        """
        when = stamps("expiry_ns", expiry_ns)
        out = np.empty(when.size)
        self._slices.forwards(np.ascontiguousarray(when.ravel()), out)
        return float(out[0]) if when.ndim == 0 else out.reshape(when.shape)

    def log_moneyness(self, strike: Any, expiry_ns: Any) -> Any:
        """ln(strike / forward); NaN where the strike is not positive or the forward unknown."""
        strikes, when, shape = paired("strike", strike, expiry_ns)
        forward, out = np.empty(strikes.size), np.empty(strikes.size)
        self._slices.forwards(when, forward)
        self._slices.moneyness(strikes, forward, out)
        return float(out[0]) if shape == () else out.reshape(shape)

    def variance(self, log_moneyness: Any, expiry_ns: Any) -> Any:
        """Total variance (volatility squared times years) by log-moneyness ln(strike / forward) and expiry."""
        k, when, shape = paired("log_moneyness", log_moneyness, expiry_ns)
        out = np.empty(k.size)
        self._slices.variances(k, when, out)
        return float(out[0]) if shape == () else out.reshape(shape)

    def total_variance(self, strike: Any, expiry_ns: Any) -> Any:
        """Total variance by strike and expiry; NaN where it has no answer."""
        strikes, when, shape = paired("strike", strike, expiry_ns)
        out = np.empty(strikes.size)
        if self.kind == "flat":
            self._slices.variances(np.where(strikes > 0.0, 0.0, np.nan), when, out)
        else:
            self._slices.total_variances(strikes, when, out)
        return float(out[0]) if shape == () else out.reshape(shape)

    def vol(self, strike: Any, expiry_ns: Any) -> Any:
        """Annual implied volatility by strike and expiry.

        Parameters
        ----------
        strike : float or float64 array
            Quote currency.
        expiry_ns : int or int64 array
            Nanoseconds since 1970 UTC (dates are understood too); broadcast against `strike`.

        Returns
        -------
        float or float64 array
            NaN where there is no answer: strike not positive, expiry not after `time_ns`, input NaN.
        """
        when = stamps("expiry_ns", expiry_ns)
        result = np.sqrt(self.total_variance(strike, when) * YEAR_NS / (when - self.time_ns))
        return float(result) if np.ndim(result) == 0 else result

    def terms(self, index: int, log_moneyness: Any) -> Floats:
        """Rows w, w', w'' and Durrleman's g of slice `index`; float64 array, shape (4, points)."""
        k = floats("log_moneyness", log_moneyness)
        out = np.empty((4, k.size))
        self._slices.terms(integer("index", index, least=0, most=self.expiry_ns.size - 1), k, out)
        return out

    def raw(self, index: int) -> RawSvi:
        """Raw SVI parameters of slice `index`, or `MissingDataError` on a grid."""
        if self.knots is not None:
            raise MissingDataError("a grid has no SVI parameters")
        at = integer("index", index, least=-self.expiry_ns.size, most=self.expiry_ns.size - 1)
        return RawSvi(**dict(zip(("a", "b", "rho", "m", "sigma"), self.rows[at].tolist(), strict=True)))

    def aged(self, now_ns: int) -> VolSurface:
        """The surface at a later time with every listed volatility kept; expiries that have passed are dropped.

        Clean when this surface is: a slice scaled down stays free of butterflies, and shorter expiries shrink more.
        """
        now = integer("now_ns", now_ns, least=self.time_ns)
        if self.kind == "flat":
            return VolSurface.flat(float(np.sqrt(self.rows[0, 0])), time_ns=now,
                                   forward=None if np.isnan(self.forwards[0]) else float(self.forwards[0]),
                                   spot=self.spot)
        left = self.expiry_ns > now
        if not left.any():
            raise MissingDataError(f"now_ns must be before the last expiry {int(self.expiry_ns[-1])}, was {now}")
        factor = ((self.expiry_ns[left] - now) / (self.expiry_ns[left] - self.time_ns))[:, None]
        rows = self.rows[left] * (factor if self.knots is not None else np.hstack(
            [factor, factor, np.ones((factor.size, 3))]))
        return VolSurface(self.kind, rows, None if self.knots is None else self.knots[left], self.expiry_ns[left],
                          time_ns=now, forward=self.forwards[left], discount=self.discounts[left], spot=self.spot,
                          version=self.version)

    def plot(self, quotes: Any = None, path: str | Path | None = None) -> Any:
        """Picture of every slice, with bid and ask where `quotes` (of `chain_quotes`) are given; needs matplotlib.

        Returns the matplotlib figure, and writes it to `path` when one is given.
        """
        return plot_surface(self, quotes, path)

    # ---- storage --------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON holds without loss; NaN becomes None."""
        return {"format": FORMAT, "kind": self.kind, "time_ns": self.time_ns, "spot": _plain(self.spot),
                "version": self.version, "expiry_ns": self.expiry_ns.tolist(),
                "forward": _plain(self.forwards.tolist()), "discount": _plain(self.discounts.tolist()),
                "rows": self.rows.tolist(),
                "knots": None if self.knots is None else self.knots.tolist(),
                "fit": [dict(f) if isinstance(f, Mapping) else _plain(asdict(f)) for f in self.fit]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VolSurface:
        """The surface of `to_dict`."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise RangeError(f"format must be {FORMAT!r}, was {data!r:.60}")
        lacking = [name for name in FIELDS if name not in data]
        if lacking:
            raise RangeError(f"data must hold {', '.join(FIELDS)}, lacks {', '.join(lacking)}")
        kind, knots = data["kind"], data["knots"]
        if kind not in ("flat", "svi", "grid") or (knots is None) != (kind != "grid"):
            raise RangeError(f"kind must be 'flat', 'svi' or 'grid', was {kind!r}")
        rows = floats("rows", data["rows"], ndim=2)
        if knots is None:
            rows = rows_of(rows)
        fit = several("fit", data["fit"])
        if not all(isinstance(told, Mapping) for told in fit):
            raise RangeError(f"fit must hold mappings, was {fit!r:.60}")
        return cls(kind, rows, None if knots is None else floats("knots", knots, ndim=2),
                   np.array([integer("expiry_ns", stamp) for stamp in several("expiry_ns", data["expiry_ns"])]),
                   time_ns=data["time_ns"], forward=_numbers("forward", data["forward"]),
                   discount=_numbers("discount", data["discount"]), spot=data["spot"], version=data["version"], fit=fit)

    def save(self, path: str | Path) -> None:
        """Write the surface as JSON; every number survives to the last bit."""
        import json  # a third of this module's import time

        filename("path", path).write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> VolSurface:
        """Read what `save` wrote."""
        import json

        file = filename("path", path)
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise RangeError(f"path must hold a saved surface, {str(path)!r} does not: {error}") from None
        return cls.from_dict(data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VolSurface) and self.to_dict() == other.to_dict()

    def __repr__(self) -> str:
        return f"VolSurface({self.kind}, {self.expiry_ns.size} expiries, time_ns={self.time_ns})"


_LOGS = Slices(np.array([[1.0, 0.0, 0.0, 0.0, 1.0]]), None, np.array([1]), np.array([1.0]), 0, 1.0)


def paired(name: str, values: Any, expiry_ns: Any) -> tuple[Floats, Ints, tuple[int, ...]]:
    """`values` and expiries broadcast against each other, each on one axis, and the shape they have together."""
    left, right = floats(name, values, ndim=None, finite=False, empty=True), stamps("expiry_ns", expiry_ns)
    if left.shape == right.shape:
        return left.ravel(), right.ravel(), left.shape
    try:
        first, second = np.broadcast_arrays(left, right)
    except ValueError:
        raise ShapeError(f"{name} and expiry_ns must broadcast, had shapes {left.shape} and {right.shape}") from None
    return first.ravel(), second.ravel(), first.shape


def _check_nodes(knots: Floats, variances: Floats) -> None:
    if knots.shape != variances.shape:
        raise ShapeError(f"knots and variances must have one shape, had {knots.shape} and {variances.shape}")
    if not (np.diff(knots, axis=1) > 0.0).all():
        raise RangeError("knots must rise without duplicates on every expiry")
    if not (variances > 0.0).all():
        raise RangeError(f"variances must be above 0, was {float(variances.min())!r}")


def _per_slice(name: str, value: Any, count: int) -> Floats:
    if value is None:
        return np.full(count, np.nan)
    array = np.atleast_1d(floats(name, value, ndim=None, finite=False))
    if array.shape == (1,):
        array = np.full(count, array[0])
    if array.shape != (count,):
        raise ShapeError(f"{name} must have one entry per expiry ({count}), had shape {array.shape}")
    if not ((array > 0.0) & (array < np.inf) | np.isnan(array)).all():
        raise RangeError(f"{name} must be positive, was {array[~(array > 0.0)].tolist()}")
    return array


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def _numbers(name: str, values: Any) -> Floats:
    return floats(name, [np.nan if item is None else item for item in several(name, values)], finite=False)


def _natural_spline(knots: Floats, values: Floats) -> Floats:
    """Second derivatives of the natural cubic spline through the nodes."""
    count = knots.size
    bends = np.zeros(count)
    if count < 3:
        return bends
    step = np.diff(knots)
    matrix = np.diag(2.0 * (step[:-1] + step[1:])) + np.diag(step[1:-1], 1) + np.diag(step[1:-1], -1)
    bends[1:-1] = np.linalg.solve(matrix, 6.0 * np.diff(np.diff(values) / step))
    return bends
