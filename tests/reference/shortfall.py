"""The slow obvious twin of margincore.kernels.shortfall: the tail of a row's profit, one loop per sentence.

Levels are binary floats here, so a rank is taken from the decimal number that the level is written as.
"""

import math

import numpy as np
from reference.risk import losses

CONVENTIONS = ("upper", "lower", "interpolated")


def measure(pnl, is_shortfall, convention, level, weights):
    upper, lower, interpolated, shortfall = losses(pnl, repr(level), weights)
    return shortfall if is_shortfall else (upper, lower, interpolated)[int(convention)]


def loss_of(pnl, is_shortfall, numbers, weights):
    """Loss of one profit vector: base block, and what the stressed block makes of it."""
    convention, level, count, combine, share, stressed_level, stressed_count = numbers[5:]
    count, stressed_count = int(count), int(stressed_count)
    base = measure(pnl[:count], is_shortfall, convention, level, None if weights is None else weights[:count])
    if not combine:
        return base
    stressed = measure(pnl[count:count + stressed_count], is_shortfall, convention, stressed_level,
                       None if weights is None else weights[count:])
    return (1.0 - share) * base + share * stressed if combine == 1 else max(base, stressed)


def amounts(row, market, table, is_shortfall, numbers, weights, equities):
    """Maintenance, initial and further initial margin of open orders."""
    maintenance_ratio, initial_ratio, gain_kept, floors, floor_rate = numbers[:5]
    scenarios = np.shape(market["risk"])[1]
    groups, floor, floor_orders = {}, {}, {}
    for column, quantity, _, buy, sell in row:
        cash = table["kind"][column] == 0
        if cash and not market["shocked"][column]:
            continue
        held = equities[column] if cash else quantity
        risk = [0.0 if math.isnan(x) else x for x in market["risk"][column]]
        name = market["offset_set"][column]
        key = name, market["group"][column] if gain_kept != 1.0 else None
        plain, ordered = groups.setdefault(key, ([0.0] * scenarios, [0.0] * scenarios))
        for s in range(scenarios):
            plain[s] += held * risk[s]
            ordered[s] += held * risk[s] + min(0.0, buy * risk[s], -sell * risk[s])
        floor.setdefault(name, 0.0)
        floor_orders.setdefault(name, 0.0)
        if cash:
            continue

        def least(contracts, column=column):
            option = table["kind"][column] == 3
            size = max(-contracts, 0.0) if option else abs(contracts)
            short = max(-contracts, 0.0) * market["floor_short"][column] if floors else 0.0
            return max(short, floor_rate * size * market["notional"][column] * market["spot"][table["settle"][column]])

        floor[name] += least(quantity)
        floor_orders[name] += max(least(quantity), least(quantity + buy), least(quantity - sell))

    def total(at, least):
        found = 0.0
        for name in floor:
            whole = [0.0] * scenarios
            for key, pair in groups.items():
                if key[0] == name:
                    whole = [a + (b if b < 0.0 else gain_kept * b) for a, b in zip(whole, pair[at], strict=True)]
            found += max(0.0, least[name], loss_of(whole, is_shortfall, numbers, weights))
        return found

    plain, ordered = total(0, floor), total(1, floor_orders)
    return maintenance_ratio * plain, initial_ratio * plain, initial_ratio * (ordered - plain)
