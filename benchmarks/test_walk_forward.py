"""The walk-forward study end to end: fits, filters, simulations and reductions of every model and method.

No peer does the same; the goal is a time (table.py).  The parts are measured against peers in their own groups.
"""

import importlib.util
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "walk_forward.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("walk_forward_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.benchmark(group="walk-forward of 10 assets x 1,500 days x 6 models, 2 threads")
def test_margincore(benchmark, study):
    history = study.made_up_history(2000)
    found = benchmark.pedantic(study.study, (history,), {"threads": 2}, rounds=1)
    assert found.pnl.shape == (22, 1500) and len(found.forecasts) == 19
    assert found.favoured().coverage == pytest.approx(0.99, abs=0.004)
