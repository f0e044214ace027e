# Reductions of one P&L vector to one loss (a loss is positive).  Callers hold valid pointers and n >= 1.

ctypedef struct tail_t:
    # Which order statistics a level asks for, counted from the worst; see risk_tail.
    double count      # (1 - level) n, freed of binary rounding: the scenarios in the tail
    int upper         # rank of the upper value at risk: ceil(count), at least 1
    int lower         # rank of the lower value at risk: floor(count) + 1, at most n
    int deeper        # ranks between which the interpolated one lies
    int shallower
    double share      # weight of the shallower one
    int ranks         # order statistics needed for all of the above and for the expected shortfall

ctypedef struct loss_t:
    double upper
    double lower
    double interpolated
    double shortfall

# Worst loss, 0 - min(pnl), and the first scenario that makes it in index[0] (NULL: not wanted).  A P&L that is not
# finite gives NaN and its own position.
cdef double risk_worst(const double* pnl, int n, int* index) noexcept nogil

# The rank rule for a level in (0, 1) and n scenarios.
cdef tail_t risk_tail(double level, int n) noexcept nogil

# Doubles of scratch that risk_lowest and risk_losses need for n scenarios.
cdef Py_ssize_t risk_scratch(int n) noexcept nogil

# The k lowest P&Ls in rising order, left in the first k places of scratch.  MC_OK or MC_EFINITE.
cdef int risk_lowest(const double* pnl, int n, int k, double* scratch) noexcept nogil

# Every value at risk and the expected shortfall of one vector.  MC_OK, or MC_EFINITE and NaN everywhere.
cdef int risk_losses(const double* pnl, int n, const tail_t* tail, double* scratch, loss_t* out) noexcept nogil

# Stable order of the scenarios, worst first; order and spare hold n each.  MC_OK or MC_EFINITE.
cdef int risk_order(const double* pnl, int n, int* order, int* spare) noexcept nogil

# The same losses with a probability per scenario (summing to 1), from the order above; interpolated is NaN.
cdef void risk_weighted(const double* pnl, const double* probability, int n, double level, const int* order,
                        loss_t* out) noexcept nogil

# The same bits without an order of all scenarios; scratch holds 3 n + 2048 doubles.  MC_OK, or MC_EFINITE and NaN.
cdef int risk_weighted_tail(const double* pnl, const double* probability, int n, double level, double* scratch,
                            loss_t* out) noexcept nogil

# sum of weight[i] times the (i + 1)-th worst loss; NaN when a P&L is not finite.
cdef double risk_spectral(const double* pnl, const double* weight, int n, double* scratch) noexcept nogil
