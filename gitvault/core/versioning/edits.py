"""What an edit does to the list of projects, and how two lists that were edited apart become one.

Each field remembers when it got its value. Of two values the later one counts, so it does not matter in which order
lists meet, nor how often, and no common ancestor is needed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from gitvault.core.models import Project

SHARED = ("archived", "chosen", "client", "phase", "relations", "tags")
"""Fields that are the project's, on whatever machine."""
MACHINE = ("detected", "mode", "path", "removed")
"""Fields of a project on one machine; unless edited, of the time when it was added there."""
_OWN = ("detected", "mode", "path")
_TICK = timedelta(microseconds=1)


def stamp(moment: datetime) -> str:
    """A time as edits are compared by."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def edited(project: Project, values: Mapping[str, object], now: datetime) -> Project:
    """The project with other values; those that are new are of now, and later than those they replace."""
    changed = {key: value for key, value in values.items() if getattr(project, key) != value}
    times = dict(project.edited)
    for key in changed:
        before, at = _time(project, key), stamp(now)
        # Clocks go back, and two edits may fall on one tick.
        times[key] = at if at > before else _after(before)
    return replace(project, **changed, edited=tuple(sorted(times.items())))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Edit:
    """What is to be different: new values of fields, and what goes into or out of `tags` and `relations`."""

    values: Mapping[str, object] = field(default_factory=dict)
    put: Mapping[str, Collection[object]] = field(default_factory=dict)
    taken: Mapping[str, Collection[object]] = field(default_factory=dict)

    def applied(self, project: Project, host: str, now: datetime) -> Project:
        """The project when it is edited on the machine `host`: what is another machine's own stays."""
        values = {key: value for key, value in self.values.items() if project.host == host or key not in _OWN}
        for key in (*self.put, *self.taken):
            words = {*getattr(project, key), *self.put.get(key, ())} - {*self.taken.get(key, ())}
            values[key] = tuple(sorted(words))
        return edited(project, values, now)


def registered(new: Project, others: Sequence[Project], gone: Project | None) -> Project:
    """A project that is new on its machine, with what it shares with other machines; `gone`: it was removed there."""
    if gone:
        again = {"path": new.path, "removed": False}
        new = edited(replace(gone, added=new.added), again, new.added)
    known = next((project for project in others if project.name == new.name and not project.removed), None)
    return _taken(new, known, SHARED) if known else new


def revived(project: Project, gone: Project) -> Project:
    """A project that takes the name of one that was removed on its machine: all of it is later."""
    over = edited(gone, {key: getattr(project, key) for key in (*MACHINE, *SHARED)}, project.added)
    return replace(project, edited=tuple(sorted(dict(sorted((*project.edited, *over.edited))).items())))


def renamed(project: Project, names: Mapping[str, str]) -> Project:
    """The project when some have other names, itself or those it is related to."""
    relations = tuple(sorted((kind, names.get(other, other)) for kind, other in project.relations))
    return replace(project, name=names.get(project.name, project.name), relations=relations)


def merge(ours: Iterable[Project], theirs: Iterable[Project]) -> list[Project]:
    """One list of two: each field as it was edited last, each project of either, and what was removed stays so.

    It is the same whichever comes first, and merging again changes nothing.
    """
    joined: dict[tuple[str, str], Project] = {}
    for project in (*ours, *theirs):
        key = project.name, project.host
        joined[key] = _joined(joined[key], project, (*MACHINE, *SHARED)) if key in joined else project
    agreed: dict[str, Project] = {}
    for project in joined.values():
        known = agreed.get(project.name)
        agreed[project.name] = _joined(known, project, SHARED) if known else project
    return [_taken(project, agreed[project.name], SHARED) for _, project in sorted(joined.items())]


def _joined(one: Project, other: Project, fields: Iterable[str]) -> Project:
    """The fields as they were edited last; of one time, the same whichever project is `one`."""
    added = max(one.added, other.added)
    values: dict[str, Any] = {}
    times = dict(sorted((*one.edited, *other.edited)))
    for key in fields:
        ranked = (
            (_time(project, key), json.dumps(getattr(project, key)), _explicit(project, key), number)
            for number, project in enumerate((one, other))
        )
        time, _, explicit, number = max(ranked)
        winner = (one, other)[number]
        values[key] = getattr(winner, key)
        times.pop(key, None)
        if explicit or (key in MACHINE and winner.added != added):
            times[key] = time
    unknown: dict[str, str] = {}
    for key in dict(one.unknown).keys() | dict(other.unknown).keys():
        ranked_texts = ((_time(project, key), dict(project.unknown).get(key, "")) for project in (one, other))
        unknown[key] = max(ranked_texts)[1]
    return replace(
        one, added=added, edited=tuple(sorted(times.items())), unknown=tuple(sorted(unknown.items())), **values
    )


def _taken(project: Project, source: Project, fields: Collection[str]) -> Project:
    """The project with the source's fields, and their times."""
    times = [(key, time) for key, time in project.edited if key not in fields]
    times += [(key, time) for key, time in source.edited if key in fields]
    return replace(project, edited=tuple(sorted(times)), **{key: getattr(source, key) for key in fields})


def _time(project: Project, key: str) -> str:
    return dict(project.edited).get(key) or (stamp(project.added) if key in MACHINE else "")


def _explicit(project: Project, key: str) -> bool:
    return key in dict(project.edited)


def _after(time: str) -> str:
    moment = datetime.fromisoformat(time)
    return stamp(moment + _TICK) if moment < datetime.max.replace(tzinfo=UTC) else time
