/* random.h: Philox 4x32-7 over eight counters at once, the same words at every vector width; sines for normals.
 *
 * The counter is (index low, index high, draw, stream), the key the seed: a word depends on nothing else, so draws can
 * be made in any order, on any thread, in any split.  Reference: Salmon, Moraes, Dror and Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC11, 2011; multipliers and Weyl constants of its section 4.2.
 *
 * A lane is 64 bits wide and only its low half counts: the widening product reads nothing else, so the high halves may
 * hold what is left over and nothing is ever masked.
 */
#ifndef MC_RANDOM_H
#define MC_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "vmath.h"

#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define PHILOX_WIDTH 8
typedef __m512i philox_t;
#define PHILOX_LOAD(p) _mm512_loadu_si512(p)
#define PHILOX_STORE(p, v) _mm512_storeu_si512(p, v)
#define PHILOX_SPREAD(x) _mm512_set1_epi64((long long)(x))
#define PHILOX_TIMES(a, b) _mm512_mul_epu32(a, b)
#define PHILOX_HIGH(a) _mm512_srli_epi64(a, 32)
#define PHILOX_UP(a) _mm512_slli_epi64(a, 32)
#define PHILOX_SIGN(a) _mm512_slli_epi64(a, 63)
#define PHILOX_XOR(a, b) _mm512_xor_si512(a, b)
#define PHILOX_OR(a, b) _mm512_or_si512(a, b)
#define PHILOX_AND(a, b) _mm512_and_si512(a, b)
#define PHILOX_DOWN(a, n) _mm512_srli_epi64(a, n)
#define PHILOX_REAL(p, a, shift) _mm512_storeu_pd(p, _mm512_sub_pd(_mm512_castsi512_pd(a), _mm512_set1_pd(shift)))
#define PHILOX_SIGNED(p, a, shift, s) \
    _mm512_storeu_pd(p, _mm512_xor_pd(_mm512_sub_pd(_mm512_castsi512_pd(a), _mm512_set1_pd(shift)), \
                                      _mm512_castsi512_pd(s)))
#elif defined(__AVX2__)
#define PHILOX_WIDTH 4
typedef __m256i philox_t;
#define PHILOX_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define PHILOX_STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define PHILOX_SPREAD(x) _mm256_set1_epi64x((long long)(x))
#define PHILOX_TIMES(a, b) _mm256_mul_epu32(a, b)
#define PHILOX_HIGH(a) _mm256_srli_epi64(a, 32)
#define PHILOX_UP(a) _mm256_slli_epi64(a, 32)
#define PHILOX_SIGN(a) _mm256_slli_epi64(a, 63)
#define PHILOX_XOR(a, b) _mm256_xor_si256(a, b)
#define PHILOX_OR(a, b) _mm256_or_si256(a, b)
#define PHILOX_AND(a, b) _mm256_and_si256(a, b)
#define PHILOX_DOWN(a, n) _mm256_srli_epi64(a, n)
#define PHILOX_REAL(p, a, shift) _mm256_storeu_pd(p, _mm256_sub_pd(_mm256_castsi256_pd(a), _mm256_set1_pd(shift)))
#define PHILOX_SIGNED(p, a, shift, s) \
    _mm256_storeu_pd(p, _mm256_xor_pd(_mm256_sub_pd(_mm256_castsi256_pd(a), _mm256_set1_pd(shift)), \
                                      _mm256_castsi256_pd(s)))
#elif defined(__SSE2__)
#define PHILOX_WIDTH 2
typedef __m128i philox_t;
#define PHILOX_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define PHILOX_STORE(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define PHILOX_SPREAD(x) _mm_set1_epi64x((long long)(x))
#define PHILOX_TIMES(a, b) _mm_mul_epu32(a, b)
#define PHILOX_HIGH(a) _mm_srli_epi64(a, 32)
#define PHILOX_UP(a) _mm_slli_epi64(a, 32)
#define PHILOX_SIGN(a) _mm_slli_epi64(a, 63)
#define PHILOX_XOR(a, b) _mm_xor_si128(a, b)
#define PHILOX_OR(a, b) _mm_or_si128(a, b)
#define PHILOX_AND(a, b) _mm_and_si128(a, b)
#define PHILOX_DOWN(a, n) _mm_srli_epi64(a, n)
#define PHILOX_REAL(p, a, shift) _mm_storeu_pd(p, _mm_sub_pd(_mm_castsi128_pd(a), _mm_set1_pd(shift)))
#define PHILOX_SIGNED(p, a, shift, s) \
    _mm_storeu_pd(p, _mm_xor_pd(_mm_sub_pd(_mm_castsi128_pd(a), _mm_set1_pd(shift)), _mm_castsi128_pd(s)))
#else
#define PHILOX_WIDTH 1
typedef uint64_t philox_t;
#define PHILOX_LOAD(p) (*(p))
#define PHILOX_STORE(p, v) (*(p) = (v))
#define PHILOX_SPREAD(x) ((uint64_t)(x))
#define PHILOX_TIMES(a, b) (((a) & 0xFFFFFFFFu) * ((b) & 0xFFFFFFFFu))
#define PHILOX_HIGH(a) ((a) >> 32)
#define PHILOX_UP(a) ((a) << 32)
#define PHILOX_SIGN(a) ((a) << 63)
#define PHILOX_XOR(a, b) ((a) ^ (b))
#define PHILOX_OR(a, b) ((a) | (b))
#define PHILOX_AND(a, b) ((a) & (b))
#define PHILOX_DOWN(a, n) ((a) >> (n))
static inline void philox_real(double *p, uint64_t a, double shift)
{
    memcpy(p, &a, 8);
    *p -= shift;
}
#define PHILOX_REAL(p, a, shift) philox_real(p, a, shift)
#define PHILOX_SIGNED(p, a, shift, s) (philox_real(p, a, shift), *(p) = (s) ? -*(p) : *(p))
#endif

#define PHILOX_ONE UINT64_C(0x3FF0000000000000)
#define PHILOX_LOW UINT64_C(0xFFFFFFFF)

static inline void philox_rounds(philox_t *a, philox_t *b, philox_t *c, philox_t *d, uint64_t seed)
{
    const philox_t m0 = PHILOX_SPREAD(0xD2511F53u), m1 = PHILOX_SPREAD(0xCD9E8D57u);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 7; round++) {
        const philox_t first = PHILOX_TIMES(*a, m0), second = PHILOX_TIMES(*c, m1);
        *a = PHILOX_XOR(PHILOX_XOR(PHILOX_HIGH(second), *b), PHILOX_SPREAD(k0));
        *c = PHILOX_XOR(PHILOX_XOR(PHILOX_HIGH(first), *d), PHILOX_SPREAD(k1));
        *b = second;
        *d = first;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* The four words of n counters, n a multiple of eight, each in the low half of 64 bits of out[word * n + i]. */
static inline void philox_words(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                uint64_t *out)
{
    const philox_t low = PHILOX_SPREAD(PHILOX_LOW);
    for (int i = 0; i < n; i += PHILOX_WIDTH) {
        philox_t a = PHILOX_LOAD(index + i), b = PHILOX_HIGH(a), c = PHILOX_SPREAD(draw), d = PHILOX_SPREAD(stream);
        philox_rounds(&a, &b, &c, &d, seed);
        PHILOX_STORE(out + i, PHILOX_AND(a, low));
        PHILOX_STORE(out + n + i, PHILOX_AND(b, low));
        PHILOX_STORE(out + 2 * n + i, PHILOX_AND(c, low));
        PHILOX_STORE(out + 3 * n + i, PHILOX_AND(d, low));
    }
}

/* For each of n counters u = +-(k + 1/2) 2^-52, k from words 0 (high) and 1, the sign from the last bit of word 3, and
 * v = (k + 1/2) 2^-52 - 1/2, k from words 2 and 3: what random_normal wants. */
static inline void philox_pairs(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                double *restrict u, double *restrict v)
{
    const philox_t low = PHILOX_SPREAD(PHILOX_LOW), one = PHILOX_SPREAD(PHILOX_ONE);
    for (int i = 0; i < n; i += PHILOX_WIDTH) {
        philox_t a = PHILOX_LOAD(index + i), b = PHILOX_HIGH(a), c = PHILOX_SPREAD(draw), d = PHILOX_SPREAD(stream);
        philox_rounds(&a, &b, &c, &d, seed);
        /* 1 + k 2^-52 less (1 - 2^-53), or less (3/2 - 2^-53), is exact. */
        PHILOX_SIGNED(u + i, PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_UP(a), PHILOX_AND(b, low)), 12), one),
                      1.0 - 0x1p-53, PHILOX_SIGN(d));
        PHILOX_REAL(v + i, PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_UP(c), PHILOX_AND(d, low)), 12), one),
                    1.5 - 0x1p-53);
    }
}

/* For each of n counters u and v as above, v of 31 bits of word 2, the sign its last, and w = (k + 1/2) 2^-32 of
 * word 3. */
static inline void philox_triples(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                  double *restrict u, double *restrict v, double *restrict w)
{
    const philox_t low = PHILOX_SPREAD(PHILOX_LOW), one = PHILOX_SPREAD(PHILOX_ONE);
    for (int i = 0; i < n; i += PHILOX_WIDTH) {
        philox_t a = PHILOX_LOAD(index + i), b = PHILOX_HIGH(a), c = PHILOX_SPREAD(draw), d = PHILOX_SPREAD(stream);
        philox_rounds(&a, &b, &c, &d, seed);
        PHILOX_SIGNED(u + i, PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_UP(a), PHILOX_AND(b, low)), 12), one),
                      1.0 - 0x1p-53, PHILOX_SIGN(c));
        PHILOX_REAL(v + i, PHILOX_OR(PHILOX_DOWN(PHILOX_UP(c), 12), one), 1.5 - 0x1p-33);
        PHILOX_REAL(w + i, PHILOX_OR(PHILOX_DOWN(PHILOX_UP(d), 12), one), 1.0 - 0x1p-33);
    }
}

/* ln x for a positive, finite, normal x, with 3 units in the last place: ln(1 + f) / f as a polynomial (Chebyshev, 2.5e-17
 * relative), because the square roots that follow leave no room on the divider.  Four chains; one would wait on itself. */
VM_INLINE double random_log(double x)
{
    double k, f = vm_split(x, &k) - 1.0, z = f * f, w = z * z;
    double a = 0.025489911800405576;
    double b = -0.05707612212605521;
    double c = 0.0652589937253437;
    double d = -0.059241499774533246;
    a = MC_FMA(a, w, 0.056666906356964954);
    b = MC_FMA(b, w, -0.07150262128235735);
    c = MC_FMA(c, w, 0.06684296177196371);
    d = MC_FMA(d, w, -0.061900598300090454);
    a = MC_FMA(a, w, 0.0769159854322757);
    b = MC_FMA(b, w, -0.10000018224285462);
    c = MC_FMA(c, w, 0.09090917973087682);
    d = MC_FMA(d, w, -0.08332850783237133);
    a = MC_FMA(a, w, 0.11111111418906434);
    b = MC_FMA(b, w, -0.1666666667138451);
    c = MC_FMA(c, w, 0.14285714273397784);
    d = MC_FMA(d, w, -0.12499999601468635);
    a = MC_FMA(a, w, 0.20000000000149037);
    b = MC_FMA(b, w, -0.5000000000000004);
    c = MC_FMA(c, w, 0.33333333333332743);
    d = MC_FMA(d, w, -0.24999999999974418);
    a = MC_FMA(a, w, 1.0);
    a = MC_FMA(b, f, a) + z * MC_FMA(d, f, c);
    return MC_FMA(k, VM_LN2_HI, MC_FMA(a, f, k * VM_LN2_LO));
}

/* Cosine and sine of pi v for |v| <= 1/2, through half the angle, which is at most pi/4 (Chebyshev, 5e-18 relative and
 * 4e-20); absolute error 3e-16. */
VM_INLINE double random_cosine(double v, double *sine)
{
    double z = v * v;
    double s = 5.633933781537854e-08;
    double c = -6.321256869628588e-09;
    s = MC_FMA(s, z, -3.59864335298231e-06);
    c = MC_FMA(c, z, 4.710609726757823e-07);
    s = MC_FMA(s, z, 0.0001604411507421909);
    c = MC_FMA(c, z, -2.520203677046026e-05);
    s = MC_FMA(s, z, -0.004681754132340976);
    c = MC_FMA(c, z, 0.0009192602741831558);
    s = MC_FMA(s, z, 0.07969262624604301);
    c = MC_FMA(c, z, -0.02086348076331121);
    s = MC_FMA(s, z, -0.6459640975062443);
    c = MC_FMA(c, z, 0.2536695079010467);
    s = MC_FMA(s, z, 1.5707963267948966);
    c = MC_FMA(c, z, -1.2337005501361697);
    c = MC_FMA(c, z, 1.0);
    s = s * v;
    *sine = (s + s) * c;
    return MC_FMA(c, c, -(s * s));
}

/* Two independent normals of the numbers of philox_pairs: sqrt(-2 variance ln |u|) times cosine and sine, over half a
 * turn, and the sign of u makes the turn whole (Box and Muller 1958). */
VM_INLINE double random_normal(double u, double v, double variance, double *other)
{
    double sine, cosine = random_cosine(v, &sine);
    double radius = copysign(sqrt(-2.0 * variance * random_log(fabs(u))), u);
    *other = radius * sine;
    return radius * cosine;
}

/* Ask for the memory of n doubles that will be written soon: the misses pass while the draws are made (5 ns a row of
 * ten measured). */
static inline void random_prefetch(const double *p, ptrdiff_t n)
{
#if defined(__GNUC__) || defined(__clang__)
    for (ptrdiff_t i = 0; i < n; i += 8)
        __builtin_prefetch(p + i, 1);
#endif
}

/* Eight rows of eight from eight vectors `stride` apart, rows `width` apart. */
static inline void random_turn(const double *restrict x, ptrdiff_t stride, double *restrict out, ptrdiff_t width)
{
#if defined(__AVX512F__)
    __m512d a[8], b[8];
    for (int k = 0; k < 8; k++)
        a[k] = _mm512_loadu_pd(x + k * stride);
    for (int k = 0; k < 8; k += 2) {
        b[k] = _mm512_unpacklo_pd(a[k], a[k + 1]);          /* rows 0 2 4 6, columns k and k + 1 */
        b[k + 1] = _mm512_unpackhi_pd(a[k], a[k + 1]);      /* rows 1 3 5 7 */
    }
    for (int k = 0; k < 2; k++) {
        a[k] = _mm512_shuffle_f64x2(b[k], b[k + 2], 0x88);          /* rows k, k + 4: columns 0-3 */
        a[k + 2] = _mm512_shuffle_f64x2(b[k], b[k + 2], 0xDD);      /* rows k + 2, k + 6 */
        a[k + 4] = _mm512_shuffle_f64x2(b[k + 4], b[k + 6], 0x88);  /* columns 4-7 */
        a[k + 6] = _mm512_shuffle_f64x2(b[k + 4], b[k + 6], 0xDD);
    }
    for (int k = 0; k < 4; k++) {
        _mm512_storeu_pd(out + k * width, _mm512_shuffle_f64x2(a[k], a[k + 4], 0x88));
        _mm512_storeu_pd(out + (k + 4) * width, _mm512_shuffle_f64x2(a[k], a[k + 4], 0xDD));
    }
#else
    for (int row = 0; row < 8; row++)
        for (int k = 0; k < 8; k++)
            out[row * width + k] = x[k * stride + row];
#endif
}

#endif
