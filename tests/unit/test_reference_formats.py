"""Each format's references are found as they are written, and written anew without touching any other byte."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import reference_files as made

from gitvault.errors import ToolMissing, UnsupportedMedia
from gitvault.formats import format_of
from gitvault.formats.references import kra, markup, scan, spans, usd

CASES: dict[str, tuple[str, bytes, list[tuple[str, str]]]] = {
    "gltf": (
        "s.gltf",
        made.GLTF,
        [("data/my%20mesh.bin", "buffer"), ("tex/a.png", "image"), ("tex/b%20c.png", "image")],
    ),
    "glb": (
        "s.glb",
        made.glb(),
        [("data/my%20mesh.bin", "buffer"), ("tex/a.png", "image"), ("tex/b%20c.png", "image")],
    ),
    "obj": ("t.obj", made.OBJ, [("my wood.mtl", "material"), ("a.mtl", "material"), ("b.mtl", "material")]),
    "mtl": ("t.mtl", made.MTL, [("tex/a.png", "image"), ("tex/b c.png", "image"), ("tex\\leaf.<UDIM>.png", "image")]),
    "svg": (
        "d.svg",
        made.SVG,
        [
            ("look.css", "file"),
            ("fonts/f.woff", "font"),
            ("tex/p.png", "image"),
            ("more.css", "file"),
            ("tex/b%20c.png", "image"),
            ("/old/b c.png", "hint"),
            ("parts.svg#leaf", "drawing"),
            ("tex/m&m.png", "image"),
        ],
    ),
    "usd": (
        "l.usda",
        made.USDA,
        [
            ("./sub.usda", "scene"),
            ("set/a.usdz[in.png]", "scene"),
            ("w@y.usda", "scene"),
            ("tex/rock.<UDIM>.png", "image"),
        ],
    ),
    "maya": (
        "m.ma",
        made.MAYA,
        [("char.ma", "scene"), ('C:/art/"wood".png', "image"), ("sound/s.wav", "sound")],
    ),
    "aepx": ("c.aepx", made.AEPX, [("/art/clips/a & b.mov", "file")]),
    "premiere": ("c.prproj", made.premiere(), [("../clips/a.mov", "hint"), ("C:\\art\\clips\\a.mov", "file")]),
    "godot": ("n.tscn", made.GODOT, [("res://tex/a.png", "image"), ("res://parts/tree.tscn", "scene")]),
    "unity": ("m.mat", made.UNITY, [(f"guid:{made.GUID}", "file")]),
    "unreal": ("t.umap", made.UNREAL, [("/Game/Props/Oak", "file")]),
    "kra": ("p.kra", made.kra(), [("../tex/a & b.png", "image")]),
    "psd": (
        "p.psd",
        made.psd({"fullPath": "file:///art/a.png", "relPath": "a.png"}),
        [("file:///art/a.png", "hint"), ("a.png", "image")],
    ),
    "blend": (
        "b.blend",
        made.blend(
            {"a": ("//tex/a.png", 1), "f": ("//f_0001.png", 2), "packed": ("//p.png", 1), "made": ("//g.png", 4)}
        ),
        [("//tex/a.png", "image"), ("//f_0001.png", "sequence"), ("//..\\lib\\props.blend", "library")],
    ),
}
WRITABLE = [name for name in CASES if name not in ("unity", "unreal")]
NEW = {"svg": "neu/{}-ü&{}.png", "obj": "neu/{}-ü&{}.mtl", "godot": "res://neu/{} ü & <{}>.png"}
INSIDE: dict[str, Callable[[bytes], bytes]] = {"premiere": gzip.decompress}


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, content, _ = CASES[request.param]
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def targets(path: Path) -> list[tuple[str, str]]:
    found = format_of(path)
    assert found
    assert found.references
    return [(reference.target, reference.kind) for reference in found.references(path)]


@pytest.mark.parametrize("file", CASES, indirect=True)
def test_references_are_found_as_they_are_written(file: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["file"]
    assert targets(file) == CASES[name][2]
    assert scan.scan(str(file))[0] == name


@pytest.mark.parametrize("file", WRITABLE, indirect=True)
def test_written_anew_and_back_a_file_is_the_same_byte_for_byte(file: Path, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["file"]
    found = format_of(file)
    assert found
    assert found.rewrite
    new = {
        old: NEW.get(name, "neu/{} ü & <{}>.png").format(number, number)
        for number, (old, _) in enumerate(CASES[name][2])
    }
    back = {changed: old for old, changed in new.items()}
    there, again = file.with_name("there" + file.suffix), file.with_name("again" + file.suffix)
    before = file.read_bytes()
    assert found.rewrite(file, new, there) >= len(new)
    assert [target for target, _ in targets(there)] == [new[old] for old, _ in CASES[name][2]]
    assert found.rewrite(there, back, again) >= len(new)
    inside = INSIDE.get(name, bytes)
    if name == "glb":
        # Blanks fill a chunk up.
        assert again.read_bytes().replace(b" ", b"") == before.replace(b" ", b"")
    else:
        assert inside(again.read_bytes()) == inside(before)
    assert file.read_bytes() == before


def test_a_glb_keeps_its_other_chunks(tmp_path: Path) -> None:
    (tmp_path / "s.glb").write_bytes(made.glb())
    assert (
        scan.rewrite(str(tmp_path / "s.glb"), '{"tex/a.png": "a/much/longer/name.png"}', str(tmp_path / "o.glb")) == 1
    )
    after = (tmp_path / "o.glb").read_bytes()
    assert after.endswith(made.glb()[-16:])
    assert int.from_bytes(after[8:12], "little") == len(after)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_krita_document_keeps_its_other_members_and_its_packing(tmp_path: Path, packing: int) -> None:
    (tmp_path / "p.kra").write_bytes(made.kra(packing=packing))
    scan.rewrite(str(tmp_path / "p.kra"), '{"../tex/a & b.png": "x.png"}', str(tmp_path / "o.kra"))
    with zipfile.ZipFile(tmp_path / "p.kra") as before, zipfile.ZipFile(tmp_path / "o.kra") as after:
        assert after.testzip() is None
        assert after.comment == b"a comment"
        assert after.namelist() == before.namelist()
        assert [one.compress_type for one in after.infolist()] == [one.compress_type for one in before.infolist()]
        assert after.read("pic/layers/layer2") == before.read("pic/layers/layer2")
    assert targets(tmp_path / "o.kra") == [("x.png", "image")]


@pytest.mark.parametrize("large", [False, True])
def test_photoshop_documents_are_read_by_another_reader_afterwards(tmp_path: Path, large: bool) -> None:
    from psd_tools.psd import PSD
    from psd_tools.psd.tagged_blocks import Tag

    path, out = tmp_path / "p.psd", tmp_path / "o.psd"
    path.write_bytes(made.psd({"relPath": "a.png"}, large=large))
    assert scan.rewrite(str(path), '{"a.png": "../lib/änother.png"}', str(out)) == 2
    assert targets(out) == [("../lib/änother.png", "image")]
    with open(out, "rb") as file:
        layers = PSD.read(file).layer_and_mask_information
    assert layers.tagged_blocks is not None
    assert {Tag.PATTERNS1, Tag.FILTER_MASK} <= set(layers.tagged_blocks)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_a_blender_file_keeps_its_packing_and_older_ones_call_the_path_a_name(tmp_path: Path, packing: str) -> None:
    import zstandard

    plain = made.blend({"a": ("//a.png", 1)}, old=packing == "gzip")
    packed = gzip.compress(plain) if packing == "gzip" else zstandard.compress(plain)
    (tmp_path / "b.blend").write_bytes(packed)
    assert scan.rewrite(str(tmp_path / "b.blend"), '{"//a.png": "//tex/b.png"}', str(tmp_path / "o.blend")) == 1
    assert ("//tex/b.png", "image") in targets(tmp_path / "o.blend")
    assert (tmp_path / "o.blend").read_bytes()[:2] == packed[:2]
    with pytest.raises(UnsupportedMedia, match="longer than the 1023 bytes"):
        scan.rewrite(str(tmp_path / "b.blend"), f'{{"//a.png": "//{"x" * 1030}"}}', str(tmp_path / "long.blend"))


def test_a_binary_usd_layer_is_read_and_written_by_usd(tmp_path: Path) -> None:
    sdf = pytest.importorskip("pxr.Sdf")
    layer = sdf.Layer.CreateAnonymous(".usda")
    layer.ImportFromString(made.USDA.replace(b"[in.png]", b"").decode())
    layer.Export(str(tmp_path / "l.usdc"))
    path, out = tmp_path / "l.usdc", tmp_path / "o.usdc"
    assert path.read_bytes().startswith(b"PXR-USDC")
    assert sorted(one.target for one in usd.references(path)) == [
        "./sub.usda",
        "set/a.usdz",
        "tex/rock.<UDIM>.png",
        "w@y.usda",
    ]
    assert usd.rewrite(path, {"./sub.usda": "other.usda"}, out) == 1
    assert "other.usda" in {one.target for one in usd.references(out)}
    path.write_bytes(b"PXR-USDC" + bytes(100))
    with pytest.raises(UnsupportedMedia, match="USD cannot read it"):
        usd.references(path)


def test_without_usd_a_binary_layer_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pxr.Sdf", None)
    (tmp_path / "l.usdc").write_bytes(b"PXR-USDC" + bytes(100))
    with pytest.raises(ToolMissing, match=r"pip install 'gitvault\[usd\]'"):
        usd.references(tmp_path / "l.usdc")


def cut_zip(comment: bytes = b"") -> bytes:
    """With a data descriptor, as it is written to a pipe."""
    out = io.BytesIO()

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            return out.write(data)  # type: ignore[arg-type]

    with zipfile.ZipFile(Pipe(), "w") as archive:  # type: ignore[arg-type]
        archive.writestr("mimetype", "application/x-krita")
        archive.writestr("maindoc.xml", '<layer nodetype="filelayer" source="a.png"/>')
    return out.getvalue()


BROKEN = {
    "a cut GLB": ("s.glb", made.glb()[:40], "cut off"),
    "a cut PSD": ("p.psd", made.psd({"relPath": "a"})[:60], "cut off"),
    "a PSD that ends in a length": ("p.psd", made.psd({"relPath": "a"})[:27], "cut off"),
    "a PSD of another make": (
        "p.psd",
        made.psd({"relPath": "a"}).replace(b"Patt\0\0\0\0", b"Patt\x7f\0\0\0"),
        "unknown make",
    ),
    "a cut Blender file": ("b.blend", made.blend({"a": ("//a", 1)})[:300], "not read as a Blender file"),
    "a Blender file of no packing": ("b.blend", b"\x28\xb5\x2f\xfd nothing", "cannot be unpacked"),
    "a cut Krita document": ("p.kra", made.kra()[:200], "cannot be read"),
    "a damaged Premiere project": ("c.prproj", made.premiere()[:-30] + bytes(30), "damaged"),
    "XML in UTF-16": ("d.svg", "\ufeff<svg/>".encode("utf-16-le"), "UTF-16"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_with_a_reason(tmp_path: Path, case: str) -> None:
    from gitvault.formats import formats

    name, content, reason = BROKEN[case]
    (tmp_path / name).write_bytes(content)
    known = next(one for one in formats() if (tmp_path / name).suffix in one.extensions)
    assert known.references
    with pytest.raises(UnsupportedMedia, match=reason):
        known.references(tmp_path / name)


def test_what_cannot_be_written_anew_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.mat").write_bytes(made.UNITY)
    with pytest.raises(UnsupportedMedia, match="Unity scene or asset: its references cannot be written anew"):
        scan.rewrite(str(tmp_path / "m.mat"), "{}", str(tmp_path / "o.mat"))
    (tmp_path / "p.kra").write_bytes(cut_zip())
    with pytest.raises(UnsupportedMedia, match="of another make"):
        kra.rewrite(tmp_path / "p.kra", {"a.png": "b.png"}, tmp_path / "o.kra")
    (tmp_path / "l.usda").write_bytes(made.USDA)
    with pytest.raises(UnsupportedMedia, match="a name with @"):
        usd.rewrite(tmp_path / "l.usda", {"./sub.usda": "a@b.usda"}, tmp_path / "o.usda")


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gitvault.formats.references import psd

    (tmp_path / "t.obj").write_bytes(made.OBJ)
    (tmp_path / "c.prproj").write_bytes(made.premiere())
    (tmp_path / "p.kra").write_bytes(made.kra())
    (tmp_path / "p.psd").write_bytes(made.psd({"relPath": "a"}))
    monkeypatch.setattr(spans, "LIMIT", 10)
    monkeypatch.setattr(markup, "LIMIT", 10)
    monkeypatch.setattr(kra, "LIMIT", 10)
    monkeypatch.setattr(psd, "_LIMIT", 10)
    for name, reason in (
        ("t.obj", "looked for in 1 GiB"),
        ("c.prproj", "when unpacked"),
        ("p.kra", "a document of"),
        ("p.psd", "bytes of links"),
    ):
        with pytest.raises(UnsupportedMedia, match=reason):
            targets(tmp_path / name)


def test_endless_tags_and_quotes_take_no_time(tmp_path: Path) -> None:
    """A quote that never ends is looked for once for each tag: bounded by the reader's time limit, fast in practice."""
    (tmp_path / "d.svg").write_bytes(b"<svg " + b"a='" * 20_000)
    (tmp_path / "l.usda").write_bytes(b"#usda 1.0\n" + b'"""' * 20_001)
    (tmp_path / "s.gltf").write_bytes(b'{"asset"' + b'"\\' * 50_000 + b" ")
    for name in ("d.svg", "l.usda", "s.gltf"):
        assert targets(tmp_path / name) == []
