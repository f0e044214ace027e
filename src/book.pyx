"""Rows of positions and balances: open, trade, deposit, orders, settle, remap.

Slotted compressed rows, structure of arrays, one allocation each.  A row keeps its slots sorted by the rank of the
column (offset set, underlying, column), so that grouping is a scan and the order of trades leaves no trace.
Cost: 20 bytes a slot (36 with open orders) and 36 a row; a trade touches one row, about 20 ns.
"""

from libc.math cimport fabs, isfinite
from libc.string cimport memmove

cimport cython
cimport numpy as cnp

import numpy as np

from margincore.errors import CapacityError, NotFiniteError, RangeError, ShapeError, StaleAccount, UnknownInstrument, raise_code

from margincore.kernels.row cimport (
    amount_max, book_room, book_t, book_view, price_allowed, row_deposit, row_drop_empty, row_find, row_insert, row_lacks,
    ROW_SLOTS_MAX, row_next, row_remove, row_trade, trade_allowed, unit_value,
)
from margincore.kernels.types cimport (
    MC_CASH, MC_ECAPACITY, MC_ECOLUMN, MC_EFINITE, MC_ERANGE, MC_EROW, MC_OK, MC_OPTION,
    int32_t, int64_t, mc_row, uint8_t,
)

cnp.import_array()

ROW_ARRAYS = ("start", "count", "capacity", "generation", "orders", "parent", "initial_rate")
SLOT_ARRAYS = ("instrument", "quantity", "entry", "order_buy", "order_sell")


# ---- the book ---------------------------------------------------------------------------------------------------

cdef void row_move(book_t* book, int64_t row, int64_t to, int64_t capacity) noexcept nogil:
    cdef int64_t first = book.start[row]
    cdef size_t slots = <size_t>book.count[row]
    memmove(&book.instrument[to], &book.instrument[first], slots * sizeof(int32_t))
    memmove(&book.quantity[to], &book.quantity[first], slots * sizeof(double))
    memmove(&book.entry[to], &book.entry[first], slots * sizeof(double))
    if book.orders[row]:
        memmove(&book.order_buy[to], &book.order_buy[first], slots * sizeof(double))
        memmove(&book.order_sell[to], &book.order_sell[first], slots * sizeof(double))
    book.start[row] = to
    book.capacity[row] = <int32_t>capacity


cdef int book_change(book_t* book, int64_t row, mc_row* view, int code, int64_t start, int32_t capacity) noexcept nogil:
    # Ends a change: the new count, or on an error the place the row had before it was moved.
    if code == MC_OK:
        book.count[row] = view.count
    elif book.capacity[row] != capacity:
        book.slots_used -= book.capacity[row] - (capacity if book.start[row] == start else 0)
        book.start[row] = start
        book.capacity[row] = capacity
    return code


cdef int book_reserve(book_t* book, int64_t row, int32_t extra, mc_row* view) noexcept nogil:
    # Room for `extra` more slots: a full row moves to the end; the old slots wait for compact().
    cdef int64_t capacity = book_room(book, row, extra)
    if capacity < 0:
        return MC_ECAPACITY
    if capacity > book.capacity[row]:
        row_move(book, row, row_next(book, row), capacity)
        book.slots_used = book.start[row] + capacity
        book_view(book, row, view)
    return MC_OK


cdef int book_trade(book_t* book, int64_t row, int32_t column, double quantity, double price,
                    double fee) noexcept nogil:
    cdef mc_row view
    cdef int64_t start
    cdef int32_t capacity
    cdef int code = book_view(book, row, &view)
    if code == MC_OK:
        code = trade_allowed(book, column, quantity, price, fee)
    if code != MC_OK:
        return code
    start, capacity = book.start[row], book.capacity[row]
    code = book_reserve(book, row, row_lacks(book, &view, column), &view)
    if code == MC_OK:
        code = row_trade(book, &view, column, quantity, price, fee)
    return book_change(book, row, &view, code, start, capacity)


cdef int book_deposit(book_t* book, int64_t row, int32_t asset, double amount) noexcept nogil:
    cdef mc_row view
    cdef int64_t start
    cdef int32_t capacity
    cdef int code = book_view(book, row, &view)
    if code == MC_OK and not 0 <= asset < book.assets:
        code = MC_ECOLUMN
    if code == MC_OK and not isfinite(amount):
        code = MC_EFINITE
    if code != MC_OK:
        return code
    start, capacity = book.start[row], book.capacity[row]
    code = book_reserve(book, row, row_lacks(book, &view, asset), &view)
    if code == MC_OK:
        code = row_deposit(book, &view, asset, amount)
    return book_change(book, row, &view, code, start, capacity)


cdef int32_t row_orders(const mc_row* row) noexcept nogil:
    cdef int32_t i, found = 0
    for i in range(row.count):
        found += row.order_buy[i] != 0.0 or row.order_sell[i] != 0.0
    return found


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
    if not (0.0 <= buy <= amount_max() and 0.0 <= sell <= amount_max()):
        return MC_ERANGE
    if row_find(&view, column) < 0 and buy == 0.0 and sell == 0.0:
        return MC_OK
    code = book_reserve(book, row, row_lacks(book, &view, column), &view)
    if code != MC_OK:
        return code
    if view.order_buy == NULL:              # the first order of this row: what lies in its slots is stale
        view.order_buy = book.order_buy + book.start[row]
        view.order_sell = book.order_sell + book.start[row]
        for at in range(view.count):
            view.order_buy[at] = view.order_sell[at] = 0.0
    if row_find(&view, book.settle[column]) < 0:
        row_insert(book, &view, book.settle[column])
    at = row_find(&view, column)
    if at < 0:
        at = row_insert(book, &view, column)
    view.order_buy[at] = buy
    view.order_sell[at] = sell
    row_drop_empty(&view, at)
    book.count[row] = view.count
    book.orders[row] = row_orders(&view)
    return MC_OK


# A cash flow of every holder of a column: settle pays the position out, fund moves an amount per contract.  First a pass
# that only looks, so that a balance out of range refuses the whole: returns the holders, or minus one less the row.
# The pass that writes looks no more.  The settlement asset has its slot since the first trade: this has room always.
cdef int64_t book_flow(book_t* book, int32_t column, double value, int settled, int write) noexcept nogil:
    cdef int64_t row, holders = 0
    cdef int32_t at, cash
    cdef double total
    cdef mc_row view
    for row in range(book.rows_used):
        if book_view(book, row, &view) != MC_OK:
            continue
        at = row_find(&view, column)
        if at < 0 or (view.quantity[at] == 0.0 and not settled):
            continue
        cash = row_find(&view, book.settle[column])
        total = view.quantity[at] * value
        if settled and book.kind[column] != MC_OPTION:
            total -= view.entry[at]
        total += view.quantity[cash]
        if not write and not fabs(total) <= amount_max():
            return -1 - row
        holders += 1
        if write:
            view.quantity[cash] = total
            if settled:
                row_remove(&view, at)
                book.count[row] = view.count
                book.orders[row] = row_orders(&view) if view.order_buy != NULL else 0
    return holders


cdef void book_remap(book_t* book, const int32_t* column_to) noexcept nogil:
    # New column numbers, then each row sorted by the new ranks (insertion sort: rows are short and nearly sorted).
    cdef int64_t row
    cdef int32_t i, at, count, column
    cdef double quantity, entry, buy = 0.0, sell = 0.0
    cdef mc_row view
    for row in range(book.rows_used):
        if book_view(book, row, &view) != MC_OK:
            continue
        count = view.count
        view.count = 0
        for i in range(count):
            column = column_to[view.instrument[i]]
            quantity, entry = view.quantity[i], view.entry[i]
            if view.order_buy != NULL:
                buy, sell = view.order_buy[i], view.order_sell[i]
            at = row_insert(book, &view, column)
            view.quantity[at] = quantity
            view.entry[at] = entry
            if view.order_buy != NULL:
                view.order_buy[at] = buy
                view.order_sell[at] = sell


cdef void book_compact(book_t* book, const int64_t* order) noexcept nogil:
    # rows in the order of their slots, so that each moves towards the front
    cdef int64_t k, row, at = 0, capacity
    for k in range(book.rows_used):
        row = order[k]
        capacity = book.slots_first if book.slots_first > book.count[row] else book.count[row]
        capacity = capacity if capacity < book.capacity[row] else book.capacity[row]
        row_move(book, row, at, capacity)
        at += capacity
    book.slots_used = at


cdef int book_load(book_t* book, int64_t fresh, const int64_t* start, const int32_t* column, const double* quantity,
                   const double* price, int64_t* at) noexcept nogil:
    cdef int64_t first = book.rows_used, slots = book.slots_used, row, opened, i
    cdef int code = MC_OK
    for row in range(first, first + fresh):
        book.start[row] = book.slots_used
        book.capacity[row] = book.slots_first
        book.slots_used += book.slots_first
        book.rows_used += 1
        book.count[row] = book.orders[row] = 0
        book.parent[row] = -1
        book.initial_rate[row] = 0.0
        book.generation[row] += 1
        for i in range(start[row - first], start[row - first + 1]):
            if column[i] < book.assets:
                code = book_deposit(book, row, column[i], quantity[i])
            else:
                code = book_trade(book, row, column[i], quantity[i], price[i], 0.0)
            if code != MC_OK:
                at[0] = i
                for opened in range(first, book.rows_used):
                    book.generation[opened] -= 1
                book.rows_used = first
                book.slots_used = slots
                return code
        if book.count[row] > book.slots_first:      # the last row gives back what it does not need
            book.capacity[row] = book.count[row]
            book.slots_used = book.start[row] + book.count[row]
    return MC_OK


cdef void* book_array(object array, str name, object dtype, int64_t length) except NULL:
    # the data of a contiguous array, read-only ones included; length -1 takes any
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
        raise ShapeError(f"{name} must be a contiguous {np.dtype(dtype).name} array with one axis, "
                         f"had {getattr(array, 'dtype', type(array).__name__)}, shape {np.shape(array)}")
    if length >= 0 and array.shape[0] != length:
        raise ShapeError(f"{name} must have length {length}, had {array.shape[0]}")
    return cnp.PyArray_DATA(<cnp.ndarray>array)


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

    Notes
    -----
    One writer at a time; readers on other threads only while nobody writes.
    """

    def __cinit__(self, *args, **kwargs):
        self.arrays = {}
        self.free_rows = []

    def __init__(self, int64_t rows_max, int64_t slots_max, int32_t slots_first, int32_t assets, rank, settle, kind,
                 multiplier, inverse):
        if rows_max < 1 or slots_first < 2 or slots_max < slots_first:
            raise RangeError(f"rows_max must be at least 1, slots_first 2 and slots_max slots_first, "
                             f"were {rows_max}, {slots_first}, {slots_max}")
        if self.c.rows_max:
            raise RangeError("a book cannot be constructed twice")
        hold = {}
        for name, dtype, size in (("start", np.int64, rows_max), ("count", np.int32, rows_max),
                                  ("capacity", np.int32, rows_max), ("generation", np.int32, rows_max),
                                  ("orders", np.int32, rows_max),
                                  ("parent", np.int64, rows_max), ("initial_rate", np.float64, rows_max),
                                  ("instrument", np.int32, slots_max), ("quantity", np.float64, slots_max),
                                  ("entry", np.float64, slots_max)):
            hold[name] = np.zeros(size, dtype)
        self.set_columns(assets, rank, settle, kind, multiplier, inverse)
        self.arrays.update(hold)
        self.c.rows_max = rows_max
        self.c.slots_max = slots_max
        self.c.slots_first = slots_first
        self.c.start = <int64_t*>cnp.PyArray_DATA(hold["start"])
        self.c.count = <int32_t*>cnp.PyArray_DATA(hold["count"])
        self.c.capacity = <int32_t*>cnp.PyArray_DATA(hold["capacity"])
        self.c.orders = <int32_t*>cnp.PyArray_DATA(hold["orders"])
        self.c.generation = <int32_t*>cnp.PyArray_DATA(hold["generation"])
        self.c.parent = <int64_t*>cnp.PyArray_DATA(hold["parent"])
        self.c.initial_rate = <double*>cnp.PyArray_DATA(hold["initial_rate"])
        self.c.instrument = <int32_t*>cnp.PyArray_DATA(hold["instrument"])
        self.c.quantity = <double*>cnp.PyArray_DATA(hold["quantity"])
        self.c.entry = <double*>cnp.PyArray_DATA(hold["entry"])

    cdef int fail(self, int code, int64_t row, int32_t column) except -1:
        raise_code(code, f"row {row}, column {column}")

    def set_columns(self, int32_t assets, rank, settle, kind, multiplier, inverse):
        """Replace the column table (same meaning as in the constructor); only while no row is open: see `remap`."""
        if self.c.rows_used and (self.arrays["generation"][:self.c.rows_used] & 1).any():
            raise RangeError("columns must not be replaced while rows are open: remap renumbers what they hold")
        self.take_columns(assets, rank, settle, kind, multiplier, inverse)

    cdef int take_columns(self, int32_t assets, rank, settle, kind, multiplier, inverse) except -1:
        rank = np.array(rank, np.int32)
        columns = len(rank)
        table = {"rank": rank, "settle": np.array(settle, np.int32), "kind": np.array(kind, np.int32),
                 "multiplier": np.array(multiplier, np.float64), "inverse": np.array(inverse, np.uint8),
                 "retired": np.zeros(columns, np.uint8)}
        for name, array in table.items():
            if array.shape != (columns,):
                raise ShapeError(f"{name} must have shape ({columns},), had {array.shape}")
        own, settles, codes = np.arange(columns), table["settle"], table["kind"]
        if not 0 < assets <= columns or not ((settles >= 0) & (settles < assets)).all():
            raise RangeError(f"settle must name one of the {assets} asset columns")
        if not ((codes == MC_CASH) == (own < assets)).all() or not ((codes >= MC_CASH) & (codes <= MC_OPTION)).all():
            raise RangeError(f"kind must be {MC_CASH} in the {assets} asset columns, and a derivative in the others")
        if not (settles[:assets] == own[:assets]).all():
            raise RangeError("settle must be its own column for an asset")
        if not ((table["multiplier"] > 0.0) & (table["multiplier"] <= amount_max())).all():
            raise RangeError(f"multiplier must be above 0 and at most {amount_max():g}")
        self.arrays.update(table)
        self.c.columns = columns
        self.c.assets = assets
        self.c.rank = <const int32_t*>cnp.PyArray_DATA(table["rank"])
        self.c.settle = <const int32_t*>cnp.PyArray_DATA(table["settle"])
        self.c.kind = <const int32_t*>cnp.PyArray_DATA(table["kind"])
        self.c.multiplier = <const double*>cnp.PyArray_DATA(table["multiplier"])
        self.c.inverse = <const uint8_t*>cnp.PyArray_DATA(table["inverse"])
        self.c.retired = <uint8_t*>cnp.PyArray_DATA(table["retired"])
        return 0

    # ---- rows

    @property
    def rows_max(self):
        """Rows that the book has room for."""
        return self.c.rows_max

    @property
    def slots_max(self):
        """Slots that the book has room for."""
        return self.c.slots_max

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
        """Open an empty row; returns its number.

        `initial_rate` is 1 / chosen leverage, 0 for none; `parent` the account of an isolated row, -1 for none.
        """
        cdef int64_t row
        if not isfinite(initial_rate):
            raise NotFiniteError(f"initial_rate must be finite, was {initial_rate}")
        if initial_rate < 0.0:
            raise RangeError(f"initial_rate must be at least 0, was {initial_rate}")
        if parent != -1 and (not 0 <= parent < self.c.rows_used or not self.c.generation[parent] & 1):
            raise StaleAccount(f"parent must be -1 or an open row, was {parent}")
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
            self.c.count[row] = self.c.orders[row] = 0
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
        orders = [hold[name][part].copy() if view.order_buy != NULL else np.zeros(view.count)
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
            self.allot_orders()
            code = book_order(&self.c, row, column, buy, sell)
        if code != MC_OK:
            self.fail(code, row, column)

    cdef int64_t flow(self, list flows, int settled) except -1:
        # (column, value) each: all are looked at before the first is written
        cdef int64_t holders = 0, found
        cdef int32_t column
        cdef double value
        with cython.critical_section(self):
            for column, value in flows:
                with nogil:
                    found = book_flow(&self.c, column, value, settled, 0)
                if found < 0:
                    self.fail(MC_ERANGE, -1 - found, column)
            for column, value in flows:
                with nogil:
                    holders += book_flow(&self.c, column, value, settled, 1)
                if settled:
                    self.c.retired[column] = 1
        return holders

    def settle(self, int32_t column, double price):
        """Turn every position in a column into cash and retire the column; returns the holders.

        `price` is the settlement price of a future, the payoff per unit in the settlement asset of an option.  All or
        nothing: a balance that would leave its range refuses the whole.
        """
        return self.settle_all({column: price})

    def settle_all(self, prices):
        """Settle several columns, a mapping of column to price, all or none; returns the positions settled."""
        cdef int32_t column
        cdef double price
        cdef int code
        flows = []
        for column, price in prices.items():
            if not self.c.assets <= column < self.c.columns or self.c.retired[column]:
                self.fail(MC_ECOLUMN, -1, column)
            code = price_allowed(&self.c, column, price)
            if code != MC_OK:
                raise_code(code, f"column {column}, price {price}")
            flows.append((column, unit_value(&self.c, column, price)))
        return self.flow(flows, 1)

    def fund(self, int32_t column, double amount):
        """Charge every long `amount` of the settlement asset per contract and pay it to every short; returns holders.

        All or nothing, as `settle`.
        """
        return self.fund_all({column: amount})

    def fund_all(self, amounts):
        """Fund several columns, a mapping of column to amount per contract, all or none; returns the holders."""
        cdef int32_t column
        cdef double amount
        flows = []
        for column, amount in amounts.items():
            if not self.c.assets <= column < self.c.columns or self.c.retired[column]:
                self.fail(MC_ECOLUMN, -1, column)
            if not isfinite(amount):
                raise_code(MC_EFINITE, f"column {column}, amount {amount}")
            flows.append((column, -amount))
        return self.flow(flows, 0)

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
        """Renumber the columns of every position and take a new column table.

        column_to : int32, shape (old columns,); -1 for a column that goes, which nobody may hold.  A column that stays
        keeps its settlement asset, kind, multiplier, and whether it is settled.
        """
        mapping = np.array(column_to, np.int32)
        if mapping.shape != (self.c.columns,):
            raise ShapeError(f"column_to must have shape ({self.c.columns},), had {mapping.shape}")
        kept = np.flatnonzero(mapping >= 0)
        to = mapping[kept]
        if (to >= np.size(rank)).any() or len(np.unique(to)) != len(to):
            raise RangeError(f"column_to must name each of the {np.size(rank)} new columns at most once")
        old = {name: self.arrays[name] for name in ("settle", "kind", "multiplier", "inverse", "retired")}
        same = mapping[old["settle"][kept]] == np.asarray(settle)[to]
        for name, new in (("kind", kind), ("multiplier", multiplier), ("inverse", inverse)):
            same = same & (old[name][kept] == np.asarray(new)[to])
        with cython.critical_section(self):
            for column in np.flatnonzero(mapping < 0):
                if self.holders(column):
                    raise UnknownInstrument(f"column {column} is still held and must have a new column")
            for column in kept[~same]:
                if self.holders(column):
                    raise RangeError(f"column {column} is still held and must keep settle, kind, multiplier and inverse")
            self.take_columns(assets, rank, settle, kind, multiplier, inverse)
            self.arrays["retired"][to] = old["retired"][kept]
            book_remap(&self.c, <const int32_t*>cnp.PyArray_DATA(mapping))

    def load(self, start, column, quantity, price):
        """Open one row per interval of `start` and enter its trades and (cash columns) deposits; returns the first row.

        start : int64, shape (new rows + 1,), offsets into column (int32), quantity and price (float64).  All or
        nothing: on an error the rows opened by this call are gone again.
        """
        cdef const int64_t* s = <const int64_t*>book_array(start, "start", np.int64, -1)
        cdef int64_t fresh = start.shape[0] - 1, entries = s[fresh] if fresh >= 0 else -1
        if fresh < 0 or s[0] != 0 or (np.diff(start) < 0).any():
            raise ShapeError("start must begin with 0 and not decrease")
        cdef const int32_t* c = <const int32_t*>book_array(column, "column", np.int32, entries)
        cdef const double* q = <const double*>book_array(quantity, "quantity", np.float64, entries)
        cdef const double* p = <const double*>book_array(price, "price", np.float64, entries)
        cdef int64_t first = self.c.rows_used, slots = self.c.slots_used, at = -1
        cdef int code
        if first + fresh > self.c.rows_max or slots + fresh * self.c.slots_first > self.c.slots_max:
            raise CapacityError(f"accounts must stay within the {self.c.rows_max} rows and {self.c.slots_max} slots, "
                                f"{fresh} more do not fit")
        with cython.critical_section(self), nogil:
            code = book_load(&self.c, fresh, s, c, q, p, &at)
        if code != MC_OK:
            raise_code(code, f"entry {at}: column {c[at]}, quantity {q[at]}, price {p[at]}")
        return first

    def save(self):
        """Copies of everything that rows hold, for `restore`: a dict of arrays."""
        rows, slots, hold = self.c.rows_used, self.c.slots_used, self.arrays
        state = {name: hold[name][:rows].copy() for name in ROW_ARRAYS}
        state.update((name, hold[name][:slots].copy()) for name in SLOT_ARRAYS if name in hold)
        return state | {"retired": hold["retired"].copy(), "free_rows": np.array(self.free_rows, np.int64)}

    def restore(self, state):
        """Take the rows of a book with the same columns, as `save` gave them, in place of the rows here."""
        rows, slots = len(state["start"]), len(state["instrument"])
        if rows > self.c.rows_max or slots > self.c.slots_max:
            raise CapacityError(f"state must fit {self.c.rows_max} rows and {self.c.slots_max} slots, had {rows} and {slots}")
        for name, array in state.items():
            due = rows if name in ROW_ARRAYS else slots if name in SLOT_ARRAYS else None
            due = self.c.columns if name == "retired" else due
            if due is not None and np.shape(array) != (due,):
                raise ShapeError(f"state[{name!r}] must have shape ({due},), had {np.shape(array)}")
        start, count, capacity = (np.asarray(state[name], np.int64) for name in ("start", "count", "capacity"))
        instrument, free = np.asarray(state["instrument"]), np.asarray(state["free_rows"], np.int64)
        if not ((start >= 0) & (count >= 0) & (count <= capacity) & (count <= ROW_SLOTS_MAX)
                & (start + capacity <= slots)).all() or not ((free >= 0) & (free < rows)).all() or not (
                (instrument >= 0) & (instrument < self.c.columns)).all():
            raise RangeError("state must be what save gave, of a book with the same columns")
        with cython.critical_section(self):
            if "order_buy" in state:
                self.allot_orders()
            for name in (*ROW_ARRAYS, *SLOT_ARRAYS):
                if name in state:
                    self.arrays[name][:len(state[name])] = state[name]
            self.arrays["retired"][:] = state["retired"]
            self.free_rows = free.tolist()
            self.c.rows_used, self.c.slots_used = rows, slots

    cdef allot_orders(self):
        if self.c.order_buy == NULL:
            for name in ("order_buy", "order_sell"):
                self.arrays[name] = np.zeros(self.c.slots_max)
            self.c.order_sell = <double*>cnp.PyArray_DATA(self.arrays["order_sell"])
            self.c.order_buy = <double*>cnp.PyArray_DATA(self.arrays["order_buy"])

    def compact(self):
        """Move all rows together, so that the slots that grown rows left behind can be used again."""
        cdef cnp.ndarray order = np.argsort(self.arrays["start"][:self.c.rows_used], kind="stable").astype(np.int64)
        with cython.critical_section(self), nogil:
            book_compact(&self.c, <const int64_t*>cnp.PyArray_DATA(order))
