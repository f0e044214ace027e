"""Volatility: filters, maximum likelihood and ticks beside what a good user would take, the same answer first."""

import importlib.util

import numpy as np
import pytest

from margincore import vol
from margincore.kernels.variance import PanelState

MODELS = {
    "EWMA": vol.Ewma(decay=0.94, start_variance=1e-4),
    "GARCH": vol.Garch(omega=2e-6, alpha=0.08, beta=0.90, start_variance=1e-4),
    "GJR": vol.Gjr(omega=2e-6, alpha=0.03, gamma=0.10, beta=0.90, start_variance=1e-4),
}
RETURNS = np.random.default_rng(1).standard_normal(1_000_000) * 0.01
PANEL = np.random.default_rng(2).standard_normal((5_000, 64)) * 0.01


def first_of(model):
    return float(model.filter(np.zeros(1))[0])


def numba_filter():
    numba = pytest.importorskip("numba", reason="numba is not installed")

    @numba.njit
    def run(r, omega, up, down, beta, h, out):
        out[0] = h
        for t in range(r.size):
            e = r[t] * r[t]
            h = omega + (down if r[t] < 0.0 else up) * e + beta * h
            out[t + 1] = h

    @numba.njit
    def run_symmetric(r, omega, alpha, beta, h, out):
        out[0] = h
        for t in range(r.size):
            h = omega + alpha * r[t] * r[t] + beta * h
            out[t + 1] = h

    return run, run_symmetric


def peer_numba(model):
    recursion, out = model.recursion(), np.empty(RETURNS.size + 1)
    run, run_symmetric = numba_filter()
    up, down, beta, h = recursion.first[0], recursion.second[0], recursion.beta[0], first_of(model)
    if up == down:
        return lambda: run_symmetric(RETURNS, recursion.omega, up, beta, h, out) or out
    return lambda: run(RETURNS, recursion.omega, up, down, beta, h, out) or out


def peer_arch(model):
    pytest.importorskip("arch", reason="arch is not installed")
    from arch.univariate import recursions
    recursion, out = model.recursion(), np.empty(RETURNS.size + 1)
    padded = np.append(RETURNS, 0.0)
    squares, signs, bounds = padded ** 2, np.sign(padded), np.tile([0.0, 1e9], (padded.size, 1))
    up, down, beta = recursion.first[0], recursion.second[0], recursion.beta[0]
    odd = int(up != down)
    parameters = np.array([recursion.omega, up, *([down - up] if odd else []), beta])

    def run():
        recursions.garch_recursion(parameters, squares, signs, out, 1, odd, 1, padded.size, 1e-4, bounds)
        return out

    return run


def peer_scipy(model):
    signal = pytest.importorskip("scipy.signal", reason="SciPy is not installed")
    recursion = model.recursion()
    if recursion.first != recursion.second:
        pytest.skip("a linear filter has no asymmetry")
    alpha, beta, h = recursion.first[0], recursion.beta[0], first_of(model)

    def run():
        rest, _ = signal.lfilter([1.0], [1.0, -beta], recursion.omega + alpha * RETURNS * RETURNS, zi=[beta * h])
        return np.append(h, rest)

    return run


def peer_pandas(model):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    if not isinstance(model, vol.Ewma):
        pytest.skip("pandas has the EWMA only")
    return lambda: pandas.Series(np.append(first_of(model), RETURNS ** 2)).ewm(
        alpha=1.0 - model.decay, adjust=False).mean().to_numpy()


def peer_polars(model):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    if not isinstance(model, vol.Ewma):
        pytest.skip("polars has the EWMA only")
    return lambda: polars.Series(np.append(first_of(model), RETURNS ** 2)).ewm_mean(
        alpha=1.0 - model.decay, adjust=False).to_numpy()


PEERS = {"margincore": lambda model: lambda: model.filter(RETURNS), "numba": peer_numba, "arch": peer_arch,
         "scipy": peer_scipy, "pandas": peer_pandas, "polars": peer_polars}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("name", MODELS)
def test_filter(benchmark, name, peer):
    benchmark.group = f"filter {name}, one series of 1,000,000"
    run = PEERS[peer](MODELS[name])
    np.testing.assert_allclose(run(), MODELS[name].filter(RETURNS), rtol=1e-10)
    benchmark(run)


def panel_margincore():
    state = PanelState([MODELS["GJR"].start()] * PANEL.shape[1])
    out = np.empty_like(PANEL)

    def run():
        state.extend(PANEL, out)
        return out

    return run


def panel_numba():
    run, _ = numba_filter()
    recursion, columns = MODELS["GJR"].recursion(), np.ascontiguousarray(PANEL.T)
    out = np.empty((columns.shape[0], columns.shape[1] + 1))

    def every():
        for s in range(columns.shape[0]):
            run(columns[s], recursion.omega, recursion.first[0], recursion.second[0], recursion.beta[0],
                first_of(MODELS["GJR"]), out[s])
        return out[:, 1:].T

    return every


def panel_arch():
    pytest.importorskip("arch", reason="arch is not installed")
    from arch.univariate import recursions
    recursion = MODELS["GJR"].recursion()
    padded = np.ascontiguousarray(np.vstack([PANEL, np.zeros(64)]).T)
    squares, signs, bounds = padded ** 2, np.sign(padded), np.tile([0.0, 1e9], (padded.shape[1], 1))
    up, down = recursion.first[0], recursion.second[0]
    parameters, out = np.array([recursion.omega, up, down - up, recursion.beta[0]]), np.empty_like(padded)

    def run():
        for s in range(64):
            recursions.garch_recursion(parameters, squares[s], signs[s], out[s], 1, 1, 1, padded.shape[1], 1e-4, bounds)
        return out[:, 1:].T

    return run


@pytest.mark.parametrize("peer", [panel_margincore, panel_numba, panel_arch])
def test_panel_filter(benchmark, peer):
    benchmark.group = "filter GJR, panel of 64 series x 5,000"
    np.testing.assert_allclose(peer()()[:200], panel_margincore()()[:200], rtol=1e-10)
    benchmark(peer())


def fit_margincore(returns, law):
    return lambda: (lambda fit: (fit.values, fit.log_likelihood))(vol.Garch.fit(returns, innovation=law))


def fit_arch(returns, law):
    arch = pytest.importorskip("arch", reason="arch is not installed")
    model = arch.arch_model(returns, mean="Constant", dist={"normal": "normal", "student_t": "t"}[law])

    def run():
        result = model.fit(disp="off", show_warning=False)
        return result.params.values, result.loglikelihood

    return run


def fit_scipy(returns, law):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    numba = pytest.importorskip("numba", reason="numba is not installed")
    if law != "normal":
        pytest.skip("the baseline has the normal law only")
    first = vol.base.backcast(returns - returns.mean())

    @numba.njit
    def minus_log_likelihood(x, r, h):
        total = 0.0
        square = h
        for t in range(r.size):
            h = x[1] + x[2] * square + x[3] * h
            e = r[t] - x[0]
            square = e * e
            total += np.log(2.0 * np.pi * h) + square / h
        return 0.5 * total

    variance = returns.var()
    begin = np.array([returns.mean(), 0.05 * variance, 0.10, 0.85])
    bounds = [(None, None), (1e-9 * variance, None), (0.0, 1.0), (0.0, 1.0)]

    def run():
        result = optimize.minimize(minus_log_likelihood, begin, (returns, first), "L-BFGS-B", bounds=bounds)
        return result.x, -result.fun

    return run


def simulated(law, series=1):
    innovation = {"normal": vol.Normal(), "student_t": vol.StudentT(6.0)}[law]
    model = vol.Garch(omega=0.02, alpha=0.08, beta=0.90, mean=0.03, innovation=innovation)
    return model.simulate(5_000, np.random.default_rng(5), paths=series).returns


@pytest.mark.parametrize("peer", [fit_margincore, fit_scipy, fit_arch])
@pytest.mark.parametrize("law", ["normal", "student_t"])
def test_maximum_likelihood(benchmark, law, peer):
    benchmark.group = f"maximum likelihood, GARCH(1,1) {law}, 5,000 returns"
    returns = simulated(law)[0]
    run = peer(returns, law)
    values, likelihood = run()
    ours, best = fit_margincore(returns, law)()
    np.testing.assert_allclose(values, ours, rtol=2e-2)
    assert best >= likelihood - 0.02  # arch weighs its first variance a little differently
    benchmark(run)


@pytest.mark.parametrize("peer", ["margincore 2t", "arch loop"])
def test_panel_fit(benchmark, peer):
    benchmark.group = "fit GARCH(1,1)-t, 200 series x 5,000"
    series = 200 if "margincore" in peer else 8
    benchmark.extra_info["items"] = series
    table = np.ascontiguousarray(simulated("student_t", 200).T)
    if "margincore" in peer:
        assert (vol.Garch.fit_panel(table, innovation="student_t", threads=2).status == 0).all()
        benchmark.pedantic(vol.Garch.fit_panel, (table,), {"innovation": "student_t", "threads": 2}, rounds=3)
        return
    runs = [fit_arch(table[:, s].copy(), "student_t") for s in range(series)]
    ours = vol.Garch.fit_panel(table[:, :series], innovation="student_t").values
    np.testing.assert_allclose([run()[0] for run in runs], ours, rtol=3e-2, atol=1e-3)
    benchmark.pedantic(lambda: [run() for run in runs], rounds=3)


class PurePython:
    def __init__(self, h):
        self.h = h

    def update(self, r):
        self.h = 0.94 * self.h + 0.06 * r * r
        return self.h


EMPTY = """
cimport cython

@cython.final
cdef class Empty:
    def update(self, double value):
        return value
"""


@pytest.fixture(scope="session")
def empty_method(tmp_path_factory):
    """A compiled method from one float to another that does nothing: the price of the call."""
    build = pytest.importorskip("Cython.Build", reason="Cython is not installed")
    setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed")
    folder = tmp_path_factory.mktemp("empty")
    (folder / "empty_call.pyx").write_text(EMPTY)
    extension = setuptools.Extension("empty_call", [str(folder / "empty_call.pyx")], extra_compile_args=["-O3"])
    modules = build.cythonize([extension], build_dir=str(folder), language_level=3, quiet=True,
                              compiler_directives={"binding": True})
    script = {"build_lib": str(folder), "build_temp": str(folder), "force": True}
    setuptools.setup(script_args=["--quiet", "build_ext"], ext_modules=modules, options={"build_ext": script})
    spec = importlib.util.spec_from_file_location("empty_call", next(folder.glob("empty_call*.so")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Empty().update


@pytest.mark.parametrize("peer", ["margincore", "pure Python", "empty method call"])
def test_streaming_update(benchmark, peer, empty_method):
    benchmark.group = "streaming update, one EWMA tick"
    state, pure = MODELS["EWMA"].start(), PurePython(1e-4)
    assert state.update(0.01) == pytest.approx(pure.update(0.01), rel=1e-14)
    call = {"margincore": state.update, "pure Python": pure.update, "empty method call": empty_method}[peer]
    benchmark.pedantic(call, (0.01,), rounds=500, iterations=10_000)


@pytest.mark.parametrize("peer", ["margincore", "numpy"])
def test_streaming_panel(benchmark, peer):
    benchmark.group = "streaming update, 200 underlyings in one call"
    model, ticks = MODELS["GARCH"], np.random.default_rng(3).standard_normal(200) * 0.01
    panel, out, h = PanelState([model.start()] * 200), np.empty(200), np.full(200, first_of(model))

    def numpy_update():
        return 2e-6 + 0.08 * ticks * ticks + 0.90 * h

    panel.update(ticks, out)
    np.testing.assert_allclose(out, numpy_update(), rtol=1e-13)
    if peer == "margincore":
        benchmark.pedantic(panel.update, (ticks, out), rounds=200, iterations=5_000)
    else:
        benchmark.pedantic(numpy_update, rounds=200, iterations=500)


@pytest.mark.parametrize("peer", ["margincore", "numpy"])
def test_covariance(benchmark, peer):
    benchmark.group = "EWMA covariance, 50 assets x 1,000 bars"
    panel = PANEL[:1_000, :50].copy()
    model = vol.EwmaCovariance(decay=0.94, target="none")

    def weighted():  # all at once: no state, no shrinkage
        weights = 0.94 ** np.arange(len(panel))[::-1]
        return (panel * (weights / weights.sum())[:, None]).T @ panel

    run = {"margincore": lambda: model.fit(panel).covariance, "numpy": weighted}[peer]
    np.testing.assert_allclose(run(), weighted(), rtol=1e-9, atol=1e-12)
    benchmark(run)


@pytest.mark.parametrize("peer", ["margincore", "scikit-learn"])
def test_ledoit_wolf(benchmark, peer):
    benchmark.group = "Ledoit-Wolf shrinkage, 50 assets x 5,000 bars"
    panel = PANEL[:, :50].copy()
    if peer == "margincore":
        benchmark(vol.ledoit_wolf, panel)
        return
    peers = pytest.importorskip("sklearn.covariance", reason="scikit-learn is not installed")
    np.testing.assert_allclose(peers.ledoit_wolf(panel)[0], vol.ledoit_wolf(panel).covariance, rtol=1e-9, atol=1e-15)
    benchmark(peers.ledoit_wolf, panel)


@pytest.mark.parametrize("assets", [20, 100])
def test_nearest_correlation(benchmark, assets):
    benchmark.group = f"nearest correlation matrix, {assets} assets"
    noise = np.random.default_rng(5).uniform(-0.3, 0.3, (assets, assets))
    broken = 0.5 + 0.5 * (noise + noise.T)
    np.fill_diagonal(broken, 1.0)
    assert np.linalg.eigvalsh(broken)[0] < 0.0
    assert np.linalg.eigvalsh(vol.nearest_correlation(broken))[0] > -1e-12
    benchmark(vol.nearest_correlation, broken)


MARGIN = vol.MarginVolatility(
    model=MODELS["GARCH"], article28=(vol.Buffer(), vol.StressedWeight(), vol.LookbackFloor()), floor_annual=0.1,
    half_life_fall_days=10.0, rise_max_daily=1.0, fall_max_daily=0.1)


def test_margin_volatility_step(benchmark):
    benchmark.group = "MarginVolatility, one bar of 64 underlyings, all stages"
    state = MARGIN.start(PANEL[:500])
    ticks = PANEL[500].copy()
    assert state.step(ticks).shape == (64,)
    benchmark(state.step, ticks)


def test_margin_volatility_filter(benchmark):
    benchmark.group = "MarginVolatility, 2,000 bars of 64 underlyings, all stages"
    benchmark.extra_info["items"] = 2_000 * 64
    state = MARGIN.start(PANEL[:500])
    path = MARGIN.filter(PANEL[:2_000], warm_up=500)
    assert path[1].tolist() == state.step(PANEL[500]).tolist()
    benchmark.pedantic(MARGIN.filter, (PANEL[:2_000],), {"warm_up": 500}, rounds=3)
