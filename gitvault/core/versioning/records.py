"""The refs that hold records: what file each has, and which of them something else in the vault says must be there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from gitvault.core.versioning import catalog, losses, operations
from gitvault.core.versioning.history import OPERATIONS, GitHistory
from gitvault.core.versioning.objects import parse_message
from gitvault.errors import GitVaultError

FILES = {
    catalog.REF: catalog.FILE,
    losses.REF: losses.FILE,
    OPERATIONS: operations.RECORD_FILE,
    operations.TOMBSTONES: operations.TOMBSTONES_FILE,
}


def missing(history: GitHistory) -> Iterator[tuple[str, str]]:
    """The refs of records that are gone, each with what says that it was there. Raises CorruptionError."""
    held = history.refs.list("refs/vault/")
    if catalog.REF not in held and (project := _registered(history)) is not None:
        yield catalog.REF, f"{project} has snapshots, and was registered before the first"
    if OPERATIONS not in held and any(ref.startswith(operations.UNDO) for ref in held):
        yield OPERATIONS, f"{operations.UNDO} holds what operations moved away from"
    if operations.TOMBSTONES not in held:
        for operation in operations.log(history):
            if any(move.ref == operations.TOMBSTONES and move.new for move in operation.moves):
                yield operations.TOMBSTONES, f"operation {operation.number} left tombstones"
                return


def _registered(history: GitHistory) -> str | None:
    """A project whose newest snapshot was taken by a vault, and not by another tool."""
    for project in history.projects():
        with suppress(GitVaultError):
            tip = history.tip(project)
            if tip and "Vault-Project" in dict(parse_message(history.commit(tip).message)[1]):
                return project
    return None
