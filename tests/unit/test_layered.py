"""What each layered format needs for itself: what comes along, what is refused and why."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import layered
import pytest
from layered import HILL, SKY, TREE

from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError, ToolFailed, ToolMissing, UnsupportedMedia
from gitvault.formats import format_of, formats
from gitvault.formats.elements import extracted, family, find, listed, prove, spliced, witnessed
from gitvault.formats.layered import archive, exr, painting, psd, psd_file, svg, tiff, xcf
from gitvault.formats.layered.markup import Node, edited, indent_of, inserted, parse
from gitvault.formats.mapping import mapped
from gitvault.formats.witness import exr as exr_witness
from gitvault.formats.witness import painting as painting_witness
from gitvault.formats.witness.zipped import member_hash

OLD, NOW = {SKY: 10, HILL: 100, TREE: 200}, {SKY: 17, HILL: 120, TREE: 220}


def refused(action: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(UnsupportedMedia) as said:
        action(*arguments)
    assert "\n" not in str(said.value)
    return str(said.value)


def proven(old: Path, name: str, current: Path) -> Path:
    """The current file with an element of the old one, when the proof holds."""
    output = current.with_name("out" + current.suffix)
    element = find(listed(old), name, old.name).id
    spliced(current, old, element, output)
    proof = prove(
        witnessed(old),
        witnessed(current),
        witnessed(output),
        restored=family(listed(old), element),
        replaced=family(listed(current), element),
    )
    assert proof.holds
    return output


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# -- zip


def test_a_folder_of_an_archive_comes_with_all_that_is_in_it(tmp_path: Path) -> None:
    old = layered.zipped(tmp_path / "old.zip", {"a/": b"", "a/b/": b"", "a/b/x": b"1", "a/y": b"2", "z": b"3"})
    now = layered.zipped(tmp_path / "now.zip", {"a/": b"", "a/y": b"other", "a/new": b"4", "z": b"5"})
    assert [(e.id, e.name, e.kind, e.parent) for e in listed(old)][:2] == [
        ("a/", "a", "folder", None),
        ("a/b/", "b", "folder", "a/"),
    ]
    output = proven(old, "a/", now)
    with zipfile.ZipFile(output) as file:
        assert {name: file.read(name) for name in file.namelist()} == {
            "a/": b"",
            "a/b/": b"",
            "a/b/x": b"1",
            "a/y": b"2",
            "z": b"5",
        }
    assert refused(extracted, old, "a/", tmp_path / "x") == "a/: is a folder; extract its members"


def test_what_stands_before_and_behind_an_archive_stays(tmp_path: Path) -> None:
    old, now = layered.zip_file(tmp_path / "old.zip", OLD), tmp_path / "now.zip"
    with zipfile.ZipFile(now, "w") as file:
        for name in NOW:
            file.writestr(name, b"new", zipfile.ZIP_DEFLATED)
        file.comment = b"for the exhibition"
    now.write_bytes(b"PK\3\4" + b"#" * 500 + now.read_bytes())
    output = proven(old, SKY, now)
    assert output.read_bytes().startswith(b"PK\3\4" + b"#" * 500)
    with zipfile.ZipFile(output) as file:
        assert (file.comment, file.read(HILL), file.read(SKY)) == (b"for the exhibition", b"new", layered._flat(10))


def test_sizes_that_were_written_behind_a_member_are_known(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            streamed.extend(data)
            return len(data)

    streamed = bytearray()
    with zipfile.ZipFile(Pipe(), "w") as file:  # type: ignore[arg-type]
        for name, value in NOW.items():
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=name == HILL) as member:
                member.write(layered._flat(value))
    now = written(tmp_path / "now.zip", bytes(streamed))
    output = proven(layered.zip_file(tmp_path / "old.zip", OLD), TREE, now)
    with zipfile.ZipFile(output) as file:
        assert file.testzip() is None
        assert file.read(HILL) == layered._flat(120)


def test_archives_that_cannot_be_worked_on(tmp_path: Path) -> None:
    whole = layered.zip_file(tmp_path / "a.zip", {"x": 5}).read_bytes()
    central = whole.index(b"PK\1\2")

    def changed(*edits: tuple[int, bytes]) -> Path:
        data = bytearray(whole)
        for at, new in edits:
            data[at : at + len(new)] = new
        return written(tmp_path / "b.zip", bytes(data))

    assert "x: is encrypted" in refused(listed, changed((central + 8, b"\1\0")))
    assert "compressed by method 12" in refused(listed, changed((central + 10, b"\x0c\0")))
    assert "not what its size and checksum say" in refused(listed, changed((central + 16, b"abcd")))
    assert "not what its size and checksum say" in refused(listed, changed((central + 24, b"\1\0\0\0")))
    assert "its directory is damaged" in refused(listed, changed((central, b"XX")))
    assert "not where the directory says" in refused(listed, changed((central + 42, b"\1\0\0\0")))
    assert "not where it says" in refused(listed, changed((len(whole) - 6, b"\xff\xff\0\0")))
    assert "is cut off" in refused(listed, changed((central + 20, b"\xff\xff\0\0")))
    assert "no directory" in refused(listed, changed((len(whole) - 22, b"XX")))
    end64 = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 0, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    assert f"{1 << 40} members" in refused(archive.elements, written(tmp_path / "c.zip", end64 + locator + whole[-22:]))
    sizes = struct.pack("<2HQ", 1, 8, 1 << 40)
    bomb = bytearray(whole[:central] + whole[central:-22])
    bomb[central + 24 : central + 28] = b"\xff\xff\xff\xff"
    bomb[central + 30 : central + 32] = struct.pack("<H", len(sizes))
    bomb += sizes
    end = bytearray(whole[-22:])
    end[12:16] = struct.pack("<I", len(bomb) - central)
    assert "more than 64 GiB" in refused(listed, written(tmp_path / "d.zip", bytes(bomb + end)))
    with mapped(tmp_path / "a.zip") as view:
        member = archive.read(view).members[0]
        assert "expected at most 10" in refused(member.whole, 10)
        assert member.named(b"y").text == "y"
        assert b"".join(member.holding(b"new").content()) == b"new"
    assert archive.numbered(["a", "b", "a"]) == ["a", "b", "a#2"]
    assert archive.ids([member, member]) == ["x", "x#2"]


def test_an_archive_of_more_than_4_gib_is_written_in_the_long_form(tmp_path: Path) -> None:
    class Far(io.BytesIO):
        def tell(self) -> int:
            return super().tell() + (1 << 33)

    with mapped(layered.zip_file(tmp_path / "a.zip", OLD)) as view:
        read = archive.read(view)
        far = Far()
        archive.write(far, read.members, read)
    data = far.getvalue()
    assert struct.pack("<2HQ", 1, 8, 1 << 33) in data
    assert b"PK\6\6" in data
    assert b"PK\6\7" in data


# -- Krita, OpenRaster


def test_only_what_says_so_is_a_krita_document(tmp_path: Path) -> None:
    real = layered.kra_file(tmp_path / "a.kra", OLD)
    parts = {"mimetype": b"application/x-krita", "maindoc.xml": b"<DOC/>"}
    deflated = layered.zipped(tmp_path / "b.kra", parts, stored=())
    found = [format_of(path) for path in (real, deflated)]
    assert [one.name for one in found if one] == ["kra", "kra"]
    broken = bytearray(deflated.read_bytes())
    broken[38:42] = b"\xff\xff\xff\xff"
    other = format_of(written(tmp_path / "c.kra", bytes(broken)))
    assert other
    assert other.name == "zip"
    assert "no list of layers" in refused(listed, deflated)


def _krita(path: Path, document: str, **files: bytes) -> Path:
    text = f'<DOC><IMAGE name="forest"><layers>{document}</layers></IMAGE></DOC>'
    members = {f"forest/layers/{name}": data for name, data in files.items()}
    parts = {"mimetype": b"application/x-krita", "maindoc.xml": text.encode(), **members}
    styles = {"forest/annotations/layerstyles.asl": files["styles"]} if "styles" in files else {}
    return layered.zipped(path, {**parts, **styles})


def test_a_group_comes_with_its_layers_and_their_frames(tmp_path: Path) -> None:
    frames = b'<keyframes><channel><keyframe frame="layer3.f1"/></channel></keyframes>'
    group = '<layer name="Trees" uuid="g" nodetype="grouplayer" filename="layer2"><layers>{}</layers></layer>'
    oak = '<layer name="Oak" uuid="o" filename="layer3" nodetype="paintlayer"/>'
    sky = '<layer name="Sky" uuid="s" filename="layer3" nodetype="paintlayer"/>'
    files = {"layer3": b"oak", "layer3.f1": b"frame", "layer3.keyframes.xml": frames}
    old = _krita(tmp_path / "old.kra", group.format(oak), **files)
    now = _krita(tmp_path / "now.kra", sky, layer3=b"sky")
    output = proven(old, "Trees", now)
    with zipfile.ZipFile(output) as file:
        assert file.read("forest/layers/layer3") == b"sky"
        assert file.read("forest/layers/layer1001") == b"oak"
        assert b'frame="layer1001.f1"' in file.read("forest/layers/layer1001.keyframes.xml")
        assert file.read("forest/layers/layer1001.f1") == b"frame"
    inside = _krita(tmp_path / "inside.kra", group.format(""))
    assert [e.parent for e in listed(proven(old, "Oak", inside))] == [None, "g"]
    without = group.replace("<layers>{}</layers>", "")
    assert [e.parent for e in listed(proven(old, "Oak", _krita(tmp_path / "bare.kra", without)))] == [None, "g"]


def test_what_krita_documents_refuse(tmp_path: Path) -> None:
    clone = '<layer name="Twin" uuid="t" nodetype="clonelayer" clonefromuuid="o" clonefrom="Oak"/>'
    oak = '<layer name="Oak" uuid="o" nodetype="paintlayer"/>'
    styled = '<layer name="Lit" uuid="l" layerstyle="{1}" nodetype="paintlayer"/>'
    group = f'<layer name="Trees" uuid="g" nodetype="grouplayer"><layers>{oak}</layers></layer>'
    old = _krita(tmp_path / "old.kra", clone + group + styled, styles=b"1")
    empty = _krita(tmp_path / "now.kra", "")
    output = tmp_path / "out.kra"
    assert refused(spliced, empty, old, "t", output) == (
        "Twin: is a clone of Oak, which is not in now.kra; restore that"
    )
    assert "those of now.kra are others" in refused(spliced, empty, old, "l", output)
    assert "what it was in is not in now.kra; restore that: g" in refused(spliced, empty, old, "o", output)
    other = _krita(tmp_path / "now.kra", oak)
    assert "a layer that is in it is elsewhere in now.kra" in refused(spliced, other, old, "g", output)
    other = _krita(tmp_path / "now.kra", '<layer name="Trees" uuid="g" nodetype="paintlayer"/>')
    assert "is a group in one file and a layer in the other" in refused(spliced, other, old, "g", output)
    whole = layered.kra_file(tmp_path / "a.kra", OLD)
    mask = find(listed(whole), "Sky mask", "a.kra").id
    assert "a mask is no document" in refused(extracted, whole, mask, output)
    assert "give OUT the extension .kra" in refused(extracted, whole, layered._uuid(SKY), tmp_path / "out.png")
    assert painting.elements(whole)[0].name == SKY


# -- SVG


def _svg(path: Path, inside: str, before: str = "") -> Path:
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return written(path, f"{before}<svg {names}>{inside}</svg>")


LIGHT = '<linearGradient id="light"><stop/></linearGradient>'


def test_what_an_svg_element_refers_to_comes_along(tmp_path: Path) -> None:
    glow = '<linearGradient id="glow" xlink:href="#light"/>'
    shape = '<g id="a"><rect id="b" fill="url(#glow)" class="x"/></g>'
    old = _svg(tmp_path / "old.svg", f"<defs>{LIGHT}{glow}</defs>{shape}<style>.x {{fill: red}}</style>")
    now = _svg(tmp_path / "now.svg", '<defs/><style>.x {fill:  red} .y {fill: blue}</style><g id="c"/>')
    text = proven(old, "a", now).read_text()
    assert text.count("<defs>") == text.count("</defs>") == 1
    assert {e.id for e in listed(tmp_path / "out.svg")} == {"light", "glow", "a", "b", "c"}
    proven(old, "a", _svg(tmp_path / "now.svg", "<style>.x {fill: red}</style>"))
    assert "<defs><linearGradient" in (tmp_path / "out.svg").read_text()
    svg.extract(old, "b", tmp_path / "part.svg")
    assert {e.id for e in listed(tmp_path / "part.svg")} == {"light", "glow", "a", "b"}
    assert [e.kind for e in svg.elements(old)] == ["linearGradient", "linearGradient", "group", "rect"]


def test_prefixes_of_another_drawing_are_declared(tmp_path: Path) -> None:
    old = written(
        tmp_path / "old.svg",
        '<s:svg xmlns:s="http://www.w3.org/2000/svg" xmlns:i="urn:i"><s:g id="a" i:label="A"/></s:svg>',
    )
    now = _svg(tmp_path / "now.svg", '<g id="c"/>')
    assert '<s:g xmlns:i="urn:i" xmlns:s="http://www.w3.org/2000/svg" id="a"' in proven(old, "a", now).read_text()


@pytest.mark.parametrize(
    "old, now, element, said",
    [
        ('<g id="a"/>', '<g id="a"/><g id="a"/>', "a", "the id is there more than once"),
        ('<g id="a"><g id="b"/></g>', '<g id="b"/>', "a", "b, which is in it, is elsewhere in now.svg"),
        ('<g id="o"><g id="a"/></g>', "", "a", "what it is in, o, is not in now.svg"),
        ('<g id="a" fill="url(#light)"/>' + LIGHT, '<linearGradient id="light"/>', "a", "refers to light, which is"),
        (
            '<g id="a" class="x"/><style>.x {fill: red}</style>',
            "<style>.x{fill: blue}</style>",
            "a",
            "sheet has it for .x",
        ),
    ],
)
def test_what_drawings_refuse(tmp_path: Path, old: str, now: str, element: str, said: str) -> None:
    theirs, ours = _svg(tmp_path / "old.svg", old), _svg(tmp_path / "now.svg", now)
    assert said in refused(spliced, ours, theirs, element, tmp_path / "out.svg")


def test_what_else_drawings_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = written(tmp_path / "root.svg", '<svg id="r" xmlns="http://www.w3.org/2000/svg"/>')
    output = tmp_path / "out.svg"
    assert "is the whole drawing" in refused(spliced, root, root, "r", output)
    svg.extract(root, "r", output)
    assert output.read_bytes() == root.read_bytes()
    entity = _svg(tmp_path / "e.svg", '<g id="a" fill="&c;"/>', '<!DOCTYPE svg [<!ENTITY c "red">]>')
    now = _svg(tmp_path / "now.svg", "")
    assert "has entities of its document type" in refused(spliced, now, entity, "a", output)
    latin = written(
        tmp_path / "l.svg", '<?xml version="1.0" encoding="latin-1"?><svg><g id="\xe9"/></svg>'.encode("latin-1")
    )
    assert "in different encodings" in refused(spliced, now, latin, "\xe9", output)
    hidden = _svg(tmp_path / "h.svg", "&c;", "<!DOCTYPE svg [<!ENTITY c \"<g id='a'/>\">]>")
    assert "comes from an entity" in refused(listed, hidden)
    assert "inside each other" in refused(listed, _svg(tmp_path / "deep.svg", "<g>" * 3000 + "</g>" * 3000))
    assert "not well-formed" in refused(listed, _svg(tmp_path / "bad.svg", "<g"))
    monkeypatch.setattr(svg, "_LARGEST", 10)
    assert "expected at most 10" in refused(listed, now)
    with pytest.raises(ValueError, match="two changes"):
        edited(b"abc", [(0, 2, b""), (1, 3, b"")])
    assert [node.tag for node in parse(b"<a><b/></a>").walk()] == ["a", "b"]


# -- TIFF


def test_thumbnails_and_exif_go_with_their_page(tmp_path: Path) -> None:
    from PIL import Image, TiffImagePlugin

    def page(path: Path, maker: str, big: bool = False) -> Path:
        picture = Image.frombytes("L", (24, 16), layered._flat(len(maker)))
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[0x8769] = {37510: maker.encode() * 5}
        picture.save(path, "TIFF", tiffinfo=tags, big_tiff=big)
        return path

    for big in (False, True):
        old, now = page(tmp_path / "old.tif", "Sofia", big), page(tmp_path / "now.tif", "somebody", big)
        output = proven(old, "1", now)
        with Image.open(output) as picture:
            assert picture.getexif().get_ifd(0x8769)[37510] == b"SofiaSofiaSofiaSofiaSofia"
    assert "byte order or kind" in refused(spliced, page(tmp_path / "now.tif", "x"), old, "1", tmp_path / "o.tif")


def test_what_tiff_files_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, one = layered.tiff_file(tmp_path / "old.tif", OLD), layered.tiff_file(tmp_path / "one.tif", {SKY: 1})
    output = tmp_path / "out.tif"
    assert "so nothing can become its page 3" in refused(spliced, one, old, "3", output)

    def directory(*entries: tuple[int, int, int, int], following: int = 0) -> Path:
        rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        return written(tmp_path / "made.tif", head + rows + struct.pack("<I", following) + bytes(64))

    assert "version 41" in refused(tiff.elements, written(tmp_path / "v.tif", b"II\x29\0" + bytes(90)))
    assert "lead in a circle" in refused(listed, directory((256, 3, 1, 1), following=8))
    assert "JPEG of the old kind" in refused(listed, directory((259, 3, 1, 6)))
    assert "whole numbers expected" in refused(listed, directory((259, 2, 1, 6)))
    assert "the unknown type 99" in refused(listed, directory((259, 99, 1, 6)))
    assert "bytes expected at" in refused(listed, directory((270, 2, 90, 6000)))
    assert "inside each other" in refused(listed, directory((34665, 4, 1, 8)))
    assert "not as many as their lengths" in refused(listed, directory((273, 4, 1, 8), (279, 4, 0, 8)))
    wide = written(tmp_path / "w.tif", struct.pack("<2sHIH", b"II", 42, 8, 60000) + bytes(90))
    assert "a page with 60000 tags" in refused(listed, wide)

    class Far(io.BytesIO):
        def tell(self) -> int:
            return super().tell() + (1 << 32)

    plainly = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: plainly(self, mode) if mode == "rb" else Far())
    assert "only a BigTIFF" in refused(tiff.extract, old, "1", output)


# -- EXR


def _exr(path: Path, parts: dict[str, dict[str, Any]], **header: object) -> Path:
    import OpenEXR

    made = [
        OpenEXR.Part({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION, **header}, channels, name)
        for name, channels in parts.items()
    ]
    OpenEXR.File(made).write(str(path))
    return path


def test_parts_of_an_exr_come_back_whole(tmp_path: Path) -> None:
    import numpy

    def flat(value: float) -> dict[str, Any]:
        return {"beauty.R": numpy.full((6, 8), value, numpy.float32), "Z": numpy.full((6, 8), value, numpy.uint32)}

    old = _exr(tmp_path / "old.exr", {"left": flat(1), "right": flat(2)}, owner="Sofia")
    now = _exr(tmp_path / "now.exr", {"left": flat(3), "right": flat(4)})
    output = proven(old, "left", now)
    assert [e.id for e in exr.elements(output)][:4] == ["left", "left/base", "left/beauty", "right"]
    proven(old, "left/base", now)
    only = _exr(tmp_path / "now.exr", {"right": flat(4)})
    assert [e.id for e in listed(proven(old, "left", only)) if e.kind == "part"] == ["left", "right"]
    assert "restore that: left" in refused(spliced, only, old, "left/base", tmp_path / "out.exr")
    extracted(old, "left/beauty", tmp_path / "beauty.exr")
    assert [e.name for e in listed(tmp_path / "beauty.exr")] == ["left", "beauty"]


def test_what_exr_images_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy
    import OpenEXR

    pixels = {"R": numpy.zeros((8, 8), numpy.float16)}
    old = _exr(tmp_path / "old.exr", {"a": pixels})
    output = tmp_path / "out.exr"
    losing = _exr(tmp_path / "b44.exr", {"a": pixels}, compression=OpenEXR.B44_COMPRESSION)
    assert "B44_COMPRESSION loses" in refused(spliced, losing, old, "a/base", output)
    other = _exr(tmp_path / "other.exr", {"a": {"R": numpy.zeros((4, 4), numpy.float16)}})
    assert "are not at the same place" in refused(spliced, other, old, "a/base", output)
    levels = tmp_path / "levels.exr"
    tiles = OpenEXR.TileDescription()
    tiles.xSize = tiles.ySize = 4
    tiles.mode = OpenEXR.MIPMAP_LEVELS
    OpenEXR.File({"type": OpenEXR.tiledimage, "tiles": tiles}, pixels).write(str(levels))
    assert "more than one level" in refused(listed, levels)
    deep = numpy.empty((4, 4), object)
    for place in numpy.ndindex(4, 4):
        deep[place] = numpy.ones(2, numpy.float32)
    OpenEXR.File({"type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}, {"Z": deep}).write(
        str(levels)
    )
    assert "is deep" in refused(listed, levels)
    assert "OpenEXR cannot write it" in refused(exr.extract, old, "a", tmp_path / "missing" / "x.exr")
    monkeypatch.setattr(exr, "_LARGEST", 10)
    assert "expected at most 10" in refused(listed, old)


# -- PSD

UUID = b"5a96c404-ab9c-1177-97ef-96ca454b82b7"


def _linked(content: bytes, name: str = "leaf.png") -> bytes:
    text = name.encode("utf-16-be")
    head = b"liFD" + struct.pack(">I", 2) + bytes((len(UUID),)) + UUID + struct.pack(">I", len(name)) + text
    compound = struct.pack(">I", 16) + struct.pack(">I", 0) + struct.pack(">I", 0) + b"null" + struct.pack(">I", 1)
    compound += struct.pack(">I", 8) + b"compInfo"[:8] + b"long" + struct.pack(">I", 7)
    return head + b"png 8BIM" + struct.pack(">QB", len(content), 1) + compound + content


def _pattern(value: int) -> bytes:
    name = b"p-1"
    return struct.pack(">2I2hI", 1, 3, 4, 4, 0) + bytes((len(name),)) + name + bytes((value,)) * 9


def _psd(path: Path, change: Callable[[psd_file.Document], psd_file.Document], colors: layered.Colors = OLD) -> Path:
    layered.psd_file(path, colors)
    data = path.read_bytes()
    with path.open("wb") as file:
        psd_file.write(file, change(psd_file.read(memoryview(data))))
    return path


def _block(key: bytes, data: bytes) -> psd_file.Block:
    return psd_file.made(key, data, False)


def _with(document: psd_file.Document, name: str, *blocks: psd_file.Block) -> psd_file.Document:
    layers = tuple(replace(one, blocks=(*one.blocks, *blocks)) if one.name == name else one for one in document.layers)
    return replace(document, layers=layers)


def _smart(content: bytes, pattern: int = 1, also: str = "") -> Callable[[psd_file.Document], psd_file.Document]:
    def change(document: psd_file.Document) -> psd_file.Document:
        for name in (HILL, also):
            document = _with(document, name, _block(b"SoLd", b"soLD" + UUID.decode().encode("utf-16-be") + b"p-1 "))
        linked = psd_file.write_items(_block(b"lnk2", b""), [_linked(content)], False)
        patterns = psd_file.write_items(_block(b"Patt", b""), [_pattern(pattern)], False)
        return replace(document, blocks=(*document.blocks, linked, patterns))

    return change


def test_a_smart_object_comes_with_its_file_and_its_patterns(tmp_path: Path) -> None:
    old, now = _psd(tmp_path / "old.psd", _smart(b"first leaf")), _psd(tmp_path / "now.psd", _smart(b"second", 2), NOW)
    assert [(e.name, e.kind) for e in psd.elements(old) if e.kind in ("smart-object", "linked-file")] == [
        (HILL, "smart-object"),
        ("leaf.png", "linked-file"),
    ]
    content = find(listed(old), "leaf.png", "old.psd").id
    assert listed(proven(old, HILL, now)) != listed(now)
    extracted(proven(old, HILL, now), content, tmp_path / "leaf.png")
    assert (tmp_path / "leaf.png").read_bytes() == b"first leaf"
    extracted(proven(old, content, _psd(tmp_path / "now.psd", _smart(b"second"), NOW)), content, tmp_path / "leaf.png")
    assert (tmp_path / "leaf.png").read_bytes() == b"first leaf"
    plain = layered.psd_file(tmp_path / "plain.psd", NOW)
    proven(old, HILL, plain)
    assert "shows no file; restore the layer" in refused(spliced, plain, old, content, tmp_path / "o.psd")
    shared = _psd(tmp_path / "now.psd", _smart(b"second", also=SKY), NOW)
    assert "other layers use the file" in refused(spliced, shared, old, HILL, tmp_path / "o.psd")
    extracted(old, HILL, tmp_path / "hill.psd")
    assert [e.name for e in listed(tmp_path / "hill.psd")] == [HILL, f"{HILL} (mask)", "leaf.png"]

    def outside(document: psd_file.Document) -> psd_file.Document:
        blocks = [block for block in _smart(b"")(document).blocks if block.key != b"lnk2"]
        external = _linked(b"").replace(b"liFD", b"liFE")
        return replace(
            _smart(b"")(document), blocks=(*blocks, psd_file.write_items(_block(b"lnkE", b""), [external], False))
        )

    assert "is a file outside of" in refused(extracted, _psd(tmp_path / "e.psd", outside), content, tmp_path / "x")


def test_descriptions_of_linked_files_are_read_over() -> None:
    assert psd_file.linked_name(_linked(b"x", "Blatt.png")) == "Blatt.png"
    assert psd_file.linked_file(_linked(b"content")) == b"content"
    with pytest.raises(ValueError, match="cut off"):
        psd_file.linked_file(_linked(b"content")[:-3])
    with pytest.raises(ValueError, match="a descriptor with b'VlLs'"):
        psd_file.linked_file(_linked(b"content").replace(b"long", b"VlLs"))
    kinds = {b"doub": 8, b"bool": 1, b"TEXT": 4, b"enum": 16}
    for kind, length in kinds.items():
        data = _linked(b"content").replace(
            b"long\0\0\0\7", kind + (b"\0\0\0\4abcd" * 2 if kind == b"enum" else bytes(length))
        )
        assert psd_file.linked_file(data) == b"content", kind
    nested = struct.pack(">I", 0) * 2 + b"null" + struct.pack(">I", 0)
    assert psd_file.linked_file(_linked(b"content").replace(b"long\0\0\0\7", b"Objc" + nested)) == b"content"
    assert psd_file.item_name(_block(b"lnk2", b""), _linked(b"")) == UUID
    assert len(psd_file.items(psd_file.write_items(_block(b"Patt", b""), [_pattern(1), _pattern(2)], False))) == 2


def _vector(value: int) -> Callable[[psd_file.Document], psd_file.Document]:
    return lambda document: _with(document, HILL, _block(b"vmsk", bytes((value,)) * 8))


def test_masks_come_alone(tmp_path: Path) -> None:
    old, now = _psd(tmp_path / "old.psd", _vector(1)), _psd(tmp_path / "now.psd", _vector(2), NOW)
    for mask in (f"{HILL} (mask)", f"{HILL} (vector mask)"):
        output = proven(old, mask, now)
        changed = {e.name for e, was in zip(listed(output), listed(now), strict=True) if e.hash != was.hash}
        assert changed == {mask}
    proven(old, f"{HILL} (vector mask)", layered.psd_file(tmp_path / "now.psd", NOW))
    gone = layered.psd_file(tmp_path / "now.psd", {SKY: 1})
    assert "its layer is not in now.psd" in refused(spliced, gone, old, f"{HILL}/mask", tmp_path / "o.psd")
    assert "a mask is no document" in refused(extracted, old, f"{HILL}/mask", tmp_path / "o.psd")
    assert "the extension .psd or .psb" in refused(extracted, old, HILL, tmp_path / "o.png")


def _grouped(path: Path, inside: tuple[str, ...], outside: tuple[str, ...]) -> Path:
    from PIL import Image
    from psd_tools import PSDImage

    document = PSDImage.new("RGB", (32, 24))
    made = [document.create_pixel_layer(Image.new("RGB", (9, 9), len(name)), name=name) for name in (*inside, *outside)]
    document.create_group(made[: len(inside)], name="Trees")
    document.save(path)
    with mapped(path) as view:
        read = psd_file.read(view)
        resources = (
            (1026, b"8BIM\4\2\0\0", b"\0\1" * len(read.layers)),
            (1072, b"8BIM\4\x30\0\0", b"\1" * len(read.layers)),
        )
        whole = replace(read, resources=(*read.resources, *resources))
        parts = io.BytesIO()
        psd_file.write(parts, whole)
    return written(path, parts.getvalue())


def test_groups_come_with_what_is_in_them_and_lists_of_layers_fit(tmp_path: Path) -> None:
    old = _grouped(tmp_path / "old.psd", ("Oak", "Elm"), ("Sky",))
    gone = layered.psd_file(tmp_path / "gone.psd", {"Sky": 1})
    output = proven(old, "Trees", gone)
    assert [e.id for e in listed(output) if e.kind != "mask"] == [e.id for e in listed(old) if e.kind != "mask"]
    other = _grouped(tmp_path / "now.psd", ("Oak",), ("Sky",))
    output = proven(old, "Trees/Elm", other)
    with mapped(output) as view:
        read = psd_file.read(view)
        sizes = {number: len(content) for number, _, content in read.resources if number in (1026, 1072)}
        assert sizes == {1026: 2 * len(read.layers), 1072: len(read.layers)}
    assert "its group is not in gone.psd; restore that: Trees" in refused(
        spliced, gone, old, "Trees/Elm", tmp_path / "o.psd"
    )
    flat = layered.psd_file(tmp_path / "flat.psd", {"Trees": 1})
    assert "is a group in one file and a layer in the other" in refused(spliced, flat, old, "Trees", tmp_path / "o.psd")


def test_what_documents_refuse(tmp_path: Path) -> None:
    text = _psd(
        tmp_path / "old.psd",
        lambda d: replace(_with(d, HILL, _block(b"TySh", b"x")), blocks=(_block(b"Txt2", b"1 2 "),)),
    )
    now, output = layered.psd_file(tmp_path / "now.psd", NOW), tmp_path / "o.psd"
    assert "holds for all texts together, which changed" in refused(spliced, now, text, HILL, output)
    filtered = _psd(
        tmp_path / "f.psd",
        lambda d: replace(_with(d, HILL, _block(b"SoLd", b"filterFX")), blocks=(_block(b"FEid", b"1 2 "),)),
    )
    assert "holds for all smart filters together" in refused(spliced, now, filtered, HILL, output)
    grey = tmp_path / "grey.psd"
    data = now.read_bytes()
    written(grey, data[:24] + b"\0\1" + data[26:])
    assert "depth, colour mode or kind" in refused(spliced, grey, now, HILL, output)
    assert "version 9" in refused(listed, written(tmp_path / "v.psd", b"8BPS\0\x09" + bytes(90)))
    at = data.index(b"8BIMnorm") if b"8BIMnorm" in data else data.index(b"8BIM")
    assert "has no blend mode" in refused(listed, written(tmp_path / "b.psd", data[:at] + b"XXXX" + data[at + 4 :]))


def test_deep_colours_and_large_documents(tmp_path: Path) -> None:
    """16 and 32 bits have their layers in a block; a PSB has longer numbers."""
    base = layered.psd_file(tmp_path / "a.psd", OLD)
    with mapped(base) as view:
        plain = psd_file.read(view)
        for wide in (False, True):
            for depth, key in ((8, b""), (16, b"Lr16"), (32, b"Lr32")):
                head = b"8BPS" + struct.pack(">H", 1 + wide) + bytes(plain.head[6:22]) + struct.pack(">HH", depth, 3)
                merged = psd_file.blank(head)
                paths = []
                for name, opacity in (("old", 90), ("now", 60)):
                    layers = tuple(
                        replace(one, look=bytes(one.look[:8]) + bytes((opacity,)) + bytes(one.look[9:]))
                        for one in plain.layers
                    )
                    document = replace(plain, head=head, layers=layers, layers_in=key, layers_at=0, merged=merged)
                    path = tmp_path / f"{name}.{'psb' if wide else 'psd'}"
                    with path.open("wb") as file:
                        psd_file.write(file, document)
                    paths.append(path)
                output = proven(paths[0], HILL, paths[1])
                with mapped(output) as again:
                    assert [one.look[8] for one in psd_file.read(again).layers] == [60, 90, 60]
                    assert [one.name for one in psd_file.read(again).layers] == [SKY, HILL, TREE]


# -- XCF


def _xcf(items: list[tuple[str, dict[int, bytes]]], version: bytes = b"v003") -> bytes:
    """A GIMP image of layers without pixels."""
    head = b"gimp xcf " + version + b"\0" + struct.pack(">3I", 8, 8, 0) + struct.pack(">2I", 0, 0)
    start = len(head) + 4 * (len(items) + 2)
    pointers, body = [], b""
    for name, properties in items:
        pointers.append(start + len(body))
        text = name.encode() + b"\0"
        body += struct.pack(">3I", 8, 8, 0) + struct.pack(">I", len(text)) + text
        body += b"".join(struct.pack(">2I", kind, len(data)) + data for kind, data in properties.items())
        body += struct.pack(">2I", 0, 0)
        body += struct.pack(">2I", start + len(body) + 8, 0) + struct.pack(">3I", 8, 8, 4) + struct.pack(">I", 0)
    return head + struct.pack(f">{len(items)}I", *pointers) + struct.pack(">2I", 0, 0) + body


def test_gimp_images_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {20: struct.pack(">I", 5), 30: struct.pack(">2I", 0, 0)}
    layers = [("Trees", {29: b"", 30: struct.pack(">I", 0), 20: struct.pack(">I", 3)}), ("Oak", tree), ("Sky", {})]
    source = written(tmp_path / "a.xcf", _xcf(layers))
    found = xcf.elements(source)
    assert [(e.id, e.name, e.kind, e.parent) for e in found] == [
        ("3", "Trees", "group", None),
        ("5", "Oak", "layer", "3"),
        ("Sky", "Sky", "layer", None),
    ]
    changed = listed(written(tmp_path / "b.xcf", _xcf([layers[0], ("Oak", {**tree, 6: b"\0\0\0\1"}), layers[2]])))
    assert [a.hash == b.hash for a, b in zip(found, changed, strict=True)] == [True, False, True]
    assert "version 99" in refused(listed, written(tmp_path / "c.xcf", _xcf(layers, b"v099")))
    assert "a property is cut off" in refused(
        listed, written(tmp_path / "d.xcf", b"gimp xcf v003\0" + bytes(12) + struct.pack(">2I", 17, 999) + bytes(60))
    )
    assert "out of the file" in refused(
        listed, written(tmp_path / "e.xcf", b"gimp xcf v003\0" + bytes(20) + struct.pack(">I", 9999) + bytes(60))
    )
    assert "no number by which GIMP knows it" in refused(extracted, source, "Sky", tmp_path / "x.png")
    assert "give OUT one of .png" in refused(extracted, source, "5", tmp_path / "x.jpg")

    def absent(*_arguments: object, **_named: object) -> bytes:
        raise ToolMissing("gimp: not found")

    monkeypatch.setattr("gitvault.core.utils.process.run", absent)
    assert "which is not here" in refused(extracted, source, "5", tmp_path / "x.png")
    monkeypatch.setattr("gitvault.core.utils.process.run", lambda *_a, **_k: b"")
    assert "GIMP wrote nothing" in refused(extracted, source, "5", tmp_path / "x.png")
    assert issubclass(ToolFailed, GitVaultError)


# -- the pieces alone


def test_what_can_be_written_can_be_proven_and_is_listed() -> None:
    for known in formats():
        assert not known.splice or (known.witness and known.elements), known.name


def test_markup_knows_where_everything_is() -> None:
    data = b'<a xmlns="urn:1" xmlns:p="urn:2">\n  <p:b/>\n <c></c></a>'
    root: Node = parse(data)
    b, c = root.children
    assert (b.local, b.namespaces()["p"], b.namespaces()[""]) == ("b", "urn:2", "urn:1")
    assert indent_of(data, b) == b"\n  "
    assert edited(data, [inserted(data, b, None, b"<x/>", b" ")]).count(b"<p:b> <x/> </p:b>") == 1
    assert b"<c> <x/></c>" in edited(data, [inserted(data, c, None, b"<x/>", b" ")])
    assert b"<x/> <c>" in edited(data, [inserted(data, root, c, b"<x/>", b" ")])
    assert edited(data, [inserted(data, root, None, b"<x/>", b" ")]).endswith(b"</c> <x/></a>")


def test_pieces_of_documents_and_archives(tmp_path: Path) -> None:
    with mapped(layered.psd_file(tmp_path / "a.psd", OLD)) as view:
        sky, hill, _ = psd_file.read(view).layers
        assert isinstance(sky, psd_file.Layer)
        assert sky.with_mask_of(hill).mask_channels == hill.mask_channels
        mask: psd_file.Bytes = sky.mask
        assert len(mask) >= 18
    source = layered.zip_file(tmp_path / "a.zip", OLD)
    with mapped(source) as view:
        read = archive.read(view)
        assert isinstance(read, archive.Archive)
        assert isinstance(read.members[0], archive.Member)
    with zipfile.ZipFile(source) as file:
        assert member_hash(file, file.getinfo(SKY)) == sha256(layered._flat(10)).hexdigest()


def test_a_file_that_others_wrote_is_made_durable(tmp_path: Path) -> None:
    Disk().sync_file(written(tmp_path / "a", "x"))
    with pytest.raises(OSError):
        Disk().sync_file(tmp_path / "missing")


def test_what_no_reader_opens_is_refused_by_each_of_them(tmp_path: Path) -> None:
    torn = tmp_path / "torn.exr"
    torn.write_bytes(b"v/1\x01" + bytes(40))
    for read in (exr.elements, exr_witness.witness):
        with pytest.raises(UnsupportedMedia, match=r"torn\.exr"):
            read(torn)
    with zipfile.ZipFile(tmp_path / "torn.kra", "w") as archive:
        archive.writestr("mimetype", "application/x-krita")
        archive.writestr("maindoc.xml", "<DOC>")
    with pytest.raises(UnsupportedMedia, match=r"torn\.kra: maindoc\.xml"):
        painting_witness.witness(tmp_path / "torn.kra")
