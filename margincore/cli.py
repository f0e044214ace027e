"""Command line: ``margincore demo | margin | whatif | liq | iv | surface | var | info``.

Exit codes: 0 fine, 1 an input was wrong, 2 an account is in breach (LIQUIDATION, or UNKNOWN, which is never healthy).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import margincore as mc
from margincore.calibration import calibrate
from margincore.demo import liquidation_text, load_market, run_demo, standard_model
from margincore.errors import MarginError, RangeError
from margincore.margin import MarginModel
from margincore.margin.clearing import fitted_models
from margincore.quotes import Quotes
from margincore.report import MarginReport
from margincore.surface_plot import write_figure
from margincore.surface_report import (
    implied_volatilities,
    load_quotes,
    surface_report,
    surface_text,
    volatilities_text,
)
from margincore.units import Status, filename, stamps
from margincore.validation.walk_forward import METHODS
from margincore.var_report import (
    MODELS,
    backtest_report,
    backtest_text,
    load_prices,
    load_series,
    next_risk,
    next_text,
)

FINE, WRONG, BREACH = 0, 1, 2
MARGINS = ("scenario", "var", "es", "listed", "otc")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="margincore", description="Dynamic margin for crypto derivatives.")
    parser.add_argument("--version", action="version", version=f"margincore {mc.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)

    def verb(name: str, about: str, *names: tuple[str, str]) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=about)
        for argument, text in names:
            made.add_argument(argument, help=text)
        made.add_argument("--json", action="store_true", help="print JSON")
        return made

    portfolio = ("portfolio", 'JSON file: {"positions": {symbol: contracts}, "balances": {asset: units}, '
                              '"entry": {symbol: price}}; - for standard input')
    market = ("market", "option chain: parquet, csv, csv.gz, or JSON rows of book summaries or tickers")
    made = verb("demo", "margin one account and a million on a market built here, or on a chain file")
    made.add_argument("--market", help=market[1])
    made.add_argument("--accounts", type=int, default=1_000_000, help="size of the large book")
    _chain_options(made)
    for name, about in (("margin", "equity, requirement and status of a portfolio"),
                        ("liq", "liquidation prices of a portfolio, upward and downward")):
        made = verb(name, about, portfolio, market)
        _model_options(made)
        _chain_options(made)
    made = verb("whatif", "a portfolio before and after orders", portfolio, market)
    made.add_argument("order", nargs="+", help="SYMBOL:CONTRACTS or SYMBOL:CONTRACTS@PRICE; -5 sells five")
    _model_options(made)
    _chain_options(made)
    made = verb("iv", "implied volatilities at bid and ask of a chain", ("chain", market[1]))
    _chain_options(made)
    made = verb("surface", "an arbitrage-free surface of a chain, and how well it fits", ("chain", market[1]))
    made.add_argument("--plot", help="write a picture of every expiry to this file (needs the plot extra)")
    made.add_argument("--save", help="write the surface as JSON, for VolSurface.load")
    _chain_options(made)
    made = verb("var", "value at risk and expected shortfall of return series, next period or walked forward",
                ("returns", "log returns per period: parquet, csv, csv.gz or JSON rows; - for CSV on standard input"))
    made.add_argument("--backtest", action="store_true", help="walk the history forward: bands, exceptions, verdicts")
    made.add_argument("--plot", help="with --backtest: write a picture of the first series to this file")
    made.add_argument("--prices", action="store_true", help="the columns hold prices, not returns")
    made.add_argument("--simple", action="store_true", help="they hold simple returns, price / price before - 1")
    made.add_argument("--percent", action="store_true", help="the returns are in per cent")
    made.add_argument("--column", action="append", default=[],
                      help="which column; may be repeated; all that begin with a number, or a bar's close, by default")
    made.add_argument("--model", choices=tuple(MODELS), default="component-t")
    made.add_argument("--method", choices=METHODS, default="filtered", help="with --backtest")
    made.add_argument("--level", type=float, default=0.99, help="of the value at risk")
    made.add_argument("--shortfall-level", type=float, default=0.975, help="of the expected shortfall")
    made.add_argument("--window", type=int, default=500, help="returns that each forecast uses")
    made.add_argument("--refit-every", type=int, default=20, help="periods between fits of the model")
    made.add_argument("--paths", type=int, default=10_000, help="of Monte Carlo")
    made.add_argument("--seed", type=int, default=0, help="of Monte Carlo and of simulated p-values")
    verb("info", "version, build and machine, for a bug report")
    return parser


def _model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MARGINS, default="scenario",
                        help="price and volatility grid; value at risk 99 %% or shortfall 97.5 %% of one day, filtered "
                             "history; a clearing house's 99 %% over two days or 99.5 %% over five")
    parser.add_argument("--history", help="daily prices by underlying, a column each, for every model but scenario")


def _chain_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--currency", help="which currency of a chain file that holds several, for example BTC")
    parser.add_argument("--time", help="which snapshot of a chain file with several, ISO UTC; the last by default")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.verb](arguments)
    except MarginError as error:
        print(f"margincore: error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"margincore: error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
    except ImportError as error:
        print(f"margincore: error: {error}", file=sys.stderr)
    return WRONG


# ---- what the commands share


def load_portfolio(path: str) -> mc.Portfolio:
    """Portfolio of a JSON file, or of standard input."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        data = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:                     # JSON that is none, bytes that are no text
        raise RangeError(f"portfolio must be JSON: {error}") from None
    if not isinstance(data, dict) or not set(data) <= {"positions", "balances", "entry"}:
        raise RangeError("portfolio must be an object with positions, balances and entry, "
                         f"was {sorted(data) if isinstance(data, dict) else type(data).__name__}")
    return mc.Portfolio(**data)


def margin_model(arguments: argparse.Namespace) -> MarginModel:
    """The margin model of the command."""
    if arguments.model == "scenario":
        if arguments.history is not None:
            raise RangeError(f"model must be one of {', '.join(MARGINS[1:])} with a history, was 'scenario'")
        return standard_model()
    if arguments.history is None:
        raise RangeError(f"history must be given with model {arguments.model!r}")
    prices = load_prices(arguments.history)
    if arguments.model == "listed":
        return mc.clearing_listed(prices, conversion="shocked")
    if arguments.model == "otc":
        return mc.clearing_otc(prices, conversion="shocked")
    measure = mc.ValueAtRisk(0.99) if arguments.model == "var" else mc.ExpectedShortfall(0.975)
    return mc.VarMargin(mc.filtered_historical(prices, fitted_models(prices)), measure=measure, initial_ratio=1.25,
                        conversion="shocked")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name stands twice among {', '.join(name for name, _ in pairs)}")
    return found


def opened(arguments: argparse.Namespace) -> mc.Account:
    """An account that holds the portfolio of the command, in the market of the command."""
    contracts, market = load_market(arguments.market, arguments.currency, arguments.time)
    engine = mc.Engine(contracts, margin_model(arguments), accounts=4, positions=500)
    engine.update(market)
    return engine.open_with("portfolio", load_portfolio(arguments.portfolio))


def _print(arguments: argparse.Namespace, data: Any, text: str) -> None:
    print(json.dumps(_finite(data), indent=2, allow_nan=False) if arguments.json else text)


def _finite(data: Any) -> Any:
    """The same without what JSON has no word for: NaN and infinities become null."""
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _code(status: Status) -> int:
    return FINE if status in (Status.HEALTHY, Status.MARGIN_CALL) else BREACH


def _faults(account: mc.Account) -> dict[str, str]:
    """What the market does not know of the holdings of an account, and why."""
    columns, symbols = account.engine.columns, account.engine.contracts.symbols
    held = {*account.portfolio.positions, *account.portfolio.balances}
    return {} if columns is None else {s: str(f) for s, f in columns.faults(symbols).items() if s in held}


def _faults_text(faults: dict[str, str]) -> str:
    return "".join(f"\nunknown: {symbol} ({fault})" for symbol, fault in faults.items())


# ---- commands


def _margin(arguments: argparse.Namespace) -> int:
    account = opened(arguments)
    report: MarginReport = account.margin()
    faults = _faults(account)
    _print(arguments, report.to_dict() | ({"unknown": faults} if faults else {}), f"{report}{_faults_text(faults)}")
    return _code(report.status)


def _what_if(arguments: argparse.Namespace) -> int:
    account = opened(arguments)
    orders = [_order(text) for text in arguments.order]
    answer = account.what_if(orders)
    names = ("equity", "initial", "maintenance")
    before, after = (dict(zip(names, figures, strict=True)) for figures in (answer.before, answer.after))
    data = {"allowed": answer.allowed, "status_before": str(answer.status_before), "status": str(answer.status),
            "base": account.engine.base, "before": before, "after": after}
    lines = [f"{'':<12}{'before':>18}{'after':>18}"]
    lines += [f"{name:<12}{b:>18,.2f}{a:>18,.2f} {account.engine.base}"
              for name, b, a in zip(names, answer.before, answer.after, strict=True)]
    lines += [f"{'status':<12}{answer.status_before!s:>18}{answer.status!s:>18}",
              f"the orders are {'allowed' if answer.allowed else 'refused'}"]
    _print(arguments, data, "\n".join(lines))
    return _code(answer.status)


def _order(text: str) -> tuple[str, float, float | None]:
    symbol, _, rest = text.rpartition(":")
    quantity, _, price = rest.partition("@")
    try:
        return symbol, float(quantity), float(price) if price else None
    except ValueError:
        raise RangeError(f"order must be SYMBOL:CONTRACTS or SYMBOL:CONTRACTS@PRICE, was {text!r}") from None


def _liquidation(arguments: argparse.Namespace) -> int:
    account = opened(arguments)
    if account.status is Status.UNKNOWN:
        faults = _faults(account)
        _print(arguments, {"status": account.status.name, "unknown": faults},
               f"status       {account.status.name}{_faults_text(faults)}")
        return BREACH
    underlyings = sorted({account.engine.contracts.by_symbol[s].underlying for s in account.portfolio.positions})
    answers = {name: account.liquidation_price(name) for name in underlyings}
    _print(arguments, {name: dataclasses.asdict(answer) for name, answer in answers.items()},
           "\n".join(liquidation_text(answer) for answer in answers.values()) or "no position")
    return _code(account.status)


def _demo(arguments: argparse.Namespace) -> int:
    return _code(run_demo(arguments.market, arguments.currency, arguments.time, arguments.accounts,
                          arguments.json))


def _volatilities(arguments: argparse.Namespace) -> int:
    data = implied_volatilities(_quotes(arguments))
    _print(arguments, data, volatilities_text(data))
    return FINE


def _surface(arguments: argparse.Namespace) -> int:
    _check_folders(arguments, "plot", "save")
    quotes = _quotes(arguments)
    surface = calibrate(quotes)
    data = surface_report(quotes, surface)
    if arguments.plot is not None:
        surface.plot(quotes, arguments.plot)
    if arguments.save is not None:
        surface.save(arguments.save)
    _print(arguments, data, surface_text(data))
    return FINE


def _quotes(arguments: argparse.Namespace) -> Quotes:
    return load_quotes(arguments.chain, currency=arguments.currency,
                       at_ns=None if arguments.time is None else int(stamps("time", arguments.time)))


def _check_folders(arguments: argparse.Namespace, *names: str) -> None:
    """What would fail after the work fails before it."""
    for name in names:
        path = getattr(arguments, name)
        if path is not None and not filename(f"--{name}", path).parent.is_dir():
            raise RangeError(f"--{name} must name a file in a folder that exists, was {path!r}")


def _value_at_risk(arguments: argparse.Namespace) -> int:
    _check_folders(arguments, "plot")
    if arguments.plot is not None and not arguments.backtest:
        raise RangeError("--plot must come with --backtest, which makes the bands it shows")
    series = load_series(arguments.returns, columns=arguments.column, prices=arguments.prices,
                         simple=arguments.simple, percent=arguments.percent)
    common = {"model": arguments.model, "level": arguments.level, "shortfall_level": arguments.shortfall_level,
              "window": arguments.window, "paths": arguments.paths, "seed": arguments.seed}
    if not arguments.backtest:
        data = next_risk(series, **common)
        _print(arguments, data, next_text(data))
        return FINE
    data, study = backtest_report(series, method=arguments.method, refit_every=arguments.refit_every, **common)
    if arguments.plot is not None:
        write_figure(study.plot(data["model"], data["method"]), arguments.plot)
    _print(arguments, data, backtest_text(data))
    return FINE


def _info(arguments: argparse.Namespace) -> int:
    _print(arguments, mc.show_config(mode="dicts"), "")
    if not arguments.json:
        mc.show_config()
    return FINE


_COMMANDS = {"demo": _demo, "margin": _margin, "whatif": _what_if, "liq": _liquidation, "iv": _volatilities,
             "surface": _surface, "var": _value_at_risk, "info": _info}
