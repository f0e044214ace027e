cdef bint butterfly_clean(const double* p) noexcept nogil
cdef bint calendar_clean(const double* near, const double* far, double slack) noexcept nogil
