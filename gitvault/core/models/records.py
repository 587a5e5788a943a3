"""Ids, problems and projects: what nearly every run needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NewType

SnapshotId = NewType("SnapshotId", str)
"""A snapshot: the 40 hex digits of its commit."""

ObjectId = NewType("ObjectId", bytes)
"""A git object: the 20 raw bytes of its SHA-1."""

ChunkId = NewType("ChunkId", bytes)
"""A chunk: the 32 raw bytes of its SHA-256."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a run could not do for one path, and why."""

    path: bytes
    reason: str


PROTECTED = "protected by "
"""How the reason begins for which a file is left out that somebody else keeps: it is not deleted."""

RELATIONS = ("shares-code-with", "succeeds")
"""What a project can be to another one."""
MODES = ("protect", "full", "ignore-vcs")
"""What is saved of a checkout: what its version control does not hold, everything, or the work tree alone."""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that the vault keeps snapshots of, on one machine.

    `path`, `added`, `mode`, `detected` and `removed` are that machine's; all else is the project's, the same on each.
    """

    name: str
    path: str
    """Absolute, on `host`."""
    host: str
    added: datetime
    mode: str = "protect"
    """One of `MODES`."""
    client: str = ""
    chosen: str = ""
    """The stack that somebody set; empty: what was detected counts."""
    phase: str = ""
    tags: tuple[str, ...] = ()
    """Sorted."""
    relations: tuple[tuple[str, str], ...] = ()
    """`shares-code-with` or `succeeds`, and the other project's name; sorted."""
    archived: bool = False
    detected: str = ""
    """The stack that its files show; empty: none that is known."""
    removed: bool = False
    """Registered no longer; kept so that another vault learns of it."""
    edited: tuple[tuple[str, str], ...] = ()
    """When a field got its value, by the field's name in the catalog: ISO 8601 in UTC with microseconds; sorted."""
    unknown: tuple[tuple[str, str], ...] = ()
    """What a newer version wrote and this one only keeps: name and JSON; sorted."""

    @property
    def stack(self) -> str:
        """The stack that counts."""
        return self.chosen or self.detected
