"""How two versions of a file differ, whatever it is: by its format's `compare`, and by its elements' names."""

from __future__ import annotations

import filecmp
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Comparison, Format, format_of, formats

# Any file may begin like these: their names have to say it, too.
_BY_NAME_TOO = frozenset({"tga", "stl", "obj", "mtl", "gltf", "svg"})


def may_be_shown(extension: str) -> bool:
    """Whether files with this extension (lower case, with its dot) are of a format whose differences can be told."""
    return any(extension in known.extensions and _can(known) for known in formats())


def compare(before: str, after: str, folder: str | None) -> Comparison:
    """How two files differ; pictures only with a folder. For `Confined.call`.

    Files of which no more is known than their bytes are of the kind `file`. Raises UnsupportedMedia for one that is
    not what its name says, or damaged; ToolMissing, OSError.
    """
    old, new = Path(before), Path(after)
    known = _format(new) or _format(old)
    if not (known and _can(known)):
        sizes = [old.stat().st_size, new.stat().st_size]
        return Comparison("file", not filecmp.cmp(old, new, shallow=False), {"bytes": sizes}, {})
    found = Comparison("layered", False, {}, {})
    if known.compare:
        found = known.compare(old, new, Path(folder) if folder else None)
    return _with_elements(found, known, old, new) if known.elements else found


def _can(known: Format) -> bool:
    return bool(known.compare or known.elements)


def _format(path: Path) -> Format | None:
    known, extension = format_of(path), path.suffix.lower()
    if known and (known.name not in _BY_NAME_TOO or extension in known.extensions):
        return known
    for other in formats():
        if extension in other.extensions and _can(other):
            raise UnsupportedMedia(f"{path.name}: does not begin as a {other.summary} does; its bytes are saved")
    return None


def _with_elements(found: Comparison, known: Format, old: Path, new: Path) -> Comparison:
    from gitvault.formats.elements import element_changes
    from gitvault.formats.scene.datablocks import INTERFACE

    try:
        changes = element_changes(old, new, without=INTERFACE)
    except UnsupportedMedia as error:
        if not known.compare:
            raise
        return Comparison(found.kind, found.changed, {**found.stats, "elements": str(error)}, found.pictures)
    kind = "layered" if found.kind == "image" else found.kind
    return Comparison(kind, found.changed or any(changes.values()), {**found.stats, **changes}, found.pictures)
