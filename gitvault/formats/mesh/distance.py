"""How far points are from a surface."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gitvault.formats.mesh.model import Floats, Ints, crossed

_SAMPLES = 1_500_000
_FINEST = 64
_FEW = 64
"""Of so many triangles each is looked at, for every point."""
_MANY = 100_000
"""Of more points than this, only the farthest are looked at closely: a million then take one second, not six."""
_CLOSELY = 8
_BATCH = 1 << 14


def longest_edges(vertices: Floats, faces: Ints) -> Floats:
    """(m,): of each triangle."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return np.sqrt(np.maximum(np.maximum(_squared(a - b), _squared(b - c)), _squared(c - a)))


def sampled(vertices: Floats, faces: Ints, spacing: float) -> tuple[Floats, Ints]:
    """Points on triangles, their centres where those are small, else a grid as fine as `spacing`; and which triangle
    each is on."""
    steps = np.exp2(np.ceil(np.log2(np.maximum(longest_edges(vertices, faces) / spacing, 1.0))))
    steps = np.minimum(steps, _FINEST).astype(np.int64)
    while (steps**2).sum() > max(_SAMPLES, len(faces)):
        steps = np.maximum(steps // 2, 1)
    points, on = [np.zeros((0, 3))], [np.zeros(0, dtype=np.int64)]
    for step in range(1, int(steps.max(initial=0)) + 1):
        which = np.flatnonzero(steps == step)
        if not len(which):
            continue
        a, b, c = (vertices[faces[which, corner]] for corner in range(3))
        for u, v in _grid(step):
            points.append(a * (1 - u - v) + b * u + c * v)
            on.append(which)
    return np.concatenate(points), np.concatenate(on)


def _grid(steps: int) -> list[tuple[float, float]]:
    """Weights of the second and third corner for the centres of steps² equal triangles."""
    found = []
    for i in range(steps):
        for j in range(steps - i):
            found.append(((i + 1 / 3) / steps, (j + 1 / 3) / steps))
            if i + j < steps - 1:
                found.append(((i + 2 / 3) / steps, (j + 2 / 3) / steps))
    return found


class Surface:
    """A surface that answers how far points are from it."""

    def __init__(self, vertices: Floats, faces: Ints, spacing: float) -> None:
        self._vertices, self._faces, self._spacing = vertices, faces, spacing
        self._on = np.zeros(0, dtype=np.int64)
        self._tree: Any = None

    def distances(self, points: Floats) -> Floats:
        """(n,): of each point to the surface: to the nearest of those triangles whose samples are nearest, so never
        less than it is. Of many points the farthest are looked at closely, others by one sample."""
        if 0 < len(self._faces) <= _FEW:
            found = np.full(len(points), np.inf)
            for number in range(len(self._faces)):
                found = np.minimum(found, self._to(points, np.full(len(points), number)))
            return found
        if len(points) <= _MANY:
            return self._nearest(points, _CLOSELY)
        found = self._nearest(points, 1)
        farthest = np.argpartition(found, len(found) - _MANY // 4)[-_MANY // 4 :]
        found[farthest] = self._nearest(points[farthest], _CLOSELY)
        return found

    def _nearest(self, points: Floats, count: int) -> Floats:
        self._grow()
        count = min(count, self._tree.n)
        away, which = self._tree.query(points, k=[*range(1, count + 1)], workers=-1)
        if not len(self._on):
            return np.asarray(away[:, 0])
        found = np.full(len(points), np.inf)
        for column in range(count):
            found = np.minimum(found, self._to(points, self._on[which[:, column]]))
        return found

    def _grow(self) -> None:
        """Make the tree of samples, when the first point is asked for."""
        if self._tree is not None:
            return
        from scipy.spatial import cKDTree

        # A cloud of points is as far as its nearest point.
        samples = self._vertices
        if len(self._faces):
            samples, self._on = sampled(self._vertices, self._faces, self._spacing)
        self._tree = cKDTree(samples, balanced_tree=False, compact_nodes=False)

    def _to(self, points: Floats, triangles: Ints) -> Floats:
        found = np.empty(len(points))
        # In pieces that stay in the processor's cache.
        for begin in range(0, len(points), _BATCH):
            span = slice(begin, begin + _BATCH)
            a, b, c = (self._vertices[self._faces[triangles[span], corner]] for corner in range(3))
            found[span] = to_triangles(points[span], a, b, c)
        return found


def to_triangles(points: Floats, a: Floats, b: Floats, c: Floats) -> Floats:
    """(n,): the distance of each of n points to its triangle, whose corners are three times (n, 3)."""
    ab, ac, ap = b - a, c - a, points - a
    normal = crossed(ab, ac)
    area = _squared(normal)
    with np.errstate(divide="ignore", invalid="ignore"):
        v = _dot(crossed(ap, ac), normal) / area
        w = _dot(crossed(ab, ap), normal) / area
        plane = np.abs(_dot(ap, normal)) / np.sqrt(area)
    is_over = (v >= 0) & (w >= 0) & (v + w <= 1)
    beside = np.flatnonzero(~is_over)
    p, a, b, c = points[beside], a[beside], b[beside], c[beside]
    plane[beside] = np.sqrt(np.minimum(np.minimum(_to_edge(p, a, b), _to_edge(p, a, c)), _to_edge(p, b, c)))
    return np.asarray(plane)


def _to_edge(points: Floats, a: Floats, b: Floats) -> Floats:
    """(n,): squared."""
    along, away = b - a, points - a
    length = _squared(along)
    at = np.clip(_dot(away, along) / np.where(length > 0, length, 1.0), 0.0, 1.0)
    return _squared(away - at[:, None] * along)


def _dot(a: Floats, b: Floats) -> NDArray[np.float64]:
    return np.asarray(np.einsum("nd,nd->n", a, b))


def _squared(a: Floats) -> NDArray[np.float64]:
    return _dot(a, a)
