"""A damaged vault is healed from copies, parity and originals; what cannot be is lost in the open, and nothing else."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from damage import lose
from disks import CountedDisk
from trees import contents, differences, write

from gitvault import config
from gitvault.core.backup_engine import repair
from gitvault.core.backup_engine.frame import keep_copy, mend_frame
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.backup_engine.verify import verify_vault
from gitvault.core.models import Defect, Repair, SnapshotId, VerifyReport
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk, NewFile
from gitvault.core.utils.layout import is_damaged
from gitvault.core.versioning import catalog, losses, records
from gitvault.core.versioning.contents import find
from gitvault.core.versioning.history import LOST, OPERATIONS, GitHistory, raw
from gitvault.core.versioning.operations import tombstones
from gitvault.core.versioning.salvage import reachable
from gitvault.errors import CorruptionError, NotFoundError, VaultNotFound
from gitvault.remotes import settings as remotes
from gitvault.vault import Vault

Command = Callable[..., subprocess.CompletedProcess[str]]
Damage = Callable[[Path], object]
NOISE = random.Random(2).randbytes(900_000)
VERSIONS = 3


def edit(project: Path, version: int) -> None:
    """The project as it is in a version: a large file edited, small ones changed, one never."""
    data = bytearray(NOISE[:700_000])
    for number in range(version):
        data[200_000 * (number + 1)] ^= 1
    write(project, {"art/big.bin": bytes(data), "art/raw.bin": b"\0" + NOISE[700_000:]})
    write(project, {f"src/part{number}.c": b"int x = %d;\n" % number * 50 for number in range(12)})
    write(project, {"src/main.c": b"int main(void) { return %d; }\n" % version})
    if not (project / "link").is_symlink():
        write(project, {"link": "src/main.c"})


class Saved:
    """A project with a few snapshots, its vault, and what each snapshot gives back."""

    def __init__(self, folder: Path, parity: int = 0) -> None:
        self.folder = folder
        self.vault = folder / "vault.git"
        self.project = folder / "acme"
        self.snapshots: list[SnapshotId] = []
        Vault.create(self.vault).close()
        config.set(self.vault, "vault.maintenance", "off")
        config.set(self.vault, "vault.parity", parity)
        with Vault.open(self.vault) as vault:
            for version in range(VERSIONS):
                edit(self.project, version)
                self.snapshots.append(vault.create_snapshot(self.project).snapshot)
                vault.restore_snapshot(self.snapshots[-1], folder / f"restored-{version}")
            vault.history.refs.list("refs/vault/restored/")
            for ref in vault.history.refs.list("refs/vault/restored/"):
                vault.history.refs.delete(ref)

    def assert_whole(self, vault: Vault, but: frozenset[bytes] = frozenset()) -> None:
        """Every snapshot comes back byte for byte, times and modes too; but those paths."""
        shutil.rmtree(self.folder / "again", ignore_errors=True)
        for version, snapshot in enumerate(vault.history.list_versions("acme")):
            again = self.folder / "again" / str(version)
            vault.restore_snapshot(snapshot.id, again)
            assert not differences(self.folder / f"restored-{VERSIONS - 1 - version}", again).keys() - but


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Saved(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Saved(tmp_path_factory.mktemp("protected"), parity=5)


@pytest.fixture
def gone(plain: Saved) -> Iterator[None]:
    """The originals are not there."""
    plain.project.rename(plain.folder / "hidden")
    yield
    (plain.folder / "hidden").rename(plain.project)


def change(path: Path, edit: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    edit(data)
    path.chmod(0o600)
    path.write_bytes(data)


def flip(path: Path, at: float) -> None:
    change(path, lambda data: data.__setitem__(int(at * (len(data) - 1)), data[int(at * (len(data) - 1))] ^ 0x40))


def burst(path: Path) -> None:
    def wipe(data: bytearray) -> None:
        start, stop = len(data) // 4, len(data) // 2
        data[start:stop] = bytes(stop - start)

    change(path, wipe)


def by_size(vault: Path, pattern: str) -> list[Path]:
    return sorted(vault.glob(pattern), key=lambda path: -path.stat().st_size)


def chunk_pack(vault: Path) -> Path:
    return by_size(vault, "chunks/*.zpk")[0]


def git_pack(vault: Path) -> Path:
    return by_size(vault, "objects/pack/*.pack")[0]


CHUNK_DAMAGE: dict[str, Damage] = {
    "a flip": lambda vault: flip(chunk_pack(vault), 0.5),
    "a burst": lambda vault: burst(chunk_pack(vault)),
    "the tail of the table": lambda vault: os.truncate(chunk_pack(vault), chunk_pack(vault).stat().st_size - 60),
    "both tables": lambda vault: change(chunk_pack(vault), lambda data: data.__delitem__(slice(-1500, None))),
    "the head": lambda vault: flip(chunk_pack(vault), 0),
    "every delta": lambda vault: [flip(path, 0.2) for path in by_size(vault, "chunks/*.zpk")[1:]],
    "small packs gone": lambda vault: [path.unlink() for path in by_size(vault, "chunks/*.zpk")[1:]],
}
GIT_DAMAGE: dict[str, Damage] = {
    "flips": lambda vault: [flip(path, 0.3) for path in vault.glob("objects/pack/*.pack")],
    "a header": lambda vault: change(git_pack(vault), lambda data: data.__setitem__(9, 1)),
    "a checksum": lambda vault: flip(git_pack(vault), 1),
    "cut short": lambda vault: os.truncate(git_pack(vault), git_pack(vault).stat().st_size // 2),
    "a pack gone": lambda vault: git_pack(vault).unlink(),
    "packs and indexes gone": lambda vault: [path.unlink() for path in vault.glob("objects/pack/*")],
}
INDEX_DAMAGE: dict[str, Damage] = {
    "flips in indexes": lambda vault: [flip(path, 0.7) for path in vault.glob("objects/pack/*.idx")],
    "indexes gone": lambda vault: [path.unlink() for path in vault.glob("objects/pack/*.idx")],
    "an empty index": lambda vault: os.truncate(git_pack(vault).with_suffix(".idx"), 0),
}


def repaired(saved: Saved, folder: Path, damage: Damage, *copies: Path) -> tuple[Vault, VerifyReport]:
    """A damaged copy of the vault, found damaged, repaired, and clean afterwards."""
    path = folder / "damaged.git"
    shutil.copytree(saved.vault, path)
    damage(path)
    Vault.mend(path)
    vault = Vault.open(path)
    report = vault.verify(repair=True, copies=copies)
    again = vault.verify(data=True)
    assert again.ok, again.defects
    assert {loss.object for loss in again.quarantined} >= {defect.object for defect in report.defects}
    assert vault.verify().ok
    return vault, report


@pytest.mark.parametrize("damage", [*CHUNK_DAMAGE, *GIT_DAMAGE, *INDEX_DAMAGE])
def test_parity_heals_packs(damage: str, protected: Saved, tmp_path: Path) -> None:
    vault, report = repaired(protected, tmp_path, (CHUNK_DAMAGE | GIT_DAMAGE | INDEX_DAMAGE)[damage])
    with vault:
        assert report.ok and report.repaired and not report.quarantined
        protected.assert_whole(vault)
        assert not list(vault.path.glob("quarantine/*"))


@pytest.mark.parametrize("damage", [*CHUNK_DAMAGE, *GIT_DAMAGE, *INDEX_DAMAGE])
def test_a_second_vault_heals_everything(damage: str, plain: Saved, tmp_path: Path, gone: None) -> None:
    wounds = CHUNK_DAMAGE | GIT_DAMAGE | INDEX_DAMAGE
    vault, report = repaired(plain, tmp_path, wounds[damage], plain.vault)
    with vault:
        assert report.ok and report.repaired and not report.quarantined
        plain.assert_whole(vault)


@pytest.mark.parametrize("damage", [*CHUNK_DAMAGE, "all packs gone"])
def test_a_second_vault_with_other_packs_heals_chunks(damage: str, plain: Saved, tmp_path: Path, gone: None) -> None:
    """One by one, when no file is the same in both."""
    other = tmp_path / "other.git"
    shutil.copytree(plain.vault, other)
    with Vault.open(other) as vault:
        vault.maintain()
    wounds = CHUNK_DAMAGE | {"all packs gone": lambda vault: [path.unlink() for path in vault.glob("chunks/*.zpk")]}
    vault, report = repaired(plain, tmp_path, wounds[damage], other)
    with vault:
        assert report.ok and report.repaired
        plain.assert_whole(vault)


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_an_index_is_made_from_its_pack(damage: str, plain: Saved, tmp_path: Path, gone: None) -> None:
    vault, report = repaired(plain, tmp_path, INDEX_DAMAGE[damage])
    with vault:
        assert {done.kind for done in report.repaired} == {"index"}
        plain.assert_whole(vault)
        assert not list(vault.path.glob("quarantine/*"))


@pytest.mark.parametrize("damage", ["the tail of the table", "both tables", "the head"])
def test_a_pack_whose_frames_are_sound_needs_no_help(damage: str, plain: Saved, tmp_path: Path, gone: None) -> None:
    vault, report = repaired(plain, tmp_path, CHUNK_DAMAGE[damage])
    with vault:
        if damage == "both tables":
            # What is behind the frames is a few chunks of text: only the frames that are cut off may be lost.
            assert {defect.kind for defect in report.defects} <= {"chunk", "manifest", "pointer"}
        else:
            assert report.ok
            plain.assert_whole(vault)


@pytest.mark.parametrize("damage", ["a flip", "a burst"])
def test_the_original_gives_its_content_and_what_it_shares_with_earlier_ones(
    damage: str, plain: Saved, tmp_path: Path
) -> None:
    """The newest version is the file itself; of the others what is lost is what was edited since."""
    vault, report = repaired(plain, tmp_path, CHUNK_DAMAGE[damage])
    with vault:
        assert any("cut from" in done.how for done in report.repaired)
        vault.restore_snapshot(plain.snapshots[-1], tmp_path / "newest")
        assert not differences(plain.folder / f"restored-{VERSIONS - 1}", tmp_path / "newest")
        assert {place.path for defect in report.defects for place in defect.affects} <= {b"art/big.bin"}
        assert all(plain.snapshots[-1] != place.snapshot for defect in report.defects for place in defect.affects)


def test_small_files_come_back_from_their_originals(plain: Saved, tmp_path: Path) -> None:
    lost = b"src/part7.c"
    with Vault.open(plain.vault) as vault:
        oid = find(vault.history, plain.snapshots[0], lost)[0].blob
    vault, report = repaired(plain, tmp_path, lambda path: spoil(path, oid.hex()))
    with vault:
        assert report.ok
        assert [(done.object, done.how) for done in report.repaired if done.kind == "object"] == [
            (oid.hex(), "the original file")
        ]
        plain.assert_whole(vault)


def spoil(vault: Path, oid: str) -> None:
    """Flip a bit of one object in its pack."""
    for index in vault.glob("objects/pack/*.idx"):
        listed = subprocess.run(
            ["git", "show-index"], input=index.read_bytes(), capture_output=True, check=True
        ).stdout.decode()
        for line in listed.splitlines():
            if line.split()[1] == oid:
                at = int(line.split()[0]) + 8
                change(index.with_suffix(".pack"), lambda data, at=at: data.__setitem__(at, data[at] ^ 0x10))


@pytest.mark.parametrize("lost", [b"src/main.c", b"src", b"art/raw.bin"])
def test_what_is_lost_is_one_object_and_it_is_listed(lost: bytes, plain: Saved, tmp_path: Path, gone: None) -> None:
    """A blob, a tree, a pointer's blob, which alone is known otherwise."""
    with Vault.open(plain.vault) as vault:
        oid = find(vault.history, plain.snapshots[1], lost)[0].blob.hex()
    vault, report = repaired(plain, tmp_path, lambda path: spoil(path, oid))
    with vault:
        if lost == b"art/raw.bin":
            assert report.ok
            plain.assert_whole(vault)
            return
        assert [defect.object for defect in report.defects] == [oid]
        assert report.quarantined == report.defects
        assert {place.path for place in report.defects[0].affects} == {lost}
        assert [(loss.kind, loss.object) for loss in losses.load(vault.history)] == [(report.defects[0].kind, oid)]
        snapshot = plain.snapshots[1]
        done = vault.restore_snapshot(snapshot, tmp_path / "partly")
        assert any(problem.path.startswith(lost) for problem in done.problems)
        missing = contents(plain.folder / "restored-1").keys() - contents(tmp_path / "partly").keys()
        assert all(path.startswith(lost) for path in missing)
        assert sum(1 for _ in vault.path.glob("quarantine/pack-*.pack")) == 1
        # It is said again, and it is no news.
        second = vault.verify(repair=True)
        assert second.ok and [loss.object for loss in second.quarantined] == [oid]
        # A copy that turns up later gives it back, and nothing is listed any more.
        third = vault.verify(repair=True, copies=[plain.vault])
        assert third.ok and third.repaired and not third.quarantined
        plain.assert_whole(vault)


def test_a_lost_large_file_is_listed_and_the_next_snapshot_of_it_brings_it_back(
    plain: Saved, tmp_path: Path, gone: None
) -> None:
    vault, report = repaired(plain, tmp_path, CHUNK_DAMAGE["a flip"])
    with vault:
        assert not report.ok
        touched = {place.path for defect in report.defects for place in defect.affects}
        assert touched == {b"art/big.bin"}
        plain.assert_whole(vault, but=frozenset({b"art/big.bin", b"art"}))
        shutil.copytree(plain.folder / "restored-2", tmp_path / "acme", symlinks=True)
        vault.create_snapshot(tmp_path / "acme", project="second")
        vault.restore_snapshot(plain.snapshots[-1], tmp_path / "newest")
        assert (tmp_path / "newest/art/big.bin").read_bytes() == (tmp_path / "acme/art/big.bin").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda vault: (vault / "refs/heads/acme").write_text("garbage"),
        lambda vault: (vault / "refs/heads/acme").write_bytes(bytes(41)),
        lambda vault: (vault / "refs/heads/acme").write_text("12" * 20 + "\n"),
        lambda vault: (vault / "refs/heads/acme").unlink(),
        lambda vault: (vault / "refs/vault/meta/acme").write_text(""),
        lambda vault: (vault / "refs/vault/meta/acme").unlink(),
        lambda vault: (vault / "refs/vault/catalog").write_text("x"),
        lambda vault: [
            subprocess.run(["git", f"--git-dir={vault}", "pack-refs", "--all"], check=True),
            change(vault / "packed-refs", lambda data: data.__setitem__(data.index(b" refs/heads") - 3, 0x7A)),
        ],
        lambda vault: (vault / "HEAD").write_text("x"),
        lambda vault: (vault / "HEAD").unlink(),
        lambda vault: (vault / "config").write_text("[core"),
        lambda vault: change(vault / "config", lambda data: data.__setitem__(data.index(b"bare") + 1, 0x7A)),
        lambda vault: (vault / "config").unlink(),
        lambda vault: (vault / "info/attributes").unlink(),
    ],
)
def test_refs_and_the_vaults_own_files(damage: Damage, plain: Saved, tmp_path: Path, gone: None) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    damage(path)
    mended = Vault.mend(path)
    with Vault.open(path) as vault:
        report = vault.verify(repair=True)
        assert mended or report.repaired
        assert vault.verify(data=True).ok
        if report.defects:
            # A ref that named what never was: that is listed, the project goes on.
            assert [(defect.kind, defect.object) for defect in report.defects] == [("commit", "12" * 20)]
        assert [snapshot.id for snapshot in vault.list_snapshots()] == plain.snapshots[::-1]
        assert [project.name for project in vault.projects()] == ["acme"]
        plain.assert_whole(vault)
        assert config.load(path).maintenance == "off" or "config" in {done.object for done in mended}
        head = subprocess.run(["git", f"--git-dir={path}", "log", "-1", "--format=%H"], capture_output=True, check=True)
        assert head.stdout.decode().strip() == plain.snapshots[-1]


def test_settings_survive_a_damaged_config(plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    config.set(path, "vault.avgChunk", "256k")
    change(path / "config", lambda data: data.__setitem__(data.index(b"[core"), 0x5B - 0x20))
    assert Vault.mend(path) == [Repair("vault", "config", "written anew, settings kept: 4")]
    loaded = config.load(path)
    assert (loaded.avg_chunk, loaded.maintenance, loaded.format_version) == (256 << 10, "off", config.FORMAT_VERSION)
    assert Vault.mend(path) == []
    assert mend_frame(tmp_path, lambda *_: True, Disk()) == []
    keep_copy(tmp_path / "missing", tmp_path, Disk())
    assert Vault.mend(tmp_path) == [] and not (tmp_path / "HEAD").exists()


@pytest.mark.parametrize("name", ["HEAD", "config"])
def test_a_vault_whose_frame_is_gone_is_not_taken_for_none(name: str, plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    (path / name).unlink()
    assert is_damaged(path)
    with pytest.raises(VaultNotFound, match=f"gone; write it anew with: git-vault --vault {path} verify --repair"):
        Vault.open(path)
    Vault.mend(path)
    assert not is_damaged(path)


SECTIONS = """\
[vault "remote.usb"]
\turl = /mnt/usb/vault
\tauto = true
\tid = 0123456789abcdef0123456789abcdef
[Remote "origin"] # not ours
\turl = "git@example.org:a;b"
\tfetch = +refs/*:refs/*
[user]
\tname = Ann \\
      Example
"""


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("[core]", ";core]"),
        lambda text: text.replace("bare = true", 'bare = "true'),
        lambda text: text.replace("[vault]\n", ";vault]\n"),
        lambda text: text.replace("[vault]\n", "[vaul4]\n"),
        lambda text: text.replace("[vault]\n", "[vault\0\n"),
        lambda text: text.replace("\turl = /mnt", "\t\0\1\n\turl = /mnt"),
        lambda text: "[include]\n\tpath = /dev/zero\n" + text.replace("[gc]", "[gc"),
    ],
)
def test_sections_survive_a_damaged_config(damage: Callable[[str], str], plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    config.set(path, "vault.avgChunk", "256k")
    before = config.load(path)
    file = path / "config"
    file.write_text(damage(file.read_text() + SECTIONS))
    [done] = Vault.mend(path)
    assert re.fullmatch("written anew, settings kept: 4, sections: [34]", done.how)
    assert remotes.load(path)["usb"].url == "/mnt/usb/vault" and remotes.load(path)["usb"].auto
    listed = subprocess.run(["git", "config", "-f", file, "--list"], capture_output=True, check=True, text=True).stdout
    assert {"remote.origin.url=git@example.org:a;b", "remote.origin.fetch=+refs/*:refs/*"} < set(listed.splitlines())
    assert "include" not in listed
    loaded = config.load(path)
    assert loaded == replace(before, user_name="Ann       Example", auto_remotes=("usb",)), "the id is not the remote's"


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_lost_commit_costs_one_snapshot(which: int, plain: Saved, tmp_path: Path, gone: None) -> None:
    """The oldest, one in the middle, the newest: those before and after it stay, and the project goes on."""
    lost = plain.snapshots[which]
    vault, report = repaired(plain, tmp_path, lambda path: spoil(path, lost))
    with vault:
        assert ("commit", lost) in {(defect.kind, defect.object) for defect in report.quarantined}
        assert vault.history.refs.read(LOST)
        left = [snapshot for number, snapshot in enumerate(plain.snapshots) if number != which]
        found = vault.list_snapshots()
        assert len(found) == len(left)
        for number, snapshot in zip((n for n in (2, 1, 0) if n != which), found, strict=True):
            shutil.rmtree(tmp_path / "again", ignore_errors=True)
            vault.restore_snapshot(snapshot.id, tmp_path / "again")
            assert not differences(plain.folder / f"restored-{number}", tmp_path / "again")
        write(tmp_path / "restored", {"a": b"a"})
        vault.create_snapshot(tmp_path / "restored", project="goes on")
        vault.maintain()
        assert vault.verify(data=True).ok


def test_the_only_snapshot_lost_leaves_a_project_that_can_be_saved(vault: Vault, tmp_path: Path) -> None:
    write(tmp_path / "acme", {"a": b"a"})
    lost = vault.create_snapshot(tmp_path / "acme").snapshot
    vault.close()
    spoil(vault.path, lost)
    report = vault.verify(repair=True)
    assert {defect.object for defect in report.defects} == {lost}
    assert vault.list_snapshots() == []
    write(tmp_path / "acme", {"b": b"b"})
    vault.create_snapshot(tmp_path / "acme")
    after = vault.verify(data=True)
    assert after.ok and [loss.object for loss in after.quarantined] == [lost]


def test_losses_go_by_the_name_that_the_project_has_now(plain: Saved, tmp_path: Path, gone: None) -> None:
    """Also of a snapshot that nothing leads to any more, whose project only the list names."""
    lost = plain.snapshots[1]
    vault, _ = repaired(plain, tmp_path, lambda path: spoil(path, lost))

    def named() -> set[str]:
        return {place.project for loss in vault.verify().quarantined for place in loss.affects}

    with vault:
        vault.rename_project("acme", "beta")
        assert vault.verify().ok and named() == {"beta"}
        vault.rename_project("beta", "gamma")
        assert named() == {"gamma"}
        vault.undo(2)
        assert named() == {"acme"}
        assert [loss.object for loss in vault.verify(repair=True).quarantined] == [lost]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ref", ["refs/vault/catalog", "refs/vault/tombstones", OPERATIONS])
def test_records_that_are_gone_are_missed_and_found_again(ref: str, packed: bool, plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    with Vault.open(path) as vault:
        vault.forget(["raw.bin"], yes=True)
        vault.prune(Retention(last=2), yes=True)
        assert vault.verify().ok
        held, listed, kept = vault.history.refs.list(), vault.projects(), tombstones(vault.history)
        assert held[ref] and kept
        if packed:
            subprocess.run(["git", f"--git-dir={path}", "pack-refs", "--all"], check=True)
        subprocess.run(["git", f"--git-dir={path}", "update-ref", "-d", ref], check=True)
        assert [(defect.kind, defect.object) for defect in vault.verify().defects] == [("ref", ref)]
        report = vault.verify(repair=True)
        assert report.ok and not report.quarantined
        assert vault.history.refs.list() == held
        assert (vault.projects(), tombstones(vault.history)) == (listed, kept)


def test_records_of_which_nothing_is_left_are_listed_as_lost(plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    with Vault.open(path) as vault:
        spoil(path, vault.history.refs.list()[catalog.REF].hex())
        vault.history.refs.delete(catalog.REF)
        report = vault.verify(repair=True)
        assert [defect.object for defect in report.defects] == [catalog.REF]
        after = vault.verify()
        assert after.ok and [loss.object for loss in after.quarantined] == [catalog.REF]
        assert vault.verify(repair=True, copies=[plain.vault]).ok
        assert [project.name for project in vault.projects()] == ["acme"]
        assert not vault.verify().quarantined


def test_branches_of_other_tools_need_no_catalog(vault: Vault) -> None:
    pack = vault.history.new_pack()
    commit = vault.history.add_commit(pack, pack.add(b"tree", b""), None, "theirs")
    made = pack.finish()
    vault.history.publish([made] if made else [])
    vault.history.refs.update("refs/heads/main", commit)
    assert list(records.missing(vault.history)) == []
    assert vault.verify().ok


def test_loose_objects(plain: Saved, tmp_path: Path, gone: None) -> None:
    """Another program's: a damaged one is set aside and comes from a copy."""
    other = tmp_path / "other.git"
    shutil.copytree(plain.vault, other)
    tree = b"tree " + raw(plain.snapshots[0]).hex().encode()
    assert tree
    loose = tmp_path / "loose"
    shutil.copytree(plain.vault, loose)
    for pack in list(loose.glob("objects/pack/*.pack")):
        pack.chmod(0o600)
        data = pack.read_bytes()
        for path in (pack, pack.with_suffix(".idx")):
            path.unlink()
        subprocess.run(["git", f"--git-dir={loose}", "unpack-objects", "-q"], input=data, check=True)
    with Vault.open(loose) as vault:
        assert vault.verify(data=True).ok
        victim = next(loose.glob("objects/[0-9a-f][0-9a-f]/*"))
        change(victim, lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 1))
        report = vault.verify(repair=True, copies=[other])
        assert report.ok and {done.kind for done in report.repaired} == {"object"}
        plain.assert_whole(vault)
        assert [path.name for path in loose.glob("quarantine/*")] == [victim.name]


class Killed(BaseException):
    """Nothing runs after it."""


class KillingDisk(CountedDisk):
    def __init__(self, at: int) -> None:
        self.at = at
        self.asked = 0

    def count(self) -> None:
        self.asked += 1
        if self.asked >= self.at:
            raise Killed


@pytest.mark.no_cover
@pytest.mark.parametrize("help_from", ["parity", "copy", "nowhere"])
def test_a_repair_that_is_killed_leaves_the_vault_no_worse(
    help_from: str, plain: Saved, protected: Saved, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """At every operation; what could be restored before can be, and the next repair ends it."""
    saved = protected if help_from == "parity" else plain
    copies = [plain.vault] if help_from == "copy" else []
    broken = tmp_path / "broken.git"
    shutil.copytree(saved.vault, broken)
    flip(chunk_pack(broken), 0.5)
    flip(git_pack(broken), 0.5)
    (broken / "refs/vault/meta/acme").unlink()
    at, growth = 0, 2 if request.config.getoption("--deep") else 1
    finished = False
    shutil.copytree(broken, tmp_path / "unharmed.git")
    with Vault.open(tmp_path / "unharmed.git") as vault:
        expected = {loss.object for loss in vault.verify(repair=True, copies=copies).quarantined}
    assert bool(expected) == (help_from == "nowhere")
    while not finished:
        at += 1 + at // growth
        path = tmp_path / "killed.git"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(broken, path)
        disk = KillingDisk(at)
        try:
            with Vault.open(path, disk=disk) as vault:
                vault.verify(repair=True, copies=copies)
            finished = True
        except Killed:
            pass
        with Vault.open(path) as vault:
            if help_from != "nowhere":
                # What is not damaged reads all the time.
                vault.restore_snapshot(saved.snapshots[0], tmp_path / f"out-{at}", paths=["src/main.c"])
            report = vault.verify(repair=True, copies=copies)
            after = vault.verify(data=True)
            assert after.ok
            assert {loss.object for loss in after.quarantined} <= expected
            if not expected:
                assert report.ok
                saved.assert_whole(vault)
    assert at > 10


def test_the_command(plain: Saved, tmp_path: Path, command: Command, vault: Vault, gone: None) -> None:
    shutil.rmtree(vault.path)
    shutil.copytree(plain.vault, vault.path)
    done = command("verify", "--repair", "--json")
    assert done.returncode == 0
    for other in (["--share", "1/2"], ["--drill", "3"], ["--restart"]):
        assert command("verify", "--repair", *other).returncode == 129
    document = json.loads(done.stdout)
    assert document["ok"] and document["defects"] == document["repaired"] == document["quarantined"] == []
    flip(chunk_pack(vault.path), 0.5)
    (vault.path / "HEAD").write_text("nonsense")
    assert command("verify", "--data").returncode in (10, 20, 128)
    healed = command("verify", "--repair", "--from", plain.vault)
    assert healed.returncode == 0
    assert "HEAD: written anew" in healed.stdout and "copied from" in healed.stdout
    flip(chunk_pack(vault.path), 0.5)
    lost = command("verify", "--repair", "--json")
    assert lost.returncode == 20
    document = json.loads(lost.stdout)
    assert not document["ok"]
    assert {place["path"] for defect in document["quarantined"] for place in defect["affects"]} == {"art/big.bin"}
    after = command("verify", "--data")
    assert after.returncode == 0
    assert "lost before" in after.stdout and "art/big.bin" in after.stdout
    assert command("verify", "--from", plain.vault).returncode == 129
    assert command("verify", "--repair", "--from", tmp_path / "nothing").returncode == 10


def test_a_copy_that_is_no_vault(plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "damaged.git"
    shutil.copytree(plain.vault, path)
    flip(chunk_pack(path), 0.5)
    with Vault.open(path) as vault, pytest.raises(VaultNotFound):
        vault.verify(repair=True, copies=[tmp_path])
    assert not list(path.glob("quarantine/*"))


def test_parity_is_made_by_snapshots_and_upkeep_and_goes_with_its_pack(protected: Saved, tmp_path: Path) -> None:
    path = tmp_path / "vault.git"
    shutil.copytree(protected.vault, path)

    def names(pattern: str) -> set[str]:
        return {found.name.removesuffix(".par") for found in path.glob(pattern)}

    packs = names("chunks/*.zpk") | names("objects/pack/*.pack")
    assert names("parity/*") == packs
    with Vault.open(path) as vault:
        shutil.rmtree(path / "parity")
        assert any("parity" in action for action in vault.maintain().actions)
        now = names("chunks/*.zpk") | names("objects/pack/*.pack")
        assert names("parity/*") == now != packs
        (path / "parity" / f"{'0' * 64}.zpk.par").write_bytes(b"of a pack that is gone")
        assert vault.verify(repair=True).ok
        assert names("parity/*") == now
        config.set(path, "vault.parity", 0)
    with Vault.open(path) as vault:
        vault.maintain()
        assert names("parity/*") == now, "what is there stays useful"


@pytest.mark.parametrize("damaged", [False, True])
def test_after_a_repair_the_vault_is_opened_anew(damaged: bool, plain: Saved, tmp_path: Path) -> None:
    """What was read before it is not believed; and a vault without damage is verified once."""
    path = tmp_path / "vault.git"
    shutil.copytree(plain.vault, path)
    if damaged:
        (path / "RESCUE.md").write_text("x")
    vaults: list[Vault] = []

    def parts() -> tuple[GitHistory, ChunkStore]:
        vaults.append(Vault.open(path))
        return vaults[-1].history, vaults[-1].store

    report = repair.repair_vault(parts, copies=(), host="nowhere", redundancy=0, progress=None)
    assert report.ok and verify_vault(*parts(), data=True).ok
    assert [done.object for done in report.repaired] == ["RESCUE.md"] * damaged
    assert len(vaults) == 2 + damaged
    for vault in vaults:
        vault.close()


def test_parity_that_cannot_be_written_is_a_note(plain: Saved, tmp_path: Path) -> None:
    path = tmp_path / "vault.git"
    shutil.copytree(plain.vault, path)
    config.set(path, "vault.parity", 5)
    write(tmp_path / "new", {"a": b"a"})

    class Refusing(Disk):
        def create(self, path: Path, mode: int = 0o600) -> NewFile:
            if path.parent.name == "parity":
                raise OSError("test: this folder is broken")
            return super().create(path, mode)

    with Vault.open(path, disk=Refusing()) as vault:
        report = vault.create_snapshot(tmp_path / "new")
        assert any("parity not written" in note for note in report.notes)
        assert report.snapshot in {snapshot.id for snapshot in vault.list_snapshots()}


def test_without_parity_nothing_is_done_for_it(plain: Saved) -> None:
    assert not (plain.vault / "parity").exists()
    assert not (plain.vault / "quarantine").exists()


@pytest.mark.parametrize("what", ["blob", "tree", "meta commit", "meta tree"])
def test_upkeep_goes_on_after_a_loss_and_loses_nothing_more(what: str, vault: Vault, tmp_path: Path) -> None:
    """git itself stops at the first object that is missing."""
    project = tmp_path / "acme"
    taken = []
    for version in range(3):
        write(project, {"src/a": b"%d" % version, "b": b"%d" % version})
        taken.append(vault.create_snapshot(project).snapshot)
    shutil.rmtree(project)
    history = vault.history
    found = {
        "blob": find(history, taken[1], b"src/a")[0].blob,
        "tree": find(history, taken[1], b"src")[0].blob,
        "meta commit": history.meta_commit(history.commit(raw(taken[1]))),
        "meta tree": history.trees(taken[1])[1],
    }[what]
    assert found
    lose(vault, found)
    report = vault.verify(repair=True)
    # Of the meta chain's commit it is the snapshot that is named.
    named = taken[1] if what == "meta commit" else found.hex()
    assert [defect.object for defect in report.defects] == [named]
    left = set(reachable(vault.history.objects, vault.history.refs.list().values()))
    assert found not in left
    for number in range(2):
        for path in vault.path.glob("objects/pack/*"):
            # So old that what no ref reaches goes.
            os.utime(path, (0, 0))
        write(tmp_path / "other", {"more": b"more %d" % number})
        vault.create_snapshot(tmp_path / "other")
        assert vault.maintain().actions
        assert all(vault.history.objects.contains(oid) for oid in left)
        after = vault.verify(data=True)
        assert after.ok and [loss.object for loss in after.quarantined] == [named]


def test_losses_are_kept_as_lines(vault: Vault) -> None:
    loss = Defect("blob", "ab" * 20, "missing")
    assert losses.load(vault.history) == []
    losses.save(vault.history, [loss])
    losses.save(vault.history, [loss])
    assert losses.load(vault.history) == [loss]
    assert len(list(vault.history.chain(vault.history.refs.read(losses.REF) or raw(SnapshotId("0" * 40))))) == 1
    report = losses.divide(vault.history, VerifyReport(1, 2, (loss, Defect("blob", "cd" * 20, "new"))), [loss])
    assert report.quarantined == (loss,) and [defect.object for defect in report.defects] == ["cd" * 20]
    losses.save(vault.history, [])
    assert vault.history.refs.read(losses.REF) is None
    vault.history.write_file(losses.REF, losses.FILE, b"{}\n", "nonsense")
    with pytest.raises(CorruptionError, match=r"refs/vault/lost: a line cannot be read"):
        losses.load(vault.history)
    assert repair.Copy._fields == ("path", "history", "store")
    with pytest.raises(NotFoundError):
        vault.history.blob(raw(SnapshotId("ab" * 20)))
