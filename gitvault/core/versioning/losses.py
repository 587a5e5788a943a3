"""What a repair could not get back: canonical JSON lines under `refs/vault/lost`, so that it stays listed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from gitvault.core.models import Affected, Defect, ObjectId, SnapshotId, VerifyReport
from gitvault.core.utils.names import from_text, to_text
from gitvault.core.versioning.history import LOST, GitHistory
from gitvault.core.versioning.operations import UNDO
from gitvault.errors import CorruptionError, GitVaultError

if TYPE_CHECKING:
    from gitvault.core.versioning.packfile import PackWriter

REF = LOST
FILE = b"lost.jsonl"


def load(history: GitHistory) -> list[Defect]:
    """The losses by object. Raises CorruptionError."""
    text = history.read_file(REF, FILE)
    try:
        return [_decode(line) for line in text.decode().splitlines()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"{REF}: a line cannot be read ({error}); run git-vault verify --repair") from error


def known(history: GitHistory) -> list[Defect]:
    """The losses as far as the list can be read: a damaged one is a defect that verify names."""
    with suppress(GitVaultError):
        return load(history)
    return []


def save(history: GitHistory, losses: Iterable[Defect]) -> None:
    """Replace the list, unless it is this one; durable when it returns."""
    lines = sorted({_encode(loss) for loss in losses})
    if not lines:
        history.refs.delete(REF)
        return
    content = "".join(lines).encode()
    if content != history.read_file(REF, FILE):
        history.write_file(REF, FILE, content, "What could not be repaired")


def rename(history: GitHistory, pack: PackWriter, names: Mapping[str, str]) -> tuple[ObjectId | None, ObjectId] | None:
    """Add to the pack a list in which projects have other names; where the list was and is. None: it is as it was."""
    listed = known(history)
    lines = {_encode(loss) for loss in listed}
    renamed = {
        _encode(replace(loss, affects=tuple(replace(p, project=names.get(p.project, p.project)) for p in loss.affects)))
        for loss in listed
    }
    if renamed == lines:
        return None
    return history.add_file(pack, REF, FILE, "".join(sorted(renamed)).encode(), "Rename")


def divide(history: GitHistory, report: VerifyReport, listed: Iterable[Defect]) -> VerifyReport:
    """The report with those defects that are listed already as `quarantined`, and with losses that leave no defect."""
    lost = {loss.object: loss for loss in listed}
    found = {defect.object for defect in report.defects}
    still = [defect for defect in report.defects if defect.object in lost]
    still += [loss for loss in lost.values() if loss.object not in found and _is_gone(history, loss)]
    new = tuple(defect for defect in report.defects if defect.object not in lost)
    return replace(report, defects=new, quarantined=tuple(still))


def settle(history: GitHistory, report: VerifyReport, lost: Iterable[Defect]) -> VerifyReport:
    """What a repair leaves: the list is now what is `lost` and what is still a defect; new in the report are those."""
    listed = known(history)
    left = divide(history, report, listed)
    new = (*lost, *left.defects)
    save(history, [*left.quarantined, *(loss for loss in new if loss.kind not in ("pack", "vault"))])
    return replace(left, defects=new, quarantined=(*left.quarantined, *new))


def _is_gone(history: GitHistory, loss: Defect) -> bool:
    """Whether a loss that verify does not meet any more, since nothing leads to it, is still one."""
    if loss.kind == "commit":
        return not history.objects.contains(ObjectId(bytes.fromhex(loss.object)))
    # Without what undo needs an operation can no longer be taken back, as after any sweep.
    return loss.kind == "ref" and not loss.object.startswith(UNDO) and history.refs.read(loss.object) is None


def _encode(loss: Defect) -> str:
    record = {
        "affects": [
            {"path": to_text(place.path), "project": place.project, "snapshot": place.snapshot}
            for place in loss.affects
        ],
        "kind": loss.kind,
        "object": loss.object,
        "reason": loss.reason,
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"


def _decode(line: str) -> Defect:
    record = json.loads(line)
    places = (
        Affected(place["project"], SnapshotId(place["snapshot"]), from_text(place["path"]))
        for place in record["affects"]
    )
    return Defect(record["kind"], record["object"], record["reason"], tuple(places))
