"""The records that travel between the parts: ids, entries, snapshots, reports. All frozen.

Sizes are bytes, times are nanoseconds since 1970 (`*_ns`) or aware datetimes in UTC.
Paths inside a vault are POSIX bytes relative to the project's root; the root itself is b"".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gitvault.core.models.records import (
    MODES,
    PROTECTED,
    RELATIONS,
    ChunkId,
    ObjectId,
    Problem,
    Project,
    SnapshotId,
)

if TYPE_CHECKING:
    from gitvault.core.models.entries import ChunkPlan, Entry, PathState, Pointer
    from gitvault.core.models.reports import (
        Affected,
        CopyReport,
        Defect,
        Difference,
        ForgetReport,
        Held,
        KindSize,
        MaintenanceReport,
        Move,
        NotCopied,
        PruneReport,
        Repair,
        RestoreReport,
        StorageSize,
        StorageStats,
        SweepReport,
        Verdict,
        VerifyReport,
    )
    from gitvault.core.models.snapshots import Filter, Snapshot
    from gitvault.core.models.taken import Secret, SnapshotReport

__all__ = [
    "MODES",
    "PROTECTED",
    "RELATIONS",
    "Affected",
    "ChunkId",
    "ChunkPlan",
    "CopyReport",
    "Defect",
    "Difference",
    "Entry",
    "Filter",
    "ForgetReport",
    "Held",
    "KindSize",
    "MaintenanceReport",
    "Move",
    "NotCopied",
    "ObjectId",
    "PathState",
    "Pointer",
    "Problem",
    "Project",
    "PruneReport",
    "Repair",
    "RestoreReport",
    "Secret",
    "Snapshot",
    "SnapshotId",
    "SnapshotReport",
    "StorageSize",
    "StorageStats",
    "SweepReport",
    "Verdict",
    "VerifyReport",
]

_HOMES = {
    "ChunkPlan": "entries",
    "Entry": "entries",
    "Filter": "snapshots",
    "PathState": "entries",
    "Pointer": "entries",
    "Secret": "taken",
    "Snapshot": "snapshots",
    "SnapshotReport": "taken",
}


def __getattr__(name: str) -> Any:
    # Making a frozen dataclass takes 0.8 ms: these are made by the runs that need one, which `git vault status` is not.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'reports')}"), name)
