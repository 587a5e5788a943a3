"""From snapshot to disk.

Folder by folder, each opened once and written beneath (see utils/target.py): small files straight from the
git packs, their hash checked before a byte is written; large ones on two threads, each chunk checked, into a
temporary file that gets its name when the whole is right. Hard links after the files, folders' own
attributes last and from the deepest up, because writing into a folder changes its time.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from gitvault.core.interfaces import Progress, StorageManager
from gitvault.core.models import Entry, ObjectId, Problem, RestoreReport, SnapshotId
from gitvault.core.utils.attributes import made_by_this_user, may_set_owner, write_xattrs
from gitvault.core.utils.names import to_line
from gitvault.core.utils.target import TargetFolder, discard, is_plain, write_all, write_holes
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.meta import Attributes
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError

# Each large file under way keeps a descriptor of its folder.
_LARGE_UNDER_WAY = 32


@dataclass(slots=True)
class _Selection:
    """Which paths are restored."""

    wanted: tuple[bytes, ...]
    excluded: tuple[bytes, ...]

    def covers(self, path: bytes) -> bool:
        """Whether the file at `path` is restored."""
        inside = not self.wanted or any(_within(path, w) for w in self.wanted)
        return inside and not any(_within(path, e) for e in self.excluded)

    def enters(self, path: bytes) -> bool:
        """Whether something at or below the folder `path` may be."""
        if any(_within(path, e) for e in self.excluded):
            return False
        return not self.wanted or not path or any(_within(path, w) or _within(w, path) for w in self.wanted)


def _within(path: bytes, folder: bytes) -> bool:
    return path == folder or not folder or path.startswith(folder + b"/")


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
    wanted = tuple(_clean(path) for path in paths)
    for path in wanted:
        history.find(snapshot, path)
    selection = _Selection(wanted if b"" not in wanted else (), tuple(_clean(path) for path in excluded))
    fresh = not target.exists()
    if not fresh and not target.is_dir():
        raise ExistsError(f"{target}: not a folder; name one, or a name that does not exist yet")
    run = _Run(history, store, selection, overwrite, progress, history.get_version(snapshot).bytes)
    tree, meta_tree = history.trees(snapshot)
    if not fresh and not overwrite:
        with TargetFolder.open(target) as root:
            run.check(root, tree, meta_tree, b"")
    target.mkdir(parents=True, exist_ok=True)
    with TargetFolder.open(target) as root:
        try:
            run.folder(root, tree, meta_tree, b"", fresh or overwrite)
            run.settle()
        finally:
            run.pool.shutdown(cancel_futures=True)
        run.links(root)
        run.attributes(root)
    problems = tuple(sorted(run.problems, key=lambda problem: problem.path))
    return RestoreReport(snapshot, run.files, run.bytes, time.perf_counter() - started, problems)


def _clean(path: bytes) -> bytes:
    return b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))


@dataclass(slots=True)
class _Job:
    """One file to write."""

    path: bytes
    name: bytes
    entry: Entry
    said: Attributes | None


class _Run:
    def __init__(
        self,
        history: GitHistory,
        store: StorageManager,
        selection: _Selection,
        overwrite: bool,
        progress: Progress | None,
        total: int,
    ) -> None:
        self.history = history
        self.store = store
        self.selection = selection
        self.overwrite = overwrite
        self.progress = progress
        self.total = total if not selection.wanted else 0
        self.owners = may_set_owner()
        self.trusted = made_by_this_user(history.git_dir)
        self.problems: list[Problem] = []
        self.files = self.bytes = 0
        self.pool = ThreadPoolExecutor(2, thread_name_prefix="restore")
        self.large: deque[tuple[Future[int], bytes]] = deque()
        self.first_names: dict[tuple[str, bytes], bytes] = {}
        self.later_names: list[tuple[bytes, bytes, _Job]] = []
        self.folders: list[tuple[bytes, Attributes]] = []
        self.serial = 0

    # -- looking before writing --------------------------------------------------------------------

    def check(self, folder: TargetFolder, tree: ObjectId, meta_tree: ObjectId | None, path: bytes) -> None:
        """Raise ExistsError for the first file in the way."""
        for entry, _, below in self.history.listing(tree, meta_tree)[1]:
            where = path + b"/" + entry.path if path else entry.path
            if not is_plain(entry.path):
                continue
            found = folder.lstat(entry.path)
            if found is None:
                continue
            if entry.kind == "folder":
                if not self.selection.enters(where):
                    continue
                if stat.S_ISDIR(found.st_mode):
                    with folder.enter(entry.path) as inner:
                        self.check(inner, entry.blob, below, where)
                    continue
            elif not self.selection.covers(where):
                continue
            there = os.path.join(folder.path(), os.fsdecode(entry.path))
            raise ExistsError(
                f"{to_line(os.fsencode(there))}: exists; nothing was written, "
                "restore into another folder or say --overwrite"
            )

    # -- writing -----------------------------------------------------------------------------------

    def folder(
        self, folder: TargetFolder, tree: ObjectId, meta_tree: ObjectId | None, path: bytes, own_attributes: bool
    ) -> None:
        """Write what is selected of one folder and, after its files, of those below."""
        own, listing = self.history.listing(tree, meta_tree)
        if own and own_attributes and (not self.selection.wanted or path):
            self.folders.append((path, own))
        small: dict[ObjectId, list[_Job]] = {}
        below: list[tuple[bytes, bytes, ObjectId, ObjectId | None]] = []
        for entry, said, below_meta in listing:
            where = path + b"/" + entry.path if path else entry.path
            if not is_plain(entry.path):
                self.problems.append(Problem(where, "not restored: its name would lead out of the folder"))
            elif entry.kind == "folder":
                if self.selection.enters(where):
                    below.append((where, entry.path, entry.blob, below_meta))
            elif self.selection.covers(where):
                self._file(folder, _Job(where, entry.path, entry, said), small)
        self._small(folder, small)
        for where, name, inner_tree, inner_meta in below:
            try:
                made = self._make_folder(folder, name)
                inner = folder.enter(name)
            except OSError as error:
                self.problems.append(Problem(where, f"folder not restored: {error.strerror}"))
                continue
            with inner:
                self.folder(inner, inner_tree, inner_meta, where, made or self.overwrite)

    def _make_folder(self, folder: TargetFolder, name: bytes) -> bool:
        found = folder.lstat(name)
        if found and stat.S_ISDIR(found.st_mode):
            return False
        if found and self.overwrite:
            folder.unlink(name)
        folder.mkdir(name)
        return True

    def _file(self, folder: TargetFolder, job: _Job, small: dict[ObjectId, list[_Job]]) -> None:
        if job.said and job.said.link:
            group = (job.said.link, job.entry.blob)
            first = self.first_names.setdefault(group, job.path)
            if first != job.path:
                self.later_names.append((job.path, first, job))
                return
        if job.entry.pointer is None:
            small.setdefault(job.entry.blob, []).append(job)
            return
        self.serial += 1
        temporary = b".gitvault-%d-%d" % (os.getpid(), self.serial)
        future = self.pool.submit(self._large, folder.descend(b""), job, temporary)
        self.large.append((future, job.path))
        while len(self.large) > _LARGE_UNDER_WAY:
            self._settle_one()

    def _small(self, folder: TargetFolder, jobs: dict[ObjectId, list[_Job]]) -> None:
        def failed(oid: ObjectId, error: GitVaultError) -> None:
            self.problems.extend(Problem(job.path, f"not restored: {error}") for job in jobs[oid])

        for oid, _, data in self.history.objects.read_many(jobs, failed=failed):
            for job in jobs[oid]:
                try:
                    self._write(folder, job, data)
                except OSError as error:
                    self.problems.append(Problem(job.path, f"not restored: {error.strerror}"))
                    continue
                self.files += 1
                self.bytes += len(data)
        if self.progress:
            self.progress("restoring", self.bytes, self.total)

    def _write(self, folder: TargetFolder, job: _Job, data: bytes) -> None:
        if job.entry.kind == "symlink":
            if self.overwrite and folder.lstat(job.name):
                folder.unlink(job.name)
            folder.symlink(data, job.name)
            self._link_attributes(folder, job)
            return
        name, final = job.name, None
        if self.overwrite and folder.lstat(job.name):
            self.serial += 1
            name, final = b".gitvault-%d-%d" % (os.getpid(), self.serial), job.name
        fd = folder.create(name)
        try:
            if job.said and job.said.sparse:
                write_holes(fd, data)
                os.ftruncate(fd, len(data))
            else:
                write_all(fd, data)
            self._file_attributes(fd, folder, name, job)
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

    def _large(self, folder: TargetFolder, job: _Job, temporary: bytes) -> int:
        """Runs on a thread of the pool; the bytes written."""
        pointer = job.entry.pointer
        assert pointer is not None
        with folder:
            fd = folder.create(temporary)
            try:
                target = _Target(fd, sparse=bool(job.said and job.said.sparse))
                self.store.retrieve_file(pointer, cast(BinaryIO, target))
                os.ftruncate(fd, pointer.size)
                self._file_attributes(fd, folder, temporary, job)
                os.close(fd)
                fd = -1
                found = folder.lstat(job.name)
                if found and not self.overwrite:
                    raise FileExistsError(17, "a file of this name appeared meanwhile")
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
            self.bytes += future.result()
            self.files += 1
        except OSError as error:
            self.problems.append(Problem(path, f"not restored: {error.strerror}"))
        except (CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(path, f"not restored: {error}"))
        if self.progress:
            self.progress("restoring", self.bytes, self.total)

    # -- attributes --------------------------------------------------------------------------------

    def _file_attributes(self, fd: int, folder: TargetFolder, name: bytes, job: _Job) -> None:
        said = job.said
        if said is None:
            if hasattr(os, "fchmod"):
                os.fchmod(fd, job.entry.mode)
            return
        if self.owners:
            os.fchown(fd, *said.owner)
        for trouble in write_xattrs(fd, said.xattrs):
            self.problems.append(Problem(job.path, trouble))
        if hasattr(os, "fchmod"):
            os.fchmod(fd, self._mode(said, job.path))
        if os.utime in os.supports_fd:
            os.utime(fd, ns=(said.mtime_ns, said.mtime_ns))
        else:
            folder.set_times(name, said.mtime_ns)

    def _mode(self, said: Attributes, path: bytes) -> int:
        special = said.mode & (stat.S_ISUID | stat.S_ISGID)
        if special and not self.trusted and said.kind == "file":
            self.problems.append(Problem(path, "setuid and setgid dropped: another user made this vault"))
            return said.mode & ~special
        return said.mode

    def _link_attributes(self, folder: TargetFolder, job: _Job) -> None:
        if job.said:
            if self.owners:
                folder.set_owner(job.name, job.said.owner)
            folder.set_times(job.name, job.said.mtime_ns)

    def links(self, root: TargetFolder) -> None:
        """The second and further names of files with several."""
        for path, first, job in self.later_names:
            parent, _, name = path.rpartition(b"/")
            source_parent, _, source_name = first.rpartition(b"/")
            try:
                with root.descend(parent) as folder, root.descend(source_parent) as source:
                    if self.overwrite and folder.lstat(name):
                        folder.unlink(name)
                    folder.link(source, source_name, name)
                self.files += 1
            except FileNotFoundError:
                self.problems.append(Problem(path, f"not restored: it is {to_line(first)}, which was not restored"))
            except OSError:
                self._copy(root, parent, job)

    def _copy(self, root: TargetFolder, parent: bytes, job: _Job) -> None:
        """Where the file system has no hard links, each name gets the content."""
        try:
            with root.descend(parent) as folder:
                if job.entry.pointer:
                    self.serial += 1
                    self.bytes += self._large(
                        folder.descend(b""), job, b".gitvault-%d-%d" % (os.getpid(), self.serial)
                    )
                    self.files += 1
                else:
                    self._small(folder, {job.entry.blob: [job]})
        except (OSError, CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(job.path, f"not restored: {getattr(error, 'strerror', error)}"))

    def attributes(self, root: TargetFolder) -> None:
        """The folders' own, deepest first."""
        for path, said in reversed(self.folders):
            try:
                with root.descend(path) as folder:
                    handle = folder.fd if folder.fd >= 0 else folder.path()
                    if self.owners:
                        os.chown(handle, *said.owner)
                    for trouble in write_xattrs(handle, said.xattrs):
                        self.problems.append(Problem(path, trouble))
                    os.chmod(handle, self._mode(said, path))
                    folder.set_times(None, said.mtime_ns)
            except OSError as error:
                self.problems.append(Problem(path, f"attributes of the folder not restored: {error.strerror}"))


@dataclass(slots=True)
class _Target:
    """What a store writes a large file to."""

    fd: int
    sparse: bool = False

    def write(self, data: bytes | memoryview) -> int:
        """Append."""
        if self.sparse:
            write_holes(self.fd, data)
        else:
            write_all(self.fd, data)
        return len(data)
