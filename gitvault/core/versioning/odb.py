"""Git objects, read: packs mapped into memory, deltas resolved here, loose objects.

Finds packs that appear or vanish while it is open, as `repack` makes them.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import read_plain
from gitvault.core.versioning.objects import KIND_CODES, object_id
from gitvault.core.versioning.packreader import MAX_OBJECT, OFS_DELTA, BaseCache, Pack
from gitvault.errors import ChecksumMismatch, ContentMissing, CorruptionError, GitVaultError

if TYPE_CHECKING:
    from gitvault.core.versioning.arrivals import Arrivals
    from gitvault.core.versioning.packfile import PackWriter

_CACHE = 64 << 20
# Objects that read_many puts in order at a time: 100 bytes of memory each.
_BATCH = 1 << 17
# Objects; smaller packs are looked up together (110 bytes each), for snapshots and remotes leave dozens of them.
_SMALL_PACK = 4096
# Ids that are noted for that in the time of one search in one pack.
_NOTED = 8


class ObjectStore:
    """The objects of one repository, for reading. Safe for several threads; close it, or use it as a context."""

    def __init__(self, objects: Path) -> None:
        """`objects`: the repository's folder of that name. Nothing is opened before the first question."""
        self._folder = objects
        self._cache = BaseCache(_CACHE)
        self._packs: tuple[Pack, ...] | None = None
        # Of the packs that it was made of: which of the small ones has an object. And searches in them without it.
        self._small: tuple[tuple[Pack, ...], Mapping[ObjectId, Pack]] = ((), {})
        self._searches = 0
        self._loose_folders: frozenset[int] = frozenset()
        self._damaged: tuple[CorruptionError, ...] = ()
        self._lock = threading.Lock()
        self.fetch: Callable[[str], bool] | None = None
        """Told of an id in hex, or how it begins, to bring such objects; whether it did. For a part of a repository."""
        self.arrivals: Arrivals | None = None
        """What is being brought without being asked for."""

    def refresh(self) -> None:
        """Look again at which packs and loose objects there are. A pack with a damaged index is left out."""
        with self._lock:
            known = {pack.path.name: pack for pack in self._packs or ()}
            names = {entry.name for entry in _scan(self._folder / "pack")}
            packs = []
            damaged = []
            for name in sorted(name for name in names if name.endswith(".idx") and name[:-4] + ".pack" in names):
                try:
                    packs.append(known.get(name[:-4] + ".pack") or Pack(self._folder / "pack" / name))
                except FileNotFoundError:
                    continue  # moved by a repack since the folder was read
                except CorruptionError as error:
                    damaged.append(error)
            self._loose_folders = frozenset(
                int(entry.name, 16) for entry in _scan(self._folder) if len(entry.name) == 2 and _is_hex(entry.name)
            )
            # Largest first: most lookups end in the main pack.
            self._damaged = tuple(damaged)
            found = tuple(sorted(packs, key=lambda pack: -pack.count))
            if found != self._packs:
                self._packs, self._searches = found, 0

    def damaged(self) -> tuple[CorruptionError, ...]:
        """What is wrong with packs that had to be left out at the last `refresh`."""
        self._known()
        return self._damaged

    def contains(self, oid: ObjectId) -> bool:
        """Whether the object was there at the last `refresh` (or when the first question was asked)."""
        small = self._small_packs(self._known(), 0)
        return (small is not None and oid in small) or next(self._places(oid), None) is not None or self._has_loose(oid)

    def read(self, oid: ObjectId, *, verify: bool = True) -> tuple[bytes, bytes]:
        """Kind and content of an object, its hash checked unless `verify` is false.

        Raises ContentMissing, CorruptionError, ChecksumMismatch. A damaged copy is passed over when there is another.
        """
        damage: list[CorruptionError] = []
        for attempt in range(3):
            if attempt == 2 and not (self.fetch and self.fetch(oid.hex())):
                break
            if attempt:
                self.refresh()
            try:
                for pack, offset in self._places(oid):
                    try:
                        return _checked(oid, *pack.read(offset, self._cache), verify=verify)
                    except CorruptionError as error:
                        damage.append(error)
                if (content := self._read_loose(oid)) is not None:
                    return _checked(oid, *content, verify=verify)
            except FileNotFoundError:
                continue  # a repack moved the pack away
        raise self._missing(oid, damage)

    def read_many(
        self,
        oids: Iterable[ObjectId],
        *,
        verify: bool = True,
        failed: Callable[[ObjectId, GitVaultError], None] | None = None,
    ) -> Iterator[tuple[ObjectId, bytes, bytes]]:
        """Id, kind and content of each object, once, in the order in which the packs hold them.

        `failed` is called for each object that is missing or damaged; without it, that raises as in `read`.
        """
        queue = iter(oids)
        while batch := set(islice(queue, _BATCH)):
            for pack, found in self._located(batch):
                for offset, oid in found:
                    # What does not go well here is left for `read`, which knows every way out.
                    with suppress(CorruptionError, FileNotFoundError):
                        content = _checked(oid, *pack.read(offset, self._cache), verify=verify)
                        batch.discard(oid)
                        yield oid, *content
            for oid in batch:
                try:
                    content = self.read(oid, verify=verify)
                except CorruptionError as error:
                    if failed is None:
                        raise
                    failed(oid, error)
                else:
                    yield oid, *content

    def by_pack(self, oids: Iterable[ObjectId]) -> Iterator[tuple[str, list[ObjectId]]]:
        """The objects in the order in which `read_many` reads them, pack by pack; those in none come last, with ""."""
        left = set(oids)
        for pack, places in self._located(left):
            found = [oid for _, oid in places]
            left.difference_update(found)
            if found:
                yield pack.path.name, found
        if left:
            yield "", list(left)

    def copy_many(self, oids: Iterable[ObjectId], writer: PackWriter) -> Iterator[ObjectId]:
        """Add objects to a pack; the id of each that was added.

        Each has the checksum of the index of the pack that it is in, or its hash was checked.

        They keep their streams, and stay deltas where the base is in that pack already; the others are packed anew.
        The pack may be finished in between. Raises as `read`, and StorageFullError.
        """
        from gitvault.core.versioning.redeflate import encode_distance, parse_entry

        queue = iter(oids)
        while batch := set(islice(queue, _BATCH)):
            for pack, found in self._located(batch):
                names = dict(found)
                for offset, oid in found:
                    try:
                        packed = pack.packed(offset)
                        # As git does when it copies. To inflate and hash each was a third of a push of 100,000 files.
                        is_sound = pack.is_as_packed(oid, packed)
                        _, head, base, body = parse_entry(packed, offset)
                        named = names.get(base) if isinstance(base, int) else base and ObjectId(base)
                        start = writer.start(named) if named else None
                        is_copied = base is None or start is not None
                        if not (is_sound and is_copied):
                            kind, data = _checked(oid, *pack.read(offset, self._cache), verify=True)
                    except (CorruptionError, FileNotFoundError, IndexError):
                        continue  # left for `read`, which knows every way out
                    if base is None:
                        writer.add_packed(oid, (packed,))
                    elif start is None:
                        writer.add(kind, data)
                    else:
                        head = bytes((head[0] & 0x8F | OFS_DELTA << 4, *head[1:]))
                        writer.add_packed(oid, (head, encode_distance(writer.size - start), packed[body:]))
                    batch.discard(oid)
                    yield oid
            for oid in batch:
                writer.add(*self.read(oid))
                yield oid

    def size(self, oid: ObjectId) -> int:
        """Length of the object's content. Raises ContentMissing, CorruptionError."""
        return self._ask(oid, Pack.size, lambda content: len(content[1]))

    def stored_size(self, oid: ObjectId) -> int:
        """Bytes that the object takes on disk. Raises ContentMissing, CorruptionError."""
        return self._ask(oid, Pack.stored_size, lambda _: self._loose_path(oid).stat().st_size)

    def find_prefix(self, prefix: str) -> list[ObjectId]:
        """The ids that begin with these hex digits (1 to 40), sorted. Raises GitVaultError when they are none."""
        prefix = prefix.lower()
        if not 1 <= len(prefix) <= 40 or not _is_hex(prefix):
            raise GitVaultError(f"{prefix!r}: not the beginning of an id; use hex digits")
        low = bytes.fromhex(prefix.ljust(40, "0"))
        high = bytes.fromhex(prefix.ljust(40, "f"))
        if self.fetch and not (len(prefix) == 40 and self.contains(ObjectId(low))):
            self.fetch(prefix)
        self.refresh()
        found = {oid for pack in self._known() for oid in pack.find_prefix(low, high)}
        for first in self._loose_folders & set(range(low[0], high[0] + 1)):
            for entry in _scan(self._folder / f"{first:02x}"):
                if len(entry.name) == 38 and _is_hex(entry.name):
                    found.add(ObjectId(bytes.fromhex(f"{first:02x}{entry.name}")))
        return sorted(oid for oid in found if low <= oid <= high)

    def close(self) -> None:
        """Unmap everything; the next question opens it again."""
        with self._lock:
            for pack in self._packs or ():
                pack.close()
            self._packs = None

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _known(self) -> tuple[Pack, ...]:
        if self._packs is None:
            self.refresh()
        return self._packs or ()

    def _places(self, oid: ObjectId) -> Iterator[tuple[Pack, int]]:
        """Each pack that has the object, and where it begins there."""
        known = self._known()
        small = self._small_packs(known, 1)
        noted = small.get(oid) if small is not None else None
        if noted and (offset := noted.find(oid)) is not None:
            yield noted, offset
        # The others are asked too when it is damaged there.
        for pack in known:
            if small is not None and not noted and pack.count <= _SMALL_PACK:
                return
            if pack is not noted and (offset := pack.find(oid)) is not None:
                yield pack, offset

    def _located(self, left: set[ObjectId]) -> Iterator[tuple[Pack, list[tuple[int, ObjectId]]]]:
        """Pack by pack, offset and id of those that it holds of these objects, which the caller takes out meanwhile."""
        known = self._known()
        small = self._small_packs(known, len(left))
        for pack in known:
            # The largest come first; of hundreds of small ones a few have what a folder wants.
            if small is not None and pack.count <= _SMALL_PACK:
                break
            yield pack, pack.find_many(left)
        wanted: dict[Pack, list[ObjectId]] = {}
        for oid in left:
            if noted := (small or {}).get(oid):
                wanted.setdefault(noted, []).append(oid)
        for pack, some in wanted.items():
            yield pack, pack.find_many(some)

    def _small_packs(self, known: tuple[Pack, ...], objects: int) -> Mapping[ObjectId, Pack] | None:
        """Which of the small packs has an object; None while noting that costs more than searches in each of them.

        `objects`: that will be looked for now.
        """
        noted = self._small
        if noted[0] is not known:
            # Where packs only came since, those before need not be noted again.
            before, ids = noted if set(noted[0]) <= set(known) else ((), {})
            small = [pack for pack in known if pack.count <= _SMALL_PACK and pack not in before]
            self._searches += objects * len(small)
            if self._searches * _NOTED < sum(pack.count for pack in small):
                return None
            noted = self._small = known, {**{oid: pack for pack in small for oid in pack.ids()}, **ids}
        return noted[1]

    def _ask(
        self, oid: ObjectId, of_pack: Callable[[Pack, int], int], of_loose: Callable[[tuple[bytes, bytes]], int]
    ) -> int:
        for attempt in range(2):
            if attempt:
                self.refresh()
            try:
                for pack, offset in self._places(oid):
                    return of_pack(pack, offset)
                if (content := self._read_loose(oid)) is not None:
                    return of_loose(content)
            except FileNotFoundError:
                continue
        raise self._missing(oid, [])

    def _missing(self, oid: ObjectId, damage: list[CorruptionError]) -> GitVaultError:
        """What says best why an object cannot be had: its own damage, a pack that may have held it, or nothing."""
        nothing = ContentMissing(f"object {oid.hex()}: not in {self._folder}; run git-vault verify")
        return next(iter((*damage, *self._damaged)), nothing)

    def _loose_path(self, oid: ObjectId) -> Path:
        digits = oid.hex()
        return self._folder / digits[:2] / digits[2:]

    def _has_loose(self, oid: ObjectId) -> bool:
        return oid[0] in self._loose_folders and self._loose_path(oid).is_file()

    def _read_loose(self, oid: ObjectId) -> tuple[bytes, bytes] | None:
        if not self._has_loose(oid):
            return None
        path = self._loose_path(oid)
        packed = read_plain(path, MAX_OBJECT)
        stream = zlib.decompressobj()
        try:
            head, _, content = stream.decompress(packed, 1 << 16).partition(b"\0")
            kind, _, digits = head.partition(b" ")
            size = int(digits) if digits.isdigit() and len(digits) < 12 else -1
            if kind in KIND_CODES and 0 <= size <= MAX_OBJECT:
                content += stream.decompress(stream.unconsumed_tail, max(size + 1 - len(content), 1))
                if len(content) == size and stream.eof:
                    return kind, content
        except zlib.error as error:
            raise CorruptionError(f"{path}: cannot be inflated ({error}); run git-vault verify --data") from error
        raise CorruptionError(f"{path}: malformed object; run git-vault verify --data")


def _checked(oid: ObjectId, kind: bytes, data: bytes, *, verify: bool) -> tuple[bytes, bytes]:
    if verify and (actual := object_id(kind, data)) != oid:
        raise ChecksumMismatch(f"{kind.decode()} {oid.hex()}", oid.hex(), actual.hex())
    return kind, data


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
