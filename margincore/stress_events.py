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


# Basis points to the last price of the day; a point where none is known.
_MOVES = """\
date         ADA   APT  AVAX   BNB   BTC  DOGE   ETH  LINK  RNDR   SOL   UNI  USDC  USDT   XRP
2020-03-12 -3957     .     . -4190 -3717 -2962 -4235 -4591     .     .     .     .     . -3290
2021-05-19 -2601     . -3650 -3327 -1377 -3003 -2720 -3724 -3666 -3752 -3395     .     . -3272
2022-05-09 -1751     . -1853 -1577 -1105 -1561 -1081 -1719 -1213 -1577 -1499     .     . -1299
2022-05-11 -1847     . -3051 -1546  -673 -2203 -1158 -1942 -3069 -2472 -1967     .     . -1952
2022-05-12  -762     .  -196   -21    38  -226  -533  -503  -232 -1116  -396     .     .  -681
2022-06-13  -679     .  -786 -1307 -1597 -1619 -1665  -717 -2137  -829 -1164     .     . -1004
2022-11-08  -802 -2317 -1149  -277 -1001 -2057 -1503 -1363 -2461 -1837 -1361     .     . -1280
2022-11-09 -1452 -2673 -1922 -1857 -1435 -1597 -1746 -1898 -2779 -4211 -1921     .     . -1798
2023-03-11  -254     .  -129    20   221   116   374   -27     .     .     .  -280    46  -102
2024-08-05     .     .     .  -658  -712  -905 -1002     .     .  -618     .     .     .  -648
2025-10-10     .     .     . -1218  -731 -2213 -1233     .     . -1471     .     .     . -1541
2026-02-05     .     .     . -1276 -1402 -1477 -1496     .     . -1495     .     .     . -1967"""

# Basis points to the lowest price of the day, where daily bars are known.
_LOWS = """\
date         BNB   BTC  DOGE   ETH   SOL   XRP
2020-03-12     . -4442     .     .     .     .
2021-05-19     . -2999     .     .     .     .
2022-05-09     . -1177     .     .     .     .
2022-06-13     . -1749     .     .     .     .
2022-11-09     . -1596     .     .     .     .
2024-08-05 -1950 -1575 -2241 -2149 -2048 -1739
2025-10-10 -3148 -1616 -6177 -2136 -2360 -5524
2026-02-05 -1364 -1479 -1645 -1536 -1576 -2479"""

_BOTH, _WITH_APT = (f"{PANEL}; {names}SOL, UNI and RNDR: {PORTAL}; {INDEX}" for names in ("", "APT, "))
_TITLES: tuple[tuple[str, str, float | None, str], ...] = (
    ("2020-03-12", "pandemic crash", None, PANEL),
    ("2021-05-19", "leverage unwind", 0.0668, _BOTH),
    ("2022-05-09", "Terra loses its peg", 0.2379, _BOTH),
    ("2022-05-11", "Terra collapses", 0.2407, _BOTH),
    ("2022-05-12", "Terra halts", 0.1317, _BOTH),
    ("2022-06-13", "lenders freeze", 0.1278, _BOTH),
    ("2022-11-08", "FTX halts withdrawals", 0.2888, _WITH_APT),
    ("2022-11-09", "FTX loses its buyer", 0.4965, _WITH_APT),
    ("2023-03-11", "USDC loses its peg", 0.1037, f"{PANEL}; {INDEX}"),
    ("2024-08-05", "carry unwind", 0.1238, f"{SPOT}; {INDEX}"),
    ("2025-10-10", "tariff liquidations", 0.1102, f"{SPOT}; {INDEX}"),
    ("2026-02-05", "February crash", 0.5553,
     f"{SPOT}; volatility: 30-day at-the-money of Deribit chains at 21:30, SVI fit, over the day before"),
)


def _by_date(table: str) -> dict[str, dict[str, float]]:
    """Relative moves by date and coin."""
    head, *rows = (line.split() for line in table.splitlines())
    return {row[0]: {coin: int(move) / 10_000 for coin, move in zip(head[1:], row[1:], strict=True) if move != "."}
            for row in rows}


def _events() -> dict[str, StressEvent]:
    moves, lows = _by_date(_MOVES), _by_date(_LOWS)
    return {date: StressEvent(date=date, title=title, move=moves[date], low=lows.get(date, {}), volatility=volatility,
                              source=source) for date, title, volatility, source in _TITLES}


STRESS_EVENTS: Mapping[str, StressEvent] = MappingProxyType(_events())


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
