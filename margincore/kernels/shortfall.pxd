# Value at risk and expected shortfall of a row over the scenarios of the market: a stage of a margin plan.
from margincore.kernels.risk cimport tail_t
from margincore.kernels.row cimport ROW_SLOTS_MAX
from margincore.kernels.types cimport int32_t, mc_amount, mc_market, mc_row

cdef extern from "tail.h" nogil:
    ctypedef struct mc_held:
        const double* const* risk
        const double* held
        const int32_t* end
        int runs
        double gain_kept

    # The next address on a cache line: a vector across two of them costs two reads, and more when it is written.
    double* mc_on_line(double* at)

cdef enum:
    SCENARIOS_MAX = 10240       # of one plan: what the workspaces on the stack hold
    SCENARIOS_FEW = 2048        # up to which the small workspace serves
    WORKSPACE_FEW = 4 * SCENARIOS_FEW + 2048 + 8
    WORKSPACE_MAX = 4 * SCENARIOS_MAX + 2048 + 8

    UPPER = 0                   # which of the losses of margincore.kernels.risk a block asks for
    LOWER = 1
    INTERPOLATED = 2
    SHORTFALL = 3

    ALONE = 0                   # what the second block does
    AVERAGED = 1
    LARGER = 2

# Scenarios first .. first + count - 1, one measure over them.
cdef struct block_t:
    int32_t first
    int32_t count
    int32_t measure
    tail_t tail
    double level
    const double* probability   # [count]; NULL: equally likely

# max(loss of the base block, averaged with or raised to that of the stressed block, floors), per offset set.
cdef struct shortfall_t:
    double maintenance_ratio
    double initial_ratio
    double gain_kept            # share of a group's gain that offsets other groups of its set
    double floor_rate           # least requirement: share of the notional held
    double stressed_share       # of the stressed block where it is averaged
    int32_t floors
    int32_t combine
    block_t base
    block_t stressed

# The slots of a row that scenarios move, in row order, cut into sets, and sets into runs whose gains and losses net.
cdef struct held_t:
    const double* risk[ROW_SLOTS_MAX + 1]
    double held[ROW_SLOTS_MAX + 1]
    double floor[ROW_SLOTS_MAX + 1]     # by set
    int32_t slot[ROW_SLOTS_MAX + 1]
    int32_t run_end[ROW_SLOTS_MAX + 1]   # by run: slots up to here, counted from the first slot of its set
    int32_t set_name[ROW_SLOTS_MAX + 1]  # by set: its number in the market
    int32_t set_slot[ROW_SLOTS_MAX + 2]  # by set: its first slot
    int32_t set_run[ROW_SLOTS_MAX + 2]   # by set: its first run
    int32_t slots
    int32_t sets
    int32_t finite

cdef void held_list(const mc_row* row, const mc_market* market, const shortfall_t* p, held_t* list) noexcept nogil

# P&L of what is held over the scenarios of both blocks.
cdef void held_pnl(const mc_held* held, const shortfall_t* p, double* pnl) noexcept nogil

# Loss of one P&L vector over the scenarios of both blocks; scratch holds 3 n + 2048 doubles.
cdef double shortfall_loss(const shortfall_t* p, const double* pnl, double* scratch) noexcept nogil

# The same of what is held, whose P&L goes to the n doubles before the scratch in work.
cdef double held_loss(const shortfall_t* p, const mc_held* held, double* work) noexcept nogil

# The slots of one set of a list.
cdef mc_held set_of(const held_t* list, int32_t at, const shortfall_t* p) noexcept nogil

# At least zero and the floor; NaN of either comes through.
cdef double required(double loss, double floor) noexcept nogil

cdef void shortfall_stage(const mc_row* row, const mc_market* market, const void* parameters,
                          mc_amount* amount) noexcept nogil

# Fill the parameters from the numbers of a stage (see Plan) and probabilities, or raise.
cdef int shortfall_resolve(shortfall_t* p, int is_shortfall, numbers, const double* probability) except -1
