"""Removing snapshots: what is kept stays byte for byte and under its id, what names it follows, and back again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from clocks import START, Clock
from trees import Record, records, write

from gitvault.core.backup_engine.prune import judge
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import Filter, PruneReport, SnapshotId, Verdict
from gitvault.core.versioning.history import HEADS, META, OPERATIONS
from gitvault.core.versioning.operations import UNDO
from gitvault.core.versioning.rewrite import TAGS
from gitvault.core.versioning.tags import tags
from gitvault.errors import ConfigError, CorruptionError, GitVaultError, NotFoundError
from gitvault.vault import Vault

RESTORED = "refs/vault/restored/"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vault(vault: Vault, clock: Clock) -> Vault:
    return Vault.open(vault.path, now=clock)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "acme"


@pytest.fixture
def taken(vault: Vault, project: Path, clock: Clock) -> dict[SnapshotId, dict[bytes, Record]]:
    """Six daily snapshots, oldest first, with what the folder held at each: text, a large file, one that stays."""
    return take(vault, project, clock, 6)


def take(vault: Vault, folder: Path, clock: Clock, count: int, first: int = 0) -> dict[SnapshotId, dict[bytes, Record]]:
    found: dict[SnapshotId, dict[bytes, Record]] = {}
    for day in range(first, first + count):
        clock.now = START + timedelta(days=day)
        large = bytes(range(256)) * 400 + b"%d" % day
        write(folder, {"day": b"%d" % day, "sub/stays": b"stays", f"sub/{day}.bin": large, f"empty{day}/x": b""})
        (folder / f"empty{day}" / "x").unlink()
        report = vault.create_snapshot(folder, message=f"day {day}\n\nsee: it", tags=["odd"] if day % 2 else [])
        assert not report.unchanged
        found[report.snapshot] = records(folder)
    return found


def git(vault: Vault, *words: str, **options: str) -> str:
    done = subprocess.run(
        ["git", f"--git-dir={vault.path}", *words], capture_output=True, text=True, check=True, **options
    )
    return done.stdout.strip()


def state(vault: Vault) -> dict[str, str]:
    """Every ref but those of the record and of what was restored, which a test does often."""
    lines = git(vault, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines if not line.startswith((UNDO, OPERATIONS, RESTORED)))


def check(vault: Vault, expected: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path, project: str = "acme") -> None:
    """Exactly these snapshots are listed, each restores as it was; git and verify find no fault."""
    assert [snapshot.id for snapshot in vault.list_snapshots(Filter(project=project))] == list(expected)[::-1]
    for number, (name, held) in enumerate(expected.items()):
        target = tmp_path / "back" / f"{len(list(tmp_path.glob('back/*')))}-{number}"
        assert vault.restore_snapshot(name, target).problems == ()
        assert records(target) == held
    assert vault.verify(data=True).defects == ()
    git(vault, "fsck", "--strict")


def some(taken: dict[SnapshotId, dict[bytes, Record]], *numbers: int) -> dict[SnapshotId, dict[bytes, Record]]:
    return {name: held for number, (name, held) in enumerate(taken.items()) if number in numbers}


def test_what_is_kept_stays_and_the_rest_is_gone(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path
) -> None:
    before = {snapshot.id: snapshot for snapshot in vault.list_snapshots()}
    trees = {name: vault.history.trees(name) for name in taken}
    said = vault.prune(Retention(last=2))
    assert not said.done
    assert list(said.removed) == list(taken)[3::-1]
    check(vault, taken, tmp_path)
    done = vault.prune(Retention(last=2), yes=True)
    assert isinstance(done, PruneReport)
    assert isinstance(done.verdicts[0], Verdict)
    assert (done.kept, done.removed, done.done) == (said.kept, said.removed, True)
    check(vault, some(taken, 4, 5), tmp_path)
    for name in done.kept:
        assert vault.get_snapshot_info(name) == before[name]
        commit = vault.history.commit(vault.history.locate(name))
        assert vault.history.trees(name) == vault.history.trees_of(commit) == trees[name], "the very trees"
    for name in done.removed:
        with pytest.raises(NotFoundError, match="no longer"):
            vault.get_snapshot_info(name)
    assert vault.prune(Retention(last=2), yes=True).removed == ()
    assert len(vault.operations()) == 1, "nothing to do is no operation"


def test_an_id_that_was_written_down_resolves_for_ever(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], clock: Clock, project: Path
) -> None:
    ids = list(taken)
    commits = {name: [name] for name in ids}
    for left in (5, 3, 2):
        vault.prune(Retention(last=left), yes=True)
        for name in ids[-left:]:
            commits[name].append(vault.history.locate(name).hex())
    newest = ids[-1]
    assert len(set(commits[newest])) == 4, "written anew three times"
    for name in commits[newest]:
        assert vault.resolve(name) == vault.resolve(name[:12]) == newest
        assert vault.history.identify(vault.history.locate(SnapshotId(name))) == newest
    assert vault.resolve("acme~1") == ids[-2]
    assert vault.resolve("acme@{2024-03-14 13:00}") == ids[-2]
    assert vault.get_version_diff(ids[-2], newest).added == (b"sub/5.bin",)
    assert next(vault.entries(newest[:10], b"day")).size == 1
    # Also when a sweep has taken the commits that it was written down from.
    for line in git(vault, "for-each-ref", "--format=delete %(refname)", UNDO).splitlines():
        git(vault, *line.replace("delete", "update-ref -d").split())
    git(vault, "repack", "-adq")
    git(vault, "prune", "--expire=now")
    with Vault.open(vault.path) as again:
        assert again.resolve(newest) == again.resolve(newest[:8]) == newest
        assert again.get_snapshot_info(newest[:12]).message.startswith("day 5")
        with pytest.raises(NotFoundError):
            again.resolve(ids[0])


def test_the_next_snapshot_and_status_need_no_second_look(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], project: Path, clock: Clock, tmp_path: Path
) -> None:
    """The stat cache holds on: nothing is read again, nothing is new."""
    since = vault.status([project / "sub" / "1.bin", project / "sub" / "stays", project / "day"])
    assert [state.snapshot for state in since] == [list(taken)[1], next(iter(taken)), list(taken)[5]]
    vault.prune(Retention(last=2), yes=True)
    again = vault.create_snapshot(project)
    assert (again.unchanged, again.snapshot, again.bytes_read) == (True, list(taken)[-1], 0)
    states = vault.status([project, project / "sub" / "1.bin", project / "day"])
    # Of what has been so for longer, the oldest that is left.
    assert [state.snapshot for state in states] == [list(taken)[5], list(taken)[4], list(taken)[5]]
    assert all(state.state == "saved" for state in states)
    vault.close()
    (vault.path / "cache" / "stat-acme.db").write_bytes(b"nonsense" * 1000)
    assert vault.status([project / "sub" / "1.bin"])[0].snapshot == list(taken)[4]
    more = take(vault, project, clock, 1, first=6)
    check(vault, some(taken, 4, 5) | more, tmp_path)


def test_notes_tags_and_what_was_restored_follow(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], project: Path, tmp_path: Path, clock: Clock
) -> None:
    ids = list(taken)
    for name in ids:
        git(vault, "notes", "--ref=vault/feedback", "add", "-m", f"about {name}", name)
    git(vault, "tag", "-a", "-m", "one", "acme/v1", ids[1])
    git(vault, "tag", "-a", "-m", "four", "acme/v4", ids[4])
    git(vault, "tag", "-a", "-m", "a tag of a tag", "acme/v4b", "acme/v4")
    git(vault, "tag", "acme/light", ids[4])
    git(vault, "tag", "mine", ids[0])
    git(vault, "tag", "blob", git(vault, "rev-parse", "acme:day"))
    other = tmp_path / "elsewhere"
    vault.restore_snapshot(ids[4], other)
    vault.restore_snapshot(ids[1], tmp_path / "old")
    before = state(vault)
    vault.prune(Retention(last=2), yes=True)
    four = vault.history.locate(ids[4]).hex()
    assert four != ids[4]
    assert git(vault, "notes", "--ref=vault/feedback", "show", four) == f"about {ids[4]}"
    assert git(vault, "notes", "--ref=vault/feedback", "show", ids[0]) == f"about {ids[0]}", "a record is not lost"
    listed = git(vault, "notes", "--ref=vault/feedback", "list").splitlines()
    assert {line.split()[1] for line in listed} == {*ids[:4], four, vault.history.locate(ids[5]).hex()}
    for name in ("acme/v4", "acme/v4b", "acme/light"):
        assert git(vault, "rev-parse", f"{name}^{{commit}}") == four
    assert "a tag of a tag" in git(vault, "cat-file", "tag", "acme/v4b")
    left = state(vault)
    assert f"{TAGS}acme/v1" not in left
    assert left[f"{TAGS}mine"] == ids[0], "what is no tag of a project is left alone"
    assert left[f"{TAGS}blob"] == before[f"{TAGS}blob"]
    assert {tag.snapshot for tag in tags(vault.history, "acme")} == {ids[4]}
    report = vault.create_snapshot(other, project="other")
    assert vault.get_snapshot_info(report.snapshot).restored_from == ids[4]
    assert git(vault, "for-each-ref", RESTORED) == "", "gone with its snapshot, and said"
    git(vault, "fsck", "--strict")
    assert vault.verify(data=True).ok


def test_many_notes_are_spread_over_folders(vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]]) -> None:
    newest = list(taken)[-1]
    blob = git(vault, "rev-parse", "acme:day")
    leaf = git(vault, "mktree", input=f"100644 blob {blob}\t{newest[4:]}\n")
    below = git(vault, "mktree", input=f"040000 tree {leaf}\t{newest[2:4]}\n")
    tree = git(vault, "mktree", input=f"040000 tree {below}\t{newest[:2]}\n100644 blob {blob}\tno note\n")
    git(vault, "update-ref", "refs/notes/x", git(vault, "commit-tree", "-m", "n", tree))
    vault.prune(Retention(last=1), yes=True)
    now = vault.history.locate(newest).hex()
    listed = git(vault, "ls-tree", "-r", "--name-only", "refs/notes/x").splitlines()
    assert sorted(listed) == sorted(["no note", f"{now[:2]}/{now[2:4]}/{now[4:]}"])


def test_milestones_stay(vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path) -> None:
    ids = list(taken)
    git(vault, "tag", "-a", "-m", "one", "acme/v1", ids[1])
    report = vault.prune(Retention(milestones=True), yes=True)
    assert report.kept == (ids[5], ids[1])
    check(vault, some(taken, 1, 5), tmp_path)


def test_all_projects_or_those_named(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], project: Path, tmp_path: Path, clock: Clock
) -> None:
    name = "Café / 2"
    other = tmp_path / "second"
    vault.add_project(write(other, {"a": b""}), name)
    second = take(vault, other, clock, 4)
    report = vault.prune(Retention(last=1), projects=[name], yes=True)
    assert set(report.removed) == set(list(second)[:3])
    check(vault, taken, tmp_path)
    check(vault, some(second, 3), tmp_path, name)
    report = vault.prune(Retention(daily=2), yes=True)
    assert set(report.kept) == {list(second)[3], *list(taken)[4:]}
    operation = vault.operations()[0]
    moved = {move.ref for move in operation.moves if "/restored/" not in move.ref}
    assert moved == {f"{HEADS}acme", f"{META}acme"}
    vault.add_project(write(tmp_path / "never", {}))
    for wrong, said in ((["nonsense"], "no such project"), (["never"], "has no snapshot"), (["acme", "x"], "no such")):
        with pytest.raises(NotFoundError, match=said):
            vault.prune(Retention(last=1), projects=wrong, yes=True)
    assert len(vault.operations()) == 2


def test_a_branch_of_ones_own_keeps_what_it_shares(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path
) -> None:
    git(vault, "branch", "mine", list(taken)[2])
    vault.prune(Retention(last=1), yes=True)
    assert [s.id for s in vault.list_snapshots(Filter(project="mine"))] == [list(taken)[2]]
    check(vault, some(taken, 5), tmp_path)
    assert vault.restore_snapshot(list(taken)[2], tmp_path / "mine").problems == ()


def test_commits_of_other_tools_keep_their_place(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path
) -> None:
    tree = git(vault, "rev-parse", "acme^{tree}")
    side = git(vault, "commit-tree", "-m", "side", tree)
    merge = git(vault, "commit-tree", "-m", "by hand", "-p", "acme", "-p", side, tree)
    git(vault, "update-ref", "refs/heads/acme", merge)
    vault.prune(Retention(last=2), yes=True)
    assert [s.id for s in vault.list_snapshots()] == [merge, list(taken)[-1]]
    assert git(vault, "rev-parse", "acme^2") == side
    assert git(vault, "log", "-1", "--format=%s %(trailers:key=Vault-Snapshot,valueonly)", "acme") == f"by hand {merge}"
    git(vault, "fsck", "--strict")


def test_no_rule_removes_nothing_and_the_settings_are_rules(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]]
) -> None:
    with pytest.raises(ConfigError, match=r"no rule says what to keep; give one, such as --keep-daily 30"):
        vault.prune(yes=True)
    git(vault, "config", "vault.keepLast", "1")
    git(vault, "config", "vault.keepWithin", "2d")
    with Vault.open(vault.path) as again:
        assert len(again.prune().kept) == 3
        # What is asked for is not added to them.
        assert len(again.prune(Retention(last=1)).kept) == 1


def test_an_empty_vault_is_an_error(vault: Vault) -> None:
    with pytest.raises(NotFoundError, match="has no snapshot; nothing was removed"):
        vault.prune(Retention(last=1), yes=True)
    with pytest.raises(NotFoundError, match="has no snapshot; nothing was removed"):
        judge(vault.history, ["acme"], Retention(last=1), START)


def test_a_chain_that_cannot_be_read_whole_is_not_pruned(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path
) -> None:
    """A failed listing is no list; what can still be read stays readable under every id."""
    vault.prune(Retention(last=5), yes=True)
    vault.close()
    before = state(vault)
    lost = vault.history.locate(list(taken)[2]).hex()
    vault.close()
    # As an object that no pack has any more.
    for pack in list((vault.path / "objects" / "pack").glob("*.pack")):
        pack.rename(tmp_path / pack.name)
        pack.with_suffix(".idx").unlink()
        with (tmp_path / pack.name).open("rb") as stream:
            git(vault, "unpack-objects", "-q", stdin=stream)  # type: ignore[arg-type]
    loose = vault.path / "objects" / lost[:2] / lost[2:]
    loose.unlink()
    with pytest.raises(CorruptionError):
        vault.prune(Retention(last=1), yes=True)
    with pytest.raises(CorruptionError):
        vault.forget(["day"], yes=True)
    assert state(vault) == before
    ids = list(taken)
    assert vault.resolve(ids[4]) == ids[4]
    assert not vault.history.index("acme").whole
    assert vault.resolve(vault.history.locate(ids[1]).hex()) is not None


def test_undo_brings_all_back_and_undo_again_takes_it(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path
) -> None:
    ids = list(taken)
    git(vault, "notes", "add", "-m", "n", ids[4])
    git(vault, "tag", "-a", "-m", "one", "acme/v1", ids[1])
    git(vault, "tag", "-a", "-m", "five", "acme/v5", ids[5])
    whole = state(vault)
    vault.prune(Retention(last=2), yes=True)
    pruned = state(vault)
    assert whole != pruned
    # Only what refs lead to is left.
    git(vault, "repack", "-adq")
    git(vault, "prune", "--expire=now")
    done = vault.undo()
    assert (done.what, done.undoes) == ("undo", (1,))
    assert state(vault) == whole
    check(vault, taken, tmp_path)
    assert vault.undo().undoes == (2,)
    assert state(vault) == pruned
    check(vault, some(taken, 4, 5), tmp_path)
    vault.prune(Retention(last=1), yes=True)
    assert vault.undo(4).undoes == (4, 3, 2, 1)
    assert state(vault) == whole
    assert [operation.number for operation in vault.operations()] == [5, 4, 3, 2, 1]
    with pytest.raises(NotFoundError, match="only 5 operations on record"):
        vault.undo(6)


def test_undo_keeps_what_came_since(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], project: Path, clock: Clock, tmp_path: Path
) -> None:
    vault.prune(Retention(last=2), yes=True)
    more = take(vault, project, clock, 2, first=6)
    new = list(more)
    git(vault, "notes", "add", "-m", "new", new[0])
    git(vault, "notes", "add", "-m", "old", vault.history.locate(list(taken)[4]).hex())
    git(vault, "tag", "acme/new", new[1])
    vault.undo()
    check(vault, taken | more, tmp_path)
    assert git(vault, "rev-parse", "acme/new") == vault.history.locate(new[1]).hex() == git(vault, "rev-parse", "acme")
    assert git(vault, "notes", "show", list(taken)[4]) == "old"
    assert git(vault, "notes", "show", vault.history.locate(new[0]).hex()) == "new"
    again = vault.create_snapshot(project)
    assert (again.unchanged, again.snapshot) == (True, new[1])
    # And taken back in turn.
    vault.undo()
    check(vault, some(taken, 4, 5) | more, tmp_path)


def test_what_cannot_be_taken_back_says_why(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="no operation on record; git-vault op log lists them"):
        vault.undo()
    vault.prune(Retention(last=2), yes=True)
    pruned = git(vault, "rev-parse", "acme")
    git(vault, "update-ref", "refs/heads/acme", next(iter(taken)))
    before = state(vault)
    with pytest.raises(GitVaultError, match="refs/heads/acme: something else than gitvault moved it"):
        vault.undo()
    assert state(vault) == before
    git(vault, "update-ref", "refs/heads/acme", pruned)
    git(vault, "update-ref", "-d", f"{UNDO}1/0")
    with pytest.raises(GitVaultError, match="operation 1: a sweep has taken what it would bring back"):
        vault.undo()


def test_the_commands(
    vault: Vault, taken: dict[SnapshotId, dict[bytes, Record]], command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    ids = list(taken)[::-1]
    said = command("prune", "--project", "acme", "--keep-last", "2", "--keep-weekly", "1", "--json")
    assert json.loads(said.stdout) == {"kept": ids[:2], "removed": ids[2:], "yes": False}
    shown = command("prune", "--keep-last", "2").stdout
    assert f"{ids[1][:12]}  2024-03-14" in shown
    assert "kept: last\n" in shown
    assert shown.count("would be removed") == 5
    assert len(vault.list_snapshots()) == 6
    assert command("prune", "--keep-within", "1w2").returncode == 129
    refused = command("prune", "--yes")
    assert (refused.returncode, len(vault.list_snapshots())) == (128, 6)
    assert "no rule says what to keep" in refused.stderr
    done = command("prune", "--keep-last", "2", "--keep-milestones", "--yes")
    assert "4 removed, 2 kept" in done.stdout
    assert "op undo" in done.stdout
    vault.close()
    assert [snapshot.id for snapshot in vault.list_snapshots()] == ids[:2]
    (operation,) = json.loads(command("op", "log", "--json").stdout)
    assert (operation["number"], operation["what"], operation["undoes"]) == (1, "prune", [])
    assert {move["ref"] for move in operation["refs"]} == {"refs/heads/acme", "refs/vault/meta/acme"}
    assert "prune, 2 refs moved" in command("op", "log").stdout
    assert json.loads(command("op", "undo", "--json").stdout)["undoes"] == [1]
    assert "undo of 2" in command("op", "undo", "1").stdout
    assert command("op", "undo", "0").returncode == command("op", "log", "1").returncode == 129
    assert "only 3 operations" in command("op", "undo", "9").stderr
