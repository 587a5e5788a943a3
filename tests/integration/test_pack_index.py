"""Indexes of packs from elsewhere: git's own byte for byte; what git refuses is refused."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import pytest
from packed import entry

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning.objects import object_id
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packindex import index_of, partial_index, write_index
from gitvault.core.versioning.packreader import MAX_INFLATION, PARTIAL, Pack
from gitvault.errors import ChecksumMismatch, ContentMissing, CorruptionError

NOISE = random.Random(5).randbytes(3_000_000)
BLOBS = [b"", b"text\n" * 50, NOISE[:20_000], NOISE, b"\0" * 5_000_000, b"a", b"x" * 15, b"x" * 16]


def pack_of(*entries: bytes, count: int | None = None) -> bytes:
    number = len(entries) if count is None else count
    body = b"PACK\x00\x00\x00\x02" + number.to_bytes(4, "big") + b"".join(entries)
    return body + hashlib.sha1(body).digest()


def blob(data: bytes, level: int = 6) -> bytes:
    return entry(3, len(data), zlib.compress(data, level))


def gits(folder: Path, pack: bytes) -> bytes | None:
    """The index that git writes; None when it refuses the pack."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "one.pack").write_bytes(pack)
    command = ["git", "-c", "pack.writeReverseIndex=false", "index-pack", "-o", "one.idx", "one.pack"]
    done = subprocess.run(command, cwd=folder, capture_output=True)
    return None if done.returncode else (folder / "one.idx").read_bytes()


def test_index_is_gits_own(tmp_path: Path) -> None:
    pack = pack_of(*(blob(data, level) for level, data in enumerate(BLOBS)), entry(2, 0, zlib.compress(b"")))
    assert index_of(pack) == gits(tmp_path / "git", pack)


@pytest.mark.parametrize("kind", ["offset", "id", "id of one that follows", "twice"])
def test_what_is_no_row_of_whole_objects_is_left_to_git(tmp_path: Path, kind: str) -> None:
    base = b"0123456789" * 20
    # Its sizes, then: 200 bytes of the base, one more.
    instructions = zlib.compress(b"\xc8\x01\xc9\x01\x90\xc8\x01!")
    first = blob(base)
    delta = {
        "offset": entry(6, 8, bytes([len(first)]) + instructions),
        "id": entry(7, 8, object_id(b"blob", base) + instructions),
        "id of one that follows": entry(7, 8, object_id(b"blob", base) + instructions),
        "twice": first,
    }[kind]
    pack = pack_of(delta, first) if "follows" in kind else pack_of(first, delta)
    assert index_of(pack) is None
    path = tmp_path / "here.pack"
    path.write_bytes(pack)
    assert write_index(path, pack, Disk()) == tmp_path / "here.idx"
    assert (tmp_path / "here.idx").read_bytes() == gits(tmp_path / "git", pack)


def test_a_delta_without_its_base_is_refused(tmp_path: Path) -> None:
    pack = pack_of(entry(7, 8, ObjectId(b"\1" * 20) + zlib.compress(b"\xc8\x01\xc9\x01\x90\xc8\x01!")))
    (tmp_path / "here.pack").write_bytes(pack)
    with pytest.raises(CorruptionError):
        write_index(tmp_path / "here.pack", pack, Disk())
    assert not (tmp_path / "here.idx").exists()


STREAM = zlib.compress(b"text" * 9)
UNSOUND = {
    "nothing": b"",
    "too short": b"PACK\0",
    "another version": pack_of(blob(b"x")).replace(b"\2", b"\4", 1),
    "checksum": pack_of(blob(b"x"))[:-1] + b"?",
    "more objects said than there are": pack_of(blob(b"x"), count=2),
    "fewer": pack_of(blob(b"x"), blob(b"y"), count=1),
    "bytes behind the last": pack_of(blob(b"x"), b"more", count=1),
    "no such type": pack_of(entry(5, 1, zlib.compress(b"x"))),
    "type zero": pack_of(entry(0, 1, zlib.compress(b"x"))),
    "shorter than it says": pack_of(entry(3, 37, STREAM)),
    "longer than it says": pack_of(entry(3, 35, STREAM)),
    "empty by what it says": pack_of(entry(3, 0, STREAM)),
    "cut": pack_of(entry(3, 36, STREAM[:-1])),
    "its own checksum": pack_of(entry(3, 36, STREAM[:-1] + b"?")),
    "no stream": pack_of(entry(3, 36, b"none of it" * 9)),
    "a header without end": pack_of(b"\xbf" + b"\xff" * 40),
    "a header and no more": pack_of(b"\xbf"),
    "more than its bytes can make": pack_of(entry(3, (len(STREAM) + 1) * MAX_INFLATION, STREAM)),
    "larger than any": pack_of(entry(3, 1 << 40, STREAM)),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_what_git_refuses_is_refused(tmp_path: Path, what: str) -> None:
    assert gits(tmp_path / "git", UNSOUND[what]) is None
    with pytest.raises(CorruptionError):
        index_of(UNSOUND[what])


def test_a_changed_byte_is_refused_where_git_refuses_it(tmp_path: Path) -> None:
    chance = random.Random(11)
    sound = pack_of(*(blob(bytes(chance.choices(b"abc", k=200))) for _ in range(4)))
    refused = 0
    for _ in range(60):
        body = bytearray(sound[:-20])
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        pack = bytes(body) + hashlib.sha1(body).digest()
        theirs = gits(tmp_path / "git", pack)
        try:
            ours = index_of(pack)
        except CorruptionError:
            ours = None
            refused += 1
        assert ours is None or ours == theirs
    assert refused > 50


def test_a_bomb_takes_little_memory() -> None:
    stream = zlib.compressobj()
    deflated = b"".join(stream.compress(bytes(1 << 20)) for _ in range(64)) + stream.flush()
    pack = pack_of(entry(3, 64 << 20, deflated))
    tracemalloc.start()
    try:
        assert index_of(pack)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_some_objects_of_a_pack_are_read_where_they_are_said_to_begin(tmp_path: Path) -> None:
    """What is said wrongly or lies behind the end is an error of that object, the others are read."""
    pack = pack_of(*map(blob, BLOBS))
    whole = index_of(pack)
    assert whole
    (tmp_path / "whole.idx").write_bytes(whole)
    at = {oid: Pack(tmp_path / "whole.idx").find(oid) for oid in (object_id(b"blob", data) for data in BLOBS)}
    text, noise, letter, other = (object_id(b"blob", data) for data in (BLOBS[1], NOISE, b"a", b"x" * 15))
    offsets = {text: at[text], noise: at[noise], letter: at[text], other: len(pack)}
    folder = tmp_path / "objects/pack"
    folder.mkdir(parents=True)
    index = partial_index(pack[-20:], len(pack), {oid: offset for oid, offset in offsets.items() if offset is not None})
    (folder / f"{PARTIAL}1.pack").write_bytes(pack)
    (folder / f"{PARTIAL}1.idx").write_bytes(index)
    with ObjectStore(tmp_path / "objects") as store:
        assert store.read(text) == (b"blob", BLOBS[1])
        assert store.read(noise) == (b"blob", NOISE)
        with pytest.raises(ChecksumMismatch):
            store.read(letter)
        for oid in (other, object_id(b"blob", b"x" * 16)):
            assert not store.contains(oid)
            with pytest.raises(ContentMissing):
                store.read(oid)
