"""A small picture of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gitvault.errors import UnsupportedMedia
from gitvault.formats.mesh.pictures import clay
from gitvault.formats.mesh.read import read
from gitvault.formats.mesh.render import Scene, framed, halved, painted, png, views
from gitvault.formats.mesh.side import sides


def thumbnail(path: Path, side: int) -> bytes:
    """The model from its usual view, a square PNG of that many pixels a side. Raises OSError, UnsupportedMedia."""
    model = read(path)
    _, whole = sides(model, model, {}, {})
    if not len(whole.faces):
        raise UnsupportedMedia(f"{path.name}: has no faces that could be drawn")
    view = framed(views(model.up)[0], whole.vertices[np.unique(whole.faces)], 1.0)
    scene = Scene(whole.vertices, whole.faces)
    hits = scene.cast(view, 2 * side, 2 * side)
    return png(halved(painted(scene.light(view, hits), clay(hits), hits.face >= 0)))
