"""What the index of lines is made of: differences, blocks and their trigrams, patterns, segments."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, GitVaultError
from gitvault.personas.code.search.catalog import Catalog
from gitvault.personas.code.search.history import Commit, in_project
from gitvault.personas.code.search.lines import (
    BLOCK,
    SHORTEST_RUN,
    SLOTS,
    Blocks,
    difference,
    expander,
    fold,
    in_runs,
    is_binary,
    slots,
)
from gitvault.personas.code.search.model import Query, Source, Version
from gitvault.personas.code.search.pattern import Pattern, Required, as_git, required
from gitvault.personas.code.search.segments import MAGIC, NEW_LINK, OLD_LINK, Draft, Segment, linked

LINE = st.sampled_from([b"", b"a", b"b", b"aa", b"\r", b"long line " * 9, b"caf\xc3\xa9", b"\xff"])
TEXT = st.tuples(st.lists(LINE, max_size=30), st.sampled_from([b"", b"\n", b"\n\n"])).map(
    lambda parts: b"\n".join(parts[0]) + parts[1]
)


def counted(text: bytes) -> Counter[bytes]:
    lines = text.split(b"\n")
    return Counter(lines if lines[-1] else lines[:-1])


@given(TEXT, TEXT, TEXT, TEXT)
def test_a_difference_is_that_of_the_lines(head: bytes, old: bytes, new: bytes, tail: bytes) -> None:
    before, after = head + old + tail, head + new + tail
    found = difference(before, after)
    assert len(found) == len(dict(found))
    expected = counted(after)
    expected.subtract(counted(before))
    assert dict(found) == {line: by for line, by in expected.items() if by}


def test_of_a_binary_file_the_printable_runs_count() -> None:
    old, new = b"\0\1short\2printable text\0", b"\0printable text\0printable text\0other\tone\xff"
    assert is_binary(old)
    assert not is_binary(b"x" * 9000 + b"\0")
    assert dict(difference(old, new, binary=True)) == {b"printable text": 1, b"other\tone": 1}
    assert in_runs(b"x" * SHORTEST_RUN)
    assert not in_runs(b"x" * (SHORTEST_RUN - 1))
    assert not in_runs("caf\u00e9 noir".encode())


def test_blocks_give_back_all_lines_and_know_their_trigrams() -> None:
    lines = [b"line %d of many" % number for number in range(20_000)]
    blocks = Blocks()
    blocks.extend(lines)
    text = b"".join(map(expander(), (np.frombuffer(frame, np.uint8) for frame in blocks.texts)))
    assert text == b"\n".join(lines) + b"\n"
    assert blocks.firsts[-1] == len(lines)
    assert len(blocks.texts) == -(-len(text) // (BLOCK + 20))
    rows = blocks.trigrams()
    assert rows.shape == (SLOTS, (len(blocks.texts) + 7) // 8)
    held = np.unpackbits(np.bitwise_and.reduce(rows[slots(b"LINE 19999 ")], axis=0))
    assert held[: len(blocks.texts)][-1] == 1
    assert fold(b"Ab\xc3\x89") == b"ab\xc3\x89"
    assert len(slots(b"ab")) == 0


PIECES = st.recursive(
    st.sampled_from(["a", "b", "abc", "bca", ".", r"\w", "[ab]", "[^a]", "^", "$", r"\.", "\u00e9", "x y"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
        inner.map(lambda one: f"({one})"),
    ),
    max_leaves=6,
)


@given(PIECES, st.lists(st.text("abcxy .\u00e9AB", max_size=8), min_size=1, max_size=6), st.booleans())
def test_what_fits_holds_what_is_required(expression: str, lines: list[str], ignore_case: bool) -> None:
    pattern = Pattern(Query(expression, ignore_case=ignore_case))
    text = "".join(line + "\n" for line in lines).encode()
    found = {text.count(b"\n", 0, place) for place in pattern.places(text)}
    flags = re.IGNORECASE if ignore_case else 0
    assert found == {at for at, line in enumerate(lines) if re.search(expression, line, flags)}
    for number in found:
        line = fold(lines[number].encode())
        for one_of in pattern.required:
            assert any(fold(one) in line for one in one_of), (expression, one_of)


@pytest.mark.parametrize(
    ("expression", "texts"),
    [
        (r"def \w*parse\w*", [{b"def "}, {b"parse"}]),
        ("(?i)todo|fixme", [{b"todo", b"fixme"}]),
        ("foo(bar|baz)+qux", [{b"foo"}, {b"bar", b"baz"}, {b"qux"}]),
        ("ab?cdef", [{b"cdef"}]),
        ("a{0,2}bcd{3}efg", [{b"bcd"}, {b"efg"}]),
        ("[[:alpha:]]xyz", [{b"xyz"}]),
        ("abc|", []),
        ("(?:abc)?", []),
        (r"\Qabc\E", []),
        (r"abc\x41", []),
        (r"(?P<n>abc)\.d", [{b"abc"}]),
        ("(?s)abc", [{b"abc"}]),
        ("a[", []),
        ("(abc", []),
        ("(?=abc)", []),
    ],
)
def test_what_an_expression_requires(expression: str, texts: list[set[bytes]]) -> None:
    found: Required = required(expression, False)
    assert [set(one_of) for one_of in found] == texts


def test_letters_beyond_ascii_are_not_required_when_case_does_not_matter() -> None:
    assert required("caf\u00e9 noir", True) == [frozenset([b" noir"])]
    assert required("caf\u00e9 noir", False) == [frozenset(["caf\u00e9 noir".encode()])]


def test_expressions_of_git_as_re2_takes_them() -> None:
    assert as_git(r"\<a\>[^]b]{,3}[^c]\[^d]") == r"\ba\b[^\n\]b]{0,3}[^\nc]\[^d]"


@pytest.mark.parametrize("wrong", ["(", "a{2000}", r"(a)\1", "(?<=a)b", "", "*"])
def test_a_pattern_that_does_not_compile_is_said(wrong: str) -> None:
    with pytest.raises(GitVaultError, match=r"pattern is empty|no regular expression"):
        Pattern(Query(wrong))


def made(tmp_path: Path, name: str, *changes: tuple[int, int, dict[bytes, int]]) -> Segment:
    draft = Draft()
    for version, path, lines in changes:
        draft.add(version, path, bytes(20), bytes([version]) * 20, 0, lines.items())
    draft.number_paths([70, 71, 72])
    draft.write(tmp_path / name, Disk())
    return Segment(tmp_path / name)


def test_a_segment_gives_back_what_was_put_in_also_merged(tmp_path: Path) -> None:
    one = made(tmp_path, "one", (1, 0, {b"x": 1, b"": 40_000}), (2, 1, {b"x": -1}))
    two = made(tmp_path, "two", (3, 2, {b"y": 2, b"x": 1}))
    draft = Draft()
    draft.merge(one)
    draft.merge(two)
    assert (draft.rows, draft.full) == (5, False)
    draft.write(tmp_path / "both", Disk())
    both = Segment(tmp_path / "both")
    assert list(both.lines()) == [b"x", b"", b"y"]
    which, change, by = both.events(np.array([0, 1, 2]))
    told = zip(which, both["version"][change], both["path"][change], by, strict=True)
    assert sorted(tuple(map(int, row)) for row in told) == [
        (0, 1, 70, 1), (0, 2, 71, -1), (0, 3, 72, 1), (1, 1, 70, 40_000), (2, 3, 72, 2),
    ]  # fmt: skip
    assert list(both.candidates([frozenset([b"nowhere"])])) == [0]
    assert bytes(both["new"][2]) == bytes([3]) * 20


def test_a_segment_of_many_blocks_looks_at_few(tmp_path: Path) -> None:
    lines = {b"line number %d %s" % (number, b"filling " * 40): 1 for number in range(5000)}
    segment = made(tmp_path, "many", (1, 0, lines))
    (block,) = segment.candidates([frozenset([b"number 4321 "])])
    assert b"number 4321 " in dict(segment.texts(np.array([block])))[block]
    # A bit may stand for several trigrams.
    assert 2 <= len(segment.candidates([frozenset([b"number 4321 ", b"number 12 "])])) < 6
    assert len(segment.candidates([])) == len(segment["first"]) - 1


def test_a_file_that_is_no_segment(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(MAGIC + b"\xff\xff\xff\0 and so on")
    with pytest.raises(CorruptionError, match="--index"):
        Segment(tmp_path / "x")


def test_links_keep_their_mark() -> None:
    assert linked(OLD_LINK, b"o", b"n") == (b"Lo", b"n")
    assert linked(NEW_LINK, b"o", b"n") == (b"o", b"Ln")


def test_a_catalog_numbers_versions_in_order_and_never_twice(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    assert catalog.is_ours()
    source = Source("acme", tmp_path / "acme")
    oids = [bytes([number]) * 20 for number in range(1, 6)]
    number = catalog.number_of(source)
    assert catalog.number_of(source) == number
    catalog.arrange(number, [("HEAD", oids[:2]), ("topic", oids[2:3])])
    assert catalog.waiting() == [(3, oids[2]), (2, oids[1]), (1, oids[0])]
    assert (catalog.count(), catalog.states()) == (0, [])
    read = [(at + 1, Commit(oids[at], oids[at], 1000 + at, "A", "why", None, [])) for at in range(3)]
    catalog.enter(read)
    assert catalog.states() == [(1, 0, 1, 1000), (2, 0, 1, 1001), (3, 1, 1, 1002)]
    assert catalog.states([2, 9]) == [(2, 0, 1, 1001)]
    # Rewritten: the second is gone, the branch was merged without a commit of its own.
    catalog.arrange(number, [("HEAD", [oids[0], oids[2], oids[3]])])
    assert catalog.states() == [(1, 0, 1, 1000), (3, 0, 1, 1002)]
    assert catalog.waiting(number) == [(4, oids[3])]
    told = catalog.versions([3])[3]
    assert isinstance(told, Version)
    assert (told.id, told.project, told.author, told.subject) == (oids[2].hex(), "acme", "A", "why")
    assert catalog.source_of(3) == number
    catalog.settle(number, b"stamp")
    assert catalog.stamps() == {source: b"stamp"}
    catalog.cut_off(number, b"here")
    catalog.cut_off(number, b"elsewhere")
    assert catalog.states() == []
    catalog.arrange(number, [("HEAD", oids[:1])])
    assert catalog.waiting() == [(5, oids[0])]
    catalog.forget(number)
    assert (catalog.sources(), catalog.waiting()) == ({}, [])
    catalog.close()


def test_a_catalog_names_paths_segments_and_what_was_not_read(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    number = catalog.number_of(Source("acme", tmp_path))
    path = catalog.path_number("acme", b"a\xff")
    assert catalog.path_number("acme", b"a\xff") == path != catalog.path_number("other", b"a\xff")
    assert catalog.paths([path]) == {path: ("acme", b"a\xff")}
    catalog.add_segment("one", 10, "acme")
    catalog.add_segment("two", 20, "other")
    assert catalog.segments(["other"]) == [("two", 20)]
    catalog.replace(["one", "two"], "three", 25)
    assert catalog.segments() == catalog.segments(["other"]) == catalog.segments(["acme"]) == [("three", 25)]
    catalog.skip(number, b"big", 2)
    catalog.skip(number, b"big", 1)
    assert catalog.unread() == [("acme", b"big", 3)]
    catalog.reset()
    assert (catalog.segments(), catalog.unread(), catalog.sources()) == ([], [], {})
    with pytest.raises(ZeroDivisionError), catalog.change():
        catalog.add_segment("four", 1, "acme")
        raise ZeroDivisionError
    assert catalog.segments() == []


def test_paths_in_snapshots() -> None:
    assert in_project(b"%2Egit/a%25") == b".git/a%25".replace(b"%25", b"%")
    assert in_project(b"%00vcs/0/record.json") is None
