"""Git objects from one pack into another as they are packed: streams, and deltas of both kinds."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import object_id, tagged
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter
from gitvault.core.versioning.packreader import OFS_DELTA, REF_DELTA, BaseCache, Pack, read_header
from gitvault.core.versioning.redeflate import encode_distance, parse_entry
from gitvault.core.versioning.transfer import ObjectTransfer
from gitvault.errors import ContentMissing, CorruptionError

NOISE = random.Random(21)


def git(folder: Path, *words: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["git", *words], cwd=folder, input=stdin, check=True, capture_output=True).stdout


@pytest.fixture
def versions() -> list[bytes]:
    """Of one text, each a small edit of the one before."""
    lines = [b"%030x\n" % NOISE.getrandbits(120) for _ in range(400)]
    found = []
    for number in range(6):
        lines[number * 50] = b"edit %d\n" % number
        found.append(b"".join(lines))
    return found


@pytest.fixture(params=["--delta-base-offset", "--no-reuse-delta"], ids=["offsets", "ids"])
def packed(request: pytest.FixtureRequest, tmp_path: Path, versions: list[bytes]) -> Iterator[ObjectStore]:
    """All versions in one pack that git made, as deltas that name their base by distance, or by its id."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    ids = [git(folder, "hash-object", "-w", "--stdin", stdin=version).strip() for version in versions]
    git(folder, "pack-objects", "-q", request.param, ".git/objects/pack/pack", stdin=b"\n".join(ids))
    git(folder, "prune-packed")
    with ObjectStore(folder / ".git" / "objects") as store:
        yield store


def entries(index: Path) -> dict[ObjectId, tuple[int, bytes, int | bytes | None]]:
    """Code, stored bytes and base of each object of a pack."""
    pack = Pack(index)
    found = {}
    for start, _, oid in pack.entries():
        raw = pack.packed(start)
        _, _, base, _ = parse_entry(raw, start)
        found[oid] = raw[0] >> 4 & 7, raw, base
    pack.close()
    return found


def test_deltas_stay_deltas_and_streams_stay_as_they_are(
    packed: ObjectStore, versions: list[bytes], tmp_path: Path
) -> None:
    oids = [object_id(b"blob", version) for version in versions]
    writer = PackWriter(tmp_path, Disk())
    assert set(packed.copy_many(oids, writer)) == set(oids)
    made = writer.finish()
    assert made
    git(tmp_path, "index-pack", "--strict", "--verify", str(made.pack))
    [name] = {name for name, _ in packed.by_pack(oids)}
    before = entries(tmp_path / "repository/.git/objects/pack" / Path(name).with_suffix(".idx"))
    after = entries(made.index)
    assert {code for code, _, _ in after.values()} == {3, OFS_DELTA}
    assert sum(code in (OFS_DELTA, REF_DELTA) for code, _, _ in before.values()) == 5
    for oid, (code, raw, _) in before.items():
        if code == 3:
            assert after[oid][1] == raw
    read = Pack(made.index)
    for oid, version in zip(oids, versions, strict=True):
        offset = read.find(oid)
        assert offset is not None
        assert read.read(offset, BaseCache(1 << 20)) == (b"blob", version)
    read.close()


def test_a_delta_whose_base_does_not_come_along_is_packed_whole(
    packed: ObjectStore, versions: list[bytes], tmp_path: Path
) -> None:
    for version in versions:
        writer = PackWriter(tmp_path, Disk())
        oid = object_id(b"blob", version)
        list(packed.copy_many([oid], writer))
        assert writer.start(oid) == 12
        assert writer.start(ObjectId(bytes(20))) is None
        made = writer.finish()
        assert made
        assert {code for code, _, _ in entries(made.index).values()} == {3}
        git(tmp_path, "index-pack", "--strict", "--verify", str(made.pack))


def test_what_is_missing_or_damaged_is_told(packed: ObjectStore, versions: list[bytes], tmp_path: Path) -> None:
    oids = [object_id(b"blob", version) for version in versions]
    missing = ObjectId(b"\x01" * 20)
    with pytest.raises(ContentMissing):
        list(packed.copy_many([*oids, missing], PackWriter(tmp_path, Disk())))
    assert [(name, found) for name, found in packed.by_pack([missing])] == [("", [missing])]
    packed.close()
    [pack] = (tmp_path / "repository/.git/objects/pack").glob("*.pack")
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 8
    pack.chmod(0o600)
    pack.write_bytes(data)
    with pytest.raises(CorruptionError):
        list(packed.copy_many(oids, PackWriter(tmp_path, Disk())))


def test_what_has_the_checksum_it_was_packed_with_is_not_inflated(
    packed: ObjectStore, versions: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oids = [object_id(b"blob", version) for version in versions]
    read = Pack.read
    inflated: list[int] = []
    monkeypatch.setattr(Pack, "read", lambda *words: (inflated.append(words[1]), read(*words))[1])
    assert set(packed.copy_many(oids, PackWriter(tmp_path, Disk()))) == set(oids)
    assert not inflated
    packed.close()
    [index] = (tmp_path / "repository/.git/objects/pack").glob("*.idx")
    data = bytearray(index.read_bytes())
    count = int.from_bytes(data[1028:1032], "big")
    data[1032 + 20 * count : 1032 + 24 * count] = bytes(4 * count)
    index.chmod(0o600)
    index.write_bytes(data)
    # An index that says something else is not believed, and neither is it that the objects are damaged.
    assert set(packed.copy_many(oids, PackWriter(tmp_path, Disk()))) == set(oids)
    assert len(inflated) >= len(oids)


def test_a_pack_says_whether_an_object_is_as_it_was_packed(
    packed: ObjectStore, versions: list[bytes], tmp_path: Path
) -> None:
    oid = object_id(b"blob", versions[0])
    [index] = (tmp_path / "repository/.git/objects/pack").glob("*.idx")
    pack = Pack(index)
    at = pack.find(oid)
    assert at is not None
    raw = pack.packed(at)
    assert pack.is_as_packed(oid, raw)
    assert not pack.is_as_packed(oid, bytes((raw[0] ^ 1,)) + raw[1:])
    assert not pack.is_as_packed(bytes(20), raw)
    pack.close()


def test_the_beginning_of_an_object_is_read_or_refused() -> None:
    assert read_header(b"\x35stream", 0, 7) == (3, 5, 1)
    assert read_header(b"..\xb5\x02stream", 2, 10) == (3, 37, 4)
    with pytest.raises(ValueError, match="malformed header"):
        read_header(b"\xff" * 40, 0, 40)
    with pytest.raises(ValueError, match="claims 5 bytes, which its pack cannot hold"):
        read_header(b"\x35", 0, 1)


@pytest.mark.parametrize("distance", [1, 127, 128, 16_511, 16_512, 1 << 31])
def test_distances_read_back(distance: int) -> None:
    raw = bytes((OFS_DELTA << 4 | 5,)) + encode_distance(distance) + b"stream"
    size, head, base, body = parse_entry(raw, 1 << 40)
    assert (size, head, raw[body:]) == (5, raw[:1], b"stream")
    assert base == (1 << 40) - distance


def test_a_tag_names_its_object() -> None:
    oid = ObjectId(b"\xab" * 20)
    assert tagged(oid, b"object " + oid.hex().encode() + b"\ntype commit\n") == oid
    with pytest.raises(CorruptionError, match="names no object"):
        tagged(oid, b"type commit\n")


def test_between_two_histories_only_what_is_new_moves(tmp_path: Path) -> None:
    # The files of a version have its time: unless that stands still, more than the edit is new.
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    one, other = (GitHistory(tmp_path / name, now=lambda: noon) for name in ("one", "other"))
    for history in (one, other):
        (history.git_dir / "objects" / "pack").mkdir(parents=True)
        (history.git_dir / "HEAD").write_text("ref: refs/heads/none\n")
        (history.git_dir / "refs").mkdir()
    files = {b"src/%03d" % n: b"%d" % n for n in range(50)}
    one.create_version("p", files)
    one.keep_head("refs/heads/p")
    assert one.refs.head() == "refs/heads/p"
    said: list[str] = []
    first = ObjectTransfer(one, other, lambda what, done, total: said.append(what))
    assert first.copy(one.refs.list(), {}) == (1, set())
    first.flush()
    assert said == ["copying objects"]
    for ref, oid in one.refs.list().items():
        other.refs.update(ref, oid)
    before = first.objects
    one.create_version("p", files | {b"src/007": b"changed"})
    second = ObjectTransfer(one, other, lambda what, done, total: None)
    told: list[str] = []
    assert second.copy(one.refs.list(), other.refs.list(), told.append) == (1, set())
    second.flush()
    # A blob; the trees of the folder and above; the same of the attributes; two commits.
    assert (before, second.objects) == (57, 7)
    assert len(told) == 7
    second.copy(one.refs.list(), other.refs.list())
    second.abandon()
    one.close()
    other.close()
