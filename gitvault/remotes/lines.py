"""Which snapshots the records of several machines lead to, and what each line of history is called.

Who owns a machine, or may only put, can write a record in the proper form that leads to less than the one before. So a
record's refs count beside those of earlier ones: a line that another goes on from is left out, whoever named it last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gitvault.core.backup_engine.copy import grouped
from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.names import from_ref_component
from gitvault.core.versioning import operations
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import HEADS, GitHistory
from gitvault.core.versioning.objects import Commit
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.remotes.fetch import under
from gitvault.remotes.records import Record
from gitvault.remotes.views import viewed

# What a clock may have been set back by: no commit is that much older than one before it.
_CLOCKS = 86_400
# Packs that a quick look fetches to see whether a line goes on from another.
_QUICK = 5


def merged_refs(
    records: Sequence[Record], leading: Mapping[str, Collection[ObjectId]] | None = None
) -> dict[str, ObjectId]:
    """The refs of several machines, of which the first counts where they differ.

    Another line of a project is called NAME@MACHINE, or NAME@MACHINE.NUMBER. `leading`: of a branch the tips that
    count, of any other all do.
    """
    refs: dict[str, ObjectId] = {}
    for record in records:
        names: tuple[Callable[[str], str], ...] = (
            str,
            f"%s@{record.machine.replace('%', '%%')}".__mod__,
            f"%s@{record.machine.replace('%', '%%')}.{record.number}".__mod__,
        )
        for branch, group in grouped(record.refs, None, ()).items():
            if leading and branch in leading and group[branch] not in leading[branch]:
                continue
            for name in names if branch.startswith(HEADS) else names[:1]:
                if refs.setdefault(under(branch, name), group[branch]) == group[branch]:
                    for ref, oid in group.items():
                        refs.setdefault(under(ref, name), oid)
                    break
    return refs


@dataclass(frozen=True, slots=True)
class Leading:
    """Where lines of history lead to."""

    tips: Mapping[str, Collection[ObjectId]]
    """Of each branch that records differ about, the tips that count."""
    records: Sequence[tuple[Record, Mapping[str, ObjectId]]]
    """Those before the newest that lead to any of these, with the refs of these."""
    hidden: Sequence[str]
    """What newest records leave out, as people are told."""
    unread: bool
    """Whether a tip could not be read."""


def leading(
    history: GitHistory,
    newest: Sequence[Record],
    earlier: Sequence[Record],
    project: str = "",
    *,
    quick: bool = False,
    bring: Callable[[Collection[ObjectId]], object] = lambda oids: None,
) -> Leading:
    """What of all branches, or that of one project, no other record goes on from.

    What the machines say they removed themselves is left out, and what cannot be read where another can. `quick`: ask
    for a few packs only; then what is hidden may go unseen, and what is said to be hidden need not be. `bring` is told
    of commits that will be read.
    """
    walks = _Walks(history, quick)
    removed: set[str] | None = None
    tips: dict[str, Collection[ObjectId]] = {}
    records: list[tuple[Record, Mapping[str, ObjectId]]] = []
    hidden: list[str] = []
    unread = False
    disputed = _disputed(newest, earlier, project)
    bring([tip for named in disputed.values() for tip in named])
    for branch, named in disputed.items():
        name = from_ref_component(branch.removeprefix(HEADS))
        said = {record.refs.get(branch) for record in newest}
        sound = _readable(history, named)
        unread = unread or len(sound) < len(named)
        found: list[ObjectId] = []
        for tip, snapshot in _foremost(walks, sound):
            if tip not in said:
                removed = _removed(history, newest) if removed is None else removed
                if not removed.isdisjoint({tip.hex(), snapshot}):
                    continue
                whose = next(record for record in earlier if record.refs.get(branch) == tip)
                records.append((whose, grouped(whose.refs, None, ())[branch]))
                hidden.append(f"{name} of {whose.machine}, {whose.time}: {snapshot}")
            found.append(tip)
        tips[branch] = found or [tip for tip in named if tip in said]
    return Leading(tips, records, hidden, unread)


def _disputed(newest: Collection[Record], earlier: Collection[Record], project: str) -> dict[str, list[ObjectId]]:
    """Where branches lead to, each place once, of those branches that records differ about."""
    found: dict[str, dict[ObjectId, None]] = {}
    for record in (*newest, *earlier):
        for ref, oid in record.refs.items():
            if ref.startswith(HEADS) and project in ("", from_ref_component(ref.removeprefix(HEADS))):
                found.setdefault(ref, {})[oid] = None
    return {
        ref: list(tips)
        for ref, tips in found.items()
        if len(tips) > 1 or not {record.refs.get(ref) for record in newest}.issuperset(tips)
    }


def _readable(history: GitHistory, tips: Collection[ObjectId]) -> dict[ObjectId, Commit]:
    found = {}
    for tip in tips:
        with suppress(CorruptionError, NotFoundError):
            found[tip] = history.commit(tip)
    return found


def _foremost(walks: _Walks, tips: Mapping[ObjectId, Commit]) -> Iterator[tuple[ObjectId, SnapshotId]]:
    """The tips that no other one goes on from, with the snapshots that they stand for."""
    for tip, commit in tips.items():
        snapshot = identity(tip, commit)
        if not any(walks.lead(other, snapshot, commit) for other in tips if other != tip):
            yield tip, snapshot


class _Walks:
    """Chains of commits, followed back no further than a snapshot is old."""

    def __init__(self, history: GitHistory, quick: bool) -> None:
        self._history = history
        self._left = _QUICK if quick else None
        self._margin = 0 if quick else _CLOCKS

    def lead(self, tip: ObjectId | None, snapshot: SnapshotId, commit: Commit) -> bool:
        """Whether the chain of `tip` holds the snapshot, which is that commit; true where to know it costs too much."""
        with suppress(CorruptionError, NotFoundError):
            while tip:
                if self._left is not None and not self._history.objects.contains(tip):
                    if not self._left:
                        return True
                    self._left -= 1
                one = self._history.commit(tip)
                if identity(tip, one) == snapshot:
                    return True
                if one.committer.time < commit.committer.time - self._margin:
                    return False
                tip = one.parents[0] if one.parents else None
        return False


def _removed(history: GitHistory, records: Collection[Record]) -> set[str]:
    found: set[str] = set()
    for record in records:
        with viewed(history, record.refs) as view, suppress(CorruptionError, NotFoundError):
            found |= operations.removed(view)
    return found
