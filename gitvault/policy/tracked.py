"""What version control tracks, read from its own files: git's index, Mercurial's dirstate, Subversion's wc.db.

Only paths are read. No program is started: 50,000 tracked files take 25 ms.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

from gitvault.core.utils.files import open_source

MARKS = frozenset((".git", ".hg", ".svn"))
"""The entries that make a folder the top of a work tree."""

_LONGEST = 1 << 28
"""Bytes of an index: 2 million files."""


class Unreadable(Exception):
    """What is tracked cannot be told; nothing may be left out on version control's word."""


class Tracked:
    """The tracked names of each folder of a work tree; a folder counts when something below it is tracked."""

    def __init__(
        self, paths: Iterable[bytes], source: str, *, whole: Iterable[bytes] = (), reads_gitignore: bool = False
    ) -> None:
        """`paths` from the work tree's top; `whole`: folders that the list does not look into."""
        self.source = source
        self.reads_gitignore = reads_gitignore
        self.whole = frozenset(whole)
        self._names: dict[bytes, set[bytes]] = {}
        self._digests: dict[bytes, bytes] = {}
        names = self._names
        paths = list(paths)
        joined = b"\0".join((*sorted(self.whole), b"", *paths))
        self.whole_digest = hashlib.sha1(joined, usedforsecurity=False).digest()
        """Changes when anything of what is tracked does."""
        last, held = None, set[bytes]()
        for path in paths:
            folder, _, name = path.rpartition(b"/")
            if folder != last:
                last = folder
                known = names.get(folder)
                held = self._folder(folder) if known is None else known
            held.add(name)

    def _folder(self, folder: bytes) -> set[bytes]:
        made = self._names[folder] = set()
        while folder:
            folder, _, name = folder.rpartition(b"/")
            known = self._names.get(folder)
            if known is not None:
                known.add(name)
                break
            self._names[folder] = {name}
        return made

    def has(self, folder: bytes, name: bytes) -> bool:
        """Whether a name in a folder is tracked, or something below it."""
        return name in self._names.get(folder, ())

    def digest(self, folder: bytes) -> bytes:
        """Changes when what is tracked in the folder does."""
        names = self._names.get(folder)
        if not names:
            return b""
        if folder not in self._digests:
            joined = b"\0".join(sorted(names))
            self._digests[folder] = hashlib.sha1(joined, usedforsecurity=False).digest()
        return self._digests[folder]


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

    def tracked(self) -> Tracked:
        """What the index holds. Raises Unreadable."""
        source = os.path.join(self.folder, "index")
        try:
            data = read_small(source, _LONGEST)
        except FileNotFoundError:
            return Tracked((), source, reads_gitignore=True)
        except OSError as error:
            raise Unreadable(f"{source}: {error.strerror or error}") from error
        whole: list[bytes] = []
        try:
            paths = list(_index_paths(data, whole))
            if shared := _shared_index(data):
                paths += _index_paths(read_small(os.path.join(self.folder, f"sharedindex.{shared}"), _LONGEST), whole)
        except (IndexError, ValueError, OSError) as error:
            raise Unreadable(f"{source}: not an index that can be read: {error}") from error
        return Tracked(paths, source, whole=whole, reads_gitignore=True)


def _index_paths(data: bytes, whole: list[bytes]) -> Iterator[bytes]:
    """The paths of an index, versions 2 to 4; folders that a sparse one does not list go to `whole`."""
    version = int.from_bytes(data[4:8], "big")
    if data[:4] != b"DIRC" or version not in (2, 3, 4):
        raise ValueError(f"begins with {data[:4]!r}, version {version}")
    count = int.from_bytes(data[8:12], "big")
    # Before the name there are ten numbers, a hash and two bytes of flags.
    flags = 40 + _hash_width(data)
    at, previous = 12, b""
    find = data.find
    for _ in range(count):
        start = at + flags + 2
        if version > 2 and data[at + flags] & 0x40:
            start += 2
        if version == 4:
            strip = 0
            while (byte := data[start]) & 0x80:
                strip = (strip + (byte & 0x7F) + 1) << 7
                start += 1
            strip += byte
            start += 1
            end = find(b"\0", start)
            path = previous[: len(previous) - strip] + data[start:end]
            previous = path
            at = end + 1
        else:
            end = find(b"\0", start)
            path = data[start:end]
            # Padded with 1 to 8 NULs to a multiple of eight.
            at += (end - at + 8) & ~7
        if end < 0:
            raise ValueError("ends in the middle of an entry")
        if path[-1:] == b"/":
            path = path[:-1]
            whole.append(path)
        if path:
            yield path
        elif b"link" not in data:
            # Only an index that adds to another one has entries without a name.
            raise ValueError("an entry has no name")


def _hash_width(data: bytes) -> int:
    """20 for SHA-1, 32 for SHA-256: the file's end is its own hash, or zeros."""
    for width, algorithm in ((20, hashlib.sha1), (32, hashlib.sha256)):
        tail = data[-width:]
        if tail == algorithm(data[:-width], usedforsecurity=False).digest():
            return width
    if data[-20:] == bytes(20):
        # index.skipHash: told by nothing but the entries' shape; SHA-256 is rare enough to say so.
        return 20
    raise ValueError("its checksum is wrong")


def _shared_index(data: bytes) -> str:
    """The hex name of the index that a split one adds to."""
    width = _hash_width(data)
    at = data.rfind(b"link\0\0\0", 0, len(data) - width)
    if at < 0:
        return ""
    name = data[at + 8 : at + 8 + width]
    return name.hex() if any(name) else ""


def hg_tracked(top: str) -> Tracked:
    """What Mercurial's dirstate holds. Raises Unreadable."""
    source = os.path.join(top, ".hg", "dirstate")
    try:
        data = read_small(source, _LONGEST)
    except FileNotFoundError:
        return Tracked((), source)
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
    return Tracked(paths, source)


def svn_tracked(top: str) -> Tracked:
    """What Subversion's wc.db holds. Raises Unreadable."""
    import sqlite3

    source = os.path.join(top, ".svn", "wc.db")
    query = "SELECT DISTINCT local_relpath FROM nodes WHERE presence IN ('normal', 'incomplete', 'map') ORDER BY 1"
    try:
        with closing(sqlite3.connect(f"{Path(source).as_uri()}?mode=ro", uri=True, timeout=0)) as db:
            paths = [os.fsencode(path) for (path,) in db.execute(query) if path]
    except sqlite3.Error as error:
        raise Unreadable(f"{source}: {error}") from error
    return Tracked(paths, source)
