"""The reading side of the store: chunks by their id, decoded and verified."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gitvault.core.models import ChunkId
from gitvault.core.storage import frames, manifests
from gitvault.core.storage.index import ChunkIndex, Place
from gitvault.core.storage.packs import MAX_DICTIONARY, Chunk, Frame, Pack
from gitvault.core.utils.files import Disk
from gitvault.errors import ChecksumMismatch, ContentMissing, CorruptionError

# Longer chains than we write are a loop, or bait.
_MAX_CHAIN = 64
# Bytes decoded for one frame: seconds. Two frames a level, each coded against both below, would be 2 ** 64 of them.
_MAX_WORK = 8 << 30
# What finding, opening and decoding one of no length costs, in bytes decoded.
_FRAME_COST = 1 << 16
# Bytes of frames that are held for the pieces in them: small pieces of many large frames are copied instead.
_MAX_HELD = 256 << 20
# 14 million chunks: no file that fits on a disk has a longer one.
_MAX_MANIFEST = 1 << 30
# Eight of the longest that upkeep makes: several files that lie in one are often read at once.
_CACHE_BYTES = 64 << 20
_TURNS = 64

_T = TypeVar("_T")
# A frame: its pack's file, its number.
_Key = tuple[Path, int]


class ChunkReader:
    """Reads chunks wherever they lie: unflushed, in packs, in the trash. Safe to call from several threads."""

    def __init__(
        self,
        folder: Path,
        index: ChunkIndex,
        disk: Disk,
        find: Callable[[Collection[ChunkId]], dict[ChunkId, Place]] | None = None,
        *,
        trash: bool = True,
    ) -> None:
        """`find`: where chunks lie that the index does not know yet, and those it does. `trash`: look there too."""
        self._index = index
        self._find = find or index.find
        self._trash = ChunkIndex(folder / "trash", None, disk) if trash else None
        self._cache = _FrameCache(_CACHE_BYTES)
        self._rebuilt = False
        # Frames that could not be decoded: another copy of what is in them is tried first.
        self._bad: set[_Key] = set()

    def read(self, chunks: Sequence[ChunkId]) -> list[memoryview]:
        """The chunks' bytes, each of the right hash. Raises ContentMissing, CorruptionError."""
        return self._persist(lambda: self._read(chunks))

    def manifest(self, oid: str, parts: Sequence[ChunkId]) -> list[tuple[ChunkId, int]]:
        """The chunks of the file `oid`, whose manifest is `parts` joined. Raises ContentMissing, CorruptionError."""
        places = self._persist(lambda: self._places(set(parts), ()))
        # A chunk may stand in it as often as one likes.
        if (size := sum(places[part].length for part in parts)) > _MAX_MANIFEST:
            raise CorruptionError(f"manifest of {oid}: claims {size} bytes; run git-vault verify --data")
        return manifests.decode(b"".join(self.read(parts)), oid)

    def pieces(self, chunks: Sequence[ChunkId]) -> list[memoryview]:
        """The chunks' bytes in a row, in as few pieces as they lie in; whoever asks checks the hash of the whole.

        Raises ContentMissing, CorruptionError.
        """
        return self._persist(lambda: self._pieces(chunks))

    def mistrust(self) -> bool:
        """Something is missing, and the index may be what is wrong: make it anew; once is enough to know.

        Whether that was done now.
        """
        if self._rebuilt:
            return False
        self._rebuilt = True
        self._index.rebuild()
        return True

    def depth(self, place: Place) -> int:
        """How many frames the chunk's frame stands on, in a row. Raises ContentMissing, CorruptionError."""
        # Without decoding them: that was a tenth of a push's processor time, before anything was on its way.
        return self._persist(lambda: self._depth(place, (), {}))

    def _depth(self, place: Place, above: tuple[_Key, ...], known: dict[_Key, int]) -> int:
        if decoded := self._cache.get((place.pack, place.frame.number)):
            return decoded[1]
        key = _key(place.pack, place.frame)
        if place.frame.bases and key not in known:
            above = (*above, key)
            below = self._places(set(place.frame.bases), above).values()
            known[key] = 1 + max(self._depth(base, above, known) for base in below)
        return known.get(key, 0)

    def check_frame(self, pack: Pack, frame: Frame, chunks: Sequence[Chunk]) -> list[str]:
        """What is wrong with each of the frame's chunks, `""` for nothing."""
        try:
            data = memoryview(self._persist(lambda: self._decode(pack, frame))[0])
        except CorruptionError as error:
            return [str(error)] * len(chunks)
        return [
            "" if hashlib.sha256(data[chunk.inner : chunk.inner + chunk.length]).digest() == chunk.id else "wrong hash"
            for chunk in chunks
        ]

    def locate(self, chunks: Collection[ChunkId], above: tuple[_Key, ...] = ()) -> dict[ChunkId, Place]:
        """Where to read the chunks; `above`: the frames, by their pack's file and number, that stand on them.

        Raises ContentMissing, CorruptionError.
        """
        return self._persist(lambda: self._places(set(chunks), above))

    def stored(self, pack: Pack, frame: Frame, chunks: Sequence[Chunk]) -> tuple[bytes, int]:
        """A frame as it is stored, when that decodes to chunks of the right hash, or is what was `proven` to; and what
        it is `proven` by.

        Raises CorruptionError, OSError.
        """
        if frame.proven is not None:
            with suppress(CorruptionError, FileNotFoundError):
                if frames.checksum(stored := pack.read(frame)) == frame.proven:
                    return stored, frame.proven
        dictionary, depth = self._persist(lambda: self._dictionary(pack, frame, (), _Work()))
        try:
            stored = pack.read(frame)
            data = frames.decompress(stored, frame.length, dictionary)
            _check(pack, data, chunks)
        except CorruptionError:
            self._bad.add(_key(pack, frame))
            raise
        self._cache.put((pack, frame.number), (data, depth))
        return stored, frames.checksum(stored)

    def decode(self, pack: Pack, frame: Frame, chunks: Sequence[Chunk]) -> tuple[bytes, bytes]:
        """A frame's bytes, each chunk of the right hash, and the dictionary it is coded against, or nothing."""
        data, _ = self._persist(lambda: self._decode(pack, frame))
        _check(pack, data, chunks)
        return data, self._persist(lambda: self._dictionary(pack, frame, (), _Work()))[0]

    def forget(self) -> None:
        """Drop decoded frames."""
        self._cache.clear()

    def close(self) -> None:
        """Release what is held."""
        if self._trash is not None:
            self._trash.close()

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        """Upkeep may have moved the packs, a copy may be damaged, and the index may be wrong."""
        while True:
            changes, bad = self._index.changes, len(self._bad)
            try:
                return attempt()
            except CorruptionError:
                self._index.refresh(force=True)
                if self._index.changes != changes or len(self._bad) != bad:
                    continue
                if not self.mistrust():
                    raise

    def _pieces(self, chunks: Sequence[ChunkId]) -> list[memoryview]:
        places = self._places(set(chunks), ())
        found: list[memoryview] = []
        data, start, stop, held = b"", 0, 0, 0
        for chunk in chunks:
            place = places[chunk]
            frame = self._decode(place.pack, place.frame)[0]
            if frame is data and place.inner == stop:
                found[-1] = memoryview(data)[start : stop + place.length]
            else:
                held += len(frame) if frame is not data else 0
                if held > _MAX_HELD:
                    found, held = [memoryview(bytes(piece)) for piece in found], len(frame)
                data, start = frame, place.inner
                found.append(memoryview(data)[start : start + place.length])
            stop = place.inner + place.length
        return found

    def _read(self, chunks: Sequence[ChunkId]) -> list[memoryview]:
        places = self._places(set(chunks), ())
        found: list[memoryview] = []
        held = 0
        for chunk in chunks:
            place = places[chunk]
            frame = self._decode(place.pack, place.frame)[0]
            held += len(frame)
            if held > _MAX_HELD:
                found, held = [memoryview(bytes(piece)) for piece in found], len(frame)
            data = memoryview(frame)[place.inner : place.inner + place.length]
            if (actual := hashlib.sha256(data).digest()) != chunk:
                self._bad.add(_key(place.pack, place.frame))
                raise ChecksumMismatch(f"chunk in {place.pack.path.name}", chunk.hex(), actual.hex())
            found.append(data)
        return found

    def _places(self, chunks: Collection[ChunkId], above: tuple[_Key, ...]) -> dict[ChunkId, Place]:
        """Where to read the chunks; `above`: the frames that stand on them, which they must not lie in."""
        if len(above) > _MAX_CHAIN:
            raise CorruptionError(f"more than {_MAX_CHAIN} frames stand on each other; run git-vault verify --data")
        found = self._find(chunks)
        if len(found) < len(chunks):
            self._index.refresh(force=True)
            found |= self._index.find([chunk for chunk in chunks if chunk not in found])
        if len(found) < len(chunks) and self._trash is not None:
            found |= self._trash.find([chunk for chunk in chunks if chunk not in found])
        for chunk in chunks:
            if chunk not in found:
                for error in self._index.unreadable.values():
                    raise error
                raise ContentMissing(f"chunk {chunk.hex()}: in no pack; run git-vault verify")
        if above or self._bad:
            avoided = self._bad.union(above)
            for chunk, place in found.items():
                if _key(place.pack, place.frame) in avoided:
                    found[chunk] = self._another(chunk, place, avoided)
        return found

    def _another(self, chunk: ChunkId, place: Place, avoided: set[_Key]) -> Place:
        """A copy of the chunk in none of the frames `avoided`; `place` where there is none."""
        others = self._index.places(chunk) + (self._trash.places(chunk) if self._trash else [])
        return next((other for other in others if _key(other.pack, other.frame) not in avoided), place)

    def _decode(
        self, pack: Pack, frame: Frame, above: tuple[_Key, ...] = (), work: _Work | None = None
    ) -> tuple[bytes, int]:
        key = pack, frame.number
        known = self._cache.get(key)
        if known is not None:
            return known
        if frame.bases:
            # No turns here: two damaged frames that stand on each other would wait for each other.
            return self._decode_now(pack, frame, above, work or _Work())
        with self._cache.turn(key):
            return self._cache.get(key) or self._decode_now(pack, frame, above, work or _Work())

    def _decode_now(self, pack: Pack, frame: Frame, above: tuple[_Key, ...], work: _Work) -> tuple[bytes, int]:
        try:
            dictionary, depth = self._dictionary(pack, frame, above, work)
            work.add(len(dictionary) + frame.length)
            try:
                data = frames.decompress(pack.read(frame), frame.length, dictionary)
            except CorruptionError as error:
                raise CorruptionError(f"{pack.path.name}: frame {frame.number} at {frame.offset}: {error}") from error
            except FileNotFoundError as error:
                raise ContentMissing(f"{pack.path.name}: the pack is gone; run git-vault verify") from error
        except CorruptionError:
            self._bad.add(_key(pack, frame))
            raise
        self._cache.put((pack, frame.number), (data, depth))
        return data, depth

    def _dictionary(self, pack: Pack, frame: Frame, above: tuple[_Key, ...], work: _Work) -> tuple[bytes, int]:
        """The joined bases of a frame, and how many frames it stands on in a row."""
        if not frame.bases:
            return b"", 0
        above = (*above, _key(pack, frame))
        places = self._places(set(frame.bases), above)
        if sum(places[base].length for base in frame.bases) > MAX_DICTIONARY:
            raise CorruptionError(f"{pack.path.name}: frame {frame.number} has bases of more than 64 MiB")
        parts = []
        depth = 0
        for base in frame.bases:
            place = places[base]
            data, below = self._decode(place.pack, place.frame, above, work)
            parts.append(memoryview(data)[place.inner : place.inner + place.length])
            depth = max(depth, below + 1)
        return b"".join(parts), depth


def _check(pack: Pack, data: bytes, chunks: Sequence[Chunk]) -> None:
    for chunk in chunks:
        actual = hashlib.sha256(memoryview(data)[chunk.inner : chunk.inner + chunk.length]).digest()
        if actual != chunk.id:
            raise ChecksumMismatch(f"chunk in {pack.path.name}", chunk.id.hex(), actual.hex())


@dataclass(slots=True)
class _Work:
    """What was done so far for one frame and those it stands on."""

    bytes: int = 0

    def add(self, size: int) -> None:
        self.bytes += size + _FRAME_COST
        if self.bytes > _MAX_WORK:
            raise CorruptionError(f"its bases take more than {_MAX_WORK >> 30} GiB to decode")


def _key(pack: Pack, frame: Frame) -> _Key:
    return pack.path, frame.number


class _FrameCache:
    """The frames decoded last, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[Pack, int], tuple[bytes, int]] = OrderedDict()
        self._turns = [threading.Lock() for _ in range(_TURNS)]

    def turn(self, key: tuple[Pack, int]) -> threading.Lock:
        """For whoever decodes the frame: the others wait and find it here. Nobody takes a second one meanwhile."""
        return self._turns[hash(key) % _TURNS]

    def get(self, key: tuple[Pack, int]) -> tuple[bytes, int] | None:
        with self._lock:
            found = self._frames.get(key)
            if found is not None:
                self._frames.move_to_end(key)
            return found

    def put(self, key: tuple[Pack, int], value: tuple[bytes, int]) -> None:
        with self._lock:
            if key not in self._frames:
                self._frames[key] = value
                self._size += len(value[0])
            while self._size > self._limit and len(self._frames) > 1:
                self._size -= len(self._frames.popitem(last=False)[1][0])

    def clear(self) -> None:
        with self._lock:
            self._frames.clear()
            self._size = 0
