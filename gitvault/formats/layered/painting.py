"""Layers of Krita documents and OpenRaster images: zip archives with a list of layers in XML.

The list is spliced, and the members that hold a layer's pixels are copied as they are stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.layered import archive
from gitvault.formats.layered.archive import Archive, Member, numbered
from gitvault.formats.layered.markup import Node, edited, indent_of, inserted, parse
from gitvault.formats.mapping import mapped

_KEYFRAMES = ".keyframes.xml"
_STYLES = "layerstyles.asl"
_LIST = 1 << 28


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How a kind of file writes its list."""

    document: str
    """The member that has it."""
    file: str
    """The attribute that names the member with the pixels."""
    passing: frozenset[str]
    """Attributes that say where a layer is stored, or what is selected on the screen."""
    tags: frozenset[str]


KRITA = _Dialect(
    "maindoc.xml", "filename", frozenset(("filename", "selected", "collapsed")), frozenset(("layer", "mask"))
)
OPEN_RASTER = _Dialect("stack.xml", "src", frozenset(("src", "selected")), frozenset(("layer", "stack")))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer, group or mask of the list."""

    id: str
    kind: str
    parent: str | None
    node: Node

    @property
    def name(self) -> str:
        return self.node.attributes.get("name", "")


class Painting:
    """A file with its layers, from the top down."""

    def __init__(self, view: memoryview) -> None:
        self.archive: Archive = archive.read(view)
        self.members = {member.text: member for member in self.archive.members}
        self.dialect = KRITA if KRITA.document in self.members else OPEN_RASTER
        self.data = self.members[self.dialect.document].whole(_LIST)
        self.root = parse(self.data)
        self.top = next(node for node in self.root.walk() if node.local in ("layers", "stack"))
        found = list(self._walk(self.top, None, ""))
        ids = numbered(layer.id for layer in found)
        by_node = {layer.node.start: name for layer, name in zip(found, ids, strict=True)}
        self.layers = {
            name: _Layer(name, layer.kind, by_node.get(int(layer.parent)) if layer.parent else None, layer.node)
            for layer, name in zip(found, ids, strict=True)
        }
        folder = next((name for name in self.members if "/layers/" in name), None)
        image = next((node.attributes.get("name", "") for node in self.root.walk() if node.local == "IMAGE"), "")
        self.folder = f"{folder.partition('/layers/')[0] if folder else image}/layers/"

    def _walk(self, holder: Node, parent: Node | None, path: str) -> Iterator[_Layer]:
        """`id` is a UUID or a path, `parent` where the element begins that this one is in."""
        for node in holder.children:
            if node.local in self.dialect.tags:
                here = f"{path}/{node.attributes.get('name', '')}".lstrip("/")
                is_group = node.local == "stack" or node.attributes.get("nodetype") == "grouplayer"
                kind = "mask" if node.local == "mask" else "group" if is_group else "layer"
                yield _Layer(node.attributes.get("uuid", here), kind, str(parent.start) if parent else None, node)
                yield from self._walk(node, node, here)
            else:
                yield from self._walk(node, parent, path)

    def family(self, node: Node) -> list[Node]:
        """A layer and all layers and masks inside it."""
        return [inner for inner in node.walk() if inner.local in self.dialect.tags]

    def file(self, node: Node) -> str:
        """What the layer calls its pixels."""
        return node.attributes.get(self.dialect.file, "")

    def side(self, node: Node) -> dict[str, Member]:
        """The members that are the layer's, by what follows its file's name."""
        name = self.file(node)
        if not name:
            return {}
        if self.dialect is OPEN_RASTER:
            return {"": self.members[name]}
        start = self.folder + name
        # `layer2` is not `layer21`.
        return {
            text[len(start) :]: member
            for text, member in self.members.items()
            if text.startswith(start) and text[len(start) :][:1] in ("", ".", "/")
        }

    def hash(self, node: Node) -> str:
        """What `Element.hash` asks for."""
        found = sha256(node.local.encode())
        for key, value in sorted(node.attributes.items()):
            if key not in self.dialect.passing:
                found.update(f"\n{key}={value!r}".encode())
        for child in node.children:
            if not any(inner.local in (*self.dialect.tags, "layers", "masks") for inner in child.walk()):
                found.update(self.data[child.start : child.stop])
        own = self.file(node).encode()
        for suffix, member in sorted(self.side(node).items()):
            found.update(f"\n{suffix} {member.size}\n".encode())
            if suffix == _KEYFRAMES:
                found.update(member.whole().replace(own + b".", b"."))
                continue
            for piece in member.content():
                found.update(piece)
        return found.hexdigest()


def elements(path: Path) -> list[Element]:
    """Layers, groups and masks, from the top down. Raises UnsupportedMedia."""
    with mapped(path) as view:
        painting = opened(view)
        return [
            Element(layer.id, layer.name, layer.kind, layer.parent, painting.hash(layer.node))
            for layer in painting.layers.values()
        ]


def opened(view: memoryview) -> Painting:
    """The layers of a file. Raises what `mapped` turns into UnsupportedMedia."""
    try:
        return Painting(view)
    except StopIteration:
        raise ValueError("it has no list of layers") from None


def extract(path: Path, element: str, output: Path) -> None:
    """Write a layer or group as a document; a layer of an OpenRaster image as its PNG. Raises UnsupportedMedia."""
    with mapped(path) as view, output.open("wb") as file:
        painting = opened(view)
        layer = painting.layers[element]
        if layer.kind == "mask":
            raise UnsupportedMedia(f"{layer.name}: a mask is no document; extract its layer: {layer.parent}")
        if painting.dialect is OPEN_RASTER and layer.kind == "layer":
            file.writelines(painting.side(layer.node)[""].content())
            return
        if output.suffix.lower() != path.suffix.lower():
            raise UnsupportedMedia(f"{layer.name}: becomes a document; give OUT the extension {path.suffix}")
        node, top = layer.node, painting.top
        text = edited(painting.data, [(top.head, top.tail, painting.data[node.start : node.stop])])
        mine = {member.name for inner in painting.family(node) for member in painting.side(inner).values()}
        others = {
            member.name
            for other in painting.layers.values()
            for member in painting.side(other.node).values()
            if member.name not in mine
        }
        kept = [
            member.holding(text) if member.text == painting.dialect.document else member
            for member in painting.archive.members
            if member.name not in others
        ]
        archive.write(file, kept, painting.archive)


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """Write the current document with a layer, group or mask of the old one. Raises UnsupportedMedia."""
    with mapped(old) as before, mapped(current) as now, output.open("wb") as file:
        theirs, ours = opened(before), opened(now)
        layer, have = theirs.layers[element], ours.layers.get(element)
        if have and have.kind != layer.kind:
            raise UnsupportedMedia(f"{layer.name}: is a {layer.kind} in one file and a {have.kind} in the other")
        replaced = ours.family(have.node) if have else []
        _check(theirs, layer, ours, replaced, current)
        gone = {member.name for node in replaced for member in ours.side(node).values()}
        files, new = _stored(theirs, layer.node, ours, gone)
        fragment = _renamed(theirs, layer.node, files)
        place = (have.node.start, have.node.stop, fragment) if have else _back(theirs, layer, ours, fragment, current)
        text = edited(ours.data, [place])
        members: list[Member] = []
        at = None
        for member in ours.archive.members:
            if member.name in gone:
                at = len(members) if at is None else at
            else:
                members.append(member.holding(text) if member.text == ours.dialect.document else member)
        at = len(members) if at is None else at
        archive.write(file, [*members[:at], *new, *members[at:]], ours.archive)


def _check(theirs: Painting, layer: _Layer, ours: Painting, replaced: list[Node], current: Path) -> None:
    """Refuse what depends on something that is not there, or another. Raises UnsupportedMedia."""
    family = theirs.family(layer.node)
    inside = {node.attributes.get("uuid") for node in family}
    outside = {node.attributes.get("uuid") for node in ours.family(ours.top)} - {
        node.attributes.get("uuid") for node in replaced
    }
    if "uuid" in layer.node.attributes and inside & outside:
        raise UnsupportedMedia(
            f"{layer.name}: a layer that is in it is elsewhere in {current.name}; restore that first"
        )
    for node in family:
        source = node.attributes.get("clonefromuuid")
        if source and source not in inside | outside:
            shown = node.attributes.get("clonefrom", source)
            raise UnsupportedMedia(f"{layer.name}: is a clone of {shown}, which is not in {current.name}; restore that")
        if node.attributes.get("layerstyle"):
            was, now = (
                [member.whole() for name, member in one.members.items() if name.endswith(_STYLES)]
                for one in (theirs, ours)
            )
            if was != now:
                raise UnsupportedMedia(f"{layer.name}: has a layer style, and those of {current.name} are others")


def _stored(theirs: Painting, node: Node, ours: Painting, gone: set[bytes]) -> tuple[dict[int, str], list[Member]]:
    """What the layers call their pixels in the current file, by where they begin, and the members to add there."""
    free: Callable[[str], bool]
    taken = {member.name.decode("utf-8", "replace") for member in ours.archive.members if member.name not in gone}
    kept = {text.removeprefix(ours.folder).partition(".")[0].partition("/")[0] for text in taken} | {
        ours.file(other) for other in ours.family(ours.top) if not {m.name for m in ours.side(other).values()} & gone
    }
    files, new = {}, []
    for inner in theirs.family(node):
        name = theirs.file(inner)
        if not name:
            continue
        free = taken.isdisjoint if theirs.dialect is OPEN_RASTER else kept.isdisjoint
        wanted, number = name, 0
        while not free((wanted,)):
            number += 1
            stem, dot, suffix = name.partition(".")
            wanted = f"{stem.rstrip('0123456789')}{1000 + number}{dot}{suffix}"
        taken.add(wanted)
        kept.add(wanted)
        files[inner.start] = wanted
        for suffix, member in theirs.side(inner).items():
            start = wanted if theirs.dialect is OPEN_RASTER else ours.folder + wanted
            if suffix == _KEYFRAMES and wanted != name:
                frames = member.whole().replace(f'"{name}.'.encode(), f'"{wanted}.'.encode())
                member = member.holding(frames)
            new.append(member.named((start + suffix).encode()))
    return files, new


def _renamed(theirs: Painting, node: Node, files: dict[int, str]) -> bytes:
    """A layer's part of the list, with other names of files."""
    pattern = re.compile(rb"\s" + theirs.dialect.file.encode() + rb"\s*=\s*[\"']([^\"']*)")
    edits = []
    for inner in theirs.family(node):
        found = pattern.search(theirs.data, inner.start, inner.head)
        if found and inner.start in files:
            edits.append((found.start(1) - node.start, found.end(1) - node.start, files[inner.start].encode()))
    return edited(theirs.data[node.start : node.stop], edits)


def _back(theirs: Painting, layer: _Layer, ours: Painting, fragment: bytes, current: Path) -> tuple[int, int, bytes]:
    """The edit that brings back a layer that is not there: beside the nearest neighbour that is."""
    group = ours.layers.get(layer.parent) if layer.parent is not None else None
    if layer.parent is not None and not group:
        raise UnsupportedMedia(f"{layer.name}: what it was in is not in {current.name}; restore that: {layer.parent}")
    holder = layer.node.parent
    indent = indent_of(theirs.data, layer.node)
    home: Node | None = ours.top
    if group:
        home = group.node
        if holder and holder.local != group.node.local:
            home = next((child for child in home.children if child.local == holder.local), None)
    if not home:
        assert group is not None and holder is not None
        tag = holder.tag.encode()
        return inserted(ours.data, group.node, None, b"<" + tag + b">" + fragment + b"</" + tag + b">", indent)
    siblings = [other for other in theirs.layers.values() if other.node.parent is holder]
    at = next(number for number, other in enumerate(siblings) if other.id == layer.id)
    for other in (*reversed(siblings[:at]), *siblings[at + 1 :]):
        there = ours.layers.get(other.id)
        if there and there.node.parent is home:
            if other in siblings[:at]:
                return there.node.stop, there.node.stop, indent + fragment
            return inserted(ours.data, home, there.node, fragment, indent)
    return inserted(ours.data, home, None, fragment, indent)
