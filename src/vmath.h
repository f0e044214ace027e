/* vmath.h: branch-free vector mathematics, inline functions that compilers vectorise; the same bits everywhere.
 *
 * Every function is straight-line code: sums, products, explicit fused multiply-adds, selects and integer work on
 * the bits of a double.  Compiled with -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off a plain loop over
 * pointers becomes SSE2, AVX2 or AVX-512 code.  A fused multiply-add is one instruction at x86-64-v3, v4 and 64-bit
 * Arm; at the x86-64 baseline it is a call of fma(), slower but correctly rounded too, so the bits never differ.
 *
 * Errors, in units in the last place of the result, measured against 50 digits by tests/test_vmath.py:
 *   vm_exp 1, vm_expm1 2, vm_log 1, vm_log1p 1, vm_pow 2 (for |y ln x| <= 16), vm_normal_pdf 2, vm_normal_cdf 4,
 *   vm_mills 3 (a >= 0), vm_normal_quantile 4, vm_log_ratio 2.
 * NaN gives NaN; domains, infinities, zeros and subnormals behave as in C99 annex F unless a comment says otherwise.
 */
#ifndef MC_VMATH_H
#define MC_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define MC_FMA(a, b, c) __builtin_fma((a), (b), (c))
#define VM_INLINE static inline __attribute__((always_inline))
#else
#define MC_FMA(a, b, c) fma((a), (b), (c))
#define VM_INLINE static inline
#endif

/* a b + c with one rounding, or (fused = 0) with two: the same bits at every level too, and no call at the baseline,
 * for sums whose last rounding decides.  `fused` is a constant: the choice costs nothing. */
#define VM_SUM(fused, a, b, c) ((fused) ? MC_FMA((a), (b), (c)) : (a) * (b) + (c))

#define VM_SHIFT 6755399441055744.0               /* 1.5 * 2^52: adding it rounds to an integer in the low bits */
#define VM_LOG2E 1.4426950408889634074
#define VM_LN2_HI 6.93147180369123816490e-01      /* 33 bits, so that k * hi is exact */
#define VM_LN2_LO 1.90821492927058770002e-10
#define VM_SQRT_HALF 0.70710678118654752440
#define VM_SQRT_2PI 2.50662827463100050242
#define VM_INV_SQRT_2PI 0.39894228040143267794

VM_INLINE int64_t vm_bits(double x) { int64_t i; memcpy(&i, &x, 8); return i; }
VM_INLINE double vm_real(int64_t i) { double x; memcpy(&x, &i, 8); return x; }

/* 2^k for an integer k in [-1022, 1023] given as k + VM_SHIFT. */
VM_INLINE double vm_power_of_two(double shifted)
{
    return vm_real((int64_t)(((uint64_t)vm_bits(shifted) + 1023) << 52));
}

/* (e^r - 1 - r) / r^2 on |r| <= ln(2)/2: minimax, 3.6e-18 of e^r.  Even and odd terms apart halve the latency; without
 * fused operations, whose chains are half as long again, four chains take two products more. */
VM_INLINE double vm_exp_tail_by(int fused, double r)
{
    double z = r * r, z2 = z * z;
    double odd = 2.5000026600253846e-08;
    double even = 2.7630307441178945e-07;
    if (fused) {
        odd = MC_FMA(odd, z, 2.7557586785702914e-06);
        even = MC_FMA(even, z, 2.480149294607616e-05);
        odd = MC_FMA(odd, z, 1.9841269505784195e-04);
        even = MC_FMA(even, z, 1.3888888943763638e-03);
        odd = MC_FMA(odd, z, 8.33333333349498e-03);
        even = MC_FMA(even, z, 4.166666666652971e-02);
        odd = MC_FMA(odd, z, 1.666666666666641e-01);
        even = MC_FMA(even, z, 5.000000000000011e-01);
        return MC_FMA(odd, r, even);
    }
    double high = (odd * r + even) * z2 + ((2.7557586785702914e-06 * r + 2.480149294607616e-05) * z
                                           + (1.9841269505784195e-04 * r + 1.3888888943763638e-03));
    double low = (8.33333333349498e-03 * r + 4.166666666652971e-02) * z
                 + (1.666666666666641e-01 * r + 5.000000000000011e-01);
    return high * z2 + low;
}

/* e^r on |r| <= ln(2)/2: what rounding 1 + r loses goes into the small sum. */
VM_INLINE double vm_exp_core_by(int fused, double r)
{
    double one = 1.0 + r;
    return one + VM_SUM(fused, r * r, vm_exp_tail_by(fused, r), r - (one - 1.0));
}

/* exp(x + low) for a correction |low| <= ulp(x).  Two factors of 2^k reach the subnormals with one rounding. */
VM_INLINE double vm_exp_sum(double x, double low)
{
    double top = x > 710.0 ? 710.0 : x;
    double c = top < -746.0 ? -746.0 : top;
    double k = MC_FMA(c, VM_LOG2E, VM_SHIFT) - VM_SHIFT;
    double r = MC_FMA(-k, VM_LN2_LO, MC_FMA(-k, VM_LN2_HI, c)) + (c == x ? low : 0.0);
    double half = MC_FMA(k, 0.5, VM_SHIFT);
    double rest = k - (half - VM_SHIFT);
    double p = vm_exp_core_by(1, r);
    return p * vm_power_of_two(half) * vm_power_of_two(rest + VM_SHIFT);
}

VM_INLINE double vm_exp(double x) { return vm_exp_sum(x, 0.0); }

/* exp(c + low) for c in [-707, 709]: one factor of 2^k. */
VM_INLINE double vm_exp_scaled(double c, double low)
{
    double shifted = MC_FMA(c, VM_LOG2E, VM_SHIFT);
    double k = shifted - VM_SHIFT;
    double r = MC_FMA(-k, VM_LN2_LO, MC_FMA(-k, VM_LN2_HI, c)) + low;
    return vm_exp_core_by(1, r) * vm_power_of_two(shifted);
}

/* exp(x + low), exactly 0 below x = -707 and infinite above 709: no subnormal ever (they cost a hundred cycles each),
 * for the hot loops. */
VM_INLINE double vm_exp_normal(double x, double low)
{
    double top = x > 709.0 ? 709.0 : x;
    double p = vm_exp_scaled(top < -707.0 ? -707.0 : top, low);
    double floored = x < -707.0 ? 0.0 : p;
    return x > 709.0 ? HUGE_VAL : floored;
}

/* The same for x <= 0, which needs one bound: half of the selects, two thirds of the time. */
VM_INLINE double vm_exp_decay(double x, double low)
{
    double p = vm_exp_scaled(x < -707.0 ? -707.0 : x, low);
    return x < -707.0 ? 0.0 : p;
}

/* Standard normal density of a without fused operations: 20 binary digits after the point have an exact square, the rest
 * goes into the small sum, and so does what the constant lost (0.28 units).  Exactly 0 below 1e-307. */
VM_INLINE double vm_density_unfused(double a)
{
    double head = (a + 6442450944.0) - 6442450944.0;
    double rest = (a - head) * (a + head);
    double square = head * head;
    double shifted = square * (-0.5 * VM_LOG2E) + VM_SHIFT;
    double k = shifted - VM_SHIFT;
    double r = (-0.5 * square - k * VM_LN2_HI) + ((-0.5 * rest - 6.247337834861335e-17) - k * VM_LN2_LO);
    double p = vm_exp_core_by(0, r) * (vm_power_of_two(shifted) * VM_INV_SQRT_2PI);
    return square > 1414.0 ? 0.0 : p;
}

/* e^x - 1, accurate near zero. */
VM_INLINE double vm_expm1(double x)
{
    double top = x > 710.0 ? 710.0 : x;
    double c = top < -40.0 ? -40.0 : top;
    double k = MC_FMA(c, VM_LOG2E, VM_SHIFT) - VM_SHIFT;
    double r = MC_FMA(-k, VM_LN2_LO, MC_FMA(-k, VM_LN2_HI, c));
    double half = MC_FMA(k, 0.5, VM_SHIFT);
    double first = vm_power_of_two(half);
    double second = vm_power_of_two(k - (half - VM_SHIFT) + VM_SHIFT);
    double p = MC_FMA(r * r, vm_exp_tail_by(1, r), r);
    double scale = first * second;
    /* k = 1024 has no scale of its own: there the 1 no longer counts. */
    double usual = MC_FMA(scale, p, scale - 1.0);
    double large = (1.0 + p) * first * second;
    double y = k > 1000.0 ? large : usual;
    return x == 0.0 ? x : y;
}

/* ln(1 + f) + k ln 2 for 1 + f in [sqrt(1/2), sqrt(2)]: Tang's s = f / (2 + f), coefficients of fdlibm e_log.c
 * (Sun Microsystems, 1993), error 2^-58.45 before rounding. */
VM_INLINE double vm_log_series_by(int fused, double z)
{
    double t = 1.479819860511658591e-01;
    t = VM_SUM(fused, t, z, 1.531383769920937332e-01);
    t = VM_SUM(fused, t, z, 1.818357216161805012e-01);
    t = VM_SUM(fused, t, z, 2.222219843214978396e-01);
    t = VM_SUM(fused, t, z, 2.857142874366239149e-01);
    t = VM_SUM(fused, t, z, 3.999999999940941908e-01);
    t = VM_SUM(fused, t, z, 6.666666666666735130e-01);
    return t * z;
}

VM_INLINE double vm_log_core(double f, double k)
{
    double s = f / (2.0 + f);
    double series = vm_log_series_by(1, s * s);
    double half_square = 0.5 * f * f;
    double correction = MC_FMA(s, half_square + series, k * VM_LN2_LO);
    return MC_FMA(k, VM_LN2_HI, -((half_square - correction) - f));
}

/* The biased exponent that brings x into [sqrt(1/2), sqrt(2)), as a double (logical shift and the 2^52 trick:
 * AVX2 has neither an arithmetic 64-bit shift nor a conversion), and the scaled x. */
VM_INLINE double vm_split(double x, double *exponent)
{
    const uint64_t offset = UINT64_C(0x3FF0000000000000) - UINT64_C(0x3FE6A09E667F3BCD);
    uint64_t bits = (uint64_t)vm_bits(x) + offset;
    *exponent = vm_real((int64_t)((bits >> 52) | UINT64_C(0x4330000000000000))) - 4503599627371519.0;
    return vm_real((int64_t)((bits & UINT64_C(0x000FFFFFFFFFFFFF)) + UINT64_C(0x3FE6A09E667F3BCD)));
}

VM_INLINE double vm_log(double x)
{
    double tiny = x < 2.2250738585072014e-308 ? 18014398509481984.0 : 1.0;   /* subnormal: times 2^54 */
    double k, m = vm_split(x * tiny, &k);
    double y = vm_log_core(m - 1.0, tiny == 1.0 ? k : k - 54.0);
    double positive = x > 0.0 ? y : (x == 0.0 ? -HUGE_VAL : NAN);
    return x < HUGE_VAL ? positive : x;                                       /* +inf and NaN are their own answer */
}

/* ln(1 + x), accurate near zero: what rounding 1 + x loses comes back scaled. */
VM_INLINE double vm_log1p(double x)
{
    double u = 1.0 + x;
    double lost = x < 1.0 ? x - (u - 1.0) : 1.0 - (u - x);
    double k, m = vm_split(u, &k);
    double y = vm_log_core((m - 1.0) + lost * (m / u), k);
    double inside = x > -1.0 ? y : (x == -1.0 ? -HUGE_VAL : NAN);
    double large = x < HUGE_VAL ? inside : x;
    return x == 0.0 ? x : large;
}

/* Negative unless x lies in [2^-510, 2^511): positive, and its exponent has room.  vm_log_ratio_usual_by asks it of both
 * arguments; over many values the sign of these joined by "or" tells whether there is one that does not. */
VM_INLINE int64_t vm_unusual(double x)
{
    uint64_t bits = (uint64_t)vm_bits(x);
    return (int64_t)((bits - UINT64_C(0x2010000000000000)) | (UINT64_C(0x5FDFFFFFFFFFFFFF) - bits));
}

/* s and k with a / b = 2^k (1 + s) / (1 - s), |s| <= 0.201, for usual arguments: b 2^k is brought within a factor of 1.51
 * of a (the bits of a double are nearly a logarithm), where the difference is exact. */
VM_INLINE double vm_ratio_split(double a, double b, double *k)
{
    const uint64_t offset = UINT64_C(0x4008000000000000);                    /* 1024.5 units of the exponent */
    uint64_t gap = (uint64_t)vm_bits(a) - (uint64_t)vm_bits(b) + offset;
    double near = vm_real((int64_t)((uint64_t)vm_bits(b) + (gap & UINT64_C(0xFFF0000000000000))
                                    - UINT64_C(0x4000000000000000)));
    *k = vm_real((int64_t)((gap >> 52) | UINT64_C(0x4330000000000000))) - 4503599627371520.0;
    return (a - near) / (a + near);
}

/* ln(a / b) for usual arguments, 2e-7 of it: for seeds. */
VM_INLINE double vm_log_ratio_roughly(double a, double b)
{
    double k, s = vm_ratio_split(a, b, &k), z = s * s;
    return k * 0.69314718055994531 + s * (2.0 + z * (0.6664563499851943 + 0.4166352034378597 * z));
}

/* ln(a / b) + more ln 2 for usual arguments: Tang's series, minimax, 2^-56.7 of the result. */
VM_INLINE double vm_log_ratio_scaled_by(int fused, double a, double b, double more)
{
    double k, s = vm_ratio_split(a, b, &k);
    double z = s * s, square = z * z;
    double odd = VM_SUM(fused, 0.15248043107998782, square, 0.2222213586943041);
    double even = VM_SUM(fused, 0.15384833812245677, square, 0.18186463582098);
    odd = VM_SUM(fused, odd, square, 0.39999999995981084);
    even = VM_SUM(fused, even, square, 0.28571429427603884);
    even = VM_SUM(fused, even, square, 0.6666666666667305);
    k = k + more;
    return VM_SUM(fused, k, VM_LN2_HI,
                  VM_SUM(fused, 2.0, s, VM_SUM(fused, s, VM_SUM(fused, odd, z, even) * z, k * VM_LN2_LO)));
}

VM_INLINE double vm_log_ratio_usual_by(int fused, double a, double b)
{
    return vm_log_ratio_scaled_by(fused, a, b, 0.0);
}

/* ln(a / b): nothing is lost near a = b, where ln(a / b) as written loses everything.  The same bits where both are
 * usual; others are brought there by 2^600.  Zero, infinite, negative and NaN arguments give what the quotient gives. */
VM_INLINE double vm_log_ratio_by(int fused, double a, double b)
{
    double more_a = a < 0x1p-510 ? -600.0 : (a < 0x1p511 ? 0.0 : 600.0);
    double more_b = b < 0x1p-510 ? -600.0 : (b < 0x1p511 ? 0.0 : 600.0);
    double scaled_a = a * (more_a < 0.0 ? 0x1p600 : (more_a > 0.0 ? 0x1p-600 : 1.0));
    double scaled_b = b * (more_b < 0.0 ? 0x1p600 : (more_b > 0.0 ? 0x1p-600 : 1.0));
    double y = vm_log_ratio_scaled_by(fused, scaled_a, scaled_b, more_a - more_b);
    double difference = a - b;
    double least = a < b ? a : b, most = a < b ? b : a;
    double edge = difference * HUGE_VAL;
    double inside = most < HUGE_VAL ? y : edge;
    double positive = least > 0.0 ? inside : edge;
    double defined = least < 0.0 ? NAN : positive;
    return difference == difference ? defined : difference;
}

VM_INLINE double vm_log_ratio(double a, double b) { return vm_log_ratio_by(1, a, b); }

/* x^y for x >= 0 (a negative x gives NaN, unlike C): exp of a logarithm in two parts. */
VM_INLINE double vm_pow(double x, double y)
{
    double tiny = x < 2.2250738585072014e-308 ? 18014398509481984.0 : 1.0;
    double e, m = vm_split(x * tiny, &e);
    double k = tiny == 1.0 ? e : e - 54.0;
    double f = m - 1.0;
    double d = 2.0 + f;
    double s = f / d;
    double s_low = MC_FMA(-s, d, f) - s * (f - (d - 2.0));
    double low = MC_FMA(2.0, s_low / d, MC_FMA(s, vm_log_series_by(1, s * s), k * VM_LN2_LO));
    double main = k * VM_LN2_HI;
    double sum = main + 2.0 * s;
    double part = sum - main;
    double sum_low = (main - (sum - part)) + (2.0 * s - part) + low;
    double high = sum + sum_low;
    double rest = sum_low - (high - sum);
    double product = y * high;
    double product_low = MC_FMA(y, high, -product) + y * rest;
    double value = vm_exp_sum(product, product_low);
    double edge = x == 0.0 ? (y > 0.0 ? 0.0 : HUGE_VAL) : (y > 0.0 ? HUGE_VAL : 0.0);
    double usual = (x > 0.0 && x < HUGE_VAL) ? value : edge;
    double defined = (x >= 0.0 && y == y) ? usual : NAN;
    return (y == 0.0 || x == 1.0) ? 1.0 : defined;
}

/* Standard normal density; the rounding of x * x is put back into the exponent. */
VM_INLINE double vm_normal_pdf(double x)
{
    double a = x < 0.0 ? -x : x;
    double c = a > 40.0 ? 40.0 : a;
    double square = c * c;
    return VM_INV_SQRT_2PI * vm_exp_sum(-0.5 * square, -0.5 * MC_FMA(c, c, -square));
}

/* (a + d) M(a) for the Mills ratio M(a) = N(-a) / phi(a), a >= 0, d = 45/32, as a polynomial in
 * u = (a - 5.5) / (a + 5.5): Chebyshev, 8e-18 relative on [0, infinity].  The function stays between 1 and 1.77 and is
 * flat at both ends, so the sum is as good as its last rounding; a quotient of two polynomials in `a` collects one
 * rounding per degree (6 ulp measured). */
#define VM_MILLS_C 5.5
#define VM_MILLS_D 1.40625

VM_INLINE double vm_three_by(int fused, double x, double a, double b, double c)
{
    return VM_SUM(fused, VM_SUM(fused, a, x, b), x, c);
}

VM_INLINE double vm_mills_poly_by(int fused, double u)
{
    /* Eight chains of powers of u^8: a single one would wait on itself.  The largest term comes last,
     * what its rounding lost with the small ones. */
    double u2 = u * u, u4 = u2 * u2, u8 = u4 * u4;
    double c1 = vm_three_by(fused, u8, -5.266791748480224e-07, 0.002703264953290381, -0.3564946233799414);
    double c2 = vm_three_by(fused, u8, -7.657494436714502e-08, -0.0002592176698183068, 0.20371906334467893);
    double c3 = vm_three_by(fused, u8, 8.293121358781778e-08, -0.00019034618229048792, -0.0780095715601121);
    double c4 = vm_three_by(fused, u8, 5.534679134821584e-09, 9.2302730713839e-05, 0.0004726995905861058);
    double c5 = vm_three_by(fused, u8, -1.09770568641784e-08, -3.8461436778505924e-06, 0.0305987091791173);
    double c6 = vm_three_by(fused, u8, -2.951945091520308e-10, -1.059858238155296e-05, -0.03136517913862256);
    double c7 = vm_three_by(fused, u8, 8.902448745283711e-10, 2.7485547425774276e-06, 0.020157615613683733);
    double c0 = vm_three_by(fused, u8, 9.546070283068227e-07, -0.009144071131754451, 8.0e-17);
    double low = VM_SUM(fused, u2, VM_SUM(fused, u, c3, c2), VM_SUM(fused, u, c1, c0));
    double high = VM_SUM(fused, u2, VM_SUM(fused, u, c7, c6), VM_SUM(fused, u, c5, c4));
    return 1.2177306203849905 + VM_SUM(fused, u4, high, low);
}

/* (a + d)^2 G(a) for the slope of the Mills ratio, G(a) = -M'(a) = 1 - a M(a) > 0, likewise (8e-17): taken from M it
 * would lose a^2 units. */
VM_INLINE double vm_mills_slope_poly_by(int fused, double u)
{
    /* Eight chains of powers of u^8: a single one would wait on itself.  The largest term comes last,
     * what its rounding lost with the small ones. */
    double u2 = u * u, u4 = u2 * u2, u8 = u4 * u4;
    double c1 = vm_three_by(fused, u8, 3.7466169120442437e-06, -0.016673072261949234, -0.7034501407167085);
    double c2 = vm_three_by(fused, u8, -4.780270327916174e-06, 0.009446988096314913, 0.3221536704004009);
    double c3 = vm_three_by(fused, u8, -1.061192094568679e-07, -0.002385816347799512, 0.012598223431146898);
    double c4 = vm_three_by(fused, u8, 7.8560147067237e-07, -0.00037232679448783004, -0.18219537828704727);
    double c5 = vm_three_by(fused, u8, -2.0699349833423812e-08, 0.00048875068721812, 0.18857411047439526);
    double c6 = vm_three_by(fused, u8, -1.0877583425901717e-07, -9.304593155574804e-05, -0.11113470637443272);
    double c7 = vm_three_by(fused, u8, 2.995078179458357e-09, -5.153165208231635e-05, 0.0321263223423484);
    double c0 = VM_SUM(fused, VM_SUM(fused, 9.035625262856206e-09, u8, 2.5852056144128713e-05), u8 * u8,
                       VM_SUM(fused, 0.009390043679855641, u8, -8.9e-17));
    double low = VM_SUM(fused, u2, VM_SUM(fused, u, c3, c2), VM_SUM(fused, u, c1, c0));
    double high = VM_SUM(fused, u2, VM_SUM(fused, u, c7, c6), VM_SUM(fused, u, c5, c4));
    return 1.4415525288138744 + VM_SUM(fused, u4, high, low);
}

/* Mills ratio N(-a) / phi(a) for a >= 0, infinity included. */
VM_INLINE double vm_mills(double a)
{
    double u = 1.0 - (2.0 * VM_MILLS_C) / (a + VM_MILLS_C);
    return vm_mills_poly_by(1, u) / (a + VM_MILLS_D);
}

/* Where the Taylor series of vm_mills_join serves: sixteen terms, the next as a share of the last, reach full precision
 * and beyond little cancels.  From h = 4 on rounding grows with the powers of h t. */
#define VM_NEAR 0.4
#define VM_NEAR_FAR_OUT 0.25

VM_INLINE int vm_is_near(double h, double t) { return t < (h < 4.0 ? VM_NEAR : VM_NEAR_FAR_OUT); }

/* M(h - t) and M(h + t) for h, t >= 0, a negative h - t included when vm_is_near, else as M(|h - t|); and their
 * difference without cancellation.  Near, all three come from the Taylor series about h, whose odd part is a sum over
 * derivatives M'' = M - h G, M^(n+1) = h M^(n) + n M^(n-1) started from G itself: the difference keeps full relative
 * precision as t goes to zero.
 * vm_mills_place (the argument u of the polynomials and the divisor i of their values), vm_mills_at, vm_mills_slope_at
 * and vm_mills_series are the stages, for loops that run better apart: each chain is as long as two hundred instructions,
 * and the processor overlaps no more. */
VM_INLINE void vm_mills_place(double a, double *u, double *i)
{
    *u = 1.0 - 2.0 * VM_MILLS_C / (a + VM_MILLS_C);
    *i = 1.0 / (a + VM_MILLS_D);
}

VM_INLINE double vm_mills_at_by(int fused, double u, double i) { return vm_mills_poly_by(fused, u) * i; }

VM_INLINE double vm_mills_slope_at_by(int fused, double u, double i) { return vm_mills_slope_poly_by(fused, u) * (i * i); }

VM_INLINE double vm_mills_series_by(int fused, double h, double t, double m, double g, double *minus, double *plus)
{
    /* Derivatives of M at h, signs as they are (the first is -g), the n-th times t^n, or t^(n-1) for odd n.  In twos,
     * M^(n+1) = (h^2 + n) M^(n-1) + (n - 1) h M^(n-2), nothing waits for its neighbour, which halves the chain; the
     * factors of the recursion grow by additions. */
    double z = t * t, z2 = z + z, z4 = z2 + z2;
    double hz = h * z, hz2 = hz + hz;
    double a4 = VM_SUM(fused, h, hz, z4), a6 = a4 + z2, a8 = a6 + z2, a10 = a8 + z2, a12 = a10 + z2, a14 = a12 + z2;
    double b3 = hz + hz2, b5 = b3 + hz2, b7 = b5 + hz2, b9 = b7 + hz2, b11 = b9 + hz2, b13 = b11 + hz2;
    double c3 = z + z2, c5 = c3 + z2, c7 = c5 + z2, c9 = c7 + z2, c11 = c9 + z2, c13 = c11 + z2;
    double second = VM_SUM(fused, -h, g, m);
    double d2 = z * second;
    double d3 = z * VM_SUM(fused, h, second, -2.0 * g);
    double d4 = VM_SUM(fused, hz, d3, c3 * d2);
    double d5 = VM_SUM(fused, a4, d3, b3 * d2);
    double d6 = VM_SUM(fused, hz, d5, c5 * d4);
    double d7 = VM_SUM(fused, a6, d5, b5 * d4);
    double d8 = VM_SUM(fused, hz, d7, c7 * d6);
    double d9 = VM_SUM(fused, a8, d7, b7 * d6);
    double d10 = VM_SUM(fused, hz, d9, c9 * d8);
    double d11 = VM_SUM(fused, a10, d9, b9 * d8);
    double d12 = VM_SUM(fused, hz, d11, c11 * d10);
    double d13 = VM_SUM(fused, a12, d11, b11 * d10);
    double d14 = VM_SUM(fused, hz, d13, c13 * d12);
    double d15 = VM_SUM(fused, a14, d13, b13 * d12);
    double o1 = VM_SUM(fused, d5, 1.0 / 120.0, d3 * (1.0 / 6.0));
    double o2 = VM_SUM(fused, d9, 1.0 / 362880.0, d7 * (1.0 / 5040.0));
    double e1 = VM_SUM(fused, d4, 1.0 / 24.0, d2 * 0.5);
    double e2 = VM_SUM(fused, d8, 1.0 / 40320.0, d6 * (1.0 / 720.0));
    /* Each term joins as soon as it is known.  The one after the last as a share of it: at h = 0 M^(17) = 16 M^(15) and
     * M^(16) = 15 M^(14), further out they count less. */
    double last_odd = VM_SUM(fused, z, 1.0 / 22230464256000.0, 1.0 / 1307674368000.0);
    double last_even = VM_SUM(fused, z, 1.0 / 1394852659200.0, 1.0 / 87178291200.0);
    double odd = VM_SUM(fused, d13, 1.0 / 6227020800.0, VM_SUM(fused, d11, 1.0 / 39916800.0, o1 + o2));
    double even = VM_SUM(fused, d12, 1.0 / 479001600.0, VM_SUM(fused, d10, 1.0 / 3628800.0, e1 + e2));
    double rise = g - VM_SUM(fused, d15, last_odd, odd);
    even = m + VM_SUM(fused, d14, last_even, even);
    *minus = even + t * rise;
    *plus = even - t * rise;
    return (t + t) * rise;
}

/* The two halves of vm_mills_pair_by, for one option whose density is worked out in between: M(h) and G(h) when near, else
 * M(|h - t|) and M(h + t); then what follows from them. */
VM_INLINE void vm_mills_values_by(int fused, double h, double t, double *first, double *second)
{
    int near = vm_is_near(h, t);
    double u, i;
    vm_mills_place(near ? h : fabs(h - t), &u, &i);
    *first = vm_mills_at_by(fused, u, i);
    if (near) {
        *second = vm_mills_slope_at_by(fused, u, i);
    } else {
        vm_mills_place(h + t, &u, &i);
        *second = vm_mills_at_by(fused, u, i);
    }
}

VM_INLINE double vm_mills_join_by(int fused, double h, double t, double first, double second, double *minus, double *plus)
{
    if (vm_is_near(h, t))
        return vm_mills_series_by(fused, h, t, first, second, minus, plus);
    *minus = first;
    *plus = second;
    return first - second;
}

VM_INLINE double vm_mills_pair_by(int fused, double h, double t, double *minus, double *plus)
{
    double first, second;
    vm_mills_values_by(fused, h, t, &first, &second);
    return vm_mills_join_by(fused, h, t, first, second, minus, plus);
}

/* Black-76 value of the out-of-the-money option over the smaller of forward F and strike K, for x = |ln(F / K)| and
 * v = sigma sqrt(T): with h = x / v, t = v / 2 it is phi(h - t) (M(h - t) - M(h + t)), because
 * min(F, K) phi(h - t) = max(F, K) phi(h + t).  Beyond the forward's own side (h < t) the complement is taken.
 * 0 at v = 0 and where it falls below 1e-307; 1 at v = infinity; NaN for v < 0 or NaN.
 * vm_black_shape, vm_mills_pair_by, vm_black_density and vm_black_weights are its stages, for loops that run better apart;
 * besides the density phi(h - t) they give the weight w1 = N(t - h), its complement c1 and w2 = phi(h - t) M(h + t).  The value is
 * w1 - w2; with F < K, w1 is N(d1) and w2 F / K is N(d2); with F > K, w1 is N(-d2) and w2 K / F is N(-d1). */
VM_INLINE double vm_black_shape(double x, double v, double *t)
{
    double quotient = x == 0.0 ? 0.0 : x / v;
    double top = v > 120.0 ? 60.0 : 0.5 * v;
    *t = v >= 0.0 ? top : NAN;
    return quotient > 60.0 ? 60.0 : quotient;
}

VM_INLINE double vm_black_density(double h, double t)
{
    double a = h - t, square = a * a;
    return VM_INV_SQRT_2PI * vm_exp_decay(-0.5 * square, -0.5 * MC_FMA(a, a, -square));
}

VM_INLINE double vm_black_weights(double h, double t, double phi, double difference, double minus, double plus,
                                  double *w1, double *c1, double *w2)
{
    double tail = phi * difference;
    double body = MC_FMA(-phi, minus + plus, 1.0);
    double beyond = t >= VM_NEAR ? h - t : 1.0;  /* negative: take the complement; a comparison, not a flag, vectorises */
    *w1 = beyond < 0.0 ? MC_FMA(-phi, minus, 1.0) : phi * minus;
    *c1 = beyond < 0.0 ? phi * minus : MC_FMA(-phi, minus, 1.0);
    *w2 = phi * plus;
    return beyond < 0.0 ? body : tail;
}

VM_INLINE double vm_otm_ratio(double x, double v)
{
    double t, h = vm_black_shape(x, v, &t), minus, plus, w1, c1, w2;
    double difference = vm_mills_pair_by(1, h, t, &minus, &plus);
    return vm_black_weights(h, t, vm_black_density(h, t), difference, minus, plus, &w1, &c1, &w2);
}

/* Black-76 value of one unit, undiscounted: the out-of-the-money side, which does not cancel, plus the intrinsic value.
 * x = |ln(F / K)| and v = sigma sqrt(T) can be shared over a grid; sign +1 call, -1 put.  NaN flows through. */
VM_INLINE double vm_black_value(double forward, double strike, double x, double v, double sign)
{
    double intrinsic = sign * (forward - strike);
    double low = forward < strike ? forward : strike;
    return low * vm_otm_ratio(x, v) + (intrinsic < 0.0 ? 0.0 : intrinsic);
}

/* Black-76 value of one node of a grid, undiscounted, from x = ln(F / K) and 1 / v, v = sigma sqrt(T), both within
 * the bounds of vm_node_log and vm_node_deviation; `side` is 1 for a call, -1 for a put, which is a call whose F, K and
 * v are negative: its d1 and d2 then are the arguments of its own terms.  F phi(d1) = K phi(d2): one exponential serves
 * both terms; N(d) = [d >= 0] - sign(d) phi(d) M(|d|) needs no branch.  Error within 2e-15 of the larger of F and K,
 * which is what differences of such values need; vm_otm_ratio keeps relative precision at several times the work.
 * vm_node_distances, vm_node_tails and vm_node_price are its stages. */

/* Bounds of x and v that keep fourteen powers of d finite; they move no value by more than 1e-18 of F and K.  NaN
 * stays. */
VM_INLINE double vm_node_log(double x)
{
    double top = x > 1500.0 ? 1500.0 : x;
    return top < -1500.0 ? -1500.0 : top;
}

VM_INLINE double vm_node_deviation(double v)
{
    double top = v > 1e3 ? 1e3 : v;
    return top < 1e-18 ? 1e-18 : top;
}

VM_INLINE void vm_node_distances(double x, double inverse_v, double half_v, double *d1, double *d2)
{
    double middle = x * inverse_v;
    *d1 = middle + half_v;
    *d2 = middle - half_v;
}

/* Numerator and denominator of the Mills ratio for a grid of values: their quotient times phi(a) is within 3e-17 for
 * all a >= 0 (weighted minimax, Lawson), because far out only the product with the density counts.  All terms are
 * positive: nothing cancels.  A polynomial in (a - c) / (a + c) takes more operations, and a division as well. */
VM_INLINE double vm_node_above(double a)
{
    double p = MC_FMA(1.0000183553450492, a, 19.86177736698047);
    p = MC_FMA(p, a, 180.75144102716325);
    p = MC_FMA(p, a, 961.674561319706);
    p = MC_FMA(p, a, 3178.199408283754);
    p = MC_FMA(p, a, 6272.786322374573);
    return MC_FMA(p, a, 6244.106635663938);
}

VM_INLINE double vm_node_below(double a)
{
    double q = a + 19.862536918746944;
    q = MC_FMA(q, a, 181.73600891545476);
    q = MC_FMA(q, a, 981.7419748649744);
    q = MC_FMA(q, a, 3354.946214415579);
    q = MC_FMA(q, a, 7209.866167054856);
    q = MC_FMA(q, a, 8980.081104873389);
    return MC_FMA(q, a, 4982.076280602978);
}

/* m >= 0 with the sign of d: one operation less than copysign. */
VM_INLINE double vm_node_signed(double m, double d)
{
    return vm_real(vm_bits(m) ^ (vm_bits(d) & INT64_MIN));
}

/* sign(d2) M(|d2|) - sign(d1) M(|d1|) by one division. */
VM_INLINE double vm_node_mills(double d1, double d2)
{
    double a1 = fabs(d1), a2 = fabs(d2);
    double q1 = vm_node_below(a1), q2 = vm_node_below(a2);
    double first = vm_node_signed(vm_node_above(a1), d1) * q2;
    return MC_FMA(vm_node_signed(vm_node_above(a2), d2), q1, -first) / (q1 * q2);
}

/* phi(d), for |d| > 9 as at 9, where it is nothing beside F and K: 2^k times a polynomial of the rest of the exponent,
 * 2.2e-16 relative (minimax).  The square is not carried in two parts: phi falls faster than its error grows.  A NaN
 * may come out as a number, and is seen by vm_node_mills. */
VM_INLINE double vm_node_density(double d)
{
    double all = d * d, square = all > 81.0 ? 81.0 : all;
    double shifted = MC_FMA(square, -0.5 * VM_LOG2E, VM_SHIFT);
    double r = MC_FMA(square, -0.5 * VM_LOG2E, VM_SHIFT - shifted);
    double z = r * r;
    double even = 2.8074681456317355e-09;
    double odd = 4.0726174485089826e-08;
    even = MC_FMA(even, z, 5.272286667755622e-07);
    odd = MC_FMA(odd, z, 6.084930210781019e-06);
    even = MC_FMA(even, z, 6.145119368924825e-05);
    odd = MC_FMA(odd, z, 0.0005319320125568707);
    even = MC_FMA(even, z, 0.0038370783595547283);
    odd = MC_FMA(odd, z, 0.022142935682248115);
    even = MC_FMA(even, z, 0.09583651049912907);
    odd = MC_FMA(odd, z, 0.27652571686641);
    even = MC_FMA(even, z, 0.3989422804014327);
    uint64_t power = (uint64_t)vm_bits(shifted) << 52;
    return vm_real((int64_t)((uint64_t)vm_bits(MC_FMA(odd, r, even)) + power));
}

/* The value over F, less what it is far from the strike. */
VM_INLINE double vm_node_tails(double d1, double d2) { return vm_node_density(d1) * vm_node_mills(d1, d2); }

VM_INLINE double vm_node_price(double forward, double strike, double d1, double d2, double tails)
{
    double held = d1 < 0.0 ? 0.0 : forward;
    double owed = d2 < 0.0 ? 0.0 : strike;
    double price = MC_FMA(forward, tails, held - owed);
    return price < 0.0 ? 0.0 : price;
}

VM_INLINE double vm_black_node(double forward, double strike, double x, double inverse_v, double side)
{
    double d1, d2;
    vm_node_distances(x, side * inverse_v, 0.5 / (side * inverse_v), &d1, &d2);
    return vm_node_price(side * forward, side * strike, d1, d2, vm_node_tails(d1, d2));
}

/* Standard normal distribution: the tail is phi(a) times the Mills ratio, the other side its complement. */
VM_INLINE double vm_normal_cdf(double x)
{
    double a = x < 0.0 ? -x : x;
    double c = a > 40.0 ? 40.0 : a;
    double product = vm_normal_pdf(c) * vm_mills(c);
    double tail = product > 0.5 ? 0.5 : product;                 /* exactly a half at zero */
    return x < 0.0 ? tail : 1.0 - tail;
}

#define VM_PICK(a, b, c) (centre ? (a) : (near ? (b) : (c)))

/* Standard normal quantile, algorithm AS 241 (PPND16), M. J. Wichura, Applied Statistics 37 (1988) 477-484.
 * -inf at 0, +inf at 1, NaN outside. */
VM_INLINE double vm_normal_quantile(double p)
{
    double q = p - 0.5;
    int centre = fabs(q) <= 0.425;
    double side = q < 0.0 ? p : 1.0 - p;
    double r = sqrt(-vm_log(centre ? 0.25 : side));
    int near = r <= 5.0;
    double t = centre ? MC_FMA(-q, q, 0.180625) : (near ? r - 1.6 : r - 5.0);
    double n, d, x;
    n = VM_PICK(2509.0809287301226727, 7.7454501427834140764e-4, 2.01033439929228813265e-7);
    n = MC_FMA(n, t, VM_PICK(33430.575583588128105, 0.0227238449892691845833, 2.71155556874348757815e-5));
    n = MC_FMA(n, t, VM_PICK(67265.770927008700853, 0.24178072517745061177, 0.0012426609473880784386));
    n = MC_FMA(n, t, VM_PICK(45921.953931549871457, 1.27045825245236838258, 0.026532189526576123093));
    n = MC_FMA(n, t, VM_PICK(13731.693765509461125, 3.64784832476320460504, 0.29656057182850489123));
    n = MC_FMA(n, t, VM_PICK(1971.5909503065514427, 5.7694972214606914055, 1.7848265399172913358));
    n = MC_FMA(n, t, VM_PICK(133.14166789178437745, 4.6303378461565452959, 5.4637849111641143699));
    n = MC_FMA(n, t, VM_PICK(3.387132872796366608, 1.42343711074968357734, 6.6579046435011037772));
    d = VM_PICK(5226.495278852545925, 1.05075007164441684324e-9, 2.04426310338993978564e-15);
    d = MC_FMA(d, t, VM_PICK(28729.085735721942674, 5.475938084995344946e-4, 1.4215117583164458887e-7));
    d = MC_FMA(d, t, VM_PICK(39307.89580009271061, 0.0151986665636164571966, 1.8463183175100546818e-5));
    d = MC_FMA(d, t, VM_PICK(21213.794301586595867, 0.14810397642748007459, 7.868691311456132591e-4));
    d = MC_FMA(d, t, VM_PICK(5394.1960214247511077, 0.68976733498510000455, 0.0148753612908506148525));
    d = MC_FMA(d, t, VM_PICK(687.1870074920579083, 1.6763848301838038494, 0.13692988092273580531));
    d = MC_FMA(d, t, VM_PICK(42.313330701600911252, 2.05319162663775882187, 0.59983220655588793769));
    d = MC_FMA(d, t, 1.0);
    x = n / d;
    x = centre ? q * x : (q < 0.0 ? -x : x);
    x = p == 0.0 ? -HUGE_VAL : (p == 1.0 ? HUGE_VAL : x);
    return (p >= 0.0 && p <= 1.0) ? x : NAN;
}

#undef VM_PICK

#endif
