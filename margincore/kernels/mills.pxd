# Distances and Mills ratios over a block of options, for kernels whose loops run better apart: the chain of one option
# is longer than what the processor looks ahead, and short loops overlap more options.  `fused` as in src/vmath.h, a
# constant.  Needs src/vmath.h, like `black`.

from libc.math cimport fabs
from libc.stdint cimport int64_t

from margincore.kernels.black cimport (
    vm_is_near, vm_log_ratio_by, vm_log_ratio_usual_by, vm_mills_at_by, vm_mills_place, vm_mills_series_by,
    vm_mills_slope_at_by, vm_unusual,
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


cdef struct mills_t:                     # Mills ratios, and what their stages need
    double minus[BLOCK]
    double plus[BLOCK]
    double difference[BLOCK]
    double place[BLOCK]
    double divisor[BLOCK]
    double value[BLOCK]
    double slope[BLOCK]
    double h[BLOCK]                      # the options of the other kind, gathered, and where they stand
    double t[BLOCK]
    double other_minus[BLOCK]
    double other_plus[BLOCK]
    double other_difference[BLOCK]
    int64_t near[BLOCK]
    Py_ssize_t index[BLOCK]


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


cdef inline void mills_places(in_t argument, out_t place, out_t divisor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double u, d
    for i in range(n):
        vm_mills_place(argument[i], &u, &d)
        place[i] = u
        divisor[i] = d


cdef inline void mills_at(int fused, in_t place, in_t divisor, out_t value, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        value[i] = vm_mills_at_by(fused, place[i], divisor[i])


cdef inline void mills_slopes(int fused, in_t place, in_t divisor, out_t slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        slope[i] = vm_mills_slope_at_by(fused, place[i], divisor[i])


cdef inline void mills_series(int fused, in_t h, in_t t, in_t value, in_t slope, out_t minus, out_t plus,
                              out_t difference, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef double a, b
    for i in range(n):
        difference[i] = vm_mills_series_by(fused, h[i], t[i], value[i], slope[i], &a, &b)
        minus[i] = a
        plus[i] = b


# The two kinds of vm_mills_pair_by, each for options that are all of it.
cdef inline void near_pairs(int fused, in_t h, in_t t, mills_t* m, out_t minus, out_t plus, out_t difference,
                            Py_ssize_t n) noexcept nogil:
    mills_places(h, m.place, m.divisor, n)
    mills_at(fused, m.place, m.divisor, m.value, n)
    mills_slopes(fused, m.place, m.divisor, m.slope, n)
    mills_series(fused, h, t, m.value, m.slope, minus, plus, difference, n)


cdef inline void far_pairs(int fused, in_t h, in_t t, mills_t* m, out_t minus, out_t plus, out_t difference,
                           Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        m.value[i] = fabs(h[i] - t[i])
        m.slope[i] = h[i] + t[i]
    mills_places(m.value, m.place, m.divisor, n)
    mills_at(fused, m.place, m.divisor, minus, n)
    mills_places(m.slope, m.place, m.divisor, n)
    mills_at(fused, m.place, m.divisor, plus, n)
    for i in range(n):
        difference[i] = minus[i] - plus[i]


# Which options are near (1 or 0), and how many.
cdef inline Py_ssize_t near_ones(in_t h, in_t t, int64_t* near, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef int64_t count = 0
    for i in range(n):
        near[i] = vm_is_near(h[i], t[i])
        count += near[i]
    return count


# `minus`, `plus` and `difference` of vm_mills_pair_by for n options, at most BLOCK: the kind that most of them are is
# evaluated for all in place, and the others are gathered, evaluated as the other kind, and put where they belong.
cdef inline void mills_pairs(int fused, in_t h, in_t t, mills_t* m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, k, others = 0, whole, near = near_ones(h, t, m.near, n)
    cdef int64_t mostly = 2 * near >= n
    if mostly:
        near_pairs(fused, h, t, m, m.minus, m.plus, m.difference, n)
    else:
        far_pairs(fused, h, t, m, m.minus, m.plus, m.difference, n)
    if near == 0 or near == n:
        return
    for i in range(n):
        m.index[others] = i
        others += mostly ^ m.near[i]
    whole = (others + 7) & ~7            # whole vectors: the last option again
    for i in range(others, whole):
        m.index[i] = m.index[others - 1]
    for i in range(whole):
        k = m.index[i]
        m.h[i] = h[k]
        m.t[i] = t[k]
    if mostly:
        far_pairs(fused, m.h, m.t, m, m.other_minus, m.other_plus, m.other_difference, whole)
    else:
        near_pairs(fused, m.h, m.t, m, m.other_minus, m.other_plus, m.other_difference, whole)
    for i in range(others):
        k = m.index[i]
        m.minus[k] = m.other_minus[i]
        m.plus[k] = m.other_plus[i]
        m.difference[k] = m.other_difference[i]
