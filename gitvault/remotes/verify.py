"""Whether a remote is whole: what records name is there, in its full length, and, when asked, byte for byte."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from gitvault.core.interfaces import Progress
from gitvault.core.models import Defect, VerifyReport
from gitvault.core.storage.packs import read_table
from gitvault.core.utils.files import FleetingDisk
from gitvault.core.versioning.packindex import write_index
from gitvault.core.versioning.packreader import Pack
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.remotes import records
from gitvault.remotes.fetch import demand_vault
from gitvault.remotes.index import Index, Part
from gitvault.remotes.remote import CHUNKS, GIT, Remote
from gitvault.remotes.sealed import Sealed
from gitvault.remotes.settings import Settings


def verify(
    remote: Remote,
    told: Settings,
    *,
    data: bool = False,
    share: tuple[int, int] | None = None,
    turn: int = 0,
    progress: Progress,
) -> VerifyReport:
    """Look at everything that the newest records name; `data`: read it too, or that part of it whose `turn` it is.

    What is damaged is noted, so that the next push brings it again. Raises RemoteError and its kinds, NotFoundError.
    """
    vault = demand_vault(remote, told)
    listed = list(remote.place.names(records.FOLDER))
    known = remote.records(vault, listed)
    remote.demand(known.values())
    defects = [Defect("record", name, reason) for name, _, reason in (junk.partition(": ") for junk in remote.junk)]
    own = remote.own(told.chain)
    if own and own.isdisjoint(stored.name for stored in listed):
        defects.append(Defect("record", max(own), "this machine put it there, and it is gone"))
    lost: set[str] = set()
    if isinstance(remote.place, Sealed):
        lost.update(remote.place.helpless())
        defects += [Defect("help", name, "none there; with it anybody who has the key opens the rest") for name in lost]
    there = {stored.name: stored for folder in (GIT, CHUNKS) for stored in remote.place.names(folder)}
    index = remote.index(known.values())
    checked = 0
    size = 0
    parts: dict[str, Part] = {}
    for each in index.runs:
        for name in each.objects():
            checked += 1
            try:
                size += len(remote.get(name))
            except (CorruptionError, NotFoundError) as error:
                defects.append(Defect("index", name, str(error)))
                lost.add(name)
        # What cannot be read keeps nobody from the others: anyone who may put can write a record.
        with suppress(CorruptionError, NotFoundError):
            parts |= {part.name: part for part in index.parts_of(each)}
    damaged: set[str] = set()
    gone: set[str] = set()
    condemned = remote.condemned(known.values())
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
    if data and chosen:

        def failed(part: Part, error: Exception) -> None:
            defects.append(Defect("pack", part.name, str(error)))
            damaged.add(part.name)

        claims, wrong = _claims(index, {part.name for part in chosen})
        defects += wrong
        total, done = sum(part.size for part in chosen), 0
        with TemporaryDirectory(prefix="gitvault-") as folder:
            for part, (length, held) in remote.fetch(chosen, partial(_held, Path(folder)), failed):
                if lies := set(claims[part.name]) - held:
                    failed(part, CorruptionError(f"the index says of {len(lies)} objects that they are in it, wrongly"))
                done += part.size
                size += length
                progress("reading", done, total)
    # What could not be looked at now stays as it was known to be.
    looked = {part.name for part in chosen} if data else set()
    before = {name for name in remote.damaged() if name.startswith((GIT, CHUNKS))}
    remote.note_damaged(lost | damaged | before - looked)
    notes = [f"{share[0]} of {share[1]} parts"] if data and share else []
    # Whole or not, only who has the key can tell.
    notes += [f"{len(remote.sealed)} records are sealed to other keys"] if remote.sealed else []
    return VerifyReport(checked + len(known), size, tuple(defects), note=", ".join(notes))


def _claims(index: Index, parts: Collection[str]) -> tuple[dict[str, array[int]], list[Defect]]:
    """Beginnings, of 8 bytes, of the ids that the index says are in these parts; and what of it cannot be read."""
    found = {part: array("Q") for part in parts}
    defects: list[Defect] = []
    for each in index.runs:
        try:
            names = [part.name for part in index.parts_of(each)]
            for one, rest in index.rows(each):
                name = names[int(rest.split(" ", 2)[1])]
                if name in found:
                    found[name].append(_beginning(bytes.fromhex(one)))
        except (CorruptionError, NotFoundError, ValueError, IndexError) as error:
            defects.append(Defect("index", each.parts, f"not as a push writes it ({error})"))
    return found, defects


def _held(folder: Path, part: Part, content: bytes) -> tuple[int, set[int]]:
    """A part's length, and the beginnings of the ids of what is in it. Raises CorruptionError."""
    path = folder / part.name.replace("/", "-")
    disk = FleetingDisk()
    disk.write_durably(path, content)
    try:
        if part.name.startswith(CHUNKS):
            table = read_table(path)
            ids = [chunk.id for chunk in table.chunks] + [bytes.fromhex(oid) for oid, _ in table.manifests]
            return len(content), set(map(_beginning, ids))
        try:
            index = write_index(path, content, disk)
        except CorruptionError as error:
            raise CorruptionError(f"{part.name}: {error}") from error
        with closing(Pack(index)) as pack:
            held = set(map(_beginning, pack.ids()))
        disk.unlink(index)
        return len(content), held
    finally:
        disk.unlink(path)


def _beginning(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big")


def _in_turn(part: Part, share: tuple[int, int] | None, turn: int) -> bool:
    """Whether a pack is among the so many of so many parts, by its hash, that come next."""
    if share is None:
        return True
    count, of = share
    return (int(part.name.rpartition("/")[2][:8], 16) - turn) % of < count
