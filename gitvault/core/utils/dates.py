"""Dates and durations as people type them: `2026-01-02T03:04:05Z`, `yesterday 14:30`, `2 days ago`; `36h`, `1y6m`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

FORMS = "2026-01-02, 2026-01-02T03:04:05Z, today, yesterday 14:30, 2 days ago"

# Compiled by those that are typed dates to read: the rest of this is on the way of `git vault vcs status`.
_DAY = r"(\d{4}-\d{2}-\d{2}|today|yesterday)(?:(?:\s+|[tT])(\d{1,2}:\S+))?"
_AGO = r"(an?|\d{1,9})[\s.]+(second|minute|hour|day|week|month|year)s?[\s.]+ago"
_UNITS = {"h": "hour", "d": "day", "w": "week", "m": "month", "y": "year"}


def parse(text: str, now: datetime, *, end: bool = False) -> datetime:
    """The moment that `text` names, in UTC.

    `now` is aware. What names no time zone is meant in the system's. A day without a time is its first
    moment, with `end` its last but never later than `now`. Raises ValueError, which lists what is understood.
    """
    words = text.strip().lower()
    try:
        return _moment(words, now.astimezone(), end).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a date; write it like: {FORMS}") from error


def age(seconds: float) -> str:
    """A time that has passed, in its largest unit: `3 days`."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} seconds"


def duration(text: str) -> tuple[tuple[int, str], ...]:
    """A duration's parts: how many of which unit. Raises ValueError."""
    parts = re.findall(r"([0-9]{1,6})([hdwmy])", text)
    if not parts or "".join(map("".join, parts)) != text:
        raise ValueError("expected a duration, such as 36h, 10d, 8w, 6m or 2y")
    return tuple((int(number), _UNITS[unit]) for number, unit in parts)


def _moment(words: str, now: datetime, end: bool) -> datetime:
    if words == "now":
        return now
    if match := re.fullmatch(_AGO, words):
        return earlier(now, 1 if match[1].startswith("a") else int(match[1]), match[2])
    match = re.fullmatch(_DAY, words)
    if match is None:
        raise ValueError(words)
    if match[1] == "today":
        day = now.date()
    elif match[1] == "yesterday":
        day = now.date() - timedelta(days=1)
    else:
        day = date.fromisoformat(match[1])
    if match[2]:
        hour = match[2] if match[2].index(":") == 2 else f"0{match[2]}"
        moment = datetime.combine(day, time.fromisoformat(hour.upper()))
        return moment if moment.tzinfo else moment.astimezone()
    if not end:
        return datetime.combine(day, time.min).astimezone()
    last = datetime.combine(day, time.max).astimezone()
    return min(last, now) if day <= now.date() else last


def earlier(now: datetime, count: int, unit: str) -> datetime:
    """The moment `count` units (`hour`, `day`, `week`, `month`, `year` ...) before; months are the system's calendar's.

    Raises ValueError, OverflowError where there is none.
    """
    if unit not in ("month", "year"):
        return now.astimezone(UTC) - timedelta(**{f"{unit}s": count})
    import calendar

    months = now.year * 12 + now.month - 1 - count * (12 if unit == "year" else 1)
    year, month = months // 12, months % 12 + 1
    # A month ago from the 31st is the last day of a shorter month.
    day = min(now.day, calendar.monthrange(year, month)[1])
    return now.replace(tzinfo=None, year=year, month=month, day=day).astimezone()
