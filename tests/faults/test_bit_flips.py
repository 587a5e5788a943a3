"""A flipped bit anywhere in a vault: never wrong bytes, never a traceback; `verify --data` names what does harm."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.stage import NOISE, Stage
from trees import records

from gitvault.core.utils.files import Disk
from gitvault.errors import GitVaultError
from gitvault.vault import Vault

SHARDS = 2
REGIONS = 2


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_flipped_bit_is_named_or_harms_nothing(
    shard: int, ground: Path, request: pytest.FixtureRequest, record_property
) -> None:
    deep = request.config.getoption("--deep")
    stage = small_vault(ground)
    flips = 0
    for path, offset in places(stage.vault, everywhere=deep):
        if flips % SHARDS == shard:
            bit = 1 << random.Random(offset).randrange(8)
            with flipped(path, offset, bit):
                look(stage, f"bit {bit:#x} of byte {offset} of {path.relative_to(stage.vault)}")
        flips += 1
    record_property("flips", len(range(shard, flips, SHARDS)))


def small_vault(base: Path) -> Stage:
    """Every kind of file that a vault has, in few bytes: deltas, what maintenance makes, what came later."""
    stage = Stage(base)
    Vault.create(stage.vault).close()
    with (stage.vault / "config").open("a") as config:
        config.write("\tinlineLimit = 1k\n")
    shutil.rmtree(stage.project / "art")
    for day in range(3):
        (stage.project / "large.bin").write_bytes(b"\0day %d" % day + NOISE[:3000])
        (stage.project / "one.txt").write_bytes(b"text of day %d\n" % day * 20)
        (stage.project / "art").mkdir(exist_ok=True)
        stage.snapshot(Disk())
        if day == 1:
            with Vault.open(stage.vault) as vault:
                vault.maintain()
    shutil.rmtree(stage.vault / "cache")
    return stage


def places(vault: Path, *, everywhere: bool) -> Iterator[tuple[Path, int]]:
    """Of each file all bytes, or, of each of its regions, the beginning, the end and somewhere between."""
    chance = random.Random(5)
    for path in sorted(path for path in vault.rglob("*") if path.is_file() and path.name != "vault.lock"):
        size = path.stat().st_size
        if everywhere:
            yield from ((path, offset) for offset in range(size))
            continue
        edges = {0, size - 1, *range(0, size, max(1, size // REGIONS))}
        edges |= {size - back for back in (21, 41, 57, 66, 130) if back < size}
        yield from ((path, offset) for offset in sorted(edges | {chance.randrange(size) for _ in range(REGIONS)}))


@contextlib.contextmanager
def flipped(path: Path, offset: int, bit: int) -> Iterator[None]:
    mode = path.stat().st_mode
    for _ in ("there", "and back"):
        with open(path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ bit]))
        if _ == "there":
            try:
                yield
            finally:
                os.chmod(path, mode)


def look(stage: Stage, what: str) -> None:
    """Everything that a person would try."""
    named = False
    try:
        with Vault.open(stage.vault) as vault:
            with contextlib.suppress(GitVaultError):
                vault.status()
            with contextlib.suppress(GitVaultError):
                vault.list_snapshots()
            try:
                named = bool(vault.verify(data=True).defects)
            except GitVaultError:
                named = True
            for number, (snapshot, held) in enumerate(stage.saved.items()):
                target = stage.base / f"out{number}"
                shutil.rmtree(target, ignore_errors=True)
                try:
                    report = vault.restore_snapshot(snapshot, target)
                except GitVaultError as error:
                    assert named, f"{what}: verify finds nothing, and yet: {error}"
                    continue
                got = records(target)
                if got == held and not report.problems:
                    continue
                assert report.problems, f"{what}: came back otherwise and nothing was said"
                assert named, f"{what}: verify finds nothing, and yet: {report.problems}"
                for name, record in got.items():
                    assert record.kind == "folder" or record.content == held[name].content, f"{what}: wrong {name!r}"
    except GitVaultError:
        return
    finally:
        shutil.rmtree(stage.vault / "cache", ignore_errors=True)


def test_flips_are_where_they_should_be(tmp_path: Path) -> None:
    """The tool itself: one bit is another, and then everything is as before."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    with flipped(file, 1, 4):
        assert file.read_bytes() == b"afc"
    assert file.read_bytes() == b"abc"
