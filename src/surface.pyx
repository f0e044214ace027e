"""Smile and surface evaluation, and the certificates that a smile holds no arbitrage.

A slice is a row: raw SVI parameters (a, b, rho, m, sigma) of total variance, or a cubic spline of total variance on
nodes of log-moneyness.  Cost: an SVI slice is one square root and one division; between two expiries about
three evaluations of the logarithm of an option price; a certificate is a polynomial of degree 10 on (0, 1).
"""

import numpy as np

cimport numpy as cnp
from libc.math cimport NAN, fabs, fmax, fmin, sqrt
from libc.stdint cimport int64_t, uint8_t

from margincore.errors import ShapeError

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_log(double x)
    double vm_log_ratio(double a, double b)
    double vm_log_ratio_usual_by(int fused, double a, double b)
    double vm_mills(double a)
    int64_t vm_unusual(double x)

# ---- slices -----------------------------------------------------------------------------------------------------

cdef inline void svi_terms(const double* p, double k, double* w, double* slope, double* bend) noexcept nogil:
    # w = a + b (rho x + s), x = k - m, s = sqrt(x^2 + sigma^2); written without the cancellation of s - |x|.
    cdef double x = k - p[3], ax = fabs(x), s = sqrt(x * x + p[4] * p[4])
    w[0] = p[0] + p[1] * (p[4] * p[4] / (s + ax) + (ax + p[2] * x))
    slope[0] = p[1] * (p[2] + x / s)
    bend[0] = p[1] * (p[4] / s) * (p[4] / s) / s


cdef void spline_terms(const double* knots, const double* row, Py_ssize_t n, double k, double* w, double* slope,
                       double* bend) noexcept nogil:
    # row: n values of w, then n second derivatives (zero at both ends); beyond the ends a straight line in k
    # whose slope never points down outwards (total variance stays positive) nor beyond Lee's bound of 2.
    cdef Py_ssize_t low = 0, high = n - 1, middle
    cdef double h, left, right, edge
    if n == 1:
        w[0], slope[0], bend[0] = row[0], 0.0, 0.0
        return
    if k < knots[0] or k > knots[n - 1]:
        low = 0 if k < knots[0] else n - 2
        h = knots[low + 1] - knots[low]
        edge = (row[low + 1] - row[low]) / h
        if k < knots[0]:
            slope[0] = fmax(fmin(edge - h * row[n + 1] / 6.0, 0.0), -2.0)
            w[0] = row[0] + slope[0] * (k - knots[0])
        else:
            slope[0] = fmin(fmax(edge + h * row[2 * n - 2] / 6.0, 0.0), 2.0)
            w[0] = row[n - 1] + slope[0] * (k - knots[n - 1])
        bend[0] = 0.0
        return
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= k:
            low = middle
        else:
            high = middle
    h = knots[high] - knots[low]
    right = (k - knots[low]) / h
    left = 1.0 - right
    w[0] = (left * row[low] + right * row[high]
            - h * h / 6.0 * left * right * ((1.0 + left) * row[n + low] + (1.0 + right) * row[n + high]))
    slope[0] = ((row[high] - row[low]) / h + h / 6.0 * ((3.0 * right * right - 1.0) * row[n + high]
                                                        - (3.0 * left * left - 1.0) * row[n + low]))
    bend[0] = left * row[n + low] + right * row[n + high]


cdef inline void slice_terms(const double* knots, const double* row, Py_ssize_t n, double k, double* w, double* slope,
                             double* bend) noexcept nogil:
    if knots == NULL:
        svi_terms(row, k, w, slope, bend)
    else:
        spline_terms(knots, row, n, k, w, slope, bend)


cdef inline double durrleman(double k, double w, double slope, double bend) noexcept nogil:
    # g(k) = (1 - k w'/(2 w))^2 - w'^2/4 (1/w + 1/4) + w''/2; the density is g phi(d2)/sqrt(w) (Gatheral 2014, eq. 2.1)
    cdef double lean = 1.0 - 0.5 * k * slope / w
    return lean * lean - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * bend


# ---- between expiries ---------------------------------------------------------------------------------------------

cdef inline double log_price(double x, double s, double* mills) noexcept nogil:
    # Logarithm of the out-of-the-money Black price over the forward times sqrt(2 pi), |ln K/F| = x, s = vol sqrt(T):
    # ln c = -d1^2/2 + ln(M(x/s - s/2) - M(x/s + s/2)), M = Mills ratio; the derivative in s is 1 / that difference.
    # Past the money M(-a) = sqrt(2 pi) exp(a^2/2) - M(a).
    cdef double h = x / s, t = 0.5 * s, near = vm_mills(fabs(h - t))
    if h < t:
        near = 2.5066282746310002 * vm_exp(0.5 * (h - t) * (h - t)) - near
    mills[0] = near - vm_mills(h + t)
    return -0.5 * (h - t) * (h - t) + vm_log(mills[0])


cdef double mixed_variance(double k, double w1, double w2, double weight) noexcept nogil:
    # w with price(w) = weight price(w1) + (1 - weight) price(w2) at log-moneyness k: bracketed by w1 and w2, so
    # Halley steps on the logarithm of the price, clipped to the bracket, cannot be lost.
    cdef double x = fabs(k), low = sqrt(fmin(w1, w2)), high = sqrt(fmax(w1, w2)), s, m, f, step, curve, goal, one, two
    cdef int _i
    if not low > 0.0:
        return NAN
    if high - low <= 1e-15 * high:
        return w1
    one, two = log_price(x, sqrt(w1), &m), log_price(x, sqrt(w2), &m)
    f = fmax(one, two)
    goal = f + vm_log(weight * vm_exp(one - f) + (1.0 - weight) * vm_exp(two - f))
    s = sqrt(weight * w1 + (1.0 - weight) * w2)
    for _i in range(40):
        f = log_price(x, s, &m) - goal
        curve = ((x / s) * (x / s) - 0.25 * s * s) / s - 1.0 / m          # second derivative over the first
        step = f * m
        step = step / fmin(fmax(1.0 - 0.5 * step * curve, 0.5), 2.0)
        f = fmin(fmax(s - step, low), high)
        step = f - s
        s = f
        if fabs(step) <= 4e-16 * s:
            break
    return s * s


cdef struct surface_t:
    const double* rows
    const double* knots
    const int64_t* expiry_ns
    const double* forward
    const uint8_t* linear
    Py_ssize_t slices, nodes, width
    int64_t time_ns
    double spot


cdef inline Py_ssize_t slice_after(const surface_t* c, int64_t when_ns) noexcept nogil:
    # First slice whose expiry is not before `when_ns`.
    cdef Py_ssize_t low = 0, high = c.slices, middle
    while low < high:
        middle = (low + high) // 2
        if c.expiry_ns[middle] < when_ns:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline const double* knots_of(const surface_t* c, Py_ssize_t i) noexcept nogil:
    return NULL if c.knots == NULL else c.knots + i * c.nodes


# ln(a / b), NaN unless both are positive.
cdef inline double log_ratio(double a, double b) noexcept nogil:
    if (vm_unusual(a) | vm_unusual(b)) < 0:
        return vm_log_ratio(a, b) if a > 0.0 and b > 0.0 else NAN
    return vm_log_ratio_usual_by(1, a, b)


cdef double surface_forward(const surface_t* c, int64_t when_ns, Py_ssize_t i) noexcept nogil:
    # Log-linear in time between expiries, from the spot to the first if it is known; the last carry rate continues.
    # `i` is the slice after.
    cdef double share
    if not when_ns > c.time_ns:
        return NAN
    if i < c.slices and c.expiry_ns[i] == when_ns:
        return c.forward[i]
    if i == 0 or i == c.slices:
        i = i - 1 if i else 0
        if not c.spot > 0.0:
            return c.forward[i]
        share = <double> (when_ns - c.time_ns) / <double> (c.expiry_ns[i] - c.time_ns)
        return c.spot * vm_exp(share * log_ratio(c.forward[i], c.spot))
    share = <double> (when_ns - c.expiry_ns[i - 1]) / <double> (c.expiry_ns[i] - c.expiry_ns[i - 1])
    return c.forward[i - 1] * vm_exp(share * log_ratio(c.forward[i], c.forward[i - 1]))


cdef bint bends_up(double k, const double* one, const double* two, double margin) noexcept nogil:
    # Is g >= margin at log-moneyness k on every straight line in time between two slices, given as (w, w', w'')?
    # (g - margin) w^2 is a polynomial of degree 4 in the share of time; its Bernstein coefficients bound it from
    # below.  Products of linear and quadratic Bernstein forms: coefficient of degree n, index i carries 1 / C(n, i).
    cdef double u0 = one[0] - 0.5 * k * one[1], u1 = two[0] - 0.5 * k * two[1]
    cdef double[3] lean, square, variance
    cdef double[5] low
    cdef double w0 = one[0], w1 = two[0], s0 = one[1], s1 = two[1]
    cdef int i
    lean[0], lean[1], lean[2] = u0 * u0, u0 * u1, u1 * u1
    square[0], square[1], square[2] = s0 * s0, s0 * s1, s1 * s1
    variance[0], variance[1], variance[2] = w0 * w0, w0 * w1, w1 * w1
    for i in range(5):
        low[i] = 0.0
    # ((1 - kw'/2w) w)^2 - margin w^2, raised from degree 2 to 4
    for i in range(3):
        lean[i] -= margin * variance[i]
    low[0], low[4] = lean[0], lean[2]
    low[1] = 0.5 * (lean[0] + lean[1])
    low[2] = (lean[0] + 4.0 * lean[1] + lean[2]) / 6.0
    low[3] = 0.5 * (lean[1] + lean[2])
    # - w'^2 w / 4, degree 3 raised to 4
    u0, u1 = (square[0] * w1 + 2.0 * square[1] * w0) / 3.0, (2.0 * square[1] * w1 + square[2] * w0) / 3.0
    low[0] -= 0.25 * square[0] * w0
    low[1] -= 0.25 * (0.25 * square[0] * w0 + 0.75 * u0)
    low[2] -= 0.25 * 0.5 * (u0 + u1)
    low[3] -= 0.25 * (0.75 * u1 + 0.25 * square[2] * w1)
    low[4] -= 0.25 * square[2] * w1
    # - w'^2 w^2 / 16, degree 4
    low[0] -= square[0] * variance[0] / 16.0
    low[1] -= (square[0] * variance[1] + square[1] * variance[0]) / 32.0
    low[2] -= (square[0] * variance[2] + 4.0 * square[1] * variance[1] + square[2] * variance[0]) / 96.0
    low[3] -= (square[1] * variance[2] + square[2] * variance[1]) / 32.0
    low[4] -= square[2] * variance[2] / 16.0
    # + w'' w^2 / 2, degree 3 raised to 4
    s0, s1 = one[2], two[2]
    u0, u1 = (s1 * variance[0] + 2.0 * s0 * variance[1]) / 3.0, (2.0 * s1 * variance[1] + s0 * variance[2]) / 3.0
    low[0] += 0.5 * s0 * variance[0]
    low[1] += 0.5 * (0.25 * s0 * variance[0] + 0.75 * u0)
    low[2] += 0.5 * 0.5 * (u0 + u1)
    low[3] += 0.5 * (0.75 * u1 + 0.25 * s1 * variance[2])
    low[4] += 0.5 * s1 * variance[2]
    return w0 > 0.0 and w1 > 0.0 and low[0] >= 0.0 and low[1] >= 0.0 and low[2] >= 0.0 and low[3] >= 0.0 and low[4] >= 0.0


cdef bint line_is_clean(const surface_t* c, Py_ssize_t i) noexcept nogil:
    # May total variance run straight in time from slice i to i + 1?  Asked at points spread over the scale of both
    # slices, with a margin that covers what lies between the points; a no only costs the slower average of prices.
    cdef double[3] one, two
    cdef double k, y
    cdef const double* row
    cdef Py_ssize_t side, j, points = 97 if c.knots == NULL else 4 * (c.nodes + 1)
    for side in range(2):
        row = c.rows + (i + side) * c.width
        for j in range(points):
            if c.knots == NULL:
                y = vm_exp(fabs(<double> j - 48.0) * 0.25) - 1.0
                k = row[3] + row[4] * (y if j > 48 else -y)
            else:
                k = spread_node(c.knots + (i + side) * c.nodes, c.nodes, j)
            slice_terms(knots_of(c, i), c.rows + i * c.width, c.nodes, k, &one[0], &one[1], &one[2])
            slice_terms(knots_of(c, i + 1), c.rows + (i + 1) * c.width, c.nodes, k, &two[0], &two[1], &two[2])
            if not bends_up(k, one, two, 2e-3):
                return False
    return True


cdef double spread_node(const double* knots, Py_ssize_t n, Py_ssize_t j) noexcept nogil:
    # Four points per gap between nodes, and four beyond each end at growing distance.
    cdef Py_ssize_t gap = j // 4
    cdef double share = 0.25 * (j % 4), width = 1.0 if n == 1 else knots[n - 1] - knots[0]
    if gap == 0:
        return knots[0] - width * (4.0 * share + 0.05)
    if gap == n:
        return knots[n - 1] + width * (4.0 * share + 0.05)
    return knots[gap - 1] + share * (knots[gap] - knots[gap - 1])


cdef double surface_variance(const surface_t* c, double k, int64_t when_ns, Py_ssize_t i) noexcept nogil:
    cdef double w, w0, slope, bend, share, theta, theta0, theta_t
    if not when_ns > c.time_ns or not k == k:
        return NAN
    if i < c.slices and c.expiry_ns[i] == when_ns:
        slice_terms(knots_of(c, i), c.rows + i * c.width, c.nodes, k, &w, &slope, &bend)
        return w if w > 0.0 else NAN
    if i == 0:
        # Before the first expiry: constant volatility at equal moneyness.  g is concave in the factor of w and not
        # negative at 0 and 1, so no factor in between can create a butterfly.
        slice_terms(knots_of(c, 0), c.rows, c.nodes, k, &w, &slope, &bend)
        w = w * (<double> (when_ns - c.time_ns) / <double> (c.expiry_ns[0] - c.time_ns))
        return w if w > 0.0 else NAN
    slice_terms(knots_of(c, i - 1), c.rows + (i - 1) * c.width, c.nodes, k, &w0, &slope, &bend)
    if 0 < i < c.slices and c.linear[i - 1]:
        slice_terms(knots_of(c, i), c.rows + i * c.width, c.nodes, k, &w, &slope, &bend)
        share = <double> (when_ns - c.expiry_ns[i - 1]) / <double> (c.expiry_ns[i] - c.expiry_ns[i - 1])
        return w0 + share * (w - w0) if w0 > 0.0 and w > 0.0 else NAN
    slice_terms(knots_of(c, i - 1), c.rows + (i - 1) * c.width, c.nodes, 0.0, &theta0, &slope, &bend)
    if i == c.slices:
        # Beyond the last expiry: every total variance grows by the at-the-money variance rate.
        share = <double> (when_ns - c.expiry_ns[i - 1]) / <double> (c.expiry_ns[i - 1] - c.time_ns)
        return w0 + theta0 * share if w0 > 0.0 and theta0 > 0.0 else NAN
    slice_terms(knots_of(c, i), c.rows + i * c.width, c.nodes, k, &w, &slope, &bend)
    slice_terms(knots_of(c, i), c.rows + i * c.width, c.nodes, 0.0, &theta, &slope, &bend)
    if not (w0 > 0.0 and w > 0.0 and theta0 > 0.0 and theta > 0.0):
        return NAN
    share = <double> (when_ns - c.expiry_ns[i - 1]) / <double> (c.expiry_ns[i] - c.expiry_ns[i - 1])
    theta_t = theta0 + share * (theta - theta0)
    # (sqrt(theta) - sqrt(theta_t)) / (sqrt(theta) - sqrt(theta0)), free of cancellation (Gatheral-Jacquier, lemma 5.1)
    share = (1.0 - share) * (sqrt(theta) + sqrt(theta0)) / (sqrt(theta) + sqrt(theta_t))
    return mixed_variance(k, w0, w, share)


# ---- entry points ---------------------------------------------------------------------------------------------------

cdef const double* doubles(cnp.ndarray array, int ndim, str name) except? NULL:
    if cnp.PyArray_TYPE(array) != cnp.NPY_DOUBLE or cnp.PyArray_NDIM(array) != ndim or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ShapeError(f"{name} must be a C-contiguous float64 array of {ndim} axes")
    return <const double*> cnp.PyArray_DATA(array)


cdef const int64_t* stamps(cnp.ndarray array, str name) except? NULL:
    if cnp.PyArray_TYPE(array) != cnp.NPY_INT64 or cnp.PyArray_NDIM(array) != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ShapeError(f"{name} must be a C-contiguous int64 array of 1 axis")
    return <const int64_t*> cnp.PyArray_DATA(array)


cdef class Slices:
    """Slices of one surface, ready to be asked: the arrays are kept, never written."""

    cdef surface_t c
    cdef tuple keep

    def __init__(self, cnp.ndarray rows not None, cnp.ndarray knots, cnp.ndarray expiry_ns not None,
                 cnp.ndarray forward not None, int64_t time_ns, double spot):
        self.c.rows = doubles(rows, 2, "rows")
        self.c.slices, self.c.width = rows.shape[0], rows.shape[1]
        self.c.knots, self.c.nodes = NULL, 0
        if knots is not None:
            self.c.knots, self.c.nodes = doubles(knots, 2, "knots"), knots.shape[1]
            if knots.shape[0] != self.c.slices or self.c.width != 2 * self.c.nodes or self.c.nodes < 1:
                raise ShapeError("rows must hold two values per node of knots")
        elif self.c.width != 5:
            raise ShapeError(f"rows must hold 5 parameters per slice, held {self.c.width}")
        self.c.expiry_ns, self.c.forward = stamps(expiry_ns, "expiry_ns"), doubles(forward, 1, "forward")
        if self.c.slices < 1 or expiry_ns.shape[0] != self.c.slices or forward.shape[0] != self.c.slices:
            raise ShapeError("rows, expiry_ns and forward must have one length of at least 1")
        self.c.time_ns, self.c.spot = time_ns, spot
        cdef cnp.ndarray linear = np.zeros(self.c.slices, np.uint8)
        self.keep = (rows, knots, expiry_ns, forward, linear)
        self.c.linear = <const uint8_t*> cnp.PyArray_DATA(linear)
        self.settle(<uint8_t*> cnp.PyArray_DATA(linear))

    cdef void settle(self, uint8_t* linear) noexcept:
        cdef Py_ssize_t i
        with nogil:
            for i in range(self.c.slices - 1):
                linear[i] = line_is_clean(&self.c, i)

    def straight(self):
        """Per expiry: 1 where total variance runs straight in time to the next one, 0 where prices are averaged."""
        return self.keep[4].copy()

    def variances(self, cnp.ndarray log_moneyness not None, cnp.ndarray expiry_ns not None, cnp.ndarray out not None):
        """Total variance per (log-moneyness, expiry) into `out`; NaN where it has no answer."""
        cdef const double* k = doubles(log_moneyness, 1, "log_moneyness")
        cdef const int64_t* when = stamps(expiry_ns, "expiry_ns")
        cdef double* w = <double*> doubles(out, 1, "out")
        cdef Py_ssize_t i, n = out.shape[0]
        if log_moneyness.shape[0] != n or expiry_ns.shape[0] != n:
            raise ShapeError("log_moneyness, expiry_ns and out must have one length")
        with nogil:
            for i in range(n):
                w[i] = surface_variance(&self.c, k[i], when[i], slice_after(&self.c, when[i]))

    def forwards(self, cnp.ndarray expiry_ns not None, cnp.ndarray out not None):
        """Forward per expiry into `out`; NaN for an expiry that is not after the surface's time."""
        cdef const int64_t* when = stamps(expiry_ns, "expiry_ns")
        cdef double* f = <double*> doubles(out, 1, "out")
        cdef Py_ssize_t i, n = out.shape[0]
        if expiry_ns.shape[0] != n:
            raise ShapeError("expiry_ns and out must have one length")
        with nogil:
            for i in range(n):
                f[i] = surface_forward(&self.c, when[i], slice_after(&self.c, when[i]))

    def moneyness(self, cnp.ndarray strike not None, cnp.ndarray forward not None, cnp.ndarray out not None):
        """ln(strike / forward) into `out`; NaN unless both are positive."""
        cdef const double* x = doubles(strike, 1, "strike")
        cdef const double* f = doubles(forward, 1, "forward")
        cdef double* k = <double*> doubles(out, 1, "out")
        cdef Py_ssize_t i, n = out.shape[0]
        if strike.shape[0] != n or forward.shape[0] != n:
            raise ShapeError("strike, forward and out must have one length")
        with nogil:
            for i in range(n):
                k[i] = log_ratio(x[i], f[i])

    def total_variances(self, cnp.ndarray strike not None, cnp.ndarray expiry_ns not None, cnp.ndarray out not None):
        """Total variance per (strike, expiry) into `out`; NaN where it has no answer."""
        cdef const double* x = doubles(strike, 1, "strike")
        cdef const int64_t* when = stamps(expiry_ns, "expiry_ns")
        cdef double* w = <double*> doubles(out, 1, "out")
        cdef Py_ssize_t i, at, n = out.shape[0]
        cdef double k
        if strike.shape[0] != n or expiry_ns.shape[0] != n:
            raise ShapeError("strike, expiry_ns and out must have one length")
        with nogil:
            for i in range(n):
                at = slice_after(&self.c, when[i])
                k = log_ratio(x[i], surface_forward(&self.c, when[i], at))
                w[i] = surface_variance(&self.c, k, when[i], at)

    def terms(self, Py_ssize_t index, cnp.ndarray log_moneyness not None, cnp.ndarray out not None):
        """w, w', w'' and Durrleman's g of slice `index` into the rows of `out`, shape (4, points)."""
        cdef const double* k = doubles(log_moneyness, 1, "log_moneyness")
        cdef double* y = <double*> doubles(out, 2, "out")
        cdef Py_ssize_t i, n = log_moneyness.shape[0]
        if out.shape[0] != 4 or out.shape[1] != n or not 0 <= index < self.c.slices:
            raise ShapeError("out must have shape (4, points) and index name a slice")
        with nogil:
            for i in range(n):
                slice_terms(knots_of(&self.c, index), self.c.rows + index * self.c.width, self.c.nodes, k[i],
                            y + i, y + n + i, y + 2 * n + i)
                y[3 * n + i] = durrleman(k[i], y[i], y[n + i], y[2 * n + i])
