"""Which versions, paths and segments an index has: a SQLite table. A segment counts when it is named here."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from gitvault.core.utils.files import create_private
from gitvault.errors import LockedError, NotFoundError, StorageFullError
from gitvault.personas.code.search.history import Commit
from gitvault.personas.code.search.model import SVN, Source, Version

FORMAT = 1
"""Of all files of an index; one with another number is made anew."""
_GONE = -1
"""The line of versions that are no longer on any."""
_LAST_SECOND = 253_370_764_800
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about(key TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS source(id INTEGER PRIMARY KEY, project TEXT, folder TEXT, branch TEXT, checkout TEXT,
  stamp BLOB, shallow BLOB, UNIQUE(project, folder, branch, checkout));
CREATE TABLE IF NOT EXISTS version(number INTEGER PRIMARY KEY, source INT, oid BLOB, line INT, id BLOB, time INT,
  author TEXT, subject TEXT);
CREATE INDEX IF NOT EXISTS by_source ON version(source);
CREATE TABLE IF NOT EXISTS path(id INTEGER PRIMARY KEY, project TEXT, path BLOB, UNIQUE(project, path));
CREATE TABLE IF NOT EXISTS segment(name TEXT PRIMARY KEY, size INT);
CREATE TABLE IF NOT EXISTS part(segment TEXT, project TEXT, UNIQUE(segment, project));
CREATE TABLE IF NOT EXISTS unread(source INT, path BLOB, versions INT, PRIMARY KEY(source, path));
"""
_SOME = 500


class Catalog:
    """The tables. What is said of a version (`id` ... `subject`) is there once its changes are in a segment."""

    def __init__(self, folder: Path) -> None:
        file = folder / "catalog.db"
        create_private(file)
        self._file = file
        self._inode = file.stat().st_ino
        self.db = sqlite3.connect(file, isolation_level=None, timeout=30)
        # It can be rebuilt: no sync.
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.executescript(_SCHEMA)
        self.db.execute("INSERT OR IGNORE INTO about VALUES('format', ?)", (FORMAT,))

    @property
    def identity(self) -> str:
        """Another one for each index that was ever made: its versions' numbers are its own."""
        self.db.execute("INSERT OR IGNORE INTO about VALUES('identity', hex(randomblob(8)))")
        found = self.db.execute("SELECT value FROM about WHERE key = 'identity'").fetchone()
        return str(found[0])

    def is_ours(self) -> bool:
        """Whether it was written by this version of the program, and to its end."""
        return bool(self.db.execute("SELECT value FROM about WHERE key = 'format'").fetchall() == [(FORMAT,)])

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """All or nothing of what is written inside. Raises LockedError when the index was removed meanwhile."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield
            if self._is_there():
                self.db.execute("COMMIT")
                return
        except sqlite3.OperationalError:
            if self._is_there():
                raise
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
        raise LockedError(f"{self._file.parent}: was removed meanwhile, by a purge; run again")

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            return self._file.stat().st_ino == self._inode
        return False

    # -- sources ---------------------------------------------------------------------------------

    def sources(self) -> dict[int, Source]:
        """Those that are known, by number."""
        rows = self.db.execute("SELECT id, project, folder, branch, checkout FROM source").fetchall()
        return {
            number: Source(project, Path(folder), branch, Path(checkout) if checkout else None)
            for number, project, folder, branch, checkout in rows
        }

    def number_of(self, source: Source) -> int:
        """A source's number, new when it has none."""
        checkout = os.fspath(source.checkout) if source.checkout else ""
        key = source.project, os.fspath(source.folder), source.branch, checkout
        self.db.execute("INSERT OR IGNORE INTO source(project, folder, branch, checkout) VALUES(?, ?, ?, ?)", key)
        which = "project = ? AND folder = ? AND branch = ? AND checkout = ?"
        return int(self.db.execute(f"SELECT id FROM source WHERE {which}", key).fetchone()[0])

    def stamps(self) -> dict[Source, bytes]:
        """What each source looked like when all of it was in the index."""
        known = self.sources()
        rows = self.db.execute("SELECT id, stamp FROM source WHERE stamp IS NOT NULL").fetchall()
        return {known[number]: stamp for number, stamp in rows}

    def settle(self, source: int, stamp: bytes | None) -> None:
        """Note what a source looks like now that all of it is in the index; None: it is not."""
        self.db.execute("UPDATE source SET stamp = ? WHERE id = ?", (stamp, source))

    def cut_off(self, source: int, shallow: bytes) -> None:
        """Note where a shallow clone ends; elsewhere than it did: all of it has to be read again."""
        (before,) = self.db.execute("SELECT shallow FROM source WHERE id = ?", (source,)).fetchone()
        if before is not None and before != shallow:
            self.db.execute("DELETE FROM version WHERE source = ?", (source,))
            self.db.execute("DELETE FROM unread WHERE source = ?", (source,))
        self.db.execute("UPDATE source SET shallow = ? WHERE id = ?", (shallow, source))

    def forget(self, source: int) -> None:
        """Remove a source; what segments hold of it counts no more."""
        self.db.execute("DELETE FROM version WHERE source = ?", (source,))
        self.db.execute("DELETE FROM unread WHERE source = ?", (source,))
        self.db.execute("DELETE FROM source WHERE id = ?", (source,))

    def reset(self) -> None:
        """Forget all but the numbers that were given."""
        for table in ("source", "version", "path", "segment", "part", "unread"):
            self.db.execute(f"DELETE FROM {table}")

    # -- versions --------------------------------------------------------------------------------

    def arrange(self, source: int, lines: Sequence[tuple[str, Sequence[bytes]]]) -> None:
        """Let the source have exactly these versions on these lines; new ones get numbers, in order."""
        known = dict(self.db.execute("SELECT oid, line FROM version WHERE source = ?", (source,)).fetchall())
        (last,) = self.db.execute("SELECT value FROM about WHERE key = 'last'").fetchone() or (0,)
        new: list[tuple[int, int, bytes, int]] = []
        moved: list[tuple[int, int, bytes]] = []
        for number, (_, oids) in enumerate(lines):
            for oid in oids:
                line = known.pop(oid, None)
                if line is None:
                    new.append((last + 1 + len(new), source, oid, number))
                elif line != number:
                    moved.append((number, source, oid))
        moved += [(_GONE, source, oid) for oid, line in known.items() if line != _GONE]
        self.db.executemany("INSERT INTO version(number, source, oid, line) VALUES(?, ?, ?, ?)", new)
        self.db.executemany("UPDATE version SET line = ? WHERE source = ? AND oid = ?", moved)
        # Numbers are never given twice: segments may still have them.
        self.db.execute("INSERT OR REPLACE INTO about VALUES('last', ?)", (last + len(new),))

    def waiting(self, source: int | None = None) -> list[tuple[int, bytes]]:
        """The versions, by number and commit, that are in no segment yet, newest first."""
        some = "" if source is None else "AND source = ?"
        query = f"SELECT number, oid FROM version WHERE id IS NULL AND line >= 0 {some} ORDER BY number DESC"
        return self.db.execute(query, () if source is None else (source,)).fetchall()

    def count(self) -> int:
        """How many versions there are in segments."""
        (found,) = self.db.execute("SELECT count(id) FROM version WHERE line >= 0").fetchone()
        return int(found)

    def enter(self, read: Iterable[tuple[int, Commit]]) -> None:
        """Note what is said of versions whose changes are in a segment now."""
        self.db.executemany(
            "UPDATE version SET id = ?, time = ?, author = ?, subject = ? WHERE number = ?",
            [(c.id, min(c.time, _LAST_SECOND), c.author, c.subject, number) for number, c in read],
        )

    def states(self, numbers: Sequence[int] | None = None) -> list[tuple[int, int, int, int]]:
        """Number, line, source and time of every version, or of these, that counts."""
        query = "SELECT number, line, source, time FROM version WHERE line >= 0 AND id NOTNULL"
        if numbers is None:
            return self.db.execute(query).fetchall()
        parts = ((part, ",".join("?" * len(part))) for part in _parts(numbers))
        return [row for part, marks in parts for row in self.db.execute(f"{query} AND number IN ({marks})", part)]

    def source_of(self, number: int) -> int:
        """The source of a version. Raises NotFoundError."""
        found = self.db.execute("SELECT source FROM version WHERE number = ?", (number,)).fetchone()
        if not found:
            raise NotFoundError(f"version {number}: not in the search index; git-vault search --index makes it anew")
        return int(found[0])

    def versions(self, numbers: Iterable[int]) -> dict[int, Version]:
        """Versions by number."""
        known = self.sources()
        found: dict[int, Version] = {}
        for part in _parts(list(numbers)):
            marks = ",".join("?" * len(part))
            query = f"SELECT number, id, source, time, author, subject FROM version WHERE number IN ({marks})"
            for number, oid, source, time, author, subject in self.db.execute(query, part):
                where = known[source]
                when = datetime.fromtimestamp(time, UTC)
                found[number] = Version(number, _shown(oid), where.project, when, author, subject, bool(where.branch))
        return found

    # -- paths, segments, problems ---------------------------------------------------------------

    def path_number(self, project: str, path: bytes) -> int:
        """A path's number, new when it has none."""
        key = project, path
        found = self.db.execute("SELECT id FROM path WHERE project = ? AND path = ?", key).fetchone()
        if found:
            return int(found[0])
        return int(self.db.execute("INSERT INTO path(project, path) VALUES(?, ?)", key).lastrowid or 0)

    def paths(self, numbers: Iterable[int]) -> dict[int, tuple[str, bytes]]:
        """Project and path by number."""
        found: dict[int, tuple[str, bytes]] = {}
        for part in _parts(list(numbers)):
            marks = ",".join("?" * len(part))
            rows = self.db.execute(f"SELECT id, project, path FROM path WHERE id IN ({marks})", part)
            found |= {number: (project, path) for number, project, path in rows}
        return found

    def segments(self, projects: Sequence[str] = ()) -> list[tuple[str, int]]:
        """Their names and bytes of text; those with something of these projects, of all when none is given."""
        if not projects:
            return self.db.execute("SELECT name, size FROM segment ORDER BY rowid").fetchall()
        marks = ",".join("?" * len(projects))
        chosen = f"SELECT segment FROM part WHERE project IN ({marks})"
        query = f"SELECT name, size FROM segment WHERE name IN ({chosen}) ORDER BY rowid"
        return self.db.execute(query, projects).fetchall()

    def add_segment(self, name: str, size: int, project: str) -> None:
        """Let a segment of one project count."""
        self.db.execute("INSERT INTO segment VALUES(?, ?)", (name, size))
        self.db.execute("INSERT INTO part VALUES(?, ?)", (name, project))

    def replace(self, names: Sequence[str], name: str, size: int) -> None:
        """Let a segment stand for others."""
        self.db.execute("INSERT INTO segment VALUES(?, ?)", (name, size))
        for old in names:
            self.db.execute("INSERT OR IGNORE INTO part SELECT ?, project FROM part WHERE segment = ?", (name, old))
            self.db.execute("DELETE FROM part WHERE segment = ?", (old,))
            self.db.execute("DELETE FROM segment WHERE name = ?", (old,))

    def skip(self, source: int, path: bytes, versions: int) -> None:
        """Note that a path's content could not be read in so many more versions."""
        self.db.execute(
            "INSERT INTO unread VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET versions = versions + ?3",
            (source, path, versions),
        )

    def unread(self) -> list[tuple[str, bytes, int]]:
        """Project, path and number of versions of what could not be read."""
        return self.db.execute(
            "SELECT project, path, versions FROM unread JOIN source ON source.id = source ORDER BY project, path"
        ).fetchall()

    def close(self) -> None:
        """Close the file."""
        self.db.close()


@contextlib.contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn what SQLite says of a full disk into StorageFullError, naming where."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise StorageFullError(f"{folder}: no space left on the disk; free some space and run again") from error


@contextlib.contextmanager
def alone(folder: Path, wait: float) -> Iterator[None]:
    """Update an index alone. Raises LockedError when somebody else does, for longer than `wait` seconds."""
    file = folder / "lock.db"
    create_private(file)
    # SQLite's lock: it is gone however its holder ends, on every system.
    lock = sqlite3.connect(file, isolation_level=None, timeout=wait)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise LockedError(f"{folder}: another run brings the search index up to date; wait for it") from error
        yield
    finally:
        lock.close()


def _shown(oid: bytes) -> str:
    return f"r{int.from_bytes(oid[len(SVN) :])}" if oid.startswith(SVN) else oid.hex()


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(numbers), _SOME):
        yield numbers[at : at + _SOME]
