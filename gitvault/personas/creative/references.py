"""What files refer to: links with where they lead, and what follows from them.

`Library` looks files through and remembers; `relocate` and `carried` are what is done with it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gitvault.core.models import Problem
from gitvault.core.utils.files import Disk, open_plain
from gitvault.errors import UnsupportedMedia
from gitvault.formats.confined import Confined
from gitvault.formats.references import paths
from gitvault.formats.references.scan import may_refer

_CACHE = "references.msgpack"
_VERSION = 1
_CACHE_LIMIT = 256 << 20
# Nothing that an artist made is in these.
_SKIPPED = frozenset({".git", ".hg", ".svn"})
HINT = "hint"
"""The kind of a reference that an application only follows when it does not find what another one names."""


@dataclass(frozen=True, slots=True)
class Link:
    """A reference of a file on this disk."""

    source: str
    """The file that has it; absolute, as all paths here."""
    element: str
    """What of the file names it."""
    target: str
    """As it is written there."""
    kind: str
    resolved: str | None
    """Where it leads; None: to no file (a web address), or to one that only the application knows."""
    exists: bool | None
    """None where `resolved` is."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Files with the same content."""

    hash: str
    """SHA-256."""
    size: int
    """Of each."""
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Files and what they need."""

    needs: dict[str, list[str]]
    """Of each file the files that it names itself and that are there; every file is a key."""
    missing: list[Link]
    problems: list[Problem] = field(default_factory=list)

    @property
    def used_by(self) -> dict[str, list[str]]:
        """Of each file those that name it."""
        users: dict[str, list[str]] = {path: [] for path in self.needs}
        for path, needed in self.needs.items():
            for other in needed:
                users[other].append(path)
        return users


def reached(edges: dict[str, list[str]], starts: Iterable[str]) -> list[str]:
    """All that edges lead to, however far, without the starts unless they lead back."""
    seen: dict[str, None] = {}
    pending = [other for start in starts for other in edges.get(start, ())]
    while pending:
        path = pending.pop()
        if path not in seen:
            seen[path] = None
            pending += edges.get(path, ())
    return sorted(seen)


def cycles(edges: dict[str, list[str]]) -> list[list[str]]:
    """Files that need each other, each once."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    held: dict[str, None] = {}
    found = []
    for start in edges:
        work = [(start, iter(edges[start]))] if start not in number else []
        while work:
            path, others = work[-1]
            if path not in number:
                number[path] = low[path] = len(number)
                held[path] = None
            for other in others:
                if other not in number:
                    work.append((other, iter(edges[other])))
                    break
                if other in held:
                    low[path] = min(low[path], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[path])
                if low[path] == number[path]:
                    together = list(held)[list(held).index(path) :]
                    for one in together:
                        del held[one]
                    if len(together) > 1 or path in edges[path]:
                        found.append(sorted(together))
    return sorted(found)


def duplicates(files: Iterable[str]) -> list[Duplicate]:
    """Those of the files that have the same content, the largest first; what cannot be read is none."""
    by_size: dict[int, list[str]] = {}
    for path in sorted(set(files)):
        with suppress(OSError):
            found = os.stat(path)
            if stat.S_ISREG(found.st_mode) and found.st_size:
                by_size.setdefault(found.st_size, []).append(path)
    same: dict[tuple[int, str], list[str]] = {}
    for size, alike in by_size.items():
        for path in alike if len(alike) > 1 else ():
            with suppress(OSError), open(path, "rb") as file:
                same.setdefault((size, hashlib.file_digest(file, "sha256").hexdigest()), []).append(path)
    groups = [Duplicate(digest, size, tuple(them)) for (size, digest), them in same.items() if len(them) > 1]
    return sorted(groups, key=lambda group: (-group.size * (len(group.files) - 1), group.files))


def shared(graph: Graph, projects: Sequence[str]) -> int:
    """Bytes that are saved because projects (folders) name the same files instead of having a copy each."""
    users: dict[str, int] = {}
    for project in projects:
        own = [path for path in graph.needs if is_below(path, project)]
        for path in reached(graph.needs, own):
            if not is_below(path, project):
                users[path] = users.get(path, 0) + 1
    saved = 0
    for path, count in users.items():
        inside = any(is_below(path, project) for project in projects)
        with suppress(OSError):
            saved += os.stat(path).st_size * (count if inside else count - 1)
    return saved


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, both absolute."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def files_in(folder: str) -> Iterator[str]:
    """The files of a folder, however deep, without those of version control; symlinks to folders are not followed."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (os.path.join(at, name) for name in sorted(names))


class Library:
    """Files looked through for references, in a process of its own; unchanged ones only once, with a `cache` folder.

    The cache may be deleted. Close it, which saves the cache, or use it as a context manager.
    """

    def __init__(self, cache: Path | None = None, disk: Disk | None = None) -> None:
        self._cache = cache / _CACHE if cache else None
        self._disk = disk or Disk()
        self._reader = Confined()
        self._known: dict[str, list[object]] = {}
        self._changed = False
        self._guids: dict[str, dict[str, str]] = {}
        self.read = 0
        """Files that were looked through, not remembered."""
        if self._cache:
            self._known = self._load(self._cache)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, save the cache."""
        self._reader.close()
        if self._cache and self._changed:
            import msgpack

            data = msgpack.packb([_VERSION, self._known], unicode_errors="surrogateescape")
            # Without it everything is looked through again, which is no harm.
            with suppress(OSError):
                self._disk.make_folder(self._cache.parent)
                self._disk.write_durably(self._cache, data)
            self._changed = False

    def _load(self, path: Path) -> dict[str, list[object]]:
        import msgpack

        with suppress(OSError, ValueError, TypeError, msgpack.UnpackException), open_plain(path) as file:
            version, known = msgpack.unpackb(
                file.read(_CACHE_LIMIT), unicode_errors="surrogateescape", strict_map_key=False
            )
            if version == _VERSION and isinstance(known, dict):
                return known
        return {}

    def references(self, path: str) -> tuple[str, list[list[str]]]:
        """A file's format, empty for one that names no others, and of each reference its source, target and kind.

        Raises UnsupportedMedia for one that cannot be read, OSError.
        """
        if not may_refer(os.path.splitext(path)[1].lower()):
            return "", []
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return "", []
        state = [found.st_size, found.st_mtime_ns, found.st_ino]
        known = self._known.get(path)
        if known is None or known[:3] != state:
            self.read += 1
            try:
                known = [*state, *self._reader.call("gitvault.formats.references.scan:scan", path)]
            except UnsupportedMedia as error:
                # Looked through once, too: what is damaged stays so until it is changed.
                known = [*state, None, str(error)]
            self._known[path] = known
            self._changed = True
        if known[3] is None:
            raise UnsupportedMedia(str(known[4]))
        return known[3], known[4]  # type: ignore[return-value]

    def links(self, path: str) -> list[Link]:
        """What a file refers to. Raises as `references`."""
        format_name, found = self.references(path)
        return [self._link(path, format_name, *one) for one in found]

    def _link(self, path: str, format_name: str, element: str, target: str, kind: str) -> Link:
        if target.startswith("guid:"):
            resolved = self._by_guid(path, target)
            there: bool | None = resolved is not None
        else:
            resolved, _ = paths.meaning(target, path, format_name, paths.exists)
            there = None if resolved is None else paths.exists(resolved)
        return Link(path, element, target, kind, resolved, there)

    def _by_guid(self, path: str, target: str) -> str | None:
        root = paths.project_root(path, "unity")
        if root is None:
            return None
        if root not in self._guids:
            known = self._guids[root] = {}
            for name in files_in(root):
                if name.endswith(".meta"):
                    with suppress(OSError), open(name, "rb") as file:
                        head = file.read(200).partition(b"guid: ")[2][:32].decode("ascii", "replace")
                        known[head] = name.removesuffix(".meta")
        return self._guids[root].get(target.removeprefix("guid:"))

    def all_links(self, starts: Iterable[str], problems: list[Problem]) -> Iterator[Link]:
        """What files, and the files in folders, refer to. What cannot be read is added to `problems`."""
        for start in starts:
            for path in files_in(start) if os.path.isdir(start) else (start,):
                yield from self._links_or_problem(path, problems)

    def _links_or_problem(self, path: str, problems: list[Problem]) -> list[Link]:
        try:
            return self.links(path)
        except UnsupportedMedia as error:
            problems.append(Problem(os.fsencode(path), str(error)))
        except OSError as error:
            # A symlink that leads nowhere, or what was removed meanwhile.
            problems.append(Problem(os.fsencode(path), f"cannot be read: {error.strerror}"))
        return []

    def graph(self, starts: Iterable[str]) -> Graph:
        """Files, the files in folders, and all that they need, however far. Circles are walked once."""
        graph = Graph({}, [])
        pending = [path for start in starts for path in (files_in(start) if os.path.isdir(start) else (start,))]
        while pending:
            path = pending.pop()
            if path in graph.needs:
                continue
            needs: dict[str, None] = {}
            for link in self._links_or_problem(path, graph.problems):
                if link.resolved and link.exists:
                    needs |= dict.fromkeys(paths.members(link.resolved, link.kind))
                elif link.exists is False and link.kind != HINT:
                    graph.missing.append(link)
            graph.needs[path] = list(needs)
            pending += needs
        graph.missing.sort(key=lambda link: (link.source, link.target))
        return graph
