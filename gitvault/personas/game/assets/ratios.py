"""What all versions of a project's files cost, by type: honest figures, also for what does not compress."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from gitvault.core.models import ChunkId, ObjectId, Pointer
from gitvault.core.utils.names import to_text
from gitvault.core.versioning.contents import listing
from gitvault.core.versioning.history import NO_OBJECT
from gitvault.vault import Vault


@dataclass(frozen=True, slots=True)
class TypeSize:
    """All files with one extension."""

    type: str
    """The extension, lower case and without its dot; "" for files without one."""
    files: int
    """Paths."""
    versions: int
    """Contents of those, each once for each path that had it."""
    logical_bytes: int
    """Of all versions."""
    stored_bytes: int
    """What they take in the vault, without folders and attributes. What several share counts for the first of them."""

    @property
    def ratio(self) -> float:
        """Logical to stored; 0 where nothing is stored."""
        return self.logical_bytes / self.stored_bytes if self.stored_bytes else 0.0


def report(vault: Vault, projects: Collection[str] = ()) -> list[TypeSize]:
    """By type, the largest first: of all projects, or of these. Each distinct folder is read once.

    Raises NotFoundError, CorruptionError.
    """
    sizes: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    held: set[ObjectId] = set()
    counted: set[ChunkId] = set()
    for project in projects or vault.history.projects():
        vault.project(project)
        paths: set[bytes] = set()
        for path, blob, size, pointer in _versions(vault, project):
            row = sizes[_type(path)]
            row[0] += path not in paths
            paths.add(path)
            row[1] += 1
            row[2] += size
            if blob not in held:
                held.add(blob)
                if pointer:
                    row[3] += vault.store.stored_size(pointer, counted)
                else:
                    row[3] += vault.history.objects.stored_size(blob)
    found = (TypeSize(name, *row) for name, row in sizes.items())
    return sorted(found, key=lambda row: (-row.logical_bytes, row.type))


def _type(path: bytes) -> str:
    stem, dot, extension = path.rpartition(b"/")[2].rpartition(b".")
    return to_text(extension).lower() if dot and stem else ""


def _versions(vault: Vault, project: str) -> Iterator[tuple[bytes, ObjectId, int, Pointer | None]]:
    """Each content that each path of a project ever had."""
    history = vault.history
    folders: set[tuple[bytes, ObjectId | None, ObjectId | None]] = set()
    files: set[tuple[bytes, ObjectId]] = set()
    for _, commit in history.walk(history.tip(project)):
        pending: list[tuple[bytes, ObjectId | None, ObjectId | None]] = [(b"", *history.trees_of(commit))]
        while pending:
            folder = pending.pop()
            if folder in folders:
                continue
            folders.add(folder)
            path, tree, meta = folder
            for entry, _, below in listing(history, tree, meta, path=path)[1]:
                where = path + b"/" + entry.path if path else entry.path
                if entry.kind == "folder":
                    pending.append((where, entry.blob if entry.blob != NO_OBJECT else None, below))
                elif entry.kind == "file" and (where, entry.blob) not in files:
                    files.add((where, entry.blob))
                    yield where, entry.blob, entry.size, entry.pointer
