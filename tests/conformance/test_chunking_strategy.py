"""Every ChunkingStrategy keeps the same promises."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.chunking import AssetAware, FixedSize, RollingHash
from gitvault.core.interfaces import ChunkingStrategy
from gitvault.core.models import ChunkPlan

STRATEGIES: list[ChunkingStrategy] = [FixedSize(), RollingHash(), AssetAware()]
SMALL = ChunkPlan(256, 1024, 4096, 3, True, "small, for tests")

every_strategy = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)


def test_names_are_those_of_the_configuration() -> None:
    assert [strategy.name for strategy in STRATEGIES] == ["fixed", "rolling-hash", "asset-aware"]


def lengths(strategy: ChunkingStrategy, data: bytes, plan: ChunkPlan | None = SMALL) -> list[int]:
    return [len(piece) for piece in strategy.chunk_data(memoryview(data), None, plan)]


@every_strategy
@given(seed=st.integers(0, 2**32), size=st.integers(0, 50_000))
def test_joined_slices_are_the_buffer_and_none_is_too_long(strategy: ChunkingStrategy, seed: int, size: int) -> None:
    data = random.Random(seed).randbytes(size)
    pieces = list(strategy.chunk_data(memoryview(data), None, SMALL))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= SMALL.max_size for piece in pieces)


@every_strategy
@given(seed=st.integers(0, 2**32), size=st.integers(0, 60_000), window=st.integers(8192, 20_000))
def test_a_stream_cut_window_by_window_is_cut_like_the_whole(
    strategy: ChunkingStrategy, seed: int, size: int, window: int
) -> None:
    """Otherwise the same file would be stored twice when it is read in other steps."""
    rng = random.Random(seed)
    data = rng.randbytes(size // 2) + bytes(size - size // 2)
    found: list[int] = []
    at = 0
    while at < size:
        cuts = lengths(strategy, data[at : at + window])
        if at + window < size:
            cuts.pop()
        found += cuts
        at += sum(cuts)
    assert found == lengths(strategy, data)


@every_strategy
def test_slices_are_no_copies(strategy: ChunkingStrategy) -> None:
    data = bytearray(10_000)
    first = next(iter(strategy.chunk_data(memoryview(data), None, SMALL)))
    data[0] = 7
    assert first[0] == 7


@every_strategy
def test_the_empty_buffer_has_no_slices(strategy: ChunkingStrategy) -> None:
    assert lengths(strategy, b"", None) == []


@every_strategy
@given(head=st.binary(max_size=2000), size=st.none() | st.integers(0, 2**50), extension=st.none() | st.text())
def test_a_plan_can_be_made_for_any_content(
    strategy: ChunkingStrategy, head: bytes, size: int | None, extension: str | None
) -> None:
    plan = strategy.plan(head, size, extension)
    assert 64 <= plan.min_size <= plan.avg_size <= plan.max_size <= 16 << 20
    assert plan.reason


@every_strategy
def test_without_a_plan_the_buffer_is_judged(strategy: ChunkingStrategy) -> None:
    data = random.Random(3).randbytes(2_000_000)
    assert lengths(strategy, data, None) == lengths(strategy, data, strategy.plan(data[: 64 << 10], len(data), None))


@every_strategy
def test_threads_do_not_disturb_each_other(strategy: ChunkingStrategy) -> None:
    contents = [random.Random(n).randbytes(200_000) for n in range(16)]
    wanted = [lengths(strategy, data) for data in contents]
    barrier = threading.Barrier(8)

    def cut(data: bytes) -> list[int]:
        barrier.wait()
        return lengths(strategy, data)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(cut, contents)) == wanted
