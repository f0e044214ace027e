/* lanes.h: eight doubles that stay in registers: one of AVX-512, two of AVX, four of SSE2, or a plain array.
 *
 * Every operation acts on each lane alone, so all widths give the same bits.  lanes_least and lanes_most return their
 * second operand when the comparison is false, as the instructions do: a NaN there comes through.
 */
#ifndef MC_LANES_H
#define MC_LANES_H

#include <stdint.h>

#if defined(__AVX512F__) || defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES_PARTS 1
#define LANES_WIDTH 8
typedef __m512d lanes_part;
#define part_set _mm512_set1_pd
#define part_load _mm512_loadu_pd
#define part_store _mm512_storeu_pd
#define part_add _mm512_add_pd
#define part_sub _mm512_sub_pd
#define part_mul _mm512_mul_pd
#define part_least _mm512_min_pd
#define part_most _mm512_max_pd
#define part_and(x, m) \
    _mm512_castsi512_pd(_mm512_and_si512(_mm512_castpd_si512(x), _mm512_castpd_si512(m)))
#define part_reached(floor, x) _mm512_castsi512_pd(_mm512_maskz_set1_epi64( \
    _mm512_cmp_pd_mask(floor, x, _CMP_LE_OQ), -1))
#elif defined(__AVX__)
#define LANES_PARTS 2
#define LANES_WIDTH 4
typedef __m256d lanes_part;
#define part_set _mm256_set1_pd
#define part_load _mm256_loadu_pd
#define part_store _mm256_storeu_pd
#define part_add _mm256_add_pd
#define part_sub _mm256_sub_pd
#define part_mul _mm256_mul_pd
#define part_least _mm256_min_pd
#define part_most _mm256_max_pd
#define part_and _mm256_and_pd
#define part_reached(floor, x) _mm256_cmp_pd(floor, x, _CMP_LE_OQ)
#elif defined(__SSE2__)
#define LANES_PARTS 4
#define LANES_WIDTH 2
typedef __m128d lanes_part;
#define part_set _mm_set1_pd
#define part_load _mm_loadu_pd
#define part_store _mm_storeu_pd
#define part_add _mm_add_pd
#define part_sub _mm_sub_pd
#define part_mul _mm_mul_pd
#define part_least _mm_min_pd
#define part_most _mm_max_pd
#define part_and _mm_and_pd
#define part_reached(floor, x) _mm_cmple_pd(floor, x)
#else
#define LANES_PARTS 8
#define LANES_WIDTH 1
typedef double lanes_part;
#define part_set(x) (x)
#define part_load(p) (*(p))
#define part_store(p, x) (*(p) = (x))
#define part_add(a, b) ((a) + (b))
#define part_sub(a, b) ((a) - (b))
#define part_mul(a, b) ((a) * (b))
#define part_least(a, b) ((a) < (b) ? (a) : (b))
#define part_most(a, b) ((a) > (b) ? (a) : (b))
#define part_and(x, m) ((m) != 0.0 ? (x) : 0.0)
#define part_reached(floor, x) ((floor) <= (x) ? 1.0 : 0.0)
#endif

typedef struct {
    lanes_part part[LANES_PARTS];
} lanes_t;

/* The parts are few and the loops unroll at once, so that the struct lives in registers. */
#if defined(__GNUC__) && !defined(__clang__)
#define LANES_EACH _Pragma("GCC unroll 8") for (int i = 0; i < LANES_PARTS; i++)
#else
#define LANES_EACH for (int i = 0; i < LANES_PARTS; i++)
#endif

static inline lanes_t lanes_set(double x) {
    lanes_t r;
    LANES_EACH r.part[i] = part_set(x);
    return r;
}

static inline lanes_t lanes_load(const double *p) {
    lanes_t r;
    LANES_EACH r.part[i] = part_load(p + i * LANES_WIDTH);
    return r;
}

static inline void lanes_store(double *p, lanes_t a) {
    LANES_EACH part_store(p + i * LANES_WIDTH, a.part[i]);
}

static inline lanes_t lanes_add(lanes_t a, lanes_t b) {
    LANES_EACH a.part[i] = part_add(a.part[i], b.part[i]);
    return a;
}

static inline lanes_t lanes_sub(lanes_t a, lanes_t b) {
    LANES_EACH a.part[i] = part_sub(a.part[i], b.part[i]);
    return a;
}

static inline lanes_t lanes_mul(lanes_t a, lanes_t b) {
    LANES_EACH a.part[i] = part_mul(a.part[i], b.part[i]);
    return a;
}

static inline lanes_t lanes_least(lanes_t a, lanes_t b) {
    LANES_EACH a.part[i] = part_least(a.part[i], b.part[i]);
    return a;
}

static inline lanes_t lanes_most(lanes_t a, lanes_t b) {
    LANES_EACH a.part[i] = part_most(a.part[i], b.part[i]);
    return a;
}

/* a when same is 1, zero when it is 0: the mask comes from memory, which is quicker than from a register of integers */
static const int64_t lanes_masks[16] = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};

static inline lanes_t lanes_kept(lanes_t a, int32_t same) {
#if LANES_WIDTH > 1
    const double *mask = (const double *)(lanes_masks + 8 * same);
    LANES_EACH a.part[i] = part_and(a.part[i], part_load(mask + i * LANES_WIDTH));
#else
    LANES_EACH a.part[i] = same ? a.part[i] : 0.0;
#endif
    return a;
}

/* value where floor <= x, zero elsewhere and where either is NaN */
static inline lanes_t lanes_reached(lanes_t floor, lanes_t x, lanes_t value) {
    LANES_EACH value.part[i] = part_and(value.part[i], part_reached(floor.part[i], x.part[i]));
    return value;
}

static inline double lanes_smallest(lanes_t a) {
#if defined(__AVX512F__)
    __m256d y = _mm256_min_pd(_mm512_castpd512_pd256(a.part[0]), _mm512_extractf64x4_pd(a.part[0], 1));
    __m128d x = _mm_min_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_min_sd(x, _mm_unpackhi_pd(x, x)));
#elif defined(__AVX__)
    __m256d y = _mm256_min_pd(a.part[0], a.part[1]);
    __m128d x = _mm_min_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_min_sd(x, _mm_unpackhi_pd(x, x)));
#elif defined(__SSE2__)
    __m128d x = _mm_min_pd(_mm_min_pd(a.part[0], a.part[2]), _mm_min_pd(a.part[1], a.part[3]));
    return _mm_cvtsd_f64(_mm_min_sd(x, _mm_unpackhi_pd(x, x)));
#else
    double x = a.part[0];
    LANES_EACH x = part_least(a.part[i], x);
    return x;
#endif
}

static inline double lanes_largest(lanes_t a) {
#if defined(__AVX512F__)
    __m256d y = _mm256_max_pd(_mm512_castpd512_pd256(a.part[0]), _mm512_extractf64x4_pd(a.part[0], 1));
    __m128d x = _mm_max_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
#elif defined(__AVX__)
    __m256d y = _mm256_max_pd(a.part[0], a.part[1]);
    __m128d x = _mm_max_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
#elif defined(__SSE2__)
    __m128d x = _mm_max_pd(_mm_max_pd(a.part[0], a.part[2]), _mm_max_pd(a.part[1], a.part[3]));
    return _mm_cvtsd_f64(_mm_max_sd(x, _mm_unpackhi_pd(x, x)));
#else
    double x = a.part[0];
    LANES_EACH x = part_most(a.part[i], x);
    return x;
#endif
}

/* The largest of zero and eight lines rate * x - amount: halves of eight at AVX-512 too, which starts sooner. */
static inline double lines_largest(const double *rate, const double *amount, double x) {
#if defined(__AVX__)
    __m256d n = _mm256_set1_pd(x);
    __m256d a = _mm256_sub_pd(_mm256_mul_pd(_mm256_loadu_pd(rate), n), _mm256_loadu_pd(amount));
    __m256d b = _mm256_sub_pd(_mm256_mul_pd(_mm256_loadu_pd(rate + 4), n), _mm256_loadu_pd(amount + 4));
    __m256d y = _mm256_max_pd(a, b);
    __m128d z = _mm_max_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_max_sd(_mm_setzero_pd(), _mm_max_sd(z, _mm_unpackhi_pd(z, z))));
#else
    return lanes_largest(lanes_most(lanes_set(0.0),
                                    lanes_sub(lanes_mul(lanes_load(rate), lanes_set(x)), lanes_load(amount))));
#endif
}

/* Ask for the slots some two kilobytes on, two lines of doubles and one of integers: the processor does not foresee
 * three streams that start and stop.  The addresses may lie beyond what is allocated.  Inlined at once, since gcc takes
 * a function that only prefetches for one that does nothing, and drops its calls. */
#if defined(__GNUC__)
#define SLOTS_AHEAD 256
static inline __attribute__((always_inline)) void slots_ahead(const int32_t *instrument, const double *quantity,
                                                              const double *entry) {
    uintptr_t i = (uintptr_t)instrument, q = (uintptr_t)quantity, e = (uintptr_t)entry;
    __builtin_prefetch((const void *)(i + SLOTS_AHEAD * sizeof(int32_t)));
    __builtin_prefetch((const void *)(q + SLOTS_AHEAD * sizeof(double)));
    __builtin_prefetch((const void *)(q + SLOTS_AHEAD * sizeof(double) + 64));
    __builtin_prefetch((const void *)(e + SLOTS_AHEAD * sizeof(double)));
    __builtin_prefetch((const void *)(e + SLOTS_AHEAD * sizeof(double) + 64));
}
#else
#define slots_ahead(instrument, quantity, entry) ((void)0)
#endif

static inline int lowest_bit(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int at = 0;
    while (!(bits >> at & 1))
        at++;
    return at;
#endif
}

#endif
