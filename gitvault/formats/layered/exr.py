"""Parts and layers of OpenEXR images. A layer is the channels whose names begin alike, up to the last dot.

Layers share the compressed blocks of their part, so that it is decompressed and compressed again: what would lose by
that is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.extras import need
from gitvault.formats.layered.archive import numbered

_BASE = "base"
# What is said in the channels too, or is made anew when the file is written.
_MADE = frozenset(("channels", "chunkCount", "version", "maxSamplesPerPixel"))
# When and by what it was written: a frame that is rendered again to the same pixels is the same.
_WRITTEN = frozenset(("capDate", "utcOffset", "software", "Software"))
_LARGEST = 3 << 30


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an open file, and its layers: their channels by their ids."""

    id: str
    name: str
    part: Any
    layers: dict[str, list[str]]


def _open(path: Path, exr: Any) -> list[_Part]:
    try:
        file = exr.File(str(path), separate_channels=True)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedMedia(f"{path.name}: {error}; its bytes are saved") from None
    names = numbered(str(part.header.get("name") or number) for number, part in enumerate(file.parts))
    found = []
    for name, part in zip(names, file.parts, strict=True):
        layers: dict[str, list[str]] = {}
        for channel in part.channels:
            layers.setdefault(channel.rpartition(".")[0], []).append(channel)
        ids = numbered(f"{name}/{layer or _BASE}" for layer in layers)
        found.append(_Part(name, name, part, dict(zip(ids, layers.values(), strict=True))))
    return found


def _check_size(path: Path) -> None:
    """Refuse what would not fit into memory, before it is read."""
    oiio = need("OpenImageIO", "image")
    opened = oiio.ImageInput.open(str(path))
    if not opened:
        raise UnsupportedMedia(
            f"{path.name}: {' '.join(oiio.geterror().split()) or 'cannot be read'}; its bytes are saved"
        )
    size, number = 0, 0
    while opened.seek_subimage(number, 0):
        spec = opened.spec()
        if spec.deep:
            raise UnsupportedMedia(f"{path.name}: is deep: its pixels have depths of their own; its bytes are saved")
        size += spec.image_bytes(True)
        number += 1
        if opened.seek_subimage(number - 1, 1):
            raise UnsupportedMedia(f"{path.name}: has more than one level of detail; its bytes are saved")
    if size > _LARGEST:
        raise UnsupportedMedia(f"{path.name}: {size} bytes of pixels, expected at most {_LARGEST}; its bytes are saved")


def _parts(path: Path) -> list[_Part]:
    exr = need("OpenEXR", "image")
    _check_size(path)
    return _open(path, exr)


def _layer_hash(part: Any, channels: list[str]) -> str:
    found = sha256()
    for name in sorted(channels):
        channel = part.channels[name]
        pixels = channel.pixels
        found.update(f"{name} {pixels.dtype} {pixels.shape} {channel.xSampling} {channel.ySampling}\n".encode())
        found.update(pixels.tobytes())
    return found.hexdigest()


def _part_hash(part: Any) -> str:
    said = sorted(f"{key}={value!r}" for key, value in part.header.items() if key not in _MADE | _WRITTEN)
    return sha256("\n".join(said).encode("utf-8", "replace")).hexdigest()


def elements(path: Path) -> list[Element]:
    """Parts, and the layers in them. Raises UnsupportedMedia, ToolMissing."""
    return list(_elements(_parts(path)))


def _elements(parts: list[_Part]) -> Iterator[Element]:
    for part in parts:
        yield Element(part.id, part.name, "part", None, _part_hash(part.part))
        for name, channels in part.layers.items():
            shown = channels[0].rpartition(".")[0] or " ".join(channels)
            yield Element(name, shown, "layer", part.id, _layer_hash(part.part, channels))


def extract(path: Path, element: str, output: Path) -> None:
    """Write a part or a layer as an image of its own. Raises UnsupportedMedia, ToolMissing."""
    exr = need("OpenEXR", "image")
    for part in _parts(path):
        if element == part.id or element in part.layers:
            channels = part.part.channels
            wanted = part.layers.get(element, list(channels))
            _write(exr, output, [_copy(exr, part.part, {name: channels[name] for name in wanted})])


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """Write the current image with a part or a layer of the old one. Raises UnsupportedMedia, ToolMissing."""
    exr = need("OpenEXR", "image")
    theirs, ours = _parts(old), _parts(current)
    source = next(part for part in theirs if element == part.id or element in part.layers)
    home = next((part for part in ours if part.id == source.id), None)
    result = [_copy(exr, part.part, part.part.channels) for part in ours]
    for part in (*ours, source):
        _check(part, exr, current)
    if element == source.id:
        new = _copy(exr, source.part, source.part.channels)
        if home:
            result[ours.index(home)] = new
        else:
            before = [part.id for part in theirs[: theirs.index(source)]]
            result.insert(sum(part.id in before for part in ours), new)
    else:
        if not home:
            raise UnsupportedMedia(f"{element}: its part is not in {current.name}; restore that: {source.id}")
        channels = {name: home.part.channels[name] for name in home.part.channels}
        for name in home.layers.get(element, ()):
            del channels[name]
        for name in source.layers[element]:
            channels[name] = source.part.channels[name]
        if len({channel.pixels.shape for channel in channels.values() if channel.xSampling == 1}) > 1 or _windows(
            source
        ) != _windows(home):
            raise UnsupportedMedia(f"{element}: the pixels of {old.name} and {current.name} are not at the same place")
        result[ours.index(home)] = _copy(exr, home.part, channels)
    _write(exr, output, result)


def _windows(part: _Part) -> str:
    return repr([part.part.header.get(key) for key in ("dataWindow", "displayWindow")])


def _check(part: _Part, exr: Any, current: Path) -> None:
    header = part.part.header
    losing = [getattr(exr, name) for name in ("B44_COMPRESSION", "B44A_COMPRESSION", "DWAA_COMPRESSION")]
    losing += [exr.DWAB_COMPRESSION]
    if header.get("compression") in losing:
        kind = str(header["compression"]).rpartition(".")[2]
        raise UnsupportedMedia(f"{current.name}: {kind} loses a little each time; other layers would change")


def _copy(exr: Any, part: Any, channels: dict[str, Any]) -> Any:
    import numpy

    header = {key: value for key, value in part.header.items() if key not in _MADE}
    # A view that is not contiguous is written wrong, without a word.
    pixels = {
        name: exr.Channel(
            numpy.ascontiguousarray(channel.pixels), channel.xSampling, channel.ySampling, channel.pLinear
        )
        for name, channel in channels.items()
    }
    return exr.Part(header, pixels, part.header.get("name") or "")


def _write(exr: Any, output: Path, parts: list[Any]) -> None:
    try:
        exr.File(parts).write(str(output))
    except (RuntimeError, ValueError) as error:
        raise UnsupportedMedia(f"{output.name}: OpenEXR cannot write it: {error}") from None
