"""The risk kernel against its twin, the definitions, and its own limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import risk as reference

from margincore.errors import ShapeError
from margincore.kernels import risk

FINITE = st.floats(-1e12, 1e12, allow_nan=False)
ANY = FINITE | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324])


def worst(pnl):
    rows = np.atleast_2d(np.asarray(pnl, float))
    out, scenario = np.empty(len(rows)), np.empty(len(rows), np.int32)
    risk.worst_losses(rows, out, scenario)
    return out, scenario


@settings(max_examples=200, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=70))
def test_worst_loss_equals_its_twin(pnl):
    loss, scenario = worst(pnl)
    expected, where = reference.worst_loss(np.array(pnl))
    assert scenario[0] == where
    assert loss.tobytes() == np.array([expected]).tobytes() or (np.isnan(loss[0]) and np.isnan(expected))


def test_worst_loss_of_many_rows_is_the_row_by_row_answer():
    pnl = np.random.default_rng(1).normal(size=(57, 131))
    loss, scenario = worst(pnl)
    assert np.array_equal(loss, -pnl.min(axis=1))
    assert np.array_equal(scenario, pnl.argmin(axis=1))


def test_worst_loss_of_gains_is_negative_and_of_zero_is_positive_zero():
    assert worst([3.0, 2.0, 5.0])[0][0] == -2.0
    assert str(worst([0.0, 0.0])[0][0]) == "0.0"


def test_worst_losses_checks_shapes():
    with pytest.raises(ShapeError, match="one output per row"):
        risk.worst_losses(np.zeros((2, 3)), np.empty(3), np.empty(2, np.int32))
    with pytest.raises(ShapeError, match="scenarios"):
        risk.worst_losses(np.zeros((2, 0)), np.empty(2), np.empty(2, np.int32))
