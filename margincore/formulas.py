"""Black-76 on arrays or single options: price, greeks and implied volatility, linear and coin-settled."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import RangeError, ShapeError
from margincore.kernels import formula, implied
from margincore.units import DAYS_PER_YEAR, Floats, Right, number

Numbers = float | npt.ArrayLike
Rights = str | Right | npt.ArrayLike
Flags = npt.NDArray[np.uint8]


class VolStatus(enum.IntEnum):
    """Outcome of one implied volatility; zero, the value of fresh memory, is UNKNOWN."""

    UNKNOWN = 0
    OK = 1
    AT_INTRINSIC = 2     # nothing but intrinsic value: any volatility small enough, reported as 0
    BELOW_INTRINSIC = 3  # less than immediate exercise would give
    ABOVE_MAXIMUM = 4    # a call worth its forward or more, a put its strike: no volatility is high enough
    NOT_FINITE = 5       # an input is NaN or infinite
    EXPIRED = 6          # no time left
    OUT_OF_RANGE = 7     # forward or strike not positive
    TOO_SMALL = 8        # time value below 1e-300 of the smaller of forward and strike


@dataclasses.dataclass(frozen=True, slots=True)
class Greeks:
    """Value and derivatives of one unit of each option, float64, all of one shape.

    By the forward at fixed forward, or by the spot at fixed spot where a spot was given.

    Parameters
    ----------
    price
        Unit of the forward; coin when inverse.
    delta, gamma
        First and second derivative by the forward (spot).
    vega, volga
        First and second derivative by the volatility, per 1.00 (one point is 0.01).
    theta, charm
        Change of price and of delta per year of 365 days as time passes.
    rho
        Derivative by the rate of the settlement asset, per 1.00: at fixed forward, or at fixed spot and other rate.
    vanna
        Derivative of delta by the volatility, per 1.00.
    """

    price: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    rho: Floats
    vanna: Floats
    volga: Floats
    charm: Floats

    def quoted(self) -> Greeks:
        """The same as venues quote: vega, vanna, rho per point, volga per point squared, theta and charm per day."""
        scale = {"vega": 0.01, "vanna": 0.01, "rho": 0.01, "volga": 1e-4, "theta": 1 / DAYS_PER_YEAR,
                 "charm": 1 / DAYS_PER_YEAR}
        return dataclasses.replace(self, **{name: getattr(self, name) * by for name, by in scale.items()})


@dataclasses.dataclass(frozen=True, slots=True)
class ImpliedVolatility:
    """Volatilities a year as fractions, NaN where there is none, and why: float64 and uint8 of one shape."""

    sigma: Floats
    status: Flags

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Where `status` is OK."""
        fine: npt.NDArray[np.bool_] = self.status == VolStatus.OK
        return fine


@dataclasses.dataclass(frozen=True, slots=True)
class ImpliedQuotes:
    """Volatilities of bid, mid and ask; the mid price is the mean of bid and ask."""

    bid: ImpliedVolatility
    mid: ImpliedVolatility
    ask: ImpliedVolatility


def _is_call(right: Rights) -> npt.NDArray[np.bool_]:
    array: npt.NDArray[Any] = np.asarray(right)
    if array.dtype.kind in "US":
        word = np.char.lower(array.astype(str))
        wrong = ~np.isin(word, ("call", "put", "c", "p"))
        if wrong.any():
            raise RangeError(f"right must be call or put, was {str(array[wrong].flat[0])!r}")
        return np.isin(word, ("call", "c")).astype(np.bool_)
    if array.dtype.kind not in "bui" or not np.isin(array, (0, 1)).all():
        raise RangeError(f"right must be call or put, Right or bool, was {right!r}")
    return array.astype(np.bool_)


def _arrays(names: str, values: tuple[Any, ...], right: Rights) -> tuple[tuple[int, ...], list[Floats], Flags]:
    """Shape and contiguous vectors of the broadcast arguments; a plain number must make sense, arrays may hold gaps."""
    arrays = []
    for name, value in zip(names.split(), values, strict=True):
        if np.ndim(value) == 0 and not isinstance(value, np.ndarray):
            least = None if name in ("rate", "price", "bid", "ask") else 0.0
            number(name, value, least=least)
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise ShapeError(f"{name} must hold numbers, had dtype {array.dtype}")
        arrays.append(array.astype(np.float64, copy=False))
    calls = _is_call(right)
    try:
        *together, flags = np.broadcast_arrays(*arrays, calls)
    except ValueError:
        raise ShapeError(f"{', '.join(names.split())} and right must broadcast, had shapes "
                         f"{[np.shape(v) for v in (*values, right)]}") from None
    return flags.shape, [np.ascontiguousarray(a).reshape(-1) for a in together], np.ascontiguousarray(
        flags, np.uint8).reshape(-1)


def black76(forward: Numbers, strike: Numbers, years: Numbers, sigma: Numbers, right: Rights = "call", *,
            rate: Numbers = 0.0, inverse: bool = False) -> Any:
    """Black-76 value of one unit, discounted at `rate`, in the unit of the forward (coin when `inverse`).

    Parameters
    ----------
    forward, strike : float or float64 array
        Same unit, not negative.
    years : float or float64 array
        Time to expiry in years of 365 days, not negative.
    sigma : float or float64 array
        Volatility a year as a fraction: 0.6 is 60 %.  At 0, or 0 years, the value is intrinsic.
    right : {"call", "put"}, Right, bool (True: call), or an array of them
    rate : float or float64 array, optional
        Continuous interest a year of the settlement asset, a fraction.
    inverse : bool, optional
        Coin-settled: the value over the forward, in coin.

    Returns
    -------
    float or float64 array of the broadcast shape
        NaN where an element of an array makes no sense.

    Raises
    ------
    NotFiniteError, RangeError, ShapeError
        If an argument given as one number is not finite or negative, or shapes do not broadcast.

    Notes
    -----
    Computed from the out-of-the-money side; relative error within 2^-52 (32 + 4 conditioning) down to 1e-290 of the
    smaller of forward and strike.

    References
    ----------
    .. [1] F. Black, *The pricing of commodity contracts*, Journal of Financial Economics 3 (1976), 167-179.

    Examples
    --------
    >>> round(black76(100.0, 100.0, 1.0, 0.2), 6)
    7.965567
    """
    values = (forward, strike, years, sigma, rate)
    shape, (f, k, t, s, r), flags = _arrays("forward strike years sigma rate", values, right)
    out = np.empty(f.size)
    formula.prices(f, k, t, s, r, flags, out, inverse)
    return out.reshape(shape) if shape else float(out[0])


def greeks(forward: Numbers, strike: Numbers, years: Numbers, sigma: Numbers, right: Rights = "call", *,
           rate: Numbers = 0.0, spot: Numbers | None = None, inverse: bool = False) -> Greeks:
    """Price, delta, gamma, vega, theta, rho, vanna, volga and charm of one unit.

    Parameters are those of `black76`; with `spot` the derivatives are by the spot, the carry being ln(F / S) / T.
    Units are stated at `Greeks`.

    Parameters
    ----------
    forward, strike, years, sigma, right, rate, inverse
        As for `black76`.
    spot : float or float64 array, optional
        Spot in the unit of the forward, positive.

    Returns
    -------
    Greeks
        Arrays of the broadcast shape.  At zero deviation the limits; gamma is infinite at the money.

    Raises
    ------
    NotFiniteError, RangeError, ShapeError
        As for `black76`.

    References
    ----------
    .. [1] E. G. Haug, *The Complete Guide to Option Pricing Formulas*, 2nd edition, 2007, chapter 2.
    """
    names = "forward strike years sigma rate"
    values: tuple[Any, ...] = (forward, strike, years, sigma, rate)
    if spot is not None:
        if np.ndim(spot) == 0 and not isinstance(spot, np.ndarray):
            number("spot", spot, above=0.0)
        names, values = names + " spot", (*values, spot)
    shape, (f, k, t, s, r, *by), flags = _arrays(names, values, right)
    out = np.empty((9, f.size))
    price, delta, gamma, vega, theta, rho, vanna, volga, charm = out
    formula.greeks(f, k, t, s, r, flags, price, delta, gamma, vega, theta, rho, inverse)
    formula.higher_greeks(f, k, t, s, r, delta, vanna, volga, charm, inverse)
    if by:
        formula.spot_higher_greeks(f, by[0], t, delta, gamma, vanna, charm)
        formula.spot_greeks(f, by[0], t, price, delta, gamma, theta, rho, inverse)
    return Greeks(*(column.reshape(shape) for column in out))


def implied_volatility(price: Numbers, forward: Numbers, strike: Numbers, years: Numbers, right: Rights = "call", *,
                       rate: Numbers = 0.0, inverse: bool = False) -> ImpliedVolatility:
    """Volatility a year that makes `black76` return `price`, and a status per element; no element raises.

    Parameters
    ----------
    price : float or float64 array
        Premium of one unit, in the unit of the forward; in coin when `inverse`.
    forward, strike, years, right, rate, inverse
        As for `black76`.

    Returns
    -------
    ImpliedVolatility
        `sigma` NaN unless OK (0 at intrinsic value), `status` a `VolStatus` code; broadcast shape.

    Raises
    ------
    RangeError, ShapeError
        If an argument holds no numbers, `right` no rights, or shapes do not broadcast.

    Notes
    -----
    A fixed number of third-order Householder steps [1]_ on the logarithm of the out-of-the-money value, or of its
    complement; within 4 units in the last place times 1 + price / (sigma vega) for every attainable price.

    References
    ----------
    .. [1] P. Jaeckel, *Let's be rational*, Wilmott 75 (2015), 40-53.

    Examples
    --------
    >>> round(float(implied_volatility(7.9655674554, 100.0, 100.0, 1.0).sigma), 9)
    0.2
    """
    values = tuple(np.asarray(v) for v in (price, forward, strike, years, rate))
    shape, (p, f, k, t, r), flags = _arrays("price forward strike years rate", values, right)
    sigma, status = np.empty(f.size), np.empty(f.size, np.uint8)
    if r.any():
        growth = np.empty(f.size)
        formula.exps(r * t, growth)
        p = p * growth
    implied.volatilities(p, f, k, t, flags, sigma, status, inverse)
    return ImpliedVolatility(sigma.reshape(shape), status.reshape(shape))


def implied_quotes(bid: Numbers, ask: Numbers, forward: Numbers, strike: Numbers, years: Numbers,
                   right: Rights = "call", *, rate: Numbers = 0.0, inverse: bool = False) -> ImpliedQuotes:
    """Volatilities of bid, mid and ask, each with its own status; a missing quote (NaN) leaves the others standing.

    Parameters
    ----------
    bid, ask : float or float64 array
        Premiums of one unit, as for `implied_volatility`; NaN where there is no quote.
    forward, strike, years, right, rate, inverse
        As for `black76`.

    Returns
    -------
    ImpliedQuotes
    """
    middle = 0.5 * (np.asarray(bid, np.float64) + np.asarray(ask, np.float64))
    return ImpliedQuotes(*(implied_volatility(price, forward, strike, years, right, rate=rate, inverse=inverse)
                           for price in (bid, middle, ask)))
