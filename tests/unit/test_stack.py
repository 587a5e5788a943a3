"""What a project is made with, from its names."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import write

from gitvault.policy.stack import stack_of, stacks


@pytest.mark.parametrize(
    "names, stack",
    [
        ("pyproject.toml src/x.py", "python"),
        ("requirements.txt package.json", "python"),
        ("package.json src/index.js", "javascript"),
        ("package.json tsconfig.json", "typescript"),
        ("Cargo.toml pyproject.toml", "rust"),
        ("ProjectSettings/ProjectVersion.txt Assets/x.cs game.sln", "unity"),
        ("Shooter.uproject Source/a.cpp", "unreal"),
        ("project.godot", "godot"),
        ("Shop.csproj", "dotnet"),
        ("build.gradle.kts app/x.java", "kotlin"),
        ("pom.xml", "java"),
        ("go.mod", "go"),
        ("Gemfile", "ruby"),
        ("composer.json package.json", "php"),
        ("App.xcodeproj/x", "swift"),
        ("mix.exs", "elixir"),
        ("README api/Cargo.toml core/Cargo.toml web/package.json", "rust"),
        ("README node_modules/a/package.json .venv/pyproject.toml vendor/go.mod src/a.php src/b.php", "php"),
        ("a.tex b.tex c.sh", "latex"),
        ("deep/er/Cargo.toml readme", ""),
        ("Makefile py notes", ""),
        ("", ""),
    ],
)
def test_markers_tell_then_those_below_then_the_sources(names: str, stack: str, tmp_path: Path) -> None:
    write(tmp_path / "p", dict.fromkeys(names.split(), b"x"))
    assert stack_of(str(tmp_path / "p")) == stack


def test_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert stack_of(str(tmp_path / "none")) == ""
    (tmp_path / "loop").symlink_to(tmp_path)
    assert stack_of(str(tmp_path)) == ""


def test_many_folders_and_names_are_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of thousands must not delay a snapshot."""
    monkeypatch.setattr("gitvault.policy.stack._FOLDERS", 2)
    write(tmp_path / "p", {"a/x": b"", "b/x": b"", "c/Cargo.toml": b""})
    assert stack_of(str(tmp_path / "p")) == ""


def test_more_than_25_are_known() -> None:
    assert len(stacks()) > 25
    assert {"python", "javascript", "typescript", "rust", "go", "java", "dotnet", "php", "ruby"} <= set(stacks())
