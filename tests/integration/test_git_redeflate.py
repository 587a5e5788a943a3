"""What a repack deflates anew: smaller, read by every git alike, once; a damaged or stopped run changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from packed import entry

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk, NewFile
from gitvault.core.utils.process import git
from gitvault.core.versioning import rolling as module
from gitvault.core.versioning.objects import (
    MODE_FILE,
    MODE_TREE,
    Commit,
    Signature,
    encode_commit,
    encode_tree,
    object_id,
)
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter, publish
from gitvault.core.versioning.packreader import OFS_DELTA, REF_DELTA, BaseCache, Pack
from gitvault.core.versioning.redeflate import LARGEST, redeflate
from gitvault.core.versioning.refs import RefStore
from gitvault.core.versioning.repack import due, repack
from gitvault.errors import CorruptionError, StorageFullError, ToolFailed, ToolStopped

pytestmark = pytest.mark.needs("git")


def text(seed: int, size: int) -> bytes:
    """Words that deflate three to one."""
    rng = random.Random(seed)
    words = [rng.randbytes(3).hex().encode() for _ in range(200)]
    return b" ".join(rng.choices(words, k=size // 7 + 1))[:size]


def save(vault: Path, files: dict[bytes, bytes], *, moved: bool = True) -> ObjectId:
    """A version of a project: one pack, the branch moved there. Returns the commit."""
    writer = PackWriter(vault / "tmp", Disk())
    blobs = [(name, MODE_FILE, writer.add(b"blob", data)) for name, data in files.items()]
    tree = writer.add(b"tree", encode_tree([(b"src", MODE_TREE, writer.add(b"tree", encode_tree(blobs)))]))
    refs = RefStore(vault, Disk())
    parent = refs.read("refs/heads/main")
    who = Signature("A", "a@example.invalid", 1_700_000_000)
    commit = writer.add(b"commit", encode_commit(Commit(tree, (parent,) if parent else (), who, who, "m\n")))
    pack = writer.finish()
    assert pack is not None
    publish(pack, vault / "objects" / "pack", Disk())
    if moved:
        refs.update("refs/heads/main", commit, old=parent)
    return commit


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Twelve versions of ten files; each changes one line of one of them, so git makes chains of deltas."""
    path = tmp_path / "v.git"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    (path / "tmp").mkdir()
    lines = {b"%d.c" % n: [text(100 * n + k, 60) for k in range(120)] for n in range(10)}
    for version in range(12):
        lines[b"3.c"][version * 7] = text(5000 + version, 60)
        save(path, {name: b"\n".join(content) for name, content in lines.items()})
    git(path, "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-m", "a tag", "v1", "main")
    return path


def packs(vault: Path) -> list[Path]:
    return sorted((vault / "objects" / "pack").glob("*.pack"))


def files(vault: Path) -> dict[str, bytes]:
    """Everything that lies in the vault."""
    return {str(p.relative_to(vault)): p.read_bytes() for p in sorted(vault.rglob("*")) if p.is_file()}


def objects(vault: Path) -> bytes:
    """Every object with its kind, as git reads it."""
    return git(vault, "cat-file", "--batch-all-objects", "--batch")


def depths(pack: Path) -> dict[str, int]:
    """How many deltas stand between each object and a whole one, as git sees it."""
    rows = [line.split() for line in git(pack.parent, "verify-pack", "-v", pack).decode().splitlines()]
    return {row[0]: int(row[5]) if len(row) > 5 else 0 for row in rows if len(row) >= 5 and len(row[0]) == 40}


def test_every_object_is_the_same_smaller_and_deflated_once(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = objects(vault)
    made_by_git = []
    original = module._pack_objects

    def noted(*arguments: object, **options: object) -> list[Path]:
        indexes: list[Path] = original(*arguments, **options)  # type: ignore[arg-type]
        made_by_git.append(sum(index.with_suffix(".pack").stat().st_size for index in indexes))
        return indexes

    monkeypatch.setattr(module, "_pack_objects", noted)
    first = repack(vault, Disk())
    assert objects(vault) == before
    assert git(vault, "fsck", "--full", "--strict") == b""
    (pack,) = packs(vault)
    assert pack.stat().st_size < 0.97 * made_by_git[0]
    assert pack.stem == "pack-" + pack.read_bytes()[-20:].hex()
    assert hashlib.sha1(pack.read_bytes()[:-20]).digest() == pack.read_bytes()[-20:]
    assert max(depths(pack).values()) >= 5
    assert 20 < first.deflated <= len(depths(pack))

    # Nothing new: the same bytes. Something new: only that.
    name, content = pack.name, pack.read_bytes()
    assert repack(vault, Disk()).deflated == 0
    assert [p.name for p in packs(vault)] == [name] and packs(vault)[0].read_bytes() == content
    save(vault, {b"new.c": text(1, 9000), b"other.c": text(2, 300)})
    before = objects(vault)
    third = repack(vault, Disk())
    assert 2 <= third.deflated <= 5
    assert objects(vault) == before
    assert git(vault, "fsck", "--full", "--strict") == b""
    assert repack(vault, Disk()).deflated == 0


def test_dulwich_and_libgit2_read_the_result(vault: Path) -> None:
    dulwich = pytest.importorskip("dulwich.repo")
    pygit2 = pytest.importorskip("pygit2")
    repack(vault, Disk())
    ids = [line.split()[0] for line in git(vault, "cat-file", "--batch-all-objects", "--batch-check").splitlines()]
    repository = pygit2.Repository(str(vault))
    with dulwich.Repo(str(vault)) as repo, ObjectStore(vault / "objects") as store:
        for digits in ids:
            kind, data = store.read(ObjectId(bytes.fromhex(digits.decode())))
            assert repo.object_store[digits].as_raw_string() == data
            assert repo.object_store[digits].type_name == kind
            assert repository.get(digits.decode()).read_raw() == data


def test_what_an_unfinished_run_left_is_deflated_when_a_ref_reaches_it(vault: Path) -> None:
    commit = save(vault, {b"late.c": text(9, 20_000)}, moved=False)
    repack(vault, Disk())
    assert len(packs(vault)) == 2 and due(vault, asked=True) is None
    git(vault, "update-ref", "refs/heads/late", commit.hex())
    assert repack(vault, Disk()).deflated >= 1
    assert len(packs(vault)) == 1
    assert repack(vault, Disk()).deflated == 0


def test_state_of_an_older_version_counts_as_none(vault: Path) -> None:
    repack(vault, Disk())
    state = vault / "cache" / "repack.json"
    names = json.loads(state.read_bytes())["packs"]
    state.write_text(json.dumps({"packs": names, "reused": 0}))
    assert due(vault, asked=True) == "1 packs are new"
    assert repack(vault, Disk()).deflated > 20
    assert due(vault, asked=True) is None


def test_without_libdeflate_zlib_does_it(vault: Path) -> None:
    before = objects(vault)
    script = (
        "import sys; sys.modules['deflate'] = None\n"
        "from pathlib import Path; from gitvault.core.utils.files import Disk\n"
        "from gitvault.core.versioning.repack import repack\n"
        "print(repack(Path(sys.argv[1]), Disk()).deflated)"
    )
    assert int(subprocess.run([sys.executable, "-c", script, vault], check=True, stdout=subprocess.PIPE).stdout) > 20
    assert objects(vault) == before
    assert git(vault, "fsck", "--full", "--strict") == b""


def change_what_git_makes(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[bytearray, list[tuple[int, int, ObjectId]]], None]
) -> None:
    """`change` gets the bytes of git's pack and where its objects lie."""
    original = module._pack_objects

    def damaged(*arguments: object, **options: object) -> list[Path]:
        indexes: list[Path] = original(*arguments, **options)  # type: ignore[arg-type]
        for index in indexes:
            pack = Pack(index)
            entries = list(pack.entries())
            pack.close()
            content = bytearray(index.with_suffix(".pack").read_bytes())
            change(content, entries)
            index.with_suffix(".pack").chmod(0o600)
            index.with_suffix(".pack").write_bytes(content)
        return indexes

    monkeypatch.setattr(module, "_pack_objects", damaged)


def flip_inside(content: bytearray, entries: list[tuple[int, int, ObjectId]]) -> None:
    start, end, _ = max(entries, key=lambda entry: entry[1] - entry[0])
    content[(start + end) // 2] ^= 0x10


def claim_another_size(content: bytearray, entries: list[tuple[int, int, ObjectId]]) -> None:
    start, _, _ = max(entries, key=lambda entry: entry[1] - entry[0])
    content[start] ^= 1


def size_without_end(content: bytearray, entries: list[tuple[int, int, ObjectId]]) -> None:
    start, _, _ = max(entries, key=lambda entry: entry[1] - entry[0])
    content[start : start + 50] = b"\xff" * 50


def lead_beside_the_base(content: bytearray, entries: list[tuple[int, int, ObjectId]]) -> None:
    deltas = [start for start, _, _ in entries if content[start] >> 4 & 7 == OFS_DELTA]
    at = deltas[-1]
    while content[at] & 128:
        at += 1
    content[at + 1] ^= 1


def cut(content: bytearray, entries: list[tuple[int, int, ObjectId]]) -> None:
    del content[len(content) // 2 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip_inside, "packed damaged"),
        (claim_another_size, "packed damaged, expected"),
        (size_without_end, "malformed"),
        (lead_beside_the_base, "a delta without its base"),
        (cut, "do not belong together"),
    ],
)
def test_damage_in_what_git_made_is_an_error_and_nothing_is_replaced(
    vault: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[bytearray, list[tuple[int, int, ObjectId]]], None],
    message: str,
) -> None:
    before = files(vault)
    change_what_git_makes(monkeypatch, change)
    with pytest.raises(CorruptionError, match=message):
        repack(vault, Disk())
    assert files(vault) == before


def test_damage_in_a_stream_that_is_only_copied_is_found_by_git(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = random.Random(1).randbytes(LARGEST + 5)
    save(vault, {b"big": big})
    before = files(vault)
    change_what_git_makes(monkeypatch, flip_inside)
    with pytest.raises(ToolFailed):
        repack(vault, Disk())
    assert files(vault) == before


def test_stop_at_any_time_leaves_everything_as_it_was(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gitvault.core.versioning.redeflate._BATCH", 4096)
    before = files(vault)
    asked = 0
    # Only our own pass asks: git would ask ten times a second.
    monkeypatch.setattr(module, "git", lambda *arguments, stop=None, **options: git(*arguments, **options))
    while True:
        left = asked

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        try:
            repack(vault, Disk(), stop=stop)
            break
        except ToolStopped as error:
            assert "goes on next time" in str(error)
        assert files(vault) == before
        asked += 5
    assert asked >= 10
    assert len(packs(vault)) == 1


class FullDisk(Disk):
    """Has no room for a second pack."""

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        return FullFile(path, mode)


class FullFile(NewFile):
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.path.suffix == ".pack":
            raise StorageFullError(f"{self.path.parent}: no space left on the disk")
        super().write(data)


def test_full_disk_leaves_everything_as_it_was(vault: Path) -> None:
    before = files(vault)
    with pytest.raises(StorageFullError):
        repack(vault, FullDisk())
    assert files(vault) == before
    if sys.platform == "linux":
        # Only these: what else the process has open, a collector may close at any time.
        left = [path.resolve() for path in Path("/proc/self/fd").iterdir()]
        assert not [path for path in left if path.is_relative_to(vault.resolve())]


# Packs of our own making.


def distance(value: int) -> bytes:
    digits = [value & 127]
    while value := value >> 7:
        value -= 1
        digits.insert(0, 128 | value & 127)
    return bytes(digits)


def whole(data: bytes, level: int = 1) -> bytes:
    return entry(3, len(data), zlib.compress(data, level))


def number(value: int) -> bytes:
    digits = bytearray([value & 127])
    while value := value >> 7:
        digits[-1] |= 128
        digits.append(value & 127)
    return bytes(digits)


def appending(base: bytes, tail: bytes) -> bytes:
    """The delta that makes base + tail."""
    size = len(base)
    copy = bytes((0x80 | 0x70, size & 255, size >> 8 & 255, size >> 16))
    return number(size) + number(size + len(tail)) + copy + bytes((len(tail),)) + tail


def write_pack(folder: Path, *parts: bytes) -> Path:
    """Its index, made by git."""
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", folder / "r"], check=True)
    body = b"PACK\x00\x00\x00\x02" + len(parts).to_bytes(4, "big") + b"".join(parts)
    path = folder / "made.pack"
    path.write_bytes(body + hashlib.sha1(body).digest())
    git(folder / "r", "index-pack", path)
    return path.with_suffix(".idx")


def again(index: Path, *settled: Path) -> tuple[Pack, int]:
    """The pack written anew and checked by git, which wants our index to be its own byte for byte."""
    writer = PackWriter(index.parent, Disk())
    count = redeflate(index, settled, writer)
    pack = writer.finish()
    assert pack is not None
    git(index.parent / "r", "index-pack", "--verify", pack.pack)
    return Pack(pack.index), count


def read(pack: Pack, data: bytes) -> bytes:
    offset = pack.find(object_id(b"blob", data))
    assert offset is not None
    return pack.read(offset, BaseCache(1 << 20))[1]


# Distances where their length changes; what lies between cannot be compressed, so that they stay as they are.
@pytest.mark.parametrize("wanted", [127, 128, 16_511, 16_512, 2_113_663, 2_113_664])
def test_distances_of_any_length_lead_to_the_base(tmp_path: Path, wanted: int) -> None:
    base = text(1, 40)
    tail = b"some words, some words, some words, some words"
    first, second = appending(base, tail), appending(base + tail, b"the end")
    start = whole(base)
    noise = random.Random(2).randbytes(wanted)
    size = wanted - len(start) - 10
    while len(start) + len(filler := whole(noise[:size], 0)) > wanted:
        size -= 1
    assert len(start) + len(filler) == wanted
    middle = entry(OFS_DELTA, len(first), distance(wanted) + zlib.compress(first, 0))
    # One more delta on the delta, of which only the stream becomes shorter.
    top = entry(OFS_DELTA, len(second), distance(len(middle)) + zlib.compress(second, 0))
    pack, _ = again(write_pack(tmp_path / "p", start, filler, middle, top))
    for data in (base, base + tail, base + tail + b"the end"):
        assert read(pack, data) == data
    assert len(list(pack.entries())) == 4
    pack.close()


def test_distances_become_shorter_with_what_lies_between(tmp_path: Path) -> None:
    base, between, tail = text(1, 3000), text(2, 60_000), b"x" * 90
    delta = appending(base, tail)
    # Stored, not deflated: the fastest level gives up on what the best one makes smaller.
    parts = [whole(base, 0), whole(between, 0)]
    parts.append(entry(OFS_DELTA, len(delta), distance(sum(map(len, parts))) + zlib.compress(delta, 0)))
    assert len(distance(len(parts[0]) + len(parts[1]))) == 3
    index = write_pack(tmp_path / "p", *parts)
    pack, count = again(index)
    assert count == 3
    assert [read(pack, data) == data for data in (base, between, base + tail)] == [True] * 3
    assert pack.path.stat().st_size < index.with_suffix(".pack").stat().st_size
    pack.close()


def test_a_base_named_by_its_id_keeps_its_name(tmp_path: Path) -> None:
    base, tail = text(1, 3000), b"y" * 100
    delta = appending(base, tail)
    named = entry(REF_DELTA, len(delta), object_id(b"blob", base) + zlib.compress(delta, 1))
    # Also in front of its base.
    for number_, parts in enumerate(([whole(base), named], [named, whole(base)])):
        pack, count = again(write_pack(tmp_path / str(number_), *parts))
        assert count == 2 and read(pack, base + tail) == base + tail
        assert pack.path.read_bytes().count(object_id(b"blob", base)) == 1
        pack.close()


def test_large_and_incompressible_objects_keep_their_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = LARGEST >> 4
    monkeypatch.setattr("gitvault.core.versioning.redeflate.LARGEST", largest)
    monkeypatch.setattr("gitvault.core.versioning.redeflate._LARGEST_ENTRY", largest + (largest >> 8))
    noise = random.Random(3).randbytes(3 * largest)
    long = b"all work and no play " * (largest // 10)
    just = text(5, largest)
    small = os.urandom(500)
    parts = [whole(noise, 0), whole(long, 1), whole(just, 1), whole(small, 1)]
    pack, count = again(write_pack(tmp_path / "p", *parts))
    # What did not deflate is tried once more: the fastest level makes some of it larger than it is.
    assert count == 2
    content = pack.path.read_bytes()
    assert all(part in content for part in (parts[0], parts[1], parts[3])) and parts[2] not in content
    assert all(read(pack, data) == data for data in (noise, long, just, small))
    pack.close()


def test_the_smaller_stream_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, long = text(1, 5000), text(2, 50_000)
    index = write_pack(tmp_path / "p", whole(small, 9), whole(long, 9))
    monkeypatch.setattr("gitvault.core.versioning.redeflate._compress", lambda data, level: zlib.compress(data, 0))
    pack, count = again(index)
    assert count == 2 and pack.path.read_bytes() == index.with_suffix(".pack").read_bytes()
    pack.close()


def test_a_stream_that_a_repack_made_is_copied_and_another_of_the_same_object_is_not(tmp_path: Path) -> None:
    one, two, three = text(1, 5000), text(2, 5000), text(3, 5000)
    settled = write_pack(tmp_path / "old", whole(one, 1), whole(two, 9))
    pack, count = again(write_pack(tmp_path / "new", whole(one, 1), whole(two, 1), whole(three, 1)), settled)
    assert count == 2
    assert whole(one, 1) in pack.path.read_bytes()
    pack.close()
    once = pack.path.with_suffix(".idx")
    copied, count = again(once, once)
    assert count == 0 and copied.path.read_bytes() == pack.path.read_bytes()
    copied.close()


def test_an_empty_pack_has_no_entries(tmp_path: Path) -> None:
    pack = Pack(write_pack(tmp_path / "p"))
    assert list(pack.entries()) == []
    pack.close()
