"""Unit values and risk arrays, one contract and one scenario at a time, from the definitions."""

import math

import numpy as np


def normal_cdf(x):
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def black76(forward, strike, years, sigma, is_call):
    """Undiscounted value of a European option on a forward (Black, 1976)."""
    if math.isnan(sigma + forward):
        return math.nan
    sign = 1.0 if is_call else -1.0
    deviation = sigma * math.sqrt(years)
    if deviation == 0.0:
        return max(sign * (forward - strike), 0.0)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    value = forward * normal_cdf(sign * d1) - strike * normal_cdf(sign * (d1 - deviation))
    return max(sign * value, 0.0)


def option_value(forward, strike, years, sigma, discount, is_call, inverse):
    """Settlement asset per unit of the underlying: the coin value is the quote value over the forward."""
    value = discount * black76(forward, strike, years, sigma, is_call)
    return value / forward if inverse else value


def unit_value(kind, multiplier, mark, inverse):
    """Settlement asset per contract; a long inverse future holds minus its face over the mark."""
    if kind == "option" or not inverse:
        return multiplier * mark
    return -multiplier / mark


def unit_profit(kind, multiplier, mark, inverse, move, forward=np.nan, strike=np.nan, years=np.nan, sigma=np.nan,
                shocked_sigma=np.nan, discount=1.0, is_call=True):
    """Profit of one contract in its settlement asset after a relative move of its underlying."""
    if kind != "option":
        if inverse:
            return multiplier * (1.0 / mark - 1.0 / (mark * (1.0 + move)))
        return multiplier * (mark * (1.0 + move) - mark)
    after = option_value(forward * (1.0 + move), strike, years, shocked_sigma, discount, is_call, inverse)
    now = option_value(forward, strike, years, sigma, discount, is_call, inverse)
    return multiplier * (after - now) + 0.0 * mark


def conversion(spot_settle, move_settle, weight, shocked):
    """Base currency per unit of the settlement asset, times the part of the profit that counts."""
    return spot_settle * (1.0 + move_settle if shocked else 1.0) * weight
