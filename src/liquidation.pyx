"""Prices at which one position is liquidated or bankrupt, in closed form: about 10 ns per tier.

Equity is what the account has besides this position plus the position's profit; it meets what other positions
require, plus this one's maintenance, plus the fee of closing it.  Maintenance is the largest of the lines
rate * notional - amount, so each line has its own closed form and the first one met decides: no search for the tier.
"""

from libc.math cimport NAN, fabs, fmax, isfinite

cimport numpy as cnp

import numpy as np

from margincore.errors import NotFiniteError, RangeError, ShapeError

from margincore.kernels.types cimport int32_t, uint8_t

cnp.import_array()


# Price at which a line is met, and whether it is met: a long is liquidated at and below it, a short at and above it.
#   linear:   fund + quantity * (price - entry) = |quantity| * price * rate
#   inverse:  fund + quantity * (1 / entry - 1 / price) = |quantity| / price * rate
# Where the solution is not positive, no price is low or high enough for a linear long and an inverse short, and no
# price is good enough for the other two.
cdef int line_price(const position_t* p, double fund, double rate, double* price) noexcept nogil:
    cdef double above, below
    if p.inverse:
        above = p.quantity + fabs(p.quantity) * rate
        below = fund + p.quantity / p.entry
    else:
        above = p.quantity * p.entry - fund
        below = p.quantity - fabs(p.quantity) * rate
    price[0] = above / below
    if not (isfinite(above) and isfinite(below) and rate >= 0.0 and rate < 1.0):
        return PRICE_UNKNOWN
    if price[0] > 0.0 and isfinite(price[0]):
        return PRICE_FOUND
    if (p.quantity > 0.0) == (p.inverse != 0):
        return PRICE_ALWAYS
    return PRICE_NONE


# The first line met on the way from a healthy price: the highest price of a long, the lowest of a short.
cdef int liquidation_price(const position_t* p, const double* line, int32_t tiers, int on_entry,
                           double* price) noexcept nogil:
    cdef double size = fabs(p.quantity), fund = p.fund - p.other_maintenance, notional, required, candidate
    cdef int32_t i
    cdef int status = PRICE_NONE, found
    price[0] = NAN
    if not (isfinite(p.quantity) and isfinite(p.entry) and p.entry > 0.0 and isfinite(p.fund)
            and p.other_maintenance >= 0.0 and isfinite(p.other_maintenance) and p.fee >= 0.0 and p.fee < 1.0):
        return PRICE_UNKNOWN
    if p.quantity == 0.0:
        return PRICE_NONE if fund > 0.0 else PRICE_ALWAYS
    if on_entry:
        notional = size / p.entry if p.inverse else size * p.entry
        required = 0.0
        for i in range(tiers):
            required = fmax(required, line[LINE * i + 1] * notional - line[LINE * i + 2])
        found = line_price(p, fund - required, p.fee, &candidate)
        price[0] = candidate if found == PRICE_FOUND else price[0]
        return found
    for i in range(tiers):
        found = line_price(p, fund + line[LINE * i + 2], line[LINE * i + 1] + p.fee, &candidate)
        if found == PRICE_UNKNOWN or found == PRICE_ALWAYS:
            price[0] = NAN
            return found
        if found == PRICE_FOUND and (status == PRICE_NONE or (candidate > price[0]) == (p.quantity > 0.0)):
            price[0] = candidate
            status = PRICE_FOUND
    return status


# Price at which nothing is left after closing: maintenance plays no part.
cdef int bankruptcy_price(const position_t* p, double* price) noexcept nogil:
    cdef position_t alone = p[0]
    cdef double nothing[LINE]
    nothing[0] = nothing[1] = nothing[2] = nothing[3] = 0.0
    alone.other_maintenance = 0.0
    return liquidation_price(&alone, nothing, 1, 0, price)


cdef _numbers(str name, object values, Py_ssize_t length):
    array = np.ascontiguousarray(values, np.float64)
    if array.ndim != 1 or array.shape[0] != length:
        raise ShapeError(f"{name} must have shape ({length},), had {array.shape}")
    return array


cdef _writable(str name, object array, object kind, tuple shape):
    if array.shape != shape or array.dtype != kind or not array.flags.carray:
        raise ShapeError(f"{name} must be a writable contiguous {np.dtype(kind)} array of shape {shape}, "
                         f"was {array.dtype} of shape {array.shape}")


cdef _lines(object lines):
    # Rates from 0 up; the fee is added by position, so their sum is looked at there.
    array = np.ascontiguousarray(lines, np.float64)
    if array.ndim != 3 or array.shape[0] == 0 or array.shape[1] == 0 or array.shape[2] != LINE:
        raise ShapeError(f"lines must have shape (tables, tiers, {LINE}), had {array.shape}")
    if not np.isfinite(array[:, :, 1:3]).all():
        raise NotFiniteError("lines must hold finite rates and amounts")
    if not ((array[:, :, 1] >= 0.0) & (array[:, :, 1] < 1.0)).all():
        raise RangeError("lines must hold rates of at least 0 and below 1")
    return array


def position_prices(quantity, entry, fund, other_maintenance, fee, inverse, on_entry, table, lines,
                    cnp.ndarray liquidation not None, cnp.ndarray bankruptcy not None, cnp.ndarray status not None):
    """Fill liquidation and bankruptcy prices of positions, with a status for each of the two.

    Parameters
    ----------
    quantity : float64 array, shape (positions,)
        Signed; units of the underlying, or face value in quote currency where inverse.
    entry : float64 array, shape (positions,)
        Entry price, above 0.
    fund : float64 array, shape (positions,)
        What meets losses besides the position's own profit, settlement asset: balance plus profit of the others.
    other_maintenance : float64 array, shape (positions,)
        What other positions on the same fund require, settlement asset.
    fee : float64 array, shape (positions,)
        Rate of the closing fee on the value at the price sought, in [0, 1); 0 leaves it out.
    inverse, on_entry : uint8 array, shape (positions,)
        Coin-settled; maintenance on the entry value instead of the value at the price sought.
    table : int32 array, shape (positions,)
        Which table of `lines` each position takes.
    lines : float64 array, shape (tables, tiers, 4)
        Floor, rate, amount, and one number that is not read; maintenance is the largest ``rate * notional - amount``.
    liquidation, bankruptcy : float64 array, shape (positions,)
        Out; NaN where there is no price.
    status : uint8 array, shape (positions, 2)
        Out; of the liquidation and of the bankruptcy price: 0 unknown, 1 found, 2 no price liquidates, 3 every does.
    """
    cdef Py_ssize_t length = len(quantity), i
    cdef cnp.ndarray quantities = _numbers("quantity", quantity, length), entries = _numbers("entry", entry, length)
    cdef cnp.ndarray funds = _numbers("fund", fund, length), fees = _numbers("fee", fee, length)
    cdef cnp.ndarray others = _numbers("other_maintenance", other_maintenance, length)
    cdef cnp.ndarray inverses = np.ascontiguousarray(inverse, np.uint8)
    cdef cnp.ndarray bases = np.ascontiguousarray(on_entry, np.uint8)
    cdef cnp.ndarray tables = np.ascontiguousarray(table, np.int32), all_lines = _lines(lines)
    for name, given in (("inverse", inverses), ("on_entry", bases), ("table", tables)):
        if (<object> given).shape != (length,):
            raise ShapeError(f"{name} must have shape ({length},), had {(<object> given).shape}")
    if length and not (0 <= tables.min() and tables.max() < all_lines.shape[0]):
        raise RangeError(f"table must be at least 0 and below {all_lines.shape[0]}, "
                         f"was {tables.min()} to {tables.max()}")
    _writable("liquidation", liquidation, np.float64, (length,))
    _writable("bankruptcy", bankruptcy, np.float64, (length,))
    _writable("status", status, np.uint8, (length, 2))
    if length == 0:
        return
    cdef const double* q = <const double*> quantities.data
    cdef const double* e = <const double*> entries.data
    cdef const double* w = <const double*> funds.data
    cdef const double* o = <const double*> others.data
    cdef const double* f = <const double*> fees.data
    cdef const uint8_t* inv = <const uint8_t*> inverses.data
    cdef const uint8_t* base = <const uint8_t*> bases.data
    cdef const int32_t* t = <const int32_t*> tables.data
    cdef const double* line = <const double*> all_lines.data
    cdef double* out = <double*> liquidation.data
    cdef double* broke = <double*> bankruptcy.data
    cdef uint8_t* state = <uint8_t*> status.data
    cdef int32_t tiers = <int32_t> all_lines.shape[1]
    cdef position_t p
    with nogil:
        for i in range(length):
            p.quantity = q[i]
            p.entry = e[i]
            p.fund = w[i]
            p.other_maintenance = o[i]
            p.fee = f[i]
            p.inverse = inv[i]
            state[2 * i] = liquidation_price(&p, line + LINE * tiers * <Py_ssize_t> t[i], tiers, base[i], &out[i])
            state[2 * i + 1] = bankruptcy_price(&p, &broke[i])
