# One row of a book, real or scratch: find, insert, deposit, trade.  Inline functions, so that a what-if runs the very
# code of a trade; for the kernels of this project.
from libc.math cimport fabs, fmax, isfinite
from libc.string cimport memmove

from margincore.kernels.types cimport (
    MC_ECAPACITY, MC_ECOLUMN, MC_EFINITE, MC_ERANGE, MC_EROW, MC_OK, MC_OPTION, int32_t, int64_t, mc_asset,
    mc_column, mc_row, uint8_t,
)

cdef enum:
    ROW_SLOTS_MAX = 1024   # positions and balances of one account

cdef struct book_t:
    int64_t rows_max        # capacity
    int64_t slots_max
    int64_t rows_used       # rows handed out so far, closed ones included
    int64_t slots_used      # slots handed out so far, abandoned ones included
    int32_t columns
    int32_t assets          # columns 0 .. assets - 1 are cash
    int32_t slots_first     # capacity of a fresh row
    int64_t* start          # [rows]
    int32_t* count
    int32_t* capacity
    int32_t* orders         # slots with an open order
    int32_t* generation     # odd while the row is open
    int64_t* parent         # account of an isolated row, -1 otherwise
    double* initial_rate
    int32_t* instrument     # [slots]
    double* quantity
    double* entry
    double* order_buy       # NULL until the first order
    double* order_sell
    const int32_t* rank     # [columns]: place of a column inside a row
    const int32_t* settle
    const int32_t* kind
    const double* multiplier
    const uint8_t* inverse
    uint8_t* retired        # settled for good


# Larger amounts are typing errors, and products of two of them must stay finite.
cdef inline double amount_max() noexcept nogil:
    return 1e15


cdef inline double unit_value(const book_t* book, int32_t column, double price) noexcept nogil:
    # settlement asset per contract at a price: m P, inverse futures -m / P (their options are quoted in coin already)
    if book.inverse[column] and book.kind[column] != MC_OPTION:
        return -book.multiplier[column] / price
    return book.multiplier[column] * price


cdef inline double contracts_counted(const mc_column* column, double quantity) noexcept nogil:
    # contracts whose notional counts: either side, of options the short side (a paid one can lose no more than its value)
    cdef double long_side = quantity * column.owed
    return long_side if long_side > -quantity else -quantity


cdef inline double counted_worth(const mc_asset* asset, double amount) noexcept nogil:
    # Base currency, haircut when positive, since a debt is never made smaller; an empty balance needs no price, and NaN
    # is not empty.  The share is looked up by the sign, which nobody foresees: a jump would be guessed wrong every other
    # time.
    cdef double[2] share
    share[0] = 1.0
    share[1] = asset.kept
    return amount * asset.spot * share[amount > 0.0] if amount != 0.0 else 0.0


cdef inline int32_t row_find(const mc_row* row, int32_t column) noexcept nogil:
    cdef int32_t i
    for i in range(row.count):
        if row.instrument[i] == column:
            return i
    return -1


cdef inline int32_t row_lacks(const book_t* book, const mc_row* row, int32_t column) noexcept nogil:
    # slots that a trade or order in a column adds to a row: its own and that of its settlement asset
    cdef int32_t lacks = row_find(row, column) < 0
    return lacks if column < book.assets else lacks + (row_find(row, book.settle[column]) < 0)


cdef inline void shift(mc_row* row, int32_t to, int32_t since, size_t slots) noexcept nogil:
    memmove(&row.instrument[to], &row.instrument[since], slots * sizeof(int32_t))
    memmove(&row.quantity[to], &row.quantity[since], slots * sizeof(double))
    memmove(&row.entry[to], &row.entry[since], slots * sizeof(double))
    if row.order_buy != NULL:
        memmove(&row.order_buy[to], &row.order_buy[since], slots * sizeof(double))
        memmove(&row.order_sell[to], &row.order_sell[since], slots * sizeof(double))


cdef inline int32_t row_insert(const book_t* book, mc_row* row, int32_t column) noexcept nogil:
    # the caller has made room; equal ranks keep the order of columns
    cdef int32_t at = row.count, other
    while at > 0:
        other = row.instrument[at - 1]
        if book.rank[other] < book.rank[column] or (book.rank[other] == book.rank[column] and other < column):
            break
        at -= 1
    shift(row, at + 1, at, <size_t>(row.count - at))
    row.instrument[at] = column
    row.quantity[at] = 0.0
    row.entry[at] = 0.0
    if row.order_buy != NULL:
        row.order_buy[at] = 0.0
        row.order_sell[at] = 0.0
    row.count += 1
    return at


cdef inline void row_remove(mc_row* row, int32_t at) noexcept nogil:
    shift(row, at, at + 1, <size_t>(row.count - at - 1))
    row.count -= 1


cdef inline void row_drop_empty(mc_row* row, int32_t at) noexcept nogil:
    if row.quantity[at] == 0.0 and (row.order_buy == NULL or (row.order_buy[at] == 0.0 and row.order_sell[at] == 0.0)):
        row_remove(row, at)


cdef inline int row_deposit(const book_t* book, mc_row* row, int32_t asset, double amount) noexcept nogil:
    cdef int32_t at = row_find(row, asset)
    cdef double total = amount + (row.quantity[at] if at >= 0 else 0.0)
    if not fabs(total) <= amount_max():
        return MC_ERANGE
    if at < 0:
        at = row_insert(book, row, asset)
    row.quantity[at] = total
    return MC_OK


cdef inline int row_trade(const book_t* book, mc_row* row, int32_t column, double quantity, double price,
                   double fee) noexcept nogil:
    # Average cost: what closes realises quantity * (value - entry per contract), what opens adds to the entry value.
    cdef int32_t at
    cdef double value = unit_value(book, column, price)
    cdef double held = 0.0, entry = 0.0, after, cash, closed
    at = row_find(row, column)
    if at >= 0:
        held = row.quantity[at]
        entry = row.entry[at]
    after = held + quantity       # residue of rounding, nearer to zero than four ulp of the larger leg, is zero
    if fabs(after) <= 8.9e-16 * fmax(fabs(held), fabs(quantity)):
        after = 0.0
    if held == 0.0 or (held > 0.0) == (quantity > 0.0):
        cash = 0.0
        entry += quantity * value
    elif after != 0.0 and (held > 0.0) == (after > 0.0):
        closed = entry * (quantity / held)      # negative share of the entry value
        cash = closed - quantity * value
        entry += closed
    else:
        cash = held * value - entry
        entry = after * value
    if book.kind[column] == MC_OPTION:          # the premium is paid, nothing is owed later
        cash = -(quantity * value)
    cash -= fee
    if not (fabs(after) <= amount_max() and fabs(entry) <= amount_max() * amount_max() and fabs(cash) <= amount_max()):
        return MC_ERANGE
    if row_deposit(book, row, book.settle[column], cash) != MC_OK:
        return MC_ERANGE
    at = row_find(row, column)
    if at < 0:
        at = row_insert(book, row, column)
    row.quantity[at] = after
    row.entry[at] = entry
    row_drop_empty(row, at)
    return MC_OK


cdef inline int book_view(const book_t* book, int64_t row, mc_row* view) noexcept nogil:
    cdef int64_t first
    if not 0 <= row < book.rows_used or not book.generation[row] & 1:
        return MC_EROW
    first = book.start[row]
    view.instrument = book.instrument + first
    view.quantity = book.quantity + first
    view.entry = book.entry + first
    view.order_buy = book.order_buy + first if book.orders[row] else NULL
    view.order_sell = book.order_sell + first if book.orders[row] else NULL
    view.initial_rate = book.initial_rate[row]
    view.asset_equity = NULL
    view.maintenance_only = 0
    view.count = book.count[row]
    view.capacity = book.capacity[row]
    return MC_OK


cdef inline int64_t row_next(const book_t* book, int64_t row) noexcept nogil:
    # where a row goes that needs room: the last one has nothing behind it and grows where it stands
    return book.start[row] if book.start[row] + book.capacity[row] == book.slots_used else book.slots_used


cdef inline int64_t book_room(const book_t* book, int64_t row, int32_t extra) noexcept nogil:
    # Capacity that a row needs for `extra` more slots, doubled when it has to move, or MC_ECAPACITY.
    cdef int64_t need = <int64_t>book.count[row] + extra, capacity = book.capacity[row], to = row_next(book, row)
    if need > ROW_SLOTS_MAX:
        return MC_ECAPACITY
    if need <= capacity:
        return capacity
    capacity = 2 * capacity if 2 * capacity > need else need
    if to + capacity > book.slots_max:
        capacity = need
    return capacity if to + capacity <= book.slots_max else MC_ECAPACITY


cdef inline int price_allowed(const book_t* book, int32_t column, double price) noexcept nogil:
    if not isfinite(price):
        return MC_EFINITE
    if price < 0.0 or price > amount_max() or (price == 0.0 and book.kind[column] != MC_OPTION):
        return MC_ERANGE
    return MC_OK


cdef inline int trade_allowed(const book_t* book, int32_t column, double quantity, double price, double fee) noexcept nogil:
    if not book.assets <= column < book.columns or book.retired[column]:
        return MC_ECOLUMN
    if not (isfinite(quantity) and isfinite(fee)):
        return MC_EFINITE
    if quantity == 0.0 or fabs(quantity) > amount_max() or fabs(fee) > amount_max():
        return MC_ERANGE
    return price_allowed(book, column, price)
