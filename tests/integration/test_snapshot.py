"""What a snapshot saves, what it costs, and what it says."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from trees import NS, contents, differences, write

from gitvault import config as settings
from gitvault.core.backup_engine import snapshot
from gitvault.core.models import Pointer, SnapshotReport
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils.files import Disk
from gitvault.core.utils.lock import VaultLock
from gitvault.errors import LockedError, NotFoundError
from gitvault.vault import Vault

LARGE = os.urandom(300_000)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write(tmp_path / "acme", {"a": b"one", "src/b": b"two", "src/deep/c": b"three", "art/big.bin": LARGE})


def counts(report: SnapshotReport) -> tuple[int, int, int, int]:
    return report.files, report.new, report.changed, report.deleted


def packs(vault: Vault) -> set[str]:
    return {p.name for p in (*vault.path.glob("objects/pack/*"), *vault.path.glob("chunks/*.zpk"))}


def test_counts_and_bytes(vault: Vault, project: Path) -> None:
    first = vault.create_snapshot(project)
    assert counts(first) == (4, 4, 0, 0)
    assert first.bytes_read == 3 + 3 + 5 + len(LARGE)
    assert len(LARGE) < first.bytes_stored < len(LARGE) + 5000
    write(project, {"a": b"changed", "new": b"n", "src/b": b"same size"[:3]})
    shutil.rmtree(project / "src/deep")
    second = vault.create_snapshot(project)
    assert counts(second) == (4, 1, 2, 1)
    assert second.bytes_read == 7 + 1 + 3, "nothing unchanged is read again"
    assert vault.get_snapshot_info("acme").bytes == 7 + 1 + 3 + len(LARGE)


def test_nothing_changed_writes_nothing(vault: Vault, project: Path) -> None:
    first = vault.create_snapshot(project)
    before = packs(vault)
    for _ in range(2):
        again = vault.create_snapshot(project, message="other words")
        assert (again.unchanged, again.snapshot, again.bytes_read, again.bytes_stored) == (True, first.snapshot, 0, 0)
        assert counts(again) == (4, 0, 0, 0)
    assert packs(vault) == before
    assert list((vault.path / "tmp").iterdir()) == list((vault.path / "chunks/tmp").iterdir()) == []


def test_touched_is_not_changed_but_its_time_is_saved(vault: Vault, project: Path, tmp_path: Path) -> None:
    vault.create_snapshot(project)
    for name in ("a", "art/big.bin", "src"):
        os.utime(project / name, ns=(NS, NS))
    again = vault.create_snapshot(project)
    assert (counts(again), again.unchanged) == ((4, 0, 0, 0), False)
    assert again.bytes_stored < 5000, "the content is there already"
    vault.restore_snapshot("acme", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}


def test_without_the_cache_the_same_is_found(vault: Vault, project: Path, tmp_path: Path) -> None:
    first = vault.create_snapshot(project)
    shutil.rmtree(vault.path / "cache")
    again = vault.create_snapshot(project)
    assert (again.unchanged, again.snapshot, counts(again)) == (True, first.snapshot, (4, 0, 0, 0))
    shutil.rmtree(vault.path / "cache")
    write(project, {"a": b"1", "more": b""})
    (project / "src/b").unlink()
    assert counts(vault.create_snapshot(project)) == (4, 1, 1, 1)
    vault.restore_snapshot("acme", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}


def test_a_cache_of_another_time_is_not_believed(vault: Vault, project: Path, tmp_path: Path) -> None:
    """Somebody put an old copy of the cache folder back."""
    vault.create_snapshot(project)
    shutil.copytree(vault.path / "cache", tmp_path / "cache")
    write(project, {"src/b": b"changed"})
    vault.create_snapshot(project)
    write(project, {"src/b": b"two"})
    shutil.rmtree(vault.path / "cache")
    shutil.copytree(tmp_path / "cache", vault.path / "cache")
    assert counts(vault.create_snapshot(project)) == (4, 0, 1, 0)
    vault.restore_snapshot("acme", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}


def test_what_is_there_already_is_stored_once(vault: Vault, project: Path, tmp_path: Path) -> None:
    vault.create_snapshot(project)
    shutil.copytree(project, tmp_path / "copy")
    write(project, {"again.bin": LARGE, "again": b"one"})
    assert vault.create_snapshot(project).bytes_stored < 5000
    assert vault.create_snapshot(tmp_path / "copy").bytes_stored < 5000


def test_an_edit_in_a_large_file_costs_the_edit(vault: Vault, project: Path, tmp_path: Path) -> None:
    data = bytearray(os.urandom(4 << 20))
    write(project, {"art/big.bin": bytes(data)})
    vault.create_snapshot(project)
    data[2_000_000:2_000_100] = b"!" * 50
    write(project, {"art/big.bin": bytes(data)})
    assert vault.create_snapshot(project).bytes_stored < 100_000
    vault.restore_snapshot("acme", tmp_path / "back")
    assert contents(tmp_path / "back")[b"art/big.bin"] == bytes(data)


def test_a_large_file_that_takes_long_keeps_no_other_from_being_saved(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than are waited for at once, and the first is stored when all others are."""
    files = {f"{n:02}.bin": LARGE + b"%d" % n for n in range(20)}
    write(tmp_path / "acme", files)
    store_file = ChunkStore.store_file
    first, rest = threading.Lock(), threading.Semaphore(0)

    def slow_at_first(*args: Any, **more: Any) -> Pointer:
        if first.acquire(blocking=False):
            assert all(rest.acquire(timeout=60) for _ in range(19)), "the others wait for the first"
            return store_file(*args, **more)
        try:
            return store_file(*args, **more)
        finally:
            rest.release()

    monkeypatch.setattr(ChunkStore, "store_file", slow_at_first)
    assert counts(vault.create_snapshot(tmp_path / "acme")) == (20, 20, 0, 0)
    vault.restore_snapshot("acme", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tmp_path / "acme")


def test_ignored_files_are_left_out_and_come_back_in(vault: Vault, project: Path) -> None:
    vault.create_snapshot(project)
    config = vault.path / "config"
    text = config.read_text()
    config.write_text(text + "\tignore = *.bin\n\tignore = /src/deep/\n")
    with Vault.open(vault.path) as stricter:
        done = stricter.create_snapshot(project)
        assert counts(done) == (2, 0, 0, 2)
        assert {e.path for e in stricter.entries(done.snapshot, recursive=True)} == {b"a", b"src", b"src/b", b"art"}
    config.write_text(text)
    with Vault.open(vault.path) as again:
        assert counts(again.create_snapshot(project)) == (4, 2, 0, 0)


def test_extensions_that_are_binary_by_order(vault: Vault, project: Path) -> None:
    with (vault.path / "config").open("a") as config:
        config.write("\tbinaryExtensions = .pak\n\tinlineLimit = 1k\n")
    write(project, {"x.PAK": b"text" * 300, "y.txt": b"text" * 300, "z.pak": b"small"})
    with Vault.open(vault.path) as opened:
        opened.create_snapshot(project)
        stored = {e.path: e.pointer is not None for e in opened.entries("acme")}
    assert (stored[b"x.PAK"], stored[b"y.txt"], stored[b"z.pak"]) == (True, False, False)


PICTURE = b"P6\n400 500\n255\n" + bytes(random.Random(8).choices(range(1, 256), k=600_000))


def test_a_picture_without_a_nul_is_not_stored_whole_at_each_edit(vault: Vault, project: Path, tmp_path: Path) -> None:
    write(project, {"art/sky.ppm": PICTURE})
    vault.create_snapshot(project)
    write(project, {"art/sky.ppm": PICTURE[:300_000] + b"\xff" * 50 + PICTURE[300_050:]})
    second = vault.create_snapshot(project)
    assert second.bytes_stored < 100_000
    assert [one.state for one in vault.status([project / "art/sky.ppm"])] == ["saved"]
    assert vault.verify(data=True).ok
    vault.restore_snapshot("acme~1", tmp_path / "out")
    assert (tmp_path / "out/art/sky.ppm").read_bytes() == PICTURE


def test_what_was_saved_as_text_stays_so_until_it_changes(vault: Vault, project: Path) -> None:
    write(project, {"sky.ppm": PICTURE})
    settings.set(vault.path, "vault.inlineLimit", "16m")
    with Vault.open(vault.path) as lax:
        first = lax.create_snapshot(project)
    settings.edit(vault.path, ("--unset", "vault.inlineLimit"))
    shutil.rmtree(vault.path / "cache")
    with Vault.open(vault.path) as again:
        assert counts(again.create_snapshot(project)) == (*counts(first)[:1], 0, 1, 0)
        pointers = {e.path: e.pointer for e in again.entries("acme", recursive=True)}
        assert pointers[b"art/big.bin"] and not pointers[b"sky.ppm"]
        write(project, {"sky.ppm": PICTURE + b"."})
        again.create_snapshot(project)
        assert {e.path: e.pointer for e in again.entries("acme")}[b"sky.ppm"]


def test_progress_ends_with_everything(vault: Vault, project: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    vault.create_snapshot(project, progress=lambda *now: seen.append(now))
    total = 3 + 3 + 5 + len(LARGE)
    assert seen[-1] == ("saving", total, total)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_snapshot_nobody_described_says_what_changed(vault: Vault, project: Path) -> None:
    assert vault.get_snapshot_info(vault.create_snapshot(project).snapshot).message == "acme: 4 new"
    write(project, {"a": b"1", "n": b""})
    (project / "src/b").unlink()
    second = vault.create_snapshot(project)
    assert vault.get_snapshot_info(second.snapshot).message == "acme: 1 new, 1 changed, 1 deleted"
    os.chmod(project / "a", 0o600)
    third = vault.create_snapshot(project)
    assert vault.get_snapshot_info(third.snapshot).message == "acme: attributes only"


def test_a_failed_run_leaves_everything_as_it_was(
    vault: Vault, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = vault.create_snapshot(project).snapshot
    before = packs(vault)
    write(project, {"a": b"2", "art/more.bin": os.urandom(200_000)})

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("settle_missing", "finish", "collect"):
        monkeypatch.setattr(snapshot._Run, name, stop)
        with pytest.raises(KeyboardInterrupt):
            vault.create_snapshot(project)
        monkeypatch.undo()
        assert vault.resolve("acme") == first
        assert list((vault.path / "tmp").iterdir()) == []
    assert packs(vault) >= before
    assert counts(vault.create_snapshot(project)) == (5, 1, 1, 0)
    vault.restore_snapshot("acme", tmp_path / "back")
    assert differences(project, tmp_path / "back") == {}
    assert vault.verify(data=True).ok


def test_a_project_whose_folder_moved_is_read_again(vault: Vault, project: Path, tmp_path: Path) -> None:
    vault.create_snapshot(project)
    os.rename(project, tmp_path / "moved")
    with pytest.raises(NotFoundError, match="acme: no such folder"):
        vault.create_snapshot(project)
    assert vault.create_snapshot(tmp_path / "moved", project="acme").unchanged
    assert not project.exists()


def test_a_root_with_a_symlink_in_its_path(vault: Vault, project: Path, tmp_path: Path) -> None:
    os.symlink(project / "src", tmp_path / "link")
    report = vault.create_snapshot(tmp_path / "link")
    assert (report.project, counts(report)) == ("src", (2, 2, 0, 0))


def test_snapshots_go_on_after_git_packed_everything_anew(vault: Vault, project: Path, tmp_path: Path) -> None:
    vault.create_snapshot(project)
    for number in range(3):
        write(project, {"a": b"%d" % number})
        vault.create_snapshot(project)
    vault.maintain()
    assert vault.create_snapshot(project).unchanged
    write(project, {"a": b"after"})
    assert counts(vault.create_snapshot(project)) == (4, 0, 1, 0)
    vault.restore_snapshot("acme~2", tmp_path / "old")
    assert contents(tmp_path / "old")[b"a"] == b"1"


def test_idle_upkeep_gives_way_to_whoever_waits(vault: Vault, tmp_path: Path) -> None:
    write(tmp_path / "acme", {"file": b"content"})
    vault.create_snapshot(tmp_path / "acme")
    wanted = VaultLock.wanted(vault.path / "vault.lock")
    before = sorted(path.name for path in (vault.path / "objects" / "pack").iterdir())

    class Busy(Disk):
        """Somebody comes and waits the moment the upkeep makes its first folder."""

        def make_folder(self, path: Path, mode: int = 0o700) -> None:
            wanted.touch()
            super().make_folder(path, mode)

    with Vault(vault.path, disk=Busy()) as busy:
        report = busy.maintain(idle=True)
    assert report.actions == ("gave way to another run; the next maintenance does it",)
    assert sorted(path.name for path in (vault.path / "objects" / "pack").iterdir()) == before
    wanted.unlink()
    assert vault.maintain().actions[0].startswith("repacked the git side")
    assert vault.verify(data=True).ok


def test_whoever_waits_for_the_lock_shows_it_until_it_is_had(tmp_path: Path) -> None:
    path = tmp_path / "vault.lock"
    seen: list[bool] = []
    with VaultLock(path, "first", 0):
        assert not VaultLock.wanted(path).exists()
        second = VaultLock(path, "second", 0.2, sleep=lambda _: seen.append(VaultLock.wanted(path).exists()))
        with pytest.raises(LockedError), second:
            pass
    assert seen
    assert all(seen)
    assert not VaultLock.wanted(path).exists()
