"""One step of the calibration kernel, every derivative by central differences.  NumPy only.

A slice is x = (a, left slope, right slope, m, ln sigma): w = a + left/2 (s - d) + right/2 (s + d), where d = k - m and
s = sqrt(d^2 + sigma^2).
"""

import numpy as np
from reference import surface

LOSS, BUTTERFLY, FLOOR, CALENDAR, DAMPING = 2.5, 60.0, 0.01, 200.0, 1e-3


def from_row(row):
    a, b, rho, m, sigma = row
    return np.array([a, b * (1 - rho), b * (1 + rho), m, np.log(sigma)])


def to_row(x):
    b = 0.5 * (x[1] + x[2])
    return np.array([x[0], b, 0.5 * (x[2] - x[1]) / b, x[3], np.exp(x[4])])


def nodes(k, years):
    """21 even nodes over the quotes and the forward, then eight on either side at growing distance."""
    first, last = min(k.min(), 0.0), max(k.max(), 0.0)
    half = max(0.5 * (last - first), 0.05 * np.sqrt(years))
    outer = np.exp(0.35 * np.arange(1, 9))
    return 0.5 * (first + last) + half * np.concatenate([-outer[::-1], np.arange(-10, 11) / 10, outer])


def penalties(x, node, under, over):
    """Residuals of a crossing and of g below its floor, 0 where nothing is wrong."""
    w, slope, bend = surface.svi(to_row(x), node)
    bound = np.where(w < under, under, np.where(w > over, over, w))
    crossing = CALENDAR * (w - bound) / bound
    g = surface.durrleman(node, w, slope, bend)
    return crossing, np.where(g < FLOOR, BUTTERFLY * (FLOOR - g), 0.0)


def step(row, k, low, high, weight, years, before=None, after=None):
    """Row after one damped Gauss-Newton step on quotes (low = 0: an ask alone) and what is violated at the nodes."""
    node = nodes(k, years)
    under = 0.0 * node if before is None else 1.001 * surface.svi(before, node)[0]
    over = np.inf + 0.0 * node if after is None else 0.999 * surface.svi(after, node)[0]

    def residuals(x):
        w = surface.svi(to_row(x), k)[0]
        off = np.where(low > 0, w - 0.5 * (low + high), np.maximum(w - high, 0.0)) * weight
        return np.concatenate([off, *penalties(x, node, under, over)])

    x = from_row(row)
    r = residuals(x)
    jacobian = np.zeros((r.size, 5))
    for i in range(5):
        move = 1e-6 * np.eye(5)[i] * max(abs(x[i]), 1e-3)
        jacobian[:, i] = (residuals(x + move) - residuals(x - move)) / (2 * move[i])
    jacobian[r == 0.0] = 0.0
    share = np.ones(r.size)
    share[:k.size] = 1 / (1 + (r[:k.size] / LOSS) ** 2) ** 2
    normal = jacobian.T @ (jacobian * share[:, None])
    normal += np.diag(DAMPING * np.diag(normal) + 1e-14)
    return to_row(x - np.linalg.solve(normal, jacobian.T @ (share * r)))
