"""Answers to a search, in the order people want them: lines, symbols with their history, structures, copies.

Lines come from the index, symbols from the ledger beside it, which is brought up to what the index knows.
"""

from __future__ import annotations

import errno
import heapq
import math
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice, takewhile
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils import layout
from gitvault.core.utils.names import to_text
from gitvault.personas.code.search.languages import globs, language_of
from gitvault.personas.code.search.ranking import is_foreign, scorer

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.personas.code.search.index import Index
    from gitvault.personas.code.search.ledger import Copies, Event, Ledger, Place, SymbolHistory, When
    from gitvault.personas.code.search.model import Change, Hit, IndexState, Query, Version
    from gitvault.personas.code.search.query import Read
    from gitvault.personas.code.search.structure import Pattern
    from gitvault.vault import Vault

PATIENCE = 2.0
"""Seconds that a search waits for history that only hg and svn can give; the rest is read in the background."""
LIMIT = 50
"""How many answers are given in full."""
_BATCH = 6_000
"""Changes that the ledger reads in one transaction: what is lost when it is stopped, some ten seconds of work."""
_RANKED = 5_000
"""Lines that are ranked: those that are there first, the newest of them; of more only the number is told."""


@dataclass(frozen=True, slots=True)
class Found:
    """One answer: where it stands, or stood last, and the versions it went through."""

    project: str
    path: bytes
    line: int
    """From 1, in the file's last content that held it; 0: that cannot be read any more."""
    text: bytes
    introduced: Version
    modified: tuple[Version, ...]
    removed: Version | None
    projects: tuple[str, ...]
    kind: str = ""
    """Of a symbol: `function`, `class` ...; its name with what is around it in `name`."""
    name: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers count: in which projects (None: all), in which language, and when."""

    projects: frozenset[str] | None = None
    language: str = ""
    since: datetime | None = None
    until: datetime | None = None
    introduced: bool = False
    removed: bool = False
    alive: bool = False

    def has(self, project: str, path: bytes, language: str) -> bool:
        """Whether a file may have answers in `language`."""
        return (self.projects is None or project in self.projects) and language_of(path) == language

    def fits(self, one: Found) -> bool:
        """Whether its life is as asked: a time counts for what brought it, took it away or, neither asked, either."""
        if (self.alive and one.removed) or (self.removed and not one.removed):
            return False
        moments = [version.time for version in (one.introduced, *one.modified, one.removed) if version]
        if self.introduced:
            moments = moments[:1]
        elif self.removed:
            moments = moments[-1:]
        return any(
            (self.since is None or moment >= self.since) and (self.until is None or moment <= self.until)
            for moment in moments
        )


@dataclass(frozen=True, slots=True)
class Page:
    """How many answers there are, and the first of them."""

    count: int
    found: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    """What was left out, a line each."""


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a symbol's timeline."""

    version: Version
    path: bytes
    change: str
    """`introduced`, `modified`, `moved`, `renamed` or `removed`."""
    former: str
    """The name before, when it was renamed."""
    diff: str
    """As `diff -u` has it."""


def query(
    patterns: Sequence[str], wanted: Wanted, *, fixed: bool = False, ignore_case: bool = False, word: bool = False
) -> Query:
    """What the index is asked for lines that fit one of several patterns."""
    from gitvault.personas.code.search.model import Query

    text = patterns[0]
    if len(patterns) > 1:
        text, fixed = "|".join(re.escape(one) if fixed else f"(?:{one})" for one in patterns), False
    return Query(
        text,
        fixed=fixed,
        ignore_case=ignore_case,
        word=word,
        projects=tuple(sorted(wanted.projects or ())),
        paths=globs(wanted.language) if wanted.language else (),
        since=wanted.since,
        until=wanted.until,
        introduced=wanted.introduced,
        removed=wanted.removed,
        alive=wanted.alive,
    )


def lines(index: Index, asked: Query, *, reused: bool = False, limit: int = LIMIT) -> Page:
    """The lines that fit, the best first; `reused`: only those that two projects have.

    Raises GitVaultError for a pattern that does not compile, or that takes too long.
    """
    found = index.find(asked)
    hits = [hit for hit in found if len(hit.projects) > 1] if reused else list(islice(found, _RANKED))
    best = heapq.nlargest(limit, hits, key=scorer(_finder(asked)))
    with index.reader() as read:
        page = tuple(_found(hit, next(_lines_of(read(hit.last.number, hit.blob) or b"", hit.text), 0)) for hit in best)
    return Page(len(hits) if reused else len(found), page)


def versions(index: Index, text: str, wanted: Wanted, *, occurrences: bool, ignore_case: bool = False) -> list[Version]:
    """The versions that `git log -S` names (`occurrences`), or `-G`; of each project the newest first."""
    return index.pickaxe(query([text], wanted, fixed=occurrences, ignore_case=ignore_case))


def _finder(asked: Query) -> Callable[[bytes], tuple[int, int] | None]:
    """Where a pattern is in a line: start and end; of an expression the end is not told."""
    from gitvault.personas.code.search.pattern import Pattern

    pattern = Pattern(asked)

    def find(line: bytes) -> tuple[int, int] | None:
        start = next(iter(pattern.places(line + b"\n")), None)
        if start is None:
            return None
        return start, start + len(pattern.raw) if pattern.literal else start

    return find


def _lines_of(content: bytes, text: bytes) -> Iterator[int]:
    """The numbers of the lines that a text is."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.rstrip(b"\r") == text.rstrip(b"\r"):
            yield number


def _found(hit: Hit, line: int) -> Found:
    return Found(hit.project, hit.path, line, hit.text, hit.introduced, hit.modified, hit.removed, hit.projects)


@contextmanager
def index_of(vault: Vault) -> Iterator[Index]:
    """The index of a vault, opened as it is; of one that cannot be written a copy, in a temporary folder until then.

    Raises StorageFullError, also for what is done with it inside.
    """
    from gitvault.core.utils.files import Disk
    from gitvault.personas.code.search.catalog import full_disk_named
    from gitvault.personas.code.search.index import Index

    kept = vault.path / layout.SEARCH
    with full_disk_named(kept), ExitStack() as held:
        try:
            index = Index.open(kept, Disk())
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="gitvault-")))
            # What of it cannot be read either is made anew.
            with suppress(OSError):
                shutil.copytree(kept, folder, dirs_exist_ok=True)
            index = Index.open(folder, Disk())
        yield held.enter_context(index)


@contextmanager
def symbols_of(index: Index, progress: Progress | None = None) -> Iterator[Ledger]:
    """The table of symbols that belongs to an index, brought up to date. Raises LockedError."""
    from gitvault.personas.code.search.ledger import Ledger

    with Ledger(index.folder / "symbols.db", index.catalog.identity) as ledger:
        catch_up(index, ledger, progress)
        yield ledger


def catch_up(index: Index, ledger: Ledger, progress: Progress | None = None) -> int:
    """Let the ledger read what the index has and it has not; how many files were parsed.

    What it has read stays when this is interrupted; the next one goes on from there.
    """
    # A repository that could not be read to its end: what comes after is read when that was.
    end = min((number for number, _ in index.catalog.waiting()), default=sys.maxsize)
    parsed = done = 0

    @contextmanager
    def reader() -> Iterator[Read]:
        with index.again() as other, other.reader() as read:
            yield read

    total = sum(1 for change in index.changes(after=ledger.known()) if change.version < end) if progress else 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress("reading symbols", done, total)

    with index.reader() as read:
        batch: list[Change] = []
        version = 0
        fresh = takewhile(lambda change: change.version < end, index.changes(after=ledger.known()))
        for version, changes in groupby(fresh, key=attrgetter("version")):
            batch += changes
            if len(batch) >= _BATCH:
                parsed += ledger.add(batch, read, version, reader=reader, told=told)
                batch = []
        if batch:
            parsed += ledger.add(batch, read, version, reader=reader, told=told)
    return parsed


def bring_up(vault: Vault, index: Index, *, patience: float = PATIENCE) -> IndexState:
    """Read what is new in all projects; raises what `Index.update` does.

    `patience`: seconds for the history of hg and svn checkouts, which only their clients give.
    """
    from gitvault.personas.code.search import foreign
    from gitvault.personas.code.search.history import sources

    said = foreign.bring_up(vault, patience, time.monotonic)
    done = index.update(sources(vault))
    return replace(done, problems=(*done.problems, *said))


def _history_lines(index: Index) -> dict[int, When]:
    from gitvault.personas.code.search.ledger import When

    # A checkout's snapshots are on the line of its commits.
    known = index.catalog.sources()
    commits = {(source.project, source.folder): number for number, source in known.items() if not source.branch}
    home = {
        number: commits.get((source.project, source.checkout), number) if source.checkout else number
        for number, source in known.items()
    }
    return {number: When((home[source] << 24) + line, when) for number, line, source, when in index.catalog.states()}


def symbols(
    index: Index,
    ledger: Ledger,
    name: str,
    wanted: Wanted,
    *,
    ignore_case: bool = False,
    limit: int = LIMIT,
) -> tuple[Page, list[SymbolHistory]]:
    """The definitions of a name, those that are alive first, then the newest; and the history of each."""
    at = _history_lines(index)
    histories = ledger.find(name, at, ignore_case=ignore_case, projects=wanted.projects, language=wanted.language)
    homes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for history in histories:
        homes[history.kind, history.name].add(history.project)
    found = [
        (one, history)
        for history in histories
        if history.steps
        and wanted.fits(one := _symbol(index, history, tuple(sorted(homes[history.kind, history.name]))))
    ]
    found.sort(
        key=lambda pair: (
            is_foreign(pair[0].path),
            pair[0].removed is not None,
            -len(pair[0].projects),
            -at[pair[1].events[-1].version].time,
        )
    )
    shown = found[:limit]
    with index.reader() as read:
        page = tuple(
            replace(one, text=_line(read(history.last.version, history.place.blob), one.line)) for one, history in shown
        )
    return Page(len(found), page), [history for _, history in shown]


def _symbol(index: Index, history: SymbolHistory, projects: tuple[str, ...]) -> Found:
    numbers = list(dict.fromkeys(event.version for event in history.steps))
    known = index.catalog.versions(numbers)
    removed = None if history.alive else history.steps[-1].version
    return Found(
        history.project,
        history.last.path,
        history.place.start,
        b"",
        known[numbers[0]],
        tuple(known[number] for number in numbers[1:] if number != removed),
        None if removed is None else index.version(removed),
        projects,
        history.kind,
        f"{history.parent}.{history.name}" if history.parent else history.name,
        history.language,
    )


def callers(
    index: Index,
    name: str,
    wanted: Wanted,
    *,
    budget: float = math.inf,
    now: Callable[[], float] = time.monotonic,
    limit: int = LIMIT,
) -> Page:
    """The lines that call a function of a name, as their syntax has it; of what is above `budget` seconds none."""
    from gitvault.personas.code.search.symbols import uses

    asked = query([name.rpartition(".")[2]], wanted, fixed=True, word=True)
    known: dict[bytes, set[tuple[str, int]]] = {}
    found: list[tuple[Hit, int]] = []
    end = now() + budget
    left = 0
    with index.reader() as read:
        for hit in index.find(asked):
            language = language_of(hit.path)
            if not language:
                continue
            if hit.blob not in known and now() > end:
                left += 1
                continue
            content = read(hit.last.number, hit.blob) or b""
            if hit.blob not in known:
                known[hit.blob] = set(uses(content, language))
            calls = (number for number in _lines_of(content, hit.text) if (asked.text, number) in known[hit.blob])
            if number := next(calls, 0):
                found.append((hit, number))
    found.sort(key=lambda pair: is_foreign(pair[0].path))
    said = f"{left} {'line was' if left == 1 else 'lines were'} not looked at for want of time"
    notes = (f"{said}; --project and --alive ask for less",) if left else ()
    return Page(len(found), tuple(_found(hit, number) for hit, number in found[:limit]), notes)


def timeline(index: Index, ledger: Ledger, history: SymbolHistory) -> list[Step]:
    """What happened to a symbol, oldest first, with the differences."""
    from difflib import unified_diff

    steps = []
    with index.reader() as read:

        def text(event: Event, place: Place | None) -> list[str]:
            if place is None:
                return []
            content = read(event.version, place.blob) or b""
            return content.decode("utf-8", "replace").splitlines()[place.start - 1 : place.end]

        for event in history.steps:
            before, after = text(event, event.old), text(event, event.new)
            name = to_text(event.path)
            diff = "\n".join(unified_diff(before, after, name, name, lineterm=""))
            change = "modified" if event.old and event.new else "introduced" if event.new else "removed"
            if event.old and event.new and event.old.body == event.new.body:
                change = "moved"
            former = ledger.former(event, history.project)
            steps.append(Step(index.version(event.version), event.path, "renamed" if former else change, former, diff))
    return steps


def copies(index: Index, ledger: Ledger, wanted: Wanted, limit: int = LIMIT) -> tuple[Page, list[Copies]]:
    """Functions with the same body in two projects or more, the largest first; and where each is."""
    found = ledger.copies(_history_lines(index), projects=wanted.projects, language=wanted.language, limit=limit)
    page = []
    with index.reader() as read:
        for group in found:
            # Where it was first.
            first = min(group.copies, key=lambda copy: index.version(copy.introduced).time)
            last = max(group.copies, key=lambda copy: (copy.removed is None, copy.removed or 0))
            page.append(
                Found(
                    first.project,
                    first.path,
                    first.place.start,
                    _line(read(first.introduced, first.place.blob), first.place.start),
                    index.version(first.introduced),
                    (),
                    None if last.removed is None else index.version(last.removed),
                    tuple(sorted({copy.project for copy in group.copies})),
                    "function",
                    first.name,
                    first.language,
                )
            )
    return Page(len(found), tuple(page)), found


def structures(
    index: Index,
    pattern: Pattern,
    wanted: Wanted,
    *,
    exhaustive: bool = False,
    budget: float = math.inf,
    now: Callable[[], float] = time.monotonic,
    limit: int = LIMIT,
) -> Page:
    """What has ever had the shape of a pattern.

    Not `exhaustive`: only versions that changed a line with the pattern's words are looked at. What takes longer than
    `budget` seconds is left out, and said.
    """
    touched = None if exhaustive or not pattern.line else _touched(index, pattern, wanted)

    def at(project: str, path: bytes) -> bool:
        return wanted.has(project, path, pattern.language) and (touched is None or (project, path) in touched)

    files: dict[tuple[str, bytes, bool], list[Change]] = defaultdict(list)
    wanted_changes = [
        change
        for change in index.changes(at=at)
        if not change.settled and (touched is None or change.version in touched[change.project, change.path])
    ]
    known = index.catalog.versions({change.version for change in wanted_changes})
    for change in wanted_changes:
        # A project's snapshots and its commits are two histories.
        files[change.project, change.path, known[change.version].snapshot].append(change)
    found: list[Found] = []
    end = now() + budget
    left = 0
    with index.reader() as read:

        def in_time(version: int, blob: bytes) -> bytes | None:
            if now() > end:
                raise TimeoutError
            return read(version, blob)

        # What changed last is what is asked about most.
        for changes in sorted(files.values(), key=lambda changes: -changes[-1].version):
            try:
                lives = list(pattern.lives(changes, in_time, whole=touched is None))
            except TimeoutError:
                left += 1
                continue
            for life in lives:
                one = Found(
                    life.project,
                    life.path,
                    life.line,
                    life.text.encode(),
                    index.version(life.introduced),
                    tuple(map(index.version, life.modified)),
                    None if life.removed is None else index.version(life.removed),
                    (),
                    "structure",
                    "",
                    pattern.language,
                )
                if wanted.fits(one):
                    found.append(one)
    found = _once(found)
    homes: dict[bytes, set[str]] = defaultdict(set)
    for one in found:
        homes[one.text].add(one.project)
    found.sort(key=lambda one: (is_foreign(one.path), one.removed is not None, -one.introduced.time.timestamp()))
    notes = []
    if left:
        notes.append(f"{left} of {len(files)} files were not looked at for want of time; --exhaustive looks at all")
    return Page(
        len(found),
        tuple(replace(one, projects=tuple(sorted(homes[one.text]))) for one in found[:limit]),
        tuple(notes),
    )


def _once(found: list[Found]) -> list[Found]:
    """What snapshots and commits both have is told once: as of the one that had it first."""
    best: dict[tuple[str, bytes, bytes, bool], Found] = {}
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: one.introduced.time):
        same = best.setdefault((one.project, one.path, one.text, one.removed is None), one)
        if same.introduced.snapshot == one.introduced.snapshot:
            kept.append(one)
    return kept


def _touched(index: Index, pattern: Pattern, wanted: Wanted) -> dict[tuple[str, bytes], set[int]]:
    """The versions of each file in which a line changed that has the pattern's words."""
    from gitvault.personas.code.search.model import Query

    query = Query(pattern.line, projects=tuple(wanted.projects or ()))
    touched: dict[tuple[str, bytes], set[int]] = defaultdict(set)
    for hit in index.find(query):
        if wanted.has(hit.project, hit.path, pattern.language):
            versions = (hit.introduced, *hit.modified, hit.removed)
            touched[hit.project, hit.path].update(version.number for version in versions if version)
    return touched


def _versions(events: Iterable[Event]) -> list[int]:
    return sorted({event.version for event in events})


def _line(content: bytes | None, number: int) -> bytes:
    lines = (content or b"").splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else b""
