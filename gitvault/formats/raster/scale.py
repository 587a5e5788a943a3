"""Pixels as floats, and smaller: averaged as eyes do, or with the greatest of each square kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gitvault.formats.extras import need

if TYPE_CHECKING:
    from gitvault.formats.raster.read import Pixels

    Floats = Any


def floats(pixels: Pixels, full: float) -> Floats:
    """As 32-bit floats, of integers in parts of full scale."""
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    if pixels.dtype == np.float16:
        # Three times as fast as numpy.
        table = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
        flat = cv2.LUT(pixels.view(np.uint16).reshape(len(pixels), -1), table.reshape(1, -1))
        return flat.reshape(pixels.shape)
    if full == 1.0:
        return pixels.astype(np.float32, copy=False)
    return np.multiply(pixels, np.float32(1 / full), dtype=np.float32)


def averaged(pixels: Pixels, full: float, scale: int) -> Floats:
    """A `scale`-th of the size; floats in parts of full scale."""
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels, full = floats(pixels, full), 1.0
    pixels = np.ascontiguousarray(pixels)
    if scale > 1:
        down, across = (-side % scale for side in pixels.shape[:2])
        if down or across:
            pixels = cv2.copyMakeBorder(pixels, 0, down, 0, across, cv2.BORDER_REPLICATE)
        size = pixels.shape[1] // scale, pixels.shape[0] // scale
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return floats(pixels.reshape(*pixels.shape[:2], -1), full)


def pooled(plane: Floats, scale: int) -> Floats:
    """A `scale`-th of the size, the greatest of each square."""
    np = need("numpy", "image")
    if scale == 1:
        return plane
    rows = np.maximum.reduceat(plane, range(0, len(plane), scale), axis=0)
    across = -rows.shape[1] % scale
    if across:
        rows = np.pad(rows, ((0, 0), (0, across)))
    found: Floats = rows[:, ::scale]
    for column in range(1, scale):
        found = np.maximum(found, rows[:, column::scale])
    return found
