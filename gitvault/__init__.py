"""Incremental backups on git's own objects: `Vault` is the way in, the rest are its records and errors.

with Vault.create("vault.git") as vault:
    report = vault.create_snapshot("project", message="first")
    vault.restore_snapshot(report.snapshot, "copy")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gitvault.config import Config
    from gitvault.core.models import (
        Difference,
        Entry,
        Filter,
        MaintenanceReport,
        PathState,
        Pointer,
        Problem,
        Project,
        RestoreReport,
        Snapshot,
        SnapshotId,
        SnapshotReport,
        StorageStats,
        SweepReport,
        VerifyReport,
    )
    from gitvault.errors import GitVaultError
    from gitvault.personas.code import CodeVault
    from gitvault.personas.creative import CreativeVault
    from gitvault.personas.game import GameVault, GameVersionType
    from gitvault.vault import Vault

# Where each public name lives. Imported when asked for: a worker process or `git vault status` needs few of them.
_HOMES = {
    "gitvault.config": ("Config",),
    "gitvault.core.models": (
        "Difference",
        "Entry",
        "Filter",
        "MaintenanceReport",
        "PathState",
        "Pointer",
        "Problem",
        "Project",
        "RestoreReport",
        "Snapshot",
        "SnapshotId",
        "SnapshotReport",
        "StorageStats",
        "SweepReport",
        "VerifyReport",
    ),
    "gitvault.errors": ("GitVaultError",),
    "gitvault.personas.code": ("CodeVault",),
    "gitvault.personas.creative": ("CreativeVault",),
    "gitvault.personas.game": ("GameVault", "GameVersionType"),
    "gitvault.vault": ("Vault",),
}

__all__ = [
    "CodeVault",
    "Config",
    "CreativeVault",
    "Difference",
    "Entry",
    "Filter",
    "GameVault",
    "GameVersionType",
    "GitVaultError",
    "MaintenanceReport",
    "PathState",
    "Pointer",
    "Problem",
    "Project",
    "RestoreReport",
    "Snapshot",
    "SnapshotId",
    "SnapshotReport",
    "StorageStats",
    "SweepReport",
    "Vault",
    "VerifyReport",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'gitvault' has no attribute {name!r}")
