"""Snapshots that have a name: annotated tags `refs/tags/<project>/<name>`, which git lists and describes by.

A milestone is one whose text ends in the trailer `Vault-Type`; prune keeps it. Other tools' tags are names, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.names import from_ref_component, from_text, ref_component
from gitvault.core.versioning import commits
from gitvault.core.versioning.edits import stamp
from gitvault.core.versioning.history import GitHistory
from gitvault.core.versioning.objects import decode_tag, format_message, parse_message
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

PREFIX = "refs/tags/"
_CREATED = "Vault-Created"


@dataclass(frozen=True, slots=True)
class Tag:
    """A name for a snapshot."""

    name: str
    project: str
    snapshot: SnapshotId
    ref: str
    time: datetime | None = None
    """When it was made; None for one that does not say."""
    message: str = ""
    type: str = ""
    """What kind of milestone it is; empty for a tag that is none."""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def ref_of(project: str, name: str) -> str:
    """The ref of a name. Raises GitVaultError for one that is empty."""
    if not name.strip():
        raise GitVaultError("a milestone's name cannot be empty; give one that is not")
    return f"{PREFIX}{ref_component(project)}/{ref_component(name)}"


def create(
    history: GitHistory,
    project: str,
    name: str,
    snapshot: SnapshotId,
    *,
    type: str,
    now: datetime,
    message: str = "",
    tags: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> Tag:
    """Give a snapshot a name, durable when it returns; call it locked.

    Raises LockedError when the project has the name, NotFoundError.
    """
    ref = ref_of(project, name)
    trailers = [("Vault-Type", type), (_CREATED, stamp(now)), *commits.facts(tags, metadata)]
    text = format_message(message or name, trailers)
    at = history.locate(snapshot)
    tag = history.write_ref(ref, None, lambda pack: history.add_tag(pack, at, ref[len(PREFIX) :], text, now))
    return _read(history, ref, tag)


def tags(history: GitHistory, project: str | None = None, *, strict: bool = True) -> Iterator[Tag]:
    """The names of snapshots, of all projects or one, by name.

    Raises CorruptionError, NotFoundError for one that leads nowhere; not `strict`, it is passed over.
    """
    prefix = f"{PREFIX}{ref_component(project)}/" if project is not None else PREFIX
    for ref, at in history.refs.list(prefix).items():
        if ref.count("/") == 3:
            try:
                yield _read(history, ref, at)
            except (CorruptionError, NotFoundError):
                if strict:
                    raise


def find(history: GitHistory, name: str) -> list[tuple[str, ObjectId]]:
    """The projects that have a snapshot of this name, or `PROJECT/NAME`, with its commit."""
    found = []
    for ref, at in history.refs.list(PREFIX).items():
        project, _, own = ref[len(PREFIX) :].partition("/")
        project, own = from_ref_component(project), from_ref_component(own)
        if name in (own, f"{project}/{own}"):
            found.append((project, history.peel(at)))
    return found


def _read(history: GitHistory, ref: str, at: ObjectId) -> Tag:
    component, _, name = ref[len(PREFIX) :].partition("/")
    own, project = from_ref_component(name), from_ref_component(component)
    kind, data = history.objects.read(at)
    if kind != b"tag":
        return Tag(own, project, history.identify(at), ref)
    _, tagger, text = decode_tag(at, data)
    body, trailers = parse_message(text)
    labels, metadata = commits.read_facts(trailers)
    said = dict(trailers)
    return Tag(
        own,
        project,
        history.identify(history.peel(at)),
        ref,
        time=_time(tagger.time, said.get(_CREATED, "")) if tagger else None,
        message=body.rstrip("\n"),
        type=from_text(said.get("Vault-Type", "")).decode("utf-8", "replace"),
        tags=labels,
        metadata=metadata,
    )


def _time(seconds: int, precise: str) -> datetime:
    """The tagger's time, to the microsecond where the trailer says it: git keeps seconds, on which two may fall."""
    moment = datetime.fromtimestamp(seconds, UTC)
    with suppress(ValueError):
        told = datetime.fromisoformat(precise)
        # Where the tag was written anew with another time, that counts.
        if told.tzinfo and told.replace(microsecond=0) == moment:
            return told
    return moment
