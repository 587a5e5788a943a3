"""What a project is made with: one word for it, from the names in its folder and in those just below."""

from __future__ import annotations

import os
from collections import Counter
from fnmatch import fnmatchcase
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

# Names in one folder, and folders in the project's, that are looked at: 2 ms at most for what is cached.
_NAMES = 2000
_FOLDERS = 100
# They hold what others made, whatever it is made with.
_FOREIGN = {"bower_components", "node_modules", "deps", "external", "third_party", "vendor", "env", "venv"} | {
    "bin", "build", "dist", "obj", "out", "target", "doc", "docs", "examples", "Intermediate", "Library", "Saved"
}  # fmt: skip


class _Table(NamedTuple):
    order: dict[str, int]
    names: dict[str, str]
    patterns: list[tuple[str, str]]
    suffixes: dict[str, str]


def stacks() -> list[str]:
    """Every word that `stack_of` knows."""
    return list(_table().order)


def stack_of(folder: str) -> str:
    """What the project in a folder is made with; empty when nothing tells, or it cannot be read.

    A marker in the folder itself counts most, then those one level below, then the number of sources.
    """
    table = _table()
    top = _names(folder)
    if found := [stack for name, _ in top for stack in _marked(table, name)]:
        return min(found, key=table.order.__getitem__)
    below: list[str] = []
    folders = (name for name, is_folder in top if is_folder and name[0] != "." and name not in _FOREIGN)
    for name in islice(folders, _FOLDERS):
        below += (inner for inner, _ in _names(os.path.join(folder, name)))
    counted = Counter(stack for name in below for stack in _marked(table, name))
    if not counted:
        names = (*below, *(name for name, is_folder in top if not is_folder))
        suffixes = (name.rpartition(".")[2] for name in names if "." in name)
        counted = Counter(table.suffixes[suffix] for suffix in suffixes if suffix in table.suffixes)
    return min(counted, key=lambda stack: (-counted[stack], table.order[stack]), default="")


def _marked(table: _Table, name: str) -> list[str]:
    if name in table.names:
        return [table.names[name]]
    return [stack for pattern, stack in table.patterns if fnmatchcase(name, pattern)]


def _names(folder: str) -> list[tuple[str, bool]]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(found, _NAMES))
    except OSError:
        return []


@cache
def _table() -> _Table:
    import tomllib

    listed = tomllib.loads(Path(__file__).with_name("stacks.toml").read_text("utf-8"))["stack"]
    marked = [(marker, stack["name"]) for stack in listed for marker in stack.get("marker", ())]
    return _Table(
        {stack["name"]: number for number, stack in enumerate(listed)},
        {marker: stack for marker, stack in marked if "*" not in marker},
        [(marker, stack) for marker, stack in marked if "*" in marker],
        {suffix: stack["name"] for stack in listed for suffix in stack.get("suffix", ())},
    )
