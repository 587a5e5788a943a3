"""Pictures of more than 8 bits, of floats, and all that only OpenImageIO reads; averaged strip by strip.

What is light and not a display's values (OpenEXR, Radiance) is exposed unless it is already, and its highlights are
bent, not cut.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.extras import need
from gitvault.formats.thumbnails.shown import in_srgb

_LARGEST = 1 << 31
"""Pixels."""
_LARGEST_WHOLE = 1 << 28
"""Of those that are not read in strips."""
_STRIP = 8 << 20
"""Pixels that are held at once."""

_EXPOSED = (0.005, 1.2)
"""Between which the middle of a picture lies that was exposed for a display."""
_GREY = 0.18
_SHOULDER = 0.7
"""From here on light is compressed."""


def read(path: Path, side: int) -> Any:
    """A PIL image of 8 bits, a few times as large as `side` or smaller. Raises UnsupportedMedia, ToolMissing."""
    oiio = need("OpenImageIO", "image")
    asked = oiio.ImageSpec()
    asked.attribute("oiio:UnassociatedAlpha", 1)
    source = oiio.ImageInput.open(str(path), asked)
    if source is None:
        raise UnsupportedMedia(f"{path.name}: cannot be read: {_why(oiio.geterror())}")
    try:
        _seek(source, side)
        return _shown(path, source, side)
    finally:
        source.close()


def _seek(source: Any, side: int) -> None:
    """To the part that has colours, and the smallest of its levels that is large enough."""
    for part in range(64):
        if not source.seek_subimage(part, 0):
            source.seek_subimage(0, 0)
            part = 0
            break
        if _channels(source.spec().channelnames)[1]:
            break
    level = 0
    while source.seek_subimage(part, level + 1):
        spec = source.spec()
        if max(spec.width, spec.height) < side:
            break
        level += 1
    source.seek_subimage(part, level)


def _channels(names: Any) -> tuple[list[int], bool]:
    """Which channels to show: red, green, blue and alpha of the first layer that has them, else the first ones."""
    lower = [str(name).lower() for name in names]
    for at, name in enumerate(lower):
        stem, _, last = name.rpartition(".")
        if last in ("r", "red"):
            prefix = f"{stem}." if stem else ""
            found = [
                next((i for i, other in enumerate(lower) if other in (prefix + letter, prefix + word)), -1)
                for letter, word in (("r", "red"), ("g", "green"), ("b", "blue"), ("a", "alpha"))
            ]
            if -1 not in found[:3]:
                return [i for i in found if i >= 0], True
            return [at], True
    return list(range(min(len(lower), 3) if len(lower) != 2 else 1)), False


def _shown(path: Path, source: Any, side: int) -> Any:
    numpy = need("numpy", "image")
    spec = source.spec()
    across, down = spec.width, spec.height
    in_tiles = spec.tile_width or spec.depth > 1
    if across * down > (_LARGEST_WHOLE if in_tiles else _LARGEST) or min(across, down) < 1:
        raise UnsupportedMedia(f"{path.name}: {across} x {down} pixels are too many to be decoded")
    wanted, _ = _channels(spec.channelnames)
    # Twice as large as needed, so that what follows can still filter.
    step = max(1, min(max(across, down) // (side * 2), min(across, down)))
    kind = str(spec.format)
    as_float = kind in ("half", "float", "double")
    first, stop = min(wanted), max(wanted) + 1
    kept = "float" if as_float else "uint8"
    rows = []
    strip = max(step, _STRIP // across // step * step)
    whole = None
    if in_tiles:
        whole = source.read_image(source.current_subimage(), source.current_miplevel(), first, stop, kept)
        if whole is None:
            raise UnsupportedMedia(f"{path.name}: cannot be decoded: {_why(source.geterror())}")
    for top in range(0, down // step * step, strip):
        bottom = min(top + strip, down)
        if whole is None:
            y = spec.y
            data = source.read_scanlines(y + top, y + bottom, 0, first, stop, kept)
            if data is None:
                raise UnsupportedMedia(f"{path.name}: cannot be decoded: {_why(source.geterror())}")
        else:
            data = whole.reshape(-1, across, stop - first)[top:bottom]
        data = numpy.asarray(data).reshape(bottom - top, across, stop - first)[..., [i - first for i in wanted]]
        rows.append(_averaged(data, step))
    small = numpy.concatenate([row for row in rows])
    if as_float:
        small = _developed(numpy, small, _is_light(spec, kind))
    return _image(small.round().clip(0, 255).astype(numpy.uint8), spec)


def _averaged(data: Any, step: int) -> Any:
    """Means of `step` by `step` pixels, as floats; a rest at the right and below is left out."""
    numpy, cv2 = need("numpy", "image"), need("cv2", "image")
    down, across, channels = data.shape
    size = across // step, down // step
    whole = numpy.ascontiguousarray(data[: size[1] * step, : size[0] * step])
    # Ten times as fast as numpy's mean of blocks.
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], channels).astype(numpy.float32)


def _is_light(spec: Any, kind: str) -> bool:
    said = str(spec.getattribute("oiio:ColorSpace") or "").lower()
    return kind in ("half", "float", "double") and "srgb" not in said.replace("lin_srgb", "").replace("linear", "")


def _developed(numpy: Any, light: Any, is_light: bool) -> Any:
    """Values of a display, 0 to 255."""
    light = numpy.nan_to_num(light, nan=0, posinf=65504, neginf=0).clip(0, None)
    colour, alpha = light[..., :3], light[..., 3:].clip(0, 1)
    if not alpha.any():
        # A pass that says nothing of it.
        alpha = alpha[..., :0]
    if is_light:
        if alpha.size:
            colour = colour / numpy.where(alpha > 0, alpha, 1)
        lit = colour[colour > 0]
        middle = float(numpy.median(lit)) if lit.size else 1.0
        # What was exposed for a display stays; depth in metres, or a night, is seen too.
        if not _EXPOSED[0] <= middle <= _EXPOSED[1]:
            colour = colour * (_GREY / middle)
        bright = colour > _SHOULDER
        rest = 1 - _SHOULDER
        colour[bright] = 1 - rest * numpy.exp((_SHOULDER - colour[bright]) / rest)
        colour = numpy.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour ** (1 / 2.4) - 0.055)
    return numpy.concatenate((colour, alpha), axis=-1) * 255


def _image(small: Any, spec: Any) -> Any:
    pillow = need("PIL.Image", "image")
    channels = small.shape[-1]
    if channels == 2:
        small, channels = small[..., :1], 1
    image = pillow.fromarray(small[..., 0] if channels == 1 else small)
    turns = {
        2: pillow.Transpose.FLIP_LEFT_RIGHT,
        3: pillow.Transpose.ROTATE_180,
        4: pillow.Transpose.FLIP_TOP_BOTTOM,
        5: pillow.Transpose.TRANSPOSE,
        6: pillow.Transpose.ROTATE_270,
        7: pillow.Transpose.TRANSVERSE,
        8: pillow.Transpose.ROTATE_90,
    }
    turn = turns.get(int(spec.getattribute("Orientation") or 1))
    image = image.transpose(turn) if turn is not None else image
    profile = spec.getattribute("ICCProfile")
    return in_srgb(image, profile.tobytes() if profile is not None else None)


def _why(text: str) -> str:
    return " ".join(str(text).split())[:200] or "no reason given"
