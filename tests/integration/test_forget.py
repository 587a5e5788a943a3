"""Purging paths from all history: nothing names or holds them any more, all else is as it was."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from disks import CountedDisk
from trees import Record, records, write

from gitvault.core.backup_engine.forget import Search, search
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import ForgetReport, SnapshotId
from gitvault.core.versioning.objects import EMPTY_TREE
from gitvault.core.versioning.operations import TOMBSTONES, TOMBSTONES_FILE, UNDO, tombstones
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError
from gitvault.vault import Vault

NOW = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)
SECRET = b"-----BEGIN KEY-----\n"
LARGE = b"\0secret" * 20_000
Taken = dict[SnapshotId, dict[bytes, Record]]


def git(vault: Vault, *words: str) -> str:
    done = subprocess.run(["git", f"--git-dir={vault.path}", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def vault(vault: Vault) -> Vault:
    return Vault.open(vault.path, now=lambda: NOW)


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    return tmp_path / "acme"


@pytest.fixture
def taken(vault: Vault, acme: Path) -> Taken:
    """Three snapshots: before the secret, with it in several forms, and with it changed."""
    found: Taken = {}

    def take() -> None:
        found[vault.create_snapshot(acme).snapshot] = records(acme)

    write(acme, {"main.c": b"int x;\n", "sub/note": b"a note", "sub/deep/er": b"x"})
    (acme / "hollow").mkdir()
    take()
    secrets = {
        "key.pem": SECRET,
        "sub/key.pem": SECRET + b"2",
        "sub/big.pem": LARGE,
        "only/in/here.pem": b"3",
        "sub/link.pem": "main.c",
        "keys.pem/inside": b"a whole folder",
        "copy of main.pem": b"int x;\n",
    }
    write(acme, secrets)
    os.link(acme / "sub" / "key.pem", acme / "sub" / "also.pem")
    os.utime(acme / "sub", ns=(10**18, 10**18))
    take()
    write(acme, {"key.pem": SECRET + b"changed", "main.c": b"int y;\n"})
    take()
    return found


def is_secret(path: bytes) -> bool:
    return any(part.endswith(b".pem") for part in path.split(b"/"))


def without(held: dict[bytes, Record]) -> dict[bytes, Record]:
    return {path: record for path, record in held.items() if not is_secret(path)}


def reachable(vault: Vault) -> bytes:
    """Everything that any ref leads to, as git reads it."""
    names = git(vault, "rev-list", "--objects", "--no-object-names", "--all")
    words = ["git", f"--git-dir={vault.path}", "cat-file", "--batch"]
    return subprocess.run(words, input=names.encode() + b"\n", capture_output=True, check=True).stdout


def test_it_is_gone_from_every_snapshot_and_all_else_is_as_it_was(vault: Vault, taken: Taken, tmp_path: Path) -> None:
    before = {snapshot.id: snapshot for snapshot in vault.list_snapshots()}
    assert SECRET in reachable(vault)
    report = vault.forget(["*.pem"], yes=True)
    assert isinstance(report, ForgetReport)
    paths = {path for _, path in report.paths}
    assert paths == {
        b"key.pem",
        b"sub/key.pem",
        b"sub/also.pem",
        b"sub/big.pem",
        b"sub/link.pem",
        b"only/in/here.pem",
        b"keys.pem",
        b"copy of main.pem",
    }
    assert set(report.snapshots) == set(list(taken)[1:])
    held = reachable(vault)
    assert SECRET not in held
    assert b".pem" not in held
    assert hashlib.sha256(LARGE).hexdigest().encode() + b"\nsize" not in held
    assert [snapshot.id for snapshot in vault.list_snapshots()] == list(taken)[::-1], "under the same ids"
    for number, (name, was) in enumerate(taken.items()):
        target = tmp_path / "back" / str(number)
        assert vault.restore_snapshot(name, target).problems == ()
        assert records(target) == without(was)
        now = vault.get_snapshot_info(name)
        assert (now.time, now.message, now.project) == (before[name].time, before[name].message, "acme")
        assert now.files == sum(record.kind != "folder" for record in without(was).values())
        assert now.bytes == sum(len(r.content) for r in without(was).values() if r.kind != "folder")
    first = next(iter(taken))
    assert vault.history.locate(first).hex() == first, "what did not hold it is the same commit"
    assert vault.verify(data=True).defects == ()
    git(vault, "fsck", "--strict")
    assert b"BEGIN" not in git(vault, "archive", "acme").encode("utf-8", "replace")


def test_the_next_snapshot_reads_anew_and_saves_it_only_if_it_is_still_there(
    vault: Vault, taken: Taken, acme: Path
) -> None:
    vault.forget(["*.pem"], yes=True)
    report = vault.create_snapshot(acme)
    assert report.new == 8
    assert (
        sorted(note.partition(" holds")[0] for note in report.notes)
        == [
            "key.pem",
            "keys.pem/inside",
            "only/in/here.pem",
            "sub/also.pem",
            "sub/big.pem",
            "sub/key.pem",
            "sub/link.pem",
        ]
        or len(report.notes) == 6
    )
    assert all(note.endswith("holds what was forgotten on 2024-03-10; saved again") for note in report.notes)
    assert vault.verify(data=True).ok
    again = vault.create_snapshot(acme)
    assert (again.unchanged, again.notes) == (True, ())


def test_tombstones_hold_hashes_of_what_is_nowhere_else(vault: Vault, taken: Taken) -> None:
    def blob(content: bytes) -> str:
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    vault.forget(["*.pem"], yes=True)
    expected = {blob(x) for x in (SECRET, SECRET + b"2", SECRET + b"changed", b"3", b"main.c", b"a whole folder")}
    expected.add(hashlib.sha256(LARGE).hexdigest())
    # `copy of main.pem` is what main.c was: that content stays.
    assert tombstones(vault.history) == dict.fromkeys(expected, "2024-03-10T12:00:00Z")
    text = vault.history.read_file(TOMBSTONES, TOMBSTONES_FILE)
    assert text.splitlines() == sorted(text.splitlines())
    vault.forget(["/sub/note"], yes=True)
    assert tombstones(vault.history).keys() == expected | {blob(b"a note")}


def test_only_the_projects_that_are_named(vault: Vault, taken: Taken, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {"key.pem": SECRET, "x": b"x"})
    kept = vault.create_snapshot(other).snapshot
    report = vault.forget(["*.pem"], projects=["acme"], yes=True)
    assert {project for project, _ in report.paths} == {"acme"}
    assert b"".join(entry.path for entry in vault.entries(kept)) == b"key.pemx"
    # It is in the other one: not a thing that may nowhere be.
    assert hashlib.sha1(b"blob %d\0" % len(SECRET) + SECRET).hexdigest() not in tombstones(vault.history)
    with pytest.raises(NotFoundError, match="no such project"):
        vault.forget(["x"], projects=["nonsense"], yes=True)


def test_caches_are_clean_when_it_returns(vault: Vault, taken: Taken, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {"x": b"x"})
    vault.create_snapshot(other)
    held = b"".join(path.read_bytes() for path in (vault.path / "cache").iterdir())
    assert b"key.pem" in held
    vault.forget(["*.pem"], yes=True)
    held = b"".join(path.read_bytes() for path in (vault.path / "cache").rglob("*") if path.is_file())
    assert b".pem" not in held
    assert (vault.path / "cache" / "stat-other.db").exists()


def test_a_cache_that_stays_stops_it(vault: Vault, taken: Taken) -> None:
    """What names the paths must not outlive them: then nothing happens at all."""

    class Stubborn(CountedDisk):
        def count(self) -> None:
            pass

        def unlink(self, path: Path) -> None:
            if path.suffix == ".db":
                raise PermissionError(f"{path}: held open")
            super().unlink(path)

    before = vault.history.refs.list()
    with Vault.open(vault.path, disk=Stubborn()) as stubborn, pytest.raises(PermissionError):
        stubborn.forget(["*.pem"], yes=True)
    assert vault.history.refs.list() == before


def test_it_cannot_be_undone_nor_what_was_before(vault: Vault, taken: Taken) -> None:
    vault.prune(Retention(last=2), yes=True)
    assert vault.history.refs.list(UNDO)
    vault.forget(["*.pem"], yes=True)
    assert vault.history.refs.list(UNDO) == {}
    for count in (1, 2):
        with pytest.raises(GitVaultError, match="operation 2 is a forget: what it removed is to be gone for good"):
            vault.undo(count)
    vault.prune(Retention(last=1), yes=True)
    assert vault.undo().undoes == (3,)
    assert len(vault.list_snapshots()) == 2
    assert SECRET not in reachable(vault)


def test_notes_and_tags_lead_to_what_is_left(vault: Vault, taken: Taken) -> None:
    name = list(taken)[1]
    git(vault, "notes", "add", "-m", "a note", name)
    git(vault, "tag", "-a", "-m", "x", "acme/v1", name)
    git(vault, "tag", "mine", name)
    vault.forget(["*.pem"], yes=True)
    now = vault.history.locate(name).hex()
    assert now != name
    assert git(vault, "notes", "show", now) == "a note"
    assert git(vault, "rev-parse", "acme/v1^{commit}", "mine").split() == [now, now]
    assert SECRET not in reachable(vault)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/key.pem", {b"key.pem"}),
        ("key.pem", {b"key.pem", b"sub/key.pem"}),
        ("sub/*.pem", {b"sub/key.pem", b"sub/also.pem", b"sub/big.pem", b"sub/link.pem"}),
        ("keys.pem/", {b"keys.pem"}),
        ("only/", {b"only"}),
        ("**/inside", {b"keys.pem/inside"}),
        ("hollow/", {b"hollow"}),
        ("nowhere", set()),
    ],
)
def test_patterns_are_those_of_gitignore(vault: Vault, taken: Taken, pattern: str, expected: set[bytes]) -> None:
    before = vault.history.refs.list()
    said = vault.forget([pattern])
    assert ({path for _, path in said.paths}, said.done) == (expected, False)
    assert vault.history.refs.list() == before
    done = vault.forget([pattern], yes=True)
    assert (done.paths, done.snapshots, done.done) == (said.paths, said.snapshots, True)
    assert vault.forget([pattern]).paths == ()
    assert len(vault.operations()) == bool(expected)
    assert vault.verify(data=True).ok
    git(vault, "fsck", "--strict")


def test_everything_can_go(vault: Vault, taken: Taken, tmp_path: Path) -> None:
    vault.forget(["*"], yes=True)
    for name in taken:
        assert vault.history.trees(name)[0] == EMPTY_TREE
        assert list(vault.entries(name)) == []
    assert vault.verify(data=True).ok
    assert vault.restore_snapshot("acme", tmp_path / "back").files == 0


@pytest.mark.parametrize("pattern", ["", "  ", "# x", "!x"])
def test_what_is_no_pattern(vault: Vault, taken: Taken, pattern: str) -> None:
    with pytest.raises(GitVaultError, match=r"not a pattern of paths; give one as in \.gitignore"):
        vault.forget([pattern], yes=True)


def test_a_commit_of_another_tool(vault: Vault, taken: Taken) -> None:
    tree = git(vault, "rev-parse", "acme^{tree}")
    side = git(vault, "commit-tree", "-m", "from elsewhere", tree)
    merge = git(vault, "commit-tree", "-m", "by hand", "-p", "acme", "-p", side, tree)
    git(vault, "update-ref", "refs/heads/acme", merge)
    looking, report = search(vault.history, ["*.pem"], ["acme"])
    assert isinstance(looking, Search)
    assert looking.matches(b"a.pem", False)
    assert looking.look(vault.history.commit(vault.history.peel(vault.history.locate(report.snapshots[0]))).tree, None)
    vault.forget(["*.pem"], yes=True)
    assert SECRET not in reachable(vault)
    assert {entry.path for entry in vault.entries("acme", damaged=lambda _: None)} == {b"main.c", b"sub"}
    git(vault, "fsck", "--strict")


def test_damage_stops_it_and_is_named(vault: Vault, taken: Taken, tmp_path: Path) -> None:
    """A folder that cannot be read may hold it: better nothing done than half of it."""
    before = vault.history.refs.list()
    lost = git(vault, "rev-parse", f"{list(taken)[1]}:sub")
    vault.close()
    for pack in list((vault.path / "objects" / "pack").glob("*.pack")):
        pack.rename(tmp_path / pack.name)
        pack.with_suffix(".idx").unlink()
        words = ["git", f"--git-dir={vault.path}", "unpack-objects", "-q"]
        subprocess.run(words, input=(tmp_path / pack.name).read_bytes(), check=True)
    (vault.path / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(CorruptionError, match=lost):
        vault.forget(["*.pem"], yes=True)
    assert vault.history.refs.list() == before


def test_the_command(vault: Vault, taken: Taken, command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    shown = command("forget", "--path", "key.pem", "--path", "/only/").stdout
    assert "  acme:sub/key.pem\n" in shown
    assert "3 paths in 2 snapshots would be forgotten, which cannot be undone" in shown
    done = json.loads(command("forget", "--path", "key.pem", "--project", "acme", "--yes", "--json").stdout)
    assert done["paths"] == [{"project": "acme", "path": path} for path in ("key.pem", "sub/key.pem")]
    assert (len(done["snapshots"]), done["yes"]) == (2, True)
    assert "nothing matches" in command("forget", "--path", "key.pem", "--yes").stdout
    assert command("forget", "--yes").returncode == 129
    assert "is a forget" in command("op", "undo").stderr
    # The cache that is made anew is a good one.
    command("snapshot", str(vault.path.parent / "acme"))
    with sqlite3.connect(vault.path / "cache" / "stat-acme.db") as db:
        assert db.execute("SELECT count(*) FROM folder").fetchone()[0] > 3
