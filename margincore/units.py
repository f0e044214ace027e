"""Clock and quantity helpers, the enums every layer shares, and the argument checks of the Python floor."""

from __future__ import annotations

import datetime
import enum
import importlib
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import MissingPackageError, NotFiniteError, RangeError, ShapeError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

NS_PER_SECOND = 1_000_000_000
NS_PER_DAY = 86_400 * NS_PER_SECOND
NS_MAX = 2**63 - 1  # the year 2262
DAYS_PER_YEAR = 365.0  # crypto trades every day; every annualisation takes another number by argument


class _Named(enum.IntEnum):
    """An integer code that prints as its name."""

    def __str__(self) -> str:
        return self.name


class Status(_Named):
    """Health of an account; zero, the value of fresh memory, is UNKNOWN."""

    UNKNOWN = 0
    LIQUIDATION = 1
    MARGIN_CALL = 2
    HEALTHY = 3


class Right(_Named):
    """Right of an option."""

    PUT = 0
    CALL = 1


class Side(_Named):
    """Side of an order or position."""

    SELL = -1
    BUY = 1


def utc(text: str) -> int:
    """Nanoseconds since 1970 UTC of an ISO date or time; a time without a zone is UTC."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise RangeError(f"text must be an ISO date or time, was {text!r}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    delta = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (delta.days * 86_400 + delta.seconds) * NS_PER_SECOND + delta.microseconds * 1_000


def stamps(name: str, value: Any) -> Ints:
    """`value` as int64 nanoseconds since 1970 UTC: integers, ISO text, datetimes or datetime64, any shape."""
    if isinstance(value, datetime.datetime):
        value = value.isoformat()
    if isinstance(value, str):
        try:
            value = utc(value)
        except RangeError:
            raise RangeError(f"{name} must be an ISO date or time, was {value!r}") from None
    array = _even(name, value)
    if array.dtype.kind == "M":
        if array.size and (np.abs(array[~np.isnat(array)].astype("M8[s]").astype(np.int64)) > NS_MAX // 10**9).any():
            raise RangeError(f"{name} must lie within 292 years of 1970, was {value!r:.60}")
        array = array.astype("M8[ns]").astype(np.int64)
    if array.dtype.kind in "OUT" and array.ndim and array.size:
        array = np.array([int(stamps(name, item)) for item in array.ravel().tolist()], np.int64).reshape(array.shape)
    elif array.ndim and not array.size:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise RangeError(f"{name} must be nanoseconds since 1970 UTC or a date, was {value!r}")
    if array.dtype.kind == "u" and array.size and int(array.max()) > NS_MAX:
        raise RangeError(f"{name} must be at most {NS_MAX} (the year 2262), was {int(array.max())}")
    return array.astype(np.int64)


def days(start_ns: int, end_ns: int) -> float:
    """Days from `start_ns` to `end_ns`, negative when the end is first."""
    return (end_ns - start_ns) / NS_PER_DAY


def years(start_ns: int, end_ns: int) -> float:
    """Years of 365 days from `start_ns` to `end_ns`."""
    return days(start_ns, end_ns) / DAYS_PER_YEAR


def optional(use: str, module: str, extra: str) -> Any:
    """A module that only this use needs, or an error that says which extra installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise MissingPackageError(f"{use} needs {package}: pip install 'margincore[{extra}]'") from error


def number(name: str, value: Any, *, above: float | None = None, least: float | None = None,
           below: float | None = None, most: float | None = None) -> float:
    """`value` as a finite float inside its range, or an error that names the argument, the rule and the value."""
    if isinstance(value, (bool, str, bytes)) or not isinstance(value, numbers.Real):
        raise RangeError(f"{name} must be a number, was {value!r}")
    try:
        result = float(value)
    except OverflowError:                      # an integer beyond every float
        result = math.inf
    if not math.isfinite(result):
        raise NotFiniteError(f"{name} must be finite, was {result!r}")
    rules = ((above, "above", result.__gt__), (least, "at least", result.__ge__),
             (below, "below", result.__lt__), (most, "at most", result.__le__))
    for bound, word, holds in rules:
        if bound is not None and not holds(bound):
            raise RangeError(f"{name} must be {word} {bound:g}, was {result!r}")
    return result


def told(value: Any) -> bool:
    """Whether a number is known: neither None nor NaN."""
    return value is not None and not (isinstance(value, (float, np.floating)) and math.isnan(value))


def instant(name: str, value: Any) -> int:
    """`value` as int nanoseconds since 1970 UTC that fit 64 bits, or an error that names the argument."""
    return integer(name, value, least=-NS_MAX, most=NS_MAX)


def integer(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    """`value` as an int inside its range, or an error that names the argument, the rule and the value."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise RangeError(f"{name} must be an integer, was {value!r}")
    result = int(value)
    if least is not None and result < least:
        raise RangeError(f"{name} must be at least {least}, was {result}")
    if most is not None and result > most:
        raise RangeError(f"{name} must be at most {most}, was {result}")
    return result


def floats(name: str, values: Any, *, ndim: int | None = 1, length: int | None = None, finite: bool = True,
           empty: bool = False) -> Floats:
    """`values` as a C-contiguous float64 array, checked; copies only when it must."""
    array = _even(name, values)
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{name} must hold numbers, had dtype {array.dtype}")
    if hasattr(values, "filled"):  # what a masked array hides is unknown, not what stands below the mask
        array = values.astype(np.float64).filled(np.nan)
    result = np.ascontiguousarray(array, np.float64) if array.ndim else array.astype(np.float64)
    if ndim is not None and result.ndim != ndim:
        raise ShapeError(f"{name} must have {ndim} axes, had shape {result.shape}")
    if length is not None and result.shape[0] != length:
        raise ShapeError(f"{name} must have length {length}, had {result.shape[0]}")
    if not empty and result.size == 0:
        raise ShapeError(f"{name} must not be empty, had shape {result.shape}")
    if finite and not np.isfinite(result).all():
        where = int(np.flatnonzero(~np.isfinite(result.ravel()))[0])
        raise NotFiniteError(f"{name} must be finite, was {float(result.ravel()[where])!r} at position {where}")
    return result


def _even(name: str, values: Any) -> npt.NDArray[Any]:
    """`values` as an array, or an error that names the argument where rows differ in length."""
    try:
        array: npt.NDArray[Any] = np.asarray(values)
    except ValueError:
        raise ShapeError(f"{name} must hold rows of one length, was {values!r:.60}") from None
    return array


def indices(name: str, values: Any, dtype: type[np.integer[Any]]) -> npt.NDArray[Any]:
    """`values` as a C-contiguous integer array of one axis, refused where a number would change on the way."""
    array: npt.NDArray[Any] = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ShapeError(f"{name} must hold integers on one axis, had dtype {array.dtype}, shape {array.shape}")
    if array.size and not np.iinfo(dtype).min <= int(array.min()) <= int(array.max()) <= np.iinfo(dtype).max:
        raise RangeError(f"{name} must fit {np.dtype(dtype).name}, was {int(array.min())} to {int(array.max())}")
    return np.ascontiguousarray(array, dtype)


def mapping(name: str, values: Any) -> Mapping[Any, Any]:
    """`values`, a mapping, or an error that names the argument."""
    if not isinstance(values, Mapping):
        raise RangeError(f"{name} must be a mapping from names, was {values!r}")
    return values


def several(name: str, values: Any) -> tuple[Any, ...]:
    """`values` as a tuple, or an error that names the argument; one text is not several."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise RangeError(f"{name} must be several values, was {values!r}")
    return tuple(values)


def texts(name: str, values: Any) -> tuple[str, ...]:
    """`values` as a tuple of names, or an error that names the argument."""
    names = several(name, values)
    for value in names:
        if not isinstance(value, str):
            raise RangeError(f"{name} must hold names, held {value!r}")
    return names


def filename(name: str, value: Any) -> Path:
    """`value` as the path of a file, or an error that names the argument."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise RangeError(f"{name} must be a file's name, was {value!r}")
    return Path(text)


def choice(name: str, value: str, options: Sequence[str]) -> str:
    """`value`, one of `options`, or an error that lists them."""
    if not isinstance(value, str) or value not in options:
        raise RangeError(f"{name} must be one of {', '.join(options)}, was {value!r}")
    return value
