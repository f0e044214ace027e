"""Panels of prices: alignment, gaps, names of spans, and what they refuse."""

import datetime

import numpy as np
import pytest

from margincore.errors import MarginError, MissingDataError, NotFiniteError, RangeError, ShapeError
from margincore.panel import PricePanel, date, times
from margincore.units import NS_PER_DAY

DAYS = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]


def test_dates_of_every_kind_are_the_same():
    wanted = times("dates", DAYS)
    stamps = [datetime.datetime.fromisoformat(day) for day in DAYS]
    for values in (stamps, [stamp.date() for stamp in stamps], np.array(DAYS, "M8[D]"), wanted.tolist(), np.array(DAYS),
                   [stamp.replace(tzinfo=datetime.UTC) for stamp in stamps]):
        assert times("dates", values).tolist() == wanted.tolist()
    assert (np.diff(wanted) == NS_PER_DAY).all()


def test_dates_print_as_short_as_they_can():
    assert date(0) == "1970-01-01"
    assert date(3600 * 10**9) == "1970-01-01T01:00"
    assert date(10**9) == "1970-01-01T00:00:01"
    assert date(1) == "1970-01-01T00:00:00.000000001"


def test_a_data_frame_is_a_panel():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"BTC": [1.0, 2.0, 3.0], "ETH": [2.0, 3.0, 4.0]}, index=pandas.to_datetime(DAYS[:3]))
    panel = PricePanel.of(frame)
    assert panel.underlyings == ("BTC", "ETH") and panel.names() == ("2024-01-02", "2024-01-03")
    assert panel.price.tolist() == [[1.0, 2.0], [2.0, 3.0], [3.0, 4.0]]


def test_common_keeps_the_dates_that_all_have():
    panel = PricePanel.common({"BTC": [1.0, 2.0, 3.0, 4.0], "ETH": [5.0, np.nan, 7.0]},
                              {"BTC": DAYS[:4], "ETH": DAYS[1:4]})
    assert [date(at) for at in panel.time_ns] == ["2024-01-02", "2024-01-04"]
    assert panel.price.tolist() == [[2.0, 5.0], [4.0, 7.0]]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"BTC": [1.0, 2.0, 3.0], "SOL": [np.nan, 3.0, 4.0]}, index=DAYS[:3])
    assert PricePanel.common(frame).price.tolist() == [[2.0, 3.0], [3.0, 4.0]]
    with pytest.raises(RangeError, match="dates"):
        PricePanel.common({"BTC": [1.0, 2.0]})
    with pytest.raises(MissingDataError, match="in common"):
        PricePanel.common({"BTC": [1.0], "ETH": [2.0]}, {"BTC": DAYS[:1], "ETH": DAYS[1:2]})


def test_spans_are_named_by_their_end_or_by_both_ends():
    panel = PricePanel.of({"BTC": np.arange(1.0, 6.0)}, DAYS)
    assert panel.names(panel.windows()) == tuple(DAYS[1:])
    assert panel.names(panel.windows(2))[0] == "2024-01-01 to 2024-01-03"
    assert panel.windows(2, separate=True).tolist() == [[0, 2], [2, 4]]
    assert panel.windows(3, separate=True).tolist() == [[1, 4]]
    undated = PricePanel.of({"BTC": np.arange(1.0, 6.0)})
    assert undated.names()[0] == "move 1" and undated.names(undated.windows(2))[0] == "move 1 to 2"


def test_a_gap_is_told_skipped_or_kept():
    panel = PricePanel.of({"BTC": [1.0, 2.0, 3.0, 4.0]}, [DAYS[0], DAYS[1], DAYS[3], DAYS[4]])
    with pytest.raises(RangeError, match="2024-01-04 follows 2024-01-02"):
        panel.windows()
    assert panel.windows(gaps="skip").tolist() == [[0, 1], [2, 3]]
    assert panel.windows(gaps="keep").tolist() == [[0, 1], [1, 2], [2, 3]]
    with pytest.raises(MissingDataError, match="without a gap"):
        panel.windows(2, gaps="skip")
    assert panel.windows(2, gaps="keep").tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize(("prices", "dates", "kind", "message"), [
    ({"BTC": [1.0, 2.0], "ETH": [1.0]}, None, ShapeError, "ETH"),
    ({"BTC": [1.0, 2.0]}, DAYS[:3], ShapeError, "length 3"),
    ({"BTC": [1.0, np.nan]}, DAYS[:2], NotFiniteError, "'BTC'.* was nan at 2024-01-02"),
    ({"BTC": [1.0, np.inf]}, None, NotFiniteError, "position 1"),
    ({"BTC": [1.0, 0.0]}, DAYS[:2], RangeError, "above 0"),
    ({"BTC": [1.0, 2.0], "ETH": [1.0, 2.0]}, {"BTC": DAYS[:2], "ETH": DAYS[1:3]}, RangeError,
     "aligned, 'BTC' has 2024-01-01 where 'ETH' has 2024-01-02"),
    ({"BTC": [1.0, 2.0], "ETH": [1.0, 2.0]}, {"BTC": DAYS[:2]}, MissingDataError, "'ETH'"),
    ({"BTC": [1.0, 2.0]}, [DAYS[1], DAYS[0]], RangeError, "must rise"),
    ({"BTC": [1.0, 2.0]}, [DAYS[0], DAYS[0]], RangeError, "duplicates"),
    ({"BTC": [1.0, 2.0]}, 5, ShapeError, "sequence of dates"),
    ({"BTC": [1.0, 2.0]}, DAYS[0], ShapeError, "sequence of dates"),
    ({"BTC": [1.0, 2.0]}, [1_700_000_000_000, 1_700_086_400_000], RangeError, "milliseconds"),
    ({}, None, RangeError, "prices"), ([1.0], None, RangeError, "prices"),
])
def test_bad_panels(prices, dates, kind, message):
    with pytest.raises(kind, match=message):
        PricePanel.of(prices, dates)


def test_bad_windows():
    panel = PricePanel.of({"BTC": [1.0, 2.0, 3.0]})
    for call in (lambda: panel.windows(3), lambda: panel.windows(0), lambda: panel.windows(gaps="hide")):
        with pytest.raises(MarginError):
            call()
