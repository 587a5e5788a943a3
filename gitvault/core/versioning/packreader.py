"""One git pack, read: its version 2 index, plain objects and both kinds of deltas.

Everything in the files is treated as untrusted: sizes are bounded before anything is allocated and
whatever does not add up raises CorruptionError.
"""

from __future__ import annotations

import itertools
import mmap
import struct
import sys
import threading
import zlib
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, cast
from weakref import WeakSet

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import open_plain
from gitvault.core.versioning.objects import KIND_CODES
from gitvault.errors import CorruptionError

_INFLATE_ERRORS: tuple[type[Exception], ...] = (zlib.error,)
try:
    from isal.isal_zlib import IsalError, crc32, decompressobj

    # The cast: isal's stubs take the class for an instance.
    _INFLATE_ERRORS += (cast("type[Exception]", IsalError),)
except ImportError:  # as in packfile
    from zlib import crc32, decompressobj  # type: ignore[assignment]
_DELTA_HEADER_ERRORS: tuple[type[Exception], ...] = (*_INFLATE_ERRORS, IndexError)

_KINDS = {code: kind for kind, code in KIND_CODES.items()}
OFS_DELTA = 6
REF_DELTA = 7
MAX_OBJECT = 1 << 31
"""Bytes; a larger object was not written by gitvault, which puts everything over 16 MiB into the chunk store."""
# git makes chains of at most 4095.
_MAX_DEPTH = 5000
# Bytes that one chain may make: a few seconds' work. 100 bytes of delta can ask for MAX_OBJECT.
_MAX_WORK = 16 << 30
# Bytes of delta between two times that what they make is joined: 2 bytes can make an object of 40.
_JOINED = 1 << 16
# Deflated bytes that are looked at at a time when a stream is longer than a sound one.
_PIECE = 1 << 20
MAX_INFLATION = 1032
"""No deflate stream grows by more."""
PARTIAL = "part-"
"""How the name of an index begins that says of some objects alone where they are, see packindex.partial_index."""
_serials = itertools.count()
# An index up to this size is read, not mapped: a mapping costs a file descriptor for as long as it lives.
_READ_INDEX = 4 << 20
# Objects in the tables of all packs, each made once many of its objects were looked for: a search takes 12 us where the
# table answers in one, and 150 bytes of memory an object.
_TABLES = 1 << 18
_WORTH_IT = 16
_FANOUT = 8
_IDS = _FANOUT + 1024


def read_header(data: bytes | mmap.mmap, at: int, end: int) -> tuple[int, int, int]:
    """Type and size of the object at `at`, and where the rest begins; `end`: that of all objects. Raises ValueError."""
    byte = data[at]
    code = byte >> 4 & 7
    size = byte & 15
    shift = 4
    at += 1
    while byte & 128:
        byte = data[at]
        size |= (byte & 127) << shift
        shift += 7
        at += 1
        if at >= end or shift > 60:
            raise ValueError("malformed header")
    if size > MAX_OBJECT or size > (end - at) * MAX_INFLATION:
        raise ValueError(f"claims {size} bytes, which its pack cannot hold")
    return code, size, at


class BaseCache:
    """What was read last from packs with deltas, by (pack's serial, offset), up to `limit` bytes. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._items: OrderedDict[tuple[int, int], tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> tuple[bytes, bytes] | None:
        """The object's kind and content if it is kept."""
        with self._lock:
            item = self._items.get(key)
            if item is not None:
                self._items.move_to_end(key)
            return item

    def put(self, key: tuple[int, int], item: tuple[bytes, bytes]) -> None:
        """Keep an object, dropping the ones unused for longest. A large one would drop too many and is not kept."""
        if len(item[1]) > self._limit >> 3:
            return
        with self._lock:
            if key in self._items:
                return
            self._items[key] = item
            self._bytes += len(item[1])
            while self._bytes > self._limit:
                self._bytes -= len(self._items.popitem(last=False)[1][1])


class Pack:
    """A pack and its index; the pack itself is mapped when the first object is read. Safe for several threads."""

    _tabled: ClassVar[WeakSet[Pack]] = WeakSet()
    """Those with a table."""

    def __init__(self, index: Path, damaged: Path | None = None) -> None:
        """`damaged`: the pack, when its ends need not fit the index; what is read of it wants its hash checked.

        Raises CorruptionError, FileNotFoundError.
        """
        self.path = damaged or index.with_suffix(".pack")
        self._lenient = damaged is not None
        self._is_partial = index.name.startswith(PARTIAL)
        self._serial = next(_serials)
        self._index = _load(index, _READ_INDEX)
        if self._index[:8] != b"\xfftOc\x00\x00\x00\x02" or len(self._index) < _IDS + 40:
            raise self._damaged("not a version 2 pack index")
        self._fanout = _from_big_endian("I", self._index[_FANOUT:_IDS])
        self.count = self._fanout[255]
        self._crcs = _IDS + 20 * self.count
        self._offsets = self._crcs + 4 * self.count
        self._large = self._offsets + 4 * self.count
        large = len(self._index) - 40 - self._large
        if (
            large < 0
            or large % 8
            or large > 8 * self.count
            or any(a > b for a, b in zip(self._fanout, self._fanout[1:], strict=False))
        ):
            raise self._damaged("size and fan-out table do not fit together")
        self._data: mmap.mmap | None = None
        self._sorted: array[int] | None = None
        self._searches = 0
        self._table: dict[bytes, int] | None = None
        self._lock = threading.Lock()
        self._has_deltas = False

    def find(self, oid: bytes) -> int | None:
        """Where the object begins in the pack; None when the pack does not hold it."""
        position = self._position(oid)
        return None if position is None else self._offset(position)

    def is_as_packed(self, oid: bytes, packed: bytes) -> bool:
        """Whether what the pack holds of an object, see `packed`, has the CRC-32 that the index says."""
        position = self._position(oid)
        if position is None:
            return False
        at = self._crcs + 4 * position
        return crc32(packed) == int.from_bytes(self._index[at : at + 4], "big")

    def _position(self, oid: bytes) -> int | None:
        if self._table is not None:
            return self._table.get(oid)
        self._searches += 1
        if self._searches * _WORTH_IT > self.count and self._has_room():
            Pack._tabled.add(self)
            self._table = {oid: position for position, oid in enumerate(self.ids())}
        first = oid[0]
        low = self._fanout[first - 1] if first else 0
        high = self._fanout[first]
        index = self._index
        while low < high:
            middle = (low + high) >> 1
            at = _IDS + 20 * middle
            found = index[at : at + 20]
            if found < oid:
                low = middle + 1
            elif found == oid:
                return middle
            else:
                high = middle
        return None

    def _has_room(self) -> bool:
        # Not asked again at each search that follows.
        self._searches = 0
        return self.count + sum(pack.count for pack in list(Pack._tabled)) <= _TABLES

    def find_many(self, oids: Iterable[ObjectId]) -> list[tuple[int, ObjectId]]:
        """Offset and id of those that the pack holds, sorted by offset."""
        found: list[tuple[int, ObjectId]] = []
        buckets: dict[int, list[ObjectId]] = {}
        for oid in oids:
            buckets.setdefault(oid[0], []).append(oid)
        for first, wanted in buckets.items():
            low = self._fanout[first - 1] if first else 0
            if self._table is not None or len(wanted) * 8 < self._fanout[first] - low:
                found += [(offset, oid) for oid in wanted if (offset := self.find(oid)) is not None]
                continue
            # One pass over the bucket costs 0.2 us an id, a search in it 2 to 3 us.
            positions = {oid: position for position, oid in enumerate(self.ids(first, first), low)}
            found += [(self._offset(positions[oid]), oid) for oid in wanted if oid in positions]
        found.sort()
        return found

    def find_prefix(self, low: bytes, high: bytes) -> Iterator[ObjectId]:
        """The ids from `low` to `high` (20 bytes each, both included)."""
        for oid in self.ids(low[0], high[0]):
            if low <= oid <= high:
                yield oid

    def ids(self, first: int = 0, last: int = 255) -> Iterator[ObjectId]:
        """Every id whose first byte lies in the range, sorted."""
        start = self._fanout[first - 1] if first else 0
        for at in range(_IDS + 20 * start, _IDS + 20 * self._fanout[last], 20):
            yield ObjectId(self._index[at : at + 20])

    def read(self, offset: int, cache: BaseCache) -> tuple[bytes, bytes]:
        """Kind and content of the object at `offset`. Raises CorruptionError, FileNotFoundError."""
        code, size, at = self._header(offset)
        if code in _KINDS:
            content = _KINDS[code], self._inflate(at, size)
            if self._has_deltas:
                cache.put((self._serial, offset), content)
            return content
        self._has_deltas = True
        chain: list[tuple[int, int, int]] = []
        while True:
            known = cache.get((self._serial, offset))
            if known is not None:
                break
            code, size, at = self._header(offset)
            if code in _KINDS:
                known = _KINDS[code], self._inflate(at, size)
                cache.put((self._serial, offset), known)
                break
            base, at = self._base(code, offset, at)
            chain.append((offset, at, size))
            if len(chain) > _MAX_DEPTH:
                raise self._damaged(f"the deltas at {offset} go round in circles")
            offset = base
        kind, data = known
        room = _MAX_WORK
        while chain:
            offset, at, size = chain.pop()
            try:
                data = apply_delta(data, self._inflate(at, size))
                room -= len(data) + size
                if room < 0:
                    raise CorruptionError(f"its deltas make more than {_MAX_WORK >> 30} GiB on the way")
            except CorruptionError as error:
                raise self._damaged(f"object at {offset}: {error}") from error
            cache.put((self._serial, offset), (kind, data))
        return kind, data

    def size(self, offset: int) -> int:
        """Length of the object's content, without reading all of it. Raises CorruptionError."""
        code, size, at = self._header(offset)
        if code in _KINDS:
            return size
        _, at = self._base(code, offset, at)
        # The delta's own header: two numbers of at most 10 bytes each.
        try:
            head = decompressobj().decompress(self._mapped()[at : at + 512], 20)
            return _number(head, _number(head, 0)[1])[0]
        except _DELTA_HEADER_ERRORS as error:
            raise self._damaged(f"object at {offset}: delta without sizes") from error

    def stored_size(self, offset: int) -> int:
        """Bytes that the object takes in the pack."""
        if self._sorted is None:
            self._sorted = array("Q", sorted(self._offset(i) for i in range(self.count)))
        following = bisect_right(self._sorted, offset)
        end = self._sorted[following] if following < self.count else len(self._mapped()) - 20
        return end - offset

    def packed(self, offset: int) -> bytes:
        """The object as the pack holds it: header, base, stream."""
        return self._mapped()[offset : offset + self.stored_size(offset)]

    def entries(self) -> Iterator[tuple[int, int, ObjectId]]:
        """Where each object begins, where it ends, and its id, as they lie in the pack. Raises CorruptionError."""
        offsets = array("Q", (self._offset(position) for position in range(self.count)))
        order = array("I", sorted(range(self.count), key=offsets.__getitem__))
        ends = itertools.chain((offsets[position] for position in order[1:]), (len(self._mapped()) - 20,))
        for position, end in zip(order, ends, strict=False):
            at = _IDS + 20 * position
            yield offsets[position], end, ObjectId(self._index[at : at + 20])

    def close(self) -> None:
        """Unmap; nothing can be read afterwards."""
        self._table = None
        Pack._tabled.discard(self)
        if self._data is not None:
            self._data.close()
            self._data = None
        if isinstance(self._index, mmap.mmap):
            self._index.close()

    def _offset(self, position: int) -> int:
        at = self._offsets + 4 * position
        offset = int.from_bytes(self._index[at : at + 4], "big")
        if offset & 0x80000000:
            at = self._large + 8 * (offset & 0x7FFFFFFF)
            if at + 8 > len(self._index) - 40:
                raise self._damaged("an offset lies beyond its table")
            offset = int.from_bytes(self._index[at : at + 8], "big")
        return offset

    def _mapped(self) -> mmap.mmap:
        data = self._data
        if data is None:
            with self._lock:
                data = self._data
                if data is None:
                    data = self._data = self._open()
        return data

    def _open(self) -> mmap.mmap:
        data = _map(self.path)
        if not self._lenient and (
            data[:8] != b"PACK\x00\x00\x00\x02"
            or (int.from_bytes(data[8:12], "big") != self.count and not self._is_partial)
            or len(data) < 32
            or data[-20:] != self._index[-40:-20]
        ):
            data.close()
            raise self._damaged("pack and index do not belong together")
        return data

    def _header(self, offset: int) -> tuple[int, int, int]:
        """Type, size and where the rest begins."""
        data = self._data or self._mapped()
        end = len(data) - 20
        if not 12 <= offset < end:
            raise self._damaged(f"offset {offset} lies outside")
        try:
            return read_header(data, offset, end)
        except ValueError as error:
            raise self._damaged(f"object at {offset}: {error}") from error

    def _base(self, code: int, offset: int, at: int) -> tuple[int, int]:
        """Offset of a delta's base, and where the delta begins."""
        data = self._mapped()
        if code == REF_DELTA:
            base = self.find(data[at : at + 20])
            if base is None:
                raise self._damaged(f"object at {offset}: its base {data[at : at + 20].hex()} is not in the pack")
            return base, at + 20
        if code != OFS_DELTA:
            raise self._damaged(f"object at {offset}: unknown type {code}")
        byte = data[at]
        distance = byte & 127
        while byte & 128:
            at += 1
            byte = data[at]
            distance = (distance + 1) << 7 | byte & 127
            if distance > offset:
                break
        base = offset - distance
        if not 12 <= base < offset:
            raise self._damaged(f"object at {offset}: its base lies outside")
        return base, at + 1

    def _inflate(self, at: int, size: int) -> bytes:
        data = self._data or self._mapped()
        # Never more input than a sound stream of this size takes; what is left over would be copied.
        end = at + size + (size >> 8) + 64
        stream = decompressobj()
        try:
            content = stream.decompress(data[at:end], size + 1)
            if not stream.eof and len(content) <= size:
                content += self._rest(stream, end, size + 1 - len(content))
        except _INFLATE_ERRORS as error:
            raise self._damaged(f"object behind byte {at} cannot be inflated ({error})") from error
        if len(content) != size or not stream.eof:
            raise self._damaged(f"object behind byte {at}: expected {size} bytes, found {len(content)} or more")
        return content

    def _rest(self, stream: Any, at: int, room: int) -> bytes:
        """Up to `room` bytes more of a stream that is longer than a sound one; its input goes on at `at`."""
        data = self._mapped()
        stop = len(data) - 20
        parts: list[bytes] = []
        while not stream.eof and room > 0 and at < stop:
            parts.append(stream.decompress(stream.unconsumed_tail + data[at : min(at + _PIECE, stop)], room))
            room -= len(parts[-1])
            at += _PIECE
        return b"".join(parts)

    def _damaged(self, what: str) -> CorruptionError:
        return CorruptionError(f"{self.path}: {what}; run git-vault verify --data")


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """The object that a git delta makes of `base`. Raises CorruptionError."""
    try:
        return _apply_delta(base, delta)
    except (IndexError, struct.error) as error:
        raise CorruptionError("delta ends in the middle of an instruction") from error


def _apply_delta(base: bytes, delta: bytes) -> bytes:
    expected, at = _number(delta, 0)
    size, at = _number(delta, at)
    end = len(delta)
    base_size = len(base)
    if expected != base_size:
        raise CorruptionError(f"delta expects a base of {expected} bytes, found {base_size}")
    if size > MAX_OBJECT:
        raise CorruptionError(f"delta claims to make {size} bytes")
    parts: list[bytes] = []
    joined: list[bytes] = []
    following = at + _JOINED
    room = size
    while at < end:
        if at > following:
            joined.append(b"".join(parts))
            parts.clear()
            following = at + _JOINED
        code = delta[at]
        at += 1
        if code & 128:
            if code in _COMMON_COPIES:
                unpack, width = _COMMON_COPIES[code]
                start, length = unpack(delta, at)
                at += width
            else:
                start, length, at = _copy(delta, code, at)
            length = length or 0x10000
            room -= length
            if room < 0 or start + length > base_size:
                raise CorruptionError("delta copies from beyond its base or makes too much")
            parts.append(base[start : start + length])
        elif code:
            room -= code
            parts.append(delta[at : at + code])
            at += code
        else:
            raise CorruptionError("delta holds an unknown instruction")
    if room or at != end:
        raise CorruptionError(f"delta should make {size} bytes, it makes {size - room}")
    return b"".join(joined + parts)


# Five of six copies give both numbers in one or two bytes each; unpacking those at once is 1.5x faster.
_COMMON_COPIES = {
    code: (struct.Struct(form).unpack_from, struct.calcsize(form))
    for code, form in ((0x91, "<BB"), (0x93, "<HB"), (0xB1, "<BH"), (0xB3, "<HH"))
}


def _copy(delta: bytes, code: int, at: int) -> tuple[int, int, int]:
    """Start and length of a copy instruction, each bit of `code` saying that a byte of them follows; where it ends."""
    numbers = 0
    for bit in range(7):
        if code >> bit & 1:
            numbers |= delta[at] << 8 * bit
            at += 1
    return numbers & 0xFFFFFFFF, numbers >> 32, at


def _number(delta: bytes, at: int) -> tuple[int, int]:
    """A number of the delta's header, and where the next one begins."""
    value = shift = 0
    while True:
        byte = delta[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            return value, at
        if shift > 63:
            raise CorruptionError("delta with a malformed size")


def _load(path: Path, limit: int) -> bytes | mmap.mmap:
    with open_plain(path, buffering=0) as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else _map(path)


def _map(path: Path) -> mmap.mmap:
    with open_plain(path, buffering=0) as file:
        try:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise CorruptionError(f"{path}: empty; run git-vault verify --data") from error


def _from_big_endian(kind: str, raw: bytes) -> array[int]:
    values = array(kind, raw)
    if sys.byteorder == "little":
        values.byteswap()
    return values
