"""Snapshots, and how one looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from gitvault.core.models.records import SnapshotId


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One saved state of a project."""

    id: SnapshotId
    project: str
    time: datetime
    message: str
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    files: int = 0
    bytes: int = 0
    host: str = ""
    trigger: str = ""
    restored_from: SnapshotId | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which snapshots a list holds; every field that is set must fit."""

    project: str | None = None
    tags: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    projects: frozenset[str] = frozenset()
    """Of one of these, if there are any."""
    limit: int | None = None
    """How many at the most, the newest ones."""
