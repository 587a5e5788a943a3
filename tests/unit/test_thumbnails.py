"""Small pictures of files: of every kind, upright, in the colours of a display, from previews where there are any."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
import zstandard
from PIL import Image

from gitvault.errors import ToolMissing, UnsupportedMedia
from gitvault.formats import Format, format_of, formats
from gitvault.formats.extras import need
from gitvault.formats.thumbnails import (
    FINGERPRINT,
    RENDERER,
    document,
    drawn,
    fingerprint,
    is_whole,
    lightest,
    picture,
    vector,
)
from gitvault.formats.thumbnails.embedded import KINDS, ZIPPED, NotThere, Partial, preview
from gitvault.formats.thumbnails.shown import encoded, in_srgb, is_ours
from gitvault.formats.thumbnails.wide import read
from gitvault.formats.vector import rendered

numpy = pytest.importorskip("numpy")
oiio = pytest.importorskip("OpenImageIO")


def shown(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def colours(across: int = 320, down: int = 200) -> Image.Image:
    """Red, green, blue and white quarters."""
    image = Image.new("RGB", (across, down), "red")
    image.paste("#00ff00", (across // 2, 0, across, down // 2))
    image.paste("blue", (0, down // 2, across // 2, down))
    image.paste("white", (across // 2, down // 2, across, down))
    return image


def is_colours(image: Image.Image, apart: int = 12) -> bool:
    across, down = image.size
    places = ((1, 1, (255, 0, 0)), (3, 1, (0, 255, 0)), (1, 3, (0, 0, 255)), (3, 3, (255, 255, 255)))
    rgb = image.convert("RGB")
    return all(
        max(abs(a - b) for a, b in zip(cast(Any, rgb.getpixel((across * x // 4, down * y // 4))), wanted, strict=True))
        <= apart
        for x, y, wanted in places
    )


def write(path: Path, kind: str, values: Any) -> None:
    spec = oiio.ImageSpec(values.shape[1], values.shape[0], values.shape[2], kind)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), spec)
    assert out.write_image(values)
    out.close()


def by_pillow(name: str, mode: str = "RGB", **options: Any) -> Callable[[Path], None]:
    return lambda path: colours().convert(mode).save(path / name, **options)


def by_oiio(name: str, kind: str, scale: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        values = numpy.asarray(colours()).astype(numpy.float64) / 255 * scale
        write(path / name, kind, values.astype({"uint8": "u1", "uint16": "u2", "half": "f2", "float": "f4"}[kind]))

    return make


@pytest.mark.parametrize(
    "make",
    [
        by_pillow("a.png"),
        by_pillow("a.jpg", quality=95),
        by_pillow("a.webp", lossless=True),
        by_pillow("a.gif"),
        by_pillow("palette.png", "P"),
        by_pillow("a.bmp"),
        by_pillow("a.tga"),
        by_pillow("a.tif"),
        by_pillow("a.dds"),
        by_oiio("deep.png", "uint16", 65535),
        by_oiio("deep.tif", "uint16", 65535),
        by_oiio("a.dpx", "uint16", 65535),
        by_oiio("a.exr", "half", 0.9),
        by_oiio("a.hdr", "float", 0.9),
    ],
)
def test_every_kind_of_image(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    [path] = tmp_path.iterdir()
    known = format_of(path)
    assert known and known.thumbnail
    image = shown(known.thumbnail(path, 64))
    assert image.size == (64, 40)
    assert is_colours(image, 40 if path.suffix in (".exr", ".hdr") else 12)


def test_it_is_upright_and_never_larger_than_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = colours().transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = shown(picture(tmp_path / "a.jpg", 64))
    assert image.size == (64, 40)
    assert is_colours(image)
    turned.save(tmp_path / "a.tif", exif=exif)
    assert is_colours(shown(picture(tmp_path / "a.tif", 64)))
    colours(20, 10).save(tmp_path / "small.png")
    assert shown(picture(tmp_path / "small.png", 64)).size == (20, 10)


def test_colours_are_those_that_a_display_shows(tmp_path: Path) -> None:
    from PIL import ImageCms

    # A profile in which red and green changed places says so.
    colours().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert is_colours(shown(picture(tmp_path / "a.jpg", 64)), 40)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert in_srgb(colours(), lab).getpixel((0, 0)) == (255, 0, 0), "one that does not fit is left alone"
    assert in_srgb(colours(), b"no profile").getpixel((0, 0)) == (255, 0, 0)
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"mine")
    clear = colours().convert("RGBA")
    clear.putalpha(100)
    assert in_srgb(clear, xyz).getpixel((0, 0))[3] == 100


@pytest.mark.parametrize("middle", [1e-4, 0.18, 40.0])
def test_light_is_exposed_so_that_it_is_seen(middle: float, tmp_path: Path) -> None:
    values = numpy.full((64, 64, 3), middle, numpy.float32)
    values[:8] *= 10
    values[0, 0] = numpy.nan
    write(tmp_path / "a.exr", "float", values)
    image = shown(picture(tmp_path / "a.exr", 64)).convert("L")
    assert 90 < cast(int, image.getpixel((32, 50))) < 150
    assert 200 < cast(int, image.getpixel((32, 4))) <= 255


def test_the_layer_with_colours_is_taken_and_the_smallest_level_that_is_large_enough(tmp_path: Path) -> None:
    for alpha in (0.0, 0.5):
        values = numpy.zeros((256, 256, 5), numpy.float32)
        values[..., 3] = 0.9 * (alpha or 1)
        values[..., 4] = alpha
        spec = oiio.ImageSpec(256, 256, 5, "half")
        spec.channelnames = ("depth.Z", "beauty.G", "beauty.B", "beauty.R", "beauty.A")
        out = oiio.ImageOutput.create(str(tmp_path / "a.exr"))
        assert out.open(str(tmp_path / "a.exr"), spec) and out.write_image(values)
        out.close()
        image = shown(picture(tmp_path / "a.exr", 64)).convert("RGBA")
        red, green, blue, seen = cast(tuple[int, ...], image.getpixel((3, 3)))
        assert red > 220
        assert green == blue == 0
        # Where it is nowhere, nothing is said of it.
        assert seen == (128 if alpha else 255)
    oiio.ImageBufAlgo.make_texture(oiio.MakeTxTexture, oiio.ImageBuf(str(tmp_path / "a.exr")), str(tmp_path / "m.exr"))
    assert max(read(tmp_path / "m.exr", 32).size) <= 64


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {}">'
    '<rect width="160" height="100" fill="red"/><rect x="160" width="160" height="100" fill="lime"/>'
    '<rect y="100" width="160" height="100" fill="blue"/><rect x="160" y="100" width="160" height="100" fill="white"/>'
    "{}</svg>"
)


def test_drawings(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text(SVG.format("320 200", ""))
    image = shown(vector(path, 64))
    assert image.size == (64, 40)
    assert is_colours(image)
    assert max(shown(rendered(path, 500)).size) == 500
    path.write_text(SVG.format("100 300", ""))
    assert shown(rendered(path, 60)).size == (20, 60)
    path.write_text(SVG.format("", "").replace("viewBox", "width='3cm' height='9cm' class"))
    assert shown(rendered(path, 60)).size == (20, 60)
    path.write_text("<svg>")
    with pytest.raises(UnsupportedMedia, match=r"a\.svg: cannot be rendered"):
        vector(path, 64)
    with open(path, "ab") as file:
        file.truncate(65 << 20)
    with pytest.raises(UnsupportedMedia, match=r"drawings over 64 MiB are not rendered"):
        vector(path, 64)


def test_a_drawing_shows_no_other_file_of_this_machine(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "black").save(tmp_path / "secret.png")
    image = f'<image xlink:href="{tmp_path}/secret.png" width="320" height="200"/>'
    for text in (image, image.replace("xlink:", ""), image.replace(f"{tmp_path}/", " file://" + str(tmp_path) + "/")):
        (tmp_path / "a.svg").write_text(SVG.format("320 200", text))
        assert is_colours(shown(vector(tmp_path / "a.svg", 64)))
    inside = image.replace(f"{tmp_path}/secret.png", "data:image/png;base64," + b64encode(as_png(colours())).decode())
    (tmp_path / "a.svg").write_text(SVG.format("320 200", inside).replace('fill="red"', 'fill="black"'))
    assert is_colours(shown(vector(tmp_path / "a.svg", 64)))


def test_transparency_stays_and_sixteen_bits_of_grey_are_no_clipped_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    clear.save(tmp_path / "a.png")
    assert shown(picture(tmp_path / "a.png", 32)).getpixel((5, 5))[3] == 0  # type: ignore[index]
    Image.fromarray(numpy.full((64, 64), 30000, numpy.uint16)).save(tmp_path / "grey.png")
    assert shown(picture(tmp_path / "grey.png", 32)).getpixel((5, 5)) == (117, 117, 117)


# -- previews ----------------------------------------------------------------------------------------


def as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def psd(image: Image.Image | None, rest: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    resources = b"8BIM\x03\xed\0\0" + struct.pack(">I", 3) + b"abc\0"
    if image:
        image.save(buffer, "JPEG", quality=95)
        head = struct.pack(">IIIIIIHH", 1, *image.size, image.width * 3, 0, len(buffer.getvalue()), 24, 1)
        data = head + buffer.getvalue()
        resources += b"8BIM\x04\x0c\x01x" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 16, 16, 8, 3)
    return header + struct.pack(">I", 0) + struct.pack(">I", len(resources)) + resources + struct.pack(">I", 0) + rest


def zipped(mimetype: str, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", mimetype)
        for name, data in members.items():
            archive.writestr(name.replace("_", "/", 1).replace("__", "."), data)
    return buffer.getvalue()


def kra(image: Image.Image | None) -> bytes:
    return zipped("application/x-krita", **({"preview.png": as_png(image)} if image else {}))


def ora(image: Image.Image | None) -> bytes:
    return zipped("image/openraster", **({"Thumbnails/thumbnail.png": as_png(image)} if image else {}))


def blend(image: Image.Image | None, header: bytes = b"BLENDER-v300") -> bytes:
    pixels = b""
    if image:
        raw = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).convert("RGBA").tobytes()
        pixels = struct.pack(">ii" if b"V" in header else "<ii", *image.size) + raw

    def block(code: bytes, data: bytes) -> bytes:
        if len(header) > 12:
            return struct.pack("<4sIQqq", code, 0, 1, len(data), 1) + data
        order = ">" if b"V" in header else "<"
        return struct.pack(f"{order}4si", code, len(data)) + b"\0" * (16 if b"-" in header else 12) + data

    return header + block(b"REND", b"x" * 72) + (block(b"TEST", pixels) if image else b"") + block(b"ENDB", b"")


def exr(image: Image.Image | None) -> bytes:
    attributes = b"channels\0chlist\0" + struct.pack("<I", 1) + b"\0"
    if image:
        data = struct.pack("<II", *image.size) + image.convert("RGBA").tobytes()
        attributes += b"preview\0preview\0" + struct.pack("<I", len(data)) + data
    return b"v/1\x01\x02\0\0\0" + attributes + b"\0"


PREVIEWS: list[tuple[str, Callable[[Image.Image | None], bytes]]] = [
    ("a.psd", psd),
    ("a.kra", kra),
    ("a.ora", ora),
    ("a.blend", blend),
    ("small.blend", lambda image: blend(image, b"BLENDER_v279")),
    ("big-endian.blend", lambda image: blend(image, b"BLENDER-V249")),
    ("five.blend", lambda image: blend(image, b"BLENDER17-01v0500")),
    ("zstd.blend", lambda image: zstandard.compress(blend(image))),
    ("gzip.blend", lambda image: gzip.compress(blend(image))),
    ("a.exr", exr),
]


@pytest.mark.parametrize(("name", "make"), PREVIEWS)
def test_the_preview_that_a_file_brings_along(
    name: str, make: Callable[[Image.Image | None], bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(make(colours(160, 100)))
    known = format_of(path)
    assert known and known.name in KINDS and known.thumbnail
    image = shown(known.thumbnail(path, 256))
    assert image.size == (160, 100)
    assert is_colours(image)
    path.write_bytes(make(None))
    with pytest.raises(UnsupportedMedia):
        known.thumbnail(path, 256)


@pytest.mark.parametrize(("name", "make"), PREVIEWS)
def test_a_preview_is_found_in_the_ends_of_a_file_or_the_whole_is_asked_for(
    name: str, make: Callable[[Image.Image | None], bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    whole = make(colours(160, 100))
    path.write_bytes(whole)
    if Path(name).suffix[1:] not in ZIPPED:
        with open(path, "ab") as file:
            file.truncate(len(whole) + (4 << 20))
    size = path.stat().st_size
    answer = drawn(str(path), 256, min(len(whole) + (1 << 20), size), min(64 << 10, size))
    assert answer and is_colours(shown(b64decode(answer)))
    assert drawn(str(path), 256, 40, 0) is None, "more is needed"


def test_a_file_without_its_middle() -> None:
    source = io.BytesIO(bytes(range(100)))
    partial = Partial(cast(BinaryIO, source), 10, 10)
    assert partial.readable() and partial.seekable()
    assert partial.read(10) == bytes(range(10))
    assert partial.tell() == 10
    with pytest.raises(NotThere):
        partial.read(1)
    assert partial.seek(-5, io.SEEK_END) == 95
    assert partial.read(50) == bytes(range(95, 100))
    assert partial.readinto(bytearray(4)) == 0


@pytest.mark.parametrize(
    "data",
    [
        psd(colours())[:300],
        psd(colours(8, 8)),
        b"8BPS" + b"\0" * 22 + b"\xff" * 40,
        b"8BPS" + b"\0" * 26 + struct.pack(">I", 40) + b"nonsense" * 6,
        kra(colours())[:-40],
        zipped("application/x-krita", **{"preview.png": b"no picture"}),
        blend(colours())[:400],
        blend(colours()).replace(struct.pack("<ii", 320, 200), struct.pack("<ii", -1, 1 << 30)),
        b"BLENDER-v300" + struct.pack("<4si16x", b"REND", -5),
        b"BLENDER-v300" + struct.pack("<4si16x", b"REND", 1 << 30),
        b"BLENDER-v300" + struct.pack("<4si16xx", b"LOTS", 1) * 9,
        zstandard.compress(b"not a scene"),
        b"v/1\x01\x02\0\0\0" + b"x" * 300 + b"\0",
        b"v/1\x01\x02\0\0\0" + b"x\0y\0" + struct.pack("<I", 4),
        b"v/1\x01\x02\0\0\0\0",
    ],
)
def test_a_damaged_preview_is_none_and_a_damaged_file_is_said(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(UnsupportedMedia):
        document(path, 64)


def test_a_preview_of_a_kind_that_has_none() -> None:
    assert preview("png", io.BytesIO(b"")) is None


# -- what cannot be drawn ----------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense")
    with pytest.raises(UnsupportedMedia, match=r"a\.png: cannot be read"):
        drawn(str(path), 64)
    colours().save(path)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UnsupportedMedia, match=r"a\.png: cannot be decoded"):
        drawn(str(path), 64)
    (tmp_path / "notes").write_text("words")
    with pytest.raises(UnsupportedMedia, match="a kind of file that nobody here knows"):
        drawn(str(tmp_path / "notes"), 64)
    assert drawn(str(tmp_path / "notes"), 64, 5, 0) is None
    (tmp_path / "a.zip").write_bytes(b"PK\5\6" + b"\0" * 18)
    with pytest.raises(UnsupportedMedia, match="zip archive: no picture can be made of it"):
        drawn(str(tmp_path / "a.zip"), 64)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours(8, 8).save(tmp_path / "a.png")
    bomb = bytearray((tmp_path / "a.png").read_bytes())
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(UnsupportedMedia, match="60000 x 60000 pixels are too many"):
        picture(tmp_path / "a.png", 64)
    by_oiio("a.hdr", "float", 0.9)(tmp_path)
    # The library has a limit of its own, by the machine's memory.
    monkeypatch.setattr("gitvault.formats.thumbnails.wide._LARGEST", 1000)
    with pytest.raises(UnsupportedMedia, match="320 x 200 pixels are too many"):
        read(tmp_path / "a.hdr", 64)


def test_what_ends_too_early_is_said(tmp_path: Path) -> None:
    for make in (by_oiio("a.hdr", "float", 0.9), by_oiio("a.exr", "half", 0.9)):
        make(tmp_path)
    write(tmp_path / "tiled.exr", "half", numpy.ones((300, 300, 3), numpy.float16))
    image = oiio.ImageBuf(str(tmp_path / "tiled.exr"))
    image.set_write_tiles(64, 64)
    assert image.write(str(tmp_path / "tiled.tif"))
    assert is_whole(picture(tmp_path / "tiled.tif", 64)[-12:])
    for path in (tmp_path / "a.hdr", tmp_path / "tiled.tif"):
        data = path.read_bytes()
        # What is lost is in the middle: the index of a TIFF is at its end.
        path.write_bytes(data[:2000] + b"\xff" * (len(data) - 4000) + data[-2000:])
        if path.suffix == ".hdr":
            path.write_bytes(data[:300])
        with pytest.raises(UnsupportedMedia, match=r"cannot be (decoded|read)"):
            picture(path, 64)


def test_a_picture_that_a_plug_in_draws_is_brought_into_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = as_png(colours(600, 300))
    own = Format("own", "own kind", lambda head: head.startswith(b"OWN"), (".own",), thumbnail=lambda path, side: large)
    monkeypatch.setattr("gitvault.formats.formats", lambda: (own,))
    (tmp_path / "a.own").write_bytes(b"OWN")
    png = b64decode(cast(str, drawn(str(tmp_path / "a.own"), 64)))
    assert shown(png).size == (64, 32)
    assert is_ours(png)


def test_the_fingerprint_is_read_from_the_files_first_bytes() -> None:
    png = encoded(colours(), 256)
    assert is_whole(png[-12:]) and not is_whole(png[:-12])
    cells = fingerprint(png[: FINGERPRINT + 64])
    assert cells and len(cells) == FINGERPRINT == 1024
    assert cells[:4] == bytes((255, 0, 0, 255)) and cells[-4:] == b"\xff" * 4
    assert fingerprint(png[:500]) is None
    assert fingerprint(as_png(colours())) is None
    assert RENDERER >= 1


def test_a_picture_has_a_light_form_for_pages_where_that_gains(tmp_path: Path) -> None:
    photo = Image.effect_noise((256, 160), 60).convert("RGB")
    png = encoded(photo, 256)
    kind, light = lightest(png)
    assert kind == "image/jpeg"
    assert shown(light).size == shown(png).size == (256, 160)
    assert len(light) < len(png) / 3
    assert fingerprint(png)
    flat = encoded(colours(), 256)
    assert lightest(flat) == ("image/png", flat)
    photo.putalpha(128)
    clear = encoded(photo, 256)
    assert lightest(clear) == ("image/png", clear)


def test_the_profile_of_the_file_does_not_stay(tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"sRGB", b"mine")
    colours().save(tmp_path / "a.jpg", icc_profile=profile, quality=95)
    assert "icc_profile" in Image.open(tmp_path / "a.jpg").info
    made = shown(picture(tmp_path / "a.jpg", 64))
    assert "icc_profile" not in made.info
    assert is_colours(made)


def test_every_image_and_document_has_a_picture() -> None:
    drawable = {known.name for known in formats() if known.thumbnail}
    assert drawable >= {"png", "jpeg", "webp", "gif", "bmp", "tiff", "hdr", "dds", "dpx", "exr", "tga"} | KINDS


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(ToolMissing, match=r"^no_such_module: not installed; pip install 'gitvault\[image\]'$"):
        need("no_such_module", "image")
    assert need("json", "image").loads("1") == 1
