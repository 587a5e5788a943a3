"""Whatever is done to a file, each of its versions comes back, from this process and from the next."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gitvault.core.chunking import RollingHash
from gitvault.core.models import ChunkId, Pointer
from gitvault.core.storage import manifests, pointers
from gitvault.core.storage.packs import Chunk, Frame, Table, format_table, parse_table
from gitvault.core.storage.store import ChunkStore

IDS = st.binary(min_size=32, max_size=32).map(ChunkId)


@given(oid=st.binary(min_size=32, max_size=32), size=st.integers(1, 2**62))
def test_pointers_round_trip(oid: bytes, size: int) -> None:
    pointer = Pointer(oid.hex(), size)
    text = pointers.encode(pointer)
    assert pointers.decode(text) == pointer
    assert pointers.looks_like_pointer(text)


@given(text=st.binary(max_size=300))
def test_whatever_is_decoded_is_canonical(text: bytes) -> None:
    pointer = pointers.decode(text)
    assert pointer is None or pointers.encode(pointer) == text


@given(chunks=st.lists(st.tuples(IDS, st.integers(1, 16 << 20))))
def test_manifests_round_trip(chunks: list[tuple[ChunkId, int]]) -> None:
    assert manifests.decode(manifests.encode(chunks), "oid") == chunks


@given(
    frames=st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(1, 1 << 20), st.lists(IDS, max_size=3)), max_size=5),
    files=st.lists(st.tuples(IDS, st.lists(IDS, max_size=3)), max_size=3),
    cut=st.integers(1, 1 << 20),
)
def test_tables_round_trip(
    frames: list[tuple[int, int, list[ChunkId]]], files: list[tuple[ChunkId, list[ChunkId]]], cut: int
) -> None:
    table = Table()
    offset = 24
    for number, (stored, length, bases) in enumerate(frames):
        table.frames.append(Frame(number, offset, stored, length, tuple(bases)))
        offset += stored
        for inner in range(0, length, max(cut, length // 4 + 1)):
            step = min(cut, length - inner)
            table.chunks.append(Chunk(ChunkId(bytes([number]) * 32), number, inner, step))
    table.manifests.extend((oid.hex(), tuple(parts)) for oid, parts in files)
    assert parse_table(format_table(table), "pack", offset) == table


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "append", "double", "swap", "empty"]),
        st.integers(0, 2**32),
        st.integers(0, 40_000),
    ),
    min_size=1,
    max_size=8,
)


def edit(data: bytes, kind: str, seed: int, size: int) -> bytes:
    rng = random.Random(seed)
    at = rng.randrange(len(data) + 1)
    if kind == "replace":
        return data[:at] + rng.randbytes(size) + data[at + size :]
    if kind == "insert":
        return data[:at] + rng.randbytes(size) + data[at:]
    if kind == "delete":
        return data[:at] + data[at + size :]
    if kind == "append":
        return data + bytes(size)
    if kind == "double":
        return (data + data)[:400_000]
    if kind == "swap":
        return data[at:] + data[:at]
    return b""


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(0, 200_000),
    edits=EDITS,
    with_base=st.booleans(),
    upkeep=st.sets(st.integers(0, 8)),
)
def test_every_version_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    size: int,
    edits: list[tuple[str, int, int]],
    with_base: bool,
    upkeep: set[int],
) -> None:
    """`upkeep`: the versions after which the store is repacked."""
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as name:
        folder = Path(name)
        strategy = RollingHash(256, 1024, 8192)
        versions = [random.Random(seed).randbytes(size)]
        for step in edits:
            versions.append(edit(versions[-1], *step))
        saved: list[Pointer] = []
        with ChunkStore(folder / "chunks", cache=folder / "cache", strategy=strategy) as store:
            for number, data in enumerate(versions):
                saved.append(store.store_file(io.BytesIO(data), base=saved[-1] if saved and with_base else None))
                store.flush()
                if number in upkeep:
                    store.repack(asked=True)
                    assert store.repack(asked=True) is None
        with ChunkStore(folder / "chunks", cache=folder / "other", strategy=strategy) as store:
            assert store.verify(data=True).ok
            for pointer, data in zip(saved, versions, strict=True):
                target = io.BytesIO()
                store.retrieve_file(pointer, target)
                assert target.getvalue() == data
