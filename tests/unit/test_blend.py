"""Blender's files: read whichever Blender wrote them, what is in them, one datablock put into another version."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import zstandard
from scenes import CUBE, SIDES, BlendFile, blend, written

from gitvault.errors import NotFoundError, ToolFailed, ToolMissing, UnsupportedMedia
from gitvault.formats import Element, format_of
from gitvault.formats.elements import element_changes, family, prove
from gitvault.formats.scene import blend_mesh, blender, packing
from gitvault.formats.scene.blend import Blend, Block, Datablock, Field, Layout, read
from gitvault.formats.scene.blend_splice import extract, same_types, splice
from gitvault.formats.scene.datablocks import INTERFACE, KINDS, Contents, elements, head_of, identifier, links
from gitvault.formats.witness import blend as second
from gitvault.formats.witness.blend import witness

WAYS = [
    {},
    {"pointer": 4, "version": 248},
    {"pointer": 4, "order": ">", "version": 260},
    {"pointer": 8, "order": ">", "version": 260},
    {"version": 500},
]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return written(tmp_path / "old.blend", blend())


def found(path: Path) -> dict[str, Element]:
    return {element.id: element for element in elements(path)}


def restored(old: Path, element: str, current: Path) -> tuple[Path, tuple[str, ...], bool]:
    """The output, what changed, whether the proof holds."""
    output = current.with_name("output.blend")
    splice(old, element, current, output)
    then, now = elements(old), elements(current)
    proof = prove(
        witness(old), witness(current), witness(output), restored=family(then, element), replaced=family(now, element)
    )
    return output, proof.changed, proof.holds


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_each_kind_of_file_is_read(tmp_path: Path, way: dict[str, object]) -> None:
    path = written(tmp_path / "a.blend", blend(**way))  # type: ignore[arg-type]
    blend_ = read(path)
    assert blend_.version == way.get("version", 304)
    assert [element.id for element in elements(path)] == [
        "scene/Scene",
        "collection/Props",
        "window manager/WinMan",
        "object/Cube",
        "object/Lamp",
        "mesh/Cube",
        "material/Paint",
        "library/wood.blend",
        "image/Bark @//wood.blend",
    ]
    assert found(path)["object/Cube"].parent == "collection/Props"
    assert found(path)["collection/Props"].parent == "scene/Scene"
    assert set(witness(path)) == {"", *found(path)}
    [cube, lamp] = blend_mesh.meshes(path)
    assert (cube.name, cube.data, cube.materials) == ("Cube", "Cube", ("Paint",))
    assert cube.vertices.tolist() == [list(point) for point in CUBE]
    assert cube.corners.tolist() == [corner for side in SIDES for corner in side]
    assert cube.triangles()[:2].tolist() == [[0, 2, 3], [0, 3, 1]]
    assert lamp.matrix[:3, 3].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("points", ["structs", "faces", "layers", "attributes"])
def test_a_mesh_is_the_same_however_its_blender_keeps_it(tmp_path: Path, points: str) -> None:
    path = written(tmp_path / "a.blend", blend(points=points))
    mesh = blend_mesh.meshes(path)[0]
    assert mesh.vertices.tolist() == [list(point) for point in CUBE]
    faces = np.split(mesh.corners, mesh.offsets[1:-1])
    # Of four corners the last may not be vertex 0: that meant three.
    wanted = [set(side) for side in SIDES]
    assert [set(face.tolist()) for face in faces if len(face)][-1:] == (wanted[:1] if points == "faces" else wanted[5:])
    assert len(mesh.triangles()) == 12
    assert found(path)["mesh/Cube"].kind == "mesh"
    output, changed, holds = restored(path, "mesh/Cube", written(tmp_path / "b.blend", blend(points=points, top=2.0)))
    assert holds
    assert blend_mesh.meshes(output)[0].corners.tolist() == mesh.corners.tolist()
    assert set(changed) <= {"mesh/Cube"}


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_packed_files_are_read_and_written_packed(tmp_path: Path, packed: str) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[packed]
    # Blender writes zstd in several frames, and a table of them that readers skip.
    content = blend(red=0.1)
    half = len(content) // 2
    tail = b"\x5e\x2a\x4d\x18" + struct.pack("<I", 4) + b"seek" if packed == "zstd" else b""
    old = written(tmp_path / "old.blend", pack(content[:half]) + pack(content[half:]) + tail)
    new = written(tmp_path / "new.blend", pack(blend(red=0.9)))
    assert packing.unpack(old) == (content, packed)
    output, changed, holds = restored(old, "material/Paint", new)
    assert (packing.unpack(output)[1], changed, holds) == (packed, ("material/Paint",), True)
    assert found(output) == found(old)


def test_saving_anew_changes_nothing_but_windows(tmp_path: Path) -> None:
    before = written(tmp_path / "before.blend", blend())
    # Other addresses, other users counted, another state of the windows.
    after = written(tmp_path / "after.blend", blend(start=0x7F000000, undo=3))
    assert element_changes(before, after, without=INTERFACE) == {
        "elements_added": [],
        "elements_removed": [],
        "elements_changed": [],
    }
    assert element_changes(before, after)["elements_changed"] == ["WinMan"]
    assert {"window manager"} <= INTERFACE <= set(KINDS.values())


def test_each_change_is_told_by_name(tmp_path: Path, old: Path) -> None:
    def changed(**how: object) -> dict[str, list[str]]:
        new = written(tmp_path / "new.blend", blend(**how))  # type: ignore[arg-type]
        return element_changes(old, new, without=INTERFACE)

    assert changed(red=0.6)["elements_changed"] == ["Paint"]
    assert changed(top=1.5)["elements_changed"] == ["Cube"]
    assert changed(loc=(1.0, 0.0, 0.0))["elements_changed"] == ["Cube"]
    assert changed(key="Key")["elements_changed"] == ["Cube"]
    assert changed(objects=("Cube",))["elements_removed"] == ["Lamp"]
    assert changed(objects=("Cube", "Lamp", "Cat"))["elements_added"] == ["Cat"]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_datablock_is_replaced_and_all_other_bytes_stay(tmp_path: Path, way: dict[str, object]) -> None:
    old = written(tmp_path / "old.blend", blend(red=0.25, **way))  # type: ignore[arg-type]
    new = written(tmp_path / "new.blend", blend(red=0.75, top=2.0, start=0x90000, **way))  # type: ignore[arg-type]
    output, changed, holds = restored(old, "material/Paint", new)
    assert (changed, holds) == (("material/Paint",), True)
    assert found(output)["material/Paint"].hash == found(old)["material/Paint"].hash
    blend_ = Contents(read(output)).blend
    paint = next(thing for thing in blend_.datablocks if thing.name == "Paint")
    [mesh] = [thing for thing in blend_.datablocks if thing.name == "Cube" and thing.code == b"ME"]
    assert blend_mesh.meshes(output)[0].materials == ("Paint",)
    here = read(new)
    others = [block for block in here.blocks if block.code not in (b"MA",)]
    assert sum(here.bytes_of(block) in output.read_bytes() for block in others) >= len(others) - 1
    assert paint.block.address == next(t.block.address for t in here.datablocks if t.name == "Paint")
    assert identifier(mesh) == "mesh/Cube"


def test_an_object_that_is_gone_comes_back_into_its_collection_with_what_it_needs(tmp_path: Path) -> None:
    old = written(tmp_path / "old.blend", blend(objects=("Cube", "Lamp", "Cat", "Dog")))
    new = written(tmp_path / "new.blend", blend(objects=("Cube", "Dog"), start=0x90000))
    output, changed, holds = restored(old, "object/Cat", new)
    assert (changed, holds) == (("object/Cat",), True)
    assert found(output)["object/Cat"].parent == "collection/Props"
    again, changed, holds = restored(old, "object/Lamp", written(tmp_path / "second.blend", output.read_bytes()))
    assert (changed, holds) == (("object/Lamp",), True)
    blend_ = read(again)
    names = [blend_.by_address[link.member].name for link in links(blend_) if link.list == b"gobject"]
    assert names == ["Cube", "Dog", "Cat", "Lamp"]
    scene = next(thing for thing in blend_.datablocks if thing.code == b"SC")
    assert head_of(blend_, scene) != scene.block
    # Its parent is the current one.
    cat = next(thing for thing in blend_.datablocks if thing.name == "Cat")
    assert blend_.by_address[blend_.address(cat.block, b"parent")].name == "Cube"


def test_into_an_empty_scene_comes_all_that_is_needed_libraries_before_what_they_have(tmp_path: Path) -> None:
    old = written(tmp_path / "old.blend", blend(key="Key"))
    file = BlendFile()
    file.add("GLOB", "FileGlobal", {"subversion": 5}, at=16)
    master = file.address()
    file.add("SC", "Scene", {"id": {"name": "SCScene"}, "master_collection": master})
    file.add("DATA", "Collection", {"id": {"name": "GRMaster Collection"}}, at=master)
    new = written(tmp_path / "new.blend", file.content())
    output, changed, holds = restored(old, "object/Cube", new)
    brought = ("mesh/Cube", "material/Paint", "library/wood.blend", "image/Bark @//wood.blend")
    assert (set(changed), holds) == ({"object/Cube", *brought}, True)
    assert found(output)["object/Cube"].parent == "scene/Scene"
    codes = [thing.block.code for thing in read(output).datablocks]
    assert codes.index(b"LI") + 1 == codes.index(b"ID")
    assert b"KE" in codes


@pytest.mark.parametrize(("then", "now"), [("Key", ""), ("", "Key"), ("Key", "Key.003")])
def test_shape_keys_come_and_go_with_their_mesh(tmp_path: Path, then: str, now: str) -> None:
    old = written(tmp_path / "old.blend", blend(key=then, top=2.0))
    new = written(tmp_path / "new.blend", blend(key=now))
    output, changed, holds = restored(old, "mesh/Cube", new)
    assert (changed, holds) == (("mesh/Cube",), True)
    keys = [thing.name for thing in read(output).datablocks if thing.code == b"KE"]
    assert keys == ([now or then] if then else [])


def test_a_flipped_byte_elsewhere_breaks_the_proof(tmp_path: Path, old: Path) -> None:
    new = written(tmp_path / "new.blend", blend(red=0.75))
    output, _, holds = restored(old, "material/Paint", new)
    assert holds
    content = bytearray(output.read_bytes())
    blend_ = read(output)
    flipped = 0
    for thing in blend_.datablocks:
        block = thing.data[-1] if thing.data else thing.block
        # Links of a list say who is inside, which is another's parent; a mention ends in how many use it.
        if (block.size < 90 and thing.code in (b"SC", b"GR")) or thing.block.code == b"ID":
            continue
        content[block.start + block.size - 1] ^= 1
        changed = written(tmp_path / "changed.blend", bytes(content))
        proof = prove(
            witness(old), witness(new), witness(changed), restored={"material/Paint"}, replaced={"material/Paint"}
        )
        assert not proof.holds, thing.name
        content[block.start + block.size - 1] ^= 1
        flipped += 1
    assert flipped >= 6


def test_what_cannot_be_done_is_refused_with_the_reason(tmp_path: Path, old: Path) -> None:
    output = tmp_path / "output.blend"
    for element, why in {"scene/Scene": "holds others", "library/wood.blend": "in another file"}.items():
        with pytest.raises(UnsupportedMedia, match=why):
            splice(old, element, old, output)
    with pytest.raises(UnsupportedMedia, match="holds others"):
        splice(old, "collection/Props", old, output)
    with pytest.raises(NotFoundError, match=r"old\.blend: has no mesh/Cat"):
        splice(old, "mesh/Cat", old, output)
    with pytest.raises(UnsupportedMedia, match="cannot stand in a file of its own"):
        extract(old, "scene/Scene", output)
    with pytest.raises(UnsupportedMedia, match="different versions of Blender"):
        splice(written(tmp_path / "older.blend", blend(version=279)), "mesh/Cube", old, output)
    assert not output.exists()


def test_a_datablock_stands_in_a_file_of_its_own_with_what_it_refers_to(tmp_path: Path, old: Path) -> None:
    output = tmp_path / "output.blend"
    extract(old, "material/Paint", output)
    assert set(found(output)) == {"material/Paint", "library/wood.blend", "image/Bark @//wood.blend"}
    assert found(output)["material/Paint"].hash == found(old)["material/Paint"].hash


def test_damaged_files_are_refused_whatever_byte_is_wrong(tmp_path: Path) -> None:
    content = blend()
    path = tmp_path / "bad.blend"
    damaged = [content[:end] for end in (9, 40, 300, len(content) // 2, len(content) - 30)]
    damaged += [gzip.compress(content)[:-200], zstandard.compress(content)[:-40], b"BLENDER18-99v0700", b"BLENDER~v300"]
    packed = zstandard.compress(content)
    damaged += [b"BLENDER-x300" + bytes(99), packed[:20] + b"\xff" * 40 + packed[60:]]
    damaged += [content.replace(b"DNA1", b"DNA2"), content.replace(b"STRC", b"STRX"), b"BLENDER-v304" + bytes(100)]
    for bad in damaged:
        path.write_bytes(bad)
        for reader in (elements, witness, blend_mesh.meshes):
            with pytest.raises(UnsupportedMedia, match=r"bad\.blend: not read as a Blender file"):
                reader(path)
    # Any other byte may change what is read, and never ends in anything but a refusal.
    for at in range(len(content) - 3000, len(content), 29):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        for reader in (elements, witness, blend_mesh.meshes):
            with contextlib.suppress(UnsupportedMedia):
                reader(path)


def test_types_that_contain_each_other_are_refused(tmp_path: Path) -> None:
    content = blend()
    table = content[content.index(b"SDNA") :]
    at = content.index(b"STRC") + 8
    # The first struct's first member becomes the struct itself, by value.
    first = struct.unpack_from("<H", content, at)[0]
    names = table[12 : table.index(b"TYPE")].split(b"\0")
    plain = next(number for number, name in enumerate(names) if not name.startswith(b"*") and b"[" not in name)
    bad = content[: at + 4] + struct.pack("<HH", first, plain) + content[at + 8 :]
    with pytest.raises(ValueError, match=r"contain each other|larger than|smaller than"):
        Blend(bad)
    large = content.replace(b"parentinv[4][4]", b"p000000[999999]")
    with pytest.raises(ValueError, match="larger than they can be"):
        Blend(large)
    # A list of a thousand million takes no time either.
    for reader in (elements, witness):
        with pytest.raises(UnsupportedMedia, match=r"its table of types has no end|larger than they can be"):
            reader(written(tmp_path / "large.blend", content.replace(b"dna_attributes_num\0", b"d_attri[999999999]\0")))


def test_a_mesh_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    content = blend()
    corner = struct.pack("<ii", 7, 0)
    bad = written(tmp_path / "bad.blend", content.replace(corner, struct.pack("<ii", 700, 0)))
    with pytest.raises(UnsupportedMedia, match="mesh Cube: a face has a corner that is no vertex"):
        blend_mesh.meshes(bad)
    several = content.replace(struct.pack("<iii", 8, 6, 24), struct.pack("<iii", 8, 6, 24000))
    with pytest.raises(UnsupportedMedia, match="an array of it is too short"):
        blend_mesh.meshes(written(bad, several))


def test_an_unpacked_size_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = written(tmp_path / "bomb.blend", gzip.compress(bytes(9 << 20)))
    monkeypatch.setattr(packing, "LIMIT", 8 << 20)
    with pytest.raises(UnsupportedMedia, match="unpacked it has more than"):
        read(bomb)
    monkeypatch.setattr(second, "_LARGEST", 1 << 20)
    for bad in (gzip.compress(bytes(9 << 20)), zstandard.compress(bytes(9 << 20))):
        with pytest.raises(UnsupportedMedia, match="it is too large"):
            witness(written(bomb, bad))


def test_without_the_right_blender_an_older_file_is_refused(
    tmp_path: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gitvault.core.utils import process

    assert blender.leveled(old, old, tmp_path) == old
    older = written(tmp_path / "older.blend", blend(version=279))

    def missing(*_: object, **__: object) -> bytes:
        raise ToolMissing("blender: not found")

    def failing(*_: object, **__: object) -> bytes:
        raise ToolFailed("blender", 3, "no")

    def wrong(command: list[str], **_: object) -> bytes:
        (tmp_path / "leveled-older.blend").write_bytes(blend(version=280))
        return b""

    for run, why in ((missing, "install Blender"), (failing, "could not bring"), (wrong, "writes another")):
        monkeypatch.setattr(process, "run", run)
        with pytest.raises(UnsupportedMedia, match=f"of Blender 2.79, old.blend of 3.4.*{why}"):
            blender.leveled(older, old, tmp_path)
    with pytest.raises(UnsupportedMedia, match="the newer one knows would be lost"):
        blender.leveled(old, older, tmp_path)


def test_blocks_are_written_as_they_were_read_and_the_table_says_where_values_are(old: Path) -> None:
    blend_ = read(old)
    parts = [blend_.content[: blend_.head], *(blend_.write_block(b, blend_.bytes_of(b)) for b in blend_.blocks)]
    assert blend_.content.startswith(b"".join(parts))
    layout: Layout = blend_.layout
    number = layout.number(b"Mesh")
    assert number is not None
    wanted = Field(b"id.name", b"ID", b"name", b"char", 4 * 8, 66, 0)
    assert layout.field(number, b"id.name") == wanted
    assert layout.field(number, b"mat") in layout.fields(number)
    library = next(thing for thing in blend_.datablocks if thing.code == b"LI")
    assert isinstance(library, Datablock) and blend_.library_file(library.block) == "//wood.blend"


def test_shape_keys_are_found_with_their_mesh_and_versions_told_apart(tmp_path: Path, old: Path) -> None:
    contents = Contents(read(written(tmp_path / "key.blend", blend(key="Key"))))
    mesh = next(thing for thing in contents.blend.datablocks if thing.code == b"ME")
    key = contents.key_of(mesh)
    assert key is not None and key.name == "Key"
    assert key.block.address not in contents.names
    assert same_types(contents.blend, read(old))
    assert not same_types(contents.blend, read(written(tmp_path / "new.blend", blend(version=305))))


def test_the_format_offers_all_of_it(old: Path) -> None:
    able = format_of(old)
    assert able and able.elements and able.witness and able.leveled
    assert len(able.elements(old)) == len(able.witness(old)) - 1
    assert np.allclose(blend_mesh.meshes(old)[1].matrix[:3, :3], np.eye(3))


def test_numbers_that_are_not_all_there_are_none() -> None:
    with pytest.raises(ValueError, match="too short"):
        blend_mesh._raw(cast(Blend, SimpleNamespace()), cast(Block, SimpleNamespace(size=7)), "f4", 2)
