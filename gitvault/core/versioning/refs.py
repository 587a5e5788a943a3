"""Git refs read and moved without git: lock file, compare, sync, rename, sync the folder."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk, open_plain, read_plain
from gitvault.errors import CorruptionError, GitVaultError, LockedError

# git check-ref-format, and nothing that another system could not hold as a file name.
# Halves of a pair of surrogates that stand for no byte are in no file's name.
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udc7f\udd00-\udfff]|\.\.|@\{|//|/\.|\.lock(?:/|$)|\./|\.$|/$")
_HEX = re.compile(rb"[0-9a-f]{40}")
_PACKED_LINE = re.compile(rb"[0-9a-f]{40} refs/[^\n]+")
_PEELED_LINE = re.compile(rb"\^[0-9a-f]{40}")
# git and we hold a ref's lock for milliseconds. What has been the same for this long was left by a killed process.
_STALE_SECONDS = 3.0
_LOCK_SECONDS = 2 * _STALE_SECONDS
# Bytes of a ref's file; a symbolic ref's name is a path.
_LONGEST = 1 << 16


class _Any:
    """The type of ANY: no expectation of the old value."""


ANY = _Any()
"""For `RefStore.update` and `delete`: whatever the ref's value is."""


class RefStore:
    """The refs of a bare repository. Reads need no lock; git may read and write at the same time.

    `guard` is called with a ref's lock taken, right before it changes; what it raises keeps the ref as it is.
    """

    def __init__(self, git_dir: Path, disk: Disk, guard: Callable[[], None] = lambda: None) -> None:
        self._root = git_dir
        self._disk = disk
        self.guard = guard
        self._packed_state: tuple[int, int, int] | None = None
        self._packed_refs: dict[str, ObjectId] = {}

    def read(self, name: str) -> ObjectId | None:
        """The id that `name` holds, symbolic refs followed; None when there is no such ref.

        Raises GitVaultError for a malformed name, CorruptionError for a file that is no ref.
        """
        for _ in range(5):
            if name != "HEAD":
                _check(name)
            # Again when it is in neither place: `git pack-refs` moves a ref from the file to the list.
            value = self._loose(name) or self._packed().get(name) or self._loose(name)
            if not isinstance(value, str):
                return value
            name = value
        raise CorruptionError(f"{name}: symbolic refs that lead nowhere; look at {self._root / 'HEAD'}")

    def damaged(self) -> tuple[bytes | None, list[str]]:
        """What `packed-refs` should hold when lines of it are no refs, and the names of files that hold no ref."""
        names = []
        for name in self._loose_names("refs"):
            try:
                self._loose(name)
            except CorruptionError:
                names.append(name)
        try:
            lines = (self._root / "packed-refs").read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        kept = [
            line
            for line in lines
            if line.startswith(b"#") or _PEELED_LINE.fullmatch(line) or _PACKED_LINE.fullmatch(line)
        ]
        return (b"".join(line + b"\n" for line in kept) if kept != lines else None), names

    def list(self, prefix: str = "refs/") -> dict[str, ObjectId]:
        """Every ref whose name starts with `prefix`, sorted by name. Raises CorruptionError."""
        # Loose first: a ref that `git pack-refs` moves meanwhile is then seen twice, not never.
        loose: dict[str, ObjectId] = {}
        for name in self._loose_names(prefix.rpartition("/")[0] or "refs"):
            if name.startswith(prefix) and (oid := self.read(name)) is not None:
                loose[name] = oid
        packed = {name: oid for name, oid in self._packed().items() if name.startswith(prefix)}
        return dict(sorted((packed | loose).items()))

    def update(self, name: str, new: ObjectId, *, old: ObjectId | _Any | None = ANY) -> None:
        """Let `name` hold `new`, durable when this returns.

        `old`: the value it must have now, None when it must not exist. Raises LockedError when the ref
        is being written or is not at `old`, GitVaultError for a name that no ref can have.
        """
        _check(name)
        path = self._root / name
        self._make_way(path)
        with self._lock(path) as lock:
            self._compare(name, old)
            if name not in self._packed():
                self._refuse_conflict(name)
            lock.commit(new.hex().encode() + b"\n")
        # Always, not only when this run made the folders: an earlier one may have been killed before it synced.
        folder = path.parent
        while folder != self._root:
            folder = folder.parent
            self._disk.sync_folder(folder)

    def delete(self, name: str, *, old: ObjectId | _Any = ANY) -> None:
        """Remove a ref, durable when this returns; one that does not exist is fine. Errors as in `update`."""
        _check(name)
        path = self._root / name
        if not path.parent.is_dir():
            self._delete_packed(name, old)
        else:
            with self._lock(path):
                # First out of the list: the other order would show an old value for a moment.
                self._delete_packed(name, old)
                if path.is_file():
                    self.guard()
                    self._disk.unlink(path)
            self._disk.sync_folder(path.parent)
        # Also when there was nothing to remove: an earlier run may have been killed before it synced.
        self._disk.sync_folder(self._root)

    def head(self) -> str | None:
        """The ref that HEAD names, None when HEAD holds a commit itself. Raises CorruptionError."""
        value = self._loose("HEAD")
        if value is None:
            raise CorruptionError(f"{self._root / 'HEAD'}: missing; write `ref: refs/heads/NAME` into it")
        return value if isinstance(value, str) else None

    def set_head(self, name: str) -> None:
        """Let HEAD name a ref (`refs/heads/...`), durable when this returns. Raises LockedError."""
        _check(name)
        with self._lock(self._root / "HEAD") as lock:
            lock.commit(f"ref: {name}\n".encode())

    def clear_locks(self) -> None:
        """Remove all locks of refs. For who has taken the vault over, before the first ref is read.

        Whoever was only taken for dead cannot move a ref any more: its rename finds nothing.
        """
        for path in (self._root / "HEAD.lock", self._root / "packed-refs.lock", *(self._root / "refs").rglob("*.lock")):
            self._disk.unlink(path)

    def sync(self) -> None:
        """Make durable which refs there are: one that a killed run deleted must not come back after what it held went.

        Raises OSError.
        """
        for below, _, _ in os.walk(self._root / "refs", onerror=_raise_unless_missing):
            self._disk.sync_folder(Path(below))
        self._disk.sync_folder(self._root)

    def _lock(self, path: Path) -> LockFile:
        return LockFile(path, self._disk, self.guard)

    def _compare(self, name: str, old: ObjectId | _Any | None) -> None:
        if isinstance(old, _Any):
            return
        now = self.read(name)
        if now != old:
            raise LockedError(
                f"{name}: expected {old.hex() if old else 'no such ref'}, found {now.hex() if now else 'none'}; "
                "another program moved it, run again"
            )

    def _refuse_conflict(self, name: str) -> None:
        """`a` and `a/b` cannot both be refs; loose ones would collide as files, packed ones must be looked for."""
        for other in self._packed():
            if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
                raise GitVaultError(f"{name}: cannot be a ref while {other} is one; choose another name")

    def _delete_packed(self, name: str, old: ObjectId | _Any | None) -> None:
        if name not in self._packed():
            self._compare(name, old)
            return
        path = self._root / "packed-refs"
        with self._lock(path) as lock:
            self._compare(name, old)
            kept = []
            skip = False
            for line in path.read_bytes().splitlines(keepends=True):
                # A `^` line is the peeled value of the tag above it.
                skip = skip if line.startswith(b"^") else line.rstrip(b"\n")[41:] == os.fsencode(name)
                if not skip:
                    kept.append(line)
            lock.commit(b"".join(kept))

    def _make_way(self, path: Path) -> None:
        """Make a ref's folder and remove empty ones that have its name."""
        try:
            self._disk.make_folder(path.parent)
        except (FileExistsError, NotADirectoryError) as error:
            raise GitVaultError(f"{path}: a ref is where its folder should be; choose another name") from error
        if path.is_dir():
            # git leaves the folders of deleted refs behind
            for below, _, _ in os.walk(path, topdown=False):
                self._disk.remove_folder(Path(below))
            if path.is_dir():
                raise GitVaultError(f"{path}: refs lie below this name; choose another name")

    def _loose(self, name: str) -> ObjectId | str | None:
        """What the ref's own file holds: an id, the name of another ref, or None without a file."""
        path = self._root / name
        try:
            content = read_plain(path, _LONGEST).rstrip()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except PermissionError:
            # what Windows says for a folder
            if path.is_dir():
                return None
            raise
        except OSError as error:
            # A name that no file can have is no ref's either.
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise
        if content.startswith(b"ref: "):
            return os.fsdecode(content[5:].strip())
        if not _HEX.fullmatch(content):
            raise CorruptionError(f"{path}: expected 40 hex digits, found {content[:50]!r}; restore it from a copy")
        return ObjectId(bytes.fromhex(content.decode()))

    def _loose_names(self, folder: str) -> Iterator[str]:
        for below, _, files in os.walk(self._root / folder, onerror=_raise_unless_missing):
            start = Path(below).relative_to(self._root).as_posix()
            yield from (name for name in (f"{start}/{file}" for file in files) if not _FORBIDDEN.search(name))

    def _packed(self) -> dict[str, ObjectId]:
        """The refs in packed-refs, parsed again only when the file was replaced."""
        path = self._root / "packed-refs"
        try:
            with open_plain(path) as file:
                stat = os.fstat(file.fileno())
                state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if state == self._packed_state:
                    return self._packed_refs
                content = file.read()
        except FileNotFoundError:
            return {}
        refs = {}
        for number, line in enumerate(content.splitlines(), 1):
            if line.startswith((b"#", b"^")):
                continue
            if not _PACKED_LINE.fullmatch(line):
                raise CorruptionError(f"{path}: line {number} is no ref ({line[:60]!r}); restore it from a copy")
            refs[os.fsdecode(line[41:])] = ObjectId(bytes.fromhex(line[:40].decode()))
        self._packed_state, self._packed_refs = state, refs
        return refs


class LockFile:
    """`<file>.lock`, as git takes it; what is committed replaces the file. What a killed process left is removed.

    A context manager; entering raises LockedError when other programs keep the file to themselves, OSError.
    """

    def __init__(self, path: Path, disk: Disk, guard: Callable[[], None] = lambda: None) -> None:
        """`guard`: called right before the file is replaced; what it raises keeps the file as it is."""
        self._target = path
        self._path = path.with_name(f"{path.name}.lock")
        self._disk = disk
        self._guard = guard
        self._is_ours = True

    def __enter__(self) -> LockFile:
        began = since = time.monotonic()
        watched: tuple[int, ...] = ()
        while True:
            try:
                self._file = self._disk.create(self._path)
                return self
            except FileExistsError as error:
                now = time.monotonic()
                if now - began > _LOCK_SECONDS:
                    raise LockedError(f"{self._path}: other programs keep writing; run again later") from error
                if (found := self._look()) != watched:
                    watched, since = found, now
                elif now - since > _STALE_SECONDS:
                    self._disk.unlink(self._path)
                time.sleep(0.01)

    def _look(self) -> tuple[int, ...]:
        """What tells this lock from the next."""
        try:
            st = os.stat(self._path)
        except FileNotFoundError:
            return ()
        return st.st_ino, st.st_mtime_ns, st.st_size

    def commit(self, content: bytes) -> None:
        """Replace the locked file, durably."""
        self._file.write(content)
        self._file.sync()
        self._file.close()
        self._guard()
        self._disk.rename(self._path, self._target)
        # From here on whoever waited has a lock of that name.
        self._is_ours = False
        self._disk.sync_folder(self._target.parent)

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        if self._is_ours:
            self._disk.unlink(self._path)


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be listed is no empty one: what its refs hold would be taken for what nobody needs."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _check(name: str) -> None:
    if not name.startswith("refs/") or _FORBIDDEN.search(name):
        raise GitVaultError(f"{name!r}: not the name of a ref; make its parts with names.ref_component")
