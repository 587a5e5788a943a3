"""Small files read safely, hashed and deflated into a git pack.

Nearly every file is ordinary: it is what the walk saw, small, rests, has a plain name and nothing but bytes. A whole
slice of such files costs one loop and goes back as a few columns. Whatever else a file is, it is read on its own.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gitvault.core.backup_engine.secrets import secret
from gitvault.core.models import ObjectId
from gitvault.core.stat_cache import Known, Stat, pack_known, racy_ns, stat_of
from gitvault.core.storage.pointers import looks_like_pointer
from gitvault.core.utils.attributes import is_sparse, read_xattrs
from gitvault.core.utils.files import open_source
from gitvault.core.utils.kinds import SNIFF, is_binary
from gitvault.core.utils.names import is_harmless, is_special, tree_name
from gitvault.core.versioning import meta
from gitvault.core.versioning.objects import MODE_EXECUTABLE, MODE_FILE, object_id
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import PackWriter, deflate

ATTEMPTS = 4
# Before another look at a file that changed while it was read.
_UNSTABLE_NS = 50_000_000
# Names that stand as they are in trees, in the meta chain and on every system.
_ORDINARY = re.compile(rb"[0-9A-Za-z_+@-][0-9A-Za-z_+@ .-]*")

NOT_REGULAR = "stopped being a regular file while it was saved"
"""The problem with a file whose place something else has taken since the walk."""


class Outcome(NamedTuple):
    """What became of one file: saved as `blob`, or exactly one of `large`, `gone` and `problem`."""

    blob: bytes = b""
    line: str = ""
    """Its line for the meta chain."""
    stat: Stat | None = None
    """When the content was read; None: as the walk found it, which says its size, too."""
    size: int = 0
    """Of the content that was read, when there is a `stat`."""
    tree_name: bytes = b""
    """Where it is another than the file's."""
    torn: bool = False
    """It kept changing; `blob` is what the last attempt read."""
    large: bool = False
    """It belongs into the chunk store."""
    gone: bool = False
    problem: str = ""
    secret: str = ""
    """What kind of secret it looks like."""


class Job(NamedTuple):
    """One regular file to save."""

    path: bytes
    """Relative to the project's root."""
    expected: Stat
    """As the walk found it."""
    owner: tuple[int, int]
    """Of its folder."""
    attempt: int = 0
    """How often it was put off."""


class Slice(NamedTuple):
    """Regular files of one folder to save."""

    key: int
    """The folder's, for whoever wants them saved."""
    folder: bytes
    """Relative to the project's root."""
    owner: tuple[int, int]
    """Of the folder."""
    files: list[tuple[bytes, Stat]]
    """Names, each with the stat that the walk found."""
    attempt: int = 0
    """How often they were put off."""


class Batch(NamedTuple):
    """What became of a slice: three columns for its ordinary files, in their order, and the others by their place."""

    blobs: bytes
    """20 bytes each."""
    text: str
    """Their lines for the meta chain."""
    packed: bytes
    """For the stat cache, see `join_packed`."""
    odd: list[tuple[int, Outcome]]
    put_off: list[tuple[int, int]]
    """With the nanoseconds to wait."""

    def ordinary(self, part: Slice) -> list[tuple[bytes, Stat]]:
        """The ordinary files of the slice."""
        if not self.odd and not self.put_off:
            return part.files
        others = {place for place, _ in (*self.odd, *self.put_off)}
        return [file for place, file in enumerate(part.files) if place not in others]

    def rows(self, files: Iterable[tuple[bytes, Stat]]) -> Iterator[tuple[bytes, Stat, ObjectId, str]]:
        """Each of the `ordinary` files with its blob and its line."""
        blobs, lines = self.blobs, self.text.splitlines(keepends=True)
        for number, (name, found) in enumerate(files):
            yield name, found, ObjectId(blobs[20 * number : 20 * number + 20]), lines[number]


class NotYet(NamedTuple):
    """Instead of an outcome: a file that is being written, or was a moment ago."""

    wait_ns: int
    """Until its stat can be relied on, if it is written no more."""


def saved(
    path: bytes,
    blob: bytes,
    st: os.stat_result,
    fd: int | None,
    size: int,
    owner: tuple[int, int],
    *,
    kind: str = "file",
    pointer: str | None = None,
    torn: bool = False,
    escape: bool = False,
) -> Outcome:
    """The outcome for content that is in a pack. `fd`: the open file; None for a symlink, which has no attributes."""
    name = path.rpartition(b"/")[2]
    line = meta.format_line(
        name,
        kind,
        stat.S_IMODE(st.st_mode),
        st.st_mtime_ns,
        (st.st_uid, st.st_gid),
        size,
        owner,
        pointer=pointer,
        link=f"{st.st_dev:x}.{st.st_ino:x}" if st.st_nlink > 1 else None,
        sparse=kind == "file" and is_sparse(st),
        xattrs=read_xattrs(fd) if fd is not None else None,
    )
    in_tree = tree_name(name, force=escape)
    found = stat_of(st)
    if torn:
        # Nothing has this stat: the next look reads it again.
        found = found._replace(ctime_ns=0)
    return Outcome(blob, line, found, size, in_tree if in_tree != name else b"", torn)


def tree_mode(mode: int) -> int:
    """The mode in git's trees of a regular file."""
    return MODE_EXECUTABLE if mode & 0o100 else MODE_FILE


@dataclass(frozen=True, slots=True)
class Limits:
    """What goes where."""

    inline: int
    """Binary files over this go to the chunk store."""
    whole: int
    """Every file over this does."""
    binary: frozenset[str] = frozenset()
    """Extensions, lower case with dot, that are binary whatever their content."""
    secrets: bool = True
    """Whether to look for what seems to be a secret."""

    def is_plainly_binary(self, name: str, beginning: bytes) -> bool:
        """Whether a file over `inline` is binary by its name or its first `SNIFF` bytes, as git decides it."""
        return b"\0" in beginning[:SNIFF] or os.path.splitext(name)[1].lower() in self.binary


def read_stable(
    fd: int, read: Callable[[int, int], bytes], *, sleep: Callable[[float], None] = time.sleep
) -> tuple[bytes, os.stat_result, bool]:
    """A file's content, its stat, and whether the two belong together for certain.

    They do when the stat is the same before and after and the last write was longer ago than a write can
    hide behind. `read(fd, size)` reads from the start. Tried several times.
    """
    for attempt in range(ATTEMPTS):
        if wait := racy_ns(os.fstat(fd), time.time_ns()):
            sleep(wait / 1e9)
        data, after, wait = _read_once(fd, read)
        if not wait:
            return data, after, True
        if attempt:
            sleep(_UNSTABLE_NS / 1e9)
    return data, after, False


def _read_once(fd: int, read: Callable[[int, int], bytes]) -> tuple[bytes, os.stat_result, int]:
    """As `read_stable`, tried once: content, stat, and for how long to wait before another try; 0: none is needed."""
    before = os.fstat(fd)
    data = read(fd, before.st_size)
    after = os.fstat(fd)
    same = (before.st_mtime_ns, before.st_ctime_ns, before.st_size) == (
        after.st_mtime_ns,
        after.st_ctime_ns,
        after.st_size,
    )
    return data, after, racy_ns(after, time.time_ns()) or (0 if same else _UNSTABLE_NS)


def _beginning(fd: int, size: int) -> bytes:
    """Up to `size` bytes from the start, in one call.

    A pipe may have taken the file's place since the walk: pread refuses it (ESPIPE) where read would take what
    somebody else waits for, so that looking costs 100,000 files no call more. Windows has no pipes among files.
    """
    return os.pread(fd, size, 0) if hasattr(os, "pread") else _read_all(fd, size)[:size]


def _read_all(fd: int, size: int) -> bytes:
    os.lseek(fd, 0, os.SEEK_SET)
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(fd, 1 << 20):
        parts.append(part)
    return b"".join(parts)


class Reader:
    """Reads small files of one project into one pack, in this process.

    `number`: of the snapshot that is taken, along the chain.
    """

    def __init__(self, root: str, limits: Limits, pack: PackWriter, known: ObjectStore | None, number: int) -> None:
        self.root = root
        self.limits = limits
        self.pack = pack
        self.number = number
        self._known = known

    def read_slice(self, part: Slice) -> Batch:
        """Save files of one folder. Raises only for the vault's disk."""
        batch = Batch(b"", "", b"", [], [])
        blobs: list[bytes] = []
        lines: list[str] = []
        packed: list[bytes] = []
        inside = part.folder + b"/" if part.folder else b""
        prefix = f"{self.root}/{os.fsdecode(inside)}"
        # Taken once: a write after this is one after the walk, which shows.
        now = time.time_ns()
        for place, (name, found) in enumerate(part.files):
            ordinary = None if part.attempt else self._ordinary(prefix, name, found, now)
            if ordinary is None:
                outcome = self.read(Job(inside + name, Stat._make(found), part.owner, part.attempt))
                if isinstance(outcome, NotYet):
                    batch.put_off.append((place, outcome.wait_ns))
                else:
                    batch.odd.append((place, outcome))
                continue
            blob, st = ordinary
            line = meta.format_line(
                name, "file", stat.S_IMODE(st.st_mode), st.st_mtime_ns, (st.st_uid, st.st_gid), st.st_size, part.owner
            )
            blobs.append(blob)
            lines.append(line)
            packed.append(pack_known(name, Known(found, tree_mode(st.st_mode), name, blob, self.number)))
        return batch._replace(blobs=b"".join(blobs), text="".join(lines), packed=b"".join(packed))

    def _ordinary(self, prefix: str, name: bytes, found: Stat, now: int) -> tuple[ObjectId, os.stat_result] | None:
        """Save a file of which there is nothing to say but its stat; None when there may be, and nothing is done."""
        size = found[1]
        if size > self.limits.inline or not _ORDINARY.fullmatch(name):
            return None
        try:
            fd = open_source(prefix + name.decode())
        except OSError:
            return None
        try:
            data = _beginning(fd, size + 1)
            st = os.fstat(fd)
            attributes = read_xattrs(fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        if (
            len(data) != size
            or stat_of(st) != found
            or racy_ns(st, now)
            or attributes
            or st.st_nlink > 1
            or is_sparse(st)
            or looks_like_pointer(data[:200])
            or (data and self.limits.secrets and secret(name, data))
        ):
            return None
        return self._add(data), st

    def _has(self, oid: ObjectId) -> bool:
        return oid in self.pack or bool(self._known and self._known.contains(oid))

    def _add(self, data: bytes) -> ObjectId:
        oid = object_id(b"blob", data)
        if not self._has(oid):
            self.pack.add_deflated(b"blob", oid, len(data), deflate(data))
        return oid

    def read(self, job: Job) -> Outcome | NotYet:
        """Save one regular file. Never raises for what a file can be or do, only for the vault's disk.

        One that is being written is put off, for a few attempts.
        """
        name = os.fsdecode(job.path)
        try:
            fd = open_source(f"{self.root}/{name}")
        except FileNotFoundError:
            return Outcome(gone=True)
        except OSError as error:
            return Outcome(problem=f"cannot be read: {error.strerror}")
        try:
            try:
                content = self._content(fd, name, job)
            except OSError as error:
                return Outcome(problem=f"cannot be read: {error.strerror}")
            if isinstance(content, (Outcome, NotYet)):
                return content
            data, found, stable = content
            oid = self._add(data)
            base = job.path.rpartition(b"/")[2]
            outcome = saved(
                job.path,
                oid,
                found,
                fd,
                len(data),
                job.owner,
                torn=not stable,
                escape=is_special(base) and not is_harmless(base, data),
            )
            if data and self.limits.secrets and (kind := secret(base, data)):
                return outcome._replace(secret=kind)
            return outcome
        finally:
            os.close(fd)

    def _content(self, fd: int, name: str, job: Job) -> Outcome | NotYet | tuple[bytes, os.stat_result, bool]:
        """As `read_stable` gives it, or the outcome when the file is not for a git pack. Raises OSError."""
        expected = job.expected
        if expected.size <= self.limits.inline:
            # The walk's stat is the one before: when nothing has changed by now, one more is enough.
            try:
                data = _beginning(fd, expected.size + 1)
            except OSError as error:
                if error.errno == errno.ESPIPE:
                    return Outcome(problem=NOT_REGULAR)
                raise
            after = os.fstat(fd)
            whole = len(data) == expected.size and stat_of(after) == expected and not racy_ns(after, time.time_ns())
            if whole and not looks_like_pointer(data[:200]):
                return data, after, True
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return Outcome(problem=NOT_REGULAR)
        size = before.st_size
        if size > self.limits.whole:
            return Outcome(large=True)
        if size > self.limits.inline and self.limits.is_plainly_binary(name, _beginning(fd, SNIFF)):
            return Outcome(large=True)
        last = job.attempt == ATTEMPTS - 1
        if not last and (wait := racy_ns(before, time.time_ns())):
            return NotYet(wait)
        data, found, wait = _read_once(fd, _read_all)
        if wait and not last:
            return NotYet(wait)
        if len(data) > self.limits.whole or looks_like_pointer(data[:200]):
            # A user's own pointer file must come back as it is: only ours may lie in the tree.
            return Outcome(large=True)
        if len(data) > self.limits.inline and is_binary(data) and not self._has(object_id(b"blob", data)):
            # What older versions took for text stays so until it changes: nothing is stored twice.
            return Outcome(large=True)
        return data, found, not wait
