"""Writing a workspace back: to the same home or another, also on another system.

What is replaced has been captured before. Files that the workspace does not have stay where they are. Paths below the
old home folder become paths below the new one, in files that are text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.utils.files import HAS_DIR_FD
from gitvault.core.utils.names import from_text, to_line
from gitvault.core.utils.target import TargetFolder, discard, is_plain, write_all
from gitvault.errors import CorruptionError, LockedError, NotFoundError
from gitvault.personas.creative.workspaces.applications import Application, Surroundings, find, named, place_of
from gitvault.personas.creative.workspaces.capture import AREA, BESIDE, DATABASE, File, Workspace, capture

if TYPE_CHECKING:
    from gitvault.vault import Vault


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore of a workspace did."""

    workspace: Workspace
    files: int
    bytes: int
    safety: Workspace | None
    """What was there before; None where there was nothing."""
    left: tuple[str, ...]
    """Places that the application does not have on this system."""


def restore(
    vault: Vault,
    workspace: Workspace,
    applications: Mapping[str, Application],
    around: Surroundings,
    running: Callable[[Collection[str], Path], str],
) -> Restored:
    """Put a workspace back, after what is there was captured.

    `running`: which of these programs runs for the user of that home, empty for none. Raises LockedError when the
    application runs, NotFoundError for one that nobody knows any more, CorruptionError, OSError.
    """
    application = named(applications, workspace.app)
    if name := running(application.processes, around.home):
        raise LockedError(
            f"{application.name} is running ({name}); quit it first, it would write over what is restored"
        )
    places = {file.place: place_of(application, around, file.place, workspace.version) for file in workspace.files}
    safety = None
    # Where there is nothing, nothing can be lost.
    with suppress(NotFoundError):
        safety = capture(vault, find(application, around, workspace.version or None), around)
    files = size = 0
    for file, content in workspace.contents(vault.area(AREA)):
        if place := places[file.place]:
            content = _moved(content, Path(workspace.home), around)
            _write(place, file, content)
            files += 1
            size += len(content)
    left = sorted(place for place, path in places.items() if path is None)
    return Restored(workspace, files, size, safety, tuple(left))


def _write(place: Path, file: File, content: bytes) -> None:
    parts = from_text(file.path).split(b"/") if file.path else []
    if not all(map(is_plain, parts)):
        raise CorruptionError(
            f"{to_line(from_text(file.path))}: a path that leads out of {place}; nothing was written there"
        )
    # The place is the table's, what is below it the record's.
    top = place if parts else place.parent
    top.mkdir(parents=True, exist_ok=True)
    *above, name = parts or [os.fsencode(place.name)]
    with TargetFolder.open(top) as at:
        folder = at.descend(b"")
        for part in above:
            with folder:
                if folder.lstat(part) is None:
                    folder.mkdir(part)
                folder = folder.enter(part)
        with folder:
            _replace(folder, name, file, content)


def _replace(folder: TargetFolder, name: bytes, file: File, content: bytes) -> None:
    new = b".gitvault-" + name[:200]
    discard(folder, new)
    try:
        if file.link:
            folder.symlink(content, new)
        else:
            fd = folder.create(new)
            try:
                write_all(fd, content)
                if HAS_DIR_FD:
                    os.fchmod(fd, file.mode & 0o777)
            finally:
                os.close(fd)
        if content.startswith(DATABASE):
            # The log of the one that goes is none of this one's.
            for ending in BESIDE:
                discard(folder, name + ending)
        folder.rename(new, name)
    except BaseException:
        discard(folder, new)
        raise


def _moved(content: bytes, home: Path, around: Surroundings) -> bytes:
    """Text in which the old home folder is the new one; everything else as it is."""
    old, new = os.fspath(home), os.fspath(around.home)
    if old == new or b"\0" in content[:8000]:
        return content
    # As Windows has it, as settings escape that, and as programs from elsewhere write it.
    spellings = {old: new, old.replace("\\", "\\\\"): new.replace("\\", "\\\\"), old.replace("\\", "/"): new}
    known = {os.fsencode(was): os.fsencode(becomes) for was, becomes in spellings.items()}
    any_of = b"|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    return re.sub(rb"(?:%b)(?=[/\\\"'\s;:,<>)\]]|$)" % any_of, lambda found: known[found[0]], content)
