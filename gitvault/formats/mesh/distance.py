"""How far points are from a surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gitvault.formats.mesh.model import Floats, Ints

_SAMPLES = 1_500_000
_FINEST = 64
_BATCH = 1 << 16


def sampled(vertices: Floats, faces: Ints, spacing: float) -> tuple[Floats, Ints]:
    """Points on triangles, their centres where those are small, else a grid as fine as `spacing`; and which triangle
    each is on."""
    corners = vertices[faces]
    longest = np.sqrt(((corners - np.roll(corners, 1, axis=1)) ** 2).sum(axis=2).max(axis=1, initial=0.0))
    steps = np.exp2(np.ceil(np.log2(np.maximum(longest / spacing, 1.0))))
    steps = np.minimum(steps, _FINEST).astype(np.int64)
    while (steps**2).sum() > max(_SAMPLES, len(faces)):
        steps = np.maximum(steps // 2, 1)
    points, on = [], []
    for step in np.unique(steps).tolist():
        which = np.flatnonzero(steps == step)
        weights = _grid(step)
        points.append(np.einsum("sk,fkd->fsd", weights, corners[which]).reshape(-1, 3))
        on.append(np.repeat(which, len(weights)))
    if not points:
        return np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    return np.concatenate(points), np.concatenate(on)


def _grid(steps: int) -> Floats:
    """(steps², 3): weights of the corners for the centres of as many equal triangles."""
    rows = []
    for i in range(steps):
        for j in range(steps - i):
            rows.append((i + 1 / 3, j + 1 / 3))
            if i + j < steps - 1:
                rows.append((i + 2 / 3, j + 2 / 3))
    first = np.array(rows) / steps
    return np.concatenate([first, 1 - first.sum(axis=1, keepdims=True)], axis=1)


class Surface:
    """A surface that answers how far points are from it."""

    def __init__(self, vertices: Floats, faces: Ints, spacing: float) -> None:
        from scipy.spatial import cKDTree

        self._corners = vertices[faces]
        # A cloud of points is as far as its nearest point.
        self._samples, self._on = sampled(vertices, faces, spacing) if len(faces) else (vertices, None)
        is_few = len(faces) and len(faces) <= 64
        self._tree = None if is_few else cKDTree(self._samples, balanced_tree=False, compact_nodes=False)

    def distances(self, points: Floats) -> Floats:
        """(n,): of each point to the surface. It is to the nearest of the few triangles whose samples are nearest."""
        if self._tree is None:
            return self._all(points)
        near = 8 if len(points) <= 200_000 else 4
        far, which = self._tree.query(points, k=min(near, len(self._samples)), workers=-1)
        far, which = far.reshape(len(points), -1), which.reshape(len(points), -1)
        if self._on is None:
            return np.asarray(far[:, 0])
        best = np.full(len(points), np.inf)
        triangles = self._on[which]
        for begin in range(0, len(points), _BATCH):
            span = slice(begin, begin + _BATCH)
            for column in range(triangles.shape[1]):
                found = to_triangles(points[span], self._corners[triangles[span, column]])
                best[span] = np.minimum(best[span], found)
        return best

    def _all(self, points: Floats) -> Floats:
        best = np.full(len(points), np.inf)
        for corners in self._corners:
            best = np.minimum(best, to_triangles(points, np.broadcast_to(corners, (len(points), 3, 3))))
        return best


def to_triangles(points: Floats, corners: NDArray[np.float64]) -> Floats:
    """(n,): the distance of each of n points to its triangle, (n, 3, 3)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    normal = np.cross(ab, ac)
    area = _dot(normal, normal)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = _dot(np.cross(ap, ac), normal) / area
        w = _dot(np.cross(ab, ap), normal) / area
        plane = np.abs(_dot(ap, normal)) / np.sqrt(area)
    is_inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    edges = np.minimum(np.minimum(_to_edge(points, a, b), _to_edge(points, a, c)), _to_edge(points, b, c))
    return np.where(is_inside & np.isfinite(plane), plane, edges)


def _to_edge(points: Floats, a: Floats, b: Floats) -> Floats:
    along = b - a
    length = _dot(along, along)
    at = np.clip(_dot(points - a, along) / np.where(length > 0, length, 1.0), 0.0, 1.0)
    away = points - a - at[:, None] * along
    return np.sqrt(_dot(away, away))


def _dot(a: Floats, b: Floats) -> Floats:
    return np.einsum("nd,nd->n", a, b)
