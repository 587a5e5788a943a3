"""What a power cut may leave: a disk that records every operation, and the states that are legal after each.

The model. A file is an inode with bytes, a folder an inode with names. An operation takes effect in memory at once;
on the medium it is pending until a sync makes it durable. After a cut

* what was synced is there: a file's bytes as of its last sync, a folder's names as of its last sync. A sync of a file
  says nothing about its name, one of a folder nothing about the content of what is in it or about its own name.
* each pending change of a folder is there or not, independently of all others, of other folders too: a file that was
  moved from one folder to another may be in both or in neither. Within one folder a rename is one change.
* of each file's pending writes there is nothing, all, a prefix, the right length with zeros, or any of its sectors.

That is more than ext4, xfs and btrfs with their journals may do, and about what POSIX allows: code that survives it
does not depend on the order in which a file system happens to write.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gitvault.core.utils import files
from gitvault.core.utils.files import Disk, NewFile, full_disk_named

State = Mapping[str, bytes | None]
"""Path -> content; None for a folder."""

ROOT = 0
_SECTOR = 512


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. Paths are relative to the recorded folder."""

    kind: str
    """create write sync rename link unlink sync_folder make_folder remove_folder; acknowledge: the caller's mark."""
    path: str
    target: str = ""
    file: int = 0
    """Number of a created file, for its writes and syncs: it may have been renamed since."""
    offset: int = 0
    data: bytes = b""
    caller: str = ""
    """Function of the product that asked for it."""

    def __str__(self) -> str:
        return f"{self.kind} {self.path}{' -> ' + self.target if self.target else ''} ({self.caller})"


class Killed(BaseException):
    """The process died here; nothing it does afterwards reaches the disk."""


class RecordingDisk(Disk):
    """Does everything for real below `root`, and keeps the list. One operation at a time, also from several threads.

    `before` is called with each operation about to happen, and may raise to keep it from happening.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ops: list[Op] = []
        self.dead = False
        self._lock = threading.RLock()
        self._files = itertools.count(1)

    def before(self, op: Op) -> None:
        """One operation comes."""

    def acknowledge(self, what: str) -> None:
        """The caller was told that `what` is safe."""
        with self._lock:
            self.ops.append(Op("acknowledge", what))
            self.after()

    @contextmanager
    def _doing(self, kind: str, path: Path, target: Path | None = None, **more: object) -> Iterator[Op]:
        with self._lock:
            if self.dead:
                raise Killed
            goal = self._name(target) if target else ""
            op = Op(kind, self._name(path), goal, caller=_caller(), **more)  # type: ignore[arg-type]
            self.before(op)
            yield op
            self.ops.append(op)
            self.after()

    def after(self) -> None:
        """An operation has happened and is listed."""

    def _name(self, path: Path) -> str:
        name = os.path.relpath(path, self.root).replace(os.sep, "/")
        return "" if name == "." else name

    def create(self, path: Path, mode: int = 0o600) -> NewFile:
        number = next(self._files)
        with full_disk_named(path.parent), self._doing("create", path, file=number):
            return _RecordedFile(path, mode, self, number)

    def create_uncached(self, path: Path) -> NewFile:
        return self.create(path)

    def rename(self, source: Path, target: Path) -> None:
        with full_disk_named(target.parent), self._doing("rename", source, target):
            super().rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        with self._doing("link", source, target):
            super().link(source, target)

    def sync_folder(self, path: Path) -> None:
        with self._doing("sync_folder", path):
            super().sync_folder(path)

    def make_folder(self, path: Path, mode: int = 0o700) -> None:
        # Two threads that make the same folder make it once.
        with self._lock:
            missing = [folder for folder in (path, *path.parents) if not folder.exists()]
            for folder in reversed(missing):
                with full_disk_named(folder), self._doing("make_folder", folder):
                    super().make_folder(folder, mode)
            if not missing:
                super().make_folder(path, mode)

    def remove_folder(self, path: Path) -> None:
        if path.is_dir() and not any(path.iterdir()):
            with self._doing("remove_folder", path):
                super().remove_folder(path)

    def unlink(self, path: Path) -> None:
        if os.path.lexists(path):
            with self._doing("unlink", path):
                super().unlink(path)


class _RecordedFile(NewFile):
    def __init__(self, path: Path, mode: int, disk: RecordingDisk, number: int) -> None:
        self._disk = disk
        self._number = number
        super().__init__(path, mode)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with (
            full_disk_named(self.path.parent),
            self._disk._doing("write", self.path, file=self._number, offset=self.size, data=bytes(data)),
        ):
            super().write(data)

    def overwrite(self, offset: int, data: bytes) -> None:
        with (
            full_disk_named(self.path.parent),
            self._disk._doing("write", self.path, file=self._number, offset=offset, data=bytes(data)),
        ):
            super().overwrite(offset, data)

    def sync(self) -> None:
        with full_disk_named(self.path.parent), self._disk._doing("sync", self.path, file=self._number):
            super().sync()


def _caller() -> str:
    """The nearest function of the product that is not the disk's own."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("gitvault") and name != files.__name__:
            return f"{name.rpartition('.')[2]}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


class KillingDisk(RecordingDisk):
    """Dies before operation `at`: that and all later ones do not happen."""

    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        self.at = at

    def before(self, op: Op) -> None:
        if len(self.ops) == self.at:
            self.dead = True
            raise Killed


NEEDS_SPACE = {"create", "write", "make_folder", "rename", "link", "sync"}


class FailingDisk(RecordingDisk):
    """`error` at operation `at`; `sticky`: at every later one too that can fail so. `short`: half a write happens."""

    def __init__(self, root: Path, at: int, error: int, *, sticky: bool, short: bool = False) -> None:
        super().__init__(root)
        self.at = at
        self.error = error
        self.sticky = sticky
        self.short = short
        self.count = 0
        self.failed = 0

    def before(self, op: Op) -> None:
        self.count += 1
        if self.error == errno.ENOSPC and op.kind not in NEEDS_SPACE:
            return
        # The first that can fail so, from `at` on.
        if self.count > self.at and (self.sticky or not self.failed):
            self.failed += 1
            if self.short and op.kind == "write":
                with open(self.root / op.path, "r+b") as file:
                    file.seek(op.offset)
                    file.write(op.data[: len(op.data) // 2])
            raise OSError(self.error, os.strerror(self.error), op.path)


# -- the model ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Folder:
    durable: dict[str, int]
    live: dict[str, int]
    pending: list[dict[str, int | None]] = field(default_factory=list)

    def change(self, names: dict[str, int | None]) -> None:
        self.pending.append(names)
        _apply(self.live, names)

    def sync(self) -> None:
        self.durable = dict(self.live)
        self.pending.clear()


@dataclass(slots=True)
class _File:
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def sync(self) -> None:
        self.durable = _written(self.durable, self.pending)
        self.pending.clear()


class Medium:
    """A disk as it may be after a cut. Feed it operations, then ask for `states`."""

    def __init__(self, before: State) -> None:
        """`before`: what is durable at the start."""
        self._folders = {ROOT: _Folder({}, {})}
        self._files: dict[int, _File] = {}
        self._next = 1
        self._numbers: dict[int, int] = {}
        for path, content in sorted(before.items()):
            parent, name = self._at(path)
            node = self._new()
            if content is None:
                self._folders[node] = _Folder({}, {})
            else:
                self._files[node] = _File(content)
            parent.durable[name] = parent.live[name] = node

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _folder(self, path: str) -> _Folder:
        node = ROOT
        for name in path.split("/") if path else ():
            node = self._folders[node].live[name]
        return self._folders[node]

    def _knows(self, path: str) -> bool:
        """Whether a folder was made through the recorded disk, and not by a program that was run."""
        try:
            return self._folder(path) is not None
        except KeyError:
            return False

    def _at(self, path: str) -> tuple[_Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._folder(parent), name

    def new_process(self) -> None:
        """Numbers of files begin anew."""
        self._numbers.clear()

    def apply(self, op: Op) -> None:
        """One operation happened. What a vault's caches are, the recorded states say."""
        if op.path.startswith("vault.git/cache/"):
            return
        match op.kind:
            case "acknowledge":
                return
            case "create" | "make_folder":
                parent, name = self._at(op.path)
                node = self._new()
                if op.kind == "create":
                    self._files[node] = _File()
                    self._numbers[op.file] = node
                else:
                    self._folders[node] = _Folder({}, {})
                parent.change({name: node})
            case "write":
                self._files[self._numbers[op.file]].pending.append((op.offset, op.data))
            case "sync":
                self._files[self._numbers[op.file]].sync()
            case "sync_folder":
                self._folder(op.path).sync()
            case "rename" | "link":
                source, old = self._at(op.path)
                target, new = self._at(op.target)
                if "/cache/" in f"/{op.path}" and old not in source.live:
                    # SQLite made it, past the disk: caches are tried in states of their own.
                    return
                node = source.live[old]
                gone: dict[str, int | None] = {old: None} if op.kind == "rename" else {}
                if source is target:
                    source.change(gone | {new: node})
                else:
                    target.change({new: node})
                    if gone:
                        source.change(gone)
            case "unlink" | "remove_folder" if self._knows(op.path.rpartition("/")[0]):
                parent, name = self._at(op.path)
                if name in parent.live:
                    parent.change({name: None})

    def now(self) -> State:
        """What programs see as long as nothing is cut; afterwards all of it is durable."""
        for node in (*self._folders.values(), *self._files.values()):
            node.sync()
        return self._look(set(), {})

    def states(self, limit: int, chance: random.Random) -> Iterator[State]:
        """Every state that a cut may leave now, all of them when there are at most `limit`; else that many, the
        corners first: nothing pending is there, all is, all but one, only one."""
        names = [(node, number) for node, folder in self._folders.items() for number in range(len(folder.pending))]
        dirty = [node for node, file in self._files.items() if file.pending]
        contents = [_variants(self._files[node], chance) for node in dirty]
        choices = [2] * len(names) + [len(variants) for variants in contents]
        count = 1
        for choice in choices:
            count *= choice
        if count <= limit:
            picks: Iterable[Sequence[int]] = itertools.product(*map(range, choices))
        else:
            picks = itertools.islice(_corners_then_random(choices, chance), limit)
        for pick in picks:
            applied = {name for name, chosen in zip(names, pick, strict=False) if chosen}
            content = {
                node: variants[chosen]
                for node, variants, chosen in zip(dirty, contents, pick[len(names) :], strict=True)
            }
            yield self._look(applied, content)

    def _look(self, applied: set[tuple[int, int]], content: Mapping[int, bytes]) -> State:
        state: dict[str, bytes | None] = {}

        def walk(node: int, path: str) -> None:
            folder = self._folders[node]
            names = dict(folder.durable)
            for number, change in enumerate(folder.pending):
                if (node, number) in applied:
                    _apply(names, change)
            for name, below in names.items():
                if below in self._folders:
                    state[path + name] = None
                    walk(below, f"{path}{name}/")
                else:
                    state[path + name] = content.get(below, self._files[below].durable)

        walk(ROOT, "")
        return state


def _apply(names: dict[str, int], change: Mapping[str, int | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _corners_then_random(choices: Sequence[int], chance: random.Random) -> Iterator[list[int]]:
    """0 stands for nothing, 1 for all of a change."""
    size = len(choices)
    yield [0] * size
    yield [1] * size
    order = list(range(size))
    chance.shuffle(order)
    for at in order:
        yield [int(n != at) for n in range(size)]
        yield [int(n == at) for n in range(size)]
    while True:
        yield [chance.randrange(choice) for choice in choices]


def _variants(file: _File, chance: random.Random) -> list[bytes]:
    """What may be in a file with unsynced writes: nothing of them, all, a prefix, zeros, some sectors."""
    old, new = file.durable, _written(file.durable, file.pending)
    cut = chance.randrange(len(new) + 1)
    blank = _written(old, [(offset, bytes(len(data))) for offset, data in file.pending])
    mixed = bytearray(blank)
    for at in range(0, len(new), _SECTOR):
        if chance.random() < 0.5:
            mixed[at : at + _SECTOR] = new[at : at + _SECTOR]
    found = [old, new, max(new[:cut], old, key=len), blank, bytes(mixed)]
    return list(dict.fromkeys(found))


def _written(content: bytes, writes: Iterable[tuple[int, bytes]]) -> bytes:
    data = bytearray(content)
    for offset, piece in writes:
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + len(piece)] = piece
    return bytes(data)


# -- states on a real disk ---------------------------------------------------------------------------


def read_state(root: Path) -> dict[str, bytes | None]:
    """What is below a folder."""
    state: dict[str, bytes | None] = {}
    for path in sorted(root.rglob("*")):
        state[path.relative_to(root).as_posix()] = None if path.is_dir() else path.read_bytes()
    return state


def write_state(root: Path, state: State) -> None:
    """Make an empty folder that state."""
    base = os.fspath(root)
    for path, content in state.items():
        if content is None:
            os.makedirs(f"{base}/{path}", exist_ok=True)
    for path, content in state.items():
        if content is not None:
            fd = os.open(f"{base}/{path}", os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(fd, content)
            os.close(fd)


def site(op: Op) -> str:
    """Where in the product, and on what kind of file, an operation is asked for."""
    return f"{op.kind} of {kind_of(op.target or op.path)} by {op.caller or 'a thread'}"


def kind_of(path: str) -> str:
    """A path without what chance made of it: long hexadecimal names, process numbers."""
    plain = re.sub(r"[0-9a-f]{16,}|(?<=\.)[0-9a-f]+(?=\.tmp)|(?<=repack-)[0-9a-f]+", "*", path)
    return plain.removeprefix("vault.git/") or "the disk"
