"""Space given back: what no file needs leaves the packs, and packs in which nothing is needed go.

What is needed is worked out from the packs' own tables. A pack that is all dead goes without a byte written. One that
is partly dead is written again without that; where chunks are only there because something is coded against them, that
is stored plain first if it frees more than it takes. Each step is a round as upkeep's: new packs are durable before old
ones are condemned, moved, proved to be missed by nobody, and deleted. A kill at any point leaves what the next sweep
ends.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.storage.appender import PACK_SIZE
from gitvault.core.storage.census import Census, PackBalance
from gitvault.core.storage.index import ChunkIndex
from gitvault.core.storage.packs import PACK_NAME, read_table
from gitvault.core.storage.rounds import IDLE_LEVEL, Round, empty_trash, move
from gitvault.core.utils.files import Disk
from gitvault.core.utils.sizes import difference
from gitvault.errors import CorruptionError, StorageFullError

# Writing a pack again pays from these shares of dead frames, and of what is wasted in live ones, on.
_DEAD = 0.05
_WASTED = 0.20
# Packs up to this size cost little: they are written again for any dead frame, and for less waste.
_SMALL = PACK_SIZE // 4
_ROUND = 1 << 30


@dataclass(frozen=True, slots=True)
class StoreSweep:
    """What was done; sizes are bytes of frames."""

    packs_before: int
    packs_after: int
    bytes_before: int
    bytes_after: int
    waiting: int
    """Packs that are to be written again as soon as there is room for it."""

    def summary(self) -> str:
        """One line for people."""
        less = difference(self.bytes_before, self.bytes_after)
        text = f"{self.packs_before} packs are now {self.packs_after}, {less}"
        return text + (f"; {self.waiting} wait for free space, sweep again then" if self.waiting else "")


def take_census(folder: Path, index: ChunkIndex, disk: Disk, lost: Collection[bytes] = ()) -> Census:
    """All packs of the folder; those that an interrupted run left in the trash are brought back to be judged.

    `lost`: see Census. Raises OSError, CorruptionError, UnsupportedFormatVersion for a pack that cannot be read: its
    needs are not known.
    """
    empty_trash(folder, index, disk)
    trash = folder / "trash"
    left = [name for name in _listed(trash) if not (folder / name).exists() and _is_readable(trash / name)]
    if left:
        move(left, trash, folder, disk)
    census = Census(lost)
    for name in _listed(folder):
        census.add(name, read_table(folder / name))
    return census


def sweep(
    folder: Path,
    index: ChunkIndex,
    disk: Disk,
    census: Census,
    *,
    strict: bool,
    unmoved: Callable[[], bool],
    progress: Progress | None = None,
) -> StoreSweep | None:
    """Remove what the census has no need for; None when there is nothing of that. For whoever holds the vault's lock.

    `strict`: every byte of it, as after something was to be forgotten; else as much as pays. `unmoved`: whether what
    is needed is what was needed for the census. Where there is no room to write a pack again it waits for the next
    sweep. Raises StorageFullError when nothing could be freed, LockedError when `unmoved` says no, CorruptionError,
    OSError; what is needed is there whatever is raised.
    """
    census.settle()
    before = list(census.balance())
    waiting = _dissolve(folder, index, disk, census, before, strict=strict)
    going = [pack for pack in census.balance() if pack.is_dead or _pays(pack, strict)]
    total = sum(pack.live + pack.dead for pack in going)
    names = {pack.name for pack in going}
    freed = done = 0
    full: StorageFullError | None = None
    groups = deque(_groups(going, folder))
    later: list[PackBalance] = []
    while groups or later:
        first_turn = bool(groups)
        if first_turn:
            group = groups.popleft()
        else:
            # What waited for others. At the lowest level everything is copied as it is.
            group, later = sorted(later, key=lambda pack: pack.level), []
        able = census.together([pack.name for pack in group])
        if not able and not first_turn:
            waiting += len(group)
            break
        later += [pack for pack in group if pack.name not in able]
        group = [pack for pack in group if pack.name in able]
        if not group:
            continue
        if progress:
            progress("giving space back", done, total)
        run = Round(folder, index, disk, group[0].level, names, census, unmoved)
        try:
            for pack in group:
                run.rewrite(pack.name)
            run.publish()
        except StorageFullError as error:
            run.abandon()
            full = error
            waiting += len(group)
        except BaseException:
            run.abandon()
            raise
        else:
            run.replace()
            census.gone(pack.name for pack in group if pack.name not in run.damaged)
            freed += sum(pack.dead for pack in group)
        done += sum(pack.live + pack.dead for pack in group)
    if full and not freed:
        raise full
    if not going and not waiting:
        return None
    index.compact()
    after = index.packs()
    stored = sum(pack.live + pack.dead for pack in before)
    return StoreSweep(len(before), len(after), stored, sum(pack.size for pack in after), waiting)


def _dissolve(
    folder: Path, index: ChunkIndex, disk: Disk, census: Census, packs: Collection[PackBalance], *, strict: bool
) -> int:
    """Store plain what keeps others from going; the packs that have to wait for room to do so."""
    leaving = [p.name for p in packs if strict or _is_much(p.propped - p.upright, p)]
    # What leaves frames that stay leaves holes.
    trimmed = {*leaving, *(p.name for p in packs if _is_much(p.holes, p))}
    apart = census.dissolve(leaving, trimmed, deltas=strict)
    waiting = 0
    if apart:
        run = Round(folder, index, disk, IDLE_LEVEL, ())
        try:
            for name, numbers in apart.items():
                run.write_plain(name, numbers, census.needs)
            run.publish()
        except StorageFullError:
            run.abandon()
            waiting = len(apart)
        except BaseException:
            run.abandon()
            raise
        else:
            for name in run.made:
                census.add(name, read_table(folder / name))
            census.retire({name: numbers for name, numbers in apart.items() if name not in run.damaged})
    census.settle()
    return waiting


def _pays(pack: PackBalance, strict: bool) -> bool:
    return pack.dead > 0 and (strict or pack.live + pack.dead <= _SMALL or pack.dead > _DEAD * (pack.live + pack.dead))


def _is_much(wasted: int, pack: PackBalance) -> bool:
    size = pack.live + pack.dead
    return wasted > (_DEAD if size <= _SMALL else _WASTED) * size


def _groups(packs: Collection[PackBalance], folder: Path) -> Iterator[list[PackBalance]]:
    """What goes together: first what needs no room, then what needs little, and no more at a time than there is."""
    if dead := [pack for pack in packs if pack.is_dead]:
        yield dead
    mixed = sorted((pack for pack in packs if not pack.is_dead), key=lambda pack: (pack.level, pack.live))
    for _, level in groupby(mixed, key=lambda pack: pack.level):
        group: list[PackBalance] = []
        for pack in level:
            room = min(_ROUND, shutil.disk_usage(folder).free)
            if group and sum(p.live for p in group) + pack.live > room:
                yield group
                group = []
            group.append(pack)
        yield group


def _listed(folder: Path) -> list[str]:
    """The names of packs in a folder. Raises OSError unless it is only missing: half a list would be a half census."""
    try:
        return sorted(path.name for path in folder.iterdir() if PACK_NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def _is_readable(pack: Path) -> bool:
    try:
        read_table(pack)
    except CorruptionError:
        return False
    return True
