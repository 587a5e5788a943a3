"""Snapshots taken out of a project's history, by git alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path


def git(vault: Path, *words: str, stdin: str = "") -> str:
    done = subprocess.run(
        ["git", f"--git-dir={vault}", *words], input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def keep_only(vault: Path, project: str, snapshots: Iterable[str]) -> list[str]:
    """Let the project's two chains consist of these snapshots, oldest first; the new commits."""
    commits: list[str] = []
    parent = meta = ""
    for snapshot in snapshots:
        text = git(vault, "cat-file", "commit", snapshot)
        old = next(line.split()[1] for line in text.splitlines() if line.startswith("Vault-Meta: "))
        meta = _commit(vault, git(vault, "cat-file", "commit", old), meta)
        parent = _commit(vault, text.replace(old, meta), parent)
        commits.append(parent)
    git(vault, "update-ref", f"refs/heads/{project}", parent)
    git(vault, "update-ref", f"refs/vault/meta/{project}", meta)
    return commits


def _commit(vault: Path, text: str, parent: str) -> str:
    head, _, message = text.partition("\n\n")
    lines = [line for line in head.splitlines() if not line.startswith("parent ")]
    lines[1:1] = [f"parent {parent}"] if parent else []
    stdin = "\n".join(lines) + "\n\n" + message + "\n"
    return git(vault, "hash-object", "-t", "commit", "-w", "--stdin", stdin=stdin)
