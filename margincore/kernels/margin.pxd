from margincore.kernels.book cimport Book
from margincore.kernels.row cimport ROW_SLOTS_MAX, book_t
from margincore.kernels.stage cimport Plan, plan_t
from margincore.kernels.types cimport int32_t, int64_t, mc_market, mc_result, mc_row

cdef enum:
    ASSETS_MAX = 64

# A copy of a row, to be traded without being written.
cdef struct scratch_t:
    int32_t instrument[ROW_SLOTS_MAX]
    double quantity[ROW_SLOTS_MAX]
    double entry[ROW_SLOTS_MAX]
    double order_buy[ROW_SLOTS_MAX]
    double order_sell[ROW_SLOTS_MAX]

cdef struct engine_t:
    book_t* book
    mc_market market
    plan_t plan
    int64_t version         # of market and plan: counts every change of either

# A copy of a row after one trade, or deposit in a cash column; column -1 leaves it as it is.
cdef int margin_imagine(const engine_t* engine, int64_t row, int32_t column, double quantity, double price, double fee,
                        scratch_t* scratch, mc_row* copy) noexcept nogil
# Base equity of a row; asset_equity is filled for the assets that the row touches.
cdef double margin_equity(const mc_row* row, const mc_market* market, double* asset_equity) noexcept nogil
cdef int margin_check(const engine_t* engine, int64_t row, mc_result* out) noexcept nogil
cdef int margin_what_if(const engine_t* engine, int64_t row, int32_t column, double quantity, double price,
                        double fee, mc_result* out) noexcept nogil

cdef class MarginBook(Book):
    cdef engine_t e
    cdef Plan plan
    cdef int imagine(self, int64_t row, column, quantity, price, fee, int bounded, scratch_t* scratch,
                     mc_row* copy) except -1
    cdef int check_rows_exist(self, int64_t first, int64_t last) except -1
