"""Copies of files from elsewhere, made snapshots, each once and in their order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from gitvault.core.backup_engine.incoming import Content, Given, Incoming
from gitvault.core.models import Problem, Snapshot, SnapshotId
from gitvault.core.scan import collection_paused
from gitvault.core.utils.names import to_line
from gitvault.core.versioning.history import Details
from gitvault.errors import CorruptionError, ExistsError, ToolFailed
from gitvault.moving.source import Copy, Source

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.vault import Vault

KEY, LINE = "import.id", "import.line"
"""In a snapshot's metadata: what the source calls it, and a name for the line that it is of."""
_FLUSH_SECONDS = 20.0
# Files that may be on their way into the store: what each becomes is known later.
_SAVING = 1000


@dataclass(slots=True)
class Moved:
    """What an import did."""

    snapshots: int = 0
    """Made now."""
    files: int = 0
    """Read and checked now."""
    bytes: int = 0
    skipped: int = 0
    """Copies that are snapshots already."""
    problems: list[Problem] = field(default_factory=list)
    projects: dict[str, int] = field(default_factory=dict)
    """Snapshots made now, by project."""


def move_in(
    vault: Vault,
    source: Source,
    *,
    project: str | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Moved:
    """Make every copy of a source a snapshot, unless it is one already; `project`: all of them of that one.

    An interrupted run goes on with the next one. Raises ToolError, NotFoundError, LockedError, StorageFullError,
    ExistsError when the project has newer snapshots from elsewhere.
    """
    done = Moved()
    imported = [snapshot for snapshot in vault.list_snapshots() if KEY in snapshot.metadata]
    for line in _lines(source.copies(), one=project is not None):
        named = _named(source, line[0])
        ours = [
            snapshot
            for snapshot in imported
            if snapshot.project == project or (project is None and snapshot.metadata.get(LINE) == named)
        ]
        here = {snapshot.metadata[KEY]: snapshot for snapshot in ours}
        last = max((place for place, copy in enumerate(line) if _key(source, copy) in here), default=-1)
        before = line[last] if last >= 0 else None
        done.skipped += last + 1
        if missing := [copy for copy in line[: last + 1] if _key(source, copy) not in here]:
            done.skipped -= len(missing)
            shown = _shown(source, missing[0]) + (b" and %d more" % (len(missing) - 1) if missing[1:] else b"")
            reason = "older than what was imported, or pruned since; not imported (--project NAME: apart)"
            done.problems.append(Problem(shown, reason))
        todo = line[last + 1 :]
        if not todo:
            continue
        found = here[_key(source, before)] if before else None
        if found and not _follows(vault, found.project, todo[0], found):
            before = found = None
        name = found.project if found else _continued(vault, ours, todo[0]) or _project(vault, source, todo[0], project)
        _Line(vault, source, name, line[-1], done, progress, clock).take(todo, before, found.id if found else None)
    done.problems += source.problems
    return done


def _key(source: Source, copy: Copy) -> str:
    return f"{source.kind}:{copy.id}"


def _named(source: Source, copy: Copy) -> str:
    return sha256("\0".join((source.kind, *copy.line)).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _shown(source: Source, copy: Copy) -> bytes:
    return f"{source.kind} {copy.name}".encode("utf-8", "surrogateescape")


def _lines(copies: Sequence[Copy], *, one: bool) -> list[list[Copy]]:
    """The copies of each line; of all lines as `one` by their time."""
    if one:
        together = sorted(copies, key=lambda copy: copy.time) if len({copy.line for copy in copies}) > 1 else copies
        return [list(together)]
    lines: dict[tuple[str, ...], list[Copy]] = {}
    for copy in copies:
        lines.setdefault(copy.line, []).append(copy)
    return list(lines.values())


def _follows(vault: Vault, project: str, first: Copy, last: Snapshot | None = None) -> bool:
    """Whether nothing in a project is newer than a copy; `last`, the one before it, may be: clocks are set back."""
    latest = vault.history.get_latest_version(project)
    return latest is None or (last is not None and latest.id == last.id) or latest.time <= first.time


def _continued(vault: Vault, ours: Sequence[Snapshot], first: Copy) -> str:
    """The project that a line goes on in although the source has forgotten all that came from it; empty: none."""
    if not ours:
        return ""
    name = max(ours, key=lambda snapshot: snapshot.time).project
    return name if _follows(vault, name, first) else ""


def _project(vault: Vault, source: Source, first: Copy, given: str | None) -> str:
    """What a line that begins is called here."""
    if given:
        if not _follows(vault, given, first):
            raise ExistsError(
                f"{given}: has newer snapshots than {source.kind} {first.name}; import under another name"
            )
        return given
    name, place = first.project, first.root or source.place
    taken = any(
        one.name.casefold() == name.casefold() and (one.name != name or one.path != place) for one in vault.projects()
    )
    return _free(vault, f"{name}-{source.kind}") if taken or vault.history.tip(name) else name


def _free(vault: Vault, name: str) -> str:
    taken = {one.casefold() for one in (*vault.history.projects(), *(project.name for project in vault.projects()))}
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{name}-{number}"
    return free


class _Line:
    """One line on its way in."""

    def __init__(
        self,
        vault: Vault,
        source: Source,
        project: str,
        last: Copy,
        done: Moved,
        progress: Progress | None,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._project = project
        self._done = done
        self._progress = progress
        self._clock = clock
        self._incoming = vault.incoming(project, last.root or source.place, last.host, archived=not last.root)

    def take(self, todo: Sequence[Copy], before: Copy | None, snapshot: SnapshotId | None) -> None:
        """Make the copies snapshots; `snapshot` is what `before` is here."""
        done = self._done
        waiting = list(reversed(todo))
        with self._incoming:
            if snapshot:
                self._incoming.go_on(snapshot)
        while waiting:
            recorded = 0
            # Others get the vault in between.
            with self._incoming as incoming:
                until = self._clock() + _FLUSH_SECONDS
                while waiting:
                    copy = waiting.pop()
                    if self._progress:
                        self._progress(f"importing {copy.name}", len(todo) - len(waiting) - 1, len(todo))
                    try:
                        with collection_paused():
                            self._copy(incoming, copy, before)
                    except (ToolFailed, CorruptionError) as error:
                        done.problems.append(Problem(_shown(self._source, copy), f"not imported: {error}"))
                    else:
                        before = copy
                        recorded += 1
                    if self._clock() >= until:
                        break
                incoming.flush()
            done.snapshots += recorded
            if recorded:
                done.projects[self._project] = done.projects.get(self._project, 0) + recorded

    def _copy(self, incoming: Incoming, copy: Copy, before: Copy | None) -> None:
        source, done = self._source, self._done
        changes, wanted = source.changes(copy, before)
        given = {one.path: one for one in changes.given}
        saving: deque[tuple[Given, Callable[[], Content]]] = deque()
        saved: dict[bytes, Content] = {}
        unread: set[bytes] = set()
        wrong: list[Problem] = []
        size = 0

        def out(one: Given, error: CorruptionError) -> None:
            wrong.append(Problem(one.path, f"{copy.name}: {error}; left out"))
            unread.add(one.path)

        def settle(left: int) -> None:
            while len(saving) > left:
                one, content = saving.popleft()
                try:
                    saved[one.path] = content()
                except CorruptionError as error:
                    out(one, error)

        for one, stream in source.contents(copy, wanted) if wanted else ():
            given[one.path] = one
            if stream is None:
                unread.add(one.path)
                continue
            if one.kind == "folder":
                continue
            try:
                saving.append((one, incoming.save(one, stream)))
            except CorruptionError as error:
                out(one, error)
                continue
            settle(_SAVING)
            size += one.size
            if self._progress:
                self._progress(f"importing {copy.name}", done.bytes + size, 0)
        settle(0)
        read, size = len(saved), sum(content.size for content in saved.values())
        # Of files that are one file with several names, one is enough.
        twins = {one.link: saved[path] for path, one in given.items() if one.link and path in saved}
        for path in wanted.keys() - saved.keys():
            if given[path].link in twins:
                saved[path] = twins[given[path].link]
        files = {path for path, one in wanted.items() if one.kind != "folder"}
        left = files - saved.keys() - unread
        if left and left == files:
            raise CorruptionError(f"{source.kind} did not give {len(left)} of its files, {to_line(min(left))} for one")
        wrong += [Problem(path, f"{copy.name}: {source.kind} did not give it; left out") for path in sorted(left)]
        without = files & (unread | left)
        kept = [one for path, one in given.items() if path not in without]
        incoming.record(changes._replace(gone=[*changes.gone, *without], given=kept), saved, self._details(copy))
        done.problems += wrong
        done.files += read
        done.bytes += size

    def _details(self, copy: Copy) -> Details:
        kind = self._source.kind
        line = _named(self._source, copy)
        facts = {"kind": kind, "id": _key(self._source, copy), "line": line, "path": copy.root, **copy.facts}
        return Details(
            self._project,
            copy.message or f"{self._project}: {kind} {copy.name}",
            copy.time,
            0,
            0,
            copy.tags,
            {f"import.{key}": value for key, value in facts.items() if value},
            "import",
            host=copy.host,
        )
