"""The error tree, and the one place where a kernel's code becomes an exception."""

from __future__ import annotations

from typing import NoReturn


class MarginError(Exception):
    """Base of every error that margincore raises on purpose."""


class ShapeError(MarginError, ValueError):
    """An array has the wrong length, number of axes or data type."""


class NotFiniteError(MarginError, ValueError):
    """A number that must be finite was NaN or infinite."""


class RangeError(MarginError, ValueError):
    """A number lies outside the range its rule allows."""


class UnknownInstrument(MarginError, KeyError):
    """A symbol or column names no instrument, asset or underlying of these contracts."""

    def __str__(self) -> str:  # KeyError would print the quoted repr
        return str(self.args[0]) if self.args else ""


class CapacityError(MarginError, OverflowError):
    """A fixed capacity (rows, slots, scenarios) is used up."""


class StaleAccount(MarginError, LookupError):
    """An account handle outlived its account."""


class MissingDataError(MarginError, LookupError):
    """The market does not know what the question needs."""


class MissingPackageError(MarginError, ImportError):
    """An optional package, which only this call needs, is not installed."""


class NotConvergedError(MarginError, ArithmeticError):
    """An optimiser or solver stopped without an answer it can stand behind."""


# Codes of margincore.h; every negative return of a kernel is one of these.
ERRORS: dict[int, tuple[type[MarginError], str]] = {
    -1: (StaleAccount, "row must be an open row of this book"),
    -2: (UnknownInstrument, "column must be a column of these contracts"),
    -3: (CapacityError, "capacity of the book is used up"),
    -4: (NotFiniteError, "value must be finite"),
    -5: (RangeError, "value must be inside its range"),
    -6: (ShapeError, "array must have the stated shape"),
}


def raise_code(code: int, detail: str = "") -> NoReturn:
    """Raise the exception of a kernel's negative return code, with `detail` behind the rule."""
    kind, rule = ERRORS.get(code, (MarginError, f"unknown code {code}"))
    raise kind(f"{rule}{': ' + detail if detail else ''}")
