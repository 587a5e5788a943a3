"""File formats: what gitvault knows of a family of files beyond its bytes. Packages add theirs by entry point.

A `Format` says what can be done with its files; what it leaves None cannot be done. `table.py` has those that come
with gitvault, one module or folder per family does the work. Files are only ever read, and what is written is new.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gitvault import plugins


@dataclass(frozen=True, slots=True)
class Element:
    """A part of a file that can be named and taken out: a layer, page, node, mesh, material, datablock, member."""

    id: str
    """Unique in the file, and the same in its other versions as far as the format allows."""
    name: str
    """As its makers see it; names repeat."""
    kind: str
    """`layer`, `group`, `mask`, `page`, `node`, `mesh`, `material`, `animation`, `datablock`, `member` ..."""
    parent: str | None
    """The id of the element it is in."""
    hash: str
    """SHA-256 (hex) of all that makes the element what it is, without where in the file it lies, and without children
    that are elements themselves."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Another file that a file names."""

    source: str
    """What of the file names it: an element, a line, a field."""
    target: str
    """As it is written there."""
    kind: str
    """`image`, `mesh`, `library`, `sound`, `font`, `cache`, `buffer`, `material`, `file` ..."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two versions of a file differ."""

    kind: str
    """`image`, `mesh`, `layered`, `scene`, `file`."""
    changed: bool
    stats: Mapping[str, object]
    """Figures and names, as `git-vault diff --visual --json` prints them."""
    pictures: Mapping[str, str]
    """By what they show (`side-by-side`, `heat-map`, `overlay`, `before`, `after`, `difference` ...) their paths."""


@dataclass(frozen=True, slots=True)
class Format:
    """One family of files. What it can raises UnsupportedMedia for a file with which that cannot be done."""

    name: str
    summary: str
    sniff: Callable[[bytes], bool]
    """Whether a file that begins with these bytes (up to 64 KiB) is one."""
    extensions: tuple[str, ...] = ()
    """Usual ones, lower case, with their dot; the likely format is asked first."""
    compare: Callable[[Path, Path, Path | None], Comparison] | None = None
    """(before, after, folder for pictures or None for none)."""
    thumbnail: Callable[[Path, int], bytes] | None = None
    """(file, longest side in pixels): a PNG or JPEG, upright, in sRGB."""
    elements: Callable[[Path], Sequence[Element]] | None = None
    """All of the file's, those that hold others first."""
    extract: Callable[[Path, str, Path], None] | None = None
    """(file, element's id, output): the element as a file of its own."""
    splice: Callable[[Path, str, Path, Path], None] | None = None
    """(old file, element's id there, current file, output): the current file with the old element, else as it is."""
    leveled: Callable[[Path, Path, Path], Path] | None = None
    """(old file, current file, folder): the old file as the current one's version of their program writes it: itself,
    or a new file in the folder. `splice` and `witness` take that."""
    witness: Callable[[Path], Mapping[str, str]] | None = None
    """Hash by element's id, by a reader that shares no code with `splice`, nor with what `elements` reads by.

    By "" that of what is in no element, by `elements.PICTURES` that of pictures of the whole."""
    stale: str = ""
    """What `splice` leaves as it was although it shows the element, and how to renew it; said with the result."""
    recompose: Callable[[Path, Path, Path], str] | None = None
    """(current file, what `splice` made of it, output): that with pictures which are not stale; why not, in words."""
    references: Callable[[Path], Sequence[Reference]] | None = None
    rewrite: Callable[[Path, Mapping[str, str], Path], int] | None = None
    """(file, new targets by old ones, output): how many references were written anew."""


def formats() -> tuple[Format, ...]:
    """Every format there is. Raises ConfigError for a plug-in that does not work."""
    return _formats(tuple(sys.path))


# Looking for plug-ins takes 16 ms or more: too long for every file.
@cache
def _formats(_places: tuple[str, ...]) -> tuple[Format, ...]:
    from gitvault.formats.table import FORMATS

    return (*FORMATS, *map(format_plugin, plugins.installed(plugins.FORMATS)))


def format_plugin(plugin: plugins.Plugin) -> Format:
    """The format that a plug-in brings. Raises ConfigError when it brings something else."""
    record = plugin.load()
    if not isinstance(record, Format):
        raise plugin.wrong(record, "a gitvault.formats.Format")
    return record


def identify(head: bytes, file_extension: str | None = None) -> Format | None:
    """The format of a file by its first bytes; None when no format knows it."""
    from gitvault.formats.table import FORMATS

    # The answer would be the same with those of other packages, and looking for them takes a twentieth of a second.
    for known in FORMATS:
        if file_extension in known.extensions and known.sniff(head):
            return known
    likely_first = sorted(formats(), key=lambda known: file_extension not in known.extensions)
    return next((known for known in likely_first if known.sniff(head)), None)


def format_of(path: Path) -> Format | None:
    """The format of a file on disk; None when no format knows it. Raises OSError."""
    with open(path, "rb") as file:
        return identify(file.read(65536), path.suffix.lower())
