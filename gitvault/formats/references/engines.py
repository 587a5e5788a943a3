"""Scenes of game engines: Godot names files by their path in the project, Unity by number, Unreal by package."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gitvault.formats import Reference
from gitvault.formats.references import spans
from gitvault.formats.references.spans import Span

_GODOT = re.compile(rb'"(res://(?:[^"\\]|\\.)*)"')
_TYPE = re.compile(rb'\btype="([^"]*)"')
_GODOT_KINDS = {
    "PackedScene": "scene",
    "Texture2D": "image",
    "Texture": "image",
    "AudioStream": "sound",
    "FontFile": "font",
    "Material": "material",
}
_GUID = re.compile(rb"\bguid: ([0-9a-f]{32})\b")
# Assets of Unity itself.
_OWN = re.compile(rb"0{16}[0-9a-f]0{15}")
_PACKAGE = re.compile(rb"(?s)(..\0\0)(/Game/[^\0]{1,1000}+)\0")


def _godot(data: bytes) -> Iterator[Span]:
    for found in _GODOT.finditer(data):
        line = data[data.rfind(b"\n", 0, found.start()) + 1 : found.start()]
        named = _TYPE.search(line)
        kind = _GODOT_KINDS.get(named[1].decode("utf-8", "replace"), "file") if named else "file"
        yield from spans.plain(data, *found.span(1), line[1:40].split(b" ")[0].decode("utf-8", "replace"), kind)


def _unity(data: bytes) -> Iterator[Span]:
    for found in _GUID.finditer(data):
        if not _OWN.fullmatch(found[1]):
            where = data[data.rfind(b"\n", 0, found.start()) + 1 : found.start()].strip(b" -")
            reference = Reference(where.split(b":")[0].decode("utf-8", "replace"), f"guid:{found[1].decode()}", "file")
            yield Span(reference, *found.span(1), lambda text: text.removeprefix("guid:").encode())


def _unreal(data: bytes) -> Iterator[Span]:
    for found in _PACKAGE.finditer(data):
        # A string of the package: its length, with the NUL that ends it, stands before it.
        if int.from_bytes(found[1], "little") == len(found[2]) + 1:
            yield from spans.plain(data, *found.span(2), "package", "file")


godot_references, godot_rewrite = spans.capabilities(_godot)
# Numbers stay when a file moves together with its `.meta`; the offsets within a package would not survive a splice.
unity_references, _ = spans.capabilities(_unity)
unreal_references, _ = spans.capabilities(_unreal)
