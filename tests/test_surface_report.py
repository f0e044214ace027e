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
from margincore.errors import MissingDataError, RangeError
from margincore.quotes import bad_rows
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


def test_rows_left_out_have_their_numbers_in_the_file(tmp_path):
    first = [{**row, "instrument_name": row["instrument_name"].replace("BTC", "ETH")} for row in rows()]
    later = [{**row, "creation_timestamp": row["creation_timestamp"] + 3_600_000} for row in rows()]
    later[5]["ask_price"] = 0.0
    later[9]["instrument_name"] = "BTC-31FEB26-70000-C"
    (tmp_path / "chain.json").write_text(json.dumps(first + later[::-1]))
    found = {row["row"]: row["reason"] for row in bad_rows(load_quotes(tmp_path / "chain.json", currency="BTC"))}
    last = len(first) + len(later) - 1
    assert found == {last - 5: "NO_QUOTE", last - 9: "NO_OPTION", len(first): "CROSSED"}


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path, ending):
    content = table() if ending == "csv" else json.dumps(rows()).encode()
    for name, mark in (("plain", b""), ("marked", "\ufeff".encode())):
        (tmp_path / f"{name}.{ending}").write_bytes(mark + content)
    plain, marked = (load_quotes(tmp_path / f"{name}.{ending}") for name in ("plain", "marked"))
    assert marked.high.tobytes() == plain.high.tobytes()


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


def table(**changes):
    """The generated chain as CSV, with some columns replaced."""
    return "\n".join([",".join(rows()[0]), *(",".join(map(str, (row | changes).values())) for row in rows())]).encode()


HEAD = b"instrument_name,bid_price,ask_price,creation_timestamp\n"
BROKEN = {
    "no rows": ("c.csv", HEAD, "has none"),
    "nothing": ("c.csv", b"", "has none"),
    "no json": ("c.json", b"", "readable"),
    "no parquet": ("c.parquet", b"", "readable"),
    "binary": ("c.csv", bytes(range(256)), "readable"),
    "binary json": ("c.json", bytes(range(256)), "readable"),
    "not gzipped": ("c.csv.gz", HEAD, "readable"),
    "cut short": ("c.csv.gz", gzip.compress(HEAD * 99)[:-9], "readable"),
    "utf-16": ("c.csv", "a,b".encode("utf-16"), "readable"),
    "a huge field": ("c.csv", HEAD + b'"' + b"x" * 200_000, "readable"),
    "nested": ("c.json", b"[" * 100_000, "readable"),
    "another ending": ("c.txt", HEAD, "path must end in"), "a number": ("c.json", b"5", "rows must be mappings"),
    "numbers": ("c.json", b"[1, 2]", "rows must be mappings"),
    "an error": ("c.json", b'{"error": 1}', "rows must hold options"),
    "other columns": ("c.csv", b"a,b\n1,2\n", "rows must hold options"),
    "nul": ("c.csv", HEAD + b"\0,1\n", "must hold options"),
    "a column twice": ("c.csv", b"bid_price," + HEAD + b"1,BTC-27MAR26-7-C,1,2,3\n", "stands more than once"),
    "a long row": ("c.csv", HEAD + b"BTC-27MAR26-70000-C,1,2,3,4\n", "row 1 has more cells"),
    "no options": ("c.csv", table(instrument_name="BTC-PERPETUAL"), "rows must hold options"),
    "no such day": ("c.csv", table(instrument_name="BTC-31FEB26-70000-C"), "rows must hold options"),
    "no time": ("c.csv", table(creation_timestamp=""), "carry no time"),
    "a time past 2262": ("c.csv", table(creation_timestamp="1e300"), "carry no time"),
    "an integer time past 2262": ("c.csv", table(creation_timestamp="9" * 20), "carry no time"),
    "words for prices": ("c.csv", table(bid_price="a", ask_price="b"), "NO_QUOTE 84"),
    "no quotes": ("c.csv", table(bid_price=0, ask_price=0), "NO_QUOTE 84"),
    "negative": ("c.csv", table(bid_price=-2, ask_price=-1), "BAD_PRICE 84"),
    "crossed": ("c.csv", table(bid_price=0.5, ask_price=0.1), "CROSSED 84"),
    "expired": ("c.csv", table(instrument_name="BTC-27MAR20-70000-C"), "EXPIRED 84"),
    "integers beyond floats": ("c.json", json.dumps([r | {"bid_price": 10**400, "ask_price": 10**400} for r in rows()]
                                                    ).encode(), "NO_QUOTE 84")}


@pytest.mark.parametrize("verb", ["iv", "surface"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_chain_is_exit_code_1_and_one_clear_line(capsys, tmp_path, verb, name):
    file, content, words = BROKEN[name]
    if file.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / file).write_bytes(content)
    assert main([verb, str(tmp_path / file)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("margincore: error: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize(("options", "words"), [
    (("--currency", "XRP"), "snapshot of the options asked for"), (("--time", "noon"), "time must be an ISO date"),
    (("--time", "1999-01-01"), "snapshot of the options asked for"), (("--save", "{d}"), "directory"),
    (("--save", "{d}/no/s.json"), "--save must name a file in a folder that exists"),
    (("--save", ""), "--save must be a file's name"), (("--plot", "{d}/p.nope"), "path must end in one of"),
    (("--plot", ""), "--plot must be a file's name"), (("--plot", "a\0b.png"), "--plot must be a file's name"),
    (("--plot", "{d}/no/p.png"), "--plot must name a file in a folder that exists")])
def test_bad_options_are_exit_code_1_and_one_clear_line(capsys, tmp_path, options, words):
    if "--plot" in options:
        pytest.importorskip("matplotlib")
    (tmp_path / "c.json").write_text(json.dumps(rows()))
    assert main(["surface", str(tmp_path / "c.json"), *(o.replace("{d}", str(tmp_path)) for o in options)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("margincore: error: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize("verb", ["iv", "surface"])
def test_a_directory_is_no_chain(capsys, tmp_path, verb):
    (tmp_path / "d.csv").mkdir()
    for where, words in ((tmp_path, "path must end in"), (tmp_path / "d.csv", "directory"), ("", "file's name")):
        assert main([verb, str(where)]) == 1
        assert words in capsys.readouterr().err


def test_plot_without_quotes(tmp_path):
    pytest.importorskip("matplotlib")
    surface = VolSurface.ssvi([0.01, 0.04], [NOW + NS_PER_DAY, NOW + 9 * NS_PER_DAY], rho=-0.3, eta=0.8, time_ns=NOW,
                              forward=100.0)
    figure = surface.plot(path=tmp_path / "p.png")
    assert (tmp_path / "p.png").exists() and len(figure.axes) == 2


def test_a_picture_of_an_unknown_kind_is_refused_before_it_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    surface = VolSurface.ssvi([0.01], [NOW + NS_PER_DAY], rho=-0.3, eta=0.8, time_ns=NOW, forward=100.0)
    with pytest.raises(RangeError, match="path must end in one of .*png.*, was '.*nope'"):
        surface.plot(path=tmp_path / "p.nope")
    with pytest.raises(FileNotFoundError):
        surface.plot(path=tmp_path / "no" / "p.png")
    assert not list(tmp_path.iterdir())


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


@pytest.mark.slow
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
