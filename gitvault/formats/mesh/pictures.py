"""Pictures of two versions of a model, from where the change is seen best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gitvault.formats.mesh.distance import Surface
from gitvault.formats.mesh.model import Floats
from gitvault.formats.mesh.render import CLAY, Hits, Scene, Singles, View, framed, halved, painted, png, ramp, views
from gitvault.formats.mesh.side import CHANGED, LONE, SAME, Side

WIDTH, HEIGHT = 800, 600
_ADDED, _REMOVED = (0.30, 0.72, 0.40), (0.30, 0.48, 0.90)
_CLOSE = 6
"""A change that takes less of the picture's side than one part of so many is drawn a second time, near by."""
_FROM_BELOW = 0.8
"""What is seen of the change counts that much when it is seen from an unusual side."""


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
    hits = before.cast(view, 2 * WIDTH, 2 * HEIGHT)
    pictures = {"before": painted(before.light(view, hits), clay(hits), hits.face >= 0)}
    hits = after.cast(view, 2 * WIDTH, 2 * HEIGHT)
    bright = after.light(view, hits)
    pictures["after"] = painted(bright, clay(hits), hits.face >= 0)
    ghost = _Ghost(change)
    pictures["difference"] = _difference(change, after, view, hits, bright, ghost)
    if near.height * _CLOSE < view.height:
        hits = after.cast(near, 2 * WIDTH, 2 * HEIGHT)
        pictures["detail"] = _difference(change, after, near, hits, after.light(near, hits), ghost)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        path.write_bytes(png(halved(picture)))
        paths[name] = str(path)
    return paths


def _best(change: Change, before: Scene, after: Scene, up: str) -> tuple[View, View]:
    """The view of the whole, and the near one, in which most of the change is seen."""
    shape = WIDTH / HEIGHT
    everything = np.concatenate([side.vertices[np.unique(side.faces)] for side in (change.before, change.after)])
    points = np.concatenate([change.before.points, change.after.points])
    points = points if len(points) else everything
    # What is counted is coarse: the corners of a box are enough.
    box = np.stack(np.meshgrid(*zip(points.min(axis=0), points.max(axis=0), strict=True)), axis=-1).reshape(-1, 3)
    least = float(np.linalg.norm(np.ptp(everything, axis=0))) / 100
    best, chosen = -1.0, None
    for number, view in enumerate(views(up)):
        near = framed(view, box, shape)
        near = View(view.right, view.up, view.back, near.centre, max(near.height, least), near.depth + 100 * least)
        seen = 0.0
        for scene, side, far in ((before, change.before, change.far_before), (after, change.after, change.far_after)):
            face = scene.cast(near, 80, 60).face
            face = face[face >= 0]
            weights = np.where(side.state[face] == SAME, 0.0, 0.1 + far[face] / max(_most(change), 1e-300))
            seen += float(np.minimum(weights, 1.1).sum()) * near.height**2
        seen *= 1.0 if number < 8 else _FROM_BELOW
        if seen > best * 1.05:
            best, chosen = seen, view
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


def clay(hits: Hits) -> Singles:
    """The colour of what has none of its own."""
    return np.broadcast_to(np.array(CLAY, np.float32), (*hits.face.shape, 3))


def _difference(change: Change, scene: Scene, view: View, hits: Hits, bright: Singles, ghost: _Ghost) -> Singles:
    """What is new in green, what changed by how far it is from where it was; what is gone or hidden shines through."""
    is_hit = hits.face >= 0
    state = np.where(is_hit, change.after.state[hits.face], SAME)
    colours = clay(hits).copy()
    colours[state == LONE] = _ADDED
    is_changed = state == CHANGED
    if is_changed.any() and change.surface_before:
        far = np.where(is_changed, change.far_after[hits.face], 0.0)
        # One point of four is measured, the others take its value.
        one = is_changed[::2, ::2]
        places = scene.places(hits.face[::2, ::2][one], hits.weights[::2, ::2][one])
        exact = np.full(one.shape, np.nan)
        exact[one] = change.surface_before.distances(places)
        exact = exact.repeat(2, axis=0).repeat(2, axis=1)
        far = np.where(np.isnan(exact), far, exact)
        colours[is_changed] = ramp(far[is_changed] / max(_most(change), 1e-300))
    return ghost.over(painted(bright, colours, is_hit), view, hits, state)


class _Ghost:
    """What the new version does not show: faces that are gone, and changed ones that others hide."""

    def __init__(self, change: Change) -> None:
        old, new = change.before, change.after
        gone = old.faces[(old.state == LONE) | ((old.state == CHANGED) & (change.far_before > 0))]
        hidden = new.state != SAME
        vertices = np.concatenate([old.vertices, new.vertices])
        faces = np.concatenate([gone, new.faces[hidden] + len(old.vertices)])
        now = np.where((new.state == LONE)[hidden, None], np.float32(_ADDED), ramp(np.full(1, 0.5)))
        self._colours = np.concatenate([np.full((len(gone), 3), _REMOVED), now]).astype(np.float32)
        self._scene = Scene(vertices, faces)

    def over(self, picture: Singles, view: View, hits: Hits, state: NDArray[np.uint8]) -> Singles:
        """The picture with what shines through where nothing else has changed."""
        met = self._scene.cast(view, hits.face.shape[1], hits.face.shape[0])
        shows = (met.face >= 0) & (state == SAME)
        is_behind = met.away > hits.away + view.depth * 1e-4
        tint = self._colours[met.face] * (0.35 + 0.65 * self._scene.light(view, met))[:, :, None]
        much = np.where(shows, np.where(is_behind, 0.3, 0.6), 0.0).astype(np.float32)[:, :, None]
        return np.asarray(picture * (1 - much) + np.clip(tint, 0, 1) * much)
