cimport numpy as cnp

from margincore.kernels.shortfall cimport shortfall_t
from margincore.kernels.types cimport int32_t, mc_market, mc_row, mc_stage

cdef enum:
    STAGES_MAX = 8
    PLAN_ANY = 0           # kinds of plan: those of one stage that margincore.kernels.quick knows, and all others
    PLAN_SCAN = 1          # worst loss, no floors
    PLAN_TIERS = 2         # at most eight tiers, notional from the mark

# One stage of a plan: a function, its parameters, and nothing else.
cdef struct plan_t:
    mc_stage stage[STAGES_MAX]
    const void* parameters[STAGES_MAX]
    int32_t stages
    int32_t kind

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
    const double* line     # [columns][2][width]: rates, amounts; padded with zeros
    const double* step     # [columns][2][width]: floors, initial rates; padded with (inf, 0)
    int32_t width          # tiers, a multiple of 8
    int32_t on_entry       # notional from the entry value instead of the mark

# The slots of a row that scenarios move and how much of each (row.asset_equity filled); returns their number.
cdef int32_t row_scanned(const mc_row* row, const mc_market* market, int32_t* slot, double* held) noexcept nogil

cdef cnp.ndarray aligned(object shape)

cdef class Plan:
    cdef plan_t c
    cdef readonly tuple names
    cdef dict memory
    cdef int32_t kind_of(self, str code, const void* parameters)
    cdef mc_stage resolve(self, void* memory, str code, numbers, table, int32_t columns,
                          int32_t assets) except NULL
    cdef int resolve_shortfall(self, shortfall_t* tail, str code, tuple numbers, table) except -1
    cdef int resolve_tiers(self, tiers_t* tiers, double on_entry, cnp.ndarray table, int32_t columns,
                           int32_t assets) except -1
