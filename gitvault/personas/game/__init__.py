"""For the game developer: builds with names that stay, and what happened when people played them.

with GameVault("lantern", "~/games/lantern") as lantern:
    lantern.create_backup(name="alpha-1", version_type=GameVersionType.ALPHA, is_milestone=True, tags=["demo"])
    lantern.milestones()[0].tag.snapshot
    with lantern.playtest(build="alpha-1", platform="linux", player="anna") as session:
        session.event("jump", pos=[3, 4])
    lantern.import_feedback("reviews.json", "steam")
    lantern.feedback(build="alpha-1", kind="review")
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.models import Problem, SnapshotReport
from gitvault.errors import GitVaultError
from gitvault.personas.game import milestones
from gitvault.personas.game.milestones import GameVersionType, Milestone
from gitvault.personas.project import ProjectVault

if TYPE_CHECKING:
    from datetime import datetime

    from gitvault.personas.game.assets.bundles import Build, BundleChange
    from gitvault.personas.game.assets.ratios import TypeSize
    from gitvault.personas.game.assets.usage import Usage
    from gitvault.personas.game.builds import BuildId, Deploy
    from gitvault.personas.game.feedback import Feedback, Imported, Report
    from gitvault.personas.game.insight import Spike, Suspect
    from gitvault.personas.game.platforms import Capture, PlatformDifference
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

    @contextmanager
    def listen(self, port: int | None = None, *, build: str = "") -> Iterator[tuple[int, Iterator[Session | Problem]]]:
        """Take sessions from games on this machine: the port, and each session when it was kept.

        `port`: None for the one that clients look for, 0 for any. Sessions that go on at the end are kept as cut off. A
        problem names the file of one that could not be kept, and stays there. Raises OSError when the port is taken.
        """
        from gitvault.core.versioning.edits import stamp
        from gitvault.personas.game.playtests.receiver import PORT, Receiver
        from gitvault.personas.game.playtests.sessions import hashed

        vault, _ = self.vault, self.project
        # Draws the key, which threads only read from then on.
        hashed(vault, "")
        receiver = Receiver(
            self._spool / "socket",
            PORT if port is None else port,
            lambda: {"build": build, "start": stamp(vault.now())},
            lambda player: hashed(vault, player),
        )

        def kept(file: Path) -> Session | Problem | None:
            try:
                return self._keep(file)
            except GitVaultError as error:
                return Problem(os.fsencode(file), str(error))

        try:
            with receiver.running():
                yield receiver.port, filter(None, (kept(file) for file in iter(receiver.ended.get, None)))
        finally:
            while not receiver.ended.empty():
                kept(receiver.ended.get())

    def recover_playtests(self) -> list[Session]:
        """Keep the sessions that a crash left. Not while one is being recorded, or listened to."""
        from gitvault.core.utils.names import ref_component
        from gitvault.core.versioning import operations

        others = {one.name for one in self.vault.projects()} - {self.project.name}
        # A rename leaves files where a session may be writing them.
        names = [one for one in operations.names(self.vault.history, self.project.name) if one not in others]
        spools = [self._spool.with_name(ref_component(name)) for name in dict.fromkeys(names)]
        files = [file for spool in spools for where in (spool, spool / "socket") for file in where.glob("*.jsonl")]
        return [kept for file in sorted(files) if (kept := self._keep(file))]

    def playtests(self) -> list[Session]:
        """The project's sessions, newest first."""
        from gitvault.personas.game.playtests import sessions

        return list(sessions(self.vault, self.project.name))

    def deploy(
        self, build: str, *, target: str, branch: str = "default", at: datetime | None = None, snapshot: str = ""
    ) -> Deploy:
        """Note that players of a shop's branch have a build from then on, else from now; see `builds.deploy`."""
        from gitvault.personas.game import builds

        said = {"target": target, "branch": branch, "at": at or self.vault.now(), "snapshot": snapshot}
        return builds.deploy(self.vault, self.project.name, build=build, **said)  # type: ignore[arg-type]

    def build_id(self) -> BuildId:
        """What the game embeds, so that what players say leads back to its snapshot. Raises NotFoundError."""
        from gitvault.personas.game import builds

        return builds.build_id(self.vault, self.project.name)

    def import_feedback(
        self, file: Path | str, source: str, *, map: Path | None = None, encoding: str = "", build: str = ""
    ) -> Imported:
        """Keep the records of a service's export; `map`: for `csv` and `jsonl`, see docs/feedback.md.

        `build`: of records that do not say. Raises ConfigError, UnsupportedMedia, OSError.
        """
        from gitvault.personas.game import feedback

        with open(file, "rb") as content:
            chosen = feedback.source(source, map)
            return feedback.import_file(self.vault, self.project.name, content, chosen, encoding=encoding, build=build)

    def add_feedback(self, text: str, *, kind: str = "comment", build: str = "", **said: Any) -> Feedback:
        """Keep what somebody said; `said`: more fields of a record, a player by name. Raises GitVaultError."""
        from gitvault.personas.game import feedback

        return feedback.add(self.vault, self.project.name, {"text": text, "kind": kind, "build": build, **said})

    def correlate_feedback(self, build: str, data: Sequence[Mapping[str, Any]]) -> Imported:
        """Keep records of a build, in our own fields; with an `id` the same record again changes nothing."""
        from gitvault.personas.game import feedback

        return feedback.keep_said(self.vault, self.project.name, data, build=build)

    def feedback(self, *, raw: bool = False, **wanted: Any) -> list[Feedback]:
        """The records that fit, newest first; `wanted`: fields of `feedback.Wanted`, such as `build="alpha-1"`."""
        from gitvault.personas.game import feedback

        with feedback.Table(self.vault, self.project.name) as table:
            return list(feedback.find(table, feedback.Wanted(**wanted), raw=raw))

    def feedback_report(self) -> Report:
        """Figures of all feedback, by build."""
        from gitvault.personas.game import feedback

        with feedback.Table(self.vault, self.project.name) as table:
            return feedback.report(table)

    def purge_feedback(self, player: str) -> int:
        """Take out what a player said, on request; how many records. What they held goes with the next sweep."""
        from gitvault.personas.game import feedback
        from gitvault.personas.game.players import hasher

        with feedback.Table(self.vault, self.project.name) as table:
            return feedback.purge(table, feedback.Wanted(player=hasher(self.vault)(player)))

    def capture_platforms(self, build: str = "") -> Capture:
        """Keep the settings that the project has on each platform now. Raises what `platforms.read` raises."""
        from gitvault.personas.game.platforms import capture, on_disk, read

        return capture(self.vault, self.project.name, read(on_disk(self.path)), build=build)

    def platforms(self) -> list[Capture]:
        """The settings that were kept, newest first."""
        from gitvault.personas.game.platforms import captures

        return list(captures(self.vault, self.project.name))

    def compare_platforms(self, a: str, b: str) -> list[PlatformDifference]:
        """What the project's settings, as they are now, differ in between two platforms."""
        from gitvault.personas.game.platforms import compare, on_disk, read

        found = read(on_disk(self.path))
        return compare(found.configuration, a, b, found.rules)

    def spikes(self, build: str = "") -> list[Spike]:
        """Which signatures rose between builds, or in that one, the most striking first; see `insight.rises`."""
        from gitvault.personas.game import feedback, insight

        with feedback.Table(self.vault, self.project.name) as table:
            return insight.rises(self.vault, table, build=build).spikes

    def suspects(self, sig: str, *, older: str = "", newer: str = "") -> list[Suspect]:
        """What changed between the builds a signature rose in, the likeliest cause first; see `insight.suspicion`."""
        from gitvault.personas.game import feedback, insight

        with feedback.Table(self.vault, self.project.name) as table:
            return insight.suspicion(self.vault, table, sig, older=older, newer=newer).suspects

    def game_report(self, a: str, b: str, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Write a page about two builds; where it is. Raises ExistsError, NotFoundError."""
        from gitvault.personas.game.insight.page import write_report

        return write_report(self.vault, self.project.name, a, b, Path(folder), overwrite=overwrite)[0]

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

    def _name_now(self) -> str:
        """The project's name, which may have become another since a session began."""
        known, mine = self.vault.projects(), self.project
        if any(one.name == mine.name for one in known):
            return mine.name
        return next((one.name for one in known if (one.path, one.host) == (mine.path, mine.host)), mine.name)

    def _keep(self, file: Path, attachments: Sequence[Path] = ()) -> Session | None:
        from gitvault.personas.game.playtests import keep

        try:
            with open(file, "rb") as lines:
                kept = keep(self.vault, self._name_now(), lines, attachments=attachments)
        except GitVaultError:
            # The first line and the last.
            if file.read_bytes().count(b"\n") > 2:
                raise
            # Nothing happened.
            file.unlink()
            return None
        file.unlink()
        return kept.session
