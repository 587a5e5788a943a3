"""What the records say of each build: who met which trouble, how much was played, and what may have caused it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import Filter, SnapshotId
from gitvault.core.utils.names import to_line
from gitvault.errors import NotFoundError
from gitvault.personas.game.feedback import Feedback, Table, Wanted, find
from gitvault.personas.game.insight import categories
from gitvault.personas.game.insight.changes import Side, between, is_readable
from gitvault.personas.game.insight.clues import clues
from gitvault.personas.game.insight.signatures import signature
from gitvault.personas.game.insight.spikes import RATE, WINDOW, Played, Spike, spikes
from gitvault.personas.game.insight.suspects import Suspect, suspects

if TYPE_CHECKING:
    from gitvault.vault import Vault

_RECORDS = 200
_NEWEST = 30
_CATEGORISED = 100_000
_EXAMPLES, _EXAMPLE_LENGTH = 5, 300
_FEWEST_RATED = 20
"""Records with a playtime that a build must have before hours say how much it was played."""
# One row for each record that is of a trouble; a build is its snapshot, where that is known.
_BUILD = "CASE WHEN snapshot <> '' THEN snapshot ELSE build END"
_SIG = (
    "CASE WHEN sig <> '' AND (stack = '' OR substr(text, 1, length(sig)) <> sig) THEN sig"
    " ELSE signature(kind, sig, text, stack) END"
)
_TROUBLE = "(sig <> '' OR stack <> '' OR kind IN ('crash', 'error'))"
# Reports that nobody signed: one for a session or a minute, or a machine that sends hundreds would be hundreds.
_WHO = "coalesce(player, nullif(session, ''), time / 60, row)"


@dataclass(frozen=True, slots=True)
class Build:
    """A build that records are of."""

    name: str
    """As records call it, else the beginning of its snapshot's id."""
    snapshot: str
    """Empty for one that nobody can tell."""
    sessions: int
    hours: float
    players: int


@dataclass(frozen=True, slots=True)
class Rises:
    """What rose, and by what it was measured."""

    spikes: list[Spike]
    builds: list[Build]
    """Oldest first."""
    per: str
    """What `before` and `after` are for 1,000 of: `sessions`, `hours` or `players`."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What may have caused a trouble."""

    older: SnapshotId
    newer: SnapshotId
    records: int
    """How many of the reports were read."""
    suspects: list[Suspect]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A trouble of one build that nobody had in another."""

    sig: str
    players: int
    """Who met it in the older build."""
    of: int
    """Players of the older build,"""
    among: int
    """and of the newer one: nobody of a few says little."""


@dataclass(frozen=True, slots=True)
class ByCategory:
    """How many spoke of something."""

    name: str
    records: int
    players: int
    examples: tuple[tuple[str, str], ...]
    """Some of the newest: the rule that fits, and the text."""


def by_category(vault: Vault, table: Table, build: str = "") -> list[ByCategory]:
    """What feedback is about, of a build or of all, by the project's rules; the most players first.

    Of more than 100,000 records the newest. Raises ConfigError for rules that cannot be read.
    """
    rules = categories.of_project(Path(vault.project(table.project).path))
    counts: dict[str, int] = {}
    players: dict[str, set[str]] = {}
    examples: dict[str, list[tuple[str, str]]] = {}
    for record in find(table, Wanted(build=build, limit=_CATEGORISED)):
        if record.kind in ("event", "session"):
            continue
        for name, why in rules.matches(record):
            counts[name] = counts.get(name, 0) + 1
            players.setdefault(name, set()).add(record.player or record.id)
            if len(shown := examples.setdefault(name, [])) < _EXAMPLES and record.text:
                shown.append((why, " ".join(record.text.split())[:_EXAMPLE_LENGTH]))
    found = [ByCategory(name, many, len(players[name]), tuple(examples[name])) for name, many in counts.items()]
    return sorted(found, key=lambda one: (-one.players, -one.records, one.name))


def played_builds(vault: Vault, table: Table) -> list[Build]:
    """The builds that records are of, oldest first."""
    return _builds(vault, table)[1]


def rises(vault: Vault, table: Table, *, build: str = "", rate: float = RATE) -> Rises:
    """Which signatures rose in one of the newest 30 builds, or in that one.

    Raises NotFoundError for a build without records.
    """
    keys, builds = _builds(vault, table)
    last = len(keys)
    if build:
        resolved = table.builds.resolve(build).snapshot
        fitting = [
            n for n, (key, one) in enumerate(zip(keys, builds, strict=True)) if key == resolved or one.name == build
        ]
        if not fitting:
            raise NotFoundError(
                f"{to_line(build.encode())}: no feedback of this build; git-vault feedback report lists them"
            )
        last = fitting[-1] + 1
    # Of hundreds of builds these records are a tenth.
    first = max(0, last - (1 if build else _NEWEST) - WINDOW)
    keys, builds = keys[first:last], builds[first:last]
    per, played = _played(builds)
    names = dict(zip(keys, (one.name for one in builds), strict=True))
    found = spikes(
        _counts(table, keys),
        [Played(key, many) for key, many in zip(keys, played, strict=True)],
        rate=rate,
        only=keys[-1] if build else None,
    )
    shown = [
        Spike(one.sig, (names[one.builds[0]], names[one.builds[1]]), one.players, one.before, one.after, one.q)
        for one in found
    ]
    return Rises(shown, builds, per)


def suspicion(vault: Vault, table: Table, sig: str, *, older: str = "", newer: str = "") -> Suspicion:
    """What changed between two builds, the likeliest cause of a signature first.

    Without builds those between which it rose. Raises NotFoundError for a signature nobody reported, and where the
    builds cannot be told.
    """
    records = list(_of(table, sig))
    if not records:
        raise NotFoundError(
            f"{to_line(sig.encode())}: no such signature; git-vault feedback spikes lists those that rose"
        )
    a, b = _between(vault, table, sig, older, newer)
    changes = between(vault, a, b)
    sides = Side(vault, a), Side(vault, b)
    changed = {one.path for one in changes}
    folder = Path(vault.project(table.project).path)
    told = clues(records)
    return Suspicion(
        a,
        b,
        len(records),
        suspects(
            told,
            changes,
            sides[0].read,
            sides[1].read,
            topics=categories.of_project(folder).topics,
            numbers=dict((*sides[0].numbers(), *sides[1].numbers())) if told.guids or _is_unity(sides[1]) else {},
            others=[path for path in sides[1].sizes if path not in changed and is_readable(path)],
        ),
    )


def resolved(vault: Vault, table: Table, older: str, newer: str) -> list[Resolved]:
    """Which signatures were reported in one snapshot and by nobody in the other, those of most players first.

    None where nobody is known to have played either.
    """
    players = {key: one.players for key, one in zip(*_builds(vault, table), strict=True)}
    if not (players.get(older) and players.get(newer)):
        return []
    counts = _counts(table, [older, newer])
    found = [Resolved(sig, a, players[older], players[newer]) for sig, (a, b) in counts.items() if a and not b]
    return sorted(found, key=lambda one: (-one.players, one.sig))


def _is_unity(side: Side) -> bool:
    return b"ProjectSettings/ProjectVersion.txt" in side.sizes


def _between(vault: Vault, table: Table, sig: str, older: str, newer: str) -> tuple[SnapshotId, SnapshotId]:
    """The two builds that are named, else those between which it rose most."""

    def named(text: str) -> SnapshotId:
        return SnapshotId(table.builds.resolve(text).snapshot or vault.resolve(text))

    if newer:
        b = named(newer)
    else:
        keys, builds = _builds(vault, table)
        row = _counts(table, keys, sig).get(sig, [0] * len(keys))
        known = [number for number, one in enumerate(builds) if one.snapshot and row[number]]
        if not known:
            raise NotFoundError(f"{to_line(sig.encode())}: nobody said of which build; name two with --from A --to B")
        _, played = _played(builds)
        rates = [many / played[number] if played[number] else 0.0 for number, many in enumerate(row)]
        # Before the first build that is known nobody had it.
        rose = {number: rates[number] - (rates[number - 1] if number else 0.0) for number in known}
        number = max(known, key=lambda one: (rose[one], -one))
        b = SnapshotId(builds[number].snapshot)
        before = [one.snapshot for one in builds[:number] if one.snapshot]
        if not older and before:
            return SnapshotId(before[-1]), b
    if older:
        return named(older), b
    history = [one.id for one in vault.list_snapshots(Filter(project=table.project))]
    behind = history[history.index(b) + 1 :] if b in history else []
    if not behind:
        raise NotFoundError(f"{b[:12]}: is the first snapshot; name an older build with --from A")
    return behind[0], b


def _of(table: Table, sig: str) -> Iterator[Feedback]:
    """The newest 200 records of a signature, the source's own or ours."""
    _define(table)
    rows = table.db.execute(
        f"SELECT id FROM said WHERE {_TROUBLE} AND (sig = ? OR {_SIG} = ?) ORDER BY time DESC LIMIT {_RECORDS}",
        (sig, sig),
    ).fetchall()
    for (id,) in rows:
        yield from find(table, Wanted(id=id.hex()))


def _define(table: Table) -> None:
    # The same crash comes with the same text and stack many times.
    @lru_cache(1 << 16)
    def named(kind: str, sig: str, text: str, stack: str) -> str:
        frames = tuple(stack.split("\n")) if stack else ()
        return signature(Feedback("", "", "", kind, text=text, sig=sig, stack=frames))

    table.db.create_function("signature", 4, named, deterministic=True)


def _counts(table: Table, keys: list[str], sig: str = "") -> Mapping[str, list[int]]:
    """By signature the distinct players who met it in each build."""
    _define(table)
    place = {key: number for number, key in enumerate(keys)}
    found: dict[str, list[int]] = {}
    numbers = [str(number) for number, key in table.db.execute(f"SELECT number, {_BUILD} FROM tie") if key in place]
    narrow, values = (f" AND (sig = ? OR {_SIG} = ?)", (sig, sig)) if sig else ("", ())
    for name, key, many in table.db.execute(
        f"SELECT {_SIG}, {_BUILD}, count(DISTINCT {_WHO}) FROM said JOIN tie ON tie = number"
        f" WHERE tie IN ({','.join(numbers)}) AND {_TROUBLE}{narrow} GROUP BY 1, 2",
        values,
    ):
        if name:
            found.setdefault(sig or name, [0] * len(keys))[place[key]] += many
    return found


def _builds(vault: Vault, table: Table) -> tuple[list[str], list[Build]]:
    """What tells builds apart, and the builds, oldest first; what belongs to none is left out."""
    when = {one.id: (one.time, -place) for place, one in enumerate(vault.list_snapshots(Filter(project=table.project)))}
    tested = _tested(vault, table.project)
    rows = []
    for key, snapshot, name, first, sessions, seconds, rated, players in table.db.execute(
        f"SELECT {_BUILD}, max(snapshot), min(nullif(build, '')), min(time),"
        " count(DISTINCT CASE WHEN kind IN ('session', 'event') THEN coalesce(nullif(session, ''),"
        " CASE WHEN kind = 'session' THEN row END) END), sum(playtime), count(playtime),"
        f" count(DISTINCT {_WHO}) FROM said JOIN tie ON tie = number GROUP BY 1"
    ):
        if not key:
            continue
        moment = when.get(SnapshotId(snapshot)) or (datetime.fromtimestamp(first or 0, UTC), 0)
        hours = (seconds or 0.0) / 3600 if rated >= _FEWEST_RATED else 0.0
        many = sessions + tested.get(key, 0) + (tested.get(name, 0) if name != key else 0)
        rows.append((moment, _natural(name or ""), key, Build(name or snapshot[:12], snapshot, many, hours, players)))
    rows.sort(key=lambda row: row[:2])
    return [row[2] for row in rows], [row[3] for row in rows]


def _natural(name: str) -> list[tuple[int, str]]:
    """1.10 after 1.9."""
    import re

    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name)]


def _tested(vault: Vault, project: str) -> dict[str, int]:
    """How many playtests there are of each build, by snapshot where that is known."""
    from gitvault.personas.game.playtests import sessions

    found: dict[str, int] = {}
    for one in sessions(vault, project):
        key = one.snapshot or one.build
        found[key] = found.get(key, 0) + 1
    return found


def _played(builds: list[Build]) -> tuple[str, list[float]]:
    """How much each build was played, by the best measure that there is of all of them."""
    if all(one.sessions for one in builds):
        return "sessions", [float(one.sessions) for one in builds]
    if all(one.hours for one in builds):
        return "hours", [one.hours for one in builds]
    return "players", [float(one.players) for one in builds]
