"""A person at a terminal: types commands, reads what they print, has one machine or several."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import called
from trees import write


@dataclass(frozen=True)
class Machine:
    """A computer with a vault of its own."""

    vault: Path
    desk: Path
    """Where its commands are typed."""

    def say(self, *words: str | Path, code: int = 0) -> str:
        """What a command prints, and that it ended so."""
        done = called(["--vault", str(self.vault), *map(str, words)], self.desk)
        assert done.returncode == code, done.stderr
        return done.stdout

    def ask(self, *words: str | Path, code: int = 0) -> Any:
        """The JSON it prints."""
        return json.loads(self.say(*words, "--json", code=code))

    def save(self, folder: Path, message: str = "", *words: str) -> str:
        """The id of a snapshot taken now."""
        return str(self.ask("snapshot", folder, *(("-m", message) if message else ()), *words)["snapshot"])


@pytest.fixture
def machine(tmp_path: Path, vault: Any) -> Machine:
    """The one that everything begins on."""
    return Machine(vault.path, tmp_path)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Machine:
    """Another, that has nothing yet, not even a vault."""
    desk = tmp_path / "elsewhere"
    desk.mkdir()
    return Machine(desk / "vault.git", desk)


def put(folder: Path, files: dict[str, str]) -> Path:
    """The folder, with these texts in it."""
    return write(folder, {name: text.encode() for name, text in files.items()})
