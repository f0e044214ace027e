"""Rows of positions and balances: open, trade, deposit, orders, settle, remap.

Slotted compressed rows, structure of arrays, one allocation each.  A row keeps its slots sorted by the rank of the
column (offset set, underlying, column), so that grouping is a scan and the order of trades leaves no trace.
Cost: 20 bytes a slot (36 with open orders) and 36 a row; a trade touches one row, about 20 ns.
"""

from libc.math cimport fabs, fmax, isfinite
from libc.string cimport memmove

cimport cython
cimport numpy as cnp

import numpy as np

from margincore.errors import CapacityError, RangeError, ShapeError, StaleAccount, UnknownInstrument, raise_code

from margincore.kernels.types cimport (
    MC_ECAPACITY, MC_ECOLUMN, MC_EFINITE, MC_ERANGE, MC_EROW, MC_OK, MC_OPTION,
    int32_t, int64_t, mc_row, uint8_t,
)

cnp.import_array()

# Larger amounts are typing errors, and products of two of them must stay finite.
cdef double AMOUNT_MAX = 1e15
# Rounding residue of a closing trade: nearer to zero than this share of the larger leg is zero.
cdef double DUST = 8.9e-16


# ---- one row, real or scratch -----------------------------------------------------------------------------------

cdef double unit_value(const book_t* book, int32_t column, double price) noexcept nogil:
    # settlement asset per contract at a price: m P, inverse futures -m / P (their options are quoted in coin already)
    if book.inverse[column] and book.kind[column] != MC_OPTION:
        return -book.multiplier[column] / price
    return book.multiplier[column] * price


cdef int32_t row_find(const mc_row* row, int32_t column) noexcept nogil:
    cdef int32_t i
    for i in range(row.count):
        if row.instrument[i] == column:
            return i
    return -1


cdef inline int32_t row_lacks(const mc_row* row, int32_t column) noexcept nogil:
    return 1 if row_find(row, column) < 0 else 0


cdef void shift(mc_row* row, int32_t to, int32_t since, size_t slots) noexcept nogil:
    memmove(&row.instrument[to], &row.instrument[since], slots * sizeof(int32_t))
    memmove(&row.quantity[to], &row.quantity[since], slots * sizeof(double))
    memmove(&row.entry[to], &row.entry[since], slots * sizeof(double))
    if row.order_buy != NULL:
        memmove(&row.order_buy[to], &row.order_buy[since], slots * sizeof(double))
        memmove(&row.order_sell[to], &row.order_sell[since], slots * sizeof(double))


cdef int32_t row_insert(const book_t* book, mc_row* row, int32_t column) noexcept nogil:
    # the caller has made room
    cdef int32_t at = row.count
    while at > 0 and book.rank[row.instrument[at - 1]] > book.rank[column]:
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


cdef void row_remove(mc_row* row, int32_t at) noexcept nogil:
    shift(row, at, at + 1, <size_t>(row.count - at - 1))
    row.count -= 1


cdef void row_drop_empty(mc_row* row, int32_t at) noexcept nogil:
    if row.quantity[at] == 0.0 and (row.order_buy == NULL or (row.order_buy[at] == 0.0 and row.order_sell[at] == 0.0)):
        row_remove(row, at)


cdef int row_deposit(const book_t* book, mc_row* row, int32_t asset, double amount) noexcept nogil:
    cdef int32_t at = row_find(row, asset)
    cdef double total = amount + (row.quantity[at] if at >= 0 else 0.0)
    if not fabs(total) <= AMOUNT_MAX:
        return MC_ERANGE
    if at < 0:
        at = row_insert(book, row, asset)
    row.quantity[at] = total
    return MC_OK


cdef int row_trade(const book_t* book, mc_row* row, int32_t column, double quantity, double price,
                   double fee) noexcept nogil:
    # Average cost: what closes realises quantity * (value - entry per contract), what opens adds to the entry value.
    cdef int32_t at
    cdef double value = unit_value(book, column, price)
    cdef double held = 0.0, entry = 0.0, after, cash, closed
    at = row_find(row, column)
    if at >= 0:
        held = row.quantity[at]
        entry = row.entry[at]
    after = held + quantity
    if fabs(after) <= DUST * fmax(fabs(held), fabs(quantity)):
        after = 0.0
    if held * quantity >= 0.0:
        cash = 0.0
        entry += quantity * value
    elif held * after > 0.0:
        closed = entry * (quantity / held)      # negative share of the entry value
        cash = closed - quantity * value
        entry += closed
    else:
        cash = held * value - entry
        entry = after * value
    if book.kind[column] == MC_OPTION:          # the premium is paid, nothing is owed later
        cash = -(quantity * value)
    cash -= fee
    if not (fabs(after) <= AMOUNT_MAX and isfinite(entry) and fabs(cash) <= AMOUNT_MAX):
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


# ---- the book ---------------------------------------------------------------------------------------------------

cdef int book_view(const book_t* book, int64_t row, mc_row* view) noexcept nogil:
    cdef int64_t first
    if not 0 <= row < book.rows_used or not book.generation[row] & 1:
        return MC_EROW
    first = book.start[row]
    view.instrument = book.instrument + first
    view.quantity = book.quantity + first
    view.entry = book.entry + first
    view.order_buy = NULL if book.order_buy == NULL else book.order_buy + first
    view.order_sell = NULL if book.order_sell == NULL else book.order_sell + first
    view.initial_rate = book.initial_rate[row]
    view.asset_equity = NULL
    view.count = book.count[row]
    view.capacity = book.capacity[row]
    return MC_OK


cdef int book_reserve(book_t* book, int64_t row, int32_t extra) noexcept nogil:
    # Room for `extra` more slots: a full row moves to the end with double capacity; the old slots wait for compact().
    cdef int64_t need = <int64_t>book.count[row] + extra
    cdef int64_t capacity = book.capacity[row], first = book.start[row], to = book.slots_used
    cdef size_t slots = <size_t>book.count[row]
    if need <= capacity:
        return MC_OK
    if need > ROW_SLOTS_MAX:
        return MC_ECAPACITY
    if first + capacity == to:                 # the last row has nothing behind it: it grows where it stands
        to = first
    capacity = 2 * capacity if 2 * capacity > need else need
    if to + capacity > book.slots_max:
        capacity = need
    if to + capacity > book.slots_max:
        return MC_ECAPACITY
    memmove(&book.instrument[to], &book.instrument[first], slots * sizeof(int32_t))
    memmove(&book.quantity[to], &book.quantity[first], slots * sizeof(double))
    memmove(&book.entry[to], &book.entry[first], slots * sizeof(double))
    if book.order_buy != NULL:
        memmove(&book.order_buy[to], &book.order_buy[first], slots * sizeof(double))
        memmove(&book.order_sell[to], &book.order_sell[first], slots * sizeof(double))
    book.start[row] = to
    book.capacity[row] = <int32_t>capacity
    book.slots_used = to + capacity
    return MC_OK


cdef int price_allowed(const book_t* book, int32_t column, double price) noexcept nogil:
    if not isfinite(price):
        return MC_EFINITE
    if price < 0.0 or price > AMOUNT_MAX or (price == 0.0 and book.kind[column] != MC_OPTION):
        return MC_ERANGE
    return MC_OK


cdef int trade_allowed(const book_t* book, int32_t column, double quantity, double price, double fee) noexcept nogil:
    if not book.assets <= column < book.columns or book.retired[column]:
        return MC_ECOLUMN
    if not (isfinite(quantity) and isfinite(fee)):
        return MC_EFINITE
    if quantity == 0.0 or fabs(quantity) > AMOUNT_MAX or fabs(fee) > AMOUNT_MAX:
        return MC_ERANGE
    return price_allowed(book, column, price)


cdef int book_trade(book_t* book, int64_t row, int32_t column, double quantity, double price,
                    double fee) noexcept nogil:
    cdef mc_row view
    cdef int code = book_view(book, row, &view)
    if code == MC_OK:
        code = trade_allowed(book, column, quantity, price, fee)
    if code == MC_OK:
        code = book_reserve(book, row, row_lacks(&view, column) + row_lacks(&view, book.settle[column]))
    if code == MC_OK:
        book_view(book, row, &view)
        code = row_trade(book, &view, column, quantity, price, fee)
        book.count[row] = view.count
    return code


cdef int book_deposit(book_t* book, int64_t row, int32_t asset, double amount) noexcept nogil:
    cdef mc_row view
    cdef int code = book_view(book, row, &view)
    if code == MC_OK and not 0 <= asset < book.assets:
        code = MC_ECOLUMN
    if code == MC_OK and not isfinite(amount):
        code = MC_EFINITE
    if code == MC_OK:
        code = book_reserve(book, row, row_lacks(&view, asset))
    if code == MC_OK:
        book_view(book, row, &view)
        code = row_deposit(book, &view, asset, amount)
        book.count[row] = view.count
    return code


cdef int book_order(book_t* book, int64_t row, int32_t column, double buy, double sell) noexcept nogil:
    cdef mc_row view
    cdef int32_t at
    cdef int code = book_view(book, row, &view)
    if code != MC_OK:
        return code
    if not book.assets <= column < book.columns or book.retired[column]:
        return MC_ECOLUMN
    if not (isfinite(buy) and isfinite(sell)):
        return MC_EFINITE
    if not (0.0 <= buy <= AMOUNT_MAX and 0.0 <= sell <= AMOUNT_MAX):
        return MC_ERANGE
    code = book_reserve(book, row, row_lacks(&view, column) + row_lacks(&view, book.settle[column]))
    if code != MC_OK:
        return code
    book_view(book, row, &view)
    if row_find(&view, book.settle[column]) < 0:
        row_insert(book, &view, book.settle[column])
    at = row_find(&view, column)
    if at < 0:
        at = row_insert(book, &view, column)
    view.order_buy[at] = buy
    view.order_sell[at] = sell
    row_drop_empty(&view, at)
    book.count[row] = view.count
    return MC_OK


cdef int64_t book_settle(book_t* book, int32_t column, double price) noexcept nogil:
    # Cash for every holder: futures quantity * value - entry, options quantity * payoff (price = payoff per unit).
    # The settlement asset has its slot since the first trade, so this cannot run out of room.
    cdef int64_t row, settled = 0
    cdef int32_t at
    cdef double cash, value = unit_value(book, column, price)
    cdef mc_row view
    for row in range(book.rows_used):
        if book_view(book, row, &view) != MC_OK:
            continue
        at = row_find(&view, column)
        if at < 0:
            continue
        cash = view.quantity[at] * value
        if book.kind[column] != MC_OPTION:
            cash -= view.entry[at]
        row_remove(&view, at)
        view.quantity[row_find(&view, book.settle[column])] += cash
        book.count[row] = view.count
        settled += 1
    book.retired[column] = 1
    return settled


cdef int64_t book_fund(book_t* book, int32_t column, double amount) noexcept nogil:
    # longs pay `amount` of the settlement asset per contract, shorts receive it
    cdef int64_t row, paid = 0
    cdef int32_t at
    cdef mc_row view
    for row in range(book.rows_used):
        if book_view(book, row, &view) != MC_OK:
            continue
        at = row_find(&view, column)
        if at < 0 or view.quantity[at] == 0.0:
            continue
        view.quantity[row_find(&view, book.settle[column])] -= view.quantity[at] * amount
        paid += 1
    return paid


cdef void book_remap(book_t* book, const int32_t* column_to) noexcept nogil:
    # New column numbers, then each row sorted by the new ranks (insertion sort: rows are short and nearly sorted).
    cdef int64_t row
    cdef int32_t i, at
    cdef double quantity, entry, buy = 0.0, sell = 0.0
    cdef mc_row view
    for row in range(book.rows_used):
        if book_view(book, row, &view) != MC_OK:
            continue
        for i in range(view.count):
            view.instrument[i] = column_to[view.instrument[i]]
        at = view.count
        view.count = 0
        for i in range(at):
            quantity, entry, column = view.quantity[i], view.entry[i], view.instrument[i]
            if view.order_buy != NULL:
                buy, sell = view.order_buy[i], view.order_sell[i]
            at = row_insert(book, &view, column)
            view.quantity[at] = quantity
            view.entry[at] = entry
            if view.order_buy != NULL:
                view.order_buy[at] = buy
                view.order_sell[at] = sell


cdef class Book:
    """Positions and balances of many accounts, one row each.

    Parameters
    ----------
    rows_max, slots_max : int
        Capacity: accounts, and positions and balances of all of them together.
    slots_first : int
        Slots of a fresh row; a row that outgrows them moves to the end with double capacity.
    assets : int
        Columns ``0 .. assets - 1`` hold balances.
    rank, settle, kind : int32 array, shape (columns,)
        Order of columns inside a row, column of the settlement asset, code of `margincore.h`.
    multiplier : float64 array, shape (columns,)
    inverse : uint8 array, shape (columns,)
    """

    def __cinit__(self, *args, **kwargs):
        self.arrays = {}
        self.free_rows = []

    def __init__(self, int64_t rows_max, int64_t slots_max, int32_t slots_first, int32_t assets, rank, settle, kind,
                 multiplier, inverse):
        if rows_max < 1 or slots_first < 2 or slots_max < slots_first:
            raise RangeError(f"rows_max must be at least 1, slots_first 2 and slots_max slots_first, "
                             f"were {rows_max}, {slots_first}, {slots_max}")
        hold = self.arrays
        for name, dtype, size in (("start", np.int64, rows_max), ("count", np.int32, rows_max),
                                  ("capacity", np.int32, rows_max), ("generation", np.int32, rows_max),
                                  ("parent", np.int64, rows_max), ("initial_rate", np.float64, rows_max),
                                  ("instrument", np.int32, slots_max), ("quantity", np.float64, slots_max),
                                  ("entry", np.float64, slots_max)):
            hold[name] = np.zeros(size, dtype)
        self.c.rows_max = rows_max
        self.c.slots_max = slots_max
        self.c.slots_first = slots_first
        self.c.start = <int64_t*>cnp.PyArray_DATA(hold["start"])
        self.c.count = <int32_t*>cnp.PyArray_DATA(hold["count"])
        self.c.capacity = <int32_t*>cnp.PyArray_DATA(hold["capacity"])
        self.c.generation = <int32_t*>cnp.PyArray_DATA(hold["generation"])
        self.c.parent = <int64_t*>cnp.PyArray_DATA(hold["parent"])
        self.c.initial_rate = <double*>cnp.PyArray_DATA(hold["initial_rate"])
        self.c.instrument = <int32_t*>cnp.PyArray_DATA(hold["instrument"])
        self.c.quantity = <double*>cnp.PyArray_DATA(hold["quantity"])
        self.c.entry = <double*>cnp.PyArray_DATA(hold["entry"])
        self.set_columns(assets, rank, settle, kind, multiplier, inverse)

    cdef int fail(self, int code, int64_t row, int32_t column) except -1:
        raise_code(code, f"row {row}, column {column}")

    def set_columns(self, int32_t assets, rank, settle, kind, multiplier, inverse):
        """Replace the column table (same meaning as in the constructor); positions are not touched."""
        rank = np.array(rank, np.int32)
        columns = len(rank)
        table = {"rank": rank, "settle": np.array(settle, np.int32), "kind": np.array(kind, np.int32),
                 "multiplier": np.array(multiplier, np.float64), "inverse": np.array(inverse, np.uint8),
                 "retired": np.zeros(columns, np.uint8)}
        for name, array in table.items():
            if array.shape != (columns,):
                raise ShapeError(f"{name} must have shape ({columns},), had {array.shape}")
        if not 0 < assets <= columns or not ((table["settle"] >= 0) & (table["settle"] < assets)).all():
            raise RangeError(f"settle must name one of the {assets} asset columns")
        self.arrays.update(table)
        self.c.columns = columns
        self.c.assets = assets
        self.c.rank = <const int32_t*>cnp.PyArray_DATA(table["rank"])
        self.c.settle = <const int32_t*>cnp.PyArray_DATA(table["settle"])
        self.c.kind = <const int32_t*>cnp.PyArray_DATA(table["kind"])
        self.c.multiplier = <const double*>cnp.PyArray_DATA(table["multiplier"])
        self.c.inverse = <const uint8_t*>cnp.PyArray_DATA(table["inverse"])
        self.c.retired = <uint8_t*>cnp.PyArray_DATA(table["retired"])

    # ---- rows

    @property
    def rows_used(self):
        """Rows handed out so far, closed ones included."""
        return self.c.rows_used

    @property
    def slots_used(self):
        """Slots handed out so far, those that moved rows left behind included."""
        return self.c.slots_used

    @property
    def nbytes(self):
        """Bytes of all arrays of the book."""
        return sum(array.nbytes for array in self.arrays.values())

    def open(self, double initial_rate=0.0, int64_t parent=-1):
        """Open an empty row; returns its number.  `initial_rate` is 1 / chosen leverage, 0 for none."""
        cdef int64_t row
        with cython.critical_section(self):
            if self.free_rows:
                row = self.free_rows.pop()
            else:
                row = self.c.rows_used
                if row >= self.c.rows_max:
                    raise CapacityError(f"accounts must stay within the {self.c.rows_max} rows of this book")
                if self.c.slots_used + self.c.slots_first > self.c.slots_max:
                    raise CapacityError(f"positions must stay within the {self.c.slots_max} slots of this book")
                self.c.start[row] = self.c.slots_used
                self.c.capacity[row] = self.c.slots_first
                self.c.slots_used += self.c.slots_first
                self.c.rows_used += 1
            self.c.count[row] = 0
            self.c.parent[row] = parent
            self.c.initial_rate[row] = initial_rate
            self.c.generation[row] += 1
        return row

    def close(self, int64_t row):
        """Close an empty row (no position, no order, no balance); its number may be given out again."""
        cdef mc_row view
        cdef int32_t i
        with cython.critical_section(self):
            if book_view(&self.c, row, &view) != MC_OK:
                self.fail(MC_EROW, row, -1)
            for i in range(view.count):
                if view.quantity[i] != 0.0 or view.instrument[i] >= self.c.assets:
                    raise RangeError(f"row {row} must be empty to be closed, held column {view.instrument[i]}")
            self.c.count[row] = 0
            self.c.generation[row] += 1
            self.free_rows.append(row)

    def generation(self, int64_t row):
        """Generation of a row: changes when it is opened and when it is closed, odd while open."""
        if not 0 <= row < self.c.rows_used:
            raise StaleAccount(f"row must be in [0, {self.c.rows_used}), was {row}")
        return self.c.generation[row]

    def parent(self, int64_t row):
        """Row of the account that an isolated row belongs to, -1 for an account."""
        if not 0 <= row < self.c.rows_used:
            raise StaleAccount(f"row must be in [0, {self.c.rows_used}), was {row}")
        return self.c.parent[row]

    def initial_rate(self, int64_t row):
        """1 / leverage that the account of a row chose, 0 when it chose none."""
        if not 0 <= row < self.c.rows_used:
            raise StaleAccount(f"row must be in [0, {self.c.rows_used}), was {row}")
        return self.c.initial_rate[row]

    def open_rows(self):
        """Numbers of the open rows, int64, ascending."""
        return np.flatnonzero(self.arrays["generation"][:self.c.rows_used] & 1)

    def read(self, int64_t row):
        """Copies of one row: instrument int32, quantity, entry, order_buy, order_sell float64, shape (slots,)."""
        cdef mc_row view
        if book_view(&self.c, row, &view) != MC_OK:
            self.fail(MC_EROW, row, -1)
        hold, first = self.arrays, self.c.start[row]
        part = slice(first, first + view.count)
        orders = [hold[name][part].copy() if name in hold else np.zeros(view.count)
                  for name in ("order_buy", "order_sell")]
        return (hold["instrument"][part].copy(), hold["quantity"][part].copy(), hold["entry"][part].copy(), *orders)

    def quantity(self, int64_t row, int32_t column):
        """Contracts (or units of an asset) that a row holds in a column."""
        cdef mc_row view
        cdef int32_t at
        if book_view(&self.c, row, &view) != MC_OK:
            self.fail(MC_EROW, row, column)
        at = row_find(&view, column)
        return view.quantity[at] if at >= 0 else 0.0

    # ---- what changes a row

    def trade(self, int64_t row, int32_t column, double quantity, double price, double fee=0.0):
        """Add `quantity` contracts at `price`; `fee` is paid in the settlement asset."""
        cdef int code
        with cython.critical_section(self):
            code = book_trade(&self.c, row, column, quantity, price, fee)
        if code != MC_OK:
            self.fail(code, row, column)

    def deposit(self, int64_t row, int32_t asset, double amount):
        """Add `amount` (negative: take) to the balance of an asset."""
        cdef int code
        with cython.critical_section(self):
            code = book_deposit(&self.c, row, asset, amount)
        if code != MC_OK:
            self.fail(code, row, asset)

    def set_orders(self, int64_t row, int32_t column, double buy, double sell):
        """State the resting orders of a row in a column: contracts to buy and to sell, both at least 0."""
        cdef int code
        with cython.critical_section(self):
            if self.c.order_buy == NULL:
                for name in ("order_buy", "order_sell"):
                    self.arrays[name] = np.zeros(self.c.slots_max)
                self.c.order_sell = <double*>cnp.PyArray_DATA(self.arrays["order_sell"])
                self.c.order_buy = <double*>cnp.PyArray_DATA(self.arrays["order_buy"])
            code = book_order(&self.c, row, column, buy, sell)
        if code != MC_OK:
            self.fail(code, row, column)

    def settle(self, int32_t column, double price):
        """Turn every position in a column into cash and retire the column; returns the holders.

        `price` is the settlement price of a future, the payoff per unit in the settlement asset of an option.
        """
        cdef int64_t settled
        if not self.c.assets <= column < self.c.columns or self.c.retired[column]:
            self.fail(MC_ECOLUMN, -1, column)
        cdef int code = price_allowed(&self.c, column, price)
        if code != MC_OK:
            self.fail(code, -1, column)
        with cython.critical_section(self), nogil:
            settled = book_settle(&self.c, column, price)
        return settled

    def fund(self, int32_t column, double amount):
        """Charge every long `amount` of the settlement asset per contract and pay it to every short; returns holders."""
        cdef int64_t paid
        if not self.c.assets <= column < self.c.columns or self.c.retired[column]:
            self.fail(MC_ECOLUMN, -1, column)
        if not isfinite(amount):
            self.fail(MC_EFINITE, -1, column)
        with cython.critical_section(self), nogil:
            paid = book_fund(&self.c, column, amount)
        return paid

    def holders(self, int32_t column):
        """Number of open rows that hold a position, balance or order in a column."""
        cdef int64_t row, found = 0
        cdef mc_row view
        with nogil:
            for row in range(self.c.rows_used):
                if book_view(&self.c, row, &view) == MC_OK and row_find(&view, column) >= 0:
                    found += 1
        return found

    def remap(self, column_to, int32_t assets, rank, settle, kind, multiplier, inverse):
        """Renumber the columns of every position (int32 array over the old columns) and take a new column table."""
        mapping = np.array(column_to, np.int32)
        if mapping.shape != (self.c.columns,):
            raise ShapeError(f"column_to must have shape ({self.c.columns},), had {mapping.shape}")
        with cython.critical_section(self):
            for column in np.flatnonzero(mapping < 0):
                if self.holders(column):
                    raise UnknownInstrument(f"column {column} is still held and must have a new column")
            self.set_columns(assets, rank, settle, kind, multiplier, inverse)
            book_remap(&self.c, <const int32_t*>cnp.PyArray_DATA(mapping))

    def load(self, const int64_t[::1] start not None, const int32_t[::1] column not None,
             const double[::1] quantity not None, const double[::1] price not None):
        """Open one row per interval of `start` and enter its trades and (cash columns) deposits; returns the first row.

        start : int64, shape (new rows + 1,), offsets into the other arrays.  All or nothing: on an error the rows
        opened by this call are closed again.
        """
        cdef int64_t fresh = start.shape[0] - 1, first = self.c.rows_used, row, i, at = -1
        cdef int code = MC_OK
        cdef int64_t slots = self.c.slots_used
        if fresh < 0 or start[0] != 0 or start[fresh] != column.shape[0]:
            raise ShapeError(f"start must run from 0 to the number of entries {column.shape[0]}")
        if column.shape[0] != quantity.shape[0] or column.shape[0] != price.shape[0]:
            raise ShapeError("column, quantity and price must have the same length")
        if (np.diff(np.asarray(start)) < 0).any():
            raise ShapeError("start must not decrease")
        if first + fresh > self.c.rows_max or slots + fresh * self.c.slots_first > self.c.slots_max:
            raise CapacityError(f"accounts must stay within the {self.c.rows_max} rows and {self.c.slots_max} slots, "
                                f"{fresh} more do not fit")
        with cython.critical_section(self), nogil:
            for row in range(first, first + fresh):
                self.c.start[row] = self.c.slots_used
                self.c.capacity[row] = self.c.slots_first
                self.c.slots_used += self.c.slots_first
                self.c.rows_used += 1
                self.c.count[row] = 0
                self.c.parent[row] = -1
                self.c.initial_rate[row] = 0.0
                self.c.generation[row] += 1
                for i in range(start[row - first], start[row - first + 1]):
                    if column[i] < self.c.assets:
                        code = book_deposit(&self.c, row, column[i], quantity[i])
                    else:
                        code = book_trade(&self.c, row, column[i], quantity[i], price[i], 0.0)
                    if code != MC_OK:
                        at = i
                        break
                if code != MC_OK:
                    break
                if self.c.count[row] > self.c.slots_first:      # the last row gives back what it does not need
                    self.c.capacity[row] = self.c.count[row]
                    self.c.slots_used = self.c.start[row] + self.c.count[row]
            if code != MC_OK:
                for row in range(first, self.c.rows_used):
                    self.c.generation[row] -= 1
                self.c.rows_used = first
                self.c.slots_used = slots
        if code != MC_OK:
            raise_code(code, f"entry {at}: column {column[at]}, quantity {quantity[at]}, price {price[at]}")
        return first

    def compact(self):
        """Move all rows together, so that the slots that grown rows left behind can be used again."""
        hold = self.arrays
        with cython.critical_section(self):
            used = self.c.rows_used
            order = np.argsort(hold["start"][:used], kind="stable")
            at = 0
            for row in order:
                first, count = hold["start"][row], hold["count"][row]
                capacity = max(int(self.c.slots_first), int(count))
                capacity = min(capacity, int(hold["capacity"][row]))
                for name in ("instrument", "quantity", "entry", "order_buy", "order_sell"):
                    if name in hold:
                        hold[name][at:at + count] = hold[name][first:first + count].copy()
                hold["start"][row] = at
                hold["capacity"][row] = capacity
                at += capacity
            self.c.slots_used = at
