"""What is in a Photoshop document, read by psd-tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.elements import DOCUMENT, PICTURES
from gitvault.formats.extras import need

# What says where layers are, and in which group; all else is compared as bytes.
_STRUCTURE = (b"Lr16", b"Lr32", b"Layr", b"lsct", b"lsdk", b"lyid", b"luni", b"lnkD", b"lnk2", b"lnk3", b"lnkE")
_LINKED = (b"lnkD", b"lnk2", b"lnk3", b"lnkE")
_PATTERNS = (b"Patt", b"Pat2", b"Pat3")
_PLACED = (b"SoLd", b"SoLE", b"PlLd", b"plLd")
_THUMBNAILS = (1033, 1036)
_VECTOR = (b"vmsk", b"vsms")


def witness(path: Path) -> dict[str, str]:
    """Hash by element's id. Raises UnsupportedMedia, ToolMissing."""
    need("psd_tools", "image")
    from psd_tools.psd import PSD

    with _raw_blocks(), path.open("rb") as file:
        try:
            document = PSD.read(file)
        except (ValueError, OSError, AssertionError) as error:
            raise UnsupportedMedia(f"{path.name}: psd-tools cannot read it: {error}; its bytes are saved") from None
    return _hashes(document)


@contextmanager
def _raw_blocks() -> Iterator[None]:
    """Let psd-tools leave alone what it would write in another way than it was: a changed byte has to show."""
    from psd_tools.psd import tagged_blocks

    kept = dict(tagged_blocks.TYPES)
    try:
        for tag in kept:
            if tag.value not in _STRUCTURE:
                del tagged_blocks.TYPES[tag]
        yield
    finally:
        tagged_blocks.TYPES.update(kept)


def _key(block: Any) -> bytes:
    key = getattr(block.key, "value", block.key)
    return bytes(key)


def _blocks(holder: Any) -> dict[bytes, Any]:
    return {_key(block): block.data for block in (holder.tagged_blocks or {}).values()}


def _raw(data: Any) -> bytes:
    return data if isinstance(data, bytes) else bytes(data.tobytes())


def _hashes(document: Any) -> dict[str, str]:
    section = document.layer_and_mask_information
    outside = _blocks(section)
    info = section.layer_info
    for key in (b"Lr16", b"Lr32", b"Layr"):
        if not (info and info.layer_count) and key in outside:
            info = outside[key]
    linked = [(item.uuid, item) for key in _LINKED for item in outside.get(key, ())]
    found: dict[str, str] = {}
    rest, pictures = sha256(), sha256()
    rest.update(document.header.tobytes() + document.color_mode_data.tobytes())
    for key, resource in document.image_resources.items():
        # Lists with an entry for each layer.
        if key not in (1026, 1072):
            (pictures if key in _THUMBNAILS else rest).update(resource.tobytes())
    rest.update(section.global_layer_mask_info.tobytes() if section.global_layer_mask_info else b"")
    for key, data in outside.items():
        if key not in (b"Lr16", b"Lr32", b"Layr", *_LINKED, *_PATTERNS):
            rest.update(key + _raw(data))
    pictures.update(document.image_data.compression.value.to_bytes(2, "big"))
    pictures.update(document.image_data.data)
    found[DOCUMENT], found[PICTURES] = rest.hexdigest(), pictures.hexdigest()
    patterns = _patterns(outside)
    if info:
        _add_layers(found, info, linked, patterns)
    return found


def _patterns(outside: dict[bytes, Any]) -> list[tuple[bytes, bytes]]:
    """Each pattern's bytes behind its identifier."""
    found = []
    for key in _PATTERNS:
        data, at = outside.get(key, b""), 0
        while at + 4 < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            item = data[at + 4 : at + 4 + size]
            name = 16 + 2 * int.from_bytes(item[12:16], "big")
            found.append((item[name + 1 : name + 1 + item[name]], item))
            at += 4 + size + -size % 4
    return found


class _Entry:
    """A layer or the head of a group."""

    def __init__(self, place: int, record: Any, parent: _Entry | None) -> None:
        blocks = _blocks(record)
        self.place, self.record, self.parent, self.blocks = place, record, parent, blocks
        name = blocks.get(b"luni")
        self.name = name.value.rstrip("\0") if name is not None else record.name
        number = blocks.get(b"lyid")
        self.number = int(number.value) if number is not None else 0
        self.path: str = f"{parent.path}/{self.name}" if parent else self.name
        self.id = ""
        self.end: Any = None


def _section(record: Any) -> int:
    blocks = _blocks(record)
    found = blocks.get(b"lsct", blocks.get(b"lsdk"))
    return int(found.kind) if found is not None else 0


def _add_layers(
    found: dict[str, str], info: Any, linked: list[tuple[str, Any]], patterns: list[tuple[bytes, bytes]]
) -> None:
    entries: list[_Entry] = []
    group: _Entry | None = None
    records = list(info.layer_records)
    for place in range(len(records) - 1, -1, -1):
        kind = _section(records[place])
        if kind == 3:
            if group:
                group.end, group = place, group.parent
            continue
        entry = _Entry(place, records[place], group)
        entries.append(entry)
        if kind in (1, 2):
            group = entry
    numbers = [entry.number for entry in entries]
    taken: dict[str, int] = {}
    for entry in entries:
        own = str(entry.number) if entry.number and numbers.count(entry.number) == 1 else entry.path
        taken[own] = taken.get(own, 0) + 1
        entry.id = own if taken[own] == 1 else f"{own}#{taken[own]}"
    for entry in entries:
        for name, value in _of(entry, info, linked, patterns):
            count = 1
            unique = name
            while unique in found:
                count += 1
                unique = f"{name}#{count}"
            found[unique] = value


def _of(
    entry: _Entry, info: Any, linked: list[tuple[str, Any]], patterns: list[tuple[bytes, bytes]]
) -> Iterator[tuple[str, str]]:
    own, masks = sha256(), sha256()
    has_mask = False
    for place in (entry.place, *([entry.end] if entry.end is not None else ())):
        record = info.layer_records[place]
        facts = (record.top, record.left, record.bottom, record.right, record.blend_mode, record.opacity)
        own.update(f"{facts} {record.clipping} {record.name!r}".encode())
        own.update(record.flags.tobytes() + record.blending_ranges.tobytes())
        for key, data in _blocks(record).items():
            if key not in _VECTOR:
                own.update(key + len(_raw(data)).to_bytes(8, "big") + _raw(data))
        for channel, data in zip(record.channel_info, info.channel_image_data[place], strict=True):
            is_mask = int(channel.id) < -1
            has_mask |= is_mask and place == entry.place
            into = masks if is_mask else own
            into.update(f"{int(channel.id)} {int(data.compression)} {len(data.data)}".encode())
            into.update(data.data)
    said = b"".join(_raw(data) for data in entry.blocks.values())
    for name, item in patterns:
        if name and (name in said or name.decode("latin-1").encode("utf-16-be") in said):
            own.update(item)
    yield entry.id, own.hexdigest()
    if has_mask:
        mask = entry.record.mask_data
        masks.update(mask.tobytes() if mask is not None else b"")
        yield f"{entry.id}/mask", masks.hexdigest()
    vector = next((entry.blocks[key] for key in _VECTOR if key in entry.blocks), None)
    if vector is not None:
        yield f"{entry.id}/vector-mask", sha256(_raw(vector)).hexdigest()
    if any(key in entry.blocks for key in _PLACED):
        for uuid, item in linked:
            if uuid and (uuid.encode() in said or uuid.encode("utf-16-be") in said):
                yield f"{entry.id}/content", sha256(item.tobytes()).hexdigest()
                break
