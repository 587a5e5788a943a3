"""While a watcher runs, snapshots and status start from what was touched, and lose nothing by it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from watched import proven, settled, told, watching

from gitvault.core.backup_engine.baseline import rows_for, rows_of_gone
from gitvault.core.backup_engine.untouched import to_look_at, untouched
from gitvault.core.interfaces import Rules
from gitvault.core.models import Project
from gitvault.core.patterns import Patterns
from gitvault.core.scan import Folder, KeptFolder, Partly, Same, Untouched, kept_folders, walk
from gitvault.core.touched import Touched, address, ask, connection, is_socket
from gitvault.core.utils.layout import WATCH
from gitvault.personas.code.activity import hooks, inotify
from gitvault.personas.code.activity.inotify import Inotify
from gitvault.personas.code.activity.touched_list import TouchedList
from gitvault.vault import Vault
from gitvault.vault.saving import rules_by_mode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the list is kept where the system tells of losses")


def put(folder: Path, files: dict[str, str]) -> None:
    """Write files, with their folders."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def project(tmp_path: Path, vault: Vault) -> Project:
    root = tmp_path / "work"
    for folder in range(12):
        put(root, {f"f{folder}/s{sub}/{name}": f"{folder} {sub} {name}" for sub in range(3) for name in "abc"})
    return vault.add_project(root)


def test_only_what_was_touched_is_looked_at(vault: Vault, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from gitvault.core import scan

    with watching(vault) as running:
        settled(running, vault, project)
        looked: list[str] = []
        real = scan._look
        monkeypatch.setattr(scan, "_look", lambda full: looked.append(full) or real(full))
        put(Path(project.path), {"f3/s1/a": "other", "f3/new/deep/x": "new"})
        report = vault.create_snapshot(project.path)
        assert (report.new, report.changed, report.files) == (1, 1, 109)
        inside = {os.path.relpath(full, project.path) for full in looked}
        assert inside == {".", "f3", "f3/s1", "f3/new", "f3/new/deep"}
        proven(vault, project)


def test_with_nothing_touched_the_newest_snapshot_is_the_answer(vault: Vault, project: Project) -> None:
    """... without a look at the disk and without the lock, and nothing is attached to it."""
    with watching(vault) as running:
        settled(running, vault, project)
        before = vault.create_snapshot(project.path, scan=True)
        with vault._lock("somebody else"), Vault.open(vault.path) as other:
            report = other.create_snapshot(project.path)
        assert (report.snapshot, report.unchanged, report.files) == (before.snapshot, True, 108)
        cache = vault.caches.open(project.name)
        asked = vault._watch(project)
        assert asked and asked.answers()
        given: dict[str, Any] = {"history": vault.history, "cache": cache, "watch": asked, "now": time.time()}
        root = Path(project.path)
        assert untouched(root, project.name, **given) == replace(report, seconds=ANY)
        assert untouched(root, "never saved", **given) is None
        cache.close()
        put(root, {"f0/s0/a": "touched"})
        assert vault.create_snapshot(root).changed == 1


def test_status_says_it_at_once(vault: Vault, project: Project) -> None:
    with watching(vault) as running:
        settled(running, vault, project)
        assert [(s.state, s.reason) for s in vault.status()] == [("saved", "nothing changed since, its watcher says")]
        shutil.rmtree(Path(project.path, "f5"))
        put(Path(project.path), {"f6/s0/a": "other"})
        (state,) = vault.status()
        assert (state.state, state.reason) == ("changed", "1 changed, 9 deleted since the newest snapshot")
        assert vault.status([Path(project.path, "f7")])[0].state == "saved"
        seen = vault.touched(project)
        assert seen and seen.covers(b"f6/s0") and seen.covers(b"f5/s0") and not seen.covers(b"f7")
        report = vault.create_snapshot(project.path)
        assert (report.changed, report.deleted, report.files) == (1, 9, 99)
        proven(vault, project)


def test_a_watcher_that_begins_knows_nothing_of_before(vault: Vault, project: Project) -> None:
    with watching(vault) as running:
        settled(running, vault, project)
    put(Path(project.path), {"f1/s1/a": "changed while nobody watched"})
    assert told(vault, project) is None and vault.touched(project) is None
    with watching(vault) as running:
        assert running.until("snapshot").detail == "the watcher begins"
        proven_after = vault.create_snapshot(project.path)
        assert proven_after.unchanged
        proven(vault, project)


def test_an_overflow_means_a_scan(vault: Vault, project: Project) -> None:
    """The system drops what does not fit into its queue, and says that it did."""
    touched = TouchedList("t")
    source = Inotify(Path(project.path), Patterns(), touched)
    mark = touched.answer(b"").mark
    first, second = (Path(project.path, f"f0/s0/{name}") for name in "ab")
    with first.open("ab", buffering=0) as one, second.open("ab", buffering=0) as two:
        limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        for _ in range(limit // 2 + 100):
            one.write(b"x")
            two.write(b"x")
    put(Path(project.path), {"f9/s0/a": "this one is lost"})
    source.read()
    answer = touched.answer(mark)
    assert answer.folders is None and answer.reason == "too many changes at once for the system's queue"
    put(Path(project.path), {"f9/s0/b": "this one is told"})
    source.read()
    assert touched.answer(answer.mark).folders == {b"f9/s0"}
    source.close()


def test_other_rules_mean_a_scan_and_then_hold(vault: Vault, project: Project) -> None:
    with watching(vault) as running:
        settled(running, vault, project)
        with (vault.path / "config").open("a") as config:
            config.write("\tignore = f2/\n")
        vault.__dict__.pop("config")
        assert vault.create_snapshot(project.path).deleted == 9
        vault.create_snapshot(project.path)
        proven(vault, project)
        put(Path(project.path), {"f2/s0/a": "left out", "f4/s0/a": "kept"})
        assert vault.create_snapshot(project.path).changed == 1
        proven(vault, project)


def test_a_list_that_was_wrong_is_not_believed_again(
    vault: Vault, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watching(vault) as running:
        settled(running, vault, project)
        (watched,) = running.watcher._watched.values()
        monkeypatch.setattr(watched.touched, "touch", lambda folder: None)
        put(Path(project.path), {"f8/s0/a": "nobody hears of this"})
        assert vault.create_snapshot(project.path).unchanged
        report = vault.create_snapshot(project.path, scan=True)
        assert report.changed == 1
        assert "the watcher missed a change in f8/s0" in report.notes[0]
        monkeypatch.undo()
        put(Path(project.path), {"f8/s1/a": "heard, and looked for in vain"})
        seen = told(vault, project)
        assert seen and seen.folders is None and "missed a change in f8/s0" in seen.reason
        assert vault.create_snapshot(project.path).changed == 1


def test_a_folder_that_moved_away_and_another_in_its_place(vault: Vault, project: Project, tmp_path: Path) -> None:
    root = Path(project.path)
    with watching(vault) as running:
        settled(running, vault, project)
        # Same names, other content, and no change within the folders themselves.
        os.rename(root / "f0", tmp_path / "aside")
        os.rename(root / "f1", root / "f0")
        os.rename(tmp_path / "aside", root / "f1")
        report = vault.create_snapshot(root)
        assert report.changed == 18
        proven(vault, project)
        # The project's own folder, by a rename around it that the system tells nobody of.
        os.rename(root, tmp_path / "old")
        shutil.copytree(tmp_path / "old", root)
        put(root, {"f3/s0/a": "in the copy"})
        seen = told(vault, project)
        assert seen and seen.folders is None and "its folder" in seen.reason
        assert vault.create_snapshot(root).changed >= 1
        put(root, {"f3/s0/b": "in the copy, later"})
        assert vault.create_snapshot(root).changed == 1
        proven(vault, project)


def test_what_could_not_be_saved_is_said_every_time(vault: Vault, project: Project) -> None:
    os.mkfifo(Path(project.path, "f0", "pipe"))
    with watching(vault) as running:
        running.until("snapshot")
        for _ in range(2):
            assert [p.path for p in vault.create_snapshot(project.path).problems] == [b"f0/pipe"]


def edit(chance: random.Random, root: Path) -> None:
    """One random change of one of many kinds."""
    folders = [Path(at) for at, _, _ in os.walk(root)]
    files = [Path(at, name) for at, _, names in os.walk(root) for name in names]
    folder = chance.choice(folders)
    name = f"n{chance.randrange(6)}"
    what = chance.randrange(10)
    with contextlib.suppress(OSError):
        if what <= 2:
            (folder / name).write_text(str(chance.random()))
        elif what == 3 and files:
            with chance.choice(files).open("a") as file:
                file.write("more")
        elif what == 4 and files:
            chance.choice(files).unlink()
        elif what == 5:
            (folder / name / "deep" / "er").mkdir(parents=True)
            (folder / name / "deep" / "er" / "x").write_text(str(chance.random()))
        elif what == 6 and folder != root:
            os.rename(folder, chance.choice(folders) / name)
        elif what == 7 and files:
            os.rename(chance.choice(files), chance.choice(folders) / name)
        elif what == 8 and folder != root and len(folders) > 25:
            shutil.rmtree(folder)
        elif what == 9:
            os.symlink("target", folder / f"l{chance.randrange(4)}")


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_a_snapshot_is_what_a_scan_would_find(vault: Vault, project: Project, seed: int) -> None:
    chance = random.Random(seed)
    root = Path(project.path)
    with watching(vault) as running:
        settled(running, vault, project)
        for _ in range(8):
            for _ in range(chance.randrange(12)):
                edit(chance, root)
            seen = told(vault, project)
            assert seen and seen.folders is not None
            vault.create_snapshot(root)
            proven(vault, project)


def test_edits_while_snapshots_are_taken(vault: Vault, project: Project) -> None:
    """What changes during a snapshot is in the next one, told by the list."""
    root = Path(project.path)
    chance = random.Random(7)
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            edit(chance, root)
            time.sleep(0.001)

    with watching(vault) as running:
        settled(running, vault, project)
        worker = threading.Thread(target=work)
        worker.start()
        for _ in range(5):
            vault.create_snapshot(root)
            report = vault.create_snapshot(root, scan=True)
            assert not [note for note in report.notes if "missed" in note]
        ended.set()
        worker.join()
        vault.create_snapshot(root)
        vault.create_snapshot(root)
        proven(vault, project)


def test_who_asks_nonsense_gets_an_answer(vault: Vault, project: Project) -> None:
    caches = vault.path / "cache"
    with watching(vault) as running:
        settled(running, vault, project)
        assert is_socket(caches / WATCH)
        assert ask(caches, {"entity": "relative"}) == {
            "error": "expected an absolute path as `entity`, found 'relative'"
        }
        assert ask(caches, {"root": "/elsewhere", "touched": ""}) == {"error": "not watched"}
        state = ask(caches, {"state": True})
        assert state and state["projects"][0]["list"] == "kept"
        with connection(caches) as talk, address(caches) as short:
            assert len(short) < 100
            talk.sendall(b"not JSON\n" + b'[{"entity": "/x"}]\n')
            answers = b""
            while answers.count(b"\n") < 2:
                answers += talk.recv(4096)
            assert b"error" in answers and b'{"taken": 0}' in answers
    assert not is_socket(caches / WATCH)
    assert ask(caches, {"state": True}) is None
    with pytest.raises(OSError), connection(caches):
        pass


def test_rows_for_a_part_of_a_project(vault: Vault, project: Project) -> None:
    """A walk of a part loads the rows it needs, and learns of all that is below a folder that is gone."""
    put(Path(project.path), {"f1-x/a": "sorts between f1 and what is in it", "f10/deep/er/x": "1"})
    vault.create_snapshot(project.path)
    cache = vault.caches.open(project.name)
    everything = cache.rows()
    touched = Touched(b"", frozenset({b"f1/s0"}), frozenset({b"f10"}))
    rows = rows_for(touched, cache)
    top = {path for path in everything if b"/" not in path}
    below = {path for path in everything if path == b"f10" or path.startswith(b"f10/")}
    assert rows.keys() == top | below | {b"f1/s0", b"f1/s1", b"f1/s2"}
    assert cache.rows_below(b"f10").keys() == below
    assert cache.rows_below(b"") == everything == rows_for(None, cache)
    assert cache.rows_around([b""]).keys() == top
    gone = rows_of_gone(rows, rows.keys() - {b"f1"}, cache)
    assert gone.keys() == {b"f1", b"f1/s0", b"f1/s1", b"f1/s2"}
    # Without a watcher at the last look nothing is known.
    assert to_look_at(touched, cache, 0) is None
    cache.close()


def test_a_walk_of_what_was_touched_follows_rules_that_changed(vault: Vault, project: Project) -> None:
    vault.create_snapshot(project.path)
    cache = vault.caches.open(project.name)
    partly = Partly(Touched(b"", frozenset({b"f1"})), cache.rows_below)

    def walked(rules: Rules) -> list[Same | Folder | Untouched]:
        return list(walk(Path(project.path), rows_for(partly.touched, cache), rules, [], [], partly=partly))

    calm = walked(rules_by_mode(vault, project, vault.rules(project)))
    assert [f.path for f in calm if isinstance(f, Same)] == [b"", b"f1"]
    assert {f.path for f in calm if isinstance(f, Untouched)} >= {b"f0", b"f1/s0", b"f11"}
    assert not [f for f in walked(Patterns(["*.o"])) if isinstance(f, Untouched)]
    cache.close()


def test_kept_folders_are_those_a_snapshot_enters(tmp_path: Path) -> None:
    put(tmp_path, {"a/out/x": "1", "a/b/x": "1", "c/.git": "gitdir: elsewhere", "vault.git/x": "1"})
    (tmp_path / ".git").mkdir()
    rules = Patterns(["out/", ".git/"])
    found = list(kept_folders(tmp_path, rules, vault=tmp_path / "vault.git"))
    assert [(f.path, sorted(f.left_out), f.git) for f in found] == [
        (b"", [b".git", b"vault.git"], "folder"),
        (b"a", [b"out"], ""),
        (b"a/b", [], ""),
        (b"c", [], "file"),
    ]
    assert list(kept_folders(tmp_path, rules, b"a/b")) == [KeptFolder(b"a/b")]


def test_a_hook_leaves_the_snapshot_to_the_watcher(vault: Vault, project: Project) -> None:
    with watching(vault) as running:
        settled(running, vault, project)
        put(Path(project.path), {"f0/s0/a": "committed"})
        assert hooks.run(vault, Path(project.path), "post-commit") is None
        taken = running.until("snapshot", 2)
        assert taken.detail == "a commit or a change of branch"
        assert taken.snapshot and vault.get_snapshot_info(taken.snapshot).trigger == "session"


@dataclass
class ByFile:
    """Rules that leave out what a file `rules` in the folder names. Rules and Scope."""

    root: Path
    path: bytes = b""
    named: tuple[bytes, ...] = ()
    digest: bytes = b"by file"

    def marks(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name == "rules"]

    def scope(self, path: bytes, marks: Sequence[str], outer: object) -> ByFile:
        named = (self.root / os.fsdecode(path) / "rules").read_bytes().split() if marks else []
        return ByFile(self.root, path, tuple(named), repr(named).encode())

    def omits(self, name: bytes, is_folder: bool) -> str:
        return "named" if name in self.named else ""


def test_what_rules_leave_out_is_not_watched_and_watched_again_when_they_change(tmp_path: Path) -> None:
    """A build's output is noticed all the same, though not all of it, and never on the list."""
    put(tmp_path, {"a/out/deep/er/x": "1", "a/src/x": "1", "a/rules": "out", ".git/HEAD": "ref: refs/heads/main"})
    put(tmp_path, {".git/logs/HEAD": "", ".git/refs/heads/feature/x": "", "rules": ".git"})
    touched = TouchedList()
    source = Inotify(tmp_path, ByFile(tmp_path), touched)
    assert source.fileno() > 0
    assert set(source.repositories) == {b".git"}
    mark = touched.answer(b"").mark

    def told_of(**files: str) -> tuple[dict[bytes, bool], Touched]:
        nonlocal mark
        put(tmp_path, {name.replace("__", "/"): text for name, text in files.items()})
        notices = {notice.path: notice.kept for notice in source.read()}
        answer = touched.answer(mark)
        mark = answer.mark
        return notices, answer

    notices, answer = told_of(a__out__deep__y="1")
    assert notices == {b"a/out/deep/y": False} and answer.folders == frozenset() == answer.below
    assert told_of(a__out__deep__er__y="1")[0] == {}
    put(tmp_path, {".git/logs/HEAD": "moved", ".git/refs/heads/feature/x": "moved"})
    notices, answer = told_of()
    assert notices == {b".git/logs/HEAD": False, b".git/refs/heads/feature/x": False}
    assert answer.folders == frozenset()
    # The rules change: all below is doubtful, and what was left out is watched from now on.
    assert b"a" in told_of(a__rules="nothing")[1].below
    assert told_of(a__out__deep__er__z="1")[1].folders == {b"a/out/deep/er"}
    assert told_of(a__rules="src out")[1].below == {b"a"}
    assert told_of(a__src__y="1", a__out__deep__er__q="1")[1].folders == frozenset()
    before = source.folders
    source._cover_anew(b"")
    assert source.folders == before
    source.close()
    source.close()


def test_the_repository_of_a_linked_worktree_is_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, {"main/.git/worktrees/w/HEAD": "", "main/.git/worktrees/w/commondir": "../..\n"})
    put(
        tmp_path, {"main/.git/refs/heads/topic": "", "w/.git": f"gitdir: {tmp_path}/main/.git/worktrees/w\n", "w/a": ""}
    )
    source = Inotify(tmp_path / "w", Patterns(), TouchedList())
    assert source.repositories == {b".git": os.fsencode(tmp_path / "main/.git/worktrees/w")}
    put(tmp_path, {"main/.git/worktrees/w/HEAD": "moved", "main/.git/refs/heads/topic": "moved"})
    assert {notice.path for notice in source.read()} == {b".git/HEAD", b".git/refs/heads/topic"}
    source.close()


def test_a_file_system_that_others_change_has_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "_mount_table", lambda: [("/", "ext4"), (str(tmp_path), "nfs4")])
    touched = TouchedList()
    Inotify(tmp_path, Patterns(), touched).close()
    assert "others may change it unseen, the file system is nfs4" in touched.distrusted
    # Something mounted within: what is below is another thing now.
    mounts = [("/", "ext4")]
    monkeypatch.setattr(inotify, "_mount_table", lambda: mounts)
    touched = TouchedList()
    source = Inotify(tmp_path, Patterns(), touched)
    mark = touched.answer(b"").mark
    mounts.append((f"{tmp_path}/sub", "tmpfs"))
    source.check()
    assert "something was mounted" in touched.answer(mark).reason
    source.close()


def test_a_system_that_watches_no_more_folders_has_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(result: int, what: str) -> int:
        if what == "inotify":
            return result
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inotify, "_called", refuse)
    touched = TouchedList()
    Inotify(tmp_path, Patterns(), touched).close()
    assert "raise fs.inotify.max_user_watches" in touched.distrusted
