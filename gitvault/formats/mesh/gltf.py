"""glTF scenes, as JSON with files beside it and as one binary file: a part for each node that has a mesh."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from gitvault.formats.mesh.model import (
    BYTES,
    Floats,
    Ints,
    Model,
    Part,
    beside,
    row_keys,
    surface_key,
    unique_names,
)

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_ATTRIBUTES = {"NORMAL": "normals", "TEXCOORD": "uv", "COLOR": "colours", "WEIGHTS": "weights", "JOINTS": "weights"}
_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")


def read(path: Path) -> Model:
    """The model of a .gltf or .glb. Raises OSError, ValueError, and what JSON of another shape gives."""
    file = _File(path)
    document = file.document
    nodes, meshes = document.get("nodes", []), document.get("meshes", [])
    shapes: dict[int, Part] = {}
    found: list[Part] = []
    for number, matrix in _placed(document):
        node = nodes[number]
        if "mesh" not in node:
            continue
        mesh = node["mesh"]
        if mesh not in shapes:
            shapes[mesh] = file.part(meshes[mesh])
        shape = shapes[mesh]
        name = str(node.get("name") or shape.name or f"node {number}")
        found.append(Part(name, shape.vertices, shape.faces, shape.polygons, matrix, shape.materials, shape.attributes))
    names = unique_names([part.name for part in found])
    parts = tuple(
        Part(name, p.vertices, p.faces, p.polygons, p.matrix, p.materials, p.attributes)
        for name, p in zip(names, found, strict=True)
    )
    return Model(parts, file.materials(), file.textures())


def _placed(document: dict[str, Any]) -> Iterator[tuple[int, Floats]]:
    """The nodes of the scene that is shown, each once, with where they stand."""
    nodes = document.get("nodes", [])
    scenes = document.get("scenes", [])
    inner = {child for node in nodes for child in node.get("children", [])}
    roots = (
        scenes[document.get("scene", 0)].get("nodes", [])
        if scenes
        else [n for n in range(len(nodes)) if n not in inner]
    )
    seen: set[int] = set()
    waiting = [(root, np.eye(4)) for root in reversed(roots)]
    while waiting:
        number, outer = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        matrix = outer @ _local(nodes[number])
        yield number, matrix
        waiting += [(child, matrix) for child in reversed(nodes[number].get("children", []))]


def _local(node: dict[str, Any]) -> Floats:
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", (1.0, 1.0, 1.0)), dtype=np.float64)
    matrix[:3, 3] = node.get("translation", (0.0, 0.0, 0.0))
    return matrix


class _File:
    """A document with its buffers."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        data = path.read_bytes()
        self._inner = b""
        if data.startswith(b"glTF"):
            if (container := int.from_bytes(data[4:8], "little")) != 2:
                raise ValueError(f"it is of version {container}, not 2")
            if int.from_bytes(data[8:12], "little") > len(data):
                raise ValueError("cut off")
            begin = 20 + int.from_bytes(data[12:16], "little")
            text = data[20:begin]
            size = int.from_bytes(data[begin : begin + 4], "little")
            self._inner = data[begin + 8 : begin + 8 + size]
        else:
            text = data
        self.document: dict[str, Any] = json.loads(text)
        version = str(self.document["asset"].get("version", ""))
        if not version.startswith("2."):
            raise ValueError(f"version {version or 'unknown'}; 2.0 is read")
        packed = [name for name in _PACKED if name in self.document.get("extensionsRequired", [])]
        if packed:
            raise ValueError(f"its geometry is compressed ({packed[0]}), which is not read")
        self._buffers: dict[int, bytes] = {}

    def part(self, mesh: dict[str, Any]) -> Part:
        """A mesh, all its primitives as one."""
        vertices, faces, names = [np.zeros((0, 3))], [np.zeros((0, 3), dtype=np.int64)], set[str]()
        attributes: dict[str, int] = {}
        materials = self.document.get("materials", [])
        begin = 0
        for primitive in mesh["primitives"]:
            points = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
            corners = (
                self._accessor(primitive["indices"]).reshape(-1).astype(np.int64)
                if "indices" in primitive
                else np.arange(len(points))
            )
            if len(corners) and np.max(corners) >= len(points):
                raise ValueError("a face has a corner that is not there")
            vertices.append(points)
            faces.append(_faces(corners, primitive.get("mode", 4)) + begin)
            begin += len(points)
            if "material" in primitive:
                number = primitive["material"]
                names.add(str(materials[number].get("name") or f"material {number}"))
            places = row_keys(points)
            for semantic, accessor in primitive["attributes"].items():
                name = _ATTRIBUTES.get(semantic.split("_")[0])
                if name:
                    key = surface_key(places, self._accessor(accessor))
                    attributes[name] = (attributes.get(name, 0) + key) % (1 << 64)
            for target in primitive.get("targets", []):
                for accessor in target.values():
                    key = surface_key(places, self._accessor(accessor))
                    attributes["morphs"] = (attributes.get("morphs", 0) * 31 + key) % (1 << 64)
        whole = np.concatenate(faces)
        return Part(
            str(mesh.get("name", "")),
            np.concatenate(vertices),
            whole,
            len(whole),
            materials=tuple(sorted(names)),
            attributes=attributes,
        )

    def materials(self) -> dict[str, str]:
        """By name a hash of each; a picture counts by its name."""
        materials = self.document.get("materials", [])
        names = unique_names([str(m.get("name") or f"material {n}") for n, m in enumerate(materials)])
        pictures, textures = self._image_names(), self.document.get("textures", [])

        def named(value: Any) -> Any:
            match value:
                case {"index": int(index), **rest}:
                    source = textures[index].get("source", -1)
                    return {"picture": pictures[source] if source >= 0 else "", **named(rest)}
                case dict():
                    return {key: named(inner) for key, inner in value.items()}
                case list():
                    return [named(inner) for inner in value]
            return value

        return {
            name: hashlib.sha256(json.dumps(named(material), sort_keys=True).encode()).hexdigest()
            for name, material in zip(names, materials, strict=True)
        }

    def textures(self) -> dict[str, str]:
        """By name or path a hash of each picture."""
        images = self.document.get("images", [])
        hashes = {}
        for name, image in zip(self._image_names(), images, strict=True):
            content = self._view(image["bufferView"]) if "bufferView" in image else self._uri(image["uri"])
            hashes[name] = "" if content is None else hashlib.sha256(content).hexdigest()
        return hashes

    def _image_names(self) -> list[str]:
        def name(number: int, image: dict[str, Any]) -> str:
            uri = str(image.get("uri", ""))
            return str(image.get("name") or (unquote(uri) if not uri.startswith("data:") else "") or f"image {number}")

        return unique_names([name(n, image) for n, image in enumerate(self.document.get("images", []))])

    def _uri(self, uri: str) -> bytes | None:
        """What it leads to; None when that is not at hand."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2])
        path = beside(self._folder, unquote(uri))
        return None if path is None else path.read_bytes()

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            said = self.document["buffers"][number]
            content = self._uri(said["uri"]) if "uri" in said else self._inner
            if content is None:
                raise ValueError(f"{unquote(said['uri'])!r}, where its geometry is, is not beside it")
            self._buffers[number] = content
        return self._buffers[number]

    def _view(self, number: int) -> bytes:
        view = self.document["bufferViews"][number]
        begin = view.get("byteOffset", 0)
        content = self._buffer(view["buffer"])[begin : begin + view["byteLength"]]
        if begin < 0 or len(content) != view["byteLength"]:
            raise ValueError("cut off: a buffer is shorter than what lies in it")
        return content

    def _accessor(self, number: int) -> NDArray[np.generic]:
        """(n, k): what an accessor says, whole numbers as fractions where they stand for such."""
        said = self.document["accessors"][number]
        kind, width, count = np.dtype(_COMPONENTS[said["componentType"]]), _WIDTHS[said["type"]], said["count"]
        if not 0 <= count * width * kind.itemsize <= BYTES:
            raise ValueError("an accessor is too large")
        if "bufferView" in said:
            stride = self.document["bufferViews"][said["bufferView"]].get("byteStride") or kind.itemsize * width
            content, begin = self._view(said["bufferView"]), said.get("byteOffset", 0)
            if (
                begin < 0
                or stride < 1
                or (count and begin + stride * (count - 1) + kind.itemsize * width > len(content))
            ):
                raise ValueError("cut off: a buffer is shorter than what lies in it")
            values = np.ndarray((count, width), kind, content, begin, (stride, kind.itemsize))
        else:
            values = np.zeros((count, width), kind)
        if "sparse" in said:
            values = self._with_sparse(values, said["sparse"])
        if said.get("normalized") and kind.kind in "iu":
            return np.maximum(values / float(np.iinfo(kind).max), -1.0)
        return values

    def _with_sparse(self, values: NDArray[Any], sparse: dict[str, Any]) -> NDArray[Any]:
        count, indices, new = sparse["count"], sparse["indices"], sparse["values"]
        which = np.frombuffer(
            self._view(indices["bufferView"]),
            _COMPONENTS[indices["componentType"]],
            count,
            indices.get("byteOffset", 0),
        )
        rows = np.frombuffer(
            self._view(new["bufferView"]), values.dtype, count * values.shape[1], new.get("byteOffset", 0)
        )
        values = values.copy()
        values[which] = rows.reshape(count, -1)
        return values


def _faces(corners: Ints, mode: int) -> Ints:
    """Triangles of a list (4), a strip (5), a fan (6); of points and lines there are none."""
    if mode == 4:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == 5 and len(corners) > 2:
        faces = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
        faces[1::2] = faces[1::2, ::-1]
        return faces
    if mode == 6 and len(corners) > 2:
        return np.stack([np.full(len(corners) - 2, corners[0]), corners[1:-1], corners[2:]], axis=1)
    return np.zeros((0, 3), dtype=np.int64)
