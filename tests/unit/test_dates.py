"""Dates as people type them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from gitvault.core.utils import dates

NOW = datetime(2026, 3, 31, 12, 30, 15, tzinfo=UTC)


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system's time zone is New York's: UTC-5 in winter, UTC-4 from 8 March 2026 on."""
    if sys.platform == "win32":
        pytest.skip("Windows has no tzset")
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", "2026-01-02T05:00:00"),
        ("2026-03-20", "2026-03-20T04:00:00"),
        ("2026-01-02 03:04", "2026-01-02T08:04:00"),
        ("2026-01-02T03:04:05", "2026-01-02T08:04:05"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05"),
        ("2026-01-02t03:04:05z", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04:05.5+02:00", "2026-01-02T01:04:05.500000"),
        ("today", "2026-03-31T04:00:00"),
        ("Yesterday", "2026-03-30T04:00:00"),
        ("yesterday 9:30", "2026-03-30T13:30:00"),
        (" now ", "2026-03-31T12:30:15"),
        ("90 seconds ago", "2026-03-31T12:28:45"),
        ("an hour ago", "2026-03-31T11:30:15"),
        ("2.days.ago", "2026-03-29T12:30:15"),
        ("30 days ago", "2026-03-01T12:30:15"),
        ("3 weeks ago", "2026-03-10T12:30:15"),
        ("1 month ago", "2026-02-28T13:30:15"),
        ("4 months ago", "2025-11-30T13:30:15"),
        ("2 years ago", "2024-03-31T12:30:15"),
    ],
)
def test_a_date_is_read_in_the_systems_time_zone(new_york: None, text: str, expected: str) -> None:
    assert dates.parse(text, NOW) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02", "2026-01-03T04:59:59.999999"),
        ("yesterday", "2026-03-31T03:59:59.999999"),
        ("today", "2026-03-31T12:30:15"),
        ("2026-04-02", "2026-04-03T03:59:59.999999"),
        ("2026-01-02 03:04", "2026-01-02T08:04:00"),
        ("2 days ago", "2026-03-29T12:30:15"),
    ],
)
def test_the_end_of_a_day_is_its_last_moment_but_not_in_the_future_of_today(
    new_york: None, text: str, expected: str
) -> None:
    assert dates.parse(text, NOW, end=True) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "frog",
        "20260102",
        "2026-13-01",
        "2026-02-30",
        "2026-01-02 25:00",
        "99999999 years ago",
        "999999999 days ago",
    ],
)
def test_what_is_no_date_says_what_would_be(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date") as caught:
        dates.parse(text, NOW)
    assert dates.FORMS in str(caught.value)


def test_earlier_by_the_calendar(new_york: None) -> None:
    """A month before the 31st is the last day of a shorter one; a day is 24 hours, whatever the clocks do."""
    moment = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert dates.earlier(moment.astimezone(), 1, "month") == datetime(2026, 2, 28, 13, tzinfo=UTC)
    assert dates.earlier(moment.astimezone(), 2, "year") == datetime(2024, 3, 31, 12, tzinfo=UTC)
    assert dates.earlier(moment.astimezone(), 30, "day") == datetime(2026, 3, 1, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="year"):
        dates.earlier(moment, 5000, "year")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (9 * 86400 + 5, "9 days")],
)
def test_an_age_in_its_largest_unit(seconds: float, text: str) -> None:
    assert dates.age(seconds) == text
