"""Structural patterns: what they match, what is no pattern, and the lives of what fitted."""

from __future__ import annotations

import itertools
import sys
from hashlib import sha1

import pytest

from gitvault.errors import GitVaultError, ToolMissing
from gitvault.personas.code.search import structure
from gitvault.personas.code.search.model import Change
from gitvault.personas.code.search.structure import Life, Match, Pattern


@pytest.mark.parametrize(
    ("language", "pattern", "source", "found"),
    [
        ("python", "for $A in $B: $$$", "for x in y:\n    z(x)\n", "for x in y: z(x)"),
        ("python", "def $F($$$):\n    return $X", "def f(a, b):\n    return 1\n", "def f(a, b): return 1"),
        ("python", "$A == $A", "if x == x and y == z: pass\n", "x == x"),
        ("javascript", "useEffect(() => { $$$ })", "useEffect(() => { a(); b() })", "useEffect(() => { a(); b() })"),
        ("typescript", "const $A: $T = $B", "const x: number = 2", "const x: number = 2"),
        ("tsx", "<div>$$$</div>", "x = <div>1</div>", "<div>1</div>"),
        ("go", "if err != nil { return $$$ }", "func f() { if err != nil { return nil, err } }", None),
        ("rust", "$A.unwrap()", "fn f() { g().unwrap(); }", "g().unwrap()"),
        ("java", "for ($T $A : $B) { $$$ }", "class A { void f() { for (T s : l) { g(); } } }", None),
        ("c", "malloc($A)", "void f() { x = malloc(3); }", "malloc(3)"),
        ("c", "if ($A == NULL) return $B;", "void f() { if (x == NULL) return 1; }", "if (x == NULL) return 1;"),
        ("cpp", "std::move($A)", "void f() { g(std::move(x)); }", "std::move(x)"),
        ("csharp", "$A.Dispose()", "class A { void f() { x.Dispose(); } }", "x.Dispose()"),
        ("ruby", "$A.each do |$B| $$$ end", "x.each do |y|\n  p y\nend", "x.each do |y| p y end"),
        ("php", "array_map($$$)", "<?php array_map(1, 2);", "array_map(1, 2)"),
        ("kotlin", "for ($A in $B) { $$$ }", "fun f() { for (x in y) { g() } }", "for (x in y) { g() }"),
        ("swift", "guard let $A = $B else { $$$ }", "func f() { guard let x = y else { return } }", None),
        ("lua", "for $A in pairs($B) do $$$ end", "for k in pairs(t) do f(k) end", None),
        ("scala", "$A.map($B)", "object A { x.map(f) }", "x.map(f)"),
    ],
)
def test_code_with_holes_is_found_by_its_shape(language: str, pattern: str, source: str, found: str | None) -> None:
    matches = Pattern(pattern, language).matches(source.encode())
    assert len(matches) == 1
    assert found is None or matches[0].text == found
    assert matches[0].line == 1


def test_a_match_knows_its_lines() -> None:
    match: Match
    (match,) = Pattern("print($A)", "python").matches(b"x = 1\nprint(\n    x\n)\n")
    assert (match.line, match.end_line, match.text) == (2, 4, "print( x )")


def test_words_and_the_line_that_is_looked_for_first() -> None:
    pattern = Pattern("for $A in $B:\n    connect_all($A, $$$)", "python")
    assert pattern.words == ("connect_all", "for", "in")
    assert pattern.line == r"\bconnect_all\b"
    assert Pattern("for $A in $B: $$$", "python").line == r"\bfor\b.*\bin\b"
    assert Pattern("if err != nil { return $$$ }", "go").line == r"\bif\b.*\berr\b.*\bnil\b"
    assert Pattern("$A = $B", "python").line == ""


@pytest.mark.parametrize(("text", "language"), [("def $F(", "python"), ("for for (", "java"), ("f($A", "c")])
def test_what_does_not_parse_is_no_pattern(text: str, language: str) -> None:
    with pytest.raises(GitVaultError, match=f"does not parse as {language}; give whole code"):
        Pattern(text, language)


@pytest.mark.parametrize("text", ["$A", " $$$ ", "$$$REST", ""])
def test_holes_alone_are_no_pattern(text: str) -> None:
    with pytest.raises(GitVaultError, match="fits everything"):
        Pattern(text, "python")


def test_without_ast_grep_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    structure._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "ast_grep_py", None)
    with pytest.raises(ToolMissing, match="ast-grep-py: not installed; get it with: pip install"):
        Pattern("f($A)", "python")
    structure._engine.cache_clear()


def test_hostile_sources_match_nothing() -> None:
    pattern = Pattern("f($A)", "python")
    assert pattern.matches(b"f(1)\n" * (1 << 20)) == []
    assert len(pattern.matches(b"f(" * 2000 + b")" * 2000)) > 0
    assert pattern.matches(b"\xff\xfe\x00f(") == []


class Past:
    """A file's versions, as changes."""

    def __init__(self, *contents: bytes) -> None:
        self.blobs = {sha1(content).digest(): content for content in contents}
        ids = [b"", *(sha1(content).digest() if content else b"" for content in contents)]
        self.changes = [
            Change(number, "acme", b"a.py", old, new) for number, (old, new) in enumerate(itertools.pairwise(ids), 1)
        ]

    def read(self, version: int, blob: bytes) -> bytes | None:
        return self.blobs.get(blob)


def test_what_fits_comes_is_modified_and_goes() -> None:
    past = Past(b"x = 1\n", b"f(1)\n", b"\nf(2)\ng()\n", b"\n\nf(2)\n", b"f(2)\nf(2)\n", b"f(2)\n", b"x = 2\n")
    life: Life
    (life,) = Pattern("f($A)", "python").lives(past.changes, past.read, whole=True)
    assert (life.project, life.path, life.text) == ("acme", b"a.py", "f(2)")
    assert (life.introduced, life.modified, life.removed) == (2, (3,), 7)
    assert life.line == 1


def test_two_lives_in_one_file() -> None:
    past = Past(b"f(1)\nf(2)\n", b"f(1)\n", b"f(1)\nf(3)\n")
    lives = sorted(Pattern("f($A)", "python").lives(past.changes, past.read, whole=True))
    assert [(life.text, life.introduced, life.removed, life.line) for life in lives] == [
        ("f(1)", 1, None, 1),
        ("f(2)", 1, 2, 2),
        ("f(3)", 3, None, 2),
    ]


def test_versions_that_were_not_looked_at_leave_no_ghosts() -> None:
    """Only some versions are read: what changed in between goes on with its life, or is gone."""
    past = Past(b"f(1)\n", b"f(2)\n", b"f(2)\nf(9)\n", b"x = 1\n", b"f(9)\n", b"f(9)\nf(8)\n")
    some = [past.changes[0], past.changes[2], past.changes[5]]
    lives = sorted(Pattern("f($A)", "python").lives(some, past.read, whole=False))
    assert [(life.text, life.removed) for life in lives] == [("f(8)", None), ("f(9)", None)]
