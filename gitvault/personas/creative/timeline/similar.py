"""How much versions look alike, judged by the fingerprints of their thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gitvault.core.models import SnapshotId
from gitvault.personas.creative.timeline import Version

_ALIKE = 4
"""Of 255: by which no cell of two near-identical pictures differs. A JPEG compressed again moves by 2."""


def similarity(a: bytes, b: bytes) -> float:
    """From 0 to 1, given two fingerprints: 1 less the mean difference of their cells."""
    return 1 - sum(abs(x - y) for x, y in zip(a, b, strict=True)) / (255 * max(len(a), 1))


def is_alike(a: bytes, b: bytes) -> bool:
    """Whether nobody would tell two pictures apart at the size of a thumbnail; not without fingerprints."""
    return bool(a and b) and max(abs(x - y) for x, y in zip(a, b, strict=True)) <= _ALIKE


def folded(versions: Sequence[Version]) -> list[Version]:
    """The versions without those that a near-identical one of the same path follows, which says how many there were.

    What is compared is the first of a run, so that slow change shows; a milestone, a deletion, a new name and what
    somebody went back to are never left out.
    """
    kept: dict[int, Version] = {}
    running: dict[bytes, tuple[int, bytes]] = {}
    home: dict[SnapshotId, SnapshotId] = {}
    row = dict.fromkeys(version.snapshot for version in versions)
    before_it = dict(zip(row, (None, *row), strict=False))
    back = {version.parent for version in versions if version.parent != before_it[version.snapshot]}
    for number, version in enumerate(versions):
        last, first = running.get(version.path, (-1, b""))
        before = kept.get(last)
        if (
            before
            and version.changed == "changed"
            and not before.milestones
            and before.snapshot not in back
            and is_alike(first, version.fingerprint)
        ):
            del kept[last]
            home[before.snapshot] = version.snapshot
            gone = (*before.folded, before.snapshot)
            version = replace(version, changed=before.changed, parent=before.parent, folded=gone)
            running[version.path] = number, first
        else:
            running[version.path] = number, version.fingerprint
        kept[number] = version
    return [replace(one, parent=_home(one.parent, home)) for one in kept.values()]


def said(version: Version) -> str:
    """What changed, for people and programs: `changed`, and how many versions are folded into it."""
    if not version.folded:
        return version.changed
    return f"{version.changed}, then {len(version.folded)} near-identical"


def _home(snapshot: SnapshotId | None, home: dict[SnapshotId, SnapshotId]) -> SnapshotId | None:
    while snapshot in home:
        snapshot = home[snapshot]
    return snapshot
