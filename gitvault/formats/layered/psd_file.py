"""Photoshop documents, PSD and PSB, in pieces that are written again byte for byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

_SIGNATURES = (b"8BIM", b"8B64")
# In a PSB these have their length in 8 bytes.
_WIDE = frozenset(
    b"LMsk Lr16 Lr32 Layr Mt16 Mt32 Mtrn Alph FMsk lnk2 lnk3 lnkE FEid FXid FELS PxSD pths extn extd cinf artd".split()
)
_LAYERS_ELSEWHERE = (b"Lr16", b"Lr32", b"Layr")
_MASKS = (-2, -3)
_LAYERS = 1 << 15

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of additional information, known by four letters."""

    key: bytes
    data: Bytes
    raw: Bytes
    """With its head and what fills it up."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, the head of a group, or the mark below a group's lowest layer."""

    rectangle: Bytes
    channels: tuple[tuple[int, Bytes], ...]
    """By their numbers; -1 is transparency, -2 and -3 are masks."""
    look: Bytes
    """Blend mode, opacity, clipping, flags."""
    mask: Bytes
    ranges: Bytes
    legacy_name: Bytes
    """A Pascal string in an encoding nobody tells, filled up to 4 bytes."""
    blocks: tuple[Block, ...]
    tail: Bytes

    def block(self, *keys: bytes) -> Block | None:
        """The first block with one of these keys."""
        return next((block for block in self.blocks if block.key in keys), None)

    @property
    def name(self) -> str:
        """The name as people see it."""
        if block := self.block(b"luni"):
            return bytes(block.data[4 : 4 + 2 * _long(block.data)]).decode("utf-16-be", "replace").rstrip("\0")
        return bytes(self.legacy_name[1 : 1 + self.legacy_name[0]]).decode("mac-roman")

    @property
    def number(self) -> int | None:
        """The number that Photoshop gave it."""
        block = self.block(b"lyid")
        return _long(block.data) if block else None

    @property
    def section(self) -> int:
        """1 and 2: the head of a group, 3: the mark at its end, 0: a layer."""
        block = self.block(b"lsct", b"lsdk")
        return _long(block.data) if block else 0

    @property
    def mask_channels(self) -> tuple[tuple[int, Bytes], ...]:
        """Those channels that are masks."""
        return tuple(channel for channel in self.channels if channel[0] in _MASKS)

    def with_mask_of(self, other: Layer) -> Layer:
        """The same with the pixel masks of another."""
        plain = tuple(channel for channel in self.channels if channel[0] not in _MASKS)
        return replace(self, channels=plain + other.mask_channels, mask=other.mask)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole file."""

    head: Bytes
    """Signature, version, channels, size, depth, mode."""
    colors: Bytes
    resources: tuple[tuple[int, Bytes, Bytes], ...]
    """Number, name and what else stands before the content, content."""
    layers: tuple[Layer, ...]
    """From the bottom up, as they are stored."""
    has_transparency: bool
    """Whether the first alpha channel is the merged image's."""
    layers_in: bytes
    """The key of the block that has the layers; b"" where they have their own place."""
    masks: Bytes
    """The global mask."""
    blocks: tuple[Block, ...]
    """Without the one that has the layers."""
    layers_at: int
    """How many blocks stand before that."""
    merged: Bytes

    @property
    def wide(self) -> bool:
        """Whether this is a PSB."""
        return _short(self.head, 4) == 2


def _long(data: Bytes, at: int = 0) -> int:
    return int(struct.unpack_from(">I", data, at)[0])


def _short(data: Bytes, at: int = 0) -> int:
    return int(struct.unpack_from(">H", data, at)[0])


class _Reader:
    """Reads one piece after the other. Raises ValueError behind the end."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.view) - self.at

    def take(self, length: int) -> memoryview:
        if length > self.left:
            raise ValueError(f"{length} bytes expected at {self.at}, found {self.left}")
        self.at += length
        return self.view[self.at - length : self.at]

    def sized(self, wide: bool = False) -> memoryview:
        """What has its length before it."""
        return self.take(int.from_bytes(self.take(8 if wide else 4), "big"))

    def blocks(self, wide: bool, padding: int) -> tuple[Block, ...]:
        """Additional information up to the end, or to what is none."""
        found = []
        while self.left >= 12 and self.view[self.at : self.at + 4] in _SIGNATURES:
            start = self.at
            key = bytes(self.take(8)[4:])
            data = self.sized(wide and key in _WIDE)
            self.take(min(-len(data) % padding, self.left))
            # Some programs fill up where others do not.
            for gap in range(min(4, self.left)):
                if self.view[self.at + gap : self.at + gap + 4] in _SIGNATURES:
                    self.at += gap
                    break
            found.append(Block(key, data, self.view[start : self.at]))
        return tuple(found)


def read(view: memoryview) -> Document:
    """The pieces of a document. Raises what `mapped` turns into UnsupportedMedia."""
    reader = _Reader(view)
    head = reader.take(26)
    version = _short(head, 4)
    if version not in (1, 2):
        raise ValueError(f"version {version}")
    wide = version == 2
    colors = reader.sized()
    resources = _resources(_Reader(reader.sized()))
    inside = _Reader(reader.sized(wide))
    merged = reader.take(reader.left)
    layers: tuple[Layer, ...] = ()
    has_transparency, layers_in, layers_at = False, b"", 0
    masks: Bytes = b""
    blocks: list[Block] = []
    if inside.left:
        layers, has_transparency = _layers(_Reader(inside.sized(wide)), wide)
        if inside.left >= 4 and inside.view[inside.at : inside.at + 4] not in _SIGNATURES:
            masks = inside.sized()
        blocks += inside.blocks(wide, 4)
        for number, block in enumerate(blocks):
            if block.key in _LAYERS_ELSEWHERE and not layers:
                layers, has_transparency = _layers(_Reader(memoryview(block.data)), wide)
                layers_in, layers_at = block.key, number
        if layers_in:
            del blocks[layers_at]
    return Document(
        head, colors, resources, layers, has_transparency, layers_in, masks, tuple(blocks), layers_at, merged
    )


def _resources(reader: _Reader) -> tuple[tuple[int, Bytes, Bytes], ...]:
    found = []
    while reader.left >= 12:
        start = reader.at
        number = _short(reader.take(6), 4)
        length = reader.take(1)[0]
        reader.take(length + (length + 1) % 2)
        before = reader.view[start : reader.at]
        content = reader.sized()
        reader.take(min(len(content) % 2, reader.left))
        found.append((number, before, content))
    return tuple(found)


def _layers(reader: _Reader, wide: bool) -> tuple[tuple[Layer, ...], bool]:
    if reader.left < 2:
        return (), False
    (count,) = struct.unpack(">h", reader.take(2))
    if abs(count) > _LAYERS:
        raise ValueError(f"{count} layers")
    records = [_record(reader, wide) for _ in range(abs(count))]
    layers = []
    for layer, sizes in records:
        channels = tuple((number, reader.take(size)) for number, size in sizes)
        layers.append(replace(layer, channels=channels))
    return tuple(layers), count < 0


def _record(reader: _Reader, wide: bool) -> tuple[Layer, list[tuple[int, int]]]:
    rectangle = reader.take(16)
    channel = struct.Struct(">hQ" if wide else ">hI")
    sizes = [channel.unpack(reader.take(channel.size)) for _ in range(_short(reader.take(2)))]
    look = reader.take(12)
    if look[:4] not in _SIGNATURES:
        raise ValueError("a layer has no blend mode")
    extra = _Reader(reader.sized())
    mask, ranges = extra.sized(), extra.sized()
    start = extra.at
    extra.take(extra.view[start] + 1)
    extra.take(min(-(extra.at - start) % 4, extra.left))
    name = extra.view[start : extra.at]
    blocks = extra.blocks(wide, 1)
    return Layer(rectangle, (), look, mask, ranges, name, blocks, extra.take(extra.left)), sizes


def items(block: Block) -> list[Bytes]:
    """What a document's block of linked files or patterns consists of."""
    reader = _Reader(memoryview(block.data))
    found: list[Bytes] = []
    is_linked = block.key.startswith(b"lnk")
    while reader.left >= 8:
        item = reader.sized(wide=is_linked)
        reader.take(min(-len(item) % 4, reader.left))
        found.append(item)
    return found


def item_name(block: Block, item: Bytes) -> bytes:
    """The name by which layers refer to a linked file or a pattern, mostly a UUID."""
    if block.key.startswith(b"lnk"):
        return bytes(item[9 : 9 + item[8]])
    at = 12
    at += 4 + 2 * _long(item, at)
    return bytes(item[at + 1 : at + 1 + item[at]])


def linked_name(item: Bytes) -> str:
    """The name of a linked file."""
    at = 9 + item[8]
    return bytes(item[at + 4 : at + 4 + 2 * _long(item, at)]).decode("utf-16-be", "replace").rstrip("\0")


def linked_file(item: Bytes) -> bytes:
    """The content of a linked file, b"" where that is outside of the document. Raises ValueError."""
    if item[:4] != b"liFD":
        return b""
    at = 9 + item[8]
    at += 4 + 2 * _long(item, at) + 8
    size, has_descriptor = struct.unpack_from(">QB", item, at)
    at += 9
    if has_descriptor:
        # It does not tell its length.
        at = _behind_descriptor(item, at)
    if at + size > len(item):
        raise ValueError("a linked file is cut off")
    return bytes(item[at : at + size])


def _behind_descriptor(item: Bytes, at: int) -> int:
    """Where a descriptor of the one shape that Photoshop writes here ends: `compInfo` with numbers."""
    reader = _Reader(memoryview(item))
    reader.at = at + 4
    _descriptor(reader)
    return reader.at


def _descriptor(reader: _Reader) -> None:
    reader.take(2 * _long(reader.take(4)))
    _key(reader)
    for _ in range(_long(reader.take(4))):
        _key(reader)
        kind = bytes(reader.take(4))
        if kind == b"Objc":
            _descriptor(reader)
        elif kind in (b"long", b"doub", b"bool"):
            reader.take({b"long": 4, b"doub": 8, b"bool": 1}[kind])
        elif kind == b"TEXT":
            reader.take(2 * _long(reader.take(4)))
        elif kind == b"enum":
            _key(reader)
            _key(reader)
        else:
            raise ValueError(f"a descriptor with {kind!r}")


def _key(reader: _Reader) -> None:
    reader.take(_long(reader.take(4)) or 4)


def write_items(block: Block, found: Iterable[Bytes], wide: bool) -> Block:
    """The block with other linked files or patterns."""
    size = ">Q" if block.key.startswith(b"lnk") else ">I"
    parts = [part for item in found for part in (struct.pack(size, len(item)), item, bytes(-len(item) % 4))]
    return made(block.key, b"".join(parts), wide)


def made(key: bytes, data: bytes, wide: bool) -> Block:
    """A new block of a document."""
    is_wide = wide and key in _WIDE
    length = struct.pack(">Q" if is_wide else ">I", len(data))
    return Block(key, data, (b"8B64" if is_wide else b"8BIM") + key + length + data + bytes(-len(data) % 4))


def blank(head: Bytes) -> bytes:
    """A merged image of one colour, for a document with this head."""
    channels, height, width, depth = struct.unpack_from(">HIIH", head, 12)
    row = (width * depth + 7) // 8
    value = 0 if depth == 32 else 255
    packed = bytes((129, value)) * (row // 128) + (bytes((257 - row % 128, value)) if row % 128 > 1 else b"")
    packed += bytes((0, value)) if row % 128 == 1 else b""
    rows = channels * height
    counts = struct.pack(">I" if _short(head, 4) == 2 else ">H", len(packed)) * int(rows)
    return b"".join((b"\0\1", counts, packed * int(rows)))


def write(file: BinaryIO, document: Document) -> None:
    """Write a document."""
    wide = document.wide
    file.write(document.head)
    file.write(_sized(document.colors))
    resources = b"".join(
        part for _, before, content in document.resources for part in (before, _sized(content), bytes(len(content) % 2))
    )
    file.write(_sized(resources))
    info = _layer_info(document)
    length = sum(map(len, info))
    gap = -length % 4
    size = struct.Struct(">Q" if wide else ">I")
    blocks = [block.raw for block in document.blocks]
    if document.layers_in:
        head = (b"8B64" if wide else b"8BIM") + document.layers_in + size.pack(length)
        blocks[document.layers_at : document.layers_at] = [head, *info, bytes(gap)]
        inside = [size.pack(0), _sized(document.masks), *blocks]
    else:
        # Photoshop fills up to 4 bytes, although 2 are what is asked for.
        inside = [size.pack(length + gap), *info, bytes(gap), _sized(document.masks), *blocks]
    file.write(size.pack(sum(map(len, inside))))
    file.writelines(inside)
    file.write(document.merged)


def _sized(data: Bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _layer_info(document: Document) -> list[Bytes]:
    layers = document.layers
    if not layers:
        return []
    channel = ">hQ" if document.wide else ">hI"
    parts: list[Bytes] = [struct.pack(">h", -len(layers) if document.has_transparency else len(layers))]
    for layer in layers:
        sizes = [struct.pack(channel, number, len(data)) for number, data in layer.channels]
        extra = b"".join(
            (_sized(layer.mask), _sized(layer.ranges), layer.legacy_name, *(b.raw for b in layer.blocks), layer.tail)
        )
        parts += (layer.rectangle, struct.pack(">H", len(layer.channels)), *sizes, layer.look, _sized(extra))
    parts += (data for layer in layers for _, data in layer.channels)
    return parts
