"""What git and git-lfs call: no options, no help, and started as fast as can be."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.errors import GitVaultError

if TYPE_CHECKING:
    from gitvault.core.models import ObjectId
    from gitvault.stock.origin import Repository
    from gitvault.vault import Vault


def run(words: Sequence[str]) -> int:
    """Run one of `COMMANDS`; its exit code. Raises GitVaultError, OSError."""
    COMMANDS[words[0]](words[1:])
    return 0


def repository() -> Repository:
    """The one that git was called in, or calls this in."""
    from gitvault.stock.origin import VARIABLES, Repository

    return Repository(Path.cwd(), {name: os.path.abspath(os.environ[name]) for name in VARIABLES if name in os.environ})


def _vault(remote: str = "origin") -> Vault:
    from gitvault.personas.base import chosen_vault
    from gitvault.vault import Vault

    return Vault.open(repository().vault(chosen_vault, remote))


def _filter_process(words: Sequence[str]) -> None:
    from gitvault.stock.filter import FilterProcess, Source

    def opened() -> Source:
        vault, here = _vault(), repository()

        def is_plain(path: str, blob: ObjectId) -> bool:
            # The second question takes a process.
            return vault.history.objects.contains(blob) and here.staged(path) == blob

        return Source(vault.store, vault.config.smudge_limit, is_plain)

    FilterProcess(sys.stdin.buffer, sys.stdout.buffer, opened, Path.cwd(), render.say).serve()


def _lfs_agent(words: Sequence[str]) -> None:
    from gitvault.stock.transfer import TransferAgent

    def folder() -> Path:
        here = repository()
        # Where git-lfs keeps what it has, so that a rename is enough.
        said = os.fsdecode(here.git("config", "--path", "--get", "lfs.storage", ok=(0, 1))).rstrip("\n")
        return here.folder("--git-common-dir") / (said or "lfs") / "tmp"

    TransferAgent(sys.stdin.buffer, sys.stdout.buffer, lambda remote: _vault(remote).store, folder).serve()


def _textconv(words: Sequence[str]) -> None:
    from gitvault.stock.textconv import text_of

    if len(words) != 1:
        raise GitVaultError("textconv: expected one file; git starts this, not people")
    for part in text_of(Path(words[0])):
        sys.stdout.buffer.write(part)


COMMANDS = {"filter-process": _filter_process, "lfs-agent": _lfs_agent, "textconv": _textconv}
