"""Folders to save, and what makes one folder equal to another: everything that a restore must give back."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

NS = 1_600_000_000_123_456_789


class Record(NamedTuple):
    """One name of a folder, whole."""

    kind: str
    mode: int
    mtime_ns: int
    content: bytes
    """Of a file, or a symlink's target."""
    owner: tuple[int, int]
    xattrs: tuple[tuple[str, bytes], ...]
    names: tuple[bytes, ...]
    """All names of a hard-linked file within the folder; empty for one with a single name."""
    sparse: bool


def write(folder: Path, files: Mapping[str | bytes, bytes | str]) -> Path:
    """Make files (content: bytes) and symlinks (target: text) with their folders; the folder itself is returned."""
    base = os.fsencode(folder)
    os.makedirs(base, exist_ok=True)
    for name, content in files.items():
        path = base + b"/" + os.fsencode(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(content, str):
            os.symlink(os.fsencode(content), path)
        else:
            with open(path, "wb") as file:
                file.write(content)
    return folder


def records(folder: Path | str, *, times: bool = True) -> dict[bytes, Record]:
    """Everything at and below a folder by its path relative to it; the folder itself is b"".

    `times`: False leaves modification times out.
    """
    found: dict[bytes, Record] = {}
    by_inode: dict[tuple[int, int], list[bytes]] = {}

    def look(fd: int, name: str, path: bytes) -> None:
        st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        content, kind, sparse, xattrs = b"", "other", False, ()
        if stat.S_ISLNK(st.st_mode):
            kind, content = "symlink", os.fsencode(os.readlink(name, dir_fd=fd))
        elif stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
            inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                xattrs = tuple(sorted((x, os.getxattr(inner, x)) for x in os.listxattr(inner)))
                if stat.S_ISDIR(st.st_mode):
                    kind = "folder"
                    for below in os.listdir(inner):
                        look(inner, below, path + b"/" + os.fsencode(below) if path else os.fsencode(below))
                else:
                    kind, sparse = "file", st.st_blocks * 512 < st.st_size
                    with open(inner, "rb", closefd=False) as file:
                        content = file.read()
            finally:
                os.close(inner)
        if kind != "folder" and st.st_nlink > 1:
            by_inode.setdefault((st.st_dev, st.st_ino), []).append(path)
        mtime = st.st_mtime_ns if times else 0
        found[path] = Record(kind, stat.S_IMODE(st.st_mode), mtime, content, (st.st_uid, st.st_gid), xattrs, (), sparse)

    parent = os.open(os.path.dirname(os.path.abspath(folder)), os.O_RDONLY)
    try:
        look(parent, os.path.basename(os.path.abspath(folder)), b"")
    finally:
        os.close(parent)
    for names in by_inode.values():
        for name in names if len(names) > 1 else ():
            found[name] = found[name]._replace(names=tuple(sorted(names)))
    return found


def contents(folder: Path | str) -> dict[bytes, bytes]:
    """The files and symlinks below a folder with their content."""
    return {path: r.content for path, r in records(folder).items() if r.kind in ("file", "symlink")}


def differences(a: Path | str, b: Path | str) -> dict[bytes, tuple[Record | None, Record | None]]:
    """Where two folders are not the same; empty when they are, in every respect."""
    one, other = records(a), records(b)
    return {
        path: (one.get(path), other.get(path)) for path in one.keys() | other.keys() if one.get(path) != other.get(path)
    }
