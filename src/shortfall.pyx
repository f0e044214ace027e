"""Value at risk and expected shortfall of rows: a stage of a margin plan over any number of scenarios.

One pass writes the profit of an offset set in every scenario, sums in registers over the slots; the search of
margincore.kernels.risk finds the tail.  Ten positions in 1,000 scenarios read 80 kB of the risk table: about 1 us from
the second cache.  The sums are those of slot order and the tail is that of margincore.kernels.risk, so that one
row, a range of rows and a reference give the same bits.  Nothing is allocated: the workspace lies on the stack.
"""

from libc.math cimport NAN, fabs, isfinite

from margincore.errors import RangeError

from margincore.kernels.risk cimport loss_t, risk_losses, risk_tail, risk_weighted_tail
from margincore.kernels.row cimport contracts_counted
from margincore.kernels.types cimport int32_t, int64_t, mc_amount, mc_column, mc_market, mc_row

cdef extern from "tail.h" nogil:
    void mc_held_sum(const mc_held* row, Py_ssize_t first, int n, double* out)
    void mc_held_sum_orders(const mc_held* row, const double* buy, const double* sell, Py_ssize_t first, int n,
                            double* out)


cdef inline double contract_floor(const mc_column* c, const mc_market* market, const shortfall_t* p,
                                  double quantity) noexcept nogil:
    # the larger of the floor of a short option and the share of the notional
    cdef double floor = -quantity * c.floor_short if p.floors and quantity < 0.0 else 0.0
    cdef double share
    if p.floor_rate > 0.0:
        share = p.floor_rate * (contracts_counted(c, quantity) * c.notional) * market.asset[c.settle].spot
        if not floor >= share:
            floor = share
    return floor


cdef void held_list(const mc_row* row, const mc_market* market, const shortfall_t* p, held_t* list) noexcept nogil:
    cdef int32_t i, column, n = 0, sets = 0, runs = 0, last_set = -1, last_group = -1
    cdef const mc_column* c
    list.finite = 1
    for i in range(row.count):
        column = row.instrument[i]
        c = &market.column[column]
        if c.set < 0:
            continue
        list.risk[n] = market.risk + <int64_t>column * market.stride
        list.held[n] = row.asset_equity[column] if column < market.assets else row.quantity[i]
        list.finite &= isfinite(list.held[n]) != 0
        list.slot[n] = i
        if c.set != last_set:
            last_set = c.set
            last_group = c.group
            list.set_name[sets] = c.set
            list.set_slot[sets] = n
            list.set_run[sets] = runs
            list.floor[sets] = 0.0
            sets += 1
            runs += 1
        elif c.group != last_group and p.gain_kept != 1.0:
            last_group = c.group
            runs += 1
        n += 1
        list.run_end[runs - 1] = n - list.set_slot[sets - 1]
        if column >= market.assets:
            list.floor[sets - 1] += contract_floor(c, market, p, row.quantity[i])
    list.slots = n
    list.sets = sets
    list.set_slot[sets] = n
    list.set_run[sets] = runs


cdef mc_held set_of(const held_t* list, int32_t at, const shortfall_t* p) noexcept nogil:
    cdef mc_held row
    row.risk = list.risk + list.set_slot[at]
    row.held = list.held + list.set_slot[at]
    row.end = list.run_end + list.set_run[at]
    row.runs = list.set_run[at + 1] - list.set_run[at]
    row.gain_kept = p.gain_kept
    return row


cdef inline double chosen(const block_t* block, const loss_t* loss) noexcept nogil:
    if block.measure == UPPER:
        return loss.upper
    if block.measure == LOWER:
        return loss.lower
    return loss.interpolated if block.measure == INTERPOLATED else loss.shortfall


cdef double block_loss(const block_t* block, const double* pnl, double* scratch) noexcept nogil:
    cdef loss_t loss
    if block.probability != NULL:
        risk_weighted_tail(pnl, block.probability, block.count, block.level, scratch, &loss)
    else:
        risk_losses(pnl, block.count, &block.tail, scratch, &loss)
    return chosen(block, &loss)


cdef inline double combined(const shortfall_t* p, double base, double stressed) noexcept nogil:
    if p.combine == AVERAGED:
        return (1.0 - p.stressed_share) * base + p.stressed_share * stressed
    return base if base > stressed else stressed


cdef double shortfall_loss(const shortfall_t* p, const double* pnl, double* scratch) noexcept nogil:
    cdef double loss = block_loss(&p.base, pnl, scratch)
    if p.combine == ALONE:
        return loss
    return combined(p, loss, block_loss(&p.stressed, pnl + p.stressed.first, scratch))


cdef void held_pnl(const mc_held* held, const shortfall_t* p, double* pnl) noexcept nogil:
    mc_held_sum(held, 0, p.base.count + p.stressed.count, pnl)


cdef double held_loss(const shortfall_t* p, const mc_held* held, double* work) noexcept nogil:
    held_pnl(held, p, work)
    return shortfall_loss(p, work, work + p.base.count + p.stressed.count)


cdef double required(double loss, double floor) noexcept nogil:
    # at least zero and the floor; NaN of either comes through
    if loss >= floor:
        return loss
    return loss if loss != loss else floor


cdef double floor_orders(const held_t* list, const mc_row* row, const mc_market* market, const shortfall_t* p,
                         int32_t at) noexcept nogil:
    # floors of one set on the worse side of its open orders, contract by contract
    cdef double floor = 0.0, worst, side, q
    cdef const mc_column* c
    cdef int32_t k, i
    for k in range(list.set_slot[at], list.set_slot[at + 1]):
        i = list.slot[k]
        if row.instrument[i] < market.assets:
            continue
        c = &market.column[row.instrument[i]]
        q = row.quantity[i]
        worst = contract_floor(c, market, p, q)
        side = contract_floor(c, market, p, q + row.order_buy[i])
        worst = side if side > worst else worst
        side = contract_floor(c, market, p, q - row.order_sell[i])
        floor += side if side > worst else worst
    return floor


cdef double set_orders(const held_t* list, const mc_row* row, const shortfall_t* p, int32_t at, double* pnl,
                       double* scratch) noexcept nogil:
    # loss of one set when in every scenario the worst of nothing, all buys and all sells of each contract fills
    cdef double buy[ROW_SLOTS_MAX + 1]
    cdef double sell[ROW_SLOTS_MAX + 1]
    cdef mc_held held = set_of(list, at, p)
    cdef int32_t k, first = list.set_slot[at]
    for k in range(first, list.set_slot[at + 1]):
        buy[k - first] = row.order_buy[list.slot[k]]
        sell[k - first] = row.order_sell[list.slot[k]]
    mc_held_sum_orders(&held, buy, sell, 0, p.base.count + p.stressed.count, pnl)
    return shortfall_loss(p, pnl, scratch)


cdef inline void shortfall_in(const mc_row* row, const mc_market* market, const shortfall_t* p, double* work,
                              mc_amount* amount) noexcept nogil:
    cdef held_t list
    cdef mc_held held
    cdef double total = 0.0, total_orders = 0.0, loss, floor
    cdef double* scratch = work + p.base.count + p.stressed.count
    cdef int32_t at, orders = row.order_buy != NULL
    held_list(row, market, p, &list)
    if not list.finite or (list.slots > 0 and market.scenarios != p.base.count + p.stressed.count):
        total = total_orders = NAN      # no P&L, or the tick has other scenarios than the plan
        list.sets = 0
    for at in range(list.sets):
        held = set_of(&list, at, p)
        loss = held_loss(p, &held, work)
        floor = list.floor[at]
        total += required(loss, floor)
        if orders:
            # no loss is smaller with orders but by the rounding of an average, which must not lower initial margin
            loss = required(set_orders(&list, row, p, at, work, scratch), loss)
            total_orders += required(loss, floor_orders(&list, row, market, p, at))
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    amount.orders = p.initial_ratio * total_orders - amount.initial if orders else 0.0


cdef void shortfall_large(const mc_row* row, const mc_market* market, const shortfall_t* p,
                          mc_amount* amount) noexcept nogil:
    cdef double work[WORKSPACE_MAX]
    shortfall_in(row, market, p, mc_on_line(work), amount)


cdef void shortfall_stage(const mc_row* row, const mc_market* market, const void* parameters,
                          mc_amount* amount) noexcept nogil:
    # Sum over offset sets of max(loss of the set, its floors, zero).
    cdef const shortfall_t* p = <const shortfall_t*>parameters
    cdef double work[WORKSPACE_FEW]
    if p.base.count + p.stressed.count > SCENARIOS_FEW:
        shortfall_large(row, market, p, amount)
    else:
        shortfall_in(row, market, p, mc_on_line(work), amount)


cdef int block_set(block_t* block, int32_t first, double count, int32_t measure, double level,
                   const double* probability) except -1:
    cdef double total = 0.0
    cdef int32_t s
    if not 0.0 < level < 1.0:
        raise RangeError(f"level must be in (0, 1), was {level!r}")
    if not 1.0 <= count <= SCENARIOS_MAX - first or count != <int32_t>count:
        raise RangeError(f"scenarios must be 1 to {SCENARIOS_MAX} in all, were {first} and {count:g}")
    block.first = first
    block.count = <int32_t>count
    block.measure = measure
    block.level = level
    block.tail = risk_tail(level, block.count)
    block.probability = NULL
    if probability != NULL:
        block.probability = probability + first
        for s in range(block.count):
            if not block.probability[s] >= 0.0:
                raise RangeError(f"weights must not be negative, was {block.probability[s]!r} of scenario {first + s}")
            total += block.probability[s]
        if not fabs(total - 1.0) <= 1e-9:
            raise RangeError(f"weights must sum to 1, summed to {total!r} from scenario {first} on")
    return 0


cdef int shortfall_resolve(shortfall_t* p, int is_shortfall, numbers, const double* probability) except -1:
    cdef double measure, level, count, combine, stressed_level, stressed_count
    (p.maintenance_ratio, p.initial_ratio, p.gain_kept, floors, p.floor_rate, measure, level, count, combine,
     p.stressed_share, stressed_level, stressed_count) = numbers
    if p.gain_kept > 1.0 or p.stressed_share > 1.0:
        raise RangeError(f"gain kept and stressed share must be in [0, 1], were {p.gain_kept}, {p.stressed_share}")
    if measure not in (UPPER, LOWER, INTERPOLATED) or combine not in (ALONE, AVERAGED, LARGER):
        raise RangeError(f"convention and combination must be 0, 1 or 2, were {measure:g}, {combine:g}")
    if is_shortfall:
        measure = SHORTFALL
    elif measure == INTERPOLATED and probability != NULL:
        raise RangeError("convention must be upper or lower when scenarios have weights, was interpolated")
    p.floors = floors != 0.0
    p.combine = <int32_t>combine
    block_set(&p.base, 0, count, <int32_t>measure, level, probability)
    p.stressed.count = 0
    if p.combine != ALONE:
        block_set(&p.stressed, p.base.count, stressed_count, <int32_t>measure, stressed_level, probability)
    return 0
