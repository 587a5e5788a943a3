"""Krita documents: file layers. The document's XML is spliced within the archive; other members stay as they are."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference
from gitvault.formats.references import markup, spans
from gitvault.formats.references.spans import LIMIT, Span

_MEMBER = "maindoc.xml"
_LOCAL, _CENTRAL, _END = 30, 46, 22
_LAYER = re.compile(rb"<layer\b(?:[^>\"']|\"[^\"]*+\"|'[^']*+')*>")
_SET = re.compile(rb"\s([\w:]+)\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)')")


def _spans(data: bytes) -> Iterator[Span]:
    for layer in _LAYER.finditer(data):
        said = {found[1]: found for found in _SET.finditer(data, *layer.span())}
        if b"source" not in said or b"nodetype" not in said or b"filelayer" not in said[b"nodetype"][0]:
            continue
        source = said[b"source"]
        start, stop = source.span(2 if source[2] is not None else 3)
        name = said[b"name"][2] or said[b"name"][3] or b"" if b"name" in said else b""
        if start < stop:
            reference = Reference(markup.meant(name), markup.meant(data[start:stop]), "image")
            yield Span(reference, start, stop, markup.escaped)


def _opened(file: BinaryIO) -> bytes:
    name = os.path.basename(file.name)
    try:
        with zipfile.ZipFile(file) as archive:
            member = archive.getinfo(_MEMBER)
            if member.file_size > LIMIT // 4:
                raise UnsupportedMedia(f"{name}: a document of {member.file_size} bytes; its bytes are saved")
            with archive.open(member) as inside:
                return inside.read(member.file_size)
    except KeyError:
        return b""
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnsupportedMedia(f"{name}: cannot be read: {error}; its bytes are saved") from None


def _closed(file: BinaryIO, inside: bytes, out: BinaryIO) -> None:
    with zipfile.ZipFile(file) as archive:
        member, central, comment = archive.getinfo(_MEMBER), archive.start_dir, len(archive.comment)
    file.seek(0, os.SEEK_END)
    end = file.tell() - _END - comment
    file.seek(member.header_offset)
    head = bytearray(file.read(_LOCAL))
    names = int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    data = member.header_offset + _LOCAL + names
    file.seek(central)
    table = bytearray(file.read(end - central))
    file.seek(end)
    tail = bytearray(file.read())
    too_large = max(len(inside), end) >= 0xFFFFFFFF
    if too_large or member.flag_bits & 8 or bytes(tail[:4]) != b"PK\5\6" or bytes(head[:4]) != b"PK\3\4":
        raise UnsupportedMedia(
            f"{os.path.basename(file.name)}: an archive of another make; its names are not rewritten"
        )
    packed = inside
    if member.compress_type == zipfile.ZIP_DEFLATED:
        deflate = zlib.compressobj(-1, zlib.DEFLATED, -15)
        packed = deflate.compress(inside) + deflate.flush()
    sizes = b"".join(number.to_bytes(4, "little") for number in (zlib.crc32(inside), len(packed), len(inside)))
    head[14:26] = sizes
    longer = len(packed) - member.compress_size
    at = 0
    while table[at : at + 4] == b"PK\1\2":
        offset = int.from_bytes(table[at + 42 : at + 46], "little")
        if offset == member.header_offset:
            table[at + 16 : at + 28] = sizes
        elif offset > member.header_offset:
            table[at + 42 : at + 46] = (offset + longer).to_bytes(4, "little")
        at += _CENTRAL + sum(int.from_bytes(table[at + field : at + field + 2], "little") for field in (28, 30, 32))
    tail[16:20] = (central + longer).to_bytes(4, "little")
    spans.copy(file, out, 0, member.header_offset)
    out.write(head)
    spans.copy(file, out, member.header_offset + _LOCAL, data)
    out.write(packed)
    spans.copy(file, out, data + member.compress_size, central)
    out.write(table + tail)


references, rewrite = spans.capabilities(_spans, _opened, _closed)
