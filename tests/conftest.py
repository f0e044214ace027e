"""What every test shares: hypothesis without a clock or a seed of its own, and a word on what is being tested."""

import os

import hypothesis
import pytest

import margincore.kernels

hypothesis.settings.register_profile("margincore", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("margincore")

# Slow builds (bounds-checked, sanitized) run every test with fewer drawn examples.
EXAMPLES_MAX = int(os.environ.get("MARGINCORE_EXAMPLES_MAX", "0"))


def pytest_report_header(config: pytest.Config) -> str:
    drawn = f", at most {EXAMPLES_MAX} drawn examples per test" if EXAMPLES_MAX else ""
    return f"margincore: kernels at level {margincore.kernels.level}{drawn}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not EXAMPLES_MAX:
        return
    for item in items:
        inner = getattr(item, "obj", None)
        inner = getattr(inner, "__func__", inner)
        if getattr(inner, "is_hypothesis_test", False):
            own = getattr(inner, "_hypothesis_internal_use_settings", None) or hypothesis.settings.default
            fewer = hypothesis.settings(own, max_examples=min(own.max_examples, EXAMPLES_MAX))
            inner._hypothesis_internal_use_settings = fewer
