"""Layers, masks and channels of GIMP images: listed here, taken out by GIMP."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from gitvault.errors import ToolMissing, UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.layered.archive import numbered
from gitvault.formats.mapping import mapped

_END, _TATTOO, _GROUP, _ITEM_PATH, _EXPANDED, _ACTIVE = 0, 20, 29, 30, 31, 2
# What is selected or unfolded on the screen.
_PASSING = frozenset((_TATTOO, _ACTIVE, _EXPANDED, 3, 4, 5, 36))
_WIDE_SINCE, _NEWEST = 11, 30
_ITEMS, _TILES = 1 << 16, 1 << 22
_PICTURES = (".png", ".tif", ".tiff", ".exr")
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class _Item:
    """A layer, mask or channel."""

    name: str
    kind: str
    head: bytes
    """Its size and type."""
    properties: dict[int, bytes]
    tiles: tuple[int, ...]
    """Where its pixels begin."""
    mask: _Item | None

    @property
    def tattoo(self) -> int:
        return int.from_bytes(self.properties.get(_TATTOO, b""), "big")

    @property
    def place(self) -> tuple[int, ...]:
        """The numbers by which it is found from the top, each in the group before."""
        data = self.properties.get(_ITEM_PATH, b"")
        return struct.unpack(f">{len(data) // 4}I", data[: len(data) // 4 * 4])


class _Image:
    """A file's items."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        mark = bytes(view[9:13])
        self.version = 0 if mark == b"file" else int(mark[1:])
        if self.version > _NEWEST:
            raise ValueError(f"version {self.version}")
        self.pointer = ">Q" if self.version >= _WIDE_SINCE else ">I"
        self.starts: set[int] = {len(view)}
        at = 26 if self.version < 4 else 30
        self.properties, at = self._properties(at)
        layers, at = self._pointers(at, _ITEMS)
        channels, at = self._pointers(at, _ITEMS)
        self.layers = [self._item(start, "layer") for start in layers]
        self.channels = [self._item(start, "channel") for start in channels]
        self.ends = sorted(self.starts)

    def _long(self, at: int) -> int:
        return int(struct.unpack_from(">I", self.view, at)[0])

    def _properties(self, at: int) -> tuple[dict[int, bytes], int]:
        found: dict[int, bytes] = {}
        while True:
            kind, length = struct.unpack_from(">2I", self.view, at)
            at += 8
            if kind == _END:
                return found, at
            if at + length > len(self.view):
                raise ValueError("a property is cut off")
            found[kind] = bytes(self.view[at : at + length])
            at += length

    def _pointers(self, at: int, most: int) -> tuple[list[int], int]:
        found: list[int] = []
        while True:
            (start,) = struct.unpack_from(self.pointer, self.view, at)
            at += struct.calcsize(self.pointer)
            if not start:
                self.starts.update(found)
                return found, at
            found.append(start)
            if start >= len(self.view) or len(found) > most:
                raise ValueError("it leads out of the file")

    def _item(self, at: int, kind: str) -> _Item:
        """A layer, or a channel, which masks are too."""
        size = 12 if kind == "layer" else 8
        head = bytes(self.view[at : at + size])
        length = self._long(at + size)
        at += size + 4
        name = bytes(self.view[at : at + length]).rstrip(b"\0").decode("utf-8", "replace")
        properties, at = self._properties(at + length)
        if kind == "layer" and _GROUP in properties:
            kind = "group"
        (pixels,) = struct.unpack_from(self.pointer, self.view, at)
        mask = None
        if kind in ("layer", "group"):
            (start,) = struct.unpack_from(self.pointer, self.view, at + struct.calcsize(self.pointer))
            if start:
                self.starts.add(start)
                mask = self._item(start, "mask")
        return _Item(name, kind, head, properties, self._tiles(pixels), mask)

    def _tiles(self, at: int) -> tuple[int, ...]:
        self.starts.add(at)
        levels, _ = self._pointers(at + 12, _ITEMS)
        return tuple(self._pointers(levels[0] + 8, _TILES)[0]) if levels else ()

    def hash(self, item: _Item) -> str:
        """What `Element.hash` asks for."""
        found = sha256(item.head + item.name.encode())
        for kind, data in sorted(item.properties.items()):
            if kind not in (*_PASSING, _ITEM_PATH):
                found.update(struct.pack(">2I", kind, len(data)) + data)
        for start in item.tiles:
            # A tile ends where the next thing begins: its length is not written.
            found.update(self.view[start : self.ends[bisect_right(self.ends, start)]])
        return found.hexdigest()


def _items(image: _Image) -> Iterator[tuple[_Item, str, int | None]]:
    """Layers and channels with their paths, and at which place among these is what they are in."""
    count = 0
    places: dict[tuple[int, ...], int] = {}
    paths: dict[tuple[int, ...], str] = {}
    for number, item in enumerate((*image.layers, *image.channels)):
        place = item.place or (number,)
        above = place[:-1] if item.kind != "channel" else ()
        path = f"{paths[above]}/{item.name}" if above in paths else item.name
        own = count
        yield item, path, places.get(above) if above else None
        count += 1
        if item.kind != "channel":
            places[place], paths[place] = own, path
        if item.mask:
            yield item.mask, f"{path}/{item.mask.name}", own
            count += 1


def elements(path: Path) -> list[Element]:
    """Layers, groups, masks and channels, from the top down. Raises UnsupportedMedia."""
    with mapped(path) as view:
        image = _Image(view)
        found = list(_items(image))
        counts = Counter(item.tattoo for item, _, _ in found)
        ids = numbered(
            str(item.tattoo) if item.tattoo and counts[item.tattoo] == 1 else where for item, where, _ in found
        )
        return [
            Element(name, item.name, item.kind, ids[parent] if parent is not None else None, image.hash(item))
            for name, (item, _, parent) in zip(ids, found, strict=True)
        ]


def extract(path: Path, element: str, output: Path) -> None:
    """Have GIMP write a layer as a picture. Raises UnsupportedMedia, ToolFailed, ToolTimeout."""
    from gitvault.core.utils.process import run

    if not element.isdecimal():
        raise UnsupportedMedia(f"{path.name}: {element} has no number by which GIMP knows it")
    if output.suffix.lower() not in _PICTURES:
        raise UnsupportedMedia(f"{path.name}: a layer becomes a picture; give OUT one of {', '.join(_PICTURES)}")
    source, target = (str(file.absolute()).replace("\\", "\\\\").replace('"', '\\"') for file in (path, output))
    script = (
        f'(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "{source}" "{source}")))'
        f" (layer (car (gimp-image-get-layer-by-tattoo image {element}))))"
        f' (gimp-file-save RUN-NONINTERACTIVE image layer "{target}" "{target}"))'
    )
    try:
        run(["gimp", "-i", "-d", "-f", "-b", script, "-b", "(gimp-quit 1)"], timeout=_SECONDS)
    except ToolMissing:
        raise UnsupportedMedia(f"{path.name}: layers of GIMP images are taken out by GIMP, which is not here") from None
    if not output.exists():
        raise UnsupportedMedia(f"{path.name}: GIMP wrote nothing for {element}")
