"""The policy reads .gitignore files and indexes as git does."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from gitvault.core.scan import walk
from gitvault.core.versioning import index
from gitvault.policy.policy import Policy
from gitvault.policy.tracked import GitTop, Tracked, Unreadable

NAMES = ["a", "b", "ab", "a.o", "b.o", "ab.x", "foo", "bar", "[a]", "x y", "!b", "#c", "é", "A", "a-b", "c\\d"]
GLOBS = [
    "*",
    "?",
    "a*",
    "*b",
    "*.o",
    "a?",
    "[ab]",
    "[!a]",
    "[a-c]*",
    "*[.]o",
    "fo[o]",
    "**",
    "a**",
    "*a*b*",
    "\\!b",
    "\\#c",
]
GLOBS += ["[[:lower:]]", "[^[:alpha:]]*", "[", "a\\", "\\[a]", "x\\ y", "é", "?", "[]-]", "x y", "[\\a]", "c\\\\d"]

# An entry that is announced, and not there whole.
CUT = b"DIRC\0\0\0\2\0\0\0\1" + bytes(30)


def git(folder: Path, *words: str) -> bytes:
    command = ["git", "-c", "core.excludesFile=", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def listed(folder: Path, *words: str) -> set[str]:
    return {os.fsdecode(name) for name in git(folder, "ls-files", "-z", *words).split(b"\0") if name}


def saved(root: Path, **options: object) -> set[str]:
    """The files that a walk finds, `.git` left aside."""
    policy = Policy(root, **options)  # type: ignore[arg-type]
    found = {
        os.fsdecode(folder.path + b"/" + name if folder.path else name)
        for folder in walk(root, {}, policy, [], [])
        for name, _ in folder.entries  # type: ignore[union-attr]
    }
    assert not policy.problems
    return {path for path in found if not path.startswith(".git/")}


def pattern(chance: random.Random) -> str:
    parts = [
        chance.choice(NAMES[:8] if chance.random() < 0.5 else GLOBS) for _ in range(chance.choice((1, 1, 1, 2, 3)))
    ]
    if chance.random() < 0.15:
        parts.insert(chance.randrange(len(parts) + 1), "**")
    text = "/".join(parts)
    return (
        ("!" if chance.random() < 0.25 else "")
        + ("/" if chance.random() < 0.2 else "")
        + text
        + ("/" if chance.random() < 0.2 else "")
        + (" " * chance.choice((0, 0, 0, 2)))
    )


@pytest.mark.needs("git")
@pytest.mark.parametrize("seed", range(12))
def test_what_git_ignores_is_left_out_and_nothing_else(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    git(tmp_path, "init", "-q")
    for _ in range(40):
        path = tmp_path.joinpath(*(chance.choice(NAMES) for _ in range(chance.randint(1, 4))))
        if not any(parent.is_file() for parent in (path, *path.parents)) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir() and ".git" not in path.parts)]
    for folder in [tmp_path, *chance.sample(folders, min(3, len(folders)))]:
        text = "\n".join(pattern(chance) for _ in range(chance.randint(1, 6)))
        (folder / ".gitignore").write_text(text + "\r\n" * chance.randint(0, 1), "utf-8")
    (tmp_path / ".git" / "info" / "exclude").write_text(pattern(chance), "utf-8")
    some = [path for path in sorted(listed(tmp_path, "--others")) if chance.random() < 0.15]
    if some:
        git(tmp_path, "--literal-pathspecs", "add", "-f", "--", *some)
    expected = listed(tmp_path, "--others", "--exclude-standard") | listed(tmp_path)
    assert saved(tmp_path) == expected


def tracked(top: Path) -> set[str]:
    held = GitTop(str(top)).tracked()
    paths = {
        os.fsdecode(path) for folder, names in held._names.items() for name in names for path in [folder + b"/" + name]
    }
    return {path.lstrip("/") for path in paths if (top / path.lstrip("/")).is_file()}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    for name in ("a", "src/main.c", "src/deep/er/x", "lib/y", "lib/" + "long" * 60, "é"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    git(top.parent, "init", "-q", "top")
    git(top, "add", ".")
    git(top, "commit", "-qm", "all")
    return top


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    "words",
    [
        ["update-index", "--index-version", "2"],
        ["update-index", "--index-version", "4"],
        ["update-index", "--skip-worktree", "a"],
        ["update-index", "--split-index"],
        ["-c", "index.skipHash=true", "update-index", "--force-write-index"],
    ],
    ids=["2", "4", "3", "split", "no hash"],
)
def test_every_kind_of_index_is_read(checkout: Path, words: list[str]) -> None:
    git(checkout, *words)
    (checkout / "new").touch()
    git(checkout, "add", "new")
    assert tracked(checkout) == listed(checkout)
    assert bool(index.shared_index((checkout / ".git" / "index").read_bytes())) == ("--split-index" in words)


@pytest.mark.needs("git")
def test_an_index_of_sha256_is_read(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256")
    (tmp_path / "a").touch()
    git(tmp_path, "add", "a")
    assert tracked(tmp_path) == {"a"}


@pytest.mark.needs("git")
def test_in_a_sparse_index_what_it_does_not_list_is_saved(checkout: Path) -> None:
    git(checkout, "sparse-checkout", "set", "--cone", "--sparse-index", "src")
    (checkout / "lib").mkdir(exist_ok=True)
    (checkout / "lib/y").touch()
    (checkout / ".gitignore").write_text("lib/\n")
    assert "lib/y" in saved(checkout)


@pytest.mark.needs("git")
def test_worktrees_submodules_and_nested_repositories_have_rules_of_their_own(checkout: Path) -> None:
    (checkout / ".gitignore").write_text("*.x\nclones/\nplain/\n")
    git(checkout, "worktree", "add", "-q", "wt")
    git(checkout, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "./.git", "sub")
    git(checkout, "clone", "-q", ".", "clones/one")
    (checkout / "plain").mkdir()
    for name in ("wt/n.x", "sub/n.x", "clones/one/n.x", "n.x", "clones/n", "plain/n"):
        (checkout / name).touch()
    (checkout / "clones/one/.gitignore").write_text("y\n")
    found = saved(checkout)
    assert {"wt/n.x", "sub/n.x", "clones/one/n.x"} <= found, "the rules of the outer one do not reach inside"
    assert "clones/one/lib/y" in found, "tracked there"
    assert not {"n.x", "clones/n", "plain/n"} & found


@pytest.mark.needs("git")
def test_a_project_inside_a_work_tree_obeys_the_files_above_it(checkout: Path) -> None:
    (checkout / ".gitignore").write_text("*.x\n/src/out\n")
    for name in ("src/n.x", "src/out", "src/deep/out"):
        (checkout / name).touch()
    git(checkout, "add", "-f", "src/n.x")
    assert saved(checkout / "src") == {"main.c", "deep/er/x", "n.x", "deep/out"}
    (checkout / ".gitignore").write_text("src/\n")
    assert "out" in saved(checkout / "src"), "that it is ignored whole says nothing: somebody asked for it"


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"DIRC\0\0\0\7\0\0\0\1",
        b"DIRC\0\0\0\2\0\0\0\1" + bytes(80),
        b"DIRC\0\0\0\2\0\0\0\1" + b"x" * 80,
        CUT + hashlib.sha1(CUT).digest(),
        b"nothing" * 9,
    ],
    ids=["empty", "version 7", "no name", "checksum", "cut", "magic"],
)
def test_where_the_index_cannot_be_read_nothing_is_left_out(checkout: Path, damage: bytes) -> None:
    (checkout / ".gitignore").write_text("*.x\n")
    (checkout / "n.x").touch()
    (checkout / ".git/index").write_bytes(damage)
    policy = Policy(checkout)
    scope = policy.scope(b"", policy.marks(os.listdir(checkout)), None)
    assert scope.omits(b"n.x", False) == ""
    [problem] = policy.problems
    assert "index" in problem.reason
    with pytest.raises(Unreadable):
        GitTop(str(checkout)).tracked()


def test_an_index_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".git/index").mkdir(parents=True)
    (tmp_path / ".git/HEAD").touch()
    with pytest.raises(Unreadable, match="index"):
        GitTop(str(tmp_path)).tracked()


@pytest.mark.needs("git")
def test_a_dot_git_that_leads_nowhere_makes_no_work_tree(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.x\n")
    (tmp_path / "n.x").touch()
    for text in (b"gitdir: /nowhere\n", b"no such thing", b"gitdir: " + b"x" * 9000):
        (tmp_path / ".git").write_bytes(text)
        assert "n.x" in saved(tmp_path), "without git nobody honours a .gitignore"


def test_the_digest_of_a_folder_follows_its_own_names_only() -> None:
    before = Tracked(lambda: [b"a/x", b"b/y"], "")
    after = Tracked(lambda: [b"a/x", b"b/y", b"b/z", b"c/d/e"], "")
    assert before.digest(b"a") == after.digest(b"a") != b""
    assert before.digest(b"b") != after.digest(b"b")
    assert before.digest(b"") != after.digest(b""), "a folder with something tracked in it counts"
    assert before.whole_digest == Tracked(lambda: [b"a/x", b"b/y"], "elsewhere").whole_digest != after.whole_digest
    assert after.has(b"c", b"d")
    assert after.digest(b"no/such") == b""


@pytest.mark.needs("hg")
def test_what_mercurial_tracks_is_saved(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    for name in ("Cargo.toml", "target/kept", "target/made", "target/gone"):
        (tmp_path / name).touch()
    for words in (["init"], ["add", "Cargo.toml", "target/kept", "target/gone"], ["forget", "target/gone"]):
        subprocess.run(["hg", *words], cwd=tmp_path, check=True, capture_output=True)
    found = {path for path in saved(tmp_path) if not path.startswith(".hg/")}
    assert found == {"Cargo.toml", "target/kept"}
    for damage in (b"dirstate-v2\n", bytes(40) + b"z" + bytes(20)):
        (tmp_path / ".hg/dirstate").write_bytes(damage)
        policy = Policy(tmp_path)
        assert not policy.scope(b"", policy.marks(os.listdir(tmp_path)), None).omits(b"target", True)
        assert policy.problems
    (tmp_path / ".hg/dirstate").unlink()
    assert "target/kept" not in saved(tmp_path), "nothing is tracked"
    (tmp_path / ".hg/dirstate").mkdir()
    policy = Policy(tmp_path)
    policy.scope(b"", policy.marks(os.listdir(tmp_path)), None)
    assert policy.problems


@pytest.mark.needs("svn")
def test_what_subversion_tracks_is_saved(tmp_path: Path) -> None:
    def svn(*words: str) -> None:
        subprocess.run(["svn", *words], cwd=tmp_path, check=True, capture_output=True)

    subprocess.run(["svnadmin", "create", str(tmp_path / "repo")], check=True)
    svn("checkout", (tmp_path / "repo").as_uri(), "wc")
    top = tmp_path / "wc"
    (top / "target").mkdir()
    for name in ("Cargo.toml", "target/kept", "target/made"):
        (top / name).touch()
    svn("add", "--depth=empty", "wc/target")
    svn("add", "wc/Cargo.toml", "wc/target/kept")
    assert {path for path in saved(top) if not path.startswith(".svn/")} == {"Cargo.toml", "target/kept"}
    (top / ".svn/wc.db").write_bytes(b"no database")
    policy = Policy(top)
    assert not policy.scope(b"", policy.marks(os.listdir(top)), None).omits(b"target", True)
    assert policy.problems
