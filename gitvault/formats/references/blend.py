"""Blender files: libraries, images, sounds, fonts, volumes, caches and clips, unless they are packed into the file."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span
from gitvault.formats.scene import packing
from gitvault.formats.scene.blend import Blend, Datablock

_KINDS = {
    b"LI": "library",
    b"IM": "image",
    b"SO": "sound",
    b"VF": "font",
    b"VO": "volume",
    b"CF": "cache",
    b"MC": "movie",
}
# What of an image comes from a file: one, a sequence of them, a movie, tiles.
_FROM_FILES = {1: "image", 2: "sequence", 3: "movie", 6: "image"}
_BUILT_IN = "<builtin>"


def _spans(content: bytes) -> Iterator[Span]:
    try:
        blend = Blend(content)
        for datablock in blend.datablocks:
            yield from _of(blend, datablock)
    except (ValueError, struct.error, IndexError) as error:
        raise UnsupportedMedia(f"not read as a Blender file: {error}; its bytes are saved") from error


def _of(blend: Blend, datablock: Datablock) -> Iterator[Span]:
    block = datablock.block
    kind = _KINDS.get(block.code)
    if kind is None or blend.address(block, b"packedfile") or blend.address(block, b"packedfiles.first"):
        return
    if block.code == b"IM":
        kind = _FROM_FILES.get(blend.number(block, b"source"))
    elif block.code == b"MC":
        kind = {1: "sequence", 2: "movie"}.get(blend.number(block, b"source"), kind)
    # It is called `name` in older files, where libraries have an absolute one beside it.
    for path in (b"name", b"filepath"):
        found = blend.where(block, path)
        if found and kind:
            start, size = found
            target = blend.text(block, path)
            if target and target != _BUILT_IN:
                source = f"{block.code.decode()}/{datablock.name}"
                yield Span(Reference(source, target, kind), start, start + size, _fit(size))
            return


def _fit(size: int) -> Callable[[str], bytes]:
    def encode(text: str) -> bytes:
        data = spans.encode_plain(text)
        if len(data) >= size:
            raise UnsupportedMedia(f"{text}: longer than the {size - 1} bytes that Blender has for it; left as it is")
        return data + bytes(size - len(data))

    return encode


def _opened(file: BinaryIO) -> bytes:
    try:
        return packing.unpack(Path(file.name))[0]
    except ValueError as error:
        raise UnsupportedMedia(f"{os.path.basename(file.name)}: {error}; its bytes are saved") from error


def _closed(file: BinaryIO, inside: bytes, out: BinaryIO) -> None:
    out.write(packing.pack(inside, packing.unpack(Path(file.name))[1]))


references, rewrite = spans.capabilities(_spans, _opened, _closed)
