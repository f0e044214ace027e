"""The command line: exit codes, JSON, errors, and the same numbers as the library."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared

import margincore as mc
from margincore.cli import main
from margincore.demo import standard_model
from margincore.kernels import formula
from margincore.margin.clearing import fitted_models


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def chain(tmp_path):
    """A small chain in the venue's own form: book summary rows."""
    expiry, rows = "27MAR26", []
    forward = 70_000.0
    for strike in (60_000, 65_000, 70_000, 75_000, 80_000):
        for right in "CP":
            price = formula.price(forward, strike, 25 / 365, 0.6, right == "C") / forward
            rows.append({"instrument_name": f"BTC-{expiry}-{strike}-{right}", "underlying_price": forward,
                         "underlying_index": f"BTC-{expiry}", "mark_price": price, "mark_iv": 60.0,
                         "bid_price": price * 0.98, "ask_price": price * 1.02, "interest_rate": 0.0,
                         "creation_timestamp": mc.utc("2026-03-02T08:00") // 10**6, "base_currency": "BTC",
                         "quote_currency": "BTC", "estimated_delivery_price": 69_900.0})
    rows.append({"instrument_name": "BTC-PERPETUAL", "mark_price": 69_950.0, "bid_price": 69_949.5,
                 "ask_price": 69_950.5, "estimated_delivery_price": 69_900.0, "base_currency": "BTC",
                 "quote_currency": "USD", "creation_timestamp": mc.utc("2026-03-02T08:00") // 10**6})
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(rows))
    return str(path)


def portfolio(tmp_path, **content):
    path = tmp_path / "portfolio.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_margin_is_what_the_library_says(capsys, chain, tmp_path):
    held = {"positions": {"BTC-PERPETUAL": 7_000.0, "BTC-27MAR26-75000-C": -2.0}, "balances": {"BTC": 2.0}}
    code, out, err = run(capsys, "margin", portfolio(tmp_path, **held), chain, "--json")
    assert (code, err) == (0, "")
    contracts, market = mc.load_chain(chain)
    engine = mc.Engine(contracts, standard_model())
    engine.update(market)
    assert json.loads(out) == engine.margin(mc.Portfolio(**held)).to_dict()
    code, out, _ = run(capsys, "margin", portfolio(tmp_path, **held), chain)
    assert code == 0
    assert "HEALTHY" in out
    assert "maintenance" in out


def test_breach_is_exit_code_2(capsys, chain, tmp_path):
    thin = portfolio(tmp_path, positions={"BTC-27MAR26-70000-C": -10.0}, balances={"BTC": 0.8})
    code, out, _ = run(capsys, "margin", thin, chain, "--json")
    assert code == 2
    assert json.loads(out)["status"] == "LIQUIDATION"


def test_what_if_prices_at_the_mark_or_as_told(capsys, chain, tmp_path):
    held = portfolio(tmp_path, balances={"BTC": 2.0})
    code, out, _ = run(capsys, "whatif", held, chain, "BTC-PERPETUAL:-5000", "BTC-27MAR26-75000-C:-1@0.01", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["allowed"] is True
    assert answer["after"]["maintenance"] > answer["before"]["maintenance"] == 0.0
    code, out, _ = run(capsys, "whatif", held, chain, "BTC-PERPETUAL:5000000")
    assert code == 2
    assert "refused" in out


def test_liquidation_prices(capsys, chain, tmp_path):
    held = portfolio(tmp_path, positions={"BTC-PERPETUAL": 140_000.0}, balances={"BTC": 1.0})
    code, out, _ = run(capsys, "liq", held, chain, "--json")
    answer = json.loads(out)["BTC"]
    assert code == 0
    assert answer["down"] < answer["price"]
    assert answer["up"] is None
    code, out, _ = run(capsys, "liq", held, chain)
    assert "down" in out
    assert "none up to" in out


@pytest.mark.parametrize(("arguments", "words"), [
    (["margin", "{p}", "absent.json"], "absent.json"),
    (["margin", "absent.json", "{c}"], "absent.json"),
    (["margin", "{bad}", "{c}"], "portfolio must be JSON"),
    (["margin", "{unknown}", "{c}"], "NOPE"),
    (["margin", "{extra}", "{c}"], "positions, balances and entry"),
    (["whatif", "{p}", "{c}", "BTC-PERPETUAL"], "order must be"),
    (["whatif", "{p}", "{c}", "BTC-PERPETUAL:x"], "order must be"),
    (["whatif", "{p}", "{c}", "BTC-PERPETUAL:nan"], "quantity must be finite"),
    (["nothing"], "invalid choice"),
    ([], "required"),
])
def test_wrong_input_is_exit_code_1_and_one_clear_line(capsys, chain, tmp_path, arguments, words):
    paths = {"c": chain, "p": portfolio(tmp_path, balances={"BTC": 1.0})}
    for name, text in (("bad", "{"), ("unknown", '{"positions": {"NOPE": 1}}'), ("extra", '{"cash": 1}')):
        (tmp_path / f"{name}.json").write_text(text)
        paths[name] = str(tmp_path / f"{name}.json")
    code, out, err = run(capsys, *[a.format(**paths) for a in arguments])
    assert code == 1
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("package", "extra", "command"), [
    ("pandas", "pandas", ["margin", "{p}", "{f}.parquet"]), ("pyarrow", "pandas", ["margin", "{p}", "{f}.parquet"]),
    ("matplotlib", "plot", ["surface", "{c}", "--plot", "{f}.png"]),
    ("matplotlib", "plot", ["var", "{h}", "--backtest", "--method", "historical", "--window", "100", "--refit-every",
                            "500", "--plot", "{f}.png"])])
def test_a_package_that_is_missing_is_named_with_its_extra(capsys, chain, tmp_path, monkeypatch, package, extra,
                                                           command):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "file.parquet").write_bytes(b"PAR1")
    files = {"c": chain, "p": portfolio(tmp_path, balances={"BTC": 1.0}), "f": str(tmp_path / "file")}
    (tmp_path / "returns.csv").write_text("x\n" + "\n".join(str(0.01 * (-1) ** k) for k in range(160)) + "\n")
    code, out, err = run(capsys, *[word.format(**files, h=str(tmp_path / "returns.csv")) for word in command])
    assert (code, out) == (1, "")
    assert f"needs {package}: pip install 'margincore[{extra}]'" in err and err.count("\n") == 1


def test_liquidation_prices_of_an_unknown_account_are_exit_code_2(capsys, chain, tmp_path):
    rows = [{**row, "mark_price": None, "bid_price": None, "ask_price": None}
            if row["instrument_name"] == "BTC-PERPETUAL" else row for row in json.loads(Path(chain).read_text())]
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(rows))
    held = portfolio(tmp_path, positions={"BTC-PERPETUAL": 100.0}, balances={"BTC": 1.0})
    for options in ([], ["--json"]):
        code, out, err = run(capsys, "liq", held, str(broken), *options)
        assert (code, err) == (2, "")
        assert "UNKNOWN" in out and "BTC-PERPETUAL" in out


def test_every_verb_of_the_help_has_its_command(capsys):
    from margincore import cli
    code, out, _ = run(capsys, "--help")
    assert code == 0
    listed = out[out.index("{") + 1:out.index("}")].split(",")
    assert sorted(listed) == sorted(cli._COMMANDS)


def test_info_names_version_and_level(capsys):
    code, out, _ = run(capsys, "info", "--json")
    assert code == 0
    config = json.loads(out)
    assert config["kernels"]["level"] in config["kernels"]["built"]
    assert config == mc.show_config(mode="dicts")
    assert config["kernels"]["compiler"] in run(capsys, "info")[1]
    with pytest.raises(ValueError, match="mode"):
        mc.show_config(mode="loud")


def test_demo_on_its_own_market(capsys):
    code, out, err = run(capsys, "demo", "--accounts", "2000")
    assert (code, err) == (0, "")
    for words in ("built here", "BTC-PERP", "maintenance", "initial", "worst of", "liquidation", "What if", "ns in C",
                  "2,000 accounts"):
        assert words in out
    code, out, _ = run(capsys, "demo", "--accounts", "2000", "--json")
    data = json.loads(out)
    assert data["what_if"]["maintenance"] > 1.5 * data["report"]["maintenance"]  # selling the hedge costs margin


@pytest.mark.parametrize("name", ["deribit_tickers_full_btc_202601.parquet",
                                  "deribit_tickers_full_btc_20200521.parquet",
                                  "deribit_chain_crash_20260203_20260208_6h.parquet"])
def test_demo_on_a_real_chain(capsys, name):
    pytest.importorskip("pyarrow", reason="the chain is a parquet file")
    path = shared("data", "options", name)
    code, out, err = run(capsys, "demo", "--market", str(path), "--currency", "BTC", "--accounts", "1000")
    assert (code, err) == (0, "")
    assert "HEALTHY" in out


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "margincore", "--version"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0
    assert mc.__version__ in done.stdout


@pytest.fixture
def closes(tmp_path):
    """Daily closes of three years, a column per underlying."""
    random = np.random.default_rng(4)
    table = 60_000.0 * np.exp(np.cumsum(0.03 * random.standard_t(4, (900, 2)), axis=0))
    days = [str(np.datetime64("2023-09-01") + np.timedelta64(at, "D")) for at in range(900)]
    lines = ["date,BTC,ETH", *(f"{day},{float(b)!r},{float(e)!r}" for day, (b, e) in zip(days, table, strict=True))]
    path = tmp_path / "closes.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path), {"BTC": table[:, 0].copy(), "ETH": table[:, 1].copy()}, days


@pytest.mark.parametrize("model", ["var", "es", "listed", "otc"])
def test_models_of_the_tail_are_selected_by_name(capsys, chain, tmp_path, closes, model):
    held = {"positions": {"BTC-PERPETUAL": 7_000.0, "BTC-27MAR26-75000-C": -2.0}, "balances": {"BTC": 2.0}}
    path, prices, dates = closes
    options = ("--model", model, "--history", path)
    code, out, err = run(capsys, "margin", portfolio(tmp_path, **held), chain, "--json", *options)
    assert (code, err) == (0, "")
    contracts, market = mc.load_chain(chain)
    if model in ("listed", "otc"):
        made = {"listed": mc.clearing_listed, "otc": mc.clearing_otc}[model](prices, dates, conversion="shocked")
    else:
        measure = mc.ValueAtRisk(0.99) if model == "var" else mc.ExpectedShortfall(0.975)
        scenarios = mc.filtered_historical(prices, fitted_models(prices, dates), dates)
        made = mc.VarMargin(scenarios, measure=measure, initial_ratio=1.25, conversion="shocked")
    engine = mc.Engine(contracts, made)
    engine.update(market)
    assert json.loads(out) == json.loads(json.dumps(engine.margin(mc.Portfolio(**held)).to_dict()))
    assert json.loads(out)["sets"][0]["tail"]
    code, out, _ = run(capsys, "liq", portfolio(tmp_path, **held), chain, "--json", *options)
    assert code == 0 and json.loads(out)["BTC"]["certified"] is (model == "es")
    code, out, _ = run(capsys, "whatif", portfolio(tmp_path, **held), chain, "BTC-PERPETUAL:10", *options)
    assert code in (0, 2) and "initial" in out


@pytest.mark.parametrize(("options", "words"), [
    (("--model", "var"), "history must be given"),
    (("--history", "x.csv"), "model must be one of var, es, listed, otc"),
    (("--model", "es", "--history", "missing.csv"), "missing.csv")])
def test_a_model_and_its_history_belong_together(capsys, chain, tmp_path, options, words):
    code, _, err = run(capsys, "margin", portfolio(tmp_path, balances={"BTC": 2.0}), chain, *options)
    assert code == 1 and words in err and err.count("\n") == 1


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_unknown_is_null_in_json_and_never_a_plain_number(capsys, tmp_path, chain):
    rows = json.loads(Path(chain).read_text())
    option = "BTC-27MAR26-75000-C"
    for row in rows:
        if row["instrument_name"] == option:
            row.update(mark_price=None, mark_iv=None, bid_price=None, ask_price=None)
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(rows))
    held = portfolio(tmp_path, positions={option: -2.0}, balances={"BTC": 2.0})
    code, out, _ = run(capsys, "margin", held, str(broken), "--json")
    report = strict(out)
    assert code == 2 and report["status"] == "UNKNOWN" and report["maintenance"] is None
    assert {part["maintenance"] for part in report["parts"]} == {None}
    assert report["sets"][0]["loss"] is None and report["sets"][0]["contributions"] == {option: None}
    code, out, _ = run(capsys, "whatif", held, str(broken), "BTC-PERPETUAL:10", "--json")
    answer = strict(out)
    assert code == 2 and answer["before"] == answer["after"] == dict.fromkeys(("equity", "initial", "maintenance"))
    assert not answer["allowed"]


@pytest.mark.parametrize("content, rule", [
    (b"\xff\xfe{", "JSON"), (b'{"positions": {"BTC-PERPETUAL": 1, "BTC-PERPETUAL": -1}}', "stands twice"),
    (b'{"positions": {"BTC-PERPETUAL": NaN}}', "finite"), (b"[", "JSON"), (b'{"orders": {}}', "positions, balances")])
def test_a_portfolio_that_is_none_is_refused_in_words(capsys, tmp_path, chain, content, rule):
    path = tmp_path / "portfolio.json"
    path.write_bytes(content)
    code, out, err = run(capsys, "margin", str(path), chain)
    assert (code, out) == (1, "") and rule in err


@pytest.mark.parametrize("name", ["chain.parquet", "chain.csv.gz", "chain.json.gz", "chain.json", "chain.csv"])
def test_a_broken_chain_file_is_refused_in_words(capsys, tmp_path, name):
    pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(b"\xff\x00garbage")
    held = portfolio(tmp_path, positions={}, balances={"BTC": 1.0})
    code, out, err = run(capsys, "margin", held, str(path))
    assert (code, out) == (1, "") and err.startswith("margincore: error: path must")
