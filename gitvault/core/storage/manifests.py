"""The list of a file's chunks as text: one line `<sha256 hex> <length>` each."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gitvault.core.models import ChunkId
from gitvault.errors import CorruptionError

_LINE = re.compile(rb"([0-9a-f]{64}) ([1-9][0-9]{0,8})\n")


def encode(chunks: Iterable[tuple[ChunkId, int]]) -> bytes:
    """The manifest's text."""
    return "".join(f"{chunk.hex()} {length}\n" for chunk, length in chunks).encode()


def decode(text: bytes, oid: str) -> list[tuple[ChunkId, int]]:
    """The chunks; `oid`, the file's, names it in errors. Raises CorruptionError."""
    chunks = []
    at = 0
    while line := _LINE.match(text, at):
        chunks.append((ChunkId(bytes.fromhex(line[1].decode())), int(line[2])))
        at = line.end()
    if at != len(text):
        raise CorruptionError(f"manifest of {oid}: not a list of chunks at byte {at}; run git-vault verify --data")
    return chunks
