"""Histories of surfaces as scenarios: moves by definition, and the next day replayed."""

import numpy as np
import pytest
from shared_data import shared

from margincore.contracts import Contracts, Option, Perpetual
from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.formulas import black76
from margincore.history import filtered_historical, historical
from margincore.market import MarketState
from margincore.option_chain import Chain
from margincore.revaluation import revalue
from margincore.surface import VolSurface
from margincore.surface_history import historical_surfaces, surface_moves
from margincore.svi import RawSvi
from margincore.units import NS_PER_DAY, utc
from margincore.vol import Ewma

START = utc("2026-02-01T16:00")
TENORS, NODES = (10.0, 30.0, 60.0), (-1.0, -0.4, 0.0, 0.3, 1.0)
RANDOM = np.random.default_rng(8)
SPOTS = 60_000.0 * np.exp(np.concatenate([[0.0], RANDOM.normal(0.0, 0.05, 8).cumsum()]))


def svi(day, spot, scale=1.0):
    """Two slices whose level and skew change from day to day."""
    time, level = START + day * NS_PER_DAY, scale * (1.0 + 0.3 * np.sin(day))
    slices = [RawSvi(a=0.01 * level, b=0.05 * level, rho=-0.3 - 0.02 * day, m=0.0, sigma=0.15),
              RawSvi(a=0.05 * level, b=0.09 * level, rho=-0.2, m=0.02, sigma=0.3)]
    expiries = [time + int(days * NS_PER_DAY) for days in (10.0, 60.0)]
    return VolSurface.svi(slices, expiries, time_ns=time, forward=[spot, 1.01 * spot], spot=float(spot))


BTC = [svi(day, spot) for day, spot in enumerate(SPOTS)]
ETH = [svi(day, spot / 20.0, 1.4) for day, spot in enumerate(SPOTS[::-1])]


def node_volatility(surface, moneyness, days):
    """Volatility by the public question alone: at the strike of this moneyness and the date that is so far off."""
    when = surface.time_ns + int(days * NS_PER_DAY)
    return surface.vol(surface.forward(when) * np.exp(moneyness * np.sqrt(days / 365.0)), when)


def test_moves_at_fixed_moneyness_and_tenor():
    found = surface_moves(BTC, moneyness=NODES, tenors_days=TENORS)
    assert found.log_ratio.shape == (8, 3, 5)
    for day in range(8):
        want = [[np.log(node_volatility(BTC[day + 1], x, t) / node_volatility(BTC[day], x, t)) for x in NODES]
                for t in TENORS]
        assert found.log_ratio[day] == pytest.approx(np.array(want), abs=1e-10)


def test_moves_at_fixed_strikes():
    found = surface_moves(BTC, moneyness=NODES, tenors_days=TENORS, sticky="strike")
    for day in (0, 5):
        for row, days in enumerate(TENORS):
            first, last = (BTC[at].time_ns + int(days * NS_PER_DAY) for at in (day, day + 1))
            strikes = BTC[day].forward(first) * np.exp(np.array(NODES) * np.sqrt(days / 365.0))
            want = np.log(BTC[day + 1].vol(strikes, last) / BTC[day].vol(strikes, first))
            assert found.log_ratio[day, row] == pytest.approx(want, abs=1e-10)


def test_scenarios_carry_price_and_surface_of_one_date():
    found = historical_surfaces({"BTC": BTC, "ETH": ETH}, {"SOL": SPOTS / 400.0}, moneyness=NODES, tenors_days=TENORS)
    assert found.names[0] == "2026-02-02T16:00" and len(found) == 8 and found.smile == "sticky_moneyness"
    for name, spots in (("BTC", SPOTS), ("ETH", SPOTS[::-1]), ("SOL", SPOTS)):
        assert found.spot_move[name] == pytest.approx(spots[1:] / spots[:-1] - 1.0, rel=1e-12)
    assert set(found.surface_move) == {"BTC", "ETH"}
    assert found.surface_move["ETH"] == surface_moves(ETH, moneyness=NODES, tenors_days=TENORS)


@pytest.mark.parametrize("sticky", ["moneyness", "strike"])
def test_the_surface_before_becomes_the_surface_after(sticky):
    """An option on the nodes of a day is worth, in the scenario of the next, what the next day's surface says."""
    day, days = 3, 30.0
    now, after = BTC[day], BTC[day + 1]
    move = SPOTS[day + 1] / SPOTS[day] - 1.0
    expiry = now.time_ns + int(days * NS_PER_DAY)
    forward, years = now.forward(expiry), days / 365.0
    # Sticky moneyness is read where the strike lies after the move: strikes are put on the nodes there.
    shift = 1.0 + move if sticky == "moneyness" else 1.0
    strikes = forward * shift * np.exp(np.array(NODES) * np.sqrt(years))
    contracts = Contracts([Option(f"O{at}", underlying="BTC", settle="USDC", strike=float(strike), expiry_ns=expiry,
                                  right="call") for at, strike in enumerate(strikes)])
    scenarios = historical_surfaces({"BTC": BTC}, moneyness=NODES, tenors_days=TENORS, sticky=sticky)
    market = MarketState(now_ns=now.time_ns, spot={"BTC": float(SPOTS[day]), "USDC": 1.0}, surface={"BTC": now},
                         forward={("BTC", expiry): float(forward)})
    _, risk = revalue(contracts, market.resolve(contracts), scenarios.resolve(contracts))
    then = after.time_ns + int(days * NS_PER_DAY)
    if sticky == "moneyness":
        sigma = node_volatility(after, np.array(NODES), days)
    else:
        sigma = after.vol(strikes, then)
    for at, strike in enumerate(strikes):
        want = (black76(forward * (1.0 + move), strike, years, sigma[at], right="call")
                - black76(forward, strike, years, now.vol(strike, expiry), right="call"))
        assert risk[contracts.column[f"O{at}"], day] == pytest.approx(float(want), rel=1e-8, abs=1e-6)


def test_horizons_and_filters():
    names = {"moneyness": NODES, "tenors_days": TENORS}
    two = historical_surfaces({"BTC": BTC}, steps=2, **names)
    one = historical_surfaces({"BTC": BTC}, **names)
    rows = one.surface_move["BTC"].log_ratio
    assert two.surface_move["BTC"].log_ratio == pytest.approx(rows[:-1] + rows[1:], abs=1e-12)
    stretched = historical_surfaces({"BTC": BTC}, steps=4, horizon="square_root", **names)
    assert stretched.surface_move["BTC"].log_ratio == pytest.approx(2.0 * rows, abs=1e-12)
    assert stretched.spot_move["BTC"] == pytest.approx(
        historical({"BTC": SPOTS}, steps=4, horizon="square_root").spot_move["BTC"])
    apart = historical_surfaces({"BTC": BTC}, steps=4, horizon="separate", **names)
    assert len(apart) == 2 and apart.names[-1].endswith("2026-02-09T16:00")
    model = Ewma(start_variance=0.0025)
    filtered = historical_surfaces({"BTC": BTC}, model=model, **names)
    assert filtered.spot_move["BTC"] == filtered_historical({"BTC": SPOTS}, model).spot_move["BTC"]
    assert filtered.surface_move == one.surface_move
    assert historical_surfaces({"BTC": BTC}, decay=0.9, **names).probability[-1] > 1.0 / 8.0


def test_a_gap_between_snapshots():
    broken = BTC[:4] + BTC[5:]
    with pytest.raises(RangeError, match="2026-02-06T16:00 follows 2026-02-04T16:00"):
        historical_surfaces({"BTC": broken}, moneyness=NODES, tenors_days=TENORS)
    found = historical_surfaces({"BTC": broken}, gaps="skip", moneyness=NODES, tenors_days=TENORS)
    assert len(found) == 6 and found.surface_move["BTC"].log_ratio.shape[0] == 6
    assert "2026-02-06T16:00" not in found.names


def flat(day, sigma, **options):
    return VolSurface.flat(sigma, time_ns=START + day * NS_PER_DAY, **options)


@pytest.mark.parametrize(("call", "kind"), [
    (lambda: surface_moves(BTC[:1]), ShapeError),
    (lambda: surface_moves([BTC[1], BTC[0]]), RangeError),
    (lambda: surface_moves([BTC[0], 0.5]), RangeError),
    (lambda: surface_moves(BTC, sticky="delta"), RangeError),
    (lambda: surface_moves(BTC, tenors_days=[0.0]), RangeError),
    (lambda: surface_moves(BTC, moneyness=[0.1, 0.1]), RangeError),
    (lambda: surface_moves([flat(0, 0.5), flat(1, 0.6)], sticky="strike"), NotFiniteError),
    (lambda: historical_surfaces({}), RangeError),
    (lambda: historical_surfaces({"BTC": BTC[0]}), RangeError),
    (lambda: historical_surfaces({"BTC": 5}), RangeError),
    (lambda: historical_surfaces({"BTC": BTC, "ETH": ETH[:-1]}), ShapeError),
    (lambda: historical_surfaces({"BTC": BTC, "ETH": ETH[1:] + [svi(9, 3000.0)]}), RangeError),
    (lambda: historical_surfaces({"BTC": [flat(0, 0.5), flat(1, 0.6)]}), MissingDataError),
    (lambda: historical_surfaces({"BTC": BTC}, {"SOL": [1.0]}), ShapeError),
    (lambda: historical_surfaces({"BTC": BTC}, horizon="yearly"), RangeError),
])
def test_bad_input(call, kind):
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, MarginError)


def test_the_february_crash_from_its_chains():
    pandas = pytest.importorskip("pandas")
    rows = pandas.read_parquet(shared("data", "options", "deribit_chain_crash_20260203_20260208_6h.parquet"))
    rows = rows[(rows.currency == "BTC") & rows.ts_ms.isin(sorted(rows.ts_ms.unique())[6:12])]
    chains = [Chain.from_rows(part.to_dict("records"), currency="BTC") for _, part in rows.groupby("ts_ms")]
    found = historical_surfaces({"BTC": chains}, moneyness=[-0.5, 0.0, 0.5], tenors_days=[14.0, 30.0, 60.0])
    assert len(found) == 5 and found.names[-1].startswith("2026-02-05T21:29")
    last = found.surface_move["BTC"].log_ratio[-1]
    # In the last six hours of the worst day spot fell by 6 % and 30-day volatility rose by a quarter.
    assert found.spot_move["BTC"][-1] == pytest.approx(-0.061, abs=0.002)
    assert last[1, 1] == pytest.approx(np.log(0.7879 / 0.6279), abs=0.02) and (last > 0.0).all()
    contracts = Contracts([Perpetual("BTC-PERP", underlying="BTC", settle="USDC")])
    assert found.resolve(contracts).move[contracts.underlyings.index("BTC"), 4] == found.spot_move["BTC"][4]
