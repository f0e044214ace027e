"""Log densities of a return of variance h under the three laws, as the papers write them."""

import math


def log_density(e, h, law, parameters):
    if law == "normal":
        return -0.5 * (math.log(2 * math.pi) + math.log(h) + e * e / h)
    nu = parameters[0]
    c = math.gamma((nu + 1) / 2) / (math.sqrt(math.pi * (nu - 2)) * math.gamma(nu / 2))
    z, skew = e / math.sqrt(h), parameters[1] if law == "skew_t" else 0.0
    a = 4 * skew * c * (nu - 2) / (nu - 1)
    b = math.sqrt(1 + 3 * skew ** 2 - a ** 2)
    side = 1 - skew if z < -a / b else 1 + skew
    kernel = 1 + ((b * z + a) / side) ** 2 / (nu - 2)
    return math.log(b * c * kernel ** (-(nu + 1) / 2)) - 0.5 * math.log(h)
