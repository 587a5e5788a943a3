"""What belongs to a milestone beside its files: its settings on each platform, its playtests, what players said."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gitvault.core.utils.names import ref_component
from gitvault.errors import AmbiguousError, ConfigError, ExistsError, NotFoundError, UnsupportedMedia
from gitvault.personas.game import milestones
from gitvault.personas.game.milestones import Milestone
from gitvault.personas.game.platforms import Configuration, Drift, Read, captures, drift, in_snapshot, loaded, read
from gitvault.personas.game.playtests import Session, sessions

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.core.models import RestoreReport
    from gitvault.personas.game.insight import ByCategory, Resolved, Spike
    from gitvault.vault import Vault


@dataclass(frozen=True, slots=True)
class Context:
    """What was around a milestone."""

    settings: Read | None
    """None where neither its files nor a capture of that build say."""
    playtests: tuple[Session, ...]
    """Of its build, newest first."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What players said of a milestone's build."""

    records: int
    categories: tuple[ByCategory, ...]
    """The most players first."""
    rose: tuple[Spike, ...]
    """Signatures that more players have than those of the builds before let expect."""


def heard(vault: Vault, milestone: Milestone) -> Heard | None:
    """What players said of it; None for nothing. Raises ConfigError for rules that cannot be read, CorruptionError."""
    from gitvault.personas.game.feedback import Table, Wanted, count
    from gitvault.personas.game.insight import by_category, rises

    tag = milestone.tag
    if not _has_feedback(vault, tag.project):
        return None
    with Table(vault, tag.project) as table:
        if not (records := count(table, Wanted(build=tag.snapshot))):
            return None
        categories = tuple(by_category(vault, table, tag.snapshot))
        return Heard(records, categories, tuple(rises(vault, table, build=tag.snapshot).spikes))


def resolved(vault: Vault, older: Milestone, newer: Milestone) -> list[Resolved]:
    """Which troubles players of one milestone reported, and nobody of the other; of two projects none."""
    from gitvault.personas.game import insight
    from gitvault.personas.game.feedback import Table

    project = older.tag.project
    if project != newer.tag.project or not _has_feedback(vault, project):
        return []
    with Table(vault, project) as table:
        return insight.resolved(vault, table, older.tag.snapshot, newer.tag.snapshot)


def context(vault: Vault, milestone: Milestone) -> Context:
    """What belongs to a milestone. Raises CorruptionError."""
    tag = milestone.tag
    played = (one for one in sessions(vault, tag.project) if tag.name == one.build or tag.snapshot == one.snapshot)
    return Context(_settings(vault, milestone), tuple(played))


def settings_drift(vault: Vault, older: Milestone, newer: Milestone) -> list[Drift]:
    """Which settings changed from one milestone to the other; none where either has no settings."""
    before, after = _settings(vault, older), _settings(vault, newer)
    return drift(before.configuration, after.configuration, after.rules) if before and after else []


def restore(
    vault: Vault, milestone: Milestone, target: Path, progress: Progress | None = None
) -> tuple[RestoreReport, Path]:
    """The build as it was in `target`; what belongs to it in a folder beside, which is the second of the result.

    There are `settings.json`, by platform and key, `artefacts/` and `playtests/ID/` with save games in `files/`. Raises
    ExistsError for a folder that is there, and what restoring raises.
    """
    beside = Path(f"{os.path.abspath(target)}.milestone")
    if os.path.lexists(beside):
        raise ExistsError(f"{beside}: is there already; choose another folder than {target}")
    report = vault.restore_snapshot(milestone.tag.snapshot, target, progress=progress)
    found = context(vault, milestone)
    if found.settings:
        with _created(beside, b"settings.json") as file:
            file.write(json.dumps(_by_platform(found.settings.configuration), indent=1, sort_keys=True).encode())
    for name in milestone.artefacts:
        with _created(beside, b"artefacts/" + os.fsencode(name)) as file:
            file.write(milestones.artefact(vault, milestone, name))
    area = vault.area(f"playtests/{ref_component(milestone.tag.project)}")
    for one in found.playtests:
        for path in area.paths(one.id.encode()):
            with _created(beside, b"playtests/" + path) as file:
                area.write_to(path, file)
    beside.mkdir(exist_ok=True)
    return report, beside


def _has_feedback(vault: Vault, project: str) -> bool:
    return vault.history.refs.read(f"refs/vault/feedback/{ref_component(project)}") is not None


def _settings(vault: Vault, milestone: Milestone) -> Read | None:
    try:
        return read(in_snapshot(vault, milestone.tag.snapshot))
    except (NotFoundError, AmbiguousError, UnsupportedMedia, ConfigError):
        of_build = (one for one in captures(vault, milestone.tag.project) if one.build == milestone.tag.name)
        newest = next(of_build, None)
        return loaded(vault, newest) if newest else None


def _by_platform(found: Configuration) -> dict[str, object]:
    return {
        name: {key: {"value": value.text, "source": value.source} for key, value in found.effective(name).items()}
        for name in found.platforms
    }


def _created(folder: Path, path: bytes) -> BinaryIO:
    file = folder / os.fsdecode(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    return open(file, "xb")
