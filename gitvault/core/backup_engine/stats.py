"""How much the vault holds, and what it costs, by kind of file."""

from __future__ import annotations

from collections import defaultdict

from gitvault.core.models import ChunkId, KindSize, ObjectId, Pointer, StorageStats
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.kinds import kind_of
from gitvault.core.versioning.commits import snapshot
from gitvault.core.versioning.contents import listing
from gitvault.core.versioning.history import NO_OBJECT, GitHistory

_Trees = tuple[ObjectId | None, ObjectId | None]


def storage_stats(history: GitHistory, store: ChunkStore, projects: int, stored_bytes: int) -> StorageStats:
    """Walk every snapshot, each distinct folder once. `stored_bytes`: of the whole vault on disk."""
    snapshots = logical = 0
    seen: set[_Trees] = set()
    contents: dict[ObjectId, tuple[str, int, Pointer | None]] = {}
    for project in history.projects():
        for oid, commit in history.walk(history.tip(project)):
            snapshots += 1
            logical += snapshot(oid, commit).bytes
            _collect(history, history.trees_of(commit), seen, contents)
    sizes: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    counted: set[ChunkId] = set()
    for oid, (kind, size, pointer) in contents.items():
        total = sizes[kind]
        total[0] += 1
        total[1] += size
        total[2] += store.stored_size(pointer, counted) if pointer else history.objects.stored_size(oid)
    kinds = tuple(KindSize(kind, *numbers) for kind, numbers in sorted(sizes.items(), key=lambda item: -item[1][2]))
    return StorageStats(projects, snapshots, logical, sum(kind.bytes for kind in kinds), stored_bytes, kinds)


def _collect(
    history: GitHistory,
    trees: _Trees,
    seen: set[_Trees],
    contents: dict[ObjectId, tuple[str, int, Pointer | None]],
) -> None:
    pending = [trees]
    while pending:
        trees = pending.pop()
        if trees in seen:
            continue
        seen.add(trees)
        for entry, _, below in listing(history, *trees)[1]:
            if entry.kind == "folder":
                pending.append((entry.blob if entry.blob != NO_OBJECT else None, below))
            elif entry.blob not in contents:
                kind = "symlink" if entry.kind == "symlink" else kind_of(entry.path)
                contents[entry.blob] = kind, entry.size, entry.pointer
