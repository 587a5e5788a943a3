"""From snapshot to disk.

Folder by folder, each opened once and written beneath (see utils/target.py): small files straight from the
git packs, their hash checked before a byte is written; large ones on two threads, each chunk checked, into a
temporary file that gets its name when the whole is right. Hard links after the files, folders' own
attributes last and from the deepest up, because writing into a folder changes its time.
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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from gitvault.core.interfaces import Progress, StorageManager
from gitvault.core.models import Entry, ObjectId, Problem, RestoreReport, SnapshotId
from gitvault.core.utils.attributes import is_privilege, made_by_this_user, may_set_owner, write_xattrs
from gitvault.core.utils.files import DirectWriter, full_disk_named
from gitvault.core.utils.names import loose_name, to_line, windows_holds
from gitvault.core.utils.target import Descent, TargetFolder, discard, is_plain, write_all, write_holes
from gitvault.core.versioning import contents
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.meta import Attributes
from gitvault.errors import CorruptionError, ExistsError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.models import Snapshot

# More than cores: direct writes wait for the disk. 4.5 GB in 9.1 s, with three in 9.6.
_LARGE_AT_ONCE = 5
# Each large file under way keeps a descriptor of its folder.
_LARGE_UNDER_WAY = 32
# Half of the processor time of a restore of 2,262 files (4.5 GB) went into the page cache.
_DIRECT_FROM = 1 << 20
# More files than twice what the snapshot says, and these, are a trap.
_UNSAID = 10_000
WINDOWS = sys.platform == "win32"


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
        contents.find(history, snapshot, path, lambda _: None)
    selection = _Selection(wanted if b"" not in wanted else (), tuple(_clean(path) for path in excluded))
    fresh = not target.exists()
    if not fresh and not target.is_dir():
        raise ExistsError(f"{target}: not a folder; name one, or a name that does not exist yet")
    run = _Run(history, store, selection, overwrite, progress, history.get_version(snapshot))
    tree, meta_tree = history.trees(snapshot, run.problems.append)
    if not fresh and not overwrite:
        with TargetFolder.open(target) as root:
            run.check(root, tree, meta_tree)
    target.mkdir(parents=True, exist_ok=True)
    with TargetFolder.open(target) as root, full_disk_named(target):
        try:
            run.write(root, tree, meta_tree, fresh or overwrite)
            run.settle()
        finally:
            run.pool.shutdown(cancel_futures=True)
        run.links(root)
        run.attributes(root)
    problems = tuple(sorted(run.problems, key=lambda problem: problem.path))
    return RestoreReport(snapshot, run.files, run.bytes, time.perf_counter() - started, problems)


def _clean(path: bytes) -> bytes:
    return b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))


def _alike(names: list[bytes]) -> dict[bytes, list[bytes]]:
    """Names that some file system takes for one earlier in the list, each with those."""
    groups: dict[str, list[bytes]] = {}
    for name in names:
        groups.setdefault(loose_name(name), []).append(name)
    if len(groups) == len(names):
        return {}
    return {name: group[:at] for group in groups.values() for at, name in enumerate(group) if at}


def _is_one(folder: TargetFolder, a: bytes, b: bytes) -> bool:
    """Whether two names lead to the same in this folder."""
    if not (is_plain(a) and is_plain(b)):
        return False
    one, other = folder.lstat(a), folder.lstat(b)
    return one is not None and other is not None and os.path.samestat(one, other)


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
        said: Snapshot,
    ) -> None:
        self.history = history
        self.store = store
        self.selection = selection
        self.overwrite = overwrite
        self.progress = progress
        self.total = said.bytes if not selection.wanted else 0
        # A few trees, each with the next in it ten times, are more files than any disk holds.
        self.claimed = 2 * said.files + _UNSAID if said.files else sys.maxsize
        self.owners = may_set_owner()
        self.trusted = made_by_this_user(history.git_dir)
        self.problems: list[Problem] = []
        self.files = self.bytes = 0
        self.pool = ThreadPoolExecutor(_LARGE_AT_ONCE, thread_name_prefix="restore")
        self.large: deque[tuple[Future[int], bytes]] = deque()
        self.first_names: dict[tuple[str, bytes], bytes] = {}
        self.later_names: list[tuple[bytes, bytes, _Job]] = []
        self.folders: list[tuple[bytes, Attributes]] = []
        self.serial = 0

    # -- looking before writing --------------------------------------------------------------------

    def check(self, root: TargetFolder, tree: ObjectId, meta_tree: ObjectId | None) -> None:
        """Raise ExistsError for the first file in the way."""
        pending: list[tuple[bytes, ObjectId, ObjectId | None]] = [(b"", tree, meta_tree)]
        with Descent(root) as descent:
            while pending:
                path, tree, meta_tree = pending.pop()
                with descent.to(path) as folder:
                    for entry, _, below in self._listing(path, tree, meta_tree)[1]:
                        where = path + b"/" + entry.path if path else entry.path
                        if entry.kind == "folder":
                            if not self.selection.enters(where):
                                continue
                        elif not self.selection.covers(where):
                            continue
                        found = folder.lstat(entry.path) if is_plain(entry.path) else None
                        if found is None:
                            continue
                        if entry.kind == "folder" and stat.S_ISDIR(found.st_mode):
                            pending.append((where, entry.blob, below))
                            continue
                        there = os.path.join(folder.path(), os.fsdecode(entry.path))
                        raise ExistsError(
                            f"{to_line(os.fsencode(there))}: exists; nothing was written, "
                            "restore into another folder or say --overwrite"
                        )

    # -- writing -----------------------------------------------------------------------------------

    def write(self, root: TargetFolder, tree: ObjectId, meta_tree: ObjectId | None, own_attributes: bool) -> None:
        """Write what is selected, a folder's files before what is below. `own_attributes`: also the root's."""
        pending: list[tuple[bytes, ObjectId, ObjectId | None, bool]] = [(b"", tree, meta_tree, own_attributes)]
        with Descent(root) as descent:
            while pending:
                path, tree, meta_tree, made = pending.pop()
                try:
                    folder = descent.to(path)
                except OSError as error:
                    self.failed(path, "folder not restored", error)
                    continue
                with folder:
                    own, below = self._folder(folder, path, tree, meta_tree)
                if own and made and (not self.selection.wanted or path):
                    self.folders.append((path, own))
                pending += reversed(below)

    def _folder(
        self, folder: TargetFolder, path: bytes, tree: ObjectId, meta_tree: ObjectId | None
    ) -> tuple[Attributes | None, list[tuple[bytes, ObjectId, ObjectId | None, bool]]]:
        """Write the files of one folder and make the folders in it: its attributes, and what is to be done below."""
        own, listing = self._listing(path, tree, meta_tree, report=True)
        below: list[tuple[bytes, ObjectId, ObjectId | None, bool]] = []
        alike = _alike([entry.path for entry, _, _ in listing])
        self._entries(folder, path, [item for item in listing if item[0].path not in alike], below)
        if alike:
            # What has the earlier names must be there before one can see whether they are the same here.
            self.settle()
        for item in listing if alike else ():
            name = item[0].path
            first = next((other for other in alike.get(name, ()) if _is_one(folder, other, name)), None)
            if first is not None:
                where = path + b"/" + name if path else name
                reason = f"not restored: here its name is that of {to_line(first)}; restore it into a folder of its own"
                self.problems.append(Problem(where, reason))
            elif name in alike:
                self._entries(folder, path, [item], below)
                self.settle()
        return own, below

    def _entries(
        self,
        folder: TargetFolder,
        path: bytes,
        listing: list[tuple[Entry, Attributes | None, ObjectId | None]],
        below: list[tuple[bytes, ObjectId, ObjectId | None, bool]],
    ) -> None:
        """Write files and make folders of one folder; what is to be done below is added to `below`."""
        small: dict[ObjectId, list[_Job]] = {}
        for entry, said, below_meta in listing:
            where = path + b"/" + entry.path if path else entry.path
            if not is_plain(entry.path):
                self.problems.append(Problem(where, "not restored: its name would lead out of the folder"))
            elif WINDOWS and not windows_holds(entry.path):
                self.problems.append(Problem(where, "not restored: Windows has no such names; restore it elsewhere"))
            elif entry.kind == "folder":
                if self.selection.enters(where):
                    try:
                        made = self._make_folder(folder, entry.path)
                    except OSError as error:
                        self.failed(where, "folder not restored", error)
                        continue
                    below.append((where, entry.blob, below_meta, made or self.overwrite))
            elif self.selection.covers(where):
                self.claimed -= 1
                if self.claimed < 0:
                    raise CorruptionError("the snapshot holds many more files than it says; run git-vault verify")
                self._file(folder, _Job(where, entry.path, entry, said), small)
        self._small(folder, small)

    def _listing(
        self, path: bytes, tree: ObjectId, meta_tree: ObjectId | None, *, report: bool = False
    ) -> tuple[Attributes | None, list[tuple[Entry, Attributes | None, ObjectId | None]]]:
        """What a folder holds; of a damaged one what can still be read. `report`: say so."""
        try:
            damaged = self.problems.append if report else lambda _: None
            return contents.listing(self.history, tree, meta_tree, damaged, path)
        except (CorruptionError, NotFoundError) as error:
            if report:
                self.problems.append(Problem(path, f"folder not restored: {error}"))
            return None, []

    def failed(self, path: bytes, what: str, error: OSError) -> None:
        """One path's trouble is a problem; a full disk is everybody's."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise error
        self.problems.append(Problem(path, f"{what}: {error.strerror}"))

    def _make_folder(self, folder: TargetFolder, name: bytes) -> bool:
        found = folder.lstat(name)
        if found and stat.S_ISDIR(found.st_mode):
            return False
        self._clear(folder, name)
        folder.mkdir(name)
        return True

    def _in_the_way(self, folder: TargetFolder, name: bytes) -> bool:
        """Whether there is a file to be replaced; a folder that has its name goes when it is empty."""
        found = folder.lstat(name) if self.overwrite else None
        if found and stat.S_ISDIR(found.st_mode):
            folder.rmdir(name)
            return False
        return found is not None

    def _clear(self, folder: TargetFolder, name: bytes) -> None:
        if self._in_the_way(folder, name):
            folder.unlink(name)

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
                    self.failed(job.path, "not restored", error)
                    continue
                self.files += 1
                self.bytes += len(data)
        if self.progress:
            self.progress("restoring", self.bytes, self.total)

    def _write(self, folder: TargetFolder, job: _Job, data: bytes) -> None:
        if job.entry.kind == "symlink":
            if b"\0" in data:
                raise OSError(errno.EINVAL, "no link leads to a name with a NUL in it")
            self._clear(folder, job.name)
            folder.symlink(data, job.name)
            self._link_attributes(folder, job)
            return
        name, final = job.name, None
        if self._in_the_way(folder, job.name):
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
                sparse = bool(job.said and job.said.sparse)
                with _Target(fd, sparse, direct=pointer.size >= _DIRECT_FROM and not sparse) as target:
                    self.store.retrieve_file(pointer, cast(BinaryIO, target))
                os.ftruncate(fd, pointer.size)
                self._file_attributes(fd, folder, temporary, job)
                os.close(fd)
                fd = -1
                if not self._in_the_way(folder, job.name) and folder.lstat(job.name):
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
            self.bytes += future.result()
            self.files += 1
        except OSError as error:
            self.failed(path, "not restored", error)
        except (CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(path, f"not restored: {error}"))
        if self.progress:
            self.progress("restoring", self.bytes, self.total)

    # -- attributes --------------------------------------------------------------------------------

    def _file_attributes(self, fd: int, folder: TargetFolder, name: bytes, job: _Job) -> None:
        said = job.said
        if said is None:
            with self._tried(job.path, "permissions"):
                if hasattr(os, "fchmod"):
                    os.fchmod(fd, job.entry.mode)
            return
        # In this order: a change of owner takes setuid and capabilities away.
        self._owner_and_xattrs(fd, said, job.path)
        with self._tried(job.path, "permissions"):
            if hasattr(os, "fchmod"):
                os.fchmod(fd, self._mode(said, job.path))
        with self._tried(job.path, "time"):
            if os.utime in os.supports_fd:
                os.utime(fd, ns=(said.mtime_ns, said.mtime_ns))
            else:
                folder.set_times(name, said.mtime_ns)

    def _owner_and_xattrs(self, handle: int | str, said: Attributes, path: bytes) -> None:
        if self.owners:
            with self._tried(path, "owner"):
                os.chown(handle, *said.owner)
        xattrs = said.xattrs
        if not self.trusted and any(map(is_privilege, xattrs)):
            self.problems.append(Problem(path, "privileges dropped: another user made this vault"))
            xattrs = {name: value for name, value in xattrs.items() if not is_privilege(name)}
        for trouble in write_xattrs(handle, xattrs):
            self.problems.append(Problem(path, trouble))

    def _tried(self, path: bytes, what: str) -> _Tried:
        """Some places have no owners, modes or such times; the bytes count."""
        return _Tried(self, path, what)

    def _mode(self, said: Attributes, path: bytes) -> int:
        special = said.mode & (stat.S_ISUID | stat.S_ISGID)
        if special and not self.trusted:
            self.problems.append(Problem(path, "setuid and setgid dropped: another user made this vault"))
        return said.mode & ~special if special and not self.trusted else said.mode

    def _link_attributes(self, folder: TargetFolder, job: _Job) -> None:
        if job.said:
            if self.owners:
                with self._tried(job.path, "owner"):
                    folder.set_owner(job.name, job.said.owner)
            with self._tried(job.path, "time"):
                folder.set_times(job.name, job.said.mtime_ns)

    def links(self, root: TargetFolder) -> None:
        """The second and further names of files with several."""
        for path, first, job in self.later_names:
            parent, _, name = path.rpartition(b"/")
            source_parent, _, source_name = first.rpartition(b"/")
            try:
                with root.descend(parent) as folder, root.descend(source_parent) as source:
                    self._clear(folder, name)
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
                    self.bytes += self._large(folder.descend(b""), job, b".gitvault-%d-%d" % (os.getpid(), self.serial))
                    self.files += 1
                else:
                    self._small(folder, {job.entry.blob: [job]})
        except OSError as error:
            self.failed(job.path, "not restored", error)
        except (CorruptionError, NotFoundError) as error:
            self.problems.append(Problem(job.path, f"not restored: {error}"))

    def attributes(self, root: TargetFolder) -> None:
        """The folders' own, deepest first."""
        with Descent(root) as descent:
            for path, said in reversed(self.folders):
                try:
                    folder = descent.to(path)
                except OSError as error:
                    self.failed(path, "attributes of the folder not restored", error)
                    continue
                with folder:
                    handle = folder.fd if folder.fd >= 0 else folder.path()
                    self._owner_and_xattrs(handle, said, path)
                    with self._tried(path, "permissions"):
                        os.chmod(handle, self._mode(said, path))
                    with self._tried(path, "time"):
                        folder.set_times(None, said.mtime_ns)


@dataclass(slots=True)
class _Tried:
    """A step whose failure is a problem. A class: three a file, and a generator takes three times as long."""

    run: _Run
    path: bytes
    what: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            self.run.failed(self.path, f"{self.what} not restored", error)
            return True
        return False


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
