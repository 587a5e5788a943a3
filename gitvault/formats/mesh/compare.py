"""Two versions of a model: figures, names of parts, and pictures from where the change is seen best."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gitvault.formats import Comparison
from gitvault.formats.mesh.matching import Matching, match
from gitvault.formats.mesh.measures import measures
from gitvault.formats.mesh.model import Floats, Model, doubled_areas
from gitvault.formats.mesh.pictures import Change, draw
from gitvault.formats.mesh.read import read
from gitvault.formats.mesh.side import CHANGED, LONE, Side, distances, sides, surface

_FINE = 50
"""Large triangles are measured at points this close, as parts of the model's diagonal."""
_CHANGES = ("_added", "_removed", "_changed", "_renamed")


def compare(before: Path, after: Path, folder: Path | None) -> Comparison:
    """How two models differ; where they do, `before.png`, `after.png`, `difference.png` in the folder, and
    `detail.png` when the change is small. Raises OSError, UnsupportedMedia."""
    old, new = read(before), read(after)
    matching = match(old, new)
    altered = [pair for pair in matching.pairs if pair.changes]
    a, b = sides(
        old,
        new,
        {pair.before: CHANGED for pair in altered} | dict.fromkeys(matching.removed, LONE),
        {pair.after: CHANGED for pair in altered} | dict.fromkeys(matching.added, LONE),
    )
    spacing = _diagonal(a, b) / _FINE
    on_a, on_b = surface(a, spacing), surface(b, spacing)
    # Both sides at once: what takes long in here lets other threads run.
    with ThreadPoolExecutor(2) as pool:
        far_a, far_b = pool.map(distances, (a, b), (on_b, on_a), (spacing, spacing))
        figures_before, figures = pool.map(_figures, (old, new), (a, b))
    stats = {
        **_parts(old, new, matching, _farthest(a, far_a), _farthest(b, far_b)),
        **figures,
        "before": figures_before,
        "max_distance": float(max(np.max(far_a, initial=0.0), np.max(far_b, initial=0.0))) if on_a and on_b else None,
        "mean_distance": _mean(b, far_b) if on_a and on_b else None,
        **_by_reference("materials", old.materials, new.materials),
        **_by_reference("textures", old.textures, new.textures),
    }
    is_changed = any(value for key, value in stats.items() if key.endswith(_CHANGES))
    can_be_seen = len(a.faces) + len(b.faces) > 0
    pictures = {}
    if folder is not None and is_changed and can_be_seen:
        pictures = draw(Change(a, b, far_a, far_b, on_a), new.up, folder)
    return Comparison("mesh", is_changed, stats, pictures)


def _parts(old: Model, new: Model, matching: Matching, far_a: Floats, far_b: Floats) -> dict[str, object]:
    """Names, those of the newer version where a part is in both."""
    changes, moved, renamed, apart = {}, [], {}, {}
    for pair in matching.pairs:
        name, was = new.parts[pair.after].name, old.parts[pair.before].name
        if name != was:
            renamed[name] = was
        if pair.changes:
            changes[name] = list(pair.changes)
            apart[name] = float(max(far_a[pair.before], far_b[pair.after]))
        if "place" in pair.changes:
            moved.append(name)
    return {
        "parts_added": [new.parts[number].name for number in matching.added],
        "parts_removed": [old.parts[number].name for number in matching.removed],
        "parts_changed": list(changes),
        "parts_renamed": list(renamed),
        "parts_moved": moved,
        "renamed_from": renamed,
        "changes": changes,
        "distances": apart,
    }


def _figures(model: Model, side: Side) -> dict[str, object]:
    return {
        "vertices": sum(len(part.vertices) for part in model.parts),
        "faces": sum(part.polygons for part in model.parts),
        "triangles": len(side.faces),
        **measures(side.vertices, side.faces),
    }


def _by_reference(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, object]:
    """What came, went, and says or shows something else; of what is not at hand only the name counts."""
    return {
        f"{what}_added": sorted(after.keys() - before.keys()),
        f"{what}_removed": sorted(before.keys() - after.keys()),
        f"{what}_changed": sorted(
            name
            for name in before.keys() & after.keys()
            if before[name] and after[name] and before[name] != after[name]
        ),
    }


def _farthest(side: Side, far: Floats) -> Floats:
    """(parts,): of each part the distance of what is farthest from the other version."""
    most = np.zeros(side.parts)
    np.maximum.at(most, side.owner, far)
    return most


def _mean(side: Side, far: Floats) -> float:
    """The mean over the surface, each face by its area and its farthest point."""
    normals = doubled_areas(side.vertices, side.faces)
    areas = np.sqrt(np.einsum("nd,nd->n", normals, normals))
    return float((areas * far).sum() / max(areas.sum(), 1e-300))


def _diagonal(a: Side, b: Side) -> float:
    points = np.concatenate([a.vertices, b.vertices])
    return float(np.linalg.norm(np.ptp(points, axis=0))) if len(points) else 1.0
