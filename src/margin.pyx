"""Collateral, requirement and status of rows: check one, what-if one, check a range.

One row of 10 positions and 16 scenarios reads 10 slots, 10 cache lines of columns and 10 x 128 bytes of risk, and
does 160 multiply-adds: about 50 ns.  A plan is a short array of stages; a stage is a C function that turns a row into
an amount.  Nothing here allocates, and the sum over a row's slots is always taken in slot order.
"""

from libc.math cimport fabs, isfinite
from libc.string cimport memcpy

cimport cython
cimport numpy as cnp

import numpy as np

from margincore.errors import CapacityError, RangeError, ShapeError

from margincore.kernels.book cimport (
    ROW_SLOTS_MAX, Book, book_t, book_view, row_deposit, row_trade,
)
from margincore.kernels.types cimport (
    MC_ECAPACITY, MC_ECOLUMN, MC_EFINITE, MC_ERANGE, MC_EROW, MC_HEALTHY, MC_LIQUIDATION, MC_MARGIN_CALL,
    MC_OK, MC_OPTION, MC_UNKNOWN, int32_t, int64_t, mc_amount, mc_asset, mc_column, mc_market, mc_result, mc_row,
    uint8_t,
)

cnp.import_array()

cdef enum:
    LANES = 8              # risk rows are padded to a multiple; one AVX-512 register of doubles (range wants a literal 8)


# ---- equity -----------------------------------------------------------------------------------------------------

cdef double row_equity(const mc_row* row, const mc_market* market, double* asset_equity) noexcept nogil:
    # Settlement-asset equity: balance + sum of quantity * value - entry (options are paid up front: no entry).
    # Base equity: each asset's equity at its spot, haircut on what is positive; a debt is never made smaller.
    cdef int32_t i, column
    cdef double equity = 0.0, amount
    cdef const mc_column* c
    for i in range(row.count):
        column = row.instrument[i]
        if column < market.assets:
            asset_equity[column] = row.quantity[i]
    for i in range(row.count):
        column = row.instrument[i]
        if column >= market.assets:
            c = &market.column[column]
            amount = row.quantity[i] * c.value
            if c.kind != MC_OPTION:
                amount -= row.entry[i]
            asset_equity[c.settle] += amount
    for i in range(row.count):
        column = row.instrument[i]
        if column < market.assets:
            amount = asset_equity[column]
            if amount != 0.0:           # an empty balance needs no price; NaN passes this test
                equity += amount * market.asset[column].spot * (market.asset[column].kept if amount > 0.0 else 1.0)
    return equity


# ---- stages -----------------------------------------------------------------------------------------------------

cdef inline void scale_in(double* total, const double* risk, double quantity, int32_t stride,
                          int fresh) noexcept nogil:
    cdef int32_t s, j
    if fresh:
        for s in range(0, stride, 8):
            for j in range(LANES):
                total[s + j] = quantity * risk[s + j]
    else:
        for s in range(0, stride, 8):
            for j in range(LANES):
                total[s + j] += quantity * risk[s + j]


cdef inline void worse_side_in(double* total, const double* risk, double buy, double sell, int32_t stride,
                               int fresh) noexcept nogil:
    # per scenario the worst of: nothing fills, all buys fill, all sells fill
    cdef int32_t s
    cdef double bought, sold, worst
    for s in range(stride):
        bought = buy * risk[s]
        sold = -(sell * risk[s])
        worst = bought if bought < 0.0 else 0.0
        worst = sold if sold < worst else worst
        total[s] = worst if fresh else total[s] + worst


cdef inline void group_into_set(double* whole, const double* group, double gain_kept, int32_t stride,
                                int fresh) noexcept nogil:
    cdef int32_t s, j
    cdef double x
    for s in range(0, stride, 8):
        for j in range(LANES):
            x = group[s + j]
            x = x if x < 0.0 else gain_kept * x
            whole[s + j] = x if fresh else whole[s + j] + x


cdef inline double worst_loss(const double* pnl, int32_t stride) noexcept nogil:
    # Largest loss, at least zero: the padding is a scenario without move.  Risk of a live column is finite.
    cdef double lane[LANES]
    cdef int32_t s, j
    cdef double least = 0.0
    for j in range(LANES):
        lane[j] = 0.0
    for s in range(0, stride, 8):
        for j in range(LANES):
            lane[j] = pnl[s + j] if pnl[s + j] < lane[j] else lane[j]
    for j in range(LANES):
        least = lane[j] if lane[j] < least else least
    return -least


cdef inline double held(const mc_row* row, const mc_market* market, int32_t i) noexcept nogil:
    # what scenarios move: contracts, or the whole equity in a shocked asset
    cdef int32_t column = row.instrument[i]
    if column < market.assets:
        return row.asset_equity[column]
    return row.quantity[i]


cdef inline int idle(const mc_row* row, const mc_market* market, int32_t i) noexcept nogil:
    cdef int32_t column = row.instrument[i]
    return column < market.assets and not market.asset[column].shocked


cdef void scan_stage(const mc_row* row, const mc_market* market, const void* parameters,
                     mc_amount* amount) noexcept nogil:
    # Sum over offset sets of max(worst scenario loss of the set, floors of its short options).
    cdef const scan_t* p = <const scan_t*>parameters
    cdef double group[SCENARIOS_MAX]
    cdef double whole[SCENARIOS_MAX]
    cdef double group_orders[SCENARIOS_MAX]
    cdef double whole_orders[SCENARIOS_MAX]
    cdef int32_t stride = market.stride, i = 0, set_now, group_now, first_of_set, orders
    cdef double total = 0.0, total_orders = 0.0, floor, floor_orders, loss, loss_orders, short
    cdef int fresh
    cdef const mc_column* c
    cdef const double* risk
    orders = row.order_buy != NULL
    while i < row.count:
        if idle(row, market, i):
            i += 1
            continue
        set_now = market.column[row.instrument[i]].set
        floor = floor_orders = 0.0
        first_of_set = 1
        while i < row.count and market.column[row.instrument[i]].set == set_now:
            if idle(row, market, i):
                i += 1
                continue
            group_now = market.column[row.instrument[i]].group
            fresh = 1
            while i < row.count:
                c = &market.column[row.instrument[i]]
                if c.set != set_now or c.group != group_now:
                    break
                if idle(row, market, i):
                    i += 1
                    continue
                risk = market.risk + <int64_t>row.instrument[i] * stride
                scale_in(group, risk, held(row, market, i), stride, fresh)
                if orders:
                    worse_side_in(group_orders, risk, row.order_buy[i], row.order_sell[i], stride, fresh)
                    short = row.quantity[i] - row.order_sell[i]
                    floor_orders += -short * c.floor_short if short < 0.0 else 0.0
                if p.floors:
                    floor += -row.quantity[i] * c.floor_short if row.quantity[i] < 0.0 else 0.0
                fresh = 0
                i += 1
            if orders:
                scale_in(group_orders, group, 1.0, stride, 0)
                group_into_set(whole_orders, group_orders, p.gain_kept, stride, first_of_set)
            group_into_set(whole, group, p.gain_kept, stride, first_of_set)
            first_of_set = 0
        loss = worst_loss(whole, stride)
        total += loss if loss > floor else floor
        if orders:
            loss_orders = worst_loss(whole_orders, stride)
            floor_orders = floor_orders if p.floors else 0.0
            total_orders += loss_orders if loss_orders > floor_orders else floor_orders
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    amount.orders = p.initial_ratio * total_orders - amount.initial if orders else 0.0


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
        elif q < 0.0:
            total += -q * c.charge_short
        if row.order_buy != NULL:
            after = q - row.order_sell[i]
            if p.any_side:
                q = q + row.order_buy[i]
                total_orders += (fabs(q) if fabs(q) > fabs(after) else fabs(after)) * c.charge_any
            elif after < 0.0:
                total_orders += -after * c.charge_short
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    amount.orders = p.initial_ratio * total_orders - amount.initial if row.order_buy != NULL else 0.0


cdef inline double tier_margin(const double* line, int32_t tiers, double notional, double initial_rate,
                               double* initial) noexcept nogil:
    # max over lines of rate * notional - amount: rates rise and the lines meet at the floors, so the largest applies
    cdef double most = 0.0, rate = initial_rate, x
    cdef int32_t k
    for k in range(tiers):
        x = line[4 * k + 1] * notional - line[4 * k + 2]
        most = x if x > most else most
        x = line[4 * k + 3]
        rate = x if notional >= line[4 * k] and x > rate else rate
    initial[0] = rate * notional
    return most


cdef void tiers_stage(const mc_row* row, const mc_market* market, const void* parameters,
                      mc_amount* amount) noexcept nogil:
    cdef const tiers_t* p = <const tiers_t*>parameters
    cdef double maintenance = 0.0, initial = 0.0, orders = 0.0, notional, spot, this_initial, other_initial, q, long_side
    cdef double short_side
    cdef int32_t i
    cdef const mc_column* c
    cdef const double* line
    for i in range(row.count):
        if row.instrument[i] < market.assets:
            continue
        c = &market.column[row.instrument[i]]
        line = p.line + <int64_t>row.instrument[i] * p.tiers * 4
        spot = market.asset[c.settle].spot
        q = row.quantity[i]
        if c.kind == MC_OPTION and q > 0.0:       # a paid option can lose no more than its value
            q = 0.0
        notional = fabs(row.entry[i]) if p.on_entry and c.kind != MC_OPTION else fabs(q) * c.notional
        maintenance += spot * tier_margin(line, p.tiers, notional, row.initial_rate, &this_initial)
        initial += spot * this_initial
        if row.order_buy != NULL and (row.order_buy[i] != 0.0 or row.order_sell[i] != 0.0):
            long_side = fabs(row.quantity[i] + row.order_buy[i])
            short_side = fabs(row.quantity[i] - row.order_sell[i])
            if c.kind == MC_OPTION:
                short_side = row.order_sell[i] - row.quantity[i]
                q = short_side if short_side > 0.0 else 0.0
            else:
                q = long_side if long_side > short_side else short_side
            tier_margin(line, p.tiers, q * c.notional, row.initial_rate, &other_initial)
            if other_initial > this_initial:
                orders += spot * (other_initial - this_initial)
    amount.maintenance = maintenance
    amount.initial = initial
    amount.orders = orders


# ---- one row ----------------------------------------------------------------------------------------------------

cdef int only_cash(const mc_row* row, const mc_market* market) noexcept nogil:
    # nothing at risk: an empty account is healthy though its equity, zero, is not above its maintenance, zero
    cdef int32_t i
    for i in range(row.count):
        if row.instrument[i] >= market.assets:
            return 0
    return 1


cdef void margin_row(const engine_t* engine, mc_row* row, mc_result* out, mc_amount* parts) noexcept nogil:
    # parts: one amount per stage.  The totals are the parts added in stage order, then the orders of all stages.
    cdef double asset_equity[ASSETS_MAX]
    cdef double maintenance = 0.0, initial = 0.0, orders = 0.0
    cdef int32_t k
    row.asset_equity = asset_equity
    out.equity = row_equity(row, &engine.market, asset_equity)
    for k in range(engine.plan.stages):
        engine.plan.stage[k](row, &engine.market, engine.plan.parameters[k], &parts[k])
        maintenance += parts[k].maintenance
        initial += parts[k].initial
        orders += parts[k].orders
    initial += orders
    if initial < maintenance:              # a plan may never let an account open what it would liquidate
        initial = maintenance
    out.maintenance = maintenance
    out.initial = initial
    if not (isfinite(out.equity) and isfinite(maintenance) and isfinite(initial)):
        out.status = MC_UNKNOWN
    elif out.equity >= initial and (out.equity > maintenance or only_cash(row, &engine.market)):
        out.status = MC_HEALTHY
    elif out.equity > maintenance:
        out.status = MC_MARGIN_CALL
    else:
        out.status = MC_LIQUIDATION


cdef int margin_check(const engine_t* engine, int64_t row, mc_result* out) noexcept nogil:
    cdef mc_row view
    cdef mc_amount parts[STAGES_MAX]
    cdef int code = book_view(engine.book, row, &view)
    if code == MC_OK:
        margin_row(engine, &view, out, parts)
    return code


cdef struct scratch_t:
    int32_t instrument[ROW_SLOTS_MAX + 2]
    double quantity[ROW_SLOTS_MAX + 2]
    double entry[ROW_SLOTS_MAX + 2]
    double order_buy[ROW_SLOTS_MAX + 2]
    double order_sell[ROW_SLOTS_MAX + 2]


cdef void row_copy(const mc_row* row, scratch_t* scratch, mc_row* copy) noexcept nogil:
    cdef size_t slots = <size_t>row.count
    copy[0] = row[0]
    copy.instrument = scratch.instrument
    copy.quantity = scratch.quantity
    copy.entry = scratch.entry
    memcpy(scratch.instrument, row.instrument, slots * sizeof(int32_t))
    memcpy(scratch.quantity, row.quantity, slots * sizeof(double))
    memcpy(scratch.entry, row.entry, slots * sizeof(double))
    if row.order_buy != NULL:
        copy.order_buy = scratch.order_buy
        copy.order_sell = scratch.order_sell
        memcpy(scratch.order_buy, row.order_buy, slots * sizeof(double))
        memcpy(scratch.order_sell, row.order_sell, slots * sizeof(double))
    copy.capacity = ROW_SLOTS_MAX + 2


cdef int apply(const book_t* book, mc_row* row, int32_t column, double quantity, double price,
               double fee) noexcept nogil:
    # one trade, or in a cash column one deposit, on a scratch row: the same functions that write the book
    if not 0 <= column < book.columns or book.retired[column]:
        return MC_ECOLUMN
    if not (isfinite(quantity) and isfinite(price) and isfinite(fee)):
        return MC_EFINITE
    if column < book.assets:
        return row_deposit(book, row, column, quantity)
    if quantity == 0.0 or fabs(quantity) > 1e15 or fabs(fee) > 1e15 or price < 0.0 or price > 1e15:
        return MC_ERANGE
    if price == 0.0 and book.kind[column] != MC_OPTION:
        return MC_ERANGE
    if row.count + 2 > ROW_SLOTS_MAX + 2:
        return MC_ECAPACITY
    return row_trade(book, row, column, quantity, price, fee)


cdef int margin_what_if(const engine_t* engine, int64_t row, int32_t column, double quantity, double price,
                        double fee, mc_result* out) noexcept nogil:
    # The row is copied, traded and checked by the very functions of trade and check: equal to the last bit.
    cdef mc_row view, copy
    cdef scratch_t scratch
    cdef mc_amount parts[STAGES_MAX]
    cdef int code = book_view(engine.book, row, &view)
    if code != MC_OK:
        return code
    row_copy(&view, &scratch, &copy)
    code = apply(engine.book, &copy, column, quantity, price, fee)
    if code == MC_OK:
        margin_row(engine, &copy, out, parts)
    return code


# ---- many rows --------------------------------------------------------------------------------------------------

cdef void check_rows(const engine_t* engine, int64_t first, int64_t last, double* equity, double* initial,
                     double* maintenance, uint8_t* status) noexcept nogil:
    cdef int64_t row
    cdef mc_result result
    for row in range(first, last):
        if margin_check(engine, row, &result) != MC_OK:
            result.equity = result.initial = result.maintenance = 0.0
            result.status = MC_UNKNOWN
        if equity != NULL:
            equity[row - first] = result.equity
            initial[row - first] = result.initial
            maintenance[row - first] = result.maintenance
        status[row - first] = <uint8_t>result.status


cdef void status_repeat(const engine_t* engine, int64_t row, int64_t times, mc_result* out) noexcept nogil:
    cdef int64_t _time
    for _time in range(times):
        margin_check(engine, row, out)


cdef double* out_floats(object array, object name, int64_t rows) except? NULL:
    if array is None:
        return NULL
    if not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.shape != (rows,) \
            or not array.flags.c_contiguous or not array.flags.writeable:
        raise ShapeError(f"{name} must be a writable contiguous float64 array of shape ({rows},)")
    return <double*>cnp.PyArray_DATA(<cnp.ndarray>array)


STAGES = ("scan", "short charge", "closing charge", "tiers")


@cython.final
cdef class MarginBook(Book):
    """A book that knows the market and the margin plan: status, what-if and table of its rows.

    The plan is set once (`set_plan`), the market on every tick (`set_market`); both replace what was there.
    """

    def __init__(self, *args):
        Book.__init__(self, *args)
        self.e.book = &self.c
        self.parameters = {}
        self.stage_names = ()
        self.forget_market()

    def forget_market(self):
        """Mark every price unknown, as before the first tick: accounts with positions are UNKNOWN."""
        columns, assets = self.c.columns, self.c.assets
        if assets > ASSETS_MAX:
            raise CapacityError(f"assets must be at most {ASSETS_MAX}, were {assets}")
        self._allot(columns, assets, LANES, 1)
        cdef int32_t c
        cdef mc_column* column = <mc_column*>self.e.market.column
        cdef mc_asset* asset = <mc_asset*>self.e.market.asset
        for c in range(columns):
            column[c].value = column[c].notional = np.nan
            column[c].settle = self.c.settle[c]
            column[c].kind = self.c.kind[c]
        for c in range(assets):
            asset[c].spot = np.nan
            asset[c].kept = 1.0

    def _allot(self, int32_t columns, int32_t assets, int32_t stride, int32_t scenarios):
        hold = self.arrays
        if "risk" not in hold or hold["risk"].shape != (columns, stride) or hold["asset"].size != assets * sizeof(mc_asset):
            hold["column"] = np.zeros(columns * sizeof(mc_column), np.uint8)
            hold["asset"] = np.zeros(assets * sizeof(mc_asset), np.uint8)
            hold["risk"] = np.zeros((columns, stride))
        self.e.market.column = <mc_column*>cnp.PyArray_DATA(hold["column"])
        self.e.market.asset = <mc_asset*>cnp.PyArray_DATA(hold["asset"])
        self.e.market.risk = <double*>cnp.PyArray_DATA(hold["risk"])
        self.e.market.columns = columns
        self.e.market.assets = assets
        self.e.market.stride = stride
        self.e.market.scenarios = scenarios

    def set_plan(self, stages):
        """Set the stages, a sequence of (code, name, parameters, table).

        `code` is a name of `STAGES`, `parameters` a sequence of floats, `table` a float64 array or None:
        scan (maintenance ratio, initial ratio, gain kept, floors 0/1); short charge and closing charge (maintenance
        ratio, initial ratio); tiers (on entry 0/1) with a table of shape (columns, tiers, 4).
        """
        if not 0 < len(stages) <= STAGES_MAX:
            raise CapacityError(f"a plan must have 1 to {STAGES_MAX} stages, had {len(stages)}")
        cdef scan_t* scan
        cdef charge_t* charge
        cdef tiers_t* tiers
        cdef cnp.ndarray memory
        hold, names = {}, []
        for k, (code, name, numbers, table) in enumerate(stages):
            if code not in STAGES:
                raise RangeError(f"stage must be one of {', '.join(STAGES)}, was {code!r}")
            memory = np.zeros(sizeof(scan_t) + sizeof(tiers_t), np.uint8)
            hold[f"stage {k}"] = memory
            if code == "scan":
                scan = <scan_t*>cnp.PyArray_DATA(memory)
                scan.maintenance_ratio, scan.initial_ratio, scan.gain_kept = numbers[:3]
                scan.floors = bool(numbers[3])
                self.e.plan.stage[k] = scan_stage
            elif code == "tiers":
                table = np.array(table, np.float64)
                if table.ndim != 3 or table.shape[0] != self.c.columns or table.shape[2] != 4:
                    raise ShapeError(f"table must have shape ({self.c.columns}, tiers, 4), had {table.shape}")
                hold[f"table {k}"] = table
                tiers = <tiers_t*>cnp.PyArray_DATA(memory)
                tiers.line = <const double*>cnp.PyArray_DATA(<cnp.ndarray>table)
                tiers.tiers = table.shape[1]
                tiers.on_entry = bool(numbers[0])
                self.e.plan.stage[k] = tiers_stage
            else:
                charge = <charge_t*>cnp.PyArray_DATA(memory)
                charge.maintenance_ratio, charge.initial_ratio = numbers
                charge.any_side = code == "closing charge"
                self.e.plan.stage[k] = charge_stage
            self.e.plan.parameters[k] = cnp.PyArray_DATA(memory)
            names.append(name)
        self.e.plan.stages = len(names)
        self.stage_names = tuple(names)
        self.parameters = hold

    def set_market(self, value, spot, kept, shocked, risk, group, offset_set, notional, charge_short, charge_any,
                   floor_short):
        """Take one tick: float64 arrays over the columns, over the assets (spot, kept, shocked), and the risk table.

        risk : float64, shape (columns, scenarios), base currency per contract.  A column whose risk is not finite
        becomes unknown, and with it every account that holds it.
        """
        columns, assets = self.c.columns, self.c.assets
        table = {"value": value, "group": group, "offset_set": offset_set, "notional": notional,
                 "charge_short": charge_short, "charge_any": charge_any, "floor_short": floor_short}
        for name, array in table.items():
            if np.shape(array) != (columns,):
                raise ShapeError(f"{name} must have shape ({columns},), had {np.shape(array)}")
        for name, array in (("spot", spot), ("kept", kept), ("shocked", shocked)):
            if np.shape(array) != (assets,):
                raise ShapeError(f"{name} must have shape ({assets},), had {np.shape(array)}")
        if np.ndim(risk) != 2 or np.shape(risk)[0] != columns or not 1 <= np.shape(risk)[1] <= SCENARIOS_MAX:
            raise ShapeError(f"risk must have shape ({columns}, 1 to {SCENARIOS_MAX}), had {np.shape(risk)}")
        self._fill(
            *[np.ascontiguousarray(array, np.float64) for array in
              (value, notional, charge_short, charge_any, floor_short, spot, kept, risk)],
            *[np.ascontiguousarray(array, np.int32) for array in (group, offset_set, shocked)],
        )

    def _fill(self, const double[::1] value, const double[::1] notional, const double[::1] charge_short,
              const double[::1] charge_any, const double[::1] floor_short, const double[::1] spot,
              const double[::1] kept, const double[:, ::1] risk, const int32_t[::1] group,
              const int32_t[::1] offset_set, const int32_t[::1] shocked):
        cdef int32_t columns = self.c.columns, assets = self.c.assets, c, s, scenarios = <int32_t>risk.shape[1]
        cdef int32_t stride = (scenarios + LANES - 1) // LANES * LANES
        cdef mc_column* column
        cdef mc_asset* asset
        cdef double* to
        cdef double sum_of_zeros
        with cython.critical_section(self):
            self._allot(columns, assets, stride, scenarios)
            column = <mc_column*>self.e.market.column
            asset = <mc_asset*>self.e.market.asset
            with nogil:
                for c in range(assets):
                    asset[c].spot = spot[c]
                    asset[c].kept = kept[c]
                    asset[c].shocked = shocked[c]
                for c in range(columns):
                    column[c].value = value[c]
                    column[c].notional = notional[c]
                    column[c].charge_short = charge_short[c]
                    column[c].charge_any = charge_any[c]
                    column[c].floor_short = floor_short[c]
                    column[c].settle = self.c.settle[c]
                    column[c].kind = self.c.kind[c]
                    column[c].group = group[c]
                    column[c].set = offset_set[c]
                    to = <double*>self.e.market.risk + <int64_t>c * stride
                    sum_of_zeros = 0.0
                    for s in range(scenarios):
                        to[s] = risk[c, s]
                        sum_of_zeros += risk[c, s] * 0.0        # NaN when any is not finite
                    for s in range(scenarios, stride):
                        to[s] = 0.0
                    if sum_of_zeros != 0.0:
                        column[c].value = sum_of_zeros
                        if c < assets and asset[c].shocked:
                            asset[c].spot = sum_of_zeros

    # ---- answers

    def status(self, int64_t row):
        """Status code of a row: 3 HEALTHY, 2 MARGIN_CALL, 1 LIQUIDATION, 0 UNKNOWN."""
        cdef mc_result result
        if margin_check(&self.e, row, &result) != MC_OK:
            self.fail(MC_EROW, row, -1)
        return result.status

    def check(self, int64_t row):
        """Equity, initial and maintenance margin in base currency, and status of a row."""
        cdef mc_result result
        if margin_check(&self.e, row, &result) != MC_OK:
            self.fail(MC_EROW, row, -1)
        return result.equity, result.initial, result.maintenance, result.status

    def what_if(self, int64_t row, int32_t column, double quantity, double price, double fee=0.0):
        """Status code after a trade of `quantity` contracts at `price`; nothing is written."""
        cdef mc_result result
        cdef int code = margin_what_if(&self.e, row, column, quantity, price, fee, &result)
        if code != MC_OK:
            self.fail(code, row, column)
        return result.status

    def what_if_many(self, int64_t row, const int32_t[::1] column not None, const double[::1] quantity not None,
                     const double[::1] price not None):
        """Equity, initial, maintenance, status, and (maintenance, initial, orders) per stage after several trades.

        A cash column takes a deposit of `quantity`.  Nothing is written.
        """
        cdef mc_row view, copy
        cdef scratch_t scratch
        cdef mc_amount parts[STAGES_MAX]
        cdef mc_result result
        cdef Py_ssize_t i
        cdef int code = book_view(&self.c, row, &view)
        if code != MC_OK:
            self.fail(code, row, -1)
        if column.shape[0] != quantity.shape[0] or column.shape[0] != price.shape[0]:
            raise ShapeError("column, quantity and price must have the same length")
        row_copy(&view, &scratch, &copy)
        for i in range(column.shape[0]):
            code = apply(&self.c, &copy, column[i], quantity[i], price[i], 0.0)
            if code != MC_OK:
                self.fail(code, row, column[i])
        margin_row(&self.e, &copy, &result, parts)
        amounts = tuple((parts[k].maintenance, parts[k].initial, parts[k].orders) for k in range(self.e.plan.stages))
        return result.equity, result.initial, result.maintenance, result.status, amounts

    def check_range(self, int64_t first, int64_t last, cnp.ndarray status not None, equity=None, initial=None,
                    maintenance=None):
        """Check rows ``first .. last - 1`` without the interpreter lock, into arrays of that length.

        status : uint8.  equity, initial, maintenance : float64, all or none.  Rows that are not open are UNKNOWN
        with zeros.  Threads may share a book over disjoint ranges while nobody writes it.
        """
        if not 0 <= first <= last <= self.c.rows_used:
            raise RangeError(f"first and last must satisfy 0 <= first <= last <= {self.c.rows_used}, were {first}, {last}")
        rows = last - first
        if status.dtype != np.uint8 or status.ndim != 1 or status.shape[0] != rows or not status.flags.c_contiguous:
            raise ShapeError(f"status must be a contiguous uint8 array of shape ({rows},)")
        if not status.flags.writeable:
            raise ShapeError("status must be writable")
        cdef double* e = out_floats(equity, "equity", rows)
        cdef double* i = out_floats(initial, "initial", rows)
        cdef double* m = out_floats(maintenance, "maintenance", rows)
        if (e == NULL) != (i == NULL) or (e == NULL) != (m == NULL):
            raise ShapeError("equity, initial and maintenance must be given together")
        cdef uint8_t* s = <uint8_t*>cnp.PyArray_DATA(status)
        with nogil:
            check_rows(&self.e, first, last, e, i, m, s)

    def repeat(self, int64_t row, int64_t times):
        """Check one row `times` times in a C loop: what a check costs without the interpreter."""
        cdef mc_result result
        result.status = MC_UNKNOWN
        with nogil:
            status_repeat(&self.e, row, times, &result)
        return result.status

    # ---- explanation

    @property
    def stages(self):
        """Names of the stages of the plan, in the order of their sum."""
        return self.stage_names

    def parts(self, int64_t row):
        """(maintenance, initial, orders) of each stage; the totals are these, added in this order, orders last."""
        empty = np.zeros(0)
        return self.what_if_many(row, empty.astype(np.int32), empty, empty)[4]

    def explain(self, int64_t row, const int32_t[::1] column not None, const double[::1] quantity not None,
                const double[::1] price not None):
        """What scenarios move, after several trades that are not written (arguments as in `what_if_many`).

        Returns instrument int32 and quantity float64, shape (slots with risk,), in row order, and the equity per asset in
        units of the asset, float64, shape (assets,).
        """
        cdef mc_row view, copy
        cdef scratch_t scratch
        cdef cnp.ndarray equity = np.zeros(self.c.assets)
        cdef Py_ssize_t i
        cdef int32_t k
        cdef int code = book_view(&self.c, row, &view)
        if code != MC_OK:
            self.fail(code, row, -1)
        if column.shape[0] != quantity.shape[0] or column.shape[0] != price.shape[0]:
            raise ShapeError("column, quantity and price must have the same length")
        row_copy(&view, &scratch, &copy)
        for i in range(column.shape[0]):
            code = apply(&self.c, &copy, column[i], quantity[i], price[i], 0.0)
            if code != MC_OK:
                self.fail(code, row, column[i])
        row_equity(&copy, &self.e.market, <double*>cnp.PyArray_DATA(equity))
        copy.asset_equity = <double*>cnp.PyArray_DATA(equity)
        pairs = [(copy.instrument[k], held(&copy, &self.e.market, k)) for k in range(copy.count)
                 if not idle(&copy, &self.e.market, k)]
        return np.array([p[0] for p in pairs], np.int32), np.array([p[1] for p in pairs], np.float64), equity

    def risk_of(self, int32_t column):
        """Copy of the risk of one column: base currency per contract, float64, shape (scenarios,)."""
        if not 0 <= column < self.c.columns:
            self.fail(MC_ECOLUMN, -1, column)
        return self.arrays["risk"][column, :self.e.market.scenarios].copy()
