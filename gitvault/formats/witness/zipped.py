"""What is in a zip archive, read by Python's zipfile."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from gitvault.core.utils.names import to_line
from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT

_PIECE = 1 << 20
# All that zipfile says of archives that are damaged, encrypted, or newer than it.
_DAMAGES = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, OverflowError, struct.error, zlib.error, OSError)


def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """What is in a member, in pieces. Raises UnsupportedMedia."""
    try:
        with archive.open(info) as file:
            while data := file.read(_PIECE):
                yield data
    except _DAMAGES as error:
        raise UnsupportedMedia(f"{to_line(info.filename.encode())}: {error}; its bytes are saved") from None


def member_hash(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """SHA-256 of what is in a member. Raises UnsupportedMedia."""
    found = sha256()
    for data in content(archive, info):
        found.update(data)
    return found.hexdigest()


def opened(path: Path) -> zipfile.ZipFile:
    """The archive. Raises UnsupportedMedia."""
    try:
        return zipfile.ZipFile(path)
    except _DAMAGES as error:
        raise UnsupportedMedia(f"{path.name}: {error}; its bytes are saved") from None


def witness(path: Path) -> dict[str, str]:
    """Hash by member's name, numbered where names repeat. Raises UnsupportedMedia."""
    with opened(path) as archive:
        found, seen = {DOCUMENT: sha256(archive.comment).hexdigest()}, dict[str, int]()
        for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
            seen[info.filename] = number = seen.get(info.filename, 0) + 1
            name = info.filename if number == 1 else f"{info.filename}#{number}"
            facts = (info.date_time, info.external_attr, info.internal_attr, info.create_system, info.comment)
            found[name] = sha256(f"{facts} {member_hash(archive, info)}".encode()).hexdigest()
        return found
