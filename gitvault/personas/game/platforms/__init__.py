"""Settings of a game on each platform: read as the engine reads them, compared between platforms and between builds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from gitvault.core.utils.names import to_line
from gitvault.errors import AmbiguousError, NotFoundError, UnsupportedMedia
from gitvault.personas.game.platforms import godot, plain, unity, unreal
from gitvault.personas.game.platforms.captures import Capture, capture, captures, find, loaded
from gitvault.personas.game.platforms.rules import HIDDEN, Rules, rules_for
from gitvault.personas.game.platforms.settings import (
    Configuration,
    Drift,
    PlatformDifference,
    Read,
    Value,
    compare,
    drift,
    hidden,
    placed,
)
from gitvault.personas.game.platforms.trees import Reader, Tree, in_snapshot, on_disk

__all__ = [
    "HIDDEN",
    "Capture",
    "Configuration",
    "Drift",
    "PlatformDifference",
    "Read",
    "Rules",
    "Tree",
    "Value",
    "capture",
    "captures",
    "compare",
    "drift",
    "find",
    "in_snapshot",
    "loaded",
    "on_disk",
    "read",
]

# How far below the folder that was given a project may lie, and how many folders are looked into for it.
_DEPTH = 3
_FOLDERS = 2000
_NO_PROJECT = frozenset(("node_modules", "Library", "Temp", "Intermediate", "Saved", "Binaries", "DerivedDataCache"))


def read(tree: Tree) -> Read:
    """The settings of the project in a tree.

    Raises NotFoundError where there is none, AmbiguousError where there are several, UnsupportedMedia when nothing of
    it could be read, ConfigError for a wrong mapping.
    """
    found = list(islice(_projects(tree), 6))
    if not found:
        raise NotFoundError(
            f"no project of Godot, Unity or Unreal in that folder ({godot.PROJECT}, {unity.PROJECT}, "
            f"{unreal.CONFIG}/DefaultEngine.ini); {plain.MAPPING} names other files of settings"
        )
    if len(found) > 1:
        raise AmbiguousError(f"several projects in that folder; which one? {', '.join(found)}")
    below = tree.below(found[0])
    reader = Reader(below)
    said = reader.text(plain.MAPPING)
    table = plain.mapping(plain.MAPPING, said) if said is not None else {}
    engine = _engine(below)
    if engine == "godot":
        configuration = godot.read(reader)
    elif engine == "unity":
        configuration = unity.read(reader)
    elif engine == "unreal":
        configuration = unreal.read(reader)
    else:
        configuration = plain.read(reader, table)
    if not configuration.common and not any(configuration.platforms.values()):
        why = "; ".join(f"{to_line(problem.path)}: {problem.reason}" for problem in configuration.problems[:2])
        raise UnsupportedMedia(f"no settings that could be read{f': {why}' if why else ''}")
    own = {key: value for key, value in table.items() if key != "file"}
    return Read(hidden(placed(configuration, found[0]), rules_for(configuration.engine, own)), own)


def _engine(tree: Tree) -> str:
    names = tree.names("")
    if godot.PROJECT in names:
        return "godot"
    if names.get(unity.PROJECT) and {"ProjectVersion.txt", "ProjectSettings.asset"} & tree.names(unity.PROJECT).keys():
        return "unity"
    if any(name.endswith(".uproject") for name in names) or "DefaultEngine.ini" in tree.names(unreal.CONFIG):
        return "unreal"
    return "plain" if plain.MAPPING in names else ""


def _projects(tree: Tree) -> Iterator[str]:
    """Folders that are projects: the tree itself, else those within it."""
    level = [""]
    looked = 0
    for _ in range(_DEPTH + 1):
        below = []
        for folder in level:
            if looked == _FOLDERS:
                return
            looked += 1
            if _engine(tree.below(folder)):
                yield folder
                continue
            for name, is_folder in sorted(tree.names(folder).items()):
                if is_folder and not name.startswith(".") and name not in _NO_PROJECT:
                    below.append(f"{folder}/{name}".strip("/"))
        level = below
