"""What is asked of the records: those that fit, and figures of all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gitvault.core.utils.names import to_line
from gitvault.errors import CorruptionError
from gitvault.personas.game.feedback import segments
from gitvault.personas.game.feedback.record import Feedback
from gitvault.personas.game.feedback.table import Table

_COLUMNS = (
    "id, time, source, kind, text, player, build, branch, platform, session, scene, rating, playtime, count, sig,"
    " stack, snapshot, confidence, purged, segment, said.start, length"
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records; every field that is set must fit."""

    build: str = ""
    """A build id, version, milestone, snapshot or commit."""
    kind: str = ""
    source: str = ""
    text: str = ""
    """Words that all stand in the text, or the beginnings of such."""
    since: datetime | None = None
    until: datetime | None = None
    player: str = ""
    """The hash."""
    sig: str = ""
    id: str = ""
    """32 hex digits."""
    limit: int | None = None
    """How many at the most, the newest ones."""


@dataclass(frozen=True, slots=True)
class BuildFigures:
    """What was said of one build."""

    snapshot: str
    """Empty for what nobody can tell the build of."""
    names: tuple[str, ...]
    """What records call it."""
    confidence: float
    """On average."""
    records: int
    players: int
    kinds: Mapping[str, int]
    rating: float | None
    """From 0 (bad) to 1 (good), on average; None where nobody rated."""
    playtime: float | None
    """Seconds, on average."""


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of all records."""

    records: int
    players: int
    kinds: Mapping[str, int]
    sources: Mapping[str, int]
    first: str
    last: str
    builds: tuple[BuildFigures, ...]
    """The newest first, what belongs to no build last."""
    signatures: tuple[tuple[str, int, int], ...]
    """Those with most players: signature, players, records."""


def find(table: Table, wanted: Wanted, *, raw: bool = False) -> Iterator[Feedback]:
    """The records that fit, newest first; `raw`: with what the source gave. Raises CorruptionError."""
    where, values = _condition(table, wanted)
    order = "ORDER BY time DESC, row" + (f" LIMIT {wanted.limit}" if wanted.limit is not None else "")
    rows = table.db.execute(f"SELECT {_COLUMNS} FROM said JOIN tie ON tie = number WHERE {where} {order}", values)
    if not raw:
        yield from map(_feedback, rows)
        return
    numbered = dict(table.db.execute("SELECT number, path FROM segment"))
    held: dict[int, bytes] = {}
    for row in rows:
        *_, segment, start, length = row
        if segment not in held:
            # One at a time: records of one time are in one segment, mostly.
            held = {segment: table.area.read(numbered[segment])}
        try:
            yield _feedback(row, json.loads(held[segment][start : start + length]).get("was", {}))
        except (ValueError, AttributeError) as error:
            raise CorruptionError(f"{to_line(numbered[segment])}: byte {start} begins no record ({error})") from error


def count(table: Table, wanted: Wanted) -> int:
    """How many records fit, whatever the limit."""
    where, values = _condition(table, wanted)
    [(number,)] = table.db.execute(f"SELECT count(*) FROM said WHERE {where}", values)
    return int(number)


def report(table: Table) -> Report:
    """Figures of all records, by build."""
    db = table.db
    builds = {}
    for snapshot, names, confidence, records, rating, playtime in db.execute(
        "SELECT snapshot, json_group_array(DISTINCT build), sum(confidence * n) / sum(n), sum(n),"
        " sum(rated) / sum(ratings), sum(played) / sum(plays) FROM"
        " (SELECT tie, count(*) AS n, sum(rating) AS rated, count(rating) AS ratings, sum(playtime) AS played,"
        "  count(playtime) AS plays FROM said GROUP BY tie) JOIN tie ON tie = number GROUP BY snapshot"
    ):
        builds[snapshot] = [tuple(filter(None, json.loads(names))), confidence, records, rating, playtime, 0, {}]
    kinds: dict[str, int] = {}
    sources: dict[str, int] = {}
    for snapshot, kind, source, number in db.execute(
        "SELECT snapshot, kind, source, sum(n) FROM"
        " (SELECT tie, kind, source, count(*) AS n FROM said GROUP BY tie, kind, source)"
        " JOIN tie ON tie = number GROUP BY 1, 2, 3"
    ):
        for counts, key in ((kinds, kind), (sources, source), (builds[snapshot][6], kind)):
            counts[key] = counts.get(key, 0) + number
    for snapshot, players in db.execute(
        "SELECT snapshot, count(DISTINCT player) FROM said JOIN tie ON tie = number GROUP BY snapshot"
    ):
        builds[snapshot][5] = players
    [(players,)] = db.execute("SELECT count(DISTINCT player) FROM said WHERE player IS NOT NULL")
    [(first, last)] = db.execute("SELECT min(time), max(time) FROM said")
    signatures = db.execute(
        "SELECT sig, count(DISTINCT player), count(*) FROM said WHERE sig <> '' GROUP BY sig ORDER BY 2 DESC, 3 DESC, 1"
        " LIMIT 10"
    ).fetchall()
    # Snapshots by age.
    history = table.history()
    ordered = sorted(builds, key=lambda one: (one == "", history.get(one, len(history))))
    return Report(
        records=sum(kinds.values()),
        players=players,
        kinds=dict(sorted(kinds.items())),
        sources=dict(sorted(sources.items())),
        first=_iso(first),
        last=_iso(last),
        builds=tuple(
            BuildFigures(one, names, round(sure, 2), records, who, dict(sorted(by_kind.items())), rating, playtime)
            for one in ordered
            for names, sure, records, rating, playtime, who, by_kind in [builds[one]]
        ),
        signatures=tuple(signatures),
    )


def purge(table: Table, wanted: Wanted) -> int:
    """Take out of the vault, and of this table, what the records that fit say; how many they were.

    Their ids stay, so that an import does not bring them back. Raises CorruptionError, LockedError, StorageFullError.
    """
    where, values = _condition(table, wanted)
    found: dict[bytes, set[str]] = {}
    for path, id in table.db.execute(
        f"SELECT path, id FROM said JOIN segment ON segment = number WHERE purged = 0 AND {where}", values
    ):
        found.setdefault(path, set()).add(id.hex())
    if found:
        segments.purge(table.area, found)
        table.forget()
    return sum(map(len, found.values()))


def _condition(table: Table, wanted: Wanted) -> tuple[str, list[Any]]:
    terms: list[str] = []
    values: list[Any] = []
    if wanted.build:
        meant = table.builds.resolve(wanted.build).snapshot
        terms.append("tie IN (SELECT number FROM tie WHERE build = ? OR (snapshot <> '' AND snapshot = ?))")
        values += [wanted.build, meant]
    for column, value in (("kind", wanted.kind), ("source", wanted.source), ("sig", wanted.sig)):
        if value:
            # The index of signatures has none that are empty, and the planner must see that.
            terms.append(f"{column} = ? AND {column} <> ''")
            values.append(value)
    for column, digits in (("player", wanted.player), ("id", wanted.id)):
        if digits:
            terms.append(f"{column} = ?")
            values.append(_digits(digits))
    for sign, moment in ((">=", wanted.since), ("<=", wanted.until)):
        if moment:
            terms.append(f"time {sign} ?")
            values.append(int(moment.timestamp()))
    if wanted.text:
        words = " ".join(f'"{word}"*' for word in _WORD.findall(wanted.text))
        terms.append("row IN (SELECT rowid FROM words WHERE words MATCH ?)" if words else "0")
        values += [words] if words else []
    return " AND ".join(terms) or "1", values


def _digits(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        # Nobody's.
        return b""


def _feedback(row: tuple[Any, ...], raw: Mapping[str, Any] | None = None) -> Feedback:
    id, time, source, kind, text, player, build, branch, platform, session, scene = row[:11]
    rating, playtime, number, sig, stack, snapshot, confidence, purged = row[11:19]
    return Feedback(
        id=id.hex(),
        time=_iso(time),
        source=source,
        kind=kind,
        text=text,
        player=player.hex() if player else "",
        build=build,
        branch=branch,
        platform=platform,
        session=session,
        scene=scene,
        rating=rating,
        playtime=playtime,
        count=number,
        sig=sig,
        stack=tuple(stack.split("\n")) if stack else (),
        snapshot=snapshot,
        confidence=confidence,
        purged=bool(purged),
        raw=raw or {},
    )


def _iso(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
