"""Chains written anew: new commits for snapshots that stay, and the refs that follow their snapshots.

Nothing is visible before an operation moves the refs, see operations.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import accumulate, islice, pairwise
from typing import NamedTuple

from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.names import ref_component, to_line
from gitvault.core.versioning import areas, catalog, commits, losses, operations, origins
from gitvault.core.versioning.history import HEADS, META, OPERATIONS, GitHistory
from gitvault.core.versioning.objects import MODE_TREE, Commit, encode_commit, encode_tree, parse_message, tagged
from gitvault.core.versioning.operations import Operation, RefMove
from gitvault.errors import ContentMissing, CorruptionError, ExistsError, GitVaultError, NotFoundError

_NOTES = "refs/notes/"
_PROJECT = "Vault-Project"
TAGS = "refs/tags/"
# They go where the operation itself leads them, and `follow` leaves them alone.
_LED = (HEADS, META, OPERATIONS, operations.UNDO, operations.TOMBSTONES)

# A rename moves them, and areas; to take it back is a rename of what they hold by then.
_LISTS = (catalog.REF, losses.REF)

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
            if made != commit or (named and named != meta_parent) or _differ(commit, content.trailers):
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
            elif gone and (ref.startswith(origins.PREFIX) or (ref.startswith(TAGS) and "/" in ref[len(TAGS) :])):
                self.moves.append(RefMove(ref, at, None))
            else:
                continue
            if not ref.startswith(origins.PREFIX):
                self.lost.append(at)

    def rename(self, names: Mapping[str, str]) -> None:
        """Let projects have other names on their tags, their records and in the lists; call it after `follow`."""
        moves = {move.ref: move for move in self.moves}
        for old, new in names.items():
            source, target = (f"{TAGS}{ref_component(name)}/" for name in (old, new))
            for ref, at in self._history.refs.list(source).items():
                held = moves.get(ref, RefMove(ref, at, at)).new
                renamed = target + ref[len(source) :]
                if held and renamed not in moves:
                    moves[renamed] = RefMove(renamed, self._history.refs.read(renamed), held)
                    moves[ref] = RefMove(ref, at, None)
            for area, renamed in zip(areas.of_project(old), areas.of_project(new), strict=True):
                if records := self._history.refs.read(area):
                    there = self._history.refs.read(renamed)
                    moves[renamed] = RefMove(renamed, there, self._both(there, records) if there else records)
                    moves[area] = RefMove(area, records, None)
        self.moves = [*moves.values(), RefMove(catalog.REF, *catalog.rename(self._history, self.pack, names))]
        if lost := losses.rename(self._history, self.pack, names):
            self.moves.append(RefMove(losses.REF, *lost))

    def _both(self, there: ObjectId, at: ObjectId) -> ObjectId:
        """A commit upon one area that has the records of another too, which is lost."""
        self.lost.append(at)
        tree = areas.join(self._history, self.pack, *(self._history.commit(oid).tree for oid in (there, at)))
        return self._history.add_commit(self.pack, tree, there, "Records of a project with two names")

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


def undo(history: GitHistory, count: int, *, time: datetime, host: str) -> Operation:
    """Lead every ref back to where it was before the last `count` operations, which is one itself.

    Snapshots taken since are put upon the restored ones. Call it with the vault's lock held. Raises NotFoundError when
    there are not that many operations, GitVaultError when one cannot be taken back; nothing moves then.
    """
    history.objects.refresh()
    with Rewrite(history) as rewrite:
        undone, names = _lead_all_back(history, count, rewrite)
        return operations.perform(
            history,
            "undo",
            rewrite.pack,
            rewrite.moves,
            time=time,
            host=host,
            kept=rewrite.lost,
            undoes=[operation.number for operation in undone],
            renamed=names.items(),
        )


def _lead_all_back(history: GitHistory, count: int, rewrite: Rewrite) -> tuple[tuple[Operation, ...], dict[str, str]]:
    """The operations, and what projects are called now with what they are to be called."""
    undone = tuple(islice(operations.log(history), count))
    if len(undone) < count:
        said = f"only {len(undone)} operations" if undone else "no operation"
        raise NotFoundError(f"{said} on record; git-vault op log lists them")
    ways: dict[str, RefMove] = {}
    names: dict[str, str] = {}
    for operation in undone:
        if operation.what == "forget":
            raise GitVaultError(f"operation {operation.number} is a forget: what it removed is to be gone for good")
        if not operations.can_undo(history, operation):
            raise GitVaultError(f"operation {operation.number}: a sweep has taken what it would bring back")
        for move in operation.moves:
            ways[move.ref] = RefMove(move.ref, move.old, ways.get(move.ref, move).new)
        now = {then: name for name, then in names.items()}
        names |= {now.get(new, new): old for old, new in operation.renamed}
    names = {name: then for name, then in names.items() if name != then}
    for then in names.values():
        if history.tip(then) or any(project.name == then for project in catalog.load(history)):
            raise GitVaultError(f"{then}: is the name of another project by now; git-vault projects rename first")
    branches = {ref for ref in ways if ref.startswith(HEADS)}
    for name, then in names.items():
        ref, target = HEADS + ref_component(name), HEADS + ref_component(then)
        if ref in branches:
            _lead_back(history, rewrite, RefMove(ref, ways[target].old, ways[ref].new), target, _titled(then))
        branches -= {ref, target}
    for ref, way in ways.items():
        if ref in branches:
            _lead_back(history, rewrite, way, ref, unchanged)
        elif (
            not ref.startswith((HEADS, META, *_LISTS)) and not areas.is_area(ref) and history.refs.read(ref) == way.new
        ):
            rewrite.lead(ref, way.old)
    rewrite.follow()
    if names:
        rewrite.rename(names)
    return undone, names


def _lead_back(history: GitHistory, rewrite: Rewrite, way: RefMove, target: str, change: Change) -> None:
    """A branch and its meta chain, to the branch `target`; `change` is for what was added since."""
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
    new, meta = rewrite.chain(reversed(since), change, way.old, meta)
    rewrite.lead(META + target[len(HEADS) :], meta)
    rewrite.lead(target, new)
    if target != way.ref:
        rewrite.lead(way.ref, None)
        rewrite.lead(META + way.ref[len(HEADS) :], None)


def rename(history: GitHistory, old: str, new: str, *, time: datetime, host: str) -> Operation:
    """Give a project another name, with its snapshots, tags, notes and records; ids stay. Call it with the lock held.

    Raises NotFoundError for an unknown project, ExistsError and GitVaultError for a name that it cannot have; nothing
    moves then.
    """
    history.objects.refresh()
    tip = history.tip(old)
    if not tip:
        catalog.get(history, old, host)
    catalog.check_new(catalog.load(history), new)
    source, target = ref_component(old), ref_component(new)
    records = any(map(history.refs.read, areas.of_project(new)))
    if history.tip(new) or history.refs.list(f"{TAGS}{target}/") or records:
        raise ExistsError(f"{new}: has snapshots, tags or records already; choose another name")
    with Rewrite(history) as rewrite:
        moved, meta = rewrite.chain(reversed(list(history.walk(tip))), _titled(new))
        rewrite.lead(META + target, meta)
        rewrite.lead(HEADS + target, moved)
        rewrite.lead(HEADS + source, None)
        rewrite.lead(META + source, None)
        rewrite.follow()
        rewrite.rename({old: new})
        return operations.perform(
            history,
            "rename",
            rewrite.pack,
            rewrite.moves,
            time=time,
            host=host,
            kept=rewrite.lost,
            renamed=[(old, new)],
        )


def _titled(project: str) -> Change:
    """The Change that lets snapshots say that they are of a project; those of other tools say nothing of it."""
    said = {_PROJECT: to_line(project.encode("utf-8", "surrogateescape"))}

    def change(snapshot: SnapshotId, commit: Commit, meta: Commit | None) -> Content:
        content = unchanged(snapshot, commit, meta)
        return content._replace(trailers=said) if _PROJECT in dict(parse_message(commit.message)[1]) else content

    return change


def _differ(commit: Commit, trailers: Mapping[str, str]) -> bool:
    """Whether a commit says something else."""
    said = dict(parse_message(commit.message)[1]) if trailers else {}
    return any(said.get(key) != value for key, value in trailers.items())


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
