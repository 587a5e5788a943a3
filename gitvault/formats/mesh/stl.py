"""STL models: triangles and nothing else. Corners at one place are one vertex."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from gitvault.formats.mesh.model import Floats, Model, Part, merged, row_keys, surface_key, unique_names, used_only
from gitvault.formats.mesh.text import numbers

_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("colour", "<u2")])


def read(path: Path) -> Model:
    """The model; an ASCII file has a part for each solid. Raises OSError, ValueError."""
    data = path.read_bytes()
    count = int.from_bytes(data[80:84], "little")
    if data.startswith(b"solid") and len(data) != 84 + _RECORD.itemsize * count:
        return _ascii(data)
    if len(data) < 84 + _RECORD.itemsize * count:
        raise ValueError(f"cut off: {count:,} triangles announced, {max(len(data) - 84, 0) // 50:,} are there")
    records = np.frombuffer(data, _RECORD, count, 84)
    corners = records["corners"].reshape(-1, 3).astype(np.float64)
    colours = records["colour"]
    places = row_keys(corners)
    attributes = {"colours": surface_key(places, np.repeat(colours, 3)[:, None])} if colours.any() else {}
    return Model((_part("model", corners, attributes),), up="z")


def _part(name: str, corners: Floats, attributes: dict[str, int]) -> Part:
    vertices, which = merged(corners)
    faces = which.reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    vertices, faces = used_only(vertices, faces)
    return Part(name, vertices, faces, len(faces), attributes=attributes)


def _ascii(data: bytes) -> Model:
    parts, names = [], []
    for solid in re.split(rb"(?im)^[ \t]*endsolid\b.*$", data):
        head, _, body = solid.lstrip().partition(b"\n")
        body = body.lower()
        if b"facet" not in body:
            continue
        for word in (b"facet normal", b"outer loop", b"vertex", b"endloop", b"endfacet"):
            body = body.replace(word, b"")
        said = numbers(body)
        if not len(said) or len(said) % 12:
            raise ValueError("a facet is not a normal and three corners; the file may be cut off")
        parts.append(said.reshape(-1, 4, 3)[:, 1:].reshape(-1, 3))
        names.append(head[5:].strip().decode("utf-8", "replace") or "model")
    if not parts:
        raise ValueError("no facets")
    return Model(tuple(_part(name, part, {}) for name, part in zip(unique_names(names), parts, strict=True)), up="z")
