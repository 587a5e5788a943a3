"""Chains written anew: new commits for snapshots that stay, and the refs that follow their snapshots.

Nothing is visible before an operation moves the refs, see operations.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import accumulate, islice, pairwise
from typing import NamedTuple

from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.names import from_ref_component, ref_component
from gitvault.core.versioning import commits, losses, operations
from gitvault.core.versioning.history import HEADS, META, OPERATIONS, GitHistory
from gitvault.core.versioning.objects import MODE_TREE, Commit, encode_commit, encode_tree, tagged
from gitvault.core.versioning.operations import Operation, RefMove
from gitvault.errors import ContentMissing, CorruptionError, GitVaultError, NotFoundError

_NOTES = "refs/notes/"
TAGS = "refs/tags/"
_RESTORED = "refs/vault/restored/"
# They go where the operation itself leads them, and `follow` leaves them alone.
_LED = (HEADS, META, OPERATIONS, operations.UNDO, operations.TOMBSTONES)

_Files = dict[tuple[bytes, ...], tuple[int, ObjectId]]
"""A tree with all below it: mode and id by the names that lead there."""


class Content(NamedTuple):
    """What a snapshot is to hold."""

    tree: ObjectId
    meta_tree: ObjectId | None
    trailers: Mapping[str, str] = {}
    """Those that change with it."""
    merged: bool = True
    """Whether what another tool merged into it stays so."""


Change = Callable[[SnapshotId, Commit, Commit | None], Content | None]
"""What becomes of a snapshot, given its commit and its commit in the meta chain; None: it goes."""


def unchanged(_snapshot: SnapshotId, commit: Commit, meta: Commit | None) -> Content:
    """The Change that leaves a snapshot as it is."""
    return Content(commit.tree, meta.tree if meta else None)


class Rewrite:
    """Collects new commits in a pack, and the moves of refs that make them count. A context: abandoned at its end."""

    def __init__(self, history: GitHistory) -> None:
        self._history = history
        self.pack = history.new_pack()
        self.moves: list[RefMove] = []
        self.lost: list[ObjectId] = []
        """What refs have led to and nothing leads to any more."""
        self.places: dict[SnapshotId, ObjectId | None] = {}
        """Where each snapshot that was looked at is now; None: gone."""
        self._moved: dict[ObjectId, ObjectId] = {}

    def __enter__(self) -> Rewrite:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pack.abandon()

    def project(self, project: str, change: Change) -> None:
        """Apply `change` to every snapshot of a project. Raises CorruptionError, NotFoundError, StorageFullError."""
        chain = list(self._history.walk(self._history.tip(project)))
        tip, meta = self.chain(reversed(chain), change)
        self.lead(HEADS + ref_component(project), tip)
        self.lead(META + ref_component(project), meta)

    def chain(
        self,
        chain: Iterable[tuple[ObjectId, Commit]],
        change: Change,
        parent: ObjectId | None = None,
        meta_parent: ObjectId | None = None,
    ) -> tuple[ObjectId | None, ObjectId | None]:
        """Apply `change` to commits, oldest first, upon the parents; the newest commit and its meta commit."""
        for oid, commit in chain:
            snapshot = commits.identity(oid, commit)
            named = commits.meta_commit(commit)
            meta = self._meta(snapshot, named)
            content = change(snapshot, commit, meta)
            if content is None:
                self.places.setdefault(snapshot, None)
                continue
            if named and meta and content.meta_tree:
                above = (meta_parent,) if meta_parent else ()
                meta_parent = self._add(named, meta, replace(meta, tree=content.meta_tree, parents=above))
                content = content._replace(trailers={**content.trailers, "Vault-Meta": meta_parent.hex()})
            merged = commit.parents[1:] if content.merged else ()
            parents = (*((parent,) if parent else ()), *merged)
            made = replace(commit, tree=content.tree, parents=parents)
            if made != commit or (named and named != meta_parent):
                made = replace(made, message=commits.rewritten(snapshot, commit, content.trailers))
            parent = self._add(oid, commit, made)
            self.stands(snapshot, oid, parent)
        return parent, meta_parent

    def _meta(self, snapshot: SnapshotId, named: ObjectId | None) -> Commit | None:
        try:
            return self._history.commit(named) if named else None
        except ContentMissing:
            if any(loss.object == snapshot for loss in losses.load(self._history)):
                # A repair has said so: the snapshot goes on without.
                return None
            raise

    def _add(self, oid: ObjectId, old: Commit, new: Commit) -> ObjectId:
        return oid if new == old else self.pack.add(b"commit", encode_commit(new))

    def stands(self, snapshot: SnapshotId, old: ObjectId, new: ObjectId) -> None:
        """Say that `new` stands for a snapshot for which `old` did."""
        self.places[snapshot] = new
        if old != new:
            self._moved[old] = new

    def lead(self, ref: str, new: ObjectId | None) -> None:
        """Let a ref lead elsewhere; nothing when it does already. What it led to is lost."""
        old = self._history.refs.read(ref)
        if old != new:
            self.moves.append(RefMove(ref, old, new))
            if old:
                self.lost.append(old)

    def follow(self) -> None:
        """Let every other ref that leads to one of the snapshots go where it is now; call it once, last.

        Notes move with their snapshots, and stay where they are when it is gone. Tags of a project, and what says
        where restored files came from, go with their snapshot.
        """
        led = {move.ref for move in self.moves}
        for ref, at in self._history.refs.list().items():
            if ref in led or ref.startswith(_LED):
                continue
            if ref.startswith(_NOTES):
                if (new := self._notes(at)) != at:
                    # Made upon the old one, which is thus not lost.
                    self.moves.append(RefMove(ref, at, new))
                continue
            gone, new = self._place(at)
            if not gone and new != at:
                self.moves.append(RefMove(ref, at, new))
            elif gone and (ref.startswith(_RESTORED) or (ref.startswith(TAGS) and "/" in ref[len(TAGS) :])):
                self.moves.append(RefMove(ref, at, None))
            else:
                continue
            if not ref.startswith(_RESTORED):
                self.lost.append(at)

    def _place(self, at: ObjectId) -> tuple[bool, ObjectId]:
        """Whether the snapshot that a ref leads to is gone, and what the ref is to hold."""
        try:
            kind, data = self._history.objects.read(at)
            if kind != b"tag":
                place = self.places.get(commits.identity(at, self._history.commit(at)), at)
                return place is None, place or at
            target = tagged(at, data)
        except (CorruptionError, NotFoundError):
            return False, at
        gone, new = self._place(target)
        if gone or new == target:
            return gone, at
        return False, self.pack.add(b"tag", b"object %b\n" % new.hex().encode() + data.partition(b"\n")[2])

    def _notes(self, at: ObjectId) -> ObjectId:
        """A commit upon notes, in which those on commits that were replaced are on the new ones."""
        history = self._history
        files = dict(_files(history, history.commit(at).tree))
        moved: _Files = {}
        for path, entry in files.items():
            # git spreads many notes over folders: ab/cdef...
            digits = b"".join(path)
            new = self._moved.get(ObjectId(bytes.fromhex(digits.decode()))) if _is_id(digits) else None
            moved[_spread(new, path) if new else path] = entry
        if moved == files:
            return at
        return history.add_commit(self.pack, self._tree(moved), at, "Notes follow their snapshots")

    def _tree(self, files: _Files) -> ObjectId:
        entries = [(path[0], mode, oid) for path, (mode, oid) in files.items() if len(path) == 1]
        below: dict[bytes, _Files] = {}
        for path, entry in files.items():
            if len(path) > 1:
                below.setdefault(path[0], {})[path[1:]] = entry
        entries += [(name, MODE_TREE, self._tree(inner)) for name, inner in below.items()]
        return self.pack.add(b"tree", encode_tree(entries))


def undo(history: GitHistory, count: int, rewrite: Rewrite) -> tuple[Operation, ...]:
    """Lead every ref back to where it was before the last `count` operations; those operations, newest first.

    Snapshots taken since are put upon the restored ones. Raises NotFoundError when there are not that many operations,
    GitVaultError when one cannot be taken back.
    """
    undone = tuple(islice(operations.log(history), count))
    if len(undone) < count:
        said = f"only {len(undone)} operations" if undone else "no operation"
        raise NotFoundError(f"{said} on record; git-vault op log lists them")
    ways: dict[str, RefMove] = {}
    for operation in undone:
        if operation.what == "forget":
            raise GitVaultError(f"operation {operation.number} is a forget: what it removed is to be gone for good")
        if not operations.can_undo(history, operation):
            raise GitVaultError(f"operation {operation.number}: a sweep has taken what it would bring back")
        for move in operation.moves:
            ways[move.ref] = RefMove(move.ref, move.old, ways.get(move.ref, move).new)
    for ref, way in ways.items():
        if ref.startswith(HEADS):
            _lead_back(history, rewrite, way)
        elif not ref.startswith(META) and history.refs.read(ref) == way.new:
            rewrite.lead(ref, way.old)
    rewrite.follow()
    return undone


def _lead_back(history: GitHistory, rewrite: Rewrite, way: RefMove) -> None:
    """A branch and its meta chain."""
    tip = history.refs.read(way.ref)
    since: list[tuple[ObjectId, Commit]] = []
    before: list[tuple[ObjectId, Commit]] = []
    for oid, commit in history.walk(tip):
        (before if before or oid == way.new else since).append((oid, commit))
    if way.new and not before:
        raise GitVaultError(f"{way.ref}: something else than gitvault moved it since; move it back with git update-ref")
    restored = {commits.identity(oid, commit): oid for oid, commit in history.walk(way.old)}
    for oid, commit in before:
        snapshot = commits.identity(oid, commit)
        if snapshot in restored:
            rewrite.stands(snapshot, oid, restored[snapshot])
        else:
            rewrite.places.setdefault(snapshot, None)
    meta = commits.meta_commit(history.commit(way.old)) if way.old else None
    new, meta = rewrite.chain(reversed(since), unchanged, way.old, meta)
    rewrite.lead(way.ref, new)
    rewrite.lead(META + way.ref[len(HEADS) :], meta)


def milestones(history: GitHistory, project: str) -> dict[SnapshotId, str]:
    """The snapshots of a project that tags name, each with the name of a tag."""
    prefix = f"{TAGS}{ref_component(project)}/"
    tags = history.refs.list(prefix).items()
    return {history.identify(history.peel(at)): from_ref_component(ref[len(prefix) :]) for ref, at in tags}


def _files(
    history: GitHistory, tree: ObjectId, path: tuple[bytes, ...] = ()
) -> Iterator[tuple[tuple[bytes, ...], tuple[int, ObjectId]]]:
    for name, (mode, oid) in history.tree(tree).items():
        if mode == MODE_TREE:
            yield from _files(history, oid, (*path, name))
        else:
            yield (*path, name), (mode, oid)


def _is_id(digits: bytes) -> bool:
    return len(digits) == 40 and not digits.strip(b"0123456789abcdef")


def _spread(oid: ObjectId, like: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """An id cut as another one is."""
    digits = oid.hex().encode()
    cuts = accumulate(map(len, like), initial=0)
    return tuple(digits[a:b] for a, b in pairwise(cuts))
