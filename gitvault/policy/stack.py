"""What a project is made with: one word for it, from the names in its folder and in those just below."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from gitvault.core.utils.files import scan_source

# Names in the project's folder, folders in it, names in each of those: a folder of thousands must not delay a snapshot.
_TOP, _FOLDERS, _BELOW = 2000, 50, 200
# They hold what others made, whatever it is made with.
_FOREIGN = {"bower_components", "node_modules", "deps", "external", "third_party", "vendor", "env", "venv"} | {
    "bin", "build", "dist", "obj", "out", "target", "doc", "docs", "examples", "Intermediate", "Library", "Saved"
}  # fmt: skip


class _Table(NamedTuple):
    order: dict[str, int]
    markers: dict[str, str]
    """`Cargo.toml`, or `*.sln` for any name that ends so."""
    suffixes: dict[str, str]


def stacks() -> list[str]:
    """Every word that `stack_of` knows."""
    return list(_table().order)


def stack_of(folder: str) -> str:
    """What the project in a folder is made with; empty when nothing tells, or it cannot be read.

    A marker in the folder itself counts most, then those one level below, then the number of sources.
    """
    table = _table()
    top = _names(folder, _TOP)
    if found := _marked(table, (name for name, _ in top)):
        return min(found, key=table.order.__getitem__)
    below: list[str] = []
    folders = (name for name, is_folder in top if is_folder and name[0] != "." and name not in _FOREIGN)
    for name in islice(folders, _FOLDERS):
        below += (inner for inner, _ in _names(os.path.join(folder, name), _BELOW))
    counted = Counter(_marked(table, below))
    if not counted:
        names = (*below, *(name for name, is_folder in top if not is_folder))
        suffixes = (name.rpartition(".")[2] for name in names if "." in name)
        counted = Counter(table.suffixes[suffix] for suffix in suffixes if suffix in table.suffixes)
    return min(counted, key=lambda stack: (-counted[stack], table.order[stack]), default="")


def _marked(table: _Table, names: Iterable[str]) -> list[str]:
    spelled = (word for name in names for word in (name, f"*.{name.rpartition('.')[2]}"))
    return [table.markers[word] for word in spelled if word in table.markers]


def _names(folder: str, limit: int) -> list[tuple[str, bool]]:
    try:
        with scan_source(folder) as found:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in islice(found, limit))
    except OSError:
        return []


@cache
def _table() -> _Table:
    import tomllib

    listed = tomllib.loads(Path(__file__).with_name("stacks.toml").read_text("utf-8"))["stack"]
    return _Table(
        {stack["name"]: number for number, stack in enumerate(listed)},
        {marker: stack["name"] for stack in listed for marker in stack.get("marker", ())},
        {suffix: stack["name"] for stack in listed for suffix in stack.get("suffix", ())},
    )
