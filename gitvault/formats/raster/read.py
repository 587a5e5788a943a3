"""Pixels as they are stored, strip by strip: no conversion of depth, colour or alpha.

    with open_image(path) as image:
        rows = image.rows(image.parts[0], 0, 256)

OpenImageIO reads nearly everything, and only so exactly: with `oiio:RawColor=1` and `oiio:UnassociatedAlpha=1`. CMYK
JPEGs are read by Pillow, which is the only one that has them right; SVG drawings are rendered.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats import vector
from gitvault.formats.extras import need

if TYPE_CHECKING:
    # Arrays of numpy: of any type, of 32-bit floats.
    Pixels = Any

MEMORY = 3 << 30
"""What one image may take that can only be decoded whole, in bytes."""
SAMPLES = 1 << 36
"""Bytes of pixels in all; what says it has more is not read."""
# Pages, frames or parts of one file; further ones are not read.
_PARTS = 4096
_RENDERED = 2048
_MERGED = "mergedimage.png"
_DEPTHS = {"uint": "uint32", "int": "int32"}
_KINDS = {depth: kind for kind, depth in _DEPTHS.items()}
_ARRAYS = {"float16": "half", "float32": "float"}
_SUBSAMPLED = "Subsampled channels"
_JPEG = b"\xff\xd8\xff"
_SCAN = 0xDA
_END = b"\xff\xd9"
_PNG_HEAD = 33
_ZIP = b"PK\3\4"
_PSD = b"8BPS"


@dataclass(frozen=True, slots=True)
class Part:
    """One rectangle of pixels: the image, a page, a frame, or a part of an EXR file."""

    name: str
    """As the file has it, else its number from 1."""
    x: int
    y: int
    width: int
    height: int
    channels: tuple[str, ...]
    """`R`, `G`, `B`, `A`, `Y`, `C`, `M`, `K`, or as the file has them: `specular.R`, `Z`."""
    depth: str
    """`uint8`, `uint16`, `uint32`, `int8` ..., `half`, `float`, `double`; of mixed ones that which holds them all."""
    bits: int
    """Of one sample in the file: 1, 8, 10, 12, 16, 32 ..."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What else the file says of it, by the names that OpenImageIO has for that."""
    place: tuple[int, int] = (0, 0)
    """Subimage and first channel there."""
    profile: bytes = field(default=b"", repr=False)
    """ICC profile."""

    @property
    def is_integer(self) -> bool:
        """Whether full scale is its type's greatest value."""
        return "int" in self.depth


class Image:
    """A file that was opened; `rows` may be called from several threads, one image by one at a time."""

    def __init__(self, parts: tuple[Part, ...], rows: Callable[[Part, int, int], Pixels]) -> None:
        self.parts = parts
        self._rows = rows

    def rows(self, part: Part, start: int, stop: int) -> Pixels:
        """Rows from `start` to before `stop`, counted from the part's first: height x width x channels.

        Raises UnsupportedMedia for what is damaged.
        """
        return self._rows(part, start, stop)


@contextmanager
def open_image(path: Path) -> Iterator[Image]:
    """An image of any format there is. Raises UnsupportedMedia, ToolMissing, OSError."""
    with open(path, "rb") as file:
        head = file.read(65536)
    with ExitStack() as stack:
        if head.startswith(_ZIP):
            yield stack.enter_context(_merged(path))
        elif head.startswith(_PSD):
            yield _photoshop(path)
        elif b"<svg" in head or b":svg" in head:
            yield _rendered(path)
        else:
            yield stack.enter_context(_opened(path, head))


def read(path: Path) -> Pixels:
    """The first part whole: height x width x channels, in the type it is stored in. Raises as `open_image`."""
    with open_image(path) as image:
        part = image.parts[0]
        if part.height * part.width * len(part.channels) * 4 > MEMORY:
            raise _refused(path, f"{part.width} x {part.height} pixels are too many to be read at once")
        return image.rows(part, 0, part.height)


def _refused(path: Path, why: str) -> UnsupportedMedia:
    # Libraries name the file, which may be a temporary copy of a saved one.
    return UnsupportedMedia(f"{path.name}: {why.replace(str(path), path.name)}; its bytes are saved")


# ------------------------------------------------------------------------------------- OpenImageIO


@contextmanager
def _opened(path: Path, head: bytes) -> Iterator[Image]:
    oiio = need("OpenImageIO", "image")
    oiio.attribute("limits:imagesize_MB", SAMPLES >> 20)
    wanted = oiio.ImageSpec()
    wanted.attribute("oiio:RawColor", 1)
    wanted.attribute("oiio:UnassociatedAlpha", 1)
    if head.startswith(_JPEG) and not _has_end(path):
        # Its readers would show grey instead of what is missing.
        raise _refused(path, "damaged: it ends before its end")
    source = oiio.ImageInput.open(str(path), wanted)
    if not source:
        why = _line(oiio.geterror())
        if _SUBSAMPLED in why:
            yield _subsampled(path)
            return
        raise _refused(path, f"cannot be read as an image: {why}")
    try:
        parts = tuple(_parts(oiio, source))
        if sum(part.height * part.width * len(part.channels) * part.bits // 8 for part in parts) > SAMPLES:
            raise _refused(path, f"{len(parts)} times {parts[0].width} x {parts[0].height} pixels are too many")
        if head.startswith(_JPEG) and parts[0].facts.get("jpeg:ColorSpace") in ("CMYK", "YCbCrK", "YCCK"):
            yield _cmyk(path, parts[0])
        else:
            yield Image(parts, _Scanlines(oiio, source, path))
    finally:
        source.close()


def _has_end(path: Path) -> bool:
    """Whether a JPEG's pixels are followed by the marker for that."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = 2
        while at + 4 <= len(data) and data[at] == 0xFF:
            if data[at + 1] == _SCAN:
                return data.find(_END, at) >= 0
            at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _parts(oiio: Any, source: Any) -> Iterator[Part]:
    number = 0
    while number < _PARTS and source.seek_subimage(number, 0):
        spec = source.spec()
        facts = {attribute.name: _plain(attribute.value) for attribute in spec.extra_attribs}
        profile = spec.getattribute("ICCProfile")
        if spec.deep:
            facts["deep"] = 1
        name = str(facts.get("name") or number + 1)
        kinds = list(spec.channelformats or (spec.format,) * spec.nchannels)
        size = spec.x, spec.y, spec.width, spec.height
        first = 0
        # Numbers of objects do not fit into the floats beside them: channels of a kind are a part of their own.
        for stop in range(1, spec.nchannels + 1):
            if stop < spec.nchannels and _is_integer(kinds[stop]) == _is_integer(kinds[first]):
                continue
            widest = max(kinds[first:stop], key=lambda kind: int(kind.size()))
            depth = _DEPTHS.get(str(widest), str(widest))
            names = tuple(spec.channelnames[first:stop])
            bits = int(spec.get_int_attribute("oiio:BitsPerSample", widest.size() * 8))
            yield Part(name, *size, names, depth, bits, facts, (number, first), _bytes(profile))
            first = stop
        number += 1


def _is_integer(kind: object) -> bool:
    return "int" in str(kind)


class _Scanlines:
    """What OpenImageIO reads."""

    def __init__(self, oiio: Any, source: Any, path: Path) -> None:
        self._oiio = oiio
        self._source = source
        self._path = path

    def __call__(self, part: Part, start: int, stop: int) -> Pixels:
        if "deep" in part.facts:
            raise _refused(self._path, "deep images, with any number of samples a pixel, cannot be compared")
        source, (number, first) = self._source, part.place
        kind = self._oiio.TypeDesc(_KINDS.get(part.depth, part.depth))
        last = first + len(part.channels)
        source.seek_subimage(number, 0)
        if tall := source.spec().tile_height:
            # Tiles are read whole.
            begin, end = start // tall * tall, min(-(-stop // tall) * tall, part.height)
            across = part.x, part.x + part.width
            found = source.read_tiles(number, 0, *across, part.y + begin, part.y + end, 0, 1, first, last, kind)
        else:
            begin, end = start, stop
            found = source.read_scanlines(number, 0, part.y + begin, part.y + end, 0, first, last, kind)
        if found is None:
            raise _refused(self._path, f"damaged: {_line(source.geterror())}")
        rows: Pixels = found.reshape(end - begin, part.width, last - first)[start - begin : stop - begin]
        return rows


def _plain(value: object) -> object:
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    # Profiles, thumbnails: what matters is whether they are the same.
    return "sha256:" + hashlib.sha256(_bytes(value) or str(value).encode()).hexdigest()


def _bytes(value: Any) -> bytes:
    return value.tobytes() if hasattr(value, "tobytes") else b""


def _line(text: str) -> str:
    return " ".join(text.split())[:200] or "no reason given"


# ------------------------------------------------------------------------------------------ others


def _subsampled(path: Path) -> Image:
    """An EXR image of luminance and, with fewer pixels, chroma: those are a part of their own."""
    openexr, numpy = need("OpenEXR", "image"), need("numpy", "image")
    with openexr.File(str(path), separate_channels=True) as file:
        planes = [
            (number, (channel.xSampling, channel.ySampling), name, channel.pixels)
            for number, part in enumerate(file.parts)
            for name, channel in part.channels.items()
        ]
    if not planes:
        raise _refused(path, "damaged: it has no pixels")
    parts: list[Part] = []
    by_place: dict[tuple[int, int], Pixels] = {}
    for number, sampling in sorted({plane[:2] for plane in planes}):
        chosen = {name: pixels for n, s, name, pixels in planes if (n, s) == (number, sampling)}
        pixels = numpy.stack(list(chosen.values()), axis=-1)
        name = f"{number + 1}" + (" chroma" if sampling != (1, 1) else "")
        depth = _ARRAYS.get(str(pixels.dtype), str(pixels.dtype))
        size, place = (pixels.shape[1], pixels.shape[0]), (number, len(parts))
        parts.append(Part(name, 0, 0, *size, tuple(chosen), depth, pixels.itemsize * 8, place=place))
        by_place[place] = pixels
    return Image(tuple(parts), lambda part, start, stop: by_place[part.place][start:stop])


def _cmyk(path: Path, part: Part) -> Image:
    """A JPEG of four inks; those are stored inverted, which Pillow turns round."""
    import warnings

    pillow, numpy = need("PIL.Image", "image"), need("numpy", "image")
    pillow.MAX_IMAGE_PIXELS = None
    if part.width * part.height * 4 > MEMORY:
        raise _refused(path, f"{part.width} x {part.height} pixels are too many for a JPEG of four inks")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pillow.open(path) as opened:
            pixels = numpy.asarray(opened)
            profile = opened.info.get("icc_profile")
    facts = {**part.facts, "oiio:ColorSpace": "CMYK"}
    if profile:
        facts["ICCProfile"] = _plain(memoryview(profile))
    inks = ("C", "M", "Y", "K")
    whole = Part(part.name, 0, 0, part.width, part.height, inks, "uint8", 8, facts, profile=profile or b"")
    return Image((whole,), lambda _, start, stop: pixels[start:stop])


def _photoshop(path: Path) -> Image:
    """A Photoshop document's own picture; its layers are elements."""
    from gitvault.formats.raster.photoshop import Header, merged

    try:
        with open(path, "rb") as file:
            header = Header(file)
        if header.width * header.height * header.count * header.bits // 8 > MEMORY:
            raise _refused(path, f"{header.width} x {header.height} pixels are too many to be read at once")
        pixels = merged(path)
    except (ValueError, MemoryError) as error:
        raise _refused(path, f"damaged: {_line(str(error))}") from error
    facts: dict[str, object] = {}
    profile = b""
    with suppress(UnsupportedMedia), _opened(path, b"") as known:
        facts, profile = dict(known.parts[0].facts), known.parts[0].profile
    part = Part("1", 0, 0, header.width, header.height, header.channels, header.depth, header.bits, facts)
    return Image((replace(part, profile=profile),), lambda _, start, stop: pixels[start:stop])


@contextmanager
def _merged(path: Path) -> Iterator[Image]:
    """Krita's and OpenRaster's documents have the picture that all layers make as a PNG in them."""
    import tempfile
    import zipfile
    import zlib

    with tempfile.TemporaryDirectory(prefix="gitvault-") as folder:
        target = Path(folder) / path.with_suffix(".png").name
        try:
            with zipfile.ZipFile(path) as archive, archive.open(_MERGED) as member, open(target, "wb") as file:
                start = member.read(_PNG_HEAD)
                file.write(start)
                left = _png_bytes(start)
                while data := member.read(1 << 20):
                    left -= len(data)
                    if left < 0:
                        raise _refused(path, f"{_MERGED} in it is larger than its pixels can be")
                    file.write(data)
        except KeyError:
            raise _refused(path, f"has no {_MERGED}, the picture that all its layers make") from None
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
            raise _refused(path, f"damaged: {_line(str(error))}") from error
        with _opened(target, b"") as image:
            yield image


def _png_bytes(start: bytes) -> int:
    """What a PNG of this size can take at the most, with room for what else is in it."""
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    return int(min(MEMORY, width * height * 8 * 1.01 + (64 << 20)))


def _rendered(path: Path) -> Image:
    """A drawing as pixels, 2,048 along its longer side, without what it refers to elsewhere."""
    numpy, cv2 = need("numpy", "image"), need("cv2", "image")
    drawn = numpy.frombuffer(vector.rendered(path, _RENDERED), numpy.uint8)
    pixels = cv2.cvtColor(cv2.imdecode(drawn, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
    height, width = pixels.shape[:2]
    part = Part("1", 0, 0, width, height, ("R", "G", "B", "A"), "uint8", 8, {"oiio:ColorSpace": "srgb_rec709_scene"})
    return Image((part,), lambda _, start, stop: pixels[start:stop])
