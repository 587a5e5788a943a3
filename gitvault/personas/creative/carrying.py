"""What a project's files link to elsewhere: saved with its snapshots, and found again where those are restored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.backup_engine import outside
from gitvault.formats.references import paths
from gitvault.personas.creative import relocation
from gitvault.personas.creative.references import Library, is_below
from gitvault.personas.creative.relocation import Relocation

if TYPE_CHECKING:
    from gitvault.vault import Vault

_LISTED = 10


def links_of(vault: Vault, folder: str) -> tuple[list[str], list[str]]:
    """All files outside a folder that its files need, however far, and in words what of its links is not among them."""
    root, own = os.path.realpath(folder), os.path.realpath(vault.path)
    with Library(vault.path / "cache") as library:
        graph = library.graph([root])
    files = [path for path in graph.needs if not is_below(path, root) and not is_below(path, own)]
    notes = []
    if graph.missing:
        first = graph.missing[0]
        what = f"{first.target} of {os.path.basename(first.source)}"
        notes.append(f"{len(graph.missing)} references lead nowhere, so nothing is saved for them: {what} ...")
    notes += [problem.reason for problem in graph.problems[:_LISTED]]
    return [*files, *_behind_links(files)], notes


def _behind_links(files: Iterable[str]) -> list[str]:
    """What symlinks among files lead to, each link with the next."""
    found = []
    for path in files:
        # The kernel follows forty at the most.
        for _ in range(40):
            if not os.path.islink(path):
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
            found.append(path)
    return found


def put_right(
    vault: Vault,
    snapshot: str,
    target: Path | str,
    chosen: Callable[[bytes], bool],
    maps: Sequence[tuple[str, str]] = (),
) -> Relocation:
    """In a restored snapshot let all files name what came with it, where that is now.

    `chosen`: whether a path was restored. `maps`: folders of before and where the same is on this machine; what lies in
    them is named there and not among what came with the snapshot. One that carries nothing is left alone.
    """
    metadata = vault.get_snapshot_info(snapshot).metadata
    name, old_root = metadata.get(outside.KEY_FOLDER), metadata.get(outside.KEY_ROOT)
    if not name or not old_root:
        return Relocation([], [], [])
    top = os.path.realpath(target)
    carrying = os.path.join(top, name)
    entries = vault.entries(snapshot, recursive=True, damaged=lambda _: None)
    restored = [entry.path for entry in entries if entry.kind == "file" and chosen(entry.path)]
    files = [os.path.join(top, os.fsdecode(path).replace("/", os.sep)) for path in restored]

    def moved(path: str) -> str:
        for old, new in maps:
            if is_below(path, old):
                return os.path.join(new, path[len(old) :].lstrip("/\\"))
        if is_below(path, old_root):
            return os.path.normpath(top + path[len(old_root) :].replace("\\", "/"))
        there = os.path.join(top, outside.place(path, name))
        return there if paths.exists(there) else path

    def was(path: str) -> str:
        if not is_below(path, carrying):
            return old_root + path[len(top) :]
        inside = path[len(carrying) :].lstrip(os.sep)
        windows = old_root[1:2] == ":"
        return inside.replace(os.sep, "/").replace("/", ":/", 1) if windows else os.sep + inside

    return relocation.put_right(files, was, moved)
