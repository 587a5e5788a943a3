"""What was forgotten is nowhere: after a sweep not in a file of the vault, raw or decompressed, nor brought back."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from cutting import git
from trees import contents, write

from gitvault import config
from gitvault.core.backup_engine.retention import Retention
from gitvault.core.storage.packs import by_frame, read_table
from gitvault.core.versioning.operations import UNDO, tombstones
from gitvault.errors import GitVaultError
from gitvault.vault import Vault

NOISE = random.Random(37).randbytes(2_000_000)
SMALL = b"-----BEGIN PRIVATE KEY----- swordfish-in-a-small-file\n" + NOISE[:300].hex().encode()
WORD = b"swordfish-in-the-middle-of-a-large-file-which-is-noise-otherwise"


def large(filler: int) -> bytes:
    """400 kB of noise with the word in the middle; another `filler`, other noise around it."""
    data = bytearray(NOISE[filler : filler + 400_000])
    data[200_000 : 200_000 + len(WORD)] = WORD
    return b"\0" + bytes(data)


def everything(vault: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file of a folder as it is, each stream of zlib or zstd in it decompressed, tables of a database too."""
    for path in sorted(vault.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        yield path, data
        yield from ((path, inner) for inner in _streams(data))
        if data.startswith(b"SQLite"):
            with sqlite3.connect(path) as db:
                yield path, "\n".join(db.iterdump()).encode("utf-8", "replace")
        if path.suffix == ".zpk":
            yield path, b"".join(_deltas(vault, path))


def _streams(data: bytes) -> Iterator[bytes]:
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x28\xb5\x2f\xfd", data):
        rest = data[match.start() :]
        try:
            if rest[0] == 0x78:
                yield zlib.decompressobj().decompress(rest, 1 << 24)
            else:
                yield zstandard.ZstdDecompressor().decompressobj().decompress(rest)
        except (zlib.error, zstandard.ZstdError):
            continue


def _deltas(vault: Path, path: Path) -> Iterator[bytes]:
    """What is coded against something else, by the vault that it lies in, wherever in it the pack lies."""
    with Vault(vault) as opened:
        for frame, chunks in by_frame(read_table(path)):
            for chunk in chunks if frame.bases and path.parent.name == "chunks" else ():
                yield opened.store.retrieve_chunk(chunk.id)


def where(vault: Path, *words: bytes) -> set[str]:
    """The files of a vault in which one of the words can be found."""
    return {str(path.relative_to(vault)) for path, data in everything(vault) if any(word in data for word in words)}


@pytest.fixture
def acme(vault: Vault, tmp_path: Path) -> Path:
    """A project with the secrets in three snapshots, and one after they are gone."""
    acme = tmp_path / "acme"
    write(acme, {"main.c": b"int x;\n", "art/scene.bin": b"\0" + NOISE[900_000:1_300_000]})
    vault.create_snapshot(acme)
    for n in range(3):
        write(acme, {"key.pem": SMALL + b"%d" % n, "art/secret.bin": large(n * 7), "main.c": b"int x = %d;" % n})
        vault.create_snapshot(acme)
    for path in (acme / "key.pem", acme / "art" / "secret.bin"):
        path.unlink()
    vault.create_snapshot(acme)
    return acme


def test_it_is_searched_for_well(vault: Vault, acme: Path) -> None:
    found = where(vault.path, WORD, SMALL[:50])
    assert any(name.startswith("chunks/") for name in found) and any(".pack" in name for name in found)


@pytest.mark.parametrize("upkeep", [False, True])
def test_after_a_sweep_no_file_of_the_vault_has_it(vault: Vault, acme: Path, tmp_path: Path, upkeep: bool) -> None:
    """Neither packs nor parity, quarantine, trash, caches, what killed runs left, what undo kept."""
    config.set(vault.path, "vault.parity", 100)
    vault = Vault.open(vault.path)
    if upkeep:
        vault.maintain()
    vault.prune(Retention(last=4), yes=True)
    vault.verify(data=True)
    # A pack that is damaged elsewhere goes to the quarantine, one is left in each trash.
    pack = max(vault.path.glob("chunks/*.zpk"), key=lambda path: path.stat().st_size)
    for folder in ("quarantine", "trash", "chunks/trash", "tmp", "chunks/tmp", "parity"):
        (vault.path / folder).mkdir(exist_ok=True)
        shutil.copy(pack, vault.path / folder)
        for path in vault.path.glob("objects/pack/*"):
            if folder in ("quarantine", "trash", "tmp"):
                shutil.copy(path, vault.path / folder)
    (vault.path / "quarantine" / f"{pack.name}.2").write_bytes(pack.read_bytes()[:-60])
    (vault.path / "parity" / f"{'0' * 64}.zpk.par").write_bytes(pack.read_bytes())
    vault.close()
    assert len(where(vault.path, WORD, SMALL[:50])) > 8
    vault.forget(["*.pem", "secret.bin"], yes=True)
    actions = vault.sweep().actions
    assert any("quarantine" in action for action in actions)
    vault.close()
    assert where(vault.path, WORD, SMALL[:50], b"key.pem", b"secret.bin") == set()
    assert vault.history.refs.list(UNDO) == {}
    with pytest.raises(GitVaultError):
        vault.undo()
    report = vault.verify(data=True, repair=True)
    assert report.ok and not report.repaired and not report.quarantined
    assert where(vault.path, WORD, SMALL[:50]) == set()
    assert vault.restore_snapshot("acme", tmp_path / "back").problems == ()
    assert contents(tmp_path / "back") == contents(acme)
    assert not git(vault.path, "fsck", "--strict", "--no-dangling")
    # It was for this time: what a repair sets aside later stays.
    (vault.path / "quarantine").mkdir(exist_ok=True)
    (vault.path / "quarantine" / "later").write_bytes(b"x")
    vault.sweep()
    assert (vault.path / "quarantine" / "later").exists()


def test_a_copy_forgets_it_too_and_older_copies_do_not_bring_it_back(vault: Vault, acme: Path, tmp_path: Path) -> None:
    second, older = tmp_path / "second.git", tmp_path / "older.git"
    vault.copy_to(second)
    vault.copy_to(older)
    shutil.copytree(vault.path, tmp_path / "before.git")
    vault.forget(["*.pem", "secret.bin"], yes=True)
    vault.sweep()
    stones = tombstones(vault.history)
    assert len(stones) == 6
    # A copy that is brought up to date.
    assert vault.copy_to(second).left == ()
    with Vault.open(second) as copied:
        assert tombstones(copied.history) == stones
        copied.sweep()
    assert where(second, WORD, SMALL[:50]) == set()
    # A merge from an older one: what it has of it stays there, and is said.
    with Vault.open(older) as old:
        [left] = old.copy_to(vault.path).left
        assert "was forgotten" in left.reason or "separate ways" in left.reason
    assert where(vault.path, WORD, SMALL[:50]) == set()
    # A repair from it, while things are missing here.
    vault.close()
    for path in vault.path.glob("chunks/*.zpk"):
        path.unlink()
    for path in vault.path.glob("objects/pack/*"):
        path.unlink()
    assert vault.verify(repair=True, copies=[older, tmp_path / "before.git"]).repaired
    vault.close()
    assert where(vault.path, WORD, SMALL[:50]) == set()


def test_a_damaged_pack_is_not_replaced_by_one_that_has_it(vault: Vault, acme: Path, tmp_path: Path) -> None:
    """Of the same name, from before it was forgotten: until the sweep it is in the packs, after it in none."""
    shutil.copytree(vault.path, tmp_path / "before.git")
    vault.forget(["*.pem", "secret.bin"], yes=True)
    vault.sweep()
    vault.close()
    shutil.copytree(tmp_path / "before.git" / "objects" / "pack", tmp_path / "packs")
    for path in (tmp_path / "before.git" / "chunks").glob("*.zpk"):
        # Bytes came back by hand, damaged ones.
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        (vault.path / "chunks" / path.name).write_bytes(data)
    assert vault.verify(repair=True, copies=[tmp_path / "before.git"]).repaired is not None
    vault.sweep()
    vault.close()
    assert where(vault.path, WORD, SMALL[:50]) == set()


def test_frames_from_a_copy_bring_nothing_along_for_long(vault: Vault, acme: Path, tmp_path: Path) -> None:
    """A frame comes as a whole, also where only one of its chunks is needed."""
    vault.maintain()
    shutil.copytree(vault.path, tmp_path / "before.git")
    vault.forget(["*.pem", "secret.bin"], yes=True)
    vault.copy_to(tmp_path / "second.git")
    with Vault.open(tmp_path / "second.git") as second:
        second.sweep()
    assert where(tmp_path / "second.git", WORD, SMALL[:50]) == set()
    vault.sweep()
    vault.close()
    for path in vault.path.glob("chunks/*.zpk"):
        path.unlink()
    shutil.rmtree(acme)
    assert vault.verify(repair=True, copies=[tmp_path / "before.git"]).ok
    assert not (vault.path / "cache" / "swept").exists()
    vault.sweep()
    assert where(vault.path, WORD, SMALL[:50]) == set()
