"""Which paths that are to be purged the commits of a repository hold, each tree read once."""

from __future__ import annotations

from collections.abc import Iterator

from gitvault.core.backup_engine.forget import Matches
from gitvault.core.models import ObjectId
from gitvault.core.versioning.objects import MODE_SUBMODULE, MODE_TREE
from gitvault.core.versioning.odb import ObjectStore
from gitvault.errors import CorruptionError
from gitvault.vcs.protect.repository import Repository


def listed(place: Repository) -> Iterator[tuple[ObjectId, bytes]]:
    """Every object of a repository and its kind. Raises ToolFailed."""
    said = place.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    for line in said.splitlines():
        oid, kind = line.split(b" ")
        yield ObjectId(bytes.fromhex(oid.decode())), kind


class Inside:
    """What trees have at paths that are meant, and at others; trees that are not there are somebody else's."""

    def __init__(self, objects: ObjectStore, matches: Matches) -> None:
        self._objects = objects
        self._matches = matches
        self._seen: set[tuple[bytes, ObjectId]] = set()
        self.paths: set[bytes] = set()
        self.meant: set[ObjectId] = set()
        self.kept: set[ObjectId] = set()

    def walk_all(self, place: Repository, prefix: bytes) -> None:
        """Every commit that there is, whether anything leads to it or not. Raises ToolFailed, CorruptionError."""
        for oid, kind in listed(place):
            if kind == b"missing":
                raise CorruptionError(f"its object {oid.hex()} is damaged")
            if kind == b"commit":
                tree = self._objects.read(oid)[1][5:45]
                self.walk(ObjectId(bytes.fromhex(tree.decode())), prefix)

    def walk(self, tree: ObjectId, prefix: bytes) -> None:
        """`prefix`: its path in the project, with a slash at the end."""
        if (prefix, tree) in self._seen:
            return
        self._seen.add((prefix, tree))
        for name, is_folder, oid in self._entries(tree):
            path = prefix + name
            if self._matches(path, is_folder):
                if held := set(self._held(is_folder, oid)):
                    self.paths.add(path)
                    self.meant |= held
            elif is_folder:
                self.walk(oid, path + b"/")
            else:
                self.kept.add(oid)

    def _entries(self, tree: ObjectId) -> Iterator[tuple[bytes, bool, ObjectId]]:
        if self._objects.contains(tree):
            data = self._objects.read(tree)[1]
            at = 0
            # More lenient than `decode_tree`: users' trees may have modes that git itself no longer writes.
            while at < len(data):
                nul = data.index(b"\0", at)
                mode, _, name = data[at:nul].partition(b" ")
                at = nul + 21
                if int(mode, 8) != MODE_SUBMODULE:
                    yield name, int(mode, 8) == MODE_TREE, ObjectId(data[nul + 1 : at])

    def _held(self, is_folder: bool, oid: ObjectId) -> Iterator[ObjectId]:
        if not is_folder:
            yield from [oid] if self._objects.contains(oid) else []
            return
        for _, inner_folder, inner in self._entries(oid):
            yield from self._held(inner_folder, inner)


def is_meant(path: bytes, matches: Matches, *, folder: bool = False) -> bool:
    """Whether a path or one above it is meant."""
    parts = path.split(b"/") if path else []
    above = any(matches(b"/".join(parts[:depth]), True) for depth in range(1, len(parts)))
    return above or (bool(parts) and matches(path, folder))
