"""Snapshots that older records of a machine name, its newest does not lead to, and nobody removed.

Who owns a machine, or may only put, can write a record in the proper form that names less than the one before. What a
machine removes itself is in its own record of operations, which it pushes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from gitvault.core.backup_engine.copy import DOINGS, grouped
from gitvault.core.models import ObjectId
from gitvault.core.versioning import catalog, operations
from gitvault.core.versioning.commits import identity
from gitvault.core.versioning.history import HEADS, GitHistory
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.remotes.records import Record
from gitvault.remotes.views import viewed


def hidden(
    history: GitHistory,
    tips: Iterable[ObjectId],
    newest: Iterable[Record],
    older: Iterable[Record],
    bring: Callable[[Record, ObjectId], None] = lambda record, tip: None,
) -> Iterator[tuple[Record, dict[str, ObjectId]]]:
    """Of the `older` records those with hidden projects, and the refs of these and of the catalog.

    `tips`: the commits from which what is not hidden is found. `newest`: each machine's newest record. `bring` sees to
    it that a commit is here, if it can; one that cannot be had is passed over.
    """
    known = _Known(history)
    removed = _removed(history)
    for record in newest:
        with viewed(history, record.refs) as view:
            removed |= _removed(view)
    for tip in tips:
        known.add(tip)
    for record in older:
        found: dict[str, ObjectId] = {}
        for name, group in grouped(record.refs, None, DOINGS).items():
            tip = group[name]
            if not name.startswith(HEADS) or tip.hex() in known.ids or tip.hex() in removed:
                continue
            bring(record, tip)
            with suppress(CorruptionError, NotFoundError):
                # A commit that a prune wrote anew stands for the snapshot that it was.
                snapshot = identity(tip, history.commit(tip))
                if snapshot not in known.ids and snapshot not in removed:
                    found |= group
        if found:
            # Where the projects lie comes along. Notes do not: what was taken out of them later would be back.
            yield record, found | {ref: oid for ref, oid in record.refs.items() if ref == catalog.REF}
            for ref, tip in found.items():
                if ref.startswith(HEADS):
                    known.add(tip)


class _Known:
    """The ids of chains: those of their commits, and those of the snapshots that they stand for."""

    def __init__(self, history: GitHistory) -> None:
        self.ids: set[str] = set()
        self._walked: set[ObjectId] = set()
        self._history = history

    def add(self, tip: ObjectId) -> None:
        """Add a chain, as far as it can be read."""
        with suppress(CorruptionError, NotFoundError):
            for oid, commit in self._history.walk(tip):
                if oid in self._walked:
                    return
                self._walked.add(oid)
                self.ids |= {oid.hex(), identity(oid, commit)}


def _removed(history: GitHistory) -> set[str]:
    try:
        return set(operations.removed(history))
    except (CorruptionError, NotFoundError):
        return set()
