"""One element of an old file comes into the current one, and everything else is proven to be as it was."""

from __future__ import annotations

import dataclasses
import random
import zipfile
from pathlib import Path

import layered
import pytest
from layered import HILL, MAKERS, SKY, TREE, Colors

from gitvault.errors import AmbiguousError, NotFoundError, ToolMissing, UnsupportedMedia
from gitvault.formats import Element, format_of
from gitvault.formats.difference import compare
from gitvault.formats.elements import (
    DOCUMENT,
    Proof,
    changes_between,
    element_changes,
    extracted,
    family,
    find,
    listed,
    prove,
    spliced,
    told_apart,
    witnessed,
)
from gitvault.formats.extras import need

OLD: Colors = {SKY: 10, HILL: 100, TREE: 200}
NOW: Colors = {SKY: 17, HILL: 120, TREE: 220}


def identity(path: Path, name: str) -> str:
    return find([e for e in listed(path) if e.kind not in ("mask", "rect", "linearGradient")], name, path.name).id


def restored(old: Path, name: str, current: Path) -> tuple[Path, Proof, str]:
    element = identity(old, name)
    output = current.with_name(f"out{current.suffix}")
    spliced(current, old, element, output)
    return output, proven(old, element, current, output), element


def proven(old: Path, element: str, current: Path, output: Path) -> Proof:
    return prove(
        witnessed(old),
        witnessed(current),
        witnessed(output),
        restored=family(listed(old), element),
        replaced=family(listed(current), element),
    )


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(tmp_path: Path, kind: str, name: str, colors: Colors) -> Path:
    return MAKERS[kind](tmp_path / f"{name}.{kind}", colors)


def hashes(path: Path) -> dict[str, str]:
    return {element.id: element.hash for element in listed(path)}


def test_an_element_is_as_in_the_old_file_and_the_others_as_in_the_current_one(tmp_path: Path, kind: str) -> None:
    old, current = made(tmp_path, kind, "old", OLD), made(tmp_path, kind, "now", NOW)
    before = current.read_bytes(), old.read_bytes()
    output, proof, element = restored(old, HILL, current)
    assert proof.holds
    inside = family(listed(old), element)
    assert set(proof.changed) == {name for name in inside if hashes(old)[name] != hashes(current)[name]}
    assert set(proof.unchanged) == set(hashes(current)) - set(proof.changed)
    assert hashes(output) == {**hashes(current), **{name: hashes(old)[name] for name in inside}}
    assert [e.id for e in listed(output)] == [e.id for e in listed(current)], "their order is kept"
    assert (current.read_bytes(), old.read_bytes()) == before, "the originals are only read"


def test_one_that_is_gone_comes_back_to_its_place(tmp_path: Path, kind: str) -> None:
    whole = made(tmp_path, kind, "old", OLD)
    for name in (SKY, HILL, TREE):
        if kind == "tif" and name != TREE:
            continue  # Pages are known by their numbers.
        current = made(tmp_path, kind, "now", {key: value for key, value in NOW.items() if key != name})
        output, proof, element = restored(whole, name, current)
        assert proof.holds
        assert element in proof.changed
        assert [e.id for e in listed(output)] == [e.id for e in listed(whole)]


def test_with_one_other_byte_anywhere_else_nothing_is_proven(tmp_path: Path, kind: str) -> None:
    """Of whatever is flipped, all that can be read differs from what it was, or cannot be read."""
    old, current = made(tmp_path, kind, "old", OLD), made(tmp_path, kind, "now", NOW)
    output, proof, element = restored(old, HILL, current)
    assert proof.holds
    good = output.read_bytes()
    others = pixels_of_others(kind, good)
    chosen = random.Random(4)
    for start, length in others:
        broken = bytearray(good)
        broken[start + chosen.randrange(length)] ^= 1
        output.write_bytes(broken)
        try:
            assert not proven(old, element, current, output).holds
        except UnsupportedMedia:
            assert kind in ("zip", "kra", "ora", "psd"), "what has a checksum cannot be read at all"


def pixels_of_others(kind: str, data: bytes) -> list[tuple[int, int]]:
    """Where something of the elements that were not restored lies."""
    if kind == "svg":
        return [
            (data.index(b'width="220"') + 7, 1),
            (data.index(b'id="Sky-light"') + 10, 1),
            (data.index(b"rect id"), 1),
        ]
    if kind in ("zip", "kra", "ora"):
        found = []
        for name in (b"Sky", b"maindoc.xml", b"data/0.png", b"forest/layers/layer5", b"mergedimage.png"):
            at = data.find(name)
            if at > 0 and data[at - 30 : at - 26] == b"PK\3\4":
                found.append((at + len(name) + 4, 12))
        assert found
        return found
    if kind == "psd":
        return [
            (data.index(b"Tree") - 60, 8),
            (len(data) - 40, 40),
            (data.index(b"8BIMmul") if b"8BIMmul" in data else 18, 1),
        ]
    marks = [layered._flat(value) for value in (17, 220)]
    found = [(data.index(mark[:64]), 64) for mark in marks if mark[:64] in data]
    return found or [(len(data) - 200, 100)]


def test_the_content_of_another_member_that_is_exchanged_shows(tmp_path: Path) -> None:
    for kind in ("zip", "kra", "ora"):
        old, current = made(tmp_path, kind, "old", OLD), made(tmp_path, kind, "now", NOW)
        output, proof, element = restored(old, HILL, current)
        assert proof.holds
        with zipfile.ZipFile(output) as file:
            members = {info.filename: file.read(info) for info in file.infolist()}
        victim = {"zip": SKY, "kra": "forest/layers/layer5", "ora": "data/0.png"}[kind]
        members[victim] = bytes((members[victim][0] ^ 1,)) + members[victim][1:]
        layered.zipped(output, members)
        assert not proven(old, element, current, output).holds


def test_an_element_taken_out_is_a_file_of_its_own(tmp_path: Path, kind: str) -> None:
    source = made(tmp_path, kind, "old", OLD)
    output = tmp_path / f"hill.{'png' if kind == 'ora' else kind}"
    extracted(source, identity(source, HILL), output)
    if kind in ("zip", "ora"):
        assert output.read_bytes() == (layered._flat(100) if kind == "zip" else layered.png(100))
        return
    found = listed(output)
    assert not {SKY, TREE} & {element.name for element in found}
    was = {element.name: element.hash for element in listed(source)}
    alike = [element.name for element in found if was.get(element.name) == element.hash]
    assert HILL in alike
    assert witnessed(output)


def test_what_changed_is_told_by_name(tmp_path: Path, kind: str) -> None:
    old = made(tmp_path, kind, "old", OLD)
    current = made(tmp_path, kind, "now", {SKY: 10, HILL: 120} | ({} if kind == "tif" else {"Lake": 60}))
    changes = element_changes(old, current)
    assert HILL in (*changes["elements_changed"], "Hill" if kind == "svg" else "")
    assert SKY not in str(changes)
    assert TREE in changes["elements_removed"]
    assert kind == "tif" or "Lake" in changes["elements_added"]


def test_a_file_that_is_cut_off_is_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    whole = made(tmp_path, kind, "old", OLD).read_bytes()
    cut = tmp_path / f"cut.{kind}"
    for share in range(1, 10):
        cut.write_bytes(whole[: 64 + (len(whole) - 64) * share // 10])
        for read in (listed, witnessed):
            try:
                read(cut)
            except UnsupportedMedia as error:
                assert "\n" not in str(error)


def test_damage_is_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    whole = made(tmp_path, kind, "old", OLD).read_bytes()
    dented, chosen = tmp_path / f"dented.{kind}", random.Random(7)
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(4):
            data[chosen.randrange(16, len(data))] = chosen.randrange(256)
        dented.write_bytes(data)
        for read in (listed, witnessed):
            try:
                read(dented)
            except UnsupportedMedia as error:
                assert "\n" not in str(error)


def test_elements_are_found_by_id_name_or_path() -> None:
    elements = [
        Element("1", "Trees", "group", None, ""),
        Element("2", "Oak", "layer", "1", ""),
        Element("3", "Oak", "layer", None, ""),
        Element("4", "Elm", "layer", "1", ""),
    ]
    assert find(elements, "3", "a.psd").id == "3"
    assert find(elements, "Elm", "a.psd").id == "4"
    assert find(elements, "Trees/Oak", "a.psd").id == "2"
    assert family(elements, "1") == {"1", "2", "4"}
    with pytest.raises(AmbiguousError, match=r"^a\.psd: 2 elements are called 'Oak'; name one by its id: 2, 3$"):
        find(elements, "Oak", "a.psd")
    with pytest.raises(NotFoundError, match=r"^a\.psd: no element 'Ash'; see: git-vault elements list a\.psd$"):
        find(elements, "Ash", "a.psd")


def test_a_proof_holds_only_when_nothing_is_missing_added_moved_or_other() -> None:
    old, current = {DOCUMENT: "x", "a": "1", "b": "2", "dep": "9"}, {DOCUMENT: "y", "a": "5", "b": "6", "c": "7"}

    def holds(output: dict[str, str]) -> bool:
        return prove(old, current, output, restored={"a"}, replaced={"a"}).holds

    good = {**current, "a": "1"}
    assert prove(old, current, good, restored={"a"}, replaced={"a"}) == Proof(("b", "c"), ("a",), True)
    assert holds({**good, "dep": "9"}), "what it needs came along"
    assert not holds({**good, "dep": "8"})
    assert not holds({**good, "new": "8"})
    assert not holds({**good, "b": "2"})
    assert not holds({**good, DOCUMENT: "x"})
    assert not holds({key: value for key, value in good.items() if key != "c"})
    assert not holds({DOCUMENT: "y", "b": "6", "a": "1", "c": "7"} | {"b": "2"})
    assert not holds({DOCUMENT: "y", "a": "1", "c": "7", "b": "6"}), "in another order"
    assert not holds(dict(current)), "not restored"


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    text, gif = tmp_path / "a.txt", tmp_path / "a.gif"
    text.write_text("hello")
    gif.write_bytes(b"GIF89a" + bytes(80))
    xcf = tmp_path / "a.xcf"
    xcf.write_bytes(b"gimp xcf v003\0" + bytes(80))
    archive, psd = made(tmp_path, "zip", "a", OLD), made(tmp_path, "psd", "a", OLD)
    with pytest.raises(UnsupportedMedia, match=r"^a\.txt: no kind of file that gitvault knows"):
        listed(text)
    for attempt in (lambda: listed(gif), lambda: extracted(gif, "1", text), lambda: witnessed(gif)):
        with pytest.raises(UnsupportedMedia, match=r"^a\.gif: GIF image: "):
            attempt()
    with pytest.raises(UnsupportedMedia, match=r"^a\.xcf: GIMP image: gitvault cannot put"):
        spliced(xcf, xcf, "1", text)
    with pytest.raises(UnsupportedMedia, match=r"^a\.zip is a zip archive, a\.psd a Photoshop document"):
        spliced(archive, psd, "1", text)
    with pytest.raises(ToolMissing, match=r"^no_such_library: not installed; pip install 'gitvault\[image\]'"):
        need("no_such_library", "image")


def test_what_is_stale_afterwards_is_known(tmp_path: Path) -> None:
    for kind in ("psd", "kra", "ora"):
        known = format_of(made(tmp_path, kind, "a", OLD))
        assert known
        assert "before" in known.stale


def test_what_changed_is_told_from_what_was_noted(tmp_path: Path) -> None:
    old, now = made(tmp_path, "ora", "old", OLD), made(tmp_path, "ora", "now", {**NOW, SKY: 10})
    noted = told_apart(old), told_apart(now)
    assert changes_between(*noted) == element_changes(old, now)
    assert changes_between(*noted)["elements_changed"] == [HILL, TREE]


def test_records_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Proof((), (), True).holds = False  # type: ignore[misc]


def test_an_exr_that_was_rendered_again_to_the_same_pixels_is_the_same(tmp_path: Path) -> None:
    oiio = pytest.importorskip("OpenImageIO")
    from images import by_oiio, noise

    for name, date in (("a.exr", "2026:01:02 03:04:05"), ("b.exr", "2026:01:02 04:05:06")):
        by_oiio(tmp_path / name, noise(3, "float16"), DateTime=date, Software=name)
    assert oiio.ImageBuf(str(tmp_path / "a.exr")).spec().getattribute("DateTime") == "2026:01:02 03:04:05"
    found = compare(str(tmp_path / "a.exr"), str(tmp_path / "b.exr"), None)
    assert not found.changed
    assert {"DateTime"} <= {entry["name"] for entry in found.stats["metadata"]}
