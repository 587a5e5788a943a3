"""Whether a remote is whole: what records name is there, in its full length, and, when asked, byte for byte."""

from __future__ import annotations

from gitvault.core.interfaces import Progress
from gitvault.core.models import Defect, VerifyReport
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.remotes.index import Part
from gitvault.remotes.remote import CHUNKS, GIT, Remote


def verify(
    remote: Remote,
    vault: str,
    *,
    data: bool = False,
    share: tuple[int, int] | None = None,
    turn: int = 0,
    progress: Progress,
) -> VerifyReport:
    """Look at everything that the newest records name; `data`: read it too, or that part of it whose `turn` it is.

    What is damaged is noted, so that the next push brings it again. Raises RemoteError and its kinds.
    """
    known = remote.records(vault)
    skipped = remote.demand(known.values())
    defects = [Defect("record", name, reason) for name, _, reason in (junk.partition(": ") for junk in skipped)]
    there = {stored.name: stored for folder in (GIT, CHUNKS) for stored in remote.place.names(folder)}
    index = remote.index(known.values())
    checked = 0
    size = 0
    unreadable = False
    for run in index.runs:
        for name in run.objects():
            checked += 1
            try:
                size += len(remote.get(name))
            except (CorruptionError, NotFoundError) as error:
                defects.append(Defect("index", name, str(error)))
                unreadable = True
    damaged: set[str] = set()
    gone: set[str] = set()
    condemned = remote.condemned(known.values())
    parts = {} if unreadable else index.parts()
    for part in parts.values():
        checked += 1
        stored = there.get(part.name)
        if stored is None and part.name in condemned:
            # A prune removed it; who pushed it has it in the index until the next push.
            gone.add(part.name)
        elif stored is None or not (stored.padded or stored.size == part.size):
            found = f"{stored.size} bytes" if stored else "none"
            defects.append(Defect("pack", part.name, f"expected {part.size} bytes, found {found}"))
            damaged.add(part.name)
    chosen = [part for part in parts.values() if part.name not in damaged | gone and _in_turn(part, share, turn)]
    if data:

        def failed(part: Part, error: Exception) -> None:
            defects.append(Defect("pack", part.name, str(error)))
            damaged.add(part.name)

        total, done = sum(part.size for part in chosen), 0
        for part, length in remote.fetch(chosen, lambda _, content: len(content), failed):
            done += part.size
            size += length
            progress("reading", done, total)
    # What could not be looked at now stays as it was known to be.
    looked = {part.name for part in chosen} if data else set()
    remote.note_damaged(damaged | (remote.damaged() & parts.keys()) - looked)
    note = f"{share[0]} of {share[1]} parts" if data and share else ""
    return VerifyReport(checked + len(known), size, tuple(defects), note=note)


def _in_turn(part: Part, share: tuple[int, int] | None, turn: int) -> bool:
    """Whether a pack is among the so many of so many parts, by its hash, that come next."""
    if share is None:
        return True
    count, of = share
    return (int(part.name.rpartition("/")[2][:8], 16) - turn) % of < count
