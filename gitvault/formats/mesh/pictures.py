"""Pictures of two versions of a model, from where the change is seen best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gitvault.formats.mesh.distance import Surface
from gitvault.formats.mesh.model import Floats, used, used_only
from gitvault.formats.mesh.render import CLAY, PAPER, Hits, Scene, Singles, View, drawn, framed, grid, png, ramp, views
from gitvault.formats.mesh.side import CHANGED, LONE, SAME, Side

WIDTH, HEIGHT = 800, 600
_ADDED, _REMOVED = (0.30, 0.72, 0.40), (0.30, 0.48, 0.90)
_CLOSE = 6
"""A change that takes less of the picture's side than one part of so many is drawn a second time, near by."""


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """Two versions, and how far they are apart."""

    before: Side
    after: Side
    far_before: Floats
    """(m,): of each face the distance to the other version."""
    far_after: Floats
    surface_before: Surface | None


def draw(change: Change, up: str, folder: Path) -> dict[str, str]:
    """Paths by what they show: `before`, `after`, `difference`; `detail` where the change is small."""
    before, after = (Scene(side.vertices, side.faces) for side in (change.before, change.after))
    view, near = _best(change, before, after, up)
    difference = _Difference(change, after)
    pictures = {
        "before": drawn(lambda at: plain(before, view, at), WIDTH, HEIGHT),
        "after": drawn(lambda at: plain(after, view, at), WIDTH, HEIGHT),
        "difference": drawn(lambda at: difference.paint(view, at), WIDTH, HEIGHT),
    }
    if near.height * _CLOSE < view.height:
        pictures["detail"] = drawn(lambda at: difference.paint(near, at), WIDTH, HEIGHT)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        path.write_bytes(png(picture))
        paths[name] = str(path)
    return paths


def plain(scene: Scene, view: View, at: Floats) -> Singles:
    """(n, 3): what is seen at (n, 2) places of a picture, all in one colour."""
    hits = scene.cast(view, at)
    colours = np.full((len(at), 3), PAPER, np.float32)
    is_hit = hits.face >= 0
    colours[is_hit] = np.array(CLAY, np.float32) * scene.light(view, hits.only(is_hit))
    return colours.clip(0, 1)


def _best(change: Change, before: Scene, after: Scene, up: str) -> tuple[View, View]:
    """The view of the whole, and the near one, in which most of the change is seen."""
    shape = WIDTH / HEIGHT
    both = (change.before, change.after)
    everything = np.concatenate([side.vertices[used(len(side.vertices), side.faces)] for side in both])
    points = np.concatenate([change.before.points, change.after.points])
    points = points if len(points) else everything
    # What is counted is coarse: the corners of a box are enough.
    box = np.stack(np.meshgrid(*zip(points.min(axis=0), points.max(axis=0), strict=True)), axis=-1).reshape(-1, 3)
    least = float(np.linalg.norm(np.ptp(everything, axis=0))) / 100
    best, chosen, coarse, most = -1.0, None, grid(48, 36), max(_most(change), 1e-300)
    for view, usual in views(up):
        near = framed(view, box, shape)
        near = View(view.right, view.up, view.back, near.centre, max(near.height, least), near.depth + 100 * least)
        seen = 0.0
        for scene, side, far in ((before, change.before, change.far_before), (after, change.after, change.far_after)):
            face = scene.cast(near, coarse).face
            face = face[face >= 0]
            weights = np.where(side.state[face] == SAME, 0.0, 0.1 + far[face] / most)
            seen += float(np.minimum(weights, 1.1).sum()) * near.height**2
        if seen * usual > best:
            best, chosen = seen * usual, view
    assert chosen is not None
    near = framed(chosen, points, shape)
    near = View(
        chosen.right, chosen.up, chosen.back, near.centre, max(2 * near.height, least), near.depth + 100 * least
    )
    return framed(chosen, everything, shape), near


def _most(change: Change) -> float:
    """The largest distance in parts that both versions have: the end of the scale."""
    return float(
        max(
            change.far_before[change.before.state == CHANGED].max(initial=0.0),
            change.far_after[change.after.state == CHANGED].max(initial=0.0),
        )
    )


class _Difference:
    """The new version: what is new in green, what changed by how far it is from where it was. What is gone, and what of
    the change something hides, shines through."""

    def __init__(self, change: Change, scene: Scene) -> None:
        self._change, self._scene = change, scene
        self._most = max(_most(change), 1e-300)
        old, new = change.before, change.after
        # Of what is nearly where it was, nothing shines through: the ghost would be as large as the model.
        gone = (old.state == LONE) | ((old.state == CHANGED) & (change.far_before > self._most / 4))
        hidden = (new.state == LONE) | ((new.state == CHANGED) & (change.far_after > self._most / 4))
        vertices = np.concatenate([old.vertices, new.vertices])
        faces = np.concatenate([old.faces[gone], new.faces[hidden] + len(old.vertices)])
        now = np.where((new.state == LONE)[hidden, None], np.array(_ADDED), ramp(np.full(1, 0.5)))
        self._tints = np.concatenate([np.full((int(gone.sum()), 3), _REMOVED), now]).astype(np.float32)
        self._ghost = Scene(*used_only(vertices, faces))

    def paint(self, view: View, at: Floats) -> Singles:
        """(n, 3): what is seen at (n, 2) places of a picture."""
        hits = self._scene.cast(view, at)
        is_hit = hits.face >= 0
        picture = np.full((len(at), 3), PAPER, np.float32)
        state = np.full(len(at), SAME, np.uint8)
        seen = hits.only(is_hit)
        state[is_hit] = self._change.after.state[seen.face]
        picture[is_hit] = self._colours(seen) * self._scene.light(view, seen)
        met = self._ghost.cast(view, at)
        shows = (met.face >= 0) & (state == SAME)
        ghost = met.only(shows)
        tint = self._tints[ghost.face] * (0.35 + 0.65 * self._ghost.light(view, ghost))
        is_behind = ghost.away > hits.away[shows] + view.depth * 1e-4
        much = np.where(is_behind, np.float32(0.3), np.float32(0.6))[:, None]
        picture[shows] = picture[shows] * (1 - much) + tint * much
        return picture.clip(0, 1)

    def _colours(self, hits: Hits) -> Singles:
        state = self._change.after.state[hits.face]
        colours = np.tile(np.array(CLAY, np.float32), (len(state), 1))
        colours[state == LONE] = _ADDED
        is_changed = state == CHANGED
        if is_changed.any() and self._change.surface_before:
            places = self._scene.places(hits.only(is_changed))
            colours[is_changed] = ramp(self._change.surface_before.distances(places) / self._most)
        return colours
