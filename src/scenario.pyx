"""Shocks: relative moves, their logarithms, and the shocked volatility of every option at every volatility node.

A node is one volatility shock; scenarios that share a shock share the node, so an option costs one power and a few
products per node, however many spot moves the grid has.
"""

cimport numpy as cnp
from libc.math cimport NAN, sqrt
from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc

from margincore.errors import RangeError, ShapeError

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_expm1(double x)
    double vm_log1p(double x)
    double vm_log_ratio(double a, double b)
    double vm_pow(double x, double y)

cdef extern from *:
    """
    typedef double *__restrict mc_rd;
    typedef const double *__restrict mc_crd;
    """
    ctypedef double *mc_rd
    ctypedef const double *mc_crd

# Kinds of volatility shock, as numbered in margincore/scenarios.py.
cdef enum:
    SAME
    UP
    DOWN
    SCALE
    ADD

# Columns of the table of ranges, one row per underlying.
cdef enum:
    RANGE_UP
    RANGE_DOWN
    SHORT_POWER
    LONG_POWER
    UP_FLOOR
    RANGE_COLUMNS

cdef double DAYS_PER_YEAR = 365.0
cdef double REFERENCE_DAYS = 30.0


# A NaN stays NaN: fmax would turn an unknown volatility into the floor.
cdef inline double at_least(double x, double floor) noexcept nogil:
    return floor if x < floor else x


# (30 / days)^power, days floored; at 30 days it is one, so the side that 30 itself belongs to cannot matter.
cdef void tenor_factors(Py_ssize_t n, mc_crd years, const int32_t *underlying, const double *limits,
                        double days_floor, mc_rd power, mc_rd factor) noexcept nogil:
    cdef Py_ssize_t i
    cdef const double *own
    for i in range(n):
        own = limits + underlying[i] * RANGE_COLUMNS
        power[i] = own[SHORT_POWER] if years[i] * DAYS_PER_YEAR <= REFERENCE_DAYS else own[LONG_POWER]
    for i in range(n):
        factor[i] = vm_pow(REFERENCE_DAYS / at_least(years[i] * DAYS_PER_YEAR, days_floor), power[i])


# sigma (1 + up m), sigma (1 - down m), sigma (1 + size), sigma + size; every shock but "same" ends at `minimum`.
cdef double shocked(double sigma, int32_t kind, double size, double factor, const double *limits,
                    double minimum) noexcept nogil:
    if kind == SAME:
        return sigma
    if kind == UP:
        sigma = at_least(sigma * (1.0 + size * limits[RANGE_UP] * factor), limits[UP_FLOOR])
    elif kind == DOWN:
        sigma = sigma * (1.0 - size * limits[RANGE_DOWN] * factor)
    elif kind == SCALE:
        sigma = sigma * (1.0 + size)
    else:
        sigma = sigma + size
    return at_least(at_least(sigma, minimum), 0.0)


# `sigma` has one volatility per column, or one per column and node (`step` 0 or 1); without `factor` it is one.
cdef void volatility_loop(Py_ssize_t columns, Py_ssize_t nodes, const double *sigma, Py_ssize_t step,
                          const double *factor, const int32_t *underlying, const int32_t *kind, const double *size,
                          const double *limits, double minimum, double *out) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef const double *own
    cdef const double *base
    for i in range(columns):
        own = limits + underlying[i] * RANGE_COLUMNS
        base = sigma + i * (nodes if step else 1)
        for j in range(nodes):
            out[i * nodes + j] = shocked(base[j * step], kind[j], size[j], 1.0 if factor == NULL else factor[i], own,
                                         minimum)


def volatility_shocks(const double[:, ::1] sigma not None, const double[::1] years not None,
                      const int32_t[::1] underlying not None, const int32_t[::1] kind not None,
                      const double[::1] size not None, const double[:, ::1] limits not None, double days_floor,
                      double minimum, double[:, ::1] out not None):
    """Fill `out` (columns, nodes) with shocked volatilities; NaN stays NaN.

    Parameters
    ----------
    sigma : float64 array, shape (columns, 1) or (columns, nodes)
    years : float64 array, shape (columns,)
    underlying : int32 array, shape (columns,)
        Row of `limits`.
    kind : int32 array, shape (nodes,)
        0 same, 1 up, 2 down, 3 scale, 4 add.
    size : float64 array, shape (nodes,)
        Multiple of the range (up, down), fraction (scale) or volatility (add).
    limits : float64 array, shape (underlyings, 5)
        Range up, range down, short power, long power, floor of the up shock.
    days_floor, minimum : float
        Least days to expiry in the tenor factor; least shocked volatility.
    out : float64 array, shape (columns, nodes)
    """
    cdef Py_ssize_t columns = sigma.shape[0], nodes = kind.shape[0], i
    cdef bint stretched = False
    if years.shape[0] != columns or underlying.shape[0] != columns or out.shape[0] != columns:
        raise ShapeError(f"years, underlying and out must have {columns} rows like sigma")
    if size.shape[0] != nodes or out.shape[1] != nodes or (sigma.shape[1] != 1 and sigma.shape[1] != nodes):
        raise ShapeError(f"sigma, size and out must have {nodes} nodes like kind")
    if limits.shape[1] != RANGE_COLUMNS:
        raise ShapeError(f"limits must have {RANGE_COLUMNS} columns, had {limits.shape[1]}")
    if not (days_floor > 0.0 and minimum >= 0.0):
        raise RangeError(f"days_floor must be above 0 and minimum at least 0, were {days_floor!r} and {minimum!r}")
    for i in range(columns):
        if not 0 <= underlying[i] < limits.shape[0]:
            raise RangeError(f"underlying must be a row of limits, was {underlying[i]} at position {i}")
    for i in range(nodes):
        if not 0 <= kind[i] <= ADD:
            raise RangeError(f"kind must be in 0..{ADD}, was {kind[i]} at position {i}")
        if kind[i] == UP or kind[i] == DOWN:
            stretched = True
    if columns == 0 or nodes == 0:
        return
    cdef double *scratch = <double *> malloc(2 * columns * sizeof(double)) if stretched else NULL
    if stretched and scratch == NULL:
        raise MemoryError
    with nogil:
        if stretched:
            tenor_factors(columns, &years[0], &underlying[0], &limits[0, 0], days_floor, scratch + columns, scratch)
        volatility_loop(columns, nodes, &sigma[0, 0], sigma.shape[1] != 1, scratch, &underlying[0], &kind[0], &size[0],
                        &limits[0, 0], minimum, &out[0, 0])
    free(scratch)


def sigma_moves(const double[::1] multiples not None, double sigma_annual, double years, double[::1] out not None):
    """Fill `out` with ``exp(multiple * sigma_annual * sqrt(years)) - 1``: moves that never reach -100 %."""
    cdef Py_ssize_t i
    if out.shape[0] != multiples.shape[0]:
        raise ShapeError(f"out must have length {multiples.shape[0]}, had {out.shape[0]}")
    cdef double scale = sigma_annual * sqrt(years)
    for i in range(multiples.shape[0]):
        out[i] = vm_expm1(multiples[i] * scale)


def log_growth(const double[:, ::1] move not None, double[:, ::1] out not None):
    """Fill `out` with ``ln(1 + move)``."""
    cdef Py_ssize_t i, j
    if out.shape[0] != move.shape[0] or out.shape[1] != move.shape[1]:
        raise ShapeError("out must have the shape of move")
    for i in range(move.shape[0]):
        for j in range(move.shape[1]):
            out[i, j] = vm_log1p(move[i, j])


def exponentials(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with ``exp(x)``: discount and growth factors with the same bits on every processor."""
    cdef Py_ssize_t i
    if out.shape[0] != x.shape[0]:
        raise ShapeError(f"out must have length {x.shape[0]}, had {out.shape[0]}")
    for i in range(x.shape[0]):
        out[i] = vm_exp(x[i])


def growth_moves(const double[::1] x not None, double[::1] out not None):
    """Fill `out` with ``exp(x) - 1``: relative moves of logarithmic ones."""
    cdef Py_ssize_t i
    if out.shape[0] != x.shape[0]:
        raise ShapeError(f"out must have length {x.shape[0]}, had {out.shape[0]}")
    for i in range(x.shape[0]):
        out[i] = vm_expm1(x[i])


# Place among rising nodes: the lower node of the cell and the share of the upper one, flat beyond the ends.  The walk
# begins at `low`: where scenarios are sorted the answer is beside the last one.
cdef inline Py_ssize_t cell(const double *nodes, Py_ssize_t count, double x, Py_ssize_t low, double *share) noexcept nogil:
    cdef Py_ssize_t top = count - 1
    share[0] = 0.0
    if not x > nodes[0]:
        return 0
    if x >= nodes[top]:
        share[0] = 1.0 if top else 0.0
        return top - 1 if top else 0
    while x < nodes[low]:
        low -= 1
    while x >= nodes[low + 1]:
        low += 1
    share[0] = (x - nodes[low]) / (nodes[low + 1] - nodes[low])
    return low


cdef struct Grid:
    Py_ssize_t scenarios, tenors, nodes
    const double *root
    const double *moneyness
    const double *table


# exp of the move of ln sigma at one option: bilinear in moneyness and the root of the tenor.  At expiry nothing is left
# of volatility; an unknown moneyness is an unknown move.
cdef void factor_row(const Grid *g, double log_strike, double root_years, const double *shift, bint logarithms,
                     double *out) noexcept nogil:
    cdef Py_ssize_t s, j, up, right, t
    cdef double upper, part, x, near, far
    cdef const double *low
    cdef const double *high
    if not root_years > 0.0:
        for s in range(g.scenarios):
            out[s] = (0.0 if logarithms else 1.0) if root_years == 0.0 else NAN
        return
    t = cell(g.root, g.tenors, root_years, 0, &upper)
    j = 0
    up = g.nodes if g.tenors > 1 else 0
    right = 1 if g.nodes > 1 else 0
    for s in range(g.scenarios):
        x = (log_strike - shift[s]) / root_years
        if x != x:
            out[s] = NAN
            continue
        j = cell(g.moneyness, g.nodes, x, j, &part)
        low = g.table + (s * g.tenors + t) * g.nodes + j
        high = low + up
        near = low[0] + part * (low[right] - low[0])
        far = high[0] + part * (high[right] - high[0])
        near = near + upper * (far - near)
        out[s] = near if logarithms else vm_exp(near)


def surface_factors(const double[::1] strike not None, const double[::1] forward not None,
                    const double[::1] years not None, const double[::1] shift not None,
                    const double[::1] moneyness not None, const double[::1] tenor_years not None,
                    const double[:, :, ::1] log_ratio not None, double[:, ::1] out not None, bint logarithms=False):
    """Fill `out` (options, scenarios) with volatility after over volatility before, from moves at nodes.

    Parameters
    ----------
    strike, forward, years : float64 array, shape (options,)
        Quote currency; years to expiry.
    shift : float64 array, shape (scenarios,)
        ``ln(1 + move)`` of the forward where moneyness is read after the move, zero where before it.
    moneyness : float64 array, shape (nodes,)
        ``ln(strike / forward) / sqrt(years)``, rising.
    tenor_years : float64 array, shape (tenors,)
        Rising.
    log_ratio : float64 array, shape (scenarios, tenors, nodes)
    out : float64 array, shape (options, scenarios)
    logarithms : bool
        Leave the logarithm of the factor.
    """
    cdef Grid g
    cdef Py_ssize_t options = strike.shape[0], i
    g.scenarios, g.tenors, g.nodes = log_ratio.shape[0], log_ratio.shape[1], log_ratio.shape[2]
    if forward.shape[0] != options or years.shape[0] != options or out.shape[0] != options:
        raise ShapeError(f"forward, years and out must have {options} rows like strike")
    if shift.shape[0] != g.scenarios or out.shape[1] != g.scenarios:
        raise ShapeError(f"shift and out must have {g.scenarios} scenarios like log_ratio")
    if not (tenor_years.shape[0] == g.tenors > 0 and moneyness.shape[0] == g.nodes > 0):
        raise ShapeError(f"tenor_years and moneyness must have {g.tenors} and {g.nodes} nodes like log_ratio")
    if options == 0 or g.scenarios == 0:
        return
    cdef double *root = <double *> malloc(g.tenors * sizeof(double))
    if root == NULL:
        raise MemoryError
    for i in range(g.tenors):
        root[i] = sqrt(tenor_years[i])
    g.root, g.moneyness, g.table = root, &moneyness[0], &log_ratio[0, 0, 0]
    with nogil:
        for i in range(options):
            factor_row(&g, vm_log_ratio(strike[i], forward[i]) if strike[i] > 0.0 and forward[i] > 0.0 else NAN,
                       sqrt(years[i]), &shift[0], logarithms, &out[i, 0])
    free(root)
