"""Stress scenarios: dated crash days as they were, volatility jumps, a lost peg, correlation to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType

from margincore.errors import RangeError
from margincore.scenarios import EVERY_OTHER, Scenarios, from_moves
from margincore.shocks import SAME, VolatilityShock
from margincore.units import choice, number

EXTENTS = ("close", "low")
OTHERS = ("median", "worst")
PEGGED = ("USD", "USDC", "USDT")

PANEL = "daily USD closes of eleven coins, 2020-2023, as published by a finance portal (open data set of pyscarcopula)"
PORTAL = "daily USD closes of nine coins, 2017-2025, as published by a finance portal (open data set)"
SPOT = "Binance spot daily bars against USDT (public market data)"
INDEX = "Deribit DVOL, the 30-day volatility index of BTC, last of the day over last of the day before"


@dataclass(frozen=True, slots=True, kw_only=True)
class StressEvent:
    """What one UTC day did, from the last price of the day before; facts with their source.

    Attributes
    ----------
    date : str
        ISO date, UTC.
    title : str
    move : mapping of str to float
        Relative move to the last price of the day.
    low : mapping of str to float
        Relative move to the lowest price of the day, where daily bars are known.
    volatility : float or None
        Relative move of 30-day implied volatility of BTC; None before there was an index.
    source : str
    """

    date: str
    title: str
    move: Mapping[str, float]
    low: Mapping[str, float] = field(default_factory=dict)
    volatility: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("move", "low"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @property
    def name(self) -> str:
        """Date and title, for people and reports."""
        return f"{self.date} {self.title}"


_DAYS = (
    StressEvent(
        date="2020-03-12", title="pandemic crash", source=PANEL,
        move={"ADA": -0.3957, "BNB": -0.4190, "BTC": -0.3717, "DOGE": -0.2962, "ETH": -0.4235, "LINK": -0.4591,
              "XRP": -0.3290}, low={"BTC": -0.4442}),
    StressEvent(
        date="2021-05-19", title="leverage unwind", source=f"{PANEL}; SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.2601, "AVAX": -0.3650, "BNB": -0.3327, "BTC": -0.1377, "DOGE": -0.3003, "ETH": -0.2720,
              "LINK": -0.3724, "RNDR": -0.3666, "SOL": -0.3752, "UNI": -0.3395, "XRP": -0.3272},
        low={"BTC": -0.2999}, volatility=0.0668),
    StressEvent(
        date="2022-05-09", title="Terra loses its peg", source=f"{PANEL}; SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.1751, "AVAX": -0.1853, "BNB": -0.1577, "BTC": -0.1105, "DOGE": -0.1561, "ETH": -0.1081,
              "LINK": -0.1719, "RNDR": -0.1213, "SOL": -0.1577, "UNI": -0.1499, "XRP": -0.1299},
        low={"BTC": -0.1177}, volatility=0.2379),
    StressEvent(
        date="2022-05-11", title="Terra collapses", source=f"{PANEL}; SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.1847, "AVAX": -0.3051, "BNB": -0.1546, "BTC": -0.0673, "DOGE": -0.2203, "ETH": -0.1158,
              "LINK": -0.1942, "RNDR": -0.3069, "SOL": -0.2472, "UNI": -0.1967, "XRP": -0.1952}, volatility=0.2407),
    StressEvent(
        date="2022-05-12", title="Terra halts", source=f"{PANEL}; SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.0762, "AVAX": -0.0196, "BNB": -0.0021, "BTC": 0.0038, "DOGE": -0.0226, "ETH": -0.0533,
              "LINK": -0.0503, "RNDR": -0.0232, "SOL": -0.1116, "UNI": -0.0396, "XRP": -0.0681}, volatility=0.1317),
    StressEvent(
        date="2022-06-13", title="lenders freeze", source=f"{PANEL}; SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.0679, "AVAX": -0.0786, "BNB": -0.1307, "BTC": -0.1597, "DOGE": -0.1619, "ETH": -0.1665,
              "LINK": -0.0717, "RNDR": -0.2137, "SOL": -0.0829, "UNI": -0.1164, "XRP": -0.1004},
        low={"BTC": -0.1749}, volatility=0.1278),
    StressEvent(
        date="2022-11-08", title="FTX halts withdrawals", source=f"{PANEL}; APT, SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.0802, "APT": -0.2317, "AVAX": -0.1149, "BNB": -0.0277, "BTC": -0.1001, "DOGE": -0.2057,
              "ETH": -0.1503, "LINK": -0.1363, "RNDR": -0.2461, "SOL": -0.1837, "UNI": -0.1361, "XRP": -0.1280},
        volatility=0.2888),
    StressEvent(
        date="2022-11-09", title="FTX loses its buyer", source=f"{PANEL}; APT, SOL, UNI and RNDR: {PORTAL}; {INDEX}",
        move={"ADA": -0.1452, "APT": -0.2673, "AVAX": -0.1922, "BNB": -0.1857, "BTC": -0.1435, "DOGE": -0.1597,
              "ETH": -0.1746, "LINK": -0.1898, "RNDR": -0.2779, "SOL": -0.4211, "UNI": -0.1921, "XRP": -0.1798},
        low={"BTC": -0.1596}, volatility=0.4965),
    StressEvent(
        date="2023-03-11", title="USDC loses its peg", source=f"{PANEL}; {INDEX}",
        move={"ADA": -0.0254, "AVAX": -0.0129, "BNB": 0.0020, "BTC": 0.0221, "DOGE": 0.0116, "ETH": 0.0374,
              "LINK": -0.0027, "USDC": -0.0280, "USDT": 0.0046, "XRP": -0.0102}, volatility=0.1037),
    StressEvent(
        date="2024-08-05", title="carry unwind", source=f"{SPOT}; {INDEX}",
        move={"BNB": -0.0658, "BTC": -0.0712, "DOGE": -0.0905, "ETH": -0.1002, "SOL": -0.0618, "XRP": -0.0648},
        low={"BNB": -0.1950, "BTC": -0.1575, "DOGE": -0.2241, "ETH": -0.2149, "SOL": -0.2048, "XRP": -0.1739},
        volatility=0.1238),
    StressEvent(
        date="2025-10-10", title="tariff liquidations", source=f"{SPOT}; {INDEX}",
        move={"BNB": -0.1218, "BTC": -0.0731, "DOGE": -0.2213, "ETH": -0.1233, "SOL": -0.1471, "XRP": -0.1541},
        low={"BNB": -0.3148, "BTC": -0.1616, "DOGE": -0.6177, "ETH": -0.2136, "SOL": -0.2360, "XRP": -0.5524},
        volatility=0.1102),
    StressEvent(
        date="2026-02-05", title="February crash",
        source=f"{SPOT}; volatility: 30-day at-the-money of Deribit chains at 21:30, SVI fit, over the day before",
        move={"BNB": -0.1276, "BTC": -0.1402, "DOGE": -0.1477, "ETH": -0.1496, "SOL": -0.1495, "XRP": -0.1967},
        low={"BNB": -0.1364, "BTC": -0.1479, "DOGE": -0.1645, "ETH": -0.1536, "SOL": -0.1576, "XRP": -0.2479},
        volatility=0.5553),
)

STRESS_EVENTS: Mapping[str, StressEvent] = MappingProxyType({event.date: event for event in _DAYS})


def stress(events: str | StressEvent | Sequence[str | StressEvent] | None = None, *, extent: str = "close",
           others: str = "median", volatility: bool = True, pegged: Sequence[str] = PEGGED,
           smile: str = "sticky_strike") -> Scenarios:
    """Crash days as scenarios, named by date.

    Parameters
    ----------
    events : str, StressEvent, or sequence of them, optional
        ISO dates in `STRESS_EVENTS`, or events of your own; all known when omitted.
    extent : {"close", "low"}
        Moves to the last price of the day, or to its lowest where that is known.
    others : {"median", "worst"}
        What coins do that the event does not know: its median, or its worst fall.
    volatility : bool
        Whether implied volatilities move, parallel and relative, as the index did.
    pegged : sequence of str
        Assets that stay where an event does not name them.
    smile : {"sticky_strike", "sticky_moneyness"}

    Examples
    --------
    >>> found = stress(["2020-03-12", "2022-11-09"])
    >>> found.names
    ('2020-03-12 pandemic crash', '2022-11-09 FTX loses its buyer')
    >>> found.spot_move["BTC"], found.spot_move["SOL"]
    ((-0.3717, -0.1435), (-0.3957, -0.4211))
    """
    choice("extent", extent, EXTENTS)
    choice("others", others, OTHERS)
    if isinstance(events, (str, StressEvent)):
        events = [events]
    chosen = [_event(item) for item in (STRESS_EVENTS if events is None else events)]
    if not chosen:
        raise RangeError("events must hold at least one event, was empty")
    rows = [{**event.move, **(event.low if extent == "low" else {})} for event in chosen]
    every = [(median if others == "median" else min)(
        [move for name, move in row.items() if name not in pegged] or [0.0]) for row in rows]
    names = dict.fromkeys([*pegged, *(name for row in rows for name in row)])
    moves = {name: [row.get(name, 0.0 if name in pegged else rest) for row, rest in zip(rows, every, strict=True)]
             for name in names}
    shocks = [VolatilityShock("scale", event.volatility) if volatility and event.volatility is not None else SAME
              for event in chosen]
    return from_moves([event.name for event in chosen], {**moves, EVERY_OTHER: every}, volatility=shocks, smile=smile)


def volatility_jump(*factors: float) -> Scenarios:
    """Prices stay and every implied volatility is multiplied: by two when no factor is given.

    Examples
    --------
    >>> volatility_jump().names
    ('volatility x 2',)
    """
    values = [number(f"factors[{at}]", factor, above=0.0) for at, factor in enumerate(factors or (2.0,))]
    return from_moves([f"volatility x {factor:.4g}" for factor in values], [0.0] * len(values),
                      volatility=[VolatilityShock("scale", factor - 1.0) if factor != 1.0 else SAME
                                  for factor in values])


def depeg(asset: str, *moves: float) -> Scenarios:
    """One asset alone loses its peg, by 5, 13 and 30 % when no moves are given.

    What is held in the asset moves where the margin model names it in its `shocked_assets`, and what is settled in it
    where profit is converted at the spot of the scenario (``conversion="shocked"``).

    Examples
    --------
    >>> depeg("USDC", -0.13).names
    ('USDC -13 %',)
    """
    if not isinstance(asset, str) or not asset or asset == EVERY_OTHER:
        raise RangeError(f"asset must be the name of one asset, was {asset!r}")
    falls = [number(f"moves[{at}]", move, above=-1.0) for at, move in enumerate(moves or (-0.05, -0.13, -0.30))]
    return from_moves([f"{asset} {100.0 * move:+.4g} %" for move in falls],
                      {asset: falls, EVERY_OTHER: [0.0] * len(falls)})


def correlation_one(scenarios: Scenarios, *, opposite: Sequence[str] = ()) -> Scenarios:
    """The same moves of each underlying, re-ordered so that the worst of all come together, and so on by rank.

    Each underlying keeps its distribution while every rank correlation becomes one: the comonotone scenarios, which no
    long-only portfolio can lose more in.

    Parameters
    ----------
    scenarios : Scenarios
        Equally likely, with the same volatility shock and weight in all, without moves of surfaces.
    opposite : sequence of str
        Underlyings that move against the others: their correlation becomes minus one.

    Examples
    --------
    >>> history = from_moves(["a", "b"], {"BTC": [-0.1, 0.1], "ETH": [0.3, -0.2]})
    >>> found = correlation_one(history)
    >>> found.names, found.spot_move["ETH"]
    (('rank 1 of 2', 'rank 2 of 2'), (-0.2, 0.3))
    """
    if not isinstance(scenarios, Scenarios):
        raise RangeError(f"scenarios must be Scenarios, was {scenarios!r}")
    if len(set(scenarios.probability)) > 1 or scenarios.surface_move or len(set(scenarios.weight)) > 1 or len(
            set(scenarios.volatility)) > 1:
        raise RangeError("scenarios must be equally likely, of one weight and one volatility shock, without moves of "
                         "surfaces, to be put in order")
    moves = scenarios.spot_move if isinstance(scenarios.spot_move, Mapping) else {EVERY_OTHER: scenarios.spot_move}
    for name in opposite:
        if name not in moves:
            raise RangeError(f"opposite must name underlyings of the scenarios, {name!r} is not in {', '.join(moves)}")
    count = len(scenarios)
    order = {name: sorted(row, reverse=name in opposite) for name, row in moves.items()}
    return from_moves([f"rank {at + 1} of {count}" for at in range(count)], order, volatility=scenarios.volatility,
                      weight=scenarios.weight, ranges=scenarios.ranges, smile=scenarios.smile,
                      volatility_min=scenarios.volatility_min, days_floor=scenarios.days_floor)


def _event(item: str | StressEvent) -> StressEvent:
    if isinstance(item, StressEvent):
        return item
    if item not in STRESS_EVENTS:
        raise RangeError(f"events must be among {', '.join(STRESS_EVENTS)}, was {item!r}")
    return STRESS_EVENTS[item]
