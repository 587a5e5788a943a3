"""Small pictures of files: the preview that a file brings along, else a fast decode of it."""

from __future__ import annotations

from gitvault.formats.thumbnails.render import NO_PREVIEW, RENDERER, document, drawn, picture, vector
from gitvault.formats.thumbnails.shown import FINGERPRINT, fingerprint, is_whole, lightest

__all__ = [
    "FINGERPRINT",
    "NO_PREVIEW",
    "RENDERER",
    "document",
    "drawn",
    "fingerprint",
    "is_whole",
    "lightest",
    "picture",
    "vector",
]
