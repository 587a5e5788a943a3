"""The records of a project as a table of SQLite: a cache, made of the segments and thrown away at will.

A row leads to its tie: what the record says of its build, or the stretch of time in which it was said, and which
snapshot that is. When more is known of builds only ties change, and rows only where a stretch was divided.
"""

from __future__ import annotations

import hashlib
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Any

from gitvault.core.utils.files import create_private
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import areas
from gitvault.personas.game import milestones
from gitvault.personas.game.builds import Builds
from gitvault.personas.game.feedback import segments
from gitvault.personas.game.feedback.rows import Row, row_of

if TYPE_CHECKING:
    from pathlib import Path

    from gitvault.vault import Vault

_VERSION = 3
_CACHE, _WORDS = 96 << 10, 16 << 20
"""KiB of the table, and bytes of new words, that are held in memory."""
WORDS = "detail=none, columnsize=0"
"""How words are told apart and held."""
# `who` is `player` as a number, by which players are counted in half the time.
_SCHEMA = f"""
CREATE TABLE about(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE segment(number INTEGER PRIMARY KEY, path BLOB UNIQUE);
CREATE TABLE tie(number INTEGER PRIMARY KEY, build TEXT, target TEXT, branch TEXT, start REAL,
  snapshot TEXT, confidence REAL, how TEXT, UNIQUE(build, target, branch, start));
CREATE TABLE known(key INTEGER PRIMARY KEY, digest INTEGER, row INTEGER);
CREATE TABLE said(row INTEGER PRIMARY KEY, tie INTEGER, segment INTEGER, start INTEGER, length INTEGER, id BLOB,
  time INTEGER, source TEXT, kind TEXT, text TEXT, player BLOB, who INTEGER, branch TEXT, platform TEXT, session TEXT,
  scene TEXT, rating REAL, playtime REAL, count INTEGER, sig TEXT, stack TEXT, purged INTEGER);
CREATE TABLE counted(tie INTEGER, kind TEXT, source TEXT, records INTEGER, rating REAL, rated INTEGER, playtime REAL,
  played INTEGER, PRIMARY KEY(tie, kind, source)) WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(text, content='said', content_rowid='row', {WORDS});
"""
# What the report adds up: counted from all rows it took a third of its time.
_COUNT = """
INSERT INTO counted SELECT tie, kind, source, count(*), total(rating), count(rating), total(playtime), count(playtime)
  FROM said WHERE row >= ? GROUP BY 1, 2, 3
ON CONFLICT DO UPDATE SET records = records + excluded.records, rating = rating + excluded.rating,
  rated = rated + excluded.rated, playtime = playtime + excluded.playtime, played = played + excluded.played
"""
# Words of a whole batch are written at once: at 1 MB, as is usual, they took a quarter more.
_FEWER = f"INSERT INTO words(words, rank) VALUES('hashsize', {_WORDS});"
_INDEXES = {
    "by_tie": "said(tie, who)",
    "by_time": "said(time)",
    "by_kind": "said(kind, time)",
    "by_player": "said(who) WHERE who IS NOT NULL",
    "by_sig": "said(sig, who) WHERE sig <> ''",
}
_INSERT = f"INSERT INTO said VALUES({','.join('?' * 22)})"


class Table:
    """The records of one project. Use it as a context manager, or close it."""

    def __init__(self, vault: Vault, project: str) -> None:
        """Opens the table and brings it to what the vault holds. Raises CorruptionError for a damaged segment."""
        self.project = project
        self._vault = vault
        self.area = segments.area_of(vault, project)
        self._file = vault.path / "cache" / f"feedback-{ref_component(project)}.db"
        self._ties: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
        self._builds: Builds | None = None
        self.db = self._opened()
        try:
            self._catch_up()
        except sqlite3.DatabaseError:
            # Damaged within: once more, from nothing.
            self.forget()
            self.db = self._opened()
            self._catch_up()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def forget(self) -> None:
        """Remove the table, durably: what was purged must not be in it, nor in one left under a former name."""
        self.db.close()
        held = self._vault.history.refs.list("refs/vault/feedback/")
        tables = (file for file in self._file.parent.glob("feedback-*.db") if _ref(file) not in held)
        for file in (self._file, *tables):
            _remove(file, self._vault)

    @property
    def builds(self) -> Builds:
        """The project's builds as the table knows them."""
        if self._builds is None:
            self._builds = Builds(self._vault, self.project)
        return self._builds

    def history(self) -> dict[str, int]:
        """The project's snapshots, each with its place, the newest first."""
        return {str(one): place for place, one in enumerate(self._vault.history.index(self.project).commits)}

    # -- what is put in -------------------------------------------------------------------------------

    def held(self, keys: Sequence[int]) -> dict[int, int]:
        """Of these keys (`rows.key_of`) those that are there, with their digests."""
        found: dict[int, int] = {}
        for start in range(0, len(keys), 30_000):
            part = keys[start : start + 30_000]
            marks = ",".join("?" * len(part))
            found.update(self.db.execute(f"SELECT key, digest FROM known WHERE key IN ({marks})", part))
        return found

    def put(self, path: bytes, rows: Sequence[Row]) -> None:
        """Add the records of a segment, in one transaction."""
        with self._writing():
            self._put(path, rows)

    def _put(self, path: bytes, batch: Sequence[Row]) -> None:
        segment = self.db.execute("INSERT INTO segment(path) VALUES(?)", (path,)).lastrowid
        [(row,)] = self.db.execute("SELECT ifnull(max(row), 0) FROM said")
        first = row + 1
        known, rows = [], []
        is_other = False
        there = self.held([one.key for one in batch])
        for key, digest, build, cells, start, length in batch:
            if key in there:
                if not self._replaces(key, digest, there[key], bool(cells[-1])):
                    continue
                is_other = True
            row += 1
            there[key] = digest
            known.append((key, digest, row))
            rows.append((row, self._tie(build, cells), segment, start, length, *cells))
        self.db.executemany("INSERT OR REPLACE INTO known VALUES(?,?,?)", known)
        try:
            self.db.executemany(_INSERT, rows)
        except UnicodeEncodeError:
            self.db.execute("DELETE FROM said WHERE row >= ?", (first,))
            self.db.executemany(_INSERT, ([_clean(cell) for cell in cells] for cells in rows))
        self.db.execute("INSERT INTO words(rowid, text) SELECT row, text FROM said WHERE row >= ?", (first,))
        if is_other:
            self._count_anew()
        else:
            self.db.execute(_COUNT, (first,))

    def _count_anew(self) -> None:
        self.db.execute("DELETE FROM counted")
        self.db.execute(_COUNT, (0,))

    def _replaces(self, key: int, digest: int, held: int, is_purged: bool) -> bool:
        """Whether a record takes the place of one with its id, which only another machine can have brought.

        What was purged stays so; else the same one counts, in whatever order segments come.
        """
        if digest == held:
            return False
        found = self.db.execute(
            "SELECT row, purged, text FROM said WHERE row = (SELECT row FROM known WHERE key = ?)", (key,)
        ).fetchone()
        if found is None or (found[1], -held) > (is_purged, -digest):
            return False
        self.db.execute("INSERT INTO words(words, rowid, text) VALUES('delete', ?, ?)", (found[0], found[2]))
        self.db.execute("DELETE FROM said WHERE row = ?", (found[0],))
        return True

    def _tie(self, build: str, cells: tuple[Any, ...]) -> int:
        """The number of the tie of a record."""
        _, seconds, target, _, _, _, _, branch, *_ = cells
        # A build says more than shop and branch.
        key = (build, "", "") if build else ("", target, branch)
        line = self._ties.get(key)
        if line is None:
            line = self._ties[key] = self._stretches(*map(_clean, key))
        return line[bisect_right(line, float(seconds), key=_start) - 1 if seconds is not None else 0][1]

    def _stretches(self, build: str, target: str, branch: str) -> list[tuple[float, int]]:
        """The ties of what says the same of its build, by where their stretches of time begin; made when missing."""
        found = self.db.execute(
            "SELECT start, number FROM tie WHERE (build, target, branch) = (?, ?, ?) ORDER BY start",
            (build, target, branch),
        ).fetchall()
        if not found:
            steps = [(-inf, self.builds.resolve(build))] if build else self.builds.timeline(branch, target)
            for start, resolved in steps:
                number = self.db.execute(
                    "INSERT INTO tie(build, target, branch, start, snapshot, confidence, how) VALUES(?,?,?,?,?,?,?)",
                    (build, target, branch, start, resolved.snapshot, resolved.confidence, resolved.how),
                ).lastrowid
                found.append((start, number))
        return found

    # -- what the vault holds ------------------------------------------------------------------------

    def _catch_up(self) -> None:
        state = self._state()
        about = dict(self.db.execute("SELECT key, value FROM about"))
        if about.get("area") != state["area"]:
            self._load()
        if about.get("builds") != state["builds"]:
            with self._writing():
                self._tie_anew()
        if any(about.get(key) != value for key, value in state.items()):
            self._note(state)

    def _note(self, state: Mapping[str, str]) -> None:
        self.db.executemany("INSERT OR REPLACE INTO about VALUES(?,?)", state.items())

    def noted(self) -> None:
        """Note that the table holds what the vault does, if nobody else put something in meanwhile."""
        [(count,)] = self.db.execute("SELECT count(*) FROM segment")
        state = self._state()["area"]
        if count == len(segments.paths(self.area)):
            self._note({"area": state})

    def _state(self) -> dict[str, str]:
        """What the records, and the project's builds, are made of."""
        history, component = self._vault.history, ref_component(self.project)
        tags = history.refs.list(f"refs/tags/{component}/")
        others = (f"refs/vault/builds/{component}", f"refs/notes/vault/{milestones.NOTES}")
        parts = [history.tip(self.project), *(history.refs.read(ref) for ref in others), *tags.values()]
        builds = hashlib.sha256(b"".join((part or b"-") for part in parts) + repr(sorted(tags)).encode()).hexdigest()
        area = history.refs.read(areas.ref_of(self.area.name))
        return {"area": area.hex() if area else "", "builds": builds}

    def _load(self) -> None:
        """Bring in the segments that are not there yet; from nothing when some have gone."""
        there = {path for (path,) in self.db.execute("SELECT path FROM segment")}
        held = segments.paths(self.area)
        if not there.issubset(held):
            self.forget()
            self.db = self._opened()
            self._ties.clear()
            there = set()
        new = [path for path in held if path not in there]
        with self.loading():
            for path in new:
                self.put(path, [row_of(*line) for line in segments.read(self.area, path)])

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Inside, many records may come: an empty table gets its indexes at the end, in a quarter of the time."""
        if not self.db.execute("SELECT 1 FROM segment").fetchone():
            for name in _INDEXES:
                self.db.execute(f"DROP INDEX IF EXISTS {name}")
        try:
            yield
        finally:
            for name, what in _INDEXES.items():
                self.db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {what}")

    def _tie_anew(self) -> None:
        """Let ties say what is known of builds now."""
        self._builds = None
        self._ties.clear()
        moved = 0
        groups: dict[tuple[str, str, str], dict[float, int]] = {}
        for number, build, target, branch, start in self.db.execute(
            "SELECT number, build, target, branch, start FROM tie"
        ):
            groups.setdefault((build, target, branch), {})[start] = number
        for (build, target, branch), old in groups.items():
            steps = [(-inf, self.builds.resolve(build))] if build else list(self.builds.timeline(branch, target))
            numbers = dict(old)
            for start, resolved in steps:
                row = (resolved.snapshot, resolved.confidence, resolved.how)
                if start in numbers:
                    self.db.execute(
                        "UPDATE tie SET snapshot = ?, confidence = ?, how = ? WHERE number = ?", (*row, numbers[start])
                    )
                    continue
                number = self.db.execute(
                    "INSERT INTO tie(build, target, branch, start, snapshot, confidence, how) VALUES(?,?,?,?,?,?,?)",
                    (build, target, branch, start, *row),
                ).lastrowid
                assert number is not None
                # What was said from here on belonged to the stretch that began before.
                before = numbers[max(one for one in numbers if one < start)]
                moved += self.db.execute(
                    "UPDATE said SET tie = ? WHERE tie = ? AND time >= ?", (number, before, start)
                ).rowcount
                numbers[start] = number
            kept = {start for start, _ in steps}
            for start in sorted(set(numbers) - kept):
                before = numbers[max(one for one in kept if one < start)]
                moved += self.db.execute("UPDATE said SET tie = ? WHERE tie = ?", (before, numbers[start])).rowcount
                self.db.execute("DELETE FROM tie WHERE number = ?", (numbers[start],))
        if moved:
            self._count_anew()

    # -- the file ------------------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        self._vault.disk.make_folder(self._file.parent)
        try:
            return _connected(self._file)
        except sqlite3.DatabaseError:
            _remove(self._file, self._vault)
            return _connected(self._file)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            self._ties.clear()
            raise
        self.db.execute("COMMIT")


def _connected(file: Path) -> sqlite3.Connection:
    """The table in a file, made when it is empty. Raises DatabaseError for what is none, or of another version."""
    create_private(file)
    db = sqlite3.connect(file, isolation_level=None, timeout=60)
    try:
        # It can be rebuilt, so it need not survive a power cut.
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA journal_mode=MEMORY")
        # What sorts rows for an index takes as much again, then a file; in memory it would grow with them.
        db.execute(f"PRAGMA cache_size=-{_CACHE}")
        [(version,)] = db.execute("PRAGMA user_version")
        if version == 0:
            try:
                db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}{_FEWER}PRAGMA user_version={_VERSION};COMMIT;")
            except sqlite3.OperationalError:
                # Another process was quicker.
                db.rollback()
            [(version,)] = db.execute("PRAGMA user_version")
        if version != _VERSION:
            raise sqlite3.DatabaseError("of another version")
        db.execute("SELECT count(*) FROM about").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _ref(file: Path) -> str:
    """The ref of the records that a table is of."""
    return areas.ref_of(f"feedback/{file.stem.removeprefix('feedback-')}")


def _start(stretch: tuple[float, int]) -> float:
    return stretch[0]


def _clean(cell: Any) -> Any:
    """What SQLite takes: text without halves of pairs."""
    return cell.encode("utf-8", "replace").decode() if isinstance(cell, str) else cell


def _remove(file: Path, vault: Vault) -> None:
    for name in (file, file.with_name(file.name + "-journal")):
        with suppress(FileNotFoundError):
            vault.disk.unlink(name)
    vault.disk.sync_folder(file.parent)
