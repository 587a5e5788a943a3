"""The index of lines over real repositories: git's own pickaxe says the same, and lines have their lives."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitvault.core.utils.files import Disk
from gitvault.errors import CorruptionError, GitVaultError, LockedError, NotFoundError
from gitvault.personas.code.search import history, query
from gitvault.personas.code.search.catalog import FORMAT, alone
from gitvault.personas.code.search.history import is_repository, sources
from gitvault.personas.code.search.index import Index
from gitvault.personas.code.search.model import Hit, Query, Source
from gitvault.vault import Vault

WORDS = [b"alpha", b"beta", b"gamma(x)", b"  return beta", b"", b"}", b"Alpha beta", b"aa aaa", b"caf\xc3\xa9", b"raw \xff\xfe x"]


class Repository:
    """A checkout with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._time = 1_700_000_000
        folder.mkdir()
        self.git("init", "-q", ".")

    def git(self, *words: str, ok: tuple[int, ...] = (0,)) -> str:
        self._time += 60
        when = f"{self._time} +0000"
        variables = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "LC_ALL": "C"}
        import os

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
    (hit,) = index.find(Query(text, **how))
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


@pytest.mark.parametrize("seed", range(3))
def test_the_answers_are_those_of_git_log(
    seed: int, repository: Repository, index: Index, bring: Callable[[], object]
) -> None:
    random_history(repository, seed, 25)
    bring()
    random_history(repository, seed + 100, 5)
    bring()
    unmerged = repository.git("for-each-ref", "--no-merged=HEAD", "--format=%(refname)", "refs/heads").split()
    tips = ("HEAD", *unmerged)
    for text in ("beta", "a", "aa", "alpha\nbeta", "}\n", "(x)", "beta long", "caf\u00e9", "nowhere", "\n"):
        assert ids(index, text, fixed=True) == repository.pickaxe(f"-S{text}", tips=tips), text
        folded = repository.pickaxe(f"-S{text}", "-i", tips=tips)
        assert text == "caf\u00e9" or ids(index, text, fixed=True, ignore_case=True) == folded, text
    for expression in ("beta", "^ *return", r"\<beta\>", "a{2}", r"\(x\)$", "[^a]lpha", "beta|gamma", r"beta\s", "^$", "r.w"):
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
