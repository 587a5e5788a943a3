"""What is in a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gitvault.core.models.records import ObjectId, SnapshotId


@dataclass(frozen=True, slots=True)
class Pointer:
    """A large file's content: what the three lines of a git-LFS pointer say."""

    oid: str
    """SHA-256 of the whole content, 64 hex digits."""
    size: int


class Entry(NamedTuple):
    """One name in a snapshot. A tuple, which is made four times as fast as a dataclass: a restore makes one a file."""

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
