"""Two versions of an image: what of its pixels differs, and what of all else that the file says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gitvault.formats import Comparison
from gitvault.formats.raster.measure import Measured, Pair, measure, pair
from gitvault.formats.raster.read import Image, Part, open_image
from gitvault.formats.raster.scale import is_alpha, is_colour
from gitvault.formats.raster.screen import levels, on_screen
from gitvault.formats.raster.tally import Tally, psnr

# What changes with each save, and how the same pixels are packed.
_NOISE = (
    "date",
    "time",
    "software",
    "compression",
    "rowsperchunk",
    "rowsperstrip",
    "planarconfig",
    "tiff:",
    "exif:",
    "xmp:",
    "iptc:",
    "jpeg:",
    "gif:",
    "openexr:lineorder",
    "oiio:subimages",
    "thumbnail",
    "name",
)
_NAMES = {"oiio:ColorSpace": "colour space", "ICCProfile": "ICC profile", "Orientation": "orientation"}
_PROFILE = "ICCProfile:"


@dataclass(slots=True)
class _Picture:
    """A page, frame or part that both files have."""

    name: str
    pairs: list[Pair]
    found: Measured


def compare(before: Path, after: Path, folder: Path | None) -> Comparison:
    """How two images differ; pictures only with a folder. Raises UnsupportedMedia, ToolMissing, OSError."""
    with open_image(before) as a, open_image(after) as b:
        metadata = list(_metadata(a.parts, b.parts))
        pictures = [
            _Picture(name, pairs, measure(a, b, pairs, pictures=bool(folder))) for name, pairs in _matched(a, b)
        ]
        stats = _stats(b, pictures)
    stats["metadata"] = [{"name": name, "before": old, "after": new} for name, old, new in metadata]
    counts = any(not _is_noise(name) for name, _, _ in metadata)
    differing = [picture for picture in pictures if picture.found.changed_pixels]
    drawn: dict[str, str] = {}
    if folder and pictures:
        drawn = _drawn((differing or pictures)[0], folder)
    return Comparison("image", bool(differing) or counts, stats, drawn)


# ------------------------------------------------------------------------------------------ pixels


def _matched(a: Image, b: Image) -> Iterator[tuple[str, list[Pair]]]:
    """What is compared with what, by name; what lies on the same place in a file stays together."""
    old: dict[str, list[Part]] = {}
    new: dict[str, list[Part]] = {}
    for image, by_name in ((a, old), (b, new)):
        for part in image.parts:
            by_name.setdefault(part.name, []).append(part)
    for name, parts in new.items():
        pairs = [found for part in parts for other in old.get(name, ()) if (found := pair(other, part))]
        # Colours first: they are what is shown.
        if pairs:
            yield name, pairs


def _stats(image: Image, pictures: Sequence[_Picture]) -> dict[str, object]:
    shown = image.parts[0]
    together = [part for part in image.parts if part.place[0] == 0]
    stats: dict[str, object] = {
        "width": shown.width,
        "height": shown.height,
        "channels": sum(len(part.channels) for part in together),
        "depth": shown.depth,
        "parts": len({part.place[0] for part in image.parts}),
    }
    every = [
        (picture, name, tally, picture.found.width * picture.found.height)
        for picture in pictures
        for name, tally in picture.found.channels.items()
    ]
    if not every:
        return {**stats, **_nothing(), "note": "no channel in common, or nowhere over each other"}
    samples = sum(size for *_, size in every)
    total = Tally()
    for _, _, tally, _ in every:
        total.add(tally)
    worst = max(pictures, key=lambda picture: (picture.found.changed_pixels > 0, -picture.found.ssim))
    stats |= {
        "changed_pixels": sum(picture.found.changed_pixels for picture in pictures),
        "max": total.peak,
        "mean": total.total / samples,
        "psnr": psnr(total.squares, samples, _full(shown, total)),
        "ssim": worst.found.ssim,
        "hash_distance": worst.found.hash_distance,
        "boxes": worst.found.boxes,
        "not_finite": sum(picture.found.strange for picture in pictures),
    }
    apart = len(pictures) > 1
    by_name = {
        f"{picture.name}.{name}" if apart else name: (picture, tally, size) for picture, name, tally, size in every
    }
    stats["by_channel"] = {name: _figures(*rest) for name, rest in by_name.items()}
    alphas = {name: rest for name, rest in by_name.items() if is_alpha(name)}
    if alphas:
        picture, tally, size = next(iter(alphas.values()))
        stats["alpha"] = _figures(picture, tally, size)
    if apart:
        stats["changed_parts"] = [picture.name for picture in pictures if picture.found.changed_pixels]
    smaller = pictures[0].pairs[0]
    if (smaller.width, smaller.height) != (shown.width, shown.height) or smaller.before.width != shown.width:
        stats["compared"] = [smaller.x, smaller.y, smaller.width, smaller.height]
    return stats


def _nothing() -> dict[str, object]:
    return {"changed_pixels": 0, "max": 0.0, "mean": 0.0, "psnr": None, "ssim": None, "boxes": []}


def _full(part: Part, tally: Tally) -> float:
    """Full scale: of floats the greatest value there is, at least 1."""
    return 1.0 if part.is_integer else max(1.0, tally.brightest)


def _figures(picture: _Picture, tally: Tally, size: int) -> dict[str, object]:
    decibels = psnr(tally.squares, size, _full(picture.pairs[0].after, tally))
    return {"changed": tally.changed, "max": tally.peak, "mean": tally.total / size, "psnr": decibels}


def _drawn(picture: _Picture, folder: Path) -> dict[str, str]:
    from gitvault.formats.raster.pictures import draw

    found, shown = picture.found, picture.pairs[0]
    span = None if is_colour(found.seen[0]) else levels(found.before, found.after)
    before = on_screen(found.before, found.seen, shown.before, span)
    after = on_screen(found.after, found.seen, shown.after, span)
    return draw(found, before, after, folder)


# ---------------------------------------------------------------------------------------- metadata


def _metadata(old: Sequence[Part], new: Sequence[Part]) -> Iterator[tuple[str, object, object]]:
    """Names of what is not the same, as it was and is."""
    firsts = old[0], new[0]
    of: list[dict[str, object]] = []
    for parts, first in zip((old, new), firsts, strict=True):
        names = list(dict.fromkeys(part.name for part in parts))
        known: dict[str, object] = {
            "size": [first.width, first.height],
            "position": [first.x, first.y],
            "depth": first.depth,
            "bits": first.bits,
            "parts": names,
            "channels": [name for part in parts for name in part.channels],
        }
        for name, value in first.facts.items():
            if not name.startswith(_PROFILE):
                known[_NAMES.get(name, name)] = value
        if "ICCProfile" in first.facts:
            known["ICC profile"] = first.facts.get(_PROFILE + "profile_description") or first.facts["ICCProfile"]
            known["ICC profile hash"] = first.facts["ICCProfile"]
        of.append(known)
    was, is_ = of
    for name in dict.fromkeys([*was, *is_]):
        a, b = was.get(name), is_.get(name)
        if a != b and not (_is_nan(a) and _is_nan(b)):
            yield name, a, b


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_noise(name: str) -> bool:
    return any(word in name.lower() for word in _NOISE)
