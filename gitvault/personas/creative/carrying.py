"""What a project's files link to elsewhere: saved with its snapshots, and found again where those are restored."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.backup_engine import outside
from gitvault.core.backup_engine.writer import Selection
from gitvault.core.models import Problem, RestoreReport
from gitvault.formats.references import paths
from gitvault.personas.creative import relocation
from gitvault.personas.creative.references import Library, is_below

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
        first, *others = graph.missing
        more = f", and {len(others)} more; git-vault refs check lists them" if others else ""
        notes.append(f"{first.target} of {os.path.basename(first.source)} leads nowhere and is not saved with it{more}")
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


def restore(
    vault: Vault,
    snapshot: str,
    target: Path | str | None = None,
    *,
    paths: Iterable[bytes] = (),
    excluded: Iterable[bytes] = (),
    maps: Sequence[tuple[str, str]] = (),
    as_saved: bool = False,
    **options: Any,
) -> RestoreReport:
    """`Vault.restore_snapshot`, and what is restored then names the files that came with it, where they are now.

    `maps`: folders of before and where the same is on this machine; what lies in them is named there and not among what
    came along. `as_saved`: no byte is changed. Without `target` only the project comes back: its links lead where they
    led.
    """
    paths, excluded = tuple(paths), tuple(excluded)
    metadata = vault.get_snapshot_info(snapshot).metadata
    name, root = metadata.get(outside.KEY_FOLDER), metadata.get(outside.KEY_ROOT)
    if name and target is None:
        excluded = (*excluded, os.fsencode(name))
    report = vault.restore_snapshot(snapshot, target, paths=paths, excluded_paths=excluded, **options)
    if not name or not root or target is None or as_saved:
        return report
    top = os.path.realpath(target)
    selection = Selection(paths if b"" not in paths else (), excluded)
    entries = vault.entries(report.snapshot, recursive=True, damaged=lambda _: None)
    inside = [os.fsdecode(entry.path) for entry in entries if entry.kind == "file" and selection.covers(entry.path)]
    files = [os.path.join(top, *path.split("/")) for path in inside]
    # What a symlink or a strange name would lead out of the folder was not restored through it either.
    files = [path for path in files if os.path.isfile(path) and os.path.realpath(path) == path]
    done = _put_right(files, top, name, root, maps)
    problems = [Problem(os.path.relpath(one.path, os.fsencode(top)), one.reason) for one in done.problems]
    return dataclasses.replace(report, problems=(*report.problems, *problems))


def _put_right(
    files: Iterable[str], top: str, name: str, old_root: str, maps: Sequence[tuple[str, str]]
) -> relocation.Relocation:
    carrying = os.path.join(top, name)

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
