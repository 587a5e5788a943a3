"""Pages of TIFF files. A page that is put in is appended, with all it needs, and the chain of pages led through it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.mapping import mapped

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
# Where pieces of pixels are, and how long they are.
_PIECES = {273: 279, 324: 325}
_DIRECTORIES = frozenset((330, 34665, 34853, 40965))
_COMPRESSION, _PAGE_NAME, _OLD_JPEG = 259, 285, 6
_PAGES, _DEPTH, _TAGS, _PIECE_COUNT = 1 << 16, 4, 4096, 1 << 24


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file writes numbers."""

    order: str
    is_big: bool

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def entry(self) -> str:
        return self.order + ("HHQ8s" if self.is_big else "HHI4s")

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.is_big else "I")

    @property
    def width(self) -> int:
        return 8 if self.is_big else 4

    def numbers(self, kind: int, data: bytes | memoryview) -> list[int]:
        """The whole numbers of an entry."""
        letter = _WHOLE.get(kind)
        if letter is None:
            raise ValueError(f"whole numbers expected, found type {kind}")
        return [number for (number,) in struct.iter_unpack(self.order + letter, data)]


@dataclass(frozen=True, slots=True)
class _Directory:
    """A page, or what belongs to one: thumbnails, Exif."""

    entries: tuple[tuple[int, int, int, bytes | memoryview], ...]
    """Tag, type, count and value; offsets say nothing."""
    pieces: dict[int, list[memoryview]]
    """The pixels, by the tag that says where they are."""
    inner: dict[int, list[_Directory]]
    link: int
    """Where in the file it is written where the next page is."""
    next: int

    def value(self, tag: int) -> tuple[int, int, bytes | memoryview] | None:
        """Type, count and bytes of a tag."""
        return next(((kind, count, data) for known, kind, count, data in self.entries if known == tag), None)


class _Reader:
    """The pages of a file."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        order = {b"II": "<", b"MM": ">"}[bytes(view[:2])]
        (version,) = struct.unpack_from(order + "H", view, 2)
        self.layout = _Layout(order, version == 43)
        if version not in (42, 43):
            raise ValueError(f"version {version}")
        self.first = 8 if self.layout.is_big else 4
        self.pages = list(self._pages())

    def _pages(self) -> Iterator[_Directory]:
        (at,) = struct.unpack_from(self.layout.offset, self.view, self.first)
        seen: set[int] = set()
        while at:
            if at in seen or len(seen) > _PAGES:
                raise ValueError("its pages lead in a circle")
            seen.add(at)
            page = self._directory(at, 0)
            yield page
            at = page.next

    def _directory(self, at: int, depth: int) -> _Directory:
        layout = self.layout
        if depth > _DEPTH:
            raise ValueError("directories inside each other")
        (count,) = struct.unpack_from(layout.count, self.view, at)
        if count > _TAGS:
            raise ValueError(f"a page with {count} tags")
        at += struct.calcsize(layout.count)
        size = struct.calcsize(layout.entry)
        entries = []
        for number in range(count):
            tag, kind, amount, field = struct.unpack_from(layout.entry, self.view, at + number * size)
            if kind not in _SIZES:
                raise ValueError(f"tag {tag} has the unknown type {kind}")
            length = amount * _SIZES[kind]
            if length <= layout.width:
                entries.append((tag, kind, amount, field[:length]))
            else:
                (start,) = struct.unpack(layout.offset, field)
                entries.append((tag, kind, amount, self._part(start, length)))
        values = {tag: (kind, data) for tag, kind, _, data in entries}
        if any(tag in values for tag in (288, 519, 520, 521)) or (
            _COMPRESSION in values and layout.numbers(*values[_COMPRESSION]) == [_OLD_JPEG]
        ):
            raise UnsupportedMedia("a TIFF with JPEG of the old kind, whose parts nobody can tell apart")
        pieces, inner = {}, {}
        for tag, lengths in _PIECES.items():
            if tag in values:
                starts = layout.numbers(*values[tag])
                sizes = layout.numbers(*values[lengths])
                if len(starts) != len(sizes) or len(starts) > _PIECE_COUNT:
                    raise ValueError("its pieces are not as many as their lengths")
                pieces[tag] = [self._part(start, size) for start, size in zip(starts, sizes, strict=True)]
        for tag in _DIRECTORIES & values.keys():
            inner[tag] = [self._directory(start, depth + 1) for start in layout.numbers(*values[tag])]
        link = at + count * size
        (following,) = struct.unpack_from(layout.offset, self.view, link)
        return _Directory(tuple(entries), pieces, inner, link, following)

    def _part(self, start: int, length: int) -> memoryview:
        if start + length > len(self.view):
            raise ValueError(f"{length} bytes expected at {start}, the file has {len(self.view)}")
        return self.view[start : start + length]


def _hash(page: _Directory) -> str:
    found = sha256()
    for tag, kind, count, data in page.entries:
        found.update(struct.pack("<HHQ", tag, kind, count))
        if tag in page.pieces:
            for piece in page.pieces[tag]:
                found.update(len(piece).to_bytes(8, "big"))
                found.update(piece)
        elif tag in page.inner:
            found.update("".join(_hash(inner) for inner in page.inner[tag]).encode())
        else:
            found.update(data)
    return found.hexdigest()


def elements(path: Path) -> list[Element]:
    """The pages, known by their number from 1 on. Raises UnsupportedMedia."""
    with mapped(path) as view:
        found = []
        for number, page in enumerate(_Reader(view).pages, 1):
            named = page.value(_PAGE_NAME)
            name = bytes(named[2]).rstrip(b"\0").decode("utf-8", "replace") if named else ""
            found.append(Element(str(number), name or f"page {number}", "page", None, _hash(page)))
        return found


class _Writer:
    """Appends directories to a file."""

    def __init__(self, file: BinaryIO, layout: _Layout) -> None:
        self.file = file
        self.layout = layout

    def directory(self, page: _Directory, following: int) -> int:
        """Append a page with all that is its; where it begins."""
        layout = self.layout
        entries = []
        for tag, kind, count, data in page.entries:
            if tag in page.pieces:
                kind, data = self._offsets([self._append(piece) for piece in page.pieces[tag]])
            elif tag in page.inner:
                kind, data = self._offsets([self.directory(inner, 0) for inner in page.inner[tag]])
            if len(data) > layout.width:
                data = struct.pack(layout.offset, self._append(data))
            entries.append(struct.pack(layout.entry, tag, kind, count, bytes(data)))
        start = self._align()
        self.file.write(struct.pack(layout.count, len(entries)) + b"".join(entries))
        self.file.write(struct.pack(layout.offset, following))
        return start

    def _offsets(self, places: list[int]) -> tuple[int, bytes]:
        kind, letter = (16, "Q") if self.layout.is_big else (4, "I")
        return kind, struct.pack(f"{self.layout.order}{len(places)}{letter}", *places)

    def _append(self, data: bytes | memoryview) -> int:
        start = self._align()
        self.file.write(data)
        if not self.layout.is_big and self.file.tell() >= 1 << 32:
            raise UnsupportedMedia("the file would be over 4 GiB, which only a BigTIFF can be")
        return start

    def _align(self) -> int:
        self.file.write(bytes(-self.file.tell() % 8))
        return self.file.tell()


def extract(path: Path, element: str, output: Path) -> None:
    """Write a page as a file of its own. Raises UnsupportedMedia."""
    with mapped(path) as view, output.open("wb") as file:
        reader = _Reader(view)
        file.write(bytes(view[: reader.first]) + bytes(reader.layout.width))
        start = _Writer(file, reader.layout).directory(reader.pages[int(element) - 1], 0)
        file.seek(reader.first)
        file.write(struct.pack(reader.layout.offset, start))


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """Write the current file with a page of the old one. Raises UnsupportedMedia."""
    with mapped(old) as before, mapped(current) as now, output.open("wb") as file:
        theirs, ours = _Reader(before), _Reader(now)
        if theirs.layout != ours.layout:
            raise UnsupportedMedia(
                f"{current.name}: its byte order or kind (TIFF, BigTIFF) is not that of {old.name}; convert one first"
            )
        number = int(element) - 1
        if number > len(ours.pages):
            raise UnsupportedMedia(
                f"{current.name}: has {len(ours.pages)} pages, so nothing can become its page {element}"
            )
        link = ours.pages[number - 1].link if number else ours.first
        following = ours.pages[number].next if number < len(ours.pages) else 0
        file.write(now)
        start = _Writer(file, ours.layout).directory(theirs.pages[number], following)
        file.seek(link)
        file.write(struct.pack(ours.layout.offset, start))
