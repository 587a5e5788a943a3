"""What the parts tell each other and their caller: plans, differences, reports of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gitvault.core.models.records import Problem, SnapshotId


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
