"""From snapshot to disk.

Folder by folder, each opened once and written beneath (see utils/target.py): small files straight from the
git packs, their hash checked before a byte is written (see writer.py); large ones on threads, each chunk
checked, into a temporary file that gets its name when the whole is right. Hard links after the files, folders'
own attributes last and from the deepest up, because writing into a folder changes its time.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

from gitvault.core.backup_engine import writer as writing
from gitvault.core.backup_engine.writer import Alike, FolderWriter, Job, Selection, Task, Workers, Written
from gitvault.core.interfaces import Progress, StorageManager
from gitvault.core.models import Problem, RestoreReport, Snapshot, SnapshotId
from gitvault.core.utils.files import DirectWriter, full_disk_named
from gitvault.core.utils.names import spelled, to_line
from gitvault.core.utils.target import Descent, TargetFolder, discard, is_plain, write_all, write_holes
from gitvault.core.versioning import contents
from gitvault.core.versioning.arrivals import Arrivals
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.meta import Attributes
from gitvault.errors import CorruptionError, ExistsError, NotFoundError

# More than cores: direct writes wait for the disk. 4.5 GB in 9.1 s, with three in 9.6.
_LARGE_AT_ONCE = 5
# Each large file under way keeps a descriptor of its folder.
_LARGE_UNDER_WAY = 32
# Half of the processor time of a restore of 2,262 files (4.5 GB) went into the page cache.
_DIRECT_FROM = 1 << 20
# More files than twice what the snapshot says, and these, are a trap.
_UNSAID = 10_000
# Starting a worker takes as long as writing 1,000 small files.
_WORKERS_FROM = 2000


def restore_snapshot(
    snapshot: SnapshotId,
    target: Path,
    *,
    history: GitHistory,
    store: StorageManager,
    paths: Iterable[bytes] = (),
    excluded: Iterable[bytes] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RestoreReport:
    """Write what `paths` select (nothing named: everything) below `target`, which is made when missing.

    Raises NotFoundError for a path the snapshot does not hold and ExistsError for a file in the way, both
    before anything is written. What goes wrong with one file is a problem in the report.
    """
    started = time.perf_counter()
    wanted = tuple(paths)
    for path in map(writing.clean, wanted):
        contents.find(history, snapshot, path, lambda _: None)
    selection = Selection.of(wanted, excluded)
    fresh = not target.exists()
    if not fresh and not target.is_dir():
        raise ExistsError(f"{target}: not a folder; name one, or a name that does not exist yet")
    said = history.get_version(snapshot)
    problems: list[Problem] = []
    tree, meta_tree = history.trees(snapshot, problems.append)
    task = Task(b"", tree, meta_tree, fresh or overwrite)
    if not fresh and not overwrite:
        with TargetFolder.open(target) as root:
            _check(history, root, selection, task)
    target.mkdir(parents=True, exist_ok=True)
    with (
        TargetFolder.open(target) as root,
        full_disk_named(target),
        FolderWriter(history, root, selection, overwrite, problems) as writer,
        closing(_Run(root, writer, store, problems, progress, said, selection, history.objects.arrivals)) as run,
    ):
        with closing(Workers(history.git_dir, root, selection, overwrite)) as workers:
            run.write(task, workers)
        run.settle()
        run.links()
        run.attributes()
    problems.sort(key=lambda problem: problem.path)
    return RestoreReport(snapshot, run.files, run.bytes, time.perf_counter() - started, tuple(problems))


def _check(history: GitHistory, root: TargetFolder, selection: Selection, task: Task) -> None:
    """Raise ExistsError for the first file in the way."""
    pending = [task]
    with Descent(root) as descent:
        while pending:
            task = pending.pop()
            path, tree, meta_tree, _, _ = task
            try:
                listing = contents.listing(history, tree, meta_tree, lambda _: None, path)[1]
            except (CorruptionError, NotFoundError):
                continue
            with descent.to(task.at) as folder:
                for entry, _, below in listing:
                    where = path + b"/" + entry.path if path else entry.path
                    if entry.kind == "folder":
                        if not selection.enters(where):
                            continue
                    elif not selection.covers(where):
                        continue
                    name = writing.on_disk(entry.path)
                    found = folder.lstat(name) if is_plain(name) else None
                    if found is None:
                        continue
                    if entry.kind == "folder" and stat.S_ISDIR(found.st_mode):
                        pending.append(
                            Task(where, entry.blob, below, False, task.at + b"/" + name if task.at else name)
                        )
                        continue
                    there = os.path.join(folder.path(), os.fsdecode(name))
                    raise ExistsError(
                        f"{to_line(os.fsencode(there))}: exists; nothing was written, "
                        "restore into another folder or say --overwrite"
                    )


def _is_one(folder: TargetFolder, a: bytes, b: bytes) -> bool:
    """Whether two names lead to the same in this folder."""
    a, b = writing.on_disk(a), writing.on_disk(b)
    if not (is_plain(a) and is_plain(b)):
        return False
    one, other = folder.lstat(a), folder.lstat(b)
    return one is not None and other is not None and os.path.samestat(one, other)


class _Run:
    def __init__(
        self,
        root: TargetFolder,
        writer: FolderWriter,
        store: StorageManager,
        problems: list[Problem],
        progress: Progress | None,
        said: Snapshot,
        selection: Selection,
        arrivals: Arrivals | None,
    ) -> None:
        self.root = root
        self.writer = writer
        self.store = store
        self.problems = problems
        self.progress = progress
        self.total = 0 if selection.wanted else said.bytes
        # A few trees, each with the next in it ten times, are more files than any disk holds.
        self.claimed = 2 * said.files + _UNSAID if said.files else sys.maxsize
        self.files = self.bytes = 0
        self.arrivals = arrivals
        self.pending: list[Task] = []
        # Folders of which something is on its way.
        self.waiting: list[Task] = []
        # Large files that come after all the small ones: who waits for them cannot give work to others.
        self.put_off: list[tuple[str, Job]] = []
        self.seen = 0
        self.pool = ThreadPoolExecutor(_LARGE_AT_ONCE, thread_name_prefix="restore")
        self.large: deque[tuple[Future[int], bytes]] = deque()
        self.first_names: dict[tuple[str, bytes], Job] = {}
        self.later_names: list[tuple[Job, Job]] = []
        self.folders: list[tuple[bytes, bytes, Attributes]] = []

    def write(self, task: Task, workers: Workers) -> None:
        """Write what is selected, but for further names of files and the attributes of folders."""
        self._sort([task])
        while self.pending or self.waiting or workers.busy():
            # Beside threads that bring packs this one would write half as fast, and they would bring as slowly.
            beside = bool(self.waiting) and workers.running()
            workers.give(self.pending, everything=beside)
            if self.pending and not beside:
                self._add(self.writer.write([self.pending.pop()]))
            elif self.arrivals and self.waiting and not workers.busy():
                self.arrivals.wait([task.path for task in self.waiting])
            for written in workers.replies(wait=beside or not self.pending):
                self._add(written)
            self._look()
            # For what is on its way they start before it is here.
            if (self.arrivals and self.waiting and self.arrivals.objects >= _WORKERS_FROM) or (
                self.pending and self.files >= _WORKERS_FROM
            ):
                workers.start()
        if self.put_off and self.arrivals:
            # As they come.
            places = self.arrivals.order()
            for _, job in sorted(self.put_off, key=lambda one: places.get(one[0], 0)):
                self._left(job)

    def _look(self) -> None:
        """Whether more has come."""
        if self.arrivals and self.seen != self.arrivals.changes:
            self.seen = self.arrivals.changes
            self.waiting, waiting = [], self.waiting
            self._sort(waiting)

    def _sort(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            lacks = self.arrivals is not None and self.arrivals.lacks(task.path)
            (self.waiting if lacks else self.pending).append(task)

    def _add(self, written: Written) -> None:
        self.files += written.files
        self.bytes += written.size
        self.problems += written.problems
        self.folders += written.folders
        self._sort(reversed(written.below))
        if self.files > self.claimed:
            raise CorruptionError("the snapshot holds many more files than it says; run git-vault verify")
        for job in written.left:
            if self.arrivals and job.entry.pointer:
                self.put_off.append((job.entry.pointer.oid, job))
            else:
                self._left(job)
        for alike in written.alike:
            self._alike(alike)
        self._tell()

    def _alike(self, alike: Alike) -> None:
        path, place, item, earlier = alike
        name = item[0].path
        # One must be there to see whether it is the same here.
        self.settle()
        with self.writer.opened(path, "folder not restored", place) as folder:
            if not folder:
                return
            same = any(_is_one(folder, other, name) for other in earlier)
            written = Written()
            task = Task(path, item[0].blob, None, False, place)
            self.writer.write_entries(folder, task, [item], written, {name: spelled(name)} if same else {})
        self._add(written)

    def _tell(self) -> None:
        if self.progress:
            self.progress("restoring", self.bytes, self.total)

    def _left(self, job: Job) -> None:
        if job.said and job.said.link:
            first = self.first_names.setdefault((job.said.link, job.entry.blob), job)
            if first is not job:
                self.later_names.append((first, job))
                return
        with self.writer.opened(job.path, "not restored", job.folder) as folder:
            if not folder:
                return
            if job.entry.pointer is None:
                self._count(self.writer.write_small(folder, {job.entry.blob: [job]}))
                return
            future = self.pool.submit(self._large, folder.descend(b""), job, self.writer.temporary_name())
        self.large.append((future, job.path))
        while len(self.large) > _LARGE_UNDER_WAY:
            self._settle_one()

    def _count(self, written: tuple[int, int]) -> None:
        self.files += written[0]
        self.bytes += written[1]

    def _large(self, folder: TargetFolder, job: Job, temporary: bytes) -> int:
        """Runs on a thread of the pool; the bytes written."""
        pointer = job.entry.pointer
        assert pointer is not None
        with folder:
            fd = folder.create(temporary)
            try:
                sparse = bool(job.said and job.said.sparse)
                with _Target(fd, sparse, direct=pointer.size >= _DIRECT_FROM and not sparse) as target:
                    self.store.retrieve_file(pointer, cast(BinaryIO, target))
                os.ftruncate(fd, pointer.size)
                self.writer.file_attributes(fd, folder, temporary, job)
                os.close(fd)
                fd = -1
                if not self.writer.in_the_way(folder, job.name) and folder.lstat(job.name):
                    raise FileExistsError(errno.EEXIST, "a file of this name appeared meanwhile")
                folder.rename(temporary, job.name)
            except BaseException:
                if fd >= 0:
                    os.close(fd)
                discard(folder, temporary)
                raise
        return pointer.size

    def settle(self) -> None:
        """Wait for the large files."""
        while self.large:
            self._settle_one()

    def _settle_one(self) -> None:
        future, path = self.large.popleft()
        try:
            self._count((1, future.result()))
        except OSError as error:
            self.writer.failed(path, "not restored", error)
        except (CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(path, f"not restored: {error}"))
        self._tell()

    def links(self) -> None:
        """The second and further names of files with several."""
        for first, job in self.later_names:
            try:
                with self.root.descend(job.folder) as folder, self.root.descend(first.folder) as source:
                    self.writer.clear(folder, job.name)
                    folder.link(source, first.name, job.name)
                self.files += 1
            except FileNotFoundError:
                reason = f"not restored: it is {to_line(first.path)}, which was not restored"
                self.problems.append(Problem(job.path, reason))
            except OSError:
                self._copy(job)

    def _copy(self, job: Job) -> None:
        """Where the file system has no hard links, each name gets the content."""
        try:
            with self.root.descend(job.folder) as folder:
                if job.entry.pointer:
                    self._count((1, self._large(folder.descend(b""), job, self.writer.temporary_name())))
                else:
                    self._count(self.writer.write_small(folder, {job.entry.blob: [job]}))
        except OSError as error:
            self.writer.failed(job.path, "not restored", error)
        except (CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(job.path, f"not restored: {error}"))

    def attributes(self) -> None:
        """The folders' own, deepest first."""
        for place, path, said in sorted(self.folders, key=lambda folder: folder[0], reverse=True):
            self.writer.folder_attributes(place, path, said)

    def close(self) -> None:
        """Wait for what is being written; begin nothing more."""
        self.pool.shutdown(cancel_futures=True)


class _Target:
    """What a store writes a large file to."""

    def __init__(self, fd: int, sparse: bool, *, direct: bool) -> None:
        self._fd = fd
        self._put: Callable[[int, bytes | memoryview], None] = write_holes if sparse else write_all
        self._direct = DirectWriter(fd) if direct else None

    def write(self, data: bytes | memoryview) -> int:
        """Append."""
        if self._direct is not None:
            self._direct.write(data)
        else:
            self._put(self._fd, data)
        return len(data)

    def __enter__(self) -> _Target:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._direct is not None and error is None:
            self._direct.finish()
        elif self._direct is not None:
            self._direct.close()
