"""Picture of a volatility surface: one panel per expiry, bid and ask of the quotes and the fitted smile."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from margincore.errors import RangeError
from margincore.quotes import Quotes
from margincore.units import filename, optional

COLUMNS = 3


def plot_surface(surface: Any, quotes: Any = None, path: str | Path | None = None) -> Any:
    """Figure of a `VolSurface`; see `VolSurface.plot`."""
    if quotes is not None and not isinstance(quotes, Quotes):
        raise RangeError(f"quotes must be the Quotes of chain_quotes, was {quotes!r:.60}")
    file = None if path is None else filename("path", path)
    canvas = optional("plot", "matplotlib.backends.backend_agg", "plot")
    count = surface.expiry_ns.size
    lines = -(-count // COLUMNS)
    figures = optional("plot", "matplotlib.figure", "plot")
    figure = figures.Figure(figsize=(4.2 * min(count, COLUMNS), 2.9 * lines), layout="constrained", dpi=110)
    canvas.FigureCanvasAgg(figure)
    axes = figure.subplots(lines, min(count, COLUMNS), squeeze=False).ravel()
    where = {} if quotes is None else {int(e): i for i, e in enumerate(quotes.expiry_ns)}
    for panel, (expiry, index) in zip(axes, enumerate_expiries(surface), strict=False):
        _slice(panel, surface, index, expiry, quotes, where.get(expiry))
    for panel in axes[count:]:
        panel.set_visible(False)
    figure.suptitle(f"observed {_stamp(surface.time_ns)} UTC, volatility in percent by log-moneyness", fontsize=10)
    if file is not None:
        write_figure(figure, file)
    return figure


def write_figure(figure: Any, path: str | Path) -> None:
    """Write a matplotlib figure to a file, as its ending says."""
    file, known = filename("path", path), figure.canvas.get_supported_filetypes()
    if file.suffix and file.suffix[1:].lower() not in known:
        raise RangeError(f"path must end in one of {', '.join(sorted(known))}, was {str(file)!r}")
    figure.savefig(file)


def enumerate_expiries(surface: Any) -> list[tuple[int, int]]:
    """(expiry_ns, index) of each slice."""
    return [(int(expiry), i) for i, expiry in enumerate(surface.expiry_ns)]


def _slice(panel: Any, surface: Any, index: int, expiry: int, quotes: Any, part: int | None) -> None:
    level = float(surface.variance(0.0, expiry))
    low, high = -3.0 * np.sqrt(level), 3.0 * np.sqrt(level)
    title = f"{_stamp(expiry)[:10]}"
    years = (expiry - surface.time_ns) / (365 * 86_400 * 1e9)
    if part is not None:
        rows = slice(int(quotes.start[part]), int(quotes.start[part + 1]))
        k, two = quotes.log_moneyness[rows], quotes.low[rows] > 0.0
        # Of call and put at one strike the tighter quote is drawn: the other one hides it.
        two &= quotes.is_call[rows] == (k >= 0.0)
        low, high = min(low, float(k.min())), max(high, float(k.max()))
        bid, ask = (100.0 * np.sqrt(side[rows][two] / years) for side in (quotes.low, quotes.high))
        panel.vlines(k[two], bid, ask, color="0.6", linewidth=1.5, label="bid to ask")
    if len(surface.fit) > index:
        told = surface.fit[index]
        share = told["share"] if isinstance(told, dict) else told.share
        title += f"   {100.0 * share:.0f} % inside" if share == share and share is not None else ""
    x = np.linspace(low, high, 201)
    panel.plot(x, 100.0 * np.sqrt(surface.variance(x, np.full(x.size, expiry)) / years), color="C0", linewidth=1.2)
    panel.set_title(title, fontsize=9)
    panel.tick_params(labelsize=7)


def _stamp(time_ns: int) -> str:
    return datetime.datetime.fromtimestamp(time_ns // 10**9, datetime.UTC).strftime("%Y-%m-%d %H:%M")
