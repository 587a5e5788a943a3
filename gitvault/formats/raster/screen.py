"""Pixels as a screen shows them: 8 bits, sRGB, upright, what is transparent over a checkerboard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.formats.extras import need
from gitvault.formats.raster.read import Part, open_image
from gitvault.formats.raster.scale import averaged, is_alpha, is_colour, picked, seen

if TYPE_CHECKING:
    from gitvault.formats.raster.scale import Floats

    Screen = Any

_SQUARE = 16
_LIGHT, _DARK = 0.8, 0.6
_FULL = {"uint8": 255.0, "uint16": 65535.0, "uint32": 4294967295.0}


def preview(path: Path, side: int) -> Screen:
    """The first part of an image with at most `side` pixels a side: height x width x 3, RGB.

    Raises UnsupportedMedia, ToolMissing, OSError.
    """
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    with open_image(path) as image:
        part = image.parts[0]
        names = seen(part.channels)
        places = [part.channels.index(name) for name in names]
        scale = 1
        while max(part.width, part.height) >= 2 * side * scale:
            scale *= 2
        full = _FULL.get(part.depth, 1.0)
        step = max(scale, 256)
        small = np.concatenate(
            [
                averaged(picked(image.rows(part, start, min(start + step, part.height)), places), full, scale)
                for start in range(0, part.height, step)
            ]
        )
    shown = on_screen(small, names, part)
    height, width = shown.shape[:2]
    shrunk = min(1.0, side / max(height, width))
    size = max(1, round(width * shrunk)), max(1, round(height * shrunk))
    return upright(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), part)


def on_screen(pixels: Floats, names: Sequence[str], part: Part, span: tuple[float, float] | None = None) -> Screen:
    """Height x width x 3, RGB. `span`: what is black and what is white of a channel that is no colour."""
    np, cv2 = need("numpy", "image"), need("cv2", "image")
    if not part.is_integer:
        pixels = np.nan_to_num(pixels, nan=0.0, posinf=1e6, neginf=-1e6)
    short = [name.rpartition(".")[2] for name in names]
    alpha = pixels[..., -1:].clip(0, 1) if is_alpha(names[-1]) and len(names) > 1 else None
    colours = pixels[..., :-1] if alpha is not None else pixels
    linear = not part.is_integer
    if short[:4] == ["C", "M", "Y", "K"]:
        shown = _of_inks(colours, part)
    elif not is_colour(short[0]):
        low, high = span or levels(colours)
        shown = ((colours - low) / ((high - low) or 1.0)).clip(0, 1)
        linear = False
    else:
        shown = colours
    if alpha is not None:
        board = _board(*shown.shape[:2])
        # Floats have their alpha multiplied in, as the programs that write them do.
        shown = shown + (1 - alpha) * board**2.2 if linear else shown * alpha + (1 - alpha) * board
    if linear:
        shown = cv2.LUT((shown.clip(0, 1) * 65535 + 0.5).astype(np.uint16), _curve()).reshape(shown.shape)
    else:
        shown = cv2.convertScaleAbs(np.ascontiguousarray(shown), alpha=255).reshape(shown.shape)
    if shown.shape[2] == 1:
        shown = cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB)
    return shown if part.profile == b"" or short[0] == "C" or linear else _in_srgb(shown, part.profile)


def _curve() -> Screen:
    """What sRGB makes of 65,536 levels of light."""
    np = need("numpy", "image")
    light = np.arange(65536) / 65535
    curve = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(curve * 255).astype(np.uint8)[None]


def levels(*pixels: Floats) -> tuple[float, float]:
    """The least and the greatest finite value."""
    np = need("numpy", "image")
    finite = [values[np.isfinite(values)] for values in pixels]
    return min((float(f.min()) for f in finite if f.size), default=0.0), max(
        (float(f.max()) for f in finite if f.size), default=1.0
    )


def upright(shown: Screen, part: Part) -> Screen:
    """Turned as the file says it is to be shown."""
    np = need("numpy", "image")
    orientation = part.facts.get("Orientation", 1)
    if orientation in (5, 6, 7, 8):
        shown = shown.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        shown = shown[:, ::-1]
    if orientation in (3, 4, 7, 8):
        shown = shown[::-1]
    return np.ascontiguousarray(shown)


def _of_inks(colours: Floats, part: Part) -> Floats:
    np = need("numpy", "image")
    if part.profile:
        inks = np.rint(colours * 255).clip(0, 255).astype(np.uint8)
        if (shown := _converted(inks, "CMYK", part.profile)) is not None:
            return shown.astype(np.float32) / 255
    return (1 - colours[..., :3]) * (1 - colours[..., 3:4])


def _in_srgb(shown: Screen, profile: bytes) -> Screen:
    converted = _converted(shown, "RGB", profile)
    return shown if converted is None else converted


def _converted(pixels: Screen, mode: str, profile: bytes) -> Screen | None:
    """By its profile; None for one that is damaged or of something else."""
    np, pillow, cms = need("numpy", "image"), need("PIL.Image", "image"), need("PIL.ImageCms", "image")
    try:
        source = cms.ImageCmsProfile(io.BytesIO(profile))
        image = pillow.fromarray(pixels, mode)
        return np.asarray(cms.profileToProfile(image, source, cms.createProfile("sRGB"), outputMode="RGB"))
    except (cms.PyCMSError, OSError, ValueError):
        return None


def _board(height: int, width: int) -> Floats:
    np = need("numpy", "image")
    down, across = np.ogrid[:height, :width]
    dark = (down // _SQUARE + across // _SQUARE) % 2
    return np.where(dark, _DARK, _LIGHT).astype(np.float32)[..., None]
