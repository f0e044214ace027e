"""Black-76 in 60 digits, written from the textbook formulas; slow and obvious."""

import mpmath as mp

DIGITS = 60


def cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def pdf(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def price(forward, strike, years, sigma, is_call):
    """Undiscounted value, in the unit of the forward; arguments may be mpf."""
    forward, strike, years, sigma = (mp.mpf(float(v)) if not isinstance(v, mp.mpf) else v
                                     for v in (forward, strike, years, sigma))
    sign = 1 if is_call else -1
    deviation = sigma * mp.sqrt(years)
    if deviation == 0:
        return max(sign * (forward - strike), mp.mpf(0))
    d1 = mp.log(forward / strike) / deviation + deviation / 2
    d2 = d1 - deviation
    return sign * (forward * cdf(sign * d1) - strike * cdf(sign * d2))


def conditioning(function, arguments, which):
    """Largest |x_i f_i / f| over the arguments named by `which`, by a difference in 60 digits."""
    with mp.workdps(2 * DIGITS):
        base = function(*arguments)
        if base == 0:
            return mp.mpf(0)
        worst = mp.mpf(0)
        for i in which:
            step = mp.mpf(10) ** (-DIGITS // 2)
            moved = [mp.mpf(float(a)) if j in which else a for j, a in enumerate(arguments)]
            moved[i] *= 1 + step
            worst = max(worst, abs((function(*moved) - base) / (base * step)))
        return worst
