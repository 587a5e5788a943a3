"""Previews that files bring along, found without reading the rest of the file.

Photoshop's resource 1036, a member of Krita's and OpenRaster's zip, Blender's TEST block, OpenEXR's `preview`. What is
there is believed: an application that does not keep its preview shows the one of an earlier state.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from gitvault.formats.extras import need

# Bytes; a preview has a thousandth of that.
_LARGEST = 64 << 20
_NAME = 256


class NotThere(Exception):
    """A part of a file that was not fetched."""


class Partial(io.RawIOBase):
    """A file of which the middle is missing. Reading that raises NotThere."""

    def __init__(self, file: BinaryIO, head: int, tail: int) -> None:
        """`head`, `tail`: how many bytes are there at both ends."""
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self._head = head
        self._tail = self._size - tail
        file.seek(0)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See io."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """See io."""
        start = self._file.tell()
        stop = min(start + len(buffer), self._size)
        if start < stop and stop > self._head and start < self._tail:
            raise NotThere
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def preview(kind: str, file: BinaryIO) -> Any:
    """The preview, as a PIL image, of a file of this format; None when it has none. Raises NotThere."""
    found = _PREVIEWS[kind](file) if kind in _PREVIEWS else None
    # One of a few pixels, or of none, tells nothing.
    return found if found and min(found.size) > 0 and max(found.size) >= 32 else None


def _psd(file: BinaryIO) -> Any:
    file.seek(26)
    file.seek(_number(file), io.SEEK_CUR)
    end = _number(file) + file.tell()
    while file.tell() + 12 <= end:
        if file.read(4) != b"8BIM":
            return None
        kind = int.from_bytes(file.read(2), "big")
        name = file.read(1)[0]
        file.seek(name + (name + 1) % 2, io.SEEK_CUR)
        size = _number(file)
        if kind == 1036 and 28 < size <= _LARGEST and _number(file) == 1:
            return _decoded(_exactly(file, size - 4)[24:])
        file.seek(size + size % 2 - (4 if kind == 1036 and 28 < size <= _LARGEST else 0), io.SEEK_CUR)
    return None


def _zipped(*names: str) -> Callable[[BinaryIO], Any]:
    def read(file: BinaryIO) -> Any:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {member.filename: member for member in archive.infolist()}
                for name in names:
                    if (member := members.get(name)) and member.file_size <= _LARGEST:
                        return _decoded(archive.read(member))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error):
            pass
        return None

    return read


def _blend(file: BinaryIO) -> Any:
    stream = _inflated(file)
    head = _exactly(stream, 12)
    if not head.startswith(b"BLENDER"):
        return None
    if head[7:9].isdigit():
        # Blender 5: the header's length, then wider fields.
        _exactly(stream, max(int(head[7:9]) - 12, 0))
        layout, width = "<4s12xq8x", 32
    else:
        order = "<" if head[8:9] == b"v" else ">"
        layout, width = (f"{order}4si16x", 24) if head[7:8] == b"-" else (f"{order}4si12x", 20)
    # It comes before everything else but a few small blocks.
    for _ in range(8):
        code, size = struct.unpack(layout, _exactly(stream, width))
        if code == b"ENDB" or not 0 <= size <= _LARGEST:
            return None
        data = _exactly(stream, size)
        if code == b"TEST" and size > 8:
            across, down = struct.unpack(layout[0] + "ii", data[:8])
            return _raw(across, down, data[8:], upside_down=True)
    return None


def _inflated(file: BinaryIO) -> Any:
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file, read_across_frames=True)
    if start[:2] == b"\x1f\x8b":
        import gzip

        return gzip.GzipFile(fileobj=file)
    return file


def _exr(file: BinaryIO) -> Any:
    file.seek(8)
    for _ in range(1000):
        if not _word(file):
            return None
        kind = _word(file)
        size = int.from_bytes(_exactly(file, 4), "little")
        if kind == b"preview" and 8 < size <= _LARGEST:
            data = _exactly(file, size)
            across, down = struct.unpack("<II", data[:8])
            return _raw(across, down, data[8:])
        file.seek(size, io.SEEK_CUR)
    return None


_PREVIEWS: dict[str, Callable[[BinaryIO], Any]] = {
    "psd": _psd,
    "kra": _zipped("preview.png", "mergedimage.png"),
    "ora": _zipped("Thumbnails/thumbnail.png", "mergedimage.png"),
    "blend": _blend,
    "exr": _exr,
}
KINDS = frozenset(_PREVIEWS)
"""Formats whose files may bring a preview along."""
ZIPPED = frozenset(("kra", "ora"))
"""Those that are read from their end."""


def _number(file: BinaryIO) -> int:
    return int.from_bytes(_exactly(file, 4), "big")


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    if len(data) != size:
        raise EOFError("the file ends too early")
    return data


def _word(file: BinaryIO) -> bytes:
    word = bytearray()
    while (letter := _exactly(file, 1)) != b"\0":
        word += letter
        if len(word) > _NAME:
            raise EOFError("a name without an end")
    return bytes(word)


def _decoded(data: bytes) -> Any:
    image = need("PIL.Image", "image").open(io.BytesIO(data), formats=("PNG", "JPEG"))
    image.load()
    return image


def _raw(across: int, down: int, data: bytes, *, upside_down: bool = False) -> Any:
    if not (0 < across <= 4096 and 0 < down <= 4096 and len(data) >= across * down * 4):
        return None
    pillow = need("PIL.Image", "image")
    return pillow.frombuffer("RGBA", (across, down), data, "raw", "RGBA", 0, -1 if upside_down else 1)
