"""Figures of differences, gathered piece by piece: of one channel, of the places, of how alike two images look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gitvault.formats.extras import need

if TYPE_CHECKING:
    from gitvault.formats.raster.scale import Floats

    Plane = Any
    Bits = Any

TILE = 16
"""Changes closer than this many pixels are one region."""
BOXES = 64
"""Regions that are told; where there are more, tiles are made larger."""

REACH = 10
"""Rows and columns beyond a change that windows with it in them reach."""

_WINDOW = REACH + 1
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(slots=True)
class Tally:
    """Of one channel: how many samples differ, by how much at most, and sums. In the channel's own units."""

    changed: int = 0
    peak: float = 0.0
    """The greatest difference."""
    total: float = 0.0
    squares: float = 0.0
    brightest: float = 0.0
    """The greatest finite value in both images."""

    def add(self, other: Tally) -> None:
        """Take in what was found in another place."""
        self.changed += other.changed
        self.peak = max(self.peak, other.peak)
        self.total += other.total
        self.squares += other.squares
        self.brightest = max(self.brightest, other.brightest)


def psnr(squares: float, samples: int, full: float) -> float | None:
    """Decibels between full scale and the root of the mean square; None when nothing differs."""
    return 10 * math.log10(full * full * samples / squares) if squares > 0 else None


# ----------------------------------------------------------------------------------------- regions


class Regions:
    """Where an image changed: one bit a pixel, 4 MiB for 8K."""

    def __init__(self, height: int, width: int) -> None:
        np = need("numpy", "image")
        self._size = height, width
        self._bits: Bits = np.zeros((-(-height // TILE) * TILE, -(-width // TILE) * TILE // 8), np.uint8)
        self.pixels = 0
        """How many changed."""

    def add(self, start: int, mask: Plane) -> None:
        """Rows from `start` on: what is true changed. Rows are added once."""
        np = need("numpy", "image")
        self.pixels += int(np.count_nonzero(mask))
        packed = np.packbits(mask, axis=1)
        self._bits[start : start + len(mask), : packed.shape[1]] = packed

    def boxes(self) -> list[list[int]]:
        """[x, y, w, h] of each region, largest first, at most BOXES."""
        if not self.pixels:
            return []
        np, cv2 = need("numpy", "image"), need("cv2", "image")
        rows, bytes_ = self._bits.shape
        tall = np.bitwise_or.reduce(self._bits.reshape(rows // TILE, TILE, bytes_), axis=1)
        tiles = (tall.reshape(len(tall), bytes_ // 2, 2) != 0).any(axis=2).astype(np.uint8)
        tile = TILE
        while True:
            count, labels, stats, _ = cv2.connectedComponentsWithStats(tiles, connectivity=8)
            if count - 1 <= BOXES:
                break
            tile *= 2
            even = [(0, side % 2) for side in tiles.shape]
            padded = np.pad(tiles, even)
            tiles = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).max(axis=(1, 3))
        found = [self._exact(tile, label, labels, *stats[label][:4]) for label in range(1, count)]
        return sorted(found, key=lambda box: (-box[2] * box[3], box))

    def _exact(self, tile: int, label: int, labels: Plane, x: int, y: int, w: int, h: int) -> list[int]:
        """The pixels' box within the tiles of a region."""
        np = need("numpy", "image")
        step = tile // 8
        bits = self._bits[y * tile : (y + h) * tile, x * step : (x + w) * step]
        ours = (labels[y : y + h, x : x + w] == label).repeat(tile, axis=0)[: len(bits)]
        wide = ours.repeat(step, axis=1)[:, : bits.shape[1]]
        bits = np.where(wide, bits, 0)
        down = np.flatnonzero(bits.any(axis=1))
        across = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(bits, axis=0)))
        left, top = x * tile + int(across[0]), y * tile + int(down[0])
        return [int(left), int(top), int(across[-1] - across[0] + 1), int(down[-1] - down[0] + 1)]


# -------------------------------------------------------------------------------------- similarity


class Similarity:
    """SSIM of luminance (Wang et al. 2004: Gaussian windows of 11 x 11, sigma 1.5), row by row from the top.

    Windows with no change in them are 1 and cost nothing.
    """

    def __init__(self, height: int, width: int) -> None:
        np = need("numpy", "image")
        self._size = height, width
        self._held: tuple[Floats, Floats] = (np.zeros((0, width), np.float32),) * 2
        self._lost = 0.0
        """What all windows together lack of 1."""

    def add(self, before: Floats, after: Floats) -> None:
        """The next rows, values within 0 and 1 or -1 and 1."""
        np = need("numpy", "image")
        a, b = (np.concatenate(pair) for pair in zip(self._held, (before, after), strict=True))
        self._held = a[-REACH:], b[-REACH:]
        if min(a.shape) < _WINDOW:
            return
        differs = a != b
        across, down = np.flatnonzero(differs.any(axis=0)), np.flatnonzero(differs.any(axis=1))
        if len(across):
            rows = slice(max(0, down[0] - REACH), down[-1] + REACH + 1)
            columns = slice(max(0, across[0] - REACH), across[-1] + REACH + 1)
            self._lost += _lost(a[rows, columns], b[rows, columns])

    def skip(self, head: Floats, tail: Floats) -> None:
        """The next rows are the same in both; only the first and the last ten of them are given."""
        a, b = self._held
        if (a != b).any():
            self.add(head, head)
        self._held = tail, tail

    def value(self) -> float:
        """Between -1 and 1; 1 for images that are the same."""
        height, width = (side - _WINDOW + 1 for side in self._size)
        if min(height, width) < 1:
            a, b = self._held
            return 1 - _whole_lost(a, b)
        return 1 - self._lost / (height * width)


def _lost(a: Floats, b: Floats) -> float:
    """What the windows that lie within lack of 1, in sum."""
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    edge = _WINDOW // 2
    inner = slice(edge, -edge)

    def mean(values: Floats) -> Floats:
        blurred: Floats = cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)[inner, inner]
        return blurred

    # Of the sum and the difference of both: 4ab and 2(a^2 + b^2) are difference and sum of their squares, which takes
    # the fewest passes and is exact where both are nearly the same. The factors cancel each other out.
    added, apart = cv2.add(a, b), cv2.subtract(a, b)
    mean_added, mean_apart = np.square(mean(added)), np.square(mean(apart))
    added, apart = mean(cv2.multiply(added, added)) - mean_added, mean(cv2.multiply(apart, apart)) - mean_apart
    mean_added += 2 * _C1
    added += 2 * _C2
    ssim = (mean_added - mean_apart) * (added - apart)
    ssim /= (mean_added + mean_apart) * (added + apart)
    return float(ssim.size - cv2.sumElems(ssim)[0])


def _whole_lost(a: Floats, b: Floats) -> float:
    """Of an image smaller than a window: the image is the window."""
    if not a.size:
        return 0.0
    mean_a, mean_b = float(a.mean()), float(b.mean())
    variances = float(a.var() + b.var())
    covariance = float(((a - mean_a) * (b - mean_b)).mean())
    top = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    return 1 - top / ((mean_a**2 + mean_b**2 + _C1) * (variances + _C2))


def perceptual_hash(luminance: Floats) -> int:
    """64 bits that stay nearly the same when an image is scaled, recompressed or brightened (DCT of 32 x 32)."""
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    small = cv2.resize(luminance, (32, 32), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
