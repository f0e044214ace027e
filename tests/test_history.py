"""Historical scenarios against their definitions."""

import numpy as np
import pytest

from margincore import history, vol
from margincore.errors import MarginError


def test_joint_returns_keep_dates_together():
    prices = np.array([[100.0, 10.0], [110.0, 9.0], [99.0, 9.9]])
    assert history.joint_returns(prices) == pytest.approx(np.log(prices[1:] / prices[:-1]))
    assert history.joint_returns(prices, steps=2) == pytest.approx(np.log(prices[2:] / prices[:1]))


def test_filtered_returns_are_standardised_and_rescaled():
    returns = 0.02 * np.random.default_rng(1).standard_normal((300, 2))
    model = vol.Ewma()
    found = history.filtered_returns(returns, model)
    variance = model.filter(returns[:, 1].copy())
    assert found[:, 1] == pytest.approx(returns[:, 1] / np.sqrt(variance[:-1]) * np.sqrt(variance[-1]))


def test_age_weights():
    weights = history.age_weights(500, 0.98)
    assert weights.sum() == pytest.approx(1.0, abs=1e-14) and weights[-2] / weights[-1] == pytest.approx(0.98)
    assert history.age_weights(4, 1.0).tolist() == [0.25] * 4


def test_liquidity_cascade():
    assert history.liquidity_cascade([3.0], [10.0]) == pytest.approx(3.0)
    assert history.liquidity_cascade([3.0, 4.0], [10.0, 20.0]) == pytest.approx(5.0)


@pytest.mark.parametrize("call", [lambda: history.joint_returns([[1.0], [-1.0]]), lambda: history.age_weights(3, 1.5),
                                  lambda: history.joint_returns([[1.0]]),
                                  lambda: history.liquidity_cascade([1.0], [0.0])])
def test_bad_input(call):
    with pytest.raises(MarginError):
        call()
