"""What was written opens in the applications it is for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import layered
import pytest
from layered import HILL, SKY, TREE

from gitvault.formats.elements import extracted, find, listed, spliced

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
