"""Fifty projects: said what they are, chosen by it, moved and renamed without losing their past."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trees import differences, write

from gitvault.cli.main import main
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import Filter
from gitvault.core.versioning import catalog
from gitvault.core.versioning.counts import FILE, counts
from gitvault.core.versioning.edits import Edit
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError
from gitvault.personas.code.projects import Standing, overview
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]


def git(vault: Vault, *words: str) -> str:
    return subprocess.check_output(["git", "--git-dir", vault.path, *words], text=True).strip()


def line(vault: Vault, name: str) -> dict[str, Any]:
    """What the catalog says of a project, as git shows it."""
    shown = git(vault, "show", f"{catalog.REF}:{catalog.FILE.decode()}")
    [found] = [record for record in map(json.loads, shown.splitlines()) if record["name"] == name]
    return dict(found)


@pytest.fixture
def command(vault: Vault, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command on the vault, in this process."""

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(["--vault", str(vault.path), *map(str, words)])
        return subprocess.CompletedProcess([], code, *capsys.readouterr())

    return run


@pytest.fixture
def ask(command: Command) -> Callable[..., Any]:
    """Runs a verb with --json; the document, after the exit code was checked."""

    def run(*words: str | Path, code: int = 0) -> Any:
        done = command(*words, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def work(tmp_path: Path, vault: Vault) -> Path:
    """Three saved projects of two clients."""
    for name, client, files in (
        ("shop", "acme", {"pyproject.toml": b"[project]\n", "shop.py": b"print(1)\n"}),
        ("blog", "acme", {"package.json": b"{}\n"}),
        ("api", "blue", {"src/Cargo.toml": b"\n"}),
    ):
        folder = write(tmp_path / "work" / name, dict(files))
        vault.add_project(folder)
        vault.edit_projects([name], Edit({"client": client}, {"tags": [f"t-{name}"]}))
        vault.create_snapshot(folder)
    return tmp_path / "work"


# -- what is said of projects


def test_what_was_said_is_listed_and_selected(ask: Callable[..., Any], work: Path, vault: Vault) -> None:
    listed = ask("projects")
    assert [(one["name"], one["client"], one["stack"], one["snapshots"]) for one in listed] == [
        ("api", "blue", "rust", 1),
        ("blog", "acme", "javascript", 1),
        ("shop", "acme", "python", 1),
    ]
    assert {"name", "path", "client", "stack", "phase", "tags", "snapshots", "last"} <= listed[0].keys()
    assert listed[2]["last"] == listed[2]["time"] and listed[2]["tags"] == ["t-shop"]
    assert [one["name"] for one in ask("projects", "client:acme", "-stack:python")] == ["blog"]
    assert [one["name"] for one in ask("projects", "-tag:t-shop", "path:*/work/*")] == ["api", "blog"]
    assert ask("projects", "client:nobody") == []


def test_edits_of_many_are_one_commit(ask: Callable[..., Any], work: Path, vault: Vault) -> None:
    before = int(git(vault, "rev-list", "--count", catalog.REF))
    done = ask("projects", "edit", "client:acme", "--client", "new", "--phase", "build", "--tag", "x", "--tag", "y")
    assert [(one["name"], one["client"], one["phase"]) for one in done] == [
        ("blog", "new", "build"),
        ("shop", "new", "build"),
    ]
    assert done[1]["tags"] == ["t-shop", "x", "y"]
    assert int(git(vault, "rev-list", "--count", catalog.REF)) == before + 1
    assert git(vault, "log", "-1", "--format=%s", catalog.REF) == "Edit blog, shop"
    [done] = ask("projects", "edit", "shop", "--untag", "x", "--phase", "", "--stack", "django")
    assert (done["tags"], done["phase"], done["stack"]) == (["t-shop", "y"], "", "django")
    assert "phase" not in line(vault, "shop")
    ask("projects", "edit", "shop", "--stack", "django")
    assert int(git(vault, "rev-list", "--count", catalog.REF)) == before + 2, "nothing new is no commit"


def test_a_stack_that_was_set_stays_and_one_that_was_seen_follows_the_files(
    work: Path, vault: Vault, ask: Callable[..., Any]
) -> None:
    (work / "blog" / "package.json").unlink()
    write(work / "blog", {"go.mod": b"module blog\n"})
    vault.create_snapshot(work / "blog")
    assert vault.project("blog").stack == "go"
    ask("projects", "edit", "blog", "--stack", "hugo")
    write(work / "blog", {"Cargo.toml": b"\n"})
    vault.create_snapshot(work / "blog")
    assert (vault.project("blog").stack, vault.project("blog").detected) == ("hugo", "rust")
    ask("projects", "edit", "blog", "--stack", "")
    assert vault.project("blog").stack == "rust"


def test_a_stack_is_what_lies_on_that_machine(work: Path, vault: Vault) -> None:
    """One has the old checkout, the other the new one: neither machine's snapshots change what the other shows."""
    mine = vault.project("shop")
    catalog.save(vault.history, [*vault.projects(), replace(mine, host="couch")], "Add shop")
    catalog.detect(vault.history, mine, "rust", vault.now())
    assert {p.host == "couch": p.stack for p in vault.projects() if p.name == "shop"} == {True: "python", False: "rust"}
    vault.edit_projects(["shop"], Edit({"chosen": "go"}))
    assert {p.stack for p in vault.projects() if p.name == "shop"} == {"go"}


def test_add_says_it_all_at_once(ask: Callable[..., Any], tmp_path: Path, vault: Vault) -> None:
    write(tmp_path / "new", {"main.go": b"package main\n"})
    words = ("--client", " Acme ", "--stack", "tinygo", "--phase", "idea", "--tag", "a", "--tag", "b")
    done = ask("add", tmp_path / "new", *words)
    assert (done["client"], done["stack"], done["phase"], done["tags"]) == ("Acme", "tinygo", "idea", ["a", "b"])
    assert (vault.project("new").chosen, vault.project("new").detected) == ("tinygo", "go")
    assert ask("add", tmp_path / "new", "--phase", "build")["client"] == "Acme"


def test_relations_are_found_from_both_ends_and_follow_a_rename(
    ask: Callable[..., Any], work: Path, command: Command
) -> None:
    [done] = ask("projects", "relate", "api", "succeeds", "shop")
    assert done["relations"] == [{"kind": "succeeds", "project": "shop"}]
    assert "succeeds shop" in command("projects", "relate", "api", "succeeds", "shop").stdout
    ask("projects", "relate", "api", "shares-code-with", "blog")
    assert [one["name"] for one in ask("projects", "related:shop")] == ["api"]
    assert [one["name"] for one in ask("projects", "related:api")] == ["blog", "shop"]
    ask("projects", "edit", "shop", "--name", "store")
    assert [one["name"] for one in ask("projects", "related:store")] == ["api"]
    [done] = ask("projects", "unrelate", "api", "succeeds", "store")
    assert done["relations"] == [{"kind": "shares-code-with", "project": "blog"}]
    assert command("projects", "relate", "api", "succeeds", "nothing").returncode == 128
    assert command("projects", "relate", "nothing", "succeeds", "api").returncode == 128


def test_an_archived_project_is_left_alone_until_it_is_named(
    ask: Callable[..., Any], work: Path, vault: Vault, command: Command
) -> None:
    assert [one["archived"] for one in ask("projects", "archive", "client:acme")] == [True, True]
    assert [one["name"] for one in ask("projects")] == ["api"]
    assert [one["name"] for one in ask("projects", "archived:yes")] == ["blog", "shop"]
    assert "archived" in command("projects", "shop").stdout
    write(work / "shop", {"new": b"x"})
    assert [one["project"] for one in ask("snapshot", "--all")] == ["api"]
    assert [state["path"] for state in ask("status")] == [str(work / "api")]
    assert ask("snapshot", work / "shop")["new"] == 1
    assert ask("restore", "shop", "--to", work / "back")["files"] == 3
    assert len(ask("projects", "unarchive", "client:acme")) == 2
    assert len(ask("projects")) == 3


def test_a_removed_project_keeps_its_snapshots_and_goes_on_when_it_is_back(
    ask: Callable[..., Any], work: Path, vault: Vault
) -> None:
    old = vault.resolve("shop")
    assert ask("projects", "remove", "shop") == {"removed": ["shop"]}
    assert [one["name"] for one in ask("projects")] == ["api", "blog"]
    with pytest.raises(NotFoundError):
        vault.project("shop")
    assert vault.resolve("shop") == old
    assert [one["project"] for one in ask("snapshot", "--all")] == ["api", "blog"]
    vault.rename_project("blog", "log")
    assert vault.add_project(work / "shop").name == "shop"
    assert (vault.project("shop").client, vault.project("shop").tags) == ("acme", ("t-shop",))
    assert vault.create_snapshot(work / "shop").snapshot == old


def test_a_rename_to_the_name_of_one_that_was_removed(vault: Vault, tmp_path: Path) -> None:
    for name in ("old", "new"):
        vault.add_project(write(tmp_path / name, {"x": b"x"}))
    vault.edit_projects(["new"], Edit({"removed": True}))
    vault.rename_project("old", "new")
    assert [(p.name, p.path) for p in vault.projects()] == [("new", str(tmp_path / "old"))]
    assert line(vault, "new")["path"] == str(tmp_path / "old")


def test_an_edit_is_taken_back_and_done_again(
    ask: Callable[..., Any], work: Path, vault: Vault, tmp_path: Path, command: Command
) -> None:
    before = vault.projects()
    ask("projects", "edit", "client:*", "--client", "oops", "--tag", "x")
    vault.edit_projects(["blog"], Edit({"phase": "since"}))
    write(work / "api", {"go.mod": b"module api\n"})
    vault.create_snapshot(work / "api")
    assert [one["name"] for one in ask("projects", "undo")] == ["blog"]
    assert [one["phase"] for one in ask("projects", "undo")] == ["since"]
    for _ in range(3):
        ask("projects", "edit", "client:*", "--client", "worse", "--tag", "y")
        vault.add_project(write(tmp_path / "new", {"x": b""}))
        changed = ask("projects", "undo")
        assert {one["client"] for one in changed} == {"oops"}
    assert {p.client for p in vault.projects() if p.name != "new"} == {"oops"} != {p.client for p in before}
    ask("projects", "move", "shop", tmp_path / "elsewhere")
    assert ask("projects", "undo")[0]["path"] == str(work / "shop")
    assert vault.create_snapshot(work / "shop").bytes_read == 0
    ask("projects", "remove", "shop")
    assert [one["name"] for one in ask("projects", "undo")] == ["shop"]
    assert ask("projects", "undo") == [] and "shop" not in {p.name for p in vault.projects()}
    ask("projects", "undo")
    ask("projects", "archive", "shop")
    vault.rename_project("shop", "store")
    assert "nothing of it stands any more" in command("projects", "undo").stderr


def test_a_place_that_an_edit_made_goes_with_it(vault: Vault, work: Path, tmp_path: Path) -> None:
    there = [replace(p, host="couch") for p in vault.projects()]
    vault.history.write_file(catalog.REF, catalog.FILE, catalog.encode(there), "Elsewhere")
    vault.move_project("shop", tmp_path / "mine")
    assert [p.removed for p in vault.undo_edit()] == [True]
    assert {p.host for p in vault.projects()} == {"couch"}


def test_without_an_edit_there_is_nothing_to_take_back(vault: Vault, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no edit of projects is on record"):
        vault.undo_edit()
    vault.add_project(write(tmp_path / "new", {"x": b""}))
    with pytest.raises(NotFoundError, match="no edit of projects is on record"):
        vault.undo_edit()


# -- selections where a project could be named


def test_snapshots_restores_and_the_log_take_selections(
    ask: Callable[..., Any], work: Path, vault: Vault, tmp_path: Path, command: Command
) -> None:
    for name in ("shop", "blog", "api"):
        write(work / name, {"more": b"more\n"})
    assert [one["project"] for one in ask("snapshot", "--select", "client:acme", "-m", "all of acme")] == [
        "blog",
        "shop",
    ]
    assert {one["project"] for one in ask("log", "--select", "client:acme")} == {"blog", "shop"}
    assert len(ask("log", "--select", "client:acme stack:python", "-n", "1")) == 1
    done = ask("restore", "--select", "client:acme", "--to", tmp_path / "back")
    assert [(one["project"], one["files"]) for one in done] == [("blog", 2), ("shop", 3)]
    for name in ("blog", "shop"):
        assert differences(work / name, tmp_path / "back" / name) == {}
    [one] = ask("restore", "--select", "client:acme stack:python", "shop.py", "--to", tmp_path / "part")
    assert one["files"] == 1 and (tmp_path / "part" / "shop" / "shop.py").exists()
    states = ask("status", "--select", "client:acme")
    assert [state["path"] for state in states] == [str(work / "blog"), str(work / "shop")]
    done = ask("restore", "--select", "client:acme", "--at", "2001-01-02", "--to", tmp_path / "none", code=128)
    assert [one["project"] for one in done] == ["blog", "shop"]
    assert all("has no snapshot that old" in one["error"] for one in done)
    done = ask("restore", "--select", "client:acme", "--at", "now", "--to", tmp_path / "now")
    assert [one["files"] for one in done] == [2, 3]


def test_prune_forget_and_copy_take_selections(
    ask: Callable[..., Any], work: Path, vault: Vault, tmp_path: Path, command: Command
) -> None:
    for name in ("shop", "blog"):
        write(work / name, {"more": b"more\n"})
        vault.create_snapshot(work / name)
    assert len(ask("prune", "--select", "client:acme -stack:python", "--keep-last", "1", "--yes")["removed"]) == 1
    assert [one["snapshots"] for one in ask("projects")] == [1, 1, 2]
    [path] = ask("forget", "--select", "client:acme stack:python", "--path", "more")["paths"]
    assert path["project"] == "shop"
    ask("copy", "--to", tmp_path / "second.git", "--select", "client:acme")
    with Vault.open(tmp_path / "second.git") as second:
        assert [project.name for project in second.projects()] == second.history.projects() == ["blog", "shop"]


def test_searches_and_the_verdict_take_selections(ask: Callable[..., Any], work: Path, vault: Vault) -> None:
    for name in ("shop", "blog", "api"):
        write(work / name, {"common.txt": b"the same line everywhere\n"})
        vault.create_snapshot(work / name)
    found = ask("search", "same line", "--select", "client:acme -stack:python")
    assert {hit["project"] for hit in found["hits"]} == {"blog"}
    assert {one["project"] for one in ask("vcs", "status", "--select", "client:acme", code=1)} == {"blog", "shop"}


def test_a_selection_of_nothing_is_not_everything(work: Path, vault: Vault, tmp_path: Path, command: Command) -> None:
    """A prune of a client that is spelled wrong must not prune all clients."""
    refs = vault.history.refs.list("refs/heads/")
    for words in (
        ["prune", "--keep-last", "1", "--yes"],
        ["forget", "--path", "*", "--yes"],
        ["copy", "--to", tmp_path / "second.git"],
        ["snapshot"],
        ["log"],
        ["status"],
        ["vcs", "status"],
        ["search", "x"],
        ["restore", "--to", tmp_path / "x"],
    ):
        done = command(*words, "--select", "client:acmee")
        assert (done.returncode, done.stdout) == (128, "")
        assert "client:acmee: no project is so; git-vault projects lists them" in done.stderr
    assert vault.history.refs.list("refs/heads/") == refs
    assert not (tmp_path / "second.git").exists()


def test_several_names_in_folders_of_their_own(vault: Vault, tmp_path: Path, ask: Callable[..., Any]) -> None:
    for number, name in enumerate(("a/b", "..", "Été", "x")):
        vault.create_snapshot(write(tmp_path / f"{number}", {f"{number}": b""}), project=name)
    done = ask("restore", "--select", "name:*", "--to", tmp_path / "out")
    folders = {one["project"]: Path(one["target"]) for one in done}
    assert len(set(folders.values())) == 4
    assert all(folder.parent == tmp_path / "out" and folder.is_dir() for folder in folders.values())
    assert (folders["Été"].name, folders["x"].name) == ("Été", "x")
    assert sorted(path.name for path in (tmp_path / "out").glob("*/*")) == ["0", "1", "2", "3"]


WRONG = [
    ["projects", "edit", "shop"],
    ["projects", "edit", "--client", "x"],
    ["projects", "shop", "--client", "x"],
    ["projects", "archive"],
    ["projects", "unarchive"],
    ["projects", "remove"],
    ["projects", "undo", "shop"],
    ["projects", "move", "shop"],
    ["projects", "relate", "api", "likes", "shop"],
    ["projects", "edit", "client:acme", "--name", "x"],
    ["projects", "edit", "client:acme", "--path", "/x"],
    ["projects", "edit", "shop", "--name", ""],
    ["snapshot", "--all", "--select", "client:acme"],
    ["snapshot", ".", "--select", "client:acme"],
    ["snapshot", "--select", "'client:acme"],
    ["log", "shop", "--select", "client:acme"],
    ["restore", "--to", "x"],
    ["restore", "shop", "--at", "now", "--to", "x"],
    ["restore", "--select", "shop", "--in-place"],
]


def test_words_that_do_not_go_together(work: Path, command: Command) -> None:
    for words in WRONG:
        done = command(*words)
        assert (done.returncode, done.stdout) == (129, ""), words
        assert len(done.stderr.splitlines()) == 1


def test_a_wrong_word_is_named_with_what_is_allowed(work: Path, command: Command) -> None:
    done = command("projects", "edit", "clinet:acme", "--client", "x")
    assert done.returncode == 128
    assert "clinet:acme: no key clinet; expected name, client, stack" in done.stderr
    assert "shpo: no such project" in command("projects", "shpo").stderr


# -- moves


def test_a_moved_folder_goes_on_without_reading_it_again(vault: Vault, work: Path, ask: Callable[..., Any]) -> None:
    write(work / "shop", {f"f{n}": b"x" * n for n in range(50)})
    vault.create_snapshot(work / "shop")
    vault.create_snapshot(work / "shop")
    (work / "shop").rename(work / "store")
    [done] = ask("projects", "move", "shop", work / "store")
    assert (done["name"], done["path"]) == ("shop", str(work / "store"))
    report = vault.create_snapshot(work / "store")
    assert (report.project, report.unchanged, report.bytes_read) == ("shop", True, 0)
    write(work / "store", {"f7": b"new"})
    assert vault.create_snapshot(work / "store").changed == 1
    assert vault.verify(data=True).ok


def test_other_files_at_the_new_place_are_read(vault: Vault, work: Path, tmp_path: Path) -> None:
    """The table of what was seen goes along, and must not pass off old files for new ones."""
    write(tmp_path / "else", {"pyproject.toml": b"other\n", "shop.py": b"print(2)\n"})
    vault.move_project("shop", tmp_path / "else")
    report = vault.create_snapshot(tmp_path / "else")
    vault.restore_snapshot("shop", tmp_path / "back")
    assert report.changed == 2
    assert differences(tmp_path / "else", tmp_path / "back") == {}


def test_a_folder_may_come_later(vault: Vault, work: Path, tmp_path: Path, command: Command) -> None:
    done = command("projects", "move", "shop", tmp_path / "later")
    assert "there is no such folder yet" in done.stdout
    (work / "shop").rename(tmp_path / "later")
    assert vault.create_snapshot(tmp_path / "later").project == "shop"


def test_folders_where_a_project_cannot_lie(vault: Vault, work: Path) -> None:
    with pytest.raises(ExistsError, match="is the project blog; git-vault projects remove it first"):
        vault.move_project("shop", work / "blog")
    with pytest.raises(GitVaultError, match="lies inside the vault"):
        vault.move_project("shop", vault.path / "x")
    with pytest.raises(NotFoundError, match="nothing: no such project"):
        vault.move_project("nothing", work / "x")
    with pytest.raises(NotFoundError, match="nothing: no such project"):
        vault.edit_projects(["shop", "nothing"], Edit({"client": "x"}))
    assert vault.project("shop").path == str(work / "shop") and vault.project("shop").client == "acme"
    vault.edit_projects(["blog"], Edit({"removed": True}))
    assert vault.move_project("shop", work / "blog").path == str(work / "blog")


def test_a_project_of_another_machine_gets_a_place_on_this_one(vault: Vault, work: Path, tmp_path: Path) -> None:
    there = [replace(p, host="couch") if p.name == "shop" else p for p in vault.projects()]
    vault.history.write_file(catalog.REF, catalog.FILE, catalog.encode(there), "Elsewhere")
    write(tmp_path / "mine", {"Cargo.toml": b""})
    moved = vault.move_project("shop", tmp_path / "mine")
    assert (moved.client, moved.tags, moved.stack) == ("acme", ("t-shop",), "rust")
    places = {p.host: (p.path, p.stack) for p in vault.projects() if p.name == "shop"}
    assert places == {
        "couch": (str(work / "shop"), "python"),
        vault.config.machine: (str(tmp_path / "mine"), "rust"),
    }
    vault.edit_projects(["shop"], Edit({"client": "both"}))
    assert {p.client for p in vault.projects() if p.name == "shop"} == {"both"}


def test_a_migration_to_another_language_and_folder_keeps_its_history(
    vault: Vault, work: Path, tmp_path: Path, ask: Callable[..., Any]
) -> None:
    """Mariana ports the shop from Python to Rust, in a new folder: one project, one past."""
    write(work / "shop", {"cart.py": b"def total(): ...\n"})
    python = vault.create_snapshot(work / "shop", message="The last in Python").snapshot
    port = write(tmp_path / "rust" / "shop-rs", {"Cargo.toml": b"[package]\n", "src/cart.rs": b"fn total() {}\n"})
    ask("projects", "edit", "shop", "--path", port, "--phase", "port")
    rust = vault.create_snapshot(port, message="The first in Rust").snapshot
    assert [(one["snapshot"], one["project"]) for one in ask("log", "shop")][:2] == [(rust, "shop"), (python, "shop")]
    [listed] = ask("projects", "stack:rust", "client:acme")
    assert (listed["name"], listed["path"], listed["snapshots"], listed["phase"]) == ("shop", str(port), 3, "port")
    ask("restore", "shop~1", "--to", tmp_path / "old")
    assert differences(work / "shop", tmp_path / "old") == {}
    found = vault.get_version_diff(python, rust)
    assert b"src/cart.rs" in found.added and b"cart.py" in found.deleted
    # In place is where the project lies now, whatever it was when that was saved.
    done = ask("restore", python, "cart.py", "--in-place")
    assert done["safety"] and (port / "cart.py").read_bytes() == b"def total(): ...\n"
    assert (port / "src" / "cart.rs").exists()


def test_a_component_is_brought_back_across_a_rename_and_a_move(vault: Vault, work: Path, tmp_path: Path) -> None:
    old = vault.resolve("shop")
    (work / "shop").rename(tmp_path / "store")
    vault.move_project("shop", tmp_path / "store")
    vault.rename_project("shop", "store")
    (tmp_path / "store" / "shop.py").unlink()
    vault.create_snapshot(tmp_path / "store")
    vault.restore_snapshot(old, None, paths=["shop.py"])
    assert (tmp_path / "store" / "shop.py").read_bytes() == b"print(1)\n"
    assert [found.id for found in vault.list_snapshots(Filter(project="store"))][-1] == old


# -- the catalog


def test_fields_of_a_newer_version_are_kept(vault: Vault, work: Path) -> None:
    records = [json.loads(text) for text in git(vault, "show", f"{catalog.REF}:projects.jsonl").splitlines()]
    for record in records:
        record |= {"colour": {"b": [1], "a": None}, "edited": {**record["edited"], "colour": "2026-01-01T00:00:00Z"}}
    text = "".join(json.dumps(record) + "\n" for record in records)
    vault.history.write_file(catalog.REF, catalog.FILE, text.encode(), "A newer version")
    vault.edit_projects(["shop"], Edit({"client": "x"}))
    vault.rename_project("shop", "store")
    for name in ("store", "api"):
        assert line(vault, name)["colour"] == {"a": None, "b": [1]}
        assert line(vault, name)["edited"]["colour"] == "2026-01-01T00:00:00Z"


def test_lines_without_the_fields_are_read_and_written_as_they_were(vault: Vault) -> None:
    text = b'{"added":"2026-01-02T03:15:05Z","host":"h","name":"n","path":"/x"}\n'
    vault.history.write_file(catalog.REF, catalog.FILE, text, "An older version")
    [project] = vault.projects()
    assert (project.client, project.stack, project.tags, project.archived) == ("", "", (), False)
    assert catalog.encode([project]) == text


@pytest.mark.parametrize(
    "fields",
    [
        '"edited":{"client":"soon"}',
        '"edited":{"client":"2026-01-02T00:00:00+01:00"}',
        '"edited":{"client":5}',
        '"edited":[]',
        '"relations":[["succeeds"]]',
        '"relations":5',
        '"tags":5',
    ],
)
def test_fields_that_cannot_be_read(fields: str, vault: Vault) -> None:
    text = f'{{"added":"2026-01-02T03:15:05Z",{fields},"host":"h","name":"n","path":"/x"}}\n'
    vault.history.write_file(catalog.REF, catalog.FILE, text.encode(), "forged")
    with pytest.raises(CorruptionError, match="a line cannot be read"):
        vault.projects()


# -- two machines


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[[str], Vault]]:
    opened: list[Vault] = []

    def make(name: str) -> Vault:
        path = tmp_path / f"{name}.git"
        if not path.exists():
            Vault.create(path).close()
            with (path / "config").open("a") as config:
                config.write(f"\tmaintenance = off\n\tmachine = {name}\n")
        opened.append(Vault.open(path))
        return opened[-1]

    yield make
    for vault in opened:
        vault.close()


def facts(vault: Vault) -> dict[tuple[str, str], tuple[object, ...]]:
    return {(p.name, p.host): (p.path, p.client, p.phase, p.tags, p.archived) for p in vault.projects()}


def test_two_machines_lists_become_one(machines: Callable[[str], Vault], tmp_path: Path) -> None:
    desk, couch, disk = machines("desk"), machines("couch"), tmp_path / "disk.git"
    desk.create_snapshot(write(tmp_path / "d" / "shop", {"x": b"x"}))
    desk.create_snapshot(write(tmp_path / "d" / "old", {"x": b"x"}))
    desk.edit_projects(["shop"], Edit({"client": "acme", "phase": "idea"}))
    desk.copy_to(disk)
    with Vault.open(disk) as copied:
        copied.copy_to(couch.path)
    couch.history.objects.refresh()
    couch.move_project("shop", write(tmp_path / "c" / "shop", {"x": b"x"}))
    couch.create_snapshot(write(tmp_path / "c" / "blog", {"x": b"x"}))
    couch.edit_projects(["shop"], Edit({"phase": "build"}))
    desk.edit_projects(["shop"], Edit(put={"tags": ["urgent"]}))
    desk.edit_projects(["old"], Edit({"removed": True}))
    couch.copy_to(disk)
    desk.copy_to(disk)
    with Vault.open(disk) as copied:
        expected = facts(copied)
        assert desk.copy_to(disk).refs == 0
        assert facts(copied) == expected
        copied.copy_to(couch.path)
        copied.copy_to(desk.path)
    shared = ("acme", "build", ("urgent",), False)
    assert expected == {
        ("blog", "couch"): (str(tmp_path / "c" / "blog"), "", "", (), False),
        ("shop", "couch"): (str(tmp_path / "c" / "shop"), *shared),
        ("shop", "desk"): (str(tmp_path / "d" / "shop"), *shared),
    }
    for vault in (desk, couch):
        vault.close()
        assert facts(vault) == expected, "what was removed on one is on none, and nothing else is lost"
        assert vault.verify(data=True).ok
    assert {"old", "shop", "blog"} <= set(couch.history.projects())


# -- counting


def test_snapshots_are_counted_once_and_after_a_prune_again(vault: Vault, work: Path) -> None:
    for n in range(4):
        write(work / "shop", {"n": b"%d" % n})
        vault.create_snapshot(work / "shop")
    assert vault.snapshot_counts(["shop", "api", "none"]) == {"shop": 5, "api": 1, "none": 0}
    cache = vault.path / "cache" / FILE
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({**known, "shop": [known["shop"][0], 50]}))
    write(work / "shop", {"n": b"since"})
    vault.create_snapshot(work / "shop")
    assert vault.snapshot_counts(["shop"]) == {"shop": 51}, "only what is new is walked"
    vault.prune(Retention(last=2), projects=["shop"], yes=True)
    assert vault.snapshot_counts(["shop"]) == {"shop": 2}
    for damage in ("[]", "nonsense", '{"shop": 5}'):
        cache.write_text(damage)
        assert vault.snapshot_counts(["shop"]) == {"shop": 2}
    standing = overview(vault, ["shop"])
    assert standing == [Standing(vault.project("shop"), 2, vault.get_snapshot_info("shop"))]


def test_a_damaged_chain_is_counted_as_far_as_it_goes(vault: Vault, work: Path) -> None:
    (vault.path / "refs" / "heads" / "shop").write_text(f"{git(vault, 'rev-parse', 'shop^{tree}')}\n")
    assert counts(vault.history, ["shop", "api"], vault.path / "cache", vault._disk) == {"shop": 1, "api": 1}
    assert "shop" not in json.loads((vault.path / "cache" / FILE).read_text())
    [standing] = overview(vault, ["shop"])
    assert standing.newest is None
