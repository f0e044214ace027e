"""The variance recursion, term by term as the formula reads."""

import math

import numpy as np


def filter_path(values, *, mean, omega, first, second, beta, start, form, exp=math.exp, log=math.log, one=1.0,
                pi=math.pi):
    """Variance forecasts h[0..n]; `one`, `exp`, `log` and `pi` of another number type give more digits."""
    constant = (2 / (one * pi)) ** 0.5
    features, levels, forecasts = [], [], []
    begin = log(start) if form == "logarithm" else start
    resting = {"square": (start / 2, start / 2), "direct": (start, 0 * one), "logarithm": (0 * one, 0 * one)}[form]

    def following():
        total = omega * one
        for lag in range(len(first)):
            a, b = features[-1 - lag] if lag < len(features) else resting
            total += first[lag] * a + second[lag] * b
        for lag in range(len(beta)):
            total += beta[lag] * (levels[-1 - lag] if lag < len(levels) else begin)
        return total

    for value in [*values, None]:
        levels.append(following())
        h = exp(levels[-1]) if form == "logarithm" else levels[-1]
        forecasts.append(h)
        if value is None:
            break
        e = value * one - mean
        if form == "square":
            features.append((e * e, 0 * one) if e >= 0 else (0 * one, e * e))
        elif form == "direct":
            features.append((value * one, 0 * one))
        else:
            z = e / h ** 0.5
            features.append((abs(z) - constant, z))
    return forecasts


def panel_path(values, recursions):
    """Forecasts (times + 1, series): each column by itself."""
    return np.column_stack([filter_path(values[:, s], **recursion) for s, recursion in enumerate(recursions)])
