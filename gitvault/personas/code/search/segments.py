"""Segments: unique lines and what happened to them, in one immutable file each.

A file is `GVSEGM01`, four bytes with the length of a msgpack map from names to (type, shape, offset), that map, and
the arrays, each beginning at a multiple of 64. Numbers are little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import zstandard

from gitvault.core.utils.files import Disk, open_plain
from gitvault.errors import CorruptionError
from gitvault.personas.code.search.lines import Blocks, expander, slots
from gitvault.personas.code.search.pattern import Required

MAGIC = b"GVSEGM01"
BINARY, UNREAD, OLD_LINK, NEW_LINK, SETTLED = 1, 2, 4, 8, 16
"""Kinds of a change: a side is binary; a side was not read; a side is a submodule's commit; see `history.Changed`."""
# Lines of so many bytes, or so many events, are written as one segment: what is held of them takes 300 MiB.
_FULL = 48 << 20
_MANY = 6_000_000
# With fewer blocks all are looked at.
_BLOCKS = 8
_ALIGNED = 64
_DAMAGE = (ValueError, struct.error, KeyError, IndexError, TypeError, OverflowError, MemoryError, zstandard.ZstdError)

_Array = npt.NDArray[Any]


class Draft:
    """A segment being made."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self.size = 0
        """Bytes of text."""
        self.rows = 0
        """Of events."""
        self.unread: Counter[int] = Counter()
        """Of paths that were not read, in how many versions."""
        self._events: list[tuple[_Array, _Array, _Array]] = []
        self._recent: list[tuple[int, int, int]] = []
        self._changes: list[tuple[int, int, int, bytes, bytes]] = []

    @property
    def full(self) -> bool:
        """Whether it should be written."""
        return self.size >= _FULL or self.rows >= _MANY

    def add(
        self, version: int, path: int, old: bytes, new: bytes, kind: int, differing: Iterable[tuple[bytes, int]]
    ) -> None:
        """Add a file's change and the lines that differ."""
        kind |= (len(old) > 20) * OLD_LINK | (len(new) > 20) * NEW_LINK
        change = len(self._changes)
        self._changes.append((version, path, kind, old[-20:], new[-20:]))
        if kind & UNREAD:
            self.unread[path] += 1
        before = len(self._recent)
        self._recent += [(self._number(line), change, by) for line, by in differing]
        self.rows += len(self._recent) - before
        if len(self._recent) > 1 << 18:
            self._pour()

    def _number(self, line: bytes) -> int:
        found = self._numbers.get(line)
        if found is None:
            found = self._numbers[line] = len(self._numbers)
            self.size += len(line) + 1
        return found

    def _pour(self) -> None:
        if self._recent:
            rows = np.array(self._recent, np.int64)
            self._events.append((rows[:, 0].astype("<u4"), rows[:, 1].astype("<u4"), rows[:, 2].astype("<i4")))
            self._recent = []

    def number_paths(self, numbers: Sequence[int]) -> None:
        """Let each path that changes were added with stand for another number: its place in `numbers`."""
        self._changes = [(version, numbers[path], *rest) for version, path, *rest in self._changes]  # type: ignore[misc]

    def merge(self, other: Segment) -> None:
        """Add all that another segment has."""
        offset = len(self._changes)
        fields = [other[name].tolist() for name in ("version", "path", "kind")]
        olds, news = ([bytes(oid) for oid in other[name]] for name in ("old", "new"))
        self._changes += zip(*fields, olds, news, strict=True)
        numbers = np.fromiter(map(self._number, other.lines()), "<u4", other.size)
        starts = other["starts"]
        self._events.append((np.repeat(numbers, np.diff(starts)), other["change"] + np.uint32(offset), other["count"]))
        self.rows += len(other["change"])

    def write(self, path: Path, disk: Disk) -> None:
        """Write it, durably but for its name."""
        self._pour()
        empty = np.zeros(0, "<u4"), np.zeros(0, "<u4"), np.zeros(0, "<i4")
        line, change, by = (np.concatenate(parts) for parts in zip(empty, *self._events, strict=True))
        self._events = []
        order = np.argsort(line, kind="stable")
        lines = len(self._numbers)
        blocks = Blocks()
        blocks.extend(self._numbers)
        self._numbers = {}
        columns = list(zip(*self._changes, strict=True)) or [()] * 5
        arrays = {
            "frames": np.frombuffer(b"".join(blocks.texts), np.uint8),
            "frame": np.cumsum([0, *map(len, blocks.texts)]).astype("<u8"),
            "first": np.array(blocks.firsts, "<u4"),
            "trigrams": blocks.trigrams() if len(blocks.texts) >= _BLOCKS else np.zeros((0, 0), np.uint8),
            "starts": np.concatenate([[0], np.cumsum(np.bincount(line, minlength=lines))]).astype("<u4"),
            "change": change[order],
            "count": by[order],
            "version": np.array(columns[0], "<u4"),
            "path": np.array(columns[1], "<u4"),
            "kind": np.array(columns[2], np.uint8),
            "old": np.frombuffer(b"".join(columns[3]), np.uint8).reshape(-1, 20),
            "new": np.frombuffer(b"".join(columns[4]), np.uint8).reshape(-1, 20),
        }
        described: dict[str, tuple[str, tuple[int, ...], int]] = {}
        offset = 0
        for name, array in arrays.items():
            described[name] = array.dtype.str, array.shape, offset
            offset += -(-array.nbytes // _ALIGNED) * _ALIGNED
        head = msgpack.packb(described)
        head = MAGIC + struct.pack("<I", len(head)) + head
        with disk.create(path) as file:
            file.write(head + bytes(-len(head) % _ALIGNED))
            for array in arrays.values():
                file.write(np.ascontiguousarray(array).tobytes())
                file.write(bytes(-array.nbytes % _ALIGNED))
            file.sync()


_KINDS = ("|u1", "<u4", "<i4", "<u8")


class Segment:
    """A segment, opened; its arrays by name."""

    def __init__(self, path: Path) -> None:
        """Raises CorruptionError for what is none, OSError."""
        self.path = path
        with self._understood(), open_plain(path) as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            (length,) = struct.unpack_from("<I", self._map, len(MAGIC))
            start = len(MAGIC) + 4
            self._described: dict[str, Any] = msgpack.unpackb(self._map[start : start + length])
            if self._map[: len(MAGIC)] != MAGIC:
                raise ValueError
            self._base = -(-(start + length) // _ALIGNED) * _ALIGNED
            self.size = int(self["first"][-1])

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """A cache may be damaged anywhere."""
        try:
            yield
        except _DAMAGE as error:
            raise CorruptionError(
                f"{self.path}: no segment of the search index; git-vault search --index makes it anew"
            ) from error

    def __getitem__(self, name: str) -> _Array:
        kind, shape, offset = self._described[name]
        if kind not in _KINDS:
            # numpy would read it as a program.
            raise ValueError(kind)
        size = int(np.prod(shape))
        return np.frombuffer(self._map, kind, size, self._base + offset).reshape(shape)

    def candidates(self, required: Required) -> _Array:
        """The numbers of the blocks that may hold what is required. Raises CorruptionError."""
        with self._understood():
            rows = self["trigrams"]
            blocks = len(self["first"]) - 1
            if not required or not rows.size:
                return np.arange(blocks)
            held = np.full(rows.shape[1], 255, np.uint8)
            for one_of in required:
                either = np.zeros(rows.shape[1], np.uint8)
                for text in one_of:
                    each: npt.NDArray[np.uint8] = rows[np.unique(slots(text))]
                    either |= np.bitwise_and.reduce(each, axis=0)
                held &= either
            return np.flatnonzero(np.unpackbits(held, count=blocks))

    def texts(self, blocks: _Array) -> Iterator[tuple[int, bytes]]:
        """Blocks by number, with their lines, each with its end. Raises CorruptionError."""
        expand = expander()
        with self._understood():
            frames, starts = self["frames"], self["frame"].tolist()
        for block in blocks.tolist():
            with self._understood():
                text = expand(frames[starts[block] : starts[block + 1]])
            yield block, text

    def lines(self) -> Iterable[bytes]:
        """All lines, by number."""
        for _, text in self.texts(np.arange(len(self["first"]) - 1)):
            yield from text[:-1].split(b"\n")

    def events(self, lines: _Array) -> tuple[_Array, _Array, _Array]:
        """What happened to lines, each given once by its number: of each event the place in `lines`, its change, its
        count. Raises CorruptionError."""
        with self._understood():
            starts = self["starts"]
            first = starts[lines].astype(np.int64)
            lengths = starts[lines + 1].astype(np.int64) - first
            if lengths.sum() > len(self["change"]):
                raise ValueError("more events than there are")
            which = np.repeat(np.arange(len(lines)), lengths)
            # Of each row: where its line's events begin, and how many of them are before it.
            at = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + first[which]
            return which, self["change"][at], self["count"][at]


def linked(kind: int, old: bytes, new: bytes) -> tuple[bytes, bytes]:
    """The ids of a change's blobs as a Reader takes them."""
    return (
        b"L" + old if kind & OLD_LINK else old,
        b"L" + new if kind & NEW_LINK else new,
    )
