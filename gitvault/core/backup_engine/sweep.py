"""Give back the space of what no ref reaches: in the chunk store, among git's objects, and of leftovers.

Everything is read before anything moves: all commits that refs reach, whatever kind of ref it is, and of each the large
files that its folders name. What cannot be read stops the sweep, for what it needs is not known.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId, SweepReport
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import disk_usage
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import meta, repack
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import MODE_SYMLINK, MODE_TREE, decode_commit, decode_tree
from gitvault.core.versioning.operations import TOMBSTONES, UNDO
from gitvault.errors import CorruptionError, StorageFullError

_LARGEST_POINTER = 1024
_TAG = re.compile(rb"object ([0-9a-f]{40})\n")
_TEMPORARY = re.compile(r".+\.[0-9]+\.tmp")


class Reach:
    """What some objects reach."""

    def __init__(self, history: GitHistory, tips: Collection[ObjectId]) -> None:
        """Reads every commit. Raises CorruptionError, ContentMissing."""
        self.named: set[ObjectId] = set()
        """The commits that snapshots name as those of their attributes; a ref need not lead to them."""
        self._history = history
        self._trees: set[ObjectId] = set()
        pending = list(tips)
        self.seen: set[ObjectId] = set()
        """The commits and tags, and what refs hold."""
        while pending:
            oid = pending.pop()
            if oid in self.seen:
                continue
            self.seen.add(oid)
            kind, data = history.objects.read(oid)
            if kind == b"commit":
                commit = decode_commit(data)
                pending += commit.parents
                if attributes := history.meta_commit(commit):
                    # They say which files are large: its tree need not be looked at.
                    self.named.add(attributes)
                    pending.append(attributes)
                else:
                    self._trees.add(commit.tree)
            elif kind == b"tag" and (target := _TAG.match(data)):
                pending.append(ObjectId(bytes.fromhex(target[1].decode())))
            elif kind == b"tree":
                self._trees.add(oid)

    def large_files(self) -> Iterator[bytes]:
        """The SHA-256 of each file whose content is in the chunk store; some of them often.

        Raises CorruptionError, ContentMissing.
        """
        history = self._history
        pending = list(self._trees)
        trees = set(pending)
        described: set[ObjectId] = set()
        content: set[ObjectId] = set()
        while pending:
            kind, data = history.objects.read(oid := pending.pop())
            if kind != b"tree":
                raise CorruptionError(f"{oid.hex()}: expected a tree, found a {kind.decode()}; run git-vault verify")
            entries = decode_tree(data)
            in_meta_chain = any(name == meta.META_NAME for name, _, _ in entries)
            for _, mode, entry in entries:
                if mode == MODE_TREE:
                    if entry not in trees:
                        trees.add(entry)
                        pending.append(entry)
                elif in_meta_chain:
                    if entry not in described:
                        described.add(entry)
                        yield from meta.large_files(history.blob(entry))
                elif mode & MODE_SYMLINK == MODE_SYMLINK or entry in content:
                    # A link, or a commit of another repository.
                    continue
                else:
                    content.add(entry)
                    if history.objects.size(entry) <= _LARGEST_POINTER:
                        pointer = history.decode_pointer(history.blob(entry))
                        if pointer:
                            yield bytes.fromhex(pointer.oid)


def sweep(
    history: GitHistory, store: ChunkStore, *, projects: Collection[str], progress: Progress | None = None
) -> SweepReport:
    """Remove what no ref reaches. For whoever holds the vault's lock.

    Operations can no longer be undone. `projects`: the names of all there are; caches of others go.
    Raises CorruptionError when it cannot be known what is needed, and nothing has gone then; StorageFullError,
    ToolError, LockedError when a ref moved meanwhile. What refs reach is there whatever is raised, and the next sweep
    goes on.
    """
    started = time.perf_counter()
    git_dir, disk = history.git_dir, history.disk
    size = disk_usage(git_dir)
    history.objects.refresh()
    before = _refs(history)
    refs = {name: oid for name, oid in before.items() if not name.startswith(UNDO)}
    if not refs and (any(git_dir.glob("objects/pack/*.pack")) or any(git_dir.glob("chunks/*.zpk"))):
        raise CorruptionError(f"{git_dir}: it has packs and no refs; nothing is removed, bring back refs from a copy")
    reach = Reach(history, refs.values())
    if progress:
        progress("looking for what is needed", 0, 0)
    census = store.census(reach.large_files())
    actions = []
    if undone := before.keys() - refs.keys():
        for name in sorted(undone):
            history.refs.delete(name)
        actions.append("operations before this can no longer be undone")

    def unmoved() -> bool:
        # Another machine that took over may rely on what is about to go.
        history.refs.guard()
        return reach.seen.issuperset(_refs(history).values())

    forgotten = refs.get(TOMBSTONES)
    # Then nothing that nobody needs may stay, however little it is.
    strict = forgotten is not None and forgotten != _last_forgotten(git_dir)
    if swept := store.sweep(census, strict=strict, unmoved=unmoved, progress=progress):
        actions.append(f"chunk store: {swept.summary()}")
    if repack.is_busy(git_dir):
        actions.append("git's objects stay: another program is writing some; sweep again when it has ended")
    else:
        with repack.damage_named(git_dir):
            packed = repack.sweep(git_dir, disk, reach.named, unmoved=unmoved, progress=progress)
        if packed:
            actions.append(f"git's objects: {packed.summary()}")
    history.objects.refresh()
    _remove_leftovers(git_dir, disk, projects)
    if strict and not (swept and swept.waiting):
        _remember_forgotten(git_dir, disk, forgotten)
    freed = max(0, size - disk_usage(git_dir))
    return SweepReport(freed, time.perf_counter() - started, tuple(actions))


def _refs(history: GitHistory) -> dict[str, ObjectId]:
    """All refs, and HEAD where it holds a commit itself."""
    head = history.refs.read("HEAD") if history.refs.head() is None else None
    return history.refs.list() | ({"HEAD": head} if head else {})


def _state(git_dir: Path) -> Path:
    return git_dir / "cache" / "swept"


def _last_forgotten(git_dir: Path) -> ObjectId | None:
    """Where the tombstones were when a sweep last left nothing behind."""
    with suppress(OSError, ValueError):
        return ObjectId(bytes.fromhex(_state(git_dir).read_text()))
    return None


def _remember_forgotten(git_dir: Path, disk: Disk, forgotten: ObjectId | None) -> None:
    # On a full disk the next sweep is as thorough again.
    with suppress(StorageFullError):
        disk.make_folder(git_dir / "cache")
        disk.write_durably(_state(git_dir), forgotten.hex().encode() if forgotten else b"")


def _remove_leftovers(git_dir: Path, disk: Disk, projects: Collection[str]) -> None:
    """What killed runs left, and caches of projects that are gone."""
    for folder in (git_dir / "tmp", git_dir / "chunks" / "tmp"):
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                disk.remove_folder(path)
            else:
                disk.unlink(path)
    for folder in (git_dir, git_dir / "info", git_dir / "chunks", git_dir / "cache"):
        for path in folder.glob("*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                disk.unlink(path)
    known = {ref_component(project) for project in projects}
    for path in (git_dir / "cache").glob("stat-*.db*"):
        if path.name[len("stat-") :].rpartition(".db")[0] not in known:
            disk.unlink(path)
