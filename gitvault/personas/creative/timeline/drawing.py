"""Which pictures a timeline gets, and which are made before anybody asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from gitvault.core.utils import layout
from gitvault.core.utils.lock import only_one
from gitvault.core.versioning.history import NO_OBJECT
from gitvault.errors import CorruptionError, NotFoundError
from gitvault.formats import formats
from gitvault.personas.creative.frames import sequences
from gitvault.personas.creative.timeline.thumbnails import Kept, Thumbnails, Wanted
from gitvault.personas.creative.timeline.walk import Content, Past, Step

if TYPE_CHECKING:
    from gitvault.core.interfaces import Progress
    from gitvault.vault import Vault

_PER_SNAPSHOT = 50
"""Pictures that are drawn of one snapshot of a folder or project, unless the file itself is asked for."""
_AHEAD = 300
"""Pictures that one run makes before anybody asks: a minute or two at idle priority."""
_SNAPSHOTS = 20
"""Of each project, of which it makes them."""
_BATCH = 16
FRAMES = 8
"""So many of a sequence in one snapshot are shown as one, by three of them."""
_FRAME = Kept(None, reason="between the frames of a sequence that are drawn; the timeline of the frame draws it")
_NOT_DRAWN = Kept(None, reason=f"more than {_PER_SNAPSHOT} files changed at once; the timeline of the file draws it")
NO_KIND = "no picture is made of this kind of file"
"""The reason that needs no words."""


def drawn(
    past: Past,
    thumbnails: Thumbnails,
    steps: Sequence[Step],
    contents: Sequence[Content],
    *,
    every: bool,
    progress: Progress | None,
) -> list[Kept]:
    """The picture of each step, those that are missing drawn now; `every`: whatever the name says of its kind."""
    passed = {} if every else _passed_over(steps)
    pictures = [_known(thumbnails, step, every=every) or passed.get((step.at, step.path)) for step in steps]
    every_one = zip(steps, contents, pictures, strict=True)
    made = thumbnails.draw([_wanted(past, step, content) for step, content, known in every_one if not known], progress)
    return [known or made[step.blob or NO_OBJECT] for step, known in zip(steps, pictures, strict=True)]


def looked_into(
    past: Past,
    thumbnails: Thumbnails,
    steps: Sequence[Step],
    contents: Sequence[Content],
    progress: Progress | None,
) -> None:
    """Let it be known what the files of steps consist of, where they are of a kind that has elements."""
    thumbnails.list_elements(
        (
            _wanted(past, step, content)
            for step, content in zip(steps, contents, strict=True)
            if _lacks_elements(thumbnails, step)
        ),
        progress,
    )


def _lacks_elements(thumbnails: Thumbnails, step: Step) -> bool:
    if not step.blob or step.is_link or _extension(step.path) not in _layered():
        return False
    return thumbnails.elements(step.blob) is None


@cache
def _layered() -> frozenset[str]:
    # The members of an archive are files: there are other ways to see those.
    return frozenset(
        extension for known in formats() if known.elements and known.name != "zip" for extension in known.extensions
    )


def _known(thumbnails: Thumbnails, step: Step, *, every: bool) -> Kept | None:
    if not step.blob:
        return Kept(None)
    if step.is_link:
        return Kept(None, reason="a link")
    if not every and not _can_be_drawn(step.path):
        return Kept(None, reason=NO_KIND)
    return thumbnails.kept(step.blob)


def _passed_over(steps: Iterable[Step]) -> dict[tuple[int, bytes], Kept]:
    """Which files of a folder's snapshots are drawn only when they are asked for themselves, and why."""
    paths: dict[int, list[bytes]] = {}
    for step in steps:
        if step.blob and not step.is_link and _can_be_drawn(step.path):
            paths.setdefault(step.at, []).append(step.path)
    passed: dict[tuple[int, bytes], Kept] = {}
    for at, names in paths.items():
        for sequence, numbers in sequences(names).items():
            if len(numbers) >= FRAMES:
                shown = {numbers[0], numbers[len(numbers) // 2], numbers[-1]}
                passed |= {(at, sequence.path(number)): _FRAME for number in numbers if number not in shown}
        left = [name for name in names if (at, name) not in passed]
        passed |= {(at, name): _NOT_DRAWN for name in left[_PER_SNAPSHOT:]}
    return passed


def _wanted(past: Past, step: Step, content: Content) -> Wanted:
    assert step.blob
    within = None if content.in_vault else (past.snapshot(step.at).id, step.path)
    return Wanted(step.blob, _extension(step.path), content.pointer, within)


def _extension(path: bytes) -> str:
    extension = os.path.splitext(path)[1].decode("ascii", "replace").lower()
    # It becomes part of a file's name.
    return extension if extension[1:].isalnum() and extension.isascii() and len(extension) < 16 else ""


@cache
def _drawable() -> frozenset[str]:
    return frozenset(extension for known in formats() if known.thumbnail for extension in known.extensions)


def _can_be_drawn(path: bytes) -> bool:
    return _extension(path) in _drawable()


def draw_ahead(vault: Vault, *, stop: Callable[[], bool] = lambda: False, limit: int = _AHEAD) -> int:
    """Draw what is missing of the newest snapshots of all projects, at most `limit` pictures; how many there are now.

    And note what their files consist of.

    `stop`: asked now and then. Raises LockedError when another run does it, StorageFullError.
    """
    vault.history.disk.make_folder(vault.path / layout.THUMBNAILS)
    with only_one(vault.path / layout.THUMBNAILS / "lock", "another run draws thumbnails; wait for it"):
        thumbnails = Thumbnails(vault)
        thumbnails.tidy()
        made = 0
        for batch in _batches(_missing(vault, lambda step: not _known(thumbnails, step, every=False)), limit):
            made += sum(kept.path is not None for kept in thumbnails.draw(batch).values())
            if stop():
                return made
        for batch in _batches(_missing(vault, lambda step: _lacks_elements(thumbnails, step)), limit):
            thumbnails.list_elements(batch)
            if stop():
                break
        return made


def _batches(wanted: Iterator[Wanted], limit: int) -> Iterator[list[Wanted]]:
    left = islice(wanted, limit)
    return iter(lambda: list(islice(left, _BATCH)), [])


def _missing(vault: Vault, lacks: Callable[[Step], bool]) -> Iterator[Wanted]:
    """What lacks something of the newest snapshots, of the project that was saved last first."""
    seen = set()
    newest = [
        (said.time, name) for name in vault.history.projects() if (said := vault.history.get_latest_version(name))
    ]
    for _, name in sorted(newest, reverse=True):
        try:
            past = Past(vault, name)
            steps = list(takewhile(lambda step: step.at < _SNAPSHOTS, past.of_folder(b"")))
            passed = _passed_over(steps)
            for step in steps:
                if step.blob in seen or (step.at, step.path) in passed or not lacks(step):
                    continue
                seen.add(step.blob)
                yield _wanted(past, step, past.content(step))
        except (CorruptionError, NotFoundError):
            # Of what is damaged verify tells.
            continue
