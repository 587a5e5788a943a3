"""One vault into another: what its refs reach and the other lacks, then the refs.

The source is only read, and nobody waits for it: its refs are read once. In the target packs become durable before any
ref moves, and all move as one operation. A copy never takes away what only the target has: a branch that was rewritten
here (by a prune, say) replaces the one there when this vault knows the newest snapshot that is there; when it does not,
two machines went separate ways, and the branch stays as it is. Nor does a copy of the target bring back what was
removed there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId, Pointer, SnapshotId
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.names import from_ref_component, ref_component
from gitvault.core.versioning import areas, catalog, edits, notes, origins
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import HEADS, LOST, META, OPERATIONS, GitHistory
from gitvault.core.versioning.operations import TOMBSTONES, TOMBSTONES_FILE, UNDO, RefMove, move, removed, tombstones
from gitvault.core.versioning.transfer import ObjectTransfer
from gitvault.errors import CorruptionError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.models import CopyReport, NotCopied

_TAGS = "refs/tags/"
DOINGS = (origins.PREFIX, UNDO, LOST)
"""How the refs begin that say nothing to another vault."""

# Those, what a vault remembers of its own operations, and what is merged line by line.
_OWN = (*DOINGS, OPERATIONS, TOMBSTONES, catalog.REF)
# Until two readings of the refs in a row are the same: somebody may be moving several.
_READINGS = 20

# A prune and a sweep of the source may take away what is being copied: then it starts over with the new refs.
_ATTEMPTS = 3
_ID = re.compile(rb"\b[0-9a-f]{40}\b")


def copy_vault(
    source: GitHistory,
    store: ChunkStore,
    target: GitHistory,
    target_store: ChunkStore,
    *,
    projects: frozenset[str] | None = None,
    back: bool = False,
    view: bool = False,
    lacking: set[Pointer] | None = None,
    progress: Progress | None = None,
) -> CopyReport:
    """Bring the target, whose lock is held, to what the source holds: all of it, or some projects.

    `back`: the source is a copy of the target, and what was removed there does not come back from it. `view`: the
    source is no more than other refs over the target's own objects. `lacking`: takes up the large files that neither
    has; without it such a project is left.

    What is damaged here, or would be lost there, is left and told; all else is copied. Raises CorruptionError when the
    target's own records are damaged; StorageFullError, OSError, also for what does not read back there.
    """
    began = time.monotonic()
    for attempt in range(1, _ATTEMPTS + 1):
        refs = read_refs(source)
        say = progress or (lambda what, done, total: None)
        copy = _Copy(
            source, store, target, target_store, projects, removed(target) if back else set(), view, lacking, say
        )
        try:
            copy.run(refs)
        except BaseException:
            copy.objects.abandon()
            raise
        if not any(left.damaged for left in copy.left) or attempt == _ATTEMPTS or read_refs(source) == refs:
            break
    if copy.objects.packs + copy.packs.packs:
        # Here: a push needs this module, and all that a sweep needs is a twentieth of its processor time.
        from gitvault.core.backup_engine.sweep import mistrust

        mistrust(target.git_dir, target.disk)
    from gitvault.core.models import CopyReport

    return CopyReport(
        target=str(target.git_dir),
        snapshots=copy.snapshots,
        objects=copy.objects.objects,
        chunks=copy.packs.chunks,
        packs=copy.objects.packs + copy.packs.packs,
        bytes=copy.objects.bytes + copy.packs.bytes,
        refs=copy.moved,
        seconds=time.monotonic() - began,
        left=tuple(copy.left),
    )


def grouped(
    refs: Mapping[str, ObjectId], projects: frozenset[str] | None, without: tuple[str, ...]
) -> dict[str, dict[str, ObjectId]]:
    """The refs to copy, by the one that decides whether they may: a project's go with its branch.

    `projects`: only theirs, and those of none. `without`: how refs begin that stay where they are.
    """
    groups: dict[str, dict[str, ObjectId]] = {}
    for ref, oid in refs.items():
        project = project_of(ref)
        whose = project or areas.project_of(ref)
        if projects is not None and whose not in projects and whose:
            continue
        if not ref.startswith(without):
            groups.setdefault(HEADS + ref_component(project) if project else ref, {})[ref] = oid
    # A tag or a meta chain of a project without a snapshot is the rest of something.
    return {name: group for name, group in groups.items() if name in group}


def read_refs(history: GitHistory) -> dict[str, ObjectId]:
    """All refs, as they were at one moment."""
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
        removed: set[SnapshotId],
        view: bool,
        lacking: set[Pointer] | None,
        progress: Progress,
    ) -> None:
        self.snapshots = self.moved = 0
        self.left: list[NotCopied] = []
        self.objects = ObjectTransfer(source, target, progress)
        self.packs = target_store.target()
        self.chunks = store.transfer_to(self.packs, progress)
        self._source = source
        self._store = store
        self._target = target
        self._target_store = target_store
        self._projects = projects
        self._progress = progress
        self._forgotten = tombstones(target).keys() - tombstones(source).keys()
        self._removed = removed
        self._view = view
        self._lacking = lacking
        self._joined: dict[str, ObjectId] = {}
        """Areas and notes of which either vault has some that the other lacks, with what this one holds."""

    def run(self, refs: Mapping[str, ObjectId]) -> None:
        """Copy what `refs` reach, then move those of the target."""
        there = self._target.refs.list()
        groups = grouped(refs, self._projects, _OWN)
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
                if name not in self._joined:
                    ready |= changed
        self.chunks.flush()
        self.objects.flush()
        first = self._head(sorted(ref for ref in there.keys() | ready.keys() if ref.startswith(HEADS)))
        ordered = sorted(ready.items(), key=lambda item: (_order(item[0]), item[0] != first, item[0]))
        moves = [*self._records(), *(RefMove(ref, there.get(ref), oid) for ref, oid in ordered)]
        move(self._target, "copy", moves)
        self.moved = len(ordered)
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

    def _may_move(self, name: str, changed: Mapping[str, ObjectId], there: Mapping[str, ObjectId]) -> bool:
        old, new = there.get(name), changed.get(name)
        if new and name.startswith(HEADS) and (back := self._removed & set(self._ids(self._source, new))):
            if not old or _first_id(self._source, new) not in self._ids(self._target, old):
                reason = (
                    f"{len(back)} of its snapshots were removed from {self._target.git_dir}, {min(back)} for one; "
                    "git-vault prune them where they come from too, or take that back with git-vault op undo"
                )
                self._leave(name, reason, damaged=False)
            return False
        if old is None or new is None or self._contains(new, old) or self._knew(old):
            return True
        if areas.is_area(name) or name.startswith(notes.PREFIX):
            self._joined[name] = new
            return True
        reason = (
            f"its newest there, {old.hex()}, was never in this vault: two machines went separate ways; "
            "copy this project into another folder"
        )
        self._leave(name, reason, damaged=False)
        return False

    def _contains(self, new: ObjectId, old: ObjectId) -> bool:
        """Whether the chain holds `old`, or the snapshot that it stands for."""
        return _first_id(self._target, old) in self._ids(self._source, new)

    def _ids(self, history: GitHistory, tip: ObjectId) -> Iterator[SnapshotId]:
        return (_first_id(history, oid) for oid in history.chain(tip))

    def _knew(self, old: ObjectId) -> bool:
        """Whether it was here and was taken away: it has not been swept, or the record of operations names it."""
        if not self._view and self._source.objects.contains(old):
            return True
        tip = self._source.refs.read(OPERATIONS)
        ids = {old.hex().encode(), _first_id(self._target, old).encode()}
        for oid in self._source.chain(tip) if tip else ():
            for _, blob in self._source.tree(self._source.commit(oid).tree).values():
                if ids & set(_ID.findall(self._source.blob(blob))):
                    return True
        return False

    def _leave(self, ref: str, reason: str, *, damaged: bool) -> None:
        from gitvault.core.models import NotCopied

        self.left.append(NotCopied(ref, project_of(ref), reason, damaged))

    def _refuse_forgotten(self, digest: str) -> None:
        if digest in self._forgotten:
            raise _Forgotten(f"holds {digest}, which was forgotten there; git-vault forget it here too")

    def _contents(self, pointers: set[Pointer]) -> None:
        for pointer in sorted(pointers, key=lambda pointer: pointer.oid):
            if self._target_store.has(pointer):
                continue
            if self._lacking is not None and not self._store.has(pointer):
                self._lacking.add(pointer)
            else:
                self._store.copy_file(pointer, self.chunks)
        self.chunks.flush()

    def _records(self) -> list[RefMove]:
        """What is forgotten in one is in both; copied projects are registered there as here; records are of both."""
        target = self._target
        pack = target.new_pack()
        found: list[RefMove] = []

        def change(ref: str, file: bytes, content: bytes, why: str) -> None:
            if content != target.read_file(ref, file):
                found.append(RefMove(ref, *target.add_file(pack, ref, file, content, why)))

        try:
            texts = (history.read_file(TOMBSTONES, TOMBSTONES_FILE) for history in (self._source, target))
            lines = sorted({line for text in texts for line in text.splitlines(keepends=True)})
            change(TOMBSTONES, TOMBSTONES_FILE, b"".join(lines), "Tombstones of another vault")
            here = (p for p in catalog.lines(self._source) if self._projects is None or p.name in self._projects)
            merged = edits.merge(catalog.lines(target), here)
            change(catalog.REF, catalog.FILE, catalog.encode(merged), "Projects of another vault")
            for ref, theirs in self._joined.items():
                old = target.refs.read(ref)
                held = target.commit(old).tree if old else None
                join = notes.join if ref.startswith(notes.PREFIX) else areas.join
                tree = join(target, pack, held, target.commit(theirs).tree)
                if tree != held:
                    found.append(RefMove(ref, old, target.add_commit(pack, tree, old, "Records of another vault")))
            made = pack.finish()
        except BaseException:
            pack.abandon()
            raise
        target.publish([made] if made else [])
        return found


class _Forgotten(Exception):
    """Content that must not come back."""


def project_of(ref: str) -> str:
    """Whose ref it is; empty for nobody's."""
    for prefix in (HEADS, META, _TAGS):
        component, _, name = ref.removeprefix(prefix).partition("/")
        if ref.startswith(prefix) and bool(name) == (prefix == _TAGS):
            return from_ref_component(component)
    return ""


def _order(ref: str) -> int:
    """Attributes before the branch that names them; tags and the rest are about snapshots that are there."""
    return next((n for n, prefix in enumerate((META, HEADS)) if ref.startswith(prefix)), 2)


def _first_id(history: GitHistory, oid: ObjectId) -> SnapshotId:
    """The id of a snapshot's first commit, which a rewritten one names."""
    return identity(oid, history.commit(oid))
