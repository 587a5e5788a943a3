"""Files that are no text as lines of text, for git's diffs: what they are, and each part of them with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from gitvault.core.storage import pointers
from gitvault.core.utils.names import one_line
from gitvault.errors import UnsupportedMedia
from gitvault.formats import format_of
from gitvault.formats.confined import Confined

# As git judges it.
_HEAD = 8000
_BLOCK = 1 << 20
_SECONDS = 30.0
# Those of the formats that are compared and have no elements; the others are pictures.
_MODELS = ("ply", "stl")
# Digits of a hash: enough to see that something changed.
_SHORT = 12


def text_of(path: Path) -> Iterator[bytes]:
    """What git compares in place of a file's bytes; text is itself. Raises OSError, ConfigError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if b"\0" not in head and pointers.decode(head) is None:
            yield head
            while data := file.read(_BLOCK):
                yield data
            return
    for line in _described(path, head):
        yield one_line(line).encode("utf-8", "backslashreplace") + b"\n"


def _described(path: Path, head: bytes) -> Iterator[str]:
    if pointer := pointers.decode(head):
        yield f"large file, {pointer.size} bytes, left as a pointer"
        yield f"sha256 {pointer.oid}"
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    known = format_of(path)
    yield f"{known.summary if known else 'binary file'}, {size} bytes"
    yield f"sha256 {digest}"
    if known is None:
        return
    with Confined() as child:
        try:
            if known.elements:
                for element in child.call("gitvault.formats.elements:listed", str(path), seconds=_SECONDS):
                    yield f"{element['kind']} {element['name']} {element['hash'][:_SHORT]}"
            elif known.compare:
                yield from child.call(f"{__name__}:figures", str(path), seconds=_SECONDS)
        except UnsupportedMedia as error:
            # git puts the file under a name of its own, another one each time.
            yield str(error).removeprefix(f"{path.name}: ")


def figures(path: str) -> list[str]:
    """What a file that is one picture or model consists of. For a process of its own. Raises UnsupportedMedia."""
    from gitvault.formats.mesh.read import read
    from gitvault.formats.raster.read import open_image

    known = format_of(Path(path))
    if known and known.name not in _MODELS:
        with open_image(Path(path)) as image:
            return [f"{part.width} x {part.height} {''.join(part.channels)} {part.bits} bits" for part in image.parts]
    parts = read(Path(path)).parts
    return [f"{part.name}: {len(part.vertices)} vertices, {len(part.faces)} triangles" for part in parts]
