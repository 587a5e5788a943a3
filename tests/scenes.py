"""Small scenes as Blender and others write them: files of Blender from a table of structs, glTF, OBJ."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STRUCTS: dict[str, Sequence[tuple[str, str]]] = {
    "Link": [("Link", "*next"), ("Link", "*prev")],
    "ListBase": [("void", "*first"), ("void", "*last")],
    "ID": [
        ("void", "*next"),
        ("void", "*prev"),
        ("ID", "*newid"),
        ("Library", "*lib"),
        ("char", "name[66]"),
        ("short", "flag"),
        ("int", "us"),
    ],
    "Library": [("ID", "id"), ("char", "name[64]")],
    "FileGlobal": [("short", "subvstr"), ("short", "subversion"), ("int", "fileflags")],
    "Object": [
        ("ID", "id"),
        ("void", "*data"),
        ("Object", "*parent"),
        ("float", "loc[3]"),
        ("float", "rot[3]"),
        ("float", "size[3]"),
        ("float", "parentinv[4][4]"),
        ("short", "rotmode"),
        ("short", "mode"),
    ],
    "Mesh": [
        ("ID", "id"),
        ("Key", "*key"),
        ("Material", "**mat"),
        ("MVert", "*mvert"),
        ("MPoly", "*mpoly"),
        ("MLoop", "*mloop"),
        ("MFace", "*mface"),
        ("int", "*poly_offset_indices"),
        ("CustomData", "vdata"),
        ("CustomData", "ldata"),
        ("AttributeStorage", "attribute_storage"),
        ("int", "totface"),
        ("int", "_pad0"),
        ("int", "totvert"),
        ("int", "totpoly"),
        ("int", "totloop"),
        ("int", "_pad"),
    ],
    "MVert": [("float", "co[3]"), ("short", "no[3]"), ("char", "flag"), ("char", "bweight")],
    "MPoly": [("int", "loopstart"), ("int", "totloop"), ("short", "mat_nr"), ("char", "flag"), ("char", "_pad")],
    "MFace": [("int", "v1"), ("int", "v2"), ("int", "v3"), ("int", "v4")],
    "CustomData": [("CustomDataLayer", "*layers"), ("int", "totlayer"), ("int", "_pad")],
    "CustomDataLayer": [("int", "type"), ("char", "name[68]"), ("void", "*data")],
    "AttributeStorage": [("Attribute", "*dna_attributes"), ("int", "dna_attributes_num"), ("int", "_pad")],
    "Attribute": [("char", "*name"), ("int", "data_type"), ("int", "_pad"), ("void", "*data")],
    "AttributeArray": [("void", "*data"), ("int", "size"), ("int", "_pad")],
    "MLoop": [("int", "v"), ("int", "e")],
    "Key": [("ID", "id"), ("ID", "*from"), ("int", "totkey"), ("int", "uidgen")],
    "Material": [("ID", "id"), ("bNodeTree", "*nodetree"), ("void", "*preview"), ("float", "r"), ("float", "g")],
    "bNodeTree": [("ID", "id"), ("Image", "*image"), ("int", "type"), ("int", "_pad")],
    "Image": [("ID", "id"), ("char", "name[64]")],
    "Collection": [("ID", "id"), ("ListBase", "gobject"), ("ListBase", "children"), ("int", "flag"), ("int", "_pad")],
    "CollectionObject": [("CollectionObject", "*next"), ("CollectionObject", "*prev"), ("Object", "*ob")],
    "CollectionChild": [("CollectionChild", "*next"), ("CollectionChild", "*prev"), ("Collection", "*collection")],
    "Scene": [
        ("ID", "id"),
        ("Collection", "*master_collection"),
        ("ListBase", "base"),
        ("int", "cfra"),
        ("int", "_pad"),
    ],
    "wmWindowManager": [("ID", "id"), ("int", "op_undo_depth"), ("int", "_pad")],
}
_PLAIN = {"char": (1, "b"), "short": (2, "h"), "int": (4, "i"), "float": (4, "f"), "void": (0, "")}
CUBE = [(x, y, z) for z in (-1.0, 1.0) for y in (-1.0, 1.0) for x in (-1.0, 1.0)]
SIDES = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]


class BlendFile:
    """A file of Blender in the making: blocks in the order in which they are added."""

    def __init__(self, *, pointer: int = 8, order: str = "<", version: int = 304, start: int = 0x10000) -> None:
        self.pointer = pointer
        self.order = order
        self.version = version
        self._address = start
        self._blocks: list[bytes] = []
        self._structs = list(STRUCTS)

    def address(self) -> int:
        """One that no block has."""
        self._address += 0x100
        return self._address

    def add(self, code: str, kind: str, *items: dict[str, Any], at: int | None = None) -> int:
        """A block with these structs; its address."""
        content = b"".join(self._struct(kind, item) for item in items)
        return self._block(code, content, self._structs.index(kind), len(items), at)

    def raw(self, content: bytes, code: str = "DATA", at: int | None = None) -> int:
        """A block without a type."""
        return self._block(code, content, 0, 1, at)

    def pointers(self, *addresses: int) -> bytes:
        return b"".join(
            address.to_bytes(self.pointer, "little" if self.order == "<" else "big") for address in addresses
        )

    def content(self) -> bytes:
        sign = "-" if self.pointer == 8 else "_"
        mark = "v" if self.order == "<" else "V"
        wide = self.version >= 500
        head = f"BLENDER17-01v{self.version:04}" if wide else f"BLENDER{sign}{mark}{self.version:03}"
        end = self._head("ENDB", 0, 0, 0, 0)
        table = self._table()
        return b"".join([head.encode(), *self._blocks, self._head("DNA1", len(table), 0, 0, 1), table, end])

    def _block(self, code: str, content: bytes, kind: int, items: int, at: int | None) -> int:
        at = self.address() if at is None else at
        self._blocks.append(self._head(code, len(content), at, kind, items) + content)
        return at

    def _head(self, code: str, size: int, address: int, kind: int, items: int) -> bytes:
        name = code.encode().rjust(4, b"\0") if self.order == ">" else code.encode().ljust(4, b"\0")
        if self.version >= 500:
            return struct.pack("<4siQqq", name, kind, address, size, items)
        return struct.pack(f"{self.order}4si{'Q' if self.pointer == 8 else 'I'}ii", name, size, address, kind, items)

    def _size(self, kind: str) -> int:
        if kind in _PLAIN:
            return _PLAIN[kind][0]
        return sum(self._extent(of, name)[0] for of, name in STRUCTS[kind])

    def _extent(self, of: str, name: str) -> tuple[int, int]:
        """Bytes, number of values."""
        count = 1
        for size in name.split("[")[1:]:
            count *= int(size.rstrip("]"))
        return (self.pointer if name.startswith("*") else self._size(of)) * count, count

    def _struct(self, kind: str, values: dict[str, Any]) -> bytes:
        out = b""
        for of, name in STRUCTS[kind]:
            size, count = self._extent(of, name)
            value = values.get(name.strip("*").split("[")[0], 0)
            if name.startswith("*"):
                out += self.pointers(value)
            elif of == "char" and count > 1:
                out += value.encode().ljust(size, b"\0") if value else bytes(size)
            elif of in _PLAIN:
                every = list(value) if isinstance(value, Sequence) else [value] * count
                out += struct.pack(f"{self.order}{count}{_PLAIN[of][1]}", *every)
            else:
                out += self._struct(of, value or {})
        return out

    def _table(self) -> bytes:
        names = sorted({name for fields in STRUCTS.values() for _, name in fields})
        types = [*_PLAIN, *STRUCTS]

        def strings(word: bytes, texts: list[str]) -> bytes:
            found = word + struct.pack(self.order + "i", len(texts)) + b"".join(t.encode() + b"\0" for t in texts)
            return found + bytes(-len(found) % 4)

        sizes = struct.pack(f"{self.order}{len(types)}H", *map(self._size, types))
        out = b"SDNA" + strings(b"NAME", names) + strings(b"TYPE", types) + b"TLEN" + sizes + bytes(-len(sizes) % 4)
        out += b"STRC" + struct.pack(self.order + "i", len(STRUCTS))
        for kind, fields in STRUCTS.items():
            pairs = [number for of, name in fields for number in (types.index(of), names.index(name))]
            out += struct.pack(f"{self.order}{2 + len(pairs)}H", types.index(kind), len(fields), *pairs)
        return out


def blend(
    *,
    objects: Sequence[str] = ("Cube", "Lamp"),
    loc: tuple[float, float, float] = (0.0, 0.0, 0.0),
    red: float = 0.5,
    top: float = 1.0,
    key: str = "",
    undo: int = 0,
    points: str = "structs",
    start: int = 0x10000,
    **kind: Any,
) -> bytes:
    """A scene: objects in a collection, all with one mesh that has a material with nodes; windows."""
    file = BlendFile(start=start, **kind)
    file.add("GLOB", "FileGlobal", {"subversion": 5}, at=16)
    file.raw(struct.pack(file.order + "ii", 2, 2) + bytes(range(16)), "TEST", at=0)
    file.add("WM", "wmWindowManager", {"id": {"name": "WMWinMan"}, "op_undo_depth": undo})
    place = {name: file.address() for name in (*objects, "mesh", "material", "collection", "key", "master")}
    child = file.address()
    file.add("SC", "Scene", {"id": {"name": "SCScene"}, "master_collection": place["master"], "cfra": 1})
    master = {"id": {"name": "GRMaster Collection"}, "children": {"first": child, "last": child}}
    file.add("DATA", "Collection", master, at=place["master"])
    file.add("DATA", "CollectionChild", {"collection": place["collection"]}, at=child)
    links = [file.address() for _ in objects]
    ends = {"first": links[0], "last": links[-1]} if links else {}
    file.add("GR", "Collection", {"id": {"name": "GRProps"}, "gobject": ends}, at=place["collection"])
    for index, name in enumerate(objects):
        around = {"next": [*links[1:], 0][index], "prev": [0, *links][index], "ob": place[name]}
        file.add("DATA", "CollectionObject", around, at=links[index])
    for index, name in enumerate(objects):
        here = loc if index == 0 else (float(index), 0.0, 0.0)
        common = {"size": (1.0, 1.0, 1.0), "rotmode": 1, "data": place["mesh"], "loc": here}
        unit = [float(i % 5 == 0) for i in range(16)]
        above = {"parent": place[objects[0]], "parentinv": unit} if index else {}
        file.add("OB", "Object", {"id": {"name": "OB" + name, "us": 1}, **common, **above}, at=place[name])
    tables = [file.address() for _ in range(9)]
    shape: dict[str, Any] = {"mat": tables[0], "mvert": tables[1], "mpoly": tables[2], "mloop": tables[3]}
    corners = [corner for side in SIDES for corner in side]
    lists = {"position": [x for point in CUBE for x in point], ".corner_vert": corners}
    if points == "faces":
        shape = {"mat": tables[0], "mvert": tables[1], "mface": tables[4], "totface": 7}
    elif points == "layers":
        shape = {"mat": tables[0], "vdata": {"layers": tables[4], "totlayer": 1}, "poly_offset_indices": tables[6]}
        shape["ldata"] = {"layers": tables[5], "totlayer": 1}
    elif points == "attributes":
        shape = {"mat": tables[0], "attribute_storage": {"dna_attributes": tables[4]}, "poly_offset_indices": tables[6]}
    totals = {"totvert": 8, "totpoly": 6, "totloop": 24, "key": place["key"] if key else 0}
    file.add("ME", "Mesh", {"id": {"name": "MECube"}, **shape, **totals}, at=place["mesh"])
    file.raw(file.pointers(place["material"]), at=tables[0])
    file.add("DATA", "MVert", *({"co": (x, y, z * top)} for x, y, z in CUBE), at=tables[1])
    file.add("DATA", "MPoly", *({"loopstart": 4 * index, "totloop": 4} for index in range(6)), at=tables[2])
    file.add("DATA", "MLoop", *({"v": corner} for side in SIDES for corner in side), at=tables[3])
    if points == "faces":
        # The last is an edge without a face.
        sides = ({f"v{1 + corner}": at for corner, at in enumerate(side)} for side in (*SIDES[1:], SIDES[0]))
        loose = {"v1": 0, "v2": 1, "v3": -1}
        file.add("DATA", "MFace", *sides, loose, at=tables[4])
    elif points != "structs":
        file.raw(struct.pack(file.order + "7i", *range(0, 25, 4)), at=tables[6])
        arrays = []
        for values, form in ((lists["position"], "f"), (lists[".corner_vert"], "i")):
            arrays.append(file.raw(struct.pack(f"{file.order}{len(values)}{form}", *values)))
        if points == "layers":
            for number, name in enumerate(lists):
                file.add("DATA", "CustomDataLayer", {"name": name, "data": arrays[number]}, at=tables[4 + number])
        else:
            names = [file.raw(name.encode() + b"\0") for name in lists]
            held = [file.add("DATA", "AttributeArray", {"data": at, "size": 1}) for at in arrays]
            both = ({"name": name, "data": at} for name, at in zip(names, held, strict=True))
            file.add("DATA", "Attribute", *both, at=tables[4])
    if key:
        file.add("KE", "Key", {"id": {"name": "KE" + key}, "from": place["mesh"], "totkey": 2}, at=place["key"])
    tree, linked, library = file.address(), file.address(), file.address()
    paint = {"id": {"name": "MAPaint"}, "nodetree": tree, "r": red}
    file.add("MA", "Material", paint, at=place["material"])
    file.add("DATA", "bNodeTree", {"id": {"name": "NTShader Nodetree"}, "image": linked, "type": 1}, at=tree)
    file.add("LI", "Library", {"id": {"name": "LIwood.blend"}, "name": "//wood.blend"}, at=library)
    file.add("ID", "ID", {"name": "IMBark", "lib": library}, at=linked)
    return file.content()


def gltf(
    *,
    red: float = 0.5,
    top: float = 1.0,
    at: Sequence[float] = (0, 0, 0),
    nodes: Sequence[str] = ("Body", "Wheel"),
    **more: Any,
) -> tuple[dict[str, Any], bytes]:
    """A car: JSON and buffer. `nodes` are the names of those in the car; each shows the mesh of its name."""
    binary = b""
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "bufferViews": [],
        "accessors": [],
        "meshes": [],
    }

    def accessor(values: Sequence[float], kind: str) -> int:
        nonlocal binary
        binary += bytes(-len(binary) % 4)
        content = struct.pack(f"<{len(values)}f", *values)
        view = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(content)}
        binary += content
        document["bufferViews"].append(view)
        count = len(values) // {"SCALAR": 1, "VEC3": 3}[kind]
        said = {"bufferView": len(document["bufferViews"]) - 1, "componentType": 5126, "count": count, "type": kind}
        document["accessors"].append(said)
        return len(document["accessors"]) - 1

    for index, name in enumerate(nodes):
        points = [0.0, 0.0, float(index), 1.0, 0.0, 0.0, 0.0, top if index == 0 else 1.0, 0.0]
        primitive = {"attributes": {"POSITION": accessor(points, "VEC3")}, "material": 0}
        document["meshes"].append({"name": name, "primitives": [primitive]})
    document["nodes"] = [{"name": "Car", "children": list(range(1, len(nodes) + 1)), "translation": list(at)}]
    document["nodes"] += [{"name": name, "mesh": index} for index, name in enumerate(nodes)]
    document["scenes"] = [{"name": "Street", "nodes": [0]}]
    texture = {"baseColorTexture": {"index": 0}, "baseColorFactor": [red, 0, 0, 1]}
    document["materials"] = [{"name": "Paint", "pbrMetallicRoughness": texture}]
    document["textures"] = [{"source": 0, "sampler": 0}]
    document["samplers"] = [{"wrapS": 33071}]
    binary += bytes(-len(binary) % 4)
    picture = b"\x89PNG\r\n\x1a\n not really one"
    document["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(picture)})
    document["images"] = [{"name": "Rust", "mimeType": "image/png", "bufferView": len(document["bufferViews"]) - 1}]
    binary += picture
    times, moves = accessor([0.0, 1.0], "SCALAR"), accessor([0.0] * 3 + [1.0] * 3, "VEC3")
    target = {"node": 1 if nodes else 0, "path": "translation"}
    channel = {"sampler": 0, "target": target}
    document["animations"] = [
        {"name": "Drive", "samplers": [{"input": times, "output": moves}], "channels": [channel]},
    ]
    document["buffers"] = [{"byteLength": len(binary)}]
    return document | more, binary


def glb(document: dict[str, Any], binary: bytes) -> bytes:
    """As a GLB."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def written(path: Path, content: bytes) -> Path:
    """The file."""
    path.write_bytes(content)
    return path
