"""Likelihood of conditional variance models with its analytic gradient.

Parameters ("theta"): mean, omega, first[p], second[p], beta[q] of the recursion in `variance`, then the law's degrees
of freedom and skew.  The gradient comes from one pass backwards (the adjoint of the recursion), so its cost does not
grow with the number of parameters.  Logarithms are taken of products of eight variances, sums run in 32 lanes: the
same shape, hence the same bits, on every processor.
"""

cimport numpy as cnp
from libc.math cimport fabs, fma, isfinite, sqrt
from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from margincore.errors import CapacityError, RangeError, ShapeError

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_log(double x)

cdef extern from *:
    """
    typedef double *restrict mc_lane;
    typedef const double *restrict mc_const_lane;
    """
    ctypedef double* mc_lane
    ctypedef const double* mc_const_lane

cnp.import_array()

FAMILIES = ("garch", "gjr", "component", "egarch")
LAWS = ("normal", "student_t", "skew_t")
STARTS = ("number", "sample", "backcast")

cdef double HALF_LOG_2PI = 0.91893853320467274178
cdef double LOG_PI = 1.1447298858494001741
cdef double MEAN_ABSOLUTE = 0.79788456080286535588  # sqrt(2 / pi)
cdef double BACKCAST_DECAY = 0.94
cdef double INFINITY = 1e300 * 1e300


cdef double tree(double* lane) noexcept nogil:
    cdef int32_t width = LANES // 2, i
    while width > 0:
        for i in range(width):
            lane[i] += lane[i + width]
        width //= 2
    return lane[0]


cdef double dot(const double* x, const double* y, Py_ssize_t n) noexcept nogil:
    cdef double lane[LANES]
    cdef Py_ssize_t i = 0, j
    memset(lane, 0, sizeof(lane))
    while i + LANES <= n:
        for j in range(LANES):
            lane[j] += x[i + j] * y[i + j]
        i += LANES
    for j in range(n - i):
        lane[j] += x[i + j] * y[i + j]
    return tree(lane)


cdef double total(const double* x, Py_ssize_t n) noexcept nogil:
    cdef double lane[LANES]
    cdef Py_ssize_t i = 0, j
    memset(lane, 0, sizeof(lane))
    while i + LANES <= n:
        for j in range(LANES):
            lane[j] += x[i + j]
        i += LANES
    for j in range(n - i):
        lane[j] += x[i + j]
    return tree(lane)


cdef double log_gamma(double x) noexcept nogil:
    # Stirling's series above 10, the recurrence below it.
    cdef double product = 1.0, y
    while x < 10.0:
        product *= x
        x += 1.0
    y = 1.0 / (x * x)
    return (x - 0.5) * vm_log(x) - x + HALF_LOG_2PI - vm_log(product) + (1.0 / 12.0 - y * (1.0 / 360.0 - y * (
        1.0 / 1260.0 - y * (1.0 / 1680.0 - y * (1.0 / 1188.0 - y * 691.0 / 360360.0))))) / x


cdef double digamma(double x) noexcept nogil:
    cdef double below = 0.0, y
    while x < 10.0:
        below += 1.0 / x
        x += 1.0
    y = 1.0 / (x * x)
    return vm_log(x) - 0.5 / x - below - y * (1.0 / 12.0 - y * (1.0 / 120.0 - y * (1.0 / 252.0 - y * (
        1.0 / 240.0 - y * (1.0 / 132.0 - y * 691.0 / 32760.0)))))


cdef struct law_t:
    double nu
    double skew
    double constant     # log of the density's constant: c(nu), plus log b for the skewed law
    double d_constant   # derivative of c(nu)
    double a
    double b
    double a_nu
    double b_nu
    double a_skew
    double b_skew


cdef law_t resolve_law(int32_t law, const double* parameters) noexcept nogil:
    cdef law_t c
    cdef double q, slope
    memset(&c, 0, sizeof(c))
    if law == NORMAL:
        c.constant = -HALF_LOG_2PI
        return c
    c.nu = parameters[0]
    q = c.nu - 2.0
    c.constant = log_gamma(0.5 * (c.nu + 1.0)) - log_gamma(0.5 * c.nu) - 0.5 * (LOG_PI + vm_log(q))
    c.d_constant = 0.5 * (digamma(0.5 * (c.nu + 1.0)) - digamma(0.5 * c.nu) - 1.0 / q)
    c.b = 1.0
    if law == SKEW_T:
        c.skew = parameters[1]
        slope = 4.0 * vm_exp(c.constant) * q / (c.nu - 1.0)
        c.a, c.a_skew = slope * c.skew, slope
        c.a_nu = c.a * (c.d_constant + 1.0 / q - 1.0 / (c.nu - 1.0))
        c.b = sqrt(1.0 + 3.0 * c.skew * c.skew - c.a * c.a)
        c.b_skew = (3.0 * c.skew - c.a * c.a_skew) / c.b
        c.b_nu = -c.a * c.a_nu / c.b
        c.constant += vm_log(c.b)
    return c


cdef double log_density(const law_t* c, int32_t law, double e, double h) noexcept nogil:
    cdef double w
    if law == NORMAL:
        return c.constant - 0.5 * (vm_log(h) + e * e / h)
    w = e
    if law == SKEW_T:
        w = c.b * e + c.a * sqrt(h)
        w = w / (1.0 - c.skew if w < 0.0 else 1.0 + c.skew)
    return c.constant - 0.5 * vm_log(h) - 0.5 * (c.nu + 1.0) * vm_log(1.0 + w * w / (h * (c.nu - 2.0)))


cdef void block_normal(mc_const_lane e, mc_const_lane h, mc_lane slope_e, mc_lane slope_h, mc_lane product,
                         mc_lane square, Py_ssize_t m) noexcept nogil:
    cdef double inverse, x
    cdef Py_ssize_t j
    for j in range(m):
        inverse = 1.0 / h[j]
        x = e[j] * e[j] * inverse
        slope_e[j] = e[j] * inverse
        slope_h[j] = 0.5 * inverse * (1.0 - x)
        product[j] *= h[j]
        square[j] += x


cdef void block_t(mc_const_lane e, mc_const_lane h, mc_lane slope_e, mc_lane slope_h, mc_lane product, mc_lane wide,
                    mc_lane share, double q, double n1, Py_ssize_t m) noexcept nogil:
    # d = h (nu - 2) + e^2; one division serves 1 / h and 1 / d.
    cdef double x, d, inverse
    cdef Py_ssize_t j
    for j in range(m):
        x = e[j] * e[j]
        d = h[j] * q + x
        inverse = 1.0 / (h[j] * d)
        slope_e[j] = n1 * e[j] * (h[j] * inverse)
        slope_h[j] = 0.5 * inverse * (d - n1 * x)
        product[j] *= h[j]
        wide[j] *= d
        share[j] += x * (h[j] * inverse)


cdef void block_skew(mc_const_lane e, mc_const_lane h, mc_lane slope_e, mc_lane slope_h, mc_lane product,
                       mc_lane wide, mc_lane sums, const law_t* c, Py_ssize_t m) noexcept nogil:
    # sums: h / d, w e / (k d), w sqrt(h) / (k d), w^2 sign / (k d), LANES of each.
    cdef double a = c.a, b = c.b, q = c.nu - 2.0, n1 = c.nu + 1.0, skew = c.skew
    cdef double root, w, k, sign, d, inverse, part
    cdef Py_ssize_t j
    for j in range(m):
        root = sqrt(h[j])
        w = b * e[j] + a * root
        sign = -1.0 if w < 0.0 else 1.0
        k = 1.0 + sign * skew
        w = w / k
        d = h[j] * q + w * w
        inverse = 1.0 / d
        part = w * inverse / k
        slope_e[j] = n1 * part * b
        slope_h[j] = 0.5 / h[j] - 0.5 * n1 * (1.0 / h[j] - q * inverse - part * a / root)
        product[j] *= h[j]
        wide[j] *= d
        sums[j] += h[j] * inverse
        sums[LANES + j] += part * e[j]
        sums[2 * LANES + j] += part * root
        sums[3 * LANES + j] += part * w * sign


cdef double law_terms(problem_t* w, const law_t* c, double* law_slope) noexcept nogil:
    # Sum of the log densities of w.e under w.h; fills slope_e, slope_h and law_slope, derivatives of minus that sum.
    cdef double product[LANES]
    cdef double wide[LANES]
    cdef double logs[LANES]
    cdef double logs_wide[LANES]
    cdef double sums[4 * LANES]
    cdef Py_ssize_t i = 0, j, m
    cdef int32_t held = 0
    cdef double n = w.n, q = c.nu - 2.0, n1 = c.nu + 1.0, sum_h, stretch
    memset(logs, 0, sizeof(logs))
    memset(logs_wide, 0, sizeof(logs_wide))
    memset(sums, 0, sizeof(sums))
    for j in range(LANES):
        product[j] = wide[j] = 1.0
    while i < w.n:
        m = LANES if w.n - i >= LANES else w.n - i
        if w.law == NORMAL:
            block_normal(w.e + i, w.h + i, w.slope_e + i, w.slope_h + i, product, sums, m)
        elif w.law == STUDENT_T:
            block_t(w.e + i, w.h + i, w.slope_e + i, w.slope_h + i, product, wide, sums, q, n1, m)
        else:
            block_skew(w.e + i, w.h + i, w.slope_e + i, w.slope_h + i, product, wide, sums, c, m)
        i += m
        held += 1
        if held == GROUP or i >= w.n:
            held = 0
            for j in range(LANES):
                logs[j] += vm_log(product[j])
                product[j] = 1.0
            if w.law != NORMAL:
                for j in range(LANES):
                    logs_wide[j] += vm_log(wide[j])
                    wide[j] = 1.0
    sum_h = tree(logs)
    if w.law == NORMAL:
        return n * c.constant - 0.5 * (sum_h + tree(sums))
    stretch = tree(logs_wide) - sum_h - n * vm_log(q)  # sum of log(1 + w^2 / (h (nu - 2)))
    if w.law == STUDENT_T:
        law_slope[0] = -(n * c.d_constant - 0.5 * stretch + 0.5 * n1 * tree(sums) / q)
        return n * c.constant - 0.5 * sum_h - 0.5 * n1 * stretch
    cdef double first = tree(sums), by_e = tree(sums + LANES), by_root = tree(sums + 2 * LANES)
    law_slope[0] = -(n * (c.d_constant + c.b_nu / c.b) - 0.5 * stretch - 0.5 * n1 * (
        first - n / q + 2.0 * (c.b_nu * by_e + c.a_nu * by_root)))
    law_slope[1] = -(n * c.b_skew / c.b - n1 * (c.b_skew * by_e + c.a_skew * by_root - tree(sums + 3 * LANES)))
    return n * c.constant - 0.5 * sum_h - 0.5 * n1 * stretch


cdef double presample(problem_t* w, double* slope) noexcept nogil:
    # Variance before the first return, and its derivative to the mean.
    cdef double weight = 1.0, weights = 0.0, square = 0.0, first = 0.0
    cdef Py_ssize_t i, m = BACKCAST_LENGTH if w.n > BACKCAST_LENGTH else w.n
    slope[0] = 0.0
    if w.start_mode == START_NUMBER:
        return w.start
    if w.start_mode == START_SAMPLE:
        slope[0] = -2.0 * total(w.e, w.n) / w.n
        return dot(w.e, w.e, w.n) / w.n
    for i in range(m):
        weights += weight
        square += weight * w.e[i] * w.e[i]
        first += weight * w.e[i]
        weight *= BACKCAST_DECAY
    slope[0] = -2.0 * first / weights
    return square / weights


cdef inline void scan(const double* x, double* y, Py_ssize_t n, double beta, double before,
                      Py_ssize_t way) noexcept nogil:
    # y[t] = x[t] + beta y[t - 1], with `before` for y[-1]; the next element is `way` (1 or -1) places on, x may be y.
    # Four parts run together from zero, so that one sum need not wait for the one before; what came before a part is
    # added after, until its weight is gone: 0.5 ns per element in place of 1.1.
    cdef Py_ssize_t part = n // 4, t, j, _j, k, end
    cdef double v0 = before, v1 = 0.0, v2 = 0.0, v3 = 0.0, weight = 1.0
    cdef double carried[8]
    cdef const double* x1 = x + way * part
    cdef const double* x2 = x1 + way * part
    cdef const double* x3 = x2 + way * part
    cdef double* y1 = y + way * part
    cdef double* y2 = y1 + way * part
    cdef double* y3 = y2 + way * part
    if n < 64:
        for t in range(n):
            v0 = fma(beta, v0, x[way * t])
            y[way * t] = v0
        return
    for t in range(part):
        v0 = fma(beta, v0, x[way * t])
        v1 = fma(beta, v1, x1[way * t])
        v2 = fma(beta, v2, x2[way * t])
        v3 = fma(beta, v3, x3[way * t])
        y[way * t] = v0
        y1[way * t] = v1
        y2[way * t] = v2
        y3[way * t] = v3
    for t in range(part, n - 3 * part):
        v3 = fma(beta, v3, x3[way * t])
        y3[way * t] = v3
    for _j in range(8):
        weight *= beta
    for k in range(1, 4):
        y += way * part
        end = n - 3 * part if k == 3 else part
        v0 = y[-way]
        for j in range(8):
            v0 *= beta
            carried[j] = v0
        t = 0
        while t + 8 <= end and fabs(v0) > 1e-100:
            for j in range(8):
                y[way * (t + j)] += carried[j]
                carried[j] *= weight
            v0 = carried[7]
            t += 8
        if fabs(v0) > 1e-100:
            for j in range(end - t):
                y[way * (t + j)] += carried[j]


cdef void forward_square(problem_t* w, const double* theta, double start) noexcept nogil:
    cdef mc_lane u = w.u
    cdef mc_lane h = w.h
    cdef mc_const_lane a
    cdef mc_const_lane b
    cdef const double* first = theta + 2
    cdef const double* second = first + w.p
    cdef const double* beta = second + w.p
    cdef double value, weight, other
    cdef Py_ssize_t t
    cdef int32_t j
    for t in range(-ORDER_MAX, 0):
        w.a[t] = w.b[t] = 0.5 * start
        w.h[t] = start
    for t in range(w.n):
        u[t] = theta[1]
    for j in range(w.p):
        a, b, weight, other = w.a - 1 - j, w.b - 1 - j, first[j], second[j]
        for t in range(w.n):
            u[t] += weight * a[t] + other * b[t]
    if w.q == 1:
        scan(u, h, w.n, beta[0], start, 1)
        return
    for t in range(w.n):
        value = u[t]
        for j in range(w.q - 1, -1, -1):
            value = fma(beta[j], h[t - 1 - j], value)
        h[t] = value


cdef void forward_logarithm(problem_t* w, const double* theta, double start) noexcept nogil:
    # Features a = |z| - sqrt(2 / pi), b = z; u keeps the deviation.
    cdef const double* first = theta + 2
    cdef const double* second = first + w.p
    cdef const double* beta = second + w.p
    cdef double value, z
    cdef Py_ssize_t t
    cdef int32_t j
    for t in range(-ORDER_MAX, 0):
        w.a[t] = w.b[t] = 0.0
        w.level[t] = vm_log(start)
    for t in range(w.n):
        value = theta[1]
        for j in range(w.p):
            value += first[j] * w.a[t - 1 - j] + second[j] * w.b[t - 1 - j]
        for j in range(w.q):
            value += beta[j] * w.level[t - 1 - j]
        w.level[t] = value
        w.u[t] = vm_exp(0.5 * value)
        w.h[t] = w.u[t] * w.u[t]
        z = w.e[t] / w.u[t]
        w.a[t] = fabs(z) - MEAN_ABSOLUTE
        w.b[t] = z


cdef void backward(problem_t* w, const double* theta, double start_slope, double start, double* slope) noexcept nogil:
    # Adjoint of the recursion: turns slope_h in place into the derivative of the loss to each omega, and sums up.
    cdef const double* first = theta + 2
    cdef const double* second = first + w.p
    cdef const double* beta = second + w.p
    cdef double* adjoint = w.slope_h
    cdef bint logarithm = w.family == EGARCH
    cdef double* level = w.level if logarithm else w.h
    cdef double value, by_start = 0.0
    cdef Py_ssize_t t
    cdef int32_t j
    for t in range(w.n, w.n + ORDER_MAX):
        adjoint[t] = 0.0
    if w.q == 1 and not logarithm:
        scan(adjoint + w.n - 1, adjoint + w.n - 1, w.n, beta[0], 0.0, -1)
    else:
        for t in range(w.n - 1, -1, -1):
            value = adjoint[t] * w.h[t] if logarithm else adjoint[t]
            for j in range(w.q):
                value += beta[j] * adjoint[t + 1 + j]
            if logarithm:
                for j in range(w.p):
                    value -= 0.5 * adjoint[t + 1 + j] * (first[j] * fabs(w.b[t]) + second[j] * w.b[t])
            adjoint[t] = value
    slope[0] = 0.0
    slope[1] = total(adjoint, w.n)
    for j in range(w.p):
        slope[2 + j] = dot(adjoint, w.a - 1 - j, w.n)
        slope[2 + w.p + j] = dot(adjoint, w.b - 1 - j, w.n)
        for t in range(j + 1):
            if not logarithm and t < w.n:
                by_start += 0.5 * (first[j] + second[j]) * adjoint[t]
    for j in range(w.q):
        slope[2 + 2 * w.p + j] = dot(adjoint, level - 1 - j, w.n)
        for t in range(j + 1):
            if t < w.n:
                by_start += beta[j] * adjoint[t]
    if not w.mean_free:
        return
    value = total(w.slope_e, w.n)
    for j in range(w.p):
        if logarithm:
            for t in range(w.n):
                w.level[t] = ((-first[j] if w.e[t] < 0.0 else first[j]) + second[j]) / w.u[t]
            value += dot(adjoint + 1 + j, w.level, w.n)
        else:
            for t in range(w.n):
                w.u[t] = first[j] * (w.e[t] + fabs(w.e[t])) + second[j] * (w.e[t] - fabs(w.e[t]))
            value += dot(adjoint + 1 + j, w.u, w.n)
    slope[0] = by_start * (start_slope / start if logarithm else start_slope) - value


cdef double loss(problem_t* w, const double* theta, double* slope) noexcept nogil:
    # Minus the mean log likelihood; `slope` (or NULL) gets its derivatives to theta.  Infinite where not finite.
    cdef law_t law = resolve_law(w.law, theta + 2 + 2 * w.p + w.q)
    cdef double mean = theta[0], start, start_slope = 0.0, value
    cdef double law_slope[2]
    cdef Py_ssize_t t
    cdef int32_t j
    w.evaluations += 1
    for t in range(w.n):
        w.e[t] = w.r[t] - mean
    if w.family != EGARCH:
        for t in range(w.n):
            w.a[t] = 0.25 * (w.e[t] + fabs(w.e[t])) * (w.e[t] + fabs(w.e[t]))
            w.b[t] = 0.25 * (w.e[t] - fabs(w.e[t])) * (w.e[t] - fabs(w.e[t]))
    start = presample(w, &start_slope)
    if w.family == EGARCH:
        forward_logarithm(w, theta, start)
    else:
        forward_square(w, theta, start)
    law_slope[0] = law_slope[1] = 0.0
    value = -law_terms(w, &law, law_slope) / w.n
    if not isfinite(value):
        return INFINITY
    if slope != NULL:
        backward(w, theta, start_slope, start, slope)
        for j in range(w.law):
            slope[2 + 2 * w.p + w.q + j] = law_slope[j]
        for j in range(w.thetas):
            slope[j] /= w.n
    return value


cdef class Likelihood:
    """One kind of fit (family, law, lags) for series of one length, with its scratch memory; one thread at a time."""

    def __cinit__(self, *, Py_ssize_t observations, str family, str law, int p, int q, bint mean, str start,
                  double start_variance=0.0, bint targeting=False, double low_share=0.5):
        cdef Py_ssize_t padded
        if family not in FAMILIES or law not in LAWS or start not in STARTS:
            raise RangeError(f"family, law and start must be one of {FAMILIES}, {LAWS}, {STARTS}, "
                             f"were {family!r}, {law!r}, {start!r}")
        if not (1 <= p <= ORDER_MAX and 0 <= q <= ORDER_MAX):
            raise CapacityError(f"orders must be in [1, {ORDER_MAX}] and [0, {ORDER_MAX}], were {p} and {q}")
        if family == "component" and (p, q) != (2, 2):
            raise RangeError(f"orders of the component family must be 2 and 2, were {p} and {q}")
        if targeting and family not in ("garch", "gjr"):
            raise RangeError(f"targeting must be off for the {family} family, was on")
        if observations < 1:
            raise ShapeError(f"observations must be at least 1, were {observations}")
        padded = (observations + 2 * ORDER_MAX + 7) // 8 * 8
        self.w.n, self.w.p, self.w.q, self.w.mean_free = observations, p, q, mean
        self.w.family, self.w.law, self.w.start_mode = FAMILIES.index(family), LAWS.index(law), STARTS.index(start)
        if not 0.0 < low_share < 1.0:
            raise RangeError(f"low_share must be in (0, 1), was {low_share!r}")
        self.w.low_share = low_share
        self.w.start, self.w.target = start_variance, 1.0 if targeting else 0.0
        self.w.thetas = 2 + 2 * p + q + self.w.law
        self.w.coordinates = mean + (not targeting) + self.w.law + (
            4 if family == "component" else p + q if family == "garch" else 2 * p + q)
        self.memory = <double*>malloc(9 * padded * sizeof(double))
        if self.memory == NULL:
            raise MemoryError
        memset(self.memory, 0, 9 * padded * sizeof(double))
        self.w.e = self.memory + ORDER_MAX
        self.w.a, self.w.b, self.w.h = self.w.e + padded, self.w.e + 2 * padded, self.w.e + 3 * padded
        self.w.level, self.w.slope_h = self.w.e + 4 * padded, self.w.e + 5 * padded
        self.w.slope_e, self.w.u, self.scaled = self.w.e + 6 * padded, self.w.e + 7 * padded, self.w.e + 8 * padded

    def __dealloc__(self):
        free(self.memory)

    @property
    def thetas(self):
        """Length of theta."""
        return self.w.thetas

    def evaluate(self, cnp.ndarray returns not None, cnp.ndarray theta not None, cnp.ndarray gradient not None):
        """Log likelihood of `returns` (observations,) at `theta`; `gradient` gets its derivatives to theta."""
        self._bind(returns, theta)
        check(gradient, self.w.thetas, "gradient")
        cdef double* slope = <double*>cnp.PyArray_DATA(gradient)
        cdef int32_t i
        cdef double value = loss(&self.w, <const double*>cnp.PyArray_DATA(theta), slope)
        for i in range(self.w.thetas):
            slope[i] *= -self.w.n
        return -value * self.w.n

    def contributions(self, cnp.ndarray returns not None, cnp.ndarray theta not None, cnp.ndarray out not None):
        """Log likelihood of each of `returns` (observations,) at `theta`, to `out` of the same shape."""
        self._bind(returns, theta)
        check(out, self.w.n, "out")
        cdef const double* x = <const double*>cnp.PyArray_DATA(theta)
        cdef double* y = <double*>cnp.PyArray_DATA(out)
        cdef law_t law = resolve_law(self.w.law, x + 2 + 2 * self.w.p + self.w.q)
        cdef Py_ssize_t t
        loss(&self.w, x, NULL)
        for t in range(self.w.n):
            y[t] = log_density(&law, self.w.law, self.w.e[t], self.w.h[t])

    def presample_variance(self, cnp.ndarray returns not None, cnp.ndarray theta not None):
        """Variance before the first return that the likelihood assumes."""
        cdef double slope
        self._bind(returns, theta)
        loss(&self.w, <const double*>cnp.PyArray_DATA(theta), NULL)
        return presample(&self.w, &slope)

    cdef int _bind(self, object returns, object theta) except -1:
        check(returns, self.w.n, "returns")
        check(theta, self.w.thetas, "theta")
        self.w.r = <const double*>cnp.PyArray_DATA(<cnp.ndarray>returns)
        return 0


cdef int check(cnp.ndarray array, Py_ssize_t size, str name) except -1:
    if cnp.PyArray_TYPE(array) != cnp.NPY_DOUBLE or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ShapeError(f"{name} must be a contiguous float64 array")
    if cnp.PyArray_SIZE(array) != size:
        raise ShapeError(f"{name} must hold {size} numbers, held {cnp.PyArray_SIZE(array)}")
    return 0
