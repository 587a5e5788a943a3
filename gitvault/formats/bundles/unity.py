"""Unity's AssetBundles and player data, by UnityPy: objects that have a name, the others with what they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from gitvault.errors import UnsupportedMedia
from gitvault.formats.bundles.records import MOST, Asset, Bundle
from gitvault.formats.extras import need

_STREAMS = {
    **dict.fromkeys(
        ("Texture2D", "Texture2DArray", "Texture3D", "Cubemap", "CubemapArray", "Mesh"),
        ("m_StreamData", "path", "offset", "size"),
    ),
    "AudioClip": ("m_Resource", "m_Source", "m_Offset", "m_Size"),
    "VideoClip": ("m_ExternalResources", "m_Source", "m_Offset", "m_Size"),
}
"""Classes whose large part lies in a file beside them, and which fields say where: those change when others grow."""


def read(path: Path) -> Bundle:
    """What is in a bundle, or a player's data. Raises UnsupportedMedia, ToolMissing."""
    unitypy = need("UnityPy", "game")
    try:
        environment = unitypy.load(str(path))
        objects = environment.objects
    # A parser of somebody's file may raise anything.
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        if "encrypted" in why:
            return Bundle("unity", "", (), "it is encrypted")
        raise UnsupportedMedia(f"{path.name}: cut off or damaged: {why}; its bytes are saved") from error
    if not objects:
        with path.open("rb") as file:
            if file.read(5) == b"Unity":
                raise UnsupportedMedia(f"{path.name}: cut off or damaged: no object in it; its bytes are saved")
        return Bundle("unity", "", (), "nothing in it that Unity loads: encrypted, or of its maker's own kind")
    if len(objects) > MOST:
        raise UnsupportedMedia(f"{path.name}: {len(objects)} objects, expected at most {MOST}; its bytes are saved")
    damaged: list[str] = []
    assets = tuple(_assets(environment, damaged))
    return Bundle("unity", str(objects[0].assets_file.unity_version), assets, "", tuple(damaged))


def _assets(environment: Any, damaged: list[str]) -> Iterator[Asset]:
    paths = {
        (file.name, pointer.m_PathID): path for file in environment.assets for path, pointer in file.container.items()
    }
    # What has no name belongs to what has the path, as a prefab's components do, else to the others of its class.
    kinds: dict[str, str] = {}
    inside: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for found in environment.objects:
        kind = found.type.name
        name = own = paths.get((found.assets_file.name, found.path_id), "")
        try:
            if not own and kind not in ("GameObject", "AssetBundle"):
                name = str(found.peek_name() or "")
            if own:
                kinds[own] = kind
            content = _content(found)
        # As above, for one object of many.
        except Exception:
            damaged.append(name or f"{kind} {found.path_id}")
            continue
        if name and not own:
            yield Asset(name, kind, *content)
        else:
            whole = own or found.container or ""
            inside[whole, "" if whole else kind].append(content)
    for (name, kind), contents in sorted(inside.items()):
        digests = sorted(digest for _, digest in contents)
        whole = digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()
        yield Asset(name, kind or kinds.get(name, ""), sum(size for size, _ in contents), whole if all(digests) else "")


def _content(found: Any) -> tuple[int, str]:
    """An object's size and hash, with what it streams from the file beside it."""
    raw = found.get_raw_data()
    place = _STREAMS.get(found.type.name)
    if not place:
        return len(raw), sha256(raw).hexdigest()
    import msgpack
    from UnityPy.helpers.ResourceReader import get_resource_data

    tree = found.parse_as_dict()
    beside = tree.pop(place[0], {})
    name, offset, size = (beside.get(key, 0) for key in place[1:])
    if not name:
        return len(raw), sha256(raw).hexdigest()
    try:
        streamed = get_resource_data(name, found.assets_file, offset, size)
    except FileNotFoundError:
        return len(raw) + size, ""
    digest = sha256(msgpack.packb(tree, unicode_errors="surrogateescape"))
    digest.update(streamed)
    return len(raw) + size, digest.hexdigest()
