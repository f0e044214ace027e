"""Draws: published words, the twin, their laws, and the same bits in any order, split and instruction set."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import simulate as reference
from scipy import stats
from test_levels import BUILT

from margincore.errors import MarginError, RangeError, ShapeError
from margincore.kernels import LEVELS, processor
from margincore.kernels import simulate as kernel

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = json.loads((ROOT / "tests/golden/philox.json").read_text())
ROWS = 200_000


def sparse(root):
    held = root != 0.0
    held[:, 0] = True
    start = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    return start.astype(np.int64), np.nonzero(held)[1].astype(np.int32), root[held].copy()


def simulate(root, rows, *, seed=1, stream=0, first=0, mean=None, degrees=0.0, antithetic=False):
    root = np.atleast_2d(np.asarray(root, float))
    out = np.empty((rows, len(root)))
    kernel.simulate(seed, stream, first, root.shape[1], *sparse(root),
                    np.zeros(len(root)) if mean is None else np.asarray(mean, float), 0.5 * degrees, 0.5 * degrees,
                    antithetic, out)
    return out


def gammas(shape, rows, *, seed=3, stream=0, first=0):
    out = np.empty(rows)
    kernel.gammas(seed, stream, first, shape, out)
    return out


@pytest.mark.parametrize("counter, key, expected", GOLDEN["vectors"])
def test_words_are_the_published_ones(counter, key, expected):
    low, high, draw, stream = (int(word, 16) for word in counter.split())
    seed = int(key.split()[0], 16) | int(key.split()[1], 16) << 32
    out = np.empty((1, 4), np.uint32)
    kernel.words(seed, stream, draw, low | high << 32, out)
    assert [f"{word:08x}" for word in out[0]] == expected.split()
    assert reference.words(seed, stream, draw, low | high << 32) == [int(word, 16) for word in expected.split()]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**63))
@settings(max_examples=30)
def test_words_equal_the_twin_across_carries(seed, stream, draw, first):
    for start in (first, (first | 0xFFFFFFFF) - 3):  # the low word of the counter overflows in the second
        out = np.empty((11, 4), np.uint32)
        kernel.words(seed, stream, draw, start, out)
        assert out.tolist() == [reference.words(seed, stream, draw, start + i) for i in range(11)]


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.integers(1, 9),
       st.sampled_from([0.0, 0.2, 0.7, 1.0, 2.0, 2.5, 7.0, 300.0]), st.booleans(), st.integers(1, 4))
@settings(max_examples=40)
def test_rows_equal_the_twin(seed, stream, first, drivers, degrees, antithetic, underlyings):
    rng = np.random.default_rng(drivers)
    root, mean = rng.standard_normal((underlyings, drivers)), rng.standard_normal(underlyings)
    found = simulate(root, 9, seed=seed, stream=stream, first=first, mean=mean, degrees=degrees, antithetic=antithetic)
    expected = reference.simulate(seed, stream, first, root, mean, 0.5 * degrees, 0.5 * degrees, antithetic, 9)
    # Normals are good to 1e-12, and small gammas are high powers of them.
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("degrees, antithetic", [(0.0, False), (0.5, False), (3.0, True), (5.0, False), (0.0, True)])
def test_any_split_gives_the_same_bits(degrees, antithetic):
    root = np.linalg.cholesky(np.full((3, 3), 0.4) + 0.6 * np.eye(3))
    whole = simulate(root, 700, degrees=degrees, antithetic=antithetic, first=5)
    for edges in ([0, 1, 2, 300, 301, 700], [0, 127, 128, 129, 260, 700], [0, 255, 256, 257, 700]):
        parts = [simulate(root, stop - start, degrees=degrees, antithetic=antithetic, first=5 + start)
                 for start, stop in zip(edges[:-1], edges[1:], strict=True)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_more_drivers_leave_the_first_ones_alone():
    few, many = simulate(np.eye(2), 300), simulate(np.eye(7), 300)
    assert few.tobytes() == np.ascontiguousarray(many[:, :2]).tobytes()


PRINT = """
import sys; sys.path.insert(0, "tests")
import numpy as np
from test_simulate import simulate, gammas
import hashlib
root = np.linalg.cholesky(np.full((6, 6), 0.4) + 0.6 * np.eye(6))
total = hashlib.sha256()
for degrees in (0.0, 0.3, 4.0, 50.0):
    for antithetic in (False, True):
        total.update(simulate(root, 5_001, degrees=degrees, antithetic=antithetic).tobytes())
total.update(gammas(1.7, 5_000).tobytes())
print(total.hexdigest())
"""


def test_every_level_gives_the_same_bits():
    levels = [name for name in BUILT if LEVELS.index(name) <= processor.level()]
    found = {level: subprocess.run([sys.executable, "-c", PRINT], cwd=ROOT, capture_output=True, text=True, check=True,
                                   env={**os.environ, "MARGINCORE_LEVEL": level}).stdout for level in levels}
    assert len(set(found.values())) == 1, found
    assert len(next(iter(found.values())).strip()) == hashlib.sha256().digest_size * 2


def test_normals_follow_their_law():
    x = simulate(np.eye(5), ROWS, seed=11)
    for column in x.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    error = 1.0 / np.sqrt(x.size)
    assert abs(x.mean()) < 4 * error
    assert abs((x**2).mean() - 1.0) < 4 * np.sqrt(2) * error
    assert abs((x**3).mean()) < 4 * np.sqrt(15) * error
    assert abs((x**4).mean() - 3.0) < 4 * np.sqrt(96) * error
    for threshold in (3.0, 4.0):  # tail counts are binomial
        due = x.size * 2 * stats.norm.sf(threshold)
        assert abs((abs(x) > threshold).sum() - due) < 4 * np.sqrt(due)


def test_normals_are_independent_across_drivers_rows_streams_and_seeds():
    x = simulate(np.eye(6), ROWS, seed=11)
    others = [simulate(np.eye(1), ROWS, seed=11, stream=1)[:, 0], simulate(np.eye(1), ROWS, seed=12)[:, 0],
              np.roll(x[:, 0], 1), np.roll(x[:, 0], 128), np.roll(x[:, 1], 7)]
    table = np.corrcoef(np.vstack([x.T, *others]))
    assert abs(table - np.eye(len(table))).max() < 5.0 / np.sqrt(ROWS)
    squares = np.corrcoef(np.vstack([x.T, *others]) ** 2)  # dependence without correlation would show here
    assert abs(squares - np.eye(len(table))).max() < 5.0 / np.sqrt(ROWS)


@pytest.mark.parametrize("shape", [0.05, 0.4, 1.0, 1.05, 2.5, 30.0, 1e4])
def test_gammas_follow_their_law(shape):
    g = gammas(shape, ROWS)
    assert stats.kstest(g, "gamma", args=(shape,)).pvalue > 1e-3
    assert abs(g.mean() - shape) < 4 * np.sqrt(shape / ROWS)
    assert abs(np.corrcoef(g, simulate(np.eye(1), ROWS, seed=3)[:, 0])[0, 1]) < 5 / np.sqrt(ROWS)
    for first, second in ((g[::2], g[1::2]), (g[1:-1:2], g[2::2])):  # rows in twos share a draw
        for power in (1, 2, -1):
            x, y = np.log(first) if power < 0 else first**power, np.log(second) if power < 0 else second**power
            assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(len(x))


@pytest.mark.parametrize("degrees", [0.8, 2.5, 4.0, 12.0])
def test_student_follows_its_law(degrees):
    root = np.linalg.cholesky([[1.0, 0.7], [0.7, 1.0]])
    x = simulate(root, ROWS, degrees=degrees)
    for column in x.T:
        assert stats.kstest(column, "t", args=(degrees,)).pvalue > 1e-3
    # Of an elliptical law, tau = 2 asin(rho) / pi, whatever the degrees (McNeil, Frey and Embrechts, 7.42).
    assert stats.kendalltau(*x[:20_000].T).statistic == pytest.approx(2 * np.arcsin(0.7) / np.pi, abs=0.02)
    # The common factor: squared length over two is F distributed.
    z = np.linalg.solve(root, x.T)
    assert stats.kstest((z**2).sum(axis=0) / 2, "f", args=(2, degrees)).pvalue > 1e-3


def test_transform_is_simulate_of_given_draws():
    rng = np.random.default_rng(2)
    root, mean = rng.standard_normal((3, 5)), rng.standard_normal(3)
    z, g = rng.standard_normal((300, 5)), rng.standard_gamma(2.0, 300)
    out, mirrored = np.empty((300, 3)), np.empty((599, 3))
    kernel.transform(z, g, 5, *sparse(root), mean, 1.0, False, False, out)
    assert out == pytest.approx(mean + np.sqrt(1.0 / g)[:, None] * (z @ root.T), rel=1e-12, abs=1e-12)
    kernel.transform(z, None, 5, *sparse(root), mean, 0.0, False, True, mirrored)
    assert mirrored[::2] == pytest.approx(mean + z @ root.T, rel=1e-12, abs=1e-12)
    assert mirrored[1::2] == pytest.approx((mean - z @ root.T)[:299], rel=1e-12, abs=1e-12)


def test_uniforms_make_pairs_of_normals():
    uniform = np.vstack([np.random.default_rng(6).random((300, 4)), [[0.0, 0.0, 1.0 - 2.0**-53, 0.5]] * 2])
    out = np.empty((302, 3))
    kernel.transform(uniform, None, 3, *sparse(np.eye(3)), np.zeros(3), 0.0, True, False, out)
    u, v = uniform[:, ::2] + 2.0**-54, uniform[:, 1::2]
    # Over half a turn, from -1/4 to 1/4, and mirrored for the first half of v.
    radius = np.sqrt(-2 * np.log(u)) * np.where(v < 0.5, -1.0, 1.0)
    half = np.pi * (np.abs(2 * v - 1) - 0.5)
    expected = np.stack([radius * np.cos(half), radius * np.sin(half)], axis=-1).reshape(302, 4)[:, :3]
    assert out == pytest.approx(expected, rel=1e-12, abs=4e-12)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32))
@settings(max_examples=40)
def test_root_of_any_semi_definite_matrix(size, rank, seed):
    half = np.random.default_rng(seed).standard_normal((size, rank))
    matrix, out = half @ half.T, np.empty((size, size))
    assert kernel.lower_root(matrix, out) == -1
    assert out @ out.T == pytest.approx(matrix, rel=1e-6, abs=1e-5)  # what a vanishing pivot leaves is its root
    assert (np.triu(out, 1) == 0.0).all()
    if rank >= size + 2:
        assert out == pytest.approx(np.linalg.cholesky(matrix), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("matrix, row", [([[1.0, 2.0], [2.0, 1.0]], 1), ([[-1.0]], 0), ([[0.0, 0.5], [0.5, 1.0]], 0)])
def test_root_of_an_indefinite_matrix_names_the_row(matrix, row):
    assert kernel.lower_root(np.array(matrix), np.empty((len(matrix), len(matrix)))) == row


GOOD = {"seed": 0, "stream": 0, "first": 0, "drivers": 1, "start": np.array([0, 1]), "column": np.array([0], np.int32),
        "value": np.ones(1), "mean": np.zeros(1), "shape": 0.0, "numerator": 0.0, "antithetic": False}


@pytest.mark.parametrize("change", [
    {"start": np.array([0, 2])}, {"start": np.array([1, 1])}, {"start": np.array([0, 1, 1])},
    {"column": np.array([1], np.int32)}, {"column": np.array([-1], np.int32)}, {"drivers": 0},
    {"shape": -1.0}, {"shape": np.nan}, {"numerator": np.nan}, {"mean": np.zeros(0)}, {"value": np.ones(2)}])
def test_bad_arrays_are_refused_before_anything_is_written(change):
    out = np.full((3, 1), 7.0)
    kernel.simulate(*GOOD.values(), np.empty((3, 1)))
    with pytest.raises(MarginError):
        kernel.simulate(*{**GOOD, **change}.values(), out)
    assert (out == 7.0).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ShapeError, match="out must have 1 columns, had 2"):
        kernel.simulate(*GOOD.values(), np.empty((3, 2)))
    with pytest.raises(ShapeError, match="must have 4 columns"):
        kernel.words(0, 0, 0, 0, np.empty((1, 3), np.uint32))
    with pytest.raises(RangeError, match="shape must be above 0"):
        gammas(0.0, 3)
    with pytest.raises(ShapeError, match="must be square"):
        kernel.lower_root(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ShapeError, match=r"given must have shape \(2, 1\)"):
        kernel.transform(np.ones((3, 1)), None, 1, *sparse(np.eye(1)), np.zeros(1), 0.0, False, True, np.empty((3, 1)))
    empty = np.empty((0, 1))
    kernel.simulate(*GOOD.values(), empty)
    kernel.transform(empty, None, 1, *sparse(np.eye(1)), np.zeros(1), 0.0, False, False, empty)
