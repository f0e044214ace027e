# Every C layout and code comes from margincore.h, the single source.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

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
        MC_VOL_UNKNOWN
        MC_VOL_OK
        MC_VOL_AT_INTRINSIC
        MC_VOL_BELOW_INTRINSIC
        MC_VOL_ABOVE_MAXIMUM
        MC_VOL_NOT_FINITE
        MC_VOL_EXPIRED
        MC_VOL_OUT_OF_RANGE
        MC_VOL_TOO_SMALL

    ctypedef struct mc_column:
        double value
        double owed
        double notional
        double charge_short
        double charge_any
        double floor_short
        int32_t settle
        int32_t group
        int32_t set
        int32_t kind

    ctypedef struct mc_asset:
        double spot
        double kept
        int32_t shocked

    ctypedef struct mc_market:
        const mc_column* column
        const mc_asset* asset
        const double* risk
        int32_t columns
        int32_t assets
        int32_t scenarios
        int32_t stride

    ctypedef struct mc_row:
        int32_t* instrument
        double* quantity
        double* entry
        double* order_buy
        double* order_sell
        double initial_rate
        const double* asset_equity
        int32_t count
        int32_t capacity
        int32_t maintenance_only

    ctypedef struct mc_amount:
        double maintenance
        double initial
        double orders

    ctypedef void (*mc_stage)(const mc_row* row, const mc_market* market, const void* parameters,
                              mc_amount* amount) noexcept nogil

    ctypedef struct mc_result:
        double equity
        double initial
        double maintenance
        int32_t status
