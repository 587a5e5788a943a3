"""A checkout made again: its repository, its index, and the files that version control has."""

from __future__ import annotations

import os
import stat
import tarfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gitvault.core.backup_engine.restore import restore_snapshot
from gitvault.core.backup_engine.writer import FolderWriter, Job, Selection, clean
from gitvault.core.interfaces import Progress, StorageManager
from gitvault.core.models import ObjectId, Problem, RestoreReport
from gitvault.core.utils.files import full_disk_named
from gitvault.core.utils.names import to_line
from gitvault.core.utils.target import TargetFolder, is_plain, write_all
from gitvault.core.versioning import index
from gitvault.core.versioning.history import GitHistory
from gitvault.errors import ExistsError, GitVaultError, ToolError
from gitvault.vcs import lean
from gitvault.vcs.client_sources import ClientSources
from gitvault.vcs.protect import outside, record, repository, sources
from gitvault.vcs.protect.record import Attached, Record
from gitvault.vcs.protect.repository import Repository
from gitvault.vcs.protect.sources import Sources
from gitvault.vcs.protect.view import Based, View, index_of

_GIT = b".git"


@dataclass(slots=True)
class Rebuilt:
    """What was added to a restored snapshot."""

    files: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)


def restore(
    view: View,
    target: Path,
    *,
    store: StorageManager,
    paths: Iterable[bytes] = (),
    excluded: Iterable[bytes] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RestoreReport:
    """`restore_snapshot`, with the files that version control has and their repositories. Raises what that raises."""
    run = partial(
        restore_snapshot,
        view.snapshot,
        target,
        history=view.history,
        store=store,
        excluded=excluded,
        overwrite=overwrite,
        progress=progress,
    )
    if not view.attached and not view.carried:
        return run(paths=paths)
    started = time.perf_counter()
    wanted, excluded = tuple(map(clean, paths)), tuple(excluded)
    selection = Selection.of(wanted, excluded)
    stored = {entry.path for entry in view.history.entries(view.snapshot, recursive=True, damaged=lambda _: None)}
    files = {path: based for path, based in view.based.items() if path not in stored and selection.covers(path)}
    inside = [path for path in wanted if not path or path in stored]
    if len(inside) < len(wanted):
        for path in wanted:
            # Raises for one that is nowhere.
            next(view.entries(path, recursive=False), None)
    if not overwrite:
        _check_free(target, files)
    report = RestoreReport(view.snapshot, 0, 0, 0)
    if inside or not wanted:
        report = run(paths=inside)
    target.mkdir(parents=True, exist_ok=True)
    with full_disk_named(target):
        done = rebuild(view, target, selection, files, overwrite=overwrite)
    problems = sorted((*report.problems, *done.problems), key=lambda problem: problem.path)
    return RestoreReport(
        view.snapshot,
        report.files + done.files,
        report.bytes + done.bytes,
        time.perf_counter() - started,
        tuple(problems),
    )


def _check_free(target: Path, wanted: Iterable[bytes]) -> None:
    """Raises ExistsError for the first file in the way."""
    for path in sorted(wanted):
        there = os.path.join(target, os.fsdecode(path))
        if os.path.lexists(there):
            raise ExistsError(
                f"{to_line(os.fsencode(there))}: exists; nothing was written, "
                "restore into another folder or say --overwrite"
            )


def rebuild(view: View, target: Path, selection: Selection, wanted: dict[bytes, Based], *, overwrite: bool) -> Rebuilt:
    """Complete what `restore_snapshot` wrote below `target`: repositories, then the files `wanted`, then indexes.

    What cannot be had is a problem. Raises OSError when the disk is full.
    """
    done = Rebuilt()
    history = view.history
    with TargetFolder.open(target) as root, FolderWriter(history, root, selection, overwrite, done.problems) as writer:
        for attached in view.attached:
            said = attached.record
            files = {path: based for path, based in wanted.items() if based.attached is attached}
            place = None
            if selection.covers(said.path + b"/" + _GIT if said.path else _GIT):
                place = _repository(history, attached, root, target, done)
            with Sources(history, attached) as found:
                if place and not said.full:
                    _complete(attached, place, found, done)
                _write(root, writer, files, _reader(place, found), found, done)
            if place and not said.full:
                _write_index(history, attached, place, root, files, done)
        for carried in view.carried:
            files = {path: based for path, based in wanted.items() if based.attached is carried}
            _carried(history, carried, root, writer, target, selection, files, done)
    return done


def _carried(
    history: GitHistory,
    carried: lean.Attached,
    root: TargetFolder,
    writer: FolderWriter,
    target: Path,
    selection: Selection,
    files: dict[bytes, Based],
    done: Rebuilt,
) -> None:
    """A checkout of hg or svn: the store of hg gives the files, and the files of svn most of its store."""
    own = os.fsencode(f".{carried.record.vcs}")
    whole = selection.covers(carried.path + b"/" + own if carried.path else own)
    folder = lean.folder_of(carried, target) if whole else None
    lacking: list[str] = []
    if folder and carried.record.vcs == "hg":
        lacking = lean.complete(history, carried, folder)
    with ClientSources(history, carried, place=folder) as found:
        _write(root, writer, files, found.read_many, found, done)
    if folder and carried.record.vcs == "svn":
        lacking = lean.complete(history, carried, folder)
    done.problems += [Problem(carried.path, reason) for reason in lacking]


_Reader = Callable[[Iterable[ObjectId]], Iterable[tuple[ObjectId, bytes]]]


def _reader(place: Repository | None, found: Sources) -> _Reader:
    def read(oids: Iterable[ObjectId]) -> Iterable[tuple[ObjectId, bytes]]:
        left = dict.fromkeys(oids)
        for oid, data in sources.read_blobs(place, left) if place else ():
            left.pop(oid)
            yield oid, data
        if left:
            yield from found.read_many(left)

    return read


def _repository(
    history: GitHistory, attached: Attached, root: TargetFolder, target: Path, done: Rebuilt
) -> Repository | None:
    """The repository of a restored checkout, with the objects that the vault has; None when it cannot be."""
    said = attached.record
    try:
        if said.git_dir is None or said.common_dir is None:
            git_dir = common = said.path + b"/" + _GIT if said.path else _GIT
            _unpack(history, attached, root, git_dir)
        else:
            git_dir, common = said.git_dir, said.common_dir
            _lead(said, root, target, git_dir)
        for name in (b"objects", b"objects/pack", b"objects/info", b"refs"):
            _made(root, common + b"/" + name).close()
    except (OSError, ValueError, tarfile.TarError, GitVaultError) as error:
        done.problems.append(Problem(said.path, f"its repository is not restored: {error}"))
        return None
    top = os.path.realpath(target)
    place = Repository(*(os.path.join(top, os.fsdecode(path)) if path else top for path in (git_dir, common)))
    for problem in sources.add_local(history, attached, place):
        done.problems.append(Problem(said.path, problem))
    return place


def _unpack(history: GitHistory, attached: Attached, root: TargetFolder, git_dir: bytes) -> None:
    """A repository that lay elsewhere becomes a folder of the checkout."""
    parent, _, name = git_dir.rpartition(b"/")
    with _made(root, parent) as folder:
        found = folder.lstat(name)
        if found and not stat.S_ISDIR(found.st_mode):
            folder.unlink(name)
    _made(root, git_dir).close()
    for path, mode, content in outside.unpacked(attached.joined(history, record.REPOSITORY)):
        inner, _, name = path.rpartition(b"/")
        with _made(root, git_dir + b"/" + inner if inner else git_dir) as folder:
            _put(folder, name, content, mode)


def _lead(said: Record, root: TargetFolder, target: Path, git_dir: bytes) -> None:
    """Let `.git` and the repository of a worktree or submodule name each other where they are now."""
    marker = said.path + b"/" + _GIT if said.path else _GIT
    if git_dir == marker:
        return
    top = os.path.realpath(target)
    folder = os.path.join(top, os.fsdecode(said.path)) if said.path else top
    there = os.path.join(top, os.fsdecode(git_dir))
    linked = said.common_dir != said.git_dir
    text = there if linked else os.path.relpath(there, folder)
    with _made(root, said.path) as place:
        _put(place, _GIT, b"gitdir: " + os.fsencode(text) + b"\n", 0o644)
    if linked:
        with _made(root, git_dir) as place:
            _put(place, b"gitdir", os.fsencode(os.path.join(folder, ".git")) + b"\n", 0o644)


def _complete(attached: Attached, place: Repository, found: Sources, done: Rebuilt) -> None:
    """Bring the history that the snapshot relies on: from where the checkout was, else from a remote."""
    said = attached.record
    wanted = set(said.relied.values())
    tried: list[str] = []
    home = said.home
    if os.path.realpath(home) == place.common_dir:
        # Restored in place, where they are unless the whole checkout had been lost.
        if repository.existing(place, wanted) == wanted:
            return
        tried.append(f"{home} was gone")
    elif repository.is_git_dir(home):
        try:
            if repository.existing(Repository(home, home), wanted) == wanted:
                sources.copy_objects(os.path.join(home, "objects"), place.objects)
                return
            tried.append(f"{home} has not all of it")
        except (OSError, ToolError) as error:
            tried.append(f"{home}: {error}")
    else:
        tried.append(f"{home} is gone")
    own = found.scratch()
    for _ in sources.fetched(attached, own, tried):
        sources.copy_objects(own.objects, place.objects)
        with suppress(ToolError):
            wanted -= repository.existing(place, wanted)
        if not wanted:
            return
    reason = f"history up to {min(wanted)[:12]} is not restored, git had it: {'; '.join(tried)}"
    done.problems.append(Problem(said.path, reason))


def _write(
    root: TargetFolder,
    writer: FolderWriter,
    files: dict[bytes, Based],
    read: _Reader,
    found: Sources | ClientSources,
    done: Rebuilt,
) -> None:
    """The files, each with the bytes of its blob."""
    jobs: dict[ObjectId, list[Job]] = {}
    for path, based in files.items():
        name = path.rpartition(b"/")[2]
        if not all(is_plain(part) for part in path.split(b"/")):
            done.problems.append(Problem(path, "not restored: its name would lead out of the folder"))
            continue
        jobs.setdefault(based.entry.blob, []).append(Job(path, name, based.entry, None))
    times: dict[bytes, int] = {}
    for oid, data in read(list(jobs)):
        for job in jobs.pop(oid, ()):
            parent = job.path.rpartition(b"/")[0]
            try:
                with _made(root, parent) as folder:
                    if parent not in times and folder.fd >= 0:
                        times[parent] = os.fstat(folder.fd).st_mtime_ns
                    writer.write_file(folder, job, data)
            except OSError as error:
                writer.failed(job.path, "not restored", error)
                continue
            done.files += 1
            done.bytes += len(data)
    for jobs_left in jobs.values():
        done.problems += [Problem(job.path, f"not restored: {found.reason()}") for job in jobs_left]
    for parent, mtime_ns in times.items():
        with suppress(OSError), root.descend(parent) as folder:
            folder.set_times(None, mtime_ns)


def _write_index(
    history: GitHistory,
    attached: Attached,
    place: Repository,
    root: TargetFolder,
    files: dict[bytes, Based],
    done: Rebuilt,
) -> None:
    """The index, with the stat of each file that is as it says, so that git need not read these again."""
    said = attached.record
    prefix = said.path + b"/" if said.path else b""
    try:
        entries = index_of(history, attached)
        stats: dict[bytes, tuple[int, ...]] = {}
        for entry in entries:
            if prefix + entry.path in files:
                with suppress(OSError):
                    found = os.lstat(os.path.join(root.path(), os.fsdecode(prefix + entry.path)))
                    stats[entry.path] = _stat_of(found)
        git_dir = os.fsencode(os.path.relpath(place.git_dir, os.path.realpath(root.path())))
        with root.descend(git_dir.replace(os.fsencode(os.sep), b"/")) as folder:
            _put(folder, b"index", index.encode(entries, stats), 0o644)
    except (OSError, GitVaultError) as error:
        done.problems.append(Problem(said.path, f"its index is not restored: {error}"))


def _stat_of(found: os.stat_result) -> tuple[int, ...]:
    numbers = (
        *divmod(found.st_ctime_ns, 1_000_000_000),
        *divmod(found.st_mtime_ns, 1_000_000_000),
        *(found.st_dev, found.st_ino, 0, found.st_uid, found.st_gid, found.st_size),
    )
    return tuple(number & 0xFFFFFFFF for number in numbers)


def _made(root: TargetFolder, path: bytes) -> TargetFolder:
    """The folder at a path, made where it is missing."""
    at = root.descend(b"")
    for name in path.split(b"/") if path else ():
        with at:
            if at.lstat(name) is None:
                at.mkdir(name)
            at = at.enter(name)
    return at


def _put(folder: TargetFolder, name: bytes, content: bytes, mode: int) -> None:
    """A small file, whatever was there before."""
    if folder.lstat(name):
        folder.unlink(name)
    fd = folder.create(name)
    try:
        write_all(fd, content)
        if hasattr(os, "fchmod"):
            os.fchmod(fd, mode)
    finally:
        os.close(fd)
