"""Bundles of engines, written here by their public descriptions: small ones, whole, damaged and encrypted."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def pck(
    files: Mapping[str, bytes],
    layout: int = 2,
    *,
    flags: int = 0,
    file_flags: int = 0,
    before: bytes = b"",
    hashes: bool = True,
) -> bytes:
    """A Godot pack; with `before`, put behind a program, as an export with an embedded pack is."""
    entries, data = [], b""
    for name, content in files.items():
        raw = name.encode() + bytes(-len(name) % 4)
        digest = hashlib.md5(content).digest() if hashes else bytes(16)
        entries.append((raw, len(data), len(content), digest))
        data += content
    size = 20 + (12 if layout > 1 else 0) + (8 if layout > 2 else 0) + (64 if layout < 3 else 72)
    table = struct.pack("<I", len(entries))
    length = 4 + sum(4 + len(raw) + 32 + (4 if layout > 1 else 0) for raw, *_ in entries)
    base = size if layout > 2 else size + length
    for raw, offset, count, digest in entries:
        # The first version counts from the beginning of the file.
        place = offset + (len(before) + base if layout == 1 else 0)
        table += struct.pack("<I", len(raw)) + raw + struct.pack("<2Q16s", place, count, digest)
        table += struct.pack("<I", file_flags) if layout > 1 else b""
    head = struct.pack("<4s4I", b"GDPC", layout, 4, 3, 0)
    if layout > 1:
        head += struct.pack("<IQ", flags | (2 if before else 0), base)
    if layout > 2:
        head += struct.pack("<Q", size + len(data))
    head = head.ljust(size, b"\0")
    pack = head + data + table if layout > 2 else head + table + data
    return before + pack + (struct.pack("<Q4s", len(pack), b"GDPC") if before else b"")


def _text(text: str) -> bytes:
    return struct.pack("<i", len(text) + 1) + text.encode() + b"\0"


def _entry(version: int, offset: int, data: bytes, encrypted: bool) -> bytes:
    entry = struct.pack("<3QI", offset, len(data), len(data), 0)
    entry += struct.pack("<Q", 0) if version == 1 else b""
    entry += hashlib.sha1(data).digest()
    return entry + (struct.pack("<BI", encrypted, 0) if version >= 3 else b"")


def pak(
    files: Mapping[str, bytes],
    version: int = 11,
    *,
    encrypted: bool = False,
    encrypted_index: bool = False,
    mount: str = "../../../game/",
) -> bytes:
    """An Unreal pak without compression."""
    body, places = b"", {}
    for name, content in files.items():
        places[name] = len(body)
        body += _entry(version, 0, content, encrypted) + content
    if version < 10:
        index = _text(mount) + struct.pack("<I", len(files))
        for name, content in files.items():
            index += _text(name) + _entry(version, places[name], content, encrypted)
    else:
        packed, folders = b"", b""
        for name, content in files.items():
            folders += _text("/") + struct.pack("<I", 1) + _text(name) + struct.pack("<i", len(packed))
            packed += struct.pack("<3I", 0xE0000000 | encrypted << 22, places[name], len(content))
        folders = struct.pack("<I", len(files)) + folders
        index = _text(mount) + struct.pack("<IQI", len(files), 0, 0)
        index += struct.pack("<I2Q20s", 1, len(body), len(folders), hashlib.sha1(folders).digest())
        index += struct.pack("<I", len(packed)) + packed + struct.pack("<I", 0)
        body += folders
    foot = bytes(16) if version >= 7 else b""
    foot += bytes([encrypted_index]) if version >= 4 else b""
    foot += struct.pack("<2I2Q20s", 0x5A6F12E1, version, len(body), len(index), hashlib.sha1(index).digest())
    foot += b"\0" if version == 9 else b""
    foot += bytes(32 * 5) if version >= 8 else b""
    return body + index + foot


def unitypackage(path: Path, assets: Mapping[str, bytes]) -> None:
    """A package as Unity exports it; folders have no content of their own."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for number, (name, content) in enumerate(assets.items()):
            guid = f"{number:032x}"
            parts = {"pathname": name.encode() + b"\n00", "asset.meta": b"fileFormatVersion: 2\n"}
            for part, data in {**parts, **({"asset": content} if content else {})}.items():
                member = tarfile.TarInfo(f"{guid}/{part}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


VERSION = "2018.4.19f1"


def unity_object(kind: int, **fields: object) -> bytes:
    """An object of a class of Unity's, by number; what is not given is empty."""
    from UnityPy.helpers.Tpk import get_typetree_node
    from UnityPy.helpers.TypeTreeHelper import write_typetree
    from UnityPy.streams import EndianBinaryWriter

    node = get_typetree_node(kind, (2018, 4, 19, 0))
    writer = EndianBinaryWriter(endian="<")
    write_typetree({**_empty(node), **fields}, node, writer)
    return bytes(writer.bytes)


def _empty(node: Any) -> Any:
    match node.m_Type:
        case "string":
            return ""
        case "TypelessData":
            return b""
        case "map" | "vector" | "staticvector" | "set":
            return []
    if not node.m_Children:
        return 0
    if node.m_Children[0].m_Type == "Array":
        return []
    return {child.m_Name: _empty(child) for child in node.m_Children}


def serialized(objects: Mapping[int, tuple[int, bytes]]) -> bytes:
    """Unity's own file of objects: by number, each with its class."""
    kinds = sorted({kind for kind, _ in objects.values()})
    meta = VERSION.encode() + struct.pack("<xiBi", 13, 0, len(kinds))
    for kind in kinds:
        meta += struct.pack("<iBh16x", kind, 0, -1)
    meta += struct.pack("<i", len(objects))
    data = b""
    for number, (kind, raw) in objects.items():
        data += bytes(-len(data) % 8)
        # Numbers are aligned in the file: its head has 20 bytes.
        meta += bytes(-(20 + len(meta)) % 4) + struct.pack("<qIIi", number, len(data), len(raw), kinds.index(kind))
        data += raw
    meta += struct.pack("<2ix", 0, 0)
    start = (20 + len(meta) + 15) // 16 * 16
    head = struct.pack(">4IB3x", len(meta), start + len(data), 17, start, 0)
    return (head + meta).ljust(start, b"\0") + data


def unityfs(files: Mapping[str, bytes], flags: int = 0x40) -> bytes:
    """A bundle without compression."""
    data, nodes = b"", b""
    for name, content in files.items():
        nodes += struct.pack(">2QI", len(data), len(content), 4) + name.encode() + b"\0"
        data += content
    info = bytes(16) + struct.pack(">3IHI", 1, len(data), len(data), 0, len(files)) + nodes
    head = b"UnityFS\0" + struct.pack(">I", 6) + b"5.x.x\0" + VERSION.encode() + b"\0"
    size = len(head) + 20 + len(info) + len(data)
    return head + struct.pack(">Q3I", size, len(info), len(info), flags) + info + data


def unity_bundle(texts: Mapping[str, bytes], sound: bytes = b"", before: int = 0) -> bytes:
    """Texts at paths of a project, and a sound that is streamed from behind `before` bytes."""
    objects, container = {}, []
    for number, (path, text) in enumerate(texts.items(), 2):
        objects[number] = 49, unity_object(49, m_Name=path.rpartition("/")[2], m_Script=text.decode())
        asset = {"preloadIndex": 0, "preloadSize": 0, "asset": {"m_FileID": 0, "m_PathID": number}}
        container.append((path, asset))
    files = {}
    if sound:
        place = {"m_Source": "archive:/CAB-1/CAB-1.resource", "m_Offset": before, "m_Size": len(sound)}
        objects[99] = 83, unity_object(83, m_Name="jump", m_Resource=place)
        files["CAB-1.resource"] = bytes(before) + sound
    objects[1] = 142, unity_object(142, m_Name="levels", m_Container=container)
    return unityfs({"CAB-1": serialized(objects), **files})
