# Reductions of one P&L vector; callers hold valid pointers and n >= 1.

# Worst loss, 0 - min(pnl), and the first scenario that makes it in index[0] (NULL: not wanted).  A P&L that is not
# finite gives NaN and its own position.
cdef double risk_worst(const double* pnl, int n, int* index) noexcept nogil
