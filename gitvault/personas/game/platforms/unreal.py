"""Unreal: the hierarchy of `Config/*.ini` with `+ - . !`, device profiles, and the plug-ins of the `.uproject`.

Default<Type>.ini, then <Platform><Type>.ini in `Config/<Platform>` and `Platforms/<Platform>/Config`, those of the
platforms it descends from first. The engine's own Base files are no part of a project: what only they say is missing
here. Keys are `Type:Section:Key`; names are read in whatever case, as the engine does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from gitvault.personas.game.platforms.flow import json
from gitvault.personas.game.platforms.nodes import Node, Text, check_merged
from gitvault.personas.game.platforms.settings import Configuration, Value
from gitvault.personas.game.platforms.trees import Reader

CONFIG = "Config"
_USUAL = ("Windows", "Mac", "Linux", "Android", "IOS")
_PARENTS: Mapping[str, tuple[str, ...]] = {
    "Mac": ("Apple",),
    "IOS": ("Apple",),
    "TVOS": ("Apple", "IOS"),
    "VisionOS": ("Apple", "IOS"),
    "Linux": ("Unix",),
    "LinuxArm64": ("Unix", "Linux"),
    "LinuxAArch64": ("Unix", "Linux"),
}
_GROUPS = ("Apple", "Unix")
# Of the editor alone, or of translations: in no build.
_NO_BUILD = re.compile(r"(?i)default(?:editor.*|localization.*)\.ini")
_COMMENT = re.compile(r'("[^"]*")|//.*')
_CVARS = 32
_PLUGIN_PLATFORMS = {"Win64": "Windows", "Win32": "Windows", "UWP": "Windows"}

# By (type, section, key), lower case, the values in order: each by its text, with a number where one is there twice. So
# that a list of n is made in n steps.
_Held = dict[tuple[str, int], Value]
_Layer = dict[tuple[str, str, str], _Held]


def read(reader: Reader) -> Configuration:
    """The settings of a project of Unreal."""
    names: dict[tuple[str, str, str], str] = {}
    default: _Layer = {}
    for file in sorted(reader.tree.names(CONFIG)):
        if file.lower().startswith("default") and file.lower().endswith(".ini") and not _NO_BUILD.fullmatch(file):
            _apply(default, names, file[len("default") : -len(".ini")], reader, f"{CONFIG}/{file}")
    common = _values(default, names)
    found = _files(reader)
    platforms: dict[str, dict[str, Value | None]] = {}
    for platform in dict.fromkeys((*_USUAL, *(name for name in found if name not in _GROUPS))):
        layer = {key: dict(values) for key, values in default.items()}
        for name in (*_PARENTS.get(platform, ()), platform):
            for kind, path in found.get(name, ()):
                _apply(layer, names, kind, reader, path)
        said = {**_values(layer, names), **_console_variables(layer, platform)}
        platforms[platform] = {
            **{key: value for key, value in said.items() if common.get(key) != value},
            **{key: None for key in common if key not in said},
        }
    version = _project(reader, common, platforms)
    # A file is read once for each platform it holds for.
    problems = tuple(dict.fromkeys(reader.problems))
    return Configuration("unreal", version, common, platforms, problems)


def _files(reader: Reader) -> dict[str, list[tuple[str, str]]]:
    """By platform: the types and paths of its files, in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for above, within in ((CONFIG, ""), ("Platforms", "/Config")):
        for platform, is_folder in sorted(reader.tree.names(above).items()):
            folder = f"{above}/{platform}{within}"
            for file in sorted(reader.tree.names(folder)) if is_folder else ():
                low = file.lower()
                if low.startswith(platform.lower()) and low.endswith(".ini"):
                    found.setdefault(platform, []).append((file[len(platform) : -len(".ini")], f"{folder}/{file}"))
    return found


def _apply(layer: _Layer, names: dict[tuple[str, str, str], str], kind: str, reader: Reader, path: str) -> None:
    """Lay a file over what is there."""
    text = reader.text(path)
    if text is None:
        return
    try:
        check_merged(text)
    except ValueError as error:
        reader.problem(path, error)
        return
    section = ""
    for number, line in _lines(text):
        if reader.gave_up(path):
            return
        if line.startswith("["):
            section = line[1 : line.rfind("]")] if "]" in line else line[1:]
            continue
        name, separator, said = line.partition("=")
        sign = name[:1] if name[:1] in "+-.!@*" else ""
        name = name[len(sign) :].strip()
        if not separator and sign != "!":
            reader.problem(path, f"line {number}: neither a section nor KEY=VALUE")
            continue
        if not name or sign == "@":
            continue
        key = (kind.lower(), section.lower(), name.lower())
        names.setdefault(key, ":".join(part for part in (kind, section, name) if part))
        value = Value(_unquoted(said.strip()), f"{path}:{number}")
        held = layer.setdefault(key, {})
        if sign == "!":
            held.clear()
        elif sign == "-":
            held.pop((value.text, 0), None)
        elif sign == "+":
            # One that is there already stays where it is.
            held.setdefault((value.text, 0), value)
        elif sign == ".":
            held[value.text, len(held) if (value.text, 0) in held else 0] = value
        else:
            layer[key] = {(value.text, 0): value}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their number; a line that ends with a backslash goes on in the next."""
    began, held = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        began = began or number
        held += line.strip()
        if held.endswith("\\"):
            held = held[:-1]
            continue
        if not held.startswith(";"):
            content = (_COMMENT.sub(lambda found: found[1] or "", held) if "//" in held else held).strip()
            if content:
                yield began, content
        began, held = 0, ""


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1] else text


def _values(layer: _Layer, names: Mapping[tuple[str, str, str], str]) -> dict[str, Value]:
    return {
        names[key]: Value("\n".join(text for text, _ in held), next(reversed(held.values())).source)
        for key, held in layer.items()
        if held
    }


def _console_variables(layer: _Layer, platform: str) -> dict[str, Value]:
    """What the platform's device profile sets, and those it is based on."""
    found: dict[str, Value] = {}
    name = platform.lower()
    for _ in range(_CVARS):
        section = ("deviceprofiles", f"{name} deviceprofile")
        for value in layer.get((*section, "cvars"), {}).values():
            variable, _, text = value.text.partition("=")
            found.setdefault(f"CVar:{variable.strip()}", Value(text.strip(), value.source))
        based = [text.lower() for text, _ in layer.get((*section, "baseprofilename"), {})]
        if not based or based[-1] in ("", name):
            break
        name = based[-1]
    return found


def _project(reader: Reader, common: dict[str, Value], platforms: Mapping[str, dict[str, Value | None]]) -> str:
    """What the `.uproject` says; the version of the engine."""
    path = next((name for name in sorted(reader.tree.names("")) if name.lower().endswith(".uproject")), "")
    text = reader.text(path) if path else None
    if text is None:
        return ""
    try:
        document = json(text)
    except ValueError as error:
        reader.problem(path, error)
        return ""
    if not isinstance(document, dict):
        return ""
    plugins = document.get("Plugins")
    for plugin in plugins if isinstance(plugins, list) else ():
        name = plugin.get("Name") if isinstance(plugin, dict) else None
        if not isinstance(plugin, dict) or not isinstance(name, Text):
            continue
        key, enabled = f"Plugin:{name.text}", plugin.get("Enabled")
        value = enabled if isinstance(enabled, Text) else Text("true", name.line)
        common[key] = Value(value.text, f"{path}:{value.line}")
        allowed = set(_listed(plugin, "PlatformAllowList", "WhitelistPlatforms"))
        denied = set(_listed(plugin, "PlatformDenyList", "BlacklistPlatforms"))
        for platform, values in platforms.items():
            if value.text == "true" and (platform in denied or (allowed and platform not in allowed)):
                values[key] = Value("false", f"{path}:{name.line}")
    version = document.get("EngineAssociation")
    if not isinstance(version, Text):
        return ""
    common["Project:EngineAssociation"] = Value(version.text, f"{path}:{version.line}")
    return version.text


def _listed(plugin: Mapping[str, Node], *names: str) -> Iterable[str]:
    for name in names:
        listed = plugin.get(name)
        for item in listed if isinstance(listed, list) else ():
            if isinstance(item, Text):
                yield _PLUGIN_PLATFORMS.get(item.text, item.text)
