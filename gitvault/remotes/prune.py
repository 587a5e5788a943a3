"""What nothing needs any more leaves a remote, in two steps with days in between.

First it is condemned, in a record: whoever pushes from then on does not rely on it. When the grace is over, by the
place's own clock, it is removed. So no push that is under way loses what it counted on, and no lock is needed.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from gitvault.core.interfaces import Progress
from gitvault.core.versioning.history import HEADS
from gitvault.core.versioning.transfer import Reach
from gitvault.errors import CorruptionError, NotFoundError, RemoteRefused, RemoteSealed
from gitvault.remotes import index, records, settings
from gitvault.remotes.fetch import commits_of
from gitvault.remotes.hidden import hidden
from gitvault.remotes.index import Index
from gitvault.remotes.records import Record
from gitvault.remotes.remote import CHUNKS, CONDEMNED, GIT, Remote
from gitvault.vault import Vault

_CLOCK = "clock/"


@dataclass(frozen=True, slots=True)
class RemotePruneReport:
    """What a prune did, or would do."""

    deleted: int
    bytes: int
    condemned: int
    """Packs that are condemned by now and still there."""
    kept: int
    junk: tuple[str, ...] = ()
    """What may have been records: what came before them stays."""
    hidden: tuple[str, ...] = ()
    """Older records with snapshots that no newest record leads to and nobody removed: these stay."""


def prune(
    vault: Vault,
    remote: Remote,
    told: settings.Settings,
    *,
    grace: int,
    yes: bool,
    junk: bool = False,
    progress: Progress,
) -> RemotePruneReport:
    """Remove what was condemned, or in no record, for `grace` seconds; condemn what no record's refs reach.

    Without `yes` only say so. `junk`: what is damaged under a record's name counts as nobody's. Raises NotFoundError
    when something that another machine pushed is not here, for it is not known then what it needs; RemoteRefused where
    this vault never pushed, or may not remove; RemoteError.
    """
    there = remote.known_id(told)
    remote.expect(there, told.id or vault.config.id)
    newest = remote.records(there)
    mine = newest.get(told.chain)
    _demand_all(remote)
    if mine is None:
        raise RemoteRefused(f"{remote.shown}: nothing of this vault is there; push to it first")
    last, number = remote.last_own(there, told.chain, mine)
    if number and mine.number > number:
        raise RemoteRefused(f"{remote.shown}: {records.name_of(mine)} is not of this vault; push to it first")
    if last and last.chain == told.chain:
        mine = newest[told.chain] = last
    now = _server_now(remote)
    listed = list(remote.place.names())
    times = {stored.name: stored.time for stored in listed}
    # Whose index cannot be read is as one that is damaged.
    unsound = {records.name_of(one) for one in newest.values() if one is not mine and not remote.is_sound(one)}
    newest = {chain: record for chain, record in newest.items() if records.name_of(record) not in unsound}
    torn = [] if junk else sorted({name for name in {*remote.torn, *unsound} if _may_count(name, newest)})
    # A record comes after all that it names.
    doubtful = max((times.get(name, now) for name in torn), default=0)
    recent: list[Record] = []

    def older() -> Iterator[Record]:
        for record in remote.every_record(there, without={records.name_of(one) for one in newest.values()} | unsound):
            if not remote.is_sound(record):
                continue
            if times.get(records.name_of(record), 0) > now - grace:
                recent.append(record)
            yield record

    tips = {oid for record in newest.values() for ref, oid in record.refs.items() if ref.startswith(HEADS)}
    bring = commits_of(vault, remote, told, progress)
    found = list(hidden(vault.history, tips, newest.values(), older(), bring))
    _demand_all(remote)
    known = remote.index([*newest.values(), *(record for record, _ in found)])
    marked = {stored.name.removeprefix(CONDEMNED) for stored in listed if stored.name.startswith(CONDEMNED)}
    parts = known.parts()
    names = {stored.name for stored in listed}
    live = _live_parts(
        vault, told, [*newest.values(), *(replace(one, refs=refs) for one, refs in found)], known, progress
    )
    live |= {stored.name for stored in listed if stored.time <= doubtful}
    kept = [*newest.values(), *recent, *(record for record, _ in found)]
    needed = set(_needed(remote, kept))
    # Of pushes that were interrupted: they may go on at this moment, and have to be told.
    stray = {stored.name for stored in listed if stored.name.startswith((GIT, CHUNKS)) and stored.time <= now - grace}
    dead = (parts.keys() | stray - needed | mine.condemned.keys() & names) - live
    # What came again after it was condemned is condemned anew: somebody may have relied on it.
    since = {name: at if times.get(name, 0) <= (at := mine.condemned.get(name) or now) else now for name in dead}
    needed -= dead
    gone = [
        stored
        for stored in listed
        if doubtful < stored.time <= now - grace
        and stored.name not in needed
        and (stored.name not in since or (since[stored.name] <= now - grace and stored.time <= since[stored.name]))
        and stored.name.startswith((GIT, CHUNKS, index.FOLDER, records.FOLDER, _CLOCK))
    ]
    left = {name: seconds for name, seconds in since.items() if name in names - {stored.name for stored in gone}}
    # What is gone is told as long as another machine's index names it: nobody is to miss it.
    named = remote.index([record for record in newest.values() if record is not mine]).parts().keys() - names
    told_gone = {name: seconds for name, seconds in since.items() if name in named | {stored.name for stored in gone}}
    if yes:
        if remote.learned:
            # First: who relies on one meanwhile sees it at the end of the push, and pushes again.
            for name in sorted(left.keys() - marked):
                remote.place.put(CONDEMNED + name, b"\n")
        _condemn(
            vault,
            remote,
            mine,
            max(number, mine.number) + 1,
            known,
            left | told_gone,
        )
        remote.place.delete([stored.name for stored in gone])
        if remote.learned:
            remote.place.delete([CONDEMNED + name for name in sorted(marked - left.keys())])
    return RemotePruneReport(
        len(gone),
        sum(stored.size for stored in gone),
        len(left),
        len(listed) - len(gone),
        tuple(torn),
        tuple(records.name_of(record) for record, _ in found),
    )


def _may_count(name: str, newest: dict[str, Record]) -> bool:
    """Whether a damaged record is one that no sound one of its chain has followed."""
    chain, number, _ = records.parse_name(name) or ("", 0, "")
    return chain not in newest or newest[chain].number < number


def _demand_all(remote: Remote) -> None:
    """Raises RemoteSealed where a record cannot be read: nobody knows what it needs."""
    if remote.sealed:
        raise RemoteSealed(
            f"{remote.shown}: no key here opens {remote.sealed[0]}, and what it needs must stay; give all keys it was "
            "ever encrypted to, in one file: --identity FILE"
        )


def _server_now(remote: Remote) -> int:
    """The place's clock: when something that is put there now came."""
    name = f"{_CLOCK}{secrets.token_hex(8)}"
    remote.place.put(name, b"\n")
    found = [int(stored.time) for stored in remote.place.names(_CLOCK) if stored.name == name]
    remote.place.delete([name])
    if not found:
        raise RemoteRefused(f"{remote.shown}: does not list what was put there; look at the rights")
    return found[0]


def _live_parts(
    vault: Vault, told: settings.Settings, every: Collection[Record], known: Index, progress: Progress
) -> set[str]:
    """The packs that hold anything that a record's refs reach. Raises NotFoundError."""
    reach = Reach(vault.history)
    live: set[str] = set()
    # One's own first: what is to be done about it is nearest.
    for number, record in enumerate(sorted(every, key=lambda record: record.chain != told.chain)):
        progress("looking at records", number, len(every))
        try:
            walk = reach.walk(record.refs)
            live |= {row.part.name for row in known.find([oid.hex() for oid in walk.objects()]).values()}
            chunks: set[str] = set()
            for pointer in walk.pointers:
                chunks.update(chunk.hex() for chunk, _ in vault.store.chunks(pointer))
                row = known.find([pointer.oid]).get(pointer.oid)
                if row is not None:
                    live.add(row.part.name)
                    chunks.update(chunk.hex() for chunk in (row.manifest() if row.kind == "m" else ()))
            live |= set(_closure(known, chunks))
        except (CorruptionError, NotFoundError) as error:
            # What this vault had once and removed, a fetch does not bring again.
            out = (
                f"git-vault push {told.name} first; where that does not help, git-vault verify"
                if record.chain == told.chain
                else f"git-vault fetch {told.name} first; where that brings nothing, prune from a new clone"
            )
            raise NotFoundError(f"{record.machine}: what it pushed is not all here ({error}); {out}") from error
        reach.keep(walk)
    return live


def _closure(known: Index, chunks: set[str]) -> Iterator[str]:
    """The packs with those chunks, and with all they are coded against."""
    seen: set[str] = set()
    while chunks := chunks - seen:
        seen |= chunks
        rows = known.find(chunks)
        yield from (row.part.name for row in rows.values())
        chunks = {base.hex() for row in rows.values() if row.kind == "c" for base in row.frame().bases}


def _needed(remote: Remote, kept: list[Record]) -> Iterator[str]:
    for record in kept:
        yield records.name_of(record)
        yield from (name for run in record.runs for name in run.objects())
    yield from remote.index(kept).parts()


def _condemn(vault: Vault, remote: Remote, mine: Record, number: int, known: Index, condemned: dict[str, int]) -> None:
    """Say in a record of ours what is to go; no run of ours lists it from then on."""
    runs = [run for run in mine.runs if condemned.keys() & {part.name for part in known.parts_of(run)}]
    kept = [run for run in mine.runs if run not in runs]

    def put(name: str, content: bytes) -> None:
        remote.place.put(name, content)
        remote.keep(name, content)

    if runs:
        made = index.merge(known, runs, (), (), put, condemned.keys())
        kept += [made] if made.rows else []
    elif dict(mine.condemned) == condemned:
        return
    record = replace(
        mine,
        number=number,
        time=records.time_text(vault.now()),
        previous=records.digest(mine),
        runs=tuple(kept),
        condemned=dict(sorted(condemned.items())),
    )
    remote.commit(record, mine)
