"""`diff --visual` and `CreativeVault.compare_versions`: what changed between two versions, as pictures and figures."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import images
import pytest
from images import by_oiio, noise
from PIL import Image
from trees import write

from gitvault.cli import visual
from gitvault.errors import ExistsError, NotFoundError, UnsupportedMedia
from gitvault.formats import difference
from gitvault.formats.confined import Confined
from gitvault.personas.base import Session
from gitvault.personas.creative import CreativeVault, diff
from gitvault.personas.creative.frames import Sequence, sequences
from gitvault.personas.creative.page import write_page
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]


def changed(pixels: images.Pixels, at: tuple[int, int] = (33, 44), by: int = 1) -> images.Pixels:
    other = pixels.copy()
    other[at] ^= by
    return other


def project(folder: Path) -> None:
    """First state."""
    (folder / "renders").mkdir(parents=True)
    (folder / "art").mkdir()
    for frame in range(1, 6):
        by_oiio(folder / "renders" / f"shot.{frame:04d}.exr", noise(3, "float16"))
    by_oiio(folder / "art" / "wall.png", noise(3, "uint16"))
    by_oiio(folder / "art" / "same.png", noise(3, "uint8"))
    by_oiio(folder / "art" / "torn.png", noise(3, "uint8"))
    images.drawing(folder / "art" / "logo.svg")
    write(folder, {"notes.txt": b"one", "gone.txt": b"gone", "here.txt": b"moved along"})


def change(folder: Path) -> None:
    """Second state."""
    pixels = noise(3, "float16")
    pixels[5, 6, 0] += 1
    by_oiio(folder / "renders" / "shot.0002.exr", pixels)
    pixels[10:20, 30:50] += 2
    by_oiio(folder / "renders" / "shot.0004.exr", pixels)
    by_oiio(folder / "renders" / "shot.0006.exr", pixels)
    (folder / "renders" / "shot.0001.exr").unlink()
    by_oiio(folder / "art" / "wall.png", changed(noise(3, "uint16")))
    torn = folder / "art" / "torn.png"
    torn.write_bytes(torn.read_bytes()[:9000])
    write(folder, {"notes.txt": b"two", "new.txt": b"new"})
    (folder / "gone.txt").unlink()
    (folder / "here.txt").rename(folder / "there.txt")


def check(found: dict[str, diff.FileDifference]) -> None:
    wall = found["art/wall.png"]
    assert (wall.kind, wall.changed, wall.problem) == ("image", True, None)
    assert (wall.stats["boxes"], wall.stats["changed_pixels"]) == ([[44, 33, 1, 1]], 1)
    assert Image.open(wall.pictures["heat-map"]).format == "PNG"
    shot = found["renders/shot.####.exr"]
    assert (shot.kind, shot.changed) == ("image", True)
    assert (shot.stats["frames"], shot.stats["frames_changed"], shot.stats["worst_frame"]) == (5, [2, 4], 4)
    assert (shot.stats["frames_added"], shot.stats["frames_removed"]) == ([6], [1])
    # Two files that were written a second apart differ in their bytes.
    frames = [frame for frame in shot.stats["by_frame"] if frame["changed_pixels"]]
    assert [frame["changed_pixels"] for frame in frames] == [1, 201]
    assert shot.stats["changed_pixels"] == 202
    assert shot.stats["mean"] == pytest.approx(sum(frame["mean"] for frame in frames) / 4)
    assert shot.stats["psnr"] == min(frame["psnr"] for frame in frames)
    assert Path(shot.pictures["side-by-side"]).is_file()
    there = found["there.txt"].stats["state"]
    # Of folders nothing says what was moved.
    moved = {"there.txt": "moved"} if there == "moved" else {"there.txt": "added", "here.txt": "deleted"}
    torn = found["art/torn.png"]
    assert (torn.kind, torn.changed) == ("file", True)
    assert torn.problem is not None
    assert "its bytes are saved" in torn.problem
    assert {path: one.stats.get("state") for path, one in found.items() if one.kind == "file"} == {
        "art/torn.png": "changed",
        "gone.txt": "deleted",
        "new.txt": "added",
        "notes.txt": "changed",
        **moved,
    }
    assert "art/same.png" not in found


def test_what_changed_between_two_snapshots(tmp_path: Path, command: Run, vault: Vault) -> None:
    project(tmp_path / "acme")
    with CreativeVault("acme", tmp_path / "acme", vault=vault.path) as acme:
        acme.backup()
        change(tmp_path / "acme")
        acme.backup()
        only_names = [one.path for one in diff.compare_snapshots(acme.vault, "acme~1", "acme", b"notes.txt")]
        assert only_names == [b"notes.txt"]
        found = acme.compare_versions("acme~1", "acme", folder=tmp_path / "seen")
        check({one.path.decode(): one for one in found})
        only = acme.compare_versions("acme~1", "acme", "art/wall.png")
        assert [(one.path, dict(one.pictures)) for one in only] == [(b"art/wall.png", {})]
        with pytest.raises(ExistsError, match="seen: is there already"):
            acme.compare_versions("acme~1", "acme", folder=tmp_path / "seen")
        acme.compare_versions("acme~1", "acme", "art/wall.png", folder=tmp_path / "seen", overwrite=True)

    done = command("diff", "--visual", "acme~1", "acme", "art", "-o", "out", "--json")
    assert done.returncode == UnsupportedMedia.exit_code
    assert "art/torn.png: damaged" in done.stderr
    document = json.loads(done.stdout)
    assert [one["path"] for one in document] == ["art/torn.png", "art/wall.png"]
    assert all(one.keys() == {"path", "kind", "changed", "stats", "pictures"} for one in document)
    assert "its bytes are saved" in document[0]["stats"]["problem"]
    for picture in document[1]["pictures"].values():
        assert (tmp_path / picture).is_file()
    done = command("diff", "--visual", "acme~1", "acme", "renders")
    assert (done.returncode, done.stdout.split()[:3]) == (1, ["changed", "image", "renders/shot.####.exr"])
    assert "2 frames of 5" in done.stdout
    same = command("diff", "--visual", "acme", "acme")
    assert (same.returncode, same.stdout) == (0, "nothing changed\n")
    assert command("diff", "acme~1", "acme", "art").returncode == 129
    mistyped = command("diff", "--visual", "acme~1", "acme", "rendres")
    assert (mistyped.returncode, mistyped.stdout) == (128, "")
    assert "rendres: in neither snapshot; git-vault ls acme lists the newer" in mistyped.stderr
    (tmp_path / "acme/art/wall.png").unlink()
    command("snapshot", "acme")
    gone = command("diff", "--visual", "acme~1", "acme", "art/wall.png")
    assert (gone.returncode, gone.stdout.split()) == (1, ["deleted", "file", "art/wall.png"])


def test_a_link_that_leads_elsewhere_is_no_image(tmp_path: Path, vault: Vault) -> None:
    link = tmp_path / "acme" / "now.png"
    link.parent.mkdir()
    for target in ("one.png", "two.png"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        vault.create_snapshot(link.parent)
    [found] = diff.compare_snapshots(vault, "acme~1", "acme")
    assert (found.kind, found.problem, found.stats) == ("file", None, {"state": "changed"})


def test_two_folders_of_renders(tmp_path: Path) -> None:
    for name in ("old", "new"):
        project(tmp_path / name)
    change(tmp_path / "new")
    found = diff.compare_folders(tmp_path / "old", tmp_path / "new", tmp_path / "seen")
    check({one.path.decode(): one for one in found})


def test_two_files_and_a_saved_one(tmp_path: Path, command: Run, vault: Vault) -> None:
    old, new = tmp_path / "work" / "a.png", tmp_path / "work" / "b.png"
    old.parent.mkdir()
    by_oiio(old, noise(3, "uint8"))
    by_oiio(new, changed(noise(3, "uint8")))
    vault.create_snapshot(old.parent, project="work")
    done = command("diff", "--visual", old, new, "-o", "out", "--json")
    [found] = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["path"], found["kind"], found["changed"]) == ("b.png", "image", True)
    keys = {"width", "height", "channels", "depth", "changed_pixels", "max", "mean", "psnr", "ssim", "boxes"}
    assert keys <= found["stats"].keys()
    assert (tmp_path / "out" / "index.html").is_file()
    assert (tmp_path / found["pictures"]["blink"]).is_file()
    again = command("diff", "--visual", old, new, "-o", "out")
    assert (again.returncode, "--overwrite" in again.stderr) == (128, True)
    new.replace(old)
    saved = command("diff", "--visual", "work:a.png", old, "-o", "out", "--overwrite", "--json")
    assert json.loads(saved.stdout)[0]["stats"]["changed_pixels"] == 1
    folders = command("diff", "--visual", "./work", "./work", "--json")
    assert (folders.returncode, json.loads(folders.stdout)) == (0, [])
    assert command("diff", "--visual", old, old, "art").returncode == 129


def test_files_that_cannot_be_shown_are_said_so(tmp_path: Path, command: Run) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.png").write_text("no image")
    done = command("diff", "--visual", "a.txt", "a.txt")
    assert done.returncode == UnsupportedMedia.exit_code
    assert "no kind of file whose differences can be shown; the bytes are the same" in done.stderr
    with pytest.raises(UnsupportedMedia, match="does not begin as a PNG image does"):
        difference.compare(*[str(tmp_path / "a.png")] * 2, None)
    with pytest.raises(UnsupportedMedia, match=r"^b\.txt: no kind of file"):
        diff.compare_files(tmp_path / "a.txt", tmp_path / "b.txt")
    with pytest.raises(NotFoundError, match="no such file"):
        diff.compare_files(tmp_path / "a.txt", tmp_path / "none.txt")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on memory there")
def test_a_bomb_is_refused_within_bounds(tmp_path: Path) -> None:
    """A PNG of a few hundred kilobytes that says it has 100,000 x 100,000 pixels."""
    from PIL import Image as Pillow

    Pillow.MAX_IMAGE_PIXELS = None
    Pillow.new("1", (60_000, 4_000)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    import struct
    import zlib

    data[16:24] = struct.pack(">II", 400_000, 400_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "bomb.png").write_bytes(data)
    with Confined() as child, pytest.raises(UnsupportedMedia, match=r"^bomb\.png: "):
        child.call("gitvault.formats.difference:compare", *[str(tmp_path / "bomb.png")] * 2, None, seconds=20)


def test_what_can_be_shown_is_known_by_the_name() -> None:
    assert difference.may_be_shown(".png")
    assert not difference.may_be_shown(".txt")


def test_people_read_a_line_for_each_file(tmp_path: Path) -> None:
    by_oiio(tmp_path / "a.png", noise(3, "uint8"))
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.png").write_bytes(b"torn")
    by_oiio(tmp_path / "new" / "a.png", noise(3, "uint8"))
    said = {"a": str(tmp_path / "old"), "b": str(tmp_path / "new"), "path": None, "output": None, "overwrite": False}
    answer = visual.visual(cast(Session, None), Namespace(**said))
    assert (list(answer.lines), answer.code) == (["unread  file  a.png"], 4)
    assert answer.problems[0].reason.startswith("a.png: cannot be read as an image")


def test_frames_are_one_sequence() -> None:
    paths = [
        b"a/shot.0001.exr",
        b"a/shot.0003.exr",
        b"a/shot.0001.png",
        b"b_12.png",
        b"b_13.png",
        b"x/0001.tif",
        b"x/0002.tif",
    ]
    shot = Sequence(b"a/shot.", 4, b".exr")
    assert sequences(paths) == {shot: [1, 3], Sequence(b"x/", 4, b".tif"): [1, 2]}
    assert (shot.name, shot.path(12)) == (b"a/shot.####.exr", b"a/shot.0012.exr")


def test_the_page_escapes_what_files_are_called(tmp_path: Path) -> None:
    stats = {"width": 4, "height": 4, "channels": 3, "depth": "uint8", "changed_pixels": 1, "max": 1.0}
    stats |= {"metadata": [{"name": "<b>", "before": None, "after": ["<i>"]}], "by_frame": [{"frame": 1, "mean": 0.5}]}
    stats["by_channel"] = {"<script>": {"changed": 1, "max": 1.0, "mean": 0.5}}
    picture = tmp_path / "a b.png"
    one = diff.FileDifference(b"<script>\xff.png", "image", True, stats, {"heat-map": str(picture)})
    other = diff.FileDifference(b"<img src=x>", "file", True, {"state": "added"})
    same = diff.FileDifference(b"same.png", "image", False, {})
    bad = diff.FileDifference(b"bad.png", "file", True, {"state": "changed"}, problem="<b>torn</b>")
    text = write_page("<script>alert(1)</script>", [one, other, same, bad], tmp_path).read_text("utf-8")

    tags: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            tags.add(tag)

    Tags().feed(text)
    assert "table" in tags
    assert not {"script", "b"} & tags
    assert 'src="a%20b.png"' in text
    assert "Nothing that can be seen changed" in text


def test_pictures_go_to_a_new_folder(tmp_path: Path) -> None:
    diff.new_folder(tmp_path / "deep" / "new", overwrite=False)
    diff.new_folder(tmp_path / "deep" / "new", overwrite=False)
    with pytest.raises(ExistsError, match="deep: is there already"):
        diff.new_folder(tmp_path / "deep", overwrite=False)
    diff.new_folder(tmp_path / "deep", overwrite=True)
