"""FBX: the files that textures, videos, sounds and caches name, binary and as text, unless the scene holds them itself.

A binary node says where it ends and how long its values are: names of another length move all that stands behind them.
"""

from __future__ import annotations

import struct
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from gitvault.formats import Reference
from gitvault.formats.fbx import Binary, Node, Object, Text, connections, objects, parsed
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_FILES = {"Texture": "image", "Video": "image", "Audio": "sound", "Cache": "cache"}
_RELATIVE = ("RelativeFilename", "RelPath")
"""Where one stands the absolute ones beside it are those of the machine that wrote the file."""
_FILE_NAMES = ("FileName", "Filename", "RelativeFilename", "CacheFileName", "CacheAbsoluteFileName")
_PROPERTIES = ("Properties70", "Properties60")
_URLS = frozenset(("XRefUrl", "Url"))
"""Kinds of properties that are a file's name: Autodesk's and Blender's."""
_TAIL = 4 + 120 + 16
"""The version, zeros and a mark: what ends a binary file."""
_MARK = bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")


def references(path: Path) -> list[Reference]:
    """`Format.references`. Raises OSError, UnsupportedMedia."""
    with open(path, "rb") as file:
        data = spans.read(file)
    root, _ = parsed(data, path.name)
    return references_in(root)


def references_in(root: Node) -> list[Reference]:
    """The files that a scene names, as absolute and as relative paths."""
    return list(dict.fromkeys(Reference(source, text, kind) for source, text, kind in _names(root)))


def packed_in(root: Node) -> dict[str, bytes]:
    """The files that a scene holds itself, each by the last of its names, a relative one where it has one."""
    return {
        max(named, key=lambda one: one[0] in _RELATIVE, default=("", thing.name))[1]: content
        for thing, named in _naming(root)
        if (content := b"".join(map(_bytes, _pieces(thing.node))))
    }


def rewrite(path: Path, targets: Mapping[str, str], output: Path) -> int:
    """`Format.rewrite`. Raises OSError, UnsupportedMedia."""
    with open(path, "rb") as file:
        data = spans.read(file)
    root, binary = parsed(data, path.name)
    found = list(_spans(root, is_text=binary is None))
    if binary:
        data = _with_lengths(data, binary, found, targets)
    written, count = spans.spliced(data, found, targets)
    if binary:
        written = _aligned(written, len(written) - len(data))
    with open(output, "xb") as out:
        out.write(written)
    return count


def _names(root: Node) -> Iterator[tuple[str, Text, str]]:
    naming = _naming(root)
    packed = _packed(root, naming)
    for thing, named in naming:
        if thing.id not in packed:
            relative = any(name in _RELATIVE for name, _ in named)
            for name, text in named:
                yield thing.key, text, "hint" if relative and name not in _RELATIVE else _FILES[thing.node.name]


_Naming = list[tuple[Object, list[tuple[str, Text]]]]


def _naming(root: Node) -> _Naming:
    """The objects that stand for files: what says a name, and the name."""
    found = _Naming()
    for thing in objects(root):
        if thing.node.name in _FILES:
            said = [
                (child.name, text)
                for child in thing.node.children
                if child.name in _FILE_NAMES
                for text in child.values
            ]
            said += [
                (one.values[0], one.values[-1])
                for child in thing.node.children
                if child.name in _PROPERTIES
                for one in child.children
                if _URLS.intersection(map(str, one.values[1:-1]))
            ]
            found.append((thing, [(name, text) for name, text in said if isinstance(text, Text) and text]))
    return found


def _packed(root: Node, naming: _Naming) -> set[str]:
    """The ids of objects whose file is in the scene: that hold it, show what holds it, or name the same file."""
    holding = {thing.id for thing, _ in naming if any(_pieces(thing.node))}
    names = {text for thing, named in naming if thing.id in holding for _, text in named}
    showing = {target for source, target, _ in connections(root) if source in holding}
    return holding | showing | {thing.id for thing, named in naming if any(text in names for _, text in named)}


def _pieces(node: Node) -> list[Any]:
    """The file that a video holds: bytes, or base64 in one piece or several; nothing, or empty ones, for none."""
    inside = node.first("Content")
    return inside.values if inside else []


def _bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        try:
            return b64decode(piece)
        except ValueError:
            return piece.encode("utf-8", "replace")
    return piece if isinstance(piece, bytes) else b""


def _spans(root: Node, *, is_text: bool) -> Iterator[Span]:
    for source, text, kind in _names(root):
        # In binary files the length stands before the text.
        start = text.start if is_text else text.start - 4
        yield Span(Reference(source, str(text), kind), start, text.stop, _quoted if is_text else _sized)


def _quoted(text: str) -> bytes:
    return spans.encode_plain(text.replace('"', "&quot;"))


def _sized(text: str) -> bytes:
    data = spans.encode_plain(text)
    return struct.pack("<I", len(data)) + data


def _with_lengths(data: bytes, binary: Binary, found: Sequence[Span], targets: Mapping[str, str]) -> bytes:
    """The bytes with the places and lengths that they will have when names have their new length."""
    changes = sorted(
        (span.stop, len(span.encode(targets[span.reference.target])) - (span.stop - span.start))
        for span in found
        if span.reference.target in targets
    )
    ends = [stop for stop, _ in changes]
    sums = [0, *accumulate(change for _, change in changes)]

    def moved(place: int) -> int:
        return place + sums[bisect_right(ends, place)]

    made = bytearray(data)
    number = binary.numbers
    for head in binary.heads:
        number.pack_into(made, head.at, moved(head.until))
        number.pack_into(made, head.at + 2 * number.size, moved(head.begin + head.length) - moved(head.begin))
    return bytes(made)


def _aligned(data: bytes, grown: int) -> bytes:
    """The bytes with as many zeros before the last ones as programs write: they begin at a multiple of 16."""
    tail = len(data) - _TAIL
    zeros = tail - len(data[:tail].rstrip(b"\0"))
    # Four always stand there, and one to sixteen more.
    if not data.endswith(_MARK) or (tail - grown) % 16 or not 5 <= zeros <= 20:
        return data
    more = -grown % 16
    more -= 16 if zeros + more > 20 else 0
    return data[: tail + min(more, 0)] + bytes(max(more, 0)) + data[tail:]
