"""Any model, by what its file says it is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

from gitvault.errors import UnsupportedMedia
from gitvault.formats import format_of
from gitvault.formats.mesh.model import BYTES, FACES, Model, Part

_READERS = {"glb": "gltf", "gltf": "gltf", "obj": "obj", "stl": "stl", "ply": "ply", "fbx": "fbx",
            "blend": "blend"}  # fmt: skip
_FAR = 1e12
"""Single precision, in which rays are cast, can still hold the volume of what is so large."""
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, struct.error)
"""What readers give for files that are not as their format says."""


def read(path: Path) -> Model:
    """The model in a file. Raises OSError; UnsupportedMedia for what is damaged, too large, or no model."""
    known = format_of(path)
    if known is None or known.name not in _READERS:
        what = known.summary if known else "unknown kind of file"
        raise UnsupportedMedia(
            f"{path.name}: {what}: no model (glTF, OBJ, STL, PLY, FBX, Blender); its bytes are saved"
        )
    if path.stat().st_size > BYTES:
        raise UnsupportedMedia(f"{path.name}: larger than {BYTES >> 30} GiB; models of that size are not read")
    reader: Callable[[Path], Model] = import_module(f"gitvault.formats.mesh.{_READERS[known.name]}").read
    try:
        model = reader(path)
    except _DAMAGE as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UnsupportedMedia(f"{path.name}: not read as {known.summary}: {what}; its bytes are saved") from error
    if sum(len(part.faces) for part in model.parts) > FACES:
        raise UnsupportedMedia(f"{path.name}: more than {FACES:,} triangles; models of that size are not compared")
    return Model(tuple(map(_finite, model.parts)), model.materials, model.textures, model.up)


def _finite(part: Part) -> Part:
    """Without the faces whose corners are nowhere."""
    is_somewhere = np.asarray((np.abs(part.vertices) < _FAR).all(axis=1))
    if is_somewhere.all() and np.isfinite(part.matrix).all():
        return part
    matrix = part.matrix if np.isfinite(part.matrix).all() else np.eye(4)
    vertices = np.where(is_somewhere[:, None], part.vertices, 0.0)
    faces = part.faces[is_somewhere[part.faces].all(axis=1)]
    return Part(part.name, vertices, faces, part.polygons, matrix, part.materials, part.attributes)
