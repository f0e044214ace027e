"""What happens to contracts: funding and settlement, turned into amounts per contract."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from margincore.contracts import Contract, Contracts, Derivative, Future, Option, Perpetual, Spot
from margincore.errors import RangeError, UnknownInstrument
from margincore.units import Right, number


def funding_amount(item: Contract, rate: float, mark: float) -> float:
    """Settlement asset that a long pays per contract: ``rate * value`` at the mark."""
    if not isinstance(item, Perpetual):
        raise RangeError(f"rates must name perpetuals, named {item.symbol!r}")
    value = item.multiplier / mark if item.inverse else item.multiplier * mark
    return number(f"rates[{item.symbol!r}]", rate, above=-1.0, below=1.0) * value


def settlement_value(item: Derivative, price: float) -> float:
    """Settlement price of a future; payoff per unit of an option, in its settlement asset."""
    if not isinstance(item, Option):
        return price
    payoff = max(price - item.strike if item.right == Right.CALL else item.strike - price, 0.0)
    return payoff / price if item.inverse else payoff


def settlements(contracts: Contracts, settled: Collection[str], prices: Mapping[str, float],
                expiry_ns: int | None) -> dict[str, float]:
    """`settlement_value` by symbol, of prices by symbol, or with `expiry_ns` by underlying."""
    values: dict[str, float] = {}
    for name, price in prices.items():
        price = number(f"prices[{name!r}]", price, above=0.0)
        for item in _named(contracts, settled, name, expiry_ns):
            if isinstance(item, (Spot, Perpetual)):
                raise RangeError(f"prices must name futures and options, named {item.symbol!r}")
            values[item.symbol] = settlement_value(item, price)
    return values


def _named(contracts: Contracts, settled: Collection[str], name: str, expiry_ns: int | None) -> list[Contract]:
    if expiry_ns is None:
        if name not in contracts.by_symbol or name in settled:
            raise UnknownInstrument(f"prices must name contracts that are not settled yet, named {name!r}")
        return [contracts.by_symbol[name]]
    members: list[Contract] = [item for item in contracts.derivatives if isinstance(item, (Future, Option))
                               and (item.underlying, item.expiry_ns) == (name, expiry_ns)
                               and item.symbol not in settled]
    if not members:
        raise UnknownInstrument(f"prices must name an underlying of contracts expiring at {expiry_ns}, named {name!r}")
    return members
