/* random.h: Philox 4x32-7 over many counters at once, the same words at every vector width; sines for normals.
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
#define PHILOX_LEFT(a, n) _mm512_slli_epi64(a, n)
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
#define PHILOX_LEFT(a, n) _mm256_slli_epi64(a, n)
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
#define PHILOX_LEFT(a, n) _mm_slli_epi64(a, n)
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
#define PHILOX_LEFT(a, n) ((a) << (n))
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
#define PHILOX_HIGH_40 UINT64_C(0x000FFFFFFFFFF000)  /* of a fraction of 52 bits */
#define PHILOX_HIGH_23 UINT64_C(0x000FFFFFE0000000)

/* Vectors go side by side: the rounds of one are a chain, and the processor does not see the next one behind it. */
#if PHILOX_WIDTH == 4
#define PHILOX_SIDE 4
#else
#define PHILOX_SIDE 2
#endif
#define PHILOX_STEP (PHILOX_SIDE * PHILOX_WIDTH)
#if defined(__GNUC__) && !defined(__clang__)
#define PHILOX_EACH _Pragma("GCC unroll 4") for (int side = 0; side < PHILOX_SIDE; side++)
#else
#define PHILOX_EACH for (int side = 0; side < PHILOX_SIDE; side++)
#endif

typedef struct {
    philox_t a[PHILOX_SIDE], b[PHILOX_SIDE], c[PHILOX_SIDE], d[PHILOX_SIDE];
} philox_state;

/* The words of PHILOX_STEP counters, each in the low half of its lane. */
VM_INLINE philox_state philox_rounds(const uint64_t *index, uint64_t seed, uint32_t stream, uint32_t draw)
{
    const philox_t m0 = PHILOX_SPREAD(0xD2511F53u), m1 = PHILOX_SPREAD(0xCD9E8D57u);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    philox_state s;
    PHILOX_EACH {
        s.a[side] = PHILOX_LOAD(index + side * PHILOX_WIDTH);
        s.b[side] = PHILOX_HIGH(s.a[side]);
        s.c[side] = PHILOX_SPREAD(draw);
        s.d[side] = PHILOX_SPREAD(stream);
    }
    for (int round = 0; round < 7; round++) {
        PHILOX_EACH {
            const philox_t first = PHILOX_TIMES(s.a[side], m0), second = PHILOX_TIMES(s.c[side], m1);
            s.a[side] = PHILOX_XOR(PHILOX_XOR(PHILOX_HIGH(second), s.b[side]), PHILOX_SPREAD(k0));
            s.c[side] = PHILOX_XOR(PHILOX_XOR(PHILOX_HIGH(first), s.d[side]), PHILOX_SPREAD(k1));
            s.b[side] = second;
            s.d[side] = first;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return s;
}

/* The four words of n counters, n a multiple of sixteen, each in the low half of 64 bits of out[word * n + i]. */
static inline void philox_words(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                uint64_t *out)
{
    const philox_t low = PHILOX_SPREAD(PHILOX_LOW);
    for (int i = 0; i < n; i += PHILOX_STEP) {
        const philox_state s = philox_rounds(index + i, seed, stream, draw);
        PHILOX_EACH {
            uint64_t *at = out + i + side * PHILOX_WIDTH;
            PHILOX_STORE(at, PHILOX_AND(s.a[side], low));
            PHILOX_STORE(at + n, PHILOX_AND(s.b[side], low));
            PHILOX_STORE(at + 2 * n, PHILOX_AND(s.c[side], low));
            PHILOX_STORE(at + 3 * n, PHILOX_AND(s.d[side], low));
        }
    }
}

/* 1 + k 2^-52 of two words, k their first 52 bits. */
VM_INLINE philox_t philox_one_and(philox_t high, philox_t low)
{
    const philox_t word = PHILOX_AND(low, PHILOX_SPREAD(PHILOX_LOW));
    return PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_LEFT(high, 32), word), 12), PHILOX_SPREAD(PHILOX_ONE));
}

/* A pair of uniforms for two normals from two words: u = +-(k + 1/2) 2^-40, k their first 40 bits and the sign the last
 * one, and v = (k + 1/2) 2^-23 - 1/2, k the 23 bits between.  1 + k 2^-40 less (1 - 2^-41) is exact, and so is the
 * other. */
VM_INLINE void philox_pair(philox_t high, philox_t low, double *u, double *v)
{
    const philox_t one = PHILOX_SPREAD(PHILOX_ONE), keep = PHILOX_SPREAD(PHILOX_HIGH_40 | PHILOX_ONE);
    PHILOX_SIGNED(u, PHILOX_AND(philox_one_and(high, low), keep), 1.0 - 0x1p-41, PHILOX_LEFT(low, 63));
    PHILOX_REAL(v, PHILOX_OR(PHILOX_AND(PHILOX_LEFT(low, 28), PHILOX_SPREAD(PHILOX_HIGH_23)), one), 1.5 - 0x1p-24);
}

/* For each of n counters a pair from words 0 and 1, and another from words 2 and 3: four normals. */
static inline void philox_pairs(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                double *restrict u0, double *restrict v0, double *restrict u1, double *restrict v1)
{
    for (int i = 0; i < n; i += PHILOX_STEP) {
        const philox_state s = philox_rounds(index + i, seed, stream, draw);
        PHILOX_EACH {
            const int at = i + side * PHILOX_WIDTH;
            philox_pair(s.a[side], s.b[side], u0 + at, v0 + at);
            philox_pair(s.c[side], s.d[side], u1 + at, v1 + at);
        }
    }
}

/* For each of n counters a pair from words 0 and 1, and from words 2 and 3 two uniforms (k + 1/2) 2^-32. */
static inline void philox_twins(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                double *restrict u, double *restrict v, double *restrict w0, double *restrict w1)
{
    const philox_t one = PHILOX_SPREAD(PHILOX_ONE);
    for (int i = 0; i < n; i += PHILOX_STEP) {
        const philox_state s = philox_rounds(index + i, seed, stream, draw);
        PHILOX_EACH {
            const int at = i + side * PHILOX_WIDTH;
            philox_pair(s.a[side], s.b[side], u + at, v + at);
            PHILOX_REAL(w0 + at, PHILOX_OR(PHILOX_DOWN(PHILOX_LEFT(s.c[side], 32), 12), one), 1.0 - 0x1p-33);
            PHILOX_REAL(w1 + at, PHILOX_OR(PHILOX_DOWN(PHILOX_LEFT(s.d[side], 32), 12), one), 1.0 - 0x1p-33);
        }
    }
}

/* For each of n counters u = +-(k + 1/2) 2^-52, k from words 0 (high) and 1, and v = (k + 1/2) 2^-32 - 1/2, k word 2 but
 * its last bit, which is the sign of u; w = (k + 1/2) 2^-32, k word 3. */
static inline void philox_triples(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                  double *restrict u, double *restrict v, double *restrict w)
{
    const philox_t one = PHILOX_SPREAD(PHILOX_ONE);
    for (int i = 0; i < n; i += PHILOX_STEP) {
        const philox_state s = philox_rounds(index + i, seed, stream, draw);
        PHILOX_EACH {
            const int at = i + side * PHILOX_WIDTH;
            PHILOX_SIGNED(u + at, philox_one_and(s.a[side], s.b[side]), 1.0 - 0x1p-53, PHILOX_LEFT(s.c[side], 63));
            PHILOX_REAL(v + at, PHILOX_OR(PHILOX_DOWN(PHILOX_LEFT(s.c[side], 32), 12), one), 1.5 - 0x1p-33);
            PHILOX_REAL(w + at, PHILOX_OR(PHILOX_DOWN(PHILOX_LEFT(s.d[side], 32), 12), one), 1.0 - 0x1p-33);
        }
    }
}

/* ln x for a positive, finite, normal x: ln(1 + f) / f as a polynomial (Chebyshev, 5e-13 relative: the angle beside it
 * has 23 bits), because the square roots that follow leave no room on the divider.  Four chains; one would wait on
 * itself. */
VM_INLINE double random_log(double x)
{
    double k, f = vm_split(x, &k) - 1.0, z = f * f, w = z * z;
    double a = 0.08750405232693213;
    double b = -0.08467876411458124;
    double c = 0.04272800730435181;
    double d = -0.08317435210903283;
    a = MC_FMA(a, w, 0.11119413052789981);
    b = MC_FMA(b, w, -0.09987366169121653);
    c = MC_FMA(c, w, 0.08954162789286713);
    d = MC_FMA(d, w, -0.12501075399501757);
    a = MC_FMA(a, w, 0.20000003805512753);
    b = MC_FMA(b, w, -0.16666632233794296);
    c = MC_FMA(c, w, 0.1428545826094488);
    d = MC_FMA(d, w, -0.2500000043312815);
    a = MC_FMA(a, w, 1.0000000000002172);
    b = MC_FMA(b, w, -0.49999999998512556);
    c = MC_FMA(c, w, 0.3333333331141725);
    a = MC_FMA(MC_FMA(d, f, c), z, MC_FMA(b, f, a));
    return MC_FMA(k, 0.6931471805599453, a * f);
}

/* Cosine and sine of pi v for |v| <= 1/2, through half the angle, which is at most pi/4 (Chebyshev, 5e-15 relative and
 * 3e-13); absolute error 1e-12. */
VM_INLINE double random_cosine(double v, double *sine)
{
    double z = v * v;
    double s = -3.556386260704784e-06;
    double c = -2.4909228700967793e-05;
    s = MC_FMA(s, z, 0.00016042926504495616);
    c = MC_FMA(c, z, 0.0009191963343183554);
    s = MC_FMA(s, z, -0.004681752591458209);
    c = MC_FMA(c, z, -0.020863475058875536);
    s = MC_FMA(s, z, 0.07969262615574603);
    c = MC_FMA(c, z, 0.25366950772284663);
    s = MC_FMA(s, z, -0.645964097504309);
    c = MC_FMA(c, z, -1.233700550135279);
    s = MC_FMA(s, z, 1.57079632679489);
    c = MC_FMA(c, z, 1.0);
    s = s * v;
    *sine = (s + s) * c;
    return MC_FMA(c, c, -(s * s));
}

/* Ask for the memory of n doubles that will be written soon: the misses pass while the draws are made (a quarter of the
 * time of rows of ten that leave the second cache). */
static inline void random_prefetch(const double *p, ptrdiff_t n)
{
#if defined(__GNUC__) || defined(__clang__)
    for (ptrdiff_t i = 0; i < n; i += 8)
        __builtin_prefetch(p + i, 1);
#endif
}

/* Rows of eight or four from as many vectors `stride` apart, rows `width` apart. */
#if defined(__AVX512F__)
#define TURN_EIGHT
static inline void random_turn_eight(const double *restrict x, ptrdiff_t stride, double *restrict out, ptrdiff_t width)
{
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
}
#endif

static inline void random_turn_four(const double *restrict x, ptrdiff_t stride, double *restrict out, ptrdiff_t width)
{
#if defined(__AVX__)
    const __m256d a = _mm256_loadu_pd(x), b = _mm256_loadu_pd(x + stride);
    const __m256d c = _mm256_loadu_pd(x + 2 * stride), d = _mm256_loadu_pd(x + 3 * stride);
    const __m256d ab = _mm256_unpacklo_pd(a, b), cd = _mm256_unpacklo_pd(c, d);         /* rows 0 and 2 */
    const __m256d ba = _mm256_unpackhi_pd(a, b), dc = _mm256_unpackhi_pd(c, d);         /* rows 1 and 3 */
    _mm256_storeu_pd(out, _mm256_permute2f128_pd(ab, cd, 0x20));
    _mm256_storeu_pd(out + width, _mm256_permute2f128_pd(ba, dc, 0x20));
    _mm256_storeu_pd(out + 2 * width, _mm256_permute2f128_pd(ab, cd, 0x31));
    _mm256_storeu_pd(out + 3 * width, _mm256_permute2f128_pd(ba, dc, 0x31));
#else
    for (int row = 0; row < 4; row++)
        for (int k = 0; k < 4; k++)
            out[row * width + k] = x[k * stride + row];
#endif
}

/* `rows` rows of `width` from as many vectors `stride` apart, one after the other. */
static inline void random_turn(const double *restrict x, ptrdiff_t stride, double *restrict out, int rows, int width)
{
    int row = 0;
    for (; row + 8 <= rows; row += 8) {
        double *to = out + (ptrdiff_t)row * width;
        int k = 0;
#if defined(TURN_EIGHT)
        for (; k + 8 <= width; k += 8)
            random_turn_eight(x + k * stride + row, stride, to + k, width);
#endif
        for (; k + 4 <= width; k += 4) {
            random_turn_four(x + k * stride + row, stride, to + k, width);
            random_turn_four(x + k * stride + row + 4, stride, to + 4 * width + k, width);
        }
        for (; k < width; k++)
            for (int i = 0; i < 8; i++)
                to[i * width + k] = x[k * stride + row + i];
    }
    for (; row < rows; row++)
        for (int k = 0; k < width; k++)
            out[(ptrdiff_t)row * width + k] = x[k * stride + row];
}

#endif
