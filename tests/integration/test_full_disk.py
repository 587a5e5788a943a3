"""A disk without a free byte: what is saved is read and restored, nothing is damaged, and a sweep makes room again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cutting import git, keep_only
from trees import contents, write

from gitvault import config
from gitvault.core.utils import reserve
from gitvault.core.utils.files import Disk, NewFile
from gitvault.errors import StorageFullError
from gitvault.vault import Vault, disk_usage

NOISE = random.Random(31).randbytes(8_000_000)
_ROOM = 48 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts a small file system of its own")


def run(*words: str | Path) -> None:
    subprocess.run(words, check=True, capture_output=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    image = tmp_path / "image"
    try:
        if request.param == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", folder)
        else:
            with image.open("wb") as file:
                file.truncate(_ROOM)
            run("mkfs.ext4", "-q", "-m", "0", image)
            run("mount", "-o", "loop", image, folder)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        run("umount", "-l", folder)


def fill_up(folder: Path) -> None:
    """Not a byte is left."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
    assert os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize < 4096


def command(vault: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "gitvault", "--vault", str(vault), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done


def history(vault: Vault, project: Path, seed: int) -> list[str]:
    found = []
    for n in range(3):
        data = NOISE[seed * 900_000 + n * 300_000 :][:700_000]
        write(project, {f"{n}.bin": b"\0" + data, "notes.txt": b"%d of %d\n" % (n, seed)})
        found.append(vault.create_snapshot(project).snapshot)
    return found


def test_with_zero_bytes_free(small: Path, tmp_path: Path) -> None:
    path = small / "vault.git"
    with Vault.create(path) as vault:
        for key, value in (("maintenance", "off"), ("reserve", "2m")):
            git(path, "config", f"vault.{key}", value)
        kept = history(vault, tmp_path / "acme", 0)
        history(vault, tmp_path / "gone", 4)
    with Vault.open(path) as vault:
        assert not vault.sweep().actions
    assert (path / reserve.NAME).stat().st_blocks * 512 >= 2 << 20, "a sweep makes the reserve that is missing"
    for ref in ("refs/heads/gone", "refs/vault/meta/gone"):
        git(path, "update-ref", "-d", ref)
    kept = keep_only(path, "acme", kept[1:])
    state = contents(tmp_path / "acme")
    fill_up(small)

    assert command(path, "status", tmp_path / "acme").returncode == 0
    assert kept[-1][:12] in command(path, "log", "acme").stdout
    assert command(path, "ls", "acme", "-r").returncode == 0
    assert command(path, "verify", "--data").returncode == 0
    assert command(path, "restore", "acme", "--to", tmp_path / "back").returncode == 0
    assert contents(tmp_path / "back") == state
    write(tmp_path / "acme", {"more.bin": b"\0" + NOISE[7_000_000:7_500_000]})
    refused = command(path, "snapshot", tmp_path / "acme")
    assert refused.returncode == 12 and "no space left" in refused.stderr
    assert command(path, "verify").returncode == 0
    assert (path / reserve.NAME).exists(), "it is for prune and sweep alone"

    swept = command(path, "sweep")
    assert swept.returncode == 0, swept.stderr
    assert os.statvfs(small).f_bavail * os.statvfs(small).f_frsize > 1_500_000
    (small / "filler").unlink()
    assert command(path, "sweep").returncode == 0
    assert (path / reserve.NAME).exists()
    assert command(path, "snapshot", tmp_path / "acme").returncode == 0
    with Vault.open(path) as vault:
        assert vault.verify(data=True).ok
        vault.restore_snapshot("acme", tmp_path / "again")
        vault.restore_snapshot(kept[0], tmp_path / "older")
    assert contents(tmp_path / "again") == contents(tmp_path / "acme")
    assert len(contents(tmp_path / "older")) == 3
    assert not git(path, "fsck", "--strict", "--no-dangling")


class FullDisk(Disk):
    """Takes nothing until the reserve goes."""

    full = True

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        if self.full:
            raise StorageFullError(f"{path.parent}: no space left on the disk")
        return super().create(path, mode)

    def create_uncached(self, path: Path) -> NewFile:
        return self.create(path)

    def unlink(self, path: Path) -> None:
        self.full = self.full and path.name != reserve.NAME
        super().unlink(path)


@pytest.fixture
def usage(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how much room the disk claims to have."""

    def claim(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - free, free))

    return claim


def test_the_reserve_is_used_when_the_disk_is_full_and_made_anew(
    vault: Vault, tmp_path: Path, usage: Callable[[int], None]
) -> None:
    """Without a mount: a disk that says so."""
    snapshots = history(vault, tmp_path / "acme", 1)
    git(vault.path, "config", "vault.reserve", "1m")
    kept = keep_only(vault.path, "acme", snapshots[:1])
    reserve.keep(vault.path, 1 << 20, Disk())
    usage(0)
    with Vault(vault.path, disk=FullDisk()) as full:
        with pytest.raises(StorageFullError):
            full.create_snapshot(write(tmp_path / "acme", {"x.bin": b"\0" + NOISE[-400_000:]}))
        assert (vault.path / reserve.NAME).exists()
        full.restore_snapshot(kept[0], tmp_path / "back")
        assert full.verify(data=True).ok
        assert full.sweep().bytes_freed > 500_000
        assert not (vault.path / reserve.NAME).exists(), "there was no room for it yet"
        assert full.verify(data=True).ok
    usage(10 << 20)
    vault.close()
    with Vault.open(vault.path) as again:
        before = disk_usage(vault.path)
        again.sweep()
        assert (vault.path / reserve.NAME).stat().st_size == 1 << 20
        assert disk_usage(vault.path) == before, "the reserve is not content"


def test_the_reserve_is_made_with_the_vault_where_there_is_room(
    tmp_path: Path, usage: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    (tmp_path / ".gitconfig").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    with Vault.create(tmp_path / "a.git") as vault:
        assert (vault.path / reserve.NAME).stat().st_size == 4 << 20
    usage(7 << 20)
    with Vault.create(tmp_path / "b.git") as vault:
        assert not (vault.path / reserve.NAME).exists()
    usage(100 << 20)

    class Stingy(Disk):
        def create(self, path: Path, mode: int = 0o600) -> NewFile:
            if path.name == reserve.NAME:
                path.touch()
                raise StorageFullError("no space left")
            return super().create(path, mode)

    with Vault.create(tmp_path / "c.git", disk=Stingy()) as vault:
        assert not (vault.path / reserve.NAME).exists()


def test_room_gives_the_reserve_up_only_on_a_full_disk(tmp_path: Path, usage: Callable[[int], None]) -> None:
    usage(10 << 20)
    reserve.keep(tmp_path, 1 << 20, Disk())
    with reserve.room(tmp_path, 1 << 20, Disk()):
        assert (tmp_path / reserve.NAME).exists()
    usage(1 << 19)
    with reserve.room(tmp_path, 1 << 20, Disk()):
        assert not (tmp_path / reserve.NAME).exists()
        usage(10 << 20)
    assert (tmp_path / reserve.NAME).exists()


def test_a_file_is_filled_where_the_system_cannot_set_space_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with Disk().create(tmp_path / "x") as file:
        file.fill(100_000)
    assert (tmp_path / "x").stat().st_size == 100_000 and any((tmp_path / "x").read_bytes())


def test_without_a_size_there_is_no_reserve_and_a_new_size_brings_it_back(vault: Vault) -> None:
    config.set(vault.path, "vault.reserve", "1m")
    with Vault.open(vault.path) as fresh:
        fresh.maintain()
        assert (vault.path / reserve.NAME).stat().st_size == 1 << 20
        before = disk_usage(vault.path)
        (vault.path / reserve.NAME).unlink()
        assert disk_usage(vault.path) == before, "the quota is not for it"
    config.set(vault.path, "vault.reserve", "0")
    with Vault.open(vault.path) as fresh:
        (vault.path / reserve.NAME).write_bytes(bytes(10))
        fresh.sweep()
        assert not (vault.path / reserve.NAME).exists()
