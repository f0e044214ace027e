"""Closed forms: elementary functions, normal law, Black-76; scalar formulas first, their loops after.

Loops go over blocks in short stages (mills.pxd); every result is the same bits at every level.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport INFINITY, fabs, sqrt
from libc.stdint cimport int64_t, uint8_t

from margincore.errors import ShapeError
from margincore.kernels.black cimport (
    vm_bits, vm_black_density, vm_black_shape, vm_black_value, vm_black_weights, vm_exp, vm_exp_normal, vm_expm1,
    vm_log, vm_log1p, vm_log_ratio, vm_mills, vm_mills_pair_by, vm_normal_cdf, vm_normal_pdf, vm_normal_quantile,
    vm_pow,
)
from margincore.kernels.mills cimport BLOCK, distance_of, distances, in_t, mills_pairs, mills_t, out_t

cnp.import_array()

cdef double normal_pdf(double x) noexcept nogil:
    return vm_normal_pdf(x)


cdef double normal_cdf(double x) noexcept nogil:
    return vm_normal_cdf(x)


cdef double normal_quantile(double p) noexcept nogil:
    return vm_normal_quantile(p)


cdef double black76(double forward, double strike, double years, double sigma, int is_call) noexcept nogil:
    return vm_black_value(forward, strike, distance_of(1, forward, strike), sigma * sqrt(years), 1.0 if is_call else -1.0)


cdef double black76_inverse(double forward, double strike, double years, double sigma, int is_call) noexcept nogil:
    return black76(forward, strike, years, sigma, is_call) / forward


# Elementwise functions -----------------------------------------------------------------------------------------------

cdef void exp_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_exp(x[i])


cdef void expm1_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_expm1(x[i])


cdef void log_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_log(x[i])


cdef void log1p_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_log1p(x[i])


cdef void mills_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_mills(x[i])


cdef void normal_pdf_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_normal_pdf(x[i])


cdef void normal_cdf_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_normal_cdf(x[i])


cdef void normal_quantile_loop(in_t x, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_normal_quantile(x[i])


cdef void pow_loop(in_t x, in_t p, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_pow(x[i], p[i])


cdef void log_ratio_loop(in_t a, in_t b, out_t y, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = vm_log_ratio(a[i], b[i])


ctypedef void (*map_t)(in_t, out_t, Py_ssize_t) noexcept nogil
ctypedef void (*map2_t)(in_t, in_t, out_t, Py_ssize_t) noexcept nogil


cdef object apply(map_t loop, const double[::1] x, double[::1] out):
    if x.shape[0] != out.shape[0]:
        raise ShapeError(f"out must have length {x.shape[0]}, had {out.shape[0]}")
    if x.shape[0]:
        with nogil:
            loop(&x[0], &out[0], x.shape[0])


cdef object apply2(map2_t loop, const double[::1] x, const double[::1] y, double[::1] out):
    if x.shape[0] != out.shape[0] or y.shape[0] != out.shape[0]:
        raise ShapeError(f"x, y and out must have one length, had {x.shape[0]}, {y.shape[0]}, {out.shape[0]}")
    if x.shape[0]:
        with nogil:
            loop(&x[0], &y[0], &out[0], x.shape[0])


def exps(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with e^x."""
    apply(exp_loop, x, out)


def expm1s(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with e^x - 1."""
    apply(expm1_loop, x, out)


def logs(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with the natural logarithm."""
    apply(log_loop, x, out)


def log1ps(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with ln(1 + x)."""
    apply(log1p_loop, x, out)


def mills_ratios(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with N(-x) / phi(x), x >= 0."""
    apply(mills_loop, x, out)


def normal_pdfs(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with the standard normal density."""
    apply(normal_pdf_loop, x, out)


def normal_cdfs(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with the standard normal distribution."""
    apply(normal_cdf_loop, x, out)


def normal_quantiles(const double[::1] p not None, double[::1] out not None):
    """Fill `out` with the standard normal quantile; NaN outside [0, 1]."""
    apply(normal_quantile_loop, p, out)


def powers(const double[::1] x not None, const double[::1] y not None, double[::1] out not None):
    """Fill `out` with x^y; NaN for x < 0."""
    apply2(pow_loop, x, y, out)


def log_ratios(const double[::1] a not None, const double[::1] b not None, double[::1] out not None):
    """Fill `out` with ln(a / b), accurate near a = b."""
    apply2(log_ratio_loop, a, b, out)


# Price and greeks ----------------------------------------------------------------------------------------
# V = e^(-rT) B(F, K, sigma, T), derivatives by the forward.  With lo = min(F, K) everything is made of
# lo phi(h - t), which is F phi(d1) = K phi(d2), and the two weights of vm_black_parts; 1 / (v F max(F, K))
# serves gamma, theta and delta with one division.  At v = 0 the greeks are their limits: at F = K gamma is
# infinite there.

cdef struct block_t:
    double sign[BLOCK]
    double root[BLOCK]                   # sqrt(T)
    double x[BLOCK]                      # |ln(F / K)|
    double h[BLOCK]
    double t[BLOCK]
    double density[BLOCK]
    double discount[BLOCK]
    mills_t mills


cdef void shape_loop(in_t x, in_t years, in_t sigma, out_t root, out_t h, out_t t, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double half, r
    for i in range(n):
        r = sqrt(years[i])
        h[i] = vm_black_shape(x[i], sigma[i] * r, &half)
        t[i] = half
        root[i] = r


cdef void density_loop(in_t h, in_t t, out_t density, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        density[i] = vm_black_density(h[i], t[i])


# e^(-rT), which is 1 in the usual block without a rate.
cdef void discount_loop(in_t rate, in_t years, out_t discount, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t some = 0
    for i in range(n):
        discount[i] = 1.0
        some |= vm_bits(fabs(rate[i] * years[i]))
    if some != 0:
        for i in range(n):
            discount[i] = vm_exp_normal(-rate[i] * years[i], 0.0)


cdef void prices_loop(in_t forward, in_t strike, in_t sign, in_t h, in_t t, in_t minus, in_t plus, in_t difference,
                      in_t density, in_t discount, double inverse, out_t price, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double f, k, low, ratio, intrinsic, w1, c1, w2
    for i in range(n):
        f = forward[i]
        k = strike[i]
        low = f if f < k else k
        ratio = vm_black_weights(h[i], t[i], density[i], difference[i], minus[i], plus[i], &w1, &c1, &w2)
        intrinsic = sign[i] * (f - k)
        price[i] = discount[i] * (
            low * ratio + (0.0 if intrinsic < 0.0 else intrinsic)) / (f if inverse > 0.0 else 1.0)


ctypedef struct greeks_t:
    double price
    double delta
    double gamma
    double vega
    double theta
    double rho


# From the stages of vmath.h: h, t, the Mills ratios and their difference, the density and the discount.
cdef inline greeks_t greeks_of(double f, double k, double years, double sigma, double rate, double sign, double root,
                               double h, double t, double minus, double plus, double difference, double density,
                               double discount) noexcept nogil:
    cdef greeks_t g
    cdef double w1, c1, w2, ratio, shared, mass, intrinsic, fraction, decay, lower, upper
    cdef double v = sigma * root
    cdef double low = f if f < k else k
    cdef double high = k if f < k else f
    ratio = vm_black_weights(h, t, density, difference, minus, plus, &w1, &c1, &w2)
    shared = 1.0 / (v * f * high)
    mass = discount * low * density
    intrinsic = sign * (f - k)
    g.price = discount * (low * ratio + (0.0 if intrinsic < 0.0 else intrinsic))
    fraction = low * v * f * shared if v > 0.0 else 1.0
    decay = 0.5 * mass * sigma * sigma * (f * high * shared)
    lower = w1 if sign > 0.0 else -c1
    upper = (1.0 if sign > 0.0 else 0.0) - w2 * fraction
    g.delta = discount * (lower if f < k else upper)
    g.gamma = discount * density * (k * shared) if v > 0.0 else (INFINITY if density > 0.0 else density)
    g.vega = mass * root
    g.theta = rate * g.price - (decay if v > 0.0 else (INFINITY if mass * sigma > 0.0 else mass * sigma))
    g.rho = -years * g.price
    return g


# In coin the value is B / F: its slope is sign K N(sign d2) / F^2, without the cancellation of F B_F - B.
cdef inline greeks_t greeks_inverse_of(double f, double k, double years, double sigma, double rate, double sign,
                                       double root, double h, double t, double minus, double plus, double difference,
                                       double density, double discount) noexcept nogil:
    cdef greeks_t g
    cdef double w1, c1, w2, ratio, mass, intrinsic, weight, one, reciprocal, lower, upper
    cdef double v = sigma * root
    cdef double low = f if f < k else k
    ratio = vm_black_weights(h, t, density, difference, minus, plus, &w1, &c1, &w2)
    one = 1.0 / f
    reciprocal = 1.0 / v
    mass = discount * low * density * one
    intrinsic = sign * (f - k)
    g.price = discount * (low * ratio + (0.0 if intrinsic < 0.0 else intrinsic)) * one
    lower = w2 * f - (0.0 if sign > 0.0 else k)
    upper = k * (c1 if sign > 0.0 else -w1)
    weight = discount * (lower if f < k else upper) * one
    g.delta = weight * one
    g.gamma = ((mass * reciprocal if v > 0.0 else (INFINITY if mass > 0.0 else mass)) - 2.0 * weight) * one * one
    g.vega = mass * root
    g.theta = rate * g.price - (0.5 * mass * sigma * sigma * reciprocal if v > 0.0
                                else (INFINITY if mass * sigma > 0.0 else mass * sigma))
    g.rho = -years * g.price
    return g


cdef void greeks_loop(in_t forward, in_t strike, in_t years, in_t sigma, in_t rate, in_t sign, in_t root, in_t h,
                      in_t t, in_t minus, in_t plus, in_t difference, in_t density, in_t discount, out_t price,
                      out_t delta, out_t gamma, out_t vega, out_t theta, out_t rho, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef greeks_t g
    for i in range(n):
        g = greeks_of(forward[i], strike[i], years[i], sigma[i], rate[i], sign[i], root[i], h[i], t[i], minus[i],
                      plus[i], difference[i], density[i], discount[i])
        price[i] = g.price
        delta[i] = g.delta
        gamma[i] = g.gamma
        vega[i] = g.vega
        theta[i] = g.theta
        rho[i] = g.rho


cdef void greeks_inverse_loop(in_t forward, in_t strike, in_t years, in_t sigma, in_t rate, in_t sign, in_t root, in_t h,
                              in_t t, in_t minus, in_t plus, in_t difference, in_t density, in_t discount, out_t price,
                              out_t delta, out_t gamma, out_t vega, out_t theta, out_t rho, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef greeks_t g
    for i in range(n):
        g = greeks_inverse_of(forward[i], strike[i], years[i], sigma[i], rate[i], sign[i], root[i], h[i], t[i], minus[i],
                              plus[i], difference[i], density[i], discount[i])
        price[i] = g.price
        delta[i] = g.delta
        gamma[i] = g.gamma
        vega[i] = g.vega
        theta[i] = g.theta
        rho[i] = g.rho


cdef void higher_loop(in_t forward, in_t strike, in_t years, in_t sigma, in_t rate, in_t delta, double inverse,
                      out_t vanna, out_t volga, out_t charm, Py_ssize_t n) noexcept nogil:
    # vanna = d2V/dF dsigma, volga = d2V/dsigma2, charm = d(delta)/dt at fixed forward; `delta` from greeks_loop.
    # d1 / v and d2 / v tend to +-1/2 as v goes to zero at F = K.
    cdef Py_ssize_t i
    cdef double f, k, root, v, low, h, t, d1, d2, mass, slope, unit, decay
    for i in range(n):
        f = forward[i]
        k = strike[i]
        root = sqrt(years[i])
        v = sigma[i] * root
        low = f if f < k else k
        h = vm_black_shape(fabs(vm_log_ratio(f, k)), v, &t)
        d1 = t - h if f < k else t + h
        d2 = -t - h if f < k else h - t
        unit = f if inverse > 0.0 else 1.0
        mass = vm_exp_normal(-rate[i] * years[i], 0.0) * low * vm_normal_pdf(h - t) / f
        slope = (-d1 / unit if inverse > 0.0 else -d2) / v if v > 0.0 else (-0.5 if inverse > 0.0 else 0.5) / unit
        decay = 0.5 * mass * slope * sigma[i] * sigma[i] / v if v > 0.0 else (
            slope * INFINITY if mass * sigma[i] > 0.0 else mass * sigma[i])
        vanna[i] = mass * slope * root
        volga[i] = mass * f / unit * root * root * (d1 * d2 / v if v > 0.0 else 0.0)
        charm[i] = rate[i] * delta[i] - decay


cdef void spot_higher_loop(in_t forward, in_t spot, in_t years, in_t delta, in_t gamma, out_t vanna, out_t charm,
                           Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double carry, ratio
    for i in range(n):
        ratio = forward[i] / spot[i]
        carry = vm_log_ratio(forward[i], spot[i]) / years[i] if years[i] > 0.0 else 0.0
        vanna[i] = vanna[i] * ratio
        charm[i] = ratio * (charm[i] - carry * (forward[i] * gamma[i] + delta[i]))


cdef void spot_loop(in_t forward, in_t spot, in_t years, in_t price, double direction, out_t delta, out_t gamma,
                    out_t theta, out_t rho, Py_ssize_t n) noexcept nogil:
    # The chain rule of F = S e^(bT) with b = ln(F / S) / T: the forward runs towards the spot as time passes.
    cdef Py_ssize_t i
    cdef double carry, ratio, exposure
    for i in range(n):
        ratio = forward[i] / spot[i]
        carry = vm_log_ratio(forward[i], spot[i]) / years[i] if years[i] > 0.0 else 0.0
        exposure = forward[i] * delta[i]
        theta[i] = theta[i] - carry * exposure
        rho[i] = years[i] * (direction * exposure - price[i])
        gamma[i] = gamma[i] * ratio * ratio
        delta[i] = delta[i] * ratio


# Python entry points ---------------------------------------------------------------------------------------
# Arrays are float64, C-contiguous and of one length; `is_call` is uint8 or bool.  Flags become signs in blocks
# that stay in the first-level cache.  Units: price in the unit of the forward (inverse: coin), theta and charm
# per year, vega, vanna and volga per 1.00 of volatility, rho per 1.00 of the rate.

cdef void fill_signs(const uint8_t* is_call, double* sign, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        sign[i] = 2.0 * is_call[i] - 1.0


cdef double* column(object given, str name, Py_ssize_t n, bint writable) except? NULL:
    # Raw pointer of a float64 vector: a memoryview argument would cost a hundred nanoseconds.
    cdef cnp.ndarray array
    if not isinstance(given, cnp.ndarray):
        raise ShapeError(f"{name} must be an array, was {type(given).__name__}")
    array = given
    if cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT64 or not cnp.PyArray_ISCARRAY_RO(array):
        raise ShapeError(f"{name} must be a C-contiguous float64 array, had dtype {array.dtype}")
    if cnp.PyArray_NDIM(array) != 1 or cnp.PyArray_DIM(array, 0) != n:
        raise ShapeError(f"{name} must have shape ({n},), had {given.shape}")
    if writable and not cnp.PyArray_ISWRITEABLE(array):
        raise ShapeError(f"{name} must be writable")
    return <double*>cnp.PyArray_DATA(array)


cdef uint8_t* flags(object given, str name, Py_ssize_t n) except? NULL:
    cdef cnp.ndarray array
    if not isinstance(given, cnp.ndarray):
        raise ShapeError(f"{name} must be an array, was {type(given).__name__}")
    array = given
    if cnp.PyArray_TYPE(array) not in (cnp.NPY_BOOL, cnp.NPY_UINT8) or not cnp.PyArray_ISCARRAY_RO(array):
        raise ShapeError(f"{name} must be a C-contiguous bool or uint8 array, had dtype {array.dtype}")
    if cnp.PyArray_NDIM(array) != 1 or cnp.PyArray_DIM(array, 0) != n:
        raise ShapeError(f"{name} must have shape ({n},), had {given.shape}")
    return <uint8_t*>cnp.PyArray_DATA(array)


cdef Py_ssize_t length(object given) except -1:
    if not isinstance(given, cnp.ndarray) or cnp.PyArray_NDIM(<cnp.ndarray>given) != 1:
        raise ShapeError("forward must be a vector of float64")
    return cnp.PyArray_DIM(<cnp.ndarray>given, 0)


cdef void start_block(in_t f, in_t k, in_t t, in_t s, in_t r, const uint8_t* c, block_t* b,
                      Py_ssize_t m) noexcept nogil:
    fill_signs(c, b.sign, m)
    distances(1, f, k, b.x, m)
    shape_loop(b.x, t, s, b.root, b.h, b.t, m)
    mills_pairs(1, b.h, b.t, &b.mills, m)
    density_loop(b.h, b.t, b.density, m)
    discount_loop(r, t, b.discount, m)


cdef void greeks_blocks(in_t f, in_t k, in_t t, in_t s, in_t r, const uint8_t* c, out_t price, out_t delta,
                        out_t gamma, out_t vega, out_t theta, out_t rho, bint inverse,
                        Py_ssize_t n) noexcept nogil:
    cdef block_t b
    cdef mills_t* m = &b.mills
    cdef Py_ssize_t i = 0, count
    while i < n:
        count = n - i if n - i < BLOCK else BLOCK
        start_block(f + i, k + i, t + i, s + i, r + i, c + i, &b, count)
        if inverse:
            greeks_inverse_loop(f + i, k + i, t + i, s + i, r + i, b.sign, b.root, b.h, b.t, m.minus, m.plus,
                                m.difference, b.density, b.discount, price + i, delta + i, gamma + i, vega + i,
                                theta + i, rho + i, count)
        else:
            greeks_loop(f + i, k + i, t + i, s + i, r + i, b.sign, b.root, b.h, b.t, m.minus, m.plus,
                        m.difference, b.density, b.discount, price + i, delta + i, gamma + i, vega + i,
                        theta + i, rho + i, count)
        i += count


cdef void prices_blocks(in_t f, in_t k, in_t t, in_t s, in_t r, const uint8_t* c, bint inverse, out_t price,
                        Py_ssize_t n) noexcept nogil:
    cdef block_t b
    cdef mills_t* m = &b.mills
    cdef Py_ssize_t i = 0, count
    while i < n:
        count = n - i if n - i < BLOCK else BLOCK
        start_block(f + i, k + i, t + i, s + i, r + i, c + i, &b, count)
        prices_loop(f + i, k + i, b.sign, b.h, b.t, m.minus, m.plus, m.difference, b.density, b.discount, inverse,
                    price + i, count)
        i += count


def prices(forward, strike, years, sigma, rate, is_call, out, bint inverse=False):
    """Fill `out` with e^(-rate years) times the Black-76 value of one unit, by the forward; in coin when `inverse`."""
    cdef Py_ssize_t n = length(forward)
    cdef double* f = column(forward, "forward", n, False)
    cdef double* k = column(strike, "strike", n, False)
    cdef double* t = column(years, "years", n, False)
    cdef double* s = column(sigma, "sigma", n, False)
    cdef double* r = column(rate, "rate", n, False)
    cdef uint8_t* c = flags(is_call, "is_call", n)
    cdef double* o = column(out, "out", n, True)
    with nogil:
        prices_blocks(f, k, t, s, r, c, inverse, o, n)


def greeks(forward, strike, years, sigma, rate, is_call, price, delta, gamma, vega, theta, rho,
           bint inverse=False):
    """Fill price, delta, gamma, vega, theta and rho of one unit, by the forward; in coin when `inverse`."""
    cdef Py_ssize_t n = length(forward)
    cdef double* f = column(forward, "forward", n, False)
    cdef double* k = column(strike, "strike", n, False)
    cdef double* t = column(years, "years", n, False)
    cdef double* s = column(sigma, "sigma", n, False)
    cdef double* r = column(rate, "rate", n, False)
    cdef uint8_t* c = flags(is_call, "is_call", n)
    cdef double* o0 = column(price, "price", n, True)
    cdef double* o1 = column(delta, "delta", n, True)
    cdef double* o2 = column(gamma, "gamma", n, True)
    cdef double* o3 = column(vega, "vega", n, True)
    cdef double* o4 = column(theta, "theta", n, True)
    cdef double* o5 = column(rho, "rho", n, True)
    if n < 512:  # giving up the lock costs as much as eight options
        greeks_blocks(f, k, t, s, r, c, o0, o1, o2, o3, o4, o5, inverse, n)
    else:
        with nogil:
            greeks_blocks(f, k, t, s, r, c, o0, o1, o2, o3, o4, o5, inverse, n)


def higher_greeks(forward, strike, years, sigma, rate, delta, vanna, volga, charm, bint inverse=False):
    """Fill vanna, volga and charm of one unit, by the forward; `delta` as `greeks` filled it."""
    cdef Py_ssize_t n = length(forward)
    cdef double* f = column(forward, "forward", n, False)
    cdef double* k = column(strike, "strike", n, False)
    cdef double* t = column(years, "years", n, False)
    cdef double* s = column(sigma, "sigma", n, False)
    cdef double* r = column(rate, "rate", n, False)
    cdef double* d = column(delta, "delta", n, False)
    cdef double* o0 = column(vanna, "vanna", n, True)
    cdef double* o1 = column(volga, "volga", n, True)
    cdef double* o2 = column(charm, "charm", n, True)
    with nogil:
        higher_loop(f, k, t, s, r, d, inverse, o0, o1, o2, n)


def spot_higher_greeks(forward, spot, years, delta, gamma, vanna, charm):
    """Turn vanna and charm by the forward into those by the spot; `delta` and `gamma` still by the forward."""
    cdef Py_ssize_t n = length(forward)
    cdef double* f = column(forward, "forward", n, False)
    cdef double* s = column(spot, "spot", n, False)
    cdef double* t = column(years, "years", n, False)
    cdef double* d = column(delta, "delta", n, False)
    cdef double* g = column(gamma, "gamma", n, False)
    cdef double* o0 = column(vanna, "vanna", n, True)
    cdef double* o1 = column(charm, "charm", n, True)
    with nogil:
        spot_higher_loop(f, s, t, d, g, o0, o1, n)


def spot_greeks(forward, spot, years, price, delta, gamma, theta, rho, bint inverse=False):
    """Turn delta, gamma, theta and rho by the forward into those by the spot, the other rate held fixed."""
    cdef Py_ssize_t n = length(forward)
    cdef double* f = column(forward, "forward", n, False)
    cdef double* s = column(spot, "spot", n, False)
    cdef double* t = column(years, "years", n, False)
    cdef double* p = column(price, "price", n, False)
    cdef double* o0 = column(delta, "delta", n, True)
    cdef double* o1 = column(gamma, "gamma", n, True)
    cdef double* o2 = column(theta, "theta", n, True)
    cdef double* o3 = column(rho, "rho", n, True)
    with nogil:
        spot_loop(f, s, t, p, -1.0 if inverse else 1.0, o0, o1, o2, o3, n)


@cython.final
@cython.freelist(16)
cdef class Greeks:
    """Price, delta, gamma, vega, theta and rho of one option; unpacks in this order."""
    cdef readonly double price, delta, gamma, vega, theta, rho

    def __iter__(self):
        return iter((self.price, self.delta, self.gamma, self.vega, self.theta, self.rho))

    def __repr__(self):
        return (f"Greeks(price={self.price!r}, delta={self.delta!r}, gamma={self.gamma!r}, vega={self.vega!r}, "
                f"theta={self.theta!r}, rho={self.rho!r})")


def greeks_one(double forward, double strike, double years, double sigma, double rate, bint is_call,
               bint inverse=False):
    """Greeks of one option: the bits of `greeks`, without its blocks."""
    cdef Greeks result = Greeks.__new__(Greeks)
    cdef greeks_t g
    cdef double t, minus, plus
    cdef double sign = 1.0 if is_call else -1.0, root = sqrt(years)
    cdef double h = vm_black_shape(distance_of(1, forward, strike), sigma * root, &t)
    cdef double difference = vm_mills_pair_by(1, h, t, &minus, &plus)
    cdef double density = vm_black_density(h, t), discount = vm_exp_normal(-rate * years, 0.0)
    if inverse:
        g = greeks_inverse_of(forward, strike, years, sigma, rate, sign, root, h, t, minus, plus, difference, density,
                              discount)
    else:
        g = greeks_of(forward, strike, years, sigma, rate, sign, root, h, t, minus, plus, difference, density, discount)
    result.price, result.delta, result.gamma = g.price, g.delta, g.gamma
    result.vega, result.theta, result.rho = g.vega, g.theta, g.rho
    return result


def price(double forward, double strike, double years, double sigma, bint is_call):
    """Undiscounted Black-76 value of one unit, in the unit of `forward`; NaN for impossible arguments."""
    return black76(forward, strike, years, sigma, is_call)


def price_inverse(double forward, double strike, double years, double sigma, bint is_call):
    """Undiscounted value of one unit of a coin-settled option, in coin; NaN for impossible arguments."""
    return black76_inverse(forward, strike, years, sigma, is_call)
