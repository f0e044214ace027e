"""Shocked volatilities and sigma-scaled moves, one at a time and from the formulas."""

import math


def tenor_factor(years, short_power, long_power, days_floor=1.0):
    """(30 / days)^power with days floored."""
    days = max(365.0 * years, days_floor)
    return (30.0 / days) ** (short_power if days <= 30.0 else long_power)


def shocked_volatility(sigma, years, kind, size, up, down, short_power, long_power, floor, minimum=0.0, days_floor=1.0):
    """Volatility after one shock; unknown stays unknown."""
    if math.isnan(sigma) or kind == "same":
        return sigma
    factor = tenor_factor(years, short_power, long_power, days_floor)
    if kind == "up":
        return max(sigma * (1.0 + size * up * factor), floor, minimum)
    if kind == "down":
        return max(sigma * (1.0 - size * down * factor), minimum, 0.0)
    if kind == "scale":
        return max(sigma * (1.0 + size), minimum, 0.0)
    return max(sigma + size, minimum, 0.0)


def sigma_move(multiple, sigma_annual, horizon_days):
    """Relative move of so many standard deviations of the logarithm."""
    return math.exp(multiple * sigma_annual * math.sqrt(horizon_days / 365.0)) - 1.0


def place(nodes, x):
    """Lower node of the cell and share of the upper one; flat beyond the ends."""
    if x <= nodes[0] or len(nodes) == 1:
        return 0, 0.0
    if x >= nodes[-1]:
        return len(nodes) - 2, 1.0
    low = max(at for at in range(len(nodes) - 1) if nodes[at] <= x)
    return low, (x - nodes[low]) / (nodes[low + 1] - nodes[low])


def surface_factor(strike, forward, years, shift, moneyness, tenor_years, log_ratio):
    """Volatility after over before at one option, from one scenario's moves (tenors, nodes)."""
    if years == 0.0:
        return 1.0
    x = (math.log(strike / forward) - shift) / math.sqrt(years)
    column, across = place(moneyness, x)
    row, along = place([math.sqrt(tenor) for tenor in tenor_years], math.sqrt(years))
    right, below = min(column + 1, len(moneyness) - 1), min(row + 1, len(tenor_years) - 1)
    near = (1.0 - across) * log_ratio[row][column] + across * log_ratio[row][right]
    far = (1.0 - across) * log_ratio[below][column] + across * log_ratio[below][right]
    return math.exp((1.0 - along) * near + along * far)
