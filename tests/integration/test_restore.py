"""What restore promises besides fidelity: what is selected, what is never overwritten, where nothing is written."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from damage import lose
from trees import contents, differences, records, write

from gitvault.core.backup_engine import restore, writer
from gitvault.core.models import ObjectId, Pointer, Problem
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import meta, origins, refs
from gitvault.core.versioning.contents import find, find_file
from gitvault.core.versioning.history import Damaged, Details, raw
from gitvault.core.versioning.objects import encode_tree
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError, StorageFullError
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]
LARGE = bytes(range(256)) * 400
FILES: dict[str | bytes, bytes | str] = {
    "readme": b"read me",
    "src/main.c": b"int main;",
    "src/lib/util.c": b"int util;",
    "srcs/other.c": b"int other;",
    "art/model.bin": LARGE,
    "art/link": "../readme",
}


@pytest.fixture
def project(tmp_path: Path, vault: Vault) -> Path:
    """A folder with a snapshot."""
    project = write(tmp_path / "acme", FILES)
    (project / "art/empty").mkdir()
    vault.create_snapshot(project)
    return project


def names(folder: Path) -> set[str]:
    return {os.fsdecode(path) for path in records(folder) if path}


# -- selection -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["readme"], {"readme"}),
        (["src"], {"src", "src/main.c", "src/lib", "src/lib/util.c"}),
        (["src/lib/"], {"src", "src/lib", "src/lib/util.c"}),
        (["./src//main.c", b"art/link"], {"src", "src/main.c", "art", "art/link"}),
        (["art/empty"], {"art", "art/empty"}),
        (["src", "src/lib/util.c"], {"src", "src/main.c", "src/lib", "src/lib/util.c"}),
    ],
)
def test_a_path_lands_under_its_own_name(
    paths: list[str | bytes], expected: set[str], project: Path, vault: Vault, tmp_path: Path
) -> None:
    target = tmp_path / "made" / "when missing"
    vault.restore_snapshot("acme", target, paths=paths)
    assert names(target) == expected
    found = records(target)
    assert all(found[path] == records(project)[path] for path in found if path), "folders on the way are whole too"


def test_nothing_named_or_the_root_named_is_everything(project: Path, vault: Vault, tmp_path: Path) -> None:
    for number, paths in enumerate(([], ["."], ["", "src"])):
        vault.restore_snapshot("acme", tmp_path / str(number), paths=paths)
        assert differences(project, tmp_path / str(number)) == {}


def test_excluded_paths_stay_away(project: Path, vault: Vault, tmp_path: Path) -> None:
    vault.restore_snapshot("acme", tmp_path / "back", excluded_paths=["art", "src/lib/util.c"])
    assert names(tmp_path / "back") == {"readme", "src", "src/main.c", "src/lib", "srcs", "srcs/other.c"}
    vault.restore_snapshot("acme", tmp_path / "both", paths=["src"], excluded_paths=["src/lib"])
    assert names(tmp_path / "both") == {"src", "src/main.c"}


def test_a_path_that_is_not_in_the_snapshot_stops_before_anything(project: Path, vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"^src/nothing: not in snapshot [0-9a-f]{12}; git-vault ls"):
        vault.restore_snapshot("acme", tmp_path / "back", paths=["readme", "src/nothing"])
    assert not (tmp_path / "back").exists()


def test_the_report_counts_files_and_bytes(project: Path, vault: Vault, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    done = vault.restore_snapshot("acme", tmp_path / "back", progress=lambda *now: seen.append(now))
    total = sum(len(content) for content in FILES.values())
    assert (done.files, done.bytes, done.safety) == (len(FILES), total, None)
    assert seen[-1] == ("restoring", total, total)


# -- overwriting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "there",
    [
        {"art/model.bin": b"precious"},
        {"src": b"a file where a folder goes"},
        {"readme/x": b"a folder where a file goes"},
        {"art/link": "/dangling"},
        {"src/lib": ".."},
    ],
    ids=lambda there: next(iter(there)),
)
def test_nothing_is_overwritten_unless_told_to(
    there: dict[str | bytes, bytes | str], project: Path, vault: Vault, tmp_path: Path
) -> None:
    target = write(tmp_path / "target", there)
    before = records(target)
    name = next(iter(there)).split("/x")[0]
    with pytest.raises(ExistsError, match=rf"{target}/{name}: exists; nothing was written, .*--overwrite"):
        vault.restore_snapshot("acme", target)
    assert records(target) == before


def test_restoring_beside_other_files_is_no_overwriting(project: Path, vault: Vault, tmp_path: Path) -> None:
    target = write(tmp_path / "target", {"own": b"mine", "src/own": b"mine too", "art/model.bin": b"mine"})
    own = records(target)[b"src"].mtime_ns
    vault.restore_snapshot("acme", target, paths=["src", "readme"])
    assert names(target) == {"own", "src", "src/own", "src/main.c", "src/lib", "src/lib/util.c", "readme"} | {
        "art",
        "art/model.bin",
    }
    assert records(target)[b"src"].mtime_ns >= own, "a folder that was there keeps its attributes"
    assert contents(target)[b"art/model.bin"] == b"mine"


def test_overwrite_replaces_whatever_has_the_name(project: Path, vault: Vault, tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"victim": b"untouched"})
    target = write(
        tmp_path / "target",
        {
            "readme": str(outside / "victim"),
            "src": str(outside),
            "art/model.bin": b"old",
            "art/link": b"a file",
            "own": b"stays",
        },
    )
    (target / "srcs/other.c").mkdir(parents=True)
    done = vault.restore_snapshot("acme", target, overwrite=True)
    assert done.problems == ()
    (target / "own").unlink()
    os.utime(target, ns=(0, project.stat().st_mtime_ns))
    assert differences(project, target) == {}
    assert contents(outside) == {b"victim": b"untouched"}


def test_overwrite_does_not_write_through_hard_links(project: Path, vault: Vault, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", {"a": b"precious", "b": b"precious"})
    (tmp_path / "target/art").mkdir(parents=True)
    os.link(elsewhere / "a", tmp_path / "target/readme")
    os.link(elsewhere / "b", tmp_path / "target/art/model.bin")
    vault.restore_snapshot("acme", tmp_path / "target", overwrite=True)
    assert contents(elsewhere) == {b"a": b"precious", b"b": b"precious"}


def test_a_full_folder_is_never_removed_for_a_file(project: Path, vault: Vault, tmp_path: Path) -> None:
    target = write(tmp_path / "target", {"readme/own": b"mine", "art/model.bin/own": b"mine"})
    done = vault.restore_snapshot("acme", target, overwrite=True)
    assert done.problems == (
        Problem(b"art/model.bin", "not restored: Directory not empty"),
        Problem(b"readme", "not restored: Directory not empty"),
    )
    assert contents(target)[b"readme/own"] == b"mine"
    assert not [name for name in names(target) if ".gitvault-" in name]


def test_what_is_in_the_way_must_be_a_folder(project: Path, vault: Vault, tmp_path: Path) -> None:
    write(tmp_path, {"file": b""})
    with pytest.raises(ExistsError, match="file: not a folder"):
        vault.restore_snapshot("acme", tmp_path / "file")


def test_the_vault_is_no_place_to_restore_into(project: Path, vault: Vault) -> None:
    with pytest.raises(GitVaultError, match="lies inside the vault"):
        vault.restore_snapshot("acme", vault.path / "cache" / "x")


# -- in place ------------------------------------------------------------------------------------


def test_in_place_takes_a_safety_snapshot_first(project: Path, vault: Vault, tmp_path: Path) -> None:
    first = vault.get_snapshot_info("acme").id
    write(project, {"readme": b"ruined", "new": b"not saved yet"})
    (project / "art/model.bin").unlink()
    done = vault.restore_snapshot(first)
    assert contents(project)[b"readme"] == b"read me"
    assert contents(project)[b"art/model.bin"] == LARGE
    assert contents(project)[b"new"] == b"not saved yet", "restoring removes nothing"
    assert done.safety
    vault.restore_snapshot(done.safety, tmp_path / "before")
    assert contents(tmp_path / "before")[b"readme"] == b"ruined"
    assert contents(tmp_path / "before")[b"new"] == b"not saved yet"
    assert vault.get_snapshot_info(done.safety).trigger == "safety"


def test_the_next_snapshot_says_what_was_restored(project: Path, vault: Vault, tmp_path: Path) -> None:
    first = vault.get_snapshot_info("acme").id
    write(project, {"readme": b"second"})
    vault.create_snapshot(project)
    vault.restore_snapshot(first)
    third = vault.get_snapshot_info(vault.create_snapshot(project).snapshot)
    assert third.restored_from == first
    assert b"Vault-Restored-From: " + first.encode() in vault.history.objects.read(raw(third.id))[1]
    write(project, {"readme": b"fourth"})
    assert vault.get_snapshot_info(vault.create_snapshot(project).snapshot).restored_from is None

    vault.restore_snapshot(first, tmp_path / "elsewhere")
    elsewhere = vault.create_snapshot(tmp_path / "elsewhere")
    assert vault.get_snapshot_info(elsewhere.snapshot).restored_from == first
    assert vault.history.refs.list(origins.PREFIX) == {}


@pytest.mark.parametrize("packed", [False, True])
def test_what_was_restored_is_noted_until_the_folders_next_snapshot(
    packed: bool, project: Path, vault: Vault, tmp_path: Path
) -> None:
    """Also when that finds nothing changed: then the newest snapshot is where the content comes from."""
    first = vault.get_snapshot_info("acme").id
    os.symlink(project, tmp_path / "alias")
    vault.restore_snapshot("acme", tmp_path / "alias", overwrite=True)
    if packed:
        subprocess.run(["git", "--git-dir", vault.path, "pack-refs", "--all", "--prune"], check=True)
    assert vault.history.refs.list(origins.PREFIX) == {origins.ref_of(os.path.realpath(project)): raw(first)}
    assert vault.create_snapshot(project).unchanged
    assert vault.history.refs.list(origins.PREFIX) == {}
    write(project, {"readme": b"edited"})
    assert vault.get_snapshot_info(vault.create_snapshot(project).snapshot).restored_from is None


def test_a_stale_lock_of_the_note_costs_no_restore(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.restore_snapshot("acme", tmp_path / "back")
    [ref] = vault.history.refs.list(origins.PREFIX)
    (vault.path / f"{ref}.lock").touch()
    monkeypatch.setattr(refs, "_LOCK_SECONDS", 0)
    assert vault.restore_snapshot("acme", tmp_path / "back", overwrite=True).problems == ()


def test_folders_that_are_never_saved_leave_no_heap_of_notes(project: Path, vault: Vault, tmp_path: Path) -> None:
    for number in range(103):
        if number == 50:
            subprocess.run(["git", "--git-dir", vault.path, "pack-refs", "--all", "--prune"], check=True)
        vault.restore_snapshot("acme", tmp_path / str(number), paths=["readme"])
    assert len(vault.history.refs.list(origins.PREFIX)) == 100
    newest = vault.create_snapshot(tmp_path / "102")
    assert vault.get_snapshot_info(newest.snapshot).restored_from == vault.resolve("acme")
    assert vault.verify().ok


def test_in_place_when_the_folder_is_gone(project: Path, vault: Vault, tmp_path: Path) -> None:
    before = records(project)
    os.rename(project, tmp_path / "moved away")
    done = vault.restore_snapshot("acme")
    assert done.safety is None
    assert records(project) == before


def test_in_place_of_another_machine_is_refused(project: Path, vault: Vault) -> None:
    with (vault.path / "config").open("a") as config:
        config.write("\tmachine = elsewhere\n")
    with Vault.open(vault.path) as other, pytest.raises(NotFoundError, match="not here; name a folder with --to"):
        other.restore_snapshot("acme")


# -- a vault that means harm ---------------------------------------------------------------------


def forged(vault: Vault, tree: ObjectId | None = None, entries: object = None) -> str:
    """A snapshot with a tree that gitvault would never write."""
    pack = vault.history.new_pack()
    blob = pack.add(b"blob", b"evil")
    link = pack.add(b"blob", b"../outside")
    made = pack.add(b"tree", encode_tree(entries(pack, blob, link)))  # type: ignore[operator]
    empty = pack.add(b"tree", b"")
    details = Details("forged", "", vault.now(), 0, 0)
    recorded = vault.history.record(pack, made, empty, details)
    done = pack.finish()
    vault.history.publish([done] if done else [])
    vault.history.advance(recorded)
    return "forged"


@pytest.mark.parametrize("name", [b"%2E%2E", b"%2E", b"%2Fetc", b"a%2Fb", b"..%2F..%2Fx", b"%00x"])
def test_no_name_leads_out_of_the_folder(name: bytes, vault: Vault, tmp_path: Path) -> None:
    def entries(pack: object, blob: ObjectId, link: ObjectId) -> list[tuple[bytes, int, ObjectId]]:
        inner = pack.add(b"tree", encode_tree([(name, 0o100644, blob)]))  # type: ignore[attr-defined]
        return [(b"good", 0o100644, blob), (b"sub", 0o040000, inner), (name, 0o040000, inner)]

    forged(vault, entries=entries)
    before = records(tmp_path, times=False)
    done = vault.restore_snapshot("forged", tmp_path / "back")
    assert contents(tmp_path / "back") == {b"good": b"evil"}
    assert {p.reason for p in done.problems} == {"not restored: its name would lead out of the folder"}
    after = records(tmp_path, times=False)
    assert {path for path in after.keys() - before.keys() if not path.startswith((b"back", b"vault.git"))} == set()


def test_a_link_and_a_folder_of_one_name_do_not_lead_out(vault: Vault, tmp_path: Path) -> None:
    """git's trees are sets; a forged one has a symlink and, below the same name, a file to write through it."""
    write(tmp_path / "outside", {"victim": b"untouched"})

    def entries(pack: object, blob: ObjectId, link: ObjectId) -> list[tuple[bytes, int, ObjectId]]:
        inner = pack.add(b"tree", encode_tree([(b"victim", 0o100644, blob)]))  # type: ignore[attr-defined]
        return [(b"a", 0o120000, link), (b"%61", 0o040000, inner)]

    forged(vault, entries=entries)
    done = vault.restore_snapshot("forged", tmp_path / "back")
    assert contents(tmp_path / "outside") == {b"victim": b"untouched"}
    assert done.problems


# -- trouble -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX calls")
def test_a_full_disk_is_one_error_not_one_problem_per_file(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "write_all", full)
    with pytest.raises(StorageFullError, match=f"{tmp_path / 'back'}: no space left"):
        vault.restore_snapshot("acme", tmp_path / "back")
    assert contents(tmp_path / "back") == {}, "nothing half-written is left"


def test_one_file_that_cannot_be_written_does_not_stop_the_others(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = restore.TargetFolder.create

    def create(self: restore.TargetFolder, name: bytes) -> int:
        if name == b"main.c":
            raise OSError(22, "Invalid argument")
        return real(self, name)

    monkeypatch.setattr(restore.TargetFolder, "create", create)
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert done.problems == (Problem(b"src/main.c", "not restored: Invalid argument"),)
    assert contents(tmp_path / "back").keys() == contents(project).keys() - {b"src/main.c"}


def test_a_file_that_appears_meanwhile_is_left_alone(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody makes a file of the name while a large one is being written under another."""
    back = tmp_path / "back"
    real = vault.store.retrieve_file

    def retrieve(pointer: Pointer, target: BinaryIO) -> None:
        real(pointer, target)
        write(back, {"art/model.bin": b"somebody's"})

    monkeypatch.setattr(vault.store, "retrieve_file", retrieve)
    done = vault.restore_snapshot("acme", back)
    assert done.problems == (Problem(b"art/model.bin", "not restored: a file of this name appeared meanwhile"),)
    assert contents(back) == contents(project) | {b"art/model.bin": b"somebody's"}


def test_where_there_are_no_hard_links_each_name_gets_the_content(
    project: Path, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.link(project / "readme", project / "src/again")
    os.link(project / "art/model.bin", project / "src/model.bin")
    vault.create_snapshot(project)

    def refused(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert done.problems == ()
    assert contents(tmp_path / "back") == contents(project)
    assert os.stat(tmp_path / "back/readme").st_nlink == 1


def test_damage_costs_what_is_damaged_and_nothing_else(project: Path, vault: Vault, tmp_path: Path) -> None:
    """A lost blob, a lost chunk pack, a lost tree: the report names the path, the rest is restored."""
    entry = {e.path: e for e in vault.entries("acme", recursive=True)}
    lose(vault, entry[b"src/main.c"].blob, entry[b"srcs"].blob)
    for path in vault.path.glob("chunks/*.zpk"):
        path.unlink()
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert [p.path for p in done.problems] == [b"art/model.bin", b"src/main.c", b"srcs"]
    assert contents(tmp_path / "back").keys() == {b"readme", b"src/lib/util.c", b"art/link"}


def lose_meta(vault: Vault, lost: str, *, spoilt: bool) -> None:
    """Damage `commit`, `tree` or `blob`: the root's part of the newest snapshot's meta chain."""
    snapshot = vault.resolve("acme")
    commit = vault.history.meta_commit(vault.history.commit(raw(snapshot)))
    tree = vault.history.trees(snapshot)[1]
    blob = vault.history.tree(tree)[meta.META_NAME][1]
    assert commit and tree
    lose(vault, {"commit": commit, "tree": tree, "blob": blob}[lost], spoilt=spoilt)


@pytest.mark.parametrize("spoilt", [False, True], ids=["lost", "spoilt"])
@pytest.mark.parametrize("lost", ["commit", "tree", "blob"])
def test_without_the_meta_chain_single_paths_come_back_too(
    lost: str, spoilt: bool, project: Path, vault: Vault, tmp_path: Path
) -> None:
    """What restores, lists, reads and compares knows what git's trees know."""
    os.chmod(project / "src/main.c", 0o755)
    vault.create_snapshot(project)
    lose_meta(vault, lost, spoilt=spoilt)
    shutil.rmtree(vault.path / "cache")
    for path, expected in ((b"art/model.bin", LARGE), (b"src/main.c", b"int main;"), (b"art/link", b"../readme")):
        done = vault.restore_snapshot("acme", tmp_path / "back", paths=[path])
        assert done.files == 1
        assert [p.path for p in done.problems] == [b""]
        assert "attributes lost" in done.problems[0].reason
        target = io.BytesIO()
        vault.read_file("acme", path, target)
        assert target.getvalue() == expected == contents(tmp_path / "back")[path]
        assert vault.status([project / os.fsdecode(path)])[0].state == "saved"
    assert os.stat(tmp_path / "back/src/main.c").st_mode & 0o100
    with pytest.raises(NotFoundError, match="src/none: not in snapshot"):
        vault.restore_snapshot("acme", tmp_path / "none", paths=["src/none"])
    problems: list[Problem] = []
    tell: Damaged = problems.append
    listed = {e.path: e for e in vault.entries("acme", recursive=True, damaged=tell)}
    assert [p.path for p in problems] == [b""]
    assert listed.keys() >= records(project).keys() - {b"", b"art/empty"}
    assert listed[b"art/model.bin"].size == len(LARGE)
    assert listed[b"src/main.c"].mode & 0o100
    with pytest.raises((CorruptionError, NotFoundError)):
        list(vault.entries("acme", recursive=True))
    assert vault.get_version_diff("acme~1", "acme").deleted == ()


def test_commands_say_what_is_lost_beside_what_there_is(
    project: Path, vault: Vault, tmp_path: Path, command: Command
) -> None:
    lose_meta(vault, "commit", spoilt=False)
    for words in (["ls", "acme", "-r"], ["cat", "acme:readme"], ["restore", "acme", "readme", "--to", tmp_path / "c"]):
        done = command(*words)
        assert done.returncode == 1
        assert "attributes lost" in done.stderr + done.stdout
    assert command("cat", "acme:readme").stdout == "read me"


def test_a_lost_file_in_a_folder_without_attributes_costs_one_file(project: Path, vault: Vault, tmp_path: Path) -> None:
    lost = find(vault.history, vault.resolve("acme"), b"src/main.c")[0].blob
    lose_meta(vault, "commit", spoilt=False)
    lose(vault, lost)
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert [p.path for p in done.problems] == [b"", b"src/main.c"]
    assert contents(tmp_path / "back").keys() == contents(project).keys() - {b"src/main.c"}


@pytest.mark.parametrize("lost", ["commit", "tree", "blob"])
def test_without_the_meta_chain_the_bytes_come_back(lost: str, project: Path, vault: Vault, tmp_path: Path) -> None:
    lose_meta(vault, lost, spoilt=False)
    done = vault.restore_snapshot("acme", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(project)
    assert [p.path for p in done.problems] == [b""]
    assert "attributes lost" in done.problems[0].reason
    if lost == "blob":
        assert differences(project, tmp_path / "back").keys() <= {b"", b"readme"}, "other folders' are there"
    write(project, {"readme": b"saved in spite of it"})
    after = vault.create_snapshot(project)
    vault.restore_snapshot(after.snapshot, tmp_path / "after")
    assert differences(project, tmp_path / "after") == {}


def test_a_commit_that_git_made_is_restored_too(project: Path, vault: Vault, tmp_path: Path) -> None:
    """Somebody pushed into the vault with stock git: what git knows of a file comes back."""
    details = Details("plain", "", vault.now(), 0, 0)
    pack = vault.history.new_pack()
    blob, link = pack.add(b"blob", b"#!/bin/sh\n"), pack.add(b"blob", b"tool")
    tree = pack.add(b"tree", encode_tree([(b"tool", 0o100755, blob), (b"link", 0o120000, link)]))
    commit = pack.add(b"commit", vault.history._commit(tree, None, details.time, "by hand\n"))
    made = pack.finish()
    assert made
    vault.history.publish([made])
    vault.history.refs.update("refs/heads/plain", commit)
    assert vault.restore_snapshot("plain", tmp_path / "back").problems == ()
    assert contents(tmp_path / "back") == {b"tool": b"#!/bin/sh\n", b"link": b"tool"}
    assert os.stat(tmp_path / "back/tool").st_mode & 0o777 == 0o755


def test_reading_one_file(project: Path, vault: Vault) -> None:
    for path, content in ((b"readme", b"read me"), (b"art/model.bin", LARGE), (b"art/link", b"../readme")):
        target = io.BytesIO()
        vault.read_file("acme", path, target)
        assert target.getvalue() == content
    assert find_file(vault.history, vault.resolve("acme"), b"art/link").kind == "symlink"
    with pytest.raises(NotFoundError, match="src: a folder"):
        vault.read_file("acme", b"src", io.BytesIO())
    with pytest.raises(NotFoundError, match="src/none: not in snapshot"):
        vault.read_file("acme", b"src/none", io.BytesIO())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("unit", [b"\0\xff" + bytes(198), "\u00e9\u20ac\n".encode()], ids=["binary", "text"])
def test_a_large_file_as_json_is_never_held_whole(unit: bytes, vault: Vault, tmp_path: Path) -> None:
    content = unit * (30_000_000 // len(unit))
    vault.create_snapshot(write(tmp_path / "big", {"file": content}))
    program = (
        "import sys; from gitvault.cli.main import main; code = main(sys.argv[1:]);"
        "print(*(line.split()[1] for line in open('/proc/self/status') if line[:6] == 'VmHWM:'), file=sys.stderr);"
        "sys.exit(code)"
    )
    words = [sys.executable, "-c", program, "--vault", vault.path, "cat", "big:file", "--json"]
    done = subprocess.run(words, capture_output=True, check=True)
    found = json.loads(done.stdout)
    data = found["content"].encode() if found["encoding"] == "utf-8" else base64.b64decode(found["content"])
    assert found["size"] == len(content)
    assert data == content
    assert int(done.stderr) < 100_000, "KiB at most at any time"


def test_a_read_only_vault_restores(project: Path, vault: Vault, tmp_path: Path) -> None:
    """Restoring needs no lock and writes nothing it could not do without."""

    class ReadOnly(Disk):
        def create(self, path: Path, mode: int = 0o600) -> None:  # type: ignore[override]
            raise PermissionError(30, "Read-only file system")

    refs = sorted(vault.history.refs.list(""))
    with Vault.open(vault.path, disk=ReadOnly()) as mounted:
        try:
            mounted.restore_snapshot("acme", tmp_path / "back")
        except PermissionError as error:
            pytest.fail(f"{error}: the note for the next snapshot is worth no failed restore")
    assert differences(project, tmp_path / "back") == {}
    assert sorted(vault.history.refs.list("")) == refs


def test_large_files_of_every_size_come_back(vault: Vault, tmp_path: Path) -> None:
    """From 1 MiB on they are written past the page cache, in blocks of 4 MiB."""
    noise = random.Random(3).randbytes((9 << 20) + 123)
    sizes = [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 4 << 20, (4 << 20) + 1, (9 << 20) + 123]
    files = {f"{size}.bin": b"\0" + noise[-size + 1 :] for size in sizes}
    files["zeros.bin"] = bytes(5 << 20)
    vault.create_snapshot(write(tmp_path / "acme", files))
    vault.maintain()
    for name in ("one", "two"):
        vault.restore_snapshot("acme", tmp_path / name)
        assert not differences(tmp_path / "acme", tmp_path / name)
    assert {len(data) for data in contents(tmp_path / "one").values()} == {*sizes, 5 << 20}


def test_a_large_file_that_cannot_be_read_leaves_nothing(vault: Vault, tmp_path: Path) -> None:
    """And what had been collected for it gets into no other file."""
    noise = random.Random(4).randbytes(3 << 20)
    vault.create_snapshot(write(tmp_path / "acme", {"a.bin": b"\0" + noise}))
    (pack,) = (vault.path / "chunks").glob("*.zpk")
    data = bytearray(pack.read_bytes())
    data[2 << 20] ^= 1
    pack.write_bytes(data)
    report = vault.restore_snapshot("acme", tmp_path / "broken")
    assert [problem.path for problem in report.problems] == [b"a.bin"]
    assert not contents(tmp_path / "broken")
