"""For the game developer: builds with names that stay, and what happened when people played them.

with GameVault("lantern", "~/games/lantern") as lantern:
    lantern.create_backup(name="alpha-1", version_type=GameVersionType.ALPHA, is_milestone=True, tags=["demo"])
    lantern.milestones()[0].tag.snapshot
    with lantern.playtest(build="alpha-1", platform="linux", player="anna") as session:
        session.event("jump", pos=[3, 4])
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.models import SnapshotReport
from gitvault.personas.game import milestones
from gitvault.personas.game.milestones import GameVersionType, Milestone
from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from gitvault.personas.game.assets.bundles import Build, BundleChange
    from gitvault.personas.game.assets.ratios import TypeSize
    from gitvault.personas.game.assets.usage import Usage
    from gitvault.personas.game.playtests import Recorder, Session

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

    @contextmanager
    def playtest(
        self,
        build: str = "",
        *,
        platform: str = "",
        player: str = "",
        settings: Mapping[str, Any] | None = None,
        attachments: Sequence[Path] = (),
    ) -> Iterator[Recorder]:
        """Record a session beside the game, and keep it in the vault when it ends, whatever ends it.

        What a crash of the whole process leaves is kept by `recover_playtests`. `player`: kept as a hash only. Raises
        OSError when something could not be written.
        """
        from gitvault.core.versioning.edits import stamp
        from gitvault.personas.game.playtests import Recorder
        from gitvault.personas.game.playtests.sessions import hashed

        self._spool.mkdir(parents=True, exist_ok=True)
        about = {
            "build": build,
            "platform": platform,
            "player_hash": hashed(self.vault, player) if player else "",
            "settings": dict(settings or {}),
            "start": stamp(self.vault.now()),
        }
        recorder = Recorder(self._spool / f"{secrets.token_hex(8)}.jsonl", about)
        try:
            yield recorder
        finally:
            recorder.close()
            self._keep(recorder.file, attachments)

    def recover_playtests(self) -> list[Session]:
        """Keep the sessions that a crash left. Not while one is being recorded."""
        return [kept for file in sorted(self._spool.glob("*.jsonl")) if (kept := self._keep(file))]

    def playtests(self) -> list[Session]:
        """The project's sessions, newest first."""
        from gitvault.personas.game.playtests import sessions

        return list(sessions(self.vault, self.project.name))

    def asset_report(self) -> list[TypeSize]:
        """What all versions of the project's files cost, by type, the largest first."""
        from gitvault.personas.game.assets.ratios import report

        return report(self.vault, [self.project.name])

    def bundles(self, snapshot: str) -> Build:
        """The bundles of a snapshot and the assets in them. Raises NotFoundError, CorruptionError, ToolMissing."""
        from gitvault.personas.game.assets.bundles import Reader

        with Reader(self.vault) as reader:
            return reader.build(self.vault.resolve(snapshot))

    def compare_bundles(self, before: str, after: str) -> list[BundleChange]:
        """What differs between the bundles of two snapshots. Raises as `bundles`."""
        from gitvault.personas.game.assets.bundles import compare

        return compare(self.bundles(before), self.bundles(after))

    def unused_assets(self, snapshot: str) -> list[Usage]:
        """Of each engine's project in a snapshot the assets that nothing leads to."""
        from gitvault.personas.game.assets.usage import usage

        return usage(self.vault, snapshot)

    @property
    def _spool(self) -> Path:
        """Where sessions are written; no cache, and no file of the project."""
        from gitvault.core.utils.names import ref_component

        return Path(f"{self.vault.path}.playtests") / ref_component(self.project.name)

    def _keep(self, file: Path, attachments: Sequence[Path] = ()) -> Session | None:
        from gitvault.errors import GitVaultError
        from gitvault.personas.game.playtests import keep

        try:
            with open(file, "rb") as lines:
                kept = keep(self.vault, self.project.name, lines, attachments=attachments)
        except GitVaultError:
            # The first line and the last.
            if file.read_bytes().count(b"\n") > 2:
                raise
            # Nothing happened.
            file.unlink()
            return None
        file.unlink()
        return kept.session
