"""What is asked of the records: those that fit, and figures of all of them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from gitvault.core.utils.names import to_line
from gitvault.errors import CorruptionError
from gitvault.personas.game.feedback import segments
from gitvault.personas.game.feedback.record import Feedback
from gitvault.personas.game.feedback.rows import key_of
from gitvault.personas.game.feedback.table import WORDS, Table

_COLUMNS = (
    "id, time, source, kind, text, player, build, said.branch, platform, session, scene, rating, playtime, count, sig,"
    " stack, snapshot, confidence, purged, segment, said.start, length"
)
_ORDER = "ORDER BY time DESC, row"
_FIRST = 10
_LOOKED, _LONGEST = 2000, 4 << 20
"""How many of the newest records are looked through first for words, and characters of them."""
_LOOKUP = 25
"""How many records are passed by in their order while one is looked up."""
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
    newest, is_common = _newest(table, wanted)
    if newest is None:
        where, values = _condition(table, wanted, is_common=is_common)
    else:
        where, values = f"row IN ({','.join(map(str, newest))})", []
    if wanted.limit is not None:
        # Sorted without their texts.
        where = f"row IN (SELECT row FROM said WHERE {where} {_ORDER} LIMIT {wanted.limit})"
    rows = table.db.execute(f"SELECT {_COLUMNS} FROM said JOIN tie ON tie = number WHERE {where} {_ORDER}", values)
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
            raise CorruptionError(
                f"{to_line(numbered[segment])}: byte {start} begins no record ({error}); run git-vault verify"
            ) from error


def _newest(table: Table, wanted: Wanted) -> tuple[list[int] | None, bool]:
    """Rows that fit, the newest of all among them, when as many as are wanted stand among the newest records.

    So words that nearly everybody writes need no list of all who do. And whether the words are common: then records are
    better gone through by their time than looked up for each that has the words.
    """
    words = _words(wanted.text)
    if wanted.limit is None or wanted.limit > _LOOKED or not words:
        return None, False
    where, values = _condition(table, replace(wanted, text=""))
    rows = [row for (row,) in table.db.execute(f"SELECT row FROM said WHERE {where} {_ORDER} LIMIT {_LOOKED}", values)]
    with closing(sqlite3.connect(":memory:")) as few:
        few.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, content='', {WORDS})")
        size = 0
        for row, text in table.db.execute(f"SELECT row, text FROM said WHERE row IN ({','.join(map(str, rows))})"):
            size += len(text)
            if size > _LONGEST:
                return None, False
            few.execute("INSERT INTO words(rowid, text) VALUES(?, ?)", (row, text))
        found = [row for (row,) in few.execute("SELECT rowid FROM words WHERE words MATCH ?", (words,))]
    if len(found) >= wanted.limit or len(rows) < _LOOKED:
        return found, False
    [(last,)] = table.db.execute("SELECT max(row) FROM said")
    share = len(found) / len(rows)
    return None, share > 0 and wanted.limit / share < share * last * _LOOKUP


def _words(text: str) -> str:
    """What the index of words is asked for; empty for none."""
    return " ".join(f'"{word}"*' for word in _WORD.findall(text))


def count(table: Table, wanted: Wanted) -> int:
    """How many records fit, whatever the limit."""
    where, values = _condition(table, wanted)
    [(number,)] = table.db.execute(f"SELECT count(*) FROM said WHERE {where}", values)
    return int(number)


def report(table: Table) -> Report:
    """Figures of all records, by build."""
    db = table.db
    meant = {number: (snapshot, build, sure) for number, snapshot, build, sure in db.execute(_TIES)}
    kinds: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    builds: dict[str, _Tally] = {}
    for tie, kind, source, number, *sums in db.execute(_COUNTS):
        snapshot, build, sure = meant[tie]
        tally = builds.setdefault(snapshot, _Tally())
        tally.add(build, kind, number, sure, sums)
        kinds[kind] += number
        sources[source] += number
    # Made distinct by build in SQL they took twice as long; an index has all of them in order.
    for (tie,) in db.execute("SELECT DISTINCT tie FROM counted"):
        builds[meant[tie][0]].players.update(chain.from_iterable(db.execute(_PLAYERS, (tie,))))
    [(everybody,)] = db.execute("SELECT count(DISTINCT who) FROM said INDEXED BY by_player WHERE who IS NOT NULL")
    [(first,)], [(last,)] = (db.execute(f"SELECT {which}(time) FROM said") for which in ("min", "max"))
    # Snapshots by age.
    history = table.history()
    ordered = sorted(builds, key=lambda snapshot: (snapshot == "", history.get(snapshot, len(history)), snapshot))
    return Report(
        records=kinds.total(),
        players=everybody,
        kinds=dict(sorted(kinds.items())),
        sources=dict(sorted(sources.items())),
        first=_iso(first),
        last=_iso(last),
        builds=tuple(builds[snapshot].figures(snapshot) for snapshot in ordered),
        signatures=tuple(_signatures(table)),
    )


_TIES = "SELECT number, snapshot, build, confidence FROM tie"
_COUNTS = "SELECT tie, kind, source, records, rating, rated, playtime, played FROM counted"
_PLAYERS = "SELECT who FROM said INDEXED BY by_tie WHERE tie = ? AND who IS NOT NULL"


class _Tally:
    """What adds up to the figures of a build."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.players: set[int] = set()
        self.kinds: Counter[str] = Counter()
        self.sure = 0.0
        # Ratings, how many; playtimes, how many.
        self.sums = [0.0] * 4

    def add(self, build: str, kind: str, number: int, sure: float, sums: Sequence[float]) -> None:
        self.names.add(build)
        self.kinds[kind] += number
        self.sure += sure * number
        self.sums = [a + b for a, b in zip(self.sums, sums, strict=True)]

    def figures(self, snapshot: str) -> BuildFigures:
        records = self.kinds.total()
        rated, ratings, played, plays = self.sums
        return BuildFigures(
            snapshot=snapshot,
            names=tuple(sorted(filter(None, self.names))),
            confidence=round(self.sure / records, 2),
            records=records,
            players=len(self.players),
            kinds=dict(sorted(self.kinds.items())),
            rating=rated / ratings if ratings else None,
            playtime=played / plays if plays else None,
        )


def _signatures(table: Table) -> list[tuple[str, int, int]]:
    """The signatures with most players."""
    best: list[tuple[int, int, str]] = []
    counted = table.db.execute(
        "SELECT sig, count(*) FROM said INDEXED BY by_sig WHERE sig <> '' GROUP BY sig ORDER BY 2 DESC, 1"
    ).fetchall()
    for sig, number in counted:
        # No more players than records: none that comes now can be among the first.
        if len(best) >= _FIRST and number < best[-1][0]:
            break
        [(players,)] = table.db.execute(
            "SELECT count(DISTINCT who) FROM said INDEXED BY by_sig WHERE sig = ? AND sig <> ''", (sig,)
        )
        best = sorted([*best, (players, number, sig)], key=lambda one: (-one[0], -one[1], one[2]))[:_FIRST]
    return [(sig, players, number) for players, number, sig in best]


def purge(table: Table, wanted: Wanted) -> int:
    """Take out of the vault, and of this table, what the records that fit say; how many they were.

    Their ids stay, so that an import does not bring them back. Raises CorruptionError, LockedError, StorageFullError.
    """
    segments.settle(table.area)
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


def _condition(table: Table, wanted: Wanted, *, is_common: bool = False) -> tuple[str, list[Any]]:
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
    if wanted.id:
        terms.append("row IN (SELECT row FROM known WHERE key = ?) AND id = ?")
        values += _digits(wanted.id)
    if wanted.player:
        terms.append("who = ? AND player = ?")
        values += _digits(wanted.player)
    for sign, moment in ((">=", wanted.since), ("<=", wanted.until)):
        if moment:
            terms.append(f"time {sign} ?")
            values.append(int(moment.timestamp()))
    if wanted.text:
        words = _words(wanted.text)
        # With a plus SQLite does not begin with these rows.
        row = "+row" if is_common else "row"
        terms.append(f"{row} IN (SELECT rowid FROM words WHERE words MATCH ?)" if words else "0")
        values += [words] if words else []
    return " AND ".join(terms) or "1", values


def _digits(text: str) -> tuple[int, bytes]:
    """What stands for 32 hex digits in the table; anything else is nobody's."""
    return (key_of(text), bytes.fromhex(text)) if re.fullmatch("[0-9a-f]{32}", text) else (0, b"")


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
