"""The index of lines over real repositories: git's own pickaxe says the same, and lines have their lives."""

from __future__ import annotations

import contextlib
import io
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gitvault.core.backup_engine.maintain import start_if_due
from gitvault.core.utils import layout, process
from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, GitVaultError, LockedError, NotFoundError, ToolFailed
from gitvault.personas.code.search import history, query
from gitvault.personas.code.search import index as index_module
from gitvault.personas.code.search.catalog import FORMAT, alone
from gitvault.personas.code.search.history import NONE, Changed, is_repository, sources, stamp
from gitvault.personas.code.search.index import Index
from gitvault.personas.code.search.model import Hit, Query, Source
from gitvault.personas.code.search.overlay import Overlays
from gitvault.personas.code.search.query import Found, Read
from gitvault.vault import Vault

WORDS = [
    b"alpha",
    b"beta",
    b"gamma(x)",
    b"  return beta",
    b"",
    b"}",
    b"Alpha beta",
    b"aa aaa",
    b"caf\xc3\xa9",
    b"raw \xff\xfe x",
]


class Repository:
    """A checkout with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = 1_700_000_000
        folder.mkdir()
        self.git("init", "-q", ".")

    def git(self, *words: str, ok: tuple[int, ...] = (0,)) -> str:
        self.time += 60
        when = f"{self.time} +0000"
        variables = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "LC_ALL": "C"}
        done = subprocess.run(
            ["git", *words], cwd=self.folder, capture_output=True, text=True, env={**os.environ, **variables}
        )
        assert done.returncode in ok, done.stderr
        return done.stdout.strip()

    def commit(self, files: dict[str, bytes | None], message: str = "change") -> str:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def pickaxe(self, *words: str, tips: tuple[str, ...] = ("HEAD",)) -> list[str]:
        return self.git("log", "--first-parent", "--no-renames", "--format=%H", *words, *tips).split()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "acme")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "index", Disk()) as opened:
        yield opened


@pytest.fixture
def bring(index: Index, repository: Repository) -> Callable[[], object]:
    return lambda: index.update([Source("acme", repository.folder)])


def ids(index: Index, text: str, **how: bool) -> list[str]:
    return [version.id for version in index.pickaxe(Query(text, **how))]


def only(index: Index, text: str, **how: bool) -> Hit:
    found: Found = index.find(Query(text, **how))
    assert len(found) == 1, list(found)
    (hit,) = found
    return hit


def random_history(repository: Repository, seed: int, commits: int) -> None:
    """Edits, moves, removals, binary contents, missing newlines, CRLF, merges, empty commits."""
    chance = random.Random(seed)
    names = ["a.py", "b.txt", "sub/c.c", "data.bin", "sp ace\t\u00e9"]

    def content(name: str, old: bytes) -> bytes:
        lines = old.split(b"\n")
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(lines) + 1)
            lines[at : at + chance.randrange(3)] = chance.choices(WORDS, k=chance.randrange(3))
        if chance.random() < 0.1:
            chance.shuffle(lines)
        ending = chance.choice([b"\n", b"\n", b"\r\n"])
        text = ending.join(lines) + b"\n" * chance.randrange(2)
        return text + b"\0beta long enough\1alpha\0" * chance.randrange(3) if name.endswith("bin") else text

    def some() -> dict[str, bytes | None]:
        found: dict[str, bytes | None] = {}
        for name in chance.sample(names, chance.randrange(3)):
            path = repository.folder / name
            old = path.read_bytes() if path.exists() else b""
            found[name] = None if old and chance.random() < 0.1 else content(name, old)
        return found

    repository.commit(some())
    for number in range(commits):
        repository.commit(some())
        if chance.random() < 0.15:
            repository.git("checkout", "-q", "-b", f"topic{number}", f"HEAD~{min(1, number)}")
            repository.commit(some())
            repository.git("checkout", "-q", "main")
            if chance.random() < 0.7:
                repository.git("merge", "-q", "--no-ff", "-s", "recursive", "-X", "ours", f"topic{number}", ok=(0, 1))
                repository.git("add", "-A")
                repository.git("commit", "-q", "--allow-empty", "-m", "merge")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_answers_are_those_of_git_log(
    seed: int, repository: Repository, index: Index, bring: Callable[[], object]
) -> None:
    random_history(repository, seed, 16)
    bring()
    random_history(repository, seed + 100, 4)
    bring()
    unmerged = repository.git("for-each-ref", "--no-merged=HEAD", "--format=%(refname)", "refs/heads").split()
    tips = ("HEAD", *unmerged)
    for text in ("beta", "a", "aa", "alpha\nbeta", "}\n", "(x)", "beta long", "caf\u00e9", "nowhere", "\n"):
        assert ids(index, text, fixed=True) == repository.pickaxe(f"-S{text}", tips=tips), text
        folded = repository.pickaxe(f"-S{text}", "-i", tips=tips)
        assert text == "caf\u00e9" or ids(index, text, fixed=True, ignore_case=True) == folded, text
    for expression in (
        "beta",
        "^ *return",
        r"\<beta\>",
        "a{2}",
        r"\(x\)$",
        "[^a]lpha",
        "beta|gamma",
        r"beta\s",
        "^$",
        "r.w",
    ):
        ours, theirs = ids(index, expression), repository.pickaxe(f"-G{expression}", tips=tips)
        # git's differences name lines that only moved, too.
        moved = {oid for oid in theirs if oid not in ours}
        assert [oid for oid in theirs if oid not in moved] == ours, expression
        for oid in moved:
            assert not _changes_lines(repository, oid, expression), expression


def _changes_lines(repository: Repository, commit: str, expression: str) -> bool:
    """Whether, of any text file, more or fewer lines that fit are in a commit than in its parent."""
    shown = subprocess.run(
        ["git", "show", "--first-parent", "--no-renames", "-U0", "--format=", commit],
        cwd=repository.folder,
        capture_output=True,
        check=True,
    ).stdout
    for part in shown.split(b"diff --git ")[1:]:
        body = [line for line in part.split(b"\n")[1:] if line[:1] in (b"+", b"-") and line[:3] not in (b"+++", b"---")]
        plus = sorted(line[1:] for line in body if line[:1] == b"+")
        minus = sorted(line[1:] for line in body if line[:1] == b"-")
        for line in {*plus, *minus}:
            if plus.count(line) != minus.count(line):
                found = subprocess.run(["grep", "-aqE", expression], input=line + b"\n", check=False)
                if found.returncode == 0:
                    return True
    return False


def test_a_line_has_its_life(repository: Repository, index: Index, bring: Callable[[], object]) -> None:
    came = repository.commit({"a.py": b"def parse(x):\n    pass\n"}, "first")
    changed = repository.commit({"a.py": b"def parse(x, y):\n    pass\n"}, "second")
    repository.commit({"b.py": b"other\n"})
    bring()
    hit = only(index, r"def \w+\(")
    assert (hit.project, hit.path, hit.text) == ("acme", b"a.py", b"def parse(x, y):")
    assert (hit.introduced.id, [version.id for version in hit.modified], hit.removed) == (came, [changed], None)
    assert (hit.introduced.author, hit.introduced.subject, hit.introduced.snapshot) == ("A Tester", "first", False)
    assert hit.alive
    assert hit.projects == ("acme",)
    gone = repository.commit({"a.py": b"    pass\n"})
    bring()
    hit = only(index, "parse")
    assert hit.removed
    assert (hit.removed.id, hit.alive) == (gone, False)
    read: Read
    with index.reader() as read:
        assert read(hit.last.number, hit.blob) == b"def parse(x, y):\n    pass\n"
    again = repository.commit({"a.py": b"def parse(x, y):\n"})
    bring()
    assert [(hit.introduced.id, hit.alive) for hit in index.find(Query("parse"))] == [(again, True), (came, False)]


def test_a_text_that_is_there_twice_is_gone_with_the_second(
    repository: Repository, index: Index, bring: Callable[[], object]
) -> None:
    repository.commit({"a": b"same\nx\nsame\n"})
    repository.commit({"a": b"x\nsame\n"})
    bring()
    assert only(index, "same").alive
    gone = repository.commit({"a": b"x\n"})
    bring()
    removed = only(index, "same").removed
    assert removed
    assert removed.id == gone


def test_hits_are_told_of_all_projects_that_have_the_text(tmp_path: Path, index: Index) -> None:
    one, two = Repository(tmp_path / "one"), Repository(tmp_path / "two")
    one.commit({"a.py": b"shared_thing()\n", "lib/b.js": b"shared_thing();\n"})
    two.commit({"c.py": b"shared_thing()\n"})
    index.update([Source("one", one.folder), Source("two", two.folder)])
    found = {(hit.project, hit.path): hit.projects for hit in index.find(Query("shared_thing"))}
    assert found == {
        ("one", b"a.py"): ("one", "two"),
        ("one", b"lib/b.js"): ("one",),
        ("two", b"c.py"): ("one", "two"),
    }
    assert [hit.path for hit in index.find(Query("shared_thing", projects=("two",)))] == [b"c.py"]
    assert [hit.path for hit in index.find(Query("shared_thing", paths=("lib/",)))] == [b"lib/b.js"]
    assert {hit.path for hit in index.find(Query("shared_thing", paths=("*.py",)))} == {b"a.py", b"c.py"}
    assert [v.project for v in index.pickaxe(Query("shared_thing", fixed=True, projects=("one",)))] == ["one"]
    index.update([Source("two", two.folder)])
    assert [hit.projects for hit in index.find(Query("shared_thing"))] == [("two",)]


def test_filters_by_time_and_state(repository: Repository, index: Index, bring: Callable[[], object]) -> None:
    repository.commit({"a": b"thing one\n"})
    repository.commit({"a": b"thing one\n", "b": b"thing two\n"})
    repository.commit({"a": b"\n"})
    bring()
    hits = {hit.path: hit for hit in index.find(Query("thing"))}
    removed = hits[b"a"].removed
    assert removed
    second = hits[b"b"].introduced.time

    def paths(**how: object) -> set[bytes]:
        return {hit.path for hit in index.find(Query("thing", **how))}  # type: ignore[arg-type]

    assert paths(alive=True) == {b"b"}
    assert paths(removed=True) == {b"a"}
    assert paths(since=second) == {b"a", b"b"}
    assert paths(since=second, introduced=True) == {b"b"}
    assert paths(since=removed.time, removed=True) == {b"a"}
    assert paths(until=hits[b"a"].introduced.time) == {b"a"}
    assert paths(since=removed.time, introduced=True) == set()


def test_words_case_and_texts_with_signs(repository: Repository, index: Index, bring: Callable[[], object]) -> None:
    repository.commit({"a": "Parse\nparser\nf(x)\nÉCLAIR\n".encode() + b"bad \xff parse\n"})
    bring()

    def texts(text: str, **how: bool) -> set[bytes]:
        return {hit.text for hit in index.find(Query(text, **how))}

    assert texts("parse") == {b"parser", b"bad \xff parse"}
    assert texts("parse", ignore_case=True) == {b"Parse", b"parser", b"bad \xff parse"}
    assert texts("parse", word=True) == {b"bad \xff parse"}
    assert texts("f(x)", fixed=True) == {b"f(x)"}
    assert texts("f(x)", fixed=True, word=True) == set()
    assert texts("f(", fixed=True, ignore_case=True) == {b"f(x)"}
    assert texts("\u00e9clair", ignore_case=True) == {"ÉCLAIR".encode()}
    # Bytes that are no UTF-8 are one each.
    assert texts("d . p") == {b"bad \xff parse"}


def test_a_history_that_was_rewritten_is_forgotten(
    repository: Repository, index: Index, bring: Callable[[], object]
) -> None:
    repository.commit({"a": b"keep\n"})
    repository.commit({"a": b"keep\nmistake\n"})
    bring()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    bring()
    assert ids(index, "mistake") == []
    assert list(index.find(Query("mistake"))) == []
    assert only(index, "keep").alive
    repository.git("reset", "-q", "--hard", "ORIG_HEAD")
    bring()
    assert only(index, "mistake").alive


def test_a_branch_counts_until_it_is_merged(repository: Repository, index: Index, bring: Callable[[], object]) -> None:
    repository.commit({"a": b"main\n"})
    repository.git("checkout", "-q", "-b", "topic")
    made = repository.commit({"b": b"on a branch\n"})
    repository.git("checkout", "-q", "main")
    bring()
    assert ids(index, "on a branch") == [made]
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    bring()
    assert ids(index, "on a branch") == [repository.git("rev-parse", "HEAD")]
    assert only(index, "on a branch").alive


def test_many_small_updates_become_few_segments(
    repository: Repository, index: Index, bring: Callable[[], object]
) -> None:
    made = []
    for number in range(8):
        made.append(repository.commit({"a": b"line %d\nalways\n" % number}))
        bring()
    assert len(index.segments()) < 6
    assert len(list(index.folder.glob("*.lines"))) == len(index.segments())
    assert ids(index, r"^line \d$") == made[::-1]
    hit = only(index, "line")
    assert (hit.introduced.id, len(hit.modified), hit.alive) == (made[0], 7, True)


def test_only_what_changed_is_read_again(
    repository: Repository, index: Index, bring: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"a": b"one\n"})
    source = Source("acme", repository.folder)
    assert index.stale([source]) == [source]
    bring()
    assert index.stale([source]) == []
    progress = index.progress()
    assert (progress.versions, progress.waiting, progress.problems) == (1, 0, ())
    monkeypatch.setattr(history, "lines_of", None)
    bring()


def test_a_large_file_is_not_read_and_said(
    repository: Repository, index: Index, bring: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "LARGEST", 10)
    repository.commit({"a": b"too large for it\n", "b": b"small\n"})
    done = index.update([Source("acme", repository.folder)])
    assert ids(index, "large") == []
    assert only(index, "small")
    assert done.problems == ("acme: a: larger than 0 MiB or missing in 1 version; not searched",)


def test_a_submodule_is_its_line(repository: Repository, index: Index, bring: Callable[[], object]) -> None:
    oid = repository.commit({"a": b"x\n"})
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{oid},sub")
    repository.git("commit", "-q", "-m", "link")
    bring()
    assert ids(index, f"Subproject commit {oid}", fixed=True) == repository.pickaxe(f"-SSubproject commit {oid}")


def test_a_shallow_clone_is_read_anew_when_the_rest_comes(repository: Repository, tmp_path: Path, index: Index) -> None:
    first = repository.commit({"a": b"old line\n"})
    repository.commit({"b": b"x\n"})
    last = repository.commit({"c": b"x\n"})
    subprocess.run(["git", "clone", "-q", "--depth=1", repository.folder.as_uri(), "s"], cwd=tmp_path, check=True)
    source = Source("acme", tmp_path / "s")
    index.update([source])
    assert ids(index, "old line") == [last]
    subprocess.run(["git", "fetch", "-q", "--unshallow"], cwd=source.folder, check=True)
    index.update([source])
    assert ids(index, "old line") == [first]


def test_nothing_of_the_repository_runs_and_nothing_is_written(
    repository: Repository, index: Index, bring: Callable[[], object], tmp_path: Path
) -> None:
    repository.commit({"a.txt": b"text\n", ".gitattributes": b"*.txt diff=evil filter=evil\n"})
    trap = tmp_path / "trap"
    evil = f"touch {trap}; cat"
    for key in (
        "diff.evil.textconv",
        "diff.external",
        "core.fsmonitor",
        "core.pager",
        "filter.evil.smudge",
        "gpg.program",
    ):
        repository.git("config", key, evil)
    repository.git("config", "log.showSignature", "true")
    repository.git("config", "diff.renames", "copies")
    before = {path: path.stat().st_mtime_ns for path in repository.folder.rglob("*")}
    bring()
    assert only(index, "text").alive
    assert not trap.exists()
    assert {path: path.stat().st_mtime_ns for path in repository.folder.rglob("*")} == before


def test_a_repository_that_cannot_be_read_is_a_problem_of_its_own(
    repository: Repository, tmp_path: Path, index: Index
) -> None:
    repository.commit({"a": b"fine\n"})
    (tmp_path / "broken" / ".git").mkdir(parents=True)
    fine, broken = Source("acme", repository.folder), Source("broken", tmp_path / "broken")
    done = index.update([broken, fine, Source("lost", tmp_path / "lost")])
    assert len(done.problems) == 2
    assert done.problems[0].startswith("broken: ")
    assert done.problems[1].startswith("lost: ")
    assert only(index, "fine").alive


def test_an_empty_repository_has_nothing(repository: Repository, index: Index, bring: Callable[[], object]) -> None:
    bring()
    assert index.progress().versions == 0
    assert list(index.find(Query("x"))) == []
    assert index.pickaxe(Query("x", fixed=True)) == []
    assert list(index.changes()) == []


def test_snapshots_are_versions(vault: Vault, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / ".git").parent.mkdir()
    (folder / "note.txt").write_text("remember this\n")
    (folder / "%25").write_text("remember that\n")
    first = vault.create_snapshot(folder, message="Monday").snapshot
    (folder / "note.txt").write_text("forget this\n")
    second = vault.create_snapshot(folder).snapshot
    with Index.open(tmp_path / "index", Disk()) as index:
        index.update(sources(vault))
        hit = only(index, "remember this")
        assert hit.removed
        assert (hit.introduced.id, hit.introduced.subject, hit.introduced.snapshot) == (first, "Monday", True)
        assert (hit.project, hit.path, hit.removed.id) == ("plain", b"note.txt", second)
        assert only(index, "remember that").path == b"%25"
        assert ids(index, "this", fixed=True) == [first]


def test_snapshots_and_commits_are_one_history(vault: Vault, repository: Repository, tmp_path: Path) -> None:
    """Of a checkout a snapshot is what differs from its commit."""
    vault = Vault.open(vault.path, now=lambda: datetime.fromtimestamp(repository.time, UTC))
    remote = tmp_path / "remote.git"
    commit = repository.commit({"a.py": b"def old():\n", "b.py": b"def other():\n"})
    subprocess.run(["git", "clone", "-q", "--bare", repository.folder, remote], check=True)
    repository.git("remote", "add", "origin", remote.as_uri())
    repository.git("push", "-q", "origin", "main")
    repository.git("fetch", "-q")
    assert is_repository(repository.folder)

    def save(content: bytes | None = None) -> str:
        if content is not None:
            (repository.folder / "a.py").write_bytes(content)
        repository.time += 60
        return str(vault.create_snapshot(repository.folder, message="saved").snapshot)

    first = save(b"def old():\ndef new():\n")
    with Index.open(tmp_path / "index", Disk()) as index:
        index.update(sources(vault))
        assert only(index, r"old\(").introduced.id == commit
        hit = only(index, r"new\(")
        assert (hit.introduced.id, hit.introduced.subject, hit.alive) == (first, "saved", True)
        assert ids(index, "other", fixed=True) == [commit]
        assert ids(index, "new", fixed=True) == [first]

        committed = repository.commit({})
        second = save(b"def old():\ndef new():\ndef newer():\n")
        index.update(sources(vault))
        hit = only(index, r"new\(")
        assert (hit.introduced.id, hit.modified, hit.alive) == (first, (), True)
        assert only(index, r"newer\(").introduced.id == second
        assert set(ids(index, "new(", fixed=True)) == {first, committed}

        undone = save(b"def old():\ndef new():\n")
        index.update(sources(vault))
        removed = only(index, r"newer\(").removed
        assert removed
        assert removed.id == undone
        assert set(ids(index, "newer", fixed=True)) == {second, undone}
        hit = only(index, r"new\(")
        with index.reader() as read:
            assert b"def new" in (read(hit.last.number, hit.blob) or b"")


def test_what_a_snapshot_of_a_checkout_changed(vault: Vault, repository: Repository) -> None:
    repository.commit({"a.py": b"one\n", "gone.py": b"x\n"})
    (repository.folder / "a.py").write_bytes(b"two\n")
    (repository.folder / "gone.py").unlink()
    (repository.folder / "new.py").write_bytes(b"new\n")
    vault.create_snapshot(repository.folder)
    saved, commits = sources(vault)
    assert saved.checkout == repository.folder == commits.folder
    ((_, (tip,)),) = history.lines_of(saved)
    with contextlib.closing(Overlays(saved, repository.folder)) as overlays:
        found = {change.path: change for change in overlays.changes(tip, None, [])}
        assert found.keys() == {b"a.py", b"gone.py", b"new.py"}
        assert (found[b"gone.py"].new, found[b"new.py"].old, NONE) == (NONE, NONE, bytes(20))
        assert isinstance(found[b"a.py"], Changed)
        with history.Reader(saved, overlays.homes([tip])) as reader:
            reader.ahead(found[b"a.py"].new)
            assert (reader.read(found[b"a.py"].old), reader.read(found[b"a.py"].new)) == (b"one\n", b"two\n")


def test_a_stamp_changes_with_any_branch(repository: Repository) -> None:
    repository.commit({"a": b"x\n"})
    source = Source("acme", repository.folder)
    seen = [stamp(source)]
    repository.git("branch", "topic/one")
    seen.append(stamp(source))
    repository.git("pack-refs", "--all")
    seen.append(stamp(source))
    repository.git("worktree", "add", "-q", "../linked", "topic/one")
    linked = Source("acme", repository.folder.parent / "linked")
    before = stamp(linked)
    repository.git("-C", "../linked", "commit", "-q", "--allow-empty", "-m", "more")
    assert stamp(linked) != before
    assert len(set(seen)) == 3


def test_a_purge_removes_the_index(vault: Vault, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "key.pem").write_text("secret text\n")
    (folder / "a").write_text("x\n")
    vault.create_snapshot(folder)
    where = vault.path / layout.SEARCH
    with Index.open(where, Disk()) as index:
        index.update(sources(vault))
        assert only(index, "secret text")
        vault.forget(["*.pem"], yes=True)
        assert list(where.iterdir()) == []
        # One that was opened before, and goes on.
        (folder / "key.pem").unlink()
        vault.create_snapshot(folder)
        with pytest.raises(LockedError, match="purge"):
            index.update(sources(vault))
        assert list(where.glob("*.lines")) == []
    with Index.open(where, Disk()) as index:
        index.update(sources(vault))
        assert list(index.find(Query("secret text"))) == []
    layout.clear_search(vault.path, Disk())
    assert list(where.iterdir()) == []


def test_an_index_that_is_damaged_or_of_another_version_is_made_anew(
    repository: Repository, tmp_path: Path, index: Index, bring: Callable[[], object]
) -> None:
    repository.commit({"a": b"fine\n"})
    bring()
    index.catalog.db.execute("UPDATE about SET value = ? WHERE key = 'format'", (FORMAT + 1,))
    index.close()
    with Index.open(index.folder, Disk()) as again:
        assert again.progress().versions == 0
        assert list(again.folder.glob("*.lines")) == []
    (index.folder / "catalog.db").write_bytes(b"no database" * 1000)
    with Index.open(index.folder, Disk()) as again:
        again.update([Source("acme", repository.folder)])
        assert only(again, "fine")
        (segment,) = again.folder.glob("*.lines")
    segment.write_bytes(b"nothing")
    with Index.open(index.folder, Disk()) as again:
        with pytest.raises(CorruptionError, match="--index"):
            list(again.find(Query("fine")))
        again.update([Source("acme", repository.folder)])
        assert only(again, "fine")
        (segment,) = again.folder.glob("*.lines")
    segment.unlink()
    with Index.open(index.folder, Disk()) as again:
        with pytest.raises(CorruptionError, match="gone"):
            list(again.find(Query("fine")))
        again.update([Source("acme", repository.folder)])
        assert only(again, "fine")


def test_what_a_killed_run_left_is_cleared_away_and_its_rest_is_read(
    repository: Repository, index: Index, bring: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [repository.commit({"a": b"line %d\n" % number}) for number in range(4)]
    (index.folder / "9-9-dead.lines").write_bytes(b"half")
    real = Index._read

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Index, "_read", killed)
    with pytest.raises(Killed):
        bring()
    assert index.progress().waiting == 4
    monkeypatch.setattr(Index, "_read", real)
    bring()
    assert ids(index, "line") == made[::-1]
    assert len(list(index.folder.glob("*.lines"))) == 1


def test_one_updates_at_a_time(
    index: Index, repository: Repository, bring: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"a": b"x\n"})
    monkeypatch.setattr(index_module, "WAIT", 0.0)
    with alone(index.folder, 0), pytest.raises(LockedError, match="wait"):
        bring()
    bring()


def test_a_snapshot_has_an_index_that_is_there_brought_up_to_date(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(process, "start_detached", started.append)
    start_if_due(vault.path, vault.store)
    assert started == []
    Index.open(vault.path / layout.SEARCH, Disk()).close()
    start_if_due(vault.path, vault.store)
    assert [words[4:] for words in started] == [["search", "--index", "--quiet"]]


def test_changes_are_told_in_order_with_their_blobs(
    repository: Repository, index: Index, bring: Callable[[], object]
) -> None:
    repository.commit({"a": b"x\n"})
    repository.commit({"a": b"y\n", "b": b"z\n"})
    bring()
    told = list(index.changes())
    assert [(index.version(c.version).subject, c.path, bool(c.old)) for c in told] == [
        ("change", b"a", False),
        ("change", b"a", True),
        ("change", b"b", False),
    ]
    with index.reader() as read:
        assert [read(c.version, c.new) for c in told] == [b"x\n", b"y\n", b"z\n"]
        assert read(told[0].version, bytes.fromhex("ab" * 20)) is None
    assert list(index.changes(after=told[0].version)) == told[1:]
    with pytest.raises(NotFoundError, match="--index"):
        index.version(99)


def test_a_pattern_that_takes_too_long_is_cut_off(
    repository: Repository, index: Index, bring: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit({"a": b"a" * 5000 + b"\n"})
    bring()
    # This one costs other engines the age of the universe.
    assert ids(index, "(a+)+b") == []
    monkeypatch.setattr(query, "MOST", 0)
    with pytest.raises(GitVaultError, match="rarer"):
        list(index.find(Query("a")))
    monkeypatch.setattr(query, "LIMIT", -1.0)
    with pytest.raises(GitVaultError, match="stopped after"):
        ids(index, "a")


def test_a_git_that_ends_while_it_is_asked_is_said(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path / "work"], check=True)
    with history.Reader(Source("work", tmp_path / "work")) as reader:
        reader._git.kill()
        reader._git.stdin, reader._git.stdout = io.BytesIO(), io.BytesIO()
        with pytest.raises(ToolFailed, match="cat-file"):
            reader.read(b"\1" * 20)
