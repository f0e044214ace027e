"""Implied volatility: total deviation from the out-of-the-money value, then its loops, a status per element.

Everything happens in the ratio of out-of-the-money value to the smaller of forward and strike, which depends on
x = |ln(F / K)| and v = sigma sqrt(T) alone.  The general path takes a fixed number of third-order Householder steps.
"""

cimport numpy as cnp
from libc.math cimport NAN, fma, sqrt
from libc.stdint cimport uint8_t

from margincore.errors import ShapeError
from margincore.kernels.black cimport (
    vm_black_shape, vm_exp, vm_exp_normal, vm_log, vm_log1p, vm_log_ratio, vm_mills, vm_mills_pair, vm_normal_quantile,
)
from margincore.kernels.types cimport (
    MC_VOL_ABOVE_MAXIMUM, MC_VOL_AT_INTRINSIC, MC_VOL_BELOW_INTRINSIC, MC_VOL_EXPIRED, MC_VOL_NOT_FINITE, MC_VOL_OK,
    MC_VOL_OUT_OF_RANGE, MC_VOL_TOO_SMALL,
)

cnp.import_array()

cdef extern from *:
    """
    typedef double *restrict mc_out;
    typedef const double *restrict mc_in;
    typedef uint8_t *restrict mc_code;
    """
    ctypedef double* out_t "mc_out"
    ctypedef const double* in_t "mc_in"
    ctypedef uint8_t* code_t "mc_code"

cdef extern from "vmath.h" nogil:
    const double VM_NEAR

cdef enum:
    STEPS = 3                           # Householder steps of the general path

# Least ratio of time value to min(F, K) that is told from nothing.
cdef double RATIO_MIN = 1e-300


# d > 0 with l = ln(1 + d / (phi(d) G(d))), Bachelier's formula inverted: rational, 2e-6 relative for l <= 80; the
# leading terms of its logarithm beyond, 1e-3.
cdef inline double bachelier_distance(double l) noexcept nogil:
    cdef double p, q, square
    if l > 80.0:
        square = 2.0 * l - 1.8378770664093453 - 3.0 * vm_log(2.0 * l)
        return sqrt(2.0 * l - 1.8378770664093453 - 3.0 * vm_log(square))
    p = 3.953732270113914e-08
    p = fma(p, l, 2.78047029861779e-05)
    p = fma(p, l, 0.0014887982555103312)
    p = fma(p, l, 0.014937385973428209)
    p = fma(p, l, 0.09973001019952313)
    p = fma(p, l, 0.39894311450817455)
    q = 1.1445401007386407e-06
    q = fma(q, l, 0.00019183087372235855)
    q = fma(q, l, 0.004642399229537351)
    q = fma(q, l, 0.04121539951046933)
    q = fma(q, l, 0.24998956343371026)
    q = fma(q, l, 1.0)
    return l * p / q


# The seed for ratio `value`: with little deviation phi(h) G(h) / h = value e^(-x/2) / x times a correction of order
# t^2; with much, the far Mills ratio is a correction to N(t - h) = value.
cdef inline double seed(double x, double value) noexcept nogil:
    cdef double h, t, a, share, v, density
    cdef int _step
    if x < 1e-8:
        h = 0.0
        t = 1.2533141373155003 * value
    else:
        share = value * vm_exp(-0.5 * x) / x
        h = bachelier_distance(vm_log1p(1.0 / share))
        t = 0.5 * x / h
        if t < 2.0:
            share = share * vm_exp(0.5 * t * t) / (1.0 + t * t / (3.0 + h * h))
            h = bachelier_distance(vm_log1p(1.0 / share))
            t = 0.5 * x / h
    if t < 0.7:
        return 2.0 * t
    if not t < 2.0:
        t = 2.0
        h = 0.5 * x / t
    for _step in range(3):
        a = h - t
        density = vm_exp_normal(-0.5 * a * a, 0.0) * 0.3989422804014327
        share = value + density * vm_mills(h + t)
        a = -vm_normal_quantile(share if share < 0.9999999 else 0.9999999)
        v = sqrt(a * a + 2.0 * x) - a
        h = x / v
        t = 0.5 * v
    return v


# Total deviation v > 0 whose out-of-the-money ratio is `value`, its complement to one given apart: Householder on the
# logarithm of the smaller of the two, whose relative error is what the price determines.
cdef double deviation(double x, double value, double complement) noexcept nogil:
    cdef double v = seed(x, value)
    cdef double h, t, a, square, density, minus, plus, difference, ratio, rest, f, f1, s2, s3, newton, step
    cdef int _i
    for _i in range(STEPS):
        h = vm_black_shape(x, v, &t)
        difference = vm_mills_pair(h, t, &minus, &plus)
        a = h - t
        square = a * a
        density = 0.3989422804014327 * vm_exp_normal(-0.5 * square, -0.5 * fma(a, a, -square))
        if a < 0.0 and t >= VM_NEAR:
            rest = density * (minus + plus)
            ratio = 1.0 - rest
        else:
            ratio = density * difference
            rest = 1.0 - ratio
        if value < 0.5:
            f = vm_log_ratio(ratio, value)
            f1 = density / ratio
        else:
            f = vm_log_ratio(rest, complement)
            f1 = -density / rest
        s2 = a * (h + t) / v
        s3 = s2 * s2 - (3.0 * h * h + t * t) / (v * v)
        newton = -f / f1
        step = newton * (1.0 + 0.5 * (s2 - f1) * newton) / (
            1.0 + newton * ((s2 - f1) + (s3 - 3.0 * f1 * s2 + 2.0 * f1 * f1) * newton / 6.0))
        if not (step > -0.7 * v and step < 2.0 * v):
            step = newton
            step = -0.7 * v if step < -0.7 * v else (2.0 * v if step > 2.0 * v else step)
        v = v + step
    return v


# Volatility of one premium, already undiscounted; the status goes to `code`.  NaN unless OK, zero at intrinsic value.
cdef double implied(double premium, double forward, double strike, double years, bint is_call, bint inverse,
                    uint8_t* code) noexcept nogil:
    cdef double x, low, intrinsic, lost, part, excess, top, unit, room
    if not (premium - premium == 0.0 and forward - forward == 0.0 and strike - strike == 0.0
            and years - years == 0.0):
        code[0] = MC_VOL_NOT_FINITE
        return NAN
    if not (forward > 0.0 and strike > 0.0):
        code[0] = MC_VOL_OUT_OF_RANGE
        return NAN
    if years <= 0.0:
        code[0] = MC_VOL_EXPIRED
        return NAN
    low = forward if forward < strike else strike
    top = forward if is_call else strike
    # The intrinsic value and what its rounding lost: the difference of two prices is exact as a sum of two doubles.
    intrinsic = forward - strike if is_call else strike - forward
    part = intrinsic - (forward if is_call else -forward)
    lost = ((forward if is_call else -forward) - (intrinsic - part)) + ((-strike if is_call else strike) - part)
    if not intrinsic > 0.0:
        intrinsic = 0.0
        lost = 0.0
    unit = forward if inverse else 1.0
    excess = fma(premium, unit, -intrinsic) - lost
    room = fma(-premium, unit, top)
    if excess < -2.220446049250313e-16 * top:
        code[0] = MC_VOL_BELOW_INTRINSIC
        return NAN
    if not excess > 0.0:
        code[0] = MC_VOL_AT_INTRINSIC
        return 0.0
    if not room > 0.0:
        code[0] = MC_VOL_ABOVE_MAXIMUM
        return NAN
    if excess < RATIO_MIN * low:
        code[0] = MC_VOL_TOO_SMALL
        return NAN
    code[0] = MC_VOL_OK
    x = vm_log_ratio(forward, strike)
    return deviation(-x if x < 0.0 else x, excess / low, room / low) / sqrt(years)


cdef void implied_loop(in_t premium, in_t forward, in_t strike, in_t years, const uint8_t* is_call, bint inverse,
                       out_t sigma, code_t status, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sigma[i] = implied(premium[i], forward[i], strike[i], years[i], is_call[i], inverse, &status[i])


# Python entry points ---------------------------------------------------------------------------------------

cdef void* column(object given, str name, int kind, Py_ssize_t n, bint writable) except? NULL:
    # Raw pointer of a vector: a memoryview argument would cost a hundred nanoseconds.
    cdef cnp.ndarray array
    if not isinstance(given, cnp.ndarray):
        raise ShapeError(f"{name} must be an array, was {type(given).__name__}")
    array = given
    if not (cnp.PyArray_TYPE(array) == kind or (kind == cnp.NPY_UINT8 and cnp.PyArray_TYPE(array) == cnp.NPY_BOOL)) \
            or not cnp.PyArray_ISCARRAY_RO(array):
        raise ShapeError(f"{name} must be a C-contiguous {'float64' if kind == cnp.NPY_FLOAT64 else 'uint8'} array, "
                         f"had dtype {array.dtype}")
    if cnp.PyArray_NDIM(array) != 1 or (n >= 0 and cnp.PyArray_DIM(array, 0) != n):
        raise ShapeError(f"{name} must have shape ({n if n >= 0 else 'options'},), had {given.shape}")
    if writable and not cnp.PyArray_ISWRITEABLE(array):
        raise ShapeError(f"{name} must be writable")
    return cnp.PyArray_DATA(array)


def volatilities(premium, forward, strike, years, is_call, out, status, bint inverse=False):
    """Fill `out` with volatilities a year of undiscounted premiums and `status` with MC_VOL codes.

    Arrays are float64, `is_call` and `status` uint8; premiums in the unit of `forward`, in coin when `inverse`.
    """
    cdef double* p = <double*>column(premium, "premium", cnp.NPY_FLOAT64, -1, False)
    cdef Py_ssize_t n = cnp.PyArray_DIM(<cnp.ndarray>premium, 0)
    cdef double* f = <double*>column(forward, "forward", cnp.NPY_FLOAT64, n, False)
    cdef double* k = <double*>column(strike, "strike", cnp.NPY_FLOAT64, n, False)
    cdef double* t = <double*>column(years, "years", cnp.NPY_FLOAT64, n, False)
    cdef uint8_t* c = <uint8_t*>column(is_call, "is_call", cnp.NPY_UINT8, n, False)
    cdef double* o = <double*>column(out, "out", cnp.NPY_FLOAT64, n, True)
    cdef uint8_t* s = <uint8_t*>column(status, "status", cnp.NPY_UINT8, n, True)
    if n < 64:  # giving up the lock costs more
        implied_loop(p, f, k, t, c, inverse, o, s, n)
    else:
        with nogil:
            implied_loop(p, f, k, t, c, inverse, o, s, n)


def volatility(double premium, double forward, double strike, double years, bint is_call, bint inverse=False):
    """Volatility a year of one undiscounted premium; NaN where there is none, 0 at intrinsic value."""
    cdef uint8_t code
    return implied(premium, forward, strike, years, is_call, inverse, &code)
