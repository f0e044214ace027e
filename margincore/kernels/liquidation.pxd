from margincore.kernels.types cimport int32_t

cdef enum:
    LINE = 4               # numbers of one tier: floor, rate, amount, one that is not read

    PRICE_UNKNOWN = 0      # an input is not finite or outside its range
    PRICE_FOUND = 1
    PRICE_NONE = 2         # no positive price liquidates
    PRICE_ALWAYS = 3       # every positive price does

# One position and the fund that carries it, settlement asset.
cdef struct position_t:
    double quantity            # signed; underlying, or face value where inverse
    double entry
    double fund                # balance plus profit of other positions
    double other_maintenance
    double fee                 # closing fee, rate on the value at the price sought
    int inverse

cdef int liquidation_price(const position_t* p, const double* line, int32_t tiers, int on_entry,
                           double* price) noexcept nogil
cdef int bankruptcy_price(const position_t* p, double* price) noexcept nogil
