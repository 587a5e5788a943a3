"""A small picture of a model."""

from __future__ import annotations

from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats.mesh.model import used
from gitvault.formats.mesh.pictures import plain
from gitvault.formats.mesh.read import read
from gitvault.formats.mesh.render import Scene, drawn, framed, png, views
from gitvault.formats.mesh.side import sides


def thumbnail(path: Path, side: int) -> bytes:
    """The model from its usual view, a square PNG of that many pixels a side. Raises OSError, UnsupportedMedia."""
    model = read(path)
    _, whole = sides(model, model, {}, {})
    if not len(whole.faces):
        raise UnsupportedMedia(f"{path.name}: has no faces that could be drawn")
    view = framed(views(model.up)[0][0], whole.vertices[used(len(whole.vertices), whole.faces)], 1.0)
    scene = Scene(whole.vertices, whole.faces)
    return png(drawn(lambda at: plain(scene, view, at), side, side))
