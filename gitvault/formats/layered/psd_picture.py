"""The merged image and the thumbnail of a Photoshop document, made anew where its layers are plain.

Plain: normal blending, opacity, pixel masks and groups, in RGB or grey of 8 or 16 bits. Whether our sum is Photoshop's
is not believed but seen: it has to give the merged image that Photoshop stored before, pixel by pixel.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.formats.extras import need
from gitvault.formats.layered import psd_file
from gitvault.formats.layered.flatten import Box, Canvas, NotPlain
from gitvault.formats.layered.psd_file import Document, Layer
from gitvault.formats.mapping import mapped

if TYPE_CHECKING:
    from gitvault.formats.layered.flatten import Plane

PIXELS = 1 << 25
"""Of all channels that are looked at in one document: 166 million, twice, took 7.8 s of CPU, these a fifth of it."""
_BYTES = 256 << 20
"""Of a document: it is written and read through once more."""
_GREY, _RGB = 1, 3
_NORMAL, _THROUGH = b"norm", b"pass"
_HIDDEN, _MASK_OFF = 2, 2
# What a layer may say without looking otherwise than its pixels do.
_HARMLESS = frozenset(
    b"luni lyid lnsr clbl infx lspf lclr shmd fxrp lyvr lsct lsdk TySh tySh SoLd SoLE PlLd plLd tsly lmgm vmgm cinf "
    b"FXid FEid Txt2 mlst knko brst iOpa pths anFX".split()
)
_THUMBNAIL, _OLD_THUMBNAIL, _VERSION = 1036, 1033, 1057
_MADE = (b"TySh", b"tySh", b"SoLd", b"SoLE", b"PlLd", b"plLd")
_UNTOUCHED = b"\0\0\xff\xff"


def recomposed(current: Path, spliced: Path, output: Path) -> str:
    """Write `spliced`, which is `current` with other layers, with pictures of the whole that show them.

    Returns why that cannot be done, in words, and writes nothing then; "" when it was. Raises UnsupportedMedia.
    """
    with mapped(current) as before, mapped(spliced) as after:
        was, now = psd_file.read(before), psd_file.read(after)
        try:
            if len(after) > _BYTES:
                raise NotPlain(f"it is larger than {_BYTES >> 20} MiB")
            made = _recomposed(current, was, now)
        except NotPlain as why:
            return str(why)
        with output.open("wb") as file:
            psd_file.write(file, made)
    return ""


def _recomposed(current: Path, was: Document, now: Document) -> Document:
    np = need("numpy", "image")
    channels, height, width, depth, mode = struct.unpack_from(">HIIHH", was.head, 12)
    colours = {_GREY: 1, _RGB: 3}.get(mode)
    if not colours or depth not in (8, 16) or channels < colours:
        raise NotPlain("only RGB and grey of 8 and 16 bits are put together")
    for document in (was, now):
        for number, _, content in document.resources:
            if number == _VERSION and len(content) > 4 and not content[4]:
                raise NotPlain("it was saved without a merged image")
            if number == _OLD_THUMBNAIL:
                raise NotPlain("it has a thumbnail of Photoshop 4")
    whole = Box(0, 0, height, width)
    place = _changed(was, now, whole)
    if not place.area:
        raise NotPlain("nothing that is seen changed")
    from gitvault.formats.raster.photoshop import merged

    pixels: Any = np.array(merged(current))
    at = whole.slices(place)
    full = np.iinfo(pixels.dtype).max
    seen = pixels[at]
    # Photoshop's 16 bits count to 32,768.
    expected = _picture(was, place, colours, full, seen)
    if int(np.abs(expected.astype(np.int64) - seen.astype(np.int64)).max()) > (1 if depth == 8 else 2):
        raise NotPlain("its layers together do not give the merged image that is stored")
    pixels[at] = _picture(now, place, colours, full, seen)
    data = _packed(pixels, depth, was.wide)
    resources = tuple(
        (number, head, _thumbnail(bytes(content), pixels, colours) if number == _THUMBNAIL else content)
        for number, head, content in now.resources
    )
    return replace(now, merged=data, resources=resources)


def _changed(was: Document, now: Document, whole: Box) -> Box:
    """Where something may look otherwise."""
    found = Box(0, 0, 0, 0)
    for mine, others in ((was.layers, now.layers), (now.layers, was.layers)):
        left = list(others)
        for layer in mine:
            same = next((n for n, other in enumerate(left) if _is_same(layer, other)), None)
            if same is not None:
                del left[same]
            elif layer.section:
                return whole
            else:
                found = found.around(_box(layer).within(whole))
    return found


def _is_same(layer: Layer, other: Layer) -> bool:
    def said(one: Layer) -> tuple[bytes, ...]:
        return bytes(one.rectangle), bytes(one.look), bytes(one.mask), bytes(one.ranges)

    if said(layer) != said(other) or [(n, len(data)) for n, data in layer.channels] != [
        (n, len(data)) for n, data in other.channels
    ]:
        return False
    if [block.key for block in layer.blocks] != [block.key for block in other.blocks]:
        return False
    # Comparing memory views goes number by number.
    pairs = [(a.data, b.data) for a, b in zip(layer.blocks, other.blocks, strict=True)]
    pairs += [(a, b) for (_, a), (_, b) in zip(layer.channels, other.channels, strict=True)]
    return all(bytes(a) == bytes(b) for a, b in pairs)


def _box(layer: Layer) -> Box:
    return Box(*struct.unpack(">4i", layer.rectangle))


def _picture(document: Document, place: Box, colours: int, full: int, stored: Any) -> Any:
    """Rows x columns x channels as they are stored, of a part of the merged image; other channels as in `stored`."""
    np = need("numpy", "image")
    canvas = Canvas(place, colours)
    left = [PIXELS]
    _lay(document, 0, len(document.layers), canvas, left)
    found = stored.copy()
    # Transparency is shown on white.
    seen = canvas.colour + (1 - canvas.alpha)[..., None]
    found[..., :colours] = np.rint(np.clip(seen, 0, 1) * full)
    if document.has_transparency and found.shape[2] > colours:
        found[..., colours] = np.rint(np.clip(canvas.alpha, 0, 1) * full)
    return found


def _lay(document: Document, low: int, high: int, canvas: Canvas, left: list[int]) -> None:
    """Lay the layers from `low` up to before `high` over a canvas; `left`: how many pixels may still be read."""
    layers = document.layers
    at = low
    while at < high:
        layer = layers[at]
        if layer.section == 3:
            head = _head(layers, at, high)
            if not layers[head].look[10] & _HIDDEN:
                _lay_group(document, at + 1, head, canvas, left)
            at = head + 1
            continue
        if layer.section:
            raise NotPlain(f"the group {layer.name} has no end")
        if not layer.look[10] & _HIDDEN:
            _lay_layer(document, layer, canvas, left)
        at += 1


def _head(layers: Sequence[Layer], end: int, high: int) -> int:
    depth = 0
    for place in range(end, high):
        section = layers[place].section
        depth += 1 if section == 3 else -1 if section else 0
        if not depth:
            return place
    raise NotPlain("a group has no head")


def _lay_group(document: Document, low: int, head: int, canvas: Canvas, left: list[int]) -> None:
    layer = document.layers[head]
    block = layer.block(b"lsct", b"lsdk")
    assert block
    blend = bytes(block.data[8:12]) if len(block.data) >= 12 else bytes(layer.look[4:8])
    opacity = _plain(layer, blend, groups=True)
    mask = _mask(document, layer, canvas.box, left)
    coverage = opacity if mask is None else mask * opacity
    if blend == _NORMAL:
        inner = Canvas(canvas.box, canvas.colour.shape[2])
        _lay(document, low, head, inner, left)
        canvas.lay_group(inner, coverage)
    elif opacity == 1 and mask is None:
        _lay(document, low, head, canvas, left)
    else:
        over = canvas.copy()
        _lay(document, low, head, over, left)
        canvas.blend(over, coverage)


def _plain(layer: Layer, blend: bytes, *, groups: bool = False) -> float:
    """The opacity of a layer of which nothing else counts. Raises NotPlain."""
    if blend != _NORMAL and not (groups and blend == _THROUGH):
        raise NotPlain(f"{layer.name}: the blend mode is not normal")
    if layer.look[9]:
        raise NotPlain(f"{layer.name}: it is clipped to another layer")
    if any(bytes(layer.ranges[at : at + 4]) != _UNTOUCHED for at in range(0, len(layer.ranges), 4)):
        raise NotPlain(f"{layer.name}: it blends by ranges")
    opacity = layer.look[8] / 255
    for block in layer.blocks:
        if block.key not in _HARMLESS or (block.key in (b"knko", b"brst") and any(block.data)):
            raise NotPlain(f"{layer.name}: has {block.key.decode('latin-1')}, which changes how it looks")
        if block.key == b"iOpa":
            opacity *= block.data[0] / 255
    return opacity


def _lay_layer(document: Document, layer: Layer, canvas: Canvas, left: list[int]) -> None:
    box = _box(layer)
    seen = box.within(canvas.box)
    channels = dict(layer.channels)
    opacity = _plain(layer, bytes(layer.look[4:8]))
    if not box.area and layer.block(*_MADE):
        raise NotPlain(f"{layer.name}: its pixels are not stored")
    if not seen.area:
        return
    np = need("numpy", "image")
    at = box.slices(seen)
    planes = []
    for number in range(canvas.colour.shape[2]):
        if number not in channels:
            raise NotPlain(f"{layer.name}: lacks a colour")
        planes.append(_plane(document, channels[number], box, left)[at])
    alpha = _plane(document, channels[-1], box, left)[at] if -1 in channels else np.ones(planes[0].shape, np.float32)
    mask = _mask(document, layer, seen, left)
    if mask is not None:
        alpha = alpha * mask
    canvas.lay(np.stack(planes, axis=-1), alpha * np.float32(opacity), seen)


def _mask(document: Document, layer: Layer, place: Box, left: list[int]) -> Plane | None:
    """What a layer's pixel mask covers of a place; None without one that is on. Raises NotPlain."""
    channels = dict(layer.channels)
    if -3 in channels or len(layer.mask) not in (0, 20):
        raise NotPlain(f"{layer.name}: has a mask with more than pixels")
    if not layer.mask or -2 not in channels:
        return None
    flags = layer.mask[17]
    if flags & _MASK_OFF:
        return None
    if flags & ~1:
        raise NotPlain(f"{layer.name}: has a mask with more than pixels")
    np = need("numpy", "image")
    box = Box(*struct.unpack(">4i", layer.mask[:16]))
    made: Plane = np.full((place.height, place.width), layer.mask[16] / 255, np.float32)
    both = box.within(place)
    if both.area:
        made[place.slices(both)] = _plane(document, channels[-2], box, left)[box.slices(both)]
    return made


def _plane(document: Document, data: psd_file.Bytes, box: Box, left: list[int]) -> Plane:
    """One channel, from 0 to 1. Raises NotPlain, ValueError."""
    left[0] -= box.area
    if left[0] < 0:
        raise NotPlain(f"more than {PIXELS >> 20} million pixels in the channels of its layers")
    compression = need("psd_tools.compression", "image")
    np = need("numpy", "image")
    depth = int.from_bytes(document.head[22:24], "big")
    raw = compression.decompress(
        bytes(data[2:]),
        compression.Compression(int.from_bytes(data[:2], "big")),
        box.width,
        box.height,
        depth,
        2 if document.wide else 1,
    )
    found = np.frombuffer(raw, ">u1" if depth == 8 else ">u2").reshape(box.height, box.width)
    plane: Plane = found.astype(np.float32) / np.float32(2**depth - 1)
    return plane


def _packed(pixels: Any, depth: int, wide: bool) -> bytes:
    """A merged image, its rows packed, with the number of that packing before it."""
    np = need("numpy", "image")
    compression = need("psd_tools.compression", "image")
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), ">u1" if depth == 8 else ">u2")
    channels, height, width = planes.shape
    packed = compression.compress(
        planes.tobytes(), compression.Compression.RLE, width, height * channels, depth, 2 if wide else 1
    )
    return b"\0\1" + bytes(packed)


def _thumbnail(content: bytes, pixels: Any, colours: int) -> bytes:
    """The resource with the thumbnail, with another picture of the same size."""
    image_module = need("PIL.Image", "image")
    kind, width, height = struct.unpack_from(">III", content)
    if kind != 1 or not (0 < width <= 4096 and 0 < height <= 4096):
        raise NotPlain("its thumbnail is no JPEG")
    shown = pixels[..., :colours]
    shown = (shown >> 8).astype("u1") if shown.dtype.itemsize == 2 else shown
    picture = image_module.fromarray(shown[..., 0] if colours == 1 else shown).convert("RGB")
    file = io.BytesIO()
    picture.resize((width, height), image_module.Resampling.LANCZOS, reducing_gap=3).save(file, "JPEG", quality=90)
    data = file.getvalue()
    return content[:20] + struct.pack(">I", len(data)) + content[24:28] + data
