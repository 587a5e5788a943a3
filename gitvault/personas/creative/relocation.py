"""Files that moved, and those that refer to them put right.

What is written anew is written aside first, looked through again and compared with what it should say; only when all of
it is right does anything get its name.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gitvault.core.models import Problem
from gitvault.core.utils.files import Disk, copy_file
from gitvault.errors import ExistsError, NotFoundError, UnsupportedMedia
from gitvault.formats.confined import Confined
from gitvault.formats.references import paths
from gitvault.personas.creative.references import Library, files_in, is_below

if TYPE_CHECKING:
    from gitvault.vault import Vault

Moved = Callable[[str], str]
"""Where a path is now; the same when it did not move."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file that refers to what moved."""

    source: str
    output: str
    """Where it is with its new references: itself, or a copy."""
    references: int
    """How many were written anew."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """What moving did."""

    moved: list[tuple[str, str]]
    """Files (or whole folders) that were moved, or copied where originals stay."""
    rewritten: list[Rewritten]
    problems: list[Problem]
    """Files that could not be looked through, or not be written anew; they are as they were."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """One file to write anew."""

    path: str
    now: str
    """Where the file belongs."""
    targets: dict[str, str]
    references: list[list[str]]
    """As they are, each with source, target and kind."""


def new_targets(
    references: Iterable[Sequence[str]],
    format_name: str,
    was: str,
    now: str,
    moved: Moved,
    there: paths.There = os.path.exists,
) -> dict[str, str]:
    """New targets by old ones for a file that was at `was` and is at `now`; only of those that would lead elsewhere."""
    found: dict[str, str] = {}
    for _, target, _ in references:
        path, spelling = paths.meaning(target, was, format_name, there)
        if path is None or target.startswith("guid:"):
            continue
        wanted = moved(path)
        base = spelling.base
        if base is not None:
            base = os.path.dirname(now) if base == os.path.dirname(was) else moved(base)
        if wanted == path and base == spelling.base:
            continue
        if base is not None and os.path.normpath(os.path.join(base, _relative(path, spelling.base))) == wanted:
            continue
        found[target] = spelling.based(base).of(wanted)
    return found


def _relative(path: str, base: str | None) -> str:
    with suppress(ValueError):
        return os.path.relpath(path, base)
    return path


def relocate(
    library: Library,
    scope: Sequence[str],
    old: str,
    new: str,
    *,
    in_place: Callable[[list[str]], object] | None = None,
    disk: Disk | None = None,
) -> Relocation:
    """Move a file or folder, unless that is done, and put right what refers to it below the folders of `scope`.

    Without `in_place` nothing of what is there changes: the new place gets a copy, and so do, beside them, files that
    refer to it. With it the originals change, after it was called with all that will, to save them first.
    Raises NotFoundError when there is neither old nor new, ExistsError when a file is in the way; nothing is done then.
    """
    disk = disk or Disk()
    old, new = os.path.abspath(old), os.path.abspath(new)
    if os.path.isdir(new) and os.path.isfile(old):
        new = os.path.join(new, os.path.basename(old))
    if not os.path.lexists(old) and not os.path.lexists(new):
        raise NotFoundError(f"{old}: not there, nor is {new}; one of them has to be")
    if is_below(new, old):
        raise ExistsError(f"{new}: lies in {old}; a folder cannot be moved into itself")
    to_move = list(_to_move(old, new))

    def moved(path: str) -> str:
        return new + path[len(old) :] if is_below(path, old) else path

    def moved_back(path: str) -> str:
        return old + path[len(new) :] if is_below(path, new) else path

    def there(path: str) -> bool:
        return paths.exists(path) or paths.exists(moved(path))

    problems: list[Problem] = []
    plans = []
    for path in sorted({path for folder in scope for path in files_in(folder)} | set(_all_files(old, new))):
        try:
            format_name, found = library.references(path)
        except (UnsupportedMedia, OSError) as error:
            problems.append(Problem(os.fsencode(path), str(error)))
            continue
        # What was moved before still says what was right where it was.
        was = moved_back(path)
        if was != path:
            was = path if os.path.lexists(was) else was
            found = [one for one in found if not _leads(one[1], path, format_name)]
        now = moved(path)
        targets = new_targets(found, format_name, was, now, moved, there)
        if targets:
            output = now if in_place or now != path else _beside(path)
            plans.append(_Plan(path, output, targets, library.references(path)[1]))
    with tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        made = list(_written(plans, Path(scratch), problems))
        if in_place:
            in_place([path for path, _ in to_move] + [plan.path for plan, _, _ in made])
        for source, target in to_move:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if in_place:
                shutil.move(source, target)
            elif os.path.isdir(source):
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)
        done = []
        for plan, file, count in made:
            replace(file, plan.now, plan.now if in_place else plan.path, disk)
            done.append(Rewritten(plan.path, plan.now, count))
    return Relocation(to_move, done, problems)


def _leads(target: str, path: str, format_name: str) -> bool:
    resolved, _ = paths.meaning(target, path, format_name, paths.exists)
    return resolved is not None and paths.exists(resolved)


def _to_move(old: str, new: str) -> Iterator[tuple[str, str]]:
    """What is not where it belongs: the whole, or where a folder is there already what it lacks. Raises ExistsError."""
    if not os.path.lexists(old):
        return
    if not os.path.lexists(new):
        yield old, new
        # Unity knows a file by the number in the file beside it.
        if os.path.exists(old + ".meta") and not os.path.lexists(new + ".meta"):
            yield old + ".meta", new + ".meta"
        return
    for path in list(_all_files(old)):
        target = new + path[len(old) :]
        if not os.path.lexists(target):
            yield path, target
        elif not _is_same(path, target):
            raise ExistsError(f"{target}: is there and differs from {path}; nothing was moved")


def _is_same(a: str, b: str) -> bool:
    import filecmp

    return os.path.isfile(b) and filecmp.cmp(a, b, shallow=False)


def _all_files(*places: str) -> Iterator[str]:
    for place in places:
        if os.path.isdir(place):
            yield from files_in(place)
        elif os.path.lexists(place):
            yield place


def _beside(path: str) -> str:
    """A name for a copy beside a file that no other has."""
    start, extension = os.path.splitext(path)
    number = 1
    while os.path.lexists(name := f"{start}.relocated{'' if number == 1 else f'-{number}'}{extension}"):
        number += 1
    return name


def _written(plans: Sequence[_Plan], scratch: Path, problems: list[Problem]) -> Iterator[tuple[_Plan, Path, int]]:
    """Each file with its new references, written aside and looked through again; what cannot be becomes a problem."""
    with Confined() as reader:
        for number, plan in enumerate(plans):
            file = scratch / f"{number}{os.path.splitext(plan.path)[1]}"
            try:
                count = reader.call(
                    "gitvault.formats.references.scan:rewrite", plan.path, json.dumps(plan.targets), str(file)
                )
                _, found = reader.call("gitvault.formats.references.scan:scan", str(file))
                check(plan.path, plan.references, plan.targets, found)
            except UnsupportedMedia as error:
                problems.append(Problem(os.fsencode(plan.path), str(error)))
            else:
                yield plan, file, count


def check(
    path: str, before: Sequence[Sequence[str]], targets: Mapping[str, str], after: Sequence[Sequence[str]]
) -> None:
    """Raises UnsupportedMedia when a file written anew does not say what it should."""
    expected = {(source, targets.get(target, target)) for source, target, _ in before}
    if expected != {(source, target) for source, target, _ in after}:
        raise UnsupportedMedia(f"{path}: written anew it does not say what it should; left as it is")


def replace(file: Path, target: str, like: str, disk: Disk) -> None:
    """Give a file written aside its place in one step, with the permissions of another. Raises OSError."""
    place = Path(target)
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        copy_file(file, beside, disk)
        with suppress(OSError):
            shutil.copymode(like, beside)
        disk.rename(beside, place)
    except BaseException:
        disk.unlink(beside)
        raise
    disk.sync_folder(place.parent)


def save_first(vault: Vault, scope: Sequence[str], touched: Sequence[str]) -> list[str]:
    """Save what holds files that will change: their projects, else the folder of `scope` they are in; the snapshots."""
    projects = [project for project in vault.projects() if project.host == vault.config.machine]
    saved: dict[str, str] = {}
    for path in map(os.path.realpath, touched):
        around = [project.path for project in projects if is_below(path, project.path)] or [
            os.path.realpath(folder) for folder in scope if is_below(path, os.path.realpath(folder))
        ]
        folder = max(around, key=len) if around else os.path.dirname(path)
        if folder not in saved:
            report = vault.create_snapshot(folder, message="Before references are written anew", trigger="safety")
            saved[folder] = report.snapshot
    return list(saved.values())


def put_right(files: Iterable[str], was: Moved, moved: Moved) -> Relocation:
    """Let files name what they named where they were: `was` of a file's path, `moved` of what it names.

    The files are replaced.
    """
    problems: list[Problem] = []
    plans = []
    with Library() as library, tempfile.TemporaryDirectory(prefix="gitvault-") as scratch:
        for path in files:
            try:
                format_name, found = library.references(path)
            except (UnsupportedMedia, OSError) as error:
                problems.append(Problem(os.fsencode(path), str(error)))
                continue
            targets = new_targets(found, format_name, was(path), path, moved, lambda at: paths.exists(moved(at)))
            if targets:
                plans.append(_Plan(path, path, targets, found))
        done = []
        for plan, file, count in _written(plans, Path(scratch), problems):
            replace(file, plan.path, plan.path, Disk())
            done.append(Rewritten(plan.path, plan.path, count))
    return Relocation([], done, problems)
