"""Segments: files of canonical lines in the area `feedback/<project>`, named by their content, never changed.

What somebody wants to be forgotten is purged: the segments that have it are written anew with tombstones, so that the
same export brings nothing back, and `purged/<hash>` names one that was there before. Where one of them comes back,
from a vault that has not heard of it, it counts for nothing, and goes with the next import or purge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gitvault.core.utils.names import ref_component, to_line
from gitvault.errors import CorruptionError
from gitvault.personas.game.feedback.record import VERSION

if TYPE_CHECKING:
    from gitvault.vault import Vault
    from gitvault.vault.area import Area

_SEGMENTS, _PURGED = b"segments", b"purged"


class Line(NamedTuple):
    """A record of a segment, and where its line is."""

    said: Mapping[str, Any]
    digest: int
    start: int
    length: int


def area_of(vault: Vault, project: str) -> Area:
    """Where the records of a project are."""
    return vault.area(f"feedback/{ref_component(project)}")


def add(area: Area, lines: Sequence[bytes], why: str) -> bytes:
    """Keep lines as a segment, durable when it returns; its path."""
    path, content = _named(b"".join(lines))
    area.add({path: content}, why)
    return path


def paths(area: Area) -> list[bytes]:
    """The segments, in order, without those that were purged elsewhere."""
    gone = _gone(area)
    return [path for path in area.paths(_SEGMENTS) if path not in gone]


def read(area: Area, path: bytes) -> Iterator[Line]:
    """The records of a segment. Raises CorruptionError, NotFoundError."""
    # Not for each question that is asked: what encodes takes 20 ms to import.
    from gitvault.personas.game.feedback.lines import digest

    start = 0
    for line in area.read(path).splitlines(keepends=True):
        try:
            said = json.loads(line)
            if not (isinstance(said["id"], str) and len(said["id"]) == 32 and said["source"] and said["kind"]):
                raise ValueError("no record")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptionError(
                f"{to_line(path)}: byte {start} begins no record ({error}); run git-vault verify"
            ) from error
        yield Line(said, digest(line), start, len(line))
        start += len(line)


def settle(area: Area) -> None:
    """Take out what was purged and came back."""
    if back := _gone(area).intersection(area.paths(_SEGMENTS)):
        area.erase(back, "Purged feedback that came back")


def purge(area: Area, ids: Mapping[bytes, Collection[str]]) -> None:
    """Leave nothing of records but their ids: of segments by path, those with these ids.

    The area's history goes with them; what they held is gone after the next sweep.
    """
    from gitvault.personas.game.feedback.lines import encode

    for path, purged in ids.items():
        content = area.read(path)
        lines = [
            encode({key: said[key] for key in ("id", "source", "kind")} | {"v": VERSION, "purged": True})
            if said["id"] in purged
            else content[start : start + length]
            for said, _, start, length in read(area, path)
        ]
        # With one commit each, so that nothing is lost wherever this stops; `settle` goes on then.
        gone = b"/".join((_PURGED, hashlib.sha256(path).hexdigest().encode()))
        area.add(dict([_named(b"".join(lines)), (gone, path + b"\n")]), "Purge of feedback")
    area.erase(ids.keys(), "Purge of feedback")


def _gone(area: Area) -> set[bytes]:
    return {path for record in area.paths(_PURGED) for path in area.read(record).splitlines()}


def _named(content: bytes) -> tuple[bytes, bytes]:
    digits = hashlib.sha256(content).hexdigest().encode()
    return b"/".join((_SEGMENTS, digits[:2], digits + b".jsonl")), content
