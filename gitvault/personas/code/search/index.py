"""The index of lines: kept up to date, and asked. A cache: it may be deleted at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.files import Disk
from gitvault.core.utils.names import to_line
from gitvault.errors import CorruptionError, NotFoundError, ToolError
from gitvault.personas.code.search import history
from gitvault.personas.code.search.catalog import Catalog, alone, full_disk_named
from gitvault.personas.code.search.lines import difference, is_binary
from gitvault.personas.code.search.model import Change, IndexState, Query, Source, Version
from gitvault.personas.code.search.query import Found, Read, changes, find, pickaxe
from gitvault.personas.code.search.segments import BINARY, SETTLED, UNREAD, Draft, Segment

if TYPE_CHECKING:
    from gitvault.personas.code.search.overlay import Overlays

WAIT = 10.0
"""Seconds: the run that a snapshot starts in the background takes less than one."""
_Tell = Callable[[int, int], None]
"""Told how many versions of how many are done."""
_UNREADABLE = (ToolError, CorruptionError, NotFoundError, OSError)
# Changes whose blobs git is asked for before they are needed.
_AHEAD = 64
# So many segments of about one size are made one; larger than the last size they stay.
_SIZES = (1 << 16, 1 << 20, 8 << 20, 32 << 20)
_TOGETHER = 6


class Index:
    """An index in a folder. For one thread; several processes may read while one updates."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        self.folder = folder
        self._disk = disk
        self._catalog: Catalog | None = None
        self._opened: dict[str, Segment] = {}

    @classmethod
    def open(cls, folder: Path, disk: Disk) -> Index:
        """Open an index; an empty one is made when there is none, or none that this version can read."""
        disk.make_folder(folder)
        index = cls(folder, disk)
        try:
            index._catalog = Catalog(folder)
            usable = index._catalog.is_ours()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise
            usable = False
        if not usable:
            index.close()
            for path in folder.iterdir():
                disk.unlink(path)
            index._catalog = Catalog(folder)
        return index

    @property
    def catalog(self) -> Catalog:
        """Its versions and paths."""
        if self._catalog is None:
            self._catalog = Catalog(self.folder)
        return self._catalog

    def close(self) -> None:
        """Close its files."""
        self._opened.clear()
        if self._catalog:
            self._catalog.close()
            self._catalog = None

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- keeping it up to date -------------------------------------------------------------------

    def stale(self, sources: Iterable[Source]) -> list[Source]:
        """The sources that changed since they were read last."""
        known = self.catalog.stamps()
        return [source for source in sources if known.get(source) != history.stamp(source)]

    def update(self, sources: Iterable[Source], tell: _Tell | None = None) -> IndexState:
        """Read what is new in these sources, and forget those that are not among them.

        A source that cannot be read is a problem, and keeps what was read. Raises StorageFullError; LockedError when
        another run is at it for longer than WAIT.
        """
        wanted = list(dict.fromkeys(sources))
        with full_disk_named(self.folder), alone(self.folder, WAIT):
            self._clear()
            for number, source in self.catalog.sources().items():
                if source not in wanted:
                    with self.catalog.change():
                        self.catalog.forget(number)
            stamps: dict[int, bytes] = {}
            problems = []
            for source in self.stale(wanted):
                stamp = history.stamp(source)
                try:
                    stamps[self._arrange(source)] = stamp
                except _UNREADABLE as error:
                    problems.append(f"{source.project}: {error}")
            before = self.catalog.count()
            todo = len(self.catalog.waiting())
            for number, stamp in stamps.items():
                try:
                    self._read(number, lambda done: tell(done, todo) if tell else None)
                    with self.catalog.change():
                        self.catalog.settle(number, stamp)
                except _UNREADABLE as error:
                    problems.append(f"{self.catalog.sources()[number].project}: {error}")
            self._merge()
        now = self.catalog.count()
        return IndexState(now, now - before, len(self.catalog.waiting()), (*self._unread(), *problems))

    def progress(self) -> IndexState:
        """How far it is, as of the last update."""
        return IndexState(self.catalog.count(), 0, len(self.catalog.waiting()), self._unread())

    def _unread(self) -> tuple[str, ...]:
        why = f"larger than {history.LARGEST >> 20} MiB or missing"
        return tuple(
            f"{project}: {to_line(path)}: {why} in {count} version{'s' * (count > 1)}; not searched"
            for project, path, count in self.catalog.unread()
        )

    def _arrange(self, source: Source) -> int:
        cut = history.shallow(source)
        lines = history.lines_of(source)
        with self.catalog.change():
            number = self.catalog.number_of(source)
            self.catalog.settle(number, None)
            self.catalog.cut_off(number, cut)
            self.catalog.arrange(number, lines)
        return number

    def _read(self, number: int, tell: Callable[[int], None]) -> None:
        source = self.catalog.sources()[number]
        waiting = self.catalog.waiting(number)
        done: list[tuple[int, history.Commit]] = []
        draft = Draft()
        told = 0
        paths: dict[bytes, int] = {}
        with self._opening(source) as (reader, overlays):
            # Newest first, as git stores it: older contents are coded against newer ones.
            read = history.commits(source, [oid for _, oid in waiting])
            if overlays:
                read = (c._replace(changes=overlays.changes(c.oid, c.parent, c.changes)) for c in read)
            versions = zip((n for n, _ in waiting), read, strict=True)
            for version, commit, change in _asked_ahead(versions, reader):
                if change:
                    _add(draft, reader, version, paths.setdefault(change.path, len(paths)), change)
                    continue
                done.append((version, commit))
                told += 1
                if draft.full:
                    self._write(draft, done, number, paths)
                    draft, done, paths = Draft(), [], {}
                    tell(told)
        if done:
            self._write(draft, done, number, paths)
            tell(told)

    @contextlib.contextmanager
    def _opening(self, source: Source) -> Iterator[tuple[history.Reader, Overlays | None]]:
        """A reader, and what makes changes of snapshots of a checkout."""
        if not source.checkout:
            with history.Reader(source) as reader:
                yield reader, None
            return
        # Not needed where projects are no checkouts.
        from gitvault.personas.code.search.overlay import Overlays

        tips = [oids[-1] for _, oids in history.lines_of(source)]
        with (
            contextlib.closing(Overlays(source, source.checkout)) as overlays,
            history.Reader(source, overlays.homes(tips)) as reader,
        ):
            yield reader, overlays

    def _write(
        self, draft: Draft, done: list[tuple[int, history.Commit]], number: int, paths: dict[bytes, int]
    ) -> None:
        project = self.catalog.sources()[number].project
        with self.catalog.change():
            draft.number_paths([self.catalog.path_number(project, path) for path in paths])

        def enter(name: str, size: int) -> None:
            self.catalog.add_segment(name, size, project)
            self.catalog.enter(done)
            named = list(paths)
            for path, versions in draft.unread.items():
                self.catalog.skip(number, named[path], versions)

        self._save(draft, f"{done[-1][0]}-{done[0][0]}", enter)

    def _save(self, draft: Draft, what: str, enter: Callable[[str, int], None]) -> None:
        size = draft.size
        path = self.folder / f"{what}-{hashlib.sha256(os.urandom(16)).hexdigest()[:8]}.lines"
        try:
            draft.write(path, self._disk)
            self._disk.sync_folder(self.folder)
            with self.catalog.change():
                enter(path.name, size)
        except BaseException:
            # After a purge it must not stay.
            self._disk.unlink(path)
            raise

    def _merge(self) -> None:
        """Make one of many small segments, so that a search opens few."""
        for largest in _SIZES:
            small = [name for name, size in self.catalog.segments() if size <= largest]
            if len(small) < _TOGETHER:
                continue
            draft = Draft()
            for name in small:
                draft.merge(self._segment(name))
            self._save(draft, "merged", partial(self.catalog.replace, small))
            for name in small:
                self._opened.pop(name, None)
                self._disk.unlink(self.folder / name)

    def _clear(self) -> None:
        """Begin anew where a segment is damaged or gone; remove what a killed run left."""
        try:
            self.segments()
        except CorruptionError:
            with self.catalog.change():
                self.catalog.reset()
        named = {name for name, _ in self.catalog.segments()}
        for path in self.folder.glob("*.lines"):
            if path.name not in named:
                self._disk.unlink(path)

    # -- asking ----------------------------------------------------------------------------------

    def _segment(self, name: str) -> Segment:
        if name not in self._opened:
            self._opened[name] = Segment(self.folder / name)
        return self._opened[name]

    def segments(self, projects: Sequence[str] = ()) -> list[Segment]:
        """Its segments, all or those with something of these projects. Raises CorruptionError."""
        try:
            return self._open_all(projects)
        except FileNotFoundError:
            # Merged meanwhile, or lost.
            try:
                return self._open_all(projects)
            except FileNotFoundError as error:
                raise CorruptionError(f"{error.filename}: gone; git-vault search --index makes it anew") from error

    def _open_all(self, projects: Sequence[str]) -> list[Segment]:
        return [self._segment(name) for name, _ in self.catalog.segments(projects)]

    def find(self, query: Query) -> Found:
        """The lines that fit. Raises GitVaultError for a pattern that does not compile or takes too long."""
        return find(self.catalog, self.segments(query.projects), query)

    def pickaxe(self, query: Query) -> list[Version]:
        """The versions that `git log --first-parent --no-renames` names, newest first of each repository.

        `fixed`: with -S, those that changed how often the text is there; else with -G, those of which an added or
        removed line fits, moves within a file aside. Raises GitVaultError as `find`.
        """
        with self.reader() as read:
            return pickaxe(self.catalog, self.segments(query.projects), query, read)

    def changes(self, after: int = 0, at: Callable[[str, bytes], bool] | None = None) -> Iterator[Change]:
        """Every file that differs between a version, numbered above `after`, and the one before it, oldest first.

        `at`: asked once for the project and path of each file, whether it is wanted.
        """
        return changes(self.catalog, self.segments(), after, at)

    def version(self, number: int) -> Version:
        """A version by its number. Raises NotFoundError."""
        self.catalog.source_of(number)
        return self.catalog.versions([number])[number]

    def again(self) -> Index:
        """The same index for another process, which must not use what this one has opened."""
        return Index(self.folder, self._disk)

    @contextlib.contextmanager
    def reader(self) -> Iterator[Read]:
        """Reads blobs, given by a version of the repository that has them and their id; None for one not to be had."""
        with contextlib.ExitStack() as stack:
            readers: dict[int, history.Reader] = {}
            known = self.catalog.sources()

            def read(version: int, blob: bytes) -> bytes | None:
                number = self.catalog.source_of(version)
                if number not in readers:
                    readers[number] = stack.enter_context(self._opening(known[number]))[0]
                return readers[number].read(blob or history.NONE)

            yield read


_Commits = Iterable[tuple[int, history.Commit]]
_Item = tuple[int, history.Commit, history.Changed | None]


def _flat(versions: _Commits) -> Iterator[_Item]:
    for version, commit in versions:
        for change in commit.changes:
            yield version, commit, change
        yield version, commit, None


def _asked_ahead(versions: _Commits, reader: history.Reader) -> Iterator[_Item]:
    """Each change, then None when a version's are through; git reads those that come next meanwhile."""
    coming: deque[_Item] = deque()
    for item in _flat(versions):
        if item[2]:
            reader.ahead(item[2].new)
            reader.ahead(item[2].old)
        coming.append(item)
        if len(coming) > _AHEAD:
            yield coming.popleft()
    yield from coming


def _add(draft: Draft, reader: history.Reader, version: int, path: int, change: history.Changed) -> None:
    before, after = reader.read(change.old), reader.read(change.new)
    kind = SETTLED * change.settled
    if before is None or after is None:
        draft.add(version, path, change.old, change.new, kind | UNREAD, ())
        return
    binary = is_binary(before) or is_binary(after)
    differing = difference(before, after, binary=binary)
    draft.add(version, path, change.old, change.new, kind | BINARY * binary, differing)
