"""What can be held: four kinds of contract, and the table that turns their symbols into columns, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from margincore.errors import RangeError, UnknownInstrument
from margincore.units import NS_MAX, Right, integer, number, several

# Kinds of column, as in margincore.h.
CASH, PERPETUAL, FUTURE, OPTION = range(4)


def _name(argument: str, value: str) -> None:
    if not isinstance(value, str) or not value or value != value.strip():
        raise RangeError(f"{argument} must be a non-empty name without outer blanks, was {value!r}")


def _common(contract: Perpetual | Future | Option) -> None:
    for argument in ("symbol", "underlying", "settle"):
        _name(argument, getattr(contract, argument))
    object.__setattr__(contract, "multiplier", number("multiplier", contract.multiplier, above=0.0))
    if not isinstance(contract.inverse, (bool, np.bool_)):
        raise RangeError(f"inverse must be True or False, was {contract.inverse!r}")
    if contract.inverse and contract.settle != contract.underlying:
        raise RangeError(f"settle must be the underlying {contract.underlying!r} of an inverse contract, "
                         f"was {contract.settle!r}")


@dataclass(frozen=True, slots=True)
class Spot:
    """A pair that exchanges one asset for another; trading it moves two balances and opens no position.

    Parameters
    ----------
    symbol : str
        Name of the pair, for example ``"BTC/USDC"``.
    underlying : str
        Asset bought by a positive quantity, in units of the asset.
    settle : str
        Asset that pays: ``quantity * price`` of it.
    """

    symbol: str
    underlying: str = field(kw_only=True)
    settle: str = field(kw_only=True)

    def __post_init__(self) -> None:
        for argument in ("symbol", "underlying", "settle"):
            _name(argument, getattr(self, argument))
        if self.underlying == self.settle:
            raise RangeError(f"settle must differ from the underlying, was {self.settle!r}")


@dataclass(frozen=True, slots=True)
class Perpetual:
    """A perpetual future.

    Parameters
    ----------
    symbol : str
    underlying : str
        Whose price moves it.
    settle : str
        Asset in which profit is paid.
    multiplier : float
        Linear: units of the underlying per contract.  Inverse: face value per contract, in quote currency.
    inverse : bool
        Coin-settled: one contract held from `entry` to `price` earns ``multiplier * (1/entry - 1/price)`` coin.
    """

    symbol: str
    underlying: str = field(kw_only=True)
    settle: str = field(kw_only=True)
    multiplier: float = field(default=1.0, kw_only=True)
    inverse: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _common(self)


@dataclass(frozen=True, slots=True)
class Future:
    """A dated future; as `Perpetual`, with an expiry in nanoseconds since 1970 UTC."""

    symbol: str
    underlying: str = field(kw_only=True)
    settle: str = field(kw_only=True)
    expiry_ns: int = field(kw_only=True)
    multiplier: float = field(default=1.0, kw_only=True)
    inverse: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _common(self)
        object.__setattr__(self, "expiry_ns", integer("expiry_ns", self.expiry_ns, least=1, most=NS_MAX))


@dataclass(frozen=True, slots=True)
class Option:
    """A European option, premium paid up front.

    Parameters
    ----------
    symbol : str
    underlying : str
    settle : str
        Asset of premium and payoff.
    strike : float
        Positive, quote currency.
    expiry_ns : int
        Nanoseconds since 1970 UTC.
    right : Right or {"call", "put"}
    multiplier : float
        Units of the underlying per contract, linear and inverse alike.
    inverse : bool
        Coin-settled: price and payoff are in coin, the linear ones divided by the underlying's price.
    """

    symbol: str
    underlying: str = field(kw_only=True)
    settle: str = field(kw_only=True)
    strike: float = field(kw_only=True)
    expiry_ns: int = field(kw_only=True)
    right: Right | str = field(kw_only=True)
    multiplier: float = field(default=1.0, kw_only=True)
    inverse: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        _common(self)
        object.__setattr__(self, "strike", number("strike", self.strike, above=0.0))
        object.__setattr__(self, "expiry_ns", integer("expiry_ns", self.expiry_ns, least=1, most=NS_MAX))
        names = {"put": Right.PUT, "call": Right.CALL, "P": Right.PUT, "C": Right.CALL}
        right = names.get(self.right, self.right) if isinstance(self.right, str) else self.right
        if not isinstance(right, Right):
            raise RangeError(f"right must be 'call' or 'put', was {self.right!r}")
        object.__setattr__(self, "right", right)


Contract: TypeAlias = Spot | Perpetual | Future | Option
Derivative: TypeAlias = Perpetual | Future | Option


class Contracts:
    """The resolved table: symbols to columns, and one read-only array per property of a column.

    The first columns are the assets (balances are positions in them), the rest the derivatives in the order given.
    A `Spot` has no column of its own: it exchanges two assets.

    Parameters
    ----------
    contracts : iterable of Spot, Perpetual, Future, Option
        Symbols must be unique, and differ from the names of assets.
    assets : iterable of str, optional
        Further assets that accounts may hold.  Those that settle a contract are found by themselves.

    Attributes
    ----------
    column : mapping of str to int
        Column of each asset and derivative.
    assets : tuple of str
        Names of the asset columns ``0 .. len(assets) - 1``.
    underlyings : tuple of str
        Names of everything that has a price of its own: underlyings and assets.  Risk groups follow this order.
    kind, underlying, settle : int32 array, shape (columns,)
        Code of `margincore.h`; index into `underlyings`; column of the settlement asset (its own, for an asset).
    multiplier, strike : float64 array, shape (columns,)
        Strike NaN unless an option.
    expiry_ns : int64 array, shape (columns,)
        Zero where nothing expires.
    inverse, is_call : uint8 array, shape (columns,)
    """

    __slots__ = ("assets", "by_symbol", "column", "derivatives", "expiry_ns", "inverse", "is_call", "kind",
                 "multiplier", "settle", "spots", "strike", "symbols", "underlying", "underlyings")

    def __init__(self, contracts: Iterable[Contract], *, assets: Iterable[str] = ()) -> None:
        listed = several("contracts", contracts)
        for item in listed:
            if not isinstance(item, (Spot, Perpetual, Future, Option)):
                raise RangeError(f"contracts must hold Spot, Perpetual, Future or Option, held {item!r}")
        names: dict[str, None] = {}
        for item in listed:
            names[item.settle] = None
            if isinstance(item, Spot):
                names[item.underlying] = None
        for asset in several("assets", assets):
            _name("assets", asset)
            names[asset] = None
        self.assets: tuple[str, ...] = tuple(names)
        self.underlyings: tuple[str, ...] = tuple({**names, **{item.underlying: None for item in listed}})
        by_symbol: dict[str, Contract] = {}
        for item in listed:
            if item.symbol in by_symbol or item.symbol in names:
                raise RangeError(f"symbol must be unique, was {item.symbol!r} twice")
            by_symbol[item.symbol] = item
        self.by_symbol: Mapping[str, Contract] = MappingProxyType(by_symbol)
        self.spots: tuple[Spot, ...] = tuple(item for item in listed if isinstance(item, Spot))
        self.derivatives: tuple[Derivative, ...] = tuple(item for item in listed if not isinstance(item, Spot))
        self.symbols: tuple[str, ...] = self.assets + tuple(item.symbol for item in self.derivatives)
        self.column: Mapping[str, int] = MappingProxyType({s: i for i, s in enumerate(self.symbols)})
        self._resolve()

    def _resolve(self) -> None:
        columns, cash = len(self.symbols), len(self.assets)
        index = {name: i for i, name in enumerate(self.underlyings)}
        self.kind = np.zeros(columns, np.int32)
        self.underlying = np.arange(columns, dtype=np.int32)
        self.settle = np.arange(columns, dtype=np.int32)
        self.multiplier = np.ones(columns)
        self.strike = np.full(columns, np.nan)
        self.expiry_ns = np.zeros(columns, np.int64)
        self.inverse = np.zeros(columns, np.uint8)
        self.is_call = np.zeros(columns, np.uint8)
        kinds = {Perpetual: PERPETUAL, Future: FUTURE, Option: OPTION}
        for at, item in enumerate(self.derivatives, start=cash):
            self.kind[at] = kinds[type(item)]
            self.underlying[at] = index[item.underlying]
            self.settle[at] = self.column[item.settle]
            self.multiplier[at] = item.multiplier
            self.inverse[at] = item.inverse
            if not isinstance(item, Perpetual):
                self.expiry_ns[at] = item.expiry_ns
            if isinstance(item, Option):
                self.strike[at] = item.strike
                self.is_call[at] = item.right == Right.CALL
        for name in ("kind", "underlying", "settle", "multiplier", "strike", "expiry_ns", "inverse", "is_call"):
            getattr(self, name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self.column or symbol in self.by_symbol

    def __repr__(self) -> str:
        return f"Contracts({len(self.assets)} assets, {len(self.spots)} pairs, {len(self.derivatives)} derivatives)"

    def __reduce__(self) -> tuple[Any, ...]:        # views of mappings do not pickle, the contracts do
        return _restore, (tuple(self.by_symbol.values()), self.assets)

    def column_of(self, symbol: str) -> int:
        """Column of an asset or derivative, or `UnknownInstrument`."""
        try:
            return self.column[symbol]
        except (KeyError, TypeError):
            raise UnknownInstrument(f"symbol must be one of these contracts, was {symbol!r}") from None

    def asset_column(self, asset: str) -> int:
        """Column of an asset, or `UnknownInstrument`."""
        column = self.column.get(asset, -1) if isinstance(asset, str) else -1
        if not 0 <= column < len(self.assets):
            raise UnknownInstrument(f"asset must be one of {', '.join(self.assets)}, was {asset!r}")
        return column

    def derivative_column(self, symbol: str) -> int:
        """Column of a derivative, live or not, or `UnknownInstrument`."""
        if not isinstance(symbol, str) or self.column.get(symbol, -1) < len(self.assets):
            raise UnknownInstrument(f"symbol must be a derivative of these contracts, was {symbol!r}")
        return self.column[symbol]


def _restore(contracts: tuple[Contract, ...], assets: tuple[str, ...]) -> Contracts:
    return Contracts(contracts, assets=assets)
