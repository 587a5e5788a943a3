"""What readers of models give: parts with triangles, where each stands, what they look like; and keys of content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
Mask = NDArray[np.bool_]

FACES = 4_000_000
"""More triangles than this, instances counted, are not compared: each takes some 950 bytes."""
BYTES = 4 << 30

_ODD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One thing in a model that has a name."""

    name: str
    vertices: Floats
    """(n, 3), in the part's own coordinates."""
    faces: Ints
    """(m, 3): triangles, as rows of `vertices`."""
    polygons: int
    """Faces as their makers count them: a quad is one, of two triangles."""
    matrix: Floats = field(default_factory=lambda: np.eye(4))
    """(4, 4): own coordinates (columns) to the model's."""
    materials: tuple[str, ...] = ()
    attributes: Mapping[str, int] = field(default_factory=dict)
    """What else lies on the surface (`uv`, `normals`, `colours` ...), as keys of its content."""

    @property
    def placed(self) -> Floats:
        """The vertices in the model's coordinates."""
        if np.array_equal(self.matrix, np.eye(4)):
            return self.vertices
        return np.asarray(self.vertices @ self.matrix[:3, :3].T + self.matrix[:3, 3])


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What a file holds."""

    parts: tuple[Part, ...]
    materials: Mapping[str, str] = field(default_factory=dict)
    """By name a hash of what each says; empty where only the name is known."""
    textures: Mapping[str, str] = field(default_factory=dict)
    """By name or path a hash of the picture; empty where it is not at hand."""
    up: str = "y"
    """The axis that points up: `y` or `z`."""


def mixed(keys: Keys) -> Keys:
    """Keys that differ in all bits when the given ones differ in one."""
    keys = keys * _ODD
    keys ^= keys >> np.uint64(29)
    keys *= _MIX
    keys ^= keys >> np.uint64(32)
    return keys


def row_keys(rows: NDArray[np.generic]) -> Keys:
    """(n,): a key for each row of an (n, k) array of numbers; -0 is 0."""
    values = np.asarray(rows, dtype=np.float64) + 0.0
    keys = np.zeros(len(values), dtype=np.uint64)
    for column in range(values.shape[1]):
        keys = mixed(keys ^ np.ascontiguousarray(values[:, column]).view(np.uint64))
    return keys


def face_keys(vertices: Keys, faces: Ints) -> Keys:
    """(m,): a key for each triangle by its corners' keys; the same for each corner it may begin with, not when it faces
    the other way."""
    corners = vertices[faces]
    total = np.zeros(len(faces), dtype=np.uint64)
    for corner in range(3):
        total += mixed(corners[:, corner] * np.uint64(3) ^ corners[:, (corner + 1) % 3])
    return total


def summed(keys: Keys) -> int:
    """One key for many, in whatever order they come."""
    return (int(mixed(keys).sum(dtype=np.uint64)) + len(keys) * int(_ODD)) % (1 << 64)


def merged(vertices: Floats) -> tuple[Floats, Ints]:
    """The distinct rows of (n, 3), as they come, and for each row which of them it is."""
    _, first, which = np.unique(row_keys(vertices), return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return vertices[first[order]], rank[which]


def among(keys: Keys, others: Keys) -> Mask:
    """(n,): whether each key is one of the others."""
    if len(keys) == len(others):
        # Most often what is the same is at the same place.
        found: Mask = np.equal(keys, others)
        rest = np.flatnonzero(~found)
        found[rest] = _among(keys[rest], others)
        return found
    return _among(keys, others)


def _among(keys: Keys, others: Keys) -> Mask:
    if not len(keys) or not len(others):
        return np.zeros(len(keys), dtype=bool)
    # Both in order: looking up a million at random takes three times as long.
    others, order = np.sort(others), np.argsort(keys)
    ordered = keys[order]
    at = np.minimum(np.searchsorted(others, ordered), len(others) - 1)
    found = np.empty(len(keys), dtype=bool)
    found[order] = others[at] == ordered
    return np.asarray(found)


def used(count: int, faces: Ints) -> Mask:
    """(count,): whether each vertex is a corner of a face."""
    is_used = np.zeros(count, dtype=bool)
    is_used[faces] = True
    return is_used


def used_only(vertices: Floats, faces: Ints) -> tuple[Floats, Ints]:
    """The vertices that faces have, and the faces as rows of those."""
    if 20 * len(faces) < len(vertices):
        corners, rows = np.unique(faces, return_inverse=True)
        return vertices[corners], rows.reshape(-1, 3)
    is_used = used(len(vertices), faces)
    return vertices[is_used], (np.cumsum(is_used) - 1)[faces]


def doubled_areas(vertices: Floats, faces: Ints) -> Floats:
    """(m, 3): normals of triangles, as long as twice their area."""
    a = vertices[faces[:, 0]]
    return np.asarray(crossed(vertices[faces[:, 1]] - a, vertices[faces[:, 2]] - a))


def crossed(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(n, 3): cross products; numpy's own takes three times as long."""
    out = np.empty_like(a)
    for x, y, z in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        out[:, x] = a[:, y] * b[:, z] - a[:, z] * b[:, y]
    return out


def triangles(corners: Ints, sizes: Ints) -> Ints:
    """(m, 3): polygons as fans; `corners` are those of all polygons, one after the other, `sizes` how many each has."""
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    fans = np.maximum(sizes - 2, 0)
    first = np.repeat(np.cumsum(sizes) - sizes, fans)
    step = np.arange(len(first)) - np.repeat(np.cumsum(fans) - fans, fans)
    return np.stack([corners[first], corners[first + step + 1], corners[first + step + 2]], axis=1)


def surface_key(places: Keys, values: NDArray[np.generic]) -> int:
    """The key of what lies on a surface: values (n, k), each at the place with that key."""
    return summed(mixed(places) ^ row_keys(values))


def beside(folder: Path, named: str) -> Path | None:
    """The file that a model in the folder names, if it is one and not too large to be read."""
    path = folder / named.replace("\\", "/")
    try:
        return path if path.is_file() and path.stat().st_size <= BYTES else None
    except (OSError, ValueError):
        return None


def content_hash(path: Path | None) -> str:
    """SHA-256 (hex) of a file; empty for none."""
    if path is None:
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unique_names(names: list[str]) -> list[str]:
    """Each name once: the second `Bolt` is `Bolt #2`."""
    seen: dict[str, int] = {}
    taken = set(names)
    unique = []
    for name in names:
        seen[name] = count = seen.get(name, 0) + 1
        while count > 1 and f"{name} #{count}" in taken:
            count += 1
        unique.append(name if count == 1 else f"{name} #{count}")
        taken.add(unique[-1])
    return unique
