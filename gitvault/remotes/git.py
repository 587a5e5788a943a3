"""A remote of git alone: snapshots, their attributes and all records, as any host of git keeps them. No large files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from gitvault.core.backup_engine.copy import DOINGS, read_refs
from gitvault.core.utils.process import run
from gitvault.core.versioning.history import HEADS, OPERATIONS
from gitvault.errors import RemoteRefused, RemoteUnreachable, ToolFailed
from gitvault.remotes.fetch import under
from gitvault.remotes.push import PushReport
from gitvault.remotes.settings import Settings
from gitvault.vault import Vault

_REFUSED = ("denied", "Authentication failed", "not found", "not appear to be a git repository", "403", "401")


def push(vault: Vault, told: Settings) -> PushReport:
    """`git push` of everything but large files. Another machine's line is never written over.

    Where a branch there does not lead to the one here, this machine's goes beside it, as PROJECT@MACHINE.
    Raises RemoteUnreachable, RemoteRefused, ToolMissing.
    """
    began = time.monotonic()
    refs = [ref for ref in read_refs(vault.history) if not ref.startswith((*DOINGS, OPERATIONS))]
    before = dict(_listed(vault, told))
    machine = vault.config.machine
    beside = {
        ref: under(ref, lambda name: f"{name}@{machine}") for ref in _push(vault, told, {ref: ref for ref in refs})
    }
    if beside := {ref: other for ref, other in beside.items() if other != ref}:
        _push(vault, told, beside)
    after = dict(_listed(vault, told))
    moved = [ref for ref, oid in after.items() if before.get(ref) != oid]
    fresh = [f"{oid}" for ref, oid in after.items() if ref in moved and ref.startswith(HEADS)]
    known = [f"^{oid}" for ref, oid in before.items() if ref.startswith(HEADS)]
    snapshots = int(_git(vault, "rev-list", "--count", "--ignore-missing", *fresh, *known)) if fresh else 0
    return PushReport(len(moved), 0, len(after) - len(moved), snapshots, (), (), seconds=time.monotonic() - began)


def _push(vault: Vault, told: Settings, pairs: Mapping[str, str]) -> list[str]:
    """Push refs, each to its name there; those that were rejected."""
    words = [f"{ref}:{there}" for ref, there in pairs.items()]
    text = _git(vault, "push", "--porcelain", "--no-verify", _url(told), *words, ok=(0, 1), shown=told.url)
    lines = [line.split("\t") for line in text.splitlines() if line.startswith("!")]
    return [fields[1].partition(":")[0] for fields in lines]


def _url(told: Settings) -> str:
    """As git knows it: `git+` tells a repository from a folder, and more than git needs."""
    return told.url.removeprefix("git+")


def _listed(vault: Vault, told: Settings) -> Iterable[tuple[str, str]]:
    for line in _git(vault, "ls-remote", _url(told), shown=told.url).splitlines():
        oid, _, ref = line.partition("\t")
        if ref.startswith("refs/") and not ref.endswith("^{}"):
            yield ref, oid


def _git(vault: Vault, *words: str, ok: tuple[int, ...] = (0,), shown: str = "") -> str:
    command = ["git", "-c", "core.hooksPath=/dev/null", f"--git-dir={vault.path}", *words]
    try:
        return run(command, ok=ok).decode("utf-8", "replace")
    except ToolFailed as error:
        said = " ".join(error.stderr.split())
        kind = RemoteRefused if any(word in said for word in _REFUSED) else RemoteUnreachable
        raise kind(f"{shown}: {error}") from error
