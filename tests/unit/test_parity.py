"""Parity heals what it promises: a burst of 1 MiB and four damaged blocks anywhere, from small packs to large ones."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitvault.core.storage import parity
from gitvault.core.storage.parity import (
    BLOCK,
    BURST,
    FLIPS,
    Shape,
    heal,
    is_whole,
    path_for,
    remove_stale,
    shape,
    write,
)
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError

NOISE = random.Random(5).randbytes(9_000_000)


def make(folder: Path, size: int, percent: int = 5) -> tuple[Path, Path]:
    """A file and its parity."""
    source, redundant = folder / "pack", folder / "pack.par"
    for path in (source, redundant):
        path.unlink(missing_ok=True)
    source.write_bytes(NOISE[:size])
    write(source, redundant, percent, Disk())
    return source, redundant


def healed(source: Path, redundant: Path) -> bool:
    """Whether the file comes back from its parity, byte for byte."""
    target = source.with_name("healed")
    target.unlink(missing_ok=True)
    done = heal(source, redundant, target, Disk())
    assert done == target.exists(), "what could not be healed is not left behind"
    if done:
        assert is_whole(target, redundant)
        assert target.read_bytes() == NOISE[: target.stat().st_size]
    return done


@settings(max_examples=6)
@given(
    size=st.one_of(st.integers(1, 3 * BLOCK), st.integers(1, 2 << 20), st.integers(2 << 20, len(NOISE))),
    percent=st.integers(1, 30),
    burst=st.floats(0, 1),
    flips=st.lists(st.floats(0, 1), max_size=FLIPS),
)
@example(size=len(NOISE), percent=1, burst=0.5, flips=[0.1, 0.2, 0.3, 0.9])
@example(size=BURST + 1, percent=1, burst=0, flips=[0.999] * 4)
def test_any_damage_within_the_promise_heals(
    tmp_path_factory: pytest.TempPathFactory, size: int, percent: int, burst: float, flips: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("parity")
    source, redundant = make(folder, size, percent)
    data = bytearray(NOISE[:size])
    start = int(burst * (size - 1))
    stop = min(start + BURST, size)
    data[start:stop] = bytes(byte ^ 0xFF for byte in data[start:stop])
    for flip in flips:
        data[int(flip * (size - 1))] ^= 1
    source.write_bytes(data)
    assert healed(source, redundant)


def test_the_worst_place_for_the_flips(tmp_path: Path) -> None:
    """All four in the code word that the burst hits most."""
    source, redundant = make(tmp_path, 8_000_000)
    plan = shape(8_000_000, 5)
    data = bytearray(NOISE[:8_000_000])
    start = 3 * BLOCK + BLOCK - 1
    data[start : start + BURST] = bytes(BURST)
    behind = (start + BURST) // BLOCK // plan.stripes + 1
    for column in range(behind, behind + FLIPS):
        data[(column * plan.stripes + 3) * BLOCK + 17] ^= 1
    source.write_bytes(data)
    assert healed(source, redundant)


@pytest.mark.parametrize(("size", "most"), [(3 << 20, 0.55), (16 << 20, 0.11), (64 << 20, 0.06), (3 << 30, 0.055)])
def test_it_costs_a_few_per_cent_and_at_least_what_a_burst_takes(size: int, most: float) -> None:
    plan = shape(size, 5)
    assert plan.data + plan.parity <= 256
    assert plan.blocks <= plan.segments * plan.data * plan.stripes < plan.blocks + 2 * plan.segments * plan.data
    assert plan.parity >= plan.data * 0.05
    stored = plan.segments * plan.parity * plan.stripes * BLOCK
    assert BURST <= stored <= most * size


def test_what_is_small_is_copied() -> None:
    assert shape(100_000, 5) == Shape(100_000, 1, 1, 25)
    assert shape(8 << 20, 100).parity == 1


@pytest.mark.parametrize("size", [1, BLOCK, 300_000])
def test_a_small_file_that_is_gone_or_cut_short_comes_back(tmp_path: Path, size: int) -> None:
    source, redundant = make(tmp_path, size)
    os.truncate(source, size // 2)
    assert not is_whole(source, redundant)
    assert healed(source, redundant)
    source.unlink()
    assert not is_whole(source, redundant)
    assert healed(source, redundant)


def test_a_large_file_cut_short_and_one_with_more_at_its_end(tmp_path: Path) -> None:
    source, redundant = make(tmp_path, 5_000_000)
    os.truncate(source, 5_000_000 - BURST)
    assert healed(source, redundant)
    source.write_bytes(NOISE[:5_000_000] + b"more")
    assert not is_whole(source, redundant)
    assert healed(source, redundant)


def test_more_damage_than_promised_is_not_healed_wrongly(tmp_path: Path) -> None:
    source, redundant = make(tmp_path, 9_000_000)
    source.write_bytes(bytes(9_000_000))
    assert not healed(source, redundant)
    source.unlink()
    assert not healed(source, redundant)


@pytest.mark.parametrize("where", ["front", "end", "parity"])
def test_parity_that_is_damaged_itself_still_heals(tmp_path: Path, where: str) -> None:
    source, redundant = make(tmp_path, 6_000_000)
    data = bytearray(redundant.read_bytes())
    head = int(data[-20:])
    first = {"front": 10, "end": len(data) - 100, "parity": head + 5 * BLOCK}[where]
    data[first : first + BLOCK] = bytes(len(data[first : first + BLOCK]))
    redundant.write_bytes(data)
    harmed = bytearray(NOISE[:6_000_000])
    harmed[1_000_000:1_900_000] = bytes(900_000)
    source.write_bytes(harmed)
    assert healed(source, redundant)


@pytest.mark.parametrize("content", [b"", b"gitvault parity 1 5 4096 0 0 0 " + b"0" * 64 + b"\n", b"9" * 60])
def test_parity_of_which_no_head_is_left_is_an_error(tmp_path: Path, content: bytes) -> None:
    source, redundant = make(tmp_path, 10_000)
    redundant.write_bytes(content)
    with pytest.raises(CorruptionError, match=r"pack\.par: parity that cannot be read itself; remove it"):
        is_whole(source, redundant)


def test_a_head_that_claims_too_much_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    source, redundant = make(tmp_path, 10_000)
    line = f"gitvault parity 1 {10**17} 4096 128 7 {10**8} {'0' * 64}\n".encode()
    redundant.write_bytes(line + hashlib.sha256(line).digest())
    with pytest.raises(CorruptionError):
        heal(source, redundant, tmp_path / "target", Disk())
    assert not (tmp_path / "target").exists()


def test_with_and_without_zfec_the_parity_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zfec")
    assert parity.Encoder is not None
    made = []
    for encoder in (parity.Encoder, None):
        monkeypatch.setattr(parity, "Encoder", encoder)
        source, redundant = make(tmp_path, 3_000_000)
        made.append(redundant.read_bytes())
        data = bytearray(NOISE[:3_000_000])
        data[700_000:1_700_000] = bytes(1_000_000)
        source.write_bytes(data)
        assert healed(source, redundant)
    assert made[0] == made[1]


def test_parity_is_kept_for_the_packs_that_there_are(tmp_path: Path) -> None:
    packs = [tmp_path / name for name in ("a.zpk", "b.pack", "empty.pack")]
    for number, path in enumerate(packs):
        path.write_bytes(NOISE[: number * 1000] if number < 2 else b"")
    packs[0].write_bytes(NOISE[:5])
    folder = tmp_path / "parity"
    asked = iter([False, True])
    assert parity.update(packs, folder, 5, Disk(), lambda: next(asked)) == 1
    assert parity.update(packs, folder, 5, Disk(), lambda: False) == 1
    assert parity.update(packs, folder, 5, Disk(), lambda: False) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.zpk.par", "b.pack.par"]
    (folder / "half.tmp").write_bytes(b"")
    remove_stale(packs[1:], folder, Disk())
    assert list(folder.iterdir()) == [path_for(packs[1], folder)]


def test_a_vaults_packs_are_protected_as_long_as_there_is_time(tmp_path: Path) -> None:
    for name in ("chunks/a.zpk", "objects/pack/b.pack"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(NOISE[:5000])
    assert parity.protect(tmp_path, 0, Disk()) == parity.protect(tmp_path, 5, Disk(), -1) == 0
    assert not (tmp_path / "parity").exists()
    assert parity.protect(tmp_path, 5, Disk()) == 2
    assert {path.name for path in (tmp_path / "parity").iterdir()} == {"a.zpk.par", "b.pack.par"}


def test_a_full_disk_leaves_no_half_parity(tmp_path: Path) -> None:
    class Full(Disk):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError("full")

    (tmp_path / "a.zpk").write_bytes(NOISE[:5000])
    with pytest.raises(OSError, match="full"):
        parity.update([tmp_path / "a.zpk"], tmp_path / "parity", 5, Full(), lambda: False)
    assert not list((tmp_path / "parity").iterdir())
