"""Parity: what heals a damaged pack, of chunks or of git's, from itself.

`NAME.par` holds Reed-Solomon redundancy for the immutable file NAME, so much that a burst of 1 MiB and `FLIPS` damaged
blocks anywhere else can always be made good. The hash of each block says which are lost, so that every parity block
mends one. Blocks of one code word lie as far apart as the file allows: a burst meets each word as rarely as can be.
docs/format.md has the layout.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from gitvault.core.utils.files import Disk
from gitvault.core.utils.layout import packs
from gitvault.errors import CorruptionError

try:
    from zfec import Encoder
except ImportError:  # the same in Python: 65 MB/s of processor instead of 119
    Encoder = None

BLOCK = 4096
"""Bytes: what one flipped bit costs."""
BURST = 1 << 20
"""Bytes: any damage in one piece up to this length is made good, and with it"""
FLIPS = 4
"""damaged blocks anywhere else."""

# Enough to make the smallest parity a few per cent; each code word has at most twice as many blocks. Of a small file,
# whose parity is nearly all for the burst, more would only take longer: 3 MB were 39 % at 7 MB/s, now 52 % at 20.
_COLUMNS = 128
_FEW_COLUMNS = 32
_SMALL = 4 << 20
# Of a longer file each part has its own parity, so that what is in memory stays in proportion to this.
_SEGMENT = 128 << 20
_SLICE = 16 * BLOCK
_SUM = 8
_LENGTH = 20
_HEAD = re.compile(rb"gitvault parity 1 (\d{1,18}) 4096 (\d{1,3}) (\d{1,3}) (\d{1,9}) ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Shape:
    """How a file of `size` bytes is laid out: `data` columns of `stripes` blocks, `parity` more made from them."""

    size: int
    data: int
    parity: int
    stripes: int

    @property
    def blocks(self) -> int:
        """Of the file."""
        return -(-self.size // BLOCK)

    @property
    def segments(self) -> int:
        """How often the columns follow each other."""
        return -(-self.blocks // (self.data * self.stripes))


def shape(size: int, percent: int) -> Shape:
    """The layout for `percent` of parity, or as much more as the promise takes: a copy for 1 MiB and less."""
    blocks = -(-size // BLOCK)
    part = -(-blocks // -(-size // _SEGMENT))
    stripes = -(-part // (_COLUMNS if size > _SMALL else _FEW_COLUMNS))
    data = -(-part // stripes)
    # A burst that does not begin with a block touches one more.
    hit = -(-min(part, BURST // BLOCK + 1) // stripes)
    parity = max(-(-data * percent // 100), hit + FLIPS)
    return Shape(size, data, parity, stripes) if parity < data else Shape(size, 1, 1, part)


def update(files: Iterable[Path], folder: Path, percent: int, disk: Disk, stop: Callable[[], bool]) -> int:
    """Write parity for those files that have none, until `stop`; how many got it. Raises StorageFullError, OSError."""
    made = 0
    for pack in files:
        target = path_for(pack, folder)
        if target.exists() or not pack.stat().st_size:
            continue
        if stop():
            break
        disk.make_folder(folder)
        temporary = target.with_suffix(".tmp")
        disk.unlink(temporary)
        try:
            write(pack, temporary, percent, disk)
            disk.rename(temporary, target)
        except BaseException:
            disk.unlink(temporary)
            raise
        disk.sync_folder(folder)
        made += 1
    return made


def protect(vault: Path, percent: int, disk: Disk, seconds: float = math.inf) -> int:
    """`update` for all packs of a vault, until the time is over; nothing for 0 per cent."""
    if not percent:
        return 0
    end = time.monotonic() + seconds
    return update(packs(vault), vault / "parity", percent, disk, lambda: time.monotonic() > end)


def remove_stale(files: Iterable[Path], folder: Path, disk: Disk) -> None:
    """Remove the parity of packs that are not among these: for when nothing is missing."""
    wanted = {path_for(pack, folder) for pack in files}
    for path in folder.glob("*"):
        if path not in wanted:
            disk.unlink(path)


def path_for(pack: Path, folder: Path) -> Path:
    """Where the parity of a pack is."""
    return folder / f"{pack.name}.par"


def write(source: Path, target: Path, percent: int, disk: Disk) -> None:
    """Write the parity of a file, synced. Raises StorageFullError, OSError."""
    with source.open("rb") as file:
        plan = shape(file.seek(0, 2), percent)
        digests = [hashlib.sha256(block).digest() for block in _blocks(file, plan)]
        with disk.create(target) as new:
            # Its place, until what it says of the parity is known.
            new.write(bytes(len(_head(plan, digests, [b""] * plan.segments * plan.parity * plan.stripes))))
            sums: list[bytes] = []
            for segment in range(plan.segments):
                for column in _encode(file, plan, segment, frozenset()):
                    new.write(column)
                    sums += (_sum(column[at : at + BLOCK]) for at in range(0, len(column), BLOCK))
            head = _head(plan, digests, sums)
            new.write(head + b"%020d" % len(head))
            new.overwrite(0, head)
            new.sync()


def is_whole(source: Path, parity: Path) -> bool:
    """Whether a file is what its parity was made from. Raises CorruptionError for parity that cannot be read."""
    plan, digest, _, _ = _read_head(parity)
    try:
        return source.stat().st_size == plan.size and _digest(source, plan) == digest
    except FileNotFoundError:
        return False


def heal(source: Path, parity: Path, target: Path, disk: Disk) -> bool:
    """Write to `target`, synced, what `source` was before it was damaged, cut short or lost.

    Whether that could be done. Raises CorruptionError for parity that cannot be read, StorageFullError, OSError.
    """
    plan, digest, sums, start = _read_head(parity)
    empty = _Nothing()
    try:
        opened: BinaryIO | _Nothing = source.open("rb")
    except FileNotFoundError:
        opened = empty
    with opened as file, parity.open("rb") as redundant, disk.create(target) as new:
        expected = sums[: plan.blocks]
        found = map(_sum, _blocks(file, plan))
        lost = frozenset(number for number, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        for segment in range(plan.segments):
            mended = _solve(file, redundant, start, plan, segment, lost, sums[plan.blocks :])
            if mended is None:
                break
            first = segment * plan.data * plan.stripes
            for number in range(first, min(first + plan.data * plan.stripes, plan.blocks)):
                block = mended.get(number) or _block(file, number)
                new.write(block[: plan.size - number * BLOCK])
        new.sync()
    if new.size == plan.size and _digest(target, plan) == digest:
        return True
    disk.unlink(target)
    return False


class _Nothing:
    """A file that is gone."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def seek(self, offset: int) -> int:
        return offset

    def read(self, length: int) -> bytes:
        return b""


def _head(plan: Shape, digests: Sequence[bytes], sums: Sequence[bytes]) -> bytes:
    whole = hashlib.sha256(b"".join(digests)).hexdigest()
    line = f"gitvault parity 1 {plan.size} {BLOCK} {plan.data} {plan.parity} {plan.stripes} {whole}\n"
    text = line.encode() + b"".join(digest[:_SUM] for digest in digests)
    text += b"".join(checksum.ljust(_SUM, b"\0") for checksum in sums)
    return text + hashlib.sha256(text).digest()


def _read_head(path: Path) -> tuple[Shape, str, list[bytes], int]:
    """Layout, hash of the whole, the checksum of each block of the file and of the parity, where the parity begins."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _LENGTH))
        said = file.read(_LENGTH)
        for at in (0, size - _LENGTH - int(said) if said.isdigit() else -1):
            if 0 <= at < size:
                file.seek(at)
                with suppress(ValueError):
                    return _parse_head(file, size)
    raise CorruptionError(f"{path.name}: parity that cannot be read itself; remove it, the next maintain makes it anew")


def _parse_head(file: BinaryIO, size: int) -> tuple[Shape, str, list[bytes], int]:
    line = file.readline(256)
    match = _HEAD.fullmatch(line)
    if not match:
        raise ValueError
    plan = Shape(*(int(match[group]) for group in range(1, 5)))
    if not (plan.size and plan.data and plan.parity and plan.stripes and plan.data + plan.parity <= 256):
        raise ValueError
    redundant = plan.segments * plan.parity * plan.stripes
    if redundant * BLOCK + (plan.blocks + redundant) * _SUM > size:
        raise ValueError
    packed = file.read((plan.blocks + redundant) * _SUM)
    if hashlib.sha256(line + packed).digest() != file.read(32):
        raise ValueError
    sums = [packed[at : at + _SUM] for at in range(0, len(packed), _SUM)]
    return plan, match[5].decode(), sums, len(line) + len(packed) + 32


def _digest(path: Path, plan: Shape) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in _blocks(file, plan))).hexdigest()


def _sum(block: bytes) -> bytes:
    return hashlib.sha256(block).digest()[:_SUM]


def _blocks(file: BinaryIO | _Nothing, plan: Shape) -> Iterator[bytes]:
    """The blocks of the file; the last may be short, and so are all behind its end."""
    file.seek(0)
    for number in range(plan.blocks):
        yield file.read(min(BLOCK, plan.size - number * BLOCK))


def _block(file: BinaryIO | _Nothing, number: int) -> bytes:
    file.seek(number * BLOCK)
    return file.read(BLOCK)


def _encode(file: BinaryIO | _Nothing, plan: Shape, segment: int, lost: frozenset[int]) -> list[bytes]:
    """The parity columns of a segment in which the blocks `lost` count as zeros."""
    rows: list[list[bytes]] = [[] for _ in range(plan.parity)]
    first = segment * plan.data * plan.stripes
    for top in range(0, plan.stripes, _SLICE // BLOCK):
        height = min(_SLICE // BLOCK, plan.stripes - top)
        starts = (first + column * plan.stripes + top for column in range(plan.data))
        pieces = [_piece(file, plan, start, height, lost) for start in starts]
        for row, piece in zip(rows, _combine(pieces, plan), strict=True):
            row.append(piece)
    return [b"".join(row) for row in rows]


def _piece(file: BinaryIO | _Nothing, plan: Shape, start: int, height: int, lost: frozenset[int]) -> bytes:
    file.seek(start * BLOCK)
    piece = file.read(max(0, min(height * BLOCK, plan.size - start * BLOCK))).ljust(height * BLOCK, b"\0")
    if lost.isdisjoint(range(start, start + height)):
        return piece
    blocks = (piece[at * BLOCK : (at + 1) * BLOCK] for at in range(height))
    return b"".join(bytes(BLOCK) if start + at in lost else block for at, block in enumerate(blocks))


def _combine(pieces: Sequence[bytes], plan: Shape) -> Sequence[bytes]:
    if Encoder is not None:
        made: Sequence[bytes] = Encoder(plan.data, plan.data + plan.parity).encode(
            pieces, range(plan.data, plan.data + plan.parity)
        )
        return made
    length = len(pieces[0])
    sums = [0] * plan.parity
    factors = _factors(plan.data, plan.parity)
    for column, piece in enumerate(pieces):
        for row in range(plan.parity):
            sums[row] ^= int.from_bytes(piece.translate(_times(factors[row][column])), "little")
    return [value.to_bytes(length, "little") for value in sums]


def _solve(
    file: BinaryIO | _Nothing,
    redundant: BinaryIO,
    start: int,
    plan: Shape,
    segment: int,
    lost: frozenset[int],
    sums: Sequence[bytes],
) -> dict[int, bytes] | None:
    """The lost blocks of a segment; None when a code word has lost more than its sound parity can give."""
    first = segment * plan.data * plan.stripes
    words: dict[int, list[int]] = {}
    for number in lost:
        if first <= number < first + plan.data * plan.stripes:
            column, stripe = divmod(number - first, plan.stripes)
            words.setdefault(stripe, []).append(column)
    if not words:
        return {}
    # Of what is left; what the parity says beyond it is owed to the lost blocks.
    partial = _encode(file, plan, segment, lost)
    mended = {}
    for stripe, columns in words.items():
        owed: dict[int, int] = {}
        for row in range(plan.parity):
            number = (segment * plan.parity + row) * plan.stripes + stripe
            redundant.seek(start + number * BLOCK)
            block = redundant.read(BLOCK)
            if _sum(block) == sums[number]:
                at = stripe * BLOCK
                owed[row] = int.from_bytes(block, "little") ^ int.from_bytes(partial[row][at : at + BLOCK], "little")
            if len(owed) == len(columns):
                break
        else:
            return None
        inverse = _inverse(tuple(sorted(columns)), tuple(owed), plan.data, plan.parity)
        wanted = [value.to_bytes(BLOCK, "little") for value in owed.values()]
        for column, factors in zip(sorted(columns), inverse, strict=True):
            value = 0
            for factor, block in zip(factors, wanted, strict=True):
                value ^= int.from_bytes(block.translate(_times(factor)), "little")
            mended[first + column * plan.stripes + stripe] = value.to_bytes(BLOCK, "little")
    return mended


# -- GF(256) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 -------------------------------------------

_EXP = tuple(accumulate(range(254), lambda x, _: x << 1 ^ (0x11D if x & 128 else 0), initial=1))
_LOG = {value: exponent for exponent, value in enumerate(_EXP)}


def _multiply(a: int, b: int) -> int:
    return _EXP[(_LOG[a] + _LOG[b]) % 255] if a and b else 0


@lru_cache(256)
def _times(factor: int) -> bytes:
    """For bytes.translate: each byte times `factor`."""
    return bytes(_multiply(factor, value) for value in range(256))


@lru_cache(16)
def _factors(data: int, parity: int) -> list[list[int]]:
    """What each data block counts in each parity block.

    The blocks of a code word are the values of one polynomial of a degree below `data` at 0, 1, 2, 4, 8 ... (each twice
    the one before), as zfec has them: these are Lagrange's coefficients.
    """
    points = (0, *_EXP)

    def product(values: Iterable[int]) -> int:
        return sum(_LOG[value] for value in values) % 255

    own = [product(points[c] ^ points[m] for m in range(data) if m != c) for c in range(data)]
    rows = []
    for row in range(data, data + parity):
        whole = product(points[row] ^ points[m] for m in range(data))
        rows.append([_EXP[(whole - _LOG[points[row] ^ points[c]] - own[c]) % 255] for c in range(data)])
    return rows


@lru_cache(512)
def _inverse(columns: tuple[int, ...], rows: tuple[int, ...], data: int, parity: int) -> list[bytes]:
    """The inverse of the matrix of what `columns` count in `rows`; there always is one."""
    factors = _factors(data, parity)
    size = len(columns)
    matrix = [
        bytes(factors[row][column] for column in columns) + bytes(int(at == other) for other in range(size))
        for at, row in enumerate(rows)
    ]
    for at in range(size):
        pivot = next(row for row in range(at, size) if matrix[row][at])
        matrix[at], matrix[pivot] = matrix[pivot], matrix[at]
        matrix[at] = matrix[at].translate(_times(_EXP[-_LOG[matrix[at][at]] % 255]))
        for row in range(size):
            if row != at and (factor := matrix[row][at]):
                scaled = int.from_bytes(matrix[at].translate(_times(factor)), "little")
                matrix[row] = (int.from_bytes(matrix[row], "little") ^ scaled).to_bytes(2 * size, "little")
    return [row[size:] for row in matrix]
