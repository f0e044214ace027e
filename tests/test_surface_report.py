"""Chain files to tables: the functions behind the verbs iv and surface, and the verbs themselves."""

import csv
import gzip
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from reference import surface as reference
from shared_data import shared

from margincore.calibration import calibrate
from margincore.cli import main
from margincore.errors import MissingDataError
from margincore.surface import VolSurface
from margincore.surface_report import implied_volatilities, load_quotes, surface_report, surface_text, volatilities_text
from margincore.units import NS_PER_DAY, utc

NOW = utc("2026-02-05T16:00")
NAMES = {20: "25FEB26", 50: "27MAR26", 141: "26JUN26"}


def rows(shift=1.0):
    """Deribit rows of a generated coin-settled chain; the last row is crossed."""
    found = []
    for days, label in NAMES.items():
        expiry = NOW + days * NS_PER_DAY - 8 * 3600 * 10**9
        years = (expiry - NOW) / (365 * NS_PER_DAY)
        forward = 70_000.0 * shift * (1 + 0.03 * years)
        for strike in np.arange(40_000, 110_000, 5_000.0):
            k = np.log(strike / forward)
            w = years * (0.5 + 0.1 * k * k / years - 0.1 * k) ** 2
            otm = float(reference.out_of_the_money(k, w))
            for right in "CP":
                intrinsic = max(1 - np.exp(k), 0) if right == "C" else max(np.exp(k) - 1, 0)
                price, half = otm + intrinsic, 0.0004 + 0.01 * otm
                found.append({"instrument_name": f"BTC-{label}-{strike:.0f}-{right}", "bid_price": price - half,
                              "ask_price": price + half, "mark_price": price, "underlying_price": forward,
                              "index_price": 70_000.0 * shift, "creation_timestamp": NOW // 10**6})
    found[-1]["bid_price"] = found[-1]["ask_price"] * 2
    return found


@pytest.fixture(params=["json", "csv", "csv.gz", "parquet"])
def chain_file(request, tmp_path):
    path = tmp_path / f"chain.{request.param}"
    if request.param == "json":
        path.write_text(json.dumps({"result": rows()}))
    elif request.param == "parquet":
        pytest.importorskip("pandas").DataFrame(rows()).to_parquet(path)
    else:
        with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as stream:
            writer = csv.DictWriter(stream, rows()[0])
            writer.writeheader()
            writer.writerows(rows())
    return path


def test_every_kind_of_file(chain_file):
    quotes = load_quotes(chain_file)
    assert quotes.chain.inverse and quotes.expiry_ns.size == 3
    assert quotes.left_out() == {"CROSSED": 1}
    table = implied_volatilities(quotes)
    for quote in table["quotes"]:
        if quote["bid_vol"] is not None:
            assert quote["bid_vol"] < quote["mid_vol"] < quote["ask_vol"]
    assert "crossed" in volatilities_text(table)
    data = surface_report(quotes)
    assert data["inside"] > 0.95 * data["two_sided"] > 50 and not data["arbitrage"]
    text = surface_text(data)
    assert "no arbitrage" in text and all(s["expiry"] in text for s in data["slices"])
    json.dumps([table, data], allow_nan=False)


def test_volatilities_are_those_of_the_smile(tmp_path):
    """Bid and ask volatility enclose what made the prices, a year has 365 days, and the middle is half-way."""
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(rows()))
    seen = 0
    for quote in implied_volatilities(load_quotes(path))["quotes"]:
        left = (utc(quote["expiry"] + "T08:00") - NOW) / (365 * NS_PER_DAY)
        truth = 0.5 + 0.1 * quote["log_moneyness"] ** 2 / left - 0.1 * quote["log_moneyness"]
        assert truth < quote["ask_vol"]
        if quote["bid_vol"] is not None:
            assert quote["bid_vol"] < truth and quote["mid_vol"] == 0.5 * (quote["bid_vol"] + quote["ask_vol"])
            seen += 1
    assert seen > 50


def test_snapshot_and_currency_are_chosen(tmp_path):
    later = [{**row, "creation_timestamp": row["creation_timestamp"] + 3_600_000} for row in rows(1.1)]
    other = [{**row, "instrument_name": row["instrument_name"].replace("BTC", "ETH")} for row in rows(0.9)]
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(rows() + later + other))
    assert load_quotes(path, currency="BTC").chain.spot == pytest.approx(77_000.0)
    assert load_quotes(path, currency="BTC", at_ns=NOW + 10**9).chain.spot == pytest.approx(70_000.0)
    assert load_quotes(path, currency="ETH").chain.underlying == "ETH"
    with pytest.raises(MissingDataError):
        load_quotes(path, currency="SOL")
    with pytest.raises(MissingDataError):
        load_quotes(path, currency="BTC", at_ns=NOW - 1)


def test_verbs(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, picture, saved = tmp_path / "chain.json", tmp_path / "s.png", tmp_path / "s.json"
    path.write_text(json.dumps(rows()))
    assert main(["iv", str(path)]) == 0
    assert "two_sided" in capsys.readouterr().out
    assert main(["surface", str(path), "--plot", str(picture), "--save", str(saved), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert len(data["slices"]) == 3 and picture.stat().st_size > 10_000
    assert VolSurface.load(saved) == calibrate(load_quotes(path))
    assert main(["surface", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_plot_without_quotes(tmp_path):
    pytest.importorskip("matplotlib")
    surface = VolSurface.ssvi([0.01, 0.04], [NOW + NS_PER_DAY, NOW + 9 * NS_PER_DAY], rho=-0.3, eta=0.8, time_ns=NOW,
                              forward=100.0)
    figure = surface.plot(path=tmp_path / "p.png")
    assert (tmp_path / "p.png").exists() and len(figure.axes) == 2


@pytest.mark.parametrize("name", ["deribit_tickers_full_btc_20200521", "deribit_tickers_full_btc_202601"])
def test_venue_tickers(name):
    pytest.importorskip("pandas")
    data = surface_report(load_quotes(shared("data", "options", f"{name}.parquet")))
    assert not data["arbitrage"] and data["inside"] > 0.9 * data["two_sided"] > 100


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location(
        "surface_study", Path(__file__).resolve().parents[1] / "examples" / "surface_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_runs_without_data(study, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    study.main([str(tmp_path / "none.parquet"), "--currency", "BTC", "ETH", "--plot", str(tmp_path / "p.png")])
    out = capsys.readouterr().out
    assert "generated chain" in out and out.count("clean") == 5 and (tmp_path / "p.png").exists()


def test_check_of_the_example_finds_what_it_looks_for(study):
    expiries = NOW + np.array([30, 90]) * NS_PER_DAY
    for theta, eta, found in (([0.02, 0.05], 1.0, False), ([0.05, 0.049], 1.0, True), ([0.02, 0.05], 5.0, True)):
        surface = VolSurface.ssvi(theta, expiries, rho=-0.4, eta=eta, time_ns=NOW, forward=100.0)
        assert (study.worst_on_grid(surface) > 0.0) == found
