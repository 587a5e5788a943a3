"""What is seen of pixels: which channels, as floats, and smaller: averaged, or with the greatest of each square."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
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
    down, across = (-side % scale for side in plane.shape)
    if down or across:
        plane = np.pad(plane, ((0, down), (0, across)))
    rows = _greatest([plane[start::scale] for start in range(scale)])
    return _greatest([rows[:, start::scale] for start in range(scale)])


def _greatest(planes: Sequence[Floats]) -> Floats:
    """Of what lies in the same place."""
    return reduce(need("numpy", "image").maximum, planes)


def seen(channels: Sequence[str]) -> tuple[str, ...]:
    """The channels that a picture of them shows: colour and alpha of the topmost layer, else the first one."""
    for prefix in dict.fromkeys(name.rpartition(".")[0] for name in sorted(channels, key=lambda name: name.count("."))):
        dot = f"{prefix}." if prefix else ""
        for colours in (("R", "G", "B"), ("C", "M", "Y", "K"), ("Y",)):
            if all(dot + name in channels for name in colours):
                return tuple(dot + name for name in (*colours, "A") if dot + name in channels)
    return tuple(channels[:1])


def is_alpha(name: str) -> bool:
    """Whether a channel says how opaque others are."""
    return name.rpartition(".")[2].lower() in ("a", "alpha")


def is_colour(name: str) -> bool:
    """Whether a channel alone is light of a colour, or grey."""
    return name.rpartition(".")[2] in ("R", "G", "B", "Y")


def picked(pixels: Pixels, places: Sequence[int]) -> Pixels:
    """These channels only, in this order."""
    np = need("numpy", "image")
    first, count = places[0], len(places)
    if list(places) == list(range(first, first + count)):
        # A list of places takes four times as long, and leaves the channels apart in memory.
        return np.ascontiguousarray(pixels[..., first : first + count])
    return np.stack([pixels[..., place] for place in places], axis=-1)
