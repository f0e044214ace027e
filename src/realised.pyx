"""Realised measures: log ratios, range terms per bar, and their means and variances over rows, windows, prefixes.

Means and squared deviations are combined over one binary tree per length: the set bits of the count, largest part
oldest.  A rolling value, an expanding value and the value of the same bars alone are therefore the same bits, there is
no subtraction to drift, and equal values have a variance of exactly zero.  Rolling costs log2(window) passes over a
block that stays in the cache.
"""

cimport numpy as cnp
from libc.math cimport NAN
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from margincore.errors import RangeError, ShapeError

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_log_ratio(double a, double b)
    double vm_pow(double x, double y)

cdef extern from *:
    """
    typedef double *restrict mc_column;
    typedef const double *restrict mc_const_column;
    """
    ctypedef double* mc_column
    ctypedef const double* mc_const_column

cdef double LN2 = 0.69314718055994530942
cdef enum:
    BLOCK = 2048
    DEPTH = 64

ctypedef struct moments_t:
    double count
    double mean
    double m2


cdef inline moments_t single(double x) noexcept nogil:
    # A missing value counts nothing.
    cdef moments_t one
    cdef bint there = x == x
    one.count = 1.0 if there else 0.0
    one.mean = x if there else 0.0
    one.m2 = 0.0
    return one


cdef inline moments_t combined(moments_t a, moments_t b) noexcept nogil:
    # Chan, Golub, LeVeque (1979): no term is ever subtracted.
    cdef moments_t both
    cdef double delta = b.mean - a.mean
    cdef double weight
    both.count = a.count + b.count
    weight = b.count / (both.count if both.count > 0.0 else 1.0)
    # An empty left part has mean 0 and weight 1, so the right mean comes through exactly.
    both.mean = a.mean + delta * weight
    both.m2 = a.m2 + b.m2 + delta * delta * (a.count * weight)
    return both


cdef moments_t perfect(const double* x, int64_t length) noexcept nogil:
    # Moments of 2^k values as a perfect tree.
    if length == 1:
        return single(x[0])
    return combined(perfect(x, length >> 1), perfect(x + (length >> 1), length >> 1))


cdef moments_t whole(const double* x, int64_t n) noexcept nogil:
    # The set bits of n, largest part first in time, folded from the newest.
    cdef moments_t total, part
    cdef int64_t bit = 1, end = n
    total.count = total.mean = total.m2 = 0.0
    while end > 0:
        if end & bit:
            part = perfect(x + end - bit, bit)
            total = part if end == n else combined(part, total)
            end -= bit
        bit <<= 1
    return total


cdef void combine_sparse(mc_column count, mc_column mean, mc_column m2, mc_const_column left_count,
                         mc_const_column left_mean, mc_const_column left_m2, mc_const_column right_count,
                         mc_const_column right_mean, mc_const_column right_m2, int64_t n) noexcept nogil:
    # Element-wise `combined`.
    cdef int64_t i
    cdef double total, delta, weight
    for i in range(n):
        total = left_count[i] + right_count[i]
        delta = right_mean[i] - left_mean[i]
        weight = right_count[i] / (total if total > 0.0 else 1.0)
        m2[i] = left_m2[i] + right_m2[i] + delta * delta * (left_count[i] * weight)
        mean[i] = left_mean[i] + delta * weight
        count[i] = total


cdef void combine_full(mc_column mean, mc_column m2, mc_const_column left_mean, mc_const_column left_m2,
                       mc_const_column right_mean, mc_const_column right_m2, int64_t n, double left,
                       double right) noexcept nogil:
    # The same bits where nothing is missing: the weights are the same for every element.
    cdef int64_t i
    cdef double delta, weight = right / (left + right), spread = left * weight
    for i in range(n):
        delta = right_mean[i] - left_mean[i]
        m2[i] = left_m2[i] + right_m2[i] + delta * delta * spread
        mean[i] = left_mean[i] + delta * weight


cdef struct table_t:
    # Moments of all windows of one length that start at successive values.
    double* count
    double* mean
    double* m2


cdef void combine(table_t* out, table_t* left, int64_t left_at, table_t* right, int64_t right_at, int64_t n,
                  double left_size, double right_size, bint sparse) noexcept nogil:
    if sparse:
        combine_sparse(out.count, out.mean, out.m2, left.count + left_at, left.mean + left_at, left.m2 + left_at,
                       right.count + right_at, right.mean + right_at, right.m2 + right_at, n)
    else:
        combine_full(out.mean, out.m2, left.mean + left_at, left.m2 + left_at, right.mean + right_at,
                     right.m2 + right_at, n, left_size, right_size)


cdef void window_block(const double* x, int64_t window, int64_t windows, table_t* tables, bint sparse,
                       table_t* out) noexcept nogil:
    # Moments of `windows` windows, the first starting at x[0].  Of the four tables two take turns as windows of
    # the length 1, 2, 4, ..., two as the sum of the newest parts; nothing is read where it is written.
    cdef table_t* level = &tables[0]
    cdef table_t* next_level = &tables[1]
    cdef table_t* total = &tables[2]
    cdef table_t* next_total = &tables[3]
    cdef int64_t i, bit = 1, length = windows + window - 1, at, done = 0
    cdef moments_t one
    for i in range(length):
        one = single(x[i])
        level.count[i], level.mean[i], level.m2[i] = one.count, one.mean, 0.0
    while True:
        if window & bit:
            at = (window // (2 * bit)) * 2 * bit
            if done == 0:
                memcpy(total.count, level.count + at, windows * sizeof(double))
                memcpy(total.mean, level.mean + at, windows * sizeof(double))
                memcpy(total.m2, level.m2 + at, windows * sizeof(double))
            else:
                combine(next_total, level, at, total, 0, windows, <double>bit, <double>done, sparse)
                total, next_total = next_total, total
            done += bit
        if 2 * bit > window:
            break
        length -= bit
        combine(next_level, level, 0, level, bit, length, <double>bit, <double>bit, sparse)
        level, next_level = next_level, level
        bit *= 2
    memcpy(out.mean, total.mean, windows * sizeof(double))
    memcpy(out.m2, total.m2, windows * sizeof(double))
    for i in range(windows):
        out.count[i] = total.count[i] if sparse else <double>window


cdef int window_loop(const double* x, int64_t n, int64_t window, double* count, double* mean, double* m2) noexcept nogil:
    cdef int64_t block = BLOCK if window < BLOCK else window
    cdef int64_t room = block + window - 1
    cdef int64_t at = 0, windows, total = n - window + 1, i
    cdef bint sparse = False
    cdef table_t tables[4]
    cdef table_t out
    cdef double* scratch = <double*>malloc(12 * room * sizeof(double))
    if scratch == NULL:
        return -1
    for i in range(4):
        tables[i].count = scratch + (3 * i) * room
        tables[i].mean = scratch + (3 * i + 1) * room
        tables[i].m2 = scratch + (3 * i + 2) * room
    for i in range(n):
        sparse |= x[i] != x[i]
    while at < total:
        windows = block if total - at > block else total - at
        out.count, out.mean, out.m2 = count + at, mean + at, m2 + at
        window_block(x + at, window, windows, tables, sparse, &out)
        at += windows
    free(scratch)
    return 0


cdef void expanding_loop(const double* x, int64_t n, double* count, double* mean, double* m2) noexcept nogil:
    # A binary counter of perfect trees: the trees of the prefix are the set bits of its length.
    cdef moments_t stack[DEPTH]
    cdef moments_t total
    cdef int64_t i, k, carry
    cdef int depth = 0
    for i in range(n):
        stack[depth] = single(x[i])
        depth += 1
        carry = i + 1
        while not carry & 1:
            stack[depth - 2] = combined(stack[depth - 2], stack[depth - 1])
            depth -= 1
            carry >>= 1
        total = stack[depth - 1]
        for k in range(depth - 2, -1, -1):
            total = combined(stack[k], total)
        count[i], mean[i], m2[i] = total.count, total.mean, total.m2


cdef inline double garman_klass(double open, double high, double low, double close) noexcept nogil:
    # 1/2 ln(H/L)^2 - (2 ln 2 - 1) ln(C/O)^2, never negative because |ln(C/O)| <= ln(H/L).
    cdef double spread = vm_log_ratio(high, low), body = vm_log_ratio(close, open)
    return 0.5 * spread * spread - (2.0 * LN2 - 1.0) * (body * body)


cdef inline double rogers_satchell(double open, double high, double low, double close) noexcept nogil:
    # ln(H/C) ln(H/O) + ln(L/C) ln(L/O): products of equal signs.
    return (vm_log_ratio(high, close) * vm_log_ratio(high, open)
            + vm_log_ratio(low, close) * vm_log_ratio(low, open))


cdef inline double parkinson(double high, double low) noexcept nogil:
    # ln(H/L)^2 / (4 ln 2)
    cdef double spread = vm_log_ratio(high, low)
    return spread * spread * (0.25 / LN2)


cdef int same_length(Py_ssize_t n, Py_ssize_t other, str name) except -1:
    if n != other:
        raise ShapeError(f"{name} must have length {n}, had {other}")
    return 0


def remaining_weight(double elapsed, double half_life):
    """Share of a shock left after `elapsed`, 2^(-elapsed / half_life); a half-life of zero leaves nothing."""
    if not (elapsed >= 0.0 and half_life >= 0.0):
        raise RangeError(f"elapsed and half_life must be at least 0, were {elapsed!r} and {half_life!r}")
    if half_life == 0.0:
        return 0.0 if elapsed > 0.0 else 1.0
    return vm_exp(-LN2 * (elapsed / half_life))


def compounded(double factor, double elapsed):
    """factor^elapsed for a positive factor: what a change per day has become after `elapsed` days."""
    if not (factor > 0.0 and elapsed >= 0.0):
        raise RangeError(f"factor must be above 0 and elapsed at least 0, were {factor!r} and {elapsed!r}")
    return vm_pow(factor, elapsed)


def log_ratios(const double[::1] numerator not None, const double[::1] denominator not None,
               double[::1] out not None):
    """Fill `out` with ln(numerator / denominator), 2 ulp even for neighbours; NaN for NaN or negative values."""
    cdef Py_ssize_t i, n = numerator.shape[0]
    same_length(n, denominator.shape[0], "denominator")
    same_length(n, out.shape[0], "out")
    if n == 0:
        return
    cdef const double* a = &numerator[0]
    cdef const double* b = &denominator[0]
    cdef double* c = &out[0]
    with nogil:
        for i in range(n):
            c[i] = vm_log_ratio(a[i], b[i])


def parkinson_terms(const double[::1] high not None, const double[::1] low not None, double[::1] out not None):
    """Fill `out` with the Parkinson variance of every bar."""
    cdef Py_ssize_t i, n = high.shape[0]
    same_length(n, low.shape[0], "low")
    same_length(n, out.shape[0], "out")
    with nogil:
        for i in range(n):
            out[i] = parkinson(high[i], low[i])


def garman_klass_terms(const double[::1] open not None, const double[::1] high not None,
                       const double[::1] low not None, const double[::1] close not None, double[::1] out not None):
    """Fill `out` with the Garman-Klass variance of every bar."""
    cdef Py_ssize_t i, n = open.shape[0]
    same_length(n, high.shape[0], "high")
    same_length(n, low.shape[0], "low")
    same_length(n, close.shape[0], "close")
    same_length(n, out.shape[0], "out")
    with nogil:
        for i in range(n):
            out[i] = garman_klass(open[i], high[i], low[i], close[i])


def rogers_satchell_terms(const double[::1] open not None, const double[::1] high not None,
                          const double[::1] low not None, const double[::1] close not None,
                          double[::1] out not None):
    """Fill `out` with the Rogers-Satchell variance of every bar."""
    cdef Py_ssize_t i, n = open.shape[0]
    same_length(n, high.shape[0], "high")
    same_length(n, low.shape[0], "low")
    same_length(n, close.shape[0], "close")
    same_length(n, out.shape[0], "out")
    with nogil:
        for i in range(n):
            out[i] = rogers_satchell(open[i], high[i], low[i], close[i])


def row_moments(const double[:, ::1] x not None, double[::1] count not None, double[::1] mean not None,
                double[::1] m2 not None):
    """Fill count, mean and sum of squared deviations of every row of `x`; NaN counts as missing.

    A row without any value gives a count of 0 and NaN.
    """
    cdef Py_ssize_t i, rows = x.shape[0], n = x.shape[1]
    cdef moments_t total
    same_length(rows, count.shape[0], "count")
    same_length(rows, mean.shape[0], "mean")
    same_length(rows, m2.shape[0], "m2")
    if rows == 0:
        return
    if n == 0:
        raise ShapeError(f"x must have at least one column, had {n}")
    with nogil:
        for i in range(rows):
            total = whole(&x[i, 0], n)
            count[i] = total.count
            mean[i] = total.mean if total.count > 0.0 else NAN
            m2[i] = total.m2 if total.count > 0.0 else NAN


def window_moments(const double[::1] x not None, int64_t window, double[::1] count not None,
                   double[::1] mean not None, double[::1] m2 not None):
    """Fill the moments of every window, outputs of length len(x) - window + 1; an empty window has count 0."""
    cdef Py_ssize_t n = x.shape[0]
    if not 1 <= window <= n:
        raise RangeError(f"window must be in [1, {n}], was {window}")
    same_length(n - window + 1, count.shape[0], "count")
    same_length(n - window + 1, mean.shape[0], "mean")
    same_length(n - window + 1, m2.shape[0], "m2")
    cdef int code
    with nogil:
        code = window_loop(&x[0], n, window, &count[0], &mean[0], &m2[0])
    if code:
        raise MemoryError


def expanding_moments(const double[::1] x not None, double[::1] count not None, double[::1] mean not None,
                      double[::1] m2 not None):
    """Fill the moments of every prefix of `x`; an empty prefix has count 0."""
    cdef Py_ssize_t n = x.shape[0]
    same_length(n, count.shape[0], "count")
    same_length(n, mean.shape[0], "mean")
    same_length(n, m2.shape[0], "m2")
    if n == 0:
        return
    with nogil:
        expanding_loop(&x[0], n, &count[0], &mean[0], &m2[0])


def weighted_means(const double[::1] x not None, double decay, double[::1] out not None):
    """Fill `out` with exponentially weighted means, weights decay^age scaled to sum to one.

    NaN in `x` ages the past without adding to it; before the first value the mean is NaN.
    """
    cdef Py_ssize_t i, n = x.shape[0]
    cdef double total = 0.0, weight = 0.0
    cdef bint there
    same_length(n, out.shape[0], "out")
    if not 0.0 < decay < 1.0:
        raise RangeError(f"decay must be in (0, 1), was {decay!r}")
    with nogil:
        for i in range(n):
            there = x[i] == x[i]
            total = decay * total + (x[i] if there else 0.0)
            weight = decay * weight + (1.0 if there else 0.0)
            out[i] = total / weight if weight > 0.0 else NAN
