"""For any content: git codecs, packs, deltas and refs give back what they were given."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.versioning.objects import (
    MODE_EXECUTABLE,
    MODE_FILE,
    MODE_SYMLINK,
    MODE_TREE,
    Commit,
    Signature,
    decode_commit,
    decode_tree,
    encode_commit,
    encode_tree,
    format_message,
    object_id,
    parse_message,
)
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter, publish
from gitvault.core.versioning.packreader import Pack, apply_delta
from gitvault.errors import CorruptionError

ids = st.binary(min_size=20, max_size=20).map(ObjectId)
names = st.binary(min_size=1, max_size=12).filter(lambda n: n not in (b".", b"..") and not {0, 47} & set(n))
modes = st.sampled_from([MODE_FILE, MODE_EXECUTABLE, MODE_SYMLINK, MODE_TREE])
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.dictionaries(names, st.tuples(modes, ids)))
def test_tree_round_trip(entries: dict[bytes, tuple[int, ObjectId]]) -> None:
    given_entries = [(name, mode, oid) for name, (mode, oid) in entries.items()]
    data = encode_tree(given_entries)
    assert sorted(decode_tree(data)) == sorted(given_entries)
    assert encode_tree(decode_tree(data)) == data


@given(st.binary(max_size=80))
def test_any_bytes_are_a_tree_or_corruption(data: bytes) -> None:
    try:
        entries = decode_tree(data)
    except CorruptionError:
        return
    assert encode_tree(entries) == data


signatures = st.builds(
    Signature,
    st.text(st.characters(min_codepoint=33, codec="utf-8", exclude_characters="<>"), min_size=1).filter(
        lambda name: name == name.strip()
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>")),
    st.integers(0, 2**53),
    st.integers(-720, 840),
)


@given(st.builds(Commit, ids, st.lists(ids, max_size=3).map(tuple), signatures, signatures, texts))
def test_commit_round_trip(commit: Commit) -> None:
    assert decode_commit(encode_commit(commit)) == commit


@given(st.text(), st.text(), st.text(), st.integers(), st.integers())
def test_any_text_makes_a_readable_commit(name: str, email: str, message: str, time: int, offset: int) -> None:
    who = Signature(name, email, time, offset)
    data = encode_commit(Commit(ObjectId(bytes(20)), (), who, who, message))
    assert encode_commit(decode_commit(data)) == data
    assert b"\0" not in data


keys = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,8}", fullmatch=True)
values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n")).map(lambda v: v.strip(" \t\r\n"))
bodies = st.lists(
    st.sampled_from(["", "Subject", "Key: value", "# comment", " indented", "Signed-off-by: x", "---", "a b", "\t"])
).map("\n".join)


@given(bodies, st.lists(st.tuples(keys, values), min_size=1, max_size=4))
def test_trailers_survive_any_body(body: str, trailers: list[tuple[str, str]]) -> None:
    text, parsed = parse_message(format_message(body, trailers))
    assert parsed == trailers
    assert text == body.rstrip(" \t\r\n")


@given(st.lists(st.tuples(st.sampled_from([b"blob", b"tag"]), st.binary(max_size=300)), max_size=30))
def test_pack_round_trip(objects: list[tuple[bytes, bytes]]) -> None:
    with TemporaryDirectory() as folder:
        writer = PackWriter(Path(folder), Disk())
        expected = {writer.add(kind, data): (kind, data) for kind, data in objects}
        pack = writer.finish()
        assert (pack is None) == (not objects)
        if pack is None:
            return
        assert pack.objects == len(expected)
        (Path(folder) / "pack").mkdir()
        publish(pack, Path(folder) / "pack", Disk())
        with ObjectStore(Path(folder)) as store:
            assert {oid: (kind, data) for oid, kind, data in store.read_many(expected)} == expected
            for oid, (kind, data) in expected.items():
                assert object_id(kind, data) == oid
                assert store.size(oid) == len(data)
                assert oid in store.find_prefix(oid.hex()[:4])


@given(st.binary(max_size=50), st.binary(max_size=60))
def test_any_bytes_are_a_delta_or_corruption(base: bytes, delta: bytes) -> None:
    try:
        made = apply_delta(base, delta)
    except CorruptionError:
        return
    assert isinstance(made, bytes)


@given(st.randoms(use_true_random=False), st.sampled_from([".pack", ".idx"]))
def test_flipped_bytes_never_give_wrong_content(rng: random.Random, suffix: str) -> None:
    with TemporaryDirectory() as folder:
        writer = PackWriter(Path(folder), Disk())
        expected = {writer.add(b"blob", data): data for data in (b"", b"x" * 5000, bytes(range(256)))}
        pack = writer.finish()
        assert pack is not None
        (Path(folder) / "pack").mkdir()
        publish(pack, Path(folder) / "pack", Disk())
        path = Path(folder) / "pack" / (pack.name + suffix)
        content = bytearray(path.read_bytes())
        for _ in range(rng.randint(1, 3)):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        with ObjectStore(Path(folder)) as store:
            try:
                read = list(store.read_many(expected, failed=lambda oid, error: None))
                for oid in expected:
                    store.contains(oid)
            except CorruptionError:
                return
            assert all(expected[oid] == data for oid, _, data in read)


@given(st.sets(ids, max_size=300))
def test_index_finds_every_id_and_no_other(oids: set[ObjectId]) -> None:
    from gitvault.core.versioning.packfile import encode_index

    with TemporaryDirectory() as folder:
        path = Path(folder) / "p.idx"
        places = {oid: (12 + n * 7) << 32 for n, oid in enumerate(sorted(oids))}
        path.write_bytes(encode_index(places, bytes(20)))
        pack = Pack(path)
        assert {oid: pack.find(oid) for oid in oids} == {oid: place >> 32 for oid, place in places.items()}
        assert sorted(pack.find_many(oids)) == sorted((place >> 32, ObjectId(oid)) for oid, place in places.items())
        assert pack.find(ObjectId(b"\xaa" * 20)) is None or b"\xaa" * 20 in oids
