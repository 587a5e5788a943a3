"""Folders of a snapshot onto the disk: subfolders and small files; by worker processes too when there are many.

Processes, not threads: writing a small file is half a dozen short calls that each give and take the GIL.
100,000 files (750 MB) took 16.8 s with a thread beside this one, 18.1 with two, 20.2 with three; 10.6 with a process.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, NamedTuple

from gitvault.core.models import Entry, ObjectId, Problem
from gitvault.core.storage import pointers
from gitvault.core.utils.attributes import is_privilege, made_by_this_user, may_set_owner, write_xattrs
from gitvault.core.utils.files import is_full
from gitvault.core.utils.messages import finish, receive, send, tell
from gitvault.core.utils.names import loose_name, to_line, windows_name
from gitvault.core.utils.process import heed_interrupts, start_python
from gitvault.core.utils.target import Descent, TargetFolder, discard, is_plain, write_all, write_holes
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.meta import Attributes
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

# Folders in a message: with one at a time a worker waits for the next more often than it writes.
_BATCH = 16
# Messages to a worker that it has not answered: it never waits for who may have to wait for the interpreter.
_UNDER_WAY = 3
_WORKERS = 7
# Reads as the name that a file gets here instead of its own, for those that the platform cannot hold.
on_disk: Callable[[bytes], bytes] = windows_name if sys.platform == "win32" else bytes

# What cannot be set somewhere is a problem; the bytes count.
_OWNER, _PERMISSIONS, _TIME = "owner not restored", "permissions not restored", "time not restored"

_Item = tuple[Entry, Attributes | None, ObjectId | None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which paths are restored. `wanted`: none means all."""

    wanted: tuple[bytes, ...]
    excluded: tuple[bytes, ...]

    @classmethod
    def of(cls, paths: Iterable[bytes], excluded: Iterable[bytes]) -> Selection:
        """That of paths as people write them."""
        wanted = tuple(map(clean, paths))
        return cls(wanted if b"" not in wanted else (), tuple(map(clean, excluded)))

    def covers(self, path: bytes) -> bool:
        """Whether the file at `path` is restored."""
        if not (self.wanted or self.excluded):
            return True
        inside = not self.wanted or any(_within(path, w) for w in self.wanted)
        return inside and not any(_within(path, e) for e in self.excluded)

    def enters(self, path: bytes) -> bool:
        """Whether something at or below the folder `path` may be."""
        if any(_within(path, e) for e in self.excluded):
            return False
        return not self.wanted or not path or any(_within(path, w) or _within(w, path) for w in self.wanted)


def clean(path: bytes) -> bytes:
    """A path as people write it, without what leads nowhere."""
    return b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))


def _within(path: bytes, folder: bytes) -> bool:
    return path == folder or not folder or path.startswith(folder + b"/")


class Task(NamedTuple):
    """A folder to write, which is there already. `own`: with its own attributes.

    `place`: where it is, when that is not `path`, because of a name that cannot be had here.
    """

    path: bytes
    tree: ObjectId
    meta_tree: ObjectId | None
    own: bool
    place: bytes | None = None

    @property
    def at(self) -> bytes:
        """Where it is."""
        return self.path if self.place is None else self.place


class Job(NamedTuple):
    """One file to write, as `name` in the folder at `folder`. `said`: what the meta chain says of it."""

    path: bytes
    name: bytes
    entry: Entry
    said: Attributes | None
    folder: bytes = b""


def _joined(folder: bytes, name: bytes) -> bytes:
    return folder + b"/" + name if folder else name


class Alike(NamedTuple):
    """An entry of a folder with a name that some file system takes for one of `earlier`."""

    path: bytes
    """The folder's."""
    folder: bytes
    """Where that is."""
    item: _Item
    earlier: list[bytes]


@dataclass(slots=True)
class Written:
    """What became of some tasks."""

    files: int = 0
    size: int = 0
    below: list[Task] = field(default_factory=list)
    """The folders that were made in them."""
    left: list[Job] = field(default_factory=list)
    """Files that are not written by this one: large ones, those with several names, what a worker cannot read."""
    alike: list[Alike] = field(default_factory=list)
    """Nothing is made of these before the earlier ones are there to be looked at."""
    folders: list[tuple[bytes, bytes, Attributes]] = field(default_factory=list)
    """Where folders are, their paths, and the attributes that they get when everything below them is written."""
    problems: list[Problem] = field(default_factory=list)
    """Those of a worker."""


def _alike(names: list[bytes]) -> dict[bytes, list[bytes]]:
    """Names that some file system takes for one earlier in the list, each with those."""
    groups: dict[str, list[bytes]] = {}
    for name in names:
        groups.setdefault(loose_name(name), []).append(name)
    if len(groups) == len(names):
        return {}
    return {name: group[:at] for group in groups.values() for at, name in enumerate(group) if at}


class FolderWriter:
    """Writes beneath `root`, which stays open. A file in the way is replaced with `overwrite`, else a problem.

    What goes wrong with a path is added to `problems`.
    """

    def __init__(
        self,
        history: GitHistory,
        root: TargetFolder,
        selection: Selection,
        overwrite: bool,
        problems: list[Problem],
        *,
        leaves_missing: bool = False,
    ) -> None:
        """`leaves_missing`: files whose content is missing or damaged are `left`."""
        self._history = history
        self._leaves_missing = leaves_missing
        self._selection = selection
        self._overwrite = overwrite
        self._owners = may_set_owner()
        self._trusted = made_by_this_user(history.git_dir)
        self._serial = count()
        self._descent = Descent(root)
        self.problems = problems

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._descent.close()

    def write(self, tasks: list[Task]) -> Written:
        """Write the small files of folders and make the folders in them. Raises OSError when the disk is full."""
        done = Written()
        for task in tasks:
            with self.opened(task.path, "folder not restored", task.at) as folder:
                if folder:
                    self._folder(folder, task, done)
        return done

    @contextlib.contextmanager
    def opened(self, path: bytes, failed: str, place: bytes) -> Iterator[TargetFolder | None]:
        """The folder at `place`; None when it cannot be opened, a problem of `path` that begins with `failed`."""
        try:
            folder = self._descent.to(place)
        except OSError as error:
            self.failed(path, failed, error)
            yield None
            return
        with folder:
            yield folder

    def _folder(self, folder: TargetFolder, task: Task, done: Written) -> None:
        path, tree, meta_tree, _, _ = task
        try:
            own, listing = contents.listing(self._history, tree, meta_tree, self.problems.append, path)
        except (CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(path, f"folder not restored: {error}"))
            return
        alike = _alike([entry.path for entry, _, _ in listing])
        self.write_entries(folder, task, [item for item in listing if item[0].path not in alike], done)
        done.alike += [Alike(path, task.at, item, alike[item[0].path]) for item in listing if item[0].path in alike]
        if own and task.own and (not self._selection.wanted or path):
            done.folders.append((task.at, path, own))

    def write_entries(
        self, folder: TargetFolder, task: Task, items: list[_Item], done: Written, names: Mapping[bytes, bytes] = {}
    ) -> None:
        """Write what the task's folder holds of `items`, as `write` does. `names`: those that are not their own."""
        small: dict[ObjectId, list[Job]] = {}
        for entry, said, below_meta in items:
            where = _joined(task.path, entry.path)
            name = names.get(entry.path) or on_disk(entry.path)
            if not is_plain(name):
                self.problems.append(Problem(where, "not restored: its name would lead out of the folder"))
            elif entry.kind == "folder":
                if self._selection.enters(where):
                    try:
                        made = self._make_folder(folder, name)
                    except OSError as error:
                        self.failed(where, "folder not restored", error)
                        continue
                    self._tell_name(where, entry.path, name)
                    at = _joined(task.at, name)
                    place = at if at != where else None
                    done.below.append(Task(where, entry.blob, below_meta, made or self._overwrite, place))
            elif self._selection.covers(where):
                self._tell_name(where, entry.path, name)
                job = Job(where, name, entry, said, task.at)
                if entry.pointer or (said and said.link):
                    done.left.append(job)
                else:
                    small.setdefault(entry.blob, []).append(job)
        files, size = self.write_small(folder, small, done.left if self._leaves_missing else None)
        done.files += files
        done.size += size

    def _tell_name(self, path: bytes, own: bytes, name: bytes) -> None:
        if name != own:
            why = "no file here can have its name" if name == on_disk(own) else "here its name is that of another"
            self.problems.append(Problem(path, f"{why}; it is called {to_line(name)}"))

    def failed(self, path: bytes, what: str, error: OSError) -> None:
        """One path's trouble is a problem; a full disk is everybody's."""
        if is_full(error):
            raise error
        self.problems.append(Problem(path, f"{what}: {error.strerror}"))

    def _make_folder(self, folder: TargetFolder, name: bytes) -> bool:
        found = folder.lstat(name)
        if found and stat.S_ISDIR(found.st_mode):
            return False
        self.clear(folder, name)
        folder.mkdir(name)
        return True

    def in_the_way(self, folder: TargetFolder, name: bytes) -> bool:
        """Whether there is a file to be replaced; a folder that has its name goes when it is empty."""
        found = folder.lstat(name) if self._overwrite else None
        if found and stat.S_ISDIR(found.st_mode):
            folder.rmdir(name)
            return False
        return found is not None

    def clear(self, folder: TargetFolder, name: bytes) -> None:
        """Remove what is to be replaced."""
        if self.in_the_way(folder, name):
            folder.unlink(name)

    def temporary_name(self) -> bytes:
        """A name for a file that is not whole yet."""
        return b".gitvault-%d-%d" % (os.getpid(), next(self._serial))

    def write_small(
        self, folder: TargetFolder, jobs: dict[ObjectId, list[Job]], left: list[Job] | None = None
    ) -> tuple[int, int]:
        """Write files whose content is in git objects, each checked before; how many, and their bytes.

        `left`: where those go whose content is missing or damaged; without it they are problems.
        """

        def failed(oid: ObjectId, error: GitVaultError) -> None:
            if left is not None:
                left.extend(jobs[oid])
                return
            self.problems.extend(Problem(job.path, f"not restored: {error}") for job in jobs[oid])

        files = size = 0
        for oid, _, data in self._history.objects.read_many(jobs, failed=failed):
            for job in jobs[oid]:
                try:
                    self.write_file(folder, job, data)
                except OSError as error:
                    self.failed(job.path, "not restored", error)
                    continue
                files += 1
                size += len(data)
        return files, size

    def write_file(self, folder: TargetFolder, job: Job, data: bytes) -> None:
        """Write one small file or symlink, whose content is known to be right. Raises OSError."""
        if job.entry.kind == "symlink":
            if b"\0" in data:
                raise OSError(errno.EINVAL, "no link leads to a name with a NUL in it")
            self.clear(folder, job.name)
            folder.symlink(data, job.name)
            self._link_attributes(folder, job)
            return
        name, final = job.name, None
        if self.in_the_way(folder, job.name):
            name, final = self.temporary_name(), job.name
        fd = folder.create(name)
        try:
            if job.said and job.said.sparse:
                write_holes(fd, data)
                os.ftruncate(fd, len(data))
            else:
                write_all(fd, data)
            self.file_attributes(fd, folder, name, job)
            os.close(fd)
            fd = -1
            if final:
                folder.rename(name, final)
        except BaseException:
            # A file that is not whole must not pass for one.
            if fd >= 0:
                os.close(fd)
            discard(folder, name)
            raise

    def file_attributes(self, fd: int, folder: TargetFolder, name: bytes, job: Job) -> None:
        """Give the open file, which `folder` holds as `name`, what was said of it; what cannot be is a problem."""
        said = job.said
        if said:
            # In this order: a change of owner takes setuid and capabilities away.
            self._owner_and_xattrs(fd, said, job.path)
        try:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, self._mode(said, job.path) if said else job.entry.mode)
        except OSError as error:
            self.failed(job.path, _PERMISSIONS, error)
        try:
            if said and os.utime in os.supports_fd:
                os.utime(fd, ns=(said.mtime_ns, said.mtime_ns))
            elif said:
                folder.set_times(name, said.mtime_ns)
        except OSError as error:
            self.failed(job.path, _TIME, error)

    def folder_attributes(self, place: bytes, path: bytes, said: Attributes) -> None:
        """Give a folder its own attributes, after everything below it: writing into it changes its time."""
        with self.opened(path, "attributes of the folder not restored", place) as folder:
            if folder:
                handle = folder.fd if folder.fd >= 0 else folder.path()
                self._owner_and_xattrs(handle, said, path)
                try:
                    os.chmod(handle, self._mode(said, path))
                except OSError as error:
                    self.failed(path, _PERMISSIONS, error)
                try:
                    folder.set_times(None, said.mtime_ns)
                except OSError as error:
                    self.failed(path, _TIME, error)

    def _link_attributes(self, folder: TargetFolder, job: Job) -> None:
        if job.said:
            try:
                if self._owners:
                    folder.set_owner(job.name, job.said.owner)
            except OSError as error:
                self.failed(job.path, _OWNER, error)
            try:
                folder.set_times(job.name, job.said.mtime_ns)
            except OSError as error:
                self.failed(job.path, _TIME, error)

    def _owner_and_xattrs(self, handle: int | str, said: Attributes, path: bytes) -> None:
        try:
            if self._owners:
                # Giving a file to its owner is a transaction of the file system all the same.
                now = os.stat(handle)
                if (now.st_uid, now.st_gid) != said.owner:
                    os.chown(handle, *said.owner)
        except OSError as error:
            self.failed(path, _OWNER, error)
        if not (xattrs := said.xattrs):
            return
        if not self._trusted and any(map(is_privilege, xattrs)):
            self.problems.append(Problem(path, "privileges dropped: another user made this vault"))
            xattrs = {name: value for name, value in xattrs.items() if not is_privilege(name)}
        for trouble in write_xattrs(handle, xattrs):
            self.problems.append(Problem(path, trouble))

    def _mode(self, said: Attributes, path: bytes) -> int:
        special = said.mode & (stat.S_ISUID | stat.S_ISGID)
        if special and not self._trusted:
            self.problems.append(Problem(path, "setuid and setgid dropped: another user made this vault"))
        return said.mode & ~special if special and not self._trusted else said.mode


class Workers:
    """Processes that write folders beside this one; none before `start`."""

    def __init__(self, git_dir: Path, root: TargetFolder, selection: Selection, overwrite: bool) -> None:
        self._settings = (git_dir, root.path(), _identity(root), selection, overwrite)
        self._workers: list[_Worker] = []
        self._replies: queue.SimpleQueue[tuple[_Worker, Written | OSError | GitVaultError]] = queue.SimpleQueue()

    def start(self) -> None:
        """Start one for each core but this process's, unless they run."""
        if not self._workers:
            number = min((os.cpu_count() or 1) - 1, _WORKERS)
            self._workers = [_Worker(self._settings, self._replies) for _ in range(number)]

    def running(self) -> bool:
        """Whether there are any."""
        return bool(self._workers)

    def give(self, pending: list[Task], *, everything: bool = False) -> None:
        """Take tasks for those who wait for some, from the beginning of the list: those near the root lead to most.

        A half is left for who gives, unless `everything` is for them.
        """
        for worker in self._workers:
            while worker.under_way < _UNDER_WAY and (number := len(pending) if everything else len(pending) // 2):
                number = min(_BATCH, number)
                worker.submit(pending[:number])
                del pending[:number]

    def busy(self) -> bool:
        """Whether something is under way."""
        return any(worker.under_way for worker in self._workers)

    def replies(self, *, wait: bool) -> Iterator[Written]:
        """What came back by now. `wait`: for something at least. Raises what stopped a worker."""
        while (wait and self.busy()) or not self._replies.empty():
            worker, reply = self._replies.get()
            worker.under_way -= 1
            if not isinstance(reply, Written):
                raise reply
            wait = False
            yield reply

    def close(self) -> None:
        """End them; each finishes the file it is at."""
        for worker in self._workers:
            worker.end()


class _Worker:
    """One worker process and the thread that listens to it."""

    def __init__(
        self, settings: object, replies: queue.SimpleQueue[tuple[_Worker, Written | OSError | GitVaultError]]
    ) -> None:
        self.under_way = 0
        self._process = start_python("gitvault.core.backup_engine.writer")
        self._replies = replies
        self._thread = threading.Thread(target=self._listen, daemon=True)
        tell(self._process, settings)
        self._thread.start()

    def submit(self, tasks: list[Task]) -> None:
        self.under_way += 1
        tell(self._process, tasks)

    def end(self) -> None:
        finish(self._process)
        self._thread.join()

    def _listen(self) -> None:
        assert self._process.stdout
        try:
            with self._process.stdout as pipe:
                while (reply := receive(pipe)) is not None:
                    self._replies.put((self, reply))
        finally:
            why = "a worker process ended unexpectedly; not all is restored, run again with --overwrite"
            self._replies.put((self, GitVaultError(why)))


def _identity(folder: TargetFolder) -> tuple[int, int]:
    found = os.stat(folder.fd if folder.fd >= 0 else folder.path())
    return found.st_dev, found.st_ino


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """A worker's life: settings, then tasks, and what became of them."""
    if (settings := receive(requests)) is None:
        return
    git_dir, path, identity, selection, overwrite = settings
    problems: list[Problem] = []
    with (
        contextlib.closing(GitHistory(git_dir, decode_pointer=pointers.decode)) as history,
        TargetFolder.open(Path(path)) as root,
        # Where a vault is a part of another, only its own process can have it completed.
        FolderWriter(history, root, selection, overwrite, problems, leaves_missing=True) as writer,
    ):
        while tasks := receive(requests):
            reply: Written | OSError | GitVaultError
            try:
                if _identity(root) != identity:
                    raise GitVaultError(f"{path}: has become another folder meanwhile; restore again")
                reply = writer.write(tasks)
                reply.problems += problems
                problems.clear()
            except (OSError, GitVaultError) as error:
                reply = error
            send(replies, reply)


if __name__ == "__main__":
    # What goes over the pipes are classes of the module by its name, which this one has not.
    from gitvault.core.backup_engine import writer

    # It makes no garbage and ends soon.
    gc.disable()
    # Ctrl-C reaches every process of the terminal: this one removes the file it is at, the parent says what happened.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        heed_interrupts()
        writer.serve(sys.stdin.buffer, sys.stdout.buffer)
