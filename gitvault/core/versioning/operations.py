"""Operations: what moves several refs at once, all or none, on record, and how it is taken back.

First the new objects are durable, then a file in the vault's folder says of each ref where it is and where it goes,
then the refs move, then the file goes. Whoever writes next completes what the file says. The chain under
`refs/vault/operations` is the record; what nothing would reach any more stays alive under `refs/vault/undo/` until a
sweep.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gitvault.core.models import ObjectId, SnapshotId
from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import PENDING
from gitvault.core.versioning import origins
from gitvault.core.versioning.history import HEADS, OPERATIONS, GitHistory
from gitvault.core.versioning.packfile import PackWriter
from gitvault.core.versioning.refs import ANY, RefStore
from gitvault.errors import CorruptionError, LockedError

UNDO = "refs/vault/undo/"
TOMBSTONES = "refs/vault/tombstones"
TOMBSTONES_FILE = b"tombstones"
RECORD_FILE = b"operation.json"


@dataclass(frozen=True, slots=True)
class RefMove:
    """One ref on its way; None: there is no such ref."""

    ref: str
    old: ObjectId | None
    new: ObjectId | None


@dataclass(frozen=True, slots=True)
class Operation:
    """What the record says of one operation."""

    number: int
    """Counted from 1."""
    what: str
    """`prune`, `forget`, `rename`, `undo`."""
    time: datetime
    host: str
    moves: tuple[RefMove, ...]
    """Refs of the record itself left out."""
    kept: tuple[ObjectId, ...] = ()
    """What is kept alive until a sweep, so that it can be taken back."""
    undoes: tuple[int, ...] = ()
    """The operations that it took back."""
    removed: tuple[SnapshotId, ...] = ()
    """The snapshots that are gone by it."""
    renamed: tuple[tuple[str, str], ...] = ()
    """The projects that got another name: the old one, the new one."""


def perform(
    history: GitHistory,
    what: str,
    pack: PackWriter,
    moves: Sequence[RefMove],
    *,
    time: datetime,
    host: str,
    kept: Iterable[ObjectId] = (),
    undoes: Sequence[int] = (),
    removed: Iterable[SnapshotId] = (),
    renamed: Iterable[tuple[str, str]] = (),
) -> Operation:
    """Publish the pack and move the refs, as one; durable when it returns. Call it with the vault's lock held.

    `kept`: what nothing reaches afterwards, to be kept alive until a sweep. A failure before the refs begin to move
    leaves everything as it was; after that `complete` goes on. Raises LockedError when a ref is not where it should be.
    """
    newest = next(log(history), None)
    # Of an operation whose record is lost these may be left.
    kept_for = (ref[len(UNDO) :].partition("/")[0] for ref in history.refs.list(UNDO))
    number = 1 + max(newest.number if newest else 0, *(int(text) for text in kept_for if text.isdecimal()), 0)
    done = Operation(
        number,
        what,
        time,
        host,
        tuple(moves),
        tuple(dict.fromkeys(kept)),
        tuple(undoes),
        tuple(removed),
        tuple(renamed),
    )
    why = f"Operation {number}: {what}"
    before, record = history.add_file(pack, OPERATIONS, RECORD_FILE, _encode(done), why)
    made = pack.finish()
    history.publish([made] if made else [])
    keepers = [RefMove(f"{UNDO}{number}/{k}", None, oid) for k, oid in enumerate(done.kept)]
    move(history, what, [*keepers, *moves, RefMove(OPERATIONS, before, record)], number)
    return done


def move(history: GitHistory, what: str, moves: Sequence[RefMove], number: int | None = None) -> None:
    """Move refs as one; durable when it returns. What they are to hold is durable already; the vault's lock is held.

    `number`: of the operation, if it is on record. Raises LockedError when a ref is not where it should be, and nothing
    has moved then.
    """
    for each in moves:
        if (now := history.refs.read(each.ref)) != each.old:
            raise LockedError(f"{each.ref}: expected {_shown(each.old)}, found {_shown(now)}; run again")
    if moves:
        pending = {"number": number, "refs": _moves_document(moves), "what": what}
        history.refs.guard()
        history.disk.write_durably(history.git_dir / PENDING, _canonical(pending))
        complete(history.git_dir, history.refs, history.disk)


def complete(git_dir: Path, refs: RefStore, disk: Disk) -> None:
    """Finish the operation that the pending file tells of; nothing without one. Call it with the lock held.

    Raises CorruptionError, naming the ref, when one is neither where it was nor where it goes: nothing moves then.
    """
    path = git_dir / PENDING
    try:
        moves = _moves(json.loads(path.read_bytes())["refs"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{path}: cannot be read ({error}); move it away, then run git-vault verify") from error
    steps = []
    for move in moves:
        now = refs.read(move.ref)
        if now in (move.old, move.new):
            steps.append((move, now))
        # Readers write notes of origin without the lock: what one says meanwhile is as good.
        elif not move.ref.startswith(origins.PREFIX):
            raise CorruptionError(
                f"{move.ref}: an operation was interrupted, expected {_shown(move.old)} or {_shown(move.new)}, found "
                f"{_shown(now)}; put it back with git update-ref, or move {path} away"
            )
    for move, now in steps:
        # Also where it is already: a run that was killed may not have synced it.
        if move.new is None:
            refs.delete(move.ref, old=ANY if now is None else now)
        else:
            refs.update(move.ref, move.new, old=now)
    branches = {move.ref: move.new for move in moves if move.ref.startswith(HEADS)}
    with suppress(CorruptionError):
        head = refs.head()
        if head in branches and not branches[head]:
            # A clone checks out what it names: the branch that took its place, or any.
            there = [*(ref for ref, new in branches.items() if new), *refs.list(HEADS), f"{HEADS}main"]
            refs.set_head(there[0])
    disk.unlink(path)
    disk.sync_folder(git_dir)


def log(history: GitHistory) -> Iterator[Operation]:
    """The operations, newest first. Raises CorruptionError."""
    at = history.refs.read(OPERATIONS)
    while at:
        commit = history.commit(at)
        found = history.tree(commit.tree).get(RECORD_FILE)
        yield _decode(history.blob(found[1]) if found else b"", at)
        at = commit.parents[0] if commit.parents else None


def removed(history: GitHistory) -> set[SnapshotId]:
    """The snapshots that operations removed and none has brought back. Raises CorruptionError."""
    gone: set[SnapshotId] = set()
    undone: set[int] = set()
    for operation in log(history):
        if operation.number not in undone:
            undone.update(operation.undoes)
            gone.update(operation.removed)
    return gone


def names(history: GitHistory, project: str) -> list[str]:
    """The names that a project has had, the present one first. Raises CorruptionError."""
    found = [project]
    for operation in log(history):
        found += [old for old, new in operation.renamed if new == found[-1]][:1]
    return found


def can_undo(history: GitHistory, operation: Operation) -> bool:
    """Whether what it moved away from is still kept."""
    held = set(history.refs.list(f"{UNDO}{operation.number}/").values())
    return held >= set(operation.kept) and all(map(history.objects.contains, operation.kept))


def tombstones(history: GitHistory) -> dict[str, str]:
    """What was forgotten: the SHA-1 of a blob, or the SHA-256 of a large file, in hex; and when, as ISO 8601 in UTC."""
    text = history.read_file(TOMBSTONES, TOMBSTONES_FILE).decode("ascii", "replace")
    return dict(line.split(" ", 1) for line in text.splitlines() if " " in line)


def _shown(oid: ObjectId | None) -> str:
    return oid.hex() if oid else "no such ref"


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _moves_document(moves: Iterable[RefMove]) -> list[dict[str, str | None]]:
    return [
        {"new": move.new.hex() if move.new else None, "old": move.old.hex() if move.old else None, "ref": move.ref}
        for move in moves
    ]


def _encode(operation: Operation) -> bytes:
    renamed = {"renamed": [list(names) for names in operation.renamed]} if operation.renamed else {}
    return _canonical(
        {
            **renamed,
            "host": operation.host,
            "kept": [oid.hex() for oid in operation.kept],
            "number": operation.number,
            "refs": _moves_document(operation.moves),
            "removed": list(operation.removed),
            "time": operation.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "undoes": list(operation.undoes),
            "what": operation.what,
        }
    )


def _decode(record: bytes, at: ObjectId) -> Operation:
    try:
        said = json.loads(record)
        return Operation(
            int(said["number"]),
            str(said["what"]),
            datetime.fromisoformat(said["time"]).astimezone(UTC),
            str(said["host"]),
            _moves(said["refs"]),
            tuple(_oid(text) for text in said["kept"]),
            tuple(map(int, said["undoes"])),
            tuple(SnapshotId(_oid(text).hex()) for text in said.get("removed", ())),
            tuple((str(old), str(new)) for old, new in said.get("renamed", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CorruptionError(f"{OPERATIONS}: {at.hex()} cannot be read ({error}); run git-vault verify") from error


def _moves(document: Iterable[dict[str, Any]]) -> tuple[RefMove, ...]:
    return tuple(
        RefMove(str(move["ref"]), *(_oid(move[key]) if move[key] is not None else None for key in ("old", "new")))
        for move in document
    )


def _oid(text: str) -> ObjectId:
    oid = bytes.fromhex(text)
    if len(oid) != 20:
        raise ValueError(f"{text!r} is no id")
    return ObjectId(oid)
