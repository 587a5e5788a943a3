"""What a snapshot holds: its tree and its tree in the meta chain, read as one and written together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gitvault.core.models import Entry, ObjectId, Pointer, SnapshotId
from gitvault.core.utils.names import from_tree_name, to_line, tree_name
from gitvault.core.versioning import meta
from gitvault.core.versioning.history import NO_OBJECT, Damaged, GitHistory, tell_lost
from gitvault.core.versioning.objects import LONGEST_PATH, MODE_FILE, MODE_SYMLINK, MODE_TREE, decode_tree, encode_tree
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.versioning.packfile import PackWriter

ATTACHED = b"%00vcs"
"""A tree beside the root's entries for what belongs to a snapshot and is no file of the project.

No escaped name begins so. It is not listed, and not restored.
"""

Listing = tuple[meta.Attributes | None, list[tuple[Entry, meta.Attributes | None, ObjectId | None]]]
"""A folder's own attributes; each entry (path: its name), its attributes and, for a folder, its meta tree.

A meta tree without folders below is the blob that would be alone in it.
"""


def listing(
    history: GitHistory,
    tree: ObjectId | None,
    meta_tree: ObjectId | None,
    damaged: Damaged | None = None,
    path: bytes = b"",
) -> Listing:
    """One folder. Raises CorruptionError, NotFoundError.

    `damaged` is told when the meta chain cannot be read, and the rest is given; else that is raised too. `path` is
    the folder's, to say so.
    """
    if len(path) > LONGEST_PATH:
        raise CorruptionError(f"{to_line(path[:60])}...: a path of more than {LONGEST_PATH} bytes; not followed")
    entries = history.tree(tree)
    mirrored: dict[bytes, ObjectId] = {}
    own: meta.Attributes | None = None
    known: dict[bytes, meta.Attributes] = {}
    try:
        blob, mirrored = mirror(history, meta_tree)
        if blob:
            own, known = meta.decode(history.blob(blob))
    except (CorruptionError, NotFoundError) as error:
        tell_lost(damaged, path, error)
    out: list[tuple[Entry, meta.Attributes | None, ObjectId | None]] = []
    for stored, (mode, oid) in entries.items():
        if stored == ATTACHED:
            continue
        name = from_tree_name(stored)
        if mode == MODE_TREE:
            out.append((Entry(name, "folder", 0o755, 0, 0, oid), None, mirrored.pop(stored, None)))
            continue
        said = known.get(name)
        kind = "symlink" if mode == MODE_SYMLINK else "file"
        if said is None:
            out.append((_as_git_knows(history, name, kind, mode & 0o777 or 0o777, oid), None, None))
        else:
            entry = Entry(name, kind, said.mode, said.size, said.mtime_ns, oid, said.as_pointer())
            out.append((entry, said, None))
    out += [
        (Entry(from_tree_name(stored), "folder", 0o755, 0, 0, NO_OBJECT), None, oid) for stored, oid in mirrored.items()
    ]
    out.sort(key=lambda item: item[0].path)
    return own, out


_Outline = tuple[bytes, list[tuple[bytes, ObjectId]], list[tuple[bytes, Pointer]]]
"""A folder's path; its small files' names and blobs; its large files' names and pointers."""


def outline(history: GitHistory, snapshot: SnapshotId, enters: Callable[[bytes], bool]) -> Iterator[_Outline]:
    """The folders of a snapshot, each before those in it, as far as they can be read and `enters` takes their paths.

    Attributes are read only where they tell of large files: a third of the time of `entries`.
    """
    pending = [(b"", *history.trees(snapshot, lambda _: None))]
    while pending:
        path, tree, meta_tree = pending.pop()
        small: list[tuple[bytes, ObjectId]] = []
        large: list[tuple[bytes, Pointer]] = []
        below: list[tuple[bytes, ObjectId, ObjectId | None]] = []
        with contextlib.suppress(CorruptionError, NotFoundError):
            for name, blob, pointer, inner in _outlined(history, tree, meta_tree, path):
                where = path + b"/" + name if path else name
                if inner is not None:
                    below.append((where, blob, *inner))
                elif pointer:
                    large.append((name, pointer))
                else:
                    small.append((name, blob))
        yield path, small, large
        pending += (folder for folder in reversed(below) if enters(folder[0]))


def _outlined(
    history: GitHistory, tree: ObjectId | None, meta_tree: ObjectId | None, path: bytes
) -> Iterator[tuple[bytes, ObjectId, Pointer | None, tuple[ObjectId | None] | None]]:
    """Name, tree or blob, pointer and, of a folder, its meta tree."""
    quick = False
    mirrored: dict[bytes, ObjectId] = {}
    # What is wrong with the meta chain does not keep from the tree.
    with contextlib.suppress(CorruptionError, NotFoundError):
        said, mirrored = mirror(history, meta_tree)
        quick = said is not None and len(path) <= LONGEST_PATH and not meta.large_files(history.blob(said))
    if not quick:
        for entry, _, below in listing(history, tree, meta_tree, lambda _: None, path)[1]:
            yield entry.path, entry.blob, entry.pointer, (below,) if entry.kind == "folder" else None
        return
    for stored, (mode, oid) in history.tree(tree).items():
        if stored != ATTACHED:
            yield from_tree_name(stored), oid, None, (mirrored.get(stored),) if mode == MODE_TREE else None


def attached(history: GitHistory, tree: ObjectId | None) -> ObjectId | None:
    """The tree that is attached to a snapshot's; None when nothing is. Raises CorruptionError, NotFoundError."""
    found = history.tree(tree).get(ATTACHED)
    return found[1] if found else None


def mirror(history: GitHistory, meta_tree: ObjectId | None) -> tuple[ObjectId | None, dict[bytes, ObjectId]]:
    """The blob that describes a folder, and its subfolders' meta trees by their names in git.

    Raises CorruptionError, NotFoundError.
    """
    if not meta_tree:
        return None, {}
    kind, data = history.objects.read(meta_tree)
    if kind == b"blob":
        return meta_tree, {}
    if kind != b"tree":
        raise CorruptionError(f"{meta_tree.hex()}: expected a folder's attributes, found a {kind.decode()}")
    below = {name: oid for name, _, oid in decode_tree(data)}
    return below.pop(meta.META_NAME, None), below


def _as_git_knows(history: GitHistory, name: bytes, kind: str, mode: int, oid: ObjectId) -> Entry:
    """A file of which the meta chain says nothing: another tool made the commit, or the chain is damaged."""
    size, pointer = 0, None
    # Who lists a folder is not to lose it for one file; who reads the file is told.
    with contextlib.suppress(CorruptionError, NotFoundError):
        size = history.objects.size(oid)
        pointer = history.pointer_at(oid) if kind == "file" else None
    return Entry(name, kind, mode, pointer.size if pointer else size, 0, oid, pointer)


def entries(
    history: GitHistory,
    snapshot: SnapshotId,
    path: bytes = b"",
    *,
    recursive: bool = True,
    damaged: Damaged | None = None,
) -> Iterator[Entry]:
    """The entries at a path: a folder's, all below it or, not `recursive`, only its own; else the file itself.

    `damaged`: see `listing`. Raises NotFoundError, CorruptionError.
    """
    found, below = find(history, snapshot, path, damaged)
    if found.kind != "folder":
        yield found
        return
    path = found.path
    open_folders = [(path + b"/" if path else b"", iter(listing(history, found.blob, below, damaged, path)[1]))]
    while open_folders:
        prefix, items = open_folders[-1]
        for entry, _, below in items:
            path = prefix + entry.path
            if entry.kind != "folder":
                yield Entry(path, entry.kind, entry.mode, entry.size, entry.mtime_ns, entry.blob, entry.pointer)
                continue
            own, inner = listing(history, entry.blob if recursive else None, below, damaged, path)
            yield Entry(path, "folder", own.mode if own else 0o755, 0, own.mtime_ns if own else 0, entry.blob)
            if recursive:
                open_folders.append((path + b"/", iter(inner)))
                break
        else:
            open_folders.pop()


def find(
    history: GitHistory, snapshot: SnapshotId, path: bytes, damaged: Damaged | None = None
) -> tuple[Entry, ObjectId | None]:
    """The entry at a path and, for a folder, its meta tree. `damaged`: see `listing`.

    Raises NotFoundError, CorruptionError.
    """
    tree: ObjectId | None
    tree, below = history.trees(snapshot, damaged)
    entry = Entry(b"", "folder", 0o755, 0, 0, tree)
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    for depth, part in enumerate(parts):
        if entry.kind == "folder":
            above = b"/".join(parts[:depth])
            match = [item for item in listing(history, tree, below, damaged, above)[1] if item[0].path == part]
            if match:
                entry, _, below = match[0]
                tree = entry.blob
                continue
        missing = to_line(b"/".join(parts[: depth + 1]))
        raise NotFoundError(f"{missing}: not in snapshot {snapshot[:12]}; git-vault ls {snapshot[:12]} lists it")
    whole = b"/".join(parts)
    return Entry(whole, entry.kind, entry.mode, entry.size, entry.mtime_ns, entry.blob, entry.pointer), below


def find_file(history: GitHistory, snapshot: SnapshotId, path: bytes, damaged: Damaged | None = None) -> Entry:
    """The file or symlink at a path. `damaged`: see `listing`. Raises NotFoundError, CorruptionError."""
    entry, _ = find(history, snapshot, path, damaged)
    if entry.kind == "folder":
        where = to_line(path) or "."
        raise NotFoundError(f"{where}: a folder; git-vault ls {snapshot[:12]} {where} lists it")
    return entry


def add_files(pack: PackWriter, files: Mapping[bytes, bytes], mtime_ns: int) -> tuple[ObjectId, ObjectId]:
    """Add files by path, and the folders above them; the tree and the meta tree that hold them all.

    Raises GitVaultError for what is no path below a project.
    """
    root: dict[bytes, object] = {}
    for path, content in files.items():
        parts = path.split(b"/")
        if any(part in (b"", b".", b"..") for part in parts) or b"\0" in path:
            raise GitVaultError(f"{to_line(path)}: not a path below a project; give it without /, . and ..")
        at = root
        for part in parts[:-1]:
            below = at.setdefault(part, {})
            if not isinstance(below, dict):
                raise GitVaultError(f"{to_line(path)}: a file and a folder of one name")
            at = below
        if isinstance(at.get(parts[-1]), dict):
            raise GitVaultError(f"{to_line(path)}: a file and a folder of one name")
        at[parts[-1]] = content
    tree, meta_tree = _add_folder(pack, root, mtime_ns, top=True)
    return tree if tree != NO_OBJECT else pack.add(b"tree", b""), meta_tree


def add_meta_tree(
    pack: PackWriter, blob: ObjectId, below: Sequence[tuple[bytes, ObjectId, bool]], *, top: bool
) -> ObjectId:
    """Add the meta tree of the folder `blob` describes; `blob` itself, unless it is the `top`, when nothing is below.

    `below`: of its subfolders the names in git, the meta trees, and whether these have subfolders themselves.
    """
    if not below and not top:
        return blob
    entries = [(name, MODE_TREE if inner else MODE_FILE, oid) for name, oid, inner in below]
    return pack.add(b"tree", encode_tree([(meta.META_NAME, MODE_FILE, blob), *entries]))


def _add_folder(
    pack: PackWriter, folder: dict[bytes, object], mtime_ns: int, *, top: bool = False
) -> tuple[ObjectId, ObjectId]:
    entries: list[tuple[bytes, int, ObjectId]] = []
    mirrored: list[tuple[bytes, ObjectId, bool]] = []
    lines: list[str] = []
    for name in sorted(folder):
        value = folder[name]
        if isinstance(value, dict):
            tree, below = _add_folder(pack, value, mtime_ns)
            entries.append((tree_name(name), MODE_TREE, tree))
            mirrored.append((tree_name(name), below, any(isinstance(inner, dict) for inner in value.values())))
        elif isinstance(value, bytes):
            entries.append((tree_name(name), MODE_FILE, pack.add(b"blob", value)))
            lines.append(meta.format_line(name, "file", 0o644, mtime_ns, (0, 0), len(value), (0, 0)))
    blob = pack.add(b"blob", meta.encode(0o755, mtime_ns, (0, 0), lines))
    tree = pack.add(b"tree", encode_tree(entries)) if entries else NO_OBJECT
    return tree, add_meta_tree(pack, blob, mirrored, top=top)
