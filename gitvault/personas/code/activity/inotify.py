"""Changes in one project's folders as the Linux kernel tells them, exactly or with a word that some were lost.

The library that other systems are watched with (watchfiles 1.3) drops the kernel's word of an overflow (5,462 of 20,000
new files told, and nothing of the rest), and watches what is left out as well; a list of what was touched must know of
the one and can do without the other.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gitvault.core.scan import KeptFolder, kept_folders, scopes
from gitvault.core.utils.files import read_plain
from gitvault.errors import CorruptionError
from gitvault.personas.code.activity.detector import Notice

if TYPE_CHECKING:
    from gitvault.core.interfaces import Rules, Scope
    from gitvault.personas.code.activity.touched_list import TouchedList

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_UNMOUNT, _OVERFLOW, _IGNORED, _IS_FOLDER = 0x2000, 0x4000, 0x8000, 0x40000000
_ONLY_FOLDERS, _NO_LINKS, _NOT_UNLINKED = 0x01000000, 0x02000000, 0x04000000
_MASK = (_MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF) | (
    _ONLY_FOLDERS | _NO_LINKS | _NOT_UNLINKED
)
_HEAD = struct.Struct("iIII")
_TRACKED = {b".git": b"index", b".hg": b"dirstate", b".svn": b"wc.db"}
"""In which of a repository's files it is told what version control tracks."""
_READ = 1 << 18
# Of a folder that is left out: enough to see that a build is running.
_MOST_OUTPUT = 32
_MOST_BRANCHES = 200
_LOCAL = {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "overlay", "ramfs", "reiserfs"}
_LOCAL |= {"tmpfs", "vfat", "xfs", "zfs"}
"""File systems whose changes all pass through this kernel."""


class _Watched(NamedTuple):
    path: bytes
    """From the project's folder on."""
    kept: bool
    """Whether the walk of a snapshot gets there."""
    others: tuple[bytes, ...] = ()
    """As what else it is known: a repository's folder that lies in another one of the project."""


class Inotify:
    """The folders of one project. `read` when `fileno` is readable, and before the list is asked."""

    def __init__(self, root: Path, rules: Rules, touched: TouchedList, vault: Path | None = None) -> None:
        """Raises OSError."""
        self.root = root
        self._base = os.fsencode(root)
        self._rules = rules
        self._touched = touched
        self._vault = vault
        self._at: dict[int, _Watched] = {}
        self._numbers: dict[bytes, int] = {}
        self.repositories: dict[bytes, bytes] = {}
        """`.git`, `.hg`, `.svn` of the project's checkouts, and where they really are."""
        self._read_scopes: dict[bytes, Scope] = {}
        self._tops: dict[bytes, bytes] = {}
        """Of folders with a repository what the rules said when what is in them began to be watched."""
        self._unsure: set[bytes] = set()
        """Those of which version control may track other files since."""
        self._fd = _called(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        try:
            self._identity = self._look()
            self._cover(b"")
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """For `select`."""
        return self._fd

    def close(self) -> None:
        """Watch nothing any more; harmless when closed."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def folders(self) -> int:
        """How many are watched."""
        return len(self._at)

    def check(self) -> None:
        """Doubt the list when the project's folder, or what is mounted in it, is not what it was."""
        if (now := self._look()) != self._identity:
            self._identity = now
            self._touched.doubt("its folder is another one, or something was mounted")
            self._cover_anew(b"")
        self._read_scopes.clear()
        for top in sorted(self._unsure):
            # git writes its index for little; only when it names other files, others are kept. That these have to be
            # looked at, whoever asks sees for himself.
            if self._scope(top).digest != self._tops.get(top):
                self._cover_anew(top)
        self._unsure.clear()

    def read(self) -> list[Notice]:
        """Everything the kernel has told so far; the list of what was touched has it, too."""
        notices: dict[Notice, None] = {}
        self._read_scopes.clear()
        while data := self._next():
            at = 0
            while at < len(data):
                number, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size + length
                name = data[at - length : at].rstrip(b"\0")
                if notice := self._take(number, mask, name):
                    notices[notice] = None
        self._read_scopes.clear()
        return list(notices)

    def _next(self) -> bytes:
        try:
            return os.read(self._fd, _READ)
        except BlockingIOError:
            return b""

    def _take(self, number: int, mask: int, name: bytes) -> Notice | None:
        if mask & _OVERFLOW:
            self._touched.doubt("too many changes at once for the system's queue")
            self._cover_anew(b"")
            return None
        watched = self._at.get(number)
        if watched is None:
            return None
        folder = watched.path
        if mask & (_IGNORED | _UNMOUNT | _DELETE_SELF | _MOVE_SELF):
            if mask & _IGNORED:
                self._forget(number, folder)
            if not folder:
                self._touched.doubt("its folder was moved, removed or unmounted")
            return None
        path = folder + b"/" + name if folder and name else folder or name
        for place in (folder, *watched.others):
            self._in_repository(place, name)
        if not watched.kept:
            return Notice(path, kept=False)
        if watched.others and name and not mask & _IS_FOLDER:
            # What it means is told by the name it has as a repository.
            self._touched.touch(folder)
            return Notice(watched.others[0] + b"/" + name)
        is_folder = bool(mask & _IS_FOLDER)
        if is_folder and name:
            return self._folder_changed(folder, path, mask)
        self._touched.touch(folder)
        if name and self._rules.marks([os.fsdecode(name)]):
            self._rules_changed(folder)
        return Notice(path, kept=not self._scope(folder).omits(name, False)) if name else None

    def _in_repository(self, folder: bytes, name: bytes) -> None:
        """What a change in a repository's folder means for what is kept around it."""
        top, _, last = folder.rpartition(b"/")
        if last == b"info" and name == b"exclude" and top.rpartition(b"/")[2] == b".git":
            self._rules_changed(top.rpartition(b"/")[0])
        elif name == _TRACKED.get(last):
            self._unsure.add(top)

    def _rules_changed(self, folder: bytes) -> None:
        """Other rules may hold in a folder and below it."""
        self._touched.touch_below(folder)
        self._cover_anew(folder)
        self._read_scopes.clear()

    def _folder_changed(self, folder: bytes, path: bytes, mask: int) -> Notice | None:
        if not mask & (_CREATE | _MOVED_TO | _MOVED_FROM | _DELETE):
            return None
        self._touched.touch(folder)
        if mask & _MOVED_FROM:
            self._drop(path)
        name = path.rpartition(b"/")[2]
        if self._scope(folder).omits(name, True):
            if mask & (_CREATE | _MOVED_TO):
                self._watch_left_out(path)
            return Notice(path, kept=False)
        self._touched.touch_below(path)
        if mask & (_CREATE | _MOVED_TO):
            self._cover(path)
        return Notice(path)

    def _scope(self, folder: bytes) -> Scope:
        found = self._read_scopes.get(folder)
        if found is None:
            # The scope of a folder is told on the way to anything in it.
            *_, (found, _) = scopes(self.root, self._rules, folder + b"/x" if folder else b"x")
            self._read_scopes[folder] = found
        return found

    # -- what is watched -------------------------------------------------------------------------

    def _cover(self, start: bytes) -> set[bytes]:
        """Watch a folder and all below it that is not left out, and what tells of builds and of version control."""
        wanted: set[bytes] = set()
        said: dict[bytes, bytes] = {}
        before = None
        for folder in kept_folders(self.root, self._rules, start, self._vault):
            if before:
                said[before.path] = before.scope
                self._watch_beside(before)
            self._add(folder.path, kept=True)
            wanted.add(folder.path)
            top, _, name = folder.path.rpartition(b"/")
            if name in _TRACKED:
                self.repositories[folder.path] = self._base + b"/" + folder.path
                self._tops[top] = said.get(top, b"")
            before = folder
        if before:
            self._watch_beside(before)
        return wanted

    def _cover_anew(self, start: bytes) -> None:
        """The same, and watch no longer what is left out now or gone."""
        wanted = self._cover(start)
        prefix = start + b"/" if start else b""
        for path in [p for p in self._numbers if p.startswith(prefix) and p not in wanted]:
            if self._at[self._numbers[path]].kept:
                self._drop_one(path)

    def _watch_beside(self, folder: KeptFolder) -> None:
        prefix = folder.path + b"/" if folder.path else b""
        for name in folder.left_out:
            self._watch_left_out(prefix + name)
        if folder.git == "file" and (place := self._linked(prefix + b".git")):
            self._tops[folder.path] = folder.scope
            self._watch_git(prefix + b".git", place)
        elif folder.git == "folder":
            self._watch_git(prefix + b".git", self._base + b"/" + prefix + b".git")

    def _watch_left_out(self, path: bytes) -> None:
        name = path.rpartition(b"/")[2]
        if name in (b".hg", b".svn"):
            self.repositories[path] = self._base + b"/" + path
            self._add(path, kept=False)
            self._add(path + b"/store", kept=False)
        elif name != b".git":
            self._add(path, kept=False)
            for below in _listed(self._base + b"/" + path)[:_MOST_OUTPUT]:
                self._add(path + b"/" + below, kept=False)

    def _watch_git(self, path: bytes, place: bytes) -> None:
        """`place`: where the repository is; of a linked worktree or a submodule elsewhere."""
        self.repositories[path] = place
        common = place
        with contextlib.suppress(OSError, CorruptionError):
            said = read_plain(Path(os.fsdecode(place + b"/commondir")), 4096).strip()
            common = os.path.normpath(os.path.join(place, said))
        self._add(path, kept=False, place=place)
        self._add(path + b"/logs", kept=False, place=place + b"/logs")
        self._add(path + b"/info", kept=False, place=common + b"/info")
        heads = [b""]
        for number, below in enumerate(heads):
            self._add(path + b"/refs/heads" + below, kept=False, place=common + b"/refs/heads" + below)
            if number < _MOST_BRANCHES:
                heads += [below + b"/" + name for name in _listed(common + b"/refs/heads" + below)]

    def _linked(self, file: bytes) -> bytes | None:
        with contextlib.suppress(OSError, CorruptionError):
            said = read_plain(Path(os.fsdecode(self._base + b"/" + file)), 4096)
            if said.startswith(b"gitdir: "):
                return os.path.normpath(os.path.join(self._base, os.path.dirname(file), said[8:].strip()))
        return None

    def _add(self, path: bytes, *, kept: bool, place: bytes | None = None) -> None:
        known = self._numbers.get(path)
        if known is not None and self._at[known].kept and not kept:
            return
        where = place or (self._base + b"/" + path if path else self._base)
        try:
            number = _called(_libc().inotify_add_watch(self._fd, where, _MASK), os.fsdecode(where))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._touched.distrust("the system watches no more folders; raise fs.inotify.max_user_watches")
            elif kept and error.errno not in (errno.ENOENT, errno.ENOTDIR):
                self._touched.distrust(f"{os.fsdecode(where)} cannot be watched: {error.strerror}")
            return
        if known is not None and known != number:
            self._at.pop(known, None)
        other = self._at.get(number)
        others = other.others if other and other.path == path else ()
        if other and other.path != path and self._numbers.get(other.path) == number:
            if other.kept and not kept:
                self._at[number] = other._replace(others=tuple(dict.fromkeys((*other.others, path))))
                return
            others = () if other.kept else (other.path,)
            if other.kept and kept and self._same_place(other.path, where):
                self._touched.distrust(f"{os.fsdecode(where)} is {os.fsdecode(other.path)}, too")
            del self._numbers[other.path]
        self._at[number] = _Watched(path, kept, others)
        self._numbers[path] = number

    def _same_place(self, path: bytes, where: bytes) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(self._base + b"/" + path), os.lstat(where))
        return False

    def _drop(self, path: bytes) -> None:
        """Watch a folder and what was below it no more: it is elsewhere, or gone."""
        prefix = path + b"/"
        for one in [p for p in self._numbers if p == path or p.startswith(prefix)]:
            self._drop_one(one)

    def _drop_one(self, path: bytes) -> None:
        number = self._numbers.pop(path)
        self._at.pop(number, None)
        _libc().inotify_rm_watch(self._fd, number)

    def _forget(self, number: int, path: bytes) -> None:
        self._at.pop(number, None)
        if self._numbers.get(path) == number:
            del self._numbers[path]

    def _look(self) -> tuple[object, ...]:
        """What the project's folder is: the thing itself, and all that is mounted in it."""
        try:
            found = os.stat(self.root)
        except OSError:
            return ()
        kinds, inside = _mounts(os.path.realpath(self.root))
        if foreign := sorted(kinds - _LOCAL):
            self._touched.distrust(f"{self.root}: others may change it unseen, the file system is {', '.join(foreign)}")
        return found.st_dev, found.st_ino, inside


def _listed(path: bytes) -> list[bytes]:
    with contextlib.suppress(OSError), os.scandir(path) as listed:
        return sorted(entry.name for entry in listed if entry.is_dir(follow_symlinks=False))
    return []


def _mounts(root: str) -> tuple[set[str], tuple[str, ...]]:
    """Kinds of the file systems that a folder is on and that are mounted in it, and what those are."""
    around, kind, kinds, inside = "", "", set(), []
    for place, what in _mount_table():
        if root == place or root.startswith(place.rstrip("/") + "/"):
            if len(place) >= len(around):
                around, kind = place, what
        elif place.startswith(root.rstrip("/") + "/"):
            inside.append(place)
            kinds.add(what)
    return kinds | {kind}, tuple(inside)


def _mount_table() -> Iterator[tuple[str, str]]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields, _, rest = line.partition(" - ")
            place = fields.split(" ")[4]
            yield place.encode().decode("unicode_escape") if "\\" in place else place, rest.split(" ")[0]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _called(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result
