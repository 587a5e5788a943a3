"""The history of symbols: what each version did to which definition, and bodies that several projects have."""

from __future__ import annotations

import os
import sqlite3
from hashlib import sha1
from pathlib import Path

import pytest

from gitvault.errors import LockedError
from gitvault.personas.code.search.ledger import LEAST_TOKENS, Copies, Ledger, Lines, SymbolHistory, When
from gitvault.personas.code.search.model import Change

PUT = b"def put(self, x):\n    return self.items.append(x) or len(self.items)\n"
LONG = (
    b"def merge(left, right):\n    out = []\n    while left and right:\n"
    b"        out.append(left.pop(0) if left[0] <= right[0] else right.pop(0))\n    return out + left + right\n"
)


class Past:
    """Versions of projects' files, told to a ledger one by one."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.blobs: dict[bytes, bytes] = {}
        self.reads = 0
        self._now: dict[tuple[str, int, bytes], bytes] = {}
        self._version = 0
        self.lines: dict[int, When] = {}

    def version(self, project: str, files: dict[str, bytes | None], line: int = 0) -> int:
        self._version += 1
        self.lines[self._version] = When(line, self._version)
        for name, content in files.items():
            path = name.encode()
            old = self._now.get((project, line, path), b"")
            new = b""
            if content is not None:
                new = sha1(content).digest()
                self.blobs[new] = content
            self._now[project, line, path] = new
            self.changes.append(Change(self._version, project, path, old, new))
        return self._version

    def read(self, version: int, blob: bytes) -> bytes | None:
        self.reads += 1
        return self.blobs.get(blob)

    def tell(self, ledger: Ledger) -> int:
        fresh = [change for change in self.changes if change.version > ledger.known()]
        return ledger.add(fresh, self.read, self._version) if fresh else 0


@pytest.fixture
def past() -> Past:
    return Past()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "symbols.db")


def what(history: SymbolHistory) -> list[tuple[int, str]]:
    return [(event.version, "~" if event.old and event.new else "+" if event.new else "-") for event in history.steps]


def test_a_symbol_comes_changes_goes_and_comes_back(past: Past, ledger: Ledger) -> None:
    past.version("acme", {"box.py": b"import os\n" + PUT})
    past.version("acme", {"box.py": b"import sys\nimport os\n\n" + PUT})
    past.version("acme", {"box.py": PUT.replace(b"append", b"insert")})
    past.version("acme", {"box.py": b"import os\n"})
    past.tell(ledger)
    (put,) = ledger.find("put", past.lines)
    assert what(put) == [(1, "+"), (3, "~"), (4, "-")], "moving down its file changes nothing"
    assert (put.alive, put.kind, put.language, put.project) == (False, "function", "python", "acme")
    assert (put.place.start, put.place.end, put.last.version) == (1, 2, 3)
    past.version("acme", {"box.py": PUT})
    past.tell(ledger)
    (put,) = ledger.find("put", past.lines)
    assert put.alive


def test_it_moves_to_another_file(past: Past, ledger: Ledger) -> None:
    past.version("acme", {"box.py": PUT})
    past.version("acme", {"box.py": None, "crate.py": PUT})
    past.tell(ledger)
    (put,) = ledger.find("put", past.lines)
    assert what(put) == [(1, "+"), (2, "~")]
    moved = put.steps[1]
    assert (moved.path, moved.old and moved.old.body) == (b"crate.py", moved.new and moved.new.body)
    assert put.alive


def test_what_a_second_line_of_history_has_too_is_told_once(past: Past, ledger: Ledger) -> None:
    """Snapshots of a checkout whose commits are known: what was saved between two commits is told, nothing else."""
    edited, committed = PUT.replace(b"append", b"insert"), PUT.replace(b"append", b"extend")
    past.version("acme", {"box.py": PUT})
    past.version("acme", {"box.py": PUT}, line=7)
    past.version("acme", {"box.py": edited}, line=7)
    past.version("acme", {"box.py": committed})
    past.version("acme", {"box.py": committed}, line=7)
    past.tell(ledger)
    (put,) = ledger.find("put", past.lines)
    assert what(put) == [(1, "+"), (3, "~"), (4, "~")]
    past.version("acme", {"box.py": None})
    past.tell(ledger)
    (put,) = ledger.find("put", past.lines)
    assert put.alive, "the snapshot still has it"


def test_versions_that_no_longer_count_are_left_out(past: Past, ledger: Ledger) -> None:
    past.version("acme", {"box.py": PUT})
    past.version("acme", {"box.py": PUT.replace(b"append", b"insert")})
    past.tell(ledger)
    del past.lines[2]
    (put,) = ledger.find("put", past.lines)
    assert what(put) == [(1, "+")]
    none: Lines = {}
    assert ledger.find("put", none) == []


def test_several_of_one_name_in_a_file(past: Past, ledger: Ledger) -> None:
    one, two = PUT, PUT.replace(b"append", b"insert")
    past.version("acme", {"box.py": one + two})
    past.version("acme", {"box.py": two + one})
    past.version("acme", {"box.py": two})
    past.tell(ledger)
    (put,) = ledger.find("put", past.lines)
    assert what(put) == [(1, "+"), (1, "+"), (3, "-")]
    assert put.alive


def test_names_are_found_exactly_with_what_is_around_them_or_by_signs(past: Past, ledger: Ledger) -> None:
    past.version("acme", {"a.py": b"class Box:\n    def put(self): pass\n    def put_all(self): pass\n"})
    past.version("blue", {"a.go": b"package a\n\nfunc Put() {}\n", "b.py": b"def put(): pass\n"})
    past.tell(ledger)

    def names(asked: str, **options: object) -> set[tuple[str, str, str]]:
        return {(h.project, h.parent, h.name) for h in ledger.find(asked, past.lines, **options)}  # type: ignore[arg-type]

    assert names("put") == {("acme", "Box", "put"), ("blue", "", "put")}
    assert names("Box.put") == {("acme", "Box", "put")}
    assert names("put*") == {("acme", "Box", "put"), ("acme", "Box", "put_all"), ("blue", "", "put")}
    assert names("PUT", ignore_case=True) == {("acme", "Box", "put"), ("blue", "", "put"), ("blue", "", "Put")}
    assert names("put", projects=frozenset({"blue"})) == {("blue", "", "put")}
    assert names("*ut", language="go") == {("blue", "", "Put")}
    assert names("p[u]t") == set(), "a bracket is no sign"
    assert names("p[u]t*") == set()
    assert names("nothing") == set()


def test_copied_functions_are_found_by_their_bodies(past: Past, ledger: Ledger) -> None:
    """Whatever they are called there, and however they are indented and commented."""
    first = past.version("acme", {"sort.py": LONG})
    copy = b"class Sorter:\n" + b"".join(
        b"    " + line + b"\n" for line in LONG.replace(b"def merge", b"def both").splitlines()
    ).replace(b"out = []\n", b"out = []  # the result\n")
    past.version("blue", {"lib/util.py": copy, "short.py": b"def f(): return 1\n"})
    past.version("acme", {"short.py": b"def g(): return 1\n"})
    gone = past.version("blue", {"lib/util.py": copy.replace(b"<=", b"<")})
    past.tell(ledger)
    group: Copies
    (group,) = ledger.copies(past.lines)
    assert group.tokens >= LEAST_TOKENS
    assert {(c.project, c.path, c.name, c.language, c.introduced, c.removed) for c in group.copies} == {
        ("acme", b"sort.py", "merge", "python", first, None),
        ("blue", b"lib/util.py", "both", "python", 2, gone),
    }
    assert {copy.place.start for copy in group.copies} == {1, 2}
    assert ledger.copies(past.lines, projects=frozenset({"acme"})) == []
    assert ledger.copies(past.lines, language="go") == []
    assert ledger.copies(past.lines, limit=0) == []


def test_only_files_that_can_have_symbols_are_read(past: Past, ledger: Ledger) -> None:
    past.version(
        "acme",
        {
            "notes.txt": b"def put(): pass\n",
            "tool": b"#!/usr/bin/env python3\n" + PUT,
            "min.js": b"function a(){};" * 100,
            "data.py": b"def x(): pass\n\0",
            "lost.py": b"def lost(): pass\n",
        },
    )
    # A submodule's commit, as the index tells it, and content that cannot be had any more.
    past.changes.append(Change(1, "acme", b"sub.py", b"", b"L" + bytes(20)))
    del past.blobs[sha1(b"def lost(): pass\n").digest()]
    past.tell(ledger)
    assert past.reads == 4, "notes.txt and the submodule are left alone"
    assert [history.name for history in ledger.find("*", past.lines)] == ["put"]


def test_what_was_read_is_not_read_again(past: Past, tmp_path: Path) -> None:
    past.version("acme", {"box.py": PUT})
    with Ledger(tmp_path / "symbols.db") as ledger:
        assert (ledger.known(), past.tell(ledger), ledger.known()) == (-1, 1, 1)
    with Ledger(tmp_path / "symbols.db") as ledger:
        assert past.tell(ledger) == 0
        past.version("acme", {"box.py": PUT + b"\n" + LONG})
        assert past.tell(ledger) == 2, "the version before, and the new one"
        assert len(ledger.find("merge", past.lines)) == 1
        assert len(ledger.find("put", past.lines)[0].events) == 1


def test_a_table_of_another_index_is_begun_anew(past: Past, tmp_path: Path) -> None:
    past.version("acme", {"box.py": PUT})
    with Ledger(tmp_path / "symbols.db", "one") as ledger:
        past.tell(ledger)
    with Ledger(tmp_path / "symbols.db", "one") as ledger:
        assert ledger.known() == 1
    with Ledger(tmp_path / "symbols.db", "two") as ledger:
        assert (ledger.known(), ledger.find("put", past.lines)) == (-1, [])


def test_two_that_read_the_same_write_it_once(past: Past, tmp_path: Path) -> None:
    past.version("acme", {"box.py": PUT})
    with Ledger(tmp_path / "symbols.db") as one, Ledger(tmp_path / "symbols.db") as two:

        def read(version: int, blob: bytes) -> bytes | None:
            # While one is parsing the other one is through.
            if two.known() < 0:
                past.tell(two)
            return past.read(version, blob)

        assert one.add(past.changes, read, 1) == 1
        assert [len(history.events) for history in one.find("put", past.lines)] == [1]


def test_a_table_that_is_locked_is_left_alone(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    past.version("acme", {"box.py": PUT})
    with Ledger(tmp_path / "symbols.db") as ledger:
        past.tell(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", locked)
        with pytest.raises(LockedError, match="another run writes to it"):
            Ledger(tmp_path / "symbols.db")
    with Ledger(tmp_path / "symbols.db") as ledger:
        assert ledger.known() == 1


def test_a_function_under_another_name_is_known_by_its_body(past: Past, ledger: Ledger) -> None:
    past.version("acme", {"box.py": PUT})
    past.version("acme", {"box.py": PUT.replace(b"def put", b"def place")})
    past.tell(ledger)
    (place,) = ledger.find("place", past.lines)
    (put,) = ledger.find("put", past.lines)
    assert ledger.former(place.events[0], "acme") == "put"
    assert ledger.former(place.events[0], "blue") == ""
    assert [ledger.former(event, "acme") for event in put.events] == ["", ""]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"", b"other"])
def test_a_damaged_or_foreign_file_is_begun_anew(tmp_path: Path, past: Past, content: bytes) -> None:
    file = tmp_path / "symbols.db"
    if content == b"other":
        db = sqlite3.connect(file)
        db.execute("PRAGMA user_version=99")
        db.close()
    else:
        file.write_bytes(content)
    past.version("acme", {"box.py": PUT})
    with Ledger(file) as ledger:
        past.tell(ledger)
        assert len(ledger.find("put", past.lines)) == 1
    with Ledger(file) as ledger:
        assert ledger.known() == 1
    if os.name == "posix" and content:
        assert file.stat().st_mode & 0o077 == 0


def test_where_no_file_can_be_written_the_ledger_lives_for_one_run(tmp_path: Path, past: Past) -> None:
    past.version("acme", {"box.py": PUT})
    with Ledger(tmp_path / "missing" / "symbols.db") as ledger:
        past.tell(ledger)
        assert len(ledger.find("put", past.lines)) == 1
