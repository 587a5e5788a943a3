"""Readers of models: every way the formats write the same thing, and files that are not as they should be."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import (
    Fbx,
    Shape,
    ball,
    box,
    fbx,
    fbx_text,
    fbx_tree,
    glb,
    gltf,
    obj,
    placed,
    ply,
    stl,
    stl_text,
    written,
)

from gitvault.errors import UnsupportedMedia
from gitvault.formats import fbx as fbx_scene
from gitvault.formats import format_of, identify
from gitvault.formats.elements import element_changes
from gitvault.formats.mesh.distance import Surface, longest_edges, sampled, to_triangles
from gitvault.formats.mesh.model import Part, content_hash, merged, unique_names
from gitvault.formats.mesh.read import read


def same_surface(part: Part, shape: Shape) -> None:
    """Whatever the order of vertices, the triangles are those of the shape."""
    mine = np.round(part.placed[part.faces], 5).reshape(-1, 9)
    others = np.round(placed(shape)[shape.faces], 5).reshape(-1, 9)
    assert sorted(map(tuple, mine.tolist())) == sorted(map(tuple, others.tolist()))


HEAD = ball("Head", 8).at(1, 2, 3)
TEXT_TREE = fbx_tree([HEAD])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.obj", obj([HEAD])),
        ("groups.obj", obj([HEAD], word="g")),
        ("dos.obj", obj([HEAD]).replace(b"\n", b"\r\n")),
        ("indented.obj", obj([HEAD]).replace(b"\nf ", b"\n \tf  ")),
        ("continued.obj", obj([HEAD]).replace(b"\nf ", b"\nf \\\n")),
        ("coloured.obj", obj([HEAD]) + b"v 9 9 9 1 0 0\n"),
        ("a.stl", stl([HEAD])),
        ("text.stl", stl_text([HEAD])),
        ("little.ply", ply(HEAD)),
        ("big.ply", ply(HEAD, "binary_big_endian")),
        ("text.ply", ply(HEAD, "ascii")),
        ("a.glb", glb([HEAD])),
        ("deflated.fbx", fbx(TEXT_TREE)),
        ("plain.fbx", fbx(TEXT_TREE, deflated=False)),
        ("wide.fbx", fbx(TEXT_TREE, 7700)),
        ("text.fbx", fbx_text(TEXT_TREE)),
    ],
)
def test_every_way_to_write_a_model_gives_the_same_surface(tmp_path: Path, name: str, content: bytes) -> None:
    [part] = read(written(tmp_path, name, content)).parts
    assert part.name == ("model" if name.endswith((".ply", "a.stl")) else "Head")
    assert part.polygons == len(HEAD.faces)
    same_surface(part, HEAD)


def test_polygons_are_counted_as_such_and_drawn_as_fans(tmp_path: Path) -> None:
    square = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
    [part] = read(written(tmp_path, "a.obj", square + b"f 1 2 3 4\nf -4 -3 -2\n")).parts
    assert (part.polygons, part.faces.tolist()) == (2, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    rows = struct.pack("<Biiii", 4, 0, 1, 2, 3) + struct.pack("<Biii", 3, 0, 1, 2)
    head = ply(Shape("", np.eye(3), np.zeros((0, 3), dtype=int))).replace(b"face 0", b"face 2")
    [part] = read(written(tmp_path, "a.ply", head.replace(b"vertex 3", b"vertex 4") + bytes(12) + rows)).parts
    assert (part.polygons, len(part.faces)) == (2, 3)
    text = head.replace(b"binary_little_endian", b"ascii").split(b"end_header\n")[0] + b"end_header\n"
    text += b"0 0 0\n1 0 0\n1 1 0\n" + b"4 0 1 2 0\n3 0 1 2\n"
    [part] = read(written(tmp_path, "text.ply", text)).parts
    assert (part.polygons, len(part.faces)) == (2, 3)


def test_corners_say_uv_and_normals_in_every_form(tmp_path: Path) -> None:
    head = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nvn 0 0 1\n"
    forms = (b"f 1 2 3", b"f 1/1 2/2 3/3", b"f 1//1 2//1 3//1", b"f 1/1/1 2/2/1 3/3/1", b"f 1/1/1 2//1 3/3")
    found = [read(written(tmp_path, "a.obj", head + form + b"\n")).parts[0].attributes for form in forms]
    assert [sorted(attributes) for attributes in found] == [
        [],
        ["uv"],
        ["normals"],
        ["normals", "uv"],
        ["normals", "uv"],
    ]
    assert found[1]["uv"] == found[3]["uv"]
    moved = read(written(tmp_path, "a.obj", head.replace(b"vt 0 1", b"vt 0 2") + forms[1])).parts[0].attributes
    assert moved["uv"] != found[1]["uv"]


def test_colours_behind_some_vertices(tmp_path: Path) -> None:
    rows = b"v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf 1 2 3\n"
    assert "colours" in read(written(tmp_path, "a.obj", rows)).parts[0].attributes
    [part] = read(written(tmp_path, "a.obj", rows.replace(b" 0 0 1\n", b"\n"))).parts
    assert (part.faces.tolist(), part.attributes) == ([[0, 1, 2]], {})
    head = b"ply\nformat ascii 1.0\ncomment TextureFile skin.png\nelement vertex 1\n" + b"".join(
        b"property float %b\n" % name for name in (b"x", b"y", b"z", b"nx", b"ny", b"nz", b"red", b"s")
    )
    model = read(written(tmp_path, "a.ply", head + b"end_header\n0 0 0 0 0 1 255 0.5\n"))
    assert sorted(model.parts[0].attributes) == ["colours", "normals", "uv"]
    assert model.textures == {"skin.png": ""}


def test_materials_beside_an_obj_file(tmp_path: Path) -> None:
    shape = Shape("Box", box("").vertices, box("").faces, material="Oak wood")
    path = written(tmp_path, "a.obj", b"mtllib my wood.mtl\nmtllib gone.mtl\n" + obj([shape]))
    assert read(path).materials == {"Oak wood": ""}
    library = b"# made by\nnewmtl Oak wood\nKd 1 0 0\nmap_Kd -s 1 1 1 my oak.png\nnewmtl Other\nKd 0 0 0\n"
    written(tmp_path, "my wood.mtl", library)
    written(tmp_path, "my oak.png", b"oak")
    model = read(path)
    assert model.parts[0].materials == ("Oak wood",)
    assert model.textures == {"my oak.png": content_hash(tmp_path / "my oak.png")}
    written(tmp_path, "my wood.mtl", library.replace(b"Kd 1", b"Kd 0.5"))
    again = read(path)
    assert again.materials["Oak wood"] != model.materials["Oak wood"]
    assert again.materials["Other"] == model.materials["Other"]


def test_solids_of_one_file_are_parts_and_names_are_told_apart(tmp_path: Path) -> None:
    model = read(written(tmp_path, "a.stl", stl_text([box("Bolt"), box("Bolt", 2), box("")])))
    assert [part.name for part in model.parts] == ["Bolt", "Bolt #2", "model"]
    assert unique_names(["a", "a #2", "a"]) == ["a", "a #2", "a #3"]
    coloured = bytearray(stl([box("")]))
    coloured[84 + 48 : 84 + 50] = b"\1\2"
    assert "colours" in read(written(tmp_path, "b.stl", bytes(coloured))).parts[0].attributes


def test_a_gltf_scene_with_files_beside_it_and_within_it(tmp_path: Path) -> None:
    import base64

    document, content = gltf([HEAD])
    written(tmp_path, "my bin.bin", content)
    within = "data:application/octet-stream;base64," + base64.b64encode(content).decode()
    for uri in ("my%20bin.bin", within):
        document["buffers"][0]["uri"] = uri
        same_surface(read(written(tmp_path, "a.gltf", json.dumps(document).encode())).parts[0], HEAD)


def test_nodes_place_their_meshes_where_their_parents_are(tmp_path: Path) -> None:
    turned = {"rotation": [0, 0, 0.7071067811865476, 0.7071067811865476], "scale": [2, 2, 2], "translation": [10, 0, 0]}
    nodes = [
        {"name": "Root", "children": [1], **turned},
        {"name": "Box", "mesh": 0, "matrix": np.eye(4).T.ravel().tolist()},
    ]
    [part] = read(written(tmp_path, "a.glb", glb([box("Box")], nodes=nodes, scenes=[]))).parts
    assert part.placed.max(axis=0).tolist() == pytest.approx([10, 2, 2])
    assert part.placed.min(axis=0).tolist() == pytest.approx([8, 0, 0])


def test_strips_fans_whole_numbers_and_sparse_values(tmp_path: Path) -> None:
    square = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)], dtype=float)
    for mode, faces in ((5, 2), (6, 2), (1, 0), (4, 1)):
        document, content = gltf([Shape("S", square, np.array([[0, 1, 2]]))])
        primitive = document["meshes"][0]["primitives"][0]
        del primitive["indices"]
        primitive["mode"] = mode
        [part] = read(_gltf(tmp_path, document, content)).parts
        assert len(part.faces) == faces
    values = np.array([[0, 0, 0], [32767, 0, 0], [0, 32767, 0]], "<i2").tobytes()
    places = struct.pack("<H", 1) + bytes(2) + struct.pack("<hhh", 0, 0, 32767)
    document, content = gltf([box("S")])
    document["bufferViews"] = [
        {"buffer": 0, "byteLength": len(values), "byteStride": 6},
        {"buffer": 0, "byteOffset": len(values), "byteLength": len(places)},
    ]
    sparse = {
        "count": 1,
        "indices": {"bufferView": 1, "componentType": 5123},
        "values": {"bufferView": 1, "byteOffset": 4},
    }
    accessor = {
        "bufferView": 0,
        "componentType": 5122,
        "count": 3,
        "type": "VEC3",
        "normalized": True,
        "sparse": sparse,
    }
    empty = {"componentType": 5126, "count": 3, "type": "VEC3"}
    document["accessors"] = [accessor, empty]
    attributes = {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 1}
    document["meshes"][0]["primitives"] = [{"attributes": attributes, "targets": [{"POSITION": 1}]}]
    [part] = read(_gltf(tmp_path, document, values + places)).parts
    assert part.vertices.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert sorted(part.attributes) == ["morphs", "normals", "uv"]


def _gltf(folder: Path, document: dict[str, Any], content: bytes) -> Path:
    document["buffers"] = [{"byteLength": len(content), "uri": "a.bin"}]
    written(folder, "a.bin", content)
    return written(folder, "a.gltf", json.dumps(document).encode())


def test_an_fbx_model_stands_where_pivots_and_parents_put_it(tmp_path: Path) -> None:
    def at(number: int, name: str, **properties: tuple[float, ...]) -> Fbx:
        rows = tuple(Fbx("P", (key.replace("_", " "), "", "", "A", *value)) for key, value in properties.items())
        return Fbx("Model", (number, f"{name}\0\1Model", "Mesh"), (Fbx("Properties70", (), rows),))

    [thing, *_], joins = (top.children for top in fbx_tree([box("Box")]))
    objects = (
        thing,
        at(1, "Root", Lcl_Translation=(10.0, 0.0, 0.0), Lcl_Rotation=(0.0, 0.0, 90.0)),
        at(2, "Box", Lcl_Scaling=(2.0, 2.0, 2.0), ScalingPivot=(1.0, 1.0, 1.0), GeometricTranslation=(0.0, 0.0, 5.0)),
    )
    joins = tuple(Fbx("C", ("OO", a, b)) for a, b in ((100, 2), (2, 1), (1, 0)))
    tree = (Fbx("Objects", (), objects), Fbx("Connections", (), joins))
    up = Fbx("GlobalSettings", (), (Fbx("Properties70", (), (Fbx("P", ("UpAxis", "int", "Integer", "", 2)),)),))
    for content in (fbx((up, *tree)), fbx_text((up, *tree))):
        model = read(written(tmp_path, "a.fbx", content))
        assert model.up == "z"
        [part] = model.parts
        # Scaled about (1, 1, 1): -1 to 1 in x and y, in z 5 to 6 becomes 9 to 11; turned, then moved.
        assert part.placed.min(axis=0).tolist() == pytest.approx([9, -1, 9])
        assert part.placed.max(axis=0).tolist() == pytest.approx([11, 1, 11])


def test_what_an_fbx_surface_carries(tmp_path: Path) -> None:
    [thing, model], joins = (top.children for top in fbx_tree([box("Box")]))

    def with_uv(values: list[float], mapping: str) -> bytes:
        count = 36 if mapping == "ByPolygonVertex" else 8
        index = Fbx("UVIndex", (np.arange(count) % (len(values) // 2),))
        layer = (Fbx("MappingInformationType", (mapping,)), Fbx("UV", (np.array(values),)), index)
        whole = Fbx("Geometry", thing.values, (*thing.children, Fbx("LayerElementUV", (0,), layer)))
        return fbx((Fbx("Objects", (), (whole, model)), Fbx("Connections", (), joins)))

    keys = [
        read(written(tmp_path, "a.fbx", with_uv(values, mapping))).parts[0].attributes["uv"]
        for mapping in ("ByPolygonVertex", "ByVertice", "AllSame")
        for values in ([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 2.0])
    ]
    assert len(set(keys)) == 6


@pytest.mark.parametrize("form", ["binary", "text"])
def test_objects_of_an_fbx_scene_are_listed_and_told_apart_by_name(tmp_path: Path, form: str) -> None:
    write: Callable[[Any], bytes] = fbx if form == "binary" else fbx_text
    shape = Shape("Chair", box("").vertices, box("").faces, material="Oak")
    before = written(tmp_path / "a", "m.fbx", write(fbx_tree([shape], {"Wood": "tex/wood.png", "Old": "old.png"})))
    after = written(tmp_path / "b", "m.fbx", write(fbx_tree([shape.at(1, 0, 0)], {"Wood": "tex/oak.png"})))
    known = format_of(after)
    assert known and known.elements and known.references and known.compare
    found = {element.id: element for element in known.elements(after)}
    assert list(found) == ["Model/Mesh: Chair", "Texture: Wood", "Geometry/Mesh: Chair", "Material: Oak"]
    assert found["Geometry/Mesh: Chair"].parent == "Model/Mesh: Chair"
    targets = [(reference.target, reference.kind) for reference in known.references(after)]
    assert targets == [("C:\\art\\tex/oak.png", "hint"), ("tex/oak.png", "image")]
    changes = element_changes(before, after)
    assert (changes["elements_removed"], changes["elements_changed"]) == (["Old"], ["Chair", "Wood"])
    stats = known.compare(before, after, None).stats
    assert stats["parts_changed"] == ["Chair"]
    assert "tex/oak.png" in stats["textures_added"]


def test_objects_of_one_name_and_parents_in_a_circle(tmp_path: Path) -> None:
    bolts = (Fbx("Model", (number, "Bolt\0\1Model", "Null")) for number in (1, 2))
    things = (*bolts, Fbx("Model", (3,)))
    joins = tuple(Fbx("C", ("OO", a, b)) for a, b in ((1, 2), (2, 1)))
    path = written(tmp_path, "a.fbx", fbx((Fbx("Objects", (), things), Fbx("Connections", (), joins))))
    assert [element.id for element in fbx_scene.elements(path)] == ["Model/Null: Bolt", "Model/Null: Bolt #2"]
    assert read(path).parts == ()


def damaged(name: str, content: bytes, why: str) -> Any:
    return pytest.param(name, content, why, id=f"{name.partition('.')[2]}: {why[:30]}")


def _ply(body: bytes, *, kind: str = "ascii", more: str = "", rows: int = 1) -> bytes:
    head = f"ply\nformat {kind} 1.0\nelement vertex {rows}\nproperty float x\nproperty float y\nproperty float z\n"
    return (head + more + "end_header\n").encode() + body


def _changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    document, _ = gltf([box("Box")])
    document["buffers"][0]["uri"] = "data:," + "A" * 400
    change(document)
    return json.dumps(document).encode()


FACES = "element face 1\nproperty list uchar int vertex_indices\n"
NODE = struct.Struct("<IIIB")


def _fbx(values: bytes, count: int = 1) -> bytes:
    head = b"Kaydara FBX Binary  \0\x1a\0" + struct.pack("<I", 7400)
    return head + NODE.pack(27 + NODE.size + 1 + len(values), count, len(values), 1) + b"N" + values + bytes(NODE.size)


def _deep() -> bytes:
    tree = Fbx("N")
    for _ in range(70):
        tree = Fbx("N", (), (tree,))
    return fbx((tree,))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        damaged("a.obj", b"v 0 0 zero\nf 1 1 1\no x\n", "something else where numbers"),
        damaged("a.obj", b"v 0 0 0\nv 0 0\no x\n", "says too little: 'v' with 2 numbers"),
        damaged("a.obj", b"v 0 0 0\nf 1 1\no x\n", "fewer than three corners"),
        damaged("a.obj", b"v 0 0 0\nf 1 1 2\no x\n", "is not there"),
        damaged("a.obj", b"v 0 0 0\nf -1 -1 -3\no x\n", "is not there"),
        damaged("a.obj", b"v 0 0 0\nvt 0 0\nf /1 /1 /1\no x\n", "has no place"),
        damaged("a.stl", stl([box("")])[:-1], r"cut off: 12 triangles announced, 11 are there"),
        damaged(
            "a.stl",
            stl_text([box("x")]).replace(b"vertex 0.000000000e+00", b"vertex", 1),
            "not a normal and three corners",
        ),
        damaged("a.stl", b"solid nothing\nendsolid\n", "no facets"),
        damaged("a.ply", b"ply\nformat ascii 1.0\n", "header has no end"),
        damaged("a.ply", _ply(b"0 0 0\n", rows=1 << 40), "announces more than there is"),
        damaged("a.ply", _ply(b"0 0 0\n", more="element tristrips 0\nproperty int x\n"), "strips of triangles"),
        damaged("a.ply", _ply(b"0 0 0\n3 0 0 1\n", more=FACES), "is not there"),
        damaged("a.ply", _ply(b"0     0\n"), "cut off"),
        damaged("a.ply", _ply(b"0 0 0\n3 0 0\n", more=FACES), "cut off"),
        damaged("a.ply", _ply(bytes(12) + b"\3" + bytes(4), kind="binary_little_endian", more=FACES), "cut off"),
        damaged(
            "a.ply",
            _ply(
                bytes(12) + b"\1" + bytes(4) + b"\2" + bytes(6),
                kind="binary_little_endian",
                more=FACES.replace("face 1", "face 2"),
            ),
            "cut off",
        ),
        damaged("a.glb", glb([box("")])[:-1], "cut off"),
        damaged("a.glb", glb([box("")]).replace(b"glTF\2", b"glTF\3", 1), "it is of version 3, not 2"),
        damaged("a.gltf", _changed(lambda d: d.update(asset={"version": "1.0"})), "version 1.0; 2.0 is read"),
        damaged("a.gltf", _changed(lambda d: d.update(asset={})), "version unknown"),
        damaged("a.gltf", b'{"asset": ' + b"[" * 100_000, "recursion"),
        damaged(
            "a.gltf", _changed(lambda d: d.update(extensionsRequired=["KHR_draco_mesh_compression"])), "compressed"
        ),
        damaged("a.gltf", _changed(lambda d: d["buffers"][0].update(uri="../gone.bin")), "'../gone.bin', where its"),
        damaged("a.gltf", _changed(lambda d: d["buffers"][0].update(uri="data:,AAAA")), "shorter than what lies"),
        damaged("a.gltf", _changed(lambda d: d["accessors"][0].update(count=9)), "shorter than what lies"),
        damaged("a.gltf", _changed(lambda d: d["accessors"][0].update(count=1 << 40)), "too large"),
        damaged("a.gltf", _changed(lambda d: d["meshes"][0].pop("primitives")), "no 'primitives'"),
        damaged("a.glb", glb([Shape("", np.zeros((2, 3)), np.array([[0, 1, 2]]))]), "is not there"),
        damaged("a.fbx", fbx((), 4000), "version 4000 is not known"),
        damaged("a.fbx", _deep(), "deeper than 64"),
        damaged("a.fbx", fbx(TEXT_TREE)[:1000], "cut off"),
        damaged("a.fbx", _fbx(b"?"), r"a value of the kind b'\?'"),
        damaged("a.fbx", _fbx(b"S" + struct.pack("<I", 99)), "longer than its node"),
        damaged("a.fbx", _fbx(b"d" + struct.pack("<III", 1 << 30, 1, 8) + bytes(8)), "more than its bytes can hold"),
        damaged("a.fbx", _fbx(b"d" + struct.pack("<III", 2, 0, 8) + bytes(8)), "shorter than it says"),
        damaged("a.fbx", b"; FBX\nA: 1 ?", "no text of an FBX file at byte"),
        damaged("a.fbx", b"; FBX\n" + b"A: { " * 100, "deeper than 64"),
        damaged("a.fbx", b"; FBX\nA: 1 { } }", "a bracket closes"),
        damaged("a.fbx", b"; FBX\nA: 1 {", "cut off"),
        damaged("a.fbx", fbx(fbx_tree([Shape("", np.zeros((2, 3)), np.array([[0, 1, 2]]))])), "is not there"),
    ],
)
def test_damaged_files_are_refused_in_a_line_that_says_why(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=rf"^{name}: .*{why}") as raised:
        read(written(tmp_path, name, content))
    assert str(raised.value).endswith("; its bytes are saved")
    assert "\n" not in str(raised.value)


def test_an_fbx_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fbx_scene, "_BYTES", 10)
    with pytest.raises(UnsupportedMedia, match=r"^a\.fbx: larger than"):
        fbx_scene.tree(written(tmp_path, "a.fbx", fbx(TEXT_TREE)))


def test_whatever_bytes_are_wrong_nothing_else_is_raised(tmp_path: Path) -> None:
    chance = random.Random(5)
    shapes = [ball("Head", 4), box("Box")]
    contents = {
        "a.obj": obj(shapes),
        "a.stl": stl(shapes),
        "b.stl": stl_text(shapes),
        "a.ply": ply(shapes[0]),
        "b.ply": ply(shapes[0], "ascii"),
        "a.glb": glb(shapes),
        "a.fbx": fbx(fbx_tree(shapes, {"Wood": "w.png"})),
        "b.fbx": fbx_text(fbx_tree(shapes)),
    }
    refused = 0
    for name, content in contents.items():
        for _ in range(15):
            torn = bytearray(content[: chance.randrange(len(content))] if chance.random() < 0.3 else content)
            for _ in range(chance.randrange(1, 6)):
                if torn:
                    torn[chance.randrange(min(len(torn), 900))] = chance.randrange(256)
            try:
                read(written(tmp_path, name, bytes(torn)))
            except UnsupportedMedia:
                refused += 1
    assert refused > 40


def test_vertices_that_are_nowhere_have_no_faces(tmp_path: Path) -> None:
    shape = box("Box")
    vertices = shape.vertices.copy()
    vertices[0] = np.nan
    [part] = read(written(tmp_path, "a.glb", glb([Shape("Box", vertices, shape.faces)]))).parts
    assert np.isfinite(part.vertices).all()
    assert 0 < len(part.faces) < 12


def test_distances_to_a_triangle_are_exact() -> None:
    corners = [np.array([c], dtype=float) for c in ((0, 0, 0), (1, 0, 0), (0, 1, 0))]
    expected = {(0.2, 0.2, 3): 3, (-3, 0, 4): 5, (0.5, -2, 0): 2, (2, 2, 0): 1.5 * np.sqrt(2), (0.3, 0.3, 0): 0}
    for point, far in expected.items():
        assert to_triangles(np.array([point], dtype=float), *corners)[0] == pytest.approx(far)
    line = [corners[0], corners[1], corners[1]]
    assert to_triangles(np.array([[0.5, 2, 0]], dtype=float), *line)[0] == pytest.approx(2)


def test_distances_to_a_surface_agree_with_looking_at_every_triangle() -> None:
    shape = ball("", 24)
    points = np.random.default_rng(3).normal(size=(300, 3))
    every = np.min(
        [to_triangles(points, *(np.broadcast_to(shape.vertices[c], (300, 3)) for c in face)) for face in shape.faces],
        axis=0,
    )
    near = Surface(shape.vertices, shape.faces, 0.05).distances(points)
    assert (near >= every - 1e-12).all()
    assert near == pytest.approx(every, rel=0.01, abs=1e-3)


def test_of_many_points_the_farthest_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    from gitvault.formats.mesh import distance

    shape = ball("", 16)
    points = np.random.default_rng(4).normal(size=(2000, 3))
    surface = Surface(shape.vertices, shape.faces, 0.05)
    closely = surface.distances(points)
    monkeypatch.setattr(distance, "_MANY", 400)
    quickly = surface.distances(points)
    assert quickly.max() == closely.max()
    assert (quickly >= closely - 1e-12).all()


def test_large_triangles_are_sampled_as_finely_as_asked() -> None:
    shape = box("")
    points, on = sampled(shape.vertices, shape.faces, 0.1)
    assert longest_edges(shape.vertices, shape.faces).tolist() == pytest.approx([np.sqrt(2)] * 12)
    assert len(points) == 12 * 16 * 16
    assert np.bincount(on).tolist() == [256] * 12
    corners = (shape.vertices[shape.faces[on, c]] for c in range(3))
    assert to_triangles(points, *corners).max() < 1e-9


def test_vertices_at_one_place_become_one() -> None:
    rows = np.array([(1, 0, 0), (0, 0, 0), (1, 0, 0), (-0.0, 0, 0)], dtype=float)
    vertices, which = merged(rows)
    assert vertices.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert which.tolist() == [0, 1, 0, 1]


def test_bytes_of_any_kind_are_no_model() -> None:
    """A binary STL has no magic number."""
    noise = random.Random(4)
    for size in (84, 200, 65_536):
        head = bytes(80) + struct.pack("<I", 1000) + noise.randbytes(size)
        assert identify(head, ".bin") is None


def test_a_model_of_few_triangles_is_one() -> None:
    for head in (stl([box("")])[:134], stl([box("")])):
        known = identify(head, ".bin")
        assert known and known.name == "stl"
