"""Large files of a work tree filled in: pointers that git left there become their content, at any size."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.interfaces import Progress
from gitvault.core.models import Pointer, Problem
from gitvault.core.storage import pointers
from gitvault.core.utils.files import open_source
from gitvault.core.utils.target import TargetFolder, discard
from gitvault.core.versioning.objects import object_id
from gitvault.errors import GitVaultError, NotFoundError, ToolFailed
from gitvault.stock.origin import Repository

if TYPE_CHECKING:
    from gitvault.core.storage.store import ChunkStore

_FILE = b"100"


@dataclass(frozen=True, slots=True)
class Hydrated:
    """What `hydrate` did."""

    files: int
    bytes: int
    """Of what was filled in."""
    problems: Sequence[Problem]
    modified: int
    """Of the files: those that git now takes for changed, since nothing says that they are filtered."""


@dataclass(frozen=True, slots=True)
class _Found:
    path: bytes
    """From the top of the work tree."""
    pointer: Pointer
    mode: int


def hydrate(
    repository: Repository, paths: Sequence[str], store: Callable[[], ChunkStore], progress: Progress
) -> Hydrated:
    """Fill in the pointers among the tracked files below `paths` (none: all) that are as git wrote them.

    Each file is written beside its pointer and takes its name when its hash is right; git's index then learns of it.
    Raises NotFoundError outside of a work tree and for a path that git does not know, ToolError.
    """
    top = repository.folder("--show-toplevel")
    found = list(_pointers(repository, top, paths))
    problems: list[Problem] = []
    done: list[_Found] = []
    whole, size = sum(each.pointer.size for each in found), 0
    with TargetFolder.open(top) as folder:
        for each in found:
            progress("restoring", size, whole)
            size += each.pointer.size
            try:
                _fill(folder, each, store())
            except (GitVaultError, OSError) as error:
                reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
                problems.append(Problem(each.path, reason))
            else:
                done.append(each)
    return Hydrated(len(done), sum(each.pointer.size for each in done), problems, _tell_git(repository, top, done))


def _pointers(repository: Repository, top: Path, paths: Sequence[str]) -> Iterator[_Found]:
    """Files of the index that are pointers there and as git wrote them on the disk."""
    where = paths or [os.fspath(top)]
    words = ("ls-files", "-s", "-z", "--full-name", *(["--error-unmatch"] if paths else []), "--", *where)
    try:
        listed = repository.git("--literal-pathspecs", *words)
    except ToolFailed as error:
        # `pathspec 'x' did not match any file(s) known to git`, and a hint.
        reason = error.stderr.partition("\n")[0].removeprefix("error: ")
        raise NotFoundError(f"{reason}; name files of the snapshot") from error
    base = os.fsencode(top)
    for line in listed.split(b"\0"):
        said, _, path = line.partition(b"\t")
        mode, oid, stage = (*said.split(), b"", b"", b"")[:3]
        if not mode.startswith(_FILE) or stage != b"0":
            continue
        full = os.path.join(base, path)
        try:
            found = os.lstat(full)
            if not stat.S_ISREG(found.st_mode) or found.st_size > pointers.MAX_LENGTH:
                continue
            with open(open_source(full), "rb") as file:
                text = file.read(pointers.MAX_LENGTH + 1)
        except OSError:
            continue
        pointer = pointers.decode(text)
        if pointer and object_id(b"blob", text).hex() == oid.decode():
            yield _Found(path, pointer, stat.S_IMODE(found.st_mode))


def _fill(top: TargetFolder, found: _Found, store: ChunkStore) -> None:
    above, _, name = found.path.rpartition(b"/")
    temporary = b".git-vault-%d.tmp" % os.getpid()
    with top.descend(above) as folder:
        fd = folder.create(temporary)
        try:
            with open(fd, "wb", buffering=0) as file:
                store.retrieve_file(found.pointer, file)
                # Windows has no modes, and no call that sets them so.
                if os.chmod in os.supports_fd:
                    os.chmod(fd, found.mode)
            folder.rename(temporary, name)
        except BaseException:
            discard(folder, temporary)
            raise


def _tell_git(repository: Repository, top: Path, done: Sequence[_Found]) -> int:
    """Have git note the files' new sizes and times, where it filters them; how many it does not filter."""
    if not done:
        return 0
    listed = repository.git("-C", os.fspath(top), "check-attr", "-z", "--stdin", "filter", stdin=_joined(done))
    fields = listed.split(b"\0")
    filters = dict(zip(fields[::3], fields[2::3], strict=False))
    ours = [each for each in done if filters.get(each.path) == b"vault"]
    if ours:
        repository.git("-C", os.fspath(top), "update-index", "-q", "-z", "--stdin", stdin=_joined(ours))
    return sum(filters.get(each.path) not in (b"vault", b"lfs") for each in done)


def _joined(files: Sequence[_Found]) -> bytes:
    return b"".join(each.path + b"\0" for each in files)
