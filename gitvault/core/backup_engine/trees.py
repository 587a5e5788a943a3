"""The trees of a snapshot, from the leaves up; where nothing changed they are the last one's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from gitvault.core.beside import Beside
from gitvault.core.models import ObjectId
from gitvault.core.stat_cache import Row, StatCache
from gitvault.core.touched import Touched
from gitvault.core.utils.names import is_special, tree_name
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import NO_OBJECT, GitHistory
from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE, encode_tree, object_id
from gitvault.core.versioning.packfile import PackWriter


class Stored(NamedTuple):
    """Content that the vault holds already."""

    blob: ObjectId


Attachment = tuple[bytes, bytes | Stored]
"""A path, with one `/` at the most and names as git takes them, and what is there."""


class Walked(NamedTuple):
    """What a walk looked at."""

    changed: frozenset[bytes] = frozenset()
    """Folders that are new, or not as they were seen, or under other rules than then."""
    untouched: frozenset[bytes] = frozenset()
    """Folders at which, and below which, nobody looked."""


@runtime_checkable
class Company(Protocol):
    """What belongs to a snapshot beside the project's own files: the state of its checkouts."""

    def widened(self, touched: Touched) -> Touched:
        """What a watcher said, and the folders that have to be looked at because of it. Asked before the walk."""

    def attachments(self, walked: Walked) -> Iterable[Attachment]:
        """All of it. Asked after the walk."""

    def beside(self) -> Beside | None:
        """What outside of the project all this depends on; None where that cannot be told. Asked last."""


class Alone:
    """No company."""

    def widened(self, touched: Touched) -> Touched:
        """See Company."""
        return touched

    def attachments(self, walked: Walked) -> Iterable[Attachment]:
        """See Company."""
        return ()

    def beside(self) -> Beside | None:
        """See Company."""
        return Beside()


def company_of(rules: object) -> Company:
    """The company that a project's rules know of."""
    return rules if isinstance(rules, Company) else Alone()


@dataclass(slots=True)
class Done:
    """What remains of a folder until the trees are built."""

    path: bytes
    folders: list[bytes]
    row: Row | None
    """Set when its own entries are as in the cache."""
    entries: list[tuple[bytes, int, ObjectId]] = field(default_factory=list)
    meta_blob: ObjectId = NO_OBJECT
    signature: bytes = b""
    scope: bytes = b""
    files: int = 0
    size: int = 0
    packed: bytes = b""


@dataclass(slots=True)
class Trees:
    """The trees of a snapshot, and what they mean for the cache."""

    tree: ObjectId = NO_OBJECT
    meta: ObjectId = NO_OBJECT
    files: int = 0
    size: int = 0
    rows: list[tuple[bytes, Row, bytes]] = field(default_factory=list)
    moved: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)


def build_trees(
    history: GitHistory,
    pack: PackWriter,
    cache: StatCache,
    folders: Iterable[Done],
    kept: Mapping[bytes, Row],
    attached: ObjectId | None,
) -> Trees:
    """Add the trees of everything that changed to the pack, deepest folders first.

    `kept`: folders that stay as the last snapshot has them. `attached`: a tree beside the root's entries, see
    `contents.ATTACHED`.
    """
    out = Trees()
    changed: set[bytes] = set()
    built = {path: (row.tree, row.meta, row.meta_blob) for path, row in kept.items()}
    # A folder's path sorts before those below it.
    for done in sorted(folders, key=lambda d: d.path, reverse=True):
        prefix = done.path + b"/" if done.path else b""
        below = [(name, built.pop(prefix + name)) for name in done.folders if prefix + name in built]
        row = done.row
        if row is not None:
            out.files += row.files
            out.size += row.size
            same = not any(prefix + name in changed for name in done.folders)
            if same and (done.path or attached == contents.attached(history, ObjectId(row.tree))):
                built[done.path] = row.tree, row.meta, row.meta_blob
                continue
            entries = [
                (known.tree_name, known.tree_mode, ObjectId(known.blob)) for known in cache.entries(done.path).values()
            ]
            meta_blob = ObjectId(row.meta_blob)
        else:
            out.files += done.files
            out.size += done.size
            entries, meta_blob = done.entries, done.meta_blob
        mirrored: list[tuple[bytes, ObjectId, bool]] = []
        for name, (tree, meta_tree, described) in below:
            stored = tree_name(name, force=is_special(name))
            if tree:
                entries.append((stored, MODE_TREE, ObjectId(tree)))
            mirrored.append((stored, ObjectId(meta_tree), meta_tree != described))
        if attached and not done.path:
            entries.append((contents.ATTACHED, MODE_TREE, attached))
        tree = pack.add(b"tree", encode_tree(entries)) if entries or not done.path else b""
        meta_tree = contents.add_meta_tree(pack, meta_blob, mirrored, top=not done.path)
        built[done.path] = tree, meta_tree, meta_blob
        if row is None or (tree, meta_tree) != (row.tree, row.meta):
            changed.add(done.path)
        if row is None:
            made = Row(done.signature, done.scope, tree, meta_tree, bytes(meta_blob), done.files, done.size)
            out.rows.append((done.path, made, done.packed))
        else:
            out.moved.append((done.path, tree, meta_tree))
    out.tree, out.meta = (ObjectId(oid) for oid in built[b""][:2])
    return out


def attach(history: GitHistory, pack: PackWriter, files: Iterable[Attachment]) -> ObjectId | None:
    """Add what goes beside a project's own files to the pack, as a tree; None for nothing."""
    folders: dict[bytes, list[tuple[bytes, int, ObjectId]]] = {b"": []}
    for path, content in files:
        folder, _, name = path.rpartition(b"/")
        if isinstance(content, Stored):
            blob = content.blob
        else:
            blob = object_id(b"blob", content)
            if not history.objects.contains(blob):
                pack.add(b"blob", content)
        folders.setdefault(folder, []).append((name, MODE_FILE, blob))
    own = folders.pop(b"")
    own += [(name, MODE_TREE, pack.add(b"tree", encode_tree(below))) for name, below in folders.items()]
    return pack.add(b"tree", encode_tree(own)) if own else None
