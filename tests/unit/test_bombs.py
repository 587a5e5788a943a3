"""A few bytes that ask for more memory or time than there is: each is refused, or read within bounds."""

from __future__ import annotations

import hashlib
import os
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
from packed import entry

from gitvault.core import scan, stat_cache
from gitvault.core.models import ChunkId, ObjectId
from gitvault.core.patterns import Patterns
from gitvault.core.storage import frames, manifests, packs, reader
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.reader import ChunkReader
from gitvault.core.utils.files import Disk, create_private, open_plain, read_plain
from gitvault.core.versioning import packreader
from gitvault.core.versioning.objects import object_id
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import encode_index
from gitvault.core.versioning.packreader import apply_delta
from gitvault.errors import CorruptionError


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Without the bound, most of what is here would take years."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 60


# -- git's packs -------------------------------------------------------------------------------------


def craft(objects: Path, *entries: tuple[ObjectId, bytes]) -> None:
    body = b"PACK\0\0\0\x02" + len(entries).to_bytes(4, "big")
    places = {}
    for oid, raw in entries:
        places[oid] = len(body) << 32
        body += raw
    path = objects / "pack" / "pack-x.pack"
    path.parent.mkdir(parents=True)
    path.write_bytes(body + hashlib.sha1(body).digest())
    path.with_suffix(".idx").write_bytes(encode_index(places, hashlib.sha1(body).digest()))


def test_a_delta_of_tiny_pieces_needs_no_more_memory_than_what_it_makes() -> None:
    """Two bytes of delta that make an object of two bytes: as Python objects, 43 bytes each."""
    count = 150_000
    size = bytearray()
    value = 2 * count
    while value:
        size.append(value & 127 | (128 if value >> 7 else 0))
        value >>= 7
    delta = b"\x02" + bytes(size) + b"\x90\x02" * count
    tracemalloc.start()
    try:
        assert apply_delta(b"ab", delta) == b"ab" * count
        assert tracemalloc.get_traced_memory()[1] < 24 * count
    finally:
        tracemalloc.stop()


def test_a_chain_of_deltas_that_makes_too_much_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of up to 4,095 steps may make 2 GiB of 100 bytes."""
    monkeypatch.setattr(packreader, "_MAX_WORK", 1 << 20)
    content = b"x" * 0x10000
    step = b"\x80\x80\x04\x80\x80\x04\x80"
    oids = [ObjectId(hashlib.sha1(b"%d" % n).digest()) for n in range(40)]
    raw = [entry(3, len(content), zlib.compress(content))]
    raw += [entry(7, len(step), bytes(base) + zlib.compress(step)) for base in oids[:-1]]
    craft(tmp_path, *zip(oids, raw, strict=True))
    with ObjectStore(tmp_path) as store:
        assert store.read(oids[5], verify=False)[1] == content
        with pytest.raises(CorruptionError, match="GiB on the way"):
            ObjectStore(tmp_path).read(oids[39], verify=False)


def test_a_stream_that_is_longer_than_it_needs_to_be(tmp_path: Path) -> None:
    """Empty blocks before the content: sound, but not to be read into memory at once."""
    content = b"content" * 100
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(content) + deflate.flush()
    stream = b"\x78\x9c" + b"\0\0\0\xff\xff" * 700_000 + body + zlib.adler32(content).to_bytes(4, "big")
    oid = object_id(b"blob", content)
    short = object_id(b"blob", b"short")
    craft(tmp_path, (oid, entry(3, len(content), stream)), (short, entry(3, 5, stream[:3_000_000])))
    with ObjectStore(tmp_path) as store:
        assert store.read(oid) == (b"blob", content)
        with pytest.raises(CorruptionError, match="expected 5 bytes, found 0"):
            store.read(short)


# -- the chunk store ---------------------------------------------------------------------------------


class Forge:
    """A pack in which anything may be claimed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.frames: list[bytes] = []
        self.table = packs.Table()
        self.size = 24

    def add(self, data: bytes, bases: tuple[ChunkId, ...] = (), dictionary: bytes = b"") -> ChunkId:
        frame = frames.compress(data, 3, dictionary)
        chunk = ChunkId(hashlib.sha256(data).digest())
        number = len(self.frames)
        self.table.frames.append(packs.Frame(number, self.size, len(frame), len(data), bases))
        self.table.chunks.append(packs.Chunk(chunk, number, 0, len(data)))
        self.frames.append(frame)
        self.size += len(frame)
        return chunk

    def write(self) -> Path:
        text = packs.format_table(self.table)
        packed = frames.compress(text, 1)
        mark = b"\x57\x2a\x4d\x18"
        block = mark + len(packed).to_bytes(4, "little") + packed
        trailer = f"gitvault table {self.size + 8:020d} {len(packed):020d}\n".encode()
        head = mark + b"\x10\0\0\0gitvault pack 1\n"
        path = self.folder / f"{packs.table_hash(text)}.zpk"
        self.folder.mkdir(exist_ok=True)
        path.write_bytes(head + b"".join(self.frames) + block * 2 + mark + len(trailer).to_bytes(4, "little") + trailer)
        return path


Open = Callable[[], ChunkReader]


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Open:
    def make() -> ChunkReader:
        found = ChunkReader(tmp_path / "chunks", ChunkIndex(tmp_path / "chunks", None, Disk()), Disk())
        request.addfinalizer(found.close)
        return found

    return make


def test_bases_that_stand_on_each_other_crosswise(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two frames on each of 40 levels, both coded against both below: 2 ** 40 to decode where no cache holds them."""
    monkeypatch.setattr(reader, "_CACHE_BYTES", 0)
    monkeypatch.setattr(reader, "_MAX_WORK", 1 << 24)
    forge = Forge(tmp_path / "chunks")
    below = [(forge.add(b"left 0"), b"left 0"), (forge.add(b"right 0"), b"right 0")]
    for level in range(1, 40):
        bases = tuple(chunk for chunk, _ in below)
        dictionary = b"".join(data for _, data in below)
        both = [b"%s %d" % (side, level) for side in (b"left", b"right")]
        below = [(forge.add(data, bases, dictionary), data) for data in both]
    forge.write()
    with pytest.raises(CorruptionError, match="its bases take more than"):
        opened().read([below[0][0]])


def test_a_manifest_that_names_one_chunk_for_ever(
    tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four million times 16 MiB fit into the table of one pack."""
    monkeypatch.setattr(reader, "_MAX_MANIFEST", 1 << 16)
    forge = Forge(tmp_path / "chunks")
    text = manifests.encode([(ChunkId(bytes(32)), 5)] * 10)
    part = forge.add(text)
    forge.write()
    assert opened().manifest("ab" * 32, [part] * 2) == [(ChunkId(bytes(32)), 5)] * 20
    with pytest.raises(CorruptionError, match="claims"):
        opened().manifest("ab" * 32, [part] * 1000)


def test_small_pieces_do_not_hold_large_frames(tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of one byte keeps the frame of 16 MiB that it lies in."""
    monkeypatch.setattr(reader, "_MAX_HELD", 4 << 20)
    monkeypatch.setattr(reader, "_CACHE_BYTES", 0)
    forge = Forge(tmp_path / "chunks")
    chunks = []
    for n in range(40):
        forge.add(b"%d" % (n % 10) + bytes(1 << 20))
        # In place of the whole frame, its first byte.
        whole = forge.table.chunks.pop()
        first = ChunkId(hashlib.sha256(b"%d" % (n % 10)).digest())
        if n < 10:
            forge.table.chunks.append(packs.Chunk(first, whole.frame, 0, 1))
        chunks.append(first)
    forge.write()
    for read in (opened().pieces, opened().read):
        tracemalloc.start()
        try:
            pieces = read(chunks)
            assert b"".join(pieces) == b"0123456789" * 4
            assert tracemalloc.get_traced_memory()[1] < 12 << 20
        finally:
            tracemalloc.stop()


def test_a_pack_of_nothing_but_marks(tmp_path: Path) -> None:
    """Each could be the beginning of a table that reaches to the end of the file."""
    path = tmp_path / ("0" * 64 + ".zpk")
    head = b"\x57\x2a\x4d\x18\x10\0\0\0gitvault pack 1\n"
    for mark in (b"\x57\x2a\x4d\x18" * 2, b"\x57\x2a\x4d\x18\xff\xff\xff\x0f\x28\xb5\x2f\xfd"):
        path.write_bytes(head + mark * (4 << 20 >> 3))
        began = time.monotonic()
        with pytest.raises(CorruptionError):
            packs.read_table(path)
        assert time.monotonic() - began < 10


def test_a_table_as_long_as_a_sparse_file(tmp_path: Path) -> None:
    path = tmp_path / ("0" * 64 + ".zpk")
    length = 1 << 40
    size = 32 + 2 * length + 16 + 57
    with path.open("wb") as file:
        file.write(b"\x57\x2a\x4d\x18\x10\0\0\0gitvault pack 1\n")
        file.truncate(size)
        file.seek(size - 57)
        file.write(f"gitvault table {32:020d} {length:020d}\n".encode())
    with pytest.raises(CorruptionError):
        packs.read_table(path)


def test_a_frame_cannot_be_stored_in_more_than_it_could_need() -> None:
    rows = f"frame 0 24 {packs.MAX_STORED + 1} 10\n".encode()
    with pytest.raises(CorruptionError, match="impossible row"):
        packs.parse_table(rows + f"end {hashlib.sha256(rows).hexdigest()}\n".encode(), "p", 1 << 50)
    noise = os.urandom(packs.MAX_CHUNK)
    assert len(frames.compress(noise, 1)) < packs.MAX_STORED


# -- files ------------------------------------------------------------------------------------------


def test_only_plain_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_plain(path, 5) == b"12345"
    with pytest.raises(CorruptionError, match="at most 4 bytes"):
        read_plain(path, 4)
    with pytest.raises(IsADirectoryError):
        read_plain(tmp_path, 5)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "none", 5)
    with open_plain(path, buffering=0) as file:
        assert file.read() == b"12345"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CorruptionError, match="expected a file"):
            open_plain(tmp_path / "pipe")


def test_a_private_file_is_made_once_and_never_through_a_link(tmp_path: Path) -> None:
    create_private(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"content")
    create_private(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        create_private(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()


def test_a_time_that_no_64_bits_of_nanoseconds_hold(tmp_path: Path) -> None:
    """tmpfs and btrfs keep a file's time up to the year 292 billion: such a file is saved, and read again each time."""
    far = 90_000_000_000 * 10**9 + 1
    stat = stat_cache.Stat(0o100644, 5, far, far, 7)
    cache = stat_cache.StatCache(tmp_path / "stat.db")
    known = stat_cache.Known(stat, 0o100644, b"a", bytes(20), 1)
    cache.replace(
        {}, [(b"", stat_cache.Row(b"", b"", b"", b"", b"", 1, 5), stat_cache.pack_entries({b"a": known}))], [], []
    )
    assert cache.entries(b"")[b"a"].stat != stat
    cache.close()
    assert msgpack.packb(far, default=str)
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a").write_bytes(b"x")
    os.utime(tmp_path / "p/a", ns=(far, far))
    problems: list[scan.Problem] = []
    (folder,) = scan.walk(tmp_path / "p", {}, Patterns(), problems, [])
    assert isinstance(folder, scan.Folder) and not problems
