"""`git-vault search` on the history of real checkouts and on snapshots: the forms that other programs use."""

from __future__ import annotations

import errno
import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitvault.cli import main
from gitvault.core.utils.files import Disk, create_private
from gitvault.personas.code.search import answers, catalog
from gitvault.personas.code.search import ledger as ledger_module
from gitvault.personas.code.search.answers import Page, Step, Wanted, callers, catch_up, structures, symbols, timeline
from gitvault.personas.code.search.catalog import alone
from gitvault.personas.code.search.index import Index
from gitvault.personas.code.search.ledger import Ledger
from gitvault.personas.code.search.structure import Pattern
from gitvault.vault import Vault

MERGE = """def merge(left, right):
    out = []
    while left and right:
        out.append(left.pop(0) if left[0] <= right[0] else right.pop(0))
    return out + left + right
"""
COPY = MERGE.replace("def merge", "def join_sorted").replace("out = []", "out = []  # the result")
HIT = {
    "project", "path", "line", "text", "introduced", "introduced_at", "author", "message", "modified", "removed",
    "removed_at", "alive", "projects",
}  # fmt: skip

STEP = {"id", "project", "time", "author", "message", "snapshot", "path", "change", "former", "diff"}


class Checkout:
    """A git checkout with commits a day apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.days = 0
        self.git("init", "-q", str(folder))

    def git(self, *words: str) -> str:
        when = (datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=self.days)).isoformat()
        environment = {**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        command = ["git", *(() if words[0] == "init" else ("-C", str(self.folder))), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()

    def commit(self, message: str, files: dict[str, str | None], author: str = "Ann") -> str:
        for name, content in files.items():
            path = self.folder / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode())
        self.git("add", "-A")
        self.days += 1
        self.git("commit", "-q", "-m", message, f"--author={author} <{author.lower()}@example.invalid>")
        return self.git("rev-parse", "HEAD")


Run = Callable[..., Any]


@pytest.fixture
def run(vault: Vault, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `git-vault search`; its JSON, or, with `text`, what people read, or, with `code`, what it complains of."""

    def search(*words: str, text: bool = False, code: int = 0) -> Any:
        capsys.readouterr()
        given = ["--vault", str(vault.path), "search", *words]
        done = main.main([*given, *(() if text or code else ("--json",))])
        out, said = capsys.readouterr()
        assert done == code, said
        return said if code else out if text else json.loads(out)

    return search


@pytest.mark.parametrize("indexed", [False, True])
def test_a_vault_that_cannot_be_written_is_searched(
    vault: Vault,
    tmp_path: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    indexed: bool,
) -> None:
    """On a read-only medium, or somebody else's; with and without an index of what came before."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a").write_text("needle one\n")
    vault.create_snapshot(tmp_path / "notes")
    if indexed:
        assert run("needle")["count"] == 1
    (tmp_path / "notes/b").write_text("needle two\n")
    vault.create_snapshot(tmp_path / "notes")

    def refused(path: Path) -> None:
        if path.is_relative_to(vault.path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        create_private(path)

    monkeypatch.setattr(catalog, "create_private", refused)
    before = {path: path.stat().st_mtime_ns for path in (vault.path / "cache" / "search").rglob("*")}
    assert run("needle")["count"] == 2
    assert main.main(["--vault", str(vault.path), "search", "--symbol", "none"]) == 0
    assert capsys.readouterr().err == f"git-vault: {vault.path}: cannot be written to; searched in a temporary index\n"
    assert {path: path.stat().st_mtime_ns for path in (vault.path / "cache" / "search").rglob("*")} == before


def test_on_a_full_disk_a_search_answers_with_what_it_has(
    vault: Vault, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a").write_text("needle\n")
    vault.create_snapshot(tmp_path / "notes")
    assert run("needle")["count"] == 1
    kept = (vault.path / "cache" / "search" / "catalog.db").stat().st_ino
    (tmp_path / "notes/b").write_text("needle\n")
    vault.create_snapshot(tmp_path / "notes")

    def full(*_: object) -> None:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute("CREATE TABLE any(thing)")

    said = "no space left on the disk; free some space and run again"
    for broken in ("number_of", "waiting"):
        with monkeypatch.context() as patch:
            patch.setattr(catalog.Catalog, broken, full)
            assert main.main(["--vault", str(vault.path), "search", "needle"]) == 0
        told = capsys.readouterr()
        assert f"{said}; this answer lacks what it has not read yet\n" in told.err and "needle" in told.out
    with monkeypatch.context() as patch:
        # Not even opened; it is no reason to begin anew.
        patch.setattr(catalog.Catalog, "is_ours", full)
        assert run("needle", code=12).endswith(f"{said}\n")
    assert (vault.path / "cache" / "search" / "catalog.db").stat().st_ino == kept
    assert run("needle")["count"] == 2


@pytest.fixture
def acme(tmp_path: Path, vault: Vault) -> Checkout:
    checkout = Checkout(tmp_path / "acme")
    vault.add_project(checkout.folder)
    return checkout


@pytest.fixture
def blue(tmp_path: Path, vault: Vault) -> Checkout:
    checkout = Checkout(tmp_path / "blue")
    vault.add_project(checkout.folder)
    return checkout


def test_a_line_knows_when_it_came_changed_and_went_and_where_it_lives(
    run: Run, acme: Checkout, blue: Checkout
) -> None:
    first = acme.commit("Begin", {"src/box.py": "import os\nlimit = 3\n"})
    second = acme.commit("More", {"src/box.py": "import os\nlimit = 4\n"}, author="Bob")
    blue.commit("Copied", {"lib.py": "limit = 4\n"})
    third = acme.commit("Gone", {"src/box.py": "import os\n"})
    found = run("limit")
    assert found["count"] == 2
    lives, gone = found["hits"]
    assert (lives["project"], lives["path"], lives["line"], lives["text"]) == ("blue", "lib.py", 1, "limit = 4")
    assert (lives["alive"], lives["removed"], lives["modified"]) == (True, None, [])
    assert lives["projects"] == gone["projects"] == ["acme", "blue"]
    assert set(gone) == HIT
    assert gone == {
        "project": "acme",
        "path": "src/box.py",
        "line": 2,
        "text": "limit = 4",
        "introduced": first,
        "introduced_at": "2026-01-02T12:00:00Z",
        "author": "Ann",
        "message": "Begin",
        "modified": [second],
        "removed": third,
        "removed_at": "2026-01-04T12:00:00Z",
        "alive": False,
        "projects": ["acme", "blue"],
    }
    lines = run("limit", text=True).splitlines()
    assert lines[0] == "blue:lib.py:1: limit = 4"
    assert "since " in lines[1] and "Ann: Copied; in 2 projects: acme, blue" in lines[1]
    assert f"changed once, last {second[:12]}" in lines[3] and f"gone with {third[:12]}" in lines[3]


def test_what_is_asked_for_narrows_the_answer(run: Run, acme: Checkout, blue: Checkout) -> None:
    acme.commit("Begin", {"a.py": "put(1)\nPUT\ninput(2)\n", "b.go": "put(1)\n", "c.txt": "a.c\n"})
    acme.commit("Less", {"a.py": "PUT\ninput(2)\n"})
    blue.commit("Begin", {"d.py": "put(1)\n"})

    def texts(*words: str) -> list[str]:
        return sorted(f"{hit['project']}/{hit['path']}: {hit['text']}" for hit in run(*words)["hits"])

    assert texts("put") == ["acme/a.py: input(2)", "acme/a.py: put(1)", "acme/b.go: put(1)", "blue/d.py: put(1)"]
    assert texts("-w", "put") == ["acme/a.py: put(1)", "acme/b.go: put(1)", "blue/d.py: put(1)"]
    assert texts("-i", "-w", "put", "--lang", "python", "--alive") == ["acme/a.py: PUT", "blue/d.py: put(1)"]
    assert texts("put", "--lang", "go") == ["acme/b.go: put(1)"]
    assert texts("put", "--project", "blue") == ["blue/d.py: put(1)"]
    assert texts("put", "--removed") == ["acme/a.py: put(1)"]
    assert texts("put", "--reuse") == ["acme/a.py: put(1)", "acme/b.go: put(1)", "blue/d.py: put(1)"]
    assert texts("-E", "p(u|o)t\\(1") == texts("-F", "put(1") == texts("-w", "put")
    assert texts("-e", "input", "-e", "^PUT$") == ["acme/a.py: PUT", "acme/a.py: input(2)"]
    assert texts("-F", "-e", "a.c", "-e", "PUT") == ["acme/a.py: PUT", "acme/c.txt: a.c"]
    assert texts("put", "--since", "2026-01-03", "--introduced") == []
    assert texts("put", "--since", "2026-01-03", "--removed") == ["acme/a.py: put(1)"]
    assert texts("put", "--until", "2026-01-02", "--introduced", "--project", "blue") == ["blue/d.py: put(1)"]
    page = run("put", "--limit", "1")
    assert (page["count"], len(page["hits"])) == (4, 1)
    assert run("put", "--limit", "1", text=True).endswith("4 in all, the first 1 shown; --limit N shows more\n")
    assert run("nowhere to be found") == {"count": 0, "hits": []}
    assert run("nowhere to be found", text=True) == "nothing found\n"


def test_the_pickaxes_name_what_git_names(run: Run, acme: Checkout) -> None:
    """Over a history of random edits, moves, copies, deletions and merges."""
    chance = random.Random(5)
    words = ["put", "take", "input", "put put", "x = 1", "", "\tput", "puts\r"]
    for number in range(24):
        if number == 8:
            acme.git("checkout", "-q", "-b", "side")
        if number == 14:
            acme.git("checkout", "-q", "main")
        files: dict[str, str | None] = {}
        for name in chance.sample(["a.py", "b.py", "c.txt", "d/e.py"], 2):
            lines = [chance.choice(words) for _ in range(chance.randrange(8))]
            files[name] = "\n".join(lines) + chance.choice(["", "\n"]) if lines else "\n"
            if chance.random() < 0.2 and (acme.folder / name).exists():
                files[name] = None
        acme.commit(f"Change {number}", files)
    acme.git("merge", "-q", "-s", "ours", "-m", "Merge", "side")
    acme.commit("After", {"a.py": "put\ntake\n"})
    log = ("log", "--format=%H", "--first-parent", "--no-renames")
    for text in ("put", "input", "put put", "x = 1", "nothing"):
        assert run("-S", text, "--ids") == acme.git(*log, f"-S{text}").split(), text
        assert run("-S", text, "--ids", text=True).split() == acme.git(*log, f"-S{text}").split(), text
    assert run("-S", "PUT", "-i", "--ids") == acme.git(*log, "-i", "-SPUT").split()
    for text in ("^put", "p.t", "take|x = [0-9]"):
        ours, gits = run("-G", text, "--ids"), acme.git(*log, "-E", f"-G{text}").split()
        # A move within a file is an added and a removed line to git, and nothing to us.
        assert set(ours) <= set(gits), text
        assert len(gits) - len(ours) <= 4, text
    found = run("-S", "put")
    assert found["count"] == len(found["versions"]) > 0
    newest = found["versions"][0]
    assert newest == {
        "id": newest["id"],
        "project": "acme",
        "time": newest["time"],
        "author": "Ann",
        "message": newest["message"],
        "snapshot": False,
    }
    assert newest["id"][:12] in run("-S", "put", text=True)
    assert run("-S", "nothing", text=True) == "nothing found\n"


def test_snapshots_and_commits_are_one_answer(run: Run, acme: Checkout, vault: Vault, tmp_path: Path) -> None:
    first = acme.commit("Begin", {"box.py": "limit = 3\n"})
    plain = tmp_path / "notes"
    plain.mkdir()
    (plain / "box.py").write_text("limit = 3\n")
    saved = vault.create_snapshot(plain, message="By hand").snapshot
    (plain / "box.py").write_text("limit = 5\n")
    again = vault.create_snapshot(plain).snapshot
    hits = {hit["project"]: hit for hit in run("limit")["hits"]}
    assert hits["acme"]["introduced"] == first
    assert (hits["notes"]["introduced"], hits["notes"]["modified"]) == (saved, [again])
    assert (hits["notes"]["message"], hits["notes"]["text"]) == ("By hand", "limit = 5")
    assert set(run("-S", "= 3", "--ids")) == {first, saved, again}


def test_snapshots_of_a_checkout_tell_what_its_commits_do_not(run: Run, acme: Checkout, vault: Vault) -> None:
    """What was saved before it was committed is told once, and belongs to the snapshot."""

    def save(function: str) -> str:
        (acme.folder / "sort.py").write_bytes(function.encode())
        acme.days += 1
        vault.now = lambda: datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=acme.days)
        return str(vault.create_snapshot(acme.folder, message="Saved").snapshot)

    strict = MERGE.replace("<=", "<")
    first = acme.commit("Begin", {"sort.py": MERGE})
    saved = save(strict)
    acme.commit("Strict", {"sort.py": strict})
    last = save(strict.replace("out = []", "out = list()"))
    (hit,) = run("--symbol", "merge")["hits"]
    assert (hit["introduced"], hit["modified"], hit["alive"]) == (first, [saved, last], True)
    found = run("--struct", "out = $A", "--lang", "python", "--alive")
    assert "out = list()" in [hit["text"] for hit in found["hits"]]


def test_the_history_of_a_symbol(run: Run, acme: Checkout) -> None:
    first = acme.commit("Begin", {"sort.py": "class Sorter:\n    size = 1\n\n" + indented(MERGE)})
    changed = acme.commit("Strict", {"sort.py": "class Sorter:\n    size = 1\n\n" + indented(MERGE.replace("<=", "<"))})
    acme.commit("Elsewhere", {"sort.py": "class Sorter:\n    size = 2\n\n" + indented(MERGE.replace("<=", "<"))})
    moved = acme.commit(
        "Move", {"sort.py": None, "lib/sort.py": "class Sorter:\n    size = 2\n\n" + indented(MERGE.replace("<=", "<"))}
    )
    gone = acme.commit("Remove", {"lib/sort.py": "class Sorter:\n    size = 2\n"})
    found = run("--symbol", "Sorter.merge")
    (hit,) = found["hits"]
    assert set(hit) == HIT | {"kind", "name", "language"}
    assert (hit["kind"], hit["name"], hit["language"], hit["alive"]) == ("function", "Sorter.merge", "python", False)
    assert (hit["introduced"], hit["modified"], hit["removed"]) == (first, [changed, moved], gone)
    assert (hit["path"], hit["line"], hit["text"]) == ("lib/sort.py", 4, "    def merge(left, right):")
    assert run("--symbol", "Sorter", "--alive")["hits"][0]["alive"]
    assert run("--symbol", "merge", "--alive")["count"] == 0
    assert run("--symbol", "MERGE", "-i")["count"] == run("--symbol", "mer*", "--lang", "py")["count"] == 1
    assert run("--symbol", "merge", "--lang", "go") == {"count": 0, "hits": []}

    (hit,) = run("--symbol", "merge", "--timeline")["hits"]
    steps = hit["timeline"]
    assert [step["change"] for step in steps] == ["introduced", "modified", "moved", "removed"]
    assert [step["id"] for step in steps] == [first, changed, moved, gone]
    assert set(steps[0]) == {
        "id",
        "project",
        "time",
        "author",
        "message",
        "snapshot",
        "path",
        "change",
        "former",
        "diff",
    }
    assert "-            out.append(left.pop(0) if left[0] <= right[0]" in steps[1]["diff"]
    assert steps[2]["diff"] == ""
    lines = run("--symbol", "merge", "--timeline", text=True).splitlines()
    assert lines[0] == "acme: function Sorter.merge (python)"
    assert sum("      @@ " in line for line in lines) == 3


def test_a_symbol_that_is_renamed_says_so(run: Run, acme: Checkout) -> None:
    acme.commit("Begin", {"sort.py": MERGE})
    renamed = acme.commit("Rename", {"sort.py": MERGE.replace("def merge", "def join")})
    assert run("--symbol", "merge")["hits"][0]["removed"] == renamed
    (hit,) = run("--symbol", "join", "--timeline")["hits"]
    (step,) = hit["timeline"]
    assert (step["id"], step["change"], step["former"]) == (renamed, "renamed", "merge")
    assert "renamed from merge" in run("--symbol", "join", "--timeline", text=True)


def test_while_the_index_is_being_built_there_is_an_answer(
    run: Run, acme: Checkout, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitvault.personas.code.search.index.WAIT", 0)
    acme.commit("Begin", {"a.py": "x = 1\n"})
    assert run("x = ")["count"] == 1
    acme.commit("More", {"a.py": "x = 2\n"})
    with alone(vault.path / "cache" / "search", 0):
        assert run("x = ")["count"] == 1
        assert "another run brings the search index up to date" in run("--index", code=11)
    assert run("x = ")["hits"][0]["text"] == "x = 2"


def test_a_project_whose_repository_is_damaged_is_said_and_the_rest_found(
    run: Run, acme: Checkout, blue: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    acme.commit("Begin", {"a.py": "x = 1\n"})
    blue.commit("Begin", {"b.py": "x = 1\n"})
    (acme.folder / ".git" / "HEAD").write_text("nonsense\n")
    assert [hit["project"] for hit in run("x = ")["hits"]] == ["blue"]
    assert run("--index")["problems"][0].startswith("acme: ")


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


def test_who_calls_a_function(run: Run, acme: Checkout) -> None:
    """Not who defines it, speaks of it, or has its name in a text."""
    source = "def put(x):\n    # put it\n    return 'put'\n\nput(1)\nself.put(2)\n"
    acme.commit("Begin", {"a.py": source, "b.txt": "put(3)\n", "node_modules/c.js": "put(4)\n"})
    acme.commit("Less", {"a.py": source.replace("put(1)\n", "")})
    found = run("--symbol", "put", "--uses")
    assert [(hit["path"], hit["line"], hit["text"], hit["alive"]) for hit in found["hits"]] == [
        ("a.py", 5, "self.put(2)", True),
        ("a.py", 5, "put(1)", False),
        ("node_modules/c.js", 1, "put(4)", True),
    ]
    assert run("--symbol", "Box.put", "--uses", "--alive", "--lang", "python")["count"] == 1


def test_functions_that_projects_share_are_found_by_what_they_do(run: Run, acme: Checkout, blue: Checkout) -> None:
    first = acme.commit("Begin", {"sort.py": MERGE, "own.py": MERGE.replace("<=", ">")})
    blue.commit("Begin", {"util.py": "import os\n"})
    blue.commit("Steal", {"util.py": "import os\n" + COPY})
    found = run("--reuse")
    assert found["count"] == 1
    (hit,) = found["hits"]
    assert (hit["projects"], hit["introduced"], hit["alive"], hit["name"]) == (["acme", "blue"], first, True, "merge")
    assert hit["tokens"] > 40
    assert sorted(hit["places"], key=lambda place: place["project"]) == [
        {"project": "acme", "path": "sort.py", "line": 1, "name": "merge", "alive": True},
        {"project": "blue", "path": "util.py", "line": 2, "name": "join_sorted", "alive": True},
    ]
    assert run("--reuse", "--project", "acme")["count"] == 0
    text = run("--reuse", text=True)
    assert "  blue:util.py:2: join_sorted\n" in text
    blue.commit("Own", {"util.py": "import os\n"})
    assert "  blue:util.py:2: join_sorted  (gone)\n" in run("--reuse", text=True)
    assert run("--reuse", "--lang", "go", text=True) == "nothing found\n"


def test_code_is_found_by_its_structure(run: Run, acme: Checkout) -> None:
    first = acme.commit("Begin", {"a.py": "for x in items:\n    put(x)\n", "b.txt": "for x in items: put(x)\n"})
    second = acme.commit("More", {"a.py": "for x in items:\n    put(x)\n    take(x)\n"})
    third = acme.commit(
        "Gone", {"a.py": "# for x in items: put(x)\n", "c.py": "for y in (\n    items\n):\n    put(y)\n"}
    )
    found = run("--struct", "for $A in $B: $$$", "--lang", "python")
    assert found["count"] == 2
    lives, gone = found["hits"]
    assert (lives["path"], lives["line"], lives["alive"], lives["introduced"]) == ("c.py", 1, True, third)
    assert (gone["path"], gone["text"][:15], gone["introduced"], gone["removed"]) == (
        "a.py", "for x in items:", first, third,
    )  # fmt: skip
    exhaustive = run("--struct", "for $A in $B: $$$", "--lang", "py", "--exhaustive")
    assert [hit["modified"] for hit in exhaustive["hits"]] == [[], [second]]
    assert run("--struct", "for $A in $B: $$$", "--lang", "python", "--removed")["count"] == 1
    assert run("--struct", "while $A: $$$", "--lang", "python")["count"] == 0
    assert "c.py:1: for y in" in run("--struct", "for $A in $B: $$$", "--lang", "python", text=True)


def test_the_index_says_how_far_it_is(run: Run, acme: Checkout) -> None:
    acme.commit("Begin", {"a.py": "x = 1\n"})
    acme.commit("More", {"a.py": "x = 2\n"})
    assert run("--index") == {"versions": 2, "added": 2, "waiting": 0, "problems": []}
    assert run("--index", text=True) == "2 versions in the index, 0 of them new, 0 waiting\n"
    acme.commit("Most", {"a.py": "x = 3\n"})
    assert run("x = ", "--alive")["hits"][0]["text"] == "x = 3", "a search brings the index up to date itself"


def test_the_index_is_a_cache(run: Run, acme: Checkout, vault: Vault) -> None:
    acme.commit("Begin", {"a.py": "def f():\n    return 1\n"})
    asked = [("return",), ("--symbol", "f"), ("-S", "return", "--ids")]
    before = [run(*words) for words in asked]
    for file in (vault.path / "cache" / "search").iterdir():
        file.unlink()
    assert [run(*words) for words in asked] == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["f("], 128, "f(: no regular expression: missing ): f(; -F searches"),
        (["-G", "a**["], 128, "no regular expression"),
        (["x", "--lang", "klingon"], 128, "'klingon': not a language that is known; give one of bash, c,"),
        (["x", "--project", "nope"], 128, "nope: no such project; git-vault projects lists them"),
        (
            ["x", "--project", "acmee"],
            128,
            "acmee: no such project (did you mean acme?); git-vault projects lists them",
        ),
        (["--struct", "def (", "--lang", "python"], 128, "'def (': does not parse as python"),
        (["--struct", "f($A)"], 129, "--struct needs --lang"),
        ([], 129, "nothing to search for"),
        (["x", "-S", "y"], 129, "give one of PATTERN, -S, -G, --symbol and --struct"),
        (["x", "-e", "y"], 129, "a PATTERN beside -e"),
        (["x", "--ids"], 129, "--ids goes with -S or -G"),
        (["--symbol", "pu*", "--uses"], 129, "--uses goes with --symbol and a whole name"),
        (["x", "--uses"], 129, "--uses goes with --symbol"),
        (["x", "--timeline"], 129, "--timeline goes with --symbol"),
        ([""], 129, "cannot be empty"),
    ],
)
def test_bad_input_is_one_clear_line(run: Run, acme: Checkout, words: list[str], code: int, said: str) -> None:
    acme.commit("Begin", {"a.py": "x\n"})
    line = run(*words, code=code)
    assert said in line
    assert len(line.splitlines()) == 1


def test_what_takes_too_long_is_left_out_and_said(run: Run, acme: Checkout, vault: Vault) -> None:
    acme.commit("Begin", {"a.py": "def f():\n    g(1)\n", "b.py": "def h():\n    g(2)\n"})
    run("--index")
    clock = iter(range(1000))
    with Index.open(vault.path / "cache" / "search", Disk()) as index:
        page: Page = structures(index, Pattern("g($A)", "python"), Wanted(), budget=1, now=lambda: next(clock))
        assert (page.count, page.notes) == (
            1, ("1 of 2 files were not looked at for want of time; --exhaustive looks at all",),
        )  # fmt: skip
        page = callers(index, "g", Wanted(), budget=1, now=lambda: next(clock))
        assert (page.count, page.notes) == (
            1, ("1 line was not looked at for want of time; --project and --alive ask for less",),
        )  # fmt: skip


def test_the_library_gives_what_the_verb_prints(run: Run, acme: Checkout, vault: Vault) -> None:
    acme.commit("Begin", {"a.py": "def f():\n    g(1)\n", "b.py": "def h():\n    g(2)\n"})
    run("g")
    folder = vault.path / "cache" / "search"
    with Index.open(folder, Disk()) as index, Ledger(folder / "symbols.db", index.catalog.identity) as ledger:
        assert (catch_up(index, ledger), catch_up(index, ledger)) == (2, 0)
        page, histories = symbols(index, ledger, "f", Wanted())
        steps: list[Step] = timeline(index, ledger, histories[0])
    assert [(one.path, one.text) for one in page.found] == [(b"a.py", b"def f():")]
    assert [(step.change, step.former, step.path) for step in steps] == [("introduced", "", b"a.py")]


def test_symbols_are_read_by_two_processes_and_on_from_where_that_was_stopped(
    run: Run, acme: Checkout, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same table whoever read what, it is told how far it is, and what was read before a Ctrl-C is kept."""
    for text in ("return {}", "return -{}", "x = {}"):
        commit = {f"m{number}.py": f"def f{number}():\n    {text.format(number)}\n" for number in range(200)}
        acme.commit("Change", {**commit, "notes.txt": text})
    run("f1", "-F")
    tables: list[list[object]] = []
    seen: list[tuple[int, int]] = []
    with Index.open(vault.path / "cache" / "search", Disk()) as index:
        for name, batch, second in (("one", 10_000, 10_000), ("two", 10_000, 1), ("parts", 150, 10_000)):
            monkeypatch.setattr(answers, "_BATCH", batch)
            monkeypatch.setattr(ledger_module, "_SECOND_FROM", second)
            file = tmp_path / f"{name}.db"
            with Ledger(file, index.catalog.identity) as ledger:
                if name == "parts":

                    def stop(what: str, done: int, total: int) -> None:
                        if done > 250:
                            raise KeyboardInterrupt

                    with pytest.raises(KeyboardInterrupt):
                        catch_up(index, ledger, stop)
                    assert ledger.known() >= 0
                    kept = ledger._db.execute("SELECT COUNT(*) FROM event").fetchone()[0]
                    assert 0 < kept < 600
                catch_up(index, ledger, lambda what, done, total: seen.append((done, total)))
                query = (
                    "SELECT name, path, version, hex(old_blob), old_body, hex(new_blob), new_start, new_body FROM event"
                    " JOIN symbol ON symbol.id = symbol JOIN place ON place.id = place ORDER BY 1, 2, 3"
                )
                tables.append(ledger._db.execute(query).fetchall())
        assert seen[-1][0] == seen[-1][1] > 0
    assert tables[0] == tables[1] == tables[2] and len(tables[0]) == 600
