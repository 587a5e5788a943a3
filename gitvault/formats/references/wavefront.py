"""OBJ and MTL: `mtllib`, and the maps of materials, whatever options stand before the name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]*[^\r\n \t])", re.MULTILINE)
_SEVERAL = re.compile(rb"(?:\S+\.mtl[ \t]+)+\S+\.mtl", re.IGNORECASE)
_MAP = re.compile(
    rb"^[ \t]*(map_\w+|bump|disp|decal|refl|norm)[ \t]+([^\r\n]*[^\r\n \t])", re.MULTILINE | re.IGNORECASE
)
_MATERIAL = re.compile(rb"^[ \t]*newmtl[ \t]+([^\r\n]*)", re.MULTILINE)
_NUMBERS = rb"(?:[ \t]+[-+]?[\d.][\d.eE+-]*)"
_OPTION = re.compile(
    rb"-(?:(?:o|s|t)" + _NUMBERS + rb"{1,3}|mm" + _NUMBERS + rb"{2}"
    rb"|(?:blendu|blendv|boost|texres|clamp|bm|imfchan|type|cc|colorspace)[ \t]+\S+)[ \t]+",
    re.IGNORECASE,
)


def _libraries(data: bytes) -> Iterator[Span]:
    for line in _LIBRARY.finditer(data):
        # Names may hold blanks, and a line may have several names.
        names = re.finditer(rb"\S+", line[1]) if _SEVERAL.fullmatch(line[1]) else [None]
        for name in names:
            start, stop = (line.start(1) + name.start(), line.start(1) + name.end()) if name else line.span(1)
            yield from spans.plain(data, start, stop, "mtllib", "material")


def _maps(data: bytes) -> Iterator[Span]:
    materials = [(found.start(), found[1].strip().decode("utf-8", "replace")) for found in _MATERIAL.finditer(data)]
    number = 0
    for line in _MAP.finditer(data):
        while number + 1 < len(materials) and materials[number + 1][0] < line.start():
            number += 1
        start, stop = line.span(2)
        while option := _OPTION.match(data, start, stop):
            start = option.end()
        name = materials[number][1] if materials else ""
        yield from spans.plain(data, start, stop, f"{name}/{line[1].decode()}", "image")


obj_references, obj_rewrite = spans.capabilities(_libraries)
mtl_references, mtl_rewrite = spans.capabilities(_maps)
