"""How much versions look alike, judged by the fingerprints of their thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import sub

from gitvault.core.models import SnapshotId
from gitvault.core.utils.names import one_line
from gitvault.personas.creative.timeline import Version

_ALIKE = 4
"""Of 255: by which a cell that nobody sees change differs. A JPEG that is compressed again moves them by 2."""

_NAMED = 5
"""Elements that are named of one version."""


def difference(a: bytes, b: bytes) -> float:
    """The share of a picture that changed, 0 to 1, given two fingerprints: of their cells those that show it."""
    if a == b:
        return 0.0
    apart = [x > _ALIKE for x in map(abs, map(sub, a, b))]
    cells = len(apart) // 4
    return sum(map(any, zip(*(apart[channel::4] for channel in range(4)), strict=True))) / cells


def is_alike(a: bytes, b: bytes) -> bool:
    """Whether nobody would tell two pictures apart at the size of a thumbnail; not without fingerprints."""
    return bool(a and b) and difference(a, b) == 0


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
            inside = {
                kind: [*dict.fromkeys((*before.elements.get(kind, ()), *version.elements.get(kind, ())))]
                for kind in (*before.elements, *version.elements)
            }
            version = replace(version, changed=before.changed, parent=before.parent, folded=gone, elements=inside)
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


def inside(version: Version) -> str:
    """What changed inside a file, by name, for people: `Hill, Sky; added Tree`; "" where nothing is known."""
    parts = []
    for kind in ("changed", "added", "removed"):
        names = version.elements.get(f"elements_{kind}", ())
        if names:
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            parts.append(("" if kind == "changed" else f"{kind} ") + ", ".join(map(one_line, names[:_NAMED])) + more)
    return "; ".join(parts)


def _home(snapshot: SnapshotId | None, home: dict[SnapshotId, SnapshotId]) -> SnapshotId | None:
    while snapshot in home:
        snapshot = home[snapshot]
    return snapshot
