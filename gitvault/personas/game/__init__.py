"""For the game developer: builds with names that stay.

with GameVault("lantern", "~/games/lantern") as lantern:
    lantern.create_backup(name="alpha-1", version_type=GameVersionType.ALPHA, is_milestone=True, tags=["demo"])
    lantern.milestones()[0].tag.snapshot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.models import SnapshotReport
from gitvault.personas.game import milestones
from gitvault.personas.game.milestones import GameVersionType, Milestone
from gitvault.personas.project import ProjectVault

__all__ = ["Backup", "GameVault", "GameVersionType"]


@dataclass(frozen=True, slots=True)
class Backup:
    """What `GameVault.create_backup` did."""

    report: SnapshotReport
    milestone: Milestone | None = None


class GameVault(ProjectVault):
    """A game developer's project in the vault that `vault`, else GIT_VAULT_DIR, else the settings name."""

    def create_backup(
        self,
        name: str = "",
        version_type: GameVersionType = GameVersionType.CUSTOM,
        *,
        is_milestone: bool = False,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        artefacts: Sequence[Path] = (),
    ) -> Backup:
        """Save the project as it is; `is_milestone`: for good, under this name.

        Raises ExistsError for a name that is taken.
        """
        if is_milestone:
            # Before anything is saved under it.
            milestones.check_new(self.vault, self.project.name, name)
        said = {**(metadata or {}), **({"version": name} if name else {}), "type": version_type.value}
        report = self.backup(name, tags=tags, metadata=said)
        if not is_milestone:
            return Backup(report)
        made = milestones.create(
            self.vault, name, report.snapshot, version_type, labels=tags, metadata=metadata, artefacts=artefacts
        )
        return Backup(report, made)

    def milestones(self) -> list[Milestone]:
        """The project's milestones, newest first."""
        return list(milestones.milestones(self.vault, self.project.name))
