"""Settings of no engine we know: JSON, YAML, TOML and ini, as `.gitvault-platforms.toml` of the project maps them.

    [[file]]
    path = "config/base.json"              # holds everywhere

    [[file]]
    path = "config/{platform}.yaml"        # one file for each platform

    [[file]]
    path = "settings.toml"                 # one part of the file for each platform
    below = "platforms.{platform}"
    platforms = ["pc", "switch"]

Later files lie over earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gitvault.errors import ConfigError
from gitvault.personas.game.platforms.blocks import yaml
from gitvault.personas.game.platforms.flow import json
from gitvault.personas.game.platforms.nodes import Node, leaves
from gitvault.personas.game.platforms.settings import Configuration, Value
from gitvault.personas.game.platforms.tables import ini, toml
from gitvault.personas.game.platforms.trees import Reader

MAPPING = ".gitvault-platforms.toml"
_TABLE: Mapping[str, type] = {
    "expected": list,
    "unexpected": list,
    "changing": list,
    "secret": list,
    "file": list,
}
_FILE: Mapping[str, type] = {"path": str, "below": str, "platforms": list}
_ENDINGS = {
    "json": "json",
    "jsonc": "json",
    "yaml": "yaml",
    "yml": "yaml",
    "toml": "toml",
    "ini": "ini",
    "cfg": "ini",
    "conf": "ini",
    "properties": "ini",
}
_PLATFORM = "{platform}"


def mapping(source: str, text: str) -> dict[str, Any]:
    """What a mapping says: files and rules. Raises ConfigError, which says what is allowed."""
    import tomllib

    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: {error}; expected TOML with {', '.join(_TABLE)}") from None
    _check(source, table, _TABLE)
    for entry in table.get("file", ()):
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise ConfigError(f'{source}: a [[file]] without a path; expected path = "config/{_PLATFORM}.json"')
        _check(source, entry, _FILE)
        if entry["path"].rpartition(".")[2].lower() not in _ENDINGS:
            raise ConfigError(f"{source}: {entry['path']}: expected a file of {', '.join(_ENDINGS)}")
    return table


def _check(source: str, table: Mapping[str, Any], known: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{source}: {key} is unknown; expected {', '.join(known)}")
        is_fit = isinstance(value, known[key])
        if not is_fit or (known[key] is list and key != "file" and not all(isinstance(item, str) for item in value)):
            what = "a list of words" if known[key] is list else "text"
            raise ConfigError(f"{source}: {key}: expected {what}")


def read(reader: Reader, table: Mapping[str, Any]) -> Configuration:
    """The settings that a mapping names."""
    common: dict[str, Value] = {}
    platforms: dict[str, dict[str, Value | None]] = {}
    for entry in table.get("file", ()):
        path, below = entry["path"], entry.get("below", "")
        named = _named(reader, path) if _PLATFORM in path else {}
        said = entry.get("platforms", list(named))
        if _PLATFORM not in path + below and not said:
            common |= _values(reader, path, below)
        if _PLATFORM in below and not said:
            said = list(_at(_node(reader, path), below.partition(_PLATFORM)[0].strip(".")))
        for platform in said:
            held = _values(reader, path.replace(_PLATFORM, platform), below.replace(_PLATFORM, platform))
            platforms.setdefault(platform, {}).update(held)
    return Configuration("plain", "", common, platforms, tuple(dict.fromkeys(reader.problems)))


def _named(reader: Reader, path: str) -> dict[str, str]:
    """The platforms for which there is a file."""
    above, _, name = path.rpartition("/")
    before, _, after = name.partition(_PLATFORM)
    pattern = re.compile(re.escape(before) + "(.+)" + re.escape(after))
    return {found[1]: file for file in sorted(reader.tree.names(above)) if (found := pattern.fullmatch(file))}


def _node(reader: Reader, path: str) -> Node | None:
    text = reader.text(path)
    if text is None:
        reader.problem(path, "no such file, or not readable; the mapping names it")
        return None
    kind = _ENDINGS[path.rpartition(".")[2].lower()]
    try:
        if kind == "yaml":
            return next(iter(yaml(text)), None)
        return {"json": json, "toml": toml, "ini": ini}[kind](text)
    except ValueError as error:
        reader.problem(path, error)
        return None


def _at(node: Node | None, below: str) -> dict[str, Node]:
    for part in filter(None, below.split(".")):
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _values(reader: Reader, path: str, below: str) -> dict[str, Value]:
    node = _at(_node(reader, path), below)
    return {
        "".join(part if part.startswith("[") else f".{part}" for part in way).lstrip("."): Value(
            text.text, f"{path}:{text.line}"
        )
        for way, text in leaves(node)
    }
