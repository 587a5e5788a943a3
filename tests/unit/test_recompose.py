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

from gitvault.formats.elements import PICTURES, find, listed, recomposed, spliced, witnessed
from gitvault.formats.layered import psd_file
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
    """Store what psd-tools sees, and a thumbnail of it."""
    seen = psd_tools.PSDImage.open(path).composite(force=True, ignore_preview=True)
    flat = np.asarray(seen, np.float64)
    if seen.mode.endswith("A"):
        alpha = flat[..., -1:] / 255
        flat = flat[..., :-1] * alpha + 255 * (1 - alpha)
    flat = np.rint(flat).astype(np.uint8).reshape(SIZE[1], SIZE[0], -1)
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(flat[..., 0] if flat.shape[2] == 1 else flat).convert("RGB").resize((20, 15)).save(file, "JPEG")
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


def _open_raster(path: Path, layers: OpenRaster, *, more: str = "", merged: str = "RGBA") -> Path:
    pictures = {name: _picture(seed) for name, (_, _, _, seed) in layers.items()}
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
