"""Times on the wire."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigil.server.api.wire_time import iso

FIRST_MS = -62_135_596_800_000  # 0001-01-01
LAST_MS = 253_402_300_799_999  # 9999-12-31


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-1000, "1969-12-31T23:59:59.000Z"),
        (1_795_338_000_000, "2026-11-22T09:00:00.000Z"),
        (1_795_338_000_070, "2026-11-22T09:00:00.070Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (FIRST_MS, "0001-01-01T00:00:00.000Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_has_milliseconds_and_is_utc(ms: int, text: str) -> None:
    assert iso(ms) == text


@given(st.integers(FIRST_MS, LAST_MS))
def test_every_time_reads_back_as_it_was(ms: int) -> None:
    text = iso(ms)
    assert len(text) == 24
    read = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert (read - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == ms


@given(st.integers(FIRST_MS, LAST_MS), st.integers(FIRST_MS, LAST_MS))
def test_later_times_sort_later_as_text(a: int, b: int) -> None:
    assert (iso(a) < iso(b)) == (a < b)


def test_a_time_outside_the_calendar_is_an_overflow() -> None:
    for ms in (FIRST_MS - 1, LAST_MS + 1):
        with pytest.raises(OverflowError):
            iso(ms)
