"""From the refs down: is everything there that a snapshot needs, and are its bytes what they were?

Every commit, tree and meta blob is read and its hash checked; blobs and chunks must be there and, with
`data`, are read and hashed too. A tree shared by a thousand snapshots is looked at once. What a defect
touches is worked out afterwards, and only when there is one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gitvault.core.backup_engine import rescue
from gitvault.core.backup_engine.frame import constant_files
from gitvault.core.interfaces import Extent, Progress, StorageManager
from gitvault.core.models import Affected, Defect, ObjectId, Pointer, SnapshotId, VerifyReport
from gitvault.core.utils.files import open_plain
from gitvault.core.utils.layout import PENDING
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import contents, meta, records
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import HEADS, META, NO_OBJECT, GitHistory
from gitvault.core.versioning.objects import LONGEST_PATH, MODE_SYMLINK, MODE_TREE, Commit, tagged
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

_PACK_NAME = re.compile("pack-([0-9a-f]{40})[.]pack")
# Paths that are named for the defects of one snapshot.
_PLACES = 1_000_000

_Trees = tuple[ObjectId | None, ObjectId | None]


def verify(
    history: GitHistory,
    store: StorageManager,
    *,
    data: bool = False,
    extent: Extent | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check all snapshots of all projects; with `data`, every stored byte, or those of `extent`."""
    check = _Check(history, store, extent if data else None, data, progress)
    for project in history.projects():
        check.project(project)
    check.refs()
    check.blobs()
    check.pointers()
    check.packs()
    stored = store.verify(data=data, extent=extent, progress=progress)
    bad_chunks = {defect.object for defect in stored.defects}
    for pointer in check.seen_pointers if bad_chunks else ():
        try:
            if any(chunk.hex() in bad_chunks for chunk, _ in store.chunks(pointer)):
                check.bad[pointer.oid] = Defect("pointer", pointer.oid, "its content is damaged in the chunk store")
        except GitVaultError as error:
            check.bad.setdefault(pointer.oid, Defect("manifest", pointer.oid, str(error)))
    check.other += [Defect("pack", "objects/pack", str(error)) for error in history.objects.damaged()]
    defects = [*check.other, *check.located(), *stored.defects]
    return VerifyReport(check.objects + stored.objects_checked, check.bytes + stored.bytes_checked, tuple(defects))


def verify_vault(
    history: GitHistory,
    store: StorageManager,
    *,
    data: bool = False,
    extent: Extent | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """The same of the vault as a whole: also its refs' own files, its constant files and what it was left in."""
    packed, names = history.refs.damaged()
    if packed is not None or names:
        # What they led to cannot be walked, so nothing else is said.
        broken = [*(["packed-refs"] if packed is not None else []), *names]
        reason = "holds no id; git-vault verify --repair finds what it was"
        return VerifyReport(0, 0, tuple(Defect("ref", name, reason) for name in broken))
    report = verify(history, store, data=data, extent=extent, progress=progress)
    others = [*_lost_branches(history), *_lost_records(history)]
    others += verify_constants(history.git_dir, constant_files(), rescue.is_whole)
    if (history.git_dir / PENDING).exists():
        reason = "an interrupted operation waits to be completed; the next snapshot does"
        others.append(Defect("vault", PENDING, reason))
    outdated = ", ".join(rescue.outdated(history.git_dir))
    note = f"{outdated} of another gitvault, maintain writes them anew" if outdated else report.note
    return replace(report, defects=(*report.defects, *others), note=note)


def _lost_branches(history: GitHistory) -> Iterator[Defect]:
    for project, named in history.headless().items():
        with suppress(GitVaultError):
            if history.commit(named).parents:
                yield Defect("ref", f"{HEADS}{ref_component(project)}", "missing; the project had snapshots")


def _lost_records(history: GitHistory) -> Iterator[Defect]:
    # A record of operations that cannot be read is a defect of its own.
    with suppress(GitVaultError):
        for ref, why in records.missing(history):
            yield Defect("ref", ref, f"missing: {why}")


class _Check:
    def __init__(
        self,
        history: GitHistory,
        store: StorageManager,
        extent: Extent | None,
        data: bool,
        progress: Progress | None,
    ) -> None:
        self.history = history
        self.store = store
        self.extent = extent
        self.data = data
        self.progress = progress
        self.objects = self.bytes = 0
        self.bad: dict[str, Defect] = {}
        """By object id or pointer oid, in hex."""
        self.other: list[Defect] = []
        """What no snapshot's path can be named for."""
        self.seen_commits: set[ObjectId] = set()
        self.seen_trees: set[_Trees] = set()
        self.seen_blobs: set[ObjectId] = set()
        self.seen_pointers: set[Pointer] = set()

    def project(self, project: str) -> None:
        """The chain of commits and what they name."""
        at = self.history.tip(project)
        if at:
            self.meta_ref(project, at)
        while at and at not in self.seen_commits:
            self.seen_commits.add(at)
            snapshot = SnapshotId(at.hex())
            try:
                commit = self.history.commit(at)
                snapshot = identity(at, commit)
                self.objects += 1
            except (CorruptionError, NotFoundError) as error:
                self.other.append(Defect("commit", snapshot, str(error), (Affected(project, snapshot, b""),)))
                return
            try:
                tree, meta_tree = self.history.trees_of(commit)
                self.objects += meta_tree is not None
            except (CorruptionError, NotFoundError) as error:
                self.other.append(Defect("meta", snapshot, str(error), (Affected(project, snapshot, b""),)))
                tree, meta_tree = commit.tree, None
            self.folder(tree, meta_tree)
            at = commit.parents[0] if commit.parents else None
            if self.progress:
                self.progress("checking snapshots", self.objects, 0)

    def meta_ref(self, project: str, tip: ObjectId) -> None:
        """The meta chain hangs on a ref of its own: without it a repack would drop the chain."""
        ref = META + ref_component(project)
        try:
            named = self.history.meta_commit(self.history.commit(tip))
            held = self.history.refs.read(ref)
            # A run that was killed between its two refs left this one ahead.
            if not named or (held and named in self.history.chain(held)):
                return
        except GitVaultError:
            # Reported with the commit that cannot be read.
            return
        reason = f"expected to lead to {named.hex()}, which the newest snapshot names; the next snapshot mends it"
        self.other.append(Defect("ref", ref, reason, (Affected(project, self.history.identify(tip), b""),)))

    def refs(self) -> None:
        """What is no branch: the vault's own refs, tags, notes, and HEAD."""
        refs = self.history.refs.list()
        for ref, oid in refs.items():
            if not ref.startswith(HEADS):
                try:
                    self._ref(ref, oid)
                except GitVaultError as error:
                    self.other.append(Defect("ref", ref, str(error)))
        branches = [ref for ref in refs if ref.startswith(HEADS)]
        try:
            head = self.history.refs.head() or "no branch"
        except CorruptionError as error:
            self.other.append(Defect("ref", "HEAD", str(error)))
            return
        if branches and head not in refs:
            reason = f"names {head}, which does not exist; mend it with: git symbolic-ref HEAD {branches[0]}"
            self.other.append(Defect("ref", "HEAD", reason))

    def _ref(self, ref: str, oid: ObjectId) -> None:
        kind, data = self.history.objects.read(oid)
        while kind == b"tag":
            self.objects += 1
            oid = tagged(oid, data)
            kind, data = self.history.objects.read(oid)
        if kind != b"commit" and not ref.startswith("refs/vault/"):
            # Another tool's: it may be anything.
            return
        if ref.startswith(META):
            # The attributes themselves are looked at with the files they are about.
            self.history.commit(oid)
            return
        for at in self.history.chain(oid):
            if at in self.seen_commits:
                return
            self.seen_commits.add(at)
            self.folder(*self.history.trees_of(self.history.commit(at)))
            self.objects += 1

    def folder(self, tree: ObjectId | None, meta_tree: ObjectId | None) -> None:
        """A tree, its meta tree and everything below; trees met before are passed over."""
        pending: list[_Trees] = [(tree, meta_tree)]
        while pending:
            trees = pending.pop()
            if trees not in self.seen_trees:
                self.seen_trees.add(trees)
                pending += self._folder(*trees)

    def _folder(self, tree: ObjectId | None, meta_tree: ObjectId | None) -> Iterator[_Trees]:
        entries = self._tree(tree)
        blob: ObjectId | None = None
        mirrored: dict[bytes, ObjectId] = {}
        try:
            blob, mirrored = contents.mirror(self.history, meta_tree)
            self.objects += blob != meta_tree
        except (CorruptionError, NotFoundError) as error:
            self._bad("meta", meta_tree or NO_OBJECT, error)
        if blob:
            try:
                for said in meta.decode(self.history.blob(blob))[1].values():
                    if pointer := said.as_pointer():
                        self.seen_pointers.add(pointer)
                self.objects += 1
            except (CorruptionError, NotFoundError) as error:
                self._bad("meta", blob, error)
        for name, (mode, oid) in entries.items():
            if mode == MODE_TREE:
                yield oid, mirrored.pop(name, None)
            else:
                self.seen_blobs.add(oid)
                if not blob:
                    self._perhaps_pointer(mode, oid)
        for oid in mirrored.values():
            yield None, oid

    def _perhaps_pointer(self, mode: int, oid: ObjectId) -> None:
        """A file of which no attributes tell: a record, or what another tool committed."""
        # One that is missing is told with the other blobs.
        with suppress(CorruptionError, NotFoundError):
            if mode != MODE_SYMLINK and (pointer := self.history.pointer_at(oid)):
                self.seen_pointers.add(pointer)

    def _tree(self, oid: ObjectId | None) -> dict[bytes, tuple[int, ObjectId]]:
        try:
            found = self.history.tree(oid)
            self.objects += bool(oid)
            return found
        except (CorruptionError, NotFoundError) as error:
            self._bad("tree", oid or NO_OBJECT, error)
            return {}

    def _bad(self, kind: str, oid: ObjectId, error: GitVaultError) -> None:
        self.bad.setdefault(oid.hex(), Defect(kind, oid.hex(), str(error)))

    def blobs(self) -> None:
        """Every blob is there; with `data`, has its hash."""
        self.objects += len(self.seen_blobs)
        if not self.data:
            for oid in self.seen_blobs:
                if not self.history.objects.contains(oid):
                    self._bad("blob", oid, NotFoundError(f"{oid.hex()}: missing"))
            return
        done = 0
        for pack, oids in self.history.objects.by_pack(self.seen_blobs):
            # Not by the name of the file, which is read as a whole too.
            unit = f"blobs of {pack}"
            if self.extent and self.extent.was_read(unit):
                continue
            wanted = [oid for oid in oids if self.extent is None or self.extent.wants(oid)]
            before = len(self.bad)
            read = self.history.objects.read_many(wanted, failed=lambda oid, error: self._bad("blob", oid, error))
            for _, _, content in read:
                self.bytes += len(content)
                done += 1
                if self.progress and not done % 1000:
                    self.progress("reading files", done, len(self.seen_blobs))
            if self.extent and pack and len(self.bad) == before:
                self.extent.read(unit)

    def pointers(self) -> None:
        """Every large file's manifest and chunks are there."""
        for pointer in self.seen_pointers:
            self.objects += 1
            try:
                if not self._is_stored(pointer):
                    reason = "its content is missing from the chunk store"
                    self.bad[pointer.oid] = Defect("pointer", pointer.oid, reason)
            except CorruptionError as error:
                self.bad[pointer.oid] = Defect("manifest", pointer.oid, str(error))

    def _is_stored(self, pointer: Pointer) -> bool:
        if self.store.has(pointer):
            return True
        # An index is no evidence: whoever reads what it does not know has it made anew.
        with suppress(GitVaultError), open(os.devnull, "wb") as nowhere:
            self.store.retrieve_file(pointer, nowhere)
        return self.store.has(pointer)

    def packs(self) -> None:
        """Every git pack has its own checksum as its name.

        With `data` packs and indexes are read as a whole: damage in what nothing refers to is damage of the medium too.
        """
        for path in sorted((self.history.git_dir / "objects" / "pack").iterdir()):
            if path.suffix not in (".pack", ".idx"):
                continue
            wanted = self.data
            if self.extent:
                name = hashlib.sha256(path.name.encode()).digest()
                wanted = self.extent.wants(name) and not self.extent.was_read(path.name)
            try:
                reason, size = _wrong_with(path, whole=wanted)
            except OSError as error:
                reason, size = f"cannot be read: {error.strerror}", 0
            except CorruptionError as error:
                reason, size = str(error), 0
            self.bytes += size
            if reason:
                self.other.append(Defect("pack", path.name, reason))
            elif self.extent and wanted:
                self.extent.read(path.name)

    def located(self) -> Iterator[Defect]:
        """The defects of objects, each with the places in history it touches."""
        if not self.bad:
            return
        places: dict[str, list[Affected]] = {oid: [] for oid in self.bad}
        memory: dict[_Trees, list[tuple[bytes, str]]] = {}
        for project in self.history.projects():
            for snapshot, commit in self._snapshots(project):
                try:
                    trees: _Trees = self.history.trees_of(commit)
                except GitVaultError:
                    continue
                for path, oid in self._touched(trees, memory):
                    places[oid].append(Affected(project, snapshot, path))
        for oid, defect in self.bad.items():
            yield replace(defect, affects=tuple(places[oid]))

    def _snapshots(self, project: str) -> Iterator[tuple[SnapshotId, Commit]]:
        tip = self.history.tip(project)
        try:
            for at, commit in self.history.walk(tip):
                yield identity(at, commit), commit
        except GitVaultError:
            # Reported by `project`; older snapshots cannot be reached.
            return

    def _touched(self, top: _Trees, memory: dict[_Trees, list[tuple[bytes, str]]]) -> list[tuple[bytes, str]]:
        """The paths below a tree that a defect touches, each with the defect's object."""
        pending = [top]
        while pending:
            trees = pending[-1]
            found, below = ([], []) if trees in memory else self._own_defects(trees)
            if missing := [inner for _, inner in below if inner not in memory]:
                pending += missing
                continue
            for name, inner in below:
                found += [(name + b"/" + path if path else name, oid) for path, oid in memory[inner]]
            # A forged tree has the same folder in it over and over.
            memory.setdefault(trees, [item for item in found[:_PLACES] if len(item[0]) <= LONGEST_PATH])
            pending.pop()
        return memory[top]

    def _own_defects(self, trees: _Trees) -> tuple[list[tuple[bytes, str]], list[tuple[bytes, _Trees]]]:
        """The defects of one folder and its files, and the trees of its subfolders by name."""
        found = [(b"", oid.hex()) for oid in trees if oid and oid.hex() in self.bad]
        below: list[tuple[bytes, _Trees]] = []
        try:
            own, _ = contents.mirror(self.history, trees[1])
            if own and own != trees[1] and own.hex() in self.bad:
                found.append((b"", own.hex()))
        except GitVaultError:
            trees = trees[0], None
        try:
            listing = contents.listing(self.history, *trees, damaged=lambda _: None)[1]
        except GitVaultError:
            return found, below
        for entry, _, inner in listing:
            if entry.kind == "folder":
                below.append((entry.path, (entry.blob if entry.blob != NO_OBJECT else None, inner)))
                continue
            if entry.blob.hex() in self.bad:
                found.append((entry.path, entry.blob.hex()))
            if entry.pointer and entry.pointer.oid in self.bad:
                found.append((entry.path, entry.pointer.oid))
        return found, below


def _wrong_with(path: Path, *, whole: bool) -> tuple[str, int]:
    """What is wrong with a git pack or index, and the bytes that were read; not `whole`: only whether its name fits."""
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 20))
        expected = file.read(20).hex()
        named = _PACK_NAME.fullmatch(path.name)
        if path.suffix == ".pack" and named and named[1] != expected:
            return f"expected checksum {named[1]}, its name, found {expected}", 0
        if not whole:
            return "", 0
        digest = hashlib.sha1(usedforsecurity=False)
        file.seek(0)
        left = size - 20
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
        found = digest.hexdigest()
        return f"expected checksum {expected}, found {found}" if found != expected else "", size


def verify_constants(vault: Path, texts: Mapping[str, bytes], whole: Callable[[bytes], bool]) -> Iterator[Defect]:
    """The files that never change: each is as this gitvault writes it or, as `whole` finds, as another one did."""
    for name, text in texts.items():
        try:
            found = (vault / name).read_bytes()
        except OSError as error:
            yield Defect("vault", name, f"cannot be read: {error.strerror}")
            continue
        if found != text and not whole(found):
            yield Defect("vault", name, "not as gitvault wrote it")
