"""How Blender's files are packed: as they are, by gzip (before 3.0), by zstd (from then on)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final, Protocol

LIMIT: Final = 4 << 30
"""Bytes of an unpacked file: more is refused before memory is taken for it."""
_STEP = 1 << 20


def unpack(path: Path) -> tuple[bytes, str]:
    """A file's unpacked content, and its packing: `none`, `gzip`, `zstd`. Raises ValueError, OSError."""
    with open(path, "rb") as file:
        start = file.read(4)
        file.seek(0)
        if start[:2] == b"\x1f\x8b":
            import gzip

            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _all_of(unpacked), "gzip"
            except (zlib.error, EOFError, gzip.BadGzipFile) as error:
                raise ValueError(f"it cannot be unpacked: {error}") from error
        if start == b"\x28\xb5\x2f\xfd":
            import zstandard

            try:
                with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as unpacked:
                    return _all_of(unpacked), "zstd"
            except zstandard.ZstdError as error:
                raise ValueError(f"it cannot be unpacked: {error}") from error
        return _all_of(file), "none"


def pack(content: bytes, packing: str) -> bytes:
    """The file again."""
    if packing == "gzip":
        import gzip

        return gzip.compress(content, 6, mtime=0)
    if packing == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3).compress(content)
    return content


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _all_of(file: _Readable) -> bytes:
    content = bytearray()
    while piece := file.read(_STEP):
        content += piece
        if len(content) > LIMIT:
            raise ValueError(f"unpacked it has more than {LIMIT >> 30} GiB")
    return bytes(content)
