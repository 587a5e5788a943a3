"""What version control tracks, read from its own files: git's index, Mercurial's dirstate, Subversion's wc.db.

Only paths are read. No program is started: 50,000 tracked files take 25 ms.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path

from gitvault.core.utils.files import open_source
from gitvault.core.versioning import index
from gitvault.core.versioning.index import UnreadableIndex
from gitvault.core.versioning.indexed import LONGEST, Indexes
from gitvault.policy.ignores import HgIgnore, svn_rules
from gitvault.policy.patterns import Rule

MARKS = frozenset((".git", ".hg", ".svn"))
"""The entries that make a folder the top of a work tree."""

# What a checkout says of its folders, then what was changed and not committed.
_PROPERTIES = (
    "SELECT local_relpath, properties FROM nodes WHERE kind = 'dir' AND presence = 'normal' AND length(properties) > 2"
    " UNION ALL SELECT local_relpath, properties FROM actual_node WHERE properties IS NOT NULL"
)
_IGNORE_LIMIT = 1 << 20


class Unreadable(Exception):
    """What is tracked cannot be told; nothing may be left out on version control's word."""


class Tracked:
    """The tracked names of each folder of a work tree; a folder counts when something below it is tracked."""

    def __init__(
        self,
        paths: Callable[[], Iterable[bytes]],
        source: str,
        *,
        whole: Iterable[bytes] = (),
        reads_gitignore: bool = False,
        digests: tuple[bytes, Callable[[bytes], bytes]] | None = None,
        ignored: HgIgnore | None = None,
        rules: Mapping[bytes, tuple[Rule, ...]] | None = None,
    ) -> None:
        """`paths` from the work tree's top, asked for when one is needed; `whole`: folders that they do not look into.

        `digests`: of all of them and by folder, where these are known without them. `ignored`: what is ignored by path;
        `rules`: what begins to hold in folders.
        """
        self.ignored = ignored
        self.rules = rules or {}
        self.source = source
        self.reads_gitignore = reads_gitignore
        self.whole = frozenset(whole)
        self._paths = paths
        self._known = digests
        self._digests: dict[bytes, bytes] = {}

    @cached_property
    def _names(self) -> dict[bytes, set[bytes]]:
        names: dict[bytes, set[bytes]] = {}
        last, held = None, set[bytes]()
        for path in self._paths():
            folder, _, name = path.rpartition(b"/")
            if folder != last:
                last = folder
                known = names.get(folder)
                held = _entered(names, folder) if known is None else known
            held.add(name)
        return names

    def has(self, folder: bytes, name: bytes) -> bool:
        """Whether a name in a folder is tracked, or something below it."""
        return name in self._names.get(folder, ())

    @cached_property
    def whole_digest(self) -> bytes:
        """Changes when anything of what is tracked does."""
        if self._known:
            return self._known[0]
        joined = b"\0".join((*sorted(self.whole), b"", *self._paths()))
        return hashlib.sha1(joined, usedforsecurity=False).digest()

    def digest(self, folder: bytes) -> bytes:
        """Changes when what is tracked in the folder does."""
        if self._known:
            return self._known[1](folder)
        names = self._names.get(folder)
        if not names:
            return b""
        if folder not in self._digests:
            joined = b"\0".join(sorted(names))
            self._digests[folder] = hashlib.sha1(joined, usedforsecurity=False).digest()
        return self._digests[folder]


def _entered(names: dict[bytes, set[bytes]], folder: bytes) -> set[bytes]:
    made = names[folder] = set()
    while folder:
        folder, _, name = folder.rpartition(b"/")
        known = names.get(folder)
        if known is not None:
            known.add(name)
            break
        names[folder] = {name}
    return made


def read_small(path: str, limit: int) -> bytes:
    """A plain file's bytes. Raises OSError, also for what is no plain file or longer than `limit`."""
    fd = open_source(path)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
            raise OSError(f"no plain file of at most {limit} bytes")
        with open(fd, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(fd)


class GitTop:
    """A git work tree, seen from its top folder."""

    def __init__(self, top: str) -> None:
        self.top = top

    @cached_property
    def folder(self) -> str:
        """The repository's own folder for this work tree; empty when `.git` leads to none."""
        path = os.path.join(self.top, ".git")
        if not os.path.isdir(path):
            try:
                said = read_small(path, 1 << 12)
            except OSError:
                return ""
            if not said.startswith(b"gitdir: "):
                return ""
            path = os.path.join(self.top, os.fsdecode(said[8:].rstrip(b"\r\n")))
        return path if os.path.lexists(os.path.join(path, "HEAD")) else ""

    @property
    def exclude(self) -> str:
        """The file with the patterns that are nobody else's."""
        try:
            common = os.fsdecode(read_small(os.path.join(self.folder, "commondir"), 1 << 12).rstrip(b"\r\n"))
        except OSError:
            common = "."
        return os.path.join(self.folder, common, "info", "exclude")

    def tracked(self, indexes: Indexes | None = None) -> Tracked:
        """What the index holds. Raises Unreadable."""
        source = os.path.join(self.folder, "index")
        with suppress(UnreadableIndex, OSError):
            found = (indexes or Indexes()).read(source)
            return Tracked(
                lambda: [entry.path.rstrip(b"/") for entry in found.entries],
                source,
                whole=found.whole,
                reads_gitignore=True,
                digests=(found.names, found.digest),
            )
        return self._otherwise(source)

    def _otherwise(self, source: str) -> Tracked:
        """What an index holds that is split, or of a repository with SHA-256."""
        try:
            data = read_small(source, LONGEST)
        except OSError as error:
            raise Unreadable(f"{source}: {error.strerror or error}") from error
        whole: list[bytes] = []
        try:
            paths = list(index.paths(data, whole))
            if shared := index.shared_index(data):
                paths += index.paths(read_small(os.path.join(self.folder, f"sharedindex.{shared}"), LONGEST), whole)
        except (IndexError, ValueError, OSError) as error:
            raise Unreadable(f"{source}: not an index that can be read: {error}") from error
        return Tracked(lambda: paths, source, whole=whole, reads_gitignore=True)


def hg_tracked(top: str) -> Tracked:
    """What Mercurial's dirstate holds. Raises Unreadable."""
    source = os.path.join(top, ".hg", "dirstate")
    try:
        data = read_small(source, LONGEST)
    except FileNotFoundError:
        return Tracked(tuple, source)
    except OSError as error:
        raise Unreadable(f"{source}: {error.strerror or error}") from error
    if data.startswith(b"dirstate-v2\n"):
        raise Unreadable(f"{source}: of the second kind, which only Mercurial reads")
    paths, at = [], 40
    while at + 17 <= len(data):
        length = int.from_bytes(data[at + 13 : at + 17], "big")
        state, name = data[at : at + 1], data[at + 17 : at + 17 + length]
        at += 17 + length
        if state not in (b"n", b"a", b"m", b"r") or at > len(data):
            raise Unreadable(f"{source}: not a dirstate that can be read")
        if state != b"r":
            paths.append(name.partition(b"\0")[0])
    return Tracked(lambda: paths, source, ignored=HgIgnore(top, lambda file: read_small(file, _IGNORE_LIMIT)))


def svn_tracked(top: str) -> Tracked:
    """What Subversion's wc.db holds. Raises Unreadable."""
    import sqlite3

    source = os.path.join(top, ".svn", "wc.db")
    query = "SELECT DISTINCT local_relpath FROM nodes WHERE presence IN ('normal', 'incomplete', 'map') ORDER BY 1"
    try:
        with closing(sqlite3.connect(f"{Path(source).as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            paths = [os.fsencode(path) for (path,) in db.execute(query) if path]
            # SQLite keeps whatever was put in: `bytes` of a number would be so many.
            listed = {os.fsencode(path): said for path, said in db.execute(_PROPERTIES) if isinstance(said, bytes)}
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise Unreadable(f"{source}: {error}") from error
    return Tracked(lambda: paths, source, rules=svn_rules(source, listed))
