"""Hooks of git that have a project saved: put beside nobody else's, and what they run.

A hook starts a process in the background and ends: git waits for the shell alone. What runs then asks the vault's
watcher to take a snapshot when the repository has come to rest, and takes it itself where there is no watcher.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.touched import ask
from gitvault.core.utils import process
from gitvault.core.utils.files import Disk, read_plain
from gitvault.core.utils.layout import is_within
from gitvault.core.utils.lock import only_one
from gitvault.core.utils.names import ref_component
from gitvault.errors import CorruptionError, GitVaultError, LockedError, NotFoundError
from gitvault.personas.code.activity.surroundings import operation

if TYPE_CHECKING:
    from gitvault.core.models import Project, SnapshotReport
    from gitvault.vault import Vault

NAMES = ("post-commit", "post-checkout", "post-rewrite", "pre-push")
MARK = "# git-vault hook"
_MANAGERS = {
    "husky": (".husky",),
    "lefthook": ("lefthook.yml", ".lefthook.yml", "lefthook.yaml", "lefthook.toml"),
    "pre-commit": (".pre-commit-config.yaml",),
    "overcommit": (".overcommit.yml",),
}
_LONGEST = 1 << 20
_REWRITE_SECONDS = 10.0
_POLL_SECONDS = 0.1
_LARGE = 5 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """The hooks of one repository."""

    folder: str
    installed: tuple[str, ...]
    """Those that are ours."""
    in_the_way: str
    """Whose hooks are there, as a sentence; empty when ours can be."""


def _background(run: str) -> str:
    """A shell command that runs one in the background, at low priority where that can be had, and ends at once."""
    low = "n=; command -v nice >/dev/null && n='nice -n 19'"
    return f"(trap '' HUP INT; {low}; exec $n {run} </dev/null >/dev/null 2>&1) &"


def shim(name: str, command: Sequence[str]) -> str:
    """What stands in a hook's file; `command`: how git-vault is run."""
    run = shlex.join([*command, "hook", "run", name])
    return (
        f"#!/bin/sh\n{MARK}: saves this project in the background, and never keeps git from anything.\n"
        f"{_background(run)}\nexit 0\n"
    )


def snippet(command: Sequence[str], kind: str = "git") -> str:
    """What to add to the hooks that are there, for people; `kind`: `git` or `hg`."""
    if kind == "hg":
        run = shlex.join([*command, "hook", "run", "commit"])
        lines = [f"{event}.vault = {_background(run)}" for event in _HG]
        return "\n".join(["[hooks]", *lines])
    run = shlex.join([*command, "hook", "run"])
    return _background(f"{run} HOOK")


_HG = ("commit", "update")


def look(path: Path) -> Found:
    """The hooks of the repository around a path. Raises NotFoundError where there is none of git's."""
    folder = _git(path, "rev-parse", "--path-format=absolute", "--git-path", "hooks")
    if not folder:
        raise NotFoundError(f"{path}: in no git repository")
    set_elsewhere = _git(path, "config", "--get", "core.hooksPath")
    if set_elsewhere:
        return Found(folder, (), f"core.hooksPath is {set_elsewhere}: another program manages the hooks")
    top = _git(path, "rev-parse", "--show-toplevel")
    for manager, files in _MANAGERS.items():
        if top and any(os.path.lexists(os.path.join(top, file)) for file in files):
            return Found(folder, tuple(_ours(folder)), f"{manager} manages the hooks")
    others = [name for name in NAMES if _read(folder, name) and name not in _ours(folder)]
    return Found(folder, tuple(_ours(folder)), f"{', '.join(others)}: there already" if others else "")


def install(path: Path, command: Sequence[str], disk: Disk) -> Found:
    """Install all hooks, or none where others' are in the way. Raises NotFoundError."""
    found = look(path)
    if found.in_the_way:
        return found
    disk.make_folder(Path(found.folder), 0o755)
    for name in NAMES:
        disk.write_durably(Path(found.folder, name), shim(name, command).encode(), 0o755)
    return look(path)


def uninstall(path: Path, disk: Disk) -> list[str]:
    """Remove our hooks; which there were. Raises NotFoundError."""
    found = look(path)
    ours = list(_ours(found.folder))
    for name in ours:
        disk.unlink(Path(found.folder, name))
    return ours


def run(vault: Vault, path: Path, name: str, sleep: Callable[[float], None] = time.sleep) -> SnapshotReport | None:
    """What a hook runs: a snapshot of the project around a path, soon; None when somebody else sees to it.

    Of several at once the first takes it, once more when others came meanwhile.
    """
    project = _around(vault, os.path.realpath(path))
    caches = vault.path / "cache"
    if project is None or (ask(caches, {"hook": name, "path": os.fspath(path)}) or {}).get("taken"):
        return None
    repository = os.fsencode(_git(path, "rev-parse", "--absolute-git-dir"))
    # git calls post-rewrite just before a rebase is over; the end of any other operation has a hook of its own.
    patience = _REWRITE_SECONDS if name == "post-rewrite" else 0.0
    while operation([repository]).startswith("a "):
        if patience <= 0:
            return None
        sleep(_POLL_SECONDS)
        patience -= _POLL_SECONDS
    again = caches / f"hook-{ref_component(project.name)}.again"
    again.touch(0o600)
    report = None
    with contextlib.suppress(LockedError):
        # Looked for again when the lock is given back: who was too late for the snapshot was too early for the lock.
        while again.exists():
            with only_one(again.with_suffix(".lock"), "a hook is at it"):
                if again.exists():
                    again.unlink()
                    report = vault.create_snapshot(project.path, project=project.name, trigger=name)
    return report


def too_large(files: Iterable[str], limit: int = _LARGE) -> list[str]:
    """Files that do not belong into a repository for their size."""
    return [file for file in files if os.path.isfile(file) and os.path.getsize(file) > limit]


def secrets(files: Iterable[str]) -> list[tuple[str, str]]:
    """Files that look like keys, credentials or tokens, each with what is in it."""
    from gitvault.core.backup_engine.secrets import secret

    found: list[tuple[str, str]] = []
    for file in files:
        with contextlib.suppress(OSError, CorruptionError):
            if reason := secret(os.fsencode(os.path.basename(file)), read_plain(Path(file), _LONGEST)):
                found.append((file, reason))
    return found


def _around(vault: Vault, path: str) -> Project | None:
    here = vault.config.machine
    found = [p for p in vault.projects() if p.host == here and _related(path, os.path.realpath(p.path))]
    return max(found, key=lambda p: len(p.path), default=None)


def _related(path: str, project: str) -> bool:
    """A repository's top may be above a project, too, when only a part of it is one."""
    return is_within(path, project) or is_within(project, path)


def _ours(folder: str) -> list[str]:
    return [name for name in NAMES if MARK in _read(folder, name)]


def _read(folder: str, name: str) -> str:
    try:
        return read_plain(Path(folder, name), _LONGEST).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except (OSError, CorruptionError):
        return "something that cannot be read"


def _git(path: Path, *words: str) -> str:
    """What git says of the repository around a path; empty when it says nothing."""
    try:
        said = process.run(["git", "--no-optional-locks", "-C", path, *words], ok=(0, 1, 128))
    except GitVaultError:
        return ""
    return said.decode("utf-8", "surrogateescape").rstrip("\n")
