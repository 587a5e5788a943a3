"""The past of a file, a folder or a project in pictures: each version with what changed, and what it went on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import SnapshotId
from gitvault.core.utils.names import from_ref_component, ref_component, to_line
from gitvault.formats.elements import changes_between
from gitvault.personas.creative.timeline.drawing import drawn, looked_into
from gitvault.personas.creative.timeline.thumbnails import SIDE, Thumbnails
from gitvault.personas.creative.timeline.walk import Past, Step

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.core.models import Snapshot
    from gitvault.vault import Vault

_TAGS = "refs/tags/"
_SHORT = 12
"""Digits of a snapshot's id in `changed`."""


@dataclass(frozen=True, slots=True)
class Version:
    """One path as one snapshot has it, where that is not as the snapshot before it has it."""

    snapshot: SnapshotId
    time: datetime
    message: str
    path: bytes
    size: int
    """0 of what was deleted."""
    changed: str
    """`added`, `changed`, `renamed from OLD`, `deleted`, `restored from ID`; `changed, from ID` after going back."""
    milestones: tuple[str, ...] = ()
    """Tags of this snapshot, and of those after it until the next version: this is what they had."""
    parent: SnapshotId | None = None
    """The snapshot with the version that this one goes on from: not the one before it where somebody went back."""
    thumbnail: Path | None = None
    fingerprint: bytes = b""
    """Of the thumbnail, see `similarity`."""
    reason: str = ""
    """Why there is no thumbnail."""
    is_bad: bool = False
    """Whether the file is why: damaged, made to do harm, or of a kind that nobody can draw."""
    elements: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """`elements_added`, `elements_removed`, `elements_changed` since the version before it: names, where known."""
    folded: tuple[SnapshotId, ...] = ()
    """Near-identical versions before it that are left out, oldest first."""


def timeline(
    vault: Vault,
    project: str,
    path: bytes = b"",
    *,
    side: int = SIDE,
    elements: bool = False,
    progress: Progress | None = None,
) -> list[Version]:
    """The versions of a file, under all its names, or of all files of a folder or project; oldest first.

    `side`: pixels of thumbnails. Those that the cache lacks are drawn; no other file is read. `elements`: read all
    layered files and scenes of which it is not known yet what they consist of.
    Raises NotFoundError, CorruptionError.
    """
    past = Past(vault, project)
    whole = past.is_folder(path)
    found = past.of_folder(path) if whole else past.of_file(path)
    steps = sorted(found, key=lambda step: (-step.at, step.path))
    contents = [past.content(step) for step in steps]
    thumbnails = Thumbnails(vault, side)
    pictures = drawn(past, thumbnails, steps, contents, every=not whole, progress=progress)
    if elements:
        looked_into(past, thumbnails, steps, contents, progress)
    tags = _tags(vault, past)
    snapshots = {at: past.snapshot(at) for at in dict.fromkeys(step.at for step in steps)}
    parents = _parents(past, snapshots)
    names = _milestones(tags, list(snapshots))
    earlier: dict[bytes, list[Step]] = {}
    versions = []
    for step, content, picture in zip(steps, contents, pictures, strict=True):
        said = snapshots[step.at]
        same = earlier.setdefault(step.path if whole else b"", [])
        parent = parents[step.at]
        versions.append(
            Version(
                said.id,
                said.time,
                said.message,
                step.path,
                content.size,
                _change(step, said, same, past),
                names.get(step.at, ()),
                snapshots[parent].id if parent is not None else None,
                picture.path,
                picture.fingerprint,
                picture.reason,
                picture.is_bad,
                _elements(thumbnails, same, step),
            )
        )
        same.append(step)
    return versions


def _change(step: Step, said: Snapshot, earlier: Sequence[Step], past: Past) -> str:
    text = f"renamed from {to_line(step.source)}" if step.change == "renamed" else step.change
    restored = said.restored_from
    if not restored or restored not in past.ids:
        return text
    then = next((other for other in reversed(earlier) if other.at >= past.ids[restored]), None)
    if then and then.blob == step.blob and step.blob:
        return f"restored from {restored[:_SHORT]}"
    return f"{text}, from {restored[:_SHORT]}"


def _elements(thumbnails: Thumbnails, earlier: Sequence[Step], step: Step) -> dict[str, list[str]]:
    """Names of what changed inside a file, when it is known of both versions."""
    before = earlier[-1].blob if earlier else None
    if not step.blob or not before or step.blob == before:
        return {}
    now = thumbnails.elements(step.blob)
    then = thumbnails.elements(before) if now is not None else None
    if now is None or then is None:
        return {}
    return {kind: names for kind, names in changes_between(then, now).items() if names}


def _parents(past: Past, snapshots: Mapping[int, Snapshot]) -> dict[int, int | None]:
    """For each snapshot of the timeline, oldest first, the one with the state that it goes on from."""
    found: dict[int, int | None] = {}
    for at, said in snapshots.items():
        start = past.ids.get(said.restored_from, at) if said.restored_from else at
        # Its state is that of the newest one up to there.
        found[at] = min((other for other in found if other >= start), default=None)
    return found


def _tags(vault: Vault, past: Past) -> list[tuple[int, str]]:
    """The tags of a project's snapshots, each with where that is, in the order of names."""
    history = vault.history
    prefix = f"{_TAGS}{ref_component(past.project)}/"
    found = []
    for ref, oid in sorted(history.refs.list(prefix).items()):
        at = past.ids.get(history.identify(history.peel(oid)))
        if at is not None:
            found.append((at, from_ref_component(ref[len(prefix) :])))
    return found


def _milestones(tags: Sequence[tuple[int, str]], row: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The tags of each snapshot of `row`, oldest first, and of those after it up to the next one in it."""
    found: dict[int, tuple[str, ...]] = {}
    for at, name in tags:
        home = min((other for other in row if other >= at), default=None)
        if home is not None:
            found[home] = (*found.get(home, ()), name)
    return found
