"""The history of symbols: which definition came, changed or went with which version; a SQLite table, and a cache.

A row is written only where the set of definitions of a file differs between two of its versions, so that 20,000
commits make about as many rows as they have changed functions. The blobs themselves stay where they are.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from gitvault.core.utils.files import create_private
from gitvault.core.utils.process import in_child
from gitvault.errors import LockedError
from gitvault.personas.code.search.languages import language_of
from gitvault.personas.code.search.model import Change
from gitvault.personas.code.search.symbols import Follower, Symbol

if TYPE_CHECKING:
    from gitvault.personas.code.search.query import Read

_Work = Sequence[tuple[str, bytes, list[Change]]]
"""Projects and paths with what changed there."""
# Changes: with fewer a second process has hardly begun when it ends.
_SECOND_FROM = 500
_FORMAT = 1
_SCHEMA = """
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS about(value TEXT);
CREATE TABLE IF NOT EXISTS known(version INT);
CREATE TABLE IF NOT EXISTS project(id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS place(id INTEGER PRIMARY KEY, project INT, path BLOB, UNIQUE(path, project));
CREATE TABLE IF NOT EXISTS symbol(id INTEGER PRIMARY KEY, language TEXT, kind TEXT, name TEXT, parent TEXT,
  UNIQUE(name, parent, kind, language));
CREATE TABLE IF NOT EXISTS event(symbol INT, place INT, version INT,
  old_blob BLOB, old_start INT, old_end INT, old_body INT, old_tokens INT,
  new_blob BLOB, new_start INT, new_end INT, new_body INT, new_tokens INT, settled INT);
CREATE INDEX IF NOT EXISTS event_symbol ON event(symbol);
CREATE INDEX IF NOT EXISTS event_came ON event(new_body) WHERE new_tokens >= 24;
CREATE INDEX IF NOT EXISTS event_went ON event(old_body) WHERE new_blob IS NULL;
COMMIT;
"""
# Of functions that are copied: shorter ones are getters and the like, which agree by chance.
LEAST_TOKENS = 24
# A line of a program's own making: over this many bytes on average a file is minified.
_LONG_LINES = 400


class When(NamedTuple):
    """Where a version stands: which line of which repository's history it is on, and its time."""

    line: int
    time: int


Lines = Mapping[int, When]
"""The versions that count, by number."""


@dataclass(frozen=True, slots=True)
class Event:
    """What one version did to one symbol: `old` and `new` are its places before and after, None for none."""

    version: int
    line: int
    path: bytes
    old: Place | None
    new: Place | None
    settled: bool = False
    """Only for adding up, see Change."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition stands: a blob's id, lines from 1, the hash and the size of the body."""

    blob: bytes
    start: int
    end: int
    body: int
    tokens: int


@dataclass(frozen=True, slots=True)
class SymbolHistory:
    """A symbol of one project with all that happened to it, in the order of time."""

    project: str
    language: str
    kind: str
    name: str
    parent: str
    events: tuple[Event, ...]

    @property
    def alive(self) -> bool:
        """Whether the newest version of a line defines it."""
        count: Counter[int] = Counter()
        for event in self.events:
            count[event.line] += (event.new is not None) - (event.old is not None)
        return any(number > 0 for number in count.values())

    @property
    def last(self) -> Event:
        """The newest event that left it somewhere, or, of what never came, the newest."""
        return next((event for event in reversed(self.events) if event.new and not event.settled), self.events[-1])

    @property
    def place(self) -> Place:
        """Where it is, or was last."""
        place = self.last.new or self.last.old
        assert place
        return place

    @property
    def steps(self) -> tuple[Event, ...]:
        """The events, each told once.

        What went from one path and came to another in one version is one event, at the new path. What a snapshot
        brought before the commit of it, or a second line of history after the first, is not told again.
        """
        made: list[Event] = []
        first: dict[int, int] = {}
        there: Counter[tuple[int, int]] = Counter()
        for _, group in groupby(self.events, key=attrgetter("version")):
            events = list(group)
            told = [event for event in events if not event.settled]
            came = [event for event in told if not event.old]
            went = [event for event in told if not event.new]
            steps = [event for event in told if event.old and event.new]
            steps += [replace(to, old=of.old) for of, to in zip(went, came, strict=False)]
            steps += went[len(came) :] + came[len(went) :]
            for event in steps:
                if place := event.new:
                    moved = event.old is not None and event.old.body == place.body
                    if first.setdefault(place.body, event.line) != event.line:
                        continue
                    if there[event.line, place.body] > 0 and not moved and event.old:
                        continue
                elif event.old and there[event.line, event.old.body] <= 0:
                    continue
                made.append(event)
            for event in events:
                if event.old:
                    there[event.line, event.old.body] -= 1
                if event.new:
                    there[event.line, event.new.body] += 1
        return tuple(made)


@dataclass(frozen=True, slots=True)
class Copy:
    """A function with a body that others have too."""

    project: str
    path: bytes
    name: str
    language: str
    place: Place
    introduced: int
    """The version that brought this body."""
    removed: int | None
    """The version that took it away, or gave it another body; None: it is there in the newest."""


@dataclass(frozen=True, slots=True)
class Copies:
    """A function that is in several projects with the same body."""

    body: int
    tokens: int
    copies: tuple[Copy, ...]


class Ledger:
    """The table in one file; a damaged one, or that of another version of this program, is begun anew."""

    def __init__(self, file: Path, index: str = "") -> None:
        """`index`: which index the versions' numbers are of; a table of another one is begun anew."""
        self._file = file
        self._index = index
        self._db = self._open()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        for _ in range(2):
            try:
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    create_private(self._file)
                return _database(self._file, self._index)
            except (sqlite3.DatabaseError, OSError) as error:
                if "locked" in str(error):
                    raise LockedError(f"{self._file}: another run writes to it; wait for it") from error
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    os.unlink(f"{self._file}{ending}")
        return _database(":memory:", self._index)

    def known(self) -> int:
        """The newest version that has been read; -1 for none."""
        row = self._db.execute("SELECT version FROM known").fetchone()
        return int(row[0]) if row else -1

    def add(
        self,
        changes: Iterable[Change],
        read: Read,
        upto: int,
        *,
        reader: Callable[[], AbstractContextManager[Read]] | None = None,
        told: Callable[[int], None] = lambda changes: None,
    ) -> int:
        """Read what changed until version `upto`; how many files were parsed. Nothing when somebody else was quicker.

        `read` gives the content of a blob that a version has, None where it cannot be had. `reader`: opens another one,
        for a second process. `told`: how many changes have been read since it was called last.
        """
        files: dict[tuple[str, bytes], list[Change]] = defaultdict(list)
        for change in changes:
            files[change.project, change.path].append(change)
        before = self.known()
        told(sum(len(steps) for (_, path), steps in files.items() if not _may_have_symbols(path)))
        work = [(*key, steps) for key, steps in files.items() if _may_have_symbols(key[1])]
        # The longest first, and each process every second: both have as much to do.
        work.sort(key=lambda one: len(one[2]), reverse=True)
        many = reader if sum(len(steps) for *_, steps in work) >= _SECOND_FROM else None
        child = in_child(partial(_in_second, work[1::2], many)) if many else None
        rows, parsed = _read_all(work[::2] if child else work, read, told)
        if child:
            said = child.result()
            more, count = _unpacked(said) if said else _read_all(work[1::2], read, told)
            rows, parsed = rows + more, parsed + count
            told(sum(len(steps) for *_, steps in work[1::2]) if said else 0)
        # Parsing takes minutes, and nobody waits for it.
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            if self.known() == before:
                self._write(rows)
                self._db.execute("DELETE FROM known")
                self._db.execute("INSERT INTO known VALUES(?)", (upto,))
        return parsed

    def _write(self, rows: Iterable[_Row]) -> None:
        numbers: dict[tuple[str, tuple[object, ...]], int] = {}

        def number(table: str, **values: object) -> int:
            key = table, tuple(values.values())
            if key not in numbers:
                numbers[key] = self._id(table, values)
            return numbers[key]

        self._db.executemany(
            "INSERT INTO event VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    number("symbol", language=row.language, kind=row.kind, name=row.name, parent=row.parent),
                    number("place", project=number("project", name=row.project), path=row.path),
                    row.version,
                    *row.columns,
                )
                for row in rows
            ),
        )

    def _id(self, table: str, values: dict[str, object]) -> int:
        columns = ", ".join(values)
        row = self._db.execute(
            f"SELECT id FROM {table} WHERE {' AND '.join(f'{column}=?' for column in values)}", [*values.values()]
        ).fetchone()
        if row:
            return int(row[0])
        marks = ", ".join("?" * len(values))
        made = self._db.execute(f"INSERT INTO {table}({columns}) VALUES({marks})", [*values.values()]).lastrowid
        assert made is not None
        return made

    def find(
        self,
        name: str,
        lines: Lines,
        *,
        ignore_case: bool = False,
        projects: frozenset[str] | None = None,
        language: str = "",
    ) -> list[SymbolHistory]:
        """The symbols of a name, `Class.method` with what is around it; `*` and `?` stand for letters.

        Only what versions of `lines` did counts.
        """
        parent, _, last = name.rpartition(".")
        where = "symbol.name GLOB ?" if any(sign in last for sign in "*?") else "symbol.name=?"
        given: list[object] = [last.replace("[", "[[]") if "GLOB" in where else last]
        if ignore_case:
            where = "lower(symbol.name) GLOB lower(?)"
        if parent:
            where += " AND (symbol.parent=? OR symbol.parent LIKE '%.' || ?)"
            given += [parent, parent]
        if language:
            where += " AND symbol.language=?"
            given.append(language)
        return [
            found for found in self._histories(where, given, lines) if (projects is None or found.project in projects)
        ]

    def _histories(self, where: str, given: Sequence[object], lines: Lines) -> Iterator[SymbolHistory]:
        rows = self._db.execute(
            "SELECT project.name, language, kind, symbol.name, parent, event.version, path,"
            " old_blob, old_start, old_end, old_body, old_tokens, new_blob, new_start, new_end, new_body, new_tokens,"
            " settled"
            " FROM symbol JOIN event ON event.symbol=symbol.id JOIN place ON place.id=event.place"
            f" JOIN project ON project.id=place.project WHERE {where}",
            [*given],
        )
        grouped: dict[tuple[str, ...], list[Event]] = defaultdict(list)
        for project, language, kind, name, parent, version, path, old, *rest in rows:
            if not (when := lines.get(version)):
                continue
            before = Place(old, *rest[:4]) if old else None
            after = Place(*rest[4:9]) if rest[4] else None
            grouped[project, language, kind, name, parent].append(
                Event(version, when.line, path, before, after, bool(rest[9]))
            )
        for (project, language, kind, name, parent), events in grouped.items():
            events.sort(key=lambda event: (lines[event.version].time, event.version))
            yield SymbolHistory(project, language, kind, name, parent, tuple(events))

    def former(self, event: Event, project: str) -> str:
        """The name under which a definition with this body went in the version that brought it; "" for none."""
        if not event.new or event.old:
            return ""
        row = self._db.execute(
            "SELECT symbol.name FROM event JOIN symbol ON symbol.id=event.symbol JOIN place ON place.id=event.place"
            " JOIN project ON project.id=place.project"
            " WHERE old_body=? AND new_blob IS NULL AND version=? AND project.name=? ORDER BY symbol.name",
            (event.new.body, event.version, project),
        ).fetchone()
        return str(row[0]) if row else ""

    def copies(
        self, lines: Lines, *, projects: frozenset[str] | None = None, language: str = "", limit: int = 50
    ) -> list[Copies]:
        """Functions whose body is in two projects or more, the largest first."""
        bodies = self._db.execute(
            "SELECT new_body, MAX(new_tokens) AS size FROM event JOIN place ON place.id=event.place"
            " JOIN project ON project.id=place.project JOIN symbol ON symbol.id=event.symbol"
            " WHERE new_tokens>=? AND kind IN ('function', 'method')"
            " AND (?='' OR language=?) AND (? OR project.name IN (SELECT value FROM json_each(?)))"
            " GROUP BY new_body HAVING COUNT(DISTINCT project.id)>1 ORDER BY size DESC, new_body LIMIT ?",
            (LEAST_TOKENS, language, language, projects is None, _json(projects or ()), limit),
        )
        return [Copies(body, size, tuple(self._copies(body, projects, lines))) for body, size in bodies.fetchall()]

    def _copies(self, body: int, projects: frozenset[str] | None, lines: Lines) -> Iterator[Copy]:
        for found in self._histories("symbol.id IN (SELECT symbol FROM event WHERE new_body=?)", [body], lines):
            if projects is not None and found.project not in projects:
                continue
            here: dict[bytes, list[Event]] = defaultdict(list)
            for event in found.events:
                here[event.path].append(event)
            for path, events in here.items():
                came = [event for event in events if event.new and event.new.body == body]
                went = [event for event in events if event.old and event.old.body == body]
                if came and (place := came[-1].new):
                    removed = went[-1].version if len(went) >= len(came) else None
                    yield Copy(found.project, path, found.name, found.language, place, came[0].version, removed)


def _in_second(work: _Work, reader: Callable[[], AbstractContextManager[Read]]) -> bytes:
    """In a copy of this process: what is to be written for some files, packed."""
    with reader() as read:
        rows, parsed = _read_all(work, read, lambda changes: None)
    return msgpack.packb((rows, parsed), unicode_errors="surrogateescape")  # type: ignore[no-any-return]


def _unpacked(said: bytes) -> tuple[list[_Row], int]:
    rows, parsed = msgpack.unpackb(said, unicode_errors="surrogateescape", use_list=False)
    return [_Row(*row) for row in rows], parsed


def _read_all(work: _Work, read: Read, told: Callable[[int], None]) -> tuple[list[_Row], int]:
    """What is to be written for some files, and how often one was parsed."""
    rows: list[_Row] = []
    parsed = 0
    for project, path, steps in work:
        reader = _Reader(path)
        rows += reader.rows(project, sorted(steps, key=attrgetter("version")), read)
        parsed += reader.parsed
        told(len(steps))
    return rows, parsed


class _Row(NamedTuple):
    project: str
    path: bytes
    language: str
    kind: str
    name: str
    parent: str
    version: int
    columns: tuple[bytes | int | None, ...]


class _Reader:
    """The symbols of a file's versions; its language is told by its name, or by the first version that has a `#!`."""

    def __init__(self, path: bytes) -> None:
        self.language = language_of(path) or ""
        self.parsed = 0
        self._path = path
        self._follower: Follower | None = None

    def rows(self, project: str, steps: list[Change], read: Read) -> Iterator[_Row]:
        """What each change did to symbols."""
        for step, left, right in self._steps(steps, read):
            for old, new in _differences(left, right):
                symbol = new or old
                assert symbol
                named = symbol.kind, symbol.name, symbol.parent
                columns = *_columns(step.old, old), *_columns(step.new, new), step.settled
                yield _Row(project, self._path, self.language, *named, step.version, columns)

    def _steps(self, steps: list[Change], read: Read) -> Iterator[tuple[Change, list[Symbol], list[Symbol]]]:
        """Each change with the symbols before and after it."""
        needed = Counter(blob for step in steps for blob in (step.old, step.new))
        del needed[b""]
        found: dict[bytes, list[Symbol]] = {}
        # In the order of history: each version is parsed from the one before, which it shares most with.
        for step in steps:
            sides = []
            for blob in (step.old, step.new):
                # A submodule's commit is no blob.
                if len(blob) == 20 and blob not in found:
                    found[blob] = self._symbols(read(step.version, blob) or b"")
                sides.append(found.get(blob, []))
            yield step, sides[0], sides[1]
            # A file of 300 functions has thousands of versions: they are not all held.
            for blob in filter(None, (step.old, step.new)):
                needed[blob] -= 1
                if not needed[blob]:
                    found.pop(blob, None)

    def _symbols(self, content: bytes) -> list[Symbol]:
        self.language = self.language or language_of(self._path, content) or ""
        if not self.language or b"\0" in content[:8000] or len(content) > _LONG_LINES * (content.count(b"\n") + 1):
            return []
        self._follower = self._follower or Follower(self.language)
        self.parsed += 1
        return self._follower.follow(content)


def _may_have_symbols(path: bytes) -> bool:
    return bool(language_of(path)) or b"." not in path.rpartition(b"/")[2]


def _differences(old: list[Symbol], new: list[Symbol]) -> Iterator[tuple[Symbol | None, Symbol | None]]:
    """Definitions that came, went or have another body; several of one name are paired in their order."""
    if not old or not new:
        yield from ((symbol, None) for symbol in old)
        yield from ((None, symbol) for symbol in new)
        return
    before, after = _by_name(old), _by_name(new)
    for name in before.keys() | after.keys():
        left, right = before.get(name, []), after.get(name, [])
        for symbol in list(left):
            same = next((other for other in right if other.body == symbol.body), None)
            if same:
                left.remove(symbol)
                right.remove(same)
        paired = min(len(left), len(right))
        yield from zip(left[:paired], right[:paired], strict=True)
        yield from ((symbol, None) for symbol in left[paired:])
        yield from ((None, symbol) for symbol in right[paired:])


def _by_name(symbols: list[Symbol]) -> dict[tuple[str, str, str], list[Symbol]]:
    found: dict[tuple[str, str, str], list[Symbol]] = defaultdict(list)
    for symbol in symbols:
        found[symbol.kind, symbol.parent, symbol.name].append(symbol)
    return found


def _columns(blob: bytes, symbol: Symbol | None) -> tuple[bytes | int | None, ...]:
    if symbol is None:
        return (None,) * 5
    return blob, symbol.start_line, symbol.end_line, symbol.body, symbol.tokens


def _json(names: Iterable[str]) -> str:
    import json

    return json.dumps(sorted(names))


def _database(file: Path | str, index: str) -> sqlite3.Connection:
    db = sqlite3.connect(file, isolation_level=None, timeout=30)
    try:
        # A cache: it need not survive a power cut.
        db.execute("PRAGMA synchronous=OFF")
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.execute("PRAGMA journal_mode=WAL")
            db.executescript(_SCHEMA)
            db.execute("INSERT INTO about VALUES(?)", (index,))
            db.execute(f"PRAGMA user_version={_FORMAT}")
        if (
            db.execute("PRAGMA user_version").fetchone()[0] != _FORMAT
            or db.execute("SELECT value FROM about").fetchone()[0] != index
        ):
            raise sqlite3.DatabaseError("of another version, or another index")
    except BaseException:
        db.close()
        raise
    return db
