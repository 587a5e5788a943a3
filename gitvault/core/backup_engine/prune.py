"""Removing snapshots: the policy says which, chains are written anew without them, one operation moves the refs.

Trees stay as they are, byte for byte. What only removed snapshots held is freed by a sweep; until then the operation
can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from contextlib import closing
from datetime import datetime, tzinfo
from functools import partial
from itertools import chain

from gitvault.core.backup_engine.retention import Retention, kept
from gitvault.core.models import PruneReport, SnapshotId, Verdict
from gitvault.core.stat_cache import CacheDamaged, StatCache
from gitvault.core.versioning import operations
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import Commit
from gitvault.core.versioning.rewrite import Content, Rewrite, unchanged
from gitvault.core.versioning.tags import tags as tags_of
from gitvault.errors import NotFoundError


def judge(
    history: GitHistory, projects: Sequence[str], rules: Retention, now: datetime, zone: tzinfo | None = None
) -> dict[str, tuple[Verdict, ...]]:
    """What becomes of each snapshot of the projects.

    Raises NotFoundError for a project without any, and CorruptionError where a chain, or a tag that matters, cannot be
    read: what is not listed whole is not pruned.
    """
    verdicts: dict[str, tuple[Verdict, ...]] = {}
    for project in projects:
        snapshots = list(history.list_versions(project))
        if not snapshots:
            raise NotFoundError(f"{project}: has no snapshot; nothing was removed")
        times = [(snapshot.id, snapshot.time) for snapshot in snapshots]
        # A milestone stays whatever the rules say.
        named = tags_of(history, project, strict=rules.milestones)
        milestones = {tag.snapshot: tag.name for tag in named if rules.milestones or tag.type}
        why = kept(times, rules, now, milestones=milestones, zone=zone)
        verdicts[project] = tuple(Verdict(snapshot, why.get(snapshot.id, ())) for snapshot in snapshots)
    return verdicts


def prune(
    history: GitHistory,
    projects: Sequence[str],
    rules: Retention,
    *,
    now: datetime,
    host: str,
    cache: Callable[[str], StatCache] | None,
) -> PruneReport:
    """Remove what the rules do not keep. The caller holds the vault's lock.

    `cache`: of a project; None: only say what would be removed. Raises as `judge` does, and StorageFullError; nothing
    is removed then.
    """
    judged = judge(history, projects, rules, now)
    report = PruneReport(tuple(chain.from_iterable(judged.values())), cache is not None)
    if cache is None:
        return report
    removed: list[SnapshotId] = []
    with Rewrite(history) as rewrite:
        for project, verdicts in judged.items():
            gone = {verdict.snapshot.id for verdict in verdicts if not verdict.reasons}
            if gone:
                removed += (verdict.snapshot.id for verdict in verdicts if verdict.snapshot.id in gone)
                rewrite.project(project, partial(_without, gone))
                _keep_versions(cache(project), [verdict.snapshot.id for verdict in verdicts], gone)
        if rewrite.moves:
            rewrite.follow()
            operations.perform(
                history,
                "prune",
                rewrite.pack,
                rewrite.moves,
                time=now,
                host=host,
                kept=rewrite.lost,
                removed=removed,
            )
    return report


def _without(gone: Set[SnapshotId], name: SnapshotId, commit: Commit, meta: Commit | None) -> Content | None:
    return None if name in gone else unchanged(name, commit, meta)


def _keep_versions(cache: StatCache, snapshots: Sequence[SnapshotId], gone: Set[SnapshotId]) -> None:
    """The cache says since when files are as they are: of a removed snapshot the next one holds the same.

    True before the refs move as well as after.
    """
    replaced: dict[str, str] = {}
    stays = snapshots[0]
    for name in snapshots:
        if name in gone:
            replaced[name] = stays
        else:
            stays = name
    with closing(cache):
        try:
            cache.replace_versions(replaced)
        except CacheDamaged:
            cache.forget()
