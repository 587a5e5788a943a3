"""Wavefront OBJ: objects and groups by name, one put into another version, numbers of what comes after moved."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenes import written

from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats import format_of
from gitvault.formats.elements import prove
from gitvault.formats.scene import obj
from gitvault.formats.scene.obj import elements, extract, splice
from gitvault.formats.witness.obj import witness

TRIANGLE = "v 0 0 {0}\nv 1 0 {0}\nv 0 1 {0}\nvt 0 0\nvn 0 0 1\n"


def scene(*, height: float = 0, square: bool = False, middle: bool = True) -> bytes:
    """Three objects, the last with numbers from the end."""
    text = (
        "# made by hand\nmtllib scene.mtl\no Floor\n" + TRIANGLE.format(0) + "usemtl Wood\ns 1\nf 1/1/1 2/1/1 3/1/1\n"
    )
    before = 3
    if middle:
        text += "o Table\n" + TRIANGLE.format(height) + ("v 1 1 0\n" if square else "")
        text += "usemtl Steel\n" + ("f 4/2/2 5//2 7 6/2\n" if square else "f 4/2/2 5//2 6/2\n")
        before += 4 if square else 3
    text += "o Cat\n" + TRIANGLE.format(9) + f"f -3 -2 -1\nl {before + 1} {before + 2}"
    return text.encode()


def restored(old: Path, element: str, current: Path) -> tuple[bytes, tuple[str, ...], bool]:
    output = current.with_name("output.obj")
    splice(old, element, current, output)
    proof = prove(witness(old), witness(current), witness(output), restored={element}, replaced={element})
    assert {e.id for e in elements(output)} == {e.id for e in (*elements(old), *elements(current))}
    return output.read_bytes(), proof.changed, proof.holds


def test_objects_are_listed_and_changes_told(tmp_path: Path) -> None:
    one, two = written(tmp_path / "one.obj", scene()), written(tmp_path / "two.obj", scene(height=2))
    then, now = elements(one), elements(two)
    assert [(element.id, element.kind) for element in then] == [
        ("object/Floor", "object"),
        ("object/Table", "object"),
        ("object/Cat", "object"),
    ]
    assert [a.hash == b.hash for a, b in zip(then, now, strict=True)] == [True, False, True]
    assert set(witness(one)) == {"", *(element.id for element in then)}
    able = format_of(one)
    assert able and able.witness and able.elements


def test_an_object_with_more_vertices_moves_the_numbers_after_it(tmp_path: Path) -> None:
    old = written(tmp_path / "old.obj", scene(square=True))
    new = written(tmp_path / "new.obj", scene())
    output, changed, holds = restored(old, "object/Table", new)
    assert (changed, holds) == (("object/Table",), True)
    assert output.rstrip(b"\n").endswith(b"f -3 -2 -1\nl 8 9")
    assert b"f 4/2/2 5//2 7 6/2" in output
    # And back again.
    output, changed, holds = restored(new, "object/Table", written(tmp_path / "now.obj", output))
    assert (changed, holds) == (("object/Table",), True)
    assert output.rstrip(b"\n").endswith(b"l 7 8")


def test_an_object_that_is_gone_comes_back_with_its_materials(tmp_path: Path) -> None:
    old = written(tmp_path / "old.obj", scene())
    new = written(tmp_path / "new.obj", scene(middle=False).replace(b"mtllib scene.mtl", b"mtllib other.mtl"))
    output, changed, holds = restored(old, "object/Table", new)
    assert (changed, holds) == (("object/Table",), True)
    assert output.startswith(new.read_bytes())
    assert b"mtllib scene.mtl\no Table\n" in output


def test_groups_that_share_vertices_keep_them(tmp_path: Path) -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 {}\ng Left\nusemtl A\nf 1 2 3\ng Right\nv 2 2 2\nf 2 3 4\ng Top\nf 1 5 4\n"
    old = written(tmp_path / "old.obj", text.format(7).encode())
    new = written(tmp_path / "new.obj", text.format(1).encode())
    output, changed, holds = restored(old, "group/Right", new)
    assert (changed, holds) == (("group/Right",), True)
    assert output.count(b"v 2 2 2\n") == 2


def test_what_holds_for_what_comes_after_stays(tmp_path: Path) -> None:
    old = written(tmp_path / "old.obj", b"v 0 0 0\no A\nusemtl Red\np 1\no B\np 1\n")
    new = written(tmp_path / "new.obj", b"v 0 0 0\no A\nusemtl Blue\ns 2\np 1\no B\np 1\n")
    output, changed, holds = restored(old, "object/A", new)
    assert (changed, holds) == (("object/A",), True)
    assert b"usemtl Blue\ns 2\no B" in output
    bare = written(tmp_path / "bare.obj", b"v 0 0 0\no A\np 1\no B\np 1\n")
    with pytest.raises(UnsupportedMedia, match="what comes after it has no material"):
        splice(old, "object/A", bare, tmp_path / "output.obj")


def test_an_object_stands_in_a_file_of_its_own(tmp_path: Path) -> None:
    path, output = written(tmp_path / "scene.obj", scene()), tmp_path / "output.obj"
    extract(path, "object/Cat", output)
    assert output.read_bytes().startswith(b"mtllib scene.mtl\no Cat\nv 0 0 9\n")
    [cat] = elements(output)
    assert cat.hash == elements(path)[-1].hash
    with pytest.raises(NotFoundError, match=r"scene\.obj: has no object/Dog"):
        extract(path, "object/Dog", output)


def test_a_flipped_byte_elsewhere_breaks_the_proof(tmp_path: Path) -> None:
    old, new = written(tmp_path / "old.obj", scene(height=3)), written(tmp_path / "new.obj", scene())
    output, _, holds = restored(old, "object/Table", new)
    assert holds
    for other in (output.replace(b"v 0 1 9", b"v 0 1 8"), output.replace(b"usemtl Wood", b"usemtl Good")):
        changed = written(tmp_path / "changed.obj", other)
        whole = (witness(old), witness(new), witness(changed))
        assert not prove(*whole, restored={"object/Table"}, replaced={"object/Table"}).holds


def test_points_without_faces_count(tmp_path: Path) -> None:
    one = written(tmp_path / "one.obj", b"o Cloud\nv 0 0 0\nv 1 1 1\n")
    two = written(tmp_path / "two.obj", b"o Cloud\nv 0 0 0\nv 1 1 2\n")
    assert elements(one)[0].hash != elements(two)[0].hash
    assert witness(one) != witness(two)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"o A\nf 1 2 3\n", "has the vertex b'1'"),
        (b"o A\nv 0 0 0\nf x\n", "has the vertex b'x'"),
        (b"o A\ncurv 0 1 1 2\n", "has curves"),
        (b"o A\nv 0 \\\n0 0\n", "statements of several lines"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: bytes, why: str) -> None:
    with pytest.raises(UnsupportedMedia, match=why):
        elements(written(tmp_path / "bad.obj", text))


def test_the_second_reader_refuses_as_well_and_so_does_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "bad.obj", b"o A\nf 1 2 3\n")
    with pytest.raises(UnsupportedMedia, match="a face has no vertex"):
        witness(path)
    monkeypatch.setattr(obj, "LIMIT", 5)
    with pytest.raises(UnsupportedMedia, match="has more than"):
        elements(path)
