"""Black-76 in 60 digits, written from the textbook formulas; slow and obvious."""

import mpmath as mp

DIGITS = 60


def real(value):
    return value if isinstance(value, mp.mpf) else mp.mpf(float(value))


def cdf(x):
    return mp.erfc(-x / mp.sqrt(2)) / 2


def pdf(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def price(forward, strike, years, sigma, is_call, rate=0.0):
    """Value e^(-rT) B(F, K, sigma, T), in the unit of the forward; arguments may be mpf."""
    forward, strike, years, sigma, rate = (real(v) for v in (forward, strike, years, sigma, rate))
    sign = 1 if is_call else -1
    deviation = sigma * mp.sqrt(years)
    if deviation == 0:
        return mp.exp(-rate * years) * max(sign * (forward - strike), mp.mpf(0))
    d1 = mp.log(forward / strike) / deviation + deviation / 2
    d2 = d1 - deviation
    return mp.exp(-rate * years) * sign * (forward * cdf(sign * d1) - strike * cdf(sign * d2))


def inverse_price(forward, strike, years, sigma, is_call, rate=0.0):
    """Value in coin of a coin-settled option."""
    return price(forward, strike, years, sigma, is_call, rate) / real(forward)


def greeks(forward, strike, years, sigma, is_call, rate=0.0):
    """Price, delta, gamma, vega, theta, rho, vanna, volga, charm by the forward (Haug 2007, chapter 2)."""
    forward, strike, years, sigma, rate = (real(v) for v in (forward, strike, years, sigma, rate))
    sign, root = (1 if is_call else -1), mp.sqrt(years)
    d1 = mp.log(forward / strike) / (sigma * root) + sigma * root / 2
    d2 = d1 - sigma * root
    discount = mp.exp(-rate * years)
    value = discount * sign * (forward * cdf(sign * d1) - strike * cdf(sign * d2))
    vega = discount * forward * pdf(d1) * root
    return {
        "price": value,
        "delta": discount * sign * cdf(sign * d1),
        "gamma": discount * pdf(d1) / (forward * sigma * root),
        "vega": vega,
        "theta": -discount * forward * pdf(d1) * sigma / (2 * root) + rate * value,
        "rho": -years * value,
        "vanna": -discount * pdf(d1) * d2 / sigma,
        "volga": vega * d1 * d2 / sigma,
        "charm": rate * discount * sign * cdf(sign * d1) + discount * pdf(d1) * d2 / (2 * years),
    }


def inverse_greeks(forward, strike, years, sigma, is_call, rate=0.0):
    """The same for the value in coin, B / F, by the quotient rule; it cancels, so it wants digits to spare."""
    forward = real(forward)
    linear = greeks(forward, strike, years, sigma, is_call, rate)
    delta = linear["delta"] / forward - linear["price"] / forward**2
    return {
        "price": linear["price"] / forward,
        "delta": delta,
        "gamma": linear["gamma"] / forward - 2 * delta / forward,
        "vega": linear["vega"] / forward,
        "theta": linear["theta"] / forward,
        "rho": linear["rho"] / forward,
        "vanna": linear["vanna"] / forward - linear["vega"] / forward**2,
        "volga": linear["volga"] / forward,
        "charm": linear["charm"] / forward - linear["theta"] / forward**2,
    }


def conditioning(function, arguments, which):
    """Largest |x_i f_i / f| over the arguments named by `which`, by a difference in 60 digits."""
    with mp.workdps(max(mp.mp.dps, 2 * DIGITS)):
        base = function(*arguments)
        if base == 0:
            return mp.mpf(0)
        worst = mp.mpf(0)
        for i in which:
            step = mp.mpf(10) ** (-DIGITS // 2)
            moved = [real(a) if j in which else a for j, a in enumerate(arguments)]
            moved[i] *= 1 + step
            worst = max(worst, abs((function(*moved) - base) / (base * step)))
        return worst
