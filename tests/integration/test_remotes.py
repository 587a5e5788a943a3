"""What is known of remotes: whether they answer, refuse, and still have what a checkout builds on."""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from repositories import cloned, commit, git

from gitvault.core.utils.files import Disk
from gitvault.vcs import git as vcs_git
from gitvault.vcs import remotes
from gitvault.vcs.find import has_remotes

WEEK = timedelta(days=7)
NOW = datetime.now(UTC)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return cloned(tmp_path)


def trusted(work: Path, now: datetime = NOW, limit: timedelta = WEEK) -> str:
    return remotes.trusted(work, now, limit, work.parent / "cache")


def unreachable(work: Path, url: str = "http://127.0.0.1:9/none.git") -> None:
    git(work, "remote", "set-url", "origin", url)


def test_a_remote_that_has_it_all_is_trusted(work: Path) -> None:
    commit(work, text="two\n")
    assert trusted(work) == ""
    assert trusted(work / ".git") == ""


def test_a_relative_folder_is_seen_from_the_top_of_the_work_tree(work: Path) -> None:
    git(work, "remote", "set-url", "origin", "../work.git")
    assert (trusted(work), trusted(work / ".git")) == ("", "")


def test_without_a_remote_nothing_is(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "lone")
    assert trusted(tmp_path / "lone") == "it has no remote"
    git(tmp_path / "lone", "remote", "add", "up", "http://127.0.0.1:9/none.git")
    assert trusted(tmp_path / "lone") == "nothing was ever fetched from up"


def test_a_remote_folder_that_is_gone_is_said_at_once(work: Path) -> None:
    shutil.rmtree(work.parent / "work.git")
    assert trusted(work) == f"origin is gone: {work.parent / 'work.git'}"


def test_a_force_push_that_removed_the_base_is_noticed_whether_its_commits_are_here_or_not(work: Path) -> None:
    base = commit(work, text="two\n")
    git(work, "push", "-q", "origin", "main")
    git(work.parent / "work.git", "update-ref", "refs/heads/main", "main~1")
    assert trusted(work) == f"commit {base[:12]} is no longer on origin"
    git(work.parent, "clone", "-q", "work.git", "other")
    commit(work.parent / "other", text="three\n")
    git(work.parent / "other", "push", "-q", "origin", "main")
    assert trusted(work) == f"commit {base[:12]} is no longer on origin"


def test_a_remote_that_only_went_on_is_trusted(work: Path) -> None:
    git(work.parent, "clone", "-q", "work.git", "other")
    commit(work.parent / "other", text="three\n")
    git(work.parent / "other", "push", "-q", "origin", "main")
    assert trusted(work) == ""


def test_a_branch_removed_there_matters_only_to_who_builds_on_it(work: Path) -> None:
    git(work, "switch", "-q", "-c", "feature")
    tip = commit(work, "b.txt")
    git(work, "push", "-q", "-u", "origin", "feature")
    git(work.parent / "work.git", "branch", "-q", "-D", "feature")
    assert trusted(work) == f"commit {tip[:12]} is no longer on origin"
    git(work, "switch", "-q", "main")
    git(work, "branch", "-q", "-D", "feature")
    assert trusted(work) == ""


def test_no_answer_counts_from_the_last_one_and_only_when_somebody_asked(work: Path) -> None:
    cache = work.parent / "cache"
    unreachable(work)
    assert trusted(work, NOW + 2 * WEEK) == "", "nobody asked"
    answer = remotes.probe(work, NOW, cache, Disk())["origin"]
    assert answer.trouble and not answer.refused
    assert trusted(work, NOW + timedelta(days=6)) == ""
    late = trusted(work, NOW + timedelta(days=9, hours=1))
    assert late.startswith("origin has not answered since 9 days: unable to access 'http://127.0.0.1:9/none.git/'")


def test_an_answer_ends_the_waiting(work: Path) -> None:
    cache = work.parent / "cache"
    good = git(work, "remote", "get-url", "origin")
    unreachable(work)
    remotes.probe(work, NOW, cache, Disk())
    git(work, "remote", "set-url", "origin", f"file://{good}")
    answer = remotes.probe(work, NOW + 2 * WEEK, cache, Disk())["origin"]
    assert (answer.trouble, answer.refs["refs/heads/main"]) == ("", git(work, "rev-parse", "main"))
    assert trusted(work, NOW + 2 * WEEK) == ""
    assert remotes.load(work, cache)["origin"] == answer


def test_a_refusal_is_told_from_silence(work: Path) -> None:
    (work.parent / "empty").mkdir()
    git(work, "remote", "set-url", "origin", str(work.parent / "empty"))
    assert trusted(work).startswith("origin refused: not a git repository")
    git(work, "remote", "set-url", "origin", "http://127.0.0.1:9/none.git")
    answer = remotes.probe(work, NOW, work.parent / "cache", Disk())
    refused = replace(answer["origin"], trouble="Authentication failed", refused=True)
    remotes.keep(work, {"origin": refused}, work.parent / "cache", Disk())
    said = trusted(work, NOW + timedelta(days=8, hours=2))
    assert said == "origin refused: Authentication failed (its last answer: 8 days ago)"


def test_a_url_may_hold_a_password_that_is_not_written_down(work: Path) -> None:
    unreachable(work, "http://me:hunter2@127.0.0.1:9/none.git")
    remotes.probe(work, NOW, work.parent / "cache", Disk())
    assert all(b"hunter2" not in file.read_bytes() for file in (work.parent / "cache").iterdir())


def test_kept_answers_that_cannot_be_read_count_as_none(work: Path) -> None:
    cache = work.parent / "cache"
    remotes.probe(work, NOW, cache, Disk())
    (file,) = cache.iterdir()
    for text in ("", "{", "[]", '{"origin": 3}', '{"origin": {"url": 1, "more": 2, "lost": []}}'):
        file.write_text(text)
        assert remotes.load(work, cache) == {}


def test_remotes_are_due_to_be_asked_once_a_day(work: Path) -> None:
    cache = work.parent / "cache"
    now = datetime.now(UTC)
    assert has_remotes(work) and not has_remotes(work.parent)
    assert remotes.is_due(work, now, cache) and not remotes.is_due(work.parent, now, cache)
    answers: remotes.Answers = remotes.probe(work, now, cache, Disk())
    assert set(answers) == {"origin"}
    assert not remotes.is_due(work, now + timedelta(hours=23), cache)
    assert remotes.is_due(work, now + timedelta(hours=25), cache)
    git(work, "remote", "remove", "origin")
    assert remotes.probe(work, now, cache, Disk()) == {} and not remotes.is_due(work, now, cache)


def test_what_remotes_hold_as_a_record(work: Path) -> None:
    settings: vcs_git.Settings = vcs_git.settings_of(work)
    refs: vcs_git.Refs = vcs_git.refs_of(work)
    (origin,) = remotes.remotes_of(settings)
    assert origin == remotes.Remote(
        "origin", str(work.parent / "work.git"), (("refs/heads/*", "refs/remotes/origin/*"),)
    )
    found: remotes.Standing = remotes.standing(work, settings, refs, {}, NOW, WEEK)
    head = git(work, "rev-parse", "HEAD")
    assert found.has("refs/heads/main", head) and found.has("refs/remotes/origin/other", head)
    assert (found.good, found.heads, found.reason()) == ({head}, {"refs/heads/main"}, "")
    assert vcs_git.detached_heads(work) == []
    git(work, "checkout", "-q", "--detach")
    assert vcs_git.detached_heads(work) == [head]


def test_fetch_and_push_leave_traces(work: Path) -> None:
    (origin,) = remotes.remotes_of(vcs_git.settings_of(work))
    assert abs(remotes.last_fetch(work, origin) - time.time()) < 600
    shutil.rmtree(work / ".git" / "logs")
    assert remotes.last_fetch(work, origin) == 0
    git(work, "fetch", "-q")
    os.utime(work / ".git" / "FETCH_HEAD", (1e9, 1e9))
    assert remotes.last_fetch(work, origin) == 1e9


def test_asking_runs_nothing_that_the_repository_names(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = work.parent / "ran"
    script = work.parent / "evil"
    script.write_text(f"#!/bin/sh\ntouch {ran}\nexec false\n")
    script.chmod(0o755)
    there = work.parent / "work.git"
    for folder in (work, there):
        for key in ("core.sshCommand", "core.askPass", "credential.helper", "core.fsmonitor", "core.gitProxy"):
            git(folder, "config", key, f"!{script}" if "helper" in key else str(script))
        git(folder, "config", "remote.origin.uploadpack", str(script))
        git(folder, "config", "protocol.allow", "always")
        git(folder, "config", "protocol.ext.allow", "always")
        git(folder, "config", "uploadpack.packObjectsHook", str(script))
        git(folder, "config", "core.alternateRefsCommand", str(script))
    git(work, "config", f"url.ext::{script}.insteadOf", "http://")
    good = git(work, "remote", "get-url", "origin")
    evil = (f"ext::{script} %S", "ssh://127.0.0.1:9/x", "http://127.0.0.1:9/x", f"--upload-pack={script}", "evil::x")
    for url in (good, f"file://{good}", *evil):
        git(work, "config", "remote.origin.url", url)
        remotes.probe(work, NOW, work.parent / "cache", Disk())
    assert not ran.exists()


def test_what_a_standing_depends_on_is_told(work: Path) -> None:
    """The folder of a remote, the settings, kept answers, and the moment from which silence counts."""
    cache = work.parent / "cache"
    beside = remotes.standing_of(work, NOW, WEEK, cache).beside
    assert beside.folders == {os.fspath(work.parent / "work.git")} and beside.until == math.inf
    assert beside.files >= {os.fspath(remotes.answers_file(work, cache)), os.fspath(work / ".git" / "config")}
    unreachable(work)
    remotes.probe(work, NOW, cache, Disk())
    silent = remotes.standing_of(work, NOW, WEEK, cache)
    assert silent.doubt() == "" and silent.beside.folders == frozenset()
    assert NOW < datetime.fromtimestamp(silent.beside.until, UTC) <= NOW + WEEK + timedelta(hours=5)
    late = datetime.fromtimestamp(silent.beside.until + 1, UTC)
    assert remotes.standing_of(work, late, WEEK, cache).doubt()
