"""Models of Blender files: a part for each object with a mesh, without its modifiers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gitvault.formats.mesh.model import FACES, Model, Part, triangles, unique_names
from gitvault.formats.scene.blend_mesh import meshes


def read(path: Path) -> Model:
    """The model. Raises OSError, UnsupportedMedia, ValueError."""
    found = meshes(path)
    names = unique_names([mesh.name for mesh in found])
    parts, total = [], 0
    for name, mesh in zip(names, found, strict=True):
        sizes = np.asarray(np.diff(mesh.offsets), dtype=np.int64)
        faces = triangles(mesh.corners.astype(np.int64), sizes)
        total += len(faces)
        if total > FACES:
            raise ValueError(f"more than {FACES:,} triangles, objects counted that share a mesh")
        slots = tuple(sorted({material for material in mesh.materials if material}))
        parts.append(Part(name, mesh.vertices.astype(np.float64), faces, len(sizes), mesh.matrix, slots))
    materials = {material: "" for part in parts for material in part.materials}
    return Model(tuple(parts), materials, up="z")
