"""``margincore var``: files in, value at risk, bands, exceptions and verdicts out."""

import csv
import gzip
import io
import json

import numpy as np
import pytest

import margincore as mc
from margincore.cli import main
from margincore.errors import MarginError, RangeError
from margincore.validation import kupiec_pof, walk_forward
from margincore.var_report import MODELS, load_series


@pytest.fixture(scope="module")
def returns():
    model = mc.vol.Garch(omega=2e-5, alpha=0.08, beta=0.90, innovation=mc.vol.StudentT(5.0))
    return np.ascontiguousarray(model.simulate(400, np.random.default_rng(4), paths=2).returns.T)


@pytest.fixture(scope="module")
def days():
    return [str(day) for day in np.datetime64("2024-01-01") + np.arange(400)]


@pytest.fixture
def table(tmp_path, returns, days):
    path = tmp_path / "returns.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["date", "BTC", "ETH"])
        writer.writerows([day, *(repr(float(r)) for r in row)] for day, row in zip(days, returns, strict=True))
    return str(path)


def run(capsys, *arguments):
    try:
        code = main(["var", *arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_next_period_is_the_day_after_the_history(capsys, table, returns):
    code, out, err = run(capsys, table, "--window", "200", "--model", "garch-t", "--paths", "2000", "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["after"] == "2025-02-03" and len(data["risk"]) == 4 * 4
    # The same through a history whose day beyond did happen: it cannot have been looked at.
    longer = np.concatenate([returns[-200:], [[0.3, -0.3], [0.1, 0.1]]])
    study = walk_forward(longer, {"garch-t": MODELS["garch-t"]}, window=200, refit_every=200, paths=2000,
                         positions=np.concatenate([np.eye(2), -np.eye(2)]))
    for row in data["risk"]:
        at = ["BTC long", "ETH long", "BTC short", "ETH short"].index(row["portfolio"])
        forecast = study.forecasts[row["model"], row["method"]][:, at, 0]
        assert (row["value_at_risk"], row["expected_shortfall"]) == (forecast[0], forecast[2])
        assert ("value_at_risk_interval" in row) == (row["method"] == "historical")
        if row["method"] == "historical":
            low, high = row["expected_shortfall_interval"]
            assert low < row["expected_shortfall"] < high and row["expected_shortfall_standard_error"] > 0.0
    code, out, _ = run(capsys, table, "--window", "200", "--paths", "2000")
    assert code == 0 and "next period after 2025-02-03" in out and "component-t" in out and "VaR 99" in out


def test_the_backtest_states_bands_exceptions_and_verdicts(capsys, table, returns, days, tmp_path):
    picture = tmp_path / "bands.png"
    code, out, err = run(capsys, table, "--backtest", "--window", "200", "--model", "ewma", "--method", "parametric",
                         "--level", "0.95", "--plot", str(picture), "--json")
    assert (code, err) == (0, "")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    data = json.loads(out)
    study = walk_forward(returns, {"ewma": MODELS["ewma"]}, methods=["parametric"], window=200,
                         value_at_risk_level=0.95, positions=np.concatenate([np.eye(2), -np.eye(2)]))
    short = data["portfolios"][2]
    assert short["portfolio"] == "BTC short"
    stated = study.value_at_risk("ewma", "parametric")[2]
    assert short["value_at_risk"] == stated.tolist()
    # One more rounding each: NumPy's function is not the kernel's.
    assert np.allclose(short["pnl"], -np.expm1(returns[200:, 0]), rtol=5e-16, atol=0.0)
    hits = np.flatnonzero(np.expm1(returns[200:, 0]) > stated)
    assert [hit["time"] for hit in short["exception_list"]] == [days[200 + at] for at in hits]
    test = kupiec_pof(np.expm1(returns[200:, 0]) > stated, 0.95)
    assert short["tests"][0]["p_value"] == test.p_value
    assert len(short["tests"]) == 9 and len({test["name"] for test in short["tests"]}) == 9
    assert (data["first"], data["last"]) == (days[200], days[-1])
    code, out, _ = run(capsys, table, "--backtest", "--window", "200", "--column", "ETH")
    assert code == 0 and "ETH long" in out and "BTC" not in out
    assert "Kupiec" in out and "Acerbi-Szekely Z2" in out and "exception 2024" in out


def test_prices_packed_files_and_standard_input(capsys, monkeypatch, tmp_path, returns, days):
    prices = 100.0 * np.exp(np.cumsum(returns[:, 0]))
    text = "time,close\n" + "".join(f"{day}T00:00:00Z,{price!r}\n" for day, price in zip(days, prices.tolist(),
                                                                                        strict=True))
    packed = tmp_path / "prices.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    series = load_series(str(packed), prices=True)
    assert series.names == ("close",) and series.label(0) == days[1] and len(series.returns) == 399
    assert np.allclose(series.returns[:, 0], returns[1:, 0], atol=1e-15)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert np.array_equal(load_series("-", prices=True).returns, series.returns)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"time,close\n2024-01-01,\xff\n"), encoding="utf-8"))
    with pytest.raises(RangeError, match="path must be readable as CSV, '-' is not: 'utf-8' codec"):
        load_series("-")
    rows = [{"ts_ms": mc.utc(day) // 10**6 + 60_000, "r": float(r)} for day, r in zip(days, returns[:, 0], strict=True)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    assert load_series(str(path)).label(0) == "2024-01-01T00:01"
    plain = tmp_path / "plain.csv"
    plain.write_text("r\n" + "".join(f"{r!r}\n" for r in returns[:, 0].tolist()))
    assert load_series(str(plain)).time_ns is None
    code, out, _ = run(capsys, str(plain), "--backtest", "--window", "200", "--method", "historical")
    assert code == 0 and "200 to 399" in out


def test_columns_that_are_left_out_are_named(capsys, tmp_path, returns, days):
    """Blank or NaN at first in a panel, or of a bar what is not its close: never in silence."""
    prices = 100.0 * np.exp(np.cumsum(returns, axis=0))
    late = np.where(np.arange(400) < 30, np.nan, prices[:, 1])
    panel = tmp_path / "panel.csv"
    panel.write_text("date,BTC,NEW\n" + "".join(
        f"{day},{first!r},{'' if second != second else repr(second)}\n"
        for day, first, second in zip(days, prices[:, 0].tolist(), late.tolist(), strict=True)))
    rows = tmp_path / "panel.json"
    rows.write_text(json.dumps([{"date": day, "BTC": first, "NEW": second} for day, first, second in zip(
        days, prices[:, 0].tolist(), late.tolist(), strict=True)]))
    for path in (panel, rows):
        found = load_series(str(path), prices=True)
        assert (found.names, found.left_out) == (("BTC",), ("NEW",))
        with pytest.raises(MarginError, match="NEW must be a finite number, was .* in row 1"):
            load_series(str(path), columns=["NEW"], prices=True)
    code, out, _ = run(capsys, str(panel), "--prices", "--window", "200", "--model", "ewma", "--paths", "200")
    assert code == 0 and "left out: NEW; --column chooses others" in out
    code, out, _ = run(capsys, str(panel), "--prices", "--window", "200", "--model", "ewma", "--backtest", "--json")
    assert json.loads(out)["left_out"] == ["NEW"]
    bars = tmp_path / "bars.csv"
    bars.write_text("date,Open,High,Low,Close,Volume\n" + "".join(
        f"{day},{p!r},{1.1 * p!r},{0.9 * p!r},{p!r},7\n" for day, p in zip(days, prices[:, 0].tolist(), strict=True)))
    found = load_series(str(bars), prices=True)
    assert (found.names, found.left_out) == (("Close",), ("Open", "High", "Low", "Volume"))
    assert load_series(str(bars), columns=["High", "Low"], prices=True).names == ("High", "Low")


def test_simple_returns_become_log_returns(capsys, tmp_path, returns, table):
    path = tmp_path / "simple.csv"
    path.write_text("r\n" + "".join(f"{r!r}\n" for r in np.expm1(returns[:, 0]).tolist()))
    assert np.allclose(load_series(str(path), simple=True).returns[:, 0], returns[:, 0], rtol=1e-12)
    hundred = tmp_path / "percent.csv"
    hundred.write_text("r\n" + "".join(f"{r!r}\n" for r in (100.0 * np.expm1(returns[:, 0])).tolist()))
    assert np.allclose(load_series(str(hundred), simple=True, percent=True).returns[:, 0], returns[:, 0], rtol=1e-12)
    code, out, _ = run(capsys, str(path), "--simple", "--window", "200", "--model", "ewma", "--backtest", "--json")
    assert code == 0
    assert np.allclose(json.loads(out)["portfolios"][0]["pnl"], np.expm1(returns[200:, 0]), rtol=1e-12)


def test_a_side_that_never_loses_is_reported(capsys, tmp_path, days):
    """The shortfall of what only earns is negative: its tests cannot say anything, the report stands."""
    path = tmp_path / "carry.csv"
    falls = -np.abs(np.random.default_rng(3).normal(0.02, 0.005, 400))
    path.write_text("r\n" + "".join(f"{r!r}\n" for r in falls.tolist()))
    code, out, err = run(capsys, str(path), "--backtest", "--window", "200", "--method", "historical", "--json")
    assert (code, err) == (0, "")
    long, short = json.loads(out)["portfolios"]
    assert max(short["expected_shortfall"]) < 0.0 and [test["name"] for test in long["tests"]] == [
        test["name"] for test in short["tests"]]
    assert [test["verdict"] for test in short["tests"][-3:]] == ["cannot say"] * 3


@pytest.mark.parametrize(("text", "options", "says"), [
    ("date,r\n", {}, "must hold rows"),
    ("date,name\n2024-01-01,x\n", {}, "must have a column of numbers"),
    ("date,r\n2024-01-01,0.1\n2024-01-02,\n", {}, "r must be a finite number, was '' in row 2"),
    ("date,r\n2024-01-01,0.1\n2024-01-02,nan\n", {}, "r must be a finite number, was 'nan' in row 2"),
    ("date,r\n2024-01-02,0.1\n2024-01-02,-0.1\n", {}, "date must rise strictly, did not in row 2"),
    ("date,r\nlater,0.1\n", {}, "date must be a time, was 'later' in row 1"),
    ("date,r\n2024-01-01,100\n2024-01-02,101\n", {}, "looks like prices: add --prices"),
    ("date,r\n2024-01-01,100\n2024-01-02,-101\n", {"prices": True}, "prices must be positive, r was -101 in row 2"),
    ("date,r\n2024-01-01,0.1\n", {"columns": ["x"]}, "column must be one of date, r, was 'x'"),
    ("0.01\n-0.02\n0.03\n", {}, "the first row must name the columns, was 0.01"),
    ("2024-01-01,0.01\n2024-01-02,-0.02\n", {}, "the first row must name the columns, was 2024-01-01, 0.01"),
    ("obs,r\n0,0.01\n1,-0.02\n", {}, "both signs, obs looks like prices: add --prices, or choose others by --column"),
    ("r,s\n0.01,1.2\n-0.02,-0.9\n", {}, r"s looks like per cent \(half are beyond 1.05\): add --percent"),
    ("r\n0.01\n-1.5\n0.02\n", {"simple": True}, "simple returns must be above -1, r was -1.5 in row 2"),
    ("r\n0.01\n-0.5\n", {"simple": True, "prices": True}, "simple and percent must be False with prices"),
])
def test_wrong_files(tmp_path, text, options, says):
    path = tmp_path / "series.csv"
    path.write_text(text)
    with pytest.raises(MarginError, match=says):
        load_series(str(path), **options)


@pytest.mark.parametrize(("arguments", "says"), [
    (["--window", "300000"], "returns must have at least 300000 rows"),
    (["--backtest", "--window", "399"], "returns must have at least 401 times"),
    (["--level", "99", "--window", "200"], "0.99"),
    (["--plot", "x.png"], "--plot must come with --backtest"),
    (["--model", "arch"], "invalid choice"),
])
def test_wrong_arguments(capsys, table, arguments, says):
    code, out, err = run(capsys, table, *arguments)
    assert code == 1 and out == "" and says in err
