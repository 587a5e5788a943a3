"""A whole version of a model in one piece, and where it differs from the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gitvault.formats.mesh.distance import Surface, longest_edges, sampled
from gitvault.formats.mesh.model import Floats, Ints, Model, among, face_keys, row_keys, used, used_only

SAME, CHANGED, LONE = 0, 1, 2
"""A face that both versions have; one of a part that changed; one of a part that only this version has."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """All parts where they stand."""

    vertices: Floats
    faces: Ints
    owner: Ints
    """(m,): of which part each face is."""
    state: NDArray[np.uint8]
    """(m,): SAME, CHANGED or LONE."""

    parts: int
    """How many there are."""

    @property
    def points(self) -> Floats:
        """The corners of faces that are not the same."""
        return self.vertices[used(len(self.vertices), self.faces[self.state != SAME])]


def sides(
    before: Model, after: Model, states_before: Mapping[int, int], states_after: Mapping[int, int]
) -> tuple[Side, Side]:
    """Both versions; The states say, by number, which parts are not the same."""
    a, b = _joined(before, states_before), _joined(after, states_after)
    # Of parts that changed, most faces may be as before.
    of_a, of_b = np.flatnonzero(a.state == CHANGED), np.flatnonzero(b.state == CHANGED)
    keys_a, keys_b = face_keys(row_keys(a.vertices), a.faces[of_a]), face_keys(row_keys(b.vertices), b.faces[of_b])
    a.state[of_a[among(keys_a, keys_b)]] = SAME
    b.state[of_b[among(keys_b, keys_a)]] = SAME
    return a, b


def _joined(model: Model, state: Mapping[int, int]) -> Side:
    vertices, faces, sizes = [np.zeros((0, 3))], [np.zeros((0, 3), dtype=np.int64)], []
    begin = 0
    for part in model.parts:
        vertices.append(part.placed)
        faces.append(part.faces + begin)
        begin += len(part.vertices)
        sizes.append(len(part.faces))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    states = np.array([state.get(number, SAME) for number in range(len(sizes))], dtype=np.uint8)
    return Side(np.concatenate(vertices), np.concatenate(faces), owner, states[owner], len(sizes))


def surface(side: Side, spacing: float) -> Surface | None:
    """What distances are measured to; None when there is nothing."""
    return Surface(side.vertices, side.faces, spacing) if len(side.vertices) else None


def distances(side: Side, other: Surface | None, spacing: float) -> Floats:
    """(m,): how far the farthest point of each face is from the other version, 0 where both have it."""
    far = np.zeros(len(side.faces))
    which = np.flatnonzero(side.state != SAME)
    if not len(which) or other is None:
        return far
    corners, faces = used_only(side.vertices, side.faces[which])
    far[which] = other.distances(corners)[faces].max(axis=1)
    # Between its corners a large face may be farther away, and a new one in a hole is.
    inner = which[(longest_edges(side.vertices, side.faces[which]) > spacing) | (far[which] == 0)]
    points, on = sampled(side.vertices, side.faces[inner], spacing)
    if len(points):
        np.maximum.at(far, inner[on], other.distances(points))
    return far
