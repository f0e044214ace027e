"""Implied volatility in 70 digits: Newton on the logarithm of the out-of-the-money value, started at a known answer."""

import mpmath as mp

DIGITS = 70


def cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def out_of_the_money(low, high, deviation):
    """Value of the out-of-the-money option and its derivative by the total deviation."""
    x = mp.log(high / low)
    d1 = -x / deviation + deviation / 2
    return (low * cdf(d1) - high * cdf(d1 - deviation),
            low * mp.exp(-d1 * d1 / 2) / mp.sqrt(2 * mp.pi))


def deviation(premium, forward, strike, is_call, near):
    """Total deviation of an undiscounted premium and premium / (deviation vega); None outside the bounds.

    `near` is the deviation whose price was rounded to `premium`.
    """
    premium, forward, strike, v = mp.mpf(premium), mp.mpf(forward), mp.mpf(strike), mp.mpf(near)
    intrinsic = max(forward - strike if is_call else strike - forward, mp.mpf(0))
    low, high = min(forward, strike), max(forward, strike)
    value = premium - intrinsic
    if not 0 < value < low:
        return None
    for _ in range(80):
        got, vega = out_of_the_money(low, high, v)
        if value < low / 2:
            step = mp.log(got / value) * got / vega
        else:
            step = -mp.log((low - got) / (low - value)) * (low - got) / vega
        step = min(max(step, -v), v / 2)
        v -= step
        if abs(step) < mp.mpf(10) ** -45 * v:
            return v, premium / (v * out_of_the_money(low, high, v)[1])
    return None
