"""Records that belong to no snapshot's files: what personas keep in the vault, under a ref of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gitvault.core.storage import pointers
from gitvault.core.utils.kinds import is_binary
from gitvault.core.versioning import areas
from gitvault.core.versioning.objects import object_id
from gitvault.vault.opened import WHOLE_LIMIT, Opened

if TYPE_CHECKING:
    from gitvault.core.models import ObjectId
    from gitvault.core.versioning.packfile import PackWriter


class Area:
    """The records of one area of a vault, by path; a record never changes. See `core/versioning/areas.py`."""

    def __init__(self, vault: Opened, name: str) -> None:
        """Raises GitVaultError for a name that is no area's."""
        self.name = name
        self._vault = vault
        self._ref = areas.ref_of(name)

    def add(self, files: Mapping[bytes, bytes | Path], why: str) -> None:
        """Add records, all in one commit, durable when it returns. A Path: the content of that file.

        Large binaries go to the chunk store. Raises ExistsError for a record that has another content, OSError.
        """
        vault = self._vault
        with vault._lock(f"records of {self.name}"):
            contents = {path: in_git(vault, content) for path, content in files.items()}
            vault.store.flush()
            self._commit(lambda pack: areas.add(vault.history, pack, self.name, contents), why, keep=True)

    def erase(self, paths: Collection[bytes], why: str) -> None:
        """Remove records, or folders of them, and the area's history; what they held goes with the next sweep."""
        vault = self._vault
        with vault._lock(f"records of {self.name}"):
            if areas.tree_of(vault.history, self.name):
                self._commit(lambda pack: areas.without(vault.history, pack, self.name, paths), why, keep=False)

    def paths(self, below: bytes = b"") -> Iterator[bytes]:
        """The paths of the records, of all or those in a folder, in order."""
        return (path for path, _ in areas.records(self._vault.history, self.name, below))

    def named(self, name: bytes, below: bytes = b"", *, depth: int = 1) -> Iterator[tuple[bytes, bytes]]:
        """The records of one name so many folders down, in order: path and content. Raises CorruptionError.

        What else is in those folders is not looked at, and the trees above are read once for all.
        """
        found = areas.named(self._vault.history, self.name, name, below, depth=depth)
        return ((path, self._content(blob)) for path, blob in found)

    def contents(self, below: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All records in a folder, in order: path and content. The trees are read once. Raises CorruptionError."""
        return ((path, self._content(blob)) for path, blob in areas.records(self._vault.history, self.name, below))

    def read(self, path: bytes) -> bytes:
        """A record's content, in memory. Raises NotFoundError, CorruptionError."""
        return self._content(areas.find(self._vault.history, self.name, path))

    def write_to(self, path: bytes, target: BinaryIO) -> None:
        """Write a record's content. Raises NotFoundError, CorruptionError."""
        self._write(areas.find(self._vault.history, self.name, path), target)

    def _content(self, blob: ObjectId) -> bytes:
        target = BytesIO()
        self._write(blob, target)
        return target.getvalue()

    def _write(self, blob: ObjectId, target: BinaryIO) -> None:
        content = self._vault.history.blob(blob)
        if pointer := pointers.decode(content):
            self._vault.store.retrieve_file(pointer, target)
        else:
            target.write(content)

    def _commit(self, made: Callable[[PackWriter], ObjectId], why: str, *, keep: bool) -> None:
        history = self._vault.history
        old = history.refs.read(self._ref)
        parent = old if keep else None
        history.write_ref(self._ref, old, lambda pack: history.add_commit(pack, made(pack), parent, why))


def in_git(vault: Opened, content: bytes | Path) -> bytes:
    """What stands in git for a content, or a file's: itself, or a pointer to where it was stored just now.

    By the rule for files of projects. The caller holds the vault's lock, and flushes the store. Raises OSError,
    StorageFullError.
    """
    ending = ""
    if isinstance(content, Path):
        ending = content.suffix
        if content.stat().st_size > WHOLE_LIMIT:
            return pointers.encode(vault.store.store_file(content, file_extension=ending or None))
        content = content.read_bytes()
    is_large = len(content) > WHOLE_LIMIT or (
        len(content) > vault.config.inline_limit
        and is_binary(content)
        and not vault.history.objects.contains(object_id(b"blob", content))
    )
    if is_large or pointers.looks_like_pointer(content[:200]):
        return pointers.encode(vault.store.store_file(BytesIO(content), file_extension=ending or None))
    return content
