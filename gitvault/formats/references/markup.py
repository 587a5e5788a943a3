"""SVG, After Effects and Premiere: names of files in XML."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference
from gitvault.formats.references import spans
from gitvault.formats.references.spans import LIMIT, Span

_MARKUP = re.compile(
    rb"<!--.*?-->|<!\[CDATA\[(?P<data>.*?)\]\]>|<\?(?P<process>[^?]*+(?:\?(?!>)[^?]*+)*)\?>"
    rb"|</(?P<end>[^\s>]++)[^>]*+>|<(?P<tag>[^\s/><!?]++)(?P<inside>(?:[^>\"']|\"[^\"]*+\"|'[^']*+')*)>",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(rb"([^\s=\"'/]++)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")
_URL = re.compile(rb"url\(\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^)\"'\s]++))\s*+\)")
_IMPORT = re.compile(rb"@import\s++(?:\"([^\"]*+)\"|'([^']*+)')")
_FONT = re.compile(rb"@font-face\s*+\{[^}]*+\}")
_ENTITY = re.compile(r"&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));")
_MEANT = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


class _Piece(NamedTuple):
    """An attribute's value, or text."""

    element: str
    attribute: str
    """Empty for text."""
    start: int
    stop: int
    id: str = ""
    is_raw: bool = False
    """Whether it says what stands there, without entities (CDATA)."""


def _pieces(data: bytes) -> Iterator[_Piece]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnsupportedMedia("XML in UTF-16: references are read in UTF-8 only; its bytes are saved")
    element, after = "", -1
    for found in _MARKUP.finditer(data):
        if after >= 0 and found.start() > after:
            yield _Piece(element, "", after, found.start())
        after = -1
        if found["data"] is not None:
            yield _Piece(element, "", *found.span("data"), is_raw=True)
        elif found["process"] is not None:
            if found["process"].startswith(b"xml-stylesheet"):
                yield from _attributes("xml-stylesheet", data, *found.span("process"))
        elif found["tag"] is not None:
            element = found["tag"].decode("utf-8", "replace")
            yield from _attributes(element, data, *found.span("inside"))
            after = -1 if found["inside"].endswith(b"/") else found.end()


def _attributes(element: str, data: bytes, start: int, stop: int) -> Iterator[_Piece]:
    found = list(_ATTRIBUTE.finditer(data, start, stop))
    own = next((meant(one[2] or one[3] or b"") for one in found if one[1] in (b"id", b"ObjectID")), "")
    for one in found:
        name = one[1].decode("utf-8", "replace")
        yield _Piece(element, name, *one.span(2 if one[2] is not None else 3), own)


def meant(raw: bytes) -> str:
    """What text in XML says."""

    def said(found: re.Match[str]) -> str:
        decimal, hexadecimal, name = found.groups()
        if name:
            return _MEANT[name]
        code = int(decimal) if decimal else int(hexadecimal, 16)
        return chr(code) if code < 0x110000 else found[0]

    return _ENTITY.sub(said, raw.decode("utf-8", "surrogateescape"))


def escaped(text: str) -> bytes:
    """How XML says it, in text and in values."""
    for found, name in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "apos")):
        text = text.replace(found, f"&{name};")
    return spans.encode_plain(text)


def _span(data: bytes, piece: _Piece, start: int, stop: int, kind: str) -> Iterator[Span]:
    raw = data[start:stop]
    target = (raw.decode("utf-8", "surrogateescape") if piece.is_raw else meant(raw)).strip()
    if target and not target.startswith(("#", "data:")):
        where = f"{piece.element}#{piece.id}" if piece.id else piece.element
        yield Span(Reference(where, target, kind), start, stop, spans.encode_plain if piece.is_raw else escaped)


# -- SVG ---------------------------------------------------------------------------------------------


_LINKED = {
    "image": "image",
    "feImage": "image",
    "use": "drawing",
    "script": "file",
    "color-profile": "profile",
    "link": "file",
}


def _svg_spans(data: bytes) -> Iterator[Span]:
    for piece in _pieces(data):
        tag = piece.element.rpartition(":")[2]
        name = piece.attribute.rpartition(":")[2]
        if not piece.attribute:
            if tag == "style":
                yield from _style(data, piece)
        elif name == "href":
            # A link to click on is no part of the drawing.
            if tag != "a":
                yield from _span(data, piece, piece.start, piece.stop, _LINKED.get(tag, "file"))
        elif name == "absref":
            yield from _span(data, piece, piece.start, piece.stop, "hint")
        elif b"url(" in data[piece.start : piece.stop]:
            yield from _style(data, piece)


def _style(data: bytes, piece: _Piece) -> Iterator[Span]:
    fonts = [found.span() for found in _FONT.finditer(data, piece.start, piece.stop)]
    for pattern in (_URL, _IMPORT):
        for found in pattern.finditer(data, piece.start, piece.stop):
            group = next(number for number, text in enumerate(found.groups(), 1) if text is not None)
            kind = "font" if any(start <= found.start() < stop for start, stop in fonts) else "image"
            yield from _span(data, piece, *found.span(group), "file" if pattern is _IMPORT else kind)


# -- projects ----------------------------------------------------------------------------------------


_AFTER_EFFECTS = {("fileReference", "fullpath"): "file"}
_PREMIERE = {("FilePath", ""): "file", ("ActualMediaFilePath", ""): "file", ("RelativePath", ""): "hint"}


def _project_spans(wanted: Mapping[tuple[str, str], str]) -> spans.Spans:
    def found(data: bytes) -> Iterator[Span]:
        for piece in _pieces(data):
            kind = wanted.get((piece.element, piece.attribute))
            # Premiere has numbers for what it generates itself.
            if kind and not data[piece.start : piece.stop].isdigit():
                yield from _span(data, piece, piece.start, piece.stop, kind)

    return found


def _opened(file: BinaryIO) -> bytes:
    head = file.read(2)
    file.seek(0)
    if head != b"\x1f\x8b":
        return spans.read(file)
    try:
        with gzip.open(file) as inside:
            data = inside.read(LIMIT + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnsupportedMedia(f"{os.path.basename(file.name)}: damaged ({error}); its bytes are saved") from None
    if len(data) > LIMIT:
        raise UnsupportedMedia(f"{os.path.basename(file.name)}: more than 1 GiB when unpacked; its bytes are saved")
    return data


def _closed(file: BinaryIO, inside: bytes, out: BinaryIO) -> None:
    file.seek(0)
    if file.read(2) != b"\x1f\x8b":
        out.write(inside)
        return
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as target:
        target.write(inside)
    out.write(packed.getvalue())


svg_references, svg_rewrite = spans.capabilities(_svg_spans, _opened, _closed)
aepx_references, aepx_rewrite = spans.capabilities(_project_spans(_AFTER_EFFECTS))
premiere_references, premiere_rewrite = spans.capabilities(_project_spans(_PREMIERE), _opened, _closed)
