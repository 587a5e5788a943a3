"""Files of artists that are cut off, half saved, garbled, sealed, called what they are not, newer, or bombs.

Whatever it is: its bytes are saved, each verb says in a line what it cannot do and why, with exit code 4.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import images
import layered
import models
import pytest
import reference_files
import scenes
from parsers import media
from PIL import Image
from trees import contents

from gitvault.errors import UnsupportedMedia
from gitvault.formats import formats
from gitvault.formats.confined import Confined
from gitvault.personas.creative import elements
from gitvault.personas.creative import timeline as creative
from gitvault.vault import Vault

Run = Callable[..., subprocess.CompletedProcess[str]]
CANNOT = UnsupportedMedia.exit_code
COLORS = {"Sky": 100, "Hill": 40}


def _by_pillow(mode: str, **options: Any) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(images.noise(3, "uint8")).convert(mode).save(path, **options)


def _by_oiio(kind: str) -> Callable[[Path], object]:
    return lambda path: images.by_oiio(path, images.noise(3, kind))


def _content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def _layered(make: Callable[[Path, layered.Colors], object]) -> Callable[[Path], object]:
    return lambda path: make(path, COLORS)


_BOX = [models.box("a"), models.box("b", 2.0)]
_GLTF, _BINARY = scenes.gltf()
PICTURES: dict[str, Callable[[Path], object]] = {
    "png": _by_oiio("uint8"),
    "16.png": _by_oiio("uint16"),
    "jpg": _by_pillow("RGB"),
    "cmyk.jpg": _by_pillow("CMYK"),
    "progressive.jpg": _by_pillow("RGB", progressive=True),
    "webp": _by_pillow("RGB", lossless=True),
    "gif": _by_pillow("P"),
    "bmp": _by_pillow("RGB"),
    "tga": _by_pillow("RGB", compression="tga_rle"),
    "plain.tga": _by_pillow("RGB"),
    "tif": _layered(layered.tiff_file),
    "packed.tif": _by_pillow("RGB", compression="tiff_adobe_deflate"),
    "hdr": _by_oiio("float32"),
    "dds": _by_pillow("RGBA"),
    "dpx": _by_oiio("uint16"),
    "exr": _by_oiio("float16"),
    "tiled.exr": lambda path: images.tiled(path, images.noise(3, "float16")),
    "psd": _layered(layered.psd_file),
    "flat.psb": lambda path: images.photoshop(path, images.noise(3, "uint16")),
    "kra": lambda path: images.document(path, images.noise(4, "uint8")),
    "ora": lambda path: images.document(path, images.noise(4, "uint8")),
}
"""Of which less than all pixels is never shown as all of them."""
OTHERS: dict[str, Callable[[Path], object]] = {
    "layers.kra": _layered(layered.kra_file),
    "layers.ora": _layered(layered.ora_file),
    "svg": _layered(layered.svg_file),
    "xcf": _content(media._xcf()),
    "zip": _layered(layered.zip_file),
    "glb": _content(scenes.glb(_GLTF, _BINARY)),
    "model.glb": _content(models.glb(_BOX)),
    "gltf": _content(reference_files.GLTF),
    "blend": _content(scenes.blend()),
    "packed.blend": _content(gzip.compress(scenes.blend(), mtime=0)),
    "fbx": _content(models.fbx(models.fbx_tree(_BOX))),
    "text.fbx": _content(models.fbx_text(models.fbx_tree(_BOX))),
    "ply": _content(models.ply(_BOX[0])),
    "text.ply": _content(models.ply(_BOX[0], "ascii")),
    "stl": _content(models.stl(_BOX)),
    "text.stl": _content(models.stl_text(_BOX)),
    "obj": _content(models.obj(_BOX)),
    "mtl": _content(reference_files.MTL),
    "usda": _content(reference_files.USDA),
    "ma": _content(reference_files.MAYA),
    "aepx": _content(reference_files.AEPX),
    "prproj": _content(reference_files.premiere()),
    "tscn": _content(reference_files.GODOT),
    "mat": _content(reference_files.UNITY),
    "uasset": _content(reference_files.UNREAL),
}
_OPEN_ENDED = ("text.fbx", "text.ply", "text.stl", "obj")
"""Text of which a beginning may be a whole file."""


CUTS = {"begun": 5, "quarter": 25, "middle": 50, "most": 75, "nearly": 97}
"""How many percent of a file are there."""


def _damaged(data: bytes, other: bytes, chance: random.Random) -> dict[str, bytes]:
    """By what happened to it."""
    cuts = {name: data[: len(data) * percent // 100] for name, percent in CUTS.items()}
    middle = len(data) // 2
    noise = bytearray(data)
    for _ in range(20):
        noise[chance.randrange(8, len(data))] = chance.randrange(256)
    return {
        **cuts,
        "empty": b"",
        "byte": data[:1],
        # Room was made for the whole, half of it is written.
        "half": data[:middle] + bytes(len(data) - middle),
        "noise": bytes(noise),
        "sealed": chance.randbytes(len(data)),
        "other": other,
    }


@pytest.fixture(scope="module")
def art(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders with files of one name: sound ones, and what became of them."""
    folder, chance = tmp_path_factory.mktemp("art"), random.Random(6)
    sound, harmed = folder / "sound", folder / "harmed"
    made: dict[str, bytes] = {}
    for name, write in (PICTURES | OTHERS).items():
        (folder / name).unlink(missing_ok=True)
        write(folder / f"a.{name}")
        made[name] = (folder / f"a.{name}").read_bytes()
    for number, (name, data) in enumerate(made.items()):
        kind = name.replace(".", "-")
        ending = name.rpartition(".")[2]
        # Another one's content, of a kind that is far from this one.
        other = list(made.values())[(number + 9) % len(made)]
        for what, content in _damaged(data, other, chance).items():
            for where, bytes_ in ((sound, data), (harmed, content)):
                (where / kind).mkdir(parents=True, exist_ok=True)
                (where / kind / f"{what}.{ending}").write_bytes(bytes_)
    return sound, harmed


@pytest.fixture
def one_child(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Starting a process for each of hundreds of files would take most of the time."""
    with Confined() as child:

        class Kept(Confined):
            def __init__(self, **_: Any) -> None:
                self.call = child.call  # type: ignore[method-assign]

            def close(self) -> None:
                pass

        monkeypatch.setattr(elements, "Confined", Kept)
        yield


def _is_said(line: str, name: str) -> bool:
    """What it says is for people: the file as they know it, no names of exceptions, no temporary folders."""
    return name in line and not re.search(r"\wError\b|internal|/", line.replace(name, "")) and len(line) < 600


def test_what_is_harmed_is_not_compared_and_why(art: tuple[Path, Path], command: Run) -> None:
    sound, harmed = art
    done = command("diff", "--visual", sound, harmed, "--json")
    assert done.returncode == CANNOT
    found = {one["path"]: one for one in json.loads(done.stdout)}
    comparable = {e for known in formats() if known.compare or known.elements for e in known.extensions}
    wrong = []
    for path in sorted(harmed.rglob("*.*")):
        name = path.relative_to(harmed).as_posix()
        if (sound / name).read_bytes() == path.read_bytes():
            continue
        one, kind = found[name], path.parent.name.replace("-", ".")
        problem = one["stats"].get("problem")
        if problem:
            if not _is_said(problem, path.name) or "saved" not in problem:
                wrong.append(f"{name}: {problem}")
        elif path.suffix not in comparable:
            assert one["kind"] == "file"
        elif path.stem in ("empty", "byte", "sealed"):
            wrong.append(f"{name}: taken for one of its kind: {one['kind']}")
        elif path.stem in CUTS and kind in PICTURES and one["stats"].get("changed_pixels"):
            wrong.append(f"{name}: what is missing is shown as something")
        elif path.stem in CUTS and one["kind"] == "mesh" and kind not in _OPEN_ENDED:
            wrong.append(f"{name}: a part is shown as the whole")
    assert not wrong, "\n".join(wrong)


@pytest.mark.usefixtures("one_child")
def test_what_is_harmed_is_not_taken_apart_and_why(art: tuple[Path, Path], command: Run) -> None:
    _, harmed = art
    wrong = []
    for path in sorted(harmed.rglob("*.*")):
        done = command("elements", "list", path, "--json")
        if done.returncode == CANNOT:
            if done.stdout or done.stderr.count("\n") != 1 or not _is_said(done.stderr, path.name):
                wrong.append(f"{path.parent.name}/{path.name}: {done.stderr}")
        elif done.returncode or not isinstance(json.loads(done.stdout), list):
            wrong.append(f"{path.parent.name}/{path.name}: {done.returncode} {done.stderr}")
        elif path.stem in ("empty", "byte", "sealed"):
            wrong.append(f"{path.parent.name}/{path.name}: taken for one of its kind")
    assert not wrong, "\n".join(wrong)


def test_what_is_harmed_is_saved_and_has_no_picture_and_why(
    art: tuple[Path, Path], command: Run, vault: Vault, tmp_path: Path
) -> None:
    _, harmed = art
    work = tmp_path / "work"
    for number, folder in enumerate(sorted(harmed.iterdir())):
        shutil.copytree(folder, work / folder.name)
        # Of more than fifty files in one snapshot some would not be drawn.
        if number % 4 == 3:
            vault.create_snapshot(work)
    vault.create_snapshot(work)
    vault.restore_snapshot("work", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(harmed)
    done = command("timeline", "work")
    versions = creative.timeline(vault, "work")
    assert {one.path.decode() for one in versions} == {p.relative_to(harmed).as_posix() for p in harmed.rglob("*.*")}
    assert done.returncode == CANNOT
    assert f"git-vault: {sum(one.is_bad for one in versions)} problems:" in done.stderr
    wrong = []
    for one in versions:
        what = Path(one.path.decode()).stem
        if (one.thumbnail is None) != bool(one.reason) or (one.is_bad and not one.reason):
            wrong.append(f"{one}")
        if what in ("empty", "byte", "sealed") and one.thumbnail:
            wrong.append(f"{one.path}: has a picture")
        if one.is_bad and not _is_said(f"{one.path} {one.reason}", one.path.decode()):
            wrong.append(f"{one.path}: {one.reason}")
    assert not wrong, "\n".join(wrong)


def test_references_of_what_is_harmed(art: tuple[Path, Path], command: Run) -> None:
    """Those that can be read are listed, the others are named."""
    _, harmed = art
    done = command("refs", "list", harmed, "--json")
    assert done.returncode in (0, 1, CANNOT), done.stderr
    assert isinstance(json.loads(done.stdout), list)
    for line in done.stderr.splitlines()[1:]:
        name = re.search(r"harmed/[\w-]+/\w+\.\w+", line)
        assert name or line.startswith("git-vault: and "), line
        assert not name or _is_said(line.rpartition(name[0])[2] + name[0], name[0]), line
