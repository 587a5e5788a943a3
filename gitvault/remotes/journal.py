"""What was sent, or found there, and is in no record of this machine yet: a push that was interrupted goes on."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from gitvault.core.utils.files import Disk, create_private
from gitvault.remotes.index import Part, Row

_VERSION = 2
_SCHEMA = """
CREATE TABLE part (number INTEGER PRIMARY KEY, name TEXT NOT NULL, size INTEGER NOT NULL);
CREATE TABLE row (id TEXT PRIMARY KEY, rest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shared (id TEXT PRIMARY KEY, part TEXT NOT NULL, size INTEGER NOT NULL, kind TEXT NOT NULL, words TEXT);
"""
_BATCH = 500


class Journal:
    """Parts that are on the remote, with the rows of the index for them. Disposable: what it forgets is sent again."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._database = self._open()
        self._count = self._database.execute("SELECT count(*) FROM part").fetchone()[0]

    def next_number(self) -> int:
        """The number that the next part has in its rows."""
        return int(self._count)

    def add(self, part: Part, rows: Sequence[tuple[str, str]]) -> None:
        """Note a part that has arrived, after all that were begun before it."""
        with self._database:
            self._database.execute("INSERT INTO part VALUES (?, ?, ?)", (self._count, part.name, part.size))
            self._database.executemany("INSERT OR IGNORE INTO row VALUES (?, ?)", sorted(rows))
        self._count += 1

    def share(self, rows: Mapping[str, Row]) -> None:
        """Note rows of another machine's, by id, for `adopt`."""
        values = ((one, row.part.name, row.part.size, row.kind, " ".join(row.words)) for one, row in rows.items())
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO shared VALUES (?, ?, ?, ?, ?)", values)

    def adopt(self) -> None:
        """Add what was shared, with its parts, as if it had been sent."""
        with self._database:
            for name, size in self._database.execute("SELECT part, min(size) FROM shared GROUP BY part").fetchall():
                self._database.execute("INSERT INTO part VALUES (?, ?, ?)", (self._count, name, size))
                rest = "trim(kind || ' ' || ? || ' ' || words)"
                self._database.execute(
                    f"INSERT OR IGNORE INTO row SELECT id, {rest} FROM shared WHERE part = ?", (self._count, name)
                )
                self._count += 1
            self._database.execute("DELETE FROM shared")

    def unshare(self) -> None:
        """Forget what was shared: it may be gone since."""
        with self._database:
            self._database.execute("DELETE FROM shared")

    def known(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are noted."""
        return set(self.find(ids))

    def find(self, ids: Collection[str]) -> dict[str, str]:
        """The rows of those ids that are noted: what stands behind each."""
        found: dict[str, str] = {}
        for batch in _batches(list(ids)):
            marks = ",".join("?" * len(batch))
            found.update(self._database.execute(f"SELECT id, rest FROM row WHERE id IN ({marks})", batch))
        return found

    def parts(self) -> list[Part]:
        """All parts, in the order of their numbers."""
        return [Part(*row) for row in self._database.execute("SELECT name, size FROM part ORDER BY number")]

    def rows(self) -> Iterator[tuple[str, str]]:
        """All rows, by id."""
        yield from self._database.execute("SELECT id, rest FROM row ORDER BY id")

    def count(self) -> int:
        """How many rows there are."""
        return int(self._database.execute("SELECT count(*) FROM row").fetchone()[0])

    def clear(self) -> None:
        """Begin anew: a record has it all, or it is not there any more."""
        self.close()
        self._remove()
        self._database = self._open()
        self._count = 0

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _open(self) -> sqlite3.Connection:
        self._disk.make_folder(self._path.parent)
        for _ in range(2):
            create_private(self._path)
            database = sqlite3.connect(self._path, check_same_thread=False)
            with contextlib.suppress(sqlite3.Error):
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                found = database.execute("PRAGMA user_version").fetchone()[0]
                if found == 0:
                    database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
                if found in (0, _VERSION):
                    return database
            database.close()
            self._remove()
        raise OSError(f"{self._path}: cannot be made; look at the disk")

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._disk.unlink(self._path.with_name(self._path.name + suffix))


def _batches(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
