"""How a file, a folder or a project came to be what it is, read from the trees of its snapshots; no file is read.

Names are followed backwards, and forwards to the newest, where a file has the same content under another one, as `diff`
does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from gitvault.core.models import ObjectId, Pointer, Snapshot, SnapshotId
from gitvault.core.utils.names import to_line, tree_name
from gitvault.core.versioning import commits, contents, difference
from gitvault.core.versioning.objects import MODE_SYMLINK, MODE_TREE, Commit
from gitvault.errors import CorruptionError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.models import Difference
    from gitvault.vault import Vault
    from gitvault.vcs.protect.view import Based

_POINTER = 1024
_ATTACHED = b"\0"
"""How the names begin of what belongs to a snapshot and is no file of the project."""


@dataclass(frozen=True, slots=True)
class Step:
    """A path that a snapshot has otherwise than the one before it."""

    at: int
    """Which snapshot: 0 is the newest."""
    path: bytes
    change: str
    """`added`, `changed`, `renamed` or `deleted`."""
    blob: ObjectId | None = None
    """None for what was deleted."""
    source: bytes = b""
    """Its name before, when it was renamed."""
    is_link: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """What a path holds, and where that is."""

    size: int
    pointer: Pointer | None = None
    """Set when it is in the chunk store."""
    in_vault: bool = True
    """False for what only the user's own repository has."""


class Past:
    """The snapshots of one project, newest first. Raises NotFoundError when there is none, CorruptionError."""

    def __init__(self, vault: Vault, project: str) -> None:
        self._vault = vault
        self._history = vault.history
        self.project = project
        self._chain: list[tuple[ObjectId, Commit]] = list(self._history.walk(self._history.tip(project)))
        if not self._chain:
            vault.project(project)
            raise NotFoundError(f"{to_line(project.encode())}: has no snapshot yet; save it with git-vault snapshot")
        self._tree = lru_cache(256)(self._history.tree)
        self._bases: dict[ObjectId, Mapping[bytes, Based]] = {}

    @cached_property
    def ids(self) -> dict[SnapshotId, int]:
        """Where each snapshot is in the row, by its id and by that of its commit."""
        found = {SnapshotId(oid.hex()): at for at, (oid, _) in enumerate(self._chain)}
        return found | {commits.identity(oid, commit): at for at, (oid, commit) in enumerate(self._chain)}

    def snapshot(self, at: int) -> Snapshot:
        """One of them."""
        return commits.snapshot(*self._chain[at])

    def is_folder(self, path: bytes) -> bool:
        """Whether a path is a folder in the newest snapshot that has it. Raises NotFoundError when none has."""
        if not path:
            return True
        for at in range(len(self._chain)):
            if found := self._entry(at, path):
                return found[0] == MODE_TREE
            if any(name.startswith(path + b"/") for name in self._base(at)):
                return True
        project = to_line(self.project.encode())
        raise NotFoundError(f"{to_line(path)}: in no snapshot of {project}; git-vault ls {project} -r lists the newest")

    def content(self, step: Step) -> Content:
        """How large a step's file is, and where; of one that is lost 0, and who reads it is told why."""
        if step.blob is None:
            return Content(0)
        if not self._in_tree(step.at, step.path) and (based := self._base(step.at).get(step.path)):
            return Content(based.entry.size, in_vault=False)
        try:
            size = self._history.objects.size(step.blob)
            # A pointer in a tree is always ours.
            small = self._history.blob(step.blob) if size <= _POINTER and not step.is_link else b""
        except CorruptionError:
            return Content(0)
        pointer = self._history.decode_pointer(small)
        return Content(pointer.size if pointer else size, pointer)

    # -- steps -----------------------------------------------------------------------------------

    def of_file(self, path: bytes) -> Iterator[Step]:
        """The steps of a file, newest first, under all names that it had."""
        path = self._newest_name(path)
        for at in range(len(self._chain)):
            now, before = self._entry(at, path), self._entry(at + 1, path)
            if now == before:
                continue
            if now is None:
                yield Step(at, path, "deleted")
                continue
            is_link = now[0] == MODE_SYMLINK
            if before is not None:
                if self._differs(at, path):
                    yield Step(at, path, "changed", now[1], is_link=is_link)
                continue
            source = self._moved(at, target=path)
            yield Step(at, path, "renamed" if source else "added", now[1], source or b"", is_link)
            path = source or path

    def of_folder(self, path: bytes) -> Iterator[Step]:
        """The steps of all files in a folder, newest snapshot first, in each by name."""
        prefix = path + b"/" if path else b""
        for at in range(len(self._chain)):
            changed = self._difference(at, path)
            named = [
                *((prefix + name, "added", b"") for name in changed.added),
                *((prefix + name, "changed", b"") for name in changed.changed),
                *((prefix + name, "deleted", b"") for name in changed.deleted),
                *((prefix + move.target, "renamed", prefix + move.source) for move in changed.moved),
            ]
            for name, change, source in sorted(named):
                if name.startswith(_ATTACHED):
                    continue
                found = self._entry(at, name) if change != "deleted" else None
                is_link = found is not None and found[0] == MODE_SYMLINK
                yield Step(at, name, change, found[1] if found else None, source, is_link)

    def _newest_name(self, path: bytes) -> bytes:
        """The last name of a file that has this one somewhere."""
        newest = self._newest(path)
        seen = {path}
        while newest and (target := self._moved(newest - 1, source=path)) and target not in seen:
            seen.add(target)
            path, newest = target, self._newest(target)
        return path

    def _newest(self, path: bytes) -> int:
        return next((at for at in range(len(self._chain)) if self._entry(at, path)), 0)

    def _moved(self, at: int, *, source: bytes = b"", target: bytes = b"") -> bytes | None:
        """The other name of a file that a snapshot has under another one than that before it."""
        for move in self._difference(at, b"").moved:
            if target and move.target == target:
                return move.source
            if source and move.source == source:
                return move.target
        return None

    def _differs(self, at: int, path: bytes) -> bool:
        """Whether a file that both have is another one, given that its object is."""
        if self._in_tree(at, path) and self._in_tree(at + 1, path):
            return True
        # One of them is in the user's repository: only the bytes can tell.
        return path in self._difference(at, b"").changed

    def _difference(self, at: int, path: bytes) -> Difference:
        """What a snapshot has otherwise than that before it, in a folder, names relative to it."""
        newer = self._chain[at][1]
        older = self._chain[at + 1][1] if at + 1 < len(self._chain) else None
        if not self._attached(at) and not (older and self._attached(at + 1)):
            trees = [self._folder(commit.tree if commit else None, path) for commit in (older, newer)]
            return difference.compare(self._tree, *trees)
        # Half of the start of a timeline, and most projects are no checkouts.
        from gitvault.vcs.protect import view

        now = view.View(self._history, self.snapshot(at).id)
        if older:
            past = view.View(self._history, self.snapshot(at + 1).id)
            return _within(view.compare(past, now, self._vault.store), path)
        entries = now.entries(damaged=lambda _: None)
        added = {entry.path: entry.blob for entry in entries if entry.kind != "folder"}
        return _within(difference.told(added, (), {}), path)

    # -- trees -----------------------------------------------------------------------------------

    def _entry(self, at: int, path: bytes) -> tuple[int, ObjectId] | None:
        """Mode and object of what a snapshot has at a path; None past the oldest."""
        if at >= len(self._chain):
            return None
        if found := self._in_tree(at, path):
            return found
        if based := self._base(at).get(path):
            return (MODE_SYMLINK if based.entry.kind == "symlink" else 0, based.entry.blob)
        return None

    def _in_tree(self, at: int, path: bytes) -> tuple[int, ObjectId] | None:
        if at >= len(self._chain):
            return None
        folder, _, name = path.rpartition(b"/")
        entries = self._tree(self._folder(self._chain[at][1].tree, folder))
        return entries.get(tree_name(name)) or entries.get(tree_name(name, force=True))

    def _folder(self, tree: ObjectId | None, path: bytes) -> ObjectId | None:
        """The tree of a folder."""
        for part in path.split(b"/") if path else ():
            entries = self._tree(tree)
            found = entries.get(tree_name(part)) or entries.get(tree_name(part, force=True))
            if not found or found[0] != MODE_TREE:
                return None
            tree = found[1]
        return tree

    def _attached(self, at: int) -> ObjectId | None:
        found = self._tree(self._chain[at][1].tree).get(contents.ATTACHED)
        return found[1] if found else None

    def _base(self, at: int) -> Mapping[bytes, Based]:
        """What a snapshot of a checkout relies on version control for."""
        top = self._attached(at)
        if top is None:
            return {}
        if top not in self._bases:
            from gitvault.vcs.protect.view import View

            self._bases[top] = View(self._history, self.snapshot(at).id).based
        return self._bases[top]


def _within(whole: Difference, path: bytes) -> Difference:
    """What of a difference is in a folder, names relative to it; a file that was moved over its border came or went."""
    if not path:
        return whole
    prefix = path + b"/"

    def inside(names: tuple[bytes, ...] | list[bytes]) -> tuple[bytes, ...]:
        return tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))

    kept = [move for move in whole.moved if move.source.startswith(prefix) and move.target.startswith(prefix)]
    crossing = [move for move in whole.moved if move not in kept]
    return type(whole)(
        inside([*whole.added, *(move.target for move in crossing)]),
        inside(whole.changed),
        inside([*whole.deleted, *(move.source for move in crossing)]),
        tuple(type(move)(move.source[len(prefix) :], move.target[len(prefix) :]) for move in kept),
    )
