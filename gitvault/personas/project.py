"""What the libraries of all personas begin with: one project in the vault."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gitvault.personas.base import chosen_vault

if TYPE_CHECKING:
    from gitvault.core.models import Project, RestoreReport, Snapshot, SnapshotReport
    from gitvault.vault import Vault


class ProjectVault:
    """A project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def __init__(self, name: str, path: Path | str, *, vault: Path | str | None = None) -> None:
        self.name = name
        self.path = Path(os.path.expanduser(path))
        self._where = Path(vault) if vault else chosen_vault()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close files; it can still be used and opens them again."""
        if vault := self.__dict__.pop("vault", None):
            vault.close()

    @cached_property
    def vault(self) -> Vault:
        """The vault. Raises what opening one raises."""
        # What a persona does without a vault, as with two files, is not to wait for one.
        from gitvault.vault import Vault

        return Vault.create(self._where)

    @cached_property
    def project(self) -> Project:
        """The project, registered when it is new. Raises NotFoundError, ExistsError."""
        return self.vault.add_project(self.path, self.name)

    def backup(
        self, message: str = "", *, tags: Sequence[str] = (), metadata: Mapping[str, str] | None = None
    ) -> SnapshotReport:
        """Save the project as it is; see `Vault.create_snapshot`."""
        return self.vault.create_snapshot(
            self.project.path, project=self.project.name, message=message, tags=tags, metadata=metadata
        )

    def snapshots(self) -> list[Snapshot]:
        """The project's snapshots, newest first."""
        from gitvault.core.models import Filter

        return self.vault.list_snapshots(Filter(project=self.project.name))

    def restore(self, snapshot: str, target: Path | str, paths: Iterable[str | bytes] = ()) -> RestoreReport:
        """Get a snapshot back, of a checkout one that works; see `Vault.restore_snapshot`."""
        return self.vault.restore_snapshot(snapshot, target, paths=paths)
