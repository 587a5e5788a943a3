"""The forms of the artist's verbs that other programs rely on, key by key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layered
import models
import pytest

from gitvault.cli.main import main
from gitvault.personas.creative import CreativeVault

Run = Callable[..., Any]


@pytest.fixture
def document(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "vault.git"))

    def run(*words: str | Path, code: int = 0) -> Any:
        assert main([*map(str, words), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_the_figures_of_two_images(tmp_path: Path, document: Run) -> None:
    """One level of 255 in one channel of one pixel, in units of full scale."""
    from PIL import Image

    for name, level in (("a", 100), ("b", 101)):
        image = Image.new("RGB", (40, 30), (100, 20, 30))
        image.putpixel((7, 9), (level, 20, 30))
        image.save(tmp_path / f"{name}.png")
    [found] = document("diff", "--visual", "a.png", "b.png", "-o", "out", code=1)
    assert found.keys() == {"path", "kind", "changed", "stats", "pictures"}
    assert (found["kind"], found["changed"]) == ("image", True)
    stats = found["stats"]
    assert {"width", "height", "channels", "depth", "changed_pixels", "max", "mean", "psnr", "ssim", "boxes"} <= {
        *stats
    }
    assert (stats["width"], stats["height"], stats["changed_pixels"]) == (40, 30, 1)
    assert stats["max"] == pytest.approx(1 / 255)
    assert stats["mean"] == pytest.approx(1 / 255 / (40 * 30 * 3))
    [[x, y, width, height]] = stats["boxes"]
    assert x <= 7 < x + width and y <= 9 < y + height
    assert all(Path(picture).is_file() for picture in found["pictures"].values())


def test_the_figures_of_two_models(tmp_path: Path, document: Run) -> None:
    box = models.box("Chair")
    models.save(tmp_path, "a.obj", [box, models.box("Table").at(4, 0, 0)])
    models.save(tmp_path, "b.obj", [box, models.box("Desk").at(4, 0, 0), models.ball("Vase")])
    [found] = document("diff", "--visual", "a.obj", "b.obj", "-o", "out", code=1)
    stats = found["stats"]
    assert found["kind"] == "mesh"
    parts = {"parts_added", "parts_removed", "parts_changed", "parts_renamed", "vertices", "faces", "max_distance"}
    assert parts <= stats.keys()
    assert (stats["parts_renamed"], stats["parts_added"], stats["parts_removed"]) == (["Desk"], ["Vase"], [])


def test_the_names_in_two_layered_files(tmp_path: Path, document: Run) -> None:
    layered.svg_file(tmp_path / "a.svg", {"Sky": 10, "Hill": 100})
    layered.svg_file(tmp_path / "b.svg", {"Sky": 17, "Tree": 100})
    [found] = document("diff", "--visual", "a.svg", "b.svg", code=1)
    assert found["kind"] == "layered"
    assert "Tree" in found["stats"]["elements_added"]
    assert "Hill" in found["stats"]["elements_removed"]
    assert any("Sky" in name for name in found["stats"]["elements_changed"])


@pytest.mark.needs("git")
def test_the_versions_of_a_file(tmp_path: Path, document: Run) -> None:
    work = tmp_path / "forest"
    work.mkdir()
    with CreativeVault("forest", work, vault=tmp_path / "vault.git") as forest:
        for value in (1, 2):
            (work / "a.png").write_bytes(layered.png(value))
            forest.backup(message=f"number {value}")
    first, second = document("timeline", "forest", "a.png")
    keys = {"snapshot", "time", "message", "path", "size", "thumbnail", "changed", "milestone"}
    assert first.keys() == second.keys() == keys
    assert [one["changed"] for one in (first, second)] == ["added", "changed"]
    assert [one["message"] for one in (first, second)] == ["number 1", "number 2"]
    assert Path(second["thumbnail"]).is_file()
