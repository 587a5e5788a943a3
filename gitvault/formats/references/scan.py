"""One file looked through, whatever it is. Called in a process of its own: files may be hostile."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from gitvault.errors import UnsupportedMedia
from gitvault.formats import Format, formats


@cache
def _known() -> tuple[Format, ...]:
    # Asking which packages are installed takes 30 ms: once for all files.
    return formats()


@cache
def may_refer(extension: str) -> bool:
    """Whether files of an extension may name others: none that only formats have which name none."""
    claiming = [known for known in _known() if extension in known.extensions]
    return not claiming or any(known.references for known in claiming)


@cache
def _likely_first(extension: str) -> list[Format]:
    return sorted(_known(), key=lambda known: extension not in known.extensions)


def _format(path: Path) -> Format | None:
    with open(path, "rb") as file:
        head = file.read(65536)
    return next((known for known in _likely_first(path.suffix.lower()) if known.sniff(head)), None)


def scan(path: str) -> list[object]:
    """A file's format, and of each reference its source, target and kind; an empty name for one that has none."""
    found = _format(Path(path))
    if found is None or found.references is None:
        return ["", []]
    return [found.name, [[one.source, one.target, one.kind] for one in found.references(Path(path))]]


def rewrite(path: str, targets: str, output: str) -> int:
    """Write a file with new targets, given by the old ones as JSON; how many names were written anew."""
    found = _format(Path(path))
    if found is None or found.rewrite is None:
        name = found.summary if found else "unknown format"
        raise UnsupportedMedia(f"{path}: {name}: its references cannot be written anew; its bytes are saved")
    return found.rewrite(Path(path), json.loads(targets), Path(output))
