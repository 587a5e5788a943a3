"""Upkeep of the chunk store: many small packs into few, and compressed harder, now that nobody waits.

In rounds of limited size. New packs are written and durable before an old one moves; the old ones go to `trash/`,
where readers still look, and are deleted when everything in them has been read back without them. A kill at any
point leaves every chunk in a pack, at worst in two, which the next run notices: of what stands alone, and of deltas
with the same chunks and bases, one is kept. Other copies stay: what one is coded against may be coded against another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gitvault.core.interfaces import Progress
from gitvault.core.storage.appender import PACK_SIZE
from gitvault.core.storage.index import ChunkIndex, PackSummary
from gitvault.core.storage.rounds import IDLE_LEVEL, Round, empty_trash
from gitvault.core.utils.files import Disk
from gitvault.core.utils.sizes import size

FULL_LEVEL = 18
"""When asked for: 4 MB/s a core where it gains anything. Meshes 24 % and textures 15 % smaller than at 9."""

_SMALL = PACK_SIZE // 4
# Small packs that are worth a run nobody asked for, and bytes that are.
_MANY = 16
_ENOUGH = 128 << 20
# Old and new are on the disk together for one round.
_ROUND = 1 << 30


@dataclass(frozen=True, slots=True)
class StoreRepack:
    """What was done; sizes are bytes of frames."""

    packs_before: int
    packs_after: int
    bytes_before: int
    bytes_after: int
    damaged: tuple[str, ...] = ()
    """Names of packs that were left as they are, because something in them cannot be read."""

    def summary(self) -> str:
        """One line for people."""
        text = (
            f"{self.packs_before} packs of {size(self.bytes_before)} are now "
            f"{self.packs_after} of {size(self.bytes_after)}"
        )
        return text + (f"; {len(self.damaged)} damaged left alone, run git-vault verify" if self.damaged else "")


def due(index: ChunkIndex, *, asked: bool) -> list[PackSummary]:
    """The packs that a repack would rewrite; none when it does not pay. `asked`: anything to gain is reason enough."""
    # Nobody is to start again and again what a damaged pack will stop.
    hopeless = set() if asked else index.damaged()
    packs = [pack for pack in index.packs() if pack.name not in hopeless]
    level = FULL_LEVEL if asked else IDLE_LEVEL
    fresh = [pack for pack in packs if pack.level < level]
    small = [pack for pack in packs if pack.size < _SMALL]
    if not asked and sum(pack.size for pack in fresh) < _ENOUGH:
        fresh = []
    if len(small) < (2 if asked else _MANY):
        small = []
    return sorted({*fresh, *small}, key=lambda pack: pack.number)


def repack(
    folder: Path,
    index: ChunkIndex,
    disk: Disk,
    *,
    asked: bool,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> StoreRepack | None:
    """Do what is due; None when nothing was. For whoever holds the vault's lock.

    Raises ToolStopped when `stop` says so, StorageFullError, OSError, and CorruptionError when what was written does
    not read back: the store is then as before.
    """
    empty_trash(folder, index, disk)
    packs = due(index, asked=asked)
    if not packs:
        return None
    damaged = sorted(index.unreadable)
    total = sum(pack.size for pack in packs)
    after: dict[str, int] = {}
    written = 0
    left: list[PackSummary] = []
    for due_now in _rounds(packs):
        group = [*left, *due_now]
        run = Round(folder, index, disk, FULL_LEVEL if asked else IDLE_LEVEL, {pack.name for pack in group})
        try:
            # Of two copies the one that took more work is kept.
            for pack in sorted(group, key=lambda pack: -pack.level):
                if progress:
                    progress("compressing packs", written, total)
                run.rewrite(pack.name, stop)
                written += pack.size if pack not in left else 0
            run.publish()
        except BaseException:
            run.abandon()
            raise
        run.replace()
        damaged += run.damaged
        index.note_damaged(run.damaged)
        names = {pack.name for pack in left}
        after = {name: size for name, size in after.items() if name not in names} | run.made
        after |= {pack.name: pack.size for pack in group if pack.name in run.damaged}
        # What did not fill a pack goes on with the next round.
        left = [pack for pack in index.packs() if pack.name in run.made and pack.size < _SMALL]
    index.compact()
    if progress:
        progress("compressing packs", total, total)
    return StoreRepack(len(packs), len(after), total, sum(after.values()), tuple(damaged))


def _rounds(packs: Iterable[PackSummary]) -> Iterator[list[PackSummary]]:
    group: list[PackSummary] = []
    for pack in packs:
        if group and sum(p.size for p in group) + pack.size > _ROUND:
            yield group
            group = []
        group.append(pack)
    if group:
        yield group
