"""glTF and GLB: `uri` of buffers, images and whatever else has one. What is within the file (`data:`) is none."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_KINDS = {"buffers": "buffer", "images": "image", "audio": "sound"}
# A string that never ends goes to the end: looked for again from each of its quotes it would take forever.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*(?:"|\\?\Z)|[{}\[\],:]', re.DOTALL)
_GLB = b"glTF"
_JSON = b"JSON"


def _strings(data: bytes) -> Iterator[tuple[list[str | int], int, int]]:
    """Each string of a JSON document that is a value: the keys and places that lead to it, and its bytes."""
    path: list[str | int] = []
    key = ""
    last = b""
    for token in _TOKEN.finditer(data):
        text = token[0]
        if text in (b"{", b"["):
            path.append("" if text == b"{" else 0)
        elif text in (b"}", b"]"):
            if path:
                path.pop()
        elif text == b",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif text == b":":
            if path and len(key) < 256:
                path[-1] = key
        elif last != b":" and path and isinstance(path[-1], str):
            key = text[1:-1].decode("utf-8", "replace")
        else:
            yield path, token.start(), token.end()
        last = text


def _spans(data: bytes) -> Iterator[Span]:
    for path, start, stop in _strings(data):
        if path[-1:] != ["uri"] or len(path) < 3 or data.startswith(b'"data:', start):
            continue
        try:
            target = json.loads(data[start:stop].decode("utf-8"), strict=False)
        except ValueError:
            continue
        where = "/".join(map(str, path[:-1]))
        yield Span(Reference(where, target, _KINDS.get(str(path[0]), "file")), start, stop, _encode)


def _encode(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _opened(file: BinaryIO) -> bytes:
    head = file.read(20)
    if not head.startswith(_GLB):
        file.seek(0)
        return spans.read(file)
    length = int.from_bytes(head[12:16], "little")
    if head[16:20] != _JSON or length > min(os.fstat(file.fileno()).st_size - 20, spans.LIMIT):
        raise UnsupportedMedia(
            f"{os.path.basename(file.name)}: not a GLB of version 2, or cut off; its bytes are saved"
        )
    return file.read(length)


def _closed(file: BinaryIO, inside: bytes, out: BinaryIO) -> None:
    file.seek(0)
    head = file.read(20)
    if not head.startswith(_GLB):
        out.write(inside)
        return
    behind = 20 + int.from_bytes(head[12:16], "little")
    # A chunk ends at a multiple of four, filled up with blanks.
    inside = inside.rstrip(b" ")
    inside += b" " * (-len(inside) % 4)
    whole = 20 + len(inside) + os.fstat(file.fileno()).st_size - behind
    out.write(head[:8] + whole.to_bytes(4, "little") + len(inside).to_bytes(4, "little") + _JSON + inside)
    spans.copy(file, out, behind)


references, rewrite = spans.capabilities(_spans, _opened, _closed)
