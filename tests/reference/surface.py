"""Twin of the surface kernel, and an independent check of static arbitrage on a dense grid.  NumPy only."""

import math

import numpy as np

YEAR_NS = 365 * 86_400 * 10**9


def svi(row, k):
    """w, w', w'' of raw SVI: a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))."""
    a, b, rho, m, sigma = row
    x = np.asarray(k) - m
    s = np.sqrt(x**2 + sigma**2)
    return a + b * (rho * x + s), b * (rho + x / s), b * sigma**2 / s**3


def durrleman(k, w, slope, bend):
    """Gatheral and Jacquier (2014), equation 2.1."""
    return (1 - k * slope / (2 * w)) ** 2 - slope**2 / 4 * (1 / w + 0.25) + bend / 2


_ERFC = np.frompyfunc(math.erfc, 1, 1)


def normal_cdf(x):
    return 0.5 * np.asarray(_ERFC(-np.asarray(x, float) / math.sqrt(2)), float)


def out_of_the_money(k, w):
    """Black price over the forward of the call for k >= 0 and the put for k < 0."""
    k, w = np.broadcast_arrays(np.asarray(k, float), np.asarray(w, float))
    s = np.sqrt(w)
    sign = np.where(k >= 0, 1.0, -1.0)
    return sign * (normal_cdf(sign * (-k / s + s / 2)) - np.exp(k) * normal_cdf(sign * (-k / s - s / 2)))


def implied_variance(k, price):
    """Total variance of one out-of-the-money price, by bisection."""
    low, high = 1e-12, 1e4
    for _ in range(200):
        middle = math.sqrt(low * high)
        if out_of_the_money(k, middle) < price:
            low = middle
        else:
            high = middle
    return low


def variance(rows, years, k, t):
    """Total variance of SVI slices at one log-moneyness and time: (straight in time, prices averaged)."""
    w = [float(svi(row, k)[0]) for row in rows]
    theta = [float(svi(row, 0.0)[0]) for row in rows]
    i = int(np.searchsorted(years, t))
    if i < len(years) and years[i] == t:
        return w[i], w[i]
    if i == 0:
        return w[0] * t / years[0], w[0] * t / years[0]
    if i == len(years):
        late = w[-1] + theta[-1] * (t - years[-1]) / years[-1]
        return late, late
    share = (t - years[i - 1]) / (years[i] - years[i - 1])
    line = w[i - 1] + share * (w[i] - w[i - 1])
    theta_t = theta[i - 1] + share * (theta[i] - theta[i - 1])
    weight = (math.sqrt(theta[i]) - math.sqrt(theta_t)) / (math.sqrt(theta[i]) - math.sqrt(theta[i - 1]))
    price = weight * out_of_the_money(k, w[i - 1]) + (1 - weight) * out_of_the_money(k, w[i])
    return line, implied_variance(k, float(price))


def spread_points(row):
    """Points over the scale of an SVI slice at which a straight line in time is asked about: 48 on either side of m."""
    grown = np.exp(0.25 * np.arange(1, 49)) - 1
    return row[3] + row[4] * np.concatenate([-grown[::-1], [0.0], grown])


def line_coefficients(near, far, k, margin):
    """Bernstein coefficients of (g - margin) w^2 in the share of time on the straight line between two slices.

    A polynomial of degree 4, here from its values at five shares; shape (5, points), each row over its largest size.
    """
    shares = np.linspace(0.0, 1.0, 5)
    basis = np.array([[math.comb(4, i) * s**i * (1 - s) ** (4 - i) for i in range(5)] for s in shares])
    values = []
    for s in shares:
        w, slope, bend = ((1 - s) * a + s * b for a, b in zip(svi(near, k), svi(far, k), strict=True))
        values.append((durrleman(k, w, slope, bend) - margin) * w**2)
    return np.linalg.solve(basis, np.array(values)) / np.max(np.abs(values), axis=0)


def arbitrage(total_variance, years, k):
    """Largest violations of a surface on a dense grid, from prices alone: (butterfly, calendar, bounds).

    `total_variance(k, t)` answers for an array of log-moneyness and one time.  Butterfly: the largest negative second
    difference of call prices in strike, per unit of the density scale; calendar: the largest fall of total variance
    from one time to the next; bounds: the largest excess of a price over 1 or below intrinsic value.
    """
    butterfly = calendar = bounds = 0.0
    before = None
    strike = np.exp(k)
    for t in years:
        w = np.asarray(total_variance(k, t))
        if not (np.isfinite(w).all() and (w > 0).all()):
            return math.inf, math.inf, math.inf
        otm = out_of_the_money(k, w)
        call = np.where(k >= 0, otm, otm + 1.0 - strike)
        bounds = max(bounds, float(np.max(-otm)), float(np.max(call - 1.0)))
        slope = np.diff(call) / np.diff(strike)
        # A second difference carries the rounding of three prices of order 1.
        noise = 8e-16 * (call[:-2] + call[2:] + strike[1:-1]) / np.minimum(np.diff(strike)[:-1], np.diff(strike)[1:])
        convex = float(np.max(slope[:-1] - slope[1:] - noise))
        butterfly = max(butterfly, convex if math.isfinite(convex) else math.inf)
        if before is not None:
            calendar = max(calendar, float(np.max((before - w) / w)))
        before = w
    return butterfly, calendar, bounds
