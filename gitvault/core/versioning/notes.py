"""Git notes on snapshots: lines of JSON under `refs/notes/vault/<kind>`, which `git log --notes` shows.

Each line is canonical, so that `git notes merge -s cat_sort_uniq` joins what two machines wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitvault.core.models import ObjectId
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE, encode_tree
from gitvault.core.versioning.packfile import PackWriter
from gitvault.errors import CorruptionError

PREFIX = "refs/notes/vault/"


def add(history: GitHistory, kind: str, said: Mapping[ObjectId, Sequence[Mapping[str, Any]]], why: str) -> None:
    """Write more lines on commits, all in one go, but those that are there; durable when it returns. Call it locked."""
    ref = PREFIX + kind
    parent = history.refs.read(ref)
    tree = history.tree(history.commit(parent).tree) if parent else {}
    written: dict[bytes, bytes] = {}
    for commit, records in said.items():
        held = _held(history, tree, commit)
        old = set(history.blob(held).splitlines(keepends=True)) if held else set()
        new = {json.dumps(one, sort_keys=True, separators=(",", ":")).encode() + b"\n" for one in records}
        if not new <= old:
            written[commit.hex().encode()] = b"".join(sorted(old | new))
    if not written:
        return

    def make(pack: PackWriter) -> ObjectId:
        for name, text in written.items():
            tree[name] = MODE_FILE, pack.add(b"blob", text)
        top = pack.add(b"tree", encode_tree((key, mode, oid) for key, (mode, oid) in tree.items()))
        return history.add_commit(pack, top, parent, why)

    history.write_ref(ref, parent, make)


def read(history: GitHistory, kind: str, commit: ObjectId) -> list[dict[str, Any]]:
    """The lines on a commit, sorted. Raises CorruptionError."""
    parent = history.refs.read(PREFIX + kind)
    held = _held(history, history.tree(history.commit(parent).tree), commit) if parent else None
    try:
        return [dict(json.loads(line)) for line in history.blob(held).splitlines()] if held else []
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{PREFIX}{kind}: the note of {commit.hex()} cannot be read ({error})") from error


def join(history: GitHistory, pack: PackWriter, ours: ObjectId | None, theirs: ObjectId | None) -> ObjectId:
    """Add to the pack the tree that holds the lines of both. Raises NotFoundError, CorruptionError."""
    held = dict(_all(history, ours))
    for name, blob in _all(history, theirs):
        if held.get(name, blob) != blob:
            lines = {line for each in (held[name], blob) for line in history.blob(each).splitlines(keepends=True)}
            blob = pack.add(b"blob", b"".join(sorted(lines)))
        held[name] = blob
    return pack.add(b"tree", encode_tree((name, MODE_FILE, blob) for name, blob in held.items()))


def _all(history: GitHistory, tree: ObjectId | None, digits: bytes = b"") -> Iterator[tuple[bytes, ObjectId]]:
    """The notes of a tree, in folders too, each by the digits of its commit."""
    for name, (mode, oid) in history.tree(tree).items():
        if mode == MODE_TREE:
            yield from _all(history, oid, digits + name)
        else:
            yield digits + name, oid


def _held(history: GitHistory, tree: Mapping[bytes, tuple[int, ObjectId]], commit: ObjectId) -> ObjectId | None:
    """The note of a commit: git keeps many of them in folders, by the first digits of the id."""
    digits = commit.hex().encode()
    while digits:
        if found := tree.get(digits):
            return found[1]
        folder = tree.get(digits[:2])
        if not folder or folder[0] != MODE_TREE:
            return None
        tree, digits = history.tree(folder[1]), digits[2:]
    return None
