"""How a file becomes a small picture; called where files that may be hostile are read, in a confined process."""

from __future__ import annotations

import base64
import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from gitvault.errors import UnsupportedMedia
from gitvault.formats.extras import need
from gitvault.formats.thumbnails import embedded, wide
from gitvault.formats.thumbnails.shown import encoded, in_srgb, is_ours

if TYPE_CHECKING:
    from gitvault.formats import Format

RENDERER = 1
"""Raised with every change after which pictures look different: those that were kept are made anew."""
_LARGEST = 1 << 28
"""Pixels of a picture that is decoded whole: 16384 x 16384, a gigabyte."""
_OIIO_FIRST = frozenset(("tiff", "hdr", "dds", "dpx", "exr", "psd"))
NO_PREVIEW = "brings no preview along; saving it again in its application makes one"
"""How the reason ends of a file that is whole and has no picture."""
_PREVIEW_ONLY = frozenset(("kra", "ora", "blend"))


def picture(path: Path, side: int) -> bytes:
    """`Format.thumbnail` of images: the whole decoded, as small as its format lets it."""
    from gitvault.formats import format_of

    known = format_of(path)
    readers = (_pillow, wide.read) if not known or known.name not in _OIIO_FIRST else (wide.read, _pillow)
    reasons = []
    for read in readers:
        try:
            return encoded(read(path, side), side)
        except UnsupportedMedia as error:
            reasons.append(str(error))
    raise UnsupportedMedia(reasons[0])


def document(path: Path, side: int) -> bytes:
    """`Format.thumbnail` of what brings a preview along, else as `picture`."""
    with open(path, "rb") as file:
        known, found = _embedded(path, file)
    if found:
        return encoded(found, side)
    if known and known.name in _PREVIEW_ONLY:
        raise UnsupportedMedia(f"{path.name}: {NO_PREVIEW}")
    return picture(path, side)


def vector(path: Path, side: int) -> bytes:
    """`Format.thumbnail` of drawings."""
    from gitvault.formats.vector import rendered

    return encoded(_opened(io.BytesIO(rendered(path, side))), side)


def drawn(path: str, side: int, head: int | None = None, tail: int = 0) -> str | None:
    """The picture of a file in base64, for a process that reads it from another.

    Given `head`, only so many bytes at the start and `tail` at the end are there: None when its preview, if it has
    one, needs more. Raises UnsupportedMedia.
    """
    from gitvault.formats import format_of

    where = Path(path)
    known = format_of(where)
    if head is not None:
        with open(where, "rb") as file, suppress(embedded.NotThere):
            partial = cast(BinaryIO, io.BufferedReader(embedded.Partial(file, head, tail), 4096))
            _, found = _embedded(where, partial)
            return _text(encoded(found, side)) if found else None
        return None
    return _text(_by_format(known, where, side))


def _by_format(known: Format | None, path: Path, side: int) -> bytes:
    if known is None:
        raise UnsupportedMedia("a kind of file that nobody here knows; no picture of it")
    if known.thumbnail is None:
        raise UnsupportedMedia(f"{known.summary}: no picture can be made of it")
    made = known.thumbnail(path, side)
    return made if is_ours(made) else encoded(_opened(io.BytesIO(made)), side)


def _text(png: bytes) -> str:
    return base64.b64encode(png).decode()


def _embedded(path: Path, file: BinaryIO) -> tuple[Format | None, Any]:
    from gitvault.formats import identify

    known = identify(file.read(65536), path.suffix.lower())
    file.seek(0)
    if known is None:
        return None, None
    try:
        return known, embedded.preview(known.name, file)
    except (EOFError, ValueError, OSError, SyntaxError, struct.error):
        # A preview that is damaged is none; the file itself is asked.
        return known, None


def _opened(source: Any) -> Any:
    pillow = need("PIL.Image", "image")
    # Our own limit counts: a layered scan may well be larger than Pillow's.
    pillow.MAX_IMAGE_PIXELS = None
    return pillow.open(source)


def _pillow(path: Path, side: int) -> Any:
    """As Pillow reads it: JPEG at an eighth, fourth or half of its size."""
    try:
        image = _opened(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise UnsupportedMedia(f"{path.name}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    with image:
        image.draft("RGB" if image.mode == "YCbCr" else image.mode, (side * 2, side * 2))
        across, down = image.size
        if across * down > _LARGEST:
            raise UnsupportedMedia(f"{path.name}: {across} x {down} pixels are too many to be decoded")
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise UnsupportedMedia(f"{path.name}: cannot be decoded: {' '.join(str(error).split())[:200]}") from error
        small = _eight_bits(image)
        small.thumbnail((side, side), reducing_gap=2.0)
        upright = need("PIL.ImageOps", "image").exif_transpose(small)
        return in_srgb(upright, image.info.get("icc_profile"))


def _eight_bits(image: Any) -> Any:
    if image.mode.startswith("I;16") or image.mode == "I":
        numpy = need("numpy", "image")
        values = numpy.asarray(image).astype(numpy.uint32)
        # 16 bits, whatever Pillow holds them in.
        return need("PIL.Image", "image").fromarray((values >> 8).clip(0, 255).astype(numpy.uint8))
    if image.mode in ("P", "PA", "1"):
        # Not averaged as numbers of colours.
        return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    return image
