"""A snapshot carries what its files link to elsewhere, and restored in another place every link resolves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import reference_files as made

from gitvault.core.backup_engine import outside
from gitvault.core.backup_engine.snapshot import Links
from gitvault.personas.creative import CreativeVault, carrying, exchange, references, relocation
from gitvault.personas.creative.references import Library
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]
LARGE = bytes(range(256)) * 1000


@pytest.fixture
def command(
    tmp_path: Path, vault: Vault, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs git-vault on `vault`, in this process and with files read in it, in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: made.run_here(vault.path, words, capsys)


@pytest.fixture(autouse=True)
def read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read in this process."""
    for module in (references, relocation, exchange):
        monkeypatch.setattr(module, "Confined", made.InProcess)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A machine with a project and two libraries that it needs, one through the other."""
    top = tmp_path / "disk"
    files: dict[str, bytes] = {
        "lib/tex/bark.png": LARGE,
        "lib/tree.mtl": b"newmtl a\nmap_Kd tex/bark.png\nmap_Ks ../more/rock.<UDIM>.png\n",
        "lib/tree.obj": b"mtllib tree.mtl\no t\nv 0 0 0\n",
        "lib/unused.png": b"unused",
        "more/rock.1001.png": b"rock one",
        "more/rock.1002.png": b"rock two",
        "more/v2.png": b"version two",
        "forest/own.png": b"own",
        "forest/scenes/b.blend": made.blend({"a": ("//../../lib/tex/bark.png", 1), "n": ("//../own.png", 1)}),
        "forest/scenes/m.ma": b'//Maya ASCII 2020 scene\nfile -r -typ "OBJ" "%s/lib/tree.obj";\n' % os.fsencode(top),
        "forest/l.usda": b"#usda 1.0\n(subLayers = [@%s/forest/scenes/k.usda@])\n" % os.fsencode(top),
        "forest/scenes/k.usda": b'#usda 1.0\n(subLayers = [@../l.usda@])\ndef "x" { asset f = @../../more/now.png@ }\n',
        "forest/gone.obj": b"mtllib nowhere.mtl\nv 0 0 0\n",
    }
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (top / "more" / "now.png").symlink_to("v2.png")
    (top / "forest" / "scenes" / "b.blend").write_bytes(
        files["forest/scenes/b.blend"].replace(b"//..\\lib\\props.blend", b"//b.blend\0\0\0\0\0\0\0\0\0\0\0")
    )
    return top


def names(vault: Vault, snapshot: str) -> set[str]:
    return {os.fsdecode(entry.path) for entry in vault.entries(snapshot, recursive=True) if entry.kind != "folder"}


def missing(folder: Path) -> list[tuple[str, str]]:
    with Library() as library:
        return [(os.path.relpath(link.source, folder), link.target) for link in library.graph([str(folder)]).missing]


def test_every_link_resolves_on_a_machine_that_has_nothing_of_it(disk: Path, command: Command, vault: Vault) -> None:
    done = json.loads(command("snapshot", disk / "forest", "--with-links", "--json").stdout)
    assert done["notes"] == ["nowhere.mtl of gone.obj leads nowhere and is not saved with it"]
    saved = done["snapshot"]
    inside = os.path.relpath(disk, "/")
    carried = {name for name in names(vault, saved) if name.startswith(outside.FOLDER)}
    assert carried == {
        f"{outside.FOLDER}/{inside}/{name}"
        for name in (
            *("lib/tex/bark.png", "lib/tree.mtl", "lib/tree.obj"),
            *("more/rock.1001.png", "more/rock.1002.png", "more/now.png", "more/v2.png"),
        )
    }
    scene = (disk / "forest" / "scenes" / "m.ma").read_bytes()
    os.rename(disk, disk.with_name("another machine"))
    target = disk.with_name("restored")
    assert command("restore", saved, "--to", target).returncode == 0
    assert missing(target) == [("gone.obj", "nowhere.mtl")]
    with Library() as library:
        graph = library.graph([str(target)])
    assert all(path.startswith(str(target)) for path in graph.needs)
    assert (target / outside.FOLDER / inside / "lib" / "tex" / "bark.png").read_bytes() == LARGE
    exact = disk.with_name("exact")
    command("restore", saved, "--to", exact, "--as-saved")
    assert (exact / "scenes" / "m.ma").read_bytes() == scene
    mapped = disk.with_name("mapped")
    command("restore", saved, "--to", mapped, "--map", f"{disk}/lib={disk.with_name('another machine')}/lib")
    assert (
        b'"%s/lib/tree.obj"' % os.fsencode(disk.with_name("another machine"))
        in (mapped / "scenes" / "m.ma").read_bytes()
    )


def test_what_is_carried_is_stored_once_and_read_once(disk: Path, vault: Vault) -> None:
    (disk / "forest" / "same.png").write_bytes(LARGE)
    with CreativeVault("forest", disk / "forest", vault=vault.path) as forest:
        first = forest.backup_with_links("with all it needs")
        assert first.bytes_stored < 2 * len(LARGE)
        # What comes and goes beside what is carried is no change.
        (disk / "lib" / "unused.png").unlink()
        (disk / "other").mkdir()
        again = forest.backup_with_links()
        assert again.unchanged
        (disk / "more" / "rock.1001.png").write_bytes(b"rock 1 edited")
        third = forest.backup_with_links()
        assert (third.new, third.changed, third.deleted) == (0, 1, 0)
        assert third.bytes_read == len(b"rock 1 edited")
        assert forest.restore(first.snapshot, disk.with_name("out")).problems == ()
    assert missing(disk.with_name("out")) == [("gone.obj", "nowhere.mtl")]
    assert vault.verify(data=True).defects == ()


def test_the_project_is_as_saved_as_before_and_without_links_they_are_left_out(disk: Path, vault: Vault) -> None:
    (disk / "forest" / "more.obj").write_bytes(b"mtllib neither.mtl\n")
    (disk / "forest" / "cut.glb").write_bytes(made.glb()[:40])
    links, notes = carrying.links_of(vault, str(disk / "forest"))
    assert [note.rpartition(";")[0] for note in notes] == [
        "nowhere.mtl of gone.obj leads nowhere and is not saved with it, and 1 more",
        "cut.glb: not a GLB of version 2, or cut off",
    ]
    first = vault.create_snapshot(disk / "forest", links=links)
    metadata = vault.get_snapshot_info(first.snapshot).metadata
    assert metadata == {outside.KEY_FOLDER: outside.FOLDER, outside.KEY_ROOT: str(disk / "forest")}
    [state] = vault.status([disk / "forest"], scan=True)
    assert state.state == "saved"
    plain = vault.create_snapshot(disk / "forest")
    assert plain.deleted == len(links)
    assert not any(name.startswith(outside.FOLDER) for name in names(vault, plain.snapshot))
    assert vault.create_snapshot(disk / "forest").unchanged
    vault.caches.remove("forest")
    back = vault.create_snapshot(disk / "forest", links=links)
    assert (back.new, names(vault, back.snapshot)) == (len(links), names(vault, first.snapshot))


def test_restored_in_place_only_the_project_comes_back(disk: Path, command: Command, vault: Vault) -> None:
    command("snapshot", disk / "forest", "--with-links")
    before = (disk / "forest" / "scenes" / "m.ma").read_bytes()
    (disk / "forest" / "scenes" / "m.ma").unlink()
    assert command("restore", "forest", "--in-place").returncode == 0
    assert (disk / "forest" / "scenes" / "m.ma").read_bytes() == before
    assert not (disk / "forest" / outside.FOLDER).exists()


def test_only_what_was_restored_is_written_anew(disk: Path, vault: Vault) -> None:
    """Not what a folder held before, nor what a symlink leads to."""
    links, _ = carrying.links_of(vault, str(disk / "forest"))
    saved = vault.create_snapshot(disk / "forest", links=links).snapshot
    target = disk.with_name("target")
    target.mkdir()
    own = (disk / "forest" / "l.usda").read_bytes()
    (target / "l.usda").write_bytes(own)
    report = carrying.restore(vault, saved, target, paths=[b"scenes"])
    assert report.files == 3
    assert (target / "l.usda").read_bytes() == own
    assert b"tree.obj" in (target / "scenes" / "m.ma").read_bytes()


def test_a_restored_project_with_its_links_is_a_project_like_any_other(disk: Path, vault: Vault) -> None:
    with CreativeVault("forest", disk / "forest", vault=vault.path) as forest:
        saved = forest.backup_with_links().snapshot
        forest.restore(saved, disk.with_name("second"))
    with CreativeVault("second", disk.with_name("second"), vault=vault.path) as second:
        first = second.backup_with_links()
        assert outside.KEY_FOLDER not in vault.get_snapshot_info(first.snapshot).metadata
        (disk.with_name("second") / "n.obj").write_bytes(b"mtllib ../disk/lib/tree.mtl\nv 0 0 0\n")
        more = second.backup_with_links().snapshot
        assert vault.get_snapshot_info(more).metadata[outside.KEY_FOLDER] == outside.FOLDER + "-2"
        second.restore(more, disk.with_name("third"))
    assert missing(disk.with_name("third")) == [("gone.obj", "nowhere.mtl")]


def test_what_cannot_be_carried_is_a_problem_and_the_snapshot_is_taken(disk: Path, vault: Vault) -> None:
    os.mkfifo(disk / "pipe")
    links = [str(disk / "pipe"), str(disk / "gone"), str(disk / "lib" / "unused.png")]
    report = vault.create_snapshot(disk / "forest", links=links)
    assert [problem.reason.rpartition(": ")[2] for problem in report.problems] == [
        "No such file or directory",
        "neither file nor symlink",
    ]
    assert any(name.endswith("lib/unused.png") for name in names(vault, report.snapshot))


def test_a_place_in_a_snapshot_is_that_on_the_disk() -> None:
    assert outside.place("/art/a.png", "L") == "L/art/a.png"
    assert outside.place("C:\\art\\a.png", "L") == "L/C/art/a.png"
    assert outside.place("/", "L") == "L"
    assert Links("L", ["/a"]).files == ["/a"]
    assert outside.free_name("/nowhere") == outside.FOLDER


def test_names_of_another_system_are_put_right(tmp_path: Path) -> None:
    """A snapshot of Windows, restored here: its absolute paths have drives and backslashes."""
    (tmp_path / "m.ma").write_bytes(b'//Maya ASCII 2020 scene\nfile -r -typ "OBJ" "D:/lib/tree.obj";\n')
    carried = tmp_path / "L" / "D" / "lib"
    carried.mkdir(parents=True)
    (carried / "tree.obj").write_bytes(b"mtllib D:\\lib\\tree.mtl\nv 0 0 0\n")
    (carried / "tree.mtl").write_bytes(b"newmtl a\n")

    def moved(path: str) -> str:
        there = str(tmp_path / outside.place(path, "L"))
        return there if os.path.exists(there) else path

    def was(path: str) -> str:
        inside = os.path.relpath(path, tmp_path)
        return inside.replace("L/D/", "D:/") if inside.startswith("L") else f"C:/forest/{inside}"

    files = [str(tmp_path / "m.ma"), str(carried / "tree.obj")]
    done = relocation.put_right(files, was, moved)
    assert [one.references for one in done.rewritten] == [1, 1]
    assert missing(tmp_path) == []
