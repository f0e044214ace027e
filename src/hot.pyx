"""Hot rows: what-ifs on a row whose profit vector is kept, for plans with a tail over many scenarios.

The bits of a requirement are defined once, by the sum over a row's slots in slot order.  A kept vector plus the change
of one slot differs from that sum by rounding alone, for which there is a bound; where equity lies within the bound of
a threshold the row is summed afresh, so that the status is always that of a trade followed by a check.  One order in
1,000 scenarios then reads two vectors instead of one per position: about 0.5 us.
"""

from libc.math cimport fabs, fmax, isfinite

cimport cython
cimport numpy as cnp

import numpy as np

from margincore.errors import StaleAccount

from margincore.kernels.lanes cimport lanes_largest, lanes_least, lanes_load, lanes_most, lanes_set, lanes_smallest, lanes_t
from margincore.kernels.margin cimport ASSETS_MAX, MarginBook, engine_t, margin_equity, margin_imagine, scratch_t
from margincore.kernels.row cimport ROW_SLOTS_MAX
from margincore.kernels.shortfall cimport (
    held_list, held_loss, held_pnl, held_t, mc_held, mc_on_line, required, set_of, shortfall_loss, shortfall_stage,
    shortfall_t,
)
from margincore.kernels.types cimport (
    MC_ECOLUMN, MC_HEALTHY, MC_LIQUIDATION, MC_MARGIN_CALL, MC_OK, int32_t, int64_t, mc_amount, mc_row,
)

cnp.import_array()

cdef enum:
    SETS_MAX = 16           # offset sets of a row whose vectors are kept
    CHANGES_MAX = 3         # slots that may differ from what the vectors were made of
    STALE = 1               # the vectors are not of this market, or of too different a row
    CLOSE = 2               # rounding might decide, or the plan is not one of these

# Vectors and losses of the sets of one row, and what they were made of.
cdef struct hot_t:
    held_t list
    double largest[ROW_SLOTS_MAX + 1]   # by slot: largest absolute risk
    double gross[SETS_MAX]              # by set: sum of held times largest risk, a bound of every P&L
    double loss[SETS_MAX]
    double* pnl                         # [sets][stride]
    double* work
    int64_t version                     # of the market
    int32_t tail                        # the stage of the plan
    int32_t stride                      # of the rows of risk
    int32_t ready

# One set after an order: its vector plus the changes.
cdef struct changed_t:
    const double* risk[CHANGES_MAX + 1]
    double held[CHANGES_MAX + 1]
    double gross
    int32_t count


cdef double largest_risk(const double* risk, int32_t stride) noexcept nogil:
    # rows of risk end in zeros up to a whole cache line
    cdef lanes_t most = lanes_set(0.0), least = lanes_set(0.0), x
    cdef int32_t s
    for s in range(0, stride, 8):
        x = lanes_load(risk + s)
        most = lanes_most(most, x)
        least = lanes_least(least, x)
    return fmax(lanes_largest(most), 0.0 - lanes_smallest(least))


cdef int change_of(changed_t* set, const double* risk, double before, double after, double largest) noexcept nogil:
    if set.count == CHANGES_MAX:
        return 0
    set.count += 1
    set.risk[set.count] = risk
    set.held[set.count] = after - before
    set.gross += (fabs(before) + fabs(after) + fabs(after - before)) * largest
    return 1


cdef int listed(const held_t* list, int32_t first, int32_t last, const double* risk) noexcept nogil:
    cdef int32_t k
    for k in range(first, last):
        if list.risk[k] == risk:
            return 1
    return 0


cdef int set_changes(const hot_t* hot, int32_t old, const held_t* list, int32_t new, changed_t* set) noexcept nogil:
    # Both sides are in the order of columns: a merge.  0 when there are too many changes.
    cdef int32_t a = hot.list.set_slot[old], a_end = hot.list.set_slot[old + 1]
    cdef int32_t b = list.set_slot[new], b_end = list.set_slot[new + 1]
    set.count = 0
    set.gross = hot.gross[old]
    while a < a_end or b < b_end:
        if a < a_end and b < b_end and hot.list.risk[a] == list.risk[b]:
            if hot.list.held[a] != list.held[b] and not change_of(
                    set, list.risk[b], hot.list.held[a], list.held[b], hot.largest[a]):
                return 0
            a += 1
            b += 1
        elif b < b_end and not listed(&hot.list, a, a_end, list.risk[b]):
            if not change_of(set, list.risk[b], 0.0, list.held[b], largest_risk(list.risk[b], hot.stride)):
                return 0
            b += 1
        else:
            if not change_of(set, hot.list.risk[a], hot.list.held[a], 0.0, hot.largest[a]):
                return 0
            a += 1
    return 1


cdef double set_loss(const hot_t* hot, const shortfall_t* p, int32_t old, changed_t* set, double* slack) noexcept nogil:
    # Each vector is off by at most a rounding per slot and change; no order statistic or average of any moves by more,
    # and an average adds a rounding per scenario of the tail.  2^-52 is two roundings, one of them in reserve.
    cdef mc_held held
    cdef int32_t end = set.count + 1
    cdef double roundings
    if set.count == 0:
        return hot.loss[old]
    roundings = hot.list.set_slot[old + 1] - hot.list.set_slot[old]
    roundings = 2.0 * (roundings + 6.0 * CHANGES_MAX) + 2.0 * (p.base.tail.ranks + 8.0)
    if p.stressed.count > 0:
        roundings += 2.0 * (p.stressed.tail.ranks + 8.0)
    slack[0] += 2.220446049250313e-16 * roundings * set.gross
    set.risk[0] = hot.pnl + <int64_t>old * hot.stride
    set.held[0] = 1.0
    held.risk = set.risk
    held.held = set.held
    held.end = &end
    held.runs = 1
    held.gain_kept = 1.0
    return held_loss(p, &held, hot.work)


cdef int tail_amount(const hot_t* hot, const engine_t* engine, const mc_row* row, mc_amount* amount,
                     double* slack) noexcept nogil:
    # What the stage asks of a row, off by at most `slack`.
    cdef const shortfall_t* p = <const shortfall_t*>engine.plan.parameters[hot.tail]
    cdef held_t list
    cdef changed_t changed
    cdef mc_held held
    cdef int32_t at, old = 0
    cdef double total = 0.0, loss
    held_list(row, &engine.market, p, &list)
    if not list.finite:
        return CLOSE
    for at in range(list.sets):
        while old < hot.list.sets and hot.list.set_name[old] < list.set_name[at]:
            old += 1
        if old < hot.list.sets and hot.list.set_name[old] == list.set_name[at]:
            if not set_changes(hot, old, &list, at, &changed):
                return STALE
            loss = set_loss(hot, p, old, &changed, slack)
        else:
            held = set_of(&list, at, p)
            loss = held_loss(p, &held, hot.work)
        total += required(loss, list.floor[at])
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    slack[0] *= p.initial_ratio + p.maintenance_ratio
    return MC_OK


cdef int hot_status(const hot_t* hot, const engine_t* engine, mc_row* row, int32_t* status) noexcept nogil:
    # As margin_row, where no rounding of the tail can change the answer.
    cdef double asset_equity[ASSETS_MAX]
    cdef double equity, maintenance = 0.0, initial = 0.0, slack = 0.0
    cdef mc_amount amount
    cdef int32_t k
    cdef int code
    row.asset_equity = asset_equity
    equity = margin_equity(row, &engine.market, asset_equity)
    if row.order_buy != NULL:
        return CLOSE
    for k in range(engine.plan.stages):
        if k == hot.tail:
            code = tail_amount(hot, engine, row, &amount, &slack)
            if code != MC_OK:
                return code
        else:
            engine.plan.stage[k](row, &engine.market, engine.plan.parameters[k], &amount)
        maintenance += amount.maintenance
        initial += amount.initial
    initial = initial if initial > maintenance else maintenance
    if not (isfinite(equity) and isfinite(maintenance) and isfinite(initial) and isfinite(slack)):
        return CLOSE
    slack += 1e-14 * (maintenance + initial) + 1e-290
    if not (fabs(equity - initial) > slack and fabs(equity - maintenance) > slack):
        return CLOSE
    status[0] = MC_HEALTHY if equity > initial else MC_MARGIN_CALL if equity > maintenance else MC_LIQUIDATION
    return MC_OK


cdef int hot_what_if(const hot_t* hot, const engine_t* engine, int64_t row, int32_t column, double quantity, double price,
                     double fee, int32_t* status) noexcept nogil:
    cdef scratch_t scratch
    cdef mc_row copy
    cdef int code = margin_imagine(engine, row, column, quantity, price, fee, &scratch, &copy)
    if code != MC_OK:
        return code
    if not hot.ready or hot.version != engine.version:
        return STALE
    return CLOSE if hot.tail < 0 else hot_status(hot, engine, &copy, status)


cdef int32_t tail_stage(const engine_t* engine) noexcept nogil:
    # The one stage whose vector can be kept: linear in what is held, scenarios equally likely; -1 when there is none.
    cdef int32_t k, found = -1
    cdef const shortfall_t* p
    for k in range(engine.plan.stages):
        if engine.plan.stage[k] == shortfall_stage:
            p = <const shortfall_t*>engine.plan.parameters[k]
            if found >= 0 or p.gain_kept != 1.0 or p.base.probability != NULL:
                return -1
            if p.base.count + p.stressed.count != engine.market.scenarios:
                return -1
            found = k
    return found


@cython.final
cdef class HotRow:
    """A row of a book that is asked about often: `what_if` answers as `MarginBook.what_if`, from a kept profit vector.

    Parameters
    ----------
    book : MarginBook
    row : int

    Notes
    -----
    Market, plan and row may change at any time: the vectors belong to a market and to what was held, both are compared,
    and they are made again when they have to be.  One thread at a time may use a hot row.
    """

    cdef readonly MarginBook book
    cdef readonly int64_t row
    cdef readonly int64_t made     # times that the vectors were made
    cdef readonly int64_t afresh   # answers that were summed afresh
    cdef int32_t generation
    cdef hot_t c
    cdef cnp.ndarray memory

    def __init__(self, MarginBook book not None, int64_t row):
        self.book = book
        self.row = row
        self.generation = book.generation(row)
        if not self.generation & 1:
            raise StaleAccount(f"row must be open, {row} is closed")

    cdef int make(self) except -1:
        # vectors and losses of the row as it is
        cdef const engine_t* engine = &self.book.e
        cdef hot_t* hot = &self.c
        cdef scratch_t scratch
        cdef mc_row copy
        cdef double asset_equity[ASSETS_MAX]
        cdef const shortfall_t* p
        cdef mc_held held
        cdef int32_t at, k, tail
        hot.ready = 1
        hot.version = engine.version
        hot.stride = engine.market.stride
        hot.tail = -1
        self.made += 1
        tail = tail_stage(engine)
        if tail < 0 or margin_imagine(engine, self.row, -1, 0.0, 0.0, 0.0, &scratch, &copy) != MC_OK:
            return 0
        p = <const shortfall_t*>engine.plan.parameters[tail]
        margin_equity(&copy, &engine.market, asset_equity)
        copy.asset_equity = asset_equity
        held_list(&copy, &engine.market, p, &hot.list)
        if not hot.list.finite or hot.list.sets > SETS_MAX:
            return 0
        hot.tail = tail
        need = (hot.list.sets + 4) * <int64_t>hot.stride + 2048 + 8
        if self.memory is None or self.memory.size < need:
            self.memory = np.empty(need)
        hot.pnl = mc_on_line(<double*>cnp.PyArray_DATA(self.memory))
        hot.work = hot.pnl + <int64_t>hot.list.sets * hot.stride
        for at in range(hot.list.sets):
            held = set_of(&hot.list, at, p)
            held_pnl(&held, p, hot.pnl + <int64_t>at * hot.stride)
            hot.loss[at] = shortfall_loss(p, hot.pnl + <int64_t>at * hot.stride, hot.work)
            hot.gross[at] = 0.0
            for k in range(hot.list.set_slot[at], hot.list.set_slot[at + 1]):
                hot.largest[k] = largest_risk(hot.list.risk[k], hot.stride)
                hot.gross[at] += fabs(hot.list.held[k]) * hot.largest[k]
        return 0

    cdef int answer(self, int32_t column, double quantity, double price, double fee) except -1:
        cdef int32_t status = 0
        cdef int code
        if self.book.c.generation[self.row] != self.generation:
            raise StaleAccount(f"row must be open, {self.row} was closed")
        with cython.critical_section(self):
            code = hot_what_if(&self.c, &self.book.e, self.row, column, quantity, price, fee, &status)
            if code == STALE:
                self.make()
                code = hot_what_if(&self.c, &self.book.e, self.row, column, quantity, price, fee, &status)
        if code == MC_OK:
            return status
        if code < 0:
            self.book.fail(code, self.row, column)
        self.afresh += 1
        return self.book.status(self.row) if column == -1 else self.book.what_if(self.row, column, quantity, price, fee)

    def status(self):
        """Status code of the row, as `MarginBook.status`."""
        return self.answer(-1, 0.0, 0.0, 0.0)

    def what_if(self, int32_t column, double quantity, double price, double fee=0.0):
        """Status code after a trade of `quantity` contracts at `price`, as `MarginBook.what_if`; nothing is written."""
        if column < 0:
            self.book.fail(MC_ECOLUMN, self.row, column)
        return self.answer(column, quantity, price, fee)

    def repeat(self, int32_t column, double quantity, double price, int64_t times):
        """Ask `times` times in a C loop: what a what-if costs without the interpreter."""
        cdef int64_t _
        cdef int32_t status = 0
        self.what_if(column, quantity, price)
        for _ in range(times):
            hot_what_if(&self.c, &self.book.e, self.row, column, quantity, price, 0.0, &status)
        return status
