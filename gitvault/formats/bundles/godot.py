"""Godot's .pck, versions 1 (Godot 3) to 4 (Godot 4.7), also behind the program that it was put into."""

from __future__ import annotations

import struct
from hashlib import md5, sha256
from pathlib import Path

from gitvault.formats.bundles.records import MOST, Asset, Bundle, kind_of_name
from gitvault.formats.mapping import mapped

_HEAD = struct.Struct("<4s4I")
_FLAGS = struct.Struct("<IQ")
_PLACE = struct.Struct("<2Q16s")
_ENCRYPTED_TABLE, _RELATIVE, _SPARSE = 1, 2, 4
_ENCRYPTED, _REMOVED = 1, 2
_RESERVED = 64
_LONGEST = 1 << 16


def read(path: Path) -> Bundle:
    """What is in a pack. Raises UnsupportedMedia."""
    with mapped(path) as view:
        start = _start(view)
        _, layout, *engine = _HEAD.unpack_from(view, start)
        version = ".".join(map(str, engine))
        if not 1 <= layout <= 4:
            return Bundle("godot", version, (), f"version {layout} of the format, newer than what can be read (1 to 4)")
        at, base, flags = start + _HEAD.size, 0, 0
        if layout > 1:
            flags, base = _FLAGS.unpack_from(view, at)
            at += _FLAGS.size
            if layout > 2 or flags & _RELATIVE:
                base += start
        at = start + struct.unpack_from("<Q", view, at)[0] if layout > 2 else at + _RESERVED
        if flags & _ENCRYPTED_TABLE:
            return Bundle("godot", version, (), "its table of contents is encrypted")
        if flags & _SPARSE:
            return Bundle("godot", version, (), "its files lie beside it, one by one")
        return _table(view, at, base, layout, version)


def _start(view: memoryview) -> int:
    """Where the pack begins: at once, or before its own length and the same four letters at the end."""
    if bytes(view[:4]) == b"GDPC":
        return 0
    (length,) = struct.unpack_from("<Q", view, len(view) - 12)
    start = len(view) - 12 - int(length)
    if start < 0 or bytes(view[start : start + 4]) != b"GDPC":
        raise ValueError("no pack where its end says")
    return start


def _table(view: memoryview, at: int, base: int, layout: int, version: str) -> Bundle:
    (count,) = struct.unpack_from("<I", view, at)
    if count > MOST:
        raise ValueError(f"{count} files")
    at += 4
    assets, damaged, hidden = [], [], 0
    for _ in range(count):
        (named,) = struct.unpack_from("<I", view, at)
        if named > _LONGEST:
            raise ValueError(f"a path of {named} bytes")
        name = bytes(view[at + 4 : at + 4 + named]).rstrip(b"\0").decode("utf-8", "replace").removeprefix("res://")
        offset, size, expected = _PLACE.unpack_from(view, at + 4 + named)
        at += 4 + named + _PLACE.size
        kind = 0
        if layout > 1:
            (kind,) = struct.unpack_from("<I", view, at)
            at += 4
        if kind & _REMOVED:
            continue
        if kind & _ENCRYPTED:
            hidden += 1
            assets.append(Asset(name, kind_of_name(name), size, ""))
            continue
        data = view[base + offset : base + offset + size]
        # Whoever writes a pack without these writes zeros.
        if len(data) != size or (any(expected) and md5(data).digest() != expected):
            damaged.append(name)
        assets.append(Asset(name, kind_of_name(name), size, sha256(data).hexdigest()))
    return Bundle(
        "godot", version, tuple(assets), f"{hidden} of its files are encrypted" if hidden else "", tuple(damaged)
    )
