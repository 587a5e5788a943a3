"""Is it saved? For a file by one look at it; for a folder by what the last run saw, or by looking again."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import PathState, Pointer, Problem, Project, SnapshotId
from gitvault.core.scan import Folder, Partly, collection_paused, scopes, walk
from gitvault.core.stat_cache import Known, Stat, StatCache, stat_of
from gitvault.core.storage import pointers
from gitvault.core.utils import dates
from gitvault.core.utils.files import open_source, read_link
from gitvault.core.utils.layout import is_within
from gitvault.core.utils.names import to_text
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import MODE_FILE, MODE_SYMLINK, object_id
from gitvault.errors import ContentMissing, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules
    from gitvault.core.touched import Touched, Watch

SCAN_LOOKS = "; --scan looks now"
"""How the reason of a state ends that the last look gave, not the disk."""

# A changed stat with the old content is worth reading for, up to here.
_READ_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look: the parts of a vault and its projects on this machine."""

    history: GitHistory
    cache: Callable[[str], StatCache]
    rules: Callable[[Project], Rules]
    projects: Sequence[Project]
    now: datetime
    watch: Callable[[Project], Watch | None] = lambda project: None


def path_state(places: Places, path: str, scan: bool) -> PathState:
    """The state of one path; `path` in the answer is what was asked for."""
    absolute = os.path.abspath(path)
    # The path itself may be a symlink that is saved as one.
    folder, name = os.path.split(absolute)
    real = os.path.join(os.path.realpath(folder), name) if name else absolute
    project = _project(places.projects, real) or _project(places.projects, os.path.realpath(absolute))
    if project is None:
        missing = "" if os.path.lexists(absolute) else "no such file or folder, and "
        return _state(path, "unknown", None, f"{missing}in no project; git-vault add or snapshot its folder")
    if _project(places.projects, real) is None:
        real = os.path.realpath(absolute)
    inside = os.fsencode(os.path.relpath(real, project.path)).replace(os.fsencode(os.sep), b"/")
    inside = b"" if inside == b"." else inside
    cache = places.cache(project.name)
    return cache.use(lambda: _state_inside(places, project, cache, path, real, inside, scan))


def _state_inside(
    places: Places, project: Project, cache: StatCache, path: str, real: str, inside: bytes, scan: bool
) -> PathState:
    tip = places.history.tip(project.name)
    if tip is None:
        if not os.path.lexists(real):
            return _state(path, "unknown", None, "no such file, and the project has no snapshot yet")
        return _state(path, "new", None, "the project has no snapshot yet; git-vault snapshot saves it")
    newest = places.history.identify(tip)
    is_folder = os.path.isdir(real) and not os.path.islink(real)
    cached = cache.about().get("snapshot") == newest.encode()
    row = cache.row(inside) if cached else None
    known = _known(places.history, cache, inside, newest) if cached and not row else None
    if known and _is_as_saved(real, known):
        # What rules there are by now is no matter.
        return _file_state(places.history, cache, path, real, inside, known, newest)
    if inside and (excluded := _excluded(places.rules(project), project.path, inside, is_folder)):
        return _state(path, "excluded", None, excluded)
    if row is not None and not is_folder:
        if os.path.lexists(real):
            return _state(path, "changed", newest, "a folder in the newest snapshot")
        return _state(path, "deleted", newest, "no longer there")
    if is_folder and not cached:
        return _state(path, "unknown", newest, "the cache is gone; the next snapshot makes it again")
    if not cached:
        known = _known(places.history, None, inside, newest)
    if is_folder and known:
        return _state(path, "changed", newest, "a file in the newest snapshot")
    if is_folder:
        return _folder_state(places, project, cache, path, inside, newest, scan)
    return _file_state(places.history, cache, path, real, inside, known, newest)


def _is_as_saved(real: str, known: Known) -> bool:
    with suppress(OSError):
        return known.stat == stat_of(os.lstat(real))
    return False


def _state(path: str, state: str, snapshot: SnapshotId | None, reason: str) -> PathState:
    return PathState(to_text(os.fsencode(path)), state, snapshot, reason)


def _project(projects: Sequence[Project], path: str) -> Project | None:
    """The innermost project that a path lies in."""
    around = [p for p in projects if is_within(path, p.path)]
    return max(around, key=lambda project: len(project.path), default=None)


def _excluded(rules: Rules, root: str, path: bytes, is_folder: bool) -> str:
    depth = path.count(b"/")
    for number, (scope, name) in enumerate(scopes(Path(root), rules, path)):
        if reason := scope.omits(name, number < depth or is_folder):
            return reason
    return ""


def _known(history: GitHistory, cache: StatCache | None, path: bytes, newest: SnapshotId) -> Known | None:
    """A file as the newest snapshot holds it; where no cache can tell, its stat is only a size and a time."""
    parent, _, name = path.rpartition(b"/")
    if cache:
        return cache.entries(parent).get(name)
    from gitvault.core.versioning import contents

    try:
        entry, _ = contents.find(history, newest, path, lambda _: None)
    except ContentMissing:
        raise
    except NotFoundError:
        return None
    if entry.kind == "folder":
        return None
    mode = MODE_SYMLINK if entry.kind == "symlink" else MODE_FILE
    return Known(Stat(0, entry.size, entry.mtime_ns, 0, 0), mode, name, entry.blob, 0)


def _file_state(
    history: GitHistory,
    cache: StatCache,
    path: str,
    real: str,
    inside: bytes,
    known: Known | None,
    newest: SnapshotId,
) -> PathState:
    try:
        found = os.lstat(real)
    except (FileNotFoundError, NotADirectoryError):
        if known is None:
            return _state(path, "unknown", None, "no such file, now or in the newest snapshot")
        return _state(path, "deleted", _since(history, cache, inside, known, newest), "no longer there")
    if known is None:
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return _state(path, "excluded", None, "not saved: neither file, folder nor symlink")
        return _state(path, "new", None, "not in the newest snapshot")
    since = _since(history, cache, inside, known, newest)
    if known.stat == stat_of(found):
        return _state(path, "saved", since, "as in the newest snapshot")
    if _same_content(real, found, known):
        if known.stat.mtime_ns == found.st_mtime_ns:
            return _state(path, "saved", since, "as in the newest snapshot")
        return _state(path, "saved", since, "content as in the newest snapshot, its attributes changed")
    if not known.stat.inode and _READ_LIMIT < known.stat.size == found.st_size:
        if known.stat.mtime_ns == found.st_mtime_ns:
            return _state(path, "saved", since, "size and time as in the newest snapshot")
        return _state(path, "unknown", since, "too large to compare at once; the next snapshot looks")
    return _state(path, "changed", since, "changed since the newest snapshot")


def _same_content(real: str, found: os.stat_result, known: Known) -> bool:
    if found.st_size != known.stat.size or found.st_size > _READ_LIMIT:
        return False
    if stat.S_ISLNK(found.st_mode):
        return known.tree_mode == MODE_SYMLINK and object_id(b"blob", read_link(real)) == known.blob
    if known.tree_mode == MODE_SYMLINK or not stat.S_ISREG(found.st_mode):
        return False
    try:
        fd = open_source(real)
    except OSError:
        return False
    try:
        # Looked at again now that it is open: reading a pipe would take what somebody else waits for.
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        with open(fd, "rb", closefd=False) as file:
            data = file.read(_READ_LIMIT + 1)
    finally:
        os.close(fd)
    pointer = pointers.encode(Pointer(hashlib.sha256(data).hexdigest(), len(data)))
    return known.blob in (object_id(b"blob", data), object_id(b"blob", pointer))


def _since(history: GitHistory, cache: StatCache, path: bytes, known: Known, newest: SnapshotId) -> SnapshotId | None:
    """The snapshot that first held this content without a break until now."""
    if known.since and (found := cache.version(known.since)):
        return SnapshotId(found)
    held = newest
    for at, commit in history.walk(history.locate(newest)):
        if history.blob_at(commit, path) != known.blob:
            break
        held = identity(at, commit)
    return held


def _folder_state(
    places: Places, project: Project, cache: StatCache, path: str, inside: bytes, newest: SnapshotId, scan: bool
) -> PathState:
    about = cache.about()
    watch = None if scan else places.watch(project)
    seen = None
    if watch:
        from gitvault.core.backup_engine.untouched import to_look_at

        seen = to_look_at(watch.touched(about.get("watch", b"")), cache, places.now.timestamp())
    if not scan and seen is None:
        looked = datetime.fromtimestamp(int(about.get("time", b"0")), UTC)
        age = dates.age((places.now - looked).total_seconds())
        if inside and cache.row(inside) is None:
            return _state(path, "new", None, f"not in the newest snapshot, taken {age} ago{SCAN_LOOKS}")
        failed = int(about.get("problems", b"0"))
        reason = f"as of the last look {age} ago{SCAN_LOOKS}"
        if failed:
            return _state(path, "changed", newest, f"{failed} paths could not be saved, {reason}")
        return _state(path, "saved", newest, reason)
    if seen and not (seen.folders or seen.below) and cache.row(inside):
        # Not even the rules are needed, and to read them takes longer than all the rest.
        return _state(path, "saved", newest, "nothing changed since, its watcher says")
    with collection_paused():
        counts = _scan(places, project, cache, inside, seen)
    if sum(counts.values()) == 0:
        return _state(path, "saved", newest, "looked at now" if scan else "nothing changed since, its watcher says")
    listed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return _state(path, "changed" if cache.row(inside) else "new", newest, f"{listed} since the newest snapshot")


def _scan(places: Places, project: Project, cache: StatCache, inside: bytes, touched: Touched | None) -> dict[str, int]:
    """Files that the next snapshot would find new, changed, deleted or unreadable below a folder."""
    from gitvault.core.backup_engine.baseline import rows_for, rows_of_gone
    from gitvault.core.backup_engine.outside import FOLDER
    from gitvault.core.backup_engine.trees import company_of

    rules, vault = places.rules(project), places.history.git_dir
    touched = company_of(rules).widened(touched) if touched else None
    counts = {"new": 0, "changed": 0, "deleted": 0, "unreadable": 0}
    problems: list[Problem] = []
    prefix = inside + b"/" if inside else b""
    rows = {path: row for path, row in rows_for(touched, cache).items() if path == inside or path.startswith(prefix)}
    visited = set()
    partly = Partly(touched, cache.rows_below) if touched else None
    for folder in walk(Path(project.path), rows, rules, problems, [], start=inside, vault=vault, partly=partly):
        visited.add(folder.path)
        if not isinstance(folder, Folder):
            continue
        known = cache.entries(folder.path)
        at = os.path.join(project.path, os.fsdecode(folder.path))
        for name, found in folder.entries:
            before = known.pop(name, None)
            if before is None:
                counts["new"] += 1
            elif before.stat != stat_of(found) and not _same_content(
                os.path.join(at, os.fsdecode(name)), found, before
            ):
                counts["changed"] += 1
        counts["deleted"] += len(known.keys() - folder.elsewhere)
    if touched:
        rows |= rows_of_gone(rows, visited, cache)
    # What came from elsewhere is no folder that could have been deleted.
    carried = os.fsencode(FOLDER)
    gone = (row.files for path, row in rows.items() if path not in visited and not path.startswith(carried))
    counts["deleted"] += sum(gone)
    counts["unreadable"] = len(problems)
    return counts
