"""Assets that nothing in a game's project leads to: no scene, resource, setting or script, however far around.

Kept on the safe side: scripts count as used, a folder that one names is used whole, and so is what an engine loads
by a folder's name. What a program puts together at run time from pieces nobody can see.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from posixpath import dirname, join, normpath

from gitvault.core.models import Entry
from gitvault.core.utils.kinds import kind_of
from gitvault.core.utils.names import to_text
from gitvault.vault import Vault
from gitvault.vcs.protect.view import View

_KINDS = frozenset({"image", "audio", "video", "model", "font"})
_ENDINGS = frozenset(
    ".tscn .scn .tres .res .theme .material .prefab .unity .mat .asset .anim .controller .uasset .umap".split()  # noqa: SIM905
)
_MOST_READ = 64 << 20
"""Of one file, in bytes: larger ones are assets whose references are not looked for."""

_Content = Callable[[str], bytes]
_Named = Callable[[str, bytes], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Usage:
    """The assets of one engine's project in a snapshot."""

    root: str
    """Its folder; "" for the snapshot's own."""
    engine: str
    """`godot`, `unity`, `unreal`."""
    assets: int
    size: int
    """Bytes of all of them."""
    unused: tuple[tuple[str, int], ...]
    """Paths from the project's folder, with their sizes; the largest first."""


@dataclass(frozen=True, slots=True)
class _Engine:
    """How an engine's files name each other."""

    look: Callable[[Collection[str], _Content], tuple[Iterable[str], _Named]]
    """What is used whoever names it, and what tells the files that a file names, by its path and content."""
    read: frozenset[str]
    """Endings of files that may name others."""
    skipped: tuple[str, ...]
    """Beginnings of paths that are nobody's assets."""


def usage(vault: Vault, snapshot: str) -> list[Usage]:
    """Each project of an engine in a snapshot. Raises NotFoundError, CorruptionError."""
    view = View(vault.history, vault.resolve(snapshot))
    entries = {to_text(entry.path): entry for entry in view.entries() if entry.kind == "file"}
    roots = dict(_projects(entries))
    # A project inside another one is its own.
    owners: defaultdict[str, dict[str, Entry]] = defaultdict(dict)
    for path, entry in entries.items():
        at = dirname(path)
        while at and at not in roots:
            at = dirname(at)
        if at in roots:
            owners[at][path[len(at) + 1 :] if at else path] = entry

    def content_of(files: Mapping[str, Entry]) -> _Content:
        def content(path: str) -> bytes:
            entry = files.get(path)
            return _content(vault, view, entry) if entry and entry.size <= _MOST_READ else b""

        return content

    return [_usage(root, engine, owners[root], content_of(owners[root])) for root, engine in sorted(roots.items())]


def _content(vault: Vault, view: View, entry: Entry) -> bytes:
    if based := view.find(entry.path):
        return view.read(based)
    if not entry.pointer:
        return vault.history.blob(entry.blob)
    target = BytesIO()
    vault.store.retrieve_file(entry.pointer, target)
    return target.getvalue()


def _projects(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path.endswith("project.godot") and path.rpartition("/")[2] == "project.godot":
            yield dirname(path), "godot"
        elif path.endswith("ProjectSettings/ProjectVersion.txt"):
            yield dirname(dirname(path)), "unity"
        elif path.endswith(".uproject"):
            yield dirname(path), "unreal"


def _usage(root: str, name: str, files: Mapping[str, Entry], content: _Content) -> Usage:
    engine = _ENGINES[name]
    roots, named = engine.look(files, content)
    seen = set(roots)
    pending = list(seen)
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        by_name[path.rpartition("/")[2]].append(path)
    while pending:
        path = pending.pop()
        if _ending(path) in engine.read:
            found = set(named(path, content(path)))
        elif _ending(path) in _MODELS:
            found = set(_beside(path, content(path), by_name))
        else:
            continue
        new = (found & files.keys()) - seen
        seen |= new
        pending += new
    # Folders that an engine is told to leave alone.
    hidden = [dirname(path) for path in files if path.rpartition("/")[2] == ".gdignore"]
    assets = {
        path: entry.size
        for path, entry in files.items()
        if _is_asset(path, engine) and not any(_is_in(path, folder) for folder in hidden)
    }
    unused = sorted(((path, size) for path, size in assets.items() if path not in seen), key=lambda one: (-one[1], one))
    return Usage(root, name, len(assets), sum(assets.values()), tuple(unused))


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def _is_in(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(folder + "/")


def _is_asset(path: str, engine: _Engine) -> bool:
    known = _ending(path) in _ENDINGS or kind_of(path.encode()) in _KINDS
    return known and not any(path.startswith(start) or f"/{start}" in path for start in engine.skipped)


_MODELS = frozenset({".gltf", ".glb", ".obj", ".mtl", ".dae", ".fbx", ".blend", ".escn"})
_ENDED = re.compile(rb"(?i)[.](?:png|jpe?g|tga|bmp|dds|exr|hdr|tiff?|webp|psd|ktx2?|mtl|bin)(?![a-z0-9])")
_BEFORE = re.compile(r"[^/\\\"'<>|:\0\r\n\t]*\Z")
_LONGEST = 128


def _beside(path: str, data: bytes, by_name: Mapping[str, list[str]]) -> Iterator[str]:
    """Models name their textures without saying where: in their folder, or below it."""
    # From the ending back: from the front, base64 of some megabytes would be gone through from each of its letters.
    for found in _ENDED.finditer(data):
        before = _BEFORE.search(data[max(0, found.start() - _LONGEST) : found.start()].decode("utf-8", "replace"))
        words = ((before[0] if before else "") + found[0].decode()).split(" ")
        # What stands before a name in a line is no part of it.
        for number in range(len(words)):
            for other in by_name.get(" ".join(words[number:]), ()):
                if _is_in(dirname(other), dirname(path)):
                    yield other


# -- Godot

_RES = re.compile(rb"""res://([^"'\r\n\0<>|]*)""")
_LOAD = re.compile(rb"""load\(\s*["']([^"':]+)["']""")
_UID = re.compile(rb"uid://[a-z0-9]+")
_SCRIPTS = frozenset({".gd", ".cs", ".gdextension", ".gdnlib", ".gdns", ".cpp", ".h"})


def _godot(files: Collection[str], content: _Content) -> tuple[Iterable[str], _Named]:
    roots = [path for path in files if _ending(path) in _SCRIPTS or path.endswith((".godot", ".cfg"))]
    uids: dict[bytes, str] = {}
    for path in files:
        if path.endswith((".import", ".uid", ".tscn", ".tres")):
            head = content(path)[:2000]
            if found := _UID.search(head):
                uids[found[0]] = path.removesuffix(".import").removesuffix(".uid")

    def named(path: str, data: bytes) -> Iterator[str]:
        for found in _RES.finditer(data):
            yield from _at(files, found[1].decode("utf-8", "replace").partition("::")[0])
        for found in _LOAD.finditer(data):
            yield normpath(join(dirname(path), found[1].decode("utf-8", "replace")))
        for found in _UID.finditer(data):
            if at := uids.get(found[0]):
                yield at

    return roots, named


def _at(files: Collection[str], path: str) -> Iterator[str]:
    """The file; all in the folder that the path is, or of which the rest is put together at run time."""
    if path in files:
        yield path
        return
    for mark in ("%", "{"):
        if mark in path:
            path = path.partition(mark)[0].rpartition("/")[0]
    folder = path.rstrip("/\\")
    if folder:
        yield from (other for other in files if other.startswith(folder + "/"))


# -- Unity

_GUID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_PACKED = re.compile(rb"(?s)\0(?=(.{16})(?:[\2\3]\0\0\0|\0\0\0[\2\3])\0)")
"""In a binary asset's table of files: no name, a GUID, a type, no path."""
_ASSETS = re.compile(rb"""(?:["']|path: )(Assets/[^"'\r\n]+)""")
_BUNDLED = re.compile(rb"assetBundleName: *\S")
_LOADED = ("Resources/", "StreamingAssets/", "Editor/", "Editor Default Resources/", "Gizmos/", "Plugins/")
_UNITY_SCRIPTS = frozenset(
    {".cs", ".asmdef", ".asmref", ".shader", ".cginc", ".hlsl", ".compute", ".uxml", ".uss", ".dll"}
)


def _unity(files: Collection[str], content: _Content) -> tuple[Iterable[str], _Named]:
    roots = [path for path in files if _is_loaded(path)]
    scenes = [path for path in files if path.endswith(".unity")]
    chosen = content("ProjectSettings/EditorBuildSettings.asset")
    if not any(path.encode() in chosen for path in scenes):
        roots += scenes
    guids: dict[bytes, str] = {}
    packed: dict[bytes, str] = {}
    for path in files:
        if not path.endswith(".meta"):
            continue
        data = content(path)
        if found := _GUID.search(data[:400]):
            guids[found[0]] = packed[_packed(found[0])] = path.removesuffix(".meta")
        if _BUNDLED.search(data):
            roots.append(path.removesuffix(".meta"))

    def named(path: str, data: bytes) -> Iterator[str]:
        # How a model is taken in stands beside it, and may name materials.
        yield f"{path}.meta"
        for found in _ASSETS.finditer(data):
            yield from _at(files, found[1].decode("utf-8", "replace"))
        is_text = data.startswith((b"%YAML", b"{")) or b"\0" not in data[:1000]
        for found in (_GUID if is_text else _PACKED).finditer(data):
            if at := guids.get(found[0]) if is_text else packed.get(found[1]):
                yield at

    return roots, named


def _is_loaded(path: str) -> bool:
    """Whether the engine takes it whoever names it."""
    if path.startswith("ProjectSettings/") or _ending(path) in _UNITY_SCRIPTS or "AddressableAssetsData/" in path:
        return True
    return any(path.startswith(f"Assets/{folder}") or f"/{folder}" in path for folder in _LOADED)


def _packed(guid: bytes) -> bytes:
    """A GUID as binary assets have it: the digits of each byte the other way round."""
    return bytes.fromhex(b"".join(guid[at + 1 : at + 2] + guid[at : at + 1] for at in range(0, 32, 2)).decode())


# -- Unreal

_UNREAL_ROOTS = (".umap", ".uproject", ".uplugin", ".ini", ".cpp", ".h", ".cs")
_PACKAGE = re.compile(rb"/([A-Za-z0-9_]+)/([A-Za-z0-9_/+-]*)")


def _unreal(files: Collection[str], content: _Content) -> tuple[Iterable[str], _Named]:
    # Actors of a level that keeps each in a file of its own are named by nobody.
    roots = [path for path in files if path.endswith(_UNREAL_ROOTS) or "/__External" in path]
    mounts = {b"Game": "Content"}
    for path in files:
        if path.endswith(".uplugin"):
            mounts[path.rpartition("/")[2].removesuffix(".uplugin").encode()] = f"{dirname(path)}/Content"

    def named(path: str, data: bytes) -> Iterator[str]:
        for found in _PACKAGE.finditer(data):
            if mount := mounts.get(found[1]):
                inner = f"{mount}/{found[2].decode()}"
                yield from (f"{inner}.uasset", f"{inner}.umap")
                if path.endswith(".ini"):
                    yield from _at(files, inner)

    return roots, named


_ENGINES = {
    "godot": _Engine(
        _godot,
        _SCRIPTS | frozenset({".tscn", ".scn", ".tres", ".res", ".godot", ".cfg", ".gdshader", ".json", ".theme"}),
        (".godot/", ".import/"),
    ),
    "unity": _Engine(
        _unity,
        _UNITY_SCRIPTS
        | frozenset(
            {
                ".unity",
                ".prefab",
                ".mat",
                ".asset",
                ".anim",
                ".controller",
                ".meta",
                ".json",
                ".playable",
                ".spriteatlas",
            }
            | {
                ".overridecontroller",
                ".mask",
                ".shadergraph",
                ".lighting",
                ".terrainlayer",
                ".mixer",
                ".preset",
                ".vfx",
            }
        ),
        ("Library/", "Temp/", "ProjectSettings/"),
    ),
    "unreal": _Engine(
        _unreal,
        frozenset({".uasset", ".umap", ".uproject", ".uplugin", ".ini", ".cpp", ".h", ".cs"}),
        ("Intermediate/", "Saved/", "DerivedDataCache/", "Binaries/"),
    ),
}
