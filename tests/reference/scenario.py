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
