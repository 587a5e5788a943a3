"""A remote: a vault whose packs are objects.

    vault                        one line of JSON: the format's version and the vault's id
    git/HASH.pack                packs of git objects: about 1 MiB of commits and trees, 8 MiB of files
    chunks/HASH.zpk              packs of the chunk store, of about 8 MiB
    index/HASH                   where each object is, see index.py
    machines/CHAIN/NUMBER-HASH   who pushed when, see records.py

HASH is the SHA-256 of the object's bytes: whatever comes back is compared with the name it was asked by.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from threading import BoundedSemaphore
from typing import TypeVar

from gitvault.core.utils.files import Disk
from gitvault.errors import (
    ChecksumMismatch,
    CorruptionError,
    GitVaultError,
    NotFoundError,
    RemoteRefused,
    RemoteSealed,
    UnsupportedFormatVersion,
)
from gitvault.remotes import records
from gitvault.remotes.index import Index, Part
from gitvault.remotes.noted import read_names, write_names
from gitvault.remotes.places import Content, Place, Stored
from gitvault.remotes.records import Record
from gitvault.remotes.sealed import Sealed, is_sealed
from gitvault.remotes.sealed.objects import named_hash
from gitvault.remotes.settings import Settings

MARKER = "vault"
GIT = "git/"
CONDEMNED = "condemned/"
"""Where a sealed remote names what is condemned: for those who can read names and no records."""
CHUNKS = "chunks/"
VERSION = 1
_T = TypeVar("_T")
_P = TypeVar("_P")
_HASH = re.compile(r"[0-9a-f]{64}")
# A transfer that lies is asked again before the object counts as damaged.
_TRIES = 3
_AT_ONCE = 64
_DAMAGED = "damaged"
_DONE_WITHOUT = "done-without"
_OWN = "own"
_DAY = 86_400
# Records before the newest that a look at a remote asks for: more, and one file costs more than 40 requests.
_EARLIER = 5
# Objects of the index that are at hand where no folder keeps them, of up to 256 KiB.
_KEPT = 32
THREADS = 8
"""Transfers at once: 4 to a server 30 ms away gave half as much, 16 no more."""


class Remote:
    """What is at a place. `cache`: a folder for what was read of the index; None: nowhere."""

    def __init__(
        self,
        place: Place,
        shown: str,
        *,
        cache: Path | None = None,
        disk: Disk | None = None,
        learned: Mapping[str, str | tuple[str, ...]] | None = None,
        hasty: bool = False,
    ) -> None:
        """`shown`: what errors call it. `learned`: settings with which it can be opened again. `hasty`: ask several
        things at once, where answers take long and a list of what is not there is an empty one.
        """
        self.learned = learned or {}
        self.place = place
        self.shown = shown
        self.is_sealed = isinstance(place, Sealed)
        """Whether a part of an object costs as much as all of it."""
        self.junk: list[str] = []
        """What was skipped, and why."""
        self.torn: list[str] = []
        """Of these: records that may have been sound."""
        self.sealed: list[str] = []
        """Records that are there and that no key here opens."""
        self.hidden: Sequence[str] = ()
        """What of the lines of history that were asked for no newest record leads to."""
        # What is sealed takes its memory three times: a restore of 430 MB took 384 MB with eight, 246 with four.
        self.at_once = THREADS // 2 if self.is_sealed else THREADS
        """Transfers at once."""
        self.transfers = BoundedSemaphore(self.at_once)
        """Held while a pack or a part of one is fetched."""
        self._cache = cache
        self._memory: dict[str, bytes] = {}
        self._disk = disk or Disk()
        self._hasty = hasty

    def vault_id(self) -> str:
        """The id of the vault that is there; empty when there is none. Raises CorruptionError."""
        try:
            content = self.place.get(MARKER)
        except NotFoundError:
            if is_sealed(self.place):
                raise RemoteSealed(f"{self.shown}: is encrypted; give the key that opens it: --identity FILE") from None
            return ""
        # Older versions only when the newest says nothing: to ask for them takes half a second of processor.
        for version in chain([content], self._versions(MARKER)):
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                said = json.loads(bytes(version))
                if said["gitvault-remote"] > VERSION:
                    raise UnsupportedFormatVersion(
                        f"{self.shown}: of format {said['gitvault-remote']}, this gitvault reads {VERSION}; update it"
                    )
                if re.fullmatch("[0-9a-f]{32}", said["vault"]):
                    return str(said["vault"])
        raise CorruptionError(f"{self.shown}: {MARKER} is not what a gitvault writes there; is this the right place?")

    def known_id(self, told: Settings) -> str:
        """As `vault_id`; of the vault that these settings of a remote know to be there.

        Raises RemoteRefused where it is gone, or another one is there, RemoteSealed for a wrong key, CorruptionError.
        """
        try:
            there = self.vault_id()
        except RemoteSealed:
            # It is there under the name that this machine knows; what it says was known once.
            if not told.id:
                raise
            if isinstance(self.place, Sealed):
                self.place.demand_key()
            there = told.id
        if not there and told.id:
            raise RemoteRefused(
                f"{self.shown}: the vault that was there is gone; is it mounted, is the URL right? "
                f"git-vault remote remove {told.name}, and add it again, begins anew"
            )
        if told.id:
            self.expect(there, told.id)
        return there

    def found(self, vault: str) -> None:
        """Make a remote of an empty place."""
        text = json.dumps({"gitvault-remote": VERSION, "vault": vault}, sort_keys=True, separators=(",", ":"))
        self.place.put(MARKER, text.encode() + b"\n")

    def look(self, ask: Callable[[], _T], *also: Callable[[], None]) -> tuple[_T, list[Stored]]:
        """What `ask` asks, and all records as the place lists them; what may `also` be asked meanwhile."""
        if not self._hasty:
            return ask(), list(self.place.names(records.FOLDER))
        with ThreadPoolExecutor(1 + len(also), "remote-look") as pool:
            listed = pool.submit(lambda: list(self.place.names(records.FOLDER)))
            asked = [pool.submit(one) for one in also]
            found = ask()
            for one in asked:
                one.result()
            return found, listed.result()

    def records(self, vault: str, listed: Iterable[Stored] | None = None) -> dict[str, Record]:
        """The newest record of each machine that can be read, by its chain. Junk is skipped and noted.

        `listed`: what `look` found, if that was asked.
        """
        stored = self.place.names(records.FOLDER) if listed is None else listed
        chains = records.by_chain(one.name for one in stored)

        def newest(names: Iterable[tuple[int, str]]) -> Record | None:
            return next(self._sound(names, vault), None)

        with ThreadPoolExecutor(THREADS, "remote-get") as pool:
            found = dict(zip(chains, pool.map(newest, chains.values()), strict=True))
        return {chain: record for chain, record in found.items() if record}

    def every_record(self, vault: str, without: Collection[str] = ()) -> Iterator[Record]:
        """All records that can be read, each chain's newest first. `without`: names of some that are left out."""
        listed = records.by_chain(stored.name for stored in self.place.names(records.FOLDER))
        return self.read_records([name for found in listed.values() for _, name in found if name not in without], vault)

    def earlier_records(self, vault: str, newest: Collection[Record], listed: Iterable[Stored]) -> Iterator[Record]:
        """Of each machine up to five records before its newest: the one before, of each day by the place's clock the
        last, and as many of the others, evenly spread. `listed`: what `look` found.
        """
        stored = {stored.name: stored for stored in listed}
        chains = records.by_chain(iter(stored))
        names: list[str] = []
        for record in newest:
            before = [stored[name] for number, name in chains.get(record.chain, []) if number < record.number]
            days: dict[int, str] = {}
            for one in before:
                days.setdefault(int(one.time // _DAY), one.name)
            chosen = list(days.values())[:_EARLIER]
            rest = [one.name for one in before if one.name not in chosen]
            room = _EARLIER - len(chosen)
            names += chosen + (rest[:: -(-len(rest) // room)] if room and rest else [])
        return self.read_records(names, vault)

    def read_records(self, listed: Iterable[str], vault: str) -> Iterator[Record]:
        """Those of the records of these names that can be read, in this order."""

        def read(name: str) -> list[Record]:
            return list(self._sound([(0, name)], vault))

        names = list(listed)
        with ThreadPoolExecutor(THREADS, "remote-get") as pool:
            # As many as memory has room for: each names all pieces of an index.
            for start in range(0, len(names), _AT_ONCE):
                for found in pool.map(read, names[start : start + _AT_ONCE]):
                    yield from found

    def _sound(self, names: Iterable[tuple[int, str]], vault: str) -> Iterator[Record]:
        for _, name in names:
            problem, is_torn = "", True
            try:
                for content in self._contents(name):
                    try:
                        yield records.decode(name, bytes(content), vault)
                        break
                    except ValueError as error:
                        problem = str(error)
                        is_torn = is_torn and isinstance(error, records.Torn)
                else:
                    self.junk.append(f"{name}: {problem or 'gone'}")
                    self.torn += [name] if is_torn else []
            except RemoteSealed:
                self.sealed.append(name)

    def condemned(self, known: Iterable[Record]) -> set[str]:
        """The parts that somebody is about to remove."""
        said = {name for record in known for name in record.condemned}
        if self.sealed:
            said |= {stored.name.removeprefix(CONDEMNED) for stored in self.place.names(CONDEMNED)}
        return said

    def index(self, known: Iterable[Record], without: Iterable[str] = ()) -> Index:
        """What the runs of these records say."""
        return Index([run for record in known for run in record.runs], self.cached, set(without), self._ahead)

    def is_sound(self, record: Record) -> bool:
        """Whether the lists of parts of a record can be read: anybody who may put can write one. Raises RemoteError."""
        try:
            self.index([record]).parts()
        except (CorruptionError, NotFoundError):
            return False
        return True

    def get(self, name: str, damaged: Callable[[str], None] = lambda _: None) -> Content:
        """An object whose name has its hash; an older version where the newest is damaged.

        Raises NotFoundError, ChecksumMismatch. `damaged` is told of one that is not as it was pushed.
        """
        expected = _digest(name)
        actual = ""
        proven = self.is_sealed and bool(named_hash(name))
        for content in self._contents(name):
            # A sealed place has compared it already.
            if proven:
                return content
            actual = hashlib.sha256(content).hexdigest()
            if actual == expected:
                return content
        if not actual:
            raise NotFoundError(f"{self.shown}: no {name} there")
        damaged(name)
        raise ChecksumMismatch(f"{self.shown}: {name}", expected, actual)

    def cached(self, name: str) -> bytes:
        """As `get`, kept for the next time."""
        if (content := self.kept(name)) is None:
            content = bytes(self.get(name))
            self.keep(name, content)
        return content

    def can_be_had(self, name: str) -> bool:
        """Whether an object of the index is here or there; it is here then."""
        try:
            self.cached(name)
        except (CorruptionError, NotFoundError):
            return False
        return True

    def kept(self, name: str) -> bytes | None:
        """A copy that is here of what was there once."""
        if self._cache is None:
            return self._memory.get(name)
        with suppress(OSError):
            content = (self._cache / name.replace("/", "-")).read_bytes()
            if hashlib.sha256(content).hexdigest() == _digest(name):
                return content
        return None

    def keep(self, name: str, content: bytes) -> None:
        """Keep a copy here of what is there."""
        if self._cache is None:
            self._memory[name] = content
            while len(self._memory) > _KEPT:
                self._memory.pop(next(iter(self._memory)), None)
            return
        # What is derived must never stop what is not.
        with suppress(OSError, GitVaultError):
            self._disk.make_folder(self._cache)
            self._disk.write_durably(self._cache / name.replace("/", "-"), content)

    def _ahead(self, names: Collection[str]) -> None:
        """Have several of them at hand. What cannot be had is told to who reads it."""
        with ThreadPoolExecutor(THREADS, "remote-get") as pool:
            list(pool.map(self.can_be_had, names))

    def damaged(self) -> set[str]:
        """What a verification found damaged and no push has replaced yet: parts, objects of the index, what helps."""
        return self._noted(_DAMAGED)

    def note_damaged(self, names: Iterable[str]) -> None:
        """Remember those, and no others."""
        self._note(_DAMAGED, names)

    def done_without(self) -> set[str]:
        """The parts without which all that this vault holds was found to be there."""
        return self._noted(_DONE_WITHOUT)

    def note_done_without(self, names: Iterable[str]) -> None:
        """Remember those parts, and no others."""
        self._note(_DONE_WITHOUT, names)

    def commit(self, record: Record, before: Record | None) -> int:
        """Put a record of this machine's, and remember it; its bytes. `before`: the one it follows."""
        content = record.encode()
        name = records.name_of(record)
        # First: where nobody hears that it arrived it may be there all the same.
        self._note(_OWN, [name, *([records.name_of(before)] if before else [])])
        self.place.put(name, content)
        self._note(_OWN, [name])
        return len(content)

    def own(self, chain: str) -> set[str]:
        """The newest record of that chain that this machine put; two, where it is not known which arrived."""
        return {name for name in self._noted(_OWN) if f"/{chain}/" in name}

    def last_own(self, vault: str, chain: str, listed: Record | None) -> tuple[Record | None, int]:
        """The newest record that this machine remembers to have put, if it is there, and the greatest number that it
        used in that chain, 0 when it remembers none. `listed`: the newest of the chain as the place lists it.
        """
        numbers: dict[str, int] = {}
        found = None
        # Where a new chain was begun and the answer got lost, there is one of each.
        for name in sorted(self._noted(_OWN), key=lambda name: (f"/{chain}/" in name, name), reverse=True):
            whose, number, _ = records.parse_name(name) or ("", 0, "")
            numbers[whose] = max(number, numbers.get(whose, 0))
            if listed and name == records.name_of(listed):
                found = found or listed
            with suppress(NotFoundError, CorruptionError, RemoteSealed, ValueError):
                found = found or records.decode(name, bytes(self.place.get(name)), vault)
        return found, numbers.get(chain, 0)

    def _noted(self, file: str) -> set[str]:
        return read_names(self._cache / file) if self._cache else set()

    def _note(self, file: str, names: Iterable[str]) -> None:
        if self._cache is not None:
            write_names(self._cache / file, names, self._disk)

    def _contents(self, name: str) -> Iterator[Content]:
        # A sealed place that says damaged has tried all there is.
        with suppress(NotFoundError, CorruptionError):
            for _ in range(_TRIES):
                yield self.place.get(name)
        yield from self._versions(name)

    def _versions(self, name: str) -> Iterator[Content]:
        with suppress(NotFoundError):
            yield from self.place.versions(name)

    def fetch(
        self, parts: Iterable[Part], use: Callable[[Part, Content], _T], failed: Callable[[Part, GitVaultError], None]
    ) -> Iterator[tuple[Part, _T]]:
        """Get many parts, several at once, in order, with what `use`, in a thread of its own, made of each.

        `failed` is told of those that cannot be had.
        """

        def work(part: Part) -> _T:
            # A restore fetches the packs of some files while those of others are on their way.
            with self.transfers:
                return use(part, self.get(part.name))

        with ThreadPoolExecutor(self.at_once, "remote-get") as pool:
            yield from in_order(parts, lambda part: pool.submit(work, part), self.at_once, failed)

    def demand(self, known: Collection[Record]) -> tuple[str, ...]:
        """What was skipped, and why. Raises RemoteSealed where no record could be read for want of a key."""
        if self.sealed and not known:
            raise RemoteSealed(
                f"{self.shown}: no key here opens what machines wrote there; give the file with one: --identity FILE"
            )
        return (*self.junk, *(f"{name}: sealed to other keys" for name in self.sealed))

    def expect(self, there: str, vault: str) -> None:
        """Raises RemoteRefused where the vault that is `there`, if any, is another one."""
        if there and there != vault:
            raise RemoteRefused(f"{self.shown}: holds another vault, {there}; clone that one, or choose an empty place")

    def close(self) -> None:
        """End connections."""
        self.place.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def in_order(
    parts: Iterable[_P],
    submit: Callable[[_P], Future[_T]],
    at_once: int,
    failed: Callable[[_P, GitVaultError], None],
) -> Generator[tuple[_P, _T], None, None]:
    """What becomes of parts that are submitted, so many at once, in order. `failed`: see `Remote.fetch`."""
    waiting: deque[tuple[_P, Future[_T]]] = deque()
    queue = iter(parts)
    try:
        while True:
            free = at_once - len(waiting)
            waiting.extend((part, submit(part)) for part in islice(queue, free))
            if not waiting:
                return
            part, future = waiting.popleft()
            try:
                made = future.result()
            except (CorruptionError, NotFoundError) as error:
                failed(part, error)
            else:
                yield part, made
    finally:
        for _, future in waiting:
            future.cancel()


def name_of(folder: str, content: bytes, ending: str) -> str:
    """What an object is called."""
    return f"{folder}{hashlib.sha256(content).hexdigest()}{ending}"


def _digest(name: str) -> str:
    found = _HASH.findall(name)
    return found[-1] if found else ""
