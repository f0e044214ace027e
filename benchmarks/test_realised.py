"""Rolling realised volatility of long bar series: pandas, polars and NumPy in the same groups, same answers first."""

import numpy as np
import pytest

from margincore.vol import realised

BARS, WINDOW = 500_000, 30


@pytest.fixture(scope="module")
def ohlc():
    rng = np.random.default_rng(1)
    path = np.exp(np.cumsum(rng.normal(0.0, 0.002, (BARS, 6))).reshape(BARS, 6))
    return path[:, 0].copy(), path.max(axis=1), path.min(axis=1), path[:, -1].copy()


def sliding_variance(values):
    return np.lib.stride_tricks.sliding_window_view(values, WINDOW).var(axis=1, ddof=1)


@pytest.mark.benchmark(group=f"rolling close-to-close volatility, {BARS:,} bars, window {WINDOW}")
@pytest.mark.parametrize("who", ["margincore", "pandas", "polars", "numpy"])
def test_rolling_close_to_close(benchmark, ohlc, who):
    close = ohlc[3]
    expected = realised.close_to_close(close, window=WINDOW)[WINDOW:]

    def answer():
        if who == "margincore":
            return realised.close_to_close(close, window=WINDOW)[WINDOW:]
        returns = np.diff(np.log(close))
        if who == "numpy":
            return np.sqrt(sliding_variance(returns) * 365.0)
        if who == "polars":
            return np.sqrt(library.Series(returns).rolling_var(WINDOW).to_numpy()[WINDOW - 1:] * 365.0)
        return np.sqrt(library.Series(returns).rolling(WINDOW).var().to_numpy()[WINDOW - 1:] * 365.0)

    if who in ("pandas", "polars"):
        library = pytest.importorskip(who, reason=f"{who} is not installed")
    # Their running sums subtract what leaves the window: about 1e-12 of the largest variance stays behind.
    assert np.allclose(answer(), expected, rtol=1e-8, atol=0.0)
    benchmark(answer)


@pytest.mark.benchmark(group=f"rolling Yang-Zhang volatility, {BARS:,} bars, window {WINDOW}")
@pytest.mark.parametrize("who", ["margincore", "pandas"])
def test_rolling_yang_zhang(benchmark, ohlc, who):
    expected = realised.yang_zhang(*ohlc, window=WINDOW)[WINDOW:]

    def answer():
        if who == "margincore":
            return realised.yang_zhang(*ohlc, window=WINDOW)[WINDOW:]
        o, h, lo, c = (np.log(column) for column in ohlc)
        jump, body = library.Series(o[1:] - c[:-1]), library.Series((c - o)[1:])
        ranges = library.Series(((h - c) * (h - o) + (lo - c) * (lo - o))[1:])
        k = 0.34 / (1.34 + (WINDOW + 1) / (WINDOW - 1))
        variance = (jump.rolling(WINDOW).var() + k * body.rolling(WINDOW).var()
                    + (1.0 - k) * ranges.rolling(WINDOW).mean())
        return np.sqrt(variance.to_numpy()[WINDOW - 1:] * 365.0)

    if who == "pandas":
        library = pytest.importorskip(who, reason=f"{who} is not installed")
    assert np.allclose(answer(), expected, rtol=1e-8, atol=0.0)
    benchmark(answer)
