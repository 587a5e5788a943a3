"""Bundles of game engines, looked into: which assets are in one, how large they are, and which are the same.

Nothing is changed and nothing taken out. Files are hostile: call `read` in a process of its own, see `confined`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats.bundles.records import Asset, Bundle

__all__ = ["EXTENSIONS", "Asset", "Bundle", "family", "may_be", "read"]

_GODOT, _UNREAL = b"GDPC", b"\xe1\x12\x6f\x5a"
_STARTS = {
    _GODOT: "godot",
    b"UnityFS\0": "unity",
    b"UnityWeb": "unity",
    b"UnityRaw\0": "unity",
    b"PK\3\4": "zipped",
    b"PK\5\6": "zipped",
    b"\x1f\x8b": "package",
}
EXTENSIONS = {
    ".pck": "godot",
    ".pak": "unreal",
    ".utoc": "unreal",
    ".ucas": "unreal",
    ".unity3d": "unity",
    ".assetbundle": "unity",
    ".bundle": "unity",
    ".ab": "unity",
    ".assets": "unity",
    ".unitypackage": "package",
    **dict.fromkeys((".zip", ".apk", ".aab", ".obb", ".ipa", ".jar", ".love", ".pk3", ".xapk"), "zipped"),
}
"""Of files that are bundles, with the module that reads them; others may be bundles by their first bytes."""
_BEHIND = 1024


def may_be(extension: str, head: bytes) -> bool:
    """Whether a file with this extension (lower case, with its dot) and these first bytes (16 at least) is a bundle."""
    return extension in EXTENSIONS or family(head) in ("godot", "unity")


def family(head: bytes) -> str:
    """The module that reads files that begin so; "" for none."""
    return next((name for start, name in _STARTS.items() if head.startswith(start)), "")


def read(path: str) -> Bundle:
    """What is in a bundle. Raises UnsupportedMedia for one that is cut off or damaged, ToolMissing, OSError.

    One of which nothing can be seen (encrypted, or of a maker's own kind) has no assets and says so in `opaque`.
    """
    extension = Path(path).suffix.lower()
    with open(path, "rb") as file:
        head = file.read(16)
        file.seek(max(0, file.seek(0, 2) - _BEHIND))
        tail = file.read(_BEHIND)
    name = family(head) or ("unreal" if _UNREAL in tail else "godot" if tail.endswith(_GODOT) else "")
    if name == "package" and extension != ".unitypackage":
        name = ""
    if not name and extension == ".assets":
        name = "unity"
    if not name and extension not in EXTENSIONS:
        raise UnsupportedMedia(f"{Path(path).name}: no kind of bundle that gitvault knows; its bytes are saved")
    if not name:
        expected = {"zipped": "zip", "package": "unitypackage"}.get(EXTENSIONS[extension], EXTENSIONS[extension])
        return Bundle(expected, "", (), _unknown(extension, head))
    found = import_module(f"gitvault.formats.bundles.{name}").read(Path(path))
    assert isinstance(found, Bundle)
    return found


def _unknown(extension: str, head: bytes) -> str:
    if extension in (".utoc", ".ucas"):
        return "Unreal's IoStore: its table is not read"
    if not head:
        return "it is empty"
    return "no header that an engine writes: encrypted, or of its maker's own kind"
