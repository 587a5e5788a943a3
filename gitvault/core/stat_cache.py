"""What the last look at a project saw: a SQLite table, one row per folder.

It is valid for exactly one snapshot and may always be deleted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgpack

from gitvault.core.utils.files import Disk, create_private
from gitvault.core.utils.names import ref_component

_T = TypeVar("_T")

# A write within this time of a look may leave the same stat behind: the file is looked at again.
RACY_NS = 100_000_000
# ... on file systems whose times are whole seconds (FAT, some network shares).
RACY_COARSE_NS = 2_000_000_000
_POSIX = sys.platform != "win32"


class Stat(NamedTuple):
    """What tells whether a file is the one that was saved."""

    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Known(NamedTuple):
    """A file or symlink as the last snapshot holds it."""

    stat: Stat
    tree_mode: int
    """The mode in the git tree: 0o100644, 0o100755 or 0o120000."""
    tree_name: bytes
    blob: bytes
    since: int
    """Number of the snapshot, counted along the chain, that first held this content; 0: not known."""


@dataclass(slots=True)
class Row:
    """What the cache knows about a folder as a whole."""

    signature: bytes
    """SHA-1 of its listing; empty when it must be looked at again."""
    scope: bytes
    """Of the rules that held for it, see `Scope.digest`."""
    tree: bytes
    """Its git tree, subfolders included; empty for a folder without files."""
    meta: bytes
    """Its tree in the meta chain; `meta_blob` itself where no folder is below."""
    meta_blob: bytes
    files: int
    """Of its own, subfolders not counted; likewise `size`."""
    size: int


def _database(file: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    # It can be rebuilt, so it need not survive a power cut: no fsync at all.
    db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA journal_mode=MEMORY")
    db.executescript(
        "CREATE TABLE IF NOT EXISTS about(key TEXT PRIMARY KEY, value BLOB);"
        "CREATE TABLE IF NOT EXISTS folder(path BLOB PRIMARY KEY, signature BLOB, scope BLOB, tree BLOB,"
        " meta BLOB, meta_blob BLOB, files INT, bytes INT, entries BLOB) WITHOUT ROWID;"
        "CREATE TABLE IF NOT EXISTS version(number INT PRIMARY KEY, snapshot TEXT);"
    )
    db.execute("SELECT key, value FROM about").fetchall()
    return db


# SQLite's own errors, text that is none, and rows that are not what was put in.
_DAMAGE = (sqlite3.DatabaseError, ValueError, TypeError)


class CacheDamaged(Exception):
    """Damage that showed while the cache was used: `StatCache.forget`, and begin again."""


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise CacheDamaged(str(error)) from error


_KINDS = ("stat", "feedback")
"""Caches that a project has in a file of its own; a persona's are opened by it, and renamed with it."""


class Caches:
    """The caches of a vault's projects, by project."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk

    def open(self, project: str) -> StatCache:
        """That of a project, made when it is missing."""
        self._disk.make_folder(self._folder)
        return StatCache(self._file(project))

    def remove(self, project: str) -> None:
        """Remove what is known of a project, durably: after a power cut it must not come back."""
        self._disk.make_folder(self._folder)
        self._disk.unlink(self._file(project))
        self._disk.sync_folder(self._folder)

    def rename(self, old: str, new: str) -> None:
        """Let a project have what is known of another, whose name it takes; without it everything is read once."""
        for kind in _KINDS:
            with contextlib.suppress(OSError):
                self._disk.rename(self._file(old, kind), self._file(new, kind))

    def move(self, project: str, root: str) -> None:
        """Let what is known of a project hold for another folder: its own, that was moved.

        Files are compared by inode and change time too, so whatever else lies there is read.
        """
        if self._file(project).exists():
            cache = self.open(project)
            with contextlib.suppress(CacheDamaged):
                cache.replace({"root": os.fsencode(root)}, (), (), ())
            cache.close()

    def _file(self, project: str, kind: str = "stat") -> Path:
        return self._folder / f"{kind}-{ref_component(project)}.db"


class StatCache:
    """The cached rows of one project. A damaged or foreign file is as good as none.

    Where damage shows after opening, reading and `replace` raise CacheDamaged.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        # A damaged file is made anew; where none can be written there is one for this run.
        for _ in range(2):
            try:
                try:
                    create_private(self.file)
                except OSError as error:
                    # What is there can be read also where nothing can be written.
                    if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
                        raise
                return _database(self.file)
            except (*_DAMAGE, OSError):
                with contextlib.suppress(OSError):
                    self.file.unlink()
        return _database(":memory:")

    def forget(self) -> None:
        """Make the file anew; where that cannot be, do without one."""
        self.close()
        try:
            self.file.unlink(missing_ok=True)
        except OSError:
            self._db = _database(":memory:")
        else:
            self._db = self._open()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def use(self, work: Callable[[], _T]) -> _T:
        """Do what uses the cache, and again from nothing when it turns out damaged; closed when this returns."""
        try:
            return work()
        except CacheDamaged:
            self.forget()
            return work()
        finally:
            self.close()

    def about(self) -> dict[str, bytes]:
        """What the rows are valid for: `snapshot`, `root`, `rules`, `time` and what the last run reported."""
        try:
            found = dict(self._db.execute("SELECT key, value FROM about"))
            for key in ("number", "time", "problems", "files", "bytes"):
                int(found.get(key, b"0"))
        except _DAMAGE:
            return {}
        return found

    def rows(self) -> dict[bytes, Row]:
        """Every folder's row, entries left on disk."""
        query = "SELECT path, signature, scope, tree, meta, meta_blob, files, bytes FROM folder"
        with _damage_named():
            return {path: Row(*rest) for path, *rest in self._db.execute(query)}

    def row(self, path: bytes) -> Row | None:
        """One folder's row."""
        query = "SELECT signature, scope, tree, meta, meta_blob, files, bytes FROM folder WHERE path=?"
        with _damage_named():
            found = self._db.execute(query, (path,)).fetchone()
            return Row(*found) if found else None

    def rows_around(self, folders: Iterable[bytes]) -> dict[bytes, Row]:
        """The rows of these folders and of those directly in them."""
        found: dict[bytes, Row] = {}
        for path in folders:
            for one in (path, *self._below(path)):
                if one not in found and (row := self.row(one)):
                    found[one] = row
        return found

    def rows_below(self, path: bytes) -> dict[bytes, Row]:
        """The rows of a folder and of all below it."""
        if not path:
            return self.rows()
        query = (
            "SELECT path, signature, scope, tree, meta, meta_blob, files, bytes FROM folder"
            " WHERE path=? OR (path>? AND path<?)"
        )
        with _damage_named():
            found = self._db.execute(query, (path, path + b"/", path + b"0"))
            return {path: Row(*rest) for path, *rest in found}

    def _below(self, path: bytes) -> list[bytes]:
        """The folders directly in one. Sought one by one: what is deeper is jumped over."""
        prefix = path + b"/" if path else b""
        found: dict[bytes, None] = {}
        # "0" is what comes after "/".
        at, end = prefix or b"\x01", path + b"0" if path else b"\xff" * 256
        query = "SELECT path FROM folder WHERE path>=? AND path<? ORDER BY path LIMIT 1"
        with _damage_named():
            while row := self._db.execute(query, (at, end)).fetchone():
                name, deeper, _ = row[0][len(prefix) :].partition(b"/")
                found[prefix + name] = None
                at = prefix + name + b"0" if deeper else row[0] + b"\0"
        return list(found)

    def entries(self, path: bytes) -> dict[bytes, Known]:
        """The files and symlinks of a folder, by name."""
        with _damage_named():
            found = self._db.execute("SELECT entries FROM folder WHERE path=?", (path,)).fetchone()
            if not found:
                return {}
            packed, said = found[0][:-4], found[0][-4:]
            if zlib.crc32(packed).to_bytes(4, "big") != said:
                # A wrong blob id in here would become part of a snapshot.
                raise ValueError("entries with a wrong checksum")
            return {
                name: Known(Stat._make(numbers), mode, tree_name or name, blob, since)
                for name, numbers, mode, tree_name, blob, since in msgpack.unpackb(packed, use_list=False)
            }

    def replace(
        self,
        about: dict[str, bytes],
        rows: Iterable[tuple[bytes, Row, bytes]],
        moved: Iterable[tuple[bytes, bytes, bytes]],
        gone: Iterable[bytes],
        version: tuple[int, str] | None = None,
    ) -> None:
        """In one transaction: new rows, each with its packed entries; (path, tree, meta) of folders
        where only something deeper changed; rows to drop."""
        db = self._db
        try:
            db.execute("BEGIN")
            db.executemany("DELETE FROM folder WHERE path=?", ((path,) for path in gone))
            db.executemany(
                "INSERT OR REPLACE INTO folder VALUES(?,?,?,?,?,?,?,?,?)",
                (
                    (path, r.signature, r.scope, r.tree, r.meta, r.meta_blob, r.files, r.size, packed)
                    for path, r, packed in rows
                ),
            )
            db.executemany(
                "UPDATE folder SET tree=?, meta=? WHERE path=?", ((tree, meta, path) for path, tree, meta in moved)
            )
            db.executemany("INSERT OR REPLACE INTO about VALUES(?,?)", about.items())
            if version:
                db.execute("INSERT OR REPLACE INTO version VALUES(?,?)", version)
            db.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            raise CacheDamaged(str(error)) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def clear(self) -> None:
        """Forget everything."""
        with _damage_named():
            self._db.executescript("DELETE FROM about; DELETE FROM folder; DELETE FROM version;")

    def replace_versions(self, replaced: Mapping[str, str]) -> None:
        """Let other snapshots stand in the place of these: such that hold the same content."""
        with _damage_named():
            pairs = ((new, old) for old, new in replaced.items())
            self._db.executemany("UPDATE version SET snapshot=? WHERE snapshot=?", pairs)

    def version(self, number: int) -> str | None:
        """The snapshot with this number along the chain."""
        with _damage_named():
            found = self._db.execute("SELECT snapshot FROM version WHERE number=?", (number,)).fetchone()
            return found[0] if found else None


def pack_known(name: bytes, known: Known) -> bytes:
    """A file or symlink as the cache stores it."""
    tree_name = known.tree_name if known.tree_name != name else b""
    # A time beyond the year 2554, which tmpfs and btrfs hold, is no number for msgpack: as text it fits no stat,
    # and the file is read again.
    return _packer.pack((name, known.stat, known.tree_mode, tree_name, known.blob, known.since))  # type: ignore[no-any-return]


_packer = msgpack.Packer(default=str)


def join_packed(count: int, packed: Iterable[bytes]) -> bytes:
    """A folder's entries as the cache stores them, from what `pack_known` made of each; their checksum behind them."""
    whole: bytes = msgpack.Packer().pack_array_header(count) + b"".join(packed)
    return whole + zlib.crc32(whole).to_bytes(4, "big")


def pack_entries(entries: dict[bytes, Known]) -> bytes:
    """The same, from all of them."""
    return join_packed(len(entries), (pack_known(name, known) for name, known in entries.items()))


def stat_of(found: os.stat_result) -> Stat:
    """The part of a stat that is compared."""
    return Stat(found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def racy_ns(found: os.stat_result, now_ns: int) -> int:
    """For how long from `now_ns` on another write could still leave this very stat; 0: it can be relied on."""
    # Every write sets ctime and no user can: an mtime set into the future says nothing. Windows has no ctime.
    written = found.st_ctime_ns if _POSIX else found.st_mtime_ns
    window = RACY_NS if written % 1_000_000_000 else RACY_COARSE_NS
    # A server's clock may be ahead of ours: never longer than the window.
    return max(0, min(written + window - now_ns, window))
