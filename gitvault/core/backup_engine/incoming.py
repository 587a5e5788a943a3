"""Snapshots of what no folder holds: put together path by path from what another program kept.

Content is saved first, in any order. `record` then says what is different from the snapshot before, and only the trees
of the folders concerned are made anew. Nothing is visible before `flush`, which may cover any number of snapshots: the
disk is waited for once.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple, Self

from gitvault.core.backup_engine.reading import Limits, tree_mode
from gitvault.core.interfaces import StorageManager
from gitvault.core.models import ObjectId, Pointer, SnapshotId
from gitvault.core.storage import pointers
from gitvault.core.utils.kinds import is_binary
from gitvault.core.utils.names import from_tree_name, is_harmless, is_special, to_line, tree_name
from gitvault.core.versioning import contents, meta
from gitvault.core.versioning.history import NO_OBJECT, Details, GitHistory, Recorded
from gitvault.core.versioning.meta import Attributes
from gitvault.core.versioning.objects import LONGEST_PATH, MODE_SYMLINK, MODE_TREE, encode_tree, object_id
from gitvault.core.versioning.packfile import deflate
from gitvault.errors import CorruptionError

# Bytes of files, read whole, that are stored at once: one after the other, an import of 450 MB took 5.6 s.
_UNDER_WAY = 64 << 20
_NO_FOLDER = Attributes(b".", "folder", 0o755, 0, (0, 0), 0)


class Given(NamedTuple):
    """What is said of one path."""

    path: bytes
    kind: str
    """`file`, `folder` or `symlink`."""
    mode: int
    mtime_ns: int
    owner: tuple[int, int] = (0, 0)
    size: int = 0
    link: str = ""
    """Files of one snapshot with the same value are one file with several names."""
    xattrs: Mapping[str, bytes] | None = None
    sparse: bool = False
    digest: str = ""
    """What its content hashes to: `blob:` and a git id, or `sha256:` and hex digits; empty: that is not known."""


class Changes(NamedTuple):
    """What is different from the snapshot before."""

    gone: Sequence[bytes]
    """Paths that are no more, with all below them, and those that are of another kind now; the upper ones first."""
    given: Sequence[Given]
    """What is new or different."""
    only_files: bool = False
    """Whether folders are only there for files: one in which nothing is left is gone, too."""


class Content(NamedTuple):
    """What a path holds."""

    blob: ObjectId
    size: int
    pointer: Pointer | None = None
    escape: bool = False
    """git would act on a file of this name and content: the tree gives it another."""


@dataclass(slots=True)
class _Folder:
    own: Attributes = _NO_FOLDER
    files: dict[bytes, tuple[Attributes, Content]] = field(default_factory=dict)
    below: set[bytes] = field(default_factory=set)
    """Names of its folders."""
    tree: ObjectId = NO_OBJECT
    meta: ObjectId = NO_OBJECT
    alone: bool = True
    """Whether nothing is below, so that the meta tree is a blob."""
    count: int = 0
    bytes: int = 0


class Incoming:
    """A project's next snapshots. Works inside `with`, where the vault is locked.

    `lock`: makes that lock. `admit`: see take_snapshot. `register`: makes the project one, inside the
    lock, where it is none yet.
    """

    def __init__(
        self,
        project: str,
        history: GitHistory,
        store: StorageManager,
        limits: Limits,
        *,
        lock: Callable[[], AbstractContextManager[None]],
        admit: Callable[[int], None],
        register: Callable[[], None],
    ) -> None:
        self._project = project
        self._history = history
        self._store = store
        self._limits = limits
        self._lock = lock
        self._admit = admit
        self._register = register
        self._held = ExitStack()
        self._pool: ThreadPoolExecutor | None = None
        self._storing: deque[tuple[int, Future[Pointer]]] = deque()
        self._pack = history.new_pack()
        self._folders: dict[bytes, _Folder] = {b"": _Folder()}
        self._changed: set[bytes] = {b""}
        self._first: Recorded | None = None
        self._last: Recorded | None = None

    def __enter__(self) -> Self:
        self._held.enter_context(self._lock())
        self._history.objects.refresh()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._storing.clear()
        try:
            self._pack.abandon()
            self._store.discard()
            self._first = self._last = None
        finally:
            self._held.close()

    def go_on(self, snapshot: SnapshotId) -> None:
        """Begin with what a snapshot holds. Raises NotFoundError, CorruptionError."""
        history = self._history
        self._folders = {}
        tree, meta_tree = history.trees(snapshot)
        pending: list[tuple[bytes, ObjectId, ObjectId | None]] = [(b"", tree, meta_tree)]
        while pending:
            path, tree, meta_tree = pending.pop()
            prefix = path + b"/" if path else b""
            own, listed = contents.listing(history, tree, meta_tree, path=path)
            stored = {from_tree_name(name): name for name in history.tree(tree)}
            known = _Folder(own or _NO_FOLDER, tree=tree, meta=meta_tree or NO_OBJECT)
            for entry, said, below in listed:
                if entry.kind == "folder":
                    known.below.add(entry.path)
                    pending.append((prefix + entry.path, entry.blob, below))
                    continue
                said = said or Attributes(entry.path, entry.kind, entry.mode, entry.mtime_ns, (0, 0), entry.size)
                escape = stored[entry.path] != tree_name(entry.path)
                known.files[entry.path] = said, Content(entry.blob, entry.size, entry.pointer, escape)
            known.alone = not known.below
            self._folders[path] = known
        for path in sorted(self._folders, reverse=True):
            self._count(path, self._folders[path])
        self._changed = set()

    # -- content ---------------------------------------------------------------------------------

    def content(self, path: bytes) -> Content | None:
        """What the last snapshot holds at a path; None for nothing and for a folder."""
        folder, _, name = path.rpartition(b"/")
        known = self._folders.get(folder)
        found = known.files.get(name) if known else None
        return found[1] if found else None

    def save(self, given: Given, source: BinaryIO) -> Callable[[], Content]:
        """Save a file's content, or the path that a symlink names; memory stays bounded.

        It has been read when this returns, and what this returns gives it when it is saved. Both raise CorruptionError
        when it is not of the size or hash that was said of it, StorageFullError.
        """
        name = given.path.rpartition(b"/")[2]
        limits = self._limits
        if given.kind == "symlink" or given.size <= limits.whole:
            data = source.read(given.size)
            if len(data) != given.size or source.read(1):
                raise CorruptionError(f"expected {given.size} bytes, found {'more' if data else len(data)}")
            large = given.kind == "file" and (
                pointers.looks_like_pointer(data[:200])
                or (
                    given.size > limits.inline
                    and (
                        limits.is_plainly_binary(os.fsdecode(name), data)
                        or (is_binary(data) and not self._has(object_id(b"blob", data)))
                    )
                )
            )
            if not large:
                inline = self._inline(given, name, data)
                return lambda: inline
            stored = self._begin(given, name, data)
            return lambda: self._large(given, name, stored.result())
        content = self._large(given, name, self._store_file(given, name, source))
        return lambda: content

    def _inline(self, given: Given, name: bytes, data: bytes) -> Content:
        blob = object_id(b"blob", data)
        if given.digest:
            self._compare(given.digest, blob, data)
        self._add(b"blob", data, blob)
        escape = given.kind == "file" and is_special(name) and not is_harmless(name, data)
        return Content(blob, len(data), escape=escape or (given.kind == "symlink" and is_special(name)))

    @staticmethod
    def _compare(expected: str, blob: ObjectId, data: bytes) -> None:
        from hashlib import sha256

        found = f"blob:{blob.hex()}" if expected.startswith("blob:") else f"sha256:{sha256(data).hexdigest()}"
        if found != expected:
            raise CorruptionError(f"expected the hash {expected}, found {found}")

    def _begin(self, given: Given, name: bytes, data: bytes) -> Future[Pointer]:
        """Store a file's content in a thread, when not too much is under way."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min((os.cpu_count() or 1) + 1, 8), "incoming")
        while self._storing and sum(size for size, _ in self._storing) + len(data) > _UNDER_WAY:
            # Who asked for it is told what was wrong.
            self._storing.popleft()[1].exception()
        stored = self._pool.submit(self._store_file, given, name, BytesIO(data))
        self._storing.append((len(data), stored))
        return stored

    def _store_file(self, given: Given, name: bytes, source: BinaryIO) -> Pointer:
        from hashlib import sha1

        before = self.content(given.path)
        extension = os.path.splitext(os.fsdecode(name))[1].lower()
        hashed = _Hashed(source, sha1(b"blob %d\0" % given.size)) if given.digest.startswith("blob:") else None
        base = before.pointer if before else None
        pointer = self._store.store_file(hashed or source, base=base, file_extension=extension)  # type: ignore[arg-type]
        if pointer.size != given.size:
            raise CorruptionError(f"expected {given.size} bytes, found {pointer.size}")
        found = f"blob:{hashed.hash.hexdigest()}" if hashed else f"sha256:{pointer.oid}"
        if given.digest and found != given.digest:
            raise CorruptionError(f"expected the hash {given.digest}, found {found}")
        return pointer

    def _large(self, given: Given, name: bytes, pointer: Pointer) -> Content:
        blob = self._add(b"blob", pointers.encode(pointer))
        return Content(blob, pointer.size, pointer, is_special(name))

    def _add(self, kind: bytes, data: bytes, oid: ObjectId | None = None) -> ObjectId:
        oid = oid or object_id(kind, data)
        if not self._has(oid):
            self._pack.add_deflated(kind, oid, len(data), deflate(data))
        return oid

    def _has(self, oid: ObjectId) -> bool:
        return oid in self._pack or self._history.objects.contains(oid)

    # -- snapshots -------------------------------------------------------------------------------

    def record(self, changes: Changes, saved: Mapping[bytes, Content], details: Details) -> None:
        """Add the next snapshot.

        `saved`: content by path; that of other files is as it was at their path. What has none is left out.
        Raises CorruptionError, before anything is done, for a path that is none below a project.
        """
        _refuse(changes)
        for path in changes.gone:
            self._remove(path, changes.only_files)
        for one in changes.given:
            if one.kind != "folder" and (content := saved.get(one.path) or self.content(one.path)):
                self._put(one, content)
        for one in changes.given:
            if one.kind == "folder" and not (changes.only_files and one.path not in self._folders):
                known = self._folder(one.path)
                known.own = Attributes(
                    b".",
                    "folder",
                    one.mode,
                    one.mtime_ns,
                    one.owner,
                    0,
                    xattrs=one.xattrs if one.xattrs is not None else known.own.xattrs,
                )
                self._touch(one.path)
        tree, meta_tree = self._build()
        root = self._folders[b""]
        full = replace(details, project=self._project, files=root.count, bytes=root.bytes)
        self._last = self._history.record(self._pack, tree, meta_tree, full, self._last)
        self._first = self._first or self._last

    def flush(self) -> int:
        """Make every snapshot so far durable, then visible; the bytes that the vault has grown by."""
        if not (self._first and self._last):
            return 0
        stored = self._store.flush()
        pack = self._pack.finish()
        assert pack
        self._admit(pack.bytes)
        self._history.publish([pack])
        # Not before: an import that comes to nothing leaves no project.
        self._register()
        self._history.advance(self._last._replace(parent=self._first.parent))
        self._first = self._last = None
        return stored + pack.bytes

    def _remove(self, path: bytes, only_files: bool) -> None:
        above, _, name = path.rpartition(b"/")
        folder = self._folders.get(above)
        if folder is None or not path:
            return
        folder.files.pop(name, None)
        if name in folder.below:
            folder.below.discard(name)
            inside = path + b"/"
            for below in [one for one in self._folders if one == path or one.startswith(inside)]:
                del self._folders[below]
                self._changed.discard(below)
        self._touch(above)
        while only_files and above and not folder.files and not folder.below:
            del self._folders[above]
            self._changed.discard(above)
            above, _, name = above.rpartition(b"/")
            folder = self._folders[above]
            folder.below.discard(name)

    def _put(self, given: Given, content: Content) -> None:
        above, _, name = given.path.rpartition(b"/")
        if given.path in self._folders:
            self._remove(given.path, only_files=False)
        folder = self._folder(above)
        attributes = Attributes(
            name,
            given.kind,
            given.mode,
            given.mtime_ns,
            given.owner,
            content.size,
            content.pointer.oid if content.pointer else None,
            # A source may take for one file what only looks so: what differs is never one.
            f"{given.link}.{content.blob.hex()[:16]}" if given.link else None,
            sparse=given.sparse,
            xattrs=given.xattrs or {},
        )
        folder.files[name] = attributes, content
        self._touch(above)

    def _folder(self, path: bytes) -> _Folder:
        """The folder of that path, and those above it, made when they are not there."""
        missing: list[bytes] = []
        at = path
        while at not in self._folders:
            missing.append(at)
            at = at.rpartition(b"/")[0]
        for at in reversed(missing):
            above, _, name = at.rpartition(b"/")
            self._folders[above].files.pop(name, None)
            self._folders[above].below.add(name)
            self._folders[at] = _Folder()
        return self._folders[path]

    def _touch(self, path: bytes) -> None:
        while path not in self._changed:
            self._changed.add(path)
            path = path.rpartition(b"/")[0]

    def _build(self) -> tuple[ObjectId, ObjectId]:
        """Add the trees of everything that changed, deepest folders first; those of the root."""
        # A folder's path sorts before those below it.
        for path in sorted(self._changed, reverse=True):
            folder = self._folders[path]
            prefix = path + b"/" if path else b""
            owner = folder.own.owner
            entries: list[tuple[bytes, int, ObjectId]] = []
            lines: list[str] = []
            for name, (said, content) in sorted(folder.files.items()):
                mode = MODE_SYMLINK if said.kind == "symlink" else tree_mode(said.mode)
                entries.append((tree_name(name, force=content.escape), mode, content.blob))
                lines.append(
                    meta.format_line(
                        name, said.kind, said.mode, said.mtime_ns, said.owner, said.size, owner,
                        pointer=said.pointer, link=said.link, sparse=said.sparse, xattrs=said.xattrs,
                    )
                )  # fmt: skip
            mirrored: list[tuple[bytes, ObjectId, bool]] = []
            for name in folder.below:
                below = self._folders[prefix + name]
                stored = tree_name(name, force=is_special(name))
                if below.tree != NO_OBJECT:
                    entries.append((stored, MODE_TREE, below.tree))
                mirrored.append((stored, below.meta, not below.alone))
            own = folder.own
            blob = self._add(b"blob", meta.encode(own.mode, own.mtime_ns, owner, lines, own.xattrs))
            folder.tree = self._add(b"tree", encode_tree(entries)) if entries or not path else NO_OBJECT
            folder.meta = contents.add_meta_tree(self._pack, blob, mirrored, top=not path)
            folder.alone = not folder.below
            self._count(path, folder)
        self._changed.clear()
        root = self._folders[b""]
        return root.tree, root.meta

    def _count(self, path: bytes, folder: _Folder) -> None:
        prefix = path + b"/" if path else b""
        below = [self._folders[prefix + name] for name in folder.below]
        folder.count = len(folder.files) + sum(inner.count for inner in below)
        folder.bytes = sum(said.size for said, _ in folder.files.values()) + sum(inner.bytes for inner in below)


def _refuse(changes: Changes) -> None:
    """Raises CorruptionError for a path that is none below a project, or is below a file."""
    files = {one.path for one in changes.given if one.kind != "folder"}
    for one in changes.given:
        path = one.path
        if len(path) > LONGEST_PATH:
            raise CorruptionError(f"{to_line(path[:60])}...: a path of more than {LONGEST_PATH} bytes")
        parts = path.split(b"/") if path or one.kind != "folder" else []
        if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            raise CorruptionError(f"{to_line(path)}: not a path in a project")
        while path:
            path = path.rpartition(b"/")[0]
            if path in files:
                raise CorruptionError(f"{to_line(one.path)}: below a file, {to_line(path)}")


class _Hashed:
    """A stream that is hashed on the way."""

    def __init__(self, source: BinaryIO, digest: object) -> None:
        self._source = source
        self.hash: Any = digest

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.hash.update(data)
        return data
