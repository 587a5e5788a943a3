"""Small models in every format that is read, written here byte by byte."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shape:
    """A named part of a test's model."""

    name: str
    vertices: Floats
    faces: Ints
    place: tuple[float, float, float] = (0.0, 0.0, 0.0)
    material: str = ""

    def at(self, *place: float) -> Shape:
        return replace(self, place=tuple(place))

    def called(self, name: str) -> Shape:
        return replace(self, name=name)


def box(name: str, size: float = 1.0) -> Shape:
    corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * size
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Shape(name, corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]))


def ball(name: str, rings: int = 24, bump: float = 0.0) -> Shape:
    """A sphere of radius 1, with a bump of that height towards (1, 1, 1)."""
    angles = np.linspace(0, np.pi, rings + 1)[1:-1]
    around = np.arange(2 * rings) * np.pi / rings
    inner = [(np.sin(a) * np.cos(b), np.cos(a), np.sin(a) * np.sin(b)) for a in angles for b in around]
    vertices = np.array([(0.0, 1.0, 0.0), *inner, (0.0, -1.0, 0.0)])
    peak = np.ones(3) / np.sqrt(3)
    vertices *= 1 + bump * np.exp(-((vertices - peak) ** 2).sum(axis=1) / 0.05)[:, None]
    faces, n, last = [], 2 * rings, len(vertices) - 1
    for k in range(n):
        faces.append((0, 1 + (k + 1) % n, 1 + k))
        faces.append((last, last - n + k, last - n + (k + 1) % n))
        for row in range(rings - 2):
            a, b = 1 + row * n + k, 1 + row * n + (k + 1) % n
            faces += [(a, b, a + n), (b, b + n, a + n)]
    return Shape(name, vertices, np.array(faces))


def placed(shape: Shape) -> Floats:
    return shape.vertices + shape.place


def obj(shapes: Sequence[Shape], *, word: str = "o") -> bytes:
    lines, begin = list[str](), 1
    for shape in shapes:
        lines.append(f"{word} {shape.name}")
        lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in placed(shape)]
        lines += [f"usemtl {shape.material}"] if shape.material else []
        lines += [f"f {a} {b} {c}" for a, b, c in shape.faces + begin]
        begin += len(shape.vertices)
    return "\n".join([*lines, ""]).encode()


def stl(shapes: Sequence[Shape]) -> bytes:
    corners = np.concatenate([placed(shape)[shape.faces] for shape in shapes]).astype("<f4")
    records = np.zeros(len(corners), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("colour", "<u2")]))
    records["corners"] = corners
    return bytes(80) + struct.pack("<I", len(records)) + records.tobytes()


def stl_text(shapes: Sequence[Shape]) -> bytes:
    lines = []
    for shape in shapes:
        lines.append(f"solid {shape.name}")
        for triangle in placed(shape)[shape.faces]:
            lines += ["facet normal 0 0 1", "outer loop"]
            lines += [f"  vertex {x:.9e} {y:.9e} {z:.9e}" for x, y, z in triangle]
            lines += ["endloop", "endfacet"]
        lines.append(f"endsolid {shape.name}")
    return "\n".join([*lines, ""]).encode()


def ply(shape: Shape, kind: str = "binary_little_endian") -> bytes:
    vertices, faces = placed(shape), shape.faces
    head = (
        f"ply\nformat {kind} 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    if kind == "ascii":
        rows = [" ".join(f"{v:.9g}" for v in row) for row in vertices] + [f"3 {a} {b} {c}" for a, b, c in faces]
        return head + "\n".join([*rows, ""]).encode()
    order = "<" if "little" in kind else ">"
    rows = b"".join(struct.pack(f"{order}Biii", 3, *map(int, face)) for face in faces)
    return head + vertices.astype(f"{order}f4").tobytes() + rows


def gltf(shapes: Sequence[Shape], **more: Any) -> tuple[dict[str, Any], bytes]:
    """A document, and what its buffer holds."""
    document: dict[str, Any] = {"asset": {"version": "2.0"}, "scenes": [{"nodes": list(range(len(shapes)))}]}
    document |= {"nodes": [], "meshes": [], "accessors": [], "bufferViews": [], "materials": []}
    content = b""
    for shape in shapes:
        primitive: dict[str, Any] = {"attributes": {"POSITION": len(document["accessors"])}}
        primitive["indices"] = len(document["accessors"]) + 1
        if shape.material:
            primitive["material"] = len(document["materials"])
            document["materials"].append({"name": shape.material})
        for raw, count, component, kind in (
            (shape.vertices.astype("<f4").tobytes(), len(shape.vertices), 5126, "VEC3"),
            (shape.faces.astype("<u4").tobytes(), shape.faces.size, 5125, "SCALAR"),
        ):
            view = {"buffer": 0, "byteOffset": len(content), "byteLength": len(raw)}
            accessor = {"bufferView": len(document["bufferViews"]), "componentType": component}
            document["bufferViews"].append(view)
            document["accessors"].append({**accessor, "count": count, "type": kind})
            content += raw
        document["nodes"].append({"name": shape.name, "mesh": len(document["meshes"]), "translation": shape.place})
        document["meshes"].append({"name": shape.name, "primitives": [primitive]})
    document["buffers"] = [{"byteLength": len(content)}]
    return {**document, **more}, content


def glb(shapes: Sequence[Shape], **more: Any) -> bytes:
    document, content = gltf(shapes, **more)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(content), 0x004E4942) + content
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


@dataclass(frozen=True)
class Fbx:
    """A node of an FBX tree to write."""

    name: str
    values: tuple[Any, ...] = ()
    children: tuple[Fbx, ...] = ()


def fbx_tree(shapes: Sequence[Shape], textures: Mapping[str, str] | None = None) -> tuple[Fbx, ...]:
    """What holds these shapes, and textures by name with the files they name."""
    things, joins = [], []
    for number, shape in enumerate(shapes):
        ends = shape.faces.copy()
        ends[:, 2] = -1 - ends[:, 2]
        vertices = Fbx("Vertices", (shape.vertices.ravel(),))
        index = Fbx("PolygonVertexIndex", (ends.ravel(),))
        things.append(Fbx("Geometry", (100 + number, f"{shape.name}\0\1Geometry", "Mesh"), (vertices, index)))
        move = Fbx("P", ("Lcl Translation", "Lcl Translation", "", "A", *map(float, shape.place)))
        things.append(
            Fbx("Model", (200 + number, f"{shape.name}\0\1Model", "Mesh"), (Fbx("Properties70", (), (move,)),))
        )
        joins += [Fbx("C", ("OO", 100 + number, 200 + number)), Fbx("C", ("OO", 200 + number, 0))]
        if shape.material:
            things.append(Fbx("Material", (300 + number, f"{shape.material}\0\1Material", "")))
            joins.append(Fbx("C", ("OO", 300 + number, 200 + number)))
    for number, (name, file) in enumerate((textures or {}).items()):
        files = (Fbx("FileName", ("C:\\art\\" + file,)), Fbx("RelativeFilename", (file,)))
        things.append(Fbx("Texture", (400 + number, f"{name}\0\1Texture", ""), files))
    return Fbx("Objects", (), tuple(things)), Fbx("Connections", (), tuple(joins))


def fbx(tree: Sequence[Fbx], version: int = 7400, *, deflated: bool = True) -> bytes:
    head = struct.Struct("<QQQB" if version >= 7500 else "<IIIB")
    end = bytes(head.size)

    def value(of: Any) -> bytes:
        match of:
            case str():
                return b"S" + struct.pack("<I", len(of.encode())) + of.encode()
            case bytes():
                return of
            case float():
                return b"D" + struct.pack("<d", of)
            case int():
                return b"L" + struct.pack("<q", of)
        code, raw = (b"d", of.astype("<f8").tobytes()) if of.dtype.kind == "f" else (b"i", of.astype("<i4").tobytes())
        packed = zlib.compress(raw) if deflated else raw
        return code + struct.pack("<III", of.size, int(deflated), len(packed)) + packed

    def node(of: Fbx, at: int) -> bytes:
        values = b"".join(map(value, of.values))
        begin = at + head.size + len(of.name)
        inner = b""
        for child in of.children:
            inner += node(child, begin + len(values) + len(inner))
        inner += end if of.children else b""
        total = begin + len(values) + len(inner)
        return head.pack(total, len(of.values), len(values), len(of.name)) + of.name.encode() + values + inner

    data = b"Kaydara FBX Binary  \0\x1a\0" + struct.pack("<I", version)
    for top in tree:
        data += node(top, len(data))
    return data + end


def fbx_text(tree: Sequence[Fbx]) -> bytes:
    def value(of: Any) -> str:
        if isinstance(of, str):
            name, _, kind = of.partition("\0\1")
            return f'"{kind}::{name}"' if kind else f'"{of}"'
        return str(of)

    def node(of: Fbx, indent: str) -> str:
        if of.values and isinstance(of.values[0], np.ndarray):
            numbers = ",".join(map(str, of.values[0].tolist()))
            return f"{indent}{of.name}: *{of.values[0].size} {{\n{indent}\ta: {numbers}\n{indent}}}\n"
        inner = "".join(node(child, indent + "\t") for child in of.children)
        said = ", ".join(map(value, of.values))
        return f"{indent}{of.name}: {said}" + (f" {{\n{inner}{indent}}}\n" if of.children else "\n")

    return ("; FBX 7.4.0 project file\n" + "".join(node(top, "") for top in tree)).encode()


def written(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def save(folder: Path, name: str, shapes: Sequence[Shape]) -> Path:
    """A model in the format of the name's extension."""
    writers = {
        ".obj": obj,
        ".stl": stl_text,
        ".glb": glb,
        ".fbx": lambda shapes: fbx(fbx_tree(shapes)),
        ".ply": lambda shapes: ply(shapes[0]),
    }
    return written(folder, name, writers[Path(name).suffix](shapes))
