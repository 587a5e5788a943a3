"""Two versions of a model: parts by name and content, figures, distances, and pictures that show them."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import Shape, ball, box, glb, obj, ply, save, stl, written

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Comparison, format_of
from gitvault.formats.mesh import pictures
from gitvault.formats.mesh import read as reading

NAMED = (".obj", ".stl", ".glb", ".fbx")
ALL = (*NAMED, ".ply")


def compared(before: Path, after: Path, folder: Path | None = None) -> Comparison:
    known = format_of(after)
    assert known and known.compare
    return known.compare(before, after, folder)


def stats_of(tmp_path: Path, kind: str, before: list[Shape], after: list[Shape]) -> Any:
    found = compared(save(tmp_path / "a", "m" + kind, before), save(tmp_path / "b", "m" + kind, after))
    assert found.kind == "mesh"
    return found.stats


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of 240 x 180."""
    monkeypatch.setattr(pictures, "WIDTH", 240)
    monkeypatch.setattr(pictures, "HEIGHT", 180)


def image(path: str) -> np.ndarray[Any, Any]:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", ALL)
def test_the_same_model_has_not_changed(tmp_path: Path, kind: str) -> None:
    before, after = (save(tmp_path / side, "m" + kind, [ball("Head")]) for side in "ab")
    found = compared(before, after, tmp_path / "out")
    assert not found.changed
    assert found.pictures == {}
    assert not (tmp_path / "out").exists()
    assert found.stats["max_distance"] == 0


@pytest.mark.parametrize("kind", NAMED)
def test_parts_added_removed_changed_and_renamed_are_told_by_name(tmp_path: Path, kind: str) -> None:
    before = [ball("Head"), box("Hat").at(3, 0, 0), box("Floor", 4).at(0, -5, 0), box("Old", 0.5).at(-3, 0, 0)]
    after = [ball("Head", bump=0.2), box("Floor", 4).at(0, -5, 0), box("Cap").at(3, 0, 0), ball("New", 8).at(0, 4, 0)]
    stats = stats_of(tmp_path, kind, before, after)
    assert stats["parts_added"] == ["New"]
    assert stats["parts_removed"] == ["Old"]
    assert stats["parts_changed"] == ["Head"]
    assert stats["parts_renamed"] == ["Cap"]
    assert stats["renamed_from"] == {"Cap": "Hat"}
    assert stats["changes"]["Head"] == ["shape"]


@pytest.mark.parametrize("kind", NAMED)
def test_what_only_moved_is_told_from_what_changed_its_shape(tmp_path: Path, kind: str) -> None:
    still, moved = box("Floor", 4), ball("Head", 8)
    stats = stats_of(tmp_path, kind, [still, moved.at(0, 6, 0)], [still, moved.at(0, 6.25, 0)])
    assert stats["parts_moved"] == stats["parts_changed"] == ["Head"]
    assert stats["changes"] == {"Head": ["place"]}
    assert stats["max_distance"] == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("kind", ALL)
def test_the_largest_distance_is_how_far_the_surface_went(tmp_path: Path, kind: str) -> None:
    stats = stats_of(tmp_path, kind, [ball("Head", 32)], [ball("Head", 32, bump=0.2)])
    assert stats["max_distance"] == pytest.approx(0.2, rel=0.05)
    assert 0 < stats["mean_distance"] < 0.05
    assert stats["volume"] > stats["before"]["volume"]


def test_figures_of_a_box(tmp_path: Path) -> None:
    stats = stats_of(tmp_path, ".glb", [box("Box", 2)], [box("Box", 3)])
    assert (stats["vertices"], stats["faces"]) == (8, 12)
    assert stats["before"]["area"] == pytest.approx(24)
    assert stats["area"] == pytest.approx(54)
    assert stats["volume"] == pytest.approx(27)
    assert stats["bounds"] == [[0, 0, 0], [3, 3, 3]]
    assert stats["topology"] == {"shells": 1, "open_edges": 0, "crowded_edges": 0, "euler": 2, "closed": True}


def test_a_hole_is_seen_in_topology_and_distance_though_no_vertex_moved(tmp_path: Path) -> None:
    whole = box("Box")
    holed = Shape("Box", whole.vertices, whole.faces[2:])
    stats = stats_of(tmp_path, ".glb", [whole], [holed])
    assert stats["changes"] == {"Box": ["topology"]}
    assert stats["topology"]["open_edges"] == 4
    assert not stats["topology"]["closed"]
    # The middle of the side that is gone is half a side away from the next.
    assert stats["max_distance"] == pytest.approx(0.5, abs=0.04)


def test_the_order_of_vertices_and_faces_is_no_change(tmp_path: Path) -> None:
    shape = ball("Head", 8)
    order = np.random.default_rng(1).permutation(len(shape.vertices))
    back = np.argsort(order)
    shuffled = Shape("Head", shape.vertices[order], np.roll(back[shape.faces], 1, axis=1)[::-1])
    assert not stats_of(tmp_path, ".glb", [shape], [shuffled])["parts_changed"]


def test_faces_that_look_the_other_way_are_a_change(tmp_path: Path) -> None:
    shape = ball("Head", 8)
    assert stats_of(tmp_path, ".obj", [shape], [Shape("Head", shape.vertices, shape.faces[:, ::-1])])["parts_changed"]


def test_one_vertex_of_thousands_that_moved_a_little_is_found(tmp_path: Path) -> None:
    shape = ball("Head", 64)
    vertices = shape.vertices.copy()
    vertices[4000] *= 1.0001
    stats = stats_of(tmp_path, ".glb", [shape], [Shape("Head", vertices, shape.faces)])
    assert stats["parts_changed"] == ["Head"]
    assert stats["max_distance"] == pytest.approx(0.0001, rel=0.02)


def test_a_part_under_another_name_that_was_worked_on_was_renamed_and_changed(tmp_path: Path) -> None:
    stats = stats_of(tmp_path, ".glb", [ball("Head", 24)], [ball("Kopf", 16)])
    assert (stats["parts_added"], stats["parts_removed"]) == (["Kopf"], ["Head"])
    shape = ball("Head")
    vertices = shape.vertices.copy()
    vertices[:100] *= 1.1
    stats = stats_of(tmp_path, ".glb", [shape], [Shape("Kopf", vertices, shape.faces)])
    assert (stats["parts_renamed"], stats["parts_changed"]) == (["Kopf"], ["Kopf"])


def test_a_part_that_was_renamed_and_moved_is_not_another(tmp_path: Path) -> None:
    stats = stats_of(tmp_path, ".obj", [ball("Head", 8)], [ball("Kopf", 8).at(5, 0, 0)])
    assert (stats["parts_renamed"], stats["parts_moved"]) == (["Kopf"], ["Kopf"])


def test_two_scenes_that_share_nothing(tmp_path: Path) -> None:
    stats = stats_of(tmp_path, ".glb", [], [box("Box")])
    assert stats["parts_added"] == ["Box"]
    assert stats["max_distance"] is None


def test_a_cloud_of_points_is_compared_by_its_points(tmp_path: Path) -> None:
    points = np.random.default_rng(2).random((300, 3)).round(3)
    more = points.copy()
    more[7] += 5
    none = np.zeros((0, 3), dtype=int)
    stats = stats_of(tmp_path, ".ply", [Shape("", points, none)], [Shape("", more, none)])
    assert stats["parts_changed"] == ["model"]
    assert (stats["vertices"], stats["faces"]) == (300, 0)


def test_materials_and_textures_are_told_by_name(tmp_path: Path) -> None:
    red = {"name": "Red", "pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}}
    blue = {"name": "Red", "pbrMetallicRoughness": {"baseColorFactor": [0, 0, 1, 1]}}
    shape = Shape("Box", box("").vertices, box("").faces, material="Red")
    images = {"images": [{"uri": "wood.png"}], "textures": [{"source": 0}]}
    textured = {**blue, "normalTexture": {"index": 0}}
    files = [
        written(tmp_path / str(n), "m.glb", glb([shape], materials=[made], **more))
        for n, (made, more) in enumerate(((red, images), (blue, images), (textured, images)))
    ]
    stats = compared(files[0], files[1]).stats
    assert (stats["materials_changed"], stats["changes"]) == (["Red"], {"Box": ["material"]})
    (tmp_path / "1" / "wood.png").write_bytes(b"oak")
    (tmp_path / "2" / "wood.png").write_bytes(b"ash")
    stats = compared(files[1], files[2]).stats
    assert (stats["materials_changed"], stats["textures_changed"]) == (["Red"], ["wood.png"])


def test_versions_in_two_formats(tmp_path: Path) -> None:
    found = compared(written(tmp_path, "a.stl", stl([box("")])), written(tmp_path, "b.ply", ply(box(""))))
    assert not found.stats["parts_changed"]


def test_three_pictures_show_the_change_from_its_side(tmp_path: Path) -> None:
    """The bump is red on grey; what was added is green, what is gone is blue and can be seen through."""
    before = save(tmp_path / "a", "m.glb", [ball("Head"), box("Gone", 0.6).at(1.3, -0.3, 0.6)])
    after = save(tmp_path / "b", "m.glb", [ball("Head", bump=0.3), box("New", 0.7).at(-0.3, 1.3, 0)])
    found = compared(before, after, tmp_path / "out")
    assert found.changed
    assert list(found.pictures) == ["before", "after", "difference"]
    shown = {name: image(path) for name, path in found.pictures.items()}
    assert {picture.shape for picture in shown.values()} == {(600, 800, 3)}
    # Grey on white: no colours, and the change is there.
    assert all(np.ptp(shown[name], axis=2).max() < 12 for name in ("before", "after"))
    assert (np.abs(shown["before"] - shown["after"]).max(axis=2) > 40).sum() > 1000
    red, green, blue = np.moveaxis(shown["difference"], 2, 0)
    assert ((red > 1.8 * green) & (red > 1.8 * blue)).sum() > 500
    assert ((green > 1.5 * red) & (green > 1.3 * blue)).sum() > 2000
    assert ((blue > 1.3 * red) & (blue > 1.1 * green)).sum() > 2000


@pytest.mark.usefixtures("small")
def test_a_change_behind_is_looked_at_from_behind(tmp_path: Path) -> None:
    front, back = ball("Head", bump=0.3), ball("Head", bump=0.3)
    back = Shape("Head", back.vertices * (-1, 1, -1), back.faces)
    for name, shape in (("front", front), ("back", back)):
        plain = Shape("Head", shape.vertices / np.linalg.norm(shape.vertices, axis=1)[:, None], shape.faces)
        before, after = (save(tmp_path / name / side, "m.glb", [s]) for side, s in (("a", plain), ("b", shape)))
        red, green, _ = np.moveaxis(image(compared(before, after, tmp_path / name).pictures["difference"]), 2, 0)
        assert (red > 1.8 * green).sum() > 300


@pytest.mark.usefixtures("small")
def test_a_small_change_is_drawn_near_by_too(tmp_path: Path) -> None:
    floor, bolt = box("Floor", 10), ball("Bolt", 8)
    bolt = Shape("Bolt", bolt.vertices * 0.05, bolt.faces)
    before = save(tmp_path / "a", "m.glb", [floor, bolt.at(5, 10, 5)])
    after = save(tmp_path / "b", "m.glb", [floor, bolt.at(5, 10.02, 5)])
    shown = compared(before, after, tmp_path / "out").pictures
    assert list(shown) == ["before", "after", "difference", "detail"]
    far, near = (np.ptp(image(shown[name]), axis=2) > 40 for name in ("difference", "detail"))
    assert far.sum() * 20 < near.sum() > 1000


@pytest.mark.usefixtures("small")
def test_what_changed_inside_shines_through(tmp_path: Path) -> None:
    shell, core = box("Shell", 4), ball("Core", 8)
    before = save(tmp_path / "a", "m.glb", [shell, core.at(2, 2, 2)])
    after = save(tmp_path / "b", "m.glb", [shell, core.at(2, 2.4, 2)])
    picture = image(compared(before, after, tmp_path / "out").pictures["difference"])
    assert (np.ptp(picture, axis=2) > 15).sum() > 300


@pytest.mark.parametrize("kind", ALL)
def test_a_thumbnail_is_a_small_square_picture_of_the_model(tmp_path: Path, kind: str) -> None:
    from PIL import Image

    path = save(tmp_path, "m" + kind, [ball("Head")])
    known = format_of(path)
    assert known and known.thumbnail
    with Image.open(io.BytesIO(known.thumbnail(path, 96))) as picture:
        assert picture.size == (96, 96)
        pixels = np.asarray(picture).astype(int)
    assert (pixels[48, 48] < 200).all()
    assert (pixels[:3] == 255).all()
    # A ball fills three quarters of the square around it.
    assert 0.55 < (pixels.min(axis=2) < 250).mean() < 0.8


def test_what_has_no_faces_has_no_thumbnail(tmp_path: Path) -> None:
    path = save(tmp_path, "m.ply", [Shape("", np.zeros((3, 3)), np.zeros((0, 3), dtype=int))])
    known = format_of(path)
    assert known and known.thumbnail
    with pytest.raises(UnsupportedMedia, match=r"^m\.ply: has no faces"):
        known.thumbnail(path, 64)


def test_models_beyond_the_limits_are_refused_before_they_are_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instances cost no bytes in a file, so they are what a small file can be a bomb with."""
    shape = box("Box")
    nodes = [{"mesh": 0, "name": str(n)} for n in range(100)]
    bomb = glb([shape], nodes=nodes, scenes=[{"nodes": list(range(100))}])
    path = written(tmp_path, "bomb.glb", bomb)
    assert len(reading.read(path).parts) == 100
    monkeypatch.setattr(reading, "FACES", 1000)
    with pytest.raises(UnsupportedMedia, match=r"^bomb\.glb: more than 1,000 triangles"):
        reading.read(path)
    monkeypatch.setattr(reading, "BYTES", 100)
    with pytest.raises(UnsupportedMedia, match=r"^bomb\.glb: larger than"):
        reading.read(path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedMedia, match=r"^a\.txt: unknown kind of file: no model"):
        reading.read(written(tmp_path, "a.txt", b"hello"))


@pytest.mark.usefixtures("small")
def test_pictures_are_png_files_without_another_library(tmp_path: Path) -> None:
    before, after = (written(tmp_path, f"{n}.obj", obj([box("Box", n)])) for n in (1, 2))
    data = Path(compared(before, after, tmp_path / "out").pictures["after"]).read_bytes()
    assert data.startswith(b"\x89PNG")
    body = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    assert len(zlib.decompress(body)) == 180 * (240 * 3 + 1)
