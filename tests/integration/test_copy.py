"""`copy --to`: a second vault that holds all of the first, costs what has changed, and survives every bad moment."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from damage import lose
from disks import CountedDisk
from trees import differences, write

from gitvault import config
from gitvault.core.backup_engine.copy import copy_vault
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.models import CopyReport, ObjectId
from gitvault.core.storage.packs import read_table
from gitvault.core.utils.files import Disk, NewFile, full_disk_named
from gitvault.core.versioning.contents import find
from gitvault.core.versioning.history import HEADS, META, raw
from gitvault.core.versioning.objects import encode_commit, parse_message
from gitvault.errors import (
    ConfigError,
    ExistsError,
    GitVaultError,
    LockedError,
    NotFoundError,
    StorageFullError,
    UnsupportedFormatVersion,
)
from gitvault.vault import Vault, disk_usage

Command = Callable[..., subprocess.CompletedProcess[str]]
NOISE = random.Random(5)


def make(path: Path, **options: object) -> Vault:
    """A vault with small chunks, so that small files are large ones to it."""
    Vault.create(path).close()
    for key, value in (("minChunk", "1k"), ("avgChunk", "4k"), ("maxChunk", "8k"), ("inlineLimit", "2k")):
        config.set(path, f"vault.{key}", value)
    config.set(path, "vault.maintenance", "off")
    return Vault.open(path, **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A vault of two projects, made once: where it lies, and a copy of that folder.

    One project has a large file in four versions, of which some are stored as differences.
    """
    folder = tmp_path_factory.mktemp("work")
    clock = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(100_000))
    with make(folder / "first.git", now=lambda: next(clock)) as vault:
        acme = write(folder / "acme", {"a.txt": b"one\n", "src/b.c": b"int b;\n" * 300, "src/deep/c": b"c"})
        (acme / "empty").mkdir()
        hero = NOISE.randbytes(120_000)
        for number in range(4):
            write(acme, {"art/hero.dat": b"\0" + hero, "src/b.c": b"int b%d;\n" % number * 300})
            vault.create_snapshot(acme, message=f"Version {number}")
            at = 30_000 * number + 500
            hero = hero[:at] + b"edited %d" % number + hero[at + 20 :]
        write(folder / "a b", {"one.bin": b"\0" + NOISE.randbytes(5000), "same.txt": b"one\n"})
        vault.create_snapshot(folder / "a b", project="a/b")
    return folder, Path(shutil.copytree(folder, tmp_path_factory.mktemp("kept") / "work"))


@pytest.fixture
def tmp_path(kept: tuple[Path, Path]) -> Path:
    """The folder as it was when the vault was made: projects are known by their paths."""
    folder, whole = kept
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)
    shutil.copytree(whole, folder)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Vault]:
    clock = iter(datetime(2026, 2, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(100_000))
    with Vault.open(tmp_path / "first.git", now=lambda: next(clock)) as vault:
        yield vault


def whole(vault: Vault, into: Path) -> dict[str, Path]:
    """Every snapshot of a vault, restored, by its id."""
    restored = {}
    for snapshot in vault.list_snapshots():
        target = into / snapshot.id
        vault.restore_snapshot(snapshot.id, target)
        restored[snapshot.id] = target
    return restored


def assert_the_same(a: Vault, b: Vault, tmp_path: Path) -> None:
    """Both hold the same snapshots, and each gives back the same files; the second is sound to us and to git."""
    one, other = (whole(vault, tmp_path / f"restored-{vault.path.name}") for vault in (a, b))
    assert one.keys() == other.keys()
    for snapshot, folder in one.items():
        assert differences(folder, other[snapshot]) == {}
        shutil.rmtree(folder)
        shutil.rmtree(other[snapshot])
    assert b.verify(data=True).defects == ()
    git = ["git", f"--git-dir={b.path}"]
    subprocess.run([*git, "fsck", "--strict", "--no-dangling"], check=True, capture_output=True)
    assert subprocess.run([*git, "log", "--oneline", "HEAD"], check=True, capture_output=True).stdout


def test_the_flow_alone_needs_no_vault_around_it(source: Vault, tmp_path: Path) -> None:
    with Vault.create(tmp_path / "second.git") as second:
        report = copy_vault(source.history, source.store, second.history, second.store)
        assert isinstance(report, CopyReport)
        assert_the_same(source, second, tmp_path)


def test_a_copy_gives_back_every_snapshot(source: Vault, tmp_path: Path) -> None:
    report = source.copy_to(tmp_path / "second.git")
    assert (report.snapshots, report.left) == (5, ())
    assert report.bytes <= disk_usage(tmp_path / "second.git")
    with Vault.open(tmp_path / "second.git") as second:
        tables = [read_table(path) for path in second.path.glob("chunks/*.zpk")]
        assert any(frame.bases for table in tables for frame in table.frames), "nothing is stored as a delta"
        assert second.history.refs.list(HEADS) == source.history.refs.list(HEADS)
        assert second.history.refs.list(META) == source.history.refs.list(META)
        assert [p.name for p in second.projects()] == [p.name for p in source.projects()]
        assert_the_same(source, second, tmp_path)


def test_a_second_copy_costs_what_has_changed(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    first = source.copy_to(second)
    nothing = source.copy_to(second)
    assert (nothing.packs, nothing.bytes, nothing.refs, nothing.snapshots) == (0, 0, 0, 0)
    write(tmp_path / "acme", {"a.txt": b"two\n"})
    hero = tmp_path / "acme" / "art" / "hero.dat"
    hero.write_bytes(hero.read_bytes()[:-10] + b"the end...")
    source.create_snapshot(tmp_path / "acme")
    change = source.copy_to(second)
    assert (change.snapshots, change.refs) == (1, 2)
    assert 0 < change.bytes < first.bytes / 5
    with Vault.open(second) as copied:
        assert_the_same(source, copied, tmp_path)


def test_after_upkeep_of_either_nothing_is_copied_again(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    source.maintain()
    assert source.copy_to(second).packs == 0
    with Vault.open(second) as copied:
        copied.maintain()
    write(tmp_path / "acme", {"a.txt": b"three\n"})
    source.create_snapshot(tmp_path / "acme")
    assert source.copy_to(second).chunks == 0
    with Vault.open(second) as copied:
        assert_the_same(source, copied, tmp_path)


def test_a_vault_after_upkeep_is_copied_as_small_as_it_is(source: Vault, tmp_path: Path) -> None:
    source.maintain()
    index = next(source.path.glob("objects/pack/*.idx"))
    listed = subprocess.run(["git", "verify-pack", "-v", index], check=True, capture_output=True, text=True).stdout
    assert "chain length = 1" in listed, "git found no deltas"
    report = source.copy_to(tmp_path / "second.git")
    stored = sum(p.stat().st_size for p in (*source.path.glob("objects/pack/*"), *source.path.glob("chunks/*.zpk")))
    assert report.bytes < 1.1 * stored
    with Vault.open(tmp_path / "second.git") as second:
        assert_the_same(source, second, tmp_path)


def test_only_some_projects(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    assert source.copy_to(second, projects=["a/b"]).snapshots == 1
    with Vault.open(second) as copied:
        assert [project.name for project in copied.projects()] == ["a/b"]
        assert copied.history.projects() == ["a/b"]
        assert copied.verify(data=True).ok
    assert source.copy_to(second).snapshots == 4
    with pytest.raises(NotFoundError, match="nobody: no such project"):
        source.copy_to(second, projects=["nobody"])


def test_two_vaults_in_one_copy(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    with make(tmp_path / "laptop.git") as laptop:
        write(tmp_path / "notes", {"n": b"n"})
        laptop.create_snapshot(tmp_path / "notes")
        source.copy_to(second)
        assert laptop.copy_to(second).left == ()
        assert source.copy_to(second).refs == 0
    with Vault.open(second) as copied:
        assert [project.name for project in copied.projects()] == ["a/b", "acme", "notes"]
        assert copied.verify(data=True).ok


def test_where_a_copy_may_not_go(source: Vault, tmp_path: Path) -> None:
    for target in (source.path, source.path / "inner", tmp_path):
        with pytest.raises(GitVaultError, match="is this vault, or one lies in the other"):
            source.copy_to(target)
    (tmp_path / "link").symlink_to(source.path)
    with pytest.raises(GitVaultError, match="is this vault"):
        source.copy_to(tmp_path / "link")
    with pytest.raises(ExistsError, match="not a vault and not empty"):
        source.copy_to(tmp_path / "acme")
    source.copy_to(tmp_path / "second.git")
    subprocess.run(["git", f"--git-dir={tmp_path / 'second.git'}", "config", "vault.formatVersion", "99"], check=True)
    with pytest.raises(UnsupportedFormatVersion):
        source.copy_to(tmp_path / "second.git")


def test_the_source_remembers_its_copies(source: Vault, tmp_path: Path) -> None:
    for name in ("second.git", "third.git", "second.git"):
        source.copy_to(tmp_path / name)
    assert source.config.copies == (str(tmp_path / "second.git"), str(tmp_path / "third.git"))
    with pytest.raises(ConfigError, match="expected a folder's absolute path"):
        config.set(source.path, "vault.copies", ["second.git"])
    with pytest.raises(ConfigError, match="expected 32 hex digits"):
        config.set(source.path, "vault.id", "mine")


def test_a_copy_that_was_moved_is_the_same_copy(source: Vault, tmp_path: Path) -> None:
    """It is asked at its new place, and gives nothing back that was removed here."""
    old, new, twin = (tmp_path / name for name in ("old.git", "new place.git", "twin.git"))
    source.copy_to(old)
    source.copy_to(tmp_path / "other.git")
    old.rename(new)
    source.copy_to(new)
    assert source.config.copies == (str(tmp_path / "other.git"), str(new))
    assert {path for _, path in source.config.known_copies} == set(source.config.copies)
    # One that is there twice is two copies.
    shutil.copytree(new, twin)
    source.copy_to(twin)
    assert source.config.copies == (str(tmp_path / "other.git"), str(new), str(twin))
    (twin / "config").write_text("[core")
    new.rename(old)
    source.prune(Retention(last=1), yes=True)
    kept = [snapshot.id for snapshot in source.list_snapshots()]
    with Vault.open(old) as moved:
        moved.copy_to(source.path)
    assert [snapshot.id for snapshot in source.list_snapshots()] == kept
    source.copy_to(old)
    assert source.config.copies == (str(tmp_path / "other.git"), str(old))


def test_a_vault_from_before_there_were_ids_is_known_by_its_folder(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    for path in (second, source.path):
        for key in ("vault.id", "vault.knownCopies"):
            subprocess.run(["git", "config", "-f", path / "config", "--unset-all", key], check=False)
    with Vault.open(source.path) as vault:
        vault.copy_to(second)
        assert (vault.config.copies, vault.config.known_copies) == ((str(second),), ())
    config.remember_copy(source.path, str(tmp_path / "third.git"), "ab" * 16)
    assert config.load(source.path).known_copies == (("ab" * 16, str(tmp_path / "third.git")),)


def test_machines_that_went_separate_ways_are_told_and_the_rest_is_copied(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    with Vault.open(second) as copied:
        write(tmp_path / "acme", {"a.txt": b"only in the copy\n"})
        mine = copied.create_snapshot(tmp_path / "acme").snapshot
    write(tmp_path / "acme", {"a.txt": b"only here\n"})
    write(tmp_path / "a b", {"new": b"new"})
    source.create_snapshot(tmp_path / "acme")
    source.create_snapshot(tmp_path / "a b")
    report = source.copy_to(second)
    [left] = report.left
    assert (left.project, left.damaged) == ("acme", False)
    assert f"{mine}, was never in this vault" in left.reason
    with Vault.open(second) as copied:
        assert copied.history.tip("acme") == ObjectId(bytes.fromhex(mine))
        assert copied.history.tip("a/b") == source.history.tip("a/b")


def rewritten(vault: Vault, project: str, keep: Callable[[int], bool]) -> None:
    """The chain of a project without some snapshots (numbered from the oldest), as retention leaves it."""
    history = vault.history
    kept = [snapshot for n, snapshot in enumerate(reversed(list(history.list_versions(project)))) if keep(n)]
    pack = history.new_pack()
    parent = meta_parent = None
    for snapshot in kept:
        commit = history.commit(raw(snapshot.id))
        named = history.meta_commit(commit)
        assert named
        meta = replace(history.commit(named), parents=(meta_parent,) if meta_parent else ())
        meta_parent = pack.add(b"commit", encode_commit(meta))
        first = dict(parse_message(commit.message)[1]).get("Vault-Snapshot", snapshot.id)
        message = commit.message.replace(named.hex(), meta_parent.hex()).rstrip("\n") + f"\nVault-Snapshot: {first}\n"
        changed = replace(commit, parents=(parent,) if parent else (), message=message)
        parent = pack.add(b"commit", encode_commit(changed))
    made = pack.finish()
    assert made and parent and meta_parent
    history.publish([made])
    history.refs.update(f"{META}{project}", meta_parent)
    history.refs.update(f"{HEADS}{project}", parent)


def test_a_branch_that_retention_rewrote_replaces_the_old_one(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    rewritten(source, "acme", lambda n: n != 1)
    report = source.copy_to(second)
    assert (report.left, report.refs, report.chunks) == ((), 2, 0)
    with Vault.open(second) as copied:
        assert copied.history.tip("acme") == source.history.tip("acme")
        assert copied.verify(data=True).ok


def test_also_when_the_newest_there_was_pruned_here(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    rewritten(source, "acme", lambda n: n < 3)
    assert source.copy_to(second).left == ()
    with Vault.open(second) as copied:
        assert copied.history.tip("acme") == source.history.tip("acme")


def test_what_was_forgotten_there_does_not_come_back(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second, projects=["a/b"])
    blob = source.history.blob_at(source.history.commit(source.history.locate(source.resolve("acme"))), b"src/b.c")
    assert blob
    with Vault.open(second) as copied:
        copied.history.write_file("refs/vault/tombstones", b"tombstones", blob.hex().encode() + b" 1\n", "Forget")
    [left] = source.copy_to(second).left
    assert left.project == "acme"
    assert f"holds {blob.hex()}, which was forgotten there" in left.reason
    with Vault.open(second) as copied:
        assert not copied.history.objects.contains(blob)
    # Forgotten in both, and saved again on purpose.
    source.history.write_file("refs/vault/tombstones", b"tombstones", blob.hex().encode() + b" 1\n", "Forget")
    assert source.copy_to(second).left == ()


def test_tombstones_of_both_are_in_the_copy(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    ref, name = "refs/vault/tombstones", b"tombstones"
    with Vault.open(second) as copied:
        copied.history.write_file(ref, name, b"%040d 1\n" % 1, "Forget")
    source.history.write_file(ref, name, b"%064d 2\n" % 2, "Forget")
    source.copy_to(second)
    with Vault.open(second) as copied:
        assert copied.history.read_file(ref, name) == b"%064d 2\n" % 2 + b"%040d 1\n" % 1


def test_tags_notes_and_unknown_refs_come_along(source: Vault, tmp_path: Path) -> None:
    git = ["git", f"--git-dir={source.path}"]
    for words in (
        ["tag", "-a", "-m", "Beta", "acme/beta", "acme~1"],
        ["tag", "light", "acme"],
        ["notes", "--ref=vault/feedback", "add", "-m", '{"ok":1}', "acme"],
        ["update-ref", "refs/vault/playtests/x", "acme~2"],
        ["update-ref", "refs/vault/restored/" + "1" * 40, "acme"],
        ["update-ref", "refs/vault/undo/1/1", "acme"],
    ):
        subprocess.run([*git, *words], check=True)
    second = tmp_path / "second.git"
    assert source.copy_to(second).left == ()
    with Vault.open(second) as copied:
        here, there = source.history.refs.list(), copied.history.refs.list()
        own = {ref for ref in here if ref.startswith(("refs/vault/restored/", "refs/vault/undo/"))}
        assert there.keys() == here.keys() - own
        del here["refs/vault/catalog"]
        assert {ref: there[ref] for ref in here.keys() - own} == {ref: here[ref] for ref in here.keys() - own}
        assert_the_same(source, copied, tmp_path)


def test_a_commit_of_another_tool_brings_what_its_pointers_name(source: Vault, tmp_path: Path) -> None:
    git = ["git", f"--git-dir={source.path}", "-c", "user.name=x", "-c", "user.email=x@example.invalid"]
    tree = subprocess.run([*git, "rev-parse", "acme^{tree}"], check=True, capture_output=True, text=True).stdout.strip()
    commit = subprocess.run([*git, "commit-tree", "-m", "by hand", tree], check=True, capture_output=True, text=True)
    subprocess.run([*git, "update-ref", "refs/heads/foreign", commit.stdout.strip()], check=True)
    second = tmp_path / "second.git"
    source.history.refs.list()
    subprocess.run([*git, "update-ref", "-d", "refs/heads/acme"], check=True)
    source.copy_to(second)
    with Vault.open(second) as copied:
        copied.restore_snapshot("foreign", tmp_path / "out")
    assert (tmp_path / "out/art/hero.dat").read_bytes() == (tmp_path / "acme/art/hero.dat").read_bytes()


def test_a_damaged_project_is_left_and_the_others_are_copied(source: Vault, tmp_path: Path) -> None:
    before = set(source.path.glob("chunks/*.zpk"))
    write(tmp_path / "a b", {"one.bin": b"\0" + random.Random(6).randbytes(5000)})
    source.create_snapshot(tmp_path / "a b", project="a/b")
    (pack,) = set(source.path.glob("chunks/*.zpk")) - before
    data = bytearray(pack.read_bytes())
    data[60] ^= 1
    pack.write_bytes(data)
    second = tmp_path / "second.git"
    report = source.copy_to(second)
    [left] = report.left
    assert (left.project, left.damaged) == ("a/b", True)
    with Vault.open(second) as copied:
        assert copied.history.projects() == ["acme"]
        assert copied.verify(data=True).ok


class Stopped(BaseException):
    """The process is killed here."""


class Killing(CountedDisk):
    """Lets `left` operations happen and then none."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.done = 0

    def count(self) -> None:
        if self.done >= self.left:
            raise Stopped
        self.done += 1

    def unlink(self, path: Path) -> None:
        self.count()
        super().unlink(path)


def test_killed_at_any_operation_it_goes_on(source: Vault, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    counting = Killing(1 << 30)
    with Vault.open(source.path, disk=counting) as vault:
        vault.copy_to(tmp_path / "counted.git")
    assert counting.done > 60
    second = tmp_path / "second.git"
    # The last ones are those of the refs.
    few = {*range(0, counting.done, 13), *range(counting.done - 24, counting.done, 3)}
    for operation in range(counting.done) if pytestconfig.getoption("--deep") else sorted(few):
        shutil.rmtree(second, ignore_errors=True)
        with Vault.open(source.path, disk=Killing(operation)) as vault, pytest.raises(Stopped):
            vault.copy_to(second)
        for lock in [second / "HEAD.lock", *second.rglob("refs/**/*.lock")]:
            lock.unlink(missing_ok=True)
        if (second / "config").exists():
            with Vault.open(second) as copied:
                assert copied.verify(data=True).defects == (), f"after operation {operation}"
        before = {p.name: p.stat().st_size for p in second.glob("chunks/*.zpk")}
        report = source.copy_to(second)
        after = {p.name: p.stat().st_size for p in second.glob("chunks/*.zpk")}
        chunks = [chunk.id for path in second.glob("chunks/*.zpk") for chunk in read_table(path).chunks]
        assert after.items() >= before.items()
        assert len(chunks) == len(set(chunks)), "what was there was copied again"
        assert sum(after.values()) - sum(before.values()) <= report.bytes
        with Vault.open(second) as copied:
            assert copied.verify(data=True).defects == (), f"after operation {operation}"
            assert copied.history.refs.list(HEADS) == source.history.refs.list(HEADS)
            assert not list(second.glob("tmp/*"))


class Failing(CountedDisk):
    """Fails at one operation, or at that and all behind it."""

    def __init__(self, at: int, error: int, *, sticky: bool) -> None:
        self.at, self.error, self.sticky = at, error, sticky
        self.done = 0

    def count(self) -> None:
        self.done += 1
        if self.done - 1 == self.at or (self.sticky and self.done > self.at):
            with full_disk_named(Path("the target")):
                raise OSError(self.error, os.strerror(self.error))


@pytest.mark.parametrize(("error", "sticky"), [(errno.EIO, False), (errno.ENOSPC, True)])
def test_a_failing_or_full_disk_leaves_a_sound_vault(
    error: int, sticky: bool, source: Vault, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    second = tmp_path / "second.git"
    operation, failed = 0, 0
    while True:
        shutil.rmtree(second, ignore_errors=True)
        disk = Failing(operation, error, sticky=sticky)
        with Vault.open(source.path, disk=disk) as vault:
            try:
                vault.copy_to(second)
            except (OSError, StorageFullError):
                failed += 1
        if disk.done <= operation:
            break
        if (second / "config").exists():
            with Vault.open(second) as copied:
                assert copied.verify(data=True).defects == (), f"after operation {operation}"
        for lock in [second / "HEAD.lock", *second.rglob("refs/**/*.lock")]:
            assert not lock.exists()
        assert source.copy_to(second).left == ()
        with Vault.open(second) as copied:
            assert copied.verify(data=True).defects == (), f"after operation {operation}"
            assert copied.history.refs.list(HEADS) == source.history.refs.list(HEADS)
        operation += 1 if pytestconfig.getoption("--deep") else 19
    assert failed > 3


class Flipping(Disk):
    """Writes one wrong bit into each file of a kind."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        return _Flipped(path, mode) if path.suffix == self.suffix else NewFile(path, mode)

    def create_uncached(self, path: Path) -> NewFile:
        return self.create(path)


class _Flipped(NewFile):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        wrong = bytearray(data)
        if len(wrong) > 500:
            wrong[400] ^= 4
        super().write(wrong)


@pytest.mark.parametrize("suffix", [".zpk", ".pack"])
def test_what_does_not_read_back_is_not_relied_on(suffix: str, source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    with (
        Vault.open(source.path, disk=Flipping(suffix)) as vault,
        pytest.raises(OSError, match="does not read back as it was written"),
    ):
        vault.copy_to(second)
    with Vault.open(second) as copied:
        assert copied.history.projects() == []
    source.copy_to(second)
    with Vault.open(second) as copied:
        assert_the_same(source, copied, tmp_path)


def test_command(source: Vault, tmp_path: Path, command: Command) -> None:
    words = ["--vault", str(source.path), "copy", "--to", str(tmp_path / "second.git")]
    done = command(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 snapshots copied" in done.stdout
    assert "nothing new" in command(*words).stdout


class Meanwhile(Disk):
    """Does something else once, before an operation on a kind of file in one folder."""

    def __init__(self, folder: Path, suffix: str, number: int, then: Callable[[], object]) -> None:
        self.folder, self.suffix, self.number, self.then = folder, suffix, number, then
        self.done = False

    def _now(self, path: Path) -> None:
        if self.folder in path.parents and path.suffix == self.suffix:
            self.number -= 1
            if self.number == 0:
                self.then()
                self.done = True

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        self._now(path)
        return super().create(path, mode)

    def create_uncached(self, path: Path) -> NewFile:
        self._now(path)
        return super().create_uncached(path)

    def rename(self, source: Path, target: Path) -> None:
        self._now(source)
        super().rename(source, target)


@pytest.mark.parametrize(("suffix", "number"), [(".zpk", 1), (".zpk", 2), (".pack", 1), (".pack", 2)])
def test_upkeep_of_the_source_meanwhile(suffix: str, number: int, source: Vault, tmp_path: Path) -> None:
    """Old packs are gone when the copy comes to read them, or goes on reading them."""
    second = tmp_path / "second.git"

    def upkeep() -> None:
        with Vault.open(source.path) as other:
            assert len(other.maintain().actions) == 2

    disk = Meanwhile(second, suffix, number, upkeep)
    with Vault.open(source.path, disk=disk) as vault:
        assert vault.copy_to(second).left == ()
    assert disk.done
    with Vault.open(second) as copied:
        assert_the_same(source, copied, tmp_path)


@pytest.mark.parametrize(("suffix", "number"), [(".zpk", 1), (".pack", 2), (".lock", 2)])
def test_a_snapshot_of_the_source_meanwhile(suffix: str, number: int, source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    before = source.history.tip("acme")

    def save() -> None:
        write(tmp_path / "acme", {"art/new.dat": b"\0" + NOISE.randbytes(20_000), "a.txt": b"meanwhile"})
        with Vault.open(source.path) as other:
            other.create_snapshot(tmp_path / "acme")

    disk = Meanwhile(second, suffix, number, save)
    with Vault.open(source.path, disk=disk) as vault:
        vault.copy_to(second)
    assert disk.done
    with Vault.open(second) as copied:
        assert copied.history.tip("acme") == before
        assert copied.verify(data=True).ok
        source.copy_to(second)
        assert_the_same(source, copied, tmp_path)


def test_a_prune_and_a_sweep_of_the_source_meanwhile(source: Vault, tmp_path: Path) -> None:
    """What was to be copied is gone: the copy starts over with what is there now."""
    second = tmp_path / "second.git"
    gone = [raw(snapshot.id) for snapshot in source.history.list_versions("acme")]

    def prune() -> None:
        with Vault.open(source.path) as other:
            rewritten(other, "acme", lambda n: n == 3)
            lose(other, *gone)

    disk = Meanwhile(second, ".zpk", 1, prune)
    with Vault.open(source.path, disk=disk) as vault:
        # The one that is copied last, and has not been read when the pack is made.
        report = vault.copy_to(second)
    assert disk.done
    assert report.left == ()
    with Vault.open(second) as copied:
        assert copied.history.tip("acme") == source.history.tip("acme")
        assert copied.verify(data=True).ok


def test_what_is_damaged_in_the_target_and_missing_comes_over_again(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    with Vault.open(second) as copied:
        lose(copied, raw(source.list_snapshots()[-1].id))
        assert not copied.verify().ok
    write(tmp_path / "acme", {"a.txt": b"more"})
    source.create_snapshot(tmp_path / "acme")
    source.copy_to(second)
    with Vault.open(second) as copied:
        assert_the_same(source, copied, tmp_path)


def test_an_unfinished_vault_is_finished_and_nothing_else_taken_for_one(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    (second / "objects" / "pack").mkdir(parents=True)
    (second / "HEAD").write_text("ref: refs/heads/main\n")
    (second / "RESCUE.md.123.tmp").write_text("#")
    source.copy_to(second)
    third = tmp_path / "third"
    write(third, {"HEAD": b"", "objects/mine.txt": b"mine"})
    with pytest.raises(ExistsError):
        source.copy_to(third)


def test_a_locked_target_is_waited_for_and_told(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    config.set(second, "vault.lockTimeout", 0)
    with Vault.open(second) as copied, copied._lock("a test"), pytest.raises(LockedError, match="locked by process"):
        source.copy_to(second)


def test_a_source_that_cannot_be_written(
    source: Vault, tmp_path: Path, as_nobody: Callable[[Callable[[], None]], None]
) -> None:
    """On a read-only medium: nothing is remembered, and everything is copied."""
    source.close()
    shutil.rmtree(source.path / "cache")
    for path in (source.path, *source.path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    target = tmp_path / "for-nobody"
    target.mkdir(mode=0o777)
    target.chmod(0o777)

    def copy() -> None:
        os.environ["HOME"] = str(target)
        with Vault.open(source.path) as vault:
            assert vault.copy_to(target / "second.git").left == ()
            assert vault.config.copies == ()

    as_nobody(copy)
    with Vault.open(source.path) as vault, Vault.open(target / "second.git") as copied:
        assert_the_same(vault, copied, tmp_path)


def test_a_projects_file_that_looks_like_attributes(source: Vault, tmp_path: Path) -> None:
    """The same object is a user's file here and names large files there."""
    _, below = find(source.history, source.resolve("acme"), b"art")
    assert below
    write(tmp_path / "0", {"art": source.history.blob(below)})
    source.create_snapshot(tmp_path / "0")
    assert source.history.blob_at(source.history.commit(source.history.locate(source.resolve("0"))), b"art") == below
    source.copy_to(tmp_path / "second.git")
    with Vault.open(tmp_path / "second.git") as second:
        assert_the_same(source, second, tmp_path)


def test_notes_that_both_changed_are_joined_line_by_line(source: Vault, tmp_path: Path) -> None:
    second = tmp_path / "second.git"
    source.copy_to(second)
    for vault in (source.path, second):
        words = ["notes", "--ref=vault/feedback", "add", "-m", vault.name, "acme"]
        subprocess.run(["git", f"--git-dir={vault}", *words], check=True)
    assert source.copy_to(second).left == ()
    words = ["notes", "--ref=vault/feedback", "show", "acme"]
    shown = subprocess.run(["git", f"--git-dir={second}", *words], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines() == sorted([source.path.name, second.name])


def test_a_snapshot_that_the_record_of_operations_names_was_here(source: Vault, tmp_path: Path) -> None:
    """It was pruned and swept since the last copy: its object is gone, the record of it is not."""
    second = tmp_path / "second.git"
    source.copy_to(second)
    newest = source.history.tip("acme")
    assert newest
    rewritten(source, "acme", lambda n: n < 3)
    lose(source, newest)
    assert [left.project for left in source.copy_to(second).left] == ["acme"]
    record = b'{"removed":["%b"]}' % newest.hex().encode()
    source.history.write_file("refs/vault/operations", b"operation.json", record, "Operation 1: prune")
    assert source.copy_to(second).left == ()
    with Vault.open(second) as copied:
        assert copied.history.tip("acme") == source.history.tip("acme")
        assert copied.history.refs.read("refs/vault/operations") is None
