"""`sweep`: what refs reach stays, the rest gives its space back, on real vaults with git looking on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cutting import git, keep_only
from disks import CountedDisk
from trees import contents, write

from gitvault.core.backup_engine import sweep
from gitvault.core.models import ObjectId, SweepReport
from gitvault.core.storage.packs import by_frame, read_table
from gitvault.core.utils.files import Disk
from gitvault.core.versioning import meta, repack
from gitvault.core.versioning.history import OPERATIONS
from gitvault.core.versioning.operations import RECORD_FILE
from gitvault.errors import CorruptionError, LockedError, StorageFullError
from gitvault.vault import Vault

NOISE = random.Random(29).randbytes(6_000_000)

Command = Callable[..., subprocess.CompletedProcess[str]]
States = dict[str, dict[bytes, bytes]]


def occupied(vault: Path) -> int:
    """As `du` counts, caches and the reserve left out."""
    paths = (path for path in vault.rglob("*") if path.is_file() and "cache" not in path.parts)
    return sum(path.stat().st_blocks * 512 for path in paths if path.name != "reserve")


def fill(vault: Vault, project: Path, count: int = 8) -> States:
    """Snapshots of a project with large files, one of them edited, and small ones, all of them replaced in time."""
    states: States = {}
    scene = bytearray(NOISE[:900_000])
    for n in range(count):
        scene[n * 90_000 : n * 90_000 + 40] = b"an edit of forty bytes, number %08d.." % n
        files = {
            "scene.blend": b"\0" + bytes(scene),
            f"large/{n}.bin": b"\0" + NOISE[1_000_000 + n * 250_000 : 1_200_000 + n * 250_000],
            f"src/{n}.c": random.Random(n).randbytes(30_000).hex().encode(),
            "notes.txt": b"state %d\n" % n,
        }
        for old in (project / "large").glob("*"):
            old.unlink()
        for old in (project / "src").glob("*"):
            old.unlink()
        write(project, files)
        states[vault.create_snapshot(project).snapshot] = contents(project)
    return states


@pytest.fixture
def states(vault: Vault, tmp_path: Path) -> States:
    return fill(vault, tmp_path / "acme")


def assert_whole(vault: Path, states: States, tmp_path: Path) -> None:
    """Everything restores, for git too all is well, and nothing is left lying about."""
    with Vault.open(vault) as fresh:
        assert fresh.verify(data=True).defects == ()
        for number, (snapshot, state) in enumerate(states.items()):
            target = tmp_path / f"back-{number}-{time.monotonic_ns()}"
            assert fresh.restore_snapshot(snapshot, target).problems == ()
            assert contents(target) == state
            shutil.rmtree(target)
    assert not git(vault, "fsck", "--strict", "--no-dangling")


def assert_tidy(vault: Path) -> None:
    for folder in ("tmp", "trash", "chunks/tmp", "chunks/trash"):
        assert not list((vault / folder).glob("*")), folder
    assert not (vault / "chunks" / "condemned").exists()


def test_half_of_the_snapshots_give_their_space_back(
    vault: Vault, states: States, command: Command, tmp_path: Path
) -> None:
    before = occupied(vault.path)
    gone = list(states)[:4]
    kept = keep_only(vault.path, "acme", list(states)[4:])
    done = command("sweep", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["bytes_freed"] > 800_000 and report["seconds"] > 0
    assert len(report["actions"]) == 2
    freed = before - occupied(vault.path)
    assert freed > 800_000 and abs(freed - report["bytes_freed"]) < 200_000
    assert_whole(vault.path, dict(zip(kept, list(states.values())[4:], strict=True)), tmp_path)
    assert_tidy(vault.path)
    for snapshot in gone:
        with pytest.raises(subprocess.CalledProcessError):
            git(vault.path, "cat-file", "-e", snapshot)
    assert not git(vault.path, "fsck", "--unreachable", "--no-reflogs")
    # The next snapshot counts on nothing that has gone.
    write(tmp_path / "acme", {"large/0.bin": b"\0" + NOISE[1_000_000:1_200_000]})
    again = vault.create_snapshot(tmp_path / "acme").snapshot
    assert_whole(vault.path, {again: contents(tmp_path / "acme")}, tmp_path)


def test_a_sweep_where_all_is_needed_rewrites_nothing(vault: Vault, states: States, command: Command) -> None:
    def listing() -> dict[Path, tuple[int, int]]:
        paths = (path for path in vault.path.rglob("*") if path.is_file() and "cache" not in path.parts)
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths if path.name != "vault.lock"}

    before = listing()
    assert command("sweep").stdout == "nothing to remove: all that is stored is needed\n"
    assert listing() == before
    keep_only(vault.path, "acme", list(states)[4:])
    assert "freed; took" in command("sweep").stdout
    before = listing()
    report = vault.sweep()
    assert isinstance(report, SweepReport) and not report.actions and not report.bytes_freed
    assert listing() == before
    vault.maintain()
    assert_tidy(vault.path)
    assert not vault.sweep().actions


def test_after_upkeep_it_works_as_well(vault: Vault, states: States, tmp_path: Path) -> None:
    vault.maintain()
    before = occupied(vault.path)
    kept = keep_only(vault.path, "acme", list(states)[::2])
    assert vault.sweep().bytes_freed > 800_000
    assert before - occupied(vault.path) > 800_000
    assert_whole(vault.path, dict(zip(kept, list(states.values())[::2], strict=True)), tmp_path)
    assert not vault.maintain().actions or vault.verify(data=True).ok


@pytest.mark.parametrize("kind", ["tag", "annotated tag", "branch", "of the vault", "HEAD"])
def test_whatever_kind_of_ref_leads_to_a_snapshot_it_stays(
    vault: Vault, states: States, tmp_path: Path, kind: str
) -> None:
    """With its attributes, which only the snapshot names."""
    snapshot, gone = list(states)[3], list(states)[5]
    if kind == "tag":
        git(vault.path, "tag", "acme/first", snapshot)
    elif kind == "annotated tag":
        git(vault.path, "tag", "-a", "-m", "a milestone", "acme/first", snapshot)
    elif kind == "branch":
        git(vault.path, "update-ref", "refs/heads/theirs", snapshot)
    elif kind == "of the vault":
        git(vault.path, "update-ref", "refs/vault/restored/abc", snapshot)
    else:
        git(vault.path, "update-ref", "--no-deref", "HEAD", snapshot)
    git(vault.path, "notes", "--ref=vault/feedback", "add", "-m", '{"a": 1}', snapshot)
    keep_only(vault.path, "acme", list(states)[7:])
    vault.sweep()
    with Vault.open(vault.path) as fresh:
        report = fresh.restore_snapshot(snapshot, tmp_path / "back")
    assert report.problems == () and contents(tmp_path / "back") == states[snapshot]
    assert git(vault.path, "notes", "--ref=vault/feedback", "show", snapshot) == '{"a": 1}'
    with pytest.raises(subprocess.CalledProcessError):
        git(vault.path, "cat-file", "-e", gone)


def test_what_other_tools_committed_stays(vault: Vault, states: States, tmp_path: Path) -> None:
    """Without attributes that say which files are large: pointers are found in the tree."""
    tree = git(vault.path, "rev-parse", f"{list(states)[3]}^{{tree}}")
    git(vault.path, "update-ref", "refs/heads/theirs", git(vault.path, "commit-tree", tree, "-m", "by another tool"))
    keep_only(vault.path, "acme", list(states)[7:])
    vault.sweep()
    with Vault.open(vault.path) as fresh:
        fresh.restore_snapshot("theirs", tmp_path / "back")
    assert contents(tmp_path / "back") == list(states.values())[3]


def test_what_only_undo_needs_goes(vault: Vault, states: States, tmp_path: Path) -> None:
    old = git(vault.path, "rev-parse", "refs/heads/acme")
    kept = keep_only(vault.path, "acme", list(states)[6:])
    git(vault.path, "update-ref", f"{sweep.UNDO}7/0", old)
    report = vault.sweep()
    assert any("can no longer be undone" in action for action in report.actions)
    assert report.bytes_freed > 800_000
    assert not git(vault.path, "for-each-ref", sweep.UNDO)
    assert_whole(vault.path, dict(zip(kept, list(states.values())[6:], strict=True)), tmp_path)


def test_after_a_tombstone_not_a_byte_of_what_nothing_needs_is_left(
    vault: Vault, states: States, tmp_path: Path
) -> None:
    """However little it is: part of a frame, a few bytes that something is coded against."""
    secret = b"the password is swordfish, keep it to yourself"
    data = bytearray(NOISE[:500_000])
    data[250_000 : 250_000 + len(secret)] = secret
    write(tmp_path / "acme", {"scene.blend": b"\0" + bytes(data), "secret.txt": secret})
    vault.create_snapshot(tmp_path / "acme")
    (tmp_path / "acme" / "secret.txt").unlink()
    data[250_000 : 250_000 + len(secret)] = bytes(len(secret))
    write(tmp_path / "acme", {"scene.blend": b"\0" + bytes(data)})
    last = vault.create_snapshot(tmp_path / "acme").snapshot

    def stored() -> bytes:
        parts = []
        for path in (vault.path / "chunks").rglob("*.zpk"):
            for _, chunks in by_frame(read_table(path)):
                parts += [vault.store.retrieve_chunk(chunk.id) for chunk in chunks]
        objects = git(vault.path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
        blobs = [line.split()[0] for line in objects.splitlines() if line.endswith(" blob")]
        return b"".join(parts) + b"".join(vault.history.blob(ObjectId(bytes.fromhex(blob))) for blob in blobs)

    assert secret in stored()
    kept = keep_only(vault.path, "acme", [last])
    git(vault.path, "update-ref", sweep.TOMBSTONES, git(vault.path, "rev-parse", "refs/vault/catalog"))
    vault.sweep()
    assert secret not in stored()
    assert_whole(vault.path, {kept[0]: contents(tmp_path / "acme")}, tmp_path)
    assert not vault.sweep().actions
    (vault.path / "cache" / "swept").write_text("not an id")
    assert not vault.sweep().actions


def damage_nothing(vault: Path) -> dict[str, bytes]:
    paths = (path for path in vault.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {str(path): path.read_bytes() for path in paths if path.name != "vault.lock"}


@pytest.mark.parametrize("what", ["refs", "commit", "meta", "pack", "ref"])
def test_what_cannot_be_read_stops_it_before_anything_moves(vault: Vault, states: States, what: str) -> None:
    git(vault.path, "update-ref", f"{sweep.UNDO}1/0", next(iter(states)))
    keep_only(vault.path, "acme", list(states)[6:])
    vault.close()
    if what == "refs":
        shutil.rmtree(vault.path / "refs")
        (vault.path / "refs" / "heads").mkdir(parents=True)
    elif what == "commit":
        git(vault.path, "update-ref", "refs/vault/other", next(iter(states)))
        (vault.path / "refs" / "vault" / "other").write_text("1" * 40 + "\n")
    elif what == "meta":
        blob = git(vault.path, "hash-object", "-w", "--stdin", stdin="gitvault-meta 9\n")
        tree = git(vault.path, "mktree", stdin=f"100644 blob {blob}\t{meta.META_NAME.decode()}\n")
        commit = git(vault.path, "commit-tree", tree, "-m", "x")
        git(vault.path, "update-ref", "refs/vault/other", commit)
    elif what == "pack":
        next((vault.path / "chunks").glob("*.zpk")).write_bytes(b"gone")
    else:
        (vault.path / "refs" / "heads" / "acme").write_text("nonsense\n")
    before = damage_nothing(vault.path)
    with pytest.raises(CorruptionError):
        vault.sweep()
    assert damage_nothing(vault.path) == before


def test_a_tree_that_is_none_stops_it(vault: Vault, states: States) -> None:
    blob = git(vault.path, "hash-object", "-w", "--stdin", stdin="text")
    commit = git(
        vault.path,
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--stdin",
        "--literally",
        stdin=(f"tree {blob}\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nx\n"),
    )
    (vault.path / "refs" / "vault" / "other").write_text(commit + "\n")
    with pytest.raises(CorruptionError, match="expected a tree, found a blob"):
        vault.sweep()


def test_a_missing_blob_of_a_snapshot_stops_git_s_part(vault: Vault, states: States) -> None:
    text = git(vault.path, "cat-file", "commit", "refs/heads/acme")
    tree = git(vault.path, "mktree", "--missing", stdin=f"100644 blob {'1' * 40}\tnotes.txt\n")
    text = text.replace(text.split()[1], tree, 1)
    commit = git(vault.path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text + "\n")
    git(vault.path, "update-ref", "refs/heads/acme", commit)
    packs = sorted((vault.path / "objects" / "pack").glob("*"))
    with pytest.raises(CorruptionError, match="git cannot repack it"):
        vault.sweep()
    assert sorted((vault.path / "objects" / "pack").glob("*")) == packs


def test_a_folder_of_refs_that_cannot_be_listed_is_no_empty_one(
    vault: Vault, states: States, as_nobody: Callable[[Callable[[], None]], None], tmp_path: Path
) -> None:
    for path in (*tmp_path.rglob("*"), tmp_path):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    for above in tmp_path.parents:
        if above.stat().st_mode & 0o055 != 0o055 and above != Path("/"):
            above.chmod(above.stat().st_mode | 0o055)
    packs = list((vault.path / "chunks").glob("*.zpk"))

    def work() -> None:
        (vault.path / "refs" / "heads").chmod(0)
        try:
            with pytest.raises(PermissionError):
                vault.sweep()
        finally:
            (vault.path / "refs" / "heads").chmod(0o700)

    as_nobody(work)
    assert list((vault.path / "chunks").glob("*.zpk")) == packs


def test_another_program_that_writes_objects_keeps_git_s_part_back(
    vault: Vault, states: States, tmp_path: Path
) -> None:
    keep_only(vault.path, "acme", list(states)[4:])
    incoming = vault.path / "objects" / "incoming-x"
    incoming.mkdir()
    assert repack.is_busy(vault.path)
    assert any("another program is writing" in action for action in vault.sweep().actions)
    git(vault.path, "cat-file", "-e", next(iter(states)))
    incoming.rmdir()
    vault.sweep()
    with pytest.raises(subprocess.CalledProcessError):
        git(vault.path, "cat-file", "-e", next(iter(states)))


def test_a_pack_that_git_protects_stays(vault: Vault, states: States) -> None:
    packs = sorted((vault.path / "objects" / "pack").glob("*.pack"))
    packs[0].with_suffix(".keep").touch()
    keep_only(vault.path, "acme", list(states)[6:])
    vault.sweep()
    assert packs[0].exists() and sum(path.exists() for path in packs) < 5 < len(packs)
    assert vault.verify(data=True).ok


def test_a_ref_that_another_program_moves_meanwhile_stops_it(
    vault: Vault, states: States, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been moved comes back; what that ref leads to is there."""
    first = next(iter(states))
    keep_only(vault.path, "acme", list(states)[6:])
    reads = sweep.Reach.large_files

    def moved(self: sweep.Reach) -> object:
        assert self.seen and self.named
        yield from reads(self)
        git(vault.path, "update-ref", "refs/heads/back", first)

    with monkeypatch.context() as patch:
        patch.setattr(sweep.Reach, "large_files", moved)
        with pytest.raises(LockedError, match="another program moved a ref meanwhile"):
            vault.sweep()
    with Vault.open(vault.path) as fresh:
        fresh.restore_snapshot(first, tmp_path / "first")
    assert contents(tmp_path / "first") == states[first]

    # The same behind the chunk store's back, for git's objects alone.
    git(vault.path, "update-ref", "-d", "refs/heads/back")
    for ref in git(vault.path, "for-each-ref", "--format=%(refname)", "refs/vault/restored").split():
        git(vault.path, "update-ref", "-d", ref)
    names = {path.name for path in (vault.path / "objects" / "pack").glob("*.pack")}
    with pytest.raises(LockedError, match="another program moved a ref meanwhile"):
        repack.sweep(vault.path, Disk(), (), unmoved=lambda: False)
    assert names <= {path.name for path in (vault.path / "objects" / "pack").glob("*.pack")}
    git(vault.path, "cat-file", "-e", first)
    assert repack.sweep(vault.path, Disk(), ()) is not None
    with pytest.raises(subprocess.CalledProcessError):
        git(vault.path, "cat-file", "-e", first)
    assert vault.verify(data=True).ok


def test_what_killed_runs_left_goes_too(vault: Vault, states: States, tmp_path: Path) -> None:
    left = [
        "tmp/0123.pack",
        "tmp/repack-ab/objects/pack/x.pack",
        "chunks/tmp/0123.zpk",
        "config.123.tmp",
        "cache/repack.json.99.tmp",
        "cache/stat-gone.db",
        "cache/stat-gone.db-journal",
    ]
    for name in left:
        (vault.path / name).parent.mkdir(parents=True, exist_ok=True)
        (vault.path / name).write_bytes(b"x" * 5000)
    (vault.path / "notes.tmp").touch()
    loose = git(vault.path, "hash-object", "-w", "--stdin", stdin="nobody needs this")
    assert vault.sweep().bytes_freed > 15_000
    assert not [name for name in left if (vault.path / name).exists()]
    assert (vault.path / "cache" / "stat-acme.db").exists() and (vault.path / "notes.tmp").exists()
    assert not (vault.path / "objects" / loose[:2] / loose[2:]).exists()
    assert_whole(vault.path, states, tmp_path)


def test_a_vault_with_nothing_in_it(vault: Vault, tmp_path: Path) -> None:
    assert not vault.sweep().actions
    vault.add_project(write(tmp_path / "acme", {"a": b"a"}))
    assert not vault.sweep().actions
    git(vault.path, "update-ref", "--no-deref", "HEAD", git(vault.path, "rev-parse", "refs/vault/catalog"))
    assert not vault.sweep().actions


class Killed(BaseException):
    """The process is gone."""


class DyingDisk(CountedDisk):
    def __init__(self, left: int) -> None:
        self.left = left

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def unlink(self, path: Path) -> None:
        self.count()
        super().unlink(path)


@pytest.mark.no_cover
def test_a_kill_at_any_operation_loses_nothing_and_the_next_sweep_ends_it(
    vault: Vault, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    states = fill(vault, tmp_path / "acme", 4)
    kept = keep_only(vault.path, "acme", list(states)[2:])
    git(vault.path, "update-ref", f"{sweep.UNDO}1/0", list(states)[1])
    vault.history.write_file(OPERATIONS, RECORD_FILE, b"", "What the undo ref is of")
    vault.close()
    whole = dict(zip(kept, list(states.values())[2:], strict=True))
    at, step = 0, 1 if request.config.getoption("--deep") else 17
    sizes = set()
    while True:
        copy = tmp_path / f"v{at}.git"
        shutil.copytree(vault.path, copy)
        try:
            with Vault(copy, disk=DyingDisk(at)) as dying:
                dying.sweep()
            ended = True
        except Killed:
            ended = False
        assert_whole(copy, whole, tmp_path)
        with Vault.open(copy) as fresh:
            fresh.sweep()
        assert_whole(copy, whole, tmp_path)
        assert_tidy(copy)
        sizes.add(sum(path.stat().st_size for path in (copy / "chunks").glob("*")))
        shutil.rmtree(copy)
        if ended:
            break
        at += step
    assert at > 20 and max(sizes) - min(sizes) < 200_000


# -- the quota -----------------------------------------------------------------------------------


def set_quota(vault: Vault, **values: str | int) -> None:
    for key, value in values.items():
        git(vault.path, "config", f"vault.{key}", str(value))


def test_at_the_quota_a_snapshot_is_refused_and_nothing_is_lost(
    vault: Vault, states: States, command: Command, tmp_path: Path
) -> None:
    taken = sum(path.stat().st_size for path in vault.path.rglob("*") if path.is_file() and "cache" not in path.parts)
    set_quota(vault, quota=taken + 300_000)
    write(tmp_path / "acme", {"large/more.bin": b"\0" + NOISE[3_000_000:3_200_000]})
    done = command("snapshot", tmp_path / "acme", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert any("vault.quota allows" in note for note in report["notes"]), "90 % is not said"
    states[report["snapshot"]] = contents(tmp_path / "acme")

    write(tmp_path / "acme", {"large/most.bin": b"\0" + NOISE[4_000_000:4_400_000]})
    done = command("snapshot", tmp_path / "acme")
    assert done.returncode == 12 and "that vault.quota allows are taken" in done.stderr
    assert_whole(vault.path, states, tmp_path)
    assert not list((vault.path / "chunks" / "tmp").glob("*"))
    # The small files' pack is asked about as well.
    (tmp_path / "acme" / "large" / "most.bin").unlink()
    write(
        tmp_path / "acme", {f"src/more{n}.c": random.Random(90 + n).randbytes(30_000).hex().encode() for n in range(9)}
    )
    done = command("snapshot", tmp_path / "acme")
    assert done.returncode == 12 and not list((vault.path / "tmp").glob("*"))
    assert_whole(vault.path, states, tmp_path)
    set_quota(vault, quota=1000)
    assert command("snapshot", tmp_path / "acme").returncode == 12
    set_quota(vault, quota="1g")
    done = command("snapshot", tmp_path / "acme", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["notes"] == []


def test_at_the_quota_snapshots_go_by_the_policy_where_that_is_wanted(
    vault: Vault, states: States, tmp_path: Path
) -> None:
    taken = sum(path.stat().st_size for path in vault.path.rglob("*") if path.is_file() and "cache" not in path.parts)
    set_quota(vault, quota=taken + 100_000, quotaPolicy="prune", keepLast=2)
    write(tmp_path / "acme", {"large/more.bin": b"\0" + NOISE[3_000_000:3_300_000]})
    with Vault.open(vault.path) as small:
        report = small.create_snapshot(tmp_path / "acme")
    whole = dict(list(states.items())[-2:])
    assert_whole(vault.path, whole | {report.snapshot: contents(tmp_path / "acme")}, tmp_path)

    # What the policy keeps is too much: refused after all.
    set_quota(vault, quota=50_000)
    write(tmp_path / "acme", {"large/even more.bin": b"\0" + NOISE[4_000_000:4_300_000]})
    with Vault.open(vault.path) as small, pytest.raises(StorageFullError, match=r"vault\.quota allows"):
        small.create_snapshot(tmp_path / "acme")


def test_a_policy_that_says_nothing_is_said(vault: Vault, states: States, tmp_path: Path) -> None:
    set_quota(vault, quota=50_000, quotaPolicy="prune")
    with Vault.open(vault.path) as small, pytest.raises(StorageFullError, match="is prune, but no rule says"):
        small.create_snapshot(tmp_path / "acme")
