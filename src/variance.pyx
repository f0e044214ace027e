"""Variance recursions: one series, one tick and a panel of series are the same arithmetic, hence the same bits.

    level[t+1] = omega + sum_j (first_j * a[t-j] + second_j * b[t-j]) + sum_k beta_k * level[t-k]

form        level              feature a              feature b
SQUARE      variance           e^2 where e >= 0       e^2 where e < 0      (EWMA, GARCH, GJR, component)
DIRECT      variance           x itself               0                    (HAR on realised variance)
LOGARITHM   log of variance    |z| - sqrt(2 / pi)     z = e / sqrt(h)      (EGARCH)

with e = return - mean.  Every product is an explicit fused multiply-add in one stated order, newest variance last.
Cost with one lag each: 1.2 ns per return of a short series (the latency of the fused multiply-add, a limit of any
serial recursion), about 0.5 ns of a long one (`run_split`) and 0.3 ns in a panel, where the series lie in the vector
lanes.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport fabs, fma, isfinite, sqrt
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memmove

import numpy as np

from margincore.errors import CapacityError, NotFiniteError, RangeError, ShapeError

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_log(double x)

cdef extern from *:
    """
    typedef double *restrict mc_lane;
    typedef const double *restrict mc_const_lane;
    #if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
    #define MC_NARROW __attribute__((noinline, target("prefer-vector-width=256")))
    #else
    #define MC_NARROW
    #endif

    /* omega + first e+^2 + second e-^2: all of a step that does not wait for the level before it.  The steps read one
       by one what is written here in vectors, which costs 0.9 ns each after stores of 64 bytes and nothing after 32. */
    static MC_NARROW void mc_shocks(const double *restrict values, double *restrict out, double mean, double omega,
                                    double first, double second, Py_ssize_t n)
    {
        for (Py_ssize_t t = 0; t < n; t++) {
            double e = values[t] - mean, high = 0.5 * (e + fabs(e)), low = 0.5 * (e - fabs(e));
            out[t] = fma(first, high * high, fma(second, low * low, omega));
        }
    }

    static MC_NARROW void mc_shocks_even(const double *restrict values, double *restrict out, double mean, double omega,
                                         double first, Py_ssize_t n)
    {
        for (Py_ssize_t t = 0; t < n; t++) {
            double e = values[t] - mean;
            out[t] = fma(first, e * e, omega);
        }
    }
    """
    ctypedef double* mc_lane
    ctypedef const double* mc_const_lane
    void mc_shocks(const double* values, double* out, double mean, double omega, double first, double second,
                   Py_ssize_t n) nogil
    void mc_shocks_even(const double* values, double* out, double mean, double omega, double first, Py_ssize_t n) nogil

cnp.import_array()

cdef enum:
    LAGS_MAX = 64  # a monthly HAR needs 30
    BLOCK = 32      # series that run together
    STRIPE = 16     # rows of a panel that run together
    SQUARE = 0
    DIRECT = 1
    LOGARITHM = 2
    PARTS = 4       # of a long series that run together
    TILE = 64       # returns of one part at a time
    MERGE = 80      # steps, times 1 - beta, in which two starts have forgotten their difference to the last bit

FORMS = ("square", "direct", "logarithm")
cdef double MEAN_ABSOLUTE = 0.79788456080286535588  # sqrt(2 / pi), E|z| of the normal law


cdef struct recursion_t:
    double mean
    double omega
    double first[LAGS_MAX]
    double second[LAGS_MAX]
    double beta[LAGS_MAX]
    double a[LAGS_MAX]      # features, newest first
    double b[LAGS_MAX]
    double level[LAGS_MAX]  # level[0] forecasts the next return
    double variance         # forecast for the next return
    double deviation        # its square root, logarithm form only
    int64_t count
    int32_t p
    int32_t q
    int32_t form


cdef inline double squared_next(double level, double e, double omega, double first, double second,
                                double beta) noexcept nogil:
    # omega + first e+^2 + second e-^2 + beta h: `observe` and `advance` with one lag each.  Halves of e + |e| and e - |e|
    # are exact; a choice by the sign would be a branch nobody can predict, 4 ns.
    cdef double high = 0.5 * (e + fabs(e))
    cdef double low = 0.5 * (e - fabs(e))
    return fma(beta, level, fma(first, high * high, fma(second, low * low, omega)))


cdef inline void advance(recursion_t* c) noexcept nogil:
    # Append the level that follows from the features and levels held.
    cdef double total = c.omega
    cdef int32_t j
    for j in range(c.p - 1, -1, -1):
        total = fma(c.first[j], c.a[j], fma(c.second[j], c.b[j], total))
    for j in range(c.q - 1, -1, -1):
        total = fma(c.beta[j], c.level[j], total)
    if c.q > 1:
        memmove(&c.level[1], &c.level[0], (c.q - 1) * sizeof(double))
    c.level[0] = total
    if c.form == LOGARITHM:
        c.deviation = vm_exp(0.5 * total)
        c.variance = c.deviation * c.deviation
    else:
        c.variance = total


cdef inline void observe(recursion_t* c, double value) noexcept nogil:
    # Put the features of one observation in front.
    cdef double e = value - c.mean
    if c.p > 1:
        memmove(&c.a[1], &c.a[0], (c.p - 1) * sizeof(double))
        memmove(&c.b[1], &c.b[0], (c.p - 1) * sizeof(double))
    if c.form == SQUARE:
        c.a[0] = 0.0 if e < 0.0 else e * e
        c.b[0] = e * e if e < 0.0 else 0.0
    elif c.form == DIRECT:
        c.a[0] = value
        c.b[0] = 0.0
    else:
        e = e / c.deviation
        c.a[0] = fabs(e) - MEAN_ABSOLUTE
        c.b[0] = e


cdef bint step(recursion_t* c, double value) noexcept nogil:
    # One observation; False, with nothing changed, where it or the forecast after it is not a finite number.
    cdef recursion_t trial
    cdef double e, x, level
    if c.form == SQUARE and c.p == 1 and c.q == 1:
        e = value - c.mean
        x = e * e
        level = squared_next(c.level[0], e, c.omega, c.first[0], c.second[0], c.beta[0])
        if not (isfinite(x + level) and level > 0.0):
            return False
        c.a[0] = 0.0 if e < 0.0 else x
        c.b[0] = x if e < 0.0 else 0.0
        c.level[0] = c.variance = level
        c.count += 1
        return True
    if not isfinite(value) or (c.form == DIRECT and value < 0.0):
        return False
    trial = c[0]
    observe(&trial, value)
    advance(&trial)
    if not (isfinite(trial.variance) and isfinite(trial.a[0] + trial.b[0]) and trial.variance > 0.0):
        return False
    trial.count += 1
    c[0] = trial
    return True


cdef inline void shocks(const recursion_t* c, const double* values, double* out, Py_ssize_t n) noexcept nogil:
    if c.first[0] == c.second[0]:  # the same numbers, four instructions fewer
        mc_shocks_even(values, out, c.mean, c.omega, c.first[0], n)
    else:
        mc_shocks(values, out, c.mean, c.omega, c.first[0], c.second[0], n)


cdef double run_plain(const recursion_t* c, const double* values, double* out, Py_ssize_t n) noexcept nogil:
    # One lag each from c.level[0]; the last level.
    cdef double tile[TILE]
    cdef double level = c.level[0], beta = c.beta[0]
    cdef Py_ssize_t t = 0, j, m
    while t < n:
        m = n - t if n - t < TILE else TILE
        shocks(c, values + t, tile, m)
        for j in range(m):
            level = fma(beta, level, tile[j])
            out[t + j] = level
        t += m
    return level


cdef void run_until_met(const recursion_t* c, const double* values, double* out, Py_ssize_t n) noexcept nogil:
    # `run_plain` up to where `out` already holds the level: what follows it is right as it stands.
    cdef double level = c.level[0]
    cdef Py_ssize_t t
    for t in range(n):
        level = squared_next(level, values[t] - c.mean, c.omega, c.first[0], c.second[0], c.beta[0])
        if out[t] == level:
            return
        out[t] = level


cdef double run_split(recursion_t* c, const double* values, double* out, Py_ssize_t n) noexcept nogil:
    # `run_plain` of a long series, PARTS of it at once: one fused multiply-add no longer waits for the one before.  Each
    # part starts at a guess; then, part by part, the true start is run until it meets what the guess gave, bit for bit,
    # as it does soon since beta < 1 contracts any difference and rounding ends it.  What never meets is run to its end.
    cdef Py_ssize_t part = n // PARTS // 512 * 512 - 440  # odd strides: the parts do not share cache sets
    cdef Py_ssize_t t = 0, j
    cdef double tile[PARTS * TILE]
    cdef double l0 = c.level[0], l1 = l0, l2 = l0, l3 = l0, beta = c.beta[0]
    cdef double* out1 = out + part
    cdef double* out2 = out1 + part
    cdef double* out3 = out2 + part
    while t + TILE <= part:
        for j in range(PARTS):
            shocks(c, values + j * part + t, tile + j * TILE, TILE)
        for j in range(TILE):
            l0 = fma(beta, l0, tile[j])
            l1 = fma(beta, l1, tile[TILE + j])
            l2 = fma(beta, l2, tile[2 * TILE + j])
            l3 = fma(beta, l3, tile[3 * TILE + j])
            out[t + j] = l0
            out1[t + j] = l1
            out2[t + j] = l2
            out3[t + j] = l3
        t += TILE
    c.level[0] = l0
    for j in range(PARTS):
        if j > 0:
            run_until_met(c, values + j * part, out + j * part, t)
            c.level[0] = out[j * part + t - 1]
        c.level[0] = run_plain(c, values + j * part + t, out + j * part + t, part - t)
    return run_plain(c, values + PARTS * part, out + PARTS * part, n - PARTS * part)


cdef inline bint plain(const recursion_t* c) noexcept nogil:
    # One lag each, and a finite end proves that every forecast was finite and positive: what is not finite stays so, as
    # beta > 0, and no level falls to zero under a positive omega or, rounded, a beta above one half.
    return (c.form == SQUARE and c.p == 1 and c.q == 1 and c.beta[0] > 0.0
            and c.first[0] >= 0.0 and c.second[0] >= 0.0 and (c.omega > 0.0 or c.beta[0] > 0.5))


cdef bint run(recursion_t* c, const double* values, double* out, Py_ssize_t n) noexcept nogil:
    # out[t] = forecast after values[t].  False where any step was refused: out and c are then worthless.
    cdef double e
    cdef Py_ssize_t t
    if n > 0 and plain(c):
        if (n // (8 * PARTS)) * (1.0 - c.beta[0]) > MERGE:
            c.level[0] = run_split(c, values, out, n)
        else:
            c.level[0] = run_plain(c, values, out, n)
        e = values[n - 1] - c.mean
        c.a[0] = 0.0 if e < 0.0 else e * e
        c.b[0] = e * e if e < 0.0 else 0.0
        c.variance = c.level[0]
        c.count += n
        return isfinite(c.level[0])
    for t in range(n):
        if not step(c, values[t]):
            return False
        out[t] = c.variance
    return True


cdef int fill(str name, object values, double* target, Py_ssize_t length) except -1:
    if len(values) != length:
        raise ShapeError(f"{name} must have length {length}, had {len(values)}")
    cdef Py_ssize_t i
    for i in range(length):
        target[i] = values[i]
        if not isfinite(target[i]):
            raise NotFiniteError(f"{name} must be finite, was {target[i]!r} at position {i}")
    return 0


cdef const double* vector(cnp.ndarray array, Py_ssize_t size, str name) except NULL:
    # Pointer of a contiguous float64 array of `size` numbers; a typed memoryview would cost 110 ns.
    if cnp.PyArray_TYPE(array) != cnp.NPY_DOUBLE or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ShapeError(f"{name} must be a contiguous float64 array")
    if cnp.PyArray_SIZE(array) != size:
        raise ShapeError(f"{name} must hold {size} numbers, held {cnp.PyArray_SIZE(array)}")
    return <const double*>cnp.PyArray_DATA(array)


def _restored(saved):
    # Pickles name functions of a module; a static method has no name they could find.
    return VarianceState.load(saved)


@cython.final
cdef class VarianceState:
    """Where one variance recursion stands: lags and the forecast for the next return.  One writer at a time."""

    cdef recursion_t c

    def __init__(self, *, double mean, double omega, first, second, beta, a, b, level, str form="square", count=0):
        cdef Py_ssize_t p = len(first), q = len(beta)
        if form not in FORMS:
            raise RangeError(f"form must be one of {', '.join(FORMS)}, was {form!r}")
        if not 1 <= p <= LAGS_MAX or q > LAGS_MAX:
            raise CapacityError(f"first and beta must hold at most {LAGS_MAX} lags, first at least one, "
                                f"held {p} and {q}")
        if not (isfinite(mean) and isfinite(omega)):
            raise NotFiniteError(f"mean and omega must be finite, were {mean!r} and {omega!r}")
        self.c.mean, self.c.omega, self.c.count = mean, omega, count
        self.c.p, self.c.q, self.c.form = p, q, FORMS.index(form)
        fill("first", first, self.c.first, p)
        fill("second", second, self.c.second, p)
        fill("beta", beta, self.c.beta, q)
        fill("a", a, self.c.a, p)
        fill("b", b, self.c.b, p)
        fill("level", level, self.c.level, max(q, 1))
        self._refresh()

    cdef int _refresh(self) except -1:
        self.c.variance = self.c.level[0]
        if self.c.form == LOGARITHM:
            self.c.deviation = vm_exp(0.5 * self.c.level[0])
            self.c.variance = self.c.deviation * self.c.deviation
        if not (self.c.variance > 0.0 and isfinite(self.c.variance)):
            raise RangeError(f"level must give a positive finite variance, gave {self.c.variance!r}")
        return 0

    @staticmethod
    def begin(*, double mean, double omega, first, second, beta, double start_variance, double first_share,
              str form="square", bint moved=True):
        """State before the first return, every lag at `start_variance`, `first_share` of it in feature a.

        The first forecast is what follows from those lags, or `start_variance` itself where not `moved`.
        """
        if not (start_variance > 0.0 and isfinite(start_variance)):
            raise RangeError(f"start_variance must be positive and finite, was {start_variance!r}")
        cdef double level = vm_log(start_variance) if form == "logarithm" else start_variance
        cdef double a = 0.0 if form == "logarithm" else first_share * start_variance
        cdef double b = 0.0 if form == "logarithm" else start_variance - a
        cdef Py_ssize_t p = len(first), q = len(beta)
        cdef VarianceState state = VarianceState(
            mean=mean, omega=omega, first=first, second=second, beta=beta, a=[a] * p, b=[b] * p,
            level=[level] * max(q, 1), form=form)
        if moved:
            advance(&state.c)
            state._refresh()
        return state

    def update(self, double value):
        """Take one return; the variance forecast for the next.  A number that is not finite changes nothing."""
        if not step(&self.c, value):
            raise NotFiniteError(f"value must be finite and leave a finite positive variance, was {value!r}")
        return self.c.variance

    def extend(self, cnp.ndarray values not None, cnp.ndarray out not None):
        """Take `values` (n,) in order and write to `out` (n,) the forecast after each; all or nothing."""
        cdef Py_ssize_t n = cnp.PyArray_SIZE(values)
        cdef const double* x = vector(values, n, "values")
        cdef double* y = <double*>vector(out, n, "out")
        if not cnp.PyArray_ISWRITEABLE(out):
            raise ShapeError("out must be writable")
        cdef recursion_t trial = self.c
        cdef bint done
        with nogil:
            done = run(&trial, x, y, n)
        if not done:
            out.fill(np.nan)
            wrong = np.flatnonzero(~(np.abs(values) < 1e154))  # beyond, the square is not finite
            where = f", was {float(values[wrong[0]])!r} at position {wrong[0]}" if wrong.size else ""
            raise NotFiniteError(f"values must be finite and leave a finite positive variance{where}")
        self.c = trial

    def simulate(self, cnp.ndarray shocks not None, cnp.ndarray returns not None, cnp.ndarray variances not None):
        """Continue by `shocks` (n,) of unit variance; the returns they make and the variance each was drawn at."""
        cdef Py_ssize_t n = cnp.PyArray_SIZE(shocks), t
        cdef const double* z = vector(shocks, n, "shocks")
        cdef double* r = <double*>vector(returns, n, "returns")
        cdef double* h = <double*>vector(variances, n, "variances")
        cdef recursion_t trial = self.c
        cdef bint done = True
        with nogil:
            for t in range(n):
                h[t] = trial.variance
                r[t] = trial.mean + sqrt(trial.variance) * z[t]
                done = done and step(&trial, r[t])
        if not done:
            raise NotFiniteError("shocks must be finite and leave a finite positive variance")
        self.c = trial

    @property
    def variance(self):
        """Variance forecast for the next return."""
        return self.c.variance

    @property
    def count(self):
        """Returns taken so far."""
        return self.c.count

    def copy(self):
        """An independent state at the same point."""
        cdef VarianceState twin = VarianceState.__new__(VarianceState)
        twin.c = self.c
        return twin

    def save(self):
        """Everything as a dictionary of plain numbers and lists: JSON keeps it to the bit."""
        cdef int32_t i, p = self.c.p, q = self.c.q
        return {
            "form": FORMS[self.c.form], "mean": self.c.mean, "omega": self.c.omega, "count": self.c.count,
            "first": [self.c.first[i] for i in range(p)], "second": [self.c.second[i] for i in range(p)],
            "beta": [self.c.beta[i] for i in range(q)],
            "a": [self.c.a[i] for i in range(p)], "b": [self.c.b[i] for i in range(p)],
            "level": [self.c.level[i] for i in range(max(q, 1))],
        }

    @staticmethod
    def load(saved):
        """The state that `save` described."""
        try:
            return VarianceState(**saved)
        except (TypeError, KeyError) as problem:
            raise ShapeError(f"saved must be the dictionary of VarianceState.save: {problem}") from None

    def __reduce__(self):
        return _restored, (self.save(),)

    def __eq__(self, other):
        return isinstance(other, VarianceState) and self.save() == other.save()

    __hash__ = None


cdef struct panel_t:
    # Row-major blocks of `size` series: a series is a vector lane.
    Py_ssize_t size
    int32_t p
    int32_t q
    int32_t form
    double* mean
    double* omega
    double* first
    double* second
    double* beta
    double* a
    double* b
    double* level
    double* variance
    double* deviation
    double* refused
    double* start
    double* taken


cdef void panel_block(mc_const_lane values, mc_lane out, mc_lane level, mc_const_lane mean, mc_const_lane omega,
                      mc_const_lane first, mc_const_lane second, mc_const_lane beta, Py_ssize_t times,
                      Py_ssize_t stride, Py_ssize_t width) noexcept nogil:
    # Rows of observations, one lag each, `width` neighbouring series, unchecked: what is not finite stays so (beta > 0).
    # A whole block has a constant width, which lets the compiler unroll it: 0.2 ns per return in place of 0.5.
    cdef Py_ssize_t t, s
    if width == BLOCK:
        for t in range(times):
            for s in range(BLOCK):
                level[s] = squared_next(level[s], values[t * stride + s] - mean[s], omega[s], first[s], second[s],
                                        beta[s])
                out[t * stride + s] = level[s]
        return
    for t in range(times):
        for s in range(width):
            level[s] = squared_next(level[s], values[t * stride + s] - mean[s], omega[s], first[s], second[s], beta[s])
            out[t * stride + s] = level[s]


cdef void last_features(mc_const_lane values, mc_const_lane mean, mc_const_lane level, mc_lane a, mc_lane b,
                        Py_ssize_t n) noexcept nogil:
    # What `observe` leaves of the last return, where none was refused.
    cdef double e, high, low
    cdef Py_ssize_t s
    for s in range(n):
        e = values[s] - mean[s]
        high = 0.5 * (e + fabs(e))
        low = 0.5 * (e - fabs(e))
        a[s] = high * high if fabs(level[s]) < 1e308 else a[s]
        b[s] = low * low if fabs(level[s]) < 1e308 else b[s]


cdef void panel_row(panel_t* c, const double* values, double* out, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    # The general row, series by series, in the arithmetic of `observe` and `advance`.
    cdef Py_ssize_t s, n = c.size
    cdef int32_t j
    cdef double e, x, y, total, variance, deviation
    for s in range(begin, end):
        e = values[s] - c.mean[s]
        x = y = 0.0
        if c.form == SQUARE:
            x = 0.0 if e < 0.0 else e * e
            y = e * e if e < 0.0 else 0.0
        elif c.form == DIRECT:
            x = values[s]
        else:
            e = e / c.deviation[s]
            x = fabs(e) - MEAN_ABSOLUTE
            y = e
        total = c.omega[s]
        for j in range(c.p - 1, 0, -1):
            total = fma(c.first[j * n + s], c.a[(j - 1) * n + s],
                        fma(c.second[j * n + s], c.b[(j - 1) * n + s], total))
        total = fma(c.first[s], x, fma(c.second[s], y, total))
        for j in range(c.q - 1, -1, -1):
            total = fma(c.beta[j * n + s], c.level[j * n + s], total)
        variance = total
        deviation = 0.0
        if c.form == LOGARITHM:
            deviation = vm_exp(0.5 * total)
            variance = deviation * deviation
        if not (isfinite(values[s]) and isfinite(x + y) and variance > 0.0 and isfinite(variance)) or (
                c.form == DIRECT and values[s] < 0.0):
            out[s] = 0.0 * (1e308 * 1e308)
            c.refused[s] += 1.0
            c.taken[s] -= 1.0
            continue
        for j in range(c.p - 1, 0, -1):
            c.a[j * n + s] = c.a[(j - 1) * n + s]
            c.b[j * n + s] = c.b[(j - 1) * n + s]
        c.a[s] = x
        c.b[s] = y
        for j in range(c.q - 1, 0, -1):
            c.level[j * n + s] = c.level[(j - 1) * n + s]
        c.level[s] = total
        c.variance[s] = variance
        c.deviation[s] = deviation
        out[s] = variance


@cython.final
cdef class PanelState:
    """Many recursions of one shape side by side, one per series; the panel form of `VarianceState`.

    A return that is not finite is refused for its series alone: that answer is NaN, the state of the series stays as
    it was and `refused` counts it.
    """

    cdef panel_t c
    cdef readonly tuple orders
    cdef object _store
    cdef Py_ssize_t _variance_row
    cdef bint _plain

    def __init__(self, states):
        """Put `states`, VarianceState objects of one form and one number of lags, side by side."""
        cdef VarianceState one
        cdef Py_ssize_t s, n = len(states), j
        if n == 0:
            raise ShapeError("states must not be empty")
        shapes = {(state["form"], len(state["first"]), len(state["beta"])) for state in
                  (item.save() for item in states)}
        if len(shapes) != 1:
            raise ShapeError(f"states must have one form and one number of lags, had {sorted(shapes)}")
        one = states[0]
        cdef int32_t p = one.c.p, q = one.c.q, levels = max(one.c.q, 1)
        self.orders = (p, q)
        self._store = np.zeros((7 + 4 * p + q + levels, n))
        cdef double* at = <double*>cnp.PyArray_DATA(self._store)
        self.c.size, self.c.p, self.c.q, self.c.form = n, p, q, one.c.form
        self.c.mean, self.c.omega, self.c.variance, self.c.deviation = at, at + n, at + 2 * n, at + 3 * n
        self.c.refused, self.c.start, self.c.taken = at + 4 * n, at + 5 * n, at + 6 * n
        self.c.first = at + 7 * n
        self.c.second = self.c.first + p * n
        self.c.a = self.c.second + p * n
        self.c.b = self.c.a + p * n
        self.c.beta = self.c.b + p * n
        self.c.level = self.c.beta + q * n
        self._variance_row = 2
        if self.c.form != LOGARITHM:  # the level is the variance
            self._variance_row = 7 + 4 * p + q
            self.c.variance = self.c.level
        self._plain = True
        for s in range(n):
            one = states[s]
            self._plain = self._plain and plain(&one.c)
            self.c.mean[s], self.c.omega[s], self.c.taken[s] = one.c.mean, one.c.omega, one.c.count
            self.c.variance[s], self.c.deviation[s] = one.c.variance, one.c.deviation
            for j in range(p):
                self.c.first[j * n + s], self.c.second[j * n + s] = one.c.first[j], one.c.second[j]
                self.c.a[j * n + s], self.c.b[j * n + s] = one.c.a[j], one.c.b[j]
            for j in range(q):
                self.c.beta[j * n + s] = one.c.beta[j]
            for j in range(levels):
                self.c.level[j * n + s] = one.c.level[j]

    def __len__(self):
        return self.c.size

    def states(self):
        """One VarianceState per series, at the same point; the panel goes on without them."""
        cdef VarianceState one
        cdef Py_ssize_t s, n = self.c.size, j
        result = []
        for s in range(n):
            one = VarianceState.__new__(VarianceState)
            one.c.form, one.c.p, one.c.q = self.c.form, self.c.p, self.c.q
            one.c.mean, one.c.omega, one.c.count = self.c.mean[s], self.c.omega[s], <int64_t>self.c.taken[s]
            one.c.variance, one.c.deviation = self.c.variance[s], self.c.deviation[s]
            for j in range(self.c.p):
                one.c.first[j], one.c.second[j] = self.c.first[j * n + s], self.c.second[j * n + s]
                one.c.a[j], one.c.b[j] = self.c.a[j * n + s], self.c.b[j * n + s]
            for j in range(self.c.q):
                one.c.beta[j] = self.c.beta[j * n + s]
            for j in range(max(self.c.q, 1)):
                one.c.level[j] = self.c.level[j * n + s]
            result.append(one)
        return result

    def save(self):
        """Everything as a list of plain dictionaries, those of `VarianceState.save`: JSON keeps it to the bit."""
        return [state.save() for state in self.states()]

    @staticmethod
    def load(saved):
        """The panel that `save` described; its count of refused returns starts anew."""
        return PanelState([VarianceState.load(one) for one in saved])

    def __reduce__(self):
        return PanelState, (self.states(),)

    def update(self, cnp.ndarray values not None, cnp.ndarray out not None):
        """Take one return per series; write each next variance forecast to `out`, NaN where refused."""
        cdef const double* x = vector(values, self.c.size, "values")
        cdef double* y = <double*>vector(out, self.c.size, "out")
        if not cnp.PyArray_ISWRITEABLE(out) or x == y:
            raise ShapeError("out must be writable and not the values themselves")
        self._run(x, y, 1, 0, self.c.size)

    cdef void _run(self, const double* x, double* y, Py_ssize_t times, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
        cdef panel_t* c = &self.c
        cdef Py_ssize_t s, t, width, rows
        for s in range(begin, end):
            c.taken[s] += times
        if self._plain and times > 0:
            memcpy(c.start + begin, c.level + begin, (end - begin) * sizeof(double))
            t = 0
            while t < times:  # in stripes of rows, so that neighbouring blocks meet in the cache
                rows = times - t if times - t < STRIPE else STRIPE
                s = begin
                while s < end:
                    width = end - s if end - s < BLOCK else BLOCK
                    panel_block(x + t * c.size + s, y + t * c.size + s, c.level + s, c.mean + s, c.omega + s,
                                c.first + s, c.second + s, c.beta + s, rows, c.size, width)
                    s += width
                t += rows
            last_features(x + (times - 1) * c.size + begin, c.mean + begin, c.level + begin, c.a + begin, c.b + begin,
                          end - begin)
            for s in range(begin, end):
                if not isfinite(c.level[s]):  # rare: again, with a check of every return
                    c.level[s] = c.start[s]
                    for t in range(times):
                        panel_row(c, x + t * c.size, y + t * c.size, s, s + 1)
            return
        for t in range(times):
            panel_row(c, x + t * c.size, y + t * c.size, begin, end)

    def extend(self, cnp.ndarray values not None, cnp.ndarray out not None, Py_ssize_t begin=0, end=None):
        """Take rows of returns (times, series) in order for series [begin, end); `out` gets the forecasts after each."""
        cdef Py_ssize_t n = self.c.size
        cdef Py_ssize_t stop = n if end is None else end
        if not 0 <= begin <= stop <= n:
            raise RangeError(f"begin and end must lie in [0, {n}] in order, were {begin} and {stop}")
        if cnp.PyArray_NDIM(values) != 2 or values.shape[1] != n:
            raise ShapeError(f"values must have shape (times, {n}), had {(<object>values).shape}")
        cdef Py_ssize_t times = values.shape[0]
        cdef const double* x = vector(values, times * n, "values")
        cdef double* y = <double*>vector(out, times * n, "out")
        if not cnp.PyArray_ISWRITEABLE(out) or x == y:
            raise ShapeError("out must be writable and not the values themselves")
        with nogil:
            self._run(x, y, times, begin, stop)

    @property
    def variance(self):
        """Variance forecast per series for the next return; a copy, shape (series,)."""
        return self._store[self._variance_row].copy()

    @property
    def refused(self):
        """Returns refused so far per series; int64 array, shape (series,)."""
        return self._store[4].astype(np.int64)
