"""One thing of a glTF file, from an older version into the current one, and out into a file of its own.

The current file's buffers stay as they are, byte for byte, and so do its lists: what comes is written in its place or
after all others, with the bytes it uses at the end of the GLB's buffer, or in a new one. What it replaces leaves its
bytes behind: taking them out would move all others.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats.scene.gltf import KINDS, Gltf, places, read, refusal, things_to_fill

_KNOWN: Final = (
    *("KHR_lights_punctual", "EXT_mesh_gpu_instancing", "KHR_draco_mesh_compression", "KHR_mesh_quantization"),
    *("KHR_texture_transform", "KHR_texture_basisu", "EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds"),
    "KHR_node_visibility",
)
"""Extensions of which it is known where they refer to others by number."""
_NUMBERED = re.compile(r"#\d+$")
"""Ids of what is told from others by its place."""
_WRONG = (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError)
"""What a file that contradicts itself shows as."""


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """The current file with the old file's element, and all that is inside it, as they were.

    What it refers to and the current file has stays the current one, the rest comes along. Raises NotFoundError,
    UnsupportedMedia when it cannot be done and for files that cannot be read; OSError.
    """
    before, now = read(old), read(current)
    try:
        kind, number = _find(before, element)
        if kind == "scenes":
            raise UnsupportedMedia(f"{element}: holds others, and with an older one newer ones would go; restore those")
        graft = _Graft(before, now)
        graft.put(kind, number)
        output.write_bytes(graft.file(indent=_indent(current)))
    except _WRONG as error:
        raise refusal(old, error) from error


def extract(path: Path, element: str, output: Path) -> None:
    """An image as its own file; anything else as a GLB with all that it needs. Raises as `splice`."""
    before = read(path)
    try:
        kind, number = _find(before, element)
        if kind == "images":
            output.write_bytes(_image(before, number))
            return
        if kind == "scenes":
            raise UnsupportedMedia(f"{element}: cannot stand in a file of its own; take what is in it")
        asset = {"version": "2.0", "generator": "gitvault"}
        graft = _Graft(before, Gltf(path, {"asset": asset, "scenes": [{}], "scene": 0}, b""), anew=True)
        put = graft.put(kind, number)
        if kind in ("meshes", "cameras"):
            graft.show({KINDS[kind]: put, "name": before.all(kind)[number].get("name", "")})
        output.write_bytes(graft.file(indent=None))
    except _WRONG as error:
        raise refusal(path, error) from error


def _find(gltf: Gltf, element: str) -> tuple[str, int]:
    for where, name in gltf.ids.items():
        if name == element:
            return where
    raise NotFoundError(f"{gltf.path.name}: has no {element}; git-vault elements list names what it has")


def _image(gltf: Gltf, number: int) -> bytes:
    image = gltf.all("images")[number]
    if "bufferView" in image:
        return gltf.view(image["bufferView"])
    uri = image.get("uri", "")
    if not uri.startswith("data:"):
        raise UnsupportedMedia(f"{gltf.path.name}: its image {uri} is a file of its own")
    return base64.b64decode(uri.partition(",")[2])


def _indent(path: Path) -> str | None:
    """How the lines of a glTF file are indented; None when it is one line."""
    with open(path, "rb") as file:
        lines = file.read(4096).split(b"\n")
    if len(lines) < 2 or lines[0][:4] == b"glTF":
        return None
    return lines[1][: len(lines[1]) - len(lines[1].lstrip(b" \t"))].decode()


class _Graft:
    """Things of one file on their way into another."""

    def __init__(self, before: Gltf, now: Gltf, *, anew: bool = False) -> None:
        self._before = before
        self._now = now
        self._anew = anew
        """Whether it is a file that begins with this, and numbers mean nothing yet."""
        self._json: dict[str, Any] = copy.deepcopy(now.json)
        self._there = {name: where for where, name in now.ids.items()}
        self._numbered = {name: where for where, name in now.ids.items() if _NUMBERED.search(name)}
        self._new: dict[tuple[str, int], int] = {}
        """Number in the current file of what comes from the old one, by its list and number there."""
        self._added: list[int] = []
        """Nodes of the old file that the current one does not have."""
        self._bytes = bytearray()
        self._buffer: int | None = None
        self._whole: set[int] = set()
        """Nodes of the old file that are wanted with all below them."""

    def put(self, kind: str, number: int) -> int:
        """The thing, in the place it has in the current file, else after all others of its kind; its number there."""
        self._require_known(kind, number)
        if kind == "nodes":
            self._whole = self._below(self._before, number)
            self._take_out(number)
        there = self._there.get(self._before.ids[kind, number])
        self._new[kind, number] = self._slot(kind, number) if there is None else there[1]
        if kind == "nodes":
            for below in sorted(self._whole - {number}):
                self._number("nodes", below)
        self._fill(kind, number)
        for node in self._added:
            self._join(node)
        return self._new[kind, number]

    def show(self, node: dict[str, Any]) -> None:
        """A node in the scene."""
        self._json.setdefault("nodes", []).append(node)
        self._json["scenes"][0].setdefault("nodes", []).append(len(self._json["nodes"]) - 1)

    def _slot(self, kind: str, number: int) -> int:
        """A new place in the current file's list."""
        things = things_to_fill(self._json, kind)
        if kind in KINDS and kind != "nodes":
            name = self._before.ids[kind, number]
            if not self._anew and "/#" in name and name != f"{KINDS[kind]}/#{len(things)}":
                raise UnsupportedMedia(f"{name}: has no name, and its place in the current file is another's or none")
        things.append({})
        if kind == "nodes":
            self._added.append(number)
        return len(things) - 1

    def _number(self, kind: str, number: int) -> int:
        """What stands for a thing of the old file in the current one; it comes along where nothing does."""
        if (kind, number) in self._new:
            return self._new[kind, number]
        there = self._there.get(self._before.ids[kind, number]) if kind in KINDS else None
        inside = kind == "nodes" and number in self._whole
        if there is not None and not inside:
            name = self._before.ids[kind, number]
            if name in self._numbered and self._now.hash(*self._numbered[name]) != self._before.hash(kind, number):
                raise UnsupportedMedia(f"{name}: has no name of its own, and is another in the current file")
            self._new[kind, number] = there[1]
            return there[1]
        self._require_known(kind, number)
        self._new[kind, number] = there[1] if there is not None else self._slot(kind, number)
        self._fill(kind, number)
        return self._new[kind, number]

    def _fill(self, kind: str, number: int) -> None:
        """Write a thing where it belongs, with the numbers that things have in the current file."""
        thing = copy.deepcopy(self._before.thing(kind, number))
        if kind == "bufferViews":
            self._carry(thing, number)
        if kind == "nodes":
            if number not in self._whole:
                thing.pop("children", None)
            above = self._before.parents.get(number)
            if above is not None:
                self._number("nodes", above)
        for holder, key, of in list(places(kind, thing)):
            holder[key] = self._number(of, holder[key])
        things_to_fill(self._json, kind)[self._new[kind, number]] = thing
        used = (self._before.json.get("extensionsUsed", ()), "extensionsUsed")
        required = (self._before.json.get("extensionsRequired", ()), "extensionsRequired")
        for said, key in (used, required):
            for name in sorted(_extensions(thing) & set(said)):
                if name not in self._json.setdefault(key, []):
                    self._json[key].append(name)

    def _carry(self, view: dict[str, Any], number: int) -> None:
        """The bytes of a buffer view, to the end of the buffer that takes what is new."""
        content = self._before.view(number)
        self._bytes += bytes(-(self._start + len(self._bytes)) % 8)
        view["buffer"] = self._target
        view["byteOffset"] = self._start + len(self._bytes)
        self._bytes += content

    @property
    def _start(self) -> int:
        """Bytes of the buffer before what is new."""
        return len(self._now.binary or b"") if self._in_place else 0

    @property
    def _in_place(self) -> bool:
        """Whether what is new goes into the GLB's own buffer."""
        if self._now.binary is None:
            return False
        buffers = self._now.json.get("buffers", ())
        return not buffers or "uri" not in buffers[0]

    @property
    def _target(self) -> int:
        """The number of the buffer that takes what is new."""
        if self._buffer is None:
            buffers = self._json.setdefault("buffers", [])
            if self._in_place and buffers:
                self._buffer = 0
            else:
                self._buffer = len(buffers)
                buffers.append({"byteLength": 0})
        return self._buffer

    def _require_known(self, kind: str, number: int) -> None:
        unknown = {
            name
            for name in _extensions(self._before.thing(kind, number))
            if name not in _KNOWN and not name.startswith("KHR_materials_")
        }
        if unknown:
            names = ", ".join(sorted(unknown))
            raise UnsupportedMedia(f"{self._before.path.name}: has {names}, and what that refers to is not known")

    def _below(self, gltf: Gltf, number: int) -> set[int]:
        found, waiting = {number}, [number]
        while waiting:
            for child in gltf.thing("nodes", waiting.pop()).get("children", ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def _take_out(self, number: int) -> None:
        """Remove from the current file what is below the node now and was not then."""
        there = self._there.get(self._before.ids["nodes", number])
        if there is None:
            return
        wanted = {self._before.ids["nodes", node] for node in self._whole}
        gone = {node for node in self._below(self._now, there[1]) if self._now.ids["nodes", node] not in wanted}
        if not gone:
            return
        for (kind, user), name in self._now.ids.items():
            if kind in ("skins", "animations"):
                used = {holder[key] for holder, key, of in places(kind, self._now.all(kind)[user]) if of == "nodes"}
                if used & gone:
                    moved = self._now.ids["nodes", min(used & gone)]
                    raise UnsupportedMedia(f"{moved} was not there then and would go, but {name} needs it")
        nodes = self._json["nodes"]
        kept = [node for node in range(len(nodes)) if node not in gone]
        to = {node: index for index, node in enumerate(kept)}
        for node in nodes:
            if "children" in node:
                node["children"] = [child for child in node["children"] if child not in gone]
        for scene in self._json.get("scenes", ()):
            if "nodes" in scene:
                scene["nodes"] = [node for node in scene["nodes"] if node not in gone]
        self._json["nodes"] = [nodes[node] for node in kept]
        for kind in ("scenes", "nodes", "skins", "animations"):
            for thing in self._json.get(kind, ()):
                for holder, key, of in list(places(kind, thing)):
                    if of == "nodes":
                        holder[key] = to[holder[key]]
        self._there = {
            name: (kind, to[index] if kind == "nodes" else index)
            for name, (kind, index) in self._there.items()
            if kind != "nodes" or index in to
        }

    def _join(self, number: int) -> None:
        """Give a node that was not there its place below its parent, or in its scene."""
        mine = self._new["nodes", number]
        above = self._before.parents.get(number)
        if above is not None:
            members = self._json["nodes"][self._new["nodes", above]].setdefault("children", [])
            then = self._before.all("nodes")[above]["children"]
        else:
            scenes = self._before.all("scenes")
            held = next((index for index, scene in enumerate(scenes) if number in scene.get("nodes", ())), None)
            if held is None or not self._json.get("scenes"):
                return
            there = self._there.get(self._before.ids["scenes", held], ("scenes", self._json.get("scene", 0)))
            members = self._json["scenes"][there[1]].setdefault("nodes", [])
            then = scenes[held]["nodes"]
        if mine not in members:
            members.insert(self._position(then, number, members), mine)

    def _position(self, then: list[int], number: int, members: list[int]) -> int:
        """After the nearest node before it that is there now, too."""
        for earlier in reversed(then[: then.index(number)]):
            there = self._new.get(("nodes", earlier))
            known = self._there.get(self._before.ids["nodes", earlier])
            for candidate in (there, known and known[1]):
                if candidate in members:
                    return members.index(candidate) + 1
        return 0 if then.index(number) == 0 else len(members)

    def file(self, *, indent: str | None) -> bytes:
        """The current file as it is now, of its kind."""
        binary = self._now.binary
        if self._buffer is not None:
            buffer = self._json["buffers"][self._buffer]
            if self._in_place:
                binary = (binary or b"") + bytes(self._bytes)
                buffer["byteLength"] = len(binary)
            else:
                buffer["byteLength"] = len(self._bytes)
                buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(self._bytes).decode()
        separators = (",", ":") if indent is None else (",", ": ")
        text = json.dumps(self._json, ensure_ascii=False, indent=indent, separators=separators)
        content = text.encode("utf-8", "surrogatepass")
        if binary is None and not self._is_glb():
            return content + (b"\n" if indent is not None else b"")
        content += b" " * (-len(content) % 4)
        chunks = struct.pack("<I4s", len(content), b"JSON") + content
        if binary:
            binary += bytes(-len(binary) % 4)
            chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def _is_glb(self) -> bool:
        with open(self._now.path, "rb") as file:
            return file.read(4) == b"glTF"


def _extensions(thing: Any) -> set[str]:
    """The names of all extensions within a thing."""
    found: set[str] = set()
    values: Iterable[Any] = thing if isinstance(thing, list) else ()
    if isinstance(thing, dict):
        values = thing.values()
        if isinstance(thing.get("extensions"), dict):
            found |= set(thing["extensions"])
    for value in values:
        found |= _extensions(value)
    return found
