"""Lines are read and written quickly, and as exactly as json does it."""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitvault.personas.game.feedback import identities, reading
from gitvault.personas.game.feedback.lines import encode
from gitvault.personas.game.feedback.rows import Row, key_of, row_of

_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(1e-4, 1e15) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


def _slowly(said: dict[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


@given(st.dictionaries(_TEXT, _VALUE.filter(bool), max_size=4), st.floats(allow_nan=False, allow_infinity=False))
def test_a_line_is_what_json_writes_with_sorted_keys(was: dict[str, Any], played: float) -> None:
    said = {"id": "1", "playtime": played, "was": was}
    try:
        line = encode(said).decode()
    except ValueError:
        assert any(0xDC80 <= ord(letter) <= 0xDCFF for letter in _slowly(said))
        return
    kept = said if was else {"id": "1", "playtime": played}
    assert json.loads(line) == kept
    if not any(0xD800 <= ord(letter) <= 0xDFFF for letter in _slowly(said)):
        assert line == _slowly(kept)


_PARTS = st.lists(
    st.sampled_from(
        [
            '{"a": 1}',
            '{"a":"\\u00e9\\ud83d"}',
            '{"é": [1, {"b": null}]}',
            '{\n "a": 2\n}',
            '{"l": [{"n": 1}, {"n": 2}]}',
            '[{"a": 3}, 4]',
            '{"a": 1e999}',
            '{"a": 12345678901234567890123}',
            "5",
            '{"broken": ',
            "nothing",
            '{"a": 6} {"a": 7}',
        ]
    ).flatmap(lambda part: st.sampled_from(["\n", "\r\n", ",\n", " ", "\n\n  "]).map(lambda end: part + end)),
    max_size=8,
)


@given(_PARTS, st.integers(1, 40), st.sampled_from([frozenset(), frozenset({"l"})]))
def test_records_are_the_same_whether_lines_are_seen_or_not(parts: list[str], size: int, lists: frozenset[str]) -> None:
    content = "".join(parts).encode()
    quick = list(reading.json_records(io.BytesIO(content), lists))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_CHUNK", size)
        assert list(reading.json_records(io.BytesIO(content), lists)) == quick
        patch.setattr(reading._Text, "lines", lambda self: iter(()))
        assert list(reading.json_records(io.BytesIO(content), lists)) == quick


def test_a_list_of_any_length_leaves_nothing_of_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value that goes on in what was not read yet is tried twice; no text may live on because of that."""
    monkeypatch.setattr(reading, "_CHUNK", 50_000)
    content = json.dumps([{"n": number, "text": "x" * 700} for number in range(5000)]).encode()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        assert sum(1 for _ in reading.json_records(io.BytesIO(content))) == 5000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert most < 1_000_000


@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_a_number_that_json_has_not_is_refused(number: float) -> None:
    scrub = identities.scrubber(str)
    with pytest.raises(ValueError, match="n: expected a finite number"):
        scrub({"deep": [{"n": number}]})
    with pytest.raises(ValueError, match="Out of range"):
        encode({"playtime": number})


def test_what_a_row_has_of_a_record() -> None:
    said = {"id": "f" * 32, "source": "added", "kind": "bug", "time": "1970-01-02T00:00:00Z", "build": "b"}
    row = row_of(said, 7, 10, 20)
    assert isinstance(row, Row)
    assert (row.key, row.digest, row.build, row.start, row.length) == (key_of("f" * 32), 7, "b", 10, 20)
    assert row.cells[:5] == (b"\xff" * 16, 86400, "added", "bug", "")
    with pytest.raises(ValueError, match="hex"):
        row_of({**said, "id": "none"}, 0)
