"""FBX scenes, binary and as text: the tree of nodes, the objects in it, the files they name. Versions 6 and 7."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element

MAGIC = b"Kaydara FBX Binary  \0"
_DEPTH = 64
_BYTES = 4 << 30
_UNPACKED = 2 << 30
"""Bytes of all arrays: of the 4,000,000 triangles that are compared a tenth of it."""
_ARRAYS = {b"f": "f", b"d": "d", b"i": "i", b"l": "q", b"b": "B", b"c": "B"}
_SCALARS = {b"Y": "<h", b"C": "<B", b"B": "<B", b"I": "<i", b"F": "<f", b"D": "<d", b"L": "<q"}


class Text(str):
    """Text of the file, and which of its bytes it is, without length or quotes."""

    __slots__ = ("start", "stop")
    start: int
    stop: int

    @classmethod
    def at(cls, data: bytes, start: int, stop: int, *, quoted: bool = False) -> Text:
        """What stands there; `quoted`: between quotes, of which it can have none."""
        text = data[start:stop].decode("utf-8", "replace")
        made = cls(text.replace("&quot;", '"') if quoted else text)
        made.start, made.stop = start, stop
        return made


@dataclass(frozen=True, slots=True)
class Head:
    """Where a binary node says how long it is."""

    at: int
    until: int
    """Where the node ends."""
    begin: int
    length: int
    """Of its values, which begin there."""


@dataclass(slots=True)
class Node:
    """One of the tree: `name: values { children }`."""

    name: str
    values: list[Any] = field(default_factory=list)
    """Numbers, text, bytes, arrays."""
    children: list[Node] = field(default_factory=list)

    def first(self, name: str) -> Node | None:
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def numbers(self) -> array[Any]:
        """The numbers it says, written as a list or one by one."""
        if self.values and isinstance(self.values[0], array):
            return self.values[0]
        return array("d", [value for value in self.values if isinstance(value, (int, float))])

    def all(self, name: str) -> list[Node]:
        """All children of that name."""
        return [child for child in self.children if child.name == name]


@dataclass(frozen=True, slots=True)
class Object:
    """A thing of the scene: a model, geometry, material, texture, curve ..."""

    id: str
    """The file's own, new with every export; in version 6 the name."""
    key: str
    """Unique in the file and the same in its other versions: kind and name."""
    name: str
    kind: str
    node: Node


def tree(path: Path) -> Node:
    """The whole tree. Raises OSError, UnsupportedMedia."""
    if path.stat().st_size > _BYTES:
        raise UnsupportedMedia(f"{path.name}: larger than {_BYTES >> 30} GiB; FBX files of that size are not read")
    return parsed(path.read_bytes(), path.name)[0]


def parsed(data: bytes, name: str) -> tuple[Node, Binary | None]:
    """The whole tree, and where its nodes stand when it is no text. Raises UnsupportedMedia."""
    try:
        if data.startswith(MAGIC):
            binary = Binary(data)
            return binary.root(), binary
        return _from_text(data), None
    except (ValueError, IndexError, struct.error, zlib.error, OverflowError) as error:
        raise UnsupportedMedia(f"{name}: its tree cannot be read: {error}; its bytes are saved") from None


class Binary:
    """A binary file as it is read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _UNPACKED
        self._version = int.from_bytes(data[23:27], "little")
        # From 7.5 on places and lengths have 64 bits.
        self._head = struct.Struct("<QQQB" if self._version >= 7500 else "<IIIB")
        self.heads: list[Head] = []
        """Of all nodes, once the root was read."""
        self.numbers = struct.Struct(self._head.format[:2])
        """How a place or length is written."""

    def root(self) -> Node:
        """The node that holds all. Raises ValueError, struct.error."""
        if not 5000 <= self._version < 9000:
            raise ValueError(f"version {self._version} is not known")
        return Node("", [], list(self._children(27, len(self._data), 0)))

    def _children(self, at: int, end: int, depth: int) -> Iterator[Node]:
        if depth > _DEPTH:
            raise ValueError(f"nodes within nodes deeper than {_DEPTH}")
        while at + self._head.size <= end:
            until, count, length, width = self._head.unpack_from(self._data, at)
            if not until:
                return
            begin = at + self._head.size + width
            if not begin + length <= until <= end:
                raise ValueError("cut off")
            self.heads.append(Head(at, until, begin, length))
            name = self._data[begin - width : begin].decode("utf-8", "replace")
            yield Node(
                name,
                list(self._values(begin, begin + length, count)),
                list(self._children(begin + length, until, depth + 1)),
            )
            at = until

    def _values(self, at: int, end: int, count: int) -> Iterator[Any]:
        data = self._data
        for _ in range(count):
            kind = data[at : at + 1]
            at += 1
            if kind in _SCALARS:
                yield struct.unpack_from(_SCALARS[kind], data, at)[0]
                at += struct.calcsize(_SCALARS[kind])
            elif kind in (b"S", b"R"):
                (length,) = struct.unpack_from("<I", data, at)
                stop = at + 4 + length
                yield Text.at(data, at + 4, stop) if kind == b"S" else data[at + 4 : stop]
                at += 4 + length
            elif kind in _ARRAYS:
                numbers, coded, length = struct.unpack_from("<III", data, at)
                at += 12
                values = _array(_ARRAYS[kind], data[at : at + length], numbers, bool(coded))
                self._left -= numbers * values.itemsize
                if self._left < 0:
                    raise ValueError(f"its arrays have more than {_UNPACKED >> 30} GiB")
                yield values
                at += length
            else:
                raise ValueError(f"a value of the kind {kind!r}")
            if at > end:
                raise ValueError("a value is longer than its node")


def _array(code: str, raw: bytes, numbers: int, is_deflated: bool) -> array[Any]:
    values = array(code)
    size = numbers * values.itemsize
    if is_deflated:
        # Deflate makes at most 1,032 bytes of one.
        if size > len(raw) * 1032 + 64:
            raise ValueError("an array announces more than its bytes can hold")
        raw = zlib.decompressobj().decompress(raw, size) if size else b""
    if len(raw) != size:
        raise ValueError("an array is shorter than it says")
    values.frombytes(raw)
    return values


_WORD = re.compile(
    rb'\s*(?:;[^\n]*(?:\n\s*|\Z))*(?:(?P<key>[A-Za-z_][\w|-]*)\s*:|"(?P<text>[^"]*)"|\*(?P<count>\d+)|(?P<mark>[{},])'
    rb"|(?P<number>[-+]?[\d.][-+\w.#]*)|(?P<word>[A-Za-z]\w*)|(?P<end>\Z))"
)
_RUN = re.compile(rb"(?:\s*[-+]?[\d.][-+\w.#]*\s*,){16,}")


def _from_text(data: bytes) -> Node:
    root = last = Node("")
    above, at = [root], 0
    while True:
        # Long lists are read in one go: a word costs a microsecond.
        run = _RUN.match(data, at)
        if run:
            last.values.append(array("d", map(float, run[0].split(b",")[:-1])))
            at = run.end()
        word = _WORD.match(data, at)
        if not word:
            raise ValueError(f"no text of an FBX file at byte {at:,}")
        at = word.end()
        text = word[word.lastgroup or "end"]
        match word.lastgroup, text:
            case "key", _:
                last = Node(text.decode("ascii"))
                above[-1].children.append(last)
            case "mark", b"{":
                if len(above) > _DEPTH:
                    raise ValueError(f"nodes within nodes deeper than {_DEPTH}")
                above.append(last)
            case "mark", b"}":
                last = above.pop()
                if not above:
                    raise ValueError("a bracket closes what none opened")
                # `Vertices: *9 { a: ... }`
                if [child.name for child in last.children] == ["a"] and not last.values:
                    last.values = [last.children.pop().numbers()]
            case "number", _:
                value = float(text) if set(text) & set(b".eE#nN") else int(text)
                if last.values and isinstance(last.values[-1], array):
                    last.values[-1].append(float(value))
                else:
                    last.values.append(value)
            case (("text" | "word") as kind, _):
                last.values.append(Text.at(data, *word.span(kind), quoted=True))
            case "end", _:
                break
    if len(above) > 1:
        raise ValueError("cut off")
    return root


def objects(root: Node) -> list[Object]:
    """What the scene consists of, in the file's order."""
    top = root.first("Objects")
    found, seen = list[Object](), dict[str, int]()
    for node in top.children if top else []:
        words = [value for value in node.values if isinstance(value, str)]
        number = node.values[0] if node.values and isinstance(node.values[0], int) else None
        if not words:
            continue
        name = plain_name(words[0])
        kind = f"{node.name}/{words[1]}" if len(words) > 1 and words[1] else node.name
        key = f"{kind}: {name}"
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            key += f" #{seen[key]}"
        found.append(Object(str(number) if number is not None else words[0], key, name, kind, node))
    return found


def plain_name(name: str) -> str:
    """A name without its class: `Cube\0\1Model` in binary files, `Model::Cube` in text."""
    return name.partition("\0\1")[0] if "\0\1" in name else name.rpartition("::")[2]


def connections(root: Node) -> list[tuple[str, str, str]]:
    """(from, to, what for): object to object, by their ids; the property that it feeds, or nothing."""
    top = root.first("Connections")
    found = []
    for node in top.children if top else []:
        if len(node.values) >= 3 and node.name in ("C", "Connect"):
            _, source, target, *what_for = map(str, node.values)
            found.append((source, target, what_for[0] if what_for else ""))
    return found


def content_hash(node: Node) -> str:
    """SHA-256 (hex) of all that a node says, without the id that each export gives it anew."""
    state = hashlib.sha256()

    def add(node: Node, values: Sequence[Any]) -> None:
        state.update(f"{node.name}({len(values)}".encode())
        for value in values:
            raw = value if isinstance(value, bytes) else value.tobytes() if isinstance(value, array) else None
            state.update(repr(value).encode() if raw is None else b"%d:%b" % (len(raw), raw))
        for child in node.children:
            add(child, child.values)
        state.update(b")")

    add(node, [value for value in node.values if not isinstance(value, int)])
    return state.hexdigest()


def elements(path: Path) -> list[Element]:
    """The objects of the scene; a model is in the model it moves with. Raises OSError, UnsupportedMedia."""
    root = tree(path)
    found = objects(root)
    key_of = {thing.id: thing.key for thing in found}
    above = {
        source: key_of[target]
        for source, target, what_for in reversed(connections(root))
        if not what_for and target in key_of
    }
    elements = [
        Element(thing.key, thing.name, thing.kind, above.get(thing.id), content_hash(thing.node)) for thing in found
    ]
    parents = {element.id: element.parent for element in elements}

    def depth(element: Element) -> int:
        steps, parent = 0, element.parent
        while parent and steps < _DEPTH:
            steps, parent = steps + 1, parents[parent]
        return steps

    return sorted(elements, key=depth)
