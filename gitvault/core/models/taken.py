"""What a snapshot did: a module of its own, since a run that finds nothing touched needs no other report."""

from __future__ import annotations

from dataclasses import dataclass

from gitvault.core.models.records import Problem, SnapshotId


@dataclass(frozen=True, slots=True)
class Secret:
    """A file that looks like a secret, and of what kind: `a private key`. It is saved all the same."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What `create_snapshot` did."""

    snapshot: SnapshotId
    project: str
    unchanged: bool
    files: int
    new: int
    changed: int
    deleted: int
    bytes_read: int
    bytes_stored: int
    seconds: float
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    """Those that no snapshot before had."""
