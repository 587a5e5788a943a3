"""Unity: `ProjectSettings/*.asset`, quality levels, and the build profiles of Unity 6.

The sections name platforms differently (`iPhone`, `iOSSupport`, 4): here each has one name. What a platform's entry
does not say is the engine's default, and missing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from gitvault.personas.game.platforms.blocks import yaml
from gitvault.personas.game.platforms.nodes import Node, Text, leaves
from gitvault.personas.game.platforms.settings import Configuration, Value, Values
from gitvault.personas.game.platforms.trees import Reader

PROJECT = "ProjectSettings"
_PROFILES = "Assets/Settings/Build Profiles"
_USUAL = ("Standalone", "Android", "iPhone", "WebGL")
_NAMES = {
    name.lower(): platform
    for platform, names in {
        "Standalone": "Standalone WindowsStandaloneSupport MacStandaloneSupport LinuxStandaloneSupport 1",
        "Android": "Android AndroidPlayer 7",
        "iPhone": "iPhone iOS iOSSupport 4",
        "WebGL": "WebGL WebGLSupport Web 13",
        "Windows Store Apps": "Windows_Store_Apps WindowsStoreApps Metro MetroSupport WSA 14",
        "PS4": "PS4 PS4Player 19",
        "XboxOne": "XboxOne XboxOnePlayer 21",
        "tvOS": "tvOS AppleTVSupport 25",
        "Nintendo Switch": "Nintendo_Switch Switch 27",
        "Nintendo Switch 2": "Nintendo_Switch_2 Switch2",
        "Lumin": "Lumin 28",
        "Stadia": "Stadia 29",
        "CloudRendering": "CloudRendering LinuxHeadlessSimulation 30",
        "GameCoreScarlett": "GameCoreScarlett GameCoreXboxSeries 31",
        "GameCoreXboxOne": "GameCoreXboxOne 32",
        "PS5": "PS5 PS5Player 33",
        "EmbeddedLinux": "EmbeddedLinux 34",
        "QNX": "QNX 35",
        "VisionOS": "VisionOS visionOS 36",
        "Server": "Server",
        # Gone, and still in files.
        "Tizen": "Tizen 17",
        "WiiU": "WiiU 24",
        "Nintendo 3DS": "Nintendo_3DS N3DS 23",
        "PSP2": "PSP2 18",
        "PSM": "PSM 20",
        "Samsung TV": "Samsung_TV SamsungTV 22",
        "BlackBerry": "BlackBerry 16",
        "WP8": "WP8 15",
        "XBOX360": "XBOX360 6",
        "PS3": "PS3 5",
        "Web": "WebPlayer 2",
    }.items()
    for name in (word.replace("_", " ") for word in names.split())
}
_DESKTOPS = re.compile(r"(Windows|Mac|Linux)StandaloneSupport")
# BuildTarget, by which build profiles name theirs.
_TARGETS = {
    **dict.fromkeys(("2", "5", "17", "19", "24", "27", "28"), "Standalone"),
    "9": "iPhone",
    "13": "Android",
    "20": "WebGL",
    "21": "Windows Store Apps",
    "31": "PS4",
    "33": "XboxOne",
    "37": "tvOS",
    "38": "Nintendo Switch",
    "42": "GameCoreScarlett",
    "43": "GameCoreXboxOne",
    "44": "PS5",
    "45": "EmbeddedLinux",
    "46": "QNX",
    "47": "VisionOS",
}
_GRAPHICS = {
    2: "Direct3D11",
    8: "OpenGLES2",
    11: "OpenGLES3",
    13: "PlayStation4",
    14: "XboxOne",
    16: "Metal",
    17: "OpenGLCore",
    18: "Direct3D12",
    21: "Vulkan",
    22: "Switch",
    23: "XboxOneD3D12",
    24: "GameCoreXboxOne",
    25: "GameCoreXboxSeries",
    26: "PlayStation5",
    27: "PlayStation5NGGC",
    28: "WebGPU",
}
# Keys that are of one platform, as their names say.
_OWN = re.compile(
    r"(?:m_)?(?:(?P<Android>[aA]ndroid)|(?P<iPhone>iPhone|iOS|ios|uI(?=[A-Z])|appleDeveloper)|(?P<tvOS>tvOS|appleTV)"
    r"|(?P<VisionOS>[vV]isionOS)|(?P<WebGL>webGL|webWasm)|(?P<Nintendo_Switch>switch)|(?P<PS4>ps4)|(?P<PS5>ps5)"
    r"|(?P<XboxOne>[xX]boxOne)|(?P<Windows_Store_Apps>metro|wsa)|(?P<Lumin>lumin)|(?P<QNX>qnx)"
    r"|(?P<EmbeddedLinux>embeddedLinux|hmi)|(?P<Standalone>mac(?=[A-Z])|useMac))(?=[A-Z0-9_])"
)
# References and vectors are read better as one.
_TOGETHER = (
    frozenset({"fileID", "guid", "type"}),
    frozenset({"instanceID"}),
    frozenset("xyzw"),
    frozenset("rgba"),
)
_APIS = re.compile(r"(?:[0-9a-f]{8}){1,32}")


def read(reader: Reader) -> Configuration:
    """The settings of a project of Unity."""
    common: dict[str, Value] = {}
    platforms: dict[str, dict[str, Value | None]] = {name: {} for name in _USUAL}
    quality: list[dict[str, dict[str, Value]]] = []
    chosen: dict[str, Text] = {}
    for file in sorted(reader.tree.names(PROJECT)):
        path = f"{PROJECT}/{file}"
        for root, node in _roots(reader, path):
            if root == "QualitySettings":
                quality, chosen = _levels(node, path)
                node = {key: inner for key, inner in node.items() if key != "m_QualitySettings"}
            for platform, key, text in _settings(root, node):
                value = Value(text.text, f"{path}:{text.line}")
                if platform:
                    platforms.setdefault(platform, {})[key] = value
                else:
                    common[key] = value
    for name, said in chosen.items():
        platforms.setdefault(name, {}).update(_level(quality, said))
    for name, values in _profiles(reader):
        base = name.partition(":")[0]
        platforms[name] = {**platforms.get(base, {}), **values}
    path = f"{PROJECT}/ProjectVersion.txt"
    version = re.search(r"m_EditorVersion: *(\S+)", reader.text(path) or "")
    if version:
        line = version.string.count("\n", 0, version.start()) + 1
        common["ProjectVersion.m_EditorVersion"] = Value(version[1], f"{path}:{line}")
    return Configuration("unity", version[1] if version else "", common, platforms, tuple(reader.problems))


def _roots(reader: Reader, path: str) -> Iterator[tuple[str, dict[str, Node]]]:
    """The objects of a file."""
    if not path.endswith(".asset") or (text := reader.text(path)) is None:
        return
    try:
        for document in yaml(text):
            for root, node in document.items() if isinstance(document, dict) else ():
                if isinstance(node, dict):
                    yield root, node
    except ValueError as error:
        reader.problem(path, error)


def _settings(root: str, node: Mapping[str, Node]) -> Iterator[tuple[str, str, Text]]:
    """Platform (empty: all), key, value."""
    for name, inner in node.items():
        key = f"{root}.{name}"
        if name in ("m_ObjectHideFlags", "serializedVersion"):
            continue
        if parts := _by_platform(inner):
            for platform, which, part in parts:
                for way, text in leaves(_together(part)):
                    yield platform, _dotted(key + which, way), _api(way, text)
            continue
        own = _OWN.match(name) if root == "PlayerSettings" else None
        platform = str(own.lastgroup).replace("_", " ") if own else ""
        for way, text in leaves(_together(inner)):
            yield platform, _dotted(key, way), text


def _by_platform(node: Node) -> list[tuple[str, str, Node]]:
    """What is said for each platform, with what tells several of one apart; nothing for what is no such table."""
    if isinstance(node, dict):
        if all(name.lower() in _NAMES for name in node):
            return [(_NAMES[name.lower()], "", inner) for name, inner in node.items()]
        return []
    found: list[tuple[str, str, Node]] = []
    for item in node if isinstance(node, list) else ():
        target = item.get("m_BuildTarget") if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(target, Text) or target.text.lower() not in _NAMES:
            return []
        desktop = _DESKTOPS.fullmatch(target.text)
        tier = item.get("m_Tier")
        which = f"[{desktop[1]}]" if desktop else f"[{tier.text}]" if isinstance(tier, Text) else ""
        rest: dict[str, Node] = {key: inner for key, inner in item.items() if key not in ("m_BuildTarget", "m_Tier")}
        found.append((_NAMES[target.text.lower()], which, rest))
    return found


def _api(way: tuple[str, ...], text: Text) -> Text:
    """Graphics interfaces by name: they are numbers of 32 bits in hexadecimal, one after the other."""
    if way[-1:] != ("m_APIs",) or not _APIS.fullmatch(text.text):
        return text
    numbers = [int.from_bytes(bytes.fromhex(text.text[at : at + 8]), "little") for at in range(0, len(text.text), 8)]
    return Text(", ".join(_GRAPHICS.get(number, str(number)) for number in numbers), text.line)


def _levels(node: Mapping[str, Node], path: str) -> tuple[list[dict[str, dict[str, Value]]], dict[str, Text]]:
    """The quality levels in order, each with its one name and values; and which each platform has."""
    levels: list[dict[str, dict[str, Value]]] = []
    listed = node.get("m_QualitySettings")
    for item in listed if isinstance(listed, list) else ():
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(item, dict) and isinstance(name, Text):
            rest: dict[str, Node] = {k: inner for k, inner in item.items() if k not in ("name", "serializedVersion")}
            values = {
                _dotted("QualitySettings", way): Value(text.text, f"{path}:{text.line}")
                for way, text in leaves(_together(rest))
            }
            levels.append({name.text: {"QualitySettings.level": Value(name.text, f"{path}:{name.line}"), **values}})
    by_platform = node.get("m_PerPlatformDefaultQuality")
    chosen = by_platform.items() if isinstance(by_platform, dict) else ()
    return levels, {_NAMES.get(name.lower(), name): number for name, number in chosen if isinstance(number, Text)}


def _level(levels: list[dict[str, dict[str, Value]]], said: Text) -> dict[str, Value]:
    number = int(said.text) if said.text.isdecimal() and len(said.text) < 6 else len(levels)
    return next(iter(levels[number].values())) if number < len(levels) else {}


def _profiles(reader: Reader) -> Iterator[tuple[str, Values]]:
    """Build profiles: `Standalone:Demo`, with what they say themselves."""
    for file in sorted(reader.tree.names(_PROFILES)):
        path = f"{_PROFILES}/{file}"
        for _, node in _roots(reader, path):
            target = node.get("m_BuildTarget")
            if not isinstance(target, Text):
                continue
            platform = _TARGETS.get(target.text, f"BuildTarget {target.text}")
            yield f"{platform}:{file.removesuffix('.asset')}", dict(_profile(reader, path, node, platform))


def _profile(reader: Reader, path: str, node: Mapping[str, Node], platform: str) -> Iterator[tuple[str, Value]]:
    for name, inner in node.items():
        if name in ("m_Scenes", "m_ScriptingDefines", "m_OverrideGlobalSceneList", "m_OverrideGlobalScenes"):
            for way, text in leaves(_together(inner)):
                yield _dotted(f"BuildProfile.{name}", way), Value(text.text, f"{path}:{text.line}")
    references = node.get("references")
    listed = references.get("RefIds") if isinstance(references, dict) else None
    for item in listed if isinstance(listed, list) else ():
        data = item.get("data") if isinstance(item, dict) else None
        for way, text in leaves(_together(data)) if isinstance(data, dict) else ():
            yield _dotted("BuildProfile.settings", way), Value(text.text, f"{path}:{text.line}")
    player = node.get("m_PlayerSettingsYaml")
    written = player.get("m_Settings") if isinstance(player, dict) else None
    lines = (
        [item["line"] for item in written if isinstance(item, dict) and "line" in item]
        if isinstance(written, list)
        else []
    )
    texts = [line for line in lines if isinstance(line, Text)]
    try:
        # Each begins with `| `; in itself it is a file like ProjectSettings.asset.
        documents = yaml("\n".join(" ".join(text.text[2:].splitlines()) for text in texts))
    except ValueError as error:
        reader.problem(path, f"its player settings: {error}")
        return
    for document in documents:
        for root, inner in document.items() if isinstance(document, dict) else ():
            for where, key, text in _settings(root, inner) if isinstance(inner, dict) else ():
                if where in ("", platform):
                    yield key, Value(text.text, f"{path}:{texts[text.line - 1].line}")


def _together(node: Node) -> Node:
    """With references and vectors as one value each."""
    if isinstance(node, list):
        return [_together(item) for item in node]
    if not isinstance(node, dict):
        return node
    first = next(iter(node.values()), None)
    if isinstance(first, Text) and any(node.keys() <= keys for keys in _TOGETHER):
        parts = ", ".join(f"{key}: {inner.text if isinstance(inner, Text) else '...'}" for key, inner in node.items())
        return Text(f"{{{parts}}}", first.line)
    return {key: _together(inner) for key, inner in node.items()}


def _dotted(key: str, way: tuple[str, ...]) -> str:
    return key + "".join(part if part.startswith("[") else f".{part}" for part in way)
