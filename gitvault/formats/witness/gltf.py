"""What is in a glTF file, read a second time: by where in the JSON a number stands, whatever thing it is in."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT

_MEANS = {
    "node": r"/animations/\d+/channels/\d+/target/node|/skins/\d+/(joints/\d+|skeleton)",
    "mesh": r"/nodes/\d+/mesh",
    "skin": r"/nodes/\d+/skin",
    "camera": r"/nodes/\d+/camera",
    "light": r"/nodes/\d+/extensions/KHR_lights_punctual/light",
    "material": r"/meshes/\d+/primitives/\d+/(extensions/KHR_materials_variants/mappings/\d+/)?material",
    "variant": r"/meshes/\d+/primitives/\d+/extensions/KHR_materials_variants/mappings/\d+/variants/\d+",
    "image": r"/textures/\d+/(extensions/\w+/)?source",
    "texture": r"/materials/\d+/(.+/)?\w*Texture/index",
    "sampler": r"/textures/\d+/sampler",
    "values": r"/meshes/\d+/primitives/\d+/(attributes/[^/]+|indices|targets/\d+/[^/]+)|/skins/\d+/inverseBindMatrices"
    r"|/nodes/\d+/extensions/EXT_mesh_gpu_instancing/attributes/[^/]+|/animations/\d+/samplers/\d+/(input|output)",
    "bytes": r"/images/\d+/bufferView|/meshes/\d+/primitives/\d+/extensions/KHR_draco_mesh_compression/bufferView",
}
_MEANING = re.compile("|".join(f"(?P<{meaning}>{where})" for meaning, where in _MEANS.items()))
_LISTS = {
    "scene": "scenes", "mesh": "meshes", "material": "materials", "image": "images", "animation": "animations",
    "skin": "skins", "camera": "cameras",
}  # fmt: skip
_WIDTH = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def witness(path: Path) -> dict[str, str]:
    """Hash by element's id. Raises UnsupportedMedia, OSError."""
    try:
        return _Second(path).hashes()
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise UnsupportedMedia(f"{path.name}: not read as glTF: {error!r}; its bytes are saved") from error


class _Second:
    def __init__(self, path: Path) -> None:
        whole = path.read_bytes()
        text = whole
        self._own = memoryview(b"")
        if whole.startswith(b"glTF"):
            first = int.from_bytes(whole[12:16], "little")
            text = whole[20 : 20 + first]
            second = 20 + first
            if whole[second + 4 : second + 8] == b"BIN\0":
                size = int.from_bytes(whole[second : second + 4], "little")
                self._own = memoryview(whole)[second + 8 : second + 8 + size]
        self._path = path
        self._tree = json.loads(text)
        self._opened: dict[int, memoryview] = {}
        self._named: dict[tuple[str, int], str] = {}

    def hashes(self) -> dict[str, str]:
        tree = self._tree
        more = tree.get("extensions", {})
        lists = {word: tree.get(plural, []) for word, plural in _LISTS.items()}
        lists["light"] = more.get("KHR_lights_punctual", {}).get("lights", [])
        lists["variant"] = more.get("KHR_materials_variants", {}).get("variants", [])
        for word, things in lists.items():
            seen = Counter[str]()
            for index, thing in enumerate(things):
                self._named[word, index] = _once(f"{word}/{_called(thing, index)}", seen)
        self._name_nodes(tree.get("nodes", []))
        lists["node"] = tree.get("nodes", [])
        found = {}
        for (word, index), name in self._named.items():
            dropped = {"node": ("name", "children"), "scene": ("name", "nodes")}.get(word, ("name",))
            thing = {key: value for key, value in lists[word][index].items() if key not in dropped}
            found[name] = _sealed(self._meant(f"/{_LISTS.get(word, word + 's')}/{index}", thing))
        found[DOCUMENT] = _sealed([tree["asset"], tree.get("scene")])
        return found

    def _name_nodes(self, nodes: list[Any]) -> None:
        above: dict[int, tuple[int, int]] = {}
        for index, node in enumerate(nodes):
            for place, child in enumerate(node.get("children", [])):
                above.setdefault(child, (index, place))
        level = [(index, index, "node") for index in range(len(nodes)) if index not in above]
        seen = Counter[str]()
        while level:
            below = []
            for index, place, prefix in level:
                name = _once(f"{prefix}/{_called(nodes[index], place)}", seen)
                self._named["node", index] = name
                for child in dict.fromkeys(nodes[index].get("children", [])):
                    if above[child][0] == index:
                        below.append((child, above[child][1], name))
            level = below
        if sum(word == "node" for word, _ in self._named) != len(nodes):
            raise ValueError("a node is inside itself")

    def _meant(self, where: str, value: Any) -> Any:
        """The value with what its numbers mean."""
        if isinstance(value, dict):
            return {key: self._meant(f"{where}/{key}", inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._meant(f"{where}/{index}", inner) for index, inner in enumerate(value)]
        match = isinstance(value, int) and _MEANING.fullmatch(where)
        if not match:
            return value
        meaning = next(word for word in _MEANS if match.group(word) is not None)
        if meaning == "values":
            return self._values(self._tree["accessors"][value])
        if meaning == "bytes":
            return hashlib.sha256(self._part(value)).hexdigest()
        if meaning in ("texture", "sampler"):
            return self._meant(f"/{meaning}s/{value}", self._tree[meaning + "s"][value])
        return self._named[meaning, value]

    def _values(self, accessor: dict[str, Any]) -> Any:
        about = [accessor.get(key) for key in ("componentType", "type", "count", "normalized", "min", "max")]
        seal = hashlib.sha256()
        if "bufferView" in accessor:
            part, start = self._part(accessor["bufferView"]), accessor.get("byteOffset", 0)
            said = self._tree["bufferViews"][accessor["bufferView"]]
            width = _WIDTH[accessor["componentType"]] * _COLUMNS[accessor["type"]]
            if "EXT_meshopt_compression" in said.get("extensions", {}):
                seal.update(part)
                about.append(start)
            elif said.get("byteStride", width) == width:
                seal.update(part[start : start + width * accessor["count"]])
            else:
                for at in range(start, start + said["byteStride"] * accessor["count"], said["byteStride"]):
                    seal.update(part[at : at + width])
        for name, inner in sorted(accessor.get("sparse", {}).items()):
            if isinstance(inner, dict):
                about.append(name)
                seal.update(self._part(inner["bufferView"])[inner.get("byteOffset", 0) :])
        return [*about, seal.hexdigest()]

    def _part(self, number: int) -> memoryview:
        said = self._tree["bufferViews"][number]
        said = said.get("extensions", {}).get("EXT_meshopt_compression", said)
        whole, start = self._whole(said["buffer"]), said.get("byteOffset", 0)
        if start + said["byteLength"] > len(whole):
            raise ValueError("a buffer is too short")
        return whole[start : start + said["byteLength"]]

    def _whole(self, number: int) -> memoryview:
        if number not in self._opened:
            uri = self._tree["buffers"][number].get("uri")
            if uri is None:
                self._opened[number] = self._own
            elif uri.startswith("data:"):
                self._opened[number] = memoryview(b64decode(uri.split(",", 1)[1]))
            else:
                self._opened[number] = memoryview((self._path.parent / unquote(uri)).read_bytes())
        return self._opened[number]


def _called(thing: dict[str, Any], index: int) -> str:
    if thing.get("name"):
        return str(thing["name"])
    uri = thing.get("uri")
    return f"#{index}" if not uri or uri.startswith("data:") else str(uri)


def _once(name: str, seen: Counter[str]) -> str:
    """The name, numbered when others have it."""
    candidates = (name if number == 1 else f"{name}#{number}" for number in count(1))
    free = next(candidate for candidate in candidates if not seen[candidate])
    seen[free] += 1
    return free


def _sealed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
