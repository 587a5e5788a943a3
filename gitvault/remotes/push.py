"""What the refs reach and the remote lacks, as packs; then the index; then one record, which is the commit point.

Nobody waits for it: the vault is read as any reader does. What was interrupted goes on from the journal.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

from gitvault.core.backup_engine.copy import DOINGS, grouped, read_refs
from gitvault.core.interfaces import Progress
from gitvault.core.models import ChunkId, ObjectId, Pointer
from gitvault.core.storage import manifests
from gitvault.core.storage.packs import Chunk, Frame
from gitvault.core.storage.packs import PackInMemory as ChunkPack
from gitvault.core.utils.lock import VaultLock
from gitvault.core.versioning.packfile import PackInMemory as GitPack
from gitvault.core.versioning.transfer import Reach
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.remotes import index, records, settings
from gitvault.remotes.index import Index, Part, Row, Run
from gitvault.remotes.journal import Journal
from gitvault.remotes.noted import Noted
from gitvault.remotes.places import Stored
from gitvault.remotes.records import Record
from gitvault.remotes.remote import CHUNKS, GIT, THREADS, Remote, name_of
from gitvault.remotes.sealed import Sealed
from gitvault.remotes.settings import Settings
from gitvault.vault import Vault

# Commits, trees and attributes: whoever wants one file reads some of these packs whole.
_STRUCTURE_SIZE = 1 << 20
_PART_SIZE = 8 << 20
# Each frame that another stands on costs who wants one file two requests: with chains of 16 it was 53 in a vault of
# 100 GB, at most 40 are wanted.
_DEEPEST = 6
# A chunk's row is in a piece of the index of its own: from here on a file that was edited over and over is told with
# where all of it is. Of 20 edits in a vault of 100 GB it saves 22 of 44 requests.
_HINTS_FROM = 10_000
_NEAR = 4
_MOST_HINTS = 512
# Chunks that are looked up together.
_CHUNKS = 50_000
# A push that takes longer (a laptop sleeps) looks whether what it relied on is still there: prunes may have condemned
# it, removed it, and no longer say so.
_LONG = timedelta(days=1)
# Another machine may condemn, meanwhile, what this push relies on: then it looks again.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class PushReport:
    """What a push did."""

    uploaded: int
    """Objects that were sent."""
    bytes: int
    """Of those."""
    skipped: int
    """Packs of objects and chunks that were there already."""
    snapshots: int
    """That are new there."""
    left: tuple[tuple[str, str], ...]
    """Refs that could not be pushed because of damage here, and why."""
    junk: tuple[str, ...]
    """What was skipped there."""
    requests: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def push(
    vault: Vault, remote: Remote, told: Settings, *, projects: Collection[str] = (), progress: Progress
) -> PushReport:
    """Bring a remote to what the vault holds, all of it or some projects.

    Raises RemoteError and its kinds, LockedError, CorruptionError, OSError; what was sent is not sent again.
    """
    began = time.monotonic()
    vault.demand_whole()
    folder = vault.path / "cache" / "remotes"
    vault.disk.make_folder(folder)
    with ExitStack() as held:
        purpose = f"push to {told.name}"
        held.enter_context(
            VaultLock(folder / f"{told.name}.lock", purpose, 0, host=vault.config.machine, disk=vault.disk)
        )
        journal = held.enter_context(closing(Journal(folder / f"{told.name}.db", vault.disk)))
        also = [remote.place.look] if isinstance(remote.place, Sealed) else []
        told, listed = remote.look(partial(_identified, vault, remote, told), *also)
        for attempt in range(_ATTEMPTS):
            running = _Push(vault, remote, told, listed if not attempt else None, journal, progress)
            report = running.run(frozenset(projects))
            if not running.overtaken() or attempt == _ATTEMPTS - 1:
                break
    return PushReport(
        *report, left=tuple(running.left), junk=tuple(remote.junk), requests=dict(remote.place.requests),
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _identified(vault: Vault, remote: Remote, told: Settings) -> Settings:
    """The settings with ids, of the vault that is there and of this machine's chain. Raises RemoteRefused."""
    expected = told.id or vault.config.id
    there = remote.known_id(told)
    if not there:
        expected = expected or secrets.token_hex(16)
        remote.found(expected)
        there = remote.vault_id()
    remote.expect(there, expected)
    chain = told.chain or secrets.token_hex(16)
    if (there, chain) != (told.id, told.chain):
        settings.note(vault.path, told.name, {"id": there, "chain": chain}, disk=vault.disk)
    return settings.get(vault.path, told.name)


class _Push:
    """One push. A Target of the chunk store's transfer."""

    def __init__(
        self,
        vault: Vault,
        remote: Remote,
        told: Settings,
        listed: Sequence[Stored] | None,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self.left: list[tuple[str, str]] = []
        self._began = vault.now()
        self._vault = vault
        self._remote = remote
        self._told = told
        self._journal = journal
        self._progress = progress
        self._records = {
            chain: record
            for chain, record in remote.records(told.id, listed).items()
            if chain == told.chain or remote.is_sound(record)
        }
        self._mine, self._number = self._own_record()
        self._damaged = frozenset(remote.damaged())
        self._uploaded = self._bytes = 0
        self._runs = self._mended()
        # What is damaged is in no run of ours from now on, of whichever project it is: only a push of all brings it.
        self._mends = bool(self._damaged) or bool(self._mine and len(self._runs) < len(self._mine.runs))
        mine = [replace(self._mine, runs=tuple(self._runs))] if self._mine else []
        self._absent = self._damaged.union(remote.condemned([*self._records.values(), *mine]))
        if remote.sealed:
            # Whoever removed something said so in a record that cannot be read here.
            there = {stored.name for folder in (GIT, CHUNKS) for stored in remote.place.names(folder)}
            self._absent |= remote.index(self._records.values()).parts().keys() - there
        # What records reach may be in a pack that is to go, on which a push relied that was killed or overtaken: then
        # all is looked at, once.
        self._doubtful = self._mends or not self._absent <= remote.done_without()
        # What others say is there counts where this machine has read it: anybody who may put can write a record.
        self._index: Index = remote.index(mine, self._absent)
        others = self._others()
        unread = remote.index(others).parts().keys() - Noted(vault, told.name, "read").names()
        self._elsewhere: Index = remote.index(others, self._absent | unread | self._index.parts().keys())
        self._resume()
        self._pool = ThreadPoolExecutor(THREADS, "remote-put")
        self._sending: deque[tuple[Future[Part], list[tuple[str, str]]]] = deque()
        self._indexing: deque[tuple[Future[None], int]] = deque()
        self._begun = journal.next_number()
        self._structure, self._files = GitPack(), GitPack()
        self._chunks = ChunkPack()
        # Sent or about to be, and not in the journal yet.
        self._fresh: set[str] = set()
        self._sent: set[str] = set()

    def run(self, projects: frozenset[str]) -> tuple[int, int, int, int]:
        """Objects and bytes sent, packs that were there, snapshots that are new there."""
        projects = frozenset() if self._mends else projects
        skipped = len(self._index.parts()) + len(self._elsewhere.parts())
        try:
            refs, snapshots = self._send(projects)
            self._cut_chunks()
            for pack in (self._structure, self._files):
                self._cut_git(pack)
            while self._sending:
                self._settle()
            self._journal.adopt()
            self._commit(refs)
        finally:
            # What waits for its turn is not begun any more.
            self._pool.shutdown(cancel_futures=True)
        if not (projects or self.left) and self._absent != self._remote.done_without():
            self._remote.note_done_without(self._absent)
        return self._uploaded, self._bytes, skipped, snapshots

    def overtaken(self) -> bool:
        """Whether somebody condemned meanwhile what this push relied on."""
        if self._vault.now() - self._began >= _LONG and self._lost():
            return True
        now = self._remote.records(self._told.id).values()
        # The same content has the same name again; a prune may have removed it after it came.
        again = self._sent & self._absent
        there = (
            {stored.name for folder in (GIT, CHUNKS) for stored in self._remote.place.names(folder)} if again else set()
        )
        return not (again <= there and self._absent.issuperset(self._remote.condemned(now)))

    def _lost(self) -> bool:
        """Note what this machine's record names and the place has no more."""
        newest = self._remote.records(self._told.id).get(self._told.chain)
        there = {stored.name for folder in (GIT, CHUNKS) for stored in self._remote.place.names(folder)}
        lost = self._remote.index([newest] if newest else []).parts().keys() - there
        self._remote.note_damaged(self._remote.damaged() | lost)
        return bool(lost)

    def _own_record(self) -> tuple[Record | None, int]:
        """What this machine pushed last, and the number of its next record, in a new chain where that must be."""
        remote, told = self._remote, self._told
        newest = self._records.get(told.chain)
        last, number = remote.last_own(told.id, told.chain, newest)
        if not number and newest and newest.number < records.LAST:
            # Nothing is remembered here.
            return newest, newest.number + 1
        foreign = newest is not None and newest.number > number
        sealed = any((parsed := records.parse_name(one)) and parsed[0] == told.chain for one in remote.sealed)
        if not foreign and (last or newest or not sealed):
            # The place may show an old list: what was written since is known here by its name.
            return last or newest, number + 1
        # Somebody who may put wrote there too; or without a key that reads, and what this machine remembered is lost,
        # it does not know where its chain ends.
        self._told = replace(told, chain=secrets.token_hex(16))
        settings.note(self._vault.path, told.name, {"chain": self._told.chain}, disk=self._vault.disk)
        return last, 1

    def _mended(self) -> list[Run]:
        """Put again what was found damaged of the index and is here too; this machine's runs but for those of which
        something is lost, whose rows come anew.
        """
        lost: set[str] = set()
        for name in sorted(self._damaged):
            if name.startswith(index.FOLDER):
                if content := self._remote.kept(name):
                    self._put(name, content)
                    self._uploaded += 1
                    self._bytes += len(content)
                else:
                    lost.add(name)
        if isinstance(self._remote.place, Sealed):
            self._remote.place.help_again(self._damaged)
        if self._mine and not self._remote.own(self._told.chain):
            # The copies here are lost too, with what was noted of damage.
            lost |= {name for run in self._mine.runs for name in run.objects() if not self._remote.can_be_had(name)}
        return [run for run in self._mine.runs if lost.isdisjoint(run.objects())] if self._mine else []

    def _others(self) -> list[Record]:
        return [record for chain, record in self._records.items() if chain != self._told.chain]

    def _send(self, projects: frozenset[str]) -> tuple[dict[str, ObjectId], int]:
        """Send what the refs reach; the refs of the new record, and how many snapshots are new there."""
        history, store = self._vault.history, self._vault.store
        before = dict(self._mine.refs) if self._mine else {}
        groups = grouped(read_refs(history), projects or None, DOINGS)
        chosen = {ref for group in groups.values() for ref in group}
        reach = Reach(history)
        if self._mine and not self._doubtful:
            reach.know(history, self._mine.refs)
        chunks = store.transfer_to(self, self._progress, deepest=_DEEPEST)
        done = {ref: oid for ref, oid in before.items() if projects and ref not in chosen}
        snapshots = 0
        for number, (name, group) in enumerate(groups.items()):
            self._progress("looking at projects", number, len(groups))
            if not self._doubtful and all(before.get(ref) == oid for ref, oid in group.items()):
                done |= group
                continue
            try:
                walk = reach.walk(group)
                fresh = len(walk.snapshots) - len(self._find([oid.hex() for oid in walk.snapshots]))
                self._send_objects(list(walk.found), self._structure, _STRUCTURE_SIZE)
                self._send_objects([oid for oid in walk.files if oid not in walk.found], self._files, _PART_SIZE)
                for pointer in self._lacking(walk.pointers):
                    store.copy_file(pointer, chunks)
                chunks.flush()
            except (CorruptionError, NotFoundError) as error:
                self.left.append((name, str(error)))
                done |= {ref: oid for ref, oid in before.items() if ref in group}
            else:
                reach.keep(walk)
                snapshots += fresh
                done |= group
        return done, snapshots

    def _send_objects(self, oids: Sequence[ObjectId], pack: GitPack, size: int) -> None:
        missing = self._missing([oid.hex() for oid in oids])
        wanted = [oid for oid in oids if oid.hex() in missing]
        for number, oid in enumerate(self._vault.history.objects.copy_many(wanted, pack)):
            self._fresh.add(oid.hex())
            if not number % 1000:
                self._progress("sending objects", number, len(wanted))
            if pack.size >= size:
                self._cut_git(pack)

    def _missing(self, ids: Collection[str]) -> set[str]:
        left = set(ids) - self._fresh
        left -= self._journal.known(left)
        return left - self._find(left).keys()

    def _find(self, ids: Collection[str]) -> dict[str, Row]:
        found = self._index.find(ids)
        left = set(ids) - found.keys()
        return found | self._shared(left) if left and self._elsewhere.runs else found

    def _shared(self, ids: Collection[str]) -> dict[str, Row]:
        """Of those ids what others sent and this machine has read, if all it stands on is there too.

        Its rows become this machine's: its snapshots hang on no record but its own.
        """
        found: dict[str, Row] = {}
        stands: dict[str, tuple[str, ...]] = {}
        lacking: set[str] = set()
        wanted = set(ids)
        while wanted:
            rows = self._elsewhere.find(wanted)
            lacking |= wanted - rows.keys()
            for one, row in rows.items():
                try:
                    stands[one] = row.stands_on()
                except (ValueError, IndexError):
                    lacking.add(one)
                else:
                    found[one] = row
            bases = {base for one in found.keys() & rows.keys() for base in stands[one]} - found.keys() - lacking
            bases -= self._fresh
            bases -= self._journal.known(bases)
            wanted = bases - self._index.find(bases).keys()
        while dropped := {one for one in found if not lacking.isdisjoint(stands[one])}:
            lacking |= dropped
            found = {one: row for one, row in found.items() if one not in dropped}
        self._journal.share(found)
        return {one: found[one] for one in found.keys() & set(ids)}

    def _lacking(self, pointers: Collection[Pointer]) -> list[Pointer]:
        """The files that are not there; where something is damaged, all that may not be whole."""
        lacking = pointers
        if not self._absent:
            missing = self._missing([pointer.oid for pointer in pointers])
            if self._elsewhere.runs:
                missing |= self._torn([pointer for pointer in pointers if pointer.oid not in missing])
            lacking = [pointer for pointer in pointers if pointer.oid in missing]
        # So what lies together here does so there: who restores needs few packs at once.
        return self._vault.store.as_they_lie(lacking)

    def _torn(self, pointers: Sequence[Pointer]) -> set[str]:
        """Of files that are there those that others sent and of which not every chunk is there."""
        left = {pointer.oid for pointer in pointers} - self._fresh
        left -= self._journal.known(left)
        shared = self._elsewhere.find(left - self._index.find(left).keys())
        torn: set[str] = set()
        chunks: dict[str, list[str]] = {}
        files = [pointer for pointer in pointers if pointer.oid in shared]
        # One look at the whole index for many files.
        for number, pointer in enumerate(files, 1):
            content = self._vault.store.content(pointer)
            if content.parts and not _is_manifest(shared[pointer.oid], content.parts):
                torn.add(pointer.oid)
            chunks[pointer.oid] = [chunk.hex() for chunk in (*content.parts, *content.chunks)]
            if number == len(files) or sum(map(len, chunks.values())) >= _CHUNKS:
                missing = self._missing({chunk for each in chunks.values() for chunk in each})
                torn |= {oid for oid, each in chunks.items() if not missing.isdisjoint(each)}
                chunks = {}
        return torn

    # -- what the transfer of chunks asks ----------------------------------------------------------

    def there(self, chunks: Collection[ChunkId]) -> Collection[ChunkId]:
        """See Target."""
        missing = self._missing([chunk.hex() for chunk in chunks])
        return {chunk for chunk in chunks if chunk.hex() not in missing}

    def has_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> bool:
        """See Target."""
        if oid in self._chunks.manifests or not self._missing([oid]):
            return oid in self._fresh or bool(self._journal.known([oid])) or _is_manifest(self._find([oid])[oid], parts)
        return False

    def add(self, level: int, frame: Frame, stored: bytes, chunks: Sequence[Chunk]) -> None:
        """See Target."""
        if self._chunks.table.level != level or self._chunks.size + len(stored) > _PART_SIZE:
            self._cut_chunks()
            self._chunks = ChunkPack(level)
        self._chunks.add_copy(frame, stored, chunks)
        self._fresh.update(chunk.id.hex() for chunk in chunks)

    def add_manifest(self, oid: str, parts: tuple[ChunkId, ...]) -> None:
        """See Target."""
        self._chunks.add_manifest(oid, parts)
        self._fresh.add(oid)

    def flush(self) -> None:
        """See Target: a part is sent when it is full, and the last one before the record."""

    # -- sending -------------------------------------------------------------------------------------

    def _cut_git(self, pack: GitPack) -> None:
        if len(pack):
            content, offsets = pack.take()
            rows = [(oid.hex(), index.git_row(self._begun, offset)) for oid, offset in offsets.items()]
            self._begin(GIT, ".pack", lambda: content, rows)

    def _cut_chunks(self) -> None:
        pack, self._chunks = self._chunks, ChunkPack()
        table, number = pack.table, self._begun
        if table.frames or table.manifests:
            pack.seal()
            rows = [
                (chunk.id.hex(), index.chunk_row(number, table.frames[chunk.frame], chunk)) for chunk in table.chunks
            ]
            rows += [(oid, index.manifest_row(number, parts)) for oid, parts in table.manifests]
            self._begin(CHUNKS, ".zpk", pack.content, rows)

    def _begin(self, folder: str, ending: str, content: Callable[[], bytes], rows: list[tuple[str, str]]) -> None:
        self._begun += 1
        while len(self._sending) >= THREADS:
            self._settle()
        self._sending.append((self._pool.submit(self._send_part, folder, ending, content), rows))

    def _send_part(self, folder: str, ending: str, content: Callable[[], bytes]) -> Part:
        made = content()
        part = Part(name_of(folder, made, ending), len(made))
        self._put(part.name, made)
        return part

    def _settle(self) -> None:
        """Note the oldest part that is on its way: what the journal has, it has with all that came before."""
        future, rows = self._sending.popleft()
        part = future.result()
        self._journal.add(part, rows)
        self._sent.add(part.name)
        self._fresh.difference_update(one for one, _ in rows)
        self._uploaded += 1
        self._bytes += part.size

    def _put(self, name: str, content: bytes) -> None:
        self._remote.place.put(name, content)

    def _resume(self) -> None:
        """Believe of the journal only what the place has."""
        self._journal.unshare()
        noted = self._journal.parts()
        if noted:
            there = {stored.name: stored for folder in (GIT, CHUNKS) for stored in self._remote.place.names(folder)}
            if any(
                part.name in self._absent
                or (stored := there.get(part.name)) is None
                or not (stored.padded or stored.size == part.size)
                for part in noted
            ):
                self._journal.clear()

    # -- the commit ----------------------------------------------------------------------------------

    def _commit(self, refs: Mapping[str, ObjectId]) -> None:
        mine = self._mine
        rows = self._journal.count()
        runs = list(self._runs)
        # What is damaged or about to go is in no run of ours from now on.
        merged = [run for run in runs if self._absent.intersection(part.name for part in self._index.parts_of(run))]
        same = mine is not None and mine.chain == self._told.chain and dict(mine.refs) == refs
        if same and not rows and not merged and not self._mends:
            return
        if rows:
            merged += [run for run in index.absorbed(runs, rows) if run not in merged]
        if rows or merged:
            made = index.merge(self._index, merged, self._journal.parts(), self._rows(), self._send_index, self._absent)
            runs = [run for run in runs if run not in merged] + ([made] if made.rows else [])
            while self._indexing:
                self._settle_index()
        record = Record(
            self._told.id,
            self._vault.config.machine,
            self._told.chain,
            self._number,
            records.time_text(self._vault.now()),
            records.digest(mine) if mine and mine.chain == self._told.chain else "",
            dict(sorted(refs.items())),
            tuple(runs),
            self._condemned(mine),
        )
        self._bytes += self._remote.commit(record, mine)
        self._uploaded += 1
        self._journal.clear()
        self._remote.note_damaged(self._damaged if self.left else ())

    def _rows(self) -> Iterator[tuple[str, str]]:
        """What the journal has; with a large file, where an index of some size makes it pay, all that it stands on."""
        large = sum(run.rows for known in (self._index, self._elsewhere) for run in known.runs) >= _HINTS_FROM
        parts = self._journal.parts()
        for one, rest in self._journal.rows():
            if large and rest[0] == "m":
                rest = " ".join((rest, *self._hints(one, index.row_of(rest, parts).manifest(), parts)))
            yield one, rest

    def _hints(self, oid: str, held: Sequence[ChunkId], parts: Sequence[Part]) -> list[str]:
        try:
            manifest = b"".join(map(self._vault.store.retrieve_chunk, held))
            wanted = {chunk.hex() for chunk in (*held, *(chunk for chunk, _ in manifests.decode(manifest, oid)))}
        except (CorruptionError, NotFoundError):
            return []
        known: dict[str, Row] = {}
        while wanted and len(known) + len(wanted) <= _MOST_HINTS:
            found = {one: index.row_of(rest, parts) for one, rest in self._journal.find(wanted).items()}
            found |= self._find(wanted - found.keys())
            known |= found
            wanted = {base.hex() for row in found.values() for base in row.frame().bases} - known.keys()
        # One that lies together needs few pieces of the index.
        near = wanted or len({row.part.name for row in known.values()}) <= _NEAR
        return [] if near else [row.hint(one) for one, row in sorted(known.items())]

    def _condemned(self, mine: Record | None) -> dict[str, int]:
        """What a prune of ours is to remove; and what is damaged, as long as another machine's runs list it."""
        said = {**dict.fromkeys(self._damaged, 0), **(mine.condemned if mine else {})}
        said = {name: seconds for name, seconds in said.items() if name not in self._sent}
        if not said:
            return {}
        listed = self._remote.index(self._others()).parts()
        return {name: seconds for name, seconds in sorted(said.items()) if seconds or name in listed}

    def _send_index(self, name: str, content: bytes) -> None:
        while len(self._indexing) >= THREADS:
            self._settle_index()
        self._indexing.append((self._pool.submit(self._put_index, name, content), len(content)))

    def _put_index(self, name: str, content: bytes) -> None:
        self._put(name, content)
        self._remote.keep(name, content)

    def _settle_index(self) -> None:
        future, size = self._indexing.popleft()
        future.result()
        self._uploaded += 1
        self._bytes += size


def _is_manifest(row: Row, parts: Sequence[ChunkId]) -> bool:
    """Whether a row says that a file's manifest lies in those chunks."""
    return row.kind == "m" and [word for word in row.words if ":" not in word] == [part.hex() for part in parts]
