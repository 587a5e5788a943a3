"""Pictures of what differs: side by side, heat map, overlay, and one that blinks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.formats.extras import need

if TYPE_CHECKING:
    from gitvault.formats.raster.measure import Measured
    from gitvault.formats.raster.scale import Floats
    from gitvault.formats.raster.screen import Screen

_BAND = 28
_PAPER = 245
_INK = (40, 40, 40)
_MARK = (255, 0, 200)
_BLINK = 600
"""Milliseconds."""
_LEVELS = 65535.0
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _heat_of(differences: Floats) -> Screen:
    """Differences in parts of full scale as colours, from dark blue (none that 16 bits can hold) to yellow.

    The scale is logarithmic: one level of 16 bits, of 8 bits and full scale are as far from each other.
    """
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    scaled = np.log2(1 + _LEVELS * np.minimum(differences, 1)) / 16
    coloured = cv2.applyColorMap(np.rint(60 + 195 * scaled).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)


def draw(found: Measured, before: Screen, after: Screen, folder: Path) -> dict[str, str]:
    """Write the pictures of two images of the same size into `folder`; their paths by what they show."""
    heat = found.heat
    boxes = [[side / found.scale for side in box] for box in found.boxes]
    works: dict[str, Callable[[], bytes]] = {
        "side-by-side": lambda: _png(_side_by_side(before, after)),
        "heat-map": lambda: _png(_heat_map(after, heat, boxes)),
        "overlay": lambda: _png(_overlay(after, heat, boxes)),
        "blink": lambda: _blinking(_png(before), _png(after)),
    }

    def write(name: str) -> str:
        target = folder / f"{name}.png"
        target.write_bytes(works[name]())
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(works, pool.map(write, works), strict=True))


def _side_by_side(before: Screen, after: Screen) -> Screen:
    np = need("numpy", "image")
    gap = np.full((len(before) + _BAND, 8, 3), _PAPER, np.uint8)
    return np.hstack([_titled(before, "before"), gap, _titled(after, "after")])


def _heat_map(after: Screen, heat: Floats, boxes: Sequence[Sequence[float]]) -> Screen:
    """Over the image, grey and dark."""
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    ground = cv2.cvtColor(cv2.cvtColor(after, cv2.COLOR_RGB2GRAY) // 5, cv2.COLOR_GRAY2RGB)
    shown = np.where(heat[..., None] > 0, _heat_of(heat), ground)
    return np.vstack([_marked(shown, boxes), _legend(shown.shape[1])])


def _overlay(after: Screen, heat: Floats, boxes: Sequence[Sequence[float]]) -> Screen:
    np = need("numpy", "image")
    tint = after // 2 + np.array(_MARK, np.uint8) // 2
    return _marked(np.where(heat[..., None] > 0, tint, after), boxes)


def _marked(shown: Screen, boxes: Sequence[Sequence[float]]) -> Screen:
    """With a frame around each region, three pixels away from it."""
    cv2 = need("cv2", "image")
    for x, y, w, h in boxes:
        cv2.rectangle(shown, (int(x) - 3, int(y) - 3), (int(x + w) + 3, int(y + h) + 3), _MARK, 1)
    return shown


def _titled(shown: Screen, title: str) -> Screen:
    np = need("numpy", "image")
    band = np.full((_BAND, shown.shape[1], 3), _PAPER, np.uint8)
    _write(band, title, 8)
    return np.vstack([band, shown])


def _legend(width: int) -> Screen:
    """What the colours mean."""
    np = need("numpy", "image")
    band = np.full((_BAND, width, 3), _PAPER, np.uint8)
    bar = min(width - 16, 480)
    if bar < 240:
        return band
    scale = (2.0 ** (16 * np.arange(bar, dtype=np.float32) / bar) - 1) / _LEVELS
    band[4:12, 8 : 8 + bar] = _heat_of(scale[None])
    for part, label in ((0, "1/65535"), (8 / 16, "1/255"), (12 / 16, "1/16"), (1, "full")):
        _write(band, label, 8 + int(part * bar) - (0 if part == 0 else 24), size=0.35)
    return band


def _write(band: Screen, text: str, x: int, size: float = 0.5) -> None:
    cv2 = need("cv2", "image")
    cv2.putText(band, text, (x, _BAND - 6), cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)


# --------------------------------------------------------------------------------------------- PNG


def _png(shown: Screen) -> bytes:
    """Each row as what it differs by from the one above; ISA-L packs it eight times as fast as zlib does."""
    from isal import isal_zlib

    np = need("numpy", "image")
    height, width = shown.shape[:2]
    rows = shown.reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", isal_zlib.compress(filtered.data, 1)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _blinking(first: bytes, second: bytes) -> bytes:
    """Two PNGs of one size as one that shows them in turn."""
    header = next(data for kind, data in _chunks(first) if kind == b"IHDR")
    number = 0

    def control() -> bytes:
        nonlocal number
        # Size as the image's, at its corner; delay in milliseconds; each frame replaces the other.
        fields = struct.pack(">I8sIIHHBB", number, header[:8], 0, 0, _BLINK, 1000, 0, 0)
        number += 1
        return _chunk(b"fcTL", fields)

    parts = [_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"acTL", struct.pack(">II", 2, 0)), control()]
    parts += [_chunk(kind, data) for kind, data in _chunks(first) if kind == b"IDAT"]
    parts.append(control())
    for kind, data in _chunks(second):
        if kind == b"IDAT":
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        found.append((kind, png[at + 8 : at + 8 + length]))
        at += length + 12
    return found


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
