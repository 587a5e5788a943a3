"""`git-vault elements`: one layer of a saved file comes into the present one."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import layered
import pytest
from layered import HILL, SKY, TREE

from gitvault import errors
from gitvault.cli import main
from gitvault.formats.confined import Confined
from gitvault.formats.elements import element_changes
from gitvault.personas.creative import CreativeVault
from gitvault.personas.creative.diff import compare_files
from gitvault.personas.creative.elements import (
    RestoredElement,
    extract_element,
    extract_into,
    list_elements,
    restore_element,
)
from gitvault.personas.creative.sources import at_hand, steady

Run = Callable[..., tuple[int, Any]]
OLD, NOW = {SKY: 10, HILL: 100, TREE: 200}, {SKY: 17, HILL: 120}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_VAULT_DIR", str(tmp_path / "vault.git"))

    def command(*words: str) -> tuple[int, Any]:
        code = main.main(words)
        said = capsys.readouterr()
        return code, (json.loads(said.out) if said.out and "--json" in words else said.out + said.err)

    return command


@pytest.mark.needs("git")
def test_a_layer_that_was_painted_over_comes_back_from_a_snapshot(tmp_path: Path, run: Run) -> None:
    work = tmp_path / "forest"
    work.mkdir()
    drawing = layered.kra_file(work / "hero.kra", OLD)
    with CreativeVault("forest", work, vault=tmp_path / "vault.git") as forest:
        before = forest.backup().snapshot
    layered.kra_file(drawing, NOW)
    code, found = run("elements", "list", "forest:hero.kra", "--json")
    assert (code, [element["name"] for element in found][:2]) == (0, [SKY, f"{SKY} mask"])
    assert set(found[0]) == {"id", "name", "kind", "parent", "hash"}
    restore = ("elements", "restore", TREE, "--from", "forest:hero.kra", "--into", str(drawing), "-o", "out.kra")
    code, done = run(*restore, "--json")
    tree, mask = (element["id"] for element in found if element["name"].startswith(TREE))
    assert (code, done["element"], done["output"], done["proof"]) == (0, tree, "out.kra", True)
    assert done["changed"] == [tree, mask]
    assert len(done["unchanged"]) == 4
    assert element_changes(drawing, tmp_path / "out.kra") == {
        "elements_added": [TREE, f"{TREE} mask"],
        "elements_removed": [],
        "elements_changed": [],
    }
    code, said = run(*restore)
    assert (code, said) == (128, "git-vault: out.kra: is there already; name another file or give --overwrite\n")
    code, said = run(*restore, "--overwrite")
    assert code == 0
    assert said.startswith("out.kra: 2 elements restored, 4 unchanged, each read again and compared\nthe pictures")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forest", "out.kra", "vault.git"], (
        "nothing else is left"
    )
    with CreativeVault("forest", work, vault=tmp_path / "vault.git") as forest:
        assert [element.name for element in forest.elements(f"{before}:hero.kra")][-1] == f"{TREE} mask"
        [tree_file] = forest.extract_elements("hero.kra", before, tmp_path, [TREE])
        assert tree_file == tmp_path / "Tree.kra"
        done = forest.restore_element(HILL, f"{before}:hero.kra", str(drawing), tmp_path / "hill.kra")
        assert isinstance(done, RestoredElement)
        assert done.proof


def test_what_is_taken_out_is_a_file(run: Run, tmp_path: Path) -> None:
    layered.zip_file(tmp_path / "a.zip", OLD)
    code, said = run("elements", "extract", HILL, "--from", "a.zip", "-o", "hill.bin")
    assert (code, said) == (0, "Hill (member) is in hill.bin\n")
    assert (tmp_path / "hill.bin").read_bytes() == layered._flat(100)
    code, said = run("elements", "list", "a.zip")
    assert said.splitlines()[0].split() == ["Sky", "member", "Sky"]


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("list", "no.zip"), 128, "no.zip: no such file; a saved one is SNAPSHOT:PATH"),
        (("list", "text.txt"), 4, "text.txt: no kind of file that gitvault knows; its bytes are saved"),
        (("list", "half.zip"), 4, "half.zip: cut off or damaged: no directory at its end; its bytes are saved"),
        (("extract", "Sky"), 129, "elements extract: give --from FILE and -o OUT; see: git-vault elements -h"),
        (("restore", "Sky", "--from", "a.zip", "-o", "o"), 129, "elements restore: give --into FILE"),
        (("extract", "Moon", "--from", "a.zip", "-o", "o"), 128, "a.zip: no element 'Moon'; see: git-vault elements"),
        (("extract", "Sky", "--from", "a.zip", "-o", "no/o"), 128, "no/o: there is no folder no"),
    ],
)
def test_what_does_not_work_is_one_line(run: Run, tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    (tmp_path / "text.txt").write_text("hello")
    whole = layered.zip_file(tmp_path / "a.zip", OLD).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    found, text = run("elements", *words)
    assert (found, text.count("\n")) == (code, 1)
    assert said in text
    assert not list(tmp_path.glob(".*")), "no temporary file is left"


def test_what_would_change_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, now = layered.zip_file(tmp_path / "old.zip", OLD), layered.zip_file(tmp_path / "now.zip", NOW)
    output = tmp_path / "out.zip"
    monkeypatch.setattr("gitvault.personas.creative.elements.prove", lambda *_a, **_k: type("", (), {"holds": False})())
    with pytest.raises(errors.UnsupportedMedia, match=r"with 'Hill' of .*old\.zip something else would change too"):
        restore_element(HILL, str(old), str(now), output, _no_vault)
    assert not output.exists()


def test_a_file_that_changes_while_it_is_read_is_not_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, now = layered.zip_file(tmp_path / "old.zip", OLD), layered.zip_file(tmp_path / "now.zip", NOW)
    from gitvault.personas.creative import elements

    prove = elements.prove

    def saved_meanwhile(*arguments: Any, **named: Any) -> Any:
        layered.zip_file(now, OLD)
        return prove(*arguments, **named)

    monkeypatch.setattr(elements, "prove", saved_meanwhile)
    with pytest.raises(errors.UnsupportedMedia, match=r"now\.zip: it changed while it was read; try again"):
        restore_element(HILL, str(old), str(now), tmp_path / "out.zip", _no_vault)


@pytest.mark.parametrize("work", ["list", "extract", "into", "diff"])
def test_a_file_that_is_being_written_is_not_taken_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    source, output = layered.zip_file(tmp_path / "a.zip", OLD), tmp_path / "sky"
    call = Confined.call

    def saved_meanwhile(self: Confined, function: str, *arguments: Any, **named: Any) -> Any:
        found = call(self, function, *arguments, **named)
        layered.zip_file(source, NOW)
        return found

    works: dict[str, Callable[[], object]] = {
        "list": lambda: list_elements(str(source), _no_vault),
        "extract": lambda: extract_element(str(source), SKY, output, _no_vault),
        "into": lambda: extract_into(str(source), tmp_path, [SKY], _no_vault),
        "diff": lambda: compare_files(source, layered.zip_file(tmp_path / "b.zip", NOW)),
    }
    monkeypatch.setattr(Confined, "call", saved_meanwhile)
    with pytest.raises(errors.UnsupportedMedia, match=r"a\.zip: it changed while it was read; try again"):
        works[work]()
    assert {path.name for path in tmp_path.iterdir()} <= {"a.zip", "b.zip"}


def test_damage_of_a_file_that_is_being_written_is_none(tmp_path: Path) -> None:
    """It may be whole a moment later; of one that nobody writes it is said."""
    (tmp_path / "a.zip").write_bytes(b"half")
    with (
        pytest.raises(errors.UnsupportedMedia, match=r"a\.zip: it changed while it was read"),
        steady(tmp_path / "a.zip"),
    ):
        (tmp_path / "a.zip").write_bytes(b"the whole")
        raise errors.UnsupportedMedia("cut off")
    with pytest.raises(errors.UnsupportedMedia, match=r"^cut off$"), steady(tmp_path / "a.zip"):
        raise errors.UnsupportedMedia("cut off")


def test_what_came_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = layered.zip_file(tmp_path / "a.zip", OLD)
    output = tmp_path / "sky"
    from gitvault.personas.creative import elements

    find = elements.find

    def written_meanwhile(*arguments: Any) -> Any:
        output.write_text("mine")
        return find(*arguments)

    monkeypatch.setattr(elements, "find", written_meanwhile)
    with pytest.raises(errors.ExistsError):
        extract_element(str(source), SKY, output, _no_vault)
    assert output.read_text() == "mine"


def test_all_elements_of_a_file_land_in_a_folder(tmp_path: Path) -> None:
    source = layered.zipped(tmp_path / "a.zip", {"a/x.txt": b"1", "b/x.txt": b"2", "...": b"3"})
    assert len(list_elements(str(source), _no_vault)) == 3
    (tmp_path / "out").mkdir()
    written = extract_into(str(source), tmp_path / "out", (), _no_vault, suffix="")
    assert [path.name for path in written] == ["x.txt", "x.txt 2", "element"]
    assert [path.read_bytes() for path in written] == [b"1", b"2", b"3"]


def test_a_name_with_a_colon_that_is_there_is_a_file(tmp_path: Path) -> None:
    source = layered.zip_file(tmp_path / "a:b.zip", OLD)
    with at_hand(str(source), _no_vault) as path:
        assert path == source


def _no_vault() -> Any:
    raise AssertionError("no vault is needed for files on disk")


def test_the_pictures_of_the_whole_show_what_came_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said to be stale only where they are: not made anew, or not without something else becoming different."""
    np = pytest.importorskip("numpy")
    from PIL import Image

    def opaque(path: Path, value: int) -> Path:
        def png(level: int) -> bytes:
            file = io.BytesIO()
            Image.new("RGBA", (24, 16), (level, 20, 30, 255)).save(file, "PNG")
            return file.getvalue()

        members = {
            "mimetype": b"image/openraster",
            "stack.xml": b'<image w="24" h="16"><stack><layer name="Sky" src="data/0.png"/></stack></image>',
        }
        return layered.zipped(path, {**members, "data/0.png": png(value), "mergedimage.png": png(value)})

    old, now = opaque(tmp_path / "old.ora", 90), opaque(tmp_path / "now.ora", 180)
    done = restore_element(SKY, str(old), str(now), tmp_path / "out.ora", _no_vault)
    assert (done.proof, done.stale, done.changed, done.unchanged) == (True, "", ("Sky",), ())
    with zipfile.ZipFile(tmp_path / "out.ora") as file:
        assert np.asarray(Image.open(io.BytesIO(file.read("mergedimage.png"))))[0, 0].tolist() == [90, 20, 30, 255]
    from gitvault.personas.creative import elements

    seen = elements._witness
    with monkeypatch.context() as patch:
        patch.setattr(
            elements,
            "_witness",
            lambda child, path: (
                {**seen(child, path), "": "flipped"} if path.name.startswith("..") else seen(child, path)
            ),
        )
        done = restore_element(SKY, str(old), str(now), tmp_path / "other.ora", _no_vault)
    assert done.stale.endswith("(with new ones something else would change too)")
    with zipfile.ZipFile(now) as file:
        members = {name: file.read(name) for name in file.namelist()}
    torn = layered.zipped(tmp_path / "torn.ora", {**members, "mergedimage.png": members["mergedimage.png"][:60]})
    done = restore_element(SKY, str(old), str(torn), tmp_path / "third.ora", _no_vault)
    assert done.proof
    assert "torn.ora: cannot be read" in done.stale
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
