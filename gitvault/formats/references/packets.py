"""XMP: what asset managers keep in images and documents, or in a sidecar beside them.

A packet stands as it is in JPEG, PNG, TIFF, WebP, PSD, PDF and most others, so that it can be found without knowing the
format; that is what it was made for.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from contextlib import closing
from xml.etree import ElementTree

from gitvault.errors import UnsupportedMedia

_LIMIT = 16 << 20
_START = re.compile(rb"<(x:xmpmeta|x:xapmeta|rdf:RDF)[\s>]")
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_FIELDS = {
    "{http://purl.org/dc/elements/1.1/}subject": "tags",
    "{http://ns.adobe.com/lightroom/1.0/}hierarchicalSubject": "hierarchy",
    "{http://www.digikam.org/ns/1.0/}TagsList": "hierarchy",
    "{http://purl.org/dc/elements/1.1/}title": "title",
    "{http://purl.org/dc/elements/1.1/}description": "description",
    "{http://purl.org/dc/elements/1.1/}creator": "creator",
    "{http://purl.org/dc/elements/1.1/}rights": "rights",
    "{http://ns.adobe.com/xap/1.0/}Rating": "rating",
    "{http://ns.adobe.com/xap/1.0/}Label": "label",
    "{http://ns.adobe.com/xap/1.0/mm/}DocumentID": "id",
}


def facts(path: str) -> dict[str, list[str]]:
    """What the first packet of a file says: `tags`, `title`, `rating` ...; nothing without one.

    Raises UnsupportedMedia for a packet that cannot be read.
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return {}
        with closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
            packet = _packet(data)
    if b"<!DOCTYPE" in packet or b"<!ENTITY" in packet:
        raise UnsupportedMedia(f"{path}: its XMP declares entities, which no XMP has; not read")
    try:
        root = ElementTree.fromstring(packet) if packet else None
    except ElementTree.ParseError as error:
        raise UnsupportedMedia(f"{path}: its XMP cannot be read: {error}") from None
    found: dict[str, list[str]] = {}
    for name, value in _said(root):
        values = found.setdefault(name, [])
        if value not in values:
            values.append(value)
    return found


def _packet(data: mmap.mmap) -> bytes:
    start = _START.search(data)
    if start is None:
        return b""
    end = b"</" + start[1] + b">"
    stop = data.find(end, start.start(), start.start() + _LIMIT)
    return data[start.start() : stop + len(end)] if stop >= 0 else b""


def _said(root: ElementTree.Element | None) -> Iterator[tuple[str, str]]:
    for described in root.iter(f"{_RDF}Description") if root is not None else ():
        for key, value in described.attrib.items():
            if key in _FIELDS and value.strip():
                yield _FIELDS[key], value.strip()
        for element in described:
            if element.tag in _FIELDS:
                items = [item.text for item in element.iter(f"{_RDF}li")] or [element.text]
                yield from ((_FIELDS[element.tag], text.strip()) for text in items if text and text.strip())
