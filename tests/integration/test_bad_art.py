"""Files of artists that are cut off, half saved, garbled, sealed, called what they are not, newer, or bombs.

Whatever it is: its bytes are saved, each verb says in a line what it cannot do and why, with exit code 4.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import shutil
import struct
import subprocess
import zipfile
import zlib
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
from gitvault.formats.layered import archive
from gitvault.formats.mapping import PartRefused, mapped
from gitvault.formats.thumbnails import NO_PREVIEW
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


# -- bombs, sealed and newer files -------------------------------------------------------------------


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, height), (279, 4, 4)]
    return (
        b"II*\0"
        + struct.pack("<I", 12)
        + b"\x78\x9c\0\0"
        + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        + bytes(4)
    )


def _exr(side: int) -> bytes:
    def said(name: str, kind: str, value: bytes) -> bytes:
        return f"{name}\0{kind}\0".encode() + struct.pack("<i", len(value)) + value

    window = struct.pack("<4i", 0, 0, side, side)
    head = struct.pack("<ii", 20000630, 2) + said(
        "channels", "chlist", b"R\0" + struct.pack("<iiii", 1, 0, 1, 1) + b"\0"
    )
    head += said("compression", "compression", b"\3") + said("dataWindow", "box2i", window)
    head += said("displayWindow", "box2i", window) + said("lineOrder", "lineOrder", b"\0")
    head += said("pixelAspectRatio", "float", struct.pack("<f", 1)) + said("screenWindowCenter", "v2f", bytes(8))
    return head + said("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0" + bytes(4000)


def _psb(side: int) -> bytes:
    head = b"8BPS" + struct.pack(">H6xHIIHH", 2, 3, side, side, 8, 3)
    return head + struct.pack(">IIQ", 0, 0, 0) + b"\0\1" + bytes(4000)


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _entities(word: str, around: str) -> bytes:
    """A billion of them."""
    said = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return f'<?xml version="1.0"?><!DOCTYPE {word} [{said}]>{around.format("&a9;")}'.encode()


def _gltf(count: int) -> bytes:
    return json.dumps(
        {
            "asset": {"version": "2.0"},
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            "accessors": [{"count": count, "componentType": 5126, "type": "VEC3"}],
        }
    ).encode()


def _locked(data: bytes) -> bytes:
    """A zip whose members say that they are encrypted."""
    made = bytearray(data)
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = made.find(mark)
        while place >= 0:
            made[place + at] |= 1
            place = made.find(mark, place + 4)
    return bytes(made)


_KRA = {"mimetype": b"application/x-krita", "maindoc.xml": b"<DOC><IMAGE><layers/></IMAGE></DOC>"}
BOMBS: dict[str, Callable[[], bytes]] = {
    "side.png": lambda: _png(200_000, 200_000, zlib.compress(bytes(1 << 24))),
    "pages.gif": lambda: (
        b"GIF89a"
        + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0)
        + bytes(6)
        + (b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\2\2\x4c\1\0") * 4000
        + b";"
    ),
    "side.tif": lambda: _tiff(400_000, 400_000),
    "side.exr": lambda: _exr(1 << 20),
    "side.psb": lambda: _psb(300_000),
    "side.tga": lambda: (
        struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, 65535, 65535, 32, 0) + b"\xff\0\0\0\0" * 99
    ),
    "side.hdr": lambda: b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 2000000 +X 2000000\n" + bytes(999),
    "side.bmp": lambda: (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 999, 0, 0, 54, 40, 300_000, 300_000, 1, 24, 0, 0, 0, 0, 0, 0)
    ),
    "merged.kra": lambda: _zip({**_KRA, "mergedimage.png": _png(9, 9, b"") + bytes(1 << 27)}),
    "lol.svg": lambda: _entities("svg", '<svg xmlns="http://www.w3.org/2000/svg"><text>{}</text></svg>'),
    "lol.ora": lambda: _zip(
        {"mimetype": b"image/openraster", "stack.xml": _entities("image", "<image><stack>{}</stack></image>")}
    ),
    "lol.kra": lambda: _zip({**_KRA, "maindoc.xml": _entities("DOC", "<DOC><IMAGE>{}</IMAGE></DOC>")}),
    "count.gltf": lambda: _gltf(1 << 40),
    "count.ply": lambda: models.ply(models.box("a")).replace(b"vertex 8", b"vertex 99999999999"),
    "count.stl": lambda: bytes(80) + struct.pack("<I", (1 << 28) - 1) + struct.pack("<12fH", *[1.0] * 12, 0),
    "deep.fbx": lambda: b"; FBX 7.4.0 project file\n" + b"a: {" * 1_000_000,
    "deep.gltf": lambda: b'{"asset":' + b"[" * 1_000_000,
}
NEWER: dict[str, tuple[bytes, str]] = {
    "new.psd": (b"8BPS" + struct.pack(">H6xHIIHH", 3, 3, 4, 4, 8, 3) + bytes(60), "version 3"),
    "new.fbx": (b"Kaydara FBX Binary  \0\x1a\0" + struct.pack("<I", 9100) + bytes(200), "version 9100"),
    "new.gltf": (b'{"asset":{"version":"3.0","minVersion":"3.0"}}', "3.0"),
    "new.glb": (b"glTF" + struct.pack("<II", 3, 40) + bytes(28), "version 3"),
    "new.xcf": (b"gimp xcf v099\0" + bytes(200), "99"),
    "new.exr": (b"v/1\x01" + struct.pack("<I", 9) + bytes(200), "new.exr"),
    "new.blend": (b"BLENDER99-99v9999" + bytes(200), "new.blend"),
    "new.tif": (b"II" + struct.pack("<HQ", 44, 8) + bytes(100), "new.tif"),
}


@pytest.mark.usefixtures("one_child")
def test_what_is_made_to_do_harm_is_refused_within_bounds(tmp_path: Path, command: Run, vault: Vault) -> None:
    """Little memory and time are enough to find that out; what ends a reader ends nothing else."""
    work = tmp_path / "work"
    for side in ("a", "b"):
        (work / side).mkdir(parents=True)
    for name, make in BOMBS.items():
        data = make()
        assert len(data) < 24 << 20
        (work / "a" / name).write_bytes(data)
        # What is the same need not be looked at.
        (work / "b" / name).write_bytes(data + b"\n")
    vault.create_snapshot(work)
    done = command("diff", "--visual", work / "a", work / "b", "--json")
    assert done.returncode == CANNOT
    wrong = [
        f"diff {one['path']}: {one['stats']}"
        for one in json.loads(done.stdout)
        if not _is_said(one["stats"].get("problem", ""), one["path"])
    ]
    for name in BOMBS:
        done = command("elements", "list", work / "a" / name, "--json")
        # Where it lies deeper than names and sizes of parts, those are listed.
        if done.returncode and (done.returncode != CANNOT or not _is_said(done.stderr, name)):
            wrong.append(f"elements {name}: {done.returncode} {done.stdout} {done.stderr}")
    for one in creative.timeline(vault, "work"):
        name = Path(one.path.decode()).name
        if one.thumbnail or not _is_said(f"{name} {one.reason}", name):
            wrong.append(f"timeline {name}: {one.thumbnail} {one.reason}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", NEWER)
@pytest.mark.usefixtures("one_child")
def test_what_is_newer_says_so(tmp_path: Path, command: Run, name: str) -> None:
    data, why = NEWER[name]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_bytes(data + b"\n")
    for words in (("elements", "list", name), ("diff", "--visual", name, f"other/{name}")):
        done = command(*words)
        assert (done.returncode, done.stderr.count("\n")) == (CANNOT, 1)
        assert _is_said(done.stderr, name) and why in done.stderr, done.stderr


@pytest.mark.usefixtures("one_child")
def test_what_is_encrypted_says_so(tmp_path: Path, command: Run) -> None:
    for name, make in (("a.zip", layered.zip_file), ("a.kra", layered.kra_file), ("a.ora", layered.ora_file)):
        (tmp_path / name).write_bytes(_locked(make(tmp_path / f"plain-{name}", COLORS).read_bytes()))
        done = command("elements", "list", name)
        assert done.returncode == CANNOT
        assert _is_said(done.stderr, name) and "encrypted" in done.stderr, done.stderr


def test_a_part_of_a_file_is_refused_by_the_files_name(tmp_path: Path) -> None:
    whole = memoryview(layered.zip_file(tmp_path / "a.zip", COLORS).read_bytes())
    with pytest.raises(PartRefused, match=r"^Sky: has 384 bytes, expected at most 10$"):
        archive.read(whole).members[0].whole(10)
    with (
        pytest.raises(UnsupportedMedia, match=r"^a\.zip: Sky: is sealed; its bytes are saved$"),
        mapped(tmp_path / "a.zip"),
    ):
        raise PartRefused("Sky: is sealed")


def test_what_is_whole_and_brings_no_picture_is_no_trouble(tmp_path: Path, command: Run, vault: Vault) -> None:
    work = tmp_path / "work"
    work.mkdir()
    layered.kra_file(work / "a.kra", COLORS)
    with zipfile.ZipFile(work / "a.kra") as file:
        members = {name: file.read(name) for name in file.namelist() if not name.endswith(".png")}
    layered.zipped(work / "a.kra", members)
    vault.create_snapshot(work)
    done = command("timeline", "work")
    assert (done.returncode, done.stderr) == (0, "")
    assert NO_PREVIEW in done.stdout
    [again] = creative.timeline(vault, "work")
    assert (again.reason.endswith(NO_PREVIEW), again.is_bad) == (True, False)
