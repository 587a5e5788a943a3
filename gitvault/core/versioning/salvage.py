"""What can be had from the git side when files of it are damaged: objects of packs, commits without a ref.

Nothing here is believed but an object's own hash.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import ObjectId
from gitvault.core.utils.files import open_plain
from gitvault.core.utils.names import from_text
from gitvault.core.utils.process import git
from gitvault.core.versioning import commits
from gitvault.core.versioning.objects import (
    MODE_TREE,
    Commit,
    decode_commit,
    decode_tree,
    object_id,
    parse_message,
)
from gitvault.core.versioning.packfile import encode_index
from gitvault.core.versioning.packreader import OFS_DELTA, REF_DELTA, BaseCache, Pack
from gitvault.errors import CorruptionError, GitVaultError, NotFoundError

if TYPE_CHECKING:
    from gitvault.core.utils.files import Disk
    from gitvault.core.versioning.history import GitHistory
    from gitvault.core.versioning.odb import ObjectStore

_CACHE = 64 << 20
# A commit that was stored as a delta is short; whatever is longer is not worth reading to find out.
_LONGEST_COMMIT = 64 << 10
_PIECE = 1 << 16


def is_sound(pack: Path) -> bool:
    """Whether a pack's bytes are what its checksum, and so its name, says."""
    try:
        found, said, _ = _checksum(pack)
    except (OSError, CorruptionError):
        return False
    return bool(said) and found == said


def fits(index: Path, pack: Path) -> bool:
    """Whether an index's bytes are what its checksum says, and it is the pack's."""
    try:
        found, said, before = _checksum(index)
        return bool(said) and found == said and before == _checksum(pack)[1]
    except (OSError, CorruptionError):
        return False


def make_index(pack: Path, temporary: Path) -> bytes:
    """The index of a sound pack, by git, which writes `temporary`. Raises ToolMissing, ToolFailed."""
    # In no repository: there it compares each object with those of other packs, which may be damaged too.
    git(pack.parent, "-c", "pack.writeReverseIndex=false", "index-pack", "-o", temporary, pack)
    return temporary.read_bytes()


def readable(pack: Path, index: Path, temporary: Path, disk: Disk) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of every object that a damaged pack still gives, told where to look by whatever is left.

    `temporary`: for an index of what is found in the pack itself, when its own cannot be used. The caller checks ids.
    """
    opened: Pack | None = None
    with suppress(CorruptionError, FileNotFoundError):
        opened = Pack(index, pack)
    if opened is None or not fits(index, pack):
        # Both may be damaged: what one of them knows the other may not.
        places = {ObjectId(offset.to_bytes(20, "big")): offset << 32 for offset in _scan(pack.read_bytes())}
        disk.unlink(temporary)
        with disk.create(temporary) as file:
            file.write(encode_index(places, bytes(20)))
        yield from _objects(Pack(temporary, pack))
    if opened is not None:
        yield from _objects(opened)


def fetch(
    history: GitHistory, wanted: Iterable[ObjectId], sources: Iterable[Callable[[ObjectId], tuple[bytes, bytes] | None]]
) -> dict[ObjectId, int]:
    """Add objects that are missing, and what is missing below them, from `sources`; which source each came from.

    Durable when it returns.
    """
    got: dict[ObjectId, int] = {}
    pending = list(wanted)
    asked: set[ObjectId] = set()
    pack = history.new_pack()
    tried = list(sources)
    try:
        while pending:
            oid = pending.pop()
            if oid in asked:
                continue
            asked.add(oid)
            with suppress(CorruptionError, NotFoundError):
                # One that is there is wanted for what is missing below it.
                pending += (b for b in _below(*history.objects.read(oid)) if not history.objects.contains(b))
                continue
            for number, source in enumerate(tried):
                found = source(oid)
                if found is not None and object_id(*found) == oid:
                    pack.add(*found)
                    got[oid] = number
                    pending += (below for below in _below(*found) if not history.objects.contains(below))
                    break
        made = pack.finish()
    except BaseException:
        pack.abandon()
        raise
    if made:
        history.publish([made])
    return got


def from_store(objects: ObjectStore) -> Callable[[ObjectId], tuple[bytes, bytes] | None]:
    """A source for `fetch`."""

    def read(oid: ObjectId) -> tuple[bytes, bytes] | None:
        with suppress(CorruptionError, NotFoundError, OSError):
            return objects.read(oid)
        return None

    return read


def all_commits(objects: ObjectStore, folder: Path) -> dict[ObjectId, Commit]:
    """Every commit in the packs of `folder`, whether a ref leads to it or not."""
    found: dict[ObjectId, Commit] = {}
    for index in sorted(folder.glob("*.idx")):
        with suppress(CorruptionError, FileNotFoundError), closing(Pack(index)) as pack:
            for offset, _, oid in pack.entries():
                with suppress(GitVaultError, OSError):
                    if pack.size(offset) <= _LONGEST_COMMIT:
                        kind, data = objects.read(oid)
                        if kind == b"commit":
                            found[oid] = decode_commit(data)
    return found


def reachable(objects: ObjectStore, tips: Iterable[ObjectId]) -> Iterator[ObjectId]:
    """All objects that refs lead to, with the commits of the meta chain that snapshots name; not what is lost."""
    pending = [(tip, False) for tip in tips]
    seen: set[ObjectId] = set()
    while pending:
        oid, is_blob = pending.pop()
        if oid in seen or not objects.contains(oid):
            continue
        seen.add(oid)
        yield oid
        if is_blob:
            continue
        with suppress(CorruptionError):
            kind, data = objects.read(oid)
            if kind == b"tree":
                pending += ((below, mode != MODE_TREE) for _, mode, below in decode_tree(data))
            elif kind == b"tag":
                pending.append((ObjectId(bytes.fromhex(data[7:47].decode())), False))
            else:
                pending += ((below, False) for below in _below(kind, data))


def project_of(commit: Commit) -> str | None:
    """The project that a snapshot is of; None for a commit that is no snapshot."""
    said = dict(parse_message(commit.message)[1]).get("Vault-Project")
    if said is None or commits.meta_commit(commit) is None:
        return None
    return from_text(said).decode("utf-8", "surrogateescape")


def newest(found: dict[ObjectId, Commit]) -> ObjectId | None:
    """The commit that was made last: of those of the last second the one that no other follows."""
    if not found:
        return None
    followed = {parent for commit in found.values() for parent in commit.parents}
    return max(found, key=lambda oid: (found[oid].committer.time, oid not in followed, oid))


def _checksum(path: Path) -> tuple[bytes, bytes, bytes]:
    """SHA-1 of all but the last 20 bytes, those 20, and the 20 before."""
    with open_plain(path) as file:
        size = file.seek(0, 2)
        if size < 40:
            return b"", b"", b""
        file.seek(0)
        digest = hashlib.sha1(usedforsecurity=False)
        left = size - 20
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
        said = file.read(20)
        file.seek(size - 40)
        return digest.digest(), said, file.read(20)


def _below(kind: bytes, data: bytes) -> list[ObjectId]:
    with suppress(CorruptionError):
        if kind == b"tree":
            return [oid for _, _, oid in decode_tree(data)]
        if kind == b"commit":
            commit = decode_commit(data)
            meta = commits.meta_commit(commit)
            return [commit.tree, *commit.parents, *([meta] if meta else [])]
    return []


def _objects(pack: Pack) -> Iterator[tuple[bytes, bytes]]:
    cache = BaseCache(_CACHE)
    try:
        places = list(pack.entries())
    except CorruptionError:
        # Nothing is left of the pack, or the index leads beyond itself.
        places = []
    for offset, _, _ in places:
        with suppress(CorruptionError, IndexError):
            yield pack.read(offset, cache)
    pack.close()


_STREAM = re.compile(rb"\x78[\x01\x5e\x9c\xda]")


def _scan(data: bytes) -> Iterator[int]:
    """Where objects begin in a pack of which nothing is known: one behind the other, and again after damage."""
    at = 12
    while at < len(data) - 20:
        end = _end(data, at)
        if end:
            yield at
            at = end
            continue
        # The next thing that looks like a deflate stream, and what may be a header before it.
        stream = _STREAM.search(data, at + 1)
        if not stream:
            return
        starts = range(max(at + 1, stream.start() - 12), stream.start())
        fitting = (start for start in starts if _header(data, start) == stream.start() and _end(data, start))
        at = next(fitting, max(at + 1, stream.start()))


def _header(data: bytes, at: int) -> int:
    """Where the deflate stream of the object at `at` begins; 0 when there is no object."""
    with suppress(IndexError):
        byte = data[at]
        kind = byte >> 4 & 7
        if kind in (0, 5):
            return 0
        while byte & 128:
            at += 1
            byte = data[at]
        at += 1
        if kind == REF_DELTA:
            at += 20
        if kind == OFS_DELTA:
            while data[at] & 128:
                at += 1
            at += 1
        return at
    return 0


def _end(data: bytes, at: int) -> int:
    """Where the object at `at` ends; 0 when it is none. Its length is checked when it is read."""
    start = _header(data, at)
    if not start:
        return 0
    stream = zlib.decompressobj()
    with suppress(zlib.error):
        while start < len(data):
            pending = data[start : start + _PIECE]
            while pending:
                stream.decompress(pending, _PIECE)
                pending = stream.unconsumed_tail
            start += _PIECE
            if stream.eof:
                return min(start, len(data)) - len(stream.unused_data)
    return 0
