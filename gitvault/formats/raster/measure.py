"""Two images side by side, strip by strip: figures of what differs, and small pictures of both.

Whatever is the same in both costs hardly more than reading it: all else looks only at the rows that differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gitvault.formats.extras import need
from gitvault.formats.raster.read import Image, Part
from gitvault.formats.raster.scale import averaged, floats, is_alpha, picked, pooled, seen
from gitvault.formats.raster.tally import REACH, TILE, Regions, Similarity, Tally, perceptual_hash

if TYPE_CHECKING:
    from gitvault.formats.raster.read import Pixels
    from gitvault.formats.raster.scale import Floats

SIDE = 1920
"""Pictures are halved until their longest side has at most this many pixels."""

# Rows that are looked at at once, and the bytes they may have: what fits into the processor's caches.
_ROWS = 128
_STRIP = 8 << 20
_CHUNK = "oiio:RowsPerChunk"
_WEIGHTS = {"R": 0.2126, "G": 0.7152, "B": 0.0722}
_FULL = {"uint8": 255.0, "uint16": 65535.0, "uint32": 4294967295.0}


@dataclass(frozen=True, slots=True)
class Pair:
    """The channels that two parts have in common, and where they lie over each other."""

    before: Part
    after: Part
    channels: tuple[str, ...]
    x: int
    y: int
    width: int
    height: int

    @property
    def depth(self) -> str:
        """In which both can be held exactly."""
        a, b = self.before, self.after
        if a.depth == b.depth and a.depth not in ("int8", "int16", "int32"):
            return a.depth
        if a.depth in _FULL and b.depth in _FULL:
            return max(a.depth, b.depth, key=_FULL.__getitem__)
        return "double" if {a.depth, b.depth} & {"uint32", "int32", "double"} else "float"

    @property
    def full(self) -> float:
        """Full scale in the units of `depth`; 1 for floats."""
        return _FULL.get(self.depth, 1.0)


def pair(before: Part, after: Part) -> Pair | None:
    """None when they have no channel in common, or nowhere lie over each other."""
    channels = tuple(name for name in after.channels if name in before.channels)
    x, y = max(before.x, after.x), max(before.y, after.y)
    width = min(before.x + before.width, after.x + after.width) - x
    height = min(before.y + before.height, after.y + after.height) - y
    return Pair(before, after, channels, x, y, width, height) if channels and min(width, height) > 0 else None


@dataclass(slots=True)
class Measured:
    """What was found; of integers in parts of full scale."""

    width: int
    height: int
    channels: dict[str, Tally] = field(default_factory=dict)
    full: dict[str, float] = field(default_factory=dict)
    """Full scale by channel, for PSNR."""
    changed_pixels: int = 0
    strange: int = 0
    """Samples that are a number in one image only, the other has NaN or infinity there."""
    boxes: list[list[int]] = field(default_factory=list)
    ssim: float = 1.0
    hash_distance: int = 0
    scale: int = 1
    """How many pixels a side became one in what follows."""
    seen: tuple[str, ...] = ()
    """The channels that the small pictures have."""
    before: Floats | None = None
    after: Floats | None = None
    """Height x width x channels, averaged; None where no pictures are asked for."""
    heat: Floats | None = None
    """The greatest difference of any channel, in parts of full scale; height x width."""


def measure(before: Image, after: Image, pairs: Sequence[Pair], *, pictures: bool) -> Measured:
    """Compare the pairs of one picture: what lies in the same place, at most a few kinds of channels.

    With small pictures of both, or figures alone. Raises what reading raises.
    """
    first = pairs[0]
    run = _Run(pairs, pictures)
    with ThreadPoolExecutor(2) as pool:

        def ask(start: int) -> list[tuple[Any, Any]]:
            stop = min(start + run.rows, first.height)
            return [
                (
                    pool.submit(_rows, before, two, two.before, start, stop),
                    pool.submit(_rows, after, two, two.after, start, stop),
                )
                for two in pairs
            ]

        waiting = ask(0)
        for start in range(0, first.height, run.rows):
            strips = [(a.result(), b.result()) for a, b in waiting]
            if start + run.rows < first.height:
                waiting = ask(start + run.rows)
            run.add(start, strips)
    return run.finish()


def _rows(image: Image, two: Pair, part: Part, start: int, stop: int) -> Pixels:
    """Rows of what both have, in the type that both can be held in."""
    np = need("numpy", "image")
    top = two.y - part.y
    found = image.rows(part, top + start, top + stop)
    left = two.x - part.x
    if (left, two.width) != (0, part.width):
        found = found[:, left : left + two.width]
    if two.channels != part.channels:
        found = picked(found, [part.channels.index(name) for name in two.channels])
    return np.ascontiguousarray(_converted(found, part.depth, two.depth))


def _converted(pixels: Pixels, depth: str, wanted: str) -> Pixels:
    np = need("numpy", "image")
    if depth == wanted:
        return pixels
    if wanted in _FULL:
        # 255 becomes 65535 and each level of the coarser type one of the finer.
        return pixels.astype(wanted) * np.dtype(wanted).type(_FULL[wanted] / _FULL[depth])
    kind = np.float32 if wanted == "float" else np.float64
    return pixels.astype(kind) / kind(np.iinfo(depth).max if "int" in depth else 1)


class _Run:
    def __init__(self, pairs: Sequence[Pair], pictures: bool) -> None:
        np = need("numpy", "image")
        self._pairs = pairs
        shown = pairs[0]
        self._height, self._width = shown.height, shown.width
        scale = 1
        while max(self._height, self._width) > SIDE * scale:
            scale *= 2
        self._scale = scale
        row = sum(two.width * len(two.channels) * _SIZES.get(two.depth, 8) for two in pairs)
        # Blocks that are packed together would be unpacked for each of their parts.
        chunks = (int(str(part.facts.get(_CHUNK, 1))) for part in (shown.before, shown.after))
        least = max(scale, TILE, *(rows for rows in chunks if rows <= _ROWS))
        self.rows = _ROWS
        while self.rows // 2 >= least and self.rows * row > _STRIP:
            self.rows //= 2
        self.found = Measured(self._width, self._height, scale=scale)
        self.found.channels = {name: Tally() for two in pairs for name in two.channels}
        self.found.full = {name: two.full for two in pairs for name in two.channels}
        self.found.seen = seen(shown.channels)
        self._places = [shown.channels.index(name) for name in self.found.seen]
        small = -(-self._height // scale), -(-self._width // scale)
        self._lights = np.zeros((2, *small), np.float32)
        self._pictures = np.zeros((2, *small, len(self._places)), np.float32) if pictures else None
        self._heat = np.zeros(small, np.float32)
        self._regions = Regions(self._height, self._width)
        self._similarity = Similarity(self._height, self._width)

    def add(self, start: int, strips: Sequence[tuple[Pixels, Pixels]]) -> None:
        """The next rows of all pairs."""
        np = need("numpy", "image")
        spans = [_span(a, b) for a, b in strips]
        for two, (a, b) in zip(self._pairs, strips, strict=True):
            if not two.after.is_integer:
                self._brightest(two, a, b)
        self._look(start, *strips[0], changed=spans[0] is not None)
        found = [span for span in spans if span]
        if not found:
            return
        # Whole tiles, and whole pixels of the small pictures.
        grid = max(TILE, self._scale)
        first = min(span[0] for span in found) // grid * grid
        stop = min(-(-max(span[1] for span in found) // grid) * grid, len(strips[0][0]))
        mask: Any = None
        heat: Any = None
        for two, (a, b) in zip(self._pairs, strips, strict=True):
            plane = self._differences(two, a[first:stop], b[first:stop])
            small = pooled(plane, self._scale) / np.float32(two.full)
            mask = plane != 0 if mask is None else mask | (plane != 0)
            heat = small if heat is None else np.maximum(heat, small)
        self._regions.add(start + first, mask)
        top = (start + first) // self._scale
        self._heat[top : top + len(heat)] = heat

    def finish(self) -> Measured:
        """All rows were given."""
        found = self.found
        found.changed_pixels = self._regions.pixels
        found.boxes = self._regions.boxes()
        found.ssim = self._similarity.value()
        if self._pictures is not None:
            found.before, found.after = self._pictures
        found.heat = self._heat
        hashes = [perceptual_hash(light) for light in self._lights]
        found.hash_distance = (hashes[0] ^ hashes[1]).bit_count()
        return found

    def _luminance(self, pixels: Pixels, full: float = 1.0) -> Floats:
        """Of the channels that are seen, in parts of full scale; floats, which have none, bent to within -1 and 1."""
        np, cv2 = need("numpy", "image"), need("cv2", "image")
        names = [name.rpartition(".")[2] for name in self.found.seen]
        weights = [_WEIGHTS.get(name, 0.0) for name in names]
        if not any(weights):
            weights = [0.0 if is_alpha(name) else 1.0 for name in names]
            weights = [weight / (sum(weights) or 1) for weight in weights]
        light = cv2.transform(floats(pixels, 1.0), np.array([weights], np.float32) / full).reshape(pixels.shape[:2])
        if self._pairs[0].full != 1.0:
            return light
        light = np.nan_to_num(light, copy=False, posinf=3e38, neginf=-3e38)
        return light / (1 + np.abs(light))

    def _look(self, start: int, a: Pixels, b: Pixels, *, changed: bool) -> None:
        """The small pictures and the similarity, for which what the first pair shows is enough."""
        full = self._pairs[0].full
        both = [picked(pixels, self._places) for pixels in ((a, b) if changed else (a,))]
        lights = [self._luminance(pixels, full) for pixels in both]
        top = start // self._scale
        rows = slice(top, top + -(-len(a) // self._scale))
        # One of them stands for both where they are the same.
        self._lights[:, rows] = [averaged(light, 1.0, self._scale)[..., 0] for light in lights]
        if self._pictures is not None:
            self._pictures[:, rows] = [averaged(pixels, full, self._scale) for pixels in both]
        if changed:
            self._similarity.add(*lights)
        else:
            self._similarity.skip(lights[0][:REACH], lights[0][-REACH:])

    def _differences(self, two: Pair, a: Pixels, b: Pixels) -> Floats:
        """Count them by channel; the greatest of each pixel."""
        np, cv2 = need("numpy", "image"), need("cv2", "image")
        full = two.full
        if a.dtype in (np.uint8, np.uint16):
            apart = cv2.absdiff(a, b)
        elif full > 1:
            apart = np.abs(a.astype(np.float64) - b)
        else:
            apart = self._of_floats(a, b)
        apart = apart.reshape(a.shape)
        planes = cv2.split(apart)
        worst = planes[0]
        for name, plane in zip(two.channels, planes, strict=True):
            changed = int(cv2.countNonZero(plane))
            if changed:
                total, squares = cv2.sumElems(plane)[0], cv2.norm(plane, cv2.NORM_L2SQR)
                peak = float(plane.max())
                self.found.channels[name].add(Tally(changed, peak / full, total / full, squares / full / full))
            if plane is not worst:
                worst = cv2.max(worst, plane)
        return worst

    def _of_floats(self, a: Pixels, b: Pixels) -> Pixels:
        np, cv2 = need("numpy", "image"), need("cv2", "image")
        if a.dtype != np.float64:
            a, b = floats(a, 1.0), floats(b, 1.0)
        apart = cv2.absdiff(a.reshape(len(a), -1), b.reshape(len(b), -1)).reshape(a.shape)
        if not math.isfinite(float(apart.max())):
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            strange = ~np.isfinite(apart)
            self.found.strange += int(np.count_nonzero(strange & ~same))
            # What is no number in one image differs, however much: by full scale.
            apart = np.where(strange, np.where(same, 0, 1), apart).astype(apart.dtype)
        return apart

    def _brightest(self, two: Pair, a: Pixels, b: Pixels) -> None:
        for pixels in (a,) if a is b else (a, b):
            for name, value in zip(two.channels, _greatest(pixels), strict=True):
                tally = self.found.channels[name]
                tally.brightest = max(tally.brightest, value)


_SIZES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "half": 2, "float": 4, "uint32": 4, "int32": 4}


def _span(a: Pixels, b: Pixels) -> tuple[int, int] | None:
    """The rows that differ, from and to before; by their bytes."""
    np = need("numpy", "image")
    flat = [pixels.reshape(len(pixels), -1) for pixels in (a, b)]
    for wide in (np.uint64, np.uint32, np.uint16):
        if flat[0].nbytes // len(a) % np.dtype(wide).itemsize == 0:
            flat = [pixels.view(wide) for pixels in flat]
            break
    rows = np.flatnonzero((flat[0] != flat[1]).any(axis=1))
    return (int(rows[0]), int(rows[-1]) + 1) if len(rows) else None


def _greatest(pixels: Pixels) -> Iterator[float]:
    """The greatest finite value of each channel."""
    np = need("numpy", "image")
    if pixels.dtype == np.float16:
        # As integers, halves are in order, which is many times as fast: 0x7bff is the greatest finite one.
        bits = pixels.view(np.int16).max(axis=0).max(axis=0)
        most = bits.view(np.float16) if (bits < 0x7C00).all() else None
    else:
        most = pixels.max(axis=0).max(axis=0)
    if most is None or not np.isfinite(most).all():
        most = np.where(np.isfinite(pixels), pixels, 0).max(axis=0).max(axis=0)
    return (max(0.0, float(value)) for value in most)
