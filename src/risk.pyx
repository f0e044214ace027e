"""Reductions of P&L vectors to one loss: worst loss.

A loss is positive, a gain negative: measures may be negative, margin models floor at zero.
"""

import numpy as np

cimport numpy as cnp
from libc.math cimport isfinite, NAN
from libc.stdint cimport int32_t

from margincore.errors import ShapeError

cnp.import_array()


cdef double risk_worst(const double* pnl, int n, int* index) noexcept nogil:
    # Eight lanes so that the loop vectorises; x - x is zero for every finite x and NaN otherwise.
    cdef double least[8]
    cdef double health[8]
    cdef double worst, sound = 0.0
    cdef int i, k, whole = n & ~7
    for k in range(8):
        least[k] = pnl[0]
        health[k] = 0.0
    for i in range(0, whole, 8):
        for k in range(8):
            least[k] = pnl[i + k] if pnl[i + k] < least[k] else least[k]
            health[k] += pnl[i + k] - pnl[i + k]
    worst = least[0]
    for k in range(8):
        worst = least[k] if least[k] < worst else worst
        sound += health[k]
    for i in range(whole, n):
        worst = pnl[i] if pnl[i] < worst else worst
        sound += pnl[i] - pnl[i]
    if not sound == 0.0:
        if index != NULL:
            i = 0
            while isfinite(pnl[i]):
                i += 1
            index[0] = i
        return NAN
    if index != NULL:
        i = 0
        while pnl[i] != worst:
            i += 1
        index[0] = i
    return 0.0 - worst


def worst_losses(const double[:, ::1] pnl not None, double[::1] out not None, int32_t[::1] scenario not None):
    """Fill `out` with the worst loss of every row and `scenario` with the first column that makes it.

    A row that holds a P&L that is not finite gives NaN and the position of that P&L.
    """
    cdef Py_ssize_t row, rows = pnl.shape[0]
    cdef int n = <int>pnl.shape[1]
    cdef int index
    if n < 1 or out.shape[0] != rows or scenario.shape[0] != rows:
        raise ShapeError(
            f"pnl must have scenarios and one output per row, had shape {rows, n} and outputs {out.shape[0]}, "
            f"{scenario.shape[0]}")
    with nogil:
        for row in range(rows):
            out[row] = risk_worst(&pnl[row, 0], n, &index)
            scenario[row] = index
