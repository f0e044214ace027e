"""The walk-forward study: forecasts from the past alone, tests and scores that tell right models from wrong ones."""

import dataclasses
import math

import numpy as np
import pytest
from reference import walk_forward as twin
from scipy import integrate, stats

import margincore as mc
from margincore.errors import MarginError, NotConvergedError, RangeError, ShapeError
from margincore.validation import Refit, joint_score, quantile_score, walk_forward
from margincore.validation.law import law_tail, moment_law
from margincore.validation.shortfall import z2_null, z2_statistic
from margincore.vol.innovation import Normal, SkewT, StudentT

GARCH_T = Refit(mc.vol.Garch, {"innovation": "student_t"})


def simulated(times, assets=1, seed=1, degrees=5.0):
    """Returns of a GARCH-t whose parameters are known, independent over the assets."""
    model = mc.vol.Garch(omega=2e-5, alpha=0.08, beta=0.90, innovation=StudentT(degrees))
    paths = model.simulate(times, np.random.default_rng(seed), paths=assets).returns
    return np.ascontiguousarray(paths.T)


# ---- forecasts


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_historical_against_the_definition(sign):
    returns = simulated(260)[:, 0]
    study = walk_forward(returns, {}, methods=["historical"], window=120, positions=[[sign]])
    want = twin.historical(returns, 120, 0.99, sign)
    assert np.allclose(study.value_at_risk("none", "historical")[0], want[0], rtol=1e-14)
    shortfall = twin.historical(returns, 120, 0.975, sign)[1]
    assert np.allclose(study.expected_shortfall("none", "historical")[0], shortfall, rtol=1e-13)


@pytest.mark.parametrize("refit_every", [1, 7, 50, 1000])
def test_filtered_against_the_definition(refit_every):
    returns = simulated(260)[:, 0]
    study = walk_forward(returns, {"ewma": mc.vol.Ewma(decay=0.94)}, methods=["filtered"], window=120,
                         refit_every=refit_every, positions=[[-1.0]], value_at_risk_level=0.95)
    want = twin.ewma_filtered(returns, 120, 0.95, refit_every, 0.94, -1.0)[0]
    assert np.allclose(study.value_at_risk("ewma", "filtered")[0], want, rtol=1e-12)


def test_parametric_of_the_normal_law_in_closed_form():
    returns = simulated(200, 2)
    study = walk_forward(returns, {"ewma": mc.vol.Ewma(decay=0.9)}, methods=["parametric"], window=120, refit_every=200,
                         positions=[[2.0, 0.0], [1.0, -1.0]])
    sigma = np.stack([np.sqrt(mc.vol.Ewma(decay=0.9).filter(np.ascontiguousarray(r))[:-1]) for r in returns.T])
    correlation = np.corrcoef(returns[:120].T / sigma[:, :120])[0, 1]
    one, other = sigma[:, 120:]
    quantile = stats.norm.isf(0.01)
    got = study.value_at_risk("ewma", "parametric")
    assert np.allclose(got[0], 2.0 * quantile * one, rtol=1e-13)
    assert np.allclose(got[1], quantile * np.sqrt(one**2 + other**2 - 2.0 * correlation * one * other), rtol=1e-12)
    beyond = stats.norm.pdf(stats.norm.isf(0.025)) / 0.025
    assert np.allclose(study.expected_shortfall("ewma", "parametric")[0], 2.0 * beyond * one, rtol=1e-12)


def test_parametric_sides_of_a_skewed_law():
    law = SkewT(5.0, -0.4)
    model = mc.vol.Gjr(omega=2e-5, alpha=0.05, gamma=0.05, beta=0.88, mean=0.001, innovation=law)
    returns = simulated(200)[:, 0]
    study = walk_forward(returns, {"gjr": model}, methods=["parametric"], window=150, positions=[[2.0], [-2.0]],
                         refit_every=100)
    sigma = np.sqrt(model.filter(returns)[150:-1])
    for side, short in enumerate((False, True)):
        (quantile, _), (_, beyond) = law_tail(law, 0.99, short=short), law_tail(law, 0.975, short=short)
        drift = 0.002 if short else -0.002
        assert np.allclose(study.value_at_risk("gjr", "parametric")[side], 2.0 * quantile * sigma + drift, rtol=1e-12)
        assert np.allclose(study.expected_shortfall("gjr", "parametric")[side], 2.0 * beyond * sigma + drift,
                           rtol=1e-12)
    item = study.favoured()
    assert item.mean_value_at_risk == pytest.approx(study.value_at_risk("gjr", "parametric").mean() / 2.0)
    assert item.mean_expected_shortfall == pytest.approx(study.expected_shortfall("gjr", "parametric").mean() / 2.0)


def test_monte_carlo_agrees_with_the_law_it_draws_from():
    returns = simulated(160, 3)
    study = walk_forward(returns, {"t": GARCH_T}, methods=["monte_carlo", "parametric"], window=150, paths=200_000)
    drawn, stated = study.value_at_risk("t", "monte_carlo"), study.value_at_risk("t", "parametric")
    # One asset long: the P&L is a function of the return, so that its quantile is known exactly.
    assert np.allclose(drawn[:3], -np.expm1(-stated[:3]), rtol=0.03)
    assert np.allclose(drawn[6], stated[6], rtol=0.08)  # of three assets, linear against full


def test_monte_carlo_keeps_correlation_and_marginals():
    generator = np.random.default_rng(3)
    common = generator.standard_normal(600)
    returns = 0.02 * np.column_stack([common, 0.8 * common + 0.6 * generator.standard_normal(600)])
    spread = walk_forward(returns, {"w": mc.vol.Ewma(decay=0.99)}, methods=["monte_carlo", "filtered"], window=500,
                          positions=[[1.0, -1.0]], paths=20_000)
    alone = walk_forward(returns, {"w": mc.vol.Ewma(decay=0.99)}, methods=["monte_carlo"], window=500,
                         positions=[[1.0, 0.0]], paths=20_000)
    ratio = (spread.value_at_risk("w", "monte_carlo") / alone.value_at_risk("w", "monte_carlo")).mean()
    assert ratio == pytest.approx(math.sqrt(2.0 - 2.0 * 0.8), rel=0.08)
    assert spread.value_at_risk("w", "filtered").mean() == pytest.approx(
        spread.value_at_risk("w", "monte_carlo").mean(), rel=0.2)


T = {"innovation": "student_t"}
EVERY = {"ewma": mc.vol.Ewma(), "fitted ewma": Refit(mc.vol.Ewma), "garch": Refit(mc.vol.Garch), "garch-t": GARCH_T,
         "gjr": Refit(mc.vol.Gjr, {"innovation": "skew_t"}), "egarch": Refit(mc.vol.Egarch, T),
         "component": Refit(mc.vol.Component, T), "har": Refit(mc.vol.Har, {"windows": (1, 5, 22)})}


@pytest.mark.parametrize("change", ["other days", "no days"])
def test_nothing_is_known_before_its_day(change):
    returns = simulated(320, 2)
    random = np.random.default_rng(4)
    realised = returns**2 * random.chisquare(24.0, returns.shape) / 24.0 + 1e-6
    models = {**EVERY, "stated": 0.02 * np.ones_like(returns)}
    before = walk_forward(returns, models, window=200, refit_every=15, paths=200, realised_variance=realised)
    later, variance = returns.copy(), realised.copy()
    later[290:] *= -3.0
    variance[290:] *= 9.0
    last = 320 if change == "other days" else 291
    models["stated"] = models["stated"][:last]
    after = walk_forward(later[:last], models, window=200, refit_every=15, paths=200,
                         realised_variance=variance[:last])
    assert before.forecasts.keys() == after.forecasts.keys() and len(before.forecasts) == 1 + 3 * 9
    for combination, forecast in before.forecasts.items():
        # The forecast for day 290 itself uses days up to 289.
        assert np.array_equal(forecast[:, :, :91], after.forecasts[combination][:, :, :91]), combination
        assert last == 291 or combination == ("stated", "parametric") or not np.array_equal(
            forecast[:, :, 91:], after.forecasts[combination][:, :, 91:]), combination


def test_same_bits_for_any_number_of_threads():
    returns = simulated(240, 2)
    models = {"t": GARCH_T, "ewma": mc.vol.Ewma(), "gjr": Refit(mc.vol.Gjr)}
    one, two = (walk_forward(returns, models, window=200, paths=500, threads=threads) for threads in (1, 2))
    assert one.forecasts.keys() == two.forecasts.keys()
    assert all(np.array_equal(one.forecasts[key], two.forecasts[key]) for key in one.forecasts)
    assert str(one) == str(two)


def test_a_model_of_realised_variance():
    returns = simulated(320)
    realised = np.abs(returns) ** 2 + 1e-4
    study = walk_forward(returns, {"har": Refit(mc.vol.Har, {"windows": (1, 5, 22)})}, realised_variance=realised,
                         window=250, paths=1000)
    assert set(study.forecasts) == {("none", "historical"), ("har", "filtered"), ("har", "monte_carlo"),
                                    ("har", "parametric")}
    with pytest.raises(ShapeError, match="har: realised_variance must be given"):
        walk_forward(returns, {"har": Refit(mc.vol.Har)}, window=250)


def test_stated_deviations_are_put_to_scale():
    returns = simulated(400)
    small, large = (walk_forward(returns, {"s": scale * np.ones_like(returns)}, window=300, methods=["parametric"])
                    for scale in (1e-3, 1.0))
    assert np.allclose(small.forecasts["s", "parametric"], large.forecasts["s", "parametric"], rtol=1e-12)


def test_a_fit_that_fails_keeps_the_parameters_before():
    returns = simulated(330)
    returns[205:] = 0.0  # constant once the window has moved on
    returns[205::2] = 1e-3

    class Moody(mc.vol.Ewma):
        __slots__ = ()
        calls = 0

        @classmethod
        def fit(cls, series, **settings):
            cls.calls += 1
            if cls.calls == 2:
                raise NotConvergedError("no optimum")
            return type("Fit", (), {"model": mc.vol.Ewma(decay=0.9)})()

    study = walk_forward(returns, {"moody": Refit(Moody)}, window=200, refit_every=50, methods=["filtered"])
    assert study.failed_fits == {"moody": 1}
    plain = walk_forward(returns, {"e": mc.vol.Ewma(decay=0.9)}, window=200, refit_every=50, methods=["filtered"])
    assert np.array_equal(study.forecasts["moody", "filtered"], plain.forecasts["e", "filtered"])
    Moody.calls = 1  # the first fails: RiskMetrics stands in until one succeeds
    study = walk_forward(returns, {"moody": Refit(Moody)}, window=200, refit_every=50, methods=["filtered"])
    stand_in = walk_forward(returns, {"e": mc.vol.Ewma(decay=0.94)}, window=200, refit_every=50, methods=["filtered"])
    assert study.failed_fits == {"moody": 1}
    forecast = study.forecasts["moody", "filtered"]
    assert np.array_equal(forecast[:, :, :50], stand_in.forecasts["e", "filtered"][:, :, :50])
    assert np.array_equal(forecast[:, :, 50:], plain.forecasts["e", "filtered"][:, :, 50:])


# ---- verdicts


@pytest.fixture(scope="module")
def known():
    """A study of returns whose law is known: one right model, one with too thin a tail, one that never moves."""
    returns = simulated(2000, 4, seed=7, degrees=4.0)
    models = {"right": GARCH_T, "thin": mc.vol.Ewma(decay=0.94), "still": np.full(returns.shape, 0.03)}
    return walk_forward(returns, models, window=500, refit_every=100, paths=4000, threads=2,
                        time_ns=np.arange(2000) * 86_400_000_000_000)


def test_the_evidence_tells_right_from_wrong(known):
    found = {(item.model, item.method): item for item in known.combinations()}
    right = found["right", "monte_carlo"]
    assert right.coverage == pytest.approx(0.99, abs=0.003)
    assert right.frequency <= 0.2 and right.shortfall_z2 <= 0.2
    assert found["thin", "parametric"].frequency >= 0.8
    assert found["thin", "parametric"].shortfall_z2 >= 0.8
    assert found["still", "parametric"].dynamic_quantile >= 0.8 > right.dynamic_quantile
    assert right.joint_score < found["thin", "parametric"].joint_score < 0.0
    assert right.joint_score < found["still", "parametric"].joint_score
    assert known.favoured().model in ("right", "thin") and known.favoured().method != "parametric"
    assert known.favoured() == known.combinations()[0]


def test_of_accepted_combinations_the_joint_score_decides(known):
    deep, wide = (known.forecasts["right", "monte_carlo"].copy() for _ in range(2))
    deep[1:] *= 1.15  # the shortfall and its edge too large, the value at risk at 99 % right
    wide[0] *= 1.10  # the other way round
    first, second = dataclasses.replace(known, forecasts={("a", "deep"): deep, ("a", "wide"): wide}).combinations()
    assert max(first.conditional, first.shortfall_z2, second.conditional, second.shortfall_z2) <= 0.10
    assert (first.method, second.method) == ("wide", "deep")
    assert first.joint_score < second.joint_score and first.quantile_score > second.quantile_score


def test_the_combination_repeats_what_the_parts_say(known):
    item = next(c for c in known.combinations() if (c.model, c.method) == ("right", "filtered"))
    stated, deep = known.value_at_risk("right", "filtered"), known.expected_shortfall("right", "filtered")
    assert item.coverage == 1.0 - np.mean(-known.pnl > stated)
    assert item.mean_value_at_risk == pytest.approx(stated.mean())  # gross notional is 1 in every portfolio
    tests = known.backtest("right", "filtered")
    assert item.conditional == np.mean(tests.conditional < 0.05)
    assert tests.names == known.names and len(known.names) == 10
    edge = known.forecasts["right", "filtered"][1]
    assert item.joint_score == pytest.approx(np.mean([joint_score(p, v, e, 0.975).mean()
                                                      for p, v, e in zip(known.pnl, edge, deep, strict=True)]))
    assert item.peak_to_trough == pytest.approx(np.median(stated.max(axis=1) / stated.min(axis=1)))


def test_table_frame_and_plot(known):
    assert "monte_carlo" in str(known) and len(str(known).splitlines()) == 1 + len(known.forecasts)
    frame = known.to_pandas()
    assert list(frame["model"]) == [item.model for item in known.combinations()]
    figure = known.plot("right", "filtered", "asset 1 short")
    lines = figure.axes[0].get_lines()
    hits = int((-known.pnl[5] > known.value_at_risk("right", "filtered")[5]).sum())
    assert len(lines[3].get_xdata()) == hits > 0
    with pytest.raises(RangeError, match="portfolio must be one of"):
        known.plot("right", "filtered", "nobody")
    with pytest.raises(RangeError, match="portfolio must be from 0 to 9"):
        known.plot("right", "filtered", 10)
    with pytest.raises(RangeError, match="model and method must be one of"):
        known.value_at_risk("right", "historical")


def test_a_model_that_explodes_is_named_so():
    returns = simulated(240)
    returns[210] = 40.0
    study = walk_forward(returns, {"e": mc.vol.Ewma()}, window=200, methods=["filtered"])
    assert ">1000%" in str(study)
    study.forecasts["e", "filtered"][:, 0, 3] = np.nan  # as an infinite variance would leave it: never healthy
    item = study.favoured()
    assert item.conditional == item.frequency == item.dynamic_quantile == 0.5
    assert item.shortfall_z2 == 1.0  # the short side lost far more than stated on the day of the jump
    assert item.joint_score == np.inf and math.isnan(item.mean_value_at_risk)


# ---- laws and scores


@pytest.mark.parametrize("law", [Normal(), StudentT(3.2), StudentT(9.0), SkewT(4.0, -0.3), SkewT(7.0, 0.25)])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("level", [0.9, 0.975, 0.999])
def test_law_tail_against_its_density(law, short, level):
    def density(z):
        z = -z if short else z
        if isinstance(law, Normal):
            return stats.norm.pdf(z)
        nu = law.degrees_of_freedom
        lam = law.skew if isinstance(law, SkewT) else 0.0
        c = math.gamma(0.5 * (nu + 1.0)) / (math.sqrt(math.pi * (nu - 2.0)) * math.gamma(0.5 * nu))
        a = 4.0 * lam * c * (nu - 2.0) / (nu - 1.0)
        b = math.sqrt(1.0 + 3.0 * lam * lam - a * a)
        side = 1.0 - lam if z < -a / b else 1.0 + lam
        return b * c * (1.0 + ((b * z + a) / side) ** 2 / (nu - 2.0)) ** (-0.5 * (nu + 1.0))

    quantile, shortfall = law_tail(law, level, short=short)
    mass = integrate.quad(density, -np.inf, -quantile, epsabs=1e-14, limit=200)[0]
    partial = integrate.quad(lambda z: -z * density(z), -np.inf, -quantile, epsabs=1e-13, limit=200)[0]
    assert mass == pytest.approx(1.0 - level, rel=1e-8)
    assert partial / (1.0 - level) == pytest.approx(shortfall, rel=1e-7)


def test_law_tail_needs_a_tail_on_one_side():
    with pytest.raises(RangeError, match="level must leave a tail"):
        law_tail(SkewT(5.0, 0.9), 0.9)


def test_moment_law():
    residual = 3.0 * np.random.default_rng(0).standard_t(6.0, 400_000)
    scale, law = moment_law(residual)
    assert scale == pytest.approx(3.0 * math.sqrt(1.5), rel=0.01)
    assert isinstance(law, StudentT) and law.degrees_of_freedom == pytest.approx(6.0, rel=0.2)
    assert moment_law(np.array([-1.0, 1.0]))[1] == Normal()


def test_scores_are_least_at_the_truth():
    pnl = np.random.default_rng(5).standard_normal(200_000)
    one = np.ones_like(pnl)
    true_edge, true_deep = stats.norm.isf(0.025), stats.norm.pdf(stats.norm.isf(0.025)) / 0.025
    best = quantile_score(pnl, true_edge * one, 0.975).mean()
    both = joint_score(pnl, true_edge * one, true_deep * one, 0.975).mean()
    for factor in (0.9, 1.1):
        assert quantile_score(pnl, factor * true_edge * one, 0.975).mean() > best
        assert joint_score(pnl, factor * true_edge * one, true_deep * one, 0.975).mean() > both
        assert joint_score(pnl, true_edge * one, factor * true_deep * one, 0.975).mean() > both
    assert (quantile_score(pnl, true_edge * one, 0.975) >= 0.0).all()
    assert quantile_score([-3.0], [2.0], 0.99)[0] == pytest.approx(0.99)
    assert joint_score([-3.0], [2.0], [2.5], 0.975)[0] == pytest.approx(42.0 / 2.5 + math.log(2.5) - 1.0)
    with pytest.raises(RangeError, match="expected_shortfall must be positive"):
        joint_score([-3.0], [2.0], [0.0], 0.975)


def test_one_null_sample_serves_every_forecast():
    null = z2_null(250, 0.975, generator=np.random.default_rng(1), simulations=20_000, degrees=100.0)
    # Acerbi and Szekely 2014, table of critical values: -0.70 at 5 % for 250 days at 2.5 % under thin tails.
    assert np.quantile(null, 0.05) == pytest.approx(-0.70, abs=0.04)
    assert null.mean() == pytest.approx(0.0, abs=0.02)
    assert z2_statistic(np.array([-3.0, 1.0]), np.array([2.0, 2.0]), np.array([2.5, 2.5]), 0.5) == pytest.approx(-0.2)


# ---- wrong input


@pytest.mark.parametrize(("change", "says"), [
    ({"returns": np.zeros((3, 2, 1))}, "returns must have axes"),
    ({"returns": np.full(300, np.nan)}, "returns must be finite"),
    ({"returns": np.r_[np.zeros(250), 900.0, np.zeros(49)]}, "at most 100 in size, was 900.0 of asset 0 on day 250"),
    ({"returns": np.column_stack([simulated(300), np.zeros(300)]), "models": {"g": Refit(mc.vol.Garch)}},
     r"g: days 0 to 199 of asset 1: returns must vary, were 0.0 throughout"),
    ({"returns": np.zeros(150)}, "returns must have at least 202 times"),
    ({"models": {}}, "models must hold at least one model"),
    ({"models": {"x": "garch"}}, "x: a model must be a VolatilityModel"),
    ({"models": {"x": np.zeros((300, 1))}}, "x: deviations must be positive"),
    ({"models": {"x": np.ones((299, 1))}}, "x: deviations must be positive, of shape"),
    ({"methods": ["fhs"]}, "methods must be one of"),
    ({"methods": ["filtered", "filtered"]}, "methods must name each method once"),
    ({"methods": []}, "methods must name each method once"),
    ({"window": 50}, "window must be at least 100"),
    ({"refit_every": 0}, "refit_every must be at least 1"),
    ({"paths": 101}, "paths must be even"),
    ({"value_at_risk_level": 99}, "0.99"),
    ({"positions": [[1.0, 2.0]]}, "positions must have axes"),
    ({"positions": [[0.0]]}, "positions must hold something"),
    ({"names": ["a", "b"]}, "names must have one name per asset"),
    ({"positions": [[1.0]], "names": ["a", "b"]}, "names must have one name per portfolio"),
    ({"realised_variance": np.ones(10)}, "realised_variance must have shape"),
    ({"time_ns": [1, 2]}, "time_ns must have length"),
    ({"threads": 0}, "threads must be at least 1"),
])
def test_wrong_input(change, says):
    given = {"returns": simulated(300), "models": {"e": mc.vol.Ewma()}, "window": 200} | change
    with pytest.raises(MarginError, match=says):
        walk_forward(given.pop("returns"), given.pop("models"), **given)


def test_refit_needs_a_model_that_fits():
    with pytest.raises(RangeError, match="kind must be a volatility model"):
        Refit(mc.vol.Ewma(decay=0.9))
