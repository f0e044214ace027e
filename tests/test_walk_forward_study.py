"""The walk-forward example runs from one command, with data and without."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import margincore as mc
from margincore.cli import _parser
from margincore.margin.clearing import fitted_models
from margincore.validation import walk_forward
from margincore.var_report import MODELS

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "examples" / "walk_forward.py"


def example():
    spec = importlib.util.spec_from_file_location("walk_forward_example", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_data_it_makes_its_own_and_says_so(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), "--days", "60", "--window", "150", "--paths",
                           "500", "--plot", str(tmp_path / "bands.png")], capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert "MADE UP" in done.stdout and "19 combinations" in done.stdout
    assert "the evidence favours" in done.stdout and "60 days forecast" in done.stdout
    assert (tmp_path / "bands.png").read_bytes()[:4] == b"\x89PNG"


def test_the_made_up_coins_are_judged_rightly():
    module = example()
    found = module.study(module.made_up_history(900, 3), window=300, refit_every=100, paths=1000)
    items = {(item.model, item.method): item for item in found.combinations()}
    assert items["GARCH-t", "filtered"].coverage == pytest.approx(0.99, abs=0.006)
    assert items["EWMA 0.94", "parametric"].joint_score > items["GARCH-t", "filtered"].joint_score


def test_real_coins():
    module = example()
    if not (module.DEFAULT / module.PANEL).exists():
        pytest.skip("needs the shared data beside the project")
    history = module.real_history(module.DEFAULT)
    assert len(history.names) == 10 and len(history.returns) >= 4 * 365
    assert np.isfinite(history.returns).all() and (history.realised_variance > 0.0).all()
    assert (np.diff(history.time_ns) > 0).all()
    # Realised variance of the day agrees with its squared return on average.
    ratio = history.realised_variance.mean(axis=0) / (history.returns**2).mean(axis=0)
    assert ((ratio > 0.6) & (ratio < 2.5)).all()


@pytest.mark.slow
def test_the_default_is_what_the_evidence_favours():
    """Of the models the example takes, by filtered history on its panel."""
    module = example()
    if not (module.DEFAULT / module.PANEL).exists():
        pytest.skip("needs the shared data beside the project")
    history = module.real_history(module.DEFAULT)
    last = slice(-2000, None)
    found = walk_forward(history.returns[last], module.MODELS, methods=["historical", "filtered"],
                         names=history.names, realised_variance=history.realised_variance[last], threads=2)
    best = found.favoured()
    assert (best.model, best.method) == ("component-t", "filtered")
    assert best.frequency == best.conditional == best.shortfall_z2 == 0.0
    assert module.MODELS["component-t"] == MODELS["component-t"]
    arguments = _parser().parse_args(["var", "returns.csv"])
    assert (arguments.model, arguments.method) == (best.model, best.method)
    prices = 100.0 * np.exp(np.cumsum(history.returns[-600:, :1], axis=0))
    assert all(isinstance(model, mc.vol.Component) and isinstance(model.innovation, mc.vol.StudentT)
               for model in fitted_models({"BTC": prices[:, 0]}).values())


@pytest.mark.slow
def test_option_books_without_data(tmp_path):
    script = ROOT / "examples" / "walk_forward_options.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path), "--days", "12"], capture_output=True, text=True,
                          timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert "MADE UP" in done.stdout and "8 books, 12 days" in done.stdout
    assert all(method in done.stdout for method in ("historical", "filtered", "monte_carlo"))
    short = next(line for line in done.stdout.splitlines() if line.strip().startswith("short straddle"))
    assert 0.005 < float(short.split("mean margin ")[1].split(",")[0]) < 0.2
