"""A picture as it is kept: a PNG in sRGB with two chunks of ours.

One is a fingerprint, by which pictures are compared without being decoded. The other, where nothing is transparent,
is the same picture as a JPEG, for pages with hundreds: a fifth of the bytes.
"""

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
_FINGERPRINT = b"gvFp"
_LIGHT = b"gvJp"
_HEADER = 33
"""Bytes of a PNG before its second chunk."""
_END = b"\0\0\0\0IEND\xaeB`\x82"


def encoded(image: Any, side: int) -> bytes:
    """A PIL image as a PNG of at most `side` by `side` pixels, its fingerprint in it."""
    small = _plain(image)
    small.thumbnail((side, side), reducing_gap=2.0)
    # Level 3 takes a third of the time of 6 for 5 % more bytes.
    png = _saved(small, "PNG", compress_level=3)
    cells = need("PIL.Image", "image")
    grid = small.convert("RGBA").convert("RGBa").resize((_GRID, _GRID), cells.Resampling.BOX)
    own = _chunk(_FINGERPRINT, grid.tobytes())
    if small.mode == "RGB" and len(light := _saved(small, "JPEG", quality=85)) < len(png) // 2:
        own += _chunk(_LIGHT, light)
    return png[:_HEADER] + own + png[_HEADER:]


def _saved(image: Any, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    # The file's own profile, which Pillow would write again, holds no longer.
    image.save(buffer, kind, icc_profile=None, **options)
    return buffer.getvalue()


def _plain(image: Any) -> Any:
    """8 bits of RGB, or RGBA where something is transparent."""
    if image.mode in ("RGB", "RGBA"):
        return image
    transparent = image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def _chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + binascii.crc32(name + data).to_bytes(4, "big")


def fingerprint(start: bytes) -> bytes | None:
    """The fingerprint in the first 2 KiB of a PNG that this module made; None when it made another one, or none."""
    at = _HEADER + 8
    return start[at : at + FINGERPRINT] if is_ours(start) and len(start) >= at + FINGERPRINT else None


def is_ours(png: bytes) -> bool:
    """Whether this module made it."""
    return png[_HEADER + 4 : _HEADER + 8] == _FINGERPRINT


def lightest(png: bytes) -> tuple[str, bytes]:
    """The smallest form of a picture that this module made, with its media type."""
    at = _HEADER + 12 + FINGERPRINT
    if png[at + 4 : at + 8] != _LIGHT:
        return "image/png", png
    return "image/jpeg", png[at + 8 : at + 8 + int.from_bytes(png[at : at + 4], "big")]


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
