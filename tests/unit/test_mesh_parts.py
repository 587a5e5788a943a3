"""What comparing models is made of, each on its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scenes
from models import Fbx, ball, box, fbx, written

from gitvault.formats import fbx as scene
from gitvault.formats import format_of
from gitvault.formats.mesh.matching import Matching, Pair, match
from gitvault.formats.mesh.measures import measures
from gitvault.formats.mesh.model import (
    Floats,
    Keys,
    Mask,
    Model,
    Part,
    among,
    crossed,
    doubled_areas,
    face_keys,
    row_keys,
    summed,
    surface_key,
    used,
    used_only,
)
from gitvault.formats.mesh.render import CLAY, PAPER, Hits, Scene, Singles, drawn, framed, grid, ramp, views
from gitvault.formats.mesh.side import CHANGED, LONE, SAME, Side, sides
from gitvault.formats.mesh.text import words_per_line
from gitvault.formats.references.fbx import references_in


def part(name: str, vertices: Floats, **more: tuple[str, ...]) -> Part:
    shape = box(name)
    return Part(name, vertices, shape.faces, len(shape.faces), **more)  # type: ignore[arg-type]


def test_keys_of_rows_are_those_of_their_numbers() -> None:
    keys: Keys = row_keys(np.array([(0.0, 1.0), (1.0, 0.0), (-0.0, 1.0), (0.0, 1.0000001)]))
    assert keys[0] == keys[2]
    assert len(set(keys.tolist())) == 3


def test_keys_of_faces_know_which_way_they_look_but_not_where_they_begin() -> None:
    corners = row_keys(np.eye(3))
    keys = face_keys(corners, np.array([(0, 1, 2), (1, 2, 0), (2, 1, 0)]))
    assert keys[0] == keys[1] != keys[2]


def test_sums_of_keys_do_not_know_their_order() -> None:
    keys = row_keys(np.arange(12).reshape(4, 3))
    assert summed(keys) == summed(keys[::-1]) != summed(keys[:3])
    assert summed(np.concatenate([keys, keys])) != summed(keys)
    values = np.arange(4)[:, None]
    assert surface_key(keys, values) == surface_key(keys[::-1], values[::-1]) != surface_key(keys, values[::-1])


def test_which_keys_are_among_others() -> None:
    keys = np.array([5, 1, 9, 5], dtype=np.uint64)
    found: Mask = among(keys, np.array([9, 5], dtype=np.uint64))
    assert found.tolist() == [True, False, True, True]
    assert among(keys, np.array([5, 9, 1, 7], dtype=np.uint64)).tolist() == [True, True, True, True]
    assert among(keys, keys[:0]).tolist() == [False] * 4


def test_vertices_without_faces_are_left_out() -> None:
    vertices = np.arange(300.0).reshape(100, 3)
    for faces in (np.array([[9, 7, 8]]), np.tile([[9, 7, 8]], (20, 1))):
        kept, renumbered = used_only(vertices, faces)
        assert kept.tolist() == vertices[7:10].tolist()
        assert renumbered[0].tolist() == [2, 0, 1]
        assert used(100, faces).sum() == 3


def test_normals_are_as_long_as_twice_the_area() -> None:
    shape = box("", 2)
    assert np.linalg.norm(doubled_areas(shape.vertices, shape.faces), axis=1).tolist() == [4] * 12
    a, b = np.random.default_rng(1).random((2, 5, 3))
    assert crossed(a, b) == pytest.approx(np.cross(a, b))


def test_words_of_lines() -> None:
    assert words_per_line(b"f 1  2\n\n f 3\r\n x\n").tolist() == [3, 0, 2, 1]


def test_two_boxes_that_touch_at_an_edge_are_one_shell_with_a_crowded_edge() -> None:
    one, other = box(""), box("").at(1, 1, 0)
    vertices = np.concatenate([one.vertices, other.vertices + other.place])
    found = measures(vertices, np.concatenate([one.faces, other.faces + 8]))
    assert found["topology"] == {"shells": 1, "open_edges": 0, "crowded_edges": 1, "euler": 3, "closed": False}
    assert found["volume"] == pytest.approx(2)


def test_parts_are_matched_by_name_then_by_content() -> None:
    small, large = box("").vertices, box("", 3).vertices
    before = Model((part("A", small), part("B", large), part("C", small + 9)), {"Red": "1"})
    after = Model((part("B", small), part("A", small), part("D", small + 9), part("E", ball("", 4).vertices[:8])))
    found = match(before, after)
    assert found == Matching((Pair(1, 0, ("shape",)), Pair(0, 1, ()), Pair(2, 2, ())), (3,), ())


def test_a_material_that_says_something_else_changes_its_parts() -> None:
    parts = (part("A", box("").vertices, materials=("Red",)),)
    [pair] = match(Model(parts, {"Red": "1"}), Model(parts, {"Red": "2"})).pairs
    assert pair.changes == ("material",)


def test_faces_that_both_versions_have_are_the_same_in_parts_that_changed() -> None:
    model = Model((part("A", box("").vertices),))
    moved = box("").vertices
    moved[0] -= 0.5
    a, b = sides(model, Model((part("A", moved),)), {0: CHANGED}, {0: CHANGED})
    assert isinstance(a, Side)
    touching = (box("").faces == 0).any(axis=1)
    assert (b.state == np.where(touching, CHANGED, SAME)).all()
    assert sorted(map(tuple, b.points)) == sorted(map(tuple, moved[np.unique(box("").faces[touching])]))
    alone, _ = sides(model, model, {0: LONE}, {})
    assert (alone.state == LONE).all()


def test_rays_meet_what_is_in_front() -> None:
    shape = ball("", 16)
    for view, usual in views("z"):
        assert 0 < usual <= 1
        view = framed(view, shape.vertices, 1.0)
        scene_of_ball = Scene(shape.vertices, shape.faces)
        hits: Hits = scene_of_ball.cast(view, np.array([(0.0, 0.0), (0.49, 0.49)]))
        assert (hits.face >= 0).tolist() == [True, False]
        assert np.isinf(hits.away[1])
        place = scene_of_ball.places(hits.only(hits.face >= 0))[0]
        assert place == pytest.approx(view.back, abs=0.05)


def test_the_usual_view_is_from_the_front_right_and_above() -> None:
    assert (views("y")[0][0].back > 0).all()
    x, y, z = views("z")[0][0].back
    assert x > 0 > y
    assert z > 0


def test_edges_are_looked_at_closely_and_nothing_else() -> None:
    asked = []

    def paint(at: Floats) -> Singles:
        asked.append(len(at))
        return np.where(at[:, :1] < 0.01, 1.0, 0.0).astype(np.float32).repeat(3, axis=1)

    picture = drawn(paint, 64, 48)
    assert asked == [64 * 48, 2 * 48 * 4]
    assert picture.shape == (48, 64, 3)
    assert set(np.unique(picture)) == {0, 0.5, 1}
    assert grid(3, 1).tolist() == [[-1, 0], [0, 0], [1, 0]]


def test_colours_begin_with_none_and_a_hundredth_is_yellow() -> None:
    none, little, most = ramp(np.array([0, 0.01, 1]))
    assert none == pytest.approx(np.array(CLAY))
    assert little[0] > 0.95
    assert little[0] - little[2] > 0.3
    assert most[0] < 0.5 < PAPER


def test_the_tree_of_an_fbx_file(tmp_path: Path) -> None:
    things = (
        Fbx(
            "Video", (7, "Clip\0\1Video", "Clip"), (Fbx("Filename", ("clip.mp4",)), Fbx("Use", (1,)), Fbx("Use", (2,)))
        ),
        Fbx("Audio", (8, "Horn\0\1Audio", ""), (Fbx("FileName", ("horn.wav",)),)),
    )
    joins = (Fbx("C", ("OO", 7, 0)), Fbx("C", ("OP", 8, 7, "Sound")), Fbx("C", (1,)))
    path = written(tmp_path, "a.fbx", fbx((Fbx("Objects", (), things), Fbx("Connections", (), joins))))
    root = scene.tree(path)
    assert isinstance(root, scene.Node)
    assert scene.connections(root) == [("7", "0", ""), ("8", "7", "Sound")]
    assert [(r.target, r.kind) for r in references_in(root)] == [("clip.mp4", "image"), ("horn.wav", "sound")]
    video = scene.objects(root)[0].node
    assert [use.numbers().tolist() for use in video.all("Use")] == [[1], [2]]
    assert scene.plain_name("Model::Cube") == scene.plain_name("Cube\0\1Model") == "Cube"


def test_the_meshes_of_a_blender_file_are_parts(tmp_path: Path) -> None:
    plain, higher, moved, renamed = (
        scenes.written(tmp_path / f"{number}.blend", scenes.blend(**more))
        for number, more in enumerate(({}, {"top": 1.5}, {"loc": (2.0, 0.0, 0.0)}, {"objects": ("Cube", "Lantern")}))
    )
    known = format_of(plain)
    assert known and known.compare
    stats = known.compare(plain, higher, None).stats
    assert stats["changes"] == {"Cube": ["shape"], "Lamp": ["shape"]}
    assert (stats["faces"], stats["triangles"]) == (12, 24)
    assert known.compare(plain, moved, None).stats["parts_moved"] == ["Cube", "Lamp"]
    assert known.compare(plain, renamed, None).stats["parts_renamed"] == ["Lantern"]
