"""Layers, groups, masks and smart objects of Photoshop documents.

A layer's id is the number that Photoshop gave it; where numbers are missing or repeat, its path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.layered import psd_file
from gitvault.formats.layered.archive import numbered
from gitvault.formats.layered.psd_file import Block, Bytes, Document, Layer
from gitvault.formats.mapping import mapped

_LINKED = (b"lnkD", b"lnk2", b"lnk3", b"lnkE")
_SHARED = (*_LINKED, b"Patt", b"Pat2", b"Pat3")
_PLACED = (b"SoLd", b"SoLE", b"PlLd", b"plLd")
_VECTOR_MASK = (b"vmsk", b"vsms")
_TEXT, _ALL_TEXTS = b"TySh", b"Txt2"
_FILTERS, _ALL_FILTERS = b"filterFX", (b"FEid", b"FXid", b"FELS")
# Resources with as many bytes for each layer, and what a layer has there that nothing is known of.
_PER_LAYER = {1026: b"\0\0", 1072: b"\1"}
_THUMBNAILS = (1033, 1036)


@dataclass(frozen=True, slots=True)
class _Part:
    """A layer, group or mask, and where it is."""

    id: str
    name: str
    kind: str
    parent: str | None
    low: int
    high: int
    """The first and last of the document's layers that are it, marks of groups included."""


class _Tree:
    """The elements of a document by their ids, groups before what they hold."""

    def __init__(self, document: Document) -> None:
        self.document = document
        found = list(_parts(document))
        ids = _ids(document, found)
        by_place = {part.high: name for part, name in zip(found, ids, strict=True)}
        self.layers = [
            replace(part, id=name, parent=by_place[int(part.parent)] if part.parent else None)
            for part, name in zip(found, ids, strict=True)
        ]
        self.shared = _shared(document)
        every = [inner for part in self.layers for inner in (part, *self._inside(part))]
        names = numbered(part.id for part in every)
        self.parts = {name: replace(part, id=name) for part, name in zip(every, names, strict=True)}

    def _inside(self, part: _Part) -> Iterator[_Part]:
        layer = self.document.layers[part.high]
        own = {"parent": part.id, "low": part.high, "high": part.high}
        if layer.mask_channels:
            yield _Part(f"{part.id}/mask", f"{part.name} (mask)", "mask", **own)  # type: ignore[arg-type]
        if layer.block(*_VECTOR_MASK):
            yield _Part(f"{part.id}/vector-mask", f"{part.name} (vector mask)", "mask", **own)  # type: ignore[arg-type]
        if linked := self.content(layer):
            name = psd_file.linked_name(linked[1]) or f"{part.name} (content)"
            yield _Part(f"{part.id}/content", name, "linked-file", **own)  # type: ignore[arg-type]

    def content(self, layer: Layer) -> tuple[Block, Bytes] | None:
        """The linked file that a smart object shows."""
        if not layer.block(*_PLACED):
            return None
        return next((found for found in self.needed([layer]) if found[0].key in _LINKED), None)

    def needed(self, layers: Iterable[Layer]) -> list[tuple[Block, Bytes]]:
        """What layers use of the document's linked files and patterns."""
        if not self.shared:
            return []
        said = b"\n".join(bytes(block.data) for layer in layers for block in layer.blocks)
        return [
            found
            for name, found in self.shared.items()
            if name[1] and (name[1] in said or name[1].decode("latin-1").encode("utf-16-be") in said)
        ]

    def hash(self, part: _Part) -> str:
        """What `Element.hash` asks for."""
        layer = self.document.layers[part.high]
        kind = part.id.rpartition("/")[2] if part.kind in ("mask", "linked-file") else ""
        found = sha256()
        if part.kind == "linked-file":
            content = self.content(layer)
            found.update(content[1] if content else b"")
        elif kind == "vector-mask":
            block = layer.block(*_VECTOR_MASK)
            found.update(block.data if block else b"")
        elif part.kind == "mask":
            _add(
                found, layer.mask, *(piece for number, data in layer.mask_channels for piece in (b"%d" % number, data))
            )
        else:
            low = self.document.layers[part.low]
            for own in (layer, low) if low.section == 3 else (layer,):
                _add(found, own.rectangle, own.look, own.ranges, own.legacy_name, own.tail)
                for block in own.blocks:
                    if block.key not in _VECTOR_MASK:
                        _add(found, block.key, block.data)
                for number, data in own.channels:
                    if number >= -1:
                        _add(found, b"%d" % number, data)
        return found.hexdigest()


def _add(found: object, *pieces: Bytes) -> None:
    """Hash pieces so that no two rows of them are alike."""
    for piece in pieces:
        found.update(len(piece).to_bytes(8, "big"))  # type: ignore[attr-defined]
        found.update(piece)  # type: ignore[attr-defined]


def _parts(document: Document) -> Iterator[_Part]:
    """Layers and groups from the top down; `id` is a path, `parent` the place of the head of their group."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for place in reversed(range(len(document.layers))):
        section = document.layers[place].section
        if section in (1, 2):
            opened.append(place)
        elif section == 3 and opened:
            ends[opened.pop()] = place
    for head in opened:
        # A group without an end: all that is below it.
        ends[head] = 0
    inside: list[tuple[int, str]] = []
    for place in reversed(range(len(document.layers))):
        layer = document.layers[place]
        while inside and place < ends[inside[-1][0]]:
            inside.pop()
        if layer.section == 3:
            continue
        path = "/".join([*(name for _, name in inside), layer.name])
        kind = "group" if place in ends else "smart-object" if layer.block(*_PLACED) else "layer"
        parent = str(inside[-1][0]) if inside else None
        yield _Part(path, layer.name, kind, parent, ends.get(place, place), place)
        if place in ends:
            inside.append((place, layer.name))


def _ids(document: Document, parts: list[_Part]) -> list[str]:
    numbers = [document.layers[part.high].number for part in parts]
    counts = Counter(numbers)
    return numbered(
        str(number) if number and counts[number] == 1 else part.id for part, number in zip(parts, numbers, strict=True)
    )


def _shared(document: Document) -> dict[tuple[str, bytes], tuple[Block, Bytes]]:
    """Linked files and patterns by their names."""
    return {
        ("file" if block.key in _LINKED else "pattern", psd_file.item_name(block, item)): (block, item)
        for block in document.blocks
        if block.key in _SHARED
        for item in psd_file.items(block)
    }


def elements(path: Path) -> list[Element]:
    """Layers, groups, masks and the files in smart objects, from the top down. Raises UnsupportedMedia."""
    with mapped(path) as view:
        tree = _Tree(psd_file.read(view))
        return [Element(part.id, part.name, part.kind, part.parent, tree.hash(part)) for part in tree.parts.values()]


def extract(path: Path, element: str, output: Path) -> None:
    """Write a layer or group as a document of its own, or the file that is in a smart object.

    Raises UnsupportedMedia.
    """
    with mapped(path) as view, output.open("wb") as file:
        tree = _Tree(psd_file.read(view))
        document, part = tree.document, tree.parts[element]
        layers = document.layers[part.low : part.high + 1]
        if part.kind == "linked-file":
            content = tree.content(layers[0])
            data = psd_file.linked_file(content[1]) if content else b""
            if not data:
                raise UnsupportedMedia(f"{part.name}: is a file outside of {path.name}")
            file.write(data)
            return
        if part.kind == "mask":
            raise UnsupportedMedia(f"{part.name}: a mask is no document; extract its layer: {part.parent}")
        if output.suffix.lower() not in (".psd", ".psb"):
            raise UnsupportedMedia(f"{part.name}: becomes a Photoshop document; give OUT the extension .psd or .psb")
        blocks: dict[bytes, list[Bytes]] = {}
        for block, item in tree.needed(layers):
            blocks.setdefault(block.key, []).append(item)
        keys = [
            psd_file.write_items(psd_file.made(key, b"", document.wide), items, document.wide)
            for key, items in blocks.items()
        ]
        keys += [block for block in document.blocks if block.key in (_ALL_TEXTS, *_ALL_FILTERS)]
        resources = tuple(one for one in document.resources if one[0] not in (*_PER_LAYER, *_THUMBNAILS))
        psd_file.write(
            file,
            replace(
                document,
                resources=resources,
                layers=layers,
                has_transparency=False,
                masks=b"",
                blocks=tuple(keys),
                layers_at=0,
                merged=psd_file.blank(document.head),
            ),
        )


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """Write the current document with a layer, group, mask or smart object's file of the old one.

    Raises UnsupportedMedia.
    """
    with mapped(old) as before, mapped(current) as now, output.open("wb") as file:
        theirs, ours = _Tree(psd_file.read(before)), _Tree(psd_file.read(now))
        if theirs.document.head[22:] != ours.document.head[22:] or theirs.document.wide != ours.document.wide:
            raise UnsupportedMedia(
                f"{current.name}: depth, colour mode or kind (PSD, PSB) is not that of {old.name}; convert one first"
            )
        part = theirs.parts[element]
        if part.kind in ("mask", "linked-file"):
            document = _with_inner(theirs, part, ours, current)
        else:
            document = _with_layers(theirs, part, ours, current)
        psd_file.write(file, document)


def _with_inner(theirs: _Tree, part: _Part, ours: _Tree, current: Path) -> Document:
    """The current document with the old mask, or file in a smart object, of a layer that is in both."""
    holder = ours.parts.get(part.parent or "")
    if not holder:
        raise UnsupportedMedia(f"{part.name}: its layer is not in {current.name}; restore that: {part.parent}")
    was, layer = theirs.document.layers[part.high], ours.document.layers[holder.high]
    if part.kind == "linked-file":
        if not ours.content(layer):
            raise UnsupportedMedia(f"{part.name}: {holder.name} in {current.name} shows no file; restore the layer")
        return _with_shared(theirs, [was], ours, {holder.high}, ours.document, current)
    if part.id.endswith("/vector-mask"):
        block = was.block(*_VECTOR_MASK)
        kept = [own for own in layer.blocks if own.key not in _VECTOR_MASK]
        at = next((n for n, own in enumerate(layer.blocks) if own.key in _VECTOR_MASK), len(kept))
        layer = replace(layer, blocks=(*kept[:at], *([block] if block else ()), *kept[at:]))
    else:
        layer = layer.with_mask_of(was)
    layers = ours.document.layers
    return replace(ours.document, layers=(*layers[: holder.high], layer, *layers[holder.high + 1 :]))


def _with_layers(theirs: _Tree, part: _Part, ours: _Tree, current: Path) -> Document:
    """The current document with a layer or group of the old one, where it is now or was then."""
    document = ours.document
    unit = theirs.document.layers[part.low : part.high + 1]
    have = ours.parts.get(part.id)
    if have and (have.kind == "group") != (part.kind == "group"):
        raise UnsupportedMedia(f"{part.id}: is a {part.kind} in one file and a {have.kind} in the other")
    _check_texts(theirs.document, unit, document, part, current)
    low, high = (have.low, have.high + 1) if have else (_place(theirs, part, ours, current),) * 2
    layers = (*document.layers[:low], *unit, *document.layers[high:])
    resources = tuple(
        (number, head, _per_layer(number, content, theirs.document, part, len(document.layers), low, high))
        for number, head, content in document.resources
    )
    changed = replace(document, layers=layers, resources=resources)
    return _with_shared(theirs, unit, ours, set(range(low, high)), changed, current)


def _check_texts(old: Document, unit: tuple[Layer, ...], document: Document, part: _Part, current: Path) -> None:
    """Refuse what depends on blocks that are the document's, have no parts, and differ. Raises UnsupportedMedia."""
    kinds = {_ALL_TEXTS} if any(layer.block(_TEXT) for layer in unit) else set()
    if any(_FILTERS in bytes(block.data) for layer in unit for block in layer.blocks if block.key in _PLACED):
        kinds |= set(_ALL_FILTERS)
    for kind in kinds:
        was, now = ({bytes(b.data) for b in one.blocks if b.key == kind} for one in (old, document))
        if was != now:
            what = "texts" if kind == _ALL_TEXTS else "smart filters"
            raise UnsupportedMedia(
                f"{part.name}: depends on what {current.name} holds for all {what} together, which changed; "
                "extract it and drag it over in Photoshop"
            )


def _place(theirs: _Tree, part: _Part, ours: _Tree, current: Path) -> int:
    """Before which layer what is missing was: beside the nearest neighbour that is still there."""
    group = ours.parts.get(part.parent) if part.parent is not None else None
    if part.parent is not None and not group:
        raise UnsupportedMedia(f"{part.name}: its group is not in {current.name}; restore that: {part.parent}")
    siblings = [layer.id for layer in theirs.layers if layer.parent == part.parent]
    here = {layer.id: layer for layer in ours.layers if layer.parent == part.parent}
    at = siblings.index(part.id)
    for name in reversed(siblings[:at]):
        if name in here:
            return here[name].low
    for name in siblings[at:]:
        if name in here:
            return here[name].high + 1
    return group.high if group else len(ours.document.layers)


def _per_layer(number: int, content: Bytes, old: Document, part: _Part, count: int, low: int, high: int) -> Bytes:
    """A resource that has an entry for each layer, with those of the old document's layers."""
    unknown = _PER_LAYER.get(number)
    if unknown is None or len(content) != count * len(unknown):
        return content
    size = len(unknown)
    was = next((bytes(data) for known, _, data in old.resources if known == number), b"")
    entries = was[part.low * size : (part.high + 1) * size]
    if len(was) != len(old.layers) * size:
        entries = unknown * (part.high + 1 - part.low)
    return bytes(content[: low * size]) + entries + bytes(content[high * size :])


def _with_shared(
    theirs: _Tree, unit: Iterable[Layer], ours: _Tree, places: set[int], document: Document, current: Path
) -> Document:
    """The document with the linked files and patterns that old layers need; `places`: which layers they replace."""
    others = [layer for place, layer in enumerate(ours.document.layers) if place not in places]
    used = {id(item) for _, item in ours.needed(others)}
    blocks = list(document.blocks)
    for block, item in theirs.needed(unit):
        name = ("file" if block.key in _LINKED else "pattern", psd_file.item_name(block, item))
        have = ours.shared.get(name)
        if have and have[1] == item:
            continue
        if have and id(have[1]) in used:
            shown = name[1].decode("latin-1")
            raise UnsupportedMedia(f"{current.name}: other layers use the {name[0]} {shown} too, which changed since")
        home = next((n for n, own in enumerate(blocks) if own.key == (have[0] if have else block).key), None)
        if home is None:
            blocks.append(psd_file.made(block.key, b"", document.wide))
            home = len(blocks) - 1
        own = blocks[home]
        kept = [one for one in psd_file.items(own) if psd_file.item_name(own, one) != name[1]]
        blocks[home] = psd_file.write_items(own, [*kept, item], document.wide)
    return replace(document, blocks=tuple(blocks))
