"""Maya ASCII: `file -r` and `-rdi`, and the attributes that name files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gitvault.formats import Reference
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_STRING = rb'"((?:[^"\\]|\\.)*)"'
_FILE = re.compile(rb"^file[ \t]+-(?:r|rdi)\b(?:[^;\"]|" + _STRING + rb")*;", re.MULTILINE)
_LAST = re.compile(_STRING)
_ATTRIBUTES = {
    b"ftn": ("image", b"file"),
    b"fileTextureName": ("image", b"file"),
    b"imn": ("image", b"imagePlane"),
    b"filename": ("image", b"aiImage"),
    b"f": ("sound", b"audio"),
    b"cfn": ("cache", b"gpuCache"),
    b"fn": ("cache", b"AlembicNode"),
    b"abc_File": ("cache", b"AlembicNode"),
    b"dso": ("mesh", b"aiStandIn"),
}
"""Kind and type of node; on others they are something else: a camera has an `imn` too."""
_NAMES = b"|".join(_ATTRIBUTES)
_ATTRIBUTE = re.compile(
    rb'^[ \t]*setAttr[ \t]+"\.(' + _NAMES + rb')"[ \t]+-type[ \t]+"string"[ \t]+' + _STRING, re.MULTILINE
)
_NODE = re.compile(rb'^createNode[ \t]+(\w+)[^;"\n]*+"([^"]*)"', re.MULTILINE)


def _spans(data: bytes) -> Iterator[Span]:
    for statement in _FILE.finditer(data):
        strings = list(_LAST.finditer(statement[0]))
        if strings:
            start = statement.start()
            yield from _named(data, start + strings[-1].start(1), start + strings[-1].end(1), "file -r", "scene")
    nodes = [(found.start(), found[1], found[2].decode("utf-8", "replace")) for found in _NODE.finditer(data)]
    number = 0
    for found in _ATTRIBUTE.finditer(data):
        while number + 1 < len(nodes) and nodes[number + 1][0] < found.start():
            number += 1
        kind, of = _ATTRIBUTES[found[1]]
        if nodes and nodes[number][1] == of:
            yield from _named(data, *found.span(2), f"{nodes[number][2]}.{found[1].decode()}", kind)


def _named(data: bytes, start: int, stop: int, source: str, kind: str) -> Iterator[Span]:
    text = re.sub(rb"\\(.)", rb"\1", data[start:stop], flags=re.DOTALL).decode("utf-8", "surrogateescape")
    if text:
        yield Span(Reference(source, text, kind), start, stop, _encode)


def _encode(text: str) -> bytes:
    return spans.encode_plain(text.replace("\\", "\\\\").replace('"', '\\"'))


references, rewrite = spans.capabilities(_spans)
