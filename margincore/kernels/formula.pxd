# Scalar formulas for other extensions.  Kernels of this project that need them inside a vector loop cimport `black`.

# Standard normal density, distribution and quantile.
cdef double normal_pdf(double x) noexcept nogil
cdef double normal_cdf(double x) noexcept nogil
cdef double normal_quantile(double p) noexcept nogil

# Black-76 value of one unit, undiscounted, in the unit of forward and strike; years of 365 days, sigma as a fraction a
# year.  Intrinsic value at sigma = 0 or years = 0; never negative; NaN when an input is NaN, sigma or years negative.
cdef double black76(double forward, double strike, double years, double sigma, int is_call) noexcept nogil

# The same for a coin-settled option, in coin: the value over the forward.
cdef double black76_inverse(double forward, double strike, double years, double sigma, int is_call) noexcept nogil
