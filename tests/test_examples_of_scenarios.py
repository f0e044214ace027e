"""The examples in the docstrings of scenario builders and measures print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["panel", "history", "surface_history", "stress_events", "combine", "liquidity_var",
                                  "scenarios", "risk_profile", "account", "tail", "parametric", "simulation",
                                  "margin.var", "margin.clearing"])
def test_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"margincore.{name}"))
    assert found.failed == 0 and found.attempted > 0
