"""Policies in a real vault: what snapshots leave out and say of it, `policy explain`, `policy check`, `status`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import called

from gitvault import config
from gitvault.errors import ConfigError
from gitvault.policy.ecosystems import ECOSYSTEMS, KEEP, OWN_MARKS, PROJECT_FILE, Ecosystems
from gitvault.policy.kinds import KINDS, Kind, kind_of
from gitvault.policy.patterns import Pattern, Segments, parse
from gitvault.policy.policy import Policy
from gitvault.policy.tracked import MARKS
from gitvault.vault import Vault


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git checkout with something of everything."""
    project = tmp_path / "acme"
    for name in (
        "package.json",
        "src/app.ts",
        "node_modules/a/index.js",
        "dist/index.js",
        "dist/kept.js",
        ".env",
        "x.log",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    (project / ".gitignore").write_text("node_modules\n*.log\n.env\n")
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    subprocess.run(["git", "add", "src", "package.json", "dist/kept.js"], cwd=project, check=True)
    return project


def run(vault: Path, *words: str, cwd: Path, code: int = 0) -> Any:
    done = called(["--vault", str(vault), *words], cwd)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in words and done.stdout else done.stdout or done.stderr


def names(vault: Vault) -> set[str]:
    return {
        os.fsdecode(entry.path)
        for entry in vault.entries("acme", recursive=True)
        if entry.kind != "folder" and not entry.path.startswith(b".git/")
    }


def test_a_snapshot_leaves_out_what_can_be_made_again_and_says_so(vault: Vault, project: Path) -> None:
    report = vault.create_snapshot(project)
    assert names(vault) == {".env", ".gitignore", "dist/kept.js", "package.json", "src/app.ts"}
    [note] = [note for note in report.notes if note.startswith("left out ")]
    assert note.startswith("left out 1 folder and 2 files: ")
    assert "node_modules (.gitignore) 1" in note
    again = vault.create_snapshot(project)
    assert again.unchanged
    [state] = vault.status([project / "node_modules/a/index.js"])
    assert (state.state, state.reason) == ("excluded", f"left out by node_modules ({project}/.gitignore:1)")


def test_what_begins_to_be_tracked_is_saved_though_nothing_else_changed(vault: Vault, project: Path) -> None:
    vault.create_snapshot(project)
    subprocess.run(["git", "add", "-f", "x.log"], cwd=project, check=True)
    vault.create_snapshot(project)
    assert "x.log" in names(vault)
    subprocess.run(["git", "rm", "-q", "--cached", "x.log"], cwd=project, check=True)
    vault.create_snapshot(project)
    assert "x.log" not in names(vault)


def test_the_policy_can_be_switched_off(vault: Vault, project: Path) -> None:
    config.set(vault.path, "vault.policy", "off")
    (project / ".gitvault.toml").write_text('skip = ["src/"]')
    with Vault.open(vault.path) as opened:
        opened.create_snapshot(project)
    assert {"node_modules/a/index.js", "x.log"} <= names(vault)
    assert "src/app.ts" not in names(vault)


def test_a_rule_for_all_projects(vault: Vault, project: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('skip = ["*.ts"]\n')
    with pytest.raises(ConfigError, match="expected a file's absolute path"):
        config.set(vault.path, "vault.policyFile", "rules.toml")
    config.set(vault.path, "vault.policyFile", str(tmp_path / "rules.toml"))
    with Vault.open(vault.path) as opened:
        opened.create_snapshot(project)
        assert "src/app.ts" not in names(opened)
        assert opened.explain(str(project / "src/app.ts")).source == str(tmp_path / "rules.toml")
        assert opened.unused_rules() == []
        (project / "src/app.ts").unlink()
        assert [rule.text for rule in opened.unused_rules([project])] == ["*.ts"]


def test_a_broken_file_is_a_problem_of_the_snapshot_and_the_rest_is_saved(vault: Vault, project: Path) -> None:
    (project / ".gitvault.toml").write_text("skip = [")
    report = vault.create_snapshot(project)
    assert [problem.path for problem in report.problems] == [b".gitvault.toml"]
    assert f"{project}/.gitvault.toml, line 1: " in report.problems[0].reason
    assert "src/app.ts" in names(vault)


def test_how_often_a_path_changed_counts(vault: Vault, project: Path) -> None:
    for number in range(3):
        (project / "src/app.ts").write_text(f"{number}")
        vault.create_snapshot(project)
    often, never = (vault.explain(str(project / name)).importance for name in ("src/app.ts", "src/new.ts"))
    assert often > never


def test_explain_names_file_and_line_for_programs_and_people(vault: Vault, project: Path, tmp_path: Path) -> None:
    vault.create_snapshot(project)
    subprocess.run(["git", "config", "-f", vault.path / "config", "vault.ignore", "*.ts"], check=True)
    found = run(vault.path, "policy", "explain", "src/app.ts", "--json", cwd=project)
    line = (vault.path / "config").read_text("utf-8").splitlines().index("\tignore = *.ts") + 1
    assert found == {
        "path": "src/app.ts",
        "keep": False,
        "category": "source",
        "language": "TypeScript",
        "rule": "*.ts",
        "source": str(vault.path / "config"),
        "line": line,
    }
    kept = run(vault.path, "policy", "explain", ".env", "--json", cwd=project)
    assert (kept["keep"], kept["category"], kept["source"]) == (True, "secret", str(KEEP))
    tracked = run(vault.path, "policy", "explain", "dist/kept.js", "--json", cwd=project)
    assert (tracked["keep"], tracked["rule"], tracked["line"]) == (True, "tracked", None)
    built_in = run(tmp_path / "no vault", "policy", "explain", "dist/index.js", "--json", cwd=project)
    assert (built_in["keep"], built_in["source"]) == (False, str(ECOSYSTEMS))
    said = run(vault.path, "policy", "explain", "package.json", cwd=project)
    assert "saved (configuration, JSON)" in said
    assert f"{ECOSYSTEMS}, line " in said
    (project / ".gitvault.toml").write_text("skip = 3")
    assert ".gitvault.toml, line 1: skip: expected a list" in run(
        vault.path, "policy", "explain", "a", cwd=project, code=128
    )
    assert "give a PATH" in run(vault.path, "policy", "explain", cwd=project, code=129)


def test_check_finds_rules_that_match_nothing(vault: Vault, project: Path) -> None:
    (project / ".gitvault.toml").write_text('skip = [\n  "*.none",\n  "*.ts",\n]\n')
    found = run(vault.path, "policy", "check", ".", "--json", cwd=project, code=1)
    assert found == [{"rule": "*.none", "source": str(project / PROJECT_FILE), "line": 2}]
    assert "line 2: *.none matches nothing" in run(vault.path, "policy", "check", ".", cwd=project, code=1)
    assert "every rule matches" in run(vault.path, "policy", "check", cwd=project)


def test_the_parts_work_alone(project: Path) -> None:
    assert MARKS < OWN_MARKS
    assert Ecosystems().marks(["package.json", "a"]) == ["package.json"]
    assert kind_of("a.py") == Kind("source", "Python", ".py", str(KINDS), kind_of("b.py").line)
    segments: Segments = (b"**", b"a")
    assert parse(b"a/") == Pattern(segments, True, False)
    policy = Policy(project, ignore=["", "*.x"])
    assert [rule.text for rule in policy.ignored] == ["*.x"]
    place = policy.scope(b"", policy.marks(os.listdir(project)), None)
    rule = place.rule(b"dist", True)
    assert rule is not None
    assert place.looks_into(b"dist", rule), "one of its files is tracked"
    assert config.origin(project, "vault.ignore", "none") == ("", 0)
