"""Purging paths from all history: every snapshot that holds them is written anew without, and nothing can undo that.

The bytes are gone after the next sweep. A tombstone stays for each content that is nowhere else: its hash and when,
so that a merge with another vault does not bring it back unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from gitvault.core.models import Entry, ForgetReport, ObjectId, SnapshotId
from gitvault.core.patterns import Patterns
from gitvault.core.utils.names import from_tree_name, tree_name
from gitvault.core.versioning import contents, meta, operations
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import NO_OBJECT, GitHistory
from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE, Commit, encode_tree, parse_message
from gitvault.core.versioning.operations import RefMove
from gitvault.core.versioning.packfile import PackWriter
from gitvault.core.versioning.rewrite import Content, Rewrite
from gitvault.errors import GitVaultError

Matches = Callable[[bytes, bool], bool]
"""Whether a path itself is meant, given whether it is a folder; those above it are not looked at."""


class Replacement(NamedTuple):
    """A file that snapshots are to have in the place of another."""

    name: bytes
    """In the same folder."""
    content: bytes
    """What stands in git for it: the content itself, or a pointer."""
    size: int
    """Of the content itself, in bytes."""


Instead = Mapping[bytes, Sequence[Replacement]]
"""Paths of files that go as well, each with what takes its place."""


class Attachments(Protocol):
    """What is attached to snapshots, which may hold more of what is meant."""

    def look(self, attached: ObjectId, matches: Matches) -> tuple[frozenset[bytes], frozenset[ObjectId]]:
        """The paths in the project that match in there, and the blobs that they alone hold. Raises CorruptionError."""
        ...

    def without(self, attached: ObjectId, matches: Matches, pack: PackWriter) -> ObjectId | None:
        """The tree that is attached then, None when nothing is. Raises CorruptionError."""
        ...


class _Found(NamedTuple):
    """What matches in a folder and below."""

    paths: frozenset[bytes]
    files: int
    size: int


_NOTHING = _Found(frozenset(), 0, 0)
_Key = tuple[bytes, ObjectId | None, ObjectId | None]
"""A folder's path, its tree, its meta tree."""
_Mirrored = tuple[int, ObjectId]
_Trees = tuple[ObjectId | None, _Mirrored | None]


class Search:
    """Finds what matches in snapshots; a folder that several hold is looked at once."""

    def __init__(
        self,
        history: GitHistory,
        patterns: Sequence[str],
        attachments: Attachments | None = None,
        instead: Instead | None = None,
    ) -> None:
        self._history = history
        self.attachments = attachments
        self.instead = instead or {}
        self._rules = Patterns(patterns)
        self._known: dict[_Key, _Found] = {}
        self.blobs: set[ObjectId] = set()
        """What the matching files hold in git's trees."""
        self.large: dict[ObjectId, str] = {}
        """Those of them that are pointers, with the SHA-256 of what they point to."""

    def matches(self, path: bytes, is_folder: bool) -> bool:
        """Whether a path itself is meant; those above it are not looked at."""
        return (not is_folder and path in self.instead) or self._rules.excluded_by(path, is_folder) is not None

    def look(self, tree: ObjectId | None, meta_tree: ObjectId | None, path: bytes = b"") -> _Found:
        """What matches in a folder. Raises CorruptionError, NotFoundError."""
        key = path, tree, meta_tree
        if key not in self._known:
            self._known[key] = self._look(key)
        return self._known[key]

    def _look(self, key: _Key) -> _Found:
        path, tree, meta_tree = key
        paths: set[bytes] = set()
        files = size = 0
        top = contents.attached(self._history, tree) if self.attachments and not path else None
        if self.attachments and top:
            inside_them, blobs = self.attachments.look(top, self.matches)
            paths |= inside_them
            self.blobs |= blobs
        for entry, _, below in contents.listing(self._history, tree, meta_tree, path=path)[1]:
            inside = path + b"/" + entry.path if path else entry.path
            folder = entry.kind == "folder"
            if self.matches(inside, folder):
                paths.add(inside)
                for new in self.instead.get(inside, ()):
                    files -= 1
                    size -= new.size
                for one in self._all(entry, below):
                    files += 1
                    size += one.size
                    self.blobs.add(one.blob)
                    if one.pointer:
                        self.large[one.blob] = one.pointer.oid
            elif folder:
                found = self.look(entry.blob, below, inside)
                paths |= found.paths
                files += found.files
                size += found.size
        return _Found(frozenset(paths), files, size) if paths else _NOTHING

    def _all(self, entry: Entry, below: ObjectId | None) -> Iterator[Entry]:
        if entry.kind != "folder":
            yield entry
            return
        for inner, _, deeper in contents.listing(self._history, entry.blob, below)[1]:
            yield from self._all(inner, deeper)


class _Purge:
    """Builds trees without what matches, into a rewrite's pack."""

    def __init__(self, history: GitHistory, search: Search, rewrite: Rewrite) -> None:
        self._history = history
        self._search = search
        self._pack = rewrite.pack
        self._known: dict[_Key, _Trees] = {}

    def change(self, _snapshot: SnapshotId, commit: Commit, meta_commit: Commit | None) -> Content:
        """What a snapshot is to hold: a `Change`."""
        meta_tree = meta_commit.tree if meta_commit else None
        found = self._search.look(commit.tree, meta_tree)
        tree, mirrored = self._without(commit.tree, meta_tree, b"")
        said = dict(parse_message(commit.message)[1])
        less = (("Vault-Files", found.files), ("Vault-Bytes", found.size))
        counts = {key: str(max(0, int(said[key]) - n)) for key, n in less if said.get(key, "").isdecimal()}
        made = tree or self._pack.add(b"tree", b"")
        # History from elsewhere may hold the same, and no snapshot needs it.
        return Content(made, mirrored[1] if mirrored else None, counts, merged=False)

    def _without(self, tree: ObjectId | None, meta_tree: ObjectId | None, path: bytes) -> _Trees:
        key = path, tree, meta_tree
        if key not in self._known:
            self._known[key] = self._make(key)
        return self._known[key]

    def _make(self, key: _Key) -> _Trees:
        """The tree, None for one without files; mode and id of the meta tree."""
        path, tree, meta_tree = key
        tree = None if tree == NO_OBJECT else tree
        blob, mirrored = contents.mirror(self._history, meta_tree)
        if not self._search.look(tree, meta_tree, path).paths:
            return tree, (MODE_FILE if blob == meta_tree else MODE_TREE, meta_tree) if meta_tree else None
        entries = []
        below = []
        gone = []
        placed: dict[bytes, tuple[bytes, Replacement]] = {}
        """With the name of what they are in the place of."""
        # Folders without files are in the meta tree only.
        empty = {stored: (MODE_TREE, NO_OBJECT) for stored in mirrored}
        for stored, (mode, oid) in (empty | self._history.tree(tree)).items():
            name = from_tree_name(stored)
            inside = path + b"/" + name if path else name
            if self._search.attachments and stored == contents.ATTACHED and not path:
                left = self._search.attachments.without(oid, self._search.matches, self._pack)
                entries += [(stored, MODE_TREE, left)] if left else []
            elif self._search.matches(inside, mode == MODE_TREE):
                gone.append(name)
                placed |= {tree_name(new.name): (name, new) for new in self._search.instead.get(inside, ())}
            elif mode != MODE_TREE:
                entries.append((stored, mode, oid))
            else:
                inner, inner_meta = self._without(oid, mirrored.get(stored), inside)
                entries += [(stored, MODE_TREE, inner)] if inner else []
                below += [(stored, *inner_meta)] if inner_meta else []
        for stored, _, _ in entries:
            placed.pop(stored, None)
        entries += [(stored, MODE_FILE, self._pack.add(b"blob", new.content)) for stored, (_, new) in placed.items()]
        made = self._pack.add(b"tree", encode_tree(entries)) if entries else None
        if not meta_tree:
            return made, None
        if blob:
            said = self._history.blob(blob)
            lines = dict(self._lines(said, placed.values())) if placed else {}
            blob = self._pack.add(b"blob", meta.without(said, gone, lines))
            if path and not below:
                return made, (MODE_FILE, blob)
            below.append((meta.META_NAME, MODE_FILE, blob))
        return made, (MODE_TREE, self._pack.add(b"tree", encode_tree(below)))

    def _lines(self, said: bytes, placed: Iterable[tuple[bytes, Replacement]]) -> Iterator[tuple[bytes, str]]:
        """What the meta chain says of files that take others' places: by it a sweep knows what is large."""
        own, known = meta.decode(said)
        for name, new in placed:
            was = known.get(name, own)
            pointer = self._history.decode_pointer(new.content)
            line = meta.format_line(
                *(new.name, "file", was.mode & 0o666, was.mtime_ns, was.owner, new.size, own.owner),
                pointer=pointer.oid if pointer else None,
            )
            yield new.name, line


def search(
    history: GitHistory,
    patterns: Sequence[str],
    projects: Sequence[str],
    attachments: Attachments | None = None,
    instead: Instead | None = None,
) -> tuple[Search, ForgetReport]:
    """What in the projects' snapshots matches gitignore patterns, or is a path of `instead`.

    Raises CorruptionError, GitVaultError.
    """
    for pattern in patterns:
        if not pattern.strip() or pattern.startswith(("#", "!")):
            raise GitVaultError(f"{pattern!r}: not a pattern of paths; give one as in .gitignore, such as /keys/*.pem")
    looking = Search(history, patterns, attachments, instead)
    paths: set[tuple[str, bytes]] = set()
    snapshots: list[SnapshotId] = []
    for project in projects:
        for oid, commit in history.walk(history.tip(project)):
            named = history.meta_commit(commit)
            if found := looking.look(commit.tree, history.commit(named).tree if named else None).paths:
                paths |= {(project, path) for path in found}
                snapshots.append(identity(oid, commit))
    return looking, ForgetReport(tuple(sorted(paths)), tuple(snapshots), False)


def forget(
    history: GitHistory,
    found: tuple[Search, ForgetReport],
    projects: Sequence[str],
    *,
    now: datetime,
    host: str,
    clear: Callable[[str], None],
) -> ForgetReport:
    """Remove what was found from every snapshot of the projects. The caller has held the vault's lock since `search`.

    What pointers of its `instead` point to is in the chunk store, durable. `clear`: makes a project's caches forget
    all, durably. Raises CorruptionError; nothing is removed then.
    """
    looking, report = found
    touched = sorted({project for project, _ in report.paths})
    with Rewrite(history) as rewrite:
        purge = _Purge(history, looking, rewrite)
        for project in touched:
            rewrite.project(project, purge.change)
        if touched:
            rewrite.follow()
            for ref in history.refs.list(operations.UNDO):
                rewrite.lead(ref, None)
            rewrite.moves += _tombstones(history, looking, projects, rewrite, now)
            for project in touched:
                clear(project)
            operations.perform(history, "forget", rewrite.pack, rewrite.moves, time=now, host=host)
    return replace(report, done=True)


def _tombstones(
    history: GitHistory, looking: Search, projects: Sequence[str], rewrite: Rewrite, now: datetime
) -> list[RefMove]:
    when = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    gone = looking.blobs - _surviving(history, looking, projects)
    stones = operations.tombstones(history) | {looking.large.get(oid, oid.hex()): when for oid in gone}
    text = "".join(f"{digest} {moment}\n" for digest, moment in sorted(stones.items()))
    ref, file = operations.TOMBSTONES, operations.TOMBSTONES_FILE
    return [RefMove(ref, *history.add_file(rewrite.pack, ref, file, text.encode(), "Tombstones"))]


def _surviving(history: GitHistory, looking: Search, projects: Sequence[str]) -> set[ObjectId]:
    """What matches and is somewhere else too."""
    found: set[ObjectId] = set()
    seen: set[tuple[bytes | None, ObjectId]] = set()
    for project in history.projects():
        meant = project in projects
        pending = [(b"", commit.tree) for _, commit in history.walk(history.tip(project))]
        while pending:
            path, tree = pending.pop()
            # Where nothing is meant, a tree is the same wherever it is.
            key = path if meant else None, tree
            if key in seen:
                continue
            seen.add(key)
            for stored, (mode, oid) in history.tree(tree).items():
                inside = path + b"/" + from_tree_name(stored) if path else from_tree_name(stored)
                folder = mode == MODE_TREE
                if (folder or oid in looking.blobs) and not (meant and looking.matches(inside, folder)):
                    if folder:
                        pending.append((inside, oid))
                    else:
                        found.add(oid)
    return found
