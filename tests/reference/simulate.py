"""The slow obvious twin of margincore.kernels.simulate: integers of Python, formulas of the papers."""

import math

import numpy as np

MASK = 0xFFFFFFFF
GAMMA, BOOST = 0x80000000, 0xC0000000


def philox(counter, key):
    """Four words of Philox 4x32-7 (Salmon and others 2011, section 4.2)."""
    c, k = list(counter), list(key)
    for _ in range(7):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second & MASK, first >> 32 ^ c[3] ^ k[1], first & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(seed, stream, draw, index):
    return philox([index & MASK, index >> 32, draw, stream], [seed & MASK, seed >> 32])


def uniform(bits, number):
    return (number + 0.5) / 2.0**bits


def uniform52(high, low):
    return uniform(52, (high << 32 | low) >> 12)


def uniform32(word):
    return uniform(32, word)


def box_muller(u, half, negative):
    """Two normals: the angle is `half` of a half turn, and its other half has the sign."""
    radius = -math.sqrt(-2.0 * math.log(u)) if negative else math.sqrt(-2.0 * math.log(u))
    return [radius * math.cos(math.pi * half), radius * math.sin(math.pi * half)]


def pair(high, low):
    """Two normals from 64 bits: 40 of radius, 23 of the half turn, one of sign."""
    number = high << 32 | low
    return box_muller(uniform(40, number >> 24), uniform(23, number >> 1 & 0x7FFFFF) - 0.5, number & 1)


def normals(seed, stream, index, drivers):
    """Box and Muller's pairs, two from the words of one draw."""
    found = []
    for draw in range((drivers + 3) // 4):
        w = words(seed, stream, draw, index)
        found += pair(w[0], w[1]) + pair(w[2], w[3])
    return found[:drivers]


def gamma(seed, stream, index, shape):
    """Marsaglia and Tsang's rejection (2000), without the squeeze, which only saves time.

    Rows 2 k and 2 k + 1 share counter k in their first attempts: its pair of normals and a uniform each.
    """
    d = (shape if shape >= 1.0 else shape + 1.0) - 1.0 / 3.0
    attempt = 0
    while True:
        w = words(seed, stream, GAMMA + attempt, index if attempt else index // 2)
        if attempt:
            x, last = box_muller(uniform52(w[0], w[1]), uniform32(w[2]) - 0.5, w[2] & 1)[0], w[3]
        else:
            x, last = pair(w[0], w[1])[index % 2], w[2 + index % 2]
        attempt += 1
        v = (1.0 + x / math.sqrt(9.0 * d)) ** 3
        if v > 0.0 and math.log(uniform32(last)) < 0.5 * x * x + d - d * v + d * math.log(v):
            break
    if shape >= 1.0:
        return d * v
    w = words(seed, stream, BOOST, index)
    return d * v * uniform52(w[0], w[1]) ** (1.0 / shape)


def simulate(seed, stream, first, root, mean, shape, numerator, antithetic, rows):
    out = np.empty((rows, len(root)))
    for row in range(first, first + rows):
        index = row // 2 if antithetic else row
        z = np.array(normals(seed, stream, index, root.shape[1]))
        factor = math.sqrt(numerator / gamma(seed, stream, index, shape)) if shape else 1.0
        x = factor * (root @ z)
        out[row - first] = mean + (-x if antithetic and row % 2 else x)
    return out
