"""What every pack holds, by its own table, and which of it a set of files needs. The chunk index is not asked.

Kept by number in flat arrays, so that 10^6 chunks fit into 300 MiB.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gitvault.core.models import ChunkId
from gitvault.core.storage import manifests
from gitvault.core.storage.packs import Table
from gitvault.errors import ContentMissing, CorruptionError, NotFoundError

_NONE = 0xFFFFFFFF
# What a chunk is needed for.
_BASE, _CONTENT = 1, 2


@dataclass(frozen=True, slots=True)
class PackBalance:
    """One pack and how much of it is needed; sizes are bytes of frames as they are stored."""

    name: str
    level: int
    """Of its table."""
    live: int
    """In frames that are needed."""
    dead: int
    """In frames that are not."""
    holes: int
    """The share of chunks that nothing needs, in frames that stand alone and are needed for others."""
    propped: int
    """The share of chunks that are needed only because something is coded against them."""
    upright: int
    """What it would cost, about, to store plain what is coded against those."""
    names: bool
    """Whether it names a manifest that is needed."""

    @property
    def is_dead(self) -> bool:
        """Whether nothing in it is needed."""
        return not self.live and not self.names


class Census:
    """The chunks, frames and manifests of the packs that were added.

    `need` says which files are wanted; `settle` then finds the frames that takes: those in which the chunks are, and
    those they are coded against. Of a chunk's copies one that stands alone is enough; where there is none, each that
    is coded against something else stays, for one may stand on another. What is there of a file that is known to be
    lost in part is wanted too.
    """

    def __init__(self, lost: Collection[bytes] = ()) -> None:
        """`lost`: chunks and files that are known not to be whole."""
        self.torn: list[bytes] = []
        """Files that are wanted and lost, of which nobody can say which chunks are theirs."""
        self._lost = frozenset(lost)
        self._numbers: dict[bytes, int] = {}
        # By chunk number: what it is needed for; the frames with it, the first one and others.
        self._flags = bytearray()
        self._first = array("I")
        self._more: dict[int, list[int]] = {}
        # By frame number.
        self._stored = array("I")
        self._length = array("I")
        self._bases = array("I")
        self._bases_end = array("Q", [0])
        self._live = bytearray()
        # Chunk, frame and length of each row of all tables, one after the other.
        self._row_chunk = array("I")
        self._row_frame = array("I")
        self._row_length = array("I")
        # By name: its level, its frames, its rows.
        self._packs: dict[str, tuple[int, range, range]] = {}
        self._manifests: dict[bytes, list[tuple[str, tuple[ChunkId, ...]]]] = {}
        self._needed: set[bytes] = set()
        self._retired: set[int] = set()

    def add(self, name: str, table: Table) -> None:
        """Take in a pack."""
        start, first_row = len(self._stored), len(self._row_chunk)
        for frame in table.frames:
            self._stored.append(frame.stored)
            self._length.append(frame.length)
            self._bases.extend(map(self._number, frame.bases))
            self._bases_end.append(len(self._bases))
        self._live.extend(bytes(len(table.frames)))
        for chunk in table.chunks:
            number = self._number(chunk.id)
            holder = start + chunk.frame
            self._row_chunk.append(number)
            self._row_frame.append(holder)
            self._row_length.append(chunk.length)
            if self._first[number] == _NONE:
                self._first[number] = holder
            else:
                self._more.setdefault(number, []).append(holder)
        for oid, parts in table.manifests:
            self._manifests.setdefault(bytes.fromhex(oid), []).append((name, parts))
        self._packs[name] = table.level, range(start, len(self._stored)), range(first_row, len(self._row_chunk))

    def need(self, oid: bytes, read: Callable[[Sequence[ChunkId]], bytes]) -> None:
        """The file whose SHA-256 is `oid` is wanted, whole. `read`: the bytes of chunks, joined.

        Raises ContentMissing, CorruptionError when there is no manifest of it that can be read and whose chunks are
        there, unless it is known to be lost: then what is there of it is wanted.
        """
        if oid in self._needed:
            return
        found = self._mark([ChunkId(oid)])
        listed = False
        problem: NotFoundError | CorruptionError | None = None
        for parts in {parts for _, parts in self._manifests.get(oid, ())}:
            try:
                chunks = [chunk for chunk, _ in manifests.decode(read(parts), oid.hex())]
            except (NotFoundError, CorruptionError) as error:
                problem = error
                self._mark(parts)
                continue
            listed = True
            found = self._mark([*parts, *chunks]) or found
        if not found and oid not in self._lost:
            raise problem or ContentMissing(f"file {oid.hex()}: not whole in the chunk store; run git-vault verify")
        if not found and not listed:
            self.torn.append(oid)
        if oid in self._manifests:
            self._needed.add(oid)

    def need_all(self, but: Collection[bytes], read: Callable[[Sequence[ChunkId]], bytes]) -> None:
        """Everything is wanted, for nobody knows what is not; but what only the files `but` hold."""
        free = set(but)
        for oid in but:
            for _, parts in self._manifests.get(oid, ()):
                # What cannot be read is not known to be theirs.
                with suppress(NotFoundError, CorruptionError):
                    free.update(parts)
                    free.update(chunk for chunk, _ in manifests.decode(read(parts), oid.hex()))
        for chunk, number in self._numbers.items():
            if chunk not in free and self._first[number] != _NONE:
                self._flags[number] = _CONTENT
        self._needed.update(self._manifests.keys() - set(but))

    def is_lost(self, chunk: ChunkId) -> bool:
        """Whether it is known that the chunk cannot be read."""
        return chunk in self._lost

    def settle(self) -> None:
        """Work out which frames are needed. Raises ContentMissing when something that is needed is in no pack."""
        self._flags = self._flags.replace(bytes([_BASE]), b"\0")
        self._live = bytearray(len(self._live))
        waiting = array("I", (number for number, flag in enumerate(self._flags) if flag))
        excused: frozenset[int] | None = None
        while waiting:
            for frame in self._copies(waiting.pop()):
                if self._live[frame]:
                    continue
                self._live[frame] = 1
                for base in self._bases_of(frame):
                    if self._first[base] == _NONE:
                        excused = self._unreadable() if excused is None else excused
                        if frame not in excused:
                            missing = next(chunk.hex() for chunk, n in self._numbers.items() if n == base)
                            raise ContentMissing(f"chunk {missing}: in no pack; run git-vault verify")
                    elif not self._flags[base]:
                        self._flags[base] = _BASE
                        waiting.append(base)

    def _unreadable(self) -> frozenset[int]:
        """The frames with chunks that are known to be lost: what they stand on may be missing."""
        lost = {self._numbers[ChunkId(chunk)] for chunk in self._lost if chunk in self._numbers}
        return frozenset(f for f, chunk in zip(self._row_frame, self._row_chunk, strict=True) if chunk in lost)

    def balance(self) -> Iterator[PackBalance]:
        """Each pack; call `settle` before."""
        naming = {name for oid in self._needed for name, _ in self._manifests[oid]}
        costs = self._upright()
        for name, (level, frames, rows) in self._packs.items():
            total = sum(self._stored[frames.start : frames.stop])
            live = sum(self._stored[frame] for frame in frames if self._live[frame])
            holes = propped = 0.0
            for row in rows:
                frame = self._row_frame[row]
                flag = self._flags[self._row_chunk[row]]
                if self._live[frame] and flag != _CONTENT:
                    share = self._stored[frame] * self._row_length[row] / self._length[frame]
                    if flag:
                        propped += share
                    elif not self._bases_of(frame):
                        holes += share
            cost = sum(costs.get(frame, 0) for frame in frames)
            yield PackBalance(name, level, live, total - live, int(holes), int(propped), int(cost), name in naming)

    def _upright(self) -> dict[int, float]:
        """By each frame with a base that is only that: how much longer what is coded against it would be, plain."""
        plain = [frame for frame, live in enumerate(self._live) if live and not self._bases_of(frame)]
        lengths = sum(self._length[frame] for frame in plain)
        ratio = sum(self._stored[frame] for frame in plain) / lengths if lengths else 1.0
        costs: dict[int, float] = {}
        for frame, live in enumerate(self._live):
            bases = {base for base in self._bases_of(frame) if self._flags[base] == _BASE} if live else ()
            props = {copy for base in bases for copy in self._copies(base)}
            for prop in props:
                costs[prop] = costs.get(prop, 0.0) + (self._length[frame] * ratio - self._stored[frame]) / len(props)
        return costs

    def together(self, names: Collection[str]) -> frozenset[str]:
        """Of these packs those that can go at once: in what stays nothing is coded against what only they hold.

        Not even what nobody needs: whoever stores the same again would rely on it. Call `settle` before.
        """
        leaving = set(names)
        while leaving:
            held, bases = bytearray(len(self._flags)), bytearray(len(self._flags))
            for name, (_, frames, rows) in self._packs.items():
                if name not in leaving:
                    for row in rows:
                        held[self._row_chunk[row]] = 1
                    for frame in frames:
                        for base in self._bases_of(frame):
                            bases[base] = 1
            missed = {
                name
                for name in leaving
                for chunk in (self._row_chunk[row] for row in self._packs[name][2])
                if bases[chunk] and not held[chunk] and not self._flags[chunk]
            }
            if not missed:
                break
            leaving -= missed
        return frozenset(leaving)

    def gone(self, names: Iterable[str]) -> None:
        """These packs are not there any more."""
        for name in names:
            self._packs.pop(name, None)

    def frames(self, name: str) -> frozenset[int]:
        """The frames of a pack that are needed, by their numbers in its table."""
        _, frames, _ = self._packs[name]
        return frozenset(frame - frames.start for frame in frames if self._live[frame])

    def needs(self, chunk: ChunkId) -> bool:
        """Whether the chunk is needed, wherever it lies."""
        number = self._numbers.get(chunk)
        return number is not None and self._flags[number] > 0

    def needs_manifest(self, oid: str) -> bool:
        """Whether the file's manifests are needed."""
        return bytes.fromhex(oid) in self._needed

    def dissolve(
        self, leaving: Collection[str], trimmed: Collection[str], *, deltas: bool
    ) -> Mapping[str, frozenset[int]]:
        """The frames to be taken apart, by pack and number.

        `leaving`: packs in which nothing is to be only a base; `trimmed`: packs whose frames that stand alone, and with
        `deltas` others too, are to hold nothing that is not needed. What `needs` then says yes to is to be stored plain
        once more: call `add` with the new packs, `retire` with the frames, and `settle`.
        """
        going = bytearray(len(self._flags))
        for name in leaving:
            for row in self._packs[name][2]:
                number = self._row_chunk[row]
                if self._flags[number] == _BASE:
                    going[number], self._flags[number] = 1, 0
        found = {}
        lost = self._unreadable()
        for name, (_, frames, rows) in self._packs.items():
            kept: set[int] = set()
            holes: set[int] = set()
            for row in rows:
                frame = self._row_frame[row]
                if self._live[frame]:
                    (kept if self._flags[self._row_chunk[row]] else holes).add(frame)
            apart = set()
            for frame in kept - lost:
                bases = self._bases_of(frame)
                hole = name in trimmed and frame in holes and (deltas or not bases)
                if hole or any(going[base] for base in bases):
                    apart.add(frame - frames.start)
            if apart:
                found[name] = frozenset(apart)
        return found

    def retire(self, frames: Mapping[str, Collection[int]]) -> None:
        """Frames that do not count any more: what is needed of them has been stored elsewhere and was added."""
        for name, numbers in frames.items():
            start = self._packs[name][1].start
            self._retired.update(start + number for number in numbers)

    def _number(self, chunk: ChunkId) -> int:
        number = self._numbers.setdefault(chunk, len(self._flags))
        if number == len(self._flags):
            self._flags.append(0)
            self._first.append(_NONE)
        return number

    def _mark(self, chunks: Sequence[ChunkId]) -> bool:
        """Say that the chunks are wanted; whether all are in packs."""
        numbers = [self._numbers.get(chunk) for chunk in chunks]
        known = [number for number in numbers if number is not None and self._first[number] != _NONE]
        for number in known:
            self._flags[number] = _CONTENT
        return len(known) == len(numbers)

    def _copies(self, number: int) -> Collection[int]:
        """The frames that a chunk has to be kept in."""
        first = self._first[number]
        if first == _NONE:
            return ()
        if number not in self._more and first not in self._retired:
            return (first,)
        copies = [frame for frame in (first, *self._more.get(number, ())) if frame not in self._retired]
        # The shortest was made of what is needed; a longer one may be on its way out.
        plain = min((f for f in copies if not self._bases_of(f)), key=self._length.__getitem__, default=None)
        return (plain,) if plain is not None else {self._bases_of(f).tobytes(): f for f in copies}.values()

    def _bases_of(self, frame: int) -> array[int]:
        return self._bases[self._bases_end[frame] : self._bases_end[frame + 1]]
