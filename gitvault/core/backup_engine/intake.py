"""Small files into git packs; by worker processes when there are many.

Processes, not threads: a small file is a dozen short calls that each take and give the GIL. 100,000
files (611 MB) took 4.9-6.0 s on one thread, 5.5-8.4 on two, 3.3-4.9 with two processes.
The files of a folder go to one worker, and folders with files of the same sizes to the same, so that copies of a folder
meet in one pack and are stored once. Single files that are equal may be in the pack of each worker until upkeep.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgpack

from gitvault.core.backup_engine.reading import Batch, Limits, Outcome, Reader, Slice
from gitvault.core.stat_cache import Stat
from gitvault.core.utils.files import Disk
from gitvault.core.utils.process import start_python, twin
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packfile import NewPack, PackWriter
from gitvault.errors import GitVaultError, StorageFullError

# Starting two workers costs 0.1 s of processor time, what 1,500 small files cost.
_WORKERS_FROM = 3000
_BATCH_FILES = 256
_BATCH_BYTES = 4 << 20


class Intake:
    """Takes files in any number and hands back what became of them in any order; those being written come last.

    `pack`: for what this process reads itself. `objects`: the repository's, to skip what it holds. `number`: see
    Reader.
    """

    def __init__(
        self,
        root: Path,
        limits: Limits,
        pack: PackWriter,
        objects: ObjectStore,
        git_dir: Path,
        number: int = 1,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reader = Reader(os.fspath(root), limits, pack, objects, number)
        self._git_dir = git_dir
        self._sleep = sleep
        self._waiting: list[Slice] = []
        self._waiting_files = 0
        # One wait for all that are being written: a build touches thousands of files at once.
        self._put_off: list[Slice] = []
        self._put_off_files = 0
        self._due_ns = 0
        self._workers: list[_Worker] = []
        self._done: queue.SimpleQueue[_Done | GitVaultError] = queue.SimpleQueue()
        self._ended = False
        self.under_way = 0
        """Files submitted of which nothing has been handed back."""

    def submit(self, part: Slice) -> None:
        """Save files of one folder."""
        self.under_way += len(part.files)
        self._assign(part)

    def ready(self) -> list[tuple[Slice, Batch]]:
        """What has come back by now; an empty list when nothing has."""
        return self.next() if not self._done.empty() else []

    def next(self) -> list[tuple[Slice, Batch]]:
        """Wait for something, or nothing; call only while something is under way. Raises what stopped a worker.

        Files that a batch puts off come back with a later one, in a slice of their own.
        """
        if self._put_off_files == self.under_way:
            self._try_again()
        if not self._workers:
            part = self._waiting.pop()
            self._waiting_files -= len(part.files)
            done = [(part, self._reader.read_slice(part))]
        else:
            if self._done.empty():
                for worker in self._workers:
                    worker.push()
            back = self._done.get()
            if isinstance(back, GitVaultError):
                raise back
            done = back
        for part, batch in done:
            self.under_way -= len(part.files) - len(batch.put_off)
            if batch.put_off:
                again = [part.files[place] for place, _ in batch.put_off]
                self._put_off.append(part._replace(files=again, attempt=part.attempt + 1))
                self._put_off_files += len(again)
                self._due_ns = max(self._due_ns, time.time_ns() + max(wait for _, wait in batch.put_off))
        return done

    def _try_again(self) -> None:
        self._sleep(max(0, self._due_ns - time.time_ns()) / 1e9)
        parts, self._put_off, self._put_off_files = self._put_off, [], 0
        for part in parts:
            self._assign(part)

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
            "number": self._reader.number,
        }
        # One more than cores: each waits for the disk now and then, though all was read a moment before. 100,000 files
        # on two cores: 7.3 s with two workers, 6.3 with three.
        count = min((os.cpu_count() or 1) + 1, 8)
        self._workers = [_Worker(settings, self._done) for _ in range(count)]
        for worker in self._workers:
            worker.listen()
        waiting, self._waiting = self._waiting, []
        for part in waiting:
            self._assign(part)

    def _assign(self, part: Slice) -> None:
        if not self._workers:
            self._waiting.append(part)
            self._waiting_files += len(part.files)
            if self._waiting_files >= _WORKERS_FROM:
                self._start()
            return
        for start in range(0, len(part.files), _BATCH_FILES):
            files = part.files[start : start + _BATCH_FILES]
            sizes = [found.size for _, found in files]
            worker = self._workers[hash(tuple(sizes)) % len(self._workers)]
            worker.submit(part._replace(files=files), sum(sizes))


_Done = list[tuple[Slice, Batch]]


class _Worker:
    """One worker process and the thread that listens to it."""

    def __init__(self, settings: dict[str, object], done: queue.SimpleQueue[_Done | GitVaultError]) -> None:
        self._process = twin(_work) or start_python("gitvault.core.backup_engine.intake")
        self._done = done
        self._batch: list[Slice] = []
        self._files = self._bytes = 0
        # Three batches under way keep the worker busy; the fourth waits, so that pipes never fill from both ends.
        self._free = threading.Semaphore(3)
        self._sent: deque[list[Slice]] = deque()
        self._final: queue.SimpleQueue[NewPack | GitVaultError | None] = queue.SimpleQueue()
        self._write(settings)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def listen(self) -> None:
        """Begin to take its answers, when all workers are there: beside other threads a process cannot be copied."""
        self._thread.start()

    def submit(self, part: Slice, size: int) -> None:
        self._batch.append(part)
        self._files += len(part.files)
        self._bytes += size
        if self._files >= _BATCH_FILES or self._bytes >= _BATCH_BYTES:
            self.push()

    def push(self) -> None:
        if self._batch:
            while not self._free.acquire(timeout=1) and self._thread.is_alive():
                pass
            self._sent.append(self._batch)
            self._write(self._batch)
            self._batch, self._files, self._bytes = [], 0, 0

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
            self._done.put(list(zip(self._sent.popleft(), map(_batch, content), strict=True)))
            self._free.release()
        stopped = stopped or GitVaultError("a worker process ended unexpectedly; run again, nothing was saved")
        self._done.put(stopped)
        self._final.put(stopped)


def _batch(fields: tuple[Any, ...]) -> Batch:
    blobs, text, packed, odd, put_off = fields
    return Batch(blobs, text, packed, [(place, _outcome(rest)) for place, rest in odd], put_off)


def _outcome(fields: list[Any]) -> Outcome:
    outcome = Outcome(*fields)
    return outcome._replace(stat=Stat._make(outcome.stat)) if outcome.stat else outcome


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
    """A worker's life: settings, lists of slices, an empty list; the batches of each list, in the end the pack."""
    settings = _receive(requests)
    inline, whole, binary, secrets = settings["limits"]
    limits = Limits(inline, whole, frozenset(binary), secrets)
    git_dir = Path(settings["git_dir"])
    pack = PackWriter(git_dir / "tmp", Disk())
    reader = Reader(settings["root"], limits, pack, ObjectStore(git_dir / "objects"), settings["number"])
    try:
        while parts := _receive(requests):
            _send(replies, ("done", [reader.read_slice(Slice(*part)) for part in parts]))
        if parts is None:
            # The parent is gone: what was written is nobody's.
            pack.abandon()
            return
        made = pack.finish()
        final = (made.name, str(made.pack), str(made.index), made.objects, made.bytes) if made else ()
        _send(replies, ("pack", final))
    except StorageFullError as error:
        pack.abandon()
        _send(replies, ("full", str(error)))


def _work() -> None:
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # It makes no garbage and ends soon.
    gc.disable()
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    _work()
