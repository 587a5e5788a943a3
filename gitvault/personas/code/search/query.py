"""Asking the index: from the lines that fit to their lives at paths, and to the versions that git's pickaxe names."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gitvault.core.patterns import Patterns
from gitvault.errors import GitVaultError
from gitvault.personas.code.search.catalog import Catalog
from gitvault.personas.code.search.history import NONE
from gitvault.personas.code.search.lines import in_runs
from gitvault.personas.code.search.model import Change, Hit, Query, Version
from gitvault.personas.code.search.pattern import Pattern
from gitvault.personas.code.search.segments import BINARY, SETTLED, UNREAD, Segment, linked

LIMIT = 30.0
"""Seconds of the processor after which a search is given up."""
MOST = 500_000
"""Different lines that are looked at for their lives: with more the search would take over 400 MiB."""
Read = Callable[[int, bytes], bytes | None]
"""Reads a blob of the repository that has this version."""

_Array = npt.NDArray[Any]
_BATCH = 512
# Versions that are asked for one by one, rather than all.
_SOME = 4000


def _unique(numbers: _Array) -> _Array:
    """Sorted, each once: by marking where there are many, which takes a tenth of the time of sorting them."""
    if len(numbers) < _SOME:
        return np.unique(numbers)
    marks = np.zeros(int(numbers.max()) + 1, np.bool_)
    marks[numbers] = True
    return np.flatnonzero(marks)


class _States:
    """What is known of versions, by number; the line of those that do not count is negative."""

    def __init__(self, catalog: Catalog, versions: _Array) -> None:
        """`versions`: those that will be asked about."""
        some = _unique(versions)
        # A search for something rare does not wait for 70,000 rows, 80 ms.
        known = catalog.states(some.tolist() if len(some) < _SOME else None)
        rows = np.array(known, np.int64).reshape(-1, 4)
        size = int(max(np.max(rows[:, 0], initial=0), np.max(some, initial=0))) + 1
        self.line = np.full(size, -1, np.int32)
        self.source = np.zeros(size, np.int32)
        self.time = np.zeros(size, np.int64)
        self.line[rows[:, 0]], self.source[rows[:, 0]], self.time[rows[:, 0]] = rows[:, 1], rows[:, 2], rows[:, 3]
        sources = catalog.sources()
        places = {(source.project, source.folder): at for at, source in sources.items() if not source.branch}
        self._joined = {
            at: places[source.project, source.checkout]
            for at, source in sources.items()
            if source.checkout and (source.project, source.checkout) in places
        }

    def counts(self, versions: _Array) -> _Array:
        """Which of these versions count."""
        found: _Array = self.line[versions] >= 0
        return found

    def lines(self, versions: _Array) -> _Array:
        """The line of history of each of these: a checkout's snapshots are on the line of its commits."""
        source = self.source[versions].astype(np.int64)
        for snapshots, commits in self._joined.items():
            source[source == snapshots] = commits
        found: _Array = (source << 24) + self.line[versions]
        return found

    def order(self, versions: _Array) -> _Array:
        """What rises along each line of history: the time, but never less than before."""
        if not self._joined:
            return versions
        unique = np.unique(versions)
        times = self.time[unique].copy()
        line = (self.source[unique].astype(np.int64) << 24) + self.line[unique]
        for one in np.unique(line).tolist():
            times[line == one] = np.maximum.accumulate(times[line == one])
        found: _Array = times[np.searchsorted(unique, versions)]
        return found


class _Events(NamedTuple):
    """Events of lines that fit, a row each, of all segments."""

    texts: list[bytes]
    times: _Array
    """Of each of `texts`: how often the pattern is in it."""
    text: _Array
    """Place in `texts`."""
    path: _Array
    version: _Array
    kind: _Array
    by: _Array
    """By how many lines the new file has more."""
    blobs: _Array
    """Old and new, shape (rows, 2, 20)."""

    def where(self, keep: _Array) -> _Events:
        """These rows."""
        return _Events(self.texts, self.times, *(column[keep] for column in self[2:]))


class _Block(NamedTuple):
    """The lines of a block that fit."""

    text: bytes
    rows: _Array
    """Their numbers in the segment."""
    starts: _Array
    ends: _Array
    times: _Array
    """How often the pattern is in each."""


def _blocks(segment: Segment, pattern: Pattern, deadline: float) -> Iterator[_Block]:
    firsts = segment["first"]
    for block, text in segment.texts(segment.candidates(pattern.required)):
        if time.process_time() > deadline:
            raise GitVaultError(f"stopped after {LIMIT:g} seconds of work; search for more, or for something simpler")
        places = pattern.places(text)
        if not places:
            continue
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10)
        rows, times = np.unique(np.searchsorted(ends, places), return_counts=True)
        yield _Block(text, rows + int(firsts[block]), np.where(rows > 0, ends[rows - 1] + 1, 0), ends[rows], times)


def _matching(segments: Iterable[Segment], pattern: Pattern) -> _Events:
    deadline = time.process_time() + LIMIT
    numbers: dict[bytes, int] = {}
    often: list[int] = []
    parts: list[tuple[_Array, ...]] = []
    for segment in segments:
        lines: list[_Array] = []
        local: list[int] = []
        for text, rows, starts, ends, times in _blocks(segment, pattern, deadline):
            lines.append(rows)
            for start, end, some in zip(starts.tolist(), ends.tolist(), times.tolist(), strict=True):
                line = text[start:end]
                number = numbers.setdefault(line, len(numbers))
                if number == len(often):
                    often.append(some)
                local.append(number)
            if len(numbers) > MOST:
                raise GitVaultError(
                    f"more than {MOST:,} different lines fit; search for something rarer, or use -S or -G"
                )
        if not lines:
            continue
        which, change, by = segment.events(np.concatenate(lines))
        columns = (segment[name][change] for name in ("path", "version", "kind"))
        blobs = np.stack([segment["old"][change], segment["new"][change]], axis=1)
        parts.append((np.array(local, np.int64)[which], *columns, by, blobs))
    if not parts:
        none = np.zeros(0, np.int64)
        return _Events([], none, none, none, none, none, none, np.zeros((0, 2, 20), np.uint8))
    *numeric, blobs = (np.concatenate(part) for part in zip(*parts, strict=True))
    text_of, path, version, kind, by = (column.astype(np.int64) for column in numeric)
    return _Events(list(numbers), np.array(often, np.int64), text_of, path, version, kind, by, blobs)


def _chosen(catalog: Catalog, query: Query, path: _Array) -> _Array:
    """Which of these rows are at a path that is asked about."""
    if not query.projects and not query.paths:
        return np.ones(len(path), np.bool_)
    patterns = Patterns(query.paths)
    unique, where = np.unique(path, return_inverse=True)
    known = catalog.paths(unique.tolist())

    def fits(number: int) -> bool:
        project, name = known[number]
        if query.projects and project not in query.projects:
            return False
        return not query.paths or _below(patterns, name)

    found: _Array = np.array([fits(number) for number in unique.tolist()], np.bool_)[where]
    return found


def _below(patterns: Patterns, path: bytes) -> bool:
    """Whether a pattern means a path or a folder above it."""
    parts = path.split(b"/")
    folders = (b"/".join(parts[:depth]) for depth in range(1, len(parts)))
    return (
        any(patterns.excluded_by(folder, True) for folder in folders) or patterns.excluded_by(path, False) is not None
    )


class Found:
    """The lines that fit, as hits: those that are there first, then by when they came, the newest first."""

    def __init__(self, catalog: Catalog, segments: Sequence[Segment], events: _Events, query: Query) -> None:
        self._catalog = catalog
        self._segments = segments
        self._states = _States(catalog, events.version)
        self._texts = events.texts
        keep = self._states.counts(events.version) & (events.kind & BINARY == 0)
        keep[keep] = _chosen(catalog, query, events.path[keep])
        self._events = events.where(keep)
        self._lives()
        self._order(query)

    def __len__(self) -> int:
        return len(self._heads)

    def _lives(self) -> None:
        """A life: a text at a path on a line of history, from the version that brought it until it was gone."""
        e, states = self._events, self._states
        line = states.lines(e.version)
        order = np.lexsort((e.version, states.order(e.version), line, e.path, e.text))
        text, path, line, version, count = (a[order] for a in (e.text, e.path, line, e.version, e.by))
        group = np.ones(len(text), np.bool_)
        group[1:] = (text[1:] != text[:-1]) | (path[1:] != path[:-1]) | (line[1:] != line[:-1])
        total = np.cumsum(count)
        number = np.cumsum(group) - 1
        base = (total - count)[group][number] if len(text) else total
        now = total - base
        before = now - count
        starts = np.flatnonzero((now > 0) & (before <= 0))
        ends = np.flatnonzero((now <= 0) & (before > 0))
        nearest = np.searchsorted(ends, starts)
        end = np.append(ends, len(text))[nearest]
        over = (end < len(text)) & (np.append(number, -1)[end] == number[starts])
        self._start, self._end = order[starts], np.where(over, np.append(order, -1)[end], -1)
        self._text, self._path, self._line = text[starts], path[starts], line[starts]
        self._from = version[starts]
        self._to = np.where(over, np.append(version, -1)[end], -1)
        self._next = self._linked()

    def _linked(self) -> _Array:
        """Of each life the one that takes its place at its path in the version that ends it; -1 for none."""
        follows = np.full(len(self._from), -1, np.int64)
        ended = np.flatnonzero(self._to >= 0)
        if not len(ended):
            return follows
        lines, line = np.unique(self._line, return_inverse=True)
        places = self._path * len(lines) + line
        size = len(self._states.line)
        # Of several that go and several that come, the first takes the place of the first.
        went = _ranked(places[ended] * size + self._to[ended])
        came = _ranked(places * size + self._from)
        order = np.lexsort(came[::-1])
        keys = came[0][order] * (len(came[1]) + 1) + came[1][order]
        wanted = went[0] * (len(came[1]) + 1) + went[1]
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        same = (keys[at] == wanted) & (went[1] <= len(came[1]))
        follows[ended[same]] = order[at[same]]
        return follows

    def _order(self, query: Query) -> None:
        size = len(self._from)
        head = np.ones(size, np.bool_)
        head[self._next[self._next >= 0]] = False
        last = np.where(self._next >= 0, self._next, np.arange(size))
        while not np.array_equal(further := last[last], last):
            last = further
        self._last = last
        heads = self._once(np.flatnonzero(head))
        heads = heads[self._asked(query, heads)]
        came = self._states.time[self._from[heads]]
        self._heads = heads[np.lexsort((-came, self._to[last[heads]] >= 0))]

    def _once(self, heads: _Array) -> _Array:
        """A text that several lines of history have at a path is told once: as of the one that had it first."""
        if len(np.unique(self._line[heads])) < 2:
            return heads
        came = self._states.time[self._from[heads]]
        order = np.lexsort((self._line[heads], came))
        key = np.stack([self._text[self._last[heads]], self._path[heads], self._to[self._last[heads]] >= 0])[:, order]
        _, first, inverse = np.unique(key, axis=1, return_index=True, return_inverse=True)
        lines = self._line[heads][order]
        # One that goes and comes again on one line has a life each time.
        chosen = lines == lines[first][inverse.reshape(-1)]
        kept: _Array = heads[order[chosen]]
        return kept

    def _asked(self, query: Query, heads: _Array) -> _Array:
        """Which of these the query's filters let through."""
        came, went = self._from[heads], self._to[self._last[heads]]
        keep = np.ones(len(heads), np.bool_)
        if query.alive:
            keep &= went < 0
        if query.removed:
            keep &= went >= 0
        if query.since or query.until:
            least = query.since.timestamp() if query.since else -np.inf
            most = query.until.timestamp() if query.until else np.inf
            times = self._states.time
            new = (times[came] >= least) & (times[came] <= most)
            gone = (went >= 0) & (times[went] >= least) & (times[went] <= most)
            both = query.introduced == query.removed
            keep &= new | gone if both else new if query.introduced else gone
        return keep

    def __iter__(self) -> Iterator[Hit]:
        for at in range(0, len(self._heads), _BATCH):
            yield from self._hits(self._heads[at : at + _BATCH].tolist())

    def _hits(self, heads: Sequence[int]) -> Iterator[Hit]:
        lives: list[list[int]] = []
        for life in heads:
            chain = [life]
            while (following := int(self._next[chain[-1]])) >= 0:
                chain.append(following)
            lives.append(chain)
        ends = [chain[-1] for chain in lives]
        paths = self._catalog.paths({int(self._path[life]) for life in heads})
        tips = self._tips
        numbers = {int(self._from[life]) for chain in lives for life in chain}
        numbers |= {int(self._to[life]) for life in ends} | {tips[path][0] for path in paths if path in tips}
        versions = self._catalog.versions(numbers - {-1})
        homes = self._homes
        for chain, end in zip(lives, ends, strict=True):
            came, *more = (versions[int(self._from[life])] for life in chain)
            number = int(self._path[end])
            project, path = paths[number]
            gone = int(self._to[end])
            if gone >= 0:
                last, blob = gone, self._events.blobs[self._end[end], 0]
            elif number in tips and tips[number][0] >= int(self._from[end]):
                last, blob = tips[number]
            else:
                last, blob = int(self._from[end]), self._events.blobs[self._start[end], 1]
            text = int(self._text[end])
            yield Hit(
                project, path, self._texts[text], came, tuple(more), versions.get(gone), homes[text],
                bytes(blob), versions[last],
            )  # fmt: skip

    @cached_property
    def _homes(self) -> dict[int, tuple[str, ...]]:
        """The projects of each text."""
        unique, where = np.unique(self._path, return_inverse=True)
        known = self._catalog.paths(unique.tolist())
        names = sorted({project for project, _ in known.values()})
        place = {name: at for at, name in enumerate(names)}
        of = np.array([place[known[number][0]] for number in unique.tolist()], np.int64)[where.reshape(-1)]
        pairs = np.unique(self._text * len(names) + of) if len(of) else of
        found: dict[int, tuple[str, ...]] = {}
        for pair in pairs.tolist():
            text, at = divmod(pair, len(names))
            found[text] = (*found.get(text, ()), names[at])
        return found

    @cached_property
    def _tips(self) -> dict[int, tuple[int, bytes]]:
        """Of each path the newest version on a first line that changed it, and the blob it has since."""
        wanted = _unique(self._path)
        found: dict[int, tuple[int, bytes]] = {}
        for segment in self._segments:
            rows = np.flatnonzero(np.isin(segment["path"], wanted))
            versions = segment["version"][rows].astype(np.int64)
            keep = _States(self._catalog, versions).line[versions] == 0
            rows, versions = rows[keep], versions[keep]
            paths = segment["path"][rows]
            order = np.lexsort((versions, paths))
            newest = np.ones(len(order), np.bool_)
            newest[:-1] = paths[order][1:] != paths[order][:-1]
            for row in order[newest].tolist():
                path, version = int(paths[row]), int(versions[row])
                if found.get(path, (-1, b""))[0] < version:
                    found[path] = version, bytes(segment["new"][rows[row]])
        return found


def _ranked(keys: _Array) -> tuple[_Array, _Array]:
    """Keys, and the place of each among those that are the same."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.ones(len(keys), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    begin = np.flatnonzero(first)
    rank = np.empty(len(keys), np.int64)
    rank[order] = np.arange(len(keys)) - begin[np.cumsum(first) - 1]
    return keys, rank


def find(catalog: Catalog, segments: Sequence[Segment], query: Query) -> Found:
    """The lines that fit. Raises GitVaultError for a pattern that does not compile or takes too long."""
    return Found(catalog, segments, _matching(segments, Pattern(query)), query)


def pickaxe(catalog: Catalog, segments: Sequence[Segment], query: Query, read: Read) -> list[Version]:
    """See Index.pickaxe."""
    pattern = Pattern(query)
    if query.fixed and "\n" in query.text:
        found = _counted(catalog, segments, query, _near(segments, query), read)
    else:
        found = _differing(catalog, segments, query, pattern)
        if query.fixed and not in_runs(pattern.raw):
            found |= _counted(catalog, segments, query, None, read)
    return _newest_first(catalog, found)


def _differing(catalog: Catalog, segments: Iterable[Segment], query: Query, pattern: Pattern) -> set[int]:
    """The versions with more or fewer of the text in a file, or with more or fewer of a line that fits."""
    deadline = time.process_time() + LIMIT
    unwanted = SETTLED if query.fixed and in_runs(pattern.raw) else SETTLED | BINARY
    found: set[int] = set()
    # A version's change of a path is in one segment, so that each can be looked at alone.
    for segment in segments:
        blocks = [(rows, times) for _, rows, _, _, times in _blocks(segment, pattern, deadline)]
        if not blocks:
            continue
        rows, times = (np.concatenate(part) for part in zip(*blocks, strict=True))
        which, change, by = segment.events(rows)
        changes = np.flatnonzero(np.bincount(change, weights=by * times[which])) if query.fixed else _unique(change)
        changes = changes[segment["kind"][changes] & unwanted == 0]
        versions = segment["version"][changes].astype(np.int64)
        keep = _States(catalog, versions).counts(versions)
        keep[keep] = _chosen(catalog, query, segment["path"][changes[keep]])
        found.update(_unique(versions[keep]).tolist())
    return found


def _newest_first(catalog: Catalog, numbers: set[int]) -> list[Version]:
    known = catalog.versions(numbers)
    states = _States(catalog, np.array(sorted(numbers), np.int64))
    chains: dict[tuple[int, int], list[Version]] = {}
    for number in sorted(known, reverse=True):
        chains.setdefault((int(states.source[number]), int(states.line[number])), []).append(known[number])
    # As git does: along each line, the newest of all lines first.
    return list(heapq.merge(*chains.values(), key=lambda version: version.time, reverse=True))


def _near(segments: Sequence[Segment], query: Query) -> _Array:
    """The numbers of the paths that ever had a line with the longest part of a text of several lines, or may have."""
    longest = max(query.text.split("\n"), key=len)
    if not longest:
        return np.unique(np.concatenate([segment["path"] for segment in segments] or [np.zeros(0, np.int64)]))
    # The lines of binary files are not known.
    binary = [segment["path"][segment["kind"] & BINARY != 0] for segment in segments]
    deadline = time.process_time() + LIMIT
    pattern = Pattern(replace(query, text=longest))
    found = [
        segment["path"][segment.events(block.rows)[1]]
        for segment in segments
        for block in _blocks(segment, pattern, deadline)
    ]
    return np.unique(np.concatenate([*found, *binary, np.zeros(0, np.uint32)]))


def _counted(catalog: Catalog, segments: Iterable[Segment], query: Query, paths: _Array | None, read: Read) -> set[int]:
    """The versions that changed how often a text is in a file at one of `paths`, or, None, in a binary one."""
    fold = bytes.lower if query.ignore_case else bytes
    text = fold(query.text.encode("utf-8", "surrogateescape"))
    found: set[int] = set()
    for segment in segments:
        chosen = segment["kind"] & BINARY != 0 if paths is None else np.isin(segment["path"], paths)
        rows = np.flatnonzero(chosen & (segment["kind"] & (UNREAD | SETTLED) == 0))
        rows = rows[_States(catalog, segment["version"][rows]).counts(segment["version"][rows])]
        rows = rows[_chosen(catalog, query, segment["path"][rows])]
        for row in rows[np.argsort(-segment["version"][rows].astype(np.int64))].tolist():
            version = int(segment["version"][row])
            kind = int(segment["kind"][row])
            old, new = linked(kind, bytes(segment["old"][row]), bytes(segment["new"][row]))
            before, after = (fold(read(version, blob) or b"").count(text) for blob in (old, new))
            if before != after:
                found.add(version)
    return found


def changes(
    catalog: Catalog, segments: Iterable[Segment], after: int, at: Callable[[str, bytes], bool] | None = None
) -> Iterator[Change]:
    """See Index.changes."""
    names = ("version", "path", "kind", "old", "new")
    parts = []
    for segment in segments:
        rows = np.flatnonzero(segment["version"] > after)
        rows = rows[_States(catalog, segment["version"][rows]).counts(segment["version"][rows])]
        parts.append([segment[name][rows] for name in names])
    if not parts:
        return
    version, path, kind, old, new = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    known = catalog.paths(_unique(path).tolist())
    chosen = np.array([number for number, where in known.items() if at is None or at(*where)], np.int64)
    rows = np.flatnonzero(np.isin(path, chosen))
    for row in rows[np.lexsort((path[rows], version[rows]))].tolist():
        ids = linked(int(kind[row]), bytes(old[row]), bytes(new[row]))
        before, now = (b"" if blob == NONE else blob for blob in ids)
        yield Change(int(version[row]), *known[int(path[row])], before, now, bool(kind[row] & SETTLED))
