"""Photoshop documents: smart objects whose content is in another file.

A document says for each where the file is, and where relative to itself. The lengths around a name that got longer are
put right; everything else stays as it is, byte for byte.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_LIMIT = 64 << 20
_KEY = b"lnkE"
_EXTERNAL = b"liFE"
_SIGNATURES = (b"8BIM", b"8B64")
_PATH = re.compile(rb"\0\0\0[\x07\x08](relPath|fullPath)TEXT(.{4})", re.DOTALL)
_NAME = 8 + 4 + 4
"""Bytes of an entry before its id: length, type, version."""


class _Block(NamedTuple):
    start: int
    """Of the length of its content."""
    wide: int
    """Bytes of that length."""
    size: int


class _Document(NamedTuple):
    section: int
    """Where the length of the section of layers is, in which the blocks are."""
    wide: int
    blocks: list[_Block]


def _number(file: BinaryIO, size: int) -> int:
    data = file.read(size)
    if len(data) < size:
        raise UnsupportedMedia(f"{os.path.basename(file.name)}: cut off; its bytes are saved")
    return int.from_bytes(data, "big")


def _document(file: BinaryIO) -> _Document:
    """Where the blocks of linked files are. Raises UnsupportedMedia for a damaged document."""
    end = os.fstat(file.fileno()).st_size
    file.seek(4)
    wide = 8 if _number(file, 2) == 2 else 4
    file.seek(26)
    # Colours of a palette, then resources: each with its length.
    for _ in range(2):
        file.seek(_number(file, 4), os.SEEK_CUR)
    section = file.tell()
    stop = section + wide + _number(file, wide)
    blocks: list[_Block] = []
    if stop > end:
        raise UnsupportedMedia(f"{os.path.basename(file.name)}: cut off; its bytes are saved")
    if stop > section + wide:
        file.seek(_number(file, wide), os.SEEK_CUR)
        if file.tell() < stop:
            file.seek(_number(file, 4), os.SEEK_CUR)
        while file.tell() + 12 <= stop:
            head = file.read(8)
            if head[:4] not in _SIGNATURES:
                break
            block = _block(file, stop, wide)
            if head[4:] == _KEY:
                blocks.append(block)
            file.seek(_behind(block))
    return _Document(section, wide, blocks)


def _block(file: BinaryIO, stop: int, wide: int) -> _Block:
    """The block whose length is next: in large documents some have eight bytes, which what follows them shows."""
    start = file.tell()
    for width in (4, 8) if wide == 8 else (4,):
        file.seek(start)
        block = _Block(start, width, _number(file, width))
        behind = _behind(block)
        if behind <= stop:
            file.seek(behind)
            if behind + 12 > stop or file.read(4) in _SIGNATURES:
                return block
    raise UnsupportedMedia(f"{os.path.basename(file.name)}: a block of an unknown make; its bytes are saved")


def _behind(block: _Block) -> int:
    return block.start + block.wide + block.size + -block.size % 4


def _content(file: BinaryIO, block: _Block) -> bytes:
    if block.size > _LIMIT:
        raise UnsupportedMedia(f"{os.path.basename(file.name)}: {block.size} bytes of links; its bytes are saved")
    file.seek(block.start + block.wide)
    return file.read(block.size)


def _entries(content: bytes) -> Iterator[tuple[int, int]]:
    """Where the entries for files outside begin and end, without what fills them up."""
    at = 0
    while at + _NAME < len(content):
        stop = at + 8 + int.from_bytes(content[at : at + 8], "big")
        if stop > len(content):
            return
        if content[at + 8 : at + 12] == _EXTERNAL:
            yield at, stop
        at = stop + -stop % 4


def _spans(content: bytes, start: int, stop: int) -> list[Span]:
    found = []
    for path in _PATH.finditer(content, start, stop):
        first = path.end()
        last = first + 2 * int.from_bytes(path[2], "big")
        target = content[first:last].decode("utf-16-be", "replace").rstrip("\0")
        if target and last <= stop:
            found.append((path[1], Span(Reference("smart object", target, "image"), first - 4, last, _encode)))
    # Where both are, the relative one counts.
    relative = any(key == b"relPath" for key, _ in found)
    return [span if key == b"relPath" or not relative else _hint(span) for key, span in found]


def _hint(span: Span) -> Span:
    return Span(Reference(span.reference.source, span.reference.target, "hint"), span.start, span.stop, span.encode)


def _encode(text: str) -> bytes:
    data = (text + "\0").encode("utf-16-be")
    return (len(data) // 2).to_bytes(4, "big") + data


def references(path: Path) -> list[Reference]:
    """The files that smart objects are linked to. Raises UnsupportedMedia."""
    with open(path, "rb") as file:
        contents = [_content(file, block) for block in _document(file).blocks]
    found = (span.reference for one in contents for where in _entries(one) for span in _spans(one, *where))
    return list(dict.fromkeys(found))


def rewrite(path: Path, targets: Mapping[str, str], output: Path) -> int:
    """The document with other names; how many. Raises UnsupportedMedia."""
    count = longer = 0
    with open(path, "rb") as file, open(output, "xb") as out:
        document = _document(file)
        made: list[tuple[_Block, bytes]] = []
        for block in document.blocks:
            content, here = _rewritten(_content(file, block), targets)
            made.append((block, content))
            count += here
            longer += len(content) + -len(content) % 4 - block.size - -block.size % 4
        file.seek(document.section)
        size = _number(file, document.wide) + longer
        at = document.section + document.wide
        spans.copy(file, out, 0, document.section)
        out.write(size.to_bytes(document.wide, "big"))
        for block, content in made:
            spans.copy(file, out, at, block.start)
            out.write(len(content).to_bytes(block.wide, "big") + content + bytes(-len(content) % 4))
            at = _behind(block)
        spans.copy(file, out, at)
    return count


def _rewritten(content: bytes, targets: Mapping[str, str]) -> tuple[bytes, int]:
    parts: list[bytes] = []
    at = count = 0
    for start, stop in _entries(content):
        inside = content[start + 8 : stop]
        moved = [
            Span(span.reference, span.start - start - 8, span.stop - start - 8, span.encode)
            for span in _spans(content, start, stop)
        ]
        new, here = spans.spliced(inside, moved, targets)
        behind = min(stop + -stop % 4, len(content))
        # Each entry is filled up to a multiple of four.
        parts += content[at:start], len(new).to_bytes(8, "big"), new, bytes(-len(new) % 4)
        at = behind
        count += here
    return (b"".join((*parts, content[at:])), count) if count else (content, 0)
