"""Interpolated profits of an option, by Lagrange's formula from values at the nodes."""

import math

from reference.reval import option_value


def chebyshev(count):
    return [-math.cos((2 * k + 1) * math.pi / (2 * count)) for k in range(count)]


def basis(nodes, at, x):
    """Lagrange polynomial of one node."""
    result = 1.0
    for k, node in enumerate(nodes):
        if k != at:
            result *= (x - node) / (nodes[at] - node)
    return result


def profit(y, sigma, *, forward, strike, years, sigma_now, discount, is_call, inverse, multiplier):
    """Profit of one contract in its settlement asset after ln(spot) moved by y."""
    after = option_value(forward * math.exp(y), strike, years, sigma, discount, is_call, inverse)
    return multiplier * (after - option_value(forward, strike, years, sigma_now, discount, is_call, inverse))


def interpolated(y, z, edges, reach, levels, smile, **option):
    """Profit from the nodes of the cell that y lies in; `smile(y)` is the volatility before its own move."""
    cell = max(at for at in range(len(edges) - 1) if at == 0 or y > edges[at])
    low, high = edges[cell], edges[cell + 1]
    across, along = chebyshev(4), chebyshev(levels)
    t = (2.0 * y - low - high) / (high - low)
    w = (2.0 * z - reach[0] - reach[1]) / (reach[1] - reach[0]) if reach[1] > reach[0] else 0.0
    total = 0.0
    for i, node in enumerate(across):
        move = 0.5 * (low + high) + 0.5 * (high - low) * node
        for j, level in enumerate(along):
            factor = math.exp(0.5 * (reach[0] + reach[1]) + 0.5 * (reach[1] - reach[0]) * level)
            value = profit(move, smile(move) * factor, **option)
            total += basis(across, i, t) * basis(along, j, w) * value
    return total
