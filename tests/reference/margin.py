"""The slow obvious twin of margincore.kernels.margin: one account, one loop per sentence of the rules.

A row is a list of (column, quantity, entry, buy, sell); a market is a dictionary of the arrays of `set_market`; a plan
is the list of `set_plan`.
"""

import math

import numpy as np
from reference import shortfall

CASH, OPTION = 0, 3
UNKNOWN, LIQUIDATION, MARGIN_CALL, HEALTHY = range(4)


def unknown(market, column):
    numbers = [market[name][column] for name in ("value", "notional", "charge_short", "charge_any", "floor_short")]
    return not (np.isfinite(numbers).all() and np.isfinite(market["risk"][column]).all() and min(numbers[1:]) >= 0.0)


def asset_equities(row, market, table):
    """Balance, plus value of positions, less what futures owe at entry, per settlement asset."""
    equity = {}
    for column, quantity, entry, _, _ in row:
        asset = table["settle"][column]
        if column == asset:
            worth = quantity
        elif unknown(market, column):
            worth = math.nan
        else:
            worth = quantity * market["value"][column]
            if table["kind"][column] != OPTION:
                worth -= entry
        equity[asset] = equity.get(asset, 0.0) + worth
    return equity


def spot_of(market, asset):
    spot = market["spot"][asset]
    if market["shocked"][asset] and not np.isfinite(market["risk"][asset]).all():
        return math.nan
    return spot if 0.0 < spot < math.inf else math.nan


def base_equity(equities, market):
    """Haircut on what is positive; a debt counts in full."""
    total = 0.0
    for asset, amount in equities.items():
        if amount == 0.0:
            continue
        total += amount * spot_of(market, asset) * (market["kept"][asset] if amount > 0.0 else 1.0)
    return total


def scan(row, market, table, numbers, equities):
    maintenance_ratio, initial_ratio, gain_kept, floors = numbers
    scenarios = np.shape(market["risk"])[1]
    positions, orders, floor, floor_orders = {}, {}, {}, {}
    for column, quantity, _, buy, sell in row:
        cash = table["kind"][column] == CASH
        if cash and not market["shocked"][column]:
            continue
        held = equities[column] if cash else quantity
        risk = [0.0 if math.isnan(x) else x for x in market["risk"][column]]
        key = market["offset_set"][column], market["group"][column]
        pnl = positions.setdefault(key, [0.0] * scenarios)
        further = orders.setdefault(key, [0.0] * scenarios)
        for s in range(scenarios):
            pnl[s] += held * risk[s]
            further[s] += min(0.0, buy * risk[s], -sell * risk[s])
        least = 0.0 if cash else market["floor_short"][column]
        floor[key[0]] = floor.get(key[0], 0.0) + max(-quantity, 0.0) * least
        floor_orders[key[0]] = floor_orders.get(key[0], 0.0) + max(sell - quantity, 0.0) * least

    def requirement(groups, least):
        total = 0.0
        for name in {key[0] for key in groups}:
            outcomes = []
            for s in range(scenarios):
                parts = [pnl[s] for key, pnl in groups.items() if key[0] == name]
                outcomes.append(sum(x if x < 0.0 else gain_kept * x for x in parts))
            total += max(0.0, -min(outcomes), least[name] if floors else 0.0)
        return total

    total = requirement(positions, floor)
    both = {key: [a + b for a, b in zip(positions[key], orders[key], strict=True)] for key in positions}
    with_orders = requirement(both, floor_orders)
    return maintenance_ratio * total, initial_ratio * total, initial_ratio * (with_orders - total)


def charge(row, market, table, numbers, any_side):
    total = with_orders = 0.0
    for column, quantity, _, buy, sell in row:
        if table["kind"][column] == CASH:
            continue
        if any_side:
            total += abs(quantity) * market["charge_any"][column]
            with_orders += max(abs(quantity + buy), abs(quantity - sell)) * market["charge_any"][column]
        else:
            total += max(-quantity, 0.0) * market["charge_short"][column]
            with_orders += max(sell - quantity, 0.0) * market["charge_short"][column]
    return numbers[0] * total, numbers[1] * total, numbers[1] * (with_orders - total)


def tier(lines, notional, chosen_rate):
    """The tier of a notional by search: its maintenance, and its initial margin at the higher of both rates."""
    maintenance, initial_rate = 0.0, chosen_rate
    for floor, rate, amount, rate_initial in lines:
        if notional >= floor:
            maintenance = max(maintenance, rate * notional - amount)
            initial_rate = max(initial_rate, rate_initial)
    return maintenance, initial_rate * notional


def tiers(row, market, table, numbers, lines, chosen_rate):
    maintenance = initial = orders = 0.0
    for column, quantity, entry, buy, sell in row:
        if table["kind"][column] == CASH:
            continue
        option, unit = table["kind"][column] == OPTION, market["notional"][column]
        on_entry = numbers[0] and not option
        spot = spot_of(market, table["settle"][column])

        def size(contracts, option=option):
            return max(-contracts, 0.0) if option else abs(contracts)

        now = abs(entry) if on_entry else size(quantity) * unit
        here, here_initial = tier(lines[column], now, chosen_rate)
        worst = here_initial
        for after in (quantity + buy, quantity - sell):
            if on_entry and after * quantity > 0.0:
                added = abs(after) - abs(quantity)
                notional = now + added * unit if added > 0.0 else 0.0
            else:
                notional = size(after) * unit
            worst = max(worst, tier(lines[column], notional, chosen_rate)[1])
        maintenance += spot * here if here else 0.0
        initial += spot * here_initial if here_initial else 0.0
        orders += spot * (worst - here_initial) if buy or sell else 0.0
    return maintenance, initial, orders


def check(row, market, table, plan, chosen_rate=0.0):
    """Equity, initial and maintenance margin, status, and the parts of one account."""
    equities = asset_equities(row, market, table)
    equity = base_equity(equities, market)
    parts = []
    for code, _, numbers, lines in plan:
        if code == "scan":
            parts.append(scan(row, market, table, numbers, equities))
        elif code == "tiers":
            parts.append(tiers(row, market, table, numbers, lines, chosen_rate))
        elif code in ("value at risk", "expected shortfall"):
            parts.append(shortfall.amounts(row, market, table, code == "expected shortfall", numbers, lines, equities))
        else:
            parts.append(charge(row, market, table, numbers, code == "closing charge"))
    maintenance = sum(part[0] for part in parts)
    initial = max(sum(part[1] for part in parts) + sum(part[2] for part in parts), maintenance)
    if not np.isfinite([equity, maintenance, initial]).all() or not plan:
        return equity, math.nan, math.nan, UNKNOWN, parts
    idle = all(table["kind"][column] == CASH and quantity >= 0.0 for column, quantity, *_ in row)
    if equity >= initial and (equity > maintenance or idle):
        return equity, initial, maintenance, HEALTHY, parts
    return equity, initial, maintenance, MARGIN_CALL if equity > maintenance else LIQUIDATION, parts
