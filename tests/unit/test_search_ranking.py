"""Which lines come first."""

from __future__ import annotations

from datetime import UTC, datetime

from gitvault.personas.code.search.model import Hit, Version
from gitvault.personas.code.search.ranking import Score, is_foreign, scorer


def version(number: int) -> Version:
    return Version(number, f"{number:040x}", "acme", datetime.fromtimestamp(number * 1000, UTC), "Ann", "why", False)


def hit(text: str, path: str = "src/a.py", *, gone: bool = False, projects: int = 1, last: int = 1) -> Hit:
    removed = version(9) if gone else None
    names = tuple(f"p{number}" for number in range(projects))
    return Hit("acme", path.encode(), text.encode(), version(1), (), removed, names, b"", version(last))


def order(*hits: Hit, pattern: bytes = b"put") -> list[str]:
    def find(line: bytes) -> tuple[int, int] | None:
        at = line.find(pattern)
        return (at, at + len(pattern)) if at >= 0 else None

    return [f"{h.path.decode()}: {h.text.decode()}" for h in sorted(hits, key=scorer(find), reverse=True)]


def test_exact_before_words_before_parts() -> None:
    exact, word, part = hit("  put"), hit("x = put + 1"), hit("x = input + 1")
    assert order(part, word, exact) == [f"src/a.py: {h.text.decode()}" for h in (exact, word, part)]


def test_a_definition_before_a_use_before_a_comment() -> None:
    for path, lines in {
        "a.py": ("    def put(self):", "x = put(1)", "# put it"),
        "a.go": ("func (b *Box) put() {", "x := put(1)", "// put it"),
        "a.js": ("export async function put() {", "put(1)", " * put it"),
        "a.c": ("#define put(x) x", "x = put(1);", "/* put it */"),
        "a.rs": ("pub(crate) fn put() {", "put(1)", "/// put it"),
        "a.lua": ("function put()", "put(1)", "-- put it"),
        "notes.txt": ("type put", "x put", "% put"),
    }.items():
        hits = [hit(text, path) for text in lines]
        assert order(*reversed(hits)) == [f"{path}: {text}" for text in lines], path


def test_alive_before_gone_many_projects_before_one_new_before_old() -> None:
    gone = hit("put(1)", "gone.py", gone=True, projects=5, last=8)
    alone = hit("put(1)", "alone.py", last=9)
    shared = hit("put(1)", "shared.py", projects=2)
    old = hit("put(1)", "old.py")
    assert [line.partition(":")[0] for line in order(gone, old, alone, shared)] == [
        "shared.py",
        "alone.py",
        "old.py",
        "gone.py",
    ]


def test_what_was_copied_in_or_generated_comes_last() -> None:
    mine = hit("# input", "mine.py", gone=True)
    vendored = hit("put", "vendor/x.py")
    minified = hit("put;" * 200, "src/app.js")
    assert next(line.partition(":")[0] for line in order(minified, vendored, mine)) == "mine.py"
    for path in ("a/node_modules/x.js", "x.min.js", "Cargo.lock", "api_pb2.py", "Third_Party/a.c"):
        assert is_foreign(path.encode()), path
    for path in ("src/vendors.py", "builder.py", "distance/a.py", "min.js"):
        assert not is_foreign(path.encode()), path


def test_an_expression_of_which_only_the_beginning_is_known() -> None:
    def find(line: bytes) -> tuple[int, int] | None:
        return (line.find(b"put"),) * 2 if b"put" in line else None

    score = scorer(find)
    best: Score = score(hit("x put"))
    assert best > score(hit("x input"))
    assert score(hit("nothing")) < score(hit("input"))
    assert score(hit("def put")) > score(hit("x put"))
