/* random.h: Philox 4x32-10 over eight counters at once, the same words at every vector width; sines for normals.
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
#define PHILOX_XOR(a, b) _mm512_xor_si512(a, b)
#define PHILOX_OR(a, b) _mm512_or_si512(a, b)
#define PHILOX_AND(a, b) _mm512_and_si512(a, b)
#define PHILOX_DOWN(a, n) _mm512_srli_epi64(a, n)
#define PHILOX_REAL(p, a, shift) _mm512_storeu_pd(p, _mm512_sub_pd(_mm512_castsi512_pd(a), _mm512_set1_pd(shift)))
#elif defined(__AVX2__)
#define PHILOX_WIDTH 4
typedef __m256i philox_t;
#define PHILOX_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define PHILOX_STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define PHILOX_SPREAD(x) _mm256_set1_epi64x((long long)(x))
#define PHILOX_TIMES(a, b) _mm256_mul_epu32(a, b)
#define PHILOX_HIGH(a) _mm256_srli_epi64(a, 32)
#define PHILOX_UP(a) _mm256_slli_epi64(a, 32)
#define PHILOX_XOR(a, b) _mm256_xor_si256(a, b)
#define PHILOX_OR(a, b) _mm256_or_si256(a, b)
#define PHILOX_AND(a, b) _mm256_and_si256(a, b)
#define PHILOX_DOWN(a, n) _mm256_srli_epi64(a, n)
#define PHILOX_REAL(p, a, shift) _mm256_storeu_pd(p, _mm256_sub_pd(_mm256_castsi256_pd(a), _mm256_set1_pd(shift)))
#elif defined(__SSE2__)
#define PHILOX_WIDTH 2
typedef __m128i philox_t;
#define PHILOX_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define PHILOX_STORE(p, v) _mm_storeu_si128((__m128i *)(p), v)
#define PHILOX_SPREAD(x) _mm_set1_epi64x((long long)(x))
#define PHILOX_TIMES(a, b) _mm_mul_epu32(a, b)
#define PHILOX_HIGH(a) _mm_srli_epi64(a, 32)
#define PHILOX_UP(a) _mm_slli_epi64(a, 32)
#define PHILOX_XOR(a, b) _mm_xor_si128(a, b)
#define PHILOX_OR(a, b) _mm_or_si128(a, b)
#define PHILOX_AND(a, b) _mm_and_si128(a, b)
#define PHILOX_DOWN(a, n) _mm_srli_epi64(a, n)
#define PHILOX_REAL(p, a, shift) _mm_storeu_pd(p, _mm_sub_pd(_mm_castsi128_pd(a), _mm_set1_pd(shift)))
#else
#define PHILOX_WIDTH 1
typedef uint64_t philox_t;
#define PHILOX_LOAD(p) (*(p))
#define PHILOX_STORE(p, v) (*(p) = (v))
#define PHILOX_SPREAD(x) ((uint64_t)(x))
#define PHILOX_TIMES(a, b) (((a) & 0xFFFFFFFFu) * ((b) & 0xFFFFFFFFu))
#define PHILOX_HIGH(a) ((a) >> 32)
#define PHILOX_UP(a) ((a) << 32)
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
#endif

#define PHILOX_ONE UINT64_C(0x3FF0000000000000)
#define PHILOX_LOW UINT64_C(0xFFFFFFFF)

static inline void philox_rounds(philox_t *a, philox_t *b, philox_t *c, philox_t *d, uint64_t seed)
{
    const philox_t m0 = PHILOX_SPREAD(0xD2511F53u), m1 = PHILOX_SPREAD(0xCD9E8D57u);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
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

/* Two uniforms of 52 bits for each of n counters: (k + 1/2) 2^-52, k from words 0 (high) and 1, and from 2 and 3. */
static inline void philox_pairs(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                double *restrict u, double *restrict v)
{
    const philox_t low = PHILOX_SPREAD(PHILOX_LOW), one = PHILOX_SPREAD(PHILOX_ONE);
    for (int i = 0; i < n; i += PHILOX_WIDTH) {
        philox_t a = PHILOX_LOAD(index + i), b = PHILOX_HIGH(a), c = PHILOX_SPREAD(draw), d = PHILOX_SPREAD(stream);
        philox_rounds(&a, &b, &c, &d, seed);
        /* 1 + k 2^-52 less (1 - 2^-53) is exact. */
        PHILOX_REAL(u + i, PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_UP(a), PHILOX_AND(b, low)), 12), one),
                    1.0 - 0x1p-53);
        PHILOX_REAL(v + i, PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_UP(c), PHILOX_AND(d, low)), 12), one),
                    1.0 - 0x1p-53);
    }
}

/* Three uniforms for each of n counters: 52 bits of words 0 and 1, then (k + 1/2) 2^-32 of word 2 and of word 3. */
static inline void philox_triples(const uint64_t *index, int n, uint64_t seed, uint32_t stream, uint32_t draw,
                                  double *restrict u, double *restrict v, double *restrict w)
{
    const philox_t low = PHILOX_SPREAD(PHILOX_LOW), one = PHILOX_SPREAD(PHILOX_ONE);
    for (int i = 0; i < n; i += PHILOX_WIDTH) {
        philox_t a = PHILOX_LOAD(index + i), b = PHILOX_HIGH(a), c = PHILOX_SPREAD(draw), d = PHILOX_SPREAD(stream);
        philox_rounds(&a, &b, &c, &d, seed);
        PHILOX_REAL(u + i, PHILOX_OR(PHILOX_DOWN(PHILOX_OR(PHILOX_UP(a), PHILOX_AND(b, low)), 12), one),
                    1.0 - 0x1p-53);
        PHILOX_REAL(v + i, PHILOX_OR(PHILOX_DOWN(PHILOX_UP(c), 12), one), 1.0 - 0x1p-33);
        PHILOX_REAL(w + i, PHILOX_OR(PHILOX_DOWN(PHILOX_UP(d), 12), one), 1.0 - 0x1p-33);
    }
}

/* ln x for a positive, finite, normal x: vm_log without its edges, the same bits. */
VM_INLINE double vm_log_inside(double x)
{
    double k, m = vm_split(x, &k);
    return vm_log_core(m - 1.0, k);
}

/* Cosine and sine of u turns, 2 pi u, for 0 <= u < 2^40: the nearest quarter turn is taken off exactly, and what is
 * left is at most pi/4 (Chebyshev, 5e-18 relative and 4e-20); 2 units in the last place in all. */
VM_INLINE double vm_cos_turns(double u, double *sine)
{
    double shifted = MC_FMA(4.0, u, VM_SHIFT);
    double r = MC_FMA(4.0, u, -(shifted - VM_SHIFT)), z = r * r;
    uint64_t quarter = (uint64_t)vm_bits(shifted);
    uint64_t swap = 0 - (quarter & 1);
    double s = 5.6339337815378543e-08;
    double c = -6.3212568696285881e-09;
    uint64_t a, b;
    s = MC_FMA(s, z, -3.5986433529823099e-06);
    c = MC_FMA(c, z, 4.7106097267578228e-07);
    s = MC_FMA(s, z, 0.00016044115074219091);
    c = MC_FMA(c, z, -2.520203677046026e-05);
    s = MC_FMA(s, z, -0.0046817541323409756);
    c = MC_FMA(c, z, 0.00091926027418315576);
    s = MC_FMA(s, z, 0.079692626246043008);
    c = MC_FMA(c, z, -0.02086348076331121);
    s = MC_FMA(s, z, -0.64596409750624428);
    c = MC_FMA(c, z, 0.2536695079010467);
    s = MC_FMA(s, z, 1.5707963267948966);
    c = MC_FMA(c, z, -1.2337005501361697);
    s = s * r;
    c = MC_FMA(c, z, 1.0);
    a = (uint64_t)vm_bits(c);
    b = (uint64_t)vm_bits(s);
    /* Quarters 0 to 3: (c, s), (-s, c), (-c, -s), (s, -c); masks vectorise where a choice of two may not. */
    *sine = vm_real((int64_t)(((a & swap) | (b & ~swap)) ^ ((quarter & 2) << 62)));
    return vm_real((int64_t)(((b & swap) | (a & ~swap)) ^ (((quarter + 1) & 2) << 62)));
}

#endif
