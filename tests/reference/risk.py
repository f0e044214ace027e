"""The slow obvious twin of margincore.kernels.risk, written from the definitions."""

from fractions import Fraction

import numpy as np


def worst_loss(pnl):
    """Worst loss of one vector and the first scenario that makes it."""
    for scenario, value in enumerate(pnl):
        if not np.isfinite(value):
            return np.nan, scenario
    scenario = int(np.argmin(pnl))
    return -float(pnl[scenario]) + 0.0, scenario


def losses(pnl, level, probability=None):
    """Upper, lower, interpolated value at risk and expected shortfall, in exact rational arithmetic.

    `level` is text, such as "0.99": a level is a decimal number, and only binary floats blur the rank.
    """
    n = len(pnl)
    tail = 1 - Fraction(level)
    weight = [Fraction(1, n)] * n if probability is None else [Fraction(p) for p in probability]
    worst_first = sorted(range(n), key=lambda scenario: pnl[scenario])
    reached, upper, lower, shortfall = Fraction(0), None, None, Fraction(0)
    for scenario in worst_first:
        if weight[scenario] == 0:
            continue
        shortfall += max(min(weight[scenario], tail - reached), Fraction(0)) * Fraction(float(pnl[scenario]))
        reached += weight[scenario]
        if upper is None and reached >= tail:
            upper = -pnl[scenario]
        if lower is None and reached > tail:
            lower = -pnl[scenario]
    position = tail * (n - 1)
    deeper, share = int(position), position - int(position)
    deep, shallow = pnl[worst_first[deeper]], pnl[worst_first[min(deeper + 1, n - 1)]]
    interpolated = Fraction(float(deep)) + share * (Fraction(float(shallow)) - Fraction(float(deep)))
    return upper, lower, -float(interpolated), -float(shortfall / tail)


def spectral_loss(pnl, weight):
    """Sum over the sorted losses, worst first, times their weights."""
    return -sum(w * value for w, value in zip(weight, np.sort(pnl), strict=True))


def portfolio_pnl(quantity, risk):
    """Sum over instruments, in their order, of quantity times risk, of the instruments held."""
    out = np.zeros((len(quantity), risk.shape[1]))
    for row, amounts in enumerate(quantity):
        for instrument, amount in enumerate(amounts):
            if amount != 0.0:
                out[row] += amount * risk[instrument]
    return out
