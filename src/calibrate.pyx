"""Calibration of raw SVI slices to bid and ask, free of butterfly and calendar arbitrage by projection.

Levenberg-Marquardt per slice in x = (a, left slope, right slope, m, ln sigma), with a bounded loss, penalties for
g < 0 and for crossing the neighbours, then one pass from the first expiry to the last that admits a slice only with
its certificates (arbitrage.pyx): it is lifted or drawn towards an SSVI slice until they hold.
Cost: about 4 us per iteration and slice of 40 quotes.
"""

import numpy as np

cimport numpy as cnp
from libc.math cimport fabs, fmax, fmin, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t

from margincore.errors import ShapeError

from margincore.kernels.arbitrage cimport butterfly_clean, calendar_clean

cnp.import_array()

cdef extern from "vmath.h" nogil:
    double vm_exp(double x)
    double vm_log(double x)

cdef enum:
    SIZE = 5
    NODES = 37          # at which g and the neighbours are watched while fitting ...
    ROOM = 57           # ... and room for those found wanting
    INNER = 10          # nodes per side inside the quoted range
    REFITS = 12
    THIN = 6            # distinct strikes below which the shape comes from a neighbour
    UNDER = 1
    OVER = 2
    BENT = 4

cdef double SLOPE_MAX = 1.98     # Lee's bound is 2
cdef double LOSS = 2.5           # final value; cold fits come down to it from 30
cdef double STOP = 1e-6          # relative gain below which an expiry is done
cdef double BUTTERFLY = 60.0     # residual per unit of g below its floor
cdef double G_FLOOR = 0.01
cdef double STIFFER = 1.2        # per refit
cdef double STEEPER = 1.0 + 1e-12
cdef double CALENDAR = 200.0     # residual per unit of relative crossing

cdef struct smile_t:
    const double* k
    const double* low            # total variance at the bid, 0 when there is none
    const double* high
    const double* weight         # 1 / half spread
    Py_ssize_t count
    Py_ssize_t strikes           # distinct
    double years
    double loss                  # where the loss of a residual, in half spreads, begins to level off
    double[ROOM] node
    double[ROOM] under          # calendar bounds at the nodes: 0 and infinity when there is no neighbour
    double[ROOM] over
    uint8_t[ROOM] crossed       # what the last trial violated at each node
    bint hold                   # whether the next step must respect that too
    int nodes
    double stiffness             # factor on both penalties
    double[SIZE] prior
    double[SIZE] pull            # 1 / allowed distance from the prior, 0 = free
    double[SIZE] least
    double[SIZE] most


cdef inline double variance(const double* x, double sigma, double k) noexcept nogil:
    cdef double d = k - x[3], s = sqrt(d * d + sigma * sigma)
    return x[0] + 0.5 * x[1] * (s - d) + 0.5 * x[2] * (s + d)


cdef void to_row(const double* x, double* row) noexcept nogil:
    cdef double b = 0.5 * (x[1] + x[2])
    row[0], row[1], row[2] = x[0], b, 0.5 * (x[2] - x[1]) / b
    row[3], row[4] = x[3], vm_exp(x[4])


cdef void from_row(const double* row, double* x) noexcept nogil:
    x[0], x[1], x[2] = row[0], row[1] * (1.0 - row[2]), row[1] * (1.0 + row[2])
    x[3], x[4] = row[3], vm_log(row[4])


cdef void clamp(const smile_t* q, double* x) noexcept nogil:
    cdef int i
    cdef double least
    for i in range(SIZE):
        x[i] = fmin(fmax(x[i], q.least[i]), q.most[i])
    least = 1e-7 * q.years - vm_exp(x[4]) * sqrt(x[1] * x[2])
    x[0] = fmax(x[0], least)


cdef void gather(double r, const double* j, double weight, double* h, double* grad) noexcept nogil:
    cdef int a, b
    cdef double wj
    for a in range(SIZE):
        wj = weight * j[a]
        grad[a] += wj * r
        for b in range(a + 1):
            h[a * SIZE + b] += wj * j[b]


cdef double quote_cost(const smile_t* q, const double* x, double sigma, double* h, double* grad) noexcept nogil:
    # Half the bounded loss r^2 / (1 + r^2 / loss^2) of every quote, r in half spreads; an ask alone only pushes down.
    cdef double d, s, w, r, share, cost = 0.0, pair = 0.5 * (x[1] + x[2]), tilt = 0.5 * (x[2] - x[1]), u
    cdef double[SIZE] j
    cdef Py_ssize_t i
    for i in range(q.count):
        d = q.k[i] - x[3]
        s = sqrt(d * d + sigma * sigma)
        w = x[0] + pair * s + tilt * d
        u = q.weight[i]
        if q.low[i] > 0.0:
            r = (w - 0.5 * (q.low[i] + q.high[i])) * u
        else:
            r = fmax(w - q.high[i], 0.0) * u
            if r == 0.0:
                continue
        share = 1.0 / (1.0 + r * r / (q.loss * q.loss))
        cost += 0.5 * r * r * share
        if h != NULL:
            j[0], j[1], j[2] = u, 0.5 * u * (s - d), 0.5 * u * (s + d)
            d = d / s
            j[3], j[4] = -u * (tilt + pair * d), u * pair * sigma * sigma / s
            gather(r, j, share * share, h, grad)
    return cost


cdef double node_cost(smile_t* q, const double* x, double sigma, double* h, double* grad) noexcept nogil:
    # Penalties where a neighbour is crossed or g is below its floor.  Without derivatives it remembers where; with them
    # what is held enters the step as if it were violated, since a step that does not know of it would cross again.
    cdef double pair = 0.5 * (x[1] + x[2]), tilt = 0.5 * (x[2] - x[1]), cost = 0.0
    cdef double d, s, z, w, slope, bend, lean, g, k, r, gw, gs, s3, v = sigma * sigma, stiff = BUTTERFLY * q.stiffness
    cdef double[SIZE] j
    cdef int i, n
    cdef uint8_t held, found
    for i in range(q.nodes):
        held = q.crossed[i] if q.hold and h != NULL else 0
        k = q.node[i]
        d = k - x[3]
        s = sqrt(d * d + v)
        z = d / s
        w = x[0] + pair * s + tilt * d
        found = UNDER if w < q.under[i] else OVER if w > q.over[i] else 0
        if found or held & (UNDER | OVER):
            g = q.under[i] if found == UNDER or not found and held & UNDER else q.over[i]
            r = (w - g) * q.stiffness * CALENDAR / g
            g = q.stiffness * CALENDAR / g
            if found:
                cost += 0.5 * r * r
            if h != NULL:
                j[0], j[1], j[2] = g, 0.5 * g * (s - d), 0.5 * g * (s + d)
                j[3], j[4] = -g * (tilt + pair * z), g * pair * v / s
                gather(r, j, 1.0, h, grad)
        w = fmax(w, 1e-12)
        s3 = s * s * s
        slope = tilt + pair * z
        bend = pair * v / s3
        lean = 1.0 - 0.5 * k * slope / w
        g = lean * lean - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * bend
        if g < G_FLOOR or held & BENT:
            r = stiff * (G_FLOOR - fmax(g, -10.0))
            if g < G_FLOOR:
                found |= BENT
                cost += 0.5 * r * r
            if h != NULL:
                gw = lean * k * slope / (w * w) + 0.25 * slope * slope / (w * w)
                gs = -lean * k / w - 0.5 * slope * (1.0 / w + 0.25)
                j[0] = gw
                j[1] = gw * 0.5 * (s - d) + gs * 0.5 * (z - 1.0) + 0.25 * v / s3
                j[2] = gw * 0.5 * (s + d) + gs * 0.5 * (z + 1.0) + 0.25 * v / s3
                j[3] = -gw * slope - gs * bend + 1.5 * bend * d / (s * s)
                j[4] = gw * pair * v / s - gs * pair * d * v / s3 + bend * (1.0 - 1.5 * v / (s * s))
                for n in range(SIZE):
                    j[n] *= -stiff
                gather(r, j, 1.0, h, grad)
        if h == NULL:
            q.crossed[i] = found
    return cost


cdef double total_cost(smile_t* q, const double* x, double* h, double* grad) noexcept nogil:
    cdef double sigma = vm_exp(x[4]), cost, r
    cdef int i
    if h != NULL:
        for i in range(SIZE):
            grad[i] = 0.0
        for i in range(SIZE * SIZE):
            h[i] = 0.0
    cost = quote_cost(q, x, sigma, h, grad) + node_cost(q, x, sigma, h, grad)
    for i in range(SIZE):
        r = (x[i] - q.prior[i]) * q.pull[i]
        cost += 0.5 * r * r
        if h != NULL:
            grad[i] += r * q.pull[i]
            h[i * SIZE + i] += q.pull[i] * q.pull[i]
    return cost


cdef bint solve(const double* h, double damping, const double* grad, double* step) noexcept nogil:
    # Cholesky of the lower triangle with the diagonal raised; False when it is not positive.
    cdef double[SIZE * SIZE] c
    cdef int i, j, n
    cdef double t
    for i in range(SIZE):
        for j in range(i + 1):
            t = h[i * SIZE + j]
            if i == j:
                t = t * (1.0 + damping) + 1e-14
            for n in range(j):
                t -= c[i * SIZE + n] * c[j * SIZE + n]
            if i == j:
                if not t > 0.0:
                    return False
                c[i * SIZE + i] = sqrt(t)
            else:
                c[i * SIZE + j] = t / c[j * SIZE + j]
    for i in range(SIZE):
        t = -grad[i]
        for n in range(i):
            t -= c[i * SIZE + n] * step[n]
        step[i] = t / c[i * SIZE + i]
    for i in range(SIZE - 1, -1, -1):
        t = step[i]
        for n in range(i + 1, SIZE):
            t -= c[n * SIZE + i] * step[n]
        step[i] = t / c[i * SIZE + i]
    return True


cdef int improve(smile_t* q, double* x, int rounds) noexcept nogil:
    # Levenberg-Marquardt; returns the number of evaluations.
    cdef double[SIZE * SIZE] h
    cdef double[SIZE] grad, step, trial
    cdef double cost, new, damping = 1e-3
    cdef int i, used = 1
    clamp(q, x)
    q.hold = False
    cost = total_cost(q, x, h, grad)
    while used < rounds:
        if not solve(h, damping, grad, step):
            damping = fmax(10.0 * damping, 1e-6)
            used += 1
            continue
        for i in range(SIZE):
            trial[i] = x[i] + step[i]
        trial[4] = fmin(fmax(trial[4], x[4] - 1.0), x[4] + 1.0)
        clamp(q, trial)
        new = total_cost(q, trial, NULL, NULL)
        used += 1
        if new < cost:
            for i in range(SIZE):
                x[i] = trial[i]
            if cost - new < STOP * cost:
                break
            damping = fmax(0.2 * damping, 1e-9)
            q.hold = False
            cost = total_cost(q, x, h, grad)
        else:
            if damping > 1e6:
                break
            # First the same step along what it crossed, then a shorter one.
            q.hold = not q.hold
            if not q.hold:
                damping = fmax(damping * 6.0, 1e-6)
            total_cost(q, x, h, grad)
    return used


cdef void guess(smile_t* q, double* x) noexcept nogil:
    # m and sigma from a coarse grid; the other three are linear given those (quasi-explicit calibration of Zeliade).
    cdef double[SIZE] trial
    cdef double best = 1e300, cost, d, s, u, y, sigma, half = q.most[3] - q.least[3]
    cdef double[9] h
    cdef double[3] f, g
    cdef Py_ssize_t i
    cdef int at_m, at_s
    half = 0.25 * half
    for at_m in range(5):
        for at_s in range(4):
            trial[3] = 0.5 * (q.most[3] + q.least[3]) + half * (at_m - 2) * 0.3
            sigma = half * (0.08 if at_s == 0 else 0.2 if at_s == 1 else 0.5 if at_s == 2 else 1.2)
            trial[4] = vm_log(sigma)
            for i in range(9):
                h[i] = 0.0
            for i in range(3):
                g[i] = 0.0
            for i in range(q.count):
                if not q.low[i] > 0.0:
                    continue
                d = q.k[i] - trial[3]
                s = sqrt(d * d + sigma * sigma)
                u = q.weight[i] * q.weight[i]
                y = 0.5 * (q.low[i] + q.high[i])
                f[0], f[1], f[2] = 1.0, 0.5 * (s - d), 0.5 * (s + d)
                g[0] += u * y
                g[1] += u * f[1] * y
                g[2] += u * f[2] * y
                h[0] += u
                h[3] += u * f[1]
                h[4] += u * f[1] * f[1]
                h[6] += u * f[2]
                h[7] += u * f[1] * f[2]
                h[8] += u * f[2] * f[2]
            linear_three(h, g, trial)
            clamp(q, trial)
            cost = total_cost(q, trial, NULL, NULL)
            if cost < best:
                best = cost
                for i in range(SIZE):
                    x[i] = trial[i]


cdef void linear_three(double* h, const double* g, double* x) noexcept nogil:
    # Symmetric 3 x 3 system by elimination, slightly raised diagonal.
    cdef double a = h[0] * (1.0 + 1e-9) + 1e-30, b, c, e, f
    b = h[4] * (1.0 + 1e-9) - h[3] * h[3] / a + 1e-30
    c = h[7] - h[3] * h[6] / a
    e = h[8] * (1.0 + 1e-9) - h[6] * h[6] / a - c * c / b + 1e-30
    f = g[1] - h[3] * g[0] / a
    x[2] = (g[2] - h[6] * g[0] / a - c * f / b) / e
    x[1] = (f - c * x[2]) / b
    x[0] = (g[0] - h[3] * x[1] - h[6] * x[2]) / a


cdef void frame(smile_t* q) noexcept nogil:
    # Box and nodes from the quoted range: even inside it, then growing out to 20 times its half width.
    cdef double first = 0.0, last = 0.0, half, middle, u, level = 0.0
    cdef Py_ssize_t i
    cdef int j
    for i in range(q.count):
        first = fmin(first, q.k[i])
        last = fmax(last, q.k[i])
        level = fmax(level, q.high[i])
    half = fmax(0.5 * (last - first), 0.05 * sqrt(q.years))
    middle = 0.5 * (first + last)
    q.least[0], q.most[0] = -10.0 * fmax(level, 1e-6), 2.0 * fmax(level, 1e-6)
    q.least[1], q.most[1] = 1e-9, SLOPE_MAX
    q.least[2], q.most[2] = 1e-9, SLOPE_MAX
    q.least[3], q.most[3] = middle - 2.0 * half, middle + 2.0 * half
    q.least[4], q.most[4] = vm_log(0.005 * half), vm_log(10.0 * half)
    for j in range(NODES):
        u = <double> (j - NODES // 2) / INNER
        if fabs(u) > 1.0:
            u = (1.0 if u > 0.0 else -1.0) * vm_exp(0.35 * (fabs(u) - 1.0) * INNER)
        q.node[j] = middle + half * u
        q.under[j], q.over[j] = 0.0, 1e300
    for j in range(SIZE):
        q.prior[j], q.pull[j] = 0.0, 0.0
    q.nodes, q.stiffness = NODES, 1.0


cdef void bound(smile_t* q, int at, const double* before, const double* after) noexcept nogil:
    # Calendar bounds at a node from the neighbours, with a little air.
    q.under[at] = 0.0 if before == NULL else 1.001 * fmax(variance(before, vm_exp(before[4]), q.node[at]), 0.0)
    q.over[at] = 1e300 if after == NULL else 0.999 * fmax(variance(after, vm_exp(after[4]), q.node[at]), 1e-12)


cdef void between(smile_t* q, const double* before, const double* after) noexcept nogil:
    # Bounds at all nodes; the outer slopes must rise with expiry too.
    cdef int j
    for j in range(q.nodes):
        bound(q, j, before, after)


cdef bint watch(smile_t* q, const double* before, const double* after, const double* x) noexcept nogil:
    # Add the strikes where g is least and where a neighbour is crossed most to the nodes; False when nothing is wrong.
    cdef double sigma = vm_exp(x[4]), pair = 0.5 * (x[1] + x[2]), tilt = 0.5 * (x[2] - x[1])
    cdef double k, d, s, w, slope, lean, g, least = G_FLOOR, gap = 0.0, at_g = 0.0, at_gap = 0.0
    cdef int j
    for j in range(-60, 61):
        k = (vm_exp(0.15 * fabs(j)) - 1.0) * 0.15
        k = x[3] + sigma * (k if j > 0 else -k)
        d = k - x[3]
        s = sqrt(d * d + sigma * sigma)
        w = fmax(x[0] + pair * s + tilt * d, 1e-12)
        slope = tilt + pair * d / s
        lean = 1.0 - 0.5 * k * slope / w
        g = lean * lean - 0.25 * slope * slope * (1.0 / w + 0.25) + 0.5 * pair * sigma * sigma / (s * s * s)
        if g < least:
            least, at_g = g, k
        if before != NULL:
            g = variance(before, vm_exp(before[4]), k) / w - 1.0
            if g > gap:
                gap, at_gap = g, k
        if after != NULL:
            g = 1.0 - variance(after, vm_exp(after[4]), k) / w
            if g > gap:
                gap, at_gap = g, k
    if least < G_FLOOR and q.nodes < ROOM:
        q.node[q.nodes] = at_g
        bound(q, q.nodes, before, after)
        q.nodes += 1
    if gap > 0.0 and q.nodes < ROOM:
        q.node[q.nodes] = at_gap
        bound(q, q.nodes, before, after)
        q.nodes += 1
    return least < G_FLOOR or gap > 0.0


cdef void rescale(const double* x, double ratio, double* out) noexcept nogil:
    # The same smile in k / sqrt(years) at another expiry.
    cdef double root = sqrt(ratio)
    out[0], out[1], out[2], out[3], out[4] = ratio * x[0], root * x[1], root * x[2], root * x[3], x[4] + vm_log(root)


cdef void lean_on(smile_t* q, const double* prior) noexcept nogil:
    # A thin expiry keeps the shape of its neighbour: level free, slopes loose, position and width nearly fixed.
    cdef double strength = 1.0 if q.strikes < THIN else 0.0
    cdef int i
    for i in range(SIZE):
        q.prior[i] = prior[i]
    q.pull[0] = 0.0
    q.pull[1] = q.pull[2] = strength / (0.15 * fmax(0.5 * (prior[1] + prior[2]), 1e-6))
    q.pull[3] = strength / (0.1 * vm_exp(prior[4]))
    q.pull[4] = strength / 0.2
    if q.strikes < 2:
        q.pull[1] *= 10.0
        q.pull[2] *= 10.0


cdef inline void lower(const double* before, double width, const double* x, double sigma, double k, double* worst,
                       double* at) noexcept nogil:
    cdef double gap = variance(before, width, k) - variance(x, sigma, k)
    if gap > worst[0]:
        worst[0], at[0] = gap, k


cdef double deficit(const double* before, const double* x, const smile_t* q, double* at) noexcept nogil:
    # Largest amount by which `before` lies above x, and where, at the nodes and over the scale of both slices.
    cdef double worst = 0.0, y, sigma = vm_exp(x[4]), width = vm_exp(before[4])
    cdef int j
    for j in range(q.nodes):
        lower(before, width, x, sigma, q.node[j], &worst, at)
    for j in range(-16, 17):
        y = (vm_exp(0.4 * fabs(j)) - 1.0) * (1.0 if j > 0 else -1.0)
        lower(before, width, x, sigma, before[3] + width * y, &worst, at)
        lower(before, width, x, sigma, x[3] + sigma * y, &worst, at)
    return worst


cdef void raise_above(const smile_t* q, const double* before, double* x) noexcept nogil:
    # Beyond the quotes by a steeper wing that leaves the level at the forward, within them by the level.
    cdef double first = 0.0, last = 0.0, sigma = vm_exp(x[4]), worst, k, d, s, up, level
    cdef Py_ssize_t i
    cdef int _j, side
    for i in range(q.count):
        first, last = fmin(first, q.k[i]), fmax(last, q.k[i])
    # Strictly steeper: wings of one slope cross far out by rounding alone.
    x[1], x[2] = fmax(x[1], before[1] * STEEPER), fmax(x[2], before[2] * STEEPER)
    for _j in range(12):
        worst = deficit(before, x, q, &k)
        if not worst > 0.0:
            return
        d = k - x[3]
        s = sqrt(d * d + sigma * sigma)
        side = 1 if k < first else 2
        if side == 2:
            d = -d
        level = 0.5 * (sqrt(x[3] * x[3] + sigma * sigma) + (x[3] if side == 1 else -x[3]))
        up = 1.0001 * worst / (0.5 * (s - d) - level)
        if (k < first or k > last) and x[side] + up < SLOPE_MAX:
            x[side] += up
            x[0] -= up * level
        else:
            x[0] += worst
    x[0] += deficit(before, x, q, &k)


cdef void safe_slice(const double* x, double* out) noexcept nogil:
    # eSSVI with the same level and at most the same slopes: psi^2 (1 + |rho|) <= 4 theta (Gatheral-Jacquier, 4.2).
    cdef double theta = variance(x, vm_exp(x[4]), 0.0), psi, rho, factor
    theta = fmax(theta, 1e-10)
    factor = sqrt(1.9 * theta / ((x[1] + x[2]) * fmax(x[1], x[2])))
    factor = fmin(factor, 1.0)
    psi, rho = factor * (x[1] + x[2]), (x[2] - x[1]) / (x[1] + x[2])
    out[0], out[1], out[2] = 0.5 * theta * (1.0 - rho * rho), factor * x[1], factor * x[2]
    out[3], out[4] = -rho * theta / psi, vm_log(sqrt(1.0 - rho * rho) * theta / psi)


cdef bint admit(const smile_t* q, const double* before, double* x, double* row) noexcept nogil:
    # Lift x above `before` and ask for both certificates.
    cdef double lift, level
    cdef int _i
    cdef double[SIZE] near
    if before != NULL:
        raise_above(q, before, x)
        if not fmax(x[1], x[2]) < 2.0:
            return False
        to_row(before, near)
        level = fmax(variance(x, vm_exp(x[4]), 0.0), 1e-10)
        lift = 1e-9 * level
        for _i in range(8):
            to_row(x, row)
            if calendar_clean(near, row, 0.0):
                break
            x[0] += lift
            lift *= 8.0
        else:
            return False
    to_row(x, row)
    return butterfly_clean(row)


cdef int secure(smile_t* q, const double* before, const double* after, double* x, double* row) noexcept nogil:
    # The projection.  0: admitted as fitted; 1: after fits with stiffer penalties; 2: drawn part of the way towards an
    # SSVI slice; 3: the slice before, lifted; -1: none of these.
    cdef double[SIZE] safe, trial, best
    cdef double lift, share, fitted, cost, least = 1e300
    cdef int attempt, i
    for attempt in range(REFITS):
        for i in range(SIZE):
            trial[i] = x[i]
        fitted = quote_cost(q, x, vm_exp(x[4]), NULL, NULL)
        if admit(q, before, trial, row):
            cost = quote_cost(q, trial, vm_exp(trial[4]), NULL, NULL)
            if cost < least:
                least = cost
                for i in range(SIZE):
                    best[i] = trial[i]
            # What raises the slice off its quotes is for the next fit to avoid.
            if cost <= 1.1 * fitted + 0.25:
                break
        if attempt + 1 < REFITS:
            q.stiffness *= STIFFER
            watch(q, before, after, x)
            improve(q, x, 25)
    if least < 1e300:
        for i in range(SIZE):
            x[i] = best[i]
        to_row(x, row)
        return 1 if attempt else 0
    safe_slice(x, safe)
    share = 1.0 / 64.0
    while share <= 1.0:
        for i in range(SIZE):
            trial[i] = x[i] + share * (safe[i] - x[i])
        if admit(q, before, trial, row):
            for i in range(SIZE):
                x[i] = trial[i]
            return 2
        share = 1.5 * share if share < 0.6 or share == 1.0 else 1.0
    if before == NULL:
        return -1
    lift = fmax(variance(x, vm_exp(x[4]), 0.0) - variance(before, vm_exp(before[4]), 0.0), 0.0)
    for attempt in range(9):
        for i in range(SIZE):
            trial[i] = before[i]
        trial[0] += lift if attempt < 8 else 0.0
        lift *= 0.5
        if attempt == 8 or admit(q, before, trial, row):
            for i in range(SIZE):
                x[i] = trial[i]
            to_row(x, row)
            return 3
    return -1


cdef void fit_surface(smile_t* q, double* x, double* rows, int32_t* status, Py_ssize_t n, bint warm, int sweeps,
                      int rounds) noexcept nogil:
    cdef Py_ssize_t i, j, nearest
    cdef double[SIZE] prior
    cdef int sweep
    for i in range(n):
        frame(&q[i])
        q[i].loss = LOSS
    if not warm:
        for i in range(n):
            if q[i].strikes >= THIN:
                guess(&q[i], x + SIZE * i)
                q[i].loss = 30.0
                improve(&q[i], x + SIZE * i, rounds)
                q[i].loss = 6.0
                improve(&q[i], x + SIZE * i, rounds)
                q[i].loss = LOSS
                improve(&q[i], x + SIZE * i, rounds)
    for i in range(n):
        if q[i].strikes >= THIN:
            continue
        nearest = -1
        for j in range(n):
            if q[j].strikes >= THIN and (nearest < 0 or (j - i if j > i else i - j) < (nearest - i if nearest > i
                                                                                      else i - nearest)):
                nearest = j
        if nearest >= 0:
            rescale(x + SIZE * nearest, q[i].years / q[nearest].years, prior)
        else:
            plain_shape(&q[i], prior)
        lean_on(&q[i], prior)
        if not warm:
            for j in range(SIZE):
                x[SIZE * i + j] = prior[j]
            improve(&q[i], x + SIZE * i, rounds)
    for sweep in range(sweeps):
        for i in range(n):
            between(&q[i], x + SIZE * (i - 1) if i else NULL, x + SIZE * (i + 1) if i + 1 < n else NULL)
            improve(&q[i], x + SIZE * i, rounds)
            if sweep == sweeps - 1:
                status[i] = secure(&q[i], x + SIZE * (i - 1) if i else NULL,
                                   x + SIZE * (i + 1) if i + 1 < n else NULL, x + SIZE * i, rows + SIZE * i)


cdef void plain_shape(const smile_t* q, double* x) noexcept nogil:
    # No expiry is rich enough to learn from: an eSSVI smile with a slight skew at the level of the quotes.
    cdef double level = 0.0, psi, rho = -0.1
    cdef Py_ssize_t i
    for i in range(q.count):
        level += 0.5 * (q.low[i] + q.high[i]) / q.count
    psi = 0.5 * sqrt(level)
    x[0], x[1], x[2] = 0.5 * level * (1.0 - rho * rho), 0.5 * psi * (1.0 - rho), 0.5 * psi * (1.0 + rho)
    x[3], x[4] = -rho * level / psi, vm_log(sqrt(1.0 - rho * rho) * level / psi)


# ---- entry points ---------------------------------------------------------------------------------------------------

cdef const double* doubles(cnp.ndarray array, Py_ssize_t length, str name) except? NULL:
    if (cnp.PyArray_TYPE(array) != cnp.NPY_DOUBLE or not cnp.PyArray_IS_C_CONTIGUOUS(array)
            or cnp.PyArray_SIZE(array) != length):
        raise ShapeError(f"{name} must be a C-contiguous float64 array of {length} numbers")
    return <const double*> cnp.PyArray_DATA(array)


def fit(cnp.ndarray log_moneyness not None, cnp.ndarray low not None, cnp.ndarray high not None,
        cnp.ndarray weight not None, cnp.ndarray start not None, cnp.ndarray strikes not None,
        cnp.ndarray years not None, cnp.ndarray rows not None, cnp.ndarray status not None, bint warm, int sweeps,
        int rounds):
    """Raw SVI rows, shape (expiries, 5), fitted to total variances at bid (0 = none) and ask of quotes grouped by expiry.

    `start` holds expiries + 1 offsets into the quotes, `strikes` the distinct strikes per expiry, `weight` the inverse
    half spreads.  Warm: `rows` holds the start.  `status` tells what the projection did: see `secure`.
    """
    cdef Py_ssize_t n = years.shape[0], total = log_moneyness.shape[0], i
    cdef const double* k = doubles(log_moneyness, total, "log_moneyness")
    cdef const double* bid = doubles(low, total, "low")
    cdef const double* ask = doubles(high, total, "high")
    cdef const double* inverse = doubles(weight, total, "weight")
    cdef const double* when = doubles(years, n, "years")
    cdef double* out = <double*> doubles(rows, 5 * n, "rows")
    cdef const int64_t* offset = <const int64_t*> cnp.PyArray_DATA(start)
    cdef const int64_t* distinct = <const int64_t*> cnp.PyArray_DATA(strikes)
    cdef int32_t* code = <int32_t*> cnp.PyArray_DATA(status)
    cdef cnp.ndarray room = np.zeros(n * sizeof(smile_t), np.uint8)
    cdef cnp.ndarray state = np.zeros(5 * n)
    cdef smile_t* q = <smile_t*> cnp.PyArray_DATA(room)
    cdef double* x = <double*> cnp.PyArray_DATA(state)
    if (start.dtype != np.int64 or strikes.dtype != np.int64 or status.dtype != np.int32 or start.shape[0] != n + 1
            or strikes.shape[0] != n or status.shape[0] != n or n < 1 or sweeps < 1):
        raise ShapeError("start, strikes (int64) and status (int32) must have expiries + 1, expiries and expiries entries")
    for i in range(n):
        if offset[0] != 0 or offset[i + 1] <= offset[i] or offset[n] != total:
            raise ShapeError("start must rise from 0 to the number of quotes")
        q[i].k, q[i].low, q[i].high = k + offset[i], bid + offset[i], ask + offset[i]
        q[i].weight, q[i].count = inverse + offset[i], offset[i + 1] - offset[i]
        q[i].strikes, q[i].years = distinct[i], when[i]
    with nogil:
        if warm:
            for i in range(n):
                from_row(out + 5 * i, x + 5 * i)
        fit_surface(q, x, out, code, n, warm, sweeps, rounds)
