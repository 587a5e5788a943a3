"""Real repositories for tests, made by the real programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from gitvault.core.utils import process
from gitvault.vcs import hg


def git(folder: Path, *arguments: str | Path, ok: bool = True, **variables: str) -> str:
    """What git says in a folder."""
    command = ["git", "-c", "protocol.file.allow=always", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **variables})
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout.strip()


def commit(folder: Path, name: str = "a.txt", text: str = "one\n", message: str = "a change") -> str:
    """Write a file and commit it; the commit."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", "--", name)
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def cloned(folder: Path, name: str = "work") -> Path:
    """A clone of a bare repository `NAME.git` beside it, with one commit that both have."""
    folder.mkdir(exist_ok=True)
    git(folder, "init", "-q", "--bare", f"{name}.git")
    git(folder, "clone", "-q", f"{name}.git", name)
    work = folder / name
    commit(work)
    git(work, "push", "-q", "-u", "origin", "main")
    return work


class WritingHg(hg.Server):
    """hg for tests that write: to start it anew for each command takes 0.3 s."""

    def _running(self) -> process.Program:
        if self._process is None:
            command = ["hg", "serve", "--cmdserver", "pipe", "--config", "ui.username=me"]
            self._process = process.start(command, variables={"HGRCPATH": "", "HGPLAIN": "1"})
            hg._message(self._process)
        return self._process

    def run(self, folder: Path, *arguments: str) -> str:
        """What it says in a repository."""
        return os.fsdecode(self.ask(folder, *arguments)).strip()

    def __enter__(self) -> WritingHg:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
