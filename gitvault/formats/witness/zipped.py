"""What is in a zip archive, read by Python's zipfile."""

from __future__ import annotations

import zipfile
from hashlib import sha256
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT

_PIECE = 1 << 20


def member_hash(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """SHA-256 of what is in a member. Raises UnsupportedMedia."""
    found = sha256()
    try:
        with archive.open(info) as file:
            while data := file.read(_PIECE):
                found.update(data)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise UnsupportedMedia(f"{info.filename}: {error}; its bytes are saved") from None
    return found.hexdigest()


def opened(path: Path) -> zipfile.ZipFile:
    """The archive. Raises UnsupportedMedia."""
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
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
