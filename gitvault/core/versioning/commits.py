"""What a snapshot's commit says: the message and its trailers, written from Details and read as a Snapshot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.names import from_text, to_line
from gitvault.core.versioning.objects import Commit, format_message, parse_message

if TYPE_CHECKING:
    from gitvault.core.models import Snapshot
    from gitvault.core.versioning.history import Details

_SNAPSHOT = "Vault-Snapshot"
_FACTS = ("Vault-Tag", "Vault-Metadata")


_LAST_SECOND = 253_370_764_800
"""The beginning of 9999, which every time zone can still show."""


def message(details: Details, meta_commit: ObjectId, host: str) -> str:
    """The message of a snapshot taken on `host`, whose attributes are in `meta_commit`."""
    trailers = [
        ("Vault-Project", to_line(details.project.encode("utf-8", "surrogateescape"))),
        ("Vault-Meta", meta_commit.hex()),
        ("Vault-Host", to_line(host.encode("utf-8", "replace"))),
        ("Vault-Trigger", to_line(details.trigger.encode("utf-8", "replace"))),
        ("Vault-Files", str(details.files)),
        ("Vault-Bytes", str(details.bytes)),
    ]
    trailers += facts(details.tags, details.metadata)
    if details.restored_from:
        trailers.append(("Vault-Restored-From", details.restored_from))
    return format_message(details.message, [(k, v) for k, v in trailers if v])


def facts(tags: Sequence[str], metadata: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """The trailers of tags and metadata."""
    said = [("Vault-Tag", tag) for tag in tags]
    said += [("Vault-Metadata", f"{key}={value}") for key, value in (metadata or {}).items()]
    return [(key, to_line(value.encode("utf-8", "replace"))) for key, value in said]


def read_facts(trailers: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The tags and metadata that trailers tell."""
    said = [(key, from_text(value).decode("utf-8", "replace")) for key, value in trailers if key in _FACTS]
    pairs = (value.partition("=") for key, value in said if key == "Vault-Metadata")
    return tuple(value for key, value in said if key == "Vault-Tag"), {key: value for key, _, value in pairs}


def identity(oid: ObjectId, commit: Commit) -> SnapshotId:
    """The id of the snapshot that a commit stands for: that of the first commit that did."""
    # Most commits are the first, and whole chains are asked: the trailers take 30 us to read.
    if _SNAPSHOT in commit.message:
        named = dict(parse_message(commit.message)[1]).get(_SNAPSHOT, "")
        if re.fullmatch("[0-9a-f]{40}", named):
            return SnapshotId(named)
    return SnapshotId(oid.hex())


def rewritten(name: SnapshotId, commit: Commit, changed: Mapping[str, str]) -> str:
    """The message of a commit that takes the place of `commit`: trailers `changed`, the snapshot's id kept."""
    body, trailers = parse_message(commit.message)
    known = {key for key, _ in trailers}
    said = [(key, changed.get(key, value)) for key, value in trailers if key != _SNAPSHOT]
    said += [(key, value) for key, value in changed.items() if key not in known]
    return format_message(body, [*said, (_SNAPSHOT, name)])


def snapshot(oid: ObjectId, commit: Commit) -> Snapshot:
    """The snapshot that a commit stands for; one made by another tool says less of itself."""
    from gitvault.core.models import Snapshot

    body, trailers = parse_message(commit.message)
    one = dict(trailers)
    tags, metadata = read_facts(trailers)
    restored = one.get("Vault-Restored-From")
    return Snapshot(
        id=identity(oid, commit),
        project=from_text(one.get("Vault-Project", "")).decode("utf-8", "surrogateescape"),
        # git's seconds go on for longer than any calendar.
        time=datetime.fromtimestamp(min(commit.committer.time, _LAST_SECOND), UTC),
        message=body.rstrip("\n"),
        tags=tags,
        metadata=metadata,
        files=_count(one.get("Vault-Files")),
        bytes=_count(one.get("Vault-Bytes")),
        host=one.get("Vault-Host", ""),
        trigger=one.get("Vault-Trigger", ""),
        restored_from=SnapshotId(restored) if restored else None,
    )


def meta_commit(commit: Commit) -> ObjectId | None:
    """The commit of the meta chain that a snapshot names; None for a commit made by other tools."""
    named = dict(parse_message(commit.message)[1]).get("Vault-Meta", "")
    return ObjectId(bytes.fromhex(named)) if re.fullmatch("[0-9a-f]{40}", named) else None


def _count(text: str | None) -> int:
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else 0
