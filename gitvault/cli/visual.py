"""`diff --visual`: what changed between two versions, as pictures."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.cli import render
from gitvault.cli.arguments import disk_path, wrong
from gitvault.core.models import Problem
from gitvault.core.utils.names import to_line, to_text
from gitvault.errors import UnsupportedMedia
from gitvault.personas.base import Answer, Session

if TYPE_CHECKING:
    from gitvault.personas.creative.diff import FileDifference

_DIFFERENT = 1
_NO_FILE = "/dev/null"
"""What `git difftool` names, on every system, where a file was added or deleted."""


def visual(session: Session, arguments: Namespace) -> Answer:
    """A and B as two files, two folders, or two snapshots."""
    from gitvault.personas.creative.diff import new_folder

    folder = Path(disk_path(arguments.output)) if arguments.output else None
    if folder:
        new_folder(folder, overwrite=arguments.overwrite)
    found = list(_found(session, arguments, folder))
    hints = []
    if folder:
        from gitvault.personas.creative.page import write_page

        page = write_page(f"{arguments.a} → {arguments.b}", found, folder)
        hints = [f"look at {render.disk_text(str(page))}"]
    problems = [Problem(one.path, one.problem) for one in found if one.problem]
    code = UnsupportedMedia.exit_code if problems else _DIFFERENT if any(one.changed for one in found) else 0
    return Answer([_document(one) for one in found], _lines(found), hints, code, problems)


def _found(session: Session, arguments: Namespace, folder: Path | None) -> Iterator[FileDifference]:
    from gitvault.personas.creative import diff
    from gitvault.personas.creative.sources import at_hand

    a, b = disk_path(arguments.a), disk_path(arguments.b)
    files = [os.path.isfile(path) for path in (a, b)]
    folders = all(os.path.isdir(path) and _is_path(path) for path in (a, b))
    if arguments.path and (any(files) or folders):
        raise wrong("PATH goes with two snapshots, not with files")
    if any(files) and _NO_FILE in (a, b):
        there, state = (b, "added") if a == _NO_FILE else (a, "deleted")
        yield diff.FileDifference(os.fsencode(os.path.basename(there)), "file", True, {"state": state})
    elif any(files):
        with ExitStack() as stack:
            before, after = (stack.enter_context(at_hand(named, lambda: session.vault)) for named in (a, b))
            yield diff.compare_files(before, after, folder)
    elif folders:
        yield from diff.compare_folders(Path(a), Path(b), folder)
    else:
        yield from diff.compare_snapshots(session.vault, arguments.a, arguments.b, arguments.path or b"", folder)


def _is_path(text: str) -> bool:
    """A folder is written with a slash: a word alone is a project."""
    return os.sep in text or "/" in text or text in (os.curdir, os.pardir)


def _document(one: FileDifference) -> dict[str, object]:
    return {
        "path": to_text(one.path),
        "kind": one.kind,
        "changed": one.changed,
        "stats": {**one.stats, "problem": one.problem} if one.problem else dict(one.stats),
        "pictures": {shows: render.disk_text(path) for shows, path in one.pictures.items()},
    }


def _lines(found: Sequence[FileDifference]) -> Iterator[str]:
    if not found:
        return iter(("nothing changed",))
    return render.table((_state(one), one.kind, to_line(one.path), _said(one)) for one in found)


def _state(one: FileDifference) -> str:
    if one.problem:
        return "unread"
    return str(one.stats.get("state") or ("changed" if one.changed else "same"))


def _said(one: FileDifference) -> str:
    """The figures that matter most."""
    stats = one.stats
    said = []
    if frames := stats.get("frames_changed"):
        said.append(f"{render.plural(len(frames), 'frame')} of {stats['frames']:,}")
    if stats.get("changed_pixels"):
        said.append(f"{render.plural(stats['changed_pixels'], 'pixel')}, at most {stats['max']:.4g}")
        said.append(f"SSIM {stats['ssim']:.4f}")
    for name, word in (("added", "added"), ("removed", "removed"), ("changed", "changed")):
        for of in ("elements", "parts"):
            if names := stats.get(f"{of}_{name}"):
                said.append(f"{word}: {render.line(', '.join(map(str, names[:5])))}")
    said += [render.line(str(change["name"])) for change in stats.get("metadata", ())[:4]]
    return "; ".join(said)
