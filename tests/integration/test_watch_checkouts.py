"""Projects with checkouts start from what was touched, too, and lose nothing by it."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from repositories import cloned, commit, git
from watched import proven, settled, told, watching

from gitvault.core.touched import Watch
from gitvault.vault import Vault
from gitvault.vault.saving import watch
from gitvault.vcs import looked
from gitvault.vcs.state import Asking, State
from gitvault.vcs.verdict import Safety

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the list is kept where the system tells of losses")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a checkout that holds a submodule and another one, a linked worktree, a third one, loose files."""
    for name in ("lib", "app", "side"):
        cloned(tmp_path, name)
    for number in range(6):
        commit(tmp_path / "app", f"src/d{number % 3}/f{number}.c", f"int n = {number};\n")
    commit(tmp_path / "app", ".gitignore", "out/\n*.o\n")
    git(tmp_path / "app", "submodule", "add", "-q", tmp_path / "lib.git", "lib")
    git(tmp_path / "app", "commit", "-q", "-m", "lib")
    git(tmp_path / "app", "push", "-q")
    root = tmp_path / "all"
    (root / "loose").mkdir(parents=True)
    (root / "loose" / "notes").write_text("in no checkout")
    git(root, "clone", "-q", "--recurse-submodules", tmp_path / "app.git", "app")
    git(root / "app", "worktree", "add", "-q", root / "tree", "-b", "tree")
    git(root / "app", "clone", "-q", tmp_path / "side.git", "nested")
    git(root, "clone", "-q", tmp_path / "side.git", "side")
    (root / "app" / "out").mkdir()
    (root / "app" / "out" / "made").write_text("output")
    return root


def rest() -> None:
    """What was written a moment ago can change once more and leave the same stat: then there is no list."""
    time.sleep(0.15)


def test_with_nothing_touched_no_checkout_is_asked(
    vault: Vault, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = vault.add_project(root)
    rest()
    with watching(vault) as running:
        settled(running, vault, project)
        newest = vault.list_snapshots()[0].id

        def ran(*_: object, **__: object) -> bytes:
            raise AssertionError("a program was run")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gitvault.core.utils.process.run", ran)
            report = vault.create_snapshot(root)
            (state,) = vault.status([root])
        assert (report.snapshot, report.unchanged) == (newest, True)
        assert (state.state, state.reason) == ("saved", "nothing changed since, its watcher says")
        # A change in one checkout leaves the others alone.
        asked: list[str] = []
        from gitvault.vcs.protect import repository

        real = repository.stamp
        monkeypatch.setattr(repository, "stamp", lambda where: asked.append(where.git_dir) or real(where))
        (root / "side" / "a.txt").write_text("changed")
        assert vault.create_snapshot(root).new == 1
        assert set(asked) == {os.fspath(root / "side" / ".git")}
        proven(vault, project)


@pytest.fixture(autouse=True)
def settings_stay(own_home: Path) -> Iterator[None]:
    """What these tests say in the user's settings is of no other's concern."""
    before = (own_home / ".gitconfig").read_bytes()
    yield
    (own_home / ".gitconfig").write_bytes(before)


def config(root: Path, tmp_path: Path) -> None:
    git(root / "side", "config", "user.nickname", "x")


def pushed_elsewhere(root: Path, tmp_path: Path) -> None:
    """The remote, which is a folder, loses what it had: the next snapshot stores everything."""
    git(tmp_path / "side.git", "update-ref", "-d", "refs/heads/main")


def back(root: Path, tmp_path: Path) -> None:
    git(tmp_path / "side.git", "update-ref", "refs/heads/main", git(root / "side", "rev-parse", "main"))


def user_config(root: Path, tmp_path: Path) -> None:
    git(root, "config", "--global", "remote.more.url", "/nowhere")


def commit_in_worktree(root: Path, tmp_path: Path) -> None:
    commit(root / "tree", "src/d0/f0.c", "in the worktree\n")


def stage_in_submodule(root: Path, tmp_path: Path) -> None:
    """Its index is in the repository around it."""
    (root / "app" / "lib" / "a.txt").write_text("two\n")
    git(root / "app" / "lib", "add", "a.txt")


def excluded(root: Path, tmp_path: Path) -> None:
    with (root / "app" / ".git" / "info" / "exclude").open("a") as file:
        file.write("nested/\nsrc/d1/*.tmp\n")
    (root / "app" / "src" / "d1" / "x.tmp").write_text("left out")


def excluded_in_submodule(root: Path, tmp_path: Path) -> None:
    with (root / "app" / ".git" / "modules" / "lib" / "info" / "exclude").open("a") as file:
        file.write("*.tmp\n")
    (root / "app" / "lib" / "x.tmp").write_text("left out")


def tracked_in_output(root: Path, tmp_path: Path) -> None:
    """A folder that was left out is saved from now on: something in it is tracked."""
    git(root / "app", "add", "-f", "out/made")


def deleted_folder(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "app" / "src" / "d2")


def reset(root: Path, tmp_path: Path) -> None:
    """Only the index and a ref move: every file is another thing to git."""
    git(root / "app", "reset", "-q", "--soft", "HEAD~2")
    git(root / "app", "reset", "-q")


def checkout_gone(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "side")


def submodule_gone(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "app" / "lib")


CHANGES = (
    config,
    commit_in_worktree,
    stage_in_submodule,
    excluded,
    excluded_in_submodule,
    tracked_in_output,
    deleted_folder,
    reset,
    pushed_elsewhere,
    back,
    submodule_gone,
    user_config,
    checkout_gone,
)


def test_what_changes_without_a_file_being_touched_is_seen(vault: Vault, root: Path, tmp_path: Path) -> None:
    project = vault.add_project(root)
    rest()
    with watching(vault) as running:
        settled(running, vault, project)
        for change in CHANGES:
            before = vault.list_snapshots()[0].id
            change(root, tmp_path)
            rest()
            # The watcher may have saved it first.
            assert vault.create_snapshot(root).snapshot != before or change is user_config, change
            again = vault.create_snapshot(root, scan=True)
            assert again.unchanged and not [note for note in again.notes if "missed" in note], (change, again)
            if change is tracked_in_output:
                (root / "app" / "out" / "made").write_text("made again")
                assert vault.create_snapshot(root).new == 1
        proven(vault, project)


def edit(chance: random.Random, root: Path) -> None:
    """One random thing that somebody does in one of the checkouts."""
    work = chance.choice([root / "app", root / "app", root / "tree", root / "side", root / "app" / "lib"])
    listed = [Path(at, name) for at, _, names in os.walk(work) for name in names if ".git" not in Path(at, name).parts]
    name = f"n{chance.randrange(4)}"
    actions: list[Callable[[], object]] = [
        lambda: chance.choice(listed).write_text(str(chance.random())),
        lambda: chance.choice(listed).unlink(),
        lambda: shutil.rmtree(chance.choice(listed).parent) if chance.random() < 0.3 else None,
        lambda: (work / name).write_text(name),
        lambda: (work / f"{name}.o").write_text("ignored"),
        lambda: git(work, "add", "-A", ok=False),
        lambda: git(work, "add", "-f", "-A", ok=False),
        lambda: git(work, "commit", "-q", "-m", "x", ok=False),
        lambda: git(work, "rm", "-q", "--cached", chance.choice(listed), ok=False),
        lambda: git(work, "checkout", "-q", "--", ".", ok=False),
        lambda: git(work, "stash", "-u", "-q", ok=False),
        lambda: git(work, "stash", "pop", "-q", ok=False),
        lambda: git(work, "switch", "-q", "-C", name, ok=False),
        lambda: git(work, "switch", "-q", "-f", "main", ok=False),
        lambda: git(work, "tag", "-f", name, ok=False),
        lambda: git(work, "push", "-q", "-f", "origin", "HEAD", ok=False),
        lambda: git(work, "merge", "-q", "tree", ok=False),
        lambda: git(work, "status", ok=False),
        lambda: git(work, "gc", "-q", ok=False) if chance.random() < 0.2 else None,
        lambda: (work / ".gitignore").write_text(f"*.o\n{name}\n"),
    ]
    with contextlib.suppress(OSError, IndexError):
        chance.choice(actions)()


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.deep), pytest.param(3, marks=pytest.mark.deep)])
def test_whatever_happens_in_checkouts_a_snapshot_is_what_a_scan_would_find(
    vault: Vault, root: Path, seed: int, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(seed)
    project = vault.add_project(root)
    rounds = 40 if request.config.getoption("--deep") else 4
    listed = 0
    with watching(vault) as running:
        settled_or_not = running.until("snapshot")
        assert settled_or_not
        for _ in range(rounds):
            for _ in range(1 + chance.randrange(6)):
                edit(chance, root)
            rest()
            seen = told(vault, project)
            listed += seen is not None and seen.folders is not None
            vault.create_snapshot(root)
            again = vault.create_snapshot(root, scan=True)
            assert again.unchanged, (seed, again)
            assert not [note for note in again.notes if "missed" in note]
    assert listed >= rounds // 2, "the list was hardly used"


def hg(folder: Path, *words: str) -> None:
    environment = {**os.environ, "HGUSER": "me", "HGPLAIN": "1"}
    subprocess.run(["hg", *words], cwd=folder, check=True, capture_output=True, env=environment)


@pytest.mark.needs("hg", "svn", "svnadmin")
def test_hg_and_svn_checkouts_beside_each_other(vault: Vault, tmp_path: Path) -> None:
    root = tmp_path / "all"
    root.mkdir()
    hg(tmp_path, "init", "theirs")
    (tmp_path / "theirs" / "a").write_text("a")
    hg(tmp_path / "theirs", "commit", "-q", "-A", "-m", "one")
    hg(root, "clone", "-q", os.fspath(tmp_path / "theirs"), "hg")
    subprocess.run(["svnadmin", "create", tmp_path / "svn"], check=True)
    subprocess.run(["svn", "checkout", "-q", f"file://{tmp_path}/svn", root / "svn"], check=True)
    (root / "svn" / "a").write_text("a")
    subprocess.run(["svn", "add", "-q", root / "svn" / "a"], check=True)
    project = vault.add_project(root)
    rest()
    with watching(vault) as running:
        settled(running, vault, project)
        (root / "svn" / "a").write_text("changed")
        report = vault.create_snapshot(root)
        assert (report.changed, report.new) == (1, 0)
        proven(vault, project)
        (root / "hg" / "b").write_text("b")
        hg(root / "hg", "commit", "-q", "-A", "-m", "two")
        rest()
        assert not vault.create_snapshot(root).unchanged
        assert vault.create_snapshot(root, scan=True).unchanged
        subprocess.run(["svn", "commit", "-q", "-m", "one", root / "svn"], check=True)
        rest()
        vault.create_snapshot(root)
        assert vault.create_snapshot(root, scan=True).unchanged


def at_rest(found: Safety) -> list[State]:
    return [replace(state, answered=0) for state in found.checkouts]


def verdict(vault: Vault) -> list[tuple[object, ...]]:
    """What is said of each project, but for how long ago things were."""
    return [
        (one.safe, one.modified, one.untracked, one.unpushed_commits, one.stashes, one.vcs, *at_rest(one))
        for one in vault.vcs_status()
    ]


def test_the_verdict_starts_from_what_was_touched(vault: Vault, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gitvault.vcs import look as asked_in

    project = vault.add_project(root)
    other = vault.add_project(root.parent / "side")
    asked: list[str] = []
    real = asked_in.read_state
    monkeypatch.setattr(
        asked_in, "read_state", lambda checkout, *rest: asked.append(checkout.path.name) or real(checkout, *rest)
    )
    rest()
    with watching(vault) as running:
        settled(running, vault, project)
        vault.create_snapshot(other.path)
        first = vault.vcs_status()
        said = verdict(vault)
        assert set(asked) == {"app", "lib", "tree", "nested", "side"}
        asked.clear()
        assert verdict(vault) == said and asked == []
        (root / "app" / "new").write_text("untracked")
        assert [one.untracked for one in vault.vcs_status()] == [first[0].untracked + 1, first[1].untracked]
        assert asked == ["app"]
        vault.create_snapshot(root)
        proven(vault, project)
        asked.clear()
        assert [one.untracked for one in vault.vcs_status()] == [first[0].untracked + 1, first[1].untracked]
        assert asked == []
        assert vault.vcs_status(probe=True) and len(asked) == 6
        for change in (stage_in_submodule, commit_in_worktree, pushed_elsewhere):
            change(root, root.parent)
            rest()
            listed = verdict(vault)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Vault, "_watch", lambda self, project: None)
                assert listed == verdict(vault), change


NOT_NEEDED = ("socket", "concurrent.futures", "tempfile", "gitvault.core.models.reports", "gitvault.vcs.git_state")
NOT_NEEDED += ("gitvault.core.backup_engine.snapshot", "gitvault.core.versioning.contents", "gitvault.core.utils.lock")


@pytest.mark.no_cover  # which imports more
def test_nothing_touched_is_answered_from_memory_and_with_little_imported(vault: Vault, root: Path) -> None:
    project = vault.add_project(root)
    rest()
    with watching(vault) as running:
        settled(running, vault, project)
        vault.vcs_status()
        asking = Asking(vault.now(), timedelta(days=7), vault.path / "cache", vault.disk)
        memory = looked.recall(watch(vault, project), project, asking)
        names = {"app", "lib", "tree", "nested", "side"}
        assert {state.checkout.path.name for state in memory.states or ()} == names and memory.loose == 1
        program = (
            "import sys; from gitvault.cli.main import main; main(sys.argv[1:]); "
            f"sys.exit(str([name for name in {NOT_NEEDED!r} if name in sys.modules]))"
        )
        for words in (["snapshot", str(root)], ["status", "--quiet"], ["vcs", "status"]):
            done = subprocess.run(
                [sys.executable, "-c", program, "--vault", str(vault.path), *words],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
                check=False,
            )
            assert ast.literal_eval(done.stderr) == [], (words, done.stdout)
        (root / "side" / "a.txt").write_text("changed")
        memory = looked.recall(watch(vault, project), project, asking)
        assert memory.states is None and {path.name for path in memory.known} == names - {"side"}


def test_another_mode_or_another_patience_with_remotes_means_a_scan(vault: Vault, root: Path) -> None:
    project = vault.add_project(root / "side")
    rest()
    with watching(vault) as running:
        settled(running, vault, project)
        asked = watch(vault, project)
        mark = asked.touched(b"").mark  # type: ignore[union-attr]
        other = Watch(asked.caches, project.path, vault.rules(project).digest, "ignore-vcs 7d")
        answers = [one.touched(mark) for one in (asked, other)]
        assert [one and one.folders for one in answers] == [frozenset(), None]
        vault.add_project(project.path, mode="ignore-vcs")
        report = vault.create_snapshot(project.path)
        assert (report.unchanged, report.files) == (False, 1)
