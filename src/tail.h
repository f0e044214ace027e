/* tail.h: lane minima and compression of a vector, exact on every instruction set (no rounding happens here). */
#ifndef MC_TAIL_H
#define MC_TAIL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__AVX512F__) || defined(__AVX__) || defined(__SSE2__)
#include <immintrin.h>
#endif

/* min(x, m) is `x < m ? x : m`, the rule of the processor's own instruction: a NaN on the left leaves m. */
#if defined(__AVX512F__)
#define MC_LANES 8
typedef __m512d mc_lanes;
#define MC_LOAD(p) _mm512_loadu_pd(p)
#define MC_STORE(p, v) _mm512_storeu_pd(p, v)
#define MC_MIN(x, m) _mm512_min_pd(x, m)
#define MC_MAX(x, m) _mm512_max_pd(x, m)
#define MC_ADD(a, b) _mm512_add_pd(a, b)
#define MC_SUB(a, b) _mm512_sub_pd(a, b)
#define MC_MUL(a, b) _mm512_mul_pd(a, b)
#define MC_SPREAD(a) _mm512_set1_pd(a)
#elif defined(__AVX__)
#define MC_LANES 4
typedef __m256d mc_lanes;
#define MC_LOAD(p) _mm256_loadu_pd(p)
#define MC_STORE(p, v) _mm256_storeu_pd(p, v)
#define MC_MIN(x, m) _mm256_min_pd(x, m)
#define MC_MAX(x, m) _mm256_max_pd(x, m)
#define MC_ADD(a, b) _mm256_add_pd(a, b)
#define MC_SUB(a, b) _mm256_sub_pd(a, b)
#define MC_MUL(a, b) _mm256_mul_pd(a, b)
#define MC_SPREAD(a) _mm256_set1_pd(a)
#define MC_BITS_LE(a, b) _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LE_OQ))
#elif defined(__SSE2__)
#define MC_LANES 2
typedef __m128d mc_lanes;
#define MC_LOAD(p) _mm_loadu_pd(p)
#define MC_STORE(p, v) _mm_storeu_pd(p, v)
#define MC_MIN(x, m) _mm_min_pd(x, m)
#define MC_MAX(x, m) _mm_max_pd(x, m)
#define MC_ADD(a, b) _mm_add_pd(a, b)
#define MC_SUB(a, b) _mm_sub_pd(a, b)
#define MC_MUL(a, b) _mm_mul_pd(a, b)
#define MC_SPREAD(a) _mm_set1_pd(a)
#define MC_BITS_LE(a, b) _mm_movemask_pd(_mm_cmple_pd(a, b))
#else
#define MC_LANES 1
typedef double mc_lanes;
#define MC_LOAD(p) (*(p))
#define MC_STORE(p, v) (*(p) = (v))
#define MC_MIN(x, m) ((x) < (m) ? (x) : (m))
#define MC_MAX(x, m) ((x) > (m) ? (x) : (m))
#define MC_ADD(a, b) ((a) + (b))
#define MC_SUB(a, b) ((a) - (b))
#define MC_MUL(a, b) ((a) * (b))
#define MC_SPREAD(a) (a)
#endif

static inline double *mc_on_line(double *at)
{
    return (double *)(((uintptr_t)at + 63) & ~(uintptr_t)63);
}

#define MC_BLOCK 32                       /* lanes of one pass, kept in registers */
#define MC_HELD (MC_BLOCK / MC_LANES)
#define MC_SOUND (MC_HELD < 4 ? MC_HELD : 4)    /* sums that prove the values finite; more would not fit into registers */

/* minima[j] = least of x[j], x[j + lanes], ...; `lanes` is a multiple of 32, n >= lanes.
 * Returns 0.0 when every x is finite, NaN otherwise (x - x is zero only for the finite). */
static inline double mc_lane_minima(const double *x, int n, int lanes, double *minima)
{
    const int whole = n - n % lanes;
    double health = 0.0, parts[MC_LANES];
    for (int block = 0; block < lanes; block += MC_BLOCK) {
        mc_lanes least[MC_HELD], sound[MC_SOUND], sum;
        for (int k = 0; k < MC_SOUND; k++)
            sound[k] = MC_SPREAD(0.0);
        for (int k = 0; k < MC_HELD; k++) {
            least[k] = MC_LOAD(x + block + k * MC_LANES);
            sound[k % MC_SOUND] = MC_ADD(sound[k % MC_SOUND], MC_SUB(least[k], least[k]));
        }
        for (int i = lanes; i < whole; i += lanes)
            for (int k = 0; k < MC_HELD; k++) {
                const mc_lanes value = MC_LOAD(x + i + block + k * MC_LANES);
                least[k] = MC_MIN(value, least[k]);
                sound[k % MC_SOUND] = MC_ADD(sound[k % MC_SOUND], MC_SUB(value, value));
            }
        sum = sound[0];
        for (int k = 1; k < MC_SOUND; k++)
            sum = MC_ADD(sum, sound[k]);
        MC_STORE(parts, sum);
        for (int k = 0; k < MC_LANES; k++)
            health += parts[k];
        for (int k = 0; k < MC_HELD; k++)
            MC_STORE(minima + block + k * MC_LANES, least[k]);
    }
    for (int i = whole; i < n; i++) {
        double *least = minima + (i - whole);
        *least = x[i] < *least ? x[i] : *least;
        health += x[i] - x[i];
    }
    return health;
}

/* Copy every x <= bound to `out`, in order, and return their number; `out` has room for n + 8. */
static inline int mc_keep_below(const double *x, int n, double bound, double *out)
{
    int kept = 0, i = 0;
#if defined(__AVX512F__)
    const __m512d limit = _mm512_set1_pd(bound);
    for (; i + 16 <= n; i += 16) {
        const __m512d low = _mm512_loadu_pd(x + i), high = _mm512_loadu_pd(x + i + 8);
        const __mmask8 a = _mm512_cmp_pd_mask(low, limit, _CMP_LE_OQ), b = _mm512_cmp_pd_mask(high, limit, _CMP_LE_OQ);
        if (a | b) {
            _mm512_storeu_pd(out + kept, _mm512_maskz_compress_pd(a, low));
            kept += __builtin_popcount(a);
            _mm512_storeu_pd(out + kept, _mm512_maskz_compress_pd(b, high));
            kept += __builtin_popcount(b);
        }
    }
#elif defined(MC_BITS_LE)
    const mc_lanes limit = MC_SPREAD(bound);
    for (; i + 64 <= n; i += 64) {      /* one branch that is hard to foresee for 64 values */
        uint64_t bits = 0;
        for (int k = 0; k < 64; k += MC_LANES)
            bits |= (uint64_t)(unsigned)MC_BITS_LE(MC_LOAD(x + i + k), limit) << k;
        for (; bits; bits &= bits - 1)
            out[kept++] = x[i + __builtin_ctzll(bits)];
    }
#endif
    for (; i < n; i++) {
        out[kept] = x[i];
        kept += x[i] <= bound;
    }
    return kept;
}

/* Counting of comparisons: mc_counts holds one 64-bit count per lane.  _LE and _LT add 1 where a <= v or a < v; _OWN is
 * for the values of one vector among themselves: a < v, or a == v for the lanes behind `lane`, the one a comes from. */
#if defined(__AVX512F__)
#define MC_RANKED 8
typedef __m512i mc_counts;
typedef __m512d mc_ranked;
#define MC_RANKED_LOAD(p) _mm512_loadu_pd(p)
#define MC_COUNTS_NONE() _mm512_setzero_si512()
#define MC_COUNTS_STORE(p, c) _mm512_storeu_si512(p, c)
#define MC_COUNT_IF(c, m) _mm512_mask_add_epi64(c, m, c, _mm512_set1_epi64(1))
#define MC_COUNT_LE(c, a, v) MC_COUNT_IF(c, _mm512_cmp_pd_mask(v, _mm512_set1_pd(a), _CMP_GE_OQ))
#define MC_COUNT_LT(c, a, v) MC_COUNT_IF(c, _mm512_cmp_pd_mask(v, _mm512_set1_pd(a), _CMP_GT_OQ))
#define MC_COUNT_OWN(c, a, v, lane) \
    MC_COUNT_IF(c, _mm512_cmp_pd_mask(v, _mm512_set1_pd(a), _CMP_GT_OQ) | \
                   (_mm512_cmp_pd_mask(v, _mm512_set1_pd(a), _CMP_EQ_OQ) & (__mmask8)(0xFEu << (lane))))
#elif defined(__AVX2__)
#define MC_RANKED 4
typedef __m256i mc_counts;
typedef __m256d mc_ranked;
#define MC_RANKED_LOAD(p) _mm256_loadu_pd(p)
#define MC_COUNTS_NONE() _mm256_setzero_si256()
#define MC_COUNTS_STORE(p, c) _mm256_storeu_si256((__m256i *)(p), c)
#define MC_COUNT_LE(c, a, v) _mm256_sub_epi64(c, _mm256_castpd_si256(_mm256_cmp_pd(v, _mm256_set1_pd(a), _CMP_GE_OQ)))
#define MC_COUNT_LT(c, a, v) _mm256_sub_epi64(c, _mm256_castpd_si256(_mm256_cmp_pd(v, _mm256_set1_pd(a), _CMP_GT_OQ)))
#define MC_COUNT_OWN(c, a, v, lane) \
    _mm256_sub_epi64(MC_COUNT_LT(c, a, v), _mm256_and_si256( \
        _mm256_castpd_si256(_mm256_cmp_pd(v, _mm256_set1_pd(a), _CMP_EQ_OQ)), \
        _mm256_loadu_si256((const __m256i *)(mc_behind + 3 - (lane)))))
#elif defined(__SSE2__)
#define MC_RANKED 2
typedef __m128i mc_counts;
typedef __m128d mc_ranked;
#define MC_RANKED_LOAD(p) _mm_loadu_pd(p)
#define MC_COUNTS_NONE() _mm_setzero_si128()
#define MC_COUNTS_STORE(p, c) _mm_storeu_si128((__m128i *)(p), c)
#define MC_COUNT_LE(c, a, v) _mm_sub_epi64(c, _mm_castpd_si128(_mm_cmpge_pd(v, _mm_set1_pd(a))))
#define MC_COUNT_LT(c, a, v) _mm_sub_epi64(c, _mm_castpd_si128(_mm_cmpgt_pd(v, _mm_set1_pd(a))))
#define MC_COUNT_OWN(c, a, v, lane) \
    _mm_sub_epi64(MC_COUNT_LT(c, a, v), _mm_and_si128( \
        _mm_castpd_si128(_mm_cmpeq_pd(v, _mm_set1_pd(a))), _mm_loadu_si128((const __m128i *)(mc_behind + 3 - (lane)))))
#else
#define MC_RANKED 1
typedef int64_t mc_counts;
typedef double mc_ranked;
#define MC_RANKED_LOAD(p) (*(p))
#define MC_COUNTS_NONE() 0
#define MC_COUNTS_STORE(p, c) (*(p) = (c))
#define MC_COUNT_LE(c, a, v) ((c) + ((a) <= (v)))
#define MC_COUNT_LT(c, a, v) ((c) + ((a) < (v)))
#define MC_COUNT_OWN(c, a, v, lane) ((void)(lane), (c))
#endif

/* mc_behind[3 - lane + i] is all ones for i > lane. */
static const int64_t mc_behind[8] = {0, 0, 0, 0, -1, -1, -1, -1};

/* Copy the n values of x to `out` in rising order by counting, for each, what stands before it; equal values keep
 * their order.  Quadratic, without one branch on a value: faster than a sort up to a few hundred. */
static inline void mc_rank_sort(const double *restrict x, int n, double *restrict out)
{
    int64_t before[MC_RANKED];
    double part[MC_RANKED];
    (void)mc_behind;
    for (int i = 0; i < n; i += MC_RANKED) {
        const int own = n - i < MC_RANKED ? n - i : MC_RANKED;
        const double *from = x + i;
        mc_counts count = MC_COUNTS_NONE();
        mc_ranked value;
        if (own < MC_RANKED) {  /* what fills up the last vector is ranked too, and dropped */
            for (int k = 0; k < MC_RANKED; k++)
                part[k] = x[i + (k < own ? k : 0)];
            from = part;
        }
        value = MC_RANKED_LOAD(from);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 8
#endif
        for (int j = 0; j < i; j++)
            count = MC_COUNT_LE(count, x[j], value);
        for (int j = 0; j < own; j++)
            count = MC_COUNT_OWN(count, x[i + j], value, j);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 8
#endif
        for (int j = i + own; j < n; j++)
            count = MC_COUNT_LT(count, x[j], value);
        MC_COUNTS_STORE(before, count);
        for (int k = 0; k < own; k++)
            out[before[k]] = from[k];
    }
}

/* A bound that at least k of the n finite values of x do not exceed, and few more: halving between the least and the
 * largest, from their mean on.  n is a multiple of 32.  Where halving does not come near, the largest is a bound too:
 * callers sort what is not above it, so that it decides about their time alone. */
static inline double mc_low_bound(const double *x, int n, int k)
{
    mc_lanes least = MC_LOAD(x), most = least, sum = least;
    double low[MC_LANES], high[MC_LANES], total[MC_LANES], middle;
    int64_t above[MC_RANKED];
    for (int i = MC_LANES; i < n; i += MC_LANES) {
        const mc_lanes value = MC_LOAD(x + i);
        least = MC_MIN(value, least);
        most = MC_MAX(value, most);
        sum = MC_ADD(sum, value);
    }
    MC_STORE(low, least);
    MC_STORE(high, most);
    MC_STORE(total, sum);
    for (int j = 1; j < MC_LANES; j++) {
        low[0] = low[j] < low[0] ? low[j] : low[0];
        high[0] = high[j] > high[0] ? high[j] : high[0];
        total[0] += total[j];
    }
    middle = total[0] / n;
    for (int step = 0; step < 24; step++) {
        mc_counts count = MC_COUNTS_NONE(), other = MC_COUNTS_NONE();
        int below = n, enough;
        for (int i = 0; i < n; i += 2 * MC_RANKED) {
            count = MC_COUNT_LT(count, middle, MC_RANKED_LOAD(x + i));
            other = MC_COUNT_LT(other, middle, MC_RANKED_LOAD(x + i + MC_RANKED));
        }
        MC_COUNTS_STORE(above, count);
        for (int j = 0; j < MC_RANKED; j++)
            below -= (int)above[j];
        MC_COUNTS_STORE(above, other);
        for (int j = 0; j < MC_RANKED; j++)
            below -= (int)above[j];
        enough = below >= k;
        high[0] = enough ? middle : high[0];
        low[0] = enough ? low[0] : middle;
        if (enough && below <= k + k / 8 + 1)
            break;
        middle = 0.5 * low[0] + 0.5 * high[0];
    }
    return high[0];
}

/* Merge the rising runs from[left .. middle) and from[middle .. end) into to[left .. end), equal values in their order.
 * Both ends at once and without a branch on a value, as long as neither run can be used up. */
static inline void mc_merge(const double *restrict from, ptrdiff_t left, ptrdiff_t middle, ptrdiff_t end,
                            double *restrict to)
{
    ptrdiff_t low = left, a = left, b = middle, high = end - 1, c = middle - 1, d = end - 1;
    const ptrdiff_t sure = middle - left < end - middle ? middle - left : end - middle;
    for (ptrdiff_t k = 0; k < sure; k++) {
        const double x = from[a], y = from[b], u = from[c], v = from[d];
        const ptrdiff_t second = y < x, first = v < u;
        to[low++] = y < x ? y : x;
        b += second;
        a += 1 - second;
        to[high--] = v < u ? u : v;
        c -= first;
        d -= 1 - first;
    }
    while (low <= high)
        to[low++] = a <= c && (b > d || from[a] <= from[b]) ? from[a++] : from[b++];
}

/* Least of x[0..n), n >= 1; health as above. */
static inline double mc_least(const double *x, int n, double *health)
{
    double least = x[0], sum = 0.0;
    int i = 0;
    if (n >= MC_LANES && MC_LANES > 1) {
        mc_lanes low[4], sound[4];
        double parts[MC_LANES];
        (void)parts;
        for (int k = 0; k < 4; k++) {
            low[k] = MC_LOAD(x);
            sound[k] = MC_SUB(low[k], low[k]);
        }
        for (; i + 4 * MC_LANES <= n; i += 4 * MC_LANES)
            for (int k = 0; k < 4; k++) {
                const mc_lanes value = MC_LOAD(x + i + k * MC_LANES);
                low[k] = MC_MIN(value, low[k]);
                sound[k] = MC_ADD(sound[k], MC_SUB(value, value));
            }
        for (; i + MC_LANES <= n; i += MC_LANES) {
            const mc_lanes value = MC_LOAD(x + i);
            low[0] = MC_MIN(value, low[0]);
            sound[0] = MC_ADD(sound[0], MC_SUB(value, value));
        }
        low[0] = MC_MIN(MC_MIN(low[0], low[1]), MC_MIN(low[2], low[3]));
        sound[0] = MC_ADD(MC_ADD(sound[0], sound[1]), MC_ADD(sound[2], sound[3]));
#if defined(__AVX512F__)
        least = _mm512_reduce_min_pd(low[0]);  /* exact in any order, and so is a sum of zeros */
        sum = _mm512_reduce_add_pd(sound[0]);
#else
        MC_STORE(parts, low[0]);
        for (int k = 0; k < MC_LANES; k++)
            least = parts[k] < least ? parts[k] : least;
        MC_STORE(parts, sound[0]);
        for (int k = 0; k < MC_LANES; k++)
            sum += parts[k];
#endif
    }
    for (; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        sum += x[i] - x[i];
    }
    *health = sum;
    return least;
}

/* out[s] = sum over the slots, in their order, of quantity times risk[instrument * stride + s].  Eight vectors of sums
 * stay in registers over the slots of a row; each sum is the same chain of products and additions at every width. */
static inline void mc_sparse_block(const int32_t *instrument, const double *quantity, int count, const double *risk,
                                   ptrdiff_t stride, int width, double *out)
{
    int s = 0;
    for (; s + 8 * MC_LANES <= width; s += 8 * MC_LANES) {
        mc_lanes sum[8];
        for (int k = 0; k < 8; k++)
            sum[k] = MC_SPREAD(0.0);
        for (int slot = 0; slot < count; slot++) {
            const double *unit = risk + instrument[slot] * stride + s;
            const mc_lanes q = MC_SPREAD(quantity[slot]);
            for (int k = 0; k < 8; k++)
                sum[k] = MC_ADD(sum[k], MC_MUL(q, MC_LOAD(unit + k * MC_LANES)));
        }
        for (int k = 0; k < 8; k++)
            MC_STORE(out + s + k * MC_LANES, sum[k]);
    }
    for (; s < width; s++) {
        double sum = 0.0;
        for (int slot = 0; slot < count; slot++)
            sum += quantity[slot] * risk[instrument[slot] * stride + s];
        out[s] = sum;
    }
}

/* A row's slots as the account plane lists them: `risk[k] + first` is what one contract of slot k earns, `held[k]` how
 * many there are; slots `end[r - 1] .. end[r] - 1` are run r.  A run's gain counts for gain_kept of itself. */
typedef struct {
    const double *const *risk;
    const double *held;
    const int32_t *end;
    int runs;
    double gain_kept;
} mc_held;

#if defined(__GNUC__)
#define MC_ALWAYS static inline __attribute__((always_inline))
#else
#define MC_ALWAYS static inline
#endif

/* Unrolled at once, so that sums live in registers. */
#if defined(__GNUC__) && !defined(__clang__)
#define MC_EACH_PART _Pragma("GCC unroll 8") for (int k = 0; k < parts; k++)
#else
#define MC_EACH_PART for (int k = 0; k < parts; k++)
#endif

MC_ALWAYS void mc_run_sum(const double *const *risk, const double *held, int count, ptrdiff_t at, const int parts,
                          mc_lanes *out)
{
    mc_lanes sum[8];
    MC_EACH_PART sum[k] = MC_SPREAD(0.0);
    for (int slot = 0; slot < count; slot++) {
        const double *unit = risk[slot] + at;
        const mc_lanes q = MC_SPREAD(held[slot]);
        MC_EACH_PART sum[k] = MC_ADD(sum[k], MC_MUL(q, MC_LOAD(unit + k * MC_LANES)));
    }
    MC_EACH_PART out[k] = sum[k];
}

/* Whole vectors of one run; returns how many scenarios they were. */
static inline int mc_one_run(const double *const *restrict risk, const double *restrict held, int count, ptrdiff_t first,
                             int n, double *restrict out)
{
    const int parts = 8;
    mc_lanes sum[8];
    int s = 0;
    if (count == 2) {       /* a hot row, its vector and one change: a third less time than by the loop over slots */
        const double *one = risk[0] + first, *two = risk[1] + first;
        const mc_lanes q = MC_SPREAD(held[0]), r = MC_SPREAD(held[1]), none = MC_SPREAD(0.0);
        for (; s + 8 * MC_LANES <= n; s += 8 * MC_LANES) {
            MC_EACH_PART sum[k] = MC_ADD(MC_ADD(none, MC_MUL(q, MC_LOAD(one + s + k * MC_LANES))),
                                         MC_MUL(r, MC_LOAD(two + s + k * MC_LANES)));
            MC_EACH_PART MC_STORE(out + s + k * MC_LANES, sum[k]);
        }
    }
    for (; s + 8 * MC_LANES <= n; s += 8 * MC_LANES) {
        mc_run_sum(risk, held, count, first + s, 8, sum);
        MC_EACH_PART MC_STORE(out + s + k * MC_LANES, sum[k]);
    }
    for (; s + MC_LANES <= n; s += MC_LANES) {
        mc_run_sum(risk, held, count, first + s, 1, sum);
        MC_STORE(out + s, sum[0]);
    }
    return s;
}

/* The same of several, of whose gains a share is kept. */
static inline int mc_runs(const mc_held *row, ptrdiff_t first, int n, double *restrict out)
{
    const mc_lanes kept = MC_SPREAD(row->gain_kept);
    int s = 0;
    for (; s + MC_LANES <= n; s += MC_LANES) {
        mc_lanes whole = MC_SPREAD(0.0), sum;
        for (int run = 0, from = 0; run < row->runs; from = row->end[run++]) {
            mc_run_sum(row->risk + from, row->held + from, row->end[run] - from, first + s, 1, &sum);
            whole = MC_ADD(whole, MC_MIN(sum, MC_MUL(kept, sum)));
        }
        MC_STORE(out + s, whole);
    }
    return s;
}

/* out[s] = profit of the row in scenario first + s, for n scenarios: each run summed in slot order, one run as it is,
 * several by what they keep, in run order. */
static inline void mc_held_sum(const mc_held *row, ptrdiff_t first, int n, double *out)
{
    int s = row->runs == 1 ? mc_one_run(row->risk, row->held, row->end[0], first, n, out) : mc_runs(row, first, n, out);
    for (; s < n; s++) {
        double whole = 0.0;
        for (int run = 0, slot = 0; run < row->runs; run++) {
            double sum = 0.0;
            for (; slot < row->end[run]; slot++)
                sum += row->held[slot] * row->risk[slot][first + s];
            whole += row->runs == 1 || sum < row->gain_kept * sum ? sum : row->gain_kept * sum;
        }
        out[s] = whole;
    }
}

/* The same with open orders: every slot may also lose the worst of nothing, all buys and all sells filled. */
static inline void mc_held_sum_orders(const mc_held *row, const double *buy, const double *sell, ptrdiff_t first, int n,
                                      double *out)
{
    for (int s = 0; s < n; s++)
        out[s] = 0.0;
    for (int run = 0, slot = 0; run < row->runs; run++) {
        const int from = slot;
        for (int block = 0; block < n; block += 64) {
            const int width = n - block < 64 ? n - block : 64;
            double sum[64] = {0.0}, orders[64] = {0.0};
            for (slot = from; slot < row->end[run]; slot++) {
                const double *unit = row->risk[slot] + first + block;
                const double q = row->held[slot], bought = buy[slot], sold = -sell[slot];
                for (int s = 0; s < width; s++) {
                    const double up = bought * unit[s], down = sold * unit[s];
                    const double least = up < 0.0 ? up : 0.0;
                    sum[s] += q * unit[s];
                    orders[s] += least < down ? least : down;
                }
            }
            for (int s = 0; s < width; s++) {
                const double pnl = sum[s] + orders[s], kept = row->gain_kept * pnl;
                out[block + s] += row->runs == 1 || pnl < kept ? pnl : kept;
            }
        }
        slot = row->end[run];
    }
}

/* Positions of every x <= bound, rising; returns their number.  `out` has room for n. */
static inline int mc_index_below(const double *x, int n, double bound, int *out)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        out[kept] = i;
        kept += x[i] <= bound;
    }
    return kept;
}

/* First i with x[i] == value, for a value that x is known to hold. */
static inline int mc_find(const double *x, int n, double value)
{
    int i = 0;
#if defined(__AVX512F__)
    const __m512d wanted = _mm512_set1_pd(value);
    for (; i + 8 <= n; i += 8)
        if (_mm512_cmp_pd_mask(_mm512_loadu_pd(x + i), wanted, _CMP_EQ_OQ))
            break;
#endif
    while (i < n - 1 && x[i] != value)
        i++;
    return i;
}

#endif
