"""A picture as it is kept: a PNG in sRGB, with a fingerprint by which pictures are compared without being decoded."""

from __future__ import annotations

import binascii
import io
from contextlib import suppress
from typing import Any

from gitvault.formats.extras import need

_GRID = 16
FINGERPRINT = _GRID * _GRID * 4
"""Bytes of a fingerprint: the mean colour of each cell of a grid, as RGBA, premultiplied."""
# Ancillary, private, no reserved bit, safe to copy.
_CHUNK = b"gvFp"
_HEADER = 33
"""Bytes of a PNG before its second chunk."""
_END = b"\0\0\0\0IEND\xaeB`\x82"


def encoded(image: Any, side: int) -> bytes:
    """A PIL image as a PNG of at most `side` by `side` pixels, its fingerprint in it."""
    small = _plain(image)
    small.thumbnail((side, side), reducing_gap=2.0)
    buffer = io.BytesIO()
    # Level 3 takes a third of the time of 6 for 5 % more bytes.
    small.save(buffer, "PNG", compress_level=3)
    png = buffer.getvalue()
    cells = need("PIL.Image", "image")
    grid = small.convert("RGBA").convert("RGBa").resize((_GRID, _GRID), cells.Resampling.BOX)
    return png[:_HEADER] + _chunk(grid.tobytes()) + png[_HEADER:]


def _plain(image: Any) -> Any:
    """8 bits of RGB, or RGBA where something is transparent."""
    if image.mode in ("RGB", "RGBA"):
        return image
    transparent = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def _chunk(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + _CHUNK + data + binascii.crc32(_CHUNK + data).to_bytes(4, "big")


def fingerprint(start: bytes) -> bytes | None:
    """The fingerprint in the first 2 KiB of a PNG that this module made; None when it made another one, or none."""
    at = _HEADER + 8
    return start[at : at + FINGERPRINT] if is_ours(start) and len(start) >= at + FINGERPRINT else None


def is_ours(png: bytes) -> bool:
    """Whether this module made it."""
    return png[_HEADER + 4 : _HEADER + 8] == _CHUNK


def is_whole(end: bytes) -> bool:
    """Whether a PNG that ends so was written to its end."""
    return end.endswith(_END)


def in_srgb(image: Any, profile: bytes | None) -> Any:
    """A small picture in sRGB, given the ICC profile of its colours, if there is one."""
    if profile and b"sRGB" not in profile[:4096]:
        colours = need("PIL.ImageCms", "image")
        # A profile that cannot be used is none.
        with suppress(colours.PyCMSError, OSError, ValueError, TypeError):
            alpha = image.getchannel("A") if image.mode == "RGBA" else None
            source = image.convert("RGB") if alpha else image
            given = colours.ImageCmsProfile(io.BytesIO(profile))
            made = colours.profileToProfile(source, given, colours.createProfile("sRGB"), outputMode="RGB")
            if alpha:
                made.putalpha(alpha)
            return made
    return image
