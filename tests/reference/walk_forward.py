"""Walk-forward forecasts of one asset, day by day, from the definitions."""

import math

import numpy as np


def tail(pnl, level):
    """Upper value at risk and expected shortfall of equally likely P&L: the ceil of the rank, the edge by its share."""
    losses = sorted((-float(value) for value in pnl), reverse=True)
    count = round((1.0 - level) * len(losses), 9)
    rank = max(math.ceil(count), 1)
    whole = math.floor(count)
    beyond = math.fsum(losses[:whole]) + (count - whole) * (losses[whole] if whole < len(losses) else 0.0)
    return losses[rank - 1], beyond / count


def historical(returns, window, level, sign=1.0):
    """Value at risk and shortfall of each day from the returns of the window before it."""
    return np.array([tail([sign * math.expm1(r) for r in returns[day - window:day]], level)
                     for day in range(window, len(returns))]).T


def ewma_filtered(returns, window, level, refit_every, decay, sign=1.0):
    """Filtered historical simulation under EWMA volatility that starts anew with every block's window."""
    out = []
    for first in range(window, len(returns), refit_every):
        days = range(first, min(first + refit_every, len(returns)))
        history = returns[first - window:days[-1] + 1]
        shares = [decay**k for k in range(min(75, len(history)))]
        variance = math.fsum(s * r * r for s, r in zip(shares, history, strict=False)) / math.fsum(shares)
        sigma = []
        for r in history:
            sigma.append(math.sqrt(variance))
            variance = decay * variance + (1.0 - decay) * r * r
        for day in days:
            now = day - (first - window)
            shocks = [history[at] / sigma[at] for at in range(now - window, now)]
            out.append(tail([sign * math.expm1(sigma[now] * shock) for shock in shocks], level))
    return np.array(out).T
