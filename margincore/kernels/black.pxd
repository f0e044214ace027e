# The vector mathematics and the Black-76 core as inline functions: kernels put them into their own loops, where
# they vectorise.  Needs src/vmath.h, so it is for the kernels of this project; others cimport `formula`.

from libc.stdint cimport int64_t

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_exp_normal(double x, double low)
    double vm_density_unfused(double a)
    double vm_expm1(double x)
    double vm_log(double x)
    double vm_log1p(double x)
    double vm_log_ratio(double a, double b)
    double vm_log_ratio_by(int fused, double a, double b)
    double vm_pow(double x, double y)
    double vm_normal_pdf(double x)
    double vm_normal_cdf(double x)
    double vm_normal_quantile(double p)
    double vm_mills(double a)
    double vm_otm_ratio(double distance, double deviation)
    double vm_black_value(double forward, double strike, double distance, double deviation, double sign)
    double vm_black_shape(double distance, double deviation, double* t)
    const double VM_NEAR
    int64_t vm_bits(double x)
    int64_t vm_unusual(double x)
    double vm_log_ratio_roughly(double a, double b)
    double vm_log_ratio_usual_by(int fused, double a, double b)
    int vm_is_near(double h, double t)
    void vm_mills_place(double a, double* u, double* i)
    double vm_mills_at_by(int fused, double u, double i)
    double vm_mills_slope_at_by(int fused, double u, double i)
    void vm_mills_values_by(int fused, double h, double t, double* first, double* second)
    double vm_mills_join_by(int fused, double h, double t, double first, double second, double* minus, double* plus)
    double vm_mills_pair_by(int fused, double h, double t, double* minus, double* plus)
    double vm_mills_series_by(int fused, double h, double t, double m, double g, double* minus, double* plus)
    double vm_black_density(double h, double t)
    double vm_black_weights(double h, double t, double density, double difference, double minus, double plus,
                            double* w1, double* c1, double* w2)
