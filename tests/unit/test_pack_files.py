"""The .zpk format: what is written is read back, what cannot be true is refused, damage is survived or named."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames, packs
from gitvault.core.storage.packs import (
    PACK_NAME,
    Chunk,
    Frame,
    Pack,
    PackWriter,
    Table,
    by_frame,
    format_table,
    parse_table,
    read_table,
    table_hash,
)
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, UnsupportedFormatVersion


def chunk_id(data: bytes) -> ChunkId:
    return ChunkId(hashlib.sha256(data).digest())


BASE = chunk_id(b"base")
OID = "ab" * 32


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A finished pack: a frame of two chunks, a delta frame, a manifest."""
    (tmp_path / "tmp").mkdir()
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(tmp_path / "tmp", "new.zpk", Disk(), background)
        writer.add(frames.compress(b"one" + b"three", 3), [(chunk_id(b"one"), 3), (chunk_id(b"three"), 5)], ())
        writer.add(frames.compress(b"base+", 3, b"base"), [(chunk_id(b"base+"), 5)], [BASE])
        writer.add_manifest(OID, (chunk_id(b"one"), chunk_id(b"three")))
        writer.seal()
        return tmp_path / writer.publish(tmp_path)


def test_a_pack_is_named_by_its_table_and_lists_what_it_holds(pack: Path) -> None:
    assert PACK_NAME.fullmatch(pack.name)
    table = read_table(pack, strict=True)
    rows, _, last = format_table(table).rpartition(b"end ")
    assert hashlib.sha256(rows).hexdigest() == pack.stem == last.decode().strip()
    assert [(c.id, c.frame, c.inner, c.length) for c in table.chunks] == [
        (chunk_id(b"one"), 0, 0, 3),
        (chunk_id(b"three"), 0, 3, 5),
        (chunk_id(b"base+"), 1, 0, 5),
    ]
    assert table.manifests == [(OID, (chunk_id(b"one"), chunk_id(b"three")))]
    plain, delta = table.frames
    assert frames.decompress(Pack(pack).read(plain), 8) == b"onethree"
    assert delta.bases == (BASE,)
    assert frames.decompress(Pack(pack).read(delta), 5, b"base") == b"base+"
    assert not list((pack.parent / "tmp").iterdir())


def test_threads_read_one_pack_side_by_side(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five files are restored at once, and most lie in the same pack."""
    opened, together = packs.open_plain, threading.Barrier(2, timeout=20)

    class Meeting(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            together.wait()
            return super().read(-1 if size is None else size)

    def meet(path: Path, *, buffering: int = -1) -> io.FileIO:
        with opened(path, buffering=buffering):
            return Meeting(path)

    frames_there = read_table(pack).frames
    monkeypatch.setattr(packs, "open_plain", meet)
    one = Pack(pack)
    with ThreadPoolExecutor(2) as threads:
        assert [len(data) for data in threads.map(one.read, frames_there)] == [f.stored for f in frames_there]


def test_what_is_being_written_can_be_read(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(tmp_path, "new.zpk", Disk(), background)
        writer.add(frames.compress(b"x" * 1000, 3), [(chunk_id(b"x" * 1000), 1000)], ())
        assert frames.decompress(writer.read(writer.table.frames[0]), 1000) == b"x" * 1000
        writer.drop()
    assert not list(tmp_path.iterdir())


def test_what_is_being_written_can_be_read_while_more_is_added(tmp_path: Path) -> None:
    """Part of it in the file, part on its way, part waiting for more to go with it; and nothing changes places."""
    noise = random.Random(4)
    pieces = [noise.randbytes(noise.randrange(1, 700_000)) for _ in range(60)]
    done = threading.Event()
    added: list[Frame] = []
    with ThreadPoolExecutor(1) as background, ThreadPoolExecutor(2) as readers:
        writer = PackWriter(tmp_path, "new.zpk", Disk(), background)

        def read_all() -> int:
            rounds = 0
            while not rounds or not done.is_set():
                rounds += 1
                for frame, data in zip(list(added), pieces, strict=False):
                    assert frames.decompress(writer.read(frame), len(data)) == data
            return rounds

        reading = [readers.submit(read_all) for _ in range(2)]
        try:
            for data in pieces:
                writer.add(frames.compress(data, 1), [(chunk_id(data), len(data))], ())
                added.append(writer.table.frames[-1])
        finally:
            done.set()
        assert all(reader.result() for reader in reading)
        writer.seal()
        path = tmp_path / writer.publish(tmp_path)
    for frame, data in zip(read_table(path, strict=True).frames, pieces, strict=True):
        assert frames.decompress(Pack(path).read(frame), len(data)) == data


def damage(path: Path, offset: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def tables(path: Path) -> tuple[int, int]:
    """Where the two copies of the table are."""
    content = path.read_bytes()
    offset, length = map(int, content[-57:].split()[2:])
    return offset, offset + length + 8


@pytest.mark.parametrize("where", ["first", "second", "between", "trailer"])
def test_one_damaged_place_of_three_loses_nothing_but_is_named(pack: Path, where: str) -> None:
    first, second = tables(pack)
    damage(pack, {"first": first + 6, "second": second + 6, "between": second - 4, "trailer": -20}[where], b"?")
    assert len(read_table(pack).chunks) == 3
    with pytest.raises(CorruptionError, match=pack.name):
        read_table(pack, strict=True)


def test_each_frame_with_its_chunks(pack: Path) -> None:
    table = read_table(pack)
    assert [(frame.number, [chunk.id for chunk in chunks]) for frame, chunks in by_frame(table)] == [
        (0, [chunk_id(b"one"), chunk_id(b"three")]),
        (1, [chunk_id(b"base+")]),
    ]


def test_a_frame_is_checked_against_what_it_was_made_of() -> None:
    frames.check(frames.compress(b"abc", 3), 3)
    frames.check(frames.compress(b"abc", 3, b"base"), 3, b"base")
    with pytest.raises(CorruptionError, match="check this machine's memory"):
        frames.check(frames.compress(b"abc", 3).replace(b"abc", b"abd"), 3)


def test_a_pack_with_the_name_of_another_is_read_but_named(pack: Path) -> None:
    other = pack.rename(pack.with_name("0" * 64 + ".zpk"))
    assert len(read_table(other).chunks) == 3
    with pytest.raises(CorruptionError, match=r"0000\.zpk: its table has the hash .*, not its name"):
        read_table(other, strict=True)


def test_a_pack_cut_inside_its_trailer_is_still_read(pack: Path) -> None:
    pack.write_bytes(pack.read_bytes()[:-10])
    assert len(read_table(pack).chunks) == 3


def test_both_tables_damaged_is_an_error(pack: Path) -> None:
    for at in tables(pack):
        damage(pack, at + 6, b"?")
    with pytest.raises(CorruptionError, match="the table cannot be decoded"):
        read_table(pack)


def test_a_pack_without_any_table_is_an_error(pack: Path) -> None:
    pack.write_bytes(pack.read_bytes()[: tables(pack)[0] - 8])
    with pytest.raises(CorruptionError, match="it has no table"):
        read_table(pack)


def test_no_pack_at_all_is_an_error(pack: Path) -> None:
    pack.write_bytes(b"PK\x03\x04 something else entirely")
    with pytest.raises(CorruptionError, match="does not begin like a pack"):
        read_table(pack)


def test_a_pack_of_the_next_format_asks_for_an_update(pack: Path) -> None:
    damage(pack, pack.read_bytes().index(b"pack 1") + 5, b"2")
    with pytest.raises(UnsupportedFormatVersion, match="newer gitvault"):
        read_table(pack)


def test_a_frame_that_the_file_does_not_hold_is_an_error(pack: Path) -> None:
    with pytest.raises(CorruptionError, match="cut short"):
        Pack(pack).read(Frame(0, pack.stat().st_size - 5, 100, 100))


def signed(rows: str) -> bytes:
    text = rows.encode()
    return text + f"end {hashlib.sha256(text).hexdigest()}\n".encode()


def test_a_row_of_an_unknown_kind_asks_for_an_update() -> None:
    """The format is extended by new kinds of rows; an old reader must not guess."""
    with pytest.raises(UnsupportedFormatVersion, match=r"'recompressed'.*newer gitvault"):
        parse_table(signed("recompressed png 1 2 3\n"), "p.zpk", 24)


ID = "cd" * 32


@pytest.mark.parametrize(
    "rows",
    [
        "frame 1 24 10 10\n",
        "frame 0 25 10 10\n",
        "frame 0 24 0 10\n",
        "frame 0 24 10 99999999999\n",
        "frame 0 24 10 -1\n",
        "frame 0 24 10\n",
        "frame 0 24 ten 10\n",
        "frame 0 24 10 10 abcd\n",
        f"chunk {ID} 0 0 10\n",
        f"frame 0 24 10 10\nchunk {ID} 0 5 6\n",
        f"frame 0 24 10 10\nchunk {ID} 0 -5 6\n",
        f"frame 0 24 10 10\nchunk {ID} 0 0 0\n",
        f"frame 0 24 10 10\nchunk {ID[2:]} 0 0 1\n",
        "level 0\n",
        "level 23\n",
        "level -3\n",
        "level\n",
        "level 9 9\n",
        "level nine\n",
        "manifest 1234\n",
        "manifest\n",
    ],
)
def test_rows_that_cannot_be_true_are_refused(rows: str) -> None:
    with pytest.raises(CorruptionError, match="impossible row"):
        parse_table(signed(rows), "p.zpk", 1000)


def test_a_table_that_does_not_have_its_hash_is_refused() -> None:
    rows = signed("frame 0 24 10 10\n").replace(b"24", b"25")
    with pytest.raises(CorruptionError, match="the table does not have its hash"):
        parse_table(rows, "p.zpk", 1000)


def test_frames_that_reach_into_the_table_are_refused() -> None:
    with pytest.raises(CorruptionError, match="the table begins at 30"):
        parse_table(signed("frame 0 24 10 10\n"), "p.zpk", 30)


def test_the_table_is_text_that_awk_can_read() -> None:
    table = Table([Frame(0, 24, 10, 20, (BASE,))], [], [(OID, (BASE, BASE))])
    lines = format_table(table).decode("ascii").splitlines()
    assert lines[0] == f"frame 0 24 10 20 {BASE.hex()}"
    assert lines[1] == f"manifest {OID} {BASE.hex()} {BASE.hex()}"
    assert lines[-1].split()[0] == "end"


def test_a_frame_that_lies_about_its_length_is_refused_before_anything_is_allocated() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    with pytest.raises(CorruptionError, match="it declares 67108864"):
        frames.decompress(bomb, 1000)


def test_only_as_much_is_decoded_as_was_allowed() -> None:
    import zstandard

    assert frames.decompress_up_to(frames.compress(bytes(1000), 3), 1000) == bytes(1000)
    with pytest.raises(CorruptionError, match="at most 999 bytes expected, it declares 1000"):
        frames.decompress_up_to(frames.compress(bytes(1000), 3), 999)
    with pytest.raises(CorruptionError, match="at most 1000 bytes"):
        frames.decompress_up_to(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10)), 1000)
    with pytest.raises(CorruptionError, match="git-vault verify"):
        frames.decompress_up_to(b"", 1000)


@pytest.mark.parametrize("change", ["flip", "cut", "more", "none"])
def test_damaged_frames_are_refused(change: str) -> None:
    frame = frames.compress(bytes(range(256)) * 40, 3)
    broken = {"flip": frame[:6] + b"\xff" + frame[7:], "cut": frame[:-3], "more": frame + b"x", "none": b""}[change]
    with pytest.raises(CorruptionError):
        frames.decompress(broken, 10240)


@pytest.mark.parametrize("level", [0, 1, 22])
def test_the_level_that_upkeep_has_reached_is_a_row(level: int) -> None:
    table = Table([Frame(0, 24, 10, 20)], level=level)
    text = format_table(table)
    assert parse_table(text, "p.zpk", 100) == table
    assert (f"level {level}\n".encode() in text) == bool(level)
    assert table_hash(text) == text.split()[-1].decode()


def test_a_sealed_pack_knows_its_name(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(tmp_path, "new.zpk", Disk(), background)
        name = writer.seal()
        assert writer.publish(tmp_path) == name == table_hash(format_table(Table())) + ".zpk"
    assert read_table(tmp_path / name, strict=True) == Table()


def test_a_copied_frame_keeps_where_its_chunks_lie(tmp_path: Path) -> None:
    """They need not fill it, nor follow each other."""
    with ThreadPoolExecutor(1) as background:
        writer = PackWriter(tmp_path, "new.zpk", Disk(), background)
        chunks = [Chunk(chunk_id(b"three"), 7, 3, 5), Chunk(chunk_id(b"one"), 7, 1, 3)]
        writer.add_copy(Frame(7, 999, 1, 20, (BASE,)), b"frame", chunks)
        assert writer.places[chunk_id(b"one")] == Chunk(chunk_id(b"one"), 0, 1, 3)
        writer.seal()
        table = read_table(tmp_path / writer.publish(tmp_path), strict=True)
    assert table.frames == [Frame(0, 24, 5, 20, (BASE,))]
    assert table.chunks == [Chunk(chunk_id(b"three"), 0, 3, 5), Chunk(chunk_id(b"one"), 0, 1, 3)]


@pytest.mark.parametrize("offset", [0, 7, 31])
def test_a_trailer_that_points_before_the_first_frame_is_damage(tmp_path: Path, offset: int) -> None:
    """Not a crash: what lies before the table is looked at too."""
    head = b"\x57\x2a\x4d\x18\x10\0\0\0gitvault pack 1\n"
    length = 200
    filler = b"." * (offset + 2 * length + 16 - len(head))
    path = tmp_path / f"{'ab' * 32}.zpk"
    path.write_bytes(head + filler + f"gitvault table {offset:020d} {length:020d}\n".encode())
    for strict in (False, True):
        with pytest.raises(CorruptionError):
            read_table(path, strict=strict)
