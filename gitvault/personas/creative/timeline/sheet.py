"""A timeline as one picture: a contact sheet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from math import ceil, sqrt
from typing import Any

from gitvault.core.utils.names import one_line
from gitvault.formats.extras import need
from gitvault.personas.creative.timeline import Version
from gitvault.personas.creative.timeline.cards import cards
from gitvault.personas.creative.timeline.drawing import NO_KIND

_PAPER, _CELL, _INK, _DIM, _MARK = "#1b1b1b", "#262626", "#e8e8e8", "#9a9a9a", "#e79a5f"
_GAP = 12
_MANY = 100
"""Cells from which on they are half as large: 500 whole ones take 3 s and more than most screens show."""
_MOST = 2000
"""Cells. More make a picture that no program likes to open."""
_WIDE = 8
"""Columns at most, up to so many rows."""


def sheet(versions: Sequence[Version], title: str) -> bytes:
    """The sheet as a PNG, the oldest version first; of very many the newest. Raises ToolMissing without Pillow."""
    pillow, drawing, fonts = (need(f"PIL.{name}", "image") for name in ("Image", "ImageDraw", "ImageFont"))
    groups = groupby(versions, lambda version: version.snapshot)
    found = [card for _, group in groups for card in cards(list(group))]
    # A sheet is for what can be looked at.
    shown = ([card for card in found if card.version.reason != NO_KIND] or found)[-_MOST:]
    shrink = 2 if len(shown) > _MANY else 1
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda card: _opened(pillow, card.version, shrink), shown))
    side = max((max(picture.size) for picture in pictures if picture), default=160)
    side = max(side, 160 // shrink)
    alike = len({card.name for card in shown}) == 1
    lines = 2 if alike else 3
    columns = min(len(shown), max(_WIDE, ceil(sqrt(len(shown))))) or 1
    small, large = fonts.load_default(max(11, side // 18)), fonts.load_default(max(16, side // 10))
    line = ceil(small.size * 1.35)
    cell = side + lines * line + 8
    head = ceil(large.size * 2)
    size = columns * (side + _GAP) + _GAP, head + ceil(len(shown) / columns) * (cell + _GAP) + _GAP
    image = pillow.new("RGB", size, _PAPER)
    canvas = drawing.Draw(image)
    canvas.text((_GAP, head // 4), _fit(_plain(title), large, size[0] - 2 * _GAP), _INK, large)
    for number, (card, picture) in enumerate(zip(shown, pictures, strict=True)):
        version = card.version
        left = _GAP + number % columns * (side + _GAP)
        top = head + number // columns * (cell + _GAP)
        canvas.rectangle((left, top, left + side - 1, top + side - 1), _CELL)
        if picture:
            at = left + (side - picture.width) // 2, top + (side - picture.height) // 2
            image.paste(picture, at, picture if picture.mode == "RGBA" else None)
        else:
            canvas.text((left + 8, top + 8), _fit(_plain(version.reason or "deleted"), small, side - 16), _DIM, small)
        marks = ", ".join(version.milestones)
        said = [(card.said, _DIM)] if alike else [(card.name.rpartition("/")[2], _INK), (card.said, _DIM)]
        when = f"{version.time.astimezone():%Y-%m-%d %H:%M}"
        for row, (text, colour) in enumerate([(f"{when}  {marks}".rstrip(), _MARK if marks else _INK), *said]):
            canvas.text((left, top + side + 4 + row * line), _fit(_plain(text), small, side), colour, small)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _opened(pillow: Any, version: Version, shrink: int) -> Any:
    if not version.thumbnail:
        return None
    try:
        with pillow.open(version.thumbnail) as image:
            return image.reduce(shrink)
    except OSError:
        return None


def _plain(text: str) -> str:
    # What the font of the library has.
    return one_line(text).encode("latin-1", "replace").decode("latin-1")


def _fit(text: str, font: Any, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
