"""Which snapshots stay: a table of what people expect of each rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gitvault.core.backup_engine.retention import Retention, kept
from gitvault.core.models import SnapshotId
from gitvault.core.utils.dates import duration

NOW = datetime(2024, 5, 15, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def at(*texts: str) -> list[tuple[SnapshotId, datetime]]:
    """Snapshots named by their times, in the order in which they are given."""
    return [(SnapshotId(text), datetime.fromisoformat(text.partition("#")[0]).replace(tzinfo=UTC)) for text in texts]


def stay(rules: Retention, *texts: str, zone: ZoneInfo | None = None, now: datetime = NOW) -> list[str]:
    return list(kept(at(*texts), rules, now, zone=zone or UTC))


WEEKS = ("2024-05-15", "2024-05-14", "2024-05-13", "2024-05-12", "2024-05-06", "2024-05-05", "2024-04-30", "2023-12-31")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Retention(last=1), WEEKS[:1]),
        (Retention(last=3), WEEKS[:3]),
        (Retention(last=99), WEEKS),
        (Retention(daily=2), WEEKS[:2]),
        # Days without a snapshot do not count.
        (Retention(daily=6), WEEKS[:6]),
        # Weeks begin on Monday: the 13th, the 6th, April 29th.
        (Retention(weekly=1), ("2024-05-15",)),
        (Retention(weekly=2), ("2024-05-15", "2024-05-12")),
        (Retention(weekly=3), ("2024-05-15", "2024-05-12", "2024-05-05")),
        # The last day of 2023 and the week of April 29th.
        (Retention(weekly=9), ("2024-05-15", "2024-05-12", "2024-05-05", "2023-12-31")),
        (Retention(monthly=2), ("2024-05-15", "2024-04-30")),
        (Retention(monthly=9), ("2024-05-15", "2024-04-30", "2023-12-31")),
        (Retention(yearly=1), ("2024-05-15",)),
        (Retention(yearly=2), ("2024-05-15", "2023-12-31")),
        (Retention(last=1, monthly=1, yearly=2), ("2024-05-15", "2023-12-31")),
        (Retention(within="2d"), WEEKS[:3]),
        (Retention(within="48h"), WEEKS[:3]),
        (Retention(within="47h"), WEEKS[:2]),
        (Retention(within="1w"), WEEKS[:4]),
        (Retention(within="1m"), WEEKS[:7]),
        (Retention(within="4m17d"), WEEKS),
        (Retention(within="4m12d"), WEEKS[:7]),
        (Retention(within="2y"), WEEKS),
        (Retention(within="9999y"), WEEKS),
        (Retention(within="999999d"), WEEKS),
        # What no rule keeps goes; the newest never does.
        (Retention(), WEEKS[:1]),
    ],
)
def test_rules(rules: Retention, expected: tuple[str, ...]) -> None:
    assert stay(rules, *WEEKS) == list(expected)


def test_hours_and_the_newest_of_each() -> None:
    times = ("2024-05-15T11:59", "2024-05-15T11:00", "2024-05-15T10:59", "2024-05-14T11:30")
    assert stay(Retention(hourly=2), *times) == [times[0], times[2]]
    assert stay(Retention(hourly=9), *times) == [times[0], times[2], times[3]]


def test_the_days_are_those_of_the_time_zone() -> None:
    # 23:30 and 00:30 in Berlin.
    times = ("2024-05-14T22:30", "2024-05-14T21:30")
    assert stay(Retention(daily=9), *times, zone=BERLIN) == list(times)
    assert stay(Retention(daily=9), *times) == [times[0]]


def test_when_clocks_go_back_one_hour_comes_twice() -> None:
    """Both half past two are hours of their own; the day has 25 of them and is one day."""
    times = ("2023-10-29T01:30", "2023-10-29T00:30", "2023-10-28T23:30")
    assert stay(Retention(hourly=9), *times, zone=BERLIN) == list(times)
    assert stay(Retention(daily=9), *times, zone=BERLIN) == [times[0]]


def test_when_clocks_go_forward_a_day_is_a_day() -> None:
    times = ("2024-03-31T21:59", "2024-03-30T23:00", "2024-03-30T22:59")
    assert stay(Retention(daily=9), *times, zone=BERLIN) == [times[0], times[2]]


def test_of_one_moment_the_one_that_was_taken_later_is_the_newer() -> None:
    times = ("2024-05-15T11:00#b", "2024-05-15T11:00#a", "2024-05-14T11:00#b", "2024-05-14T11:00#a")
    assert stay(Retention(daily=2), *times) == [times[0], times[2]]
    assert stay(Retention(last=2), *times) == [times[0], times[1]]


def test_a_clock_that_went_back_costs_no_newest_snapshot() -> None:
    """The chain says which is newest; of a day it is the time that does."""
    times = ("2024-05-01", "2024-05-14", "2024-05-13")
    assert stay(Retention(last=1), *times) == ["2024-05-01"]
    assert stay(Retention(daily=1), *times) == ["2024-05-01", "2024-05-14"]


def test_a_clock_that_was_ahead_does_not_empty_the_span() -> None:
    times = ("2040-01-01", "2024-05-14", "2024-04-01")
    assert stay(Retention(within="10d"), *times) == ["2040-01-01", "2024-05-14"]


def test_the_span_counts_from_the_newest_not_from_now() -> None:
    """A project that rests for a year loses nothing by it."""
    later = NOW + timedelta(days=365)
    assert stay(Retention(within="2d"), *WEEKS, now=later) == list(WEEKS[:3])


def test_milestones_stay_and_every_reason_is_told() -> None:
    found = kept(
        at(*WEEKS),
        Retention(last=2, yearly=1, within="1d", milestones=True),
        NOW,
        milestones={SnapshotId("2024-05-05"): "v1", SnapshotId("elsewhere"): "v0"},
        zone=UTC,
    )
    assert found == {
        "2024-05-15": ("newest", "last", "yearly", "within 1d"),
        "2024-05-14": ("last", "within 1d"),
        "2024-05-05": ("milestone v1",),
    }


def test_nothing_stays_of_nothing_and_no_rule_is_false() -> None:
    assert kept([], Retention(last=1, within="1d"), NOW) == {}
    assert not Retention()
    assert all((Retention(last=1), Retention(within="1d"), Retention(milestones=True)))


def test_a_duration() -> None:
    assert duration("1y6m10d") == ((1, "year"), (6, "month"), (10, "day"))
    for wrong in ("", "d", "10", "10 d", "10x", "-1d", "1d2", "1.5d"):
        with pytest.raises(ValueError, match="expected a duration"):
            duration(wrong)
