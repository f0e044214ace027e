# Eight doubles that stay in registers: src/lanes.h, for the kernels of this project.
from libc.stdint cimport int32_t

cdef extern from "lanes.h" nogil:
    ctypedef struct lanes_t:
        pass
    lanes_t lanes_set(double x)
    lanes_t lanes_load(const double* p)
    void lanes_store(double* p, lanes_t a)
    lanes_t lanes_add(lanes_t a, lanes_t b)
    lanes_t lanes_sub(lanes_t a, lanes_t b)
    lanes_t lanes_mul(lanes_t a, lanes_t b)
    lanes_t lanes_least(lanes_t a, lanes_t b)
    lanes_t lanes_most(lanes_t a, lanes_t b)
    lanes_t lanes_kept(lanes_t a, int32_t same)
    lanes_t lanes_reached(lanes_t floor, lanes_t x, lanes_t value)
    double lanes_smallest(lanes_t a)
    double lanes_largest(lanes_t a)
    double lines_largest(const double* rate, const double* amount, double x)
