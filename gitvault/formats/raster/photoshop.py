"""The picture that all layers of a Photoshop document (PSD, PSB) make, exactly as it is stored.

OpenImageIO takes black ink for transparency, and the white ground out of what is transparent: neither can be undone.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gitvault.formats.extras import need

if TYPE_CHECKING:
    from gitvault.formats.raster.read import Pixels

_BITMAP, _INDEXED, _CMYK = 0, 2, 4
_ROWS_PACKED = 1
_COLOURS = {0: "Y", 1: "Y", 2: "P", 3: "RGB", 4: "CMYK", 7: "", 8: "Y", 9: ("L", "a", "b")}
_TYPES = {8: ">u1", 16: ">u2", 32: ">f4"}
_DEPTHS = {1: "uint8", 8: "uint8", 16: "uint16", 32: "float"}


class Header:
    """What the file says of itself. Raises ValueError."""

    def __init__(self, file: BinaryIO) -> None:
        self.version, self.count, self.height, self.width, self.bits, self.mode = struct.unpack(
            ">4xH6xHIIHH", _exactly(file, 26)
        )
        if self.version not in (1, 2) or self.mode not in _COLOURS or self.bits not in _DEPTHS:
            raise ValueError(f"version {self.version}, colour mode {self.mode}, {self.bits} bits: none that is known")
        if not (0 < self.count <= 56 and self.width and self.height):
            raise ValueError(f"{self.count} channels of {self.width} x {self.height}")
        self.depth = _DEPTHS[self.bits]

    @property
    def channels(self) -> tuple[str, ...]:
        """Their names; the first that is no colour is the transparency, others are masks."""
        colours = tuple("RGB" if self.mode == _INDEXED else _COLOURS[self.mode])
        further = self.count - (1 if self.mode == _INDEXED else len(colours))
        return colours + tuple("A" if not n and colours else f"alpha {n + 1}" for n in range(further))


def merged(path: Path) -> Pixels:
    """Height x width x channels; inks as much as there is of them. Raises ValueError, OSError."""
    np = need("numpy", "image")
    with open(path, "rb") as file:
        header = Header(file)
        palette = _section(file, ">I", keep=True)
        _section(file, ">I")
        _section(file, ">I" if header.version == 1 else ">Q")
        (packed,) = struct.unpack(">H", _exactly(file, 2))
        data = _unpacked(file.read(), packed, header)
    shape = header.count, header.height
    if header.bits == 1:
        rows = np.frombuffer(data, np.uint8).reshape(*shape, -1)
        # What is set is black.
        return np.stack([255 * (1 - np.unpackbits(plane, axis=1)[:, : header.width]) for plane in rows], axis=-1)
    stored = np.frombuffer(data, _TYPES[header.bits]).reshape(*shape, header.width)
    pixels = np.ascontiguousarray(stored.transpose(1, 2, 0), stored.dtype.newbyteorder("="))
    if header.mode == _INDEXED:
        if len(palette) < 768:
            raise ValueError("its palette is cut off")
        colours = np.frombuffer(palette[:768], np.uint8).reshape(3, 256).T
        return np.concatenate([colours[pixels[..., 0]], pixels[..., 1:]], axis=-1)
    if header.mode == _CMYK and header.bits < 32:
        pixels[..., :4] = np.iinfo(pixels.dtype).max - pixels[..., :4]
    return pixels


def _unpacked(data: bytes, packed: int, header: Header) -> bytes:
    compression: Any = need("psd_tools.compression", "image")
    rows = header.height * header.count
    if packed == _ROWS_PACKED:
        # Rows that are cut off would become black.
        np = need("numpy", "image")
        kind = np.dtype(">u2" if header.version == 1 else ">u4")
        lengths = np.frombuffer(data[: rows * kind.itemsize], kind)
        if len(lengths) < rows or int(lengths.sum()) + lengths.nbytes > len(data):
            raise ValueError("it ends before its end")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            method = compression.Compression(packed)
            found = compression.decompress(data, method, header.width, rows, header.bits, header.version)
        except compression.PSDDecompressionWarning as warning:
            raise ValueError(str(warning)) from warning
    size = rows * ((header.width * header.bits + 7) // 8)
    if len(found) != size:
        raise ValueError(f"{size:,} bytes of pixels expected, {len(found):,} found")
    return bytes(found)


def _section(file: BinaryIO, size: str, *, keep: bool = False) -> bytes:
    """Go past a section; its bytes when they are wanted."""
    (length,) = struct.unpack(size, _exactly(file, struct.calcsize(size)))
    if keep:
        return file.read(min(length, 1 << 20))
    file.seek(length, 1)
    return b""


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it ends before its end")
    return data
