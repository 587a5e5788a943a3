"""The policy leaves out what Mercurial, Subversion and git's user ignore, as these do; but for the keep list."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitvault.core.scan import walk
from gitvault.policy import ignores
from gitvault.policy.explain import explain
from gitvault.policy.patterns import IGNORED
from gitvault.policy.policy import Policy
from gitvault.vcs import hg


def tool(folder: Path, *command: str) -> str:
    environment = {**os.environ, "HGUSER": "me", "HGPLAIN": "1", "HGRCPATH": ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def saved(root: Path) -> set[str]:
    """The files that a walk finds, but for a checkout's own folder."""
    policy = Policy(root)
    found = {
        os.fsdecode(folder.path + b"/" + name if folder.path else name)
        for folder in walk(root, {}, policy, [], [])
        for name, _ in folder.entries  # type: ignore[union-attr]
    }
    assert not policy.problems
    return {path for path in found if not path.startswith((".hg/", ".svn/", ".git/"))}


def everything(root: Path) -> set[str]:
    found = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    return {path for path in found if not path.startswith((".hg/", ".svn/", ".git/"))}


NAMES = ["a", "b", "ab", "x.o", "x.c", "[a]", "x y", "#c", "é", "A", "a-b", "a+b", "sub"]
GLOBS = ["*", "*.o", "a*", "?", "[ab]", "[!a]*", "{a,b}", "x.{c,o}", "**.o", "**/x.c", "a/**", "sub/*", "\\[a]", "é"]
GLOBS += ["a/b", "sub/sub", "*/a", "ab", "x y", "\\#c", "a+b"]
EXPRESSIONS = [
    "\\.o$",
    "^a/",
    "^sub",
    "b",
    "^a$",
    "(^|/)x\\.c$",
    "a/.*/b",
    "^[ab]/",
    "^sub/sub/",
    "x\\.[co]",
    "^a/[^/]+$",
]


@pytest.fixture(scope="module")
def hg_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a tree of untracked files and one that is tracked."""
    work = tmp_path_factory.mktemp("hg") / "work"
    tool(work.parent, "hg", "init", "work")
    folders = ("", "a/", "sub/", "sub/sub/", "b/a/", "ab/x.o/")
    for one in folders:
        (work / one).mkdir(parents=True, exist_ok=True)
    for one in folders:
        for name in NAMES:
            if not (work / one / name).exists():
                (work / one / name).write_text("x")
    tool(work, "hg", "add", "-q", "sub/x.o", "a/b")
    return work


@pytest.fixture
def server() -> Iterator[hg.Server]:
    one = hg.Server()
    yield one
    one.close()


@pytest.mark.needs("hg")
def test_what_hg_ignores_is_left_out(hg_work: Path, server: hg.Server) -> None:
    for seed in range(30):
        chance = random.Random(seed)
        lines = []
        for _ in range(chance.randrange(1, 5)):
            kind = chance.choice(
                ("syntax: glob", "syntax: regexp", "syntax: rootglob", "", "glob:", "re:", "rootglob:")
            )
            if kind.startswith("syntax"):
                lines.append(kind)
                kind = ""
            current = next((line for line in reversed(lines) if line.startswith("syntax")), "syntax: regexp")
            is_glob = "glob" in (kind or current)
            lines.append(kind + chance.choice(GLOBS if is_glob else EXPRESSIONS))
            if chance.random() < 0.2:
                lines.append("# a comment")
        (hg_work / ".hgignore").write_text("\n".join(lines) + "\n")
        ignored = set(os.fsdecode(server.ask(hg_work, "status", "-in0")).split("\0"))
        assert saved(hg_work) == everything(hg_work) - ignored, f"{seed}: {lines}"


@pytest.mark.needs("hg")
def test_hg_ignore_files_include_others_and_say_where_a_rule_stands(hg_work: Path, server: hg.Server) -> None:
    (hg_work / ".hgignore").write_text("syntax: glob\n*.o  # objects\n*.env\nsubinclude:sub/.hgignore\ninclude:more\n")
    (hg_work / "sub" / ".hgignore").write_text("syntax: glob\nab\n^never[\n")
    (hg_work / "more").write_text("^b/\n")
    try:
        ignored = set(os.fsdecode(server.ask(hg_work, "status", "-in0")).split("\0"))
    finally:
        kept = saved(hg_work)
        decision = explain(Policy(hg_work), b"sub/sub/ab", False)
        by_keep = explain(Policy(hg_work), b".env", False)
        tracked = explain(Policy(hg_work), b"sub/x.o", False)
        for name in (".hgignore", "more", "sub/.hgignore"):
            (hg_work / name).unlink()
    assert {"sub/ab", "a/x.o", "b/a/a"} <= ignored and not kept & ignored
    assert (decision.rule, decision.keep, decision.line) == ("ab", False, 2)
    assert decision.source == str(hg_work / "sub" / ".hgignore") and decision.category == "generated"
    assert by_keep.keep and by_keep.source.endswith("keep.toml") and tracked.keep


def test_expressions_that_are_none_or_slow_leave_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"(open\n(?P<x>b)(?P=x)\n(a+)+$\n^ok$\n"

    def matched() -> list[str]:
        one = ignores.HgIgnore(str(tmp_path), lambda _: lines)
        found = (one.rule(name, False) for name in (b"open", b"bb", b"ok", b"a" * 60 + b"b"))
        return [rule.text if rule else "" for rule in found]

    with_re2 = matched()
    assert with_re2 == ["", "", "^ok$", ""]
    monkeypatch.setitem(sys.modules, "re2", None)
    assert matched() == ["", "(?P<x>b)(?P=x)", "^ok$", ""]
    endless = ignores.HgIgnore(str(tmp_path), lambda _: b"include:.hgignore\n^last$\n")
    assert endless.rule(b"last", False), "hg itself ends with files that include each other"
    folder = ignores.HgIgnore(str(tmp_path), lambda _: b"^build/\n^out/$\n")
    assert folder.rule(b"build", True) and not folder.rule(b"build", False) and not folder.rule(b"out", True)
    assert ignores.HgIgnore(str(tmp_path), lambda _: b"a").digest != folder.digest


@pytest.mark.needs("svn")
def test_what_svn_ignores_is_left_out(tmp_path: Path) -> None:
    tool(tmp_path, "svnadmin", "create", "theirs")
    tool(tmp_path, "svn", "checkout", "-q", f"file://{tmp_path}/theirs", "work")
    work = tmp_path / "work"
    for one in ("", "trunk/", "trunk/lib/", "trunk/lib/deep/"):
        (work / one).mkdir(exist_ok=True)
        for name in ("x.log", "x.tmp", ".env", "keep.txt", "out", "q"):
            (work / one / name).write_text("x")
    tool(work, "svn", "add", "-q", "--depth", "empty", "trunk", "trunk/lib", "trunk/lib/deep")
    tool(work, "svn", "add", "-q", "trunk/lib/x.log", "--no-ignore")
    tool(work, "svn", "propset", "-q", "svn:ignore", "*.log\nout\n.env", "trunk/lib")
    tool(work, "svn", "propset", "-q", "svn:global-ignores", "*.tmp\nq", "trunk")
    ignored = {line[8:] for line in tool(work, "svn", "status", "--no-ignore").splitlines() if line[:1] == "I"}
    assert saved(work) == everything(work) - ignored | {"trunk/lib/.env"}
    assert "trunk/lib/deep/q" in ignored and "trunk/lib/deep/out" not in ignored and "x.tmp" not in ignored
    tool(work, "svn", "commit", "-q", "-m", "one")
    assert saved(work) == everything(work) - ignored | {"trunk/lib/.env"}, "said by the checkout now"
    tool(work, "svn", "propset", "-q", "svn:ignore", "keep.txt", "trunk/lib")
    assert "trunk/lib/out" in saved(work) and "trunk/lib/keep.txt" not in saved(work), "not committed yet"
    decision = explain(Policy(work), b"trunk/lib/deep/x.tmp", False)
    assert (decision.rule, decision.source) == ("svn:global-ignores *.tmp", f"{work}/.svn/wc.db")


def test_lists_of_properties_that_are_cut_off() -> None:
    assert ignores.skel(b"(color 0  svn:ignore 5 *.o\nb 3 abc 2 xy)") == {
        **{b"color": b"", b"svn:ignore": b"*.o\nb", b"abc": b"xy"}
    }
    for wrong in (b"", b"x", b"(svn:ignore 99 *.o", b"(((", b"(9999999999 x"):
        assert ignores.skel(wrong) == {}
    assert ignores.svn_rules("db", {b"": b"(svn:ignore %d %s)" % (1 << 20, b"a" * (1 << 20))}) == {}
    (rule,) = ignores.svn_rules("db", {b"x": b"(svn:ignore 4 out/)"})[b"x"]
    assert (rule.segments, rule.level, rule.keep) == ((b"out",), IGNORED, False)


@pytest.mark.needs("git")
def test_what_a_user_has_git_ignore_everywhere_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    work = tmp_path / "work"
    tool(tmp_path, "git", "init", "-q", "work")
    for name in ("x.swp", "y.orig", "z.orig", "keep"):
        (work / name).write_text("x")
    (work / ".gitignore").write_text("!z.orig\n")
    (home / ".config" / "git" / "ignore").write_text("*.swp\n")
    try:
        ignores.excludes_file.cache_clear()
        assert saved(work) == {"y.orig", "z.orig", "keep", ".gitignore"}
        (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/mine\n")
        (home / "mine").write_text("*.orig\n")
        ignores.excludes_file.cache_clear()
        assert saved(work) == {"x.swp", "z.orig", "keep", ".gitignore"}
        monkeypatch.setenv("PATH", str(tmp_path))
        ignores.excludes_file.cache_clear()
        assert ignores.excludes_file() == ""
    finally:
        ignores.excludes_file.cache_clear()
