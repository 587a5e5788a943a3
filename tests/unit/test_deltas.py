"""Alignment: new bytes are coded against the place in the previous version where they came from."""

from __future__ import annotations

from gitvault.core.models import ChunkId
from gitvault.core.storage.deltas import MARGIN, MAX_DICTIONARY, Alignment

KIB = 1024


def chunk(number: int) -> ChunkId:
    return ChunkId(number.to_bytes(32, "big"))


# A hundred chunks of 100 KiB: chunk n begins at n * 100 KiB.
BASE = Alignment([(chunk(n), 100 * KIB) for n in range(100)])


def numbers(chunks: list[ChunkId]) -> list[int]:
    return [int.from_bytes(c, "big") for c in chunks]


def test_a_run_in_place_gets_what_was_there_and_a_margin_on_both_sides() -> None:
    assert MARGIN == 64 * KIB
    run = 1000 * KIB, 1100 * KIB
    assert numbers(BASE.bases(*run, (1000 * KIB, 0), (1100 * KIB, 0))) == [9, 10, 11]
    assert numbers(BASE.bases(*run, (1000 * KIB, 0), None)) == [9, 10, 11]


def test_behind_an_insertion_everything_is_looked_for_further_ahead() -> None:
    shift = 500 * KIB
    assert numbers(BASE.bases(1500 * KIB, 1600 * KIB, (1500 * KIB, shift), (1600 * KIB, shift))) == [9, 10, 11]


def test_a_gap_that_grew_is_coded_against_all_of_the_old_gap() -> None:
    """100 KiB became 300 KiB: the old bytes may be at the beginning or at the end of the new ones."""
    assert numbers(BASE.bases(1000 * KIB, 1300 * KIB, (1000 * KIB, 0), (1300 * KIB, 200 * KIB))) == [
        7,
        8,
        9,
        10,
        11,
        12,
        13,
    ]


def test_in_a_long_gap_the_nearer_anchor_decides() -> None:
    far = 5000 * KIB
    assert far > MAX_DICTIONARY
    left, right = (0, 0), (9000 * KIB, far)
    assert numbers(BASE.bases(1000 * KIB, 1100 * KIB, left, right)) == [9, 10, 11]
    assert numbers(BASE.bases(8000 * KIB, 8100 * KIB, left, right)) == [29, 30, 31]


def test_nothing_lies_outside_the_previous_version() -> None:
    assert numbers(BASE.bases(0, 100 * KIB, (0, 0), (100 * KIB, 0))) == [0, 1]
    assert BASE.bases(20_000 * KIB, 20_100 * KIB, (20_000 * KIB, 0), None) == []


def test_a_chunk_that_occurs_twice_is_no_anchor() -> None:
    """The zeros of a disk image are everywhere: they say nothing about where one is."""
    repeated = Alignment([(chunk(1), 10), (chunk(2), 10), (chunk(1), 10)])
    assert repeated.position(chunk(1)) is None
    assert repeated.position(chunk(2)) == 10
    assert repeated.position(chunk(3)) is None
    assert repeated.size == 30
