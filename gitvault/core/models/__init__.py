"""The records that travel between the parts: ids, entries, snapshots, reports. All frozen.

Sizes are bytes, times are nanoseconds since 1970 (`*_ns`) or aware datetimes in UTC.
Paths inside a vault are POSIX bytes relative to the project's root; the root itself is b"".
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gitvault.core.models.records import (
    ChunkId,
    Entry,
    Filter,
    ObjectId,
    PathState,
    Pointer,
    Problem,
    Project,
    Snapshot,
    SnapshotId,
)

if TYPE_CHECKING:
    from gitvault.core.models.reports import (
        Affected,
        ChunkPlan,
        Defect,
        Difference,
        KindSize,
        MaintenanceReport,
        Move,
        RestoreReport,
        SnapshotReport,
        StorageSize,
        StorageStats,
        VerifyReport,
    )

__all__ = [
    "Affected",
    "ChunkId",
    "ChunkPlan",
    "Defect",
    "Difference",
    "Entry",
    "Filter",
    "KindSize",
    "MaintenanceReport",
    "Move",
    "ObjectId",
    "PathState",
    "Pointer",
    "Problem",
    "Project",
    "RestoreReport",
    "Snapshot",
    "SnapshotId",
    "SnapshotReport",
    "StorageSize",
    "StorageStats",
    "VerifyReport",
]


def __getattr__(name: str) -> Any:
    # Making a frozen dataclass takes 0.8 ms, a report's is made by the runs that report: `git vault status` does not.
    if name in __all__:
        return getattr(import_module("gitvault.core.models.reports"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
