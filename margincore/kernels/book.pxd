from margincore.kernels.types cimport int32_t, int64_t, mc_row, uint8_t

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

cdef int book_view(const book_t* book, int64_t row, mc_row* view) noexcept nogil
cdef int book_trade(book_t* book, int64_t row, int32_t column, double quantity, double price,
                    double fee) noexcept nogil
cdef int book_deposit(book_t* book, int64_t row, int32_t asset, double amount) noexcept nogil
cdef int row_trade(const book_t* book, mc_row* row, int32_t column, double quantity, double price,
                   double fee) noexcept nogil
cdef int row_deposit(const book_t* book, mc_row* row, int32_t asset, double amount) noexcept nogil
cdef double unit_value(const book_t* book, int32_t column, double price) noexcept nogil
cdef int32_t row_find(const mc_row* row, int32_t column) noexcept nogil

cdef class Book:
    cdef book_t c
    cdef dict arrays
    cdef list free_rows
    cdef int fail(self, int code, int64_t row, int32_t column) except -1
