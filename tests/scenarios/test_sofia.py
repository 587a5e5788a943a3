"""The artist's days, from beginning to end, as she types them."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import layered
import pytest
from scenarios.conftest import Machine, put
from trees import contents, differences

Image = pytest.importorskip("PIL.Image")

SKY, TREE, HILL = "Sky", "Tree", "Hill"
DAY = {SKY: 40, TREE: 90, HILL: 160}
NIGHT = {SKY: 10, HILL: 160}


def picture(path: Path, seed: int, side: int = 96) -> Path:
    """A texture like no other: no two of its pixels hang together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", (side, side), random.Random(seed).randbytes(3 * side * side)).save(path)
    return path


def scene(folder: Path, *textures: str) -> Path:
    """A drawing that links to textures, and those."""
    for number, name in enumerate(textures):
        if not (folder / name).exists():
            picture((folder / name), number)
    links = "".join(f'<image id="t{n}" href="{name}" width="9" height="9"/>' for n, name in enumerate(textures))
    return put(folder, {"scene.svg": f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">{links}</svg>'})


def krita(home: Path) -> Path:
    """A home folder in which Krita was used."""
    settings = f"[Recent]\nlast={home}/pictures/a.kra\n[theme]\nName=Breeze Dark\n"
    return put(home, {".config/kritarc": settings, ".local/share/krita/brushes/ink.gbr": "ink" * 400})


def test_an_animation_is_tracked_through_all_its_iterations(machine: Machine, tmp_path: Path) -> None:
    walk = tmp_path / "walk"
    for frame in range(1, 7):
        picture(walk / f"walk.{frame:04}.png", frame, 24)
    ids = [machine.save(walk, "blocking")]
    picture(walk / "walk.0004.png", 40, 24)
    ids.append(machine.save(walk, "spline"))
    for frame in (5, 6):
        picture(walk / f"walk.{frame:04}.png", 50 + frame, 24)
    ids.append(machine.save(walk, "polish"))
    versions = machine.ask("timeline", "walk")
    assert [one["message"] for one in versions if one["changed"]] and {one["snapshot"] for one in versions} == set(ids)
    (compared,) = machine.ask("diff", "--visual", ids[1], ids[2], "-o", tmp_path / "changes", code=1)
    assert (compared["kind"], compared["changed"], compared["path"]) == ("image", True, "walk.####.png")
    assert compared["stats"]["frames_changed"] == [5, 6]
    machine.say("restore", ids[0], "walk.0004.png", "--to", tmp_path / "back")
    assert (tmp_path / "back" / "walk.0004.png").read_bytes() != (walk / "walk.0004.png").read_bytes()


def test_one_element_is_recovered_and_todays_work_kept(machine: Machine, tmp_path: Path) -> None:
    work = tmp_path / "forest"
    work.mkdir()
    drawing = layered.kra_file(work / "hero.kra", DAY)
    machine.save(work, "with the tree")
    layered.kra_file(drawing, NIGHT)
    today = drawing.read_bytes()
    done = machine.ask(
        *("elements", "restore", TREE, "--from", "forest:hero.kra", "--into", drawing, "-o", tmp_path / "out.kra")
    )
    assert done["proof"] is True
    hashes = {one["name"]: one["hash"] for one in machine.ask("elements", "list", tmp_path / "out.kra")}
    old = {one["name"]: one["hash"] for one in machine.ask("elements", "list", "forest:hero.kra")}
    new = {one["name"]: one["hash"] for one in machine.ask("elements", "list", drawing)}
    assert (hashes[TREE], hashes[SKY]) == (old[TREE], new[SKY])
    assert drawing.read_bytes() == today


def test_a_project_and_its_environment_move_to_another_workstation(
    machine: Machine, elsewhere: Machine, tmp_path: Path
) -> None:
    """Textures from a library outside the project come along, and so does Krita as she set it up."""
    picture(tmp_path / "library" / "bark.png", 1)
    forest = scene(tmp_path / "forest", "own.png", "../library/bark.png")
    machine.say("snapshot", forest, "--with-links")
    home = krita(tmp_path / "home")
    machine.say("workspace", "capture", "krita", "--home", home)
    machine.say("remote", "add", "disk", tmp_path / "disk")
    machine.say("push", "disk")
    for gone in ("library", "forest", "home"):
        shutil.rmtree(tmp_path / gone)
    elsewhere.say("clone", tmp_path / "disk", elsewhere.vault)
    new = elsewhere.desk / "forest"
    elsewhere.say("restore", "forest", "--to", new)
    assert all(one["exists"] for one in elsewhere.ask("refs", "list", new))
    elsewhere.say("refs", "check", new)
    elsewhere.say("workspace", "restore", "krita", "--home", elsewhere.desk / "sofia")
    text = (elsewhere.desk / "sofia" / ".config" / "kritarc").read_text()
    assert "Name=Breeze Dark" in text and f"last={elsewhere.desk}/sofia/pictures/a.kra" in text
    assert (elsewhere.desk / "sofia/.local/share/krita/brushes/ink.gbr").read_text() == "ink" * 400


def test_a_large_library_is_kept_small(machine: Machine, tmp_path: Path) -> None:
    library = tmp_path / "library"
    for number in range(20):
        picture(library / f"{number:02}.png", number, 160)
    for number in range(5):
        shutil.copy(library / f"{number:02}.png", library / f"again-{number:02}.png")
    scene(library, *(path.name for path in sorted(library.iterdir())))
    machine.save(library)
    for version in range(1, 5):
        picture(library / f"{10 + version}.png", 100 + version, 160)
        machine.save(library)
    told = machine.ask("stats")
    assert told["stored_bytes"] < 0.4 * told["logical_bytes"]
    graph = machine.ask("refs", "graph", library)
    assert len(graph["duplicates"]) == 5
    machine.say("restore", "library~4", "--to", tmp_path / "back")
    assert (tmp_path / "back" / "again-03.png").read_bytes() == (tmp_path / "back" / "03.png").read_bytes()


def test_several_people_share_what_they_refer_to(machine: Machine, elsewhere: Machine, tmp_path: Path) -> None:
    forest = scene(tmp_path / "forest", "tex/bark.png")
    machine.save(forest, "Sofia began")
    machine.say("remote", "add", "studio", tmp_path / "studio")
    machine.say("push", "studio")
    elsewhere.say("clone", tmp_path / "studio", elsewhere.vault)
    theirs = elsewhere.desk / "forest"
    elsewhere.say("restore", "forest", "--to", theirs)
    assert differences(forest, theirs) == {}
    elsewhere.say("projects", "move", "forest", theirs)
    scene(theirs, "tex/bark.png", "tex/leaf.png")
    saved = elsewhere.save(theirs, "a leaf by Ines")
    elsewhere.say("push")
    machine.say("fetch", "studio")
    assert [one["message"] for one in machine.ask("log", "forest")] == ["a leaf by Ines", "Sofia began"]
    machine.say("restore", saved, "--to", tmp_path / "together")
    assert [one["target"] for one in machine.ask("refs", "list", tmp_path / "together")] == [
        "tex/bark.png",
        "tex/leaf.png",
    ]
    machine.say("refs", "check", tmp_path / "together")


@pytest.mark.needs("git", "zstd")
def test_everything_comes_back_after_a_disaster(machine: Machine, elsewhere: Machine, tmp_path: Path) -> None:
    """The machine burned; a disk with a copy of the vault is left, and at first nothing is installed."""
    forest = scene(tmp_path / "forest", "tex/bark.png")
    picture(forest / "tex" / "sky.png", 7, 700)
    saved = machine.save(forest)
    home = krita(tmp_path / "home")
    machine.say("workspace", "capture", "krita", "--home", home)
    before, brush = contents(forest), (home / ".local/share/krita/brushes/ink.gbr").read_bytes()
    machine.say("copy", "--to", elsewhere.vault)
    for gone in (forest, home, machine.vault):
        shutil.rmtree(gone)
    with_a_shell = elsewhere.desk / "with a shell"
    subprocess.run(["sh", elsewhere.vault / "rescue.sh", "restore", saved, with_a_shell], check=True)
    assert contents(with_a_shell) == before
    elsewhere.say("restore", saved, "--to", elsewhere.desk / "forest")
    assert contents(elsewhere.desk / "forest") == before
    elsewhere.say("workspace", "restore", "krita", "--home", home)
    assert (home / ".local/share/krita/brushes/ink.gbr").read_bytes() == brush
    assert elsewhere.ask("verify", "--data")["ok"] is True
