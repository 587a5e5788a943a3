"""A snapshot of what nobody has touched: the newest one, without a look at the disk.

A module of its own because what a real snapshot imports takes longer than this answer.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from gitvault.core.beside import still
from gitvault.core.models import SnapshotReport
from gitvault.core.stat_cache import StatCache
from gitvault.core.touched import Watch
from gitvault.core.versioning import origins
from gitvault.core.versioning.history import GitHistory


def untouched(
    root: Path,
    project: str,
    *,
    history: GitHistory,
    cache: StatCache,
    watch: Watch,
    now: float,
) -> SnapshotReport | None:
    """The newest snapshot, when its watcher says that it is what another one would hold; None: take one.

    No lock is needed: nothing is written, and what the cache says was durable before it said so. `now`: in seconds
    since 1970.
    """
    started = time.perf_counter()
    about = cache.about()
    tip = history.tip(project)
    if tip is None or not about.get("watch") or about.get("again") or about.get("root") != os.fsencode(root):
        return None
    newest = history.identify(tip)
    if about.get("snapshot") != newest.encode() or history.refs.read(origins.ref_of(os.fspath(root))):
        return None
    seen = watch.touched(about["watch"])
    row = cache.row(b"")
    if seen is None or seen.folders is None or seen.folders or seen.below or row is None or not row.signature:
        return None
    if not still(about.get("beside", b""), now):
        return None
    files = int(about["files"])
    return SnapshotReport(newest, project, True, files, 0, 0, 0, 0, 0, time.perf_counter() - started, (), (), ())
