"""Milestones: builds with a name, a type and what is said of them, kept for good.

A milestone is an annotated tag on a snapshot (`git tag -n`, `git describe` know it), prune leaves it alone. What is
said of it later is a git note on the snapshot, `refs/notes/vault/milestones`; files that go with it are records.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.models import Difference, SnapshotId
from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import ref_component
from gitvault.core.versioning import tags
from gitvault.core.versioning.edits import stamp
from gitvault.core.versioning.tags import Tag
from gitvault.errors import AmbiguousError, ExistsError, NotFoundError

if TYPE_CHECKING:
    from gitvault.vault import Vault
    from gitvault.vault.area import Area

NOTES = "milestones"


class GameVersionType(StrEnum):
    """What a milestone is."""

    FIRST_PLAYABLE = "first-playable"
    PROTOTYPE = "prototype"
    ALPHA = "alpha"
    BETA = "beta"
    RELEASE_CANDIDATE = "release-candidate"
    RELEASE = "release"
    PATCH = "patch"
    DEMO = "demo"
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Milestone:
    """A named snapshot and what is known of it."""

    tag: Tag
    annotations: tuple[Mapping[str, Any], ...] = ()
    """Oldest first: `t`, when, and what was said: `text`, `facts` or where it was `released`."""
    artefacts: tuple[str, ...] = ()
    """Names of the files that were attached."""

    @property
    def released(self) -> str:
        """Where it was released, empty for nowhere yet."""
        return ", ".join(str(said["released"]) for said in self.annotations if "released" in said)


@dataclass(frozen=True, slots=True)
class Changelog:
    """What is different in the newer of two milestones."""

    older: Milestone
    newer: Milestone
    difference: Difference
    kinds: Mapping[str, tuple[int, int, int]]
    """By kind of file: how many were added, changed, deleted."""


def create(
    vault: Vault,
    name: str,
    snapshot: SnapshotId,
    type: GameVersionType,
    *,
    message: str = "",
    labels: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    artefacts: Sequence[Path] = (),
) -> Milestone:
    """Make a snapshot a milestone, with files that go with it. Raises ExistsError, NotFoundError, OSError."""
    project = vault.get_snapshot_info(snapshot).project
    check_new(vault, project, name)
    files: dict[bytes, bytes | Path] = {
        _artefact(name, artefact.name): artefact for artefact in map(Path, map(os.path.abspath, artefacts))
    }
    if len(files) < len(artefacts):
        raise ExistsError(f"{name}: two of the files have one name; give them different ones")
    if files:
        _area(vault, project).add(files, f"Files of milestone {name}")
    made = vault.name_snapshot(name, snapshot, type=type.value, message=message, tags=labels, metadata=metadata)
    return Milestone(made, (), tuple(sorted(path.name for path in map(Path, artefacts))))


def check_new(vault: Vault, project: str, name: str) -> None:
    """Raises ExistsError for a name that a snapshot of the project has, GitVaultError for one that none can have."""
    ref = tags.ref_of(project, name)
    if held := vault.history.refs.read(ref):
        there = vault.history.identify(vault.history.peel(held))
        raise ExistsError(f"{name}: is {project}'s snapshot {there[:12]} already; choose another name")


def milestones(vault: Vault, project: str | None = None) -> Iterator[Milestone]:
    """All of them or a project's, newest first."""
    found = sorted(_tags(vault, project), key=lambda tag: (tag.time is not None, tag.time, tag.name), reverse=True)
    return (_filled(vault, tag) for tag in found)


def find(vault: Vault, name: str, project: str | None = None) -> Milestone:
    """The milestone of this name, or `PROJECT/NAME`. Raises NotFoundError, AmbiguousError."""
    found = [tag for tag in _tags(vault, project) if name in (tag.name, f"{tag.project}/{tag.name}")]
    if not found:
        raise NotFoundError(f"{name}: no such milestone; git-vault milestone list names them")
    if len(found) > 1:
        raise AmbiguousError(f"{name}: several projects have it: {', '.join(f'{t.project}/{t.name}' for t in found)}")
    return _filled(vault, found[0])


def annotate(vault: Vault, milestone: Milestone, said: Mapping[str, Any]) -> Milestone:
    """Say more of a milestone: a `text`, `facts`, or where it was `released`."""
    record = {"milestone": milestone.tag.name, "t": stamp(vault.now()), **said}
    vault.annotate(NOTES, milestone.tag.snapshot, record, f"Of milestone {milestone.tag.name}")
    return _filled(vault, milestone.tag)


def compare(vault: Vault, older: Milestone, newer: Milestone) -> Changelog:
    """What changed from one to the other."""
    difference = vault.get_version_diff(older.tag.snapshot, newer.tag.snapshot)
    kinds: dict[str, list[int]] = {}
    for column, paths in enumerate((difference.added, difference.changed, difference.deleted)):
        for path in paths:
            kinds.setdefault(kind_of(path.rpartition(b"/")[2]), [0, 0, 0])[column] += 1
    counts = {kind: (row[0], row[1], row[2]) for kind, row in sorted(kinds.items())}
    return Changelog(older, newer, difference, counts)


def artefact(vault: Vault, milestone: Milestone, name: str) -> bytes:
    """The content of an attached file. Raises NotFoundError."""
    return _area(vault, milestone.tag.project).read(_artefact(milestone.tag.name, name))


def _tags(vault: Vault, project: str | None) -> Iterator[Tag]:
    return (tag for tag in tags.tags(vault.history, project) if tag.type)


def _filled(vault: Vault, tag: Tag) -> Milestone:
    said = (line for line in vault.annotations(NOTES, tag.snapshot) if line.get("milestone") == tag.name)
    below = _artefact(tag.name, "")[:-1]
    files = tuple(os.fsdecode(path[len(below) + 1 :]) for path in _area(vault, tag.project).paths(below))
    return Milestone(tag, tuple(sorted(said, key=lambda line: str(line.get("t", "")))), files)


def _area(vault: Vault, project: str) -> Area:
    return vault.area(f"builds/{ref_component(project)}")


def _artefact(milestone: str, name: str) -> bytes:
    return b"milestones/" + ref_component(milestone).encode() + b"/" + os.fsencode(name)
