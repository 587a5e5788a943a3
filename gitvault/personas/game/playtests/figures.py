"""What sessions show: the state at a time, time per level, how two builds compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise, takewhile
from statistics import median
from typing import Any

from gitvault.errors import NotFoundError
from gitvault.personas.game.playtests.sessions import Session

Events = Sequence[Mapping[str, Any]]
"""As `sessions.events` gives them."""

DEATHS = frozenset({"death", "die", "died", "killed", "player_death", "player_died"})
_LEVEL_KEYS = ("level", "scene", "map")
_ENDS = ("level_end", "level_complete", "level_completed", "level_finished", "level_exit")


@dataclass(frozen=True, slots=True)
class Levels:
    """The way of a session through the game."""

    path: tuple[str, ...]
    """The levels in the order they were entered."""
    seconds: Mapping[str, float]
    deaths: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of some sessions, to be held against those of others."""

    sessions: int
    players: int
    hours: float
    crashes: int
    """Sessions that ended without saying so."""
    per_hour: Mapping[str, float]
    """Events by name."""
    level_seconds: Mapping[str, float]
    """Median over the sessions that were there."""
    reached: Mapping[str, int]
    """How many sessions entered each level: the funnel."""


def at(events: Events, moment: float) -> dict[str, Any]:
    """How things stood: the last state of each name until then, the level, and the events just before."""
    states: dict[str, Any] = {}
    before = [event for event in events if event["t"] <= moment]
    for event in before:
        if "s" in event:
            states[str(event["s"])] = event["d"]
    path = levels(before, moment).path
    recent = [event for event in before if "e" in event][-10:]
    return {"t": moment, "states": states, "level": path[-1] if path else None, "events": [dict(e) for e in recent]}


def levels(events: Events, end: float) -> Levels:
    """Which levels a session went through, how long it was in each, how often it ended there."""
    moves: list[tuple[float, str | None]] = []
    deaths: Counter[str] = Counter()
    for event in events:
        data = event["d"] if isinstance(event["d"], Mapping) else {}
        level = next((str(data[key]) for key in _LEVEL_KEYS if isinstance(data.get(key), str | int)), None)
        here = moves[-1][1] if moves else None
        if event.get("e") in _ENDS:
            moves.append((event["t"], None))
        elif level is not None and level != here:
            moves.append((event["t"], level))
            here = level
        if event.get("e") in DEATHS:
            deaths[here or ""] += 1
    seconds: Counter[str] = Counter()
    for (start, level), (stop, _) in pairwise([*moves, (max(end, moves[-1][0]) if moves else end, None)]):
        if level is not None:
            seconds[level] += max(0, stop - start)  # type: ignore[assignment]
    return Levels(tuple(level for _, level in moves if level is not None), dict(seconds), dict(deaths))


def compare(found: Iterable[tuple[Session, Events]]) -> Comparison:
    """The figures of some sessions. Raises NotFoundError when there are none."""
    counts: Counter[str] = Counter()
    times: dict[str, list[float]] = {}
    reached: Counter[str] = Counter()
    players: set[str] = set()
    number = crashes = 0
    hours = 0.0
    for session, events in found:
        number += 1
        crashes += session.cut
        players.add(session.player or session.id)
        lasted = _lasted(session)
        hours += lasted / 3600
        counts.update(str(event["e"]) for event in events if "e" in event)
        way = levels(events, lasted)
        reached.update(set(way.path))
        for level, seconds in way.seconds.items():
            times.setdefault(level, []).append(seconds)
    if not number:
        raise NotFoundError("no playtest is so; git-vault playtest list names them")
    rate = {name: round(count / hours, 3) if hours else float(count) for name, count in sorted(counts.items())}
    medians = {level: round(median(each), 3) for level, each in sorted(times.items())}
    return Comparison(number, len(players), round(hours, 4), crashes, rate, medians, dict(sorted(reached.items())))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a funnel."""

    name: str
    sessions: int
    """That came so far: they did this after all steps before."""


def funnel(found: Iterable[Events], steps: Sequence[str] = ()) -> list[Step]:
    """How many sessions did each step in this order: events by name, or, without steps, levels entered.

    Levels are in the order in which most sessions first came to them.
    """
    ways = [
        [str(event["e"]) for event in events if "e" in event] if steps else list(levels(events, 0.0).path)
        for events in found
    ]
    if not steps:
        places: dict[str, list[int]] = {}
        for way in ways:
            for place, level in enumerate(dict.fromkeys(way)):
                places.setdefault(level, []).append(place)
        steps = sorted(places, key=lambda level: (median(places[level]), -len(places[level]), level))
    counts = Counter(sum(1 for _ in _done(way, steps)) for way in ways)
    return [Step(name, sum(n for done, n in counts.items() if done > at)) for at, name in enumerate(steps)]


def _done(way: Sequence[str], steps: Sequence[str]) -> Iterator[str]:
    """The steps that were done, one after the other."""
    left = iter(way)
    return takewhile(lambda step: step in left, steps)


def _lasted(session: Session) -> float:
    start, end = (datetime.fromisoformat(text) for text in (session.start, session.end))
    return (end - start).total_seconds()
