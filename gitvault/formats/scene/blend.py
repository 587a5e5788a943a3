"""Blender's files as they lie on disk: blocks of memory, and the table (SDNA) that says what a block's bytes are.

Every file carries that table, so one reader serves all versions from 2.4 to 5. A pointer is the address its target had
in Blender's memory; each block says which one it had. A block whose code has two letters is a datablock (`OB` is an
object, `ME` a mesh); the `DATA` blocks after it are its own, and their addresses are unique within it only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from gitvault.errors import UnsupportedMedia
from gitvault.formats.scene.packing import unpack

_DEEPEST = 32


class Block(NamedTuple):
    """One block: its content is `size` bytes of the unpacked file from `start` on, `items` structs number `struct`."""

    code: bytes
    address: int
    struct: int
    items: int
    start: int
    size: int


class Field(NamedTuple):
    """A plain value or an array of such in a struct, however deep: what lies in other structs has its path."""

    path: bytes
    """Names joined by dots, `id.name`; `mtex[3].tex` where structs are an array."""
    owner: bytes
    """The innermost struct, by name."""
    name: bytes
    """What `owner` calls it."""
    type: bytes
    offset: int
    """From the struct's first byte."""
    size: int
    depth: int
    """0 for a value, 1 for a pointer, 2 for a pointer to pointers."""


class Layout:
    """The SDNA of a file."""

    def __init__(self, content: bytes, order: str, pointer: int) -> None:
        self._pointer = pointer
        at = 0

        def word(expected: bytes) -> None:
            nonlocal at
            at += -at % 4
            if content[at : at + 4] != expected:
                raise ValueError(f"{expected.decode()} is missing in the table of its types")
            at += 4

        def number() -> int:
            nonlocal at
            at += 4
            return int(struct.unpack_from(order + "I", content, at - 4)[0])

        def names() -> list[bytes]:
            nonlocal at
            count = number()
            found = content[at:].split(b"\0", count)[:count]
            at += sum(map(len, found)) + len(found)
            return found

        word(b"SDNA")
        word(b"NAME")
        field_names = names()
        word(b"TYPE")
        types = names()
        word(b"TLEN")
        sizes = struct.unpack_from(f"{order}{len(types)}H", content, at)
        at += 2 * len(types)
        word(b"STRC")
        self.structs: list[bytes] = []
        """Names, by the number that blocks have."""
        self._extents: list[int] = []
        self._members: list[list[tuple[bytes, int]]] = []
        for _ in range(number()):
            kind, members = struct.unpack_from(order + "HH", content, at)
            pairs = struct.unpack_from(f"{order}{2 * members}H", content, at + 4)
            at += 4 + 4 * members
            self.structs.append(types[kind])
            self._extents.append(sizes[kind])
            self._members.append([(field_names[name], of) for of, name in zip(pairs[::2], pairs[1::2], strict=True)])
        self._types = types
        self._sizes = sizes
        self._number = {name: number for number, name in enumerate(self.structs)}
        self._fields: dict[int, tuple[Field, ...]] = {}
        self._by_path: dict[int, dict[bytes, Field]] = {}
        self.content: Final = content
        """The table itself: two files with the same have the same structs."""

    def size(self, number: int) -> int:
        """Bytes of one struct."""
        return self._extents[number]

    def fields(self, number: int) -> tuple[Field, ...]:
        """All values of a struct, in the order in which they lie there."""
        if number not in self._fields:
            found = tuple(self._walk(number, b"", 0, 0))
            if found and found[-1].offset + found[-1].size > self.size(number):
                raise ValueError(f"{self.structs[number].decode('latin-1')} is smaller than what is in it")
            self._fields[number] = found
        return self._fields[number]

    def field(self, number: int, path: bytes) -> Field | None:
        """A value of a struct by its path; None when it has none."""
        if number not in self._by_path:
            self._by_path[number] = {field.path: field for field in self.fields(number)}
        return self._by_path[number].get(path)

    def number(self, name: bytes) -> int | None:
        """A struct's number by its name."""
        return self._number.get(name)

    def _walk(self, number: int, prefix: bytes, offset: int, deep: int) -> Iterator[Field]:
        if deep > _DEEPEST:
            raise ValueError("its types contain each other")
        for written, of in self._members[number]:
            name, depth, count = _declared(written)
            path = prefix + name
            size = self._pointer if depth else self._sizes[of]
            inner = None if depth else self._number.get(self._types[of])
            if not size * count:
                continue
            if offset + size * count > 0xFFFF:
                raise ValueError("its types are larger than they can be")
            if inner is None:
                owner = self.structs[number]
                yield Field(path, owner, name, self._types[of], offset, size * count, depth)
            else:
                # Each value takes a byte at least, and a struct has 65,535 at most.
                for index in range(count):
                    at = path + (b"[%d]" % index if count > 1 else b"")
                    yield from self._walk(inner, at + b".", offset + index * size, deep + 1)
            offset += size * count


def _declared(written: bytes) -> tuple[bytes, int, int]:
    """Name, depth and number of values of `*next`, `obmat[4][4]`, `(*free)()`."""
    count = 1
    name, *sizes = written.split(b"[")
    for size in sizes:
        count *= int(size.rstrip(b"]"))
    return name.strip(b"*()"), name.count(b"*"), count


@dataclass(frozen=True, slots=True)
class Datablock:
    """What has a name in the file: an object, mesh, material, scene; or a mention of one in another file."""

    code: bytes
    """`OB`, `ME` ...: the first two letters of its full name."""
    name: str
    library: str | None
    """The file it is linked from, as it is written there (`//props.blend`); None for one of this file."""
    block: Block
    data: tuple[Block, ...]
    """The blocks after it that are its own."""


class Blend:
    """A file, unpacked; see `read`."""

    def __init__(self, content: bytes, packing: str = "none") -> None:
        self.content: Final = content
        self.packing: Final = packing
        """`none`, `gzip` or `zstd`."""
        if content[7:8] in (b"-", b"_"):
            self.head = 12
            marks, version = content[7:9], content[9:12]
            wide = False
        else:
            # From 5.0 on: the length of the header, the format's version, and blocks of 64-bit sizes.
            self.head = int(content[7:9])
            if content[9:13] != b"-01v" or self.head != 17:
                raise ValueError("a newer Blender's kind of file")
            marks, version = b"-v", content[13:17]
            wide = True
        if marks[:1] not in (b"-", b"_") or marks[1:] not in (b"v", b"V"):
            raise ValueError("its header is none of Blender's")
        self.pointer: Final = 8 if marks[:1] == b"-" else 4
        self.order: Final = "<" if marks[1:] == b"v" else ">"
        self.version: Final = int(version)
        """300 for 3.0, 279 for 2.79, 500 for 5.0."""
        self.block_head: Final = struct.Struct(
            self.order + ("4siQqq" if wide else "4siQii" if self.pointer == 8 else "4siIii")
        )
        self._wide = wide
        self.blocks: Final = self._blocks()
        table = next((block for block in self.blocks if block.code == b"DNA1"), None)
        if table is None:
            raise ValueError("the table of its types is missing")
        self.layout: Final = Layout(self.bytes_of(table), self.order, self.pointer)
        for number in {block.struct for block in self.blocks if 0 <= block.struct < len(self.layout.structs)}:
            self.layout.fields(number)
        self._word = struct.Struct(self.order + ("Q" if self.pointer == 8 else "I"))

    def _blocks(self) -> list[Block]:
        found: list[Block] = []
        at, end, head, wide = self.head, len(self.content), self.block_head, self._wide
        while True:
            if at + head.size > end:
                # The last block's head may be cut short: nothing in it is of use.
                if self.content[at : at + 4] == b"ENDB":
                    return found
                raise ValueError("it ends in the middle")
            if wide:
                code, number, address, size, count = head.unpack_from(self.content, at)
            else:
                code, size, address, number, count = head.unpack_from(self.content, at)
            # Two letters are the lower half of a number.
            code = code.strip(b"\0")
            if code == b"ENDB":
                return found
            at += head.size
            if size < 0 or at + size > end or number < 0:
                raise ValueError("it ends in the middle")
            found.append(Block(code, address, number, count, at, size))
            at += size

    def write_block(self, block: Block, content: bytes) -> bytes:
        """A block as it stands in a file of this kind."""
        code = block.code.rjust(4, b"\0") if self.order == ">" else block.code
        address, number, count = block.address, block.struct, block.items
        if self._wide:
            return self.block_head.pack(code, number, address, len(content), count) + content
        return self.block_head.pack(code, len(content), address, number, count) + content

    def bytes_of(self, block: Block) -> bytes:
        """A block's content."""
        return self.content[block.start : block.start + block.size]

    def where(self, block: Block, path: bytes, index: int = 0) -> tuple[int, int] | None:
        """First byte and length, in `content`, of a value of the block's struct number `index`; None: it has none."""
        if not 0 <= index < block.items or block.struct >= len(self.layout.structs):
            return None
        field = self.layout.field(block.struct, path)
        at = field and block.start + index * self.layout.size(block.struct) + field.offset
        if not field or not at or at + field.size > block.start + block.size:
            return None
        return at, field.size

    def value(self, block: Block, path: bytes, index: int = 0) -> bytes:
        """A value's bytes; none when the struct has no such value."""
        found = self.where(block, path, index)
        return self.content[found[0] : found[0] + found[1]] if found else b""

    def text(self, block: Block, path: bytes, index: int = 0) -> str:
        """A value that is text."""
        return self.value(block, path, index).partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def number(self, block: Block, path: bytes, index: int = 0) -> int:
        """A value that is a whole number; 0 when the struct has no such value."""
        return int.from_bytes(self.value(block, path, index), "little" if self.order == "<" else "big", signed=True)

    def address(self, block: Block, path: bytes, index: int = 0) -> int:
        """A value that is a pointer; 0 when the struct has no such value."""
        value = self.value(block, path, index)
        return int(self._word.unpack(value)[0]) if len(value) == self.pointer else 0

    def library_file(self, block: Block) -> str:
        """The file that a library is, as it is written there."""
        return self.text(block, b"name") or self.text(block, b"filepath")

    def pointers(self, block: Block, field: Field) -> Iterator[tuple[int, int]]:
        """Where in the block, and what, a field's pointers are in all its structs, without those that are none."""
        size = self.layout.size(block.struct)
        end = block.start + min(max(block.items, 0), block.size // size) * size
        number, step = field.size // self.pointer, self.pointer
        rest = size - field.offset - number * step
        form = struct.Struct(f"{self.order}{field.offset}x{number}{'Q' if step == 8 else 'I'}{rest}x")
        at = field.offset
        for values in form.iter_unpack(memoryview(self.content)[block.start : end]):
            if any(values):
                for index, value in enumerate(values):
                    if value:
                        yield at + index * step, value
            at += size

    @cached_property
    def datablocks(self) -> tuple[Datablock, ...]:
        """All that have a name, in the order in which they lie in the file."""
        groups: list[list[Block]] = []
        for block in self.blocks:
            if block.code == b"DATA":
                if groups:
                    groups[-1].append(block)
            else:
                groups.append([block])
        libraries = {group[0].address: group[0] for group in groups if group[0].code == b"LI"}
        found = []
        for block, *data in groups:
            full = self.value(block, b"id.name") or (self.value(block, b"name") if block.code == b"ID" else b"")
            if not full or len(block.code) != 2:
                continue
            path = b"lib" if block.code == b"ID" else b"id.lib"
            library = libraries.get(self.address(block, path))
            name = full[2:].partition(b"\0")[0].decode("utf-8", "surrogateescape")
            of = self.library_file(library) if library else None
            found.append(Datablock(full[:2], name, of, block, tuple(data)))
        return tuple(found)

    @cached_property
    def by_address(self) -> dict[int, Datablock]:
        """Datablocks by their address."""
        return {datablock.block.address: datablock for datablock in self.datablocks}


def read(path: Path) -> Blend:
    """A Blender file. Raises UnsupportedMedia when it is none, is damaged or larger than it may be; OSError."""
    try:
        return Blend(*unpack(path))
    except (ValueError, struct.error, IndexError) as error:
        raise UnsupportedMedia(f"{path.name}: not read as a Blender file: {error}; its bytes are saved") from error
