# Distances and Mills ratios over a block of options, for kernels whose loops run better apart: the chain of one option
# is longer than what the processor looks ahead, and short loops overlap more options.  `fused` as in src/vmath.h, a
# constant.  Needs src/vmath.h, like `black`.

from libc.math cimport fabs
from libc.stdint cimport int64_t

from margincore.kernels.black cimport (
    vm_log_ratio_by, vm_log_ratio_usual_by, vm_mills_at_by, vm_mills_join_by, vm_mills_places_by, vm_mills_slope_at_by,
    vm_unusual,
)

cdef extern from *:
    """
    typedef double *restrict mc_out;
    typedef const double *restrict mc_in;
    """
    ctypedef double* out_t "mc_out"
    ctypedef const double* in_t "mc_in"

cdef enum:
    BLOCK = 128                          # options whose intermediate results stay in the first-level cache


cdef struct mills_t:                     # places and values of Mills ratios, vmath.h
    double up[BLOCK]
    double ip[BLOCK]
    double uq[BLOCK]
    double iq[BLOCK]
    double near[BLOCK]
    double beyond[BLOCK]
    double slope[BLOCK]
    double minus[BLOCK]
    double plus[BLOCK]
    double difference[BLOCK]


cdef inline int64_t usual_distances(int fused, in_t forward, in_t strike, out_t x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t unusual = 0
    for i in range(n):
        x[i] = fabs(vm_log_ratio_usual_by(fused, forward[i], strike[i]))
        unusual |= vm_unusual(forward[i]) | vm_unusual(strike[i])
    return unusual


# x = |ln(F / K)| of one option: a branch that is always taken, where selects would be waited for.
cdef inline double distance_of(int fused, double forward, double strike) noexcept nogil:
    if (vm_unusual(forward) | vm_unusual(strike)) < 0:
        return fabs(vm_log_ratio_by(fused, forward, strike))
    return fabs(vm_log_ratio_usual_by(fused, forward, strike))


# x = |ln(F / K)|
cdef inline void distances(int fused, in_t forward, in_t strike, out_t x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if usual_distances(fused, forward, strike, x, n) < 0:
        for i in range(n):
            x[i] = fabs(vm_log_ratio_by(fused, forward[i], strike[i]))


cdef inline void mills_places(int fused, in_t h, in_t t, out_t up, out_t ip, out_t uq, out_t iq,
                              Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double a, b, c, d
    for i in range(n):
        vm_mills_places_by(fused, h[i], t[i], &a, &b, &c, &d)
        up[i] = a
        ip[i] = b
        uq[i] = c
        iq[i] = d


cdef inline void mills_at(int fused, in_t u, in_t divisor, out_t value, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = vm_mills_at_by(fused, u[i], divisor[i])


cdef inline void mills_slopes(int fused, in_t u, in_t divisor, out_t slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        slope[i] = vm_mills_slope_at_by(fused, u[i], divisor[i])


cdef inline void mills_join(int fused, in_t h, in_t t, in_t near, in_t beyond, in_t slope, out_t minus, out_t plus,
                            out_t difference, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double a, b
    for i in range(n):
        difference[i] = vm_mills_join_by(fused, h[i], t[i], near[i], beyond[i], slope[i], &a, &b)
        minus[i] = a
        plus[i] = b


# `minus`, `plus` and `difference` of vm_mills_pair_by for n options, at most BLOCK.
cdef inline void mills_pairs(int fused, in_t h, in_t t, mills_t* m, Py_ssize_t n) noexcept nogil:
    mills_places(fused, h, t, m.up, m.ip, m.uq, m.iq, n)
    mills_at(fused, m.up, m.ip, m.near, n)
    mills_at(fused, m.uq, m.iq, m.beyond, n)
    mills_slopes(fused, m.up, m.ip, m.slope, n)
    mills_join(fused, h, t, m.near, m.beyond, m.slope, m.minus, m.plus, m.difference, n)
