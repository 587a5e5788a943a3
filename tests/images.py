"""Images of every kind, written exactly: what is in them is known to the last bit."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]

HEIGHT, WIDTH = 70, 90


def noise(channels: int, kind: str) -> Pixels:
    """Height x width x channels of any values that the type can have; floats between 0 and 1."""
    rng = np.random.default_rng(1)
    if kind.startswith("float"):
        return rng.random((HEIGHT, WIDTH, channels)).astype(kind)
    return rng.integers(0, np.iinfo(kind).max, (HEIGHT, WIDTH, channels), dtype=kind, endpoint=True)


def by_oiio(path: Path, pixels: Pixels, **attributes: object) -> None:
    import OpenImageIO as oiio

    height, width, channels = pixels.shape
    kind = {"float16": "half", "float32": "float", "float64": "double"}.get(str(pixels.dtype), str(pixels.dtype))
    spec = oiio.ImageSpec(width, height, channels, kind)
    for name, value in {"oiio_UnassociatedAlpha": 1, "oiio_RawColor": 1, **attributes}.items():
        spec.attribute(name.replace("_", ":", 1), value)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec), out.geterror()
    assert out.write_image(pixels), out.geterror()
    out.close()


def tiled(path: Path, pixels: Pixels) -> None:
    import OpenImageIO as oiio

    buffer = oiio.ImageBuf(pixels)
    buffer.set_write_tiles(32, 32)
    assert buffer.write(str(path), oiio.TypeDesc("half"))


def exr(path: Path, channels: dict[str, Pixels], **header: object) -> None:
    import OpenEXR

    head = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    OpenEXR.File(head, {name: np.ascontiguousarray(plane) for name, plane in channels.items()}).write(str(path))


def parts(path: Path, by_name: dict[str, dict[str, Pixels]]) -> None:
    import OpenEXR

    made = [
        OpenEXR.Part({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "name": name}, channels)
        for name, channels in by_name.items()
    ]
    OpenEXR.File(made).write(str(path))


def subsampled(path: Path, light: Pixels, chroma: Pixels) -> None:
    """An EXR of halves, not packed: Y, and RY for every fourth pixel; OpenEXR's Python writes none."""
    height, width = light.shape

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value

    channels = [("RY", 2), ("Y", 1)]
    listed = b"".join(name.encode() + struct.pack("<xiiii", 1, 0, step, step) for name, step in channels)
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    head = struct.pack("<ii", 20000630, 2)
    head += attribute("channels", "chlist", listed + b"\0") + attribute("compression", "compression", b"\0")
    head += attribute("dataWindow", "box2i", window) + attribute("displayWindow", "box2i", window)
    head += attribute("lineOrder", "lineOrder", b"\0") + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", bytes(8)) + attribute("screenWindowWidth", "float", bytes(4)) + b"\0"
    offsets, body = [], b""
    for y in range(height):
        row = (b"" if y % 2 else chroma[y // 2].tobytes()) + light[y].tobytes()
        offsets.append(len(head) + 8 * height + len(body))
        body += struct.pack("<ii", y, len(row)) + row
    path.write_bytes(head + struct.pack(f"<{height}Q", *offsets) + body)


def by_pillow(mode: str | None = None, **options: object) -> Callable[[Path, Pixels], None]:
    def write(path: Path, pixels: Pixels) -> None:
        Image.fromarray(pixels.squeeze(), mode).save(path, **options)

    return write


def palette(path: Path, pixels: Pixels) -> None:
    """Each of 256 entries its own colour."""
    image = Image.fromarray(pixels.squeeze(), "P")
    image.putpalette(bytes(value for entry in range(256) for value in (entry, 255 - entry, entry // 2)))
    image.save(path)


def document(path: Path, pixels: Pixels) -> None:
    """A Krita or OpenRaster document, as far as its picture goes."""
    kind = {".kra": "application/x-krita", ".ora": "image/openraster"}[path.suffix]
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("mergedimage.png", png.getvalue())


def photoshop(path: Path, pixels: Pixels) -> None:
    """A flat PSD or PSB, written by the book: 8 or 16 bits, as many channels as there are; not packed."""
    height, width, channels = pixels.shape
    big, depth = path.suffix == ".psb", pixels.dtype.itemsize * 8
    mode = 4 if channels == 4 else 3 if channels == 3 else 1
    head = b"8BPS" + (2 if big else 1).to_bytes(2, "big") + bytes(6) + channels.to_bytes(2, "big")
    head += b"".join(number.to_bytes(4, "big") for number in (height, width))
    head += depth.to_bytes(2, "big") + mode.to_bytes(2, "big") + bytes(4) + bytes(4) + bytes(8 if big else 4)
    planes = pixels.transpose(2, 0, 1).astype(pixels.dtype.newbyteorder(">"))
    path.write_bytes(head + bytes(2) + planes.tobytes())


def drawing(path: Path, grey: int = 128) -> None:
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="50">'
        f'<rect width="50" height="25" fill="rgb({grey},{grey},{grey})"/></svg>'
    )
