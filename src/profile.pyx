"""Risk profiles: the profit of one option as a piecewise polynomial of spot and volatility, and its error.

A profile is cubic in the logarithm of spot on cells that lie closer together near the strike, and one polynomial in
the logarithm of volatility.  Scenarios are sorted by spot once, so those of one cell are neighbours: its coefficients
are loaded once and the scenarios lie in the vector lanes.  A value then costs a few products where Black-76 takes an
exponential and two Mills ratios, and where the smile would have to be read.
"""

cimport numpy as cnp
from libc.math cimport NAN, fabs
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc

from margincore.errors import RangeError, ShapeError

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_black_node(double forward, double strike, double x, double inverse_v, double side)
    double vm_exp(double x)
    double vm_log_ratio(double a, double b)
    double vm_node_deviation(double v)
    double vm_node_log(double x)

cdef extern from *:
    """
    typedef double *__restrict mc_rd;
    typedef const double *__restrict mc_crd;
    typedef const int64_t *__restrict mc_cri64;
    """
    ctypedef double *mc_rd
    ctypedef const double *mc_crd
    ctypedef const int64_t *mc_cri64

cdef enum:
    POINTS = 4       # nodes of a cubic
    CHECKS = 5       # its error is looked at in the extrema of the node polynomial, the ends among them
    LEVELS_MAX = 13  # nodes in volatility


cdef struct Option:
    double forward, strike, x, root, side, scale, now
    bint inverse


# Profits of one contract in its settlement asset, after ln(spot) moved by y and at deviations v; a vector loop.
cdef void profits(Py_ssize_t n, const Option *o, mc_crd y, mc_crd growth, mc_crd inverse_v, mc_crd per_unit,
                  mc_rd out) noexcept nogil:
    cdef double forward = o.forward, strike = o.strike, x = o.x, side = o.side, scale = o.scale, now = o.now
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = scale * (vm_black_node(forward * growth[i], strike, x + y[i], inverse_v[i], side) * per_unit[i] - now)


cdef inline double cubic(const double *c, double t) noexcept nogil:
    return ((c[3] * t + c[2]) * t + c[1]) * t + c[0]


cdef inline double polynomial(const double *c, Py_ssize_t levels, double t, double w) noexcept nogil:
    cdef double total = cubic(c + (levels - 1) * POINTS, t)
    cdef Py_ssize_t j
    for j in range(levels - 2, -1, -1):
        total = total * w + cubic(c + j * POINTS, t)
    return total


# Coefficients of one cell, from values at nodes (points, levels): the inverse Vandermonde matrices of both sides.
cdef void cell_coefficients(const double *value, Py_ssize_t levels, const double *across, const double *along,
                            double *out) noexcept nogil:
    cdef Py_ssize_t i, j, k
    cdef double half[LEVELS_MAX * POINTS]
    cdef double total
    for j in range(levels):
        for i in range(POINTS):
            total = 0.0
            for k in range(POINTS):
                total = total + across[i * POINTS + k] * value[k * levels + j]
            half[j * POINTS + i] = total
    for j in range(levels):
        for i in range(POINTS):
            total = 0.0
            for k in range(levels):
                total = total + along[j * levels + k] * half[k * POINTS + i]
            out[j * POINTS + i] = total


cdef struct Rule:
    Py_ssize_t cells, levels, checks
    const double *points       # places of the nodes in a cell, and of the checks
    const double *check_points
    const double *stretch      # volatility over the present one at the nodes, and at the checks
    const double *check_stretch
    const double *level        # the checks' place between the ends of the range of volatility, in [-1, 1]
    const double *across
    const double *along
    double *scratch            # five rows of `room` doubles
    Py_ssize_t room


# Profits at every place of every cell and every factor of volatility, (cells, points, factors) in one vector loop.
cdef double *values(const Option *o, const Rule *r, const double *edges, const double *sigma, Py_ssize_t points,
                    const double *place, Py_ssize_t factors, const double *factor) noexcept nogil:
    cdef double *y = r.scratch
    cdef double *growth = y + r.room
    cdef double *inverse_v = growth + r.room
    cdef double *per_unit = inverse_v + r.room
    cdef Py_ssize_t cell, i, j, at = 0, n = r.cells * points * factors
    cdef double move, up, down
    for cell in range(r.cells):
        for i in range(points):
            move = 0.5 * (edges[cell] + edges[cell + 1]) + 0.5 * (edges[cell + 1] - edges[cell]) * place[i]
            up = vm_exp(move)
            down = 1.0 / up if o.inverse else 1.0
            for j in range(factors):
                y[at], growth[at], per_unit[at] = move, up, down
                inverse_v[at] = vm_node_deviation(sigma[cell * points + i] * factor[j] * o.root)
                at += 1
    for at in range(n):
        inverse_v[at] = 1.0 / inverse_v[at]
    profits(n, o, y, growth, inverse_v, per_unit, per_unit + r.room)
    return per_unit + r.room


cdef double fit_option(const Option *o, const Rule *r, const double *edges, const double *sigma,
                       const double *check_sigma, double *out) noexcept nogil:
    cdef Py_ssize_t cell, i, j, k, size = r.levels * POINTS
    cdef double error, total, worst = 0.0
    cdef double across[LEVELS_MAX]
    cdef const double *value = values(o, r, edges, sigma, POINTS, r.points, r.levels, r.stretch)
    for cell in range(r.cells):
        cell_coefficients(value + cell * size, r.levels, r.across, r.along, out + cell * size)
    value = values(o, r, edges, check_sigma, CHECKS, r.check_points, r.checks, r.check_stretch)
    for cell in range(r.cells):
        for i in range(CHECKS):
            for k in range(r.levels):
                across[k] = cubic(out + cell * size + k * POINTS, r.check_points[i])
            for j in range(r.checks):
                total = across[r.levels - 1]
                for k in range(r.levels - 2, -1, -1):
                    total = total * r.level[j] + across[k]
                error = fabs(value[(cell * CHECKS + i) * r.checks + j] - total)
                if error != error:
                    return NAN
                if error > worst:
                    worst = error
    return worst


def fit(const double[:, ::1] terms not None, const double[:, ::1] edges not None,
        const double[:, :, ::1] sigma not None, const double[:, :, ::1] check_sigma not None,
        const double[::1] points not None, const double[::1] check_points not None,
        const double[:, ::1] stretch not None, const double[:, ::1] check_stretch not None,
        const double[::1] level not None, const double[:, ::1] across not None,
        const double[:, ::1] along not None, double[:, :, :, ::1] coefficient not None, double[::1] error not None):
    """Fill `coefficient` (options, cells, levels, 4) and the largest `error` (options,) found at the checks.

    Parameters
    ----------
    terms : float64 array, shape (options, 7)
        Forward, strike, root of years, 1 for a put, scale in settlement asset, sigma now, 1 for inverse.
    edges : float64 array, shape (options, cells + 1)
        Logarithmic moves of spot, rising.
    sigma, check_sigma : float64 array, shape (options, cells, 4) and (options, cells, 5)
        Volatility at the nodes and checks, before its own move.
    points, check_points : float64 array, shape (4,) and (5,)
        Places in a cell, in [-1, 1].
    stretch, check_stretch : float64 array, shape (options, levels) and (options, checks)
        Factors of volatility at nodes and checks.
    level : float64 array, shape (checks,)
        Places of the checks in [-1, 1].
    across, along : float64 array, shape (4, 4) and (levels, levels)
        Inverse Vandermonde matrices of the nodes.
    """
    cdef Rule r
    cdef Option o
    cdef Py_ssize_t options = terms.shape[0], i
    cdef double v
    r.cells, r.levels, r.checks = edges.shape[1] - 1, stretch.shape[1], check_stretch.shape[1]
    if not 1 <= r.levels <= LEVELS_MAX:
        raise RangeError(f"stretch must have 1 to {LEVELS_MAX} levels, had {r.levels}")
    if (terms.shape[1] != 7 or stretch.shape[0] != options or check_stretch.shape[0] != options
            or edges.shape[0] != options or r.cells < 1 or sigma.shape[0] != options
            or sigma.shape[1] != r.cells or sigma.shape[2] != POINTS or check_sigma.shape[0] != options
            or check_sigma.shape[1] != r.cells or check_sigma.shape[2] != CHECKS or error.shape[0] != options
            or coefficient.shape[0] != options or coefficient.shape[1] != r.cells
            or coefficient.shape[2] != r.levels or coefficient.shape[3] != POINTS):
        raise ShapeError("terms, edges, sigma, stretch, their checks, coefficient and error must agree in shape")
    if (points.shape[0] != POINTS or check_points.shape[0] != CHECKS or level.shape[0] != r.checks or r.checks < 1
            or across.shape[0] != POINTS or across.shape[1] != POINTS or along.shape[0] != r.levels
            or along.shape[1] != r.levels):
        raise ShapeError("points, checks and matrices must have the shapes of the rule")
    if options == 0:
        return
    r.room = r.cells * (POINTS * r.levels if POINTS * r.levels > CHECKS * r.checks else CHECKS * r.checks)
    r.scratch = <double *> malloc(5 * r.room * sizeof(double))
    if r.scratch == NULL:
        raise MemoryError
    r.points, r.check_points = &points[0], &check_points[0]
    r.level, r.across, r.along = &level[0], &across[0, 0], &along[0, 0]
    with nogil:
        for i in range(options):
            o.forward, o.strike, o.root, o.side, o.scale = (
                terms[i, 0], terms[i, 1], terms[i, 2], 1.0 - 2.0 * terms[i, 3], terms[i, 4])
            o.inverse = terms[i, 6] != 0.0
            r.stretch, r.check_stretch = &stretch[i, 0], &check_stretch[i, 0]
            o.x = vm_node_log(vm_log_ratio(o.forward, o.strike))
            v = vm_node_deviation(terms[i, 5] * o.root)
            o.now = vm_black_node(o.forward, o.strike, o.x, 1.0 / v, o.side)
            error[i] = fit_option(&o, &r, &edges[i, 0], &sigma[i, 0, 0], &check_sigma[i, 0, 0],
                                  &coefficient[i, 0, 0, 0])
    free(r.scratch)


# Scenarios of one cell, in sorted order; with `levels` a constant the compiler keeps the coefficients in registers.
cdef inline void span(Py_ssize_t levels, Py_ssize_t n, mc_crd c, mc_crd y, mc_crd z, double middle,
                      double inverse_half, double centre, double inverse_reach, mc_rd out) noexcept nogil:
    cdef Py_ssize_t s
    for s in range(n):
        out[s] = polynomial(c, levels, (y[s] - middle) * inverse_half, (z[s] - centre) * inverse_reach)


cdef void flat_span(Py_ssize_t n, mc_crd c, mc_crd y, double middle, double inverse_half, mc_rd out) noexcept nogil:
    cdef Py_ssize_t s
    for s in range(n):
        out[s] = cubic(c, (y[s] - middle) * inverse_half)


cdef void some_span(Py_ssize_t levels, Py_ssize_t n, const double *c, const double *y, const double *z, double middle,
                    double inverse_half, double centre, double inverse_reach, double *out) noexcept nogil:
    if levels == 1:
        flat_span(n, c, y, middle, inverse_half, out)
    elif levels == 5:
        span(5, n, c, y, z, middle, inverse_half, centre, inverse_reach, out)
    elif levels == 6:
        span(6, n, c, y, z, middle, inverse_half, centre, inverse_reach, out)
    elif levels == 9:
        span(9, n, c, y, z, middle, inverse_half, centre, inverse_reach, out)
    else:
        span(levels, n, c, y, z, middle, inverse_half, centre, inverse_reach, out)


cdef void unsorted(Py_ssize_t n, mc_crd value, mc_crd conversion, mc_cri64 rank, mc_rd out) noexcept nogil:
    cdef Py_ssize_t s
    for s in range(n):
        out[s] = value[rank[s]] * conversion[s]


# Scenarios rise in y: each cell has a span of them.
cdef void option_row(const double *edges, const double *c, Py_ssize_t cells, Py_ssize_t levels, Py_ssize_t count,
                     const double *y, const double *z, double centre, double inverse_reach, double *out) noexcept nogil:
    cdef Py_ssize_t cell, first = 0, last, low, high
    for cell in range(cells):
        last = count
        if cell < cells - 1:
            low, high = first, count
            while low < high:  # how many are at most the upper edge
                last = (low + high) // 2
                if y[last] <= edges[cell + 1]:
                    low = last + 1
                else:
                    high = last
            last = low
        if last > first:
            some_span(levels, last - first, c + cell * levels * POINTS, y + first, z + first,
                      0.5 * (edges[cell] + edges[cell + 1]), 2.0 / (edges[cell + 1] - edges[cell]), centre,
                      inverse_reach, out + first)
        first = last


def evaluate(const int64_t[::1] row not None, const double[:, ::1] edges not None,
             const double[:, :, :, ::1] coefficient not None, const double[::1] y not None,
             const double[:, ::1] z not None, const double[::1] centre not None,
             const double[::1] inverse_reach not None, const int64_t[::1] rank not None,
             const int32_t[::1] settle not None, const double[:, ::1] conversion not None,
             double[:, ::1] out not None):
    """Fill rows ``row[i]`` of `out` (columns, scenarios) with the profit of option i times conversion.

    Parameters
    ----------
    row : int64 array, shape (options,)
    edges, coefficient
        As `fit` left them.
    y : float64 array, shape (scenarios,)
        Logarithmic moves of spot, rising.
    z : float64 array, shape (1, scenarios) or (options, scenarios)
        Logarithms of volatility over the unshocked one, in the order of `y`.
    centre, inverse_reach : float64 array, shape (options,)
        ``(z - centre) inverse_reach`` is in [-1, 1].
    rank : int64 array, shape (scenarios,)
        Place in `y` of every column of `out`.
    settle : int32 array, shape (options,)
        Row of `conversion`.
    conversion : float64 array, shape (underlyings, at least scenarios)
    out : float64 array, shape (columns, scenarios)
    """
    cdef Py_ssize_t options = row.shape[0], count = rank.shape[0], i, step = 1 if z.shape[0] > 1 else 0
    cdef Py_ssize_t cells = coefficient.shape[1], levels = coefficient.shape[2]
    if (edges.shape[0] != options or centre.shape[0] != options or inverse_reach.shape[0] != options
            or coefficient.shape[0] != options or settle.shape[0] != options
            or edges.shape[1] != cells + 1 or cells < 1 or levels < 1 or coefficient.shape[3] != POINTS):
        raise ShapeError("row, edges, coefficient, centre, inverse_reach and settle must agree in options and cells")
    if (y.shape[0] != count or z.shape[1] != count or out.shape[1] != count or conversion.shape[1] < count
            or (z.shape[0] != 1 and z.shape[0] != options)):
        raise ShapeError("y, z, rank, conversion and out must agree in scenarios")
    for i in range(options):
        if not (0 <= row[i] < out.shape[0] and 0 <= settle[i] < conversion.shape[0]):
            raise RangeError(f"row and settle must lie in out and conversion, were {row[i]} and {settle[i]} at {i}")
    for i in range(count):
        if not 0 <= rank[i] < count:
            raise RangeError(f"rank must be in [0, {count}), was {rank[i]} at position {i}")
    if options == 0 or count == 0:
        return
    cdef double *sorted_row = <double *> malloc(count * sizeof(double))
    if sorted_row == NULL:
        raise MemoryError
    with nogil:
        for i in range(options):
            option_row(&edges[i, 0], &coefficient[i, 0, 0, 0], cells, levels, count, &y[0], &z[i * step, 0],
                       centre[i], inverse_reach[i], sorted_row)
            unsorted(count, sorted_row, &conversion[settle[i], 0], &rank[0], &out[row[i], 0])
    free(sorted_row)
