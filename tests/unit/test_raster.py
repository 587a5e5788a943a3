"""Images are read as they are stored, and a single sample that differs by one level is found, in every format."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import images
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from images import Pixels, by_oiio, by_pillow, noise
from PIL import Image

from gitvault.errors import ToolMissing, UnsupportedMedia
from gitvault.formats import vector
from gitvault.formats.extras import need
from gitvault.formats.raster import measure, photoshop, read, scale, screen
from gitvault.formats.raster.compare import compare
from gitvault.formats.raster.tally import BOXES, REACH, TILE, Regions, Similarity, Tally, perceptual_hash, psnr

Y, X = 33, 44
Writer = Callable[[Path, Pixels], None]


def planes(path: Path, pixels: Pixels) -> None:
    images.exr(path, {"RGB": pixels[..., :3], "Z": pixels[..., 3].astype(np.float32), "spec.R": pixels[..., 4]})


FORMATS: list[tuple[str, Writer, int, str, str]] = [
    ("8.png", by_oiio, 3, "uint8", "uint8"),
    ("alpha.png", by_oiio, 4, "uint8", "uint8"),
    ("16.png", by_oiio, 3, "uint16", "uint16"),
    ("16-alpha.png", by_oiio, 4, "uint16", "uint16"),
    ("16-grey.png", by_oiio, 1, "uint16", "uint16"),
    ("palette.png", images.palette, 1, "uint8", "uint8"),
    ("8.tif", by_oiio, 3, "uint8", "uint8"),
    ("16.tif", by_oiio, 4, "uint16", "uint16"),
    ("float.tif", by_oiio, 3, "float32", "float"),
    ("double.tif", by_oiio, 1, "float64", "double"),
    ("32.tif", by_pillow(), 1, "int32", "int32"),
    ("cmyk.tif", by_pillow("CMYK"), 4, "uint8", "uint8"),
    ("lossless.webp", by_pillow(lossless=True, quality=0, method=0), 3, "uint8", "uint8"),
    ("a.tga", by_oiio, 4, "uint8", "uint8"),
    ("a.bmp", by_oiio, 3, "uint8", "uint8"),
    ("a.dds", by_pillow(), 4, "uint8", "uint8"),
    ("16.dpx", by_oiio, 3, "uint16", "uint16"),
    ("half.exr", by_oiio, 3, "float16", "half"),
    ("float.exr", by_oiio, 4, "float32", "float"),
    ("tiles.exr", images.tiled, 4, "float16", "half"),
    ("layers.exr", planes, 5, "float16", "float"),
    ("8.psd", images.photoshop, 3, "uint8", "uint8"),
    ("16.psb", images.photoshop, 3, "uint16", "uint16"),
    ("cmyk.psd", images.photoshop, 4, "uint8", "uint8"),
    ("a.kra", images.document, 4, "uint8", "uint8"),
    ("a.ora", images.document, 4, "uint8", "uint8"),
]


@pytest.mark.parametrize(("name", "write", "channels", "kind", "depth"), FORMATS, ids=[row[0] for row in FORMATS])
def test_one_sample_that_differs_by_one_level_is_found(
    tmp_path: Path, name: str, write: Writer, channels: int, kind: str, depth: str
) -> None:
    old, new = tmp_path / f"old-{name}", tmp_path / f"new-{name}"
    before = noise(channels, kind)
    after = before.copy()
    at = (Y, X, min(channels, 3) - 1)
    if kind.startswith("float"):
        after[at] = np.nextafter(before[at], np.array(2, kind))
    else:
        after[at] ^= 1
    write(old, before)
    write(new, after)
    found = compare(old, new, None)
    assert found.changed
    stats = found.stats
    assert (stats["width"], stats["height"], stats["depth"]) == (images.WIDTH, images.HEIGHT, depth)
    assert (stats["changed_pixels"], stats["boxes"]) == (1, [[X, Y, 1, 1]])
    if name != "palette.png":
        full = {"uint8": 255, "uint16": 65535, "int32": 2**31 - 1}.get(kind, 1)
        step = abs(float(after[at]) - float(before[at])) / full
        assert stats["channels"] == channels
        assert stats["max"] == pytest.approx(step, rel=1e-6)
        assert stats["mean"] == pytest.approx(step / before.size, rel=1e-6)
        assert stats["psnr"] == pytest.approx(-10 * math.log10(step * step / before.size), rel=1e-6)
    same = compare(new, new, None)
    assert not same.changed
    assert (same.stats["max"], same.stats["psnr"], same.stats["ssim"], same.stats["boxes"]) == (0, None, 1, [])


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("place", [(0, 0, 0), (127, 5, 1), (128, 43, 2), (299, 43, 0), (200, 0, -1)])
def test_one_level_is_found_at_any_place(tmp_path: Path, channels: int, place: tuple[int, int, int]) -> None:
    """300 rows are more than are looked at at once. With pictures and without the figures are the same."""
    before = np.tile(noise(channels, "uint8"), (6, 1, 1))[:300]
    after = before.copy()
    after[place] ^= 1
    for name, pixels in (("old.png", before), ("new.png", after)):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "seen").mkdir()
    stats, seen = (compare(tmp_path / "old.png", tmp_path / "new.png", f).stats for f in (None, tmp_path / "seen"))
    assert (stats["changed_pixels"], stats["boxes"]) == (1, [[place[1], place[0], 1, 1]])
    assert stats["max"] == pytest.approx(1 / 255)
    assert stats == seen


@pytest.mark.parametrize("row", [row for row in FORMATS if row[0][0] not in "pla"], ids=lambda row: row[0])
def test_what_is_read_is_what_was_written(tmp_path: Path, row: tuple[str, Writer, int, str, str]) -> None:
    name, write, channels, kind, _ = row
    write(tmp_path / name, noise(channels, kind))
    found = read.read(tmp_path / name)
    expected = noise(channels, kind)
    if name == "cmyk.psd":
        # Photoshop stores inks inverted.
        expected = 255 - expected
    assert found.dtype == expected.dtype
    assert (found == expected).all()


def test_ten_bits_of_film_and_the_mantissa_of_radiance(tmp_path: Path) -> None:
    ten = noise(3, "uint16") >> 6
    other = ten.copy()
    other[Y, X, 1] ^= 1
    for name, values in (("a.dpx", ten), ("b.dpx", other)):
        by_oiio(tmp_path / name, (values << 6) | (values >> 4), oiio_BitsPerSample=10)
    assert compare(tmp_path / "a.dpx", tmp_path / "b.dpx", None).stats["boxes"] == [[X, Y, 1, 1]]
    light = noise(3, "float32")
    light[Y, X] = 0.5, 0.25, 0.125
    by_oiio(tmp_path / "a.hdr", light)
    light[Y, X, 2] += 1 / 256
    by_oiio(tmp_path / "b.hdr", light)
    stats = compare(tmp_path / "a.hdr", tmp_path / "b.hdr", None).stats
    assert (stats["boxes"], stats["max"]) == ([[X, Y, 1, 1]], 1 / 256)


def test_jpegs_and_gifs_whose_pixels_are_not_kept_exactly(tmp_path: Path) -> None:
    before = noise(4, "uint8")
    after = before.copy()
    after[Y, X] ^= 128
    for name, mode in (("a.jpg", "RGB"), ("inks.jpg", "CMYK"), ("a.gif", "L")):
        count = len(Image.new(mode, (1, 1)).getbands())
        for prefix, pixels in (("old-", before), ("new-", after)):
            chosen = pixels[..., :count].squeeze()
            Image.fromarray(chosen, mode).save(tmp_path / (prefix + name), quality=100, subsampling=0)
        stats = compare(tmp_path / f"old-{name}", tmp_path / f"new-{name}", None).stats
        [[x, y, w, h]] = stats["boxes"]
        assert x <= X < x + w <= x + 16
        assert y <= Y < y + h <= y + 16
    assert stats["boxes"] == [[X, Y, 1, 1]]
    with read.open_image(tmp_path / "old-inks.jpg") as inks:
        part = inks.parts[0]
        assert part.channels == ("C", "M", "Y", "K")
        assert np.abs(inks.rows(part, 0, part.height).astype(int) - before).mean() < 2


def test_drawings_are_rendered_without_the_files_they_name(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (9, 9), "red").save(secret)
    old, new = tmp_path / "old.svg", tmp_path / "new.svg"
    images.drawing(old)
    images.drawing(new, 129)
    stats = compare(old, new, None).stats
    assert (stats["width"], stats["height"], stats["max"]) == (2048, 1024, 1 / 255)
    assert stats["boxes"] == [[0, 0, 1024, 512]]
    old.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:l="http://www.w3.org/1999/xlink" viewBox="0 0 9,18">'
        f'<image l:href="{secret}" width="9" height="9"/><image href="{secret}" width="9" height="9"/></svg>'
    )
    assert read.read(old).shape == (2048, 1024, 4)
    assert not read.read(old).any()


def test_layers_parts_and_object_numbers_of_exr(tmp_path: Path) -> None:
    halves, ids = noise(3, "float16"), noise(1, "uint32")[..., 0]
    images.exr(tmp_path / "a.exr", {"RGB": halves, "id": ids, "z.Z": halves[..., 0].astype(np.float32)})
    other = ids.copy()
    other[Y, X] ^= 1
    images.exr(tmp_path / "b.exr", {"RGB": halves, "id": other, "z.Z": halves[..., 0].astype(np.float32)})
    stats = compare(tmp_path / "a.exr", tmp_path / "b.exr", None).stats
    assert (stats["boxes"], stats["channels"]) == ([[X, Y, 1, 1]], 5)
    assert {name for name, of in stats["by_channel"].items() if of["changed"]} == {"id"}

    depth = noise(1, "float32")[..., 0]
    images.parts(tmp_path / "c.exr", {"beauty": {"RGB": halves}, "depth": {"Z": depth}})
    images.parts(tmp_path / "d.exr", {"beauty": {"RGB": halves}, "depth": {"Z": depth * 2}, "new": {"Z": depth}})
    found = compare(tmp_path / "c.exr", tmp_path / "d.exr", None)
    assert found.stats["changed_parts"] == ["depth"]
    [change] = [one for one in found.stats["metadata"] if one["name"] == "parts"]
    assert change == {"name": "parts", "before": ["beauty", "depth"], "after": ["beauty", "depth", "new"]}


def test_luminance_with_fewer_pixels_of_chroma(tmp_path: Path) -> None:
    light = noise(1, "float16")[..., 0]
    chroma = np.ascontiguousarray(light[: images.HEIGHT // 2, : images.WIDTH // 2])
    other = chroma.copy()
    other[20, 30] += 1
    old, new = tmp_path / "a.exr", tmp_path / "b.exr"
    images.subsampled(old, light, chroma)
    images.subsampled(new, light, other)
    stats = compare(old, new, tmp_path).stats
    assert (stats["changed_parts"], stats["boxes"], stats["channels"]) == (["1 chroma"], [[30, 20, 1, 1]], 2)
    whole = new.read_bytes()
    for cut in (40, 400, 4000, len(whole) - 100):
        new.write_bytes(whole[:cut])
        with pytest.raises(UnsupportedMedia, match=r"b\.exr: .*its bytes are saved"):
            read.read(new)


def test_what_is_no_number_is_told_apart(tmp_path: Path) -> None:
    before = noise(3, "float32")
    before[0, 0] = np.nan, np.inf, -np.inf
    after = before.copy()
    after[1, 1, 0] = np.nan
    after[2, 2, 1] = -np.inf
    after[3, 3, 2] = before[3, 3, 2] + 2
    by_oiio(tmp_path / "a.exr", before)
    by_oiio(tmp_path / "b.exr", after)
    stats = compare(tmp_path / "a.exr", tmp_path / "b.exr", tmp_path).stats
    assert (stats["changed_pixels"], stats["not_finite"]) == (3, 2)
    assert stats["max"] == pytest.approx(2)
    assert all(math.isfinite(stats[name]) for name in ("mean", "psnr", "ssim"))
    assert not compare(tmp_path / "a.exr", tmp_path / "a.exr", None).changed


def test_alpha_is_told_apart(tmp_path: Path) -> None:
    before = noise(4, "uint8")
    after = before.copy()
    after[Y, X, 3] ^= 128
    by_oiio(tmp_path / "a.png", before)
    by_oiio(tmp_path / "b.png", after)
    stats = compare(tmp_path / "a.png", tmp_path / "b.png", None).stats
    assert stats["alpha"]["max"] == pytest.approx(128 / 255)
    assert [of["changed"] for of in stats["by_channel"].values()] == [0, 0, 0, 1]


def test_versions_of_other_depths_sizes_and_channels(tmp_path: Path) -> None:
    pixels = noise(3, "uint8")
    by_oiio(tmp_path / "8.png", pixels)
    by_oiio(tmp_path / "16.png", pixels.astype(np.uint16) * 257)
    deeper = compare(tmp_path / "8.png", tmp_path / "16.png", None)
    assert deeper.changed
    assert (deeper.stats["changed_pixels"], deeper.stats["depth"]) == (0, "uint16")
    assert {"name": "depth", "before": "uint8", "after": "uint16"} in deeper.stats["metadata"]
    by_oiio(tmp_path / "float.tif", pixels.astype(np.float32) / np.float32(255))
    assert compare(tmp_path / "8.png", tmp_path / "float.tif", None).stats["max"] < 1e-6
    by_oiio(tmp_path / "small.png", np.ascontiguousarray(pixels[:40, :50]))
    cut = compare(tmp_path / "8.png", tmp_path / "small.png", tmp_path)
    assert (cut.stats["changed_pixels"], cut.stats["compared"]) == (0, [0, 0, 50, 40])
    assert {"name": "size", "before": [90, 70], "after": [50, 40]} in cut.stats["metadata"]
    by_oiio(tmp_path / "grey.png", noise(1, "uint8"))
    other = compare(tmp_path / "8.png", tmp_path / "grey.png", None)
    assert other.changed
    assert "no channel in common" in other.stats["note"]


def test_the_window_of_a_render_is_compared_where_it_lies(tmp_path: Path) -> None:
    pixels = noise(3, "float16")
    window = {"displayWindow": ((0, 0), (89, 69))}
    images.exr(tmp_path / "a.exr", {"RGB": pixels}, **window)
    images.exr(tmp_path / "b.exr", {"RGB": pixels[10:40, 20:60]}, dataWindow=((20, 10), (59, 39)), **window)
    stats = compare(tmp_path / "a.exr", tmp_path / "b.exr", None).stats
    assert (stats["changed_pixels"], stats["compared"]) == (0, [20, 10, 40, 30])


def test_profiles_and_what_does_not_count(tmp_path: Path) -> None:
    from PIL import ImageCms

    image = Image.fromarray(noise(3, "uint8"))
    image.save(tmp_path / "a.tif")
    image.save(tmp_path / "b.tif", compression="tiff_lzw")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "c.tif", icc_profile=profile)
    packed = compare(tmp_path / "a.tif", tmp_path / "b.tif", None)
    assert not packed.changed
    assert {"name": "compression", "before": "none", "after": "lzw"} in packed.stats["metadata"]
    with_profile = compare(tmp_path / "a.tif", tmp_path / "c.tif", tmp_path)
    assert with_profile.changed
    assert "ICC profile" in {change["name"] for change in with_profile.stats["metadata"]}
    assert set(with_profile.pictures) == {"side-by-side", "heat-map", "overlay", "blink"}


# -- pictures ------------------------------------------------------------------------------------


def test_a_heat_map_shows_one_level_and_one_pixel_of_a_large_image(tmp_path: Path) -> None:
    before = np.full((2000, 4100, 3), 128, np.uint8)
    after = before.copy()
    after[1234, 3333, 1] += 1
    Image.fromarray(before).save(tmp_path / "a.png", compress_level=1)
    Image.fromarray(after).save(tmp_path / "b.png", compress_level=1)
    found = compare(tmp_path / "a.png", tmp_path / "b.png", tmp_path)
    assert found.stats["boxes"] == [[3333, 1234, 1, 1]]
    heat = np.asarray(Image.open(found.pictures["heat-map"])).astype(int)
    assert heat.shape[1] == -(-4100 // 4) <= measure.SIDE
    ground, hot = heat[10, 10], heat[1234 // 4, 3333 // 4]
    assert hot.max() - ground.max() > 100
    blink = Image.open(found.pictures["blink"])
    assert (blink.n_frames, blink.size) == (2, (1025, 500))
    wide = Image.open(found.pictures["side-by-side"])
    assert wide.size == (1025 * 2 + 8, 500 + 28)
    overlay = np.asarray(Image.open(found.pictures["overlay"])).astype(int)
    assert abs(overlay[1234 // 4, 3333 // 4] - overlay[10, 10]).max() > 50


@pytest.mark.parametrize("name", ["8.psd", "cmyk.psd", "layers.exr", "16-grey.png", "alpha.png", "double.tif"])
def test_pictures_of_every_kind_show_the_image(tmp_path: Path, name: str) -> None:
    row = next(row for row in FORMATS if row[0] == name)
    row[1](tmp_path / name, noise(row[2], row[3]))
    pictures = compare(tmp_path / name, tmp_path / name, tmp_path).pictures
    shown = np.asarray(Image.open(pictures["side-by-side"]))[28:, : images.WIDTH]
    assert shown.std() > 20


@pytest.mark.parametrize("orientation", range(1, 9))
def test_previews_are_small_and_upright(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((600, 800, 3), np.uint8)
    pixels[:300, :400] = 255, 0, 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))).astype(int)
    shown = screen.preview(tmp_path / "a.jpg", 128)
    assert max(shown.shape) == 128
    for corner in ((10, 10), (-10, 10), (10, -10), (-10, -10)):
        assert abs(shown[corner].astype(int) - expected[corner]).max() < 20


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in FORMATS if row[0] != "a.tga"], ids=lambda row: row[0])
def test_half_an_image_is_refused(tmp_path: Path, row: tuple[str, Writer, int, str, str]) -> None:
    path = tmp_path / row[0]
    row[1](path, noise(row[2], row[3]))
    whole = path.read_bytes()
    for part in (0.02, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UnsupportedMedia, match="its bytes are saved"):
            read.read(path)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_half_a_jpeg_is_refused_though_its_reader_would_not_mind(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(len(mode), "uint8"), mode).save(path, quality=95)
    whole = path.read_bytes()
    for part in (0.001, 0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UnsupportedMedia, match="its bytes are saved"):
            read.read(path)


def test_a_jpeg_of_inks_whose_profile_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(noise(4, "uint8"), "CMYK").save(path, quality=95, icc_profile=b"no profile")
    found = compare(path, path, tmp_path)
    assert Image.open(found.pictures["overlay"]).size == (images.WIDTH, images.HEIGHT)


def test_deep_images_are_refused(tmp_path: Path) -> None:
    import OpenImageIO as oiio

    spec = oiio.ImageSpec(4, 4, 2, "float")
    spec.channelnames = ("A", "Z")
    spec.deep = True
    buffer = oiio.ImageBuf(spec)
    buffer.set_deep_samples(1, 1, 0, 2)
    assert buffer.write(str(tmp_path / "deep.exr"))
    with pytest.raises(UnsupportedMedia, match=r"deep\.exr: deep images"):
        read.read(tmp_path / "deep.exr")


def test_what_is_damaged_in_documents_and_drawings_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "a.kra"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("mimetype", "application/x-krita")
    with pytest.raises(UnsupportedMedia, match=r"a\.kra: has no mergedimage\.png"):
        read.read(empty)
    drawing = tmp_path / "a.svg"
    drawing.write_text("<svg")
    with pytest.raises(UnsupportedMedia, match="cannot be rendered"):
        read.read(drawing)


def test_images_that_are_too_large_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MEMORY", 1000)
    monkeypatch.setattr(vector, "_LARGEST", 10)
    by_oiio(tmp_path / "a.png", noise(3, "uint8"))
    images.document(tmp_path / "a.ora", noise(4, "uint8"))
    images.drawing(tmp_path / "a.svg")
    Image.fromarray(noise(4, "uint8"), "CMYK").save(tmp_path / "a.jpg")
    for name in ("a.png", "a.ora", "a.svg", "a.jpg"):
        with pytest.raises(UnsupportedMedia, match=rf"^{name}: .*; its bytes are saved"):
            read.read(tmp_path / name)
    monkeypatch.setattr(read, "SAMPLES", 1 << 20)
    pages = [Image.new("L", (1000, 600))] * 2
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UnsupportedMedia, match="2 times 1000 x 600"), read.open_image(tmp_path / "b.tif"):
        pass


def test_a_library_that_is_not_there_is_named_with_what_to_install() -> None:
    with pytest.raises(ToolMissing, match=r"^no_such_library: not installed; pip install 'gitvault\[image\]'$"):
        need("no_such_library", "image")


def psd_head(count: int = 3, height: int = 4, width: int = 20, bits: int = 8, mode: int = 3, version: int = 1) -> bytes:
    return struct.pack(">4sH6xHIIHH", b"8BPS", version, count, height, width, bits, mode)


def test_photoshop_documents_of_every_colour_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.psd"
    bits = np.random.default_rng(0).integers(0, 256, (4, 3), dtype=np.uint8)
    path.write_bytes(psd_head(1, bits=1, mode=0) + bytes(12) + bytes(2) + bits.tobytes())
    assert (read.read(path)[..., 0] == 255 * (1 - np.unpackbits(bits, axis=1)[:, :20])).all()

    entries = np.random.default_rng(1).integers(0, 256, (4, 20), dtype=np.uint8)
    colours = bytes(range(256)) + bytes(256) + bytes(range(255, -1, -1))
    path.write_bytes(psd_head(1, mode=2) + struct.pack(">I", 768) + colours + bytes(8) + bytes(2) + entries.tobytes())
    assert (read.read(path) == np.stack([entries, 0 * entries, 255 - entries], axis=-1)).all()

    light = noise(1, "float32")[:4, :20, 0]
    path.write_bytes(psd_head(1, bits=32, mode=1) + bytes(12) + bytes(2) + light.astype(">f4").tobytes())
    assert (read.read(path)[..., 0] == light).all()

    # Each row is one value, twenty times: packed by PackBits.
    lengths = struct.pack(">H", 2) * 12
    path.write_bytes(psd_head() + bytes(12) + b"\0\1" + lengths + b"".join(bytes([237, row]) for row in range(12)))
    assert (photoshop.merged(path)[:, 7] == np.arange(12).reshape(3, 4).T).all()
    with open(path, "rb") as file:
        assert photoshop.Header(file).channels == ("R", "G", "B")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (psd_head()[:20], "it ends before its end"),
        (psd_head(version=3), "version 3"),
        (psd_head(bits=7), "7 bits: none that is known"),
        (psd_head(width=0), "3 channels of 0 x 4"),
        (psd_head(1, mode=2) + bytes(12) + bytes(2) + bytes(80), "its palette is cut off"),
        (psd_head() + bytes(12) + bytes(2) + bytes(239), "damaged"),
        (psd_head() + bytes(12) + b"\0\2" + bytes(30), "damaged"),
        (psd_head() + bytes(12) + b"\0\1" + b"\0\2" * 12, "damaged"),
        (psd_head(56, 200_000, 200_000), "200000 x 200000 pixels are too many"),
        (psd_head() + bytes(11), "it ends before its end"),
        (psd_head(1, bits=1, mode=0) + bytes(12) + bytes(2) + bytes(5), "12 bytes of pixels expected, 5 found"),
    ],
)
def test_damaged_photoshop_documents_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "a.psd"
    path.write_bytes(content)
    with pytest.raises(UnsupportedMedia, match=rf"^a\.psd: .*{why}.*its bytes are saved"):
        read.read(path)


# -- figures -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 199), st.integers(0, 149)), max_size=30))
def test_every_changed_pixel_lies_in_a_box_and_boxes_are_no_larger_than_they_need_be(
    points: list[tuple[int, int]],
) -> None:
    mask = np.zeros((150, 200), np.uint8)
    for x, y in points:
        mask[y, x] = 1
    regions = Regions(*mask.shape)
    for start in range(0, 150, 48):
        regions.add(start, mask[start : start + 48])
    assert regions.pixels == mask.sum()
    for x, y, w, h in regions.boxes():
        inside = mask[y : y + h, x : x + w]
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        mask[y : y + h, x : x + w] = 0
    assert not mask.any()


def test_many_regions_become_a_few() -> None:
    mask = np.zeros((1000, 1000), np.uint8)
    mask[:: 3 * TILE, :: 3 * TILE] = 1
    regions = Regions(*mask.shape)
    regions.add(0, mask)
    assert 1 <= len(regions.boxes()) <= BOXES < mask.sum()


def test_ssim_is_that_of_the_paper_however_the_rows_come() -> None:
    rng = np.random.default_rng(0)
    before = rng.random((100, 80)).astype(np.float32)
    after = before.copy()
    after[40:47, 30:37] = 0.5
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for y in range(90):
        for x in range(70):
            a, b = (image[y : y + 11, x : x + 11].astype(float) for image in (before, after))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * a * a).sum() - mean_a**2 + (window * b * b).sum() - mean_b**2
            covariance = (window * a * b).sum() - mean_a * mean_b
            top = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
            values.append(top / ((mean_a**2 + mean_b**2 + 0.01**2) * (variances + 0.03**2)))
    for rows in (100, 48, 16):
        similarity = Similarity(100, 80)
        for start in range(0, 100, rows):
            a, b = before[start : start + rows], after[start : start + rows]
            if (a == b).all():
                similarity.skip(a[:REACH], a[-REACH:])
            else:
                similarity.add(a, b)
        assert similarity.value() == pytest.approx(np.mean(values), abs=1e-5)
    tiny = Similarity(4, 4)
    tiny.add(before[:4, :4], 1 - before[:4, :4])
    assert tiny.value() < 0


def test_hashes_of_images_that_look_alike_are_near() -> None:
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.random((8, 8)).astype(np.float32)).resize((300, 200))).copy()
    other = np.asarray(Image.fromarray(rng.random((8, 8)).astype(np.float32)).resize((300, 200))).copy()
    near = (perceptual_hash(smooth) ^ perceptual_hash(smooth * 0.9 + 0.05)).bit_count()
    far = (perceptual_hash(smooth) ^ perceptual_hash(other)).bit_count()
    assert near <= 2 < 16 <= far


def test_figures_of_places_add_up() -> None:
    total = Tally(1, 0.5, 0.5, 0.25)
    total.add(Tally(2, 0.25, 0.5, 0.125, 3.0))
    assert total == Tally(3, 0.5, 1.0, 0.375, 3.0)
    assert psnr(total.squares, 3, 1.0) == pytest.approx(10 * math.log10(8))
    assert psnr(0, 3, 1.0) is None


def test_the_channels_that_are_shown_are_the_colours_first() -> None:
    seen = scale.seen
    assert scale.is_alpha("diffuse.A")
    assert not scale.is_alpha("R")
    assert scale.is_colour("diffuse.Y")
    assert not scale.is_colour("Z")
    assert seen(("A", "B", "G", "R", "Z")) == ("R", "G", "B", "A")
    assert seen(("Z", "diffuse.R", "diffuse.G", "diffuse.B")) == ("diffuse.R", "diffuse.G", "diffuse.B")
    assert seen(("Z", "id")) == ("Z",)
    part = read.Part("1", 2, 3, 8, 9, ("G", "R"), "uint8", 8)
    two = measure.pair(read.Part("1", 0, 0, 4, 4, ("R",), "uint16", 16), part)
    assert isinstance(two, measure.Pair)
    assert (two.channels, two.x, two.y, two.width, two.height, two.depth) == (("R",), 2, 3, 2, 1, "uint16")
    assert two.after.is_integer
    assert measure.Measured(4, 4).ssim == 1
    assert (
        measure.pair(read.Part("1", 0, 0, 4, 4, ("R",), "uint8", 8), read.Part("1", 4, 0, 4, 4, ("R",), "uint8", 8))
        is None
    )


def test_smaller_images_are_averages_and_smaller_heat_keeps_the_greatest() -> None:
    pixels = noise(4, "uint16")
    some = scale.picked(pixels, [1, 2])
    assert (some == pixels[..., 1:3]).all()
    assert (scale.picked(pixels, [3, 0]) == pixels[..., [3, 0]]).all()
    small = scale.averaged(some, 65535.0, 2)
    assert small.shape == (images.HEIGHT // 2, images.WIDTH // 2, 2)
    assert small[3, 4, 0] == pytest.approx(pixels[6:8, 8:10, 1].mean() / 65535, abs=1e-4)
    heat = scale.floats(np.ascontiguousarray(pixels[..., 0]), 65535.0)
    pooled = scale.pooled(heat, 4)
    assert pooled.shape == (18, 23)
    assert pooled[2, 3] == heat[8:12, 12:16].max()
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    assert np.array_equal(scale.floats(halves, 1.0), halves.astype(np.float32), equal_nan=True)


def test_what_is_on_the_screen() -> None:
    part = read.Part("1", 0, 0, 4, 4, ("R", "G", "B", "A"), "float", 32, {"Orientation": 6})
    light = np.zeros((2, 4, 4), np.float32)
    light[0, :] = 0.2159, 1.0, 2.0, 1.0
    shown = screen.on_screen(light, part.channels, part)
    # Light of 21.6 % is half of what sRGB has; what is transparent shows the board behind it.
    assert shown[0, 0].tolist() == [128, 255, 255]
    assert len(set(shown[1, 0].tolist())) == 1
    assert screen.upright(shown, part).shape == (4, 2, 3)
    depth = np.array([[[-5.0], [0.0], [5.0], [np.nan]]], np.float32)
    assert screen.on_screen(depth, ("Z",), part)[0, :3, 0].tolist() == [0, 128, 255]
