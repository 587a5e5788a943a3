"""One file on its way into the store: read, cut, hashed, compared with what is known, compressed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from gitvault.core.models import ChunkId, ChunkPlan
from gitvault.core.storage import deltas, frames
from gitvault.core.storage.appender import PackAppender
from gitvault.core.storage.index import Place
from gitvault.core.storage.reader import ChunkReader
from gitvault.errors import CorruptionError, NotFoundError

RUN_SIZE = 1 << 20
"""Consecutive new chunks are compressed together up to this many bytes."""

# Bytes of one file that may wait for a worker, and for the anchor behind them.
_IN_FLIGHT = 32 << 20
_LOOK_AHEAD = 8 << 20
# After so many tries in a row that saved nothing, only every sixteenth run of a gap is tried: it may be all new.
_PATIENCE = 4
# Bytes that a base takes in both tables of a pack, compressed: 68 to 76, 50 to 66 where the next run shares its anchor.
_BASE_COST = 70
# What the past makes so many times shorter is not compressed without it, too: nine in ten runs of a day's edits, an
# eighth of the time that saving them takes.
_CLEAR = 16
_PROBE = 16


@dataclass(slots=True)
class _Run:
    """New chunks that lie next to each other in one buffer."""

    start: int
    """Offset in the file."""
    data: memoryview
    chunks: list[tuple[ChunkId, int]]
    left: tuple[int, int]
    """The anchor before it: see deltas.Alignment.bases."""


@dataclass(slots=True)
class _Gap:
    """What lies between two anchors, and how many tries in a row to code it against the past saved nothing.

    Of its own: what threads are still at when the next one begins says nothing about that one.
    """

    vain: int = 0


class Intake:
    """Stores the chunks of one file or manifest. One object, one thread; `pool` does the heavy part."""

    def __init__(
        self,
        appender: PackAppender,
        reader: ChunkReader,
        pool: Executor,
        plan: ChunkPlan,
        base: Sequence[tuple[ChunkId, int]],
    ) -> None:
        self.chunks: list[tuple[ChunkId, int]] = []
        self.size = 0
        self._appender = appender
        self._reader = reader
        self._pool = pool
        self._level = plan.level
        self._alignment = deltas.Alignment(base) if base and plan.delta else None
        self._max_depth = deltas.MAX_DEPTH
        if self._alignment and self._alignment.size >= deltas.LARGE:
            self._max_depth = deltas.MAX_DEPTH_LARGE
        self._left = (0, 0)
        self._waiting: deque[_Run] = deque()
        self._waiting_bytes = 0
        self._hashing: deque[tuple[memoryview, list[int], Future[list[ChunkId]]]] = deque()
        self._encoding: deque[tuple[int, Future[None]]] = deque()
        self._encoding_bytes = 0
        self._owed: set[ChunkId] = set()
        self._elsewhere: set[ChunkId] = set()
        self._gap = _Gap()
        self._tries = 0

    def add(self, window: memoryview, lengths: list[int], whole: ChunkId | None = None) -> None:
        """Take in the next bytes of the file and where they are cut; nobody may change them any more.

        `whole`: the chunk that they would be in one piece, where that is known.
        """
        known = [whole] if whole is not None and len(lengths) == 1 else None
        self._hashing.append((window, lengths, self._pool.submit(_hash_all, window, lengths, known)))
        # One window is hashed while the next is read.
        if len(self._hashing) > 1:
            self._sort()

    def finish(self) -> None:
        """Return when every chunk is stored, or raise why not."""
        while self._hashing:
            self._sort()
        self._release((self.size, self.size - self._alignment.size) if self._alignment else None)
        while self._encoding:
            self._collect()
        self._appender.wait_for(self._elsewhere)

    def abandon(self, error: BaseException) -> None:
        """The file cannot be read to its end. What was claimed is stored all the same: others may count on it."""
        while self._waiting:
            run = self._waiting.popleft()
            self._owed.difference_update(chunk for chunk, _ in run.chunks)
            self._encoding.append((len(run.data), self._pool.submit(self._store, run, [], self._gap)))
        for _, future in self._encoding:
            future.exception()
        if self._owed:
            self._appender.give_up(self._owed, error)

    def _sort(self) -> None:
        """Tell new chunks from known ones and form runs."""
        window, lengths, future = self._hashing.popleft()
        ids = future.result()
        mine, elsewhere = self._appender.claim(set(ids))
        self._owed |= mine
        self._elsewhere |= elsewhere
        at = 0
        run: _Run | None = None
        for chunk, length in zip(ids, lengths, strict=True):
            start = self.size
            self.chunks.append((chunk, length))
            self.size += length
            at += length
            if chunk in mine:
                mine.discard(chunk)
                if run is None or len(run.data) + length > RUN_SIZE:
                    run = _Run(start, window[at - length : at], [(chunk, length)], self._left)
                    self._waiting.append(run)
                else:
                    run.data = window[at - length - len(run.data) : at]
                    run.chunks.append((chunk, length))
                self._waiting_bytes += length
                continue
            run = None
            there = self._alignment.position(chunk) if self._alignment else None
            if there is not None:
                self._release((start, start - there))
                self._left = (start + length, start - there)
                self._gap = _Gap()
        if self._alignment is None:
            self._release(None)
        while self._waiting_bytes > _LOOK_AHEAD:
            self._submit(None)

    def _release(self, right: tuple[int, int] | None) -> None:
        while self._waiting:
            self._submit(right)

    def _submit(self, right: tuple[int, int] | None) -> None:
        run = self._waiting[0]
        bases: list[ChunkId] = []
        self._tries += 1
        if self._alignment is not None and (self._gap.vain < _PATIENCE or self._tries % _PROBE == 0):
            bases = self._alignment.bases(run.start, run.start + len(run.data), run.left, right)
        self._encoding.append((len(run.data), self._pool.submit(self._store, run, bases, self._gap)))
        self._encoding_bytes += len(run.data)
        # Only now is somebody else answerable for it.
        self._waiting.popleft()
        self._waiting_bytes -= len(run.data)
        self._owed.difference_update(chunk for chunk, _ in run.chunks)
        while self._encoding_bytes > _IN_FLIGHT or (self._encoding and self._encoding[0][1].done()):
            self._collect()

    def _collect(self) -> None:
        length, future = self._encoding.popleft()
        self._encoding_bytes -= length
        future.result()

    def _store(self, run: _Run, bases: list[ChunkId], gap: _Gap) -> None:
        try:
            data = run.data
            dictionary, places = self._dictionary(bases)
            best = frames.compress(data, self._level, dictionary)
            if dictionary:
                cost = len(best) + _BASE_COST * len(places)
                alone = frames.compress(data, self._level) if cost * _CLEAR > len(data) else b""
                if alone and len(alone) <= cost:
                    best, dictionary, places = alone, b"", []
                    gap.vain += 1
                else:
                    gap.vain = 0
            frames.check(best, len(data), dictionary)
            self._appender.append(best, run.chunks, places)
        except BaseException as error:
            self._appender.give_up((chunk for chunk, _ in run.chunks), error)
            raise

    def _dictionary(self, bases: list[ChunkId]) -> tuple[bytes, list[tuple[ChunkId, Place]]]:
        """The bases' bytes and places; nothing when they cannot be used."""
        if not bases:
            return b"", []
        try:
            places = self._appender.find(set(bases))
            if len(places) < len(set(bases)):
                return b"", []
            if any(self._reader.depth(place) >= self._max_depth for place in places.values()):
                return b"", []
            return b"".join(self._reader.read(bases)), [(base, places[base]) for base in bases]
        except (CorruptionError, NotFoundError):
            # A damaged past must not keep anyone from saving the present.
            return b"", []


def _hash_all(window: memoryview, lengths: Iterable[int], known: list[ChunkId] | None) -> list[ChunkId]:
    if known:
        return known
    at = 0
    ids = []
    for length in lengths:
        ids.append(ChunkId(hashlib.sha256(window[at : at + length]).digest()))
        at += length
    return ids
