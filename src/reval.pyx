"""Revaluation: what one contract is worth now, and what it earns in every scenario.

Grid factoring: ln(F/K) and sqrt(T) once per option, v = sigma sqrt(T) and 1/v once per volatility node, one exponential
and two Mills ratios per scenario.  Scenarios lie in the vector lanes, padded to whole vectors by the caller, so an option
has the same bits alone, in a batch and in any split of it.
"""

cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from margincore.errors import RangeError, ShapeError
from margincore.kernels.types cimport MC_CASH, MC_OPTION

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_exp_normal(double x, double low)
    double vm_log_ratio(double a, double b)
    double vm_mills_poly(double u)
    double VM_MILLS_C, VM_MILLS_D

cdef extern from *:
    """
    typedef double *__restrict mc_rd;
    typedef const double *__restrict mc_crd;
    """
    ctypedef double *mc_rd
    ctypedef const double *mc_crd

cdef double INV_SQRT_2PI = 0.39894228040143267794
# Beyond 64 deviations the density is zero; below 1e-200 the volatility is zero.  Both keep infinities out of the sums.
cdef double DEVIATIONS_MAX = 64.0
cdef double DEVIATION_MIN = 1e-200
cdef enum:
    LANES = 8


# Undiscounted Black-76 from x = ln(F/K), v = sigma sqrt(T) and 1/v (Black 1976, eq. 16).  F phi(d1) = K phi(d2), so
# one exponential serves both terms, and N(d) = [d >= 0] - sign(d) phi(d) Mills(|d|) needs no branch.
cdef inline double black(double forward, double strike, double x, double v, double inverse_v,
                         double is_put) noexcept nogil:
    cdef double middle = x * inverse_v
    cdef double d1 = middle + 0.5 * v
    cdef double d2 = middle - 0.5 * v
    cdef double a1 = -d1 if d1 < 0.0 else d1
    cdef double a2 = -d2 if d2 < 0.0 else d2
    a1 = DEVIATIONS_MAX if a1 > DEVIATIONS_MAX else a1
    a2 = DEVIATIONS_MAX if a2 > DEVIATIONS_MAX else a2
    cdef double common = forward * INV_SQRT_2PI * vm_exp_normal(-0.5 * a1 * a1, 0.0)
    # One divide serves both Mills ratios, vm_mills_poly(1 - 2 C / (a + C)) / (a + D).
    cdef double c1 = a1 + VM_MILLS_C
    cdef double c2 = a2 + VM_MILLS_C
    cdef double e1 = a1 + VM_MILLS_D
    cdef double e2 = a2 + VM_MILLS_D
    cdef double first = c1 * e1
    cdef double second = c2 * e2
    cdef double both = 1.0 / (first * second)
    first = first * both
    second = second * both
    cdef double m1 = vm_mills_poly(1.0 - 2.0 * VM_MILLS_C * (e1 * second)) * (c1 * second)
    cdef double m2 = vm_mills_poly(1.0 - 2.0 * VM_MILLS_C * (e2 * first)) * (c2 * first)
    cdef double held = (0.0 if d1 < 0.0 else forward) - is_put * forward
    cdef double owed = (0.0 if d2 < 0.0 else strike) - is_put * strike
    m1 = -m1 if d1 < 0.0 else m1
    m2 = -m2 if d2 < 0.0 else m2
    cdef double price = (held - owed) + common * (m2 - m1)
    return 0.0 if price < 0.0 else price


cdef inline double deviation(double sigma, double root_years) noexcept nogil:
    cdef double v = sigma * root_years
    return DEVIATION_MIN if v < DEVIATION_MIN else v


# risk[s] = scale * conversion[s] * (shocked / growth-or-one - now)
cdef void option_row(Py_ssize_t width, double forward, double strike, double x, double is_put, double now,
                     double scale, mc_crd growth, mc_crd log_growth, mc_crd per_unit, mc_crd conversion, mc_crd v,
                     mc_crd inverse_v, mc_rd out) noexcept nogil:
    cdef Py_ssize_t s
    cdef double price
    for s in range(width):
        price = black(forward * growth[s], strike, x + log_growth[s], v[s], inverse_v[s], is_put)
        out[s] = scale * conversion[s] * (price * per_unit[s] - now)


cdef void deviation_row(Py_ssize_t nodes, mc_crd sigma, double root_years, mc_rd v, mc_rd inverse_v) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(nodes):
        v[j] = deviation(sigma[j], root_years)
        inverse_v[j] = 1.0 / v[j]


cdef void future_row(Py_ssize_t width, double value, mc_crd change, mc_crd conversion, mc_rd out) noexcept nogil:
    cdef Py_ssize_t s
    for s in range(width):
        out[s] = value * change[s] * conversion[s]


cdef struct Table:
    Py_ssize_t scenarios, width, nodes
    const int32_t *kind
    const int32_t *underlying
    const int32_t *settle
    const uint8_t *inverse
    const uint8_t *is_call
    const double *multiplier
    const double *strike
    const double *mark
    const double *forward
    const double *years
    const double *discount
    const double *sigma
    const double *shocked
    const int32_t *node
    const double *move
    const double *coin_move
    const double *growth
    const double *log_growth
    const double *coin_growth
    const double *ones
    const double *conversion
    double *value
    double *risk


cdef void one_option(const Table *t, Py_ssize_t i, double *scratch) noexcept nogil:
    cdef Py_ssize_t width = t.width, at = t.underlying[i] * width, s
    cdef double *out = scratch
    cdef double *v = scratch + width
    cdef double *inverse_v = scratch + 2 * width
    cdef double *node_v = scratch + 3 * width
    cdef double *node_inverse = node_v + t.nodes
    cdef double forward = t.forward[i], strike = t.strike[i]
    cdef double root = sqrt(t.years[i]), x = vm_log_ratio(forward, strike)
    cdef double is_put = 0.0 if t.is_call[i] else 1.0
    cdef double sigma = deviation(t.sigma[i], root)
    cdef double now = black(forward, strike, x, sigma, 1.0 / sigma, is_put)
    cdef double scale = t.multiplier[i] * t.discount[i]
    cdef const double *per_unit = t.ones
    if t.inverse[i]:
        scale = scale / forward
        per_unit = t.coin_growth + at
    deviation_row(t.nodes, t.shocked + i * t.nodes, root, node_v, node_inverse)
    for s in range(width):
        v[s] = node_v[t.node[s]]
        inverse_v[s] = node_inverse[t.node[s]]
    option_row(width, forward, strike, x, is_put, now, scale, t.growth + at, t.log_growth + at, per_unit,
               t.conversion + t.settle[i] * width, v, inverse_v, out)


# An unknown mark makes the whole row unknown, also where the model could price it.
cdef void one_column(const Table *t, Py_ssize_t i, double *scratch) noexcept nogil:
    cdef Py_ssize_t at = t.underlying[i] * t.width, s
    cdef double value = t.multiplier[i] * t.mark[i]
    cdef const double *change = t.move + at
    if t.kind[i] == MC_OPTION:
        one_option(t, i, scratch)
        if value != value:
            for s in range(t.width):
                scratch[s] = value
    else:
        if t.inverse[i]:
            value = t.multiplier[i] / t.mark[i]
            change = t.coin_move + at
        future_row(t.width, value, change, t.conversion + t.settle[i] * t.width, scratch)
        if t.inverse[i]:
            value = -value
    t.value[i] = value
    memcpy(t.risk + i * t.scenarios, scratch, t.scenarios * sizeof(double))


cdef void table_loop(const Table *t, Py_ssize_t first, Py_ssize_t last, double *scratch) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, last):
        if t.kind[i] != MC_CASH:
            one_column(t, i, scratch)


cdef void *checked(cnp.ndarray array, str name, int kind, Py_ssize_t rows, Py_ssize_t columns) except NULL:
    cdef bint fits = cnp.PyArray_TYPE(array) == kind and cnp.PyArray_IS_C_CONTIGUOUS(array)
    if columns < 0:
        fits = fits and array.ndim == 1 and array.shape[0] == rows
    else:
        fits = fits and array.ndim == 2 and array.shape[0] == rows and array.shape[1] == columns
    if not fits:
        wanted = f"({rows},)" if columns < 0 else f"({rows}, {columns})"
        raise ShapeError(f"{name} must be C-contiguous {cnp.PyArray_DescrFromType(kind)} of shape {wanted}, "
                         f"was {array.dtype} of shape {(<object> array).shape}")
    return cnp.PyArray_DATA(array)


cdef int indices(const int32_t *index, Py_ssize_t length, Py_ssize_t limit, str name) except -1:
    cdef Py_ssize_t i
    for i in range(length):
        if not 0 <= index[i] < limit:
            raise RangeError(f"{name} must be in [0, {limit}), was {index[i]} at position {i}")
    return 0


def unit_values(contracts, market, scenarios, cnp.ndarray shocked not None, cnp.ndarray conversion not None,
                Py_ssize_t first, Py_ssize_t last, cnp.ndarray value not None, cnp.ndarray risk not None):
    """Fill rows ``first .. last - 1`` of `value` and `risk` for everything but cash.

    Parameters
    ----------
    contracts : Contracts
    market : MarketColumns
    scenarios : ScenarioPlan
    shocked : float64 array, shape (columns, nodes)
        Volatility of each option at each node.
    conversion : float64 array, shape (underlyings, width)
        Weight of the scenario times the price of each settlement asset in base currency.
    first, last : int
        Range of columns.
    value : float64 array, shape (columns,)
        Settlement asset per contract.
    risk : float64 array, shape (columns, scenarios)
        Base currency per contract.
    """
    cdef Table t
    cdef cnp.ndarray node = scenarios.node
    cdef Py_ssize_t columns = len(contracts.symbols), underlyings = len(contracts.underlyings)
    t.scenarios, t.width, t.nodes = len(scenarios.names), node.shape[0], shocked.shape[1]
    if not 0 <= first <= last <= columns:
        raise RangeError(f"first and last must satisfy 0 <= first <= last <= {columns}, were {first} and {last}")
    if t.width < t.scenarios or t.width % LANES:
        raise ShapeError(f"node must be padded to a multiple of {LANES}, had length {t.width}")
    t.kind = <const int32_t *> checked(contracts.kind, "kind", cnp.NPY_INT32, columns, -1)
    t.underlying = <const int32_t *> checked(contracts.underlying, "underlying", cnp.NPY_INT32, columns, -1)
    t.settle = <const int32_t *> checked(contracts.settle, "settle", cnp.NPY_INT32, columns, -1)
    t.inverse = <const uint8_t *> checked(contracts.inverse, "inverse", cnp.NPY_UINT8, columns, -1)
    t.is_call = <const uint8_t *> checked(contracts.is_call, "is_call", cnp.NPY_UINT8, columns, -1)
    t.multiplier = <const double *> checked(contracts.multiplier, "multiplier", cnp.NPY_DOUBLE, columns, -1)
    t.strike = <const double *> checked(contracts.strike, "strike", cnp.NPY_DOUBLE, columns, -1)
    t.mark = <const double *> checked(market.mark, "mark", cnp.NPY_DOUBLE, columns, -1)
    t.forward = <const double *> checked(market.forward, "forward", cnp.NPY_DOUBLE, columns, -1)
    t.years = <const double *> checked(market.years, "years", cnp.NPY_DOUBLE, columns, -1)
    t.discount = <const double *> checked(market.discount, "discount", cnp.NPY_DOUBLE, columns, -1)
    t.sigma = <const double *> checked(market.sigma, "sigma", cnp.NPY_DOUBLE, columns, -1)
    t.shocked = <const double *> checked(shocked, "shocked", cnp.NPY_DOUBLE, columns, t.nodes)
    t.node = <const int32_t *> checked(node, "node", cnp.NPY_INT32, t.width, -1)
    t.move = <const double *> checked(scenarios.move, "move", cnp.NPY_DOUBLE, underlyings, t.width)
    t.coin_move = <const double *> checked(scenarios.coin_move, "coin_move", cnp.NPY_DOUBLE, underlyings, t.width)
    t.growth = <const double *> checked(scenarios.growth, "growth", cnp.NPY_DOUBLE, underlyings, t.width)
    t.log_growth = <const double *> checked(scenarios.log_growth, "log_growth", cnp.NPY_DOUBLE, underlyings, t.width)
    t.coin_growth = <const double *> checked(scenarios.coin_growth, "coin_growth", cnp.NPY_DOUBLE, underlyings,
                                             t.width)
    t.ones = <const double *> checked(scenarios.ones, "ones", cnp.NPY_DOUBLE, t.width, -1)
    t.conversion = <const double *> checked(conversion, "conversion", cnp.NPY_DOUBLE, underlyings, t.width)
    t.value = <double *> checked(value, "value", cnp.NPY_DOUBLE, columns, -1)
    t.risk = <double *> checked(risk, "risk", cnp.NPY_DOUBLE, columns, t.scenarios)
    if not (cnp.PyArray_ISWRITEABLE(value) and cnp.PyArray_ISWRITEABLE(risk)):
        raise ShapeError("value and risk must be writable")
    indices(t.underlying, columns, underlyings, "underlying")
    indices(t.settle, columns, underlyings, "settle")
    indices(t.node, t.width, t.nodes, "node")
    cdef double *scratch = <double *> malloc((3 * t.width + 2 * t.nodes) * sizeof(double))
    if scratch == NULL:
        raise MemoryError
    with nogil:
        table_loop(&t, first, last, scratch)
    free(scratch)


cdef double option_mark(double forward, double strike, double years, double sigma, double discount, bint is_call,
                        bint inverse) noexcept nogil:
    cdef double v = deviation(sigma, sqrt(years))
    cdef double price = black(forward, strike, vm_log_ratio(forward, strike), v, 1.0 / v, 0.0 if is_call else 1.0)
    return discount / forward * price if inverse else discount * price


def option_marks(contracts, const double[::1] forward not None, const double[::1] years not None,
                 const double[::1] sigma not None, const double[::1] discount not None, double[::1] out not None):
    """Fill `out` at the options of `contracts` with their Black-76 mark, settlement asset per unit of underlying."""
    cdef const int32_t[::1] kind = contracts.kind
    cdef const double[::1] strike = contracts.strike
    cdef const uint8_t[::1] is_call = contracts.is_call
    cdef const uint8_t[::1] inverse = contracts.inverse
    cdef Py_ssize_t columns = kind.shape[0], i
    for name, length in (("forward", forward.shape[0]), ("years", years.shape[0]), ("sigma", sigma.shape[0]),
                         ("discount", discount.shape[0]), ("out", out.shape[0])):
        if length != columns:
            raise ShapeError(f"{name} must have length {columns}, had {length}")
    with nogil:
        for i in range(columns):
            if kind[i] == MC_OPTION:
                out[i] = option_mark(forward[i], strike[i], years[i], sigma[i], discount[i], is_call[i], inverse[i])
