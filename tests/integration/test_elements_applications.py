"""What was written opens in the applications it is for."""

from __future__ import annotations

import io
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import layered
import pytest
from layered import HILL, SKY, TREE

from gitvault.formats.elements import extracted, find, listed, recomposed, spliced

pytestmark = pytest.mark.deep

OLD, NOW = {SKY: 10, HILL: 100, TREE: 200}, {SKY: 17, HILL: 120}


def run(home: Path, *words: str | Path) -> None:
    variables = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    subprocess.run(words, cwd=home, env={**os.environ, **variables}, check=True, capture_output=True, timeout=240)


def picture(path: Path, value: int) -> Path:
    from PIL import Image

    Image.new("RGBA", (40, 30), (value, 20, 30, 255)).save(path)
    return path


@pytest.mark.needs("krita", "xvfb-run")
def test_krita_opens_and_saves_a_document_with_a_restored_layer(tmp_path: Path) -> None:
    for name, value in (("old", 200), ("now", 90)):
        source = picture(tmp_path / f"{name}.png", value)
        run(tmp_path, "xvfb-run", "-a", "krita", "--export", "--export-filename", tmp_path / f"{name}.kra", source)
    old, now = tmp_path / "old.kra", tmp_path / "now.kra"
    [layer] = listed(old)
    spliced(now, old, layer.id, tmp_path / "out.kra")
    run(
        tmp_path,
        "xvfb-run",
        "-a",
        "krita",
        "--export",
        "--export-filename",
        tmp_path / "again.kra",
        tmp_path / "out.kra",
    )
    assert {e.id for e in listed(tmp_path / "again.kra")} == {e.id for e in listed(tmp_path / "out.kra")}
    assert len(listed(tmp_path / "again.kra")) == 2
    extracted(tmp_path / "out.kra", layer.id, tmp_path / "one.kra")
    run(
        tmp_path, "xvfb-run", "-a", "krita", "--export", "--export-filename", tmp_path / "one.png", tmp_path / "one.kra"
    )
    assert pixel(tmp_path / "one.png") == (200, 20, 30)


@pytest.mark.needs("krita", "xvfb-run")
def test_the_merged_image_is_the_one_that_krita_makes(tmp_path: Path) -> None:
    """Of three layers of noise, half transparent, in a group: one comes back, and Krita sees what was written."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(6)
    for name in "abc":
        Image.fromarray(noise.integers(0, 256, (90, 150, 4), np.uint8), "RGBA").save(tmp_path / f"{name}.png")
    layered.zipped(
        tmp_path / "made.ora",
        {
            "mimetype": b"image/openraster",
            "stack.xml": b'<image w="200" h="120"><stack><stack name="g" opacity="0.8" isolation="isolate">'
            b'<layer name="a" src="data/a.png" x="10" y="9"/><layer name="b" src="data/b.png" x="-20" y="33"/></stack>'
            b'<layer name="c" src="data/c.png" x="3" y="4" opacity="0.7"/></stack></image>',
            **{f"data/{name}.png": (tmp_path / f"{name}.png").read_bytes() for name in "abc"},
        },
    )

    def krita(source: Path, target: str) -> Path:
        run(tmp_path, "xvfb-run", "-a", "krita", "--export", "--export-filename", tmp_path / target, source)
        return tmp_path / target

    old = krita(tmp_path / "made.ora", "old.kra")
    with zipfile.ZipFile(old) as file:
        members = {name: file.read(name) for name in file.namelist()}
    document = members["maindoc.xml"]
    at = document.index(b'name="b"')
    start = document.rindex(b"<layer", 0, at)
    layer = document[start : document.index(b">", at)]
    changed = document.replace(layer, re.sub(rb'opacity="\d+"', b'opacity="91"', layer))
    now = krita(layered.zipped(tmp_path / "edited.kra", {**members, "maindoc.xml": changed}), "now.kra")
    spliced(now, old, find(listed(old), "b", "old.kra").id, tmp_path / "stale.kra")
    assert recomposed(now, tmp_path / "stale.kra", tmp_path / "fresh.kra") == ""

    def merged(path: Path) -> Any:
        with zipfile.ZipFile(path) as file:
            pixels = np.asarray(Image.open(io.BytesIO(file.read("mergedimage.png"))).convert("RGBA"), float)
        return np.concatenate([pixels[..., :3] * pixels[..., 3:] / 255, pixels[..., 3:]], axis=-1)

    fresh = merged(tmp_path / "fresh.kra")
    assert np.abs(fresh - merged(now)).max() > 20
    assert np.abs(fresh - merged(krita(tmp_path / "stale.kra", "again.kra"))).max() <= 2


def pixel(path: Path) -> tuple[int, ...]:
    from PIL import Image

    with Image.open(path) as found:
        return tuple(found.convert("RGB").getpixel((12, 9)))  # type: ignore[arg-type]


@pytest.mark.needs("inkscape")
def test_inkscape_draws_a_restored_element(tmp_path: Path) -> None:
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">'
    light = '<linearGradient id="l"><stop stop-color="#c8141e"/></linearGradient>'
    old, now = tmp_path / "old.svg", tmp_path / "now.svg"
    old.write_text(f'{head}<defs>{light}</defs><rect id="r" width="40" height="30" fill="url(#l)"/></svg>')
    now.write_text(f'{head}<rect id="x" width="40" height="30" fill="blue"/></svg>')
    spliced(now, old, "r", tmp_path / "out.svg")
    run(tmp_path, "inkscape", "--export-type=png", "--export-filename=out.png", "out.svg")
    assert pixel(tmp_path / "out.png") == (200, 20, 30)


@pytest.mark.needs("gimp")
def test_gimp_opens_documents_with_a_restored_layer_and_takes_layers_out(tmp_path: Path) -> None:
    old, now = layered.psd_file(tmp_path / "old.psd", OLD), layered.psd_file(tmp_path / "now.psd", NOW)
    spliced(now, old, find(listed(old), TREE, "old.psd").id, tmp_path / "out.psd")
    script = (
        '(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "out.psd" "out.psd"))))'
        ' (gimp-file-save RUN-NONINTERACTIVE image (car (gimp-image-get-active-drawable image)) "out.xcf" "out.xcf"))'
    )
    run(tmp_path, "gimp", "-i", "-d", "-f", "-b", script, "-b", "(gimp-quit 1)")
    found = [element for element in listed(tmp_path / "out.xcf") if element.kind == "layer"]
    assert [element.name for element in found] == [TREE, HILL, SKY]
    extracted(tmp_path / "out.xcf", found[0].id, tmp_path / "tree.png")
    from PIL import Image

    with Image.open(tmp_path / "tree.png") as tree:
        assert tree.size == (24, 16)
