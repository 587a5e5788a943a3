"""Is it saved? For a file by one look at it; for a folder by what the last run saw, or by looking again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gitvault.core.models import PathState, Problem, Project, SnapshotId
from gitvault.core.scan import Known, Rules, Same, StatCache, stat_of, walk
from gitvault.core.utils.files import open_source
from gitvault.core.utils.names import to_text
from gitvault.core.versioning.history import GitHistory, raw
from gitvault.core.versioning.objects import MODE_SYMLINK, object_id

# A changed stat with the old content is worth reading for, up to here.
_READ_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look: the parts of a vault and its projects on this machine."""

    history: GitHistory
    cache: Callable[[str], StatCache]
    rules: Rules
    projects: Sequence[Project]
    now: datetime


def path_state(places: Places, path: str, scan: bool) -> PathState:
    """The state of one path; `path` in the answer is what was asked for."""
    absolute = os.path.abspath(path)
    # The path itself may be a symlink that is saved as one.
    folder, name = os.path.split(absolute)
    real = os.path.join(os.path.realpath(folder), name) if name else absolute
    project = _project(places.projects, real) or _project(places.projects, os.path.realpath(absolute))
    if project is None:
        return _state(path, "unknown", None, "in no project; git-vault add or snapshot its folder")
    if _project(places.projects, real) is None:
        real = os.path.realpath(absolute)
    inside = os.fsencode(os.path.relpath(real, project.path)).replace(os.fsencode(os.sep), b"/")
    inside = b"" if inside == b"." else inside
    cache = places.cache(project.name)
    try:
        tip = places.history.tip(project.name)
        if tip is None:
            return _state(path, "new", None, "the project has no snapshot yet; git-vault snapshot saves it")
        newest = SnapshotId(tip.hex())
        if cache.about().get("snapshot") != newest.encode():
            return _state(path, "unknown", newest, "the cache is gone; the next snapshot makes it again")
        if excluded := _excluded(places.rules, inside, os.path.isdir(real) and not os.path.islink(real)):
            return _state(path, "excluded", None, excluded)
        if cache.row(inside) is not None or (os.path.isdir(real) and not os.path.islink(real)):
            return _folder_state(places, project, cache, path, inside, newest, scan)
        return _file_state(places, cache, path, real, inside, newest)
    finally:
        cache.close()


def _state(path: str, state: str, snapshot: SnapshotId | None, reason: str) -> PathState:
    return PathState(to_text(os.fsencode(path)), state, snapshot, reason)


def _project(projects: Sequence[Project], path: str) -> Project | None:
    """The innermost project that a path lies in."""
    around = [p for p in projects if path == p.path or path.startswith(p.path.rstrip(os.sep) + os.sep)]
    return max(around, key=lambda project: len(project.path), default=None)


def _excluded(rules: Rules, path: bytes, is_folder: bool) -> str | None:
    parts = path.split(b"/") if path else []
    for depth in range(1, len(parts) + 1):
        rule = rules.excluded_by(b"/".join(parts[:depth]), depth < len(parts) or is_folder)
        if rule:
            return f"left out by vault.ignore = {rule}"
    return None


def _file_state(places: Places, cache: StatCache, path: str, real: str, inside: bytes, newest: SnapshotId) -> PathState:
    parent, _, name = inside.rpartition(b"/")
    known = cache.entries(parent).get(name)
    try:
        found = os.lstat(real)
    except (FileNotFoundError, NotADirectoryError):
        if known is None:
            return _state(path, "unknown", None, "no such file, now or in the newest snapshot")
        return _state(path, "deleted", _since(places.history, cache, inside, known, newest), "no longer there")
    if known is None:
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return _state(path, "excluded", None, "not saved: neither file, folder nor symlink")
        return _state(path, "new", None, "not in the newest snapshot")
    since = _since(places.history, cache, inside, known, newest)
    if known.stat == stat_of(found):
        return _state(path, "saved", since, "as in the newest snapshot")
    if _same_content(real, found, known):
        return _state(path, "saved", since, "content as in the newest snapshot, its attributes changed")
    return _state(path, "changed", since, "changed since the newest snapshot")


def _same_content(real: str, found: os.stat_result, known: Known) -> bool:
    if found.st_size != known.stat.size or found.st_size > _READ_LIMIT:
        return False
    if stat.S_ISLNK(found.st_mode):
        return known.tree_mode == MODE_SYMLINK and object_id(b"blob", os.readlink(os.fsencode(real))) == known.blob
    try:
        fd = open_source(real)
    except OSError:
        return False
    with open(fd, "rb") as file:
        return object_id(b"blob", file.read(_READ_LIMIT + 1)) == known.blob


def _since(history: GitHistory, cache: StatCache, path: bytes, known: Known, newest: SnapshotId) -> SnapshotId | None:
    """The snapshot that first held this content without a break until now."""
    if known.since and (found := cache.version(known.since)):
        return SnapshotId(found)
    held = newest
    for at in history.chain(raw(newest)):
        snapshot = SnapshotId(at.hex())
        if history.blob_at(snapshot, path) != known.blob:
            break
        held = snapshot
    return held


def _folder_state(
    places: Places, project: Project, cache: StatCache, path: str, inside: bytes, newest: SnapshotId, scan: bool
) -> PathState:
    about = cache.about()
    if not scan:
        looked = datetime.fromtimestamp(int(about.get("time", b"0")), UTC)
        age = _age((places.now - looked).total_seconds())
        if inside and cache.row(inside) is None:
            return _state(path, "new", None, f"not in the newest snapshot, taken {age} ago; --scan looks now")
        failed = int(about.get("problems", b"0"))
        reason = f"as of the last look {age} ago; --scan looks now"
        if failed:
            return _state(path, "changed", newest, f"{failed} paths could not be saved, {reason}")
        return _state(path, "saved", newest, reason)
    counts = _scan(places, project, cache, inside)
    if sum(counts.values()) == 0:
        return _state(path, "saved", newest, "looked at now")
    listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return _state(path, "changed" if cache.row(inside) else "new", newest, f"{listed} since the newest snapshot")


def _scan(places: Places, project: Project, cache: StatCache, inside: bytes) -> dict[str, int]:
    """Files that the next snapshot would find new, changed, deleted or unreadable below a folder."""
    from pathlib import Path

    counts = {"new": 0, "changed": 0, "deleted": 0, "unreadable": 0}
    problems: list[Problem] = []
    rows = cache.rows()
    visited = set()
    for folder in walk(Path(project.path), rows, places.rules, problems, [], start=inside):
        visited.add(folder.path)
        if isinstance(folder, Same):
            continue
        known = cache.entries(folder.path)
        for name, found in folder.entries:
            before = known.pop(name, None)
            if before is None:
                counts["new"] += 1
            elif before.stat != stat_of(found):
                counts["changed"] += 1
        counts["deleted"] += len(known)
    prefix = inside + b"/" if inside else b""
    counts["deleted"] += sum(row.files for at, row in rows.items() if at.startswith(prefix) and at not in visited)
    counts["unreadable"] = len(problems)
    return counts


def _age(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} seconds"
