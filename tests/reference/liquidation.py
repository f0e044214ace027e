"""Liquidation and bankruptcy price of one position, in exact rational arithmetic, by looking at each tier in turn."""

from fractions import Fraction


def equity(position, price):
    """Fund plus profit less closing fee, at a price."""
    q, entry, fund, fee = (Fraction(position[name]) for name in ("quantity", "entry", "fund", "fee"))
    price = Fraction(price)
    if position["inverse"]:
        return fund + q * (1 / entry - 1 / price) - abs(q) / price * fee
    return fund + q * (price - entry) - abs(q) * price * fee


def maintenance(position, price):
    """What this position and the others require at a price; the tier is the one whose floor the notional has passed."""
    size = abs(Fraction(position["quantity"]))
    at = Fraction(position["entry"]) if position["on_entry"] else Fraction(price)
    notional = size / at if position["inverse"] else size * at
    rate, amount = Fraction(0), Fraction(0)
    for floor, tier_rate, tier_amount in position["tiers"]:
        if notional >= Fraction(floor):
            rate, amount = Fraction(tier_rate), Fraction(tier_amount)
    return notional * rate - amount + Fraction(position["other_maintenance"])


def price_by_bisection(position, required):
    """Where equity falls to `required(price)`: "none", "always", or a price within one part in 2**80.

    Needs nothing but that a long loses when the price falls and a short when it rises.
    """
    low, high = Fraction(1, 2**200), Fraction(2**200)
    adverse, kind = (low, high), position["quantity"]
    worst, best = adverse if kind > 0 else (high, low)
    if equity(position, best) <= required(best):
        return "always"
    if equity(position, worst) > required(worst):
        return "none"
    while abs(high - low) > low / 2**80:
        middle = Fraction(2) ** ((_exponent(low) + _exponent(high)) // 2) if high > 4 * low else (low + high) / 2
        bad = equity(position, middle) <= required(middle)
        if bad == (kind > 0):
            low = middle
        else:
            high = middle
    return low if kind > 0 else high


def _exponent(value):
    return value.numerator.bit_length() - value.denominator.bit_length()
