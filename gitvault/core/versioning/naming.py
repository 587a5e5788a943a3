"""How people name a snapshot: an id or its beginning, `project`, `project~2`, `project@{date}`, a milestone, a date."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.dates import parse as parse_date
from gitvault.core.utils.names import near
from gitvault.core.versioning.objects import decode_commit
from gitvault.errors import AmbiguousError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.versioning.history import GitHistory


def resolve(history: GitHistory, name: str, now: datetime) -> ObjectId:
    """The commit that `name` means. Raises NotFoundError, AmbiguousError (candidates listed)."""
    base, back = name, 0
    if (match := re.fullmatch(r"(.+)~([0-9]{0,9})", name)) and not history.tip(name):
        base, back = match[1], int(match[2] or 1)
    at = _base(history, base, now)
    for _ in range(back):
        parents = history.commit(at).parents
        if not parents:
            raise NotFoundError(f"{name}: the history of {base} is not that long; git-vault log {base} lists it")
        at = parents[0]
    return at


def named_project(history: GitHistory, name: str) -> str:
    """The project whose line of history a name starts from; empty for an id, a milestone, a date."""
    base = re.sub(r"(~[0-9]{0,9}|@\{.+\})$", "", name)
    return next((one for one in (name, base) if one and history.tip(one)), "")


def _base(history: GitHistory, name: str, now: datetime) -> ObjectId:
    tip = history.tip(name) if name else None
    if tip:
        return tip
    if match := re.fullmatch(r"(.+)@\{(.+)\}", name):
        if not history.tip(match[1]):
            like = near(match[1], history.projects())
            raise NotFoundError(f"{match[1]}: no such project{like}; git-vault projects lists them")
        when = _date(match[2], name, now)
        found = _newest(history, match[1], when)
        if not found:
            raise NotFoundError(f"{name}: {match[1]} has no snapshot that old; git-vault log {match[1]} lists it")
        return found
    if re.fullmatch("[0-9a-fA-F]{4,40}", name):
        candidates = _beginning(history, name.lower())
        if len(candidates) == 1:
            return candidates.pop()
        if candidates:
            listed = ", ".join(sorted(history.identify(c)[:12] for c in candidates))
            raise AmbiguousError(f"{name}: fits several snapshots: {listed}; give more digits")
    if named := _milestone(history, name):
        return named
    try:
        when = parse_date(name, now, end=True)
    except ValueError:
        known = f"project, snapshot, milestone or date{near(name, history.projects())}"
        raise NotFoundError(f"{name}: no such {known}; git-vault log and git-vault projects list them") from None
    dated = {project: found for project in history.projects() if (found := _newest(history, project, when))}
    if len(dated) == 1:
        return next(iter(dated.values()))
    if dated:
        listed = ", ".join(f"{project}@{{{name}}}" for project in dated)
        raise AmbiguousError(f"{name}: several projects have a snapshot then: {listed}")
    raise NotFoundError(f"{name}: no snapshot is that old; git-vault log lists them")


def _milestone(history: GitHistory, name: str) -> ObjectId | None:
    from gitvault.core.versioning import tags

    found = tags.find(history, name)
    if len(found) > 1:
        listed = ", ".join(f"{project}/{name}" for project, _ in found)
        raise AmbiguousError(f"{name}: several projects have it: {listed}")
    return found[0][1] if found else None


def _date(text: str, whole: str, now: datetime) -> datetime:
    try:
        return parse_date(text, now, end=True)
    except ValueError as error:
        raise NotFoundError(f"{whole}: {error}") from None


def _newest(history: GitHistory, project: str, when: datetime) -> ObjectId | None:
    moment = when.timestamp()
    return next((oid for oid, commit in history.walk(history.tip(project)) if commit.committer.time <= moment), None)


def _beginning(history: GitHistory, prefix: str) -> set[ObjectId]:
    """The commits of the snapshots whose id, or one that they had, begins so."""
    found: set[ObjectId] = set()
    gone: NotFoundError | None = None
    for oid in history.objects.find_prefix(prefix):
        if _is_snapshot(history, oid):
            try:
                found.add(history.locate(SnapshotId(oid.hex())))
            except NotFoundError as error:
                gone = error
    if history.has_rewritten():
        # Ids whose commits a sweep has taken.
        indexes = [history.index(project).commits for project in history.projects()]
        found |= {oid for index in indexes for name, oid in index.items() if name.startswith(prefix)}
    if gone and not found:
        raise gone
    return found


def _is_snapshot(history: GitHistory, oid: ObjectId) -> bool:
    kind, data = history.objects.read(oid)
    return kind == b"commit" and history.meta_commit(decode_commit(data)) is not None
