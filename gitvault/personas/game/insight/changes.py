"""What is different between two builds, and when it came, as `suspects` asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING

from gitvault.core.utils.kinds import kind_of
from gitvault.errors import GitVaultError, NotFoundError
from gitvault.personas.game.insight.touched import Change

if TYPE_CHECKING:
    from gitvault.core.models import Difference, SnapshotId
    from gitvault.vault import Vault

_LONGEST = 1 << 20
"""Bytes of a file that is read: of a larger one only its name says something."""
_MOST_READ = 256 << 20
_STEPS = 50
"""Snapshots in between whose differences are looked at, to see when a file changed."""
_READABLE = frozenset(("code", "text", "other"))
_GUID = re.compile(rb"(?m)^guid: ([0-9a-f]{32})\s*$")


class Side:
    """The files of a build, of which text is read and kept no longer than it takes."""

    def __init__(self, vault: Vault, snapshot: SnapshotId) -> None:
        self._vault = vault
        self._snapshot = snapshot
        self._entries = {entry.path: entry for entry in vault.entries(snapshot, recursive=True) if entry.kind == "file"}
        self.sizes = {path: entry.size for path, entry in self._entries.items()}
        """Of all files, in bytes."""
        self._left = _MOST_READ

    def read(self, path: bytes) -> bytes:
        """A Read."""
        size = self.sizes.get(path)
        if size is None or size > min(_LONGEST, self._left) or not is_readable(path):
            return b""
        try:
            content = self._content(path)
        except GitVaultError:
            # Damaged: `verify` is who tells, and the other changes are there.
            return b""
        self._left -= len(content)
        return b"" if b"\0" in content[:8000] else content

    def _content(self, path: bytes) -> bytes:
        entry = self._entries[path]
        if not entry.pointer:
            # By its blob: finding a file by its path reads its folder, 30 ms where that has 3,000 files.
            with suppress(NotFoundError):
                return self._vault.history.blob(entry.blob)
        target = BytesIO()
        self._vault.read_file(self._snapshot, path, target)
        return target.getvalue()

    def numbers(self) -> Iterator[tuple[str, bytes]]:
        """Unity's GUIDs with the paths of the assets that have them, as their `.meta` files say."""
        for path in self.sizes:
            if path.endswith(b".meta") and (found := _GUID.search(self.read(path))):
                yield found[1].decode(), path.removesuffix(b".meta")


def is_readable(path: bytes) -> bool:
    """Whether a file is text, by its name."""
    return kind_of(path.rpartition(b"/")[2]) in _READABLE


def between(vault: Vault, older: SnapshotId, newer: SnapshotId) -> list[Change]:
    """What is different in the newer build, with when it was last changed. Raises CorruptionError."""
    found = list(_all(vault.get_version_diff(older, newer)))
    when = _last_changed(vault, older, newer) if len(found) > 1 else {}
    return [Change(path, state, source, when.get(path, when.get(source, 0.0))) for path, state, source in sorted(found)]


def _all(found: Difference) -> Iterator[tuple[bytes, str, bytes]]:
    for state, paths in (("added", found.added), ("changed", found.changed), ("deleted", found.deleted)):
        yield from ((path, state, b"") for path in paths)
    yield from ((move.target, "moved", move.source) for move in found.moved)


def _last_changed(vault: Vault, older: SnapshotId, newer: SnapshotId) -> dict[bytes, float]:
    """From 0 to 1, by how many of the snapshots in between a file was changed the last time."""
    from gitvault.core.models import Filter

    project = vault.get_snapshot_info(newer).project
    ids = [one.id for one in vault.list_snapshots(Filter(project=project))][::-1]
    if older not in ids or newer not in ids or not ids.index(older) < ids.index(newer):
        return {}
    chain = ids[ids.index(older) : ids.index(newer) + 1]
    # Of many, some: which day it was says as much as which minute.
    steps = sorted({round(number * (len(chain) - 1) / _STEPS) for number in range(_STEPS + 1)})
    if len(steps) < 3:
        return {}
    when: dict[bytes, float] = {}
    for before, after in pairwise(steps):
        for path, _, source in _all(vault.get_version_diff(chain[before], chain[after])):
            when[path] = when[source] = after / (len(chain) - 1)
    return when
