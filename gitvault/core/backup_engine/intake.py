"""Small files into git packs: read safely, hashed, deflated; by worker processes when there are many.

Processes, not threads: a small file is a dozen short calls that each take and give the GIL. 100,000
files (611 MB) took 4.9-6.0 s on one thread, 5.5-8.4 on two, 3.3-4.9 with two processes.
Files of one size go to one worker, so that equal files meet in one pack and are stored once.
"""

from __future__ import annotations

import gc
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgpack

from gitvault.core.models import ObjectId
from gitvault.core.scan import RACY_COARSE_NS, RACY_NS, Stat, is_racy, stat_of
from gitvault.core.storage.pointers import looks_like_pointer
from gitvault.core.utils.files import Disk, open_source
from gitvault.core.utils.names import is_harmless, is_special
from gitvault.core.utils.process import start_python
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import NewPack, PackWriter, deflate
from gitvault.core.versioning.objects import object_id

_SNIFF = 8000
_ATTEMPTS = 4
# Starting two workers costs 0.1 s of processor time, what 1,500 small files cost.
_WORKERS_FROM = 3000
_BATCH_FILES = 256
_BATCH_BYTES = 4 << 20


class Outcome(NamedTuple):
    """What became of one file. Exactly one of `blob`, `large`, `gone` and `problem` says so."""

    blob: bytes = b""
    stat: Stat | None = None
    """The file's stat when its content was read, if it differs from the expected."""
    large: bool = False
    """It belongs into the chunk store."""
    gone: bool = False
    problem: str = ""
    torn: bool = False
    """It kept changing; `blob` is what the last attempt read."""
    size: int = 0
    """Of the content that was read."""
    escape: bool = False
    """git would act on the file or refuse it under this name: the tree must hold it under an escaped one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What goes where. A file is binary when a NUL is among its first 8000 bytes, as git decides it."""

    inline: int
    """Binary files over this go to the chunk store."""
    whole: int
    """Every file over this does."""
    binary: frozenset[str] = frozenset()
    """Extensions, lower case with dot, that are binary whatever their content."""


def read_stable(
    fd: int, read: Callable[[int, int], bytes], *, sleep: Callable[[float], None] = time.sleep
) -> tuple[bytes, os.stat_result, bool]:
    """A file's content, its stat, and whether the two belong together for certain.

    They do when the stat is the same before and after and the last write was longer ago than a write can
    hide behind. `read(fd, size)` reads from the start. Tried several times.
    """
    for attempt in range(_ATTEMPTS):
        before = os.fstat(fd)
        now = time.time_ns()
        if is_racy(stat_of(before), now):
            written = stat_of(before).ctime_ns
            limit = RACY_NS if written % 1_000_000_000 else RACY_COARSE_NS
            sleep(max(0, min(written + limit - now, limit)) / 1e9)
            before = os.fstat(fd)
        data = read(fd, before.st_size)
        after = os.fstat(fd)
        if stat_of(before) == stat_of(after) and not is_racy(stat_of(after), time.time_ns()):
            return data, after, True
        if attempt:
            sleep(0.05)
    return data, after, False


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

    def read(self, path: bytes, expected: Stat) -> Outcome:
        """Save one regular file. Never raises for what a file can be or do."""
        name = os.fsdecode(path)
        try:
            fd = open_source(f"{self.root}/{name}")
        except FileNotFoundError:
            return Outcome(gone=True)
        except OSError as error:
            return Outcome(problem=f"cannot be read: {error.strerror}")
        try:
            first = os.fstat(fd)
            if not stat.S_ISREG(first.st_mode):
                return Outcome(problem="stopped being a regular file while it was saved")
            limits = self.limits
            size = first.st_size
            if size > limits.whole:
                return Outcome(large=True)
            if size > limits.inline:
                head = os.read(fd, _SNIFF)
                if b"\0" in head or os.path.splitext(name)[1].lower() in limits.binary:
                    return Outcome(large=True)
            data, found, stable = read_stable(fd, _read_all)
            if looks_like_pointer(data[:200]) or len(data) > limits.whole:
                # A user's own pointer file must come back as it is: only ours may lie in the tree.
                return Outcome(large=True)
            oid = object_id(b"blob", data)
            if oid not in self.pack and not (self._known and self._known.contains(oid)):
                self.pack.add_deflated(b"blob", oid, len(data), deflate(data))
            at = stat_of(found)
            base = path.rpartition(b"/")[2]
            escape = is_special(base) and not is_harmless(base, data)
            return Outcome(oid, at if at != expected else None, torn=not stable, size=len(data), escape=escape)
        except OSError as error:
            return Outcome(problem=f"cannot be read: {error.strerror}")
        finally:
            os.close(fd)


class Intake:
    """Takes files in any number and hands back outcomes in any order.

    `pack`: for what this process reads itself. `objects`: the repository's, to skip what it holds.
    """

    def __init__(self, root: Path, limits: Limits, pack: PackWriter, objects: ObjectStore, git_dir: Path) -> None:
        self._reader = Reader(os.fspath(root), limits, pack, objects)
        self._git_dir = git_dir
        self._waiting: list[tuple[int, bytes, Stat]] = []
        self._workers: list[_Worker] = []
        self._done: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self.submitted = 0
        self.collected = 0

    def submit(self, key: int, path: bytes, expected: Stat) -> None:
        """Save the file at `path`; its outcome will carry `key`."""
        self.submitted += 1
        if self._workers:
            self._workers[hash(expected.size) % len(self._workers)].submit((key, path, expected))
            return
        self._waiting.append((key, path, expected))
        if len(self._waiting) >= _WORKERS_FROM:
            self._start()

    def ready(self) -> Iterator[tuple[int, Outcome]]:
        """What has come back by now."""
        while not self._done.empty():
            self.collected += 1
            yield self._done.get()

    def next(self) -> tuple[int, Outcome]:
        """Wait for one outcome; call only while `collected < submitted`."""
        if self._workers:
            for worker in self._workers:
                worker.push()
            key, outcome = self._done.get()
            if key < 0:
                raise RuntimeError("a worker process ended unexpectedly; run again with --debug")
        else:
            key, path, expected = self._waiting.pop()
            outcome = self._reader.read(path, expected)
        self.collected += 1
        return key, outcome

    def finish(self) -> list[NewPack]:
        """The workers' packs, when every outcome is in."""
        packs = [pack for worker in self._workers if (pack := worker.finish())]
        self._workers = []
        return packs

    def abandon(self) -> None:
        """Stop the workers and drop their packs."""
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def _start(self) -> None:
        count = max(2, min(os.cpu_count() or 2, 8))
        settings = {
            "root": self._reader.root,
            "limits": (self._reader.limits.inline, self._reader.limits.whole, sorted(self._reader.limits.binary)),
            "objects": os.fspath(self._git_dir / "objects"),
            "tmp": os.fspath(self._git_dir / "tmp"),
        }
        self._workers = [_Worker(settings, self._done) for _ in range(count)]
        waiting, self._waiting = self._waiting, []
        for key, path, expected in waiting:
            self._workers[hash(expected.size) % count].submit((key, path, expected))


class _Worker:
    """One worker process and the thread that talks to it."""

    def __init__(self, settings: dict[str, object], done: queue.SimpleQueue[tuple[int, Outcome]]) -> None:
        self._process = start_python("gitvault.core.backup_engine.intake")
        self._done = done
        self._batch: list[tuple[int, bytes, Stat]] = []
        self._bytes = 0
        # Three batches under way keep the worker busy; the fourth waits, so that pipes never fill from both ends.
        self._free = threading.Semaphore(3)
        self._packer = msgpack.Packer(unicode_errors="surrogateescape")
        self._write(settings)
        self._final: queue.SimpleQueue[Sequence[object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def submit(self, job: tuple[int, bytes, Stat]) -> None:
        self._batch.append(job)
        self._bytes += job[2].size
        if len(self._batch) >= _BATCH_FILES or self._bytes >= _BATCH_BYTES:
            self.push()

    def push(self) -> None:
        if self._batch:
            self._free.acquire()
            self._write([(key, path, tuple(expected)) for key, path, expected in self._batch])
            self._batch, self._bytes = [], 0

    def finish(self) -> NewPack | None:
        self._write([])
        final = self._final.get()
        self._thread.join()
        self._process.wait()
        if final is None:
            raise RuntimeError("a worker process ended unexpectedly; run again with --debug")
        if not final:
            return None
        name, pack, index, objects, size = final
        return NewPack(str(name), Path(str(pack)), Path(str(index)), int(str(objects)), int(str(size)))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()

    def _write(self, message: object) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(self._packer.pack(message))
            pipe.flush()
        except BrokenPipeError:
            self._done.put((-1, Outcome()))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for message in msgpack.Unpacker(self._process.stdout, use_list=False, max_buffer_size=1 << 26):
            if message[0] == "pack":
                self._final.put(message[1])
                return
            for key, blob, numbers, *rest in message[1]:
                self._done.put((key, Outcome(blob, Stat(*numbers) if numbers else None, *rest)))
            self._free.release()
        self._done.put((-1, Outcome()))
        self._final.put(None)
        self._free.release()


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """A worker's life: settings, batches of jobs, an empty batch; outcomes per batch, in the end the pack."""
    gc.disable()
    unpacker = msgpack.Unpacker(requests, use_list=False, unicode_errors="surrogateescape", max_buffer_size=1 << 26)
    settings = next(unpacker)
    inline, whole, binary = settings["limits"]
    known = ObjectStore(Path(settings["objects"]))
    pack = PackWriter(Path(settings["tmp"]), Disk())
    reader = Reader(settings["root"], Limits(inline, whole, frozenset(binary)), pack, known)
    for batch in unpacker:
        if not batch:
            made = pack.finish()
            final = (made.name, str(made.pack), str(made.index), made.objects, made.bytes) if made else ()
            replies.write(msgpack.packb(("pack", final)))
            replies.flush()
            return
        outcomes = []
        for key, path, numbers in batch:
            done = reader.read(path, Stat(*numbers))
            outcomes.append((key, done.blob, tuple(done.stat or ()), *done[2:]))
        replies.write(msgpack.packb(("done", outcomes), unicode_errors="surrogateescape"))
        replies.flush()
    # The parent is gone: what was written is nobody's.
    pack.abandon()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
