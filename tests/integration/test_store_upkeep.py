"""Upkeep of the chunk store on real vaults: by the command line, in the background, with zstd and git looking on."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from trees import contents, write

from gitvault.core.backup_engine.maintain import start_if_due
from gitvault.core.storage import repack
from gitvault.core.storage.packs import Pack, read_table
from gitvault.core.storage.repack import FULL_LEVEL
from gitvault.core.utils import process
from gitvault.core.utils.files import Disk, NewFile
from gitvault.core.utils.lock import VaultLock
from gitvault.vault import Vault

NOISE = random.Random(23).randbytes(600_000)
MESH = b"".join(b"v %d %d %d\n" % (n * n % 977, n * 7 % 531, n % 89) for n in range(40_000))

Command = Callable[..., subprocess.CompletedProcess[str]]


def packs(vault: Path) -> list[Path]:
    return sorted((vault / "chunks").glob("*.zpk"))


def deltas(pack: Path) -> int:
    return sum(bool(frame.bases) for frame in read_table(pack, strict=True).frames)


def snapshots(project: Path, command: Command, count: int) -> dict[str, dict[bytes, bytes]]:
    """Binaries that change from one to the next; what the project was at each."""
    states = {}
    scene, mesh = bytearray(NOISE), bytearray(MESH)
    for n in range(count):
        if n:
            scene[n * 100_000 : n * 100_000 + 30] = b"an edit of thirty bytes %06d" % n
            mesh[n * 50_000] ^= 1
        new = random.Random(n).randbytes(90_000 + n)
        write(project, {"scene.blend": bytes(scene), "mesh.obj.bin": b"\0" + mesh, f"new/{n}.bin": b"\0" + new})
        done = command("snapshot", project, "--json")
        assert done.returncode == 0, done.stderr
        states[json.loads(done.stdout)["snapshot"]] = contents(project)
    return states


@pytest.mark.needs("zstd")
def test_maintain_on_a_vault_with_a_history(vault: Vault, command: Command, tmp_path: Path) -> None:
    states = snapshots(tmp_path / "acme", command, 1)
    assert all(not deltas(pack) for pack in packs(vault.path))
    done = command("maintain")
    assert done.returncode == 0 and "repacked the chunk store: 1 packs of" in done.stdout
    for pack in packs(vault.path):
        subprocess.run(["zstd", "-tq", "--format=zstd"], stdin=pack.open("rb"), check=True)

    states |= snapshots(tmp_path / "acme", command, 6)
    before = packs(vault.path)
    stored = sum(pack.stat().st_size for pack in before)
    found = json.loads(command("maintain", "--json").stdout)
    assert any("repacked the chunk store" in action for action in found["actions"])
    assert found["bytes_after"] < found["bytes_before"]
    (pack,) = packs(vault.path)
    assert len(before) > 4 and pack.stat().st_size < stored
    assert read_table(pack, strict=True).level == FULL_LEVEL
    assert command("maintain").stdout == "nothing was due\n"
    assert packs(vault.path) == [pack]

    assert json.loads(command("verify", "--data", "--json").stdout)["defects"] == []
    for number, (snapshot, state) in enumerate(states.items()):
        assert command("restore", snapshot, "--to", tmp_path / str(number)).returncode == 0
        assert contents(tmp_path / str(number)) == state
    assert command("snapshot", tmp_path / "acme", "--json").returncode == 0
    assert packs(vault.path) == [pack]

    # Each delta, now of the highest level, is still one for zstd.
    table = read_table(pack)
    assert deltas(pack) >= 5
    for frame in table.frames:
        if frame.bases:
            (tmp_path / "base").write_bytes(b"".join(map(vault.store.retrieve_chunk, frame.bases)))
            (tmp_path / "delta").write_bytes(Pack(pack).read(frame))
            words = ["zstd", "-dcq", f"--patch-from={tmp_path / 'base'}", str(tmp_path / "delta")]
            assert len(subprocess.run(words, check=True, capture_output=True).stdout) == frame.length


@pytest.mark.needs("sh", "zstd", "git")
def test_the_rescue_script_reads_what_upkeep_wrote(vault: Vault, command: Command, tmp_path: Path) -> None:
    snapshots(tmp_path / "acme", command, 4)
    assert command("maintain").returncode == 0
    words = ["sh", str(vault.path / "rescue.sh"), "restore", "acme", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(tmp_path / "acme")


def test_a_snapshot_that_finds_many_small_packs_starts_upkeep(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the background, and not before it pays."""
    started: list[list[str]] = []
    monkeypatch.setattr(process, "start_detached", started.append)
    monkeypatch.setattr(repack, "_MANY", 3)
    config = vault.path / "config"
    config.write_text(config.read_text().replace("maintenance = off", "maintenance = auto"))
    with Vault.open(vault.path) as busy:
        for n in range(3):
            assert not started
            write(tmp_path / "acme", {f"{n}.bin": b"\0" + NOISE[n * 100_000 : n * 100_000 + 90_000]})
            busy.create_snapshot(tmp_path / "acme")
        assert [words[-3:] for words in started] == [["maintain", "--idle", "--quiet"]]
        assert any("3 packs of" in action for action in busy.maintain(idle=True).actions)
        started.clear()
        write(tmp_path / "acme", {"last.bin": b"\0" + NOISE[:80_000]})
        busy.create_snapshot(tmp_path / "acme")
        assert not started and not busy.store.repack_due()
        start_if_due(busy.path, busy.store)
        assert not started


def test_idle_upkeep_of_the_store_gives_way_to_whoever_waits(
    vault: Vault, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots(tmp_path / "acme", command, 3)
    vault.maintain(idle=True)
    monkeypatch.setattr(repack, "_MANY", 2)
    before = packs(vault.path)
    assert len(before) == 3
    wanted = VaultLock.wanted(vault.path / "vault.lock")

    class Busy(Disk):
        """Somebody comes and waits while the new pack is begun."""

        def create_uncached(self, path: Path) -> NewFile:
            wanted.touch()
            return super().create_uncached(path)

    with Vault(vault.path, disk=Busy()) as busy:
        report = busy.maintain(idle=True)
    assert report.actions == ("gave way to another run; the next maintenance does it",)
    assert packs(vault.path) == before
    assert not list((vault.path / "chunks" / "tmp").iterdir())
    wanted.unlink()
    assert "repacked the chunk store" in vault.maintain(idle=True).actions[0]
    assert len(packs(vault.path)) == 1
    assert vault.verify(data=True).ok
