"""Upkeep: whatever makes the vault smaller or safer and need not be done while somebody waits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from gitvault.core.backup_engine import rescue
from gitvault.core.interfaces import Progress
from gitvault.core.models import MaintenanceReport
from gitvault.core.storage import parity
from gitvault.core.storage.store import ChunkStore
from gitvault.core.utils import layout, process
from gitvault.core.utils.layout import disk_usage, packs
from gitvault.core.versioning import repack
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import ToolStopped


def maintain(
    history: GitHistory,
    store: ChunkStore,
    *,
    redundancy: int,
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> MaintenanceReport:
    """Do all that is due. For whoever holds the vault's lock.

    `redundancy`: per cent of parity. `stop`: asked all the time; true gives way, and the next run does the rest.
    Without it, packs are compressed as hard as pays.
    Raises LockedError, StorageFullError, CorruptionError, ToolMissing.
    """
    started = time.perf_counter()
    vault, disk = history.git_dir, history.disk
    size = disk_usage(vault)
    before = packs(vault)
    actions: list[str] = []
    if renewed := rescue.refresh(vault, disk):
        actions.append(f"wrote {', '.join(renewed)} anew")
    try:
        if reason := repack.due(vault, asked=True):
            with repack.damage_named(vault):
                done = repack.repack(vault, disk, progress=progress, stop=stop, guard=history.refs.guard)
            actions.append(f"repacked the git side ({reason}): {done.summary()}")
            history.objects.refresh()
        if packed := store.repack(asked=stop is None, progress=progress, stop=stop):
            actions.append(f"repacked the chunk store: {packed.summary()}")
        for pack in before:
            if not pack.exists():
                # Replaced just now; what is missing for another reason may be healed yet.
                disk.unlink(parity.path_for(pack, vault / "parity"))
        if made := parity.protect(vault, redundancy, disk):
            actions.append(f"wrote parity for {made} packs")
    except ToolStopped:
        actions.append("gave way to another run; the next maintenance does it")
    return MaintenanceReport(size, disk_usage(vault), time.perf_counter() - started, tuple(actions))


def start_if_due(vault: Path, store: ChunkStore) -> None:
    """Start runs of their own at idle priority for what there is to do; nobody waits for them."""
    if (vault / layout.SEARCH / "catalog.db").exists():
        # Somebody has searched: the next search is not to read what this snapshot brought.
        process.start_detached(["-m", "gitvault", "--vault", os.fspath(vault), "search", "--index", "--quiet"])
    if (vault / layout.THUMBNAILS).is_dir():
        # Somebody has looked at a timeline: the next one has its pictures.
        process.start_detached(["-m", "gitvault", "--vault", os.fspath(vault), "timeline", "--ahead", "--quiet"])
    if repack.due(vault) or store.repack_due():
        process.start_detached(["-m", "gitvault", "--vault", os.fspath(vault), "maintain", "--idle", "--quiet"])
