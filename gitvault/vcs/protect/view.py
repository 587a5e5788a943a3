"""A snapshot with the files that it relies on version control for: what it stores, and beneath that the base."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from gitvault.core.interfaces import Progress, StorageManager
from gitvault.core.models import Affected, Defect, Difference, Entry, ObjectId, Pointer, SnapshotId
from gitvault.core.utils.names import to_line
from gitvault.core.versioning import contents, difference, index
from gitvault.core.versioning.history import NO_OBJECT, Damaged, GitHistory
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError, ToolError
from gitvault.vcs import lean
from gitvault.vcs.protect import record, repository
from gitvault.vcs.protect.record import Attached
from gitvault.vcs.protect.repository import Repository
from gitvault.vcs.protect.sources import Sources

if TYPE_CHECKING:
    from gitvault.vcs.client_sources import ClientSources

_MODES = {index.MODE_FILE: 0o644, index.MODE_EXECUTABLE: 0o755, index.MODE_SYMLINK: 0o777}


class Based(NamedTuple):
    """A file that version control has."""

    entry: Entry
    attached: Attached | lean.Attached


@dataclass(frozen=True)
class View:
    """One snapshot. `attached` and `carried` are empty for one that stores everything."""

    history: GitHistory
    snapshot: SnapshotId

    @cached_property
    def attached(self) -> list[Attached]:
        """Its checkouts of git. Raises CorruptionError, NotFoundError."""
        return record.attached(self.history, self._tree)

    @cached_property
    def carried(self) -> list[lean.Attached]:
        """Its checkouts of hg and svn. Raises CorruptionError, NotFoundError."""
        return [one for one in lean.attached(self.history, self._tree) if one.record.vcs in ("hg", "svn")]

    @cached_property
    def _tree(self) -> ObjectId | None:
        tree, _ = self.history.trees(self.snapshot, lambda _: None)
        return tree

    @property
    def is_plain(self) -> bool:
        """Whether it stores all that there is of it."""
        return not self.attached and not any(one.has_base for one in self.carried)

    @cached_property
    def based(self) -> dict[bytes, Based]:
        """By path the files that version control has, also those that the snapshot stores otherwise."""
        found: dict[bytes, Based] = {}
        for attached in self.attached:
            said = attached.record
            prefix = said.path + b"/" if said.path else b""
            deleted = set(said.deleted)
            for entry in index_of(self.history, attached):
                if entry.is_file and entry.path not in deleted:
                    shown = _shown(prefix, entry)
                    found[shown.path] = Based(shown, attached)
        for carried in self.carried:
            prefix = carried.path + b"/" if carried.path else b""
            gone = carried.deleted
            for entry in lean.entries_of(self.history, carried):
                if entry.path not in gone:
                    shown = _shown(prefix, entry)
                    found[shown.path] = Based(shown, carried)
        return found

    def entries(self, path: bytes = b"", *, recursive: bool = True, damaged: Damaged | None = None) -> Iterator[Entry]:
        """As `contents.entries`. Raises NotFoundError, CorruptionError."""
        if self.is_plain:
            yield from contents.entries(self.history, self.snapshot, path, recursive=recursive, damaged=damaged)
            return
        path = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
        if path in self.based and not self._is_stored(path):
            yield self.based[path].entry
            return
        found: dict[bytes, Entry] = {}
        missing: NotFoundError | None = None
        try:
            stored = contents.entries(self.history, self.snapshot, path, recursive=recursive, damaged=damaged)
            found = {entry.path: entry for entry in stored}
        except NotFoundError as error:
            missing = error
        if set(found) == {path} and path:
            yield found[path]
            return
        prefix = path + b"/" if path else b""
        for where, based in self.based.items():
            if not where.startswith(prefix):
                continue
            inner = where[len(prefix) :].split(b"/")
            for depth in range(1, len(inner)):
                folder = prefix + b"/".join(inner[:depth])
                if folder not in found and (recursive or depth == 1):
                    found[folder] = Entry(folder, "folder", 0o755, 0, 0, NO_OBJECT)
            if recursive or len(inner) == 1:
                found.setdefault(where, based.entry)
        if missing and not found:
            raise missing
        yield from (found[where] for where in sorted(found, key=lambda where: where.split(b"/")))

    def _is_stored(self, path: bytes) -> bool:
        try:
            contents.find(self.history, self.snapshot, path, lambda _: None)
        except NotFoundError:
            return False
        return True

    def find(self, path: bytes) -> Based | None:
        """The file at a path that version control has and the snapshot does not store; None when there is none."""
        path = b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))
        if self.is_plain or path not in self.based or self._is_stored(path):
            return None
        return self.based[path]

    def read(self, based: Based) -> bytes:
        """The content of such a file. Raises NotFoundError when it cannot be had."""
        with self._sources(based.attached) as sources:
            return sources.read(based.entry.blob)

    def read_back(self, store: StorageManager, progress: Progress | None = None) -> int:
        """Read every file, its hash checked; how many bytes that were.

        Raises CorruptionError, which names the first that is damaged or nowhere to be had.
        """
        files = [entry for entry in self.entries() if entry.kind == "file"]
        relied = [] if self.is_plain else [self.based[entry.path] for entry in files if self._relies_on(entry)]
        others = {based.entry.path for based in relied}
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress("reading back", done, len(files))

        with open(os.devnull, "wb") as nowhere:
            for entry in files:
                if entry.path not in others:
                    try:
                        if entry.pointer:
                            store.retrieve_file(entry.pointer, nowhere)
                        else:
                            self.history.blob(entry.blob)
                    except (NotFoundError, CorruptionError) as error:
                        raise CorruptionError(f"{to_line(entry.path)}: {error}") from error
                    tell(1)
        everywhere: list[Attached | lean.Attached] = [*self.attached, *self.carried]
        for attached in everywhere:
            wanted: dict[ObjectId, list[bytes]] = {}
            for based in relied:
                if based.attached is attached:
                    wanted.setdefault(based.entry.blob, []).append(based.entry.path)
            with self._sources(attached) as sources:
                for oid, _ in sources.read_many(tuple(wanted)):
                    tell(len(wanted.pop(oid)))
                for oid, paths in wanted.items():
                    raise CorruptionError(f"{to_line(paths[0])}: {oid.hex()}: {sources.reason()}")
        return sum(entry.size for entry in files)

    def _relies_on(self, entry: Entry) -> bool:
        """Whether an entry of `entries` is a file that version control has, and the snapshot does not store."""
        based = self.based.get(entry.path)
        return based is not None and based.entry is entry

    def _sources(self, attached: Attached | lean.Attached) -> Sources | ClientSources:
        if isinstance(attached, lean.Attached):
            from gitvault.vcs.client_sources import ClientSources

            return ClientSources(self.history, attached)
        return Sources(self.history, attached)


def _shown(prefix: bytes, entry: index.IndexEntry) -> Entry:
    kind = "symlink" if entry.mode == index.MODE_SYMLINK else "file"
    return Entry(prefix + entry.path, kind, _MODES[entry.mode], entry.size, 0, entry.blob)


def index_of(history: GitHistory, attached: Attached) -> list[index.IndexEntry]:
    """The index of a checkout in a snapshot. Raises CorruptionError, NotFoundError."""
    data = attached.joined(history, record.INDEX)
    return index.decode_plain(data) if data else []


# -- what changed ------------------------------------------------------------------------------------


def compare(a: View, b: View, store: StorageManager) -> Difference:
    """What changed between two snapshots, whether they store a file or rely on version control for it."""
    if a.is_plain and b.is_plain:
        return a.history.compare(a.snapshot, b.snapshot)
    old, new = _flat(a), _flat(b)
    added = {path: new[path].blob for path in new.keys() - old.keys()}
    deleted = {path: old[path].blob for path in old.keys() - new.keys()}
    changed = [path for path in old.keys() & new.keys() if not _is_same(old[path], new[path], store)]
    return difference.told(added, changed, deleted)


def _flat(view: View) -> dict[bytes, Entry]:
    entries = view.entries(damaged=lambda _: None)
    return {entry.path: entry for entry in entries if entry.kind != "folder"}


def _is_same(old: Entry, new: Entry, store: StorageManager) -> bool:
    if old.kind != new.kind or (old.mode ^ new.mode) & 0o100:
        return False
    if old.blob == new.blob:
        return True
    # One side is stored in chunks and the other a blob of the user's repository: only the bytes can tell.
    chunked = [entry.pointer for entry in (old, new) if entry.pointer]
    other = next((entry for entry in (old, new) if not entry.pointer), None)
    return len(chunked) == 1 and other is not None and _blob_id(chunked[0], store) == other.blob


def _blob_id(pointer: Pointer, store: StorageManager) -> ObjectId | None:
    digest = hashlib.sha1(b"blob %d\0" % pointer.size, usedforsecurity=False)
    with suppress(NotFoundError, CorruptionError):
        store.retrieve_file(pointer, cast(BinaryIO, _Hashed(digest.update)))
        return ObjectId(digest.digest())
    return None


@dataclass(frozen=True, slots=True)
class _Hashed:
    write: Callable[[bytes], object]


# -- is the base there -------------------------------------------------------------------------------


def missing_bases(history: GitHistory, projects: Iterable[str]) -> Iterator[Defect]:
    """Where snapshots rely on commits that nobody can give; no network is asked."""
    affected: dict[tuple[str, str], list[Affected]] = {}
    known: dict[ObjectId, list[tuple[str, str]]] = {}
    answers: dict[tuple[str, ...], tuple[str, str] | None] = {}
    for project in projects:
        with suppress(GitVaultError):
            for at, commit in history.walk(history.tip(project)):
                top = contents.attached(history, commit.tree)
                if top is None:
                    continue
                if top not in known:
                    found = [_missing_base(one.record, answers) for one in record.attached(history, commit.tree)]
                    found += [_missing_server(one) for one in lean.attached(history, commit.tree)]
                    known[top] = [one for one in found if one]
                for missing in known[top]:
                    where = Affected(project, history.identify(at), b"")
                    affected.setdefault(missing, []).append(where)
    for (oid, reason), places in affected.items():
        yield Defect("base", oid, reason, tuple(places))


def _missing_base(
    said: record.Record, answers: dict[tuple[str, ...], tuple[str, str] | None]
) -> tuple[str, str] | None:
    """A commit that is needed and nowhere, with the reason; None where there is none, or only a remote can tell."""
    wanted = set(said.relied.values())
    if not wanted:
        return None
    key = (said.home, *sorted(said.remotes.values()), *sorted(wanted))
    if key in answers:
        return answers[key]
    answers[key] = None
    tried = []
    for place in (said.home, *said.remotes.values()):
        if "://" in place and not place.startswith("file://"):
            return None
        folder = place.removeprefix("file://")
        where = next((at for at in (folder, f"{folder}/.git", f"{folder}.git") if repository.is_git_dir(at)), None)
        if not where:
            if not folder.startswith("/") and place != said.home:
                # host:path, or what only git resolves.
                return None
            tried.append(f"{place} is gone")
            continue
        with suppress(ToolError):
            wanted -= repository.existing(Repository(where, where), wanted)
        if not wanted:
            return None
        tried.append(f"{place} does not have it")
    oid = min(wanted)
    answers[key] = oid, f"the base of {to_line(said.path) or 'the checkout'}: {'; '.join(tried)}"
    return answers[key]


def _missing_server(attached: lean.Attached) -> tuple[str, str] | None:
    """The same of a checkout of hg or svn: where the checkout is gone and its server is a folder that is gone, too."""
    from gitvault.vcs import servers

    said = attached.record
    home = Path(said.home)
    server = servers.Server(home, said.vcs, said.url)
    place = server.place()
    if not attached.has_base or (home / f".{said.vcs}").is_dir() or place is None or place.exists():
        return None
    where = f"{to_line(attached.path) or 'the checkout'}: {said.home} is gone; {said.url} is gone"
    return said.revision, f"the base of {where}"
