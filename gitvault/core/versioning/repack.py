"""Keep the git side small: git's own deltas, without `git gc`'s habit of unlinking before the new pack is durable.

What refs reach becomes one pack in a scratch repository that borrows the vault's objects (see rolling.py), so nothing
half made is ever where git looks; that pack is synced, verified and published. Only then do the old ones move to
`trash/`, which is emptied when every ref is found to resolve without them. A kill at any point leaves a vault that
reads as before.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.models import ObjectId
from gitvault.core.utils.files import Disk
from gitvault.core.utils.process import git
from gitvault.core.utils.sizes import difference
from gitvault.core.versioning.odb import ObjectStore
from gitvault.core.versioning.packreader import Pack
from gitvault.core.versioning.refs import RefStore
from gitvault.core.versioning.rolling import Scratch, is_lossy
from gitvault.core.versioning.salvage import reachable
from gitvault.errors import CorruptionError, LockedError, ToolFailed

BIG_PACK = 2 << 30
"""Bytes; a pack that a repack left this large is kept as it is, and only what came later is repacked."""

_MANY_PACKS = 40
_MIN_BYTES = 8 << 20
_ENOUGH_BYTES = 64 << 20
# What no ref reaches may belong to another program's unfinished work.
_GRACE_SECONDS = 24 * 3600
# The exit code of git for what it calls fatal.
_GIT_GAVE_UP = 128
# Ids that are looked up in the packs at a time.
_BATCH = 1 << 16


@dataclass(frozen=True, slots=True)
class RepackReport:
    """What a repack did. Bytes are those of all packs and indexes."""

    packs_before: int
    packs_after: int
    bytes_before: int
    bytes_after: int
    deflated: int
    """Objects and deltas that were deflated anew; every other one has the bytes that an earlier repack gave it."""
    seconds: float

    def summary(self) -> str:
        """One line for people."""
        less = difference(self.bytes_before, self.bytes_after)
        return f"{self.packs_before} packs became {self.packs_after}, {less}, in {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class _State:
    """What the last repack left: disposable, without it everything counts as new."""

    packs: frozenset[str] = frozenset()
    """All that were there."""
    made: frozenset[str] = frozenset()
    """Those of them that a repack made. Others may have stayed: what no ref reached yet."""


def due(git_dir: Path, *, asked: bool = False) -> str | None:
    """Why a repack pays now, for people; None when it does not. `asked`: anything new is reason enough."""
    packs = _packs(git_dir)
    new = _new_bytes(packs, _read_state(git_dir))
    total = sum(packs.values())
    size = sum(new.values())
    if len(new) > _MANY_PACKS:
        return f"{len(new)} packs have come since the last repack"
    if size > _ENOUGH_BYTES or (size > _MIN_BYTES and size * 20 > total):
        return f"{size >> 20} MiB have come since the last repack"
    return f"{len(new)} packs are new" if asked and new else None


def repack(
    git_dir: Path,
    disk: Disk,
    *,
    progress: Progress | None = None,
    idle: bool = True,
    big_pack: int = BIG_PACK,
    stop: Callable[[], bool] | None = None,
    guard: Callable[[], None] = lambda: None,
) -> RepackReport:
    """Pack everything that a ref reaches into one pack; call it with the vault's lock held.

    What no ref reaches goes, once its pack is a day old. Packs over `big_pack` bytes that an earlier
    run made stay as they are, so that the work stays in proportion to what is new.
    `stop`: asked all the time until packs are replaced; true gives up. `guard`: called before anything is deleted,
    raises LockedError when another machine has taken over and may rely on it.
    Raises ToolMissing, ToolFailed, ToolStopped, StorageFullError, CorruptionError; the vault is then as before.
    """
    began = time.monotonic()
    before = _packs(git_dir)
    loose = set(_loose(git_dir))
    state = _read_state(git_dir)
    tips = _tips(git_dir, disk)
    big = {name for name, size in before.items() if size > big_pack and name in state.made}
    with Scratch(git_dir, disk) as scratch:
        kept = scratch.lend(big | _protected(git_dir, before))
        rolled = before.keys() - kept - _protected(git_dir, before)
        settled = state.made & before.keys()
        untried = rolled.isdisjoint(state.made)
        deflated, made = scratch.roll(tips, kept, settled, untried=untried, progress=progress, idle=idle, stop=stop)
    guard()
    _retire(git_dir, disk, rolled - made, made | kept, loose)
    _check_tips(git_dir, tips)
    try:
        guard()
    except LockedError:
        _put_back(git_dir, disk)
        raise
    _empty_trash(git_dir, disk)
    after = _packs(git_dir)
    _write_state(git_dir, disk, _State(frozenset(after), frozenset(made | state.made & after.keys())))
    if progress:
        progress("Repacked", 4, 4)
    return RepackReport(
        len(before), len(after), sum(before.values()), sum(after.values()), deflated, time.monotonic() - began
    )


def sweep(
    git_dir: Path,
    disk: Disk,
    named: Iterable[ObjectId],
    *,
    unmoved: Callable[[], bool] = lambda: True,
    progress: Progress | None = None,
) -> RepackReport | None:
    """Drop now what neither a ref nor `named` reaches; None when there is nothing of that. With the vault's lock held.

    Packs in which everything is reached stay, the others become one. `unmoved`: whether no ref leads elsewhere by now,
    asked before anything is deleted. Where a repair has listed losses, every commit and tree must be there: the caller
    has looked.
    Raises ToolMissing, ToolFailed, StorageFullError, CorruptionError, and LockedError when `unmoved` says no.
    """
    began = time.monotonic()
    before = _packs(git_dir)
    loose = set(_loose(git_dir))
    state = _read_state(git_dir)
    tips = sorted({*_tips(git_dir, disk), *named})
    protected = _protected(git_dir, before)
    with Scratch(git_dir, disk) as scratch:
        mixed, dead = _unreached(git_dir, scratch.path, tips, before.keys() - protected, loose)
        if not (mixed or dead):
            # What a killed run left there: all that is reached was just found without it.
            _empty_trash(git_dir, disk)
            return None
        made: set[str] = set()
        kept = scratch.lend(before.keys() - mixed)
        rolled = before.keys() - kept - protected
        if rolled:
            # Streams are copied: what is worth deflating harder is upkeep's.
            _, made = scratch.roll(tips, kept, before.keys(), progress=progress, idle=False)
    moved = rolled - made
    _retire(git_dir, disk, moved, made | kept, loose, dead)
    try:
        _check_tips(git_dir, tips)
        if not unmoved():
            raise LockedError(f"{git_dir}: another program moved a ref meanwhile; nothing is lost, run again")
    except BaseException:
        for name in moved:
            _move_pack(name, git_dir / "trash", git_dir / "objects" / "pack", disk)
        disk.sync_folder(git_dir / "objects" / "pack")
        raise
    for path in dead:
        disk.unlink(path)
        disk.remove_folder(path.parent)
    _empty_trash(git_dir, disk)
    after = _packs(git_dir)
    # One that was made of what upkeep has seen, and of nothing else, needs no upkeep either.
    seen = made if rolled <= state.made else set()
    _write_state(git_dir, disk, _State(frozenset(state.packs & after.keys() | seen), state.made & after.keys() | seen))
    return RepackReport(len(before), len(after), sum(before.values()), sum(after.values()), 0, time.monotonic() - began)


def _unreached(
    git_dir: Path, scratch: Path, tips: Iterable[ObjectId], names: Iterable[str], loose: Iterable[Path]
) -> tuple[set[str], set[Path]]:
    """The packs that hold something that no tip reaches, and the loose objects that none does."""
    dead = {bytes.fromhex(path.parent.name + path.name): path for path in loose}
    packs = {name: Pack(git_dir / "objects" / "pack" / f"{name}.idx") for name in names}
    left = {name: pack.count for name, pack in packs.items()}
    try:
        reached = _reached(git_dir, scratch, tips)
        while batch := list(islice(reached, _BATCH)):
            for oid in batch:
                dead.pop(oid, None)
            for name, pack in packs.items():
                left[name] -= len(pack.find_many(batch))
    finally:
        for pack in packs.values():
            pack.close()
    return {name for name, count in left.items() if count}, set(dead.values())


def _reached(git_dir: Path, scratch: Path, tips: Iterable[ObjectId]) -> Iterator[ObjectId]:
    if is_lossy(git_dir):
        # git stops at the first that is missing.
        with closing(ObjectStore(git_dir / "objects")) as objects:
            yield from reachable(objects, tips)
        return
    given = "".join(f"{tip.hex()}\n" for tip in tips).encode()
    words = ("rev-list", "--objects", "--no-object-names", "--stdin")
    for line in io.BytesIO(git(scratch, *words, stdin=given) if given else b""):
        yield ObjectId(bytes.fromhex(line[:40].decode()))


@contextmanager
def damage_named(git_dir: Path) -> Iterator[None]:
    """Around a repack or a sweep: what git gives up on for good is damage. Raises CorruptionError for that."""
    try:
        yield
    except ToolFailed as error:
        # Ended by a signal or for want of memory it is not the vault's fault.
        if error.code != _GIT_GAVE_UP:
            raise
        said = error.stderr.strip().rpartition("\n")[2]
        raise CorruptionError(f"{git_dir}: git cannot repack it ({said}); run git-vault verify") from error


def is_busy(git_dir: Path) -> bool:
    """Whether another program may be writing objects that no ref reaches yet."""
    signs = ("objects/incoming-*", "objects/tmp_objdir-*", "objects/pack/tmp_*", "refs/**/*.lock", "packed-refs.lock")
    return any(not _is_old(path) for sign in signs for path in git_dir.glob(sign))


def _retire(
    git_dir: Path, disk: Disk, names: Set[str], successors: Set[str], loose: Set[Path], dead: Set[Path] | None = None
) -> None:
    """Move packs and loose objects away whose content the successors hold, and what killed runs left of packs.

    `dead`: the loose objects that nothing reaches, when that is known; without it what others wrote stays for a day.
    """
    folder = git_dir / "objects" / "pack"
    trash = git_dir / "trash"
    disk.make_folder(trash)
    now = [Pack(folder / f"{name}.idx") for name in successors]

    def held(oid: bytes) -> bool:
        return any(pack.find(oid) is not None for pack in now)

    try:
        multi_pack_index = folder / "multi-pack-index"
        if multi_pack_index.exists():
            # It would lead git to packs that are about to go.
            disk.rename(multi_pack_index, trash / multi_pack_index.name)
        for name in sorted(names):
            index = folder / f"{name}.idx"
            if dead is not None or _is_old(index) or all(held(oid) for oid in Pack(index).ids()):
                _move_pack(name, folder, trash, disk)
        for pack in folder.glob("pack-*.pack"):
            index = pack.with_suffix(".idx")
            if not index.exists() and ((trash / index.name).exists() or _is_old(pack)):
                _move_pack(pack.stem, folder, trash, disk)
        for path in loose:
            if held(bytes.fromhex(path.parent.name + path.name)):
                disk.unlink(path)
        for parent in {path.parent for path in loose}:
            disk.remove_folder(parent)
    finally:
        for opened in now:
            opened.close()
    disk.sync_folder(folder)
    disk.sync_folder(trash)


def _move_pack(name: str, source: Path, target: Path, disk: Disk) -> None:
    # No reader may find an index whose pack is gone: it leaves first and comes back last.
    leaving = target.name == "trash"
    paths = sorted(source.glob(f"{name}.*"), key=lambda path: (path.suffix == ".idx") != leaving)
    # Windows refuses while a reader has them mapped; the next run tries again.
    with suppress(PermissionError):
        for path in paths:
            disk.rename(path, target / path.name)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _GRACE_SECONDS


def _check_tips(git_dir: Path, tips: Iterable[ObjectId]) -> None:
    with closing(ObjectStore(git_dir / "objects")) as store:
        for tip in tips:
            if not store.contains(tip):
                raise CorruptionError(
                    f"{tip.hex()}: missing after the repack; move the packs in {git_dir / 'trash'} back to objects/pack"
                )


def _tips(git_dir: Path, disk: Disk) -> list[ObjectId]:
    """What every ref and HEAD hold. Raises CorruptionError: with an unreadable ref nothing may be dropped."""
    refs = RefStore(git_dir, disk)
    tips = set(refs.list().values())
    if (head := refs.read("HEAD")) is not None:
        tips.add(head)
    return sorted(tips)


def _packs(git_dir: Path) -> dict[str, int]:
    """Name and bytes (pack and index) of every pack that git sees."""
    packs = {}
    for index in (git_dir / "objects" / "pack").glob("pack-*.idx"):
        with suppress(FileNotFoundError):
            packs[index.stem] = index.stat().st_size + index.with_suffix(".pack").stat().st_size
    return packs


def _new_bytes(packs: dict[str, int], state: _State) -> dict[str, int]:
    return {name: size for name, size in packs.items() if name not in state.packs}


def _loose(git_dir: Path) -> Iterable[Path]:
    return (git_dir / "objects").glob(f"{'[0-9a-f]' * 2}/{'[0-9a-f]' * 38}")


def _protected(git_dir: Path, names: Iterable[str]) -> set[str]:
    """As git protects a pack that it is still fetching."""
    return {name for name in names if (git_dir / "objects" / "pack" / f"{name}.keep").exists()}


def _empty_trash(git_dir: Path, disk: Disk) -> None:
    for path in (git_dir / "trash").glob("*"):
        # Windows keeps what a reader has mapped; the next run tries again.
        with suppress(PermissionError):
            disk.unlink(path)


def _put_back(git_dir: Path, disk: Disk) -> None:
    folder = git_dir / "objects" / "pack"
    # The index last: no reader may find one whose pack is not there yet.
    for path in sorted((git_dir / "trash").glob("pack-*"), key=lambda path: path.suffix == ".idx"):
        disk.rename(path, folder / path.name)
    disk.sync_folder(folder)


def _state_path(git_dir: Path) -> Path:
    return git_dir / "cache" / "repack.json"


def _read_state(git_dir: Path) -> _State:
    try:
        state = json.loads(_state_path(git_dir).read_bytes())
        return _State(frozenset(state["packs"]), frozenset(state["made"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return _State()


def _write_state(git_dir: Path, disk: Disk, state: _State) -> None:
    path = _state_path(git_dir)
    disk.make_folder(path.parent)
    content = json.dumps({"packs": sorted(state.packs), "made": sorted(state.made)})
    disk.write_durably(path, content.encode())
