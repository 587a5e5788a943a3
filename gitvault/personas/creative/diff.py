"""What changed between two snapshots, two folders or two files, as pictures and figures.

Files are read in a limited process: what is damaged is named, and the rest goes on.
"""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitvault.core.utils.names import to_line, to_text
from gitvault.errors import ExistsError, NotFoundError, UnsupportedMedia
from gitvault.formats.confined import Confined
from gitvault.formats.difference import may_be_shown
from gitvault.personas.creative.frames import Sequence as Frames
from gitvault.personas.creative.frames import sequences
from gitvault.personas.creative.sources import steady

if TYPE_CHECKING:
    from gitvault.vault import Vault

_COMPARE = "gitvault.formats.difference:compare"
_UNTIDY = re.compile(r"[^\w.#-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileDifference:
    """One file, or one sequence of frames, that is not the same in both."""

    path: bytes
    kind: str
    """`image`, `mesh`, `layered`, `scene`; `file`: of which only that can be said."""
    changed: bool
    """Whether anybody would see it: pixels, shapes, names; not only how they are packed."""
    stats: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    """Why no more can be said of it."""


@dataclass(frozen=True, slots=True)
class _Sides:
    """What there is on both sides, and how to get at it."""

    added: Collection[bytes]
    changed: Collection[bytes]
    deleted: Collection[bytes]
    moved: Collection[tuple[bytes, bytes]]
    every: Callable[[], Sequence[bytes]]
    """All paths of the newer side."""
    fetch: Callable[[int, bytes, Path], Path]
    """(0: older, 1: newer; path; folder for a copy): the file on disk."""
    has_content: Callable[[bytes], bool]
    """Whether a path is a file on both sides, and not a link on one."""


def compare_files(before: Path, after: Path, folder: Path | None = None) -> FileDifference:
    """How two files differ; with a folder, pictures in it.

    Raises UnsupportedMedia when one cannot be read, or when nothing is known of files of its kind; ToolMissing,
    NotFoundError.
    """
    for path in (before, after):
        if not path.is_file():
            raise NotFoundError(f"{to_line(os.fsencode(path))}: no such file")
    with Confined() as child:
        found = _compared(child, os.fsencode(after.name), before, after, folder)
    if found.kind == "file":
        same = "the bytes differ" if found.changed else "the bytes are the same"
        raise UnsupportedMedia(f"{to_line(found.path)}: no kind of file whose differences can be shown; {same}")
    return found


def compare_folders(before: Path, after: Path, folder: Path | None = None) -> Iterator[FileDifference]:
    """How the files in two folders differ, by path; see `compare_snapshots`."""
    sides = [_listed(before), _listed(after)]
    both = sides[0] & sides[1]
    roots = (os.fsencode(before), os.fsencode(after))

    def fetch(side: int, path: bytes, _: Path) -> Path:
        return Path(os.fsdecode(os.path.join(roots[side], path)))

    def differ(path: bytes) -> bool:
        return not filecmp.cmp(fetch(0, path, before), fetch(1, path, before), shallow=False)

    changed = [path for path in both if differ(path)]
    yield from _all(
        _Sides(sides[1] - both, changed, sides[0] - both, (), lambda: sorted(sides[1]), fetch, lambda _: True), folder
    )


def _listed(root: Path) -> set[bytes]:
    found = set()
    for parent, folders, names in os.walk(os.fsencode(root)):
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(parent, name))]
        paths = (os.path.join(parent, name) for name in names)
        found |= {os.path.relpath(path, os.fsencode(root)) for path in paths if os.path.isfile(path)}
    return {path.replace(os.fsencode(os.sep), b"/") for path in found}


def compare_snapshots(
    vault: Vault, a: str, b: str, path: bytes = b"", folder: Path | None = None
) -> Iterator[FileDifference]:
    """How the files below `path` differ between two snapshots, by path; with a folder, pictures in folders in it.

    What cannot be read is told in `problem`. Raises NotFoundError, CorruptionError, ToolMissing.
    """
    found = vault.get_version_diff(a, b)

    def within(paths: Collection[bytes]) -> list[bytes]:
        return [one for one in paths if not path or one == path or one.startswith(path + b"/")]

    def fetch(side: int, path: bytes, folder: Path) -> Path:
        target = folder / _UNTIDY.sub("_", os.fsdecode(path.rpartition(b"/")[2]))[-100:]
        with open(target, "wb") as file:
            vault.read_file((a, b)[side], path, file)
        return target

    def every() -> list[bytes]:
        return [entry.path for entry in vault.entries(b, path, recursive=True) if entry.kind == "file"]

    def has_content(path: bytes) -> bool:
        return all(entry.kind == "file" for side in (a, b) for entry in vault.entries(side, path))

    moved = [(move.source, move.target) for move in found.moved if within((move.target,))]
    sides = _Sides(within(found.added), within(found.changed), within(found.deleted), moved, every, fetch, has_content)
    yield from _all(sides, folder)


# ------------------------------------------------------------------------------------ one by one


def _all(sides: _Sides, folder: Path | None) -> Iterator[FileDifference]:
    """Sequences as one, all else file by file, in the order of their names."""
    states = {
        **dict.fromkeys(sides.added, "added"),
        **dict.fromkeys(sides.changed, "changed"),
        **dict.fromkeys(sides.deleted, "deleted"),
    }
    frames: dict[Frames, list[int]] = {}
    if any(_is_shown(path) for path in states):
        known = sequences(path for path in {*sides.every(), *states} if _is_shown(path))
        frames = {one: numbers for one, numbers in known.items() if any(one.path(n) in states for n in numbers)}
    owner = {one.path(number): one for one, numbers in frames.items() for number in numbers}
    works: dict[bytes, Callable[[Confined, Path | None], FileDifference]] = {}
    for path, state in states.items():
        if sequence := owner.get(path):
            works[sequence.name] = _sequence_work(sides, sequence, frames[sequence], states)
        elif state == "changed" and _is_shown(path) and sides.has_content(path):
            works[path] = _file_work(sides, path)
        else:
            works[path] = _plain_work(FileDifference(path, "file", True, {"state": state}))
    for source, target in sides.moved:
        stats = {"state": "moved", "from": to_text(source)}
        works[target] = _plain_work(FileDifference(target, "file", False, stats))
    with Confined() as child:
        for number, path in enumerate(sorted(works), 1):
            yield works[path](child, folder and folder / f"{number:03d}-{_tidy(path)}")


def _is_shown(path: bytes) -> bool:
    return may_be_shown(os.path.splitext(os.fsdecode(path))[1].lower())


def _tidy(path: bytes) -> str:
    """A name that every system takes, for a folder of pictures."""
    return _UNTIDY.sub("_", to_text(path.rpartition(b"/")[2]))[-60:]


def _plain_work(found: FileDifference) -> Callable[[Confined, Path | None], FileDifference]:
    return lambda child, folder: found


def _file_work(sides: _Sides, path: bytes) -> Callable[[Confined, Path | None], FileDifference]:
    def work(child: Confined, folder: Path | None) -> FileDifference:
        with _both(sides, path) as (before, after):
            return _told(child, path, before, after, folder)

    return work


@contextmanager
def _both(sides: _Sides, path: bytes) -> Iterator[tuple[Path, Path]]:
    import tempfile

    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gitvault-"))) for _ in range(2)]
        yield sides.fetch(0, path, folders[0]), sides.fetch(1, path, folders[1])


def _told(child: Confined, path: bytes, before: Path, after: Path, folder: Path | None) -> FileDifference:
    """As `_compared`; what cannot be read is told."""
    try:
        return _compared(child, path, before, after, folder)
    except UnsupportedMedia as error:
        return FileDifference(path, "file", True, {"state": "changed"}, problem=str(error))


def _compared(child: Confined, path: bytes, before: Path, after: Path, folder: Path | None) -> FileDifference:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with steady(before, after):
        found = child.call(_COMPARE, str(before), str(after), str(folder) if folder else None)
    return FileDifference(path, found["kind"], found["changed"], found["stats"], found["pictures"])


# ------------------------------------------------------------------------------------- sequences


def _sequence_work(
    sides: _Sides, sequence: Frames, numbers: Sequence[int], states: Mapping[bytes, str]
) -> Callable[[Confined, Path | None], FileDifference]:
    def work(child: Confined, folder: Path | None) -> FileDifference:
        by_state: dict[str, list[int]] = {"added": [], "changed": [], "deleted": []}
        for number in numbers:
            if state := states.get(sequence.path(number)):
                by_state[state].append(number)
        found: dict[int, FileDifference] = {}
        for number in by_state["changed"]:
            with _both(sides, sequence.path(number)) as (before, after):
                found[number] = _told(child, sequence.path(number), before, after, None)
        there = len(numbers) - len(by_state["deleted"])
        summary = _summary(sequence.name, by_state, found, there)
        looked = [number for number, frame in found.items() if "mean" in frame.stats]
        if not (folder and looked):
            return summary
        worst = max(looked, key=lambda number: found[number].stats["mean"])
        with _both(sides, sequence.path(worst)) as (before, after):
            drawn = _told(child, sequence.path(worst), before, after, folder)
        return replace(summary, pictures=drawn.pictures)

    return work


_FRAME_FIGURES = ("changed_pixels", "max", "mean", "psnr", "ssim")


def _summary(
    name: bytes, by_state: Mapping[str, list[int]], found: Mapping[int, FileDifference], there: int
) -> FileDifference:
    """All frames as one: sums, the greatest, the worst; the mean over all frames that both have."""
    looked = {number: frame.stats for number, frame in found.items() if "mean" in frame.stats}
    stats: dict[str, Any] = {
        "frames": there,
        "frames_added": by_state["added"],
        "frames_removed": by_state["deleted"],
        "frames_changed": [number for number, frame in found.items() if frame.changed],
    }
    if looked:
        worst = max(looked, key=lambda number: looked[number]["mean"])
        common = there - len(by_state["added"])
        decibels = [stats["psnr"] for stats in looked.values() if stats["psnr"] is not None]
        stats = {
            **looked[worst],
            **stats,
            "worst_frame": worst,
            "changed_pixels": sum(stats["changed_pixels"] for stats in looked.values()),
            "max": max(stats["max"] for stats in looked.values()),
            "mean": sum(stats["mean"] for stats in looked.values()) / max(common, 1),
            "psnr": min(decibels, default=None),
            "ssim": min((stats["ssim"] for stats in looked.values() if stats["ssim"] is not None), default=None),
            "by_frame": [
                {"frame": number, **{figure: of[figure] for figure in _FRAME_FIGURES}} for number, of in looked.items()
            ],
        }
    problems = [frame.problem for frame in found.values() if frame.problem]
    changed = bool(by_state["added"] or by_state["deleted"] or stats["frames_changed"])
    return FileDifference(name, "image", changed, stats, problem="; ".join(problems[:3]) or None)


# ---------------------------------------------------------------------------------------- output


def new_folder(folder: Path, *, overwrite: bool) -> None:
    """Make the folder that pictures go to. Raises ExistsError when something is in it already."""
    if not overwrite and os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ExistsError(f"{to_line(os.fsencode(folder))}: is there already; name a new folder, or add --overwrite")
    folder.mkdir(parents=True, exist_ok=True)
