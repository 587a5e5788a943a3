"""Where each chunk lies: a table in SQLite, derived from the packs' own tables and never evidence.

The file may be deleted at any time. When it cannot be written, a private temporary one takes its place.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.models import ChunkId
from gitvault.core.storage.packs import PACK_NAME, Chunk, Frame, Pack, Table, read_table
from gitvault.core.utils.files import Disk, create_private
from gitvault.errors import CorruptionError, StorageFullError, UnsupportedFormatVersion

# Goes up when the tables change; a file of another version is made anew.
_VERSION = 5
_SCHEMA = """
CREATE TABLE pack (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL, chunks INTEGER NOT NULL,
                   level INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE frame (pack INTEGER, number INTEGER, start INTEGER, stored INTEGER, length INTEGER, bases BLOB,
                    proven INTEGER, PRIMARY KEY (pack, number)) WITHOUT ROWID;
CREATE TABLE chunk (id BLOB, pack INTEGER, frame INTEGER, inner INTEGER, length INTEGER,
                    PRIMARY KEY (id, pack, frame)) WITHOUT ROWID;
CREATE TABLE damaged (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE manifest (oid BLOB, pack INTEGER, parts BLOB, PRIMARY KEY (oid, pack, parts)) WITHOUT ROWID;
"""
# Few sizes, the last one repeated to fill them: SQLite's compiled statements are found again. 25 chunks, a file of
# 3 MB, take 23 us in 32 places and 136 in 256.
_BATCHES = (1, 4, 16, 32, 64, 256)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies: `length` bytes at `inner` in the decoded `frame` of `pack`."""

    pack: Pack
    frame: Frame
    inner: int
    length: int


@dataclass(frozen=True, slots=True)
class PackSummary:
    """A pack in `folder`: its number in the order of arrival, its table's level, the bytes of its frames."""

    number: int
    name: str
    level: int
    size: int


class ChunkIndex:
    """The chunks of all packs in `folder`. Safe to call from several threads."""

    def __init__(self, folder: Path, cache: Path | None, disk: Disk) -> None:
        """`cache`: the file to keep it in; None: nowhere, it is made from the packs and lost with this object."""
        self._folder = folder
        self._cache = cache
        self._disk = disk
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._packs: dict[int, Pack] = {}
        self._numbers: dict[str, int] = {}
        # Packs that are in no folder.
        self._held: dict[str, Pack] = {}
        self._stamp: int | None = None
        self.unreadable: dict[str, CorruptionError] = {}
        """Packs whose table cannot be read, and why."""
        self.changes = 0
        """Goes up whenever a pack is found to have come or gone."""

    def find(self, chunks: Collection[ChunkId], *, without: Collection[str] = ()) -> dict[ChunkId, Place]:
        """The places of those chunks that are known; packs that have come or gone are noticed.

        `without`: names of packs that do not count.
        """
        with self._lock:
            self.refresh()
            places = (found for batch in _batches(chunks) for found in self._places(batch))
            return {chunk: place for chunk, place in places if place.pack.path.name not in without}

    def known(self, chunks: Collection[ChunkId]) -> set[ChunkId]:
        """Those of the chunks that are in a pack; packs that have come or gone are noticed."""
        with self._lock:
            self.refresh()
            rows = [
                row
                for batch in _batches(chunks)
                for row in self._query(f"SELECT id, pack FROM chunk WHERE id IN ({_marks(batch)})", batch)
            ]
            return {chunk for chunk, pack in rows if pack in self._packs}

    def places(self, chunk: ChunkId) -> list[Place]:
        """Every place of a chunk: it may be in several frames."""
        with self._lock:
            self.refresh()
            return [place for _, place in self._places([chunk])]

    def manifests(self, oid: str, *, without: Collection[str] = ()) -> list[tuple[ChunkId, ...]]:
        """For each manifest of the file in a pack, the chunks it consists of. `without`: see `find`."""
        return [parts for _, parts in self.naming(oid, without=without)]

    def naming(self, oid: str, *, without: Collection[str] = ()) -> list[tuple[Pack, tuple[ChunkId, ...]]]:
        """`manifests`, each with the pack that names it."""
        with self._lock:
            self.refresh()
            rows = self._query("SELECT pack, parts FROM manifest WHERE oid = ?", (bytes.fromhex(oid),))
            found = [(self._packs[pack], parts) for pack, parts in rows if pack in self._packs]
            return [(pack, tuple(_split(parts))) for pack, parts in found if pack.path.name not in without]

    def counts(self) -> tuple[int, int]:
        """Packs and chunks; a chunk in two packs counts twice."""
        with self._lock:
            self.refresh(force=True)
            rows = self._query("SELECT number, chunks FROM pack", ())
            return len(self._packs) + len(self.unreadable), sum(n for pack, n in rows if pack in self._packs)

    def packs(self) -> list[PackSummary]:
        """The packs that can be read, in the order of their arrival."""
        with self._lock:
            self.refresh(force=True)
            rows = self._query("SELECT number, name, level, size FROM pack ORDER BY number", ())
            return [PackSummary(*row) for row in rows if row[0] in self._packs]

    def note_damaged(self, names: Collection[str]) -> None:
        """Remember packs in which something cannot be read, as far as this can be remembered."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._open()
            assert self._database is not None
            self._database.executemany("INSERT OR IGNORE INTO damaged VALUES (?)", ((name,) for name in names))

    def forget_damaged(self) -> None:
        """Every pack has been read since."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._open()
            assert self._database is not None
            self._database.execute("DELETE FROM damaged")

    def damaged(self) -> set[str]:
        """The packs that were noted as damaged."""
        with self._lock:
            self._open()
            return {name for (name,) in self._query("SELECT name FROM damaged", ())}

    def table(self, name: str) -> Table:
        """What is remembered of a pack, also of one whose own table is lost; empty when nothing is."""
        with self._lock:
            self._open()
            known = self._query("SELECT number, level FROM pack WHERE name = ?", (name,))
            if not known:
                return Table()
            number, level = known[0]
            frames = self._query(
                "SELECT number, start, stored, length, bases, proven FROM frame WHERE pack = ? ORDER BY number",
                (number,),
            )
            chunks = self._query(
                "SELECT id, frame, inner, length FROM chunk WHERE pack = ? ORDER BY frame, inner", (number,)
            )
            manifests = self._query("SELECT oid, parts FROM manifest WHERE pack = ?", (number,))
        return Table(
            [
                Frame(n, at, stored, length, tuple(_split(bases)), proven)
                for n, at, stored, length, bases, proven in frames
            ],
            [Chunk(*row) for row in chunks],
            [(oid.hex(), tuple(_split(parts))) for oid, parts in manifests],
            level,
        )

    def refresh(self, *, force: bool = False) -> bool:
        """Look which packs there are, unless the folder has its old time stamp; whether new ones were found.

        Raises UnsupportedFormatVersion for a pack that a newer gitvault wrote.
        """
        with self._lock:
            self._open()
            try:
                stamp = os.stat(self._folder).st_mtime_ns
                if stamp == self._stamp and not force:
                    return False
                names = {path.name for path in self._folder.iterdir() if PACK_NAME.fullmatch(path.name)}
            except FileNotFoundError:
                stamp, names = 0, set()
            names |= self._held.keys()
            for name in self._numbers.keys() - names:
                del self._packs[self._numbers.pop(name)]
                self.changes += 1
            self.unreadable = {name: error for name, error in self.unreadable.items() if name in names}
            new = sorted(names - self._numbers.keys() - self.unreadable.keys())
            known = self._known_packs(names) if new else {}
            for name in new:
                if name in self._numbers:
                    # Damage was found meanwhile, and everything made anew.
                    continue
                if name in known:
                    self._adopt(name, known[name])
                    continue
                try:
                    self.add(name, read_table(self._held[name].path if name in self._held else self._folder / name))
                except UnsupportedFormatVersion:
                    raise
                except FileNotFoundError:
                    continue
                except CorruptionError as error:
                    self.unreadable[name] = error
            self._stamp = stamp
            return bool(new)

    def add(self, name: str, table: Table, held: Pack | None = None) -> None:
        """Take in a pack that lies in the folder now, or `held`, which lies elsewhere."""
        with self._lock:
            self._open()
            if held:
                self._held[name] = held
            # One that took the place of a damaged pack of the same name.
            self.unreadable.pop(name, None)
            try:
                if name in self._numbers:
                    # Another thread has found it in the folder, and only what it says of itself.
                    self._prove(self._numbers[name], table)
                else:
                    self._adopt(name, self._insert(name, table))
            except sqlite3.Error:
                # Full disk, file lost, locked for too long: what is derived must never stop what is not.
                self._reset(None)
                self.refresh(force=True)

    def rebuild(self) -> None:
        """Make everything anew from the packs' tables; what is known of packs that have lost theirs stays on file."""
        with self._lock:
            self.refresh()
            there = {*self._numbers, *self.unreadable}
            held = {name: self.table(name) for name in self._held}
            kept = {name: self.table(name) for name in there - held.keys() if not _has_table(self._folder / name)}
            self._reset(self._cache)
            for name, table in held.items():
                self.add(name, table)
            self.refresh(force=True)
            with contextlib.suppress(sqlite3.Error):
                for name, table in kept.items():
                    self._insert(name, table)

    def compact(self) -> None:
        """Forget packs that have gone and give back the room that their rows took, as far as that can be done."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            self.refresh(force=True)
            assert self._database is not None
            there = {*self._numbers, *self.unreadable}
            gone = [(name,) for (name,) in self._query("SELECT name FROM pack", ()) if name not in there]
            if not gone:
                return
            with _transaction(self._database):
                self._database.executemany("DELETE FROM pack WHERE name = ?", gone)
                for table in ("frame", "chunk", "manifest"):
                    self._database.execute(f"DELETE FROM {table} WHERE pack NOT IN (SELECT number FROM pack)")
            self._database.execute("VACUUM")

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
            self._database = None
            self._packs, self._numbers, self._stamp = {}, {}, None

    def _places(self, batch: Collection[ChunkId]) -> Iterator[tuple[ChunkId, Place]]:
        rows = self._query(
            "SELECT c.id, c.pack, c.inner, c.length, f.number, f.start, f.stored, f.length, f.bases, f.proven "
            "FROM chunk c JOIN frame f ON f.pack = c.pack AND f.number = c.frame "
            f"WHERE c.id IN ({_marks(batch)})",
            batch,
        )
        for chunk, pack, inner, length, number, start, stored, whole, bases, proven in rows:
            if pack in self._packs:
                frame = Frame(number, start, stored, whole, tuple(_split(bases)), proven)
                yield chunk, Place(self._packs[pack], frame, inner, length)

    def _known_packs(self, names: set[str]) -> dict[str, int]:
        """The numbers of packs that are in the database; it is made anew when most of it is about packs long gone."""
        rows = self._query("SELECT name, number, chunks FROM pack", ())
        gone = sum(chunks for name, _, chunks in rows if name not in names)
        if gone > sum(chunks for _, _, chunks in rows) // 2 and not self._numbers:
            self._reset(self._cache)
            return {}
        return {name: number for name, number, _ in rows}

    def _open(self) -> None:
        if self._database is not None:
            return
        if self._cache is not None:
            with contextlib.suppress(sqlite3.Error, OSError, StorageFullError):
                self._disk.make_folder(self._cache.parent)
                create_private(self._cache)
                self._database = _connect(str(self._cache))
                if self._database.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
                    return
        self._reset(self._cache)

    def _reset(self, cache: Path | None) -> None:
        """An empty database in `cache`, or a temporary one when that cannot be."""
        self.close()
        if cache is not None:
            try:
                for suffix in ("", "-wal", "-shm"):
                    self._disk.unlink(cache.with_name(cache.name + suffix))
                create_private(cache)
                self._database = _connect(str(cache))
                self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
                return
            except (sqlite3.Error, OSError, StorageFullError):
                self.close()
        # SQLite's own temporary file: in memory while small, on disk when not, gone when closed.
        self._cache = None
        self._database = _connect("")
        self._database.executescript(_SCHEMA)

    def _query(self, sql: str, parameters: Iterable[object]) -> list[tuple]:  # type: ignore[type-arg]
        arguments = tuple(parameters)
        for cache in (self._cache, None):
            assert self._database is not None
            try:
                return self._database.execute(sql, arguments).fetchall()
            except sqlite3.Error:
                # Damaged: a new file, and where that does not help, none.
                self._reset(cache)
                self.refresh(force=True)
        assert self._database is not None
        return self._database.execute(sql, arguments).fetchall()

    def _insert(self, name: str, table: Table) -> int:
        database = self._database
        assert database is not None
        with _transaction(database):
            row = database.execute("SELECT number FROM pack WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return int(row[0])
            number = database.execute(
                "INSERT INTO pack (name, chunks, level, size) VALUES (?, ?, ?, ?)",
                (name, len(table.chunks), table.level, sum(frame.stored for frame in table.frames)),
            ).lastrowid
            assert number is not None
            database.executemany(
                "INSERT INTO frame VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((number, f.number, f.offset, f.stored, f.length, b"".join(f.bases), f.proven) for f in table.frames),
            )
            # In order of the key: random inserts into a large table cost a page each.
            database.executemany(
                "INSERT OR IGNORE INTO chunk VALUES (?, ?, ?, ?, ?)",
                sorted((c.id, number, c.frame, c.inner, c.length) for c in table.chunks),
            )
            database.executemany(
                "INSERT OR IGNORE INTO manifest VALUES (?, ?, ?)",
                ((bytes.fromhex(oid), number, b"".join(parts)) for oid, parts in table.manifests),
            )
            return number

    def _prove(self, number: int, table: Table) -> None:
        assert self._database is not None
        known = [(frame.proven, number, frame.number) for frame in table.frames if frame.proven is not None]
        with _transaction(self._database):
            self._database.executemany("UPDATE frame SET proven = ? WHERE pack = ? AND number = ?", known)

    def _adopt(self, name: str, number: int) -> None:
        self._numbers[name] = number
        self._packs[number] = self._held.get(name) or Pack(self._folder / name)
        self.changes += 1


def _has_table(path: Path) -> bool:
    try:
        read_table(path)
    except (CorruptionError, OSError):
        return False
    return True


def _connect(name: str) -> sqlite3.Connection:
    database = sqlite3.connect(name, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        # A reader in another process never waits, and a commit needs no fsync.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA cache_size = -32768")
    except sqlite3.Error:
        database.close()
        raise
    return database


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _batches(chunks: Collection[ChunkId]) -> Iterator[list[ChunkId]]:
    listed = list(chunks)
    for start in range(0, len(listed), _BATCHES[-1]):
        batch = listed[start : start + _BATCHES[-1]]
        size = next(size for size in _BATCHES if size >= len(batch))
        yield batch + batch[-1:] * (size - len(batch))


def _marks(batch: Collection[ChunkId]) -> str:
    return ",".join("?" * len(batch))


def _split(joined: bytes) -> Iterator[ChunkId]:
    for start in range(0, len(joined), 32):
        yield ChunkId(joined[start : start + 32])
