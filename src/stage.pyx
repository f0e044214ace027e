"""Stages of a margin plan: scenario losses, charges and tiers, each a C function that turns a row into an amount.

The scenario stage writes down the slots that move without a branch per slot, then adds whole cache lines of scenarios;
the tier stage takes the largest of eight lines at once.
"""

from libc.math cimport fabs

cimport numpy as cnp

import numpy as np

from margincore.errors import CapacityError, NotFiniteError, RangeError, ShapeError

from margincore.kernels.lanes cimport (
    lanes_add, lanes_kept, lanes_largest, lanes_least, lanes_load, lanes_most, lanes_mul, lanes_reached, lanes_set,
    lanes_smallest, lanes_store, lanes_t, lines_largest,
)
from margincore.kernels.row cimport ROW_SLOTS_MAX, contracts_counted
from margincore.kernels.shortfall cimport shortfall_resolve, shortfall_stage, shortfall_t
from margincore.kernels.types cimport (
    MC_OPTION, int32_t, int64_t, mc_amount, mc_column, mc_market, mc_row, mc_stage,
)

cnp.import_array()

cdef enum:
    LANES = 8              # risk rows and tier lines are padded to a multiple (range wants a literal 8)
    SLOTS = ROW_SLOTS_MAX
    GROUPS_FEW = 32        # groups whose sums fit the buffer of the quick scan


# ---- scenarios --------------------------------------------------------------------------------------------------

# The slots of a row that scenarios move, in row order, with the borders of their groups and offset sets (from 1).
cdef struct scan_list_t:
    const double* risk[SLOTS + 1]
    double held[SLOTS + 1]      # contracts, or the whole equity in a shocked asset
    int32_t keep[SLOTS + 1]     # 1: same group as the slot before; 0: a new one
    int32_t slot[SLOTS + 1]
    int32_t group[SLOTS + 1]
    int32_t set_of[SLOTS + 1]   # by group
    double floor[SLOTS + 1]     # by set: least requirement of its short options
    int32_t slots, groups, sets


cdef inline void scan_list(const mc_row* row, const mc_market* market, scan_list_t* list) noexcept nogil:
    # Without a branch per slot: borders are different in every row, and a wrong guess costs more than the sums.
    cdef int32_t i, n = 0, group = 0, set_now = 0, last_group = -1, last_set = -1, column, live, same_set, same
    cdef double floor = 0.0, short
    cdef const mc_column* c
    list.set_of[0] = 0
    for i in range(row.count):
        column = row.instrument[i]
        c = &market.column[column]
        live = c.set >= 0
        same_set = c.set == last_set
        same = same_set & (c.group == last_group)
        group += live & (same ^ 1)
        set_now += live & (same_set ^ 1)
        last_group = c.group if live else last_group
        last_set = c.set if live else last_set
        list.risk[n] = market.risk + <int64_t>column * market.stride
        list.held[n] = row.asset_equity[column] if column < market.assets and live else row.quantity[i]
        list.keep[n] = same
        list.slot[n] = i
        list.group[n] = group
        list.set_of[group] = set_now
        short = -row.quantity[i] if row.quantity[i] < 0.0 else 0.0
        floor = (floor if same_set | (live ^ 1) else 0.0) + (short * c.floor_short if live else 0.0)
        list.floor[set_now] = floor
        n += live
    list.slots = n
    list.groups = group
    list.sets = set_now


cdef inline lanes_t gain_share(lanes_t pnl, lanes_t gain_kept) noexcept nogil:
    # x below zero, gain_kept * x above: the smaller of both, as gain_kept is at most 1
    return lanes_least(pnl, lanes_mul(gain_kept, pnl))


cdef void scan_few(const scan_list_t* list, double gain_kept, int32_t stride, double* loss) noexcept nogil:
    # Worst loss of every set, at least zero, for rows of few groups: sums of groups, then sets, wait in small buffers.
    cdef double group[(GROUPS_FEW + 1) * LANES]
    cdef double whole[(GROUPS_FEW + 1) * LANES]
    cdef double least[(GROUPS_FEW + 1) * LANES]
    cdef lanes_t sum, kept = lanes_set(gain_kept), zero = lanes_set(0.0)
    cdef int32_t s, k, j
    for j in range(1, list.sets + 1):
        lanes_store(&least[j * LANES], zero)
    for s in range(0, stride, 8):
        sum = zero
        for k in range(list.slots):
            sum = lanes_add(lanes_kept(sum, list.keep[k]),
                            lanes_mul(lanes_set(list.held[k]), lanes_load(list.risk[k] + s)))
            lanes_store(&group[list.group[k] * LANES], sum)
        sum = zero
        for j in range(1, list.groups + 1):
            sum = lanes_add(lanes_kept(sum, list.set_of[j] == list.set_of[j - 1]),
                            gain_share(lanes_load(&group[j * LANES]), kept))
            lanes_store(&whole[list.set_of[j] * LANES], sum)
        for j in range(1, list.sets + 1):
            lanes_store(&least[j * LANES], lanes_least(lanes_load(&whole[j * LANES]), lanes_load(&least[j * LANES])))
    for j in range(1, list.sets + 1):
        loss[j] = 0.0 - lanes_smallest(lanes_load(&least[j * LANES]))


cdef inline lanes_t worse_side(const double* risk, double buy, double sell) noexcept nogil:
    # per scenario the worst of: nothing fills, all buys fill, all sells fill
    cdef lanes_t unit = lanes_load(risk)
    return lanes_least(lanes_least(lanes_mul(lanes_set(buy), unit), lanes_set(0.0)), lanes_mul(lanes_set(-sell), unit))


cdef void scan_many(const scan_list_t* list, const mc_row* row, double gain_kept, int32_t stride, double* loss,
                    double* loss_orders) noexcept nogil:
    # The same for any number of groups, and with open orders: the same sums in the same order, set by set.
    cdef lanes_t sum, sum_orders, whole, whole_orders, least, least_orders
    cdef lanes_t kept = lanes_set(gain_kept), zero = lanes_set(0.0)
    cdef int32_t s, k, i, group, now, first = 0, orders = row.order_buy != NULL
    while first < list.slots:
        now = list.set_of[list.group[first]]
        least = least_orders = zero
        for s in range(0, stride, 8):
            whole = whole_orders = zero
            k = first
            while k < list.slots and list.set_of[list.group[k]] == now:
                group = list.group[k]
                sum = sum_orders = zero
                while k < list.slots and list.group[k] == group:
                    sum = lanes_add(sum, lanes_mul(lanes_set(list.held[k]), lanes_load(list.risk[k] + s)))
                    if orders:
                        i = list.slot[k]
                        sum_orders = lanes_add(
                            sum_orders, worse_side(list.risk[k] + s, row.order_buy[i], row.order_sell[i]))
                    k += 1
                whole = lanes_add(whole, gain_share(sum, kept))
                whole_orders = lanes_add(whole_orders, gain_share(lanes_add(sum, sum_orders), kept))
            least = lanes_least(whole, least)
            least_orders = lanes_least(whole_orders, least_orders)
        loss[now] = 0.0 - lanes_smallest(least)
        loss_orders[now] = 0.0 - lanes_smallest(least_orders)
        first = k


cdef double floors_orders(const scan_list_t* list, const mc_row* row, const mc_market* market, int32_t now) noexcept nogil:
    # floors of one set if all sells fill
    cdef double floor = 0.0, after
    cdef int32_t k, i
    for k in range(list.slots):
        i = list.slot[k]
        if list.set_of[list.group[k]] == now:
            after = row.quantity[i] - row.order_sell[i]
            floor += -after * market.column[row.instrument[i]].floor_short if after < 0.0 else 0.0
    return floor


cdef void scan_stage(const mc_row* row, const mc_market* market, const void* parameters,
                     mc_amount* amount) noexcept nogil:
    # Sum over offset sets of max(worst scenario loss of the set, floors of its short options).
    cdef const scan_t* p = <const scan_t*>parameters
    cdef scan_list_t list
    cdef double loss[SLOTS + 1]
    cdef double loss_orders[SLOTS + 1]
    cdef double total = 0.0, total_orders = 0.0, floor
    cdef int32_t j, orders = row.order_buy != NULL
    scan_list(row, market, &list)
    if orders or list.groups > GROUPS_FEW:
        scan_many(&list, row, p.gain_kept, market.stride, loss, loss_orders)
    else:
        scan_few(&list, p.gain_kept, market.stride, loss)
    for j in range(1, list.sets + 1):
        floor = list.floor[j] if p.floors else 0.0
        total += loss[j] if loss[j] > floor else floor
        if orders:
            floor = floors_orders(&list, row, market, j) if p.floors else 0.0
            total_orders += loss_orders[j] if loss_orders[j] > floor else floor
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    amount.orders = p.initial_ratio * total_orders - amount.initial if orders else 0.0


# ---- charges and tiers ------------------------------------------------------------------------------------------

cdef void charge_stage(const mc_row* row, const mc_market* market, const void* parameters,
                       mc_amount* amount) noexcept nogil:
    # Sum of contracts times a charge: short contracts only (contingency), or either side (cost to close).
    cdef const charge_t* p = <const charge_t*>parameters
    cdef double total = 0.0, total_orders = 0.0, q, after
    cdef int32_t i
    cdef const mc_column* c
    for i in range(row.count):
        if row.instrument[i] < market.assets:
            continue
        c = &market.column[row.instrument[i]]
        q = row.quantity[i]
        if p.any_side:
            total += fabs(q) * c.charge_any
        else:
            total += (-q if q < 0.0 else 0.0) * c.charge_short
        if row.order_buy != NULL:
            after = q - row.order_sell[i]
            if p.any_side:
                q = q + row.order_buy[i]
                total_orders += (fabs(q) if fabs(q) > fabs(after) else fabs(after)) * c.charge_any
            else:
                total_orders += (-after if after < 0.0 else 0.0) * c.charge_short
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    amount.orders = p.initial_ratio * total_orders - amount.initial if row.order_buy != NULL else 0.0


cdef inline double tier_maintenance(const double* line, int32_t width, double notional) noexcept nogil:
    # max over lines of rate * notional - amount: rates rise and the lines meet at the floors, so the largest applies
    cdef double most = 0.0, largest
    cdef int32_t k
    for k in range(0, width, 8):
        largest = lines_largest(line + k, line + width + k, notional)
        most = most if most > largest else largest
    return most


cdef inline double tier_initial(const double* step, int32_t width, double notional, double least_rate) noexcept nogil:
    # notional times the largest initial rate of the tiers reached, or what the account chose
    cdef lanes_t x = lanes_set(notional), most = lanes_set(least_rate)
    cdef int32_t k
    for k in range(0, width, 8):
        most = lanes_most(most, lanes_reached(lanes_load(step + k), x, lanes_load(step + width + k)))
    return lanes_largest(most) * notional


cdef inline double notional_held(const mc_column* c, double quantity, double entry, int32_t on_entry) noexcept nogil:
    return fabs(entry) if on_entry and c.kind != MC_OPTION else contracts_counted(c, quantity) * c.notional


cdef double orders_initial(const mc_row* row, const mc_market* market, const tiers_t* p) noexcept nogil:
    # Further initial margin per slot: the worse of all buys and all sells filled at the mark, against the position.
    cdef double orders = 0.0, now, held, after, side, q
    cdef int32_t i, k
    cdef const mc_column* c
    cdef const double* step
    for i in range(row.count):
        if row.order_buy[i] == 0.0 and row.order_sell[i] == 0.0:
            continue
        c = &market.column[row.instrument[i]]
        step = p.step + <int64_t>row.instrument[i] * p.width * 2
        q = row.quantity[i]
        held = notional_held(c, q, row.entry[i], p.on_entry)
        now = side = tier_initial(step, p.width, held, row.initial_rate)
        for k in range(2):
            after = q + row.order_buy[i] if k == 0 else q - row.order_sell[i]
            if p.on_entry and c.kind != MC_OPTION and after * q > 0.0:
                # adds at the mark to what is counted at entry; what only reduces asks for nothing more
                after = held + fabs(after - q) * c.notional if fabs(after) > fabs(q) else 0.0
            else:
                after = contracts_counted(c, after) * c.notional
            after = tier_initial(step, p.width, after, row.initial_rate)
            side = side if side > after else after
        orders += market.asset[c.settle].spot * (side - now)
    return orders


cdef void tiers_stage(const mc_row* row, const mc_market* market, const void* parameters,
                      mc_amount* amount) noexcept nogil:
    # Tables of cash columns are zero lines, so that they need no branch; sums by runs of one settlement asset.
    cdef const tiers_t* p = <const tiers_t*>parameters
    cdef double maintenance = 0.0, initial = 0.0, run = 0.0, run_initial = 0.0, notional
    cdef int32_t i, asset = -1
    cdef int64_t at
    cdef const mc_column* c
    for i in range(row.count):
        c = &market.column[row.instrument[i]]
        if c.settle != asset:
            if run != 0.0:
                maintenance += market.asset[asset].spot * run
            if run_initial != 0.0:
                initial += market.asset[asset].spot * run_initial
            asset = c.settle
            run = run_initial = 0.0
        notional = notional_held(c, row.quantity[i], row.entry[i], p.on_entry)
        at = <int64_t>row.instrument[i] * p.width * 2
        run += tier_maintenance(p.line + at, p.width, notional)
        if not row.maintenance_only:
            run_initial += tier_initial(p.step + at, p.width, notional, row.initial_rate)
    if run != 0.0:
        maintenance += market.asset[asset].spot * run
    if run_initial != 0.0:
        initial += market.asset[asset].spot * run_initial
    amount.maintenance = maintenance
    amount.initial = initial
    amount.orders = orders_initial(row, market, p) if row.order_buy != NULL and not row.maintenance_only else 0.0


cdef int32_t row_scanned(const mc_row* row, const mc_market* market, int32_t* slot, double* held) noexcept nogil:
    # the slots of a row that scenarios move, and how much of each
    cdef scan_list_t list
    cdef int32_t k
    scan_list(row, market, &list)
    for k in range(list.slots):
        slot[k] = list.slot[k]
        held[k] = list.held[k]
    return list.slots


# ---- the plan ---------------------------------------------------------------------------------------------------

cdef cnp.ndarray aligned(object shape):
    # zeros that begin on a cache line: a row of risk, or the lines of one column, straddle no more lines than they must
    size = int(np.prod(shape))
    memory = np.zeros(size + 8)
    first = -memory.ctypes.data % 64 // 8
    return memory[first:first + size].reshape(shape)


cdef tuple numbers_of(str code, object numbers, int count):
    given = tuple(float(x) for x in numbers)
    if len(given) != count:
        raise ShapeError(f"parameters of {code} must be {count} numbers, were {given}")
    if not np.isfinite(given).all():
        raise NotFiniteError(f"parameters of {code} must be finite, were {given}")
    if min(given) < 0.0:
        raise RangeError(f"parameters of {code} must be at least 0, were {given}")
    return given


STAGES = ("scan", "short charge", "closing charge", "tiers", "value at risk", "expected shortfall")


cdef class Plan:
    """The stages of a margin plan, resolved to C functions and their parameters.

    Parameters
    ----------
    columns, assets : int
        Columns of the book; the first of them hold balances.
    stages : sequence of (code, name, parameters, table)
        `code` is a name of `STAGES`, `parameters` a sequence of floats, `table` a float64 array or None:
        scan (maintenance ratio, initial ratio, gain kept, floors 0/1); short charge and closing charge (maintenance
        ratio, initial ratio); tiers (on entry 0/1) with a table of shape (columns, tiers, 4): floor (notional in the
        settlement asset, infinite: no tier), rate, amount and initial rate, where rates rise and
        ``rate * notional - amount`` meet at the floors; value at risk and expected shortfall (maintenance ratio,
        initial ratio, gain kept, floors 0/1, floor rate of the notional, convention: 0 upper, 1 lower, 2 interpolated;
        level, scenarios; stressed block: 0 none, 1 averaged, 2 the larger counts; its share, level, scenarios) with None
        or a table of probabilities, shape (scenarios of both blocks,), that sum to one in each block.
    """

    def __init__(self, int32_t columns, int32_t assets, stages):
        if not 0 < len(stages) <= STAGES_MAX:
            raise CapacityError(f"a plan must have 1 to {STAGES_MAX} stages, had {len(stages)}")
        self.memory, names = {}, []
        for k, (code, name, numbers, table) in enumerate(stages):
            if code not in STAGES:
                raise RangeError(f"stage must be one of {', '.join(STAGES)}, was {code!r}")
            memory = np.zeros(sizeof(scan_t) + sizeof(tiers_t) + sizeof(charge_t) + sizeof(shortfall_t), np.uint8)
            self.memory[f"stage {k}"] = memory
            self.c.parameters[k] = cnp.PyArray_DATA(<cnp.ndarray>memory)
            self.c.stage[k] = self.resolve(<void*>self.c.parameters[k], code, numbers, table, columns, assets)
            names.append(name)
        self.c.stages = len(names)
        self.c.kind = self.kind_of(stages[0][0], self.c.parameters[0]) if len(stages) == 1 else PLAN_ANY
        self.names = tuple(names)

    cdef int32_t kind_of(self, str code, const void* parameters):
        if code == "scan" and not (<const scan_t*>parameters).floors:
            return PLAN_SCAN
        if code == "tiers" and (<const tiers_t*>parameters).width == 8 and not (<const tiers_t*>parameters).on_entry:
            return PLAN_TIERS
        return PLAN_ANY

    cdef mc_stage resolve(self, void* memory, str code, numbers, table, int32_t columns,
                          int32_t assets) except NULL:
        cdef scan_t* scan = <scan_t*>memory
        cdef charge_t* charge = <charge_t*>memory
        if code == "scan":
            scan.maintenance_ratio, scan.initial_ratio, scan.gain_kept, floors = numbers_of(code, numbers, 4)
            scan.floors = bool(floors)
            if scan.gain_kept > 1.0:
                raise RangeError(f"gain kept must be in [0, 1], was {scan.gain_kept}")
            return scan_stage
        if code in ("value at risk", "expected shortfall"):
            self.resolve_shortfall(<shortfall_t*>memory, code, numbers_of(code, numbers, 12), table)
            return shortfall_stage
        if code == "tiers":
            self.resolve_tiers(<tiers_t*>memory, numbers_of(code, numbers, 1)[0], np.array(table, np.float64), columns, assets)
            return tiers_stage
        charge.maintenance_ratio, charge.initial_ratio = numbers_of(code, numbers, 2)
        charge.any_side = code == "closing charge"
        return charge_stage

    cdef int resolve_shortfall(self, shortfall_t* tail, str code, tuple numbers, table) except -1:
        cdef cnp.ndarray weights
        cdef const double* probability = NULL
        if table is not None:
            weights = np.array(table, np.float64)
            if np.shape(weights) != (numbers[7] + (numbers[11] if numbers[8] else 0.0),):
                raise ShapeError(f"table must have one weight per scenario, had shape {np.shape(weights)}")
            self.memory[f"weights {len(self.memory)}"] = weights
            probability = <const double*>cnp.PyArray_DATA(weights)
        return shortfall_resolve(tail, code == "expected shortfall", numbers, probability)

    cdef int resolve_tiers(self, tiers_t* tiers, double on_entry, cnp.ndarray table, int32_t columns,
                           int32_t assets) except -1:
        # per column: the maintenance lines (rates, then amounts) and the initial steps (floors, then rates)
        given = np.shape(table)
        if len(given) != 3 or given[0] != columns or given[1] < 1 or given[2] != 4:
            raise ShapeError(f"table must have shape ({columns}, tiers, 4), had {given}")
        cdef cnp.ndarray lines, steps
        cdef int32_t width = (given[1] + LANES - 1) // LANES * LANES
        floor, rate, amount, initial = (table[:, :, k] for k in range(4))
        if np.isnan(floor).any() or not np.isfinite(table[:, :, 1:]).all():
            raise NotFiniteError("table must be finite, infinite floors excepted")
        if (floor < 0.0).any() or (rate < 0.0).any() or (initial < 0.0).any():
            raise RangeError("floors and rates of the table must be at least 0")
        lines, steps = aligned((columns, 2, width)), aligned((columns, 2, width))
        lines[assets:, 0, :given[1]], lines[assets:, 1, :given[1]] = rate[assets:], amount[assets:]
        steps[:, 0] = np.inf
        steps[assets:, 0, :given[1]], steps[assets:, 1, :given[1]] = floor[assets:], initial[assets:]
        self.memory[f"tables {len(self.memory)}"] = lines, steps
        tiers.line = <const double*>cnp.PyArray_DATA(lines)
        tiers.step = <const double*>cnp.PyArray_DATA(steps)
        tiers.width = width
        tiers.on_entry = on_entry != 0.0
        return 0
