"""glTF and GLB as JSON with buffers: what is in them by name, with a hash of all that makes it what it is.

Things refer to each other by number. `places` is the one list of where such numbers are: by it a thing is hashed with
names for numbers, and moved into another file with other numbers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element

LIMIT: Final = 4 << 30
"""Bytes of a file, or of a buffer beside it, that are read."""
KINDS: Final = {
    "scenes": "scene",
    "nodes": "node",
    "meshes": "mesh",
    "materials": "material",
    "images": "image",
    "animations": "animation",
    "skins": "skin",
    "cameras": "camera",
    "lights": "light",
    "variants": "variant",
}
"""What is an element, by the list it is in. Textures, samplers and accessors count as part of who uses them."""
_DEEPEST = 500
_IN_EXTENSION = {"lights": "KHR_lights_punctual", "variants": "KHR_materials_variants"}
_SIZES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_PARTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


class Place(NamedTuple):
    """Where a number stands that means a thing of the list `of`: `holder[key]`."""

    holder: Any
    key: Any
    of: str


class Gltf:
    """A file; see `read`. Its JSON is not to be changed."""

    def __init__(self, path: Path, document: dict[str, Any], binary: bytes | None) -> None:
        self.path: Final = path
        self.json: Final = document
        self.binary: Final = binary
        """The buffer in a GLB; None when it has none."""
        self._buffers: dict[int, bytes] = {}

    def all(self, kind: str) -> list[Any]:
        """All things of a kind, by number. Raises ValueError when the file says nonsense there."""
        found = things(self.json, kind)
        if not isinstance(found, list) or not all(isinstance(thing, dict) for thing in found):
            raise ValueError(f"its {kind} are no list")
        return found

    def thing(self, kind: str, number: Any) -> Any:
        """A thing by its number. Raises ValueError for one that is not there."""
        found = self.all(kind)
        if not isinstance(number, int) or not 0 <= number < len(found):
            raise ValueError(f"something refers to number {number} of its {len(found)} {kind}")
        return found[number]

    def buffer(self, number: int) -> bytes:
        """A buffer's bytes. Raises ValueError, OSError."""
        if number not in self._buffers:
            said = self.thing("buffers", number)
            uri = said.get("uri")
            if uri is None:
                content = self.binary if number == 0 and self.binary is not None else b""
            elif uri.startswith("data:"):
                try:
                    content = base64.b64decode(uri.partition(",")[2], validate=True)
                except binascii.Error as error:
                    raise ValueError(f"buffer {number}: {error}") from error
            else:
                content = _beside(self.path, uri)
            if len(content) < said.get("byteLength", 0):
                raise ValueError(f"buffer {number} has {len(content)} bytes of {said['byteLength']}")
            self._buffers[number] = content
        return self._buffers[number]

    def view(self, number: int) -> bytes:
        """A buffer view's bytes, compressed or not as they lie there. Raises ValueError, OSError."""
        view = self.thing("bufferViews", number)
        packed = view.get("extensions", {}).get("EXT_meshopt_compression")
        where = packed or view
        offset, size = where.get("byteOffset", 0), where.get("byteLength", 0)
        content = self.buffer(where.get("buffer", -1))
        if offset < 0 or size < 0 or offset + size > len(content):
            raise ValueError(f"buffer view {number} goes beyond its buffer")
        return content[offset : offset + size]

    @cached_property
    def parents(self) -> dict[int, int]:
        """Each node's parent, by numbers. Raises ValueError for a node that is inside itself."""
        found: dict[int, int] = {}
        for number, node in enumerate(self.all("nodes")):
            for child in node.get("children", ()):
                self.thing("nodes", child)
                found.setdefault(child, number)
        for start in range(len(self.all("nodes"))):
            at, steps = start, 0
            while at in found:
                at, steps = found[at], steps + 1
                if steps > _DEEPEST:
                    raise ValueError("a node is inside itself, or too deep")
        return found

    @cached_property
    def ids(self) -> dict[tuple[str, int], str]:
        """The element's id of each thing that is one, by list and number: `mesh/Fox`, `node/Rig/Hand`, `mesh/#3`.

        A name that repeats gets a number, `mesh/Fox#2`; what has no name is its place in the list.
        """
        found: dict[tuple[str, int], str] = {}
        for kind, word in KINDS.items():
            taken: set[str] = set()
            if kind == "nodes":
                continue
            for number, thing in enumerate(self.all(kind)):
                found[kind, number] = _unused(f"{word}/{label(thing, number)}", taken)
        taken = set()
        for number in self._nodes_from_the_roots():
            parent = self.parents.get(number)
            above = "node" if parent is None else found["nodes", parent]
            siblings = number if parent is None else self.all("nodes")[parent]["children"].index(number)
            found["nodes", number] = _unused(f"{above}/{label(self.all('nodes')[number], siblings)}", taken)
        return found

    def _nodes_from_the_roots(self) -> list[int]:
        order = [number for number in range(len(self.all("nodes"))) if number not in self.parents]
        for number in order:
            children = self.all("nodes")[number].get("children", ())
            order.extend(child for child in dict.fromkeys(children) if self.parents.get(child) == number)
        return order

    def hash(self, kind: str, number: int) -> str:
        """SHA-256 (hex) of a thing: its JSON with names for numbers, and the bytes it uses. Raises ValueError."""
        thing = dict(self.thing(kind, number))
        thing.pop("name", None)
        # Members are elements themselves.
        thing.pop("children", None)
        if kind == "scenes":
            thing.pop("nodes", None)
        text = json.dumps(self._spelled(kind, thing), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def _spelled(self, kind: str, thing: Any) -> Any:
        """A copy with what numbers mean in their stead."""
        copy = json.loads(json.dumps(thing))
        for holder, key, of in places(kind, copy):
            number = holder[key]
            self.thing(of, number)
            if of in KINDS:
                holder[key] = self.ids[of, number]
            elif of == "accessors":
                holder[key] = self._values(number)
            elif of == "bufferViews":
                holder[key] = hashlib.sha256(self.view(number)).hexdigest()
            else:
                holder[key] = self._spelled(of, self.thing(of, number))
        return copy

    def _values(self, number: int) -> Any:
        """An accessor's description with a hash of its values."""
        said = {key: value for key, value in self.thing("accessors", number).items() if key != "name"}
        view, offset = said.pop("bufferView", None), said.pop("byteOffset", 0)
        sparse = said.get("sparse")
        if sparse:
            parts = ((part, sparse.get(part, {})) for part in ("indices", "values"))
            said["sparse"] = {
                "count": sparse.get("count"),
                **{name: [part.get("componentType"), self._digest(part)] for name, part in parts},
            }
        if view is None:
            return said
        content = self.view(view)
        about = self.thing("bufferViews", view)
        if "EXT_meshopt_compression" in about.get("extensions", {}):
            said["packed"] = [about["extensions"]["EXT_meshopt_compression"].get("mode"), offset]
            said["values"] = hashlib.sha256(content).hexdigest()
            return said
        size = _SIZES.get(said.get("componentType", 0), 0) * _PARTS.get(said.get("type", ""), 0)
        count, step = said.get("count", 0), about.get("byteStride") or size
        if not size or count < 1 or step < size or offset < 0 or offset + (count - 1) * step + size > len(content):
            raise ValueError(f"accessor {number} goes beyond its buffer view, or is of no known type")
        if step == size:
            values = content[offset : offset + count * size]
        else:
            values = b"".join(content[at : at + size] for at in range(offset, offset + count * step, step))
        said["values"] = hashlib.sha256(values).hexdigest()
        return said

    def _digest(self, part: Mapping[str, Any]) -> str:
        return hashlib.sha256(self.view(part.get("bufferView", -1))[part.get("byteOffset", 0) :]).hexdigest()


def read(path: Path) -> Gltf:
    """A glTF or GLB file. Raises UnsupportedMedia when it is none, is damaged or too large; OSError."""
    with open(path, "rb") as file:
        content = file.read(LIMIT + 1)
    try:
        if len(content) > LIMIT:
            raise ValueError(f"it has more than {LIMIT >> 30} GiB")
        text, binary = _chunks(content) if content[:4] == b"glTF" else (content, None)
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
            raise ValueError("it has no asset")
        if not str(document["asset"].get("version", "")).startswith("2."):
            raise ValueError(f"it is of version {document['asset'].get('version')}, not 2")
    except (ValueError, struct.error, RecursionError) as error:
        raise refusal(path, error) from error
    return Gltf(path, document, binary)


def refusal(path: Path, error: Exception) -> UnsupportedMedia:
    """What is said of a file that contradicts itself."""
    return UnsupportedMedia(f"{path.name}: not read as glTF: {error}; its bytes are saved")


def elements(path: Path) -> list[Element]:
    """Scenes, nodes, meshes ... of a file; a node is inside its parent or scene. Raises UnsupportedMedia, OSError."""
    gltf = read(path)
    try:
        inside: dict[int, str] = {}
        for number, scene in enumerate(gltf.all("scenes")):
            for node in scene.get("nodes", ()):
                inside.setdefault(node, gltf.ids["scenes", number])
        found = []
        for (kind, number), name in gltf.ids.items():
            parent = None
            if kind == "nodes":
                above = gltf.parents.get(number)
                parent = inside.get(number) if above is None else gltf.ids["nodes", above]
            shown = label(gltf.all(kind)[number], number)
            found.append(Element(name, shown, KINDS[kind], parent, gltf.hash(kind, number)))
        return found
    # What is of another type than it can be shows as one of these.
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise refusal(path, error) from error


def things(document: Mapping[str, Any], kind: str) -> Any:
    """A list of the document; an empty one where it has none."""
    if kind in _IN_EXTENSION:
        return document.get("extensions", {}).get(_IN_EXTENSION[kind], {}).get(kind, [])
    return document.get(kind, [])


def things_to_fill(document: dict[str, Any], kind: str) -> Any:
    """A list of the document, made when it has none."""
    if kind in _IN_EXTENSION:
        name = _IN_EXTENSION[kind]
        document = document.setdefault("extensions", {}).setdefault(name, {})
    return document.setdefault(kind, [])


def label(thing: Mapping[str, Any], number: int) -> str:
    """What people call it: its name, an image's file, else its number."""
    uri = thing.get("uri", "")
    return str(thing.get("name") or (uri if uri and not uri.startswith("data:") else f"#{number}"))


def places(kind: str, thing: Any) -> Iterator[Place]:
    """Where a thing of this kind refers to others by number."""
    more = thing.get("extensions", {})
    if kind == "scenes":
        yield from _each(thing.get("nodes"), "nodes")
    elif kind == "nodes":
        yield from _one(thing, mesh="meshes", skin="skins", camera="cameras")
        yield from _each(thing.get("children"), "nodes")
        yield from _one(more.get("KHR_lights_punctual", {}), light="lights")
        yield from _all(more.get("EXT_mesh_gpu_instancing", {}).get("attributes"), "accessors")
    elif kind == "meshes":
        for primitive in thing.get("primitives", ()):
            yield from _all(primitive.get("attributes"), "accessors")
            yield from _one(primitive, indices="accessors", material="materials")
            for target in primitive.get("targets", ()):
                yield from _all(target, "accessors")
            inner = primitive.get("extensions", {})
            yield from _one(inner.get("KHR_draco_mesh_compression", {}), bufferView="bufferViews")
            for mapping in inner.get("KHR_materials_variants", {}).get("mappings", ()):
                yield from _one(mapping, material="materials")
                yield from _each(mapping.get("variants"), "variants")
    elif kind == "materials":
        yield from _textures(thing)
    elif kind == "textures":
        yield from _one(thing, source="images", sampler="samplers")
        for name in ("KHR_texture_basisu", "EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds"):
            yield from _one(more.get(name, {}), source="images")
    elif kind == "images":
        yield from _one(thing, bufferView="bufferViews")
    elif kind == "skins":
        yield from _one(thing, inverseBindMatrices="accessors", skeleton="nodes")
        yield from _each(thing.get("joints"), "nodes")
    elif kind == "animations":
        for sampler in thing.get("samplers", ()):
            yield from _one(sampler, input="accessors", output="accessors")
        for channel in thing.get("channels", ()):
            yield from _one(channel.get("target", {}), node="nodes")
    elif kind == "accessors":
        yield from _one(thing, bufferView="bufferViews")
        for part in ("indices", "values"):
            yield from _one(thing.get("sparse", {}).get(part, {}), bufferView="bufferViews")


def _one(holder: Any, **fields: str) -> Iterator[Place]:
    return (Place(holder, key, of) for key, of in fields.items() if key in holder)


def _each(numbers: Any, of: str) -> Iterator[Place]:
    return (Place(numbers, index, of) for index in range(len(numbers or ())))


def _all(numbers: Any, of: str) -> Iterator[Place]:
    return (Place(numbers, key, of) for key in numbers or ())


def _textures(thing: Any) -> Iterator[Place]:
    """Textures of a material, those of its extensions too: `baseColorTexture` and its like have an `index`."""
    for key, value in thing.items():
        if isinstance(value, dict):
            if key.endswith("Texture") and "index" in value:
                yield Place(value, "index", "textures")
            yield from _textures(value)


def _unused(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    taken.add(free)
    return free


def _chunks(content: bytes) -> tuple[bytes, bytes | None]:
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2 or length > len(content):
        raise ValueError("it ends in the middle" if version == 2 else f"it is of version {version}, not 2")
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<I4s", content, at)
        if at + 8 + size > length:
            raise ValueError("it ends in the middle")
        found.setdefault(kind, content[at + 8 : at + 8 + size])
        at += 8 + size
    if b"JSON" not in found:
        raise ValueError("it has no JSON")
    return found[b"JSON"], found.get(b"BIN\0")


def _beside(path: Path, uri: str) -> bytes:
    """A buffer in a file of its own, beside the file that names it."""
    name = unquote(uri)
    file = path.parent / name
    if ":" in name or Path(name).is_absolute() or not file.is_file():
        raise ValueError(f"its buffer {uri} is not there")
    with open(file, "rb") as opened:
        content = opened.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"its buffer {uri} has more than {LIMIT >> 30} GiB")
    return content
