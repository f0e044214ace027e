"""The README keeps its word: its commands exist, its examples run, and print what it says they print."""

import contextlib
import io
import re
from pathlib import Path

import margincore as mc

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)


def test_examples_print_what_is_written_below_them():
    names: dict[str, object] = {}
    checked = 0
    for (kind, text), (next_kind, expected) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, "README.md", "exec"), names)
        if next_kind == "text":
            assert printed.getvalue() == expected
            checked += 1
    assert checked >= 5


def test_the_two_commands_come_first():
    kind, text = BLOCKS[0]
    assert kind == "sh"
    assert re.findall(r"^make (\w+)", text, re.M) == ["demo", "test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"demo", "test", "bench", "lint", "wheel"} <= set(targets)


def test_every_name_in_the_table_exists():
    inside = README.split("## What is inside")[1].split("## ")[0]
    for name in re.findall(r"`([\w.]+)(?:\(\))?`", inside):
        owner: object = mc
        parts = name.removeprefix("margincore.").split(".")
        if name.endswith(".h") or name.startswith("margincore.kernels"):
            continue
        if parts[0] in ("account", "engine"):
            owner = mc.Account if parts[0] == "account" else mc.Engine
            parts = parts[1:]
        for part in parts:
            if owner is mc and part in ("vol", "validation", "io"):
                owner = __import__(f"margincore.{part}", fromlist=["_"])
            else:
                owner = getattr(owner, part)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((\S+?)\)", README):
        assert (ROOT / target).exists(), target


def test_the_model_of_the_contributing_guide_works():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    names: dict[str, object] = {}
    exec("from dataclasses import dataclass\nimport numpy as np\nfrom margincore.contracts import Contracts\n"
         "from margincore.margin import MarginPlan\nfrom margincore.margin.base import Stage, kept_shares\n"
         "from margincore.units import number\n" + block, names)
    contracts = mc.Contracts([mc.Perpetual("BTC-PERP", underlying="BTC", settle="USDC")])
    engine = mc.Engine(contracts, names["FlatRate"](0.05))
    engine.update(mc.MarketState(now_ns=1, spot={"BTC": 100.0, "USDC": 1.0}, mark={"BTC-PERP": 100.0}))
    report = engine.margin(mc.Portfolio({"BTC-PERP": 2.0}, {"USDC": 15.0}))
    assert (report.equity, report.maintenance, report.initial) == (15.0, 10.0, 20.0)
    assert report.status is mc.Status.MARGIN_CALL
