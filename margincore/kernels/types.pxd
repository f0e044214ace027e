# Every C layout and code comes from margincore.h, the single source.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cdef extern from "margincore.h" nogil:
    enum:
        MC_UNKNOWN
        MC_LIQUIDATION
        MC_MARGIN_CALL
        MC_HEALTHY
        MC_OK
        MC_EROW
        MC_ECOLUMN
        MC_ECAPACITY
        MC_EFINITE
        MC_ERANGE
        MC_ESHAPE
        MC_CASH
        MC_PERPETUAL
        MC_FUTURE
        MC_OPTION
