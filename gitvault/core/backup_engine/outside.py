"""Files from outside a project that its snapshot carries: in one folder, beneath it where they are on the disk.

They are folders of the snapshot like any others, so that what reads, checks, compares, copies or sweeps snapshots need
not know of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from gitvault.core.models import Problem
from gitvault.core.scan import Folder
from gitvault.core.stat_cache import Row

FOLDER = ".gitvault-links"
KEY_FOLDER = "links.folder"
"""In the snapshot's metadata: the name of the folder."""
KEY_ROOT = "links.root"
"""There too: where the project was."""


def free_name(root: str) -> str:
    """What the folder is called in a project: its usual name, else one that nothing in the project has."""
    number = 1
    while os.path.lexists(os.path.join(root, name := FOLDER + (f"-{number}" if number > 1 else ""))):
        number += 1
    return name


def place(path: str, name: str) -> str:
    """Where a file is carried, relative to the project: `/art/a.png` as NAME/art/a.png, `C:/a.png` as NAME/C/a.png."""
    drive, _, rest = path.replace("\\", "/").partition(":/") if path[1:2] == ":" else ("", "", path)
    return "/".join(part for part in (name, drive, rest.replace(os.sep, "/").strip("/")) if part)


def folders(
    root: Path, name: str, files: Iterable[str], rows: Mapping[bytes, Row], problems: list[Problem]
) -> list[Folder]:
    """The folders that carry files given by their absolute paths, the one of that name first.

    A file that cannot be found is added to `problems`.
    """
    by_folder: dict[str, dict[bytes, os.stat_result]] = {}
    for path in sorted(set(files)):
        inside = os.fsencode(place(path, name))
        try:
            found = os.lstat(path)
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
                problems.append(Problem(inside, f"{path}: not saved: neither file nor symlink"))
                continue
            by_folder.setdefault(os.path.dirname(path), {})[os.fsencode(os.path.basename(path))] = found
        except OSError as error:
            problems.append(Problem(inside, f"{path}: cannot be read: {error.strerror}"))
    made: dict[bytes, Folder] = {}
    for disk, entries in by_folder.items():
        _folder(root, name, disk, rows, made).entries.extend(sorted(entries.items()))
    for inside, folder in sorted(made.items(), reverse=True):
        # As old as what is carried of it: a home folder changes all the time, which is no change of the project.
        times = [found.st_mtime_ns for _, found in folder.entries]
        times += [made[inside + b"/" + below].stat.st_mtime_ns for below in folder.folders]
        folder.stat = os.stat_result(tuple(folder.stat), {"st_mtime_ns": max(times)})
    return [made[inside] for inside in sorted(made)]


def _folder(root: Path, name: str, disk: str, rows: Mapping[bytes, Row], made: dict[bytes, Folder]) -> Folder:
    path = os.fsencode(place(disk, name))
    if path not in made:
        at = os.fsencode(disk)
        with suppress(ValueError):
            at = os.fsencode(os.path.relpath(os.path.realpath(disk), root).replace(os.sep, "/"))
        made[path] = Folder(path, [], rows.get(path), os.stat(disk), b"", b"", {}, [], set(), at)
        above, _, own = path.rpartition(b"/")
        if above:
            parent = os.path.dirname(disk)
            # Above a drive's root there is only the folder that carries all.
            _folder(root, name, parent if parent != disk else os.sep, rows, made).folders.append(own)
    return made[path]
