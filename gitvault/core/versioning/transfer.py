"""Git objects from one vault into another: what refs there will need and is not there yet.

Nothing is taken for complete because it exists: only what a ref of the target reaches is, and there the walk stops.
"""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId, Pointer
from gitvault.core.utils.process import git
from gitvault.core.versioning import commits, meta
from gitvault.core.versioning.history import META, GitHistory
from gitvault.core.versioning.objects import MODE_SUBMODULE, MODE_TREE, Commit, tagged
from gitvault.errors import CorruptionError, NotFoundError, ToolFailed

# What a kill can lose.
_PACK_SIZE = 64 << 20


class ObjectTransfer:
    """Copies objects of `source` into packs of `target`. For one thread that holds the lock there."""

    def __init__(self, source: GitHistory, target: GitHistory, progress: Progress) -> None:
        self.packs = self.objects = self.bytes = 0
        """Copied so far; bytes are those of packs and indexes."""
        self._source = source
        self._target = target
        self._progress = progress
        self._writer = target.new_pack()
        self._reach = Reach(source)

    def copy(
        self,
        tips: Mapping[str, ObjectId],
        known: Mapping[str, ObjectId],
        look: Callable[[str], None] = lambda _: None,
    ) -> tuple[int, set[Pointer]]:
        """Copy what refs of the source reach, without what refs of the target do: both by name, with their values.

        The number of snapshots among it, and the large files they name. `look` is told the hash of each object and
        large file before any is copied, and may raise. Durable after `flush`. Raises ContentMissing, CorruptionError,
        StorageFullError: then nothing counts as copied.
        """
        self._reach.know(self._target, known)
        walk = self._reach.walk(tips)
        for digest in (*(pointer.oid for pointer in walk.pointers), *(oid.hex() for oid in walk.objects())):
            look(digest)
        there = self._target.objects.contains
        missing = [oid for oid in walk.objects() if oid not in self._writer and not there(oid)]
        for number, _ in enumerate(self._source.objects.copy_many(missing, self._writer)):
            self.objects += 1
            if not number % 1000:
                self._progress("copying objects", number, len(missing))
            if self._writer.size >= _PACK_SIZE:
                self._publish()
        self._reach.keep(walk)
        return len(walk.snapshots), walk.pointers

    def flush(self) -> None:
        """Make everything durable, also what an earlier run did not come to. Raises StorageFullError, OSError."""
        self._publish()
        self._target.publish([])

    def abandon(self) -> None:
        """Drop what has not become a pack yet."""
        self._writer.abandon()

    def _publish(self) -> None:
        pack = self._writer.finish()
        if pack is None:
            return
        try:
            git(self._target.git_dir, "index-pack", "--verify", pack.pack)
        except ToolFailed as error:
            self._target.disk.unlink(pack.pack)
            self._target.disk.unlink(pack.index)
            raise OSError(errno.EIO, "does not read back as it was written; check this disk", str(pack.pack)) from error
        self._target.publish([pack])
        self.packs += 1
        self.bytes += pack.bytes


class Reach:
    """What refs of `source` reach beyond what is known to be where it goes."""

    def __init__(self, source: GitHistory) -> None:
        self._source = source
        self._whole: _ByKind = defaultdict(_Whole)

    def know(self, holder: GitHistory, refs: Mapping[str, ObjectId]) -> None:
        """All that these refs reach, by name with their values, is there; `holder` reads their chains."""
        for ref, oid in refs.items():
            if not ref.startswith("refs/tags/"):
                self._know(holder, ref, oid)

    def walk(self, refs: Mapping[str, ObjectId]) -> Walk:
        """What these refs reach. Raises ContentMissing, CorruptionError."""
        walk = Walk(self._source, self._whole)
        for ref, oid in refs.items():
            walk.tip(ref, oid)
        return walk

    def keep(self, walk: Walk) -> None:
        """What was walked is there now."""
        for kind, new in walk.new.items():
            self._whole[kind].trees |= new.trees
            self._whole[kind].seen |= new.seen

    def _know(self, holder: GitHistory, ref: str, tip: ObjectId) -> None:
        whole = self._whole[_kind(ref)]
        trees: dict[ObjectId, ObjectId] = {}
        # Of a chain that is damaged there nothing counts: it is walked here, and what is missing there comes over.
        with suppress(CorruptionError, NotFoundError):
            for oid in holder.chain(tip):
                if oid in whole.trees:
                    break
                trees[oid] = holder.commit(oid).tree
            whole.trees |= trees
            whole.seen.update(trees.values())


class _Whole:
    """What has been walked, all below included."""

    def __init__(self) -> None:
        self.trees: dict[ObjectId, ObjectId] = {}
        """Of each commit."""
        self.seen: set[ObjectId] = set()
        """Trees and blobs."""


_ByKind = defaultdict[str, _Whole]
"""META and all else: of attributes more is wanted than of a project's files, and both may be the same object."""


class Walk:
    """What some refs reach beyond what is `known`."""

    def __init__(self, source: GitHistory, known: _ByKind) -> None:
        self.snapshots: list[ObjectId] = []
        """The commits of snapshots."""
        self.found: dict[ObjectId, None] = {}
        """Commits, tags, trees and attributes, in the order of the walk."""
        self.files: dict[ObjectId, None] = {}
        """The contents of files, likewise."""
        self.pointers: set[Pointer] = set()
        self.new: _ByKind = defaultdict(_Whole)
        self._source = source
        self._known = known

    def objects(self) -> Iterator[ObjectId]:
        """All objects, each once."""
        yield from self.found
        yield from (oid for oid in self.files if oid not in self.found)

    def tip(self, ref: str, oid: ObjectId) -> None:
        """Look at a ref's value and all below."""
        kind, data = self._source.objects.read(oid)
        while kind == b"tag":
            self.found[oid] = None
            oid = tagged(oid, data)
            kind, data = self._source.objects.read(oid)
        self._chain(oid, _kind(ref))

    def _chain(self, tip: ObjectId, kind: str) -> None:
        known, trees = self._known[kind].trees, self.new[kind].trees
        new: list[tuple[ObjectId, Commit]] = []
        pending = [tip]
        while pending:
            oid = pending.pop()
            if oid in known or oid in trees:
                continue
            commit = self._source.commit(oid)
            trees[oid] = commit.tree
            self.found[oid] = None
            new.append((oid, commit))
            pending += commit.parents
        # The oldest first: each tree is compared with the one before it, and only what differs is read.
        for oid, commit in reversed(new):
            parent = commit.parents[0] if commit.parents else None
            before = trees.get(parent) or known.get(parent) if parent else None
            named = commits.meta_commit(commit) if kind != META else None
            if named:
                self.snapshots.append(oid)
                self._chain(named, META)
            look = self._attributes if kind == META else None if named else self._file
            self._tree(commit.tree, before, kind, look)

    def _tree(self, tree: ObjectId, before: ObjectId | None, kind: str, look: _Look | None) -> None:
        seen, known = self.new[kind].seen, self._known[kind].seen
        pending = [(tree, before)]
        while pending:
            at, old = pending.pop()
            if at == old or at in seen or at in known:
                continue
            seen.add(at)
            self.found[at] = None
            entries = self._old(old)
            for name, (mode, oid) in self._source.tree(at).items():
                old_mode, old_oid = entries.get(name, (0, None))
                if oid == old_oid or mode == MODE_SUBMODULE:
                    continue
                if mode == MODE_TREE:
                    pending.append((oid, old_oid if old_mode == MODE_TREE else None))
                elif oid not in seen and oid not in known:
                    seen.add(oid)
                    (self.found if kind == META else self.files)[oid] = None
                    if look:
                        look(oid)

    def _old(self, tree: ObjectId | None) -> dict[bytes, tuple[int, ObjectId]]:
        try:
            return self._source.tree(tree)
        except (CorruptionError, NotFoundError):
            # It would only have spared work.
            return {}

    def _attributes(self, oid: ObjectId) -> None:
        """They name the large files of a folder."""
        said = meta.decode(self._source.blob(oid))[1].values()
        self.pointers.update(pointer for each in said if (pointer := each.as_pointer()))

    def _file(self, oid: ObjectId) -> None:
        """Of a commit that another tool made, without attributes: it may be a pointer itself."""
        if pointer := self._source.pointer_at(oid):
            self.pointers.add(pointer)


_Look = Callable[[ObjectId], None]


def _kind(ref: str) -> str:
    return META if ref.startswith(META) else ""
