"""Revaluation: what one contract is worth now, and what it earns in every scenario.

Grid factoring: ln(F/K) and sqrt(T) once per option, 1/v with v = sigma sqrt(T) once per volatility node, one
exponential and one quotient per scenario.  Scenarios lie in the vector lanes, padded to whole vectors by the caller, so
an option has the same bits alone, in a batch and in any split of it.
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
    double vm_black_node(double forward, double strike, double x, double inverse_v, double side)
    void vm_node_distances(double x, double inverse_v, double half_v, double* d1, double* d2)
    double vm_node_tails(double d1, double d2)
    double vm_node_price(double forward, double strike, double d1, double d2, double tails)
    double vm_node_deviation(double v)
    double vm_node_log(double x)
    double MC_FMA(double a, double b, double c)
    double vm_log_ratio(double a, double b)

cdef extern from *:
    """
    typedef double *__restrict mc_rd;
    typedef const double *__restrict mc_crd;
    typedef const int32_t *__restrict mc_cri;
    """
    ctypedef double *mc_rd
    ctypedef const double *mc_crd
    ctypedef const int32_t *mc_cri

cdef enum:
    LANES = 8
    BLOCK = 256          # scenarios, of one option or several, whose intermediate results stay in the first cache
    PIECES = 32          # BLOCK / LANES


# What an option's whole row shares, all columns at once.  A put is a call whose forward, strike and deviation are
# negative; a scale turns its price into the settlement asset per contract.
cdef void sides(Py_ssize_t n, const uint8_t *is_call, const uint8_t *inverse, mc_crd multiplier, mc_crd discount,
                mc_crd forward, mc_rd side, mc_rd scale) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        side[i] = 1.0 if is_call[i] else -1.0
        scale[i] = multiplier[i] * discount[i] / (forward[i] if inverse[i] else 1.0)


cdef void shared_terms(Py_ssize_t n, mc_crd forward, mc_crd strike, mc_crd years, mc_crd sigma, mc_crd side,
                       mc_crd scale, mc_rd x, mc_rd root, mc_rd now) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        x[i] = vm_node_log(vm_log_ratio(forward[i], strike[i]))
        root[i] = sqrt(years[i])
        now[i] = vm_black_node(scale[i] * forward[i], scale[i] * strike[i], x[i],
                               1.0 / vm_node_deviation(sigma[i] * root[i]), side[i])


# 1 / v of every volatility node, negative for a put, nodes outermost: a single one is a vector loop.  They are read a
# pass later, because a vector load right behind scalar stores would stall.  v / 2 is derived where it is used, which
# takes less time than a second gather.
cdef void deviations(Py_ssize_t n, Py_ssize_t nodes, mc_crd sigma, mc_crd root, mc_crd side,
                     mc_rd inverse_v) noexcept nogil:
    cdef Py_ssize_t i, j
    for j in range(nodes):
        for i in range(n):
            inverse_v[i * nodes + j] = side[i] / vm_node_deviation(root[i] * sigma[i * nodes + j])


# The stages of vm_black_node over the scenarios of an option or of a block: the chain of one price is longer than the
# processor looks ahead.
cdef void place_lanes(Py_ssize_t n, double x, mc_crd log_growth, mc_cri node, mc_crd inverse_v, mc_rd d1,
                      mc_rd d2) noexcept nogil:
    cdef Py_ssize_t s
    cdef double first, second, inverse
    for s in range(n):
        inverse = inverse_v[node[s]]
        vm_node_distances(x + log_growth[s], inverse, 0.5 / inverse, &first, &second)
        d1[s] = first
        d2[s] = second


# The same where all scenarios share one volatility: nothing is gathered.
cdef void place_lanes_even(Py_ssize_t n, double x, mc_crd log_growth, double inverse, mc_rd d1,
                           mc_rd d2) noexcept nogil:
    cdef Py_ssize_t s
    cdef double first, second, half_v = 0.5 / inverse
    for s in range(n):
        vm_node_distances(x + log_growth[s], inverse, half_v, &first, &second)
        d1[s] = first
        d2[s] = second


cdef void tail_lanes(Py_ssize_t n, mc_crd d1, mc_crd d2, mc_rd tails) noexcept nogil:
    cdef Py_ssize_t s
    for s in range(n):
        tails[s] = vm_node_tails(d1[s], d2[s])


# risk[s] = conversion[s] * (shocked / growth-or-one - now)
cdef void price_lanes(Py_ssize_t n, double forward, double strike, double now, mc_crd growth, mc_crd per_unit,
                      mc_crd conversion, mc_crd d1, mc_crd d2, mc_crd tails, mc_rd out) noexcept nogil:
    cdef Py_ssize_t s
    cdef double price
    for s in range(n):
        price = vm_node_price(forward * growth[s], strike, d1[s], d2[s], tails[s])
        out[s] = conversion[s] * MC_FMA(price, per_unit[s], -now)


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
    # Scratch: one row of scenarios, five terms and one deviation per node of each column.
    double *row
    double *side
    double *scale
    double *x
    double *root
    double *now
    double *inverse_v


cdef struct block_t:
    double d1[BLOCK]
    double d2[BLOCK]
    double tails[BLOCK]
    Py_ssize_t column[PIECES]   # pieces of rows of options in the block: column, and first scenario
    Py_ssize_t first[PIECES]
    Py_ssize_t start[PIECES + 1]
    int pieces


# An unknown mark makes the whole row unknown, also where the model could price it.
cdef void price_block(const Table *t, Py_ssize_t offset, block_t *b) noexcept nogil:
    cdef Py_ssize_t lanes = b.start[b.pieces], i, k, s, at, count, begin
    cdef const double *per_unit
    cdef double *out
    cdef double scale
    cdef int piece
    tail_lanes(lanes, b.d1, b.d2, b.tails)
    for piece in range(b.pieces):
        i, begin, at = b.column[piece], b.first[piece], b.start[piece]
        k, count = i - offset, b.start[piece + 1] - at
        s = t.underlying[i] * t.width + begin
        scale = t.side[k] * t.scale[k]
        per_unit = t.coin_growth + s if t.inverse[i] else t.ones + begin
        out = t.risk + i * t.scenarios + begin if t.scenarios == t.width else t.row
        price_lanes(count, scale * t.forward[i], scale * t.strike[i], t.now[k], t.growth + s, per_unit,
                    t.conversion + t.settle[i] * t.width + begin, b.d1 + at, b.d2 + at, b.tails + at, out)
        if t.value[i] != t.value[i]:
            for s in range(count):
                out[s] = t.value[i]
        if out == t.row and begin < t.scenarios:
            memcpy(t.risk + i * t.scenarios + begin, out, min(count, t.scenarios - begin) * sizeof(double))
    b.pieces = 0


cdef void add_option(const Table *t, Py_ssize_t i, Py_ssize_t offset, block_t *b) noexcept nogil:
    cdef Py_ssize_t at, count, begin = 0, k = i - offset
    cdef const double *log_growth = t.log_growth + t.underlying[i] * t.width
    cdef const double *inverse_v = t.inverse_v + k * t.nodes
    t.value[i] = t.multiplier[i] * t.mark[i]
    while begin < t.width:
        at = b.start[b.pieces]
        if at == BLOCK:
            price_block(t, offset, b)
            at = 0
        count = min(t.width - begin, BLOCK - at)
        if t.nodes == 1:
            place_lanes_even(count, t.x[k], log_growth + begin, inverse_v[0], b.d1 + at, b.d2 + at)
        else:
            place_lanes(count, t.x[k], log_growth + begin, t.node + begin, inverse_v, b.d1 + at, b.d2 + at)
        b.column[b.pieces] = i
        b.first[b.pieces] = begin
        b.pieces += 1
        b.start[b.pieces] = at + count
        begin += count


cdef void one_future(const Table *t, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t at = t.underlying[i] * t.width
    cdef double value = t.multiplier[i] * t.mark[i]
    cdef const double *change = t.move + at
    cdef double *out = t.risk + i * t.scenarios if t.scenarios == t.width else t.row
    if t.inverse[i]:
        value = t.multiplier[i] / t.mark[i]
        change = t.coin_move + at
    future_row(t.width, value, change, t.conversion + t.settle[i] * t.width, out)
    t.value[i] = -value if t.inverse[i] else value
    if out == t.row:
        memcpy(t.risk + i * t.scenarios, out, t.scenarios * sizeof(double))


cdef void table_loop(const Table *t, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef block_t b
    cdef Py_ssize_t i, n = last - first
    b.pieces = 0
    b.start[0] = 0
    sides(n, t.is_call + first, t.inverse + first, t.multiplier + first, t.discount + first, t.forward + first, t.side,
          t.scale)
    shared_terms(n, t.forward + first, t.strike + first, t.years + first, t.sigma + first, t.side, t.scale, t.x, t.root,
                 t.now)
    deviations(n, t.nodes, t.shocked + first * t.nodes, t.root, t.side, t.inverse_v)
    for i in range(first, last):
        if t.kind[i] == MC_OPTION:
            add_option(t, i, first, &b)
        elif t.kind[i] != MC_CASH:
            one_future(t, i)
    price_block(t, first, &b)


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
    cdef Py_ssize_t n = last - first
    t.row = <double *> malloc((t.width + n * (5 + t.nodes)) * sizeof(double))
    if t.row == NULL:
        raise MemoryError
    t.side = t.row + t.width
    t.scale = t.side + n
    t.x = t.scale + n
    t.root = t.x + n
    t.now = t.root + n
    t.inverse_v = t.now + n
    with nogil:
        table_loop(&t, first, last)
    free(t.row)


cdef double option_mark(double forward, double strike, double years, double sigma, double discount, bint is_call,
                        bint inverse) noexcept nogil:
    cdef double price = vm_black_node(forward, strike, vm_node_log(vm_log_ratio(forward, strike)),
                                      1.0 / vm_node_deviation(sigma * sqrt(years)), 1.0 if is_call else -1.0)
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
