"""Two PNG images that say the same of themselves: only their pixels are read, in half the time that others take.

libdeflate inflates, beside the import of numpy and OpenCV; OpenCV undoes the filters, strip by strip, of a PNG that is
not packed. Whatever is unusual is left to OpenImageIO, damage too: it says what there is to say of it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.formats.extras import need
from gitvault.formats.raster.read import Image, Part

if TYPE_CHECKING:
    from gitvault.formats.raster.read import Pixels

_MAGIC = b"\x89PNG\r\n\x1a\n"
_HEAD = struct.Struct(">II5B")
_CHANNELS = {2: ("R", "G", "B"), 6: ("R", "G", "B", "A")}
# One colour is transparent: a channel that is not stored.
_KEYED = b"tRNS"
_LARGEST = 256 << 20
"""Bytes of pixels; larger images are read in strips from the start."""
_FILTERS = 5
_STORED = 65535
"""What a block that is not packed can hold."""


@dataclass(frozen=True, slots=True)
class _File:
    header: bytes
    others: tuple[bytes, ...]
    """All chunks but those of pixels."""
    rows: bytearray
    """Each behind the number of its filter."""


def open_alike(before: Path, after: Path) -> tuple[Image, Image] | None:
    """Both, without what files say beside pixels; None when that differs, or one is not plain and whole.

    Plain: 8 bits of RGB or RGBA, not interlaced. Raises OSError, ToolMissing.
    """
    heads = []
    for path in (before, after):
        with path.open("rb") as file:
            heads.append(file.read(len(_MAGIC) + 8 + _HEAD.size))
    if heads[0] != heads[1] or not heads[0].startswith(_MAGIC):
        return None
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(_read, path) for path in (before, after)]
        for module in ("numpy", "cv2"):
            need(module, "image")
        a, b = (file.result() for file in waiting)
    if not (a and b) or a.others != b.others:
        return None
    return _image(a), _image(b)


def _read(path: Path) -> _File | None:
    """None when it is not plain, or damaged."""
    others: list[bytes] = []
    packed: list[memoryview] = []
    data = memoryview(path.read_bytes())
    at, kind = len(_MAGIC), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            return None
        stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, content, check = bytes(data[at + 4 : at + 8]), data[at + 8 : stop - 4], data[stop - 4 : stop]
        if zlib.crc32(content, zlib.crc32(kind)).to_bytes(4, "big") != check or kind == _KEYED:
            return None
        if kind == b"IDAT":
            packed.append(content)
        else:
            others.append(kind + content)
        at = stop
    header = others[0][4:]
    if others[0][:4] != b"IHDR" or len(header) != _HEAD.size:
        return None
    width, height, bits, colour, *rest = _HEAD.unpack(header)
    if bits != 8 or colour not in _CHANNELS or any(rest) or not 0 < width * height * 4 <= _LARGEST:
        return None
    size = 1 + width * len(_CHANNELS[colour])
    rows = _inflated(b"".join(packed), height * size)
    if len(rows) != height * size or max(rows[::size]) >= _FILTERS:
        return None
    return _File(header, tuple(others), rows)


def _inflated(packed: bytes, size: int) -> bytearray:
    """Empty when it is damaged, or of another size."""
    import deflate

    try:
        return deflate.zlib_decompress(packed, size)
    except deflate.DeflateError:
        return bytearray()


def _image(file: _File) -> Image:
    width, height, _, colour, *_ = _HEAD.unpack(file.header)
    part = Part("1", 0, 0, width, height, _CHANNELS[colour], "uint8", 8)
    return Image((part,), _Strips(file))


class _Strips:
    """Rows in their order, each filtered by what is above it."""

    def __init__(self, file: _File) -> None:
        self._header = _HEAD.unpack(file.header)
        self._rows = memoryview(file.rows)
        self._size = len(file.rows) // self._header[1]
        self._above = b""
        self._next = 0

    def __call__(self, part: Part, start: int, stop: int) -> Pixels:
        if start < self._next:
            self._above, self._next = b"", 0
        if start > self._next:
            self._until(start)
        return self._until(stop)

    def _until(self, stop: int) -> Pixels:
        np, cv2 = need("numpy", "image"), need("cv2", "image")
        rows = [self._rows[self._next * self._size : stop * self._size]]
        if self._above:
            # A filter of its own would ask for what is above: 0, none.
            rows.insert(0, memoryview(b"\0" + self._above))
        width, _, *rest = self._header
        header = _HEAD.pack(width, stop - self._next + bool(self._above), *rest)
        png = b"".join((_MAGIC, *_chunk(b"IHDR", header), *_chunk(b"IDAT", *_stored(rows)), *_chunk(b"IEND")))
        pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, pixels)
        found: Pixels = pixels[bool(self._above) :]
        self._above, self._next = pixels[-1].tobytes(), stop
        return found


def _chunk(kind: bytes, *pieces: bytes | memoryview) -> Iterator[bytes | memoryview]:
    yield struct.pack(">I", sum(map(len, pieces)))
    yield kind
    check = zlib.crc32(kind)
    for piece in pieces:
        check = zlib.crc32(piece, check)
        yield piece
    yield struct.pack(">I", check)


def _stored(pieces: list[memoryview]) -> Iterator[bytes | memoryview]:
    """A zlib stream of blocks that are not packed."""
    yield b"\x78\x01"
    check = 1
    for piece in pieces:
        check = zlib.adler32(piece, check)
        for at in range(0, len(piece), _STORED):
            block = piece[at : at + _STORED]
            yield struct.pack("<BHH", 0, len(block), len(block) ^ _STORED)
            yield block
    yield struct.pack("<BHH", 1, 0, _STORED)
    yield struct.pack(">I", check)
