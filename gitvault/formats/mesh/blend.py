"""Models of Blender files: a part for each object with a mesh, without its modifiers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gitvault.formats.mesh.model import Model, Part, triangles, unique_names
from gitvault.formats.scene.blend_mesh import meshes


def read(path: Path) -> Model:
    """The model. Raises OSError, UnsupportedMedia, ValueError."""
    found = meshes(path)
    names = unique_names([mesh.name for mesh in found])
    parts, shapes = [], dict[str, Part]()
    for name, mesh in zip(names, found, strict=True):
        if mesh.data not in shapes:
            sizes = np.asarray(np.diff(mesh.offsets), dtype=np.int64)
            faces = triangles(mesh.corners.astype(np.int64), sizes)
            shapes[mesh.data] = Part("", mesh.vertices.astype(np.float64), faces, len(sizes))
        shape = shapes[mesh.data]
        slots = tuple(sorted({material for material in mesh.materials if material}))
        parts.append(Part(name, shape.vertices, shape.faces, shape.polygons, mesh.matrix, slots))
    materials = {material: "" for part in parts for material in part.materials}
    return Model(tuple(parts), materials, up="z")
