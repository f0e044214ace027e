# The vector mathematics and the Black-76 core as inline functions: kernels put them into their own loops, where
# they vectorise.  Needs src/vmath.h, so it is for the kernels of this project; others cimport `formula`.

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
    double vm_black_value(double forward, double strike, double distance, double deviation, double sign)
    double vm_black_shape(double distance, double deviation, double* t)
    double vm_black_weights(double h, double t, double difference, double minus, double plus, double* density,
                            double* w1, double* c1, double* w2)
