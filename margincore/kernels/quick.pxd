# Equity and requirement of a row in one pass, for the two commonest plans: a scan of at most sixteen scenarios, tiers of
# at most eight lines.  The general way of margincore.kernels.margin gives the same numbers, bit for bit, and serves
# every row that these decline (answer 0): of several settlement assets, with open orders, with offsets or shocked cash.
from margincore.kernels.lanes cimport (
    lanes_add, lanes_kept, lanes_largest, lanes_least, lanes_load, lanes_most, lanes_mul, lanes_reached, lanes_set,
    lanes_smallest, lanes_store, lanes_t, lines_largest,
)
from margincore.kernels.row cimport contracts_counted, counted_worth
from margincore.kernels.stage cimport scan_t, tiers_t
from margincore.kernels.types cimport int32_t, int64_t, mc_amount, mc_column, mc_market, mc_row

cdef enum:
    QUICK_SLOTS = 32
    QUICK_STRIDE = 16


cdef inline int quick_scan(const mc_row* row, const mc_market* market, const scan_t* p, double* equity,
                           mc_amount* amount) noexcept nogil:
    # One group per offset set: gains of a group then offset nothing, whatever share of them would be kept.
    cdef double least[(QUICK_SLOTS + 1) * 8]
    cdef lanes_t low = lanes_set(0.0), high = low, zero = low, held
    cdef double sum = 0.0, total = 0.0, loss, q
    cdef const double* unit
    cdef const mc_column* c
    cdef int32_t i, column, live, same_set, same, keep, settle, first = 0, odd = 0, sets = 0, group = -1, set_now = -1
    cdef int64_t second = 8 if market.stride > 8 else 0
    if not 0 < row.count <= QUICK_SLOTS or market.stride > QUICK_STRIDE or row.order_buy != NULL:
        return 0
    settle = market.column[row.instrument[0]].settle
    if row.instrument[0] < market.assets and market.column[row.instrument[0]].set < 0:
        sum = sum + row.quantity[0]         # a balance that no scenario moves
        first = 1
    for i in range(first, row.count):
        column = row.instrument[i]
        c = &market.column[column]
        q = row.quantity[i]
        sum += q * c.value - c.owed * row.entry[i]
        live = c.set >= 0
        same_set = c.set == set_now
        same = same_set & (c.group == group)
        odd |= (live & ((same_set & (same ^ 1)) | (column < market.assets))) | (c.settle ^ settle)
        keep = same | (live ^ 1)
        set_now = c.set if live else set_now
        group = c.group if live else group
        sets += keep ^ 1
        unit = market.risk + <int64_t>column * market.stride
        held = lanes_set(q if live else 0.0)
        low = lanes_add(lanes_kept(low, keep), lanes_mul(held, lanes_load(unit)))
        high = lanes_add(lanes_kept(high, keep), lanes_mul(held, lanes_load(unit + second)))
        lanes_store(&least[sets * 8], lanes_least(lanes_least(low, high), zero))
    for i in range(1, sets + 1):
        loss = 0.0 - lanes_smallest(lanes_load(&least[i * 8]))
        total += loss if loss > 0.0 else 0.0
    equity[0] = 0.0 + counted_worth(&market.asset[settle], sum)
    amount.maintenance = p.maintenance_ratio * total
    amount.initial = p.initial_ratio * total
    amount.orders = 0.0
    return odd == 0


cdef inline int tiers_pass(const int32_t* instrument, const double* quantity, const double* entry, int32_t count,
                           int maintenance_only, double initial_rate, const mc_market* market, const tiers_t* p,
                           double* equity, mc_amount* amount) noexcept nogil:
    cdef double sum = 0.0, run = 0.0, run_initial = 0.0, q, notional, spot
    cdef const double* line
    cdef const double* step
    cdef const mc_column* c
    cdef lanes_t most
    cdef int32_t i, settle, first = 0, odd = 0, several = market.assets > 1
    if count == 0:
        return 0
    settle = market.column[instrument[0]].settle
    if instrument[0] < market.assets:       # a balance: worth itself, and without tiers
        sum = sum + quantity[0]
        first = 1
    for i in range(first, count):
        c = &market.column[instrument[i]]
        q = quantity[i]
        sum += q * c.value - c.owed * entry[i]
        if several:
            odd |= c.settle ^ settle
        notional = contracts_counted(c, q) * c.notional
        line = p.line + <int64_t>instrument[i] * 16
        run += lines_largest(line, line + 8, notional)
        if not maintenance_only:
            step = p.step + <int64_t>instrument[i] * 16
            most = lanes_most(lanes_set(initial_rate),
                              lanes_reached(lanes_load(step), lanes_set(notional), lanes_load(step + 8)))
            run_initial += lanes_largest(most) * notional
    spot = market.asset[settle].spot
    equity[0] = 0.0 + counted_worth(&market.asset[settle], sum)
    amount.maintenance = spot * run if run != 0.0 else 0.0
    amount.initial = spot * run_initial if run_initial != 0.0 else 0.0
    amount.orders = 0.0
    return odd == 0


cdef inline int quick_tiers(const mc_row* row, const mc_market* market, const tiers_t* p, double* equity,
                            mc_amount* amount) noexcept nogil:
    if row.order_buy != NULL:
        return 0
    return tiers_pass(row.instrument, row.quantity, row.entry, row.count, row.maintenance_only, row.initial_rate,
                      market, p, equity, amount)
