"""What names of files mean, and that another file is named in the same way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gitvault.formats import Reference
from gitvault.formats.references import markup, paths, scan, spans
from gitvault.formats.references.paths import URIS, Spelling, There, meaning
from gitvault.personas.creative import references, relocation
from gitvault.personas.creative.relocation import Moved
from gitvault.vault import Vault

nowhere: There = lambda path: False  # noqa: E731
there: There = lambda path: path in ("/p/a/100% real.png", "/p/a/back\\slash.png")  # noqa: E731

MEANT = [
    # format, name, what it means for /p/a/file, the name of /p/lib/new one.png
    ("mtl", "tex/b.png", "/p/a/tex/b.png", "../lib/new one.png"),
    ("mtl", "./b.png", "/p/a/b.png", "../lib/new one.png"),
    ("mtl", "/x/../abs.png", "/abs.png", "/p/lib/new one.png"),
    ("mtl", "tex\\b.png", "/p/a/tex/b.png", "..\\lib\\new one.png"),
    ("mtl", "back\\slash.png", "/p/a/back\\slash.png", None),
    ("mtl", "C:\\art\\b.png", "C:/art/b.png", "\\p\\lib\\new one.png"),
    ("gltf", "b%20c.png", "/p/a/b c.png", "../lib/new%20one.png"),
    ("gltf", "b.png?v=1#part", "/p/a/b.png", "../lib/new%20one.png?v=1#part"),
    ("gltf", "100% real.png", "/p/a/100% real.png", "../lib/new%20one.png"),
    ("gltf", "//host/b.png", None, None),
    ("svg", "https://example.invalid/b.png", None, None),
    ("svg", "file:///art/b%20c.png", "/art/b c.png", "file:///p/lib/new%20one.png"),
    ("svg", "file:b.png", "/p/a/b.png", "file:../lib/new%20one.png"),
    ("aepx", "file://localhost/art/b.png", "/art/b.png", "file://localhost/p/lib/new%20one.png"),
    ("psd", "file:///C:/art/b.png", "C:/art/b.png", "file:///p/lib/new%20one.png"),
    ("psd", "file://server/art/b.png", None, None),
    ("blend", "//tex/b.png", "/p/a/tex/b.png", "//../lib/new one.png"),
    ("blend", "//..\\tex\\b.png", "/p/tex/b.png", "//..\\lib\\new one.png"),
    ("maya", "$ASSETS/b.png", None, None),
    ("maya", "%ASSETS%/b.png", None, None),
    ("premiere", "\\\\?\\C:\\art\\b.mov", "C:/art/b.mov", "\\\\?\\\\p\\lib\\new one.png"),
    ("usd", "set.usdz[in.png]", "/p/a/set.usdz", "../lib/new one.png[in.png]"),
    ("usd", "b.$F4.png", "/p/a/b.$F4.png", "../lib/new one.png"),
    ("godot", "res://b.png", None, None),
]


@pytest.mark.skipif(os.sep == "\\", reason="paths of POSIX")
@pytest.mark.parametrize(("format_name", "name", "path", "other"), MEANT)
def test_a_name_means_a_path_and_others_are_written_likewise(
    format_name: str, name: str, path: str | None, other: str | None
) -> None:
    found, spelling = meaning(name, "/p/a/file", format_name, there)
    assert found == path
    if other is not None and path is not None:
        assert spelling.of("/p/lib/new one.png") == other
        if "\\" not in other and "[" not in other:
            assert meaning(other, "/p/a/file", format_name, nowhere)[0] == "/p/lib/new one.png"
    assert format_name not in ("blend", "maya") or format_name not in URIS


def test_names_of_a_project_begin_at_its_folder(tmp_path: Path) -> None:
    for name in ("maya/workspace.mel", "godot/project.godot", "maya/sourceimages/b.png", "unreal/Content/A/O.umap"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    scene = str(tmp_path / "maya" / "scenes" / "s.ma")
    found, spelling = meaning("sourceimages/b.png", scene, "maya")
    assert found == str(tmp_path / "maya" / "sourceimages" / "b.png")
    assert spelling.of(str(tmp_path / "maya" / "x" / "c.png")) == "x/c.png"
    assert meaning("sourceimages/no.png", scene, "maya")[0] == str(tmp_path / "maya/scenes/sourceimages/no.png")
    assert meaning("/gone/project//sourceimages/b.png", scene, "maya")[0] == found
    assert meaning("/gone/project//sourceimages/no.png", scene, "maya")[0] == "/gone/project/sourceimages/no.png"
    scene = str(tmp_path / "godot" / "deep" / "s.tscn")
    found, spelling = meaning("res://tex/b.png", scene, "godot")
    assert found == str(tmp_path / "godot" / "tex" / "b.png")
    assert spelling.of(str(tmp_path / "godot" / "c.png")) == "res://c.png"
    level = str(tmp_path / "unreal" / "Content" / "Maps" / "l.umap")
    assert meaning("/Game/A/O", level, "unreal")[0] == str(tmp_path / "unreal" / "Content" / "A" / "O.umap")
    assert meaning("/Game/A/P", level, "unreal")[0] == str(tmp_path / "unreal" / "Content" / "A" / "P.uasset")
    assert paths.project_root(level, "gltf") is None


@pytest.mark.parametrize(
    ("pattern", "kind", "expected"),
    [
        ("t.<UDIM>.png", "", ["t.1001.png", "t.1002.png"]),
        ("t.<uvtile>.png", "", ["t.u1_v2.png"]),
        ("f_####.png", "", ["f_0001.png", "f_0002.png"]),
        ("f_%04d.png", "", ["f_0001.png", "f_0002.png"]),
        ("f_$F4.png", "", ["f_0001.png", "f_0002.png"]),
        ("f_<f>.png", "", ["f_0001.png", "f_0002.png"]),
        ("f_0001.png", "sequence", ["f_0001.png", "f_0002.png"]),
        ("f_0001.png", "", ["f_0001.png"]),
        ("a#1.png", "", ["a#1.png"]),
        ("frames", "", ["1.png"]),
        ("no.<UDIM>.png", "", []),
        ("alone.png", "sequence", ["alone.png"]),
    ],
)
def test_tiles_and_frames_stand_for_all_their_files(
    tmp_path: Path, pattern: str, kind: str, expected: list[str]
) -> None:
    for name in ("t.1001.png", "t.1002.png", "t.u1_v2.png", "f_0001.png", "f_0002.png", "a#1.png", "alone.png"):
        (tmp_path / name).touch()
    (tmp_path / "frames" / "not these").mkdir(parents=True)
    (tmp_path / "frames" / "1.png").touch()
    path = str(tmp_path / pattern)
    assert [os.path.basename(found) for found in paths.members(path, kind)] == expected
    assert paths.exists(path) == bool(expected)
    assert not paths.exists(str(tmp_path / "nowhere" / pattern))


def test_only_names_that_would_lead_elsewhere_are_written_anew() -> None:
    moved: Moved = lambda path: path.replace("/p/lib", "/p/assets")  # noqa: E731
    found = [["", target, "image"] for target in ("../lib/a.png", "b.png", "/p/lib/c.png", "/q/d.png", "$X/e.png")]
    new = relocation.new_targets(found, "mtl", "/p/s/f.mtl", "/p/s/f.mtl", moved, nowhere)
    assert new == {"../lib/a.png": "../assets/a.png", "/p/lib/c.png": "/p/assets/c.png"}
    found = [["", "tex/a.png", "image"], ["", "../x.png", "image"]]
    new = relocation.new_targets(found, "mtl", "/p/lib/f.mtl", "/p/deep/assets/f.mtl", moved, nowhere)
    assert new == {"tex/a.png": "../../assets/tex/a.png", "../x.png": "../../x.png"}
    assert relocation.new_targets(found, "mtl", "/p/lib/f.mtl", "/p/assets/f.mtl", moved, nowhere) == {}
    assert Spelling("", "/p").based("/q").of("/q/a") == "a"


def test_bytes_around_names_stay(tmp_path: Path) -> None:
    data = b"one two three"
    found = [spans.Span(Reference("", "two", "file"), 4, 7, spans.encode_plain)]
    assert spans.spliced(data, found, {"two": "2"}) == (b"one 2 three", 1)
    assert spans.spliced(data, found, {"two": "two", "x": "y"}) == (data, 0)

    def every(data: bytes) -> list[spans.Span]:
        return found

    looked: spans.Spans = every
    references_of, rewrite = spans.capabilities(looked)
    (tmp_path / "a").write_bytes(data)
    assert [one.target for one in references_of(tmp_path / "a")] == ["two"]
    assert rewrite(tmp_path / "a", {"two": "2"}, tmp_path / "b") == 1
    assert markup.meant(b"a &amp; &#98; &#x63; &quot; &unknown; &#9999999;") == 'a & b c " &unknown; &#9999999;'
    assert markup.meant(markup.escaped("<&>\"'")) == "<&>\"'"


def test_files_that_cannot_refer_to_others_are_not_opened() -> None:
    assert [scan.may_refer(ending) for ending in (".png", ".gltf", ".unknown", "")] == [False, True, True, True]


def test_folders_of_version_control_are_not_looked_at(tmp_path: Path) -> None:
    for name in (".git/a.obj", "deep/b.obj", "a.obj"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(path, tmp_path) for path in references.files_in(str(tmp_path))]
    assert found == ["a.obj", os.path.join("deep", "b.obj")]


def test_what_changes_is_saved_first_wherever_it_is(tmp_path: Path, vault: Vault) -> None:
    for name in ("forest/a.obj", "scope/deep/b.obj", "alone/c.obj"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    vault.add_project(tmp_path / "forest")
    touched = [str(tmp_path / name) for name in ("forest/a.obj", "scope/deep/b.obj", "alone/c.obj")]
    saved = relocation.save_first(vault, [str(tmp_path / "scope")], touched)
    assert [vault.get_snapshot_info(snapshot).project for snapshot in saved] == ["forest", "scope", "alone"]
    done = relocation.Relocation([], [relocation.Rewritten("a", "b", 1)], [])
    assert done.rewritten[0].output == "b"
