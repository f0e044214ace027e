from margincore.kernels.row cimport book_t
from margincore.kernels.types cimport int32_t, int64_t

cdef int book_trade(book_t* book, int64_t row, int32_t column, double quantity, double price,
                    double fee) noexcept nogil
cdef int book_deposit(book_t* book, int64_t row, int32_t asset, double amount) noexcept nogil
cdef void* book_array(object array, str name, object dtype, int64_t length) except NULL

cdef class Book:
    cdef book_t c
    cdef dict arrays
    cdef list free_rows
    cdef int take_columns(self, int32_t assets, rank, settle, kind, multiplier, inverse) except -1
    cdef allot_orders(self)
    cdef int64_t flow(self, list flows, int settled) except -1
    cdef int fail(self, int code, int64_t row, int32_t column) except -1
