"""Maximum likelihood: coordinates, starting points and the optimiser for the losses of `likelihood`.

The search runs in coordinates whose constraints are a box (persistence and shares of it in place of weights): BFGS
from a Hessian of gradient differences, renewed where it stops predicting, and at the end a Newton step that also proves
the optimum.  Returns are scaled by a power of two first, which is exact: scaling a series scales its fit.
"""

cimport numpy as cnp
from libc.math cimport fabs, isfinite, sqrt
from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from margincore.kernels.likelihood cimport (
    COMPONENT, EGARCH, GARCH, GJR, NORMAL, ORDER_MAX, SKEW_T, START_NUMBER, THETA_MAX, Likelihood, dot, loss, problem_t,
    total,
)

from margincore.errors import RangeError, ShapeError

cdef extern from "vmath.h" nogil:
    double vm_log(double x)

cnp.import_array()

cdef enum:
    ITERATIONS_MAX = 200
    STARTS_MAX = 8
    CONVERGED = 0
    STOPPED = 1        # iteration limit or no descent
    NOT_FINITE = 2
    CONSTANT = 3

STATUS = ("converged", "stopped", "not finite", "constant")

cdef double PERSISTENCE_MOST = 0.999999
cdef double INFINITY = 1e300 * 1e300
cdef double[6] KINK_STEPS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8]


cdef bint stable(const double* beta, int32_t q) noexcept nogil:
    # Durbin and Levinson backwards: all partial autocorrelations inside the unit interval.
    cdef double held[ORDER_MAX]
    cdef double old[ORDER_MAX]
    cdef int32_t i, k
    for i in range(q):
        held[i] = beta[i]
    for k in range(q - 1, -1, -1):
        if not fabs(held[k]) < PERSISTENCE_MOST:
            return False
        for i in range(k):
            old[i] = held[i]
        for i in range(k):
            held[i] = (old[i] + held[k] * old[k - 1 - i]) / (1.0 - held[k] * held[k])
    return True


cdef void shares(const double* y, int32_t m, double* share, double* jacobian) noexcept nogil:
    # y: persistence and m - 1 fractions of what is left; share[i] and d share[i] / d y[k], rows of m.
    cdef double product
    cdef int32_t i, j, k
    for i in range(m):
        for k in range(m):  # k = 0: the persistence; k >= 1: fraction k - 1
            product = 1.0 if k == 0 else y[0]
            for j in range(i):
                if k != j + 1:
                    product *= 1.0 - y[1 + j]
            if i < m - 1 and k != i + 1:
                product *= y[1 + i]
            if 0 < k <= i:
                product = -product
            elif k > i + 1:
                product = 0.0
            jacobian[i * m + k] = product
        share[i] = y[0] * jacobian[i * m]


cdef bint unpack(problem_t* w, const double* y, double* theta, double* jacobian) noexcept nogil:
    # Coordinates to theta, and d theta[i] / d y[k] in rows of THETA_MAX.  False where the recursion is not stable.
    cdef double share[THETA_MAX]
    cdef double inner[THETA_MAX * THETA_MAX]
    cdef int32_t i, k, at = 0, p = w.p, q = w.q, m, row
    cdef double weight, rho, delta, alpha, beta, phi
    memset(jacobian, 0, THETA_MAX * THETA_MAX * sizeof(double))
    memset(theta, 0, THETA_MAX * sizeof(double))
    if w.mean_free:
        theta[0] = y[0]
        jacobian[0] = 1.0
        at = 1
    if w.target == 0.0:
        theta[1] = y[at]
        jacobian[THETA_MAX + at] = 1.0
        at += 1
    if w.family == EGARCH:
        for i in range(2 * p + q):
            theta[2 + i] = y[at + i]
            jacobian[(2 + i) * THETA_MAX + at + i] = 1.0
        at += 2 * p + q
    elif w.family == COMPONENT:
        rho, delta = y[at], y[at] * y[at + 1]
        beta = delta * y[at + 2]
        alpha, phi = delta - beta, beta * y[at + 3]
        # inner: rows rho, alpha, beta, phi; columns the four coordinates
        memset(inner, 0, sizeof(inner))
        inner[0] = 1.0
        inner[8], inner[9], inner[10] = y[at + 1] * y[at + 2], rho * y[at + 2], delta
        inner[4], inner[5], inner[6] = y[at + 1] - inner[8], rho - inner[9], -inner[10]
        for k in range(3):
            inner[12 + k] = inner[8 + k] * y[at + 3]
        inner[15] = beta
        weight = theta[1]
        theta[1] = weight * (1.0 - delta)
        for k in range(at):
            jacobian[THETA_MAX + k] *= 1.0 - delta
        theta[2] = theta[4] = alpha + phi
        theta[3] = theta[5] = -(phi * delta + alpha * rho)
        theta[6] = rho + beta - phi
        theta[7] = phi * delta - rho * beta
        for k in range(4):
            jacobian[THETA_MAX + at + k] = -weight * (inner[4 + k] + inner[8 + k])
            jacobian[2 * THETA_MAX + at + k] = inner[4 + k] + inner[12 + k]
            jacobian[3 * THETA_MAX + at + k] = -(inner[12 + k] * delta + phi * (inner[4 + k] + inner[8 + k])
                                                 + inner[4 + k] * rho + alpha * inner[k])
            jacobian[4 * THETA_MAX + at + k] = jacobian[2 * THETA_MAX + at + k]
            jacobian[5 * THETA_MAX + at + k] = jacobian[3 * THETA_MAX + at + k]
            jacobian[6 * THETA_MAX + at + k] = inner[k] + inner[8 + k] - inner[12 + k]
            jacobian[7 * THETA_MAX + at + k] = (inner[12 + k] * delta + phi * (inner[4 + k] + inner[8 + k])
                                                - inner[k] * beta - rho * inner[8 + k])
        at += 4
    else:
        m = q + p if w.family == GARCH else q + 2 * p
        shares(y + at, m, share, inner)
        for i in range(m):
            row = 2 + 2 * p + i if i < q else 2 + i - q
            weight = 1.0
            if w.family == GJR and i >= q:  # each side of a shock has its share of the variance
                weight = 1.0 / (1.0 - w.low_share if i < q + p else w.low_share)
            theta[row] = weight * share[i]
            for k in range(m):
                jacobian[row * THETA_MAX + at + k] = weight * inner[i * m + k]
            if w.family == GARCH and i >= q:
                theta[row + p] = theta[row]
                for k in range(m):
                    jacobian[(row + p) * THETA_MAX + at + k] = inner[i * m + k]
        if w.target > 0.0:
            theta[1] = w.target * (1.0 - y[at])
            jacobian[THETA_MAX + at] = -w.target
        at += m
    row = 2 + 2 * p + q
    if w.law != NORMAL:
        theta[row] = 1.0 / y[at]
        jacobian[row * THETA_MAX + at] = -theta[row] * theta[row]
    if w.law == SKEW_T:
        theta[row + 1] = y[at + 1]
        jacobian[(row + 1) * THETA_MAX + at + 1] = 1.0
    return w.family != EGARCH or stable(theta + 2 + 2 * p, q)


cdef double objective(problem_t* w, const double* y, double* slope) noexcept nogil:
    # Loss at coordinates y; `slope` or NULL.
    cdef double theta[THETA_MAX]
    cdef double by_theta[THETA_MAX]
    cdef double jacobian[THETA_MAX * THETA_MAX]
    cdef double value
    cdef int32_t i, k
    if not unpack(w, y, theta, jacobian):
        return INFINITY
    value = loss(w, theta, by_theta if slope != NULL else NULL)
    if slope != NULL:
        for k in range(w.coordinates):
            slope[k] = 0.0
            for i in range(w.thetas):
                slope[k] += jacobian[i * THETA_MAX + k] * by_theta[i]
            if not isfinite(slope[k]):
                return INFINITY
    return value


cdef bint solve(const double* hessian, const double* slope, const int32_t* free_list, int32_t m, double* move) noexcept nogil:
    # Newton move -H^-1 g on the free coordinates by Cholesky.  A matrix that is not positive definite gets a larger
    # diagonal until it is; answers whether it was as it came.
    cdef double factor[THETA_MAX * THETA_MAX]
    cdef double x[THETA_MAX]
    cdef double ridge = 0.0, pivot, largest = 0.0
    cdef int32_t i, j, k, _attempt
    cdef bint done
    for i in range(m):
        pivot = fabs(hessian[free_list[i] * THETA_MAX + free_list[i]])
        largest = pivot if pivot > largest else largest
    for _attempt in range(60):
        done = True
        for i in range(m):
            for j in range(i + 1):
                pivot = hessian[free_list[i] * THETA_MAX + free_list[j]]
                if i == j:
                    pivot += ridge * (fabs(pivot) + 1e-8 * largest)
                for k in range(j):
                    pivot -= factor[i * THETA_MAX + k] * factor[j * THETA_MAX + k]
                if i == j:
                    done = done and pivot > 1e-13 * fabs(hessian[free_list[i] * THETA_MAX + free_list[i]])
                    factor[i * THETA_MAX + i] = sqrt(pivot) if pivot > 0.0 else 1.0
                else:
                    factor[i * THETA_MAX + j] = pivot / factor[j * THETA_MAX + j]
        if done:
            break
        ridge = 1e-3 if ridge == 0.0 else 4.0 * ridge
    for i in range(m):
        x[i] = -slope[free_list[i]]
        for k in range(i):
            x[i] -= factor[i * THETA_MAX + k] * x[k]
        x[i] /= factor[i * THETA_MAX + i]
    for i in range(m - 1, -1, -1):
        for k in range(i + 1, m):
            x[i] -= factor[k * THETA_MAX + i] * x[k]
        x[i] /= factor[i * THETA_MAX + i]
        move[free_list[i]] = x[i]
    return ridge == 0.0


cdef void curvature(problem_t* w, const double* y, const double* slope, double* hessian) noexcept nogil:
    # Hessian by differences of the gradient, inward from the box, made symmetric.
    cdef double moved[THETA_MAX]
    cdef double other[THETA_MAX]
    cdef int32_t i, k, m = w.coordinates
    cdef double width
    for k in range(m):
        moved[k] = y[k]
    for k in range(m):
        width = 1e-5 * (fabs(y[k]) + 1e-3 * (w.high[k] - w.low[k] if w.high[k] - w.low[k] < 1.0 else 1.0))
        if y[k] + width > w.high[k]:
            width = -width
        moved[k] = y[k] + width
        width = moved[k] - y[k]
        if not isfinite(objective(w, moved, other)):
            for i in range(m):
                other[i] = slope[i] + (width if i == k else 0.0)
        for i in range(m):
            hessian[i * THETA_MAX + k] = (other[i] - slope[i]) / width
        moved[k] = y[k]
    for i in range(m):
        for k in range(i):
            width = 0.5 * (hessian[i * THETA_MAX + k] + hessian[k * THETA_MAX + i])
            hessian[i * THETA_MAX + k] = hessian[k * THETA_MAX + i] = width


cdef void bfgs(double* hessian, const double* step, const double* change, int32_t m) noexcept nogil:
    # Powell-damped update of the Hessian itself.
    cdef double product[THETA_MAX]
    cdef double bent[THETA_MAX]
    cdef double along = 0.0, across = 0.0, mix = 1.0
    cdef int32_t i, k
    for i in range(m):
        product[i] = 0.0
        for k in range(m):
            product[i] += hessian[i * THETA_MAX + k] * step[k]
        along += step[i] * change[i]
        across += step[i] * product[i]
    if not across > 0.0:
        return
    if along < 0.2 * across:
        mix = 0.8 * across / (across - along)
    along = 0.0
    for i in range(m):
        bent[i] = mix * change[i] + (1.0 - mix) * product[i]
        along += step[i] * bent[i]
    for i in range(m):
        for k in range(m):
            hessian[i * THETA_MAX + k] += bent[i] * bent[k] / along - product[i] * product[k] / across


cdef double newton_move(problem_t* w, const double* y, const double* slope, const double* hessian,
                        double* move) noexcept nogil:
    # Newton move inside the box: coordinates that rest on a bound and would leave it are held.  The decrement.
    cdef int32_t free_list[THETA_MAX]
    cdef bint held[THETA_MAX]
    cdef bint again = True
    cdef int32_t i, m, count = w.coordinates
    cdef double along = 0.0
    for i in range(count):
        held[i] = (y[i] <= w.low[i] and slope[i] > 0.0) or (y[i] >= w.high[i] and slope[i] < 0.0)
    while again:
        m = 0
        for i in range(count):
            move[i] = 0.0
            if not held[i]:
                free_list[m] = i
                m += 1
        solve(hessian, slope, free_list, m, move)
        again = False
        for i in range(count):
            if not held[i] and ((y[i] <= w.low[i] and move[i] < 0.0) or (y[i] >= w.high[i] and move[i] > 0.0)):
                held[i] = again = True
    for i in range(count):
        along -= slope[i] * move[i]
    return along


cdef double place(problem_t* w, const double* y, const double* move, double factor, double* trial) noexcept nogil:
    # trial = y + factor move, shortened to the first bound it meets (a bent path need not go downhill).
    cdef int32_t i, first = -1
    cdef double room
    for i in range(w.coordinates):
        if y[i] + factor * move[i] < w.low[i]:
            room = (w.low[i] - y[i]) / move[i]
        elif y[i] + factor * move[i] > w.high[i]:
            room = (w.high[i] - y[i]) / move[i]
        else:
            continue
        if room < factor:
            factor = room
            first = i
    for i in range(w.coordinates):
        trial[i] = y[i] + factor * move[i]
    if first >= 0:
        trial[first] = w.low[first] if move[first] < 0.0 else w.high[first]
    return factor


cdef int32_t minimise(problem_t* w, double* y, double* best, double* decrement) noexcept nogil:
    # Quasi-Newton from y (changed in place).  Converged where a Newton step by the true Hessian promises next to
    # nothing; that step is still taken.  n * decrement is the squared distance to the optimum in standard errors.
    cdef double slope[THETA_MAX]
    cdef double other[THETA_MAX]
    cdef double move[THETA_MAX]
    cdef double trial[THETA_MAX]
    cdef double step[THETA_MAX]
    cdef double hessian[THETA_MAX * THETA_MAX]
    cdef int32_t i, _iteration, halving, age = 0, stalled = 0, count = w.coordinates
    cdef bint fresh = True
    cdef double value = objective(w, y, slope), found, along, factor, noise, quality
    if not isfinite(value):
        return STOPPED
    curvature(w, y, slope, hessian)
    for _iteration in range(ITERATIONS_MAX):
        along = newton_move(w, y, slope, hessian, move)
        best[0], decrement[0] = value, along
        noise = 1e-13 * (1.0 + fabs(value))
        if not fresh and along <= 1e-6 / w.n:  # near: the true Hessian decides
            curvature(w, y, slope, hessian)
            fresh, age = True, 0
            continue
        factor, found = 1.0, INFINITY
        for halving in range(30):
            factor = place(w, y, move, factor, trial)
            found = objective(w, trial, other)
            if found <= value - 1e-4 * factor * along + (noise if along < 1e-9 else 0.0):
                break
            factor *= 0.5 if halving < 3 else 0.2
            found = INFINITY
        if fresh and along <= 1e-8 / w.n:
            if isfinite(found):
                best[0] = found
                for i in range(count):
                    y[i] = trial[i]
            return CONVERGED
        if not isfinite(found):
            if fresh:  # no descent though the Hessian is true
                return STOPPED
            curvature(w, y, slope, hessian)
            fresh, age = True, 0
            continue
        for i in range(count):
            step[i] = trial[i] - y[i]
            move[i] = other[i] - slope[i]
            slope[i] = other[i]
            y[i] = trial[i]
        stalled = stalled + 1 if value - found < 1e-7 / w.n and along > 1e-6 / w.n else 0
        if stalled >= 5:
            return STOPPED
        quality = (value - found) / ((1.0 - 0.5 * factor) * factor * along)  # 1 where the quadratic model is true
        value = found
        age += 1
        fresh = age >= 6 or (age >= 2 and not 0.6 < quality < 1.5)
        if fresh:  # updates far from the optimum can leave a Hessian that is much too stiff
            curvature(w, y, slope, hessian)
            age = 0
        else:
            bfgs(hessian, step, move, count)
    return STOPPED


cdef int32_t minimise_with_kinks(problem_t* w, double* y, double* best, double* decrement) noexcept nogil:
    # The |z| of an EGARCH gives its loss a kink in the mean at every return, and the optimum often rests in one, where
    # no gradient vanishes.  Then: the other coordinates at that mean, proved to be no worse than its neighbours.
    cdef double moved[THETA_MAX]
    cdef double low = w.low[0], high = w.high[0], found
    cdef int32_t i, _pass, status = minimise(w, y, best, decrement)
    if status == CONVERGED or w.family != EGARCH or not w.mean_free:
        return status
    for _pass in range(4):
        w.low[0] = w.high[0] = y[0]
        status = minimise(w, y, best, decrement)
        w.low[0], w.high[0] = low, high
        if status != CONVERGED:
            return status
        for i in range(w.coordinates):
            moved[i] = y[i]
        for i in range(12):  # steps of 1e-3, 1e-4 ... 1e-8 deviations on both sides
            moved[0] = y[0] + (1.0 if i % 2 == 0 else -1.0) * KINK_STEPS[i // 2]
            found = objective(w, moved, NULL)
            if found < best[0] - 1e-9 / w.n:
                y[0], best[0] = moved[0], found
                status = STOPPED
        if status == CONVERGED:
            return CONVERGED
    return STOPPED


cdef void set_box(problem_t* w, double mean) noexcept nogil:
    # Bounds of the coordinates, for returns scaled to a variance near one.
    cdef int32_t i, at = 0
    for i in range(w.coordinates):
        w.low[i], w.high[i] = 0.0, 1.0
    if w.mean_free:
        w.low[0], w.high[0] = mean - 10.0, mean + 10.0
        at = 1
    if w.target == 0.0:
        w.low[at], w.high[at] = (-20.0, 20.0) if w.family == EGARCH else (1e-9, 100.0)
        at += 1
    if w.family == EGARCH:
        for i in range(2 * w.p):
            w.low[at + i], w.high[at + i] = -5.0, 5.0
        for i in range(2 * w.p, 2 * w.p + w.q):
            w.low[at + i], w.high[at + i] = -2.0 if w.q > 1 else -PERSISTENCE_MOST, PERSISTENCE_MOST
            if w.q > 1:
                w.high[at + i] = 2.0
    else:
        w.high[at] = PERSISTENCE_MOST
        if w.family == COMPONENT:
            w.high[at + 1] = w.high[at + 2] = w.high[at + 3] = 0.9999
    at = w.coordinates - w.law
    if w.law != NORMAL:
        w.low[at], w.high[at] = 1.0 / 500.0, 1.0 / 2.05
    if w.law == SKEW_T:
        w.low[at + 1], w.high[at + 1] = -0.99, 0.99


cdef double share(int32_t i, int32_t count, int32_t shape) noexcept nogil:
    # Of lag i among `count`: all alike, or nine tenths to the last, or to the first.
    if count == 1 or shape == 0:
        return 1.0 / count
    return 0.9 if i == (count - 1 if shape == 1 else 0) else 0.1 / (count - 1)


cdef void starting_point(problem_t* w, int32_t k, double mean, double variance, double* y) noexcept nogil:
    # The k-th of STARTS_MAX starting points: persistence and reaction over the range that markets show.
    cdef double[8] persistence = [0.98, 0.95, 0.90, 0.995, 0.90, 0.70, 0.97, 0.50]
    cdef double[8] reaction = [0.05, 0.10, 0.05, 0.03, 0.20, 0.10, 0.15, 0.30]
    cdef double level = persistence[k], alpha = reaction[k], left, part
    cdef int32_t i, at = 0, m = w.q + (2 * w.p if w.family == GJR else w.p)
    if w.mean_free:
        y[0] = mean
        at = 1
    if w.target == 0.0:
        y[at] = (1.0 - level) * variance
        at += 1
    if w.family == EGARCH:
        y[at - 1] = (1.0 - level) * vm_log(variance)
        for i in range(w.p):
            y[at + i] = 2.0 * alpha * share(i, w.p, k // 3)
            y[at + w.p + i] = -0.02 * share(i, w.p, k // 3)
        for i in range(w.q):
            y[at + 2 * w.p + i] = level * share(i, w.q, (k + 2) % 3)
    elif w.family == COMPONENT:
        y[at], y[at + 1] = 0.5 + 0.5 * level, level - 0.1
        y[at + 2], y[at + 3] = 1.0 - alpha / y[at + 1], 0.5 * alpha
        y[at - 1] = (1.0 - y[at]) * variance
    else:
        y[at] = level
        left = level
        for i in range(m - 1):
            if i < w.q:
                part = (level - alpha) * share(i, w.q, k % 3)
            else:
                part = alpha * w.p / (m - w.q) * share((i - w.q) % w.p, w.p, k // 3)
                if w.family == GJR:  # falls weigh three times what rises do
                    part *= 0.5 if i - w.q < w.p else 1.5
            y[at + 1 + i] = part / left
            left -= part
    at = w.coordinates - w.law
    if w.law != NORMAL:
        y[at] = 1.0 / 8.0
    if w.law == SKEW_T:
        y[at + 1] = 0.0


cdef bint inside(problem_t* w, const double* y) noexcept nogil:
    # Whether no coordinate rests on a bound that is only the search's own.  A likelihood that drives omega to its bound
    # has no optimum: of returns that are mostly zero, say, it grows without limit as the variance falls to nothing.
    cdef int32_t i, count = w.mean_free + (w.target == 0.0) + (2 * w.p if w.family == EGARCH else 0)
    for i in range(count):
        if not w.low[i] < y[i] < w.high[i]:
            return False
    return True


cdef int32_t fit_one(problem_t* w, double* theta, double* info) noexcept nogil:
    # Maximise from the best of eight starting points, the next best if that fails; theta for returns as scaled.  With
    # more than one lag the likelihood has several maxima as a rule: then from all eight, and the highest counts.
    cdef double starts[STARTS_MAX][THETA_MAX]
    cdef double losses[STARTS_MAX]
    cdef double padded[THETA_MAX]
    cdef double jacobian[THETA_MAX * THETA_MAX]
    cdef double mean = total(w.r, w.n) / w.n, variance = 0.0, value = INFINITY, decrement = INFINITY
    cdef double kept[THETA_MAX]
    cdef double highest = INFINITY, kept_decrement = INFINITY
    cdef bint every = w.p + w.q > 2
    cdef int32_t k, best, _attempt, i, status = STOPPED
    cdef Py_ssize_t t
    for t in range(w.n):
        w.e[t] = w.r[t] - mean
    variance = dot(w.e, w.e, w.n) / w.n
    if not w.mean_free:
        mean = 0.0
    set_box(w, mean)
    for k in range(STARTS_MAX):
        starting_point(w, k, mean, variance, starts[k])
        losses[k] = objective(w, starts[k], NULL)
    for _attempt in range(STARTS_MAX if every else 3):
        best = 0
        for k in range(1, STARTS_MAX):
            if losses[k] < losses[best]:
                best = k
        if not isfinite(losses[best]):
            break
        losses[best] = INFINITY
        if minimise_with_kinks(w, starts[best], &value, &decrement) == CONVERGED and inside(w, starts[best]):
            status = CONVERGED
            if value < highest:
                highest, kept_decrement = value, decrement
                memcpy(kept, starts[best], sizeof(kept))
            if not every:
                break
    info[0], info[1], info[2], info[3] = -highest * w.n, kept_decrement, w.evaluations, 0.0
    if status == CONVERGED:
        unpack(w, kept, padded, jacobian)
        memcpy(theta, padded, w.thetas * sizeof(double))
        for i in range(w.coordinates):
            if kept[i] <= w.low[i] or kept[i] >= w.high[i]:
                info[3] += 1.0
    return status


cdef double power_of_two(const double* r, Py_ssize_t n, int32_t* status) noexcept nogil:
    # Power of two within a factor of 1.5 of the returns' deviation: scaling by it is exact.
    cdef double mean = 0.0, square = 0.0, largest = 0.0, scale = 1.0
    cdef Py_ssize_t t
    for t in range(n):
        if not isfinite(r[t]):
            status[0] = NOT_FINITE
            return 1.0
        largest = fabs(r[t]) if fabs(r[t]) > largest else largest
    if not (1e-100 < largest < 1e100):
        status[0] = CONSTANT if largest <= 1e-100 else NOT_FINITE
        return 1.0
    mean = total(r, n) / n
    for t in range(n):
        square += (r[t] - mean) * (r[t] - mean)
    square = sqrt(square / n)
    if not square > 1e-10 * largest:
        status[0] = CONSTANT
        return 1.0
    while scale < square:
        scale *= 2.0
    while scale > 1.5 * square:
        scale *= 0.5
    return scale


cdef int32_t fit_scaled(problem_t* w, double* buffer, const double* r, double* theta, double* info) noexcept nogil:
    # Fit one series of any size of returns: scale, maximise, scale back.
    cdef int32_t status = CONVERGED, i
    cdef double scale = power_of_two(r, w.n, &status), sum_beta = 0.0
    cdef Py_ssize_t t
    if status == CONVERGED:
        for t in range(w.n):
            buffer[t] = r[t] / scale
        w.r = buffer
        w.evaluations = 0
        if w.start_mode == START_NUMBER:
            w.start /= scale * scale
        if w.target != 0.0:
            w.target = 1.0
            w.target = sample_variance(w)
        status = fit_one(w, theta, info)
        if w.start_mode == START_NUMBER:
            w.start *= scale * scale
    if status != CONVERGED:
        for i in range(w.thetas):
            theta[i] = INFINITY - INFINITY
        info[0] = INFINITY - INFINITY
        return status
    theta[0] *= scale
    if w.family == EGARCH:
        for i in range(w.q):
            sum_beta += theta[2 + 2 * w.p + i]
        theta[1] += 2.0 * (1.0 - sum_beta) * vm_log(scale)
    else:
        theta[1] *= scale * scale
    info[0] -= w.n * vm_log(scale)
    return CONVERGED


cdef double sample_variance(problem_t* w) noexcept nogil:
    # Mean squared deviation, from the sample mean where the model has one.
    cdef double mean = total(w.r, w.n) / w.n if w.mean_free else 0.0
    cdef Py_ssize_t t
    for t in range(w.n):
        w.e[t] = w.r[t] - mean
    return dot(w.e, w.e, w.n) / w.n


def fit(Likelihood problem not None, cnp.ndarray returns not None, cnp.ndarray theta not None,
        cnp.ndarray info not None, cnp.ndarray status not None, Py_ssize_t begin, Py_ssize_t end):
    """Fit series [begin, end) of `returns` (series, observations).

    Fills theta (series, thetas), NaN where there is no fit; info (series, 4): log likelihood, Newton decrement,
    evaluations, coordinates on a bound; status (series,), int32.  One thread per `problem` at a time.
    """
    cdef problem_t* w = &problem.w
    cdef Py_ssize_t count = cnp.PyArray_SIZE(status), s
    check(returns, count * w.n, "returns")
    check(theta, count * w.thetas, "theta")
    check(info, count * 4, "info")
    if cnp.PyArray_TYPE(status) != cnp.NPY_INT32 or not cnp.PyArray_IS_C_CONTIGUOUS(status):
        raise ShapeError("status must be a contiguous int32 array")
    if not 0 <= begin <= end <= count:
        raise RangeError(f"begin and end must lie in [0, {count}] in order, were {begin} and {end}")
    cdef const double* r = <const double*>cnp.PyArray_DATA(returns)
    cdef double* x = <double*>cnp.PyArray_DATA(theta)
    cdef double* y = <double*>cnp.PyArray_DATA(info)
    cdef int32_t* z = <int32_t*>cnp.PyArray_DATA(status)
    with nogil:
        for s in range(begin, end):
            z[s] = fit_scaled(w, problem.scaled, r + s * w.n, x + s * w.thetas, y + 4 * s)


cdef int check(cnp.ndarray array, Py_ssize_t size, str name) except -1:
    if cnp.PyArray_TYPE(array) != cnp.NPY_DOUBLE or not cnp.PyArray_IS_C_CONTIGUOUS(array):
        raise ShapeError(f"{name} must be a contiguous float64 array")
    if cnp.PyArray_SIZE(array) != size:
        raise ShapeError(f"{name} must hold {size} numbers, held {cnp.PyArray_SIZE(array)}")
    return 0
