"""One datablock of a Blender file, from an older version into the current one, and out into a file of its own.

Bytes are moved, nothing is interpreted that need not be: every block of the current file that is not replaced stays as
it is, byte for byte. That takes two files whose types are the same; `blender.leveled` makes such of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from gitvault.errors import NotFoundError, UnsupportedMedia
from gitvault.formats.scene.blend import Blend, Block, Datablock, read
from gitvault.formats.scene.datablocks import Contents, Link, head_of, links
from gitvault.formats.scene.packing import pack

_HOLDERS = frozenset({b"SC", b"WM", b"WS", b"SN", b"SR"})
"""What holds so much else that taking it from another version would lose what came since."""


def splice(old: Path, element: str, current: Path, output: Path) -> None:
    """The current file with the old file's datablock; what it needs and the current file lacks comes along.

    What it refers to and the current file has stays the current one. A datablock that is no longer there comes back
    into the collection it was in, else into the scene. Raises NotFoundError when the old file has no such datablock,
    UnsupportedMedia when it cannot be done and for files that cannot be read; OSError, and what Blender may raise.
    """
    before, now = Contents(read(old)), Contents(read(current))
    thing = find(before, element, old)
    if thing.code in _HOLDERS or (thing.code == b"GR" and element in now.names.values()):
        raise UnsupportedMedia(f"{element}: holds others, and with an older one newer ones would go; restore those")
    if thing.block.code in (b"ID", b"LI"):
        raise UnsupportedMedia(f"{element}: is in another file; restore it there")
    if not same_types(before.blend, now.blend):
        raise UnsupportedMedia(
            f"{old.name} and {current.name} are of different versions of Blender; save both with one"
        )
    output.write_bytes(pack(_Transplant(before, now).result(thing), now.blend.packing))


def extract(path: Path, element: str, output: Path) -> None:
    """A file with the datablock and all that it refers to, from which Blender appends it.

    Raises NotFoundError, UnsupportedMedia, OSError.
    """
    contents = Contents(read(path))
    blend = contents.blend
    thing = find(contents, element, path)
    if thing.code in _HOLDERS or thing.block.code in (b"ID", b"LI"):
        raise UnsupportedMedia(f"{element}: cannot stand in a file of its own; take what is in it")
    wanted = {thing.block.address}
    waiting = [thing]
    while waiting:
        for address in _mentions(blend, waiting.pop()):
            other = blend.by_address[address]
            if address not in wanted and other.code not in _HOLDERS:
                wanted.add(address)
                waiting.append(other)
    parts = [blend.content[: blend.head]]
    kept = False
    for block in blend.blocks:
        if block.code != b"DATA":
            kept = block.address in wanted if len(block.code) == 2 else block.code in (b"GLOB", b"DNA1")
        if kept:
            parts.append(blend.write_block(block, blend.bytes_of(block)))
    parts.append(blend.write_block(Block(b"ENDB", 0, 0, 0, 0, 0), b""))
    output.write_bytes(pack(b"".join(parts), blend.packing))


def find(contents: Contents, element: str, path: Path) -> Datablock:
    """The datablock with this id. Raises NotFoundError."""
    for address, name in contents.names.items():
        if name == element:
            return contents.blend.by_address[address]
    raise NotFoundError(f"{path.name}: has no {element}; git-vault elements list names what it has")


def same_types(before: Blend, now: Blend) -> bool:
    """Whether two files have the same structs, of the same version of Blender."""
    return (before.pointer, before.order, _revision(before)) == (now.pointer, now.order, _revision(now)) and (
        before.layout.content == now.layout.content
    )


def _revision(blend: Blend) -> tuple[int, int]:
    """Version and subversion: Blender puts right on reading what an older one meant otherwise, per file."""
    block = next((block for block in blend.blocks if block.code == b"GLOB"), None)
    return blend.version, blend.number(block, b"subversion") if block else 0


def _mentions(blend: Blend, thing: Datablock) -> Iterator[int]:
    """Addresses of the datablocks that one refers to."""
    own = {block.address for block in thing.data}
    for block, at in _pointers(blend, thing):
        address = _word(blend, block, at)
        if address in blend.by_address and address not in own:
            yield address


def _word(blend: Blend, block: Block, at: int) -> int:
    value = blend.content[block.start + at : block.start + at + blend.pointer]
    return int.from_bytes(value, "little" if blend.order == "<" else "big")


_NEIGHBOURS = frozenset({b"next", b"prev", b"newid", b"orig_id", b"py_instance"})


def _pointers(blend: Blend, thing: Datablock, *, neighbours: bool = False) -> Iterator[tuple[Block, int]]:
    """Where a datablock's blocks have pointers: block, offset in it; `neighbours`: those of the list it is in, too."""
    step = blend.pointer
    own = {block.address: block for block in thing.data}
    arrays: set[int] = set()
    untyped = []
    for block in (thing.block, *thing.data):
        if not 0 < block.struct < len(blend.layout.structs):
            # Number 0 is for what has no type; only a datablock's first block always has one.
            untyped.append(block)
            continue
        size = blend.layout.size(block.struct)
        pointers = [field for field in blend.layout.fields(block.struct) if field.depth]
        if not pointers or not size:
            continue
        for start in range(0, min(block.items * size, block.size - size + 1), size):
            for field in pointers:
                if field.owner == b"ID" and field.name in _NEIGHBOURS and not neighbours:
                    continue
                for at in range(start + field.offset, start + field.offset + field.size, step):
                    if field.depth > 1:
                        arrays.add(_word(blend, block, at))
                    yield block, at
    for block in untyped:
        words = range(0, block.size - block.size % step, step)
        if block.address in arrays or _all_pointers(blend, block, words, own):
            yield from ((block, at) for at in words)


def _all_pointers(blend: Blend, block: Block, words: range, own: Mapping[int, Block]) -> bool:
    """Whether bytes without a type are pointers: each is none or leads somewhere, and one does."""
    if block.size % blend.pointer:
        return False
    seen = False
    for at in words:
        address = _word(blend, block, at)
        if address and address not in own and address not in blend.by_address:
            return False
        seen = seen or bool(address)
    return seen


class _Transplant:
    """Datablocks on their way from one file into another with the same types."""

    def __init__(self, before: Contents, now: Contents) -> None:
        self._before = before
        self._now = now
        self._there = {name: address for address, name in now.names.items()}
        # Libraries and what is linked are elements as well, shape keys are not: those come with their mesh.
        self._used = {block.address for block in now.blend.blocks}
        # Numbers that no other bytes of a file are likely to be.
        self._next = 0x6F00 << (48 if now.blend.pointer == 8 else 16)
        self._new: dict[int, int] = {}
        """Address in the current file of what comes from the old one."""
        self._groups: list[tuple[Datablock, int, bytes | None]] = []
        """What comes, the address it gets, its name when it gets another one."""
        self._instead: dict[int, bytes] = {}
        """What stands in the file now instead of a datablock, by its address; nothing where one goes."""
        self._ahead: dict[int, list[bytes]] = {}
        """Datablocks that are added, by the first byte of the block that comes after them."""
        self._behind: dict[int, list[bytes]] = {}
        """Entries added to lists, by the first byte of the block they come after."""
        self._patches: dict[int, int] = {}
        """Pointers of lists that got entries, by where in the current file they are."""

    def result(self, thing: Datablock) -> bytes:
        """The current file with it, unpacked."""
        added = []
        waiting = [thing]
        while waiting:
            source = waiting.pop()
            if source.block.address in self._new:
                continue
            there = self._there.get(self._before.names[source.block.address])
            if there is not None and source is not thing:
                self._new[source.block.address] = there
                continue
            if there is None:
                added.append(source)
            self._take(source, there)
            own = self._before.key_of(source)
            for address in _mentions(self._before.blend, source):
                other = self._before.blend.by_address[address]
                is_key = own is not None and address == own.block.address
                if other.code not in _HOLDERS and not is_key and address in self._before.names:
                    waiting.append(other)
            if own is not None:
                waiting += [
                    self._before.blend.by_address[a]
                    for a in _mentions(self._before.blend, own)
                    if a in self._before.names and self._before.blend.by_address[a].code not in _HOLDERS
                ]
        for source, address, name in sorted(self._groups, key=self._library_first):
            self._write(source, address, name)
        self._place({thing.block.address for thing in added if thing.block.code in (b"OB", b"GR")})
        return self._assembled()

    def _library_first(self, group: tuple[Datablock, int, bytes | None]) -> tuple[str, bool]:
        """Blender reads what is linked from a library right after that library, and crashes elsewhere."""
        source = group[0]
        if source.code == b"LI":
            return self._before.blend.library_file(source.block), False
        return source.library or "", True

    def _take(self, source: Datablock, there: int | None) -> None:
        address = there if there is not None else self._free()
        self._new[source.block.address] = address
        self._groups.append((source, address, None))
        key = self._before.key_of(source)
        had = self._now.key_of(self._now.blend.by_address[there]) if there is not None else None
        if key is None:
            if had is not None:
                self._instead[had.block.address] = b""
            return
        name = had.name if had is not None else self._unused_key(key.name)
        self._new[key.block.address] = had.block.address if had is not None else self._free()
        self._groups.append((key, self._new[key.block.address], b"KE" + name.encode("utf-8", "surrogateescape")))

    def _unused_key(self, name: str) -> str:
        taken = {thing.name for thing in self._now.blend.datablocks if thing.code == b"KE"}
        stem = name.partition(".")[0]
        names = (name, *(f"{stem}.{number:03}" for number in range(1, len(taken) + 2)))
        return next(candidate for candidate in names if candidate not in taken)

    def _free(self) -> int:
        """An address that nothing in the current file has."""
        while self._next in self._used:
            self._next += 16
        self._used.add(self._next)
        return self._next

    def _write(self, source: Datablock, address: int, name: bytes | None) -> None:
        """The blocks of what comes, as they stand in the current file."""
        blend = self._before.blend
        inner = {block.address: self._free() for block in source.data}
        contents = {block.start: bytearray(blend.bytes_of(block)) for block in (source.block, *source.data)}
        order = "little" if blend.order == "<" else "big"
        for block, at in _pointers(blend, source, neighbours=True):
            value = _word(blend, block, at)
            to = inner.get(value) or self._new.get(value, 0)
            contents[block.start][at : at + blend.pointer] = to.to_bytes(blend.pointer, order)  # type: ignore[arg-type]
        if name is not None and (place := blend.where(source.block, b"id.name")):
            at = place[0] - source.block.start
            contents[source.block.start][at : at + place[1]] = name[: place[1] - 1].ljust(place[1], b"\0")
        parts = [blend.write_block(source.block._replace(address=address), bytes(contents[source.block.start]))]
        for block in source.data:
            moved = block._replace(address=inner[block.address])
            parts.append(blend.write_block(moved, bytes(contents[block.start])))
        written = b"".join(parts)
        if address in self._now.blend.by_address:
            self._instead[address] = written
        else:
            self._ahead.setdefault(self._end_of(source), []).append(written)

    def _end_of(self, source: Datablock) -> int:
        """First byte of the block before which a new datablock goes: after its kind, else before libraries."""
        blend = self._now.blend
        end = next(block.start for block in blend.blocks if block.code == b"DNA1")
        following = {a.start: b.start for a, b in zip(blend.blocks, blend.blocks[1:], strict=False)}
        if source.block.code == b"ID":
            library = self._before.blend.address(source.block, b"lib")
            same = [t for t in blend.datablocks if t.block.code == b"ID" and t.library == source.library]
            holder = blend.by_address.get(self._new.get(library, 0))
            last = same[-1] if same else holder
        elif source.code == b"LI":
            last = None
        else:
            kind = [t for t in blend.datablocks if t.block.code == source.block.code]
            first = next((t.block.start for t in blend.datablocks if t.code == b"LI"), end)
            return following.get((kind[-1].data or (kind[-1].block,))[-1].start, end) if kind else first
        return following.get((last.data or (last.block,))[-1].start, end) if last else end

    def _place(self, added: set[int]) -> None:
        """Make objects and collections that were not there members of what they were in, else of the first scene."""
        blend = self._now.blend
        order = "little" if blend.order == "<" else "big"
        scene = next((thing for thing in blend.datablocks if thing.block.code == b"SC"), None)
        chains: dict[tuple[Datablock, bytes], list[Link]] = {}
        for link in links(self._before.blend):
            if link.member not in added or link.holder.block.address in added:
                continue
            there = self._there.get(self._before.names[link.holder.block.address])
            holder = blend.by_address[there] if there is not None else scene
            if holder is not None:
                chains.setdefault((holder, link.list), []).append(link)
        for (holder, path), chain in chains.items():
            head = head_of(blend, holder)
            own = {block.address: block for block in holder.data}
            last = blend.address(head, path + b".last")
            written = []
            addresses = [self._free() for _ in chain]
            for link, address, previous, following in zip(
                chain, addresses, [last, *addresses], [*addresses[1:], 0], strict=False
            ):
                content = bytearray(self._before.blend.bytes_of(link.entry))
                pointers = {b"prev": previous, b"next": following, link.field: self._new[link.member]}
                for field, to in pointers.items():
                    at, size = self._before.blend.where(link.entry, field) or (0, 0)
                    at -= link.entry.start
                    content[at : at + size] = to.to_bytes(size, order)  # type: ignore[arg-type]
                written.append(blend.write_block(link.entry._replace(address=address), bytes(content)))
            self._patch(head, path + b".last", addresses[-1])
            self._patch(own.get(last, head), b"next" if last in own else path + b".first", addresses[0])
            end = (holder.data or (holder.block,))[-1].start
            self._behind.setdefault(end, []).extend(written)

    def _patch(self, block: Block, path: bytes, to: int) -> None:
        place = self._now.blend.where(block, path)
        if place is not None:
            self._patches[place[0]] = to

    def _assembled(self) -> bytes:
        blend = self._now.blend
        content = blend.content
        if self._patches:
            patched = bytearray(content)
            for at, to in self._patches.items():
                patched[at : at + blend.pointer] = to.to_bytes(blend.pointer, "little" if blend.order == "<" else "big")
            content = bytes(patched)
        parts = [content[: blend.head]]
        skipping = False
        end = blend.head
        for block in blend.blocks:
            parts += self._ahead.get(block.start, ())
            end = block.start + block.size
            if block.code != b"DATA":
                skipping = len(block.code) == 2 and block.address in self._instead
                if skipping:
                    parts.append(self._instead[block.address])
            if not skipping:
                parts.append(content[block.start - blend.block_head.size : end])
            parts += self._behind.get(block.start, ())
        parts.append(content[end:])
        return b"".join(parts)
