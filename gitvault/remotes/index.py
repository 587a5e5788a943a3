"""Where each object lies on a remote: sorted rows in small pieces, of which a look-up reads one or a few.

A *run* is what one or several pushes brought: a list of parts (packs) and pieces of rows, all immutable objects below
`index/`, zstd frames named by the SHA-256 of what is stored. A piece holds rows of text, sorted by their first word:

    OID g PART [OFFSET]                               a git object, which begins at OFFSET of the pack number PART of
                                                      the run's list; pushes of before wrote no OFFSET
    CHUNK c PART OFFSET STORED LENGTH INNER SIZE [BASE ...]
                                                      a chunk: SIZE bytes at INNER of a zstd frame, which has STORED
                                                      bytes at OFFSET of the pack and LENGTH decoded
    FILE m PART CHUNK ... [PACK:CHUNK:OFFSET:STORED:LENGTH:INNER:SIZE:BASE,... ...]
                                                      the chunks that hold the manifest of a large file; and where all
                                                      that it stands on was when it was pushed, a hint that may be wrong

and a list of parts a line `NAME SIZE` for each. A push makes one run of what it brings and of all runs that are not
eight times as long, so that there are few of them and most rows are seldom written again.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames
from gitvault.core.storage.packs import Chunk, Frame
from gitvault.errors import CorruptionError, NotFoundError

FOLDER = "index/"
# Bytes of rows before they are compressed, to about a half: what one look-up reads.
_PIECE = 256 << 10
_MAX_PIECE = 16 << 20
_MAX_PARTS = 256 << 20
_PART = re.compile(r"git/[0-9a-f]{64}\.pack|chunks/[0-9a-f]{64}\.zpk")
_LEVEL = 3
_RATIO = 8
# Pieces that are kept as text, 48 MiB. As dictionaries 24 of them took as much, and each of the 140 files of a day was
# looked for in all 36 pieces of a library of 4.5 GB: 6 s of a push of 7.
_KEPT = 192
# Of so many rows that are looked for in one piece it is taken apart: 0.4 ms, and 0.5 us for each of them.
_MANY = 64


@dataclass(frozen=True, slots=True)
class Run:
    """What a record says of a run."""

    rows: int
    parts: str
    """The hash of its list of parts."""
    pieces: tuple[tuple[str, str], ...]
    """The first id of each piece, in order, and the piece's hash."""

    def document(self) -> dict[str, object]:
        """As it stands in a record."""
        return {"rows": self.rows, "parts": self.parts, "pieces": [list(piece) for piece in self.pieces]}

    @classmethod
    def read(cls, document: Any) -> Run:
        """Raises ValueError, TypeError, KeyError for what is none."""
        pieces = tuple((str(first), _hash(name)) for first, name in document["pieces"])
        return cls(int(document["rows"]), _hash(document["parts"]), pieces)

    def objects(self) -> Iterator[str]:
        """The names of all objects it consists of."""
        yield FOLDER + self.parts
        yield from (FOLDER + name for _, name in self.pieces)


@dataclass(frozen=True, slots=True)
class Part:
    """A pack on the remote."""

    name: str
    size: int


class Row(NamedTuple):
    """Where one object is: the pack, and the words of its row behind that. A tuple: a restore makes one a file."""

    kind: str
    part: Part
    words: tuple[str, ...]

    def offset(self) -> int | None:
        """Of a git object or a chunk: where it, or its frame, is said to begin in its pack, if that is said."""
        return int(self.words[0]) if self.words and self.words[0].isdecimal() else None

    def frame(self) -> Frame:
        """Of a chunk: the frame it is in. Raises ValueError, IndexError."""
        offset, stored, length = map(int, self.words[:3])
        return Frame(0, offset, stored, length, tuple(chunk_id(word) for word in self.words[5:]))

    def stands_on(self) -> tuple[str, ...]:
        """Of a chunk: what its frame is coded against; of anything else nothing. Raises ValueError, IndexError."""
        return tuple(base.hex() for base in self.frame().bases) if self.kind == "c" else ()

    def manifest(self) -> tuple[ChunkId, ...]:
        """Of a file: the chunks that hold its manifest. Raises ValueError."""
        return tuple(chunk_id(word) for word in self.words if ":" not in word)

    def hints(self) -> dict[str, Row]:
        """Of a file: the rows, by id, of what it stands on, as far as they were noted with it and make sense."""
        found: dict[str, Row] = {}
        for word in self.words:
            if len(fields := word.split(":")) == 8:
                pack, chunk, *numbers, bases = fields
                with suppress(ValueError):
                    part = Part(f"chunks/{_hash(pack)}.zpk", 0)
                    found[_hash(chunk)] = Row("c", part, (*numbers, *filter(None, bases.split(","))))
        return found

    def hint(self, chunk: str) -> str:
        """Of a chunk: how a file's row notes it."""
        pack = self.part.name.removeprefix("chunks/").removesuffix(".zpk")
        return ":".join((pack, chunk, *self.words[:5], ",".join(self.words[5:])))

    def chunk(self, chunk: ChunkId) -> Chunk:
        """Of a chunk: where in its frame it is. Raises ValueError, IndexError."""
        return Chunk(chunk, 0, int(self.words[3]), int(self.words[4]))


def chunk_id(word: str) -> ChunkId:
    """Raises ValueError."""
    return ChunkId(bytes.fromhex(_hash(word)))


def git_row(part: int, offset: int) -> str:
    """What a row says behind the id."""
    return f"g {part} {offset}"


def chunk_row(part: int, frame: Frame, chunk: Chunk) -> str:
    """Likewise."""
    bases = "".join(f" {base.hex()}" for base in frame.bases)
    return f"c {part} {frame.offset} {frame.stored} {frame.length} {chunk.inner} {chunk.length}{bases}"


def manifest_row(part: int, chunks: Iterable[ChunkId]) -> str:
    """Likewise."""
    return f"m {part}" + "".join(f" {chunk.hex()}" for chunk in chunks)


class Index:
    """What some runs say. For one thread."""

    def __init__(
        self,
        runs: Collection[Run],
        read: Callable[[str], bytes],
        without: Collection[str] = (),
        ahead: Callable[[Collection[str]], None] = lambda names: None,
    ) -> None:
        """`read` gives an object of that name, of the right hash. `without`: names of parts that do not count.

        `ahead` is told of several that will be read next, to bring them at once.
        """
        self.runs = sorted(set(runs), key=lambda run: (run.rows, run.parts))
        self._read = read
        self._ahead = ahead
        self._without = frozenset(without)
        self._parts: dict[str, Sequence[Part]] = {}
        self._pieces: OrderedDict[str, bytes] = OrderedDict()
        self.unread: set[str] = set()
        """Lists of parts of the runs that could not be read."""

    def find(self, ids: Collection[str]) -> dict[str, Row]:
        """The rows of those ids, in hex, that are known; a run that cannot be read knows none. Raises RemoteError."""
        found: dict[str, Row] = {}
        left = sorted(set(ids))
        # The shortest first: what a few pushes brought is read once and asked for everything.
        for run in self.runs:
            if not left:
                break
            firsts = [first for first, _ in run.pieces]
            groups = [
                (run.pieces[behind - 1][1], list(group))
                for behind, group in groupby(left, partial(bisect_right, firsts))
                if behind
            ]
            # What is in none of the others is in the last, if anywhere: its list of parts will be needed too.
            self._bring([name for name, _ in groups], run if run == self.runs[-1] else None)
            with self._lenient(run):
                for name, group in groups:
                    for one, rest in _search(self._piece(name), group):
                        if (row := self._row(run, rest)).part.name not in self._without:
                            found[one] = row
            left = [one for one in left if one not in found]
        return found

    def _bring(self, pieces: Sequence[str], run: Run | None) -> None:
        wanted = [name for name in pieces if name not in self._pieces][:_KEPT]
        if run and wanted and run.parts not in self._parts:
            wanted.append(run.parts)
        if len(wanted) > 1:
            self._ahead([FOLDER + name for name in wanted])

    @contextmanager
    def _lenient(self, run: Run) -> Iterator[None]:
        """Whoever may put can write a record: what is wrong with its run must keep nobody from the others."""
        try:
            yield
        except (CorruptionError, NotFoundError):
            self.unread.add(run.parts)
            self.runs = [other for other in self.runs if other.parts not in self.unread]

    def packs_of(self, prefix: str) -> list[Part]:
        """The packs of the git objects whose ids begin so, each in one; at most 40 digits. Errors as in `find`."""
        found: dict[str, Part] = {}
        for run in self.runs:
            with self._lenient(run):
                firsts = [first for first, _ in run.pieces]
                chosen = slice(max(bisect_right(firsts, prefix) - 1, 0), bisect_right(firsts, prefix + "g"))
                for _, name in run.pieces[chosen]:
                    for one, rest in _rows(self._piece(name)):
                        if one.startswith(prefix) and rest.startswith("g ") and one not in found:
                            row = self._row(run, rest)
                            if row.part.name not in self._without and row.part.name.startswith("git/"):
                                found[one] = row.part
            if len(prefix) == 40 and found:
                break
        return list(found.values())

    def parts(self) -> dict[str, Part]:
        """All parts that count, by name."""
        every = (part for run in self.runs for part in self.parts_of(run))
        return {part.name: part for part in every if part.name not in self._without}

    def parts_of(self, run: Run) -> Sequence[Part]:
        """The list of parts of a run."""
        known = self._parts.get(run.parts)
        if known is None:
            try:
                lines = frames.decompress_up_to(self._read(FOLDER + run.parts), _MAX_PARTS).decode("ascii").splitlines()
                known = [_part(line) for line in lines]
            except ValueError as error:
                raise _damaged(run.parts) from error
            self._parts[run.parts] = known
        return known

    def rows(self, run: Run) -> Iterator[tuple[str, str]]:
        """All rows of a run in order: the id, and what stands behind it."""
        for _, name in run.pieces:
            yield from _rows(_decode(name, self._read(FOLDER + name)))

    def _row(self, run: Run, rest: str) -> Row:
        try:
            return row_of(rest, self.parts_of(run))
        except (ValueError, IndexError) as error:
            raise _damaged(run.parts) from error

    def _piece(self, name: str) -> bytes:
        known = self._pieces.pop(name, None)
        if known is None:
            known = _decode(name, self._read(FOLDER + name))
            while len(self._pieces) >= _KEPT:
                self._pieces.popitem(last=False)
        self._pieces[name] = known
        return known


def row_of(rest: str, parts: Sequence[Part]) -> Row:
    """A row from what stands behind its id. Raises ValueError, IndexError."""
    kind, number, *words = rest.split(" ")
    return Row(kind, parts[int(number)], tuple(words))


def absorbed(runs: Collection[Run], rows: int) -> list[Run]:
    """Those of a machine's runs that one of so many new rows is merged with."""
    chosen: list[Run] = []
    for run in sorted(runs, key=lambda run: run.rows):
        if run.rows >= _RATIO * rows:
            break
        chosen.append(run)
        rows += run.rows
    return chosen


def merge(
    index: Index,
    runs: Sequence[Run],
    parts: Sequence[Part],
    rows: Iterable[tuple[str, str]],
    put: Callable[[str, bytes], None],
    without: Collection[str] = (),
) -> Run:
    """One run of several and of new rows, sorted, that are numbered by `parts`.

    `without`: parts of the old runs that are left out.

    `put` is given each object of it, by name.
    """
    numbers: dict[str, int] = {}
    listed: list[Part] = []

    def renumbered(
        each: Iterable[tuple[str, str]], known: Sequence[Part], without: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        places: list[int | None] = []
        for part in known:
            if part.name in without:
                places.append(None)
                continue
            if part.name not in numbers:
                numbers[part.name] = len(listed)
                listed.append(part)
            places.append(numbers[part.name])
        for one, rest in each:
            kind, number, *words = rest.split(" ", 2)
            if (place := places[int(number)]) is not None:
                yield one, " ".join((kind, str(place), *words))

    sources = [
        renumbered(rows, parts, ()),
        *(renumbered(index.rows(run), index.parts_of(run), without) for run in runs),
    ]
    pieces: list[tuple[str, str]] = []
    lines: list[str] = []
    size = total = 0

    def finish() -> None:
        if lines:
            pieces.append((lines[0].partition(" ")[0], _put("".join(lines), put)))

    for one, group in groupby(heapq.merge(*sources, key=itemgetter(0)), itemgetter(0)):
        line = f"{one} {next(group)[1]}\n"
        lines.append(line)
        size += len(line)
        total += 1
        if size >= _PIECE:
            finish()
            lines, size = [], 0
    finish()
    return Run(total, _put("".join(f"{part.name} {part.size}\n" for part in listed), put), tuple(pieces))


def _put(text: str, put: Callable[[str, bytes], None]) -> str:
    stored = frames.compress(text.encode("ascii"), _LEVEL)
    name = hashlib.sha256(stored).hexdigest()
    put(FOLDER + name, stored)
    return name


def _decode(name: str, stored: bytes) -> bytes:
    text = frames.decompress_up_to(stored, _MAX_PIECE)
    if not text.isascii():
        raise _damaged(name)
    return text


def _rows(text: bytes) -> Iterator[tuple[str, str]]:
    """The rows of a piece: the id, and what stands behind it."""
    for line in text.decode("ascii").splitlines():
        one, _, rest = line.partition(" ")
        yield one, rest


def _search(text: bytes, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those rows of a piece that have one of these ids."""
    if len(ids) >= _MANY:
        lines = text.decode("ascii").splitlines()
        for one in ids:
            at = bisect_left(lines, one)
            if at < len(lines) and lines[at].startswith(f"{one} "):
                yield one, lines[at][len(one) + 1 :]
        return
    for one in ids:
        wanted = one.encode("ascii")
        low, high = 0, len(text)
        while low < high:
            start = text.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = text.find(b"\n", start, high)
            end = high if end < 0 else end
            found, _, rest = text[start:end].partition(b" ")
            if found == wanted:
                yield one, rest.decode("ascii")
                break
            if found < wanted:
                low = end + 1
            else:
                high = start


def _damaged(name: str) -> CorruptionError:
    return CorruptionError(f"index {name}: not as a push writes it; run git-vault remote verify")


def _part(line: str) -> Part:
    name, _, size = line.partition(" ")
    if not _PART.fullmatch(name):
        raise ValueError(f"{name!r}: not the name of a pack")
    return Part(name, int(size))


def _hash(word: object) -> str:
    if not isinstance(word, str) or len(word) != 64 or set(word) - set("0123456789abcdef"):
        raise ValueError(f"{word!r}: expected 64 hex digits")
    return word
