"""What is in a TIFF file, read tag by tag without a copy of it in memory."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS = 273, 279, 324, 325
_NESTED = (330, 34665, 34853, 40965)
_MOST = 1 << 27


class _File:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        head = self.at(0, 4)
        self.endian = "little" if head[:2] == b"II" else "big"
        self.big = self.number(head[2:4]) == 43
        self.head = head

    def at(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        data = self.file.read(length) if length <= _MOST else b""
        if len(data) != length:
            raise UnsupportedMedia(f"{self.path.name}: {length} bytes at {offset} are not there; its bytes are saved")
        return data

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self.endian == "little" else "big")

    def word(self, offset: int) -> int:
        return self.number(self.at(offset, 8 if self.big else 4))

    def tags(self, offset: int) -> tuple[dict[int, tuple[int, bytes]], int]:
        """Type and value by tag, and the next directory."""
        lead, size, inline = (8, 20, 8) if self.big else (2, 12, 4)
        count = self.number(self.at(offset, lead))
        table = self.at(offset + lead, count * size)
        found = {}
        for start in range(0, len(table), size):
            row = table[start : start + size]
            tag, kind = self.number(row[:2]), self.number(row[2:4])
            length = self.number(row[4:-inline]) * _BYTES.get(kind, 1)
            value = row[-inline:][:length] if length <= inline else self.at(self.number(row[-inline:]), length)
            found[tag] = kind, value
        return found, self.word(offset + lead + count * size)

    def list(self, entry: tuple[int, bytes] | None) -> list[int]:
        if entry is None:
            return []
        size = _BYTES[entry[0]]
        return [self.number(entry[1][at : at + size]) for at in range(0, len(entry[1]), size)]

    def said(self, offset: int, depth: int = 0) -> Iterator[bytes]:
        """All that makes a directory what it is, but for where it is."""
        tags, _ = self.tags(offset)
        for tag, (kind, value) in sorted(tags.items()):
            if tag in (_STRIPS, _TILES):
                lengths = self.list(tags.get(_STRIP_LENGTHS if tag == _STRIPS else _TILE_LENGTHS))
                for start, length in zip(self.list((kind, value)), lengths, strict=True):
                    while length > 0:
                        step = min(length, _MOST)
                        yield self.at(start, step)
                        start, length = start + step, length - step
            elif tag in _NESTED and depth < 5:
                for start in self.list((kind, value)):
                    yield from self.said(start, depth + 1)
            else:
                yield b"%d %d %d " % (tag, kind, len(value)) + value


def witness(path: Path) -> dict[str, str]:
    """Hash by page's number. Raises UnsupportedMedia."""
    with path.open("rb") as stream:
        file = _File(path, stream)
        found = {DOCUMENT: sha256(file.head).hexdigest()}
        offset, seen = file.word(8 if file.big else 4), set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            page = sha256()
            for data in file.said(offset):
                page.update(data)
            found[str(len(found))] = page.hexdigest()
            offset = file.tags(offset)[1]
    return found
