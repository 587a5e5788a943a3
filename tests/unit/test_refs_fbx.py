"""Names of files in FBX scenes are written anew, and everything else stays what it was."""

from __future__ import annotations

import struct
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from models import Fbx, box, fbx, fbx_text, fbx_tree, written

from gitvault.errors import UnsupportedMedia
from gitvault.formats import fbx as scene
from gitvault.formats import format_of
from gitvault.formats.mesh.fbx import read as model
from gitvault.formats.references.fbx import packed_in, references, references_in, rewrite

FOOT = bytes(range(1, 17)), bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")


def _tree() -> tuple[Fbx, ...]:
    path = Fbx("P", ("Path", "KString", "XRefUrl", "", "C:\\art\\tex/wood.png"))
    video = Fbx(
        "Video",
        (7, "Clip\0\1Video", "Clip"),
        (Fbx("Properties70", (), (path, Fbx("P", ("Color", "KString", "", "", "tex/wood.png")))),),
    )
    objects, joins = fbx_tree([box("Chair")], {"Wood": "tex/wood.png", "Other": "other.png"})
    return Fbx("Objects", (), (*objects.children, video)), joins


def _binary(version: int) -> bytes:
    """With an end as Blender and Autodesk write it."""
    data = fbx(_tree(), version) + FOOT[0] + bytes(4)
    return data + bytes(16 - len(data) % 16) + struct.pack("<I", version) + bytes(120) + FOOT[1]


def _plain(node: scene.Node) -> object:
    return node.name, [str(v) if isinstance(v, str) else v for v in node.values], [_plain(c) for c in node.children]


def _replaced(node: object, targets: dict[str, str]) -> object:
    match node:
        case (name, list(values), list(children)):
            if name == "P" and values[0] == "Color":
                return node
            return (
                name,
                [targets.get(value, value) if isinstance(value, str) else value for value in values],
                [_replaced(child, targets) for child in children],
            )
    raise AssertionError(node)


@pytest.mark.parametrize("form", ["7400", "7500", "text"])
@pytest.mark.parametrize(
    "new", ["a.png", "somewhere/far away/from here/wood (2).png", "tex/weid\u00e9.png", 'tex/a "b".png', "tex/oak4.png"]
)
def test_only_the_names_become_other_ones(tmp_path: Path, form: str, new: str) -> None:
    """Binary files with 32 and 64 bits for a place, and text; the whole tree is read again and compared."""
    content = fbx_text(_tree()) if form == "text" else _binary(int(form))
    path = written(tmp_path, "a.fbx", content)
    targets = {"tex/wood.png": new, "C:\\art\\tex/wood.png": f"C:\\art\\{new}", "not there": "x"}
    assert rewrite(path, targets, tmp_path / "b.fbx") == 3
    assert _plain(scene.tree(tmp_path / "b.fbx")) == _replaced(_plain(scene.tree(path)), targets)
    assert [(one.source, one.target, one.kind) for one in references(tmp_path / "b.fbx")] == [
        (one.source, targets.get(one.target, one.target), one.kind) for one in references(path)
    ]
    made = (tmp_path / "b.fbx").read_bytes()
    assert rewrite(tmp_path / "b.fbx", {new: old for old, new in targets.items()}, tmp_path / "c.fbx") == 3
    assert (tmp_path / "c.fbx").read_bytes() == content, "and back, to the last byte"
    if form != "text":
        assert (len(made) - 140) % 16 == 0
        assert made[-140:] == content[-140:]
        zeros = made[:-140][made.rindex(FOOT[0]) + 16 :]
        assert 5 <= len(zeros) <= 20
        assert not any(zeros)


def test_an_end_that_is_another_one_stays_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "a.fbx", fbx(_tree()) + b"something else")
    assert rewrite(path, {"tex/wood.png": "w.png"}, tmp_path / "b.fbx") == 1
    assert (tmp_path / "b.fbx").read_bytes().endswith(b"something else")


def test_the_table_knows(tmp_path: Path) -> None:
    known = format_of(written(tmp_path, "a.fbx", fbx(_tree())))
    assert known
    assert known.rewrite


@pytest.mark.parametrize("version", [7400, 7500])
def test_where_things_stand_is_known(version: int) -> None:
    """Of each text its bytes, of each binary node its head: that is what names are replaced by."""
    data = _binary(version)
    root, binary = scene.parsed(data, "a.fbx")
    assert isinstance(binary, scene.Binary)
    assert binary.numbers.size == (8 if version == 7500 else 4)
    [clip] = [thing.node.values[1] for thing in scene.objects(root) if thing.node.name == "Video"]
    assert isinstance(clip, scene.Text)
    assert data[clip.start : clip.stop] == b"Clip\0\1Video"
    assert scene.Text.at(b"x&quot;y", 1, 8, quoted=True) == '"y'
    head = binary.heads[0]
    assert isinstance(head, scene.Head)
    assert (head.at, data[head.begin - 7 : head.begin], head.length) == (27, b"Objects", 0)
    text, none = scene.parsed(fbx_text(_tree()), "a.fbx")
    assert none is None
    assert [thing.name for thing in scene.objects(text)] == [thing.name for thing in scene.objects(root)]
    assert references_in(text) == references_in(root)


@pytest.mark.parametrize("form", ["7400", "7500", "text"])
def test_files_that_the_scene_holds_are_no_references(tmp_path: Path, form: str) -> None:
    """Whether a texture shows the video that holds one, or only names the same file; what is empty holds none."""
    inside = b"\x89PNG\r\n\x1a\n a picture"
    raw = b"R" + struct.pack("<I", len(inside)) + inside
    halves = tuple(b64encode(inside[at : at + 9]).decode() for at in (0, 9, 18))
    held = halves if form == "text" else (raw,)

    def video(number: int, file: str, content: tuple[object, ...]) -> Fbx:
        names = Fbx("Filename", ("C:\\" + file,)), Fbx("RelativeFilename", (file,)), Fbx("Content", content)
        return Fbx("Video", (number, f"{file}\0\1Video", "Clip"), names)

    textures = {"Shown": "shown as another.png", "Named": "wood.png", "Beside": "beside.png"}
    objects, joins = fbx_tree([box("Chair")], textures)
    videos = video(7, "wood.png", held), video(8, "beside.png", ("",))
    links = *joins.children, Fbx("C", ("OO", 7, 400)), Fbx("C", ("OO", 8, 402))
    tree = Fbx("Objects", (), (*objects.children, *videos)), Fbx("Connections", (), links)
    path = written(tmp_path, "a.fbx", fbx_text(tree) if form == "text" else fbx(tree, int(form)))
    assert {(one.source.partition(": ")[2], one.target) for one in references(path)} == {
        ("Beside", "C:\\art\\beside.png"),
        ("Beside", "beside.png"),
        ("beside.png", "C:\\beside.png"),
        ("beside.png", "beside.png"),
    }
    assert packed_in(scene.tree(path)) == {"wood.png": inside}
    found = model(path).textures
    assert (found["wood.png"], found["beside.png"]) == (sha256(inside).hexdigest(), "")


def test_content_that_is_no_base64_is_there_all_the_same(tmp_path: Path) -> None:
    text = b'; FBX 7.4.0\nObjects: {\n Video: 7, "Video::v", "Clip" {\n  Content: , "x"\n }\n}\n'
    path = written(tmp_path, "a.fbx", text)
    assert references(path) == []
    assert packed_in(scene.tree(path)) == {"v": b"x"}


def test_arrays_are_bounded_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may be a thousandth of what it unpacks to."""
    path = written(tmp_path, "a.fbx", fbx(_tree()))
    monkeypatch.setattr(scene, "_UNPACKED", 300)
    with pytest.raises(UnsupportedMedia, match=r"a\.fbx: its tree cannot be read: its arrays have more than 0 GiB"):
        scene.tree(path)
