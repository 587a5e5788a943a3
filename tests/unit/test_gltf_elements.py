"""glTF and GLB: what is in them by name, one thing put into another version with all other bytes as they were."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from scenes import glb, gltf, written

from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats import Element, format_of
from gitvault.formats.elements import element_changes, family, prove
from gitvault.formats.scene.gltf import (
    KINDS,
    Gltf,
    buffers_beside,
    elements,
    read,
    refusal,
    things,
    things_to_fill,
)
from gitvault.formats.scene.gltf_splice import extract, splice
from gitvault.formats.witness.gltf import witness


def car(path: Path, **how: Any) -> Path:
    """A GLB, or a glTF file with its buffer beside it."""
    document, binary = gltf(**how)
    if path.suffix == ".glb":
        return written(path, glb(document, binary))
    written(path.with_suffix(".bin"), binary)
    document["buffers"][0]["uri"] = path.stem + ".bin"
    return written(path, json.dumps(document, indent=2).encode())


def found(path: Path) -> dict[str, Element]:
    return {element.id: element for element in elements(path)}


def restored(old: Path, element: str, current: Path) -> tuple[Path, tuple[str, ...], bool]:
    output = current.with_name("output" + current.suffix)
    splice(old, element, current, output)
    now = elements(current)
    proof = prove(
        witness(old),
        witness(current),
        witness(output),
        restored=family(elements(old), element),
        replaced=family(now, element),
    )
    return output, proof.changed, proof.holds


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_what_is_in_a_file_has_ids_and_parents(tmp_path: Path, suffix: str) -> None:
    path = car(tmp_path / f"car{suffix}")
    assert {key: element.parent for key, element in found(path).items()} == {
        "scene/Street": None,
        "mesh/Body": None,
        "mesh/Wheel": None,
        "material/Paint": None,
        "image/Rust": None,
        "animation/Drive": None,
        "node/Car": "scene/Street",
        "node/Car/Body": "node/Car",
        "node/Car/Wheel": "node/Car",
    }
    assert set(witness(path)) == {"", *found(path)}
    assert {element.kind for element in found(path).values()} <= set(KINDS.values())
    able = format_of(path)
    assert able and able.elements and able.witness and able.elements(path) == elements(path)


def test_each_change_is_told_by_name(tmp_path: Path) -> None:
    before = car(tmp_path / "before.glb")
    changes = {
        "Paint": {"red": 0.6},
        "Body": {"top": 2.0},
        "Car": {"at": (1, 0, 0)},
    }
    for name, how in changes.items():
        assert element_changes(before, car(tmp_path / "after.glb", **how))["elements_changed"] == [name]
    added = element_changes(before, car(tmp_path / "after.glb", nodes=("Body", "Wheel", "Door")))
    assert added == {"elements_added": ["Door", "Door"], "elements_removed": [], "elements_changed": []}


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
@pytest.mark.parametrize(
    ("element", "then"),
    [("mesh/Body", {"top": 2.0}), ("material/Paint", {"red": 0.9}), ("node/Car", {"at": (4, 5, 6)})],
)
def test_a_thing_is_replaced_and_all_other_bytes_stay(
    tmp_path: Path, suffix: str, element: str, then: dict[str, Any]
) -> None:
    old, new = car(tmp_path / "old.glb", **then), car(tmp_path / f"new{suffix}")
    output, changed, holds = restored(old, element, new)
    assert (changed, holds) == ((element,), True)
    assert found(output)[element].hash == found(old)[element].hash
    before, after = read(new), read(output)
    assert after.buffer(0).startswith(before.buffer(0))
    assert after.all("bufferViews")[: len(before.all("bufferViews"))] == before.all("bufferViews")
    assert after.all("accessors")[: len(before.all("accessors"))] == before.all("accessors")
    assert (b"\n  " in output.read_bytes()[:40]) == (suffix == ".gltf")


def test_what_is_gone_comes_back_with_what_it_needs_where_it_was(tmp_path: Path) -> None:
    old = car(tmp_path / "old.glb", nodes=("Body", "Wheel", "Door"))
    new = car(tmp_path / "new.glb", nodes=("Body", "Door"))
    output, changed, holds = restored(old, "node/Car/Wheel", new)
    assert (set(changed), holds) == ({"node/Car/Wheel", "mesh/Wheel"}, True)
    document = read(output).json
    names = [document["nodes"][child]["name"] for child in document["nodes"][0]["children"]]
    assert names == ["Body", "Wheel", "Door"]


def test_a_branch_comes_back_as_it_was_without_what_came_since(tmp_path: Path) -> None:
    old = car(tmp_path / "old.glb", nodes=("Body",))
    new = car(tmp_path / "new.glb", nodes=("Body", "Spoiler"), at=(9, 9, 9))
    output, changed, holds = restored(old, "node/Car", new)
    assert (set(changed), holds) == ({"node/Car", "node/Car/Spoiler"}, True)
    document = read(output).json
    assert [node["name"] for node in document["nodes"]] == ["Car", "Body"]
    # An animation that moves what would go is reason enough not to.
    moving = gltf(nodes=("Spoiler",))
    with pytest.raises(UnsupportedMedia, match=r"node/Car/Spoiler was not there then .* animation/Drive needs it"):
        restored(old, "node/Car", written(tmp_path / "moving.glb", glb(*moving)))


def test_skins_lights_and_variants_come_along(tmp_path: Path) -> None:
    document, binary = gltf()
    document["skins"] = [{"name": "Rig", "joints": [2], "inverseBindMatrices": 0, "skeleton": 2}]
    document["nodes"][1] |= {"skin": 0, "extensions": {"KHR_lights_punctual": {"light": 0}}}
    document["extensions"] = {
        "KHR_lights_punctual": {"lights": [{"name": "Lamp", "type": "point"}]},
        "KHR_materials_variants": {"variants": [{"name": "Rusty"}]},
    }
    mapping = {"mappings": [{"material": 0, "variants": [0]}]}
    document["meshes"][0]["primitives"][0]["extensions"] = {"KHR_materials_variants": mapping}
    document["extensionsUsed"] = ["KHR_lights_punctual", "KHR_materials_variants"]
    old = written(tmp_path / "old.glb", glb(document, binary))
    empty = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"name": "Street"}]}
    new = written(tmp_path / "new.glb", glb(empty, b""))
    output, changed, holds = restored(old, "node/Car/Body", new)
    brought = {"node/Car", "node/Car/Body", "node/Car/Wheel", "mesh/Body", "mesh/Wheel", "material/Paint", "image/Rust"}
    assert (set(changed), holds) == (brought | {"skin/Rig", "light/Lamp", "variant/Rusty"}, True)
    assert sorted(read(output).json["extensionsUsed"]) == document["extensionsUsed"]


def test_a_flipped_byte_elsewhere_breaks_the_proof(tmp_path: Path) -> None:
    old, new = car(tmp_path / "old.glb", red=0.9), car(tmp_path / "new.glb")
    output, _, holds = restored(old, "material/Paint", new)
    assert holds
    gltf_ = read(output)
    start = output.read_bytes().index(gltf_.buffer(0))
    for view in gltf_.all("bufferViews")[: len(read(new).all("bufferViews")) - 3]:
        content = bytearray(output.read_bytes())
        content[start + view["byteOffset"]] ^= 1
        changed = written(tmp_path / "changed.glb", bytes(content))
        proof = prove(
            witness(old), witness(new), witness(changed), restored={"material/Paint"}, replaced={"material/Paint"}
        )
        assert not proof.holds


def test_a_thing_stands_in_a_glb_of_its_own(tmp_path: Path) -> None:
    path = car(tmp_path / "car.gltf")
    output = tmp_path / "output.glb"
    extract(path, "mesh/Wheel", output)
    assert found(output)["mesh/Wheel"].hash == found(path)["mesh/Wheel"].hash
    assert found(output)["node/Wheel"].parent == "scene/#0"
    extract(path, "node/Car", output)
    assert {"node/Car/Body", "mesh/Body", "image/Rust"} <= set(found(output))
    extract(path, "image/Rust", tmp_path / "rust.png")
    assert (tmp_path / "rust.png").read_bytes() == b"\x89PNG\r\n\x1a\n not really one"
    for element, why in {"scene/Street": "cannot stand", "mesh/Cat": "has no mesh/Cat"}.items():
        with pytest.raises((UnsupportedMedia, NotFoundError), match=why):
            extract(path, element, output)


def test_images_in_the_json_and_beside_it(tmp_path: Path) -> None:
    document, binary = gltf()
    document["images"][0] = {"name": "Rust", "uri": "data:image/png;base64," + base64.b64encode(b"rust").decode()}
    inside = written(tmp_path / "inside.glb", glb(document, binary))
    extract(inside, "image/Rust", tmp_path / "rust.png")
    assert (tmp_path / "rust.png").read_bytes() == b"rust"
    document["images"][0] = {"uri": "rust.png"}
    with pytest.raises(UnsupportedMedia, match=r"its image rust\.png is a file of its own"):
        extract(written(tmp_path / "beside.glb", glb(document, binary)), "image/rust.png", tmp_path / "rust.png")


def test_what_cannot_be_done_is_refused_with_the_reason(tmp_path: Path) -> None:
    path, output = car(tmp_path / "car.glb"), tmp_path / "output.glb"
    with pytest.raises(UnsupportedMedia, match="holds others"):
        splice(path, "scene/Street", path, output)
    with pytest.raises(NotFoundError, match=r"car\.glb: has no mesh/Cat"):
        splice(path, "mesh/Cat", path, output)
    document, binary = gltf()
    document["materials"][0]["extensions"] = {"ACME_paint": {"layer": 3}}
    with pytest.raises(UnsupportedMedia, match="has ACME_paint, and what that refers to is not known"):
        splice(written(tmp_path / "acme.glb", glb(document, binary)), "material/Paint", path, output)
    # Without a name, what has the same number may be something else.
    del document["materials"][0]["extensions"]
    old_document, old_binary = gltf(red=0.9)
    for doc in (document, old_document):
        del doc["materials"][0]["name"]
    old = written(tmp_path / "old.glb", glb(old_document, old_binary))
    new = written(tmp_path / "new.glb", glb(document, binary))
    with pytest.raises(UnsupportedMedia, match="material/#0: has no name of its own, and is another"):
        splice(old, "mesh/Body", new, output)
    old_document["meshes"].append({"primitives": []})
    old_document["meshes"].append({"primitives": []})
    with pytest.raises(UnsupportedMedia, match="mesh/#3: has no name, and its place"):
        splice(written(old, glb(old_document, old_binary)), "mesh/#3", new, output)
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"asset": {"version": "1.0"}}, "version 1.0, not 2"),
        ({"asset": 3}, "no asset"),
        ({"nodes": 7}, "its nodes are no list"),
        ({"meshes": []}, "number 0 of its 0 meshes"),
        ({"nodes": [{"children": [1]}, {"children": [0]}]}, "a node is inside itself"),
        ({"bufferViews": [{"buffer": 0, "byteOffset": 1 << 40, "byteLength": 4}] * 9}, "beyond its buffer"),
        ({"accessors": [{"bufferView": 0, "count": 1 << 40, "type": "VEC3", "componentType": 5126}] * 9}, "accessor 0"),
        ({"buffers": [{"byteLength": 1 << 40}]}, "bytes of 1099511627776"),
        ({"buffers": [{"byteLength": 4, "uri": "data:,%%%"}]}, "buffer 0"),
        ({"buffers": [{"byteLength": 4, "uri": "../../etc/none.bin"}]}, "is not there"),
        ({"buffers": [{"byteLength": 4, "uri": "file:///etc/passwd"}]}, "is not there"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    document, binary = gltf()
    document |= change
    path = written(tmp_path / "bad.glb", glb(document, binary))
    with pytest.raises(UnsupportedMedia, match=rf"bad\.glb: not read as glTF: .*{why}"):
        elements(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = glb(*gltf())
    path = tmp_path / "bad.glb"
    short, other = bytearray(whole), bytearray(whole)
    short[12:16] = struct.pack("<I", 99999)
    other[16:20] = b"NONE"
    damaged = (
        short,
        other,
        whole[:8],
        whole[:30],
        whole[:-4],
        b"glTF\1" + whole[5:],
        b"{",
        b"[]" * 40,
        b'{"a":' * 100_000,
    )
    for bad in map(bytes, damaged):
        with pytest.raises(UnsupportedMedia, match="not read as glTF"):
            elements(written(path, bad))
        with pytest.raises(UnsupportedMedia, match="not read as glTF"):
            splice(path, "mesh/Body", path, tmp_path / "output.glb")


def test_what_refers_to_nothing_is_neither_moved_nor_taken_out(tmp_path: Path) -> None:
    document, binary = gltf()
    document["accessors"] = document["accessors"][:1]
    path = written(tmp_path / "bad.glb", glb(document, binary))
    for take in (lambda out: splice(path, "mesh/Wheel", path, out), lambda out: extract(path, "mesh/Wheel", out)):
        with pytest.raises(UnsupportedMedia, match="number 1 of its 1 accessors"):
            take(tmp_path / "output.glb")


def test_the_second_reader_refuses_as_well(tmp_path: Path) -> None:
    document, binary = gltf()
    around = {"nodes": [{"children": [1]}, {"children": [0]}]}
    for change in (around, {"bufferViews": [{"buffer": 0, "byteLength": 99999}] * 9}):
        with pytest.raises(UnsupportedMedia, match="not read as glTF"):
            witness(written(tmp_path / "bad.glb", glb(document | change, binary)))


def test_buffers_beside_a_file_are_named_and_lists_made_where_they_are_missing(tmp_path: Path) -> None:
    document, _ = gltf()
    document["buffers"] = [{"byteLength": 4, "uri": uri} for uri in ("a%20b.bin", "x/../c.bin", "../d", "/e", "data:,")]
    assert buffers_beside(written(tmp_path / "car.gltf", json.dumps(document).encode())) == ["a b.bin", "c.bin"]
    assert buffers_beside(written(tmp_path / "bad.gltf", b"{")) == []
    bare: dict[str, Any] = {"asset": {"version": "2.0"}}
    assert (things(bare, "lights"), things(bare, "meshes")) == ([], [])
    things_to_fill(bare, "lights").append({"name": "Lamp"})
    assert bare["extensions"] == {"KHR_lights_punctual": {"lights": [{"name": "Lamp"}]}}
    assert Gltf(tmp_path / "car.gltf", bare, None).ids == {("lights", 0): "light/Lamp"}
    assert str(refusal(tmp_path / "car.gltf", ValueError("why"))).startswith("car.gltf: not read as glTF: why")


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gitvault.formats.scene import gltf as module

    path = car(tmp_path / "car.gltf")
    monkeypatch.setattr(module, "LIMIT", 100)
    with pytest.raises(UnsupportedMedia, match="has more than"):
        elements(path)
    monkeypatch.setattr(module, "LIMIT", len(path.read_bytes()))
    written(tmp_path / "car.bin", bytes(len(path.read_bytes()) + 1))
    with pytest.raises(UnsupportedMedia, match=r"its buffer car\.bin has more than"):
        elements(path)


def test_values_that_lie_between_others_or_replace_some_count(tmp_path: Path) -> None:
    document, binary = gltf()
    document["bufferViews"][0] |= {"byteStride": 24, "byteLength": 72}
    document["accessors"][0]["sparse"] = {
        "count": 1,
        "indices": {"bufferView": 1, "componentType": 5125},
        "values": {"bufferView": 1},
    }
    one = written(tmp_path / "one.glb", glb(document, binary))
    # A byte between two of its vertices is another's.
    other = bytearray(binary)
    other[12 + 0] ^= 1
    two = written(tmp_path / "two.glb", glb(document, bytes(other)))
    assert found(one)["mesh/Body"].hash == found(two)["mesh/Body"].hash
    other[24] ^= 1
    three = written(tmp_path / "three.glb", glb(document, bytes(other)))
    assert found(one)["mesh/Body"].hash != found(three)["mesh/Body"].hash
    assert witness(one)["mesh/Body"] == witness(two)["mesh/Body"] != witness(three)["mesh/Body"]
    packed = {"EXT_meshopt_compression": {"buffer": 0, "byteOffset": 0, "byteLength": 8, "mode": "ATTRIBUTES"}}
    document["bufferViews"][0]["extensions"] = packed
    path = written(tmp_path / "packed.glb", glb(document, binary))
    assert found(path)["mesh/Body"].hash != found(one)["mesh/Body"].hash
    with pytest.raises(UnsupportedMedia, match="EXT_meshopt_compression"):
        splice(path, "mesh/Body", one, tmp_path / "output.glb")
    assert "mesh/Body" in witness(path)
