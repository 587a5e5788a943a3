"""The pictures of the whole in Krita documents and OpenRaster images, made anew where the layers are plain.

Plain: normal blending, opacity and groups, 8 bits for each colour. Whether our sum is the application's is not believed
but seen: it has to give the merged image that was stored before, pixel by pixel.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.formats.extras import need
from gitvault.formats.layered import archive
from gitvault.formats.layered.flatten import EVERYWHERE, Box, Canvas, NotPlain
from gitvault.formats.layered.markup import Node
from gitvault.formats.layered.painting import KRITA, Painting, opened
from gitvault.formats.mapping import mapped

if TYPE_CHECKING:
    from gitvault.formats.layered.archive import Member

PIXELS = 1 << 23
"""Of all layers that are looked at in one document."""
_MERGED = "mergedimage.png"
_PREVIEWS = ("preview.png", "Thumbnails/thumbnail.png")
_NORMAL = ("", "svg:src-over", "normal")
_TILE = 64
_TILES_HEAD = re.compile(rb"VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE (\d+)\nDATA (\d{1,8})\n")
_TILE_HEAD = re.compile(rb"(-?\d{1,9}),(-?\d{1,9}),LZF,(\d{1,6})\n")


def recomposed(current: Path, spliced: Path, output: Path) -> str:
    """`Format.recompose` of both kinds. Raises UnsupportedMedia."""
    with mapped(current) as before, mapped(spliced) as after:
        was, now = opened(before), opened(after)
        try:
            new = _pictures(was, now)
        except NotPlain as why:
            return str(why)
        with output.open("wb") as file:
            members = [
                member.holding(new[member.text]) if member.text in new else member for member in now.archive.members
            ]
            archive.write(file, members, now.archive)
    return ""


def _pictures(was: Painting, now: Painting) -> dict[str, bytes]:
    """New content of the members that show the whole. Raises NotPlain."""
    np = need("numpy", "image")
    if _MERGED not in now.members:
        raise NotPlain("it has no merged image")
    stored = _opened(now.members[_MERGED])
    if stored.mode not in ("RGB", "RGBA"):
        raise NotPlain(f"its merged image is of the kind {stored.mode}")
    pixels = np.array(stored.convert("RGBA"))
    whole = Box(0, 0, *pixels.shape[:2])
    place = _changed(was, now).within(whole)
    if not place.area:
        raise NotPlain("nothing that is seen changed")
    at = whole.slices(place)
    before = _Sum(was, place).canvas
    if _levels_apart(before, pixels[at]) > 1:
        raise NotPlain("its layers together do not give the merged image that is stored")
    after = _Sum(now, place).canvas
    if stored.mode == "RGB" and float(np.min(after.alpha)) < 1:
        raise NotPlain("its merged image has no transparency")
    pixels[at] = _straight(after)
    image = need("PIL.Image", "image")
    made = image.fromarray(pixels).convert(stored.mode)
    found = {_MERGED: _png(made, stored)}
    for name in _PREVIEWS:
        if name in now.members:
            preview = _opened(now.members[name])
            small = made.resize(preview.size, image.Resampling.LANCZOS, reducing_gap=3)
            found[name] = _png(small.convert(preview.mode if preview.mode in ("RGB", "RGBA") else "RGBA"), preview)
    return found


def _opened(member: Member) -> Any:
    image = need("PIL.Image", "image")
    # As large as the file says, which `PIXELS` bounds: not what Pillow thinks of bombs.
    data = member.whole()
    size = Box(0, 0, int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[24] != 8:
        raise NotPlain(f"{member.text} is no PNG of 8 bits")
    if size.area > PIXELS:
        raise NotPlain(f"more than {PIXELS >> 20} million pixels")
    return image.open(io.BytesIO(data))


def _png(picture: Any, like: Any) -> bytes:
    file = io.BytesIO()
    known = {key: like.info[key] for key in ("icc_profile", "dpi") if like.info.get(key)}
    picture.save(file, "PNG", **known)
    return file.getvalue()


def _levels_apart(canvas: Canvas, pixels: Any) -> float:
    """How far a canvas is at most from pixels of 8 bits, colours counted as far as they cover."""
    np = need("numpy", "image")
    alpha = pixels[..., 3].astype(np.float32) / 255
    colour = pixels[..., :3].astype(np.float32) * alpha[..., None]
    apart = max(np.abs(canvas.colour * 255 - colour).max(), np.abs(canvas.alpha - alpha).max() * 255)
    # What was rounded to a level is half of one off by itself.
    return float(apart) - 0.5


def _straight(canvas: Canvas) -> Any:
    np = need("numpy", "image")
    alpha = np.maximum(canvas.alpha, 1e-6)[..., None]
    both = np.concatenate([canvas.colour / alpha, canvas.alpha[..., None]], axis=-1)
    return np.rint(np.clip(both, 0, 1) * 255).astype(np.uint8)


def _changed(was: Painting, now: Painting) -> Box:
    """Where something may look otherwise."""
    found = Box(0, 0, 0, 0)
    hashes = [{name: one.hash(layer.node) for name, layer in one.layers.items()} for one in (was, now)]
    for one, mine, other in ((was, hashes[0], hashes[1]), (now, hashes[1], hashes[0])):
        for name, value in mine.items():
            if other.get(name) != value:
                layer = one.layers[name]
                found = found.around(_pixels_of(one, layer.node).box if layer.kind == "layer" else EVERYWHERE)
    return found


class _Sum:
    """What the layers of a painting give in one place."""

    def __init__(self, painting: Painting, place: Box) -> None:
        self._painting = painting
        self._left = PIXELS
        self.canvas = Canvas(place, 3)
        self._lay(painting.top, self.canvas)

    def _lay(self, holder: Node, canvas: Canvas) -> None:
        """Lay what is in a group over a canvas, the lowest, which stands last, first."""
        for node in reversed(holder.children):
            if node.local not in (*self._painting.dialect.tags, "layers"):
                continue
            if node.local == "layers":
                self._lay(node, canvas)
            elif _is_shown(node):
                self._lay_one(node, canvas)

    def _lay_one(self, node: Node, canvas: Canvas) -> None:
        opacity = _plain(self._painting, node)
        if _passes(node):
            self._lay(node, canvas)
            return
        if node.local == "stack" or node.attributes.get("nodetype") == "grouplayer":
            inner = Canvas(canvas.box, 3)
            self._lay(node, inner)
            canvas.lay_group(inner, opacity)
            return
        np = need("numpy", "image")
        pixels = _pixels_of(self._painting, node)
        seen = pixels.box.within(canvas.box)
        self._left -= seen.area
        if self._left < 0:
            raise NotPlain(f"more than {PIXELS >> 20} million pixels of layers")
        if seen.area:
            found = pixels.read(seen).astype(np.float32) / 255
            canvas.lay(found[..., :3], found[..., 3] * np.float32(opacity), seen)


def _is_shown(node: Node) -> bool:
    return node.attributes.get("visible", "1") != "0" and node.attributes.get("visibility", "visible") != "hidden"


def _passes(node: Node) -> bool:
    return node.attributes.get("passthrough", "0") != "0"


def _plain(painting: Painting, node: Node) -> float:
    """The opacity of a layer or group of which nothing else counts. Raises NotPlain."""
    said = node.attributes
    name = said.get("name", "")
    if said.get("compositeop", said.get("composite-op", "")) not in _NORMAL:
        raise NotPlain(f"{name}: the blend mode is not normal")
    if painting.dialect is not KRITA:
        return float(said.get("opacity", "1"))
    if said.get("nodetype") not in ("paintlayer", "grouplayer") or (_passes(node) and said.get("opacity") != "255"):
        raise NotPlain(f"{name}: is no plain layer or group")
    if said.get("layerstyle") or said.get("keyframes") or "0" in said.get("channelflags", ""):
        raise NotPlain(f"{name}: has a style, frames or channels that are off")
    if any(child.local == "masks" and child.children for child in node.children):
        raise NotPlain(f"{name}: has masks")
    if said.get("nodetype") == "paintlayer" and not (
        said.get("colorspacename") == "RGBA" and _has_profile(painting, node)
    ):
        raise NotPlain(f"{name}: its colours are not of 8 bits and the image's profile")
    return int(said.get("opacity", "255")) / 255


def _has_profile(painting: Painting, node: Node) -> bool:
    """Whether a layer's colour profile is that of the image."""
    own = painting.side(node).get(".icc")
    image = next((member for name, member in painting.members.items() if name.endswith("/annotations/icc")), None)
    return own.whole() == image.whole() if own and image else own is image


def _pixels_of(painting: Painting, node: Node) -> _Picture | _Tiles:
    x, y = (int(float(node.attributes.get(key, "0"))) for key in "xy")
    side = painting.side(node)
    if painting.dialect is not KRITA:
        return _Picture(side[""], x, y)
    if "" not in side:
        raise NotPlain(f"{node.attributes.get('name', '')}: its pixels are not stored")
    return _Tiles(side, x, y)


class _Picture:
    """A layer that is a PNG."""

    def __init__(self, member: Member, x: int, y: int) -> None:
        self._image = _opened(member)
        width, height = self._image.size
        self.box = Box(y, x, y + height, x + width)

    def read(self, seen: Box) -> Any:
        """Rows x columns x RGBA, 8 bits, of a part."""
        np = need("numpy", "image")
        return np.asarray(self._image.convert("RGBA"))[self.box.slices(seen)]


class _Tiles:
    """A layer of Krita's: squares, each compressed by itself, in the order blue, green, red, alpha."""

    def __init__(self, side: dict[str, Member], x: int, y: int) -> None:
        data = side[""].whole()
        self._default = side[".defaultpixel"].whole() if ".defaultpixel" in side else bytes(4)
        self._tiles: list[tuple[Box, bytes]] = []
        found = _TILES_HEAD.match(data)
        if not found or found[1] != b"4":
            raise NotPlain("its layers are not of Krita's second kind, of 4 bytes for a pixel")
        at = found.end()
        self.box = EVERYWHERE if self._default[3:] != b"\0" else Box(0, 0, 0, 0)
        for _ in range(int(found[2])):
            head = _TILE_HEAD.match(data, at)
            if not head:
                raise ValueError("a tile has no head")
            left, top, size = (int(head[number]) for number in (1, 2, 3))
            at = head.end() + size
            tile = Box(y + top, x + left, y + top + _TILE, x + left + _TILE)
            self._tiles.append((tile, data[head.end() : at]))
            self.box = self.box.around(tile)

    def read(self, seen: Box) -> Any:
        """Rows x columns x RGBA, 8 bits, of a part."""
        np = need("numpy", "image")
        made = np.empty((seen.height, seen.width, 4), np.uint8)
        made[:] = np.frombuffer(self._default, np.uint8)
        for tile, data in self._tiles:
            both = tile.within(seen)
            if both.area:
                planes = np.frombuffer(_expanded(data), np.uint8).reshape(4, _TILE, _TILE)
                made[seen.slices(both)] = planes.transpose(1, 2, 0)[tile.slices(both)]
        return made[..., [2, 1, 0, 3]]


def _expanded(data: bytes) -> bytes:
    """The bytes of a tile, plane by plane; LZF where it is compressed. Raises ValueError."""
    size = 4 * _TILE * _TILE
    if data[:1] != b"\1":
        made, at = bytearray(data[1:]), len(data)
        # As it is in memory, pixel by pixel.
        made = bytearray(b"".join(bytes(made[plane::4]) for plane in range(4)))
    else:
        made, at = bytearray(), 1
    while at < len(data) and len(made) < size:
        token = data[at]
        at += 1
        if token < 32:
            made += data[at : at + token + 1]
            at += token + 1
            continue
        length = token >> 5
        if length == 7:
            length += data[at]
            at += 1
        start = len(made) - ((token & 31) << 8) - data[at] - 1
        at += 1
        if start < 0:
            raise ValueError("a tile refers to what stands before it")
        piece = made[start : start + length + 2]
        made += (piece * (-(-(length + 2) // len(piece))))[: length + 2]
    if len(made) != size:
        raise ValueError(f"a tile has {len(made)} bytes, expected {size}")
    return bytes(made)
