"""Collateral, requirement and status of rows: check one, what-if one, check a range.

One row of 10 positions and 16 scenarios reads 11 slots, 11 cache lines of columns and 10 x 128 bytes of risk, and
does 160 multiply-adds: about 50 ns.  A plan is a short array of stages; a stage is a C function that turns a row into
an amount.  Nothing here allocates, and the sum over a row's slots is always taken in slot order.
"""

from libc.math cimport fabs, isfinite, NAN

cimport cython
cimport numpy as cnp

import numpy as np

from margincore.errors import CapacityError, RangeError, ShapeError

from margincore.kernels.book cimport Book, book_array
from margincore.kernels.row cimport (
    ROW_SLOTS_MAX, book_room, book_t, book_view, counted_worth, row_deposit, row_lacks, row_trade, trade_allowed,
)
from margincore.kernels.quick cimport quick_scan, quick_tiers, tiers_pass
from margincore.kernels.shortfall cimport SCENARIOS_MAX
from margincore.kernels.stage cimport (
    PLAN_ANY, PLAN_SCAN, PLAN_TIERS, STAGES_MAX, Plan, aligned, row_scanned, scan_t, tiers_t,
)
from margincore.kernels.types cimport (
    MC_ECAPACITY, MC_ECOLUMN, MC_EFINITE, MC_EROW, MC_HEALTHY, MC_LIQUIDATION, MC_MARGIN_CALL, MC_OK,
    MC_OPTION, MC_UNKNOWN, int32_t, int64_t, mc_amount, mc_asset, mc_column, mc_market, mc_result, mc_row,
    uint8_t, uint64_t,
)

cnp.import_array()

cdef extern from "lanes.h" nogil:
    int lowest_bit(uint64_t bits)
    void slots_ahead(const int32_t* instrument, const double* quantity, const double* entry)

cdef enum:
    LANES = 8              # risk rows are padded to a multiple

# Beyond it a price or risk is a fault of the feed; products with quantities stay finite below it.
cdef double MARKET_MAX = 1e100


# ---- equity -----------------------------------------------------------------------------------------------------

cdef inline uint64_t run_into(double* asset_equity, uint64_t seen, int32_t asset, double sum) noexcept nogil:
    cdef uint64_t bit = <uint64_t>1 << asset
    asset_equity[asset] = asset_equity[asset] + sum if seen & bit else sum
    return seen | bit


cdef inline double row_equity(const mc_row* row, const mc_market* market, double* asset_equity) noexcept nogil:
    # Settlement-asset equity: balance + sum of quantity * value - entry (options are paid up front: nothing owed), summed
    # in a register while the settlement asset stays the same.
    # Base equity: what each asset's equity counts for.
    cdef int32_t i, asset = -1
    cdef uint64_t seen = 0
    cdef double equity = 0.0, sum = 0.0, amount
    cdef const mc_column* c
    for i in range(row.count):
        c = &market.column[row.instrument[i]]
        amount = row.quantity[i] * c.value - c.owed * row.entry[i]
        if c.settle != asset:
            if asset >= 0:
                seen = run_into(asset_equity, seen, asset, sum)
            asset = c.settle
            sum = 0.0
        sum += amount
    if asset >= 0:
        seen = run_into(asset_equity, seen, asset, sum)
    while seen:
        asset = lowest_bit(seen)
        seen &= seen - 1
        equity += counted_worth(&market.asset[asset], asset_equity[asset])
    return equity


# ---- one row ----------------------------------------------------------------------------------------------------

cdef int nothing_owed(const mc_row* row, const mc_market* market) noexcept nogil:
    # Balances alone, none below zero: healthy though its equity, zero, is not above its maintenance, zero.
    cdef int32_t i
    for i in range(row.count):
        if row.instrument[i] >= market.assets or not row.quantity[i] >= 0.0:
            return 0
    return 1


cdef inline int quick_row(const engine_t* engine, const mc_row* row, mc_result* out, mc_amount* total) noexcept nogil:
    if engine.plan.kind == PLAN_ANY:
        return 0
    if engine.plan.kind == PLAN_SCAN:
        return quick_scan(row, &engine.market, <const scan_t*>engine.plan.parameters[0], &out.equity, total)
    return quick_tiers(row, &engine.market, <const tiers_t*>engine.plan.parameters[0], &out.equity, total)


cdef void general_row(const engine_t* engine, mc_row* row, mc_result* out, mc_amount* parts,
                      mc_amount* total) noexcept nogil:
    # parts: one amount per stage; the total adds them in stage order.
    cdef double asset_equity[ASSETS_MAX]
    cdef int32_t k
    row.asset_equity = asset_equity
    out.equity = row_equity(row, &engine.market, asset_equity)
    total.maintenance = total.initial = total.orders = 0.0
    for k in range(engine.plan.stages):
        engine.plan.stage[k](row, &engine.market, engine.plan.parameters[k], &parts[k])
        total.maintenance += parts[k].maintenance
        total.initial += parts[k].initial
        total.orders += parts[k].orders


cdef inline int32_t status_of(double equity, double initial, double maintenance) noexcept nogil:
    # HEALTHY, MARGIN_CALL, LIQUIDATION are 3, 2, 1: sums of comparisons, since no jump guesses what accounts are worth
    return MC_LIQUIDATION + (equity > maintenance) + ((equity > maintenance) & (equity >= initial))


cdef inline void margin_row(const engine_t* engine, mc_row* row, mc_result* out, mc_amount* parts) noexcept nogil:
    # The requirement is the parts added in stage order, then the orders of all stages.
    # With row.maintenance_only, initial margin is not asked for, and MARGIN_CALL means above maintenance.
    cdef double maintenance, initial
    cdef mc_amount total
    if quick_row(engine, row, out, &total):
        parts[0] = total
    else:
        general_row(engine, row, out, parts, &total)
    maintenance = total.maintenance
    initial = total.initial + total.orders
    initial = maintenance if initial < maintenance else initial   # no plan may let one open what it would liquidate
    out.status = status_of(out.equity, initial, maintenance)
    if not (isfinite(out.equity) and isfinite(maintenance) and isfinite(initial)) or engine.plan.stages == 0:
        maintenance = initial = NAN        # a requirement that leaves out what has no price is no requirement
        out.status = MC_UNKNOWN
    elif out.equity == maintenance and out.equity >= initial and nothing_owed(row, &engine.market):
        out.status = MC_HEALTHY
    out.maintenance = maintenance
    out.initial = initial


cdef int margin_check(const engine_t* engine, int64_t row, mc_result* out) noexcept nogil:
    cdef mc_row view
    cdef mc_amount parts[STAGES_MAX]
    cdef int code = book_view(engine.book, row, &view)
    if code == MC_OK:
        margin_row(engine, &view, out, parts)
    return code


# ---- what if ----------------------------------------------------------------------------------------------------

cdef inline void row_copy(const mc_row* row, scratch_t* scratch, mc_row* copy) noexcept nogil:
    cdef int32_t i
    copy[0] = row[0]
    copy.instrument = scratch.instrument
    copy.quantity = scratch.quantity
    copy.entry = scratch.entry
    for i in range(row.count):
        scratch.instrument[i] = row.instrument[i]
        scratch.quantity[i] = row.quantity[i]
        scratch.entry[i] = row.entry[i]
    if row.order_buy != NULL:
        copy.order_buy = scratch.order_buy
        copy.order_sell = scratch.order_sell
        for i in range(row.count):
            scratch.order_buy[i] = row.order_buy[i]
            scratch.order_sell[i] = row.order_sell[i]
    copy.capacity = ROW_SLOTS_MAX


cdef int apply(const book_t* book, mc_row* row, int32_t column, double quantity, double price,
               double fee) noexcept nogil:
    # one trade, or in a cash column one deposit, on a scratch row: the same functions that write the book
    cdef int code
    if not 0 <= column < book.columns:
        return MC_ECOLUMN
    if column < book.assets:
        if not isfinite(quantity):
            return MC_EFINITE
    else:
        code = trade_allowed(book, column, quantity, price, fee)
        if code != MC_OK:
            return code
    if row.count + row_lacks(book, row, column) > row.capacity:
        return MC_ECAPACITY
    if column < book.assets:
        return row_deposit(book, row, column, quantity)
    return row_trade(book, row, column, quantity, price, fee)


cdef double margin_equity(const mc_row* row, const mc_market* market, double* asset_equity) noexcept nogil:
    return row_equity(row, market, asset_equity)


cdef int margin_imagine(const engine_t* engine, int64_t row, int32_t column, double quantity, double price, double fee,
                        scratch_t* scratch, mc_row* copy) noexcept nogil:
    # The row is copied and traded by the very functions of a trade: equal to the last bit.
    cdef mc_row view
    cdef int32_t extra
    cdef int code = book_view(engine.book, row, &view)
    if code != MC_OK:
        return code
    row_copy(&view, scratch, copy)
    if column == -1:
        return MC_OK
    if view.count + 2 > view.capacity:      # what the book refuses for want of room is refused here
        copy.capacity = view.count
        for extra in range(1, 3):
            if book_room(engine.book, row, extra) >= 0:
                copy.capacity = view.count + extra
    return apply(engine.book, copy, column, quantity, price, fee)


cdef int margin_what_if(const engine_t* engine, int64_t row, int32_t column, double quantity, double price,
                        double fee, mc_result* out) noexcept nogil:
    cdef mc_row copy
    cdef scratch_t scratch
    cdef mc_amount parts[STAGES_MAX]
    cdef int code = MC_ECOLUMN if column < 0 else margin_imagine(
        engine, row, column, quantity, price, fee, &scratch, &copy)
    if code == MC_OK:
        margin_row(engine, &copy, out, parts)
    return code


# ---- many rows --------------------------------------------------------------------------------------------------

cdef void check_rows(const engine_t* engine, int64_t first, int64_t last, double* equity, double* initial,
                     double* maintenance, uint8_t* status) noexcept nogil:
    cdef int64_t row, slot
    cdef mc_result result
    for row in range(first, last):
        slot = engine.book.start[row]
        slots_ahead(engine.book.instrument + slot, engine.book.quantity + slot, engine.book.entry + slot)
        if margin_check(engine, row, &result) != MC_OK:
            result.equity = result.initial = result.maintenance = 0.0
            result.status = MC_UNKNOWN
        if equity != NULL:
            equity[row - first] = result.equity
            initial[row - first] = result.initial
            maintenance[row - first] = result.maintenance
        status[row - first] = <uint8_t>result.status


cdef void breach_row(const engine_t* engine, int64_t row, uint8_t* status) noexcept nogil:
    cdef mc_row view
    cdef mc_result result
    cdef mc_amount parts[STAGES_MAX]
    status[0] = MC_UNKNOWN
    if book_view(engine.book, row, &view) == MC_OK:
        view.maintenance_only = view.order_buy == NULL      # orders of unknown worth make a row UNKNOWN
        margin_row(engine, &view, &result, parts)
        status[0] = MC_MARGIN_CALL if result.status == MC_HEALTHY else <uint8_t>result.status


cdef void breach_tiers(const engine_t* engine, int64_t first, int64_t last, uint8_t* status) noexcept nogil:
    # The answer is computed, not branched on: which accounts are in breach nobody foresees.  Open orders do not count in
    # maintenance.  Local copies of what never changes, since a status may lie anywhere for all the compiler knows.
    cdef const book_t* book = engine.book
    cdef const int64_t* start = book.start
    cdef const int32_t* generation = book.generation
    cdef const int32_t* count = book.count
    cdef const int32_t* instrument = book.instrument
    cdef const double* quantity = book.quantity
    cdef const double* entry = book.entry
    cdef mc_market market = engine.market
    cdef tiers_t tiers = (<const tiers_t*>engine.plan.parameters[0])[0]
    cdef mc_amount need
    cdef double equity
    cdef int64_t row, slot
    cdef int known
    for row in range(first, last):
        slot = start[row]
        slots_ahead(instrument + slot, quantity + slot, entry + slot)
        if generation[row] & 1 and tiers_pass(instrument + slot, quantity + slot, entry + slot, count[row], 1, 0.0,
                                              &market, &tiers, &equity, &need) \
                and equity != need.maintenance:             # equal ones, a rare case, may owe nothing
            known = (equity - equity) + (need.maintenance - need.maintenance) == 0.0
            status[row - first] = <uint8_t>(known * (MC_LIQUIDATION + (equity > need.maintenance)))
        else:
            breach_row(engine, row, &status[row - first])


cdef void breach_rows(const engine_t* engine, int64_t first, int64_t last, uint8_t* status) noexcept nogil:
    cdef int64_t row, slot
    if engine.plan.kind == PLAN_TIERS:
        breach_tiers(engine, first, last, status)
        return
    for row in range(first, last):
        slot = engine.book.start[row]
        slots_ahead(engine.book.instrument + slot, engine.book.quantity + slot, engine.book.entry + slot)
        breach_row(engine, row, &status[row - first])


cdef void status_repeat(const engine_t* engine, int64_t row, int64_t times, mc_result* out) noexcept nogil:
    cdef int64_t _
    for _ in range(times):
        margin_check(engine, row, out)


cdef void* out_array(object array, str name, object dtype, int64_t rows) except NULL:
    cdef void* data = book_array(array, name, dtype, rows)
    if not array.flags.writeable:
        raise ShapeError(f"{name} must be writable")
    return data


cdef cnp.ndarray tick_array(str name, object array, object dtype, int64_t length):
    result = np.asarray(array)
    if result.dtype.kind not in "fiub" or result.shape != (length,):
        raise ShapeError(f"{name} must be numbers of shape ({length},), had {result.dtype}, shape {result.shape}")
    return np.ascontiguousarray(result, dtype)


cdef inline int usable(double x) noexcept nogil:
    return 0.0 <= x <= MARKET_MAX


cdef void column_set(mc_column* column, int known, int cash, double value, double notional, double charge_short,
                     double charge_any, double floor_short) noexcept nogil:
    # Cash is worth one unit of itself and asks for nothing by contract; what is unknown is so through its value.
    cdef int derivative = known and not cash
    column.value = 1.0 if cash else value if known else NAN
    column.notional = notional if derivative else 0.0
    column.charge_short = charge_short if derivative else 0.0
    column.charge_any = charge_any if derivative else 0.0
    column.floor_short = floor_short if derivative else 0.0


@cython.final
cdef class MarginBook(Book):
    """A book that knows the market and the margin plan: status, what-if and table of its rows.

    The plan is set once (`set_plan`), the market on every tick (`set_market`); both replace what was there.
    """

    def __cinit__(self, *args):
        self.e.book = &self.c

    def __init__(self, *args):
        Book.__init__(self, *args)

    cdef int take_columns(self, int32_t assets, rank, settle, kind, multiplier, inverse) except -1:
        # tables of the plan and prices are by column: both are gone, and until they are set again rows are UNKNOWN
        if assets > ASSETS_MAX:
            raise CapacityError(f"assets must be at most {ASSETS_MAX}, were {assets}")
        Book.take_columns(self, assets, rank, settle, kind, multiplier, inverse)
        self.e.plan.stages = 0
        self.e.plan.kind = PLAN_ANY
        self.plan = None
        self.forget_market()
        return 0

    def forget_market(self):
        """Mark every price unknown, as before the first tick: accounts with positions are UNKNOWN."""
        nothing, none = np.full(self.c.columns, np.nan), np.zeros(self.c.columns)
        self.set_market(nothing, nothing[:self.c.assets], np.ones(self.c.assets), none[:self.c.assets],
                        none.reshape(-1, 1), none, none, none, none, none, none)

    def set_plan(self, stages):
        """Set the stages of the plan, a sequence of (code, name, parameters, table): see `margincore.kernels.stage.Plan`."""
        cdef Plan plan = Plan(self.c.columns, self.c.assets, stages)
        with cython.critical_section(self):
            self.e.plan = plan.c
            self.plan = plan
            self.e.version += 1

    def set_market(self, value, spot, kept, shocked, risk, group, offset_set, notional, charge_short, charge_any,
                   floor_short):
        """Take one tick: arrays over the columns, over the assets (spot, kept, shocked), and the risk table.

        value : settlement asset per contract; notional : settlement asset per contract, at least 0; charge_short,
        charge_any, floor_short : base currency per contract, at least 0; group, offset_set : at least 0, used of
        derivatives and shocked assets.  spot : base currency per unit, above 0; kept : in [0, 1].
        risk : float64, shape (columns, scenarios), base currency per contract.
        A column with a number outside its range or not finite becomes unknown, and with it every account that holds
        it; so does an asset without a spot.
        """
        columns, assets = self.c.columns, self.c.assets
        kept = tick_array("kept", kept, np.float64, assets)
        if not ((kept >= 0.0) & (kept <= 1.0)).all():
            raise RangeError(f"kept must be in [0, 1], was {kept}")
        shocked = tick_array("shocked", shocked, np.int32, assets)
        group = tick_array("group", group, np.int32, columns)
        offset_set = tick_array("offset_set", offset_set, np.int32, columns)
        moved = np.ones(columns, bool)
        moved[:assets] = shocked != 0
        if (group[moved] < 0).any() or (offset_set[moved] < 0).any():
            raise RangeError("group and offset_set must be at least 0")
        if np.ndim(risk) != 2 or np.shape(risk)[0] != columns or not 1 <= np.shape(risk)[1] <= SCENARIOS_MAX:
            raise ShapeError(f"risk must have shape ({columns}, 1 to {SCENARIOS_MAX}), had {np.shape(risk)}")
        self._fill(
            *[tick_array(name, array, np.float64, columns) for name, array in (
                ("value", value), ("notional", notional), ("charge_short", charge_short), ("charge_any", charge_any),
                ("floor_short", floor_short))],
            tick_array("spot", spot, np.float64, assets), kept, np.ascontiguousarray(risk, np.float64), group,
            offset_set, shocked)

    def _allot(self, int32_t columns, int32_t assets, int32_t stride, int32_t scenarios):
        hold = self.arrays
        if "risk" not in hold or hold["risk"].shape != (columns, stride) or hold["asset"].size * 8 != assets * sizeof(mc_asset):
            hold["column"] = aligned((columns * sizeof(mc_column) // 8,))
            hold["asset"] = aligned((assets * sizeof(mc_asset) // 8,))
            hold["risk"] = aligned((columns, stride))
        self.e.market.column = <mc_column*>cnp.PyArray_DATA(hold["column"])
        self.e.market.asset = <mc_asset*>cnp.PyArray_DATA(hold["asset"])
        self.e.market.risk = <double*>cnp.PyArray_DATA(hold["risk"])
        self.e.market.columns = columns
        self.e.market.assets = assets
        self.e.market.stride = stride
        self.e.market.scenarios = scenarios

    def _fill(self, const double[::1] value, const double[::1] notional, const double[::1] charge_short,
              const double[::1] charge_any, const double[::1] floor_short, const double[::1] spot,
              const double[::1] kept, const double[:, ::1] risk, const int32_t[::1] group,
              const int32_t[::1] offset_set, const int32_t[::1] shocked):
        cdef int32_t columns = self.c.columns, assets = self.c.assets, c, s, scenarios = <int32_t>risk.shape[1]
        cdef int32_t stride = (scenarios + LANES - 1) // LANES * LANES
        cdef mc_column* column
        cdef mc_asset* asset
        cdef double* to
        cdef int known
        with cython.critical_section(self):
            self._allot(columns, assets, stride, scenarios)
            self.e.version += 1
            column = <mc_column*>self.e.market.column
            asset = <mc_asset*>self.e.market.asset
            with nogil:
                for c in range(columns):
                    to = <double*>self.e.market.risk + <int64_t>c * stride
                    known = 1
                    for s in range(scenarios):
                        to[s] = risk[c, s]
                        if not fabs(to[s]) <= MARKET_MAX:
                            known = 0
                    for s in range(scenarios, stride):
                        to[s] = 0.0
                    if c >= assets and not (
                            fabs(value[c]) <= MARKET_MAX and usable(notional[c]) and usable(charge_short[c])
                            and usable(charge_any[c]) and usable(floor_short[c])):
                        known = 0
                    column[c].settle = self.c.settle[c]
                    column[c].kind = self.c.kind[c]
                    column[c].owed = 0.0 if c < assets or self.c.kind[c] == MC_OPTION else 1.0
                    column[c].group = group[c]
                    column[c].set = offset_set[c] if c >= assets or shocked[c] else -1
                    if not known:
                        for s in range(scenarios):
                            to[s] = 0.0
                    known |= c < assets and not shocked[c]          # a balance that nothing moves needs no risk
                    column_set(&column[c], known, c < assets, value[c], notional[c], charge_short[c], charge_any[c],
                               floor_short[c])
                    if c < assets:
                        asset[c].spot = spot[c] if known and 0.0 < spot[c] <= MARKET_MAX else NAN
                        asset[c].kept = kept[c]
                        asset[c].shocked = shocked[c] != 0

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

    cdef int imagine(self, int64_t row, column, quantity, price, fee, int bounded, scratch_t* scratch,
                     mc_row* copy) except -1:
        # a copy of a row after trades and deposits; with `bounded`, those that the book has room for
        cdef mc_row view
        cdef int32_t most
        cdef int64_t i, trades = np.size(column)
        cdef const int32_t* c = <const int32_t*>book_array(column, "column", np.int32, trades)
        cdef const double* q = <const double*>book_array(quantity, "quantity", np.float64, trades)
        cdef const double* p = <const double*>book_array(price, "price", np.float64, trades)
        cdef const double* f = NULL if fee is None else <const double*>book_array(fee, "fee", np.float64, trades)
        cdef int code = book_view(&self.c, row, &view)
        if code != MC_OK:
            self.fail(code, row, -1)
        row_copy(&view, scratch, copy)
        most = view.count
        for i in range(trades):
            code = apply(&self.c, copy, c[i], q[i], p[i], 0.0 if f == NULL else f[i])
            if code != MC_OK:
                self.fail(code, row, c[i])
            most = copy.count if copy.count > most else most
        if bounded and book_room(&self.c, row, most - view.count) < 0:
            raise CapacityError(f"positions must stay within the {self.c.slots_max} slots of this book, row {row} "
                                f"wants {most - view.count} more")
        return 0

    def what_if_many(self, int64_t row, column, quantity, price, fee=None, bint bounded=False):
        """Equity, initial, maintenance, status, and (maintenance, initial, orders) per stage after several trades.

        column int32, quantity, price and, where trades have one, fee float64, shape (trades,).  A cash column takes a
        deposit of `quantity`.
        Nothing is written.  With `bounded`, trades for which the book has no room are refused, as they would be.
        """
        cdef mc_row copy
        cdef scratch_t scratch
        cdef mc_amount parts[STAGES_MAX]
        cdef mc_result result
        self.imagine(row, column, quantity, price, fee, bounded, &scratch, &copy)
        margin_row(&self.e, &copy, &result, parts)
        amounts = tuple((parts[k].maintenance, parts[k].initial, parts[k].orders) for k in range(self.e.plan.stages))
        return result.equity, result.initial, result.maintenance, result.status, amounts

    cdef int check_rows_exist(self, int64_t first, int64_t last) except -1:
        if not 0 <= first <= last <= self.c.rows_used:
            raise RangeError(
                f"first and last must satisfy 0 <= first <= last <= {self.c.rows_used}, were {first}, {last}")
        return 0

    def check_range(self, int64_t first, int64_t last, status, equity=None, initial=None, maintenance=None):
        """Check rows ``first .. last - 1`` without the interpreter lock, into arrays of that length.

        status : uint8.  equity, initial, maintenance : float64, all or none.  Rows that are not open are UNKNOWN
        with zeros.  Threads may share a book over disjoint ranges while nobody writes it.
        """
        self.check_rows_exist(first, last)
        cdef uint8_t* s = <uint8_t*>out_array(status, "status", np.uint8, last - first)
        cdef double* e = NULL
        cdef double* i = NULL
        cdef double* m = NULL
        if equity is not None or initial is not None or maintenance is not None:
            e = <double*>out_array(equity, "equity", np.float64, last - first)
            i = <double*>out_array(initial, "initial", np.float64, last - first)
            m = <double*>out_array(maintenance, "maintenance", np.float64, last - first)
        with nogil:
            check_rows(&self.e, first, last, e, i, m, s)

    def breached_range(self, int64_t first, int64_t last, status):
        """Hold rows ``first .. last - 1`` against maintenance alone, for the search of accounts to liquidate.

        status : uint8, shape (rows,): LIQUIDATION and UNKNOWN exactly as `check_range`, MARGIN_CALL for everything
        better, as initial margin is not looked at.
        """
        self.check_rows_exist(first, last)
        cdef uint8_t* s = <uint8_t*>out_array(status, "status", np.uint8, last - first)
        with nogil:
            breach_rows(&self.e, first, last, s)

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
        return self.plan.names if self.plan is not None else ()

    def parts(self, int64_t row):
        """(maintenance, initial, orders) of each stage.

        The totals are these, added in this order, orders last; initial margin is at least maintenance.
        """
        empty = np.zeros(0)
        return self.what_if_many(row, empty.astype(np.int32), empty, empty)[4]

    def explain(self, int64_t row, column, quantity, price):
        """What scenarios move, after several trades that are not written (arguments as in `what_if_many`).

        Returns instrument int32 and quantity float64, shape (slots with risk,), in row order, and the equity per asset
        in units of the asset, float64, shape (assets,).
        """
        cdef mc_row copy
        cdef scratch_t scratch
        cdef double held[ROW_SLOTS_MAX + 1]
        cdef int32_t slot[ROW_SLOTS_MAX + 1]
        cdef int32_t slots
        cdef cnp.ndarray equity = np.zeros(self.c.assets)
        self.imagine(row, column, quantity, price, None, 0, &scratch, &copy)
        row_equity(&copy, &self.e.market, <double*>cnp.PyArray_DATA(equity))
        copy.asset_equity = <double*>cnp.PyArray_DATA(equity)
        slots = row_scanned(&copy, &self.e.market, slot, held)
        return (np.array([copy.instrument[slot[k]] for k in range(slots)], np.int32),
                np.array([held[k] for k in range(slots)], np.float64), equity)

    def risk_of(self, int32_t column):
        """Copy of the risk of one column: base currency per contract, float64, shape (scenarios,); NaN when unknown."""
        if not 0 <= column < self.c.columns:
            self.fail(MC_ECOLUMN, -1, column)
        if self.e.market.column[column].value != self.e.market.column[column].value:
            return np.full(self.e.market.scenarios, np.nan)
        return self.arrays["risk"][column, :self.e.market.scenarios].copy()
