"""Names of files as bytes of a file: found, and replaced without touching a byte of anything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Reference

LIMIT = 1 << 30
"""Bytes that are looked through at the most, compressed ones as they are when unpacked."""


@dataclass(frozen=True, slots=True)
class Span:
    """A reference, and the bytes it takes."""

    reference: Reference
    start: int
    stop: int
    encode: Callable[[str], bytes]
    """What stands there for another target."""


Spans = Callable[[bytes], Iterable[Span]]


def read(file: BinaryIO) -> bytes:
    """All of a file. Raises UnsupportedMedia for one that is too large."""
    size = os.fstat(file.fileno()).st_size
    if size > LIMIT:
        raise UnsupportedMedia(
            f"{os.path.basename(file.name)}: {size} bytes; references are looked for in 1 GiB at most"
        )
    return file.read()


def write(file: BinaryIO, inside: bytes, out: BinaryIO) -> None:
    """A file that is nothing but what `read` gives."""
    out.write(inside)


def capabilities(
    spans: Spans,
    opened: Callable[[BinaryIO], bytes] = read,
    closed: Callable[[BinaryIO, bytes, BinaryIO], None] = write,
) -> tuple[Callable[[Path], list[Reference]], Callable[[Path, Mapping[str, str], Path], int]]:
    """`Format.references` and `Format.rewrite` for files whose names `spans` finds.

    `opened` gives the part of a file that is looked through, `closed` writes the file with another such part.
    """

    def references(path: Path) -> list[Reference]:
        with open(path, "rb") as file:
            return list(dict.fromkeys(span.reference for span in spans(opened(file))))

    def rewrite(path: Path, targets: Mapping[str, str], output: Path) -> int:
        with open(path, "rb") as file:
            inside = opened(file)
            replaced, count = spliced(inside, spans(inside), targets)
            with open(output, "xb") as out:
                closed(file, replaced, out)
        return count

    return references, rewrite


def spliced(data: bytes, spans: Iterable[Span], targets: Mapping[str, str]) -> tuple[bytes, int]:
    """The bytes with new targets in place of old ones, and how many were replaced."""
    parts: list[bytes] = []
    at = count = 0
    for span in sorted(spans, key=lambda span: span.start):
        new = targets.get(span.reference.target)
        if new is None or new == span.reference.target:
            continue
        parts += data[at : span.start], span.encode(new)
        at = span.stop
        count += 1
    return b"".join((*parts, data[at:])), count


def plain(data: bytes, start: int, stop: int, source: str, kind: str) -> Iterator[Span]:
    """A name that stands there as it is, in UTF-8; none where nothing stands."""
    if text := data[start:stop].decode("utf-8", "surrogateescape"):
        yield Span(Reference(source, text, kind), start, stop, encode_plain)


def encode_plain(text: str) -> bytes:
    """A name as it is, in UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def copy(file: BinaryIO, out: BinaryIO, start: int, stop: int | None = None) -> None:
    """Bytes of a file, up to its end without `stop`."""
    file.seek(start)
    left = LIMIT * LIMIT if stop is None else stop - start
    while left and (piece := file.read(min(left, 1 << 20))):
        out.write(piece)
        left -= len(piece)
