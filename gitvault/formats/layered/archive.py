"""Zip archives, their members as they lie there: nothing is inflated to be copied, so nothing can change."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Element
from gitvault.formats.mapping import PartRefused, mapped

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_FULL = 0xFFFFFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 0x1, 0x8, 0x800
_MEMBERS = 1 << 20
_INFLATED = 1 << 36
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file in an archive, with all that is written about it."""

    name: bytes
    fields: tuple[int, ...]
    """What the directory says between its signature and the name's length: versions to sizes."""
    ends: tuple[int, int]
    """Internal and external attributes."""
    extra: bytes
    comment: bytes
    local_extra: bytes
    size: int
    data: memoryview
    """As it is stored, with the description behind it where there is one."""
    packed: int
    """How much of `data` is content."""

    @property
    def text(self) -> str:
        """The name as people see it."""
        return self.name.decode("utf-8" if self.fields[2] & _UTF8 else "cp437")

    def content(self) -> Iterator[bytes | memoryview]:
        """What is in it, in pieces. Raises UnsupportedMedia, ValueError."""
        flags, method, crc = self.fields[2], self.fields[3], self.fields[6]
        if flags & _ENCRYPTED:
            raise PartRefused(f"{self.text}: is encrypted")
        if method not in (_STORED, _DEFLATED):
            raise PartRefused(f"{self.text}: is compressed by method {method}, which gitvault does not know")
        from isal import igzip_lib, isal_zlib

        length, found = 0, 0
        damaged: Any = igzip_lib.IsalError
        try:
            for piece in self._inflated() if method else (self.data[: self.packed],):
                length += len(piece)
                if length > self.size:
                    break
                found = isal_zlib.crc32(piece, found)
                yield piece
        except damaged as error:
            raise ValueError(f"{self.text}: {error}") from None
        if length != self.size or found != crc:
            raise ValueError(f"{self.text} is not what its size and checksum say")

    def _inflated(self) -> Iterator[bytes]:
        from isal import isal_zlib

        inflater = isal_zlib.decompressobj(-15)
        for start in range(0, self.packed, _BLOCK):
            given: bytes | memoryview = self.data[start : min(start + _BLOCK, self.packed)]
            while len(given) and not inflater.eof:
                yield inflater.decompress(given, 16 * _BLOCK)
                given = inflater.unconsumed_tail

    def whole(self, limit: int = 1 << 28) -> bytes:
        """All that is in it. Raises UnsupportedMedia, also for more than `limit` bytes, ValueError."""
        if self.size > limit:
            raise PartRefused(f"{self.text}: has {self.size} bytes, expected at most {limit}")
        return b"".join(self.content())

    def named(self, name: bytes) -> Member:
        """The same under another name."""
        return replace(self, name=name)

    def holding(self, content: bytes) -> Member:
        """The same with other content, deflated as this one is or not."""
        import zlib

        data = content
        if self.fields[3] == _DEFLATED:
            deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
            data = deflater.compress(content) + deflater.flush()
        version, needed, flags, method, time, date = self.fields[:6]
        fields = (
            version,
            needed,
            flags & ~_DESCRIPTOR,
            method,
            time,
            date,
            zlib.crc32(content),
            len(data),
            len(content),
        )
        return replace(self, fields=fields, data=memoryview(data), packed=len(data), size=len(content))


@dataclass(frozen=True, slots=True)
class Archive:
    """A zip archive."""

    members: tuple[Member, ...]
    """In the order in which they lie in the file."""
    comment: bytes
    before: memoryview
    """What stands before the first member: a program that unpacks it, or what an application left out of the list."""


def read(view: memoryview) -> Archive:
    """The members of a zip archive. Raises what `mapped` turns into UnsupportedMedia."""
    tail = bytes(view[-(_END.size + 0xFFFF) :])
    end = tail.rfind(b"PK\5\6")
    if end < 0:
        raise ValueError("no directory at its end")
    *_, count, length, start, commented = _END.unpack_from(tail, end)
    at = len(view) - len(tail) + end
    comment = tail[end + _END.size :][:commented]
    if at >= _LOCATOR.size and bytes(view[at - _LOCATOR.size :][:4]) == b"PK\6\7":
        at = _LOCATOR.unpack_from(view, at - _LOCATOR.size)[2]
        *_, count, length, start = _END64.unpack_from(view, at)
    if count > _MEMBERS:
        raise ValueError(f"{count} members")
    # What stands before the archive is not counted in its offsets.
    shift = at - length - start
    if shift < 0:
        raise ValueError("its directory is not where it says")
    found, at = [], start + shift
    for _ in range(count):
        member, offset, at = _member(view, at, shift)
        found.append((offset, member))
    if sum(member.size for _, member in found) > _INFLATED:
        raise ValueError("more than 64 GiB when inflated")
    found.sort(key=lambda pair: pair[0])
    return Archive(tuple(member for _, member in found), comment, view[: found[0][0] if found else 0])


def _member(view: memoryview, at: int, shift: int) -> tuple[Member, int, int]:
    """The member whose entry of the directory is at `at`, where it begins, and where the next entry is."""
    signature, *fields, named, extras, comments, _, internal, external, offset = _CENTRAL.unpack_from(view, at)
    if signature != b"PK\1\2":
        raise ValueError("its directory is damaged")
    at += _CENTRAL.size
    name = bytes(view[at : at + named])
    extra = bytes(view[at + named : at + named + extras])
    comment = bytes(view[at + named + extras : at + named + extras + comments])
    packed, size = fields[7], fields[8]
    extra, wide = _without_wide(extra)
    size, packed, offset = (wide.pop(0) if value == _FULL and wide else value for value in (size, packed, offset))
    begin = offset + shift
    local = _LOCAL.unpack_from(view, begin)
    if local[0] != b"PK\3\4":
        raise ValueError(f"{name!r} is not where the directory says")
    data = begin + _LOCAL.size + local[9] + local[10]
    descriptor = 0
    if fields[2] & _DESCRIPTOR:
        descriptor = 12 + 4 * (bytes(view[data + packed :][:4]) == b"PK\7\10")
        if len(wide) or size >= _FULL or packed >= _FULL:
            descriptor += 8
    if data + packed + descriptor > len(view):
        raise ValueError(f"{name!r} is cut off")
    local_extra = _without_wide(bytes(view[data - local[10] : data]))[0]
    member = Member(
        name, tuple(fields), (internal, external), extra, comment, local_extra, size, view[data : data + packed], packed
    )
    return member, begin, at + named + extras + comments


def _without_wide(extra: bytes) -> tuple[bytes, list[int]]:
    """An entry's extra fields without that for large sizes, and what is in that."""
    kept, wide, at = b"", [], 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind == 1:
            wide = [number for (number,) in struct.iter_unpack("<Q", body[: len(body) // 8 * 8])]
        else:
            kept += extra[at : at + 4 + length]
        at += 4 + length
    return kept + extra[at:], wide


def write(file: BinaryIO, members: Iterable[Member], like: Archive) -> None:
    """Write an archive like another: sizes stand before each member, whatever its maker knew when it wrote it."""
    file.write(like.before)
    directory = []
    for member in members:
        offset = file.tell()
        version, needed, flags, method, time, date, crc, _, _ = member.fields
        flags &= ~_DESCRIPTOR
        is_wide = max(member.size, member.packed) >= _FULL
        extra = (struct.pack("<2H2Q", 1, 16, member.size, member.packed) if is_wide else b"") + member.local_extra
        sizes = (_FULL, _FULL) if is_wide else (member.packed, member.size)
        local = (needed, flags, method, time, date, crc, *sizes, len(member.name), len(extra))
        file.write(_LOCAL.pack(b"PK\3\4", *local) + member.name + extra)
        file.write(member.data[: member.packed])
        wide = [number for number in (member.size, member.packed, offset) if number >= _FULL]
        extra = (struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b"") + member.extra
        sizes = min(member.packed, _FULL), min(member.size, _FULL)
        lengths = len(member.name), len(extra), len(member.comment), 0
        central = (version, needed, flags, method, time, date, crc, *sizes, *lengths, *member.ends, min(offset, _FULL))
        directory.append(_CENTRAL.pack(b"PK\1\2", *central) + member.name + extra + member.comment)
    start = file.tell()
    file.write(b"".join(directory))
    length, count = file.tell() - start, len(directory)
    if start >= _FULL or count >= 0xFFFF:
        file.write(_END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, length, start))
        file.write(_LOCATOR.pack(b"PK\6\7", 0, start + length, 1))
    counts = min(count, 0xFFFF), min(count, 0xFFFF)
    file.write(
        _END.pack(b"PK\5\6", 0, 0, *counts, min(length, _FULL), min(start, _FULL), len(like.comment)) + like.comment
    )


def ids(members: Sequence[Member]) -> list[str]:
    """Each member's id: its name, numbered where names repeat."""
    return numbered([member.text for member in members])


def numbered(names: Iterable[str]) -> list[str]:
    """Names, those that were there before with `#2`, `#3` ..."""
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return found


def elements(path: Path) -> list[Element]:
    """The members of a zip archive; folders that it names hold theirs. Raises UnsupportedMedia."""
    with mapped(path) as view:
        archive = read(view)
        folders = {member.text for member in archive.members if member.text.endswith("/")}
        return sorted(
            (
                Element(
                    name,
                    member.text.rstrip("/").rpartition("/")[2],
                    "folder" if member.text in folders else "member",
                    _folder(member.text, folders),
                    _hash(member),
                )
                for name, member in zip(ids(archive.members), archive.members, strict=True)
            ),
            key=lambda element: element.id.count("/") if element.kind == "folder" else _MEMBERS,
        )


def _folder(name: str, folders: set[str]) -> str | None:
    while name:
        name = name.rstrip("/").rpartition("/")[0]
        if name and f"{name}/" in folders:
            return f"{name}/"
    return None


def _hash(member: Member) -> str:
    found = sha256(member.name + struct.pack("<2H2I", *member.fields[4:6], *member.ends))
    for piece in member.content():
        found.update(piece)
    return found.hexdigest()


def extract(path: Path, element: str, output: Path) -> None:
    """Write what is in a member. Raises UnsupportedMedia."""
    with mapped(path) as view, output.open("wb") as file:
        archive = read(view)
        member = archive.members[ids(archive.members).index(element)]
        if member.text.endswith("/"):
            raise UnsupportedMedia(f"{element}: is a folder; extract its members")
        file.writelines(member.content())


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """Write the current archive with a member, or a folder with all in it, of the old one. Raises UnsupportedMedia."""
    with mapped(old) as before, mapped(current) as now, output.open("wb") as file:
        theirs, ours = read(before), read(now)
        is_in: Callable[[str], bool] = (
            (lambda name: name.startswith(element)) if element.endswith("/") else (lambda name: name == element)
        )
        wanted = {name: member for name, member in zip(ids(theirs.members), theirs.members, strict=True) if is_in(name)}
        result, present = [], ids(ours.members)
        for name, member in zip(present, ours.members, strict=True):
            if not is_in(name):
                result.append((name, member))
            elif name in wanted:
                result.append((name, wanted.pop(name)))
        # What is new stands behind what it stood behind in the old archive.
        order = ids(theirs.members)
        for name, member in wanted.items():
            known = [have for have, _ in result]
            before_it = [other for other in order[: order.index(name)] if other in known]
            result.insert(known.index(before_it[-1]) + 1 if before_it else 0, (name, member))
        write(file, (member for _, member in result), ours)
