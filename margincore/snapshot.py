"""Everything an engine holds, as plain parts that pickle, and an engine from these parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from margincore.engine import Engine


def saved(engine: Engine) -> tuple[Any, ...]:
    """Arguments of the constructor, copies of the rows, names, what was settled, the market, and whether it counts."""
    book = engine.book
    arguments = (engine.contracts, engine.model)
    options = {"base": engine.base, "accounts": book.rows_max - 1, "positions": book.slots_max // book.rows_max,
               "age_max_ns": engine.age_max_ns}
    return (arguments, options, book.save(), dict(engine._names), dict(engine.isolated_rows), set(engine.settled),
            engine.market, engine.columns is not None)


def restored(kind: type[Engine], arguments: tuple[Any, ...], options: dict[str, Any], rows: dict[str, Any],
             names: dict[int, str], isolated: dict[int, str], settled: set[str], market: Any, priced: bool) -> Engine:
    """An engine that holds what another one held; the market is repriced, to the same bits."""
    engine = kind(*arguments, **options)
    engine.book.restore(rows)
    engine._names, engine._named = names, {name: row for row, name in names.items()}
    engine.isolated_rows, engine.settled, engine.market = isolated, settled, market
    for symbol in settled:
        engine.fast_column.pop(symbol, None)
    if priced:
        engine.update(market)
    return engine
