"""Two versions of a file for each format with elements, small and made by other programs' libraries."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Colors = Mapping[str, int]
"""What an element shows, by its name: a level from 0 to 255; what is missing is not in the file."""
SKY, HILL, TREE = "Sky", "Hill", "Tree"


def _flat(value: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """Something to look at that no compression turns into a few bytes."""
    return bytes((value + 37 * number * number // 11) % 256 for number in range(size[0] * size[1]))


def png(value: int) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("L", (24, 16), _flat(value)).save(file, "PNG")
    return file.getvalue()


def zipped(path: Path, members: Mapping[str, bytes], stored: Sequence[str] = ("mimetype",)) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            file.writestr(info, data, zipfile.ZIP_STORED if name in stored else zipfile.ZIP_DEFLATED)
    return path


def zip_file(path: Path, colors: Colors) -> Path:
    return zipped(path, {name: _flat(value) for name, value in colors.items()})


def psd_file(path: Path, colors: Colors) -> Path:
    from PIL import Image
    from psd_tools import PSDImage

    document = PSDImage.new("RGB", (32, 24))
    for name, value in colors.items():
        picture = Image.merge("RGBA", [Image.frombytes("L", (24, 16), _flat(value + n)) for n in range(4)])
        document.create_pixel_layer(picture, name=name, top=2, left=3, opacity=200)
    document.save(path)
    return path


def _uuid(name: str) -> str:
    return "{" + name.encode().hex().ljust(32, "0") + "}"


def kra_file(path: Path, colors: Colors) -> Path:
    layers, members = [], {}
    # Krita numbers files anew each time.
    for number, (name, value) in enumerate(colors.items(), 2 + len(colors)):
        layers.append(
            f'   <layer name="{name}" filename="layer{number}" uuid="{_uuid(name)}" compositeop="multiply"'
            f' opacity="200" nodetype="paintlayer">\n    <masks>\n     <mask name="{name} mask" nodetype="colorizemask"'
            f' filename="mask{number}" uuid="{_uuid(name + "m")}"/>\n    </masks>\n   </layer>\n'
        )
        members[f"forest/layers/layer{number}"] = _flat(value)
        members[f"forest/layers/layer{number}.defaultpixel"] = bytes(4)
        members[f"forest/layers/mask{number}.pixelselection"] = _flat(255 - value)
    document = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<DOC xmlns="http://www.calligra.org/DTD/krita" editor="Krita">\n'
        f' <IMAGE name="forest" width="24" height="16">\n  <layers>\n{"".join(layers)}  </layers>\n </IMAGE>\n</DOC>\n'
    )
    parts = {"mimetype": b"application/x-krita", "maindoc.xml": document.encode(), **members}
    return zipped(path, {**parts, "mergedimage.png": png(0)})


def ora_file(path: Path, colors: Colors) -> Path:
    layers = "".join(f'<layer name="{name}" src="data/{n}.png" x="1" y="2"/>' for n, name in enumerate(colors))
    pictures = {f"data/{number}.png": png(value) for number, value in enumerate(colors.values())}
    document = f'<image version="0.0.3" w="24" h="16"><stack>{layers}</stack></image>'.encode()
    return zipped(path, {"mimetype": b"image/openraster", "stack.xml": document, **pictures})


def svg_file(path: Path, colors: Colors) -> Path:
    shapes = "".join(
        f' <g id="{name}" xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" inkscape:label="{name}">\n'
        f'  <rect id="{name}-shape" width="{value}" height="7" fill="url(#{name}-light)"/>\n </g>\n'
        for name, value in colors.items()
    )
    lights = "".join(f'<linearGradient id="{name}-light"><stop offset="0"/></linearGradient>' for name in colors)
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg">\n <defs>{lights}</defs>\n{shapes}</svg>\n', "utf-8")
    return path


def tiff_file(path: Path, colors: Colors) -> Path:
    from PIL import Image, TiffImagePlugin

    pages = []
    for name, value in colors.items():
        page = Image.frombytes("I;16", (12, 16), _flat(value))
        page.encoderinfo = {"tiffinfo": TiffImagePlugin.ImageFileDirectory_v2()}  # type: ignore[attr-defined]
        page.encoderinfo["tiffinfo"][285] = name  # type: ignore[attr-defined]
        pages.append(page)
    first, *others = pages
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[285] = next(iter(colors))
    first.save(path, "TIFF", save_all=True, append_images=others, compression="raw", tiffinfo=tags)
    return path


def exr_file(path: Path, colors: Colors) -> Path:
    import numpy
    import OpenEXR

    channels = {}
    for name, value in colors.items():
        pixels = numpy.frombuffer(_flat(value), numpy.uint8).reshape(16, 24).astype(numpy.float16) / 7
        channels |= {f"{name}.{letter}": pixels + number for number, letter in enumerate("RGB")}
    header = {"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage, "artist": "Sofia"}
    OpenEXR.File(header, channels).write(str(path))
    return path


MAKERS: dict[str, Callable[[Path, Colors], Path]] = {
    "zip": zip_file,
    "psd": psd_file,
    "kra": kra_file,
    "ora": ora_file,
    "svg": svg_file,
    "tif": tiff_file,
    "exr": exr_file,
}
