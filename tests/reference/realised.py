"""Realised estimators as their papers write them: NumPy and plain loops, whole sample, variance per bar."""

import numpy as np


def close_to_close(close, demean=True):
    r = np.log(close[1:] / close[:-1])
    return float(np.sum((r - r.mean()) ** 2) / (len(r) - 1)) if demean else float(np.mean(r**2))


def parkinson(high, low):
    return float(np.mean(np.log(high / low) ** 2) / (4.0 * np.log(2.0)))


def garman_klass(open, high, low, close):
    u, d, c = np.log(high / open), np.log(low / open), np.log(close / open)
    return float(np.mean(0.5 * (u - d) ** 2 - (2.0 * np.log(2.0) - 1.0) * c**2))


def rogers_satchell(open, high, low, close):
    u, d, c = np.log(high / open), np.log(low / open), np.log(close / open)
    return float(np.mean(u * (u - c) + d * (d - c)))


def garman_klass_yang_zhang(open, high, low, close):
    jump = np.log(open[1:] / close[:-1])
    u, d, c = (np.log(x[1:] / open[1:]) for x in (high, low, close))
    return float(np.mean(jump**2 + 0.5 * (u - d) ** 2 - (2.0 * np.log(2.0) - 1.0) * c**2))


def yang_zhang(open, high, low, close, alpha=1.34):
    jump = np.log(open[1:] / close[:-1])
    body = np.log(close[1:] / open[1:])
    n = len(jump)
    k = (alpha - 1.0) / (alpha + (n + 1.0) / (n - 1.0))
    ranges = rogers_satchell(open[1:], high[1:], low[1:], close[1:])
    return float(jump.var(ddof=1) + k * body.var(ddof=1) + (1.0 - k) * ranges)


def ewma(close, decay):
    r = np.log(close[1:] / close[:-1])
    out = []
    for t in range(1, len(r) + 1):
        weight = decay ** np.arange(t)[::-1]
        out.append(float(np.sum(weight * r[:t] ** 2) / np.sum(weight)))
    return np.array(out)


def realised_variance(price, step):
    p = np.log(price)
    n = len(p) - 1
    total = 0.0
    for offset in range(step):
        total += float(np.sum(np.diff(p[offset::step]) ** 2))
    return total / step * n / (n - step + 1)


def bipower_variation(price):
    r = np.abs(np.diff(np.log(price)))
    n = len(r)
    return float(np.pi / 2.0 * n / (n - 1) * sum(r[i] * r[i - 1] for i in range(1, n)))


def quadpower_quarticity(price):
    r = np.abs(np.diff(np.log(price)))
    n = len(r)
    total = sum(r[i] * r[i - 1] * r[i - 2] * r[i - 3] for i in range(3, n))
    return float(n * n / (n - 3) * (np.pi / 2.0) ** 2 * total)
