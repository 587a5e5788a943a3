"""The pictures of the whole in a layered file show what is in it after a layer came back, or are left alone."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from layered import zipped

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import PICTURES, find, listed, recomposed, spliced, witnessed
from gitvault.formats.layered import painting, painting_picture, psd_file, psd_picture
from gitvault.formats.layered.flatten import EVERYWHERE, Box, Canvas, NotPlain
from gitvault.formats.layered.psd_file import Document
from gitvault.formats.mapping import mapped

np = pytest.importorskip("numpy")
psd_tools = pytest.importorskip("psd_tools")
SIZE = 40, 30


def _picture(seed: int, mode: str = "RGBA") -> Any:
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (18, 24, len(mode)), np.uint8)
    return Image.fromarray(noise[..., 0] if mode == "L" else noise, mode)


def _document(path: Path, seeds: dict[str, int], *, mode: str = "RGB", background: bool = True) -> Path:
    """A painting of psd-tools, with the merged image that psd-tools makes of it."""
    made = psd_tools.PSDImage.new(mode, SIZE)
    if background:
        made.create_pixel_layer(_picture(1).resize(SIZE).convert(mode), name="Ground")
    group = made.create_group(name="Trees", opacity=180)
    for number, (name, seed) in enumerate(seeds.items()):
        layer = made.create_pixel_layer(
            _picture(seed, "RGBA" if mode == "RGB" else "LA"), name=name, top=3 + 2 * number, left=5, opacity=200
        )
        if name == "Oak":
            group.append(layer)
    made.save(path)
    return _merged_by_psd_tools(path)


def _merged_by_psd_tools(path: Path) -> Path:
    """Store what psd-tools sees on white, in the document's depth, and a thumbnail of it."""
    from PIL import Image
    from psd_tools.composite import composite

    document = psd_tools.PSDImage.open(path)
    seen, _, _ = composite(document, color=1.0, alpha=1.0, force=True)
    flat = np.rint(seen * (2**document.depth - 1)).astype(f">u{document.depth // 8}")
    shown = np.rint(seen * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown).convert("RGB").resize((20, 15)).save(file, "JPEG")
    jpeg = file.getvalue()
    thumbnail = struct.pack(">6I2H", 1, 20, 15, 60, 900, len(jpeg), 24, 1) + jpeg
    return _changed(
        path,
        lambda it: replace(
            it,
            head=bytes(it.head[:12]) + struct.pack(">H", flat.shape[2]) + bytes(it.head[14:]),
            merged=b"\0\0" + flat.transpose(2, 0, 1).tobytes(),
            has_transparency=False,
            resources=(*it.resources, (1036, b"8BIM\x04\x0c\0\0", thumbnail)),
        ),
    )


def _as(path: Path, *, wide: bool, depth: int) -> Path:
    """A document of 8 bits as a PSB, or with 16 bits in each sample of its layers, where Photoshop keeps those."""
    compression = pytest.importorskip("psd_tools.compression")

    def deeper(layer: Any) -> Any:
        top, left, bottom, right = struct.unpack(">4i", layer.rectangle)
        planes = []
        if bottom == top:
            return layer
        for number, data in layer.channels:
            method = compression.Compression(int.from_bytes(data[:2], "big"))
            raw = compression.decompress(bytes(data[2:]), method, right - left, bottom - top, 8, 1)
            # Not only values that 8 bits have, too.
            plane = np.frombuffer(raw, np.uint8).astype(np.uint32) * 257
            plane = plane - np.where((plane > 0) & (number >= 0), 1 + np.arange(len(plane)) % 101, 0)
            planes.append((number, b"\0\0" + (plane.astype(">u2").tobytes() if depth == 16 else raw)))
        return replace(layer, channels=tuple(planes))

    def changed(it: Document) -> Document:
        head = bytes(it.head[:4]) + struct.pack(">H", 2 if wide else 1) + bytes(it.head[6:])
        return replace(
            it,
            head=head[:22] + struct.pack(">H", depth) + head[24:],
            layers=tuple(map(deeper, it.layers)),
            layers_in=b"Lr16" if depth == 16 else b"",
            layers_at=0,
        )

    return _changed(path, changed)


def _changed(path: Path, change: Callable[[Document], Document]) -> Path:
    with mapped(path) as view:
        document = change(psd_file.read(memoryview(bytes(view))))
    with path.open("wb") as file:
        psd_file.write(file, document)
    return path


def _restored(old: Path, name: str, now: Path) -> tuple[str, Path, Path]:
    """Why there are no new pictures, the file without them and with them."""
    stale, fresh = now.with_name(f"stale{now.suffix}"), now.with_name(f"fresh{now.suffix}")
    fresh.unlink(missing_ok=True)
    spliced(now, old, find(listed(old), name, old.name).id, stale)
    return recomposed(now, stale, fresh), stale, fresh


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_photoshop_document_shows_the_layer_that_came_back(tmp_path: Path, mode: str) -> None:
    """In its merged image and thumbnail, as psd-tools composes it, and nothing else becomes different."""
    old = _document(tmp_path / "old.psd", {"Oak": 2, "Elm": 3}, mode=mode)
    now = _document(tmp_path / "now.psd", {"Oak": 7, "Elm": 3}, mode=mode)
    why, stale, fresh = _restored(old, "Oak", now)
    assert why == ""
    before, after = witnessed(stale), witnessed(fresh)
    assert before.pop(PICTURES) != after.pop(PICTURES)
    assert before == after
    shown = np.asarray(psd_tools.PSDImage.open(fresh).topil().convert(mode), np.int16)
    wanted = np.asarray(psd_tools.PSDImage.open(old).topil().convert(mode), np.int16)
    assert np.abs(shown - wanted).max() <= 1
    thumbnail = np.asarray(psd_tools.PSDImage.open(fresh).thumbnail().convert(mode), np.int16)
    assert thumbnail.shape[:2] == (15, 20)
    older = np.asarray(psd_tools.PSDImage.open(now).thumbnail().convert(mode), np.int16)
    assert np.abs(thumbnail - older).max() > 20


@pytest.mark.parametrize("ending, depth", [("psb", 8), ("psd", 16), ("psb", 16)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_large_and_deep_documents_show_it_too(tmp_path: Path, ending: str, depth: int, mode: str) -> None:
    """PSB, and 16 bits a sample: the merged image is psd-tools' own, to two levels of the 65,536."""
    made = {}
    for name, seed in (("old", 2), ("now", 7)):
        path = _document(tmp_path / f"{name}.{ending}", {"Oak": seed, "Elm": 3}, mode=mode)
        path = _changed(path, lambda it: replace(it, resources=()))
        made[name] = _merged_by_psd_tools(_as(path, wide=ending == "psb", depth=depth))
    why, stale, fresh = _restored(made["old"], "Oak", made["now"])
    assert why == ""
    before, after = witnessed(stale), witnessed(fresh)
    assert before.pop(PICTURES) != after.pop(PICTURES)
    assert before == after
    seen = psd_tools.PSDImage.open(fresh)
    assert (seen.depth, seen.version) == (depth, 2 if ending == "psb" else 1)
    full = 2**depth - 1
    shown, wanted, was = (
        psd_tools.PSDImage.open(path).numpy().astype(np.float64) * full for path in (fresh, made["old"], made["now"])
    )
    assert np.abs(shown - wanted).max() <= (1.5 if depth == 8 else 2.5)
    assert np.abs(was - wanted).max() > full / 8, "the layer makes a difference"
    if depth == 16:
        assert len(np.unique(np.rint(shown))) > 256, "all 16 bits are used"


OpenRaster = dict[str, tuple[int, int, float, int]]
"""Layers from the top down: x, y, opacity, seed."""


def _composed(layers: list[tuple[Any, int, int]]) -> Any:
    """As Pillow puts layers together, from the bottom up."""
    from PIL import Image

    whole = Image.new("RGBA", SIZE)
    for picture, x, y in layers:
        over = Image.new("RGBA", SIZE)
        over.paste(picture, (x, y))
        whole = Image.alpha_composite(whole, over)
    return whole


def _png(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _faded(picture: Any, opacity: float) -> Any:
    made = picture.copy()
    made.putalpha(picture.getchannel("A").point(lambda level: level * opacity))
    return made


def _opaque() -> Any:
    from PIL import Image

    return Image.new("RGBA", SIZE, (255, 80, 40, 255))


def _open_raster(path: Path, layers: OpenRaster, *, more: str = "", merged: str = "RGBA") -> Path:
    pictures = {name: _picture(seed) if seed else _opaque() for name, (_, _, _, seed) in layers.items()}
    said = "".join(
        f'<layer name="{name}" src="data/{name}.png" x="{x}" y="{y}" opacity="{opacity}" {more}/>'
        for name, (x, y, opacity, _) in layers.items()
    )
    seen = _composed([(_faded(pictures[name], at[2]), at[0], at[1]) for name, at in reversed(layers.items())])
    members = {
        "mimetype": b"image/openraster",
        "stack.xml": f'<image w="40" h="30"><stack><stack name="all">{said}</stack></stack></image>'.encode(),
        **{f"data/{name}.png": _png(picture) for name, picture in pictures.items()},
        "mergedimage.png": _png(seen.convert(merged)),
        "Thumbnails/thumbnail.png": _png(seen.resize((20, 15))),
    }
    return zipped(path, members)


def _member(path: Path, name: str) -> Any:
    from PIL import Image

    with zipfile.ZipFile(path) as file:
        return np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGBA"), np.int16)


def _covering(pixels: Any) -> Any:
    return pixels[..., :3] * (pixels[..., 3:] / 255)


def test_an_openraster_image_shows_the_layer_that_came_back(tmp_path: Path) -> None:
    below = {"Elm": (9, 7, 1.0, 3), "Ground": (0, 0, 1.0, 4)}
    old = _open_raster(tmp_path / "old.ora", {"Oak": (2, 3, 0.5, 2), **below})
    now = _open_raster(tmp_path / "now.ora", {"Oak": (-4, 12, 0.75, 9), **below})
    why, stale, fresh = _restored(old, "Oak", now)
    assert why == ""
    before, after = witnessed(stale), witnessed(fresh)
    assert before.pop(PICTURES) != after.pop(PICTURES)
    assert before == after
    shown, wanted = _member(fresh, "mergedimage.png"), _member(old, "mergedimage.png")
    assert np.abs(shown[..., 3] - wanted[..., 3]).max() <= 2
    assert np.abs(_covering(shown) - _covering(wanted)).max() <= 3, "Pillow rounds after each layer"
    assert _member(fresh, "Thumbnails/thumbnail.png").shape == (15, 20, 4)
    # Where neither version of the layer is nothing is touched.
    assert (shown[:, 27:] == _member(now, "mergedimage.png")[:, 27:]).all()


def _with_layer(name: str, change: Callable[[Any], Any]) -> Callable[[Document], Document]:
    def changed(document: Document) -> Document:
        return replace(document, layers=tuple(change(one) if one.name == name else one for one in document.layers))

    return changed


def _block(key: bytes, data: bytes) -> Callable[[Any], Any]:
    return lambda layer: replace(layer, blocks=(*layer.blocks, psd_file.made(key, data, False)))


def _look(at: int, value: bytes) -> Callable[[Any], Any]:
    return lambda layer: replace(layer, look=bytes(layer.look[:at]) + value + bytes(layer.look[at + len(value) :]))


@pytest.mark.parametrize(
    "change, why",
    [
        (_with_layer("Elm", _look(4, b"mul ")), "Elm: the blend mode is not normal"),
        (_with_layer("Elm", _look(9, b"\1")), "Elm: it is clipped to another layer"),
        (_with_layer("Elm", lambda one: replace(one, ranges=bytes(8))), "Elm: it blends by ranges"),
        (_with_layer("Elm", _block(b"lfx2", bytes(8))), "Elm: has lfx2, which changes how it looks"),
        (_with_layer("Elm", _block(b"knko", b"\1\0\0\0")), "Elm: has knko, which changes how it looks"),
        (_with_layer("Elm", _block(b"iOpa", b"\x20\0\0\0")), "do not give the merged image that is stored"),
        (_with_layer("Elm", lambda one: replace(one, mask=bytes(36))), "Elm: has a mask with more than pixels"),
        (
            _with_layer(
                "Elm", lambda one: replace(one, mask=bytes(17) + b"\4\0\0", channels=(*one.channels, (-2, b"")))
            ),
            "Elm: has a mask with more than pixels",
        ),
        (_with_layer("Elm", lambda one: replace(one, channels=one.channels[:2])), "Elm: lacks a colour"),
        (
            _with_layer("Elm", lambda one: _block(b"TySh", b"")(replace(one, rectangle=bytes(16)))),
            "Elm: its pixels are not stored",
        ),
        (lambda it: replace(it, head=bytes(it.head[:24]) + b"\0\4"), "only RGB and grey of 8 and 16 bits"),
        (
            lambda it: replace(it, resources=(*it.resources, (1057, b"8BIM\4\x21\0\0", bytes(12)))),
            "it was saved without a merged image",
        ),
        (lambda it: replace(it, resources=(*it.resources, (1033, b"8BIM\4\x09\0\0", b""))), "Photoshop 4"),
        (
            lambda it: replace(it, resources=tuple((n, h, bytes(28) if n == 1036 else d) for n, h, d in it.resources)),
            "its thumbnail is no JPEG",
        ),
        (lambda it: replace(it, layers=it.layers[:-1]), ""),
        (lambda it: replace(it, layers=tuple(one for one in it.layers if one.section != 3)), "Trees has no end"),
        (lambda it: replace(it, layers=tuple(one for one in it.layers if one.section != 1)), "a group has no head"),
    ],
)
def test_what_is_not_plain_leaves_the_pictures_as_they_are(
    tmp_path: Path, change: Callable[[Document], Document], why: str
) -> None:
    seeds = {"Oak": 2, "Elm": 3}
    now = _changed(_document(tmp_path / "now.psd", {**seeds, "Oak": 9}), change)
    stale = tmp_path / "stale.psd"
    stale.write_bytes(now.read_bytes())
    _changed(stale, _with_layer("Ground", _look(8, b"\x55")))
    said = recomposed(now, stale, tmp_path / "fresh.psd")
    if why:
        assert why in said
        assert not (tmp_path / "fresh.psd").exists()
    else:
        assert "do not give the merged image" in said


def test_a_large_document_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = _document(tmp_path / "now.psd", {"Oak": 9})
    old = _document(tmp_path / "old.psd", {"Oak": 2})
    for limit, value, why in (("_BYTES", 100, "larger than 0 MiB"), ("PIXELS", 100, "million pixels")):
        with monkeypatch.context() as patch:
            patch.setattr(psd_picture, limit, value)
            assert why in _restored(old, "Oak", now)[0]
    assert recomposed(now, now, tmp_path / "fresh.psd") == "nothing that is seen changed"


def test_a_mask_and_groups_count(tmp_path: Path) -> None:
    """A pixel mask smaller than its layer, one that is off, groups through which layers pass; seen by psd-tools."""

    def masked(flags: int) -> Callable[[Any], Any]:
        mask = struct.pack(">4iBBH", 4, 7, 14, 20, 255, flags, 0)
        planes = {-1: b"\0\0" + bytes(n % 251 for n in range(18 * 24)), -2: b"\0\0" + bytes(range(130))}
        return lambda one: replace(
            one, mask=mask, channels=tuple((number, planes.get(number, data)) for number, data in one.channels)
        )

    def through(document: Document) -> Document:
        def passing(one: Any) -> Any:
            blocks = [b for b in one.blocks if b.key != b"lsct"]
            section = psd_file.made(b"lsct", struct.pack(">I4s4s", one.section, b"8BIM", b"pass"), False)
            return replace(one, blocks=(*blocks, section)) if one.section else one

        return replace(document, layers=tuple(map(passing, document.layers)))

    for number, change in enumerate((_with_layer("Oak", masked(0)), _with_layer("Oak", masked(2)), through)):
        made = {}
        for name, seed in (("old", 2), ("now", 7)):
            path = _changed(_document(tmp_path / f"{name}{number}.psd", {"Oak": seed, "Elm": 3}), change)
            # The pictures are there already; they show what was before the change.
            made[name] = _merged_by_psd_tools(_changed(path, lambda it: replace(it, resources=())))
        why, _, fresh = _restored(made["old"], "Oak", made["now"])
        assert why == "", number
        shown, wanted = (np.asarray(psd_tools.PSDImage.open(p).topil(), np.int16) for p in (fresh, made["old"]))
        assert np.abs(shown - wanted).max() <= 1


def test_boxes() -> None:
    one, other = Box(0, 0, 4, 4), Box(2, 3, 6, 9)
    assert one.within(other) == Box(2, 3, 4, 4)
    assert one.around(other) == Box(0, 0, 6, 9)
    assert one.around(Box(9, 9, 9, 9)) == one
    assert (Box(5, 5, 2, 2).area, one.slices(one.within(other))) == (0, (slice(2, 4), slice(3, 4)))


# -- paintings ---------------------------------------------------------------------------------------


def _squeezed(plain: bytes) -> bytes:
    """LZF: what repeats as runs, else as it is."""
    found, at = b"", 0
    while at < len(plain):
        run = at + 1
        while run < len(plain) and run - at < 265 and plain[run] == plain[at]:
            run += 1
        found += bytes((0, plain[at]))
        if run - at > 9:
            found += bytes((7 << 5, run - at - 1 - 9, 0))
            at = run
        else:
            at += 1
    return found


def _tiles(pixels: Any, *, packed: bool) -> bytes:
    """RGBA pixels, 64 or a multiple on each side, as Krita stores them."""
    rows, columns = pixels.shape[0] // 64, pixels.shape[1] // 64
    parts = [f"VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE 4\nDATA {rows * columns}\n".encode()]
    for row in range(rows):
        for column in range(columns):
            tile = pixels[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64][..., [2, 1, 0, 3]]
            planes = tile.transpose(2, 0, 1)
            data = b"\1" + _squeezed(planes.tobytes()) if packed else b"\0" + tile.tobytes()
            parts.append(f"{column * 64},{row * 64},LZF,{len(data)}\n".encode() + data)
    return b"".join(parts)


def _krita(path: Path, seed: int, edit: Callable[[str], str] = str, **members: bytes | None) -> Path:
    """A flat layer beneath one of noise, in a group of 60 %."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (64, 128, 4), np.uint8)
    flat = np.full((64, 64, 4), (30, 90, 200, 255), np.uint8)
    layer = '<layer name="{}" uuid="{}" filename="{}" nodetype="{}" compositeop="normal" opacity="{}" x="{}" y="{}" '
    colour = 'colorspacename="RGBA" channelflags="" visible="1"'
    said = (
        layer.format("Trees", "{g}", "layer2", "grouplayer", 153, 0, 0)
        + ">\n<layers>"
        + layer.format("Oak", "{o}", "layer3", "paintlayer", 204, -9, 5)
        + f'{colour}/></layers></layer><layer name="off" uuid="{{x}}" visible="0" compositeop="multiply"/>'
        + layer.format("Ground", "{s}", "layer4", "paintlayer", 255, 4, 3)
        + f"{colour}/>"
    )
    canvas = Image.new("RGBA", (100, 60), (255, 255, 255, 255))
    canvas.alpha_composite(Image.fromarray(flat), (4, 3))
    oak = Image.new("RGBA", (100, 60))
    oak.paste(_faded(Image.fromarray(noise), 0.48), (-9, 5))
    document = f'<DOC><IMAGE name="i" width="100" height="60"><layers>{edit(said)}</layers></IMAGE></DOC>'
    parts: dict[str, bytes | None] = {
        "mimetype": b"application/x-krita",
        "maindoc.xml": document.encode(),
        "i/layers/layer3": _tiles(noise, packed=False),
        "i/layers/layer4": _tiles(flat, packed=True),
        "i/layers/layer4.defaultpixel": b"\xff\xff\xff\xff",
        "mergedimage.png": _png(Image.alpha_composite(canvas, oak)),
        "preview.png": _png(canvas.resize((50, 30)).convert("RGB")),
        **{name.replace("__", "/").replace("_", "."): data for name, data in members.items()},
    }
    return zipped(path, {name: data for name, data in parts.items() if data is not None})


def test_a_krita_document_shows_the_layer_that_came_back(tmp_path: Path) -> None:
    """Its squares compressed or not, beside the canvas too, what they leave free in the layer's own colour."""
    old, now = _krita(tmp_path / "old.kra", 1), _krita(tmp_path / "now.kra", 2)
    why, stale, fresh = _restored(old, "Oak", now)
    assert why == ""
    before, after = witnessed(stale), witnessed(fresh)
    assert before.pop(PICTURES) != after.pop(PICTURES)
    assert before == after
    assert np.abs(_member(fresh, "mergedimage.png") - _member(old, "mergedimage.png")).max() <= 1
    assert _member(fresh, "preview.png").shape == (30, 50, 4)
    passing = {
        name: _krita(tmp_path / f"through-{name}.kra", seed, lambda it: it.replace('"153"', '"255" passthrough="1"'))
        for name, seed in (("old", 1), ("now", 2))
    }
    assert "do not give the merged image" in _restored(passing["old"], "Oak", passing["now"])[0]


def _replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda said: said.replace(old, new)


@pytest.mark.parametrize(
    "edit, members, why",
    [
        (_replacing("normal", "multiply"), {}, "the blend mode is not normal"),
        (_replacing('"Oak"', '"Oak" layerstyle="{y}"'), {}, "Oak: has a style, frames or channels that are off"),
        (_replacing('channelflags=""', 'channelflags="1110"'), {}, "has a style, frames or channels that are off"),
        (_replacing('"Trees"', '"Trees" passthrough="1"'), {}, "Trees: is no plain layer or group"),
        (_replacing("paintlayer", "filelayer"), {}, "is no plain layer or group"),
        (_replacing('"RGBA"', '"RGBAF16"'), {}, "its colours are not of 8 bits and the image's profile"),
        (str, {"i__layers__layer4_icc": b"other"}, "its colours are not of 8 bits and the image's profile"),
        (_replacing("<layers>", '<masks><mask name="m" uuid="{m}"/></masks><layers>'), {}, "Trees: has masks"),
        (str, {"mergedimage_png": None}, "it has no merged image"),
        (str, {"mergedimage_png": b"GIF89a" + bytes(40)}, "mergedimage.png is no PNG of 8 bits"),
        (str, {"i__layers__layer4": None}, "Ground: its pixels are not stored"),
        (str, {"i__layers__layer4": b"VERSION 1\n"}, "its layers are not of Krita's second kind"),
    ],
)
def test_what_is_not_plain_in_krita_leaves_the_pictures_as_they_are(
    tmp_path: Path, edit: Callable[[str], str], members: dict[str, bytes | None], why: str
) -> None:
    now, other = (_krita(tmp_path / f"{seed}.kra", seed, edit, **members) for seed in (2, 3))
    assert why in recomposed(now, other, tmp_path / "fresh.kra")
    assert not (tmp_path / "fresh.kra").exists()


@pytest.mark.parametrize(
    "tile, why",
    [
        (b"0,0,ZIP,3\n\1\0\0", "a tile has no head"),
        (b"0,0,LZF,4\n\1\x40\x10\0", "a tile refers to what stands before it"),
        (b"0,0,LZF,3\n\1\0\0", "a tile has 1 bytes, expected 16384"),
    ],
)
def test_damaged_layers_are_said(tmp_path: Path, tile: bytes, why: str) -> None:
    data = b"VERSION 2\nTILEWIDTH 64\nTILEHEIGHT 64\nPIXELSIZE 4\nDATA 1\n" + tile
    now, other = (_krita(tmp_path / f"{seed}.kra", seed, **{"i__layers__layer4": data}) for seed in (2, 3))
    with pytest.raises(UnsupportedMedia, match=why):
        recomposed(now, other, tmp_path / "fresh.kra")


def test_what_is_too_large_or_other_in_an_openraster_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"Oak": (2, 3, 0.5, 2), "Elm": (9, 7, 1.0, 3)}
    old = _open_raster(tmp_path / "old.ora", layers)
    other = {**layers, "Oak": (1, 1, 1.0, 8)}
    opaque = _open_raster(tmp_path / "now.ora", {"Elm": (0, 0, 1.0, 0)}, merged="RGB")
    assert _restored(old, "Elm", opaque)[0] == "its merged image has no transparency"
    assert "of the kind L" in _restored(old, "Oak", _open_raster(tmp_path / "now.ora", other, merged="L"))[0]
    now = _open_raster(tmp_path / "now.ora", other)
    assert recomposed(now, now, tmp_path / "o.ora") == "nothing that is seen changed"
    many = {str(number): (2, 2, 1.0, number) for number in range(1, 9)}
    for limit, whole in ((100, layers), (1200, many)):
        monkeypatch.setattr(painting_picture, "PIXELS", limit)
        last = _open_raster(tmp_path / "many.ora", {**whole, "Last": (1, 1, 1.0, 2)})
        assert "million pixels" in recomposed(_open_raster(tmp_path / "m.ora", whole), last, tmp_path / "o.ora")
    monkeypatch.undo()
    zip_file = zipped(tmp_path / "a.zip", {"a": b"b"})
    assert recomposed(zip_file, zip_file, tmp_path / "o.zip") == "nothing here draws them"


def test_a_canvas_adds_up_what_is_laid_on_it() -> None:
    """Half of white over opaque black is grey; in a group and through one it is the same when the group is opaque."""
    box = Box(10, 20, 12, 23)
    black, white = (np.full((2, 3, 3), level, np.float32) for level in (0, 1))
    full, half = (np.full((2, 3), level, np.float32) for level in (1, 0.5))
    plain = Canvas(box, 3)
    plain.lay(black, full, box)
    over = plain.copy()
    over.lay(white, half, box)
    assert (over.colour == 0.5).all() and (over.alpha == 1).all()
    assert (plain.colour == 0).all(), "a copy is another one"
    group = Canvas(box, 3)
    group.lay(white, half, box)
    isolated = plain.copy()
    isolated.lay_group(group, 1.0)
    assert (isolated.colour == 0.5).all()
    through = plain.copy()
    through.blend(over, half)
    assert (through.colour == 0.25).all() and (through.alpha == 1).all()
    part = Canvas(box, 1)
    part.lay(np.ones((1, 1, 1), np.float32), np.ones((1, 1), np.float32), Box(11, 22, 12, 23))
    assert part.alpha.tolist() == [[0, 0, 0], [0, 0, 1]]
    assert box.within(EVERYWHERE) == box
    with pytest.raises(NotPlain, match="why"):
        raise NotPlain("why")


def test_the_lists_of_paintings(tmp_path: Path) -> None:
    for path, dialect in (
        (_krita(tmp_path / "a.kra", 1), painting.KRITA),
        (_open_raster(tmp_path / "a.ora", {"Oak": (0, 0, 1.0, 1)}), painting.OPEN_RASTER),
    ):
        with mapped(path) as view:
            found = painting.opened(view)
            assert isinstance(found, painting.Painting)
            assert found.dialect is dialect
            assert "Oak" in {layer.name for layer in found.layers.values()}
