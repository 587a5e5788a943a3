"""Which snapshots of a project stay: a pure function of their times and the rules.

As other backup programs do it: each rule names periods, and of each of the newest N periods that have a snapshot the
newest one stays; what no rule keeps goes. The newest snapshot of all always stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, tzinfo

from gitvault.core.models import SnapshotId
from gitvault.core.utils.dates import duration, earlier


@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep; each rule adds to the others, 0 and "" are none."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: str = ""
    """Everything that is no older than the newest by this: `36h`, `10d`, `8w`, `6m`, `2y`, `1y6m`."""
    milestones: bool = False
    """What a tag names."""

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


def _hour(moment: datetime) -> tuple[object, ...]:
    # With the offset: when clocks go back, one hour comes twice.
    return moment.year, moment.month, moment.day, moment.hour, moment.utcoffset()


_PERIODS: Mapping[str, Callable[[datetime], tuple[object, ...]]] = {
    "hourly": _hour,
    "daily": lambda moment: (moment.year, moment.month, moment.day),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
    "yearly": lambda moment: (moment.year,),
}


def kept(
    snapshots: Sequence[tuple[SnapshotId, datetime]],
    rules: Retention,
    now: datetime,
    *,
    milestones: Mapping[SnapshotId, str] | None = None,
    zone: tzinfo | None = None,
) -> dict[SnapshotId, tuple[str, ...]]:
    """Those that stay, each with the reasons for people.

    `snapshots`: newest first, as the chain has them, which clocks that went back may order otherwise: then rules on
    periods go by time, of equals the newer first. `milestones`: what stays because of a tag. `zone`: the one
    whose calendar counts, else the system's. Raises ValueError for a duration that is none.
    """
    reasons: dict[SnapshotId, list[str]] = {name: [] for name, _ in snapshots}
    if snapshots:
        reasons[snapshots[0][0]].append("newest")
    for name, _ in snapshots[: rules.last]:
        reasons[name].append("last")
    by_time = sorted(snapshots, key=lambda snapshot: snapshot[1], reverse=True)
    for rule, period_of in _PERIODS.items():
        left: int = getattr(rules, rule)
        last: tuple[object, ...] | None = None
        for name, moment in by_time:
            period = period_of(moment.astimezone(zone))
            if left and period != last:
                reasons[name].append(rule)
                left -= 1
            last = period
    if rules.within and snapshots:
        # Of a clock that was ahead nothing follows for the others.
        start = _before(min(by_time[0][1], now), rules.within)
        for name, moment in snapshots:
            if moment >= start:
                reasons[name].append(f"within {rules.within}")
    for name, label in (milestones or {}).items():
        if name in reasons:
            reasons[name].append(f"milestone {label}")
    return {name: tuple(why) for name, why in reasons.items() if why}


def _before(moment: datetime, text: str) -> datetime:
    parts = duration(text)
    try:
        for count, unit in parts:
            moment = earlier(moment.astimezone(), count, unit)
    except (ValueError, OverflowError):
        # Before the first year.
        return datetime.min.replace(tzinfo=UTC)
    return moment
