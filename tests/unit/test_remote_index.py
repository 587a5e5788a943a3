"""A row is found among others, in however many pieces and runs they are, and nothing is that is not there."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.storage import frames
from gitvault.remotes import index
from gitvault.remotes.index import Index, Part, Run

PART = Part(f"git/{'0' * 64}.pack", 1)
IDS = st.binary(min_size=20, max_size=20).map(bytes.hex) | st.binary(min_size=32, max_size=32).map(bytes.hex)


def merged(rows: dict[str, str], held: dict[str, bytes]) -> Run:
    return index.merge(Index((), held.__getitem__), (), [PART], sorted(rows.items()), held.__setitem__)


@given(st.sets(IDS, max_size=200), st.sets(IDS, max_size=20), st.integers(1, 200))
def test_what_is_there_is_found_and_nothing_else(there: set[str], others: set[str], some: int) -> None:
    """Few are searched for one by one, many in one reading."""
    held: dict[str, bytes] = {}
    rows = {one: f"x 0 {number}" for number, one in enumerate(sorted(there))}
    run = merged(rows, held)
    for wanted in (set(sorted(there)[:some]) | others, there | others):
        found = Index([run], held.__getitem__).find(wanted)
        assert {one: f"x 0 {row.words[0]}" for one, row in found.items()} == {
            one: rest for one, rest in rows.items() if one in wanted
        }


def test_a_look_up_reads_one_piece_of_many_and_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_PIECE", 1_000)
    held: dict[str, bytes] = {}
    ids = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(500)]
    run = merged({one: "g 0" for one in ids}, held)
    assert len(run.pieces) > 20
    read: list[str] = []
    known = Index([run], lambda name: (read.append(name), held[name])[1])
    for _ in range(3):
        assert known.find(ids[:1]).keys() == {ids[0]}
    assert len(read) == 2, "a piece and the list of parts"
    assert known.find(ids).keys() == set(ids)
    assert len(read) == len(run.pieces) + 1


def test_a_piece_that_is_no_text_knows_nothing() -> None:
    held: dict[str, bytes] = {}
    run = merged({"ab" * 20: "g 0"}, held)
    name = next(name for name in held if name.endswith(run.pieces[0][1]))
    held[name] = frames.compress(b"\xff" * 10, 3)
    known = Index([run], held.__getitem__)
    assert known.find(["ab" * 20]) == {}
    assert known.runs == []
