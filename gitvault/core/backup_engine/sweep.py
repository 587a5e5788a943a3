"""Give back the space of what no ref reaches: in the chunk store, among git's objects, and of leftovers.

Everything is read before anything moves: all commits that refs reach, whatever kind of ref it is, and of each the large
files that its folders name. What cannot be read stops the sweep, for what it needs is not known; unless a repair has
listed it as lost: then whatever it may have needed stays.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId, SweepReport
from gitvault.core.storage import parity
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import disk_usage, packs
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import catalog, losses, meta, repack
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import OPERATIONS, GitHistory
from gitvault.core.versioning.objects import MODE_SYMLINK, MODE_TREE, decode_commit, decode_tree
from gitvault.core.versioning.operations import TOMBSTONES, UNDO, tombstones
from gitvault.errors import ContentMissing, CorruptionError, StorageFullError

# What somebody waits for; upkeep does the rest.
_PARITY_SECONDS = 30
_TAG = re.compile(rb"object ([0-9a-f]{40})\n")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# They hold text, and what is lost of it is not theirs.
_RECORDS = (catalog.REF, losses.REF, OPERATIONS, TOMBSTONES)
_TEMPORARY = re.compile(r".+\.[0-9]+\.tmp")


class Reach:
    """What some objects reach.

    What a repair has listed as lost may be missing, and nothing else. Then what it led to is not known, and said to be
    wanted wherever that can be.
    """

    def __init__(
        self,
        history: GitHistory,
        tips: Collection[ObjectId],
        *,
        records: Collection[ObjectId] = (),
        torn: Collection[ObjectId] = (),
        lost: Collection[str] = (),
    ) -> None:
        """Reads every commit. `records`: tips whose trees name no large files. `torn`: those whose chains are broken.

        `lost`: ids of objects and snapshots. Raises CorruptionError, ContentMissing.
        """
        self.named: set[ObjectId] = set()
        """The commits that snapshots name as those of their attributes; a ref need not lead to them."""
        self.missing = False
        """Whether a commit, tag or tree is lost: below it may be anything."""
        self.is_unsure = False
        """Whether there may be large files that nothing names which is left; after `large_files`."""
        self.seen: set[ObjectId] = set()
        """The commits and tags, and what refs hold."""
        self._history = history
        self._lost = lost
        self._trees: dict[ObjectId, ObjectId] = {}
        """By the commits without attributes."""
        self._described: set[ObjectId] = set()
        """Trees of which the attributes say the same."""
        self._hole = False
        self._absent: set[ObjectId] = set()
        self._excused: set[ObjectId] = set()
        self._walk(records)
        self._trees.clear()
        self._walk(tips)
        for oid in (oid for oid in self._absent - self._excused if oid.hex() not in lost):
            # It says what is missing.
            history.objects.read(oid)
        self._walk(torn)

    def _walk(self, tips: Collection[ObjectId]) -> None:
        history = self._history
        pending = list(tips)
        while pending:
            oid = pending.pop()
            if oid in self.seen:
                continue
            self.seen.add(oid)
            try:
                kind, data = history.objects.read(oid)
            except ContentMissing:
                # A snapshot that is met later may say whose it was.
                self._absent.add(oid)
                self.missing = True
                continue
            if kind == b"commit":
                commit = decode_commit(data)
                pending += commit.parents
                attributes = history.meta_commit(commit)
                if attributes:
                    pending.append(attributes)
                    if identity(oid, commit) in self._lost:
                        self._excused.add(attributes)
                if attributes and history.objects.contains(attributes):
                    # They say which files are large: its tree need not be looked at.
                    self.named.add(attributes)
                    self._described.add(commit.tree)
                else:
                    self._trees[oid] = commit.tree
            elif kind == b"tag" and (target := _TAG.match(data)):
                pending.append(ObjectId(bytes.fromhex(target[1].decode())))
            elif kind == b"tree":
                self._trees[oid] = oid

    def _read(self, oid: ObjectId) -> tuple[bytes, bytes] | None:
        """Kind and content; None for what is lost."""
        try:
            return self._history.objects.read(oid)
        except ContentMissing:
            if oid.hex() not in self._lost:
                raise
        self.missing = self._hole = True
        return None

    def large_files(self) -> Iterator[bytes]:
        """The SHA-256 of each file whose content is in the chunk store; some of them often.

        What is lost of the attributes, the trees themselves say. Raises CorruptionError, ContentMissing.
        """
        holes = []
        attributes = {self._trees[oid] for oid in self.named if oid in self._trees}
        others = {*self._trees.values()} - attributes
        for trees in (attributes, others, self._described - attributes - others if self._lost else ()):
            self._hole = False
            yield from self._large_files(trees)
            holes.append(self._hole)
        self.is_unsure = holes[1] or (holes[0] and holes[2])

    def _large_files(self, tops: Collection[ObjectId]) -> Iterator[bytes]:
        history = self._history
        pending = list(tops)
        trees = set(pending)
        described: set[ObjectId] = set()
        content: set[ObjectId] = set()
        while pending:
            found = self._read(oid := pending.pop())
            if found is None:
                continue
            kind, data = found
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
                        if self._is_there(entry):
                            yield from meta.large_files(history.blob(entry))
                elif mode & MODE_SYMLINK == MODE_SYMLINK or entry in content:
                    # A link, or a commit of another repository.
                    continue
                else:
                    content.add(entry)
                    if self._is_there(entry) and (pointer := history.pointer_at(entry)):
                        yield bytes.fromhex(pointer.oid)

    def _is_there(self, blob: ObjectId) -> bool:
        """Whether a blob is not lost; one that is missing and not known to be is for who reads it."""
        if blob.hex() not in self._lost or self._history.objects.contains(blob):
            return True
        self._hole = True
        return False


def sweep(
    history: GitHistory,
    store: ChunkStore,
    *,
    projects: Collection[str],
    size: int,
    redundancy: int,
    progress: Progress | None = None,
) -> SweepReport:
    """Remove what no ref reaches. For whoever holds the vault's lock.

    Operations can no longer be undone. `projects`: the names of all there are; caches of others go.
    `size`: what the vault took on disk before. `redundancy`: per cent of parity for new packs.
    Raises CorruptionError when it cannot be known what is needed, and nothing has gone then; StorageFullError,
    ToolError, LockedError when a ref moved meanwhile. What refs reach is there whatever is raised, and the next sweep
    goes on.
    """
    started = time.perf_counter()
    git_dir, disk = history.git_dir, history.disk
    history.objects.refresh()
    before = _refs(history)
    refs = {name: oid for name, oid in before.items() if not name.startswith(UNDO)}
    if not refs and (any(git_dir.glob("objects/pack/*.pack")) or any(git_dir.glob("chunks/*.zpk"))):
        raise CorruptionError(f"{git_dir}: it has packs and no refs; nothing is removed, bring back refs from a copy")
    lost = {loss.object for loss in losses.load(history)}
    reach = Reach(
        history,
        [oid for name, oid in refs.items() if name not in _RECORDS and name not in lost],
        records=[oid for name, oid in refs.items() if name in _RECORDS],
        torn=[oid for name, oid in refs.items() if name in lost],
        lost=lost,
    )
    if progress:
        progress("looking for what is needed", 0, 0)
    census = store.census(reach.large_files(), lost=[bytes.fromhex(name) for name in lost if _SHA256.fullmatch(name)])
    actions = []
    if census.torn or reach.is_unsure:
        store.need_all(census, [bytes.fromhex(digest) for digest in tombstones(history) if _SHA256.fullmatch(digest)])
        actions.append("chunks stay: of some files it is lost which are theirs; git-vault verify names them")
    if undone := before.keys() - refs.keys():
        for name in sorted(undone):
            history.refs.delete(name)
        actions.append("operations before this can no longer be undone")
    history.refs.sync()

    def unmoved() -> bool:
        # Another machine that took over may rely on what is about to go.
        history.refs.guard()
        return reach.seen.issuperset(_refs(history).values())

    forgotten = refs.get(TOMBSTONES)
    # Then nothing that nobody needs may stay, however little it is.
    strict = forgotten is not None and forgotten != _last_forgotten(git_dir)
    if swept := store.sweep(census, strict=strict, unmoved=unmoved, progress=progress):
        actions.append(f"chunk store: {swept.summary()}")
    is_whole = False
    if reach.missing:
        actions.append("git's objects stay: a commit or folder is lost that led to some; git-vault verify names it")
    elif repack.is_busy(git_dir):
        actions.append("git's objects stay: another program is writing some; sweep again when it has ended")
    else:
        is_whole = True
        with repack.damage_named(git_dir):
            packed = repack.sweep(git_dir, disk, reach.named, unmoved=unmoved, progress=progress)
        if packed:
            actions.append(f"git's objects: {packed.summary()}")
    history.objects.refresh()
    if is_whole:
        # All that is needed is there: what packs that have gone could be made of again is not.
        parity.remove_stale(packs(git_dir), git_dir / "parity", disk)
    _remove_leftovers(git_dir, disk, projects)
    if strict and _empty(git_dir / "quarantine", disk):
        actions.append("the quarantine is empty: what was to be forgotten may have been in it")
    if strict and is_whole and not (swept and swept.waiting):
        _remember_forgotten(git_dir, disk, forgotten)
    # On a full disk the next maintenance does it.
    with suppress(StorageFullError):
        parity.protect(git_dir, redundancy, disk, _PARITY_SECONDS)
    freed = max(0, size - disk_usage(git_dir))
    return SweepReport(freed, time.perf_counter() - started, tuple(actions))


def _refs(history: GitHistory) -> dict[str, ObjectId]:
    """All refs, and HEAD where it holds a commit itself."""
    head = history.refs.read("HEAD") if history.refs.head() is None else None
    return history.refs.list() | ({"HEAD": head} if head else {})


def mistrust(git_dir: Path, disk: Disk) -> None:
    """Something has come from elsewhere: what was forgotten may be in it, and the next sweep leaves nothing behind."""
    disk.unlink(_state(git_dir))


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


def _empty(folder: Path, disk: Disk) -> bool:
    """Remove all in a folder; whether there was something."""
    found = sorted(folder.rglob("*"), reverse=True)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            disk.remove_folder(path)
        else:
            disk.unlink(path)
    return bool(found)


def _remove_leftovers(git_dir: Path, disk: Disk, projects: Collection[str]) -> None:
    """What killed runs left, and caches of projects that are gone."""
    for folder in (git_dir / "tmp", git_dir / "chunks" / "tmp"):
        _empty(folder, disk)
    for folder in (git_dir, git_dir / "info", git_dir / "chunks", git_dir / "cache"):
        for path in folder.glob("*.tmp"):
            if _TEMPORARY.fullmatch(path.name):
                disk.unlink(path)
    known = {ref_component(project) for project in projects}
    for path in (git_dir / "cache").glob("stat-*.db*"):
        if path.name[len("stat-") :].rpartition(".db")[0] not in known:
            disk.unlink(path)
