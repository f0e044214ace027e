"""Reductions of P&L vectors to one loss: worst, value at risk, expected shortfall, spectral; sparse P&L.

A loss is positive, a gain negative: measures may be negative, margin models floor at zero.  The tail of n values is
found without a sort: minima of interleaved lanes bound the k-th lowest value, one more pass keeps what is not above
the bound, and the few that are left are ranked by counting.  Two reads of the vector, about 0.5 ns per value.

Rank rule, with t = (1 - level) n counted from the worst and freed of binary rounding (t is the nearest integer when
it lies within 1e-10 of it, relatively, so that (1 - 0.99) 1000 is 10): upper = the ceil(t)-th worst loss, lower = the
(floor(t) + 1)-th.  They differ only where t is whole.  Interpolated = linear at position (n - 1)(1 - level) of the
losses counted from the worst (type 7 of Hyndman and Fan 1996, what NumPy calls linear).  Expected shortfall = mean of
the worst t losses, the last one counted with its fraction (Acerbi and Tasche 2002, proposition 4.1).
"""

cimport numpy as cnp
from libc.math cimport NAN, ceil, fabs, floor, isfinite, rint
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from margincore.kernels.types cimport MC_EFINITE, MC_OK

from margincore.errors import RangeError, ShapeError

cdef extern from "tail.h" nogil:
    double mc_lane_minima(const double* x, int n, int lanes, double* minima)
    int mc_keep_below(const double* x, int n, double bound, double* out)
    double* mc_on_line(double* at)
    double mc_low_bound(const double* x, int n, int k)
    void mc_rank_sort(const double* x, int n, double* out)
    void mc_merge(const double* source, Py_ssize_t left, Py_ssize_t middle, Py_ssize_t end, double* target)
    double mc_least(const double* x, int n, double* health)
    int mc_find(const double* x, int n, double value)
    int mc_index_below(const double* x, int n, double bound, int* out)
    void mc_sparse_block(const int32_t* instrument, const double* quantity, int count, const double* risk,
                         Py_ssize_t stride, int width, double* out)

cnp.import_array()

# The counting sort is quadratic: measured even with the merge sort at about 130 values.
cdef enum:
    COUNTED_MAX = 128
    HELD_MAX = 2048   # scenarios of one call whose scratch lies on the stack
    LEVELS_MAX = 8    # of one call
    # Scenarios of a packed block: 500 instruments then take half of a second cache of 512 kB.  14.3 us a portfolio of
    # 50 positions on Zen 3, where blocks of 256 take 18.2.
    SPARSE_BLOCK = 64


cdef double risk_worst(const double* pnl, int n, int* index) noexcept nogil:
    cdef double health
    cdef double least = mc_least(pnl, n, &health)
    cdef int i = 0
    if not health == 0.0:
        while isfinite(pnl[i]):
            i += 1
        least = NAN
    elif index != NULL:
        i = mc_find(pnl, n, least)
    if index != NULL:
        index[0] = i
    return 0.0 - least


cdef tail_t risk_tail(double level, int n) noexcept nogil:
    cdef tail_t tail
    cdef double count = (1.0 - level) * n
    cdef double whole = rint(count)
    cdef double position
    if whole >= 1.0 and fabs(count - whole) <= 1e-10 * whole:
        count = whole
    tail.count = count
    tail.upper = max(<int>ceil(count), 1)
    tail.lower = min(<int>floor(count) + 1, n)
    position = (1.0 - level) * (n - 1)
    whole = rint(position)
    if whole >= 1.0 and fabs(position - whole) <= 1e-10 * whole:
        position = whole
    tail.deeper = <int>floor(position) + 1
    tail.shallower = min(tail.deeper + 1, n)
    tail.share = position - floor(position)
    tail.ranks = max(tail.lower, tail.shallower)
    return tail


cdef void merge_sort(double* x, int n, double* other) noexcept nogil:
    # Bottom-up, stable, in place with n doubles of help; runs of 32 are made by counting.
    cdef double* source = other
    cdef double* target = x
    cdef double* swap
    cdef int width = 32, at
    for at in range(0, n, 32):
        mc_rank_sort(x + at, min(width, n - at), other + at)
    while width < n:
        at = 0
        while at < n:
            mc_merge(source, at, min(at + width, n), min(at + 2 * width, n), target)
            at += 2 * width
        swap = source
        source = target
        target = swap
        width *= 2
    if source != x:
        memcpy(x, source, n * sizeof(double))


cdef int risk_lanes(int n, int k) noexcept nogil:
    # Lanes whose minima bound the k lowest values with few more; 0 when a sort of everything is as good.
    cdef int lanes = 32
    while 2 * lanes < 3 * k:
        lanes *= 2
    return lanes if lanes <= 2048 and 4 * lanes <= n else 0


cdef Py_ssize_t risk_scratch(int n) noexcept nogil:
    return 2 * <Py_ssize_t>n + 32


cdef int risk_lowest(const double* pnl, int n, int k, double* scratch) noexcept nogil:
    cdef double* spare = scratch + n + 16
    cdef int lanes = risk_lanes(n, k), kept = n, i
    cdef double health = 0.0
    if lanes > 0:
        if not mc_lane_minima(pnl, n, lanes, spare) == 0.0:
            return MC_EFINITE
        kept = mc_keep_below(pnl, n, mc_low_bound(spare, lanes, k), scratch)
    else:
        for i in range(n):
            scratch[i] = pnl[i]
            health += pnl[i] - pnl[i]
        if not health == 0.0:
            return MC_EFINITE
    if kept <= COUNTED_MAX:
        memcpy(spare, scratch, kept * sizeof(double))
        mc_rank_sort(spare, kept, scratch)
    else:
        merge_sort(scratch, kept, spare)
    return MC_OK


cdef void losses_of_lowest(const double* lowest, const tail_t* tail, int code, loss_t* out) noexcept nogil:
    # The sum runs from the worst scenario on, so the order of the scenarios changes no bit.
    cdef int i, whole = <int>floor(tail.count)
    cdef double total = 0.0, deeper, shallower
    if code != MC_OK:
        out.upper = out.lower = out.interpolated = out.shortfall = NAN
        return
    deeper, shallower = lowest[tail.deeper - 1], lowest[tail.shallower - 1]
    out.upper = 0.0 - lowest[tail.upper - 1]
    out.lower = 0.0 - lowest[tail.lower - 1]
    out.interpolated = 0.0 - (deeper + tail.share * (shallower - deeper))
    if whole == 0:
        out.shortfall = 0.0 - lowest[0]
        return
    for i in range(whole):
        total += lowest[i]
    if tail.count > whole:
        total += (tail.count - whole) * lowest[whole]
    out.shortfall = 0.0 - total / tail.count


cdef int risk_losses(const double* pnl, int n, const tail_t* tail, double* scratch, loss_t* out) noexcept nogil:
    cdef int code = risk_lowest(pnl, n, tail.ranks, scratch)
    losses_of_lowest(scratch, tail, code, out)
    return code


cdef int risk_order(const double* pnl, int n, int* order, int* spare) noexcept nogil:
    cdef int* source = order
    cdef int* target = spare
    cdef int* swap
    cdef int width = 1, at, left, right, middle, end, k
    cdef double health = 0.0
    for k in range(n):
        order[k] = k
        health += pnl[k] - pnl[k]
    if not health == 0.0:
        return MC_EFINITE
    while width < n:
        at = 0
        while at < n:
            left, middle = at, min(at + width, n)
            right, end = middle, min(at + 2 * width, n)
            for k in range(at, end):
                if left < middle and (right >= end or pnl[source[left]] <= pnl[source[right]]):
                    target[k] = source[left]
                    left += 1
                else:
                    target[k] = source[right]
                    right += 1
            at += 2 * width
        swap = source
        source = target
        target = swap
        width *= 2
    if source != order:
        for k in range(n):
            order[k] = source[k]
    return MC_OK


cdef void risk_weighted(const double* pnl, const double* probability, int n, double level, const int* order,
                        loss_t* out) noexcept nogil:
    # The guard is the one of the rank rule: a cumulated probability within 1e-10 of the tail, relatively, equals it.
    cdef double tail = 1.0 - level, before = 0.0, after = 0.0, total = 0.0
    cdef bint upper_found = False
    cdef int i, scenario = order[0]
    out.upper = out.lower = out.interpolated = out.shortfall = NAN
    for i in range(n):
        scenario = order[i]
        if probability[scenario] == 0.0:
            continue
        after = before + probability[scenario]
        if not upper_found and (after >= tail * (1.0 - 1e-10) or i == n - 1):
            upper_found = True
            out.upper = 0.0 - pnl[scenario]
            out.shortfall = 0.0 - (pnl[scenario] if before == 0.0
                                   else (total + (tail - before) * pnl[scenario]) / tail)
        if after > tail * (1.0 + 1e-10):
            break
        total += probability[scenario] * pnl[scenario]
        before = after
    out.lower = 0.0 - pnl[scenario]


cdef int risk_weighted_tail(const double* pnl, const double* probability, int n, double level, double* scratch,
                            loss_t* out) noexcept nogil:
    # Only the scenarios up to a bound are put in order; when their probability does not pass the tail, four times as many.
    cdef double tail = (1.0 - level) * (1.0 + 1e-10), reached, health = 0.0
    cdef double* minima = scratch
    cdef double* gathered = scratch + 2048
    cdef double* weight = gathered + n
    cdef int* place = <int*>(weight + n)
    cdef int* order = place + n
    cdef int k = <int>(2.0 * (1.0 - level) * n) + 8, lanes, kept, i
    out.upper = out.lower = out.interpolated = out.shortfall = NAN
    for i in range(n):
        health += pnl[i] - pnl[i]
    if not health == 0.0:
        return MC_EFINITE
    while True:
        lanes = risk_lanes(n, k)
        kept = n
        if lanes > 0:
            mc_lane_minima(pnl, n, lanes, minima)
            kept = mc_index_below(pnl, n, mc_low_bound(minima, lanes, k), place)
        else:
            for i in range(n):
                place[i] = i
        for i in range(kept):
            gathered[i] = pnl[place[i]]
            weight[i] = probability[place[i]]
        risk_order(gathered, kept, order, place)
        reached = 0.0
        for i in range(kept):
            reached += weight[order[i]]
            if reached > tail:
                break
        if reached > tail or kept == n:
            risk_weighted(gathered, weight, kept, level, order, out)
            return MC_OK
        k *= 4


cdef double risk_spectral(const double* pnl, const double* weight, int n, double* scratch) noexcept nogil:
    cdef double total = 0.0
    cdef int i
    if risk_lowest(pnl, n, n, scratch) != MC_OK:
        return NAN
    for i in range(n):
        total += weight[i] * scratch[i]
    return 0.0 - total


cdef int scenario_count(Py_ssize_t length) except -1:
    if length < 1 or length > 1 << 30:
        raise ShapeError(f"pnl must have 1 to {1 << 30} scenarios, had {length}")
    return <int>length


cdef Py_ssize_t row_count(cnp.ndarray pnl) except -1:
    if cnp.PyArray_NDIM(pnl) != 2:
        raise ShapeError(f"pnl must have 2 axes, had {cnp.PyArray_NDIM(pnl)}")
    scenario_count(pnl.shape[1])
    return pnl.shape[0]


cdef tail_t tail_of(double level, int n) except *:
    if not (0.0 < level < 1.0):
        raise RangeError(f"level must be in (0, 1), was {level!r}")
    return risk_tail(level, n)


cdef inline double* filled(cnp.ndarray array, const char* name, Py_ssize_t length) except NULL:
    # Pointer to an output or input of float64 that is contiguous and has the stated number of values.
    if (not cnp.PyArray_ISCARRAY(array) and not cnp.PyArray_ISCARRAY_RO(array)) or array.descr.type_num != cnp.NPY_DOUBLE:
        raise ShapeError(f"{name.decode()} must be a C-contiguous float64 array")
    if cnp.PyArray_SIZE(array) != length:
        raise ShapeError(f"{name.decode()} must hold {length} values, had {cnp.PyArray_SIZE(array)}")
    return <double*>cnp.PyArray_DATA(array)


def worst_losses(cnp.ndarray pnl not None, cnp.ndarray out not None, int32_t[::1] scenario not None):
    """Fill `out` with the worst loss of every row and `scenario` with the first column that makes it.

    A row that holds a P&L that is not finite gives NaN and the position of that P&L.
    """
    cdef Py_ssize_t row, rows = row_count(pnl)
    cdef int n = <int>pnl.shape[1]
    cdef int index
    cdef double* values = filled(pnl, "pnl", rows * n)
    cdef double* losses = filled(out, "out", rows)
    if scenario.shape[0] != rows:
        raise ShapeError(f"scenario must hold {rows} values, had {scenario.shape[0]}")
    with nogil:
        for row in range(rows):
            losses[row] = risk_worst(values + row * n, n, &index)
            scenario[row] = index


def tail_losses(cnp.ndarray pnl not None, level, cnp.ndarray out not None, int32_t[::1] code not None):
    """Fill every row of `out` with upper, lower, interpolated value at risk and expected shortfall of that row of `pnl`.

    `level` is a number, or a tuple of up to 8: then a row of `out` holds the four of each, from one search.
    `code` is 0, or -4 (and NaN in `out`) where a P&L is not finite.
    """
    cdef Py_ssize_t row, rows = row_count(pnl)
    cdef int n = <int>pnl.shape[1], at, ranks = 0
    cdef double* values = filled(pnl, "pnl", rows * n)
    cdef tail_t tail[LEVELS_MAX]
    cdef double* scratch
    levels = level if isinstance(level, tuple) else (level,)
    cdef int count = <int>len(levels)
    if not 1 <= count <= LEVELS_MAX:
        raise ShapeError(f"level must be a number or 1 to {LEVELS_MAX} of them, were {count}")
    for at in range(count):
        tail[at] = tail_of(levels[at], n)
        ranks = max(ranks, tail[at].ranks)
    cdef loss_t* losses = <loss_t*>filled(out, "out", 4 * count * rows)
    if code.shape[0] != rows:
        raise ShapeError(f"code must hold {rows} values, had {code.shape[0]}")
    scratch = <double*>malloc(risk_scratch(n) * sizeof(double))
    if scratch == NULL:
        raise MemoryError(f"no memory for {n} scenarios")
    with nogil:
        for row in range(rows):
            code[row] = risk_lowest(values + row * n, n, ranks, scratch)
            for at in range(count):
                losses_of_lowest(scratch, &tail[at], code[row], losses)
                losses += 1
    free(scratch)


cdef int one_vector(cnp.ndarray pnl, Py_ssize_t length, double level, loss_t* loss) except -1:
    cdef double held[2 * HELD_MAX + 32]
    cdef double* scratch = held
    cdef tail_t tail = tail_of(level, scenario_count(length))
    if length > HELD_MAX:
        scratch = <double*>malloc(risk_scratch(<int>length) * sizeof(double))
        if scratch == NULL:
            raise MemoryError(f"no memory for {length} scenarios")
    risk_losses(<const double*>cnp.PyArray_DATA(pnl), <int>length, &tail, scratch, loss)
    if scratch != held:
        free(scratch)
    return 0


def tail_loss(cnp.ndarray pnl not None, double level):
    """Upper, lower, interpolated value at risk and expected shortfall of one vector; all NaN if a P&L is not finite."""
    cdef Py_ssize_t length = cnp.PyArray_SIZE(pnl)
    cdef loss_t loss
    filled(pnl, "pnl", length)
    one_vector(pnl, length, level, &loss)
    return loss.upper, loss.lower, loss.interpolated, loss.shortfall


def tail_pair(object pnl, double level, int column):
    """Value at risk of convention `column` (0 to 2) and expected shortfall of one vector, NaN if a P&L is not finite.

    None for anything but a contiguous float64 array of one axis and two or more values: the caller then converts.
    """
    cdef Py_ssize_t length
    cdef loss_t loss
    if not cnp.PyArray_CheckExact(pnl):
        return None
    if cnp.PyArray_NDIM(pnl) != 1 or cnp.PyArray_TYPE(pnl) != cnp.NPY_DOUBLE or not cnp.PyArray_ISCARRAY_RO(pnl):
        return None
    length = cnp.PyArray_SIZE(pnl)
    if length < 2 or not 0 <= column <= 2:
        return None
    one_vector(pnl, length, level, &loss)
    return (&loss.upper)[column], loss.shortfall


def tail_ranks(double level, Py_ssize_t scenarios):
    """Scenarios in the tail, and the ranks of the upper and of the lower value at risk, counted from the worst."""
    cdef tail_t tail = tail_of(level, scenario_count(scenarios))
    return tail.count, tail.upper, tail.lower


def weighted_losses(cnp.ndarray pnl not None, cnp.ndarray probability not None, double level,
                    cnp.ndarray out not None, int32_t[::1] code not None):
    """As `tail_losses` with one probability per scenario; the interpolated value at risk is NaN."""
    cdef Py_ssize_t row, rows = row_count(pnl)
    cdef int n = <int>pnl.shape[1]
    cdef double* values = filled(pnl, "pnl", rows * n)
    cdef double* weight = filled(probability, "probability", n)
    cdef loss_t* losses = <loss_t*>filled(out, "out", 4 * rows)
    cdef int* order
    tail_of(level, n)
    if code.shape[0] != rows:
        raise ShapeError(f"code must hold {rows} values, had {code.shape[0]}")
    order = <int*>malloc(2 * <size_t>n * sizeof(int))
    if order == NULL:
        raise MemoryError(f"no memory for {n} scenarios")
    with nogil:
        for row in range(rows):
            code[row] = risk_order(values + row * n, n, order, order + n)
            if code[row] == MC_OK:
                risk_weighted(values + row * n, weight, n, level, order, &losses[row])
            else:
                losses[row].upper = losses[row].lower = losses[row].interpolated = losses[row].shortfall = NAN
    free(order)


def spectral_losses(cnp.ndarray pnl not None, cnp.ndarray weight not None, cnp.ndarray out not None):
    """Fill `out` with the sum over the sorted losses of every row, worst first, times `weight`; NaN if not finite."""
    cdef Py_ssize_t row, rows = row_count(pnl)
    cdef int n = <int>pnl.shape[1]
    cdef double* values = filled(pnl, "pnl", rows * n)
    cdef double* weights = filled(weight, "weight", n)
    cdef double* losses = filled(out, "out", rows)
    cdef double* scratch = <double*>malloc(risk_scratch(n) * sizeof(double))
    if scratch == NULL:
        raise MemoryError(f"no memory for {n} scenarios")
    with nogil:
        for row in range(rows):
            losses[row] = risk_spectral(values + row * n, weights, n, scratch)
    free(scratch)


def scenario_orders(cnp.ndarray pnl not None, int32_t[:, ::1] out not None, int32_t[::1] code not None):
    """Fill every row of `out` with the scenarios of that row of `pnl`, worst first, ties in their given order."""
    cdef Py_ssize_t row, rows = row_count(pnl)
    cdef int n = <int>pnl.shape[1]
    cdef double* values = filled(pnl, "pnl", rows * n)
    cdef int* spare
    if out.shape[0] != rows or out.shape[1] != n or code.shape[0] != rows:
        raise ShapeError(f"out must have shape {rows, n} and code {rows} values, had {out.shape[0], out.shape[1]} and "
                         f"{code.shape[0]}")
    spare = <int*>malloc(<size_t>n * sizeof(int))
    if spare == NULL:
        raise MemoryError(f"no memory for {n} scenarios")
    with nogil:
        for row in range(rows):
            code[row] = risk_order(values + row * n, n, <int*>&out[row, 0], spare)
    free(spare)


def held_slots(cnp.ndarray quantity not None, int64_t[::1] start not None, int32_t[::1] instrument not None,
               double[::1] amount not None):
    """Entries other than zero of `quantity` (rows, instruments), row by row; NaN is one of them.

    Fills `start` (rows + 1,) and the first ``start[rows]`` places of `instrument` and `amount`, which have one place for
    each entry of `quantity` and one more.
    """
    if cnp.PyArray_NDIM(quantity) != 2:
        raise ShapeError(f"quantity must have 2 axes, had {cnp.PyArray_NDIM(quantity)}")
    cdef Py_ssize_t rows = quantity.shape[0], width = quantity.shape[1], row, column, held = 0
    cdef double* values = filled(quantity, "quantity", rows * width)
    cdef int32_t* places
    cdef double* amounts
    if start.shape[0] != rows + 1 or instrument.shape[0] <= rows * width or amount.shape[0] <= rows * width:
        raise ShapeError(f"start must hold {rows + 1} values, instrument and amount more than {rows * width}")
    places, amounts = &instrument[0], &amount[0]
    with nogil:
        for row in range(rows):
            start[row] = held
            for column in range(width):
                places[held] = <int32_t>column
                amounts[held] = values[column]
                held += values[column] != 0.0
            values += width
        start[rows] = held


def sparse_pnl(const int64_t[::1] start not None, const int32_t[::1] instrument not None,
               const double[::1] quantity not None, const double[:, ::1] risk not None, double[:, ::1] out not None):
    """Fill `out` (rows, scenarios) with the sum over the slots of a row, in slot order, of quantity times risk.

    Slots ``start[row] .. start[row + 1] - 1`` belong to a row; `risk` is (instruments, scenarios).
    """
    cdef Py_ssize_t row, rows = out.shape[0], slots = instrument.shape[0], slot
    cdef Py_ssize_t scenarios = risk.shape[1], at, width
    cdef int32_t instruments = <int32_t>risk.shape[0]
    cdef double* memory
    cdef double* block
    if start.shape[0] != rows + 1 or quantity.shape[0] != slots or out.shape[1] != scenarios:
        raise ShapeError("start must have rows + 1 values, quantity one per slot and out the scenarios of risk, had "
                         f"{start.shape[0]} for {rows} rows, {quantity.shape[0]} for {slots} slots and {out.shape[1]}")
    if start[0] != 0 or start[rows] != slots:
        raise ShapeError(f"start must run from 0 to {slots}, ran from {start[0]} to {start[rows]}")
    for row in range(rows):
        if start[row] > start[row + 1]:
            raise ShapeError(f"start must not fall, fell from {start[row]} to {start[row + 1]} at row {row}")
    for slot in range(slots):
        if instrument[slot] < 0 or instrument[slot] >= instruments:
            raise RangeError(f"instrument must be in [0, {instruments}), was {instrument[slot]} at slot {slot}")
    if rows == 0 or scenarios == 0:
        return
    memory = <double*>malloc((SPARSE_BLOCK * <size_t>instruments + 8) * sizeof(double))
    if memory == NULL:
        raise MemoryError(f"no memory for {instruments} instruments")
    block = mc_on_line(memory)
    with nogil:
        # A packed block of scenarios of every instrument stays in the second cache for all rows.
        at = 0
        while at < scenarios:
            width = min(<Py_ssize_t>SPARSE_BLOCK, scenarios - at)
            for slot in range(instruments):
                memcpy(block + SPARSE_BLOCK * slot, &risk[slot, at], width * sizeof(double))
            for row in range(rows):
                slot = start[row]
                mc_sparse_block(&instrument[slot], &quantity[slot], <int>(start[row + 1] - slot), block, SPARSE_BLOCK,
                                <int>width, &out[row, at])
            at += SPARSE_BLOCK
    free(memory)
