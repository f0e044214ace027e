# One likelihood and its scratch memory, shared with the kernel that maximises it.
from libc.stdint cimport int32_t

cdef enum:
    LANES = 32
    GROUP = 8          # blocks whose variances are multiplied before a logarithm is taken
    ORDER_MAX = 8      # lags of a fit
    THETA_MAX = 32     # 2 + 3 * 8 + 2, rounded up
    BACKCAST_LENGTH = 75
    GARCH = 0
    GJR = 1
    COMPONENT = 2
    EGARCH = 3
    NORMAL = 0
    STUDENT_T = 1
    SKEW_T = 2
    START_NUMBER = 0
    START_SAMPLE = 1
    START_BACKCAST = 2

cdef struct problem_t:
    Py_ssize_t n
    int32_t family
    int32_t law
    int32_t p
    int32_t q
    int32_t mean_free
    int32_t start_mode
    double start
    double low_share    # share of the variance that falls make, for the persistence of GJR
    double target       # variance that omega must imply; 0 where omega is free
    int32_t thetas
    int32_t coordinates
    int32_t evaluations
    const double* r
    double* e           # e, the features, h, level and adjoint have ORDER_MAX places before the first and after the last
    double* a
    double* b
    double* h
    double* level
    double* slope_h     # derivative of the loss to h, then its adjoint
    double* slope_e
    double* u
    double low[THETA_MAX]
    double high[THETA_MAX]

cdef double dot(const double* x, const double* y, Py_ssize_t n) noexcept nogil
cdef double total(const double* x, Py_ssize_t n) noexcept nogil
cdef double loss(problem_t* w, const double* theta, double* slope) noexcept nogil


cdef class Likelihood:
    cdef problem_t w
    cdef double* memory
    cdef double* scaled
    cdef int _bind(self, object returns, object theta) except -1
