from margincore.kernels.book cimport Book, book_t
from margincore.kernels.types cimport (
    int32_t, int64_t, mc_amount, mc_asset, mc_column, mc_market, mc_result, mc_row, mc_stage, uint8_t,
)

cdef enum:
    SCENARIOS_MAX = 2048   # of one plan: the row loop keeps four vectors of them on the stack
    ASSETS_MAX = 64
    STAGES_MAX = 8

# One stage of a plan: a function, its parameters, and nothing else.
cdef struct plan_t:
    mc_stage stage[STAGES_MAX]
    const void* parameters[STAGES_MAX]
    int32_t stages

# Worst loss over scenarios, per offset set, with floors for short options.
cdef struct scan_t:
    double maintenance_ratio
    double initial_ratio
    double gain_kept       # share of a group's gain that offsets other groups of its set
    int32_t floors

# Charges per contract: short ones, or either side.
cdef struct charge_t:
    double maintenance_ratio
    double initial_ratio
    int32_t any_side

# Piecewise-linear maintenance: the largest of the lines rate * notional - amount; initial by leverage.
cdef struct tiers_t:
    const double* line     # [columns][tiers][4]: floor, rate, amount, initial rate; padded with (inf, 0, 0, 0)
    int32_t tiers
    int32_t on_entry       # notional from the entry value instead of the mark

cdef struct engine_t:
    book_t* book
    mc_market market
    plan_t plan

cdef void margin_row(const engine_t* engine, mc_row* row, mc_result* out, mc_amount* parts) noexcept nogil
cdef int margin_check(const engine_t* engine, int64_t row, mc_result* out) noexcept nogil
cdef int margin_what_if(const engine_t* engine, int64_t row, int32_t column, double quantity, double price,
                        double fee, mc_result* out) noexcept nogil

cdef class MarginBook(Book):
    cdef engine_t e
    cdef tuple stage_names
    cdef dict parameters
