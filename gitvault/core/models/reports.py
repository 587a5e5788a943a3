"""What the parts tell each other and their caller: plans, differences, reports of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gitvault.core.models.records import Problem, SnapshotId

if TYPE_CHECKING:
    from gitvault.core.models.snapshots import Snapshot


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
    """`ref`, `commit`, `tree`, `blob`, `meta`, `pointer`, `manifest`, `chunk`, `pack`, `vault`, `drill` or `base`."""
    object: str
    reason: str
    affects: tuple[Affected, ...] = ()


@dataclass(frozen=True, slots=True)
class Repair:
    """Something damaged that is sound again."""

    kind: str
    """As a defect's, or `index`, `object` (of git) or `file` (a large one)."""
    object: str
    how: str
    """Where what was lost came from, for people."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` looked at and found."""

    objects_checked: int
    bytes_checked: int
    defects: tuple[Defect, ...] = ()
    repaired: tuple[Repair, ...] = ()
    quarantined: tuple[Defect, ...] = ()
    """What a repair, now or earlier, could not get back, and what that costs."""
    drilled: int = 0
    """Files that were got back without gitvault."""
    note: str = ""
    """Which share of the bytes was read, for people."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.defects


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one snapshot."""

    snapshot: Snapshot
    reasons: tuple[str, ...]
    """Why it is kept; none when it goes."""


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What `prune` did, or would do."""

    verdicts: tuple[Verdict, ...]
    """Project by project, the newest first."""
    done: bool

    @property
    def kept(self) -> tuple[SnapshotId, ...]:
        """The snapshots that stay."""
        return tuple(verdict.snapshot.id for verdict in self.verdicts if verdict.reasons)

    @property
    def removed(self) -> tuple[SnapshotId, ...]:
        """The snapshots that go."""
        return tuple(verdict.snapshot.id for verdict in self.verdicts if not verdict.reasons)


@dataclass(frozen=True, slots=True)
class Held:
    """A repository that snapshots store as it lies, and that holds what was to be forgotten."""

    project: str
    repository: bytes
    """Its folder in the project: `.git`."""
    paths: tuple[bytes, ...]
    """In the project, sorted."""
    snapshots: tuple[SnapshotId, ...]
    """Those that have it so, newest first."""
    reason: str = ""
    """Why it could not be looked into; "" when it could."""


@dataclass(frozen=True, slots=True)
class ForgetReport:
    """What `forget` did, or would do."""

    paths: tuple[tuple[str, bytes], ...]
    """Project and path of what matches, each once however many snapshots hold it, sorted."""
    snapshots: tuple[SnapshotId, ...]
    """Those that hold any of it."""
    done: bool
    held: tuple[Held, ...] = ()
    """Where it stays."""


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What `maintain` did; sizes of the whole vault on disk."""

    bytes_before: int
    bytes_after: int
    seconds: float
    actions: tuple[str, ...] = ()
    """One line each; nothing was due when empty."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What `sweep` did."""

    bytes_freed: int
    """By which the vault takes less room on disk."""
    seconds: float
    actions: tuple[str, ...] = ()
    """One line each; nothing was to be removed when empty."""


@dataclass(frozen=True, slots=True)
class NotCopied:
    """What a copy left as it was in the other vault."""

    ref: str
    project: str
    """Empty for what belongs to no project."""
    reason: str
    damaged: bool
    """Whether it cannot be read here; else the other vault has what must not be lost."""


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What `copy_to` did."""

    target: str
    snapshots: int
    objects: int
    """Of git."""
    chunks: int
    packs: int
    bytes: int
    """Of the packs that were written there."""
    refs: int
    """That were moved or made."""
    seconds: float
    left: tuple[NotCopied, ...] = ()


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
