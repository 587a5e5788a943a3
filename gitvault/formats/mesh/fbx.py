"""Models of FBX scenes: a part for each object with geometry, where its parents put it."""

from __future__ import annotations

from array import array
from hashlib import sha256
from math import cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gitvault.formats import fbx
from gitvault.formats.mesh.model import (
    Floats,
    Ints,
    Model,
    Part,
    beside,
    content_hash,
    row_keys,
    surface_key,
    triangles,
    unique_names,
)
from gitvault.formats.references.fbx import packed_in, references_in

_LAYERS = {"LayerElementNormal": ("normals", "Normals", 3), "LayerElementUV": ("uv", "UV", 2),
           "LayerElementColor": ("colours", "Colors", 4)}  # fmt: skip
_ORDERS = ("xyz", "xzy", "yzx", "yxz", "zxy", "zyx")


def read(path: Path) -> Model:
    """The model. Raises OSError, UnsupportedMedia, ValueError."""
    root = fbx.tree(path)
    things = {thing.id: thing for thing in fbx.objects(root)}
    outer: dict[str, str] = {}
    inner: dict[str, list[fbx.Object]] = {}
    for source, target, what_for in fbx.connections(root):
        if source in things and not what_for:
            inner.setdefault(target, []).append(things[source])
            if target in things and things[target].node.name == "Model":
                outer.setdefault(source, target)
    found: list[Part] = []
    shapes: dict[int, Part] = {}
    for thing in things.values():
        if thing.node.name != "Model":
            continue
        with_it = inner.get(thing.id, [])
        nodes = [other.node for other in with_it if other.node.name == "Geometry"] + [thing.node]
        node = next((node for node in nodes if node.first("PolygonVertexIndex")), None)
        if node is None:
            continue
        if id(node) not in shapes:
            shapes[id(node)] = _geometry(node)
        p = shapes[id(node)]
        slots = tuple(sorted({other.name for other in with_it if other.node.name == "Material"}))
        matrix = _placed(thing.id, things, outer) @ _offset(thing.node)
        found.append(Part(thing.name, p.vertices, p.faces, p.polygons, matrix, slots, p.attributes))
    names = unique_names([part.name for part in found])
    parts = tuple(
        Part(name, p.vertices, p.faces, p.polygons, p.matrix, p.materials, p.attributes)
        for name, p in zip(names, found, strict=True)
    )
    materials = {t.name: fbx.content_hash(t.node) for t in things.values() if t.node.name == "Material"}
    textures = {r.target: content_hash(beside(path.parent, r.target)) for r in references_in(root) if r.kind == "image"}
    textures |= {name: sha256(content).hexdigest() for name, content in packed_in(root).items()}
    return Model(parts, materials, textures, _up(root))


def _geometry(node: fbx.Node) -> Part:
    vertices = _array(node.first("Vertices")).astype(np.float64).reshape(-1, 3)
    index = _array(node.first("PolygonVertexIndex")).astype(np.int64)
    # The last corner of a polygon is written as -1 - corner.
    ends = np.flatnonzero(index < 0)
    corners = np.where(index < 0, -1 - index, index)[: ends[-1] + 1 if len(ends) else 0]
    sizes = np.diff(ends, prepend=-1)
    if len(corners) and corners.max() >= len(vertices):
        raise ValueError("a face has a corner that is not there")
    attributes: dict[str, int] = {}
    places = row_keys(vertices)
    for layer, (name, said, width) in _LAYERS.items():
        for element in node.all(layer):
            values = _array(element.first(said))
            rows = values[: len(values) // width * width].reshape(-1, width)
            key = _on_corners(element, rows, said, corners, places)
            attributes[name] = (attributes.get(name, 0) * 31 + key) % (1 << 64)
    return Part("", vertices, triangles(corners, sizes), len(sizes), attributes=attributes)


def _on_corners(element: fbx.Node, rows: NDArray[Any], said: str, corners: Ints, places: Any) -> int:
    """The key of a layer's values; where they do not lie on corners, in their order."""
    mapping = element.first("MappingInformationType")
    index = element.first(said + "Index") or element.first("NormalsIndex" if said == "Normals" else said + "Index")
    which = _array(index).astype(np.int64) if index else np.arange(len(rows))
    on = str(mapping.values[0]) if mapping and mapping.values else ""
    fits = len(which) and np.min(which) >= 0 and np.max(which) < len(rows)
    if on == "ByPolygonVertex" and fits and len(which) >= len(corners):
        return surface_key(places[corners], rows[which[: len(corners)]])
    if on in ("ByVertice", "ByVertex", "ByControlPoint") and fits and len(which) == len(places):
        return surface_key(places, rows[which])
    return surface_key(np.arange(len(rows), dtype=np.uint64), rows)


def _array(node: fbx.Node | None) -> NDArray[Any]:
    values = node.numbers() if node else array("d")
    return np.frombuffer(values, dtype=values.typecode) if values else np.zeros(0)


def _properties(node: fbx.Node) -> dict[str, list[Any]]:
    found = {}
    for version, skip in (("Properties70", 4), ("Properties60", 3)):
        block = node.first(version)
        for row in block.children if block else []:
            if row.values:
                found[str(row.values[0])] = row.values[skip:]
    return found


def _three(properties: dict[str, list[Any]], name: str, otherwise: float = 0.0) -> Floats:
    values = [float(v) for v in properties.get(name, [])[:3] if isinstance(v, (int, float))]
    return np.array(values if len(values) == 3 else [otherwise] * 3)


def _moved(by: Floats) -> Floats:
    matrix = np.eye(4)
    matrix[:3, 3] = by
    return matrix


def _scaled(by: Floats) -> Floats:
    return np.diag([*by, 1.0])


def _turned(degrees: Floats, order: str = "xyz") -> Floats:
    """The rotation about the axes in this order."""
    matrix = np.eye(4)
    for axis in order:
        n = "xyz".index(axis)
        a, b = (n + 1) % 3, (n + 2) % 3
        angle = radians(degrees[n])
        one = np.eye(4)
        one[a, a] = one[b, b] = cos(angle)
        one[a, b], one[b, a] = -sin(angle), sin(angle)
        matrix = one @ matrix
    return matrix


def _local(node: fbx.Node) -> Floats:
    """Where a model stands in its parent: offsets, pivots and three rotations, in the format's own order."""
    said = _properties(node)
    order_said = said.get("RotationOrder", [0])
    order = _ORDERS[order_said[0]] if order_said and order_said[0] in range(6) else "xyz"
    turn_pivot, scale_pivot = _three(said, "RotationPivot"), _three(said, "ScalingPivot")
    steps = [
        _moved(_three(said, "Lcl Translation")),
        _moved(_three(said, "RotationOffset")),
        _moved(turn_pivot),
        _turned(_three(said, "PreRotation")),
        _turned(_three(said, "Lcl Rotation"), order),
        np.linalg.inv(_turned(_three(said, "PostRotation"))),
        _moved(-turn_pivot),
        _moved(_three(said, "ScalingOffset")),
        _moved(scale_pivot),
        _scaled(_three(said, "Lcl Scaling", 1.0)),
        _moved(-scale_pivot),
    ]
    matrix = np.eye(4)
    for step in steps:
        matrix = matrix @ step
    return matrix


def _offset(node: fbx.Node) -> Floats:
    """What moves the geometry alone, and not the model's children."""
    said = _properties(node)
    return np.asarray(
        _moved(_three(said, "GeometricTranslation"))
        @ _turned(_three(said, "GeometricRotation"))
        @ _scaled(_three(said, "GeometricScaling", 1.0))
    )


def _placed(thing: str, things: dict[str, fbx.Object], outer: dict[str, str]) -> Floats:
    chain = [thing]
    while (above := outer.get(chain[-1])) and above not in chain and len(chain) < 1000:
        chain.append(above)
    matrix = np.eye(4)
    for each in reversed(chain):
        matrix = matrix @ _local(things[each].node)
    return matrix


def _up(root: fbx.Node) -> str:
    settings = root.first("GlobalSettings")
    axis = _properties(settings).get("UpAxis", [1]) if settings else [1]
    return "z" if axis and axis[0] == 2 else "y"
