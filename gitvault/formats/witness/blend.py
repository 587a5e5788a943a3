"""What is in a Blender file, read a second time: all bytes of a datablock's blocks, with what pointers lead to.

Stricter than what tells whether a datablock changed: where a pointer leads counts instead of its value, what each
saving writes anew does not count, and every other byte does, what nobody reads too.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT

_LARGEST = 4 << 30
_WORDS = dict(
    re.findall(
        r"(\w\w):(\w+)",
        "AC:action AR:armature BR:brush CA:camera CF:cache_file CU:curve CV:curves GD:grease_pencil "
        "GP:grease_pencil GR:collection HA:curves IM:image IP:animation_curves KE:shape_key LA:light LI:library "
        "LP:light_probe LS:line_style LT:lattice MA:material MB:metaball MC:movie_clip ME:mesh MS:mask "
        "NT:node_group OB:object PA:particles PC:paint_curve PL:palette PT:point_cloud SC:scene SI:simulation "
        "SK:speaker SN:screen SO:sound SR:screen TE:texture TX:text VF:font VO:volume WM:window_manager WO:world "
        "WS:workspace",
    )
)
# Users are counted, and what is to be worked out again is marked, whenever Blender saves.
_FLEETING = re.compile(
    rb"((.+\.)?id\.)(us|tag|recalc\w*|icon_id|session_uu?id|next|prev|newid|orig_id|py_instance|name)|changed_timestamp"
    rb"|(.+\.)?(session_uu?id|execution_time)(\..+)?"
)
_LISTS = re.compile(rb"(gobject|children|base)\.(first|last)")
_MEMBERS = (b"CollectionObject", b"CollectionChild", b"GroupObject", b"Base")


def witness(path: Path) -> dict[str, str]:
    """Hash by element's id. Raises UnsupportedMedia, OSError."""
    try:
        return _Second(_unpacked(path)).hashes()
    except (ValueError, TypeError, LookupError, EOFError, zlib.error) as error:
        raise UnsupportedMedia(f"{path.name}: not read as a Blender file: {error}; its bytes are saved") from error


def _unpacked(path: Path) -> bytes:
    whole = path.read_bytes()
    if whole[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        out, rest = [], whole
        while rest:
            if int.from_bytes(rest[:4], "little") & 0xFFFFFFF0 == 0x184D2A50:
                # The table of frames at the end.
                rest = rest[8 + int.from_bytes(rest[4:8], "little") :]
                continue
            frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                out.append(frame.decompress(rest))
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
            rest = frame.unused_data
            if sum(map(len, out)) > _LARGEST:
                raise ValueError("it is too large")
        whole = b"".join(out)
    elif whole[:2] == b"\x1f\x8b":
        with gzip.open(path) as file:
            whole = file.read(_LARGEST + 1)
    if len(whole) > _LARGEST:
        raise ValueError("it is too large")
    return whole


class _Group:
    """A datablock with its blocks: address, struct, items, first byte, size."""

    def __init__(self, code: str, address: int) -> None:
        self.code = code
        self.address = address
        self.blocks: list[tuple[int, int, int, int, int]] = []
        self.name = ""


class _Second:
    def __init__(self, whole: bytes) -> None:
        self._whole = whole
        wide = whole[7:9] == b"17"
        marks = b"-v" if wide else whole[7:9]
        if whole[:7] != b"BLENDER" or marks[:1] not in b"_-" or marks[1:] not in b"vV":
            raise ValueError("it does not begin as one")
        self._pointer = 8 if marks[:1] == b"-" else 4
        self._order: Any = "little" if marks[1:] == b"v" else "big"
        self._groups: list[_Group] = []
        start = 17 if wide else 12
        table = b""
        at = start
        while whole[at : at + 4] != b"ENDB":
            code = whole[at : at + 4].strip(b"\0").decode("latin-1")
            if wide:
                size, items = self._int(at + 16, 8), self._int(at + 24, 8)
                address, struct = self._int(at + 8, 8), self._int(at + 4, 4)
                at += 32
            else:
                after = at + 8 + self._pointer
                size, address = self._int(at + 4, 4), self._int(at + 8, self._pointer)
                struct, items = self._int(after, 4), self._int(after + 4, 4)
                at = after + 8
            if not code or at + size > len(whole):
                raise ValueError("it ends too early")
            if code == "DNA1":
                table = whole[at : at + size]
            elif code != "DATA":
                self._groups.append(_Group(code, address))
            if code != "DNA1" and self._groups:
                self._groups[-1].blocks.append((address, struct, items, at, size))
            at += size
        self._document = whole[:start] + table
        self._read_table(table)
        self._libraries = {group.address: group.blocks[0] for group in self._groups if group.code == "LI"}
        for group in self._groups:
            group.name = self._name(group)
        self._named = {group.address: group for group in self._groups if group.name}

    def _int(self, at: int, size: int) -> int:
        return int.from_bytes(self._whole[at : at + size], self._order)

    def _read_table(self, table: bytes) -> None:
        def short(at: int) -> int:
            return int.from_bytes(table[at : at + 2], self._order)

        def many(at: int) -> int:
            return int.from_bytes(table[at : at + 4], self._order)

        def strings(word: bytes, at: int) -> tuple[list[bytes], int]:
            at = table.index(word, at)
            found = table[at + 8 :].split(b"\0", many(at + 4))[: many(at + 4)]
            return found, at + 8 + sum(len(text) + 1 for text in found)

        self._fields, at = strings(b"NAME", 0)
        self._types, at = strings(b"TYPE", at)
        at = table.index(b"TLEN", at) + 4
        self._sizes = [short(at + 2 * index) for index in range(len(self._types))]
        at = table.index(b"STRC", at + 2 * len(self._types))
        total, at = many(at + 4), at + 8
        self._structs: list[tuple[int, list[tuple[int, int]]]] = []
        for _ in range(total):
            inner = [(short(at + 4 + 4 * index), short(at + 6 + 4 * index)) for index in range(short(at + 2))]
            self._structs.append((short(at), inner))
            at += 4 + 4 * len(inner)
        self._of_type = {kind: index for index, (kind, _) in enumerate(self._structs)}
        self._flat: dict[int, list[tuple[bytes, int, int, int]]] = {}

    def _values(self, struct: int) -> list[tuple[bytes, int, int, int]]:
        """Path, offset, size and stars of a struct's values."""
        if struct not in self._flat:
            self._flat[struct] = list(self._flattened(struct, b"", 0, 40))
        return self._flat[struct]

    def _flattened(self, struct: int, above: bytes, start: int, left: int) -> Iterator[tuple[bytes, int, int, int]]:
        for kind, field in self._structs[struct][1]:
            text = self._fields[field]
            times = 1
            for dimension in re.findall(rb"\[(\d+)\]", text):
                times *= int(dimension)
            stars = text.count(b"*")
            one = self._pointer if stars else self._sizes[kind]
            if not left or start + one * times > 1 << 16:
                raise ValueError("its table of types has no end")
            path = above + re.sub(rb"\[.*|[*()]", b"", text)
            if stars or kind not in self._of_type:
                yield path, start, one * times, stars
            elif one:
                for index in range(times):
                    yield from self._flattened(self._of_type[kind], path + b".", start + one * index, left - 1)
            start += one * times

    def _field(self, block: tuple[int, int, int, int, int], wanted: bytes) -> tuple[int, int] | None:
        if 0 <= block[1] < len(self._structs) and block[2] > 0:
            for path, offset, size, _ in self._values(block[1]):
                if path == wanted and offset + size <= block[4]:
                    return block[3] + offset, size
        return None

    def _number(self, block: tuple[int, int, int, int, int], wanted: bytes) -> int:
        found = self._field(block, wanted)
        return self._int(*found) if found else 0

    def _text(self, block: tuple[int, int, int, int, int], wanted: bytes) -> str:
        at, size = self._field(block, wanted) or (0, 0)
        return self._whole[at : at + size].split(b"\0")[0].decode("utf-8", "surrogateescape")

    def _name(self, group: _Group) -> str:
        if len(group.code) != 2:
            return ""
        head = group.blocks[0]
        full = self._text(head, b"name" if group.code == "ID" and not self._field(head, b"id.name") else b"id.name")
        if not full:
            return ""
        shelf = self._number(head, b"lib") or self._number(head, b"id.lib")
        name = f"{_WORDS.get(full[:2], full[:2]).replace('_', ' ')}/{full[2:]}"
        if (library := self._libraries.get(shelf)) is None:
            return name
        return f"{name} @{self._text(library, b'name') or self._text(library, b'filepath')}"

    def hashes(self) -> dict[str, str]:
        found = {DOCUMENT: hashlib.sha256(self._document).hexdigest()}
        keys = {self._number(group.blocks[0], b"key") for group in self._groups if group.name and group.code != "ID"}
        self._keys = {address for address in keys if (key := self._named.get(address)) and key.code == "KE"}
        for group in self._groups:
            if group.name and group.address not in self._keys and group.name not in found:
                found[group.name] = self._hash(group)
        return found

    def _hash(self, group: _Group) -> str:
        seal = hashlib.sha256()
        key = self._number(group.blocks[0], b"key")
        if key in self._keys and group.code != "ID":
            seal.update(self._hash(self._named[key]).encode())
        members = group.code in ("GR", "SC")
        blocks = [
            block
            for block in group.blocks
            if not (members and 0 < block[1] < len(self._structs) and self._type(block[1]) in _MEMBERS)
        ]
        own = {block[0]: index for index, block in enumerate(blocks)}
        tables: set[int] = set()
        rows = [self._row(block, own, members, tables) for block in blocks]
        for block, (masked, leads) in zip(blocks, rows, strict=True):
            untyped = not 0 < block[1] < len(self._structs)
            if untyped and (block[0] in tables or self._is_table(block, own)):
                words = range(block[3], block[3] + block[4], self._pointer)
                masked, leads = b"", [self._led(self._int(at, self._pointer), own) for at in words]
            seal.update(f"{block[1]} {block[2]} {len(masked)}\n".encode() + masked + "\n".join(leads).encode())
        return seal.hexdigest()

    def _type(self, struct: int) -> bytes:
        return self._types[self._structs[struct][0]]

    def _row(
        self, block: tuple[int, int, int, int, int], own: dict[int, int], members: bool, tables: set[int]
    ) -> tuple[bytes, list[str]]:
        """The block's bytes without pointers, and where those lead."""
        masked = bytearray(self._whole[block[3] : block[3] + block[4]])
        leads: list[str] = []
        if not 0 < block[1] < len(self._structs):
            return bytes(masked), leads
        size = self._sizes[self._structs[block[1]][0]]
        prefix = b"id." if self._type(block[1]) == b"ID" else b""
        special = [
            (offset, width, stars, silent)
            for path, offset, width, stars in self._values(block[1])
            if (silent := bool(_FLEETING.fullmatch(prefix + path) or (members and _LISTS.fullmatch(path)))) or stars
        ]
        for start in range(0, min(block[2] * size, block[4] - size + 1) if special and size else 0, size or 1):
            for offset, width, stars, silent in special:
                at = start + offset
                for word in range(at, at + width, self._pointer) if stars and not silent else ():
                    address = int.from_bytes(masked[word : word + self._pointer], self._order)
                    leads.append(self._led(address, own))
                    if stars > 1:
                        tables.add(address)
                masked[at : at + width] = bytes(width)
        return bytes(masked), leads

    def _led(self, address: int, own: dict[int, int]) -> str:
        if not address:
            return ""
        if address in own:
            return f"@{own[address]}"
        # Shape keys come and go with their mesh.
        return self._named[address].name if address in self._named and address not in self._keys else ""

    def _is_table(self, block: tuple[int, int, int, int, int], own: dict[int, int]) -> bool:
        if block[4] % self._pointer:
            return False
        words = {self._int(at, self._pointer) for at in range(block[3], block[3] + block[4], self._pointer)} - {0}
        return bool(words) and all(word in own or word in self._named for word in words)
