"""Monte Carlo draws: normal and Student-t vectors from a counter, the same bits in any order, split or thread count.

Row i of a stream is a function of (seed, stream, i) alone: Philox 4x32-7 turns a counter into words (random.h), pairs
of uniforms become pairs of normals (Box and Muller 1958), a gamma variate is Marsaglia and Tsang's (2000)
rejection whose attempts have counters of their own, so that a rejected lane never moves another.  A normal of 40 bits
reaches 7.5 deviations, further than 1e13 draws do.  Blocks of 128 rows live in the first cache as one vector per driver.

A row is ``mean + sqrt(numerator / g) root z``: z independent standard normals, g ~ Gamma(shape, 1), so that shape =
degrees / 2 with numerator = degrees / 2 is Student-t of scale matrix root root', and numerator = degrees / 2 - 1 the
one of covariance root root'.  `root` is sparse (CSR): a triangle, or the loadings of factors beside own risks.
"""

cimport numpy as cnp
from libc.math cimport copysign, fabs, sqrt
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from margincore.errors import RangeError, ShapeError

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_pow(double x, double y)

cdef extern from "random.h" nogil:
    void random_prefetch(const double* p, Py_ssize_t n)
    double random_log(double x)
    double random_cosine(double v, double* sine)
    void random_turn(const double* x, Py_ssize_t stride, double* out, int rows, int width)
    void philox_words(const uint64_t* index, int n, uint64_t seed, uint32_t stream, uint32_t draw, uint64_t* out)
    void philox_pairs(const uint64_t* index, int n, uint64_t seed, uint32_t stream, uint32_t draw, double* u0, double* v0,
                      double* u1, double* v1)
    void philox_twins(const uint64_t* index, int n, uint64_t seed, uint32_t stream, uint32_t draw, double* u, double* v,
                      double* w0, double* w1)
    void philox_triples(const uint64_t* index, int n, uint64_t seed, uint32_t stream, uint32_t draw, double* u,
                        double* v, double* w)

cdef extern from "tail.h" nogil:
    void mc_sparse_block(const int32_t* instrument, const double* quantity, int count, const double* risk,
                         Py_ssize_t stride, int width, double* out)

cdef extern from *:
    """
    typedef double *__restrict mc_rd;
    typedef const double *__restrict mc_crd;
    """
    ctypedef double* mc_rd
    ctypedef const double* mc_crd

cdef enum:
    BLOCK = 128       # counters of one block
    STRIDE = 136      # doubles from one vector of a block to the next: off the powers of two, which share cache sets
    GROUP = 16        # counters of one call of random.h
    BATCH = 512       # gammas made at once: the more, the fewer empty lanes when the rejected are tried again
    TWINS = 272       # pairs of them: BATCH / 2 + GROUP

# Draw numbers of row i: normals 4 j to 4 j + 3 come from draw j, attempt a at a gamma from GAMMA + a.  The first
# attempts of rows 2 k and 2 k + 1 share draw GAMMA of counter k and the two normals of one radius.
cdef uint32_t GAMMA = 0x80000000
cdef uint32_t BOOST = 0xC0000000
cdef double HALF_STEP = 2.0**-54  # of the uniforms of NumPy

ctypedef struct law_t:
    int underlyings
    int drivers
    const int64_t* start    # (underlyings + 1,): entries of each row of the root
    const int32_t* column
    const double* value
    const double* mean
    double shape            # of the gamma; 0 for normal rows
    double numerator


cdef inline int in_fours(int drivers) noexcept nogil:
    return (drivers + 3) & ~3


cdef inline int whole_groups(Py_ssize_t n) noexcept nogil:
    return <int>((n + GROUP - 1) // GROUP * GROUP)


cdef void count_up(uint64_t first, int n, uint64_t* index) noexcept nogil:
    cdef int i
    for i in range(n):
        index[i] = first + <uint64_t>i


# Box and Muller's pairs in two stages, because a logarithm, a root and a sine together are a longer chain than the
# processor sees past: squared radii, spread ln |u| with spread = -2 variance, then u, v become the two normals.
cdef void squared_radii(int n, mc_crd spread, mc_crd u, mc_rd square) noexcept nogil:
    cdef int i
    for i in range(n):
        square[i] = spread[i] * random_log(fabs(u[i]))


cdef void turn_radii(int n, mc_crd square, mc_rd u, mc_rd v) noexcept nogil:
    cdef int i
    cdef double radius, sine, cosine
    for i in range(n):
        cosine = random_cosine(v[i], &sine)
        radius = copysign(sqrt(square[i]), u[i])
        u[i] = radius * cosine
        v[i] = radius * sine


# Driver j of lane i, of the spread of the lane, in z[j * STRIDE + i]; there is room for a multiple of four drivers.
# Meanwhile the memory of `out`, `length` doubles that will be written next, is asked for in shares: more misses at once
# would be waited for.
cdef void draw_normals(const uint64_t* index, int n, uint64_t seed, uint32_t stream, int drivers, const double* spread,
                       double* z, const double* out, Py_ssize_t length) noexcept nogil:
    cdef double square[BLOCK]
    cdef int j
    cdef Py_ssize_t share = length // drivers
    for j in range(0, drivers, 4):
        philox_pairs(index, n, seed, stream, <uint32_t>(j // 4), z + j * STRIDE, z + (j + 1) * STRIDE,
                     z + (j + 2) * STRIDE, z + (j + 3) * STRIDE)
    for j in range(0, drivers, 2):
        random_prefetch(out + j * share, share)
        squared_radii(n, spread, z + j * STRIDE, square)
        if j + 1 < drivers:
            random_prefetch(out + (j + 1) * share, share)
        turn_radii(n, square, z + j * STRIDE, z + (j + 1) * STRIDE)


cdef void fill(int n, double value, mc_rd x) noexcept nogil:
    cdef int i
    for i in range(n):
        x[i] = value


# Marsaglia and Tsang's squeeze of twins, x normal: nine of ten are surely accepted, w < 1 - 0.0331 x^4, without a
# logarithm.
cdef void squeeze_gammas(int n, double d, double c, mc_crd x0, mc_crd x1, mc_crd w0, mc_crd w1, mc_rd sure0,
                         mc_rd sure1, mc_rd g) noexcept nogil:
    cdef int i
    cdef double first, second
    for i in range(n):
        first = 1.0 + c * x0[i]
        second = 1.0 + c * x1[i]
        sure0[i] = 1.0 - 0.0331 * (x0[i] * x0[i]) * (x0[i] * x0[i]) - w0[i]
        sure1[i] = 1.0 - 0.0331 * (x1[i] * x1[i]) * (x1[i] * x1[i]) - w1[i]
        sure0[i] = sure0[i] if first > 0.0 else -1.0
        sure1[i] = sure1[i] if second > 0.0 else -1.0
        g[2 * i] = d * (first * first * first)
        g[2 * i + 1] = d * (second * second * second)


# The whole test: accepted where ln w < x^2 / 2 + d - d v + d ln v, v = (1 + c x)^3; `w` becomes how far it was.
cdef void judge_gammas(int n, double d, double c, mc_crd x, mc_rd w, mc_rd g) noexcept nogil:
    cdef int i
    cdef double root, volume, inside
    for i in range(n):
        root = 1.0 + c * x[i]
        inside = root if root > 0.0 else 1.0
        volume = inside * inside * inside
        w[i] = 0.5 * x[i] * x[i] + d * (1.0 - volume + 3.0 * random_log(inside)) - random_log(w[i])
        w[i] = w[i] if root > 0.0 else -1.0
        g[i] = d * volume


cdef void boost_gammas(int n, double power, mc_crd u, mc_rd g) noexcept nogil:
    cdef int i
    for i in range(n):
        g[i] = g[i] * vm_pow(fabs(u[i]), power)


# Gamma(shape, 1) of n counters from `first`, at most BATCH; below a shape of 1 it is Gamma(shape + 1) U^(1 / shape).
# `g` holds 2 TWINS doubles; returns where in it the first one stands.  What follows the last up to a group is finite
# work on numbers that nobody takes.
cdef double* draw_gammas(uint64_t first, int n, uint64_t seed, uint32_t stream, double shape, double* g) noexcept nogil:
    cdef uint64_t index[2 * TWINS]
    cdef int place[2 * TWINS]
    cdef double x0[TWINS]
    cdef double x1[TWINS]
    cdef double w0[TWINS]
    cdef double w1[TWINS]
    cdef double sure0[TWINS]
    cdef double sure1[TWINS]
    cdef double spread[2 * TWINS]
    cdef double square[2 * TWINS]
    cdef double x[2 * TWINS]
    cdef double v[2 * TWINS]
    cdef double w[2 * TWINS]
    cdef double d = (shape if shape >= 1.0 else shape + 1.0) - 1.0 / 3.0
    cdef double c = 1.0 / sqrt(9.0 * d)
    cdef int odd = <int>(first & 1)
    cdef int twins = (n + odd + 1) // 2
    cdef int drawn = whole_groups((whole_groups(n) + odd + 1) // 2)
    cdef uint32_t attempt = 0
    cdef int i, at, tried, waiting = 0
    count_up(first >> 1, drawn, index)
    fill(drawn, -2.0, spread)
    philox_twins(index, drawn, seed, stream, GAMMA, x0, x1, w0, w1)
    squared_radii(drawn, spread, x0, square)
    turn_radii(drawn, square, x0, x1)
    squeeze_gammas(drawn, d, c, x0, x1, w0, w1, sure0, sure1, g)
    for i in range(twins):  # without a branch, which would be mispredicted once in ten
        place[waiting] = 2 * i
        waiting += not sure0[i] > 0.0
        place[waiting] = 2 * i + 1
        waiting += not sure1[i] > 0.0
    tried = whole_groups(waiting)
    for i in range(tried):
        at = place[i] if i < waiting else 0
        x[i] = x1[at >> 1] if at & 1 else x0[at >> 1]
        w[i] = w1[at >> 1] if at & 1 else w0[at >> 1]
    while waiting > 0:
        judge_gammas(tried, d, c, x, w, square)
        at = 0
        for i in range(waiting):
            g[place[i]] = square[i]
            place[at] = place[i]
            at += not w[i] > 0.0
        waiting = at
        tried = whole_groups(waiting)
        for i in range(tried):
            index[i] = first - <uint64_t>odd + <uint64_t>place[i] if i < waiting else 0
        attempt += 1
        philox_triples(index, tried, seed, stream, GAMMA + attempt, x, v, w)
        fill(tried, -2.0, spread)
        squared_radii(tried, spread, x, square)
        turn_radii(tried, square, x, v)
    if shape < 1.0:
        tried = whole_groups(n)
        count_up(first, tried, index)
        philox_triples(index, tried, seed, stream, BOOST, x, v, w)
        boost_gammas(tried, 1.0 / shape, x, g + odd)
    return g + odd


# Gamma variates become the variance of the drivers of their row, times the sign and scale of `numerator`.
cdef void mixing(int n, double numerator, mc_crd g, mc_rd variance) noexcept nogil:
    cdef int i
    for i in range(n):
        variance[i] = numerator / g[i]


cdef void scale_lanes(int n, mc_crd variance, mc_rd x) noexcept nogil:
    cdef int i
    for i in range(n):
        x[i] = x[i] * sqrt(variance[i])


cdef void shift_lanes(int n, double mean, mc_rd x) noexcept nogil:
    cdef int i
    for i in range(n):
        x[i] = mean + x[i]


# Lanes become rows: the sums are made before, as vectors, and only copies are left.
cdef void write_plain(const law_t* law, double* x, int count, double* out) noexcept nogil:
    cdef int k
    for k in range(law.underlyings):
        if law.mean[k] != 0.0:
            shift_lanes(count, law.mean[k], x + k * STRIDE)
    random_turn(x, STRIDE, out, count, law.underlyings)


# Rows in pairs: lane i is row 2 i as drawn and row 2 i + 1 mirrored at the mean; `skip` rows come first.
cdef void write_mirrored(const law_t* law, const double* x, Py_ssize_t skip, Py_ssize_t count,
                         double* out) noexcept nogil:
    cdef Py_ssize_t row, lane
    cdef int k
    for row in range(skip, skip + count):
        lane = row >> 1
        for k in range(law.underlyings):
            out[0] = law.mean[k] + (-x[k * STRIDE + lane] if row & 1 else x[k * STRIDE + lane])
            out += 1


# x = root z, one vector per underlying.
cdef void combine(const law_t* law, int n, const double* z, double* x) noexcept nogil:
    cdef int k
    cdef int64_t at
    for k in range(law.underlyings):
        at = law.start[k]
        mc_sparse_block(law.column + at, law.value + at, <int>(law.start[k + 1] - at), z, STRIDE, n, x + k * STRIDE)


cdef void simulate_rows(const law_t* law, uint64_t seed, uint32_t stream, uint64_t first, Py_ssize_t rows,
                        bint antithetic, double* scratch, double* out) noexcept nogil:
    # scratch: one vector for each driver (in fours) and underlying.
    cdef uint64_t index[BLOCK]
    cdef double gamma[2 * TWINS]
    cdef double spread[BATCH + GROUP]  # -2 variance of the counters of a batch, of which the last `ready` are not used
    cdef double* z = scratch
    cdef double* x = z + <Py_ssize_t>in_fours(law.drivers) * STRIDE
    cdef double* variates
    cdef uint64_t counter = first >> 1 if antithetic else first
    cdef Py_ssize_t skip = <Py_ssize_t>(first & 1) if antithetic else 0
    cdef Py_ssize_t done = 0, count, lanes
    cdef int n, batch = 0, ready = 0
    while done < rows:
        count = min(rows - done, 2 * BLOCK - skip if antithetic else BLOCK)
        lanes = (skip + count + 1) // 2 if antithetic else count
        n = whole_groups(lanes)
        if ready == 0:
            batch = <int>min(<Py_ssize_t>BATCH, (skip + rows - done + 1) // 2 if antithetic else rows - done)
            ready = batch
            if law.shape > 0.0:
                variates = draw_gammas(counter, batch, seed, stream, law.shape, gamma)
                mixing(whole_groups(batch), -2.0 * law.numerator, variates, spread)
            else:
                fill(whole_groups(batch), -2.0, spread)
        count_up(counter, n, index)
        draw_normals(index, n, seed, stream, law.drivers, spread + batch - ready, z, out + done * law.underlyings,
                     count * law.underlyings)
        combine(law, n, z, x)
        if antithetic:
            write_mirrored(law, x, skip, count, out + done * law.underlyings)
        else:
            write_plain(law, x, <int>count, out + done * law.underlyings)
        skip = 0
        counter += <uint64_t>lanes
        ready -= <int>lanes
        done += count


# Rows of given draws become one vector per driver.
cdef void turn(int rows, int drivers, const double* given, double* z) noexcept nogil:
    cdef int i, j
    for i in range(rows):
        for j in range(drivers):
            z[j * STRIDE + i] = given[i * drivers + j]


# Uniforms in [0, 1) as random_normal wants them: half a step up, so that none is 0, and the turn as a half and a sign.
cdef void sign_pairs(int n, mc_rd u, mc_rd v) noexcept nogil:
    cdef int i
    cdef double turn
    for i in range(n):
        turn = 2.0 * v[i] - 1.0
        u[i] = copysign(u[i] + HALF_STEP, turn)
        v[i] = fabs(turn) - 0.5


# Normals of the variance of their lane; pairs of uniforms take it times -2, as a spread.
cdef void given_normals(int rows, int drivers, bint uniform, const double* given, const double* variance,
                        double* z) noexcept nogil:
    cdef double square[BLOCK]
    cdef int j
    turn(rows, drivers, given, z)
    if uniform:
        for j in range(0, drivers, 2):
            sign_pairs(rows, z + j * STRIDE, z + (j + 1) * STRIDE)
            squared_radii(rows, variance, z + j * STRIDE, square)
            turn_radii(rows, square, z + j * STRIDE, z + (j + 1) * STRIDE)
    else:
        for j in range(drivers):
            scale_lanes(rows, variance, z + j * STRIDE)


cdef void transform_rows(const law_t* law, const double* given, Py_ssize_t drawn, const double* gamma,
                         Py_ssize_t rows, bint uniform, bint antithetic, double* scratch, double* out) noexcept nogil:
    cdef double variance[BLOCK]
    cdef double* z = scratch
    cdef double* x = z + <Py_ssize_t>in_fours(law.drivers) * STRIDE
    cdef double unit = -2.0 if uniform else 1.0
    cdef Py_ssize_t done = 0, count, lanes, lane = 0
    while done < rows:
        count = min(rows - done, 2 * BLOCK if antithetic else BLOCK)
        lanes = (count + 1) // 2 if antithetic else count
        if gamma != NULL:
            mixing(<int>lanes, unit * law.numerator, gamma + lane, variance)
        else:
            fill(<int>lanes, unit, variance)
        given_normals(<int>lanes, <int>drawn, uniform, given + lane * drawn, variance, z)
        combine(law, <int>lanes, z, x)
        if antithetic:
            write_mirrored(law, x, 0, count, out + done * law.underlyings)
        else:
            write_plain(law, x, <int>count, out + done * law.underlyings)
        lane += lanes
        done += count


cdef int law_of(law_t* law, Py_ssize_t drivers, const int64_t[::1] start, const int32_t[::1] column,
                const double[::1] value, const double[::1] mean, double shape, double numerator) except -1:
    # A law over checked arrays; the pointers live as long as the memoryviews.
    cdef Py_ssize_t k, entries = value.shape[0], underlyings = mean.shape[0]
    if underlyings < 1 or drivers < 1 or underlyings > 1 << 20 or drivers > 1 << 20:
        raise ShapeError(f"root must have 1 to {1 << 20} rows and columns, had {underlyings} and {drivers}")
    if start.shape[0] != underlyings + 1 or column.shape[0] != entries or entries < 1:
        raise ShapeError("start, column and value must be the arrays of a CSR matrix with one row per mean")
    if start[0] != 0 or start[underlyings] != entries:
        raise ShapeError(f"start must run from 0 to {entries}, was {start[0]} to {start[underlyings]}")
    for k in range(underlyings):
        if start[k] > start[k + 1] or start[k + 1] > entries:
            raise ShapeError(f"start must not fall, did at {k}")
    for k in range(entries):
        if not 0 <= column[k] < drivers:
            raise RangeError(f"column must be in [0, {drivers}), was {column[k]} at {k}")
    if not (shape >= 0.0 and numerator >= 0.0):
        raise RangeError(f"shape and numerator must not be negative, were {shape!r} and {numerator!r}")
    law.underlyings, law.drivers = <int>underlyings, <int>drivers
    law.start, law.column, law.value, law.mean = &start[0], &column[0], &value[0], &mean[0]
    law.shape, law.numerator = shape, numerator
    return 0


cdef double* scratch_of(const law_t* law) except NULL:
    cdef size_t vectors = <size_t>in_fours(law.drivers) + law.underlyings
    cdef double* scratch = <double*>malloc(vectors * STRIDE * sizeof(double))
    if scratch == NULL:
        raise MemoryError(f"no memory for {law.drivers} drivers")
    return scratch


def simulate(uint64_t seed, uint32_t stream, uint64_t first, Py_ssize_t drivers, const int64_t[::1] start not None,
             const int32_t[::1] column not None, const double[::1] value not None, const double[::1] mean not None,
             double shape, double numerator, bint antithetic, double[:, ::1] out not None):
    """Fill row i of `out` (rows, underlyings) with row ``first + i`` of the stream.

    Antithetic rows come in pairs from one counter: the odd one is the even one mirrored at the mean.  A `shape` of 0
    makes normal rows.
    """
    cdef law_t law
    law_of(&law, drivers, start, column, value, mean, shape, numerator)
    if out.shape[1] != law.underlyings:
        raise ShapeError(f"out must have {law.underlyings} columns, had {out.shape[1]}")
    if out.shape[0] == 0:
        return
    cdef double* scratch = scratch_of(&law)
    with nogil:
        simulate_rows(&law, seed, stream, first, out.shape[0], antithetic, scratch, &out[0, 0])
    free(scratch)


def transform(const double[:, ::1] given not None, const double[::1] gamma, Py_ssize_t drivers,
              const int64_t[::1] start not None, const int32_t[::1] column not None, const double[::1] value not None,
              const double[::1] mean not None, double numerator, bint uniform, bint antithetic,
              double[:, ::1] out not None):
    """As `simulate` from given draws and gammas (rows,); half the rows when antithetic.

    `given` are standard normals (rows, drivers), or uniforms in [0, 1) for pairs of normals (rows, drivers rounded up
    to even).
    """
    cdef law_t law
    cdef Py_ssize_t rows = (out.shape[0] + 1) // 2 if antithetic else out.shape[0]
    cdef Py_ssize_t drawn = drivers + (drivers & 1) if uniform else drivers
    law_of(&law, drivers, start, column, value, mean, 0.0, numerator)
    if out.shape[1] != law.underlyings or given.shape[0] != rows or given.shape[1] != drawn:
        raise ShapeError(f"given must have shape ({rows}, {drawn}), and out {law.underlyings} columns")
    if gamma is not None and gamma.shape[0] != rows:
        raise ShapeError(f"gamma must have length {rows}, had {gamma.shape[0]}")
    if rows == 0:
        return
    cdef double* scratch = scratch_of(&law)
    with nogil:
        transform_rows(&law, &given[0, 0], drawn, NULL if gamma is None else &gamma[0], out.shape[0], uniform,
                       antithetic, scratch, &out[0, 0])
    free(scratch)


def gammas(uint64_t seed, uint32_t stream, uint64_t first, double shape, double[::1] out not None):
    """Fill ``out[i]`` with the Gamma(shape, 1) variate of row ``first + i``; shape above 0."""
    cdef double work[2 * TWINS]
    cdef double* g
    cdef Py_ssize_t at, i, count
    if not shape > 0.0:
        raise RangeError(f"shape must be above 0, was {shape!r}")
    with nogil:
        for at in range(0, out.shape[0], 512):  # BATCH; a loop of C needs the literal
            count = min(<Py_ssize_t>BATCH, out.shape[0] - at)
            g = draw_gammas(first + <uint64_t>at, <int>count, seed, stream, shape, work)
            for i in range(count):
                out[at + i] = g[i]


def words(uint64_t seed, uint32_t stream, uint32_t draw, uint64_t first, uint32_t[:, ::1] out not None):
    """Fill row i of `out` (rows, 4) with the words of Philox 4x32-7 at (first + i, draw, stream) under `seed`."""
    cdef uint64_t index[GROUP]
    cdef uint64_t found[4 * GROUP]
    cdef Py_ssize_t at, i, j
    if out.shape[1] != 4:
        raise ShapeError(f"out must have 4 columns, had {out.shape[1]}")
    with nogil:
        for at in range(0, out.shape[0], 16):  # GROUP
            count_up(first + <uint64_t>at, GROUP, index)
            philox_words(index, GROUP, seed, stream, draw, found)
            for i in range(min(<Py_ssize_t>GROUP, out.shape[0] - at)):
                for j in range(4):
                    out[at + i, j] = <uint32_t>found[j * GROUP + i]


def lower_root(const double[:, ::1] matrix not None, double[:, ::1] out not None):
    """Fill `out` with the lower triangle L of a positive semi-definite matrix, L L' = matrix (Cholesky).

    A pivot within rounding of zero makes a column of zeros.  Returns the first row whose pivot is negative beyond
    rounding or whose column does not vanish with it, else -1.
    """
    cdef Py_ssize_t n = matrix.shape[0], i, j, k, bad = -1
    cdef double total, pivot = 0.0
    if matrix.shape[1] != n or out.shape[0] != n or out.shape[1] != n:
        raise ShapeError("matrix and out must be square and of one shape")
    with nogil:
        for j in range(n):
            for i in range(n):
                if i < j:
                    out[i, j] = 0.0
                    continue
                total = matrix[i, j]
                for k in range(j):
                    total = total - out[i, k] * out[j, k]
                if i == j:
                    pivot = 0.0
                    if total > 1e-12 * matrix[j, j]:
                        pivot = sqrt(total)
                    elif total < -1e-9 * fabs(matrix[j, j]) or matrix[j, j] < 0.0:
                        bad = j if bad < 0 else bad
                    out[j, j] = pivot
                elif pivot > 0.0:
                    out[i, j] = total / pivot
                else:
                    out[i, j] = 0.0
                    # A vanishing pivot bounds its column by the root of itself times the other variance.
                    if fabs(total) > 1e-4 * sqrt(fabs(matrix[i, i] * matrix[j, j])):
                        bad = j if bad < 0 else bad
    return bad
