"""MarketState: one immutable observation of a market, and its resolution to columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from margincore.columns import CROSSED, EXPIRED, MISSING, STALE, MarketColumns, Smile
from margincore.contracts import FUTURE, OPTION, PERPETUAL, Contracts
from margincore.errors import NotFiniteError, RangeError
from margincore.io.ccxt import feed_from_ccxt
from margincore.io.deribit import feed_from_deribit
from margincore.io.frames import feed_from_arrays, feed_from_frame
from margincore.io.tardis import feed_from_tardis
from margincore.kernels import implied, reval, scenario
from margincore.ladder import Ladder, ladder
from margincore.units import DAYS_PER_YEAR, NS_MAX, NS_PER_DAY, Floats, integer, mapping, number

Key: TypeAlias = "str | tuple[str, int]"
NS_PER_YEAR = NS_PER_DAY * DAYS_PER_YEAR
EMPTY: Mapping[Any, Any] = MappingProxyType({})


def _real(argument: str, key: Any, value: Any, signed: bool) -> float:
    """A price or rate as a float: None and NaN are missing (NaN), what cannot be meant raises."""
    name = f"{argument}[{key!r}]"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    try:
        return number(name, value, least=None if signed else 0.0)
    except NotFiniteError:
        if value != value:
            return math.nan
        raise


def _numbers(argument: str, values: Any, *, signed: bool = False, positive: bool = False) -> Mapping[Any, float]:
    """Checked copy; with `positive`, zero is no price and becomes missing."""
    checked: dict[Any, float] = {}
    for key, value in mapping(argument, values).items():
        plain = type(value) is float and 0.0 < value < math.inf
        checked[key] = value if plain else _real(argument, key, value, signed)
        if positive and checked[key] == 0.0:
            checked[key] = math.nan
    return MappingProxyType(checked)


def _forward_keys(keys: Iterable[Any]) -> None:
    for key in keys:
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str)):
            raise RangeError(f"forward must be keyed by (underlying, expiry_ns), was {key!r}")
        integer(f"expiry_ns of forward[{key!r}]", key[1], least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketState:
    """One observation of a market, validated and immutable.

    What a feed may lack (None, NaN, no entry, a spot or futures mark of zero, an old or crossed quote) is a fact
    about the data: it resolves to NaN, and every account that holds the instrument becomes UNKNOWN.  What no feed can
    mean (negative or infinite prices, booleans, text, a ladder out of order) raises.

    Parameters
    ----------
    now_ns : int
        Time of the observation, nanoseconds since 1970 UTC.
    spot : mapping of str to float
        Price of each underlying and asset in the account's base currency, for example
        ``{"BTC": 97_200.0, "USDC": 1.0}``.  Zero is not a price.
    forward : mapping of (str, int) to float, optional
        Forward by underlying and expiry_ns, quote currency.  Where absent: spot grown by the interest of the
        settlement asset less that of the underlying.
    mark : mapping of str to float, optional
        Mark by symbol: linear contracts in the settlement asset, inverse futures in quote currency, inverse options in
        coin.  When given it is authoritative: a derivative without an entry is missing.  When omitted the marks are
        modelled: perpetuals at spot, futures at the forward, options by Black-76.  The zero mark of an option is a
        price.
    volatility : mapping of str to float, optional
        Annual implied volatility by option symbol, a fraction (0.6 is 60 %).  An option without one here or in
        `surface` takes that of its mark, if the mark has one: it lies strictly inside its bounds, before expiry.
    surface : mapping of str to Smile, optional
        Smile by underlying, asked where `volatility` has no entry: ``.vol(strikes, expiries_ns)``.
    rate : mapping of str to float, optional
        Continuous annual interest by asset; zero where absent.
    funding : mapping of str to float, optional
        Rate per day by perpetual, as paid by longs.
    bid, ask : mapping of str to float, optional
        Best quotes by symbol (or by the name of an underlying); zero means no quote.  A bid above the ask is a crossed
        market: the instrument is unknown.
    depth : mapping of str to float, optional
        Contracts available near the mark; where absent, the thinner side of the ladder in `books`.
    books : mapping of str to Ladder or to a mapping with "bids" and "asks", optional
        Levels ``(price, contracts)``, best first.
    observed_ns : mapping of str to int, optional
        When each input was observed: by symbol, by underlying, or by (underlying, expiry_ns) for a forward.  An input
        without an entry was observed at `now_ns`.
    """

    now_ns: int
    spot: Mapping[str, float]
    forward: Mapping[tuple[str, int], float] = field(default_factory=lambda: EMPTY)
    mark: Mapping[str, float | None] | None = None
    volatility: Mapping[str, float | None] = field(default_factory=lambda: EMPTY)
    surface: Mapping[str, Smile] = field(default_factory=lambda: EMPTY)
    rate: Mapping[str, float] = field(default_factory=lambda: EMPTY)
    funding: Mapping[str, float | None] = field(default_factory=lambda: EMPTY)
    bid: Mapping[str, float | None] = field(default_factory=lambda: EMPTY)
    ask: Mapping[str, float | None] = field(default_factory=lambda: EMPTY)
    depth: Mapping[str, float | None] = field(default_factory=lambda: EMPTY)
    books: Mapping[str, Ladder] = field(default_factory=lambda: EMPTY)
    observed_ns: Mapping[Key, int] = field(default_factory=lambda: EMPTY)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "now_ns", integer("now_ns", self.now_ns, least=1, most=NS_MAX))
        for argument in ("volatility", "bid", "ask", "depth"):
            put(self, argument, _numbers(argument, getattr(self, argument)))
        for argument in ("rate", "funding"):
            put(self, argument, _numbers(argument, getattr(self, argument), signed=True))
        for argument in ("spot", "forward"):
            put(self, argument, _numbers(argument, getattr(self, argument), positive=True))
        _forward_keys(self.forward)
        if self.mark is not None:
            put(self, "mark", _numbers("mark", self.mark))
        for name, smile in mapping("surface", self.surface).items():
            if not callable(getattr(smile, "vol", None)):
                raise RangeError(f"surface[{name!r}] must have a method vol(strikes, expiries_ns), was {smile!r}")
        put(self, "surface", MappingProxyType(dict(self.surface)))
        books = mapping("books", self.books).items()
        put(self, "books", MappingProxyType({name: ladder(f"books[{name!r}]", book) for name, book in books}))
        times = mapping("observed_ns", self.observed_ns).items()
        put(self, "observed_ns", MappingProxyType(
            {name: integer(f"observed_ns[{name!r}]", at, least=0) for name, at in times}))

    def __reduce__(self) -> tuple[Any, ...]:  # views of mappings do not pickle, dicts do
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
        return _restore, (plain,)

    @classmethod
    def from_deribit(cls, rows: Any, *, now_ns: int | None = None, spot: Mapping[str, float] | None = None,
                     volatility_unit: str = "auto") -> MarketState:
        """A market from rows of Deribit: book summaries, tickers, order books, chain files, mixed at will.

        Parameters
        ----------
        rows : sequence of mapping, table, or response of the venue
        now_ns : int, optional
            Time of the market; that of the latest row when omitted.
        spot : mapping of str to float, optional
            Prices that the rows do not carry, or that overrule them; USD, USDC and USDT are 1 unless given.
        volatility_unit : {"auto", "percent", "fraction"}
            Percent on the wire, fractions in some files; "auto" takes a median of 5 and more for percent.

        Returns
        -------
        MarketState
            What a row lacks or garbles is missing.
        """
        return cls(**feed_from_deribit(rows, now_ns=now_ns, spot=spot, volatility_unit=volatility_unit))

    @classmethod
    def from_ccxt(cls, tickers: Any, greeks: Any = None, *, order_books: Any = None, funding_rates: Any = None,
                  markets: Any = None, now_ns: int | None = None, spot: Mapping[str, float] | None = None,
                  volatility_unit: str = "auto") -> MarketState:
        """A market from ccxt's unified dictionaries, by symbol or as lists.

        Parameters
        ----------
        tickers, greeks, order_books, funding_rates : mapping or sequence of dict, optional
            As ``fetch_tickers``, ``fetch_all_greeks``, ``fetch_order_book`` and ``fetch_funding_rates`` give them.
        markets : mapping or sequence of dict, optional
            Unified markets, for symbols that do not tell their contract.
        now_ns, spot, volatility_unit
            As in `from_deribit`.
        """
        return cls(**feed_from_ccxt(tickers, greeks, order_books=order_books, funding_rates=funding_rates,
                                    markets=markets, now_ns=now_ns, spot=spot, volatility_unit=volatility_unit))

    @classmethod
    def from_tardis(cls, rows: Any, *, now_ns: int | None = None, spot: Mapping[str, float] | None = None,
                    volatility_unit: str = "auto") -> MarketState:
        """A market from rows of Tardis options_chain and derivative_ticker files; parameters as in `from_deribit`.

        Without an index in the rows or in `spot`, the underlying's price at the nearest expiry stands in for it.
        """
        return cls(**feed_from_tardis(rows, now_ns=now_ns, spot=spot, volatility_unit=volatility_unit))

    @classmethod
    def from_frame(cls, frame: Any, *, now_ns: int, spot: Mapping[str, float], **others: Any) -> MarketState:
        """A market from a table with a row per symbol: pandas, polars, pyarrow, a mapping of columns, or rows.

        Parameters
        ----------
        frame : table
            Column `symbol`, and any of `mark`, `volatility`, `bid`, `ask`, `depth`, `funding`, `observed_ns`.
        now_ns, spot, others
            As in `MarketState`.
        """
        return cls(now_ns=now_ns, spot=spot, **{**others, **feed_from_frame(frame)})

    @classmethod
    def from_arrays(cls, symbols: Sequence[str], *, now_ns: int, spot: Mapping[str, float], mark: Any = None,
                    volatility: Any = None, bid: Any = None, ask: Any = None, depth: Any = None,
                    funding: Any = None, **others: Any) -> MarketState:
        """A market from arrays, each as long as `symbols`, NaN where missing; the rest as in `MarketState`."""
        arrays = {"mark": mark, "volatility": volatility, "bid": bid, "ask": ask, "depth": depth, "funding": funding}
        return cls(now_ns=now_ns, spot=spot, **{**others, **feed_from_arrays(symbols, arrays)})

    def quote(self, symbol: str) -> tuple[float, float]:
        """Best bid and ask of a symbol, NaN where there is none; from the ladder where no quote was given."""
        best = self.books[symbol].best() if symbol in self.books else (math.nan, math.nan)
        bid, ask = self.bid.get(symbol), self.ask.get(symbol)
        return (bid or math.nan) if bid is not None else best[0], (ask or math.nan) if ask is not None else best[1]

    def resolve(self, contracts: Contracts, *, age_max_ns: int | None = None) -> MarketColumns:
        """The observation as arrays over the columns of `contracts`.

        Parameters
        ----------
        contracts : Contracts
        age_max_ns : int, optional
            Oldest input that counts, nanoseconds; an older one is stale and everything that depends on it unknown.

        Returns
        -------
        MarketColumns
        """
        if not isinstance(contracts, Contracts):
            raise RangeError(f"contracts must be Contracts, was {contracts!r}")
        if age_max_ns is not None:
            age_max_ns = integer("age_max_ns", age_max_ns, least=0)
        return _Resolution(self, contracts, age_max_ns).columns()


def _restore(values: dict[str, Any]) -> MarketState:
    return MarketState(**values)


class _Resolution:
    """The steps of `MarketState.resolve`, which share the contracts and the faults found so far."""

    def __init__(self, market: MarketState, contracts: Contracts, age_max_ns: int | None) -> None:
        self.market, self.contracts = market, contracts
        self.cash = len(contracts.assets)
        self.stale: set[Any] = set()
        if age_max_ns is not None:
            oldest = market.now_ns - age_max_ns
            self.stale = {name for name, at in market.observed_ns.items() if at < oldest}

    def gather(self, values: Mapping[Any, Any]) -> Floats:
        get, nan = values.get, math.nan
        return np.array([get(symbol, nan) for symbol in self.contracts.symbols], np.float64)

    def quotes(self) -> tuple[Floats, Floats]:
        market = self.market
        if not (market.bid or market.ask or market.books):
            empty = np.full(len(self.contracts), np.nan)
            return empty, empty
        bid, ask = self.gather(market.bid), self.gather(market.ask)
        bid[bid == 0.0], ask[ask == 0.0] = np.nan, np.nan
        for symbol in market.books:
            at = self.contracts.column.get(symbol)
            if at is not None:
                bid[at], ask[at] = market.quote(symbol)
        return bid, ask

    def underlyings(self) -> tuple[Floats, np.ndarray[Any, np.dtype[np.uint8]]]:
        names = self.contracts.underlyings
        get, nan = self.market.spot.get, math.nan
        spot = np.array([get(name, nan) for name in names], np.float64)
        fault = np.where(np.isnan(spot), MISSING, 0).astype(np.uint8)
        if self.stale:
            fault[[name in self.stale for name in names]] = STALE
        if self.market.bid or self.market.books:
            quoted = [(name, name) for name in names]
            quoted += [(pair.symbol, pair.underlying) for pair in self.contracts.spots]
            for symbol, name in quoted:
                bid, ask = self.market.quote(symbol)
                if bid > ask:
                    fault[names.index(name)] = CROSSED
        spot[fault > 0] = np.nan
        return spot, fault

    def interest(self, years: Floats) -> tuple[Floats, Floats]:
        """Discount of the settlement asset, and growth from spot to the default forward."""
        if not self.market.rate:
            return np.ones(len(years)), np.ones(len(years))
        contracts = self.contracts
        rate = np.array([self.market.rate.get(name, 0.0) for name in contracts.underlyings], np.float64)
        settle = rate[contracts.settle]
        carry = np.where(contracts.inverse, 0.0, settle) - rate[contracts.underlying]
        discount, growth = np.empty(len(years)), np.empty(len(years))
        scenario.exponentials(-settle * years, discount)
        scenario.exponentials(carry * years, growth)
        return discount, growth

    def forwards(self, spot: Floats, growth: Floats) -> Floats:
        """Forward of everything that expires, spot ratio of the rest, in the unit of the contract's price."""
        contracts = self.contracts
        per_unit = np.where(contracts.inverse, 1.0, spot[contracts.settle])
        forward = spot[contracts.underlying] / per_unit * growth
        forward[:self.cash] = spot[:self.cash]
        if self.market.forward:
            names, expiry = contracts.underlyings, contracts.expiry_ns.tolist()
            underlying = contracts.underlying.tolist()
            for at in range(self.cash, len(contracts)):
                key = (names[underlying[at]], expiry[at])
                if key in self.market.forward:
                    forward[at] = math.nan if key in self.stale else self.market.forward[key]
        return forward

    def sigmas(self, options: Any) -> Floats:
        contracts = self.contracts
        sigma = np.where(options, self.gather(self.market.volatility), np.nan)
        for index, name in enumerate(contracts.underlyings):
            smile = self.market.surface.get(name)
            if smile is not None:
                rows = np.flatnonzero(options & (contracts.underlying == index) & np.isnan(sigma))
                if rows.size:
                    read = np.asarray(smile.vol(contracts.strike[rows], contracts.expiry_ns[rows]), np.float64)
                    sigma[rows] = np.where((read >= 0.0) & (read < np.inf), read, np.nan)
        return sigma

    def columns(self) -> MarketColumns:
        market, contracts = self.market, self.contracts
        kind = contracts.kind
        options, expires = kind == OPTION, contracts.expiry_ns > 0
        spot, spot_fault = self.underlyings()
        bid, ask = self.quotes()
        left_ns = contracts.expiry_ns - market.now_ns
        years = np.where(expires, np.maximum(left_ns, 0) / NS_PER_YEAR, 0.0)
        discount, growth = self.interest(years)
        forward = self.forwards(spot, growth)
        sigma = self.sigmas(options)
        fault = self.column_faults(spot_fault, bid, ask, expires & (left_ns < 0))
        if market.mark is None:
            mark = np.where(options, np.nan, forward)
            reval.option_marks(contracts, forward, years, sigma, discount, mark)
        else:
            mark = self.gather(market.mark)
            mark[~options & (mark == 0.0)] = np.nan
        mark[:self.cash] = 1.0
        fault[(fault == 0) & np.isnan(mark)] = MISSING
        unknown = fault > 0
        unknown[:self.cash] = False
        mark[unknown] = np.nan
        if market.mark is not None:
            self.imply(options & np.isnan(sigma) & ~unknown, mark / discount, forward, years, sigma)
        sigma[options & np.isnan(sigma) & (left_ns == 0)] = 0.0  # at expiry no volatility is left to know
        trades = (kind == PERPETUAL) | (kind == FUTURE)
        forward[trades] = mark[trades]
        known = (ask >= bid).astype(np.uint8)
        funding = np.zeros(len(contracts))
        if market.funding:
            get = market.funding.get
            funding = np.array([get(symbol, 0.0) for symbol in contracts.symbols], np.float64)
        return MarketColumns(
            now_ns=market.now_ns, spot=spot, mark=mark, forward=forward, sigma=sigma, years=years,
            discount=discount, half_spread=np.where(known, 0.5 * (ask - bid), 0.0), spread_known=known,
            depth=self.depths(), funding=funding, fault=fault,
            surfaces=tuple(market.surface.get(name) for name in contracts.underlyings))

    def imply(self, wanted: Any, premium: Floats, forward: Floats, years: Floats, sigma: Floats) -> None:
        """Fill `sigma` at the wanted options with the volatility of their undiscounted premium, where it has one."""
        contracts = self.contracts
        for inverse in (0, 1):
            at = np.flatnonzero(wanted & (contracts.inverse == inverse))
            found, status = np.empty(len(at)), np.empty(len(at), np.uint8)
            implied.volatilities(premium[at], forward[at], contracts.strike[at], years[at], contracts.is_call[at],
                                 found, status, bool(inverse))
            sigma[at] = np.where(found > 0.0, found, np.nan)  # at intrinsic value every small one would do

    def column_faults(self, spot_fault: Any, bid: Floats, ask: Floats, expired: Any) -> Any:
        """The first reason of: own quote, own age, expiry, underlying, settlement asset."""
        contracts = self.contracts
        fault = spot_fault[contracts.settle]
        own = spot_fault[contracts.underlying]
        fault[own > 0] = own[own > 0]
        fault[expired] = EXPIRED
        if self.stale:
            fault[[symbol in self.stale for symbol in contracts.symbols]] = STALE
        fault[bid > ask] = CROSSED
        return fault

    def depths(self) -> Floats:
        depth = self.gather(self.market.depth)
        for symbol, book in self.market.books.items():
            at = self.contracts.column.get(symbol)
            if at is not None and np.isnan(depth[at]):
                depth[at] = book.depth()
        return depth
