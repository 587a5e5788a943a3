"""The library for developers, on a real clone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from repositories import cloned, commit, git

from gitvault import CodeVault, CreativeVault, GameVault
from gitvault.core.models import RELATIONS
from gitvault.errors import GitVaultError, NotFoundError
from gitvault.personas.base import chosen_vault
from gitvault.personas.code.search.answers import index_of, symbols_of
from gitvault.personas.code.search.ledger import Ledger
from gitvault.personas.project import ProjectVault
from gitvault.vault.opened import Opened

pytestmark = pytest.mark.needs("git")


def test_what_all_personas_have_is_one_class() -> None:
    assert all(issubclass(persona, ProjectVault) for persona in (CodeVault, CreativeVault, GameVault))


def test_a_project_is_saved_judged_searched_and_brought_back(tmp_path: Path) -> None:
    work = cloned(tmp_path)
    (work / ".gitignore").write_text("*.log\n")
    (work / "code.py").write_text("def answer():\n    return 42\n")
    commit(work, text="two\n")
    git(work, "add", "-A")
    git(work, "commit", "-q", "-m", "An answer")
    (work / "debug.log").write_text("noise")
    (work / "new.txt").write_text("only here")
    with CodeVault("work", work, vault=tmp_path / "vault.git") as project:
        report = project.backup("Before", tags=["first"])
        assert [snapshot.id for snapshot in project.snapshots()] == [report.snapshot]
        assert not project.explain("debug.log").keep
        safety = project.safety()
        assert (safety.safe, safety.unpushed_commits, safety.untracked) == (False, 2, 1)
        [found] = project.search("return 42").found
        assert (found.path, found.introduced.subject) == (b"code.py", "An answer")
        assert project.search("return 42", everywhere=True).count == 1
        [symbol] = project.symbol("answer").found
        assert (symbol.kind, symbol.line) == ("function", 1)
        # The table of symbols is that of the index: nobody who asks next begins it anew.
        with index_of(project.vault) as index, Ledger(index.folder / "symbols.db", index.catalog.identity) as ledger:
            assert ledger.known() >= 0
        with index_of(project.vault) as index, symbols_of(index) as ledger:
            assert ledger.known() >= 0
        restored = project.restore("work", tmp_path / "back")
        assert restored.problems == ()
    assert git(tmp_path / "back", "log", "-1", "--format=%s").strip() == "An answer"
    assert (tmp_path / "back" / "new.txt").read_text() == "only here"
    assert not (tmp_path / "back" / "debug.log").exists()


def test_the_vault_is_the_one_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_VAULT_DIR", os.fspath(tmp_path / "named.git"))
    assert chosen_vault() == tmp_path / "named.git"
    assert chosen_vault("other") == Path.cwd() / "other"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "file").write_text("x")
    with CodeVault("work", tmp_path / "work") as project:
        assert project.backup().files == 1
        assert project.vault.path == tmp_path / "named.git"


def test_a_vaults_parts_are_there_without_its_verbs(tmp_path: Path) -> None:
    parts = Opened.create(tmp_path / "vault.git")
    assert parts.history.projects() == []
    assert parts.store.get_storage_size().packs == 0
    parts.close()


def test_projects_are_chosen_and_edited_as_the_verb_does(tmp_path: Path) -> None:
    for name in ("shop", "blog", "old"):
        (tmp_path / name).mkdir()
    with CodeVault("shop", tmp_path / "shop", vault=tmp_path / "vault.git") as shop:
        for name in ("blog", "old"):
            shop.vault.add_project(tmp_path / name)
        [project] = shop.edit(client="acme", stack="python", phase="build", tags=["urgent", " web "])
        assert (project.name, project.client, project.stack, project.phase) == ("shop", "acme", "python", "build")
        assert shop.project.tags == ("urgent", "web")
        edited = shop.edit("blog", "shop", phase="", without=["web"])
        assert {(one.name, one.phase, one.tags) for one in edited} == {("shop", "", ("urgent",)), ("blog", "", ())}
        assert [one.name for one in shop.select("client:acme", "tag:urgent")] == ["shop"]
        shop.edit("old", archived=True)
        assert [one.name for one in shop.select()] == ["blog", "shop"]
        assert "succeeds" in RELATIONS
        [project] = shop.relate("succeeds", "old")
        assert project.relations == (("succeeds", "old"),) == shop.project.relations
        before = shop.vault.projects()
        with pytest.raises(GitVaultError, match="a tag that is empty"):
            shop.edit(tags=["x", " "])
        with pytest.raises(GitVaultError, match="no such relation"):
            shop.relate("likes", "old")
        with pytest.raises(NotFoundError, match="no project is so"):
            shop.edit("client:nobody", phase="x")
        with pytest.raises(NotFoundError):
            shop.select("nobody")
        assert shop.vault.projects() == before
