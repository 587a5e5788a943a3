"""Repacking makes the git side as small as git gc would, and at no moment is anything lost."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from disks import CountedDisk

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk, NewFile
from gitvault.core.utils.process import git
from gitvault.core.versioning import repack as module
from gitvault.core.versioning.objects import MODE_FILE, MODE_TREE, Commit, Signature, encode_commit, encode_tree
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter, publish
from gitvault.core.versioning.refs import RefStore
from gitvault.core.versioning.repack import RepackReport, damage_named, due, repack
from gitvault.core.versioning.rolling import Scratch, is_lossy
from gitvault.errors import CorruptionError, LockedError, ToolFailed

pytestmark = pytest.mark.needs("git")


class History:
    """A project of generated text that changes; every version is one pack, as a snapshot writes it."""

    def __init__(self, vault: Path, files: int = 120) -> None:
        subprocess.run(["git", "init", "-q", "--bare", vault], check=True)
        (vault / "tmp").mkdir()
        self.vault = vault
        self.rng = random.Random(5)
        self.words = ["".join(self.rng.choices("abcdefghij_", k=self.rng.randint(3, 9))) for _ in range(700)]
        self.files = {b"%03d.c" % n: [self.line() for _ in range(self.rng.randint(20, 160))] for n in range(files)}
        self.commits = 0

    def line(self) -> str:
        return " ".join(self.rng.choices(self.words, k=self.rng.randint(2, 9)))

    def save(self, changes: int = 8) -> None:
        for name in self.rng.sample(sorted(self.files), changes):
            at = self.rng.randrange(len(self.files[name]))
            self.files[name][at : at + 1] = [self.line(), self.line()]
        writer = PackWriter(self.vault / "tmp", Disk())
        with ObjectStore(self.vault / "objects") as store:

            def add(kind: bytes, data: bytes) -> ObjectId:
                oid = module_object_id(kind, data)
                return oid if store.contains(oid) else writer.add(kind, data)

            blobs = [(n, MODE_FILE, add(b"blob", "\n".join(lines).encode())) for n, lines in self.files.items()]
            folders = [
                (b"d%d" % n, MODE_TREE, add(b"tree", encode_tree(blobs[n : n + 20]))) for n in range(0, len(blobs), 20)
            ]
            tree = add(b"tree", encode_tree(folders))
        refs = RefStore(self.vault, Disk())
        parent = refs.read("refs/heads/main")
        who = Signature("A", "a@example.invalid", 1_700_000_000 + self.commits * 3600)
        self.commits += 1
        commit = writer.add(b"commit", encode_commit(Commit(tree, (parent,) if parent else (), who, who, "m\n")))
        pack = writer.finish()
        assert pack is not None
        publish(pack, self.vault / "objects" / "pack", Disk())
        refs.update("refs/heads/main", commit, old=parent)


def module_object_id(kind: bytes, data: bytes) -> ObjectId:
    from gitvault.core.versioning.objects import object_id

    return object_id(kind, data)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "v.git")


def packs(vault: Path) -> list[Path]:
    return sorted((vault / "objects" / "pack").glob("*.pack"))


def bytes_of(vault: Path) -> int:
    return sum(path.stat().st_size for path in (vault / "objects" / "pack").iterdir())


def everything(vault: Path) -> dict[str, bytes]:
    """Every file of every version, read by git."""
    commits = git(vault, "rev-list", "--all").decode().split()
    return {commit: git(vault, "archive", commit) for commit in commits}


def test_repacked_vault_is_as_small_as_gc_makes_it(history: History, tmp_path: Path) -> None:
    for _ in range(30):
        history.save()
    before = everything(history.vault)
    # gc as a person would run it on the same commits: it would reuse our quick deflate from a copied pack
    plain = tmp_path / "plain.git"
    subprocess.run(["git", "init", "-q", "--bare", plain], check=True)
    for pack in packs(history.vault):
        git(plain, "unpack-objects", "-q", stdin=pack.read_bytes())
    git(plain, "update-ref", "refs/heads/main", git(history.vault, "rev-parse", "main").decode().strip())
    git(plain, "gc", "-q", "--prune=now")

    steps: list[tuple[str, int, int]] = []
    report = repack(history.vault, Disk(), idle=False, progress=lambda *step: steps.append(step))
    assert isinstance(report, RepackReport)
    assert (report.packs_before, report.packs_after) == (30, 1)
    assert report.deflated > 120
    assert report.summary().startswith("30 packs became 1, ")
    assert report.bytes_before > 2 * report.bytes_after
    assert report.bytes_after == bytes_of(history.vault) <= 1.05 * bytes_of(plain)
    assert everything(history.vault) == before
    assert git(history.vault, "fsck", "--full", "--strict") == b""
    assert list((history.vault / "trash").iterdir()) == list((history.vault / "tmp").iterdir()) == []
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)

    # Small steps deflate only what is new and stay close to the best.
    for _ in range(6):
        history.save(2)
        history.save(2)
        report = repack(history.vault, Disk())
        assert report.packs_after == 1 and report.deflated < 40
    lean = tmp_path / "lean.git"
    shutil.copytree(history.vault, lean)
    git(lean, "repack", "-adfFq")
    assert bytes_of(history.vault) <= 1.1 * bytes_of(lean)
    assert git(history.vault, "fsck", "--full", "--strict") == b""


def test_due_says_why_a_repack_pays(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    assert due(history.vault) is None and due(history.vault, asked=True) is None
    history.save()
    assert due(history.vault) is None
    assert due(history.vault, asked=True) == "1 packs are new"
    monkeypatch.setattr(module, "_MIN_BYTES", 1000)
    assert "MiB have come" in str(due(history.vault))
    repack(history.vault, Disk())
    assert due(history.vault, asked=True) is None
    monkeypatch.setattr(module, "_MANY_PACKS", 2)
    monkeypatch.setattr(module, "_MIN_BYTES", 1 << 30)
    for _ in range(3):
        history.save()
    assert due(history.vault) == "3 packs have come since the last repack"
    for content in (b"", b"{", b"[]", b'{"packs": 5, "reused": 0}', b'{"packs": []}'):
        (history.vault / "cache" / "repack.json").write_bytes(content)
        assert due(history.vault) == "4 packs have come since the last repack"
    assert repack(history.vault, Disk()).packs_after == 1


def test_vault_without_refs_is_left_alone(history: History) -> None:
    report = repack(history.vault, Disk())
    assert (report.packs_before, report.packs_after) == (0, 0)


def test_big_pack_is_kept_and_only_what_is_new_is_repacked(history: History) -> None:
    history.save()
    repack(history.vault, Disk())
    (big,) = packs(history.vault)
    for _ in range(3):
        history.save()
    before = everything(history.vault)
    report = repack(history.vault, Disk(), big_pack=150_000)
    assert report.packs_after == 2 and big in packs(history.vault)
    assert everything(history.vault) == before
    assert git(history.vault, "fsck", "--full", "--strict") == b""
    (new,) = set(packs(history.vault)) - {big}
    assert new.stat().st_size < big.stat().st_size / 4
    # A pack that its owner marked is kept too.
    new.with_suffix(".keep").touch()
    repack(history.vault, Disk())
    assert new in packs(history.vault) and len(packs(history.vault)) == 2


class DiskWithoutLinks(Disk):
    """As FAT is."""

    def link(self, source: Path, target: Path) -> None:
        raise OSError("not supported")


def test_big_pack_is_written_anew_where_there_are_no_links(history: History) -> None:
    history.save()
    repack(history.vault, Disk())
    history.save()
    before = everything(history.vault)
    assert repack(history.vault, DiskWithoutLinks(), big_pack=10_000).packs_after == 1
    assert everything(history.vault) == before


def orphan(history: History) -> ObjectId:
    writer = PackWriter(history.vault / "tmp", Disk())
    oid = writer.add(b"blob", b"of an unfinished run")
    pack = writer.finish()
    assert pack is not None
    publish(pack, history.vault / "objects" / "pack", Disk())
    return oid


def test_objects_without_a_ref_go_only_when_old(history: History) -> None:
    history.save()
    oid = orphan(history)
    repack(history.vault, Disk())
    assert ObjectStore(history.vault / "objects").contains(oid)
    assert due(history.vault, asked=True) is None
    for path in (history.vault / "objects" / "pack").iterdir():
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    repack(history.vault, Disk())
    assert not ObjectStore(history.vault / "objects").contains(oid)
    assert len(packs(history.vault)) == 1


@pytest.mark.parametrize("passes", [0, 1])
def test_nothing_goes_when_another_machine_took_over(history: History, passes: int) -> None:
    """It may have found what no ref reached when this run read the refs, and relies on it since."""
    for _ in range(3):
        history.save()
    oid = orphan(history)
    for path in (history.vault / "objects" / "pack").iterdir():
        os.utime(path, (1, 1))
    calls = 0

    def guard() -> None:
        nonlocal calls
        calls += 1
        if calls > passes:
            raise LockedError("taken over")

    with pytest.raises(LockedError, match="taken over"):
        repack(history.vault, Disk(), guard=guard)
    assert calls == passes + 1
    assert git(history.vault, "cat-file", "-t", oid.hex()) == b"blob\n"
    git(history.vault, "fsck", "--strict")
    assert not list(history.vault.glob("trash/*"))
    repack(history.vault, Disk())
    assert len(packs(history.vault)) == 1


def test_tags_notes_blobs_detached_head_and_loose_objects_are_packed(history: History) -> None:
    history.save()
    vault = history.vault
    git(vault, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-m", "x", "v1", "main")
    git(vault, "-c", "user.name=a", "-c", "user.email=a@b", "notes", "add", "-m", "note", "main")
    blob = git(vault, "hash-object", "-w", "--stdin", stdin=b"a record").decode().strip()
    git(vault, "update-ref", "refs/vault/record", blob)
    tree = git(vault, "rev-parse", "main^{tree}").decode().strip()
    detached = git(vault, "-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-m", "d", tree).decode().strip()
    (vault / "HEAD").write_text(f"{detached}\n")
    dangling = git(vault, "hash-object", "-w", "--stdin", stdin=b"dangling").decode().strip()
    git(vault, "multi-pack-index", "write")
    repack(vault, Disk())
    assert len(packs(vault)) == 1
    assert git(vault, "count-objects").startswith(b"1 objects")
    assert git(vault, "cat-file", "blob", dangling) == b"dangling"
    assert git(vault, "cat-file", "blob", "refs/vault/record") == b"a record"
    assert git(vault, "notes", "show", "main") == b"note\n"
    assert b"tagger" in git(vault, "cat-file", "tag", "v1")
    assert git(vault, "cat-file", "-t", detached) == b"commit\n"
    assert git(vault, "fsck", "--full", "--strict", "--no-dangling") == b""


def test_readers_survive_a_repack(history: History) -> None:
    for _ in range(3):
        history.save()
    ids = [
        ObjectId(bytes.fromhex(line.split()[0]))
        for line in git(history.vault, "rev-list", "--objects", "main").decode().splitlines()
    ]
    with ObjectStore(history.vault / "objects") as mapped, ObjectStore(history.vault / "objects") as opened:
        opened.contains(ids[0])
        reading = mapped.read_many(ids)
        first = next(reading)
        repack(history.vault, Disk())
        assert {oid for oid, _, _ in [first, *reading]} == set(ids)
        assert {oid for oid, _, _ in opened.read_many(ids)} == set(ids)


def test_what_git_calls_fatal_is_damage_and_what_ended_it_is_not(tmp_path: Path) -> None:
    said = r"git cannot repack it \(fatal: bad tree\); run git-vault verify"
    with pytest.raises(CorruptionError, match=said), damage_named(tmp_path):
        raise ToolFailed("git pack-objects", 128, "warning: x\nfatal: bad tree\n")
    for code in (-9, 1):
        with pytest.raises(ToolFailed), damage_named(tmp_path):
            raise ToolFailed("git pack-objects", code, "")


def test_unreadable_ref_or_missing_object_stops_before_anything_changes(history: History) -> None:
    history.save()
    history.save()
    before = packs(history.vault)
    ref = history.vault / "refs" / "heads" / "broken"
    ref.write_text("")
    with pytest.raises(CorruptionError, match="broken"):
        repack(history.vault, Disk())
    ref.write_text("1" * 40 + "\n")
    with pytest.raises(ToolFailed, match="bad object 1111"):
        repack(history.vault, Disk())
    assert packs(history.vault) == before
    assert list((history.vault / "tmp").iterdir()) == []


class Killed(BaseException):
    """The process ends here."""


class DyingFile(NewFile):
    """Of a DyingDisk; half of what it is given when the process ends may have come to the disk."""

    def __init__(self, path: Path, mode: int, disk: DyingDisk) -> None:
        super().__init__(path, mode)
        self.disk = disk

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.disk.left:
            super().write(data[: len(data) // 2])
        self.disk.count()
        super().write(data)

    def overwrite(self, offset: int, data: bytes) -> None:
        self.disk.count()
        super().overwrite(offset, data)

    def sync(self) -> None:
        self.disk.count()
        super().sync()


class DyingDisk(CountedDisk):
    """Stops at the n-th change; later calls, made by cleaning up, do nothing: the process is gone."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        self.count()
        return DyingFile(path, mode, self)

    def link(self, source: Path, target: Path) -> None:
        self.count()
        super().link(source, target)

    def make_folder(self, path: Path, mode: int = 0o700) -> None:
        self.count()
        super().make_folder(path, mode)

    def remove_folder(self, path: Path) -> None:
        self.count()
        super().remove_folder(path)

    def unlink(self, path: Path) -> None:
        self.count()
        super().unlink(path)


def test_a_scratch_repository_borrows_all_and_leaves_nothing(history: History) -> None:
    history.save()
    tip = git(history.vault, "rev-parse", "main").decode().strip()
    names = [path.stem for path in packs(history.vault)]
    (history.vault / "tmp" / "repack-killed" / "out").mkdir(parents=True)
    with Scratch(history.vault, Disk()) as scratch:
        assert scratch.lend(names) == set(names)
        assert scratch.roll([ObjectId(bytes.fromhex(tip))], names, (), progress=None, idle=False) == (0, set())
        assert git(scratch.path, "cat-file", "-t", tip) == b"commit\n"
        assert [path.name for path in (history.vault / "tmp").iterdir()] == [scratch.path.name]
    assert not list((history.vault / "tmp").iterdir())
    assert not is_lossy(history.vault)


@pytest.mark.no_cover
def test_kill_at_any_step_leaves_everything_readable(
    history: History, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for _ in range(3):
        history.save()
    git(history.vault, "hash-object", "-w", "--stdin", stdin=b"loose")
    before = everything(history.vault)
    ids = [
        bytes.fromhex(x.split()[0]) for x in git(history.vault, "rev-list", "--objects", "main").decode().splitlines()
    ]
    step, every = 0, 1 if request.config.getoption("--deep") else 7
    while True:
        vault = tmp_path / "copy.git"
        shutil.copytree(history.vault, vault)
        try:
            repack(vault, DyingDisk(step), idle=False)
            break
        except Killed:
            pass
        with ObjectStore(vault / "objects") as store:
            assert sum(1 for _ in store.read_many(map(ObjectId, ids))) == len(ids)
        git(vault, "fsck", "--connectivity-only")
        if step % 2 == 0:
            assert everything(vault) == before
            repack(vault, Disk(), idle=False)
            assert len(packs(vault)) == 1 and everything(vault) == before
            assert list((vault / "tmp").iterdir()) == list((vault / "trash").iterdir()) == []
        shutil.rmtree(vault)
        step += every
    assert step > 50


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_real_kill_during_packing_leaves_a_readable_vault(history: History, steps: int) -> None:
    for _ in range(5):
        history.save()
    before = everything(history.vault)
    script = (
        "import sys; from pathlib import Path; from gitvault.core.utils.files import Disk\n"
        "from gitvault.core.versioning.repack import repack\n"
        "repack(Path(sys.argv[1]), Disk(), progress=lambda *step: print(step, flush=True))"
    )
    child = subprocess.Popen([sys.executable, "-c", script, history.vault], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(steps):
        child.stdout.readline()
    child.kill()
    child.wait()
    child.stdout.close()
    assert everything(history.vault) == before
    repack(history.vault, Disk())
    assert everything(history.vault) == before
    assert len(packs(history.vault)) == 1


class LosingDisk(Disk):
    """Loses every pack as soon as the first one is moved to the trash."""

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        if target.parent.name == "trash" and target.suffix == ".pack":
            for path in source.parent.iterdir():
                path.unlink()


def test_trash_is_kept_when_something_is_missing_afterwards(history: History) -> None:
    history.save()
    with pytest.raises(CorruptionError, match=r"missing after the repack; move the packs in .*trash back"):
        repack(history.vault, LosingDisk())
    assert list((history.vault / "trash").iterdir())
