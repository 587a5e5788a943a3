"""Small files into git packs: read safely, hashed, deflated; by worker processes when there are many.

Processes, not threads: a small file is a dozen short calls that each take and give the GIL. 100,000
files (611 MB) took 4.9-6.0 s on one thread, 5.5-8.4 on two, 3.3-4.9 with two processes.
Files of one size go to one worker, so that equal files meet in one pack and are stored once.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import queue
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgpack

from gitvault.core.backup_engine.secrets import secret
from gitvault.core.scan import racy_ns
from gitvault.core.stat_cache import Stat, stat_of
from gitvault.core.storage.pointers import looks_like_pointer
from gitvault.core.utils.attributes import is_sparse, read_xattrs
from gitvault.core.utils.files import Disk, open_source
from gitvault.core.utils.names import is_harmless, is_special, tree_name
from gitvault.core.utils.process import start_python
from gitvault.core.versioning import meta
from gitvault.core.versioning.objects import object_id
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import NewPack, PackWriter, deflate
from gitvault.errors import GitVaultError, StorageFullError

_SNIFF = 8000
_ATTEMPTS = 4
# Before another look at a file that changed while it was read.
_UNSTABLE_NS = 50_000_000
# Starting two workers costs 0.1 s of processor time, what 1,500 small files cost.
_WORKERS_FROM = 3000
_BATCH_FILES = 256
_BATCH_BYTES = 4 << 20


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

    key: int
    path: bytes
    """Relative to the project's root."""
    expected: Stat
    """As the walk found it."""
    owner: tuple[int, int]
    """Of its folder."""
    attempt: int = 0
    """How often it was put off."""


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
    expected: Stat | None = None,
) -> Outcome:
    """The outcome for content that is in a pack. `fd`: the open file; None for a symlink, which has no attributes.

    `expected`: the walk's stat.
    """
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
    elif found == expected and in_tree == name:
        # Nearly all: what need not be said again is 12 of the 60 microseconds that a small file takes.
        return Outcome(blob, line)
    return Outcome(blob, line, found, size, in_tree if in_tree != name else b"", torn)


@dataclass(frozen=True, slots=True)
class Limits:
    """What goes where. A file is binary when a NUL is among its first 8000 bytes, as git decides it."""

    inline: int
    """Binary files over this go to the chunk store."""
    whole: int
    """Every file over this does."""
    binary: frozenset[str] = frozenset()
    """Extensions, lower case with dot, that are binary whatever their content."""
    secrets: bool = True
    """Whether to look for what seems to be a secret."""


def read_stable(
    fd: int, read: Callable[[int, int], bytes], *, sleep: Callable[[float], None] = time.sleep
) -> tuple[bytes, os.stat_result, bool]:
    """A file's content, its stat, and whether the two belong together for certain.

    They do when the stat is the same before and after and the last write was longer ago than a write can
    hide behind. `read(fd, size)` reads from the start. Tried several times.
    """
    for attempt in range(_ATTEMPTS):
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
    """Reads small files of one project into one pack, in this process."""

    def __init__(self, root: str, limits: Limits, pack: PackWriter, known: ObjectStore | None) -> None:
        self.root = root
        self.limits = limits
        self.pack = pack
        self._known = known

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
            oid = object_id(b"blob", data)
            if oid not in self.pack and not (self._known and self._known.contains(oid)):
                self.pack.add_deflated(b"blob", oid, len(data), deflate(data))
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
                expected=job.expected,
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
        if size > self.limits.inline:
            head = _beginning(fd, _SNIFF)
            if b"\0" in head or os.path.splitext(name)[1].lower() in self.limits.binary:
                return Outcome(large=True)
        last = job.attempt == _ATTEMPTS - 1
        if not last and (wait := racy_ns(before, time.time_ns())):
            return NotYet(wait)
        data, found, wait = _read_once(fd, _read_all)
        if wait and not last:
            return NotYet(wait)
        if len(data) > self.limits.whole or looks_like_pointer(data[:200]):
            # A user's own pointer file must come back as it is: only ours may lie in the tree.
            return Outcome(large=True)
        return data, found, not wait


class Intake:
    """Takes files in any number and hands back outcomes in any order; those being written at the moment last.

    `pack`: for what this process reads itself. `objects`: the repository's, to skip what it holds.
    """

    def __init__(
        self,
        root: Path,
        limits: Limits,
        pack: PackWriter,
        objects: ObjectStore,
        git_dir: Path,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reader = Reader(os.fspath(root), limits, pack, objects)
        self._git_dir = git_dir
        self._sleep = sleep
        self._waiting: list[Job] = []
        # One wait for all that are being written: a build touches thousands of files at once.
        self._put_off: list[Job] = []
        self._due_ns = 0
        self._workers: list[_Worker] = []
        self._done: queue.SimpleQueue[_Done | GitVaultError] = queue.SimpleQueue()
        self._ended = False
        self.under_way = 0
        """Files submitted whose outcome has not been handed back."""

    def submit(self, job: Job) -> None:
        """Save a file; its outcome will carry the job's key."""
        self.under_way += 1
        if self._workers:
            self._assign(job)
            return
        self._waiting.append(job)
        if len(self._waiting) >= _WORKERS_FROM:
            self._start()

    def ready(self) -> list[tuple[int, Outcome]]:
        """What has come back by now; an empty list when nothing has."""
        return self.next() if not self._done.empty() else []

    def next(self) -> list[tuple[int, Outcome]]:
        """Wait for some outcomes, or none; call only while something is under way. Raises what stopped a worker."""
        if len(self._put_off) == self.under_way:
            self._try_again()
        if not self._workers:
            job = self._waiting.pop()
            outcome = self._reader.read(job)
            done = (
                _Done([], [(outcome.wait_ns, job)]) if isinstance(outcome, NotYet) else _Done([(job.key, outcome)], [])
            )
        else:
            if self._done.empty():
                for worker in self._workers:
                    worker.push()
            back = self._done.get()
            if isinstance(back, GitVaultError):
                raise back
            done = back
        for wait, job in done.put_off:
            self._put_off.append(job)
            self._due_ns = max(self._due_ns, time.time_ns() + wait)
        self.under_way -= len(done.outcomes)
        return done.outcomes

    def _try_again(self) -> None:
        self._sleep(max(0, self._due_ns - time.time_ns()) / 1e9)
        jobs, self._put_off = self._put_off, []
        for job in jobs:
            again = job._replace(attempt=job.attempt + 1)
            if self._workers:
                self._assign(again)
            else:
                self._waiting.append(again)

    def end(self) -> None:
        """Nothing more will be submitted, nothing is under way: the workers write their packs out meanwhile."""
        if not self._ended:
            for worker in self._workers:
                worker.end()
        self._ended = True

    def finish(self) -> list[NewPack]:
        """The workers' packs, when nothing is under way. Raises what stopped a worker."""
        self.end()
        packs = [pack for worker in self._workers if (pack := worker.result())]
        self._workers = []
        return packs

    def abandon(self) -> None:
        """Stop the workers; what they wrote stays in the temporary folder for the next run to clear."""
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def _start(self) -> None:
        limits = self._reader.limits
        settings: dict[str, object] = {
            "root": self._reader.root,
            "limits": (limits.inline, limits.whole, sorted(limits.binary), limits.secrets),
            "git_dir": os.fspath(self._git_dir),
        }
        count = max(2, min(os.cpu_count() or 2, 8))
        self._workers = [_Worker(settings, self._done) for _ in range(count)]
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            self._assign(job)

    def _assign(self, job: Job) -> None:
        # Sizes are often multiples of a power of two: multiply before taking the remainder.
        self._workers[(job.expected.size * 2654435761 >> 16) % len(self._workers)].submit(job)


class _Done(NamedTuple):
    """What a worker has done: outcomes by key, and jobs to be tried again, each with the wait before that in ns."""

    outcomes: list[tuple[int, Outcome]]
    put_off: list[tuple[int, Job]]


class _Worker:
    """One worker process and the thread that listens to it."""

    def __init__(self, settings: dict[str, object], done: queue.SimpleQueue[_Done | GitVaultError]) -> None:
        self._process = start_python("gitvault.core.backup_engine.intake")
        self._done = done
        self._batch: list[Job] = []
        self._bytes = 0
        # Three batches under way keep the worker busy; the fourth waits, so that pipes never fill from both ends.
        self._free = threading.Semaphore(3)
        self._final: queue.SimpleQueue[NewPack | GitVaultError | None] = queue.SimpleQueue()
        self._write(settings)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._batch.append(job)
        self._bytes += job.expected.size
        if len(self._batch) >= _BATCH_FILES or self._bytes >= _BATCH_BYTES:
            self.push()

    def push(self) -> None:
        if self._batch:
            while not self._free.acquire(timeout=1) and self._thread.is_alive():
                pass
            self._write(self._batch)
            self._batch, self._bytes = [], 0

    def end(self) -> None:
        self._write([])

    def result(self) -> NewPack | None:
        final = self._final.get()
        self._thread.join()
        self._process.wait()
        if isinstance(final, GitVaultError):
            raise final
        return final

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _write(self, message: object) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        # A worker that is gone has said why, or its end of the answers says it.
        with contextlib.suppress(BrokenPipeError):
            _send(pipe, message)

    def _listen(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        stopped: GitVaultError | None = None
        while message := _receive(pipe):
            kind, content = message
            if kind == "pack":
                name, pack, index, *numbers = content or ("", "", "")
                self._final.put(NewPack(name, Path(pack), Path(index), *numbers) if content else None)
                return
            if kind == "full":
                stopped = StorageFullError(content)
                break
            outcomes, put_off = content
            jobs = [(wait, _job(fields)) for wait, fields in put_off]
            self._done.put(_Done([(key, _unpacked(rest)) for key, *rest in outcomes], jobs))
            self._free.release()
        stopped = stopped or GitVaultError("a worker process ended unexpectedly; run again, nothing was saved")
        self._done.put(stopped)
        self._final.put(stopped)


_PLAIN = Outcome()[2:]


def _unpacked(fields: list[Any]) -> Outcome:
    if len(fields) > 2 and fields[2]:
        fields[2] = Stat._make(fields[2])
    return Outcome(*fields)


def _job(fields: tuple[Any, ...]) -> Job:
    key, path, found, owner, attempt = fields
    return Job(key, path, Stat._make(found), owner, attempt)


def _send(pipe: IO[bytes], message: object) -> None:
    # Text for the times that are too large for it, as in the cache.
    data = msgpack.packb(message, default=str, unicode_errors="surrogateescape")
    pipe.write(len(data).to_bytes(4, "big") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    """The next message; None when the other side has ended."""
    length = pipe.read(4)
    size = int.from_bytes(length, "big")
    data = pipe.read(size)
    if len(length) < 4 or len(data) < size:
        return None
    return msgpack.unpackb(data, use_list=False, unicode_errors="surrogateescape")


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """A worker's life: settings, batches of jobs, an empty batch; outcomes per batch, in the end the pack."""
    settings = _receive(requests)
    inline, whole, binary, secrets = settings["limits"]
    limits = Limits(inline, whole, frozenset(binary), secrets)
    git_dir = Path(settings["git_dir"])
    pack = PackWriter(git_dir / "tmp", Disk())
    reader = Reader(settings["root"], limits, pack, ObjectStore(git_dir / "objects"))
    try:
        while batch := _receive(requests):
            outcomes, put_off = [], []
            for job in map(_job, batch):
                outcome = reader.read(job)
                if isinstance(outcome, NotYet):
                    put_off.append((outcome.wait_ns, job))
                else:
                    outcomes.append((job.key, *(outcome if outcome[2:] != _PLAIN else outcome[:2])))
            _send(replies, ("done", (outcomes, put_off)))
        if batch is None:
            # The parent is gone: what was written is nobody's.
            pack.abandon()
            return
        made = pack.finish()
        final = (made.name, str(made.pack), str(made.index), made.objects, made.bytes) if made else ()
        _send(replies, ("pack", final))
    except StorageFullError as error:
        pack.abandon()
        _send(replies, ("full", str(error)))


if __name__ == "__main__":
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It makes no garbage and ends soon.
    gc.disable()
    serve(sys.stdin.buffer, sys.stdout.buffer)
