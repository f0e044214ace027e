"""An immutable bag of positions and balances, for questions without an account and for snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from margincore.errors import RangeError
from margincore.units import number

_EMPTY: Mapping[str, float] = MappingProxyType({})


def _amounts(argument: str, values: Any, *, positive: bool = False) -> Mapping[str, float]:
    if not isinstance(values, Mapping):
        raise RangeError(f"{argument} must map names to numbers, was {values!r}")
    bound = 0.0 if positive else None
    return MappingProxyType({name: number(f"{argument}[{name!r}]", x, above=bound) for name, x in values.items()})


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Quantities by symbol, balances by asset.

    Parameters
    ----------
    positions : mapping of str to float
        Contracts, signed.
    balances : mapping of str to float, optional
        Units of each asset, signed.
    entry : mapping of str to float, optional
        Average price at which perpetuals and futures were opened; the mark where absent, so that they have no profit
        yet.  Options are paid: their premium is already out of the balances.

    Examples
    --------
    >>> Portfolio({"BTC-PERP": 5.0}) + Portfolio({"BTC-PERP": -2.0}, {"USDC": 100.0})
    Portfolio(positions={'BTC-PERP': 3.0}, balances={'USDC': 100.0}, entry={})
    """

    positions: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    balances: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    entry: Mapping[str, float] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", _amounts("positions", self.positions))
        object.__setattr__(self, "balances", _amounts("balances", self.balances))
        object.__setattr__(self, "entry", _amounts("entry", self.entry, positive=True))
        for symbol in self.entry:
            if symbol not in self.positions:
                raise RangeError(f"entry must name positions, named {symbol!r}")

    def __add__(self, other: Portfolio) -> Portfolio:
        """Both together; a symbol with an entry price on either side cannot be added."""
        if not isinstance(other, Portfolio):
            return NotImplemented
        for symbol in {*self.entry, *other.entry}:
            if symbol in self.positions and symbol in other.positions:
                raise RangeError(f"entry must be absent to add positions, {symbol!r} has one on either side")
        return Portfolio(_sum(self.positions, other.positions), _sum(self.balances, other.balances),
                         {**self.entry, **other.entry})

    def scaled(self, factor: float) -> Portfolio:
        """Every position and balance times `factor`."""
        factor = number("factor", factor)
        return Portfolio({s: factor * q for s, q in self.positions.items()},
                         {a: factor * x for a, x in self.balances.items()}, self.entry)

    def __iter__(self) -> Iterator[str]:
        return iter(self.positions)

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={dict(getattr(self, name))}" for name in ("positions", "balances", "entry"))
        return f"Portfolio({parts})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Portfolio, (dict(self.positions), dict(self.balances), dict(self.entry))


def _sum(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    total = dict(a)
    for name, amount in b.items():
        total[name] = total.get(name, 0.0) + amount
    return total
