"""One vault into another: what its refs reach and the other lacks, then the refs.

The source is only read, and nobody waits for it: its refs are read once. In the target packs become durable before any
ref moves, and a project's meta chain moves before its branch. A copy never takes away what only the target has: a
branch that was rewritten here (by a prune, say) replaces the one there when this vault knows the newest snapshot that
is there; when it does not, two machines went separate ways, and the branch stays as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from gitvault.core.interfaces import Progress
from gitvault.core.models import CopyReport, NotCopied, ObjectId, Pointer
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.layout import clear_temporary
from gitvault.core.utils.names import from_ref_component, ref_component
from gitvault.core.versioning import catalog, origins
from gitvault.core.versioning.history import HEADS, META, GitHistory
from gitvault.core.versioning.objects import parse_message
from gitvault.core.versioning.transfer import ObjectTransfer
from gitvault.errors import CorruptionError, NotFoundError

_TAGS = "refs/tags/"
_OPERATIONS = "refs/vault/operations"
_TOMBSTONES = "refs/vault/tombstones"
# What a vault remembers of its own doings, and the list of projects, which is merged.
_OWN = (origins.PREFIX, "refs/vault/undo/", "refs/vault/lost", _OPERATIONS, catalog.REF)
# Until two readings of the refs in a row are the same: somebody may be moving several.
_READINGS = 20
# A prune and a sweep of the source may take away what is being copied: then it starts over with the new refs.
_ATTEMPTS = 3
_HASH = re.compile(rb"\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b")


def copy_vault(
    source: GitHistory,
    store: ChunkStore,
    target: GitHistory,
    target_store: ChunkStore,
    *,
    projects: frozenset[str] | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Bring the target, whose lock is held, to what the source holds: all of it, or some projects.

    What is damaged here, or would be lost there, is left and told; all else is copied. Raises CorruptionError when the
    target's own records are damaged; StorageFullError, OSError, also for what does not read back there.
    """
    began = time.monotonic()
    clear_temporary(target.git_dir, target.disk)
    for attempt in range(1, _ATTEMPTS + 1):
        refs = _read_refs(source)
        copy = _Copy(source, store, target, target_store, projects, progress or (lambda what, done, total: None))
        try:
            copy.run(refs)
        except BaseException:
            copy.objects.abandon()
            raise
        if not any(left.damaged for left in copy.left) or attempt == _ATTEMPTS or _read_refs(source) == refs:
            break
    return CopyReport(
        target=str(target.git_dir),
        snapshots=copy.snapshots,
        objects=copy.objects.objects,
        chunks=copy.chunks.chunks,
        packs=copy.objects.packs + copy.chunks.packs,
        bytes=copy.objects.bytes + copy.chunks.bytes,
        refs=copy.moved,
        seconds=time.monotonic() - began,
        left=tuple(copy.left),
    )


def _tombstones(history: GitHistory) -> set[str]:
    """The hashes of what was forgotten: git's of small files, SHA-256 of large ones. Empty where nothing ever was."""
    return {digest.decode() for text in _files(history, _TOMBSTONES) for digest in _HASH.findall(text)}


def _files(history: GitHistory, ref: str) -> Iterator[bytes]:
    """What is in the newest commit of a ref that holds records."""
    tip = history.refs.read(ref)
    for _, oid in history.tree(history.commit(tip).tree).values() if tip else ():
        yield history.blob(oid)


def _read_refs(history: GitHistory) -> dict[str, ObjectId]:
    history.objects.refresh()
    # Branches first: a meta chain that is ahead of its branch is as a killed run leaves it, the other way is a defect.
    refs: dict[str, ObjectId] = {}
    for _ in range(_READINGS):
        before, refs = refs, history.refs.list(HEADS)
        refs = history.refs.list() | refs
        if refs == before:
            break
    return refs


class _Copy:
    def __init__(
        self,
        source: GitHistory,
        store: ChunkStore,
        target: GitHistory,
        target_store: ChunkStore,
        projects: frozenset[str] | None,
        progress: Progress,
    ) -> None:
        self.snapshots = self.moved = 0
        self.left: list[NotCopied] = []
        self.objects = ObjectTransfer(source, target, progress)
        self.chunks = store.transfer_to(target_store, progress)
        self._source = source
        self._store = store
        self._target = target
        self._target_store = target_store
        self._projects = projects
        self._progress = progress
        self._forgotten = _tombstones(target) - _tombstones(source)

    def run(self, refs: Mapping[str, ObjectId]) -> None:
        """Copy what `refs` reach, then move those of the target."""
        there = self._target.refs.list()
        groups = self._groups(refs)
        ready: dict[str, ObjectId] = {}
        for number, (name, group) in enumerate(groups.items()):
            self._progress("looking at projects", number, len(groups))
            changed = {ref: oid for ref, oid in group.items() if there.get(ref) != oid}
            try:
                if not changed or not self._may_move(name, changed, there):
                    continue
                snapshots, pointers = self.objects.copy(
                    changed, {ref: there[ref] for ref in changed if ref in there}, self._refuse_forgotten
                )
                self._contents(pointers)
            except _Forgotten as error:
                self._leave(name, str(error), damaged=False)
            except (CorruptionError, NotFoundError) as error:
                self._leave(name, str(error), damaged=True)
            else:
                self.snapshots += snapshots
                ready |= changed
        self.chunks.flush()
        self.objects.flush()
        first = self._head(sorted(ref for ref in there.keys() | ready.keys() if ref.startswith(HEADS)))
        for ref, oid in sorted(ready.items(), key=lambda item: (_order(item[0]), item[0] != first, item[0])):
            self._target.refs.update(ref, oid, old=there.get(ref))
            self.moved += 1
        self._merge_tombstones(refs)
        self._merge_catalog(refs)
        # Also when nothing moved: a killed run may have renamed a ref and not come to this.
        self._target.sync_tip("")

    def _head(self, branches: Sequence[str]) -> str:
        """See to it that HEAD names one of these, which is to be made before the others."""
        if not branches:
            return ""
        head = ""
        with suppress(CorruptionError):
            head = self._source.refs.head() or ""
        chosen = head if head in branches else branches[0]
        self._target.keep_head(chosen)
        return chosen

    def _groups(self, refs: Mapping[str, ObjectId]) -> dict[str, dict[str, ObjectId]]:
        """The refs to copy, by the one that decides whether they may: a project's go with its branch."""
        groups: dict[str, dict[str, ObjectId]] = {}
        for ref, oid in refs.items():
            project = _project(ref)
            if self._projects is not None and project not in self._projects and project:
                continue
            if not ref.startswith(_OWN):
                groups.setdefault(HEADS + ref_component(project) if project else ref, {})[ref] = oid
        # A tag or a meta chain of a project without a snapshot is the rest of something.
        return {name: group for name, group in groups.items() if name in group and name != _TOMBSTONES}

    def _may_move(self, name: str, changed: Mapping[str, ObjectId], there: Mapping[str, ObjectId]) -> bool:
        old, new = there.get(name), changed.get(name)
        if old is None or new is None or self._contains(new, old) or self._knew(old):
            return True
        reason = (
            f"its newest there, {old.hex()}, was never in this vault: two machines went separate ways; "
            "copy this project into another folder"
        )
        self._leave(name, reason, damaged=False)
        return False

    def _contains(self, new: ObjectId, old: ObjectId) -> bool:
        """Whether the chain holds `old`, or the snapshot that it stands for."""
        wanted = {old.hex(), _first_id(self._target, old)}
        return any(wanted & {oid.hex(), _first_id(self._source, oid)} for oid in self._source.chain(new))

    def _knew(self, old: ObjectId) -> bool:
        """Whether it was here and was taken away: it has not been swept, or the record of operations names it."""
        if self._source.objects.contains(old):
            return True
        tip = self._source.refs.read(_OPERATIONS)
        ids = {old.hex().encode(), _first_id(self._target, old).encode()}
        for oid in self._source.chain(tip) if tip else ():
            for _, blob in self._source.tree(self._source.commit(oid).tree).values():
                if ids & set(_HASH.findall(self._source.blob(blob))):
                    return True
        return False

    def _leave(self, ref: str, reason: str, *, damaged: bool) -> None:
        self.left.append(NotCopied(ref, _project(ref), reason, damaged))

    def _refuse_forgotten(self, digest: str) -> None:
        if digest in self._forgotten:
            raise _Forgotten(f"holds {digest}, which was forgotten there; git-vault forget it here too")

    def _contents(self, pointers: set[Pointer]) -> None:
        for pointer in sorted(pointers, key=lambda pointer: pointer.oid):
            if not self._target_store.has(pointer):
                self._store.copy_file(pointer, self.chunks)
        self.chunks.flush()

    def _merge_tombstones(self, refs: Mapping[str, ObjectId]) -> None:
        """What is forgotten in one is in both."""
        tip = refs.get(_TOMBSTONES)
        for name, (_, oid) in self._source.tree(self._source.commit(tip).tree).items() if tip else ():
            there = self._target.read_file(_TOMBSTONES, name)
            lines = sorted({*there.splitlines(keepends=True), *self._source.blob(oid).splitlines(keepends=True)})
            if (merged := b"".join(lines)) != there:
                self._target.write_file(_TOMBSTONES, name, merged, "Tombstones of another vault")

    def _merge_catalog(self, refs: Mapping[str, ObjectId]) -> None:
        """The projects that were copied are registered there as they are here."""
        there = {(project.name, project.host): project for project in catalog.load(self._target)}
        here = {
            (project.name, project.host): project
            for project in catalog.load(self._source)
            if self._projects is None or project.name in self._projects
        }
        if (merged := there | here) != there:
            catalog.save(self._target, list(merged.values()), "Projects of another vault")


class _Forgotten(Exception):
    """Content that must not come back."""


def _project(ref: str) -> str:
    """Whose ref it is; empty for nobody's."""
    for prefix in (HEADS, META, _TAGS):
        component, _, name = ref.removeprefix(prefix).partition("/")
        if ref.startswith(prefix) and bool(name) == (prefix == _TAGS):
            return from_ref_component(component)
    return ""


def _order(ref: str) -> int:
    """Attributes before the branch that names them; tags and the rest are about snapshots that are there."""
    return next((n for n, prefix in enumerate((META, HEADS)) if ref.startswith(prefix)), 2)


def _first_id(history: GitHistory, oid: ObjectId) -> str:
    """The id of a snapshot's first commit, which a rewritten one names."""
    trailers = dict(parse_message(history.commit(oid).message)[1])
    return trailers.get("Vault-Snapshot", oid.hex())
