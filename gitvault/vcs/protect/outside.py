"""A repository that lies outside the project: a linked worktree's, a submodule's, one with a folder of its own.

Attached as a tar file that holds it as a `.git` folder would be, without objects and index.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator

from gitvault.vcs.protect import repository
from gitvault.vcs.protect.repository import NotProtected, Repository

# What a repository shares among its checkouts; all else at its top is of one.
_SHARED = ("config", "description", "hooks", "info", "logs", "packed-refs", "refs", "shallow", "lfs")
_LEFT = ("objects", "index", "worktrees", "commondir", "gitdir", "modules")


def archived(where: Repository, notes: list[str], *, with_index: bool) -> bytes:
    """The tar file: the same bytes for the same files. What cannot be read is told in `notes`."""
    files: dict[str, tuple[str, os.stat_result]] = {}
    for top, shared in dict.fromkeys(((where.common_dir, True), (where.git_dir, False))):
        for name, path, found in _files(top):
            first = name.split("/", 1)[0]
            if (
                (first in _LEFT and not (with_index and name == "index"))
                or name.endswith(".lock")
                or first.startswith("fsmonitor--daemon")
            ):
                continue
            if top == where.git_dir or (shared and first in _SHARED):
                files[name] = path, found
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, (path, found) in sorted(files.items()):
            item = tarfile.TarInfo(name)
            item.mode = stat.S_IMODE(found.st_mode)
            try:
                content = repository.read(path)
            except NotProtected as error:
                notes.append(f"{path}: not saved: {error}")
                continue
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return out.getvalue()


def _files(top: str) -> Iterator[tuple[str, str, os.stat_result]]:
    for folder, folders, names in os.walk(top):
        if folder == top:
            folders[:] = [name for name in folders if name not in _LEFT]
        for name in names:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode):
                yield os.path.relpath(path, top).replace(os.sep, "/"), path, found


def unpacked(archive: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The files of such a tar file: path, mode, content. Raises tarfile.TarError."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for item in tar:
            content = tar.extractfile(item) if item.isfile() else None
            if content:
                yield os.fsencode(item.name), item.mode, content.read()
