"""What is in an OpenEXR image, read by OpenImageIO."""

from __future__ import annotations

from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT
from gitvault.formats.extras import need

# Of the reader, not of the file.
_OWN = ("oiio:", "openexr:chunkCount", "openexr:version")


def witness(path: Path) -> dict[str, str]:
    """Hash by the id of parts and layers. Raises UnsupportedMedia, ToolMissing."""
    oiio = need("OpenImageIO", "image")
    opened = oiio.ImageInput.open(str(path))
    if not opened:
        raise UnsupportedMedia(f"{path.name}: {' '.join(oiio.geterror().split())}; its bytes are saved")
    found = {DOCUMENT: sha256(b"exr").hexdigest()}
    number, names = 0, dict[str, int]()
    while opened.seek_subimage(number, 0):
        spec = opened.spec()
        own = _once(spec.getattribute("name") or spec.getattribute("oiio:subimagename") or str(number), names)
        said = sorted(
            f"{attribute.name}={attribute.value!r}"
            for attribute in spec.extra_attribs
            if not attribute.name.startswith(_OWN)
        )
        place = (spec.x, spec.y, spec.width, spec.height, spec.full_x, spec.full_y, spec.full_width, spec.full_height)
        said.append(f"{place} {spec.tile_width} {spec.tile_height}")
        found[own] = sha256("\n".join(said).encode("utf-8", "surrogatepass")).hexdigest()
        layers: dict[str, list[int]] = {}
        for channel, name in enumerate(spec.channelnames):
            layers.setdefault(name.rpartition(".")[0], []).append(channel)
        hashes = _pixels(path, opened, spec, number)
        taken: dict[str, int] = {}
        for layer, channels in sorted(layers.items()):
            found[_once(f"{own}/{layer or 'base'}", taken)] = sha256(
                "\n".join(sorted(hashes[channel] for channel in channels)).encode()
            ).hexdigest()
        number += 1
    return found


def _once(name: str, seen: dict[str, int]) -> str:
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def _pixels(path: Path, opened: Any, spec: Any, number: int) -> list[str]:
    """A hash for each channel. What is of one type is read together: each reading decompresses all."""
    formats = [str(kind) for kind in spec.channelformats] or [str(spec.format)] * spec.nchannels
    hashes: list[str] = []
    for kind, run in groupby(formats):
        start, count = len(hashes), len(list(run))
        pixels = opened.read_image(number, 0, start, start + count, kind)
        if pixels is None:
            raise UnsupportedMedia(f"{path.name}: {' '.join(opened.geterror().split())}; its bytes are saved")
        for channel in range(count):
            own = sha256(f"{spec.channelnames[start + channel]} {kind}".encode())
            own.update(pixels[..., channel].tobytes())
            hashes.append(own.hexdigest())
    return hashes
