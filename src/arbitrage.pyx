"""Certificates that raw SVI slices hold no static arbitrage: proofs over every strike, not samples.

With k = m + sigma (t - 1/t)/2, t > 0, total variance and its derivatives are rational in t, so that "g >= 0 at every
strike" and "no crossing at any strike" say that a polynomial is not negative on (0, infinity).  Mapped to (0, 1) and
written in Bernstein form, coefficients without a minus sign prove it; otherwise the interval is halved.
Cost: about 0.5 us per slice, more where a slice nearly touches the border.
"""

cimport numpy as cnp
from libc.math cimport fabs, sqrt
from libc.stdint cimport uint8_t

from margincore.errors import ShapeError

cnp.import_array()

cdef enum:
    DEPTH_MAX = 48
    ORDER_MAX = 11


cdef bint bernstein_positive(double* form, int count) noexcept nogil:
    # Depth first; each level keeps its right half while the left one is examined.  A polynomial that is negative
    # somewhere shows a negative end value at last; one that is still open at the last depth counts as negative.
    cdef double[DEPTH_MAX + 1][ORDER_MAX] waiting
    cdef int depth = 0, i, j
    cdef int[DEPTH_MAX + 1] level
    cdef double* c
    cdef bint open_
    for i in range(count):
        waiting[0][i] = form[i]
    level[0] = 0
    while depth >= 0:
        c = waiting[depth]
        if not (c[0] >= 0.0 and c[count - 1] >= 0.0):
            return False
        open_ = False
        for i in range(1, count - 1):
            if not c[i] >= 0.0:
                open_ = True
        if not open_:
            depth -= 1
            continue
        if level[depth] >= DEPTH_MAX - 1 or depth >= DEPTH_MAX:
            return False
        # de Casteljau: the left half goes on top, the right half stays in place.
        for i in range(count):
            waiting[depth + 1][i] = c[0]
            for j in range(count - 1 - i):
                c[j] = 0.5 * (c[j] + c[j + 1])
        level[depth] += 1
        level[depth + 1] = level[depth]
        depth += 1
    return True


cdef void times(const double* a, int m, const double* b, int n, double* out) noexcept nogil:
    cdef int i, j
    for i in range(m + n - 1):
        out[i] = 0.0
    for i in range(m):
        for j in range(n):
            out[i + j] += a[i] * b[j]


cdef bint positive_on_half_line(double* power, int count) noexcept nogil:
    # t = u / (1 - u): the power coefficient j of degree n becomes the Bernstein coefficient divided by C(n, j).
    cdef double binomial = 1.0
    cdef int j
    for j in range(count):
        power[j] = power[j] / binomial
        binomial = binomial * (count - 1 - j) / (j + 1)
    return bernstein_positive(power, count)


cdef bint butterfly_clean(const double* p) noexcept nogil:
    # g w^2 t^2 (t^2 + 1)^3 = (t^2 + 1) (A^2 - W^2 (4 P t + P^2)/16) + 4 b/sigma t^3 P^2, where P = w t, K = k t,
    # W = w' (t^2 + 1), A = P (t^2 + 1) - K W / 2.
    cdef double a = p[0], b = p[1], rho = p[2], m = p[3], sigma = p[4]
    cdef double[3] w, k, slope, one
    cdef double[5] lean, product, w2, slope2
    cdef double[9] square, tail
    cdef double[11] total
    cdef int i
    if not (sigma > 0.0 and b >= 0.0 and fabs(rho) <= 1.0 and a + b * sigma * sqrt(1.0 - rho * rho) > 0.0
            and b * (1.0 + fabs(rho)) <= 2.0):
        return False
    w[0], w[1], w[2] = 0.5 * b * sigma * (1.0 - rho), a, 0.5 * b * sigma * (1.0 + rho)
    k[0], k[1], k[2] = -0.5 * sigma, m, 0.5 * sigma
    slope[0], slope[1], slope[2] = b * (rho - 1.0), 0.0, b * (rho + 1.0)
    one[0], one[1], one[2] = 1.0, 0.0, 1.0
    times(w, 3, one, 3, lean)
    times(k, 3, slope, 3, product)
    for i in range(5):
        lean[i] -= 0.5 * product[i]
    times(lean, 5, lean, 5, square)
    times(w, 3, w, 3, w2)
    times(slope, 3, slope, 3, slope2)
    for i in range(5):
        product[i] = w2[i] + (4.0 * w[i - 1] if 1 <= i <= 3 else 0.0)
    times(slope2, 5, product, 5, tail)
    for i in range(9):
        square[i] -= tail[i] / 16.0
    times(square, 9, one, 3, total)
    for i in range(5):
        total[i + 3] += 4.0 * b / sigma * w2[i]
    return positive_on_half_line(total, 11)


cdef bint calendar_clean(const double* near, const double* far, double slack) noexcept nogil:
    # far(k) + slack >= near(k) at every k: with the line U = far + slack - a1 - b1 rho1 (k - m1), says U >= 0 and
    # U^2 >= b1^2 ((k - m1)^2 + sigma1^2); both are polynomials in the t of the far slice.
    cdef double b = far[1], sigma = far[4], tilt = near[1] * near[2]
    cdef double[3] line, distance
    cdef double[5] square, other
    cdef int i
    line[0] = 0.5 * b * sigma * (1.0 - far[2]) + 0.5 * tilt * sigma
    line[1] = far[0] + slack - near[0] + tilt * (near[3] - far[3])
    line[2] = 0.5 * b * sigma * (1.0 + far[2]) - 0.5 * tilt * sigma
    distance[0], distance[1], distance[2] = -0.5 * sigma, far[3] - near[3], 0.5 * sigma
    times(line, 3, line, 3, square)
    times(distance, 3, distance, 3, other)
    other[2] += near[4] * near[4]
    for i in range(5):
        square[i] -= near[1] * near[1] * other[i]
    return positive_on_half_line(line, 3) and positive_on_half_line(square, 5)


# ---- entry points ---------------------------------------------------------------------------------------------------

cdef const double* five(cnp.ndarray rows, str name) except? NULL:
    if (cnp.PyArray_TYPE(rows) != cnp.NPY_DOUBLE or cnp.PyArray_NDIM(rows) != 2 or rows.shape[1] != 5
            or not cnp.PyArray_IS_C_CONTIGUOUS(rows)):
        raise ShapeError(f"{name} must be a C-contiguous float64 array of shape (slices, 5)")
    return <const double*> cnp.PyArray_DATA(rows)


cdef uint8_t* flags(cnp.ndarray out, Py_ssize_t count) except? NULL:
    if (cnp.PyArray_TYPE(out) != cnp.NPY_UINT8 or cnp.PyArray_NDIM(out) != 1 or out.shape[0] != count
            or not cnp.PyArray_IS_C_CONTIGUOUS(out)):
        raise ShapeError(f"out must be a C-contiguous uint8 array of length {count}")
    return <uint8_t*> cnp.PyArray_DATA(out)


def butterflies(cnp.ndarray rows not None, cnp.ndarray out not None):
    """1 into `out` for each raw SVI row proved free of butterfly arbitrage at every strike, else 0."""
    cdef const double* p = five(rows, "rows")
    cdef Py_ssize_t i, n = rows.shape[0]
    cdef uint8_t* clean = flags(out, n)
    with nogil:
        for i in range(n):
            clean[i] = butterfly_clean(p + 5 * i)


def calendars(cnp.ndarray near not None, cnp.ndarray far not None, double slack, cnp.ndarray out not None):
    """1 into `out` for each pair of raw SVI rows proved not to cross: far + slack >= near at every strike."""
    cdef const double* p = five(near, "near")
    cdef const double* q = five(far, "far")
    cdef Py_ssize_t i, n = near.shape[0]
    cdef uint8_t* clean = flags(out, n)
    if far.shape[0] != n:
        raise ShapeError(f"far must have as many rows as near ({n}), had {far.shape[0]}")
    with nogil:
        for i in range(n):
            clean[i] = calendar_clean(p + 5 * i, q + 5 * i, slack)
