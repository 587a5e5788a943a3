"""What a source file defines: by tree-sitter, for each language that is known, version after version."""

from __future__ import annotations

import random
import sys

import pytest

from gitvault.errors import NotFoundError, ToolMissing
from gitvault.personas.code.search import languages
from gitvault.personas.code.search.symbols import SIZE_LIMIT, Follower, Symbol, Use, symbols, uses

SAMPLES = {
    "python": (
        "LIMIT = 3\nclass Box:\n    def put(self, x):\n        return x\n\ndef pack():\n    return Box().put(1)\n",
        {"LIMIT", "Box", "Box.put", "pack"},
    ),
    "javascript": (
        "class Box { put(x) { return x } }\nfunction pack() {}\nconst send = () => { pack() }\n",
        {"Box", "Box.put", "pack", "send"},
    ),
    "typescript": (
        "interface Shape { area(): number }\nabstract class Box<T> { put(x: T): T { return x } }\n"
        "type Id = string\nenum Color { Red }\nexport const send = (a: Id): void => { pack() }\n",
        {"Shape", "Shape.area", "Box", "Box.put", "Id", "Color", "send"},
    ),
    "tsx": ("function View(): any { return <div>{pack()}</div> }\n", {"View"}),
    "go": (
        "package box\n\ntype Box struct{}\n\nconst Limit = 3\n\n"
        "func (b *Box) Put() {}\n\nfunc Pack() { new(Box).Put() }\n",
        {"Box", "Limit", "Put", "Pack"},
    ),
    "rust": (
        "struct Box2 { x: i32 }\nimpl Box2 { fn put(&self) {} }\ntrait Shape { fn area(&self); }\n"
        "enum Color { Red }\nconst LIMIT: i32 = 3;\nmacro_rules! pack { () => {} }\n",
        {"Box2", "Box2.put", "Shape", "Shape.area", "Color", "LIMIT", "pack"},
    ),
    "java": (
        "class Box { Box() {} int put(int x) { return x; } }\ninterface Shape { int area(); }\nenum Color { RED }\n",
        {"Box", "Box.Box", "Box.put", "Shape", "Shape.area", "Color"},
    ),
    "c": (
        "#define LIMIT 3\nstruct box { int x; };\nenum color { RED };\ntypedef int id;\n"
        "static char *put(int x) { return 0; }\nint pack(void);\nint main(void) { return pack(); }\n",
        {"LIMIT", "box", "color", "id", "put", "main"},
    ),
    "cpp": (
        "namespace store {\nclass Box { public: int put() { return 1; } };\nint Box::take() { return 2; }\n}\n"
        "template <class T> T &pack(T &x) { return x; }\n",
        {"store", "store.Box", "store.Box.put", "store.take", "pack"},
    ),
    "csharp": (
        "namespace Store { class Box { int Size { get; set; } int Put(int x) { return x; } } interface IShape { } }\n",
        {"Store", "Store.Box", "Store.Box.Size", "Store.Box.Put", "Store.IShape"},
    ),
    "ruby": (
        "module Store\n  class Box\n    def put(x)\n      x\n    end\n    def self.make; new; end\n  end\nend\n",
        {"Store", "Store.Box", "Store.Box.put", "Store.Box.make"},
    ),
    "php": (
        "<?php\nclass Box { function put($x) { return $x; } }\ninterface Shape {}\nfunction pack_it() {}\n",
        {"Box", "Box.put", "Shape", "pack_it"},
    ),
    "bash": ("pack() {\n  put 1\n}\nfunction put { echo; }\n", {"pack", "put"}),
    "kotlin": ("class Box { fun put(x: Int): Int { return x } }\nobject Store\nfun pack() {}\n", None),
    "swift": ("class Box { func put() {} }\nprotocol Shape { func area() }\nfunc pack() {}\n", None),
    "lua": ("function pack() end\nlocal function put() end\nBox.take = function() end\n", {"pack", "put", "take"}),
    "scala": (
        "object Store { def pack(x: Int) = x }\nclass Box { def put() = 1 }\ntrait Shape\n",
        {"Store", "Store.pack", "Box", "Box.put", "Shape"},
    ),
}


def full(symbol: Symbol) -> str:
    return f"{symbol.parent}.{symbol.name}" if symbol.parent else symbol.name


def body(source: bytes, name: str, language: str = "python") -> int:
    return next(symbol.body for symbol in symbols(source, language) if symbol.name == name)


def test_every_language_has_a_sample() -> None:
    assert sorted(SAMPLES) == languages.languages()


@pytest.mark.parametrize("language", SAMPLES)
def test_definitions_are_found_with_what_is_around_them(language: str) -> None:
    source, names = SAMPLES[language]
    found = {full(symbol) for symbol in symbols(source.encode(), language)}
    if names is None:
        names = {"Box", "Box.put", "pack"}
        assert names <= found
    assert found >= names
    assert not found - names - {"Store", "Shape", "Shape.area"}


def test_a_symbol_has_its_kind_its_lines_and_the_size_of_its_body() -> None:
    source = b"class Box:\n    # why\n    def put(self, x):\n        return x  # here\n"
    box, put = symbols(source, "python")
    assert (box.kind, box.name, box.parent, box.start_line, box.end_line) == ("class", "Box", "", 1, 4)
    assert (put.kind, put.name, put.parent, put.start_line, put.end_line) == ("function", "put", "Box", 3, 4)
    # def ( self , x ) : return x
    assert put.tokens == 9


def test_a_body_is_the_same_whatever_its_name_its_comments_and_its_white_space() -> None:
    first = b"def put(a, b):\n    # sum\n    return a + b\n"
    assert body(first, "put") == body(b"class X:\n    def add(a,  b):\n        return a + b  # all\n", "add")
    assert body(first, "put") != body(b"def put(a, b):\n    return a - b\n", "put")
    assert body(first, "put") != body(b"def put(a, c):\n    return a + c\n", "put")
    c = b"int put(int a) { /* x */ return a; }"
    assert body(c, "put", "c") == body(b"int other(int a)\n{\n\treturn a; // y\n}\n", "other", "c")


def test_a_class_is_not_changed_by_a_change_in_its_method() -> None:
    one = b"class Box:\n    size = 3\n    def put(self):\n        return 1\n"
    assert body(one, "Box") == body(one.replace(b"return 1", b"return 2"), "Box")
    assert body(one, "Box") != body(one.replace(b"size = 3", b"size = 4"), "Box")


def test_uses_are_the_names_that_are_called() -> None:
    assert uses(b"def f():\n    g(1)\n    x.put(h())\n", "python") == [Use("g", 2), Use("put", 3), Use("h", 3)]
    for language, (source, _) in SAMPLES.items():
        assert all(use.line >= 1 for use in uses(source.encode(), language))
    assert [use.name for use in uses(b"void f() { g(1); }", "c")] == ["g"]


def test_a_version_is_read_from_the_one_before_it_as_if_it_were_read_anew() -> None:
    """Whatever is edited: also where a quote or a brace changes what everything after it is."""
    chance = random.Random(7)
    pieces = [b"", b" ", b"\n", b"x", b'"', b"{", b"}", b"/*", b"*/", b"(", b"def f(x):\n    return x\n", b"'''"]
    for language in ("python", "c", "javascript", "rust", "ruby", "go"):
        source = SAMPLES[language][0].encode() * 6
        follower = Follower(language)
        for _ in range(60):
            assert follower.follow(source) == symbols(source, language)
            start = chance.randrange(len(source) + 1)
            stop = min(start + chance.choice((0, 0, 1, 5, 60)), len(source))
            source = source[:start] + chance.choice(pieces) + source[stop:]


def test_hostile_sources_cost_nothing_much_and_stop_nothing() -> None:
    assert symbols(b"def f(): pass\n" * (SIZE_LIMIT // 10), "python") == []
    assert uses(b"f()\n" * SIZE_LIMIT, "python") == []
    deep = b"x = " + b"(" * 50_000 + b")" * 50_000
    assert [symbol.name for symbol in symbols(deep, "python")] == ["x"]
    assert symbols(b"\xff\xfe\x00 def \xc3(", "python") == []
    assert symbols(b"", "go") == []
    follower = Follower("python")
    assert follower.follow(b"def f(): pass\n")
    assert follower.follow(b"#" * (SIZE_LIMIT + 1)) == []
    assert [symbol.name for symbol in follower.follow(b"def g(): pass\n")] == ["g"]


@pytest.mark.parametrize(
    ("path", "head", "language"),
    [
        (b"src/box.py", b"", "python"),
        (b"Rakefile", b"", "ruby"),
        (b"lib/x.TSX", b"", "tsx"),
        (b"bin/tool", b"#!/usr/bin/env python3.11\n", "python"),
        (b"bin/tool", b"#!/usr/bin/env -S FOO=1 node --flag\n", "javascript"),
        (b"bin/tool", b"#! /bin/sh -e\n", "bash"),
        (b"bin/tool", b"#!/opt/thing\n", None),
        (b"notes.txt", b"#!/bin/sh\n", None),
        (b".py", b"", None),
        (b"\xff\xfe.go", b"", "go"),
        (b"README", b"", None),
    ],
)
def test_the_language_of_a_file(path: bytes, head: bytes, language: str | None) -> None:
    assert languages.language_of(path, head) == language


def test_a_language_has_several_names() -> None:
    assert [languages.named(word) for word in ("Python", "c++", "C#", "ts", ".rb", "golang"[:2])] == [
        "python",
        "cpp",
        "csharp",
        "typescript",
        "ruby",
        "go",
    ]
    assert languages.globs("ruby")[:2] == ("*.rb", "*.rake")
    with pytest.raises(NotFoundError, match="'klingon': not a language that is known; give one of bash, c, "):
        languages.named("klingon")


def test_a_grammar_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known: languages.Grammar = languages.grammar("lua")
    assert known.name == "lua"
    languages.grammar.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_lua", None)
    with pytest.raises(ToolMissing, match="tree-sitter-lua: not installed; get it with"):
        symbols(b"", "lua")
    languages.grammar.cache_clear()
