"""From an option chain to quotes a smile can be fitted to: forward and discount per expiry, filters with reasons.

`chain_quotes` turns a `Chain`, the raw observation, into `Quotes`, total variances at bid and ask by log-moneyness, and
tells for every row it left out why.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from margincore.errors import MissingDataError, RangeError
from margincore.kernels.formula import log_ratios
from margincore.kernels.implied import volatilities
from margincore.option_chain import Chain
from margincore.units import (
    DAYS_PER_YEAR,
    NS_PER_DAY,
    NS_PER_SECOND,
    Floats,
    Ints,
    choice,
    integer,
    mapping,
    number,
)

SPREAD_LEAST = 1e-3  # half spread of total variance, as a share of the ask's: what a tick means at the least


class Reason(enum.IntEnum):
    """What became of a row of a chain; from `EXPIRED` on it was left out."""

    TWO_SIDED = 0
    BID_WORTHLESS = 1  # the bid is at or below intrinsic value: only the ask says something about volatility
    ASK_ALONE = 2
    EXPIRED = 3
    BAD_STRIKE = 4
    NO_QUOTE = 5
    BAD_PRICE = 6
    CROSSED = 7
    STALE = 8
    DUPLICATE = 9
    NO_FORWARD = 10
    BELOW_INTRINSIC = 11
    ABOVE_MAXIMUM = 12


@dataclass(frozen=True, slots=True)
class Carry:
    """Forward and discount of one expiry, and where they come from.

    `forward` is the one used, `parity` the one put-call parity gives (`parity_error` its standard error, NaN without
    pairs), `future` the venue's; `pairs` counts strikes quoted on both sides for call and put, `inside` the share of
    them whose parity holds within the spreads at `forward` and `discount`.
    """

    expiry_ns: int
    forward: float
    discount: float
    source: str
    parity: float
    parity_error: float
    future: float
    pairs: int
    inside: float


@dataclass(frozen=True, slots=True, eq=False)
class Quotes:
    """Quotes in total variance, by expiry and strike, ready for a calibration.

    `log_moneyness`, `low` (0 = no bid worth anything), `high`, `weight` (1 / half spread), `strike`, `is_call` and
    `row` (of the chain) have shape (quotes,); `start`, shape (expiries + 1,), holds the offsets of each expiry;
    `carry`, `expiry_ns` and `years` have one entry per expiry; `reason`, int64 shape (rows,), tells what became of
    each row of the chain (see `Reason`).
    """

    chain: Chain
    log_moneyness: Floats
    low: Floats
    high: Floats
    weight: Floats
    strike: Floats
    is_call: npt.NDArray[np.bool_]
    row: Ints
    start: Ints
    expiry_ns: Ints
    years: Floats
    carry: tuple[Carry, ...]
    reason: Ints
    distinct: Ints = field(repr=False)

    def left_out(self) -> dict[str, int]:
        """Number of rows by reason, those left out only, and those of the source that never entered the chain."""
        counts = {reason.name: int(count) for reason in Reason if reason >= Reason.EXPIRED
                  and (count := np.count_nonzero(self.reason == reason))}
        return counts | Counter(reason for _, reason in self.chain.skipped)


def chain_quotes(chain: Chain, *, futures: Mapping[int, float] | None = None, forward: str = "auto",
                 stale_seconds: float = 3600.0) -> Quotes:
    """Filter a chain, find forward and discount per expiry, and turn premiums into total variances.

    Parameters
    ----------
    chain : Chain
    futures : mapping of int to float, optional
        Futures prices by expiry_ns; they take the place of the chain's own `future`.
    forward : {"auto", "parity", "future"}
        ``"auto"``: the venue's future where put-call parity agrees with it within the spreads (a future is quoted
        tighter than two options), else parity where at least three pairs are quoted, else the future.
    stale_seconds : float
        Quotes further than this from `chain.time_ns` are left out: older ones, and those of a time to come.

    Raises
    ------
    MissingDataError
        If no row survives; the message counts the reasons.
    """
    if not isinstance(chain, Chain):
        raise RangeError(f"chain must be a Chain, was {chain!r:.60}")
    choice("forward", forward, ("auto", "parity", "future"))
    given = {integer("futures", expiry): number(f"futures[{expiry}]", price, above=0.0)
             for expiry, price in mapping("futures", futures or {}).items()}
    reason = _first_look(chain, number("stale_seconds", stale_seconds, above=0.0))
    kept = np.flatnonzero(reason < Reason.EXPIRED)
    order = kept[np.lexsort((chain.is_call[kept], chain.strike[kept], chain.expiry_ns[kept]))]
    expiries, first = np.unique(chain.expiry_ns[order], return_index=True)
    bounds = np.append(first, order.size).tolist()
    carry = [_carry(chain, reason, order[bounds[i]:bounds[i + 1]], int(expiry), given, forward)
             for i, expiry in enumerate(expiries.tolist())]
    counts = np.diff(bounds)
    forwards = np.repeat([c.forward for c in carry], counts)
    discounts = np.repeat([c.discount for c in carry], counts)
    k, low, high = _variances(chain, order, forwards, discounts, reason)
    good = reason[order] < Reason.EXPIRED
    if not good.any():
        raise MissingDataError(f"chain must hold a quote that can be used, had {len(chain)} rows: {_counts(reason)}")
    where = np.repeat(np.arange(expiries.size), counts)[good]
    used, start = np.unique(where, return_index=True)
    row, k, low, high = order[good], k[good], low[good], high[good]
    half = np.where(low > 0.0, np.maximum(0.5 * (high - low), SPREAD_LEAST * high), 0.3 * high)
    start = np.append(start, row.size)
    strike = chain.strike[row]
    fresh = np.ones(row.size, np.int64)
    fresh[1:] = (strike[1:] != strike[:-1]) | (where[1:] != where[:-1])
    years = (expiries[used] - chain.time_ns) / (DAYS_PER_YEAR * NS_PER_DAY)
    return Quotes(chain, k, low, high, 1.0 / half, strike, chain.is_call[row], row, start, expiries[used], years,
                  tuple(carry[i] for i in used.tolist()), reason, np.add.reduceat(fresh, start[:-1]))


def _first_look(chain: Chain, stale_seconds: float) -> Ints:
    """Reasons that need no forward.  The first that applies wins, in the order of the list."""
    bid, ask = chain.bid, chain.ask
    no_bid, no_ask = np.isnan(bid) | (bid == 0.0), np.isnan(ask) | (ask == 0.0)
    assert chain.quote_ns is not None
    far = (chain.quote_ns > 0) & (np.abs(chain.time_ns - chain.quote_ns) > stale_seconds * NS_PER_SECOND)
    reason: Ints = np.select(
        [chain.expiry_ns <= chain.time_ns, ~((chain.strike > 0.0) & (chain.strike < np.inf)),
         (bid < 0.0) | (ask < 0.0) | np.isinf(bid) | np.isinf(ask), no_bid & no_ask, no_ask, ~no_bid & (bid > ask), far,
         no_bid],
        [Reason.EXPIRED, Reason.BAD_STRIKE, Reason.BAD_PRICE, Reason.NO_QUOTE, Reason.NO_QUOTE, Reason.CROSSED,
         Reason.STALE, Reason.ASK_ALONE], Reason.TWO_SIDED).astype(np.int64)
    kept = np.flatnonzero(reason < Reason.EXPIRED)
    # Of rows that name one option twice the latest stays, the last listed among equals.
    order = kept[np.lexsort((kept, chain.quote_ns[kept], chain.is_call[kept], chain.strike[kept],
                             chain.expiry_ns[kept]))]
    same = ((chain.expiry_ns[order[1:]] == chain.expiry_ns[order[:-1]])
            & (chain.strike[order[1:]] == chain.strike[order[:-1]])
            & (chain.is_call[order[1:]] == chain.is_call[order[:-1]]))
    reason[order[:-1][same]] = Reason.DUPLICATE
    return reason


def _carry(chain: Chain, reason: Ints, rows: Ints, expiry: int, futures: Mapping[int, float], wanted: str) -> Carry:
    assert chain.future is not None
    listed = chain.future[rows]
    listed = listed[(listed > 0.0) & (listed < np.inf)]
    future = float(futures.get(expiry, np.median(listed) if listed.size else np.nan))
    both = rows[reason[rows] == Reason.TWO_SIDED]
    at = np.flatnonzero((chain.strike[both[1:]] == chain.strike[both[:-1]]) & chain.is_call[both[1:]]
                        & ~chain.is_call[both[:-1]])
    put, call = both[at], both[at + 1]
    strike = chain.strike[call]
    y = 0.5 * (chain.bid[call] + chain.ask[call] - chain.bid[put] - chain.ask[put])
    error = np.maximum(0.5 * (chain.ask[call] - chain.bid[call] + chain.ask[put] - chain.bid[put]), 1e-12)
    if strike.size < 3:
        usable = wanted != "parity" or not strike.size
        if strike.size and (not usable or not future > 0.0):
            forward, _ = _parity(strike, y, error, chain.inverse, 1.0)
            return Carry(expiry, forward, 1.0, "parity", forward, float("nan"), future, int(strike.size),
                         _inside(strike, y, error, chain.inverse, forward, 1.0))
        source = "future" if future > 0.0 else "none"
        return Carry(expiry, future, 1.0, source, float("nan"), float("nan"), future, int(strike.size), float("nan"))
    discount = 1.0
    parity, spread = _parity(strike, y, error, chain.inverse, 1.0)
    if strike.size >= 4 and _inside(strike, y, error, chain.inverse, parity, 1.0) < 0.9:
        # A straight line of slope 1 does not pass through the spreads: the discount must be told by the quotes.
        discount, parity, spread = _line(strike, y, error, chain.inverse)
    agrees = future > 0.0 and (_inside(strike, y, error, chain.inverse, future, discount)
                               >= 0.8 * _inside(strike, y, error, chain.inverse, parity, discount))
    use_future = wanted == "future" and future > 0.0 or wanted == "auto" and agrees
    chosen = future if use_future else parity
    return Carry(expiry, chosen, discount, "future" if use_future else "parity", parity, spread, future,
                 int(strike.size), _inside(strike, y, error, chain.inverse, chosen, discount))


def _residual(strike: Floats, y: Floats, inverse: bool, forward: float, discount: float) -> Floats:
    result: Floats = y - discount * ((1.0 - strike / forward) if inverse else (forward - strike))
    return result


def _inside(strike: Floats, y: Floats, error: Floats, inverse: bool, forward: float, discount: float) -> float:
    return float(np.mean(np.abs(_residual(strike, y, inverse, forward, discount)) <= error * (1.0 + 1e-9)))


def _parity(strike: Floats, y: Floats, error: Floats, inverse: bool, discount: float) -> tuple[float, float]:
    """Forward from y = D (F - K), or y = D (1 - K/F) when inverse, at a given discount: (forward, standard error).

    Median of the forwards the pairs imply, weighted by precision, then least squares of the pairs whose spread
    contains it: one wild pair cannot move it.
    """
    if inverse:
        implied, sigma = (1.0 - y / discount) / strike, error / (discount * strike)      # 1 / F
    else:
        implied, sigma = y / discount + strike, error / discount
    weight = 1.0 / sigma**2
    order = np.argsort(implied, kind="stable")
    half = np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())
    centre = implied[order[min(int(half), order.size - 1)]]
    near = np.abs(implied - centre) <= 2.0 * sigma
    total = weight[near].sum()
    value = float((weight[near] * implied[near]).sum() / total)
    spread = float(np.sqrt(1.0 / total))
    return (1.0 / value, spread / value**2) if inverse else (value, spread)


def _line(strike: Floats, y: Floats, error: Floats, inverse: bool) -> tuple[float, float, float]:
    """Discount, forward and its standard error from the line y = c - d K, least squares with Huber weights."""
    scale = strike.mean()
    design = np.column_stack([np.ones(strike.size), -strike / scale])
    weight = 1.0 / error**2
    for _ in range(12):
        normal = design.T @ (weight[:, None] * design)
        level, slope = np.linalg.solve(normal, design.T @ (weight * y))
        off = np.abs(y - design @ np.array([level, slope])) / error
        weight = 1.0 / (error**2 * np.maximum(off, 1.0))
    discount = level if inverse else slope / scale
    if not 0.2 < discount < 2.0:
        forward, spread = _parity(strike, y, error, inverse, 1.0)
        return 1.0, forward, spread
    forward, spread = _parity(strike, y, error, inverse, float(discount))
    return float(discount), forward, spread


def _variances(chain: Chain, rows: Ints, forward: Floats, discount: Floats,
               reason: Ints) -> tuple[Floats, Floats, Floats]:
    """Log-moneyness and total variance at bid and ask; enters into `reason` what cannot be inverted."""
    missing = ~((forward > 0.0) & (forward < np.inf))
    strike = np.ascontiguousarray(chain.strike[rows])
    known = np.where(missing, strike, forward)
    k = np.empty(rows.size)
    log_ratios(strike, known, k)
    ratio = strike / known
    call = chain.is_call[rows]
    intrinsic = np.where(call, np.maximum(1.0 - ratio, 0.0), np.maximum(ratio - 1.0, 0.0))
    unit = discount if chain.inverse else discount * known
    # A price inside the last rounding of intrinsic value says nothing.
    dust = 4e-16 * (1.0 + ratio)
    bid = np.nan_to_num(chain.bid[rows], nan=0.0) / unit - intrinsic
    ask = chain.ask[rows] / unit - intrinsic
    most = np.minimum(1.0, ratio)
    low, high = (_total_variance(np.where((side > dust) & (side < most), side, 0.0), known, strike)
                 for side in (bid, ask))
    worthless = (reason[rows] == Reason.TWO_SIDED) & (bid <= dust)
    verdict = np.select([missing, ask <= dust, ask >= most, worthless],
                        [Reason.NO_FORWARD, Reason.BELOW_INTRINSIC, Reason.ABOVE_MAXIMUM, Reason.BID_WORTHLESS], -1)
    reason[rows] = np.where(verdict >= 0, verdict, reason[rows])
    return k, low, high


def _total_variance(price: Floats, forward: Floats, strike: Floats) -> Floats:
    """Total variance of out-of-the-money prices over the forward; 0 for a price of 0."""
    one, sigma, status = np.ones(price.size), np.empty(price.size), np.empty(price.size, np.uint8)
    volatilities(price * forward, forward, strike, one, strike >= forward, sigma, status)
    result: Floats = sigma * sigma
    return result


def _counts(reason: Ints) -> str:
    return ", ".join(f"{r.name} {int(n)}" for r in Reason if (n := np.count_nonzero(reason == r))) or "none"


def bad_rows(quotes: Quotes) -> list[dict[str, Any]]:
    """The rows left out, each with its number in the source, option, quote and reason; None where none was read."""
    chain, numbers = quotes.chain, np.asarray(quotes.chain.row)
    unread: list[dict[str, Any]] = [
        {"row": at, "expiry_ns": None, "strike": None, "right": None, "bid": None, "ask": None, "reason": reason}
        for at, reason in chain.skipped]
    return unread + [{"row": int(numbers[i]), "expiry_ns": int(chain.expiry_ns[i]), "strike": float(chain.strike[i]),
             "right": "call" if chain.is_call[i] else "put", "bid": float(chain.bid[i]), "ask": float(chain.ask[i]),
             "reason": Reason(int(quotes.reason[i])).name} for i in np.flatnonzero(quotes.reason >= Reason.EXPIRED)]
