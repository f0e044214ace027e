"""Implied volatility: total deviation from the out-of-the-money value, then its loops, a status per element.

Everything happens in the ratio of out-of-the-money value to the smaller of forward and strike, which depends on
x = |ln(F / K)| and v = sigma sqrt(T) alone.  The general path takes a fixed number of third-order Householder steps.
"""

cimport numpy as cnp
from libc.math cimport NAN, fabs, fma, sqrt
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from margincore.errors import ShapeError
from margincore.kernels.black cimport (
    VM_NEAR, vm_black_shape, vm_density_unfused, vm_exp, vm_exp_normal, vm_log, vm_log1p, vm_log_ratio,
    vm_log_ratio_roughly, vm_mills, vm_mills_join_by, vm_mills_pair_by, vm_mills_values_by, vm_normal_quantile,
)
from margincore.kernels.mills cimport BLOCK, distance_of, distances, in_t, mills_pairs, mills_t, out_t
from margincore.kernels.types cimport (
    MC_VOL_ABOVE_MAXIMUM, MC_VOL_AT_INTRINSIC, MC_VOL_BELOW_INTRINSIC, MC_VOL_EXPIRED, MC_VOL_NOT_FINITE, MC_VOL_OK,
    MC_VOL_OUT_OF_RANGE, MC_VOL_TOO_SMALL,
)

cnp.import_array()

cdef extern from *:
    """
    typedef uint8_t *restrict mc_code;
    """
    ctypedef uint8_t* code_t "mc_code"

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
    if x == 0.0:
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
# logarithm of the smaller of the two by that of v: the relative error is what the price determines.
cdef double deviation(double x, double value, double complement) noexcept nogil:
    cdef double v = seed(x, value)
    cdef double h, t, a, density, minus, plus, difference, ratio, rest, f, f1, s2, s3, newton, step
    cdef int _i
    for _i in range(STEPS):
        h = vm_black_shape(x, v, &t)
        difference = vm_mills_pair_by(0, h, t, &minus, &plus)
        a = h - t
        density = vm_density_unfused(a)
        if a < 0.0 and t >= VM_NEAR:
            rest = density * (minus + plus)
            ratio = 1.0 - rest
        else:
            ratio = density * difference
            rest = 1.0 - ratio
        if value < 0.5:
            f = vm_log_ratio(ratio, value)
            f1 = v * density / ratio
        else:
            f = vm_log_ratio(rest, complement)
            f1 = -v * density / rest
        s2 = a * (h + t)
        s3 = s2 * s2 - (3.0 * h * h + t * t)
        newton = -f / f1
        step = newton * (1.0 + 0.5 * (s2 - f1) * newton) / (
            1.0 + newton * ((s2 - f1) + (s3 - 3.0 * f1 * s2 + 2.0 * f1 * f1) * newton / 6.0))
        if not (step > -0.7 and step < 2.0):
            step = -0.7 if newton < -0.7 else (2.0 if newton > 2.0 else newton)
        v = v + v * step
    return v


# Most normal deviation, and most |ln(F / K)|, where the fit of `seed_of` serves: beyond v = 2.6 it soon does not.
cdef double NORMAL_MOST = 1.7
cdef double DISTANCE_MOST = 1.25
# Prices between these bounds leave room for the products of `stepped`.
cdef double PRICE_LEAST = 1e-150
cdef double PRICE_MOST = 1e150
# Within them a volatility that the fit serves is no subnormal; what would be is too small.
cdef double YEARS_MOST = 1e8
cdef double SIGMA_LEAST = 2.2250738585072014e-308


# The intrinsic value and what its rounding lost: the difference of two prices is exact as a sum of two doubles.
cdef inline double intrinsic_of(double forward, double strike, double sign, double* lost) noexcept nogil:
    cdef double held = sign * forward
    cdef double owed = sign * strike
    cdef double gain = held - owed
    cdef double part = gain - held
    lost[0] = (held - (gain - part)) - (owed + part) if gain > 0.0 else 0.0
    return gain if gain > 0.0 else 0.0


# What the premium leaves above the intrinsic value, and the room it leaves below the greatest premium.
cdef inline double excess_of(double premium, double forward, double strike, double sign, double* room) noexcept nogil:
    cdef double lost, intrinsic = intrinsic_of(forward, strike, sign, &lost)
    room[0] = (forward if sign > 0.0 else strike) - premium
    return (premium - intrinsic) - lost


# The premium in coin times the forward, rounded once.
cdef inline double excess_inverse_of(double premium, double forward, double strike, double sign,
                                     double* room) noexcept nogil:
    cdef double lost, intrinsic = intrinsic_of(forward, strike, sign, &lost)
    room[0] = fma(-premium, forward, forward if sign > 0.0 else strike)
    return fma(premium, forward, -intrinsic) - lost


# The first rule that is broken decides.
cdef inline uint8_t code_of(double premium, double f, double k, double years, double sign, double excess,
                            double room) noexcept nogil:
    cdef double low = f if f < k else k
    cdef double top = f if sign > 0.0 else k
    if not (premium - premium) + (f - f) + (k - k) + (years - years) == 0.0:
        return MC_VOL_NOT_FINITE
    if not low > 0.0:
        return MC_VOL_OUT_OF_RANGE
    if not years > 0.0:
        return MC_VOL_EXPIRED
    if excess < -2.220446049250313e-16 * top:
        return MC_VOL_BELOW_INTRINSIC
    if not excess > 0.0:
        return MC_VOL_AT_INTRINSIC
    if not room > 0.0:
        return MC_VOL_ABOVE_MAXIMUM
    if excess < RATIO_MIN * low:
        return MC_VOL_TOO_SMALL
    return MC_VOL_OK


# Deviation of Bachelier's formula over the mean of forward and strike for the same value, 2e-6 relative.
cdef inline double normal_of(double f, double k, double excess) noexcept nogil:
    cdef double least = 1e-6 * excess, distance = fabs(f - k)
    cdef double log_one, square, odd, p, q, s
    distance = distance if distance > least else least           # at the money the limit, to 5e-7
    log_one = vm_log_ratio_roughly(excess + distance, excess)
    square = log_one * log_one                       # even and odd terms apart: half the chain
    p = (2.78047029861779e-05 * square + 0.014937385973428209) * square + 0.39894311450817455
    q = (3.953732270113914e-08 * square + 0.0014887982555103312) * square + 0.09973001019952313
    p = q * log_one + p
    q = (0.00019183087372235855 * square + 0.04121539951046933) * square + 1.0
    odd = (1.1445401007386407e-06 * square + 0.004642399229537351) * square + 0.24998956343371026
    q = odd * log_one + q
    s = distance * q / (log_one * p * (0.5 * f + 0.5 * k))
    return s if log_one <= 80.0 else 1e300


# The seed: a fit of v over that deviation in the squares of both coordinates, 2.2e-5 relative on |ln(F / K)| <= 1.25
# and v <= 2.6 (weighted least squares driven to equal errors).
cdef inline double seed_of(double s, double x) noexcept nogil:
    cdef double z = s * s, square = z * z, w = x * x
    cdef double even, odd, high, q
    q = 0.00012619240569225696
    q = q * w - 0.00019057387894377516
    odd = q
    q = 0.00021016189789181209
    q = q * w - 0.0009403510566307435
    q = q * w + 0.0008364525168773597
    high = 2.026514026043353e-05 * square + q
    q = 0.00010095493976741868
    q = q * w - 0.0010562621844587658
    q = q * w + 0.003134705556420246
    q = q * w - 0.0011016205428273727
    odd = odd * square + q
    q = 1.7831726068469515e-06
    q = q * w - 0.00024965293720236384
    q = q * w + 0.002145420383963572
    q = q * w - 0.002180147337430707
    q = q * w + 0.004935203842872165
    even = q
    q = 9.454263401743386e-06
    q = q * w - 2.507099393446104e-05
    q = q * w + 0.000155477548640306
    q = q * w - 0.00041325458645901487
    q = q * w + 0.011655539611596426
    q = q * w + 0.04126431412604325
    odd = odd * square + q
    q = 3.698443532158847e-05
    q = q * w - 0.00023061175221782875
    q = q * w + 0.0005434573423679276
    q = q * w - 0.0005702083635455923
    q = q * w - 0.001010960507020167
    q = q * w + 0.08316650147297291
    q = q * w + 1.0000200905708119
    even = high * (square * square) + (even * square + q)
    return s * (odd * z + even)


# One step of fourth order as a share of v, from 2.2e-5 to the last bits: n - g2/2 n^2 + (g2^2/2 - g3/6) n^3 with g2 and
# g3 the higher derivatives of the logarithm of the value over the first, times v and v^2: g2 = s2 - f1 and
# g3 = s3 - 3 f1 s2 + 2 f1^2 with s3 = s2^2 - 3 h^2 - t^2.  `gap` is the value over the wanted one, less one;
# (1 + gap) ln(1 + gap) is a series of six terms.
cdef inline double stepped(double v, double h, double t, double density, double both, double difference, double least,
                           double excess) noexcept nogil:
    cdef double a = h - t
    cdef double beyond = a if t >= VM_NEAR else 1.0
    cdef double mass = density * least
    cdef double shared = 1.0 / (mass * excess)
    cdef double value = least * (1.0 - density * both) if beyond < 0.0 else mass * difference
    cdef double gap = (value - excess) * (mass * shared)
    cdef double square = gap * gap
    cdef double series = ((1.0 + 0.5 * gap) + square * (0.08333333333333333 * gap - 0.16666666666666666)) + (
        square * square * (0.03333333333333333 * gap - 0.05))
    cdef double newton = -(excess * (excess * shared) * (1.0 / v)) * gap * series
    cdef double f1 = mass * v / value
    cdef double s2 = a * (h + t)
    cdef double third = 0.3333333333333333 * s2 * s2 + (0.5 * h * h + 0.16666666666666666 * t * t)
    cdef double n2 = newton * newton
    third = third + f1 * (0.16666666666666666 * f1 - 0.5 * s2)
    return (newton - n2 * (0.5 * (s2 - f1))) + n2 * (newton * third)


# 1 where the fit gives the volatility: not far from the money, and nothing about the option is wrong.
cdef inline int64_t is_served(double normal, double x, double excess, double room, double least,
                              double years) noexcept nogil:
    return ((normal <= NORMAL_MOST) & (x <= DISTANCE_MOST) & (PRICE_LEAST < excess) & (least < PRICE_MOST)
            & (room > 0.0) & (years > 0.0) & (years < YEARS_MOST))


# Everywhere else: the code, and the volatility by the general path if there is one.
cdef double unserved(double premium, double forward, double strike, double years, double sign, double excess, double room,
                     double x, uint8_t* code) noexcept nogil:
    cdef double least = forward if forward < strike else strike, sigma
    code[0] = code_of(premium, forward, strike, years, sign, excess, room)
    if code[0] == MC_VOL_OK:
        sigma = deviation(x, excess / least, room / least) / sqrt(years)
        if sigma >= SIGMA_LEAST:
            return sigma
        code[0] = MC_VOL_TOO_SMALL
    return 0.0 if code[0] == MC_VOL_AT_INTRINSIC else NAN


# The step comes last: what it is multiplied by is divided while it is worked out.
cdef inline double whole(double v, double years, double step) noexcept nogil:
    cdef double sigma = v / sqrt(years)
    return sigma + sigma * step


# One option alone has no others to overlap with, and stays in registers.
cdef double implied_one(double premium, double forward, double strike, double years, double sign, bint inverse,
                        uint8_t* code) noexcept nogil:
    cdef double room, first, second, minus, plus, difference, density
    cdef double excess = (excess_inverse_of(premium, forward, strike, sign, &room) if inverse
                          else excess_of(premium, forward, strike, sign, &room))
    cdef double x = distance_of(0, forward, strike)
    cdef double least = forward if forward < strike else strike
    cdef double normal = normal_of(forward, strike, excess)
    cdef double v = seed_of(normal, x), h = x / v, t = 0.5 * v
    if not is_served(normal, x, excess, room, least, years):
        return unserved(premium, forward, strike, years, sign, excess, room, x, code)
    code[0] = MC_VOL_OK
    vm_mills_values_by(0, h, t, &first, &second)
    density = vm_density_unfused(h - t)
    difference = vm_mills_join_by(0, h, t, first, second, &minus, &plus)
    return whole(v, years, stepped(v, h, t, density, minus + plus, difference, least, excess))


cdef struct block_t:
    double sign[BLOCK]
    double excess[BLOCK]                 # premium above intrinsic value
    double room[BLOCK]                   # greatest premium less premium
    double normal[BLOCK]
    double x[BLOCK]                      # |ln(F / K)|
    double v[BLOCK]                      # total deviation
    double least[BLOCK]                  # min(F, K)
    double h[BLOCK]
    double t[BLOCK]
    double density[BLOCK]
    double step[BLOCK]                   # correction of v as a share of it
    int64_t served[BLOCK]                # 1 where the fit gives the volatility
    mills_t mills


cdef void excess_loop(in_t premium, in_t forward, in_t strike, in_t sign, out_t excess, out_t room,
                      Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double left
    for i in range(n):
        excess[i] = excess_of(premium[i], forward[i], strike[i], sign[i], &left)
        room[i] = left


cdef void excess_inverse_loop(in_t premium, in_t forward, in_t strike, in_t sign, out_t excess, out_t room,
                              Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double left
    for i in range(n):
        excess[i] = excess_inverse_of(premium[i], forward[i], strike[i], sign[i], &left)
        room[i] = left


cdef void normals_loop(in_t forward, in_t strike, in_t excess, out_t normal, out_t least, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        normal[i] = normal_of(forward[i], strike[i], excess[i])
        least[i] = forward[i] if forward[i] < strike[i] else strike[i]


cdef void seeds_loop(in_t normal, in_t x, out_t v, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = seed_of(normal[i], x[i])


cdef void shape_loop(in_t x, in_t v, out_t h, out_t t, out_t density, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = x[i] / v[i]
        t[i] = 0.5 * v[i]
        density[i] = vm_density_unfused(h[i] - t[i])


cdef void steps_loop(in_t h, in_t t, in_t density, in_t minus, in_t plus, in_t difference, in_t least, in_t excess,
                     in_t v, out_t step, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        step[i] = stepped(v[i], h[i], t[i], density[i], minus[i] + plus[i], difference[i], least[i], excess[i])


cdef void sigmas_loop(in_t years, in_t v, in_t step, out_t sigma, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sigma[i] = whole(v[i], years[i], step[i])


cdef int64_t served_loop(in_t normal, in_t x, in_t excess, in_t room, in_t least, in_t years, int64_t* served,
                         Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t count = 0
    for i in range(n):
        served[i] = is_served(normal[i], x[i], excess[i], room[i], least[i], years[i])
        count += served[i]
    return count


# Volatilities of premiums already undiscounted, n <= BLOCK.  NaN unless OK, zero at intrinsic value.
cdef void implied_block(in_t premium, in_t forward, in_t strike, in_t years, const uint8_t* is_call, bint inverse,
                        out_t sigma, code_t status, block_t* b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef mills_t* m = &b.mills
    for i in range(n):
        b.sign[i] = 2.0 * is_call[i] - 1.0
    if inverse:
        excess_inverse_loop(premium, forward, strike, b.sign, b.excess, b.room, n)
    else:
        excess_loop(premium, forward, strike, b.sign, b.excess, b.room, n)
    distances(0, forward, strike, b.x, n)
    normals_loop(forward, strike, b.excess, b.normal, b.least, n)
    seeds_loop(b.normal, b.x, b.v, n)
    shape_loop(b.x, b.v, b.h, b.t, b.density, n)
    mills_pairs(0, b.h, b.t, m, n)
    steps_loop(b.h, b.t, b.density, m.minus, m.plus, m.difference, b.least, b.excess, b.v, b.step, n)
    sigmas_loop(years, b.v, b.step, sigma, n)
    memset(status, MC_VOL_OK, n)
    if served_loop(b.normal, b.x, b.excess, b.room, b.least, years, b.served, n) == n:
        return
    for i in range(n):
        if not b.served[i]:
            sigma[i] = unserved(premium[i], forward[i], strike[i], years[i], b.sign[i], b.excess[i], b.room[i], b.x[i],
                                &status[i])


cdef void implied_loop(in_t premium, in_t forward, in_t strike, in_t years, const uint8_t* is_call, bint inverse,
                       out_t sigma, code_t status, Py_ssize_t n) noexcept nogil:
    cdef block_t b
    cdef Py_ssize_t i = 0, m
    if n < 4:
        for i in range(n):
            sigma[i] = implied_one(premium[i], forward[i], strike[i], years[i], 2.0 * is_call[i] - 1.0, inverse,
                                   &status[i])
        return
    while i < n:
        m = n - i if n - i < BLOCK else BLOCK
        implied_block(premium + i, forward + i, strike + i, years + i, is_call + i, inverse, sigma + i, status + i, &b,
                      m)
        i += m


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
    return implied_one(premium, forward, strike, years, 1.0 if is_call else -1.0, inverse, &code)
