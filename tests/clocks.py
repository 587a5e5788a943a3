"""A time that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime

START = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)


class Clock:
    """The vault's time, set by the test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now
