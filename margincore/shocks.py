"""Shocks of volatility: of one kind for a whole smile, or by moneyness and tenor as a surface once moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from margincore.errors import RangeError, ShapeError
from margincore.units import Floats, choice, floats, number

KINDS = ("same", "up", "down", "scale", "add")  # in the order of the codes of the kernel


@dataclass(frozen=True, slots=True)
class VolatilityShock:
    """Shock of annual volatility in one scenario.

    Parameters
    ----------
    kind : {"same", "up", "down", "scale", "add"}
        Up and down stretch the range of the underlying by its tenor factor ``m = (30 / days)^power``:
        ``sigma * (1 + size * up * m)`` and ``sigma * (1 - size * down * m)``.  Scale is the parallel
        ``sigma * (1 + size)``, add is ``sigma + size``.
    size : float
        Multiple of the range (at least 0) for up and down; fraction above -1 for scale; volatility for add.
    """

    kind: str = "same"
    size: float = 1.0

    def __post_init__(self) -> None:
        choice("kind", self.kind, KINDS)
        size = number("size", self.size)
        if self.kind in ("up", "down"):
            size = number("size", size, least=0.0)
        elif self.kind == "scale":
            size = number("size", size, above=-1.0)
        object.__setattr__(self, "size", 0.0 if self.kind == "same" else size)

    def __str__(self) -> str:
        if self.kind == "scale":
            return f"vol {100.0 * self.size:+.4g} %"
        if self.kind == "add":
            return f"vol {100.0 * self.size:+.4g} points"
        several = "" if self.kind == "same" or self.size == 1.0 else f" x {self.size:.4g}"
        return f"vol {self.kind}{several}"


SAME = VolatilityShock()
Shock: TypeAlias = VolatilityShock | str | float


def shock(value: Shock) -> VolatilityShock:
    """A shock from its kind ("same", "up", "down"), from a fraction (parallel and relative), or itself."""
    if isinstance(value, VolatilityShock):
        return value
    if isinstance(value, str):
        return VolatilityShock(choice("volatility", value, KINDS[:3]))
    size = number("volatility", value)
    return VolatilityShock("scale", size) if size else SAME


@dataclass(frozen=True, slots=True, kw_only=True)
class VolatilityRange:
    """Size of the up and down shocks by days to expiry: ``range * (30 / max(days, days_floor))^power``.

    Parameters
    ----------
    up, down : float
        Range at 30 days, fractions of volatility.
    short_power, long_power : float
        Power up to and beyond 30 days; at 30 days the factor is one under either.
    floor : float
        Least volatility after an up shock.
    """

    up: float = 0.5
    down: float = 0.25
    short_power: float = 0.3
    long_power: float = 0.13
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up", "down", "short_power", "long_power", "floor"):
            object.__setattr__(self, name, number(name, getattr(self, name), least=0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VolatilityMoves:
    """Moves of an implied-volatility surface by scenario, at fixed moneyness and tenor.

    Between nodes the logarithm is linear in moneyness and in the square root of the tenor; beyond them it is flat.

    Parameters
    ----------
    moneyness : tuple of float
        Nodes of ``ln(strike / forward) / sqrt(years)``, rising.
    tenors_days : tuple of float
        Nodes of days to expiry, above 0, rising.
    log_ratio : float64 array, shape (scenarios, tenors, moneyness)
        ``ln(volatility after / volatility before)``.
    """

    moneyness: tuple[float, ...]
    tenors_days: tuple[float, ...]
    log_ratio: Floats

    def __post_init__(self) -> None:
        nodes, tenors = floats("moneyness", self.moneyness), floats("tenors_days", self.tenors_days)
        for name, values in (("moneyness", nodes), ("tenors_days", tenors)):
            if (np.diff(values) <= 0.0).any():
                raise RangeError(f"{name} must rise without duplicates, was {values.tolist()!r}")
            object.__setattr__(self, name, tuple(values.tolist()))
        if tenors[0] <= 0.0:
            raise RangeError(f"tenors_days must be above 0, was {float(tenors[0])!r}")
        table = floats("log_ratio", self.log_ratio, ndim=3).copy()
        if table.shape[1:] != (tenors.size, nodes.size):
            raise ShapeError(f"log_ratio must have shape (scenarios, {tenors.size}, {nodes.size}), had {table.shape}")
        table.flags.writeable = False
        object.__setattr__(self, "log_ratio", table)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, VolatilityMoves) and self.same_nodes(other)
                and np.array_equal(self.log_ratio, other.log_ratio))

    def __len__(self) -> int:
        return len(self.log_ratio)

    def same_nodes(self, other: VolatilityMoves) -> bool:
        """Whether both are given at the same moneyness and tenors."""
        return (self.moneyness, self.tenors_days) == (other.moneyness, other.tenors_days)

    def with_table(self, log_ratio: Floats) -> VolatilityMoves:
        """Other moves at the same nodes."""
        return VolatilityMoves(moneyness=self.moneyness, tenors_days=self.tenors_days, log_ratio=log_ratio)
