"""Risk of an option chain in thousands of scenarios: full revaluation, and profiles with a bound of their error."""

import numpy as np
import pytest

from margincore.contracts import Contracts, Option
from margincore.market import MarketState
from margincore.revaluation import revalue
from margincore.risk_profile import risk_profiles
from margincore.scenarios import VolatilityMoves, VolatilityShock, from_moves
from margincore.surface import VolSurface
from margincore.units import NS_PER_DAY, utc

NOW, SPOT = utc("2026-03-01T08:00"), 60_000.0
DAYS = (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 90.0, 180.0, 300.0)
OPTIONS, SCENARIOS = 500, 2_000
KINDS = ("500 options x 2,000 scenarios: own volatility each", "500 options x 2,000 scenarios: sticky moneyness",
         "500 options x 2,000 scenarios: moves of the surface")


def case(kind):
    random = np.random.default_rng(1)
    contracts = Contracts([
        Option(f"O{at}", underlying="BTC", settle="BTC", inverse=True, right=("call", "put")[at % 2],
               strike=float(SPOT * np.exp(random.normal(0.0, 0.25))),
               expiry_ns=NOW + int(random.choice(DAYS) * NS_PER_DAY)) for at in range(OPTIONS)])
    smile = VolSurface.ssvi([0.36 * days / 365.0 for days in DAYS], [NOW + int(days * NS_PER_DAY) for days in DAYS],
                            rho=-0.3, eta=1.0, gamma=0.4, time_ns=NOW, forward=np.full(len(DAYS), SPOT), spot=SPOT)
    columns = MarketState(now_ns=NOW, spot={"BTC": SPOT}, surface={"BTC": smile}).resolve(contracts)
    names, moves = [f"s{at}" for at in range(SCENARIOS)], np.expm1(0.03 * random.standard_t(4, SCENARIOS))
    shocks = [VolatilityShock("scale", float(size)) for size in np.expm1(0.1 * random.standard_normal(SCENARIOS))]
    table = VolatilityMoves(moneyness=(-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5), tenors_days=(7.0, 30.0, 90.0, 180.0),
                            log_ratio=0.1 * random.standard_normal((SCENARIOS, 4, 7)))
    rule = "sticky_strike" if "own" in kind else "sticky_moneyness"
    plan = from_moves(names, moves, volatility=[] if "surface" in kind else shocks, smile=rule,
                      surface_move={"BTC": table} if "surface" in kind else {}).resolve(contracts)
    return contracts, columns, plan


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["full revaluation", "profiles: ask", "profiles: fit", "profiles: fit and ask"])
def test_risk_of_many_scenarios(benchmark, kind, how):
    benchmark.group = kind
    contracts, columns, plan = case(kind)
    _, full = revalue(contracts, columns, plan)
    profiles = risk_profiles(contracts, columns, plan)
    _, quick = profiles.revalue(plan)
    assert (np.abs(full - quick) <= profiles.bound[:, None] * SPOT * (1.0 + 1e-12)).all()
    assert (profiles.nodes > 0).sum() == OPTIONS and profiles.bound.max() <= 1e-5
    out = np.empty(len(contracts)), np.empty((len(contracts), SCENARIOS))
    calls = {"full revaluation": lambda: revalue(contracts, columns, plan, out=out),
             "profiles: ask": lambda: profiles.revalue(plan, out=out),
             "profiles: fit": lambda: risk_profiles(contracts, columns, plan),
             "profiles: fit and ask": lambda: risk_profiles(contracts, columns, plan).revalue(plan, out=out)}
    benchmark(calls[how])
    benchmark.extra_info["largest bound, coin"] = float(profiles.bound.max())
