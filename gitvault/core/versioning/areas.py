"""Areas of records: files under `refs/vault/<area>` that are added and never change.

A record has a path of its own for good. So an area of two machines is joined by taking the files of both, and it does
not matter in which order they meet, nor how often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from gitvault.core.models import ObjectId
from gitvault.core.utils.names import from_ref_component, from_tree_name, ref_component, to_line, tree_name
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE, encode_tree, object_id
from gitvault.errors import ExistsError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.versioning.packfile import PackWriter

AREAS = ("builds", "feedback", "platforms", "playtests", "workspaces")
"""The first word of an area's name; what follows, after `/`, is a project's name as a ref's."""

_Folder = dict[bytes, "bytes | _Folder"]


def ref_of(area: str) -> str:
    """The ref of an area. Raises GitVaultError for a name that is none."""
    if area.partition("/")[0] not in AREAS:
        raise GitVaultError(f"{area}: not an area of records; there are {', '.join(AREAS)}")
    return f"refs/vault/{area}"


def is_area(ref: str) -> bool:
    """Whether a ref is an area's."""
    return ref.startswith("refs/vault/") and ref.split("/")[2] in AREAS


def project_of(ref: str) -> str:
    """The project whose area a ref is; empty for any other ref."""
    return from_ref_component(ref.split("/", 3)[3]) if is_area(ref) and ref.count("/") > 2 else ""


def of_project(project: str) -> list[str]:
    """The refs that a project's areas have, or would have."""
    return [ref_of(f"{area}/{ref_component(project)}") for area in AREAS]


def add(history: GitHistory, pack: PackWriter, area: str, files: Mapping[bytes, bytes]) -> ObjectId:
    """Add to the pack the tree of an area with more files in it; of a path that is there, with the same content.

    Raises ExistsError for another content, GitVaultError for what is no path.
    """
    new: _Folder = {}
    for path, content in files.items():
        *above, name = parts = path.split(b"/")
        if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            raise GitVaultError(f"{to_line(path)}: not the path of a record; give it without /, . and ..")
        folder = new
        for part in above:
            inner = folder.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ExistsError(f"{to_line(path)}: {to_line(part)} is a record already")
            folder = inner
        if isinstance(folder.get(name), dict):
            raise ExistsError(f"{to_line(path)}: is a folder of records already")
        folder[name] = content
    return _grown(history, pack, tree_of(history, area), new)


def _grown(history: GitHistory, pack: PackWriter, tree: ObjectId | None, new: _Folder) -> ObjectId:
    entries = history.tree(tree)
    for name, value in new.items():
        stored = tree_name(name)
        mode, held = entries.get(stored, (0, None))
        if isinstance(value, dict):
            if held and mode != MODE_TREE:
                raise ExistsError(f"{to_line(name)}: is a record already; records never change")
            entries[stored] = MODE_TREE, _grown(history, pack, held, value)
        else:
            oid = object_id(b"blob", value)
            if oid != held and not history.objects.contains(oid):
                pack.add(b"blob", value)
            if held not in (None, oid):
                raise ExistsError(f"{to_line(name)}: is a record already; records never change")
            entries[stored] = MODE_FILE, oid
    return pack.add(b"tree", encode_tree((name, mode, oid) for name, (mode, oid) in entries.items()))


def without(history: GitHistory, pack: PackWriter, area: str, paths: Collection[bytes]) -> ObjectId:
    """Add to the pack the tree of an area without some records, or whole folders of them."""
    return _pruned(history, pack, tree_of(history, area), frozenset(paths), b"") or pack.add(b"tree", b"")


def _pruned(
    history: GitHistory, pack: PackWriter, tree: ObjectId | None, paths: frozenset[bytes], prefix: bytes
) -> ObjectId | None:
    kept: list[tuple[bytes, int, ObjectId]] = []
    for stored, (mode, oid) in history.tree(tree).items():
        path = prefix + from_tree_name(stored)
        if path in paths:
            continue
        if mode == MODE_TREE and any(other.startswith(path + b"/") for other in paths):
            inner = _pruned(history, pack, oid, paths, path + b"/")
            if inner:
                kept.append((stored, mode, inner))
        else:
            kept.append((stored, mode, oid))
    return pack.add(b"tree", encode_tree(kept)) if kept else None


def join(history: GitHistory, pack: PackWriter, ours: ObjectId | None, theirs: ObjectId | None) -> ObjectId:
    """Add to the pack the tree that holds the files of both. Raises NotFoundError, CorruptionError."""
    entries = history.tree(ours)
    for name, (mode, oid) in history.tree(theirs).items():
        held = entries.get(name)
        if held and held[0] == mode == MODE_TREE and held[1] != oid:
            entries[name] = mode, join(history, pack, held[1], oid)
        else:
            # Where records that never change differ all the same, both sides choose the same one.
            entries[name] = max((mode, oid), held or (0, oid))
    return pack.add(b"tree", encode_tree((name, mode, oid) for name, (mode, oid) in entries.items()))


def tree_of(history: GitHistory, area: str) -> ObjectId | None:
    """The tree of an area; None for one without records."""
    at = history.refs.read(ref_of(area))
    return history.commit(at).tree if at else None


def records(history: GitHistory, area: str, below: bytes = b"") -> Iterator[tuple[bytes, ObjectId]]:
    """The paths of records, of all or those in a folder, in order, with their blobs."""
    found = _at(history, area, below)
    if found:
        yield from _below(history, below + b"/" if below else b"", *found)


def named(
    history: GitHistory, area: str, name: bytes, below: bytes = b"", *, depth: int = 1
) -> Iterator[tuple[bytes, ObjectId]]:
    """The records of one name so many folders down, in order, with their blobs; what else is there is not looked at."""
    found = _at(history, area, below)
    if found:
        yield from _named(history, below + b"/" if below else b"", *found, tree_name(name), depth)


def _named(
    history: GitHistory, prefix: bytes, mode: int, oid: ObjectId, name: bytes, depth: int
) -> Iterator[tuple[bytes, ObjectId]]:
    if mode != MODE_TREE:
        return
    entries = history.tree(oid)
    if depth:
        for stored, (inner, at) in entries.items():
            yield from _named(history, prefix + from_tree_name(stored) + b"/", inner, at, name, depth - 1)
    elif name in entries and entries[name][0] != MODE_TREE:
        yield prefix + from_tree_name(name), entries[name][1]


def find(history: GitHistory, area: str, path: bytes) -> ObjectId:
    """The blob of a record. Raises NotFoundError."""
    found = _at(history, area, path)
    if not found or found[0] == MODE_TREE:
        raise NotFoundError(f"{to_line(path)}: no such record in {ref_of(area)}")
    return found[1]


def _at(history: GitHistory, area: str, path: bytes) -> tuple[int, ObjectId] | None:
    tree = tree_of(history, area)
    found = (MODE_TREE, tree) if tree else None
    for part in path.split(b"/") if path else ():
        found = history.tree(found[1]).get(tree_name(part)) if found and found[0] == MODE_TREE else None
    return found


def _below(history: GitHistory, prefix: bytes, mode: int, oid: ObjectId) -> Iterator[tuple[bytes, ObjectId]]:
    if mode != MODE_TREE:
        yield prefix.rstrip(b"/"), oid
        return
    for stored, (inner, at) in history.tree(oid).items():
        path = prefix + from_tree_name(stored)
        yield from _below(history, path + b"/" if inner == MODE_TREE else path, inner, at)
