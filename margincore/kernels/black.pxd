# The vector mathematics and the Black-76 core as inline functions: other kernels put them into their own loops, where
# they vectorise.  Needs src/vmath.h, so it is for the kernels of this project; everyone else cimports `formula`.

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_exp_normal(double x, double low)
    double vm_expm1(double x)
    double vm_log(double x)
    double vm_log1p(double x)
    double vm_log_ratio(double a, double b)
    double vm_pow(double x, double y)
    double vm_normal_pdf(double x)
    double vm_normal_cdf(double x)
    double vm_normal_quantile(double p)
    double vm_mills(double a)
    double vm_mills_pair(double h, double t, double* minus, double* plus)
    double vm_otm_ratio(double distance, double deviation)


# Black-76 value of one unit, undiscounted: the out-of-the-money side, which does not cancel, plus the intrinsic value.
# `distance` = |ln(F / K)|, `deviation` = sigma sqrt(years); both can be shared over a grid.  NaN flows through.
cdef inline double black_value(double forward, double strike, double distance, double deviation,
                               double sign) noexcept nogil:
    cdef double intrinsic = sign * (forward - strike)
    cdef double low = forward if forward < strike else strike
    return low * vm_otm_ratio(distance, deviation) + (0.0 if intrinsic < 0.0 else intrinsic)
