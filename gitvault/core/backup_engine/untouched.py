"""A snapshot of what nobody has touched: the newest one, without a look at the disk.

A module of its own because what a real snapshot imports takes longer than this answer.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.beside import still
from gitvault.core.stat_cache import StatCache
from gitvault.core.touched import Touched, Watch
from gitvault.core.versioning import origins
from gitvault.core.versioning.history import GitHistory

if TYPE_CHECKING:
    from gitvault.core.models import SnapshotReport


def to_look_at(seen: Touched | None, cache: StatCache, now: float) -> Touched | None:
    """What a watcher says, with the folders that are to be looked at whatever it says; None: everything is.

    `now`: in seconds since 1970.
    """
    about = cache.about()
    if seen is None or seen.folders is None or b"" in seen.below or not about.get("watch"):
        return None
    if not still(about.get("beside", b""), now):
        return None
    again = about.get("again", b"")
    return replace(seen, folders=seen.folders.union(again.split(b"\0") if again else ()))


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
    seen = to_look_at(watch.touched(about["watch"]), cache, now)
    row = cache.row(b"")
    if seen is None or seen.folders or seen.below or row is None or not row.signature:
        return None
    files = int(about["files"])
    from gitvault.core.models import SnapshotReport

    return SnapshotReport(newest, project, True, files, 0, 0, 0, 0, 0, time.perf_counter() - started, (), (), ())
