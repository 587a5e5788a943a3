"""The records that travel between the parts: ids, entries, snapshots, reports. All frozen.

Sizes are bytes, times are nanoseconds since 1970 (`*_ns`) or aware datetimes in UTC.
Paths inside a vault are POSIX bytes relative to the project's root; the root itself is b"".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

SnapshotId = NewType("SnapshotId", str)
"""A snapshot: the 40 hex digits of its commit."""

ObjectId = NewType("ObjectId", bytes)
"""A git object: the 20 raw bytes of its SHA-1."""

ChunkId = NewType("ChunkId", bytes)
"""A chunk: the 32 raw bytes of its SHA-256."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """A large file's content: what the three lines of a git-LFS pointer say."""

    oid: str
    """SHA-256 of the whole content, 64 hex digits."""
    size: int


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """How one file is cut and compressed."""

    min_size: int
    avg_size: int
    max_size: int
    level: int
    """zstd level."""
    delta: bool
    """Whether coding against the previous version can pay."""
    reason: str
    """What the strategy saw, for people: `already compressed (jpeg)`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a snapshot."""

    path: bytes
    kind: str
    """`file`, `folder` or `symlink`."""
    mode: int
    """Permission bits, as in chmod."""
    size: int
    """Of the content; 0 for a folder."""
    mtime_ns: int
    blob: ObjectId
    """What the git tree holds: the content, the pointer, the link's target, or a tree (zeros: an empty folder)."""
    pointer: Pointer | None = None
    """Set when the content is in the chunk store."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a run could not do for one path, and why."""

    path: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Project:
    """A folder that the vault keeps snapshots of."""

    name: str
    path: str
    """Absolute, on `host`."""
    host: str
    added: datetime


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


@dataclass(frozen=True, slots=True)
class Filter:
    """Which snapshots a list holds; every field that is set must fit."""

    project: str | None = None
    tags: frozenset[str] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None
    """How many at the most, the newest ones."""


@dataclass(frozen=True, slots=True)
class Move:
    """A file whose content is unchanged under another name."""

    source: bytes
    target: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two snapshots. Sorted paths of files and symlinks."""

    added: tuple[bytes, ...]
    changed: tuple[bytes, ...]
    deleted: tuple[bytes, ...]
    moved: tuple[Move, ...]


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What `restore_snapshot` did."""

    snapshot: SnapshotId
    files: int
    bytes: int
    seconds: float
    problems: tuple[Problem, ...] = ()
    safety: SnapshotId | None = None
    """The snapshot taken before files were replaced in place."""


@dataclass(frozen=True, slots=True)
class PathState:
    """Whether a path's present state is saved."""

    path: str
    """As it was asked for, through `names.to_text`."""
    state: str
    """`saved`, `changed`, `new`, `deleted`, `excluded` or `unknown`."""
    snapshot: SnapshotId | None
    """The snapshot that holds the newest saved state of it, oldest such when `saved`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Affected:
    """A place in history that a defect touches."""

    project: str
    snapshot: SnapshotId
    path: bytes


@dataclass(frozen=True, slots=True)
class Defect:
    """Something stored that is damaged, missing or not what it should be."""

    kind: str
    """`ref`, `commit`, `tree`, `blob`, `meta`, `pointer`, `manifest`, `chunk`, `pack` or `vault`."""
    object: str
    reason: str
    affects: tuple[Affected, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` looked at and found."""

    objects_checked: int
    bytes_checked: int
    defects: tuple[Defect, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.defects


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What `maintain` did; sizes of the whole vault on disk."""

    bytes_before: int
    bytes_after: int
    seconds: float
    actions: tuple[str, ...] = ()
    """One line each; nothing was due when empty."""


@dataclass(frozen=True, slots=True)
class KindSize:
    """How much one kind of file takes, each distinct content counted once."""

    kind: str
    files: int
    bytes: int
    stored: int


@dataclass(frozen=True, slots=True)
class StorageSize:
    """What a store occupies."""

    packs: int
    chunks: int
    bytes: int
    """On disk."""


@dataclass(frozen=True, slots=True)
class StorageStats:
    """How much the vault holds and what it costs."""

    projects: int
    snapshots: int
    logical_bytes: int
    """All snapshots, each counted whole."""
    unique_bytes: int
    """Each distinct content once, uncompressed."""
    stored_bytes: int
    """On disk."""
    kinds: Sequence[KindSize] = ()

    @property
    def ratio(self) -> float:
        """Logical bytes per stored byte."""
        return self.logical_bytes / self.stored_bytes if self.stored_bytes else 0.0
