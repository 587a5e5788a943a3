"""What changed between two trees, moves found by equal content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gitvault.core.models import Difference, Move, ObjectId
from gitvault.core.utils.names import from_tree_name, to_line
from gitvault.core.versioning.objects import EMPTY_BLOB, LONGEST_PATH, MODE_TREE
from gitvault.errors import CorruptionError

ReadTree = Callable[[ObjectId | None], Mapping[bytes, tuple[int, ObjectId]]]
"""A tree's entries by their names in git: mode and id; nothing for None."""


def compare(read: ReadTree, a: ObjectId | None, b: ObjectId | None) -> Difference:
    """What changed from tree `a` to tree `b`; subtrees that are equal are not read."""
    found = _Found()
    pending = [(a, b, b"")]
    while pending:
        pending += _compare(read, *pending.pop(), found)
    return told(found.added, found.changed, found.deleted)


def told(added: dict[bytes, ObjectId], changed: Iterable[bytes], deleted: dict[bytes, ObjectId]) -> Difference:
    """The difference, given paths and the contents of those on one side only, from which moves are found."""
    moved = _moves(deleted, added)
    sources, targets = {move.source for move in moved}, {move.target for move in moved}
    return Difference(
        tuple(sorted(added.keys() - targets)),
        tuple(sorted(changed)),
        tuple(sorted(deleted.keys() - sources)),
        tuple(moved),
    )


@dataclass(slots=True)
class _Found:
    added: dict[bytes, ObjectId] = field(default_factory=dict)
    deleted: dict[bytes, ObjectId] = field(default_factory=dict)
    changed: list[bytes] = field(default_factory=list)


def _compare(
    read: ReadTree, a: ObjectId | None, b: ObjectId | None, prefix: bytes, found: _Found
) -> Iterator[tuple[ObjectId | None, ObjectId | None, bytes]]:
    """Compare one folder; the subfolders that differ are given back."""
    if a == b:
        return
    if len(prefix) > LONGEST_PATH:
        raise CorruptionError(f"{to_line(prefix[:60])}...: a path of more than {LONGEST_PATH} bytes; not compared")
    old, new = read(a), read(b)
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        path = prefix + from_tree_name(name)
        old_tree = before[1] if before and before[0] == MODE_TREE else None
        new_tree = after[1] if after and after[0] == MODE_TREE else None
        if old_tree or new_tree:
            yield old_tree, new_tree, path + b"/"
        old_file = before if before and not old_tree else None
        new_file = after if after and not new_tree else None
        if old_file and new_file:
            found.changed.append(path)
        elif old_file:
            found.deleted[path] = old_file[1]
        elif new_file:
            found.added[path] = new_file[1]


def _moves(deleted: Mapping[bytes, ObjectId], added: Mapping[bytes, ObjectId]) -> list[Move]:
    """Pairs of equal content, sorted by target; among several sources, one of the same name is preferred."""
    sources: dict[bytes, list[bytes]] = {}
    for path in sorted(deleted, reverse=True):
        # Empty files are all alike; calling one the other's new name would be a guess.
        if deleted[path] != EMPTY_BLOB:
            sources.setdefault(deleted[path], []).append(path)
    moved: list[Move] = []
    for target in sorted(added):
        candidates = sources.get(added[target])
        if candidates:
            same = [c for c in candidates if c.rpartition(b"/")[2] == target.rpartition(b"/")[2]]
            source = (same or candidates)[-1]
            candidates.remove(source)
            moved.append(Move(source, target))
    return moved
